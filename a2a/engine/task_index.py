"""Finds tasks in memory by state, context, parent and skill.

Lists of tasks by one of these come from here, without a look at every task. Derived from the tasks, and never stored.
It knows nothing of a list's other filters, nor of the archive.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter

from ..protocol.states import TaskState, outside
from .task_state import Task

__all__ = ["TaskIndex", "own_context"]

_Trait = tuple[str, str]
"""What several tasks share: the name of a field, and its value."""
_Standing = tuple[TaskState, bool]
"""A state, and whether the task was ever leased: together they determine the state that A2A shows."""
_NAMED: dict[str, list[_Standing]] = {}
"""The name of a state, ours or A2A's, to what it stands for."""
for _state in TaskState:
    for _was_leased in (False, True):
        for _name in (_state.value, outside(_state, was_leased=_was_leased)):
            _NAMED.setdefault(_name, []).append((_state, _was_leased))


def own_context(namespace: str, lsn: int) -> str:
    """Return the id of the context of a task that names none; the record at this position made the task."""
    return f"{namespace}-c{lsn}"


class TaskIndex:
    """The tasks in memory, except recalled ones, which the archive finds and counts itself."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._by_standing: dict[_Standing, dict[str, Task]] = {}
        """The newest last: in the order in which their states changed."""
        self._by_trait: dict[_Trait, dict[str, Task]] = {}
        """In the order in which they came, except those from a snapshot."""
        self._standings: dict[str, _Standing] = {}
        for task in sorted(tasks, key=lambda task: task.since):
            self.add(task)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TaskIndex)
            and self._standings == other._standings
            and {trait: set(tasks) for trait, tasks in self._by_trait.items()}
            == {trait: set(tasks) for trait, tasks in other._by_trait.items()}
        )

    __hash__ = None  # type: ignore[assignment]

    def add(self, task: Task) -> None:
        """Add a task whose state is newer than those of all tasks here."""
        for trait in _traits(task):
            self._by_trait.setdefault(trait, {})[task.id] = task
        self._put(task)

    def moved(self, task: Task) -> None:
        """Note that a task has just changed its state."""
        before = self._standings.get(task.id)
        if before is not None:
            del self._by_standing[before][task.id]
            self._put(task)

    def _put(self, task: Task) -> None:
        standing = self._standings[task.id] = task.state, task.was_leased
        tasks = self._by_standing.get(standing)
        if tasks is None:
            tasks = self._by_standing[standing] = {}
        tasks[task.id] = task

    def remove(self, task: Task) -> None:
        """Remove a task that leaves memory, if it is here."""
        standing = self._standings.pop(task.id, None)
        if standing is None:
            return
        del self._by_standing[standing][task.id]
        for trait in _traits(task):
            tasks = self._by_trait[trait]
            del tasks[task.id]
            if not tasks:
                del self._by_trait[trait]

    def count(self, state: str | None) -> int:
        """Return how many tasks are in a state, or in any; a state by its own name or by A2A's."""
        if state is None:
            return len(self._standings)
        return sum(len(self._by_standing.get(standing, ())) for standing in _NAMED.get(state, ()))

    def newest(self, state: str | None) -> Iterator[Task]:
        """Return the tasks in a state, or in any, those whose state changed last first.

        Tasks whose state changed in the same millisecond come in no order.
        """
        standings = self._by_standing if state is None else _NAMED.get(state, ())
        groups = [reversed(self._by_standing.get(standing, {}).values()) for standing in standings]
        return heapq.merge(*groups, key=attrgetter("since"), reverse=True)

    def of_parent(self, task: str) -> Collection[Task]:
        """Return the sub-tasks of a task, in no order."""
        return self._by_trait.get(("parent", task), {}).values()

    def of_skill(self, skill: str) -> Collection[Task]:
        """Return the tasks for a skill, in no order."""
        return self._by_trait.get(("skill", skill), {}).values()

    def of_context(self, context_id: str) -> Collection[Task]:
        """Return the tasks of a context, in no order."""
        found = list(self._by_trait.get(("context", context_id), {}).values())
        namespace, _, number = context_id.rpartition("-c")
        task = f"{namespace}-{number}"
        standing = self._standings.get(task)
        if standing is not None and (owner := self._by_standing[standing][task]).context_id == context_id:
            found.append(owner)
        return found


def _traits(task: Task) -> list[_Trait]:
    traits = [("skill", task.spec["skill"])]
    if task.parent is not None:
        traits.append(("parent", task.parent))
    namespace, _, _ = task.id.rpartition("-")
    if task.context_id != own_context(namespace, task.lsn):  # that id itself names the task
        traits.append(("context", task.context_id))
    return traits
