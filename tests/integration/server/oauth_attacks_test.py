#!/usr/bin/env python3
"""Attacks on OAuth, and mistakes that are as good as one: each has a name, and each is refused (T15)."""

import base64
import contextlib
import json
import pathlib
import socket
import sys
import tempfile
import unittest
import urllib.parse
import uuid

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

from cofferd import BUILD, COFFERD  # noqa: E402
from oauth_browser import CLIENT_SECRET, Browser, Provider, port_of  # noqa: E402
from oauth_host import RESOURCE, SERVER, Host  # noqa: E402
from rude_http import Rude, head, whole, zeros  # noqa: E402

PROVIDER = "coffer.v1.ProviderService/"
INNER = "https://169.254.169.254/latest/meta-data"
PUBLIC = "https://coffer.example"
REDIRECT = PUBLIC + "/oauth/callback"
HTML = "<script>alert(1)</script>"
LATE = BUILD / "tests" / "integration" / "server" / "cofferd_late_clock"
LIFE_S = 600
CHANGING = BUILD / "tests" / "integration" / "server" / "cofferd_changing_names"
REBINDING, PUBLIC_ADDRESS, GONE_ADDRESS = "rebinding.example", "11.11.11.11", "11.11.11.12"  # see changing_names.c
REBOUND = ("reached", "rebound", "gone")
USER = {"connection_class": "CONNECTION_CLASS_USER"}
COOKIE = "__Host-coffer_oauth"
# Pages that say no.
UNKNOWN = (404, "There is no such authorization")
OTHER_BROWSER = (403, "This is not the browser that began")
NOT_AGREED = (403, "The provider did not agree")
NOT_MADE = (502, "The connection was not made")


def attack(reason, words=""):
    """A function that attacks, and what its last answer has to be."""
    def mark(function):
        function.refusal = (reason, words)
        return function
    return mark


def intrusion(page, words="", **after):
    """A function that attacks somebody's authorization by a browser, and what it has to be shown. Afterwards the authorization
    is as it was, or it `ends`; the provider was sent as many codes as `sends`."""
    def mark(function):
        function.page, function.words = page, words
        function.ends, function.sends = after.get("ends", False), after.get("sends", 0)
        return function
    return mark


class Visit:
    """Somebody has pressed the button, and stands at the provider's page."""

    def __init__(self, test, environment):
        self.provider, self.port, self.started = test.provider, test.port, test.start(environment)
        self.browser = Browser(self.port)
        self.location = self.browser.pass_start(self.started["url"])
        self.state = self.asked(self.location)["state"]

    @staticmethod
    def asked(url):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))

    def query(self, location=None, **changes):
        """What the provider sends the browser back with, changed."""
        return self.provider.consent(location or self.location, **changes)

    def back(self, **changes):
        return self.browser.back(self.query(**changes))

    def altered(self, **changes):
        """Where the provider is asked for something else than the server asked for."""
        parts = urllib.parse.urlsplit(self.location)
        return parts._replace(query=urllib.parse.urlencode({**self.asked(self.location), **changes})).geturl()

    def with_cookie(self, cookie):
        return Browser(self.port).ask("GET", "/oauth/callback?" + self.query(), Cookie=cookie)

    @property
    def cookie(self):
        return self.browser.cookies[COOKIE]


