#!/usr/bin/env python3
"""Root and workspace keys are rotated while servers run, and die (T30). TEST_FULL=1 runs the full size; TEST_SEED repeats
the moments of the kills, as far as threads allow."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import context
from cofferd import COFFERD, PATIENCE, references, sanitizer, seed, values, wait_for
from context import RESOLVE, SECRET, SYSTEM, TOKEN, WORKSPACE
from sp_client import uuid7

FULL = bool(os.environ.get("TEST_FULL"))
LOAD_SECONDS = 120 if FULL else 5
SECRETS = 40
READERS, WRITERS = 4, 2
FAULT_EXIT = 86
# Processes that end at a fault point have no threads to look at, and each start takes seconds there.
KILLS = unittest.skipIf(sanitizer() == "thread", "kills are watched by the other builds")
DISABLED = "WORKSPACE_STATE_DISABLED"
# Of a command, each reached by every rotation of a workspace's key.
POINTS = ("rotation.begin.before_commit", "rotation.begin.after_commit", "reseal.row", "reseal.page",
          "rotation.unused.before_commit", "rotation.unused.after_commit")


class KeyTest(context.ServerTest):
    # The first server never destroys a key; what a test wants destroyed is destroyed by one of its own.
    SETTINGS = {"COFFERD_KEYS__OLD_KEY_KEPT": "24h"}

    def cofferd(self, *arguments, **environment):
        settings = {"COFFERD_DATABASE__CONNINFO": self.dev.conninfo,
                    "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                    "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "state"), **environment}
        return subprocess.run([COFFERD, *arguments], env={**os.environ, **settings}, capture_output=True, text=True,
                              timeout=PATIENCE)

    def rotate(self, workspace="dev"):
        run = self.cofferd("key", "rotate-workspace", workspace)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        return run.stdout

    def create(self, name, **fields):
        answer = self.call(SECRET + "CreateSecret", {"environment": "prod", "name": name, "values": values(**fields)})
        self.assertEqual(answer.code, 0, answer)

    def read(self, name, key="K"):
        return self.value(self.resolve("prod", f"{name}.{key}", token=self.dev.executor), name, key)

    def get(self, name):
        return self.call(SECRET + "GetSecret", {"environment": "prod", "name": name}).message["secret"]

    def current(self, workspace=None):
        return int(self.sql("select key_generation from workspace_revision where workspace_id ="
                            f" '{workspace or self.dev.workspace}'"))

    def states(self, workspace=None):
        """{generation: state}"""
        lines = self.sql("select generation, state from workspace_key where workspace_id ="
                         f" '{workspace or self.dev.workspace}'").splitlines()
        return {int(generation): int(state) for generation, state in (line.split("|") for line in lines)}

    def generations(self, workspace=None):
        """All generations that a row of the workspace is sealed or has its MAC under."""
        where = f"where workspace_id = '{workspace or self.dev.workspace}'"
        blob = "('x' || encode(substring({0} from 2 for 4), 'hex'))::bit(32)::int from {1} " + where
        selects = [f"select mac_generation from {table} {where}" for table in (
            "secret", "principal", "token", "action", "provider", "connection", "connection_token", "workspace")]
        selects += ["select " + blob.format(*pair) for pair in (
            ("blob", "secret"), ("blob", "secret_version"), ("narrowing_key", "token"), ("answer", "request"), ("credentials", "connection"),
            ("access_token", "connection_token"), ("refresh_token", "connection_token"))]
        if workspace == SYSTEM:
            selects.append("select mac_generation from workspace_state")
        lines = self.sql(f"select distinct g from ({' union all '.join(selects)}) x(g) where g is not null")
        return {int(line) for line in lines.splitlines()}


class WorkspaceKeys(KeyTest):
    def test_rotation_seals_every_row_anew_and_changes_nothing_else_of_it(self):
        for i in range(70):  # more than a page
            self.create(f"whole-{i}", K=b"value %d" % i, L=b"")
        for i in range(3):
            update = {"environment": "prod", "name": "whole-1", "patch": {"set": values(K=b"later %d" % i)}}
            self.assertEqual(self.call(SECRET + "UpdateSecretValues", update).code, 0)
        self.assertEqual(self.call(context.CONNECTION + "ConfigureConnection", context.CONFIGURED).code, 0)
        connected = self.call(context.CONNECTION + "SetConnectionTokens", {
            "provider": "github", "access_token": b"access", "refresh_token": b"refresh"}).message["connection"]
        request, request_id = {"environment": "prod", "name": "once", "values": values(K=b"v")}, uuid7()
        first = self.call(SECRET + "CreateSecret", request, request_id=request_id)
        narrow = self.call(TOKEN + "GetCaller")
        provider = self.call("coffer.v1.ProviderService/CreateProvider", {"name": "Whole", "definition": context.DEFINITION})
        self.assertEqual(provider.code, 0, provider)
        before = [self.get(f"whole-{i}") for i in range(70)]
        versions = self.call(SECRET + "ListSecretVersions", {"environment": "prod", "name": "whole-1"}).message
        generation = self.current()
        output = self.rotate()
        self.assertRegex(output, rf"generation {generation + 1}  \d+ rows sealed anew\n")
        self.assertEqual(self.generations(), {generation + 1})
        self.assertEqual([self.get(f"whole-{i}") for i in range(70)], before)
        self.assertEqual(self.call(SECRET + "ListSecretVersions", {"environment": "prod", "name": "whole-1"}).message,
                         versions)
        shown = self.call("coffer.v1.ProviderService/GetProvider", {"id": "custom_whole"}).message["provider"]
        self.assertEqual(shown, provider.message["provider"])
        self.assertEqual([self.read(f"whole-{i}") for i in (0, 1, 69)], [b"value 0", b"later 2", b"value 69"])
        rolled = self.call(SECRET + "RollBackSecret", {"environment": "prod", "name": "whole-1", "version": 2})
        self.assertEqual((rolled.code, self.read("whole-1")), (0, b"later 0"))
        again = self.call(SECRET + "CreateSecret", request, request_id=request_id)
        self.assertEqual((again.code, again.message), (0, first.message))
        self.assertEqual(self.call(TOKEN + "GetCaller").message, narrow.message)
        self.assertEqual(self.current(), generation + 1)
        self.assertEqual(self.call(context.CONNECTION + "GetConnection", {
            "provider": "github", "connection_class": "CONNECTION_CLASS_USER"}).message["connection"], connected)

    def test_key_of_the_system_workspace_is_rotated_with_the_states_of_all_workspaces(self):
        made = self.call(WORKSPACE + "CreateWorkspace", {"name": "to-disable"}, token=self.dev.system)
        workspace = made.message["workspace"]["uid"]
        disable = {"workspace": workspace, "disabled": True, "update_mask": {"paths": ["disabled"]}}
        self.assertEqual(self.call(WORKSPACE + "UpdateWorkspace", disable, token=self.dev.system).code, 0)
        self.rotate(SYSTEM)
        self.assertEqual(self.generations(SYSTEM), {self.current(SYSTEM)})
        answer = self.call(WORKSPACE + "GetWorkspace", {"workspace": workspace}, token=self.dev.system)
        self.assertEqual((answer.code, answer.message["workspace"]["state"]), (0, DISABLED))

    def test_server_that_has_not_heard_of_a_new_generation_reads_and_writes_at_once(self):
        self.create("heard", K=b"0")
        server = self.dev.more("unheard")
        with self.dev.connect(server.address) as other:
            for i in range(8):
                request = {"environment": "prod", "name": "heard", "patch": {"set": values(K=b"%d" % i)}}
                item = {"environments": ["prod"], "references": references("heard.K")}
                self.assertEqual(other.call(RESOLVE, {"items": [item]}, token=self.dev.executor).code, 0)
                self.rotate()
                connection = other if i % 2 else self.connection
                answer = connection.call(SECRET + "UpdateSecretValues", request, token=self.dev.admin)
                self.assertEqual((answer.code, answer.reason), (0, ""))
                item["consistency_token"] = answer.message["consistency_token"]
                read = other.call(RESOLVE, {"items": [item]}, token=self.dev.executor)
                self.assertEqual(self.value(read.message["results"][0], "heard", "K"), b"%d" % i)
                self.assertEqual(self.generations(), {self.current()}, "a write was sealed under a key that was replaced")

    def test_damaged_row_is_left_as_it_is_and_not_given_a_new_mac(self):
        self.create("damaged", K=b"v")
        self.create("beside", K=b"v")
        where = f"where workspace_id = '{self.dev.workspace}' and name = 'damaged'"
        self.addCleanup(self.sql, f"delete from secret {where}")
        row = f"select md5(s::text) from secret s {where}"
        self.sql(f"update secret set mac = set_byte(mac, 3, get_byte(mac, 3) # 1) {where}")
        before = self.sql(row)
        self.assertRegex(self.rotate(), r"rows sealed anew, 1 damaged ones left alone\n")
        self.assertEqual(self.sql(row), before)
        self.assertEqual(self.read("beside"), b"v")
        self.assertEqual(self.call(SECRET + "RevealSecret", {"environment": "prod", "name": "damaged"}).reason, "CORRUPTED")

    def test_destroyed_key_opens_nothing_but_the_records_of_writes_still_hold(self):
        self.create("copied", K=b"v")
        generation = self.current()
        self.sql("create table kept_secret as select * from secret where name = 'copied'")
        self.rotate()
        server = self.dev.more("destroyer", COFFERD_KEYS__OLD_KEY_KEPT="1s")
        wait_for(lambda: self.states()[self.current()] == 1 and
                 {s for g, s in self.states().items() if g != self.current()} <= {4}, "the old keys are destroyed")
        self.assertEqual(self.states().get(generation, 4), 4)
        self.assertEqual(self.read("copied"), b"v")
        # The row as it was, in the hands of a server that opens keys now: the bytes are noise to it.
        late = self.dev.more("late", COFFERD_CACHE__SIZE="0")
        self.sql("create table kept_new as select * from secret where name = 'copied';"
                 " update secret s set mac_generation = k.mac_generation, mac = k.mac, blob = k.blob from kept_secret k"
                 " where s.secret_id = k.secret_id")
        with self.dev.connect(late.address) as connection:
            answer = connection.call(SECRET + "RevealSecret", {"environment": "prod", "name": "copied"},
                                     token=self.dev.admin)
            self.assertEqual((answer.code, answer.reason), (15, "CORRUPTED"))
        self.sql("update secret s set mac_generation = k.mac_generation, mac = k.mac, blob = k.blob from kept_new k"
                 " where s.secret_id = k.secret_id; drop table kept_secret; drop table kept_new")
        self.check_records()
        for one in (server, late):
            self.dev.extra.remove(one)
            self.assertEqual(one.stop(), 0)

    def check_records(self):
        wait_for(lambda: self.sql("select count(*) from workspace_revision r where revision > coalesce((select"
                                  " max(revision) from write_chain l where l.workspace_id = r.workspace_id), 1)") == "0",
                 "all writes are chained")
        run = self.cofferd("audit", "verify", "--writes")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("The records of writes hold.", run.stdout)

    # --- Killed

    @KILLS
    def test_rotation_that_is_killed_at_any_point_is_finished_by_the_servers(self):
        for i in range(40):
            self.create(f"killed-{i}", K=b"%d" % i)
        for point in POINTS:
            run = self.cofferd("key", "rotate-workspace", "dev", COFFER_FAULT=f"{point}:exit")
            self.assertEqual(run.returncode, FAULT_EXIT, (point, run.stderr))
            self.assertEqual([self.read(f"killed-{i}") for i in (0, 20, 39)], [b"0", b"20", b"39"], point)
            wait_for(lambda: 2 not in self.states().values() and self.generations() == {self.current()},
                     f"the rotation goes on after {point}")
        for point in ("rotation.destroy.before_commit", "rotation.destroy.after_commit"):
            self.rotate()
            generation = self.current() - 1
            settings = {"COFFERD_DATABASE__CONNINFO": self.dev.conninfo, "COFFER_FAULT": f"{point}:exit",
                        "COFFERD_KEYS__ROOT_KEY_FILE": str(self.dev.directory / "root.key"),
                        "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.dev.directory}/killed.sock",
                        "COFFERD_SERVER__STATE_DIR": str(self.dev.directory / "killed.state"),
                        "COFFERD_KEYS__OLD_KEY_KEPT": "1s"}
            run = subprocess.run([COFFERD, "serve"], env={**os.environ, **settings}, capture_output=True, timeout=PATIENCE)
            self.assertEqual(run.returncode, FAULT_EXIT, (point, run.stderr[-2000:]))
            # What was sent may be committed all the same.
            self.assertIn(self.states().get(generation, 4), (3, 4), point)
            self.assertEqual(self.read("killed-7"), b"7", point)
        self.check_records()

    def test_keys_rotated_again_and_again_under_load_with_kills_fail_no_read_and_leave_no_unreadable_row(self):
        Load(self, random.Random(seed())).run()
        self.check_records()


class Load:
    """T30: readers and writers on two servers that live, a third that is killed again and again, and commands that rotate
    the workspace's key and are killed at their fault points."""

    def __init__(self, test, chance):
        self.test, self.chance = test, chance
        self.end = 0
        self.reads = self.writes = self.kills = self.rotations = 0
        self.failed = []
        self.lock = threading.Lock()
        self.written = {}
        self.killed = None

    def count(self, what, failed=None):
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)
            if failed is not None:
                self.failed.append(failed)

    def going(self):
        return time.monotonic() < self.end

    def read(self, address):
        with self.test.dev.connect(address) as connection:
            i = 0
            while self.going():
                i += 1
                name = f"load-{i % SECRETS}"
                request = {"items": [{"environments": ["prod"], "references": references(f"{name}.K")}]}
                answer = connection.call(RESOLVE, request, token=self.test.dev.executor)
                result = answer.message["results"][0] if answer.code == 0 else {"status": {"code": answer.code}}
                good = result["status"]["code"] == 0 and self.test.value(result, name, "K").startswith(b"%d:" % (i % SECRETS))
                self.count("reads", None if good else (answer, result))

    def write(self, address, first):
        with self.test.dev.connect(address) as connection:
            i = first
            while self.going():
                i = (i + WRITERS) % SECRETS
                value = b"%d:%d" % (i, self.written.get(i, 0) + 1)
                request = {"environment": "prod", "name": f"load-{i}", "patch": {"set": values(K=value)}}
                answer = connection.call(SECRET + "UpdateSecretValues", request, token=self.test.dev.admin)
                self.count("writes", None if answer.code == 0 else answer)
                self.written[i] = self.written.get(i, 0) + 1

    def kill(self):
        """Kills the third server, most of the time while it destroys keys or seals rows."""
        dev = self.test.dev
        while self.going():
            time.sleep(self.chance.uniform(0.2, 1.2))
            self.killed.process.send_signal(signal.SIGKILL)
            dev.extra.remove(self.killed)
            self.killed.stop()
            self.killed = dev.more("killed-again", **self.settings())
            self.kills += 1

    def settings(self):
        return {"COFFERD_KEYS__OLD_KEY_KEPT": "3s"}

    def rotation(self):
        fault = f"{self.chance.choice(POINTS)}:exit:{self.chance.choice(('0.02', '0.3'))}"
        return self.test.cofferd("key", "rotate-workspace", "dev", COFFER_FAULT=fault)

    def rotate(self):
        while self.going():
            run = self.rotation()
            if run.returncode not in (0, FAULT_EXIT):
                self.failed.append(run)
            self.rotations += 1

    def check(self, generation):
        test = self.test
        wait_for(lambda: 2 not in test.states().values(), "every rotation is finished")
        states = list(test.states().values())
        print(f"{test.current() - generation} generations, {states.count(4)} destroyed", flush=True)
        test.assertGreater(test.current(), generation)
        test.assertEqual(test.generations(), {test.current()}, "rows are left under an old key")

    def run(self):
        test, dev = self.test, self.test.dev
        for i in range(SECRETS):
            test.create(f"load-{i}", K=b"%d:0" % i)
        other = dev.more("load", **self.settings())
        self.killed = dev.more("killed-again", **self.settings())
        generation = test.current()
        self.end = time.monotonic() + LOAD_SECONDS
        addresses = (dev.ipc, other.address)
        threads = [threading.Thread(target=self.read, args=(addresses[i % 2],)) for i in range(READERS)]
        threads += [threading.Thread(target=self.write, args=(addresses[i % 2], i)) for i in range(WRITERS)]
        threads += [threading.Thread(target=self.kill), threading.Thread(target=self.rotate)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"{self.reads} reads, {self.writes} writes, {self.kills} kills of a server, {self.rotations} rotations,"
              f" {len(self.failed)} failures", flush=True)
        test.assertEqual(self.failed[:3], [])
        self.check(generation)
        for i in range(SECRETS):
            test.assertEqual(test.read(f"load-{i}"), b"%d:%d" % (i, self.written.get(i, 0)))
            self.versions(f"load-{i}")
        dev.extra.remove(other)
        test.assertEqual(other.stop(), 0)

    def versions(self, name):
        """Every version that is kept can still be read."""
        at = {"environment": "prod", "name": name}
        for version in self.test.call(SECRET + "ListSecretVersions", at).message["versions"][:5]:
            answer = self.test.call(SECRET + "RevealSecret", {**at, "version": version["version"]})
            self.test.assertEqual((answer.code, answer.reason), (0, ""), (name, version))


