#!/usr/bin/env python3
"""What servers answer while PostgreSQL cannot be reached: older states where the workspace permits it, marked, and else
clear failures (serve_when_database_lost)."""

import contextlib
import os
import time
import unittest
import uuid

import context  # first: it knows where the others are
import cli
import token_text
from audit_test import export
from cofferd import STALENESS, Relay, references, values, wait_for
from context import RESOLVE, SECRET, SYSTEM, WORKSPACE

LONG = {"seconds": 900}
MAY_RESOLVE = [{"permissions": ["resolve"]}]


class LostTest(context.AccessTest):
    """`cut` is a server whose way to the database can be cut; writes go through another one, which keeps it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.relay = Relay(cls.dev.directory)
        cls.addClassCleanup(cls.relay.__exit__)
        cls.server = cls.dev.more("cut", COFFERD_DATABASE__CONNINFO=(
            f"host={cls.relay.directory} user=coffer dbname=postgres"), COFFERD_DATABASE__CONNECT_TIMEOUT="1s")
        cls.cut = cls.dev.connect(cls.server.address)
        cls.addClassCleanup(cls.cut.close)

    def serve(self, time, workspace="", token=None):
        return self.call(WORKSPACE + "UpdateWorkspace", {
            "workspace": workspace, "update_mask": {"paths": ["serve_when_database_lost"]},
            "serve_when_database_lost": time}, token=token or self.dev.system)

    def served(self, name, time):
        """A workspace of its own that permits that; (its UUID, its token)."""
        workspace, token = self.new_workspace(name)
        self.create("kept", token=token, K=b"kept value")
        answer = self.serve(time, workspace)
        self.assertEqual(answer.code, 0, answer)
        return workspace, token

    def item(self, *names, **fields):
        return {"references": references(*(f"{name}.K" for name in names)), **fields}

    def ask(self, *items, token=None):
        return self.cut.call(RESOLVE, {"items": list(items)}, token=token or self.dev.admin)

    def keep(self, *items, token=None):
        """Asks so that the server keeps it."""
        answer = self.ask(*items, token=token)
        self.assertEqual({result["status"]["code"] for result in answer.message["results"]}, {0}, answer)
        self.assertEqual({result.get("stale_since") for result in answer.message["results"]}, {None})
        return answer

    @contextlib.contextmanager
    def lost(self):
        """Until the block is left; what is kept is not fresh any more when it is entered."""
        self.relay.cut()
        try:
            time.sleep(1.5 * STALENESS)
            yield
        finally:
            self.relay.restore()
            wait_for(lambda: self.cut.call(SECRET + "ListSecrets", token=self.dev.admin).code == 0,
                     "the database is reached again")

    @staticmethod
    def seconds(stamp):
        return stamp["seconds"] + stamp.get("nanos", 0) / 1e9

    def outcomes(self, answer):
        return [result["status"]["outcome"].removeprefix("OUTCOME_") for result in answer.message["results"]]


class Answers(LostTest):
    def test_older_state_is_answered_where_the_workspace_permits_it_marked_and_recorded(self):
        _, token = self.served("permits", LONG)
        self.keep(self.item("kept"), token=token)
        before = time.time()
        with self.lost():
            for _ in range(20):
                answer = self.ask(self.item("kept"), token=token)
                result, = answer.message["results"]
                self.assertEqual(self.value(result, "kept", "K"), b"kept value")
                since = self.seconds(result["stale_since"])
                self.assertLess(since, time.time() - STALENESS)
                self.assertGreater(since, before - 10)
        wanted = str(uuid.UUID(bytes=answer.request_id))
        state = self.server.log.parent / "cut.state"
        record, = [r for r in export(self.dev, state=state) if r.get("request_id") == wanted]
        self.assertEqual([(o["name"], o["keys"]) for o in record["objects"]], [("kept", ["K"])])
        self.assertIn("stale_since", record)
        wait_for(lambda: self.ask(self.item("kept"), token=token).message["results"][0].get("stale_since") is None,
                 "answers are fresh again")

    def test_nothing_older_is_answered_where_the_workspace_does_not_permit_it(self):
        _, token = self.new_workspace("forbids")
        self.create("kept", token=token, K=b"kept value")
        self.keep(self.item("kept"), token=token)
        with self.lost():
            answer = self.ask(self.item("kept"), token=token)
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))

    def test_item_with_a_consistency_token_is_unavailable_and_those_without_are_answered(self):
        _, token = self.served("consistent", LONG)
        state = self.keep(self.item("kept"), token=token).message["results"][0]["consistency_token"]
        with self.lost():
            answer = self.ask(self.item("kept", consistency_token=state), token=token)
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))
            answer = self.ask(self.item("kept", consistency_token=state), self.item("kept"), token=token)
            self.assertEqual(self.outcomes(answer), ["STORE_UNAVAILABLE", "RESOLVED"])
            self.assertEqual([r["status"]["code"] for r in answer.message["results"]], [14, 0])

    def test_what_is_not_kept_is_unavailable_alone(self):
        _, token = self.served("partly", LONG)
        self.create("unread", token=token, K=b"never asked for")
        self.keep(self.item("kept"), token=token)
        with self.lost():
            answer = self.ask(self.item("kept"), self.item("unread"), self.item("kept", "unread"), token=token)
            self.assertEqual(self.outcomes(answer), ["RESOLVED", "STORE_UNAVAILABLE", "STORE_UNAVAILABLE"])
            answer = self.ask(self.item("unread"), token=token)
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))

    def test_what_is_too_much_for_a_quick_answer_is_answered_from_older_state_as_well(self):
        _, token = self.served("much", LONG)
        names = [f"many{i}" for i in range(80)]
        for name in names:
            self.create(name, token=token, K=name.encode())
        self.keep(self.item(*names), token=token)
        with self.lost():
            result, = self.ask(self.item(*names), token=token).message["results"]
            self.assertEqual(len(result["secrets"]), len(names))
            self.assertIn("stale_since", result)

    def test_state_that_is_older_than_permitted_is_not_answered_and_the_reason_says_so(self):
        _, token = self.served("shortly", {"seconds": 3})
        self.keep(self.item("kept"), token=token)
        with self.lost():
            self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=token)), ["RESOLVED"])
            answer = wait_for(lambda: (a := self.ask(self.item("kept"), token=token)).code and a,
                              "what is kept grows too old")
            self.assertEqual((answer.code, answer.reason), (14, "DATABASE_UNAVAILABLE"))
            self.assertIn("serve_when_database_lost", answer.text)

    def test_fleet_token_gets_older_state_of_the_workspaces_that_permit_it_and_of_no_other(self):
        permits, one = self.served("fleet-permits", LONG)
        forbids, two = self.new_workspace("fleet-forbids")
        self.create("kept", token=two, K=b"kept value")
        fleet = self.fleet(MAY_RESOLVE)
        items = [self.item("kept", workspace=workspace) for workspace in (permits, forbids)]
        self.keep(*items, token=fleet)
        self.keep(self.item("kept"), token=one)
        with self.lost():
            self.assertEqual(self.outcomes(self.ask(*items, token=fleet)), ["RESOLVED", "STORE_UNAVAILABLE"])
            self.assertEqual(self.ask(items[1], token=fleet).reason, "DATABASE_UNAVAILABLE")

    def test_tokens_are_checked_as_ever(self):
        _, token = self.served("checked", LONG)
        name, _ = self.account(MAY_RESOLVE, token=token)
        ends = int(time.time()) + 4
        soon = self.issue(name, token=token, expire_time={"seconds": ends}).message["secret_text"]
        narrow = self.token_for([{"permissions": ["resolve"], "names": ["other"]}], token=token)
        never = self.token_for(MAY_RESOLVE, token=token)
        for good in (token, soon):
            self.keep(self.item("kept"), token=good)
        self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=narrow)), ["PERMISSION_DENIED"])
        with self.lost():
            self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=narrow)), ["PERMISSION_DENIED"])
            self.assertEqual(self.ask(self.item("kept"), token=never).reason, "DATABASE_UNAVAILABLE")
            kind, where, token_id, _ = token_text.parse(token)
            wrong = token_text.make(kind, where, token_id, os.urandom(token_text.SECRET))
            self.assertEqual(self.ask(self.item("kept"), token=wrong).reason, "TOKEN_INVALID")
            wait_for(lambda: self.ask(self.item("kept"), token=soon).reason == "TOKEN_EXPIRED", "the token works on")
            self.assertEqual(self.outcomes(self.ask(self.item("kept"), token=token)), ["RESOLVED"])

    def test_state_that_a_write_has_ended_is_not_answered_even_if_the_new_one_is_not_known(self):
        _, token = self.served("ended", LONG)
        self.keep(self.item("kept"), token=token)
        self.assertEqual(self.call(SECRET + "UpdateSecretValues", {
            "name": "kept", "patch": {"set": values(K=b"new value")}}, token=token).code, 0)
        time.sleep(STALENESS)  # the server learns of it
        with self.lost():
            self.assertEqual(self.ask(self.item("kept"), token=token).reason, "DATABASE_UNAVAILABLE")


    def test_coffer_says_on_standard_error_that_a_value_is_of_an_older_state(self):
        _, token = self.served("told", LONG)
        variables = cli.environment(self.dev, COFFER_ADDR=self.server.address, COFFER_TOKEN_FILE=None,
                                    COFFER_TOKEN=token.decode() if isinstance(token, bytes) else token)
        self.assertEqual(cli.run(variables, "get", "kept.K")[::2], (0, ""))
        with self.lost():
            code, out, said = cli.run(variables, "get", "kept.K")
            self.assertEqual((code, out.strip()), (0, b"kept value"))
            self.assertRegex(said, r"^coffer: warning: the server has lost its database; this is what it knew at 20.*Z\n$")


class Setting(LostTest):
    def test_setting_is_never_in_a_new_workspace_and_at_most_15_minutes(self):
        workspace, token = self.new_workspace("setting")

        def read():
            return self.call(WORKSPACE + "GetWorkspace", {}, token=token).message["workspace"]["serve_when_database_lost"]

        def brief(time):
            return time.get("seconds", 0), time.get("nanos", 0)
        self.assertEqual(brief(read()), (0, 0))
        for wrong in ({"seconds": 901}, {"seconds": -1}, {"seconds": 900, "nanos": 1}, {"nanos": -1}):
            answer = self.serve(wrong, workspace)
            self.assertEqual((answer.code, answer.reason), (3, "FIELD_INVALID"), wrong)
        answer = self.serve({"seconds": 2, "nanos": 500_000_000}, workspace)
        self.assertEqual(brief(answer.message["workspace"]["serve_when_database_lost"]), (2, 500_000_000))
        for disabled in (True, False):
            self.assertEqual(self.call(WORKSPACE + "UpdateWorkspace", {
                "workspace": workspace, "update_mask": {"paths": ["disabled"]}, "disabled": disabled},
                token=self.dev.system).code, 0)
        self.assertEqual(brief(read()), (2, 500_000_000))
        self.assertEqual(self.serve({}, workspace).code, 0)
        self.assertEqual(brief(read()), (0, 0))
        self.assertEqual(self.serve(LONG, SYSTEM).code, 3)

    def test_setting_needs_the_right_to_change_the_workspace(self):
        _, token = self.new_workspace("rights")
        self.assertEqual(self.serve(LONG, token=token).reason, "PERMISSION_DENIED")
        made = self.call(WORKSPACE + "CreateWorkspace", {"name": "writable"}, token=self.dev.system)
        writer = self.token_for([{"permissions": ["workspace:write"]}], token=self.dev.system,
                                workspace=made.message["workspace"]["uid"])
        self.assertEqual(self.serve(LONG, token=writer).code, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
