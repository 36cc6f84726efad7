"""What may leave memory: tasks and conflicts that have ended, and idle contexts, each in a queue of its own.

It keeps the queues, and knows which of them something belongs to; who may leave say `retention`, `conflicts.shelving`
and `context_shelving`. The coordinator records what leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable

from . import context_shelving
from .conflicts import shelving
from .conflicts.case import Conflict
from .context_state import Context
from .ledger import Ledger
from .policy import Policy
from .retention import Retention, fate_of
from .task_state import Task

__all__ = ["Leaving"]


class Leaving:
    """The queues of all that may leave memory.

    Args:
        policy: how long something stays, and how much there is room for.
    """

    def __init__(self, policy: Policy) -> None:
        self._tasks = Retention(policy.linger_ms, policy.linger_tasks_max, policy.linger_bytes_max)
        self._closed = Retention(policy.linger_ms, policy.linger_conflicts_max, policy.linger_bytes_max)
        # Those that somebody raised, of which there are few: so long the same raise is a repeat.
        self._raised = Retention(max(policy.linger_ms, policy.raised_keep_ms), sys.maxsize, sys.maxsize)
        self._contexts = context_shelving.Idle(
            policy.linger_contexts_ms, policy.linger_contexts_max, policy.linger_contexts_bytes_max
        )
        self.has_mail = False
        """Whether mail alone may have kept back something that was to leave when it was looked at last."""

    def add_task(self, task: Task, since: int) -> None:
        """Note a task that has settled, or is back, at this time."""
        self._tasks.add(task.id, task.lsn, task.kept_bytes, since)

    def add_conflicts(self, closed: Iterable[Conflict]) -> None:
        """Note conflicts that are over."""
        for conflict in closed:
            queue = self._raised if conflict.raises else self._closed
            queue.add(conflict.id, conflict.opened_lsn, conflict.kept_bytes, conflict.closed_at)

    def add_context(self, context: Context, now: int) -> None:
        """Note a context that was written, or is back, at this time."""
        self._contexts.note(context, now)

    def next_deadline(self) -> int | None:
        """Return when something may leave next, or None."""
        times = (queue.next_deadline() for queue in (self._tasks, self._closed, self._raised, self._contexts))
        return min((time for time in times if time is not None), default=None)

    def is_due(self, now: int) -> bool:
        """Tell whether it is time to look."""
        due = self.next_deadline()
        return due is not None and due <= now

    def take_tasks(self, ledger: Ledger, wanted: Container[object], now: int) -> list[str]:
        """Return the tasks that leave now, a batch at most.

        Args:
            ledger: where they are.
            wanted: ids, and keys with their scope, that somebody waits for an answer about: these stay.
            now: the current time.
        """
        leaving, self.has_mail = self._tasks.take(lambda task, others: fate_of(ledger, task, wanted, others), now)
        return leaving

    def take_conflicts(self, ledger: Ledger, policy: Policy, now: int) -> list[str]:
        """Return the conflicts that leave now; behind the tasks, which some of them wait for."""
        found: list[str] = []
        for queue in (self._closed, self._raised):
            leaving, has_mail = queue.take(lambda name, _: shelving.fate_of(ledger, policy, name, now), now)
            self.has_mail = self.has_mail or has_mail
            found += leaving
        return found

    def take_contexts(self, ledger: Ledger, wanted: Container[object], now: int) -> list[str]:
        """Return the contexts that leave now, a batch at most; `wanted` as for tasks."""
        return self._contexts.take(lambda name: context_shelving.may_leave(ledger, name, wanted), now)
