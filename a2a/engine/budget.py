"""Budgets: whether a task may still use something, and whether a sub-task's budget fits (spec BUDGET).

The ledger counts what was used and what is reserved; this module only compares. What running attempts say they have
used so far is volatile, and is passed in.
"""

from __future__ import annotations

from typing import Any, cast

from ..errors import ErrorCode
from ..protocol.types import Budget, Usage
from .decision import Decision, refuse
from .ledger import Ledger
from .spending import Spending
from .task_state import COUNTED, Task

__all__ = ["check_budget", "exhausted", "is_low", "most", "plain", "remaining"]

_LOW = 0.8
"""Share of a budget from which the worker is warned."""


def plain(told: Budget | Usage | None) -> dict[str, Any] | None:
    """Return a budget or a usage as a record keeps it; an empty one becomes None."""
    return cast(dict[str, Any], told) or None


def most(before: dict[str, Any] | None, now: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the higher usage of each kind in two messages of one attempt (spec BUDGET-1)."""
    if not before or not now:
        return now or before
    return {**before, **now} | {
        kind: max(before.get(kind, 0), now.get(kind, 0)) for kind in COUNTED if kind in before or kind in now
    }


def check_budget(ledger: Ledger, parent: Task, budget: dict[str, int]) -> Decision | None:
    """Refuse a sub-task that does not fit into the budgets above it. Spec BUDGET-3."""
    for kind in COUNTED:
        payer = ledger.payer(parent, kind)
        if payer is None:
            continue
        left = _left(payer, kind)
        wanted = budget.get(kind, 0)
        if wanted > left or (kind not in budget and left == 0):
            return refuse(
                ErrorCode.BUDGET,
                f"task {payer.id} has {left} {kind} left of {payer.budget[kind]}, a sub-task of {parent.id} needs "
                f"{wanted or 'some'}",
                data={"task": payer.id, "kind": kind, "left": left},
            )
    if "children" in parent.budget and len(parent.children) >= parent.budget["children"]:
        return refuse(
            ErrorCode.BUDGET,
            f"task {parent.id} may have {parent.budget['children']} sub-tasks, and has them",
            data={"task": parent.id, "kind": "children", "left": 0},
        )
    return _check_depth(ledger, parent)


def _check_depth(ledger: Ledger, parent: Task) -> Decision | None:
    above: Task | None = parent
    while above is not None:
        if parent.depth + 1 - above.depth > above.budget.get("depth", parent.depth + 1):
            return refuse(
                ErrorCode.BUDGET,
                f"below task {above.id} there may be {above.budget['depth']} levels, {parent.id} is on the last",
                data={"task": above.id, "kind": "depth", "left": 0},
            )
        above = ledger.tasks.get(above.parent) if above.parent else None
    return None


def _left(payer: Task, kind: str) -> int:
    return max(0, payer.budget[kind] - payer.spent.get(kind, 0) - payer.reserved.get(kind, 0))


def remaining(ledger: Ledger, task: Task) -> dict[str, int]:
    """Return what is left for a task of each kind that a budget limits."""
    left = {kind: amount for kind, amount in task.budget.items() if kind not in COUNTED}
    if "children" in left:
        left["children"] = max(0, left["children"] - len(task.children))
    for kind in COUNTED:
        payer = ledger.payer(task, kind)
        if payer is not None:
            left[kind] = _left(payer, kind)
    return left


def exhausted(ledger: Ledger, task: Task, running: Spending | None = None) -> str | None:
    """Return a kind of which the task has nothing left, or None; `running` has what attempts told so far."""
    return _used_up(ledger, task, running, 1.0)


def is_low(ledger: Ledger, task: Task, running: Spending) -> bool:
    """Tell whether the task has little left of any kind."""
    return _used_up(ledger, task, running, _LOW) is not None


def _used_up(ledger: Ledger, task: Task, running: Spending | None, share: float) -> str | None:
    if not task.budget and task.parent is None:
        return None
    for kind in COUNTED:
        payer = ledger.payer(task, kind)
        if payer is None:
            continue
        used = payer.spent.get(kind, 0) + (running.of(payer, kind) if running is not None else 0)
        if 0 < used >= payer.budget[kind] * share:
            return kind
    return None
