#!/usr/bin/env python3
"""What people do with `coffer` before they work with it: they log in, set things up, ask what is wrong, and look around."""

import contextlib
import json
import pathlib
import re
import socket
import ssl
import struct
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import certificates  # noqa: E402
import cli  # noqa: E402
import sp_client  # noqa: E402
from cli import (DENIED, ERROR, NOT_FOUND, NOT_LOGGED_IN, OK, UNAVAILABLE, USAGE, CliTest)  # noqa: E402
from cofferd import Relay, wait_for  # noqa: E402


class PeopleTest(CliTest):
    def setUp(self):
        CliTest.count += 1
        self.home = self.dev.directory / f"home{CliTest.count}"
        self.home.mkdir()
        self.folder = self.home
        self.config = self.home / ".config" / "coffer" / "config"

    def variables(self, **more):
        """A person without any setting but a home folder."""
        return {**cli.environment(self.dev, COFFER_ADDR=None, COFFER_TOKEN_FILE=None, HOME=self.home),
                **{name: str(value) for name, value in more.items()}}

    def coffer(self, *arguments, stdin=b"", **more):
        return cli.run(self.variables(**more), *arguments, stdin=stdin, cwd=self.folder)

    def works(self, *arguments, **options):
        code, out, err = self.coffer(*arguments, **options)
        self.assertEqual(code, OK, err)
        return out.decode()

    def fails(self, expected, *arguments, says, **options):
        code, out, err = self.coffer(*arguments, **options)
        self.assertEqual(code, expected, err)
        self.assertIn(says, err)
        self.assertEqual(out, b"")
        return err

    def settings(self, *arguments, **options):
        """{setting: (value, where it comes from)}"""
        rows = [line.split("\t") for line in self.works("config", *arguments, **options).splitlines()]
        return {name: (value, source) for name, value, source in rows}

    def log_in(self, *arguments, token="admin", **options):
        return self.works("login", "--addr", self.dev.ipc, *arguments,
                          stdin=(self.dev.directory / f"{token}.token").read_bytes(), **options)


class Login(PeopleTest):
    def test_login_stores_the_token_for_its_owner_alone_and_makes_the_profile(self):
        self.log_in("-e", "prod")
        token = self.home / ".local" / "state" / "coffer" / "default.token"
        self.assertEqual(token.read_bytes().strip(), self.dev.admin)
        self.assertEqual((token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777), (0o600, 0o700))
        self.assertEqual(self.config.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.config.read_text(), f"profile = default\n\n[default]\naddr = {self.dev.ipc}\n"
                                                  f"token-file = {token}\nenvironment = prod\n")
        self.assertIn("admin", self.works("whoami"))
        self.works("set", "logged.K=-", stdin=b"v")
        self.assertEqual(self.works("get", "logged.K", "-e", "prod"), "v")

    def test_several_profiles_stand_beside_each_other_and_the_first_is_used(self):
        self.log_in("--profile", "work")
        self.log_in("--profile", "boss", token="system")
        self.assertIn("dev", self.works("workspace", "list", "--profile", "boss"))
        self.assertEqual([line.split("\t")[:3] for line in self.works("config", "profiles").splitlines()],
                         [["work", "yes", self.dev.ipc], ["boss", "-", self.dev.ipc]])
        self.works("config", "use", "boss")
        self.assertIn("dev", self.works("workspace", "list"))
        self.fails(NOT_FOUND, "config", "use", "nobody", says="no profile nobody")

    def test_token_that_does_not_work_is_not_stored(self):
        for token, says in ((b"", "no token"), (b"nonsense\n", "TOKEN_MALFORMED"), (self.dev.admin[:-4] + b"0000", "TOKEN_")):
            err = self.fails(USAGE if token == b"" else NOT_LOGGED_IN, "login", "--addr", self.dev.ipc, stdin=token, says=says)
            self.assertNotIn(token.decode() or "cof_", err)
            self.assertFalse(self.config.exists())
        self.fails(UNAVAILABLE, "login", "--addr", "ipc:///nowhere", stdin=self.dev.admin, says="coffer doctor")
        self.assertEqual(list(self.home.rglob("*.token")), [])

    def test_token_is_asked_for_without_being_shown(self):
        terminal = cli.Terminal(self.variables(), "login", "--addr", self.dev.ipc).expect("(hidden)").wait_for_echo(False)
        code, shown = terminal.type(self.dev.admin + b"\n").end()
        self.assertEqual(code, OK, shown)
        self.assertNotIn(self.dev.admin.decode(), shown)
        self.assertIn("logged in as admin", shown)
        self.works("whoami")

    def test_logout_removes_the_token_and_leaves_the_rest(self):
        self.log_in()
        self.works("logout")
        self.assertEqual(list(self.home.rglob("*.token")), [])
        self.fails(NOT_LOGGED_IN, "whoami", says="coffer login")
        self.fails(NOT_FOUND, "logout", says="no token")
        self.assertEqual(self.settings()["addr"][0], self.dev.ipc)

    def test_variables_that_win_over_what_is_stored_are_told(self):
        token = (self.dev.directory / "system.token").read_text().strip()
        code, _, err = self.coffer("login", "--addr", self.dev.ipc, stdin=self.dev.admin, COFFER_TOKEN=token)
        self.assertEqual(code, OK, err)
        self.assertIn("COFFER_TOKEN is set and wins", err)
        self.assertIn("logged in as admin", err)


