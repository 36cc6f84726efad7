"""Rules between a task and the tasks above and below it (spec TREE)."""

from __future__ import annotations

from ..errors import ErrorCode
from ..protocol.states import OPEN_ENDED, TaskState
from .decision import Decision, refuse
from .ledger import Ledger
from .policy import Policy
from .records import CancelRequested, Record, Settled
from .task_state import Task

__all__ = [
    "above_group",
    "cancel",
    "cancel_children",
    "cancel_orphan",
    "check_place",
    "deadline_below",
    "needs_no_word",
    "settle_abandoned",
]


def above_group(ledger: Ledger, task: Task) -> Task | None:
    """Return the task in memory that a task is made for, past the group it works for: nobody holds a group."""
    above = ledger.tasks.get(task.parent or "")
    while above is not None and above.group is not None:
        above = ledger.tasks.get(above.parent or "")
    return above


def check_place(ledger: Ledger, policy: Policy, parent: Task, skill: str, spec_hash: str) -> Decision | None:
    """Return the refusal of a sub-task that may not be made there, or None."""
    if parent.depth + 1 > policy.depth_max:
        return refuse(ErrorCode.DEPTH, f"a tree has at most {policy.depth_max} levels, task {parent.id} is on the last")
    if len(parent.children) >= policy.children_max:
        return refuse(ErrorCode.QUOTA, f"a task has at most {policy.children_max} sub-tasks, {parent.id} has them")
    above: Task | None = parent
    path: list[str] = []
    while above is not None:
        path.append(above.id)
        if above.spec["skill"] == skill and above.spec_hash == spec_hash:
            return refuse(
                ErrorCode.CYCLE, f"the same work ({skill}, {spec_hash}) is already on the path {' < '.join(path)}"
            )
        above = ledger.tasks[above.parent] if above.parent else None
    return None


def deadline_below(own: int | None, parent: Task | None) -> int | None:
    """Return the earlier of a task's own deadline and its parent's."""
    above = parent.deadline_at if parent else None
    if own is None or above is None:
        return above if own is None else own
    return min(own, above)


def cancel(
    ledger: Ledger, task: Task, mode: str, reason: str, by: str, now: int, grace_ms: int | None = None
) -> list[Record]:
    """Return the records that end the task, or ask it and the tasks below it to end (spec CANCEL-2).

    An agent at work is asked, and has time to wind down unless the mode is `skip`; all other tasks end at once.
    """
    if task.is_terminal:
        return []
    records: list[Record] = []
    at_work = (
        task.state in OPEN_ENDED and task.authority is not None and task.authority.is_open and task.holder is not None
    )
    if mode == "skip" or not at_work:
        records.append(Settled(now, task.id, "canceled", "canceled", reason, by))
        return records  # the pass that follows every end takes care of the tasks below
    if task.state is not TaskState.CANCELING or (
        task.cancel is not None and task.cancel.mode == "coop" and mode == "kill"
    ):
        grace = task.durations.cancel_ms if grace_ms is None else grace_ms
        records.append(CancelRequested(now, task.id, mode, reason, by, now + grace))
    records.extend(cancel_children(ledger, task, mode, f"parent task {task.id} is being canceled", by, now))
    return records


def cancel_children(ledger: Ledger, parent: Task, mode: str, reason: str, by: str, now: int) -> list[Record]:
    """Return the records that cancel the sub-tasks that do not outlive their parent."""
    records: list[Record] = []
    for child_id in parent.children:
        child = ledger.tasks.get(child_id)
        if child is not None and child.on_parent_end == "cancel":  # an archived child has ended
            records.extend(cancel(ledger, child, mode, reason, by, now))
    return records


def needs_no_word(ledger: Ledger, task: Task) -> bool:
    """Tell whether a result is accepted as reported: no word is required, or nobody is left to say it (spec TREE-4)."""
    if task.evaluator == "auto":
        return True
    parent = ledger.tasks.get(task.parent) if task.parent else None
    is_left = task.on_parent_end != "detach" and task.parent is not None
    return is_left and task.evaluator == "delegator" and (parent is None or parent.is_terminal)


def settle_abandoned(ledger: Ledger, task: Task, now: int) -> list[Record]:
    """Return what settles a reported sub-task whose parent has ended, so that nobody is left to confirm it."""
    if task.state is not TaskState.REPORTED or not needs_no_word(ledger, task) or task.results[-1].is_doubtful:
        return []
    return [Settled(now, task.id, "completed", by="auto", result_hash=task.results[-1].result_hash)]


def cancel_orphan(ledger: Ledger, task: Task, now: int) -> list[Record]:
    """Return what ends a queued sub-task whose parent has ended: it was reported before, and sent back."""
    parent = ledger.tasks[task.parent] if task.parent else None
    if parent is None or not parent.is_terminal or task.on_parent_end != "cancel":
        return []
    return cancel(ledger, task, "coop", f"parent task {parent.id} has ended as {parent.state}", "coordinator", now)
