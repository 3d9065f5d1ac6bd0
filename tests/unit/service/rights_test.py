#!/usr/bin/env python3
"""The server's rights against an independent model (T20): random grants, callers and requests.

The first argument is the program that asks the server's functions (rights_driver.c). TEST_FULL=1 asks a million
questions instead of 100,000; TEST_SEED repeats a run.
"""

import os
import pathlib
import random
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import rights_model as model  # noqa: E402
from rights_model import FLEET, SYS, SYSTEM, WS, Rule  # noqa: E402

DRIVER = sys.argv.pop(1)
SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
QUESTIONS = 1000000 if os.environ.get("TEST_FULL") else 100000
WORKSPACES = [f"{i:08x}-0000-4000-8000-00000000000{i}" for i in range(1, 5)]


def rules_text(rules):
    return ";".join("|".join(",".join(part) for part in (rule.permissions, rule.environments, rule.names,
                                                         rule.workspaces)) for rule in rules)


def ask(lines):
    """The driver's answer to each line."""
    run = subprocess.run([DRIVER], input="\n".join(lines) + "\n", stdout=subprocess.PIPE, text=True, check=True)
    answers = run.stdout.splitlines()
    assert len(answers) == len(lines), (len(answers), len(lines))
    return answers


def may(kind, own, grants, restrictions, permission, workspace, environment, name):
    return "\t".join(["may", str(kind), own, rules_text(grants), rules_text(restrictions), permission, workspace,
                      environment, name])


