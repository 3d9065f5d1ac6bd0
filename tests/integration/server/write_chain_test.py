#!/usr/bin/env python3
"""The chain over the records of writes: who changes, cuts or exchanges them in the database is found out."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import unittest

import context
import cofferd
from context import SECRET, WORKSPACE
from cofferd import values, wait_for


class WriteChain(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        answer = cls.connection.call(WORKSPACE + "CreateWorkspace", {"name": "other"}, token=cls.dev.system)
        cls.other = answer.message["workspace"]["uid"]
        for number in range(20):
            cls.connection.call(SECRET + "CreateSecret", {"name": f"s{number}", "values": values(KEY=b"value")},
                                token=cls.dev.admin)

    def audit(self, action, *options, state=None):
        environment = {**os.environ, "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                       "COFFERD_DATABASE__CONNINFO": self.dev.conninfo}
        return subprocess.run([cofferd.COFFERD, "audit", action, *options, state or self.dev.directory / "state"],
                              env=environment, capture_output=True, text=True, timeout=cofferd.PATIENCE)

    def summary(self, run):
        return {name: int(number) for name, number in re.findall(r"^(\w+)  +(\d+)$", run.stdout, re.M)}

    def chained(self):
        """Waits until every write is in a link, which takes about a second; gives the summary."""
        found = {}

        def complete():
            run = self.audit("verify", "--writes")
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            found.update(self.summary(run))
            return found["unchained"] == 0
        wait_for(complete, "every write is chained")
        return found

    def write(self, count=1, connection=None):
        for _ in range(count):
            answer = (connection or self.connection).call(
                SECRET + "UpdateSecretValues", {"name": "s0", "replace": {"values": values(KEY=os.urandom(8))}},
                token=self.dev.admin)
            self.assertEqual(answer.code, 0, answer)

    @contextlib.contextmanager
    def other_chains(self, name):
        """Another server, which chains, for the one that did so is frozen: its place is free when its lease is over."""
        process = self.dev.server.process
        process.send_signal(signal.SIGSTOP)
        other = self.dev.more(name)
        try:
            yield other
        finally:
            process.send_signal(signal.SIGCONT)
            other.stop()
            self.dev.extra.remove(other)

    def damage(self, *statements):
        """What is told of a database that was changed so; it is as it was afterwards."""
        names = ("change", "write_chain", "workspace_revision")
        self.sql("; ".join(f"create table kept_{name} as table {name}" for name in names))
        try:
            self.sql("; ".join(statements))
            return self.audit("verify", "--writes")
        finally:
            self.sql("; ".join(f"truncate {name}; insert into {name} table kept_{name}; drop table kept_{name}"
                               for name in names))

    def assert_damage(self, words, *statements):
        run = self.damage(*statements)
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertRegex(run.stderr, words)
        self.assertRegex(run.stderr, "DAMAGED: workspace [0-9a-f-]{36}, revisions ")
        self.assertIn("The records of writes are damaged in", run.stdout)

    def test_every_write_is_in_the_chain_within_about_a_second(self):
        self.write(3)
        summary = self.chained()
        writes = int(self.sql("select count(*) from change"))
        self.assertEqual((summary["writes"], summary["workspaces"]), (writes, 3))
        covered = int(self.sql("select sum(revision - first_revision + 1) from write_chain"))
        self.assertEqual(covered, writes)

    def test_one_server_chains_for_all_until_it_stands_still(self):
        self.chained()
        second = self.dev.more("bystander")
        with self.dev.connect(second.address) as connection:
            self.write(5, connection)
        self.chained()
        second.stop()
        self.dev.extra.remove(second)
        self.assertNotIn("write_chain", self.audit("export", state=self.dev.directory / "bystander.state").stdout)
        with self.other_chains("heir") as heir, self.dev.connect(heir.address) as connection:
            self.write(5, connection)
            self.chained()
        self.write(5)
        self.chained()

    def test_links_of_two_servers_make_one_chain(self):
        second = self.dev.more("second")
        with self.dev.connect(second.address) as connection:
            threads = [threading.Thread(target=self.write, args=(150,)),
                       threading.Thread(target=self.write, args=(150, connection))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.chained()
        second.stop()
        self.dev.extra.remove(second)

    def test_chain_goes_on_after_servers_and_database_were_killed(self):
        victim = self.dev.more("victim")
        with self.dev.connect(victim.address) as connection:
            self.write(20, connection)
            victim.stop(signal.SIGKILL)
            self.dev.extra.remove(victim)
        self.sql("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
                 " and backend_type = 'client backend'")
        wait_for(lambda: self.call(SECRET + "GetSecret", {"name": "s0"}).code == 0, "the server is back")
        self.write(20)
        self.chained()

    def test_writes_made_while_nobody_chained_are_chained_by_the_next_server(self):
        self.chained()
        self.sql("delete from write_chain")
        with self.other_chains("replacement"):
            wait_for(lambda: int(self.sql("select coalesce(sum(revision - first_revision + 1), 0) from write_chain")) ==
                     int(self.sql("select count(*) from change")), "all writes are chained anew")
        self.assertEqual(self.audit("verify", "--writes", state=self.dev.directory / "replacement.state").returncode, 0)
        # The first server's own log still has the ends of the chain that is gone.
        self.assertIn("the server's log has", self.audit("verify", "--writes").stderr)
        self.dev.server.stop()
        (self.dev.directory / "ready").unlink(missing_ok=True)
        for path in (self.dev.directory / "state" / "audit").iterdir():
            path.unlink()
        self.dev.start()
        type(self).connection.close()
        type(self).connection = self.dev.connect()
        self.write()
        self.chained()

    def test_workspace_whose_keys_do_not_open_keeps_no_other_from_being_chained(self):
        self.chained()
        mine = f"workspace_id = '{self.dev.workspace}'"
        self.sql("create table kept_key as table workspace_key; create table kept_chain as table write_chain")
        self.sql("delete from write_chain; update workspace_key set"
                 f" wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1) where {mine}")
        try:
            with self.other_chains("hurt") as hurt:
                wait_for(lambda: int(self.sql(f"select count(*) from write_chain where not {mine}")) > 0, "others are chained")
                wait_for(lambda: "cannot be chained" in hurt.log.read_text(), "it is told which one is not")
                self.assertIn(self.dev.workspace, hurt.log.read_text())
                self.assertEqual(self.sql(f"select count(*) from write_chain where {mine}"), "0")
                run = self.audit("verify", "--writes", state=self.dev.directory / "hurt.state")
                self.assertEqual(run.returncode, 0, run.stderr)
        finally:
            self.sql("; ".join(f"truncate {name}; insert into {name} table {kept}; drop table {kept}" for name, kept in
                               (("workspace_key", "kept_key"), ("write_chain", "kept_chain"))))

    def test_changed_records_are_found(self):
        self.chained()
        some = f"workspace_id = '{self.dev.workspace}' and revision = 7"
        for column in ("record = record || '\\x00'", "objects = objects || objects",
                       "create_time = create_time + interval '1 microsecond'", "record = set_byte(record, 3, 255)"):
            self.assert_damage("revisions .* do not fit their chain", f"update change set {column} where {some}")

    def test_records_that_are_missing_are_found(self):
        self.chained()
        mine = f"workspace_id = '{self.dev.workspace}'"
        self.assert_damage("revisions 7 to 7: the records are missing", f"delete from change where {mine} and revision = 7")
        self.assert_damage("revisions 2 to 4: the records are missing", f"delete from change where {mine} and revision < 5")
        last = int(self.sql(f"select revision from workspace_revision where {mine}"))
        self.assert_damage(f"revisions {last} to {last}: the records are missing", f"delete from change where {mine} and revision = {last}")

    def test_records_that_were_exchanged_are_found(self):
        self.chained()
        mine = f"workspace_id = '{self.dev.workspace}'"
        self.assert_damage(
            "do not fit their chain",
            f"update change set revision = -1 where {mine} and revision = 8",
            f"update change set revision = 8 where {mine} and revision = 9",
            f"update change set revision = 9 where {mine} and revision = -1")

    def test_links_that_were_cut_or_changed_are_found(self):
        self.write(5)
        self.chained()
        self.write(5)
        self.chained()
        mine = f"workspace_id = '{self.dev.workspace}'"
        first, second = self.sql(f"select first_revision from write_chain where {mine} order by 1 limit 2").split()
        self.assert_damage("there is no link, though.*\n.*do not fit their chain",
                           f"delete from write_chain where {mine} and first_revision = {first}")
        self.assert_damage("do not fit their chain",
                           f"update write_chain set hash = set_byte(hash, 0, get_byte(hash, 0) # 1) where {mine} and first_revision = {first}")
        self.assert_damage("names a key that is not there",
                           f"update write_chain set key_generation = 9 where {mine} and first_revision = {second}")

    def test_end_that_was_cut_off_is_found_by_the_servers_log(self):
        self.write(2)
        self.chained()
        mine = f"workspace_id = '{self.dev.workspace}'"
        first = int(self.sql(f"select max(first_revision) from write_chain where {mine}"))
        cut = (f"delete from write_chain where {mine} and first_revision = {first}",
               f"delete from change where {mine} and revision >= {first}",
               f"update workspace_revision set revision = {first - 1} where {mine}")
        self.assert_damage("the server's log has an end of the chain", *cut)
        # Where the counter was left as it was, that alone tells.
        self.assert_damage("the last ones, are missing", *cut[:2])

    def test_random_changes_are_all_found(self):
        self.chained()
        rng = random.Random(cofferd.seed())
        rows = self.sql("select workspace_id, revision from change order by 1, 2").split()
        for number in range(400 if os.environ.get("TEST_FULL") else 12):
            workspace, revision = rng.choice(rows).split("|")
            column = rng.choice(("record", "objects"))
            bit, where = rng.randrange(8), f"workspace_id = '{workspace}' and revision = {revision}"
            length = int(self.sql(f"select length({column}) from change where {where}"))
            if length == 0:
                continue
            place = rng.randrange(length)
            with self.subTest(number=number, column=column, place=place, revision=revision):
                self.assert_damage("do not fit their chain",
                                   f"update change set {column} = set_bit({column}, {8 * place + bit}, 1 - get_bit({column}, {8 * place + bit})) where {where}")

    def test_export_prints_what_was_written_by_whom(self):
        self.write()
        lines = [json.loads(line) for line in self.audit("export", "--writes").stdout.splitlines()]
        self.assertEqual(len(lines), int(self.sql("select count(*) from change")))
        mine = [line for line in lines if line["workspace"] == self.dev.workspace]
        self.assertEqual([line["workspace_revision"] for line in mine], list(range(2, len(mine) + 2)))
        self.assertEqual((mine[-1]["method"], mine[-1]["objects"][0]["name"]), (SECRET + "UpdateSecretValues", "s0"))
        self.assertEqual(mine[-1]["actor"]["name"], "admin")

    def test_database_that_cannot_be_reached_is_told_as_such(self):
        environment = {**os.environ, "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key")}
        command = [cofferd.COFFERD, "audit", "verify", "--writes", self.dev.directory / "state"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=cofferd.PATIENCE)
        self.assertEqual(run.returncode, 2)
        self.assertIn("database.conninfo is empty", run.stderr)
        environment["COFFERD_DATABASE__CONNINFO"] = "host=/nowhere user=coffer dbname=postgres"
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=cofferd.PATIENCE)
        self.assertEqual(run.returncode, 1)
        self.assertNotIn("DAMAGED", run.stderr)


if __name__ == "__main__":
    unittest.main()
