"""A real browser: Debian's Chromium without a window, driven by playwright-core (tests/support/chromium/browser.mjs)."""

import base64
import hashlib
import json
import os
import shutil
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cofferd import PATIENCE, ROOT
from real_provider import node

MODULES = ROOT / "build" / "tools" / "chromium"
NARROW, WIDE = 375, 1280  # a telephone, a desk


def key_pin(certificate):
    """What Chromium knows a server's key by."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = found.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


class Chromium:
    """One browser. It finds the hosts of `names` where they say, and localhost, and no other; it believes the certificates."""

    def __init__(self, names, certificates):
        program = shutil.which("chromium-headless-shell")
        if program is None or not (MODULES / "node_modules").exists():
            raise RuntimeError("Chromium or playwright-core is not there; run .ci/deps test")
        source = ROOT / "tests" / "support" / "chromium" / "browser.mjs"
        self.process = subprocess.Popen([node(), source, MODULES], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        rules = [*(f"MAP {name} {place}" for name, place in names.items()), "MAP * ~NOTFOUND", "EXCLUDE localhost",
                 "EXCLUDE 127.0.0.1"]
        args = ["--host-resolver-rules=" + ", ".join(rules), "--disable-dev-shm-usage",
                "--ignore-certificate-errors-spki-list=" + ",".join(key_pin(c) for c in certificates)]
        if os.geteuid() == 0:
            args.append("--no-sandbox")  # Chromium's own demand
        self.version = self.do("launch", program=program, args=args)["version"]

    def do(self, what, **how):
        self.process.stdin.write(json.dumps({"what": what, **how}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"failed": "the browser has ended"}')
        if "failed" in answer:
            raise RuntimeError(f"{what}: {answer['failed']}")
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def person(self, who, width=WIDE, scheme="light"):
        return Person(self, who, width, scheme)


class Person:
    """Somebody with a browser of his own: his own cookies, one page."""

    def __init__(self, browser, who, width, scheme):
        self.browser, self.who, self.width, self.scheme = browser, who, width, scheme
        self.do("person", width=width, scheme=scheme)

    def do(self, what, **how):
        return self.browser.do(what, who=self.who, **how)

    def open(self, url):
        return self.do("open", url=url)["status"]

    def press(self, label):
        return self.do("press", label=label)["status"]

    def fill(self, **fields):
        for field, text in fields.items():
            self.do("fill", field=field, text=text)

    def resize(self, width, scheme):
        self.do("resize", width=width, scheme=scheme)

    def look(self):
        return self.do("look")

    def picture(self, path):
        self.do("picture", path=str(path))
