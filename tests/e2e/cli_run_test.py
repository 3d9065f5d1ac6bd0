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
from cofferd import BUILD, PATIENCE, wait_for  # noqa: E402

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

    def test_exit_code_comes_back_to_a_caller_that_ignores_its_childrens_ends(self):
        done = cli.run(cli.environment(self.dev), "run", "-e", "prod", "--ref", "slack.BOT", "--", "sh", "-c", "exit 7",
                       preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.assertEqual(done, (7, b"", ""))

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

    def test_program_that_did_not_run_is_told_by_a_code_of_its_own_whatever_was_wrong(self):
        for arguments, says in ((["--ref", "slack.BOT"], "run needs -- PROGRAM"), (["--nothing"], "--nothing is no option"),
                                (["--ref", "slack.BOT", "--yes", "--", "true"], "run takes no --yes"),
                                (["-o", "nothing", "--", "true"], "--output names no form"),
                                (["--timeout", "x", "--ref", "slack.BOT", "--", "true"], "timeout")):
            code, out, err = self.run_program(*arguments)
            self.assertEqual((code, out), (NOT_RUN, b""), err)
            self.assertIn(says, err)

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
                              (["--set", "a-b=slack.BOT"], "not of the form VARIABLE=NAME.KEY"), ([], "run needs --ref, --set, --mount, --secret, --env-file or --action"),
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

    def test_signal_that_comes_when_the_program_is_gone_goes_to_nobody(self):
        late = BUILD / "tests" / "e2e" / "liblate_signal.so"
        for options in ([], ["--no-mask"]):
            done = self.run_program("--ref", "slack.BOT", *options, "--", "true", LD_PRELOAD=str(late))
            self.assertEqual(done, (OK, b"", ""))

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


class References(RunTest):
    """coffer://WORKSPACE/ENVIRONMENT/NAME/KEY says where, too."""

    def full(self, environment, reference, workspace=""):
        return f"coffer://{workspace}/{environment}/{reference.replace('.', '/')}"

    def workspace(self):
        return json.loads(self.succeed("whoami", "--json"))["serviceAccount"]["workspace"]

    def test_one_program_gets_values_of_several_places_and_all_are_masked(self):
        script = "echo $HERE $THERE $BOT $FROM_FILE; test $(printf %s $THERE | wc -c) = 9 && echo whole"
        names = self.file(f"FROM_FILE={self.full('dev', 'slack.CHANNEL')}\n".encode())
        code, out, err = self.run_program("--set", "HERE=slack.CHANNEL", "--set", f"THERE={self.full('dev', 'slack.BOT')}",
                                          "--ref", self.full("prod", "jira.BOT", self.workspace()), "--env-file", names,
                                          "--", "sh", "-c", script)
        self.assertEqual((code, out, err), (OK, b"*** *** *** ***\nwhole\n", ""))

    def test_variables_that_hold_references_are_resolved_unless_an_option_sets_them(self):
        code, out, err = self.run_cli("run", "--no-mask", "--set", "B=coffer:///prod/slack/CHANNEL", "--", "sh", "-c", "echo $A $B $C",
                                      A=self.full("dev", "slack.BOT"), B=self.full("dev", "slack.NOPE"), C="https://slack.BOT")
        self.assertEqual((code, out, err), (OK, b"dev-value ops-channel https://slack.BOT\n", ""))
        for value, said in (("coffer://slack", "the variable A is not of the form coffer://"), (self.full("dev", "slack.NOPE"), 'no key "NOPE"')):
            code, out, err = self.run_cli("run", "--", "touch", self.dev.directory / "never", A=value)
            self.assertEqual((code, out), (NOT_RUN, b""), err)
            self.assertIn(said, err)
        self.assertFalse((self.dev.directory / "never").exists())

    def test_get_takes_them_whatever_the_environment_of_the_command_is(self):
        self.assertEqual(self.succeed("get", self.full("prod", "slack.BOT"), "-e", "dev"), MARK)
        self.assertEqual(self.succeed("get", "-o", "env", self.full("prod", "slack.BOT"), "slack.CHANNEL", "-e", "dev"),
                         b"BOT='" + MARK + b"'\nCHANNEL='dev-channel'\n")

    def test_what_is_wrong_with_one_is_told(self):
        for text, said in (("coffer:///prod/slack", "not of the form coffer://"), ("coffer:///prod/slack/BOT/more", "not of the form coffer://"),
                           ("coffer:///prod/slack/BOT?version=1", "secret reveal"), ("coffer://acme/prod/slack/BOT", "is no UUID"),
                           ("coffer:////slack/BOT", "the environment in argument 1"), ("coffer:///prod/sl ack/BOT", "the name in argument 1")):
            code, out, err = self.run_cli("get", text)
            self.assertIn(code, (USAGE, REJECTED), err)
            self.assertEqual(out, b"")
            self.assertIn(said, err)
        self.assertIn("-e prod", self.run_cli("check", "coffer:///prod/slack/BOT")[2])
        code, out, err = self.run_program("--set", "A=coffer:///prod/slack/NOPE", "--set", "B=coffer:///dev/jira/BOT", "--", "true")
        self.assertEqual((code, out), (NOT_RUN, b""))
        self.assertIn('no key "NOPE"', err)
        self.assertIn('no secret "jira" in the environment "dev"', err)


class Secrets(RunTest):
    def test_every_key_of_a_secret_becomes_a_variable(self):
        code, out, err = self.run_program("--secret", "slack", "--no-mask", "--", "env")
        self.assertEqual((code, err), (OK, ""))
        variables = dict(line.split("=", 1) for line in out.decode().splitlines() if "=" in line)
        self.assertEqual({name: variables.get(name) for name in ("BOT", "CHANNEL", "PIN")},
                         {"BOT": MARK.decode(), "CHANNEL": "ops-channel", "PIN": "12"})

    def test_only_key_gets_the_name_that_is_given(self):
        self.succeed("set", "single.KEY=-", "-e", "prod", stdin=b"only-value")
        code, out, err = self.run_program("--secret", "single=GIVEN", "--no-mask", "--", "sh", "-c", "echo $GIVEN.$KEY.")
        self.assertEqual((code, out, err), (OK, b"only-value..\n", ""))

    def test_what_cannot_be_is_told_before_the_program_starts(self):
        for options, said in ((["--secret", "nope"], 'there is no secret "nope"'), (["--secret", "slack=ALL"], "slack has 3"),
                              (["--secret", "slack=a-b"], "NAME or NAME=VARIABLE"), (["--secret", "jira"], "changes what a program runs"),
                              (["--secret", "slack", "--ref", "jira.BOT"], "would come from")):
            code, out, err = self.run_program(*options, "--", "touch", self.dev.directory / "begun")
            self.assertEqual((code, out), (NOT_RUN, b""), err)
            self.assertIn(said, err)
        self.assertFalse((self.dev.directory / "begun").exists())


class Mounts(RunTest):
    def mounted(self, script, *options):
        return self.run_program("--mount", "FILE=jira.NUL", *options, "--no-mask", "--", "sh", "-c", script)

    def test_program_reads_the_exact_bytes_of_a_file_whose_path_it_is_given(self):
        code, out, err = self.mounted('case $FILE in /proc/self/fd/*) ;; *) exit 9;; esac; cat "$FILE"; cat "$FILE"')
        self.assertEqual((code, out, err), (OK, b"a\0bcd" * 2, ""))

    def test_file_is_its_users_alone_and_nobody_changes_it(self):
        code, out, err = self.mounted('stat -Lc %a "$FILE"; echo x 2>/dev/null > "$FILE" && echo written; cat "$FILE"')
        self.assertEqual((code, out), (OK, b"400\na\0bcd"), err)

    def test_file_is_on_no_disk_and_gone_with_the_program_however_it_ends(self):
        code, out, _ = self.mounted('readlink "$FILE"; kill -9 $$')
        self.assertEqual((code, out), (128 + signal.SIGKILL, b"/memfd:coffer (deleted)\n"))
        path = self.dev.directory / "pid"
        process = subprocess.Popen([cli.COFFER, "run", "-e", "prod", "--mount", "FILE=slack.BOT", "--", "sh", "-c", f"echo $$ > {path}.new; mv {path}.new {path}; exec cat"],
                                   env=cli.environment(self.dev), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for(path.exists, "the program")
        child = int(path.read_text())
        self.assertIn("/memfd:coffer (deleted)", [os.readlink(entry) for entry in pathlib.Path(f"/proc/{child}/fd").iterdir()])
        os.kill(child, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 128 + signal.SIGKILL)

    def test_files_and_variables_stand_beside_each_other_and_are_masked(self):
        code, out, err = self.run_program("--mount", "FILE=slack.BOT", "--mount", "OTHER=coffer:///dev/slack/BOT", "--set", "TOKEN=jira.BOT",
                                          "--", "sh", "-c", 'cat "$FILE" "$OTHER"; echo " $TOKEN"')
        self.assertEqual((code, out, err), (OK, b"*** ***\n", ""))
        self.assertIn("hint:", self.run_program("--mount", "slack.BOT", "--", "true")[2])


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

    def test_get_refuses_what_only_a_workflow_engine_would_evaluate(self):
        for text, said in (("${{ SECRETS.slack.BOT || }}", "does not evaluate, at column 1"), ("${{ FN.upper(SECRETS.slack.BOT) }}", "does not evaluate"),
                           ("${{ SECRETS.slack.BOT }}-${{ SECRETS.slack.PIN + 1 }}", "does not evaluate, at column 26"),
                           ("${{ TRIGGER.id }}", "no reference to a secret"), ("${{ 'a' || 'b' }}", "no reference to a secret")):
            code, out, err = self.run_cli("get", text, "-e", "prod")
            self.assertEqual((code, out), (USAGE, b""), text)
            self.assertIn(said, err)
            self.assertIn("hint: '${{ SECRETS", err)
        code, out, err = self.run_cli("get", "${{ SECRETS.slack.BOT || 'never closed }}", "-e", "prod")
        self.assertEqual((code, out), (REJECTED, b""), err)

    def test_inject_refuses_a_template_that_names_its_own_place(self):
        for text in (b"a: ${{coffer:///prod/slack/BOT}}\n", b"${{ SECRETS.slack.BOT }} ${{\n coffer:///prod/slack/BOT }}"):
            code, out, err = self.run_cli("inject", "-e", "prod", stdin=text)
            self.assertEqual((code, out), (USAGE, b""), text)
            self.assertIn("names no place", err)
        self.assertEqual(self.succeed("inject", "-e", "prod", stdin=b"see coffer:///prod/slack/BOT ${{ x }}"), b"see coffer:///prod/slack/BOT ${{ x }}")

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

    def test_reference_that_is_a_file_as_well_is_told(self):
        path = self.file(b"")
        code, _, err = self.run_cli("check", "-e", "prod", f"{path}.yaml")
        self.assertNotIn("is a file", err)
        pathlib.Path(f"{path}.yaml").touch()
        code, _, err = self.run_cli("check", "-e", "prod", f"{path}.yaml")
        self.assertIn(f"coffer: note: {path}.yaml is a file, too; --template {path}.yaml checks what it names\n", err)
        self.assertEqual(code, REJECTED)

    def test_nothing_to_check_is_a_mistake_and_nothing_needed_is_fine(self):
        self.assertEqual(self.run_cli("check")[0], USAGE)
        path = self.workflow("a: plain\n")
        code, out, err = self.run_cli("check", "--template", path)
        self.assertEqual((code, out), (OK, b""), err)
        self.assertIn("nothing is needed", err)


if __name__ == "__main__":
    unittest.main()
