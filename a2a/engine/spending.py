"""What running attempts say they have used so far, before any record counts it (spec BUDGET-4).

Volatile: the record of an attempt's end counts what was told, and after a restart the attempts tell it again. Sub-tasks
may share a budget, so it is summed by the task that pays: to compare one attempt's usage with a budget then costs the
same however many others share it. It decides nothing; `budget` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .ledger import Ledger
from .task_state import COUNTED, Task

__all__ = ["Spending"]


@dataclass(slots=True)
class Spending:
    """The sums, and what each running attempt has added to them."""

    _told: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)
    """Task to the amounts of its running attempt: (paying task, kind, amount)."""
    _sums: dict[tuple[str, str], int] = field(default_factory=dict)
    """(paying task, kind) to the sum; a sum of 0 has no entry."""

    def tell(self, ledger: Ledger, task: Task, fence: int, usage: dict[str, Any] | None) -> None:
        """Replace what the running attempt at a task has told so far by its usage since it began.

        It is found by its fence: with the message that makes it current, it is not current yet.
        """
        self.forget(task.id)
        attempt = task.attempts.get(fence)
        counted = (attempt.usage if attempt is not None else None) or {}
        told = []
        for kind in COUNTED:
            amount = (usage or {}).get(kind, 0) - counted.get(kind, 0)
            payer = ledger.payer(task, kind) if amount > 0 else None
            if payer is not None:
                told.append((payer.id, kind, amount))
                self._sums[payer.id, kind] = self.of(payer, kind) + amount
        if told:
            self._told[task.id] = told

    def forget(self, task: str) -> None:
        """Forget what the attempt at a task told: it has ended, and is counted."""
        for payer, kind, amount in self._told.pop(task, ()):
            self._sums[payer, kind] -= amount
            if not self._sums[payer, kind]:
                del self._sums[payer, kind]

    def of(self, payer: Task, kind: str) -> int:
        """Return how much of a kind running attempts have told they used out of this task's budget."""
        return self._sums.get((payer.id, kind), 0)