class Rights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        print(f"seed {SEED}", flush=True)

    def setUp(self):
        self.random = random.Random(f"{SEED} {self.id()}")
        self.universe = model.Universe(self.random, WORKSPACES)

    def question(self):
        """A kind, grants that it can have, restrictions, and what is asked; few permissions, so that they meet."""
        kind = self.random.choice([WS, WS, FLEET, FLEET, SYS])
        permissions = self.random.sample(sorted(model.PERMISSIONS), 4) + ["workspace:read"]
        own = self.random.choice(WORKSPACES) if kind == WS else SYSTEM
        restrictions = self.universe.rules(kind, permissions) if self.random.random() < 0.5 else []
        return (kind, own, self.universe.rules(kind, permissions, least=1), restrictions,
                self.random.choice(permissions), *self.universe.request())

    def test_random_grants_callers_and_requests_agree_with_the_model(self):
        counts = {}
        for _ in range(QUESTIONS // 20000):
            questions = [self.question() for _ in range(20000)]
            for question, answer in zip(questions, ask([may(*question) for question in questions])):
                self.assertEqual(answer, model.decide(*question), question)
                counts[answer] = counts.get(answer, 0) + 1
        print(counts, flush=True)
        for reason in ("OK", "PERMISSION_DENIED", "WORKSPACE_REQUIRED", "FIELD_INVALID", "FIELD_REQUIRED"):
            self.assertGreater(counts.get(reason, 0), QUESTIONS // 1000)

    def test_every_permission_is_usable_by_the_kinds_of_the_table_and_by_no_other(self):
        cases = [(permission, kind) for permission in model.PERMISSIONS for kind in (WS, FLEET, SYS)]
        self.assertEqual(len(cases), 60)
        lines = [may(kind, WORKSPACES[0] if kind == WS else SYSTEM, [Rule([permission])], [], permission, WORKSPACES[0],
                     "", "a") for permission, kind in cases]
        for (permission, kind), answer in zip(cases, ask(lines)):
            expected = "OK" if kind in model.PERMISSIONS[permission] else "FIELD_INVALID"
            self.assertEqual(answer, expected, (permission, kind))

    def test_restriction_or_grant_that_a_kind_cannot_have_is_refused(self):
        listed = Rule(["secret:read"], workspaces=[WORKSPACES[0]])
        for kind, expected in ((WS, "FIELD_INVALID"), (FLEET, "OK")):
            for grants, restrictions in (([listed], []), ([Rule(["secret:read"])], [listed])):
                line = may(kind, WORKSPACES[0] if kind == WS else SYSTEM, grants, restrictions, "secret:read",
                           WORKSPACES[0], "", "a")
                self.assertEqual(ask([line]), [expected])
        for secret_permission in ("resolve", "secret:read", "secret:write", "secret:reveal"):
            line = may(SYS, SYSTEM, [Rule(["workspace:read"])], [Rule([secret_permission])], secret_permission,
                       WORKSPACES[0], "", "a")
            self.assertEqual(ask([line]), ["FIELD_INVALID"])

    def inner_and_outer(self):
        """Rules of an issuer, and rules that it hands out: random, or its own made narrower."""
        kind = self.random.choice([WS, FLEET])
        permissions = self.random.sample([p for p in sorted(model.PERMISSIONS) if kind in model.PERMISSIONS[p]], 3)
        sets = [self.universe.rules(kind, permissions, least) for least in (1, 0, 1, 0)]
        if self.random.random() < 0.6:
            sets[0] = [self.narrower(self.random.choice(sets[2]), kind) for _ in range(self.random.randint(1, 2))]
            sets[3] = []
        return kind, sets

    def narrower(self, rule, kind):
        def part(own, names):
            pattern = self.random.choice(own) if own else "*"
            begin = pattern[:-1] if pattern.endswith("*") else None
            return [begin + self.random.choice(names)] if begin is not None else [pattern]
        workspaces = rule.workspaces or (WORKSPACES[:1] if kind == FLEET else [])
        return Rule(rule.permissions[:1], part(rule.environments, self.universe.ENVIRONMENTS),
                    part(rule.names, self.universe.NAMES), workspaces[:1])

    def exceeding(self, sets, workspaces):
        """A right that the inner rules give and the outer ones do not; None if there is none in the universe."""
        names = {pattern.rstrip("*") + more for rules in sets for rule in rules for pattern in rule.names + ["a"]
                 for more in ("", "a")}
        environments = {pattern.rstrip("*") + more for rules in sets for rule in rules
                        for pattern in rule.environments + ["a"] for more in ("", "a")}
        for permission in {p for rule in sets[0] for p in rule.permissions}:
            for workspace in workspaces:
                for environment in environments:
                    for name in names:
                        right = (permission, workspace, environment, name)
                        if model.permits(sets[0], sets[1], *right) and not model.permits(sets[2], sets[3], *right):
                            return right
        return None

    def test_what_is_said_to_be_within_the_issuers_rights_never_exceeds_them(self):
        cases = [self.inner_and_outer() for _ in range(QUESTIONS // 100)]
        answers = ask(["\t".join(["within", str(kind), *map(rules_text, sets)]) for kind, sets in cases])
        agreed = 0
        for (kind, sets), answer in zip(cases, answers):
            self.assertIn(answer, ("OK", "NO"))
            if answer == "OK":
                self.assertIsNone(self.exceeding(sets, WORKSPACES + ["other"]), (kind, sets))
                agreed += 1
        print(f"within: {agreed} of {len(cases)}", flush=True)
        self.assertGreater(agreed, len(cases) // 20)

    def test_everybody_may_hand_out_what_one_of_his_rules_covers(self):
        cases = []
        for _ in range(QUESTIONS // 100):
            kind = self.random.choice([WS, FLEET])
            outer = self.universe.rules(kind, ["secret:read", "secret:write", "token:read"], least=1)
            cases.append((kind, [[self.narrower(self.random.choice(outer), kind)], [], outer, []]))
        lines = ["\t".join(["within", str(kind), *map(rules_text, sets)]) for kind, sets in cases]
        for case, answer in zip(cases, ask(lines)):
            self.assertEqual(answer, "OK", case)


if __name__ == "__main__":
    unittest.main(verbosity=2)
