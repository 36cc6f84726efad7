"""What leaves memory for the archive, with what it is found by there: the engine makes it, a store keeps it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ArchiveEntry", "ArchivedConflict", "ArchivedContext", "ArchivedTask"]


class ArchivedTask(NamedTuple):
    """A settled task in the archive, found by its id or by (scope, key)."""

    task: str
    scope: str
    key: str
    state: str
    settled_at: int
    body: bytes
    """Empty once the task is gone: the rest says that it existed."""
    lsn: int
    """The position of the record that made it; pages are ordered by it."""
    skill: str = ""
    parent: str | None = None
    context_id: str = ""
    dead_letter: bool = False
    beside: tuple[bytes, ...] = ()
    """Large byte strings that the body refers to by their place here; kept once, whatever else has them."""


class ArchivedConflict(NamedTuple):
    """A closed conflict in the archive. Nothing changes it any more."""

    conflict: str
    lsn: int
    """The position of the record that opened it; pages are ordered by it."""
    kind: str
    object: str
    tasks: tuple[str, ...]
    """The tasks it is about."""
    body: bytes
    beside: tuple[bytes, ...] = ()
    """As for a task."""


class ArchivedContext(NamedTuple):
    """A context in the archive, as it was when it last left memory."""

    context_id: str
    lsn: int
    """The position of its newest write."""
    body: bytes
    beside: tuple[bytes, ...] = ()
    """As for a task."""


ArchiveEntry = ArchivedTask | ArchivedConflict | ArchivedContext
