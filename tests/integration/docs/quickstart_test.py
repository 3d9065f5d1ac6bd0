#!/usr/bin/env python3
"""Runs deploy/quickstart.sh twice with the programs of this build, as a reader of the README would."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
BUILD = os.environ.get("COFFER_BUILD", str(ROOT / "build" / "debug"))


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-quickstart-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.data = self.folder / "data"
        self.addCleanup(self.run_script, "--stop")

    def run_script(self, *arguments):
        environment = {**os.environ, "COFFER_BUILD": BUILD, "COFFER_DEV_DIR": str(self.data),
                       "COFFER_DEV_TCP": "tcp://127.0.0.1:0"}
        return subprocess.run([ROOT / "deploy" / "quickstart.sh", *arguments], env=environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def test_it_shows_everything_and_works_a_second_time(self):
        first = self.run_script()
        self.assertEqual((first.returncode, first.stderr), (0, ""), first.stdout)
        self.assertIn("crowdstrike: created in prod, version 1, 2 keys", first.stdout)
        self.assertIn("crowdstrike: created in customer-a, version 1, 2 keys", first.stdout)
        second = self.run_script()
        self.assertEqual((second.returncode, second.stderr), (0, ""), second.stdout)
        self.assertIn("the server runs already", second.stdout)
        for output in (first.stdout, second.stdout):
            self.assertIn("2 of 2 environments resolved", output)
            self.assertIn("CROWDSTRIKE_CLIENT_SECRT: KEY_NOT_FOUND", output)
            self.assertIn("did you mean CROWDSTRIKE_CLIENT_SECRET?", output)
            # The values are random hexadecimal digits.
            self.assertNotRegex(output, r"\b[0-9a-f]{32,}\b")
        self.assertEqual(list(self.data.glob("quickstart.*")), [])

        stopped = self.run_script("--stop")
        self.assertRegex(stopped.stdout, r"^stopped process \d+\n$")
        pid = re.search(r"\d+", stopped.stdout).group()
        self.assertFalse(pathlib.Path("/proc", pid).exists())

    def test_server_that_does_not_start_is_told_with_the_end_of_its_log(self):
        self.data.mkdir()
        (self.data / "coffer.sock").mkdir()
        result = self.run_script()
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("quickstart: the server ended while it started", result.stderr)
        self.assertIn("coffer.sock", result.stderr)


if __name__ == "__main__":
    unittest.main()
