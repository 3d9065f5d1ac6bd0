#!/usr/bin/env python3
"""The server while its database is slow, silent or away: deadlines, and what goes on without it."""

import signal
import time
import unittest

import context
from cofferd import PATIENCE, values, wait_for
from postgres import Frozen, Lock, Proxy

SECRET = "coffer.v1.SecretService/"
ENVIRONMENT = "coffer.v1.EnvironmentService/"
CALLER = "coffer.v1.TokenService/GetCaller"
HEALTH = "grpc.health.v1.Health/Check"
INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
WORKERS = 8
LONG_MS = 60000
SHORT_MS = 500


class Database(context.ServerTest):
    """A lock on the table of secrets keeps calls about secrets under way; tokens are read all the same."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        answer = cls.connection.call(SECRET + "CreateSecret", {"name": "s", "values": values(KEY=b"value")},
                                     token=cls.dev.admin)
        assert answer.code == 0, answer

    def ask(self, connection, timeout_ms=LONG_MS):
        """Sends a read of the secret and returns its number."""
        return connection.send(SECRET + "GetSecret", {"name": "s"}, token=self.dev.admin, timeout_ms=timeout_ms)

    def write(self, connection, name, timeout_ms=LONG_MS):
        return connection.send(SECRET + "CreateSecret", {"name": name, "values": values(KEY=b"value")},
                               token=self.dev.admin, timeout_ms=timeout_ms)

    def hang(self, send, count):
        """Sends calls that come up against the lock, one after the other, and returns their numbers.

        Each has a worker of its own then: those that arrive together can get the same one.
        """
        numbers = []
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        for i in range(count):
            numbers.append(send())
            wait_for(lambda: int(self.sql(waiting)) > i, "the call does not come to the lock")
        return numbers

    def lock(self):
        return Lock(self.dev.conninfo, "secret")

    def check_usable(self, connection):
        """Every worker can do its work: as many calls at once as there are workers, several times."""
        numbers = [self.ask(connection) for _ in range(WORKERS * 4)]
        self.assertEqual({connection.receive(number).code for number in numbers}, {0})

    def test_deadline_that_passes_while_postgresql_works_ends_the_call_and_the_server_stays_usable(self):
        with self.dev.connect() as connection:
            with self.lock():
                numbers = [self.ask(connection, SHORT_MS) for _ in range(WORKERS * 2)]
                numbers += [self.write(connection, f"late-{i}", SHORT_MS) for i in range(WORKERS)]
                answers = [connection.receive(number) for number in numbers]
                self.assertEqual({(answer.code, answer.reason) for answer in answers}, {(4, "DEADLINE_EXCEEDED")})
                self.assertEqual(connection.call(CALLER, token=self.dev.admin).code, 0)
            self.check_usable(connection)
            names = [s["name"] for s in connection.call(SECRET + "ListSecrets", token=self.dev.admin).message["secrets"]]
            self.assertEqual([name for name in names if name.startswith("late")], [])

    def test_server_takes_the_smaller_of_the_callers_timeout_and_its_own(self):
        server = self.dev.more("short", COFFERD_LIMITS__MAX_TIMEOUT=f"{SHORT_MS}ms")
        with self.dev.connect(server.address) as short, self.dev.connect() as connection, self.lock():
            patient, = self.hang(lambda: self.ask(connection), 1)
            self.assertEqual(short.receive(self.ask(short, LONG_MS)).reason, "DEADLINE_EXCEEDED")
            self.assertEqual(connection.receive(self.ask(connection, SHORT_MS)).reason, "DEADLINE_EXCEEDED")
            self.assertNotIn(patient, connection.waiting)

    def test_work_whose_deadline_has_passed_before_it_starts_is_not_started(self):
        server = self.dev.more("one", COFFERD_LIMITS__WORKERS="1")
        with self.dev.connect(server.address) as connection:
            with self.lock():
                first, = self.hang(lambda: self.write(connection, "first"), 1)
                behind = connection.send(ENVIRONMENT + "CreateEnvironment", {"name": "behind"}, token=self.dev.admin,
                                         timeout_ms=SHORT_MS)
                self.assertEqual(connection.call(HEALTH).code, 0)  # so that it was received
                time.sleep(2 * SHORT_MS / 1000)
            self.assertEqual(connection.receive(behind).reason, "DEADLINE_EXCEEDED")
            self.assertEqual(connection.receive(first).code, 0)
            listed = connection.call(ENVIRONMENT + "ListEnvironments", token=self.dev.admin).message["environments"]
            self.assertNotIn("behind", [environment["name"] for environment in listed])

    def test_calls_that_need_no_database_are_answered_while_it_hangs(self):
        with self.dev.connect() as hanging:
            with Frozen(self.dev.directory):
                numbers = [self.ask(hanging, SHORT_MS) for _ in range(WORKERS * 4)]
                for _ in range(100):
                    self.assertEqual(self.call(HEALTH).message["status"], "SERVING")
                    self.assertEqual(self.call(INFO).code, 0)
                self.assertEqual({hanging.receive(number).code for number in numbers}, {4})
            wait_for(lambda: self.connection.receive(self.ask(self.connection)).code == 0, "the database is not back")
            self.check_usable(hanging)

    def test_database_that_is_away_is_told_at_once_and_its_return_noticed(self):
        proxy = Proxy(self.dev.directory / "proxy", self.dev.directory / "run")
        server = self.dev.more("cut", COFFERD_DATABASE__CONNINFO=f"host={proxy.directory} user=coffer dbname=postgres")
        with self.dev.connect(server.address) as connection:
            self.check_usable(connection)
            proxy.cut()
            for _ in range(20):
                answer = connection.receive(self.ask(connection))
                self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))
                self.assertLess(answer.server_time_us, LONG_MS * 1000 / 2)
            self.assertEqual(connection.call(HEALTH, {"service": "readiness"}).message["status"], "NOT_SERVING")
            self.assertEqual(connection.call(HEALTH).message["status"], "SERVING")
            proxy.open()
            wait_for(lambda: connection.receive(self.ask(connection)).code == 0, "the database is not back")
            wait_for(lambda: self.usable(connection), "not all workers are back")

    def usable(self, connection):
        numbers = [self.ask(connection) for _ in range(WORKERS * 4)]
        return {connection.receive(number).code for number in numbers} == {0}

    def test_drain_answers_calls_under_way_and_refuses_new_ones(self):
        server = self.dev.more("drain")
        with self.dev.connect(server.address) as under_way, self.dev.connect(server.address) as later:
            with self.lock():
                numbers = self.hang(lambda: self.ask(under_way), WORKERS // 2)
                server.process.send_signal(signal.SIGTERM)
                wait_for(lambda: later.call(CALLER, token=self.dev.admin).reason == "SERVER_DRAINING", "no drain")
                answer = later.call(CALLER, token=self.dev.admin)
                self.assertEqual((answer.code, answer.reason, answer.retry_ms > 0), (14, "SERVER_DRAINING", True))
                self.assertIsNone(server.process.poll())
            self.assertEqual({under_way.receive(number).code for number in numbers}, {0})
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_drain_whose_time_is_over_waits_for_no_statement(self):
        server = self.dev.more("late", COFFERD_SERVER__DRAIN_TIMEOUT="500ms")
        with self.dev.connect(server.address) as under_way, self.lock():
            number = self.hang(lambda: self.ask(under_way), 1)[0]
            server.process.send_signal(signal.SIGTERM)
            # The lock is never given back meanwhile, and the call's own time is a minute.
            self.assertEqual(server.process.wait(PATIENCE), 0)
            with self.assertRaises(OSError):
                self.assertNotEqual(under_way.receive(number).code, 0)
                under_way.call(CALLER, token=self.dev.admin)


if __name__ == "__main__":
    unittest.main()
