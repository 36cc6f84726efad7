"""Three-way merging that asks nobody: two have changed the same base in different places.

JSON merges by its places, text by its lines. If both changed the same place differently, there is no merge; that is an
outcome. A merge reads what agents wrote, so it runs as a job, inside limits of size, depth and lines, and its answer is
recorded; nothing here is called while a decision is made (spec RUNG-6).
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

from ...protocol.canonical import canonical
from .comparators import Incomparable
from .patches import merge_patches, told_where

__all__ = ["MERGED_MAX", "Merge", "Unmergeable", "merge", "run"]

MERGED_MAX = 64 * 1024
"""Bytes of a merged value: the default limit of a value in a context."""
_BYTES_MAX = 1024 * 1024
"""Bytes of each of the three values."""
_DEPTH_MAX = 64
_LINES_MAX = 500
"""Lines of all texts in one merge. Comparing this many takes a twentieth of a second at worst. A replay does it too,
and nobody kills a replay."""
_NOTHING: Any = object()
"""Stands for a missing value."""


class Unmergeable(Exception):
    """Both changed the same place differently, or the values cannot be merged at all."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A job: what is the value with the changes of both?"""

    conflict: str
    number: int
    """The number of the rung."""
    base: bytes | None
    """What both have changed; None if everything in both is an addition."""
    one: bytes
    other: bytes
    are_patches: bool = False
    """Both are results that patch something: what is the result with both patches?"""


def run(job: Merge, *, loosely: bool = False) -> tuple[bytes | None, str]:
    """Do a job, and return the merged value, or None if there is none, and why. Runs in a worker, off the loop.

    Args:
        job: the job.
        loosely: do it as earlier versions did: read diffs as with `patches.run`, and merge two objects by their places
            also where something else was there before.
    """
    try:
        if job.are_patches:
            both = _both_patches(job, loosely=loosely)
        else:
            both = merge(job.base, job.one, job.other, loosely=loosely)
        return both, "merged by what each has changed"
    except (Unmergeable, Incomparable, ValueError) as reason:  # the last as in `patches.run`
        return None, str(reason)


def _both_patches(job: Merge, *, loosely: bool) -> bytes:
    both = merge_patches(job.one, job.other, loosely=loosely)
    if len(both) > MERGED_MAX:
        raise Unmergeable("what has the changes of both is too large")
    return both


def merge(base: bytes | None, one: bytes, other: bytes, *, loosely: bool = False) -> bytes:
    """Return the value with the changes of both, in canonical form. Without a base, everything in both is an addition.

    Args:
        base: what both have changed.
        one: what one has made of it.
        other: what the other has made of it.
        loosely: as in `run`.

    Raises:
        Unmergeable: they changed the same place, or a value cannot be read, or is beyond the limits.
    """
    if max(len(value or b"") for value in (base, one, other)) > _BYTES_MAX:
        raise Unmergeable(f"a value of more than {_BYTES_MAX} bytes is not merged")
    try:
        values = [_NOTHING if value is None else json.loads(value) for value in (base, one, other)]
        both = canonical(_Merge(loosely=loosely).of(values[0], values[1], values[2], "", 0))
    except (ValueError, RecursionError) as error:
        raise Unmergeable(str(error)) from error
    if len(both) > MERGED_MAX:
        raise Unmergeable("what has the changes of both is too large")
    return both


class _Merge:
    """One merge, and how many lines it may still compare."""

    def __init__(self, *, loosely: bool) -> None:
        self.lines = _LINES_MAX
        self._loosely = loosely

    def of(self, base: Any, one: Any, other: Any, place: str, depth: int) -> Any:
        if _same(one, other) or _same(other, base):
            return one
        if _same(one, base):
            return other
        # Two objects in place of something else are two changes of one place.
        has_places = isinstance(base, dict) or base is _NOTHING or self._loosely
        if depth < _DEPTH_MAX and has_places and isinstance(one, dict) and isinstance(other, dict):
            return self.of_objects(base if isinstance(base, dict) else {}, one, other, place, depth)
        if isinstance(base, str) and isinstance(one, str) and isinstance(other, str):
            return self.of_texts(base, one, other, place)
        raise Unmergeable(f"both have changed {place or 'all of it'}")

    def of_objects(
        self, base: dict[str, Any], one: dict[str, Any], other: dict[str, Any], place: str, depth: int
    ) -> dict[str, Any]:
        merged = {}
        for name in sorted({*one, *other}):
            before, mine, theirs = (known.get(name, _NOTHING) for known in (base, one, other))
            value = self.of(before, mine, theirs, f"{place}/{name}", depth + 1)
            if value is not _NOTHING:
                merged[name] = value
        return merged

    def of_texts(self, base: str, one: str, other: str, place: str) -> str:
        """Return a text with the changed lines of both. Changes that touch each other count as one place."""
        lines = base.splitlines(keepends=True)
        self.lines -= max(len(text.splitlines()) for text in (base, one, other))
        if self.lines < 0:
            raise Unmergeable(f"at {place or 'the text'} there are more than {_LINES_MAX} lines to compare")
        changes = sorted([*_changes(lines, one), *_changes(lines, other)])
        changes = [change for at, change in enumerate(changes) if at == 0 or change != changes[at - 1]]
        merged: list[str] = []
        at = 0
        for number, (begin, end, new) in enumerate(changes):
            if number and begin <= changes[number - 1][1]:
                raise Unmergeable(told_where(changes[number - 1][1], begin, place or "the text"))
            merged += [*lines[at:begin], *new]
            at = end
        return "".join([*merged, *lines[at:]])


def _changes(lines: list[str], text: str) -> list[tuple[int, int, list[str]]]:
    """Return (first line, line after the last, replacement lines) of each change."""
    new = text.splitlines(keepends=True)
    steps = difflib.SequenceMatcher(None, lines, new, autojunk=False).get_opcodes()
    return [(begin, end, new[first:last]) for kind, begin, end, first, last in steps if kind != "equal"]


def _same(one: Any, other: Any) -> bool:
    if one is _NOTHING or other is _NOTHING:
        return one is other
    return canonical(one) == canonical(other)
