#!/usr/bin/env python3
"""Help, the man page and completion, which all come from the tables of commands and options."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import ROOT  # noqa: E402

sys.path.insert(0, str(ROOT / ".ci"))

import tree  # noqa: E402

COMMANDS = [(row[0], row[1], row[5].split(" | "), row[6]) for row in tree.table("client/cli/commands.def", "COMMAND")]
OPTIONS = {row[0]: row[2] for row in tree.table("client/cli/options.def", "OPTION")}
HOME = tempfile.TemporaryDirectory(prefix="coffer-test-")  # shells leave things there
VARIABLES = {"PATH": f"{cli.COFFER.parent}:{os.environ['PATH']}", "HOME": HOME.name, "LANG": "C.UTF-8",
             **{name: os.environ[name] for name in ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")
                if name in os.environ}}


def output(*command):
    done = subprocess.run([str(word) for word in command], env=VARIABLES, capture_output=True, text=True, timeout=120,
                          check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def coffer(*arguments):
    return output(cli.COFFER, *arguments)


def words(*line):
    return [each.split("\t")[0] for each in coffer("__complete", *line).splitlines()]


class Pages(unittest.TestCase):
    def test_help_of_each_command_has_all_of_its_options_and_no_others(self):
        everywhere = [name for row, name in OPTIONS.items() if list(OPTIONS).index(row) < list(OPTIONS).index("ENV")]
        self.assertIn("cacert", everywhere)
        for group, verb, taken, about in COMMANDS:
            text = coffer("help", *filter(None, (group, verb)))
            shown = set(re.findall(r"^  (?:-\w, )?--([\w-]+)", text.split("Options of every")[0], re.MULTILINE))
            self.assertEqual(shown, {OPTIONS[name] for name in taken if name in OPTIONS}, (group, verb))
            self.assertIn(" ".join(f"--{name}" for name in everywhere), text)
            self.assertIn(about, text)
            # Of an option with several meanings there is one.
            for line in re.findall(r"^  (?:-\w, )?--.*", text, re.MULTILINE):
                self.assertNotIn(line[28:].split(": ")[0], {row[0] for row in COMMANDS}, line)

    def test_man_page_has_every_command_and_groff_finds_no_fault_in_it(self):
        page = coffer("help", "man")
        done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8"], input=page, capture_output=True, text=True,
                              check=True)
        self.assertEqual(done.stderr, "")
        shown = subprocess.run(["groff", "-man", "-Tutf8", "-P-cbou"], input=page, capture_output=True, text=True,
                               check=True).stdout
        text = " ".join(shown.split()).replace("‐", "-").replace("- ", "-")
        for group, verb, _, _ in COMMANDS:
            self.assertIn(f"coffer {group} {verb}".strip(), text)
        for name in OPTIONS.values():
            self.assertIn("\\-\\-" + name.replace("-", "\\-"), page)

    def test_help_fits_the_terminal(self):
        environment = {**VARIABLES, "COFFER_ADDR": "ipc:///nowhere"}
        for columns in (72, 80, 200):
            for arguments in ([], ["help", "all"], ["help", "secret", "update"], ["help", "sa", "create"]):
                code, shown = cli.Terminal(environment, *arguments, columns=columns).end()
                self.assertEqual(code, 0)
                self.assertLessEqual(max(len(line) for line in shown.splitlines() if "coffer " not in line), columns)


    def test_topics_are_listed_told_and_completed(self):
        topics = [row[0] for row in tree.table("client/cli/topics.def", "TOPIC")]
        self.assertGreaterEqual(set(topics), {"configuration", "environments", "expressions", "tokens", "output", "values"})
        listed = coffer("help")
        for name, about, text in tree.table("client/cli/topics.def", "TOPIC"):
            self.assertRegex(listed, rf"(?m)^  {name} +{about}$")
            told = coffer("help", name)
            self.assertTrue(told.startswith(f"{name}: {about}\n\n"), told)
            self.assertIn(name, words("help", name[:3]))
            for columns in (72, 200):
                code, shown = cli.Terminal(VARIABLES, "help", name, columns=columns).end()
                self.assertEqual(code, 0)
                long = [line for line in shown.splitlines() if len(line) > columns and not line.startswith(" ")]
                self.assertEqual(long, [])
        self.assertNotIn(" configuration", coffer("help", "secret"))

    def test_group_is_told_with_all_of_its_verbs_beside_its_topic_or_its_own_command(self):
        for group, beginning in (("secret", "coffer secret create "), ("oauth", "oauth: "), ("config", "coffer config\n")):
            told = coffer("help", group)
            self.assertTrue(told.startswith(beginning), told)
            for row in tree.table("client/cli/commands.def", "COMMAND"):
                if row[0] == group and row[1]:
                    self.assertRegex(told, rf"(?m)^coffer {group} {row[1]}\b")
            self.assertTrue(told.endswith(f"\ncoffer help {group} VERB tells more about one of them.\n"), told)

    def test_word_that_is_no_command_is_met_with_the_one_that_was_meant_or_with_none(self):
        for words_, says in (
                (["usage", "slack"], 'there is no such command; did you mean "secret usage"?\n  hint: coffer help secret usage\n'),
                (["delete", "slack"], "there is no such command\n  hint: coffer help lists them\n"),
                (["secret", "creat"], 'secret has no such verb; did you mean "secret create"?\n  hint: coffer help secret\n'),
                (["get", "a.B", "--envv", "x"], "--envv is no option; did you mean --env?\n  hint: coffer help get\n"),
                (["get", "a.B", "--xyz"], "--xyz is no option, or the beginning of several\n  hint: coffer help get\n")):
            self.assertEqual(cli.run(VARIABLES, *words_), (2, b"", "coffer: " + says), words_)

    def test_commands_and_options_that_topics_and_hints_name_are_there(self):
        hints = [row[2] for row in tree.table("client/cli/hints.def", "HINT")]
        text = " ".join(hints + [coffer("help", row[0]) for row in tree.table("client/cli/topics.def", "TOPIC")])
        self.assertLessEqual(set(re.findall(r"--([a-z][a-z-]+)", " ".join(hints))), set(OPTIONS.values()))
        known = {" ".join(filter(None, (group, verb))) for group, verb, _, _ in COMMANDS}
        groups = {group for group, _, _, _ in COMMANDS}
        for first, second in re.findall(r"coffer ([a-z]+)(?: ([a-z][a-z-]*))?", text):
            self.assertTrue(first in known or f"{first} {second}" in known, (first, second, groups))


class Completion(unittest.TestCase):
    def test_commands_verbs_and_options_are_completed_from_the_tables(self):
        self.assertEqual(words("se"), ["set", "secret"])
        self.assertEqual(set(words("")), {group for group, _, _, _ in COMMANDS})
        self.assertEqual(words("secret", ""), [verb for group, verb, _, _ in COMMANDS if group == "secret"])
        self.assertEqual(words("-w", "x", "--json", "token", "ro"), ["rotate"])
        for group, verb, taken, _ in COMMANDS:
            offered = words(*filter(None, (group, verb)), "--")
            for name in taken:
                if name in OPTIONS:
                    self.assertIn(f"--{OPTIONS[name]}", offered, (group, verb))

    def test_arguments_of_options_are_completed_where_they_are_known(self):
        self.assertEqual(words("secret", "create", "x", "--type", "s"), ["ssh_key"])
        self.assertEqual(words("secret", "create", "x", "--type", "=", "s"), ["ssh_key"])
        self.assertEqual(words("token", "issue", "x", "--out", ""), [":files"])
        self.assertIn("secret:reveal", words("sa", "create", "x", "--permission", "secret:"))
        self.assertEqual(words("completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(words("run", "--ref", "a.B", "--", "x"), [":files"])
        self.assertEqual(words("secret", "create", "x", "KEY"), [])

    def test_scripts_work_in_their_shells(self):
        bash = 'source <(coffer completion bash); COMP_WORDS=(coffer secret re); COMP_CWORD=2; _coffer; printf "%s\\n" "${COMPREPLY[@]}"'
        zsh = ("compdef() { :; }; _describe() { print -l -- ${(P)4%%:*}; }; source <(coffer completion zsh); "
               "words=(coffer secret re); CURRENT=3; _coffer")
        fish = 'coffer completion fish | source; complete -C "coffer secret re" | string split -f 1 \\t'
        expected = ["rename", "restore", "reveal"]
        self.assertEqual(sorted(output("bash", "--norc", "-c", bash).split()), expected)
        self.assertEqual(sorted(output("fish", "--no-config", "-c", fish).split()), expected)
        self.assertEqual(sorted(output("zsh", "-f", "-c", zsh).split()), expected)

    def test_script_of_zsh_completes_at_once_where_zsh_loads_it_itself(self):
        script = ("compdef() { :; }; _describe() { print -l -- ${(P)4%%:*}; }; words=(coffer secret re); CURRENT=3; "
                  'd=$(mktemp -d); coffer completion zsh >$d/_coffer; fpath=($d); autoload -U _coffer; _coffer; rm -r $d')
        self.assertEqual(sorted(output("zsh", "-f", "-c", script).split()), ["rename", "restore", "reveal"])

    def test_completion_of_files_and_of_permissions_in_bash(self):
        script = ('source <(coffer completion bash); cd /usr; COMP_WORDS=(coffer inject inclu); COMP_CWORD=2; _coffer; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        self.assertEqual(output("bash", "--norc", "-c", script), "include\n")


if __name__ == "__main__":
    unittest.main()