class Config(PeopleTest):
    def test_each_setting_comes_from_the_strongest_that_has_it(self):
        self.config.parent.mkdir(parents=True)
        self.config.write_text(f"profile = one\n[one]\naddr = {self.dev.ipc}\nenvironment = from-profile\ntls-server-name = a.example\n")
        self.assertEqual(self.settings()["environment"], ("from-profile", f"profile one in {self.config}"))
        self.folder = self.home / "project" / "deep" / "down"
        self.folder.mkdir(parents=True)
        project = self.home / "project" / ".coffer.yaml"
        project.write_text("# ours\nenvironment: 'from-project' # all of us\n\n")
        self.assertEqual(self.settings()["environment"], ("from-project", str(project)))
        self.assertEqual(self.settings(COFFER_ENVIRONMENT="from-variable")["environment"], ("from-variable", "COFFER_ENVIRONMENT"))
        self.assertEqual(self.settings("-e", "from-option", COFFER_ENVIRONMENT="x")["environment"], ("from-option", "-e"))
        self.assertEqual(self.settings()["tls-server-name"], ("a.example", f"profile one in {self.config}"))
        self.assertEqual(self.settings()["workspace"], ("the token's own", "built in"))
        self.assertEqual(self.works("config", "get", "environment"), "from-project\n")
        self.fails(NOT_FOUND, "config", "get", "cacert", says="nothing is said")

    def test_environment_and_workspace_of_the_project_are_used(self):
        self.log_in()
        self.works("set", "projected.K=-", "-e", "theirs", stdin=b"v")
        self.folder = self.home / "p"
        self.folder.mkdir()
        (self.folder / ".coffer.yaml").write_text(f"---\nworkspace: {self.dev.workspace}\nenvironment: \"theirs\"\nprofile: default\n")
        self.assertEqual(self.works("get", "projected.K"), "v")
        (self.folder / ".coffer.yaml").write_text("workspace: 00000000-0000-4000-8000-000000000000\n")
        self.assertNotEqual(self.coffer("get", "projected.K", "-e", "theirs")[0], OK)

    def test_nothing_goes_to_another_host_in_the_clear_unless_somebody_says_so(self):
        self.fails(USAGE, "status", "--addr", "tcp://192.0.2.1:7443", says="would travel in the clear")
        self.fails(UNAVAILABLE, "status", "--addr", "tcp://192.0.2.1:7443", "--insecure-transport", "--timeout", "200ms", says="192.0.2.1")

    def test_project_chooses_no_server_and_no_token(self):
        self.log_in()
        self.folder = self.home / "p"
        self.folder.mkdir()
        for line in ("addr: tcp://127.0.0.1:1", "token: cof_ws_x", "token-file: /x", "cacert: /x", "nonsense", "- profile: default",
                     "environment: [a]", "environment:", "environment: a\nenvironment: b", " environment: a", "environment: |\n  a"):
            (self.folder / ".coffer.yaml").write_text(line + "\n")
            self.fails(USAGE, "whoami", says=f"{self.folder}/.coffer.yaml:")
        (self.folder / ".coffer.yaml").write_text("environment: prod\n")
        (self.folder / ".coffer.yaml").chmod(0o666)
        self.fails(USAGE, "whoami", says="everybody may write it")
        (self.folder / ".coffer.yaml").write_text("profile: nobody\n")
        (self.folder / ".coffer.yaml").chmod(0o644)
        self.fails(USAGE, "whoami", says="there is no profile nobody")

    def test_settings_are_written_and_taken_away_and_everything_else_stays(self):
        self.config.parent.mkdir(parents=True)
        before = "# mine\nprofile = one\n\n[one]\n# the server\naddr = ipc:///a\n\n[two]\naddr=ipc:///b\n"
        self.config.write_text(before)
        self.works("config", "set", "environment", "prod")
        self.works("config", "set", "addr", "ipc:///c", "--profile", "two")
        self.works("config", "set", "workspace", "system", "--profile", "three")
        self.assertEqual(self.config.read_text(),
                         "# mine\nprofile = one\n\n[one]\n# the server\naddr = ipc:///a\nenvironment = prod\n\n"
                         "[two]\naddr = ipc:///c\n\n[three]\nworkspace = system\n")
        self.works("config", "unset", "environment")
        self.assertEqual(self.settings()["environment"], ("default", "built in"))
        self.assertEqual(self.works("config", "path"), f"{self.config}\n")

    def test_settings_that_cannot_be_are_not_written(self):
        for name, value, says in (("addr", "foo", "no transport"), ("timeout", "3", "with its unit"), ("workspace", "acme", "UUID"),
                                  ("environment", "a b", "environment"), ("token", "cof_ws_x", "coffer login"), ("adr", "x", "no setting"),
                                  ("cacert", "a\nb", "one line"), ("cacert", "", "one line")):
            self.fails(USAGE, "config", "set", name, value, says=says)
        self.fails(USAGE, "config", "set", "addr", "ipc:///a", "--profile", "../x", says="profile's name")
        self.assertFalse(self.config.exists())
        self.fails(USAGE, "config", "lst", says='did you mean "config list"')

    def test_files_of_a_profile_go_with_its_address_alone(self):
        """Another server gets neither the token nor the client's certificate of a profile."""
        self.config.parent.mkdir(parents=True)
        self.config.write_text(f"profile = one\n[one]\naddr = {self.dev.ipc}\ncacert = ~/ca.pem\nclient-cert = /c.pem\n")
        self.assertEqual(self.settings()["cacert"][0], "~/ca.pem")
        self.assertEqual(self.settings("--addr", "ipc:///elsewhere")["cacert"], ("those of the system", "built in"))
        self.assertEqual(self.settings("--addr", "ipc:///elsewhere", "--client-cert", "/d")["client-cert"], ("/d", "--client-cert"))

    def test_settings_are_told_as_json(self):
        self.log_in()
        rows = json.loads(self.works("config", "-o", "json"))["settings"]
        self.assertEqual(rows[1], {"setting": "addr", "value": self.dev.ipc, "from": f"profile default in {self.config}"})
        self.assertEqual(json.loads(self.works("config", "get", "addr", "-o", "json"))["addr"][0]["value"], self.dev.ipc)


