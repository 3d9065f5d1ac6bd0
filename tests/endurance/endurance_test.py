#!/usr/bin/env python3
"""What a server lives through: many tenants in a small cache, and broken connections.

One server for all of it. Each test has two sizes: seconds, and with TEST_FULL=1 what its rule says.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration" / "server"))

import context  # noqa: E402
from cofferd import BUILD, seed, values, wait_for  # noqa: E402

FULL = bool(os.environ.get("TEST_FULL"))
PROGRAMS = BUILD / "tests" / "endurance"
SANITIZED = "COFFER_SANITIZE:STRING=\n" not in (BUILD / "CMakeCache.txt").read_text()
CALLER = "coffer.v1.TokenService/GetCaller"


def size(name, full, small):
    """How much is done; TEST_READS=1000000 and the like say it exactly."""
    return int(os.environ.get(f"TEST_{name}") or (full if FULL else small))


TENANTS = size("TENANTS", 1000, 40)
READS = size("READS", 10_000_000, 20_000)
BROKEN = size("BROKEN", 1_000_000, 4_000)


class Endurance(context.AccessTest):
    SETTINGS = {
        "COFFERD_CACHE__SIZE": str(512 << 10) if FULL else "65536",
        "COFFERD_LOG__REQUESTS": "none",
        "COFFERD_TRANSPORT__RECEIVE_TIMEOUT": "2s",
        "COFFERD_TOKENS__USE_INTERVAL": "1s",
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.seed = seed()
        cls.pid = cls.dev.server.process.pid

    def environment(self, token_file):
        settings = {name: value for name, value in os.environ.items() if not name.startswith("COFFER_")}
        return {**settings, "TEST_SEED": str(self.seed), "COFFER_ADDR": f"{self.dev.ipc},{self.dev.tcp}",
                "COFFER_TOKEN_FILE": str(token_file)}

    def token_file(self, name, token):
        file = self.dev.directory / f"{name}.token"
        file.touch(0o600)
        file.write_bytes(token)
        return file

    @staticmethod
    def descriptors(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))

    @staticmethod
    def resident(pid):
        """Bytes of memory, without the files that are mapped, of which the audit log is one that grows."""
        return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) << 10

    # --- Tenants

    def make_tenants(self):
        workspaces = []
        for i in range(TENANTS):
            answer = self.call(context.WORKSPACE + "CreateWorkspace", {"name": f"tenant-{i}"}, token=self.dev.system)
            workspaces.append(answer.message["workspace"]["uid"])
        fleet = self.fleet([{"permissions": ["resolve", "secret:write"]}])
        for workspace in workspaces:
            for name in ("s0", "s1", "s2", "s3"):
                self.create(name, token=fleet, workspace=workspace, KEY=f"{workspace} {name}".encode())
        file = self.dev.directory / "tenants"
        file.write_text("".join(f"{workspace}\n" for workspace in workspaces))
        return file, fleet

    def test_no_tenant_gets_a_foreign_byte_while_entries_are_evicted_and_clients_come_back(self):
        file, fleet = self.make_tenants()
        begun = time.monotonic()
        done = subprocess.run([PROGRAMS / "coffer_tenants", file, str(READS), "4"], stdout=subprocess.PIPE, text=True,
                              env=self.environment(self.token_file("fleet", fleet)), timeout=3600, check=True)
        reads, foreign, failed = map(int, done.stdout.split())
        print(f"{reads} reads of {TENANTS} tenants in {time.monotonic() - begun:.0f} s: {foreign} foreign, {failed} failed")
        self.assertEqual((reads, foreign, failed), (READS, 0, 0))

    # --- Broken connections

    def served(self, stop, times):
        """A caller who means well, all the time."""
        with self.dev.connect(self.dev.tcp) as connection:
            while not stop.is_set():
                begun = time.monotonic()
                answer = connection.call(CALLER, token=self.dev.admin)
                times.append(time.monotonic() - begun)
                if answer.code != 0:
                    raise AssertionError(answer)

    def meanwhile(self, action):
        """The times that calls took while something went on."""
        stop, times, failures = threading.Event(), [], []

        def run():
            try:
                self.served(stop, times)
            except Exception as failure:  # told by the thread that waits
                failures.append(failure)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            action()
        finally:
            stop.set()
            thread.join()
        self.assertEqual(failures, [])
        return sorted(times)

    def another(self):
        """The addresses of a second server."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        path = self.dev.directory / "another.sock"
        self.dev.more("another", COFFERD_TRANSPORT__LISTEN=f"ipc://{path}, tcp://127.0.0.1:{port}")
        return [f"127.0.0.1:{port}", str(path)]

    def test_broken_connections_and_bad_frames_end_no_server_and_leave_nothing_behind(self):
        alone = self.meanwhile(lambda: time.sleep(1))
        addresses = [self.dev.tcp.removeprefix("tcp://"), self.dev.ipc.removeprefix("ipc://")]
        before, resident = None, None
        made = 0

        def attack(count, addresses=addresses):
            nonlocal made
            for address in addresses:
                done = subprocess.run([PROGRAMS / "coffer_broken", address, str(count // len(addresses))], check=True,
                                      stdout=subprocess.PIPE, text=True, timeout=3600, env=self.environment("/dev/null"))
                made += int(done.stdout.split()[0])
        # What is freed stays with libc in part, as much as was in use at once; what is lost would grow on and on.
        attack(BROKEN // 2)
        self.assertEqual(self.call(CALLER).code, 0)
        wait_for(lambda: self.descriptors(self.pid) < 100, "connections are left behind")
        before, resident = self.descriptors(self.pid), self.resident(self.pid)
        attacked = self.meanwhile(lambda: attack(BROKEN // 2))
        # Those who attack take processors from everybody, also where it is another server that they attack.
        another = self.another() if FULL else []
        busy = self.meanwhile(lambda: attack(BROKEN // 2, another)) if FULL else alone
        wait_for(lambda: self.descriptors(self.pid) <= before + 2, "connections are left behind")
        grown = self.resident(self.pid) - resident
        p99 = [times[len(times) * 99 // 100] * 1000 for times in (alone, attacked, busy)]
        print(f"{made} broken connections; {len(attacked)} calls meanwhile, p99 {p99[1]:.2f} ms, alone {p99[0]:.2f} ms, "
              f"while another server was attacked {f'{p99[2]:.2f} ms' if FULL else 'not measured'}; memory {grown >> 10:+} KiB")
        if FULL:
            self.assertLess(p99[1], 2 * p99[2])
        self.assertGreater(made, BROKEN // 2)
        self.assertGreater(len(attacked), 10)
        if not SANITIZED:
            self.assertLess(grown, 16 << 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
