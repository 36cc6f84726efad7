"""Checks that what a peer sends has the form the specification gives it: each frame against the schema of its kind.

A schema describes the JSON encoding. The check also takes in what the specification says of both encodings: a payload
is `bin` in MessagePack and nothing else is (WIRE-10), `null` is the same as absent except in what agents write
(WIRE-8), and a field or a kind that the specification does not name passes (WIRE-6, WIRE-7).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from .case import Failed, Role, Skipped
from .conversation import NO_FRAME, Look, shown
from .requirements import specification
from .wire import MSGPACK, OPENS_DOORS, Frame

__all__ = ["Breach", "Forms", "breaches", "kinds"]

FRAMES_SHOWN = 20
"""How many frames are shown with a failure, one for each wrong field of a kind."""
_NAMED = 3
"""How many fields are named in one line besides the first."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
"""Shows a value, cut off if it is long or deep."""
_TYPES = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "a text of at least {} characters",
    "maxLength": "a text of at most {} characters",
    "minItems": "a list of at least {}",
    "maxItems": "a list of at most {}",
    "maxProperties": "an object of at most {} fields",
    "pattern": "a text like {}",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """A field of a frame that does not fit its schema."""

    kind: str
    field: str
    """Such as `body.held[].fence`; empty: the frame as a whole."""
    expected: str
    """Empty: the field has to be there."""
    came: str

    def __str__(self) -> str:
        field = f" with {self.field}" if self.field else ""
        return f"{self.kind}{field}{', ' if self.expected else ''}{self.expected}"


class Forms:
    """The frames of all cases of a run: how many came, and each field that was wrong, with its first frame."""

    def __init__(self, role: Role) -> None:
        self.role = role
        """The role of the peer that sends them."""
        self.frames = 0
        self._found: dict[tuple[str, str, str], _Found] = {}

    def look_at(self, frame: Frame, encoding: str, on: str, case: str) -> None:
        """Check a frame that came against the schema of its kind.

        Args:
            frame: The frame.
            encoding: The encoding it came in.
            on: The connection it came on.
            case: The case it came in.
        """
        self.frames += 1
        for breach in breaches(frame, encoding, self.role):
            key = breach.kind, breach.field, breach.expected
            found = self._found.setdefault(key, _Found(breach, f"frame {frame.id!r} on {on} in {encoding}", case))
            found.times += 1
            if found.times == 1:
                found.shown = f"{on}: < {shown(frame)}"

    def looking(self, encoding: str, on: str, case: str) -> Look:
        """Return a function that checks each frame of one connection."""
        return partial(self.look_at, encoding=encoding, on=on, case=case)

    def judge(self) -> None:
        """Give the verdict on all frames of the run.

        Raises:
            Failed: a frame did not fit its schema.
            Skipped: no frame came.
        """
        if not self.frames:
            raise Skipped("no case that was tried had a frame from it")
        if not self._found:
            return
        first, *others = self._found.values()
        told = f"expected {first.breach}; came: {first.breach.came}, {first.where}, in the case {first.case}"
        if first.times > 1:
            told += f", and {first.times - 1} more such"
        for other in others[:_NAMED]:
            told += f"; nor {other.breach}, in the case {other.case}: {other.breach.came}"
        if len(others) > _NAMED:
            told += f"; and {len(others) - _NAMED} more"
        raise Failed(told)

    def trace(self) -> list[str]:
        """Return the first frame of each field that was wrong."""
        return [f"{found.case}: {found.shown}" for found in self._found.values()][:FRAMES_SHOWN]


@dataclass(slots=True)
class _Found:
    breach: Breach
    where: str
    case: str
    times: int = 0
    shown: str = ""


def breaches(frame: Frame, encoding: str, role: Role) -> list[Breach]:
    """Return the breaches of a frame: of the schema of its kind, or of the envelope if its kind is unknown."""
    if frame.get("kind") == NO_FRAME:
        return [Breach("a message", "", "of whole frames (WIRE-2, WIRE-12)", str(frame.body.get("detail")))]
    kind = frame["kind"] if isinstance(frame.get("kind"), str) else ""
    validator = _validator(kind if kind in kinds() else "", encoding, role)
    return [_breach(kind or "a frame", error, encoding) for error in validator.iter_errors(frame)]


