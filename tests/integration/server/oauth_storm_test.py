#!/usr/bin/env python3
"""Many tokens that end together and many who want them, on three servers: each costs one request, and none is handed out
after its end. TEST_FULL=1 gives the sizes that count; COFFER_BUILD names a release build for them."""

import os
import pathlib
import ssl
import sys
import tempfile
import time
import unittest

import context

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

import certificates  # noqa: E402
import postgres  # noqa: E402
import token_storm  # noqa: E402
from cofferd import BUILD, references, sanitizer, wait_for  # noqa: E402

RESOLVE = context.RESOLVE
LATE = BUILD / "tests" / "integration" / "server" / "cofferd_late_clock"
HOUR, DAY = 3600, 86400
FULL = os.environ.get("TEST_FULL") == "1"
MANY = int(os.environ.get("TEST_TOKENS", 100000 if FULL else 60))  # that expire within a minute


def resident_kb(server):
    return int(pathlib.Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])


class ProvidedTest(context.AccessTest):
    """Three servers and a provider."""

    count = 0
    WORKSPACES = 8 if FULL else 2

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-provider-", dir="/tmp")
        folder = pathlib.Path(cls.folder.name)
        authority = certificates.Authority(folder / "ca")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("provider", "DNS:localhost"))
        cls.provider = token_storm.Provider(tls)
        (folder / "providers.yaml").write_text(cls.provider.entry())
        cls.SETTINGS = {
            "COFFERD_PROVIDERS__FILES": str(folder / "providers.yaml"),
            "COFFERD_OUTBOUND__ALLOW_PRIVATE": f"localhost:{cls.provider.port}",
            "COFFERD_OUTBOUND__CA_FILE": str(authority.certificate),
        }
        super().setUpClass()
        cls.servers = [cls.dev.server, *(cls.dev.more(name, **cls.SETTINGS) for name in ("second", "third"))]
        cls.addresses = [cls.dev.ipc, *(server.address for server in cls.servers[1:])]

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.provider.close()
        cls.folder.cleanup()

    def setUp(self):
        ProvidedTest.count += 1
        self.tokens = [self.new_workspace(f"storm{self.count}w{i}")[1] for i in range(self.WORKSPACES)]
        self.before = self.provider.calls()

    def token_of(self, name):
        return self.tokens[int(name.rpartition("x")[2]) % len(self.tokens)]

    def names(self, count):
        names = [f"storm{self.count}x{i}" for i in range(count)]
        token_storm.write(self.addresses, token_storm.configured(names, self.token_of))
        return names

    def check_one_request_each(self, names):
        told = self.provider.tell()
        self.assertEqual(told["dead"], 0)
        self.assertEqual({name: told["uses"].get(name) for name in names}, dict.fromkeys(names, 1))
        self.assertEqual(sum(told["uses"].values()) - self.before, len(names))


