#!/usr/bin/env python3
"""Makes tests/golden/audit.txt and the seeds of the fuzzer, which fix the format of the audit log's segments
(docs/decisions/0007-audit-stream.md).

A second implementation, written from the description and sharing no code with the server. It needs the Python package
"cryptography" and is run only when a new format is added:

    python3 tests/golden/make_audit.py > tests/golden/audit.txt
    python3 tests/golden/make_audit.py tests/fuzz/corpus/segment

Lines that are in the file already never change: a log of a released version must be readable for ever.
"""

import hashlib
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from make_blobs import associated_data, emit, hkdf, numbered, xaes_seal

ROOT = bytes([7]) * 32
NUMBER, FIRST, TIME = 3, 4711, 1_700_000_000_123_456


def nonce(number):
    return number.to_bytes(12, "big")


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Segment:
    def __init__(self, server, key, before):
        self.key, self.sequence = key, FIRST - 1
        wrap_nonce = numbered("audit wrap nonce", 24)
        sealed = xaes_seal(hkdf(ROOT, "coffer v1 wrap", 32), wrap_nonce,
                           associated_data("audit_key", bytes(16), server, NUMBER), key)
        self.wrapped = b"\x01" + hkdf(ROOT, "coffer v1 id", 8) + wrap_nonce + sealed
        head = struct.pack(">II16sQQQ32s", 1, 0, server, NUMBER, FIRST, TIME, before) + self.wrapped
        head = head.ljust(200, b"\0")
        tag = AESGCM(key).encrypt(nonce(0), b"", head)
        self.chain = sha256(bytes(32), head, tag)
        self.bytes = b"cofaudit" + head + tag + self.chain

    def add(self, text):
        self.sequence += 1
        head = struct.pack(">IQ", len(text) + 16, self.sequence)
        sealed = AESGCM(self.key).encrypt(nonce(self.sequence), text, head)
        self.chain = sha256(self.chain, head, sealed)
        record = b"reco" + head + sealed + self.chain
        self.bytes += record + bytes(-len(record) % 8)


def make():
    server, key, before = numbered("server", 16), numbered("audit key", 32), numbered("chain before", 32)
    segment = Segment(server, key, before)
    texts = [b"a", b"eight by", numbered("text", 64), numbered("long text", 64) * 5]
    ends = [len(segment.bytes)]
    for text in texts:
        segment.add(text)
        ends.append(len(segment.bytes))
    segment.add(b"")
    return server, before, segment, texts, ends


def write_seeds(folder):
    _, _, segment, _, ends = make()
    whole = segment.bytes
    flipped = bytearray(whole)
    flipped[ends[2] + 20] ^= 1
    under_way = whole[:ends[3]] + bytes(4) + whole[ends[3] + 4:ends[3] + 100]
    seeds = {"closed": whole, "open": whole[:ends[-1]], "room": whole[:ends[-1]] + bytes(512), "flipped": bytes(flipped),
             "under-way": under_way.ljust(len(whole), b"\0"), "cut": whole[:ends[2] + 30], "header": whole[:256],
             "behind-end": whole + b"x", "prepared": bytes(512)}
    for name, data in seeds.items():
        (pathlib.Path(folder) / f"{name}.bin").write_bytes(data)


def main():
    if len(sys.argv) > 1:
        write_seeds(sys.argv[1])
        return
    server, before, segment, texts, _ = make()
    emit("root_key", ROOT)
    emit("server", server)
    emit("number", NUMBER)
    emit("first", FIRST)
    emit("time_us", TIME)
    emit("before", before)
    emit("wrapped", segment.wrapped)
    for text in texts:
        emit("text", text)
    emit("chain", segment.chain)
    emit("segment", segment.bytes)


if __name__ == "__main__":
    main()
