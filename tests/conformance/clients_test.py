#!/usr/bin/env python3
"""The clients in other languages, each through the same scenario against one server.

Arguments: the folder of the client, the command of its program, "--", the command of its tour. The program reads steps from standard input, one JSON object on each line, and
answers each with one line:

  {"do": "open", "addresses": "...", "token": "...", "timeout": SECONDS, "ca": FILE}   a client; its settings
  {"do": "resolve", "texts": [...], "environment": "...", "timeout": SECONDS, "pending": "wait|poll|fail"}
                                                       {"values": {TEXT: base64 or null}}
  {"do": "mask", "text": "..."}                        the text, masked by what was resolved last: {"text": "..."}
  {"do": "shown"}                                      how what was resolved last, and the client, show themselves: {"text": "..."}
  {"do": "create", "name": "...", "environment": "...", "values": {KEY: base64}, "timeout": SECONDS}
                                                       SecretService/CreateSecret: {"version": NUMBER}
  {"do": "get", "name": "...", "environment": "..."}   SecretService/GetSecret: {"keys": [...]}
  {"do": "together", "count": NUMBER, "text": "...", "environment": "..."}             so many resolves at once: {"values": [base64]}

A failure is {"error": {"code": "NOT_FOUND", "reason", "message", "fields": [...], "attempts", "faults": [[REFERENCE, OUTCOME]]}}.
"""

import base64
import contextlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from certificates import Authority  # noqa: E402
from cofferd import PATIENCE, Dev, values, wait_for  # noqa: E402
from rude_http import Rude, whole  # noqa: E402

BETWEEN = sys.argv.index("--")
CLIENT, COMMAND, TOUR = pathlib.Path(sys.argv[1]), sys.argv[2:BETWEEN], sys.argv[BETWEEN + 1:]
LANGUAGE = CLIENT.name
del sys.argv[1:]
SECRET, CONNECTION = "coffer.v1.SecretService/", "coffer.v1.ConnectionService/"
TOKEN = "acme_oauth.ACME_USER_TOKEN"
VALUE = b"planted-\xc3\xa4-value"
EVERY_BYTE = bytes(range(256))
ENOUGH = 60  # seconds, for what must succeed


def text(data):
    return base64.b64encode(data).decode()


class Cutter:
    """A way to a server that loses the first answer: the request arrives, and then the connection is cut."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(near, self.cut == 0), daemon=True).start()
                self.cut = 1

    def _serve(self, near, lose):
        host, port = self.target.removeprefix("tcp://").split(":")
        with near, socket.create_connection((host, int(port))) as far, contextlib.suppress(OSError):
            near.sendall(far.recv(8, socket.MSG_WAITALL))
            threading.Thread(target=self._copy, args=(near, far), daemon=True).start()
            if lose:
                far.recv(1)  # the first byte of the answer: the write is done
                near.shutdown(socket.SHUT_RDWR)
                return
            self._copy(far, near)

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.close()


class Silent:
    """Takes connections, says nothing."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self):
        self.listener.close()


class Provider:
    """A token endpoint whose answers wait for `open`."""

    def __init__(self, authority, folder):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("provider"))
        self.server = Rude({"token": self._answer}, context=context)
        self.open = threading.Event()
        self.asked = 0
        self.file = folder / "providers.yaml"
        self.file.write_text(
            "providers:\n  - id: acme\n    name: Acme\n    documentation: https://acme.example/docs\n"
            "    authorization_endpoint: https://localhost/authorize\n"
            f"    token_endpoint: {self.server.url('token', host='localhost')}\n    user: {{scopes: [read]}}\n"
            "    client_authentication: [client_secret_post]\n    tokens: {refresh: rotates}\n")

    def _answer(self, connection, request):
        del request
        self.asked += 1
        self.open.wait(PATIENCE)
        connection.sendall(whole(json.dumps({"access_token": "planted-access", "refresh_token": "next", "expires_in": 3600}).encode()))


