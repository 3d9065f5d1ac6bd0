#!/usr/bin/env python3
"""Every reason that the server can give is provoked here, and what it tells is judged: code, message, fields."""

import base64
import os
import re
import signal
import time
import unittest

import context
import narrowed_tokens
from cofferd import ROOT, references, values, wait_for
from sp_client import encode, uuid7

SECRET = "coffer.v1.SecretService/"
ENVIRONMENT = "coffer.v1.EnvironmentService/"
ACCOUNT = "coffer.v1.ServiceAccountService/"
TOKEN = "coffer.v1.TokenService/"
WORKSPACE = "coffer.v1.WorkspaceService/"
INTEGRATION = "coffer.v1.IntegrationService/"
CALLER = TOKEN + "GetCaller"
NOBODY = "00000000-0000-4000-8000-000000000000"
PLANTED = b"planted-value-that-no-error-may-show"
LONG = 60000
FRAME = "coffer.rpc.v1.RequestFrame"

# Reasons of the table that this server does not give, and why. One that is given all the same fails the test of it.
NOT_GIVEN = {
    "IN_PROGRESS": "given where a provider does not answer in time, see integration/server/oauth_refresh",
    "AUDIT_UNAVAILABLE": "provoked by integration/server/audit, where nothing can be written",
    "KEY_EMPTY": "declarations are not offered yet",
    "DECLARATION_NOT_SATISFIED": "declarations are not offered yet",
    "ENVIRONMENT_VIEW_CONFLICT": "the environment view is not offered yet",
    "INCOMPLETE_AWS_KEYS": "an outcome, see integration/server/aws",
    **dict.fromkeys(("AWS_ROLE_REFUSED", "AWS_ROLE_ARN_INVALID", "AWS_REGION_INVALID", "AWS_IDENTITY_MISSING",
                     "AWS_IDENTITY_REFUSED", "AWS_SESSION_REFUSED", "AWS_THROTTLED", "AWS_UNAVAILABLE", "AWS_ROLE_MISSING"),
                    "given where there is an STS, see integration/server/aws"),
    "ACTION_CYCLE": "stands in the answer of RegisterActions, see integration/server/registry",
    **dict.fromkeys(("REGISTRATION_REFUSED", "REGISTRATION_UNKNOWN"),
                    "given where clients are registered, see integration/server/oauth_discovery"),
    "DISCOVERY_FAILED": "given where there is an issuer, see integration/server/oauth_discovery",
    "REAUTH_REQUIRED": "an outcome, see integration/server/oauth_refresh",
    "PROVIDER_UNAVAILABLE": "an outcome, see integration/server/oauth_refresh",
    "NOT_CONNECTED": "the client library's own",
    "REPLY_INVALID": "the client library's own",
    "CLIENT_CLOSED": "the client library's own",
    "CONFIG_INVALID": "at start, see the tests of the settings",
    **dict.fromkeys(("TEXT_TOO_LARGE", "EXPRESSION_TOO_LONG", "TOO_MANY_REFERENCES", "DOCUMENT_TOO_DEEP",
                     "DOCUMENT_INVALID", "DOCUMENT_KEY_CONFLICT", "VALUE_NOT_TEXT", "VALUE_ABSENT", "FILE_INVALID"),
                    "texts, documents and files are read by clients only"),
}
# Reasons that stand in the answer of a Resolve, as outcomes.
AS_OUTCOMES = {
    "CONSISTENCY_TOKEN_UNKNOWN": "CONSISTENCY_TOKEN_UNKNOWN", "CONSISTENCY_NOT_REACHED": "CONSISTENCY_NOT_REACHED",
    "EXPRESSION_INVALID": "EXPRESSION_INVALID", "ANSWER_TOO_LARGE": "TOO_LARGE", "SECRET_EXPIRED": "SECRET_EXPIRED",
}
# Reasons for one wrong field, which BadRequest must name.
NAME_A_FIELD = {"AWS_SESSION_NAME_REFUSED", "FIELD_INVALID", "FIELD_REQUIRED", "LIMIT_EXCEEDED", "PAGE_TOKEN_INVALID", "NAME_RESERVED", "GENERATION_MISMATCH",
                "STRING_INVALID", "WORKSPACE_REQUIRED", "SERVICE_UNKNOWN"}


