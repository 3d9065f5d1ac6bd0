#!/usr/bin/env python3
"""`coffer rpc`: any method by what the server tells of itself.

The output of tests/golden/cli/rpc.txt is compared as a whole; COFFER_GOLDEN=write writes it anew.
"""

import base64
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cli import DENIED, NOT_FOUND, NOT_LOGGED_IN, OK, REJECTED, USAGE, CliTest  # noqa: E402
from sp_client import SCHEMA  # noqa: E402

SECRET = "coffer.v1.SecretService/"


class Rpc(CliTest):
    def call(self, method, request, expected=OK, **options):
        code, out, err = self.run_cli("rpc", "call", method, "-d", "-", stdin=json.dumps(request).encode(), **options)
        self.assertEqual(code, expected, err)
        return json.loads(out) if code == OK else err

    def test_words_of_list_and_describe(self):
        self.script("rpc", (["rpc", "list", "EnvironmentService"], b""),
                    (["rpc", "describe", "EnvironmentService/CreateEnvironment"], b""),
                    (["rpc", "describe", "coffer.v1.TokenKind"], b""),
                    (["rpc", "describe", "coffer.v1.TokenKnid", ], b""),
                    (["rpc", "list", "coffer.v1.TokenKind"], b""),
                    (["rpc", "call", "SecretService"], b""),
                    (["rpc", "call", "CreateEnvironment", "-d", "-"], b'{"nam": "x"}'),
                    (["rpc", "call", "CreateEnvironment", "-d", "@/nowhere/to/be/found"], b""))

    def test_every_method_of_the_contract_is_listed_and_described(self):
        methods = {f"{service}/{name}" for service, rows in SCHEMA.services.items() for name in rows}
        listed = {row["method"]: row["about"] for row in json.loads(self.succeed("rpc", "list", "--json"))["methods"]}
        self.assertEqual(set(listed), methods)
        self.assertTrue(all(about.endswith(".") for about in listed.values()), listed)
        rows = self.succeed("rpc", "list").decode().splitlines()
        self.assertEqual({row.split("\t")[0] for row in rows}, methods)
        text = self.succeed("rpc", "describe", "coffer.v1.ResolveService/Resolve").decode()
        for part in ("rpc Resolve(", "message ResolveRequest {", "message ResolveResponse {", "  repeated coffer.v1.ResolveItem items = 1;"):
            self.assertIn(part, text)
        as_json = json.loads(self.succeed("rpc", "describe", "coffer.v1.ResolveService/Resolve", "-o", "json"))
        self.assertEqual((as_json["name"], as_json["kind"], as_json["text"]), ("coffer.v1.ResolveService/Resolve", "method", text))

    def test_secret_goes_in_and_out_by_the_json_mapping(self):
        value = bytes(range(256))
        made = self.call(SECRET + "CreateSecret", {
            "name": "rpc", "environment": "rpc", "type": "SECRET_TYPE_CUSTOM", "expireTime": "2099-01-31T12:00:00Z",
            "values": [{"key": "KEY", "value": base64.b64encode(value).decode()}]})["secret"]
        self.assertEqual((made["version"], made["expireTime"], made["keys"]), ("1", "2099-01-31T12:00:00Z", [{"name": "KEY", "size": 256}]))
        answer = self.call("ResolveService/Resolve", {"items": [{
            "environments": ["rpc"], "references": [{"name": "rpc", "key": "KEY"}], "minRemainingValidity": "1.5s"}]})
        found = answer["results"][0]["secrets"][0]["values"][0]
        self.assertEqual(base64.b64decode(found["value"]), value)
        changed = self.call("UpdateSecret", {"name": "rpc", "environment": "rpc", "updateMask": "description,tags", "tags": ["a"]})
        self.assertEqual((changed["secret"]["tags"], changed["secret"]["version"]), (["a"], "1"))
        path = self.file(json.dumps({"environments": ["rpc"]}).encode())
        listed = json.loads(self.succeed("rpc", "call", "ListSecrets", "--data", f"@{path}"))
        self.assertEqual([secret["name"] for secret in listed["secrets"]], ["rpc"])
        self.assertEqual(json.loads(self.succeed("rpc", "call", "GetServerInfo"))["limits"]["maxPageSize"], 1000)

    def test_failures_are_those_of_every_command(self):
        self.assertIn("SECRET_NOT_FOUND", self.call(SECRET + "GetSecret", {"name": "none"}, NOT_FOUND))
        self.assertIn("PERMISSION_DENIED", self.call(SECRET + "CreateSecret", {"name": "x"}, DENIED, token="executor"))
        error = self.call(SECRET + "CreateSecret", {"values": [{"key": "K", "value": "planted-value!"}]}, REJECTED)
        self.assertIn("values[0].value", error)
        self.assertNotIn("planted", error)
        code, _, err = self.run_cli("rpc", "list", COFFER_TOKEN_FILE=None)
        self.assertEqual(code, NOT_LOGGED_IN, err)

    def test_request_is_never_taken_from_the_command_line(self):
        code, _, err = self.run_cli("rpc", "call", "CreateSecret", "-d", '{"name": "planted"}')
        self.assertEqual(code, USAGE)
        self.assertNotIn("planted", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
