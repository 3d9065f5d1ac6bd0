#!/usr/bin/env python3
"""Calls that wait for a revision: parked without a thread or a session, and answered when it is reached."""

import base64
import os
import select
import signal
import unittest

import context
from cofferd import PATIENCE, references, values, wait_for

SECRET = "coffer.v1.SecretService/"
RESOLVE = context.RESOLVE
HEALTH = "grpc.health.v1.Health/Check"
SYSTEM = "00000000-0000-0000-0000-000000000000"
PATIENT_MS = 600000
PARKED = 1000  # in each workspace, which is its limit here


def later(token, steps=1):
    """The consistency token of a revision that comes `steps` writes after that of `token`."""
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    revision = int.from_bytes(raw[9:], "big") + steps
    return base64.urlsafe_b64encode(raw[:9] + revision.to_bytes(8, "big")).rstrip(b"=").decode()


class Tenant:
    """A workspace with one secret; every write of it raises the workspace's revision by one."""

    def __init__(self, dev, connection, name):
        self.connection = connection

        def call(method, request, **options):
            answer = connection.call(f"coffer.v1.{method}", request, token=dev.system, **options)
            assert answer.code == 0, answer
            return answer.message
        self.workspace = call("WorkspaceService/CreateWorkspace", {"name": name})["workspace"]["uid"]
        rights = ["resolve", "secret:read", "secret:write"]
        call("ServiceAccountService/CreateServiceAccount", {
            "workspace": self.workspace, "name": "a", "kind": "TOKEN_KIND_WORKSPACE", "grants": [{"permissions": rights}]})
        self.token = call("TokenService/IssueToken", {
            "workspace": self.workspace, "service_account": "a"})["secret_text"]
        answer = connection.call(SECRET + "CreateSecret", {"name": "s", "values": values(KEY=b"0")}, token=self.token)
        assert answer.code == 0, answer
        self.state = answer.message["consistency_token"]

    def write(self, value, connection=None):
        answer = (connection or self.connection).call(SECRET + "UpdateSecretValues", {
            "name": "s", "replace": {"values": values(KEY=value)}}, token=self.token)
        assert answer.code == 0, answer
        self.state = answer.message["consistency_token"]

    def item(self, state="", **fields):
        return {"workspace": self.workspace, "references": references("s.KEY"), "consistency_token": state, **fields}

    def ask(self, connection, state, timeout_ms=PATIENT_MS, token=None, item_timeout_ms=0, **fields):
        """Sends a resolve of that state or a later one; returns the number of its answer."""
        item = self.item(state, timeout_ms=item_timeout_ms, **fields)
        return connection.send(RESOLVE, {"items": [item]}, token=token or self.token,
                               timeout_ms=timeout_ms)


