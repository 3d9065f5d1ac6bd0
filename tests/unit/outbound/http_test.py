#!/usr/bin/env python3
"""Requests to the outside, against a provider that does all that providers do, and more.

The first argument is the program that sends (http_driver.c). Everything stays on this host, which is why most of the
servers here are on the list of those that may be private.
"""

import collections
import gzip
import pathlib
import queue
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
import certificates
from rude_http import Rude, head, reset, whole, zeros

DRIVER = sys.argv.pop(1)
WAIT = 60
TOKENS = b'{"access_token":"a","refresh_token":"r"}'
SECRET = b"grant_type=refresh_token&refresh_token=planted-secret-7f3a"
LIMIT = 65536

Answer = collections.namedtuple("Answer", "end sent status retry_ms what retry_after authenticate body")


class Driver:
    """The program, with servers that it may reach although they are private."""

    def __init__(self, *allowed, proxy="", ca="", concurrent=64, per_group=16, waiting=64, connect_ms=20000,
                 timeout_ms=20000, environment=None):
        arguments = [" ".join(allowed), proxy, ca, concurrent, per_group, waiting, connect_ms, timeout_ms, LIMIT]
        self.process = subprocess.Popen([DRIVER, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.answers, self.words, self.next = {}, queue.Queue(), 0
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            first, *rest = line.rstrip("\n").split("\t")
            if not first.isdigit():
                self.words.put((first, *rest))
                continue
            end, sent, status, retry, what, *texts = rest
            answer = Answer(end, sent == "1", int(status), int(retry), what, *map(bytes.fromhex, texts))
            with self.changed:
                assert int(first) not in self.answers, "answered twice"
                self.answers[int(first)] = answer
                self.changed.notify_all()

    def say(self, *columns):
        self.process.stdin.write("\t".join(map(str, columns)) + "\n")
        self.process.stdin.flush()

    def send(self, url, method="POST", group="one", timeout=0, within=-1, limit=0, headers=(), body=SECRET, sign="-"):
        self.next += 1
        self.say("send", self.next, group, method, url, timeout, within, limit,
                 "".join(f"{header};" for header in headers), body.hex(), sign)
        return self.next

    def get(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.answers, WAIT), f"no answer to {number}"
            return self.answers[number]

    def ask(self, url, **options):
        return self.get(self.send(url, **options))

    def load(self):
        self.say("load")
        return tuple(map(int, self.words.get(timeout=WAIT)[1:]))

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(WAIT) == 0, "memory was not given back"
        self.process.stdout.close()


class Base(unittest.TestCase):
    def rude(self, scripts, **options):
        server = Rude({}, **options)
        server.scripts.update({path: script if callable(script) else server.says(script)
                               for path, script in scripts.items()})
        server.scripts["hang"] = server.hang
        self.addCleanup(server.close)
        return server

    def driver(self, *allowed, **options):
        driver = Driver(*allowed, **options)
        self.addCleanup(driver.close)
        return driver

    def one(self, script, **options):
        """The answer to a POST that meets this script, and the server."""
        server = self.rude({"token": script})
        return self.driver(server.entry).ask(server.url("token"), **options), server


class Answers(Base):
    def test_answer_comes_whole_with_its_status_headers_and_body(self):
        answer, server = self.one(whole(TOKENS, 200, "Retry-After:  7 ", "www-authenticate: Bearer x"),
                                  headers=["Content-Type=application/x-www-form-urlencoded"])
        self.assertEqual(answer, Answer("answered", True, 200, 0, "", b"7", b"Bearer x", TOKENS))
        self.assertTrue(server.requests[0].startswith(b"POST /token HTTP/1.1\r\n"))
        self.assertTrue(server.requests[0].endswith(b"\r\n\r\n" + SECRET))
        self.assertIn(b"\r\nContent-Type: application/x-www-form-urlencoded\r\n", server.requests[0])
        self.assertNotIn(b"Expect", server.requests[0])

    def test_redirect_is_an_answer_and_is_not_followed(self):
        other = self.rude({"stolen": whole(b"no")})
        for status in (301, 302, 303, 307, 308):
            answer, _ = self.one(whole(b"", status, f"Location: {other.url('stolen')}"))
            self.assertEqual((answer.end, answer.status), ("answered", status))
        self.assertEqual(other.connections, 0)

    def test_what_came_before_the_answer_broke_off_is_kept(self):
        cut = {
            "chunk without an end": head(200, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(TOKENS), TOKENS),
            "chunk that is shorter than it says": head(200, "Transfer-Encoding: chunked") + b"ff\r\n" + TOKENS,
            "body that is shorter than it says": head(200, "Content-Length: 1000") + TOKENS,
        }
        for name, data in cut.items():
            answer, server = self.one(data)
            self.assertEqual((answer.end, answer.status, answer.body), ("cut", 200, TOKENS), name)
            self.assertEqual(len(server.requests), 1)

    def test_body_that_is_longer_than_it_says_ends_where_it_says(self):
        answer, _ = self.one(head(200, f"Content-Length: {len(TOKENS)}") + TOKENS + b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual((answer.end, answer.body), ("answered", TOKENS))

    def test_connection_closed_within_the_headers_is_no_whole_answer(self):
        answer, _ = self.one(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        self.assertEqual((answer.end, answer.sent, answer.status), ("cut", True, 200))

    def test_request_that_is_not_answered_is_lost_and_not_sent_again(self):
        for script in (Rude.says(b""), Rude.says_and_resets(b""), lambda connection, request: reset(connection),
                       Rude.says(b"HTTP/1.1 100 Continue\r\n\r\n"), Rude.says(b"HTTP/1.1"),
                       Rude.says(b"SSH-2.0-OpenSSH_9.2\r\n")):
            answer, server = self.one(script)
            self.assertEqual((answer.end, answer.sent, answer.status), ("lost", True, 0))
            self.assertEqual((len(server.requests), server.connections), (1, 1))

    def test_no_connection_is_used_twice(self):
        server = self.rude({"token": whole(TOKENS, 200, "Connection: keep-alive")})
        driver = self.driver(server.entry)
        for count in range(1, 4):
            self.assertEqual(driver.ask(server.url("token")).end, "answered")
            self.assertEqual(server.connections, count)

    def test_time_that_is_over_ends_an_answer_that_hangs_or_drips(self):
        for script, end in ((None, "lost"), (Rude.drips(whole(bytes(1000))), "cut")):
            server = self.rude({"token": script or (lambda connection, request: server.hang(connection, request))})
            answer = self.driver(server.entry).ask(server.url("token"), timeout=700)
            self.assertIn(answer.end, (end, "lost"))
            self.assertEqual(answer.what, "the time for it was over")

    def test_request_that_cannot_be_sent_was_not_sent(self):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        answer = self.driver(f"127.0.0.1:{port}").ask(f"http://127.0.0.1:{port}/token")
        self.assertEqual((answer.end, answer.sent, answer.what), ("not_sent", False, "it takes no connection"))


class Limits(Base):
    def test_body_over_the_limit_is_cut_there_however_it_comes(self):
        large = bytes(LIMIT * 4)
        chunk = b"%x\r\n%s\r\n" % (LIMIT, bytes(LIMIT))
        scripts = {
            "announced": whole(large),
            "until the end": head() + large,
            "chunked": Rude.pours(head(200, "Transfer-Encoding: chunked"), chunk, 64),
            "gzip": whole(zeros(1 << 26), 200, "Content-Encoding: gzip"),
        }
        for name, script in scripts.items():
            answer, _ = self.one(script)
            self.assertEqual((answer.end, answer.status), ("too_large", 200), name)
            self.assertLessEqual(len(answer.body), LIMIT, name)

    def test_request_may_ask_for_less(self):
        answer, _ = self.one(whole(bytes(5000)), limit=1000)
        self.assertEqual((answer.end, answer.body), ("too_large", bytes(1000)))

    def test_compressed_answer_is_read(self):
        answer, _ = self.one(whole(gzip.compress(TOKENS), 200, "Content-Encoding: gzip"))
        self.assertEqual((answer.end, answer.body), ("answered", TOKENS))

    def test_headers_over_the_limit_end_the_answer(self):
        scripts = {
            "one": head(200, "A: " + "x" * (1 << 20)),
            "many": head(200, *("A: " + "x" * 1000 for _ in range(200))),
            "interim answers without end": b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" * 20000,
        }
        for name, data in scripts.items():
            answer, _ = self.one(data)
            self.assertIn(answer.end, ("too_large", "lost", "cut"), name)
            self.assertNotEqual(answer.end, "answered", name)
            self.assertTrue(answer.sent, name)


class Places(Base):
    def test_addresses_that_are_not_public_are_refused_and_nothing_is_sent(self):
        server = self.rude({"token": whole(TOKENS)})
        driver = self.driver()
        hosts = ["127.0.0.1", "localhost", "localhost.", "x.localhost", "0.0.0.0", "0", "127.1", "0x7f.1", "2130706433",
                 "017700000001", "10.1.2.3", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1",
                 "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[ff02::1]",
                 "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:db8::1]"]
        for host in hosts:
            answer = driver.ask(f"https://{host}:{server.port}/token")
            self.assertEqual((answer.end, answer.sent), ("refused_address", False), host)
        self.assertEqual(server.connections, 0)

    def test_name_with_a_private_address_is_refused_at_the_socket(self):
        server = self.rude({"token": whole(TOKENS)})
        name = socket.gethostname()
        try:
            addresses = {info[4][0] for info in socket.getaddrinfo(name, server.port, type=socket.SOCK_STREAM)}
        except OSError:
            self.skipTest("this host's name stands for nothing")
        answer = self.driver().ask(f"https://{name}:{server.port}/token")
        self.assertEqual((answer.end, answer.sent), ("refused_address", False), addresses)
        self.assertEqual(server.connections, 0)

    def test_only_https_and_only_what_is_a_url(self):
        server = self.rude({"token": whole(TOKENS)})
        driver = self.driver()
        urls = ["http://example.com/token", "ftp://example.com/", "file:///etc/passwd", "example.com/token", "", "https://",
                "https://user:password@example.com/", "gopher://127.0.0.1:70/", "https://exa mple.com/",
                "https://example.com:99999/", "https://example.com/\x01", "dict://127.0.0.1:11211/stat"]
        for url in urls:
            self.assertEqual(driver.ask(url).end, "refused_url", url)
        self.assertEqual(server.connections, 0)

    def test_list_names_host_and_port_and_nothing_beyond(self):
        first, second = self.rude({"token": whole(TOKENS)}), self.rude({"token": whole(TOKENS)})
        driver = self.driver(first.entry)
        self.assertEqual(driver.ask(first.url("token")).end, "answered")
        self.assertEqual(driver.ask(second.url("token", scheme="https")).end, "refused_address")
        self.assertEqual(driver.ask(second.url("token")).end, "refused_url")
        self.assertEqual(driver.ask(first.url("token", host="localhost")).end, "refused_url")
        self.assertEqual(second.connections, 0)

    def test_list_with_an_entry_that_is_none_is_refused(self):
        for entry in ("127.0.0.1", "host:", ":443", "host:0", "host:70000", "host:443/path", "https://host:443"):
            driver = Driver(entry)
            self.assertEqual(driver.words.get(timeout=WAIT)[0], "error", entry)
            driver.process.stdin.close()
            driver.process.wait(WAIT)
            driver.process.stdout.close()

    def test_header_that_would_be_two_is_refused(self):
        server = self.rude({"token": whole(TOKENS)})
        answer = self.driver(server.entry).ask(server.url("token"), headers=["Authorization=a\rHost: b"])
        self.assertEqual((answer.end, answer.sent, server.connections), ("refused_url", False, 0))


class Tls(Base):
    made = 0

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.authority = certificates.Authority(pathlib.Path(cls.folder.name) / "ca")
        cls.addClassCleanup(cls.folder.cleanup)

    def context(self, version=None, **options):
        Tls.made += 1
        name = f"server{Tls.made}"
        certificate, key = self.authority.issue(name, **options)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if version:
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def test_certificate_of_the_ca_that_is_set_is_trusted(self):
        server = self.rude({"token": whole(TOKENS)}, context=self.context())
        driver = self.driver(server.entry, ca=str(self.authority.certificate))
        self.assertEqual(driver.ask(server.url("token")).body, TOKENS)

    def test_certificate_of_another_name_or_ca_or_time_is_refused_before_anything_is_sent(self):
        cases = [
            (self.context(names="DNS:elsewhere.example"), str(self.authority.certificate)),
            (self.context(since=certificates.LONG_AGO, until=certificates.NOT_SO_LONG_AGO),
             str(self.authority.certificate)),
            (self.context(), ""),
        ]
        for context, ca in cases:
            server = self.rude({"token": whole(TOKENS)}, context=context)
            answer = self.driver(server.entry, ca=ca).ask(server.url("token"))
            self.assertEqual((answer.end, answer.sent, answer.what),
                             ("not_sent", False, "its certificate is not trusted"))
            self.assertEqual(server.requests, [])

    def test_tls_older_than_1_2_is_refused(self):
        server = self.rude({"token": whole(TOKENS)}, context=self.context(version=ssl.TLSVersion.TLSv1_1))
        answer = self.driver(server.entry, ca=str(self.authority.certificate)).ask(server.url("token"))
        self.assertEqual((answer.end, answer.sent), ("not_sent", False))

    def test_handshake_that_hangs_ends_with_its_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            driver = self.driver(f"127.0.0.1:{port}", connect_ms=500)
            answer = driver.ask(f"https://127.0.0.1:{port}/token")
        self.assertEqual((answer.end, answer.sent, answer.what), ("not_sent", False, "the time for it was over"))


class Proxy(Base):
    def test_requests_go_through_the_proxy_that_is_set_but_not_to_what_is_listed(self):
        seen = []

        def connect(connection, request):
            seen.append(request)
            connection.sendall(head(403))
        proxy = self.rude({})
        proxy.scripts = collections.defaultdict(lambda: connect)
        listed = self.rude({"token": whole(TOKENS)})
        driver = self.driver(listed.entry, proxy=f"http://127.0.0.1:{proxy.port}")
        answer = driver.ask("https://provider.example/token", headers=["Authorization=Basic planted"])
        self.assertEqual((answer.end, answer.sent), ("not_sent", False))
        self.assertTrue(seen[0].startswith(b"CONNECT provider.example:443 HTTP/1.1\r\n"))
        self.assertNotIn(b"planted", seen[0])
        self.assertEqual(driver.ask(listed.url("token")).end, "answered")
        for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1"):
            self.assertEqual(driver.ask(f"https://{host}/token").end, "refused_address", host)
        self.assertEqual(len(seen), 1)

    def test_proxies_of_the_environment_are_not_used(self):
        proxy = self.rude({})
        listed = self.rude({"token": whole(TOKENS)})
        environment = {name: f"http://127.0.0.1:{proxy.port}" for name in
                       ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
        driver = self.driver(listed.entry, environment=environment)
        self.assertEqual(driver.ask(listed.url("token")).end, "answered")
        self.assertEqual(proxy.connections, 0)


class Turns(Base):
    def test_group_has_so_many_under_way_and_others_their_own(self):
        server = self.rude({"token": whole(TOKENS)})
        driver = self.driver(server.entry, per_group=3)
        hanging = [driver.send(server.url("hang"), group="slow") for _ in range(10)]
        server.await_requests(3)
        for _ in range(5):
            self.assertEqual(driver.ask(server.url("token"), group="quick").end, "answered")
        self.assertEqual(driver.load(), (3, 7, 0))
        self.assertEqual(sum(b"/hang" in request for request in server.requests), 3)
        server.released.set()
        for number in hanging:
            driver.get(number)
        self.assertEqual(driver.load()[:2], (0, 0))

    def test_server_has_so_many_under_way_and_groups_take_turns(self):
        server = self.rude({"token": whole(TOKENS)})
        driver = self.driver(server.entry, concurrent=2, per_group=2)
        for number in range(8):
            driver.send(server.url("hang"), group="first")
        server.await_requests(2)
        late = driver.send(server.url("token"), group="second")
        self.assertEqual(driver.load()[:2], (2, 7))
        server.released.set()
        self.assertEqual(driver.get(late).end, "answered")
        self.assertLessEqual(server.most, 3)  # one may be closing

    def test_more_than_may_wait_are_refused_at_once(self):
        server = self.rude({})
        driver = self.driver(server.entry, per_group=1, waiting=4)
        driver.send(server.url("hang"))
        server.await_requests(1)
        numbers = [driver.send(server.url("hang")) for _ in range(6)]
        for number in numbers[4:]:
            self.assertEqual(driver.get(number).end, "queue_full")
        driver.say("stop")
        for number in numbers[:4]:
            self.assertEqual(driver.get(number).end, "stopped")

    def test_request_whose_turn_does_not_come_in_time_is_not_sent(self):
        server = self.rude({})
        driver = self.driver(server.entry, per_group=1)
        driver.send(server.url("hang"))
        server.await_requests(1)
        answer = driver.ask(server.url("hang"), within=300)
        self.assertEqual((answer.end, answer.sent), ("not_sent", False))
        self.assertEqual(len(server.requests), 1)

    def test_stop_ends_what_waits_and_what_is_under_way(self):
        server = self.rude({})
        driver = self.driver(server.entry, per_group=1)
        first = driver.send(server.url("hang"))
        server.await_requests(1)
        second = driver.send(server.url("hang"))
        driver.say("drain")
        self.assertEqual((driver.get(second).end, driver.get(second).sent), ("stopped", False))
        self.assertEqual(driver.ask(server.url("hang")).end, "stopped")
        driver.say("stop")
        self.assertEqual((driver.get(first).end, driver.get(first).sent), ("lost", True))
        self.assertEqual(driver.ask(server.url("hang")).end, "stopped")

    def test_group_that_keeps_failing_is_left_alone_and_tried_again(self):
        server = self.rude({"token": whole(b"", 503), "well": whole(TOKENS)})
        driver = self.driver(server.entry)
        for _ in range(5):
            self.assertEqual(driver.ask(server.url("token")).status, 503)
        answer = driver.ask(server.url("well"))
        self.assertEqual((answer.end, answer.sent), ("breaker_open", False))
        self.assertTrue(0 < answer.retry_ms <= 1250)
        self.assertEqual(driver.ask(server.url("well"), group="other").end, "answered")
        self.assertEqual(driver.load()[2], 1)
        while answer.end == "breaker_open":
            answer = driver.ask(server.url("well"))
        self.assertEqual(answer.end, "answered")
        self.assertEqual(driver.load()[2], 0)

    def test_errors_that_one_request_can_cause_close_nobody_out(self):
        server = self.rude({"token": whole(b"", 500), "well": whole(TOKENS)})
        driver = self.driver(server.entry)
        for _ in range(20):
            self.assertEqual(driver.ask(server.url("token")).status, 500)
            self.assertEqual(driver.ask("https://127.0.0.1/").end, "refused_address")
        self.assertEqual(driver.ask(server.url("well")).end, "answered")


class Signature(Base):
    def test_request_is_signed_for_aws_with_its_session(self):
        server = self.rude({"": whole(b"<ok/>")})
        answer = self.driver(server.entry).ask(server.url(""), body=b"Action=GetCallerIdentity&Version=2011-06-15",
                                               sign="eu-west-1,sts,AKIDEXAMPLE,planted-secret,planted-session")
        self.assertEqual(answer.end, "answered")
        request = server.requests[0]
        field = re.search(rb"\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/sts/aws4_request, "
                          rb"SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}\r\n", request)
        self.assertTrue(field, request)
        self.assertIn(b"x-amz-security-token", field[1].split(b";"))
        self.assertIn(b"\r\nX-Amz-Security-Token: planted-session\r\n", request)
        self.assertNotIn(b"planted-secret", request)


if __name__ == "__main__":
    unittest.main()
