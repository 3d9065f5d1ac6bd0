#!/usr/bin/env python3
"""Resolve with expressions and environment views: what the server evaluates, and what it leaves to the engine."""

import itertools
import json
import os
import pathlib
import random
import unittest

import context
from cofferd import references, seed, values

RESOLVE, SECRET = context.RESOLVE, context.SECRET
CASES = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "expressions.json"
MISSING = ("SECRET_NOT_FOUND", "KEY_NOT_FOUND")


def short(outcomes):
    return [outcome.removeprefix("OUTCOME_") for outcome in outcomes]


def given(result):
    return {secret["name"]: [pair["key"] for pair in secret["values"]] for secret in result["secrets"]}


def worth(expression):
    """What an expression came to: bytes, None, "engine", or its outcome if it failed."""
    if expression["not_evaluated"]:
        return "engine"
    if expression["null_value"]:
        return None
    outcome = expression["outcome"].removeprefix("OUTCOME_")
    return expression["value"] if outcome == "RESOLVED" else outcome


class ExpressionTest(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store("prod", "a", K=b"value k", L=b"value l", EMPTY=b"", SPACE=b" ", TEXT=b"${{ SECRETS.a.K }}")
        cls.store("prod", "b", K=b"of b", M=b"value m")
        cls.store("prod", "my-name", **{"API.KEY": b"dashed"})

    @classmethod
    def store(cls, environment, name, **pairs):
        fields = pairs.pop("fields", {})
        answer = cls.connection.call(SECRET + "CreateSecret", {
            "name": name, "environment": environment, "values": values(**pairs), **fields}, token=cls.dev.admin)
        assert answer.code == 0, answer

    def evaluate(self, *expressions, environment="prod", **fields):
        return self.resolve(environment, expressions=expressions, **fields)

    def check(self, cases, **fields):
        """Each case: an expression without its braces, its value, the outcomes of its references."""
        for inside, value, outcomes in cases:
            with self.subTest(expression=inside):
                result = self.evaluate("${{ %s }}" % inside, **fields)
                self.assertEqual([worth(e) for e in result["expressions"]], [value])
                self.assertEqual(short(result["outcomes"]), outcomes.split())
                self.assertEqual(result["status"]["code"], 0, result["status"])


class Expressions(ExpressionTest):
    def test_value_is_that_of_the_first_operand_that_is_there_and_not_empty(self):
        self.check([
            ("SECRETS.a.K", b"value k", "RESOLVED"),
            ("SECRETS.a.K || SECRETS.a.L", b"value k", "RESOLVED NOT_NEEDED"),
            ("SECRETS.a.EMPTY || SECRETS.a.L || 'x'", b"value l", "RESOLVED RESOLVED"),
            ("SECRETS.a.SPACE || 'x'", b" ", "RESOLVED"),
            ("SECRETS.a.EMPTY || 'x'", b"x", "RESOLVED"),
            ("'x' || SECRETS.a.K", b"x", "NOT_NEEDED"),
            ("'' || None || SECRETS.a.K", b"value k", "RESOLVED"),
            ("SECRETS['my-name']['API.KEY']", b"dashed", "RESOLVED"),
            ("SECRETS.a.TEXT", b"${{ SECRETS.a.K }}", "RESOLVED"),
        ])

    def test_value_is_that_of_the_last_operand_if_no_other_has_one(self):
        self.check([
            ("SECRETS.a.EMPTY", b"", "RESOLVED"),
            ("SECRETS.none.K || SECRETS.a.EMPTY", b"", "SECRET_NOT_FOUND RESOLVED"),
            ("SECRETS.none.K || ''", b"", "SECRET_NOT_FOUND"),
            ("SECRETS.none.K || SECRETS.a.Z || None", None, "SECRET_NOT_FOUND KEY_NOT_FOUND"),
        ])

    def test_missing_operand_falls_through_and_is_reported_without_being_an_error(self):
        result = self.evaluate("${{ SECRETS.none.K || SECRETS.a.Z || SECRETS.a.K || SECRETS.other.K }}")
        self.assertEqual(short(result["outcomes"]), ["SECRET_NOT_FOUND", "KEY_NOT_FOUND", "RESOLVED", "NOT_NEEDED"])
        self.assertEqual((result["status"]["code"], result["status"]["outcome"], result["status"]["message"]),
                         (0, "OUTCOME_RESOLVED", ""))
        self.assertEqual([f["reference_index"] for f in result["faults"]], [0, 1])
        self.assertEqual(given(result), {"a": ["K"]})

    def test_last_operand_that_is_missing_is_the_error_of_its_expression_alone(self):
        result = self.evaluate("${{ SECRETS.none.K || SECRETS.aa.K }}", "${{ SECRETS.a.K }}")
        self.assertEqual([e["outcome"] for e in result["expressions"]], ["OUTCOME_SECRET_NOT_FOUND", "OUTCOME_RESOLVED"])
        self.assertEqual([e["value"] for e in result["expressions"]], [b"", b""])
        self.assertEqual(result["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")
        self.assertIn('"aa"', result["status"]["message"])
        self.assertEqual(result["faults"][1]["near_misses"], ["a", "b"])
        self.assertEqual(result["secrets"], [])

    def test_any_other_outcome_than_missing_is_the_error_of_its_expression(self):
        self.store("prod", "locked", K=b"expired", fields={"expire_time": {"seconds": 1600000000},
                                                           "block_when_expired": True})
        self.store("prod", "damaged", K=b"damaged")
        self.sql("update secret set description = 'changed' where name = 'damaged'")
        cases = {"locked.K": "SECRET_EXPIRED", "damaged.K": "CORRUPTED", "github_oauth.OTHER_TOKEN": "EXPRESSION_INVALID"}
        for reference, outcome in cases.items():
            result = self.evaluate("${{ SECRETS.none.K || SECRETS.%s || 'x' || SECRETS.a.K }}" % reference)
            self.assertEqual(short(result["outcomes"]), ["SECRET_NOT_FOUND", outcome, "NOT_NEEDED"])
            self.assertEqual([worth(e) for e in result["expressions"]], [outcome])
            self.assertEqual((result["status"]["outcome"], result["secrets"]), (f"OUTCOME_{outcome}", []))
        token = self.token_for([{"permissions": ["resolve"], "environments": ["prod"], "names": ["a"]}])
        for hidden in ("b.K", "not_there.K"):
            result = self.evaluate("${{ SECRETS.%s || SECRETS.a.K }}" % hidden, token=token)
            self.assertEqual(short(result["outcomes"]), ["PERMISSION_DENIED", "NOT_NEEDED"])
            self.assertNotEqual(result["status"]["code"], 0)
        self.check([("SECRETS.a.K || SECRETS.damaged.K", b"value k", "RESOLVED NOT_NEEDED")])

    def test_what_is_not_needed_is_neither_handed_out_nor_told(self):
        answer = self.call(RESOLVE, {"items": [{"environments": ["prod"], "expressions": [
            "${{ SECRETS.a.K || SECRETS.b.M }}"]}]})
        self.assertEqual(given(answer.message["results"][0]), {"a": ["K"]})
        self.assertNotIn(b"value m", answer.payload)

    def test_absent_falls_through_and_is_null_at_the_end(self):
        declarations = [{"name": "maybe", "keys": ["K"], "optional": True}, {"name": "a", "optional_keys": ["K", "Z"]}]
        cases = {"SECRETS.maybe.K": (None, "OUTCOME_ABSENT"), "SECRETS.maybe.K || SECRETS.a.Z": (None, "OUTCOME_ABSENT"),
                 "SECRETS.maybe.K || None": (None, "OUTCOME_RESOLVED"), "SECRETS.a.Z || ''": (b"", "OUTCOME_RESOLVED"),
                 "SECRETS.maybe.K || SECRETS.a.L": (b"value l", "OUTCOME_RESOLVED")}
        for inside, expected in cases.items():
            result = self.evaluate("${{ %s }}" % inside, declarations=declarations)
            self.assertEqual([(worth(e), e["outcome"]) for e in result["expressions"]], [expected], inside)
            self.assertEqual((result["status"]["code"], result["faults"]), (0, []))
        blank = self.evaluate("${{ SECRETS.a.EMPTY || 'x' }}", declarations=[{"name": "a", "keys": ["EMPTY"]}])
        self.assertEqual((short(blank["outcomes"]), blank["secrets"]), (["KEY_EMPTY", "KEY_EMPTY"], []))

    def test_other_expressions_are_left_to_the_engine_which_is_given_the_values(self):
        self.check([
            ("FN.join(SECRETS.a.K, SECRETS.b.M)", "engine", "RESOLVED RESOLVED"),
            ("SECRETS.a.K if TRIGGER.x else SECRETS.a.L", "engine", "RESOLVED RESOLVED"),
            ("(SECRETS.a.K || SECRETS.a.L)", "engine", "RESOLVED RESOLVED"),
            ("FN.now()", "engine", ""),
        ])
        result = self.evaluate("${{ FN.join(SECRETS.a.K, SECRETS.b.M) }}")
        self.assertEqual(given(result), {"a": ["K"], "b": ["M"]})
        failing = self.evaluate("${{ FN.join(SECRETS.a.K, SECRETS.none.M) || 'x' }}")
        self.assertEqual((failing["status"]["outcome"], failing["expressions"][0]["outcome"]),
                         ("OUTCOME_SECRET_NOT_FOUND", "OUTCOME_SECRET_NOT_FOUND"))
        absent = self.evaluate("${{ FN.x(SECRETS.maybe.K) }}", declarations=[{"name": "maybe", "optional": True}])
        self.assertEqual((short(absent["outcomes"]), absent["status"]["code"]), (["ABSENT", "ABSENT"], 0))

    def test_outcomes_of_expressions_come_behind_references_and_declared_keys(self):
        result = self.evaluate("${{ SECRETS.a.L }}", "${{ FN.now() }}", "${{ SECRETS.x.Y || SECRETS.b.K }}",
                               references=references("a.K"), declarations=[{"name": "b", "keys": ["M"]}])
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "RESOLVED", "RESOLVED", "SECRET_NOT_FOUND", "RESOLVED"])
        self.assertEqual([worth(e) for e in result["expressions"]], [b"value l", "engine", b"of b"])
        self.assertEqual(given(result), {"a": ["K", "L"], "b": ["K", "M"]})

    def test_wrong_expressions_are_all_told_with_their_place(self):
        wrong = {
            "SECRETS.a.K": "not one expression", "": "not one expression", "${{ SECRETS.a.K": "line 1, column 1",
            "${{ SECRETS.a }}": "line 1, column 15", "${{ SECRETS.a.K.L }}": "line 1, column 16",
            "${{\n SECRETS.a.'x' }}": "line 2, column 12", "x ${{ SECRETS.a.K }}": "not one expression",
            "${{ SECRETS.a.K }}${{ SECRETS.a.K }}": "not one expression", "${{ 'x }}": None,
            "${{ SECRETS.a.K || ${{ SECRETS.a.K }} }}": "line 1, column 20",
        }
        result = self.evaluate(*wrong, "${{ SECRETS.a.K }}")
        told = {index: text for index, text in enumerate(wrong.values()) if text}
        outcomes = ["EXPRESSION_INVALID"] * len(told) + ["RESOLVED"]
        self.assertEqual(short(result["outcomes"]), outcomes)
        self.assertEqual((result["status"]["code"], result["secrets"]), (3, []))
        for (index, text), fault in zip(told.items(), result["faults"], strict=True):
            self.assertIn(f"expressions[{index}]", fault["message"])
            self.assertIn(text, fault["message"])
            self.assertIsNone(fault["reference"])

    def test_expression_of_8_kib_passes_and_one_byte_more_is_refused(self):
        def of_size(size):
            expression = "${{ SECRETS.none.K || '%s' }}"
            return expression % ("x" * (size - len(expression) + 2))
        self.assertEqual(len(of_size(8192)), 8192)
        self.assertEqual(self.evaluate(of_size(8192))["status"]["code"], 0)
        over = self.evaluate(of_size(8193), of_size(100))
        self.assertEqual(short(e["outcome"] for e in over["expressions"]), ["EXPRESSION_INVALID", "RESOLVED"])
        self.assertIn("longer", over["faults"][0]["message"])

    def test_1000_references_in_expressions_pass_and_1001_are_refused(self):
        ten = "${{ FN.x(%s) }}" % ", ".join(["SECRETS.a.K"] * 10)
        result = self.evaluate(*[ten] * 100)
        self.assertEqual((short(result["outcomes"]), given(result)), (["RESOLVED"] * 1000, {"a": ["K"]}))
        over = [{"expressions": [ten] * 100 + ["${{ SECRETS.a.K }}"]},
                {"expressions": [ten] * 99 + ["${{ SECRETS.a.K }}"], "declarations": [{"name": "a", "keys": ["K"] * 10}]}]
        for fields in over:
            answer = self.call(RESOLVE, {"items": [{"environments": ["prod"]}, {"environments": ["prod"], **fields}]})
            self.assertEqual((answer.code, answer.reason, answer.fields),
                             (8, "LIMIT_EXCEEDED", ["items[1].expressions"]))

    def test_references_of_expressions_count_in_each_environment(self):
        ten = "${{ FN.x(%s) }}" % ", ".join(["SECRETS.a.K"] * 10)
        item = {"environments": ["prod"] * 10, "expressions": [ten] * 100}
        self.assertEqual(len(self.call(RESOLVE, {"items": [item]}).message["results"]), 10)
        item["environments"].append("prod")
        answer = self.call(RESOLVE, {"items": [item]})
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["items"]))
        checked = self.call(RESOLVE, {"items": [item], "validate_only": True})
        self.assertEqual(checked.message["counts"], {"resolved": 11, "failed": 0})

    def test_preflight_shows_no_value_of_an_expression(self):
        item = {"environments": ["prod", "nowhere"], "expressions": ["${{ SECRETS.a.K }}", "${{ SECRETS.x.Y || 'lit' }}"]}
        answer = self.call(RESOLVE, {"items": [item], "validate_only": True})
        self.assertEqual(answer.message["counts"], {"resolved": 1, "failed": 1})
        result, = answer.message["results"]
        self.assertEqual([worth(e) for e in result["expressions"]], ["SECRET_NOT_FOUND", b""])
        for text in (b"value k", b"lit"):
            self.assertNotIn(text, answer.payload)

    def test_results_with_values_of_expressions_that_do_not_fit_are_deferred(self):
        big = os.urandom(65536)
        environments = [f"large{i}" for i in range(30)]
        for environment in environments:
            self.store(environment, "big", A=big)
        item = {"environments": environments, "expressions": ["${{ SECRETS.big.A }}"] * 2, "environment_view": True}
        answer = self.call(RESOLVE, {"items": [item]})
        outcomes = short(r["status"]["outcome"] for r in answer.message["results"])
        self.assertLess(len(answer.payload), 4 << 20)
        self.assertEqual({*outcomes}, {"RESOLVED", "DEFERRED"})
        self.assertEqual(outcomes, ["RESOLVED"] * outcomes.count("RESOLVED") + ["DEFERRED"] * outcomes.count("DEFERRED"))

    def test_hostile_expressions_are_answered_in_time(self):
        long = ["${{ SECRETS.none.K || %s'' }}" % ("'' || " * 1300), "${{ FN.x(SECRETS.a.K%s }}" % ("(" * 8000),
                "${{ SECRETS%s }}" % (".a" * 4000), "${{" * 2700, "${{ SECRETS.a.K || '%s" % ("}}" * 4000),
                "${{ %s SECRETS.a.K }}" % ("'" * 7999)]
        item = {"environments": ["prod"] * 1000, "expressions": long[:1] * 10}
        self.assertEqual({r["status"]["outcome"] for r in self.call(RESOLVE, {"items": [item]}).message["results"]},
                         {"OUTCOME_RESOLVED"})
        self.assertNotEqual(self.evaluate(*long)["status"]["code"], 0)
        chance = random.Random(seed())
        parts = ["${{", "}}", "SECRETS", ".a", ".K", "['", "']", "'", '"', " || ", "None", " ", "\n", "x", "(", "\u00e9"]
        for _ in range(20):
            texts = ["".join(chance.choices(parts, k=chance.randint(0, 40))) for _ in range(50)]
            result = self.evaluate(*texts)
            self.assertEqual(len(result["expressions"]), 50)
        self.assertEqual(self.evaluate("${{ SECRETS.a.K }}")["expressions"][0]["value"], b"value k")