class Listener:
    """Something that listens on a port and is no server of Coffer."""

    def __init__(self, serve):
        self.listener, self.serve = socket.create_server(("127.0.0.1", 0)), serve
        self.port = self.listener.getsockname()[1]
        self.tcp = f"tcp://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=(self.listener.accept()[0],), daemon=True).start()

    def _one(self, peer):
        with contextlib.suppress(OSError), peer:
            self.serve(peer)


def http(peer):
    peer.recv(100)
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def silence(peer):
    while peer.recv(100):
        pass


def other_server(address, **changes):
    """Stands between a client and the server, and answers GetServerInfo with something else in it."""
    def serve(peer):
        peer.sendall(b"\0SP\0\0\x31\0\0")
        stream = peer.makefile("rb")
        stream.read(8)
        with sp_client.Connection(address) as server:
            while len(length := stream.read(8)) == 8:
                message = stream.read(struct.unpack(">Q", length)[0])
                reply = server.receive_message(server.send_message(message[4:]))
                if b"GetServerInfo" in message:
                    frame = sp_client.decode("coffer.rpc.v1.ResponseFrame", reply)
                    info = sp_client.decode("coffer.rpc.v1.GetServerInfoResponse", frame["payload"])
                    frame["payload"] = sp_client.encode("coffer.rpc.v1.GetServerInfoResponse", {**info, **changes})
                    reply = sp_client.encode("coffer.rpc.v1.ResponseFrame", frame)
                peer.sendall(struct.pack(">Q", len(reply) + 4) + message[:4] + reply)
    return serve


