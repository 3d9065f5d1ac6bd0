#!/usr/bin/env python3
"""What TLS costs: the same calls of coffer-bench to one server, over tcp and over tls+tcp, in turn.

  tls_bench.py [ROUNDS]      prints the median rates of both and their ratio for each mix

Prints numbers and checks nothing. COFFER_BUILD names the build; a figure that counts needs a release build and a quiet
machine.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from certificates import Authority  # noqa: E402
from cofferd import BUILD, Dev, wait_for  # noqa: E402

BENCH = BUILD / "client" / "bench" / "coffer-bench"
MIXES = ["info", "resolve"]


def rates(address, dev, authority):
    """Calls per second of each mix."""
    done = subprocess.run(
        [BENCH, "--addr", address, "--token-file", dev.directory / "admin.token", "--rounds", "2", "--duration", "500",
         "--secrets", "100", "--deviation", "1000", "--output", "json", *MIXES],
        check=True, capture_output=True, text=True, env={**os.environ, "COFFER_CACERT": str(authority.certificate)})
    return {subject["name"]: subject["rate"]["median"] for subject in json.loads(done.stdout)["subjects"]}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    dev = Dev(fresh=True)
    try:
        authority = Authority(dev.directory / "ca")
        certificate, key = authority.issue("server")
        server = dev.more("both", COFFERD_TLS__CERTIFICATE=str(certificate), COFFERD_TLS__KEY=str(key),
                          COFFERD_TRANSPORT__LISTEN=f"ipc://{dev.directory}/both.sock,tcp://127.0.0.1:0,"
                                                    "tls+tcp://127.0.0.1:0")
        addresses = wait_for(lambda: len(found := re.findall(r'"address":"((?:tls\+)?tcp://[^"]+)"',
                                                             server.log.read_text())) == 2 and found, "no addresses")
        measured = [[rates(address, dev, authority) for address in addresses] for _ in range(rounds)]
        for mix in MIXES:
            plain, tls = ([one[i][mix] for one in measured] for i in (0, 1))
            ratio = statistics.median(b / a for a, b in zip(plain, tls))
            print(f"{mix:8}  tcp {statistics.median(plain):9.0f}/s  tls {statistics.median(tls):9.0f}/s  "
                  f"tls/tcp {ratio:.2f}")
    finally:
        dev.close()


main()
