"""Both ends of an authorization: a browser that keeps cookies, and an authorization server that remembers what it was asked for."""

import base64
import hashlib
import http.client
import json
import re
import secrets
import threading
import urllib.parse

from rude_http import Rude, whole

CLIENT_SECRET = b"the client secret 77aa"


class Provider:
    """An authorization server: `consent` is its page, where somebody says yes; `token` checks what RFC 6749 and 7636 ask for."""

    def __init__(self, tls):
        self.server = Rude({"token": self._answer}, context=tls)
        self.reset()

    def entry(self, name, title, announced="true", tokens="{}"):
        """What stands in a file of providers."""
        return (f"  - id: {name}\n    name: {title}\n    documentation: https://acme.example/docs\n"
                f"    issuer: {self.issuer}\n    sends_issuer: {announced}\n"
                f"    authorization_endpoint: {self.issuer}/authorize\n    token_endpoint: {self.issuer}/token\n"
                f"    user: {{scopes: [read, write]}}\n    tokens: {tokens}\n    client_authentication: [client_secret_post]\n")

    def reset(self):
        self.codes, self.forms, self.says, self.tokens = {}, [], None, {}
        self.open = threading.Event()  # answers wait for it
        self.open.set()

    @property
    def issuer(self):
        return f"https://localhost:{self.server.port}"

    def consent(self, url, **changes):
        """What the browser is sent back with; `changes` are made to it, None: left out."""
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        code = "code-" + secrets.token_urlsafe(12)
        self.codes[code] = asked
        back = {"state": asked["state"], "code": code, "iss": self.issuer, **changes}
        return urllib.parse.urlencode({name: value for name, value in back.items() if value is not None})

    def _answer(self, connection, request):
        form = dict(urllib.parse.parse_qsl(request.split(b"\r\n\r\n", 1)[1].decode()))
        self.forms.append(form)
        self.open.wait(60)
        connection.sendall(self.says or self._tokens(form))

    def _tokens(self, form):
        asked = self.codes.pop(form.get("code"), None)
        verifier = form.get("code_verifier", "").encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).decode().rstrip("=")
        if (asked is None or asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge"] != challenge
                or form["client_secret"] != CLIENT_SECRET.decode()):
            return self.whole({"error": "invalid_grant", "error_description": "code, verifier or redirect_uri"}, 400)
        return self.whole({"access_token": f"access-{len(self.forms)}", "expires_in": 3600, "scope": "read",
                           "refresh_token": f"refresh-{len(self.forms)}", **self.tokens})

    @staticmethod
    def whole(body, status=200):
        return whole(json.dumps(body).encode(), status)


def port_of(server, scheme="ws"):
    """Where the server listens for browsers."""
    return server.port(f"{scheme}://127.0.0.1")


class Page:
    def __init__(self, answer):
        self.status, self.headers = answer.status, answer.headers
        self.text = answer.read().decode()
        self.title = (re.search(r"<title>(.*?)</title>", self.text) or ["", ""])[1]


class Browser:
    """Keeps cookies as browsers do, behind a proxy that speaks TLS under the server's public name."""

    def __init__(self, port, host="coffer.example"):
        self.port, self.host, self.cookies = port, host, {}

    def ask(self, method, target, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, target, body=body, headers={
            "Host": self.host, **({"Cookie": cookie} if cookie else {}), **headers})
        page = Page(connection.getresponse())
        connection.close()
        set_cookie = page.headers.get("Set-Cookie")
        if set_cookie:
            name, value = set_cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        return page

    def open(self, url):
        parts = urllib.parse.urlsplit(url)
        return self.ask("GET", f"{parts.path}?{parts.query}")

    def press(self, url, page):
        """The button, as the page has it."""
        token = re.search(r'name="t" value="([^"]+)"', page.text)[1]
        parts = urllib.parse.urlsplit(url)
        return self.ask("POST", f"{parts.path}?{parts.query}", body=f"t={token}",
                        **{"Content-Type": "application/x-www-form-urlencoded"})

    def pass_start(self, url):
        """The provider's URL."""
        return self.press(url, self.open(url)).headers["Location"]

    def back(self, query):
        return self.ask("GET", "/oauth/callback?" + query)
