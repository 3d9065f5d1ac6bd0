#!/usr/bin/env python3
"""Workspaces that are changed, disabled, deleted, restored and purged, on two servers of one database."""

import base64
import os
import signal
import subprocess
import time
import unittest

import context
from cofferd import sp_client, wait_for
from context import ACCOUNT, ENVIRONMENT, RESOLVE, SECRET, SYSTEM, TOKEN, WORKSPACE
from sp_client import uuid7

DAY = 24 * 3600
NOBODY = "00000000-0000-4000-8000-000000000000"
# What stays of a purged workspace: that it was there.
TOMBSTONES = {"workspace_state", "workspace_directory"}
# A server that purges what was deleted a second ago.
SOON = {"COFFERD_WORKSPACES__RESTORABLE": "1s", "COFFERD_JOBS__PURGE_INTERVAL": "100ms"}


class OffboardingTest(context.AccessTest):
    count = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.second = cls.dev.more("second")
        cls.other = cls.dev.connect(cls.second.address)

    @classmethod
    def tearDownClass(cls):
        cls.other.close()
        super().tearDownClass()

    def tenant(self):
        """(UUID, an administrator's token, name) of a new workspace with a secret `there` in it."""
        OffboardingTest.count += 1
        name = f"tenant-{OffboardingTest.count}"
        workspace, admin = self.new_workspace(name)
        self.create("there", "prod", token=admin, KEY=b"the value")
        return workspace, admin, name

    def system(self, method, workspace, **fields):
        return self.call(WORKSPACE + method, {"workspace": workspace, **fields}, token=self.dev.system)

    def done(self, method, workspace, **fields):
        answer = self.system(method, workspace, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def disable(self, workspace, disabled=True):
        return self.done("UpdateWorkspace", workspace, update_mask={"paths": ["disabled"]}, disabled=disabled)["workspace"]

    def reads(self, workspace, token, connection=None):
        """The value of `there`, or the outcome, or the reason for which there is no answer."""
        item = {"workspace": workspace, "environments": ["prod"], "references": [{"name": "there", "key": "KEY"}]}
        answer = (connection or self.connection).call(RESOLVE, {"items": [item]}, token=token)
        if answer.code != 0:
            return answer.reason
        result = answer.message["results"][0]
        if result["secrets"]:
            return self.value(result, "there", "KEY")
        return result["status"]["outcome"]

    def everywhere(self, workspace, token):
        """What is read on both servers."""
        return [self.reads(workspace, token, connection) for connection in (self.connection, self.other)]

    def soon(self, workspace, token, expected):
        """The server that made the change answers so at once, the other within the limit for what it remembers."""
        self.assertEqual(self.reads(workspace, token), expected)
        wait_for(lambda: self.reads(workspace, token, self.other) == expected, "the other server learns of the change")

    def listed(self, **fields):
        answer = self.call(WORKSPACE + "ListWorkspaces", fields, token=self.dev.system)
        self.assertEqual(answer.code, 0, answer)
        return {w["uid"]: w for w in answer.message["workspaces"]}

    def records(self, workspace):
        """The audit records of writes in a workspace, in their order."""
        lines = self.sql(f"select encode(record, 'hex') from change where workspace_id = '{workspace}' order by revision")
        return [sp_client.decode("coffer.audit.v1.Record", bytes.fromhex(line)) for line in lines.splitlines()]

    def revision(self, workspace):
        return int(self.sql(f"select revision from workspace_revision where workspace_id = '{workspace}'"))

    def state(self, workspace):
        return self.done("GetWorkspace", workspace)["workspace"]["state"].removeprefix("WORKSPACE_STATE_")


class Settings(OffboardingTest):
    def update(self, workspace, token, paths, **fields):
        return self.call(WORKSPACE + "UpdateWorkspace", {
            "workspace": workspace, "update_mask": {"paths": paths}, **fields}, token=token)

    def test_settings_change_by_mask_and_by_whoever_may_write_the_workspace(self):
        workspace, admin, name = self.tenant()
        writer = self.token_for([{"permissions": ["workspace:write"]}], token=self.dev.system, workspace=SYSTEM,
                                kind="TOKEN_KIND_FLEET")
        answer = self.update(workspace, writer, ["display_name"], display_name="Tenant", strict_environments=True)
        self.assertEqual(answer.code, 0, answer)
        changed = answer.message["workspace"]
        self.assertEqual((changed["display_name"], changed["strict_environments"], changed["name"]), ("Tenant", False, name))
        self.assertEqual(self.update(workspace, admin, ["display_name"]).reason, "PERMISSION_DENIED")
        answer = self.update(workspace, self.dev.system, ["strict_environments"], strict_environments=True)
        self.assertEqual(answer.message["workspace"]["display_name"], "Tenant")
        refused = self.call(SECRET + "CreateSecret", {"name": "x", "environment": "new", "values": [
            {"key": "K", "value": b"v"}]}, token=admin)
        self.assertEqual(refused.reason, "ENVIRONMENT_NOT_FOUND")
        self.assertEqual(self.done("GetWorkspace", workspace)["workspace"], answer.message["workspace"])
        self.assertEqual(self.records(workspace)[-1]["method"], WORKSPACE + "UpdateWorkspace")

    def test_update_needs_a_mask_and_the_etag_that_was_read(self):
        workspace, _, _ = self.tenant()
        first = self.done("GetWorkspace", workspace)["workspace"]["etag"]
        for paths in ([], ["name"], ["display_name", "uid"]):
            answer = self.update(workspace, self.dev.system, paths)
            self.assertEqual(answer.fields, ["update_mask"], paths)
        self.assertEqual(self.update(workspace, self.dev.system, ["display_name"], display_name="x" * 256).fields,
                         ["display_name"])
        changed = self.update(workspace, self.dev.system, ["display_name"], display_name="a", etag=first)
        self.assertEqual(changed.code, 0, changed)
        self.assertEqual(self.update(workspace, self.dev.system, ["display_name"], etag=first).reason, "ETAG_MISMATCH")
        second = changed.message["workspace"]["etag"]
        self.assertEqual(self.update(workspace, self.dev.system, ["disabled"], disabled=True, etag=second).code, 0)
        self.assertEqual(self.update(workspace, self.dev.system, ["disabled"], etag=second).reason, "ETAG_MISMATCH")

    def test_only_system_administration_disables_and_deletes(self):
        workspace, admin, _ = self.tenant()
        fleet = self.fleet([{"permissions": ["workspace:write", "workspace:read", "resolve"]}])
        weak = self.token_for([{"permissions": ["workspace:write", "workspace:read"]}], token=self.dev.system,
                              workspace=SYSTEM, kind="TOKEN_KIND_SYSTEM")
        for token in (admin, fleet, weak):
            self.assertEqual(self.update(workspace, token, ["disabled"], disabled=True).reason, "PERMISSION_DENIED")
            for method in ("DeleteWorkspace", "RestoreWorkspace"):
                answer = self.call(WORKSPACE + method, {"workspace": workspace}, token=token)
                self.assertEqual(answer.reason, "PERMISSION_DENIED", method)
        self.assertEqual(self.reads(workspace, admin), b"the value")

    def test_system_workspace_is_neither_disabled_nor_deleted(self):
        self.assertEqual(self.update(SYSTEM, self.dev.system, ["disabled"], disabled=True).fields, ["workspace"])
        self.assertEqual(self.system("DeleteWorkspace", SYSTEM).fields, ["workspace"])
        self.assertEqual(self.system("DeleteWorkspace", NOBODY).reason, "WORKSPACE_NOT_FOUND")
        self.assertEqual(self.system("DeleteWorkspace", "").reason, "WORKSPACE_REQUIRED")
        self.assertEqual(self.system("RestoreWorkspace", self.dev.workspace).reason, "WORKSPACE_EXISTS")


class Disabled(OffboardingTest):
    def test_disabled_workspace_refuses_every_token_and_every_call_into_it_until_it_is_enabled(self):
        workspace, admin, _ = self.tenant()
        fleet = self.fleet([{"permissions": ["resolve", "secret:read", "environment:read"]}])
        self.assertEqual(self.everywhere(workspace, fleet) + self.everywhere("", admin), [b"the value"] * 4)
        before = self.revision(workspace)
        self.assertEqual(self.disable(workspace)["state"], "WORKSPACE_STATE_DISABLED")
        self.assertEqual(self.revision(workspace), before + 1)
        self.soon("", admin, "WORKSPACE_DISABLED")
        self.soon(workspace, fleet, "OUTCOME_WORKSPACE_DISABLED")
        for connection in (self.connection, self.other):
            for method, fields in ((TOKEN + "GetCaller", {}), (ENVIRONMENT + "ListEnvironments", {}),
                                   (SECRET + "GetSecret", {"name": "there", "environment": "prod"})):
                self.assertEqual(connection.call(method, fields, token=admin).reason, "WORKSPACE_DISABLED", method)
            for method, fields in ((ENVIRONMENT + "ListEnvironments", {}),
                                   (SECRET + "GetSecret", {"name": "there", "environment": "prod"})):
                answer = connection.call(method, {"workspace": workspace, **fields}, token=fleet)
                self.assertEqual((answer.code, answer.reason), (9, "WORKSPACE_DISABLED"), method)
        self.assertEqual(self.listed()[workspace]["state"], "WORKSPACE_STATE_DISABLED")
        self.assertEqual(self.call(ACCOUNT + "ListServiceAccounts", {"workspace": workspace}, token=self.dev.system).code, 0)
        self.assertEqual(self.disable(workspace, False)["state"], "WORKSPACE_STATE_ACTIVE")
        self.assertEqual(self.everywhere(workspace, fleet) + self.everywhere("", admin), [b"the value"] * 4)

    def test_wrong_token_of_a_disabled_workspace_learns_nothing(self):
        workspace, admin, _ = self.tenant()
        revoked = self.token_for([{"permissions": ["resolve"]}], token=admin)
        uid = self.call(TOKEN + "GetCaller", token=revoked).message["token"]["uid"]
        self.disable(workspace)
        self.sql(f"update token set hash = sha256(hash) where token_id = '{uid}'")
        self.assertEqual(self.works(revoked), "TOKEN_INVALID")

    def test_state_that_was_tampered_with_authorises_nothing(self):
        workspace, admin, _ = self.tenant()
        fleet = self.fleet([{"permissions": ["resolve"]}])
        self.disable(workspace)
        self.sql(f"update workspace_state set disabled = false where workspace_id = '{workspace}'")
        self.soon(workspace, fleet, "OUTCOME_CORRUPTED")
        self.assertEqual(self.works(admin), "CORRUPTED")
        self.assertEqual(self.system("GetWorkspace", workspace).reason, "CORRUPTED")
        listed = self.listed()
        self.assertEqual(listed[workspace]["state"], "WORKSPACE_STATE_CORRUPTED")
        self.assertEqual(listed[self.dev.workspace]["state"], "WORKSPACE_STATE_ACTIVE")
        victim, victim_admin, _ = self.tenant()
        self.disable(victim)
        self.sql(f"update workspace_state set (state, disabled, name, change_time, serve_lost_ms, mac_generation, mac) ="
                 f" (select state, disabled, name, change_time, serve_lost_ms, mac_generation, mac from workspace_state where workspace_id = '{workspace}')"
                 f" where workspace_id = '{victim}'")
        self.assertEqual(self.works(victim_admin), "CORRUPTED")


class Deleted(OffboardingTest):
    def test_deleted_workspace_is_gone_for_all_but_the_system_and_comes_back_as_it_was(self):
        workspace, admin, name = self.tenant()
        fleet = self.fleet([{"permissions": ["resolve", "secret:read"]}])
        self.assertEqual(self.everywhere(workspace, fleet) + self.everywhere("", admin), [b"the value"] * 4)
        before = self.revision(workspace)
        answer = self.done("DeleteWorkspace", workspace)
        deleted = answer["workspace"]
        self.assertEqual((deleted["uid"], deleted["name"], deleted["state"]), (workspace, name, "WORKSPACE_STATE_DELETED"))
        self.assertEqual(deleted["purge_time"]["seconds"] - deleted["delete_time"]["seconds"], 30 * DAY)
        self.assertIsNone(answer.get("copies_in_backups_until"), "nobody has said how long backups are kept")
        self.assertEqual(self.revision(workspace), before + 1)
        self.soon("", admin, "WORKSPACE_NOT_FOUND")
        self.soon(workspace, fleet, self.reads(NOBODY, fleet))
        read = self.call(SECRET + "GetSecret", {"workspace": workspace, "name": "there", "environment": "prod"}, token=fleet)
        self.assertEqual(read.reason, "WORKSPACE_NOT_FOUND")
        accounts = self.call(ACCOUNT + "ListServiceAccounts", {"workspace": workspace}, token=self.dev.system)
        self.assertEqual(accounts.reason, "WORKSPACE_DELETED")
        self.assertEqual(self.system("DeleteWorkspace", workspace).reason, "WORKSPACE_DELETED")
        self.assertEqual(self.system("UpdateWorkspace", workspace, update_mask={"paths": ["disabled"]}).reason,
                         "WORKSPACE_DELETED")
        self.assertEqual(self.done("GetWorkspace", workspace)["workspace"], deleted)
        self.assertNotIn(workspace, self.listed())
        self.assertEqual(self.listed(show_deleted=True)[workspace], deleted)
        restored = self.done("RestoreWorkspace", workspace)["workspace"]
        self.assertEqual((restored["name"], restored["state"]), (name, "WORKSPACE_STATE_ACTIVE"))
        self.assertEqual(self.everywhere(workspace, fleet) + self.everywhere("", admin), [b"the value"] * 4)
        self.assertIn(workspace, self.listed())

    def test_disabled_workspace_that_was_deleted_and_restored_is_disabled(self):
        workspace, admin, _ = self.tenant()
        self.disable(workspace)
        self.done("DeleteWorkspace", workspace)
        self.assertEqual(self.done("RestoreWorkspace", workspace)["workspace"]["state"], "WORKSPACE_STATE_DISABLED")
        self.assertEqual(self.works(admin), "WORKSPACE_DISABLED")

    def test_name_of_a_deleted_workspace_can_be_used_again_and_then_it_is_not_restored(self):
        workspace, _, name = self.tenant()
        self.done("DeleteWorkspace", workspace)
        heir, _ = self.new_workspace(name)
        answer = self.system("RestoreWorkspace", workspace)
        self.assertEqual((answer.code, answer.reason), (6, "WORKSPACE_EXISTS"))
        self.assertEqual(self.state(workspace), "DELETED")
        self.done("DeleteWorkspace", heir)
        self.assertEqual({w["uid"] for w in self.listed(show_deleted=True, name_prefix=name).values() if w["name"] == name},
                         {workspace, heir})
        self.done("RestoreWorkspace", workspace)
        self.assertEqual(self.system("RestoreWorkspace", heir).reason, "WORKSPACE_EXISTS")

    def test_pages_of_workspaces_with_the_same_name_show_each_once(self):
        uids = set()
        for _ in range(5):
            uid, _ = self.new_workspace("same-name")
            self.done("DeleteWorkspace", uid)
            uids.add(uid)
        seen, token = [], ""
        while True:
            answer = self.call(WORKSPACE + "ListWorkspaces", {"name_prefix": "same-name", "show_deleted": True,
                                                              "page_size": 2, "page_token": token}, token=self.dev.system)
            seen += [w["uid"] for w in answer.message["workspaces"]]
            token = answer.message["next_page_token"]
            if not token:
                break
        self.assertEqual(sorted(seen), sorted(uids))

    def test_repeated_request_has_the_first_answer_also_when_the_workspace_is_gone(self):
        workspace, _, _ = self.tenant()
        for method in ("DeleteWorkspace", "RestoreWorkspace"):
            request_id = uuid7()
            answers = [connection.call(WORKSPACE + method, {"workspace": workspace}, token=self.dev.system,
                                       request_id=request_id) for connection in (self.connection, self.other)]
            self.assertEqual([answer.code for answer in answers], [0, 0], answers)
            self.assertEqual(answers[0].message, answers[1].message)
            self.assertNotEqual(answers[0].message["consistency_token"], "")

    def test_token_of_a_deletion_is_one_of_the_workspace_and_calls_that_wait_in_it_end(self):
        workspace, admin, _ = self.tenant()
        fleet = self.fleet([{"permissions": ["resolve"]}])
        made = self.create("later", "prod", token=admin, K=b"v").message["consistency_token"]
        # A state that the workspace will have with its next change.
        raw = bytearray(base64.urlsafe_b64decode(made + "=" * (-len(made) % 4)))
        raw[-1] += 1
        ahead = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
        item = {"workspace": workspace, "environments": ["prod"], "references": [{"name": "there", "key": "KEY"}],
                "consistency_token": ahead}
        with self.dev.connect(self.second.address) as connection:
            number = connection.send(RESOLVE, {"items": [item]}, token=fleet, timeout_ms=60000)
            token = self.done("DeleteWorkspace", workspace)["consistency_token"]
            self.assertEqual(token, ahead)
            answer = connection.receive(number, RESOLVE)
        self.assertEqual(answer.code, 0, answer)
        result = answer.message["results"][0]
        self.assertEqual(result["secrets"], [])
        self.assertIn("no such workspace", result["status"]["message"])

    def test_deletion_and_restoration_are_recorded_in_the_system_and_in_the_workspace(self):
        workspace, _, name = self.tenant()
        for method in ("DeleteWorkspace", "RestoreWorkspace"):
            self.done(method, workspace)
            for place in (SYSTEM, workspace):
                record = self.records(place)[-1]
                self.assertEqual(record["method"], WORKSPACE + method)
                self.assertEqual([(o["kind"], o["uid"], o["name"]) for o in record["objects"]],
                                 [("workspace", workspace, name)])
                self.assertEqual(record["actor"]["name"], "admin")

    def test_workspace_whose_rows_and_key_are_damaged_can_be_deleted(self):
        workspace, _, _ = self.tenant()
        self.sql(f"update workspace set display_name = 'forged' where workspace_id = '{workspace}';"
                 f"update workspace_key set wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)"
                 f" where workspace_id = '{workspace}'")
        self.assertEqual(self.listed()[workspace]["state"], "WORKSPACE_STATE_CORRUPTED")
        self.assertEqual(self.done("DeleteWorkspace", workspace)["workspace"]["state"], "WORKSPACE_STATE_DELETED")

    def test_every_server_closes_the_key_of_a_deleted_workspace(self):
        """A key that is open is not looked up again: damage to its row shows when it was closed."""
        workspace, admin, _ = self.tenant()
        fleet = self.fleet([{"permissions": ["resolve"]}])
        self.assertEqual(self.everywhere(workspace, fleet), [b"the value"] * 2)
        flip = (f"update workspace_key set wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)"
                f" where workspace_id = '{workspace}'")
        self.sql(flip)
        self.assertEqual(self.everywhere(workspace, fleet), [b"the value"] * 2, "the keys are open")

        def closed():
            self.done("DeleteWorkspace", workspace)
            time.sleep(0.5)  # what the second server needs is not to be seen; it gets another chance each time
            self.done("RestoreWorkspace", workspace)
            return self.everywhere(workspace, fleet) == ["OUTCOME_CORRUPTED"] * 2
        wait_for(closed, "both servers have closed the key")
        self.sql(flip)
        self.assertEqual(self.everywhere(workspace, fleet), [b"the value"] * 2)

    def test_answers_say_how_long_copies_may_be_in_backups_where_that_is_set(self):
        server = self.dev.more("backups", COFFERD_BACKUPS__KEPT_DAYS="90")
        workspace, admin, _ = self.tenant()
        at = {"name": "there", "environment": "prod"}
        with self.dev.connect(server.address) as connection:
            changed = connection.call(SECRET + "UpdateSecretValues", {**at, "patch": {"set": [
                {"key": "KEY", "value": b"new"}]}}, token=admin)
            self.assertEqual(changed.code, 0, changed)
            destroyed = connection.call(SECRET + "DestroySecretVersion", {**at, "version": 1}, token=admin).message
            deleted = connection.call(WORKSPACE + "DeleteWorkspace", {"workspace": workspace}, token=self.dev.system).message
        self.assertEqual(deleted["copies_in_backups_until"]["seconds"] - deleted["workspace"]["purge_time"]["seconds"],
                         90 * DAY)
        updated = destroyed["secret"]["update_time"]["seconds"]
        self.assertAlmostEqual(destroyed["copies_in_backups_until"]["seconds"] - updated, 90 * DAY, delta=60)
        workspace, admin, _ = self.tenant()
        self.assertEqual(self.call(SECRET + "UpdateSecretValues", {**at, "patch": {"set": [
            {"key": "KEY", "value": b"new"}]}}, token=admin).code, 0)
        unknown = self.call(SECRET + "DestroySecretVersion", {**at, "version": 1}, token=admin).message
        self.assertIsNone(unknown.get("copies_in_backups_until"))
        server.stop()


class Purged(OffboardingTest):
    def tables(self):
        lines = self.sql("select table_name from information_schema.columns where table_schema = 'public'"
                         " and column_name = 'workspace_id' order by 1")
        return set(lines.splitlines()) - TOMBSTONES

    def rows(self, workspace):
        """{table: number of rows} of the workspace, where there are any."""
        counts = " union all ".join(f"select '{table}', count(*) from {table} where workspace_id = '{workspace}'"
                                    for table in sorted(self.tables()))
        found = dict(line.split("|") for line in self.sql(counts).splitlines())
        return {table: int(count) for table, count in found.items() if count != "0"}

    def content(self, workspace):
        """A digest of every table but the chain, which a job continues."""
        return self.sql(" union all ".join(
            f"select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {table} t"
            f" where workspace_id = '{workspace}'" for table in sorted((self.tables() | TOMBSTONES) - {"write_chain"})))

    def fill(self, admin):
        """A row of every table."""
        at = {"name": "there", "environment": "prod"}
        self.assertEqual(self.call(SECRET + "UpdateSecretValues", {**at, "patch": {"set": [
            {"key": "KEY", "value": b"the value"}]}}, token=admin).code, 0)
        self.assertEqual(self.call("coffer.v1.IntegrationService/RegisterActions", {"actions": [{"name": "tools.a"}]},
                                   token=admin).code, 0)
        self.assertEqual(self.call("coffer.v1.ProviderService/CreateProvider", {"name": "Acme", "definition": context.DEFINITION},
                                   token=admin).code, 0)
        uid = self.call(TOKEN + "GetCaller", token=admin).message["token"]["uid"]
        self.assertEqual(self.call(context.CONNECTION + "ConfigureConnection", context.CONFIGURED, token=admin).code, 0)
        person = {**context.CONFIGURED, "provider": "slack", "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE"}
        self.assertEqual(self.call(context.CONNECTION + "ConfigureConnection", person, token=admin).code, 0)
        self.assertEqual(self.call(context.CONNECTION + "StartAuthorization", {
            "provider": "slack", "redirect_uri": "https://platform.example/back"}, token=admin).code, 0)
        self.sql(f"insert into token_use select workspace_id, token_id, now() from token where token_id = '{uid}'"
                 f" on conflict do nothing")

    def keep(self, workspace):
        """Copies of all rows of a workspace, as a backup would have them; gives the SQL that puts one table's back."""
        self.sql("create schema if not exists kept")
        for table in self.tables() | TOMBSTONES:
            self.sql(f"drop table if exists kept.{table};"
                     f"create table kept.{table} as select * from {table} where workspace_id = '{workspace}'")
        return lambda table: (f"set session_replication_role = replica; delete from {table} where workspace_id ="
                              f" '{workspace}'; insert into {table} select * from kept.{table}")

    def delete(self, workspace):
        self.done("DeleteWorkspace", workspace)

    def wait_until_purged(self, workspace):
        wait_for(lambda: self.state(workspace) == "PURGED", "the workspace is purged")

    def test_purge_leaves_no_row_and_no_key_and_touches_nobody_else(self):
        workspace, admin, name = self.tenant()
        bystander, bystander_admin, _ = self.tenant()
        deleted, _, _ = self.tenant()
        self.fill(admin)
        fleet = self.fleet([{"permissions": ["resolve"]}])
        self.assertEqual(self.everywhere(workspace, fleet), [b"the value"] * 2)
        wait_for(lambda: set(self.rows(workspace)) == self.tables(), "fill() and the jobs make a row of every table")
        put_back = self.keep(workspace)
        self.delete(workspace)
        # Restorable for 30 days on the two servers that are there.
        self.done("DeleteWorkspace", deleted)
        self.done("RestoreWorkspace", deleted)
        others = [self.content(bystander), self.content(deleted)]
        purgers = [self.dev.more(f"purger-{i}", **SOON) for i in range(2)]
        self.wait_until_purged(workspace)
        self.assertEqual(self.rows(workspace), {})
        self.assertEqual([self.content(bystander), self.content(deleted)], others)
        for purger in purgers:
            self.assertEqual(purger.stop(), 0)
        self.check_gone(workspace, admin, fleet, name)
        self.check_copies(workspace, admin, fleet, put_back)
        self.assertEqual(self.reads(bystander, fleet), b"the value")
        self.assertEqual(self.reads("", bystander_admin), b"the value")

    def check_gone(self, workspace, admin, fleet, name):
        self.assertEqual(self.works(admin), "TOKEN_INVALID")
        self.assertEqual(self.everywhere(workspace, fleet), self.everywhere(NOBODY, fleet))
        self.assertEqual(self.system("RestoreWorkspace", workspace).reason, "WORKSPACE_NOT_FOUND")
        self.assertEqual(self.system("DeleteWorkspace", workspace).reason, "WORKSPACE_NOT_FOUND")
        shown = self.done("GetWorkspace", workspace)["workspace"]
        self.assertEqual((shown["name"], shown["state"]), ("", "WORKSPACE_STATE_PURGED"))
        self.assertNotIn(workspace, self.listed(show_deleted=True))
        self.assertNotIn(name, self.sql(f"select * from workspace_state where workspace_id = '{workspace}' union all"
                                        f" select workspace_id, 0, live, name, null, null, 0, null, 0 from"
                                        f" workspace_directory where workspace_id = '{workspace}'"))
        # What was done about it is in the system's trail: who deleted it, and that the server purged it.
        own = [r for r in self.records(SYSTEM) if any(o["uid"] == workspace for o in r["objects"])]
        self.assertEqual([(r["method"], r["actor"]["name"]) for r in own][-2:],
                         [(WORKSPACE + "DeleteWorkspace", "admin"), ("cofferd/PurgeWorkspace", "")])
        self.assertEqual(len([r for r in own if r["method"] == "cofferd/PurgeWorkspace"]), 1)
        # Its UUID is taken for ever, its name is free.
        with self.assertRaises(subprocess.CalledProcessError):
            self.sql(f"insert into workspace_directory values ('{workspace}', 'again', true)")
        self.new_workspace(name)

    def check_copies(self, workspace, admin, fleet, put_back):
        """Rows from a copy, without the key that was destroyed: no server can do anything with them."""
        self.sql("; ".join(put_back(table) for table in sorted(self.tables() - {"workspace_key"})))
        self.assertIn("secret", self.rows(workspace))
        self.assertEqual(self.everywhere("", admin), ["WORKSPACE_NOT_FOUND"] * 2)
        for table in sorted(TOMBSTONES):  # as if it had never been deleted
            self.sql(f"delete from {table} where workspace_id = '{workspace}'")
        # That it is an older state is seen by whoever has seen the newer one; with another revision it is not.
        self.assertEqual(self.everywhere(workspace, fleet), ["OUTCOME_CORRUPTED"] * 2)
        self.sql(f"update workspace_revision set revision = revision + 1000 where workspace_id = '{workspace}'")
        lost = self.everywhere(NOBODY, fleet)
        wait_for(lambda: self.everywhere(workspace, fleet) == lost, "no server has the key open any more")
        self.assertEqual(self.everywhere("", admin), ["WORKSPACE_NOT_FOUND"] * 2)
        # A key of another workspace opens nothing of it.
        self.sql(f"insert into workspace_key select '{workspace}', generation, wrapped, create_time, state, change_time from workspace_key"
                 f" where workspace_id = '{self.dev.workspace}'")
        self.assertEqual(self.everywhere(workspace, fleet), ["OUTCOME_CORRUPTED"] * 2)
        self.sql(f"delete from workspace_key where workspace_id = '{workspace}'")
        # The limit of the promise: a backup with the key's row, and the root key, are the data. Hence the answer of
        # DeleteWorkspace says how long there may be backups.
        self.sql(put_back("workspace_key"))
        self.assertEqual(self.everywhere(workspace, fleet), [b"the value"] * 2)

    def test_purge_that_is_killed_again_and_again_is_continued_and_cannot_be_undone(self):
        workspace, admin, _ = self.tenant()
        self.fill(admin)
        self.sql(f"insert into secret_version select workspace_id, secret_id, v, 1, 1, keys, blob, create_time,"
                 f" principal_id from secret_version, generate_series(1000, 40999) v where workspace_id = '{workspace}'")
        total = self.rows(workspace)["secret_version"]
        self.delete(workspace)
        kills = 0
        while self.state(workspace) != "PURGED":
            before = self.rows(workspace)
            server = self.dev.more(f"killed-{kills}", **SOON)
            wait_for(lambda: self.state(workspace) == "PURGED" or (self.state(workspace) == "PURGING" and
                                                                   self.rows(workspace) != before), "the purge goes on")
            if self.state(workspace) == "PURGED":
                break
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            self.dev.extra.remove(server)
            server.output.close()
            kills += 1
            # Whatever is left, the keys are not. With a slow kill the purge may have ended just before.
            self.assertIn(self.state(workspace), ("PURGING", "PURGED"))
            self.assertEqual(self.sql(f"select count(*) from workspace_key where workspace_id = '{workspace}'"), "0")
            self.assertEqual(self.system("RestoreWorkspace", workspace).reason, "WORKSPACE_NOT_FOUND")
            self.assertEqual(self.works(admin) in ("WORKSPACE_NOT_FOUND", "TOKEN_INVALID"), True)
            if kills == 3:
                self.dev.more("finisher", **SOON)
                self.wait_until_purged(workspace)
        self.assertGreater(kills, 0)
        self.assertEqual(self.rows(workspace), {})
        print(f"{kills} kills, {total} versions", flush=True)
        for server in [s for s in self.dev.extra if s is not self.second]:
            self.assertEqual(server.stop(), 0)

    def test_damaged_state_is_not_purged_and_keeps_no_other_from_being_purged(self):
        damaged, _, _ = self.tenant()
        workspace, _, _ = self.tenant()
        for uid in (damaged, workspace):
            self.delete(uid)
        self.sql(f"update workspace_state set disabled = not disabled where workspace_id = '{damaged}'")
        before = self.content(damaged)
        server = self.dev.more("careful", **SOON)
        self.wait_until_purged(workspace)
        wait_for(lambda: "purge_failed" in server.log.read_text(), "it is told")
        self.assertEqual(self.content(damaged), before)
        self.sql(f"update workspace_state set disabled = not disabled where workspace_id = '{damaged}'")
        self.wait_until_purged(damaged)
        self.assertEqual(server.stop(), 0)

    def test_restored_workspace_is_not_purged(self):
        workspace, admin, _ = self.tenant()
        witness, _, _ = self.tenant()
        self.delete(workspace)
        self.done("RestoreWorkspace", workspace)
        self.delete(witness)
        server = self.dev.more("late", **SOON)
        self.wait_until_purged(witness)
        self.assertEqual(self.reads("", admin), b"the value")
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
