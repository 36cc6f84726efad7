"""What the rungs of a ladder may cost, and what they have cost (spec RUNG-7 to RUNG-9).

What the tasks of a rung used is counted with them, as any usage is (spec BUDGET-1); here it is added up and compared.
Each of them is made with a budget of its own, so that budgets stop it and nothing here has to.
"""

from __future__ import annotations

from ..budget import remaining
from ..ledger import Ledger
from ..task_state import Task
from .case import Conflict, Stage, Terms
from .rungs import Rung
from .showing import cost_of

__all__ = ["exceeded", "ladder_exceeded", "shares"]


def exceeded(ledger: Ledger, conflict: Conflict, terms: Terms, stage: Stage) -> str:
    """Return in which words a rung under way, or its ladder, has used what it may; empty where it has not."""
    own = _over("rung", cost_of(ledger, stage), conflict.ladder[stage.number].cost_micro)
    return own or ladder_exceeded(ledger, conflict, terms)


def ladder_exceeded(ledger: Ledger, conflict: Conflict, terms: Terms) -> str:
    """Return in which words the rungs so far have used what all of them may; empty where they have not."""
    return _over("ladder", _used_by_all(ledger, conflict), terms.cost_micro)


def _used_by_all(ledger: Ledger, conflict: Conflict) -> int:
    return sum(cost_of(ledger, stage) for stage in conflict.stages)


def _over(what: str, spent: int, limit: int | None) -> str:
    """Say that a limit is reached. One of nothing is by whoever uses something, as with any budget."""
    return f"cost: the {what} has used {spent} of {limit}" if limit is not None and 0 < spent >= limit else ""


def shares(
    ledger: Ledger, conflict: Conflict, terms: Terms, rung: Rung, above: Task | None, count: int
) -> list[dict[str, int] | None]:
    """Return the budget of each task that a rung asks, of so many; None where nothing limits what they cost.

    What is left is shared out to the last millionth, so that all together may use what the rung may, and no more.
    """
    limits = [rung.cost_micro] if rung.cost_micro is not None else []
    if terms.cost_micro is not None:
        limits.append(terms.cost_micro - _used_by_all(ledger, conflict))
    if not limits:
        return [None] * count
    if above is not None:
        limits.append(remaining(ledger, above).get("costMicro", limits[0]))
    left = min(limits)
    return [{"costMicro": left // count + (number < left % count)} for number in range(count)]