class WaitingTest(context.ServerTest):
    SETTINGS = {"COFFERD_LIMITS__MAX_TIMEOUT": "600s"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        account = {"workspace": SYSTEM, "name": "executors", "kind": "TOKEN_KIND_FLEET",
                   "grants": [{"permissions": ["resolve"]}]}
        answer = cls.connection.call("coffer.v1.ServiceAccountService/CreateServiceAccount", account,
                                     token=cls.dev.system)
        assert answer.code == 0, answer
        answer = cls.connection.call("coffer.v1.TokenService/IssueToken", {
            "workspace": SYSTEM, "service_account": "executors"}, token=cls.dev.system)
        cls.fleet = answer.message["secret_text"]

    def tenant(self):
        return Tenant(self.dev, self.connection, self.id().rpartition(".")[2][:100].replace("_", "-"))

    def resolved(self, connection, number):
        """The value that a resolve was answered with, and the state that it was read at."""
        answer = connection.receive(number, RESOLVE)
        self.assertEqual(answer.code, 0, answer)
        result = answer.message["results"][0]
        self.assertEqual(result["status"]["outcome"], "OUTCOME_RESOLVED", result)
        return self.value(result, "s", "KEY"), result["consistency_token"]

    @staticmethod
    def silent(connection):
        """Whether no answer has come that was not taken yet."""
        return not connection.waiting and not select.select([connection.socket], [], [], 0)[0]


class Waiting(WaitingTest):
    def test_resolve_of_a_future_state_is_answered_after_the_write_that_reaches_it(self):
        tenant = self.tenant()
        with self.dev.connect() as waiting:
            number = tenant.ask(waiting, later(tenant.state, 2))
            tenant.write(b"1")
            tenant.write(b"2")
            self.assertEqual(self.resolved(waiting, number), (b"2", tenant.state))

    def test_write_on_another_server_reaches_those_who_wait_here(self):
        tenant = self.tenant()
        other = self.dev.more("other")
        with self.dev.connect() as waiting, self.dev.connect(other.address) as writing:
            numbers = [tenant.ask(waiting, later(tenant.state, steps)) for steps in (2, 1)]
            tenant.write(b"1", writing)
            self.assertEqual(self.resolved(waiting, numbers[1])[0], b"1")
            self.assertTrue(self.silent(waiting))
            tenant.write(b"2", writing)
            self.assertEqual(self.resolved(waiting, numbers[0]), (b"2", tenant.state))

    def test_reader_on_another_server_never_sees_less_than_what_its_token_names(self):
        tenant = self.tenant()
        other = self.dev.more("reader")
        with self.dev.connect(other.address) as reading:
            for i in range(50):
                tenant.write(b"%d" % i)
                self.assertEqual(self.resolved(reading, tenant.ask(reading, tenant.state)), (b"%d" % i, tenant.state))

    def test_state_that_is_not_reached_is_an_outcome_within_the_deadline_and_other_items_have_values(self):
        tenant = self.tenant()
        items = [tenant.item(later(tenant.state)), tenant.item(tenant.state)]
        # A server that gets no processor for a moment is late now and then; one that waits too long is so each time.
        answer = wait_for(lambda: (a := self.call(RESOLVE, {"items": items}, token=tenant.token, timeout_ms=2000)).code == 0
                          and a, "an answer within the deadline")
        status = answer.message["results"][0]["status"]
        self.assertEqual((status["code"], status["outcome"]), (14, "OUTCOME_CONSISTENCY_NOT_REACHED"))
        self.assertGreater(status["retry_delay"]["nanos"], 0)
        self.assertEqual(self.value(answer.message["results"][1], "s", "KEY"), b"0")

    def test_item_waits_no_longer_than_its_own_time(self):
        tenant = self.tenant()
        answer = self.call(RESOLVE, {"items": [tenant.item(later(tenant.state), timeout_ms=500)]}, token=tenant.token,
                           timeout_ms=PATIENT_MS)
        self.assertEqual(answer.message["results"][0]["status"]["outcome"], "OUTCOME_CONSISTENCY_NOT_REACHED")
        self.assertLess(answer.server_time_us, PATIENT_MS * 1000 / 2)

    def test_items_of_several_workspaces_wait_for_each_of_them(self):
        first, second = self.tenant(), Tenant(self.dev, self.connection, "several-second")
        items = [first.item(later(first.state)), second.item(later(second.state, 2))]
        with self.dev.connect() as waiting:
            number = waiting.send(RESOLVE, {"items": items}, token=self.fleet, timeout_ms=PATIENT_MS)
            second.write(b"second 1")
            first.write(b"first")
            second.write(b"second 2")
            answer = waiting.receive(number, RESOLVE)
        found = [self.value(result, "s", "KEY") for result in answer.message["results"]]
        self.assertEqual(found, [b"first", b"second 2"])

    def test_nobody_waits_for_a_workspace_that_he_may_not_resolve_in(self):
        mine, other = self.tenant(), Tenant(self.dev, self.connection, "not-mine")
        answer = self.call(RESOLVE, {"items": [other.item(later(other.state, 1000))]}, token=mine.token,
                           timeout_ms=PATIENT_MS)
        self.assertEqual(answer.message["results"][0]["status"]["outcome"], "OUTCOME_PERMISSION_DENIED")

    def test_token_that_is_revoked_while_its_call_waits_gets_nothing(self):
        tenant = self.tenant()
        issued = self.connection.call("coffer.v1.TokenService/IssueToken", {
            "workspace": tenant.workspace, "service_account": "a"}, token=self.dev.system).message
        with self.dev.connect() as waiting:
            number = tenant.ask(waiting, later(tenant.state, 4), token=issued["secret_text"])
            revoked = self.connection.call("coffer.v1.TokenService/RevokeToken", {
                "workspace": tenant.workspace, "token_uid": issued["token"]["uid"]}, token=self.dev.system)
            self.assertEqual(revoked.code, 0, revoked)
            for i in range(4):
                tenant.write(b"%d" % i)
            self.assertEqual(waiting.receive(number, RESOLVE).reason, "TOKEN_INVALID")


class Many(WaitingTest):
    def arrived(self, connection, count):
        """Waits until that many answers are there, and returns them by the number of their calls."""
        def condition():
            connection.call(HEALTH)  # reads what came before its answer
            return len(connection.waiting) >= count
        wait_for(condition, f"{count} answers")
        return {number: connection.receive(number) for number in list(connection.waiting)}

    def parked(self, server, tenant, connection, count):
        """Parks calls on a server with one worker, and returns their numbers when all of them wait."""
        numbers = [tenant.ask(connection, later(tenant.state), token=self.fleet) for _ in range(count)]
        # Of one workspace and one token, calls are taken in the order in which they came; this one does not wait for long,
        # or is refused where no more may wait.
        last = tenant.ask(connection, later(tenant.state), token=self.fleet, item_timeout_ms=1)
        self.assertIn(connection.receive(last).code, (0, 8))
        self.assertIsNone(server.process.poll())
        return numbers

    def test_2000_calls_wait_while_others_are_answered(self):
        """The pool has 1,024 chunks, the server 8 sessions: those that wait hold none of either."""
        server = self.dev.more("many", COFFERD_LIMITS__WAITING_PER_WORKSPACE=str(PARKED), COFFERD_MEMORY__POOL="16MiB",
                               **self.SETTINGS)
        tenants = [Tenant(self.dev, self.connection, f"many-{i}") for i in range(2)]
        other = self.tenant()
        with self.dev.connect(server.address) as waiting, self.dev.connect(server.address) as others:
            numbers = {tenant.ask(waiting, later(tenant.state), token=self.fleet): tenant
                       for tenant in tenants for _ in range(PARKED + 1)}
            # One of each workspace is over its limit: the only answers, and the sign that all others wait.
            refused = self.arrived(waiting, 2)
            self.assertEqual({(answer.code, answer.reason) for answer in refused.values()}, {(8, "TOO_MANY_IN_FLIGHT")})
            self.assertTrue(all(answer.retry_ms for answer in refused.values()))
            self.assertEqual({numbers.pop(number) for number in refused}, set(tenants))
            for i in range(50):
                other.write(b"%d" % i, others)
                self.assertEqual(self.resolved(others, other.ask(others, other.state))[0], b"%d" % i)
            for i, tenant in enumerate(tenants):
                self.assertEqual(self.resolved(others, tenant.ask(others, tenant.state))[0], b"0")
                waiting.call(HEALTH)
                self.assertEqual(len(waiting.waiting), 0)
                tenant.write(b"released %d" % i, others if i == 0 else self.connection)
                self.arrived_all(waiting, tenant, numbers, b"released %d" % i)
                self.assertEqual(len(numbers), PARKED * (1 - i))

    def arrived_all(self, connection, tenant, numbers, value):
        """Every call of the tenant is answered with the value that released it; takes it out of the numbers."""
        for number in [number for number, of in numbers.items() if of is tenant]:
            self.assertEqual(self.resolved(connection, number), (value, tenant.state))
            del numbers[number]

    def test_calls_that_wait_do_not_count_against_the_limit_of_a_fleet_token(self):
        server = self.dev.more("fleet", COFFERD_LIMITS__WORKERS="1", COFFERD_LIMITS__IN_FLIGHT_PER_TOKEN="16",
                               **self.SETTINGS)
        tenant = self.tenant()
        with self.dev.connect(server.address) as waiting:
            numbers = [number for _ in range(10) for number in self.parked(server, tenant, waiting, 10)]
            tenant.write(b"1")
            self.assertEqual({self.resolved(waiting, number)[0] for number in numbers}, {b"1"})

    def test_more_than_may_wait_on_a_server_are_busy_at_once_and_others_are_served(self):
        server = self.dev.more("few", COFFERD_LIMITS__WORKERS="1", COFFERD_TRANSPORT__MAX_WAITING="8", **self.SETTINGS)
        tenants = [self.tenant(), Tenant(self.dev, self.connection, "few-second")]
        with self.dev.connect(server.address) as waiting:
            numbers = [self.parked(server, tenant, waiting, 4) for tenant in tenants]
            refused = waiting.receive(tenants[0].ask(waiting, later(tenants[0].state)))
            self.assertEqual((refused.code, refused.reason, refused.retry_ms > 0), (8, "SERVER_BUSY", True))
            self.assertEqual(self.resolved(waiting, tenants[1].ask(waiting, tenants[1].state))[0], b"0")
            for tenant, own in zip(tenants, numbers):
                tenant.write(b"1")
                self.assertEqual({self.resolved(waiting, number)[0] for number in own}, {b"1"})

    def test_drain_answers_those_who_wait_at_once_and_the_server_ends(self):
        server = self.dev.more("drained", COFFERD_LIMITS__WORKERS="1", **self.SETTINGS)
        tenant = self.tenant()
        with self.dev.connect(server.address) as waiting:
            numbers = self.parked(server, tenant, waiting, 100)
            server.process.send_signal(signal.SIGTERM)
            answers = [waiting.receive(number) for number in numbers]
        self.assertEqual({(answer.code, answer.reason, answer.retry_ms > 0) for answer in answers},
                         {(14, "SERVER_DRAINING", True)})
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_calls_go_on_waiting_while_the_database_crashes_and_comes_back(self):
        server = self.dev.more("crash", COFFERD_LIMITS__WORKERS="1", **self.SETTINGS)
        tenant = self.tenant()
        with self.dev.connect(server.address) as waiting:
            numbers = self.parked(server, tenant, waiting, 20)
            os.kill(int(self.sql("select pid from pg_stat_activity where backend_type = 'client backend'"
                                 " and pid <> pg_backend_pid() limit 1")), signal.SIGKILL)
            wait_for(lambda: self.written(tenant), "the database is not back")
            # A write whose answer was lost in the crash may be there besides the one that was answered.
            self.assertEqual({self.resolved(waiting, number)[0] for number in numbers}, {b"after"})
        # The first server's other sessions were lost, too; the tests after this one need them.
        wait_for(lambda: self.connection.call("coffer.v1.SecretService/ListSecrets", token=self.dev.admin).code == 0, "the database is not back")

    @staticmethod
    def written(tenant):
        try:
            tenant.write(b"after")
        except AssertionError:
            return False
        return True


if __name__ == "__main__":
    unittest.main()
