"""How many instructions the server needs for a call that is answered from memory: callgrind on fixed loads."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cofferd import BUILD, COFFERD, Dev, values, wait_for  # noqa: E402

STORED = pathlib.Path(__file__).resolve().parent / "instructions.tsv"
TOLERANCE = 0.02
ENVIRONMENT = "bench"
SECRETS = 32
VALUE = b"v" * 256
# What receives a request and sends its answer, also where a part of it is sent later; what other threads do meanwhile is no
# part of a call.
COUNTED = ("on_received", "on_sent")

# name: (references in the item, calls before, calls counted)
LOADS = {"cached": (1, 100, 400), "cached32": (32, 20, 60)}


def program(directory, name):
    """cofferd under callgrind, which counts nothing until it is told to."""
    path = directory / f"callgrind-{name}"
    # With all functions looked up before, or cofferd would begin anew, without valgrind.
    path.write_text("#!/bin/sh\nexport LD_BIND_NOW=1\nexec valgrind --tool=callgrind --instr-atstart=no --separate-threads=no "
                    f"{' '.join(f'--toggle-collect={name}' for name in COUNTED)} --callgrind-out-file={directory}/{name}.callgrind "
                    f"{COFFERD} \"$@\"\n")
    path.chmod(0o700)
    return path


def control(server, *arguments):
    subprocess.run(["callgrind_control", *arguments, str(server.process.pid)], check=True, capture_output=True)


def write_secrets(dev):
    with dev.connect() as connection:
        for number in range(SECRETS):
            answer = connection.call("coffer.v1.SecretService/CreateSecret",
                                     {"environment": ENVIRONMENT, "name": f"bench-{number:07}", "values": values(VALUE=VALUE)},
                                     token=dev.admin)
            assert answer.code == 0, answer


def resolve(connection, dev, first, references):
    names = [f"bench-{(first + i) % SECRETS:07}" for i in range(references)]
    item = {"environments": [ENVIRONMENT], "references": [{"name": name, "key": "VALUE"} for name in names]}
    answer = connection.call("coffer.v1.ResolveService/Resolve", {"items": [item]}, token=dev.executor)
    assert answer.code == 0 and len(answer.message["results"][0]["secrets"]) == references, answer


def count(dev, name, keep):
    references, before, counted = LOADS[name]
    listen = f"ipc://{dev.directory / name}.sock,tcp://127.0.0.1:0"
    server = dev.more(name, program(dev.directory, name), COFFERD_TRANSPORT__LISTEN=listen, COFFERD_LOG__FORMAT="json")
    address = wait_for(lambda: re.search(r"tcp://127\.0\.0\.1:\d+", server.log.read_text()), "no port").group()
    with dev.connect(address) as connection:
        for number in range(before):
            resolve(connection, dev, number, references)
        control(server, "--instr=on")
        for number in range(counted):
            resolve(connection, dev, number, references)
        control(server, "--dump")
        control(server, "--instr=off")
    files = sorted(dev.directory.glob(f"{name}.callgrind*"), key=lambda file: file.stat().st_mtime)
    total = max(int(match.group(1)) for file in files
                if (match := re.search(r"^(?:summary|totals): (\d+)", file.read_text(), re.M)))
    for file in files if keep else []:
        (keep / file.name).write_bytes(file.read_bytes())
    return total / counted


def stored():
    return {name: int(number) for name, number in
            (line.split("\t") for line in STORED.read_text().splitlines() if not line.startswith("#"))}


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/instructions.py")
    parser.add_argument("loads", nargs="*", help=", ".join(LOADS))
    parser.add_argument("--keep", type=pathlib.Path, help="an existing directory for callgrind's output")
    arguments = parser.parse_args()
    before, grown = stored(), False
    dev = Dev()
    try:
        write_secrets(dev)
        for name in arguments.loads or LOADS:
            now = count(dev, name, arguments.keep)
            print(f"{name}\t{now:.0f}\t{now / before[name] - 1:+.1%}", flush=True)
            grown = grown or now > before[name] * (1 + TOLERANCE)
    finally:
        dev.close()
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
