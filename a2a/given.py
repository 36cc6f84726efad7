"""What a caller gives, in the form in which it travels, or what is wrong with it in the caller's own words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

__all__ = ["milliseconds", "milliseconds_if_any", "several"]

T = TypeVar("T")


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
        ValueError: it is one text, which Python takes for its letters.
    """
    if isinstance(given, str):
        raise ValueError(f"{what}: expected a list, got the text {given!r}")
    return list(given)
