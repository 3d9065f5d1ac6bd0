#!/usr/bin/env python3
"""Watches: every change of a secret is told once and in order, to those who may see it, whichever server they ask."""

import base64
import os
import random
import signal
import threading
import unittest

import context
from cofferd import PATIENCE, references, seed, values, wait_for
from context import ACCOUNT, ENVIRONMENT, RESOLVE, SECRET, TOKEN
from sp_client import uuid7

WATCH = SECRET + "WatchSecrets"
CALLER = TOKEN + "GetCaller"
PATIENT_MS = 600000
AT_ONCE = 1  # a wait that is over before it begins
ONE_WORKER = {"COFFERD_LIMITS__WORKERS": "1", "COFFERD_LIMITS__MAX_TIMEOUT": "600s"}


def parts(token):
    """(epoch, workspace, revision) of a resume token, which clients do not look into."""
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert len(raw) == 33 and raw[0] == 1, raw
    return raw[1:9], raw[9:25], int.from_bytes(raw[25:], "big")


def token_of(epoch, workspace, revision):
    raw = b"\1" + epoch + workspace + revision.to_bytes(8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Watcher:
    """Whoever goes on with the resume token of the last answer."""

    def __init__(self, connection, credential, **filters):
        self.connection, self.credential, self.filters = connection, credential, filters
        self.told = []
        self.last = self.ask()

    def ask(self, **fields):
        return self.take(self.send(**fields))

    def send(self, timeout_ms=PATIENT_MS, **fields):
        token = self.last.message["resume_token"] if hasattr(self, "last") else ""
        return self.connection.send(WATCH, {"resume_token": token, **self.filters, **fields}, token=self.credential,
                                    timeout_ms=timeout_ms)

    def take(self, number):
        answer = self.connection.receive(number, WATCH)
        assert answer.code == 0, answer
        self.last = answer
        self.told += answer.message["changes"]
        return answer

    def catch_up(self):
        """Everything that is there by now; returns what has been told since the call before."""
        before = len(self.told)
        while self.ask(wait_ms=AT_ONCE).message["changes"] or self.last.message["more"]:
            pass
        return self.told[before:]


class WatchTest(context.AccessTest):
    SETTINGS = {"COFFERD_LIMITS__MAX_TIMEOUT": "600s"}

    def setUp(self):
        self.place = self.id().rpartition(".")[2][:60].replace("_", "-")

    def watcher(self, connection=None, credential=None, **filters):
        """Watches what the test writes into its own environment."""
        filters.setdefault("environments", [self.place])
        return Watcher(connection or self.connection, credential or self.dev.admin, **filters)

    def do(self, method, name, connection=None, **fields):
        answer = (connection or self.connection).call(SECRET + method, {
            "environment": self.place, "name": name, **fields}, token=self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret"]

    def make(self, name, connection=None, **fields):
        return self.do("CreateSecret", name, connection, values=values(KEY=b"1"), **fields)

    def write(self, name, connection=None):
        return self.do("UpdateSecretValues", name, connection, replace={"values": values(KEY=os.urandom(8))})

    @staticmethod
    def brief(changes):
        return [(c["kind"].removeprefix("SECRET_CHANGE_KIND_"), c["name"]) for c in changes]

    def revision(self):
        return int(self.sql(f"select revision from workspace_revision where workspace_id = '{self.dev.workspace}'"))

    def one_worker(self, name, **settings):
        return self.dev.more(name, **ONE_WORKER, **settings)

    def until_parked(self, server):
        """The server has one worker: when a later call is answered, the ones before it wait."""
        with self.dev.connect(server.address) as connection:
            self.assertEqual(connection.call(CALLER, token=self.dev.admin).code, 0)


class Told(WatchTest):
    def test_watch_without_a_token_is_answered_at_once_with_the_position_of_now(self):
        self.make("before")
        watcher = self.watcher()
        self.assertEqual((watcher.last.message["changes"], watcher.last.message["more"]), ([], False))
        self.assertEqual(parts(watcher.last.message["resume_token"])[2], self.revision())
        self.make("behind")
        self.assertEqual(self.brief(watcher.catch_up()), [("CREATED", "behind")])

    def test_every_kind_of_change_is_told_once_and_in_order(self):
        watcher = self.watcher()
        first = self.make("a")
        self.write("a")
        self.do("UpdateSecretValues", "a", patch={"set": values(MORE=b"")})
        self.do("UpdateSecret", "a", update_mask={"paths": ["tags"]}, tags=["t"])
        self.do("RollBackSecret", "a", version=1)
        self.do("DestroySecretVersion", "a", version=2)
        self.do("RenameSecret", "a", new_name="b")
        copy = self.do("CopySecret", "b", target_environment=self.place, target_name="c")
        self.do("CopySecret", "b", target_environment=self.place, target_name="c", overwrite=True)
        self.do("DeleteSecret", "b")
        self.do("RestoreSecret", "b")
        self.do("DeleteSecret", "c")
        told = watcher.catch_up()
        expected = [("CREATED", "a", 1), ("VALUES_CHANGED", "a", 2), ("VALUES_CHANGED", "a", 3),
                    ("METADATA_CHANGED", "a", 3), ("VALUES_CHANGED", "a", 4), ("VERSION_DESTROYED", "a", 4),
                    ("RENAMED", "b", 4), ("CREATED", "c", 1), ("VALUES_CHANGED", "c", 2), ("DELETED", "b", 4),
                    ("RESTORED", "b", 4), ("DELETED", "c", 2)]
        self.assertEqual([(*name, c["version"]) for name, c in zip(self.brief(told), told)], expected)
        self.assertEqual([c["uid"] for c in told], [copy["uid"] if c["name"] == "c" else first["uid"] for c in told])
        self.assertEqual({c["environment"] for c in told}, {self.place})
        self.assertEqual([c["old_name"] for c in told], ["a" if kind == "RENAMED" else "" for kind, *_ in expected])
        self.assertEqual([c["destroyed_version"] for c in told],
                         [2 if kind == "VERSION_DESTROYED" else 0 for kind, *_ in expected])
        revisions = [c["revision"] for c in told]
        self.assertEqual(revisions, list(range(revisions[0], revisions[0] + len(told))))
        self.assertTrue(all(c["time"]["seconds"] > 1700000000 for c in told))

    def test_what_changes_no_secret_or_fails_or_is_repeated_is_not_told(self):
        watcher = self.watcher(environments=[])
        before = self.revision()
        self.assertEqual(self.call(ENVIRONMENT + "CreateEnvironment", {"name": self.place}).code, 0)
        self.token_for([{"permissions": ["resolve"]}])
        self.assertEqual(self.call(SECRET + "DeleteSecret", {"environment": self.place, "name": "none"}).code, 5)
        request = {"environment": self.place, "name": "once", "values": values(KEY=b"1")}
        request_id = uuid7()
        for _ in range(3):
            self.assertEqual(self.call(SECRET + "CreateSecret", request, request_id=request_id).code, 0)
        self.assertEqual(self.brief(watcher.catch_up()), [("CREATED", "once")])
        self.assertGreater(self.revision(), before + 3)

    def test_answer_never_has_a_value_and_its_consistency_token_names_what_it_told(self):
        planted = os.urandom(16).hex().encode()
        watcher = self.watcher()
        self.make("canary")
        self.do("UpdateSecretValues", "canary", replace={"values": values(KEY=planted)})
        answer = watcher.ask()
        self.assertEqual(len(answer.message["changes"]), 2)
        self.assertNotIn(planted, answer.payload)
        other = self.dev.more("consistent")
        with self.dev.connect(other.address) as connection:
            result = connection.call(RESOLVE, {"items": [{
                "environments": [self.place], "references": references("canary.KEY"),
                "consistency_token": answer.message["consistency_token"]}]}, token=self.dev.admin).message["results"][0]
        self.assertEqual(self.value(result, "canary", "KEY"), planted)

    def test_pages_hold_what_was_asked_for_and_say_whether_there_is_more(self):
        watcher = self.watcher(page_size=3)
        for i in range(7):
            self.make(f"s{i}")
        pages = []
        while not pages or watcher.last.message["more"]:
            pages.append([c["name"] for c in watcher.ask().message["changes"]])
        self.assertEqual(pages, [["s0", "s1", "s2"], ["s3", "s4", "s5"], ["s6"]])

    def test_import_is_told_whole_in_one_answer_whatever_the_size_of_the_page(self):
        self.make("changed")
        self.make("same")
        watcher = self.watcher(page_size=1)
        secrets = [{"environment": self.place, "name": name, "values": values(KEY=value)}
                   for name, value in (("new-1", b"1"), ("changed", b"2"), ("same", b"1"), ("new-2", b"1"))]
        request = {"mode": "IMPORT_MODE_REPLACE", "secrets": secrets}
        self.assertEqual(self.call(SECRET + "ImportSecrets", {**request, "validate_only": True}).code, 0)
        answer = self.call(SECRET + "ImportSecrets", request)
        self.assertEqual(answer.code, 0, answer)
        told = watcher.ask().message["changes"]
        self.assertEqual(sorted(self.brief(told)),
                         [("CREATED", "new-1"), ("CREATED", "new-2"), ("VALUES_CHANGED", "changed")])
        self.assertEqual(len({change["revision"] for change in told}), 1)
        self.assertEqual(watcher.catch_up(), [])

    def test_more_changes_than_one_statement_reads_are_told_without_a_gap(self):
        watcher = self.watcher(page_size=1000)
        self.make("many")
        for _ in range(600):
            self.write("many")
        told = watcher.ask().message["changes"]
        self.assertEqual([c["version"] for c in told], list(range(1, 602)))


class Sight(WatchTest):
    def test_filters_take_environments_and_the_beginning_of_names(self):
        everything = self.watcher(environments=[])
        here = self.watcher()
        prefix = self.watcher(name_prefix="x-")
        elsewhere = self.watcher(environments=[self.place + "-2"])
        self.make("x-1")
        self.make("y-1")
        self.do("CopySecret", "x-1", target_environment=self.place + "-2")
        self.assertEqual([c["name"] for c in everything.catch_up()], ["x-1", "y-1", "x-1"])
        self.assertEqual([c["name"] for c in here.catch_up()], ["x-1", "y-1"])
        self.assertEqual([c["name"] for c in prefix.catch_up()], ["x-1"])
        self.assertEqual([c["environment"] for c in elsewhere.catch_up()], [self.place + "-2"])

    def test_secret_that_is_renamed_out_of_the_filter_is_gone_and_one_renamed_into_it_is_new(self):
        watcher = self.watcher(name_prefix="x-")
        self.make("x-1")
        self.do("RenameSecret", "x-1", new_name="y-1")
        self.write("y-1")
        self.do("RenameSecret", "y-1", new_name="x-2")
        self.do("RenameSecret", "x-2", new_name="x-3")
        told = watcher.catch_up()
        self.assertEqual(self.brief(told), [("CREATED", "x-1"), ("DELETED", "x-1"), ("CREATED", "x-2"), ("RENAMED", "x-3")])
        self.assertEqual([c["old_name"] for c in told], ["", "", "", "x-2"])
        self.assertEqual([c["version"] for c in told], [1, 1, 2, 2])

    def test_nobody_is_told_of_names_that_he_may_not_read(self):
        rules = [{"permissions": ["secret:read"], "environments": [self.place], "names": ["seen-*"]},
                 {"permissions": ["resolve", "secret:write"]}]
        watcher = self.watcher(credential=self.token_for(rules), environments=[])
        self.make("hidden-1")
        self.make("seen-1")
        self.do("RenameSecret", "seen-1", new_name="hidden-2")
        self.do("RenameSecret", "hidden-1", new_name="seen-2")
        self.do("CopySecret", "hidden-2", target_environment=self.place, target_name="seen-3")
        self.do("CopySecret", "seen-3", target_environment=self.place + "-2", target_name="seen-4")
        answer = watcher.ask()
        self.assertEqual(self.brief(answer.message["changes"]),
                         [("CREATED", "seen-1"), ("DELETED", "seen-1"), ("CREATED", "seen-2"), ("CREATED", "seen-3")])
        self.assertNotIn(b"hidden", answer.payload)
        self.assertNotIn(b"seen-4", answer.payload)

    def test_watching_needs_the_right_to_read_secrets_in_that_workspace(self):
        foreign, _ = self.new_workspace(self.place)
        for credential, workspace in ((self.token_for([{"permissions": ["resolve"]}]), ""), (self.dev.executor, ""),
                                      (self.dev.admin, foreign)):
            answer = self.call(WATCH, {"workspace": workspace}, token=credential)
            self.assertEqual((answer.code, answer.reason), (7, "PERMISSION_DENIED"))
        fleet = self.fleet([{"permissions": ["secret:read"]}])
        self.assertEqual(self.call(WATCH, token=fleet).reason, "WORKSPACE_REQUIRED")
        watcher = self.watcher(credential=fleet, workspace=self.dev.workspace)
        self.make("by-fleet")
        self.assertEqual(self.brief(watcher.catch_up()), [("CREATED", "by-fleet")])

    def test_watch_of_a_workspace_that_does_not_exist_says_so(self):
        fleet = self.fleet([{"permissions": ["secret:read"]}])
        answer = self.call(WATCH, {"workspace": "00000000-0000-4000-8000-000000000001"}, token=fleet)
        self.assertEqual(answer.reason, "WORKSPACE_NOT_FOUND")


class Positions(WatchTest):
    def ask(self, token, connection=None, **fields):
        return (connection or self.connection).call(WATCH, {
            "resume_token": token, "environments": [self.place], "wait_ms": AT_ONCE, **fields}, token=self.dev.admin)

    def test_token_goes_on_from_the_same_place_as_often_as_it_is_used_and_on_every_server(self):
        other = self.dev.more("same-place")
        watcher = self.watcher()
        start = watcher.last.message["resume_token"]
        for i in range(3):
            self.make(f"s{i}")
        with self.dev.connect(other.address) as connection:
            for at in (self.connection, connection, self.connection):
                self.assertEqual([c["name"] for c in self.ask(start, at).message["changes"]], ["s0", "s1", "s2"])

    def test_token_that_no_server_gave_out_or_of_another_workspace_is_refused(self):
        token = self.watcher().last.message["resume_token"]
        epoch, workspace, revision = parts(token)
        other = bytes([workspace[0] ^ 1]) + workspace[1:]
        consistency = self.watcher().last.message["consistency_token"]
        for wrong in ("x", token[:-1], token + "A", "!" * len(token), consistency, token_of(epoch, other, revision),
                      "B" + token[1:]):
            answer = self.ask(wrong)
            self.assertEqual((answer.code, answer.reason, answer.fields), (3, "FIELD_INVALID", ["resume_token"]), wrong)

    def test_token_of_another_life_of_the_database_has_expired(self):
        epoch, workspace, revision = parts(self.watcher().last.message["resume_token"])
        foreign = bytes([epoch[0] ^ 1]) + epoch[1:]
        for wrong in (token_of(foreign, workspace, revision), token_of(epoch, workspace, revision + 1),
                      token_of(epoch, workspace, (1 << 63) - 1), token_of(epoch, workspace, 1 << 63),
                      token_of(epoch, workspace, (1 << 64) - 1)):
            answer = self.ask(wrong)
            self.assertEqual((answer.code, answer.reason), (9, "WATCH_EXPIRED"), wrong)
            self.assertIn("empty resume token", answer.text)

    def expired_if_removed(self, first, last):
        """Four writes, of which some lose their changes; watches from each position."""
        watcher = self.watcher()
        positions = [watcher.last.message["resume_token"]]
        for i in range(4):
            self.make(f"s{i}")
            positions.append(self.watcher().last.message["resume_token"])
        start = parts(positions[0])[2]
        self.sql(f"delete from change where workspace_id = '{self.dev.workspace}' and revision between"
                 f" {start + first} and {start + last}")
        return ["".join(c["name"] for c in answer.message["changes"]) if answer.code == 0 else answer.reason
                for answer in map(self.ask, positions)]

    def test_watch_that_changes_were_removed_behind_has_expired_and_later_ones_go_on(self):
        self.assertEqual(self.expired_if_removed(1, 2), ["WATCH_EXPIRED", "WATCH_EXPIRED", "s2s3", "s3", ""])

    def test_gap_in_the_middle_or_at_the_end_is_never_passed_over(self):
        self.assertEqual(self.expired_if_removed(3, 3), ["WATCH_EXPIRED"] * 3 + ["s3", ""])
        self.place += "-2"
        self.assertEqual(self.expired_if_removed(4, 4), ["WATCH_EXPIRED"] * 4 + [""])
        # A page that ends before the gap is told; the next one has expired.
        self.place += "-3"
        watcher = self.watcher(page_size=1)
        self.make("told")
        self.make("gone")
        self.make("after")
        self.sql(f"delete from change where workspace_id = '{self.dev.workspace}' and revision = {self.revision() - 1}")
        self.assertEqual([c["name"] for c in watcher.ask().message["changes"]], ["told"])
        self.assertEqual(self.ask(watcher.last.message["resume_token"]).reason, "WATCH_EXPIRED")

    def test_watch_that_is_more_than_an_hour_behind_has_expired_and_the_records_of_the_writes_stay(self):
        watcher = self.watcher()
        self.make("old")
        behind = watcher.last.message["resume_token"]
        between = self.watcher().last.message["resume_token"]
        self.sql("update change set create_time = create_time - interval '61 minutes'"
                 f" where workspace_id = '{self.dev.workspace}' and revision = {self.revision()}")
        self.make("young")
        answer = self.ask(behind)
        self.assertEqual((answer.code, answer.reason), (9, "WATCH_EXPIRED"))
        self.assertEqual([c["name"] for c in self.ask(between).message["changes"]], ["young"])
        self.assertEqual(self.sql(f"select count(*) from change where workspace_id = '{self.dev.workspace}'"
                                  f" and revision > {self.revision() - 2}"), "2")

    def test_record_that_cannot_be_read_is_no_change_that_is_passed_over(self):
        watcher = self.watcher()
        self.make("damaged")
        self.sql(f"update change set record = '\\xff' where workspace_id = '{self.dev.workspace}'"
                 f" and revision = {self.revision()}")
        answer = self.ask(watcher.last.message["resume_token"])
        self.assertEqual((answer.code, answer.reason), (15, "CORRUPTED"))


class Waiting(WatchTest):
    def test_watch_waits_for_a_write_on_its_own_server_and_on_another_one(self):
        other = self.dev.more("waits")
        with self.dev.connect() as waiting, self.dev.connect(other.address) as writing:
            watcher = self.watcher(waiting)
            for i, connection in enumerate((self.connection, writing) * 3):
                number = watcher.send()
                self.make(f"s{i}", connection)
                self.assertEqual(self.brief(watcher.take(number).message["changes"]), [("CREATED", f"s{i}")])

    def test_resumption_on_the_other_server_misses_nothing_and_tells_nothing_twice(self):
        other = self.dev.more("resumed")
        with self.dev.connect(other.address) as connection:
            both = (self.connection, connection)
            watcher = self.watcher()
            for i in range(60):
                self.make(f"s{i}", both[i % 2])
                watcher.connection = both[i // 2 % 2]
                watcher.ask(page_size=1 + i % 3)
            watcher.catch_up()
        self.assertEqual([c["name"] for c in watcher.told], [f"s{i}" for i in range(60)])

    def test_wait_ends_before_the_deadline_with_the_same_position_and_no_changes(self):
        watcher = self.watcher()
        start = watcher.last.message["resume_token"]
        # A server that gets no processor for a moment is late now and then; one that waits too long is so each time.
        answer = wait_for(lambda: (a := self.connection.receive(watcher.send(timeout_ms=1000), WATCH)).code == 0 and a,
                          "an answer before the deadline")
        self.assertEqual((answer.message["changes"], answer.message["more"]), ([], False))
        self.assertEqual(answer.message["resume_token"], start)
        for wait in (AT_ONCE, 300):
            self.assertEqual(watcher.ask(wait_ms=wait).message["resume_token"], start)
            self.assertLess(watcher.last.server_time_us, PATIENT_MS * 1000 / 2)

    def test_writes_that_the_caller_may_not_see_keep_him_waiting_and_he_is_told_the_first_that_he_may(self):
        server = self.one_worker("hidden")
        with self.dev.connect(server.address) as waiting:
            watcher = self.watcher(waiting)
            number = watcher.send()
            for i in range(5):
                self.do("CreateSecret", f"s{i}", environment=self.place + "-2", values=values(KEY=b"1"))
                self.until_parked(server)
            self.make("seen")
            self.assertEqual(self.brief(watcher.take(number).message["changes"]), [("CREATED", "seen")])

    def test_watch_that_has_been_woken_often_for_nothing_is_answered_with_a_later_position(self):
        server = self.one_worker("often")
        with self.dev.connect(server.address) as waiting, self.dev.connect(server.address) as writing:
            watcher = self.watcher(waiting)
            start = parts(watcher.last.message["resume_token"])[2]
            number = watcher.send()
            for i in range(40):
                self.do("CreateSecret", f"s{i}", writing, environment=self.place + "-2", values=values(KEY=b"1"))
                self.until_parked(server)
            self.assertEqual(waiting.call("grpc.health.v1.Health/Check").code, 0)
            self.assertIn(number, waiting.waiting, "the answer came before that of a later call")
            self.assertEqual(watcher.take(number).message["changes"], [])
            self.assertGreater(parts(watcher.last.message["resume_token"])[2], start)
            self.make("seen")
            self.assertEqual(self.brief(watcher.catch_up()), [("CREATED", "seen")])

    def test_rights_that_end_while_a_watch_waits_end_the_watch(self):
        server = self.one_worker("rights")

        def revoke(name, issued):
            return self.call(TOKEN + "RevokeToken", {"token_uid": issued["token"]["uid"]})
        ways = {
            "TOKEN_INVALID": revoke,
            "ACCOUNT_DISABLED": lambda name, _: self.update_account(name, disabled=True),
            "PERMISSION_DENIED": lambda name, _: self.update_account(name, grants=[{"permissions": ["resolve"]}]),
        }
        with self.dev.connect(server.address) as waiting:
            for reason, end in ways.items():
                name, answer = self.account([{"permissions": ["secret:read"]}])
                self.assertEqual(answer.code, 0, answer)
                issued = self.issue(name).message
                watcher = self.watcher(waiting, issued["secret_text"])
                number = watcher.send()
                self.until_parked(server)
                self.assertEqual(end(name, issued).code, 0)
                self.make(reason.lower())
                answer = waiting.receive(number)
                self.assertEqual((answer.reason, answer.payload), (reason, b""))

    def test_hundred_watches_are_told_one_write_each_once(self):
        other = self.dev.more("hundred")
        with self.dev.connect() as here, self.dev.connect(other.address) as there:
            watchers = [self.watcher(connection) for connection in (here, there) for _ in range(50)]
            numbers = [watcher.send() for watcher in watchers]
            self.make("seen-by-all")
            for watcher, number in zip(watchers, numbers):
                self.assertEqual(self.brief(watcher.take(number).message["changes"]), [("CREATED", "seen-by-all")])
                self.assertEqual(watcher.catch_up(), [])


class Limits(WatchTest):
    def fill(self, server, connection, count):
        """Parks so many watches and returns their numbers; one more is refused."""
        watcher = self.watcher(connection)
        numbers = [watcher.send() for _ in range(count)]
        self.until_parked(server)
        return watcher, numbers

    def refused(self, watcher):
        answer = watcher.connection.receive(watcher.send())
        self.assertGreater(answer.retry_ms, 0)
        return answer.code, answer.reason

    def test_watches_of_a_workspace_leave_half_of_its_waits_to_others(self):
        server = self.one_worker("half", COFFERD_LIMITS__WAITING_PER_WORKSPACE="8")
        with self.dev.connect(server.address) as waiting:
            info = waiting.call("coffer.rpc.v1.ServerService/GetServerInfo").message["limits"]
            self.assertEqual((info["max_watches_per_workspace"], info["max_watches"]), (4, 1638))
            watcher, numbers = self.fill(server, waiting, 4)
            self.assertEqual(self.refused(watcher), (8, "TOO_MANY_IN_FLIGHT"))
            raw = base64.urlsafe_b64decode(watcher.last.message["consistency_token"] + "==")
            later = raw[:9] + (int.from_bytes(raw[9:], "big") + 1).to_bytes(8, "big")
            item = {"environments": [self.place], "references": references("released.KEY"),
                    "consistency_token": base64.urlsafe_b64encode(later).rstrip(b"=").decode()}
            resolves = [waiting.send(RESOLVE, {"items": [item]}, token=self.dev.admin, timeout_ms=PATIENT_MS)
                        for _ in range(4)]
            self.until_parked(server)
            self.make("released")
            for number in resolves:
                result = waiting.receive(number, RESOLVE).message["results"][0]
                self.assertEqual(self.value(result, "released", "KEY"), b"1")
            for number in numbers:
                self.assertEqual(self.brief(waiting.receive(number, WATCH).message["changes"]), [("CREATED", "released")])

    def test_watches_take_at_most_a_tenth_of_what_may_wait_on_a_server(self):
        server = self.one_worker("tenth", COFFERD_TRANSPORT__MAX_WAITING="40")
        with self.dev.connect(server.address) as waiting:
            watcher, numbers = self.fill(server, waiting, 4)
            self.assertEqual(self.refused(watcher), (8, "SERVER_BUSY"))
            self.make("released")
            for number in numbers:
                self.assertEqual(len(waiting.receive(number, WATCH).message["changes"]), 1)

    def test_watches_that_wait_do_not_count_against_the_limit_of_their_token(self):
        server = self.one_worker("token", COFFERD_LIMITS__IN_FLIGHT_PER_TOKEN="4")
        with self.dev.connect(server.address) as waiting:
            watcher = self.watcher(waiting)
            numbers = []
            for _ in range(20):
                numbers.append(watcher.send())
                self.until_parked(server)
            self.make("released")
            for number in numbers:
                self.assertEqual(len(waiting.receive(number, WATCH).message["changes"]), 1)

    def test_drain_answers_watches_at_once_and_they_go_on_elsewhere(self):
        server = self.one_worker("drained")
        with self.dev.connect(server.address) as waiting:
            watcher, numbers = self.fill(server, waiting, 20)
            server.process.send_signal(signal.SIGTERM)
            answers = [waiting.receive(number) for number in numbers]
        self.assertEqual({(answer.code, answer.reason, answer.retry_ms > 0) for answer in answers},
                         {(14, "SERVER_DRAINING", True)})
        self.assertEqual(server.process.wait(PATIENCE), 0)
        watcher.connection = self.connection
        self.make("after")
        self.assertEqual(self.brief(watcher.catch_up()), [("CREATED", "after")])

    def test_watches_go_on_waiting_while_the_database_crashes_and_comes_back(self):
        server = self.one_worker("crash")
        with self.dev.connect(server.address) as waiting:
            watcher, numbers = self.fill(server, waiting, 10)
            os.kill(int(self.sql("select pid from pg_stat_activity where backend_type = 'client backend'"
                                 " and pid <> pg_backend_pid() limit 1")), signal.SIGKILL)
            # Who calls may be known from memory; what there is may not.
            wait_for(lambda: self.call(SECRET + "CreateSecret", {"name": "after", "environment": self.place,
                                                                 "values": values(KEY=b"1")}).code in (0, 6),
                     "the database is not back")
            for number in numbers:
                self.assertEqual(self.brief(waiting.receive(number, WATCH).message["changes"]), [("CREATED", "after")])

    def test_watch_that_waits_learns_that_the_database_is_another(self):
        server = self.one_worker("epoch")
        with self.dev.connect(server.address) as waiting:
            watcher, numbers = self.fill(server, waiting, 3)
            self.sql("update instance set timeline = timeline + 1")
            self.sql("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend'"
                     " and pid <> pg_backend_pid()")
            for number in numbers:
                self.assertEqual(waiting.receive(number).reason, "WATCH_EXPIRED")
        wait_for(lambda: self.call(SECRET + "ListSecrets").code == 0, "the database is not back")


class Longest(WatchTest):
    """A watch that asks for ten minutes, which begins before the other tests of its class and ends after them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.waiting = cls.dev.connect()
        cls.watcher = Watcher(cls.waiting, cls.dev.admin, environments=["nothing-happens-here"])
        cls.number = cls.watcher.send(timeout_ms=PATIENT_MS)

    @classmethod
    def tearDownClass(cls):
        cls.waiting.close()
        super().tearDownClass()

    def test_watch_is_over_after_a_minute_whatever_its_caller_asks_for(self):
        answer = self.watcher.take(self.number)
        self.assertEqual(answer.message["changes"], [])
        self.assertGreater(answer.server_time_us, 10 * 1000 * 1000)
        self.assertLess(answer.server_time_us, PATIENT_MS * 1000 / 2)


class Follower(threading.Thread):
    """Keeps a copy of a list by watching, over connections that it leaves at random and servers that it chooses so."""

    def __init__(self, dev, addresses, credential, state):
        super().__init__()
        self.dev, self.addresses, self.credential, self.random = dev, addresses, credential, random.Random(state)
        self.secrets, self.told, self.stop, self.failure = {}, [], threading.Event(), None
        with dev.connect() as connection:
            self.token = connection.call(WATCH, token=credential).message["resume_token"]
            page = ""
            while True:
                answer = connection.call(SECRET + "ListSecrets", {"page_token": page}, token=credential).message
                self.secrets.update({s["uid"]: (s["environment"], s["name"], s["version"]) for s in answer["secrets"]})
                page = answer["next_page_token"]
                if not page:
                    break

    def apply(self, change):
        self.told.append((change["revision"], change["uid"]))
        if change["kind"] == "SECRET_CHANGE_KIND_DELETED":
            self.secrets.pop(change["uid"], None)
        else:
            self.secrets[change["uid"]] = (change["environment"], change["name"], change["version"])

    def poll(self, connection, wait_ms):
        """False if the connection is left before the answer comes: then the next one asks the same again."""
        number = connection.send(WATCH, {"resume_token": self.token, "wait_ms": wait_ms,
                                         "page_size": self.random.choice([1, 2, 7, 100])}, token=self.credential)
        if self.random.random() < 0.2:
            return False
        answer = connection.receive(number, WATCH)
        assert answer.code == 0, answer
        for change in answer.message["changes"]:
            self.apply(change)
        self.token = answer.message["resume_token"]
        return bool(answer.message["changes"] or answer.message["more"])

    def follow(self):
        rest = True
        while rest or not self.stop.is_set():
            stopping = self.stop.is_set()
            with self.dev.connect(self.random.choice(self.addresses)) as connection:
                rest = True
                while rest and self.random.random() < 0.9:
                    rest = self.poll(connection, AT_ONCE if stopping else self.random.choice([AT_ONCE, 50, 200]))
            rest = rest or not stopping

    def run(self):
        try:
            self.follow()
            with self.dev.connect() as connection:
                while True:
                    answer = connection.call(WATCH, {"resume_token": self.token, "wait_ms": AT_ONCE}, token=self.credential)
                    assert answer.code == 0, answer
                    for change in answer.message["changes"]:
                        self.apply(change)
                    self.token = answer.message["resume_token"]
                    if not answer.message["changes"] and not answer.message["more"]:
                        break
        except BaseException as failure:  # in a thread: the test must see it
            self.failure = failure


class AtRandom(WatchTest):
    NAMES = [f"{kind}-{i}" for kind in ("a", "b") for i in range(4)]
    ENVIRONMENTS = ["one", "two"]

    def random_write(self, connection, chosen):
        """Any change; many fail, because the secret is not there or the name is taken."""
        name, environment = chosen.choice(self.NAMES), chosen.choice(self.ENVIRONMENTS)
        kinds = {
            "CreateSecret": {"values": values(KEY=chosen.randbytes(4))},
            "UpdateSecretValues": {"replace": {"values": values(KEY=chosen.randbytes(4))}},
            "UpdateSecret": {"update_mask": {"paths": ["description"]}, "description": str(chosen.random())},
            "RenameSecret": {"new_name": chosen.choice(self.NAMES)},
            "CopySecret": {"target_environment": chosen.choice(self.ENVIRONMENTS), "target_name": chosen.choice(self.NAMES),
                           "overwrite": chosen.random() < 0.5},
            "DeleteSecret": {}, "RestoreSecret": {}, "RollBackSecret": {"version": 1},
            "DestroySecretVersion": {"version": 1},
        }
        method = chosen.choice(list(kinds))
        answer = connection.call(SECRET + method, {"environment": environment, "name": name, **kinds[method]},
                                 token=self.dev.admin)
        self.assertIn(answer.code, (0, 3, 5, 6, 9, 10), answer)
        return answer.code == 0

    def write_at_random(self, address, state, failures):
        chosen = random.Random(state)
        try:
            with self.dev.connect(address) as connection:
                for _ in range(200):
                    self.random_write(connection, chosen)
        except BaseException as failure:  # in a thread: the test must see it
            failures.append(failure)

    def listed(self, credential):
        found, page = {}, ""
        while True:
            answer = self.call(SECRET + "ListSecrets", {"page_token": page}, token=credential).message
            found.update({s["uid"]: (s["environment"], s["name"], s["version"]) for s in answer["secrets"]})
            page = answer["next_page_token"]
            if not page:
                return found

    def test_copy_that_follows_random_changes_over_random_connections_ends_as_the_list(self):
        number = seed()
        other = self.dev.more("random")
        addresses = [self.dev.ipc, self.dev.tcp, other.address]
        rules = [{"permissions": ["secret:read"], "environments": ["one"], "names": ["a-*"]}]
        credentials = [self.dev.admin, self.token_for(rules)]
        followers = [Follower(self.dev, addresses, credential, number + i) for i, credential in enumerate(credentials * 2)]
        failures = []
        writers = [threading.Thread(target=self.write_at_random, args=(addresses[i], number + 100 + i, failures))
                   for i in range(3)]
        for thread in followers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        for follower in followers:
            follower.stop.set()
            follower.join()
        self.assertEqual(failures, [])
        for follower in followers:
            self.assertIsNone(follower.failure)
            self.assertEqual(follower.secrets, self.listed(follower.credential))
            self.assertEqual(follower.told, sorted(set(follower.told), key=follower.told.index), "none twice")
            self.assertEqual([revision for revision, _ in follower.told], sorted(revision for revision, _ in follower.told))
        self.assertGreater(len(followers[0].told), 50)
        self.assertEqual(followers[0].told, followers[2].told)


if __name__ == "__main__":
    unittest.main(verbosity=2)
