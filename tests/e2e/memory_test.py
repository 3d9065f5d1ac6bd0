#!/usr/bin/env python3
"""After a call, its values are nowhere in the memory of the server.

Reads the whole memory of a running cofferd, which only root may do.
"""

import os
import pathlib
import re
import secrets
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import token_text  # noqa: E402
from cofferd import Dev, references, values, wait_for  # noqa: E402

SECRET = "coffer.v1.SecretService/"
RESOLVE = "coffer.v1.ResolveService/Resolve"
BLOCK = 1 << 24
MANY = 1000 if os.environ.get("TEST_FULL") else 20


def regions(pid):
    """(first, last, description) of everything that can be read."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        first, last, rights, name = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", line).groups()
        if rights.startswith("r") and name not in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
            yield int(first, 16), int(last, 16), name or "anonymous"


def places(pid, *words):
    """Where in the process any of the words lies."""
    found, pattern = [], re.compile(b"|".join(map(re.escape, words)))
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for first, last, name in regions(pid):
            data = b""
            while first + len(data) < last:
                try:
                    part = os.pread(memory.fileno(), min(BLOCK, last - first - len(data)), first + len(data))
                except OSError:
                    break  # unmapped meanwhile
                data += part
            found += [f"{name} {first + match.start():#x}" for match in pattern.finditer(data)]
    return found


def locked_regions(pid):
    """(first, last) of what is kept from being swapped."""
    found, region = [], None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if header := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            region = tuple(int(end, 16) for end in header.groups())
        elif line.startswith("VmFlags:") and "lo" in line.split():
            found.append(region)
    return found


@unittest.skipUnless(os.geteuid() == 0, "only root may read the memory of a process that hides it")
class Memory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()
        cls.pid = cls.dev.server.process.pid
        cls.word = secrets.token_hex(12).encode()

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()

    def assert_wiped(self, *words):
        """At the latest when what was sent is freed, which the peer does not see."""
        words = words or (self.word,)
        try:
            wait_for(lambda: not places(self.pid, *words), "a word stays", 30)
        except TimeoutError:
            self.assertEqual(places(self.pid, *words), [])

    def use(self, connection, name, size):
        value = b"begin " + self.word + b"x" * size + self.word + b" end"
        for place in ("one", "two"):
            answer = connection.call(SECRET + "CreateSecret", {"environment": place, "name": name,
                                                               "values": values(A=value, B=b"other")},
                                     token=self.dev.admin)
            self.assertEqual(answer.code, 0, answer)
        answer = connection.call(SECRET + "UpdateSecretValues", {"environment": "one", "name": name, "patch": {
            "set": values(C=self.word)}}, token=self.dev.admin)
        self.assertEqual(answer.code, 0, answer)
        for _ in range(20):
            item = {"environments": ["one", "two", "none"], "references": references(f"{name}.A")}
            answer = connection.call(RESOLVE, {"items": [item, item]}, token=self.dev.executor)
            self.assertEqual(answer.message["results"][0]["secrets"][0]["values"][0]["value"], value)

    def test_search_finds_what_is_there(self):
        self.assertTrue(places(self.pid, RESOLVE.encode()))
        self.assertTrue(places(os.getpid(), self.word))

    def test_value_is_nowhere_after_it_was_stored_and_resolved(self):
        for number, address in enumerate((self.dev.ipc, self.dev.tcp)):
            with self.dev.connect(address) as connection:
                for size in (0, 3000, 60000):
                    self.use(connection, f"s{number}-{size}", size)
                self.assert_wiped()

    def test_values_of_many_secrets_are_nowhere_after_many_reads(self):
        """T31."""
        with self.dev.connect(self.dev.tcp) as connection:
            for i in range(MANY):
                answer = connection.call(SECRET + "CreateSecret", {"environment": "many", "name": f"m{i}", "values": values(
                    A=self.word + str(i).encode())}, token=self.dev.admin)
                self.assertEqual(answer.code, 0, answer)
            for i in range(10 * MANY):
                item = {"environments": ["many"], "references": references(f"m{i % MANY}.A")}
                answer = connection.call(RESOLVE, {"items": [item]}, token=self.dev.executor)
                self.assertTrue(answer.message["results"][0]["secrets"][0]["values"][0]["value"].startswith(self.word))
            self.assert_wiped()

    def test_tokens_are_nowhere_after_their_calls_and_the_root_key_is_in_no_memory_that_can_be_swapped(self):
        tokens = (self.dev.admin, self.dev.executor, self.dev.system)
        item = {"environments": ["none"], "references": references("none.A")}
        for address in (self.dev.ipc, self.dev.tcp):
            with self.dev.connect(address) as connection:
                for token in tokens:
                    for method, request in ((RESOLVE, {"items": [item]}), (SECRET + "ListSecrets", {}),
                                            ("coffer.v1.TokenService/GetCaller", {}), ("coffer.v1.No/Method", None)):
                        connection.call(method, request, token=token, payload=None if request is not None else b"")
        secrets_of = [token_text.parse(token)[3] for token in tokens]
        root = (self.dev.directory / "root.key").read_text().strip()
        self.assert_wiped(*tokens, *secrets_of, root.encode())
        locked = locked_regions(self.pid)
        for place in places(self.pid, bytes.fromhex(root)):
            at = int(place.split()[-1], 16)
            self.assertTrue(any(first <= at < last for first, last in locked), place)

    def test_value_is_nowhere_after_its_call_failed(self):
        with self.dev.connect() as connection:
            for name, token in (("x_oauth", self.dev.admin), ("fine", self.dev.executor), ("fine", b"cof_ws_no")):
                answer = connection.call(SECRET + "CreateSecret", {"name": name, "values": values(A=self.word)},
                                         token=token)
                self.assertNotEqual(answer.code, 0)
            connection.send_message(b"\x0a\x7f" + self.word)
            answer = connection.call(SECRET + "CreateSecret", payload=b"\x0a\x7f" + self.word, token=self.dev.admin)
            self.assertNotEqual(answer.code, 0)
            self.assert_wiped()

    def test_value_is_nowhere_after_the_caller_went_away_before_the_answer(self):
        for _ in range(10):
            connection = self.dev.connect(self.dev.tcp)
            connection.send(SECRET + "CreateSecret", {"name": f"gone{secrets.token_hex(4)}", "values": values(
                A=self.word.ljust(50000, b"y"))}, token=self.dev.admin)
            connection.close()
        self.assert_wiped()


if __name__ == "__main__":
    unittest.main()
