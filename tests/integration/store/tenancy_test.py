#!/usr/bin/env python3
"""No tenant meets another's rows: what the schema says, what the plans of all statements say, and what they do.

The first argument is the program that prints the server's statements (statements_list.c).
"""

import json
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "server"))

import context  # noqa: E402
from cofferd import values, wait_for  # noqa: E402

LIST = sys.argv.pop(1)
SEPARATOR = "\x1f"
SYSTEM = "00000000-0000-0000-0000-000000000000"

# The tables that belong to no tenant, and why.
SHARED_TABLES = {
    "instance": "one row: epoch and root key of the database",
    "workspace_directory": "which workspaces there are; holds nothing of a tenant but its name",
    "schema_history": "which schema files were applied",
}
# The statements that name no workspace: the tables that they touch, and why.
ACROSS = {
    "SYSTEM_IDENTITY": (set(), "which PostgreSQL this is"),
    "INSTANCE_GET": ({"instance"}, "the instance"),
    "INSTANCE_INSERT": ({"instance"}, "the instance"),
    "INSTANCE_NEW_EPOCH": ({"instance"}, "the instance"),
    "INSTANCE_KEEP_ROOT": ({"instance"}, "which root key wraps, until the end of a transaction"),
    "INSTANCE_SET_ROOT": ({"instance"}, "the root key is replaced"),
    "CLOCK_AHEAD": ({"instance"}, "by how much the database's clock has gone back"),
    "CLOCK_READ": ({"instance"}, "the database's clock, and by how much it has gone back"),
    "KEY_ROOTS": ({"workspace_key"}, "under which root keys there are how many keys"),
    "KEY_OF_OTHER_ROOTS": ({"workspace_key"}, "the wrapped keys that a rotation of the root key wraps anew"),
    "GENERATIONS_OLD": ({"workspace_key"}, "which workspaces' keys are being rotated"),
    "GENERATIONS_CHANGED": ({"workspace_key"}, "which generations are new or destroyed; no key"),
    "GENERATIONS_COUNT": ({"workspace_key"}, "an operator looks how far rotations are"),
    "RESEAL_STATES": ({"workspace_state"}, "rows that the key of the system workspace guards, which is rotated"),
    "ROTATION_TAKE": (set(), "one server at a time works on a workspace"),
    "ROTATION_GIVE": (set(), "one server at a time works on a workspace"),
    "DIRECTORY_FIND": ({"workspace_directory"}, "an operator names a workspace"),
    "DIRECTORY_INSERT": ({"workspace_directory"}, "a workspace comes into being"),
    "DIRECTORY_LIST": ({"workspace_directory"}, "system administration lists workspaces"),
    "DIRECTORY_GET": ({"workspace_directory"}, "the name of a workspace that is to be deleted"),
    "DIRECTORY_SET_LIVE": ({"workspace_directory"}, "a workspace is deleted or restored"),
    "DIRECTORY_FORGET": ({"workspace_directory"}, "a purged workspace's name is forgotten, its UUID is not"),
    "SNAPSHOT": (set(), "which transactions are not over"),
    "CHANGE_SINCE": ({"change"}, "which workspaces reached which revision since the last look; no content of a change"),
    "CHAIN_LEAD": (set(), "one server chains at a time"),
    "CHAIN_BEHIND": ({"workspace_revision", "write_chain"}, "which workspaces have writes that are in no link; no content of one"),
    "REVISION_LIST": ({"workspace_revision"}, "an operator checks the records of all workspaces' writes"),
    "REQUEST_PURGE": ({"request"}, "records that are too old to be repeated go"),
    "SECRET_PURGE": ({"secret", "secret_version"}, "secrets that were deleted too long ago to be restored go"),
    "AUTHORIZATION_PURGE": ({"connection_authorization"}, "starts that ended too long ago to be asked for go"),
    "WORKSPACES_TO_PURGE": ({"workspace_state"}, "which workspaces were deleted too long ago to be restored"),
    "WORKSPACES_CLOSED": ({"workspace_state"}, "whose keys a server has to close"),
    "REFRESH_DUE": ({"connection_lease", "instance"}, "which connections have something to refresh; each is claimed by itself"),
    "HINT_SETTINGS": (set(), "hints wait for no disk"),
    "HINT_LISTEN": (set(), "other servers' hints that they have written"),
    "HINT_SEND": (set(), "the hint that this server has written; it says nothing else"),
    "PING": (set(), "whether the connection lives"),
    "CONNECTION_SETTINGS": (set(), "time limits of the connection"),
    "SCHEMA_LOCK": (set(), "one server migrates at a time"),
    "SCHEMA_HISTORY_PRESENT": (set(), "whether the database has a schema"),
    "SCHEMA_HISTORY_LIST": ({"schema_history"}, "which schema the database has"),
    "SCHEMA_HISTORY_INSERT": ({"schema_history"}, "a schema file was applied"),
}
# A whole database is checked workspace by workspace: which ones there are is asked of every table that has any.
EVERY_TENANT_TABLE = {"workspace", "workspace_state", "workspace_revision", "workspace_key", "environment", "secret",
                      "secret_version", "principal", "token", "token_use", "request", "change", "write_chain", "registry", "action", "provider", "connection",
                      "connection_token", "connection_lease", "connection_authorization"}
