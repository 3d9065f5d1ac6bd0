#!/usr/bin/env python3
"""Random texts, read by expressions_model.py and by the library's scanner, which must agree about all of them.

The argument is the program that runs cases (expressions_test.c). TEST_SEED repeats a run.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

import expressions_model as model

PROGRAM = sys.argv.pop(1)
SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
CASES = 4000
PIECES = ["${{", "${{ ", "}}", " }}", "}", "{", "$", "SECRETS", "SECRETS.a.K", "SECRETS.b.K", "SECRETS['a-b']['K']",
          ".", "['", "']", "[", "]", "'", '"', "'x'", '"y"', "''", "||", " || ", "|", "None", "a", "K", "1", "é", "\u2003", "\n",
          "\r", "\r\n", " ", "x", "(", ")", "FN.f(", "🔑", "${{ SECRETS.a.K }}", "${{ SECRETS.b.K || 'z' }}", "\x00", "-"]
REFERENCES = [("a", "K"), ("b", "K"), ("a-b", "K")]
OUTCOMES = [["RESOLVED", "value"], ["RESOLVED", ""], ["RESOLVED", "${{ SECRETS.a.K }}"], ["ABSENT"], ["KEY_NOT_FOUND"],
            ["PERMISSION_DENIED"]]


def random_case(source, number):
    inside = "".join(source.choices(PIECES, k=source.randrange(0, 14)))
    text = f"${{{{{inside}}}}}" if source.random() < 0.5 else inside
    given = [[*reference, *source.choice(OUTCOMES)] for reference in REFERENCES if source.random() < 0.8]
    case = {"name": f"number {number}", "text": text, "given": given}
    return case | model.expected(case)


class RandomTextsTest(unittest.TestCase):
    def test_scanner_and_model_agree_about_random_texts(self):
        source = random.Random(SEED)
        cases = [random_case(source, number) for number in range(CASES)]
        self.assertGreater(sum(bool(case["templates"]) for case in cases), CASES / 10)
        self.assertGreater(sum(bool(case["errors"]) for case in cases), CASES / 10)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"cases": cases}, file)
            file.flush()
            run = subprocess.run([PROGRAM], env=os.environ | {"EXPRESSION_CASES": file.name}, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(run.returncode, 0, f"TEST_SEED={SEED}\n{run.stdout[-4000:]}")
        print(f"TEST_SEED={SEED}: {CASES} texts")


if __name__ == "__main__":
    unittest.main()
