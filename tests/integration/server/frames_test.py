#!/usr/bin/env python3
"""What comes from the wire: frames that are cut, wrong, too large or hostile get a clear error and harm nobody."""

import json
import os
import re
import socket
import struct
import time
import unittest
import urllib.request
import uuid

import context
import token_text
from cofferd import references, values
from sp_client import SCHEMA, SCALARS, encode, field, uuid7, varint

INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
CALLER = "coffer.v1.TokenService/GetCaller"
FRAME = "coffer.rpc.v1.RequestFrame"


class Frames(context.ServerTest):
    def setUp(self):
        self.fresh = self.dev.connect()

    def tearDown(self):
        self.fresh.close()
        self.assertEqual(self.connection.call(INFO).code, 0, "the server lives and answers others")

    def frame(self, **fields):
        return {"revision": 1, "method": INFO, "request_id": uuid7(), **fields}

    def raw(self, body):
        """The answer to bytes on a connection of their own, because undecodable frames close theirs."""
        with self.dev.connect() as connection:
            return connection.receive(connection.send_message(body))

    def test_frame_cut_at_every_byte_is_refused_or_is_a_frame_itself(self):
        whole = encode(FRAME, self.frame(timeout_ms=1000, metadata=[{"key": "user-agent", "value": b"test"}]))
        reasons = set()
        for length in range(len(whole)):
            answer = self.raw(whole[:length])
            self.assertIn(answer.code, (0, 3, 12), (length, answer))
            reasons.add(answer.reason)
        self.assertLessEqual({"FRAME_INVALID", "FRAME_REVISION_UNSUPPORTED", "METHOD_UNKNOWN"}, reasons)

    def test_calls_of_whom_nobody_knows_do_not_fill_the_log_and_are_counted(self):
        """A hundred lines in ten seconds; who has a good token has one for each call all the same."""
        path = self.dev.directory / "lines.sock"
        server = self.dev.more("lines", COFFERD_TRANSPORT__LISTEN=f"ipc://{path},ws://127.0.0.1:0/")
        self.dev.extra.remove(server)
        kind, where, token_id, _ = token_text.parse(self.dev.admin)
        wrong = token_text.make(kind, where, token_id, os.urandom(token_text.SECRET))
        calls = [(b"\xff", "FRAME_INVALID"), (encode(FRAME, self.frame(method="no.such/Method")), "METHOD_UNKNOWN"),
                 (encode(FRAME, self.frame(method=CALLER, metadata=[
                     {"key": "authorization", "value": b"Bearer " + wrong}])), "TOKEN_INVALID")]
        for body, reason in calls:
            for _ in range(75):  # few enough of a connection, which ends after three that nobody can read
                with self.dev.connect(server.address) as connection:
                    numbers = [connection.send_message(body) for _ in range(2)]
                    self.assertEqual({connection.receive(number).reason for number in numbers}, {reason})
        known = [uuid7() for _ in range(20)]
        with self.dev.connect(server.address) as connection:
            for request_id in known:
                self.assertEqual(connection.call(CALLER, token=self.dev.admin, request_id=request_id).code, 0)
        counted = self.rejected(server)
        self.assertEqual(server.stop(), 0)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        written = [line for line in lines if line["event"] == "request" and "principal" not in line]
        rests = [line for line in lines if line["event"] == "requests_not_logged"]
        windows = len({line["ts"][:18] for line in written}) + 1
        self.assertLessEqual(len(written), 100 * windows)
        self.assertEqual({line["peer"] for line in rests}, {f"uid {os.getuid()}"})
        refused = sum(line["code"] != "OK" for line in written)
        self.assertGreaterEqual(refused + sum(line["more"] for line in rests), 450)
        for _, reason in calls:
            self.assertEqual(counted[reason], 150, reason)
        self.assertLessEqual({str(uuid.UUID(bytes=request_id)) for request_id in known},
                             {line.get("request_id") for line in lines if line["event"] == "request"})

    @staticmethod
    def rejected(server):
        """{reason: how often} as metrics have it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port()}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        return {reason: int(count) for reason, count in re.findall(r'coffer_rpc_rejected_total\{reason="(\w+)"\} (\d+)', text)}

    def test_field_that_occurs_twice_is_refused(self):
        whole = encode(FRAME, self.frame(timeout_ms=1, attempt=1, payload=b""))
        for number, wire_type, body in ((1, 0, varint(1)), (2, 2, INFO.encode()), (4, 0, varint(1)), (5, 2, uuid7()),
                                        (6, 0, varint(1))):
            self.assertEqual(self.raw(whole + field(number, wire_type, body)).reason, "FRAME_INVALID", number)

    def test_unknown_fields_are_skipped_and_wrong_wire_types_refused(self):
        whole = encode(FRAME, self.frame())
        self.assertEqual(self.raw(whole + field(99, 2, b"later")).code, 0)
        self.assertEqual(self.raw(encode(FRAME, {"revision": 1}) + field(2, 0, varint(1))).reason, "FRAME_INVALID")
        self.assertEqual(self.raw(b"\x0b\x0c").reason, "FRAME_INVALID")

    def test_other_revision_is_unimplemented_and_says_which_are_there(self):
        answer = self.raw(encode(FRAME, self.frame(revision=2)))
        self.assertEqual((answer.code, answer.reason, answer.facts), (12, "FRAME_REVISION_UNSUPPORTED",
                                                                      {"min": "1", "max": "1"}))

    def test_unknown_methods_are_unimplemented(self):
        for method in ("", "x", "coffer.v1.SecretService/", "coffer.v1.SecretService/createSecret",
                       "coffer.v1.SecretService/CreateSecret ", INFO + "\x01", "a" * 256):
            answer = self.raw(encode(FRAME, self.frame(method=method)))
            self.assertEqual((answer.code, answer.reason), (12, "METHOD_UNKNOWN"), method)
        self.assertEqual(self.raw(encode(FRAME, self.frame(method="a" * 257))).reason, "FRAME_INVALID")

    def test_request_id_comes_back_in_every_answer(self):
        for fields in ({}, {"method": "x"}, {"revision": 9}):
            request_id = uuid7()
            self.assertEqual(self.raw(encode(FRAME, self.frame(request_id=request_id, **fields))).request_id, request_id)

    def test_metadata_is_limited_in_number_size_and_form(self):
        def with_entries(entries):
            return self.raw(encode(FRAME, self.frame(metadata=entries)))
        self.assertEqual(with_entries([{"key": f"k{i}", "value": b""} for i in range(32)]).code, 0)
        self.assertEqual(with_entries([{"key": f"k{i}", "value": b""} for i in range(33)]).reason, "METADATA_INVALID")
        self.assertEqual(with_entries([{"key": "k", "value": b"x" * 8191}]).code, 0)
        self.assertEqual(with_entries([{"key": "k", "value": b"x" * 8192}]).reason, "METADATA_INVALID")
        self.assertEqual(with_entries([{"key": "k" * 64, "value": b""}]).code, 0)
        for key in ("k" * 65, "", "Upper", "a b", "ä"):
            self.assertEqual(with_entries([{"key": key, "value": b""}]).reason, "METADATA_INVALID", key)

    def test_nul_or_invalid_utf8_in_any_string_of_any_request_is_refused(self):
        bad = (b"a\0b", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82")
        checked = 0
        for service, methods in SCHEMA.services.items():
            for method in methods:
                full = f"{service}/{method}"
                for path, payload in strings_of(SCHEMA.method(full)[0], bad[checked % len(bad)]):
                    system = "WorkspaceService" in full and method != "GetWorkspace"
                    token = self.dev.system if system else self.dev.admin
                    answer = self.fresh.call(full, payload=payload, token=token)
                    self.assertEqual((answer.code, answer.reason), (3, "STRING_INVALID"), (full, path))
                    self.assertEqual(answer.fields, [path])
                    checked += 1
        self.assertGreater(checked, 60)

    def test_every_bad_form_of_utf8_is_refused(self):
        for text in (b"\0", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80",
                     b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"a\xe2\x82", b"\xe2\x28\xa1"):
            answer = self.fresh.call("coffer.v1.SecretService/GetSecret", payload=field(3, 2, text), token=self.dev.admin)
            self.assertEqual(answer.reason, "STRING_INVALID", text)

    def test_payload_that_is_no_message_is_refused_and_the_field_named(self):
        get = "coffer.v1.SecretService/GetSecret"
        for payload in (b"\xff", b"\x0a\x05ab", b"\x0b", b"\x00"):
            self.assertEqual(self.fresh.call(get, payload=payload, token=self.dev.admin).reason, "PAYLOAD_INVALID")
        answer = self.fresh.call(get, payload=field(3, 0, varint(1)), token=self.dev.admin)
        self.assertEqual((answer.reason, answer.fields), ("PAYLOAD_INVALID", ["name"]))

    def test_payload_cut_at_every_byte_is_refused_or_valid_in_itself(self):
        create = "coffer.v1.SecretService/CreateSecret"
        whole = encode("coffer.v1.CreateSecretRequest", {"name": "cut", "environment": "e", "description": "d",
                                                         "values": values(KEY=b"value"), "tags": ["t"]})
        for length in range(len(whole)):
            answer = self.fresh.call(create, payload=whole[:length], token=self.dev.admin)
            self.assertIn(answer.code, (0, 3, 6), (length, answer))

    def test_frame_at_the_limit_is_answered_and_one_byte_more_closes_the_connection(self):
        base = len(encode(FRAME, self.frame(payload=b"x")))
        limit = 1 << 20
        for size, answered in ((limit, True), (limit + 1, False)):
            padding = size - base
            body = encode(FRAME, self.frame(payload=field(99, 2, b"x" * (padding - 6))))
            body += field(98, 2, b"x" * (size - len(body) - 3)) if len(body) < size else b""
            self.assertEqual(len(body), size)
            with self.dev.connect() as connection:
                if answered:
                    self.assertIn(connection.receive(connection.send_message(body)).code, (0, 3))
                else:
                    with self.assertRaises(OSError):
                        connection.receive(connection.send_message(body))

    def test_third_undecodable_frame_closes_the_connection(self):
        for _ in range(2):
            self.assertEqual(self.fresh.receive(self.fresh.send_message(b"\xff")).reason, "FRAME_INVALID")
        self.assertEqual(self.fresh.call(INFO).code, 0)
        self.assertEqual(self.fresh.receive(self.fresh.send_message(b"\xff")).reason, "FRAME_INVALID")
        with self.assertRaises(OSError):
            for _ in range(50):
                self.fresh.call(INFO)
                time.sleep(0.02)

    def test_huge_length_and_wrong_protocol_close_the_connection(self):
        host, port = self.dev.tcp.removeprefix("tcp://").split(":")
        for greeting, then in ((b"\0SP\0\0\x30\0\0", struct.pack(">Q", 1 << 60)), (b"\0SP\0\0\x10\0\0", b""),
                               (b"GET / HTTP/1.1\r\n\r\n", b"")):
            with socket.create_connection((host, int(port)), 10) as raw:
                received = b"start"
                try:
                    raw.sendall(greeting)
                    raw.sendall(then)
                    while received:
                        received = raw.recv(100)
                except (ConnectionResetError, BrokenPipeError):
                    pass  # closed as well

    def test_timeout_that_has_passed_is_told(self):
        answer = self.fresh.call("coffer.v1.SecretService/ListSecrets", timeout_ms=1, token=self.dev.admin)
        self.assertIn(answer.code, (0, 4))
        self.assertIn(answer.reason, ("", "DEADLINE_EXCEEDED"))

    def test_client_that_never_reads_does_not_stop_the_others(self):
        big = b"x" * 65536
        self.connection.call("coffer.v1.SecretService/CreateSecret",
                             {"name": "big", "values": values(A=big, B=big, C=big)}, token=self.dev.admin)
        request = {"items": [{"references": references("big.A", "big.B", "big.C")}] * 20}
        payload = encode("coffer.v1.ResolveRequest", request)
        for _ in range(50):
            self.fresh.send(context.RESOLVE, payload=payload, token=self.dev.admin)
        # What was sent is worked on before; a server that waited for the reader would never come to these.
        for _ in range(20):
            self.assertEqual(self.connection.call(CALLER, token=self.dev.admin, timeout_ms=60000).code, 0)

    def test_many_calls_on_one_connection_are_answered_to_their_own_numbers(self):
        numbers = [self.fresh.send(CALLER, token=self.dev.admin if i % 2 else self.dev.executor) for i in range(500)]
        for i, number in reversed(list(enumerate(numbers))):
            name = self.fresh.receive(number, CALLER).message["service_account"]["name"]
            self.assertEqual(name, "admin" if i % 2 else "executor")

    def test_health_is_told_without_a_token(self):
        check = "grpc.health.v1.Health/Check"
        for service in ("", "liveness", "readiness", "coffer.v1.SecretService"):
            self.assertEqual(self.fresh.call(check, {"service": service}).message["status"], "SERVING")
        unknown = self.fresh.call(check, {"service": "nothing"})
        self.assertEqual((unknown.code, unknown.reason, unknown.fields), (5, "SERVICE_UNKNOWN", ["service"]))


def strings_of(type_name, bad, path="", depth=0):
    """For every string field of a message, at any depth: its path, and a message with bad text there."""
    for name, (number, kind, repeated, package, inside) in SCHEMA.messages[type_name].items():
        here = f"{path}{name}" + ("[0]" if repeated else "")
        if kind == "string":
            yield here, field(number, 2, bad)
        elif kind not in SCALARS and kind != "map" and depth < 5:
            full = SCHEMA.resolve(kind, package, inside)
            if full in SCHEMA.messages:
                for inner, payload in strings_of(full, bad, here + ".", depth + 1):
                    yield inner, field(number, 2, payload)


if __name__ == "__main__":
    unittest.main(verbosity=2)
