#!/usr/bin/env python3
"""The life of a secret: metadata, names, versions, deletion and return, copies, comparison, and values shown."""

import os
import pathlib
import random
import subprocess
import tempfile
import unittest

import context
from context import ENVIRONMENT, RESOLVE, SECRET
from cofferd import values, wait_for
from sp_client import uuid7

NOBODY = "00000000-0000-4000-8000-000000000000"
SEED = int(os.environ.get("TEST_SEED", random.SystemRandom().randrange(1 << 48)))


class LifecycleTest(context.AccessTest):
    def create(self, name, environment="prod", **pairs):
        answer = self.call(SECRET + "CreateSecret", {
            "name": name, "environment": environment, "values": values(**(pairs or {"KEY": b"v1"}))})
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def replace(self, name, environment="prod", **pairs):
        answer = self.call(SECRET + "UpdateSecretValues", {
            "name": name, "environment": environment, "replace": {"values": values(**pairs)}})
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def ask(self, method, name, environment="prod", token=None, **fields):
        return self.call(SECRET + method, {"name": name, "environment": environment, **fields}, token=token)

    def done(self, method, name, environment="prod", **fields):
        answer = self.ask(method, name, environment, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def get(self, name, environment="prod"):
        return self.done("GetSecret", name, environment)

    def held(self, name, key="KEY", environment="prod"):
        """The value that a resolve gives."""
        return self.value(self.resolve(environment, f"{name}.{key}"), name, key)

    def versions(self, name, size=0, environment="prod"):
        """All versions, page by page."""
        found, token = [], ""
        while True:
            answer = self.ask("ListSecretVersions", name, environment, page_size=size, page_token=token)
            self.assertEqual(answer.code, 0, answer)
            found += answer.message["versions"]
            token = answer.message["next_page_token"]
            if not token:
                return found

    def reveal(self, name, token=None, **fields):
        return self.ask("RevealSecret", name, token=token, **fields)

    def revealed(self, name, **fields):
        answer = self.reveal(name, **fields)
        self.assertEqual(answer.code, 0, answer)
        return {pair["key"]: pair["value"] for pair in answer.message["values"]}


class Metadata(LifecycleTest):
    def test_fields_of_the_mask_change_and_no_others(self):
        before = self.create("told")
        after = self.done("UpdateSecret", "told", update_mask={"paths": ["description", "tags"]},
                          description="for the scanner", tags=["b", "a"], block_when_expired=True,
                          expire_time={"seconds": 4000000000})
        self.assertEqual((after["description"], after["tags"], after["version"]), ("for the scanner", ["b", "a"], 1))
        self.assertEqual((after["block_when_expired"], after["expire_time"]), (False, None))
        self.assertEqual((after["uid"], after["keys"]), (before["uid"], before["keys"]))
        self.assertNotEqual(after["etag"], before["etag"])
        self.assertEqual(self.get("told"), after)
        self.assertEqual(self.held("told"), b"v1")

    def test_field_in_the_mask_that_is_not_given_is_emptied(self):
        self.create("emptied")
        mask = ["description", "tags", "expire_time", "block_when_expired"]
        full = self.done("UpdateSecret", "emptied", update_mask={"paths": mask}, description="d", tags=["t"],
                         expire_time={"seconds": 4000000000}, block_when_expired=True)
        self.assertEqual((full["expire_time"]["seconds"], full["block_when_expired"]), (4000000000, True))
        empty = self.done("UpdateSecret", "emptied", update_mask={"paths": mask})
        self.assertEqual([empty[field] for field in mask], ["", [], None, False])

    def test_mask_that_is_empty_or_names_what_cannot_change_is_refused(self):
        self.create("masked")
        for mask in (None, {"paths": []}):
            answer = self.ask("UpdateSecret", "masked", **({"update_mask": mask} if mask else {}), description="x")
            self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["update_mask"]))
        for path in ("name", "type", "values", "uid", "nonsense", ""):
            answer = self.ask("UpdateSecret", "masked", update_mask={"paths": ["tags", path]}, tags=["t"])
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["update_mask.paths[1]"]))
        self.assertEqual(self.get("masked")["tags"], [])

    def test_limits_of_metadata_hold_in_a_change_too(self):
        self.create("limits")
        for fields, field in (({"description": "x" * 1001}, "description"), ({"tags": ["x"] * 51}, "tags"),
                              ({"tags": ["x" * 101]}, "tags[0]"), ({"tags": [""]}, "tags[0]")):
            answer = self.ask("UpdateSecret", "limits", update_mask={"paths": ["description", "tags"]}, **fields)
            self.assertEqual(answer.fields, [field], answer)

    def test_stale_etag_or_foreign_uid_changes_nothing(self):
        secret = self.create("stale")
        first = self.done("UpdateSecret", "stale", update_mask={"paths": ["tags"]}, tags=["1"], etag=secret["etag"])
        mask = {"paths": ["tags"]}
        answer = self.ask("UpdateSecret", "stale", update_mask=mask, tags=["2"], etag=secret["etag"])
        self.assertEqual(answer.reason, "ETAG_MISMATCH")
        answer = self.ask("UpdateSecret", "stale", update_mask=mask, tags=["2"], expected_uid=NOBODY)
        self.assertEqual(answer.reason, "UID_MISMATCH")
        self.assertEqual(self.get("stale"), first)

    def test_repeat_of_a_change_is_answered_with_the_first_answer(self):
        self.create("repeated")
        request = {"name": "repeated", "environment": "prod", "update_mask": {"paths": ["tags"]}, "tags": ["once"]}
        one = uuid7()
        first, second = (self.call(SECRET + "UpdateSecret", request, request_id=one) for _ in range(2))
        self.assertEqual((first.code, first.payload), (0, second.payload))


