#!/usr/bin/env python3
"""`coffer run --watch`: a program begins anew when its values change, and otherwise is run as without it."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import OK, CliTest  # noqa: E402
from cofferd import PATIENCE, wait_for  # noqa: E402

NOT_RUN, NO_PROGRAM, KILLED = 125, 127, 137
LOOP = "while :; do sleep 0.02; done"


def end_all(process):
    """Ends it and the program that it runs, which nobody would end once it is gone; they are a session of their own. Of one that
    has ended the program has, too, and its number may be somebody else's."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


class Running:
    """`coffer run --watch` whose outputs are files."""

    def __init__(self, test, *arguments, **variables):
        self.out, self.err = test.file(b""), test.file(b"")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([cli.COFFER, "run", "--watch", "-e", "prod", *map(str, arguments)],
                                            env=cli.environment(test.dev, **variables), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            start_new_session=True)
        test.addCleanup(end_all, self.process)

    def lines(self):
        return self.out.read_text().splitlines()

    def expect(self, *lines):
        """Waits until this is all that came out."""
        wait_for(lambda: self.lines() == list(lines) or self.process.poll() is not None, f"{lines}, not {self.lines()}: {self.err.read_text()}")
        if self.lines() != list(lines):
            raise AssertionError(f"{lines}, not {self.lines()}: {self.err.read_text()}")
        return self

    def end(self, how=signal.SIGTERM):
        if how is not None:
            self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE), self.err.read_text()


