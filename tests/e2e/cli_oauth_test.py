#!/usr/bin/env python3
"""`coffer oauth`: providers and connections, from the first to the last."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import CONFLICT, NOT_FOUND, OK, REAUTH, REJECTED, USAGE  # noqa: E402

ACME = {"authorizationEndpoint": "https://acme.example/authorize", "tokenEndpoint": "https://acme.example/token",
        "user": {"scopes": ["read", "write"]}, "service": {}}


SECRET, NEWER, REFRESH, ACCESS = "client-secret-4f1c", "newer-secret-77ab", "refresh-token-0b1d", "access-token-9ce2"


class OAuth(cli.CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.variables = cli.environment(cls.dev)

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

    def test_connection_that_waits_for_its_user_is_told_by_a_code_of_its_own(self):
        self.configure("github", "CLIENT_SECRET=-", "-e", "waits", stdin=SECRET.encode())
        for command in ("test", "refresh", "token"):
            said = self.coffer("oauth", command, "github", "-e", "waits", code=REAUTH)[2]
            self.assertRegex(said, r"hint: coffer oauth (connect|show) PROVIDER")

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

    # --- Connections

    def connection(self, provider, *options):
        return json.loads(self.text("oauth", "show", provider, "--json", *options))["connection"]

    def configure(self, provider, *options, **more):
        return self.coffer("oauth", "configure", provider, "--client-id", "client-1", *options, **more)

    def place(self, provider, *options):
        shown = self.connection(provider, *options)
        return shown.get("environment", "*"), shown["status"].removeprefix("CONNECTION_STATUS_")

    def test_connection_goes_from_its_configuration_to_its_end(self):
        at = ("-e", "prod")
        self.assertEqual(self.place("github", *at)[1], "NOT_CONFIGURED")
        made = self.configure("github", "CLIENT_SECRET=-", "--scope", "repo", "--scope", "gist", *at, stdin=SECRET.encode() + b"\n")
        self.assertIn("github: configured for prod, CONFIGURED", made[2])
        self.assertIn("CLIENT_SECRET, stored", made[1].decode())
        shown = self.connection("github", *at)
        self.assertEqual((shown["grant"], shown["clientId"], shown["scopes"]),
                         ("CONNECTION_GRANT_AUTHORIZATION_CODE", "client-1", ["gist", "repo"]))
        self.coffer("oauth", "set-tokens", "github", f"REFRESH_TOKEN=@{self.file(REFRESH.encode())}", "ACCESS_TOKEN=-", "--scope", "repo",
                    "--expires", "1h", *at, stdin=ACCESS.encode() + b"\n")
        shown = self.text("oauth", "show", "github", *at)
        for part in ("CONNECTED", "repo", "refresh token", "not granted"):
            self.assertIn(part, shown)
        self.assertEqual(self.text("oauth", "token", "github", *at), ACCESS)
        self.assertEqual(self.text("oauth", "token", "github", *at, "-o", "env"), f"GITHUB_USER_TOKEN='{ACCESS}'\n")
        rotated = self.coffer("oauth", "rotate", "github", f"CLIENT_SECRET=@{self.file(NEWER.encode())}", "--overlap", "1h", *at)
        self.assertIn("used until", rotated[1].decode())
        self.assertEqual(len(self.connection("github", *at)["credentials"]), 2)
        listed = self.text("oauth", "list", "-o", "table")
        self.assertRegex(listed, r"github +user +prod +CONNECTED +client-1")
        self.assertEqual(self.text("oauth", "list", "gitlab", *at), "")
        changed = self.coffer("oauth", "configure", "github", "--client-id", "client-2", f"CLIENT_SECRET=@{self.file(SECRET.encode())}", *at)
        self.assertIn("its tokens were dropped", changed[2])
        self.assertEqual(self.place("github", *at), ("prod", "CONFIGURED"))
        self.coffer("oauth", "set-tokens", "github", "REFRESH_TOKEN=-", *at, stdin=REFRESH.encode())
        self.assertIn("disconnected for prod, CONFIGURED", self.coffer("oauth", "disconnect", "github", "--yes", *at)[2])
        self.assertIn("deleted for prod", self.coffer("oauth", "delete", "github", "--yes", *at)[2])
        self.coffer("oauth", "delete", "github", "--yes", *at, code=NOT_FOUND)

    def test_without_an_environment_all_are_meant_and_every_word_says_so(self):
        made = self.configure("gitlab", "CLIENT_SECRET=-", stdin=SECRET.encode())
        self.assertIn("gitlab: configured for all environments", made[2])
        self.assertEqual((self.place("gitlab"), self.place("gitlab", "-e", "*")), (("*", "CONFIGURED"),) * 2)
        self.assertEqual(self.place("gitlab", "-e", "prod")[1], "NOT_CONFIGURED")
        self.assertRegex(self.text("oauth", "list", "gitlab", "-e", "*", "-o", "table"), r"gitlab +user +\* +CONFIGURED")
        self.assertIn("for all environments", self.coffer("oauth", "delete", "gitlab", "--yes")[2])

    def test_service_is_connected_with_parameters_and_more_from_a_file(self):
        data = self.file(json.dumps({"settings": {"extraParameters": [{"name": "audience", "value": "api"}]},
                                     "clientAuthentication": "CLIENT_AUTHENTICATION_SECRET_POST"}).encode())
        arguments = ("microsoft_graph", "CLIENT_SECRET=-", "--type", "service", "--data", f"@{data}")
        self.assertIn("tenant", self.configure(*arguments, stdin=SECRET.encode(), code=REJECTED)[2])
        self.configure(*arguments, "--set", "tenant=contoso.example", stdin=SECRET.encode())
        shown = self.connection("microsoft_graph", "--type", "service")
        self.assertEqual((shown["grant"], shown["clientAuthentication"]),
                         ("CONNECTION_GRANT_CLIENT_CREDENTIALS", "CLIENT_AUTHENTICATION_SECRET_POST"))
        self.assertEqual([[(pair["name"], pair["value"]) for pair in shown["settings"][kind]] for kind in ("parameters", "extraParameters")],
                         [[("tenant", "contoso.example")], [("audience", "api")]])
        self.assertIn("tenant=contoso.example", self.text("oauth", "show", "microsoft_graph", "--type", "service"))
        self.coffer("oauth", "delete", "microsoft_graph", "--type", "service", "--yes")

    def test_credentials_come_from_a_prompt_a_file_or_standard_input_and_are_never_shown(self):
        at = ("-e", "typed")
        terminal = self.terminal("oauth", "configure", "github", "CLIENT_SECRET", "--client-id", "client-1", *at, columns=200)
        terminal.expect("CLIENT_SECRET (hidden): ").wait_for_echo(False).type(SECRET + "\n")
        code, shown = terminal.end()
        self.assertEqual((code, SECRET in shown, "configured for typed" in shown), (OK, False, True), shown)
        code, shown = self.terminal("oauth", "set-tokens", "github", "REFRESH_TOKEN", *at).expect("(hidden): ").wait_for_echo(False).type(
            REFRESH + "\n").end()
        self.assertEqual((code, REFRESH in shown), (OK, False), shown)
        for arguments in (("configure", "github", f"CLIENT_SECRET={SECRET}"), ("rotate", "github", f"CLIENT_SECRET={SECRET}"),
                          ("set-tokens", "github", f"REFRESH_TOKEN={REFRESH}")):
            refused = self.coffer("oauth", *arguments, *at, code=USAGE)
            self.assertIn("on the command line", refused[2])
            self.assertNotIn(SECRET, refused[2])
            self.assertNotIn(REFRESH, refused[2])
        told = self.text("oauth", "show", "github", *at, "--json") + self.text("oauth", "list", "--json") + self.text("oauth", "show", "github", *at)
        for planted in (SECRET, REFRESH):
            self.assertNotIn(planted, told)
        for verb in ("disconnect", "delete"):
            self.assertIn("--yes", self.coffer("oauth", verb, "github", *at, code=USAGE)[2])
            code, shown = self.terminal("oauth", verb, "github", *at).expect("to confirm: ").type("gitlab\n").end()
            self.assertEqual(code, USAGE, shown)
            code, shown = self.terminal("oauth", verb, "github", *at).expect("to confirm: ").type("github\n").end()
            self.assertEqual(code, OK, shown)

    def test_mistakes_about_connections_are_told_with_what_to_do(self):
        etag = self.configure("github", "CLIENT_SECRET=-", "-e", "wrong", stdin=SECRET.encode()) and self.connection("github", "-e", "wrong")["etag"]
        self.assertIn("etag", self.configure("github", "--if-etag", etag + "7", "-e", "wrong", code=CONFLICT)[2])
        for arguments, part in ((("show", "github", "--type", "robot"), "--type user"), (("configure", "github", "PASSWORD=-"), "CLIENT_SECRET, PRIVATE_KEY"),
                                (("set-tokens", "github", "ID_TOKEN=-"), "REFRESH_TOKEN or"), (("configure", "github", "--set", "tenant"), "PARAMETER=VALUE"),
                                (("rotate", "github", "CLIENT_SECRET=-", "--overlap", "soon"), "--overlap"),
                                (("set-tokens", "github", "ACCESS_TOKEN=-", "--expires", "never"), "--expires")):
            self.assertIn(part, self.coffer("oauth", *arguments, stdin=b"x", code=USAGE)[2], arguments)
        self.assertIn("coffer oauth providers", self.coffer("oauth", "show", "nobody", code=NOT_FOUND)[2])
        self.assertIn("credential", self.configure("gitlab", code=REJECTED)[2])

    def test_providers_and_types_of_connections_are_completed(self):
        for line, wanted in ((("show", "microsoft_gr"), ["microsoft_graph"]), (("list", "gitla"), ["gitlab"]),
                             (("show", "github", "--type", "s"), ["service"]), (("set-t",), ["set-tokens"])):
            words = self.text("__complete", "oauth", *line)
            self.assertEqual([word.split("\t")[0] for word in words.splitlines()], wanted)


if __name__ == "__main__":
    unittest.main(verbosity=2)
