"""Authority over a task: who has it, how it is renewed, lost, won back and given up (spec FENCE, LEASE).

`classify` sorts whatever an agent sends about an attempt into one `Case`; `HEARTBEAT` and `tasks.REPORT` say what
each case means. A fence ends by being spent or superseded, never by the clock alone: a lapsed lease only allows the
coordinator to hand the task on.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal

from ..errors import ErrorCode
from ..protocol.messages import Ok, TaskAccept, TaskDecline, TaskHeartbeat, TaskLease, TaskRevoke, TaskYield
from ..protocol.states import TaskState
from .decision import Decision, refuse, reply
from .ledger import Ledger, Task
from .live import Connection, Live, Progress, World
from .records import Accepted, Declined, LeaseExpired, OfferWithdrawn, Record, Revived, Settled, Yielded

__all__ = [
    "HEARTBEAT",
    "Case",
    "classify",
    "not_current",
    "on_task_accept",
    "on_task_decline",
    "on_task_heartbeat",
    "on_task_yield",
    "regain",
]


class Case(Enum):
    """How a fence stands to a task when its bearer speaks (spec FENCE-5)."""

    IMPOSSIBLE = auto()
    """No fence that high was ever minted."""
    NOT_HOLDER = auto()
    """Minted for somebody else, or not for an attempt of this task."""
    CURRENT = auto()
    """Current, open, lease running."""
    LAPSED = auto()
    """Current and open, but the lease expired; nobody else accepted yet."""
    OFFERED = auto()
    """On offer to the sender, not current yet."""
    SPENT = auto()
    """Was current, and its authority was used up."""
    STALE = auto()
    """Superseded, withdrawn or declined."""


def classify(ledger: Ledger, task: Task, agent: str, fence: int) -> Case:
    """Sort what `agent` sends under `fence`."""
    if fence > ledger.lsn:
        return Case.IMPOSSIBLE
    if task.attempts.get(fence) != agent:
        return Case.NOT_HOLDER
    if task.offer is not None and task.offer.fence == fence:
        return Case.OFFERED
    authority = task.authority
    if authority is None or authority.fence != fence:
        return Case.STALE
    if not authority.is_open:
        return Case.SPENT
    return Case.LAPSED if authority.lapsed else Case.CURRENT


_Answer = Literal["renew", "revive", "accept", "superseded", "not_holder", "settled", "malformed"]

HEARTBEAT: dict[Case, _Answer] = {
    Case.IMPOSSIBLE: "malformed",
    Case.NOT_HOLDER: "not_holder",
    Case.CURRENT: "renew",
    Case.LAPSED: "revive",
    Case.OFFERED: "accept",
    Case.SPENT: "settled",
    Case.STALE: "superseded",
}
"""What a heartbeat gets in each case: a longer lease, or the word to stop (spec LEASE-5)."""


def regain(world: World, task: Task, agent: str, fence: int, now: int) -> list[Record] | None:
    """Return what makes this attempt the current one with a running lease, or None where it cannot be.

    Whatever the bearer of a current fence sends is a sign of life: the lease runs on, a lapsed one revives, an offer
    is accepted.
    """
    case = classify(world.ledger, task, agent, fence)
    if case is Case.CURRENT:
        world.live.lease_until[task.id] = now + task.durations.lease_ms
        return []
    if case is Case.OFFERED:
        return [Accepted(now, task.id, fence)]
    if case is Case.LAPSED and task.revivals < task.bounds.revivals:
        return [Revived(now, task.id, fence)]
    return None


def not_current(world: World, task: Task, agent: str, fence: int) -> Decision:
    """Refuse something that needs the current fence."""
    case = classify(world.ledger, task, agent, fence)
    if case is Case.NOT_HOLDER:
        return refuse(ErrorCode.NOT_HOLDER, f"fence {fence} of task {task.id} is not {agent}'s")
    if case is Case.IMPOSSIBLE:
        return refuse(ErrorCode.MALFORMED, f"no fence {fence} was minted yet, the newest is {world.ledger.lsn}")
    current = task.authority.fence if task.authority else 0
    return refuse(
        ErrorCode.STALE, f"fence {fence} of task {task.id} is {case.name.lower()}, the current one is {current}"
    )


def on_task_accept(world: World, sender: Connection, message: TaskAccept, now: int) -> Decision:
    """An agent takes an offer, and learns whether it still stands. Spec OFFER-4."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.task}")
    records = regain(world, task, agent, message.fence, now)
    if records is None:
        return not_current(world, task, agent, message.fence)
    return reply(_lease(task, message.fence), *records)


def _lease(task: Task, fence: int) -> TaskLease:
    directives = [f"cancel:{task.cancel.mode}"] if task.state is TaskState.CANCELING and task.cancel else []
    return TaskLease(task.id, fence, task.durations.lease_ms, directives)


