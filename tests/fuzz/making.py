"""Bodies of messages that are nearly right: each field has a value of its type, and now and then another one.

What a value is follows from the annotations of `messages` and `types`, so that a new message is fuzzed as it is. Ids
and fences that were heard go into `Heard`, and come back in later fields: what is about nothing reaches little code.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import JSON, MSGPACK, Encoding, pack
from a2a.protocol.messages import KINDS, Message

from .source import Source

__all__ = ["OUTCOMES", "PAYLOADS", "Heard", "body_of", "envelope_of", "junk", "to_wire"]

_LIFTED = {"task": "task", "fence": "fence", "generation": "gen", "payload": "payload"}
PAYLOADS = (
    "[]",
    '[{"data":1}]',
    '[{"data":[1,2]}]',
    '[{"text":"true"}]',
    "no JSON",
    "",
    '{"a":{"b":[null,1e9]}}',
    "9" * 400,
)
OUTCOMES = ("completed", "failed", "rejected", "canceled")
_HASHES = tuple(content_hash({"outcome": outcome}, text.encode()) for outcome in OUTCOMES[:2] for text in PAYLOADS)
_TEXTS = (
    *("", "a", "b", "s", "t", "1.0", "json-c14n", "numeric(0.1)", "numeric(x)", "agent:s", "set", "any", "k", "k/a"),
    *("a/**", "a/b", "b0", "c0", "c0#1", "c0#2", "nobody", "majority", "plurality", "judge", "verifier", "merger"),
    *(
        "human",
        "quorum",
        "authority",
        "abort",
        "é\u2028\U0001f600",
        "x" * 130,
        "sha256:" + "0" * 64,
        "\x00",
        " ",
        "#",
        "**",
    ),
    *("merge", "json-patch", "text/plain", "application/json", "main-1", "main-c1", "main-k1", "main-x1"),
)
_NUMBERS = (0, 1, 2, 3, 5, 16, 100, 1000, 60_000, 2**31, 2**53 - 1, -1, 2**53, 2**63, 2**64, 1.0, 0.5, 1e300, -0.0)
_BY_NAME: dict[str, tuple[Any, ...]] = {
    "versions": (["1.0", "1.0"], ["0.1", "9.9"], ["2.0", "2.0"], ["1.0"], ["x", "y"], ["1.0", "1." + "9" * 40]),
    "agentId": ("a0", "b0", "c0", "c0#1", "c0#2", "-", "a" * 97),
    "skill": ("s", "t", "judge", "nothing"),
    "id": ("s", "t", "judge"),
    "comparator": ("json-c14n", "numeric(0.1)", "numeric(", "agent:s", "text", "set", "regex(a+)+", "json-path($.a)"),
    "resultHash": _HASHES,
    "strategy": (
        "majority",
        "plurality",
        "quorum",
        "judge",
        "verifier",
        "merge",
        "merger",
        "authority",
        "human",
        "abort",
    ),
    "op": ("set", "delete", "merge", "patch", "add", "replace", "remove", "test", "move", "copy"),
    "path": ("", "/a", "/a/0", "/-", "/~2", "a", "/a/b/c"),
}


@dataclass(slots=True)
class Heard:
    """What was said so far and can be said again: by the name of its field, the newest last."""

    said: dict[str, list[Any]] = field(default_factory=dict)

    def hear(self, name: str, value: Any) -> None:
        """Keep the value of a field."""
        known = self.said.setdefault(name, [])
        if value is not None and value not in known[-16:]:
            known.append(value)


def junk(source: Source, depth: int = 0) -> Any:
    """Return any value that travels, and some that do not."""
    kind = source.below(9)
    if kind == 0:
        return source.pick((None, True, False))
    if kind in (1, 2):
        return source.pick(_NUMBERS)
    if kind in (3, 4):
        return source.pick(_TEXTS)
    if kind == 5:
        return source.take(source.below(24)).decode("latin-1")
    if depth > 4:
        return {}
    if kind == 6:
        return [junk(source, depth + 1) for _ in range(source.below(4))]
    if kind == 7:
        return {source.pick(_TEXTS): junk(source, depth + 1) for _ in range(source.below(4))}
    value: Any = 0
    for _ in range(source.below(60)):
        value = [value] if source.below(2) else {"a": value}
    return value


def _value(source: Source, heard: Heard, hint: Any, name: str, depth: int) -> Any:
    """Return a value for a field of this type and name."""
    if source.one_in(96):
        return junk(source)
    if name in heard.said and heard.said[name] and source.below(8):
        return source.pick(heard.said[name][-16:])
    if name in _BY_NAME and not source.one_in(6):
        return source.pick(_BY_NAME[name])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _value(source, heard, arguments[0], name, depth)
    if origin in (typing.Union, types.UnionType):
        chosen = [argument for argument in arguments if argument is not type(None)]
        return None if source.one_in(8) else _value(source, heard, source.pick(chosen), name, depth)
    if origin is typing.Literal:
        return source.pick(arguments)
    if origin is list or hint is list:
        inner = arguments[0] if arguments else Any
        count = 0 if source.one_in(8) else 1 + source.below(3 if depth < 4 else 1)
        return [_value(source, heard, inner, name, depth + 1) for _ in range(count)]
    if origin is dict or hint is dict:
        inner = arguments[1] if arguments else Any
        count = source.below(3 if depth < 4 else 1)
        return {source.pick(_TEXTS): _value(source, heard, inner, name, depth + 1) for _ in range(count)}
    if hint is bool:
        return source.pick((False, True))
    if hint is int:
        return source.pick(_NUMBERS[: 9 if source.below(8) else len(_NUMBERS)])
    if hint is float:
        return source.pick(_NUMBERS)
    if hint is str:
        return source.pick(_TEXTS)
    if hint is bytes:
        return source.pick(PAYLOADS)
    if isinstance(hint, type) and is_dataclass(hint):
        return _struct(source, heard, hint, depth + 1)
    if isinstance(hint, type) and hasattr(hint, "__required_keys__"):
        return _typed_dict(source, heard, hint, depth + 1)
    return junk(source)


def _struct(source: Source, heard: Heard, kind: type, depth: int = 0) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    made = {}
    for item in fields(kind):
        needed = item.default is MISSING and item.default_factory is MISSING
        if source.one_in(64) if needed else source.below(4) < 3:
            continue
        name = to_camel(item.name)
        made[name] = _value(source, heard, hints[item.name], name, depth)
    return made


def _typed_dict(source: Source, heard: Heard, kind: Any, depth: int) -> dict[str, Any]:
    made = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if source.one_in(64) if typing.get_origin(hint) is typing.Required else source.below(4) < 3:
            continue
        made[name] = _value(source, heard, hint, name, depth)
    if source.one_in(12):
        made["x-unknown"] = junk(source)
    return made


def body_of(source: Source, heard: Heard, kind: str) -> dict[str, Any]:
    """Return the fields of a message of this kind, those of the envelope among them."""
    message: type[Message] = KINDS[kind]
    return _struct(source, heard, message)


def envelope_of(source: Source, heard: Heard, number: int, kind: str) -> dict[str, Any]:
    """Return a frame of this kind as a map; its id is the number, mostly."""
    body = body_of(source, heard, kind)
    frame: dict[str, Any] = {"id": str(number), "kind": kind}
    for name, wire in _LIFTED.items():
        if name in body:
            frame[wire] = body.pop(name)
    frame["body"] = body
    while source.one_in(48):
        name = source.pick(
            ("id", "kind", "re", "from", "to", "mseq", "ttlMs", "slackMs", "trace", "ext", "must", "body", "task")
        )
        frame[name] = junk(source)
    return frame


def to_wire(frames: list[dict[str, Any]], encoding: Encoding) -> bytes:
    """Encode maps as one message, as they are."""
    if encoding == JSON:
        return b"\n".join(json.dumps(frame).encode("utf-8", "surrogatepass") for frame in frames)
    assert encoding == MSGPACK
    return b"".join(_packed(frame) for frame in frames)


def _packed(frame: dict[str, Any]) -> bytes:
    try:
        payload = frame.get("payload")
        return pack(frame | {"payload": payload.encode()} if isinstance(payload, str) else frame)
    except (OverflowError, ValueError, UnicodeEncodeError):
        return b"\x81\xa1x"  # it has no form: half a map instead
