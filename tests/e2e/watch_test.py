#!/usr/bin/env python3
"""`coffer secret watch`: lines as changes happen, over servers that come and go."""

import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import PATIENCE, wait_for  # noqa: E402


class Watching:
    """A watch whose output is a pipe."""

    def __init__(self, variables, *arguments):
        self.process = subprocess.Popen([cli.COFFER, "secret", "watch", *arguments], env=variables,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.rest = b""

    def line(self):
        """The next line, as an object."""
        end = time.monotonic() + PATIENCE
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no line came; {self.rest!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(self.process.stderr.read())
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)


class Watch(cli.CliTest):
    @contextlib.contextmanager
    def watching(self, *arguments, **variables):
        """Begins, and makes sure that it has: changes of the secret `begun` are told until then."""
        watch = Watching(cli.environment(self.dev, **variables), *arguments)
        try:
            if "--from" not in arguments:
                self.begin(watch)
            yield watch
        finally:
            watch.end()

    def begin(self, watch):
        def told():
            self.succeed("set", "begun.KEY=-", "-e", self.place, stdin=os.urandom(4).hex().encode())
            return watch.rest or select.select([watch.process.stdout], [], [], 0.2)[0]
        wait_for(told, "the watch begins")
        last = self.shown("begun")["version"]
        while watch.line()["version"] < last:
            pass

    def setUp(self):
        self.place = self.id().rpartition(".")[2][:60].replace("_", "-")

    def shown(self, name):
        return json.loads(self.succeed("secret", "show", name, "-e", self.place, "--json"))["secret"]

    def make(self, name, **options):
        self.succeed("secret", "create", name, "KEY=-", "-e", self.place, stdin=b"planted value", **options)

    def test_each_change_is_a_line_of_json_without_values(self):
        with self.watching("-e", self.place) as watch:
            self.make("a")
            line = watch.line()
            self.assertEqual((line["kind"], line["environment"], line["name"], line["version"], line["uid"]),
                             ("CREATED", self.place, "a", 1, self.shown("a")["uid"]))
            self.assertNotIn("planted", json.dumps(line))
            self.succeed("secret", "rename", "a", "b", "-e", self.place)
            line = watch.line()
            self.assertEqual((line["kind"], line["name"], line["oldName"]), ("RENAMED", "b", "a"))
            self.succeed("secret", "delete", "b", "-e", self.place, "--yes")
            self.assertEqual(watch.line()["kind"], "DELETED")

    def test_watch_goes_on_from_a_token_as_if_it_had_never_ended(self):
        with self.watching("-e", self.place) as watch:
            self.make("first")
            token = watch.line()["resumeToken"]
        for name in ("second", "third"):
            self.make(name)
        with self.watching("-e", self.place, "--prefix", "t", "--from", token) as watch:
            self.assertEqual(watch.line()["name"], "third")
        code, _, error = self.run_cli("secret", "watch", "--from", token[:-1])
        self.assertEqual(code, cli.REJECTED, error)

    def test_watch_survives_the_end_of_its_server_and_a_time_without_any(self):
        first, second = self.dev.more("first"), self.dev.more("second")
        with self.watching("-e", self.place, COFFER_ADDR=f"{first.address},{second.address}") as watch:
            first.stop()
            self.make("on-the-other")
            self.assertEqual(watch.line()["name"], "on-the-other")
            second.stop()
            self.make("without-any")
            again = self.dev.more("first")
            self.assertEqual(watch.line()["name"], "without-any")
            self.make("back", COFFER_ADDR=again.address)
            self.assertEqual(watch.line()["name"], "back")

    def test_watch_that_cannot_begin_or_may_not_is_a_failure_at_once(self):
        code, out, _ = self.run_cli("secret", "watch", COFFER_ADDR="ipc:///nowhere/coffer.sock")
        self.assertEqual((code, out), (cli.UNAVAILABLE, b""))
        code, out, error = self.run_cli("secret", "watch", token="executor")
        self.assertEqual((code, out), (cli.DENIED, b""), error)

    def test_terminal_gets_a_line_for_people(self):
        with self.watching("-e", self.place) as watch:
            self.make("seen")
            token = watch.line()["resumeToken"]
        self.succeed("secret", "rename", "seen", "renamed", "-e", self.place)
        terminal = self.terminal("secret", "watch", "-e", self.place, "--from", token)
        terminal.expect(f"{self.place}/renamed  renamed from seen, version 1")
        terminal.process.terminate()
        terminal.end()


if __name__ == "__main__":
    unittest.main(verbosity=2)
