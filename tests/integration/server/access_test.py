#!/usr/bin/env python3
"""Who may do what: every way to say who one is that is not right, and every way around what one may."""

import base64
import hashlib
import os
import random
import re
import signal
import time
import unittest
import uuid

import context
import rights_model as model
import token_text
from cofferd import references, values, wait_for
from context import ACCOUNT, ENVIRONMENT, RESOLVE, SECRET, SYSTEM, TOKEN, WORKSPACE
from sp_client import SCHEMA, uuid7

SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
UNKNOWN = "00000000-0000-4000-8000-000000000001"
OPEN = {"grpc.health.v1.Health/Check", "coffer.rpc.v1.ServerService/GetServerInfo"}
REFLECTION = "coffer.rpc.v1.ReflectionService/GetFileDescriptorSet"
# They need a token and no permission.
CALLER = {TOKEN + "GetCaller", TOKEN + "RevokeToken", REFLECTION}
# They belong to the administration of the system.
SYSTEM_ONLY = {WORKSPACE + "DeleteWorkspace", WORKSPACE + "RestoreWorkspace"}
RULES = [{"permissions": ["resolve", "secret:read", "secret:write", "environment:read", "environment:write",
                          "account:read", "account:write", "token:read", "token:write", "workspace:read"]}]


def methods():
    """All methods of the contract."""
    return [f"{service}/{method}" for service, rows in SCHEMA.services.items() for method in rows]


def request_for(method, workspace=None):
    """A request that is well-formed as far as names go."""
    fields = SCHEMA.messages[SCHEMA.method(method)[0]]
    known = {"name": "x", "service_account": "x", "environment": "x", "new_name": "y",
             "provider": "github", "token_uid": UNKNOWN, "values": values(K=b"v"), "replace": {"values": values(K=b"v")},
             "secrets": [{"name": "x", "environment": "x", "values": values(K=b"v")}], "actions": [{"name": "x"}]}
    request = {name: known[name] for name in fields if name in known}
    if "workspace" in fields and workspace is not None:
        request["workspace"] = workspace
    return request


