"""Authority over a task: who has it, how it is renewed, lost, won back and given up (spec FENCE, LEASE).

`classify` sorts whatever an agent sends about an attempt into one `Case`; `HEARTBEAT` and `results.REPORT` say what
each case means. A fence ends by being spent or superseded, never by the clock alone: a lapsed lease only allows the
coordinator to offer the task to another agent.
"""

from __future__ import annotations

import hmac
from enum import Enum, auto
from functools import cache
from typing import Any, Literal

from ..errors import ErrorCode
from ..protocol.messages import Ok, TaskAccept, TaskDecline, TaskHeartbeat, TaskLease, TaskRevoke, TaskYield
from ..protocol.states import TaskState
from .budget import exhausted, is_low, most, plain
from .claimbook import owner_of
from .decision import Decision, no_task, refuse, reply
from .ledger import Ledger
from .live import Connection, Live, Progress, World
from .records import Accepted, Declined, Evicted, LeaseExpired, OfferWithdrawn, Record, Revived, Settled, Yielded
from .task_state import Task
from .waits import circles_broken

__all__ = [
    "HEARTBEAT",
    "Case",
    "blame",
    "canceled",
    "classify",
    "effect_scope",
    "evict",
    "given_back_too_often",
    "lapse",
    "may_revive",
    "moved",
    "not_current",
    "on_task_accept",
    "on_task_decline",
    "on_task_heartbeat",
    "on_task_yield",
    "proof",
    "regain",
    "withdraw",
]


def proof(ledger: Ledger, agent: str, task: str, fence: int) -> str:
    """Return the proof that this ledger, or the one it was copied from, minted a fence for an agent (DURABLE-7)."""
    fields = f"{fence}\n{task}\n{agent}"  # only the middle field may have line breaks
    return hmac.digest(ledger.proof_key.encode(), fields.encode(), "sha256").hex()[:32]


def effect_scope(ledger: Ledger, task: Task) -> str:
    """Return what tells a task's effect keys from those of other ledgers, the same in every copy (spec FENCE-8)."""
    return _scope_of(ledger.proof_key) if 0 < ledger.effects_scoped_from < task.lsn else ""


@cache
def _scope_of(proof_key: str) -> str:
    return hmac.digest(proof_key.encode(), b"effects", "sha256").hex()[:32]


class Case(Enum):
    """How a fence relates to a task when its bearer speaks (spec FENCE-5)."""

    IMPOSSIBLE = auto()
    """No fence that high was ever minted."""
    NOT_HOLDER = auto()
    """Minted for somebody else, or not for an attempt at this task."""
    CURRENT = auto()
    """Current, open, lease running."""
    LAPSED = auto()
    """Current and open, but the lease expired; nobody else accepted yet."""
    OFFERED = auto()
    """On offer to the sender, not current yet."""
    SPENT = auto()
    """Was current; its authority is used up."""
    STALE = auto()
    """Superseded, withdrawn or declined."""


def classify(ledger: Ledger, task: Task, agent: str, fence: int) -> Case:
    """Sort what `agent` sends under `fence`."""
    if fence > ledger.lsn:
        return Case.IMPOSSIBLE
    attempt = task.attempts.get(fence)
    if attempt is None or attempt.agent != agent:
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
"""The answer to a heartbeat in each case: a longer lease, or the word to stop (spec LEASE-5)."""


def regain(world: World, task: Task, agent: str, fence: int, now: int) -> list[Record] | None:
    """Return the records that make this attempt current with a running lease, or None if it cannot be.

    Whatever the bearer of a current fence sends is a sign of life: the lease runs on, a lapsed one revives, an offer
    is accepted. A holder that was asked to yield and let its grace pass does not come back by a sign of life.
    """
    case = classify(world.ledger, task, agent, fence)
    if case is Case.CURRENT:
        world.live.lease_until[task.id] = now + task.durations.lease_ms
        return []
    if case is Case.OFFERED:
        return [Accepted(now, task.id, fence)]
    if case is Case.LAPSED and may_revive(task):
        return [Revived(now, task.id, fence)]
    return None


def may_revive(task: Task) -> bool:
    """Tell whether the holder of a lapsed lease may come back by a sign of life (spec LEASE-8, LEASE-10)."""
    assert task.authority is not None, "only a lease lapses"
    return task.revivals < task.bounds.revivals and not task.authority.evicted


def moved(world: World, task: Task, now: int) -> None:
    """Note that the attempt made progress: heartbeats do not tell all of it."""
    _progress(world.live, task).moved_at = now


