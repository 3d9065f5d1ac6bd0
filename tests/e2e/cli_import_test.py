#!/usr/bin/env python3
"""Files of secrets at the command line: every format goes in, all of a file or nothing; what comes out goes in elsewhere;
what is wrong, too large or a trap is refused with a word about it, and no value is shown."""

import json
import os
import pathlib
import random
import stat
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cli import (CONFLICT, DENIED, ERROR, LIMIT, OK, PARTIAL, REJECTED, USAGE, CliTest)  # noqa: E402
from cofferd import seed  # noqa: E402

PLANTED = "planted-9d2e-value"


class Files(CliTest):
    def write(self, name, content):
        CliTest.count += 1
        folder = self.dev.directory / f"files{CliTest.count}"
        folder.mkdir()
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    def get(self, reference, environment="default", **options):
        return self.succeed("get", reference, "-e", environment, **options)

    def names(self, environment):
        return [line.split("\t")[0] for line in self.succeed("secret", "list", "-e", environment).decode().splitlines()]

    def refused(self, code, *arguments, says="", **options):
        """The command fails like that, and what it says holds no value."""
        got, out, err = self.run_cli(*arguments, **options)
        self.assertEqual((got, out), (code, b""), err)
        self.assertIn(says, err)
        self.assertNotIn(PLANTED, err)
        return err

    def rows(self, *arguments, code=OK, **options):
        got, out, err = self.run_cli(*arguments, **options)
        self.assertEqual(got, code, err)
        self.assertNotIn(PLANTED, out.decode() + err)
        return [tuple(line.split("\t")) for line in out.decode().splitlines()]

    def new_workspace(self, name):
        """A token file of its administrator."""
        workspace = self.succeed("workspace", "create", name, token="system").decode().strip()
        rights = [word for right in ("secret:read", "secret:write", "secret:reveal", "resolve") for word in ("--permission", right)]
        self.succeed("sa", "create", "mover", "-w", workspace, *rights, token="system")
        self.succeed("token", "issue", "mover", "-w", workspace, "--out", self.dev.directory / f"{name}.token", token="system")
        return name


