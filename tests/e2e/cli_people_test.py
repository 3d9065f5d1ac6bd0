#!/usr/bin/env python3
"""What people do with `coffer` before they work with it: they log in, set things up, ask what is wrong, and look around."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import (CONFLICT, NOT_FOUND, NOT_LOGGED_IN, OK, UNAVAILABLE, USAGE, CliTest)  # noqa: E402


class PeopleTest(CliTest):
    def setUp(self):
        CliTest.count += 1
        self.home = self.dev.directory / f"home{CliTest.count}"
        self.home.mkdir()
        self.folder = self.home
        self.config = self.home / ".config" / "coffer" / "config"

    def variables(self, **more):
        """A person without any setting but a home folder."""
        return {**cli.environment(self.dev, COFFER_ADDR=None, COFFER_TOKEN_FILE=None, HOME=self.home),
                **{name: str(value) for name, value in more.items()}}

    def coffer(self, *arguments, stdin=b"", **more):
        return cli.run(self.variables(**more), *arguments, stdin=stdin, cwd=self.folder)

    def works(self, *arguments, **options):
        code, out, err = self.coffer(*arguments, **options)
        self.assertEqual(code, OK, err)
        return out.decode()

    def fails(self, expected, *arguments, says, **options):
        code, out, err = self.coffer(*arguments, **options)
        self.assertEqual(code, expected, err)
        self.assertIn(says, err)
        self.assertEqual(out, b"")
        return err

    def settings(self, *arguments, **options):
        """{setting: (value, where it comes from)}"""
        rows = [line.split("\t") for line in self.works("config", *arguments, **options).splitlines()]
        return {name: (value, source) for name, value, source in rows}

    def log_in(self, *arguments, token="admin", **options):
        return self.works("login", "--addr", self.dev.ipc, *arguments,
                          stdin=(self.dev.directory / f"{token}.token").read_bytes(), **options)


class Login(PeopleTest):
    def test_login_stores_the_token_for_its_owner_alone_and_makes_the_profile(self):
        self.log_in("-e", "prod")
        token = self.home / ".local" / "state" / "coffer" / "default.token"
        self.assertEqual(token.read_bytes().strip(), self.dev.admin)
        self.assertEqual((token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777), (0o600, 0o700))
        self.assertEqual(self.config.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.config.read_text(), f"profile = default\n\n[default]\naddr = {self.dev.ipc}\n"
                                                  f"token-file = {token}\nenvironment = prod\n")
        self.assertIn("admin", self.works("whoami"))
        self.works("set", "logged.K=-", stdin=b"v")
        self.assertEqual(self.works("get", "logged.K", "-e", "prod"), "v")

    def test_several_profiles_stand_beside_each_other_and_the_first_is_used(self):
        self.log_in("--profile", "work")
        self.log_in("--profile", "boss", token="system")
        self.assertIn("dev", self.works("workspace", "list", "--profile", "boss"))
        self.assertEqual([line.split("\t")[:3] for line in self.works("config", "profiles").splitlines()],
                         [["work", "yes", self.dev.ipc], ["boss", "-", self.dev.ipc]])
        self.works("config", "use", "boss")
        self.assertIn("dev", self.works("workspace", "list"))
        self.fails(NOT_FOUND, "config", "use", "nobody", says="no profile nobody")

    def test_token_that_does_not_work_is_not_stored(self):
        for token, says in ((b"", "no token"), (b"nonsense\n", "TOKEN_MALFORMED"), (self.dev.admin[:-4] + b"0000", "TOKEN_")):
            err = self.fails(USAGE if token == b"" else NOT_LOGGED_IN, "login", "--addr", self.dev.ipc, stdin=token, says=says)
            self.assertNotIn(token.decode() or "cof_", err)
            self.assertFalse(self.config.exists())
        self.fails(UNAVAILABLE, "login", "--addr", "ipc:///nowhere", stdin=self.dev.admin, says="coffer doctor")
        self.assertEqual(list(self.home.rglob("*.token")), [])

    def test_token_is_asked_for_without_being_shown(self):
        terminal = cli.Terminal(self.variables(), "login", "--addr", self.dev.ipc).expect("(hidden)").wait_for_echo(False)
        code, shown = terminal.type(self.dev.admin + b"\n").end()
        self.assertEqual(code, OK, shown)
        self.assertNotIn(self.dev.admin.decode(), shown)
        self.assertIn("logged in as admin", shown)
        self.works("whoami")

    def test_logout_removes_the_token_and_leaves_the_rest(self):
        self.log_in()
        self.works("logout")
        self.assertEqual(list(self.home.rglob("*.token")), [])
        self.fails(NOT_LOGGED_IN, "whoami", says="coffer login")
        self.fails(NOT_FOUND, "logout", says="no token")
        self.assertEqual(self.settings()["addr"][0], self.dev.ipc)

    def test_variables_that_win_over_what_is_stored_are_told(self):
        token = (self.dev.directory / "system.token").read_text().strip()
        code, _, err = self.coffer("login", "--addr", self.dev.ipc, stdin=self.dev.admin, COFFER_TOKEN=token)
        self.assertEqual(code, OK, err)
        self.assertIn("COFFER_TOKEN is set and wins", err)
        self.assertIn("logged in as admin", err)


class Config(PeopleTest):
    def test_each_setting_comes_from_the_strongest_that_has_it(self):
        self.config.parent.mkdir(parents=True)
        self.config.write_text(f"profile = one\n[one]\naddr = {self.dev.ipc}\nenvironment = from-profile\ntls-server-name = a.example\n")
        self.assertEqual(self.settings()["environment"], ("from-profile", f"profile one in {self.config}"))
        self.folder = self.home / "project" / "deep" / "down"
        self.folder.mkdir(parents=True)
        project = self.home / "project" / ".coffer.yaml"
        project.write_text("# ours\nenvironment: 'from-project' # all of us\n\n")
        self.assertEqual(self.settings()["environment"], ("from-project", str(project)))
        self.assertEqual(self.settings(COFFER_ENVIRONMENT="from-variable")["environment"], ("from-variable", "COFFER_ENVIRONMENT"))
        self.assertEqual(self.settings("-e", "from-option", COFFER_ENVIRONMENT="x")["environment"], ("from-option", "-e"))
        self.assertEqual(self.settings()["tls-server-name"], ("a.example", f"profile one in {self.config}"))
        self.assertEqual(self.settings()["workspace"], ("the token's own", "built in"))
        self.assertEqual(self.works("config", "get", "environment"), "from-project\n")
        self.fails(NOT_FOUND, "config", "get", "cacert", says="nothing is said")

    def test_environment_and_workspace_of_the_project_are_used(self):
        self.log_in()
        self.works("set", "projected.K=-", "-e", "theirs", stdin=b"v")
        self.folder = self.home / "p"
        self.folder.mkdir()
        (self.folder / ".coffer.yaml").write_text(f"---\nworkspace: {self.dev.workspace}\nenvironment: \"theirs\"\nprofile: default\n")
        self.assertEqual(self.works("get", "projected.K"), "v")
        (self.folder / ".coffer.yaml").write_text("workspace: 00000000-0000-4000-8000-000000000000\n")
        self.assertNotEqual(self.coffer("get", "projected.K", "-e", "theirs")[0], OK)

    def test_project_chooses_no_server_and_no_token(self):
        self.log_in()
        self.folder = self.home / "p"
        self.folder.mkdir()
        for line in ("addr: tcp://127.0.0.1:1", "token: cof_ws_x", "token-file: /x", "cacert: /x", "nonsense", "- profile: default",
                     "environment: [a]", "environment:", "environment: a\nenvironment: b", " environment: a", "environment: |\n  a"):
            (self.folder / ".coffer.yaml").write_text(line + "\n")
            self.fails(USAGE, "whoami", says=f"{self.folder}/.coffer.yaml:")
        (self.folder / ".coffer.yaml").write_text("environment: prod\n")
        (self.folder / ".coffer.yaml").chmod(0o666)
        self.fails(USAGE, "whoami", says="everybody may write it")
        (self.folder / ".coffer.yaml").write_text("profile: nobody\n")
        (self.folder / ".coffer.yaml").chmod(0o644)
        self.fails(USAGE, "whoami", says="there is no profile nobody")

    def test_settings_are_written_and_taken_away_and_everything_else_stays(self):
        self.config.parent.mkdir(parents=True)
        before = "# mine\nprofile = one\n\n[one]\n# the server\naddr = ipc:///a\n\n[two]\naddr=ipc:///b\n"
        self.config.write_text(before)
        self.works("config", "set", "environment", "prod")
        self.works("config", "set", "addr", "ipc:///c", "--profile", "two")
        self.works("config", "set", "workspace", "system", "--profile", "three")
        self.assertEqual(self.config.read_text(),
                         "# mine\nprofile = one\n\n[one]\n# the server\naddr = ipc:///a\nenvironment = prod\n\n"
                         "[two]\naddr = ipc:///c\n\n[three]\nworkspace = system\n")
        self.works("config", "unset", "environment")
        self.assertEqual(self.settings()["environment"], ("default", "built in"))
        self.assertEqual(self.works("config", "path"), f"{self.config}\n")

    def test_settings_that_cannot_be_are_not_written(self):
        for name, value, says in (("addr", "foo", "no transport"), ("timeout", "3", "with its unit"), ("workspace", "acme", "UUID"),
                                  ("environment", "a b", "environment"), ("token", "cof_ws_x", "coffer login"), ("adr", "x", "no setting"),
                                  ("cacert", "a\nb", "one line"), ("cacert", "", "one line")):
            self.fails(USAGE, "config", "set", name, value, says=says)
        self.fails(USAGE, "config", "set", "addr", "ipc:///a", "--profile", "../x", says="profile's name")
        self.assertFalse(self.config.exists())
        self.fails(USAGE, "config", "lst", says='did you mean "config list"')

    def test_files_of_a_profile_go_with_its_address_alone(self):
        """Another server gets neither the token nor the client's certificate of a profile."""
        self.config.parent.mkdir(parents=True)
        self.config.write_text(f"profile = one\n[one]\naddr = {self.dev.ipc}\ncacert = ~/ca.pem\nclient-cert = /c.pem\n")
        self.assertEqual(self.settings()["cacert"][0], "~/ca.pem")
        self.assertEqual(self.settings("--addr", "ipc:///elsewhere")["cacert"], ("those of the system", "built in"))
        self.assertEqual(self.settings("--addr", "ipc:///elsewhere", "--client-cert", "/d")["client-cert"], ("/d", "--client-cert"))

    def test_settings_are_told_as_json(self):
        self.log_in()
        rows = json.loads(self.works("config", "-o", "json"))["settings"]
        self.assertEqual(rows[1], {"setting": "addr", "value": self.dev.ipc, "from": f"profile default in {self.config}"})
        self.assertEqual(json.loads(self.works("config", "get", "addr", "-o", "json"))["addr"][0]["value"], self.dev.ipc)


if __name__ == "__main__":
    unittest.main()
