"""A provider and callers, each in processes of their own, for as many tokens and calls as one process would be too slow for.

The connections are of USER class and lie in environments of their own, named like the tokens: the refresh token of use N is
`NAME-N`, the access token that it brings `access-NAME-N+1`. Before that they have `old-NAME`, which ends at a known time.
"""

import asyncio
import collections
import functools
import json
import multiprocessing
import random
import socket
import time
import urllib.parse

from cofferd import references
from sp_client import SCHEMA, Connection, decode, encode

CONNECTION, RESOLVE = "coffer.v1.ConnectionService/", "coffer.v1.ResolveService/Resolve"
SECRET = b"the client secret 5c1d"
WRITERS, WRITTEN_AT_ONCE = 4, 32
TIMEOUT_MS = 60000
RETRIED = ("PROVIDER_UNAVAILABLE", "DEADLINE_EXCEEDED")  # of an item
FORK = multiprocessing.get_context("fork")


class Provider:
    """Rotates refresh tokens; one that is used a second time is dead."""

    def __init__(self, tls):
        self.tls, self.listener, self.teller = tls, *(socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2))
        self.port = self.listener.getsockname()[1]
        self.life = FORK.Value("i", 3600)
        self.uses, self.dead, self.ends = collections.Counter(), 0, {}
        self.process = FORK.Process(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.process.start()

    def entry(self, name="acme"):
        """For a file of providers."""
        return (f"providers:\n  - id: {name}\n    name: Acme\n    documentation: https://acme.example/docs\n"
                f"    authorization_endpoint: https://acme.example/authorize\n"
                f"    token_endpoint: https://localhost:{self.port}/token\n    user: {{scopes: [read]}}\n"
                "    client_authentication: [client_secret_post]\n    tokens: {refresh: rotates}\n")

    def tell(self):
        """`uses`: {name: calls}; `dead`: how many of them came with a refresh token that was used up; `ends`: {access token:
        when it ends, by the monotonic clock}."""
        with socket.create_connection(self.teller.getsockname(), 90) as connection, connection.makefile() as answer:
            return json.load(answer)

    def calls(self):
        return sum(self.tell()["uses"].values())

    def close(self):
        self.process.terminate()
        self.process.join()
        for listener in (self.listener, self.teller):
            listener.close()

    async def _serve(self):
        async with await asyncio.start_server(self._tell, sock=self.teller):
            async with await asyncio.start_server(self._answer, sock=self.listener, ssl=self.tls, backlog=4096) as server:
                await server.serve_forever()

    async def _tell(self, _, writer):
        writer.write(json.dumps({"uses": self.uses, "dead": self.dead, "ends": self.ends}).encode())
        await writer.drain()
        writer.close()

    async def _answer(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return  # whoever came had no time any more
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        status, body = self._exchange(dict(urllib.parse.parse_qsl((await reader.readexactly(length)).decode())))
        text = json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        await writer.drain()
        writer.close()

    def _exchange(self, form):
        name, _, use = form["refresh_token"].rpartition("-")
        if int(use) != self.uses[name]:
            self.uses[name] += 1
            self.dead += 1
            return 400, {"error": "invalid_grant"}
        self.uses[name] += 1
        token, life = f"access-{name}-{self.uses[name]}", self.life.value
        self.ends[token] = time.monotonic() + life
        return 200, {"access_token": token, "refresh_token": f"{name}-{self.uses[name]}", "expires_in": life}


def in_processes(functions):
    """What the functions return, each in a process of its own, all at once."""
    def run(function, pipe):
        try:
            pipe.send(function())
        except BaseException as error:
            pipe.send(error)
            raise

    pipes, processes = [], []
    for function in functions:
        near, far = FORK.Pipe()
        processes.append(FORK.Process(target=run, args=(function, far), daemon=True))
        processes[-1].start()
        pipes.append(near)
    found = [pipe.recv() for pipe in pipes]
    for process, pipe in zip(processes, pipes):
        process.join()
        pipe.close()
    for error in found:
        if isinstance(error, BaseException):
            raise error
    return found


def write_all(address, writes):
    """Makes the calls (method, request, token), so many at once, and returns those that were refused."""
    numbers, refused = collections.deque(), []

    def take():
        answer = connection.receive(numbers.popleft())
        if answer.code:
            refused.append(repr(answer))

    with Connection(address) as connection:
        for method, request, token in writes:
            numbers.append(connection.send(CONNECTION + method, request, token=token, timeout_ms=TIMEOUT_MS))
            if len(numbers) == WRITTEN_AT_ONCE:
                take()
        while numbers:
            take()
    return refused


def write(addresses, writes):
    """The same by several processes; all must be taken."""
    refused = in_processes(functools.partial(write_all, addresses[i % len(addresses)], writes[i::WRITERS])
                           for i in range(WRITERS))
    assert not any(refused), [texts[0] for texts in refused if texts]


def configured(names, token_of):
    return [("ConfigureConnection", {"provider": "acme", "grant": "CONNECTION_GRANT_REFRESH_TOKEN", "client_id": "client",
                                     "credential": {"client_secret": SECRET}, "environment": name}, token_of(name))
            for name in names]


def given_tokens(ends, token_of):
    """`ends`: {name: when its access token ends, in seconds}; None: it has none."""
    return [("SetConnectionTokens", {
        "provider": "acme", "environment": name, "refresh_token": f"{name}-0".encode(),
        **({} if end is None else {"access_token": f"old-{name}".encode(), "expire_time": {
            "seconds": int(end), "nanos": int(end % 1 * 1e9)}})}, token_of(name)) for name, end in ends.items()]


def outcome_of(payload):
    result, = decode(SCHEMA.method(RESOLVE)[1], payload)["results"]
    return result["status"]["outcome"].removeprefix("OUTCOME_")


class Caller:
    """Asks for every token until it has got the new one, a few at once, in an order of its own."""

    def __init__(self, address, seed, ends, token_of, at_once, more):
        self.address, self.ends, self.token_of, self.at_once, self.more = address, ends, token_of, at_once, more
        names = list(ends)
        random.Random(seed).shuffle(names)
        self.left, self.asked = collections.deque(names), collections.deque()
        self.counts, self.wrong = collections.Counter(), []

    def run(self):
        """({what came: how often}, what is wrong)"""
        with Connection(self.address) as connection:
            while (self.left or self.asked) and len(self.wrong) < 10:
                if self.left and len(self.asked) < self.at_once:
                    self._ask(connection, self.left.popleft())
                else:
                    self._take(connection, *self.asked.popleft())
        return dict(self.counts), self.wrong

    def _ask(self, connection, name):
        item = {"environments": [name], "references": references("acme_oauth.ACME_USER_TOKEN"), **self.more}
        payload = encode(SCHEMA.method(RESOLVE)[0], {"items": [item]})
        time_of_call = time.time()
        number = connection.send(RESOLVE, token=self.token_of(name), timeout_ms=TIMEOUT_MS, payload=payload)
        self.asked.append((name, number, time_of_call))

    def _take(self, connection, name, number, asked):
        answer = connection.receive(number)
        kind = self._kind(name, answer, asked)
        self.counts[kind] += 1
        if kind != "fresh":
            self.left.append(name)
        if kind in ("BUSY", *RETRIED):
            time.sleep(0.02)

    def _kind(self, name, answer, asked):
        if f"access-{name}-1".encode() in answer.payload:
            return "fresh"
        if f"old-{name}".encode() in answer.payload:
            if asked >= self.ends[name]:
                self.wrong.append(f"the old token of {name} was handed out {asked - self.ends[name]:.3f} s after its end")
            return "old"
        if answer.code:
            kind = "BUSY" if answer.reason == "SERVER_BUSY" else answer.reason
        else:
            kind = outcome_of(answer.payload)
        if kind not in ("BUSY", *RETRIED):
            self.wrong.append(f"{name}: {kind} {answer}")
        return kind


def run_callers(addresses, callers, ends, token_of, at_once, **more):
    """What so many callers got, each over one of the servers; nothing may be wrong."""
    found = in_processes(Caller(addresses[i % len(addresses)], i, ends, token_of, at_once, more).run
                         for i in range(callers))
    counts = collections.Counter()
    for counted, wrong in found:
        assert not wrong, wrong
        counts.update(counted)
    return counts
