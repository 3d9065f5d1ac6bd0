#!/usr/bin/env python3
"""The command line against a server: what it prints, how it ends, and that it keeps values to itself.

The outputs of tests/golden/cli are compared as a whole; COFFER_GOLDEN=write writes them anew.
"""

import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import (CONFLICT, DENIED, ERROR, LIMIT, NOT_FOUND, NOT_LOGGED_IN, OK, PARTIAL, REJECTED,  # noqa: E402
                 UNAVAILABLE, USAGE, CliTest)

SYSTEM = "00000000-0000-0000-0000-000000000000"
OTHER = "00000000-0000-4000-8000-000000000000"


class Transcript(CliTest):
    """A day with it, word for word."""

    def test_secrets_from_their_creation_to_their_deletion(self):
        self.script(
            "secrets",
            (["secret", "create", "slack", "BOT=-", "-e", "golden", "--description", "of the bot"], b"xoxb-1"),
            (["secret", "create", "slack", "BOT=-", "-e", "golden"], b"xoxb-1"),
            (["secret", "show", "slack", "-e", "golden"], b""),
            (["secret", "list", "-e", "golden"], b""),
            (["get", "slack.BOT", "-e", "golden"], b""),
            (["get", "slack.BOTT", "-e", "golden"], b""),
            (["get", "slak.BOT", "-e", "golden"], b""),
            (["get", "slack.BOT", "-e", "elsewhere"], b""),
            (["resolve", "slack.BOT", "slack.BOTT", "-e", "golden", "-e", "elsewhere"], b""),
            (["resolve", "slack.BOT", "-e", "golden"], b""),
            (["set", "slack.EXTRA=-", "-e", "golden"], b"two lines\nof text\n"),
            (["env", "delete", "golden"], b""),
            (["secret", "delete", "slack", "-e", "golden"], b""),
            (["secret", "delete", "slack", "-e", "golden", "--yes"], b""),
            (["secret", "show", "slack", "-e", "golden"], b""),
            (["env", "delete", "golden"], b""))

    def test_accounts_and_tokens(self):
        self.script(
            "accounts",
            (["sa", "create", "runner", "--permission", "resolve", "--permission", "secret:read", "--env-pattern",
              "prod*", "--name-pattern", "slack"], b""),
            (["sa", "show", "runner"], b""),
            (["sa", "list"], b""),
            (["token", "issue", "runner", "--description", "first"], b""),
            (["token", "list", "runner"], b""),
            (["token", "issue", "nobody"], b""),
            (["token", "revoke"], b""),
            (["token", "revoke", OTHER], b""),
            (["sa", "create", "runner", "--permission", "resolve"], b""),
            (["sa", "create", "other"], b""),
            (["sa", "create", "other", "--permission", "fly"], b""),
            (["whoami"], b""))

    def test_mistakes_at_the_command_line(self):
        self.script(
            "mistakes",
            (["secert", "list"], b""), (["frobnicate"], b""), (["secret"], b""), (["secret", "frobnicate"], b""),
            (["secret", "create"], b""), (["secret", "list", "extra"], b""), (["get", "a.B", "c.D"], b""),
            (["get", "nodot"], b""), (["get", "a b.C"], b""), (["get", "a.B", "-e", "no good"], b""),
            (["get", "a.B", "-e", "one", "-e", "two"], b""), (["get", "a.B", "-o", "json"], b""),
            (["secret", "list", "--kind", "fleet"], b""), (["secret", "list", "--bogus=1"], b""),
            (["secret", "list", "-z"], b""), (["secret", "list", "--help=1"], b""), (["get", "a.B", "-e"], b""),
            (["set", "a.B=-", "c.D=-"], b"x"), (["set", "a.B=-", "a.C=-"], b"x"), (["set", "a.B"], b""),
            (["set", "a.B=@/nowhere/to/be/found"], b""), (["sa", "create", "x", "--kind", "y"], b""))

    def test_help_of_everything(self):
        text = "".join(self.succeed("help", *words).decode() for words in ([], ["all"], ["exit-codes"]))
        for words in (["get"], ["set"], ["secret"], ["secret", "create"], ["sa", "create"], ["token", "revoke"]):
            shown = self.succeed("help", *words)
            self.assertEqual(shown, self.succeed(*words, "--help"))
            text += shown.decode()
        self.golden("help", text)

    def test_every_command_has_help_and_is_in_the_list(self):
        listed = [line.split()[1:] for line in self.succeed("help", "all").decode().splitlines()
                  if line.startswith("coffer ")]
        self.assertGreater(len(listed), 20)
        for words in listed:
            verb = [word for word in words[:2] if word.islower()]
            self.assertIn(b"Example:\n  coffer " + verb[0].encode(), self.succeed(*verb, "-h"))

    def test_settings_that_are_wrong_and_servers_that_are_not_there(self):
        missing = {"COFFER_TOKEN_FILE": "/nowhere/token"}
        cases = [({"COFFER_ADDR": "tcp://127.0.0.1:1"}, UNAVAILABLE), ({"COFFER_ADDR": "bogus"}, USAGE),
                 (missing, USAGE), ({"COFFER_TOKEN_FILE": None}, NOT_LOGGED_IN), ({"COFFER_WORKSPACE": "acme"}, USAGE)]
        text = ""
        for variables, expected in cases:
            code, out, err = self.run_cli("whoami", **variables)
            self.assertEqual((code, out), (expected, b""), err)
            text += f"$ {variables} coffer whoami\n{err}=> {code}\n"
        self.golden("settings", text)


