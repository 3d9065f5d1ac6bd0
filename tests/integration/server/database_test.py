#!/usr/bin/env python3
"""PostgreSQL goes away, crashes and comes back: every answer is right or says clearly what is wrong."""

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
import traceback
import unittest

import context
from cofferd import Relay, references, values, wait_for
from sp_client import uuid7

CALLER = "coffer.v1.TokenService/GetCaller"
HEALTH = "grpc.health.v1.Health/Check"
SECRET = "coffer.v1.SecretService/"
CLEAR = {"DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN"}
CRASHES = 10 if os.environ.get("TEST_FULL") else 4
CLIENTS = 3  # of writers, and of readers


class Database(context.ServerTest):
    def crash(self):
        """PostgreSQL as after a crash: when one of its processes is killed it ends all others and recovers."""
        def victim():
            """Once it has recovered from the crash before, which calls may have got ahead of."""
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.sql("select pg_postmaster_start_time(), pid from pg_stat_activity where backend_type ="
                                " 'client backend' and pid <> pg_backend_pid() limit 1")
            return None
        before, pid = wait_for(victim, "PostgreSQL does not recover").split("|")
        os.kill(int(pid), signal.SIGKILL)
        return before

    def writer(self, index, stop, written):
        """Counts up in a secret of its own; each step is repeated with its request ID until it is known."""
        name = f"counter{index}"
        while not stop.is_set():
            step = written[index] + 1
            method, request = ("CreateSecret", {"values": values(N=b"%d" % step)}) if step == 1 else (
                "UpdateSecretValues", {"replace": {"values": values(N=b"%d" % step)}, "expected_version": step - 1})
            request_id = uuid7()
            for attempt in itertools.count():
                with self.dev.connect() as connection:
                    answer = connection.call(SECRET + method, {"name": name, "environment": "load", **request},
                                             token=self.dev.admin, request_id=request_id, attempt=attempt)
                if answer.code == 0:
                    break
                assert answer.code == 14 and answer.reason in CLEAR, answer
                time.sleep(0.02)
            assert answer.message["secret"]["version"] == step, answer
            written[index] = step

    def reader(self, index, stop, written, seen):
        """What is resolved is never older than what was known to be written when it was asked for."""
        name = f"counter{index}"
        with self.dev.connect() as connection:
            while not stop.is_set():
                least = written[index]
                answer = connection.call(context.RESOLVE, {"items": [{
                    "environments": ["load"], "references": references(f"{name}.N")}]}, token=self.dev.admin)
                if answer.code != 0:
                    assert answer.code == 14 and answer.reason in CLEAR, answer
                    time.sleep(0.02)
                    continue
                result = answer.message["results"][0]
                outcome = result["status"]["outcome"]
                if outcome == "OUTCOME_SECRET_NOT_FOUND":
                    assert least == 0, answer
                elif outcome == "OUTCOME_RESOLVED":
                    number = int(self.value(result, name, "N"))
                    assert least <= number == result["secrets"][0]["version"], (least, result)
                    seen[index] += 1
                else:
                    assert outcome == "OUTCOME_STORE_UNAVAILABLE", answer

    def resolved(self, name):
        answer = self.call(context.RESOLVE, {"items": [{"environments": ["load"], "references": references(name)}]})
        result = answer.message["results"][0] if answer.code == 0 else None
        return result if result and result["status"]["code"] == 0 else None

    def test_crashes_of_postgresql_under_load_give_right_or_clear_answers_and_lose_nothing(self):
        stop, failures = threading.Event(), []
        written, seen = [0] * CLIENTS, [0] * CLIENTS

        def guarded(run, *arguments):
            try:
                run(*arguments)
            except Exception:  # in a thread: the test must see it
                failures.append(traceback.format_exc())
                stop.set()
        threads = [threading.Thread(target=guarded, args=(self.writer, i, stop, written)) for i in range(CLIENTS)]
        threads += [threading.Thread(target=guarded, args=(self.reader, i, stop, written, seen)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(CRASHES):
                goal = [n + 3 for n in written], [n + 3 for n in seen]
                wait_for(lambda: stop.is_set() or (all(map(int.__ge__, written, goal[0])) and
                                                   all(map(int.__ge__, seen, goal[1]))), "everybody gets on")
                if not stop.is_set():
                    self.crash()
            goal = [n + 3 for n in written]
            wait_for(lambda: stop.is_set() or all(map(int.__ge__, written, goal)), "writes go on after the last crash")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        for i, count in enumerate(written):
            # Each session of the server meets the crash once, with the next call that it is given.
            result = wait_for(lambda name=f"counter{i}.N": self.resolved(name), "the value is read")
            self.assertEqual((int(self.value(result, f"counter{i}", "N")), result["secrets"][0]["version"]), (count, count))
        print(f"{CRASHES} crashes, {sum(written)} writes, {sum(seen)} reads", flush=True)

    def test_readiness_follows_the_database_although_nobody_calls(self):
        with Relay(self.dev.directory) as relay:
            server = self.dev.more("relayed", COFFERD_DATABASE__CONNINFO=f"host={relay.directory} user=coffer dbname=postgres",
                                   COFFERD_DATABASE__CONNECT_TIMEOUT="1s")
            with self.dev.connect(server.address) as connection:
                def status(service="readiness"):
                    return connection.call(HEALTH, {"service": service}).message["status"]
                for _ in range(2):
                    wait_for(lambda: connection.call(CALLER, token=self.dev.admin).code == 0, "calls are answered")
                    relay.cut()
                    wait_for(lambda: status() == "NOT_SERVING", "it is seen that the database has gone")
                    self.assertEqual((status("coffer.v1.ResolveService"), status("liveness")), ("NOT_SERVING", "SERVING"))
                    answer = connection.call(CALLER, token=self.dev.admin)
                    self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))
                    relay.restore()
                    wait_for(lambda: status() == "SERVING", "it is seen that the database is back")
                wait_for(lambda: connection.call(CALLER, token=self.dev.admin).code == 0, "calls are answered")


if __name__ == "__main__":
    unittest.main(verbosity=2)
