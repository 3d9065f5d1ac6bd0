#!/usr/bin/env python3
"""The audit stream over the wire: what leaves a record, and what happens when none can be written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
import unittest
import uuid
import zlib

import context
import cofferd
from cofferd import references, values

SECRET = "coffer.v1.SecretService/"
TOKEN = "coffer.v1.TokenService/"
ACCOUNT = "coffer.v1.ServiceAccountService/"
HEALTH = "grpc.health.v1.Health/Check"
INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
CANARY = b"canary-8f1c2d-value"


def audit(dev, action, state=None, *options):
    """Runs `cofferd audit` over a server's state directory, beside the server."""
    environment = {**os.environ, "COFFERD_KEYS__ROOT_KEY_FILE": str(dev.directory / "root.key")}
    return subprocess.run([cofferd.COFFERD, "audit", action, *options, state or dev.directory / "state"],
                          env=environment, capture_output=True, timeout=cofferd.PATIENCE)


def uuid_of(answer):
    return str(uuid.UUID(bytes=answer.request_id))


def other_secret(token):
    """The same token with another secret: its last digit and the check (CRC-32 in base 62) are changed."""
    digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    body = token[:-7] + (b"1" if token[-7:-6] == b"0" else b"0")
    check, number = b"", zlib.crc32(body)
    for _ in range(6):
        number, digit = divmod(number, 62)
        check = digits[digit:digit + 1] + check
    return body + check


def export(dev, state=None):
    run = audit(dev, "export", state)
    return [json.loads(line) for line in run.stdout.splitlines()]


