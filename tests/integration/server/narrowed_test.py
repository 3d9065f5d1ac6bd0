#!/usr/bin/env python3
"""Narrowed tokens: what each caveat leaves, that nobody gets back what was taken away, and that they end with the
token that they were made from. They are made by the second implementation in tests/conformance/narrowed_tokens.py."""

import json
import os
import random
import subprocess
import time
import unittest
import uuid

import context
import cofferd
import narrowed_tokens as narrowed
import token_text
from cofferd import references, values, wait_for
from context import ACCOUNT, ENVIRONMENT, RESOLVE, SECRET, TOKEN
from sp_client import SCHEMA
from waiting_test import later

SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
OPEN = {"grpc.health.v1.Health/Check", "coffer.rpc.v1.ServerService/GetServerInfo"}
EVERYTHING = [{"permissions": ["resolve", "secret:read", "secret:write", "secret:reveal", "environment:read",
                               "environment:write", "account:read", "account:write", "token:read", "token:write",
                               "audit:read", "workspace:read", "workspace:write"]}]
RESOLVES = [{"permissions": ["resolve"]}]
HOUR_MS = 3600 * 1000
LONG = 60000


class NarrowedTest(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print(f"seed {SEED}", flush=True)
        cls.random = random.Random(SEED)
        for environment in ("prod", "dev1", "dev2"):
            for name in ("slack", "aws_a", "aws_b"):
                answer = cls.connection.call(SECRET + "CreateSecret", {
                    "name": name, "environment": environment, "values": values(K=f"{environment} {name}".encode())},
                    token=cls.dev.admin)
                assert answer.code == 0, answer

    def outcome(self, token, environment="prod", name="slack", **fields):
        """What a resolve of one secret says: an outcome, or the reason of the frame's error."""
        item = {"environments": [environment], "references": references(f"{name}.K"), **fields}
        answer = self.call(RESOLVE, {"items": [item]}, token=token)
        if answer.code != 0:
            return answer.reason
        result = answer.message["results"][0]
        if result["status"]["code"] == 0:
            self.assertEqual(self.value(result, name, "K"), f"{environment} {name}".encode())
        return result["status"]["outcome"].removeprefix("OUTCOME_")

    def assert_resolves(self, token, **place):
        self.assertEqual(self.outcome(token, **place), "RESOLVED", place)

    def assert_denied(self, token, **place):
        self.assertEqual(self.outcome(token, **place), "PERMISSION_DENIED", place)

    def now(self):
        return int(time.time() * 1000)


class Caveats(NarrowedTest):
    def test_environments_are_those_of_the_patterns_and_no_others(self):
        token = narrowed.narrow(self.dev.executor, environments=["prod", "dev1*"])
        for environment, resolved in (("prod", True), ("dev1", True), ("dev2", False)):
            (self.assert_resolves if resolved else self.assert_denied)(token, environment=environment)
        every = narrowed.narrow(self.dev.executor, environments=["*"])
        self.assert_resolves(every, environment="dev2")
        # What is not there and what may not be seen are told apart only inside of the patterns.
        self.assertEqual(self.outcome(token, environment="dev1x"), "SECRET_NOT_FOUND")
        self.assert_denied(token, environment="nowhere")

    def test_names_are_those_of_the_patterns_and_no_others(self):
        token = narrowed.narrow(self.dev.executor, names=["aws_*"])
        self.assert_resolves(token, name="aws_a")
        self.assert_resolves(token, name="aws_b", environment="dev2")
        self.assert_denied(token)
        result = self.resolve("prod", "slack.K", "aws_a.K", token=token)
        self.assertEqual([o.removeprefix("OUTCOME_") for o in result["outcomes"]], ["PERMISSION_DENIED", "RESOLVED"])
        result = self.resolve("prod", "aws_c.K", token=token)
        self.assertNotIn("slack", json.dumps(result, default=repr), "near misses name only what the token may see")

    def test_workflow_and_run_must_be_those_of_the_item(self):
        token = narrowed.narrow(self.dev.executor, workflow_id="w 1", run_id="läuft")
        self.assert_resolves(token, run={"workflow_id": "w 1", "run_id": "läuft", "action": "any"})
        for run in ({}, {"run_id": "läuft"}, {"workflow_id": "w 1"}, {"workflow_id": "w 1", "run_id": "läuf"},
                    {"workflow_id": "w 1", "run_id": "läuft "}, {"workflow_id": "läuft", "run_id": "w 1"}):
            self.assert_denied(token, run=run)
        self.assert_denied(token)
        run_only = narrowed.narrow(self.dev.executor, run_id="r")
        self.assert_resolves(run_only, run={"workflow_id": "whatever", "run_id": "r"})
        item = {"environments": ["prod"], "references": references("slack.K")}
        answer = self.call(RESOLVE, {"items": [{**item, "run": {"run_id": "r"}}, {**item, "run": {"run_id": "s"}}]},
                           token=run_only)
        good, bad = answer.message["results"]
        self.assertEqual(good["status"]["code"], 0)
        self.assertIn("another workflow or run", bad["status"]["message"])
        self.assertFalse(bad["secrets"])

    def test_expiry_ends_it_and_nothing_else_does(self):
        for expire_ms, expected in ((0, "TOKEN_EXPIRED"), (1, "TOKEN_EXPIRED"), (self.now() - 1, "TOKEN_EXPIRED"),
                                    (self.now() + HOUR_MS, "RESOLVED"), (2 ** 63, "RESOLVED"), (2 ** 64 - 1, "RESOLVED")):
            self.assertEqual(self.outcome(narrowed.narrow(self.dev.executor, expire_ms=expire_ms)), expected, expire_ms)
        both = narrowed.narrow(self.dev.executor, expire_ms=self.now() - 1)
        self.assertEqual(self.outcome(narrowed.narrow(both, expire_ms=self.now() + HOUR_MS)), "TOKEN_EXPIRED")
        soon = self.now() + 1500
        token = narrowed.narrow(self.dev.executor, expire_ms=soon)
        seen = set()
        wait_for(lambda: seen.add(self.outcome(token)) or "TOKEN_EXPIRED" in seen, "it expires")
        self.assertGreaterEqual(self.now(), soon, "never before its time")
        self.assertLessEqual(seen, {"RESOLVED", "TOKEN_EXPIRED"})

    def test_workspace_is_what_an_empty_one_means_and_no_other_can_be_reached(self):
        (one, first), (two, second) = self.new_workspace("narrow-to-one"), self.new_workspace("narrow-to-two")
        for admin, word in ((first, b"one"), (second, b"two")):
            self.create("s", token=admin, K=word)
        fleet = self.fleet(RESOLVES)
        self.assertEqual(self.call(RESOLVE, {"items": [{"references": references("s.K")}]}, token=fleet).message[
            "results"][0]["status"]["outcome"], "OUTCOME_ITEM_INVALID")
        token = narrowed.narrow(fleet, workspace=one)
        for workspace in ("", one):
            result = self.resolve("", "s.K", token=token, workspace=workspace)
            self.assertEqual((self.value(result, "s", "K"), result["workspace"]), (b"one", one))
        items = [{"workspace": w, "references": references("s.K")} for w in ("", two, one, context.SYSTEM, str(uuid.uuid4()))]
        results = self.call(RESOLVE, {"items": items}, token=token).message["results"]
        self.assertEqual([r["status"]["code"] for r in results], [0, 7, 0, 7, 7])
        self.assertEqual([self.value(results[i], "s", "K") for i in (0, 2)], [b"one", b"one"])
        # Narrowed to both it reaches neither, whichever comes first.
        for again in (narrowed.narrow(token, workspace=two), narrowed.narrow(narrowed.narrow(fleet, workspace=two), workspace=one)):
            for workspace in ("", one, two):
                result = self.resolve("", "s.K", token=again, workspace=workspace)
                self.assertEqual(result["status"]["outcome"], "OUTCOME_PERMISSION_DENIED")

    def test_workspaces_own_token_reaches_no_foreign_workspace_by_a_caveat(self):
        other, admin = self.new_workspace("foreign-to-narrow")
        self.create("slack", "prod", token=admin, K=b"foreign")
        token = narrowed.narrow(self.dev.executor, workspace=other)
        for workspace in ("", other, self.dev.workspace):
            self.assert_denied(token, workspace=workspace)
        self.assert_resolves(narrowed.narrow(self.dev.executor, workspace=self.dev.workspace))

    def test_caveats_add_up_and_so_do_narrowings(self):
        everything = {"workspace": self.dev.workspace, "environments": ["prod", "dev*"], "names": ["slack", "aws_*"],
                      "workflow_id": "w", "run_id": "r", "expire_ms": self.now() + HOUR_MS}
        run = {"workflow_id": "w", "run_id": "r"}
        token = narrowed.narrow(self.dev.executor, **everything)
        self.assert_resolves(token, run=run)
        again = narrowed.narrow(token, environments=["dev1", "stage"], names=["aws_a"])
        self.assert_resolves(again, environment="dev1", name="aws_a", run=run)
        for place in ({"environment": "prod", "name": "aws_a", "run": run}, {"environment": "dev1", "run": run},
                      {"environment": "dev1", "name": "aws_a"}, {"environment": "stage", "name": "aws_b", "run": run}):
            self.assert_denied(again, **place)
        nothing = narrowed.narrow(again, names=["slack"])
        for name in ("slack", "aws_a"):
            self.assert_denied(nothing, environment="dev1", name=name, run=run)

    def test_narrowed_token_never_permits_more_than_account_and_token_do(self):
        token = self.token_for([{"permissions": ["resolve"], "environments": ["prod", "dev*"]}],
                               restrictions=[{"permissions": ["resolve"], "environments": ["dev*"], "names": ["slack"]}])
        wide = narrowed.narrow(token, environments=["*"], names=["*"])
        self.assert_resolves(wide, environment="dev1")
        self.assert_denied(wide, environment="prod")
        self.assert_denied(wide, environment="dev1", name="aws_a")

    def test_preflight_is_narrowed_in_the_same_way(self):
        token = narrowed.narrow(self.dev.executor, names=["slack"])
        item = {"environments": ["prod"], "references": references("slack.K", "aws_a.K")}
        answer = self.call(RESOLVE, {"items": [item], "validate_only": True}, token=token)
        self.assertEqual(answer.message["counts"]["failed"], 1)

    def test_call_that_waited_for_a_revision_is_still_narrowed(self):
        token = narrowed.narrow(self.dev.executor, names=["slack"])
        state = self.create("waited-for", "prod", K=b"1").message["consistency_token"]
        with self.dev.connect() as connection:
            numbers = [connection.send(RESOLVE, {"items": [{
                "environments": ["prod"], "references": references(f"{name}.K"), "consistency_token": later(state)}]},
                token=token, timeout_ms=LONG) for name in ("slack", "aws_a")]
            self.create("waited-for", "dev1", K=b"2")
            results = [connection.receive(number, RESOLVE).message["results"][0] for number in numbers]
        self.assertEqual(self.value(results[0], "slack", "K"), b"prod slack")
        self.assertEqual(results[1]["status"]["outcome"], "OUTCOME_PERMISSION_DENIED")


class Widening(NarrowedTest):
    """What somebody with a narrowed token can do to get more out of it."""

    def refused(self, text):
        answer = self.call(RESOLVE, {"items": [{"environments": ["prod"], "references": references("slack.K")}]}, token=text)
        self.assertEqual(answer.code, 16, answer)
        return answer

    def test_caveats_dropped_moved_changed_or_added_without_the_key_are_told(self):
        whole = self.dev.executor
        token = narrowed.narrow(whole, environments=["prod"], names=["slack"], run_id="r")
        header, (environments, names, run), tag = narrowed.parts(token)
        wide = narrowed.patterns(narrowed.NAMES, ["*"])
        _, token_workspace, token_id, secret = token_text.parse(whole)
        _, other_id = token_workspace, token_text.parse(self.dev.admin)[2]
        other_tag = narrowed.parts(narrowed.narrow(self.dev.admin, environments=["prod"], names=["slack"], run_id="r"))[2]
        made = {
            "the last dropped": [header, environments, names, tag],
            "the first dropped": [header, names, run, tag],
            "all but one dropped": [header, run, tag],
            "two exchanged": [header, names, environments, run, tag],
            "one changed": [header, environments, wide, run, tag],
            "one twice": [header, environments, names, run, run, tag],
            "one more under the old tag": [header, environments, names, run, narrowed.caveat(narrowed.RUN, b"r"), tag],
            "the last dropped, its tag as a key": [header, environments, names, narrowed.step(tag, names)],
            "the last changed, its tag as a key": [header, environments, names, wide, narrowed.step(tag, wide)],
            "begun anew from the tag": [header, wide, narrowed.step(narrowed.step(tag, header), wide)],
            "begun anew from the hash in the database": [header, wide, narrowed.step(narrowed.step(
                narrowed.hashlib.sha256(secret).digest(), header), wide)],
            "an empty key": [header, wide, narrowed.step(narrowed.step(bytes(32), header), wide)],
            "no tag": [header, environments, names, run, bytes(32)],
            "the tag of another token": [header, environments, names, run, other_tag],
            "another token's ID": [header[:18] + other_id.bytes, environments, names, run, tag],
            "an unknown token": [header[:18] + uuid.uuid4().bytes, environments, names, run, tag],
            "an unknown workspace": [header[:2] + uuid.uuid4().bytes + header[18:], environments, names, run, tag],
            "the system workspace": [header[:2] + bytes(16) + header[18:], environments, names, run, tag],
            "another kind": [b"\x01\x02" + header[2:], environments, names, run, tag],
            "another kind, signed by the token's owner": None,
        }
        fleet_header = b"\x01\x02" + header[2:]
        made["another kind, signed by the token's owner"] = [fleet_header, run, narrowed.step(narrowed.step(
            narrowed.narrowing_key(secret), fleet_header), run)]
        self.assertEqual(self.outcome(token, run={"run_id": "r"}), "RESOLVED")
        answers = {name: self.refused(narrowed.text_of(b"".join(pieces))) for name, pieces in made.items()}
        seen = {(a.code, a.reason, a.text, str(a.facts), str(a.fields)) for a in answers.values()}
        self.assertEqual(len(seen), 1, answers)
        self.assertEqual(answers["an unknown token"].reason, "TOKEN_INVALID")

    def test_any_one_bit_changed_makes_it_invalid(self):
        payload = narrowed.payload_of(narrowed.narrow(self.dev.executor, environments=["prod"], run_id="r", expire_ms=2 ** 62))
        request = {"items": [{"environments": ["prod"], "references": references("slack.K"), "run": {"run_id": "r"}}]}
        flips = [(byte, bit) for byte in range(len(payload)) for bit in range(8)]
        for batch in (flips[i:i + 200] for i in range(0, len(flips), 200)):
            texts = [narrowed.text_of(payload[:byte] + bytes([payload[byte] ^ 1 << bit]) + payload[byte + 1:]) for byte, bit in batch]
            numbers = [self.connection.send(RESOLVE, request, token=text, timeout_ms=LONG) for text in texts]
            for flip, number in zip(batch, numbers):
                answer = self.connection.receive(number)
                self.assertEqual(answer.code, 16, flip)
                self.assertIn(answer.reason, ("TOKEN_INVALID", "TOKEN_MALFORMED", "TOKEN_UNSUPPORTED"), flip)
        self.assertEqual(self.call(RESOLVE, request, token=narrowed.text_of(payload)).code, 0)

    def test_any_character_changed_or_cut_is_malformed(self):
        token = narrowed.narrow(self.dev.executor, environments=["prod"])
        wrong = [token[:i] for i in range(len(token))] + [token + b"0"]
        wrong += [token[:i] + (b"x" if token[i:i + 1] != b"x" else b"y") + token[i + 1:] for i in range(len(token))]
        numbers = [self.connection.send(RESOLVE, {}, token=text, timeout_ms=LONG) for text in wrong]
        self.assertEqual({self.connection.receive(number).reason for number in numbers}, {"TOKEN_MALFORMED"})

    def test_what_is_too_long_or_of_an_unknown_form_is_refused_and_says_why(self):
        header, made, tag = narrowed.parts(narrowed.narrow(self.dev.executor, run_id="r"))
        unknown = narrowed.add(self.dev.executor, [narrowed.caveat(9, b"something new")])
        answer = self.refused(unknown)
        self.assertEqual((answer.reason, answer.code), ("TOKEN_UNSUPPORTED", 16))
        self.assertIn("a caveat with the number 9", answer.text)
        answer = self.refused(narrowed.text_of(b"\x02" + header[1:] + made[0] + tag))
        self.assertEqual(answer.reason, "TOKEN_UNSUPPORTED")
        self.assertIn("a format with the number 2", answer.text)
        longest = narrowed.narrow(self.dev.executor, names=["slack"] + [f"{i:02}" + "n" * 97 for i in range(14)] + ["z" * 51])
        self.assertEqual(len(longest), 2048)
        self.assertEqual(self.outcome(longest), "RESOLVED")
        longer = narrowed.narrow(self.dev.executor, names=["slack"] + [f"{i:02}" + "n" * 97 for i in range(14)] + ["z" * 54])
        self.assertGreater(len(longer), 2048)
        answer = self.refused(longer)
        self.assertEqual(answer.reason, "TOKEN_MALFORMED")
        self.assertIn("2,048", answer.text)
        many = narrowed.add(self.dev.executor, [narrowed.caveat(narrowed.RUN, b"r")] * 33)
        self.assertEqual(self.refused(many).reason, "TOKEN_MALFORMED")
        system = b"\x01\x03" + header[2:]
        self.assertEqual(self.refused(narrowed.text_of(system + made[0] + tag)).reason, "TOKEN_MALFORMED")

    def test_nothing_but_resolve_can_be_called_whatever_the_account_may_do(self):
        name, answer = self.account(EVERYTHING)
        self.assertEqual(answer.code, 0, answer)
        whole = self.issue(name).message["secret_text"]
        token = narrowed.narrow(whole, names=["*"])
        self.assert_resolves(token)
        methods = [f"{service}/{method}" for service, rows in SCHEMA.services.items() for method in rows]
        known = {"name": "slack", "service_account": name, "environment": "prod", "new_name": "y", "values": values(K=b"v"),
                 "version": 1}
        reasons = {}
        for method in methods:
            fields = SCHEMA.messages[SCHEMA.method(method)[0]]
            answer = self.call(method, {field: known[field] for field in fields if field in known}, token=token)
            reasons[method] = answer.reason
        there = {method: reason for method, reason in reasons.items() if reason != "METHOD_UNKNOWN" and method not in OPEN | {RESOLVE}}
        self.assertGreater(len(there), 20)
        for must in (TOKEN + "IssueToken", TOKEN + "RotateToken", TOKEN + "RevokeToken", TOKEN + "GetCaller",
                     SECRET + "RevealSecret", SECRET + "GetSecret", SECRET + "CopySecret", ACCOUNT + "CreateServiceAccount",
                     ENVIRONMENT + "ListEnvironments"):
            self.assertIn(must, there)
        self.assertEqual(set(there.values()), {"PERMISSION_DENIED"}, there)
        self.assertEqual(self.works(whole), "OK", "it has revoked nothing")
        answer = self.call(TOKEN + "IssueToken", {"service_account": name}, token=token)
        self.assertIn("a narrowed token can resolve and nothing else", answer.text)


class Ends(NarrowedTest):
    """It ends with the token that it was made from."""

    def test_revoked_token_takes_its_narrowed_ones_with_it_at_once(self):
        whole = self.token_for(RESOLVES)
        tokens = [narrowed.narrow(whole, names=["slack"])]
        tokens.append(narrowed.narrow(tokens[0], environments=["prod"]))
        for token in tokens:
            self.assert_resolves(token)
        self.assertEqual(self.call(TOKEN + "RevokeToken", token=whole).code, 0)
        self.assertEqual([self.outcome(token) for token in tokens], ["TOKEN_INVALID"] * 2)

    def test_expired_token_takes_its_narrowed_ones_with_it(self):
        name, _ = self.account(RESOLVES)
        whole = self.issue(name, expire_time={"seconds": int(time.time()) + 4}).message["secret_text"]
        token = narrowed.narrow(whole, expire_ms=self.now() + HOUR_MS)
        wait_for(lambda: self.works(whole) == "TOKEN_EXPIRED", "the token expires")
        self.assertEqual(self.outcome(token), "TOKEN_EXPIRED")

    def test_state_of_the_account_counts(self):
        name, _ = self.account(RESOLVES)
        token = narrowed.narrow(self.issue(name).message["secret_text"], names=["slack"])
        self.assert_resolves(token)
        for changes, expected in (({"disabled": True}, "ACCOUNT_DISABLED"), ({"disabled": False}, "RESOLVED"),
                                  ({"networks": ["10.0.0.0/8"]}, "NETWORK_DENIED"), ({"networks": None}, "RESOLVED"),
                                  ({"grants": [{"permissions": ["resolve"], "names": ["aws_a"]}]}, "PERMISSION_DENIED")):
            self.assertEqual(self.update_account(name, **changes).code, 0)
            self.assertEqual(self.outcome(token), expected, changes)
        self.assertEqual(self.delete_account(name).code, 0)
        self.assertEqual(self.outcome(token), "TOKEN_INVALID")

    def test_narrowed_tokens_of_a_rotated_token_end_with_it(self):
        name, _ = self.account(RESOLVES)
        issued = self.issue(name).message
        token = narrowed.narrow(issued["secret_text"], names=["slack"])
        rotated = self.call(TOKEN + "RotateToken", {"token_uid": issued["token"]["uid"], "overlap": {"seconds": 0}})
        self.assertEqual(rotated.code, 0, rotated)
        self.assertIn(self.outcome(token), ("TOKEN_EXPIRED", "TOKEN_INVALID"))
        self.assert_resolves(narrowed.narrow(rotated.message["secret_text"], names=["slack"]))

    def test_row_that_somebody_changed_authorises_no_narrowed_token(self):
        tokens = [self.token_for(RESOLVES) for _ in range(2)]
        ids = [token_text.parse(token)[2] for token in tokens]
        made = [narrowed.narrow(token, names=["slack"]) for token in tokens]
        self.sql(f"update token set narrowing_key = (select narrowing_key from token where token_id = '{ids[1]}')"
                 f" where token_id = '{ids[0]}'")
        self.assertEqual([self.outcome(token) for token in made], ["CORRUPTED", "RESOLVED"])
        # Not even one that the other token's owner made for the row.
        _, caveats, _ = narrowed.parts(made[0])
        header = narrowed.parts(made[0])[0]
        tag = narrowed.step(narrowed.narrowing_key(token_text.parse(tokens[1])[3]), header)
        for one in caveats:
            tag = narrowed.step(tag, one)
        self.assertEqual(self.outcome(narrowed.text_of(header + b"".join(caveats) + tag)), "CORRUPTED")


class Traces(NarrowedTest):
    def records(self, answer):
        environment = {**os.environ, "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key")}
        run = subprocess.run([cofferd.COFFERD, "audit", "export", self.dev.directory / "state"], env=environment,
                             capture_output=True, timeout=cofferd.PATIENCE, check=True)
        wanted = str(uuid.UUID(bytes=answer.request_id))
        return [record for record in map(json.loads, run.stdout.splitlines()) if record.get("request_id") == wanted]

    def test_audit_names_the_issued_token_and_says_that_it_was_narrowed(self):
        whole = self.dev.executor
        token_id = str(token_text.parse(whole)[2])
        token = narrowed.narrow(whole, run_id="r", names=["slack"])
        item = {"environments": ["prod"], "references": references("slack.K"), "run": {"run_id": "r"}}
        for text, is_narrowed in ((token, True), (whole, None)):
            record, = self.records(self.call(RESOLVE, {"items": [item]}, token=text))
            actor = record["actor"]
            self.assertEqual((actor["token"], actor["name"], actor.get("narrowed")), (token_id, "executor", is_narrowed))
            self.assertEqual(record["run"]["run_id"], "r")
        record, = self.records(self.call(RESOLVE, {"items": [{**item, "run": {"run_id": "s"}}]}, token=token))
        self.assertEqual((record["reason"], record["actor"]["narrowed"]), ("PERMISSION_DENIED", True))
        record, = self.records(self.call(TOKEN + "RevokeToken", token=token))
        self.assertEqual((record["reason"], record["actor"]["narrowed"]), ("PERMISSION_DENIED", True))
        log = (self.dev.directory / "log").read_bytes()
        for secret in (token, narrowed.payload_of(token)[-32:], token[-50:-6]):
            self.assertNotIn(secret, log)

    def test_calls_in_flight_count_for_the_issued_token(self):
        server = self.dev.more("narrow-limit", COFFERD_LIMITS__IN_FLIGHT_PER_TOKEN="4")
        whole = self.dev.executor
        tokens = [whole, *(narrowed.narrow(whole, run_id=str(i)) for i in range(3))]
        request = {"items": [{"environments": ["prod"], "references": references("slack.K")}]}
        with self.dev.connect(server.address) as connection:
            with self.locked("token"):
                numbers = [connection.send(RESOLVE, request, token=token, timeout_ms=LONG) for token in tokens]
                self.wait_until_blocked()
                for token in (whole, narrowed.narrow(whole, run_id="4")):
                    self.assertEqual(connection.call(RESOLVE, request, token=token).reason, "TOO_MANY_IN_FLIGHT")
            self.assertEqual({connection.receive(number).code for number in numbers}, {0})

    def test_calls_of_whole_and_narrowed_tokens_that_are_read_together_stay_apart(self):
        whole = self.dev.executor
        tokens = {whole: "RESOLVED", narrowed.narrow(whole, names=["slack"]): "RESOLVED",
                  narrowed.narrow(whole, names=["aws_*"]): "PERMISSION_DENIED",
                  narrowed.text_of(narrowed.payload_of(narrowed.narrow(whole, names=["slack"]))[:-1] + b"\0"): "TOKEN_INVALID"}
        server = self.dev.more("narrow-together", COFFERD_LIMITS__WORKERS="1")
        request = {"items": [{"environments": ["prod"], "references": references("slack.K")}]}
        asked = [self.random.choice(list(tokens)) for _ in range(60)]
        with self.dev.connect(server.address) as connection:
            with self.locked("token"):
                numbers = [connection.send(RESOLVE, request, token=token, timeout_ms=LONG) for token in asked]
                self.wait_until_blocked()
            for token, number in zip(asked, numbers):
                answer = connection.receive(number, RESOLVE)
                said = answer.reason or answer.message["results"][0]["status"]["outcome"].removeprefix("OUTCOME_")
                self.assertEqual(said, tokens[token])


if __name__ == "__main__":
    unittest.main(verbosity=2)
