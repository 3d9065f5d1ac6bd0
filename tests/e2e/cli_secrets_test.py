#!/usr/bin/env python3
"""The life of secrets at the command line: types, changes, versions, environments, and values that are shown."""

import json
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cli import CONFLICT, DENIED, NOT_FOUND, OK, REJECTED, USAGE, CliTest  # noqa: E402


class SecretsTest(CliTest):
    def rows(self, *arguments, **options):
        return [line.split("\t") for line in self.succeed(*arguments, **options).decode().splitlines()]

    def json(self, *arguments, **options):
        return json.loads(self.succeed(*arguments, "--json", **options))

    def set(self, reference, value, environment="default"):
        self.succeed("set", f"{reference}=-", "-e", environment, stdin=value)


class Transcript(SecretsTest):
    def test_secret_through_all_of_its_life(self):
        e = ["-e", "life"]
        self.script(
            "life",
            (["secret", "create", "slack", "BOT=-", "--tag", "chat", "--tag", "bot", "--expires", "2099-01-31", *e], b"1"),
            (["secret", "update", "slack", "BOT=-", *e], b"22"),
            (["secret", "update", "slack", "EXTRA=-", "--if-version", "1", *e], b"x"),
            (["secret", "update", "slack", "EXTRA=-", "--if-version", "2", *e], b"x"),
            (["secret", "update", "slack", "--remove", "EXTRA", *e], b""),
            (["secret", "update", "slack", "--remove", "EXTRA", *e], b""),
            (["secret", "update", "slack", "NEW=-", "--replace", *e], b"y"),
            (["secret", "update", "slack", "--description", "of the bot", "--no-tags", "--block-when-expired", *e], b""),
            (["secret", "update", "slack", "--description", "late", "--if-etag", "1-1", *e], b""),
            (["secret", "update", "slack", "--expires", "never", "--no-block-when-expired", *e], b""),
            (["secret", "versions", "slack", *e], b""),
            (["secret", "rollback", "slack", "2", *e], b""),
            (["secret", "rollback", "slack", "99", *e], b""),
            (["secret", "destroy-version", "slack", "1", *e], b""),
            (["secret", "destroy-version", "slack", "1", "--yes", *e], b""),
            (["secret", "rollback", "slack", "1", *e], b""),
            (["secret", "rename", "slack", "slack-bot", *e], b""),
            (["secret", "copy", "slack-bot", "--to-env", "life2", *e], b""),
            (["secret", "copy", "slack-bot", "--to-env", "life2", *e], b""),
            (["secret", "copy", "slack-bot", "--to-env", "life2", "--overwrite", *e], b""),
            (["secret", "copy", "slack-bot", *e], b""),
            (["secret", "compare", "life", "life2"], b""),
            (["secret", "delete", "slack-bot", "--yes", *e], b""),
            (["secret", "list", *e], b""),
            (["secret", "list", "--deleted", *e], b""),
            (["secret", "restore", "slack-bot", *e], b""),
            (["secret", "restore", "slack-bot", *e], b""))

    def test_mistakes_in_changes(self):
        u = ["secret", "update", "slack"]
        self.script(
            "life_mistakes",
            (u, b""), ([*u, "A=-", "--description", "x"], b"v"), ([*u, "--tag", "a", "--no-tags"], b""),
            ([*u, "A=-", "--replace", "--remove", "B"], b"v"), ([*u, "A=-", "--if-etag", "1-1"], b"v"),
            ([*u, "A=-", "--if-version", "0"], b"v"), ([*u, "--expires", "tomorrow"], b""),
            ([*u, "--expires", "2027-02-30"], b""), (["secret", "create", "slack", "--type", "password", "A=-"], b"v"),
            (["secret", "create", "slack"], b""), (["secret", "create", "slack", "--file", "A"], b""),
            (["secret", "rollback", "slack", "two"], b""), (["secret", "reveal", "slack"], b""),
            (["secret", "updat", "slack"], b""), (["secret", "list", "--prefx", "a"], b""))


