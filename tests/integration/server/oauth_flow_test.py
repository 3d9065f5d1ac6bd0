#!/usr/bin/env python3
"""OAuth connections that somebody authorises in a browser: started, shown, passed, come back, exchanged and stored.

The browser is a client of HTTP that keeps cookies; the provider is a script that remembers what it was asked for.
"""

import base64
import hashlib
import http.client
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import certificates  # noqa: E402
import cli  # noqa: E402
from cofferd import BUILD, Relay, wait_for  # noqa: E402
from oauth_browser import CLIENT_SECRET, Browser, Page, Provider, port_of  # noqa: E402
from sp_client import uuid7  # noqa: E402

CONNECTION = context.CONNECTION
PUBLIC = "https://coffer.example"
LOOPBACK = "http://127.0.0.1:4711/back"
FAULTS = "COFFER_FAULTS:BOOL=ON" in (BUILD / "CMakeCache.txt").read_text()


class Flow(context.AccessTest):
    count = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-flow-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        authority = certificates.Authority(folder / "ca")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("provider"))
        cls.provider = Provider(tls)
        (folder / "providers.yaml").write_text("providers:\n" + "".join(
            cls.provider.entry(*facts) for facts in (("acme", "Acme <b>&"), ("quiet", "Quiet", "false", "{refresh_life: 60d}"))))
        cls.settings = {
            "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml"),
            "COFFERD_OUTBOUND__ALLOW_PRIVATE": f"localhost:{cls.provider.server.port}",
            "COFFERD_OUTBOUND__CA_FILE": str(authority.certificate),
            "COFFERD_HTTP__PUBLIC_URL": PUBLIC,
        }
        # The first server has no page of its own; the second one has.
        cls.SETTINGS = {name: value for name, value in cls.settings.items() if name != "COFFERD_HTTP__PUBLIC_URL"}
        super().setUpClass()
        cls.server = cls.with_pages("pages")
        cls.port = port_of(cls.server)

    @classmethod
    def with_pages(cls, name, **settings):
        return cls.dev.more(name, **{
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{cls.dev.directory}/{name}.sock,ws://127.0.0.1:0/", **cls.settings, **settings})

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.provider.server.close()
        cls.folder.cleanup()

    def setUp(self):
        self.provider.reset()
        Flow.count += 1
        self.environment = f"env{self.count}"
        self.calls = self.dev.connect(self.server.address)
        self.addCleanup(self.calls.close)

    # --- What tests say

    def ask_for(self, method, token=None, calls=None, request_id=None, **fields):
        return (calls or self.calls).call(CONNECTION + method, fields, token=token or self.dev.admin, timeout_ms=60000,
                                          request_id=request_id)

    def done(self, method, **fields):
        answer = self.ask_for(method, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def place(self, provider="acme"):
        return {"environment": self.environment, "provider": provider}

    def configure(self, provider="acme", token=None, **fields):
        return self.done("ConfigureConnection", token=token, **{
            "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE", "client_id": "client",
            "credential": {"client_secret": CLIENT_SECRET}, **self.place(provider), **fields})["connection"]

    def start(self, provider="acme", **fields):
        return self.done("StartAuthorization", **{**self.place(provider), **fields})

    def get(self, provider="acme"):
        return self.done("GetConnection", connection_class="CONNECTION_CLASS_USER", **self.place(provider))

    def status(self, provider="acme"):
        return self.get(provider)["connection"]["status"].removeprefix("CONNECTION_STATUS_")

    def state(self, started):
        answer = self.done("GetAuthorization", authorization=started["authorization"]["uid"])
        return answer["authorization"]["state"].removeprefix("AUTHORIZATION_STATE_")

    def failure(self, started):
        answer = self.done("GetAuthorization", authorization=started["authorization"]["uid"])["authorization"]
        return answer["error_reason"], answer["error_text"]

    def browser(self):
        return Browser(self.port)

    def connect(self, provider="acme", **tokens):
        """All of it, by the server's own pages."""
        self.provider.tokens = tokens
        started, browser = self.start(provider), self.browser()
        return browser.back(self.provider.consent(browser.pass_start(started["url"])))

    def value_of(self, provider="acme"):
        result = self.resolve(self.environment, f"{provider}_oauth.{provider.upper()}_USER_TOKEN")
        return self.value(result, f"{provider}_oauth", f"{provider.upper()}_USER_TOKEN").decode()

    # --- The server's own pages

    def test_person_connects_by_the_pages_and_the_token_resolves(self):
        self.configure()
        started, browser = self.start(), self.browser()
        self.assertEqual(started["redirect_uri"], PUBLIC + "/oauth/callback")
        self.assertTrue(started["url"].startswith(PUBLIC + "/oauth/start?state="), started["url"])
        self.assertEqual(started["scopes"], ["read", "write"])
        self.assertEqual((self.status(), self.state(started)), ("CONFIGURED", "PENDING"))
        page = browser.open(started["url"])
        self.assertEqual((page.status, page.title), (200, "Connect Acme &lt;b&gt;&amp;?"))
        for shown in ("dev", self.environment, "Acme &lt;b&gt;&amp;", "admin"):
            self.assertIn(f"<dd>{shown}</dd>", page.text)
        gone = browser.press(started["url"], page)
        self.assertEqual(gone.status, 303)
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(gone.headers["Location"]).query))
        self.assertEqual({name: asked[name] for name in ("response_type", "client_id", "redirect_uri", "scope",
                                                         "code_challenge_method")},
                         {"response_type": "code", "client_id": "client", "redirect_uri": PUBLIC + "/oauth/callback",
                          "scope": "read write", "code_challenge_method": "S256"})
        result = browser.back(self.provider.consent(gone.headers["Location"]))
        self.assertEqual((result.status, result.title), (200, "Acme &lt;b&gt;&amp; is connected"), result.text)
        self.assertEqual((self.status(), self.state(started)), ("CONNECTED", "CONNECTED"))
        self.assertEqual(self.value_of(), "access-1")
        shown = self.get()["connection"]
        self.assertEqual((shown["granted_scopes"], shown["missing_scopes"], shown["has_refresh_token"], bool(shown["connect_time"])),
                         (["read"], ["write"], True, True))
        form, = self.provider.forms
        self.assertEqual((form["grant_type"], form["redirect_uri"]), ("authorization_code", PUBLIC + "/oauth/callback"))
        self.assertRegex(form["code_verifier"], "^[A-Za-z0-9_-]{43}$")

    def test_start_page_never_goes_on_by_itself_and_has_neither_state_nor_code(self):
        self.configure()
        started, browser = self.start(), self.browser()
        state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(started["url"]).query))["state"]
        page = browser.open(started["url"])
        location = browser.press(started["url"], page).headers["Location"]
        query = self.provider.consent(location)
        back = browser.back(query)
        code = dict(urllib.parse.parse_qsl(query))["code"]
        for shown in (page, back, browser.back(query), self.browser().open(started["url"])):
            for secret in (state, code, "authorize?", "access-", "refresh-", "http-equiv", "<script"):
                self.assertNotIn(secret, shown.text)
            self.assertNotIn("Location", shown.headers)
            self.assertNotIn("Refresh", shown.headers)
        log = self.server.log.read_text()
        for secret in (state, code, self.provider.forms[0]["code_verifier"], "access-1", "refresh-1"):
            self.assertNotIn(secret, log)

    def test_pages_are_for_no_frame_cache_script_or_other_site(self):
        self.configure()
        page = self.browser().open(self.start()["url"])
        for name, value in (("X-Frame-Options", "DENY"), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"),
                            ("X-Content-Type-Options", "nosniff")):
            self.assertEqual(page.headers[name], value)
        style = re.search(r"<style>(.*?)</style>", page.text)[1]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = page.headers["Content-Security-Policy"].split("; ")
        self.assertEqual(policy, ["default-src 'none'", f"style-src 'sha256-{digest}'", "form-action 'self' https:",
                                  "frame-ancestors 'none'", "base-uri 'none'"])
        self.assertRegex(page.headers["Set-Cookie"], "^__Host-coffer_oauth=[A-Za-z0-9_-]{43}; Path=/; Max-Age=1200; HttpOnly; "
                                                     "SameSite=Lax; Secure$")
        self.assertIn('name="viewport"', page.text)
        self.assertLess(len(page.text), 8192)

    def test_cookie_of_another_browser_gets_nowhere_and_uses_nothing_up(self):
        self.configure()
        started, browser, other = self.start(), self.browser(), self.browser()
        page = other.open(started["url"])
        location = browser.pass_start(started["url"])
        self.assertEqual(other.press(started["url"], page).title, "This is not the browser that began")
        self.assertEqual(other.open(started["url"]).status, 403)
        query = self.provider.consent(location)
        for stranger in (other, self.browser()):
            self.assertEqual(stranger.back(query).title, "This is not the browser that began")
        self.assertEqual((self.state(started), self.provider.forms), ("PENDING", []))
        self.assertEqual(browser.back(query).status, 200)
        self.assertEqual(self.status(), "CONNECTED")

    def test_button_wants_the_cookie_and_the_token_of_its_own_page(self):
        self.configure()
        first, second, browser = self.start(), self.start(), self.browser()
        page, other = browser.open(first["url"]), browser.open(second["url"])
        self.assertEqual(browser.press(first["url"], other).status, 403)
        self.assertEqual(self.browser().press(first["url"], page).status, 403)
        parts = urllib.parse.urlsplit(first["url"])
        for body in ("", "t=", "t=" + "A" * 43, "x=1"):
            self.assertEqual(browser.ask("POST", f"{parts.path}?{parts.query}", body=body).status, 403)
        self.assertEqual(browser.press(first["url"], page).status, 303)
        self.assertEqual(browser.press(second["url"], other).status, 303)

    def test_answer_that_came_once_counts_once(self):
        self.configure()
        started, browser = self.start(), self.browser()
        query = self.provider.consent(browser.pass_start(started["url"]))
        self.assertEqual(browser.back(query).status, 200)
        again = browser.back(query)
        self.assertEqual((again.status, again.title), (410, "This authorization is over"))
        self.assertEqual(browser.open(started["url"]).status, 410)
        self.assertEqual((len(self.provider.forms), self.status()), (1, "CONNECTED"))

    def test_many_answers_at_once_are_exchanged_once(self):
        self.configure()
        started, browser = self.start(), self.browser()
        query = self.provider.consent(browser.pass_start(started["url"]))
        titles = []
        threads = [threading.Thread(target=lambda: titles.append(browser.back(query).status)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(titles), [200] + [410] * 7)
        self.assertEqual(len(self.provider.forms), 1)

    def test_what_is_over_after_ten_minutes_is_told_as_expired(self):
        self.configure()
        started, browser = self.start(), self.browser()
        left = started["authorization"]["expire_time"]["seconds"] - self.now_ms() / 1000
        self.assertTrue(590 < left <= 600, left)
        location = browser.pass_start(started["url"])
        uid = started["authorization"]["uid"]
        sealed = self.sql(f"select sealed from connection_authorization where authorization_id = '{uid}'")
        # What is sealed says when it ends: a row that was edited is no start at all.
        self.sql("update connection_authorization set expire_time = expire_time + interval '1 hour'"
                 f" where authorization_id = '{uid}'")
        self.assertEqual(browser.back(self.provider.consent(location)).status, 404)
        self.sql("update connection_authorization set expire_time = now() - interval '1 second'"
                 f" where authorization_id = '{uid}'")
        self.assertEqual(browser.back(self.provider.consent(location)).status, 404)
        self.assertTrue(sealed)
        self.assertEqual(self.provider.forms, [])

    def test_wrong_issuer_is_a_mix_up_and_nothing_is_sent(self):
        self.configure()
        for iss, words in ((f"{self.provider.issuer}/", "another authorization server"), (None, "did not say which")):
            started, browser = self.start(), self.browser()
            page = browser.back(self.provider.consent(browser.pass_start(started["url"]), iss=iss))
            self.assertEqual((page.status, page.title), (403, "The provider did not agree"))
            reason, text = self.failure(started)
            self.assertEqual(reason, "AUTHORIZATION_REFUSED")
            self.assertIn(words, text)
        self.assertEqual((self.provider.forms, self.status()), ([], "CONFIGURED"))
        # One that does not announce it need not send it.
        self.configure("quiet")
        started, browser = self.start("quiet"), self.browser()
        page = browser.back(self.provider.consent(browser.pass_start(started["url"]), iss=None))
        self.assertEqual(page.status, 200)

    def test_what_the_provider_says_no_with_is_shown_and_changes_nothing(self):
        self.configure()
        started, browser = self.start(), self.browser()
        query = self.provider.consent(browser.pass_start(started["url"]), code=None, error="access_denied",
                                      error_description="Ann said <no>")
        page = browser.back(query)
        self.assertEqual((page.status, page.title), (403, "The provider did not agree"))
        self.assertIn("access_denied: Ann said &lt;no&gt;", page.text)
        self.assertEqual(self.failure(started), ("AUTHORIZATION_REFUSED", "access_denied: Ann said <no>"))
        self.assertEqual((self.state(started), self.status()), ("FAILED", "CONFIGURED"))

    def test_malformed_and_made_up_returns_get_a_page_that_says_what_to_do(self):
        self.configure()
        started, browser = self.start(), self.browser()
        state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(browser.pass_start(started["url"])).query))["state"]
        other = state[:40] + ("B" if state[40] == "A" else "A") + state[41:]
        made_up = base64.urlsafe_b64encode(b"\1" + bytes(48)).decode().rstrip("=")
        for query in ("", "state=", "state=x&code=y", f"state={state}&state={state}&code=a", f"state={made_up}&code=a",
                      f"state={other}&code=a", "%zz", f"state={state}&code=%00"):
            page = browser.back(query)
            self.assertEqual((page.status, page.title), (404, "There is no such authorization"), query)
        self.assertEqual(browser.back(f"state={state}&iss={self.provider.issuer}").status, 403)
        self.assertEqual(browser.ask("HEAD", "/oauth/callback?state=x").status, 405)
        self.assertEqual(browser.ask("POST", "/oauth/callback?state=x").status, 405)
        self.assertEqual(self.provider.forms, [])

    def test_exchange_that_fails_tells_the_provider_s_words_and_keeps_what_there_was(self):
        self.configure()
        self.assertEqual(self.connect().status, 200)
        before = self.get()["connection"]["token_generation"]
        for says, reason, words in (
                (Provider.whole({"error": "invalid_grant", "error_description": "redirect_uri_mismatch"}, 400),
                 "AUTHORIZATION_REFUSED", "invalid_grant: redirect_uri_mismatch"),
                (Provider.whole({"error": "invalid_client"}, 401), "AUTHORIZATION_REFUSED", "invalid_client"),
                (Provider.whole({}, 500), "PROVIDER_UNAVAILABLE", "")):
            self.provider.says = says
            started, browser = self.start(), self.browser()
            page = browser.back(self.provider.consent(browser.pass_start(started["url"])))
            self.assertEqual((page.status, page.title), (502, "The connection was not made"))
            self.assertIn(words, page.text)
            found = self.failure(started)
            self.assertEqual(found[0], reason)
            self.assertIn(words, found[1])
        self.provider.says = None
        self.assertEqual((self.status(), self.get()["connection"]["token_generation"]), ("CONNECTED", before))
        self.assertEqual(self.value_of(), "access-1")

    # --- Reconnecting

    def test_reconnecting_keeps_the_refresh_token_if_none_is_sent_and_the_old_tokens_until_then(self):
        self.configure()
        self.connect()
        started, browser = self.start(), self.browser()
        location = browser.pass_start(started["url"])
        self.assertEqual((self.status(), self.value_of()), ("CONNECTED", "access-1"))
        self.provider.says = Provider.whole({"access_token": "access-next", "expires_in": 1})
        self.assertEqual(browser.back(self.provider.consent(location)).status, 200)
        self.assertEqual(self.get()["connection"]["has_refresh_token"], True)
        self.provider.says = Provider.whole({"access_token": "refreshed", "expires_in": 3600})
        wait_for(lambda: self.value_of() == "refreshed", "the old refresh token is used")
        self.assertEqual(self.provider.forms[-1]["refresh_token"], "refresh-1")

    def test_connection_that_wanted_a_person_is_connected_again(self):
        self.configure()
        self.provider.says = Provider.whole({"access_token": "short", "refresh_token": "dead", "expires_in": 1})
        self.connect()
        self.provider.says = Provider.whole({"error": "invalid_grant"}, 400)
        wait_for(lambda: (self.resolve(self.environment, "acme_oauth.ACME_USER_TOKEN"), self.status())[1]
                 == "REAUTH_REQUIRED", "the grant is refused")
        self.provider.says = None
        self.assertEqual(self.connect().status, 200)
        self.assertEqual(self.status(), "CONNECTED")
        self.assertRegex(self.value_of(), "^access-")

    def ends_in(self, days, provider="acme"):
        """Whether the connection's refresh token is known to end about then, and what is said of it."""
        shown = self.get(provider)["connection"]
        left = shown["refresh_expire_time"]["seconds"] - self.now_ms() / 1000
        self.assertTrue(abs(left - days * 86400) < 600, left)
        self.assertEqual(shown["status"], "CONNECTION_STATUS_CONNECTED")
        return shown["status_message"]

    def test_end_of_the_refresh_token_is_known_and_told_a_week_before(self):
        self.configure()
        self.configure("quiet")
        self.connect(refresh_token_expires_in=90 * 86400)
        self.assertEqual(self.ends_in(90), "")
        self.connect(refresh_token_expires_in=6 * 86400, expires_in=1)
        self.assertIn("ends within a week; connect it anew", self.ends_in(6))
        environment = cli.environment(self.dev, COFFER_ADDR=self.server.address)
        self.assertRegex(cli.run(environment, "oauth", "list", "-e", self.environment)[1].decode(),
                         r"(?m)^acme\t.*\trefresh token ends 20\S+Z$")
        self.assertIn(b"ends within a week", cli.run(environment, "oauth", "show", "acme", "-e", self.environment)[1])
        # A refresh that brings no new refresh token leaves the end as it is; one that does begins anew.
        for answer, days in (({}, 6), ({"refresh_token": "next", "refresh_expires_in": 30 * 86400}, 30)):
            self.provider.says = Provider.whole({"access_token": f"after-{days}", "expires_in": 1, **answer})
            wait_for(lambda: self.value_of() == f"after-{days}", "the token is refreshed")
            self.ends_in(days)
        # What the answer does not tell, the provider's entry does.
        self.provider.says = None
        self.connect("quiet")
        self.assertEqual(self.ends_in(60, "quiet"), "")
        self.connect("quiet", refresh_expires_in=0)
        self.assertIsNone(self.get("quiet")["connection"]["refresh_expire_time"])

    def test_whoever_writes_tokens_during_the_exchange_wins(self):
        self.configure()
        self.connect()
        for write, left in ((lambda: self.done("DisconnectConnection", connection_class="CONNECTION_CLASS_USER", **self.place()),
                             "CONFIGURED"),
                            (lambda: self.done("SetConnectionTokens", access_token=b"by-hand", **self.place()), "CONNECTED")):
            started, browser = self.start(), self.browser()
            query = self.provider.consent(browser.pass_start(started["url"]))
            asked = len(self.provider.forms)
            self.provider.open.clear()
            pages = []
            thread = threading.Thread(target=lambda: pages.append(browser.back(query)))
            thread.start()
            wait_for(lambda: len(self.provider.forms) > asked, "the code is sent")
            self.assertEqual(self.state(started), "EXCHANGING")
            write()
            self.provider.open.set()
            thread.join()
            self.assertEqual((pages[0].status, self.failure(started)[0]), (502, "AUTHORIZATION_REFUSED"))
            self.assertEqual(self.status(), left)

    def test_start_is_worth_nothing_once_the_configuration_has_changed(self):
        for change in ({"client_id": "another"}, None):
            self.configure()
            started, browser = self.start(), self.browser()
            location = browser.pass_start(started["url"])
            if change:
                self.configure(**change)
            else:
                self.done("DeleteConnection", connection_class="CONNECTION_CLASS_USER", **self.place())
            page = browser.back(self.provider.consent(location))
            self.assertEqual((page.status, page.title), (409, "The connection has changed meanwhile"))
        self.assertEqual(self.provider.forms, [])

    # --- The platform's own page

    def complete(self, started, query, **options):
        return self.ask_for("CompleteAuthorization", authorization=started["authorization"]["uid"], query=query.encode(),
                            **options)

    def test_platform_s_page_completes_what_it_started(self):
        self.configure()
        started = self.start(redirect_uri="https://platform.example/oauth?x=1")
        self.assertTrue(started["url"].startswith(self.provider.issuer + "/authorize?"), started["url"])
        query = self.provider.consent(started["url"])
        answer = self.complete(started, query)
        self.assertEqual(answer.code, 0, answer)
        self.assertEqual(answer.message["authorization"]["state"], "AUTHORIZATION_STATE_CONNECTED")
        self.assertEqual(answer.message["connection"]["status"], "CONNECTION_STATUS_CONNECTED")
        self.assertEqual(self.provider.forms[0]["redirect_uri"], "https://platform.example/oauth?x=1")
        self.assertEqual(self.complete(started, query).reason, "AUTHORIZATION_OVER")
        self.assertEqual(self.browser().back(query).status, 410)

    def test_only_the_account_that_started_completes(self):
        self.configure()
        started = self.start(redirect_uri=LOOPBACK)
        query = self.provider.consent(started["url"])
        rules = [{"permissions": ["connection:write", "connection:read"]}]
        self.assertEqual(self.complete(started, query, token=self.token_for(rules)).reason, "PERMISSION_DENIED")
        elsewhere = [{"permissions": ["connection:write", "connection:read"], "environments": ["elsewhere"]}]
        stranger = self.token_for(elsewhere)
        self.assertEqual(self.complete(started, query, token=stranger).reason, "AUTHORIZATION_NOT_FOUND")
        self.assertEqual(self.ask_for("GetAuthorization", token=stranger, authorization=started["authorization"]["uid"]).reason,
                         "AUTHORIZATION_NOT_FOUND")
        self.assertEqual(self.complete(started, query).code, 0)

    def test_completion_wants_this_start_s_state_and_uses_nothing_up_otherwise(self):
        self.configure()
        started, other = self.start(redirect_uri=LOOPBACK), self.start(redirect_uri=LOOPBACK)
        query = self.provider.consent(started["url"])
        for wrong, reason in ((self.provider.consent(other["url"]), "AUTHORIZATION_REFUSED"),
                              (query + "&state=x", "FIELD_INVALID"), ("code=x", "AUTHORIZATION_REFUSED"),
                              ("", "AUTHORIZATION_REFUSED")):
            self.assertEqual(self.complete(started, wrong).reason, reason, wrong)
        self.assertEqual(self.complete(self.start(), query).reason, "AUTHORIZATION_REFUSED")
        self.assertEqual(self.complete(started, query).code, 0)
        refused = self.start(redirect_uri=LOOPBACK)
        answer = self.complete(refused, self.provider.consent(refused["url"], code=None, error="access_denied"))
        self.assertEqual(answer.reason, "AUTHORIZATION_REFUSED")
        self.assertIn("access_denied", answer.text)

    def test_repeated_completion_gets_the_same_answer_and_sends_no_second_code(self):
        self.configure()
        started = self.start(redirect_uri=LOOPBACK)
        query = self.provider.consent(started["url"])
        request = uuid7()
        answers = [self.complete(started, query, request_id=request) for _ in range(2)]
        self.assertEqual([answer.code for answer in answers], [0, 0], answers)
        self.assertEqual(len(self.provider.forms), 1)

    def test_redirect_uris_are_https_or_loopback_and_nothing_else(self):
        self.configure()
        for uri in ("https://a.example/b", "http://127.0.0.1/", "http://127.0.0.1:80/x?y=z", "http://[::1]:5/", "http://localhost:1"):
            self.assertEqual(self.start(redirect_uri=uri)["redirect_uri"], uri)
        for uri in ("http://a.example/", "https://", "https:///x", "https://u@a.example/", "https://a.example/#f", "ftp://a/",
                    "javascript:alert(1)", "http://127.0.0.1.evil.example/", "http://localhost@evil.example/", "https://a b/",
                    "https://a.example/\u00e9", "https://a.example/" + "x" * 1024, "x"):
            answer = self.ask_for("StartAuthorization", redirect_uri=uri, **self.place())
            self.assertEqual((answer.reason, answer.code), ("FIELD_INVALID", 3), uri)

    # --- Limits, rights, tenants

    def test_start_needs_a_configured_connection_of_this_grant_and_a_page(self):
        self.assertEqual(self.ask_for("StartAuthorization", **self.place()).reason, "CONNECTION_NOT_FOUND")
        self.done("ConfigureConnection", grant="CONNECTION_GRANT_REFRESH_TOKEN", client_id="client",
                  credential={"client_secret": CLIENT_SECRET}, **self.place())
        answer = self.ask_for("StartAuthorization", **self.place())
        self.assertEqual(answer.reason, "FIELD_INVALID")
        self.assertIn("AUTHORIZATION_CODE", answer.text)
        self.configure()
        uid = self.get()["connection"]["uid"]
        self.assertEqual(self.ask_for("StartAuthorization", expected_uid=self.dev.workspace, **self.place()).reason, "UID_MISMATCH")
        self.start(expected_uid=uid)
        answer = self.ask_for("StartAuthorization", calls=self.connection, **self.place())
        self.assertEqual((answer.reason, answer.code), ("FIELD_REQUIRED", 3), answer)
        self.assertIn("http.public_url", answer.text)

    def test_pending_starts_of_a_workspace_are_limited_and_listed(self):
        workspace, admin = self.new_workspace("many-starts")
        server = self.with_pages("limited", COFFERD_LIMITS__AUTHORIZATIONS="3")
        with self.dev.connect(server.address) as calls:
            self.configure(token=admin)
            for _ in range(3):
                self.done("StartAuthorization", token=admin, calls=calls, **self.place())
            answer = self.ask_for("StartAuthorization", token=admin, calls=calls, **self.place())
            self.assertEqual(answer.reason, "LIMIT_EXCEEDED", answer)
        self.assertEqual(server.stop(), 0)
        self.dev.extra.remove(server)
        self.assertEqual(self.sql(f"select count(*) from connection_authorization where workspace_id = '{workspace}'"), "3")

    def test_pending_starts_are_shown_with_who_and_until_when(self):
        self.configure()
        self.configure("quiet")
        name, answer = self.account([{"permissions": ["connection:read", "connection:write"]}])
        self.assertEqual(answer.code, 0, answer)
        mine, browser = self.start(), self.browser()
        theirs = self.start(token=self.issue(name).message["secret_text"])
        self.assertEqual((mine["authorization"]["account"], theirs["authorization"]["account"]), ("admin", name))
        listed = {c["provider"]: c["pending_authorizations"] for c in self.done(
            "ListConnections", environments=[self.environment])["connections"]}
        self.assertEqual([(a["uid"], a["account"], a["expire_time"]) for a in listed["acme"]],
                         [(s["authorization"]["uid"], who, s["authorization"]["expire_time"])
                          for s, who in ((theirs, name), (mine, "admin"))])
        self.assertEqual(listed["quiet"], [])
        environment = cli.environment(self.dev, COFFER_ADDR=self.server.address)
        _, shown, _ = cli.run(environment, "oauth", "list", "-e", self.environment)
        self.assertRegex(shown.decode(), rf"(?m)^acme\t.*\t{name} connects it, ends 20\S+Z$")
        self.assertRegex(shown.decode(), r"(?m)^quiet\t.*\t-$")
        _, shown, _ = cli.run(environment, "oauth", "show", "acme", "-e", self.environment)
        self.assertRegex(shown.decode(), rf"(?m)^authorization +PENDING, started 20\S+Z by {name}, ends 20\S+Z$")
        # Nothing is pending once it has ended.
        for started in mine, theirs:
            self.assertEqual(browser.back(self.provider.consent(browser.pass_start(started["url"]))).status, 200)
        listed = self.done("ListConnections", environments=[self.environment], provider="acme")["connections"]
        self.assertEqual([c["pending_authorizations"] for c in listed], [[]])

    def test_rights_are_asked_for_and_no_tenant_sees_another_s_start(self):
        self.configure()
        started = self.start(redirect_uri=LOOPBACK)
        reader = self.token_for([{"permissions": ["connection:read"]}])
        self.assertEqual(self.ask_for("StartAuthorization", token=reader, **self.place()).reason, "PERMISSION_DENIED")
        one = self.token_for([{"permissions": ["connection:write"], "environments": [self.environment]}])
        answer = self.ask_for("StartAuthorization", token=one, provider="acme", all_environments=True)
        self.assertEqual(answer.reason, "PERMISSION_DENIED")
        _, admin = self.new_workspace("tenant-of-starts")
        query = self.provider.consent(started["url"])
        self.assertEqual(self.complete(started, query, token=admin).reason, "AUTHORIZATION_NOT_FOUND")
        self.assertEqual(self.state(started), "PENDING")
        self.assertEqual([a["uid"] for a in self.get()["authorizations"]], [started["authorization"]["uid"]])

    def test_account_that_was_disabled_meanwhile_connects_nothing(self):
        self.configure()
        name, answer = self.account([{"permissions": ["connection:write", "connection:read"]}])
        self.assertEqual(answer.code, 0, answer)
        token = self.issue(name).message["secret_text"]
        started, browser = self.start(token=token), self.browser()
        location = browser.pass_start(started["url"])
        self.assertEqual(self.update_account(name, disabled=True).code, 0)
        self.assertEqual(browser.back(self.provider.consent(location)).status, 409)
        self.assertEqual((self.status(), self.provider.forms), ("CONFIGURED", []))

    def losses(self):
        """What somebody can lose between a start and its end, and how he is answered from then on, with another token of his
        account as well."""
        everywhere = {"permissions": ["connection:read", "connection:write", "connection:manage_all"]}
        here = {**everywhere, "environments": [self.environment]}
        return (("his token", lambda name, uid: self.call(context.TOKEN + "RevokeToken", {"token_uid": uid}), "AUTHORIZATION_REFUSED"),
                ("the permission", lambda name, uid: self.update_account(name, grants=[{"permissions": ["connection:read"]}]),
                 "PERMISSION_DENIED"),
                ("other environments", lambda name, uid: self.update_account(name, grants=[here]), "PERMISSION_DENIED"),
                ("his account", lambda name, uid: self.delete_account(name), "TOKEN_INVALID"))

    def test_who_may_no_longer_connect_ends_nothing_that_he_started(self):
        self.configure(environment="", all_environments=True)
        for lost, lose, reason in self.losses():
            name, answer = self.account([{"permissions": ["connection:read", "connection:write", "connection:manage_all"]}])
            self.assertEqual(answer.code, 0, answer)
            first, second = (self.issue(name).message for _ in range(2))
            everywhere = {"provider": "acme", "all_environments": True, "token": first["secret_text"]}
            started, browser = self.done("StartAuthorization", **everywhere), self.browser()
            location = browser.pass_start(started["url"])
            platform = self.done("StartAuthorization", redirect_uri=LOOPBACK, **everywhere)
            self.assertEqual(lose(name, first["token"]["uid"]).code, 0, lost)
            for page in browser.open(started["url"]), browser.back(self.provider.consent(location)):
                self.assertEqual((page.status, page.title), (409, "The connection has changed meanwhile"), lost)
            completed = self.complete(platform, self.provider.consent(platform["url"]), token=second["secret_text"])
            self.assertEqual(completed.reason, reason, lost)
        shown = self.done("GetConnection", connection_class="CONNECTION_CLASS_USER", provider="acme", all_environments=True)
        self.assertEqual((shown["connection"]["status"], self.provider.forms), ("CONNECTION_STATUS_CONFIGURED", []))

    def test_edited_rows_are_no_starts(self):
        self.configure()
        self.configure("quiet")
        other = self.get("quiet")["connection"]["uid"]
        for change in (f"connection_id = '{other}'", "principal_id = connection_id", "state_hash = sha256('x')", "flow = 2",
                       "sealed = substring(sealed from 2)", "sealed = ''", "state = 4"):
            started, browser = self.start(), self.browser()
            location = browser.pass_start(started["url"])
            self.sql(f"update connection_authorization set {change} where authorization_id = '{started['authorization']['uid']}'")
            self.assertIn(browser.back(self.provider.consent(location)).status, (404, 410), change)
        self.assertEqual((self.provider.forms, self.status()), ([], "CONFIGURED"))

    # --- The command line

    def command(self, *options):
        """`coffer oauth connect`, and the URL that it shows."""
        process = subprocess.Popen([cli.COFFER, "oauth", "connect", "acme", "-e", self.environment, "--no-browser", *options],
                                   env=cli.environment(self.dev, COFFER_ADDR=self.server.address), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        shown = ""
        while "has to be registered" not in shown:
            line = process.stderr.readline()
            self.assertTrue(line, shown)
            shown += line
        url, uri = re.search(r"  (https://\S+)\n\nThe provider sends it back to (\S+),", shown).groups()
        if not options:
            self.assertEqual(uri, dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))["redirect_uri"])
        return process, url

    @staticmethod
    def local(uri, query):
        """What a browser is shown at the listener of the command."""
        parts = urllib.parse.urlsplit(uri)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request("GET", f"{parts.path}?{query}")
        page = Page(connection.getresponse())
        connection.close()
        return page

    def test_command_line_connects_by_a_page_on_this_host(self):
        self.configure()
        process, url = self.command()
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        self.assertRegex(asked["redirect_uri"], r"^http://127\.0\.0\.1:\d+/callback$")
        self.assertEqual(self.local(asked["redirect_uri"], "state=somebody-else-s&code=x").status, 404)
        page = self.local(asked["redirect_uri"], self.provider.consent(url))
        self.assertEqual((page.status, page.title), (200, "Connected"))
        output, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, said)
        self.assertRegex(output, r"(?m)^provider +acme\n(.*\n)*granted +read\nnot granted +write$")
        self.assertIn("acme: connected", said)
        self.assertEqual(self.value_of(), "access-1")
        for secret in ("access-1", "refresh-1", "code-"):
            self.assertNotIn(secret, output + said)

    def test_command_line_opens_the_browser_that_is_named(self):
        self.configure()
        opened, script = self.dev.directory / "opened", self.dev.directory / "browser"
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{opened}.new && mv {opened}.new {opened}\n')
        script.chmod(0o700)
        process = subprocess.Popen([cli.COFFER, "oauth", "connect", "acme", "-e", self.environment], stdin=subprocess.DEVNULL,
                                   env=cli.environment(self.dev, COFFER_ADDR=self.server.address, BROWSER=str(script)),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        wait_for(opened.exists, "the browser opens")
        url, = opened.read_text().splitlines()
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        self.assertEqual(self.local(asked["redirect_uri"], self.provider.consent(url)).title, "Connected")
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, said)
        self.assertIn("A browser opens", said)

    def test_redirect_uri_to_register_is_shown_before_and_after_the_client_is_configured(self):
        environment = cli.environment(self.dev, COFFER_ADDR=self.server.address)
        _, before, _ = cli.run(environment, "oauth", "show", "acme", "-e", self.environment)
        _, configured, _ = cli.run(environment, "oauth", "configure", "acme", "CLIENT_SECRET=-", "--client-id", "client", "-e",
                                   self.environment, stdin=CLIENT_SECRET)
        _, after, _ = cli.run(environment, "oauth", "show", "acme", "-e", self.environment)
        for shown in before, configured, after:
            self.assertRegex(shown.decode(), rf"(?m)^redirect URI +{PUBLIC}/oauth/callback$")
            self.assertRegex(shown.decode(), r"(?m)^redirect URI +http://127\.0\.0\.1:PORT/callback for")
        _, service, _ = cli.run(environment, "oauth", "show", "github", "-e", self.environment, "--type", "service")
        self.assertNotIn(b"redirect URI", service)

    def test_command_line_names_the_redirect_uri_where_the_provider_refuses_it(self):
        self.configure()
        self.provider.says = Provider.whole({"error": "invalid_grant", "error_description": "redirect_uri_mismatch"}, 400)
        process, url = self.command()
        uri = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))["redirect_uri"]
        self.assertEqual(self.local(uri, self.provider.consent(url)).title, "Not connected")
        _, said = process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("redirect_uri_mismatch", said)
        self.assertIn(f"registered at the provider with the redirect URI {uri}", said)

    def test_command_line_waits_for_the_server_s_own_page(self):
        self.configure()
        process, url = self.command("--page")
        self.assertTrue(url.startswith(PUBLIC), url)
        browser = self.browser()
        self.assertEqual(browser.back(self.provider.consent(browser.pass_start(url))).status, 200)
        output, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, said)
        self.assertIn("acme", output)

    # --- Never lost

    @unittest.skipUnless(FAULTS, "the server was built without fault points")
    def test_answer_that_is_in_the_journal_is_stored_when_the_server_starts_again(self):
        self.configure()
        broken = self.with_pages("killed", COFFER_FAULT="authorization.after_journal:exit")
        browser = Browser(port_of(broken))
        started = self.start()
        query = self.provider.consent(browser.pass_start(started["url"]))
        with self.assertRaises((OSError, http.client.HTTPException)):
            browser.back(query)
        broken.process.wait(60)
        self.dev.extra.remove(broken)
        broken.output.close()
        self.assertEqual((self.status(), self.state(started)), ("CONFIGURED", "EXCHANGING"))
        again = self.with_pages("killed")
        wait_for(lambda: self.status() == "CONNECTED", "the tokens are stored")
        self.assertEqual((self.state(started), self.value_of(), len(self.provider.forms)), ("CONNECTED", "access-1", 1))
        self.assertEqual(again.stop(), 0)
        self.dev.extra.remove(again)

    @unittest.skipUnless(FAULTS, "the server was built without fault points")
    def test_server_that_ends_before_the_answer_leaves_a_start_that_fails_and_sends_no_second_code(self):
        self.configure()
        broken = self.with_pages("lost", COFFER_FAULT="authorization.before_journal:exit")
        browser = Browser(port_of(broken))
        started = self.start()
        query = self.provider.consent(browser.pass_start(started["url"]))
        with self.assertRaises((OSError, http.client.HTTPException)):
            browser.back(query)
        broken.process.wait(60)
        self.dev.extra.remove(broken)
        broken.output.close()
        self.assertEqual(self.state(started), "EXCHANGING")
        self.sql("update connection_authorization set change_time = change_time - interval '3 minutes'"
                 f" where authorization_id = '{started['authorization']['uid']}'")
        self.assertEqual(self.state(started), "FAILED")
        self.assertIn("start anew", self.failure(started)[1])
        self.assertEqual(self.browser().back(query).status, 410)
        self.assertEqual(len(self.provider.forms), 1)

    def test_tokens_that_arrive_while_the_database_is_away_are_stored_when_it_is_back(self):
        self.configure()
        started = self.start()
        with Relay(self.dev.directory) as relay:
            server = self.with_pages("cut", COFFERD_DATABASE__CONNINFO=(
                f"host={relay.directory} user=coffer dbname=postgres"))
            browser = Browser(port_of(server))
            query = self.provider.consent(browser.pass_start(started["url"]))
            self.provider.open.clear()
            pages = []
            thread = threading.Thread(target=lambda: pages.append(browser.back(query)))
            thread.start()
            wait_for(lambda: self.provider.forms, "the code is sent")
            relay.cut()
            self.provider.open.set()
            journal = self.dev.directory / "cut.state" / "refresh"
            wait_for(lambda: sum(p.stat().st_size for p in journal.iterdir()) > 200, "the answer is in the journal")
            relay.restore()
            wait_for(lambda: self.status() == "CONNECTED", "the tokens are stored")
            thread.join()
            self.assertIn(pages[0].status, (200, 202))
            self.assertEqual(server.stop(), 0)
            self.dev.extra.remove(server)
        self.assertEqual((self.value_of(), len(self.provider.forms)), ("access-1", 1))


if __name__ == "__main__":
    unittest.main()