class Formats(Files):
    def test_file_of_every_format_is_imported(self):
        vault = {"data": {"data": {"TOKEN": "vault text", "user name": "u"}, "metadata": {"version": 3}}}
        infisical = [{"key": "TOKEN", "value": "infisical text", "type": "shared"}]
        for name, content, options, expected in (
                (".env", "# bot\nexport TOKEN='env text' # kept\nURL=https://$HOME/x\n", ["--secret", "bot"],
                 {"bot.TOKEN": b"env text", "bot.URL": b"https://$HOME/x"}),
                ("s.json", json.dumps({"slack": {"A": "text", "B": {"$base64": "AP8="}}, "aws": {"K": ""}}), [],
                 {"slack.A": b"text", "slack.B": b"\0\xff", "aws.K": b""}),
                ("s.yaml", "slack:\n  A: 012345678901\n  B: !!binary AP8=\n  C: |\n    two\n    lines\n", [],
                 {"slack.A": b"012345678901", "slack.B": b"\0\xff", "slack.C": b"two\nlines\n"}),
                ("kv.txt", json.dumps(vault), ["--format", "vault", "--secret", "kv"],
                 {"kv.TOKEN": b"vault text", "kv.user_name": b"u"}),
                ("i.txt", json.dumps(infisical), ["--format", "infisical", "--secret", "app"], {"app.TOKEN": b"infisical text"})):
            environment = "from-" + name.strip(".")
            self.succeed("import", self.write(name, content), "-e", environment, *options)
            for reference, value in expected.items():
                self.assertEqual(self.get(reference, environment), value, name)
            self.assertEqual(sorted(self.names(environment)), sorted({r.split(".")[0] for r in expected}))

    def test_export_goes_into_another_workspace_with_exactly_its_values(self):
        generator = random.Random(seed())
        for i in range(6):
            arguments = [f"K{k}=@{self.file(generator.randbytes(generator.randrange(3000)))}" for k in range(1 + i)]
            self.succeed("secret", "create", f"s{i}", *arguments, "-e", "moving")
        self.succeed("secret", "create", "text", "A=-", "-e", "moving", stdin="ä\n\t'\"\\$(x)${y}`z`# \u2028".encode())
        for form in ("json", "yaml"):
            token = self.new_workspace(f"moved-{form}")
            path = self.dev.directory / f"moving.{form}"
            self.succeed("export", "-e", "moving", "--out", path)
            self.succeed("import", path, "-e", "moving", token=token)
            self.assertEqual(self.succeed("export", "-e", "moving", "--format", form, token=token), path.read_bytes())
            listed = [line.split("\t")[:3] for line in self.succeed("secret", "list", "-e", "moving").decode().splitlines()]
            there = self.succeed("secret", "list", "-e", "moving", token=token).decode().splitlines()
            self.assertEqual([line.split("\t")[:3] for line in there], listed)
            self.assertEqual(self.get("s5.K5", "moving", token=token), self.get("s5.K5", "moving"))
        path = self.dev.directory / "moving.env"
        self.succeed("export", "text", "-e", "moving", "--out", path)
        self.succeed("import", path, "-e", "moved-env", "--secret", "text")
        self.assertEqual(self.get("text.A", "moved-env"), self.get("text.A", "moving"))

    def test_export_of_everything_makes_the_same_secrets_elsewhere(self):
        """Types, descriptions, tags, expiry and environments come along, and values that are no text."""
        binary = random.Random(seed()).randbytes(300)
        self.succeed("secret", "create", "whole", f"BYTES=@{self.file(binary)}", f"TEXT=@{self.file('ä'.encode())}",
                     "-e", "whole-a", "--description", "for \"people\"\t", "--tag", "one", "--tag", "two", "--expires",
                     "2099-01-31T12:00:00Z", "--block-when-expired")
        self.succeed("secret", "create", "whole", "K=-", "-e", "whole-b", stdin=b"")
        key = self.dev.directory / "whole.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        self.succeed("secret", "create", "jump", "--type", "ssh_key", "--file", f"PRIVATE_KEY={key}", "-e", "whole-a")
        path = self.dev.directory / "whole.json"
        arguments = ["export", "-o", "json", "-e", "whole-a", "-e", "whole-b"]
        self.succeed(*arguments, "--out", path)
        token = self.new_workspace("whole")
        self.succeed("import", path, token=token)

        def told(exported):
            """What an export says, but for what belongs to its place."""
            own = ("workspace", "uid", "version", "createTime", "updateTime", "etag")
            for each in exported["secrets"]:
                each["secret"] = {name: value for name, value in each["secret"].items() if name not in own}
                each["secret"]["keys"] = [row["name"] for row in each["secret"]["keys"]]
            return exported["secrets"]
        there = json.loads(self.succeed(*arguments, token=token))
        self.assertEqual(told(there), told(json.loads(path.read_text())))
        self.assertEqual(len(there["secrets"]), 3)
        self.assertEqual(self.get("whole.BYTES", "whole-a", token=token), binary)
        self.assertEqual([row[1] for row in self.rows("import", path, "--dry-run", "--on-conflict", "replace", token=token)],
                         ["unchanged"] * 3)
        path.write_text(json.dumps({"secrets": [json.loads(path.read_text())["secrets"][0]]}))
        self.succeed("import", path, "-e", "elsewhere", "--rename", "jump=leap", token=token)
        self.assertEqual(self.get("leap.PRIVATE_KEY", "elsewhere", token=token), key.read_bytes())

    def test_export_of_everything_that_is_wrong_is_refused_with_its_place(self):
        for text, says in (
                ('{"secrets": [{"secret": {"name": "a", "environment": "e"}, "values": []}]}', "line 1, column 14"),
                ('{"secrets": [{"secret": {"name": "a"}, "values": [{"key": "K", "value": "%s"}]}]}' % PLANTED, "environment"),
                ('{"secrets": [{"secret": {"name": "a", "environment": "e", "type": "SECRET_TYPE_X"}}]}', "SECRET_TYPE_X"),
                ('{"secrets": [{"values": [{"key": "K", "valueBase64": "%s!"}]}]}' % PLANTED, "base64"),
                ('{"secrets": [{"secret": {"expireTime": "soon"}}]}', "no time"),
                ('{"secrets": [{"secret": {"name": "a", "environment": "e", "state": "SECRET_STATE_CORRUPTED"}, "values": []}]}',
                 "damaged"),
                ('{"secrets": ["%s"]}' % PLANTED, "an object"), ('{"secrets": [{"values": [', "line 1")):
            self.refused(REJECTED, "import", self.write("wrong.json", text), says=says)
        self.refused(USAGE, "import", self.write("named.json", '{"secrets": []}'), "--secret", "x", says="--secret")

    def test_standard_input_is_a_file_too(self):
        self.succeed("import", "-", "--format", "yaml", "-e", "piped", stdin=b"one:\n  K: v\n")
        self.assertEqual(self.get("one.K", "piped"), b"v")
        self.refused(USAGE, "import", "-", stdin=b"{}", says="--format")


