#!/usr/bin/env python3
"""Environments: made by the first write or on purpose, never deleted from under a secret."""

import threading
import unittest

import context
from cofferd import values

ENVIRONMENT = "coffer.v1.EnvironmentService/"
SECRET = "coffer.v1.SecretService/"
# Rounds of the race of a delete with a first write.
RACES = 60


class Environments(context.ServerTest):
    def create(self, environment, name="s", token=None, workspace=""):
        return self.call(SECRET + "CreateSecret", {"workspace": workspace, "environment": environment, "name": name,
                                                   "values": values(KEY=b"v")}, token=token)

    def remove(self, name, **fields):
        return self.call(ENVIRONMENT + "DeleteEnvironment", {"name": name, **fields})

    def listed(self, token=None, **fields):
        """name: UUID of every environment, over all pages."""
        found, page = {}, ""
        while True:
            answer = self.call(ENVIRONMENT + "ListEnvironments", {**fields, "page_token": page}, token=token)
            self.assertEqual(answer.code, 0, answer)
            found.update((e["name"], e["uid"]) for e in answer.message["environments"])
            page = answer.message["next_page_token"]
            if not page:
                return found

    def test_first_write_makes_the_environment_and_later_ones_use_it(self):
        self.assertNotIn("first-write", self.listed())
        self.assertEqual(self.create("first-write").code, 0)
        uid = self.listed()["first-write"]
        self.assertEqual(self.create("first-write", "second").code, 0)
        self.assertEqual(self.listed()["first-write"], uid)

    def test_reading_makes_no_environment(self):
        self.assertEqual(self.call(SECRET + "GetSecret", {"environment": "only-read", "name": "s"}).reason,
                         "SECRET_NOT_FOUND")
        self.assertEqual(self.resolve("only-read", "s.KEY")["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")
        self.assertNotIn("only-read", self.listed())

    def test_failed_write_makes_no_environment(self):
        answer = self.call(SECRET + "CreateSecret", {"environment": "failed", "name": "s"})
        self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["values"]))
        self.assertNotIn("failed", self.listed())

    def test_environment_that_was_made_on_purpose_is_not_made_again(self):
        answer = self.call(ENVIRONMENT + "CreateEnvironment", {"name": "on-purpose"})
        self.assertEqual(answer.message["environment"]["name"], "on-purpose")
        again = self.call(ENVIRONMENT + "CreateEnvironment", {"name": "on-purpose"})
        self.assertEqual((again.code, again.reason), (6, "ENVIRONMENT_EXISTS"))
        self.assertEqual(self.listed()["on-purpose"], answer.message["environment"]["uid"])

    def test_names_of_digits_stay_text_and_case_matters(self):
        for name in ("012345678901", "12345678901", "1e3", "true", "Prod", "PROD"):
            self.assertEqual(self.create(name, name).code, 0, name)
            secret = self.call(SECRET + "GetSecret", {"environment": name, "name": name}).message["secret"]
            self.assertEqual((secret["environment"], secret["name"]), (name, name))
        self.assertLessEqual({"012345678901", "12345678901", "1e3", "true", "Prod", "PROD"}, set(self.listed()))
        result = self.resolve("012345678901", "012345678901.KEY")
        self.assertEqual((result["environment"], result["status"]["code"]), ("012345678901", 0))
        self.assertEqual(self.resolve("12345678901", "012345678901.KEY")["status"]["outcome"],
                         "OUTCOME_SECRET_NOT_FOUND")

    def test_names_that_break_the_rule_are_refused_with_the_field(self):
        for name in ("e" * 101, "-a", ".a", "_a", "a b", "a/b", "ä", "a\n"):
            answer = self.call(ENVIRONMENT + "CreateEnvironment", {"name": name})
            self.assertEqual((answer.reason, answer.fields), ("FIELD_INVALID", ["name"]), name)
            self.assertEqual(self.create(name).fields, ["environment"], name)
        self.assertEqual(self.call(ENVIRONMENT + "CreateEnvironment", {"name": "e" * 100}).code, 0)
        for method in ("CreateEnvironment", "DeleteEnvironment"):
            answer = self.call(ENVIRONMENT + method, {})
            self.assertEqual((answer.reason, answer.fields), ("FIELD_REQUIRED", ["name"]), method)

    def test_strict_workspace_has_only_environments_that_somebody_made(self):
        answer = self.call("coffer.v1.WorkspaceService/CreateWorkspace",
                           {"name": "strict", "strict_environments": True}, token=self.dev.system)
        workspace = answer.message["workspace"]["uid"]
        admin = self.admin_of(workspace)
        for name in ("prod", ""):
            refused = self.create(name, token=admin)
            self.assertEqual((refused.code, refused.reason), (5, "ENVIRONMENT_NOT_FOUND"))
            self.assertIn(f'"{name or "default"}"', refused.text)
        self.assertEqual(self.listed(token=admin), {})
        self.assertEqual(self.call(ENVIRONMENT + "CreateEnvironment", {"name": "prod"}, token=admin).code, 0)
        self.assertEqual(self.create("prod", token=admin).code, 0)

    def admin_of(self, workspace):
        rights = ["resolve", "secret:read", "secret:write", "environment:read", "environment:write"]
        self.call("coffer.v1.ServiceAccountService/CreateServiceAccount",
                  {"workspace": workspace, "name": "admin", "grants": [{"permissions": rights}]}, token=self.dev.system)
        return self.call("coffer.v1.TokenService/IssueToken", {"workspace": workspace, "service_account": "admin"},
                         token=self.dev.system).message["secret_text"]

    def test_environment_that_holds_secrets_is_not_deleted(self):
        self.create("full", "a")
        self.create("full", "b")
        refused = self.remove("full")
        self.assertEqual((refused.code, refused.reason), (9, "ENVIRONMENT_NOT_EMPTY"))
        self.assertIn("2 secrets", refused.text)
        for name in "ab":
            self.assertIn("full", self.listed())
            self.call(SECRET + "DeleteSecret", {"environment": "full", "name": name})
        self.assertEqual(self.remove("full").code, 0)
        self.assertNotIn("full", self.listed())
        self.assertEqual(self.remove("full").reason, "ENVIRONMENT_NOT_FOUND")

    def test_expected_uid_keeps_another_environment_of_the_name_from_being_deleted(self):
        old = self.call(ENVIRONMENT + "CreateEnvironment", {"name": "uid"}).message["environment"]["uid"]
        self.assertEqual(self.remove("uid", expected_uid="no uuid").fields, ["expected_uid"])
        self.assertEqual(self.remove("uid", expected_uid=old).code, 0)
        self.create("uid")
        self.call(SECRET + "DeleteSecret", {"environment": "uid", "name": "s"})
        self.assertNotEqual(self.listed()["uid"], old)
        self.assertEqual(self.remove("uid", expected_uid=old).reason, "UID_MISMATCH")
        self.assertEqual(self.remove("uid", expected_uid=self.listed()["uid"]).code, 0)

    def test_delete_that_meets_a_first_write_leaves_no_secret_without_its_environment(self):
        outcomes = set()
        with self.dev.connect() as other:
            for i in range(RACES):
                name = f"race{i}"
                self.call(ENVIRONMENT + "CreateEnvironment", {"name": name})
                answers = self.race(other, name)
                outcomes.add((answers["write"].reason, answers["delete"].reason))
                self.assertEqual(answers["write"].code, 0, answers)
                self.assertIn(answers["delete"].reason, ("", "ENVIRONMENT_NOT_EMPTY"))
                self.assertIn(name, self.listed(), answers)
                self.assertEqual(self.resolve(name, "s.KEY")["status"]["code"], 0)
        print("outcomes (write, delete):", sorted(outcomes), flush=True)

    def race(self, other, name):
        answers = {}
        start = threading.Barrier(2)

        def write():
            start.wait()
            answers["write"] = other.call(SECRET + "CreateSecret", {
                "environment": name, "name": "s", "values": values(KEY=b"v")}, token=self.dev.admin)

        writer = threading.Thread(target=write)
        writer.start()
        start.wait()
        answers["delete"] = self.remove(name)
        writer.join()
        return answers

    def test_only_one_of_many_makes_an_environment(self):
        for method, request, reason in (
                (ENVIRONMENT + "CreateEnvironment", {"name": "contested"}, "ENVIRONMENT_EXISTS"),
                (SECRET + "CreateSecret", {"environment": "contested2", "name": "s", "values": values(K=b"v")},
                 "SECRET_EXISTS")):
            answers = self.together(8, method, request)
            self.assertEqual(sorted(answer.reason for answer in answers), [""] + [reason] * 7)

    def test_pages_of_environments_miss_and_repeat_nothing_that_stays(self):
        stays = {f"page{i:02}" for i in range(20)}
        for name in stays:
            self.call(ENVIRONMENT + "CreateEnvironment", {"name": name})
        seen, page, i = [], "", 0
        while True:
            answer = self.call(ENVIRONMENT + "ListEnvironments", {"page_size": 3, "page_token": page})
            seen += [e["name"] for e in answer.message["environments"]]
            page = answer.message["next_page_token"]
            if not page:
                break
            # Others come and go before and behind the place where the reader stands.
            self.call(ENVIRONMENT + "CreateEnvironment", {"name": f"page{i:02}-come"})
            self.call(ENVIRONMENT + "DeleteEnvironment", {"name": f"page{i:02}-come"})
            i += 1
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual(stays, set(seen))


if __name__ == "__main__":
    unittest.main(verbosity=2)
