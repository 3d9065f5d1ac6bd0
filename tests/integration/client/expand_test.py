#!/usr/bin/env python3
"""Texts and documents with references, expanded by the example program against a server."""

import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "server"))

import context

EXPAND = os.environ["COFFER_EXPAND"]
KEY = b'-----BEGIN "KEY"-----\n\t#: \\ ${{ SECRETS.token.KEY }} \xc3\xa9\n'


class ExpandTest(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for environment in ("prod", "dev"):
            for name, value in (("token", b"t-" + environment.encode()), ("pem", KEY), ("empty", b""), ("raw", b"\xff\xfe")):
                answer = cls.connection.call(context.SECRET + "CreateSecret", {
                    "name": name, "environment": environment, "values": context.values(KEY=value)}, token=cls.dev.admin)
                assert answer.code == 0, answer

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.source, self.target = (pathlib.Path(self.folder.name) / name for name in ("source", "target"))

    def expand(self, kind, text, environment="prod", code=0):
        """The new text, or what is told on stderr."""
        self.source.write_bytes(text)
        self.target.unlink(missing_ok=True)
        variables = {**os.environ, "COFFER_ADDR": self.dev.ipc, "COFFER_TOKEN": self.dev.executor.decode()}
        for name in ("COFFER_TOKEN_FILE", "COFFER_WORKSPACE", "COFFER_ENVIRONMENT", "COFFER_TIMEOUT"):
            variables.pop(name, None)
        run = subprocess.run([EXPAND, kind, environment, self.source, self.target], env=variables, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=120)
        self.assertEqual((run.returncode, run.stdout), (code, b""), run.stderr)
        for value in (b"t-prod", b"BEGIN"):
            self.assertNotIn(value, run.stderr)
        self.assertEqual(self.target.exists(), code == 0)
        return self.target.read_bytes() if code == 0 else run.stderr.decode()

    def test_text_gets_the_values_of_its_environment(self):
        text = b"Bearer ${{ SECRETS.token.KEY }} ${{ FN.upper(SECRETS.token.KEY) }}\n"
        self.assertEqual(self.expand("text", text), b"Bearer t-prod ${{ FN.upper(SECRETS.token.KEY) }}\n")
        self.assertEqual(self.expand("text", text, "dev"), b"Bearer t-dev ${{ FN.upper(SECRETS.token.KEY) }}\n")
        self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o600)

    def test_value_is_never_looked_at_again(self):
        self.assertEqual(self.expand("text", b" ${{ SECRETS.pem.KEY }}\n"), KEY)
        self.assertEqual(self.expand("text", b"${{ SECRETS.raw.KEY }}"), b"\xff\xfe")

    def test_json_keeps_every_other_byte(self):
        text = b'{ "n": 1.10,"n":12345678901234567890, "t" : "${{ SECRETS.token.KEY }}","p":"${{ SECRETS.pem.KEY }}"\t}\n'
        new = self.expand("json", text)
        self.assertTrue(new.startswith(b'{ "n": 1.10,"n":12345678901234567890, "t" : "t-prod","p":"'), new[:60])
        self.assertTrue(new.endswith(b'"\t}\n'))
        self.assertEqual(json.loads(new)["p"].encode(), KEY)

    def test_yaml_keeps_every_other_byte(self):
        text = b"# top\na: ${{ SECRETS.token.KEY }}  # why\nb: |\n  x ${{ SECRETS.token.KEY }}\nc: 1.10\n"
        self.assertEqual(self.expand("yaml", text), b'# top\na: "t-prod"  # why\nb: "x t-prod\\n"\nc: 1.10\n')

    def test_what_is_missing_takes_the_next_operand(self):
        text = b"${{ SECRETS.none.KEY || SECRETS.token.NONE || SECRETS.empty.KEY || SECRETS.token.KEY }} ${{ SECRETS.none.X || 'x' }}"
        self.assertEqual(self.expand("text", text), b"t-prod x")
        self.assertEqual(self.expand("json", b'["${{ SECRETS.none.KEY || None }}"]'), b"[null]")
        self.assertEqual(self.expand("text", b"${{ SECRETS.token.KEY || SECRETS.none.KEY }}:${{ SECRETS.token.KEY }}"),
                         b"t-prod:t-prod")

    def test_everything_that_is_wrong_is_told_at_once(self):
        told = self.expand("yaml", b"a: ${{ SECRETS.none.KEY }}\nb:\n  - x ${{ SECRETS.token.NONE }}\nc: ${{ SECRETS.token.KEY }}\n", code=1)
        lines = told.splitlines()
        self.assertEqual(len(lines), 2, told)
        self.assertIn("source:1:4: SECRET_NOT_FOUND: line 1, column 4: a: SECRETS.none.KEY: ", lines[0])
        self.assertIn("source:3:5: KEY_NOT_FOUND: line 3, column 5: b.0: SECRETS.token.NONE: ", lines[1])
        told = self.expand("text", b"${{ SECRETS.token }}\n${{ SECRETS }}\n", code=1)
        self.assertEqual([line.split(": ")[1] for line in told.splitlines()], ["EXPRESSION_INVALID"] * 2, told)
        self.assertIn("VALUE_NOT_TEXT", self.expand("json", b'["${{ SECRETS.raw.KEY }}"]', code=1))


if __name__ == "__main__":
    unittest.main()
