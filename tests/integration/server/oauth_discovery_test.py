#!/usr/bin/env python3
"""Providers that tell themselves where they are, from an issuer or an MCP server; and clients that are registered there."""

import json
import pathlib
import sys
import tempfile
import unittest

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import cli  # noqa: E402
from oauth_host import OPENID, RESOURCE, SERVER, Host  # noqa: E402
from rude_http import reset  # noqa: E402
from sp_client import uuid7  # noqa: E402

PROVIDER = "coffer.v1.ProviderService/"
REDIRECT = "https://coffer.example/oauth/callback"
READ = [{"permissions": ["connection:read", "connection:write"]}]


class Discovery(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-discovery-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        cls.host = Host(folder)
        (folder / "providers.yaml").write_text(
            "providers:\n  - id: acme_mcp\n    name: Acme MCP\n    documentation: https://acme.example/docs\n"
            f"    mcp_server: {cls.host.origin}/acme\n    discovery: true\n    user: {{}}\n"
            "    client_authentication: [none]\n")
        cls.SETTINGS = {**cls.host.settings, "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml")}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.host.rude.close()
        cls.folder.cleanup()

    def setUp(self):
        self.host.site.clear()
        self.host.rude.requests.clear()

    def discover(self, url="", token=None, **fields):
        return self.call(PROVIDER + "DiscoverProvider", {"url": url, **fields}, token=token)

    def found(self, url="", **fields):
        answer = self.discover(url, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def get(self, which):
        return self.call(PROVIDER + "GetProvider", {"id": which})

    def mcp(self, path="mcp", **more):
        """An MCP server whose authorization server is the host itself."""
        resource = f"{self.host.origin}/{path}"
        self.host.site.json(f"{RESOURCE}/{path}", {"resource": resource, "authorization_servers": [self.host.origin],
                                                   "scopes_supported": ["read", "write", "read"]})
        self.host.site.json(SERVER, self.host.server(self.host.origin, **more))
        return resource

    def refused(self, url, reason, part, **fields):
        answer = self.discover(url, **fields)
        self.assertEqual(answer.reason, reason, answer)
        self.assertIn(part, answer.text)

    # --- What is found

    def test_mcp_server_leads_to_its_authorization_server_and_becomes_a_provider(self):
        origin = self.host.origin
        resource = self.mcp(
            registration_endpoint=f"{origin}/register", revocation_endpoint=f"{origin}/revoke",
            device_authorization_endpoint=f"{origin}/device", code_challenge_methods_supported=["plain", "S256"],
            token_endpoint_auth_methods_supported=["none", "client_secret_post", "self_signed_tls_client_auth"],
            authorization_response_iss_parameter_supported=True,
            grant_types_supported=["authorization_code", "client_credentials"])
        answer = self.found(resource, name="Tickets")
        self.assertEqual(self.host.asked(), [f"{RESOURCE}/mcp", SERVER])
        provider, definition = answer["provider"], answer["provider"]["definition"]
        self.assertEqual((answer["created"], answer["moved"], provider["id"], provider["name"], provider["generation"]),
                         (True, False, "custom_tickets", "Tickets", 1))
        self.assertEqual(
            {name: definition[name] for name in ("issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint",
                                                 "device_endpoint", "registration_endpoint", "mcp_server", "resource")},
            {"issuer": origin, "authorization_endpoint": f"{origin}/authorize", "token_endpoint": f"{origin}/token",
             "revocation_endpoint": f"{origin}/revoke", "device_endpoint": f"{origin}/device",
             "registration_endpoint": f"{origin}/register", "mcp_server": resource, "resource": resource})
        self.assertEqual((definition["discovery"], definition["pkce_refused"], definition["sends_issuer"],
                          definition["client_authentications"], definition["user"]["scopes"], bool(definition["service"])),
                         (False, False, True, ["CLIENT_AUTHENTICATION_SECRET_POST", "CLIENT_AUTHENTICATION_NONE"],
                          ["read", "write"], True))
        self.assertEqual(answer["discovery"], {
            "issuer": origin, "metadata_url": f"{origin}/{SERVER}", "resource": resource,
            "resource_metadata_url": f"{origin}/{RESOURCE}/mcp", "authorization_servers": [origin],
            "scopes": ["read", "write", "read"]})
        self.assertEqual(self.get("custom_tickets").message["provider"], provider)

    def test_issuer_is_looked_for_in_three_places_and_named_by_its_host(self):
        issuer = f"{self.host.origin}/tenant/one"
        self.host.site.json(f"tenant/one/{OPENID}", self.host.server(issuer))
        answer = self.found(issuer)
        self.assertEqual(self.host.asked(), [f"{RESOURCE}/tenant/one", RESOURCE, f"{SERVER}/tenant/one",
                                             f"{OPENID}/tenant/one", f"tenant/one/{OPENID}"])
        self.assertEqual((answer["provider"]["id"], answer["provider"]["definition"]["client_authentications"],
                          answer["provider"]["definition"]["resource"], answer["discovery"]["resource"]),
                         ("custom_localhost", ["CLIENT_AUTHENTICATION_SECRET_BASIC"], "", ""))
        self.host.rude.requests.clear()
        self.found(issuer, kind="DISCOVERY_KIND_ISSUER", validate_only=True)
        self.assertEqual(self.host.asked()[0], f"{SERVER}/tenant/one", "whoever says that it is an issuer saves two questions")

    def test_looking_only_writes_nothing(self):
        answer = self.found(self.mcp("only"), name="Only", validate_only=True)
        self.assertEqual((answer["provider"]["id"], answer["created"]), ("custom_only", True))
        self.assertEqual(self.get("custom_only").reason, "PROVIDER_NOT_FOUND")

    def test_one_of_several_authorization_servers_is_chosen_by_name(self):
        resource, other = f"{self.host.origin}/two", f"{self.host.origin}/other"
        self.host.site.json(f"{RESOURCE}/two", {"resource": resource, "authorization_servers": [self.host.origin, other]})
        self.host.site.json(f"{SERVER}/other", self.host.server(other))
        self.assertEqual(self.found(resource, issuer=other, validate_only=True)["discovery"]["issuer"], other)
        answer = self.discover(resource, issuer="https://evil.example")
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["issuer"]), answer)

    def test_built_in_provider_of_an_mcp_server_becomes_the_workspaces_own_under_its_id(self):
        resource = self.mcp("acme", token_endpoint_auth_methods_supported=["none"])
        self.assertEqual(self.get("acme_mcp").message["provider"]["uid"], "")
        answer = self.found(id="acme_mcp")
        self.assertEqual((answer["created"], answer["provider"]["id"], answer["provider"]["definition"]["token_endpoint"],
                          answer["provider"]["definition"]["resource"]),
                         (True, "acme_mcp", f"{self.host.origin}/token", resource))
        self.assertEqual(self.get("acme_mcp").message["provider"], answer["provider"])
        again = self.found(id="acme_mcp")
        self.assertEqual((again["created"], again["moved"], again["provider"]["uid"]), (False, False, answer["provider"]["uid"]))
        answer = self.discover("https://example.com", id="github")
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["id"]), answer)

    def test_endpoint_that_moved_costs_connections_their_credentials(self):
        resource = self.mcp("moves")
        provider = self.found(resource, name="Moves")["provider"]
        configured = self.call(context.CONNECTION + "ConfigureConnection", {
            "provider": provider["id"], "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE", "client_id": "client",
            "credential": {"client_secret": b"only for the old endpoint"}})
        self.assertEqual(configured.code, 0, configured)
        self.host.site.json(SERVER, {**self.host.server(self.host.origin), "token_endpoint": f"{self.host.origin}/elsewhere"})
        looked = self.found(id=provider["id"], validate_only=True)
        self.assertEqual((looked["moved"], self.get(provider["id"]).message["provider"]["generation"]), (True, 1))
        moved = self.found(id=provider["id"], expected_uid=provider["uid"])
        self.assertEqual((moved["moved"], moved["provider"]["generation"]), (True, 2))
        shown = self.call(context.CONNECTION + "GetConnection", {
            "provider": provider["id"], "connection_class": "CONNECTION_CLASS_USER"}).message["connection"]
        self.assertEqual(shown["status"], "CONNECTION_STATUS_NOT_CONFIGURED")
        self.assertEqual(self.discover(id=provider["id"], expected_uid="00000000-0000-4000-8000-000000000000").reason, "UID_MISMATCH")

    def test_command_line_discovers_and_says_what_it_found(self):
        variables, resource = cli.environment(self.dev), self.mcp("cli")
        code, shown, notes = cli.run(variables, "oauth", "provider", "discover", resource, "--to-name", "By hand", "--dry-run",
                                     "-o", "table")
        self.assertEqual((code, "custom_by_hand: would be created" in notes), (0, True), notes)
        self.assertIn(f"{self.host.origin}/token", shown.decode())
        code, _, notes = cli.run(variables, "oauth", "provider", "discover", resource, "--to-name", "By hand")
        self.assertEqual((code, "custom_by_hand: created" in notes), (0, True), notes)
        code, _, notes = cli.run(variables, "oauth", "provider", "discover", "custom_by_hand")
        self.assertEqual((code, "custom_by_hand: changed" in notes), (0, True), notes)
        code, _, notes = cli.run(variables, "oauth", "provider", "discover", f"{self.host.origin}/nothing")
        self.assertNotEqual(code, 0)
        self.assertIn("coffer oauth provider create", notes)

    def test_command_line_registers_a_client(self):
        provider = self.registrable("By command")
        self.host.site.json("register", {"client_id": "by-command", "client_secret": "made secret"})
        code, shown, notes = cli.run(cli.environment(self.dev), "oauth", "register", provider, "INITIAL_ACCESS_TOKEN=-",
                                     "--redirect-uri", "http://127.0.0.1/callback", "--scope", "read", "-e", "prod", "-o", "table",
                                     stdin=b"initial-token")
        self.assertEqual((code, "registered a client for prod" in notes), (0, True), notes)
        self.assertIn("by-command", shown.decode())
        self.assertNotIn("made secret", shown.decode() + notes)
        self.assertEqual((self.body()["redirect_uris"], self.body()["scope"]), (["http://127.0.0.1/callback"], "read"))

    def test_only_whoever_manages_all_connections_discovers(self):
        reader = self.token_for(READ)
        answer = self.discover(self.mcp(), token=reader)
        self.assertEqual(answer.reason, "PERMISSION_DENIED")
        self.assertEqual(self.host.asked(), [])

    # --- Registration

    def registrable(self, name, **more):
        """A provider whose authorization server registers clients."""
        origin = self.host.origin
        self.host.site.json(SERVER, {**self.host.server(origin, registration_endpoint=f"{origin}/register"), **more})
        provider = self.found(origin, name=name, kind="DISCOVERY_KIND_ISSUER")["provider"]
        self.host.rude.requests.clear()
        return provider["id"]

    def register(self, provider, request_id=None, connection=None, **fields):
        return (connection or self.connection).call(context.CONNECTION + "RegisterClient", {
            "provider": provider, "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE", "redirect_uris": [REDIRECT], **fields},
            token=self.dev.admin, request_id=request_id or uuid7())

    def body(self):
        request, = self.host.rude.requests
        return json.loads(request.split(b"\r\n\r\n", 1)[1])

    def test_client_is_registered_and_the_connection_configured_with_it(self):
        provider = self.registrable("Registers", token_endpoint_auth_methods_supported=["client_secret_post", "none"])
        expires = self.now_ms() // 1000 + 86400
        self.host.site.json("register", {
            "client_id": "made-for-us", "client_secret": "made secret", "client_secret_expires_at": expires,
            "registration_access_token": "manages-the-client", "registration_client_uri": f"{self.host.origin}/register/1",
            "token_endpoint_auth_method": "client_secret_post", "redirect_uris": [REDIRECT]}, status=201)
        answer = self.register(provider, scopes=["read", "write"], client_name="Our platform", environment="prod",
                               initial_access_token=b"initial-token")
        self.assertEqual(answer.code, 0, answer)
        self.assertEqual(self.body(), {
            "token_endpoint_auth_method": "client_secret_post", "client_name": "Our platform", "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": "read write",
            "software_id": "coffer"})
        self.assertIn(b"authorization: bearer initial-token", self.host.rude.requests[0].lower())
        made = answer.message["connection"]
        self.assertEqual((answer.message["created"], made["client_id"], made["client_authentication"], made["scopes"],
                          made["status"], made["client_registered"], made["credentials"][0]["expire_time"]["seconds"]),
                         (True, "made-for-us", "CLIENT_AUTHENTICATION_SECRET_POST", ["read", "write"],
                          "CONNECTION_STATUS_CONFIGURED", True, expires))
        shown = self.call(context.CONNECTION + "GetConnection", {
            "provider": provider, "environment": "prod", "connection_class": "CONNECTION_CLASS_USER"}).message["connection"]
        self.assertEqual(shown, made)
        stored = self.sql("select encode(credentials, 'escape') from connection where provider = '" + provider + "'")
        for planted in ("made secret", "manages-the-client"):
            self.assertNotIn(planted, stored + str(answer))

    def test_public_client_and_a_client_of_a_service_are_registered_as_what_they_are(self):
        provider = self.registrable("Kinds", token_endpoint_auth_methods_supported=["none", "client_secret_basic"],
                                    grant_types_supported=["authorization_code", "client_credentials"])
        self.host.site.json("register", {"client_id": "public"})
        made = self.register(provider, client_authentication="CLIENT_AUTHENTICATION_NONE").message["connection"]
        self.assertEqual((made["client_authentication"], made["credentials"], made["client_registered"], self.body()["scope"] if
                          "scope" in self.body() else None), ("CLIENT_AUTHENTICATION_NONE", [], True, None))
        self.host.rude.requests.clear()
        self.host.site.json("register", {"client_id": "robot", "client_secret": "s"})
        made = self.register(provider, grant="CONNECTION_GRANT_CLIENT_CREDENTIALS", redirect_uris=[]).message["connection"]
        self.assertEqual((made["connection_class"], self.body()["grant_types"], "response_types" in self.body()),
                         ("CONNECTION_CLASS_SERVICE", ["client_credentials"], False))

    def test_request_that_is_repeated_registers_no_second_client(self):
        provider = self.registrable("Once")
        self.host.site.json("register", {"client_id": "one", "client_secret": "s"})
        request_id = uuid7()
        first = self.register(provider, request_id)
        self.assertEqual(first.code, 0, first)
        again = self.register(provider, request_id)
        self.assertEqual((again.message, len(self.host.rude.requests)), (first.message, 1))
        self.assertEqual(self.register(provider, request_id, client_name="Other").reason, "REQUEST_ID_REUSED")

    def test_answer_that_was_lost_is_told_and_never_asked_for_again_by_itself(self):
        provider = self.registrable("Lost")
        self.host.site["register"] = lambda connection, request: reset(connection)
        request_id = uuid7()
        for _ in range(2):
            answer = self.register(provider, request_id)
            self.assertEqual(answer.reason, "REGISTRATION_UNKNOWN", answer)
        self.assertEqual(len(self.host.rude.requests), 1)
        shown = self.call(context.CONNECTION + "GetConnection", {
            "provider": provider, "connection_class": "CONNECTION_CLASS_USER"}).message["connection"]
        self.assertEqual(shown["status"], "CONNECTION_STATUS_NOT_CONFIGURED")
        # Another server, or this one after a restart, knows of the attempt only what stands in the database.
        for made_ms, reason in ((self.now_ms(), "IN_PROGRESS"), (self.now_ms() - 120000, "REGISTRATION_UNKNOWN")):
            other = uuid7(made_ms)
            self.renamed(request_id, other)
            answer = self.register(provider, other)
            self.assertEqual((answer.reason, len(self.host.rude.requests)), (reason, 1), answer)
            request_id = other

    def renamed(self, made, other):
        """The record of one request becomes that of another, which has the same payload."""
        self.sql(f"update request set request_id = '{other.hex()}' where request_id = '{made.hex()}'")

    def test_refusal_is_told_in_the_providers_words_and_can_be_repeated(self):
        provider = self.registrable("Refuses")
        request_id = uuid7()
        self.host.site.json("register", {"error": "invalid_redirect_uri", "error_description": "not this one"}, status=400)
        answer = self.register(provider, request_id)
        self.assertEqual(answer.reason, "REGISTRATION_REFUSED", answer)
        self.assertIn("refuses (400): invalid_redirect_uri: not this one", answer.text)
        self.host.site.json("register", {"client_id": "later", "client_secret": "s"})
        self.assertEqual(self.register(provider, request_id).message["connection"]["client_id"], "later")

    def test_what_cannot_be_registered_is_refused_before_anything_is_sent(self):
        provider = self.registrable("Strict")
        plain = self.call(PROVIDER + "CreateProvider", {"name": "Plain", "definition": context.DEFINITION}).message["provider"]["id"]
        for fields, reason in (({"redirect_uris": []}, "FIELD_REQUIRED"), ({"redirect_uris": ["http://evil.example/"]}, "FIELD_INVALID"),
                               ({"redirect_uris": ["http://127.0.0.1.evil.example/"]}, "FIELD_INVALID"),
                               ({"redirect_uris": ["https://a.example/#f"]}, "FIELD_INVALID"),
                               ({"redirect_uris": ["javascript:alert(1)"]}, "FIELD_INVALID"),
                               ({"grant": "CONNECTION_GRANT_REFRESH_TOKEN"}, "FIELD_INVALID"),
                               ({"client_authentication": "CLIENT_AUTHENTICATION_PRIVATE_KEY_JWT"}, "FIELD_INVALID"),
                               ({"initial_access_token": b"a\r\nb: c"}, "FIELD_INVALID"),
                               ({"provider": plain}, "FIELD_INVALID"), ({"provider": "custom_none"}, "PROVIDER_NOT_FOUND")):
            self.assertEqual(self.register(**{"provider": provider, **fields}).reason, reason, fields)
        self.assertEqual(self.host.rude.requests, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
