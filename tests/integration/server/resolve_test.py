#!/usr/bin/env python3
"""Resolve: many items and environments, an outcome for every reference, nothing that was not asked for."""

import base64
import os
import threading
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
            "PERMISSION_DENIED", "RESOLVED", "ITEM_INVALID", "ITEM_INVALID", "ACTION_NOT_FOUND", "ITEM_INVALID",
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
        return self.resolve("prod", "crowdstrike.EXTRA", consistency_token=text, timeout_ms=500)["status"]["outcome"]

    def test_expired_secret_is_returned_with_its_time_unless_it_blocks(self):
        past = {"seconds": 1600000000}
        for name, block in (("soft", False), ("hard", True)):
            self.call(SECRET + "CreateSecret", {"name": name, "environment": "prod", "values": values(KEY=b"1"),
                                                "expire_time": past, "block_when_expired": block})
        soft = self.resolve("prod", "soft.KEY")
        self.assertEqual((soft["status"]["code"], soft["secrets"][0]["secret_expire_time"]["seconds"]),
                         (0, past["seconds"]))
        self.assertEqual(self.resolve("prod", "hard.KEY")["status"]["outcome"], "OUTCOME_SECRET_EXPIRED")

    def test_oauth_reference_is_a_connection_that_is_not_there(self):
        result = self.resolve("prod", "github_oauth.GITHUB_USER_TOKEN")
        self.assertEqual(result["status"]["outcome"], "OUTCOME_CONNECTION_NOT_FOUND")

    def test_item_that_names_no_environment_is_about_default(self):
        for environments in ([], [""], ["default"]):
            item = {"environments": environments, "references": references("only_default.KEY")}
            result = self.call(RESOLVE, {"items": [item]}).message["results"][0]
            self.assertEqual((result["environment"], self.value(result, "only_default", "KEY")), ("default", b"d"))

    def test_unknown_environment_is_a_missing_secret_with_a_hint(self):
        result = self.resolve("prdo", "crowdstrike.EXTRA")
        self.assertEqual(result["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")
        for text in (result["status"]["message"], result["faults"][0]["message"]):
            self.assertIn('there is no environment "prdo"', text)
            self.assertIn('did you mean "prod"?', text)
        far = self.resolve("nothing-like-it", "crowdstrike.EXTRA")["status"]["message"]
        self.assertIn('there is no environment "nothing-like-it"', far)
        self.assertNotIn("did you mean", far)
        self.call("coffer.v1.EnvironmentService/CreateEnvironment", {"name": "empty"})
        self.assertNotIn("no environment", self.resolve("empty", "crowdstrike.EXTRA")["status"]["message"])

    def test_hints_name_only_what_the_caller_may_see(self):
        self.store("prod", "hidden_one", KEY=b"1")
        token = self.limited([{"permissions": ["resolve"], "environments": ["prod", "prdo"], "names": ["hidden_two", "x*"]}])
        result = self.resolve("prod", "hidden_two.KEY", token=token)
        self.assertEqual((result["faults"][0]["outcome"], result["faults"][0]["near_misses"]),
                         ("OUTCOME_SECRET_NOT_FOUND", []))
        admin = self.resolve("prod", "hidden_two.KEY")
        self.assertEqual(admin["faults"][0]["near_misses"], ["hidden_one"])
        other = self.limited([{"permissions": ["resolve"], "environments": ["prdo"]}])
        self.assertNotIn("did you mean", self.resolve("prdo", "hidden_two.KEY", token=other)["status"]["message"])

    def limited(self, grants):
        name = f"account{len(grants)}-{os.urandom(4).hex()}"
        self.call("coffer.v1.ServiceAccountService/CreateServiceAccount", {"name": name, "grants": grants})
        return self.call("coffer.v1.TokenService/IssueToken", {"service_account": name}).message["secret_text"]

    def test_what_the_caller_may_not_resolve_is_denied_alike_whether_it_exists_or_not(self):
        token = self.limited([{"permissions": ["resolve"], "environments": ["prod"], "names": ["other*"]}])
        result = self.resolve("prod", "crowdstrike.EXTRA", "notthere.EXTRA", "crowdstrike.NOKEY", token=token)
        self.assertEqual(result["outcomes"], ["OUTCOME_PERMISSION_DENIED"] * 3)
        texts = {f["message"].replace(f["reference"]["name"], "X") for f in result["faults"]}
        self.assertEqual((len(texts), {tuple(f["near_misses"]) for f in result["faults"]}), (1, {()}))

    def test_every_fault_names_its_reference_and_what_to_do(self):
        result = self.resolve("prod", "crowdstrike.EXTRAS", "missing.KEY", "9bad name.KEY", "github_oauth.X")
        self.assertEqual(len(result["faults"]), 4)
        for i, fault in enumerate(result["faults"]):
            self.assertEqual(fault["reference_index"], i)
            self.assertNotEqual(fault["reference"]["name"], "")
            self.assertGreater(len(fault["message"]), 30)
        self.assertIn('"crowdstrike" in the environment "prod" has no key "EXTRAS"', result["faults"][0]["message"])
        self.assertIn("4 of 4 references", result["status"]["message"])

    def test_results_come_in_the_order_of_the_request(self):
        items = [{"id": f"i{i}", "environments": ["customer-a", "prod", "customer-a"][i % 3:],
                  "references": references("crowdstrike.EXTRA")} for i in range(6)]
        answer = self.call(RESOLVE, {"items": items})
        expected = [(i, f"i{i}", environment) for i, item in enumerate(items) for environment in item["environments"]]
        self.assertEqual([(r["item_index"], r["item_id"], r["environment"]) for r in answer.message["results"]], expected)

    def test_result_says_which_versions_and_which_state_it_comes_from(self):
        token = self.store("prod", "versioned", KEY=b"1")["consistency_token"]
        first = self.resolve("prod", "versioned.KEY")
        self.assertEqual((first["secrets"][0]["version"], first["consistency_token"]), (1, token))
        uid = self.call(SECRET + "GetSecret", {"name": "versioned", "environment": "prod"}).message["secret"]["uid"]
        written = self.call(SECRET + "UpdateSecretValues", {"name": "versioned", "environment": "prod",
                                                            "patch": {"set": values(KEY=b"2")}}).message
        second = self.resolve("prod", "versioned.KEY", consistency_token=written["consistency_token"])
        self.assertEqual((second["secrets"][0]["version"], second["secrets"][0]["uid"]), (2, uid))
        self.assertEqual(second["consistency_token"], written["consistency_token"])
        self.assertNotEqual(second["consistency_token"], token)

    def test_item_carries_its_own_id_workspace_run_trace_and_time(self):
        item = {"id": "i" * 128, "workspace": self.dev.workspace, "environments": ["prod"], "timeout_ms": 60000,
                "references": references("crowdstrike.EXTRA"), "traceparent": "t" * 64,
                "run": {"workflow_id": "w" * 256, "run_id": "r" * 256, "action": "a" * 256}}
        result = self.call(RESOLVE, {"items": [item]}).message["results"][0]
        self.assertEqual((result["item_id"], result["workspace"], result["status"]["code"]),
                         ("i" * 128, self.dev.workspace, 0))
        longer = [{"id": "i" * 129}, {"traceparent": "t" * 65}, {"run": {"workflow_id": "w" * 257}},
                  {"run": {"run_id": "r" * 257}}, {"run": {"action": "a" * 257}}]
        results = self.call(RESOLVE, {"items": [{**item, **fields} for fields in longer]}).message["results"]
        self.assertEqual({r["status"]["outcome"] for r in results}, {"OUTCOME_ITEM_INVALID"})

    def test_item_whose_own_time_is_over_spoils_no_other(self):
        slow = {"environments": [f"t{i}" for i in range(10)], "references": references(*["none.KEY"] * 900)}
        good = {"environments": ["prod"], "references": references("crowdstrike.EXTRA")}
        results = self.call(RESOLVE, {"items": [slow, {**good, "timeout_ms": 1}, good]}).message["results"]
        self.assertEqual([r["status"]["outcome"] for r in results[-2:]],
                         ["OUTCOME_DEADLINE_EXCEEDED", "OUTCOME_RESOLVED"])
        self.assertEqual(results[-2]["secrets"], [])

    def test_value_is_on_the_wire_once_and_is_its_own_mask(self):
        value = b"a value that must be masked"
        self.store("prod", "once", KEY=value)
        item = {"environments": ["prod"], "references": references(*["once.KEY"] * 50)}
        answer = self.call(RESOLVE, {"items": [item]})
        self.assertEqual(answer.payload.count(value), 1)
        self.assertEqual(answer.message["results"][0]["additional_masks"], [])

    def test_pairs_at_the_limit_are_answered_and_one_more_is_refused(self):
        def request(environments, count, **fields):
            return {"items": [{"environments": ["prod"] * environments,
                               "references": references(*["crowdstrike.EXTRA"] * count)}], **fields}
        answer = self.call(RESOLVE, request(10, 1000))
        self.assertEqual((answer.code, len(answer.message["results"])), (0, 10))
        over = self.call(RESOLVE, request(101, 100))
        self.assertEqual((over.code, over.reason, over.fields), (8, "LIMIT_EXCEEDED", ["items"]))
        self.assertEqual(self.call(RESOLVE, request(101, 100, validate_only=True)).message["counts"],
                         {"resolved": 101, "failed": 0})
        self.assertEqual(len(self.call(RESOLVE, {"items": request(1, 1)["items"] * 1000}).message["results"]), 1000)
        item = {"environments": ["e"] * 1000, "references": references("a.B")}
        self.assertEqual(len(self.call(RESOLVE, {"items": [item]}).message["results"]), 1000)

    def test_result_that_fits_into_no_answer_is_too_large_and_the_others_come(self):
        big = os.urandom(65536)
        for i in range(17):
            self.store("huge", f"h{i}", A=big, B=big, C=big, D=big)
        everything = references(*[f"h{i}.{key}" for i in range(17) for key in "ABCD"])
        good = {"environments": ["prod"], "references": references("crowdstrike.EXTRA")}
        answer = self.call(RESOLVE, {"items": [good, {"environments": ["huge"], "references": everything}, good]})
        self.assertEqual([r["status"]["outcome"] for r in answer.message["results"]],
                         ["OUTCOME_RESOLVED", "OUTCOME_TOO_LARGE", "OUTCOME_RESOLVED"])

    def test_references_of_one_item_come_from_one_state(self):
        """Two secrets, and two keys of one, are always written together; no resolve may see two rounds of them."""
        for name in ("left", "right"):
            self.store("state", name, A=b"0", B=b"0")
        stop, rounds = threading.Event(), [0]

        def write():
            with self.dev.connect() as connection:
                while not stop.is_set():
                    rounds[0] += 1
                    for name in ("left", "right"):
                        answer = connection.call(SECRET + "UpdateSecretValues", {
                            "name": name, "environment": "state",
                            "replace": {"values": values(A=b"%d" % rounds[0], B=b"%d" % rounds[0])}}, token=self.dev.admin)
                        assert answer.code == 0, answer
        writer = threading.Thread(target=write)
        writer.start()
        seen = set()
        try:
            while len(seen) < 40:
                self.assertTrue(writer.is_alive())
                result = self.resolve("state", "left.A", "right.A", "left.B", "right.B")
                left, right = (int(self.value(result, name, "A")) for name in ("left", "right"))
                # Left is written before right, so one state has both in the same round or left one ahead.
                self.assertIn(left - right, (0, 1), "a mix of states")
                self.assertEqual([self.value(result, name, "B") for name in ("left", "right")], [b"%d" % left, b"%d" % right])
                self.assertEqual([s["version"] for s in result["secrets"]], [left + 1, right + 1])
                seen.add((left, right))
        finally:
            stop.set()
            writer.join()

    def test_preflight_pages_have_every_failure_once_whatever_their_size(self):
        environments = [f"pf{i:02}" for i in range(12)]
        for environment in environments[::4]:
            self.store(environment, "pf", KEY=b"1")
        item = {"environments": environments, "references": references("pf.KEY", "pf.MISSING")}
        request = {"items": [item, {**item, "references": references("pf.KEY")}], "validate_only": True}
        expected = [(0, e) for e in environments] + [(1, e) for i, e in enumerate(environments) if i % 4]
        for page_size in (1, 5, 21, 1000):
            failed, token = [], ""
            while True:
                answer = self.call(RESOLVE, {**request, "page_size": page_size, "page_token": token}).message
                self.assertLessEqual(len(answer["results"]), page_size)
                failed += [(r["item_index"], r["environment"]) for r in answer["results"]]
                token = answer["next_page_token"]
                if not token:
                    break
            self.assertEqual(failed, expected)
            self.assertEqual(answer["counts"], {"resolved": 3, "failed": 21})


if __name__ == "__main__":
    unittest.main(verbosity=2)
