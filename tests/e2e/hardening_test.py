#!/usr/bin/env python3
"""What other processes of the same user can learn of cofferd and of coffer: nothing; and neither writes a core.

Run by root, the processes are those of another user, for root may look at everything.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import COFFERD, PATIENCE, sanitizer, wait_for  # noqa: E402

NOBODY = 65534
# Says what this process can do to the process in its argument.
LOOK = """
import ctypes, os, sys
pid = int(sys.argv[1])
def tell(name, action):
    try:
        action()
        print(name)
    except OSError:
        pass
def attach():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0x40000000)
    libc.ptrace(17, pid, None, None)
tell("environ", lambda: open(f"/proc/{pid}/environ", "rb").read())
tell("mem", lambda: open(f"/proc/{pid}/mem", "rb").close())
tell("maps", lambda: open(f"/proc/{pid}/maps", "rb").read())
tell("attach", attach)
"""


def as_user(*command):
    """The command as a user without rights."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", *command]


class Hardening(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-test-", dir="/tmp"))
        cls.folder.chmod(0o755)
        cls.data = cls.folder / "data"
        cls.data.mkdir()
        if os.geteuid() == 0:
            os.chown(cls.data, NOBODY, NOBODY)
        for program in (COFFERD, cli.COFFER):  # where that user can surely read them
            shutil.copy(program, cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def environment(self, **variables):
        """With that user's own home."""
        kept = {name: value for name, value in os.environ.items() if name != "XDG_CONFIG_HOME"}
        return {**kept, "HOME": str(self.data), **variables}

    def start(self, *command, stdin=None, stdout=None, stderr=None, **variables):
        return subprocess.Popen(as_user(*command), cwd=self.data, stdin=stdin, stdout=stdout, stderr=stderr,
                                env=self.environment(**{"COFFERD_MEMORY__LOCK": "best_effort", **variables}))

    def server(self, *before):
        (self.data / "ready").unlink(missing_ok=True)  # of one that could not remove it
        with open(self.data / "log", "wb") as log:
            process = self.start(*before, self.folder / "cofferd", "serve", "--dev", "--dev-dir", self.data, "--dev-tcp",
                                 "tcp://127.0.0.1:0", stdout=log, stderr=log)
        self.addCleanup(self.end_server, process)
        wait_for(lambda: (self.data / "ready").exists() or process.poll() is not None, "cofferd is not ready")
        self.assertIsNone(process.poll(), (self.data / "log").read_text())
        return process

    def end_server(self, process):
        """Also its PostgreSQL, where it could not end that itself."""
        pid_file = self.data / "postgresql" / "postmaster.pid"
        try:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            if pid_file.exists():
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)
        except ProcessLookupError:
            pass
        wait_for(lambda: not pid_file.exists(), "PostgreSQL does not end")

    def command(self):
        """coffer with half a value read, which is when it has something to hide."""
        process = self.start(self.folder / "coffer", "set", "a.B=-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        process.stdin.write(b"half of a value")
        process.stdin.flush()
        self.addCleanup(process.communicate)
        limits = pathlib.Path(f"/proc/{process.pid}/limits")
        wait_for(lambda: self.core_limit(limits.read_text()) == ("0", "0"), "coffer sets no limit")
        return process

    @staticmethod
    def core_limit(limits):
        return re.search(r"Max core file size +(\S+) +(\S+)", limits).groups()

    def can(self, pid):
        done = subprocess.run(as_user(sys.executable, "-c", LOOK, str(pid)), capture_output=True, text=True,
                              check=True, timeout=PATIENCE)
        return set(done.stdout.split())

    def test_process_of_the_same_user_sees_nothing_of_the_server(self):
        process = self.server()
        self.assertEqual(self.core_limit(pathlib.Path(f"/proc/{process.pid}/limits").read_text()), ("0", "0"))
        self.assertEqual(self.can(process.pid), set())

    @unittest.skipIf(sanitizer(), "sanitizers have much memory of their own")
    def test_server_that_has_only_started_takes_little_memory(self):
        status = pathlib.Path(f"/proc/{self.server().pid}/status").read_text()
        self.assertLess(int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]), 40 << 10)

    @unittest.skipIf(sanitizer(), "sanitizers look functions up themselves, and nothing is scrubbed there")
    def test_no_function_is_looked_up_while_the_server_serves(self):
        """Each time the loader would leave what was copied last, a token or a value, on the thread's stack."""
        process = self.server("env", "LD_DEBUG=bindings", f"LD_DEBUG_OUTPUT={self.data}/bindings")
        bindings = self.data / f"bindings.{process.pid}"
        before = bindings.read_text()
        self.assertTrue("nng_" in before, "the loader has not told what it looked up")
        at = {"COFFER_ADDR": f"ipc://{self.data}/coffer.sock", "COFFER_TOKEN_FILE": str(self.data / "admin.token")}
        for arguments, code in (["set", "a.B=-"], 0), (["get", "a.B"], 0), (["get", "a.C"], 3), (["whoami"], 0):
            done = subprocess.run(as_user(self.folder / "coffer", *arguments), cwd=self.data, input=b"value",
                                  env=self.environment(**at), capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, code, done.stderr)
        after = bindings.read_text()[len(before):].splitlines()
        self.assertEqual((len(after), after[:3]), (0, []))

    def test_process_of_the_same_user_sees_nothing_of_the_command_line(self):
        self.assertEqual(self.can(self.command().pid), set())

    def test_process_that_hides_nothing_can_be_seen(self):
        """Or the two above would show nothing."""
        process = self.start("sleep", "1000")
        try:
            wait_for(lambda: pathlib.Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it does not start")
            self.assertIn("environ", self.can(process.pid))
        finally:
            process.kill()
            process.wait()

    def serve_with_locked(self, kibibytes, lock):
        """What `serve` says and ends with where it may lock so much memory; it is ended once it is ready."""
        (self.data / "ready").unlink(missing_ok=True)
        with open(self.data / "log", "wb") as log:
            process = self.start("prlimit", f"--memlock={kibibytes << 10}", self.folder / "cofferd", "serve", "--dev",
                                 "--dev-dir", self.data, "--dev-tcp", "tcp://127.0.0.1:0", stdout=log, stderr=log,
                                 COFFERD_MEMORY__LOCK=lock)
        self.addCleanup(self.end_server, process)
        wait_for(lambda: (self.data / "ready").exists() or process.poll() is not None, "cofferd neither serves nor ends")
        return process.poll(), (self.data / "log").read_text()

    def test_memory_that_must_be_locked_and_may_not_be_ends_the_start(self):
        code, said = self.serve_with_locked(64, "required")
        self.assertEqual(code, 2, said)
        self.assertIn("LimitMEMLOCK", said)

    def test_memory_that_need_not_be_locked_does_not_keep_the_server_from_starting(self):
        code, said = self.serve_with_locked(64, "best_effort")
        self.assertIsNone(code, said)

    def test_commands_that_open_values_lock_their_memory_or_end_as_the_server_does(self):
        self.server()
        settings = {"COFFERD_DATABASE__CONNINFO": f"host={self.data}/run user=coffer dbname=postgres",
                    "COFFERD_KEYS__ROOT_KEY_FILE": str(self.data / "root.key"), "COFFERD_MEMORY__SECURE_HEAP": "1MiB"}
        for lock, code in ("best_effort", 0), ("required", 2):  # the secure heap may be locked, what is beside it not
            done = subprocess.run(as_user("prlimit", f"--memlock={4 << 20}", self.folder / "cofferd", "verify"), cwd=self.data,
                                  env=self.environment(**settings, COFFERD_MEMORY__LOCK=lock), capture_output=True, text=True,
                                  timeout=2 * PATIENCE)
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn("LimitMEMLOCK", done.stderr)

    def assert_no_core(self, process):
        before = set(self.data.iterdir())
        process.send_signal(signal.SIGSEGV)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = status
        self.assertFalse(os.WCOREDUMP(status))
        self.assertEqual([path for path in set(self.data.iterdir()) - before if "core" in path.name], [])

    def test_crash_leaves_no_core(self):
        self.assert_no_core(self.command())
        self.assert_no_core(self.server())


if __name__ == "__main__":
    unittest.main()
