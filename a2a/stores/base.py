"""The contract of every ledger store.

A store is an append-only log with a known end, plus two things beside it: the newest snapshot and an indexed archive of
settled tasks, closed conflicts and idle contexts. A store does not know what these contain, nor anything of messages:
to it an entry is bytes, with a name and a time for people. The server owns exactly one store; one contract test covers
every implementation.

The contract is narrow enough for a replicated log: an append names the position it expects, like a stream with an
expected last sequence, and only `append` moves the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ..engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry

__all__ = [
    "Appended",
    "Durability",
    "Entry",
    "Snapshot",
    "Store",
]

Durability = Literal["fsync", "os", "memory"]
"""What a reply after an append guarantees: on stable storage, with the operating system, or in this process only."""

Appended = Callable[[BaseException | None], None]
"""Called once in the event loop: with None when the batch is durable, else with the error."""


class Entry(NamedTuple):
    """One record in the log. It is a NamedTuple, like a row: a frozen dataclass takes six times as long to make."""

    lsn: int
    """Position in the log, from 1, without gaps."""
    kind: str
    """The record's name, for people and audits; the body has it too."""
    task: str | None
    """The task it is about, if any."""
    at: int
    """When it was decided, by the coordinator's clock, in milliseconds since the epoch."""
    body: bytes
    payload: bytes | None = None
    """Opaque bytes that an agent or a user wrote; stored unchanged."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folded state up to and including the entry at `lsn`."""

    lsn: int
    body: bytes


class Store(Protocol):
    """A ledger on some medium. Open it once, in the event loop that will use it, and close it when the server ends.

    Every method except `open` and `aclose` raises StoreError while the store is not open.
    """

    @property
    def path(self) -> Path | None:
        """The file from which other processes can read the ledger while it is open, or None."""

    @property
    def durability(self) -> Durability:
        """What an acknowledged append guarantees."""

    async def open(self) -> int:
        """Open the log and return the position of its last entry, or 0 if it is empty.

        Raises:
            StoreLocked: it is already open, in another process or in this one.
            StoreCorrupt: the integrity check found damage; nothing was changed.
            StoreTooNew: a newer version of this software wrote it.
        """

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchiveEntry] = ()
    ) -> None:
        """Make a batch durable at the end of the log, all of it or nothing, in the order of the calls.

        Returns soon: work that takes long, or waits for a slow medium, continues after the call.

        Args:
            entries: consecutive entries; the first has `lsn == expected + 1`.
            expected: the position of the log's end before this batch. If it differs, `done` gets StoreConflict.
            done: called in the event loop, in the order of the calls, during this call or later. After a failure every
                later batch fails too, and so do snapshots and archiving. A failed batch may still be there after the
                next open, as after any failed sync: the failure means that nobody knows, not that the batch was lost.
            archived: settled tasks, closed conflicts and idle contexts that the batch says are in the archive. They are
                there once the batch is durable. One that is already there is replaced.

        The store does not bound what waits: the server stops reading while too many appends are unanswered.
        """

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Yield the entries after position `after`, in order.

        Sees what was durable at the call. May be slow: call it at start or off the event loop.

        Raises:
            StoreCorrupt: a part of an entry is missing or damaged.
        """

    def blob_of(self, piece: bytes) -> bytes | None:
        """Return the name under which a byte string is kept permanently, as the payload of an entry, or None.

        Blocks while it hashes. Any thread may call it, and so may a copy of this process.
        """

    def blob(self, name: bytes) -> bytes:
        """Return the byte string that is kept under a name. Blocks.

        Raises:
            StoreError: there is none, or it is damaged.
        """

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` in place of the previous one.

        Raises:
            StoreConflict: it covers entries that the log does not have.
        """

    async def load_snapshot(self) -> Snapshot | None:
        """Return the newest snapshot, or None."""

    async def find_archived(
        self, *, task: str | None = None, key: tuple[str, str] | None = None, whole: bool = True
    ) -> ArchivedTask | None:
        """Return the archived task with this id, or with this (scope, key), or None.

        If several have the same (scope, key), it is the one created last. Without `whole`, the byte strings beside its
        body are not read, and are empty.

        Raises:
            StoreCorrupt: one of them is missing or damaged.
        """

    async def list_archived(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        state: str | None = None,
        skill: str | None = None,
        parent: str | None = None,
        context_id: str | None = None,
        dead_letter: bool = False,
        whole: bool = True,
    ) -> list[ArchivedTask]:
        """Return the archived tasks that match, last created first; with `before`, only those before that `lsn`.

        Tasks that are gone are left out; with `dead_letter` only dead letters match. Without `whole`, the byte strings
        beside their bodies are not read, and are empty: a page of many tasks may have gigabytes of them.
        """

    async def list_ended(
        self,
        *,
        behind: tuple[int, int] | None = None,
        limit: int = 100,
        state: str | None = None,
        context_id: str | None = None,
        since: int = 0,
        whole: bool = True,
    ) -> tuple[list[ArchivedTask], int]:
        """Return the archived tasks that match and are not gone, last settled first, and how many match in all.

        Args:
            behind: a time and a position: only tasks that settled before that time, or at that time and were created
                before that position.
            limit: how many to return at most.
            state: only tasks that ended in this state.
            context_id: only tasks of this context.
            since: only tasks that settled at this time or later.
            whole: as for `list_archived`.
        """

    async def find_conflict(self, conflict: str) -> ArchivedConflict | None:
        """Return the archived conflict with this id, or None."""

    async def list_conflicts(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        kind: str | None = None,
        object: str | None = None,
        task: str | None = None,
    ) -> list[ArchivedConflict]:
        """Return the archived conflicts that match, last opened first.

        Args:
            before: only conflicts that opened before this position.
            limit: how many to return at most.
            kind: only conflicts of this kind.
            object: only conflicts about this object.
            task: only conflicts that are about this task.
        """

    async def find_context(self, context_id: str) -> ArchivedContext | None:
        """Return the archived context with this id, or None."""

    async def prune(self, settled_before: int, limit: int) -> int:
        """Empty the oldest archived tasks that settled before this time, `limit` at most, and return how many.

        Their rows stay, without the body.
        """

    async def aclose(self) -> None:
        """Write what is queued and release the ledger. Safe to call twice."""