class Attacks(context.AccessTest):
    servers = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-attacks-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        for name in ("ours", "strange", "rebinding"):
            (folder / name).mkdir()
        cls.host, cls.strange = Host(folder / "ours"), Host(folder / "strange")
        cls.rebinding = Host(folder / "rebinding", REBINDING)
        cls.origin = cls.host.origin
        cls.provider = Provider(cls.host.tls)
        (folder / "providers.yaml").write_text("providers:\n" + cls.provider.entry("acme", "Acme"))
        ports = (cls.host.rude.port, cls.strange.rude.port, cls.provider.server.port)
        cls.SETTINGS = {**cls.host.settings, "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml"),
                        "COFFERD_OUTBOUND__ALLOW_PRIVATE": ",".join(f"localhost:{port}" for port in ports)}
        super().setUpClass()
        cls.pages = cls.with_pages("pages")
        cls.port = port_of(cls.pages)
        cls.calls = cls.dev.connect(cls.pages.address)

    @classmethod
    def with_pages(cls, name, program=COFFERD, **settings):
        return cls.dev.more(name, program, **{**cls.SETTINGS, **settings}, COFFERD_HTTP__PUBLIC_URL=PUBLIC,
                            COFFERD_TRANSPORT__LISTEN=f"ipc://{cls.dev.directory}/{name}.sock,ws://127.0.0.1:0/")

    @classmethod
    def tearDownClass(cls):
        cls.calls.close()
        super().tearDownClass()
        cls.provider.server.close()
        cls.host.rude.close()
        cls.strange.rude.close()
        cls.rebinding.rude.close()
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
        self.registers = self.discover(self.origin, name="Registers").message["provider"]["id"]
        self.host.site["register"] = Rude.says(whole((answer or '{"client_id":"a","client_secret":"s"}').encode()))
        return self.call(context.CONNECTION + "RegisterClient", {
            "provider": self.registers, "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE", "redirect_uris": [REDIRECT],
            **fields})

    def done(self, method, **fields):
        answer = self.calls.call(context.CONNECTION + method, {"provider": "acme", **fields}, token=self.dev.admin,
                                 timeout_ms=60000)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def start(self, environment, **fields):
        return self.done("StartAuthorization", environment=environment, **fields)

    def authorization(self, started, calls=None):
        shown = (calls or self.calls).call(context.CONNECTION + "GetAuthorization", {"authorization": started["authorization"]["uid"]},
                                token=self.dev.admin)
        return shown.message["authorization"]

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
    def redirect_to_a_user_at_another_host_in_the_clothes_of_a_port(self):
        return self.register(redirect_uris=["http://localhost:80@evil.example/"])

    @attack("FIELD_INVALID", "redirect_uris")
    def redirect_without_tls(self):
        return self.register(redirect_uris=["http://coffer.example/oauth/callback"])

    @attack("FIELD_INVALID", "redirect_uris")
    def redirect_with_a_fragment(self):
        return self.register(redirect_uris=[REDIRECT + "#here"])

    @attack("FIELD_INVALID", "initial_access_token")
    def initial_token_that_would_end_a_header(self):
        return self.register(initial_access_token=b"a\r\nX: y")

    # --- What comes back from a provider, or does not come from one

    @intrusion(UNKNOWN)
    def state_that_is_absent(self, visit):
        return visit.back(state=None)

    @intrusion(UNKNOWN)
    def state_that_is_truncated(self, visit):
        return visit.back(state=visit.state[:-1])

    @intrusion(UNKNOWN)
    def state_with_something_behind_it(self, visit):
        return visit.back(state=visit.state + "A")

    @intrusion(UNKNOWN)
    def state_of_the_right_workspace_that_nobody_started(self, visit):
        return visit.back(state=self.forged(visit.state, random=bytes(32)))

    @intrusion(UNKNOWN)
    def state_that_is_taken_to_another_workspace(self, visit):
        return visit.back(state=self.forged(visit.state, workspace=uuid.UUID(self.other).bytes))

    @staticmethod
    def forged(state, workspace=None, random=None):
        """Its format, its workspace, its random bytes."""
        made = base64.urlsafe_b64decode(state + "==")
        return base64.urlsafe_b64encode(made[:1] + (workspace or made[1:17]) + (random or made[17:])).decode().rstrip("=")

    @intrusion(UNKNOWN)
    def issuer_that_is_named_twice(self, visit):
        return visit.browser.back(visit.query() + "&iss=https://evil.example")

    @intrusion(UNKNOWN)
    def code_that_comes_twice(self, visit):
        return visit.browser.back(visit.query() + "&code=evil")

    @intrusion(UNKNOWN)
    def code_that_comes_twice_and_is_the_same(self, visit):
        query = visit.query()
        return visit.browser.back(f"{query}&code={Visit.asked('?' + query)['code']}")

    @intrusion(UNKNOWN)
    def html_for_an_authorization_of_nobody(self, visit):
        return visit.back(state="x", code=None, error="access_denied", error_description=HTML)

    @intrusion((431, ""))
    def query_that_is_longer_than_any_provider_s(self, visit):
        return visit.browser.back(visit.query() + "&padding=" + "x" * 8192)

    @intrusion(NOT_AGREED, ends=True)
    def code_and_error_together(self, visit):
        return visit.back(error="access_denied")

    @intrusion(NOT_AGREED, "invalid_request: &lt;script&gt;", ends=True)
    def html_in_the_provider_s_words(self, visit):
        return visit.back(code=None, error="invalid_request", error_description=HTML)

    @intrusion(NOT_AGREED, ends=True)
    def html_in_the_provider_s_error(self, visit):
        return visit.back(code=None, error=HTML)

    @intrusion(NOT_AGREED, ends=True)
    def token_in_the_place_of_a_code(self, visit):
        return visit.browser.back(visit.query(code=None) + "&access_token=evil&token_type=Bearer")

    @intrusion(NOT_AGREED, ends=True)
    def code_that_is_longer_than_any_provider_s(self, visit):
        return visit.back(code="x" * 5000)

    @intrusion(NOT_AGREED, ends=True)
    def issuer_in_capitals(self, visit):
        return visit.back(iss=visit.provider.issuer.upper())

    @intrusion(NOT_AGREED, ends=True)
    def issuer_that_is_empty(self, visit):
        return visit.back(iss="")

    # --- What the provider finds out

    @intrusion(NOT_MADE, "invalid_grant: code, verifier or redirect_uri", ends=True, sends=1)
    def code_that_belongs_to_another_s_verifier(self, visit):
        stranger = Visit(self, "strangers")
        return visit.browser.back(visit.query(location=stranger.location, state=visit.state))

    @intrusion(NOT_MADE, "invalid_grant", ends=True, sends=1)
    def challenge_that_was_exchanged_on_the_way(self, visit):
        return visit.browser.back(visit.query(location=visit.altered(code_challenge="A" * 43)))

    @intrusion(NOT_MADE, "invalid_grant", ends=True, sends=1)
    def redirect_uri_that_was_exchanged_on_the_way(self, visit):
        return visit.browser.back(visit.query(location=visit.altered(redirect_uri=REDIRECT + "/")))

    @intrusion(NOT_MADE, "invalid_grant", ends=True, sends=1)
    def code_that_was_made_up(self, visit):
        return visit.back(code="evil")

    # --- Browsers

    @intrusion(OTHER_BROWSER)
    def callback_without_a_cookie(self, visit):
        return Browser(self.port).back(visit.query())

    @intrusion(OTHER_BROWSER)
    def callback_in_a_browser_with_an_authorization_of_its_own(self, visit):
        return Visit(self, "strangers").browser.back(visit.query())

    @intrusion(OTHER_BROWSER)
    def cookie_beside_one_that_was_planted(self, visit):
        return visit.with_cookie(f"{COOKIE}={'A' * 43}; {COOKIE}={visit.cookie}")

    @intrusion(OTHER_BROWSER)
    def cookie_by_a_name_that_a_neighbour_may_set(self, visit):
        return visit.with_cookie(f"coffer_oauth={visit.cookie}")

    @intrusion(OTHER_BROWSER)
    def cookie_that_is_truncated(self, visit):
        return visit.with_cookie(f"{COOKIE}={visit.cookie[:-1]}")

    @intrusion(OTHER_BROWSER)
    def answer_before_anybody_pressed_the_button(self, visit):
        started = self.start("strangers")
        visit.browser.open(started["url"])
        state = Visit.asked(started["url"])["state"]
        return visit.browser.back(f"state={state}&code=evil&iss={visit.provider.issuer}")

    @intrusion(UNKNOWN)
    def answer_for_a_platform_s_page_at_ours(self, visit):
        started = self.start("strangers", redirect_uri="https://platform.example/oauth")
        return visit.browser.back(visit.query(location=started["url"]))

    @intrusion((421, ""))
    def page_under_a_stranger_s_name(self, visit):
        return visit.browser.ask("GET", "/oauth/callback?" + visit.query(), Host="evil.example")

    # --- The page where it begins

    @intrusion(UNKNOWN)
    def start_that_nobody_made(self, visit):
        return visit.browser.ask("GET", "/oauth/start?state=" + self.forged(visit.state, random=bytes(32)))

    @intrusion(UNKNOWN)
    def start_that_names_no_authorization(self, visit):
        return visit.browser.ask("GET", "/oauth/start")

    @intrusion(UNKNOWN)
    def start_with_the_uuid_in_the_place_of_the_state(self, visit):
        return visit.browser.ask("GET", "/oauth/start?state=" + visit.started["authorization"]["uid"])

    @intrusion((405, ""))
    def start_that_a_scanner_asks_for_by_head(self, visit):
        return visit.browser.ask("HEAD", f"/oauth/start?state={visit.state}")

    @intrusion((413, ""))
    def start_with_more_behind_its_button_than_a_token(self, visit):
        return visit.browser.ask("POST", f"/oauth/start?state={visit.state}", body="t=" + "x" * 300)

    @intrusion(OTHER_BROWSER)
    def start_whose_button_is_pressed_by_another_site(self, visit):
        return visit.browser.ask("POST", f"/oauth/start?state={visit.state}", body="t=" + "A" * 43, Origin="https://evil.example")

    # --- All of them

    def marked(self, mark):
        return {name: getattr(self, name) for name in dir(type(self)) if hasattr(getattr(type(self), name), mark)}

    def check_page(self, page, visit, run):
        """What every page has, whoever is shown it: nothing of an attacker's, nothing secret, and no frame around it."""
        self.assertEqual((page.status, page.title), run.page, page.text)
        self.assertIn(run.words, page.text)
        for kept in ("<script", "evil", visit.state, visit.cookie, "code-"):
            self.assertNotIn(kept, page.text)
        self.assertEqual((page.headers["Location"], page.headers["Set-Cookie"]), (None, None))
        for name, value in (("X-Frame-Options", "DENY"), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
                            ("Referrer-Policy", "no-referrer")):
            self.assertEqual(page.headers[name], value)
        self.assertRegex(page.headers["Content-Security-Policy"], "default-src 'none'.*frame-ancestors 'none'")

    def check_left(self, visit, run, environment):
        """The authorization has ended without tokens, or whoever began it goes on as if nothing had been."""
        self.assertEqual(len(self.provider.forms), run.sends)
        shown = self.authorization(visit.started)
        self.assertEqual(shown["state"], f"AUTHORIZATION_STATE_{'FAILED' if run.ends else 'PENDING'}")
        self.assertEqual(visit.back().status, 410 if run.ends else 200)
        connection = self.done("GetConnection", environment=environment, connection_class="CONNECTION_CLASS_USER")["connection"]
        self.assertEqual(connection["status"], f"CONNECTION_STATUS_{'CONFIGURED' if run.ends else 'CONNECTED'}")

    def test_every_intrusion_into_somebodys_authorization_is_refused(self):
        Attacks.other, _ = self.new_workspace("other-of-attacks")
        intrusions = self.marked("page")
        self.assertGreaterEqual(len(intrusions), 35)
        for number, (name, run) in enumerate(intrusions.items()):
            with self.subTest(name):
                environment = f"attacked{number}"
                for place in (environment, "strangers"):
                    self.configure(place)
                self.provider.reset()
                visit = Visit(self, environment)
                self.check_page(run(visit), visit, run)
                self.check_left(visit, run, environment)
        log = self.pages.log.read_text()
        for kept in ("evil", "code-", "access-", "refresh-", "<script"):
            self.assertNotIn(kept, log)

    def test_forty_attacks_and_mistakes_are_refused(self):
        attacks = self.marked("refusal")
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

    def configure(self, environment):
        self.done("ConfigureConnection", environment=environment, grant="CONNECTION_GRANT_AUTHORIZATION_CODE",
                  client_id="client", credential={"client_secret": CLIENT_SECRET})

    def test_answer_after_ten_minutes_is_too_late_and_one_before_is_not(self):
        self.configure("late")
        self.provider.reset()
        visits = {ahead: Visit(self, "late") for ahead in (LIFE_S + 1, LIFE_S - 120)}
        platform = self.start("late", redirect_uri="https://platform.example/oauth")
        for (ahead, visit), (page, state) in zip(visits.items(), (((410, "This authorization is over"), "EXPIRED"),
                                                                  ((200, "Acme is connected"), "CONNECTED"))):
            server = self.with_pages(f"ahead{ahead}", LATE, TEST_CLOCK_AHEAD=str(ahead))
            visit.browser.port = port_of(server)
            answer = visit.back()
            self.assertEqual((answer.status, answer.title), page, ahead)
            with self.dev.connect(server.address) as calls:
                shown = self.authorization(visit.started, calls)
                self.assertEqual(shown["state"], f"AUTHORIZATION_STATE_{state}")
                if state == "EXPIRED":
                    self.assertEqual(visit.browser.open(visit.started["url"]).status, 410)
                    late = calls.call(context.CONNECTION + "CompleteAuthorization", {
                        "authorization": platform["authorization"]["uid"], "query": visit.query(location=platform["url"]).encode()},
                        token=self.dev.admin)
                    self.assertEqual(late.reason, "AUTHORIZATION_OVER", late)
                    self.assertEqual(self.provider.forms, [])
            self.dev.extra.remove(server)
            self.assertEqual(server.stop(), 0)

    def test_client_without_a_redirect_uri_comes_back_to_the_server_s_own_page(self):
        self.assertEqual(self.register(redirect_uris=[]).reason, "FIELD_REQUIRED")
        self.host.rude.requests.clear()
        self.done("RegisterClient", provider=self.registers, grant="CONNECTION_GRANT_AUTHORIZATION_CODE")
        request, = self.host.rude.requests
        self.assertEqual(json.loads(request.split(b"\r\n\r\n", 1)[1])["redirect_uris"], [REDIRECT])
        self.assertEqual(self.done("StartAuthorization", provider=self.registers)["redirect_uri"], REDIRECT)

    def test_name_of_this_host_is_refused_by_the_address_that_is_connected_to(self):
        name = socket.gethostname()
        try:
            socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
        except OSError:
            self.skipTest("this host's name stands for nothing")
        self.assertEqual(self.discover(f"https://{name.lower()}").reason, "ADDRESS_REFUSED")

    # --- Names that stand for something else the next time

    @contextlib.contextmanager
    def resolving(self, *addresses):
        """A server for whose DNS a host's name stands for these addresses. It is one more each time, since libcurl remembers
        for a minute what a name stands for."""
        Attacks.servers += 1
        names = self.dev.directory / f"names{self.servers}"
        names.write_text(" ".join((REBINDING, *addresses)) + "\n")
        server = self.with_pages(f"names{self.servers}", CHANGING, TEST_NAMES=str(names),
                                 COFFERD_OUTBOUND__CA_FILE=str(self.rebinding.authority.certificate))
        with self.dev.connect(server.address) as calls:
            yield lambda method, **fields: calls.call(method, fields, token=self.dev.admin, timeout_ms=60000)
        self.dev.extra.remove(server)
        self.assertEqual(server.stop(), 0, server.log.read_text()[-4000:])

    def at_a_public_address(self, call):
        """All that a host may be trusted with as long as its name stands for a public address."""
        site, origin = self.rebinding.site, self.rebinding.origin
        site.json(SERVER, {**self.rebinding.server(origin), **{
            f"{name}_endpoint": f"{origin}/{name}" for name in ("device_authorization", "revocation", "registration")}})
        site.json("token", {"access_token": "a", "refresh_token": "r", "expires_in": 3600})
        provider = call(PROVIDER + "DiscoverProvider", url=origin, kind="DISCOVERY_KIND_ISSUER").message["provider"]["id"]
        for environment, grant in (*((name, "AUTHORIZATION_CODE") for name in REBOUND), ("device", "DEVICE_CODE")):
            configured = call(context.CONNECTION + "ConfigureConnection", provider=provider, environment=environment, client_id="client",
                              grant=f"CONNECTION_GRANT_{grant}", credential={"client_secret": CLIENT_SECRET})
            self.assertEqual(configured.code, 0, configured)
            place = {"provider": provider, "environment": environment}
            if environment in REBOUND:
                call(context.CONNECTION + "SetConnectionTokens", **place, refresh_token=b"r")
        place["environment"] = REBOUND[0]
        refreshed = call(context.CONNECTION + "RefreshConnection", **place, **USER).message
        self.assertEqual(refreshed["result"], "REFRESH_RESULT_REFRESHED", refreshed)
        return place

    def check_nothing_is_asked(self, call, place):
        for kind in ("ISSUER", "MCP_SERVER"):
            found = call(PROVIDER + "DiscoverProvider", url=self.rebinding.origin, kind=f"DISCOVERY_KIND_{kind}")
            self.assertEqual(found.reason, "ADDRESS_REFUSED", kind)
        registered = call(context.CONNECTION + "RegisterClient", provider=place["provider"], grant="CONNECTION_GRANT_AUTHORIZATION_CODE")
        device = call(context.CONNECTION + "StartDeviceAuthorization", **{**place, "environment": "device"})
        self.assertEqual((registered.reason, device.reason), ("ADDRESS_REFUSED", "ADDRESS_REFUSED"))
        refreshed = call(context.CONNECTION + "RefreshConnection", **place, **USER)
        self.assertEqual(refreshed.message["result"], "REFRESH_RESULT_PROVIDER_UNAVAILABLE", refreshed)
        ended = call(context.CONNECTION + "DisconnectConnection", **place, **USER)
        self.assertEqual(ended.message["revocation"], "REVOCATION_FAILED", ended)

    def test_name_that_stands_for_an_inner_address_the_next_time_is_not_asked(self):
        with self.resolving(PUBLIC_ADDRESS) as call:
            place = self.at_a_public_address(call)
            starts = []
            for place["environment"] in REBOUND[1:]:
                starts.append(call(context.CONNECTION + "StartAuthorization", redirect_uri="https://platform.example/", **place).message)
        connections = self.rebinding.rude.connections
        self.assertGreater(connections, 0)
        for addresses, started, place["environment"] in zip((["127.0.0.1"], [GONE_ADDRESS, "127.0.0.1"]), starts, REBOUND[1:]):
            with self.resolving(*addresses) as call:
                query = f"state={Visit.asked(started['url'])['state']}&code=evil"
                completed = call(context.CONNECTION + "CompleteAuthorization", query=query.encode(),
                                 authorization=started["authorization"]["uid"])
                self.assertEqual(completed.reason, "PROVIDER_UNAVAILABLE", completed)
                self.assertIn("its address is not public", completed.text)
                self.check_nothing_is_asked(call, place)
            self.assertEqual(self.rebinding.rude.connections, connections)

    def test_nothing_inner_is_asked_and_no_provider_is_left_behind(self):
        self.says(head(302, f"Location: {self.origin}/inner", "Content-Length: 0"))
        self.assertNotIn("inner", self.host.asked())
        before = self.call(PROVIDER + "ListProviders", {"own_only": True}).message["providers"]
        self.metadata(issuer="https://accounts.example")
        self.assertEqual(self.call(PROVIDER + "ListProviders", {"own_only": True}).message["providers"], before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
