#!/usr/bin/env python3
"""A client of Coffer that shares no code with it: Python's standard library only.

It has its own reader of .proto files, its own protobuf encoding and its own SP framing over TCP, TLS, IPC and WebSocket, all written
from docs/protocol.md. The integration tests use it as a module; as a command it makes one call:

  sp_client.py ADDRESS METHOD [--token-file FILE] [--json REQUEST] [--timeout-ms N]

prints the answer as JSON and exits with the code of the answer.
"""

import argparse
import base64
import hashlib
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import sys
import time

PROTO = pathlib.Path(__file__).resolve().parent.parent.parent / "proto"
SCALARS = {"uint32", "int32", "uint64", "int64", "bool", "string", "bytes"}
# Imported messages that come with every protobuf compiler.
WELL_KNOWN = """
package google.protobuf;
message Timestamp { int64 seconds = 1; int32 nanos = 2; }
message Duration { int64 seconds = 1; int32 nanos = 2; }
message FieldMask { repeated string paths = 1; }
message Any { string type_url = 1; bytes value = 2; }
message FieldMask { repeated string paths = 1; }
"""


class Schema:
    """The messages, enums and services of a folder of .proto files."""

    def __init__(self, folder=PROTO):
        self.messages, self.enums, self.services = {}, {}, {}
        self._parse(WELL_KNOWN)
        for path in sorted(folder.rglob("*.proto")):
            self._parse(path.read_text())

    def _parse(self, text):
        tokens = re.findall(r'"[^"]*"|[\w.]+|[{}()<>,;=\[\]-]', re.sub(r"//[^\n]*", "", text))
        package, scope, i = "", [], 0
        while i < len(tokens):
            token = tokens[i]
            if token == "package":
                package, i = tokens[i + 1], i + 3
            elif token in ("message", "enum", "service") and tokens[i + 2] == "{":
                name = ".".join([package, *[part for _, part in scope if part], tokens[i + 1]])
                scope.append((token, tokens[i + 1]))
                {"message": self.messages, "enum": self.enums, "service": self.services}[token][name] = {}
                i += 3
            elif token == "oneof":
                scope.append(("oneof", ""))
                i += 3
            elif token == "}":
                scope.pop()
                i += 1
            elif token in ("syntax", "import", "option"):
                i = tokens.index(";", i) + 1
            else:
                i = self._member(tokens, i, package, scope)

    def _member(self, tokens, i, package, scope):
        kind = scope[-1][0]
        name = ".".join([package, *[part for _, part in scope if part]])
        end = tokens.index(";", i) if kind != "service" else i
        if kind == "enum":
            self.enums[name][tokens[i]] = int(tokens[i + 2])
            return end + 1
        if kind == "service":  # rpc Name(Request) returns (Response);
            self.services[name][tokens[i + 1]] = (tokens[i + 3], tokens[i + 7], package)
            return tokens.index(";", i) + 1
        repeated = tokens[i] == "repeated"
        i += repeated
        if tokens[i] == "map":  # map<string, string> name = 3;
            self.messages[name][tokens[i + 6]] = (int(tokens[i + 8]), "map", True, package, name)
        else:
            self.messages[name][tokens[i + 1]] = (int(tokens[i + 3]), tokens[i], repeated, package, name)
        return end + 1

    def resolve(self, name, package, inside):
        """The full name of a type that is named inside a message."""
        candidates = [f"{inside}.{name}", f"{package}.{name}", name]
        return next(c for c in candidates if c in self.messages or c in self.enums)

    def method(self, full_name):
        service, _, method = full_name.partition("/")
        request, response, package = self.services[service][method]
        return self.resolve(request, package, service), self.resolve(response, package, service)


SCHEMA = Schema()


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, wire_type, body):
    return varint(number << 3 | wire_type) + (varint(len(body)) + body if wire_type == 2 else body)


def encode(type_name, value):
    """A dict as a protobuf message of that type."""
    out = b""
    for name, item in value.items():
        number, kind, repeated, package, inside = SCHEMA.messages[type_name][name]
        for single in item if repeated else [item]:
            if kind in ("string", "bytes"):
                body = single.encode("utf-8", "surrogateescape") if isinstance(single, str) else single
                out += field(number, 2, body)
            elif kind in SCALARS:
                out += field(number, 0, varint(int(single)))
            else:
                full = SCHEMA.resolve(kind, package, inside)
                if full in SCHEMA.enums:
                    out += field(number, 0, varint(SCHEMA.enums[full].get(single, single)))
                else:
                    out += field(number, 2, encode(full, single))
    return out


