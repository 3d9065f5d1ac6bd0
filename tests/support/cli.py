"""Runs `coffer` as people and programs do: with pipes, and on a terminal."""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from cofferd import BUILD, PATIENCE, ROOT, Dev

COFFER = BUILD / "client" / "cli" / "coffer"
GOLDEN = ROOT / "tests" / "golden" / "cli"
OK, ERROR, USAGE, NOT_FOUND, NOT_LOGGED_IN, DENIED, CONFLICT, UNAVAILABLE, REJECTED, LIMIT, PARTIAL, REAUTH = range(12)

VOLATILE = [
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b\d+ (s|min|h|d) ago( *)"), "AGO"),
    (re.compile(r"tcp://127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"/tmp/coffer-test-[^/\s]+"), "DIR"),
    (re.compile(r"cof_[a-z]+_[0-9A-Za-z]{92}"), "TOKEN"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "VERSION"),
    # Words of the server have their own tests.
    (re.compile(r"^coffer: .+; .+\n((?:  hint: .*\n)*  request: )", re.MULTILINE), r"coffer: MESSAGE; NEXT STEP\n\1"),
]


def normal(text):
    """The text without what differs from run to run."""
    for pattern, word in VOLATILE:
        text = pattern.sub(word, text)
    return text


def environment(dev, token=None, **changes):
    """The variables of a caller of `dev`; None leaves a variable out."""
    variables = {"PATH": os.environ["PATH"], "COFFER_ADDR": dev.ipc, "COFFER_TIMEOUT": f"{PATIENCE}s",
                 "COFFER_TOKEN_FILE": str(dev.directory / f"{token or 'admin'}.token"), **changes}
    for name in ("ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "ASAN_SYMBOLIZER_PATH"):
        if name in os.environ:
            variables[name] = os.environ[name]
    return {name: str(value) for name, value in variables.items() if value is not None}


def run(variables, *arguments, stdin=b"", **options):
    """Runs it with pipes: exit code, output, what it said on standard error."""
    done = subprocess.run([COFFER, *arguments], env=variables, input=stdin, capture_output=True,
                          timeout=2 * PATIENCE, check=False, **options)
    return done.returncode, done.stdout, done.stderr.decode()


class Terminal:
    """`coffer` on a terminal of its own, which holds its session."""

    def __init__(self, variables, *arguments, columns=80):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.master, self.slave, self.shown = master, slave, b""
        self.process = subprocess.Popen([COFFER, *arguments], env={"TERM": "xterm", **variables}, stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True, close_fds=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def _read(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            self.shown += os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        return True

    def expect(self, text):
        """Waits until the text is on the screen."""
        end = time.monotonic() + PATIENCE
        while text.encode() not in self.shown:
            self._read(0.2)
            if time.monotonic() > end or (self.process.poll() is not None and not self._read(0)
                                          and text.encode() not in self.shown):
                raise AssertionError(f"{text!r} is not among {self.shown!r}")
        return self

    def echoes(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def wait_for_echo(self, wanted):
        end = time.monotonic() + PATIENCE
        while self.echoes() != wanted:
            if time.monotonic() > end:
                raise AssertionError(f"echo does not become {wanted}")
            self._read(0.02)
        return self

    def type(self, data):
        data = data.encode() if isinstance(data, str) else data
        while data:
            data = data[os.write(self.master, data[:1024]):]
        return self

    def end(self, progress=False):
        """Waits for its end: exit code (negative for a signal) and everything that was shown, but how far it was while a slow
        server let it wait, which is on the screen for that time only."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._read(0.05)
            if time.monotonic() > end:
                self.process.send_signal(signal.SIGKILL)
                raise AssertionError(f"it does not end; {self.shown!r}")
        while self._read(0):
            pass
        os.close(self.slave)
        os.close(self.master)
        shown = self.shown.replace(b"\r\n", b"\n").decode(errors="replace")
        return self.process.returncode, shown if progress else re.sub(r"\r\x1b\[K([^\r\n]*(?=\r\x1b\[K))?", "", shown)


class CliTest(unittest.TestCase):
    """A server, and `coffer` with the tokens that it made."""

    maxDiff = None
    count = 0

    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()

    def run_cli(self, *arguments, stdin=b"", token=None, **variables):
        return run(environment(self.dev, token, **variables), *arguments, stdin=stdin)

    def succeed(self, *arguments, **options):
        code, out, err = self.run_cli(*arguments, **options)
        self.assertEqual(code, OK, err)
        return out

    def terminal(self, *arguments, columns=80, token=None, **variables):
        return Terminal(environment(self.dev, token, **variables), *arguments, columns=columns)

    def file(self, content):
        CliTest.count += 1
        path = self.dev.directory / f"file{CliTest.count}"
        path.write_bytes(content)
        return path

    def golden(self, name, text):
        path, text = GOLDEN / f"{name}.txt", normal(text)
        if os.environ.get("COFFER_GOLDEN") == "write":
            path.write_text(text)
        self.assertEqual(text, path.read_text(), f"{path} differs; see COFFER_GOLDEN")

    def script(self, name, *commands, **variables):
        """Runs commands one after the other; their output, standard error and exit codes are the golden text."""
        text = ""
        for arguments, stdin in commands:
            code, out, err = self.run_cli(*arguments, stdin=stdin, **variables)
            text += f"$ coffer {' '.join(arguments)}\n{out.decode()}{err}=> {code}\n"
        self.golden(name, text)
