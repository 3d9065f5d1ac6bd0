#!/usr/bin/env python3
"""Checking a whole database, backups of it, and what somebody with the database in his hands can do to it (T16, T17, T18).

TEST_FULL=1 swaps 100,000 rows and flips every bit; TEST_SEED repeats a run.
"""

import contextlib
import functools
import hashlib
import hmac
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import unittest

import context
from cofferd import COFFERD, PATIENCE, seed, values, wait_for
from context import ACCOUNT, RESOLVE, SECRET, TOKEN, WORKSPACE

REGISTER = "coffer.v1.IntegrationService/RegisterActions"
FULL = bool(os.environ.get("TEST_FULL"))
SEED = seed()
SWAPS = 100000 if FULL else 600
FILLED = 200 if FULL else 12 # secrets of a tenant
# Columns that no MAC covers and nothing is decided by: they tell who wrote something, and when. What is sealed, and the
# list of keys beside it, is checked when it is opened.
UNGUARDED = {
    "workspace_key": {"create_time", "state", "change_time"},
    "secret": {"from_revision", "value_time", "value_principal_id"},
    "secret_version": {"from_revision", "to_revision", "create_time", "principal_id"},
    "request": {"principal_id", "method", "payload_hash", "revision", "create_time"},
}
# What the rows of these tables are, by the rest of their primary key.
KEYS = {
    "workspace": [], "workspace_state": [], "workspace_key": ["generation"], "secret": ["secret_id"],
    "secret_version": ["secret_id", "version"], "principal": ["principal_id"], "token": ["token_id"],
    "request": ["principal_id", "request_id"], "action": ["name"], "provider": ["provider"],
    "connection": ["connection_id"], "connection_token": ["connection_id"],
}
# Those whose rows can lie in another workspace without meeting one of its own.
MOVABLE = {"secret", "secret_version", "principal", "token", "request"}
# Every column of bytes: what is sealed in it, or that a MAC or a chain covers it.
SEALED = {("workspace_key", "wrapped"), ("secret", "blob"), ("secret_version", "blob"), ("token", "narrowing_key"),
          ("request", "answer"), ("connection", "credentials"), ("connection_token", "access_token"),
          ("connection_token", "refresh_token")}
COVERED = {
    "change": {"objects", "record"}, "write_chain": {"hash"}, "secret": {"facts", "mac", "keys"},
    "secret_version": {"keys"}, "principal": {"grants", "mac"}, "token": {"hash", "restrictions", "mac"},
    "action": {"declarations", "digest", "mac"}, "provider": {"definition", "mac"}, "workspace": {"mac"}, "workspace_state": {"mac"}, "request": {"payload_hash"},
    "connection": {"settings", "mac"}, "connection_token": {"mac"}, "connection_authorization": {"state_hash", "sealed"},
    "instance": {"root_key_id", "root_key_check", "old_root_key_ids"}, "schema_history": {"sha256"},
}
# Without foreign keys: somebody with the database in his hands is not held up by them.
FREE = "set session_replication_role = replica; "


