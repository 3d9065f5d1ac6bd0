#!/usr/bin/env python3
"""Values that are planted are found nowhere but where they were asked for.

Every value that this test stores holds one random word. It goes through servers that log everything, through calls
that succeed and calls that fail in every way, and through the command line; then the word is looked for, in the forms
that programs like to write bytes in: logs, answers, the database (as a dump and byte by byte, its log of writes
included), everything else in the server's folder, and the arguments and environments of all processes. The same for
tokens and the root key. The last tests of all plant leaks and see that they are found.
"""

import base64
import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import PATIENCE, Dev, references, sp_client, values, wait_for  # noqa: E402

SECRET = "coffer.v1.SecretService/"
RESOLVE = "coffer.v1.ResolveService/Resolve"
ISSUE = "coffer.v1.TokenService/IssueToken"
SSH_KEY, MTLS, CA_CERT, GITHUB_APP = 2, 3, 4, 5
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
QUIET = ("token", "key")  # files of the server's folder that hold what they are named after


def base64_forms(secret):
    """What base64 makes of the bytes wherever in a longer text they begin, without what depends on neighbours."""
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + secret)
        inner = text[-(-shift * 4 // 3):len(text) // 4 * 4 - 4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def forms(secret):
    """{bytes to look for: name of the form}"""
    found = {secret: "as it is", secret[::-1]: "backwards", secret.hex().encode(): "hex",
             secret.hex().upper().encode(): "HEX", secret.hex(" ").encode(): "hex with blanks",
             b"".join(b"%%%02x" % byte for byte in secret): "URL", b"".join(b"%%%02X" % byte for byte in secret): "URL",
             b"".join(b"\\u%04x" % byte for byte in secret): "JSON", b"".join(b"\\x%02x" % byte for byte in secret): "C",
             b"".join(b"\\%03o" % byte for byte in secret): "octal", ", ".join(map(str, secret)).encode(): "list",
             secret.decode("latin-1").encode("utf-16-le"): "UTF-16"}
    found.update({form: "base64" for form in base64_forms(secret)})
    return found


class Search:
    """Looks for secrets, each {name: bytes}."""

    def __init__(self, hidden):
        self.patterns = {form: f"{name}, {how}" for name, secret in hidden.items()
                         for form, how in forms(secret).items()}

    def text(self, place, data):
        return [f"{place}: {name}" for form, name in self.patterns.items() if form in data]

    def folder(self, folder, leave_out=()):
        hits = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path not in leave_out:
                try:
                    hits += self.text(str(path), path.read_bytes())
                except FileNotFoundError:
                    pass  # a server at work removes files
        return hits


def parent_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Processes(threading.Thread):
    """Collects names, arguments and environments of all processes below this one, again and again."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self.names, self.ended = set(), set(), threading.Event()

    def run(self):
        while not self.ended.wait(0.01):
            self.look()

    def look(self):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents[int(entry)] = parent_of(entry)
                except (OSError, IndexError):
                    pass
        for pid in parents:
            above = pid
            while above in parents and above != os.getpid():
                above = parents[above]
            if above == os.getpid() and pid != above:
                self.read(pid)

    def read_new(self, process):
        """The same for one that has just begun: the kernel tells its arguments a moment later."""
        arguments = pathlib.Path(f"/proc/{process.pid}/cmdline")
        wait_for(lambda: process.poll() is not None or arguments.read_bytes(), "it has no arguments")
        self.read(process.pid)

    def read(self, pid):
        for name in ("comm", "cmdline", "environ"):
            try:
                data = pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue  # it ended, or keeps its environment from us
            (self.names if name == "comm" else self.seen).add(data)

    def end(self):
        self.ended.set()
        self.join()


class Canary(unittest.TestCase):
    """One run that does everything; then each test looks in one place."""

    @classmethod
    def setUpClass(cls):
        cls.word = secrets.token_hex(8).translate(str.maketrans("0123456789", "ghijkmnopq")).encode()
        cls.count = 0
        cls.told = {}  # what servers and commands said, by where
        cls.inputs = pathlib.Path(tempfile.mkdtemp(prefix="coffer-canary-", dir="/tmp"))
        cls.processes = Processes()
        cls.processes.start()
        loud = {"COFFERD_LOG__LEVEL": "debug", "COFFERD_LOG__REQUESTS": "all"}
        cls.dev = Dev(**loud, COFFERD_LOG__FORMAT="json")
        cls.text = cls.dev.more("text", **loud, COFFERD_LOG__FORMAT="text")
        for address in (cls.dev.ipc, cls.dev.tcp, cls.text.address):
            with cls.dev.connect(address) as connection:
                cls.calls(connection, f"e{cls.count}")
                cls.refusals(connection, f"e{cls.count}")
                cls.garbage(address)
        cls.command_line()
        cls.without_database()
        cls.processes.end()
        cls.hidden = {"value": cls.word, "root key": cls.root_key(), **cls.token_parts()}

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()
        shutil.rmtree(cls.inputs)

    @classmethod
    def value(cls, size=0):
        """A new value with the word in it, and with what logs and JSON escape."""
        cls.count += 1
        return (b'%d"\\\n' % cls.count + cls.word + "é\0".encode()).ljust(size, b"x")

    @classmethod
    def tell(cls, where, data):
        cls.told.setdefault(where, b"")
        cls.told[where] += data + b"\n"

    @classmethod
    def fail(cls, connection, what, method, request, **options):
        """A call that must fail; all bytes of its answer are kept."""
        options.setdefault("token", cls.dev.admin)
        raw = connection.receive_message(connection.send(method, request, **options))
        frame = sp_client.decode("coffer.rpc.v1.ResponseFrame", raw)
        assert frame["code"] != 0, what
        cls.tell(f"answer to {what}", raw)

    @classmethod
    def succeed(cls, connection, method, request):
        answer = connection.call(method, request, token=cls.dev.admin)
        assert answer.code == 0, answer
        if method != RESOLVE:
            cls.tell(f"answer of {method}", answer.payload)
        return answer.message

    @classmethod
    def calls(cls, connection, environment):
        place = {"environment": environment, "name": "planted"}
        cls.succeed(connection, SECRET + "CreateSecret", {**place, "values": values(A=cls.value(), B=cls.value(60000))})
        cls.succeed(connection, SECRET + "UpdateSecretValues",
                    {**place, "patch": {"set": values(A=cls.value(), C=cls.value()), "remove": ["B"]}})
        cls.succeed(connection, SECRET + "UpdateSecretValues", {**place, "replace": {"values": values(A=cls.value())}})
        cls.succeed(connection, SECRET + "GetSecret", place)
        cls.succeed(connection, SECRET + "ListSecrets", {})
        item = {"environments": [environment, "nowhere"], "references": references("planted.A", "planted.NONE", "x.Y")}
        answer = cls.succeed(connection, RESOLVE, {"items": [item]})
        cls.tell("refused results", repr(answer["results"][1:]).encode())
        item = {"environments": [environment], "references": references("planted.A")}
        answer = cls.succeed(connection, RESOLVE, {"items": [item]})
        assert cls.word in answer["results"][0]["secrets"][0]["values"][0]["value"]
        cls.succeed(connection, SECRET + "DeleteSecret", place)

    @classmethod
    def refusals(cls, connection, environment):
        create = SECRET + "CreateSecret"
        place = {"environment": environment, "name": "refused"}
        cls.fail(connection, "a value too large", create, {**place, "values": values(A=cls.value(65537))})
        cls.fail(connection, "a secret too large", create,
                 {**place, "values": values(**{f"K{i}": cls.value(65000) for i in range(6)})})
        cls.fail(connection, "an invalid key", create, {**place, "values": [{"key": "no key", "value": cls.value()}]})
        cls.fail(connection, "a key twice", create, {**place, "values": values(A=cls.value()) * 2})
        cls.fail(connection, "a reserved name", create,
                 {**place, "name": "x_oauth", "values": values(A=cls.value())})
        for kind, key in ((SSH_KEY, "PRIVATE_KEY"), (MTLS, "TLS_PRIVATE_KEY"), (CA_CERT, "CA_CERTIFICATE"),
                          (GITHUB_APP, "GITHUB_APP_PRIVATE_KEY")):
            pem = b"-----BEGIN PRIVATE KEY-----\n" + cls.value() + b"\n-----END PRIVATE KEY-----\n"
            cls.fail(connection, "an invalid PEM", create,
                     {**place, "name": f"pem{kind}", "type": kind, "values": values(**{key: pem, "EXTRA": pem})})
        cls.fail(connection, "no permission", create, {**place, "values": values(A=cls.value())},
                 token=cls.dev.executor)
        cls.fail(connection, "no such secret", SECRET + "UpdateSecretValues",
                 {**place, "patch": {"set": values(A=cls.value())}})
        cls.fail(connection, "no token", create, {**place, "values": values(A=cls.value())}, token=None)
        cls.fail(connection, "a value as token", create, place, token=b"cof_ws_" + cls.word)
        cls.fail(connection, "a wrong token", create, place, token=cls.dev.admin[:-1] + b"_")
        cls.fail(connection, "a cut message", create, None,
                 payload=b"\x0a\x7f" + cls.word)
        cls.fail(connection, "a wrong message", RESOLVE, None, payload=b"\x0a\x14\x12\x08" + cls.value())
        cls.fail(connection, "an unknown method", "coffer.v1.SecretService/Steal", None, payload=cls.value())
        cls.fail(connection, "invalid metadata", create, place, metadata=[("No Key", cls.value())])
        with cls.dev.connect() as first, cls.dev.connect() as second:
            request = {**place, "name": "twice", "values": values(A=cls.value())}
            identity = sp_client.uuid7()
            assert first.call(create, request, token=cls.dev.admin, request_id=identity).code == 0
            cls.fail(second, "a request ID used again", create,
                     {**request, "values": values(A=cls.value())}, request_id=identity)

    @classmethod
    def garbage(cls, address):
        """Frames that are none, and one that is too large; the server may close the connection."""
        for body in (cls.value(), b"\x0a" + cls.value(), b"\x12\xff\xff\xff\x0f" + cls.value(), cls.value(1100000)):
            with cls.dev.connect(address) as connection:
                try:
                    cls.tell("answer to garbage", connection.receive_message(connection.send_message(body)))
                except OSError:
                    pass

    @classmethod
    def command(cls, *arguments, value=None, token=None, show=True):
        """Runs coffer; with a value it waits for it on standard input, and is looked at meanwhile."""
        process = subprocess.Popen([cli.COFFER, *arguments], env=cli.environment(cls.dev, token),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        cls.processes.read_new(process)
        out, err = process.communicate(value or b"", timeout=2 * PATIENCE)
        cls.tell("coffer's errors", err)
        if show:
            cls.tell("coffer's output", out)
        return process.returncode, out

    @classmethod
    def command_line(cls):
        path = cls.inputs / "value"
        path.write_bytes(cls.value())
        large = cls.inputs / "large"
        large.write_bytes(cls.value(70000))
        assert cls.command("secret", "create", "typed", "A=-", f"B=@{path}", value=cls.value())[0] == 0
        assert cls.command("set", "typed.C=-", value=cls.value())[0] == 0
        for arguments in (["secret", "list"], ["secret", "show", "typed"], ["resolve", "typed.A", "typed.Z"],
                          ["get", "typed.NONE"], ["get", "typed.A", "-e", "nowhere"], ["sa", "list"], ["whoami"],
                          ["set", f"typed.A=@{large}"]):
            cls.command(*arguments)
        cls.command("set", "typed.A=-", value=cls.value(), token="executor")
        cls.command("set", "no name.A=-", value=cls.value())
        code, out = cls.command("get", "typed.A", show=False)
        assert code == 0 and cls.word in out
        assert cls.command("sa", "create", "canary", "--permission", "resolve")[0] == 0
        cls.issued = cls.inputs / "canary.token"
        assert cls.command("token", "issue", "canary", "--out", str(cls.issued))[0] == 0
        shutil.copy(cls.issued, cls.dev.directory / "canary.token")
        assert cls.command("get", "typed.A", token="canary", show=False)[0] == 0

    @classmethod
    def without_database(cls):
        """The same while connections break and none can be made."""
        run = cls.dev.directory / "run"
        postmaster = int((cls.dev.directory / "postgresql" / "postmaster.pid").read_text().split()[0])
        away = run.with_name("away")
        run.rename(away)
        for pid in pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
            with contextlib.suppress(OSError):  # others of its children come and go
                if b"coffer" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGTERM)
        for address in (cls.dev.ipc, cls.text.address):
            with cls.dev.connect(address) as connection:
                cls.fail(connection, "a call without the database", SECRET + "CreateSecret",
                         {"name": "lost", "values": values(A=cls.value())}, timeout_ms=1000)
                connection.call(RESOLVE, {"items": [{"references": references("typed.A")}]}, token=cls.dev.admin,
                                timeout_ms=1000)
        away.rename(run)
        wait_for(lambda: cls.command("get", "typed.A", show=False)[0] == 0, "the database is not found again")

    @classmethod
    def root_key(cls):
        return bytes.fromhex((cls.dev.directory / "root.key").read_text().strip())

    @classmethod
    def token_parts(cls):
        """Of each token its text without the kind, and the 32 random bytes that make it what it is."""
        parts = {}
        for name in ("admin", "executor", "system", "canary"):
            text = (cls.dev.directory / f"{name}.token").read_text().strip()
            number = 0
            for character in text.rpartition("_")[2][:86]:
                number = number * 62 + ALPHABET.index(character)
            parts[f"text of the {name} token"] = text[-56:].encode()
            parts[f"random part of the {name} token"] = number.to_bytes(64, "big")[-32:]
        return parts

    def programs(self, name, *arguments):
        folder = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        return subprocess.run([folder / name, "-d", self.dev.conninfo, *arguments], check=True,
                              capture_output=True).stdout

    @property
    def files_of_secrets(self):
        return {path for path in self.dev.directory.iterdir() if path.suffix.lstrip(".") in QUIET}

    def assert_nowhere(self, hits):
        self.assertEqual(hits, [])

    def test_word_did_go_through(self):
        self.assertGreater(self.count, 100)
        self.assertIn(b"answer to", b"".join(place.encode() for place in self.told))
        for log in (self.dev.server.log, self.text.log):
            self.assertGreater(log.read_text().count("CreateSecret"), 10, log)
        names = b" ".join(self.processes.names)
        for name in (b"cofferd", b"postgres", b"coffer\n"):
            self.assertIn(name, names)

    def test_planted_values_are_in_no_log(self):
        search = Search(self.hidden)
        for log in (self.dev.server.log, self.text.log, self.dev.directory / "postgresql.log"):
            self.assert_nowhere(search.text(str(log), log.read_bytes()))

    def test_planted_values_are_in_no_error_and_no_listing(self):
        search = Search(self.hidden)
        self.assertGreater(len(self.told), 20)
        for place, data in self.told.items():
            self.assert_nowhere(search.text(place, data))

    def test_planted_values_are_in_no_argument_and_no_environment(self):
        search = Search(self.hidden)
        self.assertGreater(len(self.processes.seen), 20)
        for data in self.processes.seen:
            self.assert_nowhere(search.text(repr(data[:60]), data))

    def test_planted_values_are_not_in_the_database(self):
        search = Search(self.hidden)
        dump = self.programs("pg_dump") + self.programs("psql", "-X", "-c", "SELECT * FROM pg_stat_activity")
        self.assertIn(b"planted", dump)  # names are in the clear
        self.assert_nowhere(search.text("dump", dump))
        self.programs("psql", "-X", "-c", "CHECKPOINT")
        self.assert_nowhere(search.folder(self.dev.directory / "postgresql"))

    def test_planted_values_are_in_no_other_file_of_the_server(self):
        self.assert_nowhere(Search(self.hidden).folder(self.dev.directory, self.files_of_secrets))

    # The search itself.

    def test_search_finds_every_form_at_every_offset(self):
        search = Search(self.hidden)
        encoders = (bytes, base64.b64encode, base64.urlsafe_b64encode, lambda data: data.hex().encode(),
                    lambda data: b"".join(b"%%%02X" % byte for byte in data))
        for name, secret in self.hidden.items():
            for encode in encoders:
                for offset in range(4):
                    hits = search.text("here", encode(b"q" * offset + secret + b"w" * 3))
                    self.assertTrue(hits, (name, encode, offset))
        self.assertEqual(search.text("here", b"nothing " * 100), [])

    def test_search_finds_a_leak_in_a_log_a_file_and_the_database(self):
        search = Search(self.hidden)
        with open(self.dev.server.log, "ab") as log:
            at = log.tell()
            log.write(base64.b64encode(b"leak: " + self.word + b" end"))
        try:
            self.assertEqual(len(search.folder(self.dev.directory, self.files_of_secrets)), 1)
        finally:
            os.truncate(self.dev.server.log, at)
        self.programs("psql", "-X", "-c", f"CREATE TABLE leak AS SELECT '{self.word.decode()}'::bytea AS value")
        self.programs("psql", "-X", "-c", "CHECKPOINT")
        self.assertTrue(search.text("dump", self.programs("pg_dump", "-t", "leak")))
        self.assertTrue(search.folder(self.dev.directory / "postgresql"))

    def test_search_finds_a_leak_in_arguments_and_in_an_environment(self):
        search = Search(self.hidden)
        for arguments, environment in (([self.word], {}), ([], {"LEAK": self.word})):
            process = subprocess.Popen(["sh", "-c", "read line", *arguments], stdin=subprocess.PIPE,
                                       env={**os.environ, **environment})
            own = Processes()
            own.read_new(process)
            process.communicate(b"\n")
            self.assertTrue([hit for data in own.seen for hit in search.text("process", data)])


if __name__ == "__main__":
    unittest.main()
