"""When each open task has to be looked at next. Volatile: made again after a start."""

from __future__ import annotations

from collections.abc import Container
from heapq import heapify, heappop, heappush

from .task_state import Task

__all__ = ["Agenda"]

_PRUNED_FROM = 1024
"""Entries from which those of tasks that have ended are looked for, where they are most of them."""


class Agenda:
    """The earliest time of each task at which the clock may decide something about it.

    A time is only ever brought forward: whoever looks at a task then says when to look again.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        """(time, place of the task in the ledger, task)."""
        self._set: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, task: str) -> int | None:
        """Return when a task is looked at, or None."""
        return self._set.get(task)

    def bring_forward(self, task: Task, due: int, open_tasks: dict[str, Task]) -> None:
        """Have a task looked at by this time, unless it is sooner anyway."""
        known = self._set.get(task.id)
        if known is not None and known <= due:
            return
        self._set[task.id] = due
        heappush(self._heap, (due, task.lsn, task.id))
        if len(self._heap) > _PRUNED_FROM and len(self._heap) > 4 * len(open_tasks):
            self._prune(open_tasks)

    def next(self) -> int | None:
        """Return when the next one is due, or None."""
        while self._heap and self._set.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: int) -> str | None:
        """Return a task that is due, and take its time back; None where there is none."""
        due = self.next()
        if due is None or due > now:
            return None
        task = heappop(self._heap)[2]
        del self._set[task]
        return task

    def _prune(self, open_tasks: Container[str]) -> None:
        """Drop the entries of tasks that have ended; they would lie here until their time."""
        self._set = {task: due for task, due in self._set.items() if task in open_tasks}
        self._heap = [entry for entry in self._heap if self._set.get(entry[2]) == entry[0]]
        heapify(self._heap)