def on_task_decline(world: World, sender: Connection, message: TaskDecline, now: int) -> Decision:
    """An agent does not take an offer. Spec OFFER-5."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.task}")
    case = classify(world.ledger, task, agent, message.fence)
    if case in (Case.STALE, Case.SPENT, Case.LAPSED):
        return reply(Ok())  # a repeat, or too late to matter: the agent does not have it, as it wished
    if case not in (Case.OFFERED, Case.CURRENT):
        return not_current(world, task, agent, message.fence)
    if case is not Case.OFFERED and task.state is not TaskState.LEASED:
        return refuse(
            ErrorCode.CONFLICT, f"task {task.id} is {task.state}: yield it, an attempt under way is not declined"
        )
    return reply(Ok(), *_declined(task, message.fence, message.reason, now + message.retry_after_ms, now))


def _declined(task: Task, fence: int, reason: str, retry_at: int, now: int) -> list[Record]:
    records: list[Record] = [Declined(now, task.id, fence, reason, retry_at)]
    if task.declines + 1 >= task.bounds.declines:
        records.append(
            Settled(now, task.id, "failed", "declines", f"declined {task.declines + 1} times, last: {reason}")
        )
    return records


def on_task_heartbeat(world: World, sender: Connection, message: TaskHeartbeat, now: int) -> Decision:
    """An attempt shows that it is alive, and how far it is. Spec LEASE-2, LEASE-5."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return reply(TaskRevoke(message.task, message.fence, "unknown", "skip"))
    answer = HEARTBEAT[classify(world.ledger, task, agent, message.fence)]
    if answer == "malformed":
        return refuse(ErrorCode.MALFORMED, f"no fence {message.fence} was minted yet, the newest is {world.ledger.lsn}")
    records = regain(world, task, agent, message.fence, now)
    if records is None:
        reason: Literal["superseded", "not_holder", "settled"] = (
            "settled" if task.is_terminal else "not_holder" if answer == "not_holder" else "superseded"
        )
        return reply(TaskRevoke(task.id, message.fence, reason, "skip"))
    _keep_progress(world.live, task, message, now)
    return reply(_lease(task, message.fence), *records)


def _keep_progress(live: Live, task: Task, message: TaskHeartbeat, now: int) -> None:
    progress = live.progress.get(task.id)
    if progress is None:
        progress = live.progress[task.id] = Progress()
    if message.progress_no <= progress.progress_no and progress.at:
        return  # latest wins; an older one that comes late is not news
    progress.progress_no, progress.at = message.progress_no, now
    progress.progress_bp = message.progress_bp if message.progress_bp is not None else progress.progress_bp
    progress.note = message.note if message.note is not None else progress.note


def on_task_yield(world: World, sender: Connection, message: TaskYield, now: int) -> Decision:
    """An agent gives an attempt back. That counts against nobody while it drains, else as a decline. Spec LEASE-7."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.task}")
    case = classify(world.ledger, task, agent, message.fence)
    if case in (Case.SPENT, Case.STALE):
        return reply(Ok(state=task.state.value))  # a repeat: it has no authority, as it wished
    if case is Case.OFFERED:
        return reply(Ok(), *_declined(task, message.fence, "busy", now, now))
    if case not in (Case.CURRENT, Case.LAPSED):
        return not_current(world, task, agent, message.fence)
    if task.state is TaskState.CANCELING:
        return reply(Ok(state="canceled"), canceled(task, now))
    holder = world.ledger.agents.get(agent)
    is_draining = holder is not None and holder.status == "draining"
    records: list[Record] = [Yielded(now, task.id, message.fence, message.reason, counted=not is_draining)]
    if not is_draining and task.declines + 1 >= task.bounds.declines:
        records.append(given_back_too_often(task, now))
    return reply(Ok(), *records)


def given_back_too_often(task: Task, now: int) -> Settled:
    """Return the record that ends a task which agents keep handing back."""
    return Settled(now, task.id, "failed", "declines", f"declined or given back {task.declines + 1} times")


def canceled(task: Task, now: int) -> Settled:
    """Return the record that ends a task somebody wanted to end."""
    wanted = task.cancel
    return Settled(now, task.id, "canceled", "canceled", wanted.reason if wanted else "", wanted.by if wanted else "")


def lapse(task: Task, now: int, reason: str) -> list[Record]:
    """Return what follows when the holder was not heard in time, or came back without the attempt. Spec LEASE-4."""
    assert task.authority is not None, "only a lease expires"
    if task.state is TaskState.CANCELING:
        return [canceled(task, now)]
    records: list[Record] = [LeaseExpired(now, task.id, task.authority.fence, reason)]
    if task.losses + 1 > task.bounds.losses:
        records.append(_lost_too_often(task, now))
    return records


def withdraw(task: Task, now: int, reason: str) -> list[Record]:
    """Return what follows when an offer was not answered. Spec OFFER-6."""
    assert task.offer is not None, "only an offer is withdrawn"
    records: list[Record] = [OfferWithdrawn(now, task.id, task.offer.fence, reason)]
    if task.losses + 1 > task.bounds.losses:
        records.append(_lost_too_often(task, now))
    return records


def _lost_too_often(task: Task, now: int) -> Settled:
    return Settled(now, task.id, "failed", "losses", f"{task.losses + 1} attempts were lost with their agents")
