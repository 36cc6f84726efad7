"""Comparators: whether two results are the same, in the sense that the task asks for (spec COMPARE).

Equal bytes are equal under every comparator, and cost nothing. All other comparisons read payloads, inside limits of
size, depth and count, so they run as jobs and their answers are recorded; nothing here is called while a decision is
made. Classes are built in ledger order, and each result joins the first class whose first member it equals. With a
tolerance "equal" is not transitive, so in any other order the winner would depend on who came first when it must not.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.canonical import canonical

__all__ = [
    "COMPARATORS",
    "Compare",
    "Incomparable",
    "Limits",
    "artifacts_of",
    "check_comparator",
    "classify",
    "parse_comparator",
    "run",
    "skill_asked",
    "value_of",
]

_ASKS = "agent:"
_SKILL_MAX = 128
"""The longest id of a skill, in characters."""


class Incomparable(Exception):
    """The comparator cannot say whether the two are the same. This is an outcome, not a fault."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a comparator reads of one payload."""

    bytes_max: int = 4 * 1024 * 1024
    depth_max: int = 64
    items_max: int = 200_000


@dataclass(frozen=True, slots=True)
class Compare:
    """A job: which class of a group does this result belong to?"""

    task: str
    """The group."""
    member: str
    comparator: str
    firsts: tuple[bytes, ...]
    """The first result of each class."""
    payload: bytes


def run(job: Compare) -> tuple[int, str]:
    """Do a job, and return the number of the class and why. Runs in a worker, off the loop."""
    return classify(job.comparator, job.firsts, job.payload)


Comparator = Callable[[Any, Any], bool]
"""Tells whether two values are the same."""


def parse_comparator(name: str) -> Comparator:
    """Return the comparator of a name with its arguments: `pointers[/a,/b]` is `pointers` with two.

    Raises:
        ValueError: there is no such comparator, or its arguments are not what it takes.
    """
    kind, bracket, rest = name.partition("[") if "[" in name else name.partition("(")
    closing = {"[": "]", "(": ")", "": ""}[bracket]
    if closing and not rest.endswith(closing):
        raise ValueError(f"comparator {name!r}: {bracket!r} is not closed")
    arguments = [part.strip() for part in rest.removesuffix(closing).split(",") if part.strip()] if bracket else []
    if kind not in COMPARATORS:
        raise ValueError(f"comparator {name!r}: expected one of {', '.join(COMPARATORS)}, {_ASKS}SKILL")
    return COMPARATORS[kind](arguments)


def skill_asked(name: str) -> str | None:
    """Return the skill of the agent that compares, or None if a comparator of this module does (spec COMPARE-4)."""
    return name.removeprefix(_ASKS) if name.startswith(_ASKS) else None


def check_comparator(name: str) -> None:
    """Check that there is such a comparator.

    Raises:
        ValueError: there is none, or its arguments are not what it takes.
    """
    skill = skill_asked(name)
    if skill is None:
        parse_comparator(name)
    elif not 0 < len(skill) <= _SKILL_MAX:
        raise ValueError(f"comparator {name!r}: expected the id of a skill, as in agent:same_meaning")


def classify(name: str, firsts: Sequence[bytes], payload: bytes, limits: Limits | None = None) -> tuple[int, str]:
    """Return the number of the first class whose first member the payload equals, or that of a new class, and why.

    A payload that cannot be read, or is beyond the limits, equals only its own bytes, whatever came first (spec
    COMPARE-3): one nonsensical answer must not keep later answers from being the same as each other.
    """
    for number, first in enumerate(firsts):
        if first == payload:
            return number, "the same bytes"
    if name == "bytes":
        return len(firsts), "other bytes"
    same, why = parse_comparator(name), name
    for number, first in enumerate(firsts):
        try:
            if same(value_of(first, limits), value_of(payload, limits)):
                return number, name
        except Incomparable as reason:
            why = str(reason)
    return len(firsts), why


def artifacts_of(payload: bytes, limits: Limits | None = None) -> list[Any]:
    """Return the Artifacts of a result; the first is an object.

    Raises:
        Incomparable: the payload is not an array of Artifacts, or is beyond the limits.
    """
    bounds = limits or Limits()
    if len(payload) > bounds.bytes_max:
        raise Incomparable(f"a result of {len(payload)} bytes is compared by `bytes` only")
    if payload.count(b"[") + payload.count(b"{") > bounds.depth_max:
        _check_depth(payload, bounds.depth_max)
    if payload.count(b",") > bounds.items_max:
        raise Incomparable(f"a result with more than {bounds.items_max} items is compared by `bytes` only")
    try:
        artifacts = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Incomparable(f"a result is a JSON array of Artifacts: {error}") from error
    if not isinstance(artifacts, list) or not artifacts or not isinstance(artifacts[0], dict):
        raise Incomparable("a result is a JSON array of Artifacts, with one at least")
    return artifacts


