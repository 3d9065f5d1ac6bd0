#!/usr/bin/env python3
"""When tokens were used last: written now and then by a job, never by the call itself."""

import time
import unittest

import context
from cofferd import wait_for
from context import ACCOUNT, TOKEN

READ = [{"permissions": ["secret:read"]}]


class LastUse(context.AccessTest):
    SETTINGS = {"COFFERD_TOKENS__USE_INTERVAL": "200ms"}

    def token(self):
        """(name, UUID, text)"""
        name, _ = self.account(READ)
        issued = self.issue(name).message
        return name, issued["token"]["uid"], issued["secret_text"]

    def used(self, name):
        """(by the list of its tokens, by the account): seconds or None"""
        listed = self.call(TOKEN + "ListTokens", {"service_account": name}).message["tokens"][0]
        account = self.call(ACCOUNT + "GetServiceAccount", {"name": name}).message["service_account"]
        return tuple((thing.get("last_use_time") or {}).get("seconds") for thing in (listed, account))

    def test_time_of_last_use_is_shown_of_the_token_and_of_its_account(self):
        name, _, token = self.token()
        self.assertEqual(self.used(name), (None, None))
        before = int(time.time())
        self.assertEqual(self.works(token), "OK")
        wait_for(lambda: self.used(name)[0], "the use is written")
        found = self.used(name)
        self.assertTrue(before <= found[0] <= time.time() + 1, found)
        self.assertEqual(found[0], found[1])

    def test_refused_token_was_not_used(self):
        name, uid, token = self.token()
        other, _, used = self.token()
        self.call(TOKEN + "RevokeToken", {"token_uid": uid})
        self.assertEqual(self.works(token), "TOKEN_INVALID")
        self.assertEqual(self.works(used), "OK")
        wait_for(lambda: self.used(other)[0], "what was used later is written")
        self.assertEqual(self.used(name), (None, None))

    def test_calls_write_nothing_and_one_write_stands_for_many(self):
        """With an hour between writes nothing is written but what the server wrote when it began."""
        _, uid, token = self.token()
        server = self.dev.more("slow-writer", COFFERD_TOKENS__USE_INTERVAL="1h")
        with self.dev.connect(server.address) as connection:
            for _ in range(50):
                self.assertEqual(self.works(token, connection), "OK")
            self.assertEqual(self.sql(f"select count(*) from token_use where token_id = '{uid}'"), "0")
        for _ in range(200):
            self.assertEqual(self.works(token), "OK")
        wait_for(lambda: self.sql(f"select count(*) from token_use where token_id = '{uid}'") == "1", "the use is written")

    def test_reads_go_on_while_uses_cannot_be_written_and_are_written_later(self):
        name, _, token = self.token()
        with self.locked("token_use"):
            self.assertEqual(self.works(token), "OK")
            self.wait_until_blocked()
            for _ in range(20):
                self.assertEqual(self.works(token), "OK")
        wait_for(lambda: self.used(name)[0], "the use is written")

    def test_earlier_time_does_not_replace_a_later_one(self):
        name, uid, token = self.token()
        ahead = int(time.time()) + 1000
        self.sql(f"insert into token_use values ('{self.dev.workspace}', '{uid}', to_timestamp({ahead}))")
        self.assertEqual(self.works(token), "OK")
        other, _, later = self.token()
        self.assertEqual(self.works(later), "OK")
        wait_for(lambda: self.used(other)[0], "what was used later is written")
        self.assertEqual(self.used(name), (ahead, ahead))


if __name__ == "__main__":
    unittest.main(verbosity=2)
