#!/usr/bin/env python3
"""Limits: what is over one gets a clear answer at once, and the others notice nothing."""

import os
import unittest

import context
from cofferd import references, values, wait_for

INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
HEALTH = "grpc.health.v1.Health/Check"
CALLER = "coffer.v1.TokenService/GetCaller"
SECRET = "coffer.v1.SecretService/"
LONG = 60000  # ms; calls that wait for a lock may take a while


class Limits(context.ServerTest):
    def server(self, name, **settings):
        return self.dev.more(name, **{f"COFFERD_{key.upper()}": str(value) for key, value in settings.items()})

    def connect(self, server):
        connection = self.dev.connect(server.address)
        self.addCleanup(connection.close)
        return connection

    def send(self, connection, count, token=None):
        return [connection.send(CALLER, token=token or self.dev.admin, timeout_ms=LONG) for _ in range(count)]

    def assert_refused(self, answer, reason):
        self.assertEqual((answer.code, answer.reason), (8, reason), answer)
        self.assertGreater(answer.retry_ms, 0, "it says when to try again")

    def test_requests_in_flight_on_one_connection_are_limited(self):
        server = self.server("peer", limits__in_flight_per_peer=6)
        first, second = self.connect(server), self.connect(server)
        with self.locked("token"):
            numbers = self.send(first, 6)
            self.wait_until_blocked()
            self.assert_refused(first.call(CALLER, token=self.dev.executor), "TOO_MANY_IN_FLIGHT")
            self.assert_refused(first.call(HEALTH, {}), "TOO_MANY_IN_FLIGHT")
            self.assertEqual(second.call(HEALTH, {}).code, 0, "another connection has its own count")
            others = self.send(second, 6)
        for connection, waiting in ((first, numbers), (second, others)):
            self.assertEqual([connection.receive(number).code for number in waiting], [0] * 6)
        self.assertEqual(first.call(CALLER, token=self.dev.admin).code, 0, "the count went down again")

    def test_requests_in_flight_for_one_token_are_limited_over_all_connections(self):
        server = self.server("token", limits__in_flight_per_token=6)
        first, second = self.connect(server), self.connect(server)
        with self.locked("token"):
            numbers = self.send(first, 3), self.send(second, 3)
            self.wait_until_blocked()
            for connection in first, second:
                self.assertEqual(connection.call(HEALTH, {}).code, 0, "all of them have come")
            self.assert_refused(second.call(CALLER, token=self.dev.admin), "TOO_MANY_IN_FLIGHT")
            self.assert_refused(first.call(CALLER, token=self.dev.admin), "TOO_MANY_IN_FLIGHT")
            other = self.send(second, 1, self.dev.executor)
        for connection, waiting in ((first, numbers[0]), (second, numbers[1] + other)):
            self.assertEqual({connection.receive(number).code for number in waiting}, {0})
        self.assertEqual(second.call(CALLER, token=self.dev.admin).code, 0)

    def test_full_queue_is_told_at_once_and_what_waits_is_answered_later(self):
        server = self.server("queue", limits__workers=1, limits__queue=4)
        connection = self.connect(server)
        with self.locked("token"):
            numbers = self.send(connection, 1)
            self.wait_until_blocked()
            numbers += self.send(connection, 4)
            for _ in range(2):
                # The lock is held still: only at once can it be answered at all.
                self.assert_refused(connection.call(CALLER, token=self.dev.admin), "SERVER_BUSY")
            self.assertEqual(connection.call(HEALTH, {}).code, 0, "what needs no worker is answered")
        self.assertEqual([connection.receive(number).code for number in numbers], [0] * 5)
        self.assertEqual(connection.call(CALLER, token=self.dev.admin).code, 0)

    def test_connections_are_limited_and_their_places_are_free_again(self):
        server = self.server("peers", transport__max_peers=4)
        kept = []

        def connected():
            try:
                connection = self.dev.connect(server.address)
            except OSError:
                return False
            try:
                connection.call(HEALTH, {})
            except OSError:
                connection.close()
                return False
            kept.append(connection)
            return True
        # The connection that looked whether the server is ready is counted until it is seen to be closed.
        wait_for(lambda: connected() and len(kept) == 4, "there are as many connections as may be")
        self.assertFalse(connected())
        for connection in kept:
            self.assertEqual(connection.call(HEALTH, {}).code, 0, "those that are there notice nothing")
        kept.pop().close()
        wait_for(connected, "the place is free again")
        for connection in kept:
            connection.close()

    def test_response_is_never_larger_than_the_limit(self):
        limit = 65536
        server = self.server("response", limits__response=limit)
        connection = self.connect(server)
        for i in range(8):
            self.call(SECRET + "CreateSecret", {"name": f"wide{i}", "environment": "wide", "values": [
                {"key": f"K{k:02}".ljust(120, "x"), "value": os.urandom(20)} for k in range(100)]})
        listing = connection.call(SECRET + "ListSecrets", {"environments": ["wide"]}, token=self.dev.admin)
        self.assertEqual((listing.code, listing.reason), (8, "MESSAGE_TOO_LARGE"))
        pages = connection.call(SECRET + "ListSecrets", {"environments": ["wide"], "page_size": 2}, token=self.dev.admin)
        self.assertEqual((pages.code, len(pages.message["secrets"])), (0, 2))
        self.call(SECRET + "CreateSecret", {"name": "big", "environment": "wide", "values": values(
            **{key: os.urandom(20000) for key in "ABCDE"})})
        items = [{"environments": ["wide"], "references": references(*(f"big.{key}" for key in keys))}
                 for keys in ("A", "AB", "ABCDE", "B", "C", "D")]
        number = connection.send(context.RESOLVE, {"items": items}, token=self.dev.admin)
        frame = connection.receive_message(number)
        self.assertLessEqual(len(frame), limit)
        outcomes = [r["status"]["outcome"] for r in connection.call(
            context.RESOLVE, {"items": items}, token=self.dev.admin, ).message["results"]]
        self.assertEqual(outcomes, ["OUTCOME_RESOLVED", "OUTCOME_RESOLVED", "OUTCOME_TOO_LARGE", "OUTCOME_DEFERRED",
                                    "OUTCOME_DEFERRED", "OUTCOME_DEFERRED"])

    def test_memory_of_one_call_is_limited_and_the_next_call_has_all_of_it(self):
        server = self.server("memory", limits__call_memory="1MiB")
        connection = self.connect(server)
        self.call(SECRET + "CreateSecret", {"name": "heavy", "environment": "memory", "values": values(
            **{key: os.urandom(65536) for key in "ABCD"})})
        references_ = references(*[f"heavy.{key}" for key in "ABCD"])
        heavy = {"items": [{"environments": ["memory"], "references": references_}] * 8}
        light = {"items": heavy["items"][:1]}
        listing = {"page_size": 1000, "environments": [f"e{i}" for i in range(19000)]}
        for _ in range(3):
            answer = connection.call(SECRET + "ListSecrets", listing, token=self.dev.admin)
            self.assertEqual((answer.code, answer.reason), (8, "OUT_OF_MEMORY"))
            outcomes = [r["status"]["outcome"] for r in
                        connection.call(context.RESOLVE, heavy, token=self.dev.admin).message["results"]]
            self.assertEqual(outcomes[0], "OUTCOME_RESOLVED", outcomes)
            self.assertLessEqual(set(outcomes), {"OUTCOME_RESOLVED", "OUTCOME_DEFERRED"})
            self.assertIn("OUTCOME_DEFERRED", outcomes)
            self.assertEqual(connection.call(context.RESOLVE, light, token=self.dev.admin).message["results"][0]["status"]
                             ["outcome"], "OUTCOME_RESOLVED")

    def test_server_tells_the_limits_that_are_in_force(self):
        told = self.connection.call(INFO).message["limits"]
        self.assertEqual(told, {
            "max_request_bytes": 1 << 20, "max_response_bytes": 4 << 20, "max_references_per_item": 1000,
            "max_environments_per_item": 1000, "max_pairs_per_resolve": 10000, "max_items_per_resolve": 1000,
            "max_timeout_ms": 60000, "default_timeout_ms": 10000, "max_in_flight_per_peer": 4096,
            "max_in_flight_per_token": 4096, "max_value_bytes": 65536, "max_secret_bytes": 262144,
            "max_keys_per_secret": 100, "max_page_size": 1000, "max_waiting_per_workspace": 1024,
            "max_secrets_per_import": 1000, "max_watches": 1638, "max_watches_per_workspace": 512,
            "max_actions_per_workspace": 5000, "max_providers_per_workspace": 200,
            "max_authorizations_per_workspace": 100})
        server = self.server("told", limits__request="128KiB", limits__response="256KiB", limits__max_timeout="7s",
                             limits__default_timeout="3s", limits__in_flight_per_peer=11, limits__in_flight_per_token=13,
                             limits__waiting_per_workspace=17, limits__import_secrets=5, limits__actions=9,
                             limits__providers=3, limits__authorizations=7,
                             transport__max_waiting=1000)
        changed = self.connect(server).call(INFO).message["limits"]
        self.assertEqual({key: value for key, value in changed.items() if value != told[key]}, {
            "max_request_bytes": 131072, "max_response_bytes": 262144, "max_timeout_ms": 7000, "default_timeout_ms": 3000,
            "max_in_flight_per_peer": 11, "max_in_flight_per_token": 13, "max_waiting_per_workspace": 17,
            "max_secrets_per_import": 5, "max_actions_per_workspace": 9,
            "max_providers_per_workspace": 3, "max_authorizations_per_workspace": 7, "max_watches": 100, "max_watches_per_workspace": 8})


if __name__ == "__main__":
    unittest.main(verbosity=2)
