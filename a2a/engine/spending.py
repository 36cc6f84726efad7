"""What running attempts tell they have used so far, and no record counts yet (spec BUDGET-4).

It is volatile: the record of an attempt's end counts what was told, and after a restart the attempts tell it again.
Sub-tasks may share a budget, so it is summed up by the task that pays: what one attempt tells is then held against a
budget at the same cost, however many others use it. It decides nothing; `budget` does.
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
    """Task to the amounts of its running attempt: who pays, kind, amount."""
    _sums: dict[tuple[str, str], int] = field(default_factory=dict)
    """Paying task and kind to the sum; what is nothing is not there."""

    def tell(self, ledger: Ledger, task: Task, fence: int, usage: dict[str, Any] | None) -> None:
        """Take what the running attempt of a task has used since it began, in place of what it told before.

        By its fence: with the word that makes an attempt current it is not yet.
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
        """Leave out what the attempt of a task told: it has ended, and is counted."""
        for payer, kind, amount in self._told.pop(task, ()):
            self._sums[payer, kind] -= amount
            if not self._sums[payer, kind]:
                del self._sums[payer, kind]

    def of(self, payer: Task, kind: str) -> int:
        """Return what running attempts tell they used of a kind out of this task's budget."""
        return self._sums.get((payer.id, kind), 0)
