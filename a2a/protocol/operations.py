"""The requests of A2A's operations, how to read them, and how to report their errors (spec BIND).

The shapes are those of A2A's protocol buffers in their JSON form; unknown fields stay. An invalid request raises
`Fault`, which is answered as `a2a.fault`. This module does not know what an operation does; the engine does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, Required

from pydantic import AfterValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..errors import FAULTS
from .messages import A2AFault
from .types import Identifier, JsonObject, Key, Uint

__all__ = [
    "BINDING",
    "DEPTH_MAX",
    "ITEMS_MAX",
    "OPERATIONS",
    "PUSH_OPERATIONS",
    "VERSION",
    "Fault",
    "are_artifacts",
    "are_parts",
    "decode",
    "encode",
    "milliseconds_of",
    "read_request",
    "weight",
]

BINDING = "urn:a2a-coordinator:binding:websocket:v1"
"""The name of this binding in an agent card, and in a message's metadata, of the fields for it alone."""
VERSION = "1.0"
DEPTH_MAX = 100
"""The deepest nesting of a request or a result, the same as in protocol buffers."""
ITEMS_MAX = 65_536
"""The most keys and list items in a request, as in a frame (spec LIMIT-2): everybody waits while it is read."""
_VIOLATIONS_MAX = 8
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
"""In either alphabet, padded or not, as protocol buffers read it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPEN = ConfigDict(extra="allow", strict=True)


class Fault(Exception):
    """An operation that is answered with one of A2A's errors.

    Attributes:
        told: the error to answer with.
    """

    def __init__(
        self,
        code: int,
        detail: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        reason = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=N)(?=P)", "_", FAULTS[code].removesuffix("Error")).upper()
        info: JsonObject = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "a2a-protocol.org",
        }
        data = [info | ({"metadata": dict(facts)} if facts else {})]
        if fields:
            violations = [{"field": name, "description": why} for name, why in fields]
            data.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
        self.told = A2AFault(code, FAULTS[code], detail, data)


# Shapes ---------------------------------------------------------------------------------------------------------------


def _has_one_content(part: JsonObject) -> JsonObject:
    if sum(name in part for name in ("text", "raw", "url", "data")) != 1:
        raise ValueError("a part has one of text, raw, url and data")
    for name in ("text", "raw", "url", "mediaType", "filename"):
        if not isinstance(part.get(name, ""), str):
            raise ValueError(f"{name} is text")
    raw = part.get("raw", "")
    if _BASE64.fullmatch(raw) is None or len(raw.rstrip("=")) % 4 == 1:
        raise ValueError("raw is base64")
    if not isinstance(part.get("metadata", {}), dict):
        raise ValueError("metadata is an object")
    return part


Parts = Annotated[list[Annotated[JsonObject, AfterValidator(_has_one_content)]], Field(min_length=1), FailFast()]
"""The pieces of a message or an artifact (A2A 4.1.6). Only the first of several invalid parts is reported: each costs
more to describe than to read."""
Texts = Annotated[list[str], FailFast()]
"""Only the first invalid text is reported, as with parts."""


class SendConfiguration(TypedDict, total=False):
    """How a message is to be answered (A2A 3.2.2)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    acceptedOutputModes: Texts
    taskPushNotificationConfig: JsonObject
    historyLength: Uint
    returnImmediately: bool


class SentMessage(TypedDict, total=False):
    """A message of a client (A2A 4.1.4)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    messageId: Required[Key]
    role: Required[Literal["ROLE_USER"]]
    parts: Required[Parts]
    contextId: Identifier
    taskId: Identifier
    metadata: JsonObject
    extensions: Texts
    referenceTaskIds: Texts


class SendMessageRequest(TypedDict, total=False):
    """The request of SendMessage and SendStreamingMessage (A2A 3.2.1)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    message: Required[SentMessage]
    configuration: SendConfiguration
    metadata: JsonObject


class GetTaskRequest(TypedDict, total=False):
    """The request of GetTask (A2A 3.1.3)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    id: Required[Identifier]
    historyLength: Uint


class ListTasksRequest(TypedDict, total=False):
    """The request of ListTasks (A2A 3.1.4)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    contextId: str
    status: Literal[
        "TASK_STATE_UNSPECIFIED",
        "TASK_STATE_SUBMITTED",
        "TASK_STATE_WORKING",
        "TASK_STATE_COMPLETED",
        "TASK_STATE_FAILED",
        "TASK_STATE_CANCELED",
        "TASK_STATE_INPUT_REQUIRED",
        "TASK_STATE_REJECTED",
        "TASK_STATE_AUTH_REQUIRED",
    ]
    pageSize: Annotated[int, Field(ge=1, le=100)]
    pageToken: str
    historyLength: Uint
    statusTimestampAfter: str
    includeArtifacts: bool


class TaskRequest(TypedDict, total=False):
    """The request of CancelTask and SubscribeToTask (A2A 3.1.5, 3.1.6)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    id: Required[Identifier]
    metadata: JsonObject


class ShownArtifact(TypedDict, total=False):
    """Something a task produced, as an agent wrote it (A2A 4.1.7)."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    artifactId: Required[Annotated[str, Field(min_length=1)]]
    parts: Required[Parts]
    name: str
    description: str
    metadata: JsonObject
    extensions: Texts