def kinds() -> frozenset[str]:
    """Return the kinds the specification defines."""
    return frozenset(_schemas())


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    files = (specification() / "messages").glob("*.json")
    read = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(files))
    return {schema["title"]: schema for schema in read if "kind" in schema["properties"]}


def _envelope() -> dict[str, Any]:
    """Return the schema of a frame of any kind: the fields that all kinds have alike."""
    first, *others = (schema["properties"] for schema in _schemas().values())
    alike = {name: field for name, field in first.items() if all(other.get(name) == field for other in others)}
    kind = {"type": "string", "minLength": 1, "maxLength": 64}
    body = {"type": "object"}
    return {"type": "object", "properties": alike | {"kind": kind, "body": body}, "required": ["id", "kind"]}


@cache
def _validator(kind: str, encoding: str, role: Role) -> Any:
    schema = _schemas()[kind] if kind else _envelope()
    definitions = dict(schema.get("$defs", {}))
    if role is Role.COORDINATOR:
        # Another agent wrote it, and the coordinator keeps it as it came (WIRE-16).
        definitions["AgentCard"] = {"type": "object"}
    made = _InMsgpack if encoding == MSGPACK else _InJson
    return made({name: _plain(part, definitions) for name, part in schema.items() if name not in ("$defs", "$id")})


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema without references, and without the choice between a value and `null`: `null` is absent."""
    if isinstance(schema, list):
        return [_plain(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    match schema.get("anyOf"):
        case [value, {"type": "null"}]:
            return _plain(value, definitions)
    return {name: _plain(part, definitions) for name, part in schema.items()}


def _is_of_agents(schema: Mapping[str, Any]) -> bool:
    """Whether the schema describes what agents write, in which `null` is a value: it allows additional properties."""
    return schema.get("additionalProperties") is True


def _properties(
    validator: Any, properties: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for name, part in properties.items():
        if name in instance and (instance[name] is not None or _is_of_agents(schema)):
            yield from validator.descend(instance[name], part, path=name, schema_path=name)


def _required(
    validator: Any, required: list[str], instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for name in required:
        if name not in instance or (instance[name] is None and not _is_of_agents(schema)):
            yield ValidationError(f"{name} is required", path=(name,))


def _type(validator: Any, types: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    for name in types if isinstance(types, list) else [types]:
        if name == "string" and "contentMediaType" in schema:
            name = "payload"
        if validator.is_type(instance, name):
            return
    yield ValidationError("another type")


_KEYWORDS = {"properties": _properties, "required": _required, "type": _type}


def _validator_of(payload: type) -> Any:
    """Return the class that checks frames against a schema, with payloads of this type."""
    typed = Draft202012Validator.TYPE_CHECKER.redefine("payload", lambda _, value: isinstance(value, payload))
    return extend(Draft202012Validator, _KEYWORDS, type_checker=typed)  # type: ignore[no-untyped-call]


_InJson, _InMsgpack = _validator_of(str), _validator_of(bytes)


def _breach(kind: str, error: Any, encoding: str) -> Breach:
    path = list(error.absolute_path)
    field = ""
    for step in path:
        field += "[]" if isinstance(step, int) else f".{step}" if field else step
    if error.validator == "required":
        return Breach(kind, field, "", "nothing")
    came = "(hidden)" if path and path[-1] in OPENS_DOORS else _REPR.repr(error.instance)
    return Breach(kind, field, _expected(error, encoding), came)


def _expected(error: Any, encoding: str) -> str:
    value = error.validator_value
    match error.validator:
        case "enum":
            return f"one of {', '.join(map(str, value))}"
        case "type" if "contentMediaType" in error.schema:
            return f"a payload, {'bin in MessagePack' if encoding == MSGPACK else 'a text in JSON'} (WIRE-10)"
        case "type":
            return next(_TYPES[name] for name in (value if isinstance(value, list) else [value]))
    return _BOUNDS.get(str(error.validator), f"{error.validator} {{}}").format(value)
