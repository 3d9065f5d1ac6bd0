#!/usr/bin/env python3
"""A server's life: what it says when it cannot start, its log, its health, and --dev from an empty directory on."""

import contextlib
import http.client
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import tempfile
import unittest

import context
from cofferd import COFFERD, Dev, values, wait_for
from sp_client import uuid7

CALLER = "coffer.v1.TokenService/GetCaller"
HEALTH = "grpc.health.v1.Health/Check"
SECRET = "coffer.v1.SecretService/"
PLANTED = b"planted-value-that-no-log-may-show"


def uuid_text(raw):
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Operation(context.ServerTest):
    def start(self, *arguments, **settings):
        """The exit status and output of a cofferd that is expected to end by itself."""
        environment = {"COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
                       "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                       "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "start.state"),
                       "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/start.sock",
                       **{f"COFFERD_{key.upper()}": value for key, value in settings.items()}}
        done = subprocess.run([COFFERD, *(arguments or ["serve"])], env={**os.environ, **environment}, timeout=90,
                              capture_output=True, text=True)
        return done.returncode, done.stderr

    def file(self, text):
        path = self.dev.directory / f"config-{len(list(self.dev.directory.glob('config-*')))}"
        path.write_text(text)
        path.chmod(0o600)
        return path

    # Starting.

    def test_wrong_setting_ends_the_server_with_a_message_that_names_it(self):
        cases = {
            "limits.workers": {"limits__workers": "0"}, "limits.queue": {"limits__queue": "many"},
            "limits.request": {"limits__request": "1"}, "log.format": {"log__format": "xml"},
            "limits.max_timeout": {"limits__max_timeout": "forever"}, "memory.lock": {"memory__lock": "perhaps"},
            "database.conninfo": {"database__conninfo": ""},
            str(self.dev.directory / "nokey"): {"keys__root_key_file": str(self.dev.directory / "nokey")},
            "transport.insecure_tcp": {"transport__listen": "tcp://0.0.0.0:0"},
            "udp://x": {"transport__listen": "udp://x"}, "transport.ipc_uids": {"transport__ipc_uids": "0,nobody"},
        }
        for named, settings in cases.items():
            code, output = self.start(**settings)
            self.assertEqual(code, 2, (named, output))
            places = (named, "COFFERD_" + named.upper().replace(".", "__"))
            self.assertTrue(any(place in output for place in places), (named, output))
            self.assertRegex(output, r"(?m)^cofferd: ")

    def test_help_of_a_command_tells_it_alone_and_runs_nothing(self):
        def told(*arguments):
            done = subprocess.run([COFFERD, *arguments], timeout=90, capture_output=True, text=True)
            return done.returncode, done.stdout, done.stderr
        code, every, _ = told("--help")
        names = dict.fromkeys(line.split()[1] for line in every.splitlines() if line.startswith("  cofferd "))
        self.assertEqual((code, told("help")[1], told()), (0, every, (2, "", every)))
        self.assertIn("backup", names)
        for name in names:
            lines = told(name, "--help")
            self.assertEqual(lines, told("help", name))
            self.assertEqual((lines[0], lines[2]), (0, ""))
            self.assertEqual({line.split()[1] for line in lines[1].splitlines() if line.startswith("  cofferd ")}, {name})
            self.assertIn(lines[1], every)
        self.assertEqual(told("help", "nothing"), told("nothing"))
        self.assertEqual(told("backup", "--nothing")[2].splitlines()[0], "cofferd backup: unrecognized option '--nothing'")

    def test_unknown_setting_in_a_file_is_named_with_its_line(self):
        code, output = self.start("serve", "--config", self.file("limits:\n  worker: 3\n"))
        self.assertEqual(code, 2)
        self.assertIn("worker", output)
        self.assertRegex(output, r":2\b|line 2")

    def test_wrong_database_or_key_ends_the_server_and_says_which(self):
        code, output = self.start(database__conninfo=f"host={self.dev.directory}/nowhere", database__connect_timeout="500ms")
        self.assertEqual(code, 1, output)
        self.assertIn("database", output)
        key = self.dev.directory / "other.key"
        key.write_bytes((self.dev.directory / "root.key").read_bytes())
        key.chmod(0o644)
        code, output = self.start(keys__root_key_file=str(key))
        self.assertEqual(code, 2, output)
        self.assertIn("other.key", output)

    def test_plain_tcp_is_for_loopback_unless_it_is_allowed(self):
        for address in ("tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:7480", "tcp://127.0.0.1.example.org:1",
                        "tcp://localhost.example.org:7480"):
            code, output = self.start(transport__listen=address)
            self.assertEqual(code, 2, (address, output))
            self.assertIn(address, output)
        path = f"ipc://{self.dev.directory}/allowed.sock"
        server = self.dev.more("allowed", COFFERD_TRANSPORT__INSECURE_TCP="true",
                               COFFERD_TRANSPORT__LISTEN=f"{path},tcp://0.0.0.0:0")
        port = wait_for(lambda: re.search(r"tcp://0\.0\.0\.0:(\d+)", server.log.read_text()), "it listens").group(1)
        with self.dev.connect(f"tcp://127.0.0.1:{port}") as connection:
            self.assertEqual(connection.call(HEALTH, {}).code, 0)

    # The log.

    def test_every_request_has_exactly_one_line_without_a_value(self):
        server = self.dev.more("log")
        ids = {}
        with self.dev.connect(server.address) as connection:
            def call(method, request=None, **options):
                request_id = uuid7()
                ids[uuid_text(request_id)] = connection.call(method, request, request_id=request_id, **options)
            admin = self.dev.admin
            call(HEALTH, {})
            call(CALLER)
            call(CALLER, token=admin)
            call(SECRET + "CreateSecret", {"name": "logged", "values": values(KEY=PLANTED)}, token=admin)
            call(SECRET + "CreateSecret", {"name": "logged", "values": values(KEY=PLANTED)}, token=admin)
            call(SECRET + "CreateSecret", {"name": "a b", "values": values(KEY=PLANTED)}, token=admin)
            call(SECRET + "GetSecret", payload=b"\x1a\x03\xff" + PLANTED[:2], token=admin)
            call(context.RESOLVE, {"items": [{"references": [{"name": "logged", "key": "KEY"}]}]}, token=admin)
            call(context.RESOLVE, {"items": [{"references": [{"name": "logged", "key": "NO"}]}]}, token=admin)
            call("no.such/Method", payload=b"", token=admin)
        self.assertEqual(server.stop(), 0)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        requests = [line for line in lines if line.get("event") == "request"]
        for request_id, answer in ids.items():
            own = [line for line in requests if line.get("request_id") == request_id]
            self.assertEqual(len(own), 1, request_id)
            self.assertEqual(own[0]["code"] == "OK", answer.code == 0)
            self.assertEqual(own[0].get("reason", ""), answer.reason)
        text = server.log.read_text()
        for secret in (PLANTED, admin[:30], admin[-30:]):
            self.assertNotIn(secret.decode(), text)

    def test_requests_that_are_refused_before_they_get_a_place_have_a_line_too(self):
        server = self.dev.more("refused", COFFERD_LIMITS__IN_FLIGHT_PER_PEER="1")
        request_id = uuid7()
        with self.dev.connect(server.address) as connection, self.locked("token"):
            connection.send(CALLER, token=self.dev.admin, timeout_ms=60000)
            self.wait_until_blocked()
            self.assertEqual(connection.call(CALLER, token=self.dev.admin, request_id=request_id).reason,
                             "TOO_MANY_IN_FLIGHT")
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        own = [line for line in lines if line.get("request_id") == uuid_text(request_id)]
        self.assertEqual([(line["event"], line["reason"]) for line in own], [("request", "TOO_MANY_IN_FLIGHT")])

    def test_log_says_which_requests_as_the_setting_says(self):
        for choice, expected in (("all", 2), ("failed", 1), ("none", 0)):
            server = self.dev.more(f"log-{choice}", COFFERD_LOG__REQUESTS=choice)
            ids = [uuid7(), uuid7()]
            with self.dev.connect(server.address) as connection:
                connection.call(CALLER, token=self.dev.admin, request_id=ids[0])
                connection.call(CALLER, request_id=ids[1])
            self.assertEqual(server.stop(), 0)
            text = server.log.read_text()
            self.assertEqual(sum(uuid_text(i) in text for i in ids), expected, choice)

    def test_log_is_text_on_a_terminal(self):
        master, slave = pty.openpty()
        environment = {"COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
                       "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                       "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "pty.state"),
                       "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/pty.sock"}
        process = subprocess.Popen([COFFERD, "serve"], stdout=slave, stderr=slave, env={**os.environ, **environment})
        os.close(slave)
        seen = b""
        try:
            while b"ready for calls" not in seen:
                self.assertTrue(select.select([master], [], [], 90)[0], seen)
                seen += os.read(master, 4096)
        finally:
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(90), 0)
            os.close(master)
        for line in seen.decode().splitlines():
            with self.assertRaises(ValueError):
                json.loads(line)

    # Health.

    def test_readiness_ends_with_the_first_signal_and_liveness_does_not(self):
        server = self.dev.more("health")
        with self.dev.connect(server.address) as connection, self.dev.connect(server.address) as other:
            def status(service):
                return other.call(HEALTH, {"service": service}).message["status"]
            self.assertEqual(status("readiness"), "SERVING")
            with self.locked("token"):
                number = connection.send(CALLER, token=self.dev.admin, timeout_ms=60000)
                self.wait_until_blocked()
                server.process.send_signal(signal.SIGTERM)
                wait_for(lambda: status("readiness") == "NOT_SERVING", "the server drains")
                self.assertEqual(status("coffer.v1.SecretService"), "NOT_SERVING")
                self.assertEqual((status("liveness"), status("")), ("SERVING", "SERVING"))
            self.assertEqual(connection.receive(number).code, 0)
        self.assertEqual(server.process.wait(90), 0)

    def test_calls_are_taken_after_the_signal_for_as_long_as_readiness_needs_to_be_seen(self):
        server = self.dev.more("leaving", COFFERD_SERVER__DRAIN_DELAY="600s",
                               COFFERD_TRANSPORT__LISTEN=f"ipc://{self.dev.directory}/leaving.sock,ws://127.0.0.1:0")
        port = server.port()

        def probe():
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(client):
                client.request("GET", "/readyz")
                answer = client.getresponse()
                return answer.status, json.loads(answer.read())["checks"]["serving"]
        self.assertEqual(probe(), (200, "ok"))
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: probe() == (503, "failed"), "readiness ends")
        with self.dev.connect(server.address) as connection:
            self.assertEqual(connection.call(HEALTH, {"service": "readiness"}).message["status"], "NOT_SERVING")
            self.assertEqual(connection.call(CALLER, token=self.dev.admin).code, 0)
        self.assertNotIn('"event":"draining"', server.log.read_text())
        # Nobody has to wait for the rest of the time.
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(90), 130)
        self.dev.extra.remove(server)


