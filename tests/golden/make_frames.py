#!/usr/bin/env python3
"""Makes tests/golden/frames.txt: request and response frames byte for byte (docs/protocol.md).

A second implementation, which shares no code with Coffer and reads none of its .proto files. Run only when a frame is
added; lines that are in the file already never change:

    python3 tests/golden/make_frames.py > tests/golden/frames.txt
"""


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def data(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value if value else b""


def entry(key, value):
    body = data(1, key) + data(2, value)
    return varint(7 << 3 | 2) + varint(len(body)) + body


def request(method, payload=b"", timeout_ms=0, request_id=b"", attempt=0, metadata=()):
    return (number(1, 1) + data(2, method) + data(3, payload) + number(4, timeout_ms) + data(5, request_id) +
            number(6, attempt) + b"".join(entry(*pair) for pair in metadata))


def response(code=0, message=b"", payload=b"", details=(), request_id=b"", time_us=0):
    return (number(1, 1) + number(2, code) + data(3, message) + data(4, payload) +
            b"".join(data(5, detail) for detail in details) + data(6, request_id) + number(7, time_us))


def error_info(reason):
    info = data(1, reason) + data(2, b"coffer")
    return data(1, b"type.googleapis.com/google.rpc.ErrorInfo") + data(2, info)


ID = bytes.fromhex("019ab2c3d4e57000800000000000beef")
FRAMES = [
    ("request", "health", request(b"grpc.health.v1.Health/Check", request_id=ID)),
    ("request", "without-id", request(b"grpc.health.v1.Health/Check", data(1, b"liveness"))),
    ("request", "whole", request(b"coffer.v1.SecretService/GetSecret", data(2, b"prod") + data(3, b"slack"), 1500, ID, 3,
                                 [(b"authorization", b"Bearer cof_ws_x"), (b"user-agent", b"golden/1"), (b"k", b"")])),
    ("request", "largest-numbers", request(b"grpc.health.v1.Health/Check", b"", 2**32 - 1, b"\xff" * 16, 2**32 - 1)),
    ("response", "empty", response()),
    ("response", "ok", response(payload=data(1, b"x" * 200), request_id=ID, time_us=123456)),
    ("response", "error", response(5, b"there is no such secret; check the name", b"",
                                   [error_info(b"SECRET_NOT_FOUND")], ID, 2**32 - 1)),
]


def main():
    print("# Made by make_frames.py: request or response, a name, and the frame's bytes (hex).")
    for kind, name, frame in FRAMES:
        print(kind, name, frame.hex())


main()
