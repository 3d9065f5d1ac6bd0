#!/usr/bin/env python3
"""How long one preflight takes: a list of actions over many environments, in one request.

  preflight_bench.py [ACTIONS [ENVIRONMENTS [ROUNDS]]]      500, 200 and 5 if they are not given

Each action needs one to three of a hundred secrets, as actions of a workflow do; one secret of twenty is missing. Then the
same with a hundred names that are nowhere, so that everything fails, and all its pages. Prints medians in milliseconds,
with the processor's time that cofferd and PostgreSQL took, and checks the counts. COFFER_BUILD names the build; a figure
that counts needs a release build and a quiet machine.
"""

import os
import pathlib
import random
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from cofferd import NO_CACHE, Dev  # noqa: E402

SECRETS = 100
MISSING = 0.05
AT_ONCE = 1000  # secrets in an import
RESOLVE = "coffer.v1.ResolveService/Resolve"


TICK = os.sysconf("SC_CLK_TCK")


def processor_ms(parents):
    """What these processes and their children have taken of the processors, in milliseconds."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(pid) in parents or int(rest[1]) in parents:
            ticks += int(rest[11]) + int(rest[12])
    return ticks * 1000 / TICK


class Stand:
    def __init__(self, actions, environments):
        self.dev = Dev(**NO_CACHE)
        self.connection = self.dev.connect()
        self.environments = [f"{index:012}" for index in range(environments)]
        chosen = random.Random(1)
        self.needs = [chosen.sample(range(SECRETS), chosen.randint(1, 3)) for _ in range(actions)]
        self.present = {(e, s) for e in self.environments for s in range(SECRETS) if chosen.random() >= MISSING}

    def call(self, method, request):
        answer = self.connection.call(method, request, token=self.dev.admin, timeout_ms=60000)
        assert answer.code == 0, answer
        return answer.message

    def store(self):
        secrets = [{"environment": e, "name": f"secret_{s}", "values": [{"key": "API_KEY", "value": b"x" * 40}]}
                   for e, s in sorted(self.present)]
        for first in range(0, len(secrets), AT_ONCE):
            self.call("coffer.v1.SecretService/ImportSecrets", {"secrets": secrets[first:first + AT_ONCE]})

    def register(self, prefix, name):
        actions = [{"name": f"{prefix}.a{index}", "declarations": {"secrets": [
            {"name": f"{name}_{secret}", "keys": ["API_KEY"]} for secret in needs]}} for index, needs in enumerate(self.needs)]
        self.call("coffer.v1.IntegrationService/RegisterActions", {"actions": actions})

    def page(self, prefix, token=""):
        items = [{"action": f"{prefix}.a{index}"} for index in range(len(self.needs))]
        begun = time.monotonic()
        message = self.call(RESOLVE, {"items": items, "environments": self.environments, "validate_only": True,
                                      "page_size": 1000, "page_token": token})
        return (time.monotonic() - begun) * 1000, message

    def expected(self):
        failed = sum(any((e, s) not in self.present for s in needs) for needs in self.needs for e in self.environments)
        return {"failed": failed, "resolved": len(self.needs) * len(self.environments) - failed}


def main():
    actions, environments, rounds = [*map(int, sys.argv[1:]), *(500, 200, 5)[len(sys.argv) - 1:]]
    stand = Stand(actions, environments)
    try:
        stand.store()
        stand.register("tools", "secret")
        stand.register("none", "nowhere")
        stand.dev.sql("vacuum analyze")
        stand.page("tools")
        times, counts = [], None
        postmaster = int(next(stand.dev.directory.rglob("postmaster.pid")).read_text().split()[0])
        processes = {stand.dev.server.process.pid, postmaster}
        before = processor_ms(processes)
        for _ in range(rounds):
            took, message = stand.page("tools")
            times.append(took)
            counts = message["counts"]
        taken = (processor_ms(processes) - before) / rounds
        assert counts == stand.expected(), (counts, stand.expected())
        print(f"{actions} actions x {environments} environments, {counts}: first page {statistics.median(times):.0f} ms "
              f"(of {', '.join(f'{one:.0f}' for one in sorted(times))}), {taken:.0f} ms of processors")
        pages, results, token = [], 0, ""
        while not pages or token:
            took, message = stand.page("none", token)
            pages.append(took)
            results += len(message["results"])
            token = message["next_page_token"]
        assert results == message["counts"]["failed"] == actions * environments, (results, message["counts"])
        print(f"everything fails: {len(pages)} pages, the first {pages[0]:.0f} ms, "
              f"those that follow {statistics.median(pages[1:] or [0]):.0f} ms each, all {sum(pages) / 1000:.1f} s")
    finally:
        stand.connection.close()
        stand.dev.close()


if __name__ == "__main__":
    main()