class Access(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print(f"seed {SEED}", flush=True)
        cls.random = random.Random(SEED)

    def caller(self, token):
        return self.call(TOKEN + "GetCaller", token=token)

    def with_workspace(self):
        """The methods of this server whose requests name a workspace, and that need a permission."""
        for method in methods():
            if method in OPEN | CALLER or "workspace" not in SCHEMA.messages[SCHEMA.method(method)[0]]:
                continue
            if self.connection.call(method, {}).code != 12:
                yield method

    # --- Tokens

    def backends(self):
        pids = self.sql("select pid from pg_stat_activity where backend_type = 'client backend'"
                        " and pid <> pg_backend_pid()")
        return [int(pid) for pid in pids.split()]

    def test_token_changed_cut_or_lengthened_anywhere_is_malformed_without_the_database(self):
        token, other = self.dev.admin, b"0"
        wrong = []
        for i in range(len(token) + 1):
            if i < len(token):
                wrong.append(token[:i] + (b"1" if token[i:i + 1] == other else other) + token[i + 1:])
                wrong.append(token[:i] + token[i + 1:])
            wrong.append(token[:i] + other + token[i:])
        wrong = [text for text in wrong if text != token]
        unseen = self.token_for(RULES)
        stopped = self.backends()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            numbers = [self.connection.send(TOKEN + "GetCaller", token=text) for text in wrong]
            answers = [self.connection.receive(number) for number in numbers]
            # The database does not answer: a good token's call is over before it is known.
            good = self.connection.call(TOKEN + "GetCaller", token=unseen, timeout_ms=300)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        self.assertGreater(len(wrong), 290)
        self.assertEqual({(answer.code, answer.reason) for answer in answers}, {(16, "TOKEN_MALFORMED")})
        self.assertIn(good.code, (4, 14))
        wait_for(lambda: self.caller(token).code == 0, "the database answers again")

    def test_row_decides_the_kind_of_a_token(self):
        tokens = {b"ws": self.dev.admin, b"sys": self.dev.system, b"fleet": self.fleet([{"permissions": ["resolve"]}])}
        for kind, token in tokens.items():
            parts = token_text.parse(token)
            self.assertEqual(token_text.make(*parts), token)
            for said in {b"ws", b"sys", b"fleet"} - {kind}:
                answer = self.caller(token_text.make(said, *parts[1:]))
                self.assertEqual((answer.code, answer.reason), (16, "TOKEN_INVALID"), (kind, said))

    def test_unknown_wrong_revoked_and_foreign_tokens_get_one_and_the_same_answer(self):
        other, other_admin = self.new_workspace("foreign-tokens")
        token = self.token_for(RULES)
        kind, workspace, token_id, secret = token_text.parse(token)
        revoked = self.token_for(RULES)
        self.assertEqual(self.call(TOKEN + "RevokeToken", token=revoked).code, 0)
        flipped = bytes([secret[0] ^ 1]) + secret[1:]
        cases = {
            "unknown": token_text.make(kind, workspace, uuid.uuid4(), secret),
            "unknown workspace": token_text.make(kind, uuid.uuid4(), token_id, secret),
            "wrong": token_text.make(kind, workspace, token_id, flipped),
            "zero": token_text.make(kind, workspace, token_id, bytes(32)),
            "revoked": revoked,
            "other workspace": token_text.make(kind, uuid.UUID(other), token_id, secret),
            "other token's secret": token_text.make(kind, workspace, token_id, token_text.parse(other_admin)[3]),
            "system workspace": token_text.make(b"sys", uuid.UUID(SYSTEM), token_id, secret),
        }
        self.assertEqual(self.caller(token).code, 0)
        for method in (TOKEN + "GetCaller", RESOLVE):
            answers = {name: self.call(method, token=text) for name, text in cases.items()}
            seen = {(a.code, a.reason, a.text, str(a.facts), str(a.fields), a.retry_ms) for a in answers.values()}
            self.assertEqual(len(seen), 1, answers)
            self.assertEqual(answers["unknown"].reason, "TOKEN_INVALID")

    def test_wrong_secret_of_a_token_in_the_cache_is_looked_up_like_an_unknown_token(self):
        token = self.token_for(RULES)
        kind, workspace, token_id, secret = token_text.parse(token)
        wrong = token_text.make(kind, workspace, token_id, bytes([secret[0] ^ 1]) + secret[1:])
        unknown = token_text.make(kind, workspace, uuid.uuid4(), secret)
        self.assertEqual(self.caller(token).code, 0)
        with self.locked("token"):
            # Both wait for the database, the right one does not.
            self.assertEqual(self.call(RESOLVE, {"items": [{"references": references("no.K")}]}, token=token).code, 0)
            for text in (wrong, unknown):
                self.assertIn(self.call(TOKEN + "GetCaller", token=text, timeout_ms=300).code, (4, 14))
        for text in (wrong, unknown):
            self.assertEqual(self.call(TOKEN + "GetCaller", token=text).reason, "TOKEN_INVALID")

    def test_token_of_an_account_that_has_ended_is_refused(self):
        name, answer = self.account(RULES, expire_time={"seconds": 1})
        self.assertEqual(answer.code, 0, answer)
        token = self.issue(name).message["secret_text"]
        answer = self.caller(token)
        self.assertEqual((answer.code, answer.reason), (16, "ACCOUNT_DISABLED"))

    def test_revoked_token_is_refused_by_its_server_at_once_and_by_others_within_the_limit(self):
        other = self.dev.more("revoking")
        with self.dev.connect(other.address) as connection:
            for first, second in ((self.connection, connection), (connection, self.connection)):
                token = self.token_for(RULES)
                self.assertEqual(second.call(TOKEN + "GetCaller", token=token).code, 0)
                self.assertEqual(first.call(TOKEN + "RevokeToken", token=token).code, 0)
                self.assertEqual(first.call(TOKEN + "GetCaller", token=token).reason, "TOKEN_INVALID")
                self.wait_for_others()
                self.assertEqual(second.call(TOKEN + "GetCaller", token=token).reason, "TOKEN_INVALID")

    def everything_stored(self):
        """All rows of all tables as text; bytes are hexadecimal."""
        tables = self.sql("select tablename from pg_tables where schemaname = 'public'").split()
        return "\n".join(self.sql(f"select t::text from {table} t") for table in tables)

    def test_of_a_token_a_hash_and_a_sealed_key_are_stored_and_nothing_else(self):
        token = self.token_for(RULES)
        _, _, token_id, secret = token_text.parse(token)
        stored, narrowing = self.sql(
            f"select encode(hash, 'hex') || ' ' || encode(narrowing_key, 'hex') from token where token_id = '{token_id}'"
        ).split()
        self.assertEqual(stored, hashlib.sha256(secret).hexdigest())
        # Format, generation and nonce, the sealed key, its tag.
        self.assertEqual(len(narrowing) // 2, 1 + 4 + 24 + 32 + 16)
        everything = self.everything_stored()
        self.assertIn(stored, everything)
        payload = (uuid.UUID(self.dev.workspace).bytes + token_id.bytes + secret).hex()
        for part in (token.decode(), token.hex(), token[-40:].decode(), token[-40:].hex(), secret.hex(), payload,
                     base64.b64encode(secret).decode()):
            self.assertNotIn(part, everything)

    def test_whatever_could_be_a_credential_is_stored_sealed(self):
        canary = b"canary-" + os.urandom(12).hex().encode()
        at = {"name": "sealed", "environment": "canaries"}
        self.create(**at, API_KEY=canary)
        self.call(SECRET + "UpdateSecretValues", {**at, "patch": {"set": values(OTHER=canary[::-1])}})
        everything = self.everything_stored()
        for text in (canary, canary[::-1], canary[7:]):
            self.assertNotIn(text.decode(), everything)
            self.assertNotIn(text.hex(), everything)
        # Names are not sealed: the search would have found it.
        self.assertIn(b"API_KEY".hex(), everything)
        self.assertIn("canaries", everything)

    # --- Methods

    def test_only_health_and_server_info_answer_without_a_token(self):
        answers = {method: self.connection.call(method, {}) for method in methods()}
        self.assertEqual({method for method, answer in answers.items() if answer.code == 0}, OPEN)
        self.assertGreater(len(answers), 20)
        for method, answer in answers.items():
            self.assertIn(answer.reason, ("", "TOKEN_MISSING", "METHOD_UNKNOWN"), (method, answer))
            self.assertEqual(answer.reason == "", method in OPEN)

    def test_method_without_a_row_does_not_exist_and_one_with_a_permission_is_closed_to_who_has_it_nowhere(self):
        nobody = self.token_for([])
        for method in ("coffer.v1.SecretService/Nothing", "coffer.v1.NoService/GetSecret", "x", "", "/",
                       SECRET + "getsecret", SECRET + "GetSecret/", " " + SECRET + "GetSecret"):
            number = self.connection.send(method, payload=b"", token=self.dev.admin)
            self.assertEqual(self.connection.receive(number).code, 12, method)
        reasons = {method: self.call(method, request_for(method), token=nobody).reason for method in methods()}
        for method, reason in reasons.items():
            if reason != "METHOD_UNKNOWN" and method not in OPEN | {TOKEN + "GetCaller", REFLECTION}:
                self.assertEqual(reason, "PERMISSION_DENIED", method)

    def test_refusal_advises_a_grant_only_where_one_would_help(self):
        other, _ = self.new_workspace("not-reached")
        fleet, nobody = self.fleet(RULES), self.token_for([])
        grant = "; ask for a grant of it"
        for token, method, workspace, said in (
                (nobody, SECRET + "GetSecret", "", "the token does not have the permission secret:read anywhere" + grant),
                (nobody, WORKSPACE + "CreateWorkspace", "",
                 "only system accounts have the permission workspace:create; call with a token of one"),
                (self.dev.system, SECRET + "GetSecret", self.dev.workspace,
                 "system accounts never have the permission secret:read; call with a token of a workspace's account, or of a "
                 "fleet account"),
                (self.dev.admin, SECRET + "GetSecret", other,
                 "the token acts in its own workspace only; name no workspace, or call with a token that acts in the one "
                 "that is named"),
                (fleet, WORKSPACE + "GetWorkspace", SYSTEM,
                 "fleet accounts act in the workspaces of tenants only; call with a token of a system account")):
            answer = self.call(method, request_for(method, workspace), token=token)
            self.assertEqual((answer.reason, answer.text), ("PERMISSION_DENIED", said))
        for token in (self.dev.admin, fleet):
            self.assertEqual(self.call(WORKSPACE + "ListWorkspaces", {}, token=token).text,
                             "only system accounts list workspaces; call with a token of one, or read one workspace by its UUID")

    # --- Workspaces

    def test_workspace_is_made_by_a_system_token_only_and_has_a_random_uuid(self):
        made = [self.new_workspace(f"uuid{i}")[0] for i in range(3)]
        for workspace in made:
            self.assertRegex(workspace, r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        self.assertEqual(len(set(made)), 3)
        fleet = self.fleet(RULES)
        for token in (self.dev.admin, self.dev.executor, fleet):
            answer = self.call(WORKSPACE + "CreateWorkspace", {"name": "mine"}, token=token)
            self.assertEqual((answer.code, answer.reason), (7, "PERMISSION_DENIED"))
            self.assertEqual(self.call(WORKSPACE + "ListWorkspaces", {}, token=token).reason, "PERMISSION_DENIED")
        _, answer = self.account([{"permissions": ["workspace:create"]}])
        self.assertEqual(answer.fields, ["grants[0].permissions[0]"])

    def test_workspace_in_every_request_is_a_uuid_in_lower_case_or_empty(self):
        own = self.dev.workspace
        wrong = [own.upper(), own[:-1], own + "0", "{" + own + "}", own.replace("-", ""), "dev", " " + own, "0", "*"]
        checked = list(self.with_workspace())
        self.assertGreater(len(checked), 10)
        for method in checked:
            for text in wrong:
                if text == own:
                    continue
                token = self.dev.system if method in SYSTEM_ONLY else self.dev.admin
                answer = self.call(method, request_for(method, text), token=token)
                self.assertEqual((answer.code, answer.reason, answer.fields), (3, "FIELD_INVALID", ["workspace"]),
                                 (method, text))
        item = {"references": references("none.K")}
        answer = self.call(RESOLVE, {"items": [{**item, "workspace": text} for text in ["", own, *wrong]]})
        outcomes = [result["status"]["outcome"] for result in answer.message["results"]]
        self.assertEqual(outcomes, ["OUTCOME_SECRET_NOT_FOUND"] * 2 + ["OUTCOME_ITEM_INVALID"] * len(wrong))
        self.assertEqual(answer.message["results"][0]["workspace"], own)

    def test_workspace_token_that_names_another_workspace_is_denied_by_every_method(self):
        foreign, _ = self.new_workspace("named-by-others")
        token = self.token_for(RULES)
        for method in self.with_workspace():
            answers = {workspace: self.call(method, request_for(method, workspace), token=token)
                       for workspace in (foreign, UNKNOWN, SYSTEM)}
            self.assertEqual({(answer.code, answer.reason) for answer in answers.values()}, {(7, "PERMISSION_DENIED")},
                             (method, answers))
            self.assertEqual(len({answer.text for answer in answers.values()}), 1, method)
        item = {"references": references("x.K")}
        results = self.call(RESOLVE, {"items": [{**item, "workspace": w} for w in (foreign, UNKNOWN, SYSTEM, "")]},
                            token=token).message["results"]
        self.assertEqual([r["status"]["outcome"].removeprefix("OUTCOME_") for r in results],
                         ["PERMISSION_DENIED"] * 3 + ["SECRET_NOT_FOUND"])
        self.assertEqual(len({r["status"]["message"] for r in results[:3]}), 1)

    def test_fleet_and_system_tokens_must_name_a_workspace(self):
        fleet = self.fleet(RULES)
        system = self.dev.system
        for method in self.with_workspace():
            for token in (fleet, system):
                answer = self.call(method, request_for(method), token=token)
                able = answer.reason != "PERMISSION_DENIED"
                self.assertEqual(able, self.has_permission_for(method, token), (method, answer))
                if able:
                    self.assertEqual((answer.code, answer.reason, answer.fields),
                                     (3, "WORKSPACE_REQUIRED", ["workspace"]), (method, answer))

    def has_permission_for(self, method, token):
        """Whether the kind of the token can have the permission that the method names when it denies."""
        nobody = self.call(method, request_for(method), token=self.nobody())
        permission = nobody.facts["permission"]
        if token == self.dev.system:
            return model.SYS in model.PERMISSIONS[permission]
        return permission in RULES[0]["permissions"]

    def nobody(self):
        if not hasattr(Access, "no_rights"):
            Access.no_rights = self.token_for([])
        return Access.no_rights

    def test_system_token_reads_and_resolves_no_secret_in_any_workspace(self):
        self.create("kept", K=b"from the system")
        for workspace in ("", self.dev.workspace, SYSTEM, UNKNOWN):
            for method in (m for m in methods() if m.startswith((SECRET, "coffer.v1.ResolveService/", ENVIRONMENT))):
                request = request_for(method, workspace) if method != RESOLVE else \
                    {"items": [{"workspace": workspace, "references": references("kept.K")}]}
                answer = self.call(method, request, token=self.dev.system)
                if answer.code != 12:
                    self.assertEqual((answer.code, answer.reason), (7, "PERMISSION_DENIED"), (method, workspace))

    def test_system_workspace_owns_administrators_and_fleet_accounts_only(self):
        for kind, code in (("TOKEN_KIND_WORKSPACE", 3), ("TOKEN_KIND_FLEET", 0), ("TOKEN_KIND_SYSTEM", 0)):
            _, answer = self.account([], token=self.dev.system, workspace=SYSTEM, kind=kind)
            self.assertEqual(answer.code, code, kind)
        for kind in ("TOKEN_KIND_FLEET", "TOKEN_KIND_SYSTEM"):
            _, answer = self.account([], kind=kind)
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["kind"]))
        listed = self.call(ACCOUNT + "ListServiceAccounts", {"workspace": SYSTEM}, token=self.dev.system)
        self.assertEqual({a["kind"] for a in listed.message["service_accounts"]},
                         {"TOKEN_KIND_FLEET", "TOKEN_KIND_SYSTEM"})
        self.assertEqual({a["workspace"] for a in listed.message["service_accounts"]}, {SYSTEM})
        # Nobody keeps secrets in it.
        fleet = self.fleet(RULES)
        answer = self.call(SECRET + "CreateSecret", {"workspace": SYSTEM, "name": "x", "values": values(K=b"v")},
                           token=fleet)
        self.assertEqual(answer.reason, "PERMISSION_DENIED")

    # --- Fleet

    def test_one_request_of_a_fleet_token_resolves_in_all_listed_workspaces_and_in_no_other(self):
        places = [self.new_workspace(f"platform-{i}") for i in range(4)]
        for i, (_, admin) in enumerate(places):
            for environment in ("prod", "stage"):
                self.create("shared", environment, token=admin, K=f"{environment} of {i}".encode())
        names = [workspace for workspace, _ in places]
        token = self.fleet([{"permissions": ["resolve"], "workspaces": names[:3]}])
        items = [{"workspace": w, "environments": ["prod", "stage"], "references": references("shared.K")}
                 for w in [*names, UNKNOWN]]
        results = self.call(RESOLVE, {"items": items}, token=token).message["results"]
        got = [self.value(r, "shared", "K").decode() if r["status"]["code"] == 0 else r["status"]["outcome"]
               for r in results]
        expected = [f"{environment} of {i}" for i in range(3) for environment in ("prod", "stage")]
        self.assertEqual(got, expected + ["OUTCOME_PERMISSION_DENIED"] * 4)
        self.assertEqual(len({r["status"]["message"] for r in results[6:]}), 1)
        self.assertEqual([r["workspace"] for r in results[:6:2]], names[:3])

    def test_fleet_tokens_rules_hold_for_their_own_workspaces_only(self):
        (one, admin), (two, other) = self.new_workspace("rules-one"), self.new_workspace("rules-two")
        for token in (admin, other):
            self.create("s", token=token, K=b"v")
        fleet = self.fleet([{"permissions": ["resolve"], "workspaces": [one]},
                            {"permissions": ["secret:read"], "workspaces": [two]}])
        for workspace, resolves in ((one, True), (two, False)):
            outcome = self.resolve("", "s.K", token=fleet, workspace=workspace)["status"]["outcome"]
            self.assertEqual(outcome == "OUTCOME_RESOLVED", resolves)
            answer = self.call(SECRET + "GetSecret", {"workspace": workspace, "name": "s"}, token=fleet)
            self.assertEqual(answer.reason, "PERMISSION_DENIED" if resolves else "")

    def test_restricted_fleet_token_is_confined_to_its_own_list(self):
        (one, admin), (two, other) = self.new_workspace("narrow-one"), self.new_workspace("narrow-two")
        for token in (admin, other):
            self.create("s", token=token, K=b"v")
        rules = [{"permissions": ["resolve"], "workspaces": [one, two]}]
        narrow = self.fleet(rules, restrictions=[{"permissions": ["resolve"], "workspaces": [two, UNKNOWN]}])
        outcomes = [self.resolve("", "s.K", token=narrow, workspace=w)["status"]["outcome"] for w in (one, two, UNKNOWN)]
        self.assertEqual(outcomes, ["OUTCOME_PERMISSION_DENIED", "OUTCOME_RESOLVED", "OUTCOME_PERMISSION_DENIED"])

    def test_fleet_token_administers_its_workspaces_within_its_own_rights(self):
        one, _ = self.new_workspace("run-by-fleet")
        two, _ = self.new_workspace("not-run-by-fleet")
        fleet = self.fleet([{"permissions": ["account:write", "token:write", "secret:read"], "workspaces": [one]},
                            {"permissions": ["resolve"], "workspaces": [one], "names": ["a*"]},
                            {"permissions": ["secret:write"], "workspaces": [two]}])
        within = [{"permissions": ["resolve"], "names": ["ab", "a*"]}, {"permissions": ["secret:read"]}]
        token = self.token_for(within, token=fleet, workspace=one)
        self.assertEqual(self.caller(token).message["service_account"]["workspace"], one)
        for rules in ([{"permissions": ["resolve"]}], [{"permissions": ["secret:write"]}],
                      [{"permissions": ["resolve"], "names": ["b"]}]):
            self.assertEqual(self.account(rules, token=fleet, workspace=one)[1].reason, "TOKEN_EXCEEDS_ISSUER", rules)
        self.assertEqual(self.account([], token=fleet, workspace=two)[1].reason, "PERMISSION_DENIED")
        self.assertEqual(self.account([], token=fleet, workspace=SYSTEM)[1].reason, "PERMISSION_DENIED")

    # --- Escalation

    def test_nobody_makes_an_account_or_token_that_exceeds_him(self):
        maker = self.token_for([{"permissions": ["account:write", "token:write"]},
                                {"permissions": ["resolve", "secret:read"], "environments": ["dev*"], "names": ["a*", "b"]}])
        narrowed = self.token_for(RULES, restrictions=[
            {"permissions": ["account:write", "token:write"]}, {"permissions": ["resolve"], "names": ["only"]}])
        exceeding = [{"permissions": ["secret:write"]}, {"permissions": ["resolve"]},
                     {"permissions": ["resolve"], "environments": ["dev*"]},
                     {"permissions": ["resolve"], "environments": ["d*"], "names": ["b"]},
                     {"permissions": ["resolve"], "environments": ["dev"], "names": ["*"]},
                     {"permissions": ["resolve", "secret:write"], "environments": ["dev"], "names": ["b"]}]
        for token in (maker, narrowed):
            for rule in exceeding:
                _, answer = self.account([rule], token=token)
                self.assertEqual((answer.code, answer.reason, answer.fields), (7, "TOKEN_EXCEEDS_ISSUER", ["grants"]), rule)
                name, _ = self.account([rule])
                self.assertEqual(self.issue(name, token=token).reason, "TOKEN_EXCEEDS_ISSUER", rule)
        name, answer = self.account([{"permissions": ["resolve"], "names": ["only"]}], token=narrowed)
        self.assertEqual((answer.code, self.issue(name, token=narrowed).code), (0, 0))
        # The narrowed token's account could issue a whole token; it itself cannot.
        own = self.caller(narrowed).message["service_account"]["name"]
        self.assertEqual(self.issue(own, token=narrowed).reason, "TOKEN_EXCEEDS_ISSUER")
        restricted = self.issue(own, token=narrowed, restrictions=[{"permissions": ["resolve"], "names": ["only"]}])
        self.assertEqual(restricted.code, 0)

    def test_system_token_gives_the_first_account_and_fleet_accounts_any_grant(self):
        answer = self.call(WORKSPACE + "CreateWorkspace", {"name": "first"}, token=self.dev.system)
        workspace = answer.message["workspace"]["uid"]
        every = [{"permissions": [p for p, kinds in model.PERMISSIONS.items() if model.WS in kinds]}]
        first = self.token_for(every, token=self.dev.system, workspace=workspace)
        self.assertEqual(self.caller(first).code, 0)
        _, second = self.account([], token=self.dev.system, workspace=workspace)
        self.assertEqual((second.code, second.reason), (7, "PERMISSION_DENIED"))
        fleet = [{"permissions": [p for p, kinds in model.PERMISSIONS.items() if model.FLEET in kinds]}]
        self.assertEqual(self.caller(self.fleet(fleet)).code, 0)
        # Another administrator gets no more than the maker has.
        less = self.token_for([{"permissions": ["account:write", "token:write"]}], token=self.dev.system,
                              workspace=SYSTEM, kind="TOKEN_KIND_SYSTEM")
        _, answer = self.account([{"permissions": ["key:manage"]}], token=less, workspace=SYSTEM,
                                 kind="TOKEN_KIND_SYSTEM")
        self.assertEqual(answer.reason, "TOKEN_EXCEEDS_ISSUER")
        self.assertEqual(self.issue("admin", token=less, workspace=SYSTEM).reason, "TOKEN_EXCEEDS_ISSUER")

    def test_token_that_ends_issues_none_that_lives_longer(self):
        name, _ = self.account(RULES)
        end = int(time.time()) + 3600
        ending = self.issue(name, expire_time={"seconds": end}).message["secret_text"]
        for expire in ({}, {"expire_time": {"seconds": end + 1}}):
            self.assertEqual(self.issue(name, token=ending, **expire).reason, "TOKEN_EXCEEDS_ISSUER", expire)
        self.assertEqual(self.issue(name, token=ending, expire_time={"seconds": end}).code, 0)

    def test_repeat_of_an_issue_does_not_give_a_token_to_who_could_not_issue_it(self):
        name, _ = self.account(RULES)
        strong = self.issue(name).message["secret_text"]
        weak = self.issue(name, restrictions=[{"permissions": ["token:write"]}]).message["secret_text"]
        request, request_id = {"service_account": name, "description": "repeated"}, uuid7()
        first = self.call(TOKEN + "IssueToken", request, token=strong, request_id=request_id)
        self.assertEqual(first.code, 0)
        stolen = self.call(TOKEN + "IssueToken", request, token=weak, request_id=request_id)
        self.assertEqual((stolen.code, stolen.reason), (7, "TOKEN_EXCEEDS_ISSUER"))
        self.assertNotIn(first.message["secret_text"], stolen.payload)
        again = self.call(TOKEN + "IssueToken", request, token=strong, request_id=request_id)
        self.assertEqual(again.payload, first.payload)

    def test_permission_that_is_not_in_the_table_is_refused(self):
        for name in ("", "Resolve", "resolve ", "secret:", "secret:*", "*", "admin", "secret:read,resolve"):
            _, answer = self.account([{"permissions": ["resolve", name]}])
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["grants[0].permissions[1]"]), name)
            near = "did you mean resolve? " if name.strip().lower() == "resolve" else ""
            self.assertEqual(answer.text, f"{answer.fields[0]} is no permission; {near}docs/permissions.md lists them all")
        self.assertEqual(self.account([{"permissions": []}])[1].fields, ["grants[0].permissions[0]"])

    # --- Names

    def test_what_lies_outside_of_the_patterns_is_denied_whether_it_exists_or_not(self):
        self.create("hidden-one", "walled", K=b"v")
        self.create("shown-one", "walled", K=b"v")
        token = self.token_for([{**RULES[0], "environments": ["walled"], "names": ["shown*"]}])
        for method in (SECRET + "GetSecret", SECRET + "CreateSecret", SECRET + "UpdateSecretValues",
                       SECRET + "DeleteSecret"):
            answers = []
            for environment, name in (("walled", "hidden-one"), ("walled", "hidden-two"), ("nowhere", "hidden-one")):
                request = {**request_for(method), "name": name, "environment": environment}
                if method.endswith("UpdateSecretValues"):
                    request["patch"] = {"set": values(K=b"w")}
                    request.pop("replace", None)
                answer = self.call(method, request, token=token)
                text = answer.text.replace(name, "N")
                answers.append((answer.code, answer.reason, text, answer.facts["permission"]))
            self.assertEqual(len(set(answers)), 1, answers)
            self.assertEqual(answers[0][:2], (7, "PERMISSION_DENIED"))
        names = ("hidden-one", "hidden-two")
        results = [self.resolve("walled", f"{name}.K", token=token) for name in names]
        faults = {str(r["faults"]).replace(name, "N") for name, r in zip(names, results)}
        self.assertEqual(len(faults), 1, faults)
        for method in (ENVIRONMENT + "CreateEnvironment", ENVIRONMENT + "DeleteEnvironment"):
            texts = {self.call(method, {"name": name}, token=token).text.replace(name, "N")
                     for name in ("nowhere", "default")}
            self.assertEqual(len(texts), 1, texts)
            self.assertIn("permission", texts.pop())
        self.assertEqual(self.resolve("walled", "hidden-one.K")["status"]["code"], 0)

    def pages(self, method, token, field, request):
        """All rows of a list that is read one by one, and the tokens of its pages decoded."""
        rows, positions, page = [], [], ""
        for _ in range(100):
            answer = self.call(method, {**request, "page_size": 1, "page_token": page}, token=token)
            self.assertEqual(answer.code, 0, answer)
            rows += answer.message[field]
            page = answer.message["next_page_token"]
            if not page:
                return rows, positions
            positions.append(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)))
        raise AssertionError("the list does not end")

    def test_lists_and_their_page_tokens_show_only_what_the_caller_may_read(self):
        for environment in ("lists-a", "lists-b", "veiled"):
            for name in ("seen1", "unseen", "seen2", "zz-unseen"):
                self.create(name, environment, K=b"v")
        token = self.token_for([{"permissions": ["secret:read", "environment:read"], "environments": ["lists*"],
                                 "names": ["seen*"]}])
        rows, positions = self.pages(SECRET + "ListSecrets", token, "secrets", {})
        self.assertEqual([(row["name"], row["environment"]) for row in rows],
                         [(name, environment) for name in ("seen1", "seen2") for environment in ("lists-a", "lists-b")])
        places, more = self.pages(ENVIRONMENT + "ListEnvironments", token, "environments", {})
        self.assertEqual([row["name"] for row in places], ["lists-a", "lists-b"])
        for position in positions + more:
            self.assertNotRegex(position, rb"unseen|veiled")
        for request in ({"environments": ["veiled"]}, {"name_prefix": "unseen"}):
            answer = self.call(SECRET + "ListSecrets", request, token=token)
            self.assertEqual((answer.message["secrets"], answer.message["next_page_token"]), ([], ""))

    def test_near_misses_name_only_what_the_caller_may_see(self):
        for name in ("slacka", "slackb", "slackc"):
            self.create(name, "near", K=b"v")
        token = self.token_for([{"permissions": ["resolve"], "environments": ["near"], "names": ["slackb", "slackx"]}])
        for caller, expected in ((None, {"slacka", "slackb", "slackc"}), (token, {"slackb"})):
            result = self.resolve("near", "slackx.K", token=caller)
            self.assertEqual(result["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")
            self.assertEqual(set(result["faults"][0]["near_misses"]), expected)
            self.assertEqual(set(re.findall("slack[abc]", str(result))), expected)
        # Who may write or read but not resolve is told nothing at all.
        reader = self.token_for([{"permissions": ["secret:read"]}, {"permissions": ["resolve"], "names": ["slackx"]}])
        self.assertEqual(self.resolve("near", "slackx.K", token=reader)["faults"][0]["near_misses"], [])

    # --- The model

    def test_random_rules_are_answered_by_the_server_as_by_the_model(self):
        universe = model.Universe(self.random, [self.new_workspace(f"model-{i}")[0] for i in range(3)])
        kinds = {"ws": model.WS, "fleet": model.FLEET}
        asked = 0
        for i in range(24):
            kind = kinds["fleet" if i % 2 else "ws"]
            grants = universe.rules(kind, ["resolve", "secret:read"], least=1)
            restrictions = universe.rules(kind, ["resolve", "secret:read"]) if i % 3 == 0 else []
            messages = [rule.message() for rule in grants]
            limits = [rule.message() for rule in restrictions]
            token = self.fleet(messages, restrictions=limits) if kind == model.FLEET else \
                self.token_for(messages, restrictions=limits)
            asked += self.compare_resolve(universe, token, kind, grants, restrictions)
            asked += self.compare_get(universe, token, kind, grants, restrictions)
        print(f"{asked} decisions", flush=True)
        self.assertGreater(asked, 3000)

    def compare_resolve(self, universe, token, kind, grants, restrictions):
        own = self.dev.workspace if kind == model.WS else SYSTEM
        places = ["", self.dev.workspace, *universe.workspaces]
        items = [{"workspace": w, "environments": universe.ENVIRONMENTS,
                  "references": [{"name": name, "key": "K"} for name in universe.NAMES]} for w in places]
        answer = self.call(RESOLVE, {"items": items}, token=token)
        if answer.code != 0:
            self.assertFalse(any("resolve" in rule.permissions for rule in grants) and not restrictions, answer)
            return 0
        for result in answer.message["results"]:
            workspace = places[result["item_index"]]
            for i, name in enumerate(universe.NAMES):
                got = result["outcomes"][i] if result["outcomes"] else result["status"]["outcome"]
                expected = model.decide(kind, own, grants, restrictions, "resolve", workspace, result["environment"], name)
                expected = {"OK": "SECRET_NOT_FOUND", "WORKSPACE_REQUIRED": "ITEM_INVALID"}.get(expected, expected)
                self.assertEqual(got, "OUTCOME_" + expected, (grants, restrictions, workspace, result["environment"], name))
        return len(answer.message["results"]) * len(universe.NAMES)

    def compare_get(self, universe, token, kind, grants, restrictions):
        own = self.dev.workspace if kind == model.WS else SYSTEM
        for _ in range(40):
            workspace, environment, name = universe.request()
            answer = self.call(SECRET + "GetSecret", {"workspace": workspace, "environment": environment, "name": name},
                               token=token)
            expected = model.decide(kind, own, grants, restrictions, "secret:read", workspace, environment, name)
            # A caller who has the permission nowhere is denied before the request is looked at.
            if answer.reason != "PERMISSION_DENIED" or "anywhere" not in answer.text:
                self.assertEqual(answer.reason.replace("SECRET_NOT_FOUND", "OK"), expected,
                                 (grants, restrictions, workspace, environment, name))
            else:
                self.assertNotEqual(expected, "OK", (grants, restrictions))
        return 40


if __name__ == "__main__":
    unittest.main(verbosity=2)