class RootLoad(Load):
    """The same while the root key is replaced by the other one and back, by commands that are killed; and the second of those
    that write makes workspaces instead, whose keys must not stay behind under the key that is replaced."""

    workspaces = 0

    def settings(self):
        return self.test.with_keys(self.test.old, self.test.new)

    def rotation(self):
        keys = [self.test.new, self.test.old][::self.chance.choice((1, -1))]
        fault = f"{self.chance.choice(('root.key', 'root.page'))}:exit:{self.chance.choice(('0.02', '0.3'))}"
        return self.test.cofferd("key", "rotate-root", **self.test.with_keys(*keys, COFFER_FAULT=fault))

    def write(self, address, first):
        if first == 0:
            super().write(address, first)
            return
        with self.test.dev.connect(address) as connection:
            while self.going():
                self.workspaces += 1
                answer = connection.call(WORKSPACE + "CreateWorkspace", {"name": f"under-load-{self.workspaces}"},
                                         token=self.test.dev.system)
                self.count("writes", None if answer.code == 0 else answer)

    def check(self, generation):
        """All is under the first one in the end, and whoever has only that opens everything."""
        test = self.test
        run = test.cofferd("key", "rotate-root", **test.with_keys(test.old, test.new))
        test.assertEqual(run.returncode, 0, run.stderr)
        print(f"{self.workspaces} workspaces; {run.stdout}", end="", flush=True)
        run = test.cofferd("verify", **test.with_keys(test.old))
        test.assertEqual(run.returncode, 0, run.stdout[-2000:] + run.stderr[-2000:])