class Names(LifecycleTest):
    def test_secret_keeps_uid_values_and_versions_under_its_new_name(self):
        before = self.create("old")
        self.replace("old", KEY=b"v2")
        after = self.done("RenameSecret", "old", new_name="new")
        self.assertEqual((after["uid"], after["name"], after["version"]), (before["uid"], "new", 2))
        self.assertEqual(self.held("new"), b"v2")
        self.assertEqual([v["version"] for v in self.versions("new")], [2, 1])
        self.assertEqual(self.ask("GetSecret", "old").reason, "SECRET_NOT_FOUND")
        self.create("old", KEY=b"another")
        self.assertEqual((self.held("old"), self.held("new")), (b"another", b"v2"))

    def test_name_that_is_taken_reserved_or_the_same_is_refused(self):
        self.create("mover")
        self.create("taken")
        for new_name, reason in (("taken", "SECRET_EXISTS"), ("x_oauth", "NAME_RESERVED"), ("mover", "FIELD_INVALID"),
                                 ("", "FIELD_REQUIRED"), ("a b", "FIELD_INVALID")):
            self.assertEqual(self.ask("RenameSecret", "mover", new_name=new_name).reason, reason, new_name)
        self.assertEqual((self.held("mover"), self.held("taken")), (b"v1", b"v1"))

    def test_renaming_needs_the_right_to_write_both_names(self):
        self.create("team-a")
        token = self.token_for([{"permissions": ["secret:write"], "names": ["team-*"]}])
        self.assertEqual(self.ask("RenameSecret", "team-a", token=token, new_name="other").reason, "PERMISSION_DENIED")
        outside = self.token_for([{"permissions": ["secret:write"], "names": ["other*"]}])
        self.assertEqual(self.ask("RenameSecret", "team-a", token=outside, new_name="other").reason, "PERMISSION_DENIED")
        self.assertEqual(self.ask("RenameSecret", "team-a", token=token, new_name="team-b").code, 0)

    def test_of_many_that_take_one_name_at_once_one_has_it(self):
        for i in range(6):
            self.create(f"racer{i}")
        answers = [answer for i in range(6)
                   for answer in self.together(2, SECRET + "RenameSecret", {
                       "name": f"racer{i}", "environment": "prod", "new_name": "prize"})]
        self.assertEqual(sum(answer.code == 0 for answer in answers), 1)
        self.assertTrue({answer.reason for answer in answers} <= {"", "SECRET_EXISTS", "SECRET_NOT_FOUND"})


