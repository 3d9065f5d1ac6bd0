"""Real servers for the integration tests: cofferd processes over a PostgreSQL of their own."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "conformance"))

import sp_client  # noqa: E402

BUILD = pathlib.Path(os.environ.get("COFFER_BUILD", ROOT / "build" / "debug"))
COFFERD = BUILD / "server" / "cofferd"
PATIENCE = 90  # seconds; sanitizer builds are slow
# For tests that change rows behind the server's back and look at what the next call makes of them: no write raises a
# revision there, so what a server keeps stays true for it. Every call reads the database then.
NO_CACHE = {"COFFERD_CACHE__SIZE": "0"}
STALENESS = 1.0  # seconds, after which every server knows of a write that was answered


def sanitizer():
    """That of the build: "address,undefined", "thread" or ""."""
    for line in (BUILD / "CMakeCache.txt").read_text().splitlines():
        if line.startswith("COFFER_SANITIZE:"):
            return line.split("=", 1)[1]
    return ""


def wait_for(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)
    return found


class Server:
    """A cofferd process. Its log is in `log`."""

    def __init__(self, arguments, environment, log, ready, program=COFFERD):
        self.log = log
        self.output = open(log, "ab")
        self.process = subprocess.Popen([program, *arguments], stdout=self.output, stderr=self.output,
                                        env={**os.environ, **environment})
        self.ready = ready

    def wait(self):
        def condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"cofferd ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            return self.ready()
        wait_for(condition, f"cofferd is not ready:\n{self.log.read_text()[-4000:]}")
        return self

    def port(self, address="ws://127.0.0.1"):
        """Of one that it listens at, which it may say after it is ready at another one."""
        found = wait_for(lambda: re.search(rf'"address":"{re.escape(address)}:(\d+)', self.log.read_text()),
                         f"the server does not listen at {address}")
        return int(found[1])

    def metrics(self):
        """{series: value}, of a server that listens at ws://, too."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}/metrics", timeout=PATIENCE) as answer:
            rows = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {series: float(value) for series, value in rows}

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.output.close()
        return self.process.returncode


def copy_template(directory):
    """Fills a directory with a development directory that has been served once, made once for each build of cofferd: what
    every test but those of the first start begin with. Its PostgreSQL does not wait for the disk, since no test outlives
    the kernel, and has sessions for more servers than one."""
    built = COFFERD.stat()
    path = BUILD / "tests" / "dev" / f"{built.st_mtime_ns}-{built.st_size}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not path.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            make_template(path)
        subprocess.run(["cp", "-a", f"{path}/.", directory], check=True)


def make_template(path):
    if path.exists():
        return
    for old in path.parent.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    dev = Dev(fresh=True)
    dev.server.stop()
    with open(dev.directory / "postgresql" / "postgresql.auto.conf", "a") as settings:
        settings.write("fsync = off\nmax_connections = 300\n")
    for name in ("log", "ready"):
        (dev.directory / name).unlink(missing_ok=True)
    subprocess.run(["cp", "-a", dev.directory, f"{path}.new"], check=True)
    os.rename(f"{path}.new", path)
    shutil.rmtree(dev.directory)


class Dev:
    """`cofferd serve --dev` in a directory of its own, with the tokens that it makes. A fresh one starts for the first
    time and waits for the disk."""

    def __init__(self, fresh=False, **environment):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="coffer-test-", dir="/tmp"))
        if not fresh:
            copy_template(self.directory)
        self.environment = environment
        self.extra = []
        self.server = None
        self.start()

    def start(self):
        self.server = Server(["serve", "--dev", "--dev-dir", self.directory, "--dev-tcp", "tcp://127.0.0.1:0"],
                             self.environment, self.directory / "log", (self.directory / "ready").exists)
        self.server.wait()
        lines = (self.directory / "env").read_text().splitlines()
        values = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        self.tcp = values["COFFER_ADDR"].strip("'")
        self.workspace = values["COFFER_WORKSPACE"].strip("'")
        self.ipc = f"ipc://{self.directory}/coffer.sock"
        self.admin, self.executor, self.system = (
            (self.directory / f"{name}.token").read_bytes().strip() for name in ("admin", "executor", "system"))

    @property
    def conninfo(self):
        return f"host={self.directory}/run user=coffer dbname=postgres"

    def psql(self):
        """The command that runs SQL behind the server's back, as somebody with the database in his hands would."""
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        return [psql, "-X", "-q", "-A", "-t", "-d", self.conninfo]

    def sql(self, statement):
        return subprocess.run([*self.psql(), "-c", statement], check=True, capture_output=True, text=True).stdout.strip()

    def more(self, name, program=COFFERD, **environment):
        """One more server on the same database, on a socket of its own, with the first one's cache."""
        path = self.directory / f"{name}.sock"
        settings = {
            "COFFERD_DATABASE__CONNINFO": self.conninfo,
            "COFFERD_KEYS__ROOT_KEY_FILE": str(self.directory / "root.key"),
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{path}",
            "COFFERD_SERVER__STATE_DIR": str(self.directory / f"{name}.state"),
            **{key: value for key, value in self.environment.items() if key.startswith("COFFERD_CACHE__")},
            **environment,
        }
        server = Server(["serve"], settings, self.directory / f"{name}.log", lambda: answers(f"ipc://{path}"),
                        program)
        server.address = f"ipc://{path}"
        self.extra.append(server)
        return server.wait()

    def connect(self, address=None):
        return sp_client.Connection(address or self.ipc)

    def close(self):
        for server in [*self.extra, self.server]:
            code = server.stop()
            if code != 0:  # also what a sanitizer found
                raise RuntimeError(f"cofferd ended with {code}:\n{server.log.read_text()[-8000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)


class Relay:
    """A way to the development server's PostgreSQL that can be cut: a socket in a directory of its own."""

    def __init__(self, dev_directory):
        self.target = f"{dev_directory}/run/.s.PGSQL.5432"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="coffer-relay-", dir="/tmp"))
        self.path = self.directory / ".s.PGSQL.5432"
        self.lock = threading.Lock()
        self.listener, self.ends = None, []
        self.restore()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
        shutil.rmtree(self.directory, ignore_errors=True)

    def restore(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        """Ends all connections and takes no new ones."""
        self.path.unlink(missing_ok=True)
        with self.lock:  # whatever is accepted at this moment finds that the listener is another one
            ends = [self.listener, *self.ends] if self.listener else self.ends
            self.listener, self.ends = None, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                far.connect(self.target)
                with self.lock:
                    if listener is not self.listener:
                        near.close()
                        far.close()
                        return
                    self.ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

def answers(address):
    try:
        with sp_client.Connection(address, timeout=5) as connection:
            return connection.call("grpc.health.v1.Health/Check", {"service": "readiness"}).message["status"] == "SERVING"
    except OSError:
        return False


def values(**pairs):
    """Keys and values as messages."""
    return [{"key": key, "value": value} for key, value in pairs.items()]


def references(*names):
    """"secret.KEY" texts as messages."""
    return [dict(zip(("name", "key"), name.split(".", 1))) for name in names]


def seed():
    """The seed of this run: from the environment's TEST_SEED, else random; printed, so that a run can be repeated."""
    number = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(4), "big"))
    print(f"TEST_SEED={number}", flush=True)
    return number