class Questions(SecretsTest):
    """On a terminal, where values are asked for and questions are put."""

    def refused(self, code, says, *arguments):
        ended, shown = self.terminal(*arguments, columns=200).end()
        self.assertEqual(ended, code, shown)
        self.assertIn(says, shown)
        self.assertNotIn("(hidden)", shown)

    def test_nobody_types_a_value_for_what_cannot_be(self):
        for code, says, *arguments in (
                (REJECTED, "the name in argument 1", "secret", "create", "bad name", "KEY"),
                (REJECTED, "the key in argument 3", "secret", "create", "name", "KEY", "1KEY"),
                (REJECTED, "the key in argument 2", "secret", "update", "name", "bad key"),
                (REJECTED, "the name in argument 1", "set", "bad name.KEY"),
                (USAGE, "--type is none", "secret", "create", "name", "KEY", "--type", "none"),
                (USAGE, "--expires is no time", "secret", "create", "name", "KEY", "--expires", "never ever"),
                (USAGE, "--if-version is no number", "secret", "update", "name", "KEY", "--if-version", "x"),
                (USAGE, "needs the client's ID", "oauth", "configure", "github", "CLIENT_SECRET"),
                (USAGE, "names no credential", "oauth", "rotate", "github", "PASSWORD"),
                (USAGE, "names no token", "oauth", "set-tokens", "github", "TOKEN"),
                (USAGE, "names no token", "oauth", "register", "linear_mcp", "TOKEN")):
            self.refused(code, says, *arguments)

    def test_question_before_a_loss_says_what_is_lost(self):
        for what, name, *arguments in (
                ("drops the tokens of the connection of github for prod.", "github", "oauth", "disconnect", "github", "-e", "prod"),
                ("deletes the connection of github for all environments.", "github", "oauth", "delete", "github"),
                ("deletes the action.", "tools.x", "registry", "delete", "tools.x")):
            terminal = self.terminal(*arguments, columns=200)
            code, shown = terminal.expect(f'This {what} Type "{name}" to confirm: ').type("no\n").end()
            self.assertEqual((code, shown.splitlines()[-1]), (USAGE, f'coffer: that is not "{name}"; nothing is done'))

    def test_terminal_gets_a_newline_where_there_is_none(self):
        for value in (b"text", b"text\n"):
            self.set("newline.KEY", value)
            self.assertEqual(self.terminal("get", "newline.KEY").end(), (OK, "text\n"))


class Types(SecretsTest):
    def key(self):
        self.count_keys = getattr(self, "count_keys", 0) + 1
        path = self.dev.directory / f"id{id(self)}{self.count_keys}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
        return path

    def test_ssh_key_is_stored_from_its_file_and_shows_its_fingerprint(self):
        path = self.key()
        known = subprocess.run(["ssh-keygen", "-l", "-f", path], check=True, capture_output=True, text=True).stdout
        self.succeed("secret", "create", "jump", "--type", "ssh_key", "--file", f"PRIVATE_KEY={path}", "-e", "types")
        shown = self.succeed("secret", "show", "jump", "-e", "types").decode()
        self.assertIn(f"fingerprint   {known.split()[1]}\n", shown)
        self.assertIn("key type      ed25519, 256 bits\n", shown)
        self.assertIn("type          ssh_key\n", shown)
        self.assertEqual(self.json("secret", "show", "jump", "-e", "types")["secret"]["facts"]["fingerprint"],
                         known.split()[1])

    def test_key_of_a_structured_secret_rotates_in_place(self):
        first, second = self.key(), self.key()
        self.succeed("secret", "create", "turning", "--type", "ssh_key", "--file", f"PRIVATE_KEY={first}")
        before = self.json("secret", "show", "turning")["secret"]
        self.succeed("secret", "update", "turning", "--file", f"PRIVATE_KEY={second}")
        after = self.json("secret", "show", "turning")["secret"]
        self.assertEqual(after["type"], "SECRET_TYPE_SSH_KEY")
        self.assertEqual(after["uid"], before["uid"])
        self.assertNotEqual(after["facts"]["fingerprint"], before["facts"]["fingerprint"])

    def test_text_that_is_no_key_is_refused_with_what_to_do(self):
        code, _, err = self.run_cli("secret", "create", "wrong", "--type", "ssh_key", "PRIVATE_KEY=-", stdin=b"no key")
        self.assertEqual(code, REJECTED, err)
        self.assertIn("PRIVATE_KEY", err)
        self.assertIn("request:", err)
        self.assertNotIn("no key\n", err)

    def test_expired_certificate_is_stored_with_a_warning_and_its_facts_are_shown(self):
        key, certificate = self.dev.directory / "ca.key", self.dev.directory / "ca.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", self.dev.directory / "unused.pem", "-subj", "/CN=unused"],
                       check=True, capture_output=True)
        subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", "/CN=old.example", "-out",
                        self.dev.directory / "ca.csr"], check=True, capture_output=True)
        subprocess.run(["openssl", "x509", "-req", "-in", self.dev.directory / "ca.csr", "-signkey", key, "-days", "-1",
                        "-out", certificate], check=True, capture_output=True)
        code, out, err = self.run_cli("secret", "create", "old", "--type", "ca_cert", "--file",
                                      f"CA_CERTIFICATE={certificate}", "-e", "types")
        self.assertEqual((code, out), (OK, b""), err)
        self.assertIn("coffer: warning: ", err)
        self.assertIn("expired", err)
        shown = self.succeed("secret", "show", "old", "-e", "types").decode()
        self.assertRegex(shown, r"subject       .*old\.example")
        self.assertIn("certificates  1\n", shown)
        self.assertRegex(shown, r"valid until   \d{4}-")


