#!/usr/bin/env python3
"""What servers keep of what they have read: fresh, of the right tenant, and over at the first write."""

import os
import random
import signal
import threading
import time
import unittest
import uuid

import context
import token_text
from audit_test import export
from cofferd import STALENESS, Relay, references, seed, values, wait_for
from context import RESOLVE, SECRET, TOKEN

RIGHTS = "token, principal, secret, workspace_revision, workspace_key"
# Writes after each of which nothing old may be answered (T22).
WRITES, COUNTED, REVOKED = (3000, 600, 600) if os.environ.get("TEST_FULL") else (120, 40, 12)
MANY = [{"permissions": ["resolve", "secret:read"]}]


class CacheTest(context.AccessTest):
    """Two servers on one database."""

    MORE = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.second = cls.dev.more("second", **cls.MORE)
        cls.other = cls.dev.connect(cls.second.address)
        cls.addClassCleanup(cls.other.close)

    def ask(self, name, connection=None, token=None, environment="", consistency_token="", **options):
        """The answer to a Resolve of the secret's key K."""
        item = {"environments": [environment], "references": references(f"{name}.K"),
                "consistency_token": consistency_token}
        return (connection or self.connection).call(RESOLVE, {"items": [item]}, token=token or self.dev.admin, **options)

    def found(self, name, connection=None, **options):
        """The value, or the outcome or reason without one."""
        answer = self.ask(name, connection, **options)
        if answer.code != 0:
            return answer.reason
        result = answer.message["results"][0]
        if result["status"]["code"] != 0:
            return result["status"]["outcome"].removeprefix("OUTCOME_")
        return self.value(result, name, "K")

    def written(self, method, request, connection=None, token=None):
        """Makes a write; its consistency token."""
        answer = (connection or self.connection).call(method, request, token=token or self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["consistency_token"]

    def update(self, name, value, connection=None):
        return self.written(SECRET + "UpdateSecretValues", {"name": name, "patch": {"set": values(K=value)}}, connection)


class Kept(CacheTest):
    def test_calls_are_answered_while_nobody_can_read_token_rights_or_secret(self):
        self.create("kept", K=b"kept value")
        self.assertEqual(self.found("kept"), b"kept value")
        end = time.monotonic() + 2.5 * STALENESS
        count = 0
        with self.locked(RIGHTS):
            while time.monotonic() < end or count <= 10:
                self.assertEqual(self.found("kept"), b"kept value")
                self.assertEqual(self.works(self.dev.admin), "OK")
                count += 1

    def test_answer_from_memory_leaves_its_record_and_its_line_in_the_log(self):
        self.create("recorded", K=b"recorded value")
        self.assertEqual(self.found("recorded"), b"recorded value")
        with self.locked(RIGHTS):
            answer = self.ask("recorded")
        self.assertEqual(answer.code, 0)
        wanted = str(uuid.UUID(bytes=answer.request_id))
        records = [record for record in export(self.dev) if record.get("request_id") == wanted]
        self.assertEqual([(o["name"], o["keys"]) for record in records for o in record["objects"]], [("recorded", ["K"])])
        lines = [line for line in self.dev.server.log.read_text().splitlines() if wanted in line]
        self.assertEqual(len(lines), 1)
        self.assertNotIn("recorded value", self.dev.server.log.read_text())

    def test_what_is_too_much_for_memory_is_answered_all_the_same(self):
        names = [f"many{i}" for i in range(80)]
        for name in names:
            self.create(name, K=name.encode())
        item = {"references": references(*(f"{name}.K" for name in names))}
        for _ in range(3):
            answer = self.call(RESOLVE, {"items": [item, item]})
            for result in answer.message["results"]:
                self.assertEqual([s["values"][0]["value"] for s in result["secrets"]], sorted(n.encode() for n in names))

    def test_key_that_is_not_there_is_told_with_near_misses_from_memory_too(self):
        self.create("near", KEY_ONE=b"1")
        for _ in range(3):
            result = self.resolve("", "near.KEY_ONE", "near.KEY_TWO")
            fault, = result["faults"]
            self.assertEqual((fault["outcome"], fault["near_misses"]), ("OUTCOME_KEY_NOT_FOUND", ["KEY_ONE"]))
            missing, = self.resolve("", "near2.KEY_ONE")["faults"]
            self.assertEqual((missing["outcome"], missing["near_misses"]), ("OUTCOME_SECRET_NOT_FOUND", ["near"]))

    def test_secret_that_may_be_missing_is_known_to_be_missing_until_it_is_made(self):
        item = {"declarations": [{"name": "optional", "optional_keys": ["K"], "optional": True}]}

        def outcome(consistency_token=""):
            answer = self.other.call(RESOLVE, {"items": [{**item, "consistency_token": consistency_token}]},
                                     token=self.dev.admin)
            return answer.message["results"][0]["outcomes"]
        self.assertEqual(outcome(), ["OUTCOME_ABSENT"])
        with self.locked(RIGHTS):
            self.assertEqual(outcome(), ["OUTCOME_ABSENT"])
        made = self.create("optional", K=b"there")
        self.assertEqual(outcome(made.message["consistency_token"]), ["OUTCOME_RESOLVED"])

    def test_damaged_secret_is_never_kept(self):
        uid = self.create("damaged", K=b"whole").message["secret"]["uid"]
        self.sql(f"update secret set blob = set_byte(blob, 40, get_byte(blob, 40) # 1) where secret_id = '{uid}'")
        for _ in range(3):
            self.assertEqual(self.found("damaged"), "CORRUPTED")
        self.sql(f"update secret set blob = set_byte(blob, 40, get_byte(blob, 40) # 1) where secret_id = '{uid}'")
        self.assertEqual(self.found("damaged"), b"whole")

    def test_token_that_is_kept_ends_when_its_time_is_over(self):
        name, _ = self.account(MANY)
        self.create("until", K=b"until")
        ends = int(time.time()) + 6
        token = self.issue(name, expire_time={"seconds": ends}).message["secret_text"]
        self.assertEqual(self.found("until", token=token), b"until")
        wait_for(lambda: self.found("until", token=token) == "TOKEN_EXPIRED", "the token works on")
        self.assertGreaterEqual(time.time(), ends)

    def test_wrong_secret_part_of_a_kept_token_is_invalid(self):
        self.create("guessed", K=b"guessed")
        self.assertEqual(self.found("guessed"), b"guessed")
        kind, workspace, token_id, _ = token_text.parse(self.dev.admin)
        wrong = token_text.make(kind, workspace, token_id, os.urandom(token_text.SECRET))
        self.assertEqual(self.found("guessed", token=wrong), "TOKEN_INVALID")
        self.assertEqual(self.works(wrong), "TOKEN_INVALID")
        self.assertEqual(self.found("guessed"), b"guessed")

    def test_keeping_tokens_only_reads_secrets_each_time(self):
        server = self.dev.more("callers", COFFERD_CACHE__SECRETS="false")
        self.create("anew", K=b"1")
        uid = self.call(SECRET + "GetSecret", {"name": "anew"}).message["secret"]["uid"]
        with self.dev.connect(server.address) as connection:
            self.assertEqual(self.found("anew", connection), b"1")
            with self.locked("token, principal"):
                self.assertEqual(self.found("anew", connection), b"1")
            self.sql(f"update secret set blob = set_byte(blob, 40, get_byte(blob, 40) # 1) where secret_id = '{uid}'")
            self.assertEqual(self.found("anew", connection), "CORRUPTED")


class Fresh(CacheTest):
    def test_every_kind_of_write_is_seen_at_once_on_its_server_and_elsewhere_with_its_token(self):
        """T22: 0 old answers on the writing server, 0 with a consistency token."""
        self.random = random.Random(seed())
        names, model = [f"fresh{i}" for i in range(4)], {}

        def write(name, here, i):
            value, new = f"v{i}".encode(), f"new{i}"
            if model.get(name) is None:
                model[name] = value
                return self.written(SECRET + "CreateSecret", {"name": name, "values": values(K=value)}, here)
            kind = self.random.choice(["update", "update", "delete", "rename"])
            if kind == "update":
                model[name] = value
                return self.update(name, value, here)
            model[new], model[name] = model[name] if kind == "rename" else None, None
            if kind == "delete":
                return self.written(SECRET + "DeleteSecret", {"name": name}, here)
            return self.written(SECRET + "RenameSecret", {"name": name, "new_name": new}, here)

        for i in range(WRITES):
            here, there = self.random.sample([self.connection, self.other], 2)
            name = self.random.choice(names)
            for connection in (here, there):
                self.found(name, connection)  # so that something old could be kept
            token = write(name, here, i)
            for asked in (name, f"new{i}"):
                expected = model.get(asked) or "SECRET_NOT_FOUND"
                self.assertEqual(self.found(asked, here), expected, (i, asked))
                self.assertEqual(self.found(asked, there, consistency_token=token), expected, (i, asked))

    def test_no_answer_is_older_than_the_limit_on_any_server(self):
        """T22: 0 old answers on the writing server, 0 after 1 s on others."""
        self.create("counted", K=b"0")
        acknowledged, stop, failures = [(0, time.monotonic())], threading.Event(), []

        def least(seconds):
            return max(number for number, at in list(acknowledged) if at <= time.monotonic() - seconds)

        def read(address, seconds):
            with self.dev.connect(address) as connection:
                while not stop.is_set():
                    expected = least(seconds)
                    found = self.found("counted", connection)
                    if int(found) < expected:
                        failures.append((address, expected, found))
        acknowledged[0] = (0, time.monotonic() - STALENESS)
        readers = [threading.Thread(target=read, args=arguments) for arguments in (
            (self.dev.ipc, 0), (self.dev.ipc, 0), (self.second.address, STALENESS), (self.second.address, STALENESS))]
        for reader in readers:
            reader.start()
        try:
            for number in range(1, COUNTED):
                self.update("counted", str(number).encode())
                acknowledged.append((number, time.monotonic()))
                time.sleep(0.05)
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        self.assertEqual(failures, [])
        self.wait_for_others()
        self.assertEqual(self.found("counted", self.other), str(COUNTED - 1).encode())

    def test_right_that_was_taken_away_gives_nothing_with_the_tokens_state(self):
        self.create("secret-a", K=b"a")
        for change in ("revoke", "grants", "disable", "delete"):
            name, _ = self.account(MANY)
            token = self.issue(name).message["secret_text"]
            for connection in (self.connection, self.other):
                self.assertEqual(self.found("secret-a", connection, token=token), b"a")
            if change == "revoke":
                state = self.written(TOKEN + "RevokeToken", {}, token=token)
            elif change == "grants":
                state = self.update_account(name, grants=[{"permissions": ["resolve"], "names": ["other"]}]).message
            elif change == "disable":
                state = self.update_account(name, disabled=True).message
            else:
                state = self.delete_account(name).message
            state = state if isinstance(state, str) else state["consistency_token"]
            expected = {"revoke": "TOKEN_INVALID", "grants": "PERMISSION_DENIED", "disable": "ACCOUNT_DISABLED",
                        "delete": "TOKEN_INVALID"}[change]
            self.assertEqual(self.found("secret-a", self.other, token=token, consistency_token=state), expected, change)
            self.assertEqual(self.found("secret-a", token=token), expected, change)
            self.assertEqual(self.found("secret-a", self.other, token=token), expected, change)

    def test_right_that_was_taken_away_gives_nothing_anywhere_within_the_limit(self):
        """T22: 0 old answers on the server that took it, 0 after 1 s on others, whoever asked for it in between."""
        chance = random.Random(seed())
        self.create("taken", K=b"a")
        expected = {"revoke": "TOKEN_INVALID", "grants": "PERMISSION_DENIED", "disable": "ACCOUNT_DISABLED",
                    "delete": "TOKEN_INVALID"}
        taken, stale = [], 0
        for i in range(REVOKED):
            change = chance.choice(list(expected))
            name, _ = self.account(MANY)
            token = self.issue(name).message["secret_text"]
            here, there = chance.sample([self.connection, self.other], 2)
            for connection in (here, there):
                self.assertEqual(self.found("taken", connection, token=token), b"a")
            self.take_away(change, name, token, here)
            self.assertEqual(self.found("taken", here, token=token), expected[change], (i, change))
            taken.append((time.monotonic(), there, token, expected[change]))
            stale += self.found("taken", there, token=token) == b"a"
            while taken and taken[0][0] < time.monotonic() - STALENESS:
                _, late, token, reason = taken.pop(0)
                self.assertEqual(self.found("taken", late, token=token), reason, i)
        self.wait_for_others()
        for _, late, token, reason in taken:
            self.assertEqual(self.found("taken", late, token=token), reason)
        print(f"{REVOKED} rights were taken away, {stale} times the other server did not know at once", flush=True)

    def take_away(self, change, name, token, connection):
        method, request = {
            "revoke": (TOKEN + "RevokeToken", {}),
            "grants": (context.ACCOUNT + "UpdateServiceAccount", {
                "name": name, "update_mask": {"paths": ["grants"]},
                "grants": [{"permissions": ["resolve"], "names": ["other"]}]}),
            "disable": (context.ACCOUNT + "UpdateServiceAccount", {
                "name": name, "update_mask": {"paths": ["disabled"]}, "disabled": True}),
            "delete": (context.ACCOUNT + "DeleteServiceAccount", {"name": name}),
        }[change]
        self.written(method, request, connection, token=token if change == "revoke" else None)

    def test_fleet_token_that_was_revoked_is_refused_elsewhere_within_the_limit(self):
        self.create("fleet-a", K=b"a")
        item = {"workspace": self.dev.workspace, "references": references("fleet-a.K")}

        def outcome(connection, token):
            answer = connection.call(RESOLVE, {"items": [item]}, token=token)
            return answer.reason or answer.message["results"][0]["status"]["outcome"]
        token = self.fleet([{"permissions": ["resolve"]}])
        for connection in (self.connection, self.other):
            self.assertEqual(outcome(connection, token), "OUTCOME_RESOLVED")
        self.written(TOKEN + "RevokeToken", {}, token=token)
        self.assertEqual(outcome(self.connection, token), "TOKEN_INVALID")
        self.wait_for_others()
        self.assertEqual(outcome(self.other, token), "TOKEN_INVALID")

    def test_item_is_answered_from_one_state_by_every_server(self):
        for name in ("first", "then"):
            self.create(name, K=b"0")
        stop, failures = threading.Event(), []

        def read(address):
            item = {"references": references("first.K", "then.K")}
            with self.dev.connect(address) as connection:
                while not stop.is_set():
                    result = connection.call(RESOLVE, {"items": [item]}, token=self.dev.admin).message["results"][0]
                    first, then = (int(self.value(result, name, "K")) for name in ("first", "then"))
                    if first - then not in (0, 1):
                        failures.append((address, first, then))
        readers = [threading.Thread(target=read, args=(address,)) for address in (self.dev.ipc, self.second.address) * 2]
        for reader in readers:
            reader.start()
        try:
            for number in range(1, 60):
                self.update("first", str(number).encode())
                self.update("then", str(number).encode())
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        self.assertEqual(failures, [])


class ByWorkspace(CacheTest):
    """Where transactions have no order over the whole database; here, as if they had none."""

    SETTINGS = MORE = {"COFFERD_CHANGES__CONFIRM": "workspace"}

    def test_without_an_order_over_all_workspaces_each_one_in_use_is_confirmed_by_itself(self):
        self.create("alone", K=b"alone")
        self.assertEqual(self.found("alone"), b"alone")
        self.assertEqual(self.found("alone"), b"alone")
        # Nobody can read what is kept, and the limit passes again and again.
        with self.locked("token, principal, secret, change"):
            end = time.monotonic() + 3 * STALENESS
            while time.monotonic() < end:
                self.assertEqual(self.found("alone", timeout_ms=30000), b"alone")
                time.sleep(0.02)
        self.update("alone", b"new", self.other)
        wait_for(lambda: self.found("alone") == b"new", "the write of another server is seen")

    def test_without_an_order_over_all_workspaces_no_answer_is_older_than_the_limit(self):
        Fresh.test_no_answer_is_older_than_the_limit_on_any_server(self)

    def test_without_an_order_over_all_workspaces_calls_with_a_token_wait_for_its_state(self):
        Fresh.test_right_that_was_taken_away_gives_nothing_with_the_tokens_state(self)


class Hints(CacheTest):
    """Servers that look for changes once a minute: what they learn sooner they were told."""

    RARELY = {"COFFERD_CHANGES__INTERVAL": "60s"}

    def watching(self, server, name):
        """A watch that waits on that server; gives its connection and the number of the call."""
        connection = self.dev.connect(server.address)
        self.addCleanup(connection.close)
        first = connection.call(SECRET + "WatchSecrets", {"name_prefix": name}, token=self.dev.admin)
        number = connection.send(SECRET + "WatchSecrets", {
            "name_prefix": name, "resume_token": first.message["resume_token"]}, token=self.dev.admin, timeout_ms=60000)
        return connection, number

    def is_told(self, watch):
        connection, number = watch
        return [c["name"] for c in connection.receive(number, SECRET + "WatchSecrets").message["changes"]]

    def test_hint_tells_other_servers_of_a_write_long_before_their_next_look(self):
        servers = [self.dev.more(f"told{i}", **self.RARELY) for i in range(2)]
        begin = time.monotonic()
        for i in range(4):
            watches = [self.watching(server, f"hinted{i}") for server in servers]
            self.create(f"hinted{i}", K=b"1")
            for watch in watches:
                self.assertEqual(self.is_told(watch), [f"hinted{i}"])
        # Looks alone would have taken a minute for each.
        self.assertLess(time.monotonic() - begin, 4 * 60)

    def test_hints_that_are_lost_or_that_nobody_sends_harm_nothing(self):
        deaf = self.dev.more("deaf", COFFERD_CHANGES__HINTS="false")
        stop, failures = threading.Event(), []

        def cut():
            while not stop.wait(0.05):
                self.sql("select pg_terminate_backend(pid) from pg_stat_activity where query ~* 'listen|notify'"
                         " and pid <> pg_backend_pid()")
        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            for i in range(6):
                watch = self.watching(deaf, f"lost{i}")
                other = self.watching(self.second, f"lost{i}")
                token = self.create(f"lost{i}", K=b"1").message["consistency_token"]
                for address in (deaf.address, self.second.address):
                    with self.dev.connect(address) as connection:
                        if self.found(f"lost{i}", connection, consistency_token=token) != b"1":
                            failures.append((i, address))
                self.assertEqual((self.is_told(watch), self.is_told(other)), ([f"lost{i}"],) * 2)
        finally:
            stop.set()
            cutter.join()
        self.assertEqual(failures, [])

    def test_writes_do_not_wait_for_the_connections_of_the_hints(self):
        hinting = ("select pid from pg_stat_activity where query ~* 'listen|notify' and application_name = 'coffer'")
        self.create("first-hint", K=b"0")
        pids = [int(pid) for pid in wait_for(lambda: self.sql(hinting).split(), "somebody hints")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            for i in range(20):
                self.create(f"no-hint{i}", K=b"1")
            self.wait_for_others()
            self.assertEqual(self.found("no-hint19", self.other), b"1")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


class Gone(CacheTest):
    """What becomes of it when the database cannot be reached."""

    def test_server_cut_off_answers_from_memory_no_longer_than_the_limit_and_then_not_from_before(self):
        with Relay(self.dev.directory) as relay:
            server = self.dev.more("cut", COFFERD_DATABASE__CONNINFO=(
                f"host={relay.directory} user=coffer dbname=postgres"))
            with self.dev.connect(server.address) as connection:
                self.create("cut", K=b"before")
                self.assertEqual(self.found("cut", connection), b"before")
                relay.cut()
                self.update("cut", b"after")
                self.wait_for_others()
                self.assertEqual(self.found("cut", connection), "DATABASE_UNAVAILABLE")
                relay.restore()
                wait_for(lambda: self.ask("cut", connection).code == 0, "the server does not come back")
                self.assertEqual(self.found("cut", connection), b"after")

    def test_server_that_was_stopped_for_longer_than_changes_are_followed_drops_what_it_has_kept(self):
        server = self.dev.more("behind", COFFERD_CHANGES__FOLLOWED="2s")
        with self.dev.connect(server.address) as connection:
            self.create("behind", K=b"before")
            end = time.monotonic() + 2 * STALENESS
            while time.monotonic() < end:  # until it is kept, and confirmed by the job
                self.assertEqual(self.found("behind", connection), b"before")
            server.process.send_signal(signal.SIGSTOP)
            try:
                self.update("behind", b"after")
                time.sleep(2.5)
            finally:
                server.process.send_signal(signal.SIGCONT)
            self.assertEqual(self.found("behind", connection), b"after")
            wait_for(lambda: "cache_dropped" in server.log.read_text(), "what was kept is dropped")
            self.assertEqual(self.found("behind", connection), b"after")

    def test_database_that_does_not_answer_ends_answers_from_memory_within_the_limit(self):
        self.create("stuck", K=b"stuck")
        self.assertEqual(self.found("stuck"), b"stuck")
        pids = [int(pid) for pid in self.sql("select pid from pg_stat_activity where backend_type = 'client backend'"
                                             " and pid <> pg_backend_pid()").split()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.wait_for_others()
            self.assertIn(self.ask("stuck", timeout_ms=300).code, (4, 14))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        wait_for(lambda: self.ask("stuck").code == 0, "the database answers again")
        self.assertEqual(self.found("stuck"), b"stuck")


class Tenants(context.AccessTest):
    """Many of them, with the same names, in a cache that has no room for all."""

    SETTINGS = {"COFFERD_CACHE__SIZE": "65536", "COFFERD_LOG__REQUESTS": "failed"}
    TENANTS = 60
    READS = 600
    THREADS = 4

    def test_no_tenant_gets_a_byte_of_another_while_entries_come_and_go(self):
        """T21, small."""
        number = seed()
        workspaces = []
        for i in range(self.TENANTS):
            workspace, admin = self.new_workspace(f"tenant-{i}")
            workspaces.append(workspace)
            for name in ("one", "two"):
                self.create(name, token=admin, K=f"{workspace} {name}".encode())
        fleet = self.fleet([{"permissions": ["resolve"]}])
        failures = []

        def read(index):
            chance = random.Random(number + index)
            connection = self.dev.connect()
            for i in range(self.READS):
                workspace, name = chance.choice(workspaces), chance.choice(["one", "two"])
                if chance.random() < 0.02:
                    connection.close()
                    connection = self.dev.connect()
                item = {"workspace": workspace, "references": references(f"{name}.K")}
                answer = connection.call(RESOLVE, {"items": [item]}, token=fleet)
                found = answer.message["results"][0]["secrets"] if answer.code == 0 else answer
                if answer.code != 0 or found[0]["values"][0]["value"] != f"{workspace} {name}".encode():
                    failures.append((i, workspace, name, found))
            connection.close()
        threads = [threading.Thread(target=read, args=(index,)) for index in range(self.THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
