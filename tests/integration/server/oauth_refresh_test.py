#!/usr/bin/env python3
"""Tokens of OAuth connections: resolved, refreshed, once over all servers, and never lost."""

import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import ssl
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import certificates  # noqa: E402
from cofferd import BUILD, PATIENCE, Relay, references, wait_for  # noqa: E402
from rude_http import Rude, whole  # noqa: E402
from sp_client import uuid7  # noqa: E402

CONNECTION, RESOLVE = context.CONNECTION, context.RESOLVE
CLIENT_SECRET = b"the client secret 5c1d"
CALLERS = 50
KILLS = int(os.environ.get("TEST_KILLS", 200 if os.environ.get("TEST_FULL") == "1" else 1))  # at each of the marked points
FAULTS = "COFFER_FAULTS:BOOL=ON" in (BUILD / "CMakeCache.txt").read_text()


class TokenEndpoint:
    """A provider that rotates refresh tokens: the one of use N is `ID-N`, and one that is used again is dead; but for IDs
    that begin with `grace`, where the one before still works, and with `keeps`, whose refresh tokens are never used up."""

    def __init__(self, context):
        self.server = Rude({"token": self._answer, "revoke": self._revoke}, context=context)
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        self.uses, self.calls, self.forms = {}, 0, []
        self.says = None  # what is answered instead
        self.revoked, self.revoke_says = [], self.whole({})
        self.life = 3600
        self.open = threading.Event()  # answers wait for it
        self.open.set()

    def calls_of(self, name):
        with self.lock:
            return sum(form.get("refresh_token", "").startswith(f"{name}-") for form in self.forms)

    def _answer(self, connection, request):
        form = dict(urllib.parse.parse_qsl(request.split(b"\r\n\r\n", 1)[1].decode()))
        with self.lock:
            self.calls += 1
            self.forms.append(form)
        self.open.wait(60)
        if b"Host: bad." in request:
            connection.sendall(self.whole({}, 503))
        else:
            connection.sendall(self.says or self._tokens(form))

    def _revoke(self, connection, request):
        self.revoked.append(dict(urllib.parse.parse_qsl(request.split(b"\r\n\r\n", 1)[1].decode())))
        self.open.wait(60)
        connection.sendall(self.revoke_says)

    def _tokens(self, form):
        if form["grant_type"] == "client_credentials":
            return self.whole({"access_token": f"own-{form['client_id']}-{self.calls}", "expires_in": self.life})
        name, use = form["refresh_token"].rsplit("-", 1)
        if name.startswith("keeps"):
            return self.whole({"access_token": f"access-{name}-1", "expires_in": self.life})
        with self.lock:
            last = self.uses.get(name, 0)
            if int(use) < last - name.startswith("grace"):
                return self.whole({"error": "invalid_grant", "error_description": "used before"}, 400)
            self.uses[name] = int(use) + 1
        return self.whole({"access_token": f"access-{name}-{int(use) + 1}", "refresh_token": f"{name}-{int(use) + 1}",
                           "expires_in": self.life, "scope": "read write"})

    @staticmethod
    def whole(body, status=200, *fields):
        return whole(json.dumps(body).encode(), status, *fields)


def outcome(result):
    return result["status"]["outcome"].removeprefix("OUTCOME_")


