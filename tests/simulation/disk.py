"""The coordinator's disk: batches become durable late, in order, each whole or not at all.

This is what the store promises and SQLite keeps: a batch is inside one transaction, whose commit record has a checksum,
and a commit torn by a crash is not there. Several batches may share a commit; a crash that loses or keeps them together
is one case of losing any number of the newest. A failed append may still be there after the next open, as after any
failed sync.

It keeps bytes, as a store does: the records a restarted coordinator folds went through `to_bytes` and `from_bytes`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from a2a.engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry
from a2a.engine.decision import Need, Row
from a2a.engine.records import Record, from_bytes
from tests.shelf import find_conflicts, find_contexts, in_front

from .world import Event, World

__all__ = ["Disk"]

Stored = tuple[bytes, bytes | None]
Appended = Callable[[bool], None]
"""Called with True when the batch is durable, with False when the disk refused it."""


@dataclass(slots=True)
class _Pending:
    entries: list[Stored]
    done: Appended
    archived: Sequence[ArchiveEntry] = ()
    event: Event = field(default_factory=list)


class Disk:
    """The stored records, and those under way."""

    def __init__(self, world: World, latency: tuple[int, int]) -> None:
        self.world = world
        self.latency = latency
        self.entries: list[Stored] = []
        self.archive: dict[str, ArchivedTask] = {}
        """The archived tasks, by id."""
        self.conflicts: dict[str, ArchivedConflict] = {}
        """The archived conflicts, by id."""
        self.contexts: dict[str, ArchivedContext] = {}
        """The archived contexts, by id."""
        self.ends: list[int] = []
        """Positions at which a batch ends: an older copy of the ledger ends at one of them."""
        self._chance = world.chance("disk")
        self._pending: deque[_Pending] = deque()
        self._last = 0
        self._is_full = False

    @property
    def durable(self) -> int:
        """The position of the last record that survives a crash."""
        return len(self.entries)

    @property
    def is_writing(self) -> bool:
        """Whether a batch is under way."""
        return bool(self._pending)

    def append(self, entries: list[Stored], done: Appended, archived: Sequence[ArchiveEntry] = ()) -> None:
        """Write a batch, and the entries it archives."""
        batch = _Pending(entries, done, archived)
        self._last = max(self._last, self.world.now + self._chance.randint(*self.latency))
        batch.event = self.world.at(self._last, self._written, batch)
        self._pending.append(batch)
        if self._is_full:
            self.refuse_next()

    def refuse_next(self) -> None:
        """Have the oldest batch under way fail, or the next one: the disk is full."""
        self._is_full = not self._pending
        if self._pending:
            batch = self._pending[0]
            World.call_off(batch.event)
            self.world.after(0, self._refused, batch)

    def heal(self) -> None:
        """Take the next batch, even if it was to fail."""
        self._is_full = False

    def crash(self, keep: int | None = None) -> None:
        """Lose the process that wrote. The first `keep` batches under way are kept; by default a random number."""
        count = self._chance.randint(0, len(self._pending)) if keep is None else min(keep, len(self._pending))
        for number, batch in enumerate(self._pending):
            World.call_off(batch.event)
            if number < count:
                self._store(batch)
        self._pending.clear()
        self._last = 0

    def read(self) -> list[Record]:
        """Return the stored records, as a new process reads them."""
        return [from_bytes(*entry) for entry in self.entries]

    def look_up(self, need: Need) -> list[Row]:
        """Return the rows that are needed, as far as they are there."""
        if need.conflicts is not None or need.conflict is not None:
            return find_conflicts(self.conflicts, need)
        if need.page is not None:
            page = need.page
            passing = [
                task
                for task in self.archive.values()
                if (page.before is None or task.lsn < page.before)
                and page.state in (None, task.state)
                and page.skill in (None, task.skill)
                and page.parent in (None, task.parent)
                and page.context_id in (None, task.context_id)
                and (task.dead_letter or not page.dead_letter)
            ]
            passing.sort(key=lambda task: -task.lsn)
            return [Row(task.task, task.body, task.beside) for task in passing[: page.limit]]
        found = [self.archive[task] for task in need.tasks if task in self.archive]
        found.extend(task for task in self.archive.values() if (task.scope, task.key) == need.key)
        rows = (Row(task.task, task.body, task.beside, state=task.state) for task in found)
        return in_front(need, rows) if need.is_for_mail else [*rows, *find_contexts(self.contexts, need)]

    def _written(self, batch: _Pending) -> None:
        assert self._pending[0] is batch, "batches are written in order"
        self._pending.popleft()
        self._store(batch)
        batch.done(True)

    def _refused(self, batch: _Pending) -> None:
        if self._pending and self._pending[0] is batch:
            self._pending.popleft()
            if self._chance.random() < 0.3:
                self._store(batch)
            batch.done(False)

    def _store(self, batch: _Pending) -> None:
        self.entries.extend(batch.entries)
        for kept in batch.archived:
            if isinstance(kept, ArchivedTask):
                self.archive[kept.task] = kept
            elif isinstance(kept, ArchivedConflict):
                self.conflicts[kept.conflict] = kept
            else:
                self.contexts[kept.context_id] = kept
        self.ends.append(len(self.entries))
        for body, payload in batch.entries:
            self.world.mark(b"=", body)
            if payload is not None:
                self.world.mark(b"+", payload)
