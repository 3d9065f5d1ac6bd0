#!/usr/bin/env python3
"""Everything comes and goes at one server (T27): connections of all transports, secrets, tokens, workspaces, OAuth
authorizations, keys, certificates and settings; and what it holds stays flat.

TEST_FULL=1 is half an hour, at a pace that leaves a machine its processors; TEST_CHURN_S says the seconds, TEST_PAUSE_MS the
pause between two rounds.
"""

import contextlib
import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration" / "server"))

import context  # noqa: E402
import certificates  # noqa: E402
from cofferd import BUILD, COFFERD, PATIENCE, Server, answers, sanitizer, seed, wait_for  # noqa: E402
from oauth_browser import CLIENT_SECRET, Browser, Provider  # noqa: E402
from sp_client import Connection, WebSocket  # noqa: E402

FULL = bool(os.environ.get("TEST_FULL"))
CHURN = BUILD / "tests" / "endurance" / "coffer_churn"
CHURN_S = int(os.environ.get("TEST_CHURN_S") or (1800 if FULL else 5))
PAUSE_MS = int(os.environ.get("TEST_PAUSE_MS") or (2000 if FULL else 5))
THREADS = 10
SAMPLES = 60 if FULL else 6
CALLER = "coffer.v1.TokenService/GetCaller"
ENVIRONMENT = "churn"
# By how much anonymous memory may grow in the time after the warm-up, by the slope of the samples. Seconds say little:
# caches fill meanwhile, and an allocator keeps what was in use at once. A sanitizer keeps what was freed, and stacks.
GROWTH = ((64 if sanitizer() else 4) if FULL else (1024 if sanitizer() else 32)) << 20
FDS_GROWTH = 4 if FULL else 64
# What is kept of freed memory, by each thread of its own, would grow for a long time.
OPTIONS = {"ASAN_OPTIONS": ":".join(filter(None, (
    os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=8", "thread_local_quarantine_size_kb=16")))}


class Churn(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        cls.seed = seed()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-churn-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.second_key = cls.folder / "second.key"
        cls.second_key.touch(0o600)
        cls.second_key.write_text("5a" * 32)
        cls.SETTINGS = {"COFFERD_KEYS__OTHER_ROOT_KEYS": str(cls.second_key)}
        super().setUpClass()
        cls.authority = certificates.Authority(cls.folder / "ca")
        cls.pairs = [cls.authority.issue(name) for name in ("one", "two")]
        cls.tls = cls.authority.context()
        cls.provider = cls.make_provider()
        cls.addClassCleanup(cls.provider.server.close)
        cls.install(0)
        cls.server = cls.start()
        cls.addresses = cls.find_addresses()

    @classmethod
    def make_provider(cls):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*cls.pairs[0])
        provider = Provider(tls)
        (cls.folder / "providers.yaml").write_text("providers:\n" + provider.entry("acme", "Acme"))
        return provider

    # --- The server

    @classmethod
    def install(cls, number):
        """The certificate, and the settings that a running server takes."""
        for source, end in zip(cls.pairs[number % 2], ("pem", "key")):
            shutil.copy(source, cls.folder / f"{end}.new")
            os.replace(cls.folder / f"{end}.new", cls.folder / f"server.{end}")
        (cls.folder / "settings.new").write_text(cls.settings(number))
        os.replace(cls.folder / "settings.new", cls.folder / "settings.yaml")

    @classmethod
    def settings(cls, number):
        dev, folder = cls.dev.directory, cls.folder
        return f"""
database: {{conninfo: "{cls.dev.conninfo}", connect_timeout: 60s}}
keys:
  root_key_file: {dev}/root.key
  other_root_keys: [{cls.second_key}]
  old_key_kept: 2s
transport:
  listen: ["ipc://{dev}/churn.sock", "tcp://127.0.0.1:0", "tls+tcp://127.0.0.1:0", "ws://127.0.0.1:0/", "wss://127.0.0.1:0/"]
  max_peers: {2000 + number % 2}
  receive_timeout: 60s
tls: {{certificate: {folder}/server.pem, key: {folder}/server.key, handshake_timeout: 60s}}
http: {{public_url: "https://coffer.example", request_timeout: 60s, origins: ["https://{number % 2}.example"]}}
limits: {{default_timeout: 60s, authorizations: 10000}}
cache: {{size: 512KiB}}
audit: {{segment: 1MiB, keep_segments: 2}}
providers: {{files: [{folder}/providers.yaml]}}
outbound:
  allow_private: ["localhost:{cls.provider.server.port}"]
  ca_file: {cls.authority.certificate}
  connect_timeout: 60s
  timeout: 60s
workspaces: {{restorable: 1s}}
jobs: {{purge_interval: 1s}}
tokens: {{use_interval: 1s}}
log: {{requests: {("none", "failed")[number % 2]}}}
server: {{state_dir: {dev}/churn.state}}
"""

    @classmethod
    def start(cls):
        ipc = f"ipc://{cls.dev.directory}/churn.sock"
        server = Server(["serve", "--config", cls.folder / "settings.yaml"], OPTIONS,
                        cls.dev.directory / "churn.log", lambda: answers(ipc))
        cls.dev.extra.append(server)
        return server.wait()

    @classmethod
    def find_addresses(cls):
        """{scheme: address}"""
        def found():
            listened = re.findall(r'"address":"([^"]+)"', cls.server.log.read_text())
            return {address.partition("://")[0]: address for address in listened}
        wait_for(lambda: set(found()) == {"ipc", "tcp", "tls+tcp", "ws", "wss"}, "the server listens everywhere")
        return found()

    def port(self, scheme):
        return int(self.addresses[scheme].rpartition(":")[2].rstrip("/"))

    # --- Who comes and goes

    def call(self, method, request=None, token=None, **options):
        """As whoever is at it, by a connection of his own."""
        connection = getattr(self.mine, "connection", None) or self.connection
        return connection.call(method, request, token=self.dev.admin if token is None else token, timeout_ms=60000, **options)

    def done(self, method, token=None, **fields):
        answer = self.call(method, fields, token=token)
        self.assertEqual((answer.code, answer.reason), (0, ""), (method, answer))
        return answer.message

    def workspaces(self, number, _):
        """A tenant is made, works, and is deleted; a second later it is purged."""
        workspace, admin = self.new_workspace(f"churn-{number}")
        self.done(context.ENVIRONMENT + "CreateEnvironment", admin, name="prod")
        self.create("there", "prod", token=admin, KEY=b"the value")
        self.assertEqual(self.value(self.resolve("prod", "there.KEY", token=admin), "there", "KEY"), b"the value")
        self.done(context.SECRET + "DeleteSecret", admin, name="there", environment="prod")
        self.done(context.ENVIRONMENT + "DeleteEnvironment", admin, name="prod")
        self.done(context.WORKSPACE + "DeleteWorkspace", self.dev.system, workspace=workspace)

    def rotations(self, number, _):
        """The workspace's key, and now and then the root key, by the other one and back again."""
        keys = [str(self.dev.directory / "root.key"), str(self.second_key)]
        if number % 4 == 3:
            self.cofferd("rotate-root", *(reversed(keys) if number % 8 == 3 else keys))
        self.cofferd("rotate-workspace", *keys, arguments=["dev"])

    def cofferd(self, command, first, other, arguments=()):
        done = subprocess.run([COFFERD, "key", command, *arguments], capture_output=True, text=True, timeout=10 * PATIENCE, env={
            **os.environ, "COFFERD_DATABASE__CONNINFO": self.dev.conninfo, "COFFERD_KEYS__ROOT_KEY_FILE": first,
            "COFFERD_KEYS__OTHER_ROOT_KEYS": other, "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "state"),
            "COFFERD_DATABASE__CONNECT_TIMEOUT": "60s"})
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)

    def reloads(self, number, _):
        """A server that was told to look again shows its new certificate."""
        self.install(number + 1)
        self.server.process.send_signal(signal.SIGHUP)
        expected = ssl.PEM_cert_to_DER_cert(pathlib.Path(self.pairs[(number + 1) % 2][0]).read_text())
        wait_for(lambda: self.shown() == expected, "the new certificate is shown")

    def shown(self):
        with socket.create_connection(("127.0.0.1", self.port("tls+tcp")), PATIENCE) as connected:
            with self.tls.wrap_socket(connected, server_hostname="localhost") as secure:
                return secure.getpeercert(binary_form=True)

    def authorizations(self, *_):
        """A connection is configured, authorised in a browser, read, begun once more and left, and deleted."""
        place = {"environment": ENVIRONMENT, "provider": "acme"}
        method = context.CONNECTION
        self.provider.reset()
        self.done(method + "ConfigureConnection", **place, grant="CONNECTION_GRANT_AUTHORIZATION_CODE", client_id="client",
                  credential={"client_secret": CLIENT_SECRET})
        started, browser = self.done(method + "StartAuthorization", **place), Browser(self.port("ws"))
        page = browser.back(self.provider.consent(browser.pass_start(started["url"])))
        if FULL and page.status == 502 and re.search("be sent in time|time for it was over", page.text):
            self.late += 1  # a code is given up after 5 s
        else:
            self.assertEqual(page.status, 200, page.text)
            read = self.resolve(ENVIRONMENT, "acme_oauth.ACME_USER_TOKEN")
            self.assertEqual(self.value(read, "acme_oauth", "ACME_USER_TOKEN"), b"access-1")
        left = self.done(method + "StartAuthorization", **place)
        self.assertEqual(Browser(self.port("ws")).open(left["url"]).status, 200)
        self.done(method + "DeleteConnection", **place, connection_class="CONNECTION_CLASS_USER")

    def strangers(self, number, chance):
        """Who breaks off, at some moment, and who has no token."""
        scheme = ("tcp", "tls+tcp", "ws", "wss")[number % 4]
        with socket.create_connection(("127.0.0.1", self.port(scheme)), PATIENCE) as plain:
            if chance.random() < 0.5:  # ends with a RST
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            secure = scheme in ("tls+tcp", "wss")
            stream = self.tls.wrap_socket(plain, server_hostname="localhost") if secure and chance.random() < 0.7 else plain
            with contextlib.suppress(OSError):
                if scheme in ("ws", "wss") and (not secure or stream is not plain) and chance.random() < 0.7:
                    WebSocket(stream, "localhost", "/").send(chance.randbytes(chance.randrange(300)))
                stream.sendall(chance.choice((b"", b"\0SP\0\0\x30\0\0", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                              chance.randbytes(40))))
            if stream is not plain:
                stream.close()
        self.assertIn(self.call(CALLER, token=b"cof_wrong").reason, ("TOKEN_MALFORMED", "TOKEN_INVALID"))

    # --- All at once

    def begin(self, deed):
        """Does it again and again in a thread of its own."""
        def run():
            chance, number = random.Random(f"{self.seed} {deed.__name__}"), 0
            try:
                while not self.stop.is_set():
                    scheme = chance.choice(list(self.addresses))
                    with Connection(self.addresses[scheme], timeout=10 * PATIENCE, tls=self.tls) as self.mine.connection:
                        deed(number, chance)
                    number += 1
                    self.rounds[deed.__name__] = number
                    self.stop.wait(PAUSE_MS / 1000)
            except Exception:  # in a thread: the test must see it
                self.failures.append(traceback.format_exc())
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def clients(self):
        """libcoffer's, which come and go by every transport."""
        self.create("steady", KEY=b"steady")
        name, _ = self.account([{"permissions": ["resolve", "secret:read"]}])
        file = self.folder / "churn.token"
        file.touch(0o600)
        file.write_bytes(self.token_for([
            {"permissions": ["resolve", "secret:read", "secret:write", "token:write", "token:read"]}]))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COFFER_")}
        return subprocess.Popen(
            [CHURN, str(THREADS), name, str(PAUSE_MS), *self.addresses.values()], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**kept, **OPTIONS, "COFFER_TOKEN_FILE": str(file),
                                                   "COFFER_CACERT": str(self.authority.certificate)})

    @staticmethod
    def held(pid):
        """Descriptors, and bytes of memory without files that are mapped, of which the audit log is one that grows."""
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return len(os.listdir(f"/proc/{pid}/fd")), int(re.search(r"RssAnon:\s+(\d+)", status)[1]) << 10

    def may_fail(self):
        """In half an hour a machine that others use, too, may stand still for longer than a call may take; each failure is
        told by the program."""
        return self.lives // 100 if FULL else 0

    def sample(self, churn):
        churn.stdin.write("\n")
        churn.stdin.flush()
        self.lives, failed = map(int, churn.stdout.readline().split())
        self.assertEqual(self.failures, [], "\n".join(self.failures))
        self.assertLessEqual(failed, self.may_fail())
        server, client = self.held(self.server.process.pid), self.held(churn.pid)
        sample = {"at": time.monotonic(), "fds of the server": server[0], "memory of the server": server[1],
                  "fds of the clients": client[0], "memory of the clients": client[1]}
        if FULL:
            print(f"{self.lives} lives, {self.rounds}, {server}, {client}", flush=True)
        return sample

    def test_everything_comes_and_goes_and_memory_and_descriptors_stay_flat(self):
        self.mine, self.stop, self.rounds, self.failures, self.late = threading.local(), threading.Event(), {}, [], 0
        deeds = (self.workspaces, self.rotations, self.reloads, self.authorizations, self.strangers)
        threads, samples = [], []
        with self.clients() as churn:
            try:
                threads = [self.begin(deed) for deed in deeds]
                for _ in range(SAMPLES):
                    time.sleep(CHURN_S / SAMPLES)
                    samples.append(self.sample(churn))
            finally:
                self.stop.set()
                for thread in threads:
                    thread.join()
                rest, _ = churn.communicate()
        self.lives, failed = map(int, rest.split())
        self.assertEqual((churn.returncode, self.failures), (0, []))
        self.assertLessEqual(failed + self.late, self.may_fail())
        print(f"{self.lives} lives of clients in {CHURN_S} s, {failed} calls failed, {self.late} codes were late, and {self.rounds}")
        self.assertEqual(set(self.rounds), {deed.__name__ for deed in deeds})
        self.assert_flat(samples)
        # Nothing of it is left when they are gone.
        wait_for(lambda: self.held(self.server.process.pid)[0] < 100, "connections are left behind")
        wait_for(lambda: self.sql("select count(*) from workspace where name like 'churn-%'") == "0", "tenants are purged")

    def assert_flat(self, samples):
        """After a third of the time, by the median of the slopes between any two samples (Theil and Sen)."""
        late = samples[len(samples) // 3:]
        span = late[-1]["at"] - late[0]["at"]
        for what in list(samples[0])[1:]:
            slope = statistics.median((b[what] - a[what]) / (b["at"] - a["at"]) for a, b in itertools.combinations(late, 2))
            print(f"  {what}: {samples[0][what]} at first, {late[0][what]} after the warm-up, {late[-1][what]} at the end;"
                  f" slope {slope * 3600:+.0f} an hour, {slope * span:+.0f} in {span:.0f} s", flush=True)
            self.assertLess(slope * span, GROWTH if what.startswith("memory") else FDS_GROWTH, what)


if __name__ == "__main__":
    unittest.main(verbosity=2)