class Versions(LifecycleTest):
    def test_versions_are_listed_newest_first_in_pages_with_their_keys_and_who_wrote_them(self):
        self.create("listed", KEY=b"1")
        for i in range(2, 8):
            self.replace("listed", **{f"KEY{i}": b"x" * i})
        principal = self.call("coffer.v1.TokenService/GetCaller").message["service_account"]["uid"]
        for size in (0, 1, 2, 3, 7):
            found = self.versions("listed", size)
            self.assertEqual([v["version"] for v in found], [7, 6, 5, 4, 3, 2, 1], size)
        self.assertEqual([v["state"].removeprefix("SECRET_VERSION_STATE_") for v in found], ["CURRENT"] + ["REPLACED"] * 6)
        self.assertEqual([(k["name"], k["size"]) for k in found[2]["keys"]], [("KEY5", 5)])
        self.assertEqual({v["principal"] for v in found}, {principal})
        times = [v["create_time"]["seconds"] for v in found]
        self.assertEqual(times, sorted(times, reverse=True))

    def test_rolling_back_writes_a_new_version_with_the_old_values(self):
        self.create("back", KEY=b"first")
        self.replace("back", KEY=b"second", MORE=b"x")
        secret = self.done("RollBackSecret", "back", version=1)
        self.assertEqual((secret["version"], [k["name"] for k in secret["keys"]]), (3, ["KEY"]))
        self.assertEqual(self.held("back"), b"first")
        self.assertEqual(self.revealed("back", version=2), {"KEY": b"second", "MORE": b"x"})

    def test_rolling_back_checks_what_is_expected(self):
        self.create("expected", KEY=b"1")
        self.replace("expected", KEY=b"2")
        for fields, reason in (({"version": 1, "expected_version": 1}, "VERSION_MISMATCH"),
                               ({"version": 1, "expected_uid": NOBODY}, "UID_MISMATCH"),
                               ({"version": 2}, "FIELD_INVALID"), ({"version": 3}, "VERSION_NOT_FOUND"),
                               ({}, "FIELD_REQUIRED"), ({"version": 1 << 63}, "FIELD_INVALID")):
            self.assertEqual(self.ask("RollBackSecret", "expected", **fields).reason, reason, fields)
        self.assertEqual(self.get("expected")["version"], 2)

    def test_destroyed_version_has_no_values_anywhere_in_the_database(self):
        self.create("destroyed", KEY=b"1")
        uid = self.replace("destroyed", KEY=b"2")["uid"]
        before = self.get("destroyed")
        after = self.done("DestroySecretVersion", "destroyed", version=1)
        self.assertEqual((after["version"], self.held("destroyed")), (2, b"2"))
        self.assertNotEqual(after["etag"], before["etag"])
        self.assertEqual(self.sql(f"select count(*) from secret_version where secret_id = '{uid}' and blob is not null"), "0")
        self.assertEqual([v["state"].removeprefix("SECRET_VERSION_STATE_") for v in self.versions("destroyed")],
                         ["CURRENT", "DESTROYED"])
        for answer in (self.ask("RollBackSecret", "destroyed", version=1), self.reveal("destroyed", version=1),
                       self.ask("DestroySecretVersion", "destroyed", version=1)):
            self.assertEqual((answer.code, answer.reason), (9, "VERSION_DESTROYED"))

    def test_50_versions_are_kept(self):
        self.create("kept", KEY=b"1")
        for i in range(2, 54):
            self.replace("kept", KEY=b"%d" % i)
        self.assertEqual([v["version"] for v in self.versions("kept", 20)], list(range(53, 3, -1)))
        self.assertEqual(self.revealed("kept", version=4), {"KEY": b"4"})
        self.assertEqual(self.reveal("kept", version=3).reason, "VERSION_NOT_FOUND")

    def test_current_version_is_not_destroyed(self):
        self.create("current")
        answer = self.ask("DestroySecretVersion", "current", version=1)
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["version"]))
        self.assertEqual(self.held("current"), b"v1")

    def test_version_whose_bytes_were_changed_is_corrupted_and_the_others_are_not(self):
        uid = self.create("flipped", KEY=b"1")["uid"]
        self.replace("flipped", KEY=b"2")
        self.replace("flipped", KEY=b"3")
        self.sql(f"update secret_version set blob = set_byte(blob, 40, get_byte(blob, 40) # 1) where secret_id = '{uid}'"
                 " and version = 2")
        self.assertEqual(self.reveal("flipped", version=2).reason, "CORRUPTED")
        self.assertEqual(self.ask("RollBackSecret", "flipped", version=2).reason, "CORRUPTED")
        self.assertEqual(self.revealed("flipped", version=1), {"KEY": b"1"})

    def test_old_values_moved_to_another_version_or_secret_do_not_open(self):
        one, other = self.create("moved", KEY=b"1")["uid"], self.create("moved2", KEY=b"other")["uid"]
        for name in ("moved", "moved2"):
            for i in range(2, 4):
                self.replace(name, KEY=b"%d" % i)
        self.sql(f"update secret_version t set keys = f.keys, blob = f.blob from secret_version f where t.secret_id = '{one}'"
                 f" and t.version = 1 and f.secret_id = '{other}' and f.version = 1")
        self.sql(f"update secret_version t set keys = f.keys, blob = f.blob from secret_version f where t.secret_id = '{other}'"
                 f" and t.version = 1 and f.secret_id = '{other}' and f.version = 2")
        for name in ("moved", "moved2"):
            self.assertEqual(self.reveal(name, version=1).reason, "CORRUPTED")


