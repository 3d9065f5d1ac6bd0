#!/usr/bin/env python3
"""SIGHUP, and what the server tells whoever started it: settings that change, those that do not, and the words of systemd."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import unittest

import context
from cofferd import ROOT, Server, answers, wait_for
from sp_client import Connection, WebSocket

INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
FIRST, SECOND = "https://first.example", "https://second.example"


class Reload(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.file = cls.dev.directory / "reload.yaml"
        cls.path = cls.dev.directory / "reload.sock"
        cls.write()
        cls.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        cls.manager.bind(str(cls.dev.directory / "notify"))
        cls.manager.settimeout(90)
        cls.server = Server(["serve", "--config", cls.file], {
            "NOTIFY_SOCKET": str(cls.dev.directory / "notify"), "WATCHDOG_USEC": "600000"},
            cls.dev.directory / "reload.log", lambda: answers(f"ipc://{cls.path}"))
        cls.server.wait()
        cls.dev.extra.append(cls.server)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.manager.close()

    @classmethod
    def write(cls, workers=2, more="", **changes):
        """The settings file; `changes` are of those that a running server takes."""
        settings = {"origins": FIRST, "max_peers": 100, "level": "info", "requests": "all", **changes}
        text = f"""
database:
  conninfo: {cls.dev.conninfo}
keys:
  root_key_file: {cls.dev.directory}/root.key
server:
  state_dir: {cls.dev.directory}/reload.state
transport:
  listen:
    - ipc://{cls.path}
    - ws://127.0.0.1:0/
  max_peers: {settings["max_peers"]}
http:
  origins:
    - {settings["origins"]}
limits:
  workers: {workers}
log:
  level: {settings["level"]}
  requests: {settings["requests"]}
{more}"""
        cls.file.with_suffix(".new").write_text(text)
        os.replace(cls.file.with_suffix(".new"), cls.file)

    def lines(self, event):
        return [line for line in map(json.loads, self.server.log.read_text().splitlines()) if line["event"] == event]

    def reload(self, event="reload"):
        """The line of the log about it."""
        before = len(self.lines(event))
        self.server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self.lines(event)) > before, f"no {event} in the log")
        return self.lines(event)[-1]

    def setUp(self):
        self.write()
        self.reload()

    def open(self, origin):
        port = int(self.lines("listening")[-1]["address"].rpartition(":")[2].rstrip("/"))
        connected = socket.create_connection(("127.0.0.1", port), 60)
        self.addCleanup(connected.close)
        return WebSocket(connected, "127.0.0.1", "/", Origin=origin)

    def told(self, *states):
        """Waits until these were told, in this order; others may come between."""
        for state in states:
            while state not in self.manager.recv(4096).decode().split("\n"):
                pass

    def test_settings_that_can_change_are_taken_and_named(self):
        self.open(FIRST)
        with self.assertRaises(ConnectionError):
            self.open(SECOND)
        self.write(origins=SECOND, level="debug", requests="none")
        line = self.reload()
        self.assertEqual(set(line["changed"].split(",")), {"http.origins", "log.level", "log.requests"})
        self.open(SECOND)
        with self.assertRaises(ConnectionError):
            self.open(FIRST)
        before = len(self.lines("request"))
        with Connection(f"ipc://{self.path}") as connection:
            self.assertEqual(connection.call(INFO).code, 0)
            self.write(origins=SECOND, level="debug", requests="all")
            self.assertEqual(self.reload()["changed"], "log.requests")
            self.assertEqual(len(self.lines("request")), before)
            self.assertEqual(connection.call(INFO).code, 0)
        wait_for(lambda: len(self.lines("request")) == before + 1, "requests are not logged again")

    def test_a_level_above_hides_what_is_below(self):
        self.write(level="error")
        before = len(self.lines("request"))
        self.server.process.send_signal(signal.SIGHUP)

        def quiet():
            count = len(self.lines("request"))
            with Connection(f"ipc://{self.path}") as connection:
                connection.call(INFO)
                connection.call(INFO)
            return len(self.lines("request")) == count
        wait_for(quiet, "requests are still logged")
        self.assertGreaterEqual(len(self.lines("request")), before)

    def test_a_limit_of_connections_holds_for_those_that_come(self):
        with Connection(f"ipc://{self.path}") as kept:
            self.write(max_peers=1)
            self.assertEqual(self.reload()["changed"], "transport.max_peers")
            self.assertEqual(kept.call(INFO).code, 0)
            with self.assertRaises(OSError):
                with Connection(f"ipc://{self.path}") as other:
                    other.call(INFO)
            self.assertEqual(kept.call(INFO).code, 0)
            self.write(max_peers=100)
            self.reload()
            with Connection(f"ipc://{self.path}") as other:
                self.assertEqual(other.call(INFO).code, 0)

    def test_settings_that_need_a_restart_are_named_and_left(self):
        self.write(workers=3, origins=SECOND)
        line = self.reload("reload_restart")
        self.assertEqual((line["level"], line["settings"]), ("warn", "limits.workers"))
        self.assertEqual(self.lines("reload")[-1]["changed"], "http.origins")
        self.assertEqual(self.reload("reload_restart")["settings"], "limits.workers")  # it still does

    def test_a_file_that_is_wrong_changes_nothing(self):
        for more in ("cache:\n  sise: 1MiB\n", "nothing: [\n"):
            self.write(origins=SECOND, more=more)
            line = self.reload("reload_failed")
            self.assertIn("nothing was changed", line["msg"])
            self.assertIn("reload.yaml", line["error"])
            self.open(FIRST)
        self.file.unlink()
        self.reload("reload_failed")
        self.open(FIRST)

    def test_whoever_started_the_server_is_told_how_it_is(self):
        self.told("WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1")
        self.reload()
        self.told("RELOADING=1", "READY=1")
        self.told("WATCHDOG=1")

    def test_readiness_is_told_when_calls_are_served_and_the_end_when_they_are_not(self):
        path = self.dev.directory / "abstract.sock"
        name = f"coffer-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + name)
            manager.settimeout(90)
            server = self.dev.more("abstract", NOTIFY_SOCKET=f"@{name}", COFFERD_LIMITS__WORKERS="2")
            self.dev.extra.remove(server)
            self.assertIn("READY=1", manager.recv(4096).decode().split("\n"))
            self.assertTrue(answers(f"ipc://{path}"))
            self.assertEqual(server.stop(), 0)
            self.assertIn("STOPPING=1", manager.recv(4096).decode().split("\n"))

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not there")
    def test_systemd_finds_nothing_wrong_with_the_unit(self):
        unit = pathlib.Path(self.dev.directory) / "cofferd.service"
        program = self.dev.directory / "cofferd"
        shutil.copy("/bin/true", program)
        text = (ROOT / "deploy/systemd/cofferd.service.in").read_text()
        unit.write_text(text.replace("@sbindir@", str(self.dev.directory))
                        .replace("@docdir@", "/usr/share/doc/coffer"))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
        self.assertEqual([line for line in done.stderr.splitlines() if "cofferd" in line], [])
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