class Plans(Files):
    def test_dry_run_shows_names_and_what_becomes_of_them_and_writes_nothing(self):
        path = self.write("a.yaml", f"one:\n  A: {PLANTED}\n  B: {PLANTED}\nmy secret:\n  a key: {PLANTED}\n")
        self.assertEqual(self.rows("import", path, "-e", "dry", "--dry-run"), [
            ("one", "created", "-", "-", "-", "dry"), ("one", "created", "A", "added", "-", "dry"),
            ("one", "created", "B", "added", "-", "dry"), ("my_secret", "created", "-", "-", "my secret", "dry"),
            ("my_secret", "created", "a_key", "added", "a key", "dry")])
        self.assertNotIn("dry", self.succeed("env", "list").decode().split())
        self.succeed("import", path, "-e", "dry")
        path = self.write("b.yaml", f"one:\n  A: other\n  C: {PLANTED}\nmy_secret:\n  a_key: {PLANTED}\n")
        same = [("my_secret", "unchanged", "-", "-", "-", "dry")]
        self.assertEqual(self.rows("import", path, "-e", "dry", "--dry-run", "--on-conflict", "patch"), [
            ("one", "changed", "-", "-", "-", "dry"), ("one", "changed", "A", "changed", "-", "dry"), ("one", "changed", "C", "added", "-", "dry")] + same)
        self.assertEqual(self.rows("import", path, "-e", "dry", "--dry-run", "--on-conflict", "replace"), [
            ("one", "changed", "-", "-", "-", "dry"), ("one", "changed", "A", "changed", "-", "dry"), ("one", "changed", "B", "removed", "-", "dry"),
            ("one", "changed", "C", "added", "-", "dry")] + same)
        self.assertEqual([row[:2] for row in self.rows("import", path, "-e", "dry", "--dry-run", "--on-conflict", "skip")],
                         [("one", "skipped"), ("my_secret", "skipped")])
        self.assertEqual([row[:2] for row in self.rows("import", path, "-e", "dry", "--dry-run", code=CONFLICT)],
                         [("one", "refused"), ("my_secret", "refused")])
        self.assertEqual(self.get("one.A", "dry"), PLANTED.encode())

    def test_secrets_that_exist_are_met_as_on_conflict_says(self):
        for mode, code, left in ((None, CONFLICT, {"A": b"1", "B": b"2"}), ("fail", CONFLICT, {"A": b"1", "B": b"2"}),
                                 ("skip", OK, {"A": b"1", "B": b"2"}), ("replace", OK, {"A": b"9", "C": b"3"}),
                                 ("patch", OK, {"A": b"9", "B": b"2", "C": b"3"})):
            environment = f"met-{mode}"
            self.succeed("import", "-", "--format", "json", "-e", environment, stdin=b'{"one": {"A": "1", "B": "2"}}')
            options = ["--on-conflict", mode] if mode else []
            got, _, err = self.run_cli("import", "-", "--format", "json", "-e", environment, *options,
                                       stdin=b'{"one": {"A": "9", "C": "3"}, "two": {"K": "v"}}')
            self.assertEqual(got, code, err)
            held = json.loads(self.succeed("export", "one", "-e", environment))["one"]
            self.assertEqual({key: value.encode() for key, value in held.items()}, left, mode)
            self.assertEqual("two" in self.names(environment), code == OK)
        self.refused(USAGE, "import", self.write("x.json", "{}"), "--on-conflict", "merge", says="--on-conflict")

    def test_secrets_get_the_names_that_rename_gives(self):
        content = json.dumps({"github_oauth": {"K": "v"}, "a b": {"K": "1"}, "a/b": {"K": "2"}})
        path = self.write("r.json", content)
        err = self.refused(REJECTED, "import", path, "-e", "renamed")
        self.assertEqual(err.count("coffer: line"), 3, err)
        self.succeed("import", path, "-e", "renamed", "--rename", "github_oauth=github", "--rename", "a b=ab1", "--rename", "a/b=ab2")
        self.assertEqual(self.names("renamed"), ["ab1", "ab2", "github"])
        self.refused(REJECTED, "import", path, "-e", "renamed", "--rename", "a b=x_oauth", says="_oauth")
        self.refused(USAGE, "import", path, "-e", "renamed", "--rename", "absent=x", says="--rename")
        self.refused(USAGE, "import", path, "-e", "renamed", "--rename", "nothing", says="OLD=NEW")

    def test_one_fault_leaves_everything_as_it_was_and_all_faults_are_told(self):
        self.succeed("import", "-", "--format", "json", "-e", "whole", stdin=b'{"there": {"K": "v"}, "also": {"K": "v"}}')
        content = {"good": {"K": PLANTED}, "there": {"K": PLANTED}, "also": {"K": PLANTED}}
        err = self.refused(CONFLICT, "import", self.write("w.json", json.dumps(content)), "-e", "whole")
        self.assertIn("there:", err)
        self.assertIn("also:", err)
        self.assertIn("nothing was written", err)
        self.assertEqual(self.names("whole"), ["also", "there"])
        out = json.loads(self.rows_as_text("import", self.write("w.json", json.dumps(content)), "-e", "whole", "--json"))
        self.assertEqual((out["written"], [s["reason"] for s in out["secrets"]]), (False, ["", "SECRET_EXISTS", "SECRET_EXISTS"]))
        self.refused(DENIED, "import", self.write("w.json", json.dumps(content)), "-e", "whole", token="executor")

    def rows_as_text(self, *arguments):
        return self.run_cli(*arguments)[1].decode()


