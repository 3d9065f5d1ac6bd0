#!/usr/bin/env python3
"""Tokens, accounts and workspaces: who may do what, and that nobody gets around it."""

import time
import unittest

import context
from cofferd import references, values, wait_for
from context import ACCOUNT, SECRET, SYSTEM, TOKEN, WORKSPACE


class Tokens(context.AccessTest):
    def test_tokens_of_every_wrong_kind_are_refused_and_told_apart(self):
        admin = self.dev.admin
        wrong_check = admin[:-1] + (b"0" if admin[-1:] != b"0" else b"1")
        cases = {b"": "TOKEN_MALFORMED", b"secret": "TOKEN_MALFORMED", admin[:-1]: "TOKEN_MALFORMED",
                 admin + b"0": "TOKEN_MALFORMED", wrong_check: "TOKEN_MALFORMED",
                 admin.replace(b"cof_ws_", b"cof_xx_"): "TOKEN_MALFORMED", admin[:50] + b"!" + admin[51:]: "TOKEN_MALFORMED"}
        for token, reason in cases.items():
            answer = self.call(TOKEN + "GetCaller", token=token)
            self.assertEqual((answer.code, answer.reason), (16, reason), token)
            self.assertNotIn(token.decode() or "no text", answer.text)
        self.assertEqual(self.connection.call(TOKEN + "GetCaller").reason, "TOKEN_MISSING")
        other = self.connection.call(TOKEN + "GetCaller", metadata=[("authorization", b"Basic abc")])
        self.assertEqual(other.reason, "TOKEN_MALFORMED")

    def test_token_shows_once_and_lists_without_its_secret(self):
        name, _ = self.account([{"permissions": ["resolve"]}])
        issued = self.issue(name, description="for a test")
        listed = self.call(TOKEN + "ListTokens", {"service_account": name})
        self.assertRegex(issued.message["secret_text"], rb"^cof_ws_[0-9A-Za-z]{92}$")
        self.assertEqual([t["uid"] for t in listed.message["tokens"]], [issued.message["token"]["uid"]])
        self.assertNotIn(issued.message["secret_text"], listed.payload)

    def test_revoked_token_is_refused_from_then_on(self):
        token = self.token_for([{"permissions": ["resolve"]}])
        uid = self.call(TOKEN + "GetCaller", token=token).message["token"]["uid"]
        self.assertEqual(self.call(TOKEN + "RevokeToken", {"token_uid": uid}).code, 0)
        self.assertEqual(self.call(TOKEN + "GetCaller", token=token).reason, "TOKEN_INVALID")

    def test_every_token_can_revoke_itself_and_no_other(self):
        token, other = (self.token_for([{"permissions": ["resolve"]}]) for _ in range(2))
        uid = self.call(TOKEN + "GetCaller", token=other).message["token"]["uid"]
        self.assertEqual(self.call(TOKEN + "RevokeToken", {"token_uid": uid}, token=token).reason, "PERMISSION_DENIED")
        self.assertEqual(self.call(TOKEN + "RevokeToken", {}, token=token).code, 0)
        self.assertEqual(self.call(TOKEN + "GetCaller", token=token).reason, "TOKEN_INVALID")
        self.assertEqual(self.call(TOKEN + "GetCaller", token=other).code, 0)

    def test_token_ends_at_its_time(self):
        name, _ = self.account([{"permissions": ["resolve"]}])
        ends = int(time.time()) + 6
        token = self.issue(name, expire_time={"seconds": ends}).message["secret_text"]
        self.assertEqual(self.call(TOKEN + "GetCaller", token=token).code, 0)
        wait_for(lambda: self.call(TOKEN + "GetCaller", token=token).reason == "TOKEN_EXPIRED", "the token works on")
        self.assertGreaterEqual(time.time(), ends)
        self.assertEqual(self.issue(name, expire_time={"seconds": 1}).reason, "FIELD_INVALID")

    def test_permission_that_is_not_granted_is_denied_and_named(self):
        denied = self.call(SECRET + "ListSecrets", token=self.dev.executor)
        self.assertEqual((denied.code, denied.reason, denied.facts["permission"]),
                         (7, "PERMISSION_DENIED", "secret:read"))

    def test_grants_limit_environments_and_names_and_do_not_tell_what_exists(self):
        for environment in ("prod", "stage"):
            for name in ("slack", "aws"):
                self.call(SECRET + "CreateSecret", {"name": name, "environment": environment, "values": values(K=b"v")})
        token = self.token_for([{"permissions": ["resolve", "secret:read"], "environments": ["prod"],
                                 "names": ["sla*"]}])
        item = {"environments": ["prod", "stage"], "references": references("slack.K", "aws.K", "nothere.K")}
        answer = self.call(context.RESOLVE, {"items": [item]}, token=token)
        outcomes = [[o.removeprefix("OUTCOME_") for o in r["outcomes"]] for r in answer.message["results"]]
        self.assertEqual(outcomes, [["RESOLVED"] + ["PERMISSION_DENIED"] * 2, ["PERMISSION_DENIED"] * 3])
        listed = self.call(SECRET + "ListSecrets", {}, token=token).message["secrets"]
        self.assertEqual([(s["name"], s["environment"]) for s in listed], [("slack", "prod")])
        texts = {self.call(SECRET + "GetSecret", {"name": name, "environment": "prod"}, token=token).text.replace(name, "X")
                 for name in ("aws", "nothere")}
        self.assertEqual(len(texts), 1)

    def test_restrictions_of_a_token_only_take_away(self):
        name, _ = self.account([{"permissions": ["resolve", "secret:read"]}])
        token = self.issue(name, restrictions=[{"permissions": ["resolve"], "names": ["only"]}]).message["secret_text"]
        self.assertEqual(self.call(SECRET + "ListSecrets", token=token).reason, "PERMISSION_DENIED")
        self.assertEqual(self.resolve("prod", "slack.K", token=token)["status"]["outcome"], "OUTCOME_PERMISSION_DENIED")
        self.assertEqual(self.resolve("prod", "only.K", token=token)["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")
        widened = self.issue(name, restrictions=[{"permissions": ["secret:write"]}]).message["secret_text"]
        denied = self.call(SECRET + "CreateSecret", {"name": "x", "values": values(A=b"")}, token=widened)
        self.assertEqual(denied.reason, "PERMISSION_DENIED")

    def test_nobody_grants_or_issues_more_than_he_has(self):
        limited = self.token_for([{"permissions": ["account:write", "token:write"]},
                                  {"permissions": ["resolve"], "environments": ["dev*"]}])
        for rules in ([{"permissions": ["secret:read"]}], [{"permissions": ["resolve"]}],
                      [{"permissions": ["resolve"], "environments": ["prod"]}],
                      [{"permissions": ["resolve"], "environments": ["d*"]}]):
            self.assertEqual(self.account(rules, token=limited)[1].reason, "TOKEN_EXCEEDS_ISSUER", rules)
        within = [{"permissions": ["resolve"], "environments": ["dev1", "dev2*"], "names": ["a"]}]
        self.assertEqual(self.account(within, token=limited)[1].code, 0)
        strong, _ = self.account([{"permissions": ["resolve"]}])
        self.assertEqual(self.issue(strong, token=limited).reason, "TOKEN_EXCEEDS_ISSUER")
        narrowed = self.issue(strong, token=limited, restrictions=[{"permissions": ["resolve"], "environments": ["dev"]}])
        self.assertEqual(narrowed.code, 0)

    def test_workspace_token_does_not_reach_another_workspace(self):
        foreign, admin = self.new_workspace("other-tenant")
        self.call(SECRET + "CreateSecret", {"name": "theirs", "values": values(K=b"x")}, token=admin)
        denied = self.call(SECRET + "GetSecret", {"workspace": foreign, "name": "theirs"})
        missing = self.call(SECRET + "GetSecret", {"workspace": "00000000-0000-4000-8000-000000000001", "name": "theirs"})
        self.assertEqual((denied.reason, denied.text), ("PERMISSION_DENIED", missing.text))
        outcome = self.resolve("", "theirs.K", workspace=foreign)["status"]["outcome"]
        self.assertEqual(outcome, "OUTCOME_PERMISSION_DENIED")
        self.assertEqual(self.call(SECRET + "GetSecret", {"name": "theirs"}).reason, "SECRET_NOT_FOUND")

    def test_system_token_administers_and_can_neither_resolve_nor_read_secrets(self):
        rights = ["resolve", "secret:read", "secret:write", "secret:reveal"]
        for permission in rights:
            _, answer = self.account([{"permissions": [permission]}], token=self.dev.system, workspace=SYSTEM, kind=3)
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["grants[0].permissions[0]"]))
        for method in (context.RESOLVE, SECRET + "GetSecret", SECRET + "CreateSecret"):
            self.assertEqual(self.call(method, token=self.dev.system).reason, "PERMISSION_DENIED")

    def test_system_token_makes_only_the_first_account_of_a_workspace(self):
        workspace, _ = self.new_workspace("first-account")
        _, second = self.account([{"permissions": ["resolve"]}], token=self.dev.system, workspace=workspace)
        self.assertEqual(second.reason, "PERMISSION_DENIED")
        self.assertEqual(self.issue("admin", token=self.dev.system, workspace=self.dev.workspace).code, 0)
        self.assertEqual(self.issue("executor", token=self.dev.system, workspace=self.dev.workspace).reason,
                         "TOKEN_EXCEEDS_ISSUER")

    def test_fleet_token_acts_in_the_workspaces_that_it_lists_and_must_name_one(self):
        first, admin = self.new_workspace("fleet-one")
        second, _ = self.new_workspace("fleet-two")
        self.call(SECRET + "CreateSecret", {"name": "s", "values": values(K=b"of one")}, token=admin)
        fleet = self.token_for([{"permissions": ["resolve"], "workspaces": [first]}], token=self.dev.system,
                               workspace=SYSTEM, kind="TOKEN_KIND_FLEET")
        self.assertTrue(fleet.startswith(b"cof_fleet_"))
        items = [{"workspace": w, "references": references("s.K")} for w in (first, second, "", SYSTEM)]
        answer = self.call(context.RESOLVE, {"items": items}, token=fleet)
        outcomes = [r["status"]["outcome"].removeprefix("OUTCOME_") for r in answer.message["results"]]
        self.assertEqual(outcomes, ["RESOLVED", "PERMISSION_DENIED", "ITEM_INVALID", "PERMISSION_DENIED"])
        everywhere = self.token_for([{"permissions": ["resolve"]}], token=self.dev.system, workspace=SYSTEM)
        answer = self.call(context.RESOLVE, {"items": items[:2]}, token=everywhere)
        outcomes = [r["status"]["outcome"].removeprefix("OUTCOME_") for r in answer.message["results"]]
        self.assertEqual(outcomes, ["RESOLVED", "SECRET_NOT_FOUND"])
        required = self.call(TOKEN + "ListTokens", {"service_account": "x"}, token=self.dev.system)
        self.assertEqual(required.reason, "WORKSPACE_REQUIRED")

    def test_workspace_names_are_unique_and_follow_the_rule(self):
        self.assertEqual(self.call(WORKSPACE + "CreateWorkspace", {"name": "dev"}, token=self.dev.system).reason,
                         "WORKSPACE_EXISTS")
        for name in ("Upper", "-a", "a-", "a_b", "", "a" * 101):
            self.assertEqual(self.call(WORKSPACE + "CreateWorkspace", {"name": name}, token=self.dev.system).fields,
                             ["name"], name)
        listed = self.call(WORKSPACE + "ListWorkspaces", {"name_prefix": "de"}, token=self.dev.system)
        self.assertEqual([w["name"] for w in listed.message["workspaces"]], ["dev"])
        self.assertEqual(listed.message["workspaces"][0]["external_id"], self.dev.workspace.replace("-", ""))


class Edited(context.AccessTest):
    """Rows that somebody with the database in his hands has changed."""

    SETTINGS = context.NO_CACHE

    def test_token_whose_row_was_edited_authorises_nothing(self):
        for column, value in (("restrictions", "'\\x00'"), ("expire_time", "now() + interval '9 years'"),
                              ("description", "'x'")):
            token = self.token_for([{"permissions": ["resolve"]}])
            uid = self.call(TOKEN + "GetCaller", token=token).message["token"]["uid"]
            self.sql(f"update token set {column} = {value} where token_id = '{uid}'")
            self.assertEqual(self.call(TOKEN + "GetCaller", token=token).reason, "CORRUPTED", column)

    def test_account_whose_grants_were_edited_authorises_nothing(self):
        token = self.token_for([{"permissions": ["resolve"]}])
        uid = self.call(TOKEN + "GetCaller", token=token).message["service_account"]["uid"]
        self.sql("update principal set grants = (select grants from principal where name = 'admin' and workspace_id = "
                 f"'{self.dev.workspace}') where principal_id = '{uid}'")
        self.assertEqual(self.call(SECRET + "ListSecrets", token=token).reason, "CORRUPTED")


if __name__ == "__main__":
    unittest.main(verbosity=2)
