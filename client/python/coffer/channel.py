"""Calls of methods: frames, repeats, deadlines, several addresses (docs/protocol.md, sections 2 to 6)."""

from __future__ import annotations

import os
import pathlib
import random
import socket
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from google.protobuf import message_factory

from coffer.connection import Address, Connection, tls_context
from coffer.errors import Code, CofferError, error_of
from coffer.rpc.v1 import frame_pb2

__all__ = ["Channel", "Reply", "Stub", "tls_context", "token_from_file"]

REVISION = 1
TIMEOUTS = (TimeoutError, socket.timeout)  # one and the same from Python 3.10 on
IDLE_CONNECTIONS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
PATIENCE = 0.25  # seconds beyond the time that the server was given
LEAST_ATTEMPT = 1.0
USER_AGENT = b"coffer-python/0.1.0"

Token = Union[str, bytes, Callable[[], Union[str, bytes]], None]
Metadata = Iterable[Tuple[str, Union[str, bytes]]]


def uuid7() -> uuid.UUID:
    """RFC 9562: 48 bits of milliseconds, the version, random bits."""
    raw = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(raw))


def token_from_file(path: Union[str, "os.PathLike[str]"]) -> Callable[[], bytes]:
    """Reads the token anew for each call, so that a rotated one is taken."""
    return lambda: pathlib.Path(path).read_bytes().strip()


@dataclass(frozen=True)
class Reply:
    """The answer to a call."""

    payload: bytes
    request_id: uuid.UUID
    attempts: int
    server_time: float  # seconds

    def __repr__(self) -> str:
        return f"<reply of {len(self.payload)} bytes to {self.request_id}>"