class Return(LifecycleTest):
    def test_deleted_secret_comes_back_with_uid_values_and_versions(self):
        secret = self.create("gone", KEY=b"1")
        self.replace("gone", KEY=b"2")
        self.done("DeleteSecret", "gone")
        self.assertEqual(self.ask("GetSecret", "gone").reason, "SECRET_NOT_FOUND")
        back = self.done("RestoreSecret", "gone")
        self.assertEqual((back["uid"], back["version"], back["state"], back["delete_time"]),
                         (secret["uid"], 2, "SECRET_STATE_ACTIVE", None))
        self.assertEqual(self.held("gone"), b"2")
        self.assertEqual(self.revealed("gone", version=1), {"KEY": b"1"})

    def test_of_several_deleted_ones_the_last_comes_back_or_the_one_that_is_named(self):
        uids = []
        for i in range(3):
            uids.append(self.create("again", KEY=b"%d" % i)["uid"])
            self.done("DeleteSecret", "again")
        self.assertEqual(self.done("RestoreSecret", "again")["uid"], uids[2])
        self.done("DeleteSecret", "again")
        self.assertEqual(self.done("RestoreSecret", "again", uid=uids[0])["uid"], uids[0])
        self.assertEqual(self.held("again"), b"0")

    def test_restoring_onto_a_taken_name_is_refused(self):
        uid = self.create("occupied", KEY=b"old")["uid"]
        self.done("DeleteSecret", "occupied")
        self.create("occupied", KEY=b"new")
        answer = self.ask("RestoreSecret", "occupied", uid=uid)
        self.assertEqual((answer.code, answer.reason), (6, "SECRET_EXISTS"))
        self.assertEqual(self.held("occupied"), b"new")

    def test_after_30_days_and_for_unknown_ones_there_is_nothing_to_restore(self):
        uid = self.create("late")["uid"]
        self.done("DeleteSecret", "late")
        self.sql(f"update secret set delete_time = delete_time - interval '30 days 1 hour' where secret_id = '{uid}'")
        self.assertEqual(self.ask("RestoreSecret", "late").reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.ask("RestoreSecret", "never").reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.ask("RestoreSecret", "late", uid="nonsense").fields, ["uid"])

    def test_environment_that_is_gone_is_made_again(self):
        self.create("alone", "passing")
        self.done("DeleteSecret", "alone", "passing")
        self.assertEqual(self.call(ENVIRONMENT + "DeleteEnvironment", {"name": "passing"}).code, 0)
        self.done("RestoreSecret", "alone", "passing")
        names = [e["name"] for e in self.call(ENVIRONMENT + "ListEnvironments", {}).message["environments"]]
        self.assertIn("passing", names)
        self.assertEqual(self.held("alone", environment="passing"), b"v1")

    def test_damaged_row_does_not_come_back(self):
        uid = self.create("broken")["uid"]
        self.done("DeleteSecret", "broken")
        self.sql(f"update secret set description = 'changed' where secret_id = '{uid}'")
        self.assertEqual(self.ask("RestoreSecret", "broken").reason, "CORRUPTED")


class Purge(LifecycleTest):
    SETTINGS = {"COFFERD_JOBS__PURGE_INTERVAL": "100ms"}

    def rows(self, uid):
        return [self.sql(f"select count(*) from {table} where secret_id = '{uid}'") for table in ("secret", "secret_version")]

    def test_secret_deleted_more_than_30_days_ago_goes_with_its_versions_and_no_other_does(self):
        secrets = {}
        for name in ("old", "young", "alive"):
            secrets[name] = self.create(name)["uid"]
            self.replace(name, KEY=b"2")
        for name, days in (("old", 31), ("young", 29)):
            self.done("DeleteSecret", name)
            self.sql(f"update secret set delete_time = now() - interval '{days} days' where secret_id = '{secrets[name]}'")
        wait_for(lambda: self.rows(secrets["old"]) == ["0", "0"], "the deleted secret is still there")
        self.assertEqual((self.rows(secrets["young"]), self.rows(secrets["alive"])), (["1", "1"], ["1", "1"]))
        self.assertEqual(self.held("alive"), b"2")

    def test_record_that_is_too_old_to_be_repeated_goes_and_younger_ones_are_answered_again(self):
        one, other = uuid7(), uuid7()
        request = {"name": "recorded", "environment": "prod", "values": values(KEY=b"v")}
        first = self.call(SECRET + "CreateSecret", request, request_id=one)
        self.call(SECRET + "UpdateSecret", {"name": "recorded", "environment": "prod", "update_mask": {"paths": ["tags"]}},
                  request_id=other)
        for request_id, hours in ((one, 24), (other, 26)):
            self.sql(f"update request set create_time = now() - interval '{hours} hours' where request_id = '{request_id.hex()}'")

        def count(request_id):
            return self.sql(f"select count(*) from request where request_id = '{request_id.hex()}'")
        wait_for(lambda: count(other) == "0", "the old record is still there")
        self.assertEqual(count(one), "1")
        self.assertEqual(self.call(SECRET + "CreateSecret", request, request_id=one).payload, first.payload)


