#!/usr/bin/env python3
"""What somebody with the database in his hands can do: rows changed, swapped and moved are told from whole ones (T16).

TEST_FULL=1 swaps 100,000 rows; TEST_SEED repeats a run.
"""

import os
import pathlib
import random
import shutil
import subprocess
import unittest
import uuid

import context
import token_text
from cofferd import COFFERD, values
from context import ACCOUNT, RESOLVE, SECRET, SYSTEM, TOKEN, WORKSPACE
from sp_client import uuid7

SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
SWAPS = 100000 if os.environ.get("TEST_FULL") else 3000
RULES = [{"permissions": ["resolve", "secret:read", "secret:write", "token:read", "token:write", "account:read",
                          "workspace:read"]}]
ENVIRONMENTS = ["prod", "stage", "test"]
NAMES = [f"name{i}" for i in range(40)]
# Columns behind the MAC of a secret's row that decide nothing: who wrote the values, when. Keys and blob are checked when
# they are opened.
UNGUARDED = {"from_revision", "value_time", "value_principal_id"}
# Without foreign keys: somebody with the database in his hands is not held up by them.
FREE = "set session_replication_role = replica; "

# Another value of the same type, as SQL over the column.
OTHER = {
    "uuid": "gen_random_uuid()",
    "text": "{0} || 'x'",
    "int4": "{0} + 1",
    "int8": "{0} + 1",
    "bool": "not {0}",
    "_text": "array_append({0}, 'x')",
    "bytea": "case when length({0}) = 0 then '\\x00'::bytea else set_byte({0}, length({0}) - 1,"
             " get_byte({0}, length({0}) - 1) # 1) end",
    "timestamptz": "coalesce({0} + interval '1 microsecond', now() + interval '9 years')",
}


