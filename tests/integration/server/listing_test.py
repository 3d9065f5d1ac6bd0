#!/usr/bin/env python3
"""Lists of secrets: filters, pages while others write, and rows that were damaged behind the server's back."""

import random
import threading
import unittest

import context
from cofferd import seed, values

SECRET = "coffer.v1.SecretService/"
RESOLVE = context.RESOLVE


class Listing(context.ServerTest):
    def create(self, name, environment="prod", pairs=None, **fields):
        answer = self.call(SECRET + "CreateSecret", {"name": name, "environment": environment,
                                                     "values": values(**(pairs or {"KEY": b"value of a secret"})), **fields})
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def get(self, name, environment="prod"):
        answer = self.call(SECRET + "GetSecret", {"name": name, "environment": environment})
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def pages(self, page_size, between=lambda: None, **filters):
        """All secrets of a list, page after page, with something done between the pages."""
        found, token = [], ""
        while True:
            answer = self.call(SECRET + "ListSecrets", {**filters, "page_size": page_size, "page_token": token})
            self.assertEqual(answer.code, 0, answer)
            self.assertLessEqual(len(answer.message["secrets"]), page_size)
            self.assertNotIn(b"value of a secret", answer.payload)
            found += answer.message["secrets"]
            token = answer.message["next_page_token"]
            if not token:
                return found
            between()

    def names(self, **filters):
        return [secret["name"] for secret in self.pages(1000, **filters)]

    def test_filters_are_by_environment_type_name_prefix_and_tag_and_work_together(self):
        for environment in ("fa", "fb"):
            self.create("filter-one", environment, tags=["team", "x"])
            self.create("filter-two", environment, tags=["team"])
            self.create("other-filter", environment)
        prefix = {"name_prefix": "filter-"}
        self.assertEqual(len(self.pages(1000, **prefix)), 4)
        self.assertEqual(self.names(**prefix, environments=["fa"]), ["filter-one", "filter-two"])
        self.assertEqual(self.names(environments=["fa", "fb"], name_prefix="other"), ["other-filter"] * 2)
        self.assertEqual(self.names(environments=["fa"], tags=["x"]), ["filter-one"])
        self.assertEqual(self.names(environments=["fa"], tags=["x", "team"]), ["filter-one", "filter-two"])
        self.assertEqual(self.names(environments=["fa"], tags=["X"]), [])
        self.assertEqual(len(self.names(environments=["fa"], types=["SECRET_TYPE_CUSTOM"])), 3)
        self.assertEqual(self.names(environments=["fa"], types=["SECRET_TYPE_SSH_KEY"]), [])
        self.assertEqual(self.names(environments=["nowhere"]), [])
        # A prefix is bytes, not a pattern.
        self.assertEqual(self.names(name_prefix="filter_"), [])
        self.assertEqual(self.names(name_prefix="%"), [])

    def test_list_and_get_show_names_sizes_and_metadata_and_no_value(self):
        self.create("shown", pairs={"A": b"value of a secret", "B": b""}, description="what it is for", tags=["t"],
                    expire_time={"seconds": 4102444800})
        for secret in (self.get("shown"), self.pages(1000, name_prefix="shown")[0]):
            self.assertEqual([(k["name"], k["size"], k["blank"]) for k in secret["keys"]], [("A", 17, False), ("B", 0, True)])
            self.assertEqual((secret["description"], secret["tags"], secret["expire_time"]["seconds"], secret["type"]),
                             ("what it is for", ["t"], 4102444800, "SECRET_TYPE_CUSTOM"))
            self.assertEqual((secret["version"], secret["state"]), (1, "SECRET_STATE_ACTIVE"))
        answer = self.call(SECRET + "GetSecret", {"name": "shown", "environment": "prod"})
        self.assertNotIn(b"value of a secret", answer.payload)

    def test_pages_miss_and_repeat_nothing_that_stays_while_others_write(self):
        rng = random.Random(seed())
        stays = {f"page{i:03}" for i in range(60)}
        for name in stays:
            self.create(name, "pages")
        stop = threading.Event()

        def churn():
            with self.dev.connect() as connection:
                while not stop.is_set():
                    name = f"page{rng.randrange(60):03}-{rng.randrange(1000)}"
                    place = {"name": name, "environment": "pages"}
                    connection.call(SECRET + "CreateSecret", {**place, "values": values(K=b"v")}, token=self.dev.admin)
                    connection.call(SECRET + "UpdateSecretValues", {"name": f"page{rng.randrange(60):03}",
                                                                    "environment": "pages",
                                                                    "patch": {"set": values(K=b"w")}}, token=self.dev.admin)
                    if rng.random() < 0.7:
                        connection.call(SECRET + "DeleteSecret", place, token=self.dev.admin)
        writer = threading.Thread(target=churn)
        writer.start()
        try:
            for page_size in (1, 7, 20, 59):
                seen = [secret["name"] for secret in self.pages(page_size, environments=["pages"])]
                self.assertEqual(len(seen), len(set(seen)), "nothing twice")
                self.assertLessEqual(stays, set(seen), "nothing missed")
        finally:
            stop.set()
            writer.join()

    def test_page_has_at_most_what_was_asked_for_and_the_servers_own_limits_hold(self):
        for i in range(110):
            self.create(f"many{i:03}", "many")
        request = {"environments": ["many"]}
        self.assertEqual(len(self.call(SECRET + "ListSecrets", request).message["secrets"]), 100, "the default")
        for size, count in ((1, 1), (99, 99), (110, 110), (1000, 110), (0xFFFFFFFF, 110)):
            answer = self.call(SECRET + "ListSecrets", {**request, "page_size": size})
            self.assertEqual(len(answer.message["secrets"]), count, size)

    def test_page_token_belongs_to_its_list_and_is_not_changed(self):
        for name in "abc":
            self.create(f"token-{name}", "tokens")
        token = self.call(SECRET + "ListSecrets", {"environments": ["tokens"], "page_size": 1}).message["next_page_token"]
        lists = ("coffer.v1.EnvironmentService/ListEnvironments", "coffer.v1.ServiceAccountService/ListServiceAccounts")
        for method in lists:
            answer = self.call(method, {"page_token": token})
            self.assertEqual((answer.code, answer.reason, answer.fields), (3, "PAGE_TOKEN_INVALID", ["page_token"]))
        self.assertEqual(self.call(SECRET + "ListSecrets", {"page_token": token}).code, 0)
        for changed in ("!", "AAAA", token[:-1], token + "A", token[:4], "A" * 10000, token.swapcase()):
            answer = self.call(SECRET + "ListSecrets", {"page_token": changed})
            self.assertEqual((answer.reason, answer.fields), ("PAGE_TOKEN_INVALID", ["page_token"]), changed)
        item = {"items": [{"environments": ["x"], "references": [{"name": "a", "key": "B"}]}], "validate_only": True}
        self.assertEqual(self.call(RESOLVE, {**item, "page_token": token}).reason, "PAGE_TOKEN_INVALID")

    def test_deleted_secrets_are_listed_only_on_request(self):
        first = self.create("gone", "deleted")
        self.call(SECRET + "DeleteSecret", {"name": "gone", "environment": "deleted"})
        second = self.create("gone", "deleted")
        self.call(SECRET + "DeleteSecret", {"name": "gone", "environment": "deleted"})
        third = self.create("gone", "deleted")
        self.assertEqual([s["uid"] for s in self.pages(10, environments=["deleted"])], [third["uid"]])
        found = {s["uid"]: s["state"] for s in self.pages(1, environments=["deleted"], show_deleted=True)}
        self.assertEqual(found, {first["uid"]: "SECRET_STATE_DELETED", second["uid"]: "SECRET_STATE_DELETED",
                                 third["uid"]: "SECRET_STATE_ACTIVE"})
        self.assertEqual(len({first["uid"], second["uid"], third["uid"]}), 3)

    # Damage: what somebody with the database in his hands can do.

    DAMAGES = {
        "row": "update secret set description = 'changed' where secret_id = '{uid}'",
        "mac": "update secret set mac = decode(repeat('00', 32), 'hex') where secret_id = '{uid}'",
        "blob": "update secret set blob = set_byte(blob, 40, get_byte(blob, 40) # 1) where secret_id = '{uid}'",
        "cut": "update secret set blob = substr(blob, 1, 20) where secret_id = '{uid}'",
        "no-blob": "update secret set blob = null where secret_id = '{uid}'",
        "keys": "update secret set keys = keys || '\\x00' where secret_id = '{uid}'",
        "version": "update secret set version = 7 where secret_id = '{uid}'",
        "no-keys": "update secret set keys = '' where secret_id = '{uid}'",
        "generation": "update secret set blob = set_byte(blob, 4, 9) where secret_id = '{uid}'",
    }

    def damaged(self, environment):
        """A good secret, and one for each kind of damage, in one environment."""
        self.create("good", environment)
        for name, statement in self.DAMAGES.items():
            secret = self.create(name, environment)
            self.sql(statement.format(uid=secret["uid"]))

    def test_damaged_secrets_are_listed_as_such_and_hide_no_other(self):
        self.damaged("listed")
        states = {s["name"]: s["state"] for s in self.pages(3, environments=["listed"])}
        self.assertEqual(set(states), {"good", *self.DAMAGES})
        self.assertEqual(states["good"], "SECRET_STATE_ACTIVE")
        # A blob that was changed, not removed, is found when it is opened; lists open nothing.
        for name in set(self.DAMAGES) - {"blob", "cut", "generation"}:
            self.assertEqual(states[name], "SECRET_STATE_CORRUPTED", name)

    def test_damaged_secrets_are_corrupted_in_a_resolve_and_spoil_no_other(self):
        self.damaged("resolved")
        items = [{"id": name, "environments": ["resolved"], "references": [{"name": name, "key": "KEY"}]}
                 for name in ("good", *self.DAMAGES)]
        answer = self.call(RESOLVE, {"items": items})
        self.assertEqual(answer.code, 0, answer)
        outcomes = {r["item_id"]: r["status"]["outcome"] for r in answer.message["results"]}
        self.assertEqual(outcomes, {"good": "OUTCOME_RESOLVED", **dict.fromkeys(self.DAMAGES, "OUTCOME_CORRUPTED")})
        self.assertEqual(answer.payload.count(b"value of a secret"), 1)
        both = self.resolve("resolved", "good.KEY", "mac.KEY", "blob.KEY")
        self.assertEqual(both["outcomes"], ["OUTCOME_RESOLVED", "OUTCOME_CORRUPTED", "OUTCOME_CORRUPTED"])
        self.assertEqual((both["status"]["outcome"], both["secrets"]), ("OUTCOME_CORRUPTED", []))
        self.assertEqual([f["reference"]["name"] for f in both["faults"]], ["mac", "blob"])

    def test_damaged_secret_is_not_patched_but_overwritten_whole(self):
        self.damaged("overwritten")
        for name in self.DAMAGES:
            place = {"name": name, "environment": "overwritten"}
            patched = self.call(SECRET + "UpdateSecretValues", {**place, "patch": {"set": values(NEW=b"n")}})
            self.assertEqual((patched.code, patched.reason), (15, "CORRUPTED"), name)
            whole = self.call(SECRET + "UpdateSecretValues", {**place, "replace": {"values": values(KEY=b"new value")}})
            self.assertEqual(whole.code, 0, (name, whole))
            result = self.resolve("overwritten", f"{name}.KEY")
            self.assertEqual(self.value(result, name, "KEY"), b"new value")
            self.assertEqual(self.get(name, "overwritten")["state"], "SECRET_STATE_ACTIVE")

    def test_damaged_secret_can_be_deleted(self):
        self.damaged("removed")
        for name in self.DAMAGES:
            answer = self.call(SECRET + "DeleteSecret", {"name": name, "environment": "removed"})
            self.assertEqual(answer.code, 0, (name, answer))
        self.assertEqual(self.names(environments=["removed"]), ["good"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
