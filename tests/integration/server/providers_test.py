#!/usr/bin/env python3
"""OAuth providers: the built-in ones, and those of workspaces."""

import os
import re
import subprocess
import unittest

import context
from cofferd import COFFERD, ROOT
from context import DEFINITION
from sp_client import uuid7

PROVIDER = "coffer.v1.ProviderService/"
READ, MANAGE = [{"permissions": ["connection:read"]}], [{"permissions": ["connection:read", "connection:manage_all"]}]


class Providers(context.AccessTest):
    def create(self, name, token=None, **definition):
        return self.call(PROVIDER + "CreateProvider", {"name": name, "definition": {**DEFINITION, **definition}}, token=token)

    def created(self, name, **definition):
        answer = self.create(name, **definition)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["provider"]

    def get(self, name, token=None):
        return self.call(PROVIDER + "GetProvider", {"id": name}, token=token)

    def update(self, which, **fields):
        guards = {key: fields.pop(key) for key in ("expected_uid",) if key in fields}
        return self.call(PROVIDER + "UpdateProvider", {
            "id": which, "update_mask": {"paths": list(fields)}, **fields, **guards})

    def delete(self, name, **guards):
        return self.call(PROVIDER + "DeleteProvider", {"id": name, **guards})

    def listed(self, token=None, **fields):
        found, page = [], ""
        while True:
            answer = self.call(PROVIDER + "ListProviders", {**fields, "page_token": page}, token=token).message
            found += answer["providers"]
            page = answer["next_page_token"]
            if not page:
                return found

    def refused(self, field, part, **definition):
        answer = self.create("Refused", **definition)
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", [field]), answer)
        self.assertIn(part, answer.text)

    # --- Built-in ones

    def test_built_in_providers_are_shown_with_what_is_particular_to_them(self):
        slack = self.get("slack").message["provider"]
        self.assertEqual((slack["workspace"], slack["uid"], slack["generation"]), ("", "", 0))
        self.assertEqual((slack["definition"]["user"]["scope_parameter"], slack["definition"]["user"]["token_member"],
                          slack["definition"]["scope_separator"]), ("user_scope", "authed_user", ","))
        google = self.get("google_drive").message["provider"]["definition"]
        self.assertEqual([(pair["name"], pair["value"]) for pair in google["authorize"]],
                         [("access_type", "offline"), ("prompt", "consent")])
        github = self.get("github").message["provider"]["definition"]
        self.assertEqual((github["accept_json"], github["tokens"]["never_expires"]), (True, True))
        graph = self.get("microsoft_graph").message["provider"]["definition"]
        self.assertEqual([parameter["name"] for parameter in graph["parameters"]], ["tenant"])
        self.assertEqual(self.get("nobody").reason, "PROVIDER_NOT_FOUND")

    def test_every_built_in_provider_says_where_it_is_told_of_and_the_page_says_what_it_was_compared_with(self):
        listed = [p for p in self.listed() if not p["workspace"]]
        self.assertGreaterEqual(len(listed), 70)
        page = (ROOT / "docs" / "reference" / "providers.md").read_text().split("## What the built-in entries")[1]
        table = [line for line in page.splitlines() if line.startswith("| ")][1:]
        told = [name for line in table for name in re.findall("`([a-z0-9_]+)`", line)]
        self.assertEqual(sorted(told), sorted(p["id"] for p in listed))
        for provider in listed:
            self.assertRegex(provider["definition"]["documentation"], "^https://[^ ]+$", provider["id"])

    def test_built_in_provider_cannot_be_changed_or_deleted(self):
        for answer in (self.update("github", name="Mine"), self.delete("github")):
            self.assertEqual(answer.reason, "FIELD_INVALID", answer)
            self.assertIn("built in", answer.text)
        self.assertEqual(self.get("github").message["provider"]["name"], "GitHub")

    # --- IDs

    def test_names_in_any_script_become_ids_and_taken_ones_get_numbers(self):
        for name, made in (("Straße", "custom_strasse"), ("日本", "custom_ri_ben"), ("Straße", "custom_strasse_1"),
                           ("strasse", "custom_strasse_2"), ("Custom App", "custom_app"), ("MCP Server", "custom_oauth_mcp_server"),
                           ("My Custom App", "custom_my_custom_app")):
            self.assertEqual(self.created(name)["id"], made)
        self.assertRegex(self.created("💥")["id"], "^custom_[0-9a-f]{8}$")
        self.assertEqual(self.delete("custom_strasse_1").code, 0)
        self.assertEqual(self.created("STRASSE")["id"], "custom_strasse_1")

    def test_two_that_are_made_at_once_get_two_ids(self):
        made = self.together(6, PROVIDER + "CreateProvider", {"name": "At Once", "definition": DEFINITION})
        self.assertEqual({answer.code for answer in made}, {0}, made)
        self.assertEqual(sorted(answer.message["provider"]["id"] for answer in made),
                         sorted(["custom_at_once"] + [f"custom_at_once_{i}" for i in range(1, 6)]))

    def test_id_stays_when_the_name_changes(self):
        provider = self.created("First Name")
        renamed = self.update(provider["id"], name="Second Name").message["provider"]
        self.assertEqual((renamed["id"], renamed["name"], renamed["uid"]), (provider["id"], "Second Name", provider["uid"]))
        self.assertEqual(self.update(provider["id"], name="x", expected_uid=renamed["workspace"]).reason, "UID_MISMATCH")
        self.assertEqual(self.update(provider["id"], name="a\nb").reason, "FIELD_INVALID")

    # --- Definitions

    def test_definition_comes_back_as_it_was_given(self):
        given = {
            "documentation": "https://docs.example/oauth", "issuer": "https://{host}",
            "authorization_endpoint": "https://{host}/authorize", "token_endpoint": "https://{host}/token",
            "revocation_endpoint": "https://{host}/revoke", "device_endpoint": "https://{host}/device",
            "parameters": [{"name": "host", "form": "PROVIDER_PARAMETER_FORM_HOST", "value": "a.example", "help": "yours"}],
            "scope_separator": ",", "user": {"scopes": ["a", "b"], "scope_parameter": "user_scope", "token_member": "inner",
                                             "token": [{"name": "audience", "value": "x"}]},
            "service": {"jwt_bearer": True}, "pkce_refused": True, "sends_issuer": True,
            "authorize": [{"name": "prompt", "value": "consent"}],
            "client_authentications": ["CLIENT_AUTHENTICATION_SECRET_POST", "CLIENT_AUTHENTICATION_SECRET_BASIC"],
            "accept_json": True, "assertion_audience_issuer": True,
            "tokens": {"life": {"seconds": 60}, "refresh": "PROVIDER_REFRESH_ROTATES_STRICTLY",
                       "refresh_grace": {"seconds": 3}, "refresh_ends_old_access": True}}
        made = self.call(PROVIDER + "CreateProvider", {"name": "Whole", "definition": given})
        self.assertEqual(made.code, 0, made)
        shown = self.get(made.message["provider"]["id"]).message["provider"]
        self.assertEqual(shown, made.message["provider"])

        def holds(found, wanted):
            if isinstance(wanted, dict):
                return all(holds(found[key], value) for key, value in wanted.items())
            if isinstance(wanted, list):
                return len(found) == len(wanted) and all(map(holds, found, wanted))
            return found == wanted
        for field, value in given.items():
            self.assertTrue(holds(shown["definition"][field], value), (field, shown["definition"][field], value))

    def test_definition_that_could_do_harm_is_refused(self):
        self.refused("definition", "must begin with https://", token_endpoint="http://acme.example/token")
        self.refused("definition", "no https URL", token_endpoint="https://user@acme.example/token")
        self.refused("definition", "no https URL", token_endpoint="https://acme.example/token#x")
        self.refused("definition", "not among the parameters", token_endpoint="https://{host}.example/token")
        self.refused("definition", "sent by Coffer itself", authorize=[{"name": "redirect_uri", "value": "https://evil.example"}])
        self.refused("definition", "in the host's name", token_endpoint="https://{x}.example/token",
                     parameters=[{"name": "x", "form": "PROVIDER_PARAMETER_FORM_SEGMENT"}])
        self.refused("definition", "a form is", parameters=[{"name": "x"}])
        self.refused("definition", "tokens.life", tokens={"life": {"seconds": -1}})
        self.refused("definition", "tokens.life", tokens={"life": {"seconds": 1, "nanos": 1}})
        self.refused("definition", "parameters", parameters=[{"name": f"p{i}", "form": 1} for i in range(9)])
        self.refused("definition", "user.scopes", user={"scopes": ["a b"]})
        missing = self.call(PROVIDER + "CreateProvider", {"name": "Nothing"})
        self.assertEqual((missing.reason, missing.fields), ("FIELD_REQUIRED", ["definition"]))
        nameless = self.create("")
        self.assertEqual((nameless.reason, nameless.fields), ("FIELD_REQUIRED", ["name"]))
        self.assertEqual(self.get("custom_refused").reason, "PROVIDER_NOT_FOUND")

    def test_generation_is_raised_by_what_sends_secrets_somewhere_else_and_by_nothing_else(self):
        provider = self.created("Moves")
        self.assertEqual(provider["generation"], 1)

        def generation(**changes):
            answer = self.update(provider["id"], definition={**DEFINITION, **changes})
            self.assertEqual(answer.code, 0, answer)
            return answer.message["provider"]["generation"]
        self.assertEqual(generation(user={"scopes": ["read", "write"]}), 1)
        self.assertEqual(generation(tokens={"life": {"seconds": 60}}), 1)
        self.assertEqual(self.update(provider["id"], name="Moved").message["provider"]["generation"], 1)
        self.assertEqual(generation(token_endpoint="https://other.example/token"), 2)
        self.assertEqual(generation(), 3)
        self.assertEqual(generation(client_authentications=["CLIENT_AUTHENTICATION_SECRET_POST"]), 4)
        self.assertEqual(generation(client_authentications=["CLIENT_AUTHENTICATION_SECRET_POST"],
                                    revocation_endpoint="https://other.example/revoke"), 5)

    # --- Whose they are

    def test_workspaces_do_not_see_each_others_providers(self):
        self.created("Secretive")
        other = self.call(context.WORKSPACE + "CreateWorkspace", {"name": "elsewhere"}, token=self.dev.system).message
        token = self.token_for(MANAGE, token=self.dev.system, workspace=other["workspace"]["uid"])
        self.assertEqual(self.get("custom_secretive", token=token).reason, "PROVIDER_NOT_FOUND")
        self.assertEqual(self.listed(token=token, own_only=True), [])
        self.assertEqual(self.create("Secretive", token=token).message["provider"]["id"], "custom_secretive")

    def test_reading_and_changing_need_their_permissions(self):
        reader = self.token_for(READ)
        self.assertEqual(self.get("github", token=reader).code, 0)
        self.assertEqual(self.create("Forbidden", token=reader).reason, "PERMISSION_DENIED")
        nobody = self.token_for([{"permissions": ["resolve"]}])
        self.assertEqual(self.get("github", token=nobody).reason, "PERMISSION_DENIED")

    def test_list_has_both_kinds_in_order_page_by_page(self):
        for name in ("Zz", "Aa"):
            self.created(name)
        everything = [provider["id"] for provider in self.listed()]
        self.assertEqual(everything, sorted(everything))
        self.assertGreater(len(everything), 70)
        self.assertTrue({"custom_aa", "custom_zz", "github", "slack"} <= set(everything))
        for size in (1, 7):
            self.assertEqual([provider["id"] for provider in self.listed(page_size=size)], everything)
        own = self.listed(own_only=True)
        self.assertTrue(all(provider["id"].startswith("custom_") for provider in own))
        self.assertEqual([provider["id"] for provider in own], [name for name in everything if name.startswith("custom_")])

    def test_damaged_provider_is_told_as_such_hides_no_other_and_can_be_deleted(self):
        self.created("Damaged")
        before = [provider["id"] for provider in self.listed()]
        self.dev.sql("update provider set definition = '' where provider = 'custom_damaged'")
        shown = self.get("custom_damaged").message["provider"]
        self.assertEqual((shown["corrupted"], shown["name"], shown["definition"]), (True, "", None))
        self.assertEqual([provider["id"] for provider in self.listed()], before)
        self.assertEqual(self.update("custom_damaged", name="x").reason, "CORRUPTED")
        self.assertEqual(self.delete("custom_damaged").code, 0)

    def test_provider_with_connections_is_not_deleted(self):
        provider = self.created("Connected")
        self.dev.sql(context.connection_row(provider["workspace"], provider["id"]))
        self.assertEqual(self.delete(provider["id"]).reason, "PROVIDER_IN_USE")
        self.dev.sql("delete from connection")
        self.assertEqual(self.delete(provider["id"]).code, 0)

    def test_repeated_request_makes_one_provider(self):
        request_id = uuid7()
        request = {"name": "Once", "definition": DEFINITION}
        answers = [self.connection.call(PROVIDER + "CreateProvider", request, token=self.dev.admin, request_id=request_id)
                   for _ in range(2)]
        self.assertEqual(answers[0].message, answers[1].message)
        self.assertEqual([provider["id"] for provider in self.listed(own_only=True) if provider["name"] == "Once"],
                         ["custom_once"])


class Files(context.ServerTest):
    def file(self, text):
        path = self.dev.directory / f"providers-{len(list(self.dev.directory.glob('providers-*')))}.yaml"
        path.write_text(text)
        return path

    def test_operators_file_adds_a_provider_and_a_wrong_one_ends_the_start_with_its_line(self):
        good = self.file("providers:\n  - id: ours\n    name: Ours\n    token_endpoint: https://ours.example/token\n    service: {}\n")
        server = self.dev.more("files", COFFERD_PROVIDERS__FILES=str(good))
        with self.dev.connect(server.address) as connection:
            answer = connection.call(PROVIDER + "GetProvider", {"id": "ours"}, token=self.dev.admin)
            self.assertEqual((answer.code, answer.message["provider"]["name"]), (0, "Ours"))
        server.stop()
        bad = self.file("providers:\n  - id: ours\n    name: Ours\n    colour: red\n")
        run = subprocess.run([COFFERD, "serve"], env={
            **os.environ, "COFFERD_PROVIDERS__FILES": str(bad), "COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
            "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key")}, capture_output=True, text=True, timeout=90)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(f"{bad}: line 4, column 13: a provider has no field \"colour\"", run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
