#!/usr/bin/env python3
"""What integrations need: the catalogue, what actions declare, and where it is complete; operators' files."""

import os
import pathlib
import random
import subprocess
import tempfile
import unittest

import context
from cofferd import COFFERD, references, seed, values
from registry_test import action, declared

INTEGRATION, RESOLVE, SECRET = "coffer.v1.IntegrationService/", context.RESOLVE, context.SECRET
AWS = ("aws", "amazon_s3", "amazon_bedrock")
AWS_MODES = ("AWS_ROLE_ARN", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK")  # with them an access key is not looked at alone
AWS_PAIR = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
OWN = """
integrations:
  - {name: house, keys: [HOUSE_KEY]}
  - {name: slack, keys: [SLACK_BOT_TOKEN], optional_keys: [SLACK_SIGNING_SECRET], replaces: true}
"""
WRONG = [
    ("integrations:\n  - {name: a, keys: [K], colour: red}\n", 'line 2, column 34: an integration has no field "colour"'),
    ("integrations:\n  - {name: a, keys: [K]}\n  - {name: a, keys: [K]}\n", "line 3, column 5: a stands already in line 2"),
    ("integrations:\n  - name: a\n    type: ssh_key\n    keys: [PASSWORD]\n", "line 3, column 11: a secret of this type has no"),
    ("integrations:\n  - {name: a, type: blob, keys: [K]}\n", "line 2, column 21: type is none of custom"),
    ("integrations:\n  - {name: a, keys: [K, K]}\n", "line 2, column 25: the key K stands twice"),
    ("integrations:\n  - {name: a, keys: [K], optional_keys: [K]}\n", "line 2, column 42: the key K stands twice"),
    ("integrations:\n  - {name: a}\n", "line 2, column 5: a has no keys"),
    ("integrations:\n  - {keys: [K]}\n", "line 2, column 5: name is missing"),
    ("integrations:\n  - {name: a b, keys: [K]}\n", "line 2, column 12: "),
    ("integrations:\n  - {name: github_oauth, keys: [K]}\n", "line 2, column 5: github_oauth is the name of an OAuth"),
    ("integrations:\n  - {name: slack, keys: [K]}\n", "line 2: slack is there already"),
    ("integrations:\n  - {name: nobody, keys: [K], replaces: true}\n", "line 2: nobody replaces nothing"),
    ("integrations:\n  - &x {name: a, keys: [K]}\n", "line 2, column 5: an anchor"),
    ("integrations: {}\n", "integrations is no list"),
    ("others: []\n", 'the file has no field "others"'),
    ("", "the file is empty"),
]


class Definitions(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(OWN)
            file.flush()
            cls.SETTINGS = {"COFFERD_INTEGRATIONS__FILES": file.name}
            super().setUpClass()

    def setUp(self):
        self.register(replace_all=True)

    def store(self, environment, name, **fields):
        answer = self.call(SECRET + "CreateSecret", {"environment": environment, "name": name, **fields})
        self.assertEqual(answer.code, 0, answer)

    def register(self, *actions, **fields):
        answer = self.call(INTEGRATION + "RegisterActions", {"actions": list(actions), **fields})
        self.assertEqual(answer.message["refused"], [])

    def pages(self, token=None, **fields):
        page_token, found = "", []
        while True:
            answer = self.call(INTEGRATION + "ListDefinitions", {**fields, "page_token": page_token}, token=token)
            self.assertEqual(answer.code, 0, answer)
            found += answer.message["definitions"]
            page_token = answer.message["next_page_token"]
            if not page_token:
                return found

    def one(self, name, **fields):
        found, = [d for d in self.pages(name_prefix=name, **fields) if d["name"] == name]
        return found

    @staticmethod
    def states(definition):
        return {c["environment"]: (c["state"].removeprefix("DEFINITION_STATE_"), c["missing_keys"])
                for c in definition["environments"]}

    # --- The catalogue

    def test_catalogue_has_what_integrations_need_and_what_the_operator_adds(self):
        found = {d["name"]: d for d in self.pages()}
        self.assertEqual(list(found), sorted(found))
        self.assertEqual(len(found), 88)
        self.assertEqual((found["virustotal"]["keys"], found["virustotal"]["in_catalogue"], found["virustotal"]["actions"]),
                         (["VIRUSTOTAL_API_KEY"], True, 0))
        self.assertEqual((found["aws"]["keys"], len(found["aws"]["optional_keys"]), found["aws"]["optional"]), ([], 6, False))
        self.assertEqual((found["grpc_mtls"]["type"], found["grpc_mtls"]["optional"]), ("SECRET_TYPE_MTLS", True))
        self.assertEqual(found["house"]["keys"], ["HOUSE_KEY"])
        self.assertEqual(found["slack"]["optional_keys"], ["SLACK_SIGNING_SECRET"])

    def test_file_with_a_mistake_ends_the_start_with_file_and_line(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "own.yaml"
            cases = [(path, text, problem) for text, problem in WRONG]
            cases.append((pathlib.Path(directory) / "none.yaml", None, "cannot be opened: No such file"))
            for file, text, problem in cases:
                if text is not None:
                    file.write_text(text)
                with self.subTest(text=text):
                    done = subprocess.run([COFFERD, "serve"], capture_output=True, text=True, timeout=60, env={
                        **os.environ, "COFFERD_INTEGRATIONS__FILES": str(file),
                        "COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
                        "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                        "COFFERD_SERVER__STATE_DIR": f"{directory}/state",
                        "COFFERD_TRANSPORT__LISTEN": f"ipc://{directory}/x.sock"})
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn(str(file), done.stdout + done.stderr)
                    self.assertIn(problem, done.stdout + done.stderr)

    # --- Rule 4 of Resolve, over the whole catalogue

    def structured(self):
        """Keys and values of the types that have a form."""
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/ssh"], check=True)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                            "/CN=test", "-keyout", f"{folder}/key", "-out", f"{folder}/cert"], check=True, capture_output=True)
            ssh, key, cert = (pathlib.Path(folder, name).read_bytes() for name in ("ssh", "key", "cert"))
        return {"SECRET_TYPE_SSH_KEY": {"PRIVATE_KEY": ssh}, "SECRET_TYPE_CA_CERT": {"CA_CERTIFICATE": cert},
                "SECRET_TYPE_MTLS": {"TLS_CERTIFICATE": cert, "TLS_PRIVATE_KEY": key}}

    @staticmethod
    def table(definition, forms):
        """What may be stored under a definition's name, {case: (type, values)}, and the outcomes of its keys then."""
        kind, keys, may = definition["type"], definition["keys"], definition["optional_keys"]
        form, both = forms.get(kind), keys + may
        none = "ABSENT" if definition["optional"] else "SECRET_NOT_FOUND"
        cases = {"absent": (None, [none] * len(both))}
        if form is not None:
            cases["full"] = ((kind, form), ["RESOLVED"] * len(both))
            cases["type"] = (("SECRET_TYPE_CUSTOM", dict.fromkeys(form, b"v")), ["DECLARATION_NOT_SATISFIED"] * len(both))
            return cases
        need_one = not keys and not definition["optional"]

        def case(*lacking, text=b"v"):
            """Without these keys, and of AWS's without those that would choose another mode."""
            lacking = {*lacking, *(AWS_MODES if definition["name"] in AWS else ())}
            held = dict.fromkeys((key for key in both if key not in lacking), text)
            filled = "RESOLVED" if text.strip() else "KEY_EMPTY"
            told = [("KEY_NOT_FOUND" if key in lacking else filled) for key in keys] + [
                "ABSENT" if key in lacking else "RESOLVED" for key in may]
            if need_one and not (held and text.strip()):
                told = ["DECLARATION_NOT_SATISFIED"] * len(may)
            return (kind, {**held, "UNDECLARED": b"v"}), told

        one = keys or (["AWS_REGION"] if "AWS_REGION" in may else may[:1])
        cases.update({"full": case(), "least": case(*(key for key in may if key not in one)), "other": case(*both),
                      "blank": case(text=b" \n"), **{f"without-{key}": case(key) for key in keys}})
        if definition["name"] in AWS:
            secret, told = case("AWS_SECRET_ACCESS_KEY")
            told = ["INCOMPLETE_AWS_KEYS" if key in AWS_PAIR else outcome for key, outcome in zip(both, told)]
            cases["half"] = (secret, told)
        return cases

    def test_every_definition_of_the_catalogue_is_answered_as_rule_four_says(self):
        """Required, optional, incomplete, absent, blank and of the wrong type, each definition as an action may declare it."""
        forms = self.structured()
        definitions = [d for d in self.pages() if d["in_catalogue"]]
        self.assertEqual(len(definitions), 88)
        stored, items, expected = [], [], []
        for definition in definitions:
            for case, (secret, outcomes) in self.table(definition, forms).items():
                if secret is not None:
                    stored.append({"name": definition["name"], "environment": f"four.{case}", "type": secret[0],
                                   "values": values(**secret[1])})
                declaration = {field: definition[field] for field in ("name", "keys", "optional_keys", "optional", "type")}
                items.append({"id": f"{definition['name']} {case}", "environments": [f"four.{case}"], "declarations": [declaration]})
                expected.append(outcomes)
        answer = self.call(SECRET + "ImportSecrets", {"secrets": stored}, timeout_ms=60000)
        self.assertTrue(answer.message and answer.message["written"], answer)
        results = []
        for first in range(0, len(items), 100):
            answer = self.call(RESOLVE, {"items": items[first:first + 100]})
            self.assertEqual(answer.code, 0, answer)
            results += answer.message["results"]
        self.assertEqual(len(results), len(items))
        for item, outcomes, result in zip(items, expected, results):
            with self.subTest(item["id"]):
                self.assertEqual([o.removeprefix("OUTCOME_") for o in result["outcomes"]], outcomes)
                right = set(outcomes) <= {"RESOLVED", "ABSENT"}
                self.assertEqual(result["status"]["code"] == 0, right, result["status"])
                declaration, = item["declarations"]
                keys = declaration["keys"] + declaration["optional_keys"]
                found = [pair["key"] for secret in result["secrets"] for pair in secret["values"]]
                self.assertEqual(sorted(found), sorted(k for k, o in zip(keys, outcomes) if right and o == "RESOLVED"))

    # --- Together with actions

    def test_definition_is_the_union_of_the_catalogue_and_of_what_actions_declare(self):
        self.register(action("tools.a", declared("virustotal", "VIRUSTOTAL_API_KEY", "PROXY"), declared("mine", "", "A B", optional=True)),
                      action("tools.b", declared("virustotal", "PROXY", optional=True), declared("mine", "B"), declared("mine", "C")),
                      action("tools.c", steps=["tools.a"]))
        found = self.one("virustotal")
        self.assertEqual((sorted(found["keys"]), found["optional_keys"], found["optional"], found["actions"]),
                         (["PROXY", "VIRUSTOTAL_API_KEY"], [], False, 2))
        mine = self.one("mine")
        self.assertEqual((sorted(mine["keys"]), mine["optional_keys"], mine["optional"], mine["in_catalogue"], mine["actions"]),
                         (["B", "C"], ["A"], False, False, 2))
        used = self.pages(used_only=True)
        self.assertEqual([(d["name"], d["in_catalogue"]) for d in used], [("mine", False), ("virustotal", True)])

    def test_pages_have_every_definition_once_whatever_their_size(self):
        self.register(*(action(f"tools.a{i}", declared(f"zz{i:03}", "K")) for i in range(30)))
        expected = self.pages(page_size=1000)
        self.assertEqual(len(expected), 118)
        for page_size in (1, 7, 117, 118):
            self.assertEqual(self.pages(page_size=page_size), expected)
        self.assertEqual([d["name"] for d in self.pages(name_prefix="zz00", page_size=4)], [f"zz{i:03}" for i in range(10)])
        many = [f"env{i}" for i in range(1000)]
        self.assertEqual([(d["name"], len(d["environments"])) for d in self.pages(name_prefix="zz", environments=many)],
                         [(f"zz{i:03}", 1000) for i in range(30)])
        for fields, reason in (({"environments": many + ["more"]}, "LIMIT_EXCEEDED"), ({"environments": ["a b"]}, "FIELD_INVALID"),
                               ({"page_token": "none"}, "PAGE_TOKEN_INVALID")):
            self.assertEqual(self.call(INTEGRATION + "ListDefinitions", fields).reason, reason)

    # --- Where it is complete

    def test_every_environment_says_what_is_missing_in_it(self):
        self.store("full", "jira", values=values(JIRA_USEREMAIL=b"a@b", JIRA_API_TOKEN=b"t"))
        self.store("partly", "jira", values=values(JIRA_USEREMAIL=b"a@b", JIRA_API_TOKEN=b" \n"))
        self.store("partly", "aws", values=values(OTHER=b"1", AWS_REGION=b""))
        self.store("full", "aws", values=values(AWS_REGION=b"eu-central-1"))
        self.store("full", "ansible", values=values(PRIVATE_KEY=b"no key"))
        self.store("old", "jira", values=values(JIRA_USEREMAIL=b"a@b", JIRA_API_TOKEN=b"t"), block_when_expired=True,
                   expire_time={"seconds": 1})
        self.store("broken", "jira", values=values(JIRA_USEREMAIL=b"a@b", JIRA_API_TOKEN=b"t"))
        self.sql("update secret set description = 'x' where environment = 'broken' and name = 'jira'")
        jira = self.states(self.one("jira", environments=["full", "partly", "none", "old", "broken"]))
        self.assertEqual(jira, {"full": ("COMPLETE", []), "partly": ("INCOMPLETE", ["JIRA_API_TOKEN"]), "none": ("ABSENT", []),
                                "old": ("EXPIRED", []), "broken": ("CORRUPTED", [])})
        aws = self.one("aws", environments=["full", "partly"])
        self.assertEqual(self.states(aws), {"full": ("COMPLETE", []), "partly": ("INCOMPLETE", aws["optional_keys"])})
        self.assertEqual(self.states(self.one("ansible", environments=["full"])), {"full": ("WRONG_TYPE", [])})

    def test_caller_sees_what_he_may_read_and_no_more(self):
        self.store("shown", "jira", values=values(JIRA_USEREMAIL=b"a@b"))
        self.store("secret", "jira", values=values(JIRA_USEREMAIL=b"a@b"))
        narrow = self.token_for([{"permissions": ["integration:read"]},
                                 {"permissions": ["secret:read"], "environments": ["shown"], "names": ["jira"]}])
        found = {d["name"]: self.states(d) for d in self.pages(token=narrow, environments=["shown", "secret", "none"])}
        self.assertEqual(found["jira"], {"shown": ("INCOMPLETE", ["JIRA_API_TOKEN"]), "secret": ("HIDDEN", []), "none": ("HIDDEN", [])})
        self.assertEqual({state for state, _ in found["aws"].values()}, {"HIDDEN"})
        reader = self.token_for([{"permissions": ["secret:read"]}])
        self.assertEqual(self.call(INTEGRATION + "ListDefinitions", {}, token=reader).reason, "PERMISSION_DENIED")

    def test_damaged_action_is_left_out_and_counted(self):
        self.register(action("tools.a", declared("mine", "A")), action("tools.b", declared("mine", "B")))
        self.sql("update action set steps = '{other}' where name = 'tools.a'")
        message = self.call(INTEGRATION + "ListDefinitions", {"name_prefix": "mine"}).message
        self.assertEqual((message["corrupted_actions"], [d["keys"] for d in message["definitions"]]), (1, [["B"]]))

    def test_complete_is_what_an_action_with_these_declarations_resolves(self):
        """A random model: a definition is complete where, and only where, a Resolve by such an action would succeed."""
        chosen = random.Random(seed())
        environments = [f"model{i}" for i in range(6)]
        names, keys = [f"m{i}" for i in range(8)], ["A", "B", "C"]
        for environment in environments:
            for name in chosen.sample(names, 5):
                held = {key: chosen.choice([b"x", b" "]) for key in chosen.sample(keys, chosen.randint(1, 3))}
                self.store(environment, name, values=values(**held))
        needs = {}
        for name in names:
            mixed = chosen.sample(keys, 3)
            cut = chosen.randint(0, 2)
            needs[name] = declared(name, " ".join(mixed[:cut]), " ".join(mixed[cut:]))
        self.register(*(action(f"by.{name}", need) for name, need in needs.items()))
        message = self.call(RESOLVE, {"items": [{"action": f"by.{name}"} for name in names], "environments": environments,
                                      "validate_only": True, "page_size": 1000}).message
        failing = {(names[r["item_index"]], r["environment"]) for r in message["results"]}
        for definition in self.pages(name_prefix="m", used_only=True, environments=environments):
            for environment, (state, _) in self.states(definition).items():
                self.assertEqual(state == "COMPLETE", (definition["name"], environment) not in failing,
                                 (definition, environment, state))

    # --- A large preflight

    def test_preflight_of_many_actions_over_many_environments_is_one_small_request(self):
        """Where 16 MiB for a call were too little: 300 actions x 60 environments here, 500 x 200 with TEST_FULL."""
        actions, places = (500, 200) if os.environ.get("TEST_FULL") else (300, 60)
        environments = [f"{i:012}" for i in range(places)]
        stored = [{"environment": e, "name": f"big{i % 20}", "values": values(K=b"v" * 500)}
                  for k, e in enumerate(environments) for i in range(20) if i != k % 20]
        for first in range(0, len(stored), 1000):
            answer = self.call(SECRET + "ImportSecrets", {"secrets": stored[first:first + 1000]})
            self.assertEqual(answer.code, 0, answer)
        self.register(*(action(f"big.a{i}", declared(f"big{i % 20}", "K"), declared(f"big{(i + 1) % 20}", "K"))
                        for i in range(actions)))
        request = {"items": [{"id": str(i), "action": f"big.a{i}"} for i in range(actions)], "environments": environments,
                   "validate_only": True, "page_size": 1000}
        expected = [(i, e) for i in range(actions) for k, e in enumerate(environments) if k % 20 in (i % 20, (i + 1) % 20)]
        found, token = [], ""
        while True:
            answer = self.call(RESOLVE, {**request, "page_token": token}, timeout_ms=60000)
            self.assertEqual(answer.code, 0, answer)
            self.assertEqual(answer.message["counts"], {"failed": len(expected), "resolved": actions * places - len(expected)})
            found += [(r["item_index"], r["environment"]) for r in answer.message["results"]]
            token = answer.message["next_page_token"]
            if not token:
                break
        self.assertEqual(found, expected)

    def test_environments_of_a_request_are_those_of_items_that_name_none(self):
        items = [{"references": references("nothing.K")}, {"references": references("nothing.K"), "environments": ["own"]}]
        message = self.call(RESOLVE, {"items": items, "environments": ["a", "b"], "validate_only": True}).message
        self.assertEqual([(r["item_index"], r["environment"]) for r in message["results"]], [(0, "a"), (0, "b"), (1, "own")])
        for fields, reason in (({"environments": ["a"]}, "FIELD_INVALID"),
                               ({"environments": ["e"] * 1001, "validate_only": True}, "LIMIT_EXCEEDED")):
            answer = self.call(RESOLVE, {"items": items, **fields})
            self.assertEqual((answer.reason, answer.fields), (reason, ["environments"]))

    def test_preflight_reads_nothing_that_the_caller_may_not_resolve(self):
        self.store("narrow", "one", values=values(K=b"1"))
        self.store("narrow", "two", values=values(K=b"2"))
        token = self.token_for([{"permissions": ["resolve"], "names": ["one"]}])
        message = self.call(RESOLVE, {"items": [{"references": references("one.K")}, {"references": references("two.K")}],
                                      "environments": ["narrow", "none"], "validate_only": True}, token=token).message
        self.assertEqual([(r["item_index"], r["environment"], r["outcomes"]) for r in message["results"]], [
            (0, "none", ["OUTCOME_SECRET_NOT_FOUND"]), (1, "narrow", ["OUTCOME_PERMISSION_DENIED"]),
            (1, "none", ["OUTCOME_PERMISSION_DENIED"])])


if __name__ == "__main__":
    unittest.main(verbosity=2)
