#!/usr/bin/env python3
"""Calls that wait for a revision: parked without a thread or a session, and answered when it is reached."""

import base64
import signal
import unittest

import context
from cofferd import references, values, wait_for

SECRET = "coffer.v1.SecretService/"
WORKSPACE = "coffer.v1.WorkspaceService/"
RESOLVE = context.RESOLVE
HEALTH = "grpc.health.v1.Health/Check"
PATIENT_MS = 60000


def later(token, steps=1):
    """The consistency token of a revision that comes `steps` writes after that of `token`."""
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    revision = int.from_bytes(raw[9:], "big") + steps
    return base64.urlsafe_b64encode(raw[:9] + revision.to_bytes(8, "big")).rstrip(b"=").decode()


class WaitingTest(context.ServerTest):
    """Every test has a secret of its own; a write of it raises the workspace's revision by one."""

    def write(self, name, value, connection=None, **options):
        """Writes the secret and returns the consistency token of the answer."""
        request = {"name": name, "environment": "wait", "replace": {"values": values(KEY=value)}, **options}
        answer = (connection or self.connection).call(SECRET + "UpdateSecretValues", request, token=self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["consistency_token"]

    def create(self, name, workspace="", token=None):
        answer = self.call(SECRET + "CreateSecret", {"name": name, "environment": "wait", "workspace": workspace,
                                                     "values": values(KEY=b"old")}, token=token)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["consistency_token"]

    def ask(self, connection, name, consistency_token, timeout_ms=PATIENT_MS, token=None, **fields):
        """Sends a resolve of the secret that must see that state; returns the number of its answer."""
        item = {"environments": ["wait"], "references": references(f"{name}.KEY"),
                "consistency_token": consistency_token, **fields}
        return connection.send(RESOLVE, {"items": [item]}, token=token or self.dev.admin, timeout_ms=timeout_ms)

    def answer(self, connection, number):
        answer = connection.receive(number, RESOLVE)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["results"][0]


class Waiting(WaitingTest):
    def test_resolve_of_a_future_state_is_answered_after_the_write_that_reaches_it(self):
        now = self.create("future")
        with self.dev.connect() as waiting:
            number = self.ask(waiting, "future", later(now))
            self.assertEqual(self.value(self.resolve("wait", "future.KEY"), "future", "KEY"), b"old")
            reached = self.write("future", b"new")
            result = self.answer(waiting, number)
        self.assertEqual(self.value(result, "future", "KEY"), b"new")
        self.assertEqual(result["consistency_token"], reached)


if __name__ == "__main__":
    unittest.main()