class _Server:
    """An address and its idle connections."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: List[Connection] = []
        self._lock = threading.Lock()

    def take(self) -> Optional[Connection]:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def give_back(self, connection: Connection) -> None:
        connection.used = True
        with self._lock:
            if len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class _Call:
    """What stays the same over all attempts of a call, and what became of them."""

    def __init__(self, method: str, payload: bytes, metadata: Metadata, timeout: float,
                 request_id: Optional[uuid.UUID]) -> None:
        self.method, self.payload, self.metadata = method, payload, list(metadata)
        self.deadline = time.monotonic() + timeout
        self.request_id = request_id or uuid7()
        self.attempts = 0  # that were sent
        self.tries = 0  # also those that found no server
        self.failure: Optional[CofferError] = None
        self.not_before: Dict[int, float] = {}

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def fail(self, code: Code, reason: str, message: str) -> None:
        self.failure = CofferError(code, reason, message, request_id=self.request_id, attempts=self.attempts)

    def frame(self, timeout: float) -> bytes:
        entries = [frame_pb2.MetadataEntry(key=key, value=value.encode() if isinstance(value, str) else value)
                   for key, value in self.metadata]
        return frame_pb2.RequestFrame(
            revision=REVISION, method=self.method, payload=self.payload, timeout_ms=max(1, int(timeout * 1000)),
            request_id=self.request_id.bytes, attempt=self.attempts, metadata=entries).SerializeToString()


class Channel:
    """Calls methods of a server, or of whichever of several answers. Thread-safe.

    A call that gets no answer is repeated by itself with the same request ID, so that a write happens once, until its time is
    over. Threads that call at the same time have a connection each.
    """

    def __init__(self, addresses: Union[str, Sequence[str]], *, token: Token = None,
                 tls: Optional[ssl.SSLContext] = None, timeout: float = 30.0,
                 max_response_bytes: int = 4 << 20) -> None:
        texts = addresses.split(",") if isinstance(addresses, str) else list(addresses)
        self._servers = [_Server(Address(text.strip())) for text in texts]
        if not self._servers:
            raise ValueError("a channel needs an address")
        self._token, self._tls, self._timeout, self._largest = token, tls, timeout, max_response_bytes
        self._first = 0  # the server that answered last
        self._closed = False

    @property
    def timeout(self) -> float:
        """Seconds for a call that names no other time."""
        return self._timeout

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Calls that run end as they would; new ones are refused."""
        self._closed = True
        for server in self._servers:
            server.close()

    # --- Calls

    def unary_unary(self, method: str, request_serializer: Optional[Callable[[Any], bytes]] = None,
                    response_deserializer: Optional[Callable[[bytes], Any]] = None, **_: Any) -> Callable[..., Any]:
        """A callable for the method, as stubs that grpc's generator makes ask for it."""
        serialize = request_serializer or bytes
        deserialize = response_deserializer or bytes

        def call(request: Any, timeout: Optional[float] = None, metadata: Metadata = (), **more: Any) -> Any:
            reply = self.call(method.lstrip("/"), serialize(request), timeout=timeout, metadata=metadata,
                              request_id=more.get("request_id"))
            return deserialize(reply.payload)
        return call

    def call(self, method: str, payload: bytes, *, timeout: Optional[float] = None, metadata: Metadata = (),
             request_id: Optional[uuid.UUID] = None) -> Reply:
        """Calls "package.Service/Method" with a serialized request and waits for the answer.

        `timeout` is in seconds and for all attempts together. `request_id` repeats an earlier call, to learn whether a write
        happened; without it every call has a new one.
        """
        if self._closed:
            raise CofferError(Code.CANCELLED, "CLIENT_CLOSED", "the channel was closed; open another")
        call = _Call(method, payload, [*metadata, *self._own_metadata()], self._timeout if timeout is None else timeout,
                     request_id)
        index = self._first
        while True:
            self._pause(call, index)
            reply, again = self._attempt(call, index)
            if reply is not None:
                self._first = index
                return reply
            index = index if again else (index + 1) % len(self._servers)

    def _own_metadata(self) -> List[Tuple[str, Union[str, bytes]]]:
        try:
            token = self._token() if callable(self._token) else self._token
        except OSError as error:
            raise CofferError(Code.UNAUTHENTICATED, "TOKEN_MISSING",
                              f"the file of the token cannot be read: {error.strerror}; check its path and owner") from None
        own: List[Tuple[str, Union[str, bytes]]] = [("user-agent", USER_AGENT)]
        if token:
            own.append(("authorization", b"Bearer " + (token.encode() if isinstance(token, str) else token)))
        return own

    def _pause(self, call: _Call, index: int) -> None:
        """Waits as long as it must before the next attempt; raises if there is no time left for one."""
        rounds = call.tries // len(self._servers)
        pause = 0.0
        if rounds > 0:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(rounds - 1, 16)) * random.uniform(0.5, 1)
        pause = max(pause, call.not_before.get(index, 0) - time.monotonic())
        if call.left() <= max(pause, 0):
            if call.failure is None or call.failure.reason == "DEADLINE_EXCEEDED":
                call.fail(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the time for the call is over; allow it more time")
            assert call.failure is not None
            raise call.failure
        if pause > 0:
            time.sleep(pause)

    def _attempt(self, call: _Call, index: int) -> Tuple[Optional[Reply], bool]:
        """The reply, or None if another attempt may help; and whether that is to be made at the same address."""
        server = self._servers[index]
        limit = call.left()
        if len(self._servers) > 1:
            limit = min(limit, max(limit / 2, LEAST_ATTEMPT))
        until = time.monotonic() + limit + PATIENCE
        connection = server.take()
        stale = connection is not None  # it may have been closed while nobody used it
        call.tries += not stale
        try:
            if connection is None:
                connection = Connection(server.address, time.monotonic() + limit, self._tls, self._largest)
            frame = self._exchange(connection, call, limit, until)
        except OSError as error:
            if connection is not None:
                connection.close()
            self._note_lost(call, error)
            return None, stale and not isinstance(error, TIMEOUTS)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        server.give_back(connection)
        return self._judge(call, frame, index), False

    @staticmethod
    def _note_lost(call: _Call, error: OSError) -> None:
        if isinstance(error, TIMEOUTS):
            call.fail(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the server did not answer in time; allow it more time")
        else:
            what = error.strerror or str(error) or type(error).__name__
            call.fail(Code.UNAVAILABLE, "NOT_CONNECTED", f"no server could be reached: {what}; check address and server")

    @staticmethod
    def _exchange(connection: Connection, call: _Call, limit: float, until: float) -> Any:
        frame = frame_pb2.ResponseFrame()
        number = connection.send(call.frame(limit), until)
        call.attempts += 1
        while True:
            data = connection.receive(number, until)
            try:
                frame.ParseFromString(data)
            except Exception:  # protobuf's DecodeError is no OSError, and could show what it read
                raise ConnectionError("the server's answer cannot be decoded") from None
            if frame.request_id == call.request_id.bytes:
                return frame

    def _judge(self, call: _Call, frame: Any, index: int) -> Optional[Reply]:
        if frame.code == 0:
            return Reply(frame.payload, call.request_id, call.attempts, frame.server_time_us / 1e6)
        error = error_of(frame, call.request_id, call.attempts)
        busy = error.code == Code.RESOURCE_EXHAUSTED and error.retry_after is not None
        late = error.code == Code.DEADLINE_EXCEEDED and call.left() > FIRST_PAUSE and len(self._servers) > 1
        if error.code != Code.UNAVAILABLE and not busy and not late:
            raise error
        call.failure = error
        call.not_before[index] = time.monotonic() + (error.retry_after or 0)
        return None


class Stub:
    """The methods of a service, by its generated descriptor:

        secrets = Stub(channel, secret_pb2.DESCRIPTOR.services_by_name["SecretService"])
        secrets.GetSecret(secret_pb2.GetSecretRequest(name="slack"), timeout=5)
    """

    def __init__(self, channel: Channel, service: Any) -> None:
        self._service = service
        for method in service.methods:
            setattr(self, method.name, channel.unary_unary(
                f"{service.full_name}/{method.name}", lambda request: request.SerializeToString(),
                _class_of(method.output_type).FromString))

    def __repr__(self) -> str:
        return f"<stub of {self._service.full_name}>"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"{self._service.full_name} has no method {name}")


def _class_of(descriptor: Any) -> Any:
    """The generated class of a message, which older protobuf has under a name of its own."""
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return descriptor._concrete_class
