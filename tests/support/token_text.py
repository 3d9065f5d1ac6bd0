"""Tokens taken apart and put together, written from docs/decisions/0001-workspaces-and-tokens.md."""

import uuid
import zlib

ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET = 32


def base62(number, width):
    digits = bytearray()
    while number:
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return bytes(reversed(digits)).rjust(width, b"0")


def make(kind, workspace, token_id, secret):
    """`kind` is b"ws", b"fleet" or b"sys"; the IDs are UUIDs."""
    payload = int.from_bytes(workspace.bytes + token_id.bytes + secret, "big")
    text = b"cof_" + kind + b"_" + base62(payload, 86)
    return text + base62(zlib.crc32(text), 6)


def parse(text):
    """(kind, workspace, token ID, secret)"""
    _, kind, rest = text.split(b"_")
    number = 0
    for digit in rest[:86]:
        number = number * 62 + ALPHABET.index(digit)
    payload = number.to_bytes(64, "big")
    return kind, uuid.UUID(bytes=payload[:16]), uuid.UUID(bytes=payload[16:32]), payload[32:]