class View(ExpressionTest):
    def view(self, *names, **fields):
        return self.resolve("prod", *names, environment_view=True, **fields)

    @staticmethod
    def variables(result):
        return [(v["name"], v["value"]) for v in result["environment_variables"]]

    def test_environment_view_is_one_flat_map_sorted_by_name(self):
        result = self.view("b.M", "a.L", "a.L", declarations=[{"name": "a", "keys": ["K"], "optional_keys": ["ZZ"]}])
        self.assertEqual(self.variables(result), [("K", b"value k"), ("L", b"value l"), ("M", b"value m")])
        self.assertEqual(given(result), {"a": ["K", "L"], "b": ["M"]})
        self.assertEqual(self.resolve("prod", "a.K")["environment_variables"], [])

    def test_same_key_of_two_secrets_is_an_error_that_names_both(self):
        self.store("prod", "c", K=b"of c", M=b"m of c")
        result = self.view("a.K", "b.K", "b.M", "a.L", "c.M", "c.K")
        self.assertEqual(short(result["outcomes"]), [
            "RESOLVED", "ENVIRONMENT_VIEW_CONFLICT", "RESOLVED", "RESOLVED", "ENVIRONMENT_VIEW_CONFLICT",
            "ENVIRONMENT_VIEW_CONFLICT"])
        self.assertEqual((result["status"]["outcome"], result["secrets"], result["environment_variables"]),
                         ("OUTCOME_ENVIRONMENT_VIEW_CONFLICT", [], []))
        for fault, names in zip(result["faults"], (("a", "b", "K"), ("b", "c", "M"), ("b", "c", "K")), strict=True):
            for name in names:
                self.assertIn(f'"{name}"', fault["message"])
        self.assertEqual(self.resolve("prod", "a.K", "b.K")["status"]["code"], 0)

    def test_conflict_and_what_is_missing_are_told_together(self):
        result = self.view("a.K", "b.K", "none.K")
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "ENVIRONMENT_VIEW_CONFLICT", "SECRET_NOT_FOUND"])
        self.assertEqual(self.view("a.K", expressions=["${{ SECRETS.a.K || SECRETS.b.K }}"])["status"]["code"], 0)
        item = {"environments": ["prod"], "references": references("a.K", "b.K"), "environment_view": True}
        checked = self.call(RESOLVE, {"items": [item], "validate_only": True})
        self.assertEqual(checked.message["counts"], {"resolved": 0, "failed": 1})


