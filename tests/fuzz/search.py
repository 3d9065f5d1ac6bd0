#!/usr/bin/env python3
"""Searches for inputs that break what reads bytes from outside: the fuzzing programs, with libFuzzer and the sanitizers.

  tests/fuzz/search.py BUILD [CLANG]          builds them into BUILD, and lets each search from its corpus on
  tests/fuzz/search.py --long BUILD [CLANG]   gives a minute to each of those that read what any peer can send, or what
                                              lies in the database
  tests/fuzz/search.py --keep BUILD [CLANG]   adds the inputs that reach more to the corpora afterwards

All times are the processor's, so that a search does the same work on a machine that has much else to do: nice it, and let
it run beside the rest. There are 10 s on every processor for all programs together (COFFER_FUZZ_BUDGET says another number).
They are divided among those whose code has changed since their corpus was grown last (grown.tsv), a minute for each at most;
the others get a second. COFFER_FUZZ_SECONDS=60 gives every program that long instead. TEST_SEED repeats a search, as
far as time lets it. An input that breaks something, or takes two minutes of any clock, is left in BUILD/found: put it into
tests/fuzz/corpus/<name>, where it is replayed by every build from then on. One of those with a minute that is slower than
1,000 inputs in a second fails, too: it searches too little.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

FUZZ = pathlib.Path(__file__).resolve().parent
ROOT = FUZZ.parent.parent
GROWN = FUZZ / "grown.tsv"
BUDGET_S = 10
MOST_S, LEAST_S = 60, 1
GROWN_S = 60  # a search that is shorter does not count as growing a corpus
LONG = ("expression", "frame", "http", "import", "sealed", "token", "wire")
LONG_S = 60
INPUT_MOST = 4096
INPUT_S = 120  # of any clock: it may have to wait for a processor
RATE_LEAST = 1000  # inputs in a second of the processor's
RATE_AFTER_S = 5   # what is shorter has begun only
# What is kept of one search: more would slow down every replay.
KEPT_FILES, KEPT_BYTES = 40, 1024


def included(file):
    """The project's files that a file includes, with the modules that stand behind headers."""
    text = file.read_text()
    for name in re.findall(r'^#include "([^"]+)"', text, re.M):
        header = ROOT / name
        if not header.is_file():
            continue
        yield header
        if header.parent != FUZZ:
            yield from (other for other in header.parent.glob("*.c") if not other.with_suffix(".h").exists()
                        and f'#include "{name}"' in other.read_text())
        if header.with_suffix(".c").is_file():
            yield header.with_suffix(".c")
    for name in re.findall(r"^#include <(coffer/.+)\.pb-c\.h>", text, re.M):
        if (ROOT / "proto" / f"{name}.proto").is_file():
            yield ROOT / "proto" / f"{name}.proto"


def digest(name):
    """Of the code that the program is made of, as far as includes tell."""
    found, waiting = set(), [FUZZ / f"{name}_fuzz.c"]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(included(file) if file.suffix in (".c", ".h") else ())
    whole = hashlib.sha256()
    for file in sorted(found):
        whole.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return whole.hexdigest()[:16]


def read_grown():
    rows = (line.split("\t") for line in GROWN.read_text().splitlines() if not line.startswith("#")) if GROWN.exists() else ()
    return {name: (code, seconds) for name, code, seconds in rows}


def shares(names, grown, long):
    """{name: seconds}"""
    if long:
        return {**shares(names, grown, False), **dict.fromkeys(LONG, LONG_S)}
    if "COFFER_FUZZ_SECONDS" in os.environ:
        return dict.fromkeys(names, int(os.environ["COFFER_FUZZ_SECONDS"]))
    changed = [name for name in names if grown.get(name, ("",))[0] != digest(name)]
    whole = int(os.environ.get("COFFER_FUZZ_BUDGET", BUDGET_S)) * (os.cpu_count() or 1)
    each = (whole - LEAST_S * (len(names) - len(changed))) // max(1, len(changed))
    return {name: max(LEAST_S, min(MOST_S, each)) if name in changed else LEAST_S for name in names}