def table_cases():
    """The cases of the expression table that are one expression, and whose secrets a test can make."""
    for case in json.loads((pathlib.Path(__file__).resolve().parent / "expressions.json").read_text())["cases"]:
        words, given = case["text"], case.get("given")
        if given is None or not isinstance(words, str) or "\0" in words or case["errors"]:
            continue
        whole = [place[:2] for place in case["templates"]] == [[0, len(words.encode())]]
        if whole and all(outcome in ("RESOLVED", "KEY_NOT_FOUND") and not name.endswith("_oauth") for name, _, outcome, *_ in given):
            yield case


def closed_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


class Clients(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-clients-")
        cls.authority = Authority(pathlib.Path(cls.folder.name) / "ca")
        cls.dev = Dev()
        certificate, key = cls.authority.issue("server")
        cls.tls, cls.web, cls.secure_web = (closed_address().replace("tcp://", f"{scheme}://") + path for scheme, path in (
            ("tls+tcp", ""), ("ws", "/coffer/v1"), ("wss", "/coffer/v1")))
        cls.provider = Provider(cls.authority, pathlib.Path(cls.folder.name))
        cls.own = f"ipc://{cls.dev.directory / 'tls.sock'}"
        cls.dev.more("tls", COFFERD_TRANSPORT__LISTEN=f"{cls.own},{cls.tls},{cls.web},{cls.secure_web}",
                     COFFERD_TLS__CERTIFICATE=str(certificate), COFFERD_TLS__KEY=str(key),
                     COFFERD_PROVIDERS__FILES=str(cls.provider.file), COFFERD_OUTBOUND__CA_FILE=str(cls.authority.certificate),
                     COFFERD_OUTBOUND__ALLOW_PRIVATE=f"localhost:{cls.provider.server.port}")
        with cls.dev.connect() as connection:
            for environment, secret, pairs in (("prod", "slack", {"TOKEN": VALUE, "BYTES": EVERY_BYTE, "EMPTY": b""}),
                                               ("prod", "long", {"KEY": os.urandom(65536)})):
                answer = connection.call(SECRET + "CreateSecret", {"name": secret, "environment": environment,
                                                                   "values": values(**pairs)}, token=cls.dev.admin)
                assert answer.code == 0, answer
        cls.program = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={
            **os.environ, "NODE_EXTRA_CA_CERTS": str(cls.authority.certificate)})

    @classmethod
    def tearDownClass(cls):
        cls.program.stdin.close()
        code = cls.program.wait(PATIENCE)
        cls.program.stdout.close()
        cls.provider.open.set()
        cls.dev.close()
        cls.provider.server.close()
        cls.folder.cleanup()
        assert code == 0, code

    def step(self, do, **fields):
        self.program.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.program.stdin.flush()
        line = self.program.stdout.readline()
        self.assertNotEqual(line, "", f"the program of {LANGUAGE} ended")
        return json.loads(line)

    def open(self, addresses, token=None, timeout=ENOUGH, **more):
        token = self.dev.admin if token is None else token
        self.assertEqual(self.step("open", addresses=addresses, token=token.decode(), timeout=timeout, **more), {})

    def resolve(self, *texts, environment="prod", **more):
        return self.step("resolve", texts=list(texts), environment=environment, **more)

    def error(self, answer, code, reason):
        self.assertIn("error", answer)
        error = answer["error"]
        self.assertEqual((error["code"], error["reason"]), (code, reason), error)
        self.assertNotIn("planted", json.dumps(answer))
        return error

    # --- Values

    def test_values_come_over_every_transport_byte_by_byte(self):
        transports = [(self.dev.ipc, {}), (self.dev.tcp, {}), (self.tls, {"ca": str(self.authority.certificate)})]
        if LANGUAGE in ("typescript", "libcoffer"):  # browsers have nothing else
            transports += [(self.web, {}), (self.secure_web, {"ca": str(self.authority.certificate)})]
        for addresses, more in transports:
            self.open(addresses, **more)
            self.assertEqual(self.resolve("slack.TOKEN", "slack.BYTES", "slack.EMPTY"), {"values": {
                "slack.TOKEN": text(VALUE), "slack.BYTES": text(EVERY_BYTE), "slack.EMPTY": ""}}, addresses)

    def test_server_with_a_certificate_of_nobodys_is_not_spoken_to(self):
        other = Authority(pathlib.Path(self.folder.name) / "other")
        self.open(self.tls, ca=str(other.certificate), timeout=1)
        self.error(self.resolve("slack.TOKEN"), "UNAVAILABLE", "NOT_CONNECTED")

    def test_expressions_are_evaluated(self):
        self.open(self.dev.ipc)
        first, second = "${{ SECRETS.nothing.KEY || SECRETS.slack.TOKEN }}", "${{ SECRETS.nothing.KEY || 'none' }}"
        self.assertEqual(self.resolve(first, second)["values"], {first: text(VALUE), second: text(b"none")})

    def make_given(self, connection, environment, given):
        """The secrets of a case: what is not found has another key."""
        secrets = {}
        for name, key, outcome, *value in given:
            secrets.setdefault(name, {}).update({key: value[0].encode()} if outcome == "RESOLVED" else {"OTHER": b"other"})
        for name, pairs in secrets.items():
            answer = connection.call(SECRET + "CreateSecret", {"name": name, "environment": environment, "values": values(**pairs)},
                                     token=self.dev.admin)
            self.assertEqual(answer.code, 0, answer)

    def test_cases_of_the_expression_table_come_out_as_they_stand_there(self):
        self.open(self.dev.ipc)
        environments, count = {}, 0
        with self.dev.connect() as connection:
            connection.call("coffer.v1.EnvironmentService/CreateEnvironment", {"name": "empty"}, token=self.dev.admin)
            for case in table_cases():
                given = json.dumps(case["given"])
                if given not in environments:
                    environments[given] = f"case{len(environments)}" if case["given"] else "empty"
                    self.make_given(connection, environments[given], case["given"])
                answer, evaluated = self.resolve(case["text"], environment=environments[given]), case["templates"][0][2]
                with self.subTest(case["name"]):
                    count += 1
                    if "faults" in case:
                        self.assertEqual({outcome for _, outcome in answer["error"]["faults"]}, {fault[0] for fault in case["faults"]})
                        continue
                    value = case["value"]
                    expected = {case["text"]: None if value is None else text(value.encode())} if evaluated else {}
                    self.assertEqual(answer, {"values": expected})
        self.assertGreater(count, 100)

    def test_all_that_is_wrong_is_told_at_once(self):
        self.open(self.dev.ipc)
        error = self.error(self.resolve("slack.TOKN", "slak.TOKEN", "slack.TOKEN"), "NOT_FOUND", "SECRET_NOT_FOUND")
        self.assertEqual(sorted(error["faults"]), [["slack.TOKN", "KEY_NOT_FOUND"], ["slak.TOKEN", "SECRET_NOT_FOUND"]])

    def test_values_show_themselves_nowhere_and_are_masked(self):
        self.open(self.dev.ipc)
        self.resolve("slack.TOKEN", "slack.EMPTY")
        shown = self.step("shown")["text"]
        self.assertNotIn("planted", shown)
        self.assertNotIn(self.dev.admin.decode(), shown)
        self.assertEqual(self.step("mask", text=f"a {VALUE.decode()} b")["text"], "a *** b")

    def test_many_at_once(self):
        self.open(self.dev.tcp)
        answer = self.step("together", count=16, text="slack.TOKEN", environment="prod")
        self.assertEqual(answer["values"], [text(VALUE)] * 16)

    def configure(self, environment):
        """A connection whose token has to be fetched first."""
        place = {"environment": environment, "provider": "acme"}
        with self.dev.connect(self.own) as connection:
            for method, fields in (("ConfigureConnection", {"grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "client",
                                                            "credential": {"client_secret": b"planted-client"}}),
                                   ("SetConnectionTokens", {"refresh_token": b"planted-refresh"})):
                answer = connection.call(CONNECTION + method, {**place, **fields}, token=self.dev.admin)
                self.assertEqual(answer.code, 0, answer)

    def test_token_that_is_being_fetched_is_asked_for_again_or_told(self):
        self.provider.open.clear()
        self.configure("fetched")
        self.open(self.own)
        self.error(self.resolve(TOKEN, environment="fetched", pending="fail"), "UNAVAILABLE", "PENDING")
        wait_for(lambda: self.provider.asked == 1, "the provider is asked")
        self.error(self.resolve(TOKEN, environment="fetched", pending="poll", timeout=2), "UNAVAILABLE", "PENDING")
        threading.Timer(0.3, self.provider.open.set).start()
        self.assertEqual(self.resolve(TOKEN, environment="fetched", pending="poll", timeout=ENOUGH),
                         {"values": {TOKEN: text(b"planted-access")}})
        self.assertEqual(self.provider.asked, 1)

    @unittest.skipIf(TOUR == [], "the examples of libcoffer have a test of their own")
    def test_tour_of_the_readme_runs_as_it_stands_there(self):
        tour, = CLIENT.glob("examples/tour*")
        code = (tour if tour.is_file() else tour / "main.go").read_text()
        self.assertIn(code, (CLIENT / "README.md").read_text(), "the README shows another program than the one that runs")
        environment = {**os.environ, "COFFER_ADDR": self.dev.ipc, "COFFER_TOKEN_FILE": str(self.dev.directory / "admin.token")}
        done = subprocess.run(TOUR, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, f"tour-{LANGUAGE} has version 1\n"
                          "the token is ***, and 16 bytes long\nKEY_NOT_FOUND: tour-" + LANGUAGE + ".TOKN\n"), done.stderr)

    # --- Failures

    def test_refusals_carry_code_reason_and_field(self):
        self.open(self.dev.ipc, self.dev.executor)
        self.error(self.step("create", name="x", environment="prod", values={}), "PERMISSION_DENIED", "PERMISSION_DENIED")
        self.open(self.dev.ipc)
        self.error(self.step("get", name="none", environment="prod"), "NOT_FOUND", "SECRET_NOT_FOUND")
        error = self.error(self.step("create", name="not a name", environment="prod", values={"K": text(b"planted")}),
                           "INVALID_ARGUMENT", "FIELD_INVALID")
        self.assertEqual(error["fields"], ["name"])
        self.open(self.dev.ipc, b"nonsense")
        self.error(self.step("get", name="slack", environment="prod"), "UNAUTHENTICATED", "TOKEN_MALFORMED")

    # --- Repeats

    def test_write_whose_answer_was_lost_happens_once(self):
        cutter = Cutter(self.dev.tcp)
        self.addCleanup(cutter.close)
        self.open(cutter.address)
        answer = self.step("create", name=f"once-{LANGUAGE}", environment="prod", values={"KEY": text(VALUE)})
        self.assertEqual(answer, {"version": 1})
        self.assertEqual(cutter.cut, 1)
        self.error(self.step("create", name=f"once-{LANGUAGE}", environment="prod", values={"KEY": text(VALUE)}),
                   "ALREADY_EXISTS", "SECRET_EXISTS")

    def test_addresses_that_are_gone_or_silent_are_passed_over(self):
        silent = Silent()
        self.addCleanup(silent.close)
        self.open(f"{closed_address()},{silent.address},{self.dev.tcp}", timeout=6)
        self.assertEqual(self.resolve("slack.TOKEN"), {"values": {"slack.TOKEN": text(VALUE)}})

    def test_server_that_ends_between_two_calls_costs_neither(self):
        server = self.dev.more(f"ends-{LANGUAGE}")
        self.open(f"{server.address},{self.dev.ipc}")
        self.assertIn("values", self.resolve("slack.TOKEN"))
        server.stop()
        self.dev.extra.remove(server)
        self.assertIn("values", self.resolve("slack.TOKEN"))

    def test_deadline_ends_a_call_that_nobody_answers(self):
        silent = Silent()
        self.addCleanup(silent.close)
        self.open(silent.address, timeout=0.5)
        begin = time.monotonic()
        if LANGUAGE == "libcoffer":  # a server that has not said what it speaks is not connected; the time for that is less
            self.error(self.resolve("slack.TOKEN"), "UNAVAILABLE", "NOT_CONNECTED")
            return
        error = self.error(self.resolve("slack.TOKEN"), "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)
        self.assertLessEqual(error["attempts"], 1)
        self.open(closed_address(), timeout=0.5)
        self.error(self.resolve("slack.TOKEN"), "UNAVAILABLE", "NOT_CONNECTED")


if __name__ == "__main__":
    unittest.main(verbosity=2)
