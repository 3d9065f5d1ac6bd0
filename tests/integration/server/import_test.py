#!/usr/bin/env python3
"""Many secrets at once: an import writes all of them or none and names every fault; an export shows what the caller may
see, page by page, and what it shows makes the same secrets elsewhere."""

import json
import os
import pathlib
import random
import subprocess
import tempfile
import threading
import unittest
import uuid

import context
import cofferd
from cofferd import values
from context import SECRET
from sp_client import uuid7

IMPORT = SECRET + "ImportSecrets"
EXPORT = SECRET + "ExportSecrets"
PLANTED = b"planted-4c1f-value"
LONG = 60000
TABLES = "secret secret_version environment request change workspace_revision".split()


def secret(name, environment="prod", metadata=None, kind=None, **pairs):
    message = {"environment": environment, "name": name, "values": values(**(pairs or {"KEY": b"v1"}))}
    if metadata is not None:
        message["metadata"] = metadata
    if kind:
        message["type"] = "SECRET_TYPE_" + kind
    return message


class ImportTest(context.AccessTest):
    def send(self, *secrets, mode="FAIL", token=None, workspace="", connection=None, **options):
        request = {"workspace": workspace, "secrets": list(secrets), "mode": "IMPORT_MODE_" + mode}
        if options.pop("dry", False):
            request["validate_only"] = True
        return (connection or self.connection).call(IMPORT, request, token=token or self.dev.admin, timeout_ms=LONG,
                                                    **options)

    def done(self, *secrets, **options):
        answer = self.send(*secrets, **options)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def actions(self, message):
        return [entry["action"].removeprefix("IMPORT_ACTION_") for entry in message["secrets"]]

    def reasons(self, message):
        return [entry["reason"] for entry in message["secrets"]]

    def keys(self, entry):
        return {key["key"]: key["change"].removeprefix("KEY_CHANGE_") for key in entry["keys"]}

    def state(self, workspace=None):
        """All that is stored of a workspace, as one text that changes with every change."""
        return self.sql(" union all ".join(
            f"select '{table}', count(*), coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} t"
            f" where workspace_id = '{workspace or self.dev.workspace}'" for table in TABLES))

    def revealed(self, name, environment="prod", token=None, workspace=""):
        answer = self.call(SECRET + "RevealSecret", {"workspace": workspace, "name": name, "environment": environment},
                           token=token)
        self.assertEqual(answer.code, 0, answer)
        return {pair["key"]: pair["value"] for pair in answer.message["values"]}

    def get(self, name, environment="prod"):
        answer = self.call(SECRET + "GetSecret", {"name": name, "environment": environment})
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def missing(self, name, environment="prod"):
        return self.call(SECRET + "GetSecret", {"name": name, "environment": environment}).reason == "SECRET_NOT_FOUND"

    def pages(self, size=0, token=None, workspace="", connection=None, **filters):
        """[the secrets of each page], and the consistency tokens."""
        found, tokens, page = [], set(), ""
        while True:
            answer = (connection or self.connection).call(EXPORT, {
                "workspace": workspace, "page_size": size, "page_token": page, **filters},
                token=token or self.dev.admin, timeout_ms=LONG)
            self.assertEqual(answer.code, 0, answer)
            found.append(answer.message["secrets"])
            tokens.add(answer.message["consistency_token"])
            page = answer.message["next_page_token"]
            if not page:
                return found, tokens

    def exported(self, **options):
        return [entry for page in self.pages(**options)[0] for entry in page]

    def records_of(self, answer):
        environment = {**os.environ, "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key")}
        run = subprocess.run([cofferd.COFFERD, "audit", "export", self.dev.directory / "state"], env=environment,
                             capture_output=True, timeout=cofferd.PATIENCE)
        wanted = str(uuid.UUID(bytes=answer.request_id))
        return [r for r in map(json.loads, run.stdout.splitlines()) if r.get("request_id") == wanted]

    def last_change(self):
        stored = bytes.fromhex(self.sql(
            f"select encode(record, 'hex') from change where workspace_id = '{self.dev.workspace}'"
            " order by revision desc limit 1"))
        return cofferd.sp_client.decode("coffer.audit.v1.Record", stored)

    def revision(self):
        return int(self.sql(f"select revision from workspace_revision where workspace_id = '{self.dev.workspace}'"))


