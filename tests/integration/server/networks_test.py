#!/usr/bin/env python3
"""Accounts that are limited to networks: from where their tokens work, and that nobody gets around it."""

import os
import unittest

import context
from cofferd import wait_for
from context import ACCOUNT, SYSTEM, TOKEN

READ = [{"permissions": ["secret:read"]}]
ISSUER = [{"permissions": ["account:write", "token:write", "secret:read"]}]
UID = os.getuid()


class NetworksTest(context.AccessTest):
    SETTINGS = {"COFFERD_TRANSPORT__INSECURE_TCP": "true"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.by_tcp = cls.dev.connect(cls.dev.tcp)
        cls.addClassCleanup(cls.by_tcp.close)

    def limited(self, networks, rules=None):
        return self.token_for(rules or READ, networks=networks)

    def answers(self, token):
        """(over IPC, over TCP from 127.0.0.1)"""
        return self.works(token), self.works(token, self.by_tcp)


class Networks(NetworksTest):
    def test_token_works_only_from_the_networks_of_its_account(self):
        denied = "NETWORK_DENIED"
        for networks, expected in (
                ([], ("OK", "OK")),
                (["127.0.0.0/8"], (denied, "OK")),
                (["127.0.0.1"], (denied, "OK")),
                (["127.0.0.0/31"], (denied, "OK")),
                (["127.0.0.2/31"], (denied, denied)),
                (["0.0.0.0/0"], (denied, "OK")),
                (["::/0"], (denied, denied)),
                (["2001:db8::/32", "10.0.0.0/8"], (denied, denied)),
                (["10.0.0.0/8", "127.0.0.1/32"], (denied, "OK")),
                (["unix"], ("OK", denied)),
                ([f"unix:{UID}"], ("OK", denied)),
                ([f"unix:{UID + 1}"], (denied, denied)),
                (["192.0.2.1", "unix", "127.0.0.1"], ("OK", "OK"))):
            self.assertEqual(self.answers(self.limited(networks)), expected, networks)

    def test_local_peers_are_recognised_by_their_uid(self):
        own, other = self.limited([f"unix:{UID}"]), self.limited([f"unix:{UID + 1}", "unix:4294967294"])
        self.assertEqual((self.works(own), self.works(other)), ("OK", "NETWORK_DENIED"))

    def test_ipv6_peers_are_compared_as_ipv6_and_mapped_ones_as_ipv4(self):
        path = self.dev.directory / "six.sock"
        server = self.dev.more("six", COFFERD_TRANSPORT__LISTEN=f"ipc://{path},tcp://[::1]:0")
        address = wait_for(lambda: next((word.split('"')[-2] if '"' in word else word for word in
                                         server.log.read_text().replace(",", " ").replace("=", " ").split()
                                         if "tcp://[::1]" in word), None), "the address is logged")
        with self.dev.connect(address) as connection:
            for networks, expected in ((["::1"], "OK"), (["::/0"], "OK"), (["::2/127"], "NETWORK_DENIED"),
                                       (["0.0.0.0/0"], "NETWORK_DENIED"), (["127.0.0.1"], "NETWORK_DENIED")):
                self.assertEqual(self.works(self.limited(networks), connection), expected, networks)

    def test_refusal_has_its_own_reason_and_does_not_tell_the_networks(self):
        token = self.limited(["192.0.2.0/24"])
        refused = self.call(TOKEN + "GetCaller", token=token)
        self.assertEqual((refused.code, refused.reason), (7, "NETWORK_DENIED"))
        self.assertNotIn("192.0.2", refused.text)

    def test_networks_hold_for_tokens_that_are_out_as_soon_as_they_change(self):
        name, _ = self.account(READ)
        token = self.issue(name).message["secret_text"]
        for networks, expected in ((["unix"], ("OK", "NETWORK_DENIED")), (["127.0.0.1"], ("NETWORK_DENIED", "OK")),
                                   ([], ("OK", "OK"))):
            self.assertEqual(self.update_account(name, networks=networks).code, 0)
            self.assertEqual(self.answers(token), expected, networks)

    def test_networks_are_shown_in_their_canonical_form(self):
        given = ["10.0.0.0/8", "192.0.2.1", "2001:DB8:0:0::/32", "::1", "unix", "unix:0", "::/0", "0.0.0.0/0"]
        name, made = self.account(READ, networks=given)
        expected = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128", "unix", "unix:0", "::/0", "0.0.0.0/0"]
        self.assertEqual(made.message["service_account"]["networks"], expected)
        got = self.call(ACCOUNT + "GetServiceAccount", {"name": name}).message["service_account"]
        self.assertEqual(got["networks"], expected)

    def test_entry_that_is_no_network_is_refused(self):
        for entry in ("", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/08",
                      "10.0.0.0/8/8", "010.0.0.0/8", " 10.0.0.0/8", "::/129", "2001:db8::1/32", "::ffff:10.0.0.0/104",
                      "::ffff:10.0.0.1", "fe80::1%eth0", "localhost", "unix:", "unix:-1", "unix:01", "unix:4294967295",
                      "unix:root", "unix/8", "UNIX", "/", "/8", "1" * 100, "10.0.0.0/99999999999999999999"):
            _, answer = self.account(READ, networks=["unix", entry])
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["networks[1]"]), entry)
        _, answer = self.account(READ, networks=["unix"] * 33)
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["networks"]))
        self.assertEqual(self.account(READ, networks=["unix"] * 32)[1].code, 0)

    def test_whoever_is_limited_gives_nobody_more_networks_than_he_has(self):
        token = self.limited(["unix", "10.0.0.0/8", "2001:db8::/32"], ISSUER)
        for networks in ([], ["11.0.0.0/8"], ["10.0.0.0/7"], ["0.0.0.0/0"], ["::/0"], ["2001:db8::/31"], ["unix", "127.0.0.1"]):
            refused = self.account(READ, token=token, networks=networks)[1]
            self.assertEqual(refused.reason, "TOKEN_EXCEEDS_ISSUER", networks)
        for networks in (["unix"], [f"unix:{UID}", "10.1.0.0/16"], ["2001:db8:1::/48", "10.0.0.0/8"]):
            self.assertEqual(self.account(READ, token=token, networks=networks)[1].code, 0, networks)
        free, _ = self.account(READ)
        self.assertEqual(self.issue(free, token=token).reason, "TOKEN_EXCEEDS_ISSUER")
        self.assertEqual(self.update_account(free, token=token, grants=[]).reason, "TOKEN_EXCEEDS_ISSUER")
        bound, _ = self.account(READ, networks=["10.9.0.0/16"])
        self.assertEqual(self.issue(bound, token=token).code, 0)
        self.assertEqual(self.update_account(bound, token=token, networks=["10.0.0.0/8"]).code, 0)

    def test_fleet_and_system_accounts_are_limited_too(self):
        fleet = self.fleet(READ, networks=["127.0.0.0/8"])
        self.assertEqual(self.answers(fleet), ("NETWORK_DENIED", "OK"))
        system = self.token_for([{"permissions": ["workspace:read"]}], token=self.dev.system, workspace=SYSTEM,
                                kind="TOKEN_KIND_SYSTEM", networks=["127.0.0.0/8"])
        self.assertEqual(self.answers(system), ("NETWORK_DENIED", "OK"))


class Edited(NetworksTest):
    SETTINGS = {**NetworksTest.SETTINGS, **context.NO_CACHE}

    def test_networks_in_an_edited_row_authorise_nothing(self):
        token = self.limited(["unix"])
        uid = self.call(TOKEN + "GetCaller", token=token).message["service_account"]["uid"]
        for networks in ("'{}'", "'{unix,127.0.0.1/32}'"):
            self.sql(f"update principal set networks = {networks} where principal_id = '{uid}'")
            self.assertEqual(self.answers(token), ("CORRUPTED", "CORRUPTED"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
