"""coffer-bench against a real server: what it measures, what it says, and that it leaves nothing behind."""

import json
import os
import pathlib
import stat
import subprocess
import unittest
import xml.etree.ElementTree

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
        self.assertEqual((report["rounds"], report["value_size"], report["addresses"]), (2, 256, 1))
        for subject in report["subjects"]:
            with self.subTest(subject["name"]):
                self.assertEqual((subject["failed"], subject["errors"], subject["void_rounds"]), (0, {}, []))
                self.assertEqual((subject["in_flight"], subject["due_per_second"]), (8, 0))
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

    def check_histogram(self, subject):
        shown = [us for _, us in subject["distribution_us"]]
        self.assertEqual((shown, len(shown), shown[-1]), (sorted(shown), 21, subject["latency_us"]["max"]))
        edges = [edge for edge, _ in subject["histogram_us"]]
        self.assertEqual((edges, sum(count for _, count in subject["histogram_us"])), (sorted(edges), subject["calls"]))
        self.assertGreater(edges[-1], shown[-1])
        self.assertLessEqual(edges[-1] / 2, shown[-1])

    def test_open_loop_runs_each_mix_of_a_file_at_each_rate_and_draws_it(self):
        mixes, drawing = self.dev.directory / "mixes", self.dev.directory / "load.svg"
        mixes.write_text("# of a test\ninfo\n\nresolve=3,list=1  \n")
        report = self.measure(*SHORT, "--rate", "50,100", "--ramp", "20", "--mixes", mixes, "--svg", drawing)
        self.assertEqual([(subject["name"], subject["due_per_second"]) for subject in report["subjects"]],
                         [("info", 50), ("resolve=3,list=1", 50), ("info", 100), ("resolve=3,list=1", 100)])
        for subject in report["subjects"]:
            self.assertAlmostEqual(subject["calls"], 2 * 0.2 * subject["due_per_second"], delta=4)
            self.assertEqual((subject["failed"], subject["late"]), (0, 0))
            self.check_histogram(subject)
        root = xml.etree.ElementTree.parse(drawing).getroot()
        lines = root.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual([len(line.get("points").split()) for line in lines], [2] * 8)
        texts = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
        for text in ("info p99.9", "resolve=3,list=1 p50", "info nng echo p50", "calls per second", "100"):
            self.assertIn(text, texts)

    def test_thought_between_calls_bounds_their_number(self):
        report = self.measure("--rounds", "1", "--duration", "400", "--warm-up", "0", "--think", "100", "--no-echo",
                              "-n", "1,4", "--deviation", "1000", "info")
        one, four = report["subjects"]
        self.assertEqual((report["think_us"], one["in_flight"], four["in_flight"]), (100000, 1, 4))
        self.assertTrue(1 <= one["calls"] <= 5 and 4 <= four["calls"] <= 4 * 5, report)

    def test_several_addresses_have_the_same_load(self):
        counts = {}
        for address in (f"{self.dev.ipc},{self.dev.tcp}", self.dev.ipc):
            report = self.measure("--addr", address, "--rounds", "1", "--count", "100", "--warm-up", "0", "-n", "2", "info")
            counts[address] = (report["addresses"], report["subjects"][0]["calls"], report["subjects"][0]["failed"])
        self.assertEqual(list(counts.values()), [(2, 100, 0), (1, 100, 0)])
        done = self.bench("--addr", f"{self.dev.ipc},ipc:///nowhere/coffer.sock", "--rounds", "1", "--count", "20",
                          "--timeout", "300", "--warm-up", "0", "-n", "2", "--no-echo", "--output", "json", "info")
        subject = json.loads(done.stdout)["subjects"][0]
        self.assertEqual(subject["calls"] + subject["failed"], 20)
        self.assertEqual(set(subject["errors"]), {"NOT_CONNECTED"})

    def compare(self, before, after, *arguments, code=0):
        files = []
        for name, report in (("before", before), ("after", after)):
            files.append(self.dev.directory / f"{name}.json")
            files[-1].write_text(json.dumps(report))
        return self.bench("compare", *files, *arguments, code=code)

    def test_two_runs_are_compared_by_their_ratios_to_the_echo(self):
        before = self.measure("--rounds", "4", "--duration", "50", "--warm-up", "0", "--deviation", "1000", "-n", "2,4", "info")
        same = json.loads(self.compare(before, before, "--output", "json").stdout)
        self.assertEqual([subject["in_flight"] for subject in same["subjects"]], [2, 4])
        for subject in same["subjects"]:
            self.assertEqual((subject["rate_ratio"]["verdict"], subject["rate_ratio"]["change_percent"]), ("same", 0))
            self.assertNotIn("verdict", subject["rate"])
        for part in before["subjects"][1]["rate_ratio"], before["subjects"][0]["p50_ratio"]:
            part.update(median=1, min=0.9, max=1.1)
        after = json.loads(json.dumps(before))
        for part in after["subjects"][1]["rate_ratio"], after["subjects"][0]["p50_ratio"]:  # better, and worse
            for name in part:
                part[name] *= 100
        worse = self.compare(before, after, code=4).stdout
        for text in ("info x2", "info x4", "better", "worse", "+9900.0 %", "calls/s to the echo's"):
            self.assertIn(text, worse)
        self.assertNotIn("worse", self.compare(before, after, "--tolerance", "1000", "--output", "text", code=4).stdout
                         .split("info x4")[1])
        del after["subjects"][0]
        self.assertNotIn("info x2", self.compare(before, after).stdout)
        before["subjects"][1]["rounds"] = 3
        self.assertIn("nothing is judged", self.compare(before, after).stdout)

    def test_what_cannot_be_compared_is_refused(self):
        report = self.measure("--rounds", "1", "--count", "5", "--warm-up", "0", "info")
        for before, text in (({}, "is no report"), ({"subjects": [{"name": "get"}]}, "in common")):
            self.assertIn(text, self.compare(before, report, code=1).stderr)
        self.assertIn("nowhere", self.bench("compare", "/nowhere", "/nowhere", code=1).stderr)
        self.assertIn("two reports", self.bench("compare", "one", code=2).stderr)

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

    def test_server_that_is_not_there_is_told_once_with_its_address_and_what_to_do(self):
        done = self.bench(*SHORT, "--addr", "tcp://127.0.0.1:1", "--timeout", "300", "resolve", code=1)
        self.assertIn("no server could be reached at tcp://127.0.0.1:1; check the address", done.stderr)
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("", 1))

    def test_wrong_arguments_are_refused(self):
        for arguments in ([], ["nothing"], ["resolve=0"], ["resolve,"], ["--rounds", "0", "info"], ["--rounds", "x", "info"],
                          ["--output", "xml", "info"], ["--anchor", "x", "info"], ["--workspace", "x", "info"],
                          ["--in-flight", "5000", "info"], ["--unknown", "info"], ["--rate", "0", "info"],
                          ["--rate", "1,,2", "info"], ["--rate", "10", "--think", "1", "info"], ["--mixes", "/nowhere"],
                          ["--rate", "10", "-n", "1,2", "info"], ["--svg"]):
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
