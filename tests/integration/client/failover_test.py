#!/usr/bin/env python3
"""libcoffer with several servers: what another server can answer is not lost, and writes happen once.

The load is made by load.c, which checks every value and every version that it gets.
"""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "server"))

import context
from cofferd import PATIENCE, values, wait_for

CREATE = "coffer.v1.SecretService/CreateSecret"
GET = "coffer.v1.SecretService/GetSecret"
LOAD = os.environ.get("COFFER_LOAD", str(pathlib.Path(os.environ.get("COFFER_BUILD", "build/debug")) /
                                         "tests/integration/client/coffer_client_load"))
SECRETS = 8
FULL = bool(os.environ.get("TEST_FULL"))
PATIENT = {"COFFERD_DATABASE__CONNECT_TIMEOUT": "60s"}  # where others keep the machine busy, too
SEED = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(2**63))


class Load:
    """A running load; counts() is what was done, what failed and what was wrong so far. `longest` is how long the longest
    call took so far, in milliseconds; it may be set back."""

    def __init__(self, dev, addresses, *arguments, timeout="1min"):
        environment = {**os.environ, "COFFER_ADDR": ",".join(addresses), "COFFER_TOKEN": dev.admin.decode(),
                       "LOAD_SETTINGS": f"connect_timeout=1min timeout={timeout}"}
        for name in ("COFFER_TOKEN_FILE", "COFFER_WORKSPACE", "COFFER_ENVIRONMENT", "COFFER_TIMEOUT"):
            environment.pop(name, None)
        self.process = subprocess.Popen([LOAD, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        self.errors, self.longest = [], 0
        self.reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr))
        self.reader.start()

    def counts(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        *counts, longest = map(int, self.process.stdout.readline().split())
        self.longest = max(self.longest, longest)
        return tuple(counts)

    def wait_for_more(self, calls):
        """Until so many more calls are done: some of them began after whatever was done to the servers."""
        goal = self.counts()[0] + calls
        wait_for(lambda: self.counts()[0] >= goal, f"the load stands still: {self.errors}")

    def end(self):
        self.process.stdin.close()
        self.process.stdin = None
        done, failed, wrong, _ = map(int, self.process.stdout.readline().split())
        code = self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, done, failed, wrong


class CuttingProxy:
    """A Unix socket in front of a server that sometimes takes a request, or its answer, and cuts the connection."""

    def __init__(self, path, target, seed):
        self.path, self.target, self.random = path, target, random.Random(seed)
        self.cuts = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.target)
        except OSError:
            client.close()
            return
        ends = (client, server)
        for source, to in (ends, ends[::-1]):
            threading.Thread(target=self.pump, args=(source, to, ends), daemon=True).start()

    def pump(self, source, to, ends):
        """What comes in one piece goes on as a whole or not at all, so that no message is cut in the middle."""
        try:
            while True:
                piece = source.recv(1 << 16)
                if not piece or len(piece) > 16 and self.random.random() < 0.03:
                    self.cuts += bool(piece)
                    break
                to.sendall(piece)
        except OSError:
            pass
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        source.close()

    def close(self):
        self.listener.close()


