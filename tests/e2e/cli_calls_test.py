#!/usr/bin/env python3
"""What there is to see of the calls that `coffer` makes: the trace that they belong to."""

import contextlib
import json
import pathlib
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import OK, CliTest  # noqa: E402
from cofferd import Relay  # noqa: E402

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorder(Relay):
    """A way to the server that keeps all that passes, in both directions."""

    def __init__(self, dev):
        self.passed = b""
        super().__init__(dev.directory)
        self.target = dev.ipc.removeprefix("ipc://")

    def _copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.passed += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class CallsTest(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        connection = cls.dev.connect()
        answer = connection.call("coffer.v1.SecretService/CreateSecret", {
            "environment": "prod", "name": "slack", "values": [{"key": "BOT", "value": b"marker-of-calls"}]}, token=cls.dev.admin)
        assert answer.code == 0, answer
        connection.close()


class Trace(CallsTest):
    def passed(self, *arguments, **variables):
        with Recorder(self.dev) as recorder:
            code, _, err = cli.run(cli.environment(self.dev, COFFER_ADDR=f"ipc://{recorder.path}", **variables), *arguments, stdin=b"{}")
            self.assertEqual(code, OK, err)
            return recorder.passed

    def test_every_call_belongs_to_the_trace_of_the_environment(self):
        for arguments in (("secret", "list"), ("get", "slack.BOT", "-e", "prod"), ("resolve", "slack.BOT", "-e", "prod"),
                          ("run", "--ref", "slack.BOT", "-e", "prod", "--", "true"), ("rpc", "call", "coffer.v1.TokenService/GetCaller", "-d", "-")):
            self.assertIn(TRACE.encode(), self.passed(*arguments, TRACEPARENT=TRACE), arguments)
        self.assertNotIn(b"traceparent", self.passed("secret", "list"))

    def test_line_of_the_log_has_the_trace_and_the_span_of_its_caller(self):
        trace = TRACE.replace("4", "9")
        for arguments in (("secret", "list"), ("get", "slack.BOT", "-e", "prod"), ("secret", "show", "nobody")):
            cli.run(cli.environment(self.dev, TRACEPARENT=trace), *arguments)
        _, trace_id, span_id, _ = trace.split("-")
        lines = [json.loads(line) for line in self.dev.server.log.read_text().splitlines() if trace_id in line]
        self.assertEqual([(line["method"].split("/")[1], line["trace_id"], line["span_id"]) for line in lines],
                         [(method, trace_id, span_id) for method in ("ListSecrets", "Resolve", "GetSecret")])

    def test_trace_that_breaks_its_form_is_ignored(self):
        for wrong in ("", "none", TRACE + "-more", TRACE[:-1], TRACE.upper(), TRACE.replace("00-", "ff-", 1), TRACE[:3] + "0" * 32 + TRACE[35:],
                      TRACE[:36] + "0" * 16 + TRACE[52:], TRACE.replace("-", "_")):
            self.assertNotIn(b"traceparent", self.passed("secret", "list", TRACEPARENT=wrong), wrong)


if __name__ == "__main__":
    unittest.main()
