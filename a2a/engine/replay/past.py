"""The state on which a decision was made, folded from the records before it, and how to ask it for that decision again.

A rule turns the record that begins a decision back into the message, or the look at the clock, that caused it, and has
the real handler decide on a `Past`. Some facts are not recorded (who was connected and with which credit, limits of the
settings); there, the rule checks only that the recorded decision was allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...protocol.messages import Held, Message
from ...protocol.types import principal_of
from ..conflicts.procedure import advance, proceed
from ..context_state import Context
from ..handlers import HANDLERS
from ..ledger import Ledger
from ..live import Connection, Live, World
from ..policy import Policy
from ..records import ClaimEnded, Record, Settled
from ..routing import Queues
from ..task_state import Task
from ..timers import due
from ..tree import cancel_children, cancel_orphan, settle_abandoned

__all__ = ["NO_LIMITS", "NotAllowedError", "Past", "Rule", "allow"]

_MANY = 2**62
NO_LIMITS = Policy(
    ladders={},
    depth_max=_MANY,
    children_max=_MANY,
    evidence_max=_MANY,
    evidence_foreign_max=_MANY,
    chunks_max=_MANY,
    chunks_max_bytes=_MANY,
    asks_max=_MANY,
    steers_max=_MANY,
    said_max_bytes=_MANY,
    checkpoint_max_bytes=_MANY,
    claims_max=_MANY,
    line_max=_MANY,
    watches_max=_MANY,
    tasks_max=_MANY,
    tasks_max_bytes=_MANY,
    contexts_max=_MANY,
    context_keys_max=_MANY,
    context_max_bytes=_MANY,
    contexts_max_bytes=_MANY,
    context_value_max_bytes=_MANY,
    context_ops_max=_MANY,
    context_patches_max=_MANY,
    context_patched_max_bytes=_MANY,
    context_patch_operations_max=_MANY,
    context_depth_max=_MANY,
    context_depends_max=_MANY,
    context_missed_max=_MANY,
    conflicts_open_max=_MANY,
    conflicts_raised_max=_MANY,
    conflicts_about_max=_MANY,
    conflict_raises_max=_MANY,
    conflict_subjects_max=_MANY,
    conflict_max_bytes=_MANY,
    conflict_rest_ms=0,
    contest_ms=_MANY,
)
"""The limits in force are not recorded, and what was refused because of one left no record. `ladders` is empty because
a noted conflict is replayed from its own record."""


class NotAllowedError(Exception):
    """The record could not have been written in the state before it."""


class Past:
    """The state before a record, and what rules ask of it.

    Args:
        namespace: the namespace with which the ledger's task ids begin.
    """

    def __init__(self, namespace: str) -> None:
        self.ledger = Ledger(namespace)
        self.stops = 0
        """Hashes of memory compared so far."""
        self.broken: list[ClaimEnded | Settled] = []
        """Claims and tasks that gave up a wait to break a circle, at the time of the newest record."""
        self.shelf: dict[tuple[type, str], bytes] = {}
        """Digests of archived things by class and id, to check that what is recalled is what was archived."""
        self.world = World(self.ledger, Live(), NO_LIMITS, Queues())

    def apply(self, record: Record) -> None:
        """Apply a record unchanged."""
        self.ledger.apply(record)
        if self.broken and self.broken[-1].at != record.at:
            self.broken.clear()
        if isinstance(record, ClaimEnded | Settled) and record.reason == "deadlock":
            self.broken.append(record)
        self.ledger.touched.clear()
        self.ledger.posted.clear()
        self.ledger.freed.clear()
        self.ledger.stirred.clear()
        self.ledger.closed.clear()

    def forget_volatile(self) -> None:
        """Forget what a rule assumed about connected agents and about the settings."""
        self.world.live = Live()
        self.world.policy = NO_LIMITS

    def task(self, record: Any) -> Task:
        """Return the task that a record is about."""
        found = self.ledger.tasks.get(record.task)
        if found is None:
            raise NotAllowedError(f"a record about a task in memory, {record.task} is not")
        return found

    def require_context(self, context_id: str) -> None:
        """Check that a context has not left memory."""
        has_left = (Context, context_id) in self.shelf and context_id not in self.ledger.contexts
        allow(not has_left, f"context {context_id} in memory, it has left")

    def say(self, agent: str, message: Message, now: int, *, role: str = "member") -> list[Record]:
        """Return the decision of the handler when this agent says this."""
        sender = Connection(0, "", agent=agent, role=role)
        return HANDLERS[type(message)](self.world, sender, message, now).records

    def controls(self, agent: str, task: Task, message: Message, now: int) -> list[Record]:
        """Return what follows a word from somebody who may say it; the operator's role is not recorded."""
        is_own = principal_of(agent) == task.principal and task.evaluator != "human"
        return self.say(agent, message, now) if is_own else self.say(agent, message, now, role="operator")

    def clock(self, task: Task, now: int) -> list[Record]:
        """Return the decision of the clock if the holder has not been heard."""
        self.world.live.lease_until[task.id] = now
        return due(self.world, task, now)

    def cascades(self, task: Task, now: int) -> list[list[Record]]:
        """Return what may follow from the end of the parent."""
        found = [cancel_orphan(self.ledger, task, now), settle_abandoned(self.ledger, task, now)]
        parent = self.ledger.tasks.get(task.parent) if task.parent else None
        if parent is not None and parent.is_terminal:
            reason = f"parent task {parent.id} has ended as {parent.state}"
            found.append(cancel_children(self.ledger, parent, "coop", reason, "coordinator", now))
        found.extend(self.advanced(task, now))
        return [*found, *self.advanced(parent, now)] if parent is not None else found

    def advanced(self, task: Task, now: int) -> list[list[Record]]:
        """Return the next step of a group, unless it waits."""
        step = advance(self.world, task, now)
        return [step] if isinstance(step, list) else []

    def steps(self, record: Any) -> list[list[Record]]:
        """Return the next step of a conflict, unless it waits."""
        conflict = self.ledger.conflicts[record.conflict]
        if not conflict.candidates:
            return self.advanced(self.task(record), record.at)
        step = proceed(self.world, conflict, record.at)
        return [step] if isinstance(step, list) else []

    def attempt(self, task: Task, fence: int) -> str:
        """Return the agent whose attempt has this fence."""
        agent = task.minted_for(fence)
        if agent is None:
            raise NotAllowedError(f"a fence of task {task.id}, {fence} is none")
        return agent

    def parent_held(self, parent: str | None) -> Held | None:
        """Return the current attempt at the parent."""
        if parent is None:
            return None
        above = self.ledger.tasks[parent]
        return Held(parent, above.authority.fence if above.authority else 0)


Rule = Callable[[Past, Any], list[list[Record]]]
"""Takes the record that begins a decision, and returns the decisions that may have begun with it."""


def allow(fact: object, expected: str) -> None:
    """Check that the record could have been written.

    Raises:
        NotAllowedError: it could not; says what was expected.
    """
    if not fact:
        raise NotAllowedError(expected)
