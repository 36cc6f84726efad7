"""The contract every ledger store keeps.

A store is an append-only log with a known end, plus two things beside it: the newest snapshot and an indexed archive
of settled tasks, closed conflicts and idle contexts. It knows nothing of what these say, nor of messages: an entry is
bytes with a name and a time for whoever looks. The server owns exactly one store; one contract test covers every
implementation.

The contract is narrow enough for a replicated log: an append names the position it expects, as a stream with an
expected last sequence does, and nothing but `append` moves the end.
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
"""What a reply after an append is worth: on stable storage, with the operating system, or in this process only."""

Appended = Callable[[BaseException | None], None]
"""Called once in the event loop: with None when the batch is durable, else with what went wrong."""


class Entry(NamedTuple):
    """One record in the log, as the row it is: a frozen dataclass takes six times as long to make."""

    lsn: int
    """Position in the log, from 1, without gaps."""
    kind: str
    """The record's name; for people and audits, the body names it too."""
    task: str | None
    """The task it is about, if it is about one."""
    at: int
    """Milliseconds since the epoch, the coordinator's clock at the decision."""
    body: bytes
    payload: bytes | None = None
    """Opaque bytes an agent or a user wrote; stored as they came."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folded state up to and including the entry at `lsn`."""

    lsn: int
    body: bytes


class Store(Protocol):
    """A ledger on some medium. Open it once, in the event loop that will use it, and close it when the server ends.

    Every method but `open` and `aclose` raises StoreError while the store is not open.
    """

    @property
    def path(self) -> Path | None:
        """The file that other processes can read it from while it is open; None: there is none."""

    @property
    def durability(self) -> Durability:
        """What an acknowledged append is worth."""

    async def open(self) -> int:
        """Open the log and return the position of its last entry (0 when it is empty).

        Raises:
            StoreLocked: it is open already, in another process or in this one.
            StoreCorrupt: the integrity check found damage; nothing was changed.
            StoreTooNew: a newer version of this software wrote it.
        """

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchiveEntry] = ()
    ) -> None:
        """Have a batch made durable at the end of the log, whole or not at all, in the order of the calls.

        Returns soon: what takes long, or waits for a slow medium, goes on behind the call.

        Args:
            entries: consecutive entries; the first has `lsn == expected + 1`.
            expected: the position of the log's end before this batch. Where it differs, `done` gets StoreConflict.
            done: called in the event loop, in the order of the calls, within this one or later. After a failure every
                later batch fails too, as do snapshots and archiving. A batch that failed may be there after the next
                open all the same, as after any failed sync: it says that nobody knows, not that it was not kept.
            archived: settled tasks, closed conflicts and idle contexts that the batch says are in the archive: they
                are, when it is durable. One already there is replaced.

        What waits has no bound of its own: the server stops reading while too many appends are unanswered.
        """

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Yield the entries behind position `after` in order.

        Sees what was durable at the call. May be slow: call it at start or off the event loop.

        Raises:
            StoreCorrupt: what belongs to an entry is missing or damaged.
        """

    def blob_of(self, piece: bytes) -> bytes | None:
        """Return the name under which a byte string is kept for good, as the payload of an entry; None: it is not.

        Blocks for as long as it takes to hash. For any thread, and for a copy of this process.
        """

    def blob(self, name: bytes) -> bytes:
        """Return the byte string that is kept under a name. Blocks.

        Raises:
            StoreError: there is none, or it is damaged.
        """

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` in the place of the one before.

        Raises:
            StoreConflict: it stands for entries that the log does not have.
        """

    async def load_snapshot(self) -> Snapshot | None:
        """Return the newest snapshot, or None."""

    async def find_archived(
        self, *, task: str | None = None, key: tuple[str, str] | None = None, whole: bool = True
    ) -> ArchivedTask | None:
        """Return the archived task with this id, or with this (scope, key), or None.

        Of several with the same (scope, key) it is the one created last. Without `whole` the byte strings beside its
        body are not read, and empty.

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
        """Return archived tasks that pass, those created last first, from before an `lsn` where it is given.

        Those that are gone are left out; with `dead_letter` only dead letters pass. Without `whole` the byte strings
        beside their bodies are not read, and empty: a page of many tasks may have gigabytes of them.
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
        """Return archived tasks that are not gone and pass, the one that settled last first, and how many pass in all.

        Args:
            behind: a time and a position: only tasks that settled before that time, or at it and were created before
                that position.
            limit: how many are returned at most.
            state: only tasks that ended so.
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
        """Return archived conflicts that pass, those that opened last first, from before an `lsn` where it is given.

        Args:
            before: only conflicts that opened before this position.
            limit: how many are returned at most.
            kind: only conflicts of this kind.
            object: only conflicts about this.
            task: only conflicts that are about this task.
        """

    async def find_context(self, context_id: str) -> ArchivedContext | None:
        """Return the archived context with this id, or None."""

    async def prune(self, settled_before: int, limit: int) -> int:
        """Have the oldest archived tasks that settled before this time be gone; return how many, `limit` at most.

        Their rows stay, without the body.
        """

    async def aclose(self) -> None:
        """Write what is queued, release the ledger. Safe to call twice."""
