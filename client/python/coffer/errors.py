"""What can go wrong: codes, reasons, and the exceptions that carry them."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from importlib import resources
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


class Code(enum.IntEnum):
    """The codes of google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def of(cls, number: int) -> "Code":
        """UNKNOWN for a number that this client does not know."""
        return cls(number) if number in cls._value2member_map_ else cls.UNKNOWN


class CofferError(Exception):
    """A call that failed. Its texts hold no value of a secret.

    Act on `reason` (docs/errors.md), and on one that you do not know on `code`.
    """

    def __init__(self, code: Code, reason: str, message: str, *, facts: Optional[Mapping[str, str]] = None,
                 fields: Sequence[Tuple[str, str]] = (), retry_after: Optional[float] = None,
                 request_id: Optional[uuid.UUID] = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.facts: Dict[str, str] = dict(facts or {})
        #: The wrong fields of the request: path and what is wrong.
        self.fields: List[Tuple[str, str]] = list(fields)
        #: Seconds to wait before a repeat; None: a repeat may not help.
        self.retry_after = retry_after
        #: The call's ID: a repeat with it tells whether a write happened, and the server's log has it.
        self.request_id = request_id
        #: How often the call was sent.
        self.attempts = attempts

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name}, request {self.request_id})"


@dataclass(frozen=True)
class Fault:
    """One reference or expression that has no value."""

    reference: str
    outcome: str
    message: str
    near_misses: Tuple[str, ...] = ()


class ResolveError(CofferError):
    """The call succeeded, but not all that was asked for can be had; `reason` is the worst outcome."""

    def __init__(self, code: Code, reason: str, message: str, faults: Sequence[Fault], **more: Any) -> None:
        super().__init__(code, reason, message, **more)
        self.faults: List[Fault] = list(faults)


def _details_pool() -> Any:
    """The messages that Coffer shares with others, in a pool of their own: another package may have them, too."""
    data = resources.files("coffer").joinpath("details.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _details_pool()


def _message_class(name: str) -> Any:
    descriptor = _POOL.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    factory: Any = message_factory.MessageFactory(_POOL)  # before protobuf 4.22
    return factory.GetPrototype(descriptor)


HealthCheckRequest = _message_class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _message_class("grpc.health.v1.HealthCheckResponse")
_DETAILS = {name: _message_class(name) for name in
            ("google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo")}


def error_of(frame: Any, request_id: uuid.UUID, attempts: int) -> CofferError:
    """The error that a response frame tells."""
    reason, facts, retry_after = "", {}, None
    fields: List[Tuple[str, str]] = []
    for detail in frame.details:
        name = detail.type_url.rpartition("/")[2]
        if name not in _DETAILS:
            continue
        body = _DETAILS[name].FromString(detail.value)
        if name == "google.rpc.ErrorInfo":
            reason, facts = body.reason, dict(body.metadata)
        elif name == "google.rpc.BadRequest":
            fields = [(one.field, one.description) for one in body.field_violations]
        else:
            retry_after = body.retry_delay.seconds + body.retry_delay.nanos / 1e9
    return CofferError(Code.of(frame.code), reason, frame.message, facts=facts, fields=fields, retry_after=retry_after,
                       request_id=request_id, attempts=attempts)