def table():
    """{reason: its code's number} of common/reason.def."""
    codes = dict(re.findall(r"CODE\((\w+), (\d+)", (ROOT / "common" / "code.def").read_text()))
    text = (ROOT / "common" / "reason.def").read_text()
    return {name: int(codes[code]) for name, code in re.findall(r"REASON\((\w+), \d+, (\w+),", text)}


class Reasons(context.ServerTest):
    SETTINGS = context.NO_CACHE

    """A method named like a reason provokes it and returns the answer that has it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.connection.call(SECRET + "CreateSecret", {"name": "there", "environment": "prod",
                                                      "values": values(KEY=PLANTED)}, token=cls.dev.admin)

    def aws_not_configured(self):
        return self.call("coffer.v1.AwsService/GetAssumeRoleAccess")

    def aws_session_name_refused(self):
        return self.call(SECRET + "CreateSecret", {"name": "aws", "values": values(AWS_ROLE_SESSION_NAME=b"mine")})

    def raw(self, **fields):
        with self.dev.connect() as connection:
            return connection.receive(connection.send_message(encode(FRAME, {
                "revision": 1, "method": CALLER, "request_id": uuid7(), **fields})))

    def update(self, **fields):
        return self.call(SECRET + "UpdateSecretValues", {"name": "there", "environment": "prod", **fields})

    # The frame and the call.

    def frame_invalid(self):
        with self.dev.connect() as connection:
            return connection.receive(connection.send_message(b"\xff"))

    def frame_revision_unsupported(self):
        return self.raw(revision=7)

    def method_unknown(self):
        return self.raw(method="coffer.v1.SecretService/FetchSecret")

    def payload_invalid(self):
        return self.call(SECRET + "GetSecret", payload=b"\x18\x01")

    def string_invalid(self):
        return self.call(SECRET + "GetSecret", payload=b"\x1a\x02\xff\xfe")

    def metadata_invalid(self):
        return self.raw(metadata=[{"key": "Upper", "value": b""}])

    def request_id_invalid(self):
        return self.call(ENVIRONMENT + "CreateEnvironment", {"name": "x"}, request_id=os.urandom(16)[:6] + b"\x40" + b"0" * 9)

    def request_id_expired(self):
        return self.call(ENVIRONMENT + "CreateEnvironment", {"name": "x"},
                         request_id=uuid7(self.now_ms() - 24 * 3600 * 1000))

    def request_id_reused(self):
        request_id = uuid7()
        self.call(ENVIRONMENT + "CreateEnvironment", {"name": "reused"}, request_id=request_id)
        return self.call(ENVIRONMENT + "CreateEnvironment", {"name": "other"}, request_id=request_id)

    def deadline_exceeded(self):
        with self.locked("secret"):
            return self.call(SECRET + "GetSecret", {"name": "there", "environment": "prod"}, timeout_ms=300)

    def message_too_large(self):
        server = self.dev.more("small", COFFERD_LIMITS__RESPONSE="65536")
        for i in range(6):
            self.call(SECRET + "CreateSecret", {"name": f"wide{i}", "environment": "wide", "values": [
                {"key": f"K{k:02}".ljust(128, "x"), "value": PLANTED} for k in range(100)]})
        with self.dev.connect(server.address) as connection:
            return connection.call(SECRET + "ListSecrets", {"environments": ["wide"]}, token=self.dev.admin)

    def too_many_in_flight(self):
        server = self.dev.more("flight", COFFERD_LIMITS__IN_FLIGHT_PER_TOKEN="1")
        with self.dev.connect(server.address) as connection, self.locked("token"):
            connection.send(CALLER, token=self.dev.admin, timeout_ms=LONG)
            self.wait_until_blocked()
            return connection.call(CALLER, token=self.dev.admin)

    def server_busy(self):
        server = self.dev.more("busy", COFFERD_LIMITS__WORKERS="1", COFFERD_LIMITS__QUEUE="1")
        with self.dev.connect(server.address) as connection, self.locked("token"):
            connection.send(CALLER, token=self.dev.admin, timeout_ms=LONG)
            self.wait_until_blocked()
            connection.send(CALLER, token=self.dev.admin, timeout_ms=LONG)
            return connection.call(CALLER, token=self.dev.admin)

    def out_of_memory(self):
        server = self.dev.more("memory", COFFERD_LIMITS__CALL_MEMORY="1MiB")
        with self.dev.connect(server.address) as connection:
            return connection.call(SECRET + "ListSecrets", {"environments": [f"e{i}" for i in range(19000)]},
                                   token=self.dev.admin)

    def server_draining(self):
        server = self.dev.more("drain")
        with self.dev.connect(server.address) as connection:
            with self.locked("token"):
                number = connection.send(CALLER, token=self.dev.admin, timeout_ms=LONG)
                self.wait_until_blocked()
                server.process.send_signal(signal.SIGTERM)
                wait_for(lambda: b"no new calls" in server.log.read_bytes(), "the server drains")
                answer = connection.call(CALLER, token=self.dev.admin)
            self.assertEqual(connection.receive(number).code, 0, "what was under way is answered")
        return answer

    def end_blocked_sessions(self):
        self.sql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'")

    def database_unavailable(self):
        with self.dev.connect() as connection, self.locked("token"):
            number = connection.send(CALLER, token=self.dev.admin, timeout_ms=LONG)
            self.wait_until_blocked()
            self.end_blocked_sessions()
            return connection.receive(number)

    def outcome_unknown(self):
        """The connection breaks while the commit waits for a lock, and the repeats find no way to the record."""
        place = {"name": "doubt", "environment": "prod", "values": values(KEY=PLANTED)}
        with self.dev.connect() as connection, self.locked("workspace_revision", "share"):
            number = connection.send(SECRET + "CreateSecret", place, token=self.dev.admin, timeout_ms=5000)
            self.wait_until_blocked()
            self.end_blocked_sessions()
            return connection.receive(number)

    def raising(self, sqlstate, call):
        """What `call` gives while every insert of a change raises an error of this SQLSTATE."""
        self.sql(f"create or replace function raise_it() returns trigger language plpgsql as $$ begin raise exception "
                 f"sqlstate '{sqlstate}' using message = 'told by the database'; end $$;"
                 " create trigger raise_it before insert on change execute function raise_it()")
        try:
            return call()
        finally:
            self.sql("drop trigger raise_it on change")

    def conflict(self):
        return self.raising("40001", lambda: self.call(ENVIRONMENT + "CreateEnvironment", {"name": "conflict"}))

    def internal(self):
        answer = self.raising("XX000", lambda: self.call(ENVIRONMENT + "CreateEnvironment", {"name": "internal"}))
        self.assertNotIn("told by the database", answer.text)
        self.assertNotIn("XX000", repr(answer.payload) + answer.text + repr(answer.facts))
        return answer

    def not_available(self):
        return self.call(SECRET + "CreateSecret", {"name": "k", "type": 77, "values": values(K=PLANTED)})

    def service_unknown(self):
        return self.connection.call("grpc.health.v1.Health/Check", {"service": "nothing"})

    # The caller.

    def account(self, name, rules, token=None, **fields):
        answer = self.call(ACCOUNT + "CreateServiceAccount", {"name": name, "grants": rules, **fields}, token=token)
        self.assertEqual(answer.code, 0, answer)

    def issue(self, name, token=None, **fields):
        return self.call(TOKEN + "IssueToken", {"service_account": name, **fields}, token=token)

    def token_missing(self):
        return self.connection.call(CALLER)

    def token_malformed(self):
        return self.call(CALLER, token=self.dev.admin[:-1])

    def token_unsupported(self):
        return self.call(CALLER, token=narrowed_tokens.add(self.dev.admin, [narrowed_tokens.caveat(9, b"new")]))

    def token_invalid(self):
        self.account("revoked", [{"permissions": ["resolve"]}])
        token = self.issue("revoked").message["secret_text"]
        self.call(TOKEN + "RevokeToken", token=token)
        return self.call(CALLER, token=token)

    def token_expired(self):
        self.account("expires", [{"permissions": ["resolve"]}])
        token = self.issue("expires", expire_time={"seconds": int(time.time()) + 1}).message["secret_text"]
        answers = []
        wait_for(lambda: answers.append(self.call(CALLER, token=token)) or answers[-1].code != 0, "the token expires")
        return answers[-1]

    def account_disabled(self):
        self.account("ends", [{"permissions": ["resolve"]}], expire_time={"seconds": int(time.time()) + 2})
        token = self.issue("ends").message["secret_text"]
        answers = []
        wait_for(lambda: answers.append(self.call(CALLER, token=token)) or answers[-1].code != 0, "the account ends")
        return answers[-1]

    def permission_denied(self):
        return self.call(SECRET + "GetSecret", {"name": "there", "environment": "prod"}, token=self.dev.executor)

    def account_needed(self):
        return self.call(ACCOUNT + "DeleteServiceAccount", {"name": "admin"})

    def network_denied(self):
        self.account("elsewhere", [{"permissions": ["resolve"]}], networks=["192.0.2.0/24"])
        return self.call(CALLER, token=self.issue("elsewhere").message["secret_text"])

    def token_ended(self):
        self.account("rotated", [{"permissions": ["resolve"]}])
        uid = self.issue("rotated").message["token"]["uid"]
        for _ in range(2):
            answer = self.call(TOKEN + "RotateToken", {"token_uid": uid, "overlap": {"seconds": 60}})
        return answer

    def workspace_required(self):
        return self.call(ACCOUNT + "ListServiceAccounts", token=self.dev.system)

    def token_exceeds_issuer(self):
        self.account("limited", [{"permissions": ["account:write"]}])
        token = self.issue("limited").message["secret_text"]
        return self.call(ACCOUNT + "CreateServiceAccount", {"name": "more", "grants": [{"permissions": ["resolve"]}]},
                         token=token)

    def workspace_of(self, name, method, **fields):
        """A workspace that was made and then disabled or deleted."""
        workspace = self.call(WORKSPACE + "CreateWorkspace", {"name": name}, token=self.dev.system).message["workspace"]["uid"]
        answer = self.call(WORKSPACE + method, {"workspace": workspace, **fields}, token=self.dev.system)
        self.assertEqual(answer.code, 0, answer)
        return workspace

    def workspace_disabled(self):
        workspace = self.workspace_of("disabled", "UpdateWorkspace", update_mask={"paths": ["disabled"]}, disabled=True)
        fleet = self.fleet_token()
        return self.call(SECRET + "ListSecrets", {"workspace": workspace}, token=fleet)

    def fleet_token(self):
        place = {"workspace": "00000000-0000-0000-0000-000000000000"}
        self.call(ACCOUNT + "CreateServiceAccount", {**place, "name": "reader", "grants": [{"permissions": ["secret:read"]}]},
                  token=self.dev.system)
        issued = self.call(TOKEN + "IssueToken", {**place, "service_account": "reader"}, token=self.dev.system)
        return issued.message["secret_text"]

    def workspace_deleted(self):
        return self.call(ACCOUNT + "ListServiceAccounts", {"workspace": self.workspace_of("deleted", "DeleteWorkspace")},
                         token=self.dev.system)

    def workspace_not_found(self):
        return self.call(WORKSPACE + "GetWorkspace", {"workspace": NOBODY}, token=self.dev.system)

    # Fields and things.

    def field_invalid(self):
        return self.call(SECRET + "CreateSecret", {"name": "a b", "values": values(K=PLANTED)})

    def field_required(self):
        return self.call(SECRET + "CreateSecret", {"name": "none"})

    def limit_exceeded(self):
        return self.call(SECRET + "CreateSecret", {"name": "big", "values": values(K=PLANTED * 4000)})

    def page_token_invalid(self):
        return self.call(SECRET + "ListSecrets", {"page_token": "no token"})

    def name_reserved(self):
        return self.call(SECRET + "CreateSecret", {"name": "x_oauth", "values": values(K=PLANTED)})

    def secret_not_found(self):
        return self.call(SECRET + "GetSecret", {"name": "missing"})

    def secret_exists(self):
        return self.call(SECRET + "CreateSecret", {"name": "there", "environment": "prod", "values": values(K=PLANTED)})

    def key_not_found(self):
        return self.update(patch={"remove": ["MISSING"]})

    def version_mismatch(self):
        return self.update(replace={"values": values(K=PLANTED)}, expected_version=99)

    def etag_mismatch(self):
        return self.call(SECRET + "DeleteSecret", {"name": "there", "environment": "prod", "etag": "9-9"})

    def uid_mismatch(self):
        return self.update(replace={"values": values(K=PLANTED)}, expected_uid=NOBODY)

    def connection_not_found(self):
        return self.call(context.CONNECTION + "DeleteConnection", {
            "provider": "github", "connection_class": "CONNECTION_CLASS_USER", "environment": "prod"})

    def provider_not_found(self):
        return self.call(context.CONNECTION + "GetConnection", {
            "provider": "nobody", "connection_class": "CONNECTION_CLASS_USER", "environment": "prod"})

    def action_not_found(self):
        return self.call(INTEGRATION + "GetAction", {"name": "tools.none"})

    def provider_in_use(self):
        made = self.call("coffer.v1.ProviderService/CreateProvider", {"name": "Used", "definition": context.DEFINITION})
        provider = made.message["provider"]
        self.dev.sql(context.connection_row(provider["workspace"], provider["id"]))
        return self.call("coffer.v1.ProviderService/DeleteProvider", {"id": provider["id"]})

    def address_refused(self):
        return self.call("coffer.v1.ProviderService/DiscoverProvider", {"url": "https://127.0.0.1/mcp"})

    def authorization_not_found(self):
        return self.call(context.CONNECTION + "GetAuthorization", {"authorization": context.SYSTEM})

    def completed(self, times):
        """The last of some answers to what a provider refused."""
        place = {"provider": "github", "environment": "prod"}
        self.call(context.CONNECTION + "ConfigureConnection", {
            **context.CONFIGURED, **place, "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE"})
        started = self.call(context.CONNECTION + "StartAuthorization", {**place, "redirect_uri": "https://p.example/"}).message
        state = re.search(r"[?&]state=([^&]+)", started["url"])[1]
        for _ in range(times):
            answer = self.call(context.CONNECTION + "CompleteAuthorization", {
                "authorization": started["authorization"]["uid"], "query": f"state={state}&error=access_denied".encode()})
        return answer

    def authorization_refused(self):
        return self.completed(1)

    def authorization_over(self):
        return self.completed(2)

    def generation_mismatch(self):
        return self.call(INTEGRATION + "RegisterActions", {"actions": [{"name": "tools.a"}], "expected_generation": 99})

    def version_not_found(self):
        return self.call(SECRET + "RollBackSecret", {"name": "there", "environment": "prod", "version": 1 << 40})

    def version_destroyed(self):
        place = {"name": "lost", "environment": "prod"}
        self.call(SECRET + "CreateSecret", {**place, "values": values(K=PLANTED)})
        self.call(SECRET + "UpdateSecretValues", {**place, "replace": {"values": values(K=PLANTED)}})
        self.call(SECRET + "DestroySecretVersion", {**place, "version": 1})
        return self.call(SECRET + "RevealSecret", {**place, "version": 1})

    def environment_not_found(self):
        return self.call(ENVIRONMENT + "DeleteEnvironment", {"name": "missing"})

    def environment_exists(self):
        return self.call(ENVIRONMENT + "CreateEnvironment", {"name": "prod"})

    def environment_not_empty(self):
        return self.call(ENVIRONMENT + "DeleteEnvironment", {"name": "prod"})

    def workspace_exists(self):
        return self.call(WORKSPACE + "CreateWorkspace", {"name": "dev"}, token=self.dev.system)

    def account_not_found(self):
        return self.call(ACCOUNT + "GetServiceAccount", {"name": "missing"})

    def account_exists(self):
        return self.call(ACCOUNT + "CreateServiceAccount", {"name": "admin", "grants": [{"permissions": ["resolve"]}]})

    def token_not_found(self):
        return self.call(TOKEN + "RevokeToken", {"token_uid": NOBODY})

    def corrupted(self):
        secret = self.call(SECRET + "CreateSecret", {"name": "damaged", "values": values(K=PLANTED)}).message["secret"]
        self.sql(f"update secret set description = 'x' where secret_id = '{secret['uid']}'")
        return self.call(SECRET + "UpdateSecretValues", {"name": "damaged", "patch": {"set": values(K=PLANTED)}})

    def watch_expired(self):
        token = self.call(SECRET + "WatchSecrets").message["resume_token"]
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        ahead = raw[:-8] + (int.from_bytes(raw[-8:], "big") + 1000).to_bytes(8, "big")
        return self.call(SECRET + "WatchSecrets", {"resume_token": base64.urlsafe_b64encode(ahead).decode().rstrip("=")})

    # Outcomes.

    def outcome_of(self, *names, **fields):
        return self.resolve("prod", *names, **fields)["status"]["outcome"].removeprefix("OUTCOME_")

    def outcomes(self):
        """{reason: the outcome that was provoked for it}"""
        token = base64.urlsafe_b64decode(self.call(ENVIRONMENT + "CreateEnvironment", {"name": "token"})
                                         .message["consistency_token"] + "==")
        ahead = token[:-8] + (int.from_bytes(token[-8:], "big") + 1000).to_bytes(8, "big")
        foreign = token[:1] + bytes([token[1] ^ 1]) + token[2:]
        text = [base64.urlsafe_b64encode(raw).decode().rstrip("=") for raw in (ahead, foreign)]
        self.call(SECRET + "CreateSecret", {"name": "over", "environment": "prod", "values": values(K=PLANTED),
                                            "expire_time": {"seconds": 1600000000}, "block_when_expired": True})
        server = self.dev.more("tiny", COFFERD_LIMITS__RESPONSE="65536")
        self.call(SECRET + "CreateSecret", {"name": "large", "environment": "prod",
                                            "values": values(A=b"x" * 65536)})
        with self.dev.connect(server.address) as connection:
            large = connection.call(context.RESOLVE, {"items": [{
                "environments": ["prod"], "references": references("large.A")}]}, token=self.dev.admin)
        return {
            "CONSISTENCY_NOT_REACHED": self.outcome_of("there.KEY", consistency_token=text[0], timeout_ms=200),
            "CONSISTENCY_TOKEN_UNKNOWN": self.outcome_of("there.KEY", consistency_token=text[1]),
            "EXPRESSION_INVALID": self.outcome_of("not a name.KEY"),
            "SECRET_EXPIRED": self.outcome_of("over.K"),
            "ANSWER_TOO_LARGE": large.message["results"][0]["status"]["outcome"].removeprefix("OUTCOME_"),
        }

    def test_every_reason_of_the_table_is_given_or_excused(self):
        provoked = {name for name in table() if hasattr(self, name.lower())}
        known = (provoked, set(NOT_GIVEN), set(AS_OUTCOMES))
        self.assertEqual(set().union(*known), set(table()))
        self.assertEqual(sum(map(len, known)), len(table()), "each in one place only")
        self.assertEqual(self.outcomes(), AS_OUTCOMES)

    def test_every_error_has_its_code_a_useful_message_and_the_field(self):
        for reason, code in table().items():
            provoke = getattr(self, reason.lower(), None)
            if provoke is None:
                continue
            with self.subTest(reason):
                answer = provoke()
                self.assertEqual((answer.reason, answer.code), (reason, code), answer)
                self.assertGreater(len(answer.text), 25, "a message says what failed and what to do next")
                self.assertNotRegex(answer.text, r"%[a-z]|\(null\)|select |/tmp/|\.c:")
                self.assertNotIn(PLANTED.decode(), answer.text + repr(answer.facts))
                self.assertEqual(answer.payload, b"")
                if reason in NAME_A_FIELD:
                    self.assertEqual(len(answer.fields), 1, answer)
                    self.assertRegex(answer.fields[0], r"^[a-z_]+(\[\d+\])?(\.[a-z_]+(\[\d+\])?)*$")

    def test_internal_failure_tells_the_peer_nothing_and_the_log_everything(self):
        request_id = uuid7()
        answer = self.raising("XX000", lambda: self.call(ENVIRONMENT + "CreateEnvironment", {"name": "logged"},
                                                         request_id=request_id))
        self.assertEqual((answer.code, answer.reason, answer.facts, answer.fields), (13, "INTERNAL", {}, []))
        hexed = request_id.hex()
        text = f"{hexed[:8]}-{hexed[8:12]}-{hexed[12:16]}-{hexed[16:20]}-{hexed[20:]}"
        lines = [line for line in self.dev.server.log.read_text().splitlines() if text in line]
        self.assertEqual(len(lines), 1)
        self.assertIn("XX000", lines[0])
        self.assertEqual(self.call(CALLER).code, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