PUSH_OPERATIONS = (
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
)
OPERATIONS: dict[str, Any] = {
    "SendMessage": SendMessageRequest,
    "SendStreamingMessage": SendMessageRequest,
    "GetTask": GetTaskRequest,
    "ListTasks": ListTasksRequest,
    "CancelTask": TaskRequest,
    "SubscribeToTask": TaskRequest,
    **dict.fromkeys(PUSH_OPERATIONS, JsonObject),
    "GetExtendedAgentCard": JsonObject,
}
"""A2A's operations, and the shape of each request (spec BIND-4)."""


@cache
def _adapter(operation: str) -> TypeAdapter[Any]:
    return TypeAdapter(OPERATIONS[operation])


_PARTS: TypeAdapter[Any] = TypeAdapter(Parts)
_ARTIFACT: TypeAdapter[Any] = TypeAdapter(ShownArtifact)


# Reading and writing --------------------------------------------------------------------------------------------------


def read_request(operation: str, version: str, payload: bytes) -> dict[str, Any]:
    """Return an operation's request.

    Raises:
        Fault: the operation does not exist, or not in this version, or the request does not have its form.
    """
    if re.fullmatch(r"1\.0(\.\d+)?", version) is None:
        detail = f"A2A {version or '(no version)'} is not spoken here, {VERSION} is"
        raise Fault(-32009, detail, facts={"requested": version, "supported": VERSION})
    if operation not in OPERATIONS:
        raise Fault(-32601, f"A2A {VERSION} has no operation {operation}, it has {', '.join(OPERATIONS)}")
    if _has_too_many(payload):  # before all of it is built
        raise _too_many(operation)
    try:
        request = decode(payload)
    except ValueError as error:
        raise Fault(-32700, f"the request of {operation} is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise Fault(-32602, f"the request of {operation} is an object, this is {type(request).__name__}")
    if weight(request)[1] > ITEMS_MAX:
        raise _too_many(operation)
    request = _present(request)
    for name in ("message", "configuration"):
        if isinstance(request.get(name), dict):
            request[name] = _present(request[name])
    if isinstance(message := request.get("message"), dict) and "parts" in message:
        message["parts"] = _with_present(message["parts"])
    try:
        _adapter(operation).validate_python(request)
    except ValidationError as error:
        found = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors(include_url=False)]
        described = "; ".join(f"{name}: {why}" for name, why in found[:_VIOLATIONS_MAX])
        raise Fault(-32602, f"{operation}: {described}", fields=found[:_VIOLATIONS_MAX]) from None
    return request


def _has_too_many(payload: bytes) -> bool:
    """Tell whether JSON has too many keys and items, as far as its texts, commas or colons alone show."""
    if len(payload) <= ITEMS_MAX:
        return False
    # A text has two quotes, and a key may have a text as its value.
    if payload.count(b'"') - payload.count(b'\\"') > 4 * ITEMS_MAX:
        return True
    marks = _TEXT.sub(b"", payload)
    return max(marks.count(b","), marks.count(b":")) > ITEMS_MAX


def _too_many(operation: str) -> Fault:
    return Fault(-32602, f"the request of {operation} has more than {ITEMS_MAX} keys and items: send less at once")


_EMPTY = ("contextId", "taskId", "mediaType", "filename")
"""Texts for which protocol buffers do not distinguish empty and absent."""


def _present(known: dict[str, Any], *nullable: str) -> dict[str, Any]:
    """Leave out nulls, and empty texts of that kind: in the JSON of protocol buffers they equal absent fields."""
    return {
        name: value
        for name, value in known.items()
        if (value is not None or name in nullable) and (value != "" or name not in _EMPTY)
    }


def _with_present(parts: Any) -> Any:
    """Leave out of parts the fields that equal absent ones: only `data` may be null."""
    if not isinstance(parts, list):
        return parts
    return [_present(part, "data") if isinstance(part, dict) else part for part in parts]


def are_parts(value: Any) -> bool:
    """Tell whether an agent's value is a non-empty list of A2A Parts."""
    return _is_of_form(_PARTS, _with_present(value))


def are_artifacts(value: Any) -> bool:
    """Tell whether an agent's value is a list of A2A Artifacts."""
    return isinstance(value, list) and all(
        isinstance(one, dict) and _is_of_form(_ARTIFACT, _present(one) | {"parts": _with_present(one.get("parts"))})
        for one in value
    )


def _is_of_form(form: TypeAdapter[Any], value: Any) -> bool:
    try:
        form.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def decode(text: bytes) -> Any:
    """Read JSON that `encode` can write again.

    Raises:
        ValueError: it is not JSON, or not readable in every language: a key repeats, it nests too deep, a number is
            beyond all bounds, or a surrogate stands alone.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"it nests deeper than {DEPTH_MAX}") from None
    if weight(value)[0] > DEPTH_MAX:
        raise ValueError(f"it nests deeper than {DEPTH_MAX}")
    if b"\\u" in text:
        encode(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key repeats")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is beyond all bounds")
    return value


def encode(value: Any) -> bytes:
    """Write JSON.

    Raises:
        ValueError: the value has no JSON form.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def weight(value: Any) -> tuple[int, int]:
    """Return how deep a value nests, and how many keys and items it has in total."""
    depth, items, level = 0, 0, [value]
    while level:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        items += len(inner)
        depth += any(isinstance(one, dict | list) for one in level)
        level = inner
    return depth, items


def milliseconds_of(timestamp: str) -> int:
    """Return a timestamp of A2A in milliseconds since 1970, rounded up.

    Raises:
        ValueError: it is not a timestamp, or not in UTC.
    """
    time = datetime.fromisoformat(timestamp)
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"{timestamp} is not in UTC")
    return -((_EPOCH - time) // timedelta(milliseconds=1))
