#!/usr/bin/env python3
"""The server's pages in a real Chromium: somebody opens what was started, signs in and consents at a real authorization
server of another make, and comes back. With COFFER_PICTURES=FOLDER the pages are kept there as pictures."""

import base64
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import certificates  # noqa: E402
import cli  # noqa: E402
from chromium import NARROW, WIDE, Chromium  # noqa: E402
from oauth_browser import port_of  # noqa: E402
from real_provider import OidcProvider  # noqa: E402

CONNECTION = context.CONNECTION
NAME = "coffer.example"
PUBLIC = f"https://{NAME}"
TITLE = "Straßen & Söhne <Workbench>"
SECRET = "the client secret 5c0d"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
PICTURES = os.environ.get("COFFER_PICTURES")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class InChromium(context.AccessTest):
    """One browser, one provider, and a server that speaks TLS under its public name."""

    count = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-chromium-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        authority = certificates.Authority(folder / "ca")
        theirs, ours = authority.issue("provider"), authority.issue("server", names=f"DNS:{NAME}")
        cls.plain = f"http://127.0.0.1:{free_port()}"
        cls.provider = OidcProvider(*theirs, cls.clients(), authority.certificate)
        issuer = cls.provider.issuer
        (folder / "providers.yaml").write_text(
            f"providers:\n  - id: workbench\n    name: {TITLE}\n    documentation: https://workbench.example\n"
            f"    issuer: {issuer}\n    sends_issuer: true\n    authorization_endpoint: {issuer}/auth\n"
            f"    token_endpoint: {issuer}/token\n    device_endpoint: {issuer}/device/auth\n"
            "    user: {scopes: [openid, read, write]}\n"
            "    client_authentication: [client_secret_basic]\n")
        cls.SETTINGS = {"COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml"),
                        "COFFERD_OUTBOUND__CA_FILE": str(authority.certificate),
                        "COFFERD_OUTBOUND__ALLOW_PRIVATE": f"localhost:{cls.provider.port}"}
        super().setUpClass()
        cls.server = cls.dev.more("pages", **cls.SETTINGS, **{
            "COFFERD_HTTP__PUBLIC_URL": PUBLIC,
            "COFFERD_TLS__CERTIFICATE": str(ours[0]), "COFFERD_TLS__KEY": str(ours[1]),
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{cls.dev.directory}/pages.sock,wss://127.0.0.1:0/"})
        cls.calls = cls.dev.connect(cls.server.address)
        cls.browser = Chromium({NAME: f"127.0.0.1:{port_of(cls.server, 'wss')}"}, [theirs[0], ours[0]])

    @classmethod
    def clients(cls):
        common = {"client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic", "response_types": ["code"],
                  "grant_types": ["authorization_code", "refresh_token"]}
        return [{"client_id": "coffer", **common, "redirect_uris": [PUBLIC + "/oauth/callback"]},
                {"client_id": "terminal", **common, "application_type": "native",
                 "redirect_uris": ["http://127.0.0.1/callback", cls.plain + "/oauth/callback"]},
                {"client_id": "device", **common, "grant_types": [DEVICE, "refresh_token"], "response_types": [], "redirect_uris": []}]

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.calls.close()
        super().tearDownClass()
        cls.provider.close()
        cls.folder.cleanup()

    def setUp(self):
        InChromium.count += 1
        self.place = {"environment": f"production-of-the-north-{self.count}", "provider": "workbench"}
        self.configure("coffer")

    def configure(self, client, grant="AUTHORIZATION_CODE"):
        self.done("ConfigureConnection", grant=f"CONNECTION_GRANT_{grant}", client_id=client,
                  credential={"client_secret": SECRET.encode()}, **self.place)

    # --- What tests say

    def done(self, method, calls=None, **fields):
        answer = (calls or self.calls).call(CONNECTION + method, fields, token=self.dev.admin, timeout_ms=60000)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def start(self):
        started = self.done("StartAuthorization", **self.place)
        self.assertTrue(started["url"].startswith(PUBLIC + "/oauth/start?state="))
        return started

    def person(self, **looks):
        InChromium.count += 1
        return self.browser.person(f"person {self.count}", **looks)

    def status(self):
        found = self.done("GetConnection", connection_class="CONNECTION_CLASS_USER", **self.place)["connection"]
        return found["status"].removeprefix("CONNECTION_STATUS_")

    def state(self, started):
        found = self.done("GetAuthorization", authorization=started["authorization"]["uid"])["authorization"]
        return found["state"].removeprefix("AUTHORIZATION_STATE_")

    def check_page(self, person, title, *kept):
        """The page that somebody is at: ours, legible everywhere, with nothing on it that is nobody's business."""
        seen = person.look()
        self.assertEqual(seen["title"], title)
        for secret in (SECRET, *kept):
            self.assertNotIn(secret, seen["html"])
        self.assertEqual(seen["complaints"], [])
        own = {urllib.parse.urlsplit(url).netloc for url in (PUBLIC, seen["url"], self.provider.issuer)}
        self.assertLessEqual(set(seen["hosts"]), own)
        self.check_looks(person, title)
        return seen["text"]

    def check_looks(self, person, title):
        for width, scheme in ((NARROW, "dark"), (NARROW, "light"), (WIDE, "dark"), (WIDE, "light")):
            person.resize(width, scheme)
            self.assertFalse(person.look()["sideways"], (title, width))
            if PICTURES:
                person.picture(pathlib.Path(PICTURES) / f"{''.join(filter(str.isalnum, title))}-{width}-{scheme}.png")

    @staticmethod
    def parameter(url, name):
        return urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)[name][0]

    def sign_in(self, person):
        person.fill(login="ann", password="any")
        person.press("Sign-in")

    def leave_for_the_provider(self, person, started):
        self.assertEqual(person.open(started["url"]), 200)
        person.press(f"Continue to {TITLE}")
        self.assertTrue(person.look()["url"].startswith(self.provider.issuer))

    def owner_of(self, token):
        """The person and the client that the provider gave it to."""
        basic = base64.b64encode(f"coffer:{urllib.parse.quote(SECRET)}".encode()).decode()
        _, about = self.provider.post("token/introspection", {"token": token}, {"Authorization": f"Basic {basic}"})
        self.assertTrue(about["active"])
        return about["sub"], about["client_id"]

    # --- Tests

    def test_somebody_connects_by_the_button_a_login_and_a_consent(self):
        started, ann = self.start(), self.person()
        state = self.parameter(started["url"], "state")
        self.assertEqual(ann.open(started["url"]), 200)
        text = self.check_page(ann, f"Connect {TITLE}?", state)
        for shown in ("dev", self.place["environment"], TITLE, "admin", "Go on only if you expected this page"):
            self.assertIn(shown, text)
        ann.press(f"Continue to {TITLE}")
        self.sign_in(ann)
        self.assertEqual(ann.press("Continue"), 200)
        code = self.parameter(ann.look()["url"], "code")
        token = self.access_token()
        text = self.check_page(ann, f"{TITLE} is connected", state, code, token)
        self.assertIn("You can close this page", text)
        self.assertEqual((self.status(), self.state(started)), ("CONNECTED", "CONNECTED"))
        self.assertEqual(self.owner_of(token), ("ann", "coffer"))
        self.assertEqual(ann.open(ann.look()["url"]), 410)

    def test_refused_consent_says_that_nothing_was_changed_and_what_to_do(self):
        started, ann = self.start(), self.person()
        self.leave_for_the_provider(ann, started)
        self.sign_in(ann)
        self.assertEqual(ann.press("[ Cancel ]"), 403)
        text = self.check_page(ann, "The provider did not agree", self.parameter(started["url"], "state"))
        for shown in (TITLE, "Nothing was changed", "The reason: access_denied", "start anew"):
            self.assertIn(shown, text)
        self.assertEqual((self.status(), self.state(started)), ("CONFIGURED", "FAILED"))

    def test_another_browser_gets_nowhere_with_somebody_s_address(self):
        started, ann, bob = self.start(), self.person(), self.person()
        state = self.parameter(started["url"], "state")
        bob.open(started["url"])
        self.leave_for_the_provider(ann, started)
        for press in (lambda: bob.press(f"Continue to {TITLE}"), lambda: bob.open(started["url"]),
                      lambda: bob.open(f"{PUBLIC}/oauth/callback?state={state}&code=stolen&iss={self.provider.issuer}")):
            self.assertEqual(press(), 403)
            self.check_page(bob, "This is not the browser that began", state, "stolen")
        self.assertEqual((self.status(), self.state(started)), ("CONFIGURED", "PENDING"))
        self.sign_in(ann)
        ann.press("Continue")
        self.assertEqual((ann.look()["title"], self.status()), (f"{TITLE} is connected", "CONNECTED"))

    def test_server_on_this_host_needs_no_tls_for_its_pages(self):
        """Another cookie, and a policy that lets the form lead back to http."""
        self.configure("terminal")
        server = self.dev.more("plain", **self.SETTINGS, **{
            "COFFERD_HTTP__PUBLIC_URL": self.plain,
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/plain.sock,ws{self.plain.removeprefix('http')}/"})
        with self.dev.connect(server.address) as calls:
            started, ann = self.done("StartAuthorization", calls=calls, **self.place), self.person()
        self.assertTrue(started["url"].startswith(self.plain + "/oauth/start?state="))
        self.leave_for_the_provider(ann, started)
        self.sign_in(ann)
        self.assertEqual(ann.press("Continue"), 200)
        self.check_page(ann, f"{TITLE} is connected", self.parameter(started["url"], "state"))
        self.assertEqual(self.owner_of(self.access_token()), ("ann", "terminal"))
        self.dev.extra.remove(server)
        self.assertEqual(server.stop(), 0)

    def command(self, *options):
        """`coffer oauth connect`, and how to wait until it has said something on standard error."""
        process = subprocess.Popen([cli.COFFER, "oauth", "connect", "workbench", "-e", self.place["environment"], *options],
                                   env=cli.environment(self.dev, COFFER_ADDR=self.server.address), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def said(self, process, words):
        """What it says up to these words, which are in its last line."""
        shown = ""
        while words not in shown:
            line = process.stderr.readline()
            self.assertTrue(line, shown)
            shown += line
        return shown

    def ends_connected(self, process, client):
        output, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, said)
        self.assertIn("workbench: connected", said)
        self.assertRegex(output, "(?m)^granted +read$")
        self.assertEqual(self.owner_of(self.access_token()), ("ann", client))

    def test_command_line_s_page_on_this_host_ends_what_it_began(self):
        self.configure("terminal")
        process, ann = self.command("--no-browser"), self.person()
        url = self.said(process, "https://").split()[-1]
        ann.open(url)
        self.sign_in(ann)
        self.assertEqual(ann.press("Continue"), 200)
        text = self.check_page(ann, "Connected", self.parameter(url, "state"))
        self.assertIn("go back to the terminal", text)
        self.ends_connected(process, "terminal")

    def test_code_of_a_device_is_typed_at_the_provider(self):
        self.configure("device", "DEVICE_CODE")
        process, ann = self.command("--device"), self.person()
        code = re.search(r"type the code (\S+)", said := self.said(process, "type the code"))[1]
        ann.open(re.search(r"https://\S+", said)[0])
        ann.fill(user_code=code)
        ann.press("Continue")
        ann.press("Continue")
        self.sign_in(ann)
        self.assertEqual(ann.press("Continue"), 200)
        self.ends_connected(process, "device")

    def access_token(self):
        result = self.resolve(self.place["environment"], "workbench_oauth.WORKBENCH_USER_TOKEN")
        return self.value(result, "workbench_oauth", "WORKBENCH_USER_TOKEN").decode()


if __name__ == "__main__":
    unittest.main(verbosity=2)
