#!/usr/bin/env python3
"""ws:// and wss://, and HTTP on the same port: who gets in, what is answered, and what becomes of those who are slow or break
the rules."""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import context
from certificates import LONG_AGO, NOT_SO_LONG_AGO, Authority
from cli import COFFER
from cofferd import BUILD, ROOT, Relay, seed, wait_for
import token_text
from sp_client import SCHEMA, Connection, WebSocket, decode, encode, uuid7

INFO = "coffer.rpc.v1.ServerService/GetServerInfo"
HEALTH = "grpc.health.v1.Health/Check"
PATH = "/coffer/v1"
ORIGIN = "https://console.example"
HOST = "coffer.example"
STRANGERS = 16
REQUEST_MOST = 65536  # bytes of a frame, the least that the setting takes
FUZZ = 4000 if os.environ.get("TEST_FULL") else 400
SEED = seed()


def health_message(number=1):
    """A request as an SP message: its number, and the frame."""
    return struct.pack(">I", number | 0x80000000) + encode("coffer.rpc.v1.RequestFrame", {
        "revision": 1, "method": HEALTH, "payload": b"", "request_id": uuid7()})


class Web(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = cls.dev.directory / "tls"
        cls.folder.mkdir()
        cls.authority = Authority(cls.folder / "ca")
        certificate, key = cls.authority.issue("web")
        settings = {
            "COFFERD_TLS__CERTIFICATE": str(certificate), "COFFERD_TLS__KEY": str(key), "COFFERD_HTTP__HOSTS": HOST,
            "COFFERD_HTTP__ORIGINS": ORIGIN, "COFFERD_LIMITS__REQUEST": str(REQUEST_MOST), "COFFERD_LIMITS__WORKERS": "2"}
        listen = f"ws://127.0.0.1:0{PATH},wss://127.0.0.1:0{PATH}"
        cls.server = cls.dev.more("web", **settings, COFFERD_TRANSPORT__LISTEN=f"ipc://{cls.dev.directory}/web.sock,{listen}")
        cls.plain, cls.secure = cls.port_of("ws"), cls.port_of("wss")
        # One that waits for nobody.
        cls.hasty = cls.dev.more("hasty", **settings, **{
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{cls.dev.directory}/hasty.sock,{listen}",
            "COFFERD_HTTP__REQUEST_TIMEOUT": "1s", "COFFERD_TRANSPORT__MAX_STRANGERS": str(STRANGERS),
            "COFFERD_TRANSPORT__RECEIVE_TIMEOUT": "1s"})
        cls.address = f"ws://127.0.0.1:{cls.plain}{PATH}"

    @classmethod
    def port_of(cls, scheme, server=None):
        return (server or cls.server).port(f"{scheme}://127.0.0.1")

    def tearDown(self):
        """Whatever a test did: others are served."""
        with Connection(self.address) as connection:
            self.assertEqual(connection.call(INFO).code, 0)

    def dial(self, port=None):
        connected = socket.create_connection(("127.0.0.1", port or self.plain), 60)
        self.addCleanup(connected.close)
        return connected

    def open(self, path=PATH, host=None, port=None, **fields):
        return WebSocket(self.dial(port), host or f"127.0.0.1:{self.plain}", path, **fields)

    def refused(self, status, **fields):
        with self.assertRaises(ConnectionError) as caught:
            self.open(**fields)
        self.assertIn(f"no WebSocket: HTTP/1.1 {status} ", str(caught.exception))

    def exchange(self, data, port=None):
        """Sends bytes to the port of HTTP, and returns everything that comes back until the server closes."""
        connected = self.dial(port)
        with contextlib.suppress(OSError):
            connected.sendall(data)
            connected.shutdown(socket.SHUT_WR)
        return self.rest(connected)

    @staticmethod
    def rest(connected):
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connected.recv(65536):
                data += part
        return data

    def request(self, method, path, headers=None, body=None):
        client = http.client.HTTPConnection("127.0.0.1", self.plain, timeout=60)
        try:
            client.request(method, path, body, headers or {})
            answer = client.getresponse()
            return answer, answer.read()
        finally:
            client.close()

    def closed_with(self, web):
        """The code with which the server closes, before it ends the connection."""
        while True:
            opcode, payload = web.receive_frame()
            if opcode == WebSocket.CLOSE:
                with contextlib.suppress(OSError):
                    web.socket.shutdown(socket.SHUT_WR)
                self.assertEqual(self.rest(web.socket), b"")
                return int.from_bytes(payload[:2], "big") if payload else None

    def memory(self):
        """Bytes that the server has in memory."""
        with open(f"/proc/{self.server.process.pid}/statm") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def served(self, port):
        with contextlib.suppress(OSError):  # of many that are accepted at the same moment some give way
            with Connection(f"wss://127.0.0.1:{port}{PATH}", tls=self.authority.context()) as connection:
                return connection.call(INFO).code == 0

    # --- Calls ---

    def test_calls_travel_over_websocket(self):
        with Connection(self.address) as connection:
            self.assertEqual(connection.call(INFO).code, 0)
            name = f"web_{os.urandom(4).hex()}"
            created = connection.call(context.SECRET + "CreateSecret", {
                "environment": "default", "name": name, "values": context.values(KEY=b"v" * 40_000)}, token=self.dev.admin)
            self.assertEqual(created.code, 0, created)
            numbers = [connection.send(context.RESOLVE, {"items": [{
                "environments": ["default"], "references": context.references(f"{name}.KEY")}]}, token=self.dev.admin)
                for _ in range(50)]
            for number in reversed(numbers):  # answers come in any order, each to its call
                answer = connection.receive(number, context.RESOLVE)
                self.assertEqual(self.value(answer.message["results"][0], name, "KEY"), b"v" * 40_000)
        wait_for(lambda: '"transport":"ws"' in self.server.log.read_text(), "no request over ws in the log")

    def test_calls_travel_over_wss_with_http_in_alpn(self):
        web = self.authority.context()
        web.set_alpn_protocols(["h2", "http/1.1"])
        with Connection(f"wss://127.0.0.1:{self.secure}{PATH}", tls=web) as connection:
            self.assertEqual(connection.socket.version(), "TLSv1.3")
            self.assertEqual(connection.socket.selected_alpn_protocol(), "http/1.1")
            self.assertEqual(connection.call(INFO).code, 0)
        foreign = self.authority.context()
        foreign.set_alpn_protocols(["coffer/1"])
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Connection(f"wss://127.0.0.1:{self.secure}{PATH}", tls=foreign)

    def test_a_stock_client_of_nng_is_served(self):
        frame = health_message()[4:]
        done = subprocess.run([BUILD / "tests/conformance/nng_req", self.address], input=frame, capture_output=True,
                              timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        response = decode("coffer.rpc.v1.ResponseFrame", done.stdout)
        self.assertEqual(response["code"], 0)
        self.assertEqual(decode(SCHEMA.method(HEALTH)[1], response["payload"])["status"], "SERVING")

    def coffer(self, address, *arguments, data=None, **variables):
        """Runs the CLI, which is libcoffer."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COFFER")}
        return subprocess.run([COFFER, *arguments], capture_output=True, input=data, timeout=120, env={
            **kept, "COFFER_ADDR": address, "COFFER_TOKEN_FILE": str(self.dev.directory / "admin.token"),
            "COFFER_CACERT": str(self.authority.certificate), **variables})

    @unittest.skipUnless(COFFER.exists(), "there is no client in this build")
    def test_the_library_dials_ws_and_wss(self):
        value = os.urandom(30_000).hex().encode()
        name = f"lib_{os.urandom(4).hex()}"
        for address in (self.address, f"wss://127.0.0.1:{self.secure}{PATH}"):
            secret = f"{name}_{address[:3].strip(':')}"
            done = self.coffer(address, "set", f"{secret}.KEY=-", data=value)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = self.coffer(address, "get", f"{secret}.KEY")
            self.assertEqual((done.returncode, done.stdout.strip()), (0, value), done.stderr)

    @unittest.skipUnless(COFFER.exists(), "there is no client in this build")
    def test_the_library_takes_no_wrong_certificate_over_wss_either(self):
        other = Authority(self.folder / "other", "Other CA")
        elsewhere = self.authority.issue("elsewhere", "DNS:vault.example")
        old = self.authority.issue("old", since=LONG_AGO, until=NOT_SO_LONG_AGO)
        for name, pair, ca, text in (("unknown", None, other, b"leads to no CA that is trusted here"),
                                     ("another", elsewhere, self.authority, b'is not for "127.0.0.1", but for vault.example'),
                                     ("expired", old, self.authority, b"the server's certificate expired at 2020-02-01")):
            with self.subTest(name):
                port = self.port_of("wss", self.with_certificate(name, pair)) if pair else self.secure
                done = self.coffer(f"wss://127.0.0.1:{port}{PATH}", "whoami", COFFER_CACERT=str(ca.certificate))
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(text, done.stderr)

    @unittest.skipUnless(COFFER.exists(), "there is no client in this build")
    def test_client_certificates_are_the_gate_of_wss_too(self):
        server = self.with_certificate("gate", self.authority.issue("gate"), COFFERD_TLS__CLIENT_CA=str(self.authority.certificate))
        address = f"wss://127.0.0.1:{self.port_of('wss', server)}{PATH}"
        done = self.coffer(address, "whoami")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"lets in only clients with a certificate", done.stderr)
        certificate, key = self.authority.issue("client", purpose="clientAuth", names=None)
        done = self.coffer(address, "whoami", COFFER_CLIENT_CERT=str(certificate), COFFER_CLIENT_KEY=str(key))
        self.assertEqual(done.returncode, 0, done.stderr)

    def with_certificate(self, name, pair, **settings):
        return self.more(name, f"wss://127.0.0.1:0{PATH}", COFFERD_TLS__CERTIFICATE=str(pair[0]),
                         COFFERD_TLS__KEY=str(pair[1]), **settings)

    def more(self, name, listen, **settings):
        return self.dev.more(name, **settings, COFFERD_LIMITS__WORKERS="1",
                             COFFERD_TRANSPORT__LISTEN=f"ipc://{self.dev.directory}/{name}.sock,{listen}")

    @unittest.skipUnless(COFFER.exists(), "there is no client in this build")
    def test_the_library_says_why_there_is_no_websocket(self):
        for address, text in ((f"ws://127.0.0.1:{self.plain}/other", b"answers 404 in place of a WebSocket"),
                              (f"ws://127.0.0.1:{self.secure}{PATH}", b"speaks TLS here")):
            done = self.coffer(address, "whoami")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(text, done.stderr)

    # --- Messages ---

    def test_one_message_may_come_in_many_fragments_with_pings_between(self):
        web = self.open()
        message = health_message()
        frames = [WebSocket.frame(WebSocket.BINARY, message[:1], last=False)]
        for at in range(1, len(message)):
            frames += [WebSocket.frame(WebSocket.PING, bytes([at])), WebSocket.frame(0, message[at:at + 1], last=False)]
        frames.append(WebSocket.frame(0, b""))
        stream, chance = b"".join(frames), random.Random(SEED)
        while stream:  # however it is cut
            size = chance.randrange(1, 40)
            web.socket.sendall(stream[:size])
            stream = stream[size:]
        pongs = []
        while (got := web.receive_frame())[0] == WebSocket.PONG:
            pongs.append(got[1][0])
        self.assertEqual(got[1][:4], message[:4])
        self.assertEqual(pongs, sorted(set(pongs)))
        web.send(b"last", WebSocket.PING)
        while (got := web.receive_frame())[1] != b"last":
            self.assertEqual(got[0], WebSocket.PONG)

    def test_a_fragmented_message_may_be_as_large_as_a_request_and_no_larger(self):
        filler = encode("coffer.rpc.v1.RequestFrame", {
            "revision": 1, "method": HEALTH, "payload": b"", "request_id": uuid7()})
        # A field that is not known is skipped: number 1000, with bytes.
        head = filler + b"\xc2\x3e"
        room = REQUEST_MOST - len(head) - 3
        whole = b"\x80\0\0\1" + head + bytes([room & 0x7F | 0x80, room >> 7 & 0x7F | 0x80, room >> 14]) + bytes(room)
        self.assertEqual(len(whole), REQUEST_MOST + 4)
        for step in (999, 4096, 30_000):
            web = self.open()
            for at in range(0, len(whole), step):
                web.socket.sendall(WebSocket.frame(0 if at else WebSocket.BINARY, whole[at:at + step],
                                                   at + step >= len(whole)))
            self.assertEqual(decode("coffer.rpc.v1.ResponseFrame", web.receive()[4:])["code"], 0)
        web = self.open()
        web.socket.sendall(WebSocket.frame(WebSocket.BINARY, whole, last=False))
        web.socket.sendall(WebSocket.frame(0, b"x"))
        self.assertEqual(self.closed_with(web), 1009)
        web = self.open()
        web.socket.sendall(b"\x82\xff" + struct.pack(">Q", 1 << 40))  # only said, not sent
        web.socket.sendall(bytes(4))
        self.assertEqual(self.closed_with(web), 1009)

    def test_frames_against_the_rules_end_the_connection_with_their_code(self):
        message = health_message()
        masked = WebSocket.frame(WebSocket.BINARY, message)
        bad = {
            "text": (WebSocket.frame(1, b"hello"), 1003),
            "not masked": (bytes([0x82, len(message)]) + message, 1002),
            "a reserved bit": (bytes([masked[0] | 0x40]) + masked[1:], 1002),
            "an unknown opcode": (WebSocket.frame(3, b""), 1002),
            "an unknown control": (WebSocket.frame(11, b""), 1002),
            "a fragment of nothing": (WebSocket.frame(0, b"x"), 1002),
            "a message within a message": (WebSocket.frame(2, b"x", last=False) + WebSocket.frame(2, b"x"), 1002),
            "a ping in fragments": (WebSocket.frame(9, b"x", last=False), 1002),
            "a large ping": (WebSocket.frame(9, bytes(126)), 1002),
            "a length that is not the shortest": (b"\x82\xfe\x00\x01" + bytes(4) + b"x", 1002),
            "a length of 64 bits that is not the shortest": (b"\x82\xff" + struct.pack(">Q", 65535) + bytes(4), 1002),
            "a negative length": (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1002),
            "a close of one byte": (WebSocket.frame(8, b"x"), 1002),
            "a close with a code that is none": (WebSocket.frame(8, struct.pack(">H", 1005)), 1002),
            "a message shorter than a number": (WebSocket.frame(2, b"\x80\0\0"), 1002),
            "a number without the top bit": (WebSocket.frame(2, b"\0" + message[1:]), 1002),
        }
        for name, (data, code) in bad.items():
            with self.subTest(name):
                web = self.open()
                web.socket.sendall(data + masked * 100)
                self.assertEqual(self.closed_with(web), code)

    def test_a_close_is_answered_with_its_code(self):
        for payload, code in ((struct.pack(">H", 1000) + b"bye", 1000), (struct.pack(">H", 4000), 4000), (b"", None)):
            web = self.open()
            web.send(payload, WebSocket.CLOSE)
            self.assertEqual(self.closed_with(web), code)

    def test_a_message_that_is_never_ended_ends_the_connection(self):
        web = self.open(port=self.port_of("ws", self.hasty))
        web.socket.sendall(WebSocket.frame(WebSocket.BINARY, b"\x80", last=False))
        ended = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    web.socket.sendall(WebSocket.frame(0, b"x", last=False))
        thread = threading.Thread(target=drip)
        thread.start()
        self.assertEqual(self.rest(web.socket), b"")
        ended.set()
        thread.join()

    def test_a_peer_that_pings_and_never_reads_makes_nothing_grow(self):
        web, before = self.open(), self.memory()
        web.socket.settimeout(1)
        ping = WebSocket.frame(WebSocket.PING, b"p" * 125) * 1000
        with contextlib.suppress(OSError):
            for _ in range(100):
                web.socket.sendall(ping)
        self.assertLess(self.memory() - before, 64 << 20)

    def test_random_bytes_after_the_handshake_end_no_server(self):
        chance = random.Random(SEED)
        whole = [WebSocket.frame(2, health_message()), WebSocket.frame(9, b"ping"), WebSocket.frame(2, b"\x80\0\0\1junk"),
                 WebSocket.frame(2, b"a", last=False), WebSocket.frame(0, b"b"), WebSocket.frame(8, b"\x03\xe8")]
        for _ in range(FUZZ):
            data = bytearray(b"".join(chance.choices(whole, k=chance.randrange(1, 8))))
            for _ in range(chance.randrange(0, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            web = self.open()
            web.socket.sendall(data[:chance.randrange(len(data) + 1)])
            web.socket.close()
        with Connection(self.address) as connection:
            self.assertEqual(connection.call(INFO).code, 0)

    # --- The handshake ---

    def test_the_sub_protocol_must_be_exactly_ours(self):
        for protocol in ("req.sp.nanomsg.org", "coffer.v1, rep.sp.nanomsg.org", "REP.sp.nanomsg.org", "", None):
            self.refused(400, Sec_WebSocket_Protocol=protocol)

    def test_origin_and_host_are_checked_against_what_is_allowed(self):
        self.assertEqual(self.open(Origin=ORIGIN).status, 101)
        for origin in ("https://evil.example", "null", "http://console.example", "https://console.example.evil.example"):
            self.refused(403, Origin=origin)
        for host in (HOST, f"{HOST}:443", HOST.upper(), "localhost", "127.0.0.1:80", "[::1]:80", "10.1.2.3"):
            self.assertEqual(self.open(host=host).status, 101)
        for host in ("evil.example", "127.0.0.1.evil.example", f"evil.{HOST}", "localhost.evil.example", "::1", ":80"):
            self.refused(421, host=host)
        self.refused(400, Host=None)

        def told():  # the log has a limit for such lines
            self.refused(403, Origin="null")
            return "may not open a WebSocket" in self.server.log.read_text()
        wait_for(told, "the refusal is not in the log")

    def test_a_handshake_that_is_not_one_of_websocket_is_refused(self):
        self.refused(426, Upgrade=None)
        self.refused(426, Connection="keep-alive")
        self.refused(426, Sec_WebSocket_Version="8")
        self.refused(400, Sec_WebSocket_Key="short")
        self.refused(400, Sec_WebSocket_Key=None)
        self.refused(400, Content_Length="0")
        self.refused(404, path="/other")
        self.assertEqual(self.open(Connection="keep-alive, Upgrade", Upgrade="WebSocket").status, 101)

    # --- HTTP ---

    def test_probes_tell_whether_the_server_lives_and_is_ready(self):
        answer, body = self.request("GET", "/livez")
        self.assertEqual((answer.status, body), (200, b"ok\n"))
        answer, body = self.request("GET", "/readyz")
        self.assertEqual(answer.status, 200)
        self.assertEqual(json.loads(body),
                         {"ready": True, "checks": {"database": "ok", "audit": "ok", "serving": "ok"}})
        self.assertEqual(answer.headers["Content-Type"], "application/json")

    def test_without_its_database_the_server_lives_and_is_not_ready(self):
        with Relay(self.dev.directory) as relay:
            server = self.dev.more("relayed", **{
                "COFFERD_DATABASE__CONNINFO": f"host={relay.directory} user=coffer dbname=postgres",
                "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/relayed.sock,ws://127.0.0.1:0/",
                "COFFERD_LIMITS__WORKERS": "2"})
            port = self.port_of("ws", server)
            get = f"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            relay.cut()
            wait_for(lambda: self.exchange((get % "/readyz").encode(), port).startswith(b"HTTP/1.1 503 "),
                     "the server stays ready without its database")
            self.assertIn(b'"database":"failed"', self.exchange((get % "/readyz").encode(), port))
            self.assertTrue(self.exchange((get % "/livez").encode(), port).startswith(b"HTTP/1.1 200 "))
            relay.restore()
            wait_for(lambda: self.exchange((get % "/readyz").encode(), port).startswith(b"HTTP/1.1 200 "),
                     "the server does not become ready again")

    def test_head_has_no_body_and_other_methods_are_told_what_is_allowed(self):
        answer, body = self.request("HEAD", "/livez")
        self.assertEqual((answer.status, body, answer.headers["Content-Length"]), (200, b"", "3"))
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            answer, _ = self.request(method, "/livez")
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD"))
        answer, _ = self.request("GET", "/livez", body=b"more than nothing")
        self.assertEqual(answer.status, 413)

    def test_an_unknown_path_is_answered_with_those_that_are_there(self):
        for path in ("/", "/../../etc/passwd", "/livez/", "/LIVEZ", "//livez", "/%6civez", PATH + "/"):
            answer, body = self.request("GET", path)
            self.assertEqual(answer.status, 404, path)
            for known in ("/livez", "/readyz", PATH):
                self.assertIn(known, body.decode())

    def test_answers_say_nothing_of_the_server_and_are_for_no_cache_and_no_frame(self):
        for path in ("/livez", "/readyz", "/nothing"):
            answer, _ = self.request("GET", path)
            self.assertNotIn("Server", answer.headers)
            self.assertEqual(answer.headers["Cache-Control"], "no-store")
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertIn("frame-ancestors 'none'", answer.headers["Content-Security-Policy"])
            self.assertEqual(answer.headers["Connection"], "close")

    def test_heads_that_two_readers_could_read_in_two_ways_are_refused(self):
        host = b"Host: 127.0.0.1\r\n"
        for head in (b"GET /livez HTTP/1.0\r\n" + host + b"\r\n",
                     b"GET /livez HTTP/1.1\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + host + b"\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + b"A : b\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + b"A: b\r\n c\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + b"A: b\0\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + b"A: b\nB: c\r\n\r\n",
                     b"GET  /livez HTTP/1.1\r\n" + host + b"\r\n",
                     b"GET http://127.0.0.1/livez HTTP/1.1\r\n" + host + b"\r\n",
                     b"GET /livez#a HTTP/1.1\r\n" + host + b"\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\n" + host + b"Content-Length: +1\r\n\r\n",
                     b"\0SP\0\0\x30\0\0",
                     b"\x16\x03\x01\x02\x00\x01"):
            self.assertTrue(self.exchange(head).startswith(b"HTTP/1.1 400 "), head)
        chunked = b"GET /livez HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        self.assertTrue(self.exchange(chunked).startswith(b"HTTP/1.1 501 "))

    def test_of_requests_behind_one_another_the_first_is_answered(self):
        request = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        self.assertEqual(self.exchange(request * 20).count(b"HTTP/1.1 200 "), 1)

    def test_a_huge_head_is_refused(self):
        start = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        for head in (start + b"A: " + b"a" * 9000, start + b"A: a\r\n" * 70 + b"\r\n", b"GET /" + b"a" * 100_000):
            self.assertTrue(self.exchange(head).startswith(b"HTTP/1.1 431 "))

    # --- Metrics ---

    def metrics(self):
        """{series: value} of what the server tells, read as Prometheus would; and what it says of each metric."""
        answer, body = self.request("GET", "/metrics")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        types, series, name = {}, {}, None
        for line in body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertNotIn(name, types)
                types[name] = kind
                self.assertEqual(kind == "counter", name.endswith("_total"), line)
            elif not line.startswith("# HELP "):
                key, value = line.rsplit(" ", 1)
                self.assertRegex(key, r'^[a-z_]+(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})?$')
                self.assertTrue(key.startswith(name), line)  # behind its own head
                self.assertNotIn(key, series)
                series[key] = float(value)
        return types, series

    def test_calls_are_counted_where_prometheus_finds_them(self):
        call = f'coffer_rpc_requests_total{{method="{INFO}",code="OK",transport="ws"}}'
        failed = 'coffer_rpc_rejected_total{reason="TOKEN_MISSING"}'
        duration = f'coffer_rpc_duration_seconds_count{{method="{INFO}"}}'
        _, before = self.metrics()
        with Connection(self.address) as connection:
            for _ in range(7):
                self.assertEqual(connection.call(INFO).code, 0)
            self.assertEqual(connection.call(context.SECRET + "ListSecrets", {}).code, 16)
            _, after = self.metrics()
            for series, count in ((call, 7), (failed, 1), (duration, 7)):
                self.assertEqual(after[series] - before.get(series, 0), count, series)
            self.assertEqual(after['coffer_pipes{transport="ws"}'], 1)
        self.assertEqual(after['coffer_pipes_opened_total{transport="ws"}'],
                         before['coffer_pipes_opened_total{transport="ws"}'] + 1)
        self.assertEqual(after[duration.replace("_count", "_bucket").replace("}", ',le="+Inf"}')], after[duration])

    def test_metrics_tell_of_cache_audit_database_and_process(self):
        with Connection(self.address) as connection:
            for _ in range(3):
                self.assertEqual(connection.call(context.SECRET + "ListSecrets", {},
                                                 token=self.dev.admin).code, 0)
        types, series = self.metrics()
        self.assertEqual(series["coffer_schema_version"], len(list((ROOT / "server/store/schema").glob("*.sql"))))
        self.assertEqual({value for name, value in series.items() if name.startswith("coffer_rpc_reply_timeouts_total")}, {0})
        for name in ("coffer_ready", "coffer_db_up", "coffer_db_connects_total", "coffer_rpc_workers",
                     "coffer_rpc_queue_seconds_count", "coffer_cache_entries", "coffer_cache_hits_total",
                     "coffer_audit_records_total", "coffer_audit_writable",
                     "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
                     'coffer_build_info{version="0.1.0",rpc_revision="1"}'):
            self.assertGreater(series[name], 0, name)
        self.assertIn("coffer_cache_misses_total", series)  # what is not fresh is not looked up
        self.assertEqual(series["coffer_draining"], 0)
        self.assertEqual(types["coffer_rpc_duration_seconds"], "histogram")
        self.assertAlmostEqual(series["process_start_time_seconds"], time.time(), delta=3600)
        wait_for(lambda: self.metrics()[1]["coffer_audit_queue"] == 0, "the audit log does not get to the disk")

    def test_metrics_tell_of_statements_of_the_database_of_blobs_and_of_tokens(self):
        name = f"counted_{os.urandom(4).hex()}"
        kind, workspace, identity, _ = token_text.parse(self.dev.admin)
        unknown = token_text.make(kind, workspace, identity, os.urandom(token_text.SECRET))
        with Connection(self.address) as connection:
            _, before = self.metrics()
            self.assertEqual(connection.call(context.SECRET + "CreateSecret", {
                "environment": "default", "name": name, "values": context.values(KEY=b"v")}, token=self.dev.admin).code, 0)
            self.assertEqual(connection.call(context.SECRET + "RevealSecret", {
                "environment": "default", "name": name}, token=self.dev.admin).code, 0)
            self.assertEqual(connection.call(context.SECRET + "ListSecrets", {}, token=unknown).reason, "TOKEN_INVALID")
            self.assertEqual(connection.call(context.SECRET + "ListSecrets", {}, token=self.dev.executor).reason,
                             "PERMISSION_DENIED")
            types, after = self.metrics()

        def more(series):
            return after.get(series, 0) - before.get(series, 0)
        self.assertGreaterEqual(more('coffer_db_query_duration_seconds_count{query="REQUEST_FINISH"}'), 1)
        self.assertGreaterEqual(more('coffer_db_query_duration_seconds_count{query="COMMIT"}'), 1)
        self.assertGreaterEqual(more('coffer_crypto_operations_total{op="seal"}'), 2)
        self.assertGreaterEqual(more('coffer_crypto_operations_total{op="open"}'), 1)
        self.assertEqual(more('coffer_crypto_failures_total{op="open"}'), 0)
        self.assertGreater(after['coffer_crypto_duration_seconds_count{op="seal"}'], 0)
        self.assertEqual(more('coffer_auth_attempts_total{method="token",result="TOKEN_INVALID"}'), 1)
        self.assertGreaterEqual(more('coffer_auth_attempts_total{method="token",result="OK"}'), 3)
        self.assertEqual(more("coffer_authz_denied_total"), 1)
        self.assertEqual(types["coffer_crypto_duration_seconds"], "histogram")

    def test_new_values_of_a_secret_are_one_statement_between_lock_and_commit(self):
        address = {"environment": "default", "name": f"costs_{os.urandom(4).hex()}"}
        sent = {}
        with Connection(self.address) as connection:
            def call(method, request):
                self.assertEqual(connection.call(context.SECRET + method, request, token=self.dev.admin).code, 0)
            call("CreateSecret", {**address, "values": context.values(KEY=b"v")})
            _, before = self.metrics()
            for number in range(10):
                call("UpdateSecretValues", {**address, "replace": {"values": context.values(KEY=b"%d" % number)}})
            _, after = self.metrics()
        for series, count in after.items():
            if (found := re.fullmatch(r'coffer_db_query_duration_seconds_count\{query="(\w+)"\}', series)):
                sent[found[1]] = count - before.get(series, 0)
        self.assertEqual((sent["SECRET_LOCK"], sent["SECRET_FINISH_VALUES"]), (10, 10))
        self.assertGreaterEqual(sent["COMMIT"], 10)
        others = {name: count for name, count in sent.items() if count and re.match("REQUEST|SECRET|VERSION|ENVIRONMENT", name)}
        self.assertEqual(set(others), {"SECRET_LOCK", "SECRET_FINISH_VALUES"})

    def test_metrics_hold_nothing_that_a_caller_chose(self):
        name, value = f"metric_{os.urandom(8).hex()}", os.urandom(16).hex()
        with Connection(self.address) as connection:
            self.assertEqual(connection.call(context.SECRET + "CreateSecret", {
                "environment": "default", "name": name, "values": context.values(KEY=value.encode())},
                token=self.dev.admin).code, 0)
            self.assertEqual(connection.call(f"coffer.v1.Made{name}/Up", payload=b"", token=self.dev.admin).code, 12)
        _, body = self.request("GET", "/metrics")
        for text in (name, value, self.dev.admin.decode(), self.dev.workspace):
            self.assertNotIn(text, body.decode())
        self.assertIn('method="unknown",code="UNIMPLEMENTED"', body.decode())

    def test_metrics_may_be_for_this_host_only_or_for_nobody(self):
        self.assertNotIn("/metrics", self.hidden("COFFERD_HTTP__METRICS=none"))
        own = self.own_address()
        for metrics, status in ("loopback", 403), ("all", 200):
            server = self.more(f"metrics-{metrics}", "ws://0.0.0.0:0/", COFFERD_HTTP__METRICS=metrics,
                               COFFERD_TRANSPORT__INSECURE_TCP="true")
            port = server.port("ws://0.0.0.0")
            for host, expected in ("127.0.0.1", 200), (own, status):
                client = http.client.HTTPConnection(host, port, timeout=60)
                self.addCleanup(client.close)
                client.request("GET", "/metrics")
                self.assertEqual(client.getresponse().status, expected, (metrics, host))

    def own_address(self):
        """One of this host that is not loopback; who dials it comes from there."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            try:
                end.connect(("192.0.2.1", 9))  # nothing is sent
            except OSError:
                self.skipTest("this host has no address but loopback")
            return end.getsockname()[0]

    def hidden(self, setting):
        """What a server with the setting says of an unknown path."""
        key, value = setting.split("=")
        server = self.dev.more("hidden", **{
            key: value, "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/hidden.sock,ws://127.0.0.1:0",
            "COFFERD_LIMITS__WORKERS": "1"})
        port = self.port_of("ws", server)
        return self.exchange(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", port).decode()

    # --- Who is slow ---

    def test_a_request_that_comes_drop_by_drop_is_ended(self):
        port = self.port_of("ws", self.hasty)
        connected, ended = self.dial(port), threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not ended.wait(0.01):
                    connected.sendall(b"E")
        thread = threading.Thread(target=drip)
        thread.start()
        self.assertTrue(self.rest(connected).startswith(b"HTTP/1.1 4"))  # whatever comes first: too slow, or no request
        ended.set()
        thread.join()
        slow = self.dial(port)
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        self.assertTrue(self.rest(slow).startswith(b"HTTP/1.1 408 "))

    def test_connections_that_say_nothing_shut_nobody_out(self):
        secure = self.port_of("wss", self.hasty)
        for port in (self.port_of("ws", self.hasty), secure):
            silent = [self.dial(port) for _ in range(3 * STRANGERS)]
            wait_for(lambda: self.served(secure), "silent connections keep others out")
            for one in silent:
                self.assertEqual(self.rest(one), b"")
        self.assertIn('"event":"too_many_http"', self.hasty.log.read_text())

    def test_clients_that_vanish_leave_nothing_behind(self):
        def descriptors():
            return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))
        before = descriptors()
        for _ in range(100):
            for data in (b"", b"GET /livez", b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
                connected = self.dial()
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connected.sendall(data)
                connected.close()
            web = self.open()
            web.socket.sendall(WebSocket.frame(2, health_message())[:20])
            web.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            web.socket.close()
        wait_for(lambda: descriptors() <= before + 8, "connections are left behind")

    # --- Settings ---

    def test_plain_listeners_are_for_this_host_only(self):
        done = subprocess.run([BUILD / "server/cofferd", "serve"], capture_output=True, text=True, timeout=120, env={
            **os.environ, "COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
            "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
            "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "refused.state"),
            "COFFERD_TRANSPORT__LISTEN": "ws://0.0.0.0:0/coffer"})
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("wss://", done.stderr)
        self.assertIn("transport.insecure_tcp", done.stderr)

    def test_a_server_ends_with_websockets_open(self):
        server = self.dev.more("ending", COFFERD_TRANSPORT__LISTEN=f"ipc://{self.dev.directory}/ending.sock,ws://127.0.0.1:0")
        port = self.port_of("ws", server)
        idle = [WebSocket(self.dial(port), "127.0.0.1", "/") for _ in range(5)]
        half = [self.dial(port) for _ in range(5)]
        self.dev.extra.remove(server)
        self.assertEqual(server.stop(signal.SIGTERM), 0)
        for web in idle:
            self.assertEqual(self.closed_with(web), 1001)
        for one in half:
            self.assertEqual(self.rest(one), b"")


if __name__ == "__main__":
    unittest.main()
