"""A ledger in an SQLite file, durable against power failure, for the one process that holds its lock.

Beside `ledger.db` it keeps `ledger.db.lock` (never deleted), `ledger.db.blobs/` with the large payloads, and SQLite's
own `-wal` and `-shm`. It combines the lock, the file and its schema (`database`), the thread that writes (`writer`) and
the blobs. It knows nothing of tasks or messages. The server makes it when the settings name a path.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

from ..engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry
from ..errors import StoreError
from .base import Appended, Durability, Entry, Snapshot, Store
from .blobs import BlobDirectory
from .database import Parameters, adopt, check, connect_reader, connect_writer, create, run
from .files import resolved
from .lock import LedgerLock
from .rows import K, Row, archived_from, conflicts_from, conflicts_query, entries_in, of_key
from .writer import GroupWriter, Job

__all__ = ["SqliteStore"]

T = TypeVar("T")

_LSN_MAX = 2**63 - 1

_SNAPSHOT_MAX_BYTES = 999_000_000
"""SQLite takes a thousand million bytes in a row, unless it was built for more."""

_PAGE_ROWS = 16
"""How many groups `read` holds at a time; a group is what was committed together."""

_RELEASED_WITHIN = 10.0
"""Seconds that a cancelled caller waits for the ledger that it was opening to be released: a disk may be slow."""
_ASIDE_THREADS = 4
"""Threads for reads, so that a short read does not wait for a long one."""


class SqliteStore(Store):
    """A store in the SQLite file at `path`, made if missing; only its owner may access the files.

    `append` writes the batch, or queues it for a thread; see `GroupWriter`. A batch whose append failed may still be
    there after the next open, as after any failed sync.

    Cancelling a method that writes gives up the wait, not the write. `open` after `aclose` works.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._ledger: _OpenLedger | None = None
        """The open ledger; set by `open`, cleared when `aclose` begins."""
        self._closed: asyncio.Future[int] | None = None
        """Done when the last open ledger is released."""

    @property
    def path(self) -> Path:
        return self._path

    @property
    def durability(self) -> Durability:
        return "fsync"

    @property
    def commits(self) -> int:
        """Groups committed since `open`, for metrics: entries per commit shows how well grouping works."""
        return self._require_open().writer.commits

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        # Resolved, so that the same file has the same lock whichever link leads to it.
        ledger = _OpenLedger(resolved(self.path), loop)
        try:
            end = await ledger.writer.opened
        except asyncio.CancelledError:
            ledger.writer.stop()
            closed = ledger.writer.closed
            closed.add_done_callback(asyncio.Future.exception)  # why it could not be opened: nobody asks any more
            with anyio.CancelScope(shield=True):
                # Else whoever opens it next finds it locked, by this process.
                await asyncio.wait([closed], timeout=_RELEASED_WITHIN)
            raise
        self._ledger, self._closed = ledger, ledger.writer.closed
        return end

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchiveEntry] = ()
    ) -> None:
        self._require_open().writer.put(Job(done, tuple(entries), expected, archived))

    def read(self, after: int = 0) -> Iterator[Entry]:
        ledger = self._require_open()
        # Taken here, not at the first entry: the contract says "at the call".
        return ledger.read(max(after, 0), ledger.writer.end)

    def blob_of(self, piece: bytes) -> bytes | None:
        return self._require_open().blobs.find(piece)

    def blob(self, name: bytes) -> bytes:
        return self._require_open().blobs.get(name)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        if len(snapshot.body) > _SNAPSHOT_MAX_BYTES:  # a write that fails would also fail all later ones
            raise StoreError(
                f"{self.path}: the snapshot of record {snapshot.lsn} has {len(snapshot.body)} bytes, but the"
                f" file takes {_SNAPSHOT_MAX_BYTES}"
            )
        await self._write("save_snapshot", [(snapshot.lsn, snapshot.body)], reaches=snapshot.lsn)

    async def load_snapshot(self) -> Snapshot | None:
        rows = await self._query("load_snapshot", ())
        return Snapshot(*rows[0]) if rows else None

    async def find_archived(
        self, *, task: str | None = None, key: tuple[str, str] | None = None, whole: bool = True
    ) -> ArchivedTask | None:
        if (task is None) == (key is None):
            raise ValueError("find_archived needs either a task or a key")
        if key is not None:
            found = await self._archived(ArchivedTask, "find_archived_by_key", of_key(*key), whole=whole)
        else:
            found = await self._archived(ArchivedTask, "find_archived_by_task", (task,), whole=whole)
        return next(iter(found), None)

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
        place = {"before": before, "limit": limit}
        return await self._archived(ArchivedTask, "list_archived", {**place, **wanted}, whole=whole)

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
        wanted = {"state": state, "context_id": context_id, "since": since}
        settled_at, before = behind or (_LSN_MAX, _LSN_MAX)
        place = {"settled_at": settled_at, "before": before, "limit": limit}
        found = await self._archived(ArchivedTask, "list_ended", {**place, **wanted}, whole=whole)
        ((count,),) = await self._query("count_ended", wanted)
        return found, count

    async def find_conflict(self, conflict: str) -> ArchivedConflict | None:
        return next(iter(await self._conflicts("find_conflict", (conflict,))), None)

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
        before = _LSN_MAX if before is None else before
        return await self._conflicts(conflicts_query(task), {"before": before, "limit": limit, **wanted})

    async def find_context(self, context_id: str) -> ArchivedContext | None:
        return next(iter(await self._archived(ArchivedContext, "find_context", (context_id,))), None)

    async def prune(self, settled_before: int, limit: int) -> int:
        rows = await self._query("find_prunable", (settled_before, limit))
        await self._write("prune_tasks", rows)
        return len(rows)

    async def aclose(self) -> None:
        if self._ledger is not None:
            self._ledger.writer.stop()
            self._ledger = None
        if self._closed is not None:
            # The thread writes and releases even if nobody waits; the wait takes as long as the disk does.
            await asyncio.shield(self._closed)

    async def _write(self, statement: str, rows: Sequence[tuple[Any, ...]], reaches: int = 0) -> None:
        ledger = self._require_open()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if written.cancelled():
                return
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        ledger.writer.put(Job(done, statement=statement, rows=rows, reaches=reaches))
        await written

    async def _archived(self, of: type[K], name: str, parameters: Parameters, *, whole: bool = True) -> list[K]:
        ledger = self._require_open()
        return await ledger.aside(lambda: archived_from(of, ledger.query(name, parameters), ledger.blobs, whole=whole))

    async def _conflicts(self, name: str, parameters: Parameters) -> list[ArchivedConflict]:
        ledger = self._require_open()
        return await ledger.aside(lambda: conflicts_from(ledger.query(name, parameters), ledger.blobs))

    async def _query(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        ledger = self._require_open()
        return await ledger.aside(lambda: ledger.query(name, parameters))

    def _require_open(self) -> _OpenLedger:
        if self._ledger is None:
            raise StoreError(f"{self.path}: this ledger is not open")
        return self._ledger


class _OpenLedger:
    """What one `open` holds until its `aclose`: the lock, the writer, connections for reading, the blobs."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self.blobs = BlobDirectory.beside(path)
        self._loop = loop
        self._threads = ThreadPoolExecutor(_ASIDE_THREADS, thread_name_prefix=f"ledger aside {path.name}")
        self._idle: list[sqlite3.Connection] = []
        """Connections that nobody is reading with."""
        self._released = False
        # A reader may be in any thread, and must not give a connection back after the release.
        self._idle_lock = threading.Lock()
        self.writer = GroupWriter(path, loop, self.blobs, self._prepare)

    def _prepare(self, stack: ExitStack) -> tuple[sqlite3.Connection, int]:
        """Lock, make or check, and open. The last callback pushed is released first."""
        stack.callback(self._threads.shutdown)
        try:
            stack.callback(LedgerLock(self.path).release)
            end = check(self.path) if self.path.exists() else create(self.path)
            adopt(self.path)
            connection = connect_writer(self.path)
            stack.callback(connection.close)
            for (digests,) in run(connection, "list_blobs"):
                self.blobs.check(self.blobs.digests_in(digests))
            self.blobs.open()
        except (OSError, sqlite3.Error) as exc:
            raise StoreError(f"{self.path}: the ledger cannot be opened: {exc}") from exc
        stack.callback(self._release_readers)
        return connection, end

    def _release_readers(self) -> None:
        self._threads.shutdown()  # waits for the reads under way
        with self._idle_lock:
            self._released = True
            while self._idle:
                self._idle.pop().close()

    async def aside(self, call: Callable[[], T]) -> T:
        """Run a blocking call in one of the ledger's own threads; `aclose` waits for it."""
        try:
            return await self._loop.run_in_executor(self._threads, call)
        except (OSError, sqlite3.Error) as exc:
            raise StoreError(f"{self.path}: {exc}") from exc

    def query(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Run a statement that reads, in the current thread."""
        with self._reader() as connection:
            return run(connection, name, parameters)

    def read(self, after: int, upto: int) -> Iterator[Entry]:
        # Page by page: a statement left open between two entries would keep the write-ahead log from starting over.
        def page(after: int) -> list[Row]:
            try:
                return self.query("read_groups", {"after": after, "upto": upto, "limit": _PAGE_ROWS})
            except sqlite3.Error as exc:
                raise StoreError(f"{self.path}: could not read after entry {after}: {exc}") from exc

        return entries_in(page, after, upto, self.blobs, self.path)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        connection = self._take_reader() or connect_reader(self.path)
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _take_reader(self) -> sqlite3.Connection | None:
        with self._idle_lock:
            if self._released:
                raise StoreError(f"{self.path}: this ledger is not open")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._idle_lock:
            if self._released:
                connection.close()
            else:
                self._idle.append(connection)
