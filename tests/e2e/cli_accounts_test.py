#!/usr/bin/env python3
"""Accounts, tokens and settings at the command line: grants in their compact form, ends, networks, profiles."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cli import CONFLICT, DENIED, NOT_FOUND, OK, USAGE, CliTest  # noqa: E402


class AccountsTest(CliTest):
    def rows(self, *arguments):
        return [line.split("\t") for line in self.succeed(*arguments).decode().splitlines()]

    def json(self, *arguments):
        return json.loads(self.succeed(*arguments, "--json"))

    def token(self, account, *options):
        path = self.dev.directory / f"{account}.token"
        path.unlink(missing_ok=True)
        self.succeed("token", "issue", account, "--out", str(path), *options)
        return account


class Workspaces(AccountsTest):
    def administrator(self, name, *permissions):
        rights = [word for right in ("workspace:create", "workspace:read", "workspace:write", *permissions) for word in ("--permission", right)]
        self.succeed("sa", "create", name, "--kind", "system", *rights, token="system")
        self.succeed("token", "issue", name, "-w", "system", "--out", self.dev.directory / f"{name}.token", token="system")
        return name

    def test_workspace_is_changed_disabled_deleted_and_restored(self):
        token = self.administrator("keeper", "account:write", "token:write")
        uid = self.succeed("workspace", "create", "lifelong", "--display-name", "Life Ltd", "--strict", token=token).decode().strip()
        self.succeed("sa", "create", "tenant", "-w", uid, "--permission", "workspace:read", "--permission", "workspace:write",
                     token=token)
        self.succeed("token", "issue", "tenant", "-w", uid, "--out", self.dev.directory / "tenant.token", token=token)

        def told(*which, **options):
            return json.loads(self.succeed("workspace", "show", *which, "-o", "json", **options))["workspace"]
        own = told(token="tenant")
        self.assertEqual((own["uid"], own["displayName"], own["strictEnvironments"], own["state"]),
                         (uid, "Life Ltd", True, "WORKSPACE_STATE_ACTIVE"))
        self.assertEqual(told("lifelong", token=token), own)
        self.succeed("workspace", "update", "--no-strict", "--display-name", "Life Inc", "--if-etag", own["etag"], token="tenant")
        self.assertEqual(self.run_cli("workspace", "update", "--strict", "--if-etag", own["etag"], token="tenant")[0], CONFLICT)
        self.assertEqual((told(token="tenant")["displayName"], told(token="tenant")["strictEnvironments"]), ("Life Inc", False))
        self.succeed("workspace", "disable", "lifelong", token=token)
        self.assertEqual(self.run_cli("workspace", "show", token="tenant")[0], CONFLICT)
        self.assertEqual(told(uid, token=token)["state"], "WORKSPACE_STATE_DISABLED")
        self.succeed("workspace", "enable", uid, token=token)
        self.assertEqual(self.run_cli("workspace", "delete", "lifelong", token=token)[0], USAGE, "nobody confirmed")
        self.succeed("workspace", "delete", "lifelong", "--yes", token=token)
        self.assertNotIn(uid, self.succeed("workspace", "list", token=token).decode())
        self.assertIn(f"lifelong\t{uid}\t", self.succeed("workspace", "list", "--deleted", "--prefix", "life", token=token).decode())
        self.assertEqual(self.run_cli("workspace", "show", token="tenant")[0], NOT_FOUND)
        self.succeed("workspace", "restore", "lifelong", token=token)
        self.assertEqual(told(token="tenant")["uid"], uid)
        self.assertEqual(self.run_cli("workspace", "show", "nobody", token=token)[0], NOT_FOUND)

    def test_deleting_a_workspace_wants_its_name_typed(self):
        token = self.administrator("careful")
        self.succeed("workspace", "create", "typed", token=token)
        code, shown = self.terminal("workspace", "delete", "typed", token=token).expect("to confirm").type("other\n").end()
        self.assertEqual(code, USAGE, shown)
        code, shown = self.terminal("workspace", "delete", "typed", token=token).expect("to confirm").type("typed\n").end()
        self.assertEqual(code, OK, shown)
        self.assertIn("coffer workspace restore", shown)


class Grants(AccountsTest):
    def test_rule_says_what_in_which_environments_and_for_which_names(self):
        self.succeed("sa", "create", "ruled", "--grant", "resolve,secret:read@prod,dev*/slack,jira*", "--grant", "account:read")
        shown = self.succeed("sa", "show", "ruled").decode()
        self.assertIn("may           resolve, secret:read\n  envs        prod, dev*\n  names       slack, jira*\n"
                      "may           account:read\n", shown)
        rules = self.json("sa", "show", "ruled")["serviceAccount"]["grants"]
        self.assertEqual(rules, [
            {"permissions": ["resolve", "secret:read"], "environments": ["prod", "dev*"], "names": ["slack", "jira*"],
             "workspaces": []},
            {"permissions": ["account:read"], "environments": [], "names": [], "workspaces": []}])

    def test_compact_rule_limits_as_the_long_options_do(self):
        self.succeed("set", "limited.K=-", "-e", "prod", stdin=b"v")
        self.succeed("set", "limited.K=-", "-e", "dev", stdin=b"v")
        self.succeed("sa", "create", "compact", "--grant", "resolve@prod/limited")
        self.succeed("sa", "create", "long", "--permission", "resolve", "--env-pattern", "prod", "--name-pattern", "limited")
        for name in ("compact", "long"):
            self.token(name)
            self.assertEqual(self.succeed("get", "limited.K", "-e", "prod", token=name), b"v")
            self.assertEqual(self.run_cli("get", "limited.K", "-e", "dev", token=name)[0], DENIED)

    def test_rules_that_are_not_written_as_they_must_be_are_refused(self):
        for words in (["--grant", ""], ["--grant", "@prod"], ["--grant", "resolve@"], ["--grant", "resolve,"],
                      ["--grant", "resolve,,secret:read"], ["--grant", "resolve/a@prod"], ["--grant", "resolve@a@b"],
                      ["--grant", "resolve", "--permission", "resolve"], ["--env-pattern", "prod"], []):
            code, out, err = self.run_cli("sa", "create", "wrong", *words)
            self.assertEqual((code, out), (USAGE, b""), err)
            self.assertIn("hint:", err)
        code, _, err = self.run_cli("sa", "create", "wrong", "--grant", "fly@prod")
        self.assertNotEqual(code, OK)
        self.assertIn("request:", err)
        self.assertEqual(self.run_cli("sa", "show", "wrong")[0], NOT_FOUND)

    def test_token_is_restricted_by_a_rule_of_its_own(self):
        self.succeed("set", "narrow.K=-", "-e", "prod", stdin=b"v")
        self.succeed("sa", "create", "wide", "--grant", "resolve,secret:read")
        self.token("wide", "--grant", "resolve@prod", "--expires", "1h")
        self.assertEqual(self.succeed("get", "narrow.K", "-e", "prod", token="wide"), b"v")
        self.assertEqual(self.run_cli("secret", "show", "narrow", "-e", "prod", token="wide")[0], DENIED)
        shown = self.succeed("whoami", token="wide").decode()
        self.assertIn("  only        resolve\n  envs        prod\n", shown)

    def test_account_is_made_with_networks_and_an_end_and_both_change(self):
        self.succeed("sa", "create", "bound", "--grant", "resolve", "--network", "unix", "--expires", "2099-06-30")
        account = self.json("sa", "show", "bound")["serviceAccount"]
        self.assertEqual((account["networks"], account["expireTime"]), (["unix"], "2099-06-30T00:00:00Z"))
        self.succeed("sa", "update", "bound", "--expires", "2098-01-01T10:00:00Z", "--network", "any")
        account = self.json("sa", "show", "bound")["serviceAccount"]
        self.assertEqual((account["networks"], account["expireTime"]), ([], "2098-01-01T10:00:00Z"))
        self.succeed("sa", "update", "bound", "--expires", "never")
        self.assertNotIn("expireTime", self.json("sa", "show", "bound")["serviceAccount"])


class Lists(AccountsTest):
    def test_tokens_are_listed_with_their_state_and_last_use(self):
        self.succeed("sa", "create", "listed", "--grant", "resolve")
        self.succeed("token", "issue", "listed", "--description", "one", "-q")
        self.succeed("token", "issue", "listed", "--description", "two", "--expires", "1h", "-q")
        first = next(row for row in self.rows("token", "list", "listed") if row[5] == "one")
        self.succeed("token", "revoke", first[0])
        self.assertEqual({(row[3], row[4], row[5]) for row in self.rows("token", "list", "listed")},
                         {("never", "revoked", "one"), ("never", "active", "two")})
        self.assertEqual([row[5] for row in self.rows("token", "list", "listed", "--active")], ["two"])
        self.assertEqual([row[5] for row in self.rows("token", "list", "listed", "--active", "--expiring", "1d")], ["two"])
        self.assertEqual(self.rows("token", "list", "listed", "--active", "--expiring", "60s"), [])

    def test_rotated_token_is_shown_as_that(self):
        self.succeed("sa", "create", "turning", "--grant", "resolve")
        self.succeed("token", "issue", "turning", "-q")
        self.succeed("token", "rotate", self.rows("token", "list", "turning")[0][0], "--overlap", "1h", "-q")
        self.assertEqual(sorted(row[4] for row in self.rows("token", "list", "turning")), ["active", "rotated"])

    def test_deleted_account_is_listed_on_request_and_shown_by_its_uid(self):
        self.succeed("sa", "create", "gone", "--grant", "resolve")
        uid = self.json("sa", "show", "gone")["serviceAccount"]["uid"]
        self.succeed("sa", "delete", "gone", "--yes")
        self.assertNotIn("gone", [row[0] for row in self.rows("sa", "list")])
        self.assertIn(("gone", "deleted"), [(row[0], row[5]) for row in self.rows("sa", "list", "--deleted")])
        self.assertIn("state         deleted", self.succeed("sa", "show", "--uid", uid).decode())
        self.assertEqual(self.run_cli("sa", "show")[0], USAGE)


class TokensAsJson(AccountsTest):
    def test_new_token_is_in_the_answer_or_in_the_file_and_never_in_both(self):
        self.succeed("sa", "create", "machine", "--grant", "resolve")
        issued = self.json("token", "issue", "machine")
        self.assertRegex(issued["secretText"], r"\Acof_ws_[0-9A-Za-z]{92}\Z")
        path = self.dev.directory / "machine.token"
        issued = self.json("token", "issue", "machine", "--out", str(path))
        self.assertEqual(issued["secretText"], "")
        self.assertRegex(path.read_text(), r"\Acof_ws_[0-9A-Za-z]{92}\n\Z")
        listed = self.succeed("token", "list", "machine", "--json").decode()
        self.assertNotIn("cof_", listed)


class Profiles(AccountsTest):
    def config(self, text, mode=0o600):
        folder = self.dev.directory / f"config{CliTest.count}"
        CliTest.count += 1
        folder.mkdir()
        (folder / "config").write_text(text)
        (folder / "config").chmod(mode)
        return {"COFFER_CONFIG_DIR": folder, "COFFER_ADDR": None, "COFFER_TOKEN_FILE": None}

    def whole(self, mode=0o600):
        return self.config(f"# my servers\nprofile = here\n\n[here]\naddr = {self.dev.ipc}\n"
                           f"token-file = {self.dev.directory}/admin.token\nenvironment = prod\n\n[other]\n"
                           f"addr = ipc:///nowhere/at/all\n", mode)

    def test_profile_says_server_token_and_environment(self):
        variables = self.whole()
        self.succeed("set", "profiled.K=-", "-e", "prod", stdin=b"v")
        self.assertEqual(self.succeed("get", "profiled.K", **variables), b"v")
        self.assertEqual(self.run_cli("get", "profiled.K", "-e", "dev", **variables)[0], NOT_FOUND)
        code, _, err = self.run_cli("whoami", "--profile", "other", **variables, COFFER_TIMEOUT="1s")
        self.assertNotEqual(code, OK, err)

    def test_config_says_where_each_setting_comes_from(self):
        variables = self.whole()
        rows = {row[0]: row[1:] for row in
                [line.split("\t") for line in self.succeed("config", "-w", "system", **variables).decode().splitlines()]}
        place = f"profile here in {variables['COFFER_CONFIG_DIR']}/config"
        self.assertEqual({name: rows[name] for name in ("addr", "token-file", "workspace", "environment")}, {"addr": [self.dev.ipc, place],
                                "token-file": [f"{self.dev.directory}/admin.token", place],
                                "workspace": ["system", "-w"], "environment": ["prod", place]})
        rows = self.succeed("config", COFFER_TOKEN="cof_ws_hidden", COFFER_TOKEN_FILE=None, COFFER_CONFIG_DIR="/nowhere")
        self.assertIn(b"token\t(not shown)\tCOFFER_TOKEN\n", rows)
        self.assertNotIn(b"cof_ws_hidden", rows)

    def test_token_of_a_profile_goes_to_its_own_server_only(self):
        code, _, err = self.run_cli("whoami", **{**self.whole(), "COFFER_ADDR": "ipc:///somewhere/else"})
        self.assertEqual(code, USAGE, err)
        self.assertIn("is not sent to ipc:///somewhere/else", err)

    def test_file_that_others_may_write_and_token_that_others_may_read_are_refused(self):
        code, _, err = self.run_cli("whoami", **self.whole(0o622))
        self.assertEqual(code, USAGE, err)
        self.assertIn("could be written by others", err)
        token = self.dev.directory / "open.token"
        token.write_bytes((self.dev.directory / "admin.token").read_bytes())
        token.chmod(0o644)
        code, _, err = self.run_cli("whoami", **self.config(
            f"profile = here\n[here]\naddr = {self.dev.ipc}\ntoken-file = {token}\n"))
        self.assertEqual(code, USAGE, err)
        self.assertIn("can be read by others", err)

    def test_mistakes_in_the_file_name_their_line(self):
        for text, line, what in (("profile = a\n[a]\nadress = x\n", 3, "no such setting"), ("[a]\nx\n", 2, "neither"),
                                 ("addr = x\n", 1, "above the sections"),
                                 ("profile = a\n[a]\naddr = x\naddr = y\n", 4, "stands twice")):
            code, _, err = self.run_cli("whoami", **self.config(text))
            self.assertEqual(code, USAGE, err)
            self.assertIn(f"config:{line}: ", err)
            self.assertIn(what, err)
        code, _, err = self.run_cli("whoami", "--profile", "missing", **self.whole())
        self.assertEqual(code, USAGE, err)
        self.assertIn("there is no profile missing", err)

    def test_no_file_is_no_mistake_and_help_needs_none(self):
        self.succeed("whoami", COFFER_CONFIG_DIR="/nowhere")
        self.succeed("help", **self.config("nonsense"))


if __name__ == "__main__":
    unittest.main()
