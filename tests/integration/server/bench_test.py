"""coffer-bench against a real server: what it measures, what it says, and that it leaves nothing behind."""

import json
import os
import pathlib
import stat
import subprocess
import unittest

from context import ServerTest
from cofferd import BUILD

BENCH = BUILD / "client" / "bench" / "coffer-bench"
PATIENCE = 300
# A loaded machine must not make rounds void here.
SHORT = ["--rounds", "2", "--duration", "200", "--warm-up", "20", "--secrets", "40", "--deviation", "1000"]


class BenchTest(ServerTest):
    def setUp(self):
        self.token_file = self.dev.directory / "admin.token"

    def bench(self, *arguments, code=0):
        done = subprocess.run([BENCH, "--addr", self.dev.ipc, "--token-file", self.token_file, *arguments],
                              capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def measure(self, *arguments):
        return json.loads(self.bench("--output", "json", *arguments).stdout)

    def test_every_mix_is_measured_beside_an_echo_of_its_own(self):
        mixes = ["info", "resolve", "resolve32", "get", "list", "write", "resolve=9,write=1"]
        report = self.measure(*SHORT, "--in-flight", "8", *mixes)
        self.assertEqual([subject["name"] for subject in report["subjects"]], mixes)
        self.assertEqual((report["rounds"], report["in_flight"], report["value_size"]), (2, 8, 256))
        for subject in report["subjects"]:
            with self.subTest(subject["name"]):
                self.assertEqual((subject["failed"], subject["errors"], subject["void_rounds"]), (0, {}, []))
                self.assertEqual(subject["echo"]["failed"], 0)
                for part in (subject, subject["echo"]):
                    latency = part["latency_us"]
                    ordered = [latency[name] for name in ("p50", "p90", "p99", "p99_9", "max")]
                    self.assertGreater(part["calls"], 0)
                    self.assertGreater(ordered[0], 0)
                    self.assertEqual(ordered, sorted(ordered))
                ratio = subject["rate_ratio"]
                self.assertLessEqual(ratio["min"], ratio["median"])
                self.assertLessEqual(ratio["median"], ratio["max"])
                self.assertGreater(ratio["min"], 0)

    def test_count_makes_exactly_so_many_calls_in_each_round(self):
        report = self.measure("--rounds", "3", "--count", "50", "--warm-up", "0", "--deviation", "1000",
                              "--in-flight", "4", "info")
        self.assertEqual(report["subjects"][0]["calls"], 150)
        self.assertEqual(report["subjects"][0]["echo"]["calls"], 150)

    def test_rounds_are_interleaved_and_shuffled(self):
        order = self.dev.directory / "order"
        anchors = []
        for name in ("a", "b", "c"):
            program = self.dev.directory / f"anchor-{name}"
            program.write_text(f"#!/bin/sh\necho {name} >>{order}\necho made 100 calls: 2{ord(name)}.5\n")
            program.chmod(stat.S_IRWXU)
            anchors += ["--anchor", f"{name}={program}"]
        report = self.measure("--rounds", "12", "--duration", "5", "--warm-up", "0", "--deviation", "1000",
                              "--seed", "7", *anchors, "info")
        names = order.read_text().split()
        rounds = ["".join(names[i:i + 3]) for i in range(0, len(names), 3)]
        self.assertEqual(len(rounds), 12)
        self.assertEqual({"".join(sorted(one)) for one in rounds}, {"abc"})
        self.assertGreater(len(set(rounds)), 2)
        self.assertEqual(report["anchors"]["b"], {"median": 298.5, "min": 298.5, "max": 298.5})
        subject = report["subjects"][0]
        self.assertEqual(set(subject["anchor_ratios"]), {"a", "b", "c"})
        self.assertAlmostEqual(subject["anchor_ratios"]["a"]["min"] * 297.5 / (subject["anchor_ratios"]["b"]["min"] * 298.5),
                               1, 3)

    def test_text_names_every_mix_and_holds_no_secret(self):
        done = self.bench(*SHORT, "--in-flight", "2", "--seed", "3", "resolve")
        for part in ("resolve", "nng echo", "p99.9", "calls/s to the echo's", "seed 3"):
            self.assertIn(part, done.stdout)
        for token in (self.dev.admin, self.dev.executor):
            self.assertNotIn(token.decode(), done.stdout + done.stderr)

    def test_secrets_and_environment_are_removed_at_the_end(self):
        self.bench(*SHORT, "--in-flight", "2", "resolve")
        answer = self.call("coffer.v1.SecretService/ListSecrets", {"environments": ["bench"]})
        self.assertEqual((answer.code, answer.message["secrets"]), (0, []))
        answer = self.call("coffer.v1.EnvironmentService/ListEnvironments")
        self.assertNotIn("bench", [one["name"] for one in answer.message["environments"]])

    def test_environment_that_holds_other_secrets_stays(self):
        secret = {"environment": "bench", "name": "mine", "type": 1, "values": [{"key": "K", "value": b"v"}]}
        self.assertEqual(self.call("coffer.v1.SecretService/CreateSecret", secret).code, 0)
        self.bench(*SHORT, "--in-flight", "2", "resolve")
        self.assertEqual(self.value(self.resolve("bench", "mine.K"), "mine", "K"), b"v")
        self.assertEqual(self.call("coffer.v1.SecretService/DeleteSecret", {"environment": "bench", "name": "mine"}).code,
                         0)

    def test_calls_may_have_another_token_than_the_data(self):
        report = self.measure(*SHORT, "--in-flight", "4", "--admin-token-file", self.token_file, "--token-file",
                              self.dev.directory / "executor.token", "resolve")
        self.assertEqual(report["subjects"][0]["failed"], 0)

    def test_failures_are_told_by_reason(self):
        done = self.bench(*SHORT, "--token-file", self.dev.directory / "executor.token", "resolve", code=1)
        self.assertIn("PERMISSION_DENIED", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_wrong_arguments_are_refused(self):
        for arguments in ([], ["nothing"], ["resolve=0"], ["resolve,"], ["--rounds", "0", "info"], ["--rounds", "x", "info"],
                          ["--output", "xml", "info"], ["--anchor", "x", "info"], ["--workspace", "x", "info"],
                          ["--in-flight", "5000", "info"], ["--unknown", "info"]):
            with self.subTest(arguments):
                done = self.bench(*arguments, code=2)
                self.assertIn("coffer-bench", done.stderr)
                self.assertEqual(done.stdout, "")

    def test_help_names_every_option_that_the_program_takes(self):
        text = self.bench("--help").stdout
        source = (pathlib.Path(__file__).resolve().parents[3] / "client/bench/options.c").read_text()
        names = [line.split('"')[1] for line in source.splitlines() if line.strip().startswith('{"')]
        self.assertGreater(len(names), 10)
        for name in names:
            if name not in ("help", "version"):
                self.assertIn(f"--{name}", text)


if __name__ == "__main__":
    os.environ.pop("COFFER_WORKSPACE", None)
    unittest.main()
