"""What the tests do to the PostgreSQL of a `cofferd serve --dev`, and to the way there."""

import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading

from cofferd import BUILD, wait_for

PSQL = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]


class Lock:
    """Keeps a table locked against everybody, in a session of its own, until the block is left."""

    def __init__(self, conninfo, table):
        self.process = subprocess.Popen([PSQL, "-X", "-q", "-A", "-t", "-d", conninfo], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(f"begin;\nlock table {table};\nselect 'locked';\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "locked\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate("rollback;\n", timeout=60)


def postmaster(directory):
    return int((directory / "postgresql" / "postmaster.pid").read_text().split()[0])


def status(process):
    """State and parent of a process; None if it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None, None
    return fields[0], int(fields[1])


class Frozen:
    """PostgreSQL accepts connections and answers nothing, until the block is left."""

    def __init__(self, directory):
        self.stopped = []
        parent = postmaster(directory)
        self._stop(parent)  # first: it makes no more children then
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            if status(entry.name)[1] == parent:
                self._stop(int(entry.name))

    def _stop(self, process):
        try:
            os.kill(process, signal.SIGSTOP)
        except ProcessLookupError:
            return  # it has ended meanwhile
        self.stopped.append(process)
        wait_for(lambda: status(process)[0] in ("T", "Z", None), "a process does not stop")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.stopped):
            os.kill(process, signal.SIGCONT)


class Jumping:
    """The development server's PostgreSQL with a clock that can be put ahead and back: in the place of the one that runs,
    until it is closed."""

    LIBRARY = BUILD / "tests" / "integration" / "server" / "libjumping_clock.so"

    def __init__(self, directory):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-clock-", dir="/tmp"))
        self.folder.chmod(0o755)
        library = shutil.copy(self.LIBRARY, self.folder)
        (self.folder / "clock").write_bytes(bytes(8))
        before, data = postmaster(directory), directory / "postgresql"
        program = os.readlink(f"/proc/{before}/exe")
        os.kill(before, signal.SIGINT)
        wait_for(lambda: status(before)[0] in ("Z", None), "PostgreSQL does not end")
        settings = {"unix_socket_directories": directory / "run", "listen_addresses": "", "port": 5432,
                    "unix_socket_permissions": "0700", "fsync": "off"}
        owner = data.stat()
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [program, "-D", data, *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_PRELOAD": library, "TEST_CLOCK_FILE": str(self.folder / "clock")},
                user=owner.st_uid, group=owner.st_gid, extra_groups=[], umask=0o077, cwd="/", stdout=log, stderr=log)
        conninfo = f"host={directory}/run user=coffer dbname=postgres"
        wait_for(lambda: subprocess.run([PSQL, "-X", "-q", "-d", conninfo, "-c", "select"], check=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0, "PostgreSQL does not start")

    def put(self, seconds):
        """So much ahead of the true time, or behind it."""
        with open(self.folder / "clock", "r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))

    def close(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        shutil.rmtree(self.folder)


class Proxy:
    """A way to PostgreSQL that can be cut: a Unix socket in a folder of its own."""

    NAME = ".s.PGSQL.5432"

    def __init__(self, directory, server):
        self.directory, self.server = directory, str(server / self.NAME)
        self.pairs, self.listener = [], None
        directory.mkdir()
        self.open()

    def open(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.directory / self.NAME))
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def cut(self):
        """Ends all connections and refuses new ones until it is opened again."""
        (self.directory / self.NAME).unlink()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.pairs:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself
            one.close()
        self.pairs = []

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.server)
            except OSError:
                return  # cut
            self.pairs += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other direction has ended
