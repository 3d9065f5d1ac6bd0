#!/usr/bin/env python3
"""Values for programs and files: `run`, `inject`, `check`, and expressions of `get`."""

import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import NOT_FOUND, OK, PARTIAL, REJECTED, USAGE, CliTest  # noqa: E402
from cofferd import PATIENCE  # noqa: E402

NOT_RUN, NOT_EXECUTABLE, NO_PROGRAM = 125, 126, 127
MARK = b"marker-of-run"


class RunTest(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        connection = cls.dev.connect()
        for name, environment, values in (
                ("slack", "prod", {"BOT": MARK, "CHANNEL": b"ops-channel", "PIN": b"12"}),
                ("jira", "prod", {"BOT": b"other-marker", "odd-key": b"v1234", "PATH": b"/nowhere", "NUL": b"a\0bcd"}),
                ("slack", "dev", {"BOT": b"dev-value", "CHANNEL": b"dev-channel"})):
            answer = connection.call("coffer.v1.SecretService/CreateSecret", {
                "environment": environment, "name": name,
                "values": [{"key": key, "value": value} for key, value in values.items()]}, token=cls.dev.admin)
            assert answer.code == 0, answer
        connection.close()

    def run_program(self, *arguments, **options):
        return self.run_cli("run", "-e", "prod", *arguments, **options)


class Run(RunTest):
    def test_program_gets_exactly_what_was_asked_for_and_no_token(self):
        code, out, err = self.run_program("--ref", "slack.CHANNEL", "--set", "TOKEN=jira.BOT", "--no-mask", "--", "env",
                                          COFFER_TOKEN="", INHERITED="yes", CHANNEL="before")
        self.assertEqual((code, err), (OK, ""))
        variables = dict(line.split("=", 1) for line in out.decode().splitlines())
        given = {name: variables.get(name) for name in ("CHANNEL", "TOKEN", "INHERITED")}
        self.assertEqual(given, {"CHANNEL": "ops-channel", "TOKEN": "other-marker", "INHERITED": "yes"})
        self.assertFalse({"COFFER_TOKEN", "COFFER_TOKEN_FILE", "BOT", "PIN"} & set(variables))
        self.assertEqual(out.decode().count("CHANNEL="), 1)

    def test_values_are_masked_in_both_outputs_in_every_usual_form(self):
        script = ('echo "out $BOT end"; echo "err $BOT" >&2; printf %s "$BOT" | base64; '
                  'printf %s "$BOT" | od -An -tx1 | tr -d " \\n"')
        code, out, err = self.run_program("--ref", "slack.BOT", "--", "sh", "-c", script)
        self.assertEqual(code, OK, err)
        self.assertEqual(out, b"out *** end\n***\n***")
        self.assertEqual(err, "err ***\n")

    def test_value_that_is_too_short_to_be_masked_is_told(self):
        code, out, err = self.run_program("--ref", "slack.PIN", "--", "sh", "-c", "echo $PIN")
        self.assertEqual((code, out), (OK, b"12\n"))
        self.assertEqual(err, "coffer: note: 1 value of less than 4 bytes cannot be masked\n")
        self.assertEqual(self.run_program("-q", "--ref", "slack.PIN", "--", "true"), (OK, b"", ""))

    def test_output_of_any_length_comes_through_whole_and_input_goes_in(self):
        data = os.urandom(3_000_000).replace(MARK, b"")
        code, out, err = self.run_program("--ref", "slack.BOT", "--", "cat", stdin=data)
        self.assertEqual((code, err), (OK, ""))
        self.assertEqual(out, data)

    def test_exit_code_is_that_of_the_program_or_its_signal(self):
        for options in ([], ["--no-mask"]):
            for command, expected in ((["true"], 0), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 137),
                                      (["sh", "-c", "exit 3"], 3), (["/nowhere/program"], NO_PROGRAM),
                                      ([self.file(b"no program")], NOT_EXECUTABLE)):
                self.assertEqual(self.run_program("--ref", "slack.BOT", *options, "--", *command)[0], expected, command)

    def test_program_is_not_started_without_all_of_its_values(self):
        touched = self.dev.directory / "touched"
        for references in (["slack.NOPE"], ["slack.BOT", "nope.TOKEN"]):
            options = [word for each in references for word in ("--ref", each)]
            code, _, err = self.run_program(*options, "--", "touch", touched)
            self.assertEqual(code, NOT_RUN, err)
            self.assertIn("request:", err)
        self.assertFalse(touched.exists())

    def test_program_is_not_started_if_its_workflow_lacks_something(self):
        workflow = self.file(b"a: ${{ SECRETS.slack.BOT }}\nb: ${{ SECRETS.slack.CHANEL }}\nc: ${{ SECRETS.x.Y || \"none\" }}\n")
        started = self.dev.directory / "started"
        arguments = ["--check", workflow, "--format", "yaml", "--ref", "slack.BOT", "--", "touch", started]
        code, out, err = self.run_program(*arguments)
        self.assertEqual((code, out, started.exists()), (NOT_RUN, b"", False), err)
        self.assertIn('no key "CHANEL"', err)
        self.assertIn("did you mean CHANNEL?", err)
        workflow.write_bytes(workflow.read_bytes().replace(b"CHANEL", b"CHANNEL"))
        self.assertEqual(self.run_program(*arguments)[::2], (OK, ""))
        self.assertTrue(started.exists())

    def test_file_of_variables_holds_references_and_nothing_else(self):
        names = self.file(b"# for the tests\n\nTOKEN=slack.BOT\nexport QUOTED=\"${{ SECRETS.slack.BOT }}\"  \n NAMED='slack.BOT'\n")
        code, out, err = self.run_program("--env-file", names, "--ref", "slack.BOT", "--no-mask", "--", "/usr/bin/env")
        self.assertEqual(code, OK, err)
        got = dict(line.split(b"=", 1) for line in out.splitlines() if b"=" in line)
        self.assertEqual({got[name] for name in (b"TOKEN", b"QUOTED", b"BOT")}, {got[b"TOKEN"]})
        for text, said in ((b"A=slack.BOT\nB=planted-value\n", "line 2 of "), (b"B=planted-value and.more\n", "something else than a reference"),
                           (b"nothing\n", "not of the form VARIABLE=NAME.KEY"), (b"A=slack.BOT\nA=slack.BOT\n", "would come from")):
            code, out, err = self.run_program("--env-file", self.file(text), "--", "true")
            self.assertEqual((code, out), (NOT_RUN, b""), err)
            self.assertIn(said, err)
            self.assertNotIn("planted-value", err)
        self.assertIn("cannot be read", self.run_program("--env-file", "/nowhere", "--", "true")[2])

    def test_names_that_cannot_be_or_must_not_be_are_refused_with_the_way_round(self):
        for options, text in ((["--ref", "jira.odd-key"], 'the key "odd-key" cannot be the name of a variable'),
                              (["--ref", "jira.PATH"], "the variable PATH changes what a program runs"),
                              (["--ref", "slack.BOT", "--ref", "jira.BOT"], "BOT would come from slack.BOT and from jira.BOT"),
                              (["--set", "a-b=slack.BOT"], "not of the form VARIABLE=NAME.KEY"), ([], "run needs --ref, --set, --env-file or --action"),
                              (["--ref", "nodot"], "not of the form NAME.KEY")):
            code, out, err = self.run_program(*options, "--", "true")
            self.assertEqual((code, out), (NOT_RUN, b""), err)
            self.assertIn("hint:", err)
            self.assertIn(text, err)
        code, out, _ = self.run_program("--set", "PATH=jira.PATH", "--no-mask", "--", "/usr/bin/env")
        self.assertEqual(code, OK)
        self.assertIn(b"PATH=/nowhere\n", out)
        code, _, err = self.run_program("--ref", "jira.NUL", "--", "true")
        self.assertEqual(code, NOT_RUN)
        self.assertIn("NUL byte", err)

    def test_signals_reach_the_program_and_it_decides(self):
        ready = self.dev.directory / "ready-for-signals"
        script = f'trap "echo got; exit 9" TERM; touch {ready}; while :; do sleep 0.05; done'
        variables = cli.environment(self.dev)
        process = subprocess.Popen([cli.COFFER, "run", "-e", "prod", "--ref", "slack.BOT", "--", "sh", "-c", script],
                                   env=variables, stdout=subprocess.PIPE)
        end = time.monotonic() + PATIENCE
        while not ready.exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out), (9, b"got\n"))

    def test_interrupt_of_a_terminal_ends_the_program_and_its_code_comes_back(self):
        script = 'trap "echo stopped; exit 5" INT; echo begun; while :; do sleep 0.05; done'
        terminal = self.terminal("run", "-e", "prod", "--ref", "slack.BOT", "--no-mask", "--", "sh", "-c", script)
        code, shown = terminal.expect("begun").type(b"\x03").end()
        self.assertEqual(code, 5, shown)
        self.assertEqual(shown.count("stopped"), 1)

    def test_program_whose_reader_is_gone_ends_as_it_would_without_masking(self):
        process = subprocess.Popen([cli.COFFER, "run", "-e", "prod", "--ref", "slack.BOT", "--", "yes"],
                                   env=cli.environment(self.dev), stdout=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 128 + signal.SIGPIPE)


