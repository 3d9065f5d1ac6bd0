#!/usr/bin/env python3
"""What there is to see of the calls that `coffer` makes: the trace that they belong to, and --show-rpc."""

import contextlib
import json
import pathlib
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import DENIED, NOT_FOUND, NOT_LOGGED_IN, OK, CliTest  # noqa: E402
from cofferd import ROOT, Relay  # noqa: E402

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


class ShowPermission(CallsTest):
    def needed(self, *arguments):
        """What a command says that it needs, each permission once; nothing is asked of a server, or done."""
        code, out, err = self.run_cli("--show-permission", *arguments, COFFER_ADDR="ipc:///nowhere")
        self.assertEqual((code, err), (OK, ""), arguments)
        rows = [line.split("\t") for line in out.decode().splitlines()]
        return list(dict.fromkeys(row[0] for row in rows if ":" in row[0] or row[0] == "resolve"))

    def account(self, name, permissions):
        options = [word for permission in permissions for word in ("--permission", permission)]
        self.succeed("sa", "create", name, *options)
        self.succeed("token", "issue", name, "--out", self.dev.directory / f"{name}.token")
        return name

    def test_account_with_what_a_command_says_can_run_it_and_one_with_all_else_cannot(self):
        every = [line.split('"')[1] for line in (ROOT / "common" / "permission.def").read_text().splitlines()
                 if line.startswith("PERMISSION(") and "W" in line.split('",')[1].split(",")[0]]
        for number, arguments in enumerate((["secret", "show", "slack", "-e", "prod"], ["get", "slack.BOT", "-e", "prod"],
                                            ["secret", "reveal", "slack", "BOT", "-e", "prod"], ["env", "list"], ["token", "list", "admin"],
                                            ["secret", "copy", "slack", "-e", "prod", "--to-env", "dev", "--overwrite"],
                                            ["oauth", "providers"], ["registry", "list"], ["secret", "matrix"])):
            needed = self.needed(*arguments)
            more = ["secret:write"] if arguments[1] == "copy" else []
            self.assertTrue(needed, arguments)
            able = self.account(f"able{number}", needed + more)
            self.assertEqual(self.run_cli(*arguments, token=able)[0], OK, (arguments, needed))
            unable = self.account(f"unable{number}", sorted(set(every) - {needed[0]}))
            self.assertEqual(self.run_cli(*arguments, token=unable)[0], DENIED, (arguments, needed))

    def test_methods_are_told_with_what_is_needed_besides(self):
        told = json.loads(self.succeed("secret", "copy", "slack", "--to-env", "dev", "--show-permission", "-o", "json"))
        self.assertEqual(told, {"calls": [{"permission": "secret:reveal", "method": "coffer.v1.SecretService/CopySecret",
                                           "more": "and secret:write for the copy"}]})
        self.assertIn(b"secret:reveal\tcoffer.v1.SecretService/RevealSecret\t",
                      self.succeed("rpc", "call", "coffer.v1.SecretService/RevealSecret", "--show-permission"))
        self.assertEqual(self.succeed("version", "--show-permission"), b"")
        self.assertIn("secret:write\n", self.succeed("help", "secret", "create").decode())


class ShowRpc(CallsTest):
    def calls(self, *arguments, expected=OK, **options):
        code, _, err = self.run_cli("--show-rpc", *arguments, **options)
        self.assertEqual(code, expected, err)
        self.assertNotIn("planted", err)
        return [json.loads(line) for line in err.splitlines() if line.startswith('{"method"')]

    def test_each_call_is_a_line_with_its_request_and_its_time(self):
        call, = self.calls("secret", "show", "slack", "-e", "prod")
        self.assertEqual((call["method"], call["request"]["name"], call["attempts"]), ("coffer.v1.SecretService/GetSecret", "slack", 1))
        self.assertGreater(call["milliseconds"], 0)
        self.assertRegex(call["requestId"], r"^[0-9a-f]{8}-")
        call, = self.calls("get", "slack.BOT", "-e", "prod")
        self.assertEqual((call["method"], call["request"]["items"][0]["references"]),
                         ("coffer.v1.ResolveService/Resolve", [{"name": "slack", "key": "BOT"}]))
        told = self.calls("run", "--secret", "slack", "-e", "prod", "--", "true")
        self.assertEqual([call["method"].split("/")[1] for call in told], ["GetSecret", "Resolve"])

    def test_values_of_requests_are_not_shown(self):
        told = self.calls("set", "shown.K=-", "-e", "prod", stdin=b"planted-value")
        self.assertEqual([call["method"].split("/")[1] for call in told], ["UpdateSecretValues", "CreateSecret"])
        self.assertEqual(told[0]["reason"], "SECRET_NOT_FOUND")
        self.assertEqual(told[1]["request"]["values"], [{"key": "K", "value": "***"}])
        binary = self.calls("set", "shown.K=-", "-e", "prod", stdin=b"planted\xff\x00value")
        self.assertEqual(binary[0]["request"]["patch"]["set"], [{"key": "K", "value": "***"}])
        told = self.calls("rpc", "call", "coffer.v1.SecretService/RevealSecret", "-d", "-", stdin=b'{"environment": "prod", "name": "shown"}')
        self.assertEqual(("request" in told[-1], told[-1]["attempts"]), (False, 1))

    def test_failures_are_told_with_their_reason_beside_the_message(self):
        call, = self.calls("get", "slack.BOT", "-e", "prod", expected=NOT_LOGGED_IN, COFFER_TOKEN_FILE=None)
        self.assertEqual(call["reason"], "TOKEN_MISSING")
        code, _, err = self.run_cli("secret", "show", "nope", "-e", "prod", "--json", "--show-rpc")
        self.assertEqual(code, NOT_FOUND)
        call, failure = map(json.loads, err.splitlines())
        self.assertEqual((call["reason"], call["requestId"]), (failure["error"]["reason"], failure["error"]["requestId"]))

    def test_nothing_is_told_without_the_option(self):
        self.assertEqual(self.run_cli("get", "slack.BOT", "-e", "prod")[2], "")


if __name__ == "__main__":
    unittest.main()
