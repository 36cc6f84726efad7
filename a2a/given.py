"""What a caller gives, in the form in which it travels, or what is wrong with it in the caller's own words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

__all__ = [
    "mapped",
    "milliseconds",
    "milliseconds_if_any",
    "require_kind",
    "require_known",
    "several",
    "text",
    "whole",
    "words",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

_KINDS = {str: "a text", int: "a whole number"}
"""What a kind of argument is called; any other by its name."""


def milliseconds(seconds: float | timedelta, what: str) -> int:
    """Return a time in whole milliseconds.

    Args:
        seconds: the time, as it was given.
        what: its name, for the error.

    Raises:
        ValueError: it is no time, or has no end.
    """
    number = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if not isinstance(number, int | float):
        raise ValueError(f"{what}: expected a number of seconds, got {number!r}")
    if not math.isfinite(number):
        raise ValueError(f"{what}: expected a number of seconds, got {number}; what has no end is left out")
    return round(number * 1000)


def milliseconds_if_any(seconds: float | timedelta | None, what: str) -> int | None:
    """Return a time in whole milliseconds, or None where none was given; errors as of `milliseconds`."""
    return None if seconds is None else milliseconds(seconds, what)


def several(given: Sequence[T], what: str) -> list[T]:
    """Return what was given for several, as a list.

    Args:
        given: what was given.
        what: its name, for the error.

    Raises:
        ValueError: it is none; or one text or one map, which Python takes for its letters or its keys.
    """
    if isinstance(given, str):
        raise ValueError(f"{what}: expected a list, got the text {given!r}")
    if isinstance(given, Mapping):
        raise ValueError(f"{what}: expected a list, got the map {given!r}")
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ValueError(f"{what}: expected a list, got {given!r}")
    return list(given)


def mapped(given: Mapping[K, V], what: str) -> dict[K, V]:
    """Return what was given by name, as a map of its own; an error as of `several`."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{what}: expected a map, got {given!r}")
    return dict(given)


def whole(given: int, what: str) -> int:
    """Return what was given for a whole number.

    Raises:
        ValueError: it is none; True and False are none either.
    """
    if isinstance(given, bool):
        raise ValueError(f"{what}: expected a whole number, got {given!r}")
    return require_kind(given, int, what)


def require_kind(given: Any, kind: type[T], what: str) -> T:
    """Return what was given, of which nothing but its kind is looked at.

    Args:
        given: what was given.
        kind: what it is to be.
        what: its name, for the error.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(given, kind):
        raise ValueError(f"{what}: expected {_KINDS.get(kind, kind.__name__)}, got {given!r}")
    return given


def require_known(given: Iterable[str], known: Sequence[str], what: str) -> None:
    """Make sure that every name that was given is one there is.

    Args:
        given: the names.
        known: those there are.
        what: what they name, for the error.

    Raises:
        ValueError: one is not.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"{what}: expected {', '.join(known)}, got {name!r}")


def text(said: object, most: int) -> str:
    """Return what something is in words that can be sent, cut off where they are longer."""
    # Half a character, as in a file's name that is no UTF-8, has no form on the wire.
    return words(said).encode("utf-8", "backslashreplace").decode()[:most]


def words(said: object) -> str:
    """Return what something is in words; of an exception whose own method for that fails, what there is to say."""
    try:
        return str(said)
    except Exception as error:  # noqa: BLE001 - it is a user's method
        return f"str() of this {type(said).__name__} raised {type(error).__name__}"
