"""A ledger that is only looked at: reads come from the file, and writes are dropped.

For a coordinator that answers questions about a ledger that no coordinator runs. It begins an epoch, as every one does,
and leaves no trace of it. Otherwise it keeps the contract of `base`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from ..engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry
from .base import Appended, Durability, Entry, Snapshot, Store
from .reader import LedgerReader

__all__ = ["LookingStore"]

_LSN_MAX = 2**63 - 1


class LookingStore(Store):
    """A store that reads through a reader; the reader's owner closes it."""

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader

    @property
    def path(self) -> None:
        return None

    @property
    def durability(self) -> Durability:
        return "memory"

    async def open(self) -> int:
        return self._reader.end

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchiveEntry] = ()
    ) -> None:
        asyncio.get_running_loop().call_soon(done, None)

    def read(self, after: int = 0) -> Iterator[Entry]:
        return self._reader.entries(after)

    def blob_of(self, piece: bytes) -> bytes | None:
        return None

    def blob(self, name: bytes) -> bytes:
        return self._reader.blob(name)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        return

    async def load_snapshot(self) -> Snapshot | None:
        return self._reader.snapshot()

    async def find_archived(
        self, *, task: str | None = None, key: tuple[str, str] | None = None, whole: bool = True
    ) -> ArchivedTask | None:
        return self._reader.find_archived(task=task, key=key, whole=whole)

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
        wanted = {
            "state": state,
            "skill": skill,
            "parent": parent,
            "context_id": context_id,
            "dead_letter": dead_letter,
        }
        before = _LSN_MAX if before is None else before
        return self._reader.list_archived({"before": before, "limit": limit, **wanted}, whole=whole)

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
        settled_at, before = behind or (_LSN_MAX, _LSN_MAX)
        place = {"settled_at": settled_at, "before": before, "limit": limit}
        wanted = {"state": state, "context_id": context_id, "since": since}
        return self._reader.list_ended(place, wanted, whole=whole)

    async def find_conflict(self, conflict: str) -> ArchivedConflict | None:
        return self._reader.find_conflict(conflict)

    async def list_conflicts(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        kind: str | None = None,
        object: str | None = None,
        task: str | None = None,
    ) -> list[ArchivedConflict]:
        wanted = {"kind": kind, "object": object, "task": task}
        return self._reader.list_conflicts({"before": _LSN_MAX if before is None else before, "limit": limit, **wanted})

    async def find_context(self, context_id: str) -> ArchivedContext | None:
        return self._reader.find_context(context_id)

    async def prune(self, settled_before: int, limit: int) -> int:
        return 0

    async def aclose(self) -> None:
        return