def not_current(world: World, task: Task, agent: str, fence: int) -> Decision:
    """Refuse a request that needs the current fence."""
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
    """Accept an offer for an agent, and tell it whether the offer still stands. Spec OFFER-4."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    records = regain(world, task, agent, message.fence, now)
    if records is None:
        return not_current(world, task, agent, message.fence)
    return reply(_lease(world, task, message.fence), *records)


def _lease(world: World, task: Task, fence: int) -> TaskLease:
    directives = [f"cancel:{task.cancel.mode}"] if task.state is TaskState.CANCELING and task.cancel else []
    progress = world.live.progress.get(task.id)
    if progress is not None and progress.usage and is_low(world.ledger, task, world.live.spending):
        directives.append("budget_low")
    return TaskLease(task.id, fence, task.durations.lease_ms, directives)


def on_task_decline(world: World, sender: Connection, message: TaskDecline, now: int) -> Decision:
    """Decline an offer for an agent. Spec OFFER-5."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    case = classify(world.ledger, task, agent, message.fence)
    if case in (Case.STALE, Case.SPENT, Case.LAPSED):
        return reply(Ok())  # a repeat, or too late to matter: the agent does not have it, as it wished
    if case not in (Case.OFFERED, Case.CURRENT):
        return not_current(world, task, agent, message.fence)
    if case is not Case.OFFERED and task.state is not TaskState.LEASED:
        return refuse(
            ErrorCode.CONFLICT, f"task {task.id} is {task.state}: yield it, an attempt under way is not declined"
        )
    if case is Case.CURRENT and task.authority is not None and task.authority.evicted:
        return reply(Ok(), *_given_back(world, task, agent, TaskYield(task.id, message.fence, message.reason), now))
    return reply(Ok(), *_declined(task, message.fence, message.reason, now + message.retry_after_ms, now))


def _declined(task: Task, fence: int, reason: str, retry_at: int, now: int) -> list[Record]:
    records: list[Record] = [Declined(now, task.id, fence, reason, retry_at)]
    if task.declines + 1 >= task.bounds.declines:
        records.append(
            Settled(now, task.id, "failed", "declines", f"declined {task.declines + 1} times, last: {reason}")
        )
    return records


def on_task_heartbeat(world: World, sender: Connection, message: TaskHeartbeat, now: int) -> Decision:
    """Take the heartbeat of an attempt: that it is alive, and how far it is. Spec LEASE-2, LEASE-5."""
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
    _keep_progress(world, task, message, now)
    if _keep_slot(world, agent, message):
        records.extend(circles_broken(world.ledger, world.live, owner_of(task.id, agent), now))
    if message.usage is not None:
        records.extend(_over_budget(world, task, now))
    return reply(_lease(world, task, message.fence), *records)


def _over_budget(world: World, task: Task, now: int) -> list[Record]:
    """Return the eviction if running attempts have used up the task's budget. Spec BUDGET-4."""
    is_told = task.authority is not None and bool(task.authority.evicted)
    if is_told or task.state is not TaskState.LEASED or exhausted(world.ledger, task, world.live.spending) is None:
        return []
    return [evict(task, "budget", now)]


def _keep_slot(world: World, agent: str, message: TaskHeartbeat) -> bool:
    """Note whether an attempt only waits for its sub-tasks, and tell whether that has changed."""
    released = world.live.released.setdefault(agent, {})
    before = released.pop(message.task, None)
    is_news = (message.slot == "released") is not (before == message.fence)
    if message.slot == "released":
        released[message.task] = message.fence
        if is_news and agent in world.ledger.agents:
            world.queues.capacity_changed(world.ledger.agents[agent])
    elif is_news:
        world.queues.slots.moved(agent)
    if not released:
        del world.live.released[agent]
    return is_news


def _progress(live: Live, task: Task) -> Progress:
    progress = live.progress.get(task.id)
    if progress is None:
        progress = live.progress[task.id] = Progress()
    return progress


def _keep_progress(world: World, task: Task, message: TaskHeartbeat, now: int) -> None:
    progress = _progress(world.live, task)
    if message.usage is not None:
        progress.usage = most(progress.usage, plain(message.usage))
        world.live.spending.tell(world.ledger, task, message.fence, progress.usage)
    if message.progress_no <= progress.progress_no and progress.at:
        return  # the latest wins; an older one that comes late is not news
    if message.progress_no > progress.progress_no:
        progress.moved_at = now
    progress.progress_no, progress.at, progress.is_told = message.progress_no, now, False
    progress.progress_bp = message.progress_bp if message.progress_bp is not None else progress.progress_bp
    progress.note = message.note if message.note is not None else progress.note


