"""What a mailbox entry says: it becomes a message when it is sent, and says what is true then (spec MAIL)."""

from __future__ import annotations

from ..protocol.messages import (
    Answer,
    Child,
    Feedback,
    Message,
    StaleBasis,
    Steer,
    TaskAnswer,
    TaskAsk,
    TaskOffer,
    TaskReview,
    TaskRevoke,
    TaskSettled,
    TaskSteer,
)
from ..protocol.states import TaskState
from .budget import remaining
from .claims import claim_notice, granted_names
from .conflicts.court import opened_notice, resolved_notice
from .handover import checkpoint_for, dossier
from .leases import effect_scope, proof
from .ledger import ABOUT_CONFLICTS, MailboxEntry
from .live import World
from .results import settled_notice
from .task_state import Result, Task

__all__ = ["render", "render_gone"]


def render(world: World, agent: str, entry: MailboxEntry, now: int) -> Message:
    """Return the message for an entry, with what is true now.

    An offer that no longer stands becomes a revocation of its fence, so that nobody starts on it.
    """
    if entry.claim is not None:
        return claim_notice(world.ledger, entry, now)
    ledger = world.ledger
    if entry.kind in ABOUT_CONFLICTS:
        conflict = ledger.conflicts[ledger.conflict_id_at(entry.number)]
        is_opening = entry.kind == "conflict.opened"
        return opened_notice(ledger, conflict, agent, now) if is_opening else resolved_notice(ledger, conflict)
    task = ledger.tasks[entry.task]
    match entry.kind:
        case "task.offer":
            return _offer(world, task, agent, entry.number, now)
        case "task.review":
            result = next(result for result in task.results if result.rev == entry.number)
            return TaskReview(
                task.id,
                task.generation,
                result.rev,
                result.result_hash,
                result.payload,
                result.agent,
                _confirm_ms(world, task, result, now),
                result.unseen_steer,
                [StaleBasis(stale["key"], stale["seen"], stale["current"]) for stale in result.stale_basis],
            )
        case "task.settled":
            # A reviewed result went out with the review; one that was not reviewed has only been seen by its worker.
            return settled_notice(task, content=not (task.results and task.results[-1].reviewed))
        case "task.ask":
            ask = next(ask for ask in task.asks if ask.ask_no == entry.number)
            return TaskAsk(
                task.id,
                ask.ask_no,
                ask.payload,
                timeout_ms=max(0, ask.deadline_at - now),
                default=ask.default,
                auth=ask.auth,
            )
        case "task.answer":
            ask = next(ask for ask in task.asks if ask.ask_no == entry.number)
            assert ask.answer is not None, "an answer is posted when it is there"
            return TaskAnswer(task.id, ask.ask_no, ask.answer)
        case "task.steer":
            steer = task.steers[entry.number - 1]
            return TaskSteer(task.id, steer.key, steer.payload, steer_no=entry.number)
        case "task.revoke":
            return _revoke(task, entry.number, now)
        case _:
            raise ValueError(f"mailbox entry {entry.mseq} of {agent} has the unknown kind {entry.kind}")


def render_gone(entry: MailboxEntry, state: str) -> Message:
    """Return the message for an entry about a task of which only its end is kept. Spec READ-6, MAIL-6."""
    return TaskSettled(entry.task, 0, state, "gone")  # type: ignore[arg-type]


def _confirm_ms(world: World, task: Task, result: Result, now: int) -> int:
    """Return the time left for a word on a result: it stands still during a conflict, and begins anew after it."""
    if not task.is_reported or result is not task.results[-1]:
        return 0
    if task.state is TaskState.DISPUTED:
        return task.durations.confirm_ms
    return max(0, max(task.since + task.durations.confirm_ms, world.live.grace_until) - now)


def _offer(world: World, task: Task, agent: str, fence: int, now: int) -> Message:
    offered = task.offer is not None and task.offer.fence == fence
    authority = task.authority
    # Not if it lapsed: its process may be gone, and another would begin anew under its fence and its numbers.
    granted = authority is not None and authority.fence == fence and authority.is_open and not authority.lapsed
    if not offered and not granted:
        return TaskRevoke(task.id, fence, "settled" if task.is_terminal else "superseded", "skip")
    ledger = world.ledger
    return TaskOffer(
        task=task.id,
        fence=fence,
        attempt=list(task.attempts).index(fence) + 1,
        granted=granted,
        offer_ms=_waited_for(world, task, now),
        lease_ms=task.durations.lease_ms,
        heartbeat_ms=task.durations.heartbeat_ms,
        spec=task.spec,  # type: ignore[arg-type]
        payload=task.payload,
        key=task.key,
        context_id=task.context_id,
        delegator=task.delegator,
        rev=task.rev,
        deadline_ms=None if task.deadline_at is None else max(0, task.deadline_at - now),
        parent=task.parent,
        feedback=[Feedback(rev, payload, code) for rev, code, payload in task.feedback],
        answers=[Answer(ask.ask_no, ask.answer) for ask in task.asks if ask.answer is not None],
        children=[
            Child(child.id, child.key, child.state.value)
            for child in (ledger.tasks[child_id] for child_id in task.children)
        ],
        steers=[Steer(number, steer.payload) for number, steer in enumerate(task.steers, 1)],
        checkpoint=checkpoint_for(task, ledger.agents.get(agent), agent),
        dossier=dossier(task, fence),
        budget=remaining(ledger, task) or None,  # type: ignore[arg-type]
        claims=granted_names(ledger, task, fence),
        proof=proof(ledger, agent, task.id, fence),
        effect_scope=effect_scope(ledger, task),
    )


def _waited_for(world: World, task: Task, now: int) -> int:
    """Return how much longer a standing offer waits for its first sign of life. Spec MAIL-6, OFFER-6."""
    live, whole = world.live, task.durations.offer_ms
    until = live.lease_until.get(task.id, now + whole) if task.offer is None else task.offer.at + whole
    return max(0, min(whole, max(until, live.grace_until) - now))


def _revoke(task: Task, fence: int, now: int) -> TaskRevoke:
    wanted = task.cancel
    authority = task.authority
    current = authority is not None and authority.fence == fence
    if current and wanted is not None and task.state is TaskState.CANCELING:
        mode = wanted.mode if wanted.mode in ("coop", "kill") else "skip"
        return TaskRevoke(task.id, fence, "cancel", mode, max(0, wanted.grace_at - now))  # type: ignore[arg-type]
    if task.settled is not None and current:
        reason = (
            "deadline"
            if task.settled.reason == "deadline"
            else "cancel"
            if task.settled.state == "canceled"
            else "settled"
        )
        return TaskRevoke(task.id, fence, reason, "skip")  # type: ignore[arg-type]
    if authority is not None and current and authority.is_open and authority.evicted:
        grace = max(0, authority.grace_at - now)
        return TaskRevoke(task.id, fence, authority.evicted, "coop" if grace else "skip", grace)  # type: ignore[arg-type]
    return TaskRevoke(task.id, fence, "superseded", "skip")
