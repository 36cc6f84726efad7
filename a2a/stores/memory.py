"""A ledger in this process's memory, for tests, for the simulator and for squads that need not survive a crash.

It keeps the contract of `base` and knows nothing of disks or threads. What it stores lives in a `Medium`, which
outlives the store as a file does: open the same store again, or another one on the same medium, and the entries are
there. `crash` stands in for a kill -9.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry
from ..errors import StoreConflict, StoreError, StoreLocked
from .appending import Outcome, end_after, tell
from .base import Appended, Durability, Entry, Snapshot, Store

__all__ = ["Medium", "MemoryStore"]


@dataclass(slots=True)
class Medium:
    """The content of a memory store: the stand-in for the file."""

    log: list[Entry] = field(default_factory=list)
    snapshot: Snapshot | None = None
    archive: dict[str, ArchivedTask] = field(default_factory=dict)
    conflicts: dict[str, ArchivedConflict] = field(default_factory=dict)
    contexts: dict[str, ArchivedContext] = field(default_factory=dict)
    holder: MemoryStore | None = None
    """The store that has it open; set by `open`, cleared by `aclose` and `crash`."""


class MemoryStore(Store):
    """A store whose medium is this process.

    Done callbacks run in a later turn of the event loop, never inside `append`, as with a store that takes time. They
    wait in a list that grows by one for each batch of the same turn.

    Args:
        medium: what an earlier store stored, to open it again; by default a new, empty one.
    """

    def __init__(self, medium: Medium | None = None) -> None:
        self.medium = medium if medium is not None else Medium()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outcomes: deque[Outcome] = deque()
        self._failure: StoreError | None = None

    @property
    def path(self) -> None:
        return None

    @property
    def durability(self) -> Durability:
        return "memory"

    async def open(self) -> int:
        if self.medium.holder is not None:
            raise StoreLocked("this memory ledger is already open in this process")
        self.medium.holder = self
        self._loop = asyncio.get_running_loop()
        self._failure = None
        return len(self.medium.log)

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchiveEntry] = ()
    ) -> None:
        loop = self._require_open()
        if self._failure is None:
            self._failure = self._store(tuple(entries), expected)
        if self._failure is None:
            for kept in archived:
                if isinstance(kept, ArchivedTask):
                    self.medium.archive[kept.task] = kept
                elif isinstance(kept, ArchivedConflict):
                    self.medium.conflicts[kept.conflict] = kept
                else:
                    self.medium.contexts[kept.context_id] = kept
        if not self._outcomes:
            loop.call_soon(self._tell)
        self._outcomes.append((done, self._failure))

    def read(self, after: int = 0) -> Iterator[Entry]:
        self._require_open()
        return iter(self.medium.log[max(after, 0) :])

    def blob_of(self, piece: bytes) -> bytes | None:
        return None

    def blob(self, name: bytes) -> bytes:
        raise StoreError(f"{name.hex()} is not kept apart")

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._require_sound()
        end = len(self.medium.log)
        if snapshot.lsn > end:
            self._failure = StoreConflict(f"the snapshot reaches to entry {snapshot.lsn}, but the log ends at {end}")
            raise self._failure
        self.medium.snapshot = snapshot

    async def load_snapshot(self) -> Snapshot | None:
        self._require_open()
        return self.medium.snapshot

    async def find_archived(
        self, *, task: str | None = None, key: tuple[str, str] | None = None, whole: bool = True
    ) -> ArchivedTask | None:
        self._require_open()
        if (task is None) == (key is None):
            raise ValueError("find_archived needs either a task or a key")
        if task is not None:
            found = self.medium.archive.get(task)
        else:
            # A scan: a test's archive is small, and an index would be one more thing to maintain.
            named = [kept for kept in self.medium.archive.values() if (kept.scope, kept.key) == key]
            found = max(named, key=_age, default=None)
        return None if found is None else _shown([found], whole)[0]

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
        self._require_open()
        passing = [
            task
            for task in self.medium.archive.values()
            if task.body
            and (before is None or task.lsn < before)
            and state in (None, task.state)
            and skill in (None, task.skill)
            and parent in (None, task.parent)
            and context_id in (None, task.context_id)
            and (task.dead_letter or not dead_letter)
        ]
        return _shown(sorted(passing, key=_age, reverse=True)[:limit], whole)

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
        self._require_open()
        passing = [
            task
            for task in self.medium.archive.values()
            if task.body
            and task.settled_at >= since
            and state in (None, task.state)
            and context_id in (None, task.context_id)
        ]
        passing.sort(key=_end, reverse=True)
        page = [task for task in passing if behind is None or _end(task) < behind][:limit]
        return _shown(page, whole), len(passing)

    async def find_conflict(self, conflict: str) -> ArchivedConflict | None:
        self._require_open()
        return self.medium.conflicts.get(conflict)

    async def list_conflicts(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        kind: str | None = None,
        object: str | None = None,
        task: str | None = None,
    ) -> list[ArchivedConflict]:
        self._require_open()
        passing = [
            conflict
            for conflict in self.medium.conflicts.values()
            if (before is None or conflict.lsn < before)
            and kind in (None, conflict.kind)
            and object in (None, conflict.object)
            and (task is None or task in conflict.tasks)
        ]
        return sorted(passing, key=lambda conflict: conflict.lsn, reverse=True)[:limit]

    async def find_context(self, context_id: str) -> ArchivedContext | None:
        self._require_open()
        return self.medium.contexts.get(context_id)

    async def prune(self, settled_before: int, limit: int) -> int:
        self._require_sound()
        old = [task for task in self.medium.archive.values() if task.body and task.settled_at < settled_before]
        old = sorted(old, key=lambda task: task.settled_at)[:limit]
        self.medium.archive.update((task.task, task._replace(body=b"", beside=())) for task in old)
        return len(old)

    async def aclose(self) -> None:
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        tell(loop, self._take_outcomes())
        self.medium.holder = None

    def crash(self) -> None:
        """End as a killed process does: what was appended stays, and no further callback runs."""
        self._outcomes.clear()
        self._loop = None
        if self.medium.holder is self:
            self.medium.holder = None

    def _store(self, entries: tuple[Entry, ...], expected: int) -> StoreError | None:
        try:
            end_after(len(self.medium.log), entries, expected)
        except StoreConflict as conflict:
            return conflict
        self.medium.log.extend(entries)
        return None

    def _tell(self) -> None:
        if self._loop is not None:  # otherwise it was closed or has crashed in the meantime
            tell(self._loop, self._take_outcomes())

    def _take_outcomes(self) -> list[Outcome]:
        """Take the outcomes to tell now; a batch that a callback appends is told in a later turn."""
        outcomes = list(self._outcomes)
        self._outcomes.clear()
        return outcomes

    def _require_open(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise StoreError("this memory ledger is not open")
        return self._loop

    def _require_sound(self) -> None:
        self._require_open()
        if self._failure is not None:
            raise self._failure


def _shown(tasks: list[ArchivedTask], whole: bool) -> list[ArchivedTask]:
    return tasks if whole else [task._replace(beside=(b"",) * len(task.beside)) for task in tasks]


def _end(task: ArchivedTask) -> tuple[int, int]:
    return task.settled_at, task.lsn


def _age(task: ArchivedTask) -> int:
    """The order of the archive: when the task was created."""
    return task.lsn