class RootKeys(KeyTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-keys-", dir="/tmp"))
        cls.new = cls.key("new.key", "ab" * 32)
        cls.SETTINGS = {**KeyTest.SETTINGS, "COFFERD_KEYS__OTHER_ROOT_KEYS": str(cls.new)}
        super().setUpClass()
        cls.old = str(cls.dev.directory / "root.key")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def key(cls, name, text, mode=0o600):
        path = cls.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def with_keys(self, first, *others, **environment):
        return {"COFFERD_KEYS__ROOT_KEY_FILE": first, "COFFERD_KEYS__OTHER_ROOT_KEYS": ",".join(others), **environment}

    def status(self, *keys, **environment):
        return self.cofferd("key", "status", **self.with_keys(*keys, **environment))

    def refused(self, run, *texts):
        self.assertEqual(run.returncode, 2, run.stdout + run.stderr)
        for text in texts:
            self.assertIn(text, run.stderr)
        self.assertNotIn("ab" * 32, run.stderr)

    def test_root_key_comes_from_a_file_a_credential_or_the_environment(self):
        text = pathlib.Path(self.old).read_text().strip()
        (self.folder / "credentials").mkdir()
        credential = self.key("credentials/root", text, 0o440)
        self.assertEqual(self.status("credential:root", CREDENTIALS_DIRECTORY=str(self.folder / "credentials")).returncode, 0)
        self.assertEqual(self.status("env:MY_ROOT_KEY", MY_ROOT_KEY=text).returncode, 0)
        self.refused(self.status("credential:root", CREDENTIALS_DIRECTORY=""), "LoadCredential=root:")
        self.refused(self.status("credential:../x", CREDENTIALS_DIRECTORY=str(self.folder)), "names no credential")
        self.refused(self.status("env:MY_ROOT_KEY"), "there is no variable MY_ROOT_KEY")
        self.refused(self.status("env:MY_ROOT_KEY", MY_ROOT_KEY=text[:-1]), "something else than a root key")
        os.chmod(credential, 0o444)
        self.refused(self.status("credential:root", CREDENTIALS_DIRECTORY=str(self.folder / "credentials")), "chmod 600")

    def test_root_key_that_is_wrong_there_twice_or_readable_by_others_is_refused_with_what_to_do(self):
        self.refused(self.status(self.old, self.key("same.key", pathlib.Path(self.old).read_text())),
                     "root keys number 1 and 2 are the same key")
        self.refused(self.status(self.old, self.key("open.key", "cd" * 32, 0o640)), "chmod 600", "keys.other_root_keys, number 1")
        self.refused(self.status(self.key("foreign.key", "ef" * 32)), "the root key does not belong to this database")
        many = [self.key(f"many-{i}.key", f"{i:02x}" * 32) for i in range(8)]
        self.refused(self.status(self.old, *many), "keys.other_root_keys: 8 are too many")
        run = self.status(self.old, self.key("idle.key", "cd" * 32))
        self.assertEqual(run.returncode, 0)
        self.assertRegex(run.stdout, r"(?m)^[0-9a-f]{16}\s+0  nothing is under it$")

    @KILLS
    def test_root_key_replaced_again_and_again_under_load_with_kills_fails_no_call(self):
        RootLoad(self, random.Random(seed())).run()

    def test_root_key_of_the_environment_is_not_there_any_more_once_it_is_read(self):
        text = pathlib.Path(self.old).read_text().strip()
        server = self.dev.more("from-environment", COFFERD_KEYS__ROOT_KEY_FILE="env:MY_ROOT_KEY", MY_ROOT_KEY=text,
                               MARK="a mark")
        environment = pathlib.Path(f"/proc/{server.process.pid}/environ").read_bytes()
        self.assertTrue(b"MARK=a mark" in environment, "the environment cannot be read")
        self.assertFalse(text.encode() in environment, "the root key is in the environment")

    @KILLS
    def test_the_root_key_is_replaced_while_servers_run_whenever_it_is_killed(self):
        self.create("rooted", K=b"v")
        for i in range(5):
            made = self.call(WORKSPACE + "CreateWorkspace", {"name": f"rooted-{i}"}, token=self.dev.system)
            self.assertEqual(made.code, 0)
        self.rotate_under_both()
        both = self.with_keys(self.new, self.old)
        self.sql("create table under_old as select * from workspace_key")
        put_back = ("update workspace_key k set wrapped = b.wrapped from under_old b"
                    " where (b.workspace_id, b.generation) = (k.workspace_id, k.generation)")
        for point in ("root.key", "root.page", "root.key"):
            # The database may have done more than the command lived to hear of.
            self.sql(put_back)
            run = self.cofferd("key", "rotate-root", **both, COFFER_FAULT=f"{point}:exit")
            self.assertEqual(run.returncode, FAULT_EXIT, run.stderr)
            self.assertEqual(self.read("rooted"), b"v")
        self.sql(f"{put_back} and k.workspace_id = '{self.dev.workspace}'")
        self.sql("drop table under_old")
        # Not all are under the new one: neither alone will do. The first check is the instance's, then come the keys.
        old_id, new_id = self.ids()
        self.refused(self.status(self.old), "the root key does not belong to this database")
        self.put_one_back(old_id)
        self.refused(self.status(self.new), f"1 keys in the database are wrapped by root key {old_id}", "cofferd key rotate-root")
        run = self.cofferd("key", "rotate-root", **both)
        self.assertRegex(run.stdout, r"^1 keys wrapped anew, (\d+) of \1 are under the root key of keys.root_key_file.\n$")
        self.assertRegex(self.status(self.new, self.old).stdout, rf"(?m)^{new_id} +\d+  wraps new keys\n{old_id} +0  nothing")
        self.after_it(both)

    def rotate_under_both(self):
        """A destroyed and an unused key are wrapped, too."""
        run = self.cofferd("key", "rotate-workspace", "--all", **self.with_keys(self.old, self.new))
        self.assertEqual(run.returncode, 0, run.stderr)
        server = self.dev.more("root-destroyer", **self.with_keys(self.old, self.new), COFFERD_KEYS__OLD_KEY_KEPT="1s")
        wait_for(lambda: set(self.states().values()) == {1, 4}, "the old key is destroyed")
        self.dev.extra.remove(server)
        self.assertEqual(server.stop(), 0)

    def ids(self):
        lines = self.status(self.new, self.old).stdout.splitlines()[1:3]
        return [line.split()[0] for line in reversed(lines)]

    def put_one_back(self, old_id):
        """One key as it would be if the last command had been killed before it."""
        run = self.cofferd("key", "rotate-root", **self.with_keys(self.old, self.new))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.sql("create table before as select * from workspace_key")
        run = self.cofferd("key", "rotate-root", **self.with_keys(self.new, self.old))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.sql(f"update workspace_key k set wrapped = b.wrapped from before b where k.workspace_id = '{self.dev.workspace}'"
                 " and k.state = 1 and (b.workspace_id, b.generation) = (k.workspace_id, k.generation)")
        self.assertEqual(self.sql(f"select count(*) from workspace_key where encode(wrapped, 'hex') like '01{old_id}%'"), "1")
        self.sql("drop table before")

    def after_it(self, both):
        """Servers with the new key alone start; those that ran through it make workspaces under it."""
        for name, keys in (("new-only", self.with_keys(self.new)), ("new-and-old", both)):
            server = self.dev.more(name, **keys)
            with self.dev.connect(server.address) as connection:
                ask = {"items": [{"environments": ["prod"], "references": references("rooted.K")}]}
                answer = connection.call(RESOLVE, ask, token=self.dev.executor)
                self.assertEqual(self.value(answer.message["results"][0], "rooted", "K"), b"v")
        made = self.call(WORKSPACE + "CreateWorkspace", {"name": "after-it"}, token=self.dev.system)
        self.assertEqual(made.code, 0)
        self.assertEqual(self.status(self.new).returncode, 0)
        run = self.cofferd("audit", "verify", "--writes", **both)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
