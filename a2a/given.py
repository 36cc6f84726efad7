"""Arguments in the form in which they travel, or an error in the caller's own words."""

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
"""The names of some types of arguments; others go by their own name."""


def milliseconds(seconds: float | timedelta, what: str) -> int:
    """Return a duration in whole milliseconds.

    Args:
        seconds: the duration.
        what: its name, for the error.

    Raises:
        ValueError: it is not a duration, or is infinite.
    """
    number = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if not isinstance(number, int | float):
        raise ValueError(f"{what}: expected a number of seconds, got {number!r}")
    if not math.isfinite(number):
        raise ValueError(f"{what}: expected a number of seconds, got {number}")
    return round(number * 1000)


def milliseconds_if_any(seconds: float | timedelta | None, what: str) -> int | None:
    """Return a duration in whole milliseconds, or None if there is none; errors as for `milliseconds`."""
    return None if seconds is None else milliseconds(seconds, what)


def several(given: Sequence[T], what: str) -> list[T]:
    """Return an argument that takes several values as a list.

    Args:
        given: the argument.
        what: its name, for the error.

    Raises:
        ValueError: it is not a list; nor may it be a single text or map, which Python would iterate.
    """
    if isinstance(given, str):
        raise ValueError(f"{what}: expected a list, got the text {given!r}")
    if isinstance(given, Mapping):
        raise ValueError(f"{what}: expected a list, got the map {given!r}")
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ValueError(f"{what}: expected a list, got {given!r}")
    return list(given)


def mapped(given: Mapping[K, V], what: str) -> dict[K, V]:
    """Return an argument that takes a map as a new dict; errors as for `several`."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{what}: expected a map, got {given!r}")
    return dict(given)


def whole(given: int, what: str) -> int:
    """Return an argument that takes a whole number.

    Raises:
        ValueError: it is not one; True and False do not count.
    """
    if isinstance(given, bool):
        raise ValueError(f"{what}: expected a whole number, got {given!r}")
    return require_kind(given, int, what)


def require_kind(given: Any, kind: type[T], what: str) -> T:
    """Return an argument after checking its type, and nothing else.

    Args:
        given: the argument.
        kind: the type it must have.
        what: its name, for the error.

    Raises:
        ValueError: it has another type.
    """
    if not isinstance(given, kind):
        raise ValueError(f"{what}: expected {_KINDS.get(kind, kind.__name__)}, got {given!r}")
    return given


def require_known(given: Iterable[str], known: Sequence[str], what: str) -> None:
    """Check that every given name is known.

    Args:
        given: the names.
        known: the names that exist.
        what: what they name, for the error.

    Raises:
        ValueError: a name is unknown.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"{what}: expected {', '.join(known)}, got {name!r}")


def text(said: object, most: int) -> str:
    """Return an object as text that can be sent, cut off after `most` characters."""
    # A lone surrogate, as in a file name that is not UTF-8, has no form on the wire.
    return words(said).encode("utf-8", "backslashreplace").decode()[:most]


def words(said: object) -> str:
    """Return an object as text; if an exception's own `__str__` fails, say that."""
    try:
        return str(said)
    except Exception as error:  # noqa: BLE001 - it is a user's method
        return f"str() of this {type(said).__name__} raised {type(error).__name__}"
