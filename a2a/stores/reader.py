"""Reads a ledger's file in a process that does not own it: without the lock, even while the ledger is written.

For tools that look at a ledger, and for the process that makes snapshots. It sees the log that was durable when the
reader was opened, and the archive as of each call, except inside `still`. It does not check for damage: the coordinator
does when it opens the file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from ..engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask
from ..engine.ledger import namespace_in
from ..engine.records import from_bytes
from ..engine.snapshot import namespace_of
from ..errors import StoreCorrupt, StoreError, StoreTooOld
from .base import Entry, Snapshot
from .blobs import BlobDirectory
from .database import LEDGERS, MIGRATIONS, Parameters, connect_reader, run, too_new
from .files import resolved
from .rows import Row, archived_from, conflicts_from, conflicts_query, entries_in, of_key

__all__ = ["LedgerReader"]

_PAGE_ROWS = 64


class LedgerReader:
    """The ledger in the SQLite file at `path`, to be read by one thread at a time.

    Raises:
        StoreError: it cannot be opened; StoreTooNew, StoreTooOld: another version wrote it.
        StoreCorrupt: its log has no valid end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = resolved(Path(path))
        if not self.path.is_file():
            raise StoreError(f"{self.path}: there is no ledger")
        with self._translated():
            self._connection = connect_reader(self.path)
        try:
            [(version,)] = self._run("get_version")
            if version > len(MIGRATIONS):
                raise too_new(self.path, version)
            [(application,)] = self._run("get_application")
            if application not in LEDGERS:
                raise StoreError(f"{self.path}: expected a ledger, this is not one")
            if version < len(MIGRATIONS):
                raise StoreTooOld(f"{self.path}: an older version wrote it; start a coordinator on it once")
            self._blobs = BlobDirectory.beside(self.path)
            self.end = self._find_end()
            """The position of the last entry when the reader was opened, or `still` began."""
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside the block, see entries, snapshot and archive as they are now, whatever is written meanwhile.

        During that time the write-ahead log of a coordinator that writes only grows, because no checkpoint passes what
        is read here. So use it for a complete look that ends by itself, not for one that waits for a person.
        """
        self._run("begin_reading")
        try:
            self.end = self._find_end()
            yield
        finally:
            self._run("end_reading")

    def namespace(self) -> str:
        """Return the ledger's namespace. An older ledger without tasks does not name it; then a snapshot may."""
        with suppress(ValueError):  # a record is damaged
            for entry in self.entries():
                if found := namespace_in(from_bytes(entry.body, entry.payload)):
                    return found
        kept = self.snapshot()
        with suppress(ValueError):  # another version wrote it
            return namespace_of(kept.body) if kept is not None else "main"
        return "main"

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield the entries after a position, in order.

        Raises:
            StoreCorrupt: one is missing or damaged.
        """

        def page(after: int) -> list[Row]:
            return self._run("read_groups", {"after": after, "upto": self.end, "limit": _PAGE_ROWS})

        return entries_in(page, after, self.end, self._blobs, self.path)

    def snapshot(self) -> Snapshot | None:
        """Return the newest snapshot, or None."""
        rows = self._run("load_snapshot")
        return Snapshot(*rows[0]) if rows else None

    def blob_of(self, piece: bytes) -> bytes | None:
        """Return the name under which a byte string is kept beside the file, or None."""
        return self._blobs.find(piece)

    def blob(self, name: bytes) -> bytes:
        """Return the byte string that is kept under a name.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        return self._blobs.get(name)

    def find_archived(
        self, *, task: str | None = None, key: tuple[str, str] | None = None, whole: bool = True
    ) -> ArchivedTask | None:
        """Return an archived task as `Store.find_archived` does."""
        if key is None:
            rows = self._run("find_archived_by_task", (task,))
        else:
            rows = self._run("find_archived_by_key", of_key(*key))
        return next(iter(archived_from(ArchivedTask, rows, self._blobs, whole=whole)), None)

    def list_archived(self, wanted: dict[str, Any], *, whole: bool = True) -> list[ArchivedTask]:
        """Return archived tasks as `Store.list_archived` does; `wanted` has all its other arguments."""
        return archived_from(ArchivedTask, self._run("list_archived", wanted), self._blobs, whole=whole)

    def list_ended(
        self, place: dict[str, Any], wanted: dict[str, Any], *, whole: bool = True
    ) -> tuple[list[ArchivedTask], int]:
        """Return archived tasks as `Store.list_ended` does; `place` says where the page starts, `wanted` what fits."""
        ((count,),) = self._run("count_ended", wanted)
        return archived_from(ArchivedTask, self._run("list_ended", place | wanted), self._blobs, whole=whole), count

    def find_conflict(self, conflict: str) -> ArchivedConflict | None:
        """Return the archived conflict with this id, or None."""
        return next(iter(conflicts_from(self._run("find_conflict", (conflict,)), self._blobs)), None)

    def list_conflicts(self, wanted: dict[str, Any]) -> list[ArchivedConflict]:
        """Return archived conflicts as `Store.list_conflicts` does; `wanted` has all its arguments."""
        return conflicts_from(self._run(conflicts_query(wanted["task"]), wanted), self._blobs)

    def find_context(self, context_id: str) -> ArchivedContext | None:
        """Return the archived context with this id, or None."""
        return next(iter(archived_from(ArchivedContext, self._run("find_context", (context_id,)), self._blobs)), None)

    def list_contexts(self, after: str, limit: int) -> list[ArchivedContext]:
        """Return archived contexts in the order of their ids, after the given one; `limit` at most."""
        return archived_from(ArchivedContext, self._run("list_contexts", (after, limit)), self._blobs)

    def _find_end(self) -> int:
        [(end,)] = self._run("find_end")
        if type(end) is not int:
            raise StoreCorrupt(f"{self.path}: the log ends at {end!r}, which is not a position")
        return end

    def _run(self, name: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        with self._translated():
            return run(self._connection, name, parameters)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StoreError(f"{self.path}: cannot be read: {exc}") from exc