class Writing(ImportTest):
    def test_all_secrets_are_written_in_one_revision_with_one_record_that_names_all(self):
        before = self.revision()
        metadata = {"description": "told", "tags": ["a", "b"], "expire_time": {"seconds": 4000000000}, "block_when_expired": True}
        message = self.done(secret("one", "first", metadata, A=b"1", B=b""), secret("one", "second"), secret("two", ""))
        self.assertTrue(message["written"])
        self.assertTrue(message["consistency_token"])
        self.assertEqual(self.actions(message), ["CREATED"] * 3)
        self.assertEqual([(e["environment"], e["name"], e["version"]) for e in message["secrets"]],
                         [("first", "one", 1), ("second", "one", 1), ("default", "two", 1)])
        self.assertEqual(self.keys(message["secrets"][0]), {"A": "ADDED", "B": "ADDED"})
        self.assertEqual(self.revision(), before + 1)
        got = self.get("one", "first")
        self.assertEqual({field: got[field] for field in metadata if field != "expire_time"},
                         {field: metadata[field] for field in metadata if field != "expire_time"})
        self.assertEqual((got["uid"], got["expire_time"]["seconds"]), (message["secrets"][0]["uid"], 4000000000))
        self.assertEqual(self.revealed("one", "first"), {"A": b"1", "B": b""})
        record = self.last_change()
        self.assertEqual(record["method"], IMPORT)
        self.assertEqual({(o["environment"], o["name"], o["uid"], tuple(o["keys"])) for o in record["objects"]},
                         {(e["environment"], e["name"], e["uid"], tuple(self.keys(e))) for e in message["secrets"]})
        self.assertEqual([o["effect"] for o in record["objects"]], ["EFFECT_CREATED"] * 3)
        self.done(secret("one", "first", {"tags": ["c"]}, A=b"1", B=b""), secret("one", "second", A=b"2"), secret("two", ""),
                  mode="REPLACE")
        self.assertEqual([(o["effect"], o["version"], o["reason"]) for o in self.last_change()["objects"]],
                         [("EFFECT_METADATA_CHANGED", 1, ""), ("EFFECT_VALUES_CHANGED", 2, ""), (None, 1, "UNCHANGED")])

    def test_one_bad_secret_among_many_leaves_nothing_and_every_fault_is_named(self):
        self.done(secret("there"))
        before = self.state()
        bad = [
            (secret("there"), "SECRET_EXISTS", ""), (secret("github_oauth"), "NAME_RESERVED", "name"),
            (secret("no name"), "FIELD_INVALID", "name"), (secret("x", "no environment"), "FIELD_INVALID", "environment"),
            (secret("keys", **{"no key": PLANTED}), "FIELD_INVALID", "values[0].key"),
            (secret("large", K=b"x" * 65537), "LIMIT_EXCEEDED", "values[0].value"),
            ({"name": "empty", "values": []}, "FIELD_REQUIRED", "values"),
            ({"name": "twice", "values": [{"key": "K", "value": PLANTED}] * 2}, "FIELD_INVALID", "values"),
            (secret("told", metadata={"description": "x" * 1001}), "FIELD_INVALID", "description"),
            (secret("tagged", metadata={"tags": ["a", ""]}), "FIELD_INVALID", "tags[1]"),
            (secret("late", metadata={"expire_time": {"seconds": 1 << 60}}), "FIELD_INVALID", "expire_time"),
            (secret("pem", kind="SSH_KEY", PRIVATE_KEY=PLANTED), "FIELD_INVALID", "values.PRIVATE_KEY"),
            ({**secret("kind"), "type": 77}, "NOT_AVAILABLE", "type"),
            (secret("same"), "FIELD_INVALID", "name"), (secret("same"), "FIELD_INVALID", "name"),
        ]
        good = [secret(f"good{i}", f"new{i % 3}") for i in range(20)]
        message = self.done(*good[:10], *(entry for entry, _, _ in bad), *good[10:])
        self.assertFalse(message["written"])
        self.assertEqual(message["consistency_token"], "")
        self.assertEqual(self.reasons(message), [""] * 10 + [reason for _, reason, _ in bad] + [""] * 10)
        self.assertEqual([e["field"] for e in message["secrets"][10:-10]], [field for _, _, field in bad])
        for entry in message["secrets"][10:-10]:
            self.assertEqual((entry["action"], entry["uid"], entry["version"]), ("IMPORT_ACTION_REFUSED", "", 0))
            self.assertTrue(entry["message"])
        self.assertNotIn(PLANTED.decode(), repr(message))
        self.assertEqual(self.actions(message)[:10], ["CREATED"] * 10)
        self.assertEqual({e["uid"] for e in message["secrets"][:10]}, {""}, "nothing that was not written has a UUID")
        self.assertEqual(self.state(), before)

    def test_dry_run_tells_what_the_import_would_do_and_writes_nothing(self):
        self.done(secret("dry1", A=b"1", B=b"2"), secret("dry2"))
        before = self.state()
        batch = [secret("dry1", A=b"1", B=b"3", C=b"4"), secret("dry2"), secret("dry3", "elsewhere")]
        answer = self.send(*batch, mode="REPLACE", dry=True)
        dry = answer.message
        self.assertEqual((dry["written"], dry["consistency_token"]), (False, ""))
        self.assertEqual(self.actions(dry), ["CHANGED", "UNCHANGED", "CREATED"])
        self.assertEqual(self.keys(dry["secrets"][0]), {"B": "CHANGED", "C": "ADDED"})
        self.assertEqual(self.state(), before)
        done = self.done(*batch, mode="REPLACE")
        self.assertEqual(self.actions(done), self.actions(dry))
        self.assertEqual([(e["keys"], e["version"]) for e in done["secrets"]], [(e["keys"], e["version"]) for e in dry["secrets"]])

    def test_what_a_dry_run_told_is_in_the_audit_stream_and_what_was_written_only_in_its_transaction(self):
        self.done(secret("recorded", A=b"1"))
        answer = self.send(secret("recorded", A=b"2"), secret("unrecorded"), secret("x_oauth"), mode="PATCH", dry=True)
        record, = self.records_of(answer)
        self.assertTrue(record["validate_only"])
        self.assertEqual([(o["name"], o.get("reason", ""), o.get("keys", [])) for o in record["objects"]],
                         [("recorded", "", ["A"]), ("unrecorded", "", ["KEY"]), ("x_oauth", "NAME_RESERVED", [])])
        answer = self.send(secret("recorded", A=b"2"), mode="PATCH")
        self.assertTrue(answer.message["written"])
        self.assertEqual(self.records_of(answer), [])
        answer = self.send(*(secret(f"many{i}") for i in range(100)), dry=True)
        self.assertEqual({o["name"] for record in self.records_of(answer) for o in record["objects"]},
                         {f"many{i}" for i in range(100)})

    def test_secrets_that_exist_are_met_as_the_mode_says(self):
        def prepare(name):
            self.done(secret(name, metadata={"description": "kept", "tags": ["t"]}, A=b"1", B=b"2"))
            return secret(name, A=b"9", C=b"3")
        for mode, action, after, keys in (
                ("UNSPECIFIED", "REFUSED", {"A": b"1", "B": b"2"}, {}), ("FAIL", "REFUSED", {"A": b"1", "B": b"2"}, {}),
                ("SKIP", "SKIPPED", {"A": b"1", "B": b"2"}, {}),
                ("REPLACE", "CHANGED", {"A": b"9", "C": b"3"}, {"A": "CHANGED", "B": "REMOVED", "C": "ADDED"}),
                ("PATCH", "CHANGED", {"A": b"9", "B": b"2", "C": b"3"}, {"A": "CHANGED", "C": "ADDED"})):
            name = f"met-{mode}"
            batch = prepare(name), secret(f"new-{mode}")
            message = self.done(*batch, mode=mode)
            self.assertEqual(self.actions(message), [action, "CREATED"], mode)
            self.assertEqual(self.keys(message["secrets"][0]), keys)
            self.assertEqual(self.revealed(name), after)
            self.assertEqual(self.missing(f"new-{mode}"), action == "REFUSED")
            self.assertEqual((self.get(name)["description"], self.get(name)["tags"]), ("kept", ["t"]))
            self.assertEqual(self.get(name)["version"], 2 if action == "CHANGED" else 1)
        skipped = self.done(secret("met-SKIP"), mode="SKIP")
        self.assertTrue(skipped["written"])
        self.assertEqual([(o["name"], o["reason"]) for o in self.last_change()["objects"]], [("met-SKIP", "SKIPPED")])

    def test_metadata_is_written_where_it_is_given_and_a_secret_that_is_the_same_gets_no_version(self):
        told = {"description": "d", "tags": ["x"], "expire_time": {"seconds": 4000000000}}
        self.done(secret("meta", metadata=told))
        first = self.get("meta")
        message = self.done(secret("meta", metadata=told), mode="REPLACE")
        self.assertEqual((self.actions(message), self.get("meta")), (["UNCHANGED"], first))
        message = self.done(secret("meta", metadata={"description": "other"}), mode="PATCH")
        entry, = message["secrets"]
        self.assertEqual((entry["action"], entry["metadata_changed"], entry["keys"]), ("IMPORT_ACTION_CHANGED", True, []))
        after = self.get("meta")
        self.assertEqual((after["version"], after["description"], after["tags"], after["expire_time"]), (1, "other", [], None))
        self.assertNotEqual(after["etag"], first["etag"])
        message = self.done(secret("meta", metadata=told, KEY=b"v2"), mode="REPLACE")
        self.assertEqual((message["secrets"][0]["metadata_changed"], self.get("meta")["version"]), (True, 2))
        self.assertEqual(self.get("meta")["description"], "d")

    def test_versions_before_an_import_can_be_rolled_back_to(self):
        self.done(secret("history", KEY=b"old"))
        self.done(secret("history", KEY=b"new"), mode="REPLACE")
        answer = self.call(SECRET + "RollBackSecret", {"name": "history", "environment": "prod", "version": 1})
        self.assertEqual((answer.code, self.revealed("history")), (0, {"KEY": b"old"}))

    def test_repeat_of_an_import_is_answered_with_the_first_answer(self):
        one = uuid7()
        batch = [secret("once1"), secret("once2", A=b"a")]
        first = self.send(*batch, request_id=one)
        before = self.state()
        again = self.send(*batch, request_id=one)
        self.assertEqual((first.payload, first.code), (again.payload, 0))
        self.assertEqual(self.state(), before)
        self.assertEqual(self.send(secret("once3"), request_id=one).reason, "REQUEST_ID_REUSED")
        refused = uuid7()
        self.assertFalse(self.send(*batch, request_id=refused).message["written"])
        for name in ("once1", "once2"):
            self.call(SECRET + "DeleteSecret", {"name": name, "environment": "prod"})
        self.assertTrue(self.send(*batch, request_id=refused).message["written"], "what was refused left nothing and runs again")

    def test_repeat_is_not_answered_to_who_has_lost_the_right(self):
        rules = [{"permissions": ["secret:write"], "environments": ["prod"], "names": ["mine*"]},
                 {"permissions": ["secret:write"], "environments": ["prod"], "names": ["other"]}]
        name, answer = self.account(rules)
        token = self.issue(name).message["secret_text"]
        one = uuid7()
        batch = [secret("mine1"), secret("mine2"), secret("other")]
        self.assertTrue(self.send(*batch, token=token, request_id=one).message["written"])
        self.assertTrue(self.send(*batch, token=token, request_id=one).message["written"])
        self.assertEqual(self.update_account(name, grants=rules[1:]).code, 0)
        self.assertEqual(self.send(*batch, token=token, request_id=one).reason, "PERMISSION_DENIED")
        self.assertEqual(self.update_account(name, grants=rules).code, 0)
        self.assertTrue(self.send(*batch, token=token, request_id=one).message["written"])

    def test_structured_secrets_are_checked_and_their_type_never_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/key"], check=True)
            key = pathlib.Path(folder, "key").read_bytes()
        self.done(secret("ssh", kind="SSH_KEY", PRIVATE_KEY=key), secret("plain"))
        self.assertEqual((self.get("ssh")["type"], self.get("ssh")["facts"]["key_type"]), ("SECRET_TYPE_SSH_KEY", "ed25519"))
        crlf = key.replace(b"\n", b"\r\n")
        message = self.done(secret("ssh", PRIVATE_KEY=crlf), mode="REPLACE")
        self.assertEqual(self.actions(message), ["UNCHANGED"], "it is compared as it would be stored")
        message = self.done(secret("ssh", kind="CUSTOM", K=b"v"), secret("plain", kind="SSH_KEY", PRIVATE_KEY=key),
                            secret("ssh2", PRIVATE_KEY=key), mode="REPLACE")
        self.assertEqual(self.reasons(message), ["SECRET_EXISTS", "SECRET_EXISTS", ""])
        message = self.done(secret("ssh", PRIVATE_KEY=b"no key"), mode="PATCH")
        self.assertEqual(message["secrets"][0]["field"], "values.PRIVATE_KEY")

    def test_values_of_any_bytes_come_through(self):
        everything = bytes(range(256)) * 16
        self.done(secret("bytes", A=everything, B=b"\0", C=b"", D=b"x" * 65536))
        self.assertEqual(self.revealed("bytes"), {"A": everything, "B": b"\0", "C": b"", "D": b"x" * 65536})

    def test_strict_workspace_gets_no_environment_by_an_import(self):
        answer = self.call(context.WORKSPACE + "CreateWorkspace", {"name": "strict-import", "strict_environments": True},
                           token=self.dev.system)
        workspace = answer.message["workspace"]["uid"]
        token = self.token_for([{"permissions": ["secret:write", "secret:read", "environment:write"]}], token=self.dev.system,
                               workspace=workspace)
        self.assertEqual(self.call(context.ENVIRONMENT + "CreateEnvironment", {"name": "known"}, token=token).code, 0)
        before = self.state(workspace)
        message = self.done(secret("a", "known"), secret("b", "unknown1"), secret("c", "unknown2"), secret("d", "unknown1"),
                            token=token)
        self.assertEqual(self.reasons(message), [""] + ["ENVIRONMENT_NOT_FOUND"] * 3)
        self.assertEqual(self.state(workspace), before)
        self.assertTrue(self.done(secret("a", "known"), token=token)["written"])

    def test_damaged_secret_can_be_replaced_and_neither_patched_nor_compared(self):
        for name, damage in (("row", "tags = array['x']"), ("blob", "blob = set_byte(blob, 40, get_byte(blob, 40) # 1)")):
            self.done(secret("harmed-" + name, A=b"1"), secret("whole-" + name))
            self.sql(f"update secret set {damage} where name = 'harmed-{name}' and workspace_id = '{self.dev.workspace}'")
            batch = secret("harmed-" + name, A=b"1"), secret("whole-" + name, KEY=b"v2")
            before = self.state()
            message = self.done(*batch, mode="PATCH")
            self.assertEqual(self.reasons(message), ["CORRUPTED", ""])
            self.assertEqual(self.state(), before)
            message = self.done(*batch, mode="REPLACE")
            self.assertEqual(self.actions(message), ["CHANGED", "CHANGED"])
            self.assertEqual(message["secrets"][0]["keys"], [])
            self.assertEqual(self.revealed("harmed-" + name), {"A": b"1"})

    def test_secret_that_appears_meanwhile_is_never_overwritten_unasked(self):
        batch = [secret(f"race{i}") for i in range(5)]
        answers = self.together(6, IMPORT, {"secrets": batch})
        winners = [a for a in answers if a.code == 0 and a.message["written"]]
        self.assertEqual(len(winners), 1)
        for answer in answers:
            if answer not in winners:
                self.assertTrue(answer.reason == "CONFLICT" or set(self.reasons(answer.message)) == {"SECRET_EXISTS"}, answer)
        self.assertEqual([self.get(f"race{i}")["version"] for i in range(5)], [1] * 5)

    def test_imports_of_the_same_secrets_in_other_orders_do_not_lock_each_other_out(self):
        generator = random.Random(cofferd.seed())
        names = [f"order{i:02}" for i in range(30)]
        self.done(*(secret(name, f"e{i % 3}") for i, name in enumerate(names)))
        failures, start = [], threading.Barrier(4)

        def writer(index):
            with self.dev.connect() as connection:
                start.wait()
                for turn in range(5):
                    batch = [secret(name, f"e{i % 3}", KEY=b"%d.%d" % (index, turn)) for i, name in enumerate(names)]
                    generator.shuffle(batch)
                    answer = self.send(*batch, mode="REPLACE", connection=connection)
                    if answer.code != 0 or not answer.message["written"]:
                        failures.append(answer)
        threads = [threading.Thread(target=writer, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual({self.get(name, f"e{i % 3}")["version"] for i, name in enumerate(names)}, {21})
        self.assertEqual(len({self.revealed(name, f"e{i % 3}")["KEY"] for i, name in enumerate(names)}), 1,
                         "an import is whole: all secrets are of the last one")


class Rights(ImportTest):
    def test_every_secret_is_authorised_and_one_that_is_not_stops_all(self):
        token = self.token_for([{"permissions": ["secret:write"], "environments": ["prod"], "names": ["mine*"]}])
        self.done(secret("theirs"))
        before = self.state()
        message = self.done(secret("mine1"), secret("theirs"), secret("absent"), secret("mine2", "stage"), token=token,
                            mode="REPLACE")
        self.assertEqual(self.reasons(message), ["", "PERMISSION_DENIED", "PERMISSION_DENIED", "PERMISSION_DENIED"])
        self.assertEqual(message["secrets"][1]["message"].replace("theirs", "absent"), message["secrets"][2]["message"],
                         "it is not told whether one exists")
        self.assertEqual(self.state(), before)
        self.assertTrue(self.done(secret("mine1"), token=token)["written"])
        answer = self.send(secret("mine3"), token=self.dev.executor)
        self.assertEqual(answer.reason, "PERMISSION_DENIED")

    def test_values_are_compared_only_for_who_may_see_them(self):
        write = {"permissions": ["secret:write"]}
        self.done(secret("seen", A=b"1", B=b"2", C=b"3"))
        batch = secret("seen", A=b"1", B=b"9", D=b"4")
        replaced = {"A": "WRITTEN", "B": "WRITTEN", "C": "REMOVED", "D": "ADDED"}
        compared = {"B": "CHANGED", "C": "REMOVED", "D": "ADDED"}
        for more, keys in (([], {}), (["secret:read"], replaced), (["resolve"], compared), (["secret:reveal"], compared)):
            token = self.token_for([write, {"permissions": more or ["environment:read"]}])
            entry, = self.done(batch, mode="REPLACE", token=token, dry=True)["secrets"]
            self.assertEqual((entry["action"], self.keys(entry)), ("IMPORT_ACTION_CHANGED", keys), more)
            entry, = self.done(batch, mode="PATCH", token=token, dry=True)["secrets"]
            self.assertEqual(self.keys(entry), {k: c for k, c in keys.items() if c != "REMOVED"}, more)
        same = secret("seen", A=b"1", B=b"2", C=b"3")
        blind = self.token_for([write, {"permissions": ["secret:read"]}])
        entry, = self.done(same, mode="REPLACE", token=blind)["secrets"]
        self.assertEqual((entry["action"], entry["version"]), ("IMPORT_ACTION_CHANGED", 2),
                         "the version would tell that the values are the same")
        entry, = self.done(same, mode="REPLACE")["secrets"]
        self.assertEqual((entry["action"], entry["version"]), ("IMPORT_ACTION_UNCHANGED", 2))

    def test_right_to_see_one_secret_compares_no_other(self):
        token = self.token_for([{"permissions": ["secret:write"]}, {"permissions": ["resolve"], "names": ["open"]}])
        self.done(secret("open"), secret("shut"))
        message = self.done(secret("open"), secret("shut"), mode="REPLACE", token=token, dry=True)
        self.assertEqual(self.actions(message), ["UNCHANGED", "CHANGED"])

    def test_tenant_imports_and_exports_nothing_of_another(self):
        workspace, token = self.new_workspace("import-tenant")
        self.done(secret("tenant"))
        self.assertEqual(self.send(secret("tenant"), token=token, workspace=self.dev.workspace).reason, "PERMISSION_DENIED")
        message = self.done(secret("tenant", KEY=b"theirs"), token=token, workspace=workspace)
        self.assertTrue(message["written"])
        self.assertEqual(self.revealed("tenant"), {"KEY": b"v1"})
        self.assertEqual(self.call(EXPORT, {"workspace": workspace}).reason, "PERMISSION_DENIED")
        self.assertEqual(self.call(EXPORT, {}, token=token).reason, "PERMISSION_DENIED", "the account has no secret:reveal")

    def test_export_shows_only_what_may_be_revealed(self):
        self.done(secret("shown1", "out"), secret("shown2", "out"), secret("hidden", "out"))
        token = self.token_for([{"permissions": ["secret:reveal"], "environments": ["out"], "names": ["shown*"]},
                                {"permissions": ["secret:read"]}])
        self.assertEqual([e["secret"]["name"] for e in self.exported(token=token)], ["shown1", "shown2"])
        pages, _ = self.pages(token=token, size=1)
        self.assertEqual([e["secret"]["name"] for page in pages for e in page], ["shown1", "shown2"])
        self.assertEqual(self.call(EXPORT, {}, token=self.dev.executor).reason, "PERMISSION_DENIED")


class Sizes(ImportTest):
    def test_thousand_secrets_are_imported_at_once_and_one_more_is_refused(self):
        batch = [secret(f"k{i:04}", f"thousand{i % 4}", A=b"%d" % i, B=b"x" * 300) for i in range(1000)]
        before = self.state()
        answer = self.send(*batch, secret("one-more"))
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["secrets"]))
        self.assertEqual(self.state(), before)
        message = self.done(*batch)
        self.assertTrue(message["written"])
        self.assertEqual(self.actions(message), ["CREATED"] * 1000)
        shown = self.exported(environments=[f"thousand{i}" for i in range(4)], size=1000)
        self.assertEqual([e["secret"]["name"] for e in shown], [f"k{i:04}" for i in range(1000)])
        self.assertEqual(shown[77]["values"], values(A=b"77", B=b"x" * 300))
        batch = [secret(f"k{i:04}", f"thousand{i % 4}", A=b"%d" % i, B=b"y" * 300) for i in range(1000)]
        self.assertEqual(self.actions(self.done(*batch, mode="REPLACE", dry=True)), ["CHANGED"] * 1000)
        message = self.done(*batch, mode="PATCH")
        self.assertEqual(({e["version"] for e in message["secrets"]}, message["written"]), ({2}, True))
        self.assertEqual(self.actions(self.done(*batch, mode="REPLACE")), ["UNCHANGED"] * 1000)

    def test_limit_of_secrets_is_a_setting(self):
        server = self.dev.more("few", COFFERD_LIMITS__IMPORT_SECRETS="3")
        with self.dev.connect(server.address) as connection:
            batch = [secret(f"few{i}") for i in range(4)]
            answer = self.send(*batch, connection=connection)
            self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["secrets"]))
            self.assertTrue(self.send(*batch[:3], connection=connection).message["written"])

    def test_import_of_nothing_or_with_an_unknown_mode_is_refused(self):
        answer = self.send()
        self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["secrets"]))
        answer = self.call(IMPORT, {"secrets": [secret("mode")], "mode": 9})
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["mode"]))

    def test_secret_of_all_that_it_may_hold_is_imported_and_no_more(self):
        full = secret("full", **{f"K{i}": b"x" * 65536 for i in range(4)})
        over = secret("over", **{f"K{i}": b"x" * 65536 for i in range(4)}, K=b"x")
        keys = {f"K{i}": b"" for i in range(100)}
        message = self.done(full, over, secret("keys", **keys), secret("more-keys", **keys, L=b""))
        self.assertEqual(self.reasons(message), ["", "LIMIT_EXCEEDED", "", "LIMIT_EXCEEDED"])
        self.assertTrue(self.done(full, secret("keys", **keys))["written"])
        message = self.done(secret("keys", L=b""), secret("full", K=b"x"), mode="PATCH")
        self.assertEqual(self.reasons(message), ["LIMIT_EXCEEDED", "LIMIT_EXCEEDED"])

    def test_answer_that_would_be_too_large_is_found_out_before_anything_is_written(self):
        server = self.dev.more("narrow", COFFERD_LIMITS__RESPONSE="64KiB")
        batch = [secret(f"wide{i}", **{f"K{k}".ljust(128, "x"): b"" for k in range(100)}) for i in range(8)]
        before = self.state()
        with self.dev.connect(server.address) as connection:
            self.assertEqual(self.send(*batch, connection=connection).reason, "MESSAGE_TOO_LARGE")
            self.assertEqual(self.state(), before)
            self.assertTrue(self.send(*batch[:3], connection=connection).message["written"])


