#!/usr/bin/env python3
"""Workspaces share the server: whoever floods it waits for himself (docs/decisions/0019-fair-sharing.md).

Workspaces whose hashes meet share one flow. Of four quiet ones two at least have others than the flood, but in one of
five million runs.
"""

import contextlib
import subprocess
import unittest
import uuid

import context
import token_text

CALLER = "coffer.v1.TokenService/GetCaller"
LONG = 60000  # ms; calls that wait for a lock may take a while
QUIET = 4
APART = 2


class Sharing(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = [cls.new_workspace(cls(), f"quiet-{i}") for i in range(QUIET)]
        cls.workspaces = [workspace for workspace, _ in made]
        cls.quiet = [token for _, token in made]

    def serve(self, name, **settings):
        server = self.dev.more(name, **{f"COFFERD_{key.upper()}": str(value) for key, value in settings.items()})
        connection = self.dev.connect(server.address)
        self.addCleanup(connection.close)
        return connection

    def send(self, connection, token, count=1):
        return [connection.send(CALLER, token=token, timeout_ms=LONG) for _ in range(count)]

    @contextlib.contextmanager
    def held_revision(self, workspace):
        """Meanwhile no write of the workspace goes on."""
        with subprocess.Popen(self.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(f"begin; select 'held' from workspace_revision where workspace_id = '{workspace}'"
                                " for update;\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline().strip(), "held")
            try:
                yield
            finally:
                process.stdin.write("rollback;\n")
                process.stdin.close()

    def test_quiet_workspaces_are_answered_before_most_of_a_flood_that_came_first(self):
        connection = self.serve("order", limits__workers=1, limits__queue=1000)
        with self.locked("token"):
            flood = self.send(connection, self.dev.admin, 1)
            self.wait_until_blocked()
            flood += self.send(connection, self.dev.admin, 400)
            quiet = [self.send(connection, token)[0] for token in self.quiet]
        order = {number: i for i, number in enumerate(connection.arrivals(len(flood) + len(quiet)))}
        self.assertEqual({connection.receive(number).code for number in flood + quiet}, {0})
        before = sorted(order[number] for number in quiet)
        self.assertLess(before[APART - 1], 100, "in one line they would come behind 400")

    def test_full_queue_takes_quiet_workspaces_and_refuses_the_flood_with_advice(self):
        connection = self.serve("full", limits__workers=1, limits__queue=64)
        with self.locked("token"):
            flood = self.send(connection, self.dev.admin)
            self.wait_until_blocked()
            flood += self.send(connection, self.dev.admin, 64)
            quiet = [self.send(connection, token)[0] for token in self.quiet]
            late = connection.call(CALLER, token=self.dev.admin)
            self.assertEqual((late.code, late.reason), (8, "TOO_MANY_IN_FLIGHT"))
            self.assertGreater(late.retry_ms, 0)
        answers = [connection.receive(number) for number in quiet]
        self.assertGreaterEqual([answer.code for answer in answers].count(0), APART)
        refused = [answer for answer in map(connection.receive, flood) if answer.code != 0]
        self.assertEqual({(answer.code, answer.reason) for answer in refused}, {(8, "TOO_MANY_IN_FLIGHT")})
        self.assertEqual(len(refused), [answer.code for answer in answers].count(0), "one gave way to each")
        self.assertTrue(all(answer.retry_ms > 0 for answer in refused))

    def test_workspace_whose_writes_are_stuck_leaves_workers_to_the_others(self):
        connection = self.serve("workers", limits__workers=4)
        self.assertEqual(connection.call(CALLER, token=self.dev.admin).code, 0)
        with self.held_revision(self.dev.workspace):
            writes = [connection.send(context.SECRET + "CreateSecret", {
                "name": f"stuck{i}", "values": context.values(A=b"x")}, token=self.dev.admin, timeout_ms=LONG)
                for i in range(12)]
            self.wait_until_blocked(3)
            # The lock is held still: who is answered now has not waited for it.
            served = 0
            for i, token in enumerate(self.quiet):
                number = connection.send(context.SECRET + "CreateSecret", {
                    "name": "free", "values": context.values(A=b"y")}, token=token, timeout_ms=2000)
                served += connection.receive(number).code == 0
                if served == APART:
                    break
            self.assertEqual(served, APART)
        self.assertEqual({connection.receive(number).code for number in writes}, {0})

    def test_calls_of_a_fleet_token_are_the_workspaces_that_they_name(self):
        fleet = self.fleet([{"permissions": ["resolve", "secret:read"]}])
        connection = self.serve("fleet", limits__workers=1, limits__queue=64)
        listing = context.SECRET + "ListSecrets"
        with self.locked("token"):
            flood = [connection.send(listing, {"workspace": self.dev.workspace}, token=fleet, timeout_ms=LONG)]
            self.wait_until_blocked()
            flood += [connection.send(listing, {"workspace": self.dev.workspace}, token=fleet, timeout_ms=LONG)
                      for _ in range(64)]
            quiet = [connection.send(method, request, token=fleet, timeout_ms=LONG) for workspace in self.workspaces
                     for method, request in ((listing, {"workspace": workspace}),
                                             (context.RESOLVE, {"items": [{"workspace": workspace,
                                                                           "references": context.references("a.B")}]}))]
        codes = [connection.receive(number).code for number in quiet]
        self.assertGreaterEqual(codes.count(0), 2 * APART, codes)
        # Of the flood gave way who had to: what the worker had taken by then left room for others.
        self.assertLessEqual([connection.receive(number).code for number in flood].count(8), codes.count(0))

    def codes_beside_strangers(self, connection, token, count):
        """Of calls that find the queue full of callers who were invented."""
        stranger = uuid.uuid4()
        with self.locked("token"):
            before = self.send(connection, self.quiet[-1])
            self.wait_until_blocked()
            for _ in range(64):
                before += self.send(connection, token_text.make(b"ws", stranger, uuid.uuid4(), bytes(32)))
            calls = self.send(connection, token, count)
            connection.arrivals(count)  # one is refused for each, whoever it is
        return [connection.receive(number).code for number in before + calls][-count:]

    def test_tenant_that_has_just_written_is_no_stranger(self):
        connection = self.serve("written", limits__workers=1, limits__queue=64)
        written = connection.call(context.SECRET + "CreateSecret", {"name": "w", "values": context.values(A=b"z")},
                                  token=self.quiet[0])
        self.assertEqual(written.code, 0, written)
        # Three quarters of the queue are 48; among strangers two would have half of it each.
        self.assertEqual(self.codes_beside_strangers(connection, self.quiet[0], 44), [0] * 44)


if __name__ == "__main__":
    unittest.main(verbosity=2)
