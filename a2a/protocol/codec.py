"""Bytes to frames and back, in both encodings, with every limit on size, depth and count.

A frame is an envelope and a message. A WebSocket message carries one or more frames: concatenated MessagePack maps, or
one JSON object a line. Decoding never raises: unreadable input becomes a `BadFrame` that says which error to answer
with, and whether the connection can go on. This is the only file that knows msgpack; it does not know sessions.
"""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, cast

import msgpack
from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import SchemaValidator

from ..errors import ErrorCode
from .canonical import NUMBER_MAX
from .messages import KINDS, Message, Struct, Unknown
from .types import PATTERNS

__all__ = [
    "JSON",
    "MSGPACK",
    "SUBPROTOCOLS",
    "BadFrame",
    "Decoder",
    "Encoding",
    "Frame",
    "FrameLimits",
    "aside",
    "encode",
    "maps_of",
    "pack",
    "unpack",
    "without_form",
]

Encoding = Literal["a2a.coord+msgpack", "a2a.coord+json"]
MSGPACK: Encoding = "a2a.coord+msgpack"
JSON: Encoding = "a2a.coord+json"
SUBPROTOCOLS: tuple[Encoding, ...] = (MSGPACK, JSON)
"""WebSocket subprotocols, best first. They name only the encoding; the handshake agrees on the version."""

_LIFTED = {"task": "task", "fence": "fence", "generation": "gen", "payload": "payload"}
"""Message fields that travel in the envelope, and their names there."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """The limits of a decoder (spec LIMIT-2). The answer to input that exceeds one is `too_large`.

    Input that cannot be delimited also ends the connection; a payload that is too large is refused alone.
    """

    message_max_bytes: int = 4 * 1024 * 1024
    """Bytes in one WebSocket message. A task with a megabyte each way fits; memory for one peer stays small."""
    payload_max_bytes: int = 2 * 1024 * 1024
    frames_max: int = 1024
    """Frames in one message."""
    depth_max: int = 32
    """Nesting of the envelope and body. Payloads are opaque, so the nesting of users' data does not count."""
    items_max: int = 65_536
    """Keys and list items in one message: without this limit, a megabyte of nested brackets costs 0.4 s."""


@dataclass(slots=True)
class Frame:
    """A message with its envelope."""

    id: str
    message: Message
    re: str | None = None
    """The id of the request this answers."""
    sender: str | None = None
    """Set by the coordinator, which ignores what a peer writes here."""
    to: str | None = None
    mseq: int | None = None
    """Position in the receiver's mailbox; absent on frames that did not come through it."""
    ttl_ms: int | None = None
    """Time left for the frame, as the sender sees it; durations need no common clock."""
    trace: str | None = None
    ext: dict[str, Any] | None = None
    must: bool = False
    """Whether a receiver that does not know the kind has to give up rather than go on."""
    slack_ms: int | None = None
    """For how long the sender can do without the reply (spec RPC-7)."""


@dataclass(slots=True)
class BadFrame:
    """Input that was not a frame."""

    code: ErrorCode
    detail: str
    fatal: bool
    """Whether the rest of the message cannot be trusted: answer, then close."""
    id: str | None = None
    """The frame's id, if it could be read."""
    kind: str | None = None


class _Refusal(Exception):
    def __init__(self, code: ErrorCode, detail: str, *, fatal: bool) -> None:
        super().__init__(detail)
        self.code, self.detail, self.fatal = code, detail, fatal


# Encoding -------------------------------------------------------------------------------------------------------------

_Plan = tuple[tuple[str, str, bool, bool, bool], ...]


_plans: dict[type, _Plan] = {}


def _plan(kind: type) -> _Plan:
    """Return for each field: attribute, wire name, in the envelope?, made of structs?, absent when empty?"""
    known = _plans.get(kind)
    if known is not None:
        return known
    hints = typing.get_type_hints(kind)
    plan = _plans[kind] = tuple(
        (
            item.name,
            _LIFTED.get(item.name, to_camel(item.name)) if issubclass(kind, Message) else to_camel(item.name),
            issubclass(kind, Message) and item.name in _LIFTED,
            _has_struct(hints[item.name]),
            item.default_factory is not MISSING,
        )
        for item in fields(kind)
    )
    return plan


