"""What the clock decides about a task, and when (spec TIME, and the timers of LEASE, ACCEPT, ASK and CANCEL)."""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.states import TaskState
from .conflicts.procedure import due_at
from .handover import hand_back
from .leases import canceled, evict, lapse, withdraw
from .live import World
from .policy import Policy
from .records import Answered, Record, Settled
from .task_state import Offer, Task
from .tree import cancel

__all__ = ["due", "wait_on", "when_due"]


def when_due(world: World, task: Task) -> int | None:
    """Return the earliest time at which `due` may have something to decide, or None if nothing waits for time."""
    if task.is_terminal:
        return None
    state, durations = task.state, task.durations
    # The deadline does not discard work that is done and paid for: from the report on, the confirm timer counts.
    has_deadline = task.deadline_at is not None and not task.is_reported
    times: list[int] = [task.deadline_at] if has_deadline and task.deadline_at is not None else []
    if state is TaskState.QUEUED:
        if durations.queue_ms is not None:
            times.append(task.since + durations.queue_ms)
    elif state is TaskState.OFFERED and task.offer is not None:
        times.append(_offer_until(world, task, task.offer))
    elif state is TaskState.REPORTED:
        if _confirm_timer_runs(world.policy, task):
            times.append(task.since + durations.confirm_ms)
    elif task.holder is not None:
        times.append(world.live.lease_until.get(task.id, task.since + durations.lease_ms))
        times.extend(time for time, _ in _patience(world, task))
    conflict_at = due_at(world, task)
    if conflict_at is not None:
        times.append(conflict_at)
    if state is TaskState.QUEUED and task.handed_to:
        times.append(task.since + durations.lease_ms)
    lost_at = _delegator_lost_at(world, task)
    if lost_at is not None:
        times.append(lost_at)
    if state is TaskState.PARKED:
        times.extend(ask.deadline_at for ask in task.asks if ask.is_open)
    if state is TaskState.CANCELING and task.cancel is not None:
        times.append(task.cancel.grace_at)
    return max(min(times), world.live.grace_until) if times else None


def wait_on(world: World, task: Task, is_carrying: Callable[[int], bool], now: int) -> None:
    """Extend the wait for an agent while a message is on its way to or from it. Spec TIME-4.

    Args:
        world: the coordinator's state.
        task: a task that the agent holds, or was offered.
        is_carrying: tells whether a message is on its way on a connection.
        now: the time.
    """
    agent = task.offer.agent if task.offer is not None else task.holder
    connection = world.live.agents.get(agent) if agent is not None else None
    if connection is not None and is_carrying(connection.id):
        until = world.live.lease_until.get(task.id, 0)
        world.live.lease_until[task.id] = max(until, now + task.durations.offer_ms)


def _offer_until(world: World, task: Task, offer: Offer) -> int:
    return max(offer.at + task.durations.offer_ms, world.live.lease_until.get(task.id, 0))


def _patience(world: World, task: Task) -> list[tuple[int, str]]:
    """Return when the holder's time is up however alive it is, and why. Spec LEASE-10, TIME-7."""
    authority, durations = task.authority, task.durations
    if authority is None or task.holder is None or task.state is TaskState.CANCELING:
        return []
    if authority.evicted:
        return [(authority.grace_at, authority.evicted)]
    if task.state is TaskState.PARKED:
        return []
    times: list[tuple[int, str]] = []
    if durations.attempt_ms is not None:
        times.append((task.since + durations.attempt_ms, "attempt"))
    if durations.stall_ms is not None:
        progress = world.live.progress.get(task.id)
        moved_at = max(task.since, progress.moved_at if progress is not None else 0, world.live.started_at)
        times.append((moved_at + durations.stall_ms, "stall"))
    return times


def _delegator_lost_at(world: World, task: Task) -> int | None:
    """Return when a task ends because its delegator is lost, or None. Spec TASK-12."""
    if task.on_delegator_loss != "cancel" or task.is_reported or task.state is TaskState.CANCELING:
        return None
    since = world.live.away_since.get(task.principal)
    return None if since is None else since + task.loss_ms


def _confirm_timer_runs(policy: Policy, task: Task) -> bool:
    """Tell whether silence decides about a result. If a human has to confirm it, silence does not."""
    return policy.on_confirm_timeout != "hold" and task.evaluator != "human"


def due(world: World, task: Task, now: int) -> list[Record]:
    """Return what the clock decides about a task now. Spec TIME-1 to TIME-5."""
    if task.is_terminal:
        return []
    state, durations = task.state, task.durations
    if task.deadline_at is not None and task.deadline_at <= now and not task.is_reported:
        return [Settled(now, task.id, "failed", "deadline", "the deadline has passed")]
    if state is TaskState.QUEUED and durations.queue_ms is not None and task.since + durations.queue_ms <= now:
        detail = f"no agent took {task.spec['skill']} within {durations.queue_ms} ms"
        return [Settled(now, task.id, "failed", "no_capable_agent", detail)]
    if state is TaskState.OFFERED and task.offer is not None and _offer_until(world, task, task.offer) <= now:
        return withdraw(task, now, "unanswered")
    if (
        state is TaskState.REPORTED
        and task.since + durations.confirm_ms <= now
        and _confirm_timer_runs(world.policy, task)
    ):
        result = task.results[-1]
        if result.is_contradicted:
            why = "it was overruled" if result.overruled else "it relies on decisions that have moved"
            detail = f"{why}, and nobody said that it is good all the same"
            return [Settled(now, task.id, "failed", "unconfirmed", detail, "timer")]
        if world.policy.on_confirm_timeout == "accept":
            return [Settled(now, task.id, "completed", by="timer", result_hash=result.result_hash)]
        return [Settled(now, task.id, "failed", "unconfirmed", "nobody confirmed the result in time", "timer")]
    if state is TaskState.CANCELING and task.cancel is not None and task.cancel.grace_at <= now:
        return [canceled(task, now)]
    if state is TaskState.PARKED:
        for ask in task.asks:
            if ask.is_open and ask.deadline_at <= now:
                if ask.default is None:
                    return [
                        Settled(now, task.id, "failed", "unanswered", f"nobody answered question {ask.ask_no} in time")
                    ]
                return [Answered(now, task.id, ask.ask_no, "timer", ask.default)]
    lost_at = _delegator_lost_at(world, task)
    if lost_at is not None and lost_at <= now:
        return cancel(world.ledger, task, "coop", "its delegator has gone", "timer", now)
    if task.holder is not None and world.live.lease_until.get(task.id, task.since + durations.lease_ms) <= now:
        return lapse(world, task, now, "not heard in time")
    for time, reason in _patience(world, task):
        if time <= now:
            is_evicted = task.authority is not None and bool(task.authority.evicted)
            return lapse(world, task, now, reason) if is_evicted else [evict(task, reason, now)]
    return hand_back(task, now)