class Copies(LifecycleTest):
    def test_copy_is_a_secret_of_its_own_with_the_same_values_and_metadata(self):
        self.create("copied", KEY=b"1", MORE=os.urandom(300))
        self.done("UpdateSecret", "copied", update_mask={"paths": ["description", "tags"]}, description="d", tags=["t"])
        copy = self.done("CopySecret", "copied", target_environment="stage")
        source = self.get("copied")
        self.assertNotEqual(copy["uid"], source["uid"])
        self.assertEqual((copy["environment"], copy["version"], copy["description"], copy["tags"], copy["keys"]),
                         ("stage", 1, "d", ["t"], source["keys"]))
        self.replace("copied", KEY=b"2")
        self.assertEqual((self.held("copied", environment="stage"), self.held("copied")), (b"1", b"2"))

    def test_target_that_exists_gets_a_new_version_only_if_that_is_asked_for(self):
        self.create("twice", KEY=b"source")
        uid = self.create("twice", "stage", KEY=b"target")["uid"]
        answer = self.ask("CopySecret", "twice", target_environment="stage")
        self.assertEqual((answer.code, answer.reason), (6, "SECRET_EXISTS"))
        self.assertEqual(self.held("twice", environment="stage"), b"target")
        copy = self.done("CopySecret", "twice", target_environment="stage", overwrite=True)
        self.assertEqual((copy["uid"], copy["version"]), (uid, 2))
        self.assertEqual(self.held("twice", environment="stage"), b"source")

    def test_copying_needs_reveal_at_the_source_and_write_at_the_target(self):
        self.create("guarded", KEY=b"secret")
        reveal = {"permissions": ["secret:reveal"], "environments": ["prod"]}
        write = {"permissions": ["secret:write"], "environments": ["stage"]}
        everywhere = {"permissions": ["secret:write", "secret:read", "resolve"]}
        for rules in ([everywhere], [reveal], [write], [{**reveal, "environments": ["stage"]}, write]):
            answer = self.ask("CopySecret", "guarded", token=self.token_for(rules), target_environment="stage")
            self.assertEqual(answer.reason, "PERMISSION_DENIED", rules)
        answer = self.ask("CopySecret", "guarded", token=self.token_for([reveal, write]), target_environment="stage")
        self.assertEqual(answer.code, 0, answer)

    def test_copy_onto_itself_or_to_and_from_reserved_names_is_refused(self):
        self.create("self")
        self.assertEqual(self.ask("CopySecret", "self", target_environment="prod").fields, ["target_environment"])
        answer = self.ask("CopySecret", "self", target_environment="stage", target_name="github_oauth")
        self.assertEqual((answer.reason, answer.fields), ("NAME_RESERVED", ["target_name"]))
        self.assertEqual(self.ask("CopySecret", "nothing", target_environment="stage").reason, "SECRET_NOT_FOUND")
        self.done("CopySecret", "self", target_environment="prod", target_name="self2")
        self.assertEqual(self.held("self2"), b"v1")

    def test_damaged_source_is_not_copied_and_damaged_target_is_overwritten(self):
        source, target = self.create("harmed", KEY=b"s")["uid"], self.create("harmed", "stage", KEY=b"t")["uid"]
        self.sql(f"update secret set tags = array['x'] where secret_id = '{target}'")
        self.assertEqual(self.done("CopySecret", "harmed", target_environment="stage", overwrite=True)["state"],
                         "SECRET_STATE_ACTIVE")
        self.assertEqual(self.held("harmed", environment="stage"), b"s")
        self.sql(f"update secret set tags = array['x'] where secret_id = '{source}'")
        self.assertEqual(self.ask("CopySecret", "harmed", target_environment="stage", overwrite=True).reason, "CORRUPTED")


