#!/usr/bin/env python3
"""Providers that tell themselves where they are, from an issuer or an MCP server."""

import pathlib
import sys
import tempfile
import unittest

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import cli  # noqa: E402
from oauth_host import OPENID, RESOURCE, SERVER, Host  # noqa: E402

PROVIDER = "coffer.v1.ProviderService/"
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

    def test_only_whoever_manages_all_connections_discovers(self):
        reader = self.token_for(READ)
        answer = self.discover(self.mcp(), token=reader)
        self.assertEqual(answer.reason, "PERMISSION_DENIED")
        self.assertEqual(self.host.asked(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