def _has_struct(hint: Any) -> bool:
    if isinstance(hint, type) and is_dataclass(hint):
        return True
    return any(_has_struct(argument) for argument in typing.get_args(hint))


def _plain(value: Any) -> Any:
    """Turn structs, alone or in a list, into values that the encoders know."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Struct | Message):
        return value
    plain: dict[str, Any] = {}
    for attribute, name, _, nested, skip_empty in _plan(type(value)):
        item = getattr(value, attribute)
        if item is None or (skip_empty and not item):
            continue
        plain[name] = _plain(item) if nested else item
    return plain


def _to_map(frame: Frame) -> dict[str, Any]:
    message = frame.message
    out: dict[str, Any] = {"id": frame.id, "kind": message.kind}
    if frame.re is not None:
        out["re"] = frame.re
    if frame.sender is not None:
        out["from"] = frame.sender
    if frame.to is not None:
        out["to"] = frame.to
    if frame.mseq is not None:
        out["mseq"] = frame.mseq
    if frame.ttl_ms is not None:
        out["ttlMs"] = frame.ttl_ms
    if frame.slack_ms is not None:
        out["slackMs"] = frame.slack_ms
    if frame.trace is not None:
        out["trace"] = frame.trace
    if frame.ext:
        out["ext"] = frame.ext
    if frame.must:
        out["must"] = True
    if type(message) is Unknown:
        return out | {"kind": message.name, "body": message.body}
    body: dict[str, Any] = {}
    for attribute, name, lifted, nested, skip_empty in _plans.get(type(message)) or _plan(type(message)):
        item = getattr(message, attribute)
        if item is None or (skip_empty and not item):
            continue
        if nested:
            item = _plain(item)
            if skip_empty and not item:
                continue
        (out if lifted else body)[name] = item
    out["body"] = body
    return out


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"a frame cannot carry {type(value).__name__}")


_pack: Callable[[Any], bytes] = (
    msgpack.packb if msgpack.Packer.__module__ == "msgpack.fallback" else msgpack.Packer().pack
)
"""Encode a value. This packer is made once, where `msgpack.packb` makes one per call: a compiled packer runs no Python
between the first byte and the last, so that threads can take turns with it. If only the Python one is available,
`packb` is used."""
_JSON_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_text)
"""Made once: `json.dumps` makes an encoder per call unless all its options are the defaults."""


UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""The errors that `encode` raises for a value without a form on the wire."""


def without_form(frame: Frame) -> str:
    """Return the first field of a frame that has no form on the wire, with its value; an empty text if all have one."""
    told = _to_map(frame)
    try:
        return _without_form(told | told.pop("body"), "")
    except RecursionError:
        return ""


def _without_form(value: Any, where: str) -> str:
    if isinstance(value, dict):
        inside: Iterable[tuple[Any, Any]] = value.items()
        if (odd := next((name for name in value if not isinstance(name, str)), None)) is not None:
            return f"{where}: expected a text for a key, got {odd!r:.200}"
    elif isinstance(value, list | tuple):
        inside = enumerate(value)
    else:
        wanted = _wanted(value)
        # A text is not shown, because it may be a secret.
        came = "one" if isinstance(value, str) else f"{value!r:.200}"
        return f"{where}: expected {wanted}, got {came}" if wanted else ""
    found = (_without_form(item, f"{where}.{name}" if where else str(name)) for name, item in inside)
    return next(filter(None, found), "")