class Comparison(LifecycleTest):
    def compare(self, here, there, size=0, token=None, **fields):
        found, page = {}, ""
        while True:
            answer = self.call(SECRET + "CompareEnvironments", {
                "environment": here, "other_environment": there, "page_size": size, "page_token": page, **fields}, token=token)
            self.assertEqual(answer.code, 0, answer)
            differences = answer.message["differences"]
            self.assertLessEqual(len(differences), size or 100)
            self.assertEqual([d["name"] for d in differences], sorted(d["name"] for d in differences))
            found.update({d["name"]: (d["difference"].removeprefix("DIFFERENCE_"),
                                      {k["key"]: k["difference"].removeprefix("DIFFERENCE_") for k in d["keys"]})
                          for d in differences})
            page = answer.message["next_page_token"]
            if not page:
                return found

    def fill(self):
        self.create("same", "left", A=b"1", B=b"2")
        self.create("same", "right", A=b"1", B=b"2")
        self.create("changed", "left", A=b"1", B=b"2", C=b"3")
        self.create("changed", "right", A=b"1", B=b"x", D=b"4")
        self.create("here", "left")
        self.create("there", "right")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fill(cls("compare"))

    def test_names_and_keys_are_the_same_changed_or_on_one_side_only(self):
        keys = {"A": "SAME", "B": "CHANGED", "C": "ONLY_HERE", "D": "ONLY_THERE"}
        expected = {"same": ("SAME", {"A": "SAME", "B": "SAME"}), "changed": ("CHANGED", keys),
                    "here": ("ONLY_HERE", {}), "there": ("ONLY_THERE", {})}
        for size in (0, 1, 2, 3, 4):
            self.assertEqual(self.compare("left", "right", size), expected, size)
        turned = self.compare("right", "left")
        self.assertEqual((turned["here"][0], turned["there"][0]), ("ONLY_THERE", "ONLY_HERE"))
        self.assertEqual(set(self.compare("left", "right", name_prefix="h")), {"here"})

    def test_who_may_not_reveal_both_sees_present_or_missing(self):
        read = {"permissions": ["secret:read"]}
        for rules in ([read], [read, {"permissions": ["secret:reveal"], "environments": ["left"]}]):
            found = self.compare("left", "right", token=self.token_for(rules))
            self.assertEqual(found["same"], ("PRESENT", {"A": "PRESENT", "B": "PRESENT"}))
            self.assertEqual(found["changed"], ("CHANGED", {"A": "PRESENT", "B": "PRESENT", "C": "ONLY_HERE",
                                                            "D": "ONLY_THERE"}))

    def test_names_out_of_sight_are_not_told_and_do_not_count(self):
        token = self.token_for([{"permissions": ["secret:read"], "names": ["there", "same"]}])
        for size in (0, 1):
            self.assertEqual({name: what for name, (what, _) in self.compare("left", "right", size, token=token).items()},
                             {"same": "PRESENT", "there": "ONLY_THERE"})
        left = self.token_for([{"permissions": ["secret:read"], "environments": ["left"]}])
        answer = self.call(SECRET + "CompareEnvironments", {"environment": "left", "other_environment": "right"}, token=left)
        self.assertEqual(answer.reason, "PERMISSION_DENIED")

    def test_damaged_secret_is_told_as_such_and_hides_no_other(self):
        uid = self.create("hurt", "left")["uid"]
        self.create("hurt", "right")
        self.sql(f"update secret set tags = array['x'] where secret_id = '{uid}'")
        found = self.compare("left", "right")
        self.assertEqual((found["hurt"], found["same"][0]), (("CORRUPTED", {}), "SAME"))
        self.done("DeleteSecret", "hurt", "left")
        self.done("DeleteSecret", "hurt", "right")

    def test_random_environments_are_compared_as_a_dictionary_would(self):
        print(f"TEST_SEED={SEED}", flush=True)
        lot = random.Random(SEED)
        sides = {"lot-a": {}, "lot-b": {}}
        for environment, held in sides.items():
            for i in range(40):
                if lot.random() < 0.7:
                    held[f"n{i}"] = {key: lot.choice([b"1", b"2"]) for key in "ABC" if lot.random() < 0.8 or key == "A"}
                    self.create(f"n{i}", environment, **held[f"n{i}"])
        expected = {}
        for name in set(sides["lot-a"]) | set(sides["lot-b"]):
            a, b = (held.get(name) for held in sides.values())
            if a is None or b is None:
                expected[name] = ("ONLY_THERE" if a is None else "ONLY_HERE", {})
                continue
            keys = {key: "ONLY_THERE" if key not in a else "ONLY_HERE" if key not in b else
                    "SAME" if a[key] == b[key] else "CHANGED" for key in set(a) | set(b)}
            expected[name] = ("SAME" if set(keys.values()) == {"SAME"} else "CHANGED", keys)
        self.assertEqual(self.compare("lot-a", "lot-b", lot.randint(1, 9)), expected)

    def test_environment_compared_with_itself_is_refused(self):
        answer = self.call(SECRET + "CompareEnvironments", {"environment": "left", "other_environment": "left"})
        self.assertEqual(answer.fields, ["other_environment"])


class Versions(LifecycleTest):
    def keys(self, answer):
        return {key["key"]: key["difference"].removeprefix("DIFFERENCE_") for key in answer["keys"]}

    def fill(self):
        self.create("pair", A=b"1", B=b"2", C=b"3")
        self.done("UpdateSecretValues", "pair", patch={"set": values(B=b"x", D=b"4"), "remove": ["C"]})
        self.done("UpdateSecretValues", "pair", patch={"set": values(B=b"2")})

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fill(cls("keys"))

    def test_keys_of_two_versions_are_the_same_changed_or_in_one_only(self):
        for here, there, numbers, expected in (
                (1, 2, (1, 2), {"A": "SAME", "B": "CHANGED", "C": "ONLY_HERE", "D": "ONLY_THERE"}),
                (1, 0, (1, 3), {"A": "SAME", "B": "SAME", "C": "ONLY_HERE", "D": "ONLY_THERE"}),
                (0, 2, (3, 2), {"A": "SAME", "B": "CHANGED", "D": "SAME"}), (3, 0, (3, 3), {"A": "SAME", "B": "SAME", "D": "SAME"})):
            answer = self.ask("CompareVersions", "pair", version=here, other_version=there).message
            self.assertEqual(self.keys(answer), expected)
            self.assertEqual((answer["version"], answer["other_version"]), numbers)
            self.assertEqual(answer["difference"], "DIFFERENCE_SAME" if set(expected.values()) == {"SAME"} else "DIFFERENCE_CHANGED")

    def test_who_may_not_reveal_is_not_told_which_values_are_the_same(self):
        answer = self.ask("CompareVersions", "pair", version=1, token=self.token_for([{"permissions": ["secret:read"]}]))
        self.assertEqual(self.keys(answer.message), {"A": "PRESENT", "B": "PRESENT", "C": "ONLY_HERE", "D": "ONLY_THERE"})
        self.assertEqual(self.ask("CompareVersions", "pair", token=self.token_for([{"permissions": ["resolve"]}])).reason, "PERMISSION_DENIED")

    def test_version_that_is_not_there_or_destroyed_is_told(self):
        self.create("gone", A=b"1")
        self.done("UpdateSecretValues", "gone", patch={"set": values(A=b"2")})
        self.assertEqual(self.ask("CompareVersions", "gone", version=7).reason, "VERSION_NOT_FOUND")
        self.done("DestroySecretVersion", "gone", version=1)
        self.assertEqual(self.ask("CompareVersions", "gone", version=1).reason, "VERSION_DESTROYED")
        self.assertEqual(self.ask("CompareVersions", "nobody", version=1).reason, "SECRET_NOT_FOUND")
        self.assertEqual(self.ask("CompareVersions", "gone", other_version=2**63).reason, "FIELD_INVALID")


