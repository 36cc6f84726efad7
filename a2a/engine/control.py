"""Who has a say about a task: the operator, whoever delegated it, and whoever holds the task it is a part of."""

from __future__ import annotations

from ..errors import ErrorCode
from ..protocol.types import principal_of
from .decision import Decision, refuse
from .live import Connection, World
from .task_state import Task

__all__ = ["forbidden", "may_control"]


def may_control(world: World, sender: Connection, task: Task) -> bool:
    """Tell whether the sender may confirm, cancel or answer for this task (spec AUTH-5).

    That is the operator, the principal that delegated it, and whoever holds the task it is a part of.
    """
    agent = sender.agent or ""
    if sender.role == "operator" or principal_of(agent) == task.principal:
        return True
    parent = world.ledger.tasks.get(task.parent) if task.parent else None  # an archived one has no holder
    while parent is not None and parent.group is not None:  # nobody holds a group: who has a say about it has one here
        parent = world.ledger.tasks.get(parent.parent) if parent.parent else None
    return parent is not None and parent.holder == agent


def forbidden(sender: Connection, task: Task, what: str) -> Decision:
    """Refuse a word about a task that is not the sender's to say."""
    return refuse(
        ErrorCode.FORBIDDEN,
        f"only {task.principal}, the holder of its parent or an operator may {what} task {task.id}, not {sender.agent}",
    )
