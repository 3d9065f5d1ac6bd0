"""A provider of another make, in the test's own process: Authlib behind a small HTTP server.

It rotates refresh tokens, and who uses an old one again loses the grant, as RFC 9700 has it.
"""

import http.server
import json
import secrets
import sys
import threading
import time
import urllib.parse

from cofferd import ROOT

sys.path.append(str(ROOT / "build" / "tools"))

from authlib.jose import JsonWebKey, jwt  # noqa: E402, F401
from authlib.oauth2 import rfc6749, rfc6750, rfc7009, rfc7523, rfc7662  # noqa: E402

METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]


class Client(rfc6749.ClientMixin):
    """As RFC 7591 describes it."""

    def __init__(self, facts):
        self.facts = facts

    def get_client_id(self):
        return self.facts["client_id"]

    def get_allowed_scope(self, scope):
        return scope

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(self.facts.get("client_secret", ""), client_secret)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == self.facts["token_endpoint_auth_method"]

    def check_grant_type(self, grant_type):
        return grant_type in self.facts["grant_types"]

    def key(self, headers):
        return JsonWebKey.import_key_set(self.facts["jwks"]).find_by_kid(headers.get("kid"))


class Token(rfc6749.TokenMixin):
    def __init__(self, client, fields, grant):
        self.client, self.fields, self.grant = client, fields, grant
        self.used, self.revoked, self.since = False, False, time.time()

    def check_client(self, client):
        return self.client is client

    def get_scope(self):
        return self.fields.get("scope", "")

    def get_expires_in(self):
        return self.fields["expires_in"]

    def is_revoked(self):
        return self.revoked

    def is_expired(self):
        return time.time() > self.since + self.fields["expires_in"]


class Request(rfc6749.OAuth2Request):
    def __init__(self, uri, headers, form):
        super().__init__("POST", uri, headers=headers)
        self._form = form
        self.payload = rfc6749.requests.BasicOAuth2Payload(form)

    @property
    def form(self):
        return self._form


class Refresh(rfc6749.grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token):
        token = self.server.refresh.get(refresh_token)
        if token is None or token.revoked:
            return None
        if token.used:
            self.server.reused += 1
            self.server.end(token)
            return None
        return token

    def authenticate_user(self, refresh_token):
        return refresh_token.grant

    def revoke_old_credential(self, refresh_token):
        refresh_token.used = True


class ClientCredentials(rfc6749.grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


class JwtBearer(rfc7523.JWTBearerGrant):
    def resolve_issuer_client(self, issuer):
        return self.server.query_client(issuer)

    def resolve_client_key(self, client, headers, payload):
        return client.key(headers)

    def authenticate_user(self, subject):
        return subject

    def has_granted_permission(self, client, user):
        return True


class Assertion(rfc7523.JWTBearerClientAssertion):
    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, server, token_url):
        super().__init__(token_url)
        self.server = server

    def validate_jti(self, claims, jti):
        known = jti in self.server.jtis
        self.server.jtis.add(jti)
        return not known

    def resolve_client_public_key(self, client, headers):
        return client.key(headers)


class Lookup:
    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token_string, token_type_hint):
        return self.server.refresh.get(token_string) or self.server.access.get(token_string)


class Revocation(Lookup, rfc7009.RevocationEndpoint):
    def revoke_token(self, token, request):
        if request.form["token"] in self.server.refresh:
            self.server.end(token)
        token.revoked = True


class Introspection(Lookup, rfc7662.IntrospectionEndpoint):
    def check_permission(self, token, client, request):
        return True

    def introspect_token(self, token):
        return {"active": not token.revoked and not token.used and not token.is_expired(), "scope": token.get_scope()}


class Server(rfc6749.AuthorizationServer):
    def __init__(self, clients, url):
        super().__init__()
        self.clients = {facts["client_id"]: Client(facts) for facts in clients}
        self.refresh, self.access, self.jtis, self.reused, self.grants = {}, {}, set(), 0, 0
        make = lambda **_: secrets.token_urlsafe(32)
        self.register_token_generator("default", rfc6750.BearerTokenGenerator(make, make, lambda *_: 3600))
        self.register_client_auth_method("private_key_jwt", Assertion(self, url))
        for grant in (Refresh, ClientCredentials, JwtBearer):
            self.register_grant(grant)
        for endpoint in (Revocation, Introspection):
            self.register_endpoint(endpoint)

    def query_client(self, client_id):
        return self.clients.get(client_id)

    def save_token(self, token, request):
        self.keep(request.client, token, request.user)

    def keep(self, client, fields, grant):
        token = Token(client, fields, grant)
        self.access[fields["access_token"]] = token
        if "refresh_token" in fields:
            self.refresh[fields["refresh_token"]] = Token(client, fields, grant)

    def end(self, token):
        """All tokens of its grant."""
        for other in (*self.refresh.values(), *self.access.values()):
            if other.grant == token.grant:
                other.revoked = True

    def send_signal(self, name, *args, **kwargs):
        pass

    def create_oauth2_request(self, request):
        return request

    def handle_response(self, status, body, headers):
        return status, body


class AuthlibProvider:
    """`clients` as RFC 7591 describes them. `reused` counts refresh tokens that were used twice."""

    def __init__(self, context, clients):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                status, answer = outer.answer(self.path, dict(self.headers), dict(urllib.parse.parse_qsl(body)))
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_address[1]
        self.issuer = f"https://localhost:{self.port}"
        self.server = Server(clients, f"{self.issuer}/token")
        self.lock = threading.Lock()
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    @property
    def reused(self):
        return self.server.reused

    def answer(self, path, headers, form):
        request = Request(f"{self.issuer}{path}", headers, form)
        with self.lock:
            if path == "/token":
                return self.server.create_token_response(request)
            return self.server.create_endpoint_response({"/revoke": "revocation", "/introspect": "introspection"}[path], request)

    def tokens(self, client):
        """Tokens of a user for a client, as if somebody had signed in."""
        with self.lock:
            self.server.grants += 1
            fields = self.server.generate_token("authorization_code", self.server.query_client(client), scope="read")
            self.server.keep(self.server.query_client(client), fields, self.server.grants)
        return fields

    def active(self, token):
        """Whether the provider still takes it."""
        kept = self.server.refresh.get(token) or self.server.access.get(token)
        return self.server._endpoints["introspection"][0].introspect_token(kept)["active"]
