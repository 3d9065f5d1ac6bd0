#!/usr/bin/env python3
"""Tokens that take the place of others: the same rights, an overlap, and nothing that goes beyond the issuer."""

import time
import unittest

import context
from cofferd import wait_for
from context import ACCOUNT, SECRET, SYSTEM, TOKEN
from sp_client import uuid7

ROTATE = TOKEN + "RotateToken"
HOUR = {"seconds": 3600}
NOBODY = "00000000-0000-4000-8000-000000000000"


class Rotation(context.AccessTest):
    def rotate(self, uid="", overlap=None, token=None, request_id=None, **fields):
        options = {} if request_id is None else {"request_id": request_id}
        return self.call(ROTATE, {"token_uid": uid, "overlap": overlap or HOUR, **fields}, token=token, **options)

    def issued(self, rules, account=None, **fields):
        """(UUID, text, name of the account) of a new token."""
        name, answer = self.account(rules, **(account or {}))
        self.assertEqual(answer.code, 0, answer)
        answer = self.issue(name, **fields)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["token"]["uid"], answer.message["secret_text"], name

    def listed(self, name, **fields):
        answer = self.call(TOKEN + "ListTokens", {"service_account": name, **fields})
        self.assertEqual(answer.code, 0, answer)
        return {token["uid"]: token for token in answer.message["tokens"]}

    def test_successor_may_do_what_its_predecessor_may_and_both_work_for_the_overlap(self):
        uid, old, name = self.issued([{"permissions": ["secret:read", "secret:write"]}], description="deploy",
                                     restrictions=[{"permissions": ["secret:read"], "names": ["only*"]}])
        answer = self.rotate(uid)
        new = answer.message["secret_text"]
        self.assertEqual((self.works(old), self.works(new)), ("OK", "OK"))
        self.assertNotEqual(new, old)
        for token in (old, new):
            self.assertEqual(self.call(SECRET + "GetSecret", {"name": "only1"}, token=token).reason, "SECRET_NOT_FOUND")
            self.assertEqual(self.call(SECRET + "GetSecret", {"name": "other"}, token=token).reason, "PERMISSION_DENIED")
        tokens = self.listed(name)
        before, after = tokens[uid], tokens[answer.message["token"]["uid"]]
        for field in ("restrictions", "description", "service_account", "kind"):
            self.assertEqual(before[field], after[field])
        self.assertEqual((before["successor_uid"], after["successor_uid"]), (after["uid"], ""))
        self.assertEqual(answer.message["predecessor"]["uid"], uid)
        self.assertAlmostEqual(before["expire_time"]["seconds"], time.time() + 3600, delta=120)
        self.assertIsNone(after.get("expire_time"))

    def test_predecessor_ends_with_the_overlap_and_the_successor_goes_on(self):
        uid, old, _ = self.issued([{"permissions": ["secret:read"]}])
        new = self.rotate(uid, overlap={"seconds": 0, "nanos": 1}).message["secret_text"]
        wait_for(lambda: self.works(old) == "TOKEN_EXPIRED", "the overlap is over")
        self.assertEqual(self.works(new), "OK")
        uid, old, _ = self.issued([{"permissions": ["secret:read"]}])
        self.assertEqual(self.rotate(uid, overlap={"seconds": 0}).code, 0)
        self.assertEqual(self.works(old), "TOKEN_EXPIRED")

    def test_overlap_does_not_prolong_a_token(self):
        soon = int(time.time()) + 600
        uid, _, _ = self.issued([{"permissions": ["secret:read"]}], expire_time={"seconds": soon})
        answer = self.rotate(uid)
        self.assertEqual(answer.message["predecessor"]["expire_time"]["seconds"], soon)

    def test_successor_lives_as_long_as_its_predecessor_was_to_live(self):
        end = int(time.time()) + 5000
        uid, _, _ = self.issued([{"permissions": ["secret:read"]}], expire_time={"seconds": end})
        successor = self.rotate(uid).message["token"]
        lives = successor["expire_time"]["seconds"] - successor["create_time"]["seconds"]
        self.assertAlmostEqual(lives, 5000, delta=120)
        asked = self.rotate(successor["uid"], expire_time={"seconds": end + 9000}).message["token"]
        self.assertEqual(asked["expire_time"]["seconds"], end + 9000)

    def test_overlap_must_be_given_and_is_bounded(self):
        uid, _, _ = self.issued([{"permissions": ["secret:read"]}])
        self.assertEqual(self.call(ROTATE, {"token_uid": uid}).reason, "FIELD_REQUIRED")
        month = 30 * 24 * 3600
        for overlap in ({"seconds": -1}, {"seconds": month + 1}, {"nanos": -1}, {"nanos": 10**9}, {"seconds": 2**62}):
            answer = self.rotate(uid, overlap=overlap)
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["overlap"]), overlap)
        self.assertEqual(self.rotate(uid, overlap={"seconds": month}).code, 0)
        for end in ({"seconds": 1}, {"seconds": 2**60}):
            self.assertEqual(self.rotate(uid, expire_time=end).fields, ["expire_time"])

    def test_token_that_ended_or_was_rotated_before_is_not_rotated(self):
        uid, _, _ = self.issued([{"permissions": ["secret:read"]}])
        self.assertEqual(self.rotate(uid).code, 0)
        self.assertEqual(self.rotate(uid).reason, "TOKEN_ENDED")
        uid, _, _ = self.issued([{"permissions": ["secret:read"]}])
        self.call(TOKEN + "RevokeToken", {"token_uid": uid})
        self.assertEqual(self.rotate(uid).reason, "TOKEN_ENDED")
        uid, token, _ = self.issued([{"permissions": ["secret:read"]}], expire_time={"seconds": int(time.time()) + 2})
        wait_for(lambda: self.works(token) == "TOKEN_EXPIRED", "the token expires")
        self.assertEqual(self.rotate(uid).reason, "TOKEN_ENDED")
        self.assertEqual(self.rotate(NOBODY).reason, "TOKEN_NOT_FOUND")
        self.assertEqual(self.rotate("no uuid").fields, ["token_uid"])
        uid, _, name = self.issued([{"permissions": ["secret:read"]}])
        self.delete_account(name)
        self.assertEqual(self.rotate(uid).reason, "TOKEN_NOT_FOUND")

    def test_caller_rotates_his_own_token_and_can_ask_for_a_lost_answer_again(self):
        uid, token, _ = self.issued([{"permissions": ["token:write"]}])
        self.assertEqual(self.rotate(token=token, overlap={"seconds": 59}).fields, ["overlap"])
        self.assertEqual(self.rotate(uid, token=token, overlap={"seconds": 59}).fields, ["overlap"])
        request_id = uuid7()
        first, again = (self.rotate(token=token, overlap={"seconds": 60}, request_id=request_id) for _ in range(2))
        self.assertEqual((first.code, again.payload), (0, first.payload))
        self.assertEqual(first.message["predecessor"]["uid"], uid)
        self.assertEqual(self.works(first.message["secret_text"]), "OK")

    def test_rotating_needs_token_write_also_for_the_own_token(self):
        """Else whoever steals a token could go on with its successor when it is revoked."""
        uid, token, _ = self.issued([{"permissions": ["secret:read", "token:read"]}])
        for refused in (self.rotate(token=token), self.rotate(uid, token=token)):
            self.assertEqual((refused.reason, refused.facts["permission"]), ("PERMISSION_DENIED", "token:write"))

    def test_nobody_rotates_a_token_that_may_do_more_than_he(self):
        strong, _, name = self.issued([{"permissions": ["resolve"]}])
        limited = self.token_for([{"permissions": ["token:write"]}, {"permissions": ["resolve"], "names": ["a*"]}])
        self.assertEqual(self.rotate(strong, token=limited).reason, "TOKEN_EXCEEDS_ISSUER")
        weak = self.issue(name, restrictions=[{"permissions": ["resolve"], "names": ["ab"]}]).message["token"]["uid"]
        self.assertEqual(self.rotate(weak, token=limited).code, 0)
        far, _, _ = self.issued([{"permissions": ["token:write"]}])
        bound = self.token_for([{"permissions": ["token:write"]}], networks=["unix"])
        self.assertEqual(self.rotate(far, token=bound).reason, "TOKEN_EXCEEDS_ISSUER")

    def test_successor_does_not_outlive_the_token_that_it_was_made_with(self):
        end = int(time.time()) + 3000
        name, _ = self.account([{"permissions": ["token:write"]}])
        ending = self.issue(name, expire_time={"seconds": end})
        token = ending.message["secret_text"]
        forever, _, _ = self.issued([{"permissions": ["token:write"]}])
        self.assertEqual(self.rotate(forever, token=token, expire_time={"seconds": end + 60}).reason, "TOKEN_EXCEEDS_ISSUER")
        self.assertEqual(self.rotate(forever, token=token).message["token"]["expire_time"]["seconds"], end)
        own = self.rotate(token=token).message
        self.assertEqual(own["token"]["expire_time"]["seconds"], end)

    def test_repeat_does_not_show_the_successor_to_who_could_not_make_it(self):
        name, _ = self.account([{"permissions": ["token:write", "resolve"]}])
        strong = self.issue(name).message["secret_text"]
        weak = self.issue(name, restrictions=[{"permissions": ["token:write"]}]).message["secret_text"]
        victim, _, _ = self.issued([{"permissions": ["resolve"]}])
        request_id = uuid7()
        first = self.rotate(victim, token=strong, request_id=request_id)
        again = self.rotate(victim, token=weak, request_id=request_id)
        self.assertEqual((first.code, again.reason), (0, "TOKEN_EXCEEDS_ISSUER"))
        self.assertNotIn(first.message["secret_text"], again.payload or b"")

    def test_two_rotations_at_once_make_one_successor(self):
        uid, _, name = self.issued([{"permissions": ["resolve"]}])
        answers = self.together(4, ROTATE, {"token_uid": uid, "overlap": HOUR})
        self.assertEqual(sorted(a.reason or "OK" for a in answers), ["OK"] + ["TOKEN_ENDED"] * 3)
        self.assertEqual(len(self.listed(name)), 2)

    def test_token_of_another_workspace_is_not_found(self):
        foreign, admin = self.new_workspace("rotation-other")
        uid = self.call(TOKEN + "GetCaller", token=admin).message["token"]["uid"]
        self.assertEqual(self.rotate(uid).reason, "TOKEN_NOT_FOUND")
        self.assertEqual(self.rotate(uid, workspace=foreign).reason, "PERMISSION_DENIED")

    def test_system_token_rotates_itself_and_those_of_fleet_accounts(self):
        fleet = self.call(TOKEN + "GetCaller", token=self.fleet([{"permissions": ["resolve"]}])).message["token"]["uid"]
        self.assertEqual(self.rotate(fleet, token=self.dev.system).reason, "WORKSPACE_REQUIRED")
        answer = self.rotate(fleet, token=self.dev.system, workspace=SYSTEM)
        self.assertTrue(answer.message["secret_text"].startswith(b"cof_fleet_"), answer)
        own = self.rotate(token=self.dev.system)
        self.assertEqual((self.works(own.message["secret_text"]), self.works(self.dev.system)), ("OK", "OK"))
        tenant = self.call(TOKEN + "GetCaller", token=self.dev.executor).message["token"]["uid"]
        refused = self.rotate(tenant, token=self.dev.system, workspace=self.dev.workspace)
        self.assertEqual(refused.reason, "TOKEN_EXCEEDS_ISSUER")

    def test_row_of_a_rotated_token_that_was_edited_authorises_nothing(self):
        uid, old, _ = self.issued([{"permissions": ["resolve"]}])
        self.assertEqual(self.rotate(uid).code, 0)
        for column, value in (("expire_time", "null"), ("successor_id", f"'{SYSTEM}'")):
            kept = self.sql(f"select {column} from token where token_id = '{uid}'")
            self.sql(f"update token set {column} = {value} where token_id = '{uid}'")
            self.assertEqual(self.works(old), "CORRUPTED")
            self.sql(f"update token set {column} = '{kept}' where token_id = '{uid}'")
        self.assertEqual(self.works(old), "OK")

    def test_list_leaves_out_what_ended_and_finds_what_ends_soon(self):
        name, _ = self.account([{"permissions": ["resolve"]}])
        now = int(time.time())
        uids = [self.issue(name, **fields).message["token"]["uid"] for fields in (
            {}, {"expire_time": {"seconds": now + 1000}}, {"expire_time": {"seconds": now + 9000}}, {}, {})]
        self.call(TOKEN + "RevokeToken", {"token_uid": uids[3]})
        self.rotate(uids[4], overlap={"seconds": 0})
        successor = self.listed(name)[uids[4]]["successor_uid"]
        self.assertEqual(set(self.listed(name)), {*uids, successor})
        self.assertEqual(set(self.listed(name, active_only=True)), {*uids[:3], successor})
        self.assertEqual(set(self.listed(name, expire_before={"seconds": now + 5000})), {uids[1], uids[4]})
        self.assertEqual(set(self.listed(name, expire_before={"seconds": now + 5000}, active_only=True)), {uids[1]})
        answer = self.call(TOKEN + "ListTokens", {"service_account": name, "expire_before": {"seconds": 2**60}})
        self.assertEqual(answer.fields, ["expire_before"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
