"""Calls whose reads travel to PostgreSQL together: the failure of one spares the others."""

import unittest

import context
from cofferd import Dev, values

ROUNDS = 12
CALLS = 16

# A view in the table's place whose row of one secret cannot be read: PostgreSQL fails the statement that looks at it.
POISON = """
create function poisoned(name text) returns text language plpgsql cost 100000 as
$$ begin if name = 'poison' then raise exception 'poisoned'; end if; return name; end $$;
alter table secret rename to secret_rows;
create view secret as select workspace_id, secret_id, environment, poisoned(name) as name, type, state, version,
  metadata_version, description, tags, expire_time, block_when_expired, create_time, update_time, delete_time, facts,
  mac_generation, mac, keys, blob, from_revision, value_time, value_principal_id from secret_rows;
"""


class Batch(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.dev = Dev(COFFERD_LIMITS__WORKERS="1")
        cls.connection = cls.dev.connect()

    def item(self, environment, name):
        return {"items": [{"environments": [environment], "references": [{"name": name, "key": "K"}]}]}

    def test_statement_that_fails_fails_its_own_call_only(self):
        for environment, name in (("good", "fine"), ("bad", "poison")):
            secret = {"environment": environment, "name": name, "type": 1, "values": values(K=name.encode())}
            self.assertEqual(self.call("coffer.v1.SecretService/CreateSecret", secret).code, 0)
        self.sql(POISON)
        failed = 0
        for turn in range(ROUNDS):
            asked = [("bad", "poison") if (turn + i) % 5 == 0 else ("good", "fine") for i in range(CALLS)]
            numbers = [self.connection.send(context.RESOLVE, self.item(*one), token=self.dev.executor) for one in asked]
            for (environment, name), number in zip(asked, numbers):
                answer = self.connection.receive(number, context.RESOLVE)
                self.assertEqual(answer.code, 0, answer)
                result = answer.message["results"][0]
                if name == "fine":
                    self.assertEqual(self.value(result, name, "K"), b"fine", result)
                else:
                    self.assertNotEqual(result["status"]["code"], 0, result)
                    self.assertEqual(result["secrets"], [])
                    failed += 1
        self.assertGreater(failed, ROUNDS)

    def send(self, method):
        return self.connection.send(f"coffer.v1.{method}", token=self.dev.admin)

    def test_answer_does_not_wait_for_what_another_call_reads(self):
        with self.locked("action"):
            with self.locked("provider"):
                before = self.send("ProviderService/ListProviders")
                self.wait_until_blocked()
                ready = self.send("EnvironmentService/ListEnvironments")
                late = self.send("IntegrationService/ListActions")
                self.connection.call("coffer.rpc.v1.ServerService/GetServerInfo")  # those before are in the queue, for the one worker to take both
            self.assertEqual(self.connection.receive(before).code, 0)
            self.wait_until_blocked()
            self.assertEqual(self.connection.receive(ready).code, 0)
        self.assertEqual(self.connection.receive(late).code, 0)


if __name__ == "__main__":
    unittest.main()
