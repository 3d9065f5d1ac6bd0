#!/usr/bin/env python3
"""Connections of two real authorization servers of different makes, which rotate refresh tokens and detect reuse."""

import base64
import json
import pathlib
import secrets
import ssl
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import certificates  # noqa: E402
from authlib_provider import AuthlibProvider, jwt  # noqa: E402
from real_provider import CALLBACK, OidcProvider  # noqa: E402

CONNECTION = context.CONNECTION
SECRET = "a client's secret 81f2"
USER, ROBOT, JWT_BEARER = (["authorization_code", "refresh_token"], ["client_credentials"],
                           ["urn:ietf:params:oauth:grant-type:jwt-bearer"])
# By the name of the client: how it says to the provider who it is.
METHODS = {"basic": ("client_secret_basic", "SECRET_BASIC"), "post": ("client_secret_post", "SECRET_POST"),
           "none": ("none", "NONE"), "rs256": ("private_key_jwt", "PRIVATE_KEY_JWT"),
           "es256": ("private_key_jwt", "PRIVATE_KEY_JWT")}
KEYS = {"rs256": rsa.generate_private_key(public_exponent=65537, key_size=2048), "es256": ec.generate_private_key(ec.SECP256R1())}


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def number(value, size=None):
    return base64.urlsafe_b64encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def jwk(name):
    public = KEYS[name].public_key().public_numbers()
    if name == "rs256":
        return {"kty": "RSA", "alg": "RS256", "kid": name, "use": "sig", "n": number(public.n), "e": number(public.e)}
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": name, "use": "sig", "x": number(public.x, 32), "y": number(public.y, 32)}


def clients():
    """One for each client authentication and grant, as RFC 7591 describes them."""
    for name, (method, _) in METHODS.items():
        for kind, grants in ("user", USER), ("robot", ROBOT):
            if (kind, name) == ("robot", "none"):
                continue
            facts = {"client_id": f"{kind}-{name}", "token_endpoint_auth_method": method, "grant_types": grants,
                     "redirect_uris": [CALLBACK] if kind == "user" else [],
                     "response_types": ["code"] if kind == "user" else []}
            if method.startswith("client_secret"):
                facts["client_secret"] = SECRET
            if name in KEYS:
                facts.update(jwks={"keys": [jwk(name)]}, token_endpoint_auth_signing_alg=name.upper())
            yield facts


