#!/usr/bin/env python3
"""Attacks on OAuth, and mistakes that are as good as one: each has a name, and each is refused (T15)."""

import json
import pathlib
import socket
import sys
import tempfile
import unittest

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

from oauth_host import RESOURCE, SERVER, Host  # noqa: E402
from rude_http import Rude, head, whole, zeros  # noqa: E402

PROVIDER = "coffer.v1.ProviderService/"
INNER = "https://169.254.169.254/latest/meta-data"
REDIRECT = "https://coffer.example/oauth/callback"


def attack(reason, words=""):
    """A function that attacks, and what its last answer has to be."""
    def mark(function):
        function.refusal = (reason, words)
        return function
    return mark


class Attacks(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-attacks-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        for name in ("ours", "strange"):
            (folder / name).mkdir()
        cls.host, cls.strange = Host(folder / "ours"), Host(folder / "strange")
        cls.origin = cls.host.origin
        cls.SETTINGS = {**cls.host.settings, "COFFERD_OUTBOUND__ALLOW_PRIVATE":
                        f"localhost:{cls.host.rude.port},localhost:{cls.strange.rude.port}"}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.host.rude.close()
        cls.strange.rude.close()
        cls.folder.cleanup()

    # --- What attacks use

    def discover(self, url, kind="ISSUER", **fields):
        return self.call(PROVIDER + "DiscoverProvider", {"url": url, "kind": f"DISCOVERY_KIND_{kind}", **fields})

    def says(self, data):
        """The issuer is the host itself, and answers with these bytes."""
        self.host.site[SERVER] = Rude.says(data)
        return self.discover(self.origin)

    def metadata(self, text=None, **changes):
        body = text or json.dumps({**self.host.server(self.origin), **changes})
        return self.says(whole(body.encode()))

    def resource(self, **changes):
        url = f"{self.origin}/mcp"
        self.host.site.json(f"{RESOURCE}/mcp", {"resource": url, "authorization_servers": [self.origin], **changes})
        self.host.site.json(SERVER, self.host.server(self.origin))
        return self.discover(url, "MCP_SERVER")

    def register(self, answer=None, endpoint=None, **fields):
        self.host.site.json(SERVER, {**self.host.server(self.origin),
                                     "registration_endpoint": endpoint or f"{self.origin}/register"})
        provider = self.discover(self.origin, name="Registers").message["provider"]["id"]
        self.host.site["register"] = Rude.says(whole((answer or '{"client_id":"a","client_secret":"s"}').encode()))
        return self.call(context.CONNECTION + "RegisterClient", {
            "provider": provider, "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE", "redirect_uris": [REDIRECT], **fields})

    # --- Where an issuer is said to be

    @attack("FIELD_INVALID", "https")
    def issuer_without_tls(self):
        return self.discover("http://issuer.example")

    @attack("FIELD_INVALID", "https")
    def issuer_that_is_a_file(self):
        return self.discover("file:///etc/passwd")

    @attack("FIELD_INVALID", "https")
    def issuer_with_a_user_in_front_of_the_real_host(self):
        return self.discover("https://accounts.example@evil.example")

    @attack("FIELD_INVALID", "query")
    def issuer_with_a_query(self):
        return self.discover("https://issuer.example/?to=https://evil.example")

    @attack("FIELD_INVALID", "fragment")
    def issuer_with_a_fragment(self):
        return self.discover("https://issuer.example/#x")

    @attack("FIELD_INVALID", "https")
    def issuer_with_a_line_end(self):
        return self.discover("https://issuer.example/\r\nHost: evil.example")

    @attack("ADDRESS_REFUSED")
    def private_address(self):
        return self.discover("https://10.0.0.1")

    @attack("ADDRESS_REFUSED")
    def loopback_address_with_the_port_of_a_listed_name(self):
        return self.discover(f"https://127.0.0.1:{self.host.rude.port}")

    @attack("ADDRESS_REFUSED")
    def address_of_the_clouds_metadata(self):
        return self.discover("https://169.254.169.254")

    @attack("ADDRESS_REFUSED")
    def ipv4_in_the_clothes_of_ipv6(self):
        return self.discover("https://[::ffff:127.0.0.1]")

    @attack("ADDRESS_REFUSED")
    def address_as_one_number(self):
        return self.discover("https://2130706433")

    @attack("ADDRESS_REFUSED")
    def address_in_octal(self):
        return self.discover("https://0177.0.0.1")

    @attack("ADDRESS_REFUSED")
    def name_that_ends_in_localhost(self):
        return self.discover("https://issuer.localhost")

    @attack("ADDRESS_REFUSED")
    def listed_name_with_another_port(self):
        return self.discover(f"https://localhost:{self.host.rude.port + 1 if self.host.rude.port < 65535 else 1}")

    @attack("PROVIDER_UNAVAILABLE")
    def certificate_of_a_stranger(self):
        self.strange.site.json(SERVER, self.strange.server(self.strange.origin))
        return self.discover(self.strange.origin)

    # --- What an issuer says

    @attack("DISCOVERY_FAILED", "redirect")
    def redirect_to_an_inner_address(self):
        return self.says(head(302, f"Location: {INNER}", "Content-Length: 0"))

    @attack("DISCOVERY_FAILED", "redirect")
    def redirect_on_the_same_host(self):
        self.host.site.json("metadata", self.host.server(self.origin))
        return self.says(head(307, f"Location: {self.origin}/metadata", "Content-Length: 0"))

    @attack("DISCOVERY_FAILED", "no JSON")
    def page_in_html(self):
        return self.says(whole(b"<html><body>Sign in</body></html>", 200, "Content-Type: application/json"))

    @attack("DISCOVERY_FAILED", "no JSON")
    def bytes_that_mean_nothing(self):
        return self.says(whole(bytes(range(256))))

    @attack("DISCOVERY_FAILED", "larger")
    def answer_without_an_end(self):
        return self.says(whole(b'{"issuer":"' + b"x" * 200000 + b'"}'))

    @attack("DISCOVERY_FAILED", "larger")
    def answer_that_is_small_on_the_wire_alone(self):
        return self.says(whole(zeros(10000000), 200, "Content-Encoding: gzip"))

    @attack("PROVIDER_UNAVAILABLE")
    def answer_that_breaks_off(self):
        return self.says(head(200, "Content-Length: 500") + json.dumps(self.host.server(self.origin)).encode())

    @attack("DISCOVERY_FAILED", "another issuer")
    def metadata_of_another_issuer(self):
        return self.metadata(issuer="https://accounts.example")

    @attack("DISCOVERY_FAILED", "another issuer")
    def issuer_that_differs_by_a_slash(self):
        return self.metadata(issuer=self.origin + "/")

    @attack("DISCOVERY_FAILED", "another issuer")
    def metadata_of_nobody(self):
        return self.metadata('{"token_endpoint":"https://evil.example/token"}')

    @attack("DISCOVERY_FAILED", "twice")
    def issuer_that_stands_there_twice(self):
        body = json.dumps(self.host.server(self.origin))
        return self.metadata(f'{{"issuer":"https://evil.example",{body[1:]}')

    @attack("DISCOVERY_FAILED", "twice")
    def token_endpoint_that_stands_there_twice(self):
        body = json.dumps(self.host.server(self.origin))
        return self.metadata(f'{body[:-1]},"token_endpoint":"https://evil.example/token"}}')

    @attack("DISCOVERY_FAILED", "token_endpoint")
    def token_endpoint_without_tls(self):
        return self.metadata(token_endpoint="http://issuer.example/token")

    @attack("DISCOVERY_FAILED", "authorization_endpoint")
    def authorization_endpoint_that_is_a_script(self):
        return self.metadata(authorization_endpoint="javascript:alert(1)")

    @attack("DISCOVERY_FAILED", "revocation_endpoint")
    def endpoint_with_a_user_in_front_of_the_real_host(self):
        return self.metadata(revocation_endpoint="https://accounts.example@evil.example/revoke")

    @attack("DISCOVERY_FAILED", "parameters")
    def endpoint_with_a_hole_that_a_setting_fills(self):
        return self.metadata(token_endpoint="https://{host}/token")

    @attack("DISCOVERY_FAILED", "S256")
    def pkce_that_is_no_protection(self):
        return self.metadata(code_challenge_methods_supported=["plain"])

    @attack("DISCOVERY_FAILED", "another resource")
    def resource_that_speaks_for_another(self):
        return self.resource(resource="https://mcp.example/mcp")

    @attack("DISCOVERY_FAILED", "https")
    def resource_whose_issuer_has_no_tls(self):
        return self.resource(authorization_servers=["http://issuer.example"])

    @attack("DISCOVERY_FAILED", "too many")
    def resource_with_more_issuers_than_anybody_needs(self):
        return self.resource(authorization_servers=[f"https://issuer{i}.example" for i in range(100)])

    @attack("ADDRESS_REFUSED")
    def resource_whose_issuer_is_an_inner_host(self):
        return self.resource(authorization_servers=["https://10.0.0.1"])

    # --- Clients that are registered

    @attack("ADDRESS_REFUSED")
    def registration_at_an_inner_address(self):
        return self.register(endpoint=INNER)

    @attack("REGISTRATION_REFUSED", "other redirect URIs")
    def client_that_comes_back_to_somebody_else(self):
        return self.register(json.dumps({"client_id": "a", "client_secret": "s",
                                         "redirect_uris": [REDIRECT, "https://evil.example/callback"]}))

    @attack("REGISTRATION_REFUSED", "twice")
    def client_with_two_ids(self):
        return self.register('{"client_id":"a","client_secret":"s","client_id":"b"}')

    @attack("REGISTRATION_REFUSED", "cannot be sent")
    def client_secret_that_would_end_a_header(self):
        return self.register(json.dumps({"client_id": "a", "client_secret": "s\r\nX: y"}))

    @attack("FIELD_INVALID", "redirect_uris")
    def redirect_to_a_host_that_looks_like_loopback(self):
        return self.register(redirect_uris=["http://127.0.0.1.evil.example/"])

    @attack("FIELD_INVALID", "redirect_uris")
    def redirect_without_tls(self):
        return self.register(redirect_uris=["http://coffer.example/oauth/callback"])

    @attack("FIELD_INVALID", "redirect_uris")
    def redirect_with_a_fragment(self):
        return self.register(redirect_uris=[REDIRECT + "#here"])

    @attack("FIELD_INVALID", "initial_access_token")
    def initial_token_that_would_end_a_header(self):
        return self.register(initial_access_token=b"a\r\nX: y")

    # --- All of them

    def attacks(self):
        return {name: getattr(self, name) for name in dir(type(self)) if hasattr(getattr(type(self), name), "refusal")}

    def test_forty_attacks_and_mistakes_are_refused(self):
        attacks = self.attacks()
        self.assertGreaterEqual(len(attacks), 40)
        for name, run in attacks.items():
            with self.subTest(name):
                self.host.site.clear()
                answer = run()
                reason, words = run.refusal
                self.assertEqual(answer.reason, reason, answer)
                self.assertIn(words, answer.text)
                for planted in ("evil", "169.254"):
                    self.assertFalse(planted in answer.text and reason == "DISCOVERY_FAILED", "what an attacker says is not quoted")

    def test_name_of_this_host_is_refused_by_the_address_that_is_connected_to(self):
        name = socket.gethostname()
        try:
            socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
        except OSError:
            self.skipTest("this host's name stands for nothing")
        self.assertEqual(self.discover(f"https://{name.lower()}").reason, "ADDRESS_REFUSED")

    def test_nothing_inner_is_asked_and_no_provider_is_left_behind(self):
        self.says(head(302, f"Location: {self.origin}/inner", "Content-Length: 0"))
        self.assertNotIn("inner", self.host.asked())
        before = self.call(PROVIDER + "ListProviders", {"own_only": True}).message["providers"]
        self.metadata(issuer="https://accounts.example")
        self.assertEqual(self.call(PROVIDER + "ListProviders", {"own_only": True}).message["providers"], before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
