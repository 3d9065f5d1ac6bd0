#!/usr/bin/env python3
"""Secrets for AWS: which of their keys count, what an executor is given, and what a role has to trust."""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import tempfile
import threading
import time
import unittest

import botocore.session

import context
from certificates import Authority
from cofferd import BUILD, Dev, references, seed, values, wait_for
from sts import Sts, Tunnel

RESOLVE, SECRET = context.RESOLVE, context.SECRET
ACCESS = "coffer.v1.AwsService/GetAssumeRoleAccess"
PRINCIPAL = "arn:aws:iam::210987654321:role/coffer"
ROLE = "arn:aws:iam::123456789012:role/team/reader"
FULL = bool(os.environ.get("TEST_FULL"))
SECRETS = ("aws", "amazon_s3", "amazon_bedrock")
DIRECT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
KEYS = (*DIRECT, "AWS_REGION", "AWS_ROLE_ARN", "AWS_PROFILE", "AWS_ROLE_SESSION_NAME", "AWS_BEARER_TOKEN_BEDROCK", "AWS_MODEL_ID")
CATALOGUE = {"keys": [], "optional_keys": list(KEYS[:6])}


def short(outcomes):
    return [outcome.removeprefix("OUTCOME_") for outcome in outcomes]


def given(result):
    return {(secret["name"], pair["key"]): pair["value"] for secret in result["secrets"] for pair in secret["values"]}


class Model:
    """product.md's rules of AWS and of declarations a second time, of one secret that is there."""

    def __init__(self, name, stored):
        self.stored = {key: value.strip() if key.startswith("AWS_") and key != "AWS_MODEL_ID" else value
                       for key, value in stored.items()}
        if self.stored.get("AWS_ROLE_ARN"):
            self.mode = "ROLE"
        elif self.stored.get("AWS_PROFILE"):
            self.mode = "PROFILE"
        else:
            self.mode = "DIRECT"
        pair = [bool(self.stored.get(key)) for key in DIRECT[:2]]
        bearer = name == "amazon_bedrock" and bool(self.stored.get("AWS_BEARER_TOKEN_BEDROCK"))
        self.half = self.mode == "DIRECT" and pair[0] != pair[1] and not bearer

    def one(self, key, required, declared):
        """(outcome, value, satisfies) of a key; the value None: nothing is handed out."""
        hidden = {"ROLE": ("AWS_ROLE_ARN", "AWS_PROFILE"), "PROFILE": ("AWS_ROLE_ARN", *DIRECT),
                  "DIRECT": ("AWS_ROLE_ARN", "AWS_PROFILE")}[self.mode]
        if self.mode == "ROLE" and key in DIRECT:
            return "RESOLVED", b"temporary", True
        if self.mode == "ROLE" and key == "AWS_ROLE_ARN" and declared:
            return "ABSENT", None, True
        if self.half and key in DIRECT:
            return "INCOMPLETE_AWS_KEYS", None, False
        if key in hidden or key == "AWS_ROLE_SESSION_NAME" or key not in self.stored:
            return ("ABSENT" if declared and not required else "KEY_NOT_FOUND"), None, False
        value = self.stored[key]
        if required and not value.strip():
            return "KEY_EMPTY", None, False
        return "RESOLVED", value, bool(value.strip())

    def outcomes(self, keys, optional_keys, plain, optional):
        about = [(key, key in keys, key in keys or key in optional_keys) for key in plain]
        outcomes = [self.one(*entry)[0] for entry in about]
        declared = [self.one(key, key in keys, True) for key in [*keys, *optional_keys]]
        told = [outcome for outcome, _, _ in declared]
        if not optional and not keys and optional_keys and not any(satisfies for _, _, satisfies in declared):
            told = ["DECLARATION_NOT_SATISFIED" if outcome in ("RESOLVED", "ABSENT") else outcome for outcome in told]
        return outcomes + told


class AwsTest(context.AccessTest):
    made = 0

    @classmethod
    def setUpClass(cls):
        cls.sts = Sts()
        cls.SETTINGS = {"COFFERD_AWS__PRINCIPAL_ARN": PRINCIPAL, **cls.sts.settings()}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sts.close()

    def setUp(self):
        self.sts.release()
        self.sts.life_s = 3600

    @property
    def external_id(self):
        return self.dev.workspace.replace("-", "")

    def role(self, name="aws", demanded="", **pairs):
        """A secret with a role of its own that demands the workspace's External ID; its environment and the ARN."""
        AwsTest.made += 1
        arn = f"arn:aws:iam::{AwsTest.made:012d}:role/team/reader"
        self.sts.trust[arn] = self.external_id if demanded == "" else demanded
        return self.store(name, **{"AWS_ROLE_ARN": arn.encode(), **pairs}), arn

    def credentials(self, environment, name="aws", run="run-1", **fields):
        """The result of asking for all three keys."""
        return self.ask(environment, *(f"{name}.{key}" for key in DIRECT), run={"run_id": run}, **fields)

    def store(self, name, environment=None, **pairs):
        """Stores a secret, as an import may bring it, in an environment of its own; returns that."""
        AwsTest.made += 1
        environment = environment or f"e{AwsTest.made}"
        answer = self.call(SECRET + "ImportSecrets", {"mode": "IMPORT_MODE_FAIL", "secrets": [
            {"name": name, "environment": environment, "values": values(**pairs)}]})
        self.assertEqual(answer.code, 0, answer)
        self.assertTrue(answer.message["written"], answer)
        return environment

    def ask(self, environment, *names, check_only=False, **fields):
        item = {"environments": [environment], "references": references(*names), **fields}
        answer = self.call(RESOLVE, {"items": [item], "validate_only": check_only})
        self.assertEqual(answer.code, 0, answer)
        return answer.message["results"][0] if answer.message["results"] else None


