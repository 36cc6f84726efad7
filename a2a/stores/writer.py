"""Writes a ledger's files: in the event loop on a fast disk, otherwise in a thread that commits in groups.

Handing a job to the thread costs more than a sync of a fast disk: between any two calls of SQLite the thread waits for
the interpreter, which the loop holds. So small jobs are committed where they are put. Jobs that may take longer go to
the thread, and while the disk is slow, so do all jobs: there the next group collects while the last one is synced, and
a busy ledger needs few syncs. The thread releases everything that the ledger holds open, at its end: this way the lock
goes last, even if nobody waits for it. This module does not know what is in an entry, nor how the file is made or
checked. `sqlite` owns it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.archived import ArchiveEntry
from ..errors import StoreConflict, StoreError
from .appending import Outcome, end_after, tell
from .base import Appended, Entry
from .blobs import BlobDirectory
from .database import QUERIES, run
from .rows import to_rows

__all__ = ["GroupWriter", "Job"]

SLOW_COMMIT = 0.001
"""Seconds. With commits of this length the loop and the thread do equally many tasks; with the 0.2 to 0.4 ms of a local
disk the loop does a quarter more, with 2.5 ms 3 % fewer."""
SLOW_COMMITS = 4
"""The disk is slow after this many slow commits, minus the fast ones in between. One commit in a hundred moves the
write-ahead log into the database, which takes its time on any disk."""
GROUPS_BY_THREAD = 256
"""How many jobs go to the thread before the disk is tried again."""
SMALL_BYTES = 1024 * 1024
"""The most that the loop writes itself; more is worth handing over."""


@dataclass(slots=True)
class Job:
    """One thing to make durable: entries at the end of the log, or rows beside it."""

    done: Appended
    entries: Sequence[Entry] = ()
    expected: int | None = None
    """Where the log must end before this job, or None if the job does not care."""
    archived: Sequence[ArchiveEntry] = ()
    """Settled tasks, closed conflicts and idle contexts that the entries say are in the archive."""
    reaches: int = 0
    """The position that the log must have reached: a snapshot must not be ahead of it."""
    statement: str = ""
    """The statement for `rows`."""
    rows: Sequence[tuple[Any, ...]] = ()

    @property
    def is_small(self) -> bool:
        """Whether a fast disk writes it in no time; not true of a snapshot or a blob."""
        if self.rows:
            return False
        size = sum(len(entry.body) + len(entry.payload or b"") for entry in self.entries)
        return size + sum(len(kept.body) + sum(map(len, kept.beside)) for kept in self.archived) <= SMALL_BYTES


class GroupWriter:
    """The connection that writes, a thread and its queue, and the end of the log.

    The loop writes only while the thread has nothing to do, so jobs are written in the order they are put. The queue
    has no bound of its own: a job is a few references, and it stands for replies that the server has not sent, which
    the server bounds by not reading further. After a failure every later job fails with the same error: whatever the
    coordinator has decided since relies on entries that are not there.

    Args:
        path: the ledger, for messages.
        loop: where callbacks run.
        blobs: where large payloads go; `prepare` opens it.
        prepare: called first, in the thread. Makes the connection, which the loop uses too, and pushes what is to be
            released onto the stack.
    """

    def __init__(
        self,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        blobs: BlobDirectory,
        prepare: Callable[[ExitStack], tuple[sqlite3.Connection, int]],
    ) -> None:
        self.end = 0
        """The position of the last durable entry; set after each commit, read from any thread."""
        self.commits = 0
        """Groups committed so far; set and read likewise."""
        self.opened: asyncio.Future[int] = loop.create_future()
        """Done when the ledger is open: the end of the log, or why it could not be opened."""
        self.closed: asyncio.Future[int] = loop.create_future()
        """Done when everything is released, with the end of the log. This is the thread's last message."""
        self._path = path
        self._loop = loop
        self._blobs = blobs
        self._prepare = prepare
        self._failure: StoreError | None = None
        self._connection: sqlite3.Connection | None = None
        """The connection from `prepare`. The thread uses it while anything is queued, the loop otherwise."""
        self._queued = 0
        """Jobs that went to the thread and are not reported back to the loop yet."""
        self._commit_seconds = 0.0
        """Duration of the last commit, without the preceding statements."""
        self._slow_commits = 0
        self._for_thread = 0
        """How many more jobs go to the thread because the disk is slow."""
        # The queue decouples the two threads; a direct call would make the event loop wait for a slow disk.
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # A daemon: a program that ends without `aclose` ends, and leaves its ledger as after a crash.
        self._thread = threading.Thread(target=self._run, name=f"ledger {path.name}", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Write a job, or queue it; called in the event loop. Nothing may be put after `stop`."""
        if self._for_thread:
            self._for_thread -= 1
        elif not self._queued and self._connection is not None and job.is_small:
            commits = self.commits
            told = self._write(self._connection, [job])
            if self.commits > commits:
                self._judge(self._commit_seconds)
            # Told here, not in the loop's next turn, which took 3 % longer with one task at a time.
            tell(self._loop, told)
            return
        self._queued += 1
        self._queue.put(job)

    def _judge(self, seconds: float) -> None:
        """Treat the disk as slow after several slow commits: it would hold up the loop."""
        if seconds < SLOW_COMMIT:
            self._slow_commits = max(0, self._slow_commits - 1)
            return
        self._slow_commits += 1
        if self._slow_commits == SLOW_COMMITS:
            self._slow_commits -= 1  # one more slow commit, and the disk is slow again
            self._for_thread = GROUPS_BY_THREAD

    def stop(self) -> None:
        """Have the thread write what is queued, release everything and end; then `closed` is done."""
        self._queue.put(None)

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with ExitStack() as stack:
                connection, self.end = self._prepare(stack)
                self._connection = connection
                self._say(_settle, self.opened, self.end)
                self._write_until_stopped(connection)
        except Exception as exc:  # noqa: BLE001 - it is raised where `open` or `aclose` waits
            error = exc
        self._say(self._conclude, error)

    def _conclude(self, error: Exception | None) -> None:
        """Tell, in the event loop, whoever waits that the thread has ended."""
        waiting = self.closed if self.opened.done() else self.opened
        if error is None:
            waiting.set_result(self.end)
        else:
            waiting.set_exception(error)

    def _write_until_stopped(self, connection: sqlite3.Connection) -> None:
        while True:
            jobs, stopped = self._take()
            if jobs and not self._say(self._written, self._write(connection, jobs)):
                return
            if stopped:
                return

    def _written(self, outcomes: list[Outcome]) -> None:
        self._queued -= len(outcomes)
        tell(self._loop, outcomes)

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for a job and take all that are queued; say whether a stop was among them, which is then the last."""
        items = [self._queue.get()]
        # Nobody else takes from this queue, so these calls do not wait.
        items.extend(self._queue.get() for _ in range(self._queue.qsize()))
        jobs = [item for item in items if item is not None]
        return jobs, len(jobs) < len(items)

    def _write(self, connection: sqlite3.Connection, jobs: list[Job]) -> list[Outcome]:
        """Commit the jobs up to the first that conflicts, and fail the others; return what to tell the callers."""
        committed = 0
        if self._failure is None:
            good, end, conflict = self._in_order(jobs)
            try:
                if good:
                    self._commit(connection, good)
                self.end = end
                committed, self._failure = len(good), conflict
            except sqlite3.IntegrityError as exc:
                self._failure = StoreConflict(f"{self._path}: somebody else wrote after entry {self.end}: {exc}")
                self._failure.__cause__ = exc
            except Exception as exc:  # noqa: BLE001 - a thread that ends here would leave every caller waiting
                self._failure = StoreError(f"{self._path}: could not write after entry {self.end}: {exc}")
                self._failure.__cause__ = exc
        return [(job.done, None if i < committed else self._failure) for i, job in enumerate(jobs)]

    def _in_order(self, jobs: list[Job]) -> tuple[list[Job], int, StoreConflict | None]:
        """Return the jobs that fit the log and each other, the log's end after them, and why no more fit."""
        end = self.end
        for i, job in enumerate(jobs):
            try:
                if job.expected is not None:
                    end = end_after(end, job.entries, job.expected)
                if job.reaches > end:
                    raise StoreConflict(f"the snapshot reaches to entry {job.reaches}, but the log ends at {end}")
            except StoreConflict as conflict:
                return jobs[:i], end, conflict
        return jobs, end, None

    def _commit(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        entries = [entry for job in jobs for entry in job.entries]
        archived = [kept for job in jobs for kept in job.archived]
        others = [job for job in jobs if job.rows]
        if not entries and not archived and not others:
            return
        # Before the transaction: a row never names a blob that is not durable.
        rows = to_rows(entries, archived, self._blobs)
        started = time.perf_counter()
        if not archived and not others:
            # One row of the log is a transaction by itself. Nearly all groups are one row, which takes a tenth less.
            connection.executemany(QUERIES["append_group"], rows.groups)
        else:
            try:
                run(connection, "begin")
                connection.executemany(QUERIES["append_group"], rows.groups)
                if rows.tasks:
                    connection.executemany(QUERIES["archive_tasks"], rows.tasks)
                    connection.executemany(QUERIES["keep_keys"], rows.keys)
                    _move_keys(connection, rows.keys)
                if rows.conflicts:
                    connection.executemany(QUERIES["archive_conflicts"], rows.conflicts)
                    connection.executemany(QUERIES["archive_conflict_tasks"], rows.conflict_tasks)
                if rows.contexts:
                    connection.executemany(QUERIES["archive_contexts"], rows.contexts)
                for job in others:
                    connection.executemany(QUERIES[job.statement], job.rows)
                started = time.perf_counter()
                run(connection, "commit")
            except BaseException:
                if connection.in_transaction:  # SQLite itself has rolled back after some errors
                    connection.rollback()
                raise
        self._commit_seconds = time.perf_counter() - started
        self.commits += 1

    def _say(self, call: Callable[..., None], *args: object) -> bool:
        """Have the event loop call something; return whether the loop still exists."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            if self._loop.is_closed():
                return False  # its owner ended without `aclose`, so nobody is left to tell
            raise
        return True


def _move_keys(connection: sqlite3.Connection, kept: Sequence[tuple[Any, ...]]) -> None:
    """Move twice as many keys of older parts as were kept, so that a part is empty before the next one is full."""
    moved = {"newest": max(part for part, _, _ in kept), "count": 2 * len(kept)}
    run(connection, "move_keys", moved)
    run(connection, "drop_moved_keys", moved)


def _settle(future: asyncio.Future[int], result: int) -> None:
    if not future.done():  # otherwise `open` was cancelled
        future.set_result(result)
