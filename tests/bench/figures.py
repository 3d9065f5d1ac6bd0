"""The figures that have gates: coffer-bench and pgbench in the same rounds, on one server and one PostgreSQL."""

import argparse
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cofferd import BUILD, COFFERD, NO_CACHE, Dev, wait_for  # noqa: E402

BENCH = BUILD / "client" / "bench" / "coffer-bench"
TENANTS = 1000
CLIENTS = 8  # of pgbench, and calls in flight of the writes
SCALE = 10
SYSTEM = "00000000-0000-0000-0000-000000000000"
FLEET_RIGHTS = ["resolve", "secret:read", "secret:write", "environment:read", "environment:write"]

# What pgbench does in place of a write: one row changed, one row added, one commit.
WRITE_SCRIPT = """\\set aid random(1, 100000 * :scale)
begin;
update pgbench_accounts set abalance = abalance + 1 where aid = :aid;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, :aid, 1, current_timestamp);
end;
"""


def postgres(program):
    return sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))[-1]


def address_in(log, scheme):
    """The address that a server says it listens on, once it does."""
    pattern = re.compile(rf"{re.escape(scheme)}://127\.0\.0\.1:\d+")
    return wait_for(lambda: pattern.search(log.read_text()), f"{log} names no address").group()


class Stand:
    """A server with everything that the figures need. What is expensive is made when it is first asked for."""

    def __init__(self, rounds, deviation):
        self.common = ["--rounds", str(rounds), "--deviation", str(deviation)]
        self.dev = Dev(fresh=True)
        self.directory = self.dev.directory
        self.run_directory = self.directory / "run"
        self.pgbench_ready = False
        self.tenants = None
        self.servers = {}
        self.trusted = None  # the CA of servers with TLS
        self.settle()

    def settle(self):
        """Some data and statistics of it, which PostgreSQL makes by itself within its first minutes."""
        self.bench(*self.admin(), "--rounds", "1", "--duration", "100", "--secrets", "3000", "info", "resolve")
        subprocess.run([str(postgres("psql")), "-q", "-h", str(self.run_directory), "-U", "coffer", "-c", "vacuum analyze",
                        "postgres"], check=True)

    def close(self):
        self.dev.close()

    # --- PostgreSQL's side

    def pgbench(self, *arguments):
        return [str(postgres("pgbench")), "-h", str(self.run_directory), "-U", "coffer", *arguments, "postgres"]

    def anchor(self, name, *arguments):
        """An option that lets pgbench run in each round."""
        if not self.pgbench_ready:
            subprocess.run(self.pgbench("-i", "-q", "-s", str(SCALE)), check=True, capture_output=True)
            (self.directory / "write.pgbench").write_text(WRITE_SCRIPT)
            self.pgbench_ready = True
        command = " ".join(self.pgbench("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", "2", *arguments))
        program = self.directory / f"anchor-{name}"
        program.write_text(f"#!/bin/sh\n{command} 2>&1 | sed -n 's/^tps = \\([0-9.]*\\).*/\\1/p'\n")
        program.chmod(stat.S_IRWXU)
        return ["--anchor", f"{name}={program}"]

    def select_anchor(self):
        return self.anchor("pgbench-select", "-S")

    def write_anchor(self):
        return self.anchor("pgbench-write", "-D", f"scale={SCALE}", "-f", str(self.directory / "write.pgbench"))

    # --- Coffer's side

    def make_tenants(self):
        """Workspaces, their list in a file, and a fleet account for all of them, with its token in a file."""
        if self.tenants is not None:
            return self.tenants
        uuids = []
        with self.dev.connect() as connection:
            def call(method, request):
                answer = connection.call(f"coffer.v1.{method}", request, token=self.dev.system)
                assert answer.code == 0, answer
                return answer.message
            for number in range(TENANTS):
                made = call("WorkspaceService/CreateWorkspace", {"name": f"bench-{number}"})
                uuids.append(made["workspace"]["uid"])
            account = {"workspace": SYSTEM, "name": "bench", "grants": [{"permissions": FLEET_RIGHTS}]}
            call("ServiceAccountService/CreateServiceAccount", account)
            token = call("TokenService/IssueToken", {"workspace": SYSTEM, "service_account": "bench"})["secret_text"]
        (self.directory / "tenants").write_text("".join(f"{uuid}\n" for uuid in uuids))
        file = self.directory / "fleet.token"
        file.touch(0o600)
        file.write_bytes(token)
        self.tenants = ["-w", f"@{self.directory / 'tenants'}", "--token-file", str(file)]
        return self.tenants

    def server(self, name, program=COFFERD, **settings):
        """The TCP address of one more server over the same PostgreSQL."""
        if name not in self.servers:
            listen = f"ipc://{self.directory / name}.sock,tcp://127.0.0.1:0"
            log = self.dev.more(name, COFFERD_TRANSPORT__LISTEN=listen, COFFERD_LOG__FORMAT="json", program=program,
                                **settings).log
            self.servers[name] = address_in(log, "tcp")
        return self.servers[name]

    def executor(self):
        return ["--token-file", str(self.directory / "executor.token"),
                "--admin-token-file", str(self.directory / "admin.token")]

    def admin(self):
        return ["--token-file", str(self.directory / "admin.token")]

    def bench(self, *arguments, address=None):
        """The report of one mix. A run that was too busy (3) says so in its report."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COFFER_")}
        if self.trusted:
            environment["COFFER_CACERT"] = str(self.trusted)
        done = subprocess.run([BENCH, "--addr", address or self.dev.tcp, "--output", "json", *self.common, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode not in (0, 3):
            raise RuntimeError(f"coffer-bench ended with {done.returncode}")
        return json.loads(done.stdout)


def info(stand):
    report = stand.bench(*stand.executor(), "info")
    return report, report["subjects"][0]["rate_ratio"]


def info_alone(stand):
    report = stand.bench(*stand.executor(), "-n", "1", "info")
    return report, report["subjects"][0]["p50_ratio"]


def resolve(stand):
    report = stand.bench(*stand.executor(), *stand.select_anchor(), "resolve", address=stand.server("uncached", **NO_CACHE))
    return report, report["subjects"][0]["anchor_ratios"]["pgbench-select"]


def resolve_known(stand):
    """Secrets are read, token and grants are not."""
    address = stand.server("callers", COFFERD_CACHE__SECRETS="false")
    report = stand.bench(*stand.executor(), *stand.select_anchor(), "resolve", address=address)
    return report, report["subjects"][0]["anchor_ratios"]["pgbench-select"]


def resolve32(stand):
    report = stand.bench(*stand.executor(), "resolve32", address=stand.server("uncached", **NO_CACHE))
    return report, {name: rate * 32 for name, rate in report["subjects"][0]["rate"].items()}


def cached(stand):
    report = stand.bench(*stand.executor(), "resolve")
    return report, report["subjects"][0]["rate_ratio"]


def cached_alone(stand):
    report = stand.bench(*stand.executor(), "-n", "1", "resolve")
    return report, report["subjects"][0]["p50_ratio"]


def cached32(stand):
    report = stand.bench(*stand.executor(), "resolve32")
    return report, {name: rate * 32 for name, rate in report["subjects"][0]["rate"].items()}


def write_many(stand):
    report = stand.bench(*stand.make_tenants(), *stand.write_anchor(), "-n", str(CLIENTS), "--duration", "2000", "write")
    return report, report["subjects"][0]["anchor_ratios"]["pgbench-write"]


def write_one(stand):
    report = stand.bench(*stand.admin(), *stand.write_anchor(), "-n", str(CLIENTS), "--duration", "2000", "write")
    return report, report["subjects"][0]["anchor_ratios"]["pgbench-write"]


# --- What something costs: two programs in turn, and the ratio of each round.

def spread(values):
    values = sorted(values)
    return {"median": values[len(values) // 2], "min": values[0], "max": values[-1]}


def frame_sizes(stand, address, context):
    """Bytes of a GetServerInfo and of its answer on the wire, as coffer-bench sends it."""
    from sp_client import Connection
    with Connection(address, tls=context) as connection:
        token = (stand.directory / "executor.token").read_bytes()
        sent, sendall = [], connection.socket.sendall
        connection.socket.sendall = lambda data: (sent.append(len(data)), sendall(data))
        number = connection.send("coffer.rpc.v1.ServerService/GetServerInfo", token=token)
        received = connection.receive_message(number)
    return sent[0], len(received) + 12


def tls(stand):
    """The control is an echo over the same TLS, with messages of the same sizes and one send for each."""
    from certificates import Authority
    authority = Authority(stand.directory / "ca")
    certificate, key = authority.issue("server")
    server = stand.dev.more("tls", COFFERD_TLS__CERTIFICATE=str(certificate), COFFERD_TLS__KEY=str(key), COFFERD_TRANSPORT__LISTEN=(
        f"ipc://{stand.directory}/tls.sock,tls+tcp://127.0.0.1:0"))
    address = address_in(server.log, "tls+tcp")
    request, reply = frame_sizes(stand, address, authority.context())
    stand.trusted = authority.certificate
    ratios = []
    for _ in range(int(stand.common[1])):
        echo = float(subprocess.run([BUILD / "tests" / "bench" / "coffer_tls_echo", certificate, key, authority.certificate,
                                     str(request), str(reply), "64", "1500"], check=True, stdout=subprocess.PIPE, text=True).stdout)
        report = stand.bench(*stand.executor(), "--rounds", "1", "--no-echo", "--duration", "1500", "info", address=address)
        ratios.append(report["subjects"][0]["rate"]["median"] / echo)
    return {}, spread(ratios)


def audited(stand, in_flight, **settings):
    """A server beside one that is the same but for the records of answers."""
    addresses = [stand.server("audited-" + "-".join(settings.values()), **settings),
                 stand.server("unaudited", program=BUILD / "tests" / "bench" / "coffer_unaudited")]
    ratios = []
    for number in range(int(stand.common[1])):
        rates = {}
        for address in addresses if number % 2 else reversed(addresses):
            report = stand.bench(*stand.executor(), "--rounds", "1", "--no-echo", "--duration", "1500", "-n", str(in_flight),
                                 "resolve", address=address)
            rates[address] = report["subjects"][0]["rate"]["median"]
        ratios.append(rates[addresses[0]] / rates[addresses[1]])
    return {}, spread(ratios)


def audit_written(stand):
    return audited(stand, 64, COFFERD_AUDIT__RESOLVE="written")


def audit_durable(stand):
    return audited(stand, 256, COFFERD_AUDIT__RESOLVE="durable")


def memory(stand):
    """Of a server of its own that has only started."""
    server = stand.dev.more("idle")
    time.sleep(1)
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    return {}, {"median": resident, "min": resident, "max": resident}


# name: (what, how, gate, whether more is better)
FIGURES = {
    "info": ("GetServerInfo, 64 in flight: calls/s to a bare nng echo's", info, 0.8, True),
    "info-alone": ("GetServerInfo, 1 in flight: p50 to a bare nng echo's", info_alone, 1.15, False),
    "resolve": ("resolve without a cache, 64 in flight: calls/s to pgbench's prepared select", resolve, 0.35, True),
    "resolve-known": ("resolve, token and grants in the cache: calls/s to pgbench's prepared select", resolve_known, 0.45,
                      True),
    "resolve32": ("32 references in one item without a cache: rows/s", resolve32, 100000, True),
    "cached": ("resolve from memory, 64 in flight: calls/s to a bare nng echo's", cached, 0.75, True),
    "cached-alone": ("resolve from memory, 1 in flight: p50 to a bare nng echo's", cached_alone, 1.15, False),
    "cached32": ("32 references in one item from memory: secrets/s", cached32, 500000, True),
    "write-many": (f"durable writes, {TENANTS} workspaces: to pgbench's update and insert", write_many, 0.5, True),
    "write-one": ("durable writes, one workspace: to pgbench's update and insert", write_one, 0.2, True),
    "tls": ("GetServerInfo over TLS, 64 in flight: calls/s to an echo over the same TLS", tls, 0.85, True),
    "audit": ("resolve from memory, 64 in flight: calls/s to a server without audit", audit_written, 0.88, True),
    "audit-durable": ("the same, 256 in flight, each record on the disk before its answer", audit_durable, 0.7, True),
    "memory": ("resident memory of an idle server: MB", memory, 40, False),
}


def spoiled(report):
    return any(2 * len(subject["void_rounds"]) > report["rounds"] for subject in report.get("subjects", []))


def verdict(report, value, gate, more):
    if spoiled(report):
        return "VOID"
    return "PASS" if (value["median"] >= gate if more else value["median"] <= gate) else "MISS"


def measure(stand, names):
    results = {}
    for name in names:
        what, how, gate, more = FIGURES[name]
        report, value = how(stand)
        results[name] = {"what": what, "gate": gate, "verdict": verdict(report, value, gate, more), **value,
                         "report": report}
        least, median, most = (f"{value[key]:.4g}" for key in ("min", "median", "max"))
        print(f"{results[name]['verdict']}  {median:>9}  ({least} to {most})  gate {gate:g}  {what}", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--deviation", type=int, default=25, help="percent that an echo may be off its median")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    unknown = set(arguments.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    stand = Stand(arguments.rounds, arguments.deviation)
    try:
        results = measure(stand, arguments.figures or FIGURES)
    finally:
        stand.close()
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    verdicts = {result["verdict"] for result in results.values()}
    return 1 if "MISS" in verdicts else 3 if "VOID" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
