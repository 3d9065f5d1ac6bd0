#!/usr/bin/env python3
"""What OAuth connections cost those who do not wait for them.

  refresh_bench.py hanging [CALLERS [ROUNDS]]    256 and 5 if they are not given: resolves of a cached secret while so many
                                                 calls wait for a provider that hangs, against the same without them
  refresh_bench.py connections [COUNT]           100,000 if it is not given: a server's start and its memory with so many

The first prints the medians of the rounds' ratios; each round has its own provider, and both halves follow each other, so that
the ratio counts also on a machine that is not quiet. COFFER_BUILD names the build.
"""

import pathlib
import ssl
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import certificates  # noqa: E402
from cofferd import Dev, references, values  # noqa: E402
from rude_http import Rude  # noqa: E402

CONNECTION, RESOLVE = "coffer.v1.ConnectionService/", "coffer.v1.ResolveService/Resolve"
IN_FLIGHT, SECONDS, WRITERS = 64, 1.0, 8


def item(environment, name):
    return {"items": [{"environments": [environment], "references": references(name)}]}


def pipelined(connection, calls, token, timeout_ms=60000):
    """Makes the calls, so many at once; checks that each was answered."""
    numbers = []
    for method, request in calls:
        numbers.append((connection.send(method, request, token=token, timeout_ms=timeout_ms), method))
        if len(numbers) == IN_FLIGHT:
            number, name = numbers.pop(0)
            answer = connection.receive(number, name)
            assert answer.code == 0, answer
    for number, name in numbers:
        answer = connection.receive(number, name)
        assert answer.code == 0, answer


def rate(dev):
    """Resolves of one cached secret in a second."""
    end, count = time.monotonic() + SECONDS, 0
    with dev.connect() as connection:
        while time.monotonic() < end:
            pipelined(connection, [(RESOLVE, item("default", "plain.KEY"))] * IN_FLIGHT, dev.admin)
            count += IN_FLIGHT
    return count / SECONDS


def p99(dev):
    """The same, one after the other: what one in a hundred takes longer than."""
    end, times = time.monotonic() + SECONDS, []
    with dev.connect() as connection:
        while time.monotonic() < end:
            begun = time.monotonic()
            answer = connection.call(RESOLVE, item("default", "plain.KEY"), token=dev.admin)
            times.append(time.monotonic() - begun)
            assert answer.code == 0, answer
    return sorted(times)[len(times) * 99 // 100]


def provider_entries(server, rounds):
    return "providers:\n" + "".join(
        f"  - id: slow{i}\n    name: Slow\n    documentation: https://slow.example\n"
        f"    authorization_endpoint: https://slow.example/a\n    token_endpoint: {server.url('hang', host='localhost')}\n"
        "    user: {}\n    service: {}\n    client_authentication: [client_secret_post]\n" for i in range(rounds))


def configured(dev, connection, environment, provider):
    pipelined(connection, [(CONNECTION + "ConfigureConnection", {
        "provider": provider, "grant": "CONNECTION_GRANT_CLIENT_CREDENTIALS", "client_id": "c",
        "credential": {"client_secret": b"s"}, "environment": environment})], dev.admin)


def hanging(callers, rounds):
    with tempfile.TemporaryDirectory(prefix="coffer-bench-", dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        authority = certificates.Authority(folder / "ca")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("provider"))
        server = Rude({}, context=tls)
        server.scripts["hang"] = server.hang
        (folder / "providers.yaml").write_text(provider_entries(server, rounds))
        dev = Dev(COFFERD_PROVIDERS__FILES=str(folder / "providers.yaml"), COFFERD_OUTBOUND__CA_FILE=str(authority.certificate),
                  COFFERD_OUTBOUND__ALLOW_PRIVATE=f"localhost:{server.port}")
        try:
            rates, p99s = compare(dev, callers, rounds)
            print(f"hanging: {rates:.3f} of the rate without, p99 {p99s:.2f} times as long, medians of {rounds} rounds, "
                  f"{callers} waiting")
        finally:
            server.close()
            dev.close()


def compare(dev, callers, rounds):
    with dev.connect() as connection:
        pipelined(connection, [("coffer.v1.SecretService/CreateSecret", {"environment": "default", "name": "plain",
                                                                         "values": values(KEY=b"v")})], dev.admin)
        for i in range(rounds):
            for caller in range(callers):
                configured(dev, connection, f"env{caller}", f"slow{i}")
    rates, p99s = [], []
    rate(dev)
    for i in range(rounds):
        without = rate(dev), p99(dev)
        with dev.connect() as waiting:
            for caller in range(callers):
                waiting.send(RESOLVE, item(f"env{caller}", f"slow{i}_oauth.SLOW{i}_SERVICE_TOKEN"), token=dev.admin,
                             timeout_ms=10000)
            time.sleep(2)  # until all of them are under way or wait for their turn
            rates.append(rate(dev) / without[0])
            p99s.append(p99(dev) / without[1])
    return statistics.median(rates), statistics.median(p99s)


def write_connections(dev, first, last):
    soon = int(time.time()) + 3600
    with dev.connect() as connection:
        for method, more in (("ConfigureConnection", {"grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "c",
                                                      "credential": {"client_secret": b"s"}}),
                             ("SetConnectionTokens", {"refresh_token": b"r" * 64, "access_token": b"a" * 64,
                                                      "expire_time": {"seconds": soon}})):
            pipelined(connection, ((CONNECTION + method, {"provider": "github", "environment": f"e{i}", **more})
                                   for i in range(first, last)), dev.admin)


def resident_mb(process):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def connections(count):
    dev = Dev()
    try:
        part = (count + WRITERS - 1) // WRITERS
        threads = [threading.Thread(target=write_connections, args=(dev, i * part, min(count, (i + 1) * part)))
                   for i in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert int(dev.sql("select count(*) from connection_token where length(access_token) > 0")) == count
        start = time.monotonic()
        server = dev.more("fresh")
        with dev.connect(server.address) as connection:
            pipelined(connection, [(RESOLVE, item("e0", "github_oauth.GITHUB_USER_TOKEN"))], dev.admin)
            seconds = time.monotonic() - start
            pipelined(connection, ((RESOLVE, item(f"e{i}", "github_oauth.GITHUB_USER_TOKEN")) for i in range(min(count, 10000))),
                      dev.admin)
        time.sleep(3)
        print(f"connections: {count}: {seconds:.2f} s to the first right answer, {resident_mb(server.process):.0f} MB resident")
    finally:
        dev.close()


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[2:]]
    if sys.argv[1:2] == ["hanging"]:
        hanging(*(numbers + [256, 5][len(numbers):]))
    elif sys.argv[1:2] == ["connections"]:
        connections(*(numbers or [100000]))
    else:
        sys.exit(__doc__)
