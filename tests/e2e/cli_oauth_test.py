#!/usr/bin/env python3
"""`coffer oauth`: providers are listed, shown, created, changed and deleted."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import NOT_FOUND, OK, REJECTED, USAGE  # noqa: E402
from cofferd import Dev  # noqa: E402

ACME = {"authorizationEndpoint": "https://acme.example/authorize", "tokenEndpoint": "https://acme.example/token",
        "user": {"scopes": ["read", "write"]}, "service": {}}


class Providers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()
        cls.variables = cli.environment(cls.dev)

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()

    def coffer(self, *arguments, stdin=b"", code=OK):
        done = cli.run(self.variables, *arguments, stdin=stdin)
        self.assertEqual(done[0], code, done)
        return done

    def text(self, *arguments, **options):
        return self.coffer(*arguments, **options)[1].decode()

    def test_built_in_providers_are_listed_and_shown(self):
        listed = self.text("oauth", "providers", "-o", "table")
        self.assertRegex(listed, r"github +GitHub +user +built in")
        self.assertRegex(listed, r"microsoft_graph +Microsoft Graph +user, service +built in")
        shown = self.text("oauth", "provider", "show", "slack")
        self.assertIn("https://slack.com/oauth/v2/authorize", shown)
        self.assertIn("search:read", shown)
        provider = json.loads(self.text("oauth", "provider", "show", "google_drive", "--json"))["provider"]
        self.assertEqual([pair["name"] for pair in provider["definition"]["authorize"]], ["access_type", "prompt"])

    def test_provider_is_created_changed_and_deleted(self):
        created = self.coffer("oauth", "provider", "create", "Stra\u00dfe & Co", "--data", "-", stdin=json.dumps(ACME).encode())
        self.assertIn("custom_strasse_co: created", created[2])
        self.assertRegex(self.text("oauth", "providers", "--own", "-o", "table"), r"custom_strasse_co +Stra.e & Co +user, service +this workspace")
        self.coffer("oauth", "provider", "update", "custom_strasse_co", "--to-name", "Street")
        shown = json.loads(self.text("oauth", "provider", "show", "custom_strasse_co", "--json"))["provider"]
        self.assertEqual((shown["name"], shown["definition"]["user"]["scopes"]), ("Street", ["read", "write"]))
        self.coffer("oauth", "provider", "update", "custom_strasse_co", "--data", "-",
                    stdin=json.dumps({**ACME, "user": {"scopes": ["all"]}}).encode())
        shown = json.loads(self.text("oauth", "provider", "show", "custom_strasse_co", "--json"))["provider"]
        self.assertEqual((shown["name"], shown["definition"]["user"]["scopes"]), ("Street", ["all"]))
        self.coffer("oauth", "provider", "delete", "custom_strasse_co", "--yes")
        self.coffer("oauth", "provider", "show", "custom_strasse_co", code=NOT_FOUND)

    def test_mistakes_are_told_with_what_to_do(self):
        none = self.coffer("oauth", "provider", "show", "custom_none", code=NOT_FOUND)
        self.assertIn("coffer oauth providers", none[2])
        plain = self.coffer("oauth", "provider", "create", "Plain", "--data", "-", code=REJECTED,
                            stdin=json.dumps({**ACME, "tokenEndpoint": "http://acme.example/token"}).encode())
        self.assertIn("token_endpoint: must begin with https://", plain[2])
        unknown = self.coffer("oauth", "provider", "create", "Plain", "--data", "-", code=REJECTED,
                              stdin=json.dumps({**ACME, "colour": "red"}).encode())
        self.assertIn("colour", unknown[2])
        self.assertIn("--data", self.coffer("oauth", "provider", "create", "Plain", code=USAGE)[2])
        self.assertIn("--to-name", self.coffer("oauth", "provider", "update", "github", code=USAGE)[2])
        self.assertIn("show ID", self.coffer("oauth", "provider", "mend", "github", code=USAGE)[2])


if __name__ == "__main__":
    unittest.main(verbosity=2)