ACROSS |= {
    "VERIFY_NEXT": (EVERY_TENANT_TABLE | {"workspace_directory"}, "the next workspace's UUID; no content of a row"),
    "VERIFY_DIRECTORY": ({"workspace_directory"}, "what the directory says of a workspace"),
    "BACKUP_SNAPSHOT": (set(), "the state that is dumped"),
    "BACKUP_INSTANCE": ({"instance"}, "the instance's row goes into a backup's manifest"),
    "RESTORE_TABLES": ({"pg_class"}, "whether a database is empty"),
    "RESTORE_INSTANCE": ({"instance"}, "the instance's row comes back last"),
}
# Statements over all tenants that look at rows' places, locks or transactions, which are those of one node.
NODE_BY_NODE = {"REQUEST_PURGE", "SECRET_PURGE", "AUTHORIZATION_PURGE", "SNAPSHOT", "CHANGE_SINCE", "BACKUP_SNAPSHOT"}
# Defaults of columns: every other value in a row comes from the server.
DEFAULTS = {("change", "transaction_id"): "pg_current_xact_id()", ("instance", "clock_ahead"): "0"}
# Values for parameters that are compared with no column: the beginning of a list, no filter.
ANYTHING = {"text": "''", "uuid": f"'{SYSTEM}'", "boolean": "true", "text[]": "null", "bigint": "1",
            "timestamp with time zone": "'-infinity'"}
# And for those of a statement, where these would not do: (statement, number of the parameter).
PARAMETERS = {
    ("DEVICE_CLAIM", 4): "'infinity'", ("REQUEST_DROP", 3): f"'{SYSTEM}'", ("LEASE_RELEASE", 5): "0", ("LEASE_RELEASE", 6): "0", ("LEASE_RELEASE", 8): "0",
    ("ACTION_REACHED", 2): "'{tools.shared}'", ("RESEAL_ACTIONS", 2): "2", ("RESEAL_PROVIDERS", 2): "2", ("RESEAL_CONNECTIONS", 2): "2",
    ("RESEAL_CONNECTION_TOKENS", 2): "2", ("CONNECTION_LIST", 4): "0",
    ("REQUEST_FINISH", 11): "9", ("REQUEST_FINISH_INTENDED", 9): "9", ("SECRET_FINISH_VALUES", 28): "9",
    ("RESEAL_SECRETS", 2): "2", ("RESEAL_VERSIONS", 2): "2", ("RESEAL_PRINCIPALS", 2): "2",
    ("RESEAL_TOKENS", 2): "2", ("RESEAL_REQUESTS", 2): "2", ("RESEAL_WORKSPACES", 2): "2", ("RESEAL_COUNT", 2): "2",
    ("GENERATION_NEW", 2): "7", ("GENERATION_NEW", 3): "'\\x00'", ("GENERATION_UNUSED", 2): "9",
    ("GENERATION_DELETE", 2): "3",
    ("REQUEST_FINISH", 4): "null", ("REQUEST_FINISH_INTENDED", 4): "null", ("SECRET_LOCK_DELETED", 3): "'gone'", ("SECRET_LOCK_DELETED", 4): "null",
    ("SECRET_COMPARE", 2): "'prod'", ("SECRET_EXPORT", 4): "null", ("SECRET_EXPORT", 5): "null",
    ("SECRET_EXPORT", 6): "null", ("VERSION_LIST", 3): "9", ("CHANGE_RANGE", 3): "9", ("TOKEN_LIST", 4): "null", ("TOKEN_LIST", 5): "null",
}
LIMIT = "1000"