def processor_time(pid):
    """In seconds; None once the process has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Search:
    def __init__(self, build, seed):
        self.build, self.seed = build, seed

    def program(self, name, *arguments, log=None):
        environment = {**os.environ, "LSAN_OPTIONS": f"suppressions={ROOT}/tests/support/lsan.supp:print_suppressions=0"}
        return subprocess.Popen([self.build / "tests" / "fuzz" / f"fuzz_{name}", f"-max_len={INPUT_MOST}", *arguments],
                                stdout=log or subprocess.DEVNULL, stderr=subprocess.STDOUT, env=environment)

    def run(self, name, seconds):
        """Whether it found nothing."""
        searched, path = self.build / "searched" / name, self.build / f"{name}.log"
        searched.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as log:
            process = self.program(name, f"-seed={self.seed}", f"-timeout={INPUT_S}", "-print_final_stats=1",
                                   f"-artifact_prefix={self.build}/found/{name}-", searched, FUZZ / "corpus" / name, log=log)
            used = self.wait(process, seconds)
        said = path.read_text(errors="replace")
        if process.returncode != 0:
            print(f"{name}: seed {self.seed}", *said.splitlines()[-40:], sep="\n", flush=True)
            return False
        runs = int(re.search(r"stat::number_of_executed_units: (\d+)", said)[1])
        reached = re.findall(r"cov: \d+ ft: \d+ corp: \S+", said)
        print(f"{name}: {used:.0f} s, {runs} inputs, {runs / used:.0f} in a second; {''.join(reached[-1:])}", flush=True)
        if name in LONG and seconds >= RATE_AFTER_S and runs / used < RATE_LEAST:
            print(f"{name}: it is slower than {RATE_LEAST} inputs in a second", flush=True)
            return False
        return True

    @staticmethod
    def wait(process, seconds):
        """Ends it, as libFuzzer wants to be ended, when it has had its time of the processor; returns how much that was."""
        used = 0
        while (seen := processor_time(process.pid)) is not None:
            used = max(used, seen)
            if used >= seconds:
                process.send_signal(signal.SIGUSR1)
                process.wait(2 * INPUT_S)
                break
            time.sleep(0.1)
        process.wait()
        return max(used, 0.01)

    def keep(self, name):
        """Adds to the corpus what reaches what nothing in it reaches; the smallest come first."""
        corpus, added = FUZZ / "corpus" / name, self.build / "added" / name
        shutil.rmtree(added, ignore_errors=True)
        shutil.copytree(corpus, added)
        self.program(name, "-merge=1", added, self.build / "searched" / name).wait()
        new = sorted((file for file in added.iterdir() if not (corpus / file.name).exists()), key=lambda file: file.stat().st_size)
        new = [file for file in new if file.stat().st_size <= KEPT_BYTES][:KEPT_FILES]
        for file in new:
            shutil.copy(file, corpus / file.name)
        return len(new)


def build(folder, clang):
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.parent / f"{folder.name}.log"
    commands = (["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCOFFER_FUZZ=ON",
                 "-DCOFFER_SANITIZE=address,undefined"], ["cmake", "--build", folder, "--target", "fuzz_all"])
    with open(log, "w") as output:
        for command in commands:
            if subprocess.run(command, stdout=output, stderr=output, env={**os.environ, "CC": clang}).returncode != 0:
                sys.exit("\n".join(log.read_text().splitlines()[-40:]))


def main():
    keeps, long = "--keep" in sys.argv, "--long" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--keep", "--long")]
    if not arguments:
        sys.exit(__doc__)
    folder, clang = pathlib.Path(arguments[0]).resolve(), (arguments[1:] or ["clang-14"])[0]
    seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(1, 1 << 30))
    build(folder, clang)
    (folder / "found").mkdir(exist_ok=True)
    print(f"TEST_SEED={seed}", flush=True)
    names = sorted(file.name.removesuffix("_fuzz.c") for file in FUZZ.glob("*_fuzz.c")
                   if (folder / "tests" / "fuzz" / f"fuzz_{file.name.removesuffix('_fuzz.c')}").exists())
    grown, search = read_grown(), Search(folder, seed)
    seconds = shares(names, grown, long)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # The long ones first, so that nobody waits for one of them at the end.
        order = sorted(names, key=lambda name: -seconds[name])
        whole = dict(zip(order, pool.map(lambda name: search.run(name, seconds[name]), order)))
    if keeps:
        for name in (name for name in names if whole[name]):
            print(f"{name}: {search.keep(name)} inputs more", flush=True)
            if seconds[name] >= GROWN_S:
                grown[name] = digest(name), str(seconds[name])
        GROWN.write_text("# Program, its code when its corpus was grown last, and for how many seconds. Made by search.py --keep.\n"
                         + "".join(f"{name}\t{code}\t{spent}\n" for name, (code, spent) in sorted(grown.items())))
    sys.exit(0 if all(whole.values()) else 1)


main()
