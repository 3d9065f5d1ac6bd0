"""The client for programs with an event loop.

    async with aio.AsyncClient("ipc:///run/coffer/coffer.sock", token_file="executor.token") as client:
        resolved = await client.resolve("slack.SLACK_BOT_TOKEN", environment="prod")

Calls run on threads of the client's own, of which each has a connection while it runs; `threads` bounds both. Whoever is
cancelled stops waiting; a call that was sent ends on its thread, within its timeout.
"""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Awaitable, Callable, Optional

from coffer.client import PENDING, Client, Resolved, still_pending
from coffer.errors import CofferError


class AsyncStub:
    """The methods of a service, each of which is awaited."""

    def __init__(self, client: "AsyncClient", stub: Any) -> None:
        self._client, self._stub = client, stub

    def __repr__(self) -> str:
        return f"<async {self._stub!r}>"

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._stub, name)
        return functools.partial(self._client.run, method)


class AsyncClient:
    """`Client` with methods to await. For one event loop."""

    def __init__(self, *arguments: Any, threads: int = 16, **settings: Any) -> None:
        self.client = Client(*arguments, **settings)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="coffer")

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Calls that run end as they would; new ones are refused."""
        self.client.close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    async def run(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Runs a function that waits on one of the client's threads."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, functools.partial(function, *arguments, **more))

    def service(self, name: str) -> AsyncStub:
        """The methods of a service such as "SecretService"."""
        return AsyncStub(self, self.client.service(name))

    async def resolve(self, *texts: str, timeout: Optional[float] = None, pending: str = "wait", **more: Any) -> Resolved:
        """As `Client.resolve`. With "poll" no thread is kept busy between two questions."""
        if pending not in PENDING:
            raise ValueError(f"pending is one of {', '.join(PENDING)}")
        until = time.monotonic() + (self.client.channel.timeout if timeout is None else timeout)
        once = "fail" if pending == "poll" else pending
        last = None
        while True:
            left = max(until - time.monotonic(), 0)
            try:
                return await self.run(self.client.resolve, *texts, timeout=left, pending=once, **more)
            except CofferError as error:
                if pending != "poll":
                    raise
                last, pause = still_pending(error, last, until)
            await asyncio.sleep(pause)