class Doctor(PeopleTest):
    """Faults as they happen, each by itself, and what is said of them: the check, the fault, and what to do."""

    def doctor(self, *arguments, **more):
        """{check: (state, what was found, next step)} and the exit code; of several the first that is not well."""
        code, out, err = self.coffer("doctor", *arguments, "-o", "json", **more)
        self.assertNotIn("{", err)
        checks = {}
        for row in json.loads(out)["checks"]:
            if checks.get(row["check"], ("ok",))[0] == "ok":
                checks[row["check"]] = (row["state"], row["found"], row["nextStep"])
        return checks, code

    def finds(self, check, says, step, *arguments, state="FAILED", code=None, **more):
        checks, got = self.doctor(*arguments, **more)
        self.assertEqual(checks[check][0], state, checks)
        self.assertIn(says, checks[check][1])
        self.assertIn(step, checks[check][2])
        self.assertEqual([name for name, row in checks.items() if row[0] == "FAILED" and name != check], [])
        if code is not None:
            self.assertEqual(got, code, checks)
        self.assertEqual(got == OK, state != "FAILED", checks)

    def arguments(self, address=None, token="admin"):
        return ["--addr", address or self.dev.ipc, "--token-file", self.dev.directory / f"{token}.token"]

    def account(self, name, *options, **changes):
        """A token of an account of its own."""
        self.succeed("sa", "create", name, *options)
        self.succeed("token", "issue", name, "--out", self.dev.directory / f"{name}.token", *changes.get("token", ()))
        return self.arguments(token=name)

    def test_nothing_is_wrong(self):
        self.works("set", "well.K=-", "-e", "default", *self.arguments(), stdin=b"v")
        self.log_in()
        checks, code = self.doctor()
        self.assertEqual((code, {row[0] for row in checks.values()}), (OK, {"ok"}), checks)
        self.assertEqual(set(checks), {"settings", "token", "address", "connection", "version", "clock", "readiness", "caller",
                                       "permissions", "workspace", "environment"})

    def test_settings(self):
        self.finds("token", "there is none", "coffer login", "--addr", self.dev.ipc, code=NOT_LOGGED_IN)
        checks, code = self.doctor()
        self.assertEqual((checks["settings"][0], checks["address"][0], code), ("warning", "FAILED", NOT_LOGGED_IN))
        self.log_in()
        self.config.chmod(0o666)
        self.finds("settings", "could be written by others", "chmod 600", code=USAGE)
        self.config.chmod(0o600)
        self.finds("settings", "no profile nobody", "coffer config profiles", "--profile", "nobody", code=USAGE)
        self.finds("address", "no transport that is known", "", *self.arguments("coffer.example.com"), code=USAGE)
        token = next(self.home.rglob("*.token"))
        token.chmod(0o644)
        self.finds("settings", "can be read by others", "chmod 600", code=USAGE)
        self.finds("token", "can be read by others", "chmod 600", "--token-file", token, state="warning")
        self.config.write_text("[default]\nadr = x\n")
        self.finds("settings", "config:2: there is no such setting", "coffer help configuration", code=USAGE)

    def test_token(self):
        self.finds("token", "both set", "unset one", *self.arguments()[:2], COFFER_TOKEN="x", COFFER_TOKEN_FILE="y", code=USAGE)
        self.finds("token", "is not there", "coffer login", "--addr", self.dev.ipc, "--token-file", "/nowhere", code=NOT_LOGGED_IN)
        for text, says in ((b"", "is empty"), (b"password\n", "no token of Coffer"), (self.dev.admin[:-1], "cut"),
                           (self.dev.admin[:40] + b"x" + self.dev.admin[41:], "mistyped")):
            path = self.file(text)
            path.chmod(0o600)
            self.finds("token", says, "", "--addr", self.dev.ipc, "--token-file", path, code=NOT_LOGGED_IN)

    def test_socket_and_host(self):
        stale = self.home / "stale.sock"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(stale))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for address, says, step in (
                ("ipc:///nowhere/c.sock", "there is no socket", "start cofferd"), (f"ipc://{stale}", "left behind", "start cofferd"),
                ("ipc:///etc/hostname", "is no socket", "transport.listen"),
                (f"tcp://127.0.0.1:{port}", "nobody listens", "correct the port"),
                (f"tls+tcp://localhost:{port}", "nobody listens", "correct the port"),
                ("tls+tcp://no-such-host.invalid:7443", "is not known", "DNS")):
            self.finds("address", says, step, *self.arguments(address), code=UNAVAILABLE)
        checks, code = self.doctor(*self.arguments(f"ipc://{stale},{self.dev.ipc}"))
        self.assertEqual((checks["connection"][0], code), ("ok", OK), "the second address answers")

    def test_something_else_answers(self):
        for serve, says in ((http, "speaks HTTP"), (silence, "nothing answers"), (lambda peer: None, "ended at once"),
                            (lambda peer: peer.sendall(b"220 mail.example ESMTP\r\n"), "no server of Coffer")):
            with Listener(serve) as listener:
                self.finds("address", says, "", *self.arguments(listener.tcp), code=UNAVAILABLE)
        with Listener(other_server(self.dev.ipc, version="9.8.7")) as listener:
            self.finds("version", "server 9.8.7", "one version", *self.arguments(listener.tcp), state="warning")
        with Listener(other_server(self.dev.ipc, server_time={"seconds": 1700000000, "nanos": 0})) as listener:
            self.finds("clock", "s ahead of the server's", "NTP", *self.arguments(listener.tcp), code=ERROR)

    def test_tls(self):
        authority = certificates.Authority(self.home / "ca")
        certificate, key = authority.issue("right")
        server = self.dev.more("doctor-tls", COFFERD_TLS__CERTIFICATE=str(certificate), COFFERD_TLS__KEY=str(key),
                               COFFERD_TRANSPORT__LISTEN=f"ipc://{self.dev.directory}/doctor-tls.sock,tls+tcp://127.0.0.1:0")
        port = server.port("tls+tcp://127.0.0.1")
        address, trusted = f"tls+tcp://127.0.0.1:{port}", ["--cacert", authority.certificate]
        self.finds("address", "wants TLS", "tls+tcp://", *self.arguments(f"tcp://127.0.0.1:{port}"), code=UNAVAILABLE)
        self.finds("address", "without TLS", "dial tcp://", *self.arguments(self.dev.tcp.replace("tcp", "tls+tcp")), code=UNAVAILABLE)
        self.finds("connection", "no CA that is trusted", "cacert", *self.arguments(address))
        self.finds("connection", "is not for", "tls_server_name", *self.arguments(address), *trusted, "--tls-server-name", "b.example")
        self.finds("connection", "the server answers", "", *self.arguments(address), *trusted, state="ok")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("old", since=certificates.LONG_AGO, until=certificates.NOT_SO_LONG_AGO))
        with Listener(lambda peer: context.wrap_socket(peer, server_side=True).recv(1)) as listener:
            self.finds("connection", "expired", "renew", *self.arguments(listener.tcp.replace("tcp:", "tls+tcp:", 1)), *trusted)

    def test_database_and_shutdown(self):
        with Relay(self.dev.directory) as relay:
            server = self.dev.more("doctor-db", COFFERD_DATABASE__CONNINFO=f"host={relay.directory} user=coffer dbname=postgres")
            relay.cut()
            wait_for(lambda: self.doctor(*self.arguments(server.address))[0]["readiness"][0] == "FAILED", "it tells of the database")
            self.finds("readiness", "database is out of reach", "log", *self.arguments(server.address), code=UNAVAILABLE)
            relay.restore()
            server.stop()

    def test_caller(self):
        expired = self.account("doctor-short", "--grant", "resolve", token=["--expires", "4s"])
        gone = self.account("doctor-gone", "--grant", "resolve")
        self.succeed("token", "revoke", "--self", token="doctor-gone")
        self.finds("caller", "revoked", "", *gone, code=NOT_LOGGED_IN)
        off = self.account("doctor-disabled", "--grant", "resolve")
        self.succeed("sa", "update", "doctor-disabled", "--disable")
        self.finds("caller", "disabled", "", *off)
        far = self.account("doctor-far", "--grant", "resolve", "--network", "10.0.0.0/8")
        self.finds("caller", "address", "", *far)
        poor = self.account("doctor-poor", "--grant", "account:read")
        self.finds("permissions", "neither resolve nor read", "coffer sa update", *poor, state="warning")
        soon = self.account("doctor-soon", "--grant", "resolve", token=["--expires", "3d"])
        self.finds("expiry", "expires 20", "coffer token rotate", *soon, state="warning")
        self.finds("permissions", "account of the system", "token of a workspace", *self.arguments(token="system"), state="warning")
        self.finds("workspace", "is of the workspace", "leave the workspace out", *self.arguments(), "-w",
                   "00000000-0000-4000-8000-000000000000", code=DENIED)
        self.finds("environment", "nothing is stored in an environment nowhere", "coffer env list", *self.arguments(), "-e", "nowhere",
                   state="warning")
        wait_for(lambda: self.doctor(*expired)[0]["caller"][0] == "FAILED", "the token expires")
        self.finds("caller", "expired", "", *expired, code=NOT_LOGGED_IN)

    def test_fleet_and_workspace(self):
        self.succeed("sa", "create", "doctor-fleet", "--kind", "fleet", "--grant", "resolve", token="system")
        self.succeed("token", "issue", "doctor-fleet", "-w", "system", "--out", self.dev.directory / "doctor-fleet.token", token="system")
        self.finds("workspace", "several workspaces", "-w UUID", *self.arguments(token="doctor-fleet"), state="warning")
        workspace = self.succeed("workspace", "create", "doctor", token="system").decode().strip()
        self.succeed("sa", "create", "patient", "-w", workspace, "--grant", "resolve", token="system")
        self.succeed("token", "issue", "patient", "-w", workspace, "--out", self.dev.directory / "patient.token", token="system")
        self.succeed("workspace", "disable", "doctor", token="system")
        self.finds("caller", "workspace is disabled", "", *self.arguments(token="patient"))

    def test_people_read_it_on_a_terminal(self):
        for columns in (80, 200):
            code, shown = cli.Terminal(self.variables(), "doctor", "--addr", "ipc:///nowhere/to/be/found/of/coffer/at/all.sock",
                                       columns=columns).end()
            self.assertEqual(code, NOT_LOGGED_IN)
            shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)  # colours have no width
            self.assertLessEqual(max(map(len, shown.splitlines())), columns)
            self.assertIn("FAILED  token", shown)
            self.assertIn("do: coffer login stores one", shown)


