#!/usr/bin/env python3
"""Writes are done once and none is lost (T01, T06): servers die between COMMIT and reply, or at any moment, and clients
ask again elsewhere. TEST_FULL=1 runs the full sizes; TEST_SEED repeats the moments of the kills."""

import os
import random
import signal
import threading
import time
import unittest

import context
from cofferd import seed, values
from context import RESOLVE
from sp_client import uuid7

CREATE = "coffer.v1.SecretService/CreateSecret"
UPDATE = "coffer.v1.SecretService/UpdateSecretValues"
IMPORT = "coffer.v1.SecretService/ImportSecrets"
GET = "coffer.v1.SecretService/GetSecret"
FULL = bool(os.environ.get("TEST_FULL"))
SEED = seed()
CHANCE = random.Random(SEED)
WRITES = 1000 if FULL else 120
WRITERS = 6
IMPORTS, IMPORTED = 30, 20  # and secrets in each
# Servers that are killed at random (T01).
KILLED_WRITES, KILLS = (10000, 200) if FULL else (240, 6)
KEYS = 50
FAULT_EXIT = 86  # of a server that ended at a fault point
# All versions, so that they can be counted; and a database that others keep busy, too, may take its time.
KEPT = {"COFFERD_LIMITS__VERSIONS_KEPT": "10000", "COFFERD_DATABASE__CONNECT_TIMEOUT": "60s"}


class Killed:
    """A server that ends at a fault point with some probability, or is killed, and is started again whenever it has
    ended."""

    def __init__(self, dev, name, fault=""):
        self.dev, self.name, self.fault = dev, name, fault
        self.deaths = 0
        self.lock = threading.Lock()
        self.server = dev.more(name, COFFER_FAULT=fault, **KEPT)

    def kill(self):
        """Whether there was something to kill."""
        with self.lock:
            alive = self.server.process.poll() is None
            self.server.process.send_signal(signal.SIGKILL)
        return alive

    def end(self):
        """The last server may be dead, and nobody has noticed; it counts."""
        self.dev.extra.remove(self.server)
        code = self.server.stop()
        self.deaths += code != 0
        assert code in (0, FAULT_EXIT, -signal.SIGKILL), (code, self.server.log.read_text()[-4000:])

    def connect(self):
        with self.lock:
            if self.server.process.poll() is not None:
                self.deaths += 1
                self.dev.extra.remove(self.server)
                self.server.stop()
                self.server = self.dev.more(self.name, COFFER_FAULT=self.fault, **KEPT)
            address = self.server.address
        return self.dev.connect(address)