class Audit(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for environment in ("prod", "stage"):
            cls.connection.call(SECRET + "CreateSecret", {
                "name": "slack", "environment": environment, "values": values(BOT=CANARY, APP=CANARY[::-1])},
                token=cls.dev.admin)

    def records_of(self, answer):
        """What a call has left, at the moment at which its answer is there."""
        wanted = uuid_of(answer)
        return [record for record in export(self.dev) if record.get("request_id") == wanted]

    def test_resolve_leaves_what_it_released_before_its_answer(self):
        run = {"workflow_id": "w1", "run_id": "r1", "action": "a1"}
        item = {"environments": ["prod", "stage"], "references": references("slack.BOT", "slack.APP", "gone.KEY"), "run": run}
        good = {"environments": ["prod"], "references": references("slack.BOT")}
        answer = self.call(context.RESOLVE, {"items": [item, good]}, token=self.dev.executor)
        failed, released = self.records_of(answer)
        self.assertEqual(failed["run"], run)
        self.assertEqual((failed["code"], failed["reason"]), (5, "SECRET_NOT_FOUND"))
        self.assertEqual([(o["environment"], o["name"], o["reason"]) for o in failed["objects"]],
                         [(e, "gone", "SECRET_NOT_FOUND") for e in ("prod", "stage")])
        self.assertEqual(released["item"], 1)
        self.assertEqual(released["workspace"], self.dev.workspace)
        thing = released["objects"][0]
        self.assertEqual((thing["kind"], thing["environment"], thing["name"], thing["version"], thing["keys"]),
                         ("secret", "prod", "slack", 1, ["BOT"]))
        self.assertEqual(released["actor"]["name"], "executor")
        self.assertTrue(released["actor"]["token"] and released["actor"]["principal"] and released["actor"]["peer"])

    def test_denied_resolve_leaves_the_refusal(self):
        name = "narrow"
        self.call(ACCOUNT + "CreateServiceAccount", {
            "name": name, "grants": [{"permissions": ["resolve"], "environments": ["stage"]}]})
        token = self.call(TOKEN + "IssueToken", {"service_account": name}).message["secret_text"]
        item = {"environments": ["prod"], "references": references("slack.BOT")}
        answer = self.call(context.RESOLVE, {"items": [item]}, token=token)
        record, = self.records_of(answer)
        self.assertEqual((record["code"], record["reason"]), (7, "PERMISSION_DENIED"))
        self.assertEqual(record["objects"][0]["reason"], "PERMISSION_DENIED")
        self.assertNotIn("uid", record["objects"][0])

    def test_expressions_and_declarations_leave_what_was_handed_out_and_nothing_of_what_was_not_needed(self):
        item = {"environments": ["prod"], "declarations": [{"name": "slack", "keys": ["BOT"]}, {"name": "x", "optional": True}],
                "expressions": ["${{ SECRETS.gone.KEY || SECRETS.slack.BOT || SECRETS.slack.APP }}", "${{ 'literal' || SECRETS.slack.APP }}"]}
        answer = self.call(context.RESOLVE, {"items": [item]})
        record, = self.records_of(answer)
        self.assertEqual(record.get("code", 0), 0)
        self.assertEqual([(o["name"], o["keys"], o.get("reason", "")) for o in record["objects"]],
                         [("slack", ["BOT"], ""), ("gone", ["KEY"], "SECRET_NOT_FOUND")])
        self.assertNotIn("literal", json.dumps(record))

    def test_preflight_leaves_that_it_released_nothing(self):
        item = {"environments": ["prod"], "references": references("slack.BOT")}
        answer = self.call(context.RESOLVE, {"items": [item], "validate_only": True})
        record, = self.records_of(answer)
        self.assertTrue(record["validate_only"])
        self.assertNotIn("objects", record)

    def test_get_and_list_leave_what_they_showed(self):
        record, = self.records_of(self.call(SECRET + "GetSecret", {"name": "slack", "environment": "prod"}))
        self.assertEqual((record["method"], record["objects"][0]["name"], sorted(record["objects"][0]["keys"])),
                         (SECRET + "GetSecret", "slack", ["APP", "BOT"]))
        record, = self.records_of(self.call(SECRET + "ListSecrets", {"environments": ["prod", "stage"]}))
        self.assertEqual({(o["environment"], o["name"]) for o in record["objects"]},
                         {("prod", "slack"), ("stage", "slack")})
        begun = self.call(SECRET + "WatchSecrets").message["resume_token"]
        made = self.call(SECRET + "CreateSecret", {"name": "watched", "values": values(KEY=CANARY)}).message["secret"]
        record, = self.records_of(self.call(SECRET + "WatchSecrets", {"resume_token": begun}))
        self.assertEqual([(o["kind"], o["environment"], o["name"], o["uid"]) for o in record["objects"]],
                         [("secret", "default", "watched", made["uid"])])
        record, = self.records_of(self.call(TOKEN + "GetCaller"))
        self.assertIn("service_account", [o["kind"] for o in record["objects"]])

    def test_reveal_leaves_which_keys_of_which_version_it_showed(self):
        place = {"name": "slack", "environment": "stage"}
        self.call(SECRET + "UpdateSecretValues", {**place, "replace": {"values": values(NEW=CANARY)}})
        record, = self.records_of(self.call(SECRET + "RevealSecret", {**place, "version": 1, "keys": ["BOT"]}))
        thing, = record["objects"]
        self.assertEqual((record["method"], thing["name"], thing["version"], thing["keys"]),
                         (SECRET + "RevealSecret", "slack", 1, ["BOT"]))
        self.call(SECRET + "RollBackSecret", {**place, "version": 1})

    def test_refusals_leave_who_asked_for_what(self):
        record, = self.records_of(self.call(SECRET + "GetSecret", {"name": "nothere", "environment": "prod"}))
        self.assertEqual((record["code"], record["reason"], record["objects"][0]["name"]),
                         (5, "SECRET_NOT_FOUND", "nothere"))
        record, = self.records_of(self.call(SECRET + "ListSecrets", token=self.dev.executor))
        self.assertEqual((record["reason"], record["actor"]["name"]), ("PERMISSION_DENIED", "executor"))
        create = {"name": "slack", "environment": "prod", "values": values(BOT=CANARY)}
        record, = self.records_of(self.call(SECRET + "CreateSecret", create))
        self.assertEqual(record["reason"], "SECRET_EXISTS")

    def test_refusal_of_an_unknown_caller_tells_the_token_that_was_shown(self):
        token = self.dev.admin
        wrong = other_secret(token)
        record, = self.records_of(self.call(TOKEN + "GetCaller", token=wrong))
        self.assertEqual((record["code"], record["reason"]), (16, "TOKEN_INVALID"))
        self.assertNotIn("principal", record["actor"])
        self.assertTrue(record["actor"]["token"])

    def test_written_secret_has_its_record_in_its_transaction_alone(self):
        answer = self.call(SECRET + "UpdateSecretValues", {
            "name": "slack", "environment": "stage", "replace": {"values": values(BOT=CANARY, APP=CANARY[::-1])}})
        self.assertEqual(answer.code, 0, answer)
        self.assertEqual(self.records_of(answer), [])

    def test_record_of_a_write_tells_who_changed_what_and_no_value(self):
        answer = self.call(SECRET + "CreateSecret", {
            "name": "recorded", "environment": "prod", "values": values(A=CANARY, B=CANARY[::-1])})
        stored = bytes.fromhex(self.sql(
            f"select encode(record, 'hex') from change where workspace_id = '{self.dev.workspace}' "
            "order by revision desc limit 1"))
        record = cofferd.sp_client.decode("coffer.audit.v1.Record", stored)
        self.assertEqual((record["request_id"], record["method"], record["workspace"], record["actor"]["name"]),
                         (answer.request_id, SECRET + "CreateSecret", self.dev.workspace, "admin"))
        self.assertTrue(record["time"]["seconds"] and record["actor"]["peer"] and record["actor"]["token"])
        thing = next(o for o in record["objects"] if o["kind"] == "secret")
        self.assertEqual((thing["uid"], thing["environment"], thing["name"], thing["version"], thing["keys"]),
                         (answer.message["secret"]["uid"], "prod", "recorded", 1, ["A", "B"]))
        self.assertNotIn(CANARY, stored)
        self.assertNotIn(CANARY[::-1], stored)

    def test_health_and_server_info_leave_nothing(self):
        before = len(export(self.dev))
        self.connection.call(HEALTH, {"service": "readiness"})
        self.connection.call(INFO, {})
        self.connection.call(HEALTH, {"service": "nonsense"})
        self.assertEqual(len(export(self.dev)), before)

    def test_names_that_can_be_none_stand_in_no_record(self):
        """A value that was pasted into the wrong field."""
        pasted = "not a name: " + CANARY.decode()
        refused = self.call(SECRET + "GetSecret", {"name": pasted, "environment": "prod"})
        self.assertEqual(refused.reason, "FIELD_INVALID")
        self.resolve("prod", f"{pasted}.KEY")
        self.resolve(pasted, "slack.BOT")
        self.assertNotIn(CANARY.decode(), json.dumps(export(self.dev)))

    def test_no_value_stands_in_the_log_even_when_it_is_opened(self):
        for _ in range(20):
            self.resolve("prod", "slack.BOT", "slack.APP")
        opened = audit(self.dev, "export").stdout
        stored = b"".join(path.read_bytes() for path in (self.dev.directory / "state" / "audit").iterdir())
        for canary in (CANARY, CANARY[::-1]):
            self.assertNotIn(canary, opened)
            self.assertNotIn(canary, stored)
        self.assertNotIn(b"slack", stored)
        self.assertIn(b"slack", opened)

    def test_ten_thousand_pairs_are_recorded_in_parts(self):
        environments = [f"e{i}" for i in range(100)]
        item = {"environments": environments, "references": references(*(f"s{i}.KEY" for i in range(100)))}
        answer = self.call(context.RESOLVE, {"items": [item]})
        self.assertEqual(answer.code, 0, answer)
        records = self.records_of(answer)
        named = {(o["environment"], o["name"]) for record in records for o in record["objects"]}
        answered = {r["environment"] for r in answer.message["results"] if r.get("faults")}
        self.assertTrue(answered)
        self.assertLessEqual({(e, f"s{i}") for e in answered for i in range(100)}, named)
        self.assertGreater(len(records), 10)

    def test_refusals_of_unknown_callers_are_sampled_and_counted(self):
        server = self.dev.more("sampled", COFFERD_AUDIT__REFUSALS_PER_SECOND="5")
        with self.dev.connect(server.address) as connection:
            for _ in range(300):
                self.assertEqual(connection.call(TOKEN + "GetCaller").reason, "TOKEN_MISSING")
        server.stop()
        self.dev.extra.remove(server)
        refusals = [r for r in export(self.dev, self.dev.directory / "sampled.state") if r.get("reason") == "TOKEN_MISSING"]
        full = [r for r in refusals if "count" not in r]
        self.assertEqual(len(full) + sum(r.get("count", 0) for r in refusals), 300)
        self.assertLess(len(full), 300)

    def test_two_servers_have_two_logs(self):
        server = self.dev.more("second")
        with self.dev.connect(server.address) as connection:
            answer = connection.call(TOKEN + "GetCaller", token=self.dev.admin)
        wanted = uuid_of(answer)
        there = [r for r in export(self.dev, self.dev.directory / "second.state") if r.get("request_id") == wanted]
        self.assertEqual(len(there), 1)
        self.assertEqual(self.records_of(answer), [])
        ids = {(self.dev.directory / name / "server-id").read_text() for name in ("state", "second.state")}
        self.assertEqual(len(ids), 2)

    def test_log_is_verified_beside_its_server_and_damage_is_found(self):
        self.resolve("prod", "slack.BOT")
        good = audit(self.dev, "verify")
        self.assertEqual(good.returncode, 0, good.stderr)
        head = next(line.split()[1] for line in good.stdout.decode().splitlines() if line.startswith("head"))
        self.assertEqual(audit(self.dev, "verify", None, "--head", head).returncode, 0)
        number, digest = head.split(":")
        false = f"{number}:{digest[:-1]}{'0' if digest[-1] != '0' else '1'}"
        self.assertEqual(audit(self.dev, "verify", None, "--head", false).returncode, 1)
        copy = self.dev.directory / "copy"
        shutil.copytree(self.dev.directory / "state", copy)
        segment = copy / "audit" / "segment-00000001"
        data = bytearray(segment.read_bytes())
        data[300] ^= 1
        segment.write_bytes(data)
        bad = audit(self.dev, "verify", copy)
        self.assertEqual(bad.returncode, 1)
        self.assertIn(b"DAMAGED: segment 1", bad.stderr)

    def test_server_does_not_start_without_a_state_directory_that_it_can_write(self):
        for state, said in (("/proc/no/such", "server.state_dir"), ("relative", "absolute")):
            environment = {**os.environ, "COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
                           "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                           "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/none.sock",
                           "COFFERD_SERVER__STATE_DIR": state}
            run = subprocess.run([cofferd.COFFERD, "serve"], env=environment, capture_output=True, text=True,
                                 timeout=cofferd.PATIENCE)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(said, run.stderr)


class Unwritable(unittest.TestCase):
    """The next file of the log cannot be made: its folder is away, or the system has no room for a file of its size."""

    def setUp(self):
        self.dev = cofferd.Dev()
        self.server = self.dev.more("small", COFFERD_AUDIT__SEGMENT="256KiB", COFFERD_LOG__REQUESTS="failed")
        self.folder = self.dev.directory / "small.state" / "audit"
        self.connection = self.dev.connect(self.server.address)
        self.connection.call(SECRET + "CreateSecret", {"name": "s", "environment": "prod", "values": values(K=CANARY)},
                             token=self.dev.admin)

    def tearDown(self):
        self.connection.close()
        self.dev.close()

    def ask(self):
        item = {"environments": ["prod"], "references": references("s.K")}
        return self.connection.call(context.RESOLVE, {"items": [item]}, token=self.dev.admin)

    def readiness(self):
        return self.connection.call(HEALTH, {"service": "readiness"}).message["status"]

    def test_nothing_is_released_while_the_log_is_away_and_it_recovers_by_itself(self):
        self.assertEqual(self.ask().code, 0)
        away = self.folder.with_name("away")
        self.folder.rename(away)
        for path in away.iterdir():
            path.unlink()
        released, refused = 0, None
        end = time.monotonic() + cofferd.PATIENCE
        while refused is None and time.monotonic() < end:
            began = time.monotonic()
            answer = self.ask()
            took = time.monotonic() - began
            released += answer.code == 0
            refused = answer if answer.code != 0 else None
        self.assertEqual((refused.code, refused.reason), (14, "AUDIT_UNAVAILABLE"))
        self.assertLess(took, 10)
        self.assertNotIn(CANARY, refused.payload)
        self.assertEqual(self.readiness(), "NOT_SERVING")
        self.assertEqual(self.connection.call(HEALTH, {"service": ""}).message["status"], "SERVING")
        self.assertEqual(self.connection.call(INFO, {}).code, 0)
        self.assertEqual(self.connection.call(TOKEN + "GetCaller").reason, "AUDIT_UNAVAILABLE")
        written = self.connection.call(SECRET + "CreateSecret", {"name": "w", "environment": "prod", "values": values(K=b"v")},
                                       token=self.dev.admin)
        self.assertEqual(written.code, 0, written)
        away.rename(self.folder)
        cofferd.wait_for(lambda: self.ask().code == 0, "the log is not written again")
        self.assertEqual(self.readiness(), "SERVING")
        counted = [r for r in self.settled() if r.get("reason") == "AUDIT_UNAVAILABLE"]
        self.assertTrue(counted and all(r["count"] > 0 for r in counted))

    def settled(self):
        """The records, once those that are written each second are there."""
        found = []

        def condition():
            found[:] = export(self.dev, self.dev.directory / "small.state")
            return any(r.get("reason") == "AUDIT_UNAVAILABLE" for r in found)
        cofferd.wait_for(condition, "the refusals were not counted")
        return found

    def test_full_disk_refuses_everything_unrecorded_and_loses_nothing(self):
        """The limit of a file's size does what a full disk does: room for the next segment is refused."""
        pid, limit = self.server.process.pid, resource.RLIMIT_FSIZE
        before = resource.prlimit(pid, limit)
        resource.prlimit(pid, limit, (255 << 10, before[1]))
        answers = []
        while not answers or answers[-1].code == 0:
            self.assertLess(len(answers), 5000)
            answers.append(self.ask())
        self.assertEqual(answers[-1].reason, "AUDIT_UNAVAILABLE")
        resource.prlimit(pid, limit, before)
        cofferd.wait_for(lambda: self.ask().code == 0, "the log is not written again")
        recorded = {r.get("request_id") for r in export(self.dev, self.dev.directory / "small.state")}
        for answer in answers[:-1]:
            self.assertIn(uuid_of(answer), recorded)
        self.assertEqual(audit(self.dev, "verify", self.dev.directory / "small.state").returncode, 0)


class FailingDisk(unittest.TestCase):
    """The log can be written, but not brought to the disk; every resolve must be there before its answer."""

    PROGRAM = cofferd.BUILD / "tests" / "integration" / "server" / "cofferd_failing_disk"

    def setUp(self):
        self.dev = cofferd.Dev()
        self.addCleanup(self.dev.close)
        self.fails = self.dev.directory / "disk-fails"
        self.server = self.dev.more("disk", self.PROGRAM, TEST_DISK_FAILS=str(self.fails), COFFERD_AUDIT__RESOLVE="durable",
                                    COFFERD_AUDIT__SEGMENT="256KiB")
        self.connection = self.dev.connect(self.server.address)
        self.addCleanup(self.connection.close)
        self.connection.call(SECRET + "CreateSecret", {"name": "s", "environment": "prod", "values": values(K=CANARY)},
                             token=self.dev.admin)

    def ask(self):
        item = {"environments": ["prod"], "references": references("s.K")}
        return self.connection.call(context.RESOLVE, {"items": [item]}, token=self.dev.admin)

    def readiness(self):
        return self.connection.call(HEALTH, {"service": "readiness"}).message["status"]

    def logged(self):
        lines = [json.loads(line) for line in self.server.log.read_text().splitlines()]
        return [(line["msg"], line.get("native")) for line in lines if line.get("event") == "audit"]

    def test_sync_that_fails_releases_nothing_and_the_server_recovers_by_itself(self):
        answers = [self.ask()]
        self.assertEqual(answers[0].code, 0)
        self.fails.touch()
        for _ in range(20):
            answer = self.ask()
            self.assertEqual((answer.code, answer.reason), (14, "AUDIT_UNAVAILABLE"), answer)
            self.assertNotIn(CANARY, answer.payload)
            self.assertGreater(answer.retry_ms, 0)
        cofferd.wait_for(lambda: self.readiness() == "NOT_SERVING", "the server says that it is ready")
        self.assertIn(("the audit log cannot be written; nothing is released", "EIO"), self.logged())
        self.fails.unlink()

        def recovered():
            answers.append(self.ask())
            return answers[-1].code == 0
        cofferd.wait_for(recovered, "the log is not written again")
        self.assertEqual(self.readiness(), "SERVING")
        self.assertIn(("the audit log can be written again", None), self.logged())
        state = self.dev.directory / "disk.state"
        recorded = {r.get("request_id") for r in export(self.dev, state)}
        self.assertLessEqual({uuid_of(a) for a in answers if a.code == 0}, recorded)
        self.assertEqual(audit(self.dev, "verify", state).returncode, 0)


    def test_reveal_and_export_wait_for_the_disk_where_resolves_do_not(self):
        server = self.dev.more("written", self.PROGRAM, TEST_DISK_FAILS=str(self.fails), COFFERD_AUDIT__RESOLVE="written")
        place = {"name": "s", "environment": "prod"}
        with self.dev.connect(server.address) as connection:
            def answer(method, request):
                return connection.call(method, request, token=self.dev.admin)
            for method, request in ((SECRET + "RevealSecret", place), (SECRET + "ExportSecrets", {})):
                cofferd.wait_for(lambda call=(method, request): answer(*call).code == 0, "the log is not written again")
                self.assertIn(CANARY, answer(method, request).payload)
                self.fails.touch()
                refused = answer(method, request)
                self.assertEqual((refused.code, refused.reason), (14, "AUDIT_UNAVAILABLE"), method)
                self.assertNotIn(CANARY, refused.payload)
                self.fails.unlink()


class Durable(unittest.TestCase):
    def setUp(self):
        self.dev = cofferd.Dev()
        with self.dev.connect() as connection:
            connection.call(SECRET + "CreateSecret", {"name": "s", "environment": "prod", "values": values(K=b"v")},
                            token=self.dev.admin)

    def tearDown(self):
        self.dev.close()

    def test_issued_token_has_a_durable_record_beside_that_of_its_transaction(self):
        with self.dev.connect() as connection:
            answer = connection.call(TOKEN + "IssueToken", {"service_account": "executor"}, token=self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        wanted = uuid_of(answer)
        record, = (r for r in export(self.dev) if r.get("request_id") == wanted)
        self.assertEqual(record["objects"][0]["uid"], answer.message["token"]["uid"])

    def test_every_answer_of_a_killed_server_is_in_its_log(self):
        server = self.dev.more("durable", COFFERD_AUDIT__RESOLVE="durable", COFFERD_AUDIT__SEGMENT="256KiB")
        answered = []
        threads = [threading.Thread(target=self.resolve_until_killed, args=(server.address, answered)) for _ in range(4)]
        for thread in threads:
            thread.start()
        cofferd.wait_for(lambda: len(answered) > 300, "too few answers")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        for thread in threads:
            thread.join()
        server.output.close()
        self.dev.extra.remove(server)
        state = self.dev.directory / "durable.state"
        recorded = {r.get("request_id") for r in export(self.dev, state)}
        self.assertEqual([a for a in answered if a not in recorded], [])
        self.assertEqual(audit(self.dev, "verify", state).returncode, 0)
        again = self.dev.more("durable")
        self.assertEqual(again.stop(), 0)
        self.dev.extra.remove(again)
        self.assertEqual(audit(self.dev, "verify", state).returncode, 0)

    def resolve_until_killed(self, address, answered):
        item = {"environments": ["prod"], "references": references("s.K")}
        try:
            with self.dev.connect(address) as connection:
                while True:
                    answer = connection.call(context.RESOLVE, {"items": [item]}, token=self.dev.executor)
                    assert answer.code == 0, answer
                    answered.append(uuid_of(answer))
        except OSError:
            pass


if __name__ == "__main__":
    unittest.main()
