#!/usr/bin/env python3
"""The server's rights against an independent model (T20): random grants, callers and requests.

The first argument is the program that asks the server's functions (rights_driver.c). TEST_FULL=1 asks a million
questions instead of 30,000; TEST_SEED repeats a run.
"""

import ipaddress
import os
import pathlib
import random
import subprocess
import sys
import unittest
import uuid

TESTS = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "conformance")]

import narrowed_tokens  # noqa: E402
import rights_model as model  # noqa: E402
import token_text  # noqa: E402
from rights_model import FLEET, SYS, SYSTEM, WS, Rule  # noqa: E402

DRIVER = sys.argv.pop(1)
SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
QUESTIONS = 1000000 if os.environ.get("TEST_FULL") else 30000
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


def narrowed_text(kind, own, narrowings):
    """A token of the caller that was narrowed once or several times; its secret does not matter here."""
    text = token_text.make({WS: b"ws", FLEET: b"fleet", SYS: b"sys"}[kind], uuid.UUID(own), uuid.UUID(int=1), bytes(32))
    for wishes in narrowings:
        text = narrowed_tokens.narrow(text, **wishes)
    return text.decode() if narrowings else "-"


def may(kind, own, grants, restrictions, permission, workspace, environment, name, narrowings=()):
    return "\t".join(["may", str(kind), own, rules_text(grants), rules_text(restrictions), permission, workspace,
                      environment, name, narrowed_text(kind, own, narrowings)])


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

    def test_random_narrowed_tokens_agree_with_the_model(self):
        counts = {}
        for _ in range(QUESTIONS // 20000):
            questions = []
            for _ in range(10000):
                kind = self.random.choice([WS, FLEET])
                own = self.random.choice(WORKSPACES) if kind == WS else SYSTEM
                permissions = ["resolve", "secret:read"]
                questions.append((kind, own, self.universe.rules(kind, permissions, least=1), [],
                                  self.random.choice(["resolve"] * 9 + ["secret:read"]), *self.universe.request(),
                                  [self.universe.narrowing() for _ in range(self.random.randint(1, 3))]))
            for question, answer in zip(questions, ask([may(*question) for question in questions])):
                self.assertEqual(answer, model.decide(*question), question)
                whole = model.decide(*question[:-1])
                self.assertFalse(answer == "OK" and whole not in ("OK", "WORKSPACE_REQUIRED"), question)
                kept = f"{whole} -> {answer}"
                counts[kept] = counts.get(kept, 0) + 1
        print(counts, flush=True)
        for kept in ("OK -> OK", "OK -> PERMISSION_DENIED", "WORKSPACE_REQUIRED -> OK"):
            self.assertGreater(counts.get(kept, 0), QUESTIONS // 4000)

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

    # --- Networks, against Python's own addresses

    def network(self, wrong=False):
        """A network as text, few enough that they meet; seldom one with bits set behind its prefix."""
        kind = self.random.random()
        if kind < 0.1:
            return "unix"
        if kind < 0.25:
            return f"unix:{self.random.choice([0, 1, 1000, 4294967294])}"
        version, bits = (ipaddress.IPv4Network, 32) if kind < 0.65 else (ipaddress.IPv6Network, 128)
        prefix = self.random.choice([0, 1, 7, 8, 9, 15, 16, 17, 24, 31, 32] + ([48, 63, 64, 65, 127, 128] if bits == 128 else []))
        host = self.random.choice([0x0A000000, 0x0A010000, 0x0A0101FF, 0xC0000201]) << (bits - 32)
        host |= self.random.choice([0, 1, 255])
        if wrong:
            return f"{version((host, bits)).network_address}/{prefix}"
        return str(version((host, prefix), strict=False))

    def peer(self):
        """(what the server is told, what the model compares)"""
        kind = self.random.random()
        if kind < 0.1:
            return "unix", None
        if kind < 0.3:
            uid = self.random.choice([0, 1, 1000, 4294967294, 7])
            return f"unix:{uid}", uid
        network = self.network()
        while network.startswith("unix"):
            network = self.network()
        address = ipaddress.ip_network(network)[self.random.choice([0, -1])]
        whole = int(address) if address.version == 6 else 0xFFFF00000000 | int(address)
        return f"{whole:032x}", address

    @staticmethod
    def holds(network, told, peer):
        if network == "unix":
            return told.startswith("unix")
        if network.startswith("unix:"):
            return told == network
        return not told.startswith("unix") and peer in ipaddress.ip_network(network)

    @staticmethod
    def covered(inner, outer):
        if inner.startswith("unix") or outer.startswith("unix"):
            return inner == outer or (outer == "unix" and inner.startswith("unix"))
        a, b = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
        return a.version == b.version and a.subnet_of(b)

    def test_random_networks_and_peers_agree_with_the_model(self):
        counts, cases = {}, []
        for _ in range(QUESTIONS // 10):
            networks = [self.network(self.random.random() < 0.02) for _ in range(self.random.randint(0, 4))]
            cases.append((networks, *self.peer()))
        for (networks, told, peer), answer in zip(cases, ask([f"from\t{','.join(n)}\t{told}" for n, told, _ in cases])):
            try:
                _ = [ipaddress.ip_network(n) for n in networks if not n.startswith("unix")]
                expected = not networks or any(self.holds(n, told, peer) for n in networks)
            except ValueError:
                expected = None
            self.assertEqual(answer, {True: "OK", False: "NO", None: "FIELD_INVALID"}[expected], (networks, told))
            counts[answer] = counts.get(answer, 0) + 1
        print(counts, flush=True)
        for reason in ("OK", "NO", "FIELD_INVALID"):
            self.assertGreater(counts.get(reason, 0), QUESTIONS // 10000)

    def test_networks_within_others_agree_with_the_model(self):
        cases = [[[self.network() for _ in range(self.random.randint(0, 3))] for _ in range(2)]
                 for _ in range(QUESTIONS // 10)]
        answers = ask([f"inside\t{','.join(inner)}\t{','.join(outer)}" for inner, outer in cases])
        for (inner, outer), answer in zip(cases, answers):
            expected = not outer or (bool(inner) and all(any(self.covered(i, o) for o in outer) for i in inner))
            self.assertEqual(answer, "OK" if expected else "NO", (inner, outer))


if __name__ == "__main__":
    unittest.main(verbosity=2)