class Values(CliTest):
    """Bytes go in and come out as they are, and never by the command line."""

    def test_bytes_of_files_and_standard_input_come_back_exactly(self):
        samples = [b"", b"\n", b"plain", b"line\n", b"\0", b"a\0b\0", bytes(range(256)), "naïve €".encode(),
                   os.urandom(65536)]
        for number, sample in enumerate(samples):
            self.succeed("set", f"exact.K{number}=-", stdin=sample)
            self.assertEqual(self.succeed("get", f"exact.K{number}"), sample)
            self.succeed("set", f"exact.F{number}=@{self.file(sample)}", "-e", "files")
            self.assertEqual(self.succeed("get", f"exact.F{number}", "-e", "files"), sample)

    def test_value_over_the_limit_is_refused_before_it_is_sent(self):
        for argument, stdin in (("big.K=-", bytes(65537)), (f"big.K=@{self.file(bytes(65537))}", b"")):
            code, _, err = self.run_cli("set", argument, stdin=stdin)
            self.assertEqual(code, LIMIT, err)
            self.assertIn("64 KiB", err)
            self.assertNotIn("request:", err)

    def test_values_that_are_too_large_together_are_refused_by_the_server(self):
        path = self.file(bytes(65536))
        code, _, err = self.run_cli("secret", "create", "heavy", *[f"K{i}=@{path}" for i in range(5)])
        self.assertEqual(code, LIMIT, err)
        self.assertIn("request:", err)

    def test_value_on_the_command_line_is_refused_and_not_repeated(self):
        marker = "hunter2-marker"
        for arguments in (["set", f"slack.BOT={marker}"], ["secret", "create", "slack", f"BOT={marker}"],
                          ["set", "slack.BOT", marker], ["set", marker], ["set", f"{marker}="],
                          ["secret", "create", "slack", "BOT", marker], ["secret", "create", "slack", f"{marker}=="],
                          ["secret", "create", "slack", f"--value={marker}"], ["set", "slack.BOT", f"--{marker}=x"[:2]
                                                                               + f"v={marker}"]):
            code, out, err = self.run_cli(*arguments)
            self.assertEqual((code, out), (USAGE, b""), err)
            self.assertNotIn(marker, err)
            self.assertIn("hint:", err)
        self.assertEqual(self.run_cli("secret", "show", "slack")[0], NOT_FOUND)

    def test_shell_reads_values_as_variables_with_every_byte(self):
        values = {"PLAIN": b"v", "QUOTES": b"it's '\"$(x)`\\", "LINES": b"one\ntwo\n\n", "EMPTY": b"", "TEXT": "\u20ac\x01".encode()}
        for key, value in values.items():
            self.succeed("set", f"shell.{key}=-", "-e", "shell", stdin=value)
        self.succeed("set", "other.K=-", "-e", "shell", stdin=b"other")
        references = [f"shell.{key}" for key in values] + ["other.K"]
        show = "; ".join(f'printf "%s\\0" "${key}"' for key in [*values, "K"])
        for command in (["get", *references], ["secret", "reveal", "shell"]):
            assignments = self.succeed(*command, "-e", "shell", "-o", "env")
            out = subprocess.run(["sh", "-c", assignments.decode() + show], stdout=subprocess.PIPE, check=True).stdout
            self.assertEqual(out.split(b"\0")[:-2], list(values.values()))
        self.assertEqual(out.split(b"\0")[-2], b"")

    def test_what_no_variable_can_hold_is_refused_and_not_printed(self):
        for key, value in (("NUL", b"a\0b"), ("odd-key", b"v")):
            self.succeed("set", f"odd.{key}=-", "-e", "shell", stdin=value)
        for references, text in ((["odd.NUL"], "NUL byte"), (["odd.odd-key"], "cannot be the name of a variable"),
                                 (["odd.NUL", "other.NUL"], "would come from two references"), (["odd.NUL", "odd.NONE"], "NONE")):
            code, out, err = self.run_cli("get", *references, "-e", "shell", "-o", "env")
            self.assertNotEqual(code, OK)
            self.assertEqual(out, b"")
            self.assertIn(text, err)
        code, _, err = self.run_cli("secret", "list", "-o", "env")
        self.assertEqual((code, "prints no values as variables" in err), (USAGE, True))

    def test_newline_that_echo_adds_is_told(self):
        _, _, err = self.run_cli("set", "newline.K=-", stdin=b"token\n")
        self.assertIn("ends with a newline", err)
        for text in (b"token", b"-----BEGIN\n-----END\n", b""):
            self.assertNotIn("ends with", self.run_cli("set", "newline.K=-", stdin=text)[2])

    def test_set_changes_named_keys_only_and_makes_the_secret(self):
        self.succeed("set", "parts.A=-", "-e", "set", stdin=b"1")
        self.succeed("set", "parts.B=-", "-e", "set", stdin=b"2")
        self.succeed("set", "parts.A=-", "-e", "set", stdin=b"3")
        self.assertEqual(self.succeed("get", "parts.A", "-e", "set"), b"3")
        self.assertEqual(self.succeed("get", "parts.B", "-e", "set"), b"2")
        self.assertIn(b"version       3\n", self.succeed("secret", "show", "parts", "-e", "set"))

    def test_set_needs_no_right_to_read(self):
        self.succeed("sa", "create", "writer", "--permission", "secret:write", "--permission", "environment:write")
        self.succeed("token", "issue", "writer", "--out", str(self.dev.directory / "writer.token"))
        for value in (b"one", b"two"):
            self.succeed("set", "blind.K=-", stdin=value, token="writer")
        self.assertEqual(self.succeed("get", "blind.K"), b"two")
        self.assertEqual(self.run_cli("get", "blind.K", token="writer")[0], DENIED)

    def test_reference_of_a_workflow_is_taken_as_it_is(self):
        self.succeed("set", "pasted.name.KEY=-", stdin=b"v")
        self.assertEqual(self.succeed("get", "${{ SECRETS.pasted.name.KEY }}"), b"v")

    def test_output_that_cannot_be_written_is_a_failure(self):
        self.succeed("set", "full.K=-", stdin=b"v")
        for arguments in (["get", "full.K"], ["secret", "list"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([cli.COFFER, *arguments], env=cli.environment(self.dev), stdout=full,
                                      stderr=subprocess.PIPE, check=False)
            self.assertEqual(done.returncode, ERROR)
            self.assertIn(b"standard output cannot be written", done.stderr)

    def test_resolve_shows_no_value_and_takes_none_from_the_server(self):
        self.succeed("set", "dry.K=-", stdin=b"marker-of-resolve")
        code, out, err = self.run_cli("resolve", "dry.K")
        self.assertEqual((code, out, err), (OK, b"default\tdry.K\tRESOLVED\t-\n", ""))

    def test_names_that_the_server_knows_are_completed(self):
        def words(*line):
            code, out, err = cli.run(cli.environment(self.dev), "__complete", *line)
            self.assertEqual((code, err), (OK, ""))
            return [each.split("\t")[0] for each in out.decode().splitlines()]
        for environment in ("comp-a", "comp-b"):
            for key in ("KEY_ONE", "KEY_TWO"):
                self.succeed("set", f"completed.{key}=-", "-e", environment, stdin=b"v")
        self.assertEqual(words("get", "x", "-e", "comp-"), ["comp-a", "comp-b"])
        self.assertEqual(words("secret", "copy", "x", "--to-env", "comp-b"), ["comp-b"])
        self.assertEqual(words("env", "delete", "comp-a"), ["comp-a"])
        self.assertEqual(words("secret", "show", "-e", "comp-a", "comple"), ["completed"])
        self.assertEqual(words("secret", "show", "-e", "elsewhere", "comple"), [])
        self.assertEqual(words("get", "-e", "comp-b", "completed.KEY_T"), ["completed.KEY_TWO"])
        self.assertEqual(words("integration", "show", "virust"), ["virustotal"])
        self.assertEqual(words("token", "list", "adm"), ["admin"])
        self.assertEqual(words("secret", "create", "comple"), [], "what is new has no name yet")
        code, out, err = cli.run(cli.environment(self.dev, COFFER_ADDR="ipc:///nowhere", COFFER_TIMEOUT="1s"), "__complete",
                                 "secret", "show", "a")
        self.assertEqual((code, out, err), (OK, b"", ""), "a server that is not there is not told of")

    def test_list_is_an_object_a_line_where_programs_read_lines(self):
        for name in ("line-a", "line-b"):
            self.succeed("set", f"{name}.K=-", "-e", "lines", stdin=b"v")
        out = self.succeed("secret", "list", "-e", "lines", "-o", "jsonl")
        self.assertEqual([json.loads(line)["name"] for line in out.splitlines()], ["line-a", "line-b"])
        whole = json.loads(self.succeed("secret", "list", "-e", "lines", "-o", "json"))
        self.assertEqual([json.loads(line) for line in out.splitlines()], whole["secrets"])
        code, _, err = cli.run(cli.environment(self.dev), "status", "-o", "jsonl")
        self.assertEqual((code, "prints no list" in err), (USAGE, True))

    def test_fields_of_lists_are_chosen_and_told(self):
        for name in ("field-a", "field-b"):
            self.succeed("set", f"{name}.K=-", "-e", "fields", stdin=b"v")
        shown = self.succeed("secret", "list", "-e", "fields", "--fields", "version,name")
        self.assertEqual(shown, b"1\tfield-a\n1\tfield-b\n")
        whole = json.loads(self.succeed("secret", "list", "-e", "fields", "-o", "json"))
        some = json.loads(self.succeed("secret", "list", "-e", "fields", "-o", "json", "--fields", "name,version"))
        self.assertEqual(some, {"secrets": [{"name": "field-a", "version": 1}, {"name": "field-b", "version": 1}]})
        members = self.succeed("secret", "list", "-o", "json", "--fields", "help").decode().split()
        self.assertLessEqual(set(whole["secrets"][0]), set(members))
        self.assertIn(b"environment\n", self.succeed("secret", "list", "--fields", "help"))
        code, out, err = self.run_cli("secret", "list", "--fields", "name,kind")
        self.assertEqual((code, out), (USAGE, b""))
        self.assertIn('no field "kind"', err)
        self.assertIn("hint: --fields takes name, environment", err)

    def test_form_of_output_in_the_variable_counts_where_there_is_such_a_form(self):
        self.succeed("set", "form.K=-", "-e", "forms", stdin=b"v")
        for form, arguments, expected in (("env", ["get", "form.K"], b"K='v'\n"), ("raw", ["get", "form.K"], b"v"),
                                          ("env", ["secret", "list", "--fields", "name"], b"form\n"),
                                          ("jsonl", ["secret", "list", "--fields", "name"], b'{"name": "form"}\n')):
            self.assertEqual(self.succeed(*arguments, "-e", "forms", COFFER_OUTPUT=form), expected)
        self.assertIn("version", json.loads(self.succeed("status", COFFER_OUTPUT="jsonl")))
        code, _, err = self.run_cli("status", COFFER_OUTPUT="xml")
        self.assertEqual((code, "COFFER_OUTPUT names no form" in err), (USAGE, True))

    def test_status_says_for_programs_whether_the_server_is_ready(self):
        told = json.loads(self.succeed("status", "--json"))
        self.assertEqual((told["ready"], "version" in told, "limits" in told), (True, True, True))

    def test_time_for_which_a_workspace_is_served_without_the_database_is_set(self):
        self.succeed("workspace", "update", "--serve-when-database-lost", "5min")
        shown = json.loads(self.succeed("workspace", "show", "--json"))["workspace"]
        self.assertIn("300", str(shown["serveWhenDatabaseLost"]))
        self.assertIn(b"300 s", self.succeed("workspace", "show"))
        self.succeed("workspace", "update", "--serve-when-database-lost", "0s")
        self.assertNotIn(b"300 s", self.succeed("workspace", "show"))
        code, _, err = cli.run(cli.environment(self.dev), "workspace", "update", "--serve-when-database-lost", "soon")
        self.assertEqual((code, "such as 90s or 5min" in err), (USAGE, True))

    def test_lists_of_more_than_one_page_are_whole(self):
        connection = self.dev.connect()
        for i in range(1003):
            answer = connection.call("coffer.v1.EnvironmentService/CreateEnvironment", {"name": f"page{i:04}"},
                                     token=self.dev.admin)
            self.assertEqual(answer.code, 0, answer)
        connection.close()
        names = [line.split("\t")[0] for line in self.succeed("env", "list").decode().splitlines()]
        self.assertEqual([name for name in names if name.startswith("page")], [f"page{i:04}" for i in range(1003)])


class OnATerminal(CliTest):
    def test_prompt_does_not_show_the_value_and_leaves_the_terminal_as_it_was(self):
        terminal = self.terminal("set", "typed.K").expect("K (hidden): ").wait_for_echo(False)
        code, shown = terminal.type("s3cret value\n").end()
        self.assertEqual(code, OK, shown)
        self.assertNotIn("s3cret", shown)
        self.assertEqual(self.succeed("get", "typed.K"), b"s3cret value")

    def test_interrupt_at_the_prompt_brings_the_echo_back_and_sends_nothing(self):
        for key, number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)):
            terminal = self.terminal("set", "stopped.K").expect("(hidden): ").wait_for_echo(False)
            terminal.type("half").type(key)
            terminal.wait_for_echo(True)
            code, shown = terminal.end()
            self.assertEqual(code, -number, shown)
            self.assertNotIn("half", shown)
        self.assertEqual(self.run_cli("secret", "show", "stopped")[0], NOT_FOUND)

    def test_stop_at_the_prompt_shows_the_echo_and_asks_again(self):
        terminal = self.terminal("set", "again.K").expect("(hidden): ").wait_for_echo(False)
        # It leads its session, which the kernel does not stop; what it does around the stop is the same.
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.expect("(hidden): \r\nK (hidden): ").wait_for_echo(False)
        code, shown = terminal.type("after\n").end()
        self.assertEqual(code, OK, shown)
        self.assertEqual(self.succeed("get", "again.K"), b"after")

    def test_empty_line_end_of_input_and_cut_line_store_nothing(self):
        for typed, expected in (("\n", USAGE), (b"\x04", USAGE), ("x" * 5000 + "\n", LIMIT)):
            terminal = self.terminal("set", "none.K").expect("(hidden): ").wait_for_echo(False)
            code, shown = terminal.type(typed).end()
            self.assertEqual(code, expected, shown)
            self.assertIn("hint:", shown)
        self.assertEqual(self.run_cli("secret", "show", "none")[0], NOT_FOUND)

    def test_longest_line_is_taken_whole(self):
        terminal = self.terminal("set", "long.K").expect("(hidden): ").wait_for_echo(False)
        code, shown = terminal.type("y" * 4094 + "\n").end()
        self.assertEqual(code, OK, shown)
        self.assertEqual(self.succeed("get", "long.K"), b"y" * 4094)

    def test_no_question_without_a_terminal_on_both_sides(self):
        for arguments in (["set", "quiet.K"], ["secret", "delete", "quiet"]):
            code, out, err = self.run_cli(*arguments)
            self.assertEqual((code, out), (USAGE, b""))
            self.assertIn("there is no terminal to ask", err)

    def test_nobody_is_asked_who_does_not_want_to_be(self):
        for arguments, variables in ((["--no-input"], {}), ([], {"COFFER_NO_INPUT": "1"})):
            for command in (["set", "asked.K"], ["secret", "delete", "asked"]):
                code, shown = self.terminal(*command, "-e", "dev", *arguments, **variables).end()
                self.assertEqual(code, USAGE)
                self.assertIn("forbids to ask", shown)
        self.terminal("set", "asked.K", "-e", "dev", COFFER_NO_INPUT="0").expect("(hidden)").type("v\n").end()

    def test_what_takes_long_is_told_on_a_terminal_and_nowhere_else(self):
        with socket.socket(socket.AF_UNIX) as silent:
            path = self.dev.directory / "silent.sock"
            silent.bind(str(path))
            silent.listen()
            variables = {"COFFER_ADDR": f"ipc://{path}", "COFFER_TIMEOUT": "3s"}
            code, shown = self.terminal("secret", "list", **variables).end(progress=True)
            self.assertEqual(code, UNAVAILABLE)
            self.assertRegex(shown, r"\r\x1b\[Kreading the list \.\.\. \d+ s")
            self.assertRegex(shown, r"\r\x1b\[Kcoffer: ", "it is away before something else is said")
            for arguments in (["-o", "json"], ["-q"]):
                self.assertNotIn("\r", self.terminal("secret", "list", *arguments, **variables).end(progress=True)[1])
            self.assertNotIn("\r", self.run_cli("secret", "list", **variables)[2])

    def test_get_adds_a_newline_on_a_terminal_only(self):
        self.succeed("set", "plain.K=-", stdin=b"value")
        self.assertEqual(self.terminal("get", "plain.K").end(), (OK, "value\n"))
        self.assertEqual(self.terminal("get", "plain.K", "-n").end(), (OK, "value"))
        self.assertEqual(self.succeed("get", "plain.K"), b"value")

    def test_bytes_that_a_terminal_would_obey_are_kept_from_it(self):
        for number, value in enumerate((b"\x1b]0;owned\x07", b"a\0b", b"\xff\xfe", b"x\xc2\x9by", b"\x7f")):
            self.succeed("set", f"bytes.K{number}=-", stdin=value)
            code, shown = self.terminal("get", f"bytes.K{number}").end()
            self.assertEqual(code, USAGE, shown)
            self.assertIn("-o raw", shown)
            self.assertNotIn("owned", shown)
            self.assertEqual(self.terminal("get", f"bytes.K{number}", "-o", "raw", "-n").end(),
                             (OK, value.decode(errors="replace")))
        for number, value in enumerate((b"tab\tline\nend", "naïve €".encode(), b"")):
            self.succeed("set", f"text.K{number}=-", stdin=value)
            self.assertEqual(self.terminal("get", f"text.K{number}", "-n").end(), (OK, value.decode()))

    def test_descriptions_cannot_reach_the_terminal(self):
        self.succeed("set", "painted.K=-", "-e", "painted", stdin=b"v")
        connection = self.dev.connect()
        answer = connection.call("coffer.v1.SecretService/CreateSecret",
                                 {"environment": "painted", "name": "escape", "description": "\x1b[31mred\ttab\n\u009bX",
                                  "values": [{"key": "K", "value": b"v"}]}, token=self.dev.admin)
        connection.close()
        self.assertEqual(answer.code, 0, answer)
        code, shown = self.terminal("secret", "show", "escape", "-e", "painted").end()
        self.assertEqual(code, OK)
        self.assertIn("?[31mred?tab???X", shown)
        self.assertNotIn("\x1b", shown)

    def test_tables_have_headers_on_a_terminal_and_tabs_elsewhere(self):
        self.succeed("set", "shown.KEY=-", "-e", "table", stdin=b"v")
        self.succeed("set", "shown-with-a-long-name.KEY=-", "-e", "table", stdin=b"v")
        for columns in (80, 200):
            code, shown = self.terminal("secret", "list", "-e", "table", columns=columns).end()
            self.assertEqual(code, OK)
            self.golden("table", shown)
        for line in self.succeed("secret", "list", "-e", "table").decode().splitlines():
            self.assertEqual(len(line.split("\t")), 9)

    @staticmethod
    def words(text):
        return ["UUID" if re.fullmatch(r"[0-9a-f-]{36}", word) else word for word in text.split()]

    def test_messages_break_between_words_however_narrow_the_terminal_is(self):
        for arguments in (["get", "nobody.K", "-e", "nowhere"], ["frobnicate"], ["secret", "show", "größe"], ["whoami"],
                          ["get", "a.B", "--addr", "bogus"], ["secret"]):
            _, out, err = self.run_cli(*arguments)
            for columns in (60, 80, 200):
                shown = self.terminal(*arguments, columns=columns).end()[1]
                self.assertLessEqual(max(map(len, shown.splitlines())), columns)
                self.assertEqual(self.words(shown), self.words(out.decode() + err))

    def test_list_without_items_says_what_to_do_next_to_people_alone(self):
        for arguments, says in ((["secret", "list", "-e", "nothing-is-here"], "coffer set NAME.KEY"),
                                (["oauth", "list", "-e", "nothing-is-here"], "coffer oauth providers"),
                                (["registry", "list"], "coffer registry import")):
            code, shown = self.terminal(*arguments).end()
            self.assertEqual(code, OK)
            self.assertIn(says, " ".join(shown.split()))
            self.assertEqual(self.run_cli(*arguments), (OK, b"", ""))
            self.assertEqual(self.terminal(*arguments, "-q").end(), (OK, ""))

    def test_row_that_has_no_room_is_shown_line_by_line(self):
        self.succeed("set", "narrow.A_KEY_WITH_A_LONG_NAME=-", "-e", "slim", stdin=b"v")
        _, shown = self.terminal("secret", "list", "-e", "slim", columns=40).end()
        self.assertEqual([line.split() for line in shown.splitlines()][:4],
                         [["NAME", "narrow"], ["ENVIRONMENT", "slim"], ["TYPE", "custom"], ["KEYS", "A_KEY_WITH_A_LONG_NAME"]])

    def test_columns_are_those_of_the_screen_for_every_script(self):
        self.succeed("secret", "create", "first", "K=-", "-e", "width", "--tag", "日本", stdin=b"v")
        self.succeed("secret", "create", "second", "K=-", "-e", "width", "--tag", "größe", stdin=b"v")
        _, shown = self.terminal("secret", "list", "-e", "width", "--fields", "tags,version,name").end()
        self.assertEqual(shown, "TAGS   VERSION  NAME\n日本   1        first\ngröße  1        second\n")

    def test_long_lists_of_permissions_break_at_commas(self):
        code, shown = self.terminal("whoami").end()
        self.assertEqual(code, OK)
        self.golden("whoami", shown)
        self.assertLessEqual(max(len(line) for line in shown.splitlines()), 80)

    def test_delete_asks_for_the_name(self):
        self.succeed("set", "doomed.K=-", stdin=b"v")
        code, shown = self.terminal("secret", "delete", "doomed").expect("to confirm: ").type("doome\n").end()
        self.assertEqual(code, USAGE, shown)
        self.succeed("secret", "show", "doomed")
        code, shown = self.terminal("secret", "delete", "doomed").expect("to confirm: ").type("doomed\n").end()
        self.assertEqual(code, OK, shown)
        self.assertEqual(self.run_cli("secret", "show", "doomed")[0], NOT_FOUND)

    def test_no_colour_and_no_control_sequences(self):
        for arguments in (["help"], ["secret", "list"], ["frobnicate"], ["whoami"]):
            self.assertNotIn("\x1b", self.terminal(*arguments).end()[1])


