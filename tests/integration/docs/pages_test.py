#!/usr/bin/env python3
"""Runs the examples of the README and of docs against a development server, and compares what they print.

  pages_test.py             fails with a diff if a page shows something else than what is printed
  pages_test.py --update    writes what is printed into the pages
  pages_test.py PAGE...     only these pages

An example is a block of the kind `console`: a line that begins with "$ " is a command for bash (a backslash at its end
continues it), the lines below it are what it prints. The commands of one page share one shell. It stands in a folder
that looks like the project's after deploy/quickstart.sh, with a home folder that looks like its user's, so a page can
say what a reader types; or, where the page has the comment `folder: /etc/coffer`, in one that looks like an installed
server's. A page with the comment `host: https://mcp.example.com` finds an MCP server there, which is a script on this
host. What is new in every run (UUIDs, times, tokens, random digits) is not compared.
"""

import concurrent.futures
import contextlib
import difflib
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "support"))

from cofferd import BUILD, ROOT, Dev  # noqa: E402
from oauth_host import RESOURCE, SERVER, Host  # noqa: E402

TLS_PORT = ":7443"
IN_ETC = "<!-- folder: /etc/coffer -->"
MCP = re.compile(r"^<!-- host: (https://\S+) -->$", re.M)
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
PATIENCE = 120  # seconds for one command

# What differs from run to run: pattern, and what stands for it when two texts are compared.
VOLATILE = [
    (r"[^\r\n]*\r\x1b\[K", ""),  # progress on a terminal
    (r"^(rows|opened|unchained) +\d+$", "ROWS"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    (r"\bcof_[a-z]+_[0-9A-Za-z]{20,}", "TOKEN"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z| UTC)?", "TIME"),
    (r"\b\d+ (s|min|h|d) ago\b", "AGE"),
    (r"\b\d+(\.\d+)? ?(us|ms)\b", "TIME_TAKEN"),
    (r"\b[0-9a-f]{16,}\b", "HEX"),
    (r"\b\d+:HEX\b|^records +\d+$|\"sequence\":\d+", "COUNT"),
    (r"\b(process|pid) \d+\b", "PROCESS"),
    (r'"dur_us":\d+(,"queued_us":\d+)?', "TIME_TAKEN"),
    (r"\b127\.0\.0\.1:\d+", "ADDRESS"),
    (r"[ \t]+", " "),
    (r" $", ""),
]


def steady(text):
    """The text without what differs from run to run."""
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text, flags=re.M)
    return text


def commands_of(block):
    """[command, what the page shows that it prints] of each command of a block."""
    found = []
    continued = False
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif continued:
            found[-1][0] += "\n" + line
        elif found:
            found[-1][1] += line + "\n"
        else:
            raise SystemExit(f'an example does not begin with "$ ": {line}')
        continued = (line.startswith("$ ") or continued) and line.endswith("\\")
    return found


class Shell:
    """One bash that runs commands one after the other, and prints to a terminal."""

    END = b"--- end of the command\n"

    def __init__(self, folder, environment):
        self.terminal, end = pty.openpty()
        mode = termios.tcgetattr(end)
        mode[1] &= ~termios.OPOST  # line ends stay as they are
        termios.tcsetattr(end, termios.TCSANOW, mode)
        self.process = subprocess.Popen(["bash", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE,
                                        stdout=end, stderr=end, start_new_session=True)
        os.close(end)

    def run(self, command):
        """Everything that the command prints, on both streams."""
        self.process.stdin.write(b"{ %b\n} </dev/null\necho '%b'\n" % (command.encode(), self.END.strip()))
        self.process.stdin.flush()
        printed = b""
        while not printed.endswith(self.END):
            if not select.select([self.terminal], [], [], PATIENCE)[0]:
                raise SystemExit(f"does not end: {command}")
            printed += self.read(command)
        return printed.removesuffix(self.END).decode("utf-8", "replace")

    def read(self, command):
        try:
            return os.read(self.terminal, 65536)
        except OSError:  # its last writer is gone
            raise SystemExit(f"the shell ended in: {command}") from None

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):  # what the page left in the background
            os.killpg(self.process.pid, signal.SIGTERM)
        os.close(self.terminal)


class McpHost:
    """An MCP server at /mcp, and its authorization server, which registers clients."""

    def __init__(self, name):
        self.folder = tempfile.TemporaryDirectory(prefix="coffer-mcp-", dir="/tmp")
        self.name, self.host = name, Host(pathlib.Path(self.folder.name))
        origin = self.host.origin
        self.host.site.json(f"{RESOURCE}/mcp", {"resource": f"{origin}/mcp", "authorization_servers": [origin],
                                                "scopes_supported": ["read", "write"]})
        self.host.site.json(SERVER, self.host.server(
            origin, registration_endpoint=f"{origin}/register", revocation_endpoint=f"{origin}/revoke",
            code_challenge_methods_supported=["S256"], token_endpoint_auth_methods_supported=["client_secret_post"]))
        self.host.site.json("register", {"client_id": "s6BhdRkqt3", "client_secret": "made there"}, 201)

    def close(self):
        self.host.rude.close()
        self.folder.cleanup()


