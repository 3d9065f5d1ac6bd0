#!/usr/bin/env python3
"""`coffer registry`: templates of actions become the registry, and `run` and `resolve` use it."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cli import NOT_FOUND, OK, PARTIAL, REJECTED, USAGE  # noqa: E402
from cofferd import Dev  # noqa: E402

LOOKUP = """\
type: action
definition:
  title: Look up an address
  namespace: tools.virustotal
  name: lookup_ip
  expects: {ip: {type: str}}
  secrets:
    - name: virustotal
      keys: ["VIRUSTOTAL_API_KEY"]
  steps:
    - ref: get
      action: core.http_request
      args:
        url: https://example.com/${{ inputs.ip }}
        headers: {x-apikey: "${{ SECRETS.virustotal.VIRUSTOTAL_API_KEY }}"}
  returns: ${{ steps.get.result }}
"""


def template(name, secrets="[]", steps="[]", returns="null", namespace="tools"):
    return (f"type: action\ndefinition:\n  namespace: {namespace}\n  name: {name}\n  secrets: {secrets}\n"
            f"  steps: {steps}\n  returns: {returns}\n")


class Registry(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()
        cls.variables = cli.environment(cls.dev)
        for key, value in (("VIRUSTOTAL_API_KEY", b"vt-value-1234"), ("OTHER", b"other-value")):
            cls.coffer("set", f"virustotal.{key}=-", "-e", "prod", stdin=value, code=OK)

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-test-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)

    @classmethod
    def coffer(cls, *arguments, stdin=b"", code=None):
        done = cli.run(cls.variables, *map(str, arguments), stdin=stdin)
        if code is not None:
            assert done[0] == code, (arguments, done)
        return done

    def write(self, **files):
        for name, text in files.items():
            (self.folder / f"{name}.yaml").write_text(text)

    def names(self):
        return [a["name"] for a in json.loads(self.coffer("registry", "list", "--json", code=OK)[1])["actions"]]

    def clear(self):
        for name in self.names():
            self.coffer("registry", "delete", name, "--yes", code=OK)

    def test_matrix_of_integrations_says_what_is_missing_where(self):
        self.write(two=template("two", "[{name: jira, keys: [JIRA_USEREMAIL, JIRA_API_TOKEN]}, {name: slack, keys: [K], optional: true}]"))
        self.coffer("registry", "import", self.folder, "--replace", code=OK)
        self.coffer("set", "jira.JIRA_USEREMAIL=-", "-e", "partly", stdin=b"a@example.com", code=OK)
        for key in ("JIRA_USEREMAIL", "JIRA_API_TOKEN"):
            self.coffer("set", f"jira.{key}=-", "-e", "whole", stdin=b"a value", code=OK)
        _, out, err = self.coffer("integration", "check", "-e", "whole", "-e", "partly", "-e", "none", code=PARTIAL)
        self.assertEqual(out.decode().splitlines(), [
            "jira\twhole\tok\t-", "jira\tpartly\tincomplete\tJIRA_API_TOKEN", "jira\tnone\tmissing\t-",
            "slack\twhole\tmissing\t-", "slack\tpartly\tmissing\t-", "slack\tnone\tmissing\t-"])
        self.assertIn("2 places lack something", err)
        self.assertEqual(self.coffer("integration", "check", "jira", "-e", "whole", code=OK)[2].strip(), "nothing is missing")
        self.assertEqual(self.coffer("integration", "show", "jira", "-e", "whole", code=OK)[1], b"whole\tok\t-\n")
        found = json.loads(self.coffer("integration", "check", "jira", "-e", "none", "--json", code=PARTIAL)[1])["definitions"]
        self.assertEqual([(d["name"], d["actions"], d["environments"][0]["state"]) for d in found],
                         [("jira", 1, "DEFINITION_STATE_ABSENT")])
        self.coffer("integration", "show", "nobody", code=NOT_FOUND)
        listed = [line.split("\t")[0] for line in self.coffer("integration", "list", code=OK)[1].decode().splitlines()]
        self.assertEqual((len(listed), listed, "virustotal" in listed), (87, sorted(listed), True))

    def test_program_gets_exactly_what_its_action_declares(self):
        self.write(lookup=LOOKUP)
        self.assertIn("1 created", self.coffer("registry", "import", self.folder / "lookup.yaml", code=OK)[2])
        plain = {line.split("=")[0] for line in self.coffer(
            "run", "-e", "prod", "--ref", "virustotal.OTHER", "--", "env", code=OK)[1].decode().splitlines()}
        lines = self.coffer("run", "-e", "prod", "--no-mask", "--action", "tools.virustotal.lookup_ip", "--", "env",
                            code=OK)[1].decode().splitlines()
        self.assertEqual({line.split("=")[0] for line in lines} - (plain - {"OTHER"}), {"VIRUSTOTAL_API_KEY"})
        self.assertIn("VIRUSTOTAL_API_KEY=vt-value-1234", lines)
        masked = self.coffer("run", "-e", "prod", "--action", "tools.virustotal.lookup_ip", "--", "env", code=OK)[1]
        self.assertNotIn(b"vt-value", masked)
        code, _, said = self.coffer("run", "-e", "prod", "--action", "tools.none", "--", "env")
        self.assertEqual(code, 125)
        self.assertIn('"tools.none"', said)

    def test_action_is_checked_over_environments(self):
        self.write(lookup=LOOKUP, other=template("other", '[{name: jira, keys: [TOKEN], optional: true}]'))
        self.coffer("registry", "import", self.folder, code=OK)
        code, shown, _ = self.coffer("resolve", "--action", "tools.virustotal.lookup_ip", "-e", "prod", "-e", "dev")
        self.assertEqual(code, PARTIAL)
        self.assertRegex(shown.decode(), r"tools\.virustotal\.lookup_ip\tdev\tvirustotal\.VIRUSTOTAL_API_KEY\tSECRET_NOT_FOUND")
        self.assertNotIn("prod", shown.decode())
        code, shown, _ = self.coffer("registry", "check", "tools.virustotal.lookup_ip", "tools.other", "-e", "prod",
                                     "-e", "dev", "--json")
        told = json.loads(shown)
        self.assertEqual((code, told["wouldResolve"], told["wouldFail"]), (PARTIAL, 3, 1))
        self.assertEqual([(m["action"], m["environment"]) for m in told["missing"]], [("tools.virustotal.lookup_ip", "dev")])
        self.assertEqual(self.coffer("registry", "check", "tools.other", "-e", "dev")[0], OK)
        self.assertEqual(self.coffer("resolve")[0], USAGE)
        self.assertEqual(self.coffer("resolve", "a.B", "--action", "tools.other")[0], USAGE)

    def test_registry_is_listed_shown_and_thinned(self):
        self.clear()
        self.assertIn("slack: no action is registered that could need it; coffer registry import PATH",
                      self.coffer("secret", "usage", "slack", code=OK)[2])
        self.write(lookup=LOOKUP, all=template("all", "[{type: oauth, provider_id: github, grant_type: authorization_code}]",
                                               "[{action: tools.virustotal.lookup_ip}]"))
        self.coffer("registry", "import", self.folder, code=OK)
        shown = self.coffer("registry", "show", "tools.all", code=OK)[1].decode()
        self.assertRegex(shown, r"virustotal\tVIRUSTOTAL_API_KEY\trequired\trequired")
        self.assertRegex(shown, r"github_oauth\tuser token\trequired\trequired")
        self.assertIn("tools.virustotal.lookup_ip", self.coffer("registry", "list", "-o", "table", code=OK)[1].decode())
        used = self.coffer("secret", "usage", "virustotal", code=OK)
        self.assertEqual(used[1].decode(), "tools.all\t-\t-\ttools.virustotal.lookup_ip\ntools.virustotal.lookup_ip\tVIRUSTOTAL_API_KEY\trequired\t-\n")
        self.assertIn("needed by 2 of 2 registered actions", used[2])
        self.assertEqual([row["action"] for row in json.loads(self.coffer("secret", "usage", "github_oauth", "--json", code=OK)[1])["actions"]], ["tools.all"])
        self.assertEqual(self.coffer("secret", "usage", "virus", code=OK)[1], b"")
        self.coffer("registry", "delete", "tools.all", "--yes", code=OK)
        self.assertEqual(self.coffer("registry", "show", "tools.all")[0], NOT_FOUND)
        self.assertEqual(self.names(), ["tools.virustotal.lookup_ip"])

    def test_bad_files_are_told_with_their_place_and_good_ones_are_not_lost(self):
        self.clear()
        bad = {
            "syntax": ("type: action\ndefinition: [", "line"),
            "anchor": (template("x", "&a [*a]"), "anchor"),
            "laughs": ("a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n", "anchor"),
            "twice": ("type: action\ntype: action\n", "twice"),
            "notype": ("definition: {namespace: a, name: b}\n", "type: action"),
            "noname": ("type: action\ndefinition: {namespace: a}\n", "name is missing"),
            "badname": (template("1 x", namespace="tools"), "not allowed"),
            "oauthname": (template("x", "[{name: github_oauth, keys: [GITHUB_USER_TOKEN]}]"), "must be declared as OAuth"),
            "badkey": (template("x", '[{name: a, keys: ["1X"]}]'), "not allowed"),
            "keytext": (template("x", "[{name: a, keys: X}]"), "is no list"),
            "badtype": (template("x", "[{name: a, keys: [X], type: tls}]"), "type is none of"),
            "badflag": (template("x", "[{name: a, keys: [X], optional: maybe}]"), "neither true nor false"),
            "badgrant": (template("x", "[{type: oauth, provider_id: g, grant_type: implicit}]"), "grant_type"),
            "badexpression": (template("x", returns='"${{ SECRETS.a }}"'), "SECRETS"),
            "deep": ("type: action\ndefinition: " + "[" * 70 + "]" * 70 + "\n", "too deep"),
            "large": ("# " + "x" * (10 << 20), "at most"),
            "binary": ("\x01\x02", "line"),
            "itself": (template("self", steps="[{action: tools.self}]"), "tools.self -> tools.self"),
            "second": (template("x") + "---\na: b\n", "second document"),
        }
        self.write(lookup=LOOKUP, workflow="type: workflow\nanything: [1]\n", **{k: text for k, (text, _) in bad.items()})
        (self.folder / "deeper").mkdir()
        (self.folder / "deeper" / "more.yml").write_text(template("more"))
        (self.folder / "README.md").write_text("no template")
        code, _, said = self.coffer("registry", "import", self.folder, "--strict")
        self.assertEqual((code, self.names()), (REJECTED, []))
        code, _, said = self.coffer("registry", "import", self.folder, "--dry-run")
        self.assertEqual((code, self.names()), (PARTIAL, []))
        code, _, said = self.coffer("registry", "import", self.folder)
        self.assertEqual((code, self.names()), (PARTIAL, ["tools.more", "tools.virustotal.lookup_ip"]), said)
        for name, (_, told) in bad.items():
            line = next((line for line in said.splitlines() if f"/{name}.yaml: " in line), "")
            self.assertIn(told, line, name)
        self.assertIn(f"2 created, 0 changed, 0 unchanged, 0 deleted; {len(bad)} bad, 1 of other types", said)
        # A registry that is replaced would lose the actions of the bad files.
        self.assertEqual(self.coffer("registry", "import", self.folder, "--replace")[0], REJECTED)

    def test_secret_or_key_that_is_used_and_not_declared_is_a_warning_that_names_it(self):
        self.write(x=template("x", "[{name: a, keys: [K], optional_keys: [L]}, "
                              "{type: oauth, provider_id: slack, grant_type: client_credentials}]",
                              "[{action: core.x, args: {deep: [{k: '${{ SECRETS.a.K }} ${{ SECRETS.a.L }} ${{ SECRETS.a.M }}'}], "
                              "t: '${{ SECRETS.slack_oauth.SLACK_SERVICE_TOKEN }} ${{ SECRETS.slack_oauth.SLACK_USER_TOKEN }}'}}]",
                              "${{ SECRETS.b.K || SECRETS.b.K }}"))
        said = self.coffer("registry", "import", self.folder, "--dry-run", code=OK)[2]
        self.assertEqual([line.split(" uses ")[1].split(",")[0] for line in said.splitlines() if "warning:" in line],
                         ["a.M", "slack_oauth.SLACK_USER_TOKEN", "b.K"])
        self.assertIn("3 warnings", said)

    def test_folder_with_a_thousand_files_is_one_registry(self):
        for i in range(1000):
            (self.folder / f"t{i:04}.yaml").write_text(template(f"t{i:04}", "[{name: virustotal, keys: [VIRUSTOTAL_API_KEY]}]",
                                                               f"[{{action: tools.t{i + 1:04}}}]" if i % 10 else "[]"))
        self.assertIn("1000 created", self.coffer("registry", "import", self.folder, "--replace", code=OK)[2])
        self.assertIn("0 created, 0 changed, 1000 unchanged", self.coffer("registry", "import", self.folder, code=OK)[2])
        self.assertEqual(len(self.names()), 1000)
        self.assertEqual(self.coffer("resolve", "--action", "tools.t0001", "-e", "prod")[0], OK)


if __name__ == "__main__":
    unittest.main(verbosity=2)
