#!/usr/bin/env python3
"""Resolve with declarations: what an action says that it needs, and what it gets."""

import itertools
import random
import unittest

import context
from cofferd import references, seed, values

RESOLVE, SECRET = context.RESOLVE, context.SECRET


def declared(name, keys="", optional_keys="", **fields):
    """A declaration; keys are parted by spaces."""
    return {"name": name, "keys": keys.split(), "optional_keys": optional_keys.split(), **fields}


def short(outcomes):
    return [outcome.removeprefix("OUTCOME_") for outcome in outcomes]


def given(result):
    """What was handed out: secrets with the keys of each."""
    return {secret["name"]: [pair["key"] for pair in secret["values"]] for secret in result["secrets"]}


class Model:
    """The rules a second time, from product.md and formats.md: one environment, one item."""

    def __init__(self, secrets, declarations):
        self.secrets, self.declarations = secrets, declarations

    def of_key(self, name, key):
        about = [d for d in self.declarations if d["name"] == name]
        if name not in self.secrets:
            return "ABSENT" if about and all(d.get("optional") for d in about) else "SECRET_NOT_FOUND"
        required = any(key in d["keys"] for d in about)
        if key not in self.secrets[name]:
            optional = not required and any(key in d["optional_keys"] for d in about)
            return "ABSENT" if optional else "KEY_NOT_FOUND"
        return "KEY_EMPTY" if required and not self.secrets[name][key].strip() else "RESOLVED"

    def of_declaration(self, declaration):
        name = declaration["name"]
        keys = declaration["keys"] + declaration["optional_keys"]
        if not keys:
            return ["RESOLVED" if name in self.secrets else self.of_key(name, "")]
        outcomes = [self.of_key(name, key) for key in keys]
        at_least_one = not declaration["keys"] and not declaration.get("optional") and name in self.secrets
        if at_least_one and not any(self.secrets[name].get(key, b"").strip() for key in keys):
            return ["DECLARATION_NOT_SATISFIED" if o in ("RESOLVED", "ABSENT") else o for o in outcomes]
        return outcomes

    def outcomes(self, pairs):
        return [self.of_key(*pair) for pair in pairs] + [o for d in self.declarations for o in self.of_declaration(d)]

    def handed_out(self, pairs):
        """Nothing that was not asked for."""
        asked = set(pairs) | {(d["name"], key) for d in self.declarations for key in d["keys"] + d["optional_keys"]}
        found = sorted((name, key) for name, key in asked if key in self.secrets.get(name, {}))
        return {name: [key for _, key in keys] for name, keys in itertools.groupby(found, lambda pair: pair[0])}


