#!/usr/bin/env python3
"""Resolve: many items and environments, an outcome for every reference, nothing that was not asked for."""

import base64
import os
import unittest

import context
from cofferd import references, values

SECRET = "coffer.v1.SecretService/"
RESOLVE = context.RESOLVE


class Resolve(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for environment in ("prod", "customer-a"):
            cls.store(environment, "crowdstrike", CROWDSTRIKE_CLIENT_ID=f"id of {environment}".encode(),
                      CROWDSTRIKE_CLIENT_SECRET=b"secret", EXTRA=b"not asked for")
        cls.store("default", "only_default", KEY=b"d")

    @classmethod
    def store(cls, environment, name, **pairs):
        answer = cls.connection.call(SECRET + "CreateSecret", {
            "name": name, "environment": environment, "values": values(**pairs)}, token=cls.dev.admin)
        assert answer.code == 0, answer
        return answer.message

    def test_one_request_resolves_many_environments_each_with_its_own_values(self):
        answer = self.call(RESOLVE, {"items": [{
            "id": "i", "environments": ["prod", "customer-a"],
            "references": references("crowdstrike.CROWDSTRIKE_CLIENT_ID")}]})
        found = [(r["item_id"], r["environment"], self.value(r, "crowdstrike", "CROWDSTRIKE_CLIENT_ID"))
                 for r in answer.message["results"]]
        self.assertEqual(found, [("i", "prod", b"id of prod"), ("i", "customer-a", b"id of customer-a")])

    def test_only_keys_that_were_referenced_are_returned(self):
        result = self.resolve("prod", "crowdstrike.CROWDSTRIKE_CLIENT_ID")
        self.assertEqual([pair["key"] for pair in result["secrets"][0]["values"]], ["CROWDSTRIKE_CLIENT_ID"])

    def test_reference_that_occurs_twice_is_returned_once_with_two_outcomes(self):
        result = self.resolve("prod", "crowdstrike.EXTRA", "crowdstrike.EXTRA")
        self.assertEqual(result["outcomes"], ["OUTCOME_RESOLVED"] * 2)
        self.assertEqual(len(result["secrets"][0]["values"]), 1)

    def test_secret_missing_in_an_environment_is_missing_even_if_default_has_it(self):
        result = self.resolve("prod", "only_default.KEY")
        self.assertEqual(result["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")
        self.assertEqual(self.value(self.resolve("", "only_default.KEY"), "only_default", "KEY"), b"d")

    def test_everything_that_is_wrong_comes_back_at_once_with_near_misses(self):
        result = self.resolve("prod", "crowdstrike.EXTRA", "crowdstrke.EXTRA", "crowdstrike.EXTRAS", "nothing.KEY",
                              "bad name.KEY")
        self.assertEqual(result["outcomes"], [f"OUTCOME_{o}" for o in (
            "RESOLVED", "SECRET_NOT_FOUND", "KEY_NOT_FOUND", "SECRET_NOT_FOUND", "EXPRESSION_INVALID")])
        self.assertEqual([fault["reference_index"] for fault in result["faults"]], [1, 2, 3, 4])
        self.assertEqual([fault["near_misses"] for fault in result["faults"]], [["crowdstrike"], ["EXTRA"], [], []])
        self.assertIn('"prod"', result["faults"][0]["message"])
        self.assertEqual((result["secrets"], result["status"]["code"]), ([], 3))

    def test_failure_of_one_environment_spoils_no_other(self):
        environments = [f"e{i:03}" for i in range(200)]
        for environment in environments:
            if environment != "e077":
                self.store(environment, "tenant", ROLE=environment.encode())
        answer = self.call(RESOLVE, {"items": [{"environments": environments, "references": references("tenant.ROLE")}]})
        failed = [r["environment"] for r in answer.message["results"] if r["status"]["code"]]
        right = [self.value(r, "tenant", "ROLE") == r["environment"].encode() for r in answer.message["results"]
                 if not r["status"]["code"]]
        self.assertEqual((failed, right), (["e077"], [True] * 199))

    def test_failure_of_one_item_spoils_no_other(self):
        good = {"id": "good", "environments": ["prod"], "references": references("crowdstrike.EXTRA")}
        other = "00000000-0000-4000-8000-000000000000"
        answer = self.call(RESOLVE, {"items": [
            {**good, "workspace": other}, good, {"id": "empty"}, {**good, "workspace": "no uuid"},
            {**good, "action": "tools.x"}, {**good, "environments": ["a b"]}, {**good, "id": "i" * 129}]})
        self.assertEqual([r["status"]["outcome"].removeprefix("OUTCOME_") for r in answer.message["results"]], [
            "PERMISSION_DENIED", "RESOLVED", "ITEM_INVALID", "ITEM_INVALID", "NOT_AVAILABLE", "ITEM_INVALID",
            "ITEM_INVALID"])

    def test_values_under_4_bytes_are_counted_as_unmasked(self):
        self.store("prod", "short", A=b"abc", B=b"abcd", C=b"")
        self.assertEqual(self.resolve("prod", "short.A", "short.B", "short.C")["unmasked_values"], 2)

    def test_1000_references_pass_and_1001_are_refused(self):
        names = ["crowdstrike.EXTRA"] * 1000
        self.assertEqual(self.resolve("prod", *names)["outcomes"], ["OUTCOME_RESOLVED"] * 1000)
        item = {"environments": ["prod"], "references": references(*names, "crowdstrike.EXTRA")}
        answer = self.call(RESOLVE, {"items": [item]})
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["items[0].references"]))

    def test_1000_distinct_secrets_are_resolved_by_one_request(self):
        for i in range(100):
            self.store("wide", f"w{i}", **{f"K{k}": b"%d.%d" % (i, k) for k in range(10)})
        names = [f"w{i}.K{k}" for i in range(100) for k in range(10)]
        result = self.resolve("wide", *names)
        self.assertEqual(self.value(result, "w99", "K9"), b"99.9")
        self.assertEqual(sum(len(secret["values"]) for secret in result["secrets"]), 1000)

    def test_limits_of_the_request_are_refused_with_the_field_named(self):
        item = {"environments": ["prod"], "references": references("a.B")}
        cases = {
            "items": {"items": [item] * 1001},
            "items[0].environments": {"items": [{**item, "environments": ["e"] * 1001}]},
        }
        for field, request in cases.items():
            self.assertEqual(self.call(RESOLVE, request).fields, [field])
        pairs = {"items": [{"environments": ["e"] * 101, "references": references(*["a.B"] * 100)}]}
        self.assertEqual(self.call(RESOLVE, pairs).reason, "LIMIT_EXCEEDED")
        self.assertEqual(self.call(RESOLVE, {"items": []}).reason, "FIELD_REQUIRED")

    def test_results_that_do_not_fit_are_deferred_and_come_when_asked_for_again(self):
        big = os.urandom(65536)
        environments = [f"big{i:02}" for i in range(24)]
        for environment in environments:
            self.store(environment, "big", A=big, B=big, C=big)
        names = references("big.A", "big.B", "big.C")
        answer = self.call(RESOLVE, {"items": [{"environments": environments, "references": names}]})
        outcomes = [r["status"]["outcome"] for r in answer.message["results"]]
        done, deferred = outcomes.count("OUTCOME_RESOLVED"), outcomes.count("OUTCOME_DEFERRED")
        self.assertEqual((done + deferred, len(answer.payload) < 4 << 20, deferred > 0, done >= 20), (24, True, True, True))
        again = [r["environment"] for r in answer.message["results"] if r["status"]["outcome"] == "OUTCOME_DEFERRED"]
        answer = self.call(RESOLVE, {"items": [{"environments": again, "references": names}]})
        self.assertEqual({r["status"]["outcome"] for r in answer.message["results"]}, {"OUTCOME_RESOLVED"})

    def test_preflight_returns_no_value_and_only_what_would_fail_in_pages(self):
        environments = [f"pre{i:02}" for i in range(30)]
        for environment in environments[::3]:
            self.store(environment, "pre", KEY=b"value of preflight")
        request = {"items": [{"environments": environments, "references": references("pre.KEY")}],
                   "validate_only": True, "page_size": 8}
        failed, token = [], ""
        while True:
            answer = self.call(RESOLVE, {**request, "page_token": token})
            self.assertNotIn(b"value of preflight", answer.payload)
            self.assertEqual(answer.message["counts"], {"resolved": 10, "failed": 20})
            failed += [r["environment"] for r in answer.message["results"]]
            token = answer.message["next_page_token"]
            if not token:
                break
        self.assertEqual(failed, [e for i, e in enumerate(environments) if i % 3])

    def test_write_returns_a_token_with_which_resolve_sees_the_write(self):
        token = self.store("prod", "fresh", KEY=b"1")["consistency_token"]
        result = self.resolve("prod", "fresh.KEY", consistency_token=token)
        self.assertEqual(self.value(result, "fresh", "KEY"), b"1")
        raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        raw[-8:] = (int.from_bytes(raw[-8:], "big") + 1000).to_bytes(8, "big")
        self.assertEqual(self.token_outcome(bytes(raw)), "OUTCOME_CONSISTENCY_NOT_REACHED")
        raw[1] ^= 1
        self.assertEqual(self.token_outcome(bytes(raw)), "OUTCOME_CONSISTENCY_TOKEN_UNKNOWN")
        self.assertEqual(self.token_outcome(b"short"), "OUTCOME_ITEM_INVALID")

    def token_outcome(self, raw):
        text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        return self.resolve("prod", "crowdstrike.EXTRA", consistency_token=text)["status"]["outcome"]

    def test_expired_secret_is_returned_with_its_time_unless_it_blocks(self):
        past = {"seconds": 1600000000}
        for name, block in (("soft", False), ("hard", True)):
            self.call(SECRET + "CreateSecret", {"name": name, "environment": "prod", "values": values(KEY=b"1"),
                                                "expire_time": past, "block_when_expired": block})
        soft = self.resolve("prod", "soft.KEY")
        self.assertEqual((soft["status"]["code"], soft["secrets"][0]["secret_expire_time"]["seconds"]),
                         (0, past["seconds"]))
        self.assertEqual(self.resolve("prod", "hard.KEY")["status"]["outcome"], "OUTCOME_SECRET_EXPIRED")

    def test_oauth_references_say_that_this_server_has_none(self):
        result = self.resolve("prod", "github_oauth.GITHUB_USER_TOKEN")
        self.assertEqual(result["status"]["outcome"], "OUTCOME_NOT_AVAILABLE")


if __name__ == "__main__":
    unittest.main(verbosity=2)
