#!/usr/bin/env python3
"""OAuth connections: what is configured, who may, what is kept of credentials and tokens."""

import json
import threading
import unittest

import context
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from sp_client import uuid7

CONNECTION, ENVIRONMENT, PROVIDER = context.CONNECTION, context.ENVIRONMENT, "coffer.v1.ProviderService/"
SECRET_TEXT, REFRESH, ACCESS = b"client-secret-7f3a", b"refresh-token-91bc", b"access-token-55de"
PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def pem(key):
    return key.private_bytes(*PEM)


def status(message):
    return message["status"].removeprefix("CONNECTION_STATUS_")


class Connections(context.AccessTest):
    EC = pem(ec.generate_private_key(ec.SECP256R1()))

    def setUp(self):
        for connection in self.listed():
            place = {"all_environments": True} if connection["all_environments"] else {"environment": connection["environment"]}
            self.done("DeleteConnection", provider=connection["provider"], connection_class=connection["connection_class"],
                      **place)

    def ask(self, method, token=None, **fields):
        return self.call(CONNECTION + method, {name: value for name, value in fields.items() if value is not None}, token=token)

    def done(self, method, token=None, **fields):
        answer = self.ask(method, token=token, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def github(self, method="ConfigureConnection", **fields):
        """The configuration of a USER connection for GitHub."""
        return self.ask(method, **{"provider": "github", "grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "client",
                                   "credential": {"client_secret": SECRET_TEXT}, **fields})

    def configured(self, **fields):
        answer = self.github(**fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def get(self, token=None, provider="github", kind="USER", **scope):
        return self.done("GetConnection", token=token, provider=provider, connection_class="CONNECTION_CLASS_" + kind,
                         **scope)["connection"]

    def listed(self, token=None, **fields):
        return self.done("ListConnections", token=token, page_size=1000, **fields)["connections"]

    def tokens(self, **fields):
        return self.done("SetConnectionTokens", **{"provider": "github", "refresh_token": REFRESH, "access_token": ACCESS,
                                                   **fields})["connection"]

    # --- What is configured

    def test_without_an_environment_all_are_meant_and_the_answer_says_so(self):
        first = self.configured()
        self.assertEqual((first["created"], first["connection"]["all_environments"]), (True, True))
        self.assertEqual(self.get()["uid"], first["connection"]["uid"])
        self.assertEqual(self.get(all_environments=True)["uid"], first["connection"]["uid"])
        own = self.configured(environment="prod")["connection"]
        self.assertEqual((own["environment"], own["all_environments"]), ("prod", False))
        self.assertNotEqual(own["uid"], first["connection"]["uid"])
        self.assertEqual(self.get(environment="prod")["uid"], own["uid"])
        self.assertEqual(self.ask("GetConnection", provider="github", connection_class="CONNECTION_CLASS_USER",
                                  all_environments=False).fields, ["all_environments"])

    def test_connection_goes_through_its_statuses(self):
        never = self.get(environment="prod")
        self.assertEqual((status(never), never["uid"], bool(never["status_message"])), ("NOT_CONFIGURED", "", True))
        self.configured(environment="prod")
        self.assertEqual(status(self.get(environment="prod")), "CONFIGURED")
        connected = self.tokens(environment="prod", granted_scopes=["repo"])
        self.assertEqual((status(connected), connected["has_refresh_token"], connected["granted_scopes"]),
                         ("CONNECTED", True, ["repo"]))
        dropped = self.done("DisconnectConnection", environment="prod", provider="github",
                            connection_class="CONNECTION_CLASS_USER")["connection"]
        self.assertEqual((status(dropped), dropped["has_refresh_token"]), ("CONFIGURED", False))
        self.assertGreater(dropped["token_generation"], connected["token_generation"])

    def test_what_changes_where_credentials_go_drops_them_and_wants_them_anew(self):
        base = self.configured(scopes=["repo"])["connection"]
        self.tokens()
        changes = [{"client_id": "another"}, {"client_authentication": "CLIENT_AUTHENTICATION_SECRET_BASIC"},
                   {"settings": {"extra_parameters": [{"name": "audience", "value": "https://api.example"}]}},
                   {"settings": {"resource": "https://mcp.example/"}}, {"settings": {"audience": "https://as.example/"}}]
        fields = {"scopes": ["repo"]}
        for change in changes:
            before = self.get()
            answer = self.github(**{**fields, **change, "credential": None})
            if answer.fields == ["client_authentication"]:
                continue  # this provider takes one way only
            self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["credential"]), change)
            self.assertEqual(self.get(), before, change)
            fields = {**fields, **change}
            answer = self.configured(**fields)
            self.assertEqual((answer["tokens_dropped"], answer["connection"]["uid"]), (True, base["uid"]), change)
            self.assertEqual((status(answer["connection"]), answer["connection"]["has_refresh_token"]), ("CONFIGURED", False))
            self.assertGreater(answer["connection"]["token_generation"], before["token_generation"])
            self.assertEqual(self.sql("select length(access_token) + length(refresh_token) from connection_token"), "0")
            self.tokens()
        self.assertGreater(int(self.sql("select config_generation from connection")), 3)

    def test_scopes_and_credentials_change_without_the_tokens(self):
        self.configured(scopes=["repo"])
        self.tokens(granted_scopes=["repo"])
        answer = self.configured(scopes=["repo", "gist"], credential=None)
        self.assertEqual((answer["tokens_dropped"], status(answer["connection"])), (False, "CONNECTED"))
        self.assertEqual((answer["connection"]["scopes"], answer["connection"]["missing_scopes"]), (["gist", "repo"], ["gist"]))
        self.assertEqual(len(answer["connection"]["credentials"]), 1)
        answer = self.configured(scopes=["repo", "gist"], credential={"client_secret": b"a new one"})
        self.assertEqual((answer["tokens_dropped"], status(answer["connection"])), (False, "CONNECTED"))
        before = self.get()
        again = self.configured(scopes=["gist", "repo", "gist"], credential=None)
        self.assertEqual((again["connection"], again["created"]), (before, False))
        self.assertEqual(again["consistency_token"], "", "nothing was written")

    def test_guards_are_checked(self):
        made = self.configured(etag="-")["connection"]
        self.assertEqual(self.github(etag="-").reason, "ETAG_MISMATCH")
        self.assertEqual(self.github(etag="77").reason, "ETAG_MISMATCH")
        self.assertEqual(self.github(expected_uid=context.SYSTEM).reason, "UID_MISMATCH")
        changed = self.configured(etag=made["etag"], scopes=["repo"], expected_uid=made["uid"])["connection"]
        self.assertNotEqual(changed["etag"], made["etag"])
        place = {"provider": "github", "connection_class": "CONNECTION_CLASS_USER", "expected_uid": context.SYSTEM}
        for method, more in (("DeleteConnection", {}), ("DisconnectConnection", {}),
                             ("RotateClientCredential", {"credential": {"client_secret": b"x"}})):
            self.assertEqual(self.ask(method, **place, **more).reason, "UID_MISMATCH", method)
        self.assertEqual(self.ask("SetConnectionTokens", provider="github", refresh_token=REFRESH,
                                  expected_uid=context.SYSTEM).reason, "UID_MISMATCH")

    def test_what_makes_no_sense_is_refused_with_its_field(self):
        good = {"provider": "github", "grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "client",
                "credential": {"client_secret": SECRET_TEXT}}
        extra = lambda name, value="v": {"settings": {"extra_parameters": [{"name": name, "value": value}]}}
        key = {"private_key": self.EC}
        cases = [
            ({"provider": "nobody"}, "PROVIDER_NOT_FOUND", "provider"), ({"provider": "a b"}, "FIELD_INVALID", "provider"),
            ({"grant": 0}, "FIELD_REQUIRED", "grant"), ({"grant": "CONNECTION_GRANT_CLIENT_CREDENTIALS"}, "FIELD_INVALID", "grant"),
            ({"provider": "google", "grant": "CONNECTION_GRANT_CLIENT_CREDENTIALS"}, "FIELD_INVALID", "grant"),
            ({"client_authentication": "CLIENT_AUTHENTICATION_PRIVATE_KEY_JWT"}, "FIELD_INVALID", "client_authentication"),
            ({"client_id": ""}, "FIELD_REQUIRED", "client_id"), ({"client_id": "a\nb"}, "FIELD_INVALID", "client_id"),
            ({"client_id": "x" * 513}, "FIELD_INVALID", "client_id"),
            ({"credential": None}, "FIELD_REQUIRED", "credential"), ({"credential": {}}, "FIELD_REQUIRED", "credential"),
            ({"credential": key}, "FIELD_INVALID", "credential"),
            ({"credential": {"client_secret": b""}}, "FIELD_REQUIRED", "credential.client_secret"),
            ({"credential": {"client_secret": b"line\n"}}, "FIELD_INVALID", "credential.client_secret"),
            ({"credential": {"client_secret": b"\xff"}}, "FIELD_INVALID", "credential.client_secret"),
            ({"credential": {"client_secret": b"x" * 4097}}, "FIELD_INVALID", "credential.client_secret"),
            ({"scopes": ["a b"]}, "FIELD_INVALID", "scopes[0]"), ({"scopes": ["a", '"']}, "FIELD_INVALID", "scopes[1]"),
            ({"scopes": [f"s{i}" for i in range(65)]}, "LIMIT_EXCEEDED", "scopes"),
            ({"environment": "a/b"}, "FIELD_INVALID", "environment"), (extra("client_id"), "FIELD_INVALID", "settings.extra_parameters[0]"),
            (extra("scope"), "FIELD_INVALID", "settings.extra_parameters[0]"), (extra("a b"), "FIELD_INVALID", "settings.extra_parameters[0]"),
            ({"settings": {"extra_parameters": [{"name": f"n{i}", "value": ""} for i in range(17)]}}, "LIMIT_EXCEEDED",
             "settings.extra_parameters"),
            ({"settings": {"extra_parameters": [{"name": "n", "value": "1"}, {"name": "n", "value": "2"}]}}, "FIELD_INVALID",
             "settings.extra_parameters"),
            ({"settings": {"resource": "https://a b"}}, "FIELD_INVALID", "settings.resource"),
            ({"settings": {"subject": "me"}}, "FIELD_INVALID", "settings.subject"),
        ]
        for change, reason, field in cases:
            answer = self.ask("ConfigureConnection", **{**good, **change})
            self.assertEqual((answer.reason, answer.fields), (reason, [field]), change)
            self.assertNotIn(SECRET_TEXT.decode(), answer.text, change)
        self.assertEqual(self.listed(), [])

    def test_parameters_of_the_provider_are_checked_and_kept(self):
        fields = {"grant": "CONNECTION_GRANT_CLIENT_CREDENTIALS", "client_id": "client",
                  "credential": {"client_secret": SECRET_TEXT}}
        provider = self.provider_with_tenant()
        tenant = lambda value, name="tenant": {"settings": {"parameters": [{"name": name, "value": value}]}}
        for wrong in (tenant("a/b"), tenant("contoso", "unknown")):
            answer = self.ask("ConfigureConnection", **{**fields, "provider": provider, **wrong})
            self.assertEqual(answer.reason, "FIELD_INVALID", answer)
        made = self.done("ConfigureConnection", **{**fields, "provider": provider, **tenant("contoso.example")})["connection"]
        self.assertEqual(made["settings"]["parameters"], [{"name": "tenant", "value": "contoso.example"}])
        self.assertEqual(made["connection_class"], "CONNECTION_CLASS_SERVICE")
        answer = self.ask("ConfigureConnection", **{**fields, "provider": provider, **tenant("other.example"), "credential": None})
        self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["credential"]))

    @staticmethod
    def provider_with_tenant():
        return "microsoft_graph"

    # --- Providers of the workspace

    def custom(self, name, token=None, **definition):
        given = {field: value for field, value in {**context.DEFINITION, **definition}.items() if value is not None}
        answer = self.call(PROVIDER + "CreateProvider", {"name": name, "definition": given}, token=token)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["provider"]["id"]

    def redefine(self, provider, **definition):
        answer = self.call(PROVIDER + "UpdateProvider", {"id": provider, "update_mask": {"paths": ["definition"]},
                                                         "definition": {**context.DEFINITION, **definition}})
        self.assertEqual(answer.code, 0, answer)

    def put_back(self, table, where):
        """What the table has now comes back by calling what is returned."""
        row = self.sql(f"select row_to_json(t) from {table} t where {where}")
        return lambda: self.sql(f"set session_replication_role = replica; delete from {table} where {where};"
                                f" insert into {table} select * from json_populate_record(null::{table}, $x${row}$x$)")

    def test_provider_of_the_workspace_is_connected_by_what_it_says(self):
        provider = self.custom("Connected", client_authentications=["CLIENT_AUTHENTICATION_NONE"], service=None,
                               tokens={"life": {"seconds": 77}}, token_endpoint="https://acme.example/{tenant}",
                               parameters=[{"name": "tenant", "form": "PROVIDER_PARAMETER_FORM_SEGMENT"}])
        fields = {"provider": provider, "environment": "prod", "credential": None}
        self.assertEqual(status(self.get(provider=provider, environment="prod")), "NOT_CONFIGURED")
        self.assertIn("tenant", self.github(**fields).text)
        self.assertEqual(self.github(**fields, grant="CONNECTION_GRANT_DEVICE_CODE").fields, ["grant"])
        fields["settings"] = {"parameters": [{"name": "tenant", "value": "a"}]}
        self.assertEqual(self.github(**fields, client_authentication="CLIENT_AUTHENTICATION_SECRET_POST").fields,
                         ["client_authentication"])
        made = self.configured(**fields)["connection"]
        self.assertEqual((made["client_authentication"], status(made)), ("CLIENT_AUTHENTICATION_NONE", "CONFIGURED"))
        connected = self.tokens(provider=provider, environment="prod")
        self.assertEqual(status(connected), "CONNECTED")
        self.assertEqual(connected["expire_time"]["seconds"] - connected["obtain_time"]["seconds"], 77)
        self.assertEqual((self.get(provider=provider, environment="prod"), self.listed()), (connected, [connected]))
        self.assertEqual(self.call(PROVIDER + "DeleteProvider", {"id": provider}).reason, "PROVIDER_IN_USE")
        self.done("DeleteConnection", provider=provider, environment="prod", connection_class="CONNECTION_CLASS_USER")
        self.assertEqual(self.call(PROVIDER + "DeleteProvider", {"id": provider}).code, 0)
        self.assertEqual(self.github(**fields).reason, "PROVIDER_NOT_FOUND")
        _, other = self.new_workspace("without-providers")
        foreign = self.custom("Foreign", token=other)
        self.assertEqual(self.github(provider=foreign).reason, "PROVIDER_NOT_FOUND")

    def test_change_of_the_workspaces_provider_drops_tokens_and_wants_the_credential_anew(self):
        issuer = {"issuer": "https://as.example"}
        tenant = {"parameters": [{"name": "tenant", "form": "PROVIDER_PARAMETER_FORM_SEGMENT", "value": "a"}],
                  "token_endpoint": "https://acme.example/{tenant}"}
        other = {**tenant, "parameters": [{**tenant["parameters"][0], "value": "b"}]}
        provider = self.custom("Changed")
        fields, place = {"provider": provider}, {"provider": provider, "connection_class": "CONNECTION_CLASS_USER"}
        self.configured(**fields)
        for change in ({"token_endpoint": "https://evil.example/token"}, {"revocation_endpoint": "https://acme.example/revoke"}, issuer,
                       tenant, other, {**other, "client_authentications": ["CLIENT_AUTHENTICATION_SECRET_POST"]}):
            connected = self.tokens(**fields)
            self.redefine(provider, **change)
            changed = self.get(provider=provider)
            self.assertEqual((status(changed), [status(c) for c in self.listed()]), ("NOT_CONFIGURED", ["NOT_CONFIGURED"]), change)
            self.assertIn("configure it anew", changed["status_message"])
            refused = [self.ask("SetConnectionTokens", provider=provider, refresh_token=REFRESH),
                       self.ask("RotateClientCredential", **place, credential={"client_secret": b"x"})]
            self.assertEqual([answer.reason for answer in refused], ["CONNECTION_NOT_FOUND"] * 2, change)
            answer = self.github(**fields, credential=None)
            self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["credential"]), change)
            answer = self.configured(**fields)
            self.assertEqual((answer["tokens_dropped"], status(answer["connection"])), (True, "CONFIGURED"), change)
            self.assertGreater(answer["connection"]["token_generation"], connected["token_generation"], change)
            self.assertEqual(self.sql("select length(access_token) + length(refresh_token) from connection_token"), "0")
        connected = self.tokens(**fields)
        self.redefine(provider, **change, user={"scopes": ["other"]}, documentation="https://docs.example/")
        self.assertEqual(self.get(provider=provider), connected, "what goes nowhere else drops nothing")

    def test_provider_that_was_tampered_with_gets_no_credential(self):
        """By somebody with the database: changed, put back, moved from another workspace, gone."""
        provider = self.custom("Tampered")
        fields, row = {"provider": provider}, f"provider = '{provider}' and workspace_id = '{self.dev.workspace}'"
        self.configured(**fields)
        self.tokens(**fields)

        def worthless(case, reason):
            shown = self.get(provider=provider)
            self.assertEqual((shown["corrupted"], status(shown)), (False, "NOT_CONFIGURED"), case)
            self.assertEqual(self.ask("SetConnectionTokens", provider=provider, refresh_token=REFRESH).reason, reason, case)
        whole = self.put_back("provider", row)
        self.sql(f"update provider set generation = generation + 1 where {row}")
        worthless("another generation", "CORRUPTED")
        self.assertEqual(self.github(**fields).reason, "CORRUPTED")
        whole()
        self.sql(f"update provider set definition = definition || definition where {row}")
        worthless("another definition", "CORRUPTED")
        whole()
        self.sql(f"delete from provider where {row}")
        worthless("gone", "PROVIDER_NOT_FOUND")
        other, token = self.new_workspace("with-the-same-provider")
        self.assertEqual(self.custom("Tampered", token=token), provider)
        self.sql(f"update provider set workspace_id = '{self.dev.workspace}' where workspace_id = '{other}'")
        worthless("another workspace's", "CORRUPTED")
        whole()
        self.assertEqual(status(self.get(provider=provider)), "CONNECTED")
        self.redefine(provider, token_endpoint="https://new.example/token")
        self.configured(**fields)
        whole()
        worthless("the one of before", "CONNECTION_NOT_FOUND")
        self.sql(f"update connection set provider_generation = 1 where {row}")
        self.assertEqual(self.get(provider=provider)["corrupted"], True)
        self.sql(f"update provider set definition = '' where {row}")
        self.assertEqual(self.done("DeleteConnection", provider=provider, connection_class="CONNECTION_CLASS_USER")["uid"] != "", True)

    def test_no_connection_outlives_a_provider_that_is_deleted_at_the_same_time(self):
        for number in range(6):
            provider, answers = self.custom(f"Race {number}"), {}
            start = threading.Barrier(2)

            def one(method, request):
                with self.dev.connect() as connection:
                    start.wait()
                    answers[method] = connection.call(method, request, token=self.dev.admin)
            threads = [threading.Thread(target=one, args=arguments) for arguments in (
                (PROVIDER + "DeleteProvider", {"id": provider}),
                (CONNECTION + "ConfigureConnection", {**context.CONFIGURED, "provider": provider}))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            reasons = (answers[PROVIDER + "DeleteProvider"].reason, answers[CONNECTION + "ConfigureConnection"].reason)
            self.assertIn(reasons, {("PROVIDER_IN_USE", ""), ("", "PROVIDER_NOT_FOUND")})
            self.assertEqual(len(self.listed(provider=provider)), int(reasons[1] == ""))

    # --- Credentials

    def test_every_kind_of_credential_is_described_and_never_shown(self):
        account = json.dumps({"type": "service_account", "client_email": "robot@project.example", "private_key_id": "k1",
                              "private_key": pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)).decode()})
        made = self.done("ConfigureConnection", provider="google", grant="CONNECTION_GRANT_JWT_BEARER",
                         credential={"service_account": account.encode()}, settings={"subject": "user@example.com"})["connection"]
        facts, = made["credentials"]
        self.assertEqual((facts["kind"], facts["key_id"], facts["service_account"]),
                         ("CREDENTIAL_KIND_SERVICE_ACCOUNT", "k1", "robot@project.example"))
        self.assertEqual(made["client_authentication"], "CLIENT_AUTHENTICATION_NONE")
        provider = {"provider": self.provider_with_tenant(), "grant": "CONNECTION_GRANT_CLIENT_CREDENTIALS",
                    "client_authentication": "CLIENT_AUTHENTICATION_PRIVATE_KEY_JWT", "client_id": "client",
                    "settings": {"parameters": [{"name": "tenant", "value": "contoso.example"}]}}
        for bad in (pem(ed25519.Ed25519PrivateKey.generate()), pem(ec.generate_private_key(ec.SECP384R1())), b"no key"):
            answer = self.ask("ConfigureConnection", **provider, credential={"private_key": bad})
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["credential.private_key"]))
        made = self.done("ConfigureConnection", **provider, credential={"private_key": self.EC, "key_id": "k2"})["connection"]
        self.assertEqual([(f["kind"], f["key_id"]) for f in made["credentials"]], [("CREDENTIAL_KIND_PRIVATE_KEY", "k2")])

    def test_client_credential_is_rotated_with_an_overlap(self):
        self.configured()
        self.tokens()
        place = {"provider": "github", "connection_class": "CONNECTION_CLASS_USER"}
        rotate = lambda secret, **more: self.ask("RotateClientCredential", **place, credential={"client_secret": secret}, **more)
        for i in range(5):
            self.assertEqual(rotate(b"secret %d" % i, overlap={"seconds": 3600}).code, 0)
        connection = self.get()
        self.assertEqual((len(connection["credentials"]), status(connection)), (4, "CONNECTED"))
        self.assertEqual(["retire_time" in f and bool(f["retire_time"]) for f in connection["credentials"]], [False] + [True] * 3)
        self.assertEqual(rotate(b"last", overlap={"seconds": 0}).code, 0)
        self.assertEqual(len(self.get()["credentials"]), 1)
        self.assertEqual(rotate(b"x", overlap={"seconds": 31 * 86400}).fields, ["overlap"])
        self.assertEqual(self.ask("RotateClientCredential", **place).fields, ["credential"])
        self.assertEqual(self.ask("RotateClientCredential", **place, credential={"private_key": self.EC}).fields, ["credential"])

    def test_no_credential_is_in_an_answer_or_in_the_clear_in_the_database(self):
        self.configured(environment="prod")
        self.tokens(environment="prod")
        planted = (SECRET_TEXT, REFRESH, ACCESS)
        answers = str(self.get(environment="prod")) + str(self.listed())
        exported = self.call(context.SECRET + "ExportSecrets", {}).message
        listed = self.call(context.SECRET + "ListSecrets", {}).message
        for table in ("connection", "connection_token", "connection_lease", "change", "request"):
            answers += self.sql(f"select t::text from {table} t")
        for text in planted:
            self.assertNotIn(text.decode(), answers + str(exported) + str(listed))
            self.assertNotIn(text.hex(), answers)
        self.assertEqual([s["secret"]["name"] for s in exported["secrets"] if s["secret"]["name"].endswith("_oauth")], [])

    def test_tokens_that_are_none_are_refused(self):
        self.configured()
        for fields, field in (({"refresh_token": b"", "access_token": b""}, "refresh_token"), ({"refresh_token": b"a b"}, "refresh_token"),
                              ({"access_token": b"a\r\nb"}, "access_token"), ({"access_token": b"x" * 65537}, "access_token")):
            answer = self.ask("SetConnectionTokens", provider="github", **{"refresh_token": REFRESH, **fields})
            self.assertEqual(answer.fields, [field], answer)
        self.assertEqual(self.ask("SetConnectionTokens", provider="github", environment="none", refresh_token=REFRESH).reason,
                         "CONNECTION_NOT_FOUND")
        generation = self.get()["token_generation"]
        self.assertEqual(self.tokens(access_token=b"")["token_generation"], generation + 1)
        # Due, or somebody is at it already.
        lease = self.sql("select generation, tries, failures, next_time is not null or lease_until is not null from connection_lease")
        self.assertEqual(lease, f"{generation + 1}|0|0|t")

    # --- Once, together

    def test_repeated_request_has_its_effect_once(self):
        request_id = uuid7()
        fields = {"provider": "github", "grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "client",
                  "credential": {"client_secret": SECRET_TEXT}}
        answers = [self.call(CONNECTION + "ConfigureConnection", fields, request_id=request_id) for _ in range(2)]
        self.assertEqual([a.code for a in answers], [0, 0])
        self.assertEqual(answers[0].message, answers[1].message)
        self.assertEqual(self.sql("select version from connection"), "1")
        request_id = uuid7()
        tokens = [self.call(CONNECTION + "SetConnectionTokens", {"provider": "github", "refresh_token": REFRESH},
                            request_id=request_id) for _ in range(2)]
        self.assertEqual(tokens[0].message, tokens[1].message)
        self.assertEqual(self.get()["token_generation"], 2)

    def test_requests_that_make_the_same_connection_at_once_make_one(self):
        uids, failures = set(), []

        def make(number):
            with self.dev.connect() as connection:
                answer = connection.call(CONNECTION + "ConfigureConnection", {
                    "provider": "github", "environment": "race", "grant": "CONNECTION_GRANT_REFRESH_TOKEN",
                    "client_id": "client", "credential": {"client_secret": b"secret %d" % number}}, token=self.dev.admin)
            if answer.code == 0:
                uids.add(answer.message["connection"]["uid"])
            else:
                failures.append(answer)

        threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((failures, len(uids)), ([], 1))

    def test_environment_with_a_connection_is_not_deleted(self):
        self.configured(environment="kept")
        answer = self.call(ENVIRONMENT + "DeleteEnvironment", {"name": "kept"})
        self.assertEqual(answer.reason, "ENVIRONMENT_NOT_EMPTY")
        self.done("DeleteConnection", provider="github", environment="kept", connection_class="CONNECTION_CLASS_USER")
        self.assertEqual(self.call(ENVIRONMENT + "DeleteEnvironment", {"name": "kept"}).code, 0)
        self.assertEqual(self.sql("select (select count(*) from connection) + (select count(*) from connection_token)"
                                  " + (select count(*) from connection_lease)"), "0")
        self.assertEqual(self.ask("DeleteConnection", provider="github", environment="kept",
                                  connection_class="CONNECTION_CLASS_USER").reason, "CONNECTION_NOT_FOUND")

    def test_list_is_filtered_sorted_and_in_pages(self):
        for provider in ("github", "gitlab"):
            for scope in ({}, {"environment": "a"}, {"environment": "b"}):
                self.configured(provider=provider, **scope)
        name = lambda c: (c["provider"], "*" if c["all_environments"] else c["environment"])
        names = [(p, e) for p in ("github", "gitlab") for e in ("*", "a", "b")]
        self.assertEqual([name(c) for c in self.listed()], names)
        self.assertEqual([name(c) for c in self.listed(provider="gitlab")], names[3:])
        self.assertEqual([name(c) for c in self.listed(environments=["*", "b"])], [names[i] for i in (0, 2, 3, 5)])
        pages, token = [], ""
        while True:
            page = self.done("ListConnections", page_size=2, page_token=token)
            pages += [name(c) for c in page["connections"]]
            token = page["next_page_token"]
            if not token:
                break
        self.assertEqual(pages, names)
        self.assertEqual(self.ask("ListConnections", page_token="x").reason, "PAGE_TOKEN_INVALID")

    # --- Rights

    def test_rights_are_for_the_name_in_its_environment(self):
        self.configured(environment="prod")
        self.configured(environment="dev")
        rule = {"permissions": ["connection:read", "connection:write"], "environments": ["prod"], "names": ["github_oauth"]}
        token = self.token_for([rule])
        self.assertEqual(status(self.get(token=token, environment="prod")), "CONFIGURED")
        self.assertEqual([c["environment"] for c in self.listed(token=token)], ["prod"])
        for refused in (self.github(token=token, environment="dev"), self.github(token=token, provider="gitlab", environment="prod"),
                        self.github(token=token, environment="prod", provider="nobody")):
            self.assertEqual(refused.reason, "PERMISSION_DENIED")
        self.assertEqual(self.github(token=token, environment="prod", scopes=["repo"]).code, 0)
        reader = self.token_for([{"permissions": ["connection:read"]}])
        place = {"provider": "github", "environment": "prod", "connection_class": "CONNECTION_CLASS_USER"}
        self.assertEqual(self.github(token=reader, environment="prod").reason, "PERMISSION_DENIED")
        for method, more in (("DeleteConnection", {}), ("DisconnectConnection", {}),
                             ("RotateClientCredential", {"credential": {"client_secret": b"x"}})):
            self.assertEqual(self.ask(method, token=reader, **place, **more).reason, "PERMISSION_DENIED", method)
        self.assertEqual(self.ask("SetConnectionTokens", token=reader, provider="github", environment="prod",
                                  refresh_token=REFRESH).reason, "PERMISSION_DENIED")
        blind = self.token_for([{"permissions": ["secret:read", "resolve"]}])
        self.assertEqual(self.ask("ListConnections", token=blind).reason, "PERMISSION_DENIED")

    def test_all_environments_need_a_permission_of_their_own_for_all_of_them(self):
        both = ["connection:read", "connection:write", "connection:manage_all"]
        rules = {
            "without manage_all": [{"permissions": both[:2]}],
            "in one environment": [{"permissions": both, "environments": ["prod"]}],
            "in many": [{"permissions": both, "environments": ["p*", "d*"]}],
            "manage_all in one": [{"permissions": both[:2]}, {"permissions": both[2:], "environments": ["prod"]}],
            "another name": [{"permissions": both, "names": ["gitlab_oauth"]}],
        }
        for name, rule in rules.items():
            self.assertEqual(self.github(token=self.token_for(rule)).reason, "PERMISSION_DENIED", name)
        for rule in ([{"permissions": both}], [{"permissions": both, "environments": ["*"], "names": ["github*"]}]):
            self.assertEqual(self.github(token=self.token_for(rule)).code, 0, rule)
        # It holds in `prod`, too, so whoever may see that one's sees it.
        seer = self.token_for([{"permissions": ["connection:read"], "environments": ["prod"], "names": ["github_oauth"]}])
        self.assertEqual([c["all_environments"] for c in self.listed(token=seer)], [True])
        self.assertEqual(status(self.get(token=seer)), "CONFIGURED")

    def test_names_of_connections_stay_reserved_for_them(self):
        self.configured(environment="prod")
        answer = self.call(context.SECRET + "CreateSecret", {"name": "github_oauth", "environment": "prod",
                                                             "values": [{"key": "K", "value": b"v"}]})
        self.assertEqual(answer.reason, "NAME_RESERVED")

    # --- Damage

    def test_damaged_connection_is_shown_as_damaged_hides_no_other_and_can_be_deleted(self):
        for environment in ("a", "b"):
            self.configured(environment=environment)
        for statement in ("update connection set client_id = 'forged' where environment = 'a'",
                          "update connection_token t set config_generation = 7 from connection c where c.environment = 'a'"
                          " and c.connection_id = t.connection_id",
                          "delete from connection_token t using connection c where c.environment = 'a'"
                          " and c.connection_id = t.connection_id"):
            self.sql(statement)
            self.assertEqual([c["corrupted"] for c in self.listed()], [True, False], statement)
            self.assertNotIn("forged", str(self.get(environment="a")))
            self.assertEqual(self.github(environment="a").reason, "CORRUPTED")
            self.assertEqual(self.ask("SetConnectionTokens", provider="github", environment="a",
                                      refresh_token=REFRESH).reason, "CORRUPTED")
            self.done("DeleteConnection", provider="github", environment="a", connection_class="CONNECTION_CLASS_USER")
            self.configured(environment="a")

    def test_tokens_that_were_put_back_after_a_change_are_worth_nothing(self):
        """Nobody brings a refresh token to a client that it was not given to."""
        self.configured()
        self.tokens()
        self.sql("create table kept as select * from connection_token")
        self.configured(client_id="another")
        self.sql("set session_replication_role = replica; delete from connection_token;"
                 " insert into connection_token select * from kept; drop table kept")
        self.assertEqual(self.get()["corrupted"], True)

    def test_every_write_has_its_record_without_a_credential(self):
        self.configured(environment="audited")
        self.tokens(environment="audited")
        records = self.sql("select encode(record, 'escape') from change order by revision desc limit 2")
        self.assertEqual([records.count(text) for text in ("ConnectionService/ConfigureConnection", "ConnectionService/SetConn"
                                                           "ectionTokens", "audited", "github")], [1, 1, 2, 2])
        for planted in (SECRET_TEXT, REFRESH, ACCESS):
            self.assertNotIn(planted.decode(), records)


if __name__ == "__main__":
    unittest.main()
