"""What the tests of this folder share: one server for each test program."""

import contextlib
import pathlib
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

from cofferd import NO_CACHE, STALENESS, Dev, references, values, wait_for  # noqa: E402

RESOLVE = "coffer.v1.ResolveService/Resolve"
ACCOUNT = "coffer.v1.ServiceAccountService/"
TOKEN = "coffer.v1.TokenService/"
WORKSPACE = "coffer.v1.WorkspaceService/"
SECRET = "coffer.v1.SecretService/"
ENVIRONMENT = "coffer.v1.EnvironmentService/"
CONNECTION = "coffer.v1.ConnectionService/"
SYSTEM = "00000000-0000-0000-0000-000000000000"


# A USER connection that needs no browser.
CONFIGURED = {"provider": "github", "grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "client",
              "credential": {"client_secret": b"the client secret"}}
# A provider of the least that one needs.
DEFINITION = {"token_endpoint": "https://acme.example/token", "authorization_endpoint": "https://acme.example/authorize",
              "user": {"scopes": ["read"]}, "service": {}}


def connection_row(workspace, provider):
    """SQL that puts a connection of a provider into a workspace, which no server would believe."""
    return (f"insert into connection values ('{workspace}', gen_random_uuid(), '', '{provider}', 0, 1, 3, 1, 'client', '{{}}',"
            f" '', '', 1, 1, 1, now(), now(), 1, '')")


class ServerTest(unittest.TestCase):
    """Calls are made as the workspace's administrator over IPC unless they say otherwise."""

    SETTINGS = {}  # of the server, as its environment

    @classmethod
    def setUpClass(cls):
        cls.dev = Dev(**cls.SETTINGS)
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
        return self.dev.psql()

    def sql(self, statement):
        return self.dev.sql(statement)

    @contextlib.contextmanager
    def locked(self, table, mode="access exclusive"):
        """Meanwhile whoever reads the table waits, or with the mode "share" whoever writes to it."""
        with subprocess.Popen(self.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(f"begin; lock table {table} in {mode} mode; select 'locked';\n")
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


class AccessTest(ServerTest):
    """Makes accounts, tokens and workspaces."""

    count = 0

    def account(self, rules, token=None, workspace="", kind=0, name=None, **fields):
        AccessTest.count += 1
        name = name or f"account{AccessTest.count}"
        answer = self.call(ACCOUNT + "CreateServiceAccount",
                           {"workspace": workspace, "name": name, "kind": kind, "grants": rules, **fields}, token=token)
        return name, answer

    def issue(self, account, token=None, workspace="", **fields):
        return self.call(TOKEN + "IssueToken", {"workspace": workspace, "service_account": account, **fields},
                         token=token)

    def token_for(self, rules, restrictions=(), **options):
        name, answer = self.account(rules, **options)
        self.assertEqual(answer.code, 0, answer)
        answer = self.issue(name, token=options.get("token"), workspace=options.get("workspace", ""),
                            restrictions=restrictions)
        self.assertEqual(answer.code, 0, answer)
        return answer.message["secret_text"]

    def update_account(self, name, token=None, workspace="", **changes):
        """Changes the fields given, None: to nothing; `guards` are the request's etag and expected_uid."""
        guards = changes.pop("guards", {})
        given = {field: value for field, value in changes.items() if value is not None}
        return self.call(ACCOUNT + "UpdateServiceAccount", {
            "workspace": workspace, "name": name, "update_mask": {"paths": list(changes)}, **given, **guards}, token=token)

    def delete_account(self, name, token=None, workspace="", **guards):
        return self.call(ACCOUNT + "DeleteServiceAccount", {"workspace": workspace, "name": name, **guards}, token=token)

    @staticmethod
    def wait_for_others():
        """What other servers may still know of the state before the last write is forgotten now."""
        time.sleep(STALENESS)

    def works(self, token, connection=None):
        """OK, or the reason why the token does not."""
        return (connection or self.connection).call(TOKEN + "GetCaller", token=token).reason or "OK"

    def fleet(self, rules, **options):
        """A token of a new fleet account."""
        return self.token_for(rules, token=self.dev.system, workspace=SYSTEM, kind="TOKEN_KIND_FLEET", **options)

    def new_workspace(self, name):
        """A second tenant with an administrator of its own."""
        answer = self.call(WORKSPACE + "CreateWorkspace", {"name": name}, token=self.dev.system)
        workspace = answer.message["workspace"]["uid"]
        rights = ["resolve", "secret:read", "secret:write", "account:write", "token:write", "workspace:read",
                  "environment:read", "environment:write", "account:read", "token:read", "integration:write", "connection:write",
                  "connection:manage_all"]
        return workspace, self.token_for([{"permissions": rights}], token=self.dev.system, workspace=workspace)

    def create(self, name, environment="", token=None, workspace="", **pairs):
        answer = self.call(SECRET + "CreateSecret", {
            "workspace": workspace, "name": name, "environment": environment, "values": values(**pairs)}, token=token)
        self.assertEqual(answer.code, 0, answer)
        return answer
