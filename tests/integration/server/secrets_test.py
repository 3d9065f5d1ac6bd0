#!/usr/bin/env python3
"""Secrets over the wire: what can be stored, changed, listed and deleted, and what is refused."""

import os
import threading
import unittest

import context
from cofferd import values
from sp_client import uuid7

SECRET = "coffer.v1.SecretService/"


class Secrets(context.ServerTest):
    def create(self, name, environment="prod", request_id=None, token=None, **pairs):
        return self.call(SECRET + "CreateSecret", {"name": name, "environment": environment,
                                                   "values": values(**(pairs or {"KEY": b"v"}))},
                         request_id=request_id, token=token)

    def get(self, name, environment="prod"):
        return self.call(SECRET + "GetSecret", {"name": name, "environment": environment})

    def update(self, name, environment="prod", **change):
        return self.call(SECRET + "UpdateSecretValues", {"name": name, "environment": environment, **change})

    def test_created_secret_has_version_1_and_shows_names_and_sizes_but_no_value(self):
        answer = self.create("plain", A=b"12345", B=b"", C=b" \n")
        secret = answer.message["secret"]
        self.assertEqual((answer.code, secret["version"], secret["etag"]), (0, 1, "1-1"))
        self.assertEqual([(key["name"], key["size"], key["blank"]) for key in secret["keys"]],
                         [("A", 5, False), ("B", 0, True), ("C", 2, True)])
        self.assertNotIn(b"12345", answer.payload)
        self.assertNotIn(b"12345", self.get("plain").payload)

    def test_environment_left_out_when_storing_and_when_reading_meets_in_default(self):
        self.assertEqual(self.create("nowhere", environment="").code, 0)
        self.assertEqual(self.get("nowhere", "default").message["secret"]["environment"], "default")
        self.assertEqual(self.get("nowhere", "").code, 0)
        self.assertEqual(self.get("nowhere", "prod").reason, "SECRET_NOT_FOUND")

    def test_values_of_any_bytes_come_back_unchanged(self):
        every = bytes(range(256))
        self.create("bytes", EVERY=every, EMPTY=b"", LONG=os.urandom(65536))
        result = self.resolve("prod", "bytes.EVERY", "bytes.EMPTY")
        self.assertEqual([pair["key"] for pair in result["secrets"][0]["values"]], ["EMPTY", "EVERY"])
        self.assertEqual(self.value(result, "bytes", "EVERY"), every)
        self.assertEqual(self.value(result, "bytes", "EMPTY"), b"")

    def test_names_at_their_limits_pass_and_one_more_is_refused(self):
        self.assertEqual(self.create("n" * 100).code, 0)
        answer = self.create("n" * 101)
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["name"]))
        self.assertEqual(self.create("k", **{"k" * 128: b"1"}).code, 0)
        self.assertEqual(self.create("k2", **{"k" * 129: b"1"}).fields, ["values[0].key"])
        self.assertEqual(self.create("e", environment="e" * 101).fields, ["environment"])

    def test_names_that_break_the_rule_are_refused_and_the_field_is_named(self):
        for name in ("a b", "-a", ".a", "ä", "a/b", ""):
            answer = self.create(name)
            self.assertEqual(answer.code, 3, name)
            self.assertEqual(answer.fields, ["name"])
        for key in ("1a", "-", "a b"):
            self.assertEqual(self.create("rule", **{key: b""}).fields, ["values[0].key"])

    def test_name_that_ends_in_oauth_is_reserved(self):
        self.assertEqual(self.create("github_oauth").reason, "NAME_RESERVED")

    def test_values_at_their_limits_pass_and_one_byte_more_is_refused(self):
        full = os.urandom(65536)
        self.assertEqual(self.create("limit", A=full, B=full, C=full, D=full).code, 0)
        self.assertEqual(self.create("over", A=full, B=full, C=full, D=full, E=b"1").reason, "LIMIT_EXCEEDED")
        self.assertEqual(self.create("over", A=full + b"1").fields, ["values[0].value"])

    def test_secret_has_1_to_100_keys_each_once(self):
        self.assertEqual(self.create("many", **{f"K{i}": b"" for i in range(100)}).code, 0)
        self.assertEqual(self.create("more", **{f"K{i}": b"" for i in range(101)}).reason, "LIMIT_EXCEEDED")
        self.assertEqual(self.call(SECRET + "CreateSecret", {"name": "none"}).reason, "FIELD_REQUIRED")
        twice = self.call(SECRET + "CreateSecret", {"name": "twice", "values": [{"key": "A"}, {"key": "A"}]})
        self.assertEqual(twice.reason, "FIELD_INVALID")

    def test_second_secret_of_the_same_name_is_refused(self):
        self.create("once")
        self.assertEqual(self.create("once").reason, "SECRET_EXISTS")
        self.assertEqual(self.create("once", environment="other").code, 0)

    def test_types_that_are_not_known_are_refused_clearly(self):
        answer = self.call(SECRET + "CreateSecret", {"name": "key", "type": 77, "values": values(PRIVATE_KEY=b"x")})
        self.assertEqual((answer.code, answer.reason, answer.fields), (12, "NOT_AVAILABLE", ["type"]))

    def test_patch_changes_the_keys_that_are_named_and_leaves_the_others(self):
        self.create("patch", A=b"a", B=b"b", C=b"c")
        self.assertEqual(self.update("patch", patch={"set": values(B=b"2", D=b"d"), "remove": ["C"]}).code, 0)
        result = self.resolve("prod", "patch.A", "patch.B", "patch.D")
        self.assertEqual([self.value(result, "patch", key) for key in "ABD"], [b"a", b"2", b"d"])
        self.assertEqual(self.resolve("prod", "patch.C")["outcomes"], ["OUTCOME_KEY_NOT_FOUND"])

    def test_replace_leaves_only_what_was_sent(self):
        self.create("replace", A=b"a", B=b"b")
        answer = self.update("replace", replace={"values": values(C=b"c")})
        self.assertEqual([key["name"] for key in answer.message["secret"]["keys"]], ["C"])
        self.assertEqual(answer.message["secret"]["version"], 2)

    def test_patch_that_removes_a_missing_key_or_the_last_one_changes_nothing(self):
        self.create("keep", A=b"a")
        self.assertEqual(self.update("keep", patch={"remove": ["B"]}).reason, "KEY_NOT_FOUND")
        self.assertEqual(self.update("keep", patch={"remove": ["A"]}).reason, "FIELD_REQUIRED")
        self.assertEqual(self.update("keep", patch={"set": values(A=b"x"), "remove": ["A"]}).reason, "FIELD_INVALID")
        self.assertEqual(self.update("keep", patch={}).reason, "FIELD_REQUIRED")
        self.assertEqual(self.update("keep").reason, "FIELD_REQUIRED")
        self.assertEqual(self.get("keep").message["secret"]["version"], 1)

    def test_expected_version_lets_only_one_of_two_writers_win(self):
        self.create("cas")
        self.assertEqual(self.update("cas", replace={"values": values(A=b"1")}, expected_version=1).code, 0)
        late = self.update("cas", replace={"values": values(A=b"2")}, expected_version=1)
        self.assertEqual((late.code, late.reason, late.facts["version"]), (10, "VERSION_MISMATCH", "2"))

    def test_of_many_writers_with_one_expected_version_exactly_one_wins(self):
        self.create("winner")
        for version in range(1, 6):
            change = {"name": "winner", "environment": "prod", "patch": {"set": values(A=b"%d" % version)},
                      "expected_version": version}
            reasons = sorted(answer.reason for answer in self.together(6, SECRET + "UpdateSecretValues", change))
            self.assertEqual(reasons, [""] + ["VERSION_MISMATCH"] * 5)
            self.assertEqual(self.get("winner").message["secret"]["version"], version + 1)

    def test_every_write_of_values_makes_a_version_and_nothing_else_does(self):
        self.create("versions", A=b"1")
        writes = ({"replace": {"values": values(A=b"1")}}, {"patch": {"set": values(A=b"1")}},
                  {"patch": {"set": values(B=b"2")}}, {"patch": {"remove": ["B"]}}, {"replace": {"values": values(C=b"")}})
        for version, change in enumerate(writes, 2):
            self.assertEqual(self.update("versions", **change).message["secret"]["version"], version, change)
            self.assertEqual(self.get("versions").message["secret"]["version"], version)
        told = self.call(SECRET + "ListSecretVersions", {"name": "versions", "environment": "prod"}).message["versions"]
        self.assertEqual({version["account"] for version in told}, {"admin"})
        self.update("versions", patch={"remove": ["NOTHERE"]})
        self.assertEqual(self.get("versions").message["secret"]["version"], len(writes) + 1)
        # The current one lies in the secret's row.
        self.assertEqual(self.sql("select string_agg(v.version::text, ' ' order by v.version) from secret_version v join"
                                  " secret using (workspace_id, secret_id) where name = 'versions'"), "1 2 3 4 5")

    def test_mismatch_of_any_guard_changes_nothing(self):
        before = self.create("guarded", A=b"kept").message["secret"]
        other = "00000000-0000-4000-8000-000000000000"
        place = {"name": "guarded", "environment": "prod"}
        for method, fields, reason in (
                ("UpdateSecretValues", {"patch": {"set": values(A=b"x")}, "expected_version": 2}, "VERSION_MISMATCH"),
                ("UpdateSecretValues", {"replace": {"values": values(A=b"x")}, "expected_uid": other}, "UID_MISMATCH"),
                ("DeleteSecret", {"etag": "1-2"}, "ETAG_MISMATCH"), ("DeleteSecret", {"expected_uid": other}, "UID_MISMATCH")):
            answer = self.call(SECRET + method, {**place, **fields})
            self.assertEqual((answer.code, answer.reason), (10, reason))
        self.assertEqual(self.get("guarded").message["secret"], before)
        self.assertEqual(self.value(self.resolve("prod", "guarded.A"), "guarded", "A"), b"kept")

    def test_secret_in_another_environment_is_another_secret(self):
        first = self.create("same", environment="env1", A=b"1").message["secret"]
        second = self.create("same", environment="env2", A=b"2").message["secret"]
        self.assertNotEqual(first["uid"], second["uid"])
        self.assertEqual([self.value(self.resolve(e, "same.A"), "same", "A") for e in ("env1", "env2")], [b"1", b"2"])
        self.call(SECRET + "DeleteSecret", {"name": "same", "environment": "env1"})
        self.assertEqual(self.get("same", "env1").reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.get("same", "env2").code, 0)

    def test_deleted_secret_is_gone_for_everything_but_the_list_that_asks_for_it(self):
        self.create("dead", A=b"1")
        place = {"name": "dead", "environment": "prod"}
        self.assertEqual(self.call(SECRET + "DeleteSecret", place).code, 0)
        self.assertEqual(self.get("dead").reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.update("dead", patch={"set": values(A=b"2")}).reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.call(SECRET + "DeleteSecret", place).reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.resolve("prod", "dead.A")["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")

    def test_names_are_case_sensitive(self):
        self.create("Case", A=b"upper")
        self.create("case", A=b"lower", a=b"key")
        self.assertEqual(self.value(self.resolve("prod", "Case.A"), "Case", "A"), b"upper")
        self.assertEqual(self.value(self.resolve("prod", "case.a"), "case", "a"), b"key")
        self.assertEqual(self.get("CASE").reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.resolve("Prod", "case.A")["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")

    def test_metadata_over_its_limits_is_refused_with_the_field(self):
        fine = {"name": "meta", "environment": "prod", "values": values(A=b"1"), "description": "d" * 1000,
                "tags": ["t" * 100] * 50}
        self.assertEqual(self.call(SECRET + "CreateSecret", fine).code, 0)
        cases = [("description", "d" * 1001, "FIELD_INVALID", "description"), ("tags", ["t"] * 51, "LIMIT_EXCEEDED", "tags"),
                 ("tags", ["a", "t" * 101], "FIELD_INVALID", "tags[1]"), ("tags", [""], "FIELD_INVALID", "tags[0]"),
                 ("expire_time", {"seconds": 1 << 60}, "FIELD_INVALID", "expire_time"),
                 ("type", 99, "NOT_AVAILABLE", "type")]
        for field, value, reason, path in cases:
            answer = self.call(SECRET + "CreateSecret", {**fine, "name": "meta2", field: value})
            self.assertEqual((answer.reason, answer.fields), (reason, [path]), (field, value))
        self.assertEqual(self.get("meta2").reason, "SECRET_NOT_FOUND")

    def test_sum_of_a_secret_is_limited_for_patches_too(self):
        full = os.urandom(65536)
        self.create("sum", A=full, B=full, C=full)
        self.assertEqual(self.update("sum", patch={"set": values(D=full)}).code, 0)
        over = self.update("sum", patch={"set": values(E=b"1")})
        self.assertEqual((over.reason, over.fields), ("LIMIT_EXCEEDED", ["values"]))
        self.assertEqual(self.update("sum", patch={"set": values(E=b"1"), "remove": ["A"]}).code, 0)
        self.create("keys", **{f"K{i}": b"" for i in range(100)})
        self.assertEqual(self.update("keys", patch={"set": values(L=b"")}).reason, "LIMIT_EXCEEDED")
        self.assertEqual(self.update("keys", patch={"set": values(L=b""), "remove": ["K7"]}).code, 0)
        many = self.update("keys", patch={"remove": [f"K{i}" for i in range(101)]})
        self.assertEqual((many.reason, many.fields), ("LIMIT_EXCEEDED", ["patch.remove"]))

    def test_expected_uid_and_etag_guard_against_another_secret_of_the_name(self):
        first = self.create("guard").message["secret"]
        other = "00000000-0000-4000-8000-000000000000"
        self.assertEqual(self.update("guard", patch={"set": values(A=b"")}, expected_uid=other).reason, "UID_MISMATCH")
        self.assertEqual(self.update("guard", patch={"set": values(A=b"")}, expected_uid="x").reason, "FIELD_INVALID")
        delete = {"name": "guard", "environment": "prod", "etag": "9-9"}
        self.assertEqual(self.call(SECRET + "DeleteSecret", delete).reason, "ETAG_MISMATCH")
        delete = {"name": "guard", "environment": "prod", "etag": first["etag"], "expected_uid": first["uid"]}
        self.assertEqual(self.call(SECRET + "DeleteSecret", delete).message["secret"]["state"],
                         "SECRET_STATE_DELETED")

    def test_deleted_name_can_be_created_again_as_another_secret(self):
        first = self.create("again", A=b"old").message["secret"]
        self.call(SECRET + "DeleteSecret", {"name": "again", "environment": "prod"})
        self.assertEqual(self.resolve("prod", "again.A")["outcomes"], ["OUTCOME_SECRET_NOT_FOUND"])
        second = self.create("again", A=b"new").message["secret"]
        self.assertNotEqual(first["uid"], second["uid"])
        self.assertEqual(self.value(self.resolve("prod", "again.A"), "again", "A"), b"new")

    def test_list_is_sorted_filtered_and_paged_without_gaps(self):
        names = [f"list{i:02}" for i in range(25)]
        for i, name in enumerate(reversed(names)):
            self.create(name, environment="pages" if i % 2 else "pages2")
        seen, token = [], ""
        while True:
            page = self.call(SECRET + "ListSecrets", {"name_prefix": "list", "page_size": 7, "page_token": token})
            seen += [secret["name"] for secret in page.message["secrets"]]
            token = page.message["next_page_token"]
            if not token:
                break
        self.assertEqual(seen, names)
        half = self.call(SECRET + "ListSecrets", {"name_prefix": "list", "environments": ["pages"]})
        self.assertEqual(len(half.message["secrets"]), 12)
        self.assertEqual(self.call(SECRET + "ListSecrets", {"page_token": "AAAA"}).reason, "PAGE_TOKEN_INVALID")

    def test_concurrent_patches_lose_nothing(self):
        self.create("race", START=b"")
        threads = [threading.Thread(target=self.patch_once, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        secret = self.get("race").message["secret"]
        self.assertEqual((secret["version"], len(secret["keys"])), (17, 17))

    def patch_once(self, index):
        with self.dev.connect() as connection:
            answer = connection.call(SECRET + "UpdateSecretValues", {
                "name": "race", "environment": "prod",
                "patch": {"set": values(**{f"K{index}": b"x"})}}, token=self.dev.admin)
            assert answer.code == 0, answer

    def test_repeat_of_a_write_is_answered_with_the_first_answer(self):
        request_id = uuid7()
        first = self.create("repeat", request_id=request_id)
        again = self.create("repeat", request_id=request_id)
        self.assertEqual((again.code, again.payload), (0, first.payload))
        self.assertEqual(self.get("repeat").message["secret"]["version"], 1)

    def test_request_id_of_another_call_is_refused(self):
        request_id = uuid7()
        self.create("first", request_id=request_id)
        self.assertEqual(self.create("second", request_id=request_id).reason, "REQUEST_ID_REUSED")

    def test_failed_write_is_not_remembered_and_runs_again(self):
        request_id = uuid7()
        self.create("fails")
        self.assertEqual(self.create("fails", request_id=request_id).reason, "SECRET_EXISTS")
        self.call(SECRET + "DeleteSecret", {"name": "fails", "environment": "prod"})
        self.assertEqual(self.create("fails", request_id=request_id).code, 0)

    def test_concurrent_attempts_of_one_request_have_one_effect(self):
        request_id, answers = uuid7(), []

        def attempt():
            with self.dev.connect() as connection:
                answers.append(connection.call(SECRET + "CreateSecret", {
                    "name": "attempts", "environment": "prod", "values": values(A=b"1")},
                    token=self.dev.admin, request_id=request_id))
        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({answer.code for answer in answers}, {0})
        self.assertEqual(len({answer.payload for answer in answers}), 1)

    def test_request_ids_that_are_old_or_ahead_or_no_uuid7_are_refused_for_writes(self):
        hour = 3600 * 1000
        now = self.now_ms()
        for age, code in ((-22 * hour, 0), (-24 * hour, 3), (hour // 15, 0), (hour // 6, 3)):
            answer = self.create(f"age{age}", request_id=uuid7(now + age))
            self.assertEqual(answer.code, code, age)
        self.assertEqual(self.create("late", request_id=uuid7(now - 24 * hour)).reason, "REQUEST_ID_EXPIRED")
        self.assertEqual(self.create("v4", request_id=os.urandom(6) + b"\x40" + os.urandom(9)).reason,
                         "REQUEST_ID_INVALID")
        self.assertEqual(self.create("none", request_id=b"").reason, "REQUEST_ID_INVALID")
        self.assertEqual(self.create("short", request_id=b"123").reason, "REQUEST_ID_INVALID")


if __name__ == "__main__":
    unittest.main(verbosity=2)