class Follow(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.count_of_secrets = 0

    def secret(self, **values):
        """A secret of its own for each test."""
        type(self).count_of_secrets += 1
        name = f"secret{self.count_of_secrets}"
        self.change(name, **values)
        return name

    def change(self, name, **values):
        for key, value in values.items():
            self.succeed("set", f"{name}.{key}=-", "-e", "prod", "-q", stdin=value.encode())

    def test_program_begins_anew_when_a_value_changes_and_not_when_anything_else_does(self):
        name, other = self.secret(BOT="value-1", MORE="x"), self.secret(BOT="y")
        running = Running(self, "--ref", f"{name}.BOT", "--no-mask", "--", "sh", "-c", f'echo "begun $BOT"; {LOOP}').expect("begun value-1")
        self.change(other, BOT="z")
        self.change(name, MORE="another")
        self.succeed("secret", "update", name, "--description", "for people", "-e", "prod")
        self.change(name, BOT="value-1")
        self.change(name, BOT="value-2")
        running.expect("begun value-1", "begun value-2")
        self.change(name, BOT="value-3")
        running.expect("begun value-1", "begun value-2", "begun value-3")
        code, err = running.end()
        self.assertEqual(code, 128 + signal.SIGTERM)
        self.assertEqual(err, 2 * "coffer: BOT has changed; the program starts anew\n")

    def test_position_is_taken_before_the_values_are_asked_for(self):
        name, server = self.secret(BOT="value-1"), self.dev.more("position")
        code, _, err = self.run_cli("run", "--watch", "-e", "prod", "--ref", f"{name}.BOT", "--", "true", COFFER_ADDR=server.address)
        self.assertEqual((code, err), (OK, ""))
        methods = re.findall(r"(WatchSecrets|ResolveService/Resolve)", server.log.read_text())
        self.assertEqual(methods[:2], ["WatchSecrets", "ResolveService/Resolve"])

    def test_end_of_the_program_is_the_end_with_its_code_as_without_it(self):
        name = self.secret(BOT="value-1")
        for options in ([], ["--no-mask"]):
            for command, expected in ((["true"], OK), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], KILLED), (["/nowhere/program"], NO_PROGRAM)):
                code = self.run_cli("run", "--watch", "-e", "prod", "--ref", f"{name}.BOT", *options, "--", *command)[0]
                self.assertEqual(code, expected, command)

    def test_signals_reach_the_program_and_it_decides(self):
        name = self.secret(BOT="value-1")
        script = f'trap "echo got; exit 9" HUP; echo begun; {LOOP}'
        running = Running(self, "--ref", f"{name}.BOT", "--", "sh", "-c", script).expect("begun")
        self.assertEqual(running.end(signal.SIGHUP)[0], 9)
        running.expect("begun", "got")

    def test_program_that_does_not_heed_the_signal_is_killed_after_its_time(self):
        name = self.secret(BOT="value-1")
        script = f'trap "" TERM; echo "begun $BOT"; {LOOP}'
        running = Running(self, "--ref", f"{name}.BOT", "--no-mask", "--grace", "1s", "--", "sh", "-c", script).expect("begun value-1")
        self.change(name, BOT="value-2")
        running.expect("begun value-1", "begun value-2")
        self.assertEqual(running.end(signal.SIGUSR1)[0], 128 + signal.SIGUSR1)

    def test_who_ends_it_while_it_is_being_restarted_has_ended_it(self):
        name = self.secret(BOT="value-1")
        go = self.dev.directory / f"go-{name}"
        script = f'trap "echo asked; while [ ! -e {go} ]; do sleep 0.02; done; exit 5" TERM; echo begun; {LOOP}'
        running = Running(self, "--ref", f"{name}.BOT", "--", "sh", "-c", script).expect("begun")
        self.change(name, BOT="value-2")
        running.expect("begun", "asked")
        running.process.send_signal(signal.SIGTERM)
        go.touch()
        self.assertEqual(running.end(None)[0], 5)
        self.assertEqual(running.lines().count("begun"), 1)

    def test_who_has_told_it_to_end_sees_no_other_begin_however_long_it_takes(self):
        name, server = self.secret(BOT="value-1"), self.dev.more("ending")
        go = self.dev.directory / f"go-{name}"
        script = f'trap "echo asked; while [ ! -e {go} ]; do sleep 0.02; done; exit 5" TERM; echo begun; {LOOP}'
        running = Running(self, "--ref", f"{name}.BOT", "--", "sh", "-c", script, COFFER_ADDR=server.address).expect("begun")
        running.process.send_signal(signal.SIGTERM)
        running.expect("begun", "asked")
        for count in 2, 3:  # who asks once more has got the values before
            self.change(name, BOT=f"value-{count}")
            wait_for(lambda: server.log.read_text().count("ResolveService/Resolve") >= count, "the new values are asked for")
        go.touch()
        self.assertEqual(running.end(None), (5, ""))
        running.expect("begun", "asked")

    def test_what_others_write_who_have_its_output_keeps_no_program_from_beginning(self):
        name = self.secret(BOT="value-1")
        begun = self.file(b"")
        script = f'[ "$BOT" = value-2 ] || yes & echo "$BOT" >>{begun}; {LOOP}'
        process = subprocess.Popen([cli.COFFER, "run", "--watch", "-e", "prod", "--ref", f"{name}.BOT", "--", "sh", "-c", script],
                                   env=cli.environment(self.dev), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        self.addCleanup(end_all, process)
        wait_for(lambda: begun.read_text() == "value-1\n", "the program begins")
        self.change(name, BOT="value-2")
        wait_for(lambda: begun.read_text() == "value-1\nvalue-2\n", "it begins anew")

    def test_program_goes_on_with_its_values_while_there_are_no_others(self):
        name = self.secret(BOT="value-1")
        running = Running(self, "--ref", f"{name}.BOT", "--no-mask", "--", "sh", "-c", f'echo "begun $BOT"; {LOOP}').expect("begun value-1")
        self.succeed("secret", "delete", name, "-e", "prod", "--yes")
        wait_for(lambda: "the program goes on with the values that it has" in running.err.read_text(), "a note")
        running.expect("begun value-1")
        self.succeed("secret", "restore", name, "-e", "prod")
        self.change(name, BOT="value-2")
        running.expect("begun value-1", "begun value-2").end()

    def test_masks_files_and_keys_are_those_of_the_new_values(self):
        name = self.secret(BOT="first-marker", FILE="first-file")
        script = f'echo "$BOT $(cat "$AT")" "${{LATE:-none}}"; {LOOP}'
        running = Running(self, "--secret", name, "--mount", f"AT={name}.FILE", "--", "sh", "-c", script).expect("*** *** none")
        self.change(name, FILE="second-file")
        running.expect("*** *** none", "*** *** none")
        self.change(name, LATE="third-marker")
        running.expect("*** *** none", "*** *** none", "*** *** ***").end()
        self.assertNotIn("marker", running.out.read_text() + running.err.read_text())

    def test_values_are_asked_for_again_after_the_server_was_away(self):
        name = self.secret(BOT="value-1")
        running = Running(self, "--ref", f"{name}.BOT", "--no-mask", "--", "sh", "-c", f'echo "begun $BOT"; {LOOP}', COFFER_TIMEOUT="1s").expect("begun value-1")
        self.dev.server.stop()
        self.dev.start()
        self.change(name, BOT="value-2")
        running.expect("begun value-1", "begun value-2").end()

    def test_what_cannot_be_followed_is_refused_before_the_program_starts(self):
        name = self.secret(BOT="value-1")
        started = self.dev.directory / "started-unfollowed"
        once = self.dev.directory / "read-once"
        os.mkfifo(once)
        for options, token, said in ((["--grace", "1s"], None, "--grace belongs to --watch"),
                                     (["--watch", "--grace", "soon"], None, "--grace soon is no time"),
                                     (["--watch"], "executor", "secret:read"),
                                     (["--watch", "--env-file", once], None, "read-once is no file that can be read again"),
                                     (["--watch", "--set", f"X=coffer://{'0' * 8}-0000-4000-8000-{'0' * 12}/prod/{name}/BOT"], None, "")):
            code, out, err = self.run_cli("run", *options, "-e", "prod", "--ref", f"{name}.BOT", "--", "touch", started, token=token)
            self.assertEqual((code, out), (NOT_RUN, b""), err)
            self.assertIn(said, err)
        self.assertFalse(started.exists())


if __name__ == "__main__":
    unittest.main()