class Lists(SecretsTest):
    def test_filters_narrow_a_list_each_in_its_way(self):
        for name, environment, tag in (("app-one", "la", "red"), ("app-two", "lb", "blue"), ("other", "la", "red")):
            self.succeed("secret", "create", name, "K=-", "-e", environment, "--tag", tag, stdin=b"v")
        names = lambda *options: [row[0] for row in self.rows("secret", "list", *options)]  # noqa: E731
        self.assertEqual(names("-e", "la", "-e", "lb"), ["app-one", "app-two", "other"])
        self.assertEqual(names("-e", "la"), ["app-one", "other"])
        self.assertEqual(names("--prefix", "app-"), ["app-one", "app-two"])
        self.assertEqual(names("--tag", "blue"), ["app-two"])
        self.assertEqual(names("--tag", "blue", "--tag", "red", "--prefix", "o"), ["other"])
        self.assertEqual(names("--type", "ssh_key", "-e", "la"), [])
        self.succeed("secret", "delete", "other", "-e", "la", "--yes")
        self.assertEqual(names("-e", "la"), ["app-one"])
        rows = self.rows("secret", "list", "-e", "la", "--deleted")
        self.assertEqual([(row[0], row[8]) for row in rows], [("app-one", "-"), ("other", "deleted")])

    def test_list_as_json_is_one_object_over_all_pages(self):
        connection = self.dev.connect()
        for i in range(1002):
            answer = connection.call("coffer.v1.EnvironmentService/CreateEnvironment", {"name": f"many{i:04}"},
                                     token=self.dev.admin)
            self.assertEqual(answer.code, 0, answer)
        connection.close()
        names = [each["name"] for each in self.json("env", "list")["environments"]]
        self.assertEqual([name for name in names if name.startswith("many")], [f"many{i:04}" for i in range(1002)])

    def test_empty_list_as_json_is_an_empty_list(self):
        self.assertEqual(self.json("secret", "list", "-e", "nothing-is-here"), {"secrets": []})

    def test_columns_without_content_are_left_out_on_a_terminal_and_wide_ones_cut(self):
        self.succeed("secret", "create", "n" * 20, f"{'K' * 60}=-", "-e", "wide", "--tag", "t" * 60, stdin=b"v")
        _, shown = self.terminal("secret", "list", "-e", "wide", columns=80).end()
        self.assertEqual(shown.splitlines()[0].split(), ["NAME", "ENVIRONMENT", "TYPE", "KEYS", "VERSION", "UPDATED",
                                                         "TAGS"])
        self.assertLessEqual(max(len(line) for line in shown.splitlines()), 80)
        self.assertIn("K..", shown)
        self.assertIn("t..", shown)
        self.assertIn("n" * 20 + "  wide", shown, "names stay whole")
        _, shown = self.terminal("secret", "list", "-e", "wide", columns=300).end()
        for letter in "Kt":
            self.assertIn(letter * 60, shown)