class Traps(Files):
    def test_bad_files_are_told_with_their_place_and_nothing_of_their_values(self):
        bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghi", "bcdefghij"))
        deep = '{"a":' * 5000 + '"x"' + "}" * 5000
        for name, content in (
                ("twice.json", '{"s": {"K": "%s", "K": "x"}}' % PLANTED), ("twice.env", f"K={PLANTED}\nK={PLANTED}\n"),
                ("number.json", '{"s": {"K": 1}}'), ("open.json", '{"s": {"K": "%s' % PLANTED), ("bomb.yaml", bomb),
                ("alias.yaml", f"s:\n  K: &x {PLANTED}\n  L: *x\n"), ("deep.json", deep), ("deep.yaml", "a: " + "[" * 5000),
                ("latin.env", b"K=\xff\xfe"), ("nul.yaml", b"s:\n  K: a\0b\n"), ("line.env", f"{PLANTED}\n")):
            before = self.names("traps")
            err = self.refused(REJECTED, "import", self.write(name, content), "-e", "traps", "--secret", "s")
            self.assertRegex(err, r"line \d+, column \d+|UTF-8|NUL", name)
            self.assertEqual(self.names("traps"), before)

    def test_file_that_names_no_secret_is_refused_with_the_option_that_does(self):
        err = self.refused(REJECTED, "import", self.write("plain.env", f"K={PLANTED}\n"), "-e", "traps")
        self.assertIn("names no secret; say which secret it is for\n  hint: --secret NAME\n", err)

    def test_large_files_are_refused_before_anything_is_sent(self):
        value = "x" * 60000
        ten = json.dumps({f"s{i}": {"K": value} for i in range(170)})
        self.assertGreater(len(ten), 10_000_000)
        err = self.refused(LIMIT, "import", self.write("ten.json", ten), "-e", "large")
        self.assertIn("make several files of it", err)
        many = json.dumps({f"s{i}": {"K": "v"} for i in range(1001)})
        err = self.refused(LIMIT, "import", self.write("many.json", many), "-e", "large", says="1001 secrets")
        self.refused(LIMIT, "import", self.write("huge.env", "K=" + "x" * (17 << 20)), "--secret", "s", "-e", "large")
        self.refused(REJECTED, "import", self.write("long.json", json.dumps({"s": {"K": "x" * 70000}})), "-e", "large", says="64 KiB")
        self.assertEqual(self.names("large"), [])

    def test_thousand_secrets_are_imported_and_exported_at_once(self):
        content = {f"s{i:04}": {"K": f"value {i}"} for i in range(1000)}
        self.succeed("import", self.write("k.json", json.dumps(content)), "-e", "thousand")
        self.assertEqual(json.loads(self.succeed("export", "-e", "thousand")), content)


