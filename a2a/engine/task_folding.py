"""What each record about a task does to the ledger, in the order in which a delegated task meets them.

Only the ledger's table of records uses it. What records do to claims, contexts, groups and conflicts is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..protocol.states import TaskEvent, TaskState
from ..protocol.types import principal_of
from .claimbook import granted_with, owner_of
from .conflicts import folding
from .conflicts.case import Group, Terms
from .policy import Bounds, Durations
from .records import (
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
    PatchesCompared,
    Record,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    Steered,
    Yielded,
)
from .task_state import (
    CHECKPOINTS_KEPT,
    Artifact,
    Ask,
    Attempt,
    Authority,
    Checkpoint,
    Evidence,
    Offer,
    Result,
    Steer,
    Task,
)

if TYPE_CHECKING:
    from .ledger import Ledger

__all__ = ["APPLY"]


def _delegated(ledger: Ledger, record: Delegated, lsn: int) -> None:
    if record.task != ledger.task_id_at(lsn):
        raise ValueError(f"record {lsn} creates task {record.task}, its position says {ledger.task_id_at(lsn)}")
    task = Task(
        id=record.task,
        lsn=lsn,
        at=record.at,
        scope=record.scope,
        key=record.key,
        delegator=record.delegator,
        principal=principal_of(record.delegator),
        context_id=record.context_id,
        spec=record.spec,
        spec_hash=record.spec_hash,
        payload=record.payload,
        durations=Durations.from_plain(record.durations),
        bounds=Bounds.from_plain(record.bounds),
        parent=record.parent,
        on_parent_end=record.on_parent_end,
        depth=record.depth,
        deadline_at=record.deadline_at,
        budget=record.budget or {},
        on_delegator_loss=record.on_delegator_loss,
        loss_ms=record.loss_ms,
        redrive_of=record.redrive_of,
        since=record.at,
    )
    ledger.tasks[task.id] = ledger.open_tasks[task.id] = task
    ledger.wanted_bytes += task.wanted_bytes
    ledger.count_open(task.delegator, 1)
    ledger.use_context(task.context_id, 1)
    ledger.keys[record.scope, record.key] = task.id
    if record.terms is not None:
        task.state, task.group = TaskState.BLOCKED, Group(Terms(**record.terms))
    ledger.index.add(task)
    if record.parent is not None:
        parent = ledger.tasks[record.parent]
        task.above = tuple(ledger.delegators(parent.id))
        parent.children.append(task.id)
        if parent.group is not None and record.scope == f"group:{parent.id}":
            parent.group.electorate.append(task.id)
        elif parent.group is not None and record.scope == f"compare:{parent.id}":
            parent.group.compared.append(task.id)
    if record.budget:
        ledger.reserve(task)
    if record.on_delegator_loss != "continue":
        ledger.attached.setdefault(task.principal, {})[task.id] = task
    ledger.note(task, "created", record, lsn, delegator=record.delegator)


def _adopted(ledger: Ledger, record: Adopted, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if not task.is_terminal:
        ledger.count_open(task.delegator, -1)
        ledger.count_open(record.delegator, 1)
    task.delegator = record.delegator
    ledger.touched[record.task] = task


def _offered(ledger: Ledger, record: Offered, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.attempt += 1
    if record.agent not in task.agents:
        ledger.at_work.count([record.agent], 1)
    task.attempts[lsn] = Attempt(record.agent, record.at, heard=len(task.steers))
    task.last_agent = record.agent
    for ask in task.asks:
        ask.offered = ask.offered or ask.answer is not None
    if record.granted:
        task.authority = Authority(lsn, record.agent, is_open=True)
        task.was_leased = True
        event = TaskEvent.GRANT
    else:
        task.offer = Offer(lsn, record.agent, record.at)
        event = TaskEvent.OFFER
    ledger.hold(record.agent, task, lsn)
    if record.claims:
        granted_with(ledger, record, lsn)
    ledger.move(task, event, record, lsn, agent=record.agent, attempt=task.attempt, fence=lsn)
    ledger.post(record.agent, lsn, "task.offer", task.id, lsn)


def _accepted(ledger: Ledger, record: Accepted, lsn: int) -> None:
    task = ledger.tasks[record.task]
    offer = task.offer
    if offer is None or offer.fence != record.fence:
        raise ValueError(f"record {lsn} accepts fence {record.fence} of task {task.id}, which is not on offer")
    task.authority, task.offer = Authority(offer.fence, offer.agent, is_open=True), None
    task.attempts[offer.fence].at = record.at
    task.was_leased = True
    ledger.move(task, TaskEvent.ACCEPT, record, lsn, agent=offer.agent, fence=offer.fence)
    _tell_words(ledger, task, lsn)


def _declined(ledger: Ledger, record: Declined, lsn: int) -> None:
    task = ledger.tasks[record.task]
    agent = _drop(ledger, task, record.fence)
    ledger.end_attempt(task, record.fence, "declined", record.at, record.reason)
    ledger.charge(task, record.fence, record.usage)
    task.declines += record.counted
    task.shunned[agent] = record.retry_at
    ledger.move(task, TaskEvent.WITHDRAW, record, lsn, agent=agent, reason=record.reason)


def _offer_withdrawn(ledger: Ledger, record: OfferWithdrawn, lsn: int) -> None:
    task = ledger.tasks[record.task]
    agent = _drop(ledger, task, record.fence)
    ledger.end_attempt(task, record.fence, "unanswered", record.at, record.reason)
    task.losses += 1
    task.attempts[record.fence].lost = True
    task.shunned[agent] = record.at
    ledger.move(task, TaskEvent.WITHDRAW, record, lsn, agent=agent, reason=record.reason)


def _drop(ledger: Ledger, task: Task, fence: int) -> str:
    """Take back an offer, or a granted lease that never showed a sign of life, and return its agent."""
    if task.offer is not None and task.offer.fence == fence:
        agent = ledger.drop_offer(task)
        assert agent is not None, "the offer was looked at one line above"
        return agent
    authority = task.authority
    if authority is None or authority.fence != fence or not authority.is_open:
        raise ValueError(f"fence {fence} of task {task.id} is neither on offer nor current")
    ledger.spend(task)
    return authority.holder


def _lease_expired(ledger: Ledger, record: LeaseExpired, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    authority.lapsed = True
    ledger.let_go(authority.holder, task, authority.fence)
    ledger.end_attempt(task, record.fence, "lapsed", record.at, record.reason)
    attempt = task.attempts[record.fence]
    attempt.progress_no, attempt.note = record.progress_no, record.note
    attempt.lost |= record.counted
    ledger.charge(task, record.fence, record.usage)
    task.losses += record.counted
    task.shunned[authority.holder] = record.at
    ledger.move(task, TaskEvent.EXPIRE, record, lsn, agent=authority.holder, reason=record.reason)


def _current(task: Task, fence: int) -> Authority:
    authority = task.authority
    if authority is None or authority.fence != fence or not authority.is_open:
        raise ValueError(f"fence {fence} of task {task.id} is not current and open")
    return authority


def _revived(ledger: Ledger, record: Revived, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    authority.lapsed = False
    ledger.end_attempt(task, record.fence, "", 0)
    task.revivals += 1
    offer = task.offer
    overtaken = ledger.drop_offer(task)
    ledger.hold(authority.holder, task, authority.fence)
    if task.state is not TaskState.PARKED:
        ledger.move(task, TaskEvent.REVIVE, record, lsn, agent=authority.holder, fence=authority.fence)
    if overtaken is not None and offer is not None:
        ledger.post(overtaken, lsn, "task.revoke", task.id, offer.fence)
    for ask in task.asks:
        if ask.fence == record.fence and ask.answer is not None and not ask.told:
            ask.told = True  # it was answered while the lease had lapsed
            ledger.post(authority.holder, lsn, "task.answer", task.id, ask.ask_no)
    _tell_words(ledger, task, lsn)


def _yielded(ledger: Ledger, record: Yielded, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    _overtake_offer(ledger, task, lsn)
    ledger.spend(task)
    ledger.end_attempt(task, record.fence, "yielded", record.at, record.reason)
    task.attempts[record.fence].lost |= record.lost
    ledger.charge(task, record.fence, record.usage)
    task.declines += record.counted
    task.losses += record.lost
    if record.counted or record.lost:
        task.shunned[authority.holder] = record.at
    ledger.move(task, TaskEvent.RELEASE, record, lsn, agent=authority.holder, reason=record.reason)


def _evicted(ledger: Ledger, record: Evicted, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    authority.evicted, authority.grace_at = record.reason, record.grace_at
    ledger.note(task, "evict", record, lsn, agent=authority.holder, reason=record.reason)
    ledger.post(authority.holder, lsn, "task.revoke", task.id, record.fence)


def _handed_off(ledger: Ledger, record: HandedOff, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    _overtake_offer(ledger, task, lsn)
    ledger.spend(task)
    ledger.end_attempt(task, record.fence, "handed_off", record.at)
    ledger.charge(task, record.fence, record.usage)
    task.handoffs += 1
    task.shunned[authority.holder] = record.at
    task.attempts[record.fence].payload = record.payload
    task.handed_to = dict(record.requires or {})
    if record.to is not None:
        task.handed_to["agent"] = record.to
    ledger.move(
        task, TaskEvent.RELEASE, record, lsn, record.payload, agent=authority.holder, reason="handed off", to=record.to
    )


def _handoff_lapsed(ledger: Ledger, record: HandoffLapsed, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.handed_to = {}
    ledger.touched[task.id] = task


def _checkpointed(ledger: Ledger, record: Checkpointed, lsn: int) -> None:
    task = ledger.tasks[record.task]
    holder = _current(task, record.fence).holder
    kept = [known for known in task.checkpoints if known.fence != record.fence]
    kept.append(Checkpoint(record.cp_no, record.fence, holder, record.format, record.portable, record.payload))
    task.checkpoints = kept[-CHECKPOINTS_KEPT:]


def _steered(ledger: Ledger, record: Steered, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if task.is_terminal:
        raise ValueError(f"record {lsn} steers task {task.id}, which is {task.state}")
    task.steers.append(Steer(record.key, record.by, record.payload))
    ledger.note(task, "steer", record, lsn, record.payload, steerNo=len(task.steers), by=record.by)
    _tell_words(ledger, task, lsn)


def _tell_words(ledger: Ledger, task: Task, lsn: int) -> None:
    """Send the holder the words it was not sent yet; some may date from when its lease had lapsed."""
    authority = task.authority
    if authority is None or task.holder is None:
        return
    attempt = task.attempts[authority.fence]
    for number in range(attempt.heard, len(task.steers)):
        ledger.post(authority.holder, lsn, "task.steer", task.id, number + 1)
    attempt.heard = len(task.steers)


def _overtake_offer(ledger: Ledger, task: Task, lsn: int) -> None:
    """Take back an open offer, and tell its agent: the holder of the lapsed lease was first."""
    offer = task.offer
    if offer is not None:
        ledger.drop_offer(task)
        ledger.post(offer.agent, lsn, "task.revoke", task.id, offer.fence)


def _artifact_appended(ledger: Ledger, record: ArtifactAppended, lsn: int) -> None:
    task = ledger.tasks[record.task]
    artifact = task.artifacts.get(record.artifact)
    if artifact is None or artifact.fence != record.fence or not record.append:
        artifact = task.artifacts[record.artifact] = Artifact(record.artifact, record.name, record.fence)
    artifact.chunks.append(record.payload)
    artifact.last_no = record.chunk_no
    artifact.complete = record.last
    task.chunks += 1
    task.chunk_bytes += len(record.payload)
    ledger.note(
        task,
        "artifact",
        record,
        lsn,
        record.payload,
        artifactId=record.artifact,
        name=record.name,
        append=record.append,
        lastChunk=record.last,
        chunkNo=record.chunk_no,
        fence=record.fence,
    )


def _asked(ledger: Ledger, record: Asked, lsn: int) -> None:
    task = ledger.tasks[record.task]
    _current(task, record.fence)
    task.asks = [ask for ask in task.asks if ask.ask_no != record.ask_no]  # removes at most one, which was withdrawn
    task.asks.append(Ask(record.ask_no, record.fence, record.payload, record.default, record.deadline_at, record.auth))
    if record.hold == "cold":
        ledger.spend(task)
        ledger.end_attempt(task, record.fence, "asked", record.at)
        ledger.charge(task, record.fence, record.usage)
    ledger.move(task, TaskEvent.ASK, record, lsn, record.payload, askNo=record.ask_no, auth=record.auth)
    ledger.post(ledger.addressee(task), lsn, "task.ask", task.id, record.ask_no)


def _answered(ledger: Ledger, record: Answered, lsn: int) -> None:
    task = ledger.tasks[record.task]
    ask = next(ask for ask in task.asks if ask.ask_no == record.ask_no)
    ask.answer, ask.by, ask.rank, ask.key = record.payload, record.by, record.rank, record.key
    holder = task.holder
    if holder is not None:
        ask.told = True
        ledger.post(holder, lsn, "task.answer", task.id, record.ask_no)
    if task.state is TaskState.PARKED and task.open_ask() is None:
        event = TaskEvent.ANSWER if holder is not None else TaskEvent.ANSWER_LATER
        ledger.move(task, event, record, lsn, record.payload, askNo=record.ask_no, by=record.by)
    else:
        ledger.note(task, "answer", record, lsn, record.payload, askNo=record.ask_no, by=record.by)


def _answers_repeated(ledger: Ledger, record: AnswersRepeated, lsn: int) -> None:
    task = ledger.tasks[record.task]
    holder = _current(task, record.fence).holder
    for ask in task.asks:
        if ask.fence == record.fence and ask.told:
            ledger.post(holder, lsn, "task.answer", task.id, ask.ask_no)


def _reported(ledger: Ledger, record: Reported, lsn: int) -> None:
    task = ledger.tasks[record.task]
    _current(task, record.fence)
    _overtake_offer(ledger, task, lsn)
    ledger.spend(task)
    detail = "" if record.error is None else f"{record.error['code']}: {record.error['detail']}"
    ledger.end_attempt(task, record.fence, record.outcome, record.at, detail)
    ledger.charge(task, record.fence, record.usage)
    task.outcomes[record.fence] = (record.outcome, record.result_hash)
    for name in record.artifacts or ():
        task.artifacts[name].is_named = True
    if record.error is not None:
        task.last_error = record.error
    told: dict[str, Any] = {"outcome": record.outcome, "agent": record.agent, "fence": record.fence}
    if record.error is not None:
        told["error"] = record.error
    if record.unseen_steer and record.review:
        told["unseenSteer"] = True
    if record.stale_basis and record.review:
        told["staleBasis"] = record.stale_basis
    if record.retry_at is not None:
        task.failures += record.outcome == "failed"
        task.declines += record.outcome == "canceled" and record.counted
        task.losses += record.lost
        task.attempts[record.fence].lost |= record.lost
        task.retry_at = record.retry_at
        ledger.move(task, TaskEvent.RELEASE, record, lsn, **told)
        return
    if record.outcome == "completed":
        task.results.append(
            Result(
                task.rev,
                record.fence,
                record.agent,
                record.result_hash,
                record.payload,
                record.at,
                record.review,
                record.unseen_steer,
                record.basis or [],
                record.stale_basis or [],
                patches=record.patches or [],
            )
        )
        ledger.note_patches(task, lsn)
    else:
        task.failures += record.outcome == "failed"
    for ask in task.asks:
        ask.withdrawn = ask.answer is None
    ledger.move(task, TaskEvent.REPORT, record, lsn, **told)
    if record.review:
        ledger.post(ledger.addressee(task), lsn, "task.review", task.id, task.rev)


def _report_kept(ledger: Ledger, record: ReportKept, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if task.minted_for(record.fence) == record.agent:
        ledger.charge(task, record.fence, record.usage)
    task.evidence.append(
        Evidence(record.fence, record.agent, record.verdict, record.outcome, record.result_hash, record.payload, lsn)
    )


def _reworked(ledger: Ledger, record: Reworked, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.feedback.append((record.rev, record.reason_code, record.payload))
    task.rev += 1
    ledger.patches.drop(task.id)
    task.cancel = None  # the report had come first, and the delegator chose to go on
    ledger.move(task, TaskEvent.REWORK, record, lsn, record.payload, by=record.by, rev=task.rev)
    folding.sent_back(ledger, task, record, lsn)


def _patches_compared(ledger: Ledger, record: PatchesCompared, lsn: int) -> None:
    ledger.patches.compared(record.task, record.other, record.number > 0)


def _cancel_requested(ledger: Ledger, record: CancelRequested, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.cancel = record
    if task.state is not TaskState.CANCELING:
        ledger.move(task, TaskEvent.REQUEST_CANCEL, record, lsn, mode=record.mode, reason=record.reason, by=record.by)
    else:
        ledger.note(task, "request_cancel", record, lsn, mode=record.mode, reason=record.reason, by=record.by)
    assert task.authority is not None, "only a leased task is asked to cancel; others end at once"
    ledger.post(task.authority.holder, lsn, "task.revoke", task.id, task.authority.fence)


_SETTLING = {
    "completed": TaskEvent.COMPLETE,
    "failed": TaskEvent.FAIL,
    "canceled": TaskEvent.CANCEL,
    "rejected": TaskEvent.REJECT,
}


def _settled(ledger: Ledger, record: Settled, lsn: int) -> None:
    task = ledger.tasks[record.task]
    told_to_stop, addressee = task.holder, ledger.addressee(task)
    fence = task.authority.fence if task.authority else 0
    _overtake_offer(ledger, task, lsn)
    if told_to_stop is not None:
        ledger.end_attempt(task, fence, record.state, record.at, record.reason)
        ledger.charge(task, fence, record.usage)
    ledger.spend(task)
    result = task.results[-1] if task.results else None
    waited = task.is_reported and result is not None and result.reviewed
    ledger.move(task, _SETTLING[record.state], record, lsn, reason=record.reason, detail=record.detail, by=record.by)
    task.settled = record
    if ledger.open_tasks.pop(task.id, None) is not None:
        ledger.at_work.count(task.agents, -1)
        ledger.count_open(task.delegator, -1)
        ledger.use_context(task.context_id, -1)
    if record.state != "completed":
        ledger.patches.drop(task.id)
    ledger.claims.forget(owner_of(task.id, ""))
    folding.ended(ledger, task, record, lsn)
    if task.group is None and result is not None and task.scope.partition(":")[0] in ("task", "principal"):
        ledger.count_result(result.agent, was_good=record.state == "completed")
    parent = ledger.tasks.get(task.parent) if task.parent is not None else None
    if parent is not None and parent.group is not None:
        ledger.touched[parent.id] = parent
    if task.budget:
        ledger.reconcile(task)
    if task.on_delegator_loss != "continue":
        attached = ledger.attached[task.principal]
        del attached[task.id]
        if not attached:
            del ledger.attached[task.principal]
    ledger.post(addressee, lsn, "task.settled", task.id, task.rev)
    if told_to_stop is not None:
        ledger.post(told_to_stop, lsn, "task.revoke", task.id, fence)
    elif waited and result is not None and result.rev == task.rev and result.agent != addressee:
        # A worker whose result waited for a word is told; one whose report settled the task reads its verdict.
        ledger.post(result.agent, lsn, "task.settled", task.id, task.rev)


APPLY: dict[type[Record], Callable[[Ledger, Any, int], None]] = {
    Delegated: _delegated,
    Adopted: _adopted,
    Offered: _offered,
    Accepted: _accepted,
    Declined: _declined,
    OfferWithdrawn: _offer_withdrawn,
    LeaseExpired: _lease_expired,
    Revived: _revived,
    Evicted: _evicted,
    Yielded: _yielded,
    HandedOff: _handed_off,
    HandoffLapsed: _handoff_lapsed,
    Checkpointed: _checkpointed,
    ArtifactAppended: _artifact_appended,
    Asked: _asked,
    Answered: _answered,
    AnswersRepeated: _answers_repeated,
    Steered: _steered,
    Reported: _reported,
    ReportKept: _report_kept,
    Reworked: _reworked,
    PatchesCompared: _patches_compared,
    CancelRequested: _cancel_requested,
    Settled: _settled,
}
"""Record class to what it does, given the ledger, the record and its position."""
