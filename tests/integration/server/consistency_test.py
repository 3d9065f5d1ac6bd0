#!/usr/bin/env python3
"""Revisions, the database's epoch and effects that happen once, over two servers on one database."""

import base64
import os
import pathlib
import random
import re
import struct
import subprocess
import threading
import time
import unittest

import context
from cofferd import references, values, wait_for
from context import ACCOUNT, ENVIRONMENT, RESOLVE, SECRET, TOKEN, WORKSPACE
from sp_client import SCHEMA, uuid7

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(6), "big"))
HOUR = 3600 * 1000
CUT_WRITES = 1000 if os.environ.get("TEST_FULL") else 20  # of each of four writers (T03)


def token_parts(text):
    """(epoch, revision) of a consistency token, which clients do not look into."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    number, epoch, revision = struct.unpack(">BQQ", data)
    assert number == 1
    return epoch, revision


def token_of(epoch, revision):
    return base64.urlsafe_b64encode(struct.pack(">BQQ", 1, epoch, revision)).rstrip(b"=").decode()


def in_threads(count, work):
    """Runs work(0), work(1), ... at once and passes on the first failure."""
    failures = []

    def guarded(index):
        try:
            work(index)
        except BaseException as failure:  # in a thread: the test must see it
            failures.append(failure)
    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Consistency(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print(f"seed {SEED}", flush=True)
        cls.random = random.Random(SEED)
        cls.second = cls.dev.more("second")
        cls.addresses = [cls.dev.ipc, cls.second.address]
        cls.other = cls.dev.connect(cls.second.address)

    @classmethod
    def tearDownClass(cls):
        cls.other.close()
        super().tearDownClass()

    def revision(self, workspace=None):
        return int(self.sql("select revision from workspace_revision where workspace_id ="
                            f" '{workspace or self.dev.workspace}'"))

    def update(self, name, environment="", connection=None, request_id=None, **pairs):
        answer = (connection or self.connection).call(SECRET + "UpdateSecretValues", {
            "name": name, "environment": environment, "patch": {"set": values(**pairs)}}, token=self.dev.admin,
            request_id=request_id)
        self.assertEqual(answer.code, 0, answer)
        return answer.message

    def read(self, connection, name, environment="", consistency_token=""):
        item = {"environments": [environment], "references": references(f"{name}.K"),
                "consistency_token": consistency_token}
        answer = connection.call(RESOLVE, {"items": [item]}, token=self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["results"][0]

    # --- Revisions

    def test_every_committed_write_raises_the_revision_by_one_and_a_failed_one_not_at_all(self):
        before, seen, lock = self.revision(), [], threading.Lock()

        def writer(index):
            with self.dev.connect(self.addresses[index % 2]) as connection:
                for i in range(12):
                    made = connection.call(SECRET + "CreateSecret", {
                        "name": f"raise{index}", "environment": f"e{i}", "values": values(K=b"v")}, token=self.dev.admin)
                    again = connection.call(SECRET + "CreateSecret", {
                        "name": f"raise{index}", "environment": f"e{i}", "values": values(K=b"v")}, token=self.dev.admin)
                    assert (made.code, again.reason) == (0, "SECRET_EXISTS"), (made, again)
                    with lock:
                        seen.append(token_parts(made.message["consistency_token"])[1])
        in_threads(6, writer)
        self.assertEqual(sorted(seen), list(range(before + 1, before + 73)))
        self.assertEqual(self.revision(), before + 72)
        written = self.sql(f"select revision from change where workspace_id = '{self.dev.workspace}' order by revision")
        self.assertEqual([int(line) for line in written.split()][-72:], list(range(before + 1, before + 73)))

    def test_writes_that_fail_in_any_way_leave_the_revision_as_it_was(self):
        self.create("stays", K=b"v")
        before = self.revision()
        failing = [
            (SECRET + "CreateSecret", {"name": "stays", "values": values(K=b"v")}),
            (SECRET + "CreateSecret", {"name": "bad name", "values": values(K=b"v")}),
            (SECRET + "UpdateSecretValues", {"name": "stays", "expected_version": 7, "patch": {"set": values(K=b"w")}}),
            (SECRET + "UpdateSecretValues", {"name": "none", "patch": {"set": values(K=b"w")}}),
            (SECRET + "DeleteSecret", {"name": "none"}),
            (ENVIRONMENT + "DeleteEnvironment", {"name": "default"}),
            (TOKEN + "IssueToken", {"service_account": "none"}),
            (ACCOUNT + "CreateServiceAccount", {"name": "admin"}),
        ]
        for method, request in failing:
            self.assertNotEqual(self.call(method, request).code, 0, method)
        self.assertEqual(self.revision(), before)

    def test_repeat_of_a_write_raises_nothing(self):
        request_id = uuid7()
        self.create("repeated", K=b"v")
        self.update("repeated", request_id=request_id, K=b"w")
        before = self.revision()
        for connection in (self.connection, self.other):
            self.update("repeated", connection=connection, request_id=request_id, K=b"w")
        self.assertEqual(self.revision(), before)

    def write_methods(self):
        """The methods of the class WRITE, from the server's table."""
        table = (ROOT / "common" / "method.def").read_text()
        return re.findall(r'METHOD\("([\w.]+)",\s*"(\w+)"[^()]*?WRITE,\s*\w+\)', table)

    def test_every_answer_of_a_write_and_every_result_has_a_consistency_token(self):
        methods = self.write_methods()
        self.assertGreater(len(methods), 8)
        for service, method in methods:
            response = SCHEMA.method(f"{service}/{method}")[1]
            self.assertEqual(SCHEMA.messages[response]["consistency_token"][0], 15, response)
        name, made = self.account([{"permissions": ["resolve"]}])
        issued = self.issue(name)
        answers = [
            made, issued,
            self.call(WORKSPACE + "CreateWorkspace", {"name": "with-token"}, token=self.dev.system),
            self.call(ENVIRONMENT + "CreateEnvironment", {"name": "with-token"}),
            self.call(ENVIRONMENT + "DeleteEnvironment", {"name": "with-token"}),
            self.create("with-token", K=b"v"),
            self.call(SECRET + "UpdateSecretValues", {"name": "with-token", "patch": {"set": values(L=b"v")}}),
            self.call(SECRET + "DeleteSecret", {"name": "with-token"}),
            self.call(TOKEN + "RevokeToken", {"token_uid": issued.message["token"]["uid"]}),
        ]
        epoch = int(self.sql("select epoch from instance")) % (1 << 64)
        for answer in answers:
            self.assertEqual(answer.code, 0, answer)
            self.assertEqual(token_parts(answer.message["consistency_token"])[0], epoch)
        own = [token_parts(a.message["consistency_token"])[1] for a in answers if "workspace" not in a.message]
        self.assertEqual(own, sorted(own))
        item = {"environments": ["a", "b"], "references": references("none.K")}
        results = self.call(RESOLVE, {"items": [item, item]}).message["results"]
        self.assertEqual({token_parts(result["consistency_token"]) for result in results}, {(epoch, self.revision())})

    def test_resolve_with_a_token_is_never_answered_from_an_older_state_on_either_server(self):
        self.create("chased", K=b"0")
        stop = threading.Event()

        def noise(index):
            with self.dev.connect(self.addresses[index % 2]) as connection:
                i = 0
                while not stop.is_set():
                    i += 1
                    self.update("noise", environment=f"n{index}", connection=connection, K=b"%d" % i)

        for index in range(2):
            self.create("noise", environment=f"n{index}", K=b"0")
        threads = [threading.Thread(target=noise, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        try:
            for i in range(1, 81):
                writer, reader = (self.connection, self.other) if i % 2 else (self.other, self.connection)
                token = self.update("chased", connection=writer, K=b"%d" % i)["consistency_token"]
                for connection in (reader, writer):
                    result = self.read(connection, "chased", consistency_token=token)
                    self.assertEqual(self.value(result, "chased", "K"), b"%d" % i)
                    self.assertGreaterEqual(token_parts(result["consistency_token"]), token_parts(token))
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_writers_own_server_is_current_before_it_answers(self):
        self.create("current", K=b"0")
        for i in range(1, 41):
            connection = (self.connection, self.other)[i % 2]
            self.update("current", connection=connection, K=b"%d" % i)
            self.assertEqual(self.value(self.read(connection, "current"), "current", "K"), b"%d" % i)

    def test_token_of_another_epoch_is_unknown(self):
        epoch, revision = token_parts(self.create("epochs", K=b"v").message["consistency_token"])
        for wrong in (epoch ^ 1, 0, (epoch + 1) % (1 << 64)):
            for connection in (self.connection, self.other):
                status = self.read(connection, "epochs", consistency_token=token_of(wrong, revision))["status"]
                self.assertEqual((status["code"], status["outcome"]), (9, "OUTCOME_CONSISTENCY_TOKEN_UNKNOWN"))
        for text in ("x", token_of(epoch, revision)[:-1], token_of(epoch, revision) + "A", "!" * 23):
            status = self.read(self.connection, "epochs", consistency_token=text)["status"]
            self.assertEqual((status["code"], status["outcome"]), (3, "OUTCOME_ITEM_INVALID"), text)
        self.assertEqual(self.read(self.other, "epochs", consistency_token=token_of(epoch, revision))["status"]["code"], 0)

    def test_versions_carry_the_revisions_from_which_and_to_which_they_were_current(self):
        made = self.create("aged", K=b"0").message
        written = [made] + [self.update("aged", connection=(self.connection, self.other)[i % 2], K=b"%d" % i)
                            for i in range(5)]
        revisions = [token_parts(message["consistency_token"])[1] for message in written]
        uid = made["secret"]["uid"]
        rows = self.sql(f"select version, from_revision, to_revision from secret_version where secret_id = '{uid}' union"
                        f" all select version, from_revision, 0 from secret where secret_id = '{uid}' order by 1").splitlines()
        expected = [f"{i + 1}|{revision}|{(revisions + [0])[i + 1]}" for i, revision in enumerate(revisions)]
        self.assertEqual(rows, expected)

    def test_effect_request_change_and_revision_are_one_transaction(self):
        request_id = uuid7()
        uid = self.create("together", K=b"0").message["secret"]["uid"]
        token = self.update("together", request_id=request_id, K=b"1")["consistency_token"]
        revision = token_parts(token)[1]
        change, objects, record = self.sql(
            f"select transaction_id, encode(objects, 'hex'), encode(record, 'hex') from change where workspace_id ="
            f" '{self.dev.workspace}' and revision = {revision}").split("|")
        transactions = {self.sql(query) for query in (
            # The version before was kept.
            f"select xmin from secret_version where secret_id = '{uid}' and version = 1",
            f"select xmin from secret where secret_id = '{uid}'",
            f"select xmin from request where request_id = '{request_id.hex()}'",
            f"select xmin from change where workspace_id = '{self.dev.workspace}' and revision = {revision}")}
        self.assertEqual(transactions, {str(int(change) % (1 << 32))})
        self.assertEqual(self.sql(f"select revision from request where request_id = '{request_id.hex()}'"), str(revision))
        self.assertEqual(objects, uid.replace("-", ""))
        self.assertIn(b"coffer.v1.SecretService/UpdateSecretValues".hex(), record)
        self.assertEqual(self.sql("select count(*) from request r left join change c on c.workspace_id = r.workspace_id"
                                  " and c.revision = r.revision where c.revision is null and r.method not like"
                                  " '%CreateWorkspace'"), "0")

    # --- The epoch

    def end_sessions(self):
        self.sql("select count(pg_terminate_backend(pid)) from pg_stat_activity where backend_type = 'client backend'"
                 " and pid <> pg_backend_pid()")

    def test_epoch_is_replaced_once_by_whichever_server_sees_another_database(self):
        for change in ("timeline = timeline + 1", "system_identifier = system_identifier + 1"):
            epoch, revision = token_parts(self.update_any())
            real = self.sql("select system_identifier, timeline from instance")
            # As after a promotion or a restore: the row does not fit the database any more.
            self.sql(f"update instance set {change}")
            self.end_sessions()
            self.settle()
            self.assertEqual(self.sql("select system_identifier, timeline from instance"), real)
            now = int(self.sql("select epoch from instance")) % (1 << 64)
            self.assertNotEqual(now, epoch)
            for connection in (self.connection, self.other):
                status = self.read(connection, "any", consistency_token=token_of(epoch, revision))["status"]
                self.assertEqual((status["code"], status["outcome"]), (9, "OUTCOME_CONSISTENCY_TOKEN_UNKNOWN"))
                # Every worker of every server has the same new epoch.
                tokens = {token_parts(self.read(connection, "any")["consistency_token"])[0] for _ in range(30)}
                self.assertEqual(tokens, {now})

    def update_any(self):
        if not hasattr(Consistency, "any_made"):
            self.create("any", K=b"v")
            Consistency.any_made = True
        return self.update("any", K=b"w")["consistency_token"]

    def settle(self):
        """Waits until both servers answer many calls at once again, so that all of their workers have connected."""
        def works():
            for connection in (self.connection, self.other):
                numbers = [connection.send(TOKEN + "GetCaller", token=self.dev.admin) for _ in range(60)]
                if any(connection.receive(number).code != 0 for number in numbers):
                    return False
            return True
        wait_for(works, "the servers do not connect again")

    def test_epoch_stays_where_the_database_is_the_same(self):
        epoch, revision = token_parts(self.update_any())
        self.end_sessions()
        self.settle()
        for connection in (self.connection, self.other):
            result = self.read(connection, "any", consistency_token=token_of(epoch, revision))
            self.assertEqual(result["status"]["code"], 0)

    # --- Once

    def test_repeat_on_another_server_gets_the_first_answer_byte_by_byte(self):
        at, request_id = {"name": "echoed", "environment": "once"}, uuid7()
        first = self.call(SECRET + "CreateSecret", {**at, "values": values(K=b"v")}, request_id=request_id)
        self.update(**at, K=b"w")
        for connection in (self.other, self.connection, self.other):
            again = connection.call(SECRET + "CreateSecret", {**at, "values": values(K=b"v")}, token=self.dev.admin,
                                    request_id=request_id, attempt=1)
            self.assertEqual((again.code, again.payload), (0, first.payload))
        issue_id = uuid7()
        name, _ = self.account([{"permissions": ["resolve"]}])
        issued = self.issue(name)
        tokens = {connection.call(TOKEN + "IssueToken", {"service_account": name}, token=self.dev.admin,
                                  request_id=issue_id).payload for connection in (self.connection, self.other)}
        self.assertEqual((issued.code, len(tokens)), (0, 1))
        self.assertEqual(len(self.call(TOKEN + "ListTokens", {"service_account": name}).message["tokens"]), 2)

    def test_request_id_of_another_method_or_payload_is_refused_on_every_server(self):
        request_id = uuid7()
        self.call(SECRET + "CreateSecret", {"name": "taken", "values": values(K=b"v")}, request_id=request_id)
        for connection in (self.connection, self.other):
            for method, request in ((SECRET + "CreateSecret", {"name": "taken", "values": values(K=b"w")}),
                                    (SECRET + "CreateSecret", {"name": "taken2", "values": values(K=b"v")}),
                                    (SECRET + "DeleteSecret", {"name": "taken"}),
                                    (ENVIRONMENT + "CreateEnvironment", {"name": "taken"})):
                answer = connection.call(method, request, token=self.dev.admin, request_id=request_id)
                self.assertEqual(answer.reason, "REQUEST_ID_REUSED", (method, request))
        self.assertEqual(self.read(self.other, "taken")["status"]["code"], 0)

    def waiting(self):
        return int(self.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and"
                            " backend_type = 'client backend'"))

    def test_concurrent_attempt_waits_for_the_first_one_and_gets_its_answer(self):
        at = {"name": "waited", "environment": "once"}
        self.attempt_twice_at_once("CreateSecret", {**at, "values": values(K=b"v")}, 1)
        # The second one finds another version than it expects.
        self.attempt_twice_at_once("UpdateSecretValues",
                                   {**at, "expected_version": 1, "replace": {"values": values(K=b"w")}}, 2)

    def attempt_twice_at_once(self, method, request, version):
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        holder = subprocess.Popen([psql, "-X", "-q", "-A", "-t", "-d", self.dev.conninfo], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        request_id, numbers = uuid7(), []
        try:
            # The first attempt gets as far as the workspace's counter.
            holder.stdin.write("begin; select revision from workspace_revision where workspace_id ="
                               f" '{self.dev.workspace}' for update;\n")
            holder.stdin.flush()
            holder.stdout.readline()
            for i, connection in enumerate((self.connection, self.other)):
                numbers.append((connection, connection.send(SECRET + method, request, token=self.dev.admin,
                                                            request_id=request_id, attempt=i)))
                wait_for(lambda: self.waiting() > i, "an attempt does not wait")
        finally:
            holder.communicate("commit;\n")
        answers = [connection.receive(number, SECRET + method) for connection, number in numbers]
        self.assertEqual([answer.code for answer in answers], [0, 0])
        self.assertEqual(answers[0].payload, answers[1].payload)
        self.assertEqual(answers[0].message["secret"]["version"], version)

    def test_repeat_that_would_fail_in_what_the_first_attempt_has_left_gets_its_answer(self):
        at = {"name": "settled", "environment": "once"}
        gone = {"name": "gone", "environment": "once"}
        steps = [("CreateSecret", {**at, "values": values(K=b"1")}),
                 ("UpdateSecretValues", {**at, "expected_version": 1, "replace": {"values": values(K=b"2")}}),
                 ("CreateSecret", {**gone, "values": values(K=b"1")}),
                 ("DeleteSecret", gone)]
        before = self.revision()
        for method, request in steps:
            request_id = uuid7()
            first, *repeats = [connection.call(SECRET + method, request, token=self.dev.admin, request_id=request_id, attempt=i)
                               for i, connection in enumerate((self.connection, self.connection, self.other))]
            self.assertEqual(first.code, 0, first)
            self.assertEqual([answer.payload for answer in repeats], [first.payload] * 2, method)
            # Another request fails where the repeat did not.
            if method != "UpdateSecretValues":
                self.assertNotEqual(self.connection.call(SECRET + method, request, token=self.dev.admin).code, 0, method)
        self.assertEqual(self.connection.call(SECRET + "UpdateSecretValues", steps[1][1], token=self.dev.admin).reason,
                         "VERSION_MISMATCH")
        self.assertEqual(self.revision(), before + len(steps))

    def test_permission_is_checked_again_before_an_answer_is_sent_again(self):
        name, _ = self.account([{"permissions": ["secret:write"]}])
        whole = self.issue(name).message["secret_text"]
        narrow = self.issue(name, restrictions=[{"permissions": ["secret:write"], "names": ["else"]}]).message["secret_text"]
        request, request_id = {"name": "checked", "environment": "once", "values": values(K=b"v")}, uuid7()
        first = self.call(SECRET + "CreateSecret", request, token=whole, request_id=request_id)
        self.assertEqual(first.code, 0)
        denied = self.call(SECRET + "CreateSecret", request, token=narrow, request_id=request_id)
        self.assertEqual((denied.code, denied.reason), (7, "PERMISSION_DENIED"))
        self.assertEqual(self.call(SECRET + "CreateSecret", request, token=whole, request_id=request_id).payload,
                         first.payload)
        self.assertEqual(self.call(TOKEN + "RevokeToken", token=whole).code, 0)
        gone = self.call(SECRET + "CreateSecret", request, token=whole, request_id=request_id)
        self.assertEqual((gone.code, gone.reason), (16, "TOKEN_INVALID"))

    def test_stored_answers_are_sealed(self):
        name, _ = self.account([{"permissions": ["resolve"]}])
        request_id = uuid7()
        issued = self.call(TOKEN + "IssueToken", {"service_account": name, "description": "sealed-answer"},
                           request_id=request_id)
        token = issued.message["secret_text"]
        stored = self.sql("select request::text, encode(answer, 'hex') from request where request_id ="
                          f" '{request_id.hex()}'")
        self.assertIn("IssueToken", stored)
        for text in (token, token[10:50], b"sealed-answer", issued.message["token"]["uid"].encode()):
            self.assertNotIn(text.hex(), stored)
            self.assertNotIn(text.decode(), stored)
        # A blob: its format and the key's generation.
        self.assertTrue(stored.rsplit("|", 1)[1].startswith("0100000001"), stored)
        everything = self.sql("select request::text from request")
        self.assertNotIn(token.hex(), everything)
        self.assertNotIn(b"cof_ws_".hex(), everything)

    def test_request_id_that_is_too_old_or_ahead_is_refused_and_the_difference_named(self):
        now = self.now_ms()
        for hours, taken in {-22.9: True, -23.1: False, -100: False, 0.07: True, 0.2: False, 48: False}.items():
            request_id = uuid7(int(now + hours * HOUR))
            answer = self.call(ENVIRONMENT + "CreateEnvironment", {"name": f"age{hours + 200}"}, request_id=request_id)
            if taken:
                self.assertEqual(answer.code, 0, (hours, answer))
                continue
            self.assertEqual((answer.code, answer.reason), (3, "REQUEST_ID_EXPIRED"), hours)
            seconds = [int(number) for number in re.findall(r"(\d+) s", answer.text)]
            self.assertTrue(any(abs(number - abs(hours) * 3600) < 120 for number in seconds), (hours, answer.text))
            # Reads do not care.
            self.assertEqual(self.call(ENVIRONMENT + "ListEnvironments", {}, request_id=request_id).code, 0)

    def test_two_callers_or_two_workspaces_can_use_one_request_id(self):
        request_id = uuid7()
        first, _ = self.new_workspace("ids-one")
        second, _ = self.new_workspace("ids-two")
        fleet = self.fleet([{"permissions": ["secret:write"]}])
        for workspace in (first, second, self.dev.workspace):
            answer = self.call(SECRET + "CreateSecret", {"workspace": workspace, "name": "id", "values": values(K=b"v")},
                               token=fleet, request_id=request_id)
            self.assertEqual(answer.code, 0, answer)
        other = self.token_for([{"permissions": ["secret:write"]}])
        for token in (self.dev.admin, other):
            answer = self.call(SECRET + "CreateSecret", {"name": f"id-{token[-6:].decode()}", "values": values(K=b"v")},
                               token=token, request_id=request_id)
            self.assertEqual(answer.code, 0, answer)
        self.assertEqual(self.sql(f"select count(*) from request where request_id = '{request_id.hex()}'"), "5")

    # --- Connections that are cut

    def test_client_cut_at_any_byte_of_a_write_finds_it_done_once_or_not_at_all(self):
        sizes = None
        for i in range(40):
            name, request_id = f"cut{i}", uuid7()
            request = {"name": name, "environment": "cuts", "values": values(K=b"v")}
            connection = self.dev.connect(self.addresses[i % 2])
            sent = connection.socket

            class Cut:
                """Sends only the beginning of what is sent."""

                def sendall(self, data):
                    nonlocal sizes
                    sizes = len(data)
                    sent.sendall(data[:cut])

            cut = 0 if sizes is None else self.random.choice([self.random.randrange(sizes), sizes])
            connection.socket = Cut()
            connection.send(SECRET + "CreateSecret", request, token=self.dev.admin, request_id=request_id)
            sent.close()
            for again in (self.connection, self.other):
                answer = again.call(SECRET + "CreateSecret", request, token=self.dev.admin, request_id=request_id, attempt=1)
                self.assertEqual((answer.code, answer.message["secret"]["version"]), (0, 1), (i, cut, answer))

    def test_database_connections_cut_at_random_leave_every_write_done_once(self):
        """T03."""
        stop = threading.Event()
        cuts, written = [0], [0] * 4

        def cutter():
            chance = random.Random(SEED)
            while not stop.is_set():
                time.sleep(chance.uniform(0.02, 0.15))
                cuts[0] += len(self.sql(
                    "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <>"
                    " pg_backend_pid() and query <> '' order by random() limit 2").split())

        def writer(index):
            while written[index] < CUT_WRITES or cuts[0] <= 3:
                i = written[index]
                pairs = values(**{f"K{i % 20}": b"%d" % i})
                request = {"name": f"cutdb{index}", "environment": "cuts"}
                request |= {"values": pairs} if i == 0 else {"patch": {"set": pairs}}
                answer = self.until_known(SECRET + ("CreateSecret" if i == 0 else "UpdateSecretValues"), request, index)
                assert answer.message["secret"]["version"] == i + 1, (index, i, answer.message)
                written[index] += 1
        thread = threading.Thread(target=cutter)
        thread.start()
        try:
            in_threads(4, writer)
        finally:
            stop.set()
            thread.join()
        print(f"{sum(written)} writes, {cuts[0]} connections cut", flush=True)
        self.settle()
        for index in range(4):
            result = self.read_all(f"cutdb{index}", 20)
            self.assertEqual(result, {f"K{i % 20}": b"%d" % i for i in range(written[index])})

    def until_known(self, method, request, index):
        """Repeats a call until its outcome is known, each time on the other server."""
        request_id = uuid7()
        for attempt in range(200):
            with self.dev.connect(self.addresses[(index + attempt) % 2]) as connection:
                answer = connection.call(method, request, token=self.dev.admin, request_id=request_id, attempt=attempt)
            if answer.code == 0:
                return answer
            assert answer.code in (10, 14), answer
            time.sleep(0.02)
        raise AssertionError("200 attempts were not enough")

    def read_all(self, name, count):
        result = self.resolve("cuts", *(f"{name}.K{i}" for i in range(count)))
        return {pair["key"]: pair["value"] for pair in result["secrets"][0]["values"]}


if __name__ == "__main__":
    unittest.main(verbosity=2)