class Environments(SecretsTest):
    def test_compare_tells_what_is_the_same_what_differs_and_what_is_missing(self):
        for environment, value in (("one", b"1"), ("two", b"2")):
            self.set("same.K", b"equal", environment)
            self.set("differs.K", value, environment)
            self.set("differs.L", b"equal", environment)
            self.set(f"only-{environment}.K", b"x", environment)
        self.assertEqual(self.rows("secret", "compare", "one", "two"), [
            ["differs", "-", "changed"], ["differs", "K", "changed"], ["differs", "L", "same"],
            ["only-one", "-", "only in the first"], ["only-two", "-", "only in the second"], ["same", "-", "same"]])
        self.assertEqual(self.rows("secret", "compare", "one", "two", "--prefix", "same"), [["same", "-", "same"]])

    def test_copy_to_an_environment_takes_values_and_says_where_they_are(self):
        self.set("moving.K", b"v", "from")
        code, out, err = self.run_cli("secret", "copy", "moving", "-e", "from", "--to-env", "to", "--to-name", "moved")
        self.assertEqual((code, out, err), (OK, b"", "moved: copied; now in to, version 1, 1 key\n"))
        self.assertEqual(self.succeed("get", "moved.K", "-e", "to"), b"v")


class Diff(SecretsTest):
    def test_two_versions_are_compared_key_by_key_without_a_value(self):
        at = ["-e", "diff"]
        self.succeed("secret", "create", "differs", "A=-", "--file", f"B={self.file(b'planted-1')}", *at, stdin=b"same")
        self.succeed("secret", "update", "differs", "B=-", "--file", f"C={self.file(b'planted-2')}", *at, stdin=b"planted-3")
        self.succeed("secret", "update", "differs", "--remove", "A", *at)
        self.assertEqual(self.rows("secret", "diff", "differs", "1", "2", *at), [["A", "same"], ["B", "changed"], ["C", "added"]])
        self.assertEqual(self.rows("secret", "diff", "differs", "1", *at), [["A", "removed"], ["B", "changed"], ["C", "added"]])
        told = self.json("secret", "diff", "differs", "3", "2", *at)
        self.assertEqual((told["version"], told["otherVersion"], told["difference"]), (3, 2, "DIFFERENCE_CHANGED"))
        self.assertEqual({key["key"]: key["difference"] for key in told["keys"]},
                         {"A": "DIFFERENCE_ONLY_THERE", "B": "DIFFERENCE_SAME", "C": "DIFFERENCE_SAME"})
        code, _, err = self.run_cli("secret", "diff", "differs", "2", "2", *at)
        self.assertEqual((code, err), (OK, "differs: from version 2 to 2, which are the same\n"))
        self.assertEqual(self.run_cli("secret", "diff", "differs", "9", *at)[0], NOT_FOUND)
        self.assertEqual(self.run_cli("secret", "diff", "differs", "one", *at)[0], USAGE)
        self.assertEqual(self.run_cli("secret", "diff", "differs", *at)[0], USAGE)


