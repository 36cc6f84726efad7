"""What may leave memory: ended tasks, closed conflicts and idle contexts, each in a queue of its own.

It keeps the queues, and knows which queue each thing belongs to; `retention`, `conflicts.shelving` and
`context_shelving` say what may leave. The coordinator commits the records it yields.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from . import context_shelving
from .archived import ArchiveEntry
from .conflicts import shelving
from .conflicts.case import Conflict
from .context_state import Context
from .ledger import Ledger
from .policy import Policy
from .records import Archived, ConflictsArchived, ContextsArchived, Record
from .retention import Retention, fate_of, shelved
from .task_state import Task

__all__ = ["Leaving"]


class Leaving:
    """The queues of everything that may leave memory.

    Args:
        policy: how long things stay, and how much there is room for.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._tasks = Retention(policy.linger_ms, policy.linger_tasks_max, policy.linger_bytes_max)
        self._closed = Retention(policy.linger_ms, policy.linger_conflicts_max, policy.linger_bytes_max)
        # Conflicts that somebody raised: while one is here, the same raise is a repeat. A conflict decided as it is
        # raised leaves nothing open of which there could be too many.
        keep_ms = max(policy.linger_ms, policy.raised_keep_ms)
        self._raised = Retention(keep_ms, policy.raised_keep_max, policy.raised_keep_bytes_max)
        # At most half of the limits, as new contexts are refused at the limits themselves.
        self._contexts = context_shelving.Idle(
            policy.linger_contexts_ms,
            min(policy.linger_contexts_max, policy.contexts_max // 2),
            min(policy.linger_contexts_bytes_max, policy.contexts_max_bytes // 2),
        )
        self.wants_receipts = False
        """Whether to record what was acknowledged: at the last look, tasks left that mail may be about, or mail alone
        may have kept a conflict back."""

    def begin(self, ledger: Ledger) -> None:
        """Note what a start finds in memory; conflicts are noted with those that end."""
        for task in ledger.tasks.values():
            if task.is_terminal:
                self.add_task(task, task.since)
        for context in sorted(ledger.contexts.values(), key=lambda context: context.lsn):
            self.add_context(context, context.writes[-1].origin.at)

    def add_task(self, task: Task, since: int) -> None:
        """Note a task that was settled, or recalled, at this time."""
        self._tasks.add(task.id, task.lsn, task.kept_bytes, since)

    def add_conflicts(self, closed: Iterable[Conflict]) -> None:
        """Note conflicts that are over."""
        for conflict in closed:
            queue = self._raised if conflict.raises else self._closed
            queue.add(conflict.id, conflict.opened_lsn, conflict.kept_bytes, conflict.closed_at)

    def add_context(self, context: Context, now: int) -> None:
        """Note a context that was written, or recalled, at this time."""
        self._contexts.note(context, now)

    def next_deadline(self) -> int | None:
        """Return when something may leave next, or None."""
        times = (queue.next_deadline() for queue in (self._tasks, self._closed, self._raised, self._contexts))
        return min((time for time in times if time is not None), default=None)

    def is_due(self, now: int) -> bool:
        """Tell whether it is time to look."""
        due = self.next_deadline()
        return due is not None and due <= now

    def due(self, ledger: Ledger, wanted: Container[object], now: int) -> Iterator[tuple[Record, list[ArchiveEntry]]]:
        """Yield what leaves now, at most a batch of each kind: the record that says so, and its archive entries.

        Each record has to be applied before the next is asked for: conflicts wait for their tasks.

        Args:
            ledger: the ledger.
            wanted: ids, and keys with their scope, that are being looked up for somebody: these stay.
            now: the current time.
        """
        tasks, _ = self._tasks.take(lambda task, others: fate_of(ledger, task, wanted, others), now)
        self.wants_receipts = bool(tasks)
        if tasks:
            yield Archived(now, tasks), [shelved(ledger.tasks[name]) for name in tasks]
        conflicts: list[str] = []
        for queue in (self._closed, self._raised):
            found, has_mail = queue.take(lambda name, _: shelving.fate_of(ledger, self._policy, name, now), now)
            self.wants_receipts = self.wants_receipts or has_mail
            conflicts += found
        if conflicts:
            yield ConflictsArchived(now, conflicts), [shelving.shelved(ledger.conflicts[name]) for name in conflicts]
        contexts = self._contexts.take(lambda name: context_shelving.may_leave(ledger, name, wanted), now)
        if contexts:
            yield (
                ContextsArchived(now, contexts),
                [context_shelving.shelved(ledger.contexts[name]) for name in contexts],
            )
