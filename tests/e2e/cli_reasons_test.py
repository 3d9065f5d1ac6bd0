#!/usr/bin/env python3
"""Every reason as people read it: what failed and where, what to do next, and a stated exit code."""

import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import BUILD, ROOT  # noqa: E402

sys.path.insert(0, str(ROOT / ".ci"))

import tree  # noqa: E402

EXAMPLES = ROOT / "docs" / "errors.tsv"
GOLDEN = cli.GOLDEN / "reasons.txt"


def rendered():
    """{reason: lines}, of the example message of each."""
    rows = [line for line in EXAMPLES.read_text().splitlines() if line and not line.startswith("#")]
    done = subprocess.run([BUILD / "tests" / "e2e" / "coffer_reason_texts"], input="\n".join(rows) + "\n", capture_output=True,
                          text=True, timeout=120, check=True)
    texts = done.stderr.split("=> ")
    lines = [text.split("\n", 1)[-1] if i else text for i, text in enumerate(texts)]
    codes = [int(text.split("\n", 1)[0]) for text in texts[1:]]
    return {row.split("\t")[0]: (text, code) for row, text, code in zip(rows, lines, codes)}


class Reasons(unittest.TestCase):
    maxDiff = None

    def test_each_reason_says_what_failed_what_to_do_next_and_who_was_asked(self):
        shown = rendered()
        self.assertEqual(set(shown), {row[0] for row in tree.table("common/reason.def", "REASON")})
        for reason, (text, code) in shown.items():
            with self.subTest(reason):
                what, *rest = text.rstrip("\n").split("\n")
                self.assertTrue(what.startswith("coffer: "), what)
                self.assertTrue("; " in what or any(line.startswith("  hint: ") for line in rest), "no next step")
                self.assertLess(len(what), 300)
                self.assertEqual(rest[-1], f"  request: 01020300-0000-0000-0000-000000000000  ({reason})")
                self.assertTrue(code in (*range(1, 10), 11), code)

    def test_each_reason_word_for_word(self):
        text = "".join(f"{text}=> {code}\n\n" for text, code in rendered().values())
        if cli.os.environ.get("COFFER_GOLDEN") == "write":
            GOLDEN.write_text(text)
        self.assertEqual(text, GOLDEN.read_text(), f"{GOLDEN} differs; see COFFER_GOLDEN")


if __name__ == "__main__":
    unittest.main()