class Data(context.AccessTest):
    SETTINGS = context.NO_CACHE

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print(f"seed {SEED}", flush=True)
        cls.random = random.Random(SEED)

    def guarded(self):
        """{table: [(column, type)]} of every table whose rows end with a MAC."""
        lines = self.sql("select c.table_name, c.column_name, c.udt_name from information_schema.columns c"
                         " where table_schema = 'public' and exists (select from information_schema.columns m where"
                         " m.table_schema = 'public' and m.table_name = c.table_name and m.column_name = 'mac')"
                         " order by c.table_name, c.ordinal_position")
        tables = {}
        for line in lines.splitlines():
            table, column, kind = line.split("|")
            if (table, column) not in {("secret", name) for name in UNGUARDED}:
                tables.setdefault(table, []).append((column, kind))
        return tables

    # --- Every column of every row that has a MAC

    def victim_secret(self, name):
        answer = self.create(name, "guarded", K=b"guarded value")
        return f"secret_id = '{answer.message['secret']['uid']}'"

    def probe_secret(self, name, environment="guarded", workspace=""):
        answer = self.call(RESOLVE, {"items": [{"workspace": workspace, "environments": [environment],
                                                "references": [{"name": name, "key": "K"}]}]}, token=self.everywhere)
        result = answer.message["results"][0]
        return "OK" if result["secrets"] else result["status"]["outcome"].removeprefix("OUTCOME_")

    def probe_token(self, token):
        answer = self.call(TOKEN + "GetCaller", token=token)
        return answer.reason or "OK"

    def at(self, table, where, columns):
        """The columns of the row as it is now."""
        return self.sql(f"select {', '.join(columns)} from {table} where {where}").split("|")

    def change(self, table, where, column, kind):
        """Changes one column of one row; gives the statement that puts the old value back, by the row's place."""
        old = self.sql(f"select quote_nullable({column}::text) from {table} where {where}")
        place = self.sql(f"{FREE}update {table} set {column} = {OTHER[kind].format(column)} where {where} returning ctid")
        self.assertNotEqual(place, "", (table, column))
        return place, f"{FREE}update {table} set {column} = {old}::{kind} where ctid = '{place}'"

    def check_secret(self, column, kind):
        name = f"victim-{column}".replace("_", "-")
        where = self.victim_secret(name)
        place, restore = self.change("secret", where, column, kind)
        here = f"ctid = '{place}'"
        found = [self.probe_secret(name, workspace=self.dev.workspace)]
        workspace, environment, new_name = self.at("secret", here, ["workspace_id", "environment", "name"])
        if (workspace, environment, new_name) != (self.dev.workspace, "guarded", name):
            found.append(self.probe_secret(new_name, environment, workspace))
        self.sql(restore)
        self.assertEqual(self.probe_secret(name, workspace=self.dev.workspace), "OK", column)
        return found

    def check_token_row(self, table, column, kind):
        """A row of `token` or of the account that it belongs to; the thief knows where it lies now, and the secret."""
        token = self.token_for(RULES)
        said, workspace, token_id, secret = token_text.parse(token)
        account = self.call(TOKEN + "GetCaller", token=token).message["service_account"]["uid"]
        where = f"token_id = '{token_id}'" if table == "token" else f"principal_id = '{account}'"
        place, restore = self.change(table, where, column, kind)
        found = [self.probe_token(token)]
        if column in ("workspace_id", "token_id"):
            moved = uuid.UUID(self.at(table, f"ctid = '{place}'", [column])[0])
            ids = (moved, token_id) if column == "workspace_id" else (workspace, moved)
            found.append(self.probe_token(token_text.make(said, *ids, secret)))
        if column == "token_kind":
            found.append(self.probe_token(token_text.make(b"fleet", workspace, token_id, secret)))
        self.sql(restore)
        self.assertEqual(self.probe_token(token), "OK", (table, column))
        return found

    def check_workspace(self, column, kind):
        workspace, admin = self.new_workspace(f"victim-{column}".replace("_", "-"))
        _, restore = self.change("workspace", f"workspace_id = '{workspace}'", column, kind)
        answer = self.call(WORKSPACE + "GetWorkspace", {}, token=admin)
        self.sql(restore)
        self.assertEqual(self.call(WORKSPACE + "GetWorkspace", {}, token=admin).code, 0, column)
        return [answer.reason or "OK"]

    def check_state(self, column, kind):
        """The row of a workspace that was disabled and enabled again."""
        workspace, admin = self.new_workspace(f"state-{column}".replace("_", "-"))
        for disabled in (True, False):
            self.assertEqual(self.call(WORKSPACE + "UpdateWorkspace", {
                "workspace": workspace, "update_mask": {"paths": ["disabled"]}, "disabled": disabled},
                token=self.dev.system).code, 0)
        place, restore = self.change("workspace_state", f"workspace_id = '{workspace}'", column, kind)
        found = [self.probe_token(admin)]
        if column == "workspace_id":
            # Without a row it is what it was when it was made; with one of another it is damaged.
            self.assertEqual(found, ["OK"])
            self.sql(f"update workspace_state set workspace_id = '{self.dev.workspace}' where ctid = '{place}'")
            place = self.at("workspace_state", f"workspace_id = '{self.dev.workspace}'", ["ctid"])[0]
            found = [self.probe_token(self.dev.admin)]
            restore = f"update workspace_state set workspace_id = '{workspace}' where ctid = '{place}'"
        self.sql(restore)
        self.assertEqual(self.probe_token(admin), "OK", column)
        return found

    def probe_action(self, name):
        answer = self.call(RESOLVE, {"items": [{"workspace": self.dev.workspace, "environments": ["guarded"],
                                                "action": name}]}, token=self.everywhere)
        result = answer.message["results"][0]
        return "OK" if result["secrets"] else result["status"]["outcome"].removeprefix("OUTCOME_")

    def check_action(self, column, kind):
        name = f"tools.victim_{column}"
        secret = f"of-action-{column}".replace("_", "-")
        self.create(secret, "guarded", K=b"guarded value")
        answer = self.call("coffer.v1.IntegrationService/RegisterActions", {"actions": [{
            "name": name, "declarations": {"secrets": [{"name": secret, "keys": ["K"]}]}}]})
        self.assertEqual((answer.code, answer.message["refused"]), (0, []), answer)
        self.assertEqual(self.probe_action(name), "OK")
        _, restore = self.change("action", f"name = '{name}'", column, kind)
        found = [self.probe_action(name)]
        if column == "name":
            found.append(self.probe_action(name + "x"))
        self.sql(restore)
        self.assertEqual(self.probe_action(name), "OK", column)
        return found

    def probe_connection(self, environment):
        """What a change of its tokens meets: it reads all of both rows first."""
        answer = self.call(context.CONNECTION + "SetConnectionTokens", {
            "environment": environment, "provider": "github", "refresh_token": b"another"})
        return answer.reason or "OK"

    def check_connection(self, table, column, kind):
        environment = f"of-{table}-{column}".replace("_", "-")
        made = self.call(context.CONNECTION + "ConfigureConnection", {**context.CONFIGURED, "environment": environment})
        self.assertEqual(made.code, 0, made)
        self.assertEqual(self.probe_connection(environment), "OK")
        _, restore = self.change(table, f"connection_id = '{made.message['connection']['uid']}'", column, kind)
        found = [self.probe_connection(environment)]
        self.sql(restore)
        self.assertEqual(self.probe_connection(environment), "OK", (table, column))
        return found

    def probe_provider(self, name):
        """What an update that would keep all of it says."""
        answer = self.call("coffer.v1.ProviderService/UpdateProvider", {
            "id": name, "name": "Victim", "update_mask": {"paths": ["name"]}})
        return answer.reason or "OK"

    def check_provider(self, column, kind):
        made = self.call("coffer.v1.ProviderService/CreateProvider", {"name": f"Victim {column}", "definition": context.DEFINITION})
        self.assertEqual(made.code, 0, made)
        name = made.message["provider"]["id"]
        _, restore = self.change("provider", f"provider = '{name}'", column, kind)
        found = [self.probe_provider(name)]
        if column == "provider":
            found.append(self.probe_provider(name + "x"))
        self.sql(restore)
        self.assertEqual(self.probe_provider(name), "OK", column)
        return found

    def test_every_changed_column_of_every_guarded_row_authorises_nothing(self):
        Data.everywhere = self.fleet([{"permissions": ["resolve"]}])
        checks = {
            "secret": self.check_secret,
            "workspace": self.check_workspace,
            "workspace_state": self.check_state,
            "action": self.check_action,
            "connection": lambda column, kind: self.check_connection("connection", column, kind),
            "connection_token": lambda column, kind: self.check_connection("connection_token", column, kind),
            "provider": self.check_provider,
            "token": lambda column, kind: self.check_token_row("token", column, kind),
            "principal": lambda column, kind: self.check_token_row("principal", column, kind),
        }
        # Where the row is not found any more under its old name, or does not fit what the caller knows.
        moved = {("secret", "workspace_id"), ("secret", "environment"), ("secret", "name"), ("secret", "state"),
                 ("token", "workspace_id"), ("token", "token_id"), ("token", "principal_id"), ("token", "hash"),
                 ("principal", "workspace_id"), ("principal", "principal_id"), ("principal", "token_kind"),
                 ("workspace", "workspace_id"), ("action", "workspace_id"), ("action", "name"),
                 ("provider", "workspace_id"), ("provider", "provider")}
        moved |= {("connection", column) for column in ("workspace_id", "environment", "provider", "class")}
        absent = {"CONNECTION_NOT_FOUND", "SECRET_NOT_FOUND", "ACTION_NOT_FOUND", "PROVIDER_NOT_FOUND", "TOKEN_INVALID", "WORKSPACE_NOT_FOUND", "PERMISSION_DENIED"}
        tables = self.guarded()
        self.assertEqual(set(tables), set(checks), "a guarded table has no check here")
        count = 0
        for table, columns in tables.items():
            for column, kind in columns:
                found = checks[table](column, kind)
                allowed = {"CORRUPTED"} | (absent if (table, column) in moved else set())
                self.assertTrue(found and set(found) <= allowed, (table, column, found))
                count += 1
        print(f"{count} columns of {len(tables)} tables", flush=True)

    def test_damaged_row_is_listed_as_damaged_and_hides_no_other(self):
        for name in ("listed1", "listed2", "listed3"):
            self.create(name, "listed", K=b"v")
        self.sql("update secret set description = 'forged' where environment = 'listed' and name = 'listed2'")
        listed = self.call(SECRET + "ListSecrets", {"environments": ["listed"]}).message["secrets"]
        self.assertEqual([(s["name"], s["state"]) for s in listed],
                         [("listed1", "SECRET_STATE_ACTIVE"), ("listed2", "SECRET_STATE_CORRUPTED"),
                          ("listed3", "SECRET_STATE_ACTIVE")])
        self.assertNotIn("forged", str(listed))
        answer = self.call(SECRET + "UpdateSecretValues", {"name": "listed2", "environment": "listed",
                                                           "patch": {"set": values(L=b"w")}})
        self.assertEqual(answer.reason, "CORRUPTED")

    def test_damaged_account_and_token_are_listed_as_damaged_and_hide_no_other(self):
        tokens = [self.token_for(RULES) for _ in range(2)]
        hurt = str(token_text.parse(tokens[1])[2])
        name = self.call(TOKEN + "GetCaller", token=tokens[1]).message["service_account"]["name"]
        self.assertEqual(self.issue(name).code, 0)
        self.sql(f"update token set description = 'forged' where token_id = '{hurt}'")
        answer = self.call(TOKEN + "ListTokens", {"service_account": name})
        self.assertEqual({t["uid"]: t["corrupted"] for t in answer.message["tokens"]}[hurt], True)
        self.assertEqual([t["corrupted"] for t in answer.message["tokens"]].count(False), 1)
        self.assertNotIn("forged", str(answer))
        self.sql(f"update principal set description = 'forged' where name = '{name}'")
        answer = self.call("coffer.v1.ServiceAccountService/ListServiceAccounts", {"page_size": 1000})
        self.assertEqual([a["name"] for a in answer.message["service_accounts"] if a["corrupted"]], [name])
        self.assertGreater(len(answer.message["service_accounts"]), 2)
        self.assertNotIn("forged", str(answer))

    def test_deleted_secret_that_was_revived_is_corrupted(self):
        at = {"name": "revived", "environment": "graves"}
        self.create(**at, K=b"dead value")
        self.assertEqual(self.call(SECRET + "DeleteSecret", at).code, 0)
        self.sql("update secret set state = 1, delete_time = null where name = 'revived'")
        self.assertEqual(self.resolve("graves", "revived.K")["status"]["outcome"], "OUTCOME_CORRUPTED")

    def test_revoked_token_that_was_revived_is_corrupted(self):
        token = self.token_for(RULES)
        self.assertEqual(self.call(TOKEN + "RevokeToken", token=token).code, 0)
        self.sql(f"update token set revoke_time = null where token_id = '{token_text.parse(token)[2]}'")
        self.assertEqual(self.probe_token(token), "CORRUPTED")

    def test_grants_and_tokens_of_others_cannot_be_put_into_a_row(self):
        weak, strong = self.token_for([{"permissions": ["secret:read"]}]), self.dev.admin
        weak_id, strong_id = (token_text.parse(token)[2] for token in (weak, strong))
        account = self.call(TOKEN + "GetCaller", token=weak).message["service_account"]["uid"]
        everything = "grants = o.grants, mac_generation = o.mac_generation, mac = o.mac"
        for change in ("grants = o.grants", everything):
            self.sql("begin; create table kept as select * from principal; commit")
            self.sql(f"update principal p set {change} from principal o where o.name = 'admin' and"
                     f" o.workspace_id = p.workspace_id and p.principal_id = '{account}'")
            self.assertEqual(self.call(SECRET + "ListSecrets", token=weak).reason, "CORRUPTED", change)
            self.sql("update principal p set grants = k.grants, mac_generation = k.mac_generation, mac = k.mac from kept k"
                     " where k.principal_id = p.principal_id; drop table kept")
        # The weak token's hash in the strong token's row, and the weak token as one of the strong account.
        self.sql(f"create table kept as select * from token; update token t set hash = o.hash from token o where"
                 f" o.token_id = '{weak_id}' and t.token_id = '{strong_id}'")
        secret = token_text.parse(weak)[3]
        forged = token_text.make(b"ws", uuid.UUID(self.dev.workspace), strong_id, secret)
        self.assertEqual(self.probe_token(forged), "CORRUPTED")
        self.sql("update token t set hash = k.hash from kept k where k.token_id = t.token_id")
        self.sql(f"update token t set principal_id = o.principal_id from token o where o.token_id = '{strong_id}' and"
                 f" t.token_id = '{weak_id}'")
        self.assertEqual(self.probe_token(weak), "CORRUPTED")
        self.sql("update token t set principal_id = k.principal_id from kept k where k.token_id = t.token_id; drop table kept")
        self.assertEqual((self.probe_token(weak), self.probe_token(strong)), ("OK", "OK"))

    # --- Sealed things

    def test_sealed_answer_of_another_request_is_corrupted(self):
        ids = [uuid7(), uuid7()]
        payloads = []
        for i, request_id in enumerate(ids):
            request = {"name": f"answered{i}", "environment": "answers", "values": values(K=b"v")}
            payloads.append(request)
            self.assertEqual(self.call(SECRET + "CreateSecret", request, request_id=request_id).code, 0)
        one, two = (uuid.UUID(bytes=request_id) for request_id in ids)
        self.sql(f"update request r set answer = o.answer from request o where o.request_id = '{two}'"
                 f" and r.request_id = '{one}'")
        answer = self.call(SECRET + "CreateSecret", payloads[0], request_id=ids[0])
        self.assertEqual((answer.code, answer.reason), (15, "CORRUPTED"))
        self.assertEqual(self.call(SECRET + "CreateSecret", payloads[1], request_id=ids[1]).code, 0)

    def test_key_of_another_workspace_or_generation_opens_nothing(self):
        (one, first), (two, second) = self.new_workspace("keys-one"), self.new_workspace("keys-two")
        for token in (first, second):
            self.create("s", token=token, K=b"v")
        self.sql("create table kept as select * from workspace_key")
        for number, sql in enumerate((
                    f"update workspace_key k set wrapped = o.wrapped from workspace_key o where o.workspace_id = '{two}'"
                    f" and k.workspace_id = '{one}'",
                    f"update workspace_key set generation = 2 where workspace_id = '{one}'",
                    f"delete from workspace_key where workspace_id = '{one}'; insert into workspace_key select '{one}',"
                    f" 1, wrapped, create_time, state, change_time from workspace_key where workspace_id = '{two}'")):
            self.sql(sql)
            # A server that has not opened the keys yet.
            server = self.dev.more(f"keys-{number}")
            with self.dev.connect(server.address) as connection:
                answer = connection.call(TOKEN + "GetCaller", token=first)
                self.assertEqual((answer.code, answer.reason), (15, "CORRUPTED"), sql)
                self.assertEqual(connection.call(TOKEN + "GetCaller", token=self.dev.admin).code, 0)
            self.dev.extra.remove(server)
            self.assertEqual(server.stop(), 0)
            self.sql(f"{FREE}delete from workspace_key; insert into workspace_key select * from kept")
        self.sql("drop table kept")

    # --- Swaps

    def fill(self, token, mark):
        for environment in ENVIRONMENTS:
            for name in NAMES:
                self.create(name, environment, token=token, K=f"{mark} {environment} {name}".encode())

    def resolve_all(self, workspace, token):
        """{(environment, name): value or outcome}"""
        # One name for each item, so that a damaged one does not keep the others' values back.
        items = [{"workspace": workspace, "environments": ENVIRONMENTS, "references": [{"name": name, "key": "K"}]}
                 for name in NAMES]
        answer = self.call(RESOLVE, {"items": items}, token=token)
        self.assertEqual(answer.code, 0, answer)
        out = {}
        for result in answer.message["results"]:
            name = NAMES[result["item_index"]]
            value = result["secrets"][0]["values"][0]["value"] if result["secrets"] else None
            out[result["environment"], name] = value or result["status"]["outcome"].removeprefix("OUTCOME_")
        return out

    def whole_rows(self, workspace):
        """The addresses whose rows are as they were: everything that is read of them is the same."""
        columns = [name for name in self.columns["secret"].split(", ") if name not in UNGUARDED]
        new, old = (", ".join(f"{alias}.{name}" for name in columns) for alias in "no")
        lines = self.sql(
            f"select n.environment, n.name from secret n join kept.secret o on n.workspace_id = o.workspace_id"
            f" and n.secret_id = o.secret_id and row({new})::text = row({old})::text"
            f" where n.workspace_id = '{workspace}' and n.state = 1")
        return {tuple(line.split("|")) for line in lines.splitlines()}

    def swap(self, table, columns, pairs):
        """Swaps the columns between the rows of each pair, which are numbered in `kept`."""
        listed = ", ".join(f"({a}, {b}), ({b}, {a})" for a, b in pairs)
        sets = ", ".join(f"{column} = o.{column}" for column in columns)
        self.sql(f"{FREE}update {table} t set {sets} from (values {listed}) p(mine, other)"
                 f" join kept.{table} m on m.number = p.mine join kept.{table} o on o.number = p.other"
                 " where t.workspace_id = m.workspace_id and t.secret_id = m.secret_id")

    def put_back(self):
        self.sql(f"{FREE}begin; truncate secret; insert into secret select {self.columns['secret']} from kept.secret; commit")

    def remember(self):
        # Keys are doubled for a moment while they are swapped.
        self.sql("create schema kept; drop index secret_address; alter table secret drop constraint secret_pkey")
        self.columns = {"secret": self.sql("select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
                                           " where attrelid = 'secret'::regclass and attnum > 0")}
        self.sql("create table kept.secret as select *, row_number() over () as number from secret")

    def test_rows_swapped_between_tenants_names_versions_and_columns_are_all_detected(self):
        other, admin = self.new_workspace("swapped")
        tenants = {self.dev.workspace: (self.dev.admin, "dev"), other: (admin, "other")}
        for token, mark in tenants.values():
            self.fill(token, mark)
        self.remember()
        ways = [
            ("secret", ["environment", "name"]),  # names
            ("secret", ["workspace_id"]),  # tenants
            ("secret", ["workspace_id", "secret_id"]),
            ("secret", ["version"]), ("secret", ["mac"]), ("secret", ["metadata_version", "update_time", "mac"]),
            ("secret", None),  # columns drawn by lot
            ("secret", ["blob"]), ("secret", ["keys", "blob"]), ("secret", ["secret_id"]),
            ("secret", ["version", "keys", "blob"]),
        ]
        count = int(self.sql("select count(*) from kept.secret"))
        swapped = detected = rounds = 0
        while swapped < SWAPS:
            table, columns = ways[rounds % len(ways)]
            if columns is None:
                names = [name for name in self.columns["secret"].split(", ")
                         if name not in UNGUARDED | {"workspace_id", "secret_id"}]
                columns = self.random.sample(names, self.random.randint(1, len(names)))
            numbers = self.random.sample(range(1, count + 1), count // 2 * 2)
            # A quarter is left as it is: it must not suffer.
            pairs = list(zip(numbers[::2], numbers[1::2]))[:count * 3 // 8]
            self.swap(table, columns, pairs)
            for workspace, (token, mark) in tenants.items():
                whole = self.whole_rows(workspace)
                for (environment, name), value in self.resolve_all(workspace, token).items():
                    own = f"{mark} {environment} {name}".encode()
                    if (environment, name) in whole:
                        # A second row that claims the name may stand beside it; no other value ever comes out.
                        self.assertIn(value, (own, "CORRUPTED"), (table, columns))
                    else:
                        self.assertIn(value, ("CORRUPTED", "SECRET_NOT_FOUND"), (table, columns, environment, name))
                        detected += 1
            swapped += len(pairs) * 2
            rounds += 1
            self.put_back()
        for workspace, (token, mark) in tenants.items():
            for (environment, name), value in self.resolve_all(workspace, token).items():
                self.assertEqual(value, f"{mark} {environment} {name}".encode())
        print(f"{swapped} rows swapped in {rounds} rounds, {detected} addresses that were touched", flush=True)
        self.assertGreater(detected, swapped // 4)

    # --- Keys

    def run_server(self, *arguments, **environment):
        return subprocess.run([COFFERD, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
                              timeout=90)

    def test_server_with_another_root_key_or_none_refuses_to_start_and_changes_nothing(self):
        instance = self.sql("select * from instance")
        keys = self.sql("select count(*), md5(string_agg(wrapped::text, '' order by wrapped)) from workspace_key")
        folder = self.dev.directory / "other-keys"
        folder.mkdir(mode=0o700)
        other, missing = folder / "other.key", folder / "missing.key"
        other.write_text("ab" * 32)
        other.chmod(0o600)
        for path in (other, missing):
            settings = {"COFFERD_DATABASE__CONNINFO": self.dev.conninfo, "COFFERD_KEYS__ROOT_KEY_FILE": str(path),
                        "COFFERD_TRANSPORT__LISTEN": f"ipc://{folder}/socket"}
            for arguments in (["serve"], ["init", "--token-file", str(folder / "token")]):
                run = self.run_server(*arguments, **settings)
                self.assertNotEqual(run.returncode, 0, (path, arguments))
                self.assertRegex(run.stdout + run.stderr, "root key|root.key|missing.key", (path, arguments))
                self.assertFalse((folder / "token").exists())
        self.assertFalse(missing.exists(), "a key was made where data exists")
        self.assertEqual(self.sql("select * from instance"), instance)
        self.assertEqual(
            self.sql("select count(*), md5(string_agg(wrapped::text, '' order by wrapped)) from workspace_key"), keys)
        self.assertEqual(self.call(TOKEN + "GetCaller").code, 0)

    def test_request_over_more_workspaces_than_the_keyring_holds_finds_no_damage(self):
        places = [self.new_workspace(f"keyring-{i}") for i in range(24)]
        for workspace, admin in places:
            self.create("s", token=admin, K=workspace.encode())
        token = self.fleet([{"permissions": ["resolve"]}])
        server = self.dev.more("small-keyring", COFFERD_KEYS__KEYRING="16")
        items = [{"workspace": workspace, "references": [{"name": "s", "key": "K"}]} for workspace, _ in places]
        with self.dev.connect(server.address) as connection:
            for _ in range(3):
                results = connection.call(RESOLVE, {"items": items}, token=token).message["results"]
                self.assertEqual([self.value(r, "s", "K").decode() if r["secrets"] else r["status"] for r in results],
                                 [workspace for workspace, _ in places])

    def test_write_whose_keys_are_pushed_out_while_it_waits_is_made_all_the_same(self):
        _, admin = self.new_workspace("pushed-out")
        others = [self.new_workspace(f"pushing-{i}")[1] for i in range(20)]
        server = self.dev.more("pushed-keyring", COFFERD_KEYS__KEYRING="16")
        request = {"name": "s", "values": values(K=b"v")}
        with self.dev.connect(server.address) as connection:
            with self.locked("environment"):
                number = connection.send(SECRET + "CreateSecret", request, token=admin)
                self.wait_until_blocked()
                for token in others:
                    self.assertEqual(connection.call(TOKEN + "GetCaller", token=token).code, 0)
            answer = connection.receive(number, SECRET + "CreateSecret")
            self.assertEqual((answer.code, answer.reason), (0, ""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