class BackupTest(context.AccessTest):
    SETTINGS = context.NO_CACHE

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.random = random.Random(SEED)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-backup-", dir="/tmp"))
        cls.databases = 0
        cls.tenants = None

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    # --- Commands

    def settings(self, database="postgres", **more):
        return {"COFFERD_DATABASE__CONNINFO": self.dev.conninfo.replace("dbname=postgres", f"dbname={database}"),
                "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"), **more}

    def command(self, *arguments, code=0, **options):
        run = subprocess.run([COFFERD, *map(str, arguments)], env={**os.environ, **self.settings(**options)},
                             capture_output=True, text=True, timeout=6 * PATIENCE)
        self.assertEqual(run.returncode, code, (arguments, run.stdout[-2000:], run.stderr[-2000:]))
        return run

    def verify(self, *arguments, code=0, **options):
        """(the faults, the summary)"""
        run = self.command("verify", "--json", *arguments, code=code, **options)
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertEqual(lines[-1].get("faults"), len(lines) - 1, run.stderr)
        return lines[:-1], lines[-1]

    def assert_whole(self, *arguments, **options):
        faults, summary = self.verify(*arguments, **options)
        self.assertEqual(faults, [])
        return summary

    def faults(self, *arguments, **options):
        """{(table, object)} of a database that is damaged"""
        found, _ = self.verify(*arguments, code=3, **options)
        self.assertNotEqual(found, [])
        return {(fault["table"], fault["object"]) for fault in found}

    def new_database(self):
        BackupTest.databases += 1
        name = f"elsewhere{BackupTest.databases}"
        self.sql(f"create database {name}")
        return name

    def sql_in(self, database, statement):
        conninfo = self.dev.conninfo.replace("dbname=postgres", f"dbname={database}")
        return subprocess.run([*self.psql()[:-1], conninfo, "-c", statement], check=True, capture_output=True,
                              text=True).stdout.strip()

    # --- Filling and putting back

    TABLES = ["workspace", "workspace_state", "workspace_directory", "workspace_revision", "workspace_key", "environment",
              "secret", "secret_version", "principal", "token", "token_use", "request", "change", "write_chain", "registry",
              "action", "provider", "connection", "connection_token", "connection_lease", "connection_authorization"]

    def settled(self):
        """Until every write is in a link of its chain: what is kept then and put back later is one state."""
        wait_for(lambda: self.sql("select count(*) from workspace_revision r where revision > coalesce((select max(revision)"
                                  " from write_chain l where l.workspace_id = r.workspace_id), 1)") == "0", "the chains")

    def keep(self, name, tables=None):
        """Keeps copies of the tables, as somebody does who means to put them back."""
        self.settled()
        tables = tables or self.TABLES
        self.sql(f"create schema {name}; " + "; ".join(f"create table {name}.{table} as select * from public.{table}"
                                                       for table in tables))

    def put_back(self, name, tables=None):
        tables = tables or self.TABLES
        self.sql(FREE + "begin; " + "; ".join(f"delete from {table}; insert into {table} select * from {name}.{table}"
                                              for table in tables) + "; commit")

    def forget(self, name):
        self.sql(f"drop schema {name} cascade")

    def put_row_back(self, name, table, where):
        """The row as it was; true if it had changed."""
        before = self.sql(f"select md5(t::text) from {table} t where {where}")
        self.sql(f"{FREE}begin; delete from {table} where {where}; insert into {table} select * from {name}.{table}"
                 f" where {where}; commit")
        return before != self.sql(f"select md5(t::text) from {table} t where {where}")

    def fill(self, token, mark, count):
        for i in range(count):
            name = f"{mark}{i}"
            self.create(name, "swapped", token=token, K=f"value {mark} {i}".encode(), L=bytes([i % 251]) * (i % 40))
            answer = self.call(SECRET + "UpdateSecretValues", {
                "name": name, "environment": "swapped", "patch": {"set": values(M=f"more {mark} {i}".encode())}}, token=token)
            self.assertEqual(answer.code, 0, answer)

    def two_tenants(self):
        """Rows of every kind in two workspaces, made once."""
        if self.tenants is None:
            BackupTest.tenants = self.make_tenants(FILLED)
        return self.tenants

    def make_tenants(self, count):
        found = []
        for mark in ("a", "b"):
            workspace = self.done(WORKSPACE + "CreateWorkspace", {"name": f"tenant-{mark}"},
                                  token=self.dev.system)["workspace"]["uid"]
            admin = self.token_for([{"permissions": [
                "resolve", "secret:read", "secret:write", "account:read", "account:write", "token:read", "token:write",
                "integration:write", "connection:write", "connection:read",
                "connection:manage_all"]}], token=self.dev.system, workspace=workspace)
            self.fill(admin, mark, count)
            for _ in range(count // 4):
                self.token_for([{"permissions": ["resolve"], "names": [mark + "*"]}], token=admin)
            self.done("coffer.v1.ConnectionService/ConfigureConnection", {**context.CONFIGURED, "environment": "prod"},
                      token=admin)
            self.done("coffer.v1.ConnectionService/SetConnectionTokens", {
                "environment": "prod", "provider": "github", "access_token": b"access", "refresh_token": b"refresh"}, token=admin)
            self.done(REGISTER, {"actions": [
                {"name": f"tools.{mark}{i}", "declarations": {"secrets": [{"name": f"{mark}{i}", "keys": ["K"]}]}}
                for i in range(count)]}, token=admin)
            for i in range(count // 4):
                self.done("coffer.v1.ProviderService/CreateProvider", {"name": f"{mark}{i}", "definition": context.DEFINITION},
                          token=admin)
            for disabled in (True, False):
                self.assertEqual(self.call(WORKSPACE + "UpdateWorkspace", {
                    "workspace": workspace, "update_mask": {"paths": ["disabled"]}, "disabled": disabled},
                    token=self.dev.system).code, 0)
            found.append((workspace, admin))
        return found

    # --- A whole database

    def test_whole_database_holds_and_every_row_of_every_table_is_counted(self):
        self.two_tenants()
        self.settled()
        summary = self.assert_whole()
        tables = {line for line in self.sql("select table_name from information_schema.tables where table_schema = 'public'"
                                            " and table_type = 'BASE TABLE'").splitlines()}
        shared = {"instance", "workspace_directory", "schema_history", "workspace_revision", "token_use", "registry", "connection_lease",
                  "connection_authorization"}
        self.assertEqual(set(summary["rows"]), tables - shared, "cofferd verify has to learn of a table")
        for table, rows in summary["rows"].items():
            self.assertEqual(rows, int(self.sql(f"select count(*) from {table}")), table)
        opened = sum(int(self.sql(f"select count({column}) from {table}")) for table, column in SEALED
                     if table != "workspace_key")
        self.assertEqual(summary["opened"], opened)

    def test_every_column_of_bytes_and_every_table_with_a_mac_is_known_here(self):
        found = {tuple(line.split("|")) for line in self.sql(
            "select table_name, column_name from information_schema.columns where table_schema = 'public'"
            " and data_type = 'bytea'").splitlines()}
        self.assertEqual(found, SEALED | {(table, column) for table, columns in COVERED.items() for column in columns})
        guarded = set(self.sql("select table_name from information_schema.columns where table_schema = 'public'"
                               " and column_name = 'mac'").splitlines())
        self.assertEqual(guarded | {table for table, _ in SEALED}, set(KEYS))

    # --- T16: rows swapped

    @functools.cache
    def columns(self, table):
        return self.sql(f"select string_agg(attname, ' ' order by attnum) from pg_attribute where attrelid ="
                        f" '{table}'::regclass and attnum > 0 and not attisdropped").split()

    def object_sql(self, table):
        """How `cofferd verify` names a row of the table."""
        return {"workspace": "''", "workspace_state": "''", "workspace_key": "'generation ' || generation",
                "secret_version": "secret_id || ' version ' || version", "request": "request_id::text", "action": "action_id::text",
                "provider": "provider_id::text"}.get(
                    table, f"{KEYS[table][-1:] and KEYS[table][-1]}::text")

    def swap_sql(self, table, columns, pairs):
        """Exchanges the columns of pairs of rows, by their numbers in the copy."""
        given = ", ".join(f"({one}, {two}), ({two}, {one})" for one, two in pairs)
        taken = ", ".join(f"{column} = o.{column}" for column in columns)
        keys = " and ".join(f"t.{column} = k.{column}" for column in ["workspace_id", *KEYS[table]])
        return (f"update {table} t set {taken} from (values {given}) p (mine, theirs) join swaps.{table} k on k.number = p.mine"
                f" join swaps.{table} o on o.number = p.theirs where {keys}")

    def remember(self):
        """Copies with numbers; without the indexes that a row which moves would meet for a moment."""
        self.settled()
        statements = ["create schema swaps"]
        for table in KEYS:
            statements.append(f"create table swaps.{table} as select *, row_number() over () as number from {table}")
        statements += [f"drop index {name}" for name in self.sql(
            "select indexrelid::regclass from pg_index where indisunique and not indisprimary and indrelid::regclass::text in"
            " ('secret', 'principal')").splitlines()]
        self.sql("; ".join(statements))
        self.counts = {table: int(self.sql(f"select count(*) from swaps.{table}")) for table in KEYS}

    def restore_copies(self):
        self.sql(FREE + "begin; " + "; ".join(
            f"delete from {table}; insert into {table} select {', '.join(self.columns(table))} from swaps.{table}"
            for table in KEYS) + "; commit")

    def forget_copies(self):
        self.sql("create unique index secret_address on secret (workspace_id, environment, name) where state = 1; create unique"
                 " index principal_name on principal (workspace_id, name) where delete_time is null")
        self.forget("swaps")

    def draw(self, table):
        """Pairs of rows, and columns to exchange between them: names, versions, MACs, blobs, whatever comes; a row keeps its
        key, or everything but its key is another's."""
        numbers = self.random.sample(range(1, self.counts[table] + 1), self.counts[table] // 2 * 2)
        pairs = list(zip(numbers[::2], numbers[1::2]))
        columns = [name for name in self.columns(table)
                   if name not in {"workspace_id", *KEYS[table]} | UNGUARDED.get(table, set())]
        return self.random.sample(columns, self.random.randint(1, len(columns))), pairs[:len(pairs) * 3 // 4]

    def move_sql(self, table, pairs):
        """Puts one row of each pair into the other one's workspace."""
        given = ", ".join(f"({one}, {two})" for one, two in pairs)
        keys = " and ".join(f"t.{column} = k.{column}" for column in ["workspace_id", *KEYS[table]])
        return (f"update {table} t set workspace_id = o.workspace_id from (values {given}) p (mine, theirs)"
                f" join swaps.{table} k on k.number = p.mine join swaps.{table} o on o.number = p.theirs where {keys}")

    def touched(self, table):
        """{(table, workspace, object)} of rows that are not as they were, whatever is left out of account."""
        guarded = [name for name in self.columns(table) if name not in UNGUARDED.get(table, set())]
        row = f"md5(row({', '.join('t.' + name for name in guarded)})::text)"
        if table == "secret_version":  # a version that was destroyed holds nothing any more that its list of keys could fit
            row = row.replace("t.keys", "case when t.blob is null then null else t.keys end")
        keys = " and ".join(f"t.{column} = k.{column}" for column in ["workspace_id", *KEYS[table]])
        old = row.replace("t.", "k.")
        lines = self.sql(f"select t.workspace_id || '|' || {self.object_sql(table)} from (select * from {table}) t where not"
                         f" exists (select from swaps.{table} k where {keys} and {row} = {old})").splitlines()
        return {(table, *line.split("|")) for line in lines}

    def test_rows_swapped_between_tenants_names_versions_and_columns_are_all_found(self):
        self.two_tenants()
        self.remember()
        swapped = rounds = 0
        tables = [table for table in KEYS if self.counts[table] > 1]
        self.assertEqual(set(tables), set(KEYS))
        while swapped < SWAPS:
            statements, expected = [], set()
            for table in tables:
                columns, pairs = self.draw(table)
                if pairs and rounds % 3 == 2 and table in MOVABLE:
                    statements.append(self.move_sql(table, pairs))
                elif pairs:
                    statements.append(self.swap_sql(table, columns, pairs))
            self.sql(FREE + "begin; " + "; ".join(statements) + "; commit")
            for table in tables:
                expected |= self.touched(table)
            found, _ = self.verify(code=3)
            told = {(fault["table"], fault["workspace"], fault["object"]) for fault in found}
            # Of a workspace whose keys are gone everything is damaged, and nothing can be looked at.
            closed = {workspace for table, workspace, _ in told if table == "workspace_key"}
            missed = {row for row in expected - told if row[1] not in closed}
            self.assertEqual(missed, set(), f"round {rounds}")
            swapped += len(expected)
            rounds += 1
            self.restore_copies()
        self.assert_whole()
        self.forget_copies()
        print(f"{swapped} rows swapped or moved in {rounds} rounds, all found", flush=True)

    # --- T17: bits and lengths

    def damage_each(self, numbers):
        """One statement for each sealed column: row by row another bit is turned, or another number of bytes left over."""
        statements = []
        for table, column in SEALED:
            keys = " and ".join(f"t.{name} = k.{name}" for name in ["workspace_id", *KEYS[table]])
            bits = f"8 * octet_length(k.{column})"
            at = f"((k.number - 1 + {numbers * self.stride}) % ({bits} + octet_length(k.{column})))::int"
            statements.append(
                f"update {table} t set {column} = case when {at} < {bits}"
                f" then set_bit(k.{column}, {at}, 1 - get_bit(k.{column}, least({at}, {bits} - 1)))"
                f" else substr(k.{column}, 1, {at} - {bits}) end from swaps.{table} k where {keys} and k.{column} is not null")
        return statements

    def test_every_flipped_bit_and_every_cut_of_what_is_sealed_is_found(self):
        # Each row of a kind has another bit turned; over the rounds every bit and every length of the shortest ones is met.
        self.two_tenants()
        self.remember()
        self.stride = min(int(self.sql(f"select count(*) from swaps.{table}")) for table, _ in SEALED - {("workspace_key",
                                                                                                         "wrapped")})
        longest = max(int(self.sql(f"select 9 * min(octet_length({column})) from swaps.{table}")) for table, column in SEALED)
        rounds = (longest + self.stride - 1) // self.stride if FULL else 3
        damaged = 0
        for number in range(rounds):
            # Where no key opens nothing else can be looked at: the keys have rounds of their own.
            keys = number % 3 == 2
            statements = [text for text in self.damage_each(number) if text.startswith("update workspace_key") == keys]
            self.sql(FREE + "begin; " + "; ".join(statements) + "; commit")
            found, _ = self.verify(code=3)
            told = {(fault["table"], fault["workspace"], fault["object"]) for fault in found}
            tables = ["workspace_key"] if keys else [table for table, _ in SEALED if table != "workspace_key"]
            expected = set().union(*(self.touched(table) for table in tables))
            self.assertEqual(expected - told, set(), f"round {number}")
            damaged += len(expected)
            self.restore_copies()
        self.assert_whole()
        self.forget_copies()
        self.assertGreater(damaged, 100)
        print(f"{damaged} rows damaged in {rounds} rounds, all found", flush=True)

    # --- T18: what is older, put back

    def done(self, method, request, **options):
        answer = self.call(method, request, **options)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def changes(self, admin):
        """{(table, condition): a call that changes the row}, each of a thing of its own, made beforehand."""
        at = {"environment": "older"}
        uids = {}
        for name in ("values", "metadata", "deleted", "renamed", "destroyed", "imported"):
            answer = self.create(name, "older", token=admin, K=b"first")
            uids[name] = answer.message["secret"]["uid"]
        self.done(SECRET + "UpdateSecretValues", {**at, "name": "destroyed", "patch": {"set": values(K=b"second")}}, token=admin)
        account, made = self.account([{"permissions": ["resolve"]}], token=admin)
        weaker = made.message["service_account"]["uid"]
        ended, made = self.account([{"permissions": ["resolve"]}], token=admin)
        gone = made.message["service_account"]["uid"]
        tokens = [self.issue(account, token=admin).message["token"]["uid"] for _ in range(2)]

        def row(name):
            return "secret", f"secret_id = '{uids[name]}'"

        self.done(REGISTER, {"actions": [{"name": "older.changed"}, {"name": "older.deleted"}]}, token=admin)
        return {
            ("action", "name = 'older.changed'"): (REGISTER, {"actions": [
                {"name": "older.changed", "declarations": {"secrets": [{"name": "values", "keys": ["K"]}]}}]}),
            ("action", "name = 'older.deleted'"): ("coffer.v1.IntegrationService/DeleteAction", {"name": "older.deleted"}),
            row("values"): (SECRET + "UpdateSecretValues",
                            {**at, "name": "values", "patch": {"set": values(K=b"second")}}),
            row("metadata"): (SECRET + "UpdateSecret", {
                **at, "name": "metadata", "update_mask": {"paths": ["description"]}, "description": "new"}),
            row("deleted"): (SECRET + "DeleteSecret", {**at, "name": "deleted"}),
            row("renamed"): (SECRET + "RenameSecret", {**at, "name": "renamed", "new_name": "renamed-now"}),
            row("imported"): (SECRET + "ImportSecrets", {
                "mode": "IMPORT_MODE_REPLACE",
                "secrets": [{**at, "name": "imported", "values": values(K=b"second"),
                             "metadata": {"description": "new"}}]}),
            ("secret_version", f"secret_id = '{uids['destroyed']}' and version = 1"): (
                SECRET + "DestroySecretVersion", {**at, "name": "destroyed", "version": 1}),
            ("principal", f"principal_id = '{weaker}'"): (ACCOUNT + "UpdateServiceAccount", {
                "name": account, "update_mask": {"paths": ["disabled"]}, "disabled": True}),
            ("principal", f"principal_id = '{gone}'"): (ACCOUNT + "DeleteServiceAccount", {"name": ended}),
            ("token", f"token_id = '{tokens[0]}'"): (TOKEN + "RevokeToken", {"token_uid": tokens[0]}),
            ("token", f"token_id = '{tokens[1]}'"): (
                TOKEN + "RotateToken", {"token_uid": tokens[1], "overlap": {"seconds": 60}}),
        }

    def test_older_row_put_back_is_found_by_the_record_of_its_last_write(self):
        self.two_tenants()
        changes = self.changes(self.dev.admin)
        self.keep("older")
        for method, request in changes.values():
            self.done(method, request)
        for table, where in changes:
            self.sql(f"create table now_{table} as select * from {table} where {where}")
            self.assertTrue(self.put_row_back("older", table, where), (table, where))
            found = self.faults()
            self.assertIn(table, {name for name, _ in found}, (table, where))
            self.sql(f"{FREE}begin; delete from {table} where {where}; insert into {table} select * from now_{table};"
                     f" drop table now_{table}; commit")
        self.assert_whole()
        self.forget("older")
        print(f"{len(changes)} rows put back, all found", flush=True)

    def test_row_that_is_taken_away_is_found(self):
        changes = {"secret": "name = 'taken'", "principal": "name = 'taken'"}
        self.create("taken", "older", K=b"v")
        self.account([{"permissions": ["resolve"]}], name="taken")
        self.keep("whole", ["secret", "principal"])
        for table, where in changes.items():
            self.sql(f"{FREE}delete from {table} where {where}")
            self.assertEqual({name for name, _ in self.faults()}, {table})
            self.put_back("whole", [table])
        self.assert_whole()
        self.forget("whole")

    def test_older_tables_put_back_are_found_by_an_anchor_and_by_nothing_inside(self):
        anchor = self.folder / "anchor"
        workspace, admin = self.two_tenants()[0]
        self.keep("before")
        self.create("after", "older", token=admin, K=b"v")
        self.settled()
        self.assert_whole("--write-anchor", anchor)
        self.assertEqual(anchor.stat().st_mode & 0o777, 0o600)
        self.keep("now")
        self.assert_whole("--anchor", anchor)
        # One table alone does not fit the others; all of them together do.
        self.put_back("before", ["secret"])
        self.assertIn("secret", {table for table, _ in self.faults()})
        self.put_back("before")
        self.assert_whole()
        found, _ = self.verify("--anchor", anchor, code=3)
        self.assertIn(("workspace_revision", workspace), {(fault["table"], fault["workspace"]) for fault in found})
        # With the revision set forward again the chain is another one.
        self.sql(f"update workspace_revision set revision = revision + 1 where workspace_id = '{workspace}'")
        self.assertIn("change", {table for table, _ in self.faults("--anchor", anchor)})
        self.put_back("now")
        self.assert_whole("--anchor", anchor)
        # What is written later does not disturb it.
        self.create("later", "older", token=admin, K=b"v")
        self.assert_whole("--anchor", anchor)
        self.forget("before")
        self.forget("now")

    def test_disabled_workspace_that_was_enabled_in_the_database_is_found_by_an_anchor(self):
        anchor = self.folder / "anchor-of-state"
        workspace, _ = self.two_tenants()[1]
        disable = {"workspace": workspace, "update_mask": {"paths": ["disabled"]}}
        self.keep("enabled", ["workspace_state"])
        self.done(WORKSPACE + "UpdateWorkspace", {**disable, "disabled": True}, token=self.dev.system)
        self.settled()
        self.assert_whole("--write-anchor", anchor)
        self.put_back("enabled", ["workspace_state"])
        found, _ = self.verify("--anchor", anchor, code=3)
        self.assertEqual({(fault["table"], fault["workspace"]) for fault in found}, {("workspace", workspace)})
        self.done(WORKSPACE + "UpdateWorkspace", {**disable, "disabled": False}, token=self.dev.system)
        self.assert_whole("--anchor", anchor)
        self.forget("enabled")

    def test_workspace_that_vanished_and_one_of_another_epoch_are_found_by_an_anchor(self):
        anchor = self.folder / "anchor-of-all"
        workspace, _ = self.new_workspace("vanishing")
        self.settled()
        self.assert_whole("--write-anchor", anchor)
        self.keep("everything")
        self.sql(FREE + "begin; " + "; ".join(f"delete from {table} where workspace_id = '{workspace}'"
                                              for table in self.TABLES) + "; commit")
        found, _ = self.verify("--anchor", anchor, code=3)
        self.assertIn(("workspace_directory", workspace), {(fault["table"], fault["workspace"]) for fault in found})
        self.put_back("everything")
        epoch = self.sql("select epoch from instance")
        self.sql("update instance set epoch = epoch + 1")
        self.assertEqual(self.faults("--anchor", anchor), {("instance", "")})
        self.sql(f"update instance set epoch = {epoch}")
        self.assert_whole("--anchor", anchor)
        self.forget("everything")

    def test_anchor_that_was_changed_or_made_with_another_key_is_refused(self):
        anchor = self.folder / "anchor-to-change"
        self.assert_whole("--write-anchor", anchor)
        text = anchor.read_text()
        other = self.folder / "other-anchor.key"
        other.write_text("cd" * 32)
        other.chmod(0o600)
        for changed, code in ((text.replace("epoch ", "epoch 0"), 1), (text[:-10], 1), (text[:40], 2), ("", 2),
                              (text.replace("root-key ", "root-key 0"), 2)):
            anchor.write_text(changed)
            self.assertRegex(self.command("verify", "--anchor", anchor, code=code).stderr, "MAC|no file of this kind|root key")
        self.assertIn("No such file", self.command("verify", "--anchor", self.folder / "none", code=2).stderr)

    def test_files_outside_of_the_database_are_authenticated_as_their_page_says(self):
        """HKDF and HMAC of Python's own library over the bytes before the last line."""
        anchor, backup = self.folder / "anchor-of-page", self.folder / "backup-of-page"
        self.assert_whole("--write-anchor", anchor)
        self.command("backup", backup)
        root = bytes.fromhex((self.dev.directory / "root.key").read_text().strip())
        extracted = hmac.digest(bytes(32), root, "sha256")

        def expand(info, length):
            return hmac.digest(extracted, info + b"\x01", "sha256")[:length]
        for path, first in ((anchor, "coffer-anchor 1"), (backup / "manifest", "coffer-backup 1")):
            text, _, line = path.read_text().rstrip("\n").rpartition("\n")
            self.assertEqual(text.splitlines()[0], first)
            self.assertEqual(line, "mac " + hmac.digest(expand(b"coffer v1 outside", 32), text.encode() + b"\n", "sha256").hex())
            self.assertIn(f"root-key {expand(b'coffer v1 id', 8).hex()}", text.splitlines())
        dump = (backup / "database.dump").read_bytes()
        self.assertIn(f"dump-sha256 {hashlib.sha256(dump).hexdigest()}", (backup / "manifest").read_text().splitlines())

    def test_server_that_has_seen_a_later_state_refuses_the_older_one(self):
        server = self.dev.more("remembering", COFFERD_CACHE__SIZE="64MiB")
        workspace, admin = self.two_tenants()[0]
        fleet = self.fleet([{"permissions": ["resolve"]}])
        unused = self.token_for([{"permissions": ["secret:write"]}], token=admin)
        item = {"workspace": workspace, "environments": ["swapped"], "references": [{"name": "a0", "key": "K"}]}
        self.keep("earlier")
        with self.dev.connect(server.address) as connection:
            def outcome(token, **request):
                answer = connection.call(RESOLVE, {"items": [{**item, **request}]}, token=token)
                if answer.code:
                    return answer.reason
                result = answer.message["results"][0]
                return "OK" if result["secrets"] else result["status"]["outcome"].removeprefix("OUTCOME_")
            self.create("newer", "older", token=admin, K=b"v")
            self.assertEqual((outcome(admin), outcome(fleet)), ("OK", "OK"))
            self.keep("later")
            self.put_back("earlier")
            # What it remembers is later; what it would have to read is earlier, and is never told.
            unread = {"references": [{"name": "a1", "key": "K"}]}
            self.assertEqual((outcome(admin, **unread), outcome(fleet, **unread)), ("CORRUPTED", "CORRUPTED"))
            self.assertEqual(connection.call(SECRET + "CreateSecret", {"name": "x", "environment": "older", "values": values(
                K=b"v")}, token=unused).reason, "CORRUPTED")
            self.put_back("later")
            self.assertEqual((outcome(admin, **unread), outcome(fleet, **unread)), ("OK", "OK"))
        self.assertIn("the database was put back", server.log.read_text())
        self.forget("earlier")
        self.forget("later")

    # --- The drill: a backup under load, restored elsewhere

    @contextlib.contextmanager
    def load(self, token):
        """Somebody goes on writing."""
        ended, failures = threading.Event(), []

        def write():
            with self.dev.connect() as connection:
                for i in range(10 ** 6):
                    if ended.is_set():
                        return
                    answer = connection.call(SECRET + "UpdateSecretValues", {
                        "name": f"b{i % FILLED}", "environment": "swapped",
                        "patch": {"set": values(N=str(i).encode())}}, token=token)
                    if answer.code:
                        failures.append(answer)
                        return

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.assertEqual(failures, [])

    def value_of(self, connection, token, name):
        answer = connection.call(RESOLVE, {"items": [{"environments": ["swapped"], "references": [
            {"name": name, "key": "K"}]}]}, token=token)
        self.assertEqual(answer.code, 0, answer)
        return self.value(answer.message["results"][0], name, "K"), answer.message["results"][0]["consistency_token"]

    def serve(self, database):
        return self.dev.more(database, COFFERD_DATABASE__CONNINFO=self.settings(database)["COFFERD_DATABASE__CONNINFO"])

    def refused(self, message, *arguments, code=2, **options):
        run = self.command(*arguments, code=code, **options)
        self.assertRegex(run.stderr, message)
        return run

    def test_backup_under_load_is_restored_elsewhere_with_the_same_values_and_a_new_epoch(self):
        (_, admin_a), (_, admin_b) = self.two_tenants()
        path, database = self.folder / "drill", self.new_database()
        expected, token = self.value_of(self.connection, admin_a, "a1")
        with self.load(admin_b):
            self.command("backup", path)
        # What was written since is not in it.
        self.create("since", "swapped", token=admin_a, K=b"since")
        self.command("restore", path, database=database)
        summary = self.assert_whole(database=database)
        self.assertEqual(summary["rows"]["secret"], int(self.sql_in(database, "select count(*) from secret")))
        self.assertNotEqual(self.sql_in(database, "select epoch from instance"), self.sql("select epoch from instance"))
        server = self.serve(database)
        with self.dev.connect(server.address) as connection:
            for name in ("a0", "a1", "a7"):
                self.assertEqual(self.value_of(connection, admin_a, name)[0], self.value_of(self.connection, admin_a, name)[0])
            self.assertEqual(self.value_of(connection, admin_a, "a1")[0], expected)
            item = {"environments": ["swapped"], "references": [{"name": "a1", "key": "K"}], "consistency_token": token}
            result = connection.call(RESOLVE, {"items": [item]}, token=admin_a)
            self.assertEqual(result.message["results"][0]["status"]["outcome"], "OUTCOME_CONSISTENCY_TOKEN_UNKNOWN")
            # And it can be written to.
            answer = connection.call(SECRET + "UpdateSecretValues", {
                "name": "a1", "environment": "swapped", "patch": {"set": values(K=b"after")}}, token=admin_a)
            self.assertEqual(answer.code, 0, answer)
            self.assertEqual(self.value_of(connection, admin_a, "a1")[0], b"after")

    def test_backup_holds_no_key_and_no_value_and_only_its_owner_reads_it(self):
        _, admin = self.two_tenants()[0]
        path = self.folder / "private"
        self.create("canary", "swapped", token=admin, K=b"canary-of-the-backup")
        self.command("backup", path)
        self.assertEqual(path.stat().st_mode & 0o777, 0o700)
        key = (self.dev.directory / "root.key").read_text().strip()
        plain = self.folder / "private.sql"
        subprocess.run(["pg_restore", "-f", plain, path / "database.dump"], check=True)
        files = [path / "manifest", path / "database.dump"]
        self.assertEqual(set(path.iterdir()), set(files))
        for file in files:
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        for file in (*files, plain):
            content = file.read_bytes()
            for text in (key.encode(), bytes.fromhex(key), b"canary-of-the-backup", b"canary-of-the-backup".hex().encode(),
                         admin):
                self.assertNotIn(text, content, file)
        self.assertIn(b"canary", plain.read_bytes())  # names are in the clear, as in the database

    def test_restore_without_the_root_key_or_with_another_one_is_refused_before_anything_is_written(self):
        path, database = self.folder / "keyed", self.new_database()
        other, missing = self.folder / "other.key", self.folder / "missing.key"
        other.write_text("ab" * 32)
        other.chmod(0o600)
        self.command("backup", path)
        self.refused("another root key", "restore", path, database=database, COFFERD_KEYS__ROOT_KEY_FILE=str(other))
        self.refused("missing.key", "restore", path, database=database, COFFERD_KEYS__ROOT_KEY_FILE=str(missing))
        self.assertFalse(missing.exists())
        self.assertEqual(self.sql_in(database, "select count(*) from pg_class where relnamespace = 'public'::regnamespace"), "0")
        for command in (["verify"], ["backup", self.folder / "never"]):
            self.refused("root key", *command, COFFERD_KEYS__ROOT_KEY_FILE=str(other))
        self.assertFalse((self.folder / "never").exists() or (self.folder / "never.partial").exists())

    def test_backup_of_before_a_root_rotation_is_restored_as_long_as_the_old_key_is_among_the_others(self):
        path, database = self.folder / "before", self.new_database()
        new = self.folder / "new.key"
        new.write_text("cd" * 32)
        new.chmod(0o600)
        old = self.dev.directory / "root.key"
        self.command("backup", path)
        self.refused("another root key", "restore", path, database=database, COFFERD_KEYS__ROOT_KEY_FILE=str(new))
        keys = {"COFFERD_KEYS__ROOT_KEY_FILE": str(new), "COFFERD_KEYS__OTHER_ROOT_KEYS": "env:OLD_ROOT_KEY",
                "OLD_ROOT_KEY": old.read_text().strip()}
        self.command("restore", path, database=database, **keys)
        self.verify(database=database, **keys)

    def test_backup_that_was_changed_or_cut_is_refused_before_anything_is_written(self):
        path, database = self.folder / "changed", self.new_database()
        self.command("backup", path)
        for name in ("manifest", "database.dump"):
            file = path / name
            whole = file.read_bytes()
            place = self.random.randrange(32, len(whole) - 1)
            for changed in (whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:], whole[:place]):
                file.write_bytes(changed)
                run = subprocess.run([COFFERD, "restore", path], env={**os.environ, **self.settings(database)},
                                     capture_output=True, text=True, timeout=PATIENCE)
                self.assertIn(run.returncode, (1, 2), (name, place, run.stderr))
                self.assertRegex(run.stderr, "changed or cut|another root key|no file of this kind", (name, place))
            file.write_bytes(whole)
        tables = self.sql_in(database, "select count(*) from pg_class where relnamespace = 'public'::regnamespace")
        self.assertEqual(tables, "0")
        self.command("restore", path, database=database)
        self.refused("not empty", "restore", path, database=database)
        self.refused("is there already", "backup", path)

    def test_restore_that_was_broken_off_leaves_nothing_that_a_server_serves(self):
        path, database = self.folder / "broken", self.new_database()
        self.command("backup", path)
        # It waits here with everything loaded and checked but for the instance's row, and is killed.
        run = subprocess.Popen([COFFERD, "restore", path], env={**os.environ, **self.settings(database),
                                                                "COFFER_FAULT": "restore.before_instance:exit:1"})
        self.assertNotEqual(run.wait(PATIENCE), 0)
        self.assertNotEqual(self.sql_in(database, "select count(*) from secret"), "0")
        refused = subprocess.run([COFFERD, "serve"], env={
            **os.environ, **self.settings(database), "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.folder}/never.sock",
            "COFFERD_SERVER__STATE_DIR": str(self.folder / "never.state")}, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertRegex(refused.stderr, "instance")
        made = self.command("init", "--token-file", self.folder / "never.token", code=1, database=database)
        self.assertFalse((self.folder / "never.token").exists(), made.stderr)
        self.refused("not empty", "restore", path, database=database)
        self.sql(f"drop database {database}")
        self.sql(f"create database {database}")
        self.command("restore", path, database=database)
        self.assert_whole(database=database)

    def test_backup_of_a_damaged_database_says_so_and_is_restored_only_if_that_is_accepted(self):
        path, database = self.folder / "damaged", self.new_database()
        self.create("hurt", "older", K=b"v")
        self.keep("healthy", ["secret"])
        self.sql("update secret set description = 'forged' where name = 'hurt'")
        self.assertIn("FAULT: secret", self.command("backup", path, code=3).stderr)
        self.put_back("healthy", ["secret"])
        self.refused("not given to servers", "restore", path, code=3, database=database)
        self.assertEqual(self.sql_in(database, "select count(*) from instance"), "0")
        self.sql(f"drop database {database}")
        self.sql(f"create database {database}")
        self.command("restore", "--accept-faults", path, code=3, database=database)
        self.assertEqual(self.sql_in(database, "select count(*) from instance"), "1")
        self.forget("healthy")

    def test_anchor_that_is_younger_than_the_backup_tells_what_a_restored_database_has_lost(self):
        path, database, anchor = self.folder / "lost", self.new_database(), self.folder / "younger"
        workspace, admin = self.new_workspace("losing-writes")
        self.command("backup", path)
        self.create("lost", "older", token=admin, K=b"v")
        self.settled()
        self.assert_whole("--write-anchor", anchor)
        self.command("restore", path, database=database)
        found, _ = self.verify("--anchor", anchor, code=3, database=database)
        told = {(fault["table"], fault["workspace"]) for fault in found}
        self.assertIn(("workspace_revision", workspace), told)
        self.assertIn("instance", {table for table, _ in told})

    def test_arguments_that_are_wrong_are_named(self):
        for arguments, message in ((["backup"], "directory is missing"), (["restore"], "directory is missing"),
                                   (["verify", "x"], "too many"), (["backup", "--anchor", "x", "y"], "no such option"),
                                   (["backup", "a", "b"], "too many")):
            self.refused(message, *arguments)
        self.refused("cannot be started", "backup", "--pg-bin", self.folder / "none", self.folder / "never-made")
        self.assertFalse((self.folder / "never-made.partial").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
