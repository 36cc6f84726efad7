"""What the rungs of a ladder may cost, and what they have cost (spec RUNG-7 to RUNG-9).

Usage is counted with the tasks of a rung, like any usage (spec BUDGET-1); this module adds it up and compares it. Each
of these tasks has a budget of its own, so budgets stop it and this module does not have to.
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
    """Return a message if a rung under way, or its ladder, has used up its limit; else empty."""
    own = _over("rung", cost_of(ledger, stage), conflict.ladder[stage.number].cost_micro)
    return own or ladder_exceeded(ledger, conflict, terms)


def ladder_exceeded(ledger: Ledger, conflict: Conflict, terms: Terms) -> str:
    """Return a message if the rungs so far have used up the limit of the ladder; else empty."""
    return _over("ladder", _used_by_all(ledger, conflict), terms.cost_micro)


def _used_by_all(ledger: Ledger, conflict: Conflict) -> int:
    return sum(cost_of(ledger, stage) for stage in conflict.stages)


def _over(what: str, spent: int, limit: int | None) -> str:
    """Say that a limit is reached. As with any budget, a limit of 0 is reached once anything is used."""
    return f"cost: the {what} has used {spent} of {limit}" if limit is not None and 0 < spent >= limit else ""


def shares(
    ledger: Ledger, conflict: Conflict, terms: Terms, rung: Rung, above: Task | None, count: int
) -> list[dict[str, int] | None]:
    """Return the budgets of the `count` tasks that a rung asks; None if nothing limits what they cost.

    The rest is divided to the last millionth, so that all tasks together may use what the rung may use, and no more.
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
