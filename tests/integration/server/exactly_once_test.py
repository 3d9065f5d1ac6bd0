#!/usr/bin/env python3
"""Writes whose reply is lost are done once (T06): servers die between COMMIT and reply, clients ask again elsewhere."""

import os
import threading
import unittest

import context
from cofferd import values
from sp_client import uuid7

CREATE = "coffer.v1.SecretService/CreateSecret"
UPDATE = "coffer.v1.SecretService/UpdateSecretValues"
GET = "coffer.v1.SecretService/GetSecret"
# 1,000 writes at full size.
WRITES = 1000 if os.environ.get("TEST_FULL") else 120
WRITERS = 6


class Killed:
    """A server that ends itself at a fault point with some probability, and is started again whenever it has."""

    def __init__(self, dev, name, fault):
        self.dev, self.name, self.fault = dev, name, fault
        self.deaths = 0
        self.lock = threading.Lock()
        self.server = dev.more(name, COFFER_FAULT=fault)

    def connect(self):
        with self.lock:
            if self.server.process.poll() is not None:
                self.deaths += 1
                self.dev.extra.remove(self.server)
                self.server.stop()
                self.server = self.dev.more(self.name, COFFER_FAULT=self.fault)
            address = self.server.address
        return self.dev.connect(address)

    def end(self):
        """The last one may be dead already; it counts."""
        if self.server.process.poll() is not None:
            self.deaths += 1
            self.dev.extra.remove(self.server)
            self.server.stop()


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

    def sweep(self, fault):
        servers = [Killed(self.dev, f"{fault.split(':')[0].replace('.', '-')}-{i}", fault) for i in range(2)]
        environment = fault.replace(":", "-")
        failures = []

        def writer(index):
            try:
                name = f"counter{index}"
                for i in range(WRITES // WRITERS):
                    pairs = values(**{f"K{i % 50}": b"%d" % i})
                    answer = self.write(servers, *((CREATE, {"name": name, "environment": environment, "values": pairs})
                                                   if i == 0 else
                                                   (UPDATE, {"name": name, "environment": environment,
                                                             "patch": {"set": pairs}})))
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
        for server in servers:
            server.end()
        deaths = sum(server.deaths for server in servers)
        print(f"{fault}: {WRITES} writes, {deaths} deaths", flush=True)
        self.assertGreater(deaths, 0)  # several faults can meet in one death
        for index in range(WRITERS):
            secret = self.call(GET, {"name": f"counter{index}", "environment": environment}).message["secret"]
            self.assertEqual(secret["version"], WRITES // WRITERS)

    def test_write_is_done_once_when_servers_die_between_commit_and_reply(self):
        self.sweep("write.after_commit:exit:0.15")

    def test_write_is_done_once_when_servers_die_while_they_commit(self):
        self.sweep("write.before_commit:exit:0.15")


if __name__ == "__main__":
    unittest.main(verbosity=2)