class Inject(RunTest):
    def test_text_json_and_yaml_keep_every_other_byte(self):
        cases = (("text", "a=${{ SECRETS.slack.CHANNEL }} \t 1.10\n", "a=ops-channel \t 1.10\n"),
                 ("json", '{"n": 1.10, "c" : "x ${{ SECRETS.slack.CHANNEL }}"}', '{"n": 1.10, "c" : "x ops-channel"}'),
                 ("yaml", "# kept\nn: 1.10\nc: ${{ SECRETS.slack.CHANNEL }}\n", "# kept\nn: 1.10\nc: ops-channel\n"))
        for kind, template, expected in cases:
            out = self.succeed("inject", "-e", "prod", "--format", kind, stdin=template.encode())
            if kind == "yaml":
                out = out.replace(b'"', b"")
            self.assertEqual(out.decode(), expected)

    def test_format_is_taken_from_the_ending_of_the_file(self):
        path = self.dev.directory / "config.json"
        path.write_text('{"a": "${{ SECRETS.jira.BOT }}"}')
        self.assertEqual(json.loads(self.succeed("inject", path, "-e", "prod")), {"a": "other-marker"})
        path.write_text('{"a": ')
        code, out, err = self.run_cli("inject", path, "-e", "prod")
        self.assertEqual((code, out), (REJECTED, b""), err)
        self.assertIn(f"coffer: {path}: line 1, ", err)

    def test_file_is_for_its_owner_only_and_replaced_when_all_is_there(self):
        out = self.dev.directory / "rendered"
        out.write_text("before")
        code, _, err = self.run_cli("inject", "-e", "prod", "--out", out, stdin=b"${{ SECRETS.slack.NOPE }}")
        self.assertEqual((code, out.read_text()), (NOT_FOUND, "before"), err)
        code, shown, err = self.run_cli("inject", "-e", "prod", "--out", out, stdin=b"${{ SECRETS.slack.BOT }}")
        self.assertEqual((code, shown, out.read_bytes()), (OK, b"", MARK), err)
        self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o600)
        self.assertEqual([path.name for path in self.dev.directory.glob("rendered*")], ["rendered"])

    def test_everything_that_is_wrong_is_told_at_once_with_its_place(self):
        template = b"one ${{ SECRETS.slack.NOPE }}\ntwo ${{ SECRETS.nope.BOT }}\n"
        code, out, err = self.run_cli("inject", "-e", "prod", stdin=template)
        self.assertEqual((code, out), (NOT_FOUND, b""), err)
        self.assertIn("coffer: standard input: line 1, column 9: ", err)
        self.assertIn("coffer: standard input: line 2, column 9: ", err)
        self.assertIn("request: ", err)

    def test_text_without_references_stays_what_it_is(self):
        self.assertEqual(self.succeed("inject", stdin=b"nothing here\n"), b"nothing here\n")


