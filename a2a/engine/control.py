"""Who controls a task: the operator, its delegator, and the holder of the task it is part of."""

from __future__ import annotations

from ..errors import ErrorCode
from ..protocol.types import principal_of
from .decision import Decision, refuse
from .live import Connection, World
from .task_state import Task
from .tree import above_group

__all__ = ["forbidden", "may_control", "said_too_much"]


def may_control(world: World, sender: Connection, task: Task) -> bool:
    """Tell whether the sender may confirm, cancel or answer for this task (spec AUTH-5).

    Those are the operator, the principal that delegated it, and the holder of the task it is part of.
    """
    agent = sender.agent or ""
    if sender.role == "operator" or principal_of(agent) == task.principal:
        return True
    above = above_group(world.ledger, task)  # an archived task has no holder
    return above is not None and above.holder == agent


def forbidden(sender: Connection, task: Task, what: str) -> Decision:
    """Refuse a word on a task that the sender does not control."""
    return refuse(
        ErrorCode.FORBIDDEN,
        f"only {task.principal}, the holder of its parent or an operator may {what} task {task.id}, not {sender.agent}",
    )


def said_too_much(world: World, task: Task, payload: bytes) -> Decision | None:
    """Refuse a word that exceeds what may be said to a task in all, or return None. Spec LIMIT-7."""
    said, most = task.said_bytes, world.policy.said_max_bytes
    if said + len(payload) <= most:
        return None
    return refuse(
        ErrorCode.QUOTA,
        f"what is said to a task has at most {most} bytes together, {task.id} heard {said}, this has {len(payload)}",
    )
