#!/usr/bin/env python3
"""The device flow (RFC 8628): begun by a client, completed by somebody at another device, and asked for without losing it."""

import base64
import hashlib
import json
import pathlib
import sys
import tempfile
import threading
import unittest
import urllib.parse

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import cli  # noqa: E402
from cofferd import wait_for  # noqa: E402
from oauth_host import Host  # noqa: E402
from rude_http import reset, whole  # noqa: E402

USER = {"connection_class": "CONNECTION_CLASS_USER"}
CODE, SECRET = "device-code-that-nobody-sees", b"client secret"


class Device(context.AccessTest):
    count = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-device-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        cls.host = Host(folder)
        (folder / "providers.yaml").write_text("providers:\n" + "".join(
            f"  - id: {name}\n    name: Acme\n    documentation: https://acme.example/docs\n"
            f"    device_endpoint: {cls.host.origin}/device\n    token_endpoint: {cls.host.origin}/token\n"
            f"    user: {{scopes: [read, write]}}\n    resource: https://api.acme.example/\n    pkce: {pkce}\n"
            for name, pkce in (("acme", "true"), ("plain", "false"))))
        cls.SETTINGS = {**cls.host.settings, "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml")}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.host.rude.close()
        cls.folder.cleanup()

    def setUp(self):
        Device.count += 1
        self.place = {"provider": "acme", "environment": f"env{self.count}"}
        self.host.site.clear()
        self.host.rude.requests.clear()
        self.begins()
        self.done("ConfigureConnection", **self.place, grant="CONNECTION_GRANT_DEVICE_CODE", client_id="client",
                  credential={"client_secret": SECRET})

    def done(self, method, **fields):
        answer = self.ask(method, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def ask(self, method, token=None, **fields):
        return self.call(context.CONNECTION + method, fields, token=token)

    def begins(self, **changes):
        self.host.site.json("device", {
            "device_code": CODE, "user_code": "WDJB-MJHT", "verification_uri": "https://acme.example/device", "expires_in": 600,
            "interval": 1, **changes})

    def refuses(self, error, status=400):
        self.host.site.json("token", {"error": error}, status)

    def grants(self, name="granted"):
        self.host.site.json("token", {"access_token": f"access-{name}", "refresh_token": f"refresh-{name}", "expires_in": 3600,
                                      "scope": "read"})

    def start(self):
        return self.done("StartDeviceAuthorization", **self.place)

    def poll(self, started, **options):
        return self.ask("PollDeviceAuthorization", authorization=started["authorization"]["uid"], **options)

    def polled(self, started):
        answer = self.poll(started)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def state(self, started):
        return self.polled(started)["authorization"]["state"].removeprefix("AUTHORIZATION_STATE_")

    def until(self, started, state):
        return wait_for(lambda: self.state(started) == state, f"the start is {state}")

    def due(self, started):
        """The interval is over."""
        self.sql("update connection_authorization set change_time = change_time - interval '1 hour'"
                 f" where authorization_id = '{started['authorization']['uid']}'")

    def forms(self, path):
        return [dict(urllib.parse.parse_qsl(request.split(b"\r\n\r\n", 1)[1].decode())) for request in self.host.rude.requests
                if request.split()[1].decode() == f"/{path}"]

    def test_somebody_types_the_code_and_the_connection_has_tokens(self):
        started = self.start()
        self.assertEqual((started["user_code"], started["verification_uri"], started["interval_seconds"],
                          started["authorization"]["flow"], started["authorization"]["state"]),
                         ("WDJB-MJHT", "https://acme.example/device", 1, "AUTHORIZATION_FLOW_DEVICE", "AUTHORIZATION_STATE_PENDING"))
        begun, = self.forms("device")
        challenge = begun.pop("code_challenge")
        self.assertEqual(begun, {"client_id": "client", "scope": "read write", "resource": "https://api.acme.example/",
                                 "code_challenge_method": "S256"})
        self.refuses("authorization_pending")
        self.due(started)
        self.assertEqual(self.state(started), "PENDING")
        self.grants()
        self.due(started)
        answer = self.polled(started)
        self.assertEqual((answer["authorization"]["state"], answer["poll_after_seconds"]), ("AUTHORIZATION_STATE_CONNECTED", 0))
        asked, before = self.forms("token")[-1], self.forms("token")[0]
        self.assertEqual(asked, before)
        verifier = asked.pop("code_verifier")
        self.assertEqual(base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("="), challenge)
        self.assertEqual(asked, {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": CODE, "resource": "https://api.acme.example/"})
        shown = self.done("GetConnection", **self.place, **USER)["connection"]
        self.assertEqual((shown["status"], shown["granted_scopes"], shown["missing_scopes"], shown["has_refresh_token"]),
                         ("CONNECTION_STATUS_CONNECTED", ["read"], ["write"], True))
        result = self.resolve(self.place["environment"], "acme_oauth.ACME_USER_TOKEN")
        self.assertEqual(self.value(result, "acme_oauth", "ACME_USER_TOKEN"), b"access-granted")

    def test_provider_that_refuses_pkce_is_sent_none(self):
        self.place["provider"] = "plain"
        self.done("ConfigureConnection", **self.place, grant="CONNECTION_GRANT_DEVICE_CODE", client_id="client",
                  credential={"client_secret": SECRET})
        started = self.start()
        self.grants()
        self.due(started)
        self.assertEqual(self.state(started), "CONNECTED")
        for form in self.forms("device") + self.forms("token"):
            self.assertFalse({"code_challenge", "code_challenge_method", "code_verifier"} & set(form), form)

    def test_provider_is_not_asked_before_its_interval_is_over_and_later_when_it_says_slow_down(self):
        self.begins(interval=30)
        self.refuses("slow_down")
        started = self.start()
        answer = self.polled(started)
        self.assertTrue(25 <= answer["poll_after_seconds"] <= 31, answer)
        self.assertEqual(self.forms("token"), [])
        self.due(started)
        answer = self.polled(started)
        self.assertTrue(30 <= answer["poll_after_seconds"] <= 36, answer)
        self.assertEqual((len(self.forms("token")), self.state(started), len(self.forms("token"))), (1, "PENDING", 1))

    def test_many_who_ask_at_once_cost_one_question(self):
        self.begins(interval=60)
        self.grants()
        started = self.start()
        self.due(started)
        states = []

        def one():
            with self.dev.connect() as connection:
                answer = connection.call(context.CONNECTION + "PollDeviceAuthorization", {
                    "authorization": started["authorization"]["uid"]}, token=self.dev.admin)
                states.append(answer.code)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(states, [0] * 8)
        self.until(started, "CONNECTED")
        self.assertEqual(len(self.forms("token")), 1)

    def test_who_says_no_or_takes_too_long_has_failed_and_what_was_there_stays(self):
        self.grants("first")
        first = self.start()
        self.due(first)
        self.assertEqual(self.state(first), "CONNECTED")
        for error in ("access_denied", "expired_token", "invalid_grant"):
            self.refuses(error)
            started = self.start()
            self.due(started)
            answer = self.polled(started)["authorization"]
            self.assertEqual((answer["state"], answer["error_reason"]), ("AUTHORIZATION_STATE_FAILED", "AUTHORIZATION_REFUSED"))
            self.assertIn(error, answer["error_text"])
        self.assertEqual(len({form["code_challenge"] for form in self.forms("device")}), 4)  # none has another's verifier
        self.assertEqual(self.done("GetConnection", **self.place, **USER)["connection"]["status"], "CONNECTION_STATUS_CONNECTED")

    def test_provider_that_fails_in_between_is_asked_again(self):
        started = self.start()
        for answer in (lambda connection, request: reset(connection), lambda connection, request: connection.sendall(whole(b"", 502))):
            self.host.site["token"] = answer
            self.due(started)
            self.assertEqual(self.state(started), "PENDING")
        self.grants()
        self.due(started)
        self.assertEqual(self.state(started), "CONNECTED")

    def test_claim_of_a_server_that_ended_runs_out(self):
        self.begins(interval=60)
        self.grants()
        started = self.start()
        uid = started["authorization"]["uid"]
        self.sql(f"update connection_authorization set state = 2, change_time = now() where authorization_id = '{uid}'")
        self.assertEqual((self.state(started), self.forms("token")), ("EXCHANGING", []))
        self.due(started)
        self.until(started, "CONNECTED")

    def test_code_is_sealed_and_in_no_answer(self):
        started = self.start()
        self.assertNotIn(CODE, str(started))
        stored = self.sql("select encode(sealed, 'escape') from connection_authorization"
                          f" where authorization_id = '{started['authorization']['uid']}'")
        self.assertTrue(stored)
        self.assertNotIn(CODE, stored)

    def test_only_who_started_asks(self):
        started = self.start()
        other = self.token_for([{"permissions": ["connection:read", "connection:write"]}])
        self.assertEqual(self.poll(started, token=other).reason, "AUTHORIZATION_NOT_FOUND")
        self.assertEqual(self.ask("PollDeviceAuthorization", authorization="x").reason, "FIELD_INVALID")
        self.assertEqual(self.ask("StartDeviceAuthorization", provider="acme", environment="elsewhere").reason,
                         "CONNECTION_NOT_FOUND")

    def test_start_of_a_token_that_was_revoked_asks_nobody(self):
        name, answer = self.account([{"permissions": ["connection:read", "connection:write"]}])
        self.assertEqual(answer.code, 0, answer)
        first, second = (self.issue(name).message for _ in range(2))
        answer = self.ask("StartDeviceAuthorization", token=first["secret_text"], **self.place)
        self.assertEqual(answer.code, 0, answer)
        self.due(answer.message)
        self.assertEqual(self.call(context.TOKEN + "RevokeToken", {"token_uid": first["token"]["uid"]}).code, 0)
        self.assertEqual(self.poll(answer.message, token=second["secret_text"]).reason, "AUTHORIZATION_REFUSED")
        self.assertEqual(self.forms("token"), [])

    def test_provider_that_begins_nothing_is_told_and_nobody_is_sent_anywhere(self):
        self.host.site.json("device", {"error": "unauthorized_client", "error_description": "not this client"}, 400)
        answer = self.ask("StartDeviceAuthorization", **self.place)
        self.assertEqual(answer.reason, "AUTHORIZATION_REFUSED", answer)
        self.assertIn("unauthorized_client: not this client", answer.text)
        for changes in ({"verification_uri": "http://acme.example/device"}, {"verification_uri": "https://acme.example@evil.example/"},
                        {"user_code": "\x1b[2J"}, {"device_code": ""}, {"expires_in": 0},
                        {"verification_uri_complete": f"https://acme.example/?c={CODE}"}):
            self.begins(**changes)
            answer = self.ask("StartDeviceAuthorization", **self.place)
            self.assertEqual(answer.reason, "AUTHORIZATION_REFUSED", changes)
            self.assertFalse("evil" in answer.text or CODE in answer.text, answer.text)

    def command(self, *options):
        """`coffer oauth connect --device`: its exit code, what it shows, and what it says beside that."""
        code, shown, notes = cli.run(cli.environment(self.dev), "oauth", "connect", "acme", "--device", "-e",
                                     self.place["environment"], *options)
        return code, shown.decode(), notes

    def test_command_line_says_where_to_type_what_and_waits(self):
        self.grants("command")
        code, shown, notes = self.command()
        self.assertEqual(code, 0, notes)
        for text in ("https://acme.example/device", "WDJB-MJHT", "acme: connected"):
            self.assertIn(text, notes)
        self.assertRegex(shown, "(?m)^provider +acme$")
        self.refuses("access_denied")
        code, _, notes = self.command()
        self.assertEqual(code, 1, notes)
        self.assertIn("acme was not connected: ", notes)
        self.assertIn("access_denied", notes)
        self.host.rude.requests.clear()
        for options in (["--page"], ["--port", "4711"], ["--no-browser"]):
            self.assertEqual(self.command(*options)[0], 2, options)
        self.assertEqual(self.host.asked(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
