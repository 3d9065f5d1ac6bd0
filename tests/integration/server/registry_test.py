#!/usr/bin/env python3
"""The registry of actions, and Resolve by an action's name."""

import random
import threading
import unittest

import context
from cofferd import references, seed, values
from sp_client import uuid7

INTEGRATION, RESOLVE, SECRET = "coffer.v1.IntegrationService/", context.RESOLVE, context.SECRET
USER, SERVICE = "OAUTH_GRANT_AUTHORIZATION_CODE", "OAUTH_GRANT_CLIENT_CREDENTIALS"


def declared(name, keys="", optional_keys="", **fields):
    """A declaration; keys are parted by spaces."""
    return {"name": name, "keys": keys.split(), "optional_keys": optional_keys.split(), **fields}


def action(name, *secrets, steps=(), oauth=()):
    return {"name": name, "declarations": {"secrets": list(secrets), "oauth": list(oauth)}, "steps": list(steps)}


def short(outcomes):
    return [outcome.removeprefix("OUTCOME_") for outcome in outcomes]


def given(result):
    """What was handed out: secrets with the keys of each."""
    return {secret["name"]: [pair["key"] for pair in secret["values"]] for secret in result["secrets"]}


class Registry(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store("prod", "full", A=b"value a", B=b"value b", C=b"value c")
        cls.store("prod", "other", X=b"value x", Y=b"value y")

    def setUp(self):
        answer = self.register(replace_all=True)
        self.assertEqual(answer.code, 0, answer)

    @classmethod
    def store(cls, environment, name, **pairs):
        answer = cls.connection.call(SECRET + "CreateSecret", {
            "name": name, "environment": environment, "values": values(**pairs)}, token=cls.dev.admin)
        assert answer.code == 0, answer

    def register(self, *actions, token=None, **fields):
        return self.call(INTEGRATION + "RegisterActions", {"actions": list(actions), **fields}, token=token)

    def registered(self, *actions, **fields):
        answer = self.register(*actions, **fields)
        self.assertEqual((answer.code, answer.message["refused"] if answer.code == 0 else None), (0, []), answer)
        return answer.message

    def counts(self, message):
        return [message[name] for name in ("created", "changed", "unchanged", "deleted")]

    def refusals(self, *actions, **fields):
        """[(index, reason)] of an attempt that must write nothing."""
        before = self.listed()
        message = self.register(*actions, **fields).message
        self.assertEqual((message["written"], message["consistency_token"]), (False, ""))
        self.assertEqual(self.listed(), before)
        return [(refused["index"], refused["reason"]) for refused in message["refused"]]

    def listed(self, **fields):
        return self.call(INTEGRATION + "ListActions", fields).message["actions"]

    def get(self, name):
        answer = self.call(INTEGRATION + "GetAction", {"name": name})
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def by_action(self, name, environment="prod", token=None, **fields):
        return self.resolve(environment, *fields.pop("names", ()), token=token, action=name, **fields)

    # --- Registering

    def test_actions_are_registered_changed_and_left_as_they_were(self):
        first = self.registered(action("tools.a", declared("full", "A")), action("tools.b", steps=["tools.a"]))
        self.assertEqual((first["written"], self.counts(first)), (True, [2, 0, 0, 0]))
        again = self.registered(action("tools.b", steps=["tools.a", "tools.a"]), action("tools.a", declared("full", "A")))
        self.assertEqual((again["written"], self.counts(again), again["generation"], again["consistency_token"]),
                         (False, [0, 0, 2, 0], first["generation"], ""))
        before = {entry["name"]: entry for entry in self.listed()}
        third = self.registered(action("tools.a", declared("full", "A B")), action("tools.c"))
        self.assertEqual((self.counts(third), third["generation"]), ([1, 1, 0, 0], first["generation"] + 1))
        after = {entry["name"]: entry for entry in self.listed()}
        self.assertEqual(sorted(after), ["tools.a", "tools.b", "tools.c"])
        self.assertEqual(after["tools.b"], before["tools.b"])
        self.assertEqual((after["tools.a"]["uid"], after["tools.a"]["create_time"]),
                         (before["tools.a"]["uid"], before["tools.a"]["create_time"]))
        self.assertNotEqual(after["tools.a"]["digest"], before["tools.a"]["digest"])
        self.assertEqual(after["tools.a"]["declarations"]["secrets"][0]["keys"], ["A", "B"])

    def test_registry_is_replaced_as_a_whole(self):
        self.registered(action("tools.a"), action("tools.b"), action("tools.c", declared("full", "A")))
        message = self.registered(action("tools.b"), action("tools.c", declared("full", "B")), action("tools.d"),
                                  replace_all=True)
        self.assertEqual(self.counts(message), [1, 1, 1, 1])
        self.assertEqual([entry["name"] for entry in self.listed()], ["tools.b", "tools.c", "tools.d"])
        self.assertEqual(self.counts(self.registered(replace_all=True)), [0, 0, 0, 3])
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.register().reason, "FIELD_REQUIRED", "nothing is registered by omission")

    def test_write_is_refused_unless_the_registry_has_the_generation_that_was_expected(self):
        generation = self.registered(action("tools.a"))["generation"]
        answer = self.register(action("tools.b"), expected_generation=generation - 1)
        self.assertEqual((answer.code, answer.reason, answer.fields), (10, "GENERATION_MISMATCH", ["expected_generation"]))
        self.assertEqual(len(self.listed()), 1)
        self.assertEqual(self.registered(action("tools.b"), expected_generation=generation)["generation"], generation + 1)
        answer = self.call(INTEGRATION + "DeleteAction", {"name": "tools.a", "expected_generation": generation})
        self.assertEqual(answer.reason, "GENERATION_MISMATCH")
        listing = self.call(INTEGRATION + "ListActions", {}).message
        self.assertEqual((listing["generation"], len(listing["actions"])), (generation + 1, 2))

    def test_one_action_that_is_wrong_keeps_all_from_being_written_and_is_named(self):
        many = [f"tools.s{i}" for i in range(65)]
        wrong = [
            (action("no name"), "FIELD_INVALID"), (action(""), "FIELD_REQUIRED"), (action("1x"), "FIELD_INVALID"),
            (action("t" * 201), "FIELD_INVALID"), (action("tools.x", declared("a b", "K")), "FIELD_INVALID"),
            (action("tools.x", declared("full", "1K")), "FIELD_INVALID"),
            (action("tools.x", declared("full", "", "K!")), "FIELD_INVALID"),
            (action("tools.x", declared("github_oauth", "GITHUB_USER_TOKEN")), "NAME_RESERVED"),
            (action("tools.x", declared("full", type=99)), "FIELD_INVALID"),
            (action("tools.x", oauth=[{"provider": "github"}]), "FIELD_INVALID"),
            (action("tools.x", oauth=[{"provider": "git hub", "grant": USER}]), "FIELD_INVALID"),
            (action("tools.x", oauth=[{"provider": "p" * 95, "grant": USER}]), "FIELD_INVALID"),
            (action("tools.x", steps=["not a name"]), "FIELD_INVALID"), (action("tools.x", steps=many), "LIMIT_EXCEEDED"),
            (action("tools.x", *[declared("full", "A")] * 101), "LIMIT_EXCEEDED"),
            (action("tools.x", declared("full", " ".join(f"K{i}" for i in range(101)))), "LIMIT_EXCEEDED"),
        ]
        for bad, reason in wrong:
            with self.subTest(bad=str(bad)[:80]):
                self.assertEqual(self.refusals(action("tools.good"), bad), [(1, reason)])
        self.assertEqual(self.refusals(*(bad for bad, _ in wrong[:3])), [(0, "FIELD_INVALID"), (1, "FIELD_REQUIRED"),
                                                                         (2, "FIELD_INVALID")])
        self.assertEqual(self.refusals(action("tools.a"), action("tools.b"), action("tools.a")),
                         [(0, "FIELD_INVALID"), (2, "FIELD_INVALID")])
        self.registered(action("t" * 200, *[declared("full", "A")] * 100, steps=many[:64]))

    def test_dry_run_tells_what_would_become_of_the_actions_and_writes_nothing(self):
        self.registered(action("tools.a"), action("tools.b"))
        before = self.listed()
        message = self.registered(action("tools.a", declared("full", "A")), action("tools.c"), replace_all=True,
                                  validate_only=True)
        self.assertEqual((self.counts(message), message["written"]), ([1, 1, 0, 1], False))
        self.assertEqual(self.listed(), before)

    def test_circle_of_steps_is_refused_and_shown(self):
        self.assertEqual(self.refusals(action("tools.self", steps=["tools.self"])), [(0, "ACTION_CYCLE")])
        self.registered(action("tools.a", steps=["tools.b"]), action("tools.b", steps=["tools.c"]))
        message = self.register(action("tools.x"), action("tools.c", steps=["core.any", "tools.a"])).message
        self.assertEqual([(r["index"], r["name"], r["reason"]) for r in message["refused"]], [(1, "tools.c", "ACTION_CYCLE")])
        self.assertIn("tools.a -> tools.b -> tools.c -> tools.a", message["refused"][0]["message"])
        self.assertEqual(len(self.listed()), 2)
        # A replaced registry is looked at as it would be.
        self.registered(action("tools.c", steps=["tools.a"]), action("tools.a"), replace_all=True)
        ring = [action(f"ring.{i:03}", steps=[f"ring.{(i + 1) % 300:03}"]) for i in range(300)]
        message = self.register(*ring).message
        self.assertEqual([(r["index"], r["reason"]) for r in message["refused"]], [(0, "ACTION_CYCLE")])
        self.assertIn("ring.000 -> ring.001 -> ", message["refused"][0]["message"])
        self.assertIn("(284 more) -> ring.000", message["refused"][0]["message"])
        ring[-1]["steps"] = []
        self.registered(*ring)
        self.assertEqual(len(self.get("ring.000")["action"]["steps"]), 1)

    def test_two_writers_do_not_make_a_circle_together(self):
        pairs = 6
        for i in range(pairs):
            self.registered(action(f"a{i}"), action(f"b{i}"))
        answers = []

        def one(name, step):
            with self.dev.connect() as connection:
                for i in range(pairs):
                    answer = connection.call(INTEGRATION + "RegisterActions", {
                        "actions": [action(f"{name}{i}", steps=[f"{step}{i}"])]}, token=self.dev.admin)
                    answers.append((i, answer.message["written"], [r["reason"] for r in answer.message["refused"]]))

        threads = [threading.Thread(target=one, args=arguments) for arguments in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(answers), sorted([(i, True, []) for i in range(pairs)] +
                                                 [(i, False, ["ACTION_CYCLE"]) for i in range(pairs)]))

    def test_registering_happens_once(self):
        request_id = uuid7()
        first = self.register(action("tools.once"))
        answers = [self.call(INTEGRATION + "RegisterActions", {"actions": [action("tools.twice")]}, request_id=request_id)
                   for _ in range(2)]
        self.assertEqual(answers[0].message, answers[1].message)
        self.assertEqual(answers[0].message["generation"], first.message["generation"] + 1)
        self.assertEqual(self.call(INTEGRATION + "ListActions").message["generation"], first.message["generation"] + 1)

    def test_list_has_pages_and_a_filter(self):
        self.registered(*(action(f"tools.n{i:02}") for i in range(25)), action("other.x"))
        names, token = [], ""
        while True:
            message = self.call(INTEGRATION + "ListActions", {
                "page_size": 10, "page_token": token, "name_prefix": "tools."}).message
            names += [entry["name"] for entry in message["actions"]]
            token = message["next_page_token"]
            if not token:
                break
        self.assertEqual(names, [f"tools.n{i:02}" for i in range(25)])
        self.assertEqual(self.call(INTEGRATION + "ListActions", {"page_token": "none"}).reason, "PAGE_TOKEN_INVALID")

    def test_deleted_action_is_gone(self):
        self.registered(action("tools.a"), action("tools.b", steps=["tools.a"]))
        uid = self.get("tools.a")["action"]["uid"]
        delete = INTEGRATION + "DeleteAction"
        self.assertEqual(self.call(delete, {"name": "tools.a", "expected_uid": self.dev.workspace}).reason, "UID_MISMATCH")
        self.assertEqual(self.call(delete, {"name": "tools.a", "expected_uid": "x"}).fields, ["expected_uid"])
        self.assertEqual(self.call(delete, {"name": "tools.a", "expected_uid": uid}).code, 0)
        for method in ("GetAction", "DeleteAction"):
            answer = self.call(INTEGRATION + method, {"name": "tools.a"})
            self.assertEqual((answer.code, answer.reason), (5, "ACTION_NOT_FOUND"))
        self.assertEqual(self.get("tools.b")["unregistered_steps"], ["tools.a"])

    def test_registry_has_a_limit(self):
        limit = self.connection.call("coffer.rpc.v1.ServerService/GetServerInfo").message["limits"]["max_actions_per_workspace"]
        full = [action(f"a{i}") for i in range(limit)]
        self.assertEqual(self.counts(self.registered(*full)), [limit, 0, 0, 0])
        answer = self.register(action("one.more"))
        self.assertEqual((answer.reason, answer.fields), ("LIMIT_EXCEEDED", ["actions"]))
        self.assertEqual(self.register(*full, action("one.more"), replace_all=True).reason, "LIMIT_EXCEEDED")

    # --- Rights

    def test_reading_and_writing_need_their_permissions(self):
        self.registered(action("tools.a"))
        reader = self.token_for([{"permissions": ["integration:read"]}])
        writer = self.token_for([{"permissions": ["integration:write"]}])
        for method, request, right, wrong in (
                ("ListActions", {}, reader, writer), ("ListDefinitions", {}, reader, writer), ("GetAction", {"name": "tools.a"}, reader, writer),
                ("RegisterActions", {"actions": [action("tools.b")]}, writer, reader),
                ("DeleteAction", {"name": "tools.b"}, writer, reader)):
            self.assertEqual(self.call(INTEGRATION + method, request, token=wrong).reason, "PERMISSION_DENIED", method)
            self.assertEqual(self.call(INTEGRATION + method, request, token=right).code, 0, method)

    def test_declaration_gives_no_right(self):
        self.registered(action("tools.a", declared("full", "A"), declared("other", "X")))
        narrow = self.token_for([{"permissions": ["resolve"], "environments": ["prod"], "names": ["full"]}])
        result = self.by_action("tools.a", token=narrow)
        self.assertEqual((short(result["outcomes"]), result["secrets"]), (["RESOLVED", "PERMISSION_DENIED"], []))
        self.registered(action("tools.a", declared("full", "A"), declared("other", "X", optional=True)))
        self.assertEqual(short(self.by_action("tools.a", token=narrow)["outcomes"]), ["RESOLVED", "PERMISSION_DENIED"])

    # --- Resolve

    def test_item_is_resolved_by_its_actions_name_alone(self):
        self.registered(action("tools.a", declared("full", "A", "C Z")))
        for _ in range(3):  # the second time from the cache
            result = self.by_action("tools.a")
            self.assertEqual((short(result["outcomes"]), given(result)),
                             (["RESOLVED", "RESOLVED", "ABSENT"], {"full": ["A", "C"]}))
        self.assertEqual(self.by_action("tools.a", "none")["status"]["outcome"], "OUTCOME_SECRET_NOT_FOUND")

    def test_item_has_references_declarations_and_expressions_besides_its_action(self):
        self.registered(action("tools.a", declared("full", "A")))
        result = self.by_action("tools.a", names=["full.B"], declarations=[declared("full", "C")],
                                expressions=["${{ SECRETS.none.K || SECRETS.other.X }}"])
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "RESOLVED", "SECRET_NOT_FOUND", "RESOLVED", "RESOLVED"])
        self.assertEqual(given(result), {"full": ["A", "B", "C"], "other": ["X"]})
        self.assertEqual(result["expressions"][0]["value"], b"value x")
        # What the action declares to be optional is so for the item's references, too.
        self.registered(action("tools.a", declared("gone", "K", optional=True)))
        result = self.by_action("tools.a", names=["gone.K"])
        self.assertEqual((short(result["outcomes"]), result["status"]["code"]), (["ABSENT", "ABSENT"], 0))

    def test_action_needs_what_its_steps_need_to_any_depth(self):
        chain = [action(f"deep.{i}", steps=[f"deep.{i + 1}", "core.http"]) for i in range(40)]
        chain.append(action("deep.40", declared("full", "A"), declared("none", "K")))
        self.registered(*chain, action("side", declared("full", "", "A B"), declared("none", "K", optional=True)),
                        action("top", declared("other", "X"), steps=["deep.0", "side"]))
        for _ in range(2):
            result = self.by_action("top")
            self.assertEqual(sorted(zip(((f["reference"]["name"]) for f in result["faults"]),
                                        short(f["outcome"] for f in result["faults"]))), [("none", "SECRET_NOT_FOUND")] * 2)
        self.store("deep", "full", A=b"a", B=b"b")
        self.store("deep", "none", K=b"k")
        self.store("deep", "other", X=b"x", Y=b"y")
        self.assertEqual(given(self.by_action("top", "deep")), {"full": ["A", "B"], "none": ["K"], "other": ["X"]})
        got = self.get("top")
        self.assertEqual([(s["name"], s["optional"]) for s in got["needs"]["secrets"]],
                         [("full", False), ("full", False), ("none", False), ("none", True), ("other", False)])
        self.assertEqual(got["unregistered_steps"], ["core.http"])
        self.assertEqual([s["name"] for s in got["action"]["declarations"]["secrets"]], ["other"])

    def test_same_declaration_of_several_steps_is_asked_for_once(self):
        leaves = [action(f"leaf{i}", declared("full", "A"), oauth=[{"provider": "slack", "grant": USER, "optional": True}])
                  for i in range(50)]
        self.registered(*leaves, action("top", steps=[leaf["name"] for leaf in leaves]))
        self.assertEqual(short(self.by_action("top")["outcomes"]), ["RESOLVED", "ABSENT"])

    def test_change_of_a_step_holds_from_the_next_call_on(self):
        self.registered(action("leaf", declared("full", "A")), action("top", steps=["leaf"]))
        self.assertEqual(given(self.by_action("top")), {"full": ["A"]})
        self.registered(action("leaf", declared("full", "B")))
        self.assertEqual(given(self.by_action("top")), {"full": ["B"]})
        self.call(INTEGRATION + "DeleteAction", {"name": "leaf"})
        self.assertEqual((given(self.by_action("top")), self.by_action("top")["status"]["code"]), ({}, 0))

    def test_action_that_is_not_registered_fails_its_item_alone(self):
        self.registered(action("tools.a", declared("full", "A")))
        item = {"environments": ["prod"]}
        results = self.call(RESOLVE, {"items": [
            {**item, "action": "tools.a"}, {**item, "action": "tools.none"}, {**item, "action": "not a name"},
            {**item, "action": "tools.none", "references": references("full.A")}]}).message["results"]
        self.assertEqual(short(r["status"]["outcome"] for r in results),
                         ["RESOLVED", "ACTION_NOT_FOUND", "ITEM_INVALID", "ACTION_NOT_FOUND"])
        self.assertIn('"tools.none"', results[1]["status"]["message"])
        self.assertEqual(results[1]["status"]["code"], 5)

    def test_action_that_needs_more_than_an_item_may_fails_alone(self):
        many = [action(f"part{i}", *[declared(f"s{i}-{k}", " ".join(f"K{n}" for n in range(50))) for k in range(5)])
                for i in range(5)]
        self.registered(*many, action("all", steps=[part["name"] for part in many]), action("tools.a", declared("full", "A")))
        results = self.call(RESOLVE, {"items": [{"environments": ["prod"], "action": name} for name in ("all", "tools.a")]
                                      }).message["results"]
        self.assertEqual(short(r["status"]["outcome"] for r in results), ["TOO_LARGE", "RESOLVED"])
        self.assertIn("1001", results[0]["status"]["message"])

    def test_oauth_that_is_declared_is_a_connection_that_is_not_there(self):
        self.registered(action("tools.gh", declared("full", "A"), oauth=[
            {"provider": "github", "grant": USER}, {"provider": "microsoft_teams", "grant": SERVICE, "optional": True}]))
        result = self.by_action("tools.gh")
        self.assertEqual(short(result["outcomes"]), ["RESOLVED", "CONNECTION_NOT_FOUND", "ABSENT"])
        fault, = result["faults"]
        self.assertEqual(fault["reference"], {"name": "github_oauth", "key": "GITHUB_USER_TOKEN"})
        self.assertIn("connect the provider", fault["message"])
        # The same inline; required wins over optional here as well.
        tokens = [{"provider": "github", "grant": USER, "optional": True}, {"provider": "github", "grant": USER}]
        result = self.resolve("prod", oauth_declarations=tokens)
        self.assertEqual(short(result["outcomes"]), ["CONNECTION_NOT_FOUND"] * 2)
        result = self.resolve("prod", "full.A", oauth_declarations=tokens[:1],
                              expressions=["${{ SECRETS.github_oauth.GITHUB_USER_TOKEN || 'none' }}"])
        self.assertEqual((short(result["outcomes"]), result["status"]["code"]), (["RESOLVED", "ABSENT", "ABSENT"], 0))
        self.assertEqual(self.resolve("prod", oauth_declarations=[{"provider": "github"}])["status"]["outcome"],
                         "OUTCOME_ITEM_INVALID")
        narrow = self.token_for([{"permissions": ["resolve"], "names": ["full"]}])
        self.assertEqual(short(self.by_action("tools.gh", token=narrow)["outcomes"]),
                         ["RESOLVED", "PERMISSION_DENIED", "PERMISSION_DENIED"])

    def test_no_watcher_takes_an_action_for_a_secret(self):
        begun = self.call(SECRET + "WatchSecrets").message["resume_token"]
        self.registered(action("tools.a", declared("full", "A")))
        self.store("watched", "real", K=b"1")
        told = self.call(SECRET + "WatchSecrets", {"resume_token": begun}).message["changes"]
        self.assertEqual([change["name"] for change in told], ["real"])

    def test_damaged_action_is_shown_as_corrupted_and_never_used(self):
        self.registered(action("tools.a", declared("full", "A")), action("tools.b", declared("full", "B")),
                        action("top", steps=["tools.a"]))
        self.sql("update action set declarations = (select declarations from action where name = 'tools.b')"
                 " where name = 'tools.a'")
        self.store("damage", "raise", K=b"a write, so that nothing that is kept is used")
        for name in ("tools.a", "top"):
            result = self.by_action(name)
            self.assertEqual((result["status"]["outcome"], result["secrets"]), ("OUTCOME_CORRUPTED", []), name)
        self.assertEqual(self.by_action("tools.b")["status"]["code"], 0)
        self.assertEqual([(entry["name"], entry["corrupted"], entry["declarations"] is None) for entry in self.listed()],
                         [("tools.a", True, True), ("tools.b", False, False), ("top", False, False)])
        message = self.registered(action("tools.a", declared("full", "A")))
        self.assertEqual(self.counts(message), [0, 1, 0, 0])
        self.assertEqual(given(self.by_action("top")), {"full": ["A"]})

    # --- Preflight

    def test_list_of_actions_is_checked_over_environments_in_one_request(self):
        self.store("partly", "full", A=b"a")
        self.registered(action("tools.a", declared("full", "A")), action("tools.b", declared("full", "B"), declared("other")))
        message = self.call(RESOLVE, {"validate_only": True, "items": [
            {"id": name, "action": name, "environments": ["prod", "partly", "none"]} for name in ("tools.a", "tools.b")
        ]}).message
        self.assertEqual([(r["item_id"], r["environment"], short(r["outcomes"])) for r in message["results"]], [
            ("tools.a", "none", ["SECRET_NOT_FOUND"]),
            ("tools.b", "partly", ["KEY_NOT_FOUND", "SECRET_NOT_FOUND"]),
            ("tools.b", "none", ["SECRET_NOT_FOUND", "SECRET_NOT_FOUND"])])
        self.assertEqual(message["counts"], {"resolved": 3, "failed": 3})

    # --- A model

    def test_answers_agree_with_a_model_for_random_registries(self):
        chosen = random.Random(seed())
        names, keys = ["full", "other", "none"], ["A", "B", "X", "Y", "Z"]
        stored = {"full": {"A", "B", "C"}, "other": {"X", "Y"}}
        for _ in range(12):
            count = chosen.randint(1, 12)
            own = {f"n{i}": [declared(chosen.choice(names), " ".join(chosen.sample(keys, chosen.randint(0, 2))),
                                      " ".join(chosen.sample(keys, chosen.randint(0, 2))),
                                      optional=chosen.random() < 0.5) for _ in range(chosen.randint(0, 2))]
                   for i in range(count)}
            steps = {f"n{i}": [f"n{k}" for k in range(i + 1, count + 1) if chosen.random() < 0.3] for i in range(count)}
            order = list(own)
            chosen.shuffle(order)
            self.registered(*(action(name, *own[name], steps=steps[name]) for name in order), replace_all=True)
            name = chosen.choice(list(own))
            reached, new = set(), {name}
            while new:
                reached |= new
                new = {step for one in new for step in steps.get(one, [])} - reached
            needed = [declaration for one in reached for declaration in own.get(one, [])]
            result = self.by_action(name)
            fails = any(self.fails(declaration, needed, stored) for declaration in needed)
            self.assertEqual(result["status"]["code"] != 0, fails, (name, needed, result["status"]))
            if not fails:
                asked = {(d["name"], key) for d in needed for key in d["keys"] + d["optional_keys"]}
                self.assertEqual({(s, k) for s, ks in given(result).items() for k in ks},
                                 {(s, k) for s, k in asked if k in stored.get(s, ())})

    @staticmethod
    def fails(declaration, needed, stored):
        about = [d for d in needed if d["name"] == declaration["name"]]
        if declaration["name"] not in stored:
            return any(not d["optional"] for d in about)
        there = stored[declaration["name"]]
        if any(key not in there for key in declaration["keys"]):
            return True
        only_optional = not declaration["keys"] and declaration["optional_keys"] and not declaration["optional"]
        return bool(only_optional) and not set(declaration["optional_keys"]) & there


if __name__ == "__main__":
    unittest.main(verbosity=2)
