#!/usr/bin/env python3
"""What servers answer while PostgreSQL cannot be reached: older states where the workspace permits it, marked, and else
clear failures (serve_when_database_lost)."""

import contextlib
import os
import random
import signal
import socket
import statistics
import subprocess
import threading
import time
import unittest
import uuid

import context  # first: it knows where the others are
import cli
import token_text
from audit_test import export
from cofferd import STALENESS, Relay, references, seed, values, wait_for
from context import RESOLVE, SECRET, SYSTEM, WORKSPACE
from sp_client import uuid7

FULL = bool(os.environ.get("TEST_FULL"))
LONG = {"seconds": 900}
MAY_RESOLVE = [{"permissions": ["resolve"]}]


class LostTest(context.AccessTest):
    """`cut` is a server whose way to the database can be cut; writes go through another one, which keeps it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.relay = Relay(cls.dev.directory)
        cls.addClassCleanup(cls.relay.__exit__)
        cls.server = cls.dev.more("cut", COFFERD_DATABASE__CONNINFO=(
            f"host={cls.relay.directory} user=coffer dbname=postgres"), COFFERD_DATABASE__CONNECT_TIMEOUT="1s",
            COFFERD_DATABASE__BACKOFF_MAX="200ms")
        cls.cut = cls.dev.connect(cls.server.address)
        cls.addClassCleanup(cls.cut.close)

    def serve(self, time, workspace="", token=None):
        return self.call(WORKSPACE + "UpdateWorkspace", {
            "workspace": workspace, "update_mask": {"paths": ["serve_when_database_lost"]},
            "serve_when_database_lost": time}, token=token or self.dev.system)

    def served(self, name, time):
        """A workspace of its own that permits that; (its UUID, its token)."""
        workspace, token = self.new_workspace(name)
        self.create("kept", token=token, K=b"kept value")
        answer = self.serve(time, workspace)
        self.assertEqual(answer.code, 0, answer)
        return workspace, token

    def item(self, *names, **fields):
        return {"references": references(*(f"{name}.K" for name in names)), **fields}

    def ask(self, *items, token=None):
        return self.cut.call(RESOLVE, {"items": list(items)}, token=token or self.dev.admin)

    def keep(self, *items, token=None):
        """Asks so that the server keeps it."""
        answer = self.ask(*items, token=token)
        self.assertEqual({result["status"]["code"] for result in answer.message["results"]}, {0}, answer)
        self.assertEqual({result.get("stale_since") for result in answer.message["results"]}, {None})
        return answer

    @contextlib.contextmanager
    def lost(self):
        """Until the block is left; what is kept is not fresh any more when it is entered."""
        self.relay.cut()
        try:
            time.sleep(1.2 * STALENESS)
            yield
        finally:
            self.relay.restore()
            wait_for(lambda: self.cut.call(SECRET + "ListSecrets", token=self.dev.admin).code == 0,
                     "the database is reached again")

    @staticmethod
    def seconds(stamp):
        return stamp["seconds"] + stamp.get("nanos", 0) / 1e9

    def outcomes(self, answer):
        return [result["status"]["outcome"].removeprefix("OUTCOME_") for result in answer.message["results"]]


class Answers(LostTest):
    def test_older_state_is_answered_where_the_workspace_permits_it_marked_and_recorded(self):
        _, token = self.served("permits", LONG)
        self.keep(self.item("kept"), token=token)
        before = time.time()
        with self.lost():
            for _ in range(20):
                answer = self.ask(self.item("kept"), token=token)
                result, = answer.message["results"]
                self.assertEqual(self.value(result, "kept", "K"), b"kept value")
                since = self.seconds(result["stale_since"])
                self.assertLess(since, time.time() - STALENESS)
                self.assertGreater(since, before - 10)
        wanted = str(uuid.UUID(bytes=answer.request_id))
        state = self.server.log.parent / "cut.state"
        record, = [r for r in export(self.dev, state=state) if r.get("request_id") == wanted]
        self.assertEqual([(o["name"], o["keys"]) for o in record["objects"]], [("kept", ["K"])])
        self.assertIn("stale_since", record)
        wait_for(lambda: self.ask(self.item("kept"), token=token).message["results"][0].get("stale_since") is None,
                 "answers are fresh again")

    def test_nothing_older_is_answered_where_the_workspace_does_not_permit_it(self):
        _, token = self.new_workspace("forbids")
        self.create("kept", token=token, K=b"kept value")
        self.keep(self.item("kept"), token=token)
        with self.lost():
            answer = self.ask(self.item("kept"), token=token)
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))

    def test_item_with_a_consistency_token_is_unavailable_and_those_without_are_answered(self):
        _, token = self.served("consistent", LONG)
        state = self.keep(self.item("kept"), token=token).message["results"][0]["consistency_token"]
        with self.lost():
            answer = self.ask(self.item("kept", consistency_token=state), token=token)
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))
            answer = self.ask(self.item("kept", consistency_token=state), self.item("kept"), token=token)
            self.assertEqual(self.outcomes(answer), ["STORE_UNAVAILABLE", "RESOLVED"])
            self.assertEqual([r["status"]["code"] for r in answer.message["results"]], [14, 0])

    def test_what_is_not_kept_is_unavailable_alone(self):
        _, token = self.served("partly", LONG)
        self.create("unread", token=token, K=b"never asked for")
        self.keep(self.item("kept"), token=token)
        with self.lost():
            answer = self.ask(self.item("kept"), self.item("unread"), self.item("kept", "unread"), token=token)
            self.assertEqual(self.outcomes(answer), ["RESOLVED", "STORE_UNAVAILABLE", "STORE_UNAVAILABLE"])
            answer = self.ask(self.item("unread"), token=token)
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))

    def test_what_is_too_much_for_a_quick_answer_is_answered_from_older_state_as_well(self):
        _, token = self.served("much", LONG)
        names = [f"many{i}" for i in range(80)]
        for name in names:
            self.create(name, token=token, K=name.encode())
        self.keep(self.item(*names), token=token)
        with self.lost():
            result, = self.ask(self.item(*names), token=token).message["results"]
            self.assertEqual(len(result["secrets"]), len(names))
            self.assertIn("stale_since", result)

    def test_state_that_is_older_than_permitted_is_not_answered_and_the_reason_says_so(self):
        _, token = self.served("shortly", {"seconds": 6})
        self.keep(self.item("kept"), token=token)
        with self.lost():
            self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=token)), ["RESOLVED"])
            answer = wait_for(lambda: (a := self.ask(self.item("kept"), token=token)).code and a,
                              "what is kept grows too old")
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))
            self.assertIn("serve_when_database_lost", answer.text)

    def test_fleet_token_gets_older_state_of_the_workspaces_that_permit_it_and_of_no_other(self):
        permits, one = self.served("fleet-permits", LONG)
        forbids, two = self.new_workspace("fleet-forbids")
        self.create("kept", token=two, K=b"kept value")
        fleet = self.fleet(MAY_RESOLVE)
        items = [self.item("kept", workspace=workspace) for workspace in (permits, forbids)]
        self.keep(*items, token=fleet)
        self.keep(self.item("kept"), token=one)
        with self.lost():
            self.assertEqual(self.outcomes(self.ask(*items, token=fleet)), ["RESOLVED", "STORE_UNAVAILABLE"])
            self.assertEqual(self.ask(items[1], token=fleet).reason, "DATABASE_UNAVAILABLE")

    def test_tokens_are_checked_as_ever(self):
        _, token = self.served("checked", LONG)
        name, _ = self.account(MAY_RESOLVE, token=token)
        narrow = self.token_for([{"permissions": ["resolve"], "names": ["other"]}], token=token)
        never = self.token_for(MAY_RESOLVE, token=token)
        ends = int(time.time()) + 8
        soon = self.issue(name, token=token, expire_time={"seconds": ends}).message["secret_text"]
        for good in (token, soon):
            self.keep(self.item("kept"), token=good)
        self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=narrow)), ["PERMISSION_DENIED"])
        with self.lost():
            self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=narrow)), ["PERMISSION_DENIED"])
            self.assertEqual(self.ask(self.item("kept"), token=never).reason, "DATABASE_UNAVAILABLE")
            kind, where, token_id, _ = token_text.parse(token)
            wrong = token_text.make(kind, where, token_id, os.urandom(token_text.SECRET))
            self.assertEqual(self.ask(self.item("kept"), token=wrong).reason, "TOKEN_INVALID")
            wait_for(lambda: self.ask(self.item("kept"), token=soon).reason == "TOKEN_EXPIRED", "the token works on")
            self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=token)), ["RESOLVED"])

    def test_state_that_a_write_has_ended_is_not_answered_even_if_the_new_one_is_not_known(self):
        _, token = self.served("ended", LONG)
        self.keep(self.item("kept"), token=token)
        self.assertEqual(self.call(SECRET + "UpdateSecretValues", {
            "name": "kept", "patch": {"set": values(K=b"new value")}}, token=token).code, 0)
        time.sleep(3 * STALENESS)  # in one of them the server learns of it; what it knows is not to be seen
        with self.lost():
            self.assertEqual(self.ask(self.item("kept"), token=token).reason, "DATABASE_UNAVAILABLE")


    def test_coffer_says_on_standard_error_that_a_value_is_of_an_older_state(self):
        _, token = self.served("told", LONG)
        variables = cli.environment(self.dev, COFFER_ADDR=self.server.address, COFFER_TOKEN_FILE=None,
                                    COFFER_TOKEN=token.decode() if isinstance(token, bytes) else token)
        self.assertEqual(cli.run(variables, "get", "kept.K")[::2], (0, ""))
        with self.lost():
            code, out, said = cli.run(variables, "get", "kept.K")
            self.assertEqual((code, out.strip()), (0, b"kept value"))
            self.assertRegex(said, r"^coffer: warning: the server has lost its database; this is what it knew at 20.*Z\n$")


class SlowRelay(Relay):
    """A way to the database that can be made slow, or silent."""

    def __init__(self, dev_directory):
        self.delay, self.silent = 0, threading.Event()
        super().__init__(dev_directory)

    def _copy(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                while self.silent.is_set():
                    time.sleep(0.02)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Load(context.AccessTest):
    """Readers and writers of two workspaces, one of which permits older state, over a server whose way to the database is
    slow, silent or cut, while PostgreSQL crashes."""

    NAMES = [f"n{i}" for i in range(4)]
    READERS = 4
    WRITE_EACH = 0.04  # seconds between two writes: about 5 of 100 calls
    CLEAR = {"DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED"}

    def setUp(self):
        self.relay = SlowRelay(self.dev.directory)
        self.addCleanup(self.relay.__exit__)
        self.server = self.dev.more(self._testMethodName[5:20], COFFERD_DATABASE__CONNINFO=(
            f"host={self.relay.directory} user=coffer dbname=postgres"), COFFERD_DATABASE__CONNECT_TIMEOUT="1s",
            COFFERD_LOG__REQUESTS="none")
        self.stop, self.hold, self.wrong = threading.Event(), threading.Event(), []
        self.reads = {True: [], False: []}  # by whether older state is permitted: (when, how long, outcome)
        self.written, self.lost_writes, self.threads = {}, [], []

    def tenant(self, permits):
        workspace, token = self.new_workspace(f"{self._testMethodName[5:30].replace('_', '-')}-{permits}".lower())
        for name in self.NAMES:
            self.create(name, token=token, K=b"1")
            self.written[token, name] = 1
        if permits:
            self.assertEqual(self.call(WORKSPACE + "UpdateWorkspace", {
                "workspace": workspace, "update_mask": {"paths": ["serve_when_database_lost"]},
                "serve_when_database_lost": LONG}, token=self.dev.system).code, 0)
        return token

    def read(self, token, permits, chance):
        with self.dev.connect(self.server.address) as connection:
            while not self.stop.is_set():
                name = chance.choice(self.NAMES)
                least, begin = self.written[token, name], time.monotonic()
                answer = connection.call(RESOLVE, {"items": [{"references": references(f"{name}.K")}]}, token=token,
                                         timeout_ms=5000)
                took = time.monotonic() - begin
                result = answer.message["results"][0] if answer.code == 0 else None
                if result is None or result["status"]["code"] != 0:
                    reason = answer.reason or result["status"]["outcome"]
                    if reason not in self.CLEAR | {"OUTCOME_STORE_UNAVAILABLE"}:
                        self.wrong.append((name, answer))
                    self.reads[permits].append((begin, took, "failed"))
                    time.sleep(0.005)
                    continue
                number = int(self.value(result, name, "K"))
                # The writes went through this server: what it has acknowledged is never undone, in older answers neither.
                if not least <= number == result["secrets"][0]["version"] or (result.get("stale_since") and not permits):
                    self.wrong.append((name, least, result))
                self.reads[permits].append((begin, took, "older" if result.get("stale_since") else "fresh"))

    def write(self, token, chance):
        with self.dev.connect(self.server.address) as connection:
            while not self.stop.wait(self.WRITE_EACH):
                if self.hold.is_set():
                    continue
                name = chance.choice(self.NAMES)
                step, request_id, begin = self.written[token, name] + 1, uuid7(), time.monotonic()
                while not self.stop.is_set():
                    answer = connection.call(SECRET + "UpdateSecretValues", {
                        "name": name, "patch": {"set": values(K=b"%d" % step)}}, token=token, request_id=request_id,
                        timeout_ms=5000)
                    if answer.code == 0:
                        if answer.message["secret"]["version"] != step:
                            self.wrong.append((name, step, answer))
                        self.written[token, name] = step
                        self.lost_writes.append((begin, time.monotonic()))
                        break
                    if answer.reason not in self.CLEAR:
                        self.wrong.append((name, step, answer))
                    time.sleep(0.01)

    def start_load(self, write=True):
        number = seed()
        for i, permits in enumerate((True, False)):
            token = self.tenant(permits)
            runs = [(self.read, token, permits, random.Random(number + 10 * i + k)) for k in range(self.READERS // 2)]
            runs += [(self.write, token, random.Random(number + 10 * i + 9))] if write else []
            for run, *arguments in runs:
                self.threads.append(threading.Thread(target=self.guarded, args=(run, *arguments)))
        for thread in self.threads:
            thread.start()
        self.addCleanup(self.end_load)

    def guarded(self, run, *arguments):
        try:
            run(*arguments)
        except Exception as failure:  # in a thread: the test must see it
            self.wrong.append(failure)

    def end_load(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.threads = []

    def during(self, permits, begin, end):
        return [(took, outcome) for at, took, outcome in list(self.reads[permits]) if begin <= at < end]

    def phase(self, seconds):
        begin = time.monotonic()
        while time.monotonic() - begin < seconds and not self.wrong:
            time.sleep(0.05)
        return begin, time.monotonic()

    def silence(self, seconds):
        """A phase that goes on until older state is answered, on a machine that has much else to do."""
        begin, _ = self.phase(seconds)
        wait_for(lambda: self.wrong or self.rate(True, (begin + 1.2 * STALENESS, time.monotonic()), "older") > 0,
                 "older state is answered")
        return begin, time.monotonic()

    def rate(self, permits, phase, *outcomes):
        return sum(outcome in outcomes for _, outcome in self.during(permits, *phase)) / (phase[1] - phase[0])

    @staticmethod
    def p99(reads):
        return sorted(took for took, _ in reads)[len(reads) * 99 // 100] * 1000

    def crash(self):
        pid = int(self.sql("select pid from pg_stat_activity where backend_type = 'client backend'"
                           " and pid <> pg_backend_pid() limit 1"))
        self.relay.cut()
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # its client has just gone
            self.crash()

    def accepts(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.sql("select 1") == "1"

    def test_reads_go_on_while_postgresql_is_killed_under_load_and_writes_come_back(self):
        """T02: no wrong answer; reads go on where the workspace permits it, and fail clearly where not."""
        self.start_load()
        quiet = self.phase(1.5)
        shares, back = [], []
        for _ in range(20 if FULL else 2):
            if not FULL:
                # What nobody asks for between the last write and the crash is not kept: a few crashes could find nothing.
                self.hold.set()
                self.phase(1)
            self.crash()
            self.hold.clear()
            gone = self.phase(2 * STALENESS)
            wait_for(self.accepts, "PostgreSQL has recovered")
            self.relay.restore()
            restored, count = time.monotonic(), len(self.lost_writes)
            wait_for(lambda before=count: self.wrong or len(self.lost_writes) > before + 4, "writes are answered again")
            back.append(min(end for _, end in self.lost_writes[count:]) - restored)
            late = gone[0] + 1.2 * STALENESS, gone[1]
            shares.append(self.rate(True, late, "older", "fresh") / self.rate(True, quiet, "fresh"))
            self.assertEqual(self.rate(False, late, "older", "fresh"), 0)
            self.phase(1)
        self.end_load()
        self.assertEqual(self.wrong, [])
        print(f"{len(shares)} crashes, {len(self.lost_writes)} writes, {sum(map(len, self.reads.values()))} reads; reads while"
              f" it was away: {statistics.mean(shares):.2f} of before ({min(shares):.2f} to {max(shares):.2f}); writes back after {max(back):.2f} s at most",
              flush=True)
        self.assertGreater(statistics.mean(shares), 0.1)

    def test_reads_of_what_is_kept_do_not_wait_for_a_slow_or_silent_database(self):
        """T29: +500 ms for each message of the database, then nothing at all; by turns, for the machine changes, too."""
        seconds, turns = (10, 4) if FULL else (2, 1)
        self.start_load(write=False)
        self.phase(1)
        phases = {"quiet": [], "slow": [], "silent": []}
        for _ in range(turns):
            phases["quiet"].append(self.phase(seconds))
            self.relay.delay = 0.25
            phases["slow"].append(self.phase(seconds))
            self.relay.silent.set()
            phases["silent"].append(self.silence(seconds))
            self.relay.delay = 0
            self.relay.silent.clear()
            wait_for(lambda: self.wrong or self.rate(False, (time.monotonic() - 0.5, time.monotonic()), "fresh") > 0,
                     "the database answers again")
        self.end_load()
        self.assertEqual(self.wrong, [])
        found = {name: [read for phase in those for read in self.during(True, *phase)] for name, those in phases.items()}
        for name, reads in found.items():
            print(f"{name}: {len(reads)} reads, p99 {self.p99(reads):.2f} ms ({self.p99(reads) / self.p99(found['quiet']):.2f}),"
                  f" {sum(outcome == 'failed' for _, outcome in reads)} failed", flush=True)
        for begin, end in phases["silent"]:
            late = begin + 1.2 * STALENESS, end
            self.assertGreater(self.rate(True, late, "older"), 0)
            # What waits at the end is answered when the database is back.
            self.assertEqual([read for read in self.reads[False] if late[0] <= read[0] and read[0] + read[1] < end and
                              read[2] != "failed"], [])
        self.assertEqual([outcome for _, outcome in found["slow"] if outcome == "failed"], [])
        silent = [outcome for _, outcome in found["silent"]]
        self.assertLess(silent.count("failed"), len(silent) / 50)


class Setting(LostTest):
    def test_setting_is_never_in_a_new_workspace_and_at_most_15_minutes(self):
        workspace, token = self.new_workspace("setting")

        def read():
            return self.call(WORKSPACE + "GetWorkspace", {}, token=token).message["workspace"]["serve_when_database_lost"]

        def brief(time):
            return time.get("seconds", 0), time.get("nanos", 0)
        self.assertEqual(brief(read()), (0, 0))
        for wrong in ({"seconds": 901}, {"seconds": -1}, {"seconds": 900, "nanos": 1}, {"nanos": -1}):
            answer = self.serve(wrong, workspace)
            self.assertEqual((answer.code, answer.reason), (3, "FIELD_INVALID"), wrong)
        answer = self.serve({"seconds": 2, "nanos": 500_000_000}, workspace)
        self.assertEqual(brief(answer.message["workspace"]["serve_when_database_lost"]), (2, 500_000_000))
        for disabled in (True, False):
            self.assertEqual(self.call(WORKSPACE + "UpdateWorkspace", {
                "workspace": workspace, "update_mask": {"paths": ["disabled"]}, "disabled": disabled},
                token=self.dev.system).code, 0)
        self.assertEqual(brief(read()), (2, 500_000_000))
        self.assertEqual(self.serve({}, workspace).code, 0)
        self.assertEqual(brief(read()), (0, 0))
        self.assertEqual(self.serve(LONG, SYSTEM).code, 3)

    def test_setting_needs_the_right_to_change_the_workspace(self):
        _, token = self.new_workspace("rights")
        self.assertEqual(self.serve(LONG, token=token).reason, "PERMISSION_DENIED")
        made = self.call(WORKSPACE + "CreateWorkspace", {"name": "writable"}, token=self.dev.system)
        writer = self.token_for([{"permissions": ["workspace:write"]}], token=self.dev.system,
                                workspace=made.message["workspace"]["uid"])
        self.assertEqual(self.serve(LONG, token=writer).code, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