class Rules(AwsTest):
    def test_direct_keys_are_trimmed_and_handed_out(self):
        environment = self.store("aws", AWS_ACCESS_KEY_ID=b" AKIA1\n", AWS_SECRET_ACCESS_KEY=b"\tsecret ", AWS_REGION=b"eu-west-1",
                                 AWS_PROFILE=b" \t", AWS_ROLE_ARN=b"")
        result = self.ask(environment, declarations=[{"name": "aws", **CATALOGUE}])
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "RESOLVED", "ABSENT", "RESOLVED", "ABSENT", "ABSENT"])
        self.assertEqual(given(result), {("aws", "AWS_ACCESS_KEY_ID"): b"AKIA1", ("aws", "AWS_SECRET_ACCESS_KEY"): b"secret",
                                         ("aws", "AWS_REGION"): b"eu-west-1"})
        self.assertEqual(result["secrets"][0]["aws_mode"], "AWS_MODE_DIRECT")

    def test_access_key_without_its_secret_key_is_an_error_and_says_what_to_change(self):
        for key in DIRECT[:2]:
            environment = self.store("amazon_s3", **{key: b"value", "AWS_REGION": b"eu-west-1"})
            result = self.ask(environment, declarations=[{"name": "amazon_s3", **CATALOGUE}])
            self.assertEqual(short(result["outcomes"]), ["INCOMPLETE_AWS_KEYS"] * 3 + ["RESOLVED", "ABSENT", "ABSENT"])
            self.assertEqual(result["status"]["outcome"], "OUTCOME_INCOMPLETE_AWS_KEYS")
            self.assertIn("AWS_SECRET_ACCESS_KEY together", result["status"]["message"])
            self.assertEqual(short(self.ask(environment, "amazon_s3.AWS_REGION")["outcomes"]), ["RESOLVED"])

    def test_bearer_token_of_bedrock_is_complete_by_itself(self):
        pairs = {"AWS_BEARER_TOKEN_BEDROCK": b"bearer", "AWS_ACCESS_KEY_ID": b"AKIA1"}
        result = self.ask(self.store("amazon_bedrock", **pairs), *(f"amazon_bedrock.{key}" for key in pairs))
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "RESOLVED"])
        result = self.ask(self.store("aws", **pairs), *(f"aws.{key}" for key in pairs))
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "INCOMPLETE_AWS_KEYS"])

    def test_profile_is_passed_through_without_direct_keys(self):
        environment = self.store("aws", AWS_PROFILE=b" prod ", AWS_ACCESS_KEY_ID=b"AKIA1")
        result = self.ask(environment, declarations=[{"name": "aws", **CATALOGUE}])
        self.assertEqual(given(result), {("aws", "AWS_PROFILE"): b"prod"})
        self.assertEqual(result["secrets"][0]["aws_mode"], "AWS_MODE_PROFILE")
        self.assertEqual(result["secrets"][0]["ignored_keys"], ["AWS_ACCESS_KEY_ID"])
        self.assertIn("profile", self.ask(environment, "aws.AWS_ACCESS_KEY_ID")["status"]["message"])

    def test_session_name_is_refused_in_new_secrets_and_kept_out_of_answers(self):
        pairs = {"AWS_ROLE_SESSION_NAME": b"mine", "AWS_REGION": b"eu-west-1"}
        for method, request in (("CreateSecret", {"name": "aws", "environment": "new", "values": values(**pairs)}),
                                ("UpdateSecretValues", {"name": "aws", "environment": self.store("aws", K=b"v"),
                                                        "patch": {"set": values(**pairs)}})):
            answer = self.call(SECRET + method, request)
            self.assertEqual(answer.reason, "AWS_SESSION_NAME_REFUSED", answer)
            self.assertIn("names the sessions", answer.text)
        self.assertEqual(self.call(SECRET + "CreateSecret", {"name": "other", "environment": "new", "values": values(**pairs)}).code, 0)
        environment = self.store("aws", **pairs)
        result = self.ask(environment, declarations=[{"name": "aws", "keys": [], "optional_keys": list(pairs)}])
        self.assertEqual(given(result), {("aws", "AWS_REGION"): b"eu-west-1"})
        self.assertEqual(result["secrets"][0]["ignored_keys"], ["AWS_ROLE_SESSION_NAME"])
        self.assertEqual(short(self.ask(environment, "aws.AWS_ROLE_SESSION_NAME")["outcomes"]), ["KEY_NOT_FOUND"])

    def test_arn_and_region_that_cannot_be_used_are_told_before_anybody_is_asked(self):
        for arn, region, outcome in ((b"arn:aws:iam::123456789012:user/a", b"", "AWS_ROLE_ARN_INVALID"),
                                     (b"arn:aws:iam::123456789012:root", b"", "AWS_ROLE_ARN_INVALID"),
                                     (b"nonsense", b"", "AWS_ROLE_ARN_INVALID"),
                                     (ROLE.encode(), b"eu", "AWS_REGION_INVALID"),
                                     (ROLE.encode(), b"cn-north-1", "AWS_REGION_INVALID")):
            environment = self.store("aws", AWS_ROLE_ARN=arn, AWS_REGION=region)
            for check_only in (False, True):
                result = self.ask(environment, "aws.AWS_ACCESS_KEY_ID", check_only=check_only)
                self.assertEqual(short(result["outcomes"]), [outcome])
                self.assertNotIn(arn.decode(), str(result["status"]))

    def test_role_that_is_not_needed_is_not_assumed(self):
        environment = self.store("aws", AWS_ROLE_ARN=ROLE.encode(), AWS_REGION=b"eu-west-1", AWS_ACCESS_KEY_ID=b"AKIA1")
        result = self.ask(environment, "aws.AWS_REGION")
        self.assertEqual(given(result), {("aws", "AWS_REGION"): b"eu-west-1"})
        self.assertEqual(result["secrets"][0]["ignored_keys"], ["AWS_ACCESS_KEY_ID"])
        message = self.ask(environment, "aws.AWS_ROLE_ARN")["status"]["message"]
        self.assertIn("AWS_SESSION_TOKEN", message)
        self.assertNotIn(ROLE, message)

    def test_session_that_is_asked_for_is_within_limits(self):
        environment = self.store("aws", AWS_ROLE_ARN=ROLE.encode())
        for session in ({"duration_seconds": 899}, {"duration_seconds": 43201}, {"policy": "x" * 2049}):
            self.assertEqual(self.ask(environment, "aws.AWS_ACCESS_KEY_ID", aws_session=session)["status"]["outcome"],
                             "OUTCOME_ITEM_INVALID")

    def test_outcomes_agree_with_a_model_of_the_rules(self):
        """Random secrets and declarations, as preflights, for which nobody has to be asked."""
        chance = random.Random(seed())
        for _ in range(120):
            name = chance.choice(SECRETS)
            stored = {key: chance.choice((b"value", b" value ", b"", b" \t")) for key in chance.sample(KEYS, chance.randint(1, 6))}
            if stored.get("AWS_ROLE_ARN", b"").strip():
                stored["AWS_ROLE_ARN"], stored["AWS_REGION"] = ROLE.encode(), b" eu-west-1"
            keys = chance.sample(KEYS, chance.randint(0, 3))
            optional_keys = [key for key in chance.sample(KEYS, chance.randint(0, 4)) if key not in keys]
            plain = chance.sample(KEYS, chance.randint(0 if keys or optional_keys else 1, 3))
            optional = chance.random() < 0.3
            declarations = [{"name": name, "keys": keys, "optional_keys": optional_keys, "optional": optional}]
            declarations = declarations if keys or optional_keys else []
            expected = Model(name, stored).outcomes(keys, optional_keys, plain, optional)
            result = self.ask(self.store(name, **stored), *(f"{name}.{key}" for key in plain), declarations=declarations,
                              check_only=True)
            told = ["RESOLVED" if outcome == "ABSENT" else outcome for outcome in expected]
            if all(outcome == "RESOLVED" for outcome in told):
                self.assertIsNone(result, (name, stored, keys, optional_keys, plain))
            else:
                self.assertEqual(short(result["outcomes"]), expected, (name, stored, keys, optional_keys, plain, optional))

    def test_what_a_role_has_to_trust_is_told_as_texts_that_can_be_used(self):
        message = self.call(ACCESS).message
        external_id = self.dev.workspace.replace("-", "")
        self.assertEqual((message["account_id"], message["principal_arn"], message["external_id"]),
                         ("210987654321", PRINCIPAL, external_id))
        statement, = json.loads(message["trust_policy"])["Statement"]
        self.assertEqual(statement, {"Effect": "Allow", "Principal": {"AWS": PRINCIPAL}, "Action": "sts:AssumeRole",
                                     "Condition": {"StringEquals": {"sts:ExternalId": external_id}}})
        actions = {action["Action"] for action in json.loads(message["example_permissions"])["Statement"]}
        self.assertEqual(actions, {"s3:GetObject", "s3:ListBucket"})
        for text in ("aws_cli", "cloudformation", "terraform"):
            self.assertIn(PRINCIPAL, message[text])
            self.assertIn(external_id, message[text])

    def test_two_workspaces_have_two_external_ids(self):
        other = self.call(context.WORKSPACE + "CreateWorkspace", {"name": "other"}, token=self.dev.system).message["workspace"]
        self.assertNotEqual(other["external_id"], self.call(ACCESS).message["external_id"])
        self.assertEqual(other["external_id"], other["uid"].replace("-", ""))