class Statement:
    def __init__(self, line):
        self.name, self.scope, self.sql = line.split("\t", 2)
        self.heads = set()  # parameters that are compared with the beginning of a column: a blob's header
        self.aliases = {alias or table: table for table, alias in re.findall(
            r"(?:from|join|into|(?<!for )update) (\w+)(?: (?!on |where |set |left |join |order |limit |for )(\w+))?", self.sql)}
        # Behind the parts of a `with` stands the statement itself.
        itself = re.search(r"\) (?:update|insert into|delete from) (\w+)", self.sql) if self.sql.startswith("with") else None
        self.table = itself[1] if itself else next(iter(self.aliases.values()), None)
        self.count = max(map(int, re.findall(r"\$(\d+)", self.sql)), default=0)

    def columns(self):
        """{number of a parameter: (table, column) that it is stored in or compared with}"""
        found = {}
        insert = re.match(r"insert into (\w+) \(([^)]*)\) values \((.*?)\)(?: on conflict.*)?$", self.sql)
        if insert:
            # A sub-select has parentheses of its own, and one value.
            given = re.sub(r"\(select [^()]*\)", "(select)", insert[3]).split(",")
            for column, value in zip(insert[2].split(","), given):
                if value.strip().startswith("$"):
                    found[int(value.strip()[1:])] = (insert[1], column.strip())
        for table, names, given in re.findall(r"insert into (\w+) \(([^)]*)\) select (.*?) from ", self.sql):
            for column, value in zip(names.split(","), re.sub(r"\(select [^()]*\)", "(select)", given).split(",")):
                if value.strip().startswith("$"):
                    found[int(value.strip()[1:])] = (table, column.strip())
        for alias, column, number in re.findall(r"(?:(\w+)\.)?(\w+) = (?:any\()?\$(\d+)", self.sql):
            found.setdefault(int(number), (self.aliases.get(alias, self.table), column))
        for column, number in re.findall(r"substring\((\w+) from 1 for \d+\) (?:=|is not distinct from) \$(\d+)", self.sql):
            found.setdefault(int(number), (self.table, column))
            self.heads.add(int(number))
        for column, number in re.findall(r"(\w+) = coalesce\(\$(\d+)", self.sql):
            found.setdefault(int(number), (self.table, column))
        for given, names in re.findall(r"unnest\(([^)]*)\) with ordinality as q\(([^)]*)\)", self.sql):
            for number, name in zip(re.findall(r"\$(\d+)", given), names.split(", ")):
                table = re.search(rf"from (\w+) where (?:(?!from ).)*\b{name} = q\.{name}\b", self.sql)[1]
                found.setdefault(int(number), (table, name))
        return found


def statements():
    output = subprocess.run([LIST], check=True, capture_output=True, text=True).stdout
    return [Statement(line) for line in output.splitlines()]