class Cases(ExpressionTest):
    """The cases of the language that are one expression, and random ones, against the whole server."""

    def test_cases_of_the_language_are_evaluated_as_by_the_library(self):
        cases = [case for case in json.loads(CASES.read_text())["cases"] if self.fits(case)]
        self.assertGreater(len(cases), 80)
        for number, case in enumerate(cases):
            environment = f"case{number}"
            rows = sorted(case["given"])
            for name, group in itertools.groupby(rows, lambda row: row[0]):
                self.store(environment, name, FILLER=b"x", **{row[1]: row[3].encode() for row in group if row[2] == "RESOLVED"})
            declarations = [{"name": row[0], "optional": True, "optional_keys": [row[1]]} for row in rows if row[2] == "ABSENT"]
            result = self.evaluate(case["text"], environment=environment, declarations=declarations)
            self.compare(case, result)

    @staticmethod
    def fits(case):
        """One template without other text, of secrets that can be stored."""
        text = case["text"]
        return (isinstance(text, str) and "\0" not in text and "given" in case and len(case["templates"]) == 1 and not case["errors"]
                and case["templates"][0][:2] == [0, len(text.encode())]
                and all(row[2] in ("RESOLVED", "ABSENT") and not row[0].endswith("_oauth") for row in case["given"]))

    def compare(self, case, result):
        expression, = result["expressions"]
        if "faults" in case:
            self.assertNotEqual(result["status"]["code"], 0, case)
        elif not case["templates"][0][2]:
            self.assertEqual(worth(expression), "engine", case)
        else:
            value = case["value"]
            self.assertEqual(worth(expression), value if value is None else value.encode(), case)

    def test_random_expressions_are_worth_what_the_model_says(self):
        chance = random.Random(seed())
        world = {"p": {"K": b"pk", "E": b""}, "q": {"K": b"qk", "L": b" "}}
        for name, pairs in world.items():
            self.store("random", name, **pairs)
        operands = [("ref", name, key) for name in ("p", "q", "r", "opt") for key in "KEL"]
        operands += [("lit", "", ""), ("lit", "x y", ""), ("none", "", "")]
        for _ in range(30):
            cases = [chance.choices(operands, k=chance.randint(1, 5)) for _ in range(100)]
            cases = [case + [("ref", "p", "K")] if all(o[0] != "ref" for o in case) else case for case in cases]
            items = [{"environments": ["random"], "expressions": [self.written(case)],
                      "declarations": [{"name": "opt", "optional": True}]} for case in cases]
            results = self.call(RESOLVE, {"items": items}).message["results"]
            for case, result in zip(cases, results, strict=True):
                value, outcomes = self.model(world, case)
                self.assertEqual(short(result["outcomes"]), ["ABSENT", *outcomes], case)
                self.assertEqual(worth(result["expressions"][0]), value, case)
                self.assertEqual(result["status"]["code"] != 0, value in MISSING, case)

    @staticmethod
    def written(case):
        forms = {"ref": "SECRETS.{}.{}", "lit": "'{}'", "none": "None"}
        return "${{ " + " || ".join(forms[kind].format(a, b) for kind, a, b in case) + " }}"

    @staticmethod
    def model(world, case):
        """The value, or the outcome that it failed with; and the outcomes of the references."""
        outcomes, value, taken = [], None, False
        for index, (kind, name, key) in enumerate(case):
            if taken:
                outcomes += ["NOT_NEEDED"] * (kind == "ref")
                continue
            outcome = "RESOLVED"
            if kind == "ref":
                missing = "ABSENT" if name == "opt" else "KEY_NOT_FOUND" if name in world else "SECRET_NOT_FOUND"
                outcome = "RESOLVED" if key in world.get(name, {}) else missing
                outcomes.append(outcome)
            value = {"lit": name.encode(), "none": None}.get(kind, world.get(name, {}).get(key))
            taken = bool(value)
            if index == len(case) - 1 and outcome in MISSING:
                value = outcome
        return value, outcomes


if __name__ == "__main__":
    unittest.main()