class Declarations(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store("prod", "full", A=b"value a", B=b"value b", C=b"value c")
        cls.store("prod", "blank", EMPTY=b"", SPACE=b" \t\r\n\v\f", FULL=b"full", NUL=b"\0")
        cls.store("default", "elsewhere", K=b"in default only")

    @classmethod
    def store(cls, environment, name, **pairs):
        answer = cls.connection.call(SECRET + "CreateSecret", {
            "name": name, "environment": environment, "values": values(**pairs)}, token=cls.dev.admin)
        assert answer.code == 0, answer

    def declare(self, *declarations, names=(), environment="prod", **fields):
        return self.resolve(environment, *names, declarations=declarations, **fields)

    def check(self, cases):
        """Each case: declarations, then the outcomes of their keys, and what is handed out; None: the item failed."""
        for declarations, outcomes, secrets in cases:
            with self.subTest(declarations=declarations):
                result = self.declare(*declarations)
                self.assertEqual(short(result["outcomes"]), outcomes.split())
                self.assertEqual(result["status"]["code"] == 0, secrets is not None)
                self.assertEqual(given(result), secrets or {})

    def test_required_secret_or_key_that_is_missing_is_an_error(self):
        self.check([
            ([declared("full", "A B")], "RESOLVED RESOLVED", {"full": ["A", "B"]}),
            ([declared("full", "A Z")], "RESOLVED KEY_NOT_FOUND", None),
            ([declared("none", "A B")], "SECRET_NOT_FOUND SECRET_NOT_FOUND", None),
            ([declared("none", "", "A")], "SECRET_NOT_FOUND", None),
            ([declared("none", "A", "B")], "SECRET_NOT_FOUND SECRET_NOT_FOUND", None),
            ([declared("elsewhere", "K")], "SECRET_NOT_FOUND", None),
            ([declared("none")], "SECRET_NOT_FOUND", None),
            ([declared("full")], "RESOLVED", {}),
        ])

    def test_what_is_optional_and_missing_is_absent(self):
        self.check([
            ([declared("none", "A", optional=True)], "ABSENT", {}),
            ([declared("none", "A", "B", optional=True)], "ABSENT ABSENT", {}),
            ([declared("none", optional=True)], "ABSENT", {}),
            ([declared("none", "A", optional=True), declared("full", "A")], "ABSENT RESOLVED", {"full": ["A"]}),
            ([declared("full", "A", "B Z")], "RESOLVED RESOLVED ABSENT", {"full": ["A", "B"]}),
            ([declared("full", "", "Z Y", optional=True)], "ABSENT ABSENT", {}),
            ([declared("full", "", "A Z", optional=True)], "RESOLVED ABSENT", {"full": ["A"]}),
        ])

    def test_optional_secret_that_is_there_without_a_required_key_is_an_error(self):
        self.check([
            ([declared("full", "A Z", optional=True)], "RESOLVED KEY_NOT_FOUND", None),
            ([declared("full", "A", optional=True)], "RESOLVED", {"full": ["A"]}),
            ([declared("blank", "EMPTY", optional=True)], "KEY_EMPTY", None),
        ])

    def test_of_optional_keys_alone_one_must_be_there_and_not_blank(self):
        self.check([
            ([declared("full", "", "A Z")], "RESOLVED ABSENT", {"full": ["A"]}),
            ([declared("full", "", "Z Y")], "DECLARATION_NOT_SATISFIED DECLARATION_NOT_SATISFIED", None),
            ([declared("blank", "", "SPACE")], "DECLARATION_NOT_SATISFIED", None),
            ([declared("blank", "", "EMPTY SPACE Z")], " ".join(["DECLARATION_NOT_SATISFIED"] * 3), None),
            ([declared("blank", "", "EMPTY FULL")], "RESOLVED RESOLVED", {"blank": ["EMPTY", "FULL"]}),
            ([declared("blank", "", "NUL")], "RESOLVED", {"blank": ["NUL"]}),
            ([declared("blank", "", "SPACE", optional=True)], "RESOLVED", {"blank": ["SPACE"]}),
        ])
        message = self.declare(declared("full", "", "Z Y"))["status"]["message"]
        for text in ('"full"', '"prod"', "at least one", '"Z"'):
            self.assertIn(text, message)

    def test_required_wins_over_optional_in_whichever_order_they_are_declared(self):
        cases = [
            ([declared("none", "A"), declared("none", "A", optional=True)], "SECRET_NOT_FOUND SECRET_NOT_FOUND", None),
            ([declared("full", "Z"), declared("full", "", "Z A")], "KEY_NOT_FOUND KEY_NOT_FOUND RESOLVED", None),
            ([declared("blank", "SPACE"), declared("blank", "", "SPACE FULL")], "KEY_EMPTY KEY_EMPTY RESOLVED", None),
            ([declared("full", "A", "A")], "RESOLVED RESOLVED", {"full": ["A"]}),
            ([declared("full", "Z", "Z")], "KEY_NOT_FOUND KEY_NOT_FOUND", None),
        ]
        self.check(cases)
        for declarations, outcomes, _ in cases:
            result = self.declare(*reversed(declarations))
            self.assertEqual(sorted(short(result["outcomes"])), sorted(outcomes.split()), declarations)

    def test_required_key_that_is_blank_is_told_as_empty(self):
        self.check([
            ([declared("blank", "EMPTY")], "KEY_EMPTY", None),
            ([declared("blank", "SPACE FULL")], "KEY_EMPTY RESOLVED", None),
            ([declared("blank", "FULL", "EMPTY SPACE")], "RESOLVED RESOLVED RESOLVED",
             {"blank": ["EMPTY", "FULL", "SPACE"]}),
            ([declared("blank", "NUL")], "RESOLVED", {"blank": ["NUL"]}),
        ])
        result = self.declare(declared("blank", "SPACE"))
        self.assertEqual(result["status"]["code"], 9)
        for text in ('"blank"', '"SPACE"', '"prod"'):
            self.assertIn(text, result["faults"][0]["message"])

    def test_secret_of_another_type_than_declared_does_not_satisfy(self):
        wrong = self.declare(declared("full", "A", "B", type="SECRET_TYPE_SSH_KEY"))
        self.assertEqual(short(wrong["outcomes"]), ["DECLARATION_NOT_SATISFIED"] * 2)
        self.assertIn("SECRET_TYPE_SSH_KEY", wrong["status"]["message"])
        self.assertEqual(given(self.declare(declared("full", "A", type="SECRET_TYPE_CUSTOM"))), {"full": ["A"]})
        self.assertEqual(short(self.declare(declared("none", "A", type="SECRET_TYPE_MTLS", optional=True))["outcomes"]),
                         ["ABSENT"])

    def test_references_come_first_and_follow_what_is_declared(self):
        result = self.declare(declared("none", "K", optional=True), declared("full", "A", "Z"),
                              names=("none.OTHER", "full.Z", "full.B"))
        self.assertEqual(short(result["outcomes"]), ["ABSENT", "ABSENT", "RESOLVED", "ABSENT", "RESOLVED", "ABSENT"])
        self.assertEqual(given(result), {"full": ["A", "B"]})
        failing = self.declare(declared("none", "K"), names=("full.A", "blank.Z"))
        self.assertEqual([fault["reference_index"] for fault in failing["faults"]], [1, 2])
        self.assertEqual(failing["secrets"], [])

    def test_everything_that_is_wrong_with_declarations_comes_back_at_once_with_near_misses(self):
        result = self.declare(declared("ful", "A"), declared("full", "AA", "B"), declared("blank", "EMPTY"),
                              declared("blank", "", "Z"), declared("no such name", "K"),
                              {"name": "full", "keys": ["no key"]})
        self.assertEqual(short(result["outcomes"]), [
            "SECRET_NOT_FOUND", "KEY_NOT_FOUND", "RESOLVED", "KEY_EMPTY", "DECLARATION_NOT_SATISFIED",
            "EXPRESSION_INVALID", "EXPRESSION_INVALID"])
        faults = {fault["reference_index"]: fault for fault in result["faults"]}
        self.assertEqual(sorted(faults), [0, 1, 3, 4, 5, 6])
        self.assertEqual(faults[0]["near_misses"], ["full"])
        self.assertEqual(sorted(faults[1]["near_misses"]), ["A", "B", "C"])
        self.assertEqual((faults[1]["reference"]["name"], faults[1]["reference"]["key"]), ("full", "AA"))

    def test_optional_tells_nothing_of_what_the_caller_may_not_resolve(self):
        token = self.token_for([{"permissions": ["resolve"], "environments": ["prod"], "names": ["blank"]}])
        declarations = [declared("full", "A", "Z", optional=True), declared("none", "A", "Z", optional=True)]
        result = self.declare(*declarations, token=token)
        self.assertEqual(short(result["outcomes"]), ["PERMISSION_DENIED"] * 4)
        texts = {f["message"].replace(f["reference"]["name"], "X") for f in result["faults"]}
        self.assertEqual((len(texts), {tuple(f["near_misses"]) for f in result["faults"]}), (1, {()}))

    def test_connection_that_is_declared_as_a_secret_is_not_there(self):
        result = self.declare(declared("github_oauth", "GITHUB_USER_TOKEN", optional=True))
        self.assertEqual(result["status"]["outcome"], "OUTCOME_CONNECTION_NOT_FOUND")

    def test_preflight_says_what_is_declared_and_missing_without_a_value(self):
        environments = [f"pre{i}" for i in range(6)]
        for environment in environments[::2]:
            self.store(environment, "tool", KEY=b"value that no preflight shows")
        item = {"environments": environments, "declarations": [declared("tool", "KEY"), declared("x", "Y", optional=True)]}
        answer = self.call(RESOLVE, {"items": [item], "validate_only": True})
        self.assertEqual(answer.message["counts"], {"resolved": 3, "failed": 3})
        self.assertEqual([(r["environment"], short(r["outcomes"])) for r in answer.message["results"]],
                         [(e, ["SECRET_NOT_FOUND", "ABSENT"]) for e in environments[1::2]])
        self.assertNotIn(b"no preflight shows", answer.payload)

    def test_looped_child_workflow_gets_the_credentials_of_each_account_it_was_called_for(self):
        """The parent runs in prod, which has a role of its own; it is never taken over by a child."""
        accounts = [f"{100000000000 + 37 * i}" for i in range(200)]
        missing = accounts[123]
        self.store("prod", "tenant_role", ROLE=b"the role of the parent")
        for account in accounts:
            if account != missing:
                self.store(account, "tenant_role", ROLE=f"role of {account}".encode(), OTHER=b"not declared")
        item = {"environments": accounts, "declarations": [declared("tenant_role", "ROLE")]}
        results = self.call(RESOLVE, {"items": [item]}).message["results"]
        self.assertEqual([r["environment"] for r in results], accounts)
        failed = [r for r in results if r["status"]["code"]]
        self.assertEqual([(r["environment"], r["status"]["outcome"]) for r in failed],
                         [(missing, "OUTCOME_SECRET_NOT_FOUND")])
        self.assertIn(f'"{missing}"', failed[0]["status"]["message"])
        right = [r for r in results if not r["status"]["code"] and given(r) == {"tenant_role": ["ROLE"]}
                 and self.value(r, "tenant_role", "ROLE") == f"role of {r['environment']}".encode()]
        self.assertEqual(len(right), 199)

    def test_calls_that_come_together_get_what_each_of_them_declared(self):
        """They are read by one statement, if they come close enough to each other."""
        declarations = [declared("full", "A", "Z"), declared("none", "K", optional=True)]
        for _ in range(5):
            answers = self.together(8, RESOLVE, {"items": [{"environments": ["prod"], "declarations": declarations}]})
            results = [answer.message["results"][0] for answer in answers]
            self.assertEqual([short(r["outcomes"]) for r in results], [["RESOLVED", "ABSENT", "ABSENT"]] * 8)
            self.assertEqual([given(r) for r in results], [{"full": ["A"]}] * 8)

    def test_1000_declared_keys_pass_and_1001_are_refused(self):
        self.store("wide", "wide", **{f"K{i:02}": b"%d" % i for i in range(100)})
        keys = " ".join(f"K{i:02}" for i in range(100))
        result = self.declare(*[declared("wide", keys)] * 10, environment="wide")
        self.assertEqual((short(result["outcomes"]), len(given(result)["wide"])), (["RESOLVED"] * 1000, 100))
        item = {"environments": ["wide"], "declarations": [declared("wide", keys)] * 10 + [declared("wide")]}
        answer = self.call(RESOLVE, {"items": [item]})
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["items[0].references"]))
        pairs = {"environments": ["wide"] * 11, "declarations": [declared("wide", keys)] * 10}
        self.assertEqual(self.call(RESOLVE, {"items": [pairs]}).reason, "LIMIT_EXCEEDED")

    def test_hostile_declarations_are_answered_like_others(self):
        odd = ["", "a" * 129, "../x", "*", "\U0001f511", "${{ SECRETS.full.A }}", "x" * 5000]
        result = self.declare(*[declared(name, "K", "L", optional=True) for name in odd],
                              *[{"name": "full", "keys": [key], "optional_keys": [key]} for key in odd])
        self.assertEqual(short(result["outcomes"]), ["EXPRESSION_INVALID"] * (4 * len(odd)))
        empty = self.declare(*[{}] * 300)
        self.assertEqual(short(empty["outcomes"]), ["EXPRESSION_INVALID"] * 300)
        self.assertEqual(self.declare(declared("full", "A"))["status"]["code"], 0)

    def test_random_declarations_are_answered_as_the_model_says(self):
        chance = random.Random(seed())
        names, keys = ["a", "b", "c"], ["K", "L", "M", "N"]
        worlds = {f"world{i}": self.new_world(f"world{i}", chance, names, keys) for i in range(24)}
        for _ in range(40):
            cases = [self.random_case(chance, names, keys, list(worlds)) for _ in range(100)]
            answer = self.call(RESOLVE, {"items": [item for item, _ in cases]})
            self.assertEqual(answer.code, 0, answer)
            for (item, pairs), result in zip(cases, answer.message["results"], strict=True):
                self.compare(item, pairs, result, worlds[item["environments"][0]])

    def new_world(self, environment, chance, names, keys):
        world = {}
        for name in names:
            if chance.random() < 0.75:
                chosen = chance.sample(keys, chance.randint(1, len(keys)))
                world[name] = {key: chance.choice([b"", b" \n", b"value", chance.randbytes(8) + b"!"]) for key in chosen}
                self.store(environment, name, **world[name])
        return world

    @staticmethod
    def random_case(chance, names, keys, environments):
        def some(most):
            return " ".join(chance.choices(keys, k=chance.randint(0, most)))
        pairs = [(chance.choice(names), chance.choice(keys)) for _ in range(chance.randint(0, 3))]
        declarations = [declared(chance.choice(names), some(2), some(3), optional=chance.random() < 0.5)
                        for _ in range(chance.randint(0 if pairs else 1, 4))]
        return {"environments": [chance.choice(environments)], "declarations": declarations,
                "references": references(*map(".".join, pairs))}, pairs

    def compare(self, item, pairs, result, world):
        model = Model(world, item["declarations"])
        outcomes = model.outcomes(pairs)
        told = (item, world)
        self.assertEqual(short(result["outcomes"]), outcomes, told)
        faults = [i for i, outcome in enumerate(outcomes) if outcome not in ("RESOLVED", "ABSENT")]
        self.assertEqual([fault["reference_index"] for fault in result["faults"]], faults, told)
        self.assertEqual(result["status"]["code"] != 0, bool(faults), told)
        self.assertEqual(given(result), {} if faults else model.handed_out(pairs), told)
        for secret in result["secrets"]:
            for pair in secret["values"]:
                self.assertEqual(pair["value"], world[secret["name"]][pair["key"]], told)


if __name__ == "__main__":
    unittest.main()