def writing_parts(sql):
    """The updates and deletes of which a statement is made; each is to be of one tenant by itself."""
    for begin in re.finditer(r"\b(?<!for )(?<!do )(?:update|delete from) \w+", sql):
        depth, end = 0, begin.end()
        while end < len(sql) and depth >= 0:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        yield sql[begin.start():end]


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


class Tenancy(context.ServerTest):
    SETTINGS = {"COFFERD_TOKENS__USE_INTERVAL": "1h"}  # nothing is written but what fill() writes

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.statements = statements()
        answer = cls.connection.call("coffer.v1.WorkspaceService/CreateWorkspace", {"name": "tenant-b"},
                                     token=cls.dev.system)
        cls.a, cls.b = cls.dev.workspace, answer.message["workspace"]["uid"]
        for workspace in (cls.a, cls.b):
            cls.done("WorkspaceService/UpdateWorkspace", {"workspace": workspace, "update_mask": {"paths": ["disabled"]}},
                     cls.dev.system)
        admin = cls.first_account(cls.b)
        cls.fill(cls.a, cls.dev.admin, b"of a")
        cls.fill(cls.b, admin, b"of b")
        # The server has looked at what may have to be refreshed, and leaves the rows alone from now on.
        wait_for(lambda: cls.dev.sql("select count(*) from connection_lease where next_time <= now() or lease_until > now()"
                                     ) == "0", "nothing is due")

    @classmethod
    def done(cls, method, request, token):
        answer = cls.connection.call("coffer.v1." + method, request, token=token)
        assert answer.code == 0, answer
        return answer.message

    @classmethod
    def first_account(cls, workspace):
        rule = {"permissions": ["secret:write", "environment:write", "account:write", "token:write", "resolve",
                                 "integration:write", "connection:write", "connection:read", "connection:manage_all"]}
        cls.done("ServiceAccountService/CreateServiceAccount",
                 {"workspace": workspace, "name": "first", "grants": [rule]}, cls.dev.system)
        issued = cls.done("TokenService/IssueToken", {"workspace": workspace, "service_account": "first"}, cls.dev.system)
        return issued["secret_text"]

    @classmethod
    def fill(cls, workspace, token, mark):
        """Every kind of row, with the same names in every workspace."""
        at = {"name": "shared", "environment": "prod"}
        cls.done("EnvironmentService/CreateEnvironment", {"name": "empty"}, token)
        cls.done("SecretService/CreateSecret", {**at, "values": values(K=mark), "tags": ["tag"],
                                                "description": mark.decode()}, token)
        cls.done("SecretService/UpdateSecretValues", {**at, "patch": {"set": values(L=mark)}}, token)
        cls.done("SecretService/CreateSecret", {**at, "name": "gone", "values": values(K=mark)}, token)
        cls.done("SecretService/DeleteSecret", {**at, "name": "gone"}, token)
        cls.done("IntegrationService/RegisterActions", {"actions": [
            {"name": "tools.shared", "declarations": {"secrets": [{"name": "s-" + mark.decode()[-1], "keys": ["K"]}]}}]}, token)
        cls.done("ProviderService/CreateProvider", {"name": "shared", "definition": {
            **context.DEFINITION, "token_endpoint": "https://acme.example/{x}", "parameters": [
                {"name": "x", "form": "PROVIDER_PARAMETER_FORM_SEGMENT", "help": mark.decode()}]}}, token)
        cls.done("ServiceAccountService/CreateServiceAccount",
                 {"name": "account", "description": mark.decode(), "grants": [{"permissions": ["resolve"]}]}, token)
        issued = cls.done("TokenService/IssueToken", {"service_account": "account", "description": mark.decode()}, token)
        cls.dev.sql("insert into workspace_key select workspace_id, s - 1, wrapped, create_time, s, change_time from"
                    f" workspace_key, generate_series(3, 4) s where workspace_id = '{workspace}' and generation = 1")
        cls.done("ConnectionService/ConfigureConnection", {
            **context.CONFIGURED, "environment": "prod", "client_id": mark.decode()}, token)
        cls.done("ConnectionService/SetConnectionTokens", {"environment": "prod", "provider": "github", "access_token": b"t"},
                 token)
        cls.dev.sql("insert into connection_authorization select workspace_id, connection_id, connection_id, 1, 1,"
                    f" sha256('{mark.decode()}'), workspace_id, '{mark.decode()}', now(), now() + interval '1 hour', now(), 0,"
                    f" '{mark.decode()}' from connection where workspace_id = '{workspace}'")
        # Requests that were written down before their effect, which has not come.
        cls.dev.sql(f"insert into request select distinct on (principal_id) workspace_id, principal_id, '{SYSTEM}'::uuid, method,"
                    f" payload_hash, null::bytea, null::bigint, create_time from request where workspace_id = '{workspace}'")
        cls.dev.sql(f"insert into token_use values ('{workspace}', '{issued['token']['uid']}', now())")

    # --- SQL

    def script(self, text, check=True):
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        run = subprocess.run([psql, "-X", "-A", "-t", "-F", SEPARATOR, "-d", self.dev.conninfo,
                              *(["-q", "-v", "ON_ERROR_STOP=1"] if check else [])], input=text, capture_output=True, text=True)
        if check:
            self.assertEqual(run.returncode, 0, run.stderr)
        return run

    def rows(self, statement):
        return [tuple(line.split(SEPARATOR)) for line in self.script(statement + ";").stdout.splitlines()]

    def tables(self):
        return {name for name, in self.rows("select tablename from pg_tables where schemaname = 'public'")}

    def tenant_tables(self):
        return self.tables() - set(SHARED_TABLES)

    # --- The schema

    def test_every_table_begins_its_keys_with_workspace_id_or_is_a_named_one(self):
        self.assertTrue(set(SHARED_TABLES) <= self.tables())
        having = {name for name, in self.rows(
            "select c.relname from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relkind = 'r'"
            " and c.relnamespace = 'public'::regnamespace and a.attname = 'workspace_id' and a.attnotnull"
            " and a.atttypid = 'uuid'::regtype")}
        self.assertEqual(self.tenant_tables() - having, set())
        keyed = {name for name, in self.rows(
            "select conrelid::regclass from pg_constraint where contype = 'p' and connamespace = 'public'::regnamespace")}
        self.assertEqual(self.tables() - keyed, set())

    def test_every_unique_index_and_foreign_key_of_a_tenant_begins_with_workspace_id(self):
        unique = self.rows(
            "select i.indrelid::regclass, i.indexrelid::regclass, coalesce(a.attname, 'an expression') from pg_index i"
            " join pg_class c on c.oid = i.indrelid and c.relnamespace = 'public'::regnamespace"
            " left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] where i.indisunique")
        self.assertGreater(len(unique), 10)
        for table, index, column in unique:
            if table in self.tenant_tables():
                self.assertEqual(column, "workspace_id", index)
        foreign = self.rows(
            "select k.conname, k.confrelid::regclass, a.attname, f.attname from pg_constraint k"
            " join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]"
            " join pg_attribute f on f.attrelid = k.confrelid and f.attnum = k.confkey[1] where k.contype = 'f'")
        self.assertGreater(len(foreign), 0)
        for name, target, column, other in foreign:
            self.assertEqual((column, other, target in self.tenant_tables()), ("workspace_id", "workspace_id", True), name)

    def test_nothing_in_the_schema_runs_by_itself(self):
        queries = {
            "triggers": "select tgname from pg_trigger where not tgisinternal",
            "rules and views": "select rulename from pg_rewrite r join pg_class c on c.oid = r.ev_class"
                               " where c.relnamespace = 'public'::regnamespace",
            "functions": "select proname from pg_proc where pronamespace = 'public'::regnamespace",
            "event triggers": "select evtname from pg_event_trigger",
            "sequences": "select relname from pg_class where relkind = 'S' and relnamespace = 'public'::regnamespace",
            "policies": "select polname from pg_policy",
            "generated columns": "select attname from pg_attribute a join pg_class c on c.oid = a.attrelid"
                                 " where c.relnamespace = 'public'::regnamespace and (attgenerated <> '' or attidentity <> '')",
        }
        for what, query in queries.items():
            self.assertEqual(self.rows(query), [], what)
        defaults = {(table, column): text for table, column, text in self.rows(
            "select d.adrelid::regclass, a.attname, pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d"
            " join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum")}
        self.assertEqual(defaults, DEFAULTS)

    def test_no_default_and_no_statement_that_writes_uses_a_volatile_function(self):
        volatile = {name for name, in self.rows("select distinct proname from pg_proc where provolatile = 'v'")}
        self.assertIn("random", volatile)
        texts = [(str(place), text) for place, text in DEFAULTS.items()]
        texts += [(s.name, s.sql) for s in self.statements if re.match("insert|update|delete|with", s.sql)]
        self.assertGreater(len(texts), 15)
        for name, text in texts:
            self.assertEqual(set(re.findall(r"(\w+) ?\(", text)) & volatile, set(), name)

    def test_statements_of_a_tenant_use_nothing_that_a_database_spread_over_nodes_refuses(self):
        """What can be seen without such a database; that it works there is shown by nothing here."""
        tenant = [s for s in self.statements if s.scope == "TENANT"]
        for statement in tenant:
            self.assertNotRegex(statement.sql, r"skip locked|nowait|lock table|create temp|declare |listen |notify|advisory",
                                statement.name)
            for target in re.findall(r"on conflict \(([^)]*)\)", statement.sql):
                self.assertEqual(target.split(",")[0].strip(), "workspace_id", statement.name)
            # Tables are joined by their workspace: each name of one stands beside the parameter.
            for alias in re.findall(r"join (?:lateral )?\w+ (\w+) on ", statement.sql):
                self.assertRegex(statement.sql, rf"\b{alias}\.workspace_id = \$1", statement.name)
        # Those that do are over all tenants, and would have to be asked node by node there.
        spread = {s.name for s in self.statements if s.scope == "ACROSS" and re.search(r"skip locked|ctid|pg_snapshot|export_snapshot", s.sql)}
        self.assertEqual(spread, NODE_BY_NODE)

    def test_tables_and_statements_are_such_as_citus_documents_it_takes(self):
        """Its conditions for tables that are distributed by workspace_id, beside those of the tests above: keys and unique
        indexes with the column, joins by it, one column of one type, no triggers, no volatile functions in writes."""
        tenant = self.tenant_tables()
        kinds = {"partitions and children": "select inhrelid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid"
                                            " where c.relkind in ('r', 'p')",
                 "exclusion constraints": "select conname from pg_constraint where contype = 'x'",
                 "tables that are not lasting": "select relname from pg_class where relkind = 'r' and relpersistence <> 'p'"
                                                " and relnamespace = 'public'::regnamespace",
                 "row security": "select relname from pg_class where relrowsecurity",
                 "keys of another kind of reference": "select conname from pg_constraint where contype = 'f' and"
                                                      " (confmatchtype <> 's' or confupdtype <> 'a')"}
        for what, query in kinds.items():
            self.assertEqual(self.rows(query), [], what)
        for statement in (s for s in self.statements if s.scope == "TENANT"):
            # A row never moves to another tenant.
            self.assertNotRegex(statement.sql, r"\bset (?:[^=]*=[^,]*, *)*workspace_id =", statement.name)
            for part in writing_parts(statement.sql):
                self.assertRegex(part, r"workspace_id = (?:\$1|\w+\.workspace_id)", statement.name)
            for table, columns in re.findall(r"insert into (\w+) \(([^)]*)\)", statement.sql):
                self.assertIn(table, tenant, statement.name)
                self.assertIn("workspace_id", columns, statement.name)
            # No table of a tenant is joined with one of those that are on every node.
            self.assertEqual(self.touched(statement) - tenant, set(), statement.name)
        for statement in (s for s in self.statements if s.scope == "ACROSS" and s.name not in NODE_BY_NODE):
            if self.touched(statement) & tenant:
                self.assertNotRegex(statement.sql, r"for update|for share|^insert|^update|^delete", statement.name)

    # --- The plans

    def plan(self, statement):
        """The generic plan, in which parameters stay parameters."""
        arguments = f"({', '.join(['null'] * statement.count)})" if statement.count else ""
        output = self.script(f"set plan_cache_mode = force_generic_plan; set enable_seqscan = off;"
                             f" prepare s as {statement.sql};"
                             f" explain (verbose, format json) execute s{arguments};").stdout
        return json.loads(output)[0]["Plan"]

    def touched(self, statement):
        if statement.sql.startswith("listen "):
            return set()  # there is no plan of it
        return {node["Relation Name"] for node in nodes(self.plan(statement)) if "Relation Name" in node}

    def check_node(self, statement, node):
        table = node["Relation Name"]
        self.assertIn(table, self.tenant_tables(), f"{statement.name} touches a table of no tenant")
        if node["Node Type"] == "ModifyTable":
            if node["Operation"] == "Insert":
                # The values stand in the order of the table's columns.
                names = [name for name, in self.rows(
                    f"select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 order by attnum")]
                source = next(child for child in node["Plans"] if child["Parent Relationship"] == "Outer")
                self.assertEqual(source["Output"][names.index("workspace_id")], "$1", statement.name)
            return
        conditions = " ".join(str(text) for key, text in node.items() if key.endswith(("Cond", "Filter")))
        self.assertRegex(conditions, r"workspace_id = \$1\b", f"{statement.name} reads {table} without a workspace")

    def test_plan_of_every_tenant_statement_limits_every_scan_to_its_workspace(self):
        tenant = [s for s in self.statements if s.scope == "TENANT"]
        self.assertGreater(len(tenant), 30)
        for statement in tenant:
            seen = [node for node in nodes(self.plan(statement)) if "Relation Name" in node]
            self.assertGreater(len(seen), 0, statement.name)
            for node in seen:
                self.check_node(statement, node)
            self.assertIn("$1", statement.sql)
            self.assertNotRegex(statement.sql, r"\bset (?:[^']*, )?workspace_id =", statement.name)

    def test_statements_without_a_workspace_are_the_named_few(self):
        across = {s.name: self.touched(s) for s in self.statements if s.scope == "ACROSS"}
        self.assertEqual(across, {name: tables for name, (tables, _) in ACROSS.items()})
        self.assertEqual(EVERY_TENANT_TABLE, self.tenant_tables(), "cofferd verify has to ask the new table, too")

    # --- What they do

    def dump_sql(self, workspace):
        """A row's place (ctid) changes with every update, also with one that writes what was there."""
        return " union all ".join(
            f"select '{table}', coalesce(md5(string_agg(ctid::text || t::text, '|' order by ctid)), '') from {table} t"
            f" where workspace_id = '{workspace}'" for table in sorted(self.tenant_tables()))

    def cells(self, workspace):
        """The texts of all cells of a workspace's rows that are long enough to be known again."""
        found = set()
        for table in self.tenant_tables():
            for line in self.rows(f"select * from {table} where workspace_id = '{workspace}'"):
                found |= {cell for cell in line if len(cell) > 5}
        return found

    def sample(self):
        """{table: {column: literal}}: one row of A of every table, all about the same secret, account and token."""
        chosen = {
            "secret": "name = 'shared'", "secret_version": "version = 1",
            "environment": "name = 'empty'", "principal": "name = 'account'",
            "token": "description = 'of a'", "workspace_key": "state = 3", "request": "answer is not null", "change": "revision > 2",
        }
        rows = {}
        for table in self.tenant_tables():
            where = f"workspace_id = '{self.a}' and {chosen.get(table, 'true')}"
            line = self.rows(f"select key || '=' || quote_nullable(value) from (select (jsonb_each_text(to_jsonb(t))).*"
                             f" from (select * from {table} where {where} limit 1) t) x")
            self.assertNotEqual(line, [], f"A has no row in {table}: fill() has to make one")
            rows[table] = dict(SEPARATOR.join(cells).split("=", 1) for cells in line)
        return rows

    def literals(self, statement, sample, workspace):
        types = dict(self.rows(f"prepare s as {statement.sql}; select ordinality, t from pg_prepared_statements,"
                               " unnest(parameter_types) with ordinality x(t, ordinality)"))
        columns = statement.columns()
        out = [f"'{workspace}'"]
        for number in range(2, statement.count + 1):
            kind = types[str(number)]
            if (statement.name, number) in PARAMETERS:
                text = PARAMETERS[statement.name, number]
            elif number in columns:
                table, column = columns[number]
                text = self.array(sample[table][column], kind)
                text = f"substring({text}::bytea from 1 for 29)" if number in statement.heads else text
            elif re.search(rf"limit \${number}\b", statement.sql):
                text = LIMIT
            else:
                self.assertIn(kind, ANYTHING, f"{statement.name}: PARAMETERS has to say what ${number} is")
                text = ANYTHING[kind]
            out.append(f"{text}::{kind}")
        return ", ".join(out)

    @staticmethod
    def array(text, kind):
        """A literal of jsonb as one of the parameter's type: a list of one where it is an array."""
        if not kind.endswith("[]") or text == "NULL":
            return text
        inner = text.strip("'").strip("[]").replace('"', "")
        return f"'{{{inner}}}'"

    def run_in(self, statement, literals):
        """(rows that came back, number of rows that were found or written, A's rows before and after, what went wrong);
        in a transaction that is rolled back."""
        mark = "----"
        dump = f"{self.dump_sql(self.a)};"
        run = self.script(f"\\set ON_ERROR_ROLLBACK on\nbegin isolation level repeatable read;\n{dump}\n\\echo {mark}\n"
                          f"prepare s as {statement.sql};\nexecute s({literals});\n"
                          f"\\echo {mark}\n{dump}\n\\echo {mark}\nrollback;\n", check=False)
        parts = run.stdout.split(mark + "\n")
        self.assertEqual(len(parts), 4, run.stderr)
        lines = parts[1].splitlines()
        tags = [line for line in lines if re.fullmatch(r"PREPARE|UPDATE \d+|DELETE \d+|INSERT 0 \d+", line)]
        rows = [line for line in lines if line not in tags]
        hits = len(rows) + sum(int(tag.split()[-1]) for tag in tags if tag != "PREPARE")
        return rows, hits, (parts[0].split("\n", 1)[1], parts[2]), run.stderr

    def test_no_statement_run_as_one_workspace_reads_or_changes_a_row_of_another(self):
        sample = self.sample()
        foreign = self.cells(self.a) - self.cells(self.b)
        self.assertGreater(len(foreign), 50)
        tenant = [s for s in self.statements if s.scope == "TENANT"]
        worked = 0
        for statement in tenant:
            rows, _, (before, after), error = self.run_in(statement, self.literals(statement, sample, self.b))
            self.assertEqual(before, after, f"{statement.name} changes rows of another workspace")
            seen = {cell for row in rows for cell in row.split(SEPARATOR)}
            self.assertEqual(seen & foreign, set(), f"{statement.name} reads rows of another workspace")
            self.assertNotIn("syntax error", error, statement.name)
            # The parameters do mean rows of A: with A's workspace the statement finds or hits them.
            _, hits, _, error = self.run_in(statement, self.literals(statement, sample, self.a))
            meant = hits > 0 or "duplicate key" in error or "violates foreign key" in error or "on conflict" in statement.sql
            self.assertTrue(meant, f"{statement.name} with {self.literals(statement, sample, self.a)}: {error}")
            worked += 1
        print(f"{worked} statements, {len(foreign)} cells of A that would be known again", flush=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