def value_of(payload: bytes, limits: Limits | None = None) -> Any:
    """Return the value of a result: the text or data of its first artifact's only part, else its parts unchanged.

    Raises:
        Incomparable: the payload is not an array of Artifacts, or is beyond the limits.
    """
    artifacts = artifacts_of(payload, limits)
    named = [artifact for artifact in artifacts if isinstance(artifact, dict) and artifact.get("name") == "result"]
    parts = (named or artifacts)[0].get("parts")
    if not isinstance(parts, list):
        raise Incomparable("an Artifact has parts")
    if len(parts) == 1 and isinstance(parts[0], dict):
        for kind in ("text", "data"):
            if kind in parts[0]:
                return parts[0][kind]
    return parts


def _check_depth(payload: bytes, depth_max: int) -> None:
    """Count brackets outside strings: the parser would recurse as deep as they nest."""
    depth, in_string, escaped = 0, False, False
    for byte in payload:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            if depth > depth_max:
                raise Incomparable(f"a result is nested deeper than {depth_max}")
        elif byte in b"]}":
            depth -= 1


# The comparators ------------------------------------------------------------------------------------------------------


def _bytes(arguments: list[str]) -> Comparator:
    _no_arguments("bytes", arguments)
    return lambda one, other: bool(one == other)


def _json(arguments: list[str]) -> Comparator:
    """Equal in canonical form (RFC 8785): the order of keys and the way a number is written do not matter."""
    _no_arguments("json-c14n", arguments)
    return lambda one, other: _canonical(one) == _canonical(other)


def _text(arguments: list[str]) -> Comparator:
    """Texts that differ only in Unicode form (NFC) and white space."""
    _no_arguments("text-nfc", arguments)
    return lambda one, other: _words(one) == _words(other)


def _pointers(arguments: list[str]) -> Comparator:
    """Equal at the given JSON Pointers (RFC 6901); the rest does not matter."""
    if not arguments or any(pointer and not pointer.startswith("/") for pointer in arguments):
        raise ValueError("comparator pointers: expected JSON Pointers, as in pointers[/answer,/unit]")

    def same(one: Any, other: Any) -> bool:
        return all(_canonical(_at(one, pointer)) == _canonical(_at(other, pointer)) for pointer in arguments)

    return same


def _set(arguments: list[str]) -> Comparator:
    """Lists with the same items, each the same number of times, in any order."""
    _no_arguments("set", arguments)

    def items(value: Any) -> list[bytes]:
        if not isinstance(value, list):
            raise Incomparable(f"set compares lists, this is {type(value).__name__}")
        return sorted(_canonical(item) for item in value)

    return lambda one, other: items(one) == items(other)


def _numeric(arguments: list[str]) -> Comparator:
    """Numbers, alone or at the same places, that differ by no more than the tolerance; the rest must be equal."""
    try:
        (tolerance,) = (float(argument) for argument in arguments)
    except ValueError:
        raise ValueError("comparator numeric: expected a tolerance, as in numeric(0.01)") from None
    if not 0 <= tolerance < float("inf"):
        raise ValueError("comparator numeric: expected a tolerance of 0 or more")
    return lambda one, other: _near(one, other, tolerance)


COMPARATORS: dict[str, Callable[[list[str]], Comparator]] = {
    "json-c14n": _json,
    "bytes": _bytes,
    "text-nfc": _text,
    "pointers": _pointers,
    "set": _set,
    "numeric": _numeric,
}
"""Name to the function that makes the comparator from its arguments."""


def _no_arguments(kind: str, arguments: list[str]) -> None:
    if arguments:
        raise ValueError(f"comparator {kind} takes no arguments, got {', '.join(arguments)}")


def _canonical(value: Any) -> bytes:
    try:
        return canonical(value)
    except ValueError as error:
        raise Incomparable(str(error)) from error


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise Incomparable(f"text-nfc compares texts, this is {type(value).__name__}")
    return " ".join(unicodedata.normalize("NFC", value).split())


_NOTHING = {"": "nothing is there"}
"""Stands for a value that a pointer does not find; no JSON value has this form at a leaf that a pointer names."""


def _at(value: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _NOTHING
    return value


def _near(one: Any, other: Any, tolerance: float) -> bool:
    if _is_number(one) and _is_number(other):
        try:
            return bool(abs(one - other) <= tolerance)
        except OverflowError as error:
            raise Incomparable("an integer beyond all floating-point numbers is compared by its bytes only") from error
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_near(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key], tolerance) for key in one)
    return _canonical(one) == _canonical(other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