class Failover(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for number in range(SECRETS):
            answer = cls.connection.call(CREATE, {"name": f"s{number}", "values": values(KEY=b"value-%d" % number)},
                                         token=cls.dev.admin)
            assert answer.code == 0, answer

    def end_servers(self):
        """Their sessions are needed by the next test's."""
        while self.dev.extra:
            server = self.dev.extra.pop()
            self.assertEqual(server.stop(), 0, server.log.read_text()[-4000:])

    def two_servers(self, count=2):
        self.addCleanup(self.end_servers)
        return [self.dev.more(f"{self._testMethodName[5:15]}-{i}", **PATIENT) for i in range(count)]

    def end_and_restart(self, servers, index, how):
        server = servers[index]
        self.dev.extra.remove(server)
        server.stop(how)
        return server

    def start_again(self, servers, index):
        name = pathlib.Path(servers[index].address.removeprefix("ipc://")).stem
        servers[index] = self.dev.more(name, **PATIENT)

    def expect_all_good(self, load, at_least):
        code, done, failed, wrong = load.end()
        self.assertEqual((code, failed, wrong), (0, 0, 0), "".join(load.errors[:20]))
        self.assertGreater(done, at_least)
        return done

    def servers_end_by_turns(self, how):
        servers = self.two_servers()
        load = Load(self.dev, [server.address for server in servers], "resolve", 6)
        load.wait_for_more(100)
        for turn in range(4):
            index = turn % 2
            self.end_and_restart(servers, index, how)
            load.wait_for_more(100)
            self.start_again(servers, index)
            load.wait_for_more(100)
        print(f"{self._testMethodName}: {self.expect_all_good(load, 900)} resolves", flush=True)

    def test_killed_server_costs_no_resolve(self):
        self.servers_end_by_turns(signal.SIGKILL)

    def test_draining_server_costs_no_resolve(self):
        self.servers_end_by_turns(signal.SIGTERM)

    def test_rolling_restart_of_three_servers_fails_no_call(self):
        """T07: one after the other, under reads and writes; at full size one every 2 s for 10 minutes."""
        servers = self.two_servers(3)
        addresses = [server.address for server in servers]
        restarts, pace = (300, 2) if FULL else (3, 0)
        self.make_counters("rolling", 2)
        reads = Load(self.dev, addresses, "resolve", 4)
        writes = Load(self.dev, addresses, "write", 2, 1000000, "rolling")
        begun = time.monotonic()
        for turn in range(restarts):
            index = turn % len(servers)
            time.sleep(max(0, begun + turn * pace - time.monotonic()))
            for load in (reads, writes):
                load.wait_for_more(20)
            self.end_and_restart(servers, index, signal.SIGTERM)
            for load in (reads, writes):
                load.wait_for_more(20)
            self.start_again(servers, index)
        print(f"{restarts} restarts in {time.monotonic() - begun:.0f} s, {self.expect_all_good(reads, 40)} resolves,"
              f" {self.expect_all_good(writes, 40)} writes", flush=True)

    def test_gap_of_a_killed_server_is_short_with_two_left(self):
        """P17: prints how long the longest call took that met a kill."""
        servers = self.two_servers(3)
        load = Load(self.dev, [server.address for server in servers], "resolve", 8)
        load.wait_for_more(200)
        quiet, gaps = load.longest, []
        for turn in range(30 if FULL else 3):
            load.counts()
            load.longest = 0
            self.end_and_restart(servers, turn % 3, signal.SIGKILL)
            load.wait_for_more(200)
            gaps.append(load.longest)
            self.start_again(servers, turn % 3)
            load.wait_for_more(50)
        self.expect_all_good(load, 500)
        gaps.sort()
        print(f"{len(gaps)} kills: the longest call took {gaps[len(gaps) // 2]} ms (median), {gaps[-1]} ms (most);"
              f" without a kill {quiet} ms", flush=True)
        self.assertLess(gaps[-1], 30000)

    def test_64_threads_lose_nothing_when_a_server_is_killed(self):
        """64 threads that wait, and as many calls by callbacks, while one of two servers is killed."""
        servers = self.two_servers()
        load = Load(self.dev, [server.address for server in servers], "resolve", 64)
        load.wait_for_more(500)
        self.end_and_restart(servers, 0, signal.SIGKILL)
        load.wait_for_more(1000)
        print(f"{self._testMethodName}: {self.expect_all_good(load, 1500)} resolves", flush=True)

    def test_server_that_hangs_costs_no_resolve(self):
        servers = self.two_servers()
        load = Load(self.dev, [server.address for server in servers], "resolve", 4, timeout="16s")
        for server in servers:
            load.wait_for_more(50)
            server.process.send_signal(signal.SIGSTOP)
            try:
                load.wait_for_more(200)
            finally:
                server.process.send_signal(signal.SIGCONT)
        self.expect_all_good(load, 500)

    def make_counters(self, prefix, count):
        for number in range(count):
            answer = self.call(CREATE, {"name": f"{prefix}{number}", "values": values(KEY=b"begin")})
            self.assertEqual(answer.code, 0, answer)

    def test_write_happens_once_though_servers_are_killed_and_connections_cut(self):
        writers, writes = 4, 250 if os.environ.get("TEST_FULL") else 60
        print(f"TEST_SEED={SEED}", flush=True)
        self.make_counters("counter", writers)
        servers = self.two_servers()
        proxies = [CuttingProxy(f"{self.dev.directory}/proxy-{i}.sock",
                                server.address.removeprefix("ipc://"), SEED + i) for i, server in enumerate(servers)]
        load = Load(self.dev, [f"ipc://{proxy.path}" for proxy in proxies], "write", writers, writes)
        kills = 0
        while load.counts()[0] < writers * writes:
            index = kills % 2
            before = load.counts()[0]
            self.end_and_restart(servers, index, signal.SIGKILL)
            self.start_again(servers, index)
            kills += 1
            wait_for(lambda: load.counts()[0] > before or load.counts()[0] == writers * writes,
                     f"the load stands still: {load.errors}")
            if load.counts()[1]:
                break
        self.expect_all_good(load, writers * writes - 1)
        cuts = sum(proxy.cuts for proxy in proxies)
        print(f"{writers * writes} writes, {kills} kills, {cuts} cuts", flush=True)
        self.assertGreater(kills + cuts, 5)
        for proxy in proxies:
            proxy.close()
        for number in range(writers):
            secret = self.call(GET, {"name": f"counter{number}"}).message["secret"]
            self.assertEqual(secret["version"], writes + 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
