#!/usr/bin/env python3
"""Makes tests/golden/blobs.txt, which fixes the formats of server/crypto/keyring.h.

This is a second implementation of those formats, written from their description and sharing no code with the
server. It needs the Python package "cryptography" and is run only when a new format is added:

    python3 tests/golden/make_blobs.py > tests/golden/blobs.txt

Lines that are in the file already never change: data that was sealed by a released version must open for ever.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = 1
GENERATION = 7


def numbered(label, size):
    """Fixed bytes that look random: the start of SHA-512 of a label."""
    return hashlib.sha512(b"coffer golden " + label.encode()).digest()[:size]


def hkdf(key, info, size):
    """RFC 5869 with SHA-256 and no salt."""
    prk = hmac.new(bytes(32), key, hashlib.sha256).digest()
    block, out, counter = b"", b"", 1
    while len(out) < size:
        block = hmac.new(prk, block + info.encode() + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:size]


def xaes_seal(key, nonce, associated, plaintext):
    """XAES-256-GCM of C2SP."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    left = int.from_bytes(block.update(bytes(16)), "big") << 1
    if left >> 128:
        left = (left & ((1 << 128) - 1)) ^ 0x87
    message_key = b""
    for counter in (1, 2):
        message = b"\x00" + bytes([counter]) + b"X\x00" + nonce[:12]
        message_key += block.update((int.from_bytes(message, "big") ^ left).to_bytes(16, "big"))
    return AESGCM(message_key).encrypt(nonce[12:], plaintext, associated)


def associated_data(kind, workspace, object_id, version):
    fields = (bytes([FORMAT]), kind.encode(), workspace, object_id, version.to_bytes(8, "big"))
    return b"".join(len(field).to_bytes(2, "big") + field for field in fields)


def emit(name, *values):
    print(name, *(value.hex() or "-" if isinstance(value, bytes) else value for value in values))


def emit_keys(root, workspace, workspace_key):
    nonce = numbered("wrap nonce", 24)
    root_id = hkdf(root, "coffer v1 id", 8)
    associated = associated_data("workspace_key", workspace, workspace, GENERATION)
    sealed = xaes_seal(hkdf(root, "coffer v1 wrap", 32), nonce, associated, workspace_key)
    emit("root_key", root)
    emit("root_id", root_id)
    emit("root_check", hkdf(root, "coffer v1 check", 32))
    emit("workspace", workspace)
    emit("generation", GENERATION)
    emit("workspace_key", workspace_key)
    emit("wrapped_key", bytes([FORMAT]) + root_id + nonce + sealed)


def emit_blob(workspace_key, workspace, kind, version, plaintext):
    object_id = numbered("object " + kind, 16)
    if kind == "workspace_key":
        object_id = workspace
    nonce = numbered("nonce %s %d" % (kind, len(plaintext)), 24)
    associated = associated_data(kind, workspace, object_id, version)
    sealed = xaes_seal(hkdf(workspace_key, "coffer v1 seal", 32), nonce, associated, plaintext)
    header = bytes([FORMAT]) + GENERATION.to_bytes(4, "big")
    emit("blob", kind, object_id, version, nonce, plaintext, header + nonce + sealed)


def emit_row_mac(workspace_key, data):
    mac = hmac.new(hkdf(workspace_key, "coffer v1 row", 32), data, hashlib.sha256).digest()
    emit("row_mac", data, mac)


def main():
    root = numbered("root key", 32)
    workspace = numbered("workspace", 16)
    workspace_key = numbered("workspace key", 32)
    emit_keys(root, workspace, workspace_key)
    emit_blob(workspace_key, workspace, "secret_version", 1, b"\x00\x03KEY\x00\x00\x00\x05value")
    emit_blob(workspace_key, workspace, "secret_version", 2**63 + 5, b"")
    emit_blob(workspace_key, workspace, "secret_version", 2, numbered("long", 64) * 20)
    emit_blob(workspace_key, workspace, "workspace_key", 8, numbered("inner key", 32))
    emit_blob(workspace_key, workspace, "answer", 0, b"an answer")
    emit_blob(workspace_key, workspace, "narrowing_key", 0, numbered("narrowing", 32))
    emit_row_mac(workspace_key, b"")
    emit_row_mac(workspace_key, b"secret/" + numbered("row", 40))
    emit_blob(workspace_key, workspace, "connection_credentials", 1, b"client credentials")
    emit_blob(workspace_key, workspace, "access_token", 3, b"an access token")
    emit_blob(workspace_key, workspace, "refresh_token", 3, b"a refresh token")


if __name__ == "__main__":
    main()