class Matrix(PeopleTest):
    ROWS = (("full", "m-a", "A"), ("full", "m-b", "A"), ("part", "m-a", "A"), ("part", "m-a", "B"), ("part", "m-b", "B"),
            ("alone", "m-a", "A"))

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.workspace = cli.run(cli.environment(cls.dev, "system"), "workspace", "create", "matrix")[1].decode().strip()
        own = ["-w", cls.workspace]
        cli.run(cli.environment(cls.dev, "system"), "sa", "create", "matrix", *own, "--grant",
                "secret:read,secret:write,environment:read,environment:write,account:write,token:write")
        cli.run(cli.environment(cls.dev, "system"), "token", "issue", "matrix", *own, "--out", cls.dev.directory / "matrix.token")
        variables = cli.environment(cls.dev, "matrix")
        for name, environment, key in cls.ROWS:
            code, _, err = cli.run(variables, "set", f"{name}.{key}=-", "-e", environment, stdin=b"v")
            assert code == OK, err
        cli.run(variables, "secret", "create", "old", "K=-", "-e", "m-b", "--expires", "2020-01-01", stdin=b"v")
        cli.run(variables, "env", "create", "m-empty")

    def variables(self, **more):
        return {**cli.environment(self.dev, "matrix"), **{name: str(value) for name, value in more.items()}}

    def test_programs_get_a_line_for_each_secret_and_environment(self):
        rows = [line.split("\t") for line in self.works("secret", "matrix").splitlines()]
        self.assertEqual(rows, [
            ["alone", "m-a", "ok", "-"], ["alone", "m-b", "missing", "-"], ["alone", "m-empty", "missing", "-"],
            ["full", "m-a", "ok", "-"], ["full", "m-b", "ok", "-"], ["full", "m-empty", "missing", "-"],
            ["old", "m-a", "missing", "-"], ["old", "m-b", "expired", "-"], ["old", "m-empty", "missing", "-"],
            ["part", "m-a", "ok", "-"], ["part", "m-b", "incomplete", "A"], ["part", "m-empty", "missing", "-"]])
        told = json.loads(self.works("secret", "matrix", "-e", "m-a", "-e", "m-b", "--prefix", "pa", "-o", "json"))
        self.assertEqual(told, {"secrets": [{"name": "part", "environments": [
            {"environment": "m-a", "state": "ok", "missingKeys": []},
            {"environment": "m-b", "state": "incomplete", "missingKeys": ["A"]}]}]})

    def test_what_is_missing_can_be_asked_for_alone(self):
        code, out, _ = self.coffer("secret", "matrix", "-e", "m-b", "-e", "m-a", "--missing")
        self.assertEqual((code, [line.split("\t")[0] for line in out.decode().splitlines()]),
                         (cli.PARTIAL, ["alone", "alone", "old", "old", "part", "part"]))
        self.assertEqual(self.coffer("secret", "matrix", "-e", "m-a", "-e", "m-b", "--prefix", "full", "--missing"), (OK, b"", ""))

    def test_terminal_gets_columns_where_they_have_room_and_sentences_where_not(self):
        code, shown = cli.Terminal(self.variables(NO_COLOR=1), "secret", "matrix", columns=80).end()
        self.assertEqual((code, shown), (OK, "NAME   m-a      m-b          m-empty\n"
                                             "alone  ok       MISSING      MISSING\n"
                                             "full   ok       ok           MISSING\n"
                                             "old    MISSING  expired      MISSING\n"
                                             "part   ok       1 of 2 keys  MISSING\n"))
        code, shown = cli.Terminal(self.variables(NO_COLOR=1), "secret", "matrix", columns=34).end()
        self.assertIn("old    m-b (expired)\n       missing in m-a, m-empty\n", shown)
        self.assertLessEqual(max(map(len, shown.splitlines())), 34)
        code, shown = cli.Terminal(self.variables(), "secret", "matrix", columns=200).end()
        self.assertIn("alone  \x1b[32mok\x1b[0m       \x1b[31mMISSING\x1b[0m", shown)
        self.assertNotIn("\x1b", self.works("secret", "matrix", "-o", "table"))
        for variables, options, coloured in (({"TERM": "dumb"}, (), False), ({"NO_COLOR": 1}, ("--color", "always"), True), ({}, ("--color", "never"), False),
                                             ({"CLICOLOR_FORCE": 1}, ("--color", "never"), False), ({"NO_COLOR": 1}, ("--color", "auto"), False)):
            code, shown = cli.Terminal(self.variables(**variables), "secret", "matrix", *options).end()
            self.assertEqual((code, "\x1b[31m" in shown), (OK, coloured), (variables, options))
        self.assertIn("\x1b[31m", self.works("secret", "matrix", "-o", "table", "--color", "always"))
        code, out, err = self.coffer("secret", "matrix", "--color", "red")
        self.assertEqual((code, out), (cli.USAGE, b""))
        self.assertIn("hint: auto, always or never", err)

    def test_environments_are_those_of_the_secrets_where_the_caller_may_list_no_others(self):
        self.succeed("sa", "create", "reader", "--grant", "secret:read", token="matrix")
        self.succeed("token", "issue", "reader", "--out", self.dev.directory / "reader.token", token="matrix")
        rows = self.works("secret", "matrix", "--prefix", "alone", COFFER_TOKEN_FILE=self.dev.directory / "reader.token")
        self.assertEqual(rows, "alone\tm-a\tok\t-\n")


if __name__ == "__main__":
    unittest.main()
