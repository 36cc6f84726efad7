"""Rules that decide again about tasks, their attempts and their results, in the order of a task's life."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...protocol.canonical import content_hash
from ...protocol.messages import (
    ArtifactRef,
    AttemptError,
    PatchRef,
    Seen,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCheckpoint,
    TaskConfirm,
    TaskDecline,
    TaskDelegate,
    TaskHandoff,
    TaskHeartbeat,
    TaskLimits,
    TaskReport,
    TaskSteer,
    TaskYield,
)
from ...protocol.states import TaskState
from ..budget import exhausted
from ..capacity import serves
from ..conflicts.asking import seen_by
from ..conflicts.case import Terms
from ..conflicts.procedure import proceed
from ..handover import hand_back
from ..leases import canceled, lapse, withdraw
from ..policy import Bounds, Durations
from ..records import (
    Accepted,
    Adopted,
    Answered,
    AnswersRepeated,
    ArtifactAppended,
    Asked,
    CancelRequested,
    Checkpointed,
    Declined,
    Delegated,
    Evicted,
    HandedOff,
    HandoffLapsed,
    LeaseExpired,
    Offered,
    OfferWithdrawn,
    Record,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    Steered,
    Yielded,
)
from ..routing import wanted_of
from ..tree import cancel
from ..waits import resources_of
from .past import NO_LIMITS, NotAllowedError, Past, Rule, allow
from .sharing import allow_claims

__all__ = ["RULES"]


def _delegated(past: Past, record: Delegated) -> list[list[Record]]:
    allow(record.on_parent_end in ("cancel", "abandon", "detach"), "a way for it to end with its parent, or not to")
    allow(record.on_delegator_loss in ("continue", "pause", "cancel"), "a way for it to go on without its delegator")
    past.world.policy = replace(
        NO_LIMITS,
        durations=Durations.from_plain(record.durations),
        bounds=Bounds.from_plain(record.bounds),
    )
    if record.terms is not None:
        terms = Terms(**record.terms)
        past.world.policy = replace(
            past.world.policy,
            comparator=terms.comparator,
            ladder=tuple(terms.ladder),
            ballot_ms=terms.ballot_ms,
            judge_ms=terms.judge_ms,
            human_ms=terms.human_ms,
            appeal_ms=terms.appeal_ms,
            appeal_irreversible_ms=terms.appeal_ms,
            conflict_cost_micro=terms.cost_micro,
        )
    if record.scope.startswith(("conflict:", "compare:")):
        if record.parent is not None:
            steps = past.advanced(past.ledger.tasks[record.parent], record.at)
            return [*steps, *(_asking_more(past, record, step) for step in steps)]
        step = proceed(past.world, past.ledger.conflicts[record.scope.removeprefix("conflict:")], record.at)
        return [step] if isinstance(step, list) else []
    past.require_context(record.context_id)
    limits = TaskLimits(deadline_ms=None if record.deadline_at is None else record.deadline_at - record.at)
    message = TaskDelegate(
        record.key,
        record.spec,  # type: ignore[arg-type]
        record.payload,
        record.context_id,
        past.parent_held(record.parent),
        limits,
        on_parent_end=record.on_parent_end,  # type: ignore[arg-type]
        budget=record.budget,  # type: ignore[arg-type]
        on_delegator_loss=record.on_delegator_loss,  # type: ignore[arg-type]
        loss_ms=record.loss_ms,
        redrive_of=record.redrive_of,
    )
    decided = past.say(record.delegator, message, record.at)
    # Earlier versions did not let the members of a group pause with its delegator.
    before = [replace(each, on_delegator_loss="continue") for each in decided[1:] if isinstance(each, Delegated)]
    return [decided, [*decided[:1], *before]] if before else [decided]


def _asking_more(past: Past, record: Delegated, decided: list[Record]) -> list[Record]:
    """Return the decision as earlier versions made it, which asked for a further answer also who had seen the others.

    A `retry` asks one agent, so its task is the first record of the decision.
    """
    first, conflict = decided[0], past.ledger.conflicts.get(record.scope.removeprefix("conflict:"))
    if conflict is None or not isinstance(first, Delegated) or first.scope != record.scope:
        return decided
    if conflict.ladder[conflict.next_rung].strategy != "retry":
        return decided
    requires = first.spec["requires"]
    asked = set(requires["exclude"]) - set(record.spec.get("requires", {}).get("exclude", ()))
    if not asked <= seen_by(past.ledger, conflict):
        return decided
    exclude = [agent for agent in requires["exclude"] if agent not in asked]
    spec = first.spec | {"requires": {**requires, "exclude": exclude}}
    return [replace(first, spec=spec, spec_hash=content_hash(spec, first.payload)), *decided[1:]]


def _adopted(past: Past, record: Adopted) -> list[list[Record]]:
    task = past.task(record)
    message = TaskDelegate(task.key, task.spec, task.payload, parent=past.parent_held(task.parent))  # type: ignore[arg-type]
    if task.parent is not None and task.parent not in past.ledger.tasks:
        raise NotAllowedError(f"the parent of {task.id} in memory")
    decided = past.say(record.delegator, message, record.at)
    # Earlier versions did not move the members of a group along with it.
    return [decided, decided[:1]]


def _offered(past: Past, record: Offered) -> list[list[Record]]:
    task, agent = past.task(record), past.ledger.agents.get(record.agent)
    allow(task.state is TaskState.QUEUED, f"a queued task, {task.id} is {task.state}")
    allow(task.retry_at <= record.at, f"{task.id} waits until {task.retry_at}")
    skill = agent.skills.get(task.spec["skill"]) if agent is not None else None
    allow(agent is not None and skill is not None, f"an agent that can {task.spec['skill']}")
    if agent is not None and skill is not None:
        allow(agent.status == "ready", f"an agent that takes offers, {agent.id} is {agent.status}")
        kept_out = past.ledger.quarantined.get(agent.id)
        allow(kept_out is None, f"an agent that takes offers, {agent.id} is in quarantine: {kept_out}")
        allow(serves(skill, agent, *wanted_of(task)), f"an agent that {task.id} asks for")
    allow(task.shunned.get(record.agent, 0) <= record.at, f"another agent than {record.agent}, which is passed over")
    allow_claims(past, record)
    granted = task.authority is None or not task.authority.is_open
    return [[replace(record, granted=granted)]]


def _accepted(past: Past, record: Accepted) -> list[list[Record]]:
    agent = past.attempt(past.task(record), record.fence)
    return [past.say(agent, TaskAccept(record.task, record.fence), record.at)]


def _declined(past: Past, record: Declined) -> list[list[Record]]:
    agent = past.attempt(past.task(record), record.fence)
    reason: Any = record.reason
    if not record.counted:
        return [[record]]  # its agent left
    message = TaskDecline(record.task, record.fence, reason, record.retry_at - record.at)
    return [past.say(agent, message, record.at)]


def _withdrawn(past: Past, record: OfferWithdrawn) -> list[list[Record]]:
    task = past.task(record)
    if record.reason == "unanswered":
        return [past.clock(task, record.at)]
    allow(task.offer is not None, f"an offer of {task.id}")
    return [withdraw(task, record.at, record.reason)]


def _expired(past: Past, record: LeaseExpired) -> list[list[Record]]:
    task = past.task(record)
    if record.reason == "not heard in time":
        return [past.clock(task, record.at)]
    allow(task.holder is not None, f"a lease of {task.id}")
    authority = task.authority
    if authority is not None and authority.evicted == record.reason:
        allow(authority.grace_at <= record.at, f"a grace that is over, it lasts until {authority.grace_at}")
    return [lapse(past.world, task, record.at, record.reason)]


_EVICTED_FOR = ("stall", "attempt", "drain", "steer", "budget")


def _evicted(past: Past, record: Evicted) -> list[list[Record]]:
    task = past.task(record)
    authority, durations = task.authority, task.durations
    allow(task.holder is not None and authority is not None and not authority.evicted, f"a holder of {task.id}")
    allow(record.reason in _EVICTED_FOR, f"a reason to take {task.id} away, {record.reason} is none")
    times = {"stall": durations.stall_ms, "attempt": durations.attempt_ms}
    wait = times.get(record.reason, 0)
    allow(wait is not None and task.since + wait <= record.at, f"{task.id} has no such timer, or its time is not up")
    # How long a draining operator grants is not recorded; all others grant what the task says.
    grace_at = record.grace_at if record.reason == "drain" else record.at + durations.cancel_ms
    fence = authority.fence if authority is not None else 0
    return [[replace(record, fence=fence, grace_at=grace_at)]]


def _handed_off(past: Past, record: HandedOff) -> list[list[Record]]:
    task = past.task(record)
    agent = past.attempt(task, record.fence)
    message = TaskHandoff(
        record.task,
        record.fence,
        record.to,
        record.requires,  # type: ignore[arg-type]
        record.payload,
        record.usage,  # type: ignore[arg-type]
    )
    decided = past.say(agent, message, record.at)
    # Earlier versions did not always add to the wish that the next agent is another one.
    before = [replace(each, requires=record.requires) if isinstance(each, HandedOff) else each for each in decided]
    # Nor did they always pass over agents that work on another member of a group.
    refused: list[list[Record]] = [[record]] if not decided and past.ledger.barred(task) else []
    return [decided, before, *refused]


def _handoff_lapsed(past: Past, record: HandoffLapsed) -> list[list[Record]]:
    return [hand_back(past.task(record), record.at)]


def _checkpointed(past: Past, record: Checkpointed) -> list[list[Record]]:
    task = past.task(record)
    agent = past.attempt(task, record.fence)
    base = next((kept.cp_no for kept in task.checkpoints if kept.fence == record.fence), 0)
    message = TaskCheckpoint(
        record.task, record.fence, record.cp_no, record.payload, base, record.format, record.portable
    )
    return [past.say(agent, message, record.at)]


def _steered(past: Past, record: Steered) -> list[list[Record]]:
    task = past.task(record)
    # Earlier versions did not always refuse a word to a group, or to a disputed result.
    before: list[list[Record]] = [[record]] if task.group is not None or task.is_reported else []
    return before + [
        past.controls(record.by, task, TaskSteer(task.id, record.key, record.payload, mode=mode), record.at)
        for mode in ("enqueue", "interrupt")
    ]


def _answers_repeated(past: Past, record: AnswersRepeated) -> list[list[Record]]:
    task = past.task(record)
    told = any(ask.fence == record.fence and ask.told for ask in task.asks)
    allow(task.holder is not None and told, f"answers that the holder of {task.id} was sent")
    return [[record]]


def _revived(past: Past, record: Revived) -> list[list[Record]]:
    agent = past.attempt(past.task(record), record.fence)
    return [past.say(agent, TaskHeartbeat(record.task, record.fence), record.at)]


def _yielded(past: Past, record: Yielded) -> list[list[Record]]:
    agent = past.attempt(past.task(record), record.fence)
    if not record.counted and not record.lost and record.reason == "the agent left":
        return [[record]]
    message = TaskYield(record.task, record.fence, record.reason, record.usage)  # type: ignore[arg-type]
    return [past.say(agent, message, record.at)]


def _artifact(past: Past, record: ArtifactAppended) -> list[list[Record]]:
    agent = past.attempt(past.task(record), record.fence)
    message = TaskArtifact(
        record.task,
        record.fence,
        record.artifact,
        record.chunk_no,
        record.payload,
        name=record.name,
        append=record.append,
        last_chunk=record.last,
    )
    return [past.say(agent, message, record.at)]


def _asked(past: Past, record: Asked) -> list[list[Record]]:
    allow(record.hold in ("hot", "cold"), "a question that is hot or cold")
    agent = past.attempt(past.task(record), record.fence)
    message = TaskAsk(
        record.task,
        record.ask_no,
        record.payload,
        record.fence,
        hold=record.hold,  # type: ignore[arg-type]
        timeout_ms=record.deadline_at - record.at,
        default=record.default,
        auth=record.auth,
    )
    return [past.say(agent, message, record.at)]


def _answered(past: Past, record: Answered) -> list[list[Record]]:
    task = past.task(record)
    if record.by == "timer":
        return [past.clock(task, record.at)]
    message = TaskAnswer(task.id, record.ask_no, record.payload)
    said = past.say(record.by, message, record.at, role="operator" if record.rank else "member")
    for answered in said:
        if isinstance(answered, Answered):
            answered.key = record.key  # only its author says which A2A message an answer was
    return [said]


def _reported(past: Past, record: Reported | ReportKept) -> list[list[Record]]:
    task = past.task(record)
    error = AttemptError(**record.error) if isinstance(record, Reported) and record.error is not None else None
    outcome: Any = record.outcome
    is_new = isinstance(record, Reported) and not record.unseen_steer
    message = TaskReport(
        record.task,
        record.fence,
        outcome,
        record.result_hash,
        record.payload,
        error,
        record.usage,  # type: ignore[arg-type]
        [ArtifactRef(name) for name in (record.artifacts if isinstance(record, Reported) else None) or ()],
        len(task.steers) if is_new else 0,
        [Seen(**seen) for seen in (record.basis if isinstance(record, Reported) else None) or ()],
        [PatchRef(**patch) for patch in (record.patches if isinstance(record, Reported) else None) or ()],
    )
    decided = past.say(record.agent, message, record.at)
    *before, last = decided or [record]
    if isinstance(last, Settled) and last.by == "auto" and task.evaluator != "auto":
        # In earlier versions the result of a sub-task that ends with its parent could wait for a word.
        waits: list[Record] = [replace(each, review=True) if isinstance(each, Reported) else each for each in before]
        return [decided, waits]
    return [decided]


def _reworked(past: Past, record: Reworked) -> list[list[Record]]:
    task = past.task(record)
    allow(task.results, f"a result of {task.id}")
    message = TaskConfirm(
        task.id, record.rev, task.results[-1].result_hash, "reject", True, record.reason_code, record.payload
    )
    return [past.controls(record.by, task, message, record.at)]


def _cancel(past: Past, record: CancelRequested) -> list[list[Record]]:
    task = past.task(record)
    allow(record.mode in ("coop", "kill"), "a way to cancel that waits")
    mode: Any = record.mode
    message = TaskCancel(task.id, mode, record.reason, record.grace_at - record.at)
    if record.by == "timer" and task.on_delegator_loss == "cancel":
        return [cancel(past.ledger, task, "coop", record.reason, "timer", record.at)]
    return [past.controls(record.by, task, message, record.at), *past.cascades(task, record.at)]


def _settled(past: Past, record: Settled) -> list[list[Record]]:
    task, now = past.task(record), record.at
    allow(not task.is_terminal, f"{task.id} has not ended, it is {task.state}")
    timeout = "reject" if record.state == "failed" else "accept"
    past.world.policy = replace(NO_LIMITS, on_confirm_timeout=timeout)
    found = [past.clock(task, now), *past.cascades(task, now)]
    if task.state is TaskState.CANCELING:
        found.append([canceled(task, now)])
    if task.state is TaskState.REPORTED and task.results:
        result = task.results[-1]
        for verdict, rework in (("accept", False), ("reject", False), ("reject", True)):
            word = TaskConfirm(task.id, result.rev, result.result_hash, verdict, rework, record.detail)  # type: ignore[arg-type]
            found.append(past.controls(record.by, task, word, now))
    if task.state is TaskState.QUEUED and record.reason == "deadlock" and resources_of(task):
        found.append([replace(record, state="failed", by="", result_hash=None)])
    if task.state is TaskState.QUEUED and record.reason == "budget" and exhausted(past.ledger, task):
        found.append([replace(record, state="failed", by="", result_hash=None)])
    if task.on_delegator_loss == "cancel" and record.by == "timer":
        found.append(cancel(past.ledger, task, "coop", record.detail, "timer", now))
    if record.state == "canceled":
        for mode in ("coop", "skip"):
            found.append(past.controls(record.by, task, TaskCancel(task.id, mode, record.detail), now))
    return found


RULES: dict[type[Record], Rule] = {
    Delegated: _delegated,
    Adopted: _adopted,
    Offered: _offered,
    Accepted: _accepted,
    Declined: _declined,
    OfferWithdrawn: _withdrawn,
    LeaseExpired: _expired,
    Revived: _revived,
    Evicted: _evicted,
    Yielded: _yielded,
    HandedOff: _handed_off,
    HandoffLapsed: _handoff_lapsed,
    Checkpointed: _checkpointed,
    ArtifactAppended: _artifact,
    Asked: _asked,
    Answered: _answered,
    AnswersRepeated: _answers_repeated,
    Steered: _steered,
    Reported: _reported,
    ReportKept: _reported,
    Reworked: _reworked,
    CancelRequested: _cancel,
    Settled: _settled,
}