class Development(unittest.TestCase):
    def test_dev_works_in_an_empty_directory_and_a_second_time_with_its_data(self):
        dev = Dev()
        try:
            self.create_and_read(dev)
            kept = (dev.admin, dev.workspace)
            self.assertEqual(dev.server.stop(), 0)
            self.assertFalse((dev.directory / "ready").exists())
            dev.start()
            self.assertEqual((dev.admin, dev.workspace), kept)
            with dev.connect() as connection:
                self.assertEqual(connection.call(SECRET + "GetSecret", {"name": "kept"}, token=dev.admin).code, 0)
        finally:
            dev.close()

    def create_and_read(self, dev):
        with dev.connect(dev.tcp) as connection:
            created = connection.call(SECRET + "CreateSecret", {"name": "kept", "values": values(KEY=b"v")}, token=dev.admin)
            self.assertEqual(created.code, 0, created)

    def test_dev_files_are_for_their_owner_only(self):
        dev = Dev()
        try:
            for name in ("admin.token", "executor.token", "system.token", "root.key"):
                self.assertEqual((dev.directory / name).stat().st_mode & 0o777, 0o600, name)
        finally:
            dev.close()

    def test_temporary_data_is_removed_at_the_end(self):
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen([COFFERD, "serve", "--dev-temporary", "--dev-tcp", "tcp://127.0.0.1:0"],
                                       stdout=output, stderr=output)

            def text():
                output.seek(0)
                return output.read()
            try:
                wait_for(lambda: process.poll() is not None or "Coffer is ready" in text(), "the server is ready")
                directory = pathlib.Path(re.search(r"data +(/\S+)", text()).group(1))
                self.assertTrue((directory / "root.key").exists())
            finally:
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(90), 0, text())
            self.assertFalse(directory.exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
