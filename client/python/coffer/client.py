"""The client that executors use: references and expressions in, values out."""

from __future__ import annotations

import os
import ssl
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from google.protobuf import duration_pb2

from coffer.channel import Channel, Reply, Stub, Token, token_from_file
from coffer.errors import Code, CofferError, Fault, ResolveError
from coffer.rpc.v1 import reflection_pb2, server_pb2
from coffer.v1 import environment_pb2, identity_pb2, resolve_pb2, secret_pb2, workspace_pb2
from coffer.values import Value

RESOLVE = "coffer.v1.ResolveService/Resolve"
PENDING = ("wait", "poll", "fail")
LEAST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between questions about what is being fetched
LEAST_MASKED = 4  # bytes; shorter values would mask half of a text
MASK = b"***"
_FILES = (environment_pb2, identity_pb2, resolve_pb2, secret_pb2, workspace_pb2, server_pb2, reflection_pb2)
_KNOWN = set(resolve_pb2.Outcome.values())


class Resolved(Mapping[str, Optional[Value]]):
    """What was asked for, by the texts that asked. None: the expression's value is null."""

    def __init__(self, values: Dict[str, Optional[Value]], secrets: Dict[str, Dict[str, Value]],
                 masks: Sequence[Value], consistency_token: str) -> None:
        self._values = values
        #: All values by secret and key, also those of expressions that the workflow engine evaluates.
        self.secrets = secrets
        #: Every value that may not be shown.
        self.masks: List[Value] = list(masks)
        #: The state that the values were read at.
        self.consistency_token = consistency_token

    def __getitem__(self, text: str) -> Optional[Value]:
        return self._values[text]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<resolved: {', '.join(self._values)}>"

    def mask(self, text: Union[str, bytes]) -> Any:
        """The text with every value that has at least 4 bytes replaced by ***, the longest first."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        for value in sorted((mask.bytes for mask in self.masks), key=len, reverse=True):
            if len(value) >= LEAST_MASKED:
                data = data.replace(value, MASK)
        return data.decode("utf-8", "surrogateescape") if isinstance(text, str) else data


class Client:
    """A channel, and what is the same for all calls. Thread-safe.

    Without `addresses` and token the variables COFFER_ADDR, COFFER_TOKEN and COFFER_TOKEN_FILE are asked.
    """

    def __init__(self, addresses: Union[str, Sequence[str], None] = None, *, token: Token = None,
                 token_file: Optional[str] = None, workspace: str = "", environment: str = "",
                 tls: Optional[ssl.SSLContext] = None, timeout: float = 30.0) -> None:
        addresses = addresses or os.environ.get("COFFER_ADDR", "")
        if not addresses:
            raise ValueError("a client needs an address, or the variable COFFER_ADDR")
        if token is None:
            token_file = token_file or os.environ.get("COFFER_TOKEN_FILE")
            token = token_from_file(token_file) if token_file else os.environ.get("COFFER_TOKEN")
        self.channel = Channel(addresses, token=token, tls=tls, timeout=timeout)
        self._workspace, self._environment = workspace, environment
        self._services = {service.full_name: service for file in _FILES
                          for service in file.DESCRIPTOR.services_by_name.values()}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    def service(self, name: str) -> Stub:
        """The methods of a service such as "SecretService"."""
        full = name if name in self._services else f"coffer.v1.{name}"
        if full not in self._services:
            raise ValueError(f"there is no service {name}; there are {', '.join(sorted(self._services))}")
        return Stub(self.channel, self._services[full])

    def resolve(self, *texts: str, environment: Optional[str] = None, workspace: Optional[str] = None,
                workflow_id: str = "", run_id: str = "", action: str = "", consistency_token: str = "",
                min_remaining_validity: Optional[float] = None, timeout: Optional[float] = None,
                pending: str = "wait") -> Resolved:
        """The values of references ("slack.SLACK_BOT_TOKEN") and expressions ("${{ SECRETS.a.K || 'none' }}").

        All of them come from one state. If one cannot be had, nothing is returned: ResolveError says all that is wrong.

        Where a token has to be fetched first, the server waits for it ("wait"), or is asked again when it advises to until the
        time is over ("poll"), which keeps no place there busy, or ResolveError has the reason PENDING at once ("fail").
        """
        if pending not in PENDING:
            raise ValueError(f"pending is one of {', '.join(PENDING)}")
        until = time.monotonic() + (self.channel.timeout if timeout is None else timeout)
        item, references, expressions = self._item(texts, environment, workspace, (workflow_id, run_id, action),
                                                   consistency_token, min_remaining_validity, pending != "wait")
        last = None
        while True:
            try:
                return self._ask(item, references, expressions, max(until - time.monotonic(), 0))
            except CofferError as error:
                if pending != "poll":
                    raise
                last, pause = still_pending(error, last, until)
            time.sleep(pause)

    def _item(self, texts: Sequence[str], environment: Optional[str], workspace: Optional[str], run: Tuple[str, str, str],
              consistency_token: str, min_remaining_validity: Optional[float], allow_pending: bool) -> Any:
        references = [text for text in texts if "${{" not in text]
        expressions = [text for text in texts if "${{" in text]
        item = resolve_pb2.ResolveItem(
            workspace=self._workspace if workspace is None else workspace,
            environments=[self._environment if environment is None else environment],
            references=[_reference(text) for text in references], expressions=expressions,
            run=resolve_pb2.RunContext(workflow_id=run[0], run_id=run[1], action=run[2]),
            consistency_token=consistency_token, allow_pending=allow_pending)
        if min_remaining_validity is not None:
            item.min_remaining_validity.CopyFrom(duration_pb2.Duration(
                seconds=int(min_remaining_validity), nanos=int(min_remaining_validity % 1 * 1e9)))
        return item, references, expressions

    def _ask(self, item: Any, references: Sequence[str], expressions: Sequence[str], timeout: float) -> Resolved:
        reply = self.channel.call(RESOLVE, resolve_pb2.ResolveRequest(items=[item]).SerializeToString(), timeout=timeout)
        results = resolve_pb2.ResolveResponse.FromString(reply.payload).results
        if len(results) != 1 or results[0].item_index != 0:
            raise CofferError(Code.INTERNAL, "REPLY_INVALID", "the server answered what was not asked",
                              request_id=reply.request_id, attempts=reply.attempts)
        return _resolved(results[0], references, expressions, reply)


def still_pending(error: CofferError, last: Optional[CofferError], until: float) -> Tuple[CofferError, float]:
    """What was said of a token that is being fetched, and seconds after which to ask again: those that the server advises,
    within bounds. Raises what is something else, or if there is no time left; then it is still what was said last."""
    if error.reason != "PENDING":
        raise last if last is not None and error.code == Code.DEADLINE_EXCEEDED else error
    pause = min(max(error.retry_after or 0, LEAST_PAUSE), LONGEST_PAUSE)
    if time.monotonic() + pause >= until:
        raise error
    return error, pause


def _reference(text: str) -> Any:
    name, dot, key = text.rpartition(".")
    if not dot or not name or not key:
        raise ValueError("a reference is NAME.KEY, an expression ${{ SECRETS.NAME.KEY }}")
    return resolve_pb2.SecretReference(name=name, key=key)


def _outcome(number: int) -> str:
    return resolve_pb2.Outcome.Name(number).removeprefix("OUTCOME_") if number in _KNOWN else f"UNKNOWN_{number}"


def _fault(fault: Any) -> Fault:
    return Fault(f"{fault.reference.name}.{fault.reference.key}".strip("."), _outcome(fault.outcome), fault.message,
                 tuple(fault.near_misses))


def _check(result: Any, reply: Reply) -> None:
    """Whether the item succeeded is said by its status; an outcome that is not known is an error all the same."""
    unknown = [number for number in result.outcomes if number not in _KNOWN]
    if result.status.code == 0 and not unknown:
        return
    delay = result.status.retry_delay
    raise ResolveError(
        Code.of(result.status.code) if result.status.code else Code.UNKNOWN,
        _outcome(result.status.outcome if result.status.code else unknown[0]),
        result.status.message or "the server tells an outcome that this client does not know; take a newer one",
        [_fault(fault) for fault in result.faults],
        retry_after=delay.seconds + delay.nanos / 1e9 if result.status.HasField("retry_delay") else None,
        request_id=reply.request_id, attempts=reply.attempts)


def _expression(text: str, found: Any) -> List[Tuple[str, Optional[Value]]]:
    """Nothing for one that the workflow engine evaluates: its values stand among the secrets."""
    kind = found.WhichOneof("result")
    if kind == "value":
        return [(text, Value(found.value))]
    return [(text, None)] if kind == "null_value" else []


def _resolved(result: Any, references: Sequence[str], expressions: Sequence[str], reply: Reply) -> Resolved:
    _check(result, reply)
    secrets = {secret.name: {pair.key: Value(pair.value) for pair in secret.values} for secret in result.secrets}
    values: Dict[str, Optional[Value]] = {}
    for text in references:
        name, _, key = text.rpartition(".")
        values[text] = secrets.get(name, {}).get(key)
    for text, found in zip(expressions, result.expressions):
        values.update(_expression(text, found))
    masks = [value for keys in secrets.values() for value in keys.values()]
    masks += [Value(mask) for mask in result.additional_masks]
    return Resolved(values, secrets, masks, result.consistency_token)
