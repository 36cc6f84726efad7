"""Finds tasks in memory by the state in which A2A shows them, and by their context.

A list of tasks that asks for one of these, and how many there are of them, come from here without a look at every task
there is. It follows from the tasks, and is never stored. It does not know what else a list asks for, nor the archive.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import attrgetter

from ..protocol.states import outside
from .task_state import Task

__all__ = ["TaskIndex", "own_context"]


def own_context(namespace: str, lsn: int) -> str:
    """Return the id of the context of a task that was put in none: the record at this position created it."""
    return f"{namespace}-c{lsn}"


class TaskIndex:
    """The tasks in memory, but for those that are back from the archive, which finds and counts them itself."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._by_state: dict[str, dict[str, Task]] = {}
        """The newest last: their order is that of the times at which their states changed."""
        self._by_context: dict[str, dict[str, Task]] = {}
        """But for tasks in a context of their own, whose id says which task it is."""
        self._states: dict[str, str] = {}
        for task in sorted(tasks, key=lambda task: task.since):
            self.add(task)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TaskIndex)
            and self._states == other._states
            and {name: set(tasks) for name, tasks in self._by_context.items()}
            == {name: set(tasks) for name, tasks in other._by_context.items()}
        )

    __hash__ = None  # type: ignore[assignment]

    def add(self, task: Task) -> None:
        """Take a task in, whose state is newer than those of all that are here."""
        if not _has_own(task):
            self._by_context.setdefault(task.context_id, {})[task.id] = task
        self._put(task)

    def moved(self, task: Task) -> None:
        """Note that a task has come to another state just now."""
        before = self._states.get(task.id)
        if before is not None:
            del self._by_state[before][task.id]
            self._put(task)

    def _put(self, task: Task) -> None:
        state = self._states[task.id] = outside(task.state, was_leased=task.was_leased)
        group = self._by_state.get(state)
        if group is None:
            group = self._by_state[state] = {}
        group[task.id] = task

    def remove(self, task: Task) -> None:
        """Let go of a task that leaves memory, if it is here."""
        state = self._states.pop(task.id, None)
        if state is None:
            return
        del self._by_state[state][task.id]
        if not _has_own(task):
            shared = self._by_context[task.context_id]
            del shared[task.id]
            if not shared:
                del self._by_context[task.context_id]

    def count(self, state: str | None) -> int:
        """Return how many are shown in a state, or in any."""
        return len(self._states) if state is None else len(self._by_state.get(state, ()))

    def newest(self, state: str | None) -> Iterator[Task]:
        """Return the tasks that are shown in a state, or in any, those first whose state changed last.

        Those of which it changed in the same millisecond come in no order.
        """
        if state is not None:
            return reversed(self._by_state.get(state, {}).values())
        return heapq.merge(*map(_reversed, self._by_state.values()), key=attrgetter("since"), reverse=True)

    def of_context(self, context_id: str) -> list[Task]:
        """Return the tasks of a context, in no order."""
        found = list(self._by_context.get(context_id, {}).values())
        namespace, _, number = context_id.rpartition("-c")
        task = f"{namespace}-{number}"
        state = self._states.get(task)
        if state is not None and (owner := self._by_state[state][task]).context_id == context_id:
            found.append(owner)
        return found


def _reversed(tasks: dict[str, Task]) -> Iterator[Task]:
    return reversed(tasks.values())


def _has_own(task: Task) -> bool:
    namespace, _, _ = task.id.rpartition("-")
    return task.context_id == own_context(namespace, task.lsn)