class ExactlyOnce(context.ServerTest):
    def write(self, servers, method, request):
        """One call with as many attempts as it needs, each on the next server; the same request ID throughout."""
        request_id = uuid7()
        for attempt in range(200):
            try:
                with servers[attempt % len(servers)].connect() as connection:
                    answer = connection.call(method, request, token=self.dev.admin, request_id=request_id, attempt=attempt)
                if answer.code != 14:
                    return answer
            except OSError:
                pass
        raise AssertionError("200 attempts were not enough")

    def write_all(self, servers, environment, writes, write=None):
        """Several clients, each with a secret of its own: version i + 1 is its write number i, and no other."""
        failures = []

        def writer(index):
            try:
                name = f"counter{index}"
                for i in range(writes // WRITERS):
                    pairs = values(**{f"K{i % KEYS}": b"%d" % i})
                    request = {"name": name, "environment": environment}
                    answer = (write or self.write)(
                        servers, CREATE if i == 0 else UPDATE,
                        {**request, "values": pairs} if i == 0 else {**request, "patch": {"set": pairs}})
                    assert answer.code == 0, answer
                    assert answer.message["secret"]["version"] == i + 1, (i, answer.message)
            except Exception as failure:  # in a thread: the test must see it
                failures.append(failure)
        threads = [threading.Thread(target=writer, args=(i,)) for i in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def check_all(self, environment, writes):
        """Every write has had its effect, once, and whole."""
        each = writes // WRITERS
        last = {f"K{i % KEYS}": b"%d" % i for i in range(each)}
        for index in range(WRITERS):
            name = f"counter{index}"
            secret = self.call(GET, {"name": name, "environment": environment}).message["secret"]
            self.assertEqual(secret["version"], each)
            item = {"environments": [environment], "references": [{"name": name, "key": key} for key in last]}
            result = self.call(RESOLVE, {"items": [item]}).message["results"][0]
            self.assertEqual({pair["key"]: pair["value"] for pair in result["secrets"][0]["values"]}, last)
            stored = self.sql("select count(*), count(distinct from_revision), max(version) from (select secret_id, version,"
                              " from_revision from secret union all select secret_id, version, from_revision from"
                              f" secret_version) v where secret_id = '{secret['uid']}'")
            self.assertEqual(stored, f"{each}|{each}|{each}")

    @staticmethod
    def end(servers):
        for server in servers:
            server.end()

    def sweep(self, fault):
        servers = [Killed(self.dev, f"{fault.split(':')[0].replace('.', '-')}-{i}", fault) for i in range(2)]
        environment = fault.replace(":", "-")
        self.write_all(servers, environment, WRITES)
        self.end(servers)
        deaths = sum(server.deaths for server in servers)
        print(f"{fault}: {WRITES} writes, {deaths} deaths", flush=True)
        self.assertGreater(deaths, 0)  # several faults can meet in one death
        self.check_all(environment, WRITES)

    def test_write_is_done_once_when_servers_die_between_commit_and_reply(self):
        self.sweep("write.after_commit:exit:0.15")

    def test_write_is_done_once_when_servers_die_while_they_commit(self):
        self.sweep("write.before_commit:exit:0.15")

    def test_import_is_whole_and_done_once_when_servers_die_between_commit_and_reply_or_before(self):
        for fault in ("write.after_commit:exit:0.3", "write.before_commit:exit:0.3"):
            servers = [Killed(self.dev, f"import-{fault.split(':')[0].replace('.', '-')}-{i}", fault) for i in range(2)]
            environment = fault.replace(":", "-")
            for i in range(IMPORTS):
                answer = self.write(servers, IMPORT, {"mode": "IMPORT_MODE_REPLACE", "secrets": [
                    {"environment": environment, "name": f"s{k}", "values": values(KEY=b"%d" % i)} for k in range(IMPORTED)]})
                self.assertEqual((answer.code, answer.message["written"]), (0, True), answer)
                self.assertEqual({entry["version"] for entry in answer.message["secrets"]}, {i + 1})
            self.end(servers)
            deaths = sum(server.deaths for server in servers)
            print(f"{fault}: {IMPORTS} imports, {deaths} deaths", flush=True)
            self.assertGreater(deaths, 0)
            stored = self.sql("select count(*), min(version), max(version), count(distinct from_revision) from secret"
                              f" where environment = '{environment}'")
            self.assertEqual(stored, f"{IMPORTED}|{IMPORTS}|{IMPORTS}|1")

    def test_servers_killed_at_random_lose_no_write_and_do_none_twice(self):
        servers = [Killed(self.dev, f"shot-{i}") for i in range(2)]
        stop, chance, kills = threading.Event(), random.Random(SEED), [0]

        def killer():
            while not stop.wait(chance.uniform(0.02, 0.3)):
                if kills[0] < KILLS:
                    kills[0] += chance.choice(servers).kill()
        thread = threading.Thread(target=killer)
        thread.start()
        try:
            self.write_all(servers, "shot", KILLED_WRITES)
        finally:
            stop.set()
            thread.join()
        self.end(servers)
        deaths = sum(server.deaths for server in servers)
        print(f"{KILLED_WRITES} writes, {kills[0]} kills, {deaths} deaths", flush=True)
        self.assertGreater(deaths, 0)
        self.check_all("shot", KILLED_WRITES)

    def write_deaf(self, servers, method, request):
        """A write whose first reply nobody hears; then it is asked for on the other server."""
        request_id = uuid7()
        with servers[0].connect() as connection:
            connection.send(method, request, token=self.dev.admin, request_id=request_id)
            # Now and then the repeat meets the first attempt while it is under way.
            time.sleep(CHANCE.choice((0, 0.002, 0.02)))
        for attempt in range(1, 200):
            with servers[attempt % 2].connect() as connection:
                answer = connection.call(method, request, token=self.dev.admin, request_id=request_id, attempt=attempt)
            if answer.code not in (10, 14):
                return answer
        raise AssertionError("200 attempts were not enough")

    def test_write_is_done_once_when_every_reply_is_lost(self):
        servers = [Killed(self.dev, f"deaf-{i}") for i in range(2)]
        self.write_all(servers, "deaf", WRITES, self.write_deaf)
        self.check_all("deaf", WRITES)
        self.assertEqual([server.deaths for server in servers], [0, 0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
