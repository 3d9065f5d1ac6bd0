#!/usr/bin/env python3
"""Makes tests/golden/tokens.txt, which fixes the text of tokens (common/token.h).

This is a second implementation of that text, written from its description and sharing no code with Coffer. It needs
Python's standard library only and is run only when a new kind of token is added:

    python3 tests/golden/make_tokens.py > tests/golden/tokens.txt

Lines that are in the file already never change: a token that was issued once must be read for ever.
"""

import hashlib
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KINDS = ("ws", "fleet", "sys")


def base62(number, width):
    text = ""
    while number:
        number, digit = divmod(number, 62)
        text = ALPHABET[digit] + text
    assert len(text) <= width
    return text.rjust(width, "0")


def token(kind, workspace, identity, random):
    body = f"cof_{kind}_" + base62(int.from_bytes(workspace + identity + random, "big"), 86)
    return body + base62(zlib.crc32(body.encode()), 6)


def numbered(label, size):
    """Fixed bytes that look random: the start of SHA-512 of a label."""
    return hashlib.sha512(b"coffer golden " + label.encode()).digest()[:size]


def line(kind, workspace, identity, random):
    print(kind, workspace.hex(), identity.hex(), random.hex(), token(kind, workspace, identity, random))


print("# Made by make_tokens.py: kind, workspace UUID, token UUID, random bytes (hex), and the token's text.")
print("# The text is cof_<kind>_, then the 64 bytes as one big-endian number in base 62 (0-9A-Za-z), left-padded to 86")
print("# characters, then CRC-32 (IEEE) over all before it in base 62, left-padded to 6 characters.")
for name in KINDS:
    line(name, numbered(name + " workspace", 16), numbered(name + " token", 16), numbered(name + " random", 32))
    line(name, bytes(16), bytes(16), bytes(32))
    line(name, b"\xff" * 16, b"\xff" * 16, b"\xff" * 32)
    line(name, bytes(16), bytes(16), bytes(31) + b"\x01")