class Reveal(LifecycleTest):
    def test_values_of_any_version_are_shown_all_or_those_asked_for(self):
        self.create("shown", A=b"1", B=os.urandom(50), C=b"")
        self.replace("shown", A=b"2")
        self.assertEqual(self.revealed("shown"), {"A": b"2"})
        self.assertEqual(set(self.revealed("shown", version=1)), {"A", "B", "C"})
        answer = self.reveal("shown", version=1, keys=["C", "A"])
        self.assertEqual([(pair["key"], pair["value"]) for pair in answer.message["values"]], [("A", b"1"), ("C", b"")])
        secret = answer.message["secret"]
        self.assertEqual((secret["version"], [key["name"] for key in secret["keys"]]), (1, ["A", "C"]))

    def test_version_or_key_that_is_not_there_shows_nothing(self):
        self.create("partly", A=b"1")
        answer = self.reveal("partly", keys=["A", "B"])
        self.assertEqual((answer.reason, answer.fields), ("KEY_NOT_FOUND", ["keys[1]"]))
        self.assertEqual(self.reveal("partly", version=2).reason, "VERSION_NOT_FOUND")
        self.assertEqual(self.reveal("nowhere").reason, "SECRET_NOT_FOUND")

    def test_reveal_is_a_permission_of_its_own(self):
        self.create("own", A=b"1")
        others = [{"permissions": ["resolve", "secret:read", "secret:write", "environment:read"]}]
        self.assertEqual(self.reveal("own", token=self.token_for(others)).reason, "PERMISSION_DENIED")
        narrow = self.token_for([{"permissions": ["secret:reveal"], "names": ["own"]}])
        self.assertEqual(self.reveal("own", token=narrow).code, 0)
        self.assertEqual(self.reveal("other", token=narrow).reason, "PERMISSION_DENIED")

    def test_no_other_method_shows_a_value(self):
        value = os.urandom(16).hex().encode()
        self.create("hidden", A=value)
        for method, fields in (("GetSecret", {}), ("ListSecretVersions", {}), ("RenameSecret", {"new_name": "hidden2"}),
                               ("RenameSecret", {"new_name": "hidden"}), ("CopySecret", {"target_environment": "stage"}),
                               ("UpdateSecret", {"update_mask": {"paths": ["tags"]}}), ("DeleteSecret", {}),
                               ("RestoreSecret", {})):
            name = "hidden2" if fields.get("new_name") == "hidden" else "hidden"
            answer = self.ask(method, name, **fields)
            self.assertEqual(answer.code, 0, (method, answer))
            self.assertNotIn(value, answer.payload)
        answer = self.call(SECRET + "CompareEnvironments", {"environment": "prod", "other_environment": "stage"})
        self.assertNotIn(value, answer.payload)

    def test_what_was_revealed_is_resolved_the_same(self):
        self.create("equal", A=os.urandom(1000))
        item = {"environments": ["prod"], "references": [{"name": "equal", "key": "A"}]}
        result = self.call(RESOLVE, {"items": [item]}).message["results"][0]
        self.assertEqual(self.revealed("equal")["A"], self.value(result, "equal", "A"))


