"""Which settled tasks leave memory, and when they and closed conflicts do (spec DURABLE-8, DURABLE-11).

`may_leave` is the rule for tasks, `Retention` the queue of what has ended, in the order in which it is due: nothing
here ever walks all tasks. It decides nothing itself; the coordinator records what it takes from here.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from enum import Enum
from heapq import heappop, heappush

from . import plain
from .archived import ArchivedTask
from .ledger import Ledger
from .task_state import Task

__all__ = ["BATCH_BYTES", "LOOK_AGAIN_MS", "TOGETHER_MS", "Fate", "Retention", "fate_of", "may_leave", "shelved"]

TOGETHER_MS = 250
"""What is due within this time leaves together: a record for each would be one more for every task."""
_BATCH = 256
"""Most tasks or conflicts of one queue at a time: each is written out, and the loop has other things to do."""
_LOOKS_MAX = 1_024
"""Most looks at a time at what is due, some microseconds each: after a start all sub-tasks whose parents are open are
due together, may be hundreds of thousands, and cannot leave."""
BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of payloads from which a record names no further task or conflict."""
_CROWD_SHARE = 256
"""Nothing leaves for lack of room until there is too much by one part in this many: tasks cost less together than one
by one. A task took 1.73 ms while there was room, and 1.98 ms when each new one made another leave."""
LOOK_AGAIN_MS = 1_000
"""What could not leave is looked at again after its time to linger, but no sooner than this."""


class Fate(Enum):
    """What becomes of something whose time to leave has come."""

    LEAVES = "leaves"
    STAYS = "stays"
    UNREAD = "unread"
    """It stays: mail about it is not acknowledged, as far as the records say."""
    GONE = "gone"
    """It is no longer there."""


def may_leave(ledger: Ledger, task: Task, leaving: Container[str] = ()) -> bool:
    """Tell whether nobody needs the task in memory any longer.

    A sub-task waits until its parent has ended, since every attempt at the parent is told of it; a parent leaves after
    the last of its sub-tasks, or with it (`leaving`).
    """
    if not task.is_terminal:
        return False
    kind, _, conflict = task.scope.partition(":")
    if kind == "conflict" and conflict in ledger.open_conflicts:
        return False  # its answer counts once the others have come
    parent = ledger.tasks.get(task.parent) if task.parent else None
    if parent is not None and not parent.is_terminal:
        return False
    if any(child in ledger.tasks and child not in leaving for child in task.children):
        return False
    return not any(task.id in ledger.holding.get(agent, ()) for agent in task.agents)


def fate_of(ledger: Ledger, name: str, wanted: Container[object], leaving: Container[str]) -> Fate:
    """Return what becomes of a task.

    Args:
        ledger: the ledger.
        name: the task's id.
        wanted: ids, and keys with their scope, that are being looked up for somebody: these stay.
        leaving: the tasks that leave with it.
    """
    task = ledger.tasks.get(name)
    if task is None:
        return Fate.GONE
    if task.id not in wanted and (task.scope, task.key) not in wanted and may_leave(ledger, task, leaving):
        return Fate.LEAVES
    return Fate.STAYS


def shelved(task: Task) -> ArchivedTask:
    """Return a settled task as the archive keeps it."""
    body, beside = plain.to_archive(task, task.kept_bytes)
    return ArchivedTask(
        task=task.id,
        scope=task.scope,
        key=task.key,
        state=task.state.value,
        settled_at=task.since,
        body=body,
        lsn=task.lsn,
        skill=task.spec["skill"],
        parent=task.parent,
        context_id=task.context_id,
        dead_letter=task.is_dead_letter,
        beside=beside,
    )


class Retention:
    """What has ended and is still in memory, by when to look at it.

    Args:
        linger_ms: how long it stays at least, while there is room.
        count_max: the number beyond which the oldest leave sooner.
        bytes_max: the bytes of their payloads beyond which the oldest leave sooner.
    """

    def __init__(self, linger_ms: int, count_max: int, bytes_max: int) -> None:
        self._linger_ms = linger_ms
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._crowded_at = 0
        """When to look again while it is crowded: those looked at last could not leave."""
        self._heap: list[tuple[int, int, str, int]] = []
        """(time, position where it began, name, bytes of its payloads)."""

    def add(self, name: str, lsn: int, size: int, since: int) -> None:
        """Note what has ended, or was recalled, at this time.

        Args:
            name: its id.
            lsn: the position where it began; of those due together the lower one leaves first.
            size: bytes of its payloads.
            since: the time.
        """
        due = since + self._linger_ms
        self._bytes += size
        heappush(self._heap, (due + -due % TOGETHER_MS, lsn, name, size))

    def next_deadline(self) -> int | None:
        """Return when `take` may have something next, or None."""
        if not self._heap:
            return None
        due = self._heap[0][0]
        return min(due, self._crowded_at) if self._is_crowded(_CROWD_SHARE) else due

    def take(self, fate: Callable[[str, Container[str]], Fate], now: int) -> tuple[list[str], bool]:
        """Return what leaves now, at most a batch, and whether mail alone may have kept something back.

        Args:
            fate: returns what becomes of a name, given the names that leave with it.
            now: the current time.
        """
        due = self.next_deadline()
        if due is None or due > now:
            return [], False
        leaving: dict[str, None] = {}
        again: list[tuple[str, int, int]] = []
        has_mail = False
        looks = left = 0
        is_crowd = self._is_crowded(_CROWD_SHARE)
        while self._heap and looks < _LOOKS_MAX and len(leaving) < _BATCH and left < BATCH_BYTES:
            if self._heap[0][0] > now and (looks >= _BATCH or not is_crowd or not self._is_crowded()):
                break
            looks += 1
            _, lsn, name, size = heappop(self._heap)
            self._bytes -= size
            if name in leaving:
                continue
            became = fate(name, leaving)
            if became is Fate.LEAVES:
                leaving[name] = None
                left += size
            elif became is not Fate.GONE:
                has_mail = has_mail or became is Fate.UNREAD
                again.append((name, lsn, size))
        later = now + max(0, LOOK_AGAIN_MS - self._linger_ms)
        for name, lsn, size in again:
            self.add(name, lsn, size, later)
        self._crowded_at = now if leaving else now + TOGETHER_MS
        return list(leaving), has_mail

    def _is_crowded(self, share: int = 0) -> bool:
        """Tell whether there is more than there is room for, by at least one part in `share` if that is given."""
        count, size = (self._count_max // share, self._bytes_max // share) if share else (0, 0)
        return len(self._heap) > self._count_max + count or self._bytes > self._bytes_max + size