class Reveal(SecretsTest):
    def test_old_version_comes_out_byte_for_byte_and_is_recorded(self):
        self.set("shown.K", b"\x00old\xff")
        self.set("shown.K", b"new")
        self.assertEqual(self.succeed("secret", "reveal", "shown", "K", "--version", "1"), b"\x00old\xff")
        self.assertEqual(self.succeed("secret", "reveal", "shown", "K"), b"new")

    def test_values_as_json_are_texts_or_base64(self):
        self.set("mixed.A", b"tab\tquote\" \x1b[31m")
        self.set("mixed.B", b"\xff\x00")
        revealed = self.json("secret", "reveal", "mixed")
        self.assertEqual(revealed["values"], [{"key": "A", "value": "tab\tquote\" \x1b[31m"},
                                              {"key": "B", "valueBase64": "/wA="}])
        self.assertEqual(json.loads(self.succeed("get", "mixed.A", "--json")), {"value": "tab\tquote\" \x1b[31m"})
        self.assertEqual(self.json("secret", "reveal", "mixed", "B")["values"], [{"key": "B", "valueBase64": "/wA="}])

    def test_terminal_is_asked_for_the_name_first(self):
        self.set("private.K", b"marker-of-reveal")
        for typed, expected in (("no\n", USAGE), ("private\n", OK)):
            code, shown = self.terminal("secret", "reveal", "private", "K").expect("to confirm: ").type(typed).end()
            self.assertEqual((code, "marker-of-reveal" in shown), (expected, expected == OK), shown)
        code, shown = self.terminal("secret", "reveal", "private", "K", "--yes").end()
        self.assertEqual((code, shown), (OK, "marker-of-reveal\n"))

    def test_terminal_gets_no_control_characters_as_json_either(self):
        self.set("painted.K", b"\x1b[31mred\xc2\x9b")
        code, shown = self.terminal("secret", "reveal", "painted", "K", "--json", "--yes").end()
        self.assertEqual(code, OK)
        self.assertNotIn("\x1b", shown)
        self.assertEqual(json.loads(shown)["values"], [{"key": "K", "value": "\x1b[31mred\u009b"}])

    def test_reveal_needs_its_own_permission_and_a_key_that_is_there(self):
        self.set("guarded.K", b"v")
        self.succeed("sa", "create", "reader", "--grant", "secret:read,resolve")
        self.succeed("token", "issue", "reader", "--out", str(self.dev.directory / "reader.token"))
        code, out, err = self.run_cli("secret", "reveal", "guarded", "K", token="reader")
        self.assertEqual((code, out), (DENIED, b""), err)
        self.assertEqual(self.run_cli("secret", "reveal", "guarded", "L")[0], NOT_FOUND)
        self.assertEqual(self.run_cli("secret", "reveal", "guarded", "K", "--version", "9")[0], NOT_FOUND)


class Json(SecretsTest):
    def test_answers_are_the_messages_of_the_api(self):
        created = self.json("secret", "create", "api", "K=-", "--description", "d", "-e", "json", stdin=b"marker-of-json")
        secret = created["secret"]
        self.assertEqual((secret["name"], secret["environment"], secret["version"], secret["state"], secret["keys"]),
                         ("api", "json", 1, "SECRET_STATE_ACTIVE", [{"name": "K", "size": 14, "blank": False}]))
        self.assertRegex(secret["createTime"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
        self.assertNotIn("expireTime", secret)
        self.assertTrue(created["consistencyToken"])
        self.assertEqual(self.json("secret", "list", "-e", "json")["secrets"], [secret])
        self.assertEqual(self.json("secret", "show", "api", "-e", "json"), {"secret": secret})

    def test_failure_is_one_object_on_standard_error(self):
        code, out, err = self.run_cli("secret", "show", "nobody", "--json")
        self.assertEqual((code, out), (NOT_FOUND, b""))
        error = json.loads(err)["error"]
        self.assertEqual((error["exitCode"], error["reason"]), (NOT_FOUND, "SECRET_NOT_FOUND"))
        self.assertIn("nobody", error["message"])
        self.assertRegex(error["requestId"], r"\A[0-9a-f-]{36}\Z")
        code, out, err = self.run_cli("secret", "rollback", "x", "y", "--json")
        self.assertEqual((code, out, json.loads(err)["error"]["exitCode"]), (USAGE, b"", USAGE))

    def test_quiet_says_nothing_but_failures(self):
        code, out, err = self.run_cli("set", "quiet.K=-", "-q", stdin=b"line\n")
        self.assertEqual((code, out, err), (OK, b"", ""))
        code, _, err = self.run_cli("secret", "create", "quiet", "K=-", "-q", stdin=b"v")
        self.assertEqual(code, CONFLICT)
        self.assertIn("request:", err)


if __name__ == "__main__":
    unittest.main()
