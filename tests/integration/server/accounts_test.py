#!/usr/bin/env python3
"""Accounts that change and end: what their tokens may do afterwards, and that nobody gets more than he has."""

import threading
import time
import unittest

import context
import cofferd
from cofferd import values
from context import ACCOUNT, SECRET, SYSTEM, TOKEN
from sp_client import uuid7

READ = [{"permissions": ["secret:read"]}]
RESOLVE = [{"permissions": ["resolve"]}]
ADMIN = [{"permissions": ["account:read", "account:write", "token:write", "secret:read"]}]
NOBODY = "00000000-0000-4000-8000-000000000000"


class Accounts(context.AccessTest):
    def made(self, rules, **options):
        """(name, token) of a new account."""
        name, answer = self.account(rules, **options)
        self.assertEqual(answer.code, 0, answer)
        issued = self.issue(name, token=options.get("token"), workspace=options.get("workspace", ""))
        self.assertEqual(issued.code, 0, issued)
        return name, issued.message["secret_text"]

    def get(self, token=None, **fields):
        return self.call(ACCOUNT + "GetServiceAccount", fields, token=token)

    def changed(self, name, **changes):
        answer = self.update_account(name, **changes)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["service_account"]

    # --- Changing

    def test_grants_that_change_hold_for_the_tokens_that_are_out(self):
        name, token = self.made(READ)
        self.assertEqual(self.call(SECRET + "ListSecrets", token=token).code, 0)
        self.changed(name, grants=[{"permissions": ["secret:write"]}])
        self.assertEqual(self.call(SECRET + "ListSecrets", token=token).reason, "PERMISSION_DENIED")
        self.assertEqual(self.call(SECRET + "CreateSecret", {"name": "by-new-grant", "values": values(K=b"v")},
                                   token=token).code, 0)
        self.changed(name, grants=[])
        self.assertEqual(self.call(SECRET + "CreateSecret", {"name": "x", "values": values(K=b"v")}, token=token).reason,
                         "PERMISSION_DENIED")

    def test_restrictions_of_tokens_outlive_a_change_of_grants(self):
        name, answer = self.account(READ)
        self.assertEqual(answer.code, 0, answer)
        token = self.issue(name, restrictions=[{"permissions": ["secret:read"], "names": ["only"]}]).message["secret_text"]
        self.changed(name, grants=[{"permissions": ["secret:read", "secret:write"]}])
        self.assertEqual(self.call(SECRET + "GetSecret", {"name": "other"}, token=token).reason, "PERMISSION_DENIED")
        self.assertEqual(self.call(SECRET + "GetSecret", {"name": "only"}, token=token).reason, "SECRET_NOT_FOUND")

    def test_only_what_the_mask_names_changes(self):
        name, _ = self.account(READ, description="before", networks=["unix"])
        before = self.get(name=name).message["service_account"]
        after = self.changed(name, description="after")
        self.assertEqual({field for field in before if before[field] != after[field]}, {"description", "etag"})
        self.assertEqual(self.get(name=name).message["service_account"], after)
        both = self.call(ACCOUNT + "UpdateServiceAccount", {
            "name": name, "update_mask": {"paths": ["expire_time", "networks"]}, "description": "ignored", "disabled": True,
            "networks": ["unix"], "expire_time": {"seconds": 4102444800}})
        after = both.message["service_account"]
        self.assertEqual((after["description"], after["disabled"], after["expire_time"]["seconds"]),
                         ("after", False, 4102444800))
        self.assertIsNone(self.changed(name, expire_time=None).get("expire_time"))

    def test_mask_that_is_empty_or_names_something_else_is_refused(self):
        name, _ = self.account(READ)
        for mask, reason in ((None, "FIELD_REQUIRED"), ([], "FIELD_REQUIRED"), (["name"], "FIELD_INVALID"),
                             (["description", "kind"], "FIELD_INVALID"), (["*"], "FIELD_INVALID"), ([""], "FIELD_INVALID")):
            request = {"name": name, "description": "x"} | ({} if mask is None else {"update_mask": {"paths": mask}})
            answer = self.call(ACCOUNT + "UpdateServiceAccount", request)
            self.assertEqual((answer.reason, answer.fields), (reason, ["update_mask"]), mask)
        self.assertEqual(self.get(name=name).message["service_account"]["description"], "")

    def test_fields_are_checked_as_when_an_account_is_made(self):
        name, _ = self.account(READ)
        for field, value in (("description", "x" * 1001), ("grants", [{"permissions": ["no:such"]}]),
                             ("grants", [{"permissions": ["workspace:create"]}]), ("networks", ["10.0.0.1/8"]),
                             ("expire_time", {"seconds": 2**60})):
            answer = self.update_account(name, **{field: value})
            self.assertEqual(answer.reason, "FIELD_INVALID", field)
            self.assertTrue(answer.fields[0].startswith(field), answer.fields)
        self.assertEqual(self.update_account("missing", disabled=True).reason, "ACCOUNT_NOT_FOUND")
        self.assertEqual(self.delete_account("missing").reason, "ACCOUNT_NOT_FOUND")

    def test_etag_and_uid_guard_changes_and_deletion(self):
        name, _ = self.account(READ)
        account = self.get(name=name).message["service_account"]
        self.changed(name, description="newer")
        for guard, reason in (({"etag": account["etag"]}, "ETAG_MISMATCH"), ({"expected_uid": NOBODY}, "UID_MISMATCH"),
                              ({"expected_uid": "no uuid"}, "FIELD_INVALID")):
            self.assertEqual(self.update_account(name, description="lost", guards=guard).reason, reason)
            self.assertEqual(self.delete_account(name, **guard).reason, reason)
        now = self.get(name=name).message["service_account"]
        self.assertEqual(now["description"], "newer")
        guards = {"etag": now["etag"], "expected_uid": now["uid"]}
        newest = self.update_account(name, description="newest", guards=guards).message["service_account"]
        self.assertEqual(self.delete_account(name, etag=newest["etag"], expected_uid=newest["uid"]).code, 0)

    def test_change_happens_once_and_its_answer_is_repeated(self):
        name, _ = self.account(READ)
        request = {"name": name, "update_mask": {"paths": ["description"]}, "description": "once"}
        request_id = uuid7()
        first = self.call(ACCOUNT + "UpdateServiceAccount", request, request_id=request_id)
        self.changed(name, description="later")
        again = self.call(ACCOUNT + "UpdateServiceAccount", request, request_id=request_id)
        self.assertEqual((first.code, again.payload), (0, first.payload))
        self.assertEqual(self.get(name=name).message["service_account"]["description"], "later")
        request_id = uuid7()
        first, again = (self.call(ACCOUNT + "DeleteServiceAccount", {"name": name}, request_id=request_id) for _ in range(2))
        self.assertEqual((first.code, again.payload), (0, first.payload))

    # --- Disabling and ending

    def test_disabling_an_account_disables_its_tokens_at_once_and_on_other_servers_within_the_limit(self):
        name, token = self.made(READ)
        second = self.issue(name).message["secret_text"]
        other = self.dev.more("other")
        with self.dev.connect(other.address) as elsewhere:
            self.assertEqual(self.works(token, elsewhere), "OK")
            self.changed(name, disabled=True)
            found = [self.works(t) for t in (token, second)]
            self.wait_for_others()
            found += [self.works(t, elsewhere) for t in (token, second)]
            self.assertEqual(found, ["ACCOUNT_DISABLED"] * 4)
            self.changed(name, disabled=False)
            self.wait_for_others()
            self.assertEqual(self.works(token, elsewhere), "OK")

    def test_end_that_is_set_for_an_account_ends_its_tokens(self):
        name, token = self.made(READ)
        self.changed(name, expire_time={"seconds": int(time.time()) - 1})
        self.assertEqual(self.works(token), "ACCOUNT_DISABLED")
        self.changed(name, expire_time={"seconds": int(time.time()) + 3600})
        self.assertEqual(self.works(token), "OK")

    def test_deleted_account_is_gone_with_its_tokens_and_its_name_is_free(self):
        name, token = self.made(READ)
        uid = self.get(name=name).message["service_account"]["uid"]
        deleted = self.delete_account(name)
        self.assertTrue(deleted.message["service_account"]["delete_time"]["seconds"])
        self.assertEqual(self.works(token), "TOKEN_INVALID")
        for answer in (self.get(name=name), self.issue(name), self.update_account(name, disabled=False),
                       self.delete_account(name), self.call(TOKEN + "ListTokens", {"service_account": name})):
            self.assertEqual(answer.reason, "ACCOUNT_NOT_FOUND")
        _, again = self.made(READ, name=name)
        self.assertEqual((self.works(token), self.works(again)), ("TOKEN_INVALID", "OK"))
        self.assertNotEqual(self.get(name=name).message["service_account"]["uid"], uid)

    def test_principal_of_an_audit_record_stays_explainable_after_its_account_was_deleted(self):
        name, token = self.made([{"permissions": ["secret:write"]}])
        self.call(SECRET + "CreateSecret", {"name": "by-deleted", "values": values(K=b"v")}, token=token)
        self.delete_account(name)
        self.account(READ, name=name)
        records = self.sql("select encode(record, 'hex') from change where workspace_id = "
                           f"'{self.dev.workspace}' order by revision").splitlines()
        records = [cofferd.sp_client.decode("coffer.audit.v1.Record", bytes.fromhex(line)) for line in records]
        actor = next(r["actor"] for r in records if any(o["name"] == "by-deleted" for o in r["objects"]))
        found = self.get(uid=actor["principal"]).message["service_account"]
        self.assertEqual((found["name"], actor["name"]), (name, name))
        self.assertTrue(found["delete_time"]["seconds"])
        ended = next(r for r in records if r["method"] == ACCOUNT + "DeleteServiceAccount"
                     and r["objects"][0]["uid"] == found["uid"])
        self.assertEqual((ended["objects"][0]["kind"], ended["actor"]["name"]), ("service_account", "admin"))

    def test_lists_show_deleted_accounts_only_when_asked(self):
        prefix = "listed"
        for i in range(3):
            self.account(READ, name=f"{prefix}{i}")
            self.delete_account(f"{prefix}{i}")
            self.account(READ, name=f"{prefix}{i}")

        def pages(**fields):
            token, found = "", []
            while True:
                answer = self.call(ACCOUNT + "ListServiceAccounts", {"page_size": 1, "page_token": token, **fields})
                self.assertEqual(answer.code, 0, answer)
                page = answer.message
                found += [a for a in page["service_accounts"] if a["name"].startswith(prefix)]
                token = page["next_page_token"]
                if not token:
                    return found

        living, everything = pages(), pages(show_deleted=True)
        self.assertEqual([a["name"] for a in living], ["listed0", "listed1", "listed2"])
        self.assertEqual([a["name"] for a in everything], sorted(2 * ["listed0", "listed1", "listed2"]))
        self.assertEqual(len({a["uid"] for a in everything}), 6)
        self.assertEqual({a["uid"] for a in everything if not a.get("delete_time")}, {a["uid"] for a in living})

    def test_deleted_account_that_is_revived_in_the_database_is_corrupted(self):
        name, token = self.made(READ)
        uid = self.get(name=name).message["service_account"]["uid"]
        self.delete_account(name)
        deleted = self.sql(f"select delete_time from principal where principal_id = '{uid}'")
        self.sql(f"update principal set delete_time = null where principal_id = '{uid}'")
        self.assertEqual(self.works(token), "CORRUPTED")
        self.assertEqual(self.update_account(name, description="x").reason, "CORRUPTED")
        self.sql(f"update principal set delete_time = '{deleted}' where principal_id = '{uid}'")

    # --- Nobody gets more than he has

    def test_nobody_grants_more_than_he_has_by_changing_an_account(self):
        _, limited = self.made([{"permissions": ["account:write", "token:write"]},
                                {"permissions": ["resolve"], "environments": ["dev*"]}])
        name, _ = self.account([])
        for rules in (READ, RESOLVE, [{"permissions": ["resolve"], "environments": ["d*"]}]):
            refused = self.update_account(name, token=limited, grants=rules)
            self.assertEqual((refused.code, refused.reason, refused.fields), (7, "TOKEN_EXCEEDS_ISSUER", ["grants"]), rules)
        self.assertEqual(self.get(name=name).message["service_account"]["grants"], [])
        within = [{"permissions": ["resolve"], "environments": ["dev1"], "names": ["a*"]}]
        self.assertEqual(self.update_account(name, token=limited, grants=within).code, 0)

    def test_nobody_raises_his_own_grants(self):
        name, token = self.made(ADMIN)
        for rules in (ADMIN + RESOLVE, [{"permissions": ADMIN[0]["permissions"] + ["secret:reveal"]}]):
            self.assertEqual(self.update_account(name, token=token, grants=rules).reason, "TOKEN_EXCEEDS_ISSUER")
        restricted = self.issue(name, restrictions=[{"permissions": ["account:write"]}]).message["secret_text"]
        other, _ = self.account([])
        self.assertEqual(self.update_account(other, token=restricted, grants=READ).reason, "TOKEN_EXCEEDS_ISSUER")
        self.assertEqual(self.update_account(other, token=token, grants=READ).code, 0)

    def test_nobody_gives_life_to_an_account_that_may_do_more_than_he(self):
        """Its old token may be in his hands."""
        _, limited = self.made([{"permissions": ["account:write"]}])
        name, token = self.made(RESOLVE, networks=["unix", "192.0.2.0/24"])
        self.changed(name, disabled=True, expire_time={"seconds": int(time.time()) - 1})
        for change in ({"disabled": False}, {"expire_time": None}, {"expire_time": {"seconds": int(time.time()) + 60}},
                       {"networks": []}, {"networks": ["unix", "192.0.2.0/24", "198.51.100.1"]},
                       {"networks": ["192.0.0.0/8"]}):
            self.assertEqual(self.update_account(name, token=limited, **change).reason, "TOKEN_EXCEEDS_ISSUER", change)
        self.assertEqual(self.works(token), "ACCOUNT_DISABLED")
        self.assertEqual(self.update_account(name, disabled=False, expire_time=None).code, 0)
        self.assertEqual(self.works(token), "OK")

    def test_taking_away_needs_the_permission_and_nothing_else(self):
        _, limited = self.made([{"permissions": ["account:write"]}])
        name, token = self.made(RESOLVE)
        for change in ({"description": "suspect"}, {"networks": ["192.0.2.0/24", "unix"]}, {"networks": ["192.0.2.7"]},
                       {"expire_time": {"seconds": 4102444800}}, {"expire_time": {"seconds": 4102444700}},
                       {"disabled": True}):
            self.assertEqual(self.update_account(name, token=limited, **change).code, 0, change)
        self.assertEqual(self.works(token), "ACCOUNT_DISABLED")
        self.assertEqual(self.delete_account(name, token=limited).code, 0)
        _, none = self.made(READ)
        victim, _ = self.account(READ)
        for refused in (self.update_account(victim, token=none, disabled=True), self.delete_account(victim, token=none)):
            self.assertEqual((refused.reason, refused.facts["permission"]), ("PERMISSION_DENIED", "account:write"))

    def test_workspace_token_changes_no_account_of_another_workspace(self):
        foreign, _ = self.new_workspace("accounts-other")
        for refused in (self.update_account("first", workspace=foreign, disabled=True),
                        self.delete_account("first", workspace=foreign),
                        self.get(workspace=foreign, uid=NOBODY)):
            self.assertEqual(refused.reason, "PERMISSION_DENIED")

    def test_system_token_takes_access_from_tenants_and_gives_it_only_to_the_first_account(self):
        workspace, admin = self.new_workspace("accounts-sys")
        first = self.call(TOKEN + "GetCaller", token=admin).message["service_account"]["name"]
        name, _ = self.made(READ, token=admin, workspace=workspace)
        system = {"token": self.dev.system, "workspace": workspace}
        self.assertEqual(self.update_account(name, disabled=True, **system).code, 0)
        for change in ({"disabled": False}, {"grants": READ}, {"grants": RESOLVE}):
            self.assertEqual(self.update_account(name, **system, **change).reason, "TOKEN_EXCEEDS_ISSUER", change)
        self.assertEqual(self.update_account(first, disabled=True, **system).code, 0)
        self.assertEqual(self.works(admin), "ACCOUNT_DISABLED")
        self.assertEqual(self.update_account(first, disabled=False, grants=ADMIN + RESOLVE, **system).code, 0)
        self.assertEqual(self.works(admin), "OK")

    def test_system_token_gives_fleet_accounts_anything(self):
        name, token = self.made(READ, token=self.dev.system, workspace=SYSTEM, kind="TOKEN_KIND_FLEET")
        at = {"token": self.dev.system, "workspace": SYSTEM}
        self.assertEqual(self.update_account(name, grants=RESOLVE + ADMIN, **at).code, 0)
        self.assertEqual(self.works(token), "OK")
        self.assertEqual(self.delete_account(name, **at).code, 0)
        self.assertEqual(self.works(token), "TOKEN_INVALID")

    def test_system_token_gives_system_accounts_only_what_it_may_do(self):
        name, token = self.made([{"permissions": ["account:write", "account:read"]}], token=self.dev.system,
                                workspace=SYSTEM, kind="TOKEN_KIND_SYSTEM")
        weak, _ = self.account([{"permissions": ["account:read"]}], token=self.dev.system, workspace=SYSTEM,
                               kind="TOKEN_KIND_SYSTEM")
        refused = self.update_account(weak, token=token, workspace=SYSTEM, grants=[{"permissions": ["key:manage"]}])
        self.assertEqual(refused.reason, "TOKEN_EXCEEDS_ISSUER")
        self.assertEqual(self.update_account(name, token=token, workspace=SYSTEM,
                                             grants=[{"permissions": ["account:write", "workspace:create"]}]).reason,
                         "TOKEN_EXCEEDS_ISSUER")

    # --- Nobody is locked out

    def test_nobody_takes_the_power_over_accounts_from_his_own(self):
        name, token = self.made(ADMIN)
        for change in ({"disabled": True}, {"expire_time": {"seconds": int(time.time()) + 3600}}, {"grants": READ},
                       {"grants": []}, {"networks": ["192.0.2.0/24"]}):
            refused = self.update_account(name, token=token, **change)
            self.assertEqual((refused.code, refused.reason), (9, "ACCOUNT_NEEDED"), change)
        self.assertEqual(self.delete_account(name, token=token).reason, "ACCOUNT_NEEDED")
        self.assertEqual(self.update_account(name, token=token, description="mine", networks=["unix"],
                                             grants=[{"permissions": ["account:write"]}]).code, 0)
        self.assertEqual(self.works(token), "OK")

    def test_first_account_of_a_workspace_is_disabled_by_others_and_never_deleted(self):
        workspace, admin = self.new_workspace("accounts-first")
        first = self.call(TOKEN + "GetCaller", token=admin).message["service_account"]["name"]
        _, second = self.made([{"permissions": ["account:write"]}], token=admin, workspace=workspace)
        self.assertEqual(self.delete_account(first, token=second).reason, "ACCOUNT_NEEDED")
        self.assertEqual(self.delete_account(first, token=self.dev.system, workspace=workspace).reason, "ACCOUNT_NEEDED")
        self.assertEqual(self.update_account(first, token=second, disabled=True).code, 0)
        self.assertEqual(self.update_account(first, token=self.dev.system, workspace=workspace, disabled=False).code, 0)

    def test_two_administrators_who_disable_each_other_at_once_do_not_both_succeed(self):
        for round_number in range(5):
            pair = [self.made(ADMIN) for _ in range(2)]
            start, answers = threading.Barrier(2), [None, None]

            def disable(i, pair=pair, start=start, answers=answers):
                with self.dev.connect() as connection:
                    start.wait()
                    answers[i] = connection.call(ACCOUNT + "UpdateServiceAccount", {
                        "name": pair[1 - i][0], "update_mask": {"paths": ["disabled"]}, "disabled": True}, token=pair[i][1])

            threads = [threading.Thread(target=disable, args=(i,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            outcomes = sorted(answer.reason or "OK" for answer in answers)
            self.assertEqual(outcomes, ["ACCOUNT_DISABLED", "OK"], round_number)
            self.assertEqual(sorted(self.works(token) for _, token in pair), ["ACCOUNT_DISABLED", "OK"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