class Refresh(context.AccessTest):
    count = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-provider-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        authority = certificates.Authority(folder / "ca")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("provider", "DNS:localhost,DNS:good.localhost,DNS:bad.localhost"))
        cls.provider = TokenEndpoint(tls)
        (folder / "providers.yaml").write_text(
            "providers:\n" + "".join(
                f"  - id: {name}\n    name: Acme\n    documentation: https://acme.example/docs\n"
                f"    authorization_endpoint: https://localhost/authorize\n"
                f"    token_endpoint: {cls.provider.server.url('token', host='localhost')}\n"
                + (f"    revocation_endpoint: {cls.provider.server.url('revoke', host='localhost')}\n" if name == "acme" else "") +
                "    user: {scopes: [read]}\n    service: {scopes: [all]}\n"
                "    client_authentication: [client_secret_post]\n    tokens: {refresh: rotates}\n"
                for name in ("acme", "other")) +
            "  - id: hosted\n    name: Hosted\n    documentation: https://hosted.example/docs\n    service: {}\n"
            f"    token_endpoint: 'https://{{host}}:{cls.provider.server.port}/token'\n"
            "    parameters: [{name: host, form: host, help: yours}]\n    client_authentication: [client_secret_post]\n")
        cls.settings = {
            "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml"),
            "COFFERD_OUTBOUND__ALLOW_PRIVATE": ",".join(f"{host}:{cls.provider.server.port}" for host in (
                "localhost", "good.localhost", "bad.localhost")),
            "COFFERD_OUTBOUND__CA_FILE": str(authority.certificate),
        }
        cls.SETTINGS = cls.settings
        super().setUpClass()
        cls.others = [cls.dev.more(name, **cls.settings).address for name in ("second", "third")]
        cls.counted = cls.dev.more("counted", **cls.settings, COFFERD_TRANSPORT__LISTEN=(
            f"ipc://{cls.dev.directory}/counted.sock,ws://127.0.0.1:0/coffer"))

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.provider.server.close()
        cls.folder.cleanup()

    def setUp(self):
        self.provider.reset()
        Refresh.count += 1
        self.environment = f"env{self.count}"
        self.name = f"grant{self.count}"

    def done(self, method, token=None, **fields):
        answer = self.call(CONNECTION + method, fields, token=token)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def user(self, place=None, name=None, token=None, **tokens):
        """A USER connection that has a refresh token and no access token yet."""
        place = {"environment": self.environment} if place is None else place
        self.done("ConfigureConnection", token=token, provider="acme", grant="CONNECTION_GRANT_REFRESH_TOKEN",
                  client_id="client", credential={"client_secret": CLIENT_SECRET}, **place)
        return self.done("SetConnectionTokens", token=token, provider="acme", **place, **{
            "refresh_token": f"{name or self.name}-0".encode(), **tokens})["connection"]

    def get(self, place=None, kind="USER"):
        return self.done("GetConnection", provider="acme", connection_class="CONNECTION_CLASS_" + kind,
                         **({"environment": self.environment} if place is None else place))["connection"]

    def token(self, **fields):
        return self.resolve(self.environment, "acme_oauth.ACME_USER_TOKEN", **fields)

    def resolved(self, **fields):
        result = self.token(**fields)
        self.assertEqual(outcome(result), "RESOLVED", result)
        return self.value(result, "acme_oauth", "ACME_USER_TOKEN").decode()

    # --- What is resolved

    def test_first_use_gets_a_token_and_the_next_one_the_same_without_the_provider(self):
        self.user()
        result = self.token()
        self.assertEqual(self.value(result, "acme_oauth", "ACME_USER_TOKEN"), f"access-{self.name}-1".encode())
        secret, = result["secrets"]
        self.assertEqual((secret["uid"], result["expire_time"]), (self.get()["uid"], secret["expire_time"]))
        left = secret["expire_time"]["seconds"] - self.now_ms() / 1000
        self.assertTrue(3000 < left <= 3601, left)
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        self.assertEqual(self.provider.calls, 1)
        form, = self.provider.forms
        self.assertEqual(form, {"grant_type": "refresh_token", "refresh_token": f"{self.name}-0", "client_id": "client",
                                "client_secret": CLIENT_SECRET.decode()})
        shown = self.get()
        self.assertEqual((shown["granted_scopes"], bool(shown["refresh_time"])), (["read", "write"], True))

    def test_refreshes_are_counted_by_how_they_ended(self):
        series = 'coffer_oauth_refresh_total{outcome="%s"}'
        self.user()
        before = self.counted.metrics()
        self.assertEqual(outcome(self.ask_elsewhere(self.counted.address, self.environment)), "RESOLVED")
        wait_for(lambda: self.counted.metrics()[series % "FRESH"] > before[series % "FRESH"], "the refresh is not counted")
        self.assertEqual(self.counted.metrics()[series % "REFUSED"], before[series % "REFUSED"])

    def test_token_that_would_expire_too_soon_is_refreshed_with_the_rotated_grant(self):
        self.provider.life = 20
        self.user()
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        # Too little is left once 4 s are over; until then half of its life is the most that can be asked for.
        self.assertEqual(self.resolved(min_remaining_validity={"seconds": 86400}), f"access-{self.name}-1")
        self.assertEqual(self.provider.calls, 1)
        self.done("SetConnectionTokens", environment=self.environment, provider="acme", access_token=b"soon-over",
                  refresh_token=f"{self.name}-1".encode(), expire_time={"seconds": self.now_ms() // 1000 + 2})
        self.assertIn(wait_for(lambda: self.resolved() != "soon-over" and self.resolved(), "the token is refreshed"),
                      f"access-{self.name}-2")
        self.assertEqual(self.provider.forms[-1]["refresh_token"], f"{self.name}-1")
        self.assertEqual(self.get()["has_refresh_token"], True)

    def test_service_token_is_asked_for_with_the_client_s_own_credentials(self):
        self.done("ConfigureConnection", provider="acme", grant="CONNECTION_GRANT_CLIENT_CREDENTIALS", client_id="robot",
                  credential={"client_secret": CLIENT_SECRET}, environment=self.environment)
        result = self.resolve(self.environment, "acme_oauth.ACME_SERVICE_TOKEN")
        self.assertEqual(self.value(result, "acme_oauth", "ACME_SERVICE_TOKEN"), b"own-robot-1")
        self.assertEqual(self.provider.forms, [{"grant_type": "client_credentials", "scope": "all", "client_id": "robot",
                                                "client_secret": CLIENT_SECRET.decode()}])
        self.assertEqual(outcome(self.token()), "CONNECTION_NOT_FOUND")

    def test_any_other_key_is_an_error_that_says_which_there_are(self):
        self.user()
        for key in ("TOKEN", "ACCESS_TOKEN", "acme_USER_TOKEN", "OTHER_USER_TOKEN", "ACME_USER_TOKEN_"):
            result = self.resolve(self.environment, f"acme_oauth.{key}")
            self.assertEqual(outcome(result), "EXPRESSION_INVALID", key)
            self.assertIn("ACME_USER_TOKEN for a user or ACME_SERVICE_TOKEN", result["status"]["message"])
        self.assertEqual(self.provider.calls, 0)

    def test_connection_of_the_environment_wins_in_every_status(self):
        everywhere = {"all_environments": True}
        self.user(place=everywhere, name="everywhere")
        self.addCleanup(self.done, "DeleteConnection", provider="acme", connection_class="CONNECTION_CLASS_USER", **everywhere)
        self.assertEqual(self.resolved(), "access-everywhere-1")
        self.done("ConfigureConnection", provider="acme", grant="CONNECTION_GRANT_REFRESH_TOKEN", client_id="client",
                  credential={"client_secret": CLIENT_SECRET}, environment=self.environment)
        result = self.token()
        self.assertEqual(outcome(result), "REAUTH_REQUIRED")
        self.assertIn("has no tokens yet", result["status"]["message"])
        self.user()
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        self.sql(f"update connection_token set mac = '\\x00' where connection_id = '{self.get()['uid']}'")
        self.assertEqual(outcome(self.token()), "CORRUPTED")

    def test_rights_are_those_of_the_name_in_the_environment(self):
        self.user()
        rules = {"permissions": ["resolve"], "environments": [self.environment]}
        for names, expected in (["acme_oauth"], "RESOLVED"), (["acme_*"], "RESOLVED"), (["acme"], "PERMISSION_DENIED"):
            token = self.token_for([{**rules, "names": names}])
            self.assertEqual(outcome(self.token(token=token)), expected, names)
        elsewhere = self.token_for([{"permissions": ["resolve"], "environments": ["elsewhere"]}])
        self.assertEqual(outcome(self.token(token=elsewhere)), "PERMISSION_DENIED")

    def test_no_tenant_gets_the_token_of_another(self):
        workspace, admin = self.new_workspace("tenant-of-tokens")
        self.user()
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        self.assertEqual(outcome(self.token(token=admin)), "CONNECTION_NOT_FOUND")
        self.user(token=admin, name="theirs")
        self.assertEqual(self.resolved(token=admin), "access-theirs-1")
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        self.sql("update connection_token a set access_token = b.access_token from connection_token b "
                 f"where a.workspace_id = '{workspace}' and b.connection_id = '{self.get()['uid']}'")
        self.assertEqual(outcome(self.token(token=admin)), "CORRUPTED")

    def test_check_asks_no_provider_and_shows_no_token(self):
        self.user()
        item = {"environments": [self.environment, "without"], "references": references("acme_oauth.ACME_USER_TOKEN")}
        answer = self.call(RESOLVE, {"items": [item], "validate_only": True})
        self.assertEqual(answer.message["counts"], {"resolved": 1, "failed": 1})
        self.assertEqual([outcome(r) for r in answer.message["results"]], ["CONNECTION_NOT_FOUND"])
        self.assertEqual(self.provider.calls, 0)

    def counting(self):
        """The address of a server, and a function that says how many looks at connections it has sent since the last time."""
        listen = f"ipc://{self.dev.directory}/counting.sock,ws://127.0.0.1:0"
        server = self.dev.more("counting", **{**self.settings, "COFFERD_TRANSPORT__LISTEN": listen})
        port = server.port()
        told = [0]

        def looks():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
                found = re.search(r'(?m)^coffer_db_query_duration_seconds_count\{query="REFRESH_FIND"\} (\d+)',
                                  answer.read().decode())
            before, told[0] = told[0], int(found[1]) if found else 0
            return told[0] - before
        return server.address, looks

    def test_connections_of_many_references_and_environments_are_read_by_one_statement(self):
        """In a check by one more for each item of which results are shown."""
        places = [f"{self.environment}-{i}" for i in range(5)]
        life = {"expire_time": {"seconds": self.now_ms() // 1000 + 7200}}
        everywhere = {"all_environments": True}
        self.user(place=everywhere, name="everywhere", access_token=b"for-all", **life)
        self.addCleanup(self.done, "DeleteConnection", provider="acme", connection_class="CONNECTION_CLASS_USER", **everywhere)
        for place in places[:3]:
            self.user(place={"environment": place}, access_token=place.encode(), **life)
        own = self.call("coffer.v1.ProviderService/CreateProvider", {"name": f"Many {self.count}", "definition": context.DEFINITION})
        own = own.message["provider"]["id"]
        self.done("ConfigureConnection", provider=own, grant="CONNECTION_GRANT_REFRESH_TOKEN", client_id="client",
                  credential={"client_secret": CLIENT_SECRET}, environment=places[1])
        self.done("SetConnectionTokens", provider=own, environment=places[1], access_token=b"own", **life)
        names = ("acme_oauth.ACME_USER_TOKEN", "other_oauth.OTHER_SERVICE_TOKEN", f"{own}_oauth.{own.upper()}_USER_TOKEN",
                 "acme_oauth.ACME_SERVICE_TOKEN", "acme_oauth.ACME_USER_TOKEN")
        item = {"environments": places, "references": references(*names)}
        good = {"environments": places, "references": references(names[0])}
        narrow = self.token_for([{"permissions": ["resolve"], "environments": places[:4], "names": ["acme_*", f"{own}_*"]}])
        address, looks = self.counting()
        with self.dev.connect(address) as connection:
            # Before the server has looked at the database's clock it waits, and looks again.
            wait_for(lambda: connection.call(RESOLVE, {"items": [good]}, token=narrow).code == 0 and looks() == 1, "the clock")
            for token, foreign in (self.dev.admin, "CONNECTION_NOT_FOUND"), (narrow, "PERMISSION_DENIED"):
                answer = connection.call(RESOLVE, {"items": [item]}, token=token)
                self.assertEqual((answer.code, looks()), (0, 1), answer)
                for place, result in zip(places, answer.message["results"]):
                    expected = ["RESOLVED", foreign, "RESOLVED" if place == places[1] else "CONNECTION_NOT_FOUND",
                                "CONNECTION_NOT_FOUND", "RESOLVED"]
                    if token == narrow and place == places[4]:
                        expected = ["PERMISSION_DENIED"] * 5
                    self.assertEqual([name.removeprefix("OUTCOME_") for name in result["outcomes"]], expected, place)
            answer = connection.call(RESOLVE, {"items": [good]}, token=narrow)
            self.assertEqual(looks(), 1)
            self.assertEqual([[s["values"][0]["value"] for s in result["secrets"]] for result in answer.message["results"]],
                             [[place.encode()] for place in places[:3]] + [[b"for-all"], []])
            for items, counts, sent in ([item] * 3, {"resolved": 0, "failed": 15}, 4), ([good] * 3, {"resolved": 15, "failed": 0}, 1):
                answer = connection.call(RESOLVE, {"items": items, "validate_only": True}, token=self.dev.admin)
                self.assertEqual((answer.message["counts"], looks()), (counts, sent))

    def test_damaged_provider_fails_what_needs_it_and_nothing_else(self):
        self.user(access_token=b"fine", expire_time={"seconds": self.now_ms() // 1000 + 7200})
        own = self.call("coffer.v1.ProviderService/CreateProvider", {"name": "Damaged", "definition": context.DEFINITION})
        own = own.message["provider"]["id"]
        self.done("ConfigureConnection", provider=own, grant="CONNECTION_GRANT_REFRESH_TOKEN", client_id="client",
                  credential={"client_secret": CLIENT_SECRET}, environment=self.environment)
        self.done("SetConnectionTokens", provider=own, environment=self.environment, access_token=b"token")
        self.sql(f"update provider set mac = '\\x00' where provider = '{own}'")
        result = self.resolve(self.environment, f"{own}_oauth.{own.upper()}_USER_TOKEN", "acme_oauth.ACME_USER_TOKEN")
        self.assertEqual(result["outcomes"], ["OUTCOME_CORRUPTED", "OUTCOME_RESOLVED"])

    def test_declared_and_alternative_tokens_are_resolved_like_others(self):
        self.user()
        grant = {"provider": "acme", "grant": "OAUTH_GRANT_AUTHORIZATION_CODE"}
        result = self.resolve(self.environment, oauth_declarations=[grant, {"provider": "other", "optional": True,
                                                                            "grant": "OAUTH_GRANT_CLIENT_CREDENTIALS"}],
                              expressions=["${{ SECRETS.acme_oauth.ACME_USER_TOKEN }}"])
        self.assertEqual(result["status"]["code"], 0, result)
        self.assertEqual(result["outcomes"], ["OUTCOME_RESOLVED", "OUTCOME_ABSENT", "OUTCOME_RESOLVED"])
        self.assertEqual(self.value(result, "acme_oauth", "ACME_USER_TOKEN"), f"access-{self.name}-1".encode())
        self.assertEqual(self.provider.calls, 1)

    # --- What fails

    def test_dead_grant_wants_a_person_and_is_not_tried_again(self):
        self.user()
        self.provider.says = TokenEndpoint.whole({"error": "invalid_grant", "error_description": "revoked by Ann"}, 400)
        for _ in range(2):
            result = self.token()
            self.assertEqual(outcome(result), "REAUTH_REQUIRED")
            self.assertIn("invalid_grant: revoked by Ann", result["status"]["message"])
        self.assertEqual(self.provider.calls, 1)
        shown = self.get()
        self.assertEqual((shown["status"], shown["has_refresh_token"]), ("CONNECTION_STATUS_REAUTH_REQUIRED", True))

    def test_failing_provider_is_not_asked_by_every_call_and_tried_again_later(self):
        self.user()
        self.provider.says = TokenEndpoint.whole({}, 500, "Retry-After: 3")
        result = self.token()
        self.assertEqual(outcome(result), "PROVIDER_UNAVAILABLE")
        delay = result["status"]["retry_delay"]
        self.assertTrue(0 < delay["seconds"] + delay["nanos"] / 1e9 <= 6, delay)
        calls = self.provider.calls
        self.assertEqual(outcome(self.token()), "PROVIDER_UNAVAILABLE")
        self.assertLessEqual(self.provider.calls, calls + 1)
        self.provider.says = None
        wait_for(lambda: outcome(self.token()) == "RESOLVED", "the provider is tried again")

    def test_wrong_client_is_the_configuration_s_fault_and_keeps_the_grant(self):
        self.user()
        self.provider.says = TokenEndpoint.whole({"error": "invalid_client"}, 401)
        result = self.token()
        self.assertEqual(outcome(result), "PROVIDER_UNAVAILABLE")
        self.assertIn("refuses what the connection is configured with (invalid_client)", result["status"]["message"])
        self.assertEqual((self.get()["status"], self.get()["has_refresh_token"]), ("CONNECTION_STATUS_ERROR", True))

    def test_host_that_a_workspace_has_chosen_fails_for_that_workspace_only(self):
        _, admin = self.new_workspace("whose-host-fails")

        def ask(host, environment, token):
            self.done("ConfigureConnection", token=token, provider="hosted", grant="CONNECTION_GRANT_CLIENT_CREDENTIALS",
                      client_id="robot", credential={"client_secret": CLIENT_SECRET}, environment=environment,
                      settings={"parameters": [{"name": "host", "value": f"{host}.localhost"}]})
            return outcome(self.resolve(environment, "hosted_oauth.HOSTED_SERVICE_TOKEN", token=token))

        found = [ask("bad", f"{self.environment}-{i}", admin) for i in range(8)]
        self.assertEqual(set(found), {"PROVIDER_UNAVAILABLE"})
        self.assertLess(self.provider.calls, 8, "its breaker is open")
        self.assertEqual(ask("good", self.environment, None), "RESOLVED")

    def test_pending_is_for_items_that_allow_it(self):
        self.user()
        self.provider.open.clear()
        result = self.token(allow_pending=True)
        self.assertEqual((outcome(result), bool(result["status"]["retry_delay"])), ("PENDING", True))
        result = self.token(timeout_ms=300)
        self.assertIn(outcome(result), ("PROVIDER_UNAVAILABLE", "DEADLINE_EXCEEDED"))
        self.provider.open.set()
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        self.assertEqual(self.provider.calls, 1)

    # --- Because somebody says so

    def service(self, **more):
        self.done("ConfigureConnection", provider="acme", grant="CONNECTION_GRANT_CLIENT_CREDENTIALS", client_id="robot",
                  credential={"client_secret": CLIENT_SECRET}, environment=self.environment, **more)

    def said(self, method, kind="USER", **more):
        """What came of a refresh or a test."""
        answer = self.done(method, environment=self.environment, provider="acme", connection_class="CONNECTION_CLASS_" + kind,
                           **more)
        return answer["result"].removeprefix("REFRESH_RESULT_"), answer["message"], answer["connection"]

    def test_refresh_now_gets_a_new_token_whatever_the_old_one_is_worth(self):
        self.user()
        self.assertEqual(self.resolved(), f"access-{self.name}-1")
        result, _, shown = self.said("RefreshConnection")
        self.assertEqual((result, shown["status"]), ("REFRESHED", "CONNECTION_STATUS_CONNECTED"))
        self.assertEqual(self.resolved(), f"access-{self.name}-2")
        self.assertEqual((self.said("RefreshConnection")[0], self.provider.calls), ("REFRESHED", 2))
        record = self.sql("select count(*) from change c join workspace_revision r using (workspace_id) "
                          f"where c.revision = r.revision and r.workspace_id = '{self.dev.workspace}'")
        self.assertEqual(record, "1")

    def test_refresh_that_is_repeated_has_one_effect_and_one_answer(self):
        self.user()
        request = {"environment": self.environment, "provider": "acme", "connection_class": "CONNECTION_CLASS_USER"}
        request_id = uuid7()
        answers = [self.call(CONNECTION + "RefreshConnection", request, request_id=request_id) for _ in range(2)]
        self.assertEqual([answer.code for answer in answers], [0, 0], answers)
        self.assertEqual(answers[0].message, answers[1].message)
        self.assertEqual(self.provider.calls, 1)

    def test_repeat_of_a_refresh_that_is_under_way_waits_for_it(self):
        self.user()
        self.provider.open.clear()
        request = {"environment": self.environment, "provider": "acme", "connection_class": "CONNECTION_CLASS_USER"}
        request_id = uuid7()
        with self.dev.connect(self.others[0]) as elsewhere:
            for connection in (self.connection, elsewhere):
                # One that is late says that its time is over, and is repeated.
                self.assertEqual(wait_for(lambda: (answer := connection.call(
                    CONNECTION + "RefreshConnection", request, token=self.dev.admin, request_id=request_id, timeout_ms=2000)).code != 4
                    and (answer.code, answer.reason), "it is told in time"), (14, "IN_PROGRESS"))
            self.provider.open.set()
            answer = elsewhere.call(CONNECTION + "RefreshConnection", request, token=self.dev.admin, request_id=request_id,
                                    timeout_ms=60000)
        self.assertEqual((answer.code, answer.message["result"]), (0, "REFRESH_RESULT_REFRESHED"), answer)
        self.assertEqual(self.provider.calls, 1)

    def test_refreshes_of_many_people_at_once_cost_one_request(self):
        self.user()
        self.provider.open.clear()
        answers = []

        def one(address):
            with self.dev.connect(address) as connection:
                answers.append(connection.call(CONNECTION + "RefreshConnection", {
                    "environment": self.environment, "provider": "acme", "connection_class": "CONNECTION_CLASS_USER"},
                    token=self.dev.admin, timeout_ms=60000))

        threads = [threading.Thread(target=one, args=(address,)) for address in (self.dev.ipc, *self.others) * 3]
        for thread in threads:
            thread.start()
        self.provider.server.await_requests(1)
        self.provider.open.set()
        for thread in threads:
            thread.join()
        self.assertEqual({(a.code, a.message["result"]) for a in answers}, {(0, "REFRESH_RESULT_REFRESHED")}, answers)
        self.assertEqual(self.provider.calls, 1)

    def test_test_tells_what_the_provider_says(self):
        self.user()
        self.assertEqual(self.said("TestConnection")[0], "REFRESHED")
        self.service()
        self.assertEqual(self.said("TestConnection", "SERVICE")[0], "REFRESHED")
        self.assertEqual(self.resolve(self.environment, "acme_oauth.ACME_SERVICE_TOKEN")["status"]["code"], 0)
        calls = self.provider.calls
        self.environment, self.name = self.environment + "-b", self.name + "-b"
        self.service()
        self.provider.says = TokenEndpoint.whole({"error": "invalid_client", "error_description": "no such robot"}, 401)
        result, message, shown = self.said("TestConnection", "SERVICE")
        self.assertEqual((result, shown["status"]), ("CONFIGURATION_REFUSED", "CONNECTION_STATUS_ERROR"))
        self.assertIn("invalid_client: no such robot", message)
        self.user()
        self.provider.says = TokenEndpoint.whole({"error": "invalid_grant"}, 400)
        self.assertEqual(self.said("TestConnection")[0], "REAUTH_REQUIRED")
        self.assertEqual(self.provider.calls, calls + 2)
        self.environment, self.name = self.environment + "-c", self.name + "-c"
        self.user()
        self.provider.says = TokenEndpoint.whole({}, 503)
        result, message, shown = self.said("TestConnection")
        self.assertEqual((result, shown["has_refresh_token"]), ("PROVIDER_UNAVAILABLE", True))

    def test_test_never_asks_for_what_could_end_a_token_that_is_good(self):
        self.user()
        token = self.resolved()
        for _ in range(2):
            self.assertEqual(self.said("TestConnection")[0], "CURRENT")
        self.assertEqual((self.resolved(), self.provider.calls), (token, 1))

    def test_refresh_and_test_without_anything_to_ask_with_say_so(self):
        self.done("ConfigureConnection", environment=self.environment, provider="acme", grant="CONNECTION_GRANT_REFRESH_TOKEN",
                  client_id="client", credential={"client_secret": CLIENT_SECRET})
        for method in ("RefreshConnection", "TestConnection"):
            self.assertEqual(self.said(method)[0], "NOT_CONNECTED")
            refused = self.call(CONNECTION + method, {"environment": "none", "provider": "acme",
                                                      "connection_class": "CONNECTION_CLASS_USER"})
            self.assertEqual(refused.reason, "CONNECTION_NOT_FOUND")
            refused = self.call(CONNECTION + method, {"environment": self.environment, "provider": "acme", "expected_uid":
                                                      self.dev.workspace, "connection_class": "CONNECTION_CLASS_USER"})
            self.assertEqual(refused.reason, "UID_MISMATCH")
        self.assertEqual(self.provider.calls, 0)

    def test_refresh_now_mends_a_connection_whose_grant_was_refused(self):
        self.user()
        self.provider.says = TokenEndpoint.whole({"error": "invalid_grant"}, 400)
        self.assertEqual(outcome(self.token()), "REAUTH_REQUIRED")
        self.provider.says = None
        self.assertEqual(self.said("RefreshConnection")[0], "REFRESHED")
        self.assertEqual(self.resolved(), f"access-{self.name}-1")

    # --- What is revoked

    def ended(self, method="DisconnectConnection", kind="USER", **more):
        answer = self.done(method, environment=self.environment, provider="acme",
                           connection_class="CONNECTION_CLASS_" + kind, **more)
        return answer["revocation"].removeprefix("REVOCATION_"), answer["revocation_message"]

    def test_tokens_are_revoked_when_a_connection_ends_the_refresh_token_first(self):
        self.user()
        token = self.resolved()
        self.assertEqual(self.ended()[0], "REVOKED")
        self.assertEqual([(form["token_type_hint"], form["token"]) for form in self.provider.revoked],
                         [("refresh_token", f"{self.name}-1"), ("access_token", token)])
        self.assertEqual({(form["client_id"], form["client_secret"]) for form in self.provider.revoked},
                         {("client", CLIENT_SECRET.decode())})
        self.assertEqual((self.get()["status"], self.get()["has_refresh_token"]), ("CONNECTION_STATUS_CONFIGURED", False))
        self.assertEqual(self.ended()[0], "NOTHING")
        self.user()
        self.assertEqual(self.ended("DeleteConnection")[0], "REVOKED")
        self.assertEqual(len(self.provider.revoked), 3)

    def test_tokens_are_dropped_whatever_becomes_of_their_revocation(self):
        for says, words in ((TokenEndpoint.whole({"error": "server_error"}, 500), "status 500, server_error"),
                            (TokenEndpoint.whole({"error": "invalid_client", "error_description": "who?"}, 401),
                             "invalid_client: who?"),
                            (TokenEndpoint.whole({"error": "unsupported"}), "status 200, unsupported"),
                            (b"", "no answer")):
            self.user()
            self.provider.revoke_says = says
            result, message = self.ended()
            self.assertEqual(result, "FAILED", says)
            self.assertIn(words, message)
            self.assertNotIn(self.name, message)
            self.assertEqual(self.get()["has_refresh_token"], False)

    def test_provider_that_hangs_keeps_no_tokens_alive_here(self):
        self.user()
        self.provider.open.clear()
        request = {"environment": self.environment, "provider": "acme", "connection_class": "CONNECTION_CLASS_USER"}
        request_id = uuid7()
        answer = wait_for(lambda: (a := self.call(CONNECTION + "DisconnectConnection", request, request_id=request_id,
                                                  timeout_ms=3000)).code != 4 and a, "it is told in time")
        self.provider.open.set()
        self.assertEqual((answer.code, answer.message["revocation"]), (0, "REVOCATION_FAILED"), answer)
        self.assertEqual(self.get()["has_refresh_token"], False)

    def test_token_that_the_provider_does_not_know_any_more_is_revoked(self):
        self.user()
        self.provider.revoke_says = TokenEndpoint.whole({"error": "invalid_token"}, 400)
        self.assertEqual(self.ended()[0], "REVOKED")

    def test_provider_without_an_endpoint_for_it_revokes_nothing(self):
        self.done("ConfigureConnection", environment=self.environment, provider="other", client_id="robot",
                  grant="CONNECTION_GRANT_CLIENT_CREDENTIALS", credential={"client_secret": CLIENT_SECRET})
        self.resolve(self.environment, "other_oauth.OTHER_SERVICE_TOKEN")
        answer = self.done("DisconnectConnection", environment=self.environment, provider="other",
                           connection_class="CONNECTION_CLASS_SERVICE")
        self.assertEqual((answer["revocation"], self.provider.revoked), ("REVOCATION_NOT_SUPPORTED", []))

    def test_tokens_of_a_refresh_that_is_under_way_are_revoked_too(self):
        self.user()
        self.resolved()
        self.provider.open.clear()
        request = {"environment": self.environment, "provider": "acme", "connection_class": "CONNECTION_CLASS_USER"}
        with self.dev.connect(self.others[0]) as elsewhere:
            refreshing = threading.Thread(target=elsewhere.call, args=(CONNECTION + "RefreshConnection", request),
                                          kwargs={"token": self.dev.admin, "timeout_ms": 60000})
            refreshing.start()
            wait_for(lambda: self.provider.calls == 2, "it is refreshed")
            threading.Timer(0.5, self.provider.open.set).start()
            self.assertEqual(self.ended()[0], "REVOKED")
            refreshing.join()
        self.assertEqual(self.provider.revoked[0]["token"], f"{self.name}-2")

    # --- Once, and never lost

    def test_fifty_callers_on_three_servers_cost_one_request(self):
        self.user()
        servers = [self.dev.ipc, *self.others]
        self.provider.open.clear()
        start, answers = threading.Barrier(CALLERS + 1), []

        def one(address):
            with self.dev.connect(address) as connection:
                start.wait()
                answers.append(connection.call(RESOLVE, {"items": [{
                    "environments": [self.environment], "references": references("acme_oauth.ACME_USER_TOKEN")}]},
                    token=self.dev.admin, timeout_ms=60000))

        threads = [threading.Thread(target=one, args=(servers[i % 3],)) for i in range(CALLERS)]
        for thread in threads:
            thread.start()
        start.wait()
        self.provider.server.await_requests(1)
        self.provider.open.set()
        for thread in threads:
            thread.join()
        results = [answer.message["results"][0] for answer in answers]
        self.assertEqual({outcome(result) for result in results}, {"RESOLVED"})
        self.assertEqual({self.value(result, "acme_oauth", "ACME_USER_TOKEN") for result in results},
                         {f"access-{self.name}-1".encode()})
        self.assertEqual(self.provider.calls, 1)

    def test_request_that_is_under_way_holds_no_transaction_and_no_lock_of_the_database(self):
        self.user()
        self.provider.open.clear()
        held = "select array_agg(distinct (locktype, classid, objid)) from pg_locks where pid <> pg_backend_pid()"
        before = self.sql(held)  # the server that does what one server does
        others = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        with self.dev.connect() as waiting:
            number = waiting.send(RESOLVE, {"items": [{"environments": [self.environment], "references": references(
                "acme_oauth.ACME_USER_TOKEN")}]}, token=self.dev.admin, timeout_ms=60000)
            self.provider.server.await_requests(1)
            # Other work of the servers comes and goes; what the request held would stay until it is answered.
            wait_for(lambda: self.sql(f"select count(*) {others} and xact_start is not null") == "0", "a transaction is open")
            wait_for(lambda: self.sql(held) == before, "a lock is held")
            self.assertEqual(self.provider.calls, 1)
            self.provider.open.set()
            self.assertEqual(outcome(waiting.receive(number, RESOLVE).message["results"][0]), "RESOLVED")

    def test_token_that_arrives_while_the_database_is_away_is_stored_when_it_is_back(self):
        before = self.user()["token_generation"]
        with Relay(self.dev.directory) as relay:
            server = self.dev.more("cut", **self.settings, COFFERD_DATABASE__CONNINFO=(
                f"host={relay.directory} user=coffer dbname=postgres"))
            self.provider.open.clear()
            with self.dev.connect(server.address) as connection:
                answer = connection.call(RESOLVE, {"items": [{
                    "environments": [self.environment], "allow_pending": True,
                    "references": references("acme_oauth.ACME_USER_TOKEN")}]}, token=self.dev.admin)
                self.assertEqual(outcome(answer.message["results"][0]), "PENDING")
            wait_for(lambda: self.provider.calls == 1, "the provider is asked")
            relay.cut()
            self.provider.open.set()
            journal = self.dev.directory / "cut.state" / "refresh"
            wait_for(lambda: sum(p.stat().st_size for p in journal.iterdir()) > 200, "the answer is in the journal")
            relay.restore()
            back = time.monotonic()
            wait_for(lambda: self.get()["token_generation"] > before, "the token is stored")
            print(f"stored {time.monotonic() - back:.2f} s after the database's return", flush=True)
            self.assertEqual(self.resolved(), f"access-{self.name}-1")
            self.assertEqual(server.stop(), 0)
            self.dev.extra.remove(server)
        self.assertEqual(self.provider.calls, 1)

    def ask_elsewhere(self, address, environment, **fields):
        with self.dev.connect(address) as connection:
            answer = connection.call(RESOLVE, {"items": [{
                "environments": [environment], "references": references("acme_oauth.ACME_USER_TOKEN"), **fields}]},
                token=self.dev.admin, timeout_ms=60000)
            return answer.message["results"][0]

    def generation(self, environment):
        return int(self.sql("select t.generation from connection_token t join connection c using (workspace_id, connection_id) "
                            f"where c.environment = '{environment}'"))

    def killed_again_and_again(self, point, before):
        """A server that dies at the point of a refresh of each of the connections, and starts again in between. For each
        {name: generation} whether the token was stored when it died, what comes of it in the end, and what it cost."""
        place, stored = f"{point}-{next(iter(before))}", {}
        for name in before:
            broken = self.dev.more(place, COFFER_FAULT=f"refresh.{point}:exit", **self.settings)
            with contextlib.suppress(OSError):  # it may be gone before it answers
                self.ask_elsewhere(broken.address, name, allow_pending=True)
            self.assertEqual(broken.process.wait(PATIENCE), 86, "it died where it should")
            self.dev.extra.remove(broken)
            broken.output.close()
            stored[name] = self.generation(name) > before[name]
        again = self.dev.more(place, **self.settings)
        found = [(stored[name], outcome(self.ask_elsewhere(again.address, name)), self.provider.calls_of(name)) for name in before]
        self.assertEqual(again.stop(), 0)
        self.dev.extra.remove(again)
        return found

    @unittest.skipUnless(FAULTS, "the server was built without fault points")
    def test_server_that_is_killed_anywhere_in_a_refresh_loses_only_an_answer_that_nobody_kept(self):
        # What is lost in `before_journal` was in the memory of a process that is no more: one more try, which a strict
        # provider refuses.
        expected = {
            ("strict", "before_send"): (False, "RESOLVED", 1),
            ("strict", "before_journal"): (False, "REAUTH_REQUIRED", 2), ("keeps", "before_journal"): (False, "RESOLVED", 2),
            ("grace", "before_journal"): (False, "RESOLVED", 2),
            ("strict", "after_journal"): (False, "RESOLVED", 1),
            ("strict", "after_store"): (True, "RESOLVED", 1),
        }
        if KILLS > 1:
            expected.update({("keeps", "before_send"): (False, "RESOLVED", 1), ("keeps", "after_journal"): (False, "RESOLVED", 1),
                             ("keeps", "after_store"): (True, "RESOLVED", 1)})
        turns, before = KILLS, {}
        for kind, point in expected:
            names = [f"{kind}-{point.replace('_', '-')}-{self.count}-{turn}" for turn in range(turns)]
            before[kind, point] = {name: self.user({"environment": name}, name)["token_generation"] for name in names}
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            found = dict(zip(before, pool.map(lambda case: self.killed_again_and_again(case[1], before[case]), before)))
        self.assertEqual({case: collections.Counter(each) for case, each in found.items()},
                         {case: {each: turns} for case, each in expected.items()})

    def test_server_that_is_frozen_in_a_refresh_writes_nothing_stale_afterwards(self):
        names = [f"strict-frozen-{self.count}", f"grace-frozen-{self.count}"]
        before = {}
        frozen = self.dev.more(f"frozen{self.count}", **self.settings)
        self.provider.open.clear()
        for name in names:
            before[name] = self.user(place={"environment": name}, name=name)["token_generation"]
            self.ask_elsewhere(frozen.address, name, allow_pending=True)
        wait_for(lambda: self.provider.calls == 2, "the provider is asked")
        frozen.process.send_signal(signal.SIGSTOP)
        self.provider.open.set()
        # The leases would run out by themselves in half a minute.
        self.sql("update connection_lease set lease_until = now() where lease_until is not null")
        outcomes = [outcome(self.ask_elsewhere(self.others[0], name)) for name in names]
        self.assertEqual(outcomes, ["REAUTH_REQUIRED", "RESOLVED"])
        frozen.process.send_signal(signal.SIGCONT)
        # It has the only token of the strict provider, and an old one of the other.
        wait_for(lambda: outcome(self.ask_elsewhere(self.others[1], names[0])) == "RESOLVED", "the token is stored")
        self.assertEqual(frozen.stop(), 0)
        self.dev.extra.remove(frozen)
        for name in names:
            self.assertEqual(self.get({"environment": name})["token_generation"], before[name] + 1)
            self.assertEqual((self.provider.calls_of(name), self.get({"environment": name})["status"]),
                             (2, "CONNECTION_STATUS_CONNECTED"))

    def test_server_that_ends_waits_for_the_answer_and_stores_it(self):
        before = self.user()["token_generation"]
        server = self.dev.more("leaving", **self.settings)
        self.provider.open.clear()
        with self.dev.connect(server.address) as connection:
            connection.call(RESOLVE, {"items": [{"environments": [self.environment], "allow_pending": True,
                                                 "references": references("acme_oauth.ACME_USER_TOKEN")}]},
                            token=self.dev.admin)
        wait_for(lambda: self.provider.calls == 1, "the provider is asked")
        server.process.terminate()
        wait_for(lambda: "draining" in server.log.read_text(), "the server ends")
        self.provider.open.set()
        self.assertEqual(server.process.wait(PATIENCE), 0)
        self.assertEqual(server.stop(), 0)
        self.dev.extra.remove(server)
        self.assertEqual((self.get()["token_generation"], self.provider.calls), (before + 1, 1))

    def test_no_log_has_a_token_or_a_credential(self):
        self.user()
        self.resolved()
        log = (self.dev.directory / "log").read_bytes()
        for secret in (CLIENT_SECRET, f"access-{self.name}".encode(), f"{self.name}-0".encode()):
            self.assertNotIn(secret, log)


if __name__ == "__main__":
    unittest.main()