def _wanted(value: Any) -> str:
    """Return what was expected in place of a value without a form in every language and both encodings."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text without a lone surrogate"
    elif isinstance(value, int):
        return "" if -NUMBER_MAX <= value <= NUMBER_MAX else f"a number up to {NUMBER_MAX}"
    elif isinstance(value, float):
        return "" if math.isfinite(value) else "a finite number"
    elif value is not None and not isinstance(value, bytes):
        return "what JSON has"
    return ""


def encode(frames: Iterable[Frame], encoding: Encoding) -> bytes:
    """Encode frames as one WebSocket message.

    Raises:
        UNENCODABLE: a field has a value without a form on the wire: a bug on this side.
    """
    if encoding == MSGPACK:
        return b"".join([_pack(_to_map(frame)) for frame in frames])
    return "\n".join([_JSON_ENCODER.encode(_to_map(frame)) for frame in frames]).encode()


# Decoding -------------------------------------------------------------------------------------------------------------


_Validate = Callable[[object], Message]

_readers: dict[type, tuple[_Validate, tuple[tuple[str, str], ...]]] = {}
"""Message class to its validator, and the (field, envelope name) pairs that come from the envelope."""


def _reader(kind: type[Message]) -> tuple[_Validate, tuple[tuple[str, str], ...]]:
    known = _readers.get(kind)
    if known is not None:
        return known
    lifted = tuple((item.name, _LIFTED[item.name]) for item in fields(kind) if item.name in _LIFTED)  # type: ignore[arg-type]
    # Built when a kind is first met: building all at once would slow down every start.
    reader = _readers[kind] = (SchemaValidator(_exact(TypeAdapter(kind).core_schema)).validate_python, lifted)
    return reader


def _exact(schema: Any) -> Any:
    """Make numbers and booleans strict (spec WIRE-8): by default, pydantic reads `"3"` as 3, and 1 as true."""
    if isinstance(schema, dict):
        exact = {name: _exact(part) for name, part in schema.items()}
        return exact | {"strict": True} if schema.get("type") in ("int", "float", "bool") else exact
    if isinstance(schema, list | tuple):
        return type(schema)(_exact(part) for part in schema)
    return schema


_UNPACKER_KEPT_BYTES = 64 * 1024
"""The largest message after which the unpacker is kept for the next: its buffer never shrinks."""


class Decoder:
    """Turns messages into frames, one message at a time: those of one connection, or all that one thread reads."""

    def __init__(self, encoding: Encoding, limits: FrameLimits | None = None) -> None:
        self.encoding = encoding
        self.limits = limits or FrameLimits()
        self._items = 0
        self._containers = 0
        self._unpacker: Any = None
        """Kept from message to message: it has 41 kB, which have to be cleared to make one. One per message cost a
        quarter of all unpacking, and more with cold processor caches."""
        self._json_decoder = json.JSONDecoder(object_pairs_hook=self._pairs, parse_constant=_no_constant)

    def decode(self, data: bytes) -> list[Frame | BadFrame]:
        """Return the frames of one WebSocket message, in order; a fatal BadFrame is the last."""
        out: list[Frame | BadFrame] = []
        self._items = self._containers = seen = 0
        try:
            if len(data) > self.limits.message_max_bytes:
                raise _Refusal(
                    ErrorCode.TOO_LARGE,
                    f"a message has at most {self.limits.message_max_bytes} bytes, this one has {len(data)}",
                    fatal=True,
                )
            for count, raw in enumerate(self._maps(data)):
                if count >= self.limits.frames_max:
                    raise _Refusal(
                        ErrorCode.TOO_LARGE, f"a message has at most {self.limits.frames_max} frames", fatal=True
                    )
                frame = self._frame(raw, self._containers - seen)
                seen = self._containers
                out.append(frame)
                if isinstance(frame, BadFrame) and frame.fatal:
                    break
        except _Refusal as refusal:
            out.append(BadFrame(refusal.code, refusal.detail, refusal.fatal))
        else:
            if not out:
                out.append(
                    BadFrame(ErrorCode.MALFORMED, "a message carries at least one frame, this one is empty", True)
                )
        return out

    def _maps(self, data: bytes) -> Iterable[object]:
        if self.encoding == MSGPACK:
            return self._msgpack(data)
        return self._json(data)

    def _msgpack(self, data: bytes) -> Iterable[object]:
        limits = self.limits
        # It is put back only after a complete message: inside one, it would take the next message for the rest.
        unpacker, self._unpacker = self._unpacker or self._new_unpacker(), None
        end = unpacker.tell() + len(data)
        unpacker.feed(data)
        try:
            while unpacker.tell() < end:
                yield unpacker.unpack()
            if len(data) <= _UNPACKER_KEPT_BYTES:
                self._unpacker = unpacker
        except _Refusal:
            raise
        except msgpack.OutOfData:
            raise _Refusal(ErrorCode.MALFORMED, "the message ends in the middle of a frame", fatal=True) from None
        except msgpack.StackError:
            raise _Refusal(ErrorCode.TOO_LARGE, f"nested deeper than {limits.depth_max}", fatal=True) from None
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            if "max_array_len" in str(error) or "max_map_len" in str(error):  # a header that promises too much
                raise _too_many(limits) from None
            raise _Refusal(
                ErrorCode.MALFORMED, f"not MessagePack as spoken here: {error or type(error).__name__}", fatal=True
            ) from None

    def _new_unpacker(self) -> Any:
        limits = self.limits
        return msgpack.Unpacker(
            read_size=min(_UNPACKER_KEPT_BYTES // 4, limits.message_max_bytes),
            object_pairs_hook=self._pairs,
            list_hook=self._list,
            ext_hook=_no_extension,
            strict_map_key=True,
            max_buffer_size=limits.message_max_bytes,
            max_array_len=limits.items_max,
            max_map_len=limits.items_max,
        )

    def _json(self, data: bytes) -> Iterable[object]:
        for line in data.split(b"\n"):
            if not line or line.isspace():
                continue
            try:
                value = self._json_decoder.decode(line.decode())
                if b"\\u" in line:
                    json.dumps(value, ensure_ascii=False).encode()  # an escape may hide half a surrogate pair
                self._count_lists(value)
            except _Refusal:
                raise
            except UnicodeEncodeError as error:
                detail = f"half of a surrogate pair in a text: \\u{ord(error.object[error.start]):04x}"
                raise _Refusal(ErrorCode.MALFORMED, detail, fatal=True) from None
            except UnicodeError as error:
                raise _Refusal(ErrorCode.MALFORMED, f"not UTF-8: {error}", fatal=True) from None
            except (ValueError, RecursionError) as error:
                raise _Refusal(ErrorCode.MALFORMED, f"not JSON: {error}", fatal=True) from None
            yield value

    def _pairs(self, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        self._count(len(pairs))
        value = dict(pairs)
        if len(value) != len(pairs):
            raise _Refusal(ErrorCode.MALFORMED, "a map names one of its keys twice", fatal=True)
        if not _TEXT.issuperset(map(type, value)):
            wrong = next(key for key in value if type(key) is not str)
            raise _Refusal(ErrorCode.MALFORMED, f"a map's keys are strings, this one is {_named(wrong)}", fatal=True)
        # For nearly every map, this checks the types without a step of Python for each item.
        if not _HARMLESS.issuperset(map(type, value.values())):
            for item in value.values():
                if type(item) not in _HARMLESS:
                    _check(item)
        return value

    def _list(self, items: list[Any]) -> list[Any]:
        self._count(len(items))
        if not _HARMLESS.issuperset(map(type, items)):
            for item in items:
                if type(item) not in _HARMLESS:
                    _check(item)
        return items

    def _count_lists(self, value: object) -> None:
        """Do for the lists of a JSON frame what `_list` does for MessagePack: the JSON parser has no hook for lists."""
        if isinstance(value, dict):
            for item in value.values():
                self._count_lists(item)
        elif isinstance(value, list):
            self._list(value)
            for item in value:
                self._count_lists(item)

    def _count(self, items: int) -> None:
        self._containers += 1
        self._items += items + 1
        if self._items > self.limits.items_max:
            raise _too_many(self.limits)

    def _frame(self, raw: object, containers: int) -> Frame | BadFrame:
        if not isinstance(raw, dict):
            return BadFrame(ErrorCode.MALFORMED, f"a frame is a map, this is {_named(raw)}", True)
        frame_id, kind, body = raw.get("id"), raw.get("kind"), raw.get("body")
        if not isinstance(frame_id, str) or not 0 < len(frame_id) <= 64:
            return BadFrame(
                ErrorCode.MALFORMED, f"a frame's id is a string of 1 to 64 characters, this is {_named(frame_id)}", True
            )
        if not isinstance(kind, str) or not 0 < len(kind) <= 64:
            return BadFrame(ErrorCode.MALFORMED, f"a frame's kind is a string, this is {_named(kind)}", True, frame_id)
        if body is None:
            body = {}
        if not isinstance(body, dict):
            return BadFrame(
                ErrorCode.MALFORMED, f"{kind}: a body is a map, this is {_named(body)}", False, frame_id, kind
            )
        # With no more containers than allowed levels, nothing is nested too deep; nearly every frame ends here.
        if containers > self.limits.depth_max and _too_deep(raw, self.limits.depth_max):
            return BadFrame(
                ErrorCode.TOO_LARGE, f"{kind}: nested deeper than {self.limits.depth_max}", True, frame_id, kind
            )
        payload = raw.get("payload")
        if isinstance(payload, str):
            payload = raw["payload"] = payload.encode()
        if isinstance(payload, bytes) and len(payload) > self.limits.payload_max_bytes:
            detail = f"{kind}: a payload has at most {self.limits.payload_max_bytes} bytes, this one has {len(payload)}"
            return BadFrame(ErrorCode.TOO_LARGE, detail, False, frame_id, kind)
        known = KINDS.get(kind)
        if known is None:
            message: Message = Unknown(kind, body)
        else:
            values = body
            validate, lifted = _readers.get(known) or _reader(known)
            for name, wire in lifted:
                item = raw.get(wire)
                if item is None:
                    values.pop(name, None)
                else:
                    values[name] = item
            try:
                message = _validated(validate, known, values)
            except ValidationError as error:
                return BadFrame(ErrorCode.MALFORMED, f"{kind}: {_explain(error)}", False, frame_id, kind)
        frame = Frame(frame_id, message)
        try:
            for attribute, name, expected in _ENVELOPE:
                item = raw.get(name)
                if item is not None:
                    setattr(frame, attribute, _typed(item, name, expected))
        except TypeError as error:
            return BadFrame(ErrorCode.MALFORMED, f"{kind}: {error}", False, frame_id, kind)
        return frame


_ENVELOPE: tuple[tuple[str, str, type[Any]], ...] = (
    ("re", "re", str),
    ("sender", "from", str),
    ("to", "to", str),
    ("mseq", "mseq", int),
    ("ttl_ms", "ttlMs", int),
    ("slack_ms", "slackMs", int),
    ("trace", "trace", str),
    ("ext", "ext", dict),
    ("must", "must", bool),
)
"""The envelope's fields beside the message's: attribute, wire name, type."""


def maps_of(data: bytes, encoding: str) -> list[dict[Any, Any]]:
    """Return the frames of a message as plain maps, even if a `Decoder` would refuse them.

    For display only; nothing is decided by them.

    Raises:
        ValueError: they are not maps in this encoding.
    """
    try:
        if encoding == JSON:
            # Not `splitlines`, for which a text may hold ends of lines, as U+2028.
            found = [json.loads(line) for line in data.decode().split("\n") if line.strip()]
        else:
            unpacker = msgpack.Unpacker(None, strict_map_key=False, max_buffer_size=0)
            unpacker.feed(data)
            found = []
            while unpacker.tell() < len(data):
                found.append(unpacker.unpack())
    except (msgpack.UnpackException, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if not found or not all(isinstance(frame, dict) for frame in found):
        raise ValueError("expected maps")
    return found


def _validated(validate: _Validate, kind: type[Message], values: dict[str, Any]) -> Message:
    try:
        return validate(values)
    except ValidationError:
        # Nil equals absent, and an integral float is an integer (spec WIRE-8). Few frames have either, so they are
        # converted only if validation fails.
        nested = {name for _, name, _, has_struct, _ in _plan(kind) if has_struct}
        given = {name: _no_nil(item) if name in nested else item for name, item in _no_nil(values).items()}
        return validate(_whole(given))


def _no_nil(value: Any) -> Any:
    if isinstance(value, list):
        return [_no_nil(item) for item in value]
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item is not None}
    return value


def _whole(value: Any) -> Any:
    """Return a value with each integral float as the equal integer; the canonical form stays the same."""
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= NUMBER_MAX:
        return int(value)
    return value


def _typed(value: Any, name: str, kind: type[Any]) -> Any:
    if type(value) is kind:
        return value
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) <= NUMBER_MAX:
        return int(value)
    raise TypeError(f"{name} is {_EXPECTED[kind]}, this is {_named(value)}")


_EXPECTED = {str: "a string", int: "an integer", dict: "a map", bool: "a boolean"}


def _too_deep(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_too_deep(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_too_deep(item, levels - 1) for item in value)
    return False


def _named(value: object) -> str:
    names = {
        type(None): "absent",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        bytes: "binary",
        list: "a list",
        dict: "a map",
    }
    text = names.get(type(value), type(value).__name__)
    return f"{text} of {len(value)}" if isinstance(value, str | bytes) else text


_TEXT = frozenset({str})
_HARMLESS = frozenset({str, dict, list, bool, type(None)})


def _check(item: Any) -> None:
    """Refuse a value without a form in every language and both encodings (spec WIRE-8)."""
    kind = type(item)
    if kind is int:
        fits = -NUMBER_MAX <= item <= NUMBER_MAX
    elif kind is float:
        fits = math.isfinite(item)
    elif kind is bytes:
        if item.isascii():  # then it is UTF-8, and no text of that length has to be made to find out
            return
        try:
            item.decode()
        except UnicodeDecodeError as error:
            raise _Refusal(ErrorCode.MALFORMED, f"binary is UTF-8 text here: {error}", fatal=True) from None
        return
    else:
        raise _Refusal(ErrorCode.MALFORMED, f"{kind.__name__} is not spoken here", fatal=True)
    if not fits:
        detail = "an integer beyond ±(2^53 - 1)" if kind is int else "a number that is not finite"
        raise _Refusal(ErrorCode.MALFORMED, detail, fatal=True)


def _too_many(limits: FrameLimits) -> _Refusal:
    return _Refusal(ErrorCode.TOO_LARGE, f"a message has at most {limits.items_max} keys and items", fatal=True)


def _no_extension(code: int, _data: bytes) -> object:
    raise _Refusal(ErrorCode.MALFORMED, f"extension types are not spoken here, this is type {code}", fatal=True)


def _no_constant(name: str) -> object:
    raise _Refusal(ErrorCode.MALFORMED, f"{name} is not a JSON number", fatal=True)


_WANTS_A_NUMBER = frozenset({"greater_than_equal", "less_than_equal", "int_type"})
"""The pydantic error types for a value that should be a number."""


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "message"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    wanted = first["msg"]
    if first["type"] == "missing":  # pydantic names the container of a missing field
        came = "none"
        if where in _LIFTED:  # in the body, nobody looks for it (spec WIRE-4)
            wanted = f"{wanted} in the envelope"
    elif first["type"] in _WANTS_A_NUMBER and isinstance(first["input"], int | float):
        came = repr(first["input"])
    else:  # a value in place of a text may be a secret
        came = _named(first["input"])
    if first["type"] == "string_pattern_mismatch":
        wanted = PATTERNS.get(first["ctx"]["pattern"], wanted)
    if first["type"] == "bytes_type":
        wanted = "Input should be a payload: JSON written out as a string, in MessagePack as bin"
    return f"{where}: {wanted}, got {came}{more}"


# Storage --------------------------------------------------------------------------------------------------------------

_ASIDE = 1
"""MessagePack's extension type for a byte string that is kept elsewhere. The wire has no extension types."""


def pack(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """Encode plain data for the ledger; `default` converts other values to plain ones."""
    return _pack(value) if default is None else cast(bytes, msgpack.packb(value, default=default))


def aside(number: int) -> object:
    """Return the value that `pack` writes for a byte string kept beside the bytes; `unpack` puts the string back."""
    return msgpack.ExtType(_ASIDE, number.to_bytes(4, "big"))


def unpack(data: bytes, beside: Sequence[bytes] = ()) -> Any:
    """Decode the output of `pack`, with the byte strings kept beside it put back in their places.

    The ledger is our own file, so only the form is checked.

    Raises:
        ValueError: the data is not the output of `pack`, or a byte string is missing.
    """

    def put_in(code: int, number: bytes) -> bytes:
        place = int.from_bytes(number, "big")
        if code != _ASIDE or place >= len(beside):
            raise ValueError(f"a part is missing: number {place} of {len(beside)}")
        return beside[place]

    return msgpack.unpackb(data, strict_map_key=False, ext_hook=put_in)