class Exports(Files):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls("setUpClass").succeed("import", "-", "--format", "json", "-e", "out", stdin=json.dumps(
            {"one": {"K": PLANTED, "L": "text"}, "two": {"M": "x"}}).encode())

    def runTest(self):
        """Needed to make an instance in setUpClass."""

    def test_file_is_made_whole_with_mode_0600_and_never_replaced_unasked(self):
        path = self.dev.directory / "made.json"
        old = os.umask(0)
        try:
            self.succeed("export", "-e", "out", "--out", path)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(json.loads(path.read_text())["one"], {"K": PLANTED, "L": "text"})
        path.write_text("mine")
        self.refused(CONFLICT, "export", "-e", "out", "--out", path, says="--force")
        self.assertEqual(path.read_text(), "mine")
        path.chmod(0o644)
        self.succeed("export", "-e", "out", "--out", path, "--force")
        self.assertEqual((stat.S_IMODE(path.stat().st_mode), json.loads(path.read_text())["two"]), (0o600, {"M": "x"}))
        self.refused(ERROR, "export", "-e", "out", "--out", self.dev.directory / "nowhere" / "x.json")
        self.refused(DENIED, "export", "-e", "out", "--out", self.dev.directory / "denied.json", token="executor")
        self.assertEqual([p.name for p in self.dev.directory.iterdir() if p.name.startswith(("denied", "made.json."))], [],
                         "a failure leaves no file")

    def test_values_come_to_a_terminal_only_when_that_is_asked_for(self):
        code, shown = self.terminal("export", "-e", "out").end()
        self.assertEqual(code, USAGE)
        self.assertNotIn(PLANTED, shown)
        code, shown = self.terminal("export", "-e", "out", "-o", "raw").end()
        self.assertEqual(code, OK)
        self.assertIn(PLANTED, shown)
        code, shown = self.terminal("export", "--json").end()
        self.assertEqual(code, USAGE)

    def test_export_that_finds_nothing_says_so(self):
        code, out, err = self.run_cli("export", "-e", "not-there", "--format", "env")
        self.assertEqual((code, out), (OK, b""))
        self.assertIn("exported 0 secrets\n  hint: coffer secret list shows what there is", err)

    def test_names_choose_secrets_and_the_format_what_is_written(self):
        self.assertEqual(list(json.loads(self.succeed("export", "tw*", "-e", "out"))), ["two"])
        self.assertEqual(list(json.loads(self.succeed("export", "one", "two", "-e", "out"))), ["one", "two"])
        self.assertEqual(self.succeed("export", "two", "-e", "out", "--format", "env"), b"M=x\n")
        self.refused(USAGE, "export", "-e", "out", "--format", "vault", says="only read")
        self.refused(USAGE, "export", "-e", "out", "-e", "other", says="one environment")
        self.refused(REJECTED, "export", "o*e", "-e", "out")

    def test_json_tells_everything_of_all_environments(self):
        self.succeed("secret", "create", "elsewhere", "K=-", "-e", "out2", "--description", "told", "--tag", "t", stdin=b"\xff")
        out = json.loads(self.succeed("export", "--json"))
        found = {(s["secret"]["environment"], s["secret"]["name"]): s for s in out["secrets"]}
        self.assertLessEqual({("out", "one"), ("out", "two"), ("out2", "elsewhere")}, set(found))
        there = found["out2", "elsewhere"]
        self.assertEqual((there["secret"]["description"], there["secret"]["tags"], there["values"]),
                         ("told", ["t"], [{"key": "K", "valueBase64": "/w=="}]))

    def test_damaged_secret_is_told_and_the_others_are_exported(self):
        self.succeed("import", "-", "--format", "json", "-e", "hurt", stdin=b'{"bad": {"K": "v"}, "good": {"K": "v"}}')
        self.dev.sql("update secret set blob = set_byte(blob, 45, get_byte(blob, 45) # 1)"
                     " where environment = 'hurt' and name = 'bad'")
        code, out, err = self.run_cli("export", "-e", "hurt")
        self.assertEqual((code, json.loads(out)), (PARTIAL, {"good": {"K": "v"}}))
        self.assertIn("bad", err)
        code, out, _ = self.run_cli("export", "-e", "hurt", "--json")
        self.assertEqual((code, [(s["secret"]["name"], s["secret"]["state"], s["values"] == []) for s in json.loads(out)["secrets"]]),
                         (PARTIAL, [("bad", "SECRET_STATE_CORRUPTED", True), ("good", "SECRET_STATE_ACTIVE", False)]))
        self.succeed("secret", "delete", "bad", "-e", "hurt", "--yes")


if __name__ == "__main__":
    unittest.main(verbosity=2)