class RealProviders(context.AccessTest):
    count = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-provider-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        authority = certificates.Authority(folder / "ca")
        certificate, key = authority.issue("provider")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        account = {"client_id": "account@project.example", "token_endpoint_auth_method": "none", "grant_types": JWT_BEARER,
                   "jwks": {"keys": [jwk("rs256")]}}
        cls.oidc = OidcProvider(certificate, key, clients(), authority.certificate)
        cls.authlib = AuthlibProvider(tls, [*clients(), account])
        entries = [("oidc", cls.oidc, "/token/revocation", "{}"), ("authlib", cls.authlib, "/revoke", "{}"),
                   ("accounts", cls.authlib, "/revoke", "{jwt_bearer: true, scopes: [read]}")]
        (folder / "providers.yaml").write_text("providers:\n" + "".join(
            f"  - id: {name}\n    name: {name}\n    documentation: https://{name}.example\n    issuer: {server.issuer}\n"
            f"    authorization_endpoint: {server.issuer}/auth\n    token_endpoint: {server.issuer}/token\n"
            f"    revocation_endpoint: {server.issuer}{revoke}\n    user: {{scopes: [read]}}\n    service: {service}\n"
            "    client_authentication: [client_secret_basic, client_secret_post, none, private_key_jwt]\n"
            "    tokens: {refresh: rotates_strictly}\n" for name, server, revoke, service in entries))
        cls.SETTINGS = cls.settings = {
            "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml"),
            "COFFERD_OUTBOUND__ALLOW_PRIVATE": f"localhost:{cls.oidc.port},localhost:{cls.authlib.port}",
            "COFFERD_OUTBOUND__CA_FILE": str(authority.certificate),
        }
        super().setUpClass()
        cls.other = cls.dev.more("other", **cls.settings)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.oidc.close()
        cls.authlib.close()
        cls.folder.cleanup()

    def setUp(self):
        RealProviders.count += 1
        self.reused = self.reuses()

    def reuses(self):
        return self.oidc.count("grant.error", detail="refresh token already used") + self.authlib.reused

    # --- Clients at the providers

    def authenticate(self, name):
        """What a person's browser sends instead of Coffer, to come to the first tokens."""
        def with_post(form):
            form["client_secret"] = SECRET
            return {}

        def with_basic(form):
            del form["client_id"]
            pair = f"user-basic:{urllib.parse.quote(SECRET, safe='')}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

        def with_assertion(form):
            now = int(time.time())
            claims = {"iss": f"user-{name}", "sub": f"user-{name}", "aud": self.oidc.issuer, "iat": now, "exp": now + 60,
                      "jti": secrets.token_hex(16)}
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form["client_assertion"] = jwt.encode({"alg": name.upper(), "kid": name}, claims, pem(KEYS[name])).decode()
            return {}
        return {"post": with_post, "basic": with_basic, "none": lambda form: {}}.get(name, with_assertion)

    def first_tokens(self, provider, name):
        if provider == "authlib":
            return self.authlib.tokens(f"user-{name}")
        return self.oidc.tokens(f"user-{name}", authenticate=self.authenticate(name))

    def active(self, provider, token):
        if provider == "authlib":
            return self.authlib.active(token)
        return self.oidc.post("token/introspection", {"token": token, "client_id": "robot-post", "client_secret": SECRET})[1]["active"]

    # --- Connections

    def done(self, method, **fields):
        answer = self.call(CONNECTION + method, fields, timeout_ms=60000)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def configure(self, provider, kind, name, grant):
        credential = {"private_key": pem(KEYS[name]), "key_id": name} if name in KEYS else {"client_secret": SECRET.encode()}
        place = {"environment": f"{kind}-{name}-{self.count}", "provider": provider}
        self.done("ConfigureConnection", grant="CONNECTION_GRANT_" + grant, client_id=f"{kind}-{name}",
                  client_authentication="CLIENT_AUTHENTICATION_" + METHODS[name][1],
                  **({} if name == "none" else {"credential": credential}), **place)
        return place

    def connect(self, provider, name):
        """A user's connection with the refresh token that the provider gave, and that token."""
        place = self.configure(provider, "user", name, "REFRESH_TOKEN")
        token = self.first_tokens(provider, name)["refresh_token"]
        self.done("SetConnectionTokens", refresh_token=token.encode(), **place)
        return place, token

    def token(self, place, kind="USER"):
        key = f"{place['provider'].upper()}_{kind}_TOKEN"
        result = self.resolve(place["environment"], f"{place['provider']}_oauth.{key}")
        self.assertEqual(result["status"]["code"], 0, result)
        return self.value(result, f"{place['provider']}_oauth", key).decode()

    def of_user(self, method, place, **more):
        return self.done(method, connection_class="CONNECTION_CLASS_USER", **place, **more)

    # --- Tests

    def each_method_refreshes(self, provider, names):
        for name in names:
            with self.subTest(name):
                place, _ = self.connect(provider, name)
                first = self.token(place)
                self.assertTrue(self.active(provider, first))
                self.assertEqual(self.of_user("RefreshConnection", place)["result"], "REFRESH_RESULT_REFRESHED")
                second = self.token(place)
                self.assertTrue(second != first and self.active(provider, second))
        self.assertEqual(self.reuses(), self.reused)

    def test_every_client_authentication_refreshes_at_oidc_provider(self):
        self.each_method_refreshes("oidc", METHODS)

    def test_every_client_authentication_refreshes_at_authlib(self):
        # Authlib takes the secret of a Basic header as it stands, which this one does not.
        self.each_method_refreshes("authlib", ("post", "none", "rs256", "es256"))

    def test_every_client_authentication_gets_tokens_of_its_own(self):
        for provider, names in ("oidc", ("basic", "post", "rs256", "es256")), ("authlib", ("post", "rs256", "es256")):
            for name in names:
                with self.subTest(provider, name=name):
                    place = self.configure(provider, "robot", name, "CLIENT_CREDENTIALS")
                    self.assertTrue(self.active(provider, self.token(place, "SERVICE")))
                    tested = self.done("TestConnection", connection_class="CONNECTION_CLASS_SERVICE", **place)
                    self.assertEqual(tested["result"], "REFRESH_RESULT_REFRESHED")

    def test_service_account_gets_a_token_for_its_assertion(self):
        account = {"type": "service_account", "client_email": "account@project.example", "private_key_id": "rs256",
                   "private_key": pem(KEYS["rs256"]).decode()}
        place = {"environment": f"account-{self.count}", "provider": "accounts"}
        self.done("ConfigureConnection", grant="CONNECTION_GRANT_JWT_BEARER",
                  credential={"service_account": json.dumps(account).encode()}, **place)
        self.assertTrue(self.active("authlib", self.token(place, "SERVICE")))

    def test_person_authorises_a_client_of_each_kind_by_code_pkce_and_state(self):
        for name in METHODS:
            place = self.configure("oidc", "user", name, "AUTHORIZATION_CODE")
            started = self.done("StartAuthorization", redirect_uri=CALLBACK, **place)
            back = self.oidc.approve(started["url"])
            self.assertTrue(back.startswith(CALLBACK + "?"), name)
            completed = self.done("CompleteAuthorization", authorization=started["authorization"]["uid"],
                                  query=urllib.parse.urlsplit(back).query.encode())
            self.assertEqual(completed["connection"]["status"], "CONNECTION_STATUS_CONNECTED", name)
            self.assertTrue(self.active("oidc", self.token(place)), name)

    def test_real_server_is_discovered_and_registers_a_client_that_somebody_authorises(self):
        found = self.call("coffer.v1.ProviderService/DiscoverProvider", {
            "url": self.oidc.issuer, "kind": "DISCOVERY_KIND_ISSUER", "name": "Found"}, timeout_ms=60000)
        self.assertEqual(found.code, 0, found)
        place = {"environment": f"found-{self.count}", "provider": found.message["provider"]["id"]}
        registered = self.done("RegisterClient", grant="CONNECTION_GRANT_AUTHORIZATION_CODE", redirect_uris=[CALLBACK],
                               scopes=["openid", "read"], **place)
        self.assertTrue(registered["connection"]["client_registered"])
        started = self.done("StartAuthorization", redirect_uri=CALLBACK, **place)
        back = self.oidc.approve(started["url"])
        self.assertIn("iss=", back)  # which it announces, so it is demanded
        completed = self.done("CompleteAuthorization", authorization=started["authorization"]["uid"],
                              query=urllib.parse.urlsplit(back).query.encode())
        self.assertEqual(completed["connection"]["status"], "CONNECTION_STATUS_CONNECTED")
        self.assertTrue(self.active("oidc", self.token(place)))

    def test_calls_on_two_servers_at_once_use_no_refresh_token_twice(self):
        for provider in ("oidc", "authlib"):
            place, _ = self.connect(provider, "post")
            reference = {"name": f"{provider}_oauth", "key": f"{provider.upper()}_USER_TOKEN"}
            answers, start = [], threading.Barrier(8)

            def one(address):
                with self.dev.connect(address) as connection:
                    start.wait()
                    answers.append(connection.call(context.RESOLVE, {"items": [{
                        "environments": [place["environment"]], "references": [reference]}]}, token=self.dev.admin,
                        timeout_ms=60000))

            threads = [threading.Thread(target=one, args=(address,)) for address in (self.dev.ipc, self.other.address) * 4]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            values = {self.value(answer.message["results"][0], reference["name"], reference["key"]) for answer in answers}
            self.assertEqual(len(values), 1)
            self.assertTrue(self.active(provider, values.pop().decode()))
        self.assertEqual(self.reuses(), self.reused)

    def test_reuse_by_somebody_else_ends_the_grant_and_wants_a_person(self):
        for provider in ("oidc", "authlib"):
            place, stolen = self.connect(provider, "post")
            access = self.token(place)
            form = {"grant_type": "refresh_token", "refresh_token": stolen, "client_id": "user-post", "client_secret": SECRET}
            if provider == "oidc":
                self.assertEqual(self.oidc.post("token", form)[0], 400)
            else:
                self.assertEqual(self.authlib.answer("/token", {}, form)[0], 400)
            self.assertFalse(self.active(provider, access))
            refreshed = self.of_user("RefreshConnection", place)
            self.assertEqual(refreshed["result"], "REFRESH_RESULT_REAUTH_REQUIRED", refreshed)
        self.assertEqual(self.reuses(), self.reused + 2)

    def test_disconnect_ends_the_tokens_at_the_provider(self):
        for provider, name in ("oidc", "basic"), ("oidc", "none"), ("authlib", "es256"), ("authlib", "post"):
            with self.subTest(provider, name=name):
                place, _ = self.connect(provider, name)
                access = self.token(place)
                self.assertTrue(self.active(provider, access))
                ended = self.of_user("DisconnectConnection", place)
                self.assertEqual(ended["revocation"], "REVOCATION_REVOKED", ended)
                self.assertFalse(self.active(provider, access))

    def test_wrong_secret_is_the_configuration_s_fault(self):
        for provider in ("oidc", "authlib"):
            place, _ = self.connect(provider, "post")
            self.done("RotateClientCredential", connection_class="CONNECTION_CLASS_USER", **place,
                      credential={"client_secret": b"not the client's secret at all"})
            self.assertEqual(self.of_user("TestConnection", place)["result"], "REFRESH_RESULT_CONFIGURATION_REFUSED")


if __name__ == "__main__":
    unittest.main()