class Types(LifecycleTest):
    """Structured secrets; the keys are made here, for this run."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with tempfile.TemporaryDirectory() as folder:
            cls.folder = pathlib.Path(folder)
            for name, options in (("plain", ["-N", ""]), ("locked", ["-N", "a passphrase"])):
                cls.run_program("ssh-keygen", "-q", "-t", "ed25519", "-C", "test", *options, "-f", f"{folder}/{name}")
            cls.fingerprint = cls.run_program("ssh-keygen", "-l", "-f", f"{folder}/plain.pub").split()[1]
            for name, days in (("good", "30"), ("other", "30")):
                cls.run_program("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                                "-subj", f"/CN={name}.example", "-days", days, "-keyout", f"{folder}/{name}.key",
                                "-out", f"{folder}/{name}.pem")
            cls.files = {path.name: path.read_bytes() for path in cls.folder.iterdir()}

    @staticmethod
    def run_program(*arguments):
        return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout

    def store(self, name, kind, **pairs):
        return self.call(SECRET + "CreateSecret", {"name": name, "environment": "prod", "type": "SECRET_TYPE_" + kind,
                                                   "values": values(**pairs)})

    def test_ssh_key_is_stored_with_its_facts_and_unix_line_ends(self):
        key = self.files["plain"]
        answer = self.store("deploy", "SSH_KEY", PRIVATE_KEY=key.strip().replace(b"\n", b"\r\n"))
        self.assertEqual(answer.code, 0, answer)
        facts = answer.message["secret"]["facts"]
        self.assertEqual((facts["key_type"], facts["fingerprint"]), ("ed25519", self.fingerprint))
        self.assertEqual(self.held("deploy", "PRIVATE_KEY"), key)
        self.assertEqual(self.get("deploy")["facts"], facts)
        listed = self.call(SECRET + "ListSecrets", {"types": ["SECRET_TYPE_SSH_KEY"], "name_prefix": "dep"}).message["secrets"]
        self.assertEqual([(secret["name"], secret["facts"]) for secret in listed], [("deploy", facts)])

    def test_certificate_is_stored_with_its_key_only_if_they_belong_together(self):
        good = {"TLS_CERTIFICATE": self.files["good.pem"], "TLS_PRIVATE_KEY": self.files["good.key"]}
        answer = self.store("edge", "MTLS", **good)
        self.assertEqual(answer.code, 0, answer)
        facts = answer.message["secret"]["facts"]
        self.assertIn("good.example", facts["subject"])
        self.assertGreater(facts["certificate_expire_time"]["seconds"], self.now_ms() // 1000)
        answer = self.store("edge2", "MTLS", **{**good, "TLS_PRIVATE_KEY": self.files["other.key"]})
        self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["values.TLS_CERTIFICATE"]))
        self.assertNotIn(b"PRIVATE KEY-----", answer.payload)

    def test_values_are_checked_whole_whenever_they_change(self):
        self.assertEqual(self.store("chain", "MTLS", TLS_CERTIFICATE=self.files["good.pem"],
                                    TLS_PRIVATE_KEY=self.files["good.key"]).code, 0)
        place = {"name": "chain", "environment": "prod"}
        for change in ({"patch": {"set": values(TLS_PRIVATE_KEY=self.files["other.key"])}},
                       {"patch": {"set": values(MORE=b"x")}}, {"patch": {"remove": ["TLS_PRIVATE_KEY"]}},
                       {"replace": {"values": values(KEY=b"v")}}):
            self.assertEqual(self.call(SECRET + "UpdateSecretValues", {**place, **change}).code, 3, change.keys())
        both = values(TLS_CERTIFICATE=self.files["other.pem"], TLS_PRIVATE_KEY=self.files["other.key"])
        changed = self.call(SECRET + "UpdateSecretValues", {**place, "patch": {"set": both}}).message["secret"]
        self.assertIn("other.example", changed["facts"]["subject"])
        back = self.done("RollBackSecret", "chain", version=1)
        self.assertIn("good.example", back["facts"]["subject"])
        copy = self.done("CopySecret", "chain", target_environment="stage")
        self.assertEqual((copy["type"], copy["facts"]), ("SECRET_TYPE_MTLS", back["facts"]))

    def test_wrong_keys_encrypted_keys_and_unknown_types_are_refused(self):
        for kind, pairs, field in (
                ("SSH_KEY", {"PRIVATE_KEY": self.files["locked"]}, "values.PRIVATE_KEY"),
                ("SSH_KEY", {"PRIVATE_KEY": b"no key"}, "values.PRIVATE_KEY"),
                ("SSH_KEY", {"KEY": self.files["plain"]}, None), ("SSH_KEY", {"PRIVATE_KEY": self.files["plain"], "X": b""}, None),
                ("CA_CERT", {"CA_CERTIFICATE": self.files["good.key"]}, "values.CA_CERTIFICATE"),
                ("GITHUB_APP", {"GITHUB_APP_ID": b"abc", "GITHUB_APP_PRIVATE_KEY": b"x"}, None)):
            answer = self.store("refused", kind, **pairs)
            self.assertEqual(answer.code, 3, (kind, answer))
            if field is not None:
                self.assertEqual(answer.fields, [field])
        answer = self.call(SECRET + "CreateSecret", {"name": "refused", "type": 77, "values": values(K=b"v")})
        self.assertEqual(answer.fields, ["type"])

    def test_damaged_structured_secret_is_overwritten_whole_with_any_values(self):
        for name, pairs, kind in (("harmed1", {"PRIVATE_KEY": self.files["plain"]}, "SSH_KEY"), ("harmed2", {"K": b"v"}, "CUSTOM")):
            uid = self.store(name, "SSH_KEY", PRIVATE_KEY=self.files["plain"]).message["secret"]["uid"]
            self.sql(f"update secret set tags = array['x'] where secret_id = '{uid}'")
            after = self.replace(name, **pairs)
            self.assertEqual((after["type"], after["state"]), ("SECRET_TYPE_" + kind, "SECRET_STATE_ACTIVE"))

    def test_secret_of_another_type_is_no_target_of_a_copy(self):
        self.store("typed", "SSH_KEY", PRIVATE_KEY=self.files["plain"])
        self.create("typed", "stage")
        answer = self.ask("CopySecret", "typed", target_environment="stage", overwrite=True)
        self.assertEqual(answer.reason, "SECRET_EXISTS")


if __name__ == "__main__":
    unittest.main()