def take_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def wire_fields(data):
    """(number, value) of every field; a value is a number or bytes."""
    at = 0
    while at < len(data):
        tag, at = take_varint(data, at)
        if tag & 7 == 0:
            value, at = take_varint(data, at)
        elif tag & 7 == 2:
            length, at = take_varint(data, at)
            value, at = data[at:at + length], at + length
        elif tag & 7 in (1, 5):
            size = 8 if tag & 7 == 1 else 4
            value, at = int.from_bytes(data[at:at + size], "little"), at + size
        else:
            raise ValueError(f"wire type {tag & 7}")
        yield tag >> 3, value


def decode_scalar(kind, value):
    if kind == "string":
        return value.decode("utf-8")
    if kind == "bool":
        return bool(value)
    if kind in ("int32", "int64") and value >= 1 << 63:
        return value - (1 << 64)
    return value


def decode(type_name, data):
    """A message as a dict; fields that are not on the wire have their proto3 default."""
    known = SCHEMA.messages[type_name]
    by_number = {entry[0]: (name, *entry[1:]) for name, entry in known.items()}
    out = {}
    for name, (_, kind, repeated, *_rest) in known.items():
        out[name] = [] if repeated else {"string": "", "bytes": b"", "bool": False}.get(kind, 0) \
            if kind in SCALARS else None
    for number, value in wire_fields(data):
        if number not in by_number:
            continue
        name, kind, repeated, package, inside = by_number[number]
        items = [value]
        if kind == "map":
            pair = dict(wire_fields(value))
            items = [(pair.get(1, b"").decode(), pair.get(2, b"").decode())]
        elif kind in SCALARS:
            items = [decode_scalar(kind, value)]
        else:
            full = SCHEMA.resolve(kind, package, inside)
            if full in SCHEMA.enums:
                items = packed(value) if isinstance(value, bytes) else [value]
                names = {v: k for k, v in SCHEMA.enums[full].items()}
                items = [names.get(item, item) for item in items]
            else:
                items = [decode(full, value)]
        if repeated:
            out[name].extend(items)
        else:
            out[name] = items[0]
    return out


def packed(data):
    at, items = 0, []
    while at < len(data):
        number, at = take_varint(data, at)
        items.append(number)
    return items