class Tokens(CliTest):
    """Tokens of every kind, from their issue to their end."""

    def token(self, name, *arguments, token=None):
        path = self.dev.directory / f"{name}.token"
        self.succeed("token", "issue", name, "--out", str(path), *arguments, token=token)
        return path

    def assert_revoked(self, name):
        code, _, err = self.run_cli("whoami", token=name)
        self.assertEqual(code, NOT_LOGGED_IN, err)
        self.assertIn("TOKEN_INVALID", err)

    def test_workspace_token_is_issued_works_and_is_revoked(self):
        self.succeed("set", "shared.K=-", "-e", "prod", stdin=b"v")
        self.succeed("sa", "create", "one", "--permission", "resolve", "--env-pattern", "prod")
        path = self.token("one")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertRegex(path.read_text(), r"\Acof_ws_[0-9A-Za-z]{92}\n\Z")
        self.assertEqual(self.succeed("get", "shared.K", "-e", "prod", token="one"), b"v")
        self.assertEqual(self.run_cli("get", "shared.K", token="one")[0], DENIED)
        uid = self.succeed("token", "list", "one").decode().split("\t")[0]
        self.succeed("token", "revoke", uid)
        self.assert_revoked("one")

    def test_fleet_token_acts_where_it_may(self):
        self.succeed("set", "fleet.K=-", stdin=b"v")
        self.succeed("sa", "create", "fleet", "--kind", "fleet", "--permission", "resolve", "--for-workspace",
                     self.dev.workspace, token="system", COFFER_WORKSPACE=self.dev.workspace)
        path = self.token("fleet", "-w", "system", token="system")
        self.assertTrue(path.read_text().startswith("cof_fleet_"))
        code, _, err = self.run_cli("get", "fleet.K", token="fleet")
        self.assertEqual(code, REJECTED, err)
        self.assertIn("-w UUID", err)
        self.assertEqual(self.succeed("get", "fleet.K", "-w", self.dev.workspace, token="fleet"), b"v")
        self.assertEqual(self.run_cli("get", "fleet.K", "-w", OTHER, token="fleet")[0], DENIED)
        self.succeed("token", "revoke", "--self", token="fleet", COFFER_WORKSPACE=self.dev.workspace)
        self.assert_revoked("fleet")

    def test_system_token_makes_a_workspace_and_its_first_account(self):
        self.succeed("sa", "create", "sys", "--kind", "system", "--permission", "workspace:create", "--permission",
                     "workspace:read", "--permission", "account:write", "--permission", "token:write", token="system")
        self.assertTrue(self.token("sys", "-w", "system", token="system").read_text().startswith("cof_sys_"))
        workspace = self.succeed("workspace", "create", "acme", token="sys").decode().strip()
        self.assertIn(f"acme\t{workspace}\t", self.succeed("workspace", "list", token="sys").decode())
        self.succeed("sa", "create", "acme", "-w", workspace, "--permission", "resolve", token="sys")
        self.token("acme", "-w", workspace, token="sys")
        self.assertIn(workspace, self.succeed("whoami", token="acme").decode())
        self.assertEqual(self.run_cli("get", "x.Y", "-w", workspace, token="sys")[0], DENIED)
        self.succeed("token", "revoke", "--self", token="sys")
        self.assert_revoked("sys")

    def test_rotated_token_goes_on_for_the_overlap_and_its_successor_after_it(self):
        self.succeed("set", "rotating.K=-", "-e", "prod", stdin=b"v")
        self.succeed("sa", "create", "rotating", "--permission", "resolve")
        self.token("rotating")
        uid = self.succeed("token", "list", "rotating").decode().split("\t")[0]
        path = self.dev.directory / "successor.token"
        for overlap in ("", "h", "1", "-1h", "1 h", "1w", "99999999999999999999d"):
            code, _, err = self.run_cli("token", "rotate", uid, "--overlap", overlap, "--out", str(path))
            self.assertNotEqual(code, OK, overlap)
            self.assertFalse(path.exists())
        for words in ([], [uid], [uid, "--self", "--overlap", "1h"], ["--overlap", "1h"]):
            self.assertEqual(self.run_cli("token", "rotate", *words)[0], USAGE, words)
        code, out, err = self.run_cli("token", "rotate", uid, "--overlap", "30min", "--out", str(path))
        self.assertEqual((code, out), (OK, b""), err)
        self.assertIn(f"token {uid} works until ", err)
        self.assertNotIn("cof_", err)
        for token in ("rotating", "successor"):
            self.assertEqual(self.succeed("get", "rotating.K", "-e", "prod", token=token), b"v")
        self.assertEqual(self.run_cli("token", "rotate", uid, "--overlap", "0s")[0] == OK, False)

    def test_account_is_changed_and_the_rest_of_it_stays(self):
        self.succeed("sa", "create", "changing", "--permission", "resolve", "--env-pattern", "prod")
        self.token("changing")
        for words in ([], ["--enable", "--disable"], ["--env-pattern", "x"], ["--description", "d", "--name-pattern", "x"]):
            self.assertEqual(self.run_cli("sa", "update", "changing", *words)[0], USAGE, words)
        self.succeed("sa", "update", "changing", "--disable")
        self.assertNotEqual(self.run_cli("whoami", token="changing")[0], OK)
        shown = self.succeed("sa", "update", "changing", "--enable", "--description", "nightly", "--network", "unix",
                             "--network", "10.0.0.0/8").decode()
        for text in ("nightly", "unix, 10.0.0.0/8", "resolve", "prod"):
            self.assertIn(text, shown)
        self.assertNotIn("disabled", shown)
        shown = self.succeed("sa", "update", "changing", "--permission", "secret:read", "--network", "any").decode()
        self.assertIn("secret:read", shown)
        for text in ("resolve", "prod", "unix"):
            self.assertNotIn(text, shown)
        self.succeed("secret", "list", token="changing")
        self.assertEqual(self.run_cli("sa", "update", "changing", "--network", "10.0.0.1/8")[0] == OK, False)

    def test_account_is_deleted_after_its_name_was_said_and_its_tokens_end(self):
        self.succeed("sa", "create", "leaving", "--permission", "resolve")
        self.token("leaving")
        self.assertNotEqual(self.run_cli("sa", "delete", "leaving")[0], OK)
        self.succeed("whoami", token="leaving")
        self.succeed("sa", "delete", "leaving", "-y")
        self.assert_revoked("leaving")
        self.assertEqual(self.run_cli("sa", "show", "leaving")[0], NOT_FOUND)

    def test_token_is_on_standard_output_alone_or_in_the_file_alone(self):
        self.succeed("sa", "create", "shown", "--permission", "resolve")
        code, out, err = self.run_cli("token", "issue", "shown")
        self.assertEqual(code, OK)
        self.assertRegex(out.decode(), r"\Acof_ws_[0-9A-Za-z]{92}\n\Z")
        self.assertNotIn("cof_", err)
        path = self.dev.directory / "alone.token"
        code, out, err = self.run_cli("token", "issue", "shown", "--out", str(path))
        self.assertEqual((code, out), (OK, b""))
        self.assertNotIn("cof_", err)
        self.assertNotIn("cof_", self.succeed("token", "list", "shown").decode())

    def test_narrowed_token_is_made_without_a_server_and_resolves_what_it_is_narrowed_to(self):
        for environment in ("prod", "dev"):
            for name in ("slack", "aws_a"):
                self.succeed("set", f"{name}.K=-", "-e", f"narrow-{environment}", stdin=b"v")
        nowhere = {"COFFER_ADDR": "ipc:///nowhere/to/be/found.sock"}
        path = self.dev.directory / "narrowed.token"
        words = ["token", "narrow", "--env-pattern", "narrow-prod", "--name-pattern", "slack*", "--expires", "1h"]
        code, out, err = self.run_cli(*words, "--out", str(path), token="executor", **nowhere)
        self.assertEqual((code, out), (OK, b""), err)
        self.assertNotIn("cof_", err)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(self.succeed("get", "slack.K", "-e", "narrow-prod", token="narrowed"), b"v")
        for reference, environment in (("aws_a.K", "narrow-prod"), ("slack.K", "narrow-dev")):
            self.assertEqual(self.run_cli("get", reference, "-e", environment, token="narrowed")[0], DENIED)
        self.assertEqual(self.run_cli("whoami", token="narrowed")[0], DENIED)
        # Again, to standard output, in the workspace that -w names and for a run that the command line is none of.
        out = self.succeed("token", "narrow", "-w", self.dev.workspace, token="narrowed", **nowhere)
        self.assertRegex(out.decode(), r"\Acof_n_[0-9A-Za-z_-]+\n\Z")
        self.dev.directory.joinpath("again.token").write_bytes(out)
        self.assertEqual(self.succeed("get", "slack.K", "-e", "narrow-prod", token="again"), b"v")
        out = self.succeed("token", "narrow", "--run", "r", "--workflow", "w", "--json", token="narrowed", **nowhere)
        self.dev.directory.joinpath("run.token").write_text(json.loads(out)["token"])
        self.assertEqual(self.run_cli("get", "slack.K", "-e", "narrow-prod", token="run")[0], DENIED)
        mine = self.file(b"mine")
        for words, expected, said in (([], REJECTED, "would not be narrowed by anything"),
                                      (["--env-pattern", "a b"], REJECTED, "environments[0]"),
                                      (["--name-pattern", "a*b"], REJECTED, "names[0]"),
                                      (["-w", "system"], REJECTED, "workspace is no UUID"),
                                      (["--workflow", "w"], REJECTED, "a system token cannot be narrowed"),
                                      (["--run", ""], REJECTED, "run_id is empty"),
                                      (["--run", "r" * 257], REJECTED, "run_id"),
                                      (["--expires", "never"], USAGE, "does not narrow"),
                                      (["--expires", "1970-01-01"], USAGE, "does not narrow"),
                                      (["--expires", "soon"], USAGE, "--expires is no time"),
                                      (["--run", "r", "--out", str(mine)], ERROR, "cannot be made")):
            token = "system" if "--workflow" in words else "executor"
            code, out, err = self.run_cli("token", "narrow", *words, token=token, **nowhere)
            self.assertEqual((code, out), (expected, b""), (words, err))
            self.assertIn(said, err)
            self.assertNotIn("cof_", err)
        self.assertEqual(mine.read_bytes(), b"mine")
        code, _, err = cli.run({**cli.environment(self.dev), "COFFER_TOKEN_FILE": ""}, "token", "narrow", "--run", "r")
        self.assertEqual(code, NOT_LOGGED_IN, err)
        self.assertIn("there is no token to narrow", err)

    def test_no_token_is_issued_that_has_nowhere_to_go(self):
        self.succeed("sa", "create", "careful", "--permission", "resolve")
        taken = self.file(b"mine")
        for path in (taken, self.dev.directory / "no" / "folder"):
            code, _, err = self.run_cli("token", "issue", "careful", "--out", str(path))
            self.assertEqual(code, ERROR)
            self.assertIn("no token was issued", err)
        self.assertEqual(taken.read_bytes(), b"mine")
        self.assertEqual(self.succeed("token", "list", "careful"), b"")
        path = self.dev.directory / "unused.token"
        self.assertEqual(self.run_cli("token", "issue", "nobody", "--out", str(path))[0], NOT_FOUND)
        self.assertFalse(path.exists())

    def test_revoking_needs_a_word_for_the_token_in_use(self):
        self.assertEqual(self.run_cli("token", "revoke")[0], USAGE)
        self.assertEqual(self.run_cli("token", "revoke", "--self", OTHER)[0], USAGE)
        self.succeed("whoami")


if __name__ == "__main__":
    unittest.main()