class Sessions(AwsTest):
    def test_role_is_assumed_and_only_its_session_is_handed_out(self):
        environment, arn = self.role(AWS_REGION=b" eu-central-1 ", AWS_PROFILE=b"p", AWS_ACCESS_KEY_ID=b"AKIA1",
                                     AWS_ROLE_SESSION_NAME=b"mine", AWS_EXTERNAL_ID=b"somebody-elses")
        before = self.sts.count()
        result = self.ask(environment, declarations=[{"name": "aws", **CATALOGUE}], environment_view=True,
                          run={"workflow_id": "w", "run_id": "run-1"})
        self.assertEqual(short(result["outcomes"]), ["RESOLVED"] * 4 + ["ABSENT"] * 2)
        call, = self.sts.calls[before:]
        number = self.sts.number
        expected = {"AWS_ACCESS_KEY_ID": f"ASIA{number:016d}".encode(), "AWS_SECRET_ACCESS_KEY": f"secret+/{number}".encode(),
                    "AWS_SESSION_TOKEN": f"token//{number}==".encode(), "AWS_REGION": b"eu-central-1"}
        self.assertEqual(given(result), {("aws", key): value for key, value in expected.items()})
        self.assertEqual({v["name"]: v["value"] for v in result["environment_variables"]}, expected)
        secret, = result["secrets"]
        self.assertEqual(secret["aws_mode"], "AWS_MODE_ROLE")
        self.assertEqual(secret["ignored_keys"], ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_SESSION_NAME"])
        self.assertEqual(result["expire_time"], secret["expire_time"])
        self.assertAlmostEqual(int(secret["expire_time"]["seconds"]), time.time() + 3600, delta=600)
        self.assertEqual((call["RoleArn"], call["ExternalId"], call["region"], call["DurationSeconds"]),
                         (arn, self.external_id, "eu-central-1", "3600"))
        self.assertRegex(call["RoleSessionName"], r"^coffer-ws-[0-9a-f]{8}-run-[0-9a-f]{8}$")
        self.assertFalse([name for name in call if name.startswith("Tags")])
        self.assertNotIn(arn, str(result))

    def test_reference_to_one_key_is_given_that_key_only(self):
        environment, _ = self.role()
        result = self.ask(environment, "aws.AWS_SESSION_TOKEN", expressions=["${{ SECRETS.aws.AWS_ACCESS_KEY_ID }}"])
        self.assertEqual([key for _, key in given(result)], ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
        self.assertTrue(result["expressions"][0]["value"].startswith(b"ASIA"))

    def test_declared_role_is_satisfied_by_its_session(self):
        environment, _ = self.role()
        for declaration in ({"keys": ["AWS_ROLE_ARN"]}, {"optional_keys": ["AWS_ROLE_ARN", "AWS_PROFILE"]}):
            result = self.ask(environment, declarations=[{"name": "aws", **declaration}])
            self.assertEqual(result["status"]["code"], 0, result)
            self.assertEqual([key for _, key in given(result)], sorted(DIRECT))

    def test_environment_view_of_two_roles_names_both_secrets(self):
        environment, _ = self.role()
        self.store("amazon_s3", environment=environment, AWS_ROLE_ARN=self.role()[1].encode())
        self.sts.trust.update({arn: None for arn in self.sts.trust})
        result = self.ask(environment, environment_view=True, declarations=[
            {"name": name, "keys": ["AWS_ROLE_ARN"]} for name in ("aws", "amazon_s3")])
        self.assertEqual(result["status"]["outcome"], "OUTCOME_ENVIRONMENT_VIEW_CONFLICT")
        self.assertIn('"amazon_s3" and "aws"', result["status"]["message"])

    def test_session_is_kept_for_a_run_and_a_version(self):
        environment, arn = self.role()
        first = given(self.credentials(environment))
        before = self.sts.count()
        self.assertEqual(given(self.credentials(environment)), first)
        self.assertEqual(self.sts.count(), before)
        self.assertNotEqual(given(self.credentials(environment, run="run-2")), first)
        self.assertNotEqual(given(self.credentials(environment, aws_session={"duration_seconds": 900})), first)
        self.assertNotEqual(given(self.credentials(environment, aws_session={"policy": "{}"})), first)
        self.assertEqual([(call["DurationSeconds"], call.get("Policy")) for call in self.sts.calls[before:]],
                         [("3600", None), ("900", None), ("3600", "{}")])
        answer = self.call(SECRET + "UpdateSecretValues", {"name": "aws", "environment": environment, "patch": {
            "set": values(AWS_REGION=b"eu-west-1")}})
        self.assertEqual(answer.code, 0, answer)
        self.assertNotEqual(given(self.credentials(environment)), first)
        self.assertEqual(self.sts.count(), before + 4)

    def test_deleted_secret_and_revoked_grant_give_nothing_and_evict(self):
        environment, _ = self.role()
        account, _ = self.account([{"permissions": ["resolve"], "environments": [environment], "names": ["*"]}])
        token = self.issue(account).message["secret_text"]
        first = given(self.resolve(environment, "aws.AWS_ACCESS_KEY_ID", token=token, run={"run_id": "run-1"}))
        self.assertTrue(first)
        place = {"name": "aws", "environment": environment}
        self.assertEqual(self.call(SECRET + "DeleteSecret", place).code, 0)
        self.assertEqual(short(self.credentials(environment)["outcomes"]), ["SECRET_NOT_FOUND"] * 3)
        self.assertEqual(self.call(SECRET + "RestoreSecret", place).code, 0)
        before = self.sts.count()
        second = given(self.resolve(environment, "aws.AWS_ACCESS_KEY_ID", token=token, run={"run_id": "run-1"}))
        self.assertNotEqual(second, first)
        changed = self.update_account(account, grants=None)
        self.assertEqual(changed.code, 0, changed)
        self.assertNotEqual(given(self.resolve(environment, "aws.AWS_ACCESS_KEY_ID", run={"run_id": "run-1"})), second)
        self.assertEqual(self.sts.count(), before + 2)

    def test_session_is_not_handed_out_when_half_of_a_short_life_is_over(self):
        environment, _ = self.role()
        self.sts.life_s = 4
        first = given(self.credentials(environment))
        wait_for(lambda: given(self.credentials(environment)) != first, "another session")

    def test_refusal_throttling_and_outage_have_outcomes_of_their_own(self):
        for mode, outcome, code, retry in (("refuse", "AWS_ROLE_REFUSED", 9, False), ("throttle", "AWS_THROTTLED", 14, True),
                                           ("garbage", "AWS_UNAVAILABLE", 14, True), ("other", "AWS_UNAVAILABLE", 14, True),
                                           ("broken", "AWS_UNAVAILABLE", 14, True)):
            with self.subTest(mode):
                environment, arn = self.role(demanded="another" if mode == "refuse" else "")
                self.sts.mode = mode
                result = self.credentials(environment)
                self.assertEqual(short(result["outcomes"]), [outcome] * 3)
                self.assertEqual((result["status"]["code"], bool(result["status"].get("retry_delay"))), (code, retry))
                self.assertNotIn(arn, str(result["faults"]))
                before = self.sts.count()
                self.assertEqual(short(self.credentials(environment)["outcomes"]), [outcome] * 3)
                self.assertLessEqual(self.sts.count() - before, 1)

    def test_pending_is_answered_only_where_it_is_allowed(self):
        environment, _ = self.role()
        self.sts.hang()
        result = self.credentials(environment, allow_pending=True)
        self.assertEqual(short(result["outcomes"]), ["PENDING"] * 3)
        self.assertTrue(result["status"]["retry_delay"])
        self.sts.release()
        wait_for(lambda: self.credentials(environment, allow_pending=True)["status"]["code"] == 0, "the session")

    def test_hung_sts_costs_its_own_calls_their_time_and_others_nothing(self):
        environment, _ = self.role()
        plain = self.store("other", K=b"v")
        self.sts.hang()
        results = []

        def wait():
            with self.dev.connect() as connection:
                answer = connection.call(RESOLVE, {"items": [{"environments": [environment], "references": references(
                    "aws.AWS_ACCESS_KEY_ID"), "timeout_ms": 6000}]}, token=self.dev.admin)
                results.append(answer.message["results"][0])

        threads = [threading.Thread(target=wait) for _ in range(16)]
        for thread in threads:
            thread.start()
        wait_for(lambda: self.sts.mode == "hang" and self.sts.count(), "a request that hangs")
        answered = sum(self.ask(plain, "other.K")["status"]["code"] == 0 for _ in range(200))
        self.assertEqual((answered, results), (200, []))
        for thread in threads:
            thread.join()
        self.assertLessEqual({result["status"]["outcome"] for result in results},
                             {"OUTCOME_AWS_UNAVAILABLE", "OUTCOME_DEADLINE_EXCEEDED"})

    def bench(self):
        """Resolves in a second by coffer-bench, of secrets that need no role."""
        done = subprocess.run([BUILD / "client" / "bench" / "coffer-bench", "--addr", self.dev.ipc, "--token-file",
                               self.dev.directory / "admin.token", "--output", "json", "--rounds", "1", "--duration",
                               "5000" if FULL else "500", "--warm-up", "200", "--secrets", "20", "--no-echo", "-n", "16", "resolve"],
                              stdout=subprocess.PIPE, text=True, timeout=600, check=True,
                              env={k: v for k, v in os.environ.items() if not k.startswith("COFFER_")})
        return json.loads(done.stdout)["subjects"][0]["rate"]["median"]

    def test_hung_sts_leaves_other_resolves_their_rate(self):
        """The ratio within one run: 0.9 at full size. Here it is less, and measured again where it is not reached, for other
        programs run meanwhile; what STS costs it costs each time."""
        environment, _ = self.role()
        rates, ratio, least, rounds = {"quiet": [], "hung": []}, 0, 0.9 if FULL else 0.4, 3 if FULL else 5
        with self.dev.connect() as connection:
            while len(rates["hung"]) < rounds and (FULL or ratio <= least):
                rates["quiet"].append(self.bench())
                self.sts.hang()
                before = self.sts.count()
                numbers = [connection.send(RESOLVE, {"items": [{
                    "environments": [environment], "references": references("aws.AWS_ACCESS_KEY_ID"),
                    "run": {"run_id": f"hung-{len(rates['quiet'])}-{k}"}}]}, token=self.dev.admin, timeout_ms=120000)
                    for k in range(48)]
                wait_for(lambda: self.sts.count() >= before + 16, "requests that hang")
                rates["hung"].append(self.bench())
                self.sts.release()
                for number in numbers:
                    connection.receive(number)
                ratio = max(rates["hung"]) / max(rates["quiet"])
        print(f"resolves in a second: {rates}, ratio {ratio:.2f}", flush=True)
        self.assertGreater(ratio, least)

    def test_many_resolves_of_one_role_at_once_are_one_session_for_each_run(self):
        environment, arn = self.role()
        many, runs = (1000 if FULL else 120), 4
        found, start = [], threading.Barrier(20)

        def one(number):
            with self.dev.connect() as connection:
                start.wait()
                for i in range(many // 20):
                    item = {"environments": [environment], "references": references("aws.AWS_ACCESS_KEY_ID"),
                            "run": {"run_id": f"many-{(number + i) % runs}"}}
                    answer = connection.call(RESOLVE, {"items": [item]}, token=self.dev.admin)
                    found.append((item["run"]["run_id"], tuple(given(answer.message["results"][0]).values())))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(found)), runs)
        self.assertEqual(len([call for call in self.sts.calls if call["RoleArn"] == arn]), runs)

    def test_resolves_that_wait_for_one_session_together_are_one_request(self):
        """All of them before STS answers: 1,000 at full size."""
        count = 1000 if FULL else 200
        environment, arn = self.role()
        item = {"environments": [environment], "references": references("aws.AWS_ACCESS_KEY_ID"), "run": {"run_id": "together"}}
        server = self.dev.more("together", **self.sts.settings(), COFFERD_LIMITS__WAITING_PER_ROLE="1024")
        self.sts.hang()
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self.dev.connect(server.address)) for _ in range(10)]
            sent = [(connection, connection.send(RESOLVE, {"items": [item]}, token=self.dev.admin, timeout_ms=100000))
                    for connection in connections for _ in range(count // 10)]
            for connection in connections:  # queued behind the others
                connection.call(RESOLVE, {"items": [{"references": references("nothing.K")}]}, token=self.dev.admin)
            wait_for(lambda: any(call["RoleArn"] == arn for call in self.sts.calls), "the request that hangs")
            self.sts.release()
            found = [given(connection.receive(number, RESOLVE).message["results"][0]) for connection, number in sent]
        self.assertEqual(len(found), count)
        self.assertEqual(len({str(values) for values in found}), 1, found[:2])
        self.assertEqual(len(found[0]), 1)
        self.assertEqual(len([call for call in self.sts.calls if call["RoleArn"] == arn]), 1)

    def test_environments_have_their_own_roles_in_one_request(self):
        count = 200
        roles = {}
        secrets = []
        for i in range(count):
            arn = f"arn:aws:iam::{100000000000 + i}:role/r"
            roles[f"{100000000000 + i}"] = arn
            self.sts.trust[arn] = self.external_id
            secrets.append({"name": "aws", "environment": f"{100000000000 + i}", "values": values(AWS_ROLE_ARN=arn.encode())})
        answer = self.call(SECRET + "ImportSecrets", {"mode": "IMPORT_MODE_FAIL", "secrets": secrets}, timeout_ms=60000)
        self.assertTrue(answer.message["written"], answer)
        before = self.sts.count()
        answer = self.call(RESOLVE, {"items": [{"environments": list(roles), "references": references("aws.AWS_ACCESS_KEY_ID"),
                                                "run": {"run_id": "loop"}}]}, timeout_ms=60000)
        self.assertEqual({r["environment"] for r in answer.message["results"] if r["status"]["code"] == 0}, set(roles))
        pairs = {(call["RoleArn"], call["ExternalId"]) for call in self.sts.calls[before:]}
        self.assertEqual(pairs, {(arn, self.external_id) for arn in roles.values()})
        self.assertEqual(self.sts.count() - before, count)
        self.assertEqual(len({str(r["secrets"][0]["values"]) for r in answer.message["results"]}), count)

    def test_two_workspaces_with_one_role_name_two_external_ids(self):
        _, arn = self.role()
        found = {}
        for name in ("first", "second"):
            uid = self.call(context.WORKSPACE + "CreateWorkspace", {"name": f"ws-{name}"}, token=self.dev.system).message["workspace"]["uid"]
            token = self.token_for([{"permissions": ["secret:write", "resolve"], "environments": ["*"], "names": ["*"]}],
                                   token=self.dev.system, workspace=uid)
            self.assertEqual(self.call(SECRET + "CreateSecret", {"name": "aws", "values": values(AWS_ROLE_ARN=arn.encode())}, token=token).code, 0)
            before = self.sts.count()
            result = self.resolve("default", "aws.AWS_ACCESS_KEY_ID", token=token)
            found[name] = (self.sts.calls[before]["ExternalId"], short(result["outcomes"]))
            self.assertEqual(found[name], (uid.replace("-", ""), ["AWS_ROLE_REFUSED"]))
        self.assertNotEqual(found["first"][0], found["second"][0])

    def test_tags_are_sent_only_where_the_secret_asks_for_them(self):
        environment, _ = self.role()
        answer = self.call(SECRET + "UpdateSecret", {"name": "aws", "environment": environment, "tags": ["coffer:session-tags"],
                                                     "update_mask": {"paths": ["tags"]}})
        self.assertEqual(answer.code, 0, answer)
        before = self.sts.count()
        result = self.ask(environment, "aws.AWS_ACCESS_KEY_ID", run={"workflow_id": "flow", "run_id": "r&1"})
        self.assertEqual(result["status"]["code"], 0, result)
        call = self.sts.calls[before]
        tags = {call[f"Tags.member.{i}.Key"]: call[f"Tags.member.{i}.Value"] for i in range(1, 5)}
        self.assertEqual(tags, {"coffer:workspace": self.dev.workspace, "coffer:environment": environment,
                                "coffer:workflow": "flow", "coffer:run": "r_1"})

    def test_outcomes_and_values_agree_with_a_model_of_the_rules(self):
        chance = random.Random(seed())
        for _ in range(40):
            environment, _ = self.role(**{key: b" value " for key in chance.sample(KEYS[:4], 2) if key != "AWS_REGION"})
            keys = chance.sample(KEYS[:6], chance.randint(0, 2))
            optional_keys = chance.sample([key for key in KEYS if key not in keys], chance.randint(1, 3))
            stored = {"AWS_ROLE_ARN": b"x"}
            result = self.ask(environment, declarations=[{"name": "aws", "keys": keys, "optional_keys": optional_keys}])
            expected = Model("aws", stored).outcomes(keys, optional_keys, [], False)
            self.assertEqual(short(result["outcomes"]), expected, (keys, optional_keys))
            if result["status"]["code"] == 0:
                complete = bool({*keys, *optional_keys} & {*DIRECT, "AWS_ROLE_ARN"})
                self.assertEqual({key for _, key in given(result)}, set(DIRECT) if complete else set())


class Settings(AwsTest):
    def ask_server(self, name, environment, **settings):
        """The outcome of a role at one more server."""
        server = self.dev.more(name, **settings)
        with self.dev.connect(server.address) as connection:
            item = {"environments": [environment], "references": references("aws.AWS_ACCESS_KEY_ID"), "run": {"run_id": name}}
            answer = connection.call(RESOLVE, {"items": [item]}, token=self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        return short(answer.message["results"][0]["outcomes"])

    def test_sts_has_the_proxy_and_the_authorities_of_other_calls_to_the_outside(self):
        environment, arn = self.role()
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(f"{folder}/ca")
            sts = Sts(certificate=authority.issue("sts", names="DNS:sts.example,IP:127.0.0.1"))
            self.addCleanup(sts.close)
            tunnel = Tunnel(sts.server.server_address[1])
            self.addCleanup(tunnel.close)
            sts.trust[arn] = self.external_id
            own = {**sts.settings(), "COFFERD_OUTBOUND__CA_FILE": str(authority.certificate)}
            self.assertEqual(self.ask_server("direct", environment, **own), ["RESOLVED"])
            own = {**own, "COFFERD_OUTBOUND__PROXY": tunnel.url, "COFFERD_AWS__STS_ENDPOINT": "https://sts.example"}
            self.assertEqual(self.ask_server("proxied", environment, **own), ["RESOLVED"])
            self.assertEqual(tunnel.asked, ["sts.example:443"])
            self.assertEqual(sts.count(), 2)


class Test(AwsTest):
    TEST = "coffer.v1.AwsService/TestRole"

    def verdict(self, environment, name="aws"):
        answer = self.call(self.TEST, {"name": name, "environment": environment})
        self.assertEqual(answer.code, 0, answer)
        shown = self.call(SECRET + "GetSecret", {"name": name, "environment": environment}).message["secret"]
        self.assertEqual(shown["facts"]["aws_role_test"], answer.message["secret"]["facts"]["aws_role_test"])
        return shown["facts"]["aws_role_test"], answer.message["warnings"]

    def test_role_that_demands_the_external_id_refuses_others(self):
        environment, _ = self.role()
        before = self.sts.count()
        found, warnings = self.verdict(environment)
        self.assertEqual((found["verdict"], warnings), ("AWS_ROLE_VERDICT_REFUSES", []))
        sent = [call.get("ExternalId") for call in self.sts.calls[before:]]
        self.assertEqual((sent[0], sent[1], sent[3]), (self.external_id, None, self.external_id))
        self.assertNotIn(sent[2], (None, self.external_id))
        self.assertFalse([name for call in self.sts.calls[before:] for name in call if name.startswith("Tags")])

    def test_role_that_is_open_is_warned_of(self):
        environment, _ = self.role(demanded=None)
        found, warnings = self.verdict(environment)
        self.assertEqual(found["verdict"], "AWS_ROLE_VERDICT_OPEN")
        self.assertIn("confused-deputy", warnings[0])
        self.assertTrue(found["granted_without"] and found["granted_with_wrong_one"])

    def test_role_that_cannot_be_assumed_or_told_is_neither(self):
        environment, _ = self.role(demanded="another")
        found, warnings = self.verdict(environment)
        self.assertEqual((found["verdict"], found["reason"], len(warnings)), ("AWS_ROLE_VERDICT_NOT_ASSUMED", "AWS_ROLE_REFUSED", 1))
        environment, _ = self.role()
        self.sts.mode = "throttle"
        self.assertEqual(self.verdict(environment)[0]["verdict"], "AWS_ROLE_VERDICT_INCONCLUSIVE")

    def test_result_goes_with_new_values(self):
        environment, _ = self.role()
        self.verdict(environment)
        answer = self.call(SECRET + "UpdateSecretValues", {"name": "aws", "environment": environment, "patch": {"set": values(K=b"v")}})
        self.assertFalse((answer.message["secret"].get("facts") or {}).get("aws_role_test"), answer)

    def test_secret_without_a_role_is_told(self):
        for name, pairs in (("aws", {"AWS_PROFILE": b"p"}), ("other", {"AWS_ROLE_ARN": ROLE.encode()})):
            environment = self.store(name, **pairs)
            self.assertEqual(self.call(self.TEST, {"name": name, "environment": environment}).reason, "AWS_ROLE_MISSING")

    def test_commands(self):
        environment, arn = self.role()

        def coffer(*arguments):
            token = self.dev.directory / "admin.token"
            return subprocess.run([BUILD / "client" / "cli" / "coffer", *arguments, "--addr", self.dev.ipc, "--token-file", token],
                                  capture_output=True, text=True, timeout=120)

        process = coffer("aws", "assume", "-e", environment, "-o", "credential_process")
        made = json.loads(process.stdout)
        self.assertEqual(sorted(made), ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken", "Version"])
        self.assertEqual(made["Version"], 1)
        shown = coffer("aws", "assume", "-e", environment)
        self.assertIn("session of a role", shown.stdout)
        self.assertNotIn(made["SecretAccessKey"], shown.stdout + shown.stderr)
        self.assertIn("demands the External ID", coffer("aws", "test", "-e", environment).stdout)
        self.assertIn(self.external_id, coffer("aws", "role-info").stdout)
        self.assertEqual(json.loads(coffer("aws", "role-info", "--format", "policy").stdout)["Version"], "2012-10-17")
        self.assertEqual(coffer("aws", "role-info", "--format", "csv").returncode, 2)


    def test_awss_own_tools_take_a_session_from_their_config_file(self):
        environment, _ = self.role()
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder) / "config"
            command = (f"{BUILD / 'client' / 'cli' / 'coffer'} aws assume -e {environment} -o credential_process --addr {self.dev.ipc}"
                       f" --token-file {self.dev.directory / 'admin.token'}")
            config.write_text(f"[profile tenant]\ncredential_process = {command}\nregion = eu-west-1\n")
            session = botocore.session.Session(profile="tenant")
            session.set_config_variable("config_file", str(config))
            found = session.get_credentials().get_frozen_credentials()
        number = self.sts.number
        self.assertEqual(tuple(found)[:3], (f"ASIA{number:016d}", f"secret+/{number}", f"token//{number}=="))


class NoIdentity(context.ServerTest):
    SETTINGS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}

    def test_server_without_an_identity_starts_and_says_so_at_use(self):
        answer = self.call(SECRET + "CreateSecret", {"name": "aws", "values": values(AWS_ROLE_ARN=ROLE.encode())})
        self.assertEqual(answer.code, 0, answer)
        result = self.resolve("default", "aws.AWS_ACCESS_KEY_ID")
        self.assertEqual(short(result["outcomes"]), ["AWS_IDENTITY_MISSING"])
        self.assertIn("operator", result["status"]["message"])
        self.assertEqual(self.call(ACCESS).reason, "AWS_NOT_CONFIGURED")


if __name__ == "__main__":
    unittest.main()