def on_task_yield(world: World, sender: Connection, message: TaskYield, now: int) -> Decision:
    """Yield an attempt. It counts against nobody while the agent drains, else as a decline. Spec LEASE-7."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    case = classify(world.ledger, task, agent, message.fence)
    if case in (Case.SPENT, Case.STALE):
        return reply(Ok(state=task.state.value))  # a repeat: the agent has no authority, as it wished
    if case is Case.OFFERED:
        return reply(Ok(), *_declined(task, message.fence, "busy", now, now))
    if case not in (Case.CURRENT, Case.LAPSED):
        return not_current(world, task, agent, message.fence)
    if task.state is TaskState.CANCELING:
        return reply(Ok(state="canceled"), canceled(task, now, plain(message.usage)))
    return reply(Ok(), *_given_back(world, task, agent, message, now))


def _given_back(world: World, task: Task, agent: str, message: TaskYield, now: int) -> list[Record]:
    """Return what follows from a yield."""
    counted, lost = blame(world, task, agent, message.fence)
    usage = plain(message.usage)
    yielded = Yielded(now, task.id, message.fence, message.reason, counted=counted, usage=usage, lost=lost)
    return [yielded, *given_back_too_often(task, counted, lost, now)]


def blame(world: World, task: Task, agent: str, fence: int) -> tuple[bool, bool]:
    """Tell whether an attempt given back counts as a decline, and whether as a loss. Spec LEASE-7, LEASE-10.

    An attempt that the coordinator asked back counts as the reason for the eviction says.
    """
    holder, authority = world.ledger.agents.get(agent), task.authority
    evicted = authority.evicted if authority is not None and authority.fence == fence else ""
    # A lapsed lease was counted when it lapsed.
    is_lost = evicted in COUNTED_AS_LOSS and authority is not None and not authority.lapsed
    is_draining = holder is not None and holder.status == "draining"
    return not evicted and not is_draining, is_lost


COUNTED_AS_LOSS = frozenset({"stall", "attempt"})
"""Reasons to evict that are the holder's fault: they count as if its lease had lapsed."""
EXCUSED = frozenset({"drain", "steer", "budget"})
"""Reasons to evict that are nobody's fault."""


def evict(task: Task, reason: str, now: int, grace_ms: int | None = None) -> Evicted:
    """Return the record that asks the holder to yield the attempt. Spec LEASE-10."""
    assert task.authority is not None, "only a holder is asked"
    grace = task.durations.cancel_ms if grace_ms is None else grace_ms
    return Evicted(now, task.id, task.authority.fence, reason, now + grace)


def given_back_too_often(task: Task, counted: bool, lost: bool, now: int) -> list[Record]:
    """Return what ends a task that agents keep giving back, if this time is once too often."""
    if lost and task.losses + 1 > task.bounds.losses:
        return [_lost_too_often(task, now)]
    if counted and task.declines + 1 >= task.bounds.declines:
        return [Settled(now, task.id, "failed", "declines", f"declined or given back {task.declines + 1} times")]
    return []


def canceled(task: Task, now: int, usage: dict[str, Any] | None = None) -> Settled:
    """Return the record that ends a canceled task; `usage` is what its holder told with its last word."""
    wanted = task.cancel
    reason, by = (wanted.reason, wanted.by) if wanted else ("", "")
    return Settled(now, task.id, "canceled", "canceled", reason, by, usage=usage)


def lapse(world: World, task: Task, now: int, reason: str) -> list[Record]:
    """Return what follows if the holder was not heard in time, or came back without the attempt. Spec LEASE-4."""
    authority = task.authority
    assert authority is not None, "only a lease expires"
    if task.state is TaskState.CANCELING:
        return [canceled(task, now)]
    counted = authority.evicted not in EXCUSED
    expired = LeaseExpired(now, task.id, authority.fence, reason, counted)
    progress = world.live.progress.get(task.id)
    if progress is not None:
        expired.progress_no, expired.note, expired.usage = progress.progress_no, progress.note, progress.usage
    if counted and task.losses + 1 > task.bounds.losses:
        return [expired, _lost_too_often(task, now)]
    return [expired]


def withdraw(task: Task, now: int, reason: str) -> list[Record]:
    """Return what follows if an offer was not answered. Spec OFFER-6."""
    assert task.offer is not None, "only an offer is withdrawn"
    records: list[Record] = [OfferWithdrawn(now, task.id, task.offer.fence, reason)]
    if task.losses + 1 > task.bounds.losses:
        records.append(_lost_too_often(task, now))
    return records


def _lost_too_often(task: Task, now: int) -> Settled:
    return Settled(now, task.id, "failed", "losses", f"{task.losses + 1} attempts were lost with their agents")