class Reader:
    """Folders as a reader of the pages has them, over a server of the test."""

    def __init__(self, dev, mcp):
        self.dev, self.mcp = dev, mcp
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-pages-", dir="/tmp"))
        self.home = self.folder / "home"
        self.project = self.folder / "coffer"
        state = self.home / ".local" / "share" / "coffer"
        state.mkdir(parents=True)
        (state / "dev").symlink_to(dev.directory)
        (self.project / "build").mkdir(parents=True)
        (self.project / "build" / "quickstart").symlink_to(BUILD)
        self.etc, self.run = self.folder / "etc", self.folder / "run"
        self.etc.mkdir()
        self.run.mkdir()
        shutil.copy(ROOT / "deploy" / "config" / "cofferd.yaml", self.etc)
        dev.sql("CREATE DATABASE coffer")
        for name in ("client", "deploy", "docs", "proto", "server"):
            (self.project / name).symlink_to(ROOT / name)

    def shell(self, in_etc):
        """Environment variables stand for what only an installed server has; paths are the reader's again as_read."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COFFER")}
        here = {
            "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TERM": "dumb", "COLUMNS": "120",
            "PATH": f"{BUILD / 'server'}:{BUILD / 'client' / 'cli'}:{os.environ['PATH']}",
            "COFFER_ADDR": f"ipc://{self.run}/coffer.sock",
            "PGHOST": f"{self.dev.directory}/run", "PGUSER": "coffer",
            "COFFERD_DATABASE__CONNINFO": self.dev.conninfo.replace("dbname=postgres", "dbname=coffer"),
            "COFFERD_KEYS__ROOT_KEY_FILE": str(self.etc / "root.key"),
            "COFFERD_TRANSPORT__LISTEN": f"ipc://{self.run}/coffer.sock",
            "COFFERD_SERVER__STATE_DIR": str(self.folder / "state"),
            "COFFERD_TLS__CERTIFICATE": str(self.etc / "tls.pem"),
            "COFFERD_TLS__KEY": str(self.etc / "tls.key"),
        }
        return Shell(self.etc if in_etc else self.project, {**kept, **here})

    def as_read(self, text):
        """What was printed, with the paths that the reader would see."""
        for path, read in ((self.home / ".local/share/coffer/dev", "~/.local/share/coffer/dev"),
                           (self.dev.directory, "~/.local/share/coffer/dev"), (self.project, "~/coffer"),
                           (self.home, "~"), (self.etc, "/etc/coffer"), (self.run, "/run/coffer"),
                           (self.folder / "state", "/var/lib/coffer")):
            text = text.replace(str(path), read)
        return text.replace(self.mcp.host.origin, self.mcp.name) if self.mcp else text

    def as_typed(self, command):
        """The command with a port that is free, whatever else runs on this machine, and the host that stands for another."""
        command = command.replace(TLS_PORT, f":{self.port}")
        return command.replace(self.mcp.name, self.mcp.host.origin) if self.mcp else command

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def begin(text):
    """The server of a page, and the host that it speaks of."""
    named = MCP.search(text)
    mcp = McpHost(named[1]) if named else None
    return Dev(**(mcp.host.settings if mcp else {})), mcp


def run_block(reader, shell, block):
    """The block as it should be: as it is, where only what is volatile differs."""
    lines = []
    for command, shown in commands_of(block):
        printed = reader.as_read(shell.run(reader.as_typed(command)))
        lines += [f"$ {command}\n", shown if steady(shown) == steady(printed) else printed]
    return "".join(lines)


def run_page(reader, text):
    shell = reader.shell(IN_ETC in text)
    try:
        return BLOCK.sub(lambda match: f"```console\n{run_block(reader, shell, match.group(1))}```", text)
    finally:
        shell.close()


def check(reader, name, text, update):
    """Whether the page shows what is printed; with `update` it does afterwards."""
    new = run_page(reader, text)
    if new == text:
        return True
    sys.stdout.writelines(difflib.unified_diff(text.splitlines(True), new.splitlines(True), name, f"{name} as printed"))
    if update:
        (ROOT / name).write_text(new, encoding="utf-8")
    return update


def main():
    update = "--update" in sys.argv[1:]
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    names = chosen or ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
    pages = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    pages = {name: text for name, text in pages.items() if BLOCK.search(text)}
    wrong = []
    # The next page's server starts while a page runs.
    starter = concurrent.futures.ThreadPoolExecutor(1)
    texts = list(pages.values())
    servers = [starter.submit(begin, text) for text in texts[:1]]
    for number, (name, text) in enumerate(pages.items(), 1):
        dev, mcp = servers.pop().result()
        servers += [starter.submit(begin, following) for following in texts[number:number + 1]]
        reader = Reader(dev, mcp)
        try:
            if not check(reader, name, text, update):
                wrong.append(name)
        finally:
            reader.close()
            dev.close()
            if mcp:
                mcp.close()
    if wrong:
        raise SystemExit(f"{', '.join(wrong)}: not what is printed; if the new output is right, run\n"
                         f"  COFFER_BUILD={BUILD} tests/integration/docs/pages_test.py --update")
    examples = sum(len(commands_of(block)) for text in pages.values() for block in BLOCK.findall(text))
    print(f"{examples} commands of {len(pages)} pages print what the pages show")


main()