class Storm(ProvidedTest):
    def storm(self, ends, callers, at_once):
        begun = time.monotonic()
        counts = token_storm.run_callers(self.addresses, callers, ends, self.token_of, at_once)
        print(f"{len(ends)} tokens, {callers} callers: {dict(counts)} in {time.monotonic() - begun:.1f} s", flush=True)
        self.assertEqual(counts["fresh"], len(ends) * callers)
        self.check_one_request_each(ends)

    def test_processes_that_want_expired_tokens_cost_one_request_for_each(self):
        names = self.names(1000 if FULL else 30)
        ends = dict.fromkeys(names)
        token_storm.write(self.addresses, token_storm.given_tokens(ends, self.token_of))
        self.storm(ends, 50 if FULL else 6, 4)

    def test_tokens_that_expire_within_seconds_cost_one_request_each_and_none_is_handed_out_late(self):
        count, ahead, within = (10000, 45, 10) if FULL else (60, 3, 2)
        names = self.names(count)
        first = time.time() + ahead
        ends = {name: first + within * i / count for i, name in enumerate(names)}
        token_storm.write(self.addresses, token_storm.given_tokens(ends, self.token_of))
        print(f"the first expires in {first - time.time():.1f} s", flush=True)
        self.storm(ends, 50 if FULL else 6, 4)

    def test_tokens_that_expire_within_a_minute_are_refreshed_before_and_take_no_memory(self):
        count, within = MANY, 60 if FULL else 4
        names = self.names(count)
        first = time.time() + 2 + count / 150  # until all have got their tokens
        ends = {name: first + within * i / count for i, name in enumerate(names)}
        token_storm.write(self.addresses, token_storm.given_tokens(ends, self.token_of))
        before = [resident_kb(server) for server in self.servers]
        print(f"the first of {count} expires in {first - time.time():.1f} s; KiB resident: {before}", flush=True)
        wanted = {name: ends[name] for name in names[::max(1, count // 1000)]}
        counts = token_storm.run_callers(self.addresses, 3, wanted, self.token_of, 4)
        if FULL:  # those that live for a minute and more nobody has to ask for
            wait_for(lambda: self.provider.calls() - self.before == count, "all are refreshed", 3600)
        after = [resident_kb(server) for server in self.servers]
        print(f"{dict(counts)}; the last was refreshed {time.time() - first - within:.1f} s after its end; "
              f"KiB resident: {after}", flush=True)
        self.check_one_request_each(names if FULL else wanted)
        # A sanitizer keeps what was freed, up to 256 MiB of it.
        self.assertLess(max(b - a for a, b in zip(before, after)), (512 if sanitizer() else 64) * 1024)


class Clocks(ProvidedTest):
    """The database's clock jumps; those of the servers are wrong by a day each, this way and that."""

    WORKSPACES = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.database = postgres.Jumping(cls.dev.directory)
        for name, ahead in (("ahead", DAY), ("behind", -DAY)):
            cls.servers.append(cls.dev.more(name, LATE, TEST_CLOCK_AHEAD=str(ahead), **cls.SETTINGS))
            cls.addresses.append(cls.servers[-1].address)

    @classmethod
    def tearDownClass(cls):
        for server in [*cls.dev.extra, cls.dev.server]:
            server.stop()
        cls.database.close()
        super().tearDownClass()

    def setUp(self):
        self.database.put(0)
        wait_for(lambda: self.call(RESOLVE, {}).reason != "DATABASE_UNAVAILABLE", "the database is back")
        super().setUp()

    def ask(self, address, name, **fields):
        """The token, and for how long it is said to live by the database's clock."""
        with self.dev.connect(address) as connection:
            answer = connection.call(RESOLVE, {"items": [{
                "environments": [name], "references": references("acme_oauth.ACME_USER_TOKEN"), **fields}]},
                token=self.token_of(name), timeout_ms=60000)
        result, = answer.message["results"]
        self.assertEqual(result["status"]["outcome"], "OUTCOME_RESOLVED", result)
        told = result["expire_time"]
        now = float(self.sql("select extract(epoch from now())"))
        return self.value(result, "acme_oauth", "ACME_USER_TOKEN").decode(), told["seconds"] + told["nanos"] / 1e9 - now

    def new_tokens(self, count, life):
        """Connections, and the tokens that they have got."""
        names = self.names(count)
        token_storm.write(self.addresses[:1], token_storm.given_tokens(dict.fromkeys(names), self.token_of))
        self.provider.life.value = life
        return {name: self.ask(self.addresses[0], name)[0] for name in names}

    def is_told_truly(self, address, name, found):
        asked = time.monotonic()
        found[name], told = self.ask(address, name)
        ends = self.provider.tell()["ends"][found[name]]
        self.assertGreater(ends, asked, f"{found[name]} had expired")
        return abs(told - (ends - time.monotonic())) < 5

    def check_all_live(self, names, addresses=None):
        """Everywhere, and what is said of their ends is true once a server has seen what another one noticed; {name: token}"""
        found = {}
        for address in addresses or self.addresses:
            for name in names:
                wait_for(lambda: self.is_told_truly(address, name, found), f"{name} is told truly")  # noqa: B023
        return found

    def ahead(self):
        return int(self.sql("select clock_ahead from instance")) / 1e6

    def test_clock_that_goes_back_brings_no_expired_token_back_to_life(self):
        tokens = self.new_tokens(3, LIFE := 4)
        wait_for(lambda: time.monotonic() > max(self.provider.tell()["ends"][token] for token in tokens.values()), "they expire")
        self.provider.life.value = 3600
        ends = self.provider.tell()["ends"]
        # By the time that the database tells now they live.
        self.database.put(int(max(ends[token] for token in tokens.values()) - LIFE / 2 - time.monotonic()))
        found = self.check_all_live(tokens)
        self.assertFalse(set(found.values()) & set(tokens.values()))
        self.assertEqual({name: self.provider.tell()["uses"][name] for name in tokens}, dict.fromkeys(tokens, 2))
        self.database.put(0)

    def test_jumps_by_hours_and_days_cost_at_most_one_request_each(self):
        """Ahead all tokens seem to be over; back again they are good, also for a server that was not there."""
        names, uses, last = list(self.new_tokens(2, 3600)), 1, 0
        jumps = ((-3 * HOUR, 0), (DAY, 1), (0, 0))
        if FULL:
            jumps += ((-DAY, 0), (-3 * DAY, 0), (HOUR, 1), (0, 0), (30 * DAY, 1), (-30 * DAY, 0))
        for number, (seconds, most) in enumerate(jumps):
            before = self.ahead()
            back, last = last - seconds, seconds
            self.database.put(seconds)
            if back > 0:
                wait_for(lambda: self.ahead() - before > back - 5, f"a server notices {seconds}")  # noqa: B023
                self.assertLess(self.ahead() - before, back + 5)
            newcomer = self.dev.more(f"newcomer{number}", **self.SETTINGS)
            self.check_all_live(names, [*self.addresses, newcomer.address])
            self.assertEqual(newcomer.stop(), 0)
            self.dev.extra.remove(newcomer)
            uses += most
            for name in names:
                self.assertLessEqual(self.provider.tell()["uses"][name], uses, f"after {seconds}")


if __name__ == "__main__":
    unittest.main()
