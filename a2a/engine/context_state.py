"""What contexts hold: keys with their revisions, and the writes they came from (spec CTX).

Part of the ledger's state: `apply_written` folds a record into it, and nothing else changes it. Constants bound what is
kept of the past, because what a ledger adds up to depends on no setting. It knows no message and no permission;
`context` decides what may be written.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from ..protocol.types import principal_of
from .records import ContextWritten

__all__ = [
    "REVISIONS_KEPT",
    "VALUES_KEPT",
    "WRITES_KEPT",
    "Context",
    "Entry",
    "Origin",
    "Revision",
    "Write",
    "apply_written",
]

VALUES_KEPT = 16
"""Newest revisions of a key that keep their values."""
REVISIONS_KEPT = 1_000
"""Newest revisions of a key of which author, time and reason are kept."""
WRITES_KEPT = 10_000
"""Newest writes of a context by which a repeat is recognised, and from which a watch may begin."""
_OVERHEAD = 256
"""About how many bytes a revision or a write takes in memory besides what somebody wrote."""
_DECISIONS = "decisions/"


@dataclass(slots=True)
class Origin:
    """Who wrote, when and why."""

    author: str
    at: int
    task: str | None
    fence: int | None
    reason: str
    delegators: list[str] | None = None
    """The principals that delegated the task and those above it; None if an older version wrote it."""
    is_operator: bool = False
    """Whether the author had the operator's role."""


@dataclass(slots=True)
class Write:
    """The revisions of one write."""

    lsn: int
    key: str
    """Names the write, within its author's principal."""
    digest: str
    revs: dict[str, int]
    origin: Origin

    @property
    def kept_bytes(self) -> int:
        """About how many bytes it takes in memory."""
        return _OVERHEAD + sum(map(len, self.revs)) + len(self.origin.reason)


@dataclass(slots=True)
class Revision:
    """What a key was from one write to the next."""

    payload: bytes | None
    """None: deleted, or too old for its value to be kept."""
    deleted: bool
    origin: Origin

    @property
    def kept_bytes(self) -> int:
        """About how many bytes it takes in memory."""
        return _OVERHEAD + len(self.payload or b"") + len(self.origin.reason)


@dataclass(slots=True)
class Entry:
    """A key, from its first revision on. A deleted key keeps its entry, so that its revisions go on."""

    key: str
    rev: int = 0
    """The current revision."""
    revisions: list[Revision] = field(default_factory=list)
    """The newest revisions, up to the current one."""
    decision: bool = False
    guarded: bool = False

    @property
    def newest(self) -> Revision:
        """The current revision."""
        return self.revisions[-1]

    @property
    def is_decision(self) -> bool:
        """Whether results that rely on another revision of it are looked at (spec CTX-5)."""
        return self.decision or self.key.startswith(_DECISIONS)

    @property
    def oldest_kept(self) -> int:
        """The number of the oldest revision of which anything is kept."""
        return self.rev - len(self.revisions) + 1

    def revision(self, rev: int) -> Revision | None:
        """Return a revision of the key, or None if there was none or it is not kept."""
        return self.revisions[rev - self.oldest_kept] if self.oldest_kept <= rev <= self.rev else None


@dataclass(slots=True)
class Context:
    """Values that belong together."""

    id: str
    entries: dict[str, Entry] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    """The newest writes."""
    named: dict[str, dict[str, int]] = field(default_factory=dict)
    """Principal to the positions of its writes in the ledger, by their keys."""
    lsn: int = 0
    """The position of its newest write."""
    dropped_lsn: int = 0
    """The position of the newest write that is no longer kept."""
    size: int = 0
    """Bytes of all current values."""
    kept_bytes: int = 0
    """About how many bytes all of it takes in memory."""

    def written_as(self, principal: str, key: str) -> Write | None:
        """Return the write with this key by this principal, or None."""
        lsn = self.named.get(principal, {}).get(key)
        return None if lsn is None else self.writes[bisect_left(self.writes, lsn, key=lambda write: write.lsn)]


def apply_written(contexts: dict[str, Context], record: ContextWritten, lsn: int) -> int:
    """Fold a write into its context, and return about how many more bytes are kept."""
    context = contexts.get(record.context_id)
    if context is None:
        context = contexts[record.context_id] = Context(record.context_id)
    before = context.kept_bytes
    origin = Origin(
        record.by, record.at, record.task, record.fence, record.reason, record.delegators, record.is_operator
    )
    revs = {change["key"]: change["rev"] for change in record.changes}
    _add_write(context, Write(lsn, record.key, record.digest, revs, origin))
    for change in record.changes:
        _change(context, change, origin, lsn)
    return context.kept_bytes - before


def _add_write(context: Context, write: Write) -> None:
    context.lsn = write.lsn
    context.writes.append(write)
    context.named.setdefault(principal_of(write.origin.author), {})[write.key] = write.lsn
    context.kept_bytes += write.kept_bytes
    if len(context.writes) > WRITES_KEPT:
        dropped = context.writes.pop(0)
        context.dropped_lsn = dropped.lsn
        context.kept_bytes -= dropped.kept_bytes
        principal = principal_of(dropped.origin.author)
        named = context.named[principal]
        if named[dropped.key] == dropped.lsn:  # else the outcome of a conflict has taken its name
            del named[dropped.key]
        if not named:
            del context.named[principal]


def _change(context: Context, change: dict[str, Any], origin: Origin, lsn: int) -> None:
    entry = context.entries.get(change["key"])
    if entry is None:
        entry = context.entries[change["key"]] = Entry(change["key"])
        context.kept_bytes += len(entry.key)
    if change["rev"] != entry.rev + 1:
        raise ValueError(f"record {lsn} makes {entry.key} of {context.id} revision {change['rev']} of {entry.rev}")
    value: bytes | None = change["value"]
    if entry.revisions:
        context.size -= len(entry.newest.payload or b"")
    context.size += len(value or b"")
    entry.rev += 1
    entry.revisions.append(Revision(value, value is None, origin))
    entry.decision = entry.decision or change["decision"]
    entry.guarded = entry.guarded or change["guarded"]
    context.kept_bytes += entry.newest.kept_bytes
    if len(entry.revisions) > VALUES_KEPT:
        aged = entry.revisions[-VALUES_KEPT - 1]
        context.kept_bytes -= len(aged.payload or b"")
        aged.payload = None
    if len(entry.revisions) > REVISIONS_KEPT:
        context.kept_bytes -= entry.revisions.pop(0).kept_bytes
