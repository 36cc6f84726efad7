"""What a change of a JSON Schema breaks for those who were written by the one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["broken"]

Schema = dict[str, Any]

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FIXED = ("const", "pattern", "default", "contentMediaType", "format", "uniqueItems")
"""No change of these is an addition: what is absent, or what bytes mean, has to stay."""


def broken(before: Schema, after: Schema) -> list[str]:
    """Return what a peer that knows only `before` would stumble over, each with the place; nothing where it would not.

    New fields that need not be there, new words and wider limits pass.
    """
    return list(_broken(before, after, before, after, "", ()))


def _broken(
    one: Schema, other: Schema, before: Schema, after: Schema, place: str, seen: tuple[str, ...]
) -> Iterator[str]:
    if (name := one.get("$ref")) is not None and name == other.get("$ref"):
        if name in seen:
            return
        seen = (*seen, name)
    one, other = _resolved(one, before), _resolved(other, after)
    where = place or "the whole"
    if "anyOf" in one or "anyOf" in other:
        yield from _broken_choice(one, other, before, after, place, seen)
        return
    if one.get("type") != other.get("type"):
        yield f"{where}: its type was {one.get('type')}, and is {other.get('type')}"
        return
    yield from _tightened(one, other, where)
    for name, old in one.get("properties", {}).items():
        new = other.get("properties", {}).get(name)
        if new is None:
            yield f"{place}/{name}: it is gone"
        else:
            yield from _broken(old, new, before, after, f"{place}/{name}", seen)
    yield from (f"{place}/{name}: it was not required, and is" for name in _more("required", other, one))
    yield from (f"{place}/{name}: it was required, and need not be there" for name in _more("required", one, other))
    for inside in ("items", "additionalProperties"):
        old, new = one.get(inside, True), other.get(inside, True)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _broken(old, new, before, after, f"{place}/*", seen)
        elif old != new:
            yield f"{where}: {inside} was {old}, and is {new}"


def _broken_choice(
    one: Schema, other: Schema, before: Schema, after: Schema, place: str, seen: tuple[str, ...]
) -> Iterator[str]:
    """Compare what may be one of several: each is to be found again, as it stands in the same place."""
    old, new = one.get("anyOf", [one]), other.get("anyOf", [other])
    if len(old) != len(new):
        yield f"{place or 'the whole'}: it was one of {len(old)} forms, and is one of {len(new)}"
        return
    for first, second in zip(old, new, strict=True):
        yield from _broken(first, second, before, after, place, seen)
    if one.get("default") != other.get("default"):
        yield f"{place or 'the whole'}: its default was {one.get('default')!r}, and is {other.get('default')!r}"


def _tightened(one: Schema, other: Schema, where: str) -> Iterator[str]:
    for name in _LOWER:
        if other.get(name, float("-inf")) > one.get(name, float("-inf")):
            yield f"{where}: its {name} was {one.get(name)}, and is {other[name]}"
    for name in _UPPER:
        if other.get(name, float("inf")) < one.get(name, float("inf")):
            yield f"{where}: its {name} was {one.get(name)}, and is {other[name]}"
    for name in _FIXED:
        if one.get(name) != other.get(name):
            yield f"{where}: its {name} was {one.get(name)!r}, and is {other.get(name)!r}"
    if "enum" in other:
        if "enum" not in one:
            yield f"{where}: it was any text, and is one of {', '.join(other['enum'])}"
        yield from (f"{where}: the word {word} is gone" for word in _more("enum", one, other))
    elif "enum" in one:
        yield f"{where}: it was one of {', '.join(one['enum'])}, and is any text"


def _more(name: str, one: Schema, other: Schema) -> list[str]:
    return [item for item in one.get(name, []) if item not in other.get(name, [])]


def _resolved(schema: Schema, whole: Schema) -> Schema:
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        schema = {**whole["$defs"][name], **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema
