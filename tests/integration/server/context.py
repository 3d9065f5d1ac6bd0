"""What the tests of this folder share: one server for each test program."""

import contextlib
import pathlib
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

from cofferd import Dev, references, wait_for  # noqa: E402

RESOLVE = "coffer.v1.ResolveService/Resolve"


class ServerTest(unittest.TestCase):
    """Calls are made as the workspace's administrator over IPC unless they say otherwise."""

    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()
        cls.connection = cls.dev.connect()

    @classmethod
    def tearDownClass(cls):
        cls.connection.close()
        cls.dev.close()

    @staticmethod
    def now_ms():
        return int(time.time() * 1000)

    def call(self, method, request=None, token=None, **options):
        return self.connection.call(method, request, token=self.dev.admin if token is None else token, **options)

    def resolve(self, environment, *names, token=None, **fields):
        """The result of one item in one environment."""
        item = {"environments": [environment], "references": references(*names), **fields}
        answer = self.call(RESOLVE, {"items": [item]}, token=token)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["results"][0]

    @staticmethod
    def value(result, name, key):
        for secret in result["secrets"]:
            for pair in secret["values"]:
                if (secret["name"], pair["key"]) == (name, key):
                    return pair["value"]
        raise AssertionError(f"{name}.{key} is not in {result}")

    def together(self, count, method, request):
        """The answers to the same call, made by several clients at once, each with a request ID of its own."""
        answers = []
        start = threading.Barrier(count)

        def one():
            with self.dev.connect() as connection:
                start.wait()
                answers.append(connection.call(method, request, token=self.dev.admin))

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def psql(self):
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        return [psql, "-X", "-q", "-A", "-t", "-d", self.dev.conninfo]

    def sql(self, statement):
        """Runs SQL behind the server's back, as somebody with the database in his hands would."""
        return subprocess.run([*self.psql(), "-c", statement], check=True, capture_output=True, text=True).stdout.strip()

    @contextlib.contextmanager
    def locked(self, table):
        """Meanwhile whoever reads the table waits."""
        with subprocess.Popen(self.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(f"begin; lock table {table} in access exclusive mode; select 'locked';\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline().strip(), "locked")
            try:
                yield
            finally:
                process.stdin.write("rollback;\n")
                process.stdin.close()

    def wait_until_blocked(self, count=1):
        """Until so many sessions of servers wait for a lock."""
        wait_for(lambda: int(self.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")) >= count,
                 f"{count} sessions wait for a lock")
