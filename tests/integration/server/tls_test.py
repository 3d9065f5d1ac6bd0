#!/usr/bin/env python3
"""tls+tcp://: who gets in, who does not and is told why, new certificates under load, and connections that are cut."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import unittest

import context
from certificates import FAR_AHEAD, FARTHER_AHEAD, LONG_AGO, NOT_SO_LONG_AGO, Authority
from cli import COFFER
from cofferd import references, values, wait_for
from sp_client import Connection

INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
STRANGERS = 40
MANY = 120
VALUE = 65_000  # bytes of a value
VALUES = 48     # of which so many make an answer of 3 MB


class Tap:
    """A way to a server on which somebody sits who cuts connections after some bytes of an answer."""

    def __init__(self, port, cuts, after):
        self.port, self.cuts, self.after, self.cut = port, cuts, after, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tls+tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                cut = self.cut < self.cuts
                self.cut += cut
                threading.Thread(target=self._pass, args=(near, far, self.after if cut else None), daemon=True).start()

    def _pass(self, near, far, most):
        with near, far:
            up = threading.Thread(target=self._copy, args=(near, far, None), daemon=True)
            up.start()
            self._copy(far, near, most)
            up.join()

    @staticmethod
    def _copy(source, sink, most):
        with contextlib.suppress(OSError):
            while most != 0 and (data := source.recv(65536 if most is None else min(most, 65536))):
                sink.sendall(data)
                most = None if most is None else most - len(data)
        for end in (source, sink):  # a FIN, as an attacker would send it
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Tls(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = cls.dev.directory / "tls"
        cls.folder.mkdir()
        cls.authority = Authority(cls.folder / "ca")
        cls.other = Authority(cls.folder / "other", "Other CA")
        cls.good = cls.authority.issue("good")
        cls.client = cls.authority.issue("client", purpose="clientAuth", names=None)
        cls.server, cls.port = cls.start("tls")
        cls.address = f"tls+tcp://127.0.0.1:{cls.port}"

    @classmethod
    def start(cls, name, **settings):
        """A server with a certificate of its own in NAME.pem and NAME.key; the port that it listens on."""
        cls.install(name, cls.good)
        server = cls.dev.more(name, **{
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{cls.dev.directory}/{name}.sock,tls+tcp://127.0.0.1:0",
            "COFFERD_TLS__CERTIFICATE": str(cls.folder / f"{name}.pem"),
            "COFFERD_TLS__KEY": str(cls.folder / f"{name}.key"),
            **settings})
        return server, server.port("tls+tcp://127.0.0.1")

    def run_server(self, name, **settings):
        """The same for the time of a test."""
        server, port = self.start(name, COFFERD_LIMITS__WORKERS="2", **settings)
        self.addCleanup(self.end, server)
        return server, port

    def end(self, server):
        if server in self.dev.extra:
            self.dev.extra.remove(server)
            self.assertEqual(server.stop(), 0, server.log.read_text()[-4000:])

    @classmethod
    def install(cls, name, pair):
        for source, end in zip(pair, ("pem", "key")):
            shutil.copy(source, cls.folder / f"{name}.{end}.new")
            os.replace(cls.folder / f"{name}.{end}.new", cls.folder / f"{name}.{end}")

    def reload(self, server, event="reload"):
        before = server.log.read_text().count(f'"event":"{event}"')
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.log.read_text().count(f'"event":"{event}"') > before, f"no {event} in the log")

    @contextlib.contextmanager
    def certificate(self, name, server, pair):
        """The server shows another certificate for a while."""
        self.install(name, pair)
        self.reload(server)
        try:
            yield
        finally:
            self.install(name, self.good)
            self.reload(server)

    def connect(self, port=None, client=None, **options):
        return Connection(f"tls+tcp://127.0.0.1:{port or self.port}", tls=self.authority.context(client), **options)

    def coffer(self, *arguments, address=None, **variables):
        """Runs the CLI, which is libcoffer."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COFFER")}
        token = self.dev.directory / "admin.token"
        return subprocess.run([COFFER, *arguments], capture_output=True, text=True, timeout=120, env={
            **kept, "COFFER_ADDR": address or self.address, "COFFER_TOKEN_FILE": str(token),
            "COFFER_CACERT": str(self.authority.certificate), **variables})

    def assert_refused(self, done, *words):
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def assert_logged(self, server, text):
        wait_for(lambda: text in server.log.read_text(), f"{text!r} is not in the log", 30)

    # --- Who gets in ---

    def test_calls_travel_in_tls_1_3_without_tickets(self):
        with self.connect() as connection:
            self.assertEqual(connection.socket.version(), "TLSv1.3")
            self.assertEqual(connection.call(INFO).code, 0)
            self.assertFalse(connection.socket.session_reused)
            self.assertFalse(connection.socket.session and connection.socket.session.has_ticket)
        done = self.coffer("whoami")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_older_tls_is_refused(self):
        old = self.authority.context()
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Connection(self.address, tls=old)
        self.assert_logged(self.server, "the client does not speak TLS 1.3")

    def test_another_protocol_in_alpn_is_refused(self):
        web = self.authority.context()
        web.set_alpn_protocols(["h2", "http/1.1"])
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Connection(self.address, tls=web)
        ours = self.authority.context()
        ours.set_alpn_protocols(["coffer/1"])
        with Connection(self.address, tls=ours) as connection:
            self.assertEqual(connection.socket.selected_alpn_protocol(), "coffer/1")

    def test_a_certificate_for_another_host_is_named_and_refused(self):
        with self.certificate("tls", self.server, self.authority.issue("elsewhere", "DNS:vault.example,IP:10.0.0.1")):
            self.assert_refused(self.coffer("whoami"), '"127.0.0.1"', "vault.example", "10.0.0.1")
            renamed = self.coffer("whoami", COFFER_TLS_SERVER_NAME="vault.example")
            self.assertEqual(renamed.returncode, 0, renamed.stderr)

    def test_the_name_of_an_address_is_checked_as_a_name(self):
        named = f"tls+tcp://localhost:{self.port}"
        self.assertEqual(self.coffer("whoami", address=named).returncode, 0)
        with self.certificate("tls", self.server, self.authority.issue("numbers", "IP:127.0.0.1")):
            self.assert_refused(self.coffer("whoami", address=named), '"localhost"')
        with self.certificate("tls", self.server, self.authority.issue("localhost", None)):
            self.assert_refused(self.coffer("whoami", address=named), "no name")

    def test_an_expired_certificate_is_refused_with_its_date(self):
        with self.certificate("tls", self.server, self.authority.issue(
                "old", since=LONG_AGO, until=NOT_SO_LONG_AGO)):
            self.assert_refused(self.coffer("whoami"), "the server's certificate expired at 2020-02-01")
            self.assert_logged(self.server, '"event":"certificate_expires"')

    def test_a_certificate_of_the_future_is_refused_with_its_date(self):
        with self.certificate("tls", self.server, self.authority.issue("new", since=FAR_AHEAD, until=FARTHER_AHEAD)):
            self.assert_refused(self.coffer("whoami"), "valid from 2099-01-01", "clocks")

    def test_an_unknown_ca_is_refused_by_the_client_and_told_to_the_server(self):
        done = self.coffer("whoami", COFFER_CACERT=str(self.other.certificate))
        self.assert_refused(done, "leads to no CA that is trusted here", "cacert")
        self.assert_logged(self.server, "the client does not take the server's certificate")
        self.assert_refused(self.coffer("whoami", COFFER_CACERT=""), "leads to no CA that is trusted here")

    def test_a_clients_certificate_is_no_servers(self):
        with self.certificate("tls", self.server, self.authority.issue("wrongly", purpose="clientAuth")):
            self.assert_refused(self.coffer("whoami"), "the server's certificate", "is not taken")

    def test_client_certificates_are_the_gate(self):
        server, port = self.run_server("gate", COFFERD_TLS__CLIENT_CA=str(self.authority.certificate))
        address = f"tls+tcp://127.0.0.1:{port}"

        def coffer(pair=None):
            names = ("COFFER_CLIENT_CERT", "COFFER_CLIENT_KEY")
            return self.coffer("whoami", address=address, **dict(zip(names, map(str, pair or ()))))

        self.assert_refused(coffer(), "lets in only clients with a certificate", "client_cert")
        self.assert_logged(server, "the client has no certificate")
        done = coffer(self.client)
        self.assertEqual(done.returncode, 0, done.stderr)
        stranger = self.other.issue("stranger", purpose="clientAuth", names=None)
        self.assert_refused(coffer(stranger), "does not take the client's certificate")
        self.assert_logged(server, "leads to no CA that is trusted here")
        expired = self.authority.issue("late", purpose="clientAuth", names=None, since=LONG_AGO,
                                       until=NOT_SO_LONG_AGO)
        self.assert_refused(coffer(expired), "client_cert", "expired")
        with self.connect(port, self.client) as connection:
            self.assertEqual(connection.call(INFO).code, 0)
        with self.assertRaises((ssl.SSLError, ConnectionError)), self.connect(port) as connection:
            connection.call(INFO)

    def test_a_token_is_needed_behind_the_gate_all_the_same(self):
        _, port = self.run_server("both", COFFERD_TLS__CLIENT_CA=str(self.authority.certificate))
        with self.connect(port, self.client) as connection:
            self.assertEqual(connection.call("coffer.v1.TokenService/GetCaller").reason, "TOKEN_MISSING")

    def test_an_optional_gate_stops_only_wrong_certificates(self):
        _, port = self.run_server("optional", COFFERD_TLS__CLIENT_CA=str(self.authority.certificate),
                             COFFERD_TLS__CLIENT_CERTIFICATE="optional")
        for client in (None, self.client):
            with self.connect(port, client) as connection:
                self.assertEqual(connection.call(INFO).code, 0)
        stranger = self.other.issue("nobody", purpose="clientAuth", names=None)
        with self.assertRaises((ssl.SSLError, ConnectionError)), self.connect(port, stranger) as connection:
            connection.call(INFO)

    # --- Whom one has met ---

    def test_a_plain_client_and_a_tls_server_tell_each_other(self):
        self.assert_refused(self.coffer("whoami", address=f"tcp://127.0.0.1:{self.port}"), "dial tls+tcp://")
        self.assert_logged(self.server, "the client speaks without TLS; it has to dial tls+tcp://")

    def test_a_tls_client_tells_of_a_plain_server(self):
        plain = self.dev.tcp.replace("tcp://", "tls+tcp://")
        self.assert_refused(self.coffer("whoami", address=plain), "the server speaks here without TLS; dial tcp://")

    # --- Settings ---

    def refused_start(self, **settings):
        """What check of the settings' files says at start."""
        environment = {
            **os.environ, "COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
            "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
            "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "refused.state"),
            "COFFERD_TRANSPORT__LISTEN": "tls+tcp://127.0.0.1:0",
            "COFFERD_TLS__CERTIFICATE": str(self.good[0]), "COFFERD_TLS__KEY": str(self.good[1]), **settings}
        done = subprocess.run([self.server.process.args[0], "serve"], capture_output=True, text=True, timeout=120,
                              env=environment)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_wrong_files_end_the_start_and_say_what_to_do(self):
        readable = self.folder / "readable.key"
        shutil.copy(self.good[1], readable)
        readable.chmod(0o640)
        encrypted = self.folder / "encrypted.key"
        subprocess.run(["openssl", "pkey", "-in", self.good[1], "-aes256", "-passout", "pass:word", "-out", encrypted],
                       check=True, capture_output=True)
        encrypted.chmod(0o600)
        for changes, words in (
                ({"COFFERD_TLS__CERTIFICATE": ""}, "tls.certificate is not set"),
                ({"COFFERD_TLS__KEY": ""}, "tls.key is not set"),
                ({"COFFERD_TLS__CERTIFICATE": "/nowhere.pem"}, "No such file"),
                ({"COFFERD_TLS__KEY": str(readable)}, "run: chmod 600"),
                ({"COFFERD_TLS__KEY": str(encrypted)}, "is encrypted"),
                ({"COFFERD_TLS__KEY": str(self.client[1])}, "is not the key of the certificate"),
                ({"COFFERD_TLS__CERTIFICATE": str(self.good[1])}, "holds no certificate in PEM form"),
                ({"COFFERD_TLS__CLIENT_CA": str(self.good[1])}, "holds no certificate in PEM form")):
            with self.subTest(words):
                self.assertIn(words, self.refused_start(**changes))

    def test_openssls_configuration_cannot_make_it_weaker(self):
        weak = self.folder / "weak.cnf"
        weak.write_text("openssl_conf = start\n[start]\nssl_conf = all\n[all]\nsystem_default = weak\n"
                        "[weak]\nMinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n")
        key, certificate = self.folder / "short.key", self.folder / "short.pem"
        for command in (["genrsa", "-out", key, "1024"],
                        ["req", "-new", "-x509", "-key", key, "-out", certificate, "-subj", "/CN=short", "-days", "2"]):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
        self.assertIn("is refused: ee key too small", self.refused_start(
            OPENSSL_CONF=str(weak), COFFERD_TLS__CERTIFICATE=str(certificate), COFFERD_TLS__KEY=str(key)))
        _, port = self.run_server("weak", OPENSSL_CONF=str(weak))
        old = self.authority.context()
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Connection(f"tls+tcp://127.0.0.1:{port}", tls=old)
        with self.connect(port) as connection:
            self.assertEqual(connection.call(INFO).code, 0)

    def test_other_hosts_need_no_permission_with_tls(self):
        server, _ = self.run_server("wide", COFFERD_TRANSPORT__LISTEN=(
            f"ipc://{self.dev.directory}/wide.sock,tls+tcp://0.0.0.0:0,tls+tcp://127.0.0.1:0"))
        self.assertIn("tls+tcp://0.0.0.0:", server.log.read_text())
        self.assertIn("listen on tls+tcp://", self.refused_start(COFFERD_TRANSPORT__LISTEN="tcp://0.0.0.0:0"))

    def test_a_client_that_lacks_half_of_its_pair_is_told(self):
        self.assert_refused(self.coffer("whoami", COFFER_CLIENT_CERT=str(self.client[0])), "client_key is not set")

    # --- Reload ---

    def shown(self, port):
        """The names in the certificate that the server shows."""
        with self.connect(port) as connection:
            return {value for _, value in connection.socket.getpeercert()["subjectAltName"]}

    def test_new_certificates_are_taken_while_calls_run(self):
        server, port = self.run_server("reloaded")
        pairs = [self.good, self.authority.issue("renewed", "DNS:renewed.example,IP:127.0.0.1")]
        over, failures, calls = threading.Event(), [], [0]
        open_connection = self.connect(port)

        def load(keep):
            connection = None
            while not over.is_set():
                try:
                    connection = connection or self.connect(port)
                    if connection.call(INFO).code != 0:
                        failures.append("not OK")
                    calls[0] += 1
                    if not keep:
                        connection.close()
                        connection = None
                except OSError as failure:
                    failures.append(repr(failure))
                    connection = None
            if connection:
                connection.close()

        threads = [threading.Thread(target=load, args=(keep,)) for keep in (True, True, False, False)]
        for thread in threads:
            thread.start()
        for turn in range(1, 7):
            before = calls[0]
            self.install("reloaded", pairs[turn % 2])
            self.reload(server)
            self.assertEqual("renewed.example" in self.shown(port), turn % 2 == 1)
            wait_for(lambda: calls[0] > before + 20, "calls do not go on")
        over.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(open_connection.call(INFO).code, 0)
        open_connection.close()

    def test_a_new_ca_of_clients_is_taken_and_connections_of_before_go_on(self):
        trusted = self.folder / "trusted-clients.pem"
        shutil.copy(self.authority.certificate, trusted)
        server, port = self.run_server("clients", COFFERD_TLS__CLIENT_CA=str(trusted))
        newcomer = self.other.issue("newcomer", purpose="clientAuth", names=None)
        with self.connect(port, self.client) as before:
            self.assertEqual(before.call(INFO).code, 0)
            shutil.copy(self.other.certificate, trusted)
            self.reload(server)
            with self.connect(port, newcomer) as connection:
                self.assertEqual(connection.call(INFO).code, 0)
            with self.assertRaises((ssl.SSLError, ConnectionError)), self.connect(port, self.client) as connection:
                connection.call(INFO)
            self.assertEqual(before.call(INFO).code, 0)

    def test_a_bad_new_file_changes_nothing(self):
        server, port = self.run_server("kept")
        (self.folder / "kept.key").write_text("no key\n")
        self.reload(server, "reload_failed")
        self.assert_logged(server, "holds no private key in PEM form")
        with self.connect(port) as connection:
            self.assertEqual(connection.call(INFO).code, 0)

    # --- Large, many, slow, cut ---

    def test_messages_of_three_megabytes_arrive_whole(self):
        contents = {f"large{i}": bytes([65 + i]) * VALUE for i in range(VALUES)}
        for name, value in contents.items():
            done = self.call(context.SECRET + "CreateSecret", {
                "environment": "default", "name": name, "values": values(K=value)})
            self.assertEqual(done.code, 0, done)
        wanted = references(*(f"{name}.K" for name in contents))
        request = {"items": [{"environments": ["default"], "references": wanted}]}
        with self.connect() as connection:
            for _ in range(3):
                numbers = [connection.send(context.RESOLVE, request, token=self.dev.admin) for _ in range(3)]
                for number in numbers:
                    answer = connection.receive(number, context.RESOLVE)
                    self.assertEqual(answer.code, 0, answer)
                    self.assertGreater(len(answer.payload), 3_000_000)
                    for name, value in contents.items():
                        self.assertEqual(self.value(answer.message["results"][0], name, "K"), value)

    def test_a_cut_connection_is_no_answer_and_the_call_is_repeated(self):
        created = self.call(context.SECRET + "CreateSecret", {
            "environment": "default", "name": "cut", "values": values(K=b"v" * VALUE)})
        self.assertEqual(created.code, 0, created)
        tap = Tap(self.port, cuts=1, after=20_000)
        done = self.coffer("get", "cut.K", address=tap.address)
        self.assertEqual((done.returncode, done.stdout), (0, "v" * VALUE), done.stderr)
        self.assertEqual(tap.cut, 1)
        tap.close()
        tap = Tap(self.port, cuts=1000, after=20_000)
        done = self.coffer("get", "cut.K", address=tap.address)
        tap.close()
        self.assert_refused(done, "was lost before")
        self.assertNotIn("vvv", done.stdout)

    def test_unfinished_handshakes_are_bounded_and_shut_nobody_out(self):
        server, port = self.run_server("bounded", COFFERD_TRANSPORT__MAX_STRANGERS=str(STRANGERS),
                                  COFFERD_TLS__HANDSHAKE_TIMEOUT="600s", COFFERD_TRANSPORT__RECEIVE_TIMEOUT="600s")
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(STRANGERS * 3)]
        wait_for(lambda: self.open_count(sockets) <= STRANGERS, "more stay open than may")
        for _ in range(3):
            with self.connect(port) as connection:
                self.assertEqual(connection.call(INFO).code, 0)
        self.assertGreaterEqual(self.open_count(sockets), STRANGERS - 6)
        self.assert_logged(server, '"event":"too_many_strangers"')
        for end in sockets:
            end.close()

    @staticmethod
    def open_count(sockets):
        count = 0
        for end in sockets:
            end.setblocking(False)
            try:
                count += end.recv(1) != b""
            except BlockingIOError:
                count += 1
            except OSError:
                pass
        return count

    def test_a_handshake_in_drops_ends_when_its_time_is_over(self):
        _, port = self.run_server("slow", COFFERD_TLS__HANDSHAKE_TIMEOUT="1s")
        hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.authority.context().wrap_bio(*hello, server_hostname="localhost").do_handshake()
        raw = socket.create_connection(("127.0.0.1", port))
        raw.settimeout(0.1)
        ended = False
        for byte in hello[1].read():
            try:
                raw.sendall(bytes([byte]))
                ended = raw.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
        self.assertTrue(ended)
        raw.close()

    def test_many_connections_are_served(self):
        connections = [self.connect() for _ in range(MANY)]
        numbers = [connection.send(INFO) for connection in connections]
        for connection, number in zip(connections, numbers):
            self.assertEqual(connection.receive(number, INFO).code, 0)
            connection.close()

    def test_garbage_in_a_connection_ends_it_alone(self):
        with self.connect() as other, self.connect() as connection:
            raw = connection.socket.detach()
            with socket.socket(fileno=raw) as plain:
                plain.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
                plain.settimeout(60)
                with contextlib.suppress(ConnectionResetError):
                    while plain.recv(4096):
                        pass
            self.assertEqual(other.call(INFO).code, 0)

    def test_peers_that_reset_leave_nothing_behind(self):
        def descriptors():
            return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))
        with self.connect() as connection:
            self.assertEqual(connection.call(INFO).code, 0)
        before = descriptors()
        for i in range(40):
            connection = self.connect()
            connection.send(INFO)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if i % 2:
                connection.receive(connection.last)
                connection.send(INFO)
            connection.close()
        wait_for(lambda: descriptors() <= before + 2, "descriptors of connections that are gone")

    def test_a_client_goes_on_at_another_address(self):
        server, port = self.run_server("leaving")
        both = f"tls+tcp://127.0.0.1:{port},{self.dev.ipc}"
        self.assertEqual(self.coffer("whoami", address=both).returncode, 0)
        self.end(server)
        for _ in range(4):
            done = self.coffer("whoami", address=both)
            self.assertEqual(done.returncode, 0, done.stderr)
        wrong = f"tls+tcp://localhost:{self.port},{self.dev.ipc}"
        with self.certificate("tls", self.server, self.authority.issue("other name", "DNS:elsewhere.example")):
            for _ in range(4):
                done = self.coffer("whoami", address=wrong)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