class Expressions(RunTest):
    def test_get_evaluates_what_a_workflow_would(self):
        for text, expected in (("${{ SECRETS.slack.BOT }}", MARK), ("${{ SECRETS.slack.NOPE || SECRETS.jira.BOT }}", b"other-marker"),
                               ("${{ SECRETS.slack.NOPE || 'none' }}", b"none"),
                               ("Bearer ${{ SECRETS.slack.BOT }}!", b"Bearer " + MARK + b"!")):
            self.assertEqual(self.succeed("get", text, "-e", "prod"), expected, text)
        code, out, err = self.run_cli("get", "x ${{ SECRETS.slack.NOPE }}", "-e", "prod")
        self.assertEqual((code, out), (NOT_FOUND, b""), err)
        code, _, err = self.run_cli("get", "${{ SECRETS.slack }}", "-e", "prod")
        self.assertEqual(code, REJECTED, err)
        self.assertIn("argument 1: line 1", err)


class Check(RunTest):
    def workflow(self, text):
        path = self.dev.directory / "workflow.yaml"
        path.write_text(text)
        return path

    def test_template_is_checked_in_every_environment_without_a_value(self):
        path = self.workflow("a: ${{ SECRETS.slack.BOT }}\nb: ${{ SECRETS.jira.BOT }} ${{ SECRETS.slack.BOT }}\n"
                             "c: ${{ SECRETS.slack.OPT || 'x' }}\n")
        code, out, err = self.run_cli("check", "--template", path, "-e", "prod", "-e", "dev")
        self.assertEqual((code, err), (PARTIAL, ""))
        self.assertEqual([line.split("\t")[:3] for line in out.decode().splitlines()], [
            ["prod", "slack.BOT", "RESOLVED"], ["prod", "jira.BOT", "RESOLVED"], ["prod", "slack.OPT", "OPTIONAL"],
            ["dev", "slack.BOT", "RESOLVED"], ["dev", "jira.BOT", "SECRET_NOT_FOUND"], ["dev", "slack.OPT", "OPTIONAL"]])
        self.assertNotIn(MARK, out)
        self.assertEqual(self.run_cli("check", "--template", path, "-e", "prod")[0], OK)

    def test_result_as_json_says_what_is_missing_and_what_is_near(self):
        code, out, _ = self.run_cli("check", "slack.BOTT", "slack.BOT", "-e", "prod", "--json")
        self.assertEqual(code, PARTIAL)
        result = json.loads(out)
        self.assertEqual([(row["environment"], row["reference"], row["outcome"]) for row in result["references"]],
                         [("prod", "slack.BOTT", "KEY_NOT_FOUND"), ("prod", "slack.BOT", "RESOLVED")])
        self.assertIn("BOT", result["references"][0]["nearMisses"][0])
        self.assertEqual((result["wouldResolve"], result["wouldFail"]), (0, 1))

    def test_nothing_to_check_is_a_mistake_and_nothing_needed_is_fine(self):
        self.assertEqual(self.run_cli("check")[0], USAGE)
        path = self.workflow("a: plain\n")
        code, out, err = self.run_cli("check", "--template", path)
        self.assertEqual((code, out), (OK, b""), err)
        self.assertIn("nothing is needed", err)


if __name__ == "__main__":
    unittest.main()