def uuid7(unix_ms=None):
    """RFC 9562: 48 bits of milliseconds, version 7, random bits."""
    ms = int(time.time() * 1000) if unix_ms is None else unix_ms
    raw = bytearray(ms.to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


class Response:
    def __init__(self, frame, message):
        self.code, self.text = frame["code"], frame["message"]
        self.request_id, self.payload = frame["request_id"], frame["payload"]
        self.server_time_us, self.message = frame["server_time_us"], message
        self.reason, self.facts, self.fields, self.retry_ms = "", {}, [], None
        for detail in frame["details"]:
            kind = detail["type_url"].rpartition("/")[2]
            body = decode(kind, detail["value"])
            if kind == "google.rpc.ErrorInfo":
                self.reason, self.facts = body["reason"], dict(body["metadata"])
                assert body["domain"] == "coffer"
            elif kind == "google.rpc.BadRequest":
                self.fields = [violation["field"] for violation in body["field_violations"]]
            elif kind == "google.rpc.RetryInfo":
                delay = body["retry_delay"]
                self.retry_ms = delay["seconds"] * 1000 + delay["nanos"] // 1000000

    def __repr__(self):
        return f"<{self.code} {self.reason} {self.text!r}>"


class WebSocket:
    """The messages of a WebSocket (RFC 6455) over a connected socket."""

    GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    PROTOCOL = "rep.sp.nanomsg.org"
    BINARY, CLOSE, PING, PONG = 2, 8, 9, 10

    def __init__(self, connected, host, path, **fields):
        """Opens it; `fields` stand in the place of those of the request, and None leaves one out."""
        self.socket, self.received = connected, b""
        key = base64.b64encode(os.urandom(16))
        fields = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key.decode(),
                  "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": self.PROTOCOL,
                  **{name.replace("_", "-"): value for name, value in fields.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])
        if self.status != 101:
            raise ConnectionError(f"no WebSocket: {head.decode()}")
        answers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        accept = base64.b64encode(hashlib.sha1(key + self.GUID).digest()).decode()
        if answers["Sec-WebSocket-Accept"] != accept or answers["Sec-WebSocket-Protocol"] != self.PROTOCOL:
            raise ConnectionError(f"another WebSocket than was asked for: {head.decode()}")

    def _receive(self):
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionError("the server closed the connection")
        self.received += part

    def _take(self, size):
        while len(self.received) < size:
            self._receive()
        data, self.received = self.received[:size], self.received[size:]
        return data

    @staticmethod
    def frame(opcode, payload, last=True):
        mask, size = os.urandom(4), len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = b"\xfe" + struct.pack(">H", size)
        else:
            length = b"\xff" + struct.pack(">Q", size)
        key = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        return bytes([(0x80 if last else 0) | opcode]) + length + mask + masked

    def send(self, payload, opcode=BINARY):
        self.socket.sendall(self.frame(opcode, payload))

    def receive_frame(self):
        """The next frame, as opcode and payload."""
        first, second = self._take(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        if first & 0x70 or not first & 0x80 or second & 0x80:
            raise ConnectionError("a frame that this server has no reason to send")
        return first & 0x0F, self._take(size)

    def receive(self):
        """The next message."""
        while True:
            opcode, payload = self.receive_frame()
            if opcode == self.BINARY:
                return payload
            if opcode == self.CLOSE:
                raise ConnectionError(f"closed with {int.from_bytes(payload[:2], 'big')}")
            if opcode == self.PING:
                self.send(payload, self.PONG)


class Connection:
    """One SP connection of a REQ peer. Calls may overlap: send() gives a number that receive() takes."""

    def __init__(self, address, timeout=90, tls=None, server_name=None):
        """`tls` is an ssl.SSLContext, for tls+tcp:// and wss://."""
        scheme, _, rest = address.partition("://")
        self.ipc, self.web = scheme == "ipc", None
        if self.ipc:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self._or_close(lambda: self.socket.connect(rest))
        else:
            place, slash, path = rest.partition("/")
            host, _, port = place.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme in ("tls+tcp", "wss"):
                self._or_close(lambda: self._start_tls(tls, server_name or host.strip("[]")))
        if scheme in ("ws", "wss"):
            self._or_close(lambda: self._open_web(place, slash + path or "/"))
        else:
            self._or_close(self._greet)
        self.last = int.from_bytes(os.urandom(3), "big")
        self.waiting = {}

    def _start_tls(self, tls, server_name):
        self.socket = (tls or ssl.create_default_context()).wrap_socket(self.socket, server_hostname=server_name)

    def _open_web(self, place, path):
        self.web = WebSocket(self.socket, place, path)

    def _greet(self):
        self.socket.sendall(b"\0SP\0\0\x30\0\0")
        greeting = self._read(8)
        if greeting != b"\0SP\0\0\x31\0\0":
            raise ConnectionError(f"no REP server: {greeting!r}")

    def _or_close(self, action):
        try:
            action()
        except OSError:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data

    def send_message(self, body):
        """Sends bytes as one REQ message and returns its number."""
        self.last = (self.last + 1) & 0x7FFFFFFF
        message = struct.pack(">I", self.last | 0x80000000) + body
        if self.web:
            self.web.send(message)
            return self.last
        self.socket.sendall((b"\1" if self.ipc else b"") + struct.pack(">Q", len(message)) + message)
        return self.last

    def _await_message(self):
        message = self.web.receive() if self.web else self._receive_framed()
        number = struct.unpack(">I", message[:4])[0] & 0x7FFFFFFF
        self.waiting[number] = message[4:]
        return number

    def arrivals(self, count):
        """Waits for so many answers; their numbers in the order in which they come. They are still to be received."""
        return [self._await_message() for _ in range(count)]

    def receive_message(self, number):
        while number not in self.waiting:
            self._await_message()
        return self.waiting.pop(number)

    def _receive_framed(self):
        if self.ipc and self._read(1) != b"\1":
            raise ConnectionError("wrong IPC message")
        return self._read(struct.unpack(">Q", self._read(8))[0])

    def send(self, method, request=None, *, token=None, request_id=None, timeout_ms=0, attempt=0, payload=None,
             metadata=()):
        if payload is None:
            payload = encode(SCHEMA.method(method)[0], request or {})
        entries = [{"key": key, "value": value} for key, value in metadata]
        if token is not None:
            entries.append({"key": "authorization", "value": b"Bearer " + token})
        return self.send_message(encode("coffer.rpc.v1.RequestFrame", {
            "revision": 1, "method": method, "payload": payload, "timeout_ms": timeout_ms,
            "request_id": uuid7() if request_id is None else request_id, "attempt": attempt, "metadata": entries}))

    def receive(self, number, method=None):
        frame = decode("coffer.rpc.v1.ResponseFrame", self.receive_message(number))
        known = method and frame["code"] == 0
        return Response(frame, decode(SCHEMA.method(method)[1], frame["payload"]) if known else None)

    def call(self, method, request=None, **options):
        return self.receive(self.send(method, request, **options), method)


def printable(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, list) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("method")
    parser.add_argument("--token-file", type=pathlib.Path)
    parser.add_argument("--json", default="{}")
    parser.add_argument("--timeout-ms", type=int, default=0)
    arguments = parser.parse_args()
    token = arguments.token_file.read_bytes().strip() if arguments.token_file else None
    with Connection(arguments.address) as connection:
        answer = connection.call(arguments.method, json.loads(arguments.json), token=token,
                                 timeout_ms=arguments.timeout_ms)
    print(json.dumps({"code": answer.code, "reason": answer.reason, "message": answer.text,
                      "response": printable(answer.message)}, indent=2))
    return answer.code


if __name__ == "__main__":
    sys.exit(main())
