#!/usr/bin/env python3
"""The example programs of libcoffer, run against a server as their comments say."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import BUILD, ROOT, Dev, values  # noqa: E402

ACCOUNTS = [str(100000000000 + number) for number in range(200)]
MISSING = ACCOUNTS[117]


def arn(environment):
    """Of a length of its own, so that a wrong one would be seen in what the example prints."""
    return f"arn:cloud:{environment}:role/" + "x" * (int(environment) % 211)


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()
        with cls.dev.connect() as connection:
            secrets = [("prod", "crowdstrike", values(CROWDSTRIKE_CLIENT_ID=b"id-of-prod", CROWDSTRIKE_CLIENT_SECRET=b"s")),
                       ("lacking", "crowdstrike", values(CROWDSTRIKE_CLIENT_ID=b"id-of-lacking")),
                       ("prod", "account", values(ROLE_ARN=b"the-parents-own"))]
            secrets += [(account, "account", values(ROLE_ARN=arn(account).encode())) for account in ACCOUNTS if account != MISSING]
            for environment, name, pairs in secrets:
                answer = connection.call("coffer.v1.SecretService/CreateSecret",
                                         {"environment": environment, "name": name, "values": pairs}, token=cls.dev.admin)
                assert answer.code == 0, answer

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()

    def run_example(self, name, *arguments):
        done = subprocess.run([BUILD / "client" / "libcoffer" / name, *arguments], capture_output=True, text=True,
                              env=cli.environment(self.dev, "executor"), timeout=180, check=False)
        for value in ("id-of-prod", "arn:cloud", "the-parents-own"):
            self.assertNotIn(value, done.stdout + done.stderr)
        return done.returncode, done.stdout, done.stderr

    def test_executor_says_what_it_got(self):
        code, out, err = self.run_example("executor", "prod")
        self.assertEqual((code, err), (0, ""), out)
        self.assertIn("ok   crowdstrike.CROWDSTRIKE_CLIENT_ID: 10 bytes", out)
        self.assertIn("1 of 1 environments resolved", out)

    def test_program_runs_with_values_that_are_masked_in_its_output(self):
        script = 'echo "I am $CROWDSTRIKE_CLIENT_ID"; exit 3'
        self.assertEqual(self.run_example("run", "prod", "crowdstrike.CROWDSTRIKE_CLIENT_ID", "--", "sh", "-c", script),
                         (3, "I am ***\n", ""))

    def test_file_is_expanded(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = (pathlib.Path(folder) / name for name in ("in", "out"))
            source.write_text('{"id": "${{ SECRETS.crowdstrike.CROWDSTRIKE_CLIENT_ID }}", "n": 1.10}')
            self.assertEqual(self.run_example("expand", "json", "prod", source, target), (0, "", ""))
            self.assertEqual(target.read_text(), '{"id": "id-of-prod", "n": 1.10}')

    def test_loop_over_200_accounts_spoils_none_but_the_one_that_is_missing(self):
        code, out, err = self.run_example("loop", "prod", "account.ROLE_ARN", *ACCOUNTS)
        self.assertEqual((code, err), (1, ""))
        lines = out.splitlines()
        self.assertEqual(len(lines), 1 + len(ACCOUNTS))
        self.assertEqual(lines[0], "ok   parent prod: account.ROLE_ARN has 15 bytes")
        for account, line in zip(ACCOUNTS, lines[1:]):
            if account == MISSING:
                self.assertIn(f"FAIL child {account}: SECRET_NOT_FOUND: ", line)
            else:
                self.assertEqual(line, f"ok   child {account}: account.ROLE_ARN has {len(arn(account))} bytes")

    def test_preflight_names_what_is_missing_in_each_environment(self):
        keys = ("crowdstrike", "CROWDSTRIKE_CLIENT_ID", "CROWDSTRIKE_CLIENT_SECRET", "CROWDSTRIKE_BASE_URL?", "--")
        self.assertEqual(self.run_example("preflight", *keys, "prod"), (0, "1 environments are ready, 0 are not\n", ""))
        code, out, err = self.run_example("preflight", *keys, "prod", "lacking", "nowhere")
        self.assertEqual((code, err), (1, ""))
        self.assertRegex(out, r"(?s)^lacking\n  [^\n]*CROWDSTRIKE_CLIENT_SECRET[^\n]*\nnowhere\n")
        self.assertTrue(out.endswith("1 environments are ready, 2 are not\n"), out)

    def test_preflight_goes_through_all_pages(self):
        nowhere = [f"nowhere-{number:03}" for number in range(990)]
        code, out, _ = self.run_example("preflight", "account", "ROLE_ARN", "--", *nowhere, "prod")
        self.assertEqual(code, 1)
        self.assertEqual([line for line in out.splitlines() if not line.startswith(" ")],
                         [*nowhere, "1 environments are ready, 990 are not"])

    def test_code_of_the_page_stands_in_the_examples(self):
        """docs/libcoffer.md shows nothing that is not compiled and run; only the indentation may differ."""
        sources = ["".join(line.strip() + "\n" for line in path.read_text().splitlines())
                   for path in (ROOT / "client" / "libcoffer" / "examples").glob("*.c")]
        blocks = re.findall(r"^```c\n(.*?)^```$", (ROOT / "docs" / "libcoffer.md").read_text(), re.M | re.S)
        self.assertGreater(len(blocks), 4)
        for block in blocks:
            code = "".join(line.strip() + "\n" for line in block.splitlines())
            self.assertTrue(any(code in source for source in sources), block)

    def test_wrong_arguments_are_told(self):
        for name in ("executor", "expand", "loop", "preflight"):
            code, out, err = self.run_example(name)
            self.assertEqual((code, out), (2, ""))
            self.assertIn(f"usage: {name} ", err)


if __name__ == "__main__":
    unittest.main()
