"""moto's STS, which others wrote, in a process of its own on loopback. It checks neither signatures nor External IDs."""

import pathlib
import socket
import subprocess
import tempfile
import urllib.request

from cofferd import PATIENCE, ROOT, wait_for

# moto is pinned (.ci/requirements.txt), what it is made of is Debian's, and so is the Python that has that.
PROGRAM = "import sys; sys.path.append(sys.argv[1]); from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[2]])"


class Moto:
    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.NamedTemporaryFile(prefix="coffer-moto-", suffix=".log", dir="/tmp")
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", PROGRAM, ROOT / "build" / "tools", str(self.port)],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for(self._ready, "moto does not start")

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError(pathlib.Path(self.log.name).read_text())
        try:
            with urllib.request.urlopen(self.url + "/moto-api/", timeout=PATIENCE):
                return True
        except OSError:
            return False

    def requests(self):
        """How many it has answered, but for those that looked whether it is there."""
        return pathlib.Path(self.log.name).read_text().count('"POST / ')

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()