class Exporting(ImportTest):
    def test_export_into_another_workspace_makes_the_same_secrets(self):
        generator = random.Random(cofferd.seed())
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/key"], check=True)
            key = pathlib.Path(folder, "key").read_bytes()
        batch = [secret(f"s{i}", f"moved{i % 3}", {"description": f"d{i}", "tags": [f"t{i}"], "block_when_expired": i % 2 == 0,
                                                   "expire_time": {"seconds": 4000000000 + i, "nanos": 5000}},
                        **{f"K{k}": generator.randbytes(generator.randrange(2000)) for k in range(1 + i % 5)})
                 for i in range(40)]
        batch += [secret("bare", "moved0"), secret("typed", "moved1", kind="SSH_KEY", PRIVATE_KEY=key)]
        self.assertTrue(self.done(*batch)["written"])
        here = self.exported(size=7, environments=["moved0", "moved1", "moved2"])
        self.assertEqual(len(here), 42)
        workspace = self.call(context.WORKSPACE + "CreateWorkspace", {"name": "moved-to"},
                              token=self.dev.system).message["workspace"]["uid"]
        token = self.token_for([{"permissions": ["secret:write", "secret:reveal"]}], token=self.dev.system, workspace=workspace)
        message = self.done(*({
            "environment": e["secret"]["environment"], "name": e["secret"]["name"], "type": e["secret"]["type"],
            "values": e["values"], "metadata": {field: e["secret"][field] for field in (
                "description", "tags", "expire_time", "block_when_expired") if e["secret"][field] is not None}}
            for e in here), token=token)
        self.assertTrue(message["written"], message)
        there = self.exported(token=token, workspace=workspace)
        same = ("environment", "name", "type", "state", "keys", "description", "tags", "expire_time", "block_when_expired",
                "facts")
        self.assertEqual([[e["secret"][field] for field in same] for e in there],
                         [[e["secret"][field] for field in same] for e in here])
        self.assertEqual([e["values"] for e in there], [e["values"] for e in here])

    def test_filters_of_environments_and_names_choose_what_is_exported(self):
        self.done(*(secret(name, environment) for environment in ("f1", "f2") for name in ("aws", "aws.b", "aws_c", "slack")))

        def names(**filters):
            return [(e["secret"]["name"], e["secret"]["environment"]) for e in self.exported(**filters)]
        self.assertEqual(names(environments=["f1"]), [(n, "f1") for n in ("aws", "aws.b", "aws_c", "slack")])
        both = ["f1", "f2"]
        self.assertEqual(names(environments=both, name_patterns=["aws"]), [("aws", "f1"), ("aws", "f2")])
        self.assertEqual(names(environments=both, name_patterns=["aws_*"]), [("aws_c", "f1"), ("aws_c", "f2")])
        self.assertEqual(names(environments=["f2"], name_patterns=["slack", "aws.*"]), [("aws.b", "f2"), ("slack", "f2")])
        self.assertEqual(len(names(environments=both, name_patterns=["*"])), 8)
        self.assertEqual(names(environments=["f3"]), [])
        for filters, field in (({"name_patterns": ["a*b"]}, "name_patterns[0]"), ({"name_patterns": ["a", ""]}, "name_patterns[1]"),
                               ({"environments": ["f1", "no environment"]}, "environments[1]")):
            answer = self.call(EXPORT, filters)
            self.assertEqual(answer.fields, [field], answer)
        answer = self.call(EXPORT, {"name_patterns": ["x"] * 1001})
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["name_patterns"]))

    def test_pages_end_by_number_and_by_size_and_miss_nothing(self):
        large = [secret(f"large{i:02}", "paged", **{f"K{k}": b"x" * 60000 for k in range(4)}) for i in range(12)]
        for secret_message in large:
            self.done(secret_message)
        self.done(*(secret(f"small{i:02}", "paged") for i in range(12)))
        names = [f"large{i:02}" for i in range(12)] + [f"small{i:02}" for i in range(12)]
        for size in (1, 5, 24, 25, 1000):
            pages, tokens = self.pages(size=size, environments=["paged"])
            self.assertEqual([e["secret"]["name"] for page in pages for e in page], names)
            self.assertEqual(len(tokens), 1, "nothing was written in between")
            self.assertLessEqual(max(map(len, pages)), size)
        self.assertGreater(len(pages), 1, "values of 2.9 MB are more than one page")
        server = self.dev.more("slim", COFFERD_LIMITS__RESPONSE="300KiB")
        with self.dev.connect(server.address) as connection:
            pages, _ = self.pages(size=1000, environments=["paged"], connection=connection)
        self.assertEqual([e["secret"]["name"] for page in pages for e in page], names)
        answer = self.call(EXPORT, {"page_token": "AQFub25zZW5zZQ"})
        self.assertEqual(answer.reason, "PAGE_TOKEN_INVALID")
        listing = self.call(SECRET + "ListSecrets", {"page_size": 1}).message["next_page_token"]
        self.assertEqual(self.call(EXPORT, {"page_token": listing}).reason, "PAGE_TOKEN_INVALID")

    def test_damaged_secrets_are_shown_as_such_and_hide_no_other(self):
        self.done(*(secret(f"whole{i}", "harmed", K=b"%d" % i) for i in range(4)),
                  *(secret(f"bad-{what}", "harmed", K=PLANTED) for what in ("blob", "row", "keys", "gone", "short")))
        for what, damage in (("blob", "blob = set_byte(blob, 50, get_byte(blob, 50) # 4)"),
                             ("row", "block_when_expired = not block_when_expired"),
                             ("keys", "keys = set_byte(keys, 2, 76)"), ("gone", "blob = null"),
                             ("short", "blob = substr(blob, 1, 20)")):
            self.sql(f"update secret set {damage} where name = 'bad-{what}' and workspace_id = '{self.dev.workspace}'")
        shown = {e["secret"]["name"]: e for e in self.exported(environments=["harmed"])}
        self.assertEqual(len(shown), 9)
        for name, entry in shown.items():
            damaged = name.startswith("bad-")
            self.assertEqual(entry["secret"]["state"], "SECRET_STATE_CORRUPTED" if damaged else "SECRET_STATE_ACTIVE", name)
            self.assertEqual(entry["values"], [] if damaged else values(K=name[-1].encode()))
        answer = self.call(EXPORT, {"environments": ["harmed"]})
        record, = self.records_of(answer)
        self.assertEqual({o["name"] for o in record["objects"] if o.get("reason") == "CORRUPTED"},
                         {name for name in shown if name.startswith("bad-")})

    def test_export_leaves_what_it_showed_in_the_audit_stream_and_no_value(self):
        self.done(secret("audited1", "trail", A=PLANTED, B=b""), secret("audited2", "trail"))
        answer = self.call(EXPORT, {"environments": ["trail"]})
        record, = self.records_of(answer)
        self.assertEqual([(o["name"], o["environment"], o["version"], o["keys"]) for o in record["objects"]],
                         [("audited1", "trail", 1, ["A", "B"]), ("audited2", "trail", 1, ["KEY"])])
        self.assertNotIn(PLANTED.decode(), json.dumps(record))

    def test_deleted_secrets_and_older_versions_are_not_exported(self):
        self.done(secret("kept", "life", K=b"old"), secret("lost", "life"))
        self.done(secret("kept", "life", K=b"new"), mode="REPLACE")
        self.call(SECRET + "DeleteSecret", {"name": "lost", "environment": "life"})
        entry, = self.exported(environments=["life"])
        self.assertEqual((entry["secret"]["version"], entry["values"]), (2, values(K=b"new")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
