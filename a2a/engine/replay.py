"""Decisions run again: what the records say was decided is decided anew from the state before them, and compared.

Each record that begins a decision is turned back into the message, or the look at the clock, that it came from; the
real handler decides on the state that the records before it add up to. What rested on facts that are not recorded
(who was connected and with which credit, limits of the settings) is looked at for whether it was allowed. It knows
no file; `a2a replay` does.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ..protocol.messages import (
    ArtifactRef,
    AttemptError,
    ConflictAppeal,
    ConflictPosition,
    ConflictRaise,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Held,
    Message,
    PatchRef,
    RaisedSubject,
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
from ..protocol.states import TaskState
from ..protocol.types import principal_of
from . import context_shelving, plain, snapshot
from .budget import exhausted
from .capacity import serves
from .claimcheck import expected_instead
from .conflicts import shelving
from .conflicts.case import FLAPPING, PATCHED, Conflict, Terms
from .conflicts.comparators import Compare, run
from .conflicts.finding import TRIES
from .conflicts.flapping import opened
from .conflicts.merging import Merge
from .conflicts.merging import run as merged_by
from .conflicts.noting import expected_instead as unnoted
from .conflicts.overlapping import collision, next_overlap
from .conflicts.patches import run as overlapped_by
from .conflicts.procedure import advance, proceed, resolve_by_person
from .conflicts.renoting import noted_again
from .conflicts.showing import subjects_of
from .context_state import Context
from .handlers import HANDLERS
from .handover import hand_back
from .leases import canceled, lapse, withdraw
from .ledger import Ledger
from .live import Connection, Live, World
from .policy import Bounds, Durations, Policy
from .records import (
    Accepted,
    Adopted,
    AgentForgotten,
    AgentRegistered,
    Answered,
    AnswersRepeated,
    Archived,
    ArtifactAppended,
    Asked,
    CancelRequested,
    Checkpointed,
    Claimed,
    ClaimEnded,
    ClaimRecalled,
    ClaimRenewed,
    ClaimRequested,
    Classified,
    ConflictAppealed,
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    ConflictsArchived,
    ContextRecalled,
    ContextsArchived,
    ContextWritten,
    CoordinatorStarted,
    CoordinatorStopped,
    Declined,
    Delegated,
    Evicted,
    GroupDecided,
    HandedOff,
    HandoffLapsed,
    LeaseExpired,
    MailboxAcked,
    Merged,
    Offered,
    OfferWithdrawn,
    PatchesCompared,
    PositionTaken,
    PrincipalBound,
    Recalled,
    Record,
    Refused,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    StageClosed,
    StageOpened,
    StatusSet,
    Steered,
    Yielded,
)
from .refusals import CODES_KEPT, stands
from .retention import Fate, may_leave
from .routing import Queues, wanted_of
from .task_state import Task
from .tasks import due
from .tree import cancel, cancel_children, cancel_orphan, settle_abandoned
from .waits import resources_of

__all__ = ["RULES", "Difference", "Replay", "digest"]

_MANY = 2**62
_NO_LIMITS = Policy(
    ladders={},
    depth_max=_MANY,
    children_max=_MANY,
    evidence_max=_MANY,
    chunks_max=_MANY,
    chunks_max_bytes=_MANY,
    asks_max=_MANY,
    steers_max=_MANY,
    checkpoint_max_bytes=_MANY,
    claims_max=_MANY,
    line_max=_MANY,
    watches_max=_MANY,
    contexts_max=_MANY,
    context_keys_max=_MANY,
    context_max_bytes=_MANY,
    contexts_max_bytes=_MANY,
    context_value_max_bytes=_MANY,
    context_ops_max=_MANY,
    context_patches_max=_MANY,
    context_patch_operations_max=_MANY,
    context_depth_max=_MANY,
    context_depends_max=_MANY,
    conflicts_open_max=_MANY,
    conflicts_raised_max=_MANY,
    conflicts_about_max=_MANY,
    conflict_raises_max=_MANY,
    conflict_subjects_max=_MANY,
    conflict_max_bytes=_MANY,
    conflict_rest_ms=0,
    contest_ms=_MANY,
)
"""The limits of then are not recorded; what was refused for one of them left no record. What was noted beside stands
for itself."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record that is not what was to be expected."""

    lsn: int
    stands: Record
    expected: str


class _NotAllowedError(Exception):
    """The record could not have been written in the state before it."""


class Replay:
    """A fold that runs every decision again.

    Args:
        namespace: what the ids of the ledger's tasks begin with.
    """

    def __init__(self, namespace: str) -> None:
        self.ledger = Ledger(namespace)
        self.decisions = 0
        """Decisions run again so far."""
        self.stops = 0
        """Hashes of memory compared so far."""
        self.broken: list[ClaimEnded | Settled] = []
        """What gave up a wait to break a circle, at the time of the newest record."""
        self.shelf: dict[tuple[type, str], bytes] = {}
        """Digests of what is archived, by its class and id: what is recalled is what was archived."""
        self.world = World(self.ledger, Live(), _NO_LIMITS, Queues())

    def run(self, records: Iterable[Record]) -> Difference | None:
        """Fold the records, and return the first that differs, or None."""
        rest = iter(records)
        ahead: deque[Record] = deque()
        while _fill(ahead, rest, 1):
            record = ahead[0]
            try:
                decisions = RULES[type(record)](self, record)
            except _NotAllowedError as error:
                return Difference(self.ledger.lsn + 1, record, str(error))
            except (KeyError, ValueError, AssertionError) as error:
                return Difference(self.ledger.lsn + 1, record, f"a state it fits, there is none: {error!r}")
            finally:
                self._forget_volatile()
            longest = max((len(decision) for decision in decisions), default=0)
            _fill(ahead, rest, longest)
            fitting = [decision for decision in decisions if decision and _is_same(decision, ahead)]
            if not fitting:
                return self._difference(decisions, ahead)
            for _ in range(max(map(len, fitting))):
                applied = ahead.popleft()
                try:
                    self.ledger.apply(applied)
                except (KeyError, ValueError, AssertionError) as error:
                    return Difference(self.ledger.lsn + 1, applied, f"a record that fits the state: {error!r}")
                if self.broken and self.broken[-1].at != applied.at:
                    self.broken.clear()
                if isinstance(applied, ClaimEnded | Settled) and applied.reason == "deadlock":
                    self.broken.append(applied)
                self.ledger.touched.clear()
                self.ledger.posted.clear()
                self.ledger.freed.clear()
                self.ledger.stirred.clear()
                self.ledger.closed.clear()
            self.decisions += 1
        return None

    def _difference(self, decisions: list[list[Record]], ahead: deque[Record]) -> Difference:
        """Name the first record that no decision explains, taking the decision that explains most."""
        best, expected = -1, "no record"
        for decision in decisions:
            same = next(
                (
                    number
                    for number, (record, stands) in enumerate(zip(decision, ahead, strict=False))
                    if not _is_same([record], [stands])
                ),
                min(len(decision), len(ahead)),
            )
            if same > best and same < len(decision):
                best, expected = same, repr(decision[same])
        position = max(best, 0)
        stands = ahead[position] if position < len(ahead) else ahead[-1]
        return Difference(self.ledger.lsn + 1 + position, stands, expected)

    def _forget_volatile(self) -> None:
        self.world.live = Live()
        self.world.policy = _NO_LIMITS

    # What rules are made of -------------------------------------------------------------------------------------------

    def task(self, record: Any) -> Task:
        """Return the task a record is about."""
        found = self.ledger.tasks.get(record.task)
        if found is None:
            raise _NotAllowedError(f"a record about a task in memory, {record.task} is not")
        return found

    def require_context(self, context_id: str) -> None:
        """Hold that a context in which something goes on has not left memory."""
        has_left = (Context, context_id) in self.shelf and context_id not in self.ledger.contexts
        _allow(not has_left, f"context {context_id} in memory, it has left")

    def say(self, agent: str, message: Message, now: int, *, role: str = "member") -> list[Record]:
        """Return what the handler decides when this agent says this."""
        sender = Connection(0, "", agent=agent, role=role)
        return HANDLERS[type(message)](self.world, sender, message, now).records

    def controls(self, agent: str, task: Task, message: Message, now: int) -> list[Record]:
        """Return what follows the word of somebody who may say it; the operator's role is not recorded."""
        is_own = principal_of(agent) == task.principal and task.evaluator != "human"
        return self.say(agent, message, now) if is_own else self.say(agent, message, now, role="operator")

    def clock(self, task: Task, now: int) -> list[Record]:
        """Return what the clock decides, where the holder has not been heard."""
        self.world.live.lease_until[task.id] = now
        return due(self.world, task, now)

    def cascades(self, task: Task, now: int) -> list[list[Record]]:
        """Return what may follow the end of the task above."""
        found = [cancel_orphan(self.ledger, task, now), settle_abandoned(self.ledger, task, now)]
        parent = self.ledger.tasks.get(task.parent) if task.parent else None
        if parent is not None and parent.is_terminal:
            reason = f"parent task {parent.id} has ended as {parent.state}"
            found.append(cancel_children(self.ledger, parent, "coop", reason, "coordinator", now))
        found.extend(self.advanced(task, now))
        return [*found, *self.advanced(parent, now)] if parent is not None else found

    def advanced(self, task: Task, now: int) -> list[list[Record]]:
        """Return the next step of a group, where it does not wait."""
        step = advance(self.world, task, now)
        return [step] if isinstance(step, list) else []

    def steps(self, record: Any) -> list[list[Record]]:
        """Return the next step of a conflict, where it does not wait."""
        conflict = self.ledger.conflicts[record.conflict]
        if not conflict.candidates:
            return self.advanced(self.task(record), record.at)
        step = proceed(self.world, conflict, record.at)
        return [step] if isinstance(step, list) else []

    def attempt(self, task: Task, fence: int) -> str:
        """Return whose attempt a fence is."""
        agent = task.minted_for(fence)
        if agent is None:
            raise _NotAllowedError(f"a fence of task {task.id}, {fence} is none")
        return agent

    def parent_held(self, parent: str | None) -> Held | None:
        """Return the attempt at the parent that is current."""
        if parent is None:
            return None
        above = self.ledger.tasks[parent]
        return Held(parent, above.authority.fence if above.authority else 0)


def _fill(ahead: deque[Record], rest: Iterator[Record], count: int) -> bool:
    ahead.extend(islice(rest, max(0, count - len(ahead))))
    return len(ahead) >= count


def _is_same(decision: list[Record], stands: Iterable[Record]) -> bool:
    found = list(islice(stands, len(decision)))
    return len(found) == len(decision) and all(
        _known(record, other) == other for record, other in zip(decision, found, strict=True)
    )


def _known(record: Record, stands: Record) -> Record:
    """Return the record with what stands there of facts that were not recorded before it.

    That is the pause before another attempt, whose bounds are settings of then, and what heartbeats had told.
    """
    if isinstance(record, Reported) and isinstance(stands, Reported) and record.outcome == "failed":
        paused = record.retry_at is not None and stands.retry_at is not None and stands.retry_at >= stands.at
        return replace(record, retry_at=stands.retry_at) if paused else record
    if isinstance(record, LeaseExpired) and isinstance(stands, LeaseExpired):
        return replace(record, progress_no=stands.progress_no, note=stands.note, usage=stands.usage)
    if isinstance(record, Settled | Declined | Asked) and isinstance(stands, type(record)):
        return replace(record, usage=stands.usage)
    return record


def _allow(fact: object, expected: str) -> None:
    if not fact:
        raise _NotAllowedError(expected)


# One rule a record, in the order a delegated task meets them: the decisions that may have begun with it ---------------


def _started(replay: Replay, record: CoordinatorStarted) -> list[list[Record]]:
    return [[replace(record, epoch=replay.ledger.epoch + 1)]]


def _stopped(replay: Replay, record: CoordinatorStopped) -> list[list[Record]]:
    found = snapshot.state_hash(replay.ledger)
    if found.partition(":")[0] != record.state_hash.partition(":")[0]:
        return [[record]]  # a version that kept other fields made it
    replay.stops += 1
    return [[replace(record, state_hash=found)]]


def _bound(replay: Replay, record: PrincipalBound) -> list[list[Record]]:
    _allow(record.principal not in replay.ledger.principals, f"{record.principal} is not bound yet")
    return [[record]]


def _registered(replay: Replay, record: AgentRegistered) -> list[list[Record]]:
    known = replay.ledger.agents.get(record.agent)
    _allow(known is not None or record.card.get("skills"), f"{record.agent} has skills, or is known")
    return [[record]]


def _status(replay: Replay, record: StatusSet) -> list[list[Record]]:
    known = replay.ledger.agents.get(record.agent)
    _allow(known is not None and known.status != record.status, f"another status of {record.agent}")
    return [[record]]


def _acked(replay: Replay, record: MailboxAcked) -> list[list[Record]]:
    mailbox = replay.ledger.mailboxes.get(record.agent)
    fits = mailbox is not None and mailbox.entries and mailbox.entries[0].mseq <= record.upto < mailbox.next_mseq
    _allow(fits, f"an entry that waits in the mailbox of {record.agent}")
    return [[record]]


def _forgotten(replay: Replay, record: AgentForgotten) -> list[list[Record]]:
    mailbox = replay.ledger.mailboxes.get(record.agent)
    fits = "#" in record.agent and record.agent not in replay.ledger.agents and mailbox is not None
    _allow(fits and mailbox is not None and not mailbox.entries, f"an empty mailbox of a passing {record.agent}")
    return [[record]]


def _delegated(replay: Replay, record: Delegated) -> list[list[Record]]:
    _allow(record.on_parent_end in ("cancel", "abandon", "detach"), "a way for it to end with its parent, or not to")
    _allow(record.on_delegator_loss in ("continue", "pause", "cancel"), "a way for it to go on without its delegator")
    replay.world.policy = replace(
        _NO_LIMITS,
        durations=Durations.from_plain(record.durations),
        bounds=Bounds.from_plain(record.bounds),
    )
    if record.terms is not None:
        terms = Terms(**record.terms)
        replay.world.policy = replace(
            replay.world.policy,
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
            return replay.advanced(replay.ledger.tasks[record.parent], record.at)
        step = proceed(replay.world, replay.ledger.conflicts[record.scope.removeprefix("conflict:")], record.at)
        return [step] if isinstance(step, list) else []
    replay.require_context(record.context_id)
    limits = TaskLimits(deadline_ms=None if record.deadline_at is None else record.deadline_at - record.at)
    message = TaskDelegate(
        record.key,
        record.spec,  # type: ignore[arg-type]
        record.payload,
        record.context_id,
        replay.parent_held(record.parent),
        limits,
        on_parent_end=record.on_parent_end,  # type: ignore[arg-type]
        budget=record.budget,  # type: ignore[arg-type]
        on_delegator_loss=record.on_delegator_loss,  # type: ignore[arg-type]
        loss_ms=record.loss_ms,
        redrive_of=record.redrive_of,
    )
    return [replay.say(record.delegator, message, record.at)]


def _adopted(replay: Replay, record: Adopted) -> list[list[Record]]:
    task = replay.task(record)
    message = TaskDelegate(task.key, task.spec, task.payload, parent=replay.parent_held(task.parent))  # type: ignore[arg-type]
    if task.parent is not None and task.parent not in replay.ledger.tasks:
        raise _NotAllowedError(f"the parent of {task.id} in memory")
    return [replay.say(record.delegator, message, record.at)]


def _offered(replay: Replay, record: Offered) -> list[list[Record]]:
    task, agent = replay.task(record), replay.ledger.agents.get(record.agent)
    _allow(task.state is TaskState.QUEUED, f"a queued task, {task.id} is {task.state}")
    _allow(task.retry_at <= record.at, f"{task.id} waits until {task.retry_at}")
    skill = agent.skills.get(task.spec["skill"]) if agent is not None else None
    _allow(agent is not None and skill is not None, f"an agent that can {task.spec['skill']}")
    if agent is not None and skill is not None:
        _allow(agent.status == "ready", f"an agent that takes offers, {agent.id} is {agent.status}")
        kept_out = replay.ledger.quarantined.get(agent.id)
        _allow(kept_out is None, f"an agent that takes offers, {agent.id} is in quarantine: {kept_out}")
        _allow(serves(skill, agent, *wanted_of(task)), f"an agent that {task.id} asks for")
    _allow(task.shunned.get(record.agent, 0) <= record.at, f"another agent than {record.agent}, which is passed over")
    _allow_claims(replay, record)
    granted = task.authority is None or not task.authority.is_open
    return [[replace(record, granted=granted)]]


def _accepted(replay: Replay, record: Accepted) -> list[list[Record]]:
    agent = replay.attempt(replay.task(record), record.fence)
    return [replay.say(agent, TaskAccept(record.task, record.fence), record.at)]


def _declined(replay: Replay, record: Declined) -> list[list[Record]]:
    agent = replay.attempt(replay.task(record), record.fence)
    reason: Any = record.reason
    if not record.counted:
        return [[record]]  # its agent left
    message = TaskDecline(record.task, record.fence, reason, record.retry_at - record.at)
    return [replay.say(agent, message, record.at)]


def _withdrawn(replay: Replay, record: OfferWithdrawn) -> list[list[Record]]:
    task = replay.task(record)
    if record.reason == "unanswered":
        return [replay.clock(task, record.at)]
    _allow(task.offer is not None, f"an offer of {task.id}")
    return [withdraw(task, record.at, record.reason)]


def _expired(replay: Replay, record: LeaseExpired) -> list[list[Record]]:
    task = replay.task(record)
    if record.reason == "not heard in time":
        return [replay.clock(task, record.at)]
    _allow(task.holder is not None, f"a lease of {task.id}")
    authority = task.authority
    if authority is not None and authority.evicted == record.reason:
        _allow(authority.grace_at <= record.at, f"a grace that is over, it lasts until {authority.grace_at}")
    return [lapse(replay.world, task, record.at, record.reason)]


_EVICTED_FOR = ("stall", "attempt", "drain", "steer", "budget")


def _evicted(replay: Replay, record: Evicted) -> list[list[Record]]:
    task = replay.task(record)
    authority, durations = task.authority, task.durations
    _allow(task.holder is not None and authority is not None and not authority.evicted, f"a holder of {task.id}")
    _allow(record.reason in _EVICTED_FOR, f"a reason to take {task.id} away, {record.reason} is none")
    times = {"stall": durations.stall_ms, "attempt": durations.attempt_ms}
    wait = times.get(record.reason, 0)
    _allow(wait is not None and task.since + wait <= record.at, f"{task.id} has no such timer, or its time is not up")
    # What an operator that drains gives is not recorded, all others give what the task says.
    grace_at = record.grace_at if record.reason == "drain" else record.at + durations.cancel_ms
    fence = authority.fence if authority is not None else 0
    return [[replace(record, fence=fence, grace_at=grace_at)]]


def _handed_off(replay: Replay, record: HandedOff) -> list[list[Record]]:
    agent = replay.attempt(replay.task(record), record.fence)
    message = TaskHandoff(
        record.task,
        record.fence,
        record.to,
        record.requires,  # type: ignore[arg-type]
        record.payload,
        record.usage,  # type: ignore[arg-type]
    )
    return [replay.say(agent, message, record.at)]


def _handoff_lapsed(replay: Replay, record: HandoffLapsed) -> list[list[Record]]:
    return [hand_back(replay.task(record), record.at)]


def _checkpointed(replay: Replay, record: Checkpointed) -> list[list[Record]]:
    task = replay.task(record)
    agent = replay.attempt(task, record.fence)
    base = next((kept.cp_no for kept in task.checkpoints if kept.fence == record.fence), 0)
    message = TaskCheckpoint(
        record.task, record.fence, record.cp_no, record.payload, base, record.format, record.portable
    )
    return [replay.say(agent, message, record.at)]


def _steered(replay: Replay, record: Steered) -> list[list[Record]]:
    task = replay.task(record)
    return [
        replay.controls(record.by, task, TaskSteer(task.id, record.key, record.payload, mode=mode), record.at)
        for mode in ("enqueue", "interrupt")
    ]


def _answers_repeated(replay: Replay, record: AnswersRepeated) -> list[list[Record]]:
    task = replay.task(record)
    told = any(ask.fence == record.fence and ask.told for ask in task.asks)
    _allow(task.holder is not None and told, f"answers that the holder of {task.id} was sent")
    return [[record]]


def _revived(replay: Replay, record: Revived) -> list[list[Record]]:
    agent = replay.attempt(replay.task(record), record.fence)
    return [replay.say(agent, TaskHeartbeat(record.task, record.fence), record.at)]


def _yielded(replay: Replay, record: Yielded) -> list[list[Record]]:
    agent = replay.attempt(replay.task(record), record.fence)
    if not record.counted and not record.lost and record.reason == "the agent left":
        return [[record]]
    message = TaskYield(record.task, record.fence, record.reason, record.usage)  # type: ignore[arg-type]
    return [replay.say(agent, message, record.at)]


def _artifact(replay: Replay, record: ArtifactAppended) -> list[list[Record]]:
    agent = replay.attempt(replay.task(record), record.fence)
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
    return [replay.say(agent, message, record.at)]


def _asked(replay: Replay, record: Asked) -> list[list[Record]]:
    _allow(record.hold in ("hot", "cold"), "a question that is hot or cold")
    agent = replay.attempt(replay.task(record), record.fence)
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
    return [replay.say(agent, message, record.at)]


def _answered(replay: Replay, record: Answered) -> list[list[Record]]:
    task = replay.task(record)
    if record.by == "timer":
        return [replay.clock(task, record.at)]
    message = TaskAnswer(task.id, record.ask_no, record.payload)
    said = replay.say(record.by, message, record.at, role="operator" if record.rank else "member")
    for answered in said:
        if isinstance(answered, Answered):
            answered.key = record.key  # which A2A message an answer was, only its author says
    return [said]


def _reported(replay: Replay, record: Reported | ReportKept) -> list[list[Record]]:
    task = replay.task(record)
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
    return [replay.say(record.agent, message, record.at)]


def _reworked(replay: Replay, record: Reworked) -> list[list[Record]]:
    task = replay.task(record)
    _allow(task.results, f"a result of {task.id}")
    message = TaskConfirm(
        task.id, record.rev, task.results[-1].result_hash, "reject", True, record.reason_code, record.payload
    )
    return [replay.controls(record.by, task, message, record.at)]


def _classified(replay: Replay, record: Classified) -> list[list[Record]]:
    step = advance(replay.world, replay.task(record), record.at)
    if not isinstance(step, Compare):
        return [step or []]
    _allow(step.member == record.member, f"the class of {step.member}, which came before")
    if record.number < 0:
        return [[record]]  # how long a comparison takes is not recorded, and one that takes too long is none
    number, why = run(step)
    return [[replace(record, number=number, why=why)]]


def _advanced(replay: Replay, record: GroupDecided) -> list[list[Record]]:
    return replay.advanced(replay.task(record), record.at)


def _opened(replay: Replay, record: ConflictOpened) -> list[list[Record]]:
    if record.candidates is None:
        return replay.advanced(replay.task(record), record.at)
    terms = Terms(**record.terms or {})
    replay.world.policy = replace(
        _NO_LIMITS,
        ladder=tuple(terms.ladder),
        ladders={record.kind: tuple(terms.ladder)},
        judge_ms=terms.judge_ms,
        human_ms=terms.human_ms,
        appeal_ms=terms.appeal_ms,
        conflict_cost_micro=terms.cost_micro,
    )
    if record.rule == PATCHED:
        found = collision(replay.world, record.object.removeprefix("task:"), record.at)
        return [[found]] if found is not None else []
    if record.write is not None:
        return [_refused_write(replay, record, record.write)]
    if record.rule == FLAPPING:
        return [_quarantined(replay, record)]
    subjects = [subject for candidate in record.candidates if (subject := _subject(candidate)) is not None]
    for candidate in record.candidates:
        if candidate["form"] == "result" and candidate["ref"] not in replay.ledger.tasks:
            _allow((Task, candidate["ref"]) in replay.shelf, f"results that there are, {candidate['ref']} has none")
            return [[record]]  # the archive had it, and a replay has not
    role = "operator" if any(candidate["is_operator"] for candidate in record.candidates) else "member"
    kind: Any = record.kind
    message = ConflictRaise(kind, subjects, record.object, record.claim, record.payload or b"")
    return [replay.say(record.by, message, record.at, role=role)]


def _refused_write(replay: Replay, record: ConflictOpened, write: dict[str, Any]) -> list[Record]:
    """Return what follows the write that lost. How often it was tried is not recorded."""
    _, wanted = record.candidates or ({}, {})
    key, context_id, rev = wanted["key"], wanted["context_id"], wanted["rev"]
    replay.world.live.tries[context_id, key, record.by] = (rev, TRIES - 1, "")
    op = ContextOp(key, rev, wanted["payload"], decision=write["decision"], guarded=write["guarded"])
    attempt = Held(wanted["task"], wanted["fence"]) if wanted["task"] is not None else None
    message = ContextWrite(context_id, write["name"], [op], [], attempt, write["reason"])
    role = "operator" if wanted["is_operator"] else "member"
    return replay.say(record.by, message, record.at, role=role)


def _quarantined(replay: Replay, record: ConflictOpened) -> list[Record]:
    """Return what follows one takeover too many. How many there were, and who is there, is not recorded."""
    agent = record.object.removeprefix("agent:")
    _allow(principal_of(agent) in replay.ledger.principals, f"an agent that has said hello, {agent} has not")
    one, other = (json.loads(candidate["payload"]) for candidate in record.candidates or ())
    replay.world.policy = replace(replay.world.policy, quarantine_ms=record.ladder[0]["timeoutMs"])
    found = opened(replay.world, agent, one, other, record.at)
    return [found] if found is not None else []


def _subject(candidate: dict[str, Any]) -> RaisedSubject | None:
    """Return the subject that a candidate was named as, or None where it was none."""
    match candidate["form"]:
        case "result":
            return RaisedSubject(task=candidate["ref"])
        case "revision":
            return RaisedSubject(context_id=candidate["context_id"], key=candidate["key"], rev=candidate["rev"])
        case "fence":
            return RaisedSubject(resource=candidate["resource"], fence=candidate["fence"])
        case "value":
            return RaisedSubject(value=candidate["payload"])
    return None


def _noted(replay: Replay, record: ConflictNoted) -> list[list[Record]]:
    expected = unnoted(replay.ledger, record)
    _allow(expected is None, expected or "")
    replay.world.policy = replace(_NO_LIMITS, ladders={record.kind: ({"strategy": "abort"},)})

    def say(agent: str, message: Message, role: str) -> list[Record]:
        return replay.say(agent, message, record.at, role=role)

    found = noted_again(replay.world, record, replay.broken, say)
    if found is None:  # the archive had the task, and a replay has not
        is_there = (Task, record.object.removeprefix("task:")) in replay.shelf
        _allow(is_there, f"a task that there is, {record.object} is none")
        return [[record]]
    return found


def _joined(replay: Replay, record: ConflictJoined) -> list[list[Record]]:
    subjects = [RaisedSubject(**subject) for subject in record.subjects]
    kind: Any = record.kind
    message = ConflictRaise(kind, subjects, record.object, record.claim, record.payload)
    found = replay.say(record.by, message, record.at)
    if not found:
        conflict = replay.ledger.conflicts[record.conflict]
        _allow(conflict.is_open and conflict.climbs, f"a conflict that is open, {conflict.id} is not")
        return [[record]]  # about a result that the archive had
    return [found]


def _resolved(replay: Replay, record: ConflictResolved) -> list[list[Record]]:
    return replay.steps(record)


def _position(replay: Replay, record: PositionTaken) -> list[list[Record]]:
    message = ConflictPosition(record.conflict, record.payload, record.stance)
    return [replay.say(record.party, message, record.at)]


def _patches_compared(replay: Replay, record: PatchesCompared) -> list[list[Record]]:
    job = next_overlap(replay.ledger, record.task)
    _allow(job is not None, f"a result to be held against another, that of {record.task} is not")
    assert job is not None, "as was allowed"
    if record.number < 0:
        return [[replace(record, other=job.other)]]  # how long it takes is not recorded, as in `_classified`
    number, why = overlapped_by(job)
    return [[replace(record, other=job.other, number=number, why=why)]]


def _stage_opened(replay: Replay, record: StageOpened) -> list[list[Record]]:
    conflict = replay.ledger.conflicts[record.conflict]
    found = replay.steps(record)
    if conflict.stage is None:  # a person did not wait for its rung; who it was, the next record says
        found.append(resolve_by_person(replay.world, conflict, None, "", "", record.at)[:1])
    return found


def _merged(replay: Replay, record: Merged) -> list[list[Record]]:
    replay.world.live.grace_until = record.at + 1  # whether it was a start ago that time was up is not recorded
    step = proceed(replay.world, replay.ledger.conflicts[record.conflict], record.at)
    if not isinstance(step, Merge):
        return []
    if record.payload is None:
        return [[replace(record, number=step.number)]]  # how long a merge takes is not recorded, as in `_classified`
    value, why = merged_by(step)
    return [[replace(record, number=step.number, payload=value, why=why)]]


def _stage_closed(replay: Replay, record: StageClosed) -> list[list[Record]]:
    if not record.by:
        return replay.steps(record)
    conflict = replay.ledger.conflicts[record.conflict]
    numbers = [(subject["group"], subject["ref"]) for subject in subjects_of(replay.ledger, conflict)]
    choice = None if record.winner is None else dict(reversed(numbers)).get(record.winner)
    return [replay.say(record.by, ConflictVote(record.conflict, choice, record.why), record.at, role="operator")]


def _appealed(replay: Replay, record: ConflictAppealed) -> list[list[Record]]:
    ground: Any = record.ground
    replay.world.live.grace_until = record.at + 1  # whether it was a start ago that time was up is not recorded
    return [replay.say(record.party, ConflictAppeal(record.conflict, ground, record.payload), record.at)]


def _cancel(replay: Replay, record: CancelRequested) -> list[list[Record]]:
    task = replay.task(record)
    _allow(record.mode in ("coop", "kill"), "a way to cancel that waits")
    mode: Any = record.mode
    message = TaskCancel(task.id, mode, record.reason, record.grace_at - record.at)
    if record.by == "timer" and task.on_delegator_loss == "cancel":
        return [cancel(replay.ledger, task, "coop", record.reason, "timer", record.at)]
    return [replay.controls(record.by, task, message, record.at), *replay.cascades(task, record.at)]


def _settled(replay: Replay, record: Settled) -> list[list[Record]]:
    task, now = replay.task(record), record.at
    _allow(not task.is_terminal, f"{task.id} has not ended, it is {task.state}")
    timeout = "reject" if record.state == "failed" else "accept"
    replay.world.policy = replace(_NO_LIMITS, on_confirm_timeout=timeout)
    found = [replay.clock(task, now), *replay.cascades(task, now)]
    if task.state is TaskState.CANCELING:
        found.append([canceled(task, now)])
    if task.state is TaskState.REPORTED and task.results:
        result = task.results[-1]
        for verdict, rework in (("accept", False), ("reject", False), ("reject", True)):
            word = TaskConfirm(task.id, result.rev, result.result_hash, verdict, rework, record.detail)  # type: ignore[arg-type]
            found.append(replay.controls(record.by, task, word, now))
    if task.state is TaskState.QUEUED and record.reason == "deadlock" and resources_of(task):
        found.append([replace(record, state="failed", by="", result_hash=None)])
    if task.state is TaskState.QUEUED and record.reason == "budget" and exhausted(replay.ledger, task):
        found.append([replace(record, state="failed", by="", result_hash=None)])
    if task.on_delegator_loss == "cancel" and record.by == "timer":
        found.append(cancel(replay.ledger, task, "coop", record.detail, "timer", now))
    if record.state == "canceled":
        for mode in ("coop", "skip"):
            found.append(replay.controls(record.by, task, TaskCancel(task.id, mode, record.detail), now))
    return found


def _context_written(replay: Replay, record: ContextWritten) -> list[list[Record]]:
    ops = []
    for change in record.changes:
        patch, value = change["patch"], change["value"]
        is_deleted = patch is None and value is None
        asked = (change["key"], change["if_rev"], None if patch is not None else value, patch, is_deleted)
        ops.append(ContextOp(*asked, decision=change["decision"], guarded=change["guarded"]))
    replay.require_context(record.context_id)
    attempt = Held(record.task, record.fence or 0) if record.task is not None else None
    depends = [Seen(**seen) for seen in record.depends]
    message = ContextWrite(record.context_id, record.key, ops, depends, attempt, record.reason)
    return [replay.say(record.by, message, record.at)]


def _about_claims(replay: Replay, record: Record) -> list[list[Record]]:
    _allow_claims(replay, record)
    return [[record]]


def _allow_claims(replay: Replay, record: Record) -> None:
    expected = expected_instead(replay.ledger, record)
    _allow(expected is None, expected or "")


def _refused(replay: Replay, record: Refused) -> list[list[Record]]:
    _allow(stands(replay.ledger, record), "a refusal about something in memory")
    _allow(record.code in CODES_KEPT, f"a code that is kept, {record.code} is not")
    _allow(record.times > 0, "a refusal that stands for one, or for more")
    return [[record]]  # on which connection and in which role it was said is not recorded


def _archived(replay: Replay, record: Archived) -> list[list[Record]]:
    for task_id in record.tasks:
        task = replay.ledger.tasks.get(task_id)
        _allow(task is not None and may_leave(replay.ledger, task, record.tasks), f"{task_id} is needed in memory")
        replay.shelf[Task, task_id] = digest(Task, plain.to_bytes(task))
    return [[record]]


def _conflicts_archived(replay: Replay, record: ConflictsArchived) -> list[list[Record]]:
    for name in record.conflicts:
        leaves = shelving.fate_of(replay.ledger, replay.world.policy, name, record.at) is Fate.LEAVES
        _allow(leaves, f"{name} is needed in memory")
        replay.shelf[Conflict, name] = digest(Conflict, plain.to_bytes(replay.ledger.conflicts[name]))
    return [[record]]


def _recalled(replay: Replay, record: Recalled) -> list[list[Record]]:
    stands = replay.shelf.get((Task, record.task))
    _allow(stands == digest(Task, record.body), f"{record.task} as it was archived")
    return [[record]]


def _contexts_archived(replay: Replay, record: ContextsArchived) -> list[list[Record]]:
    for context_id in record.contexts:
        context = replay.ledger.contexts.get(context_id)
        _allow(
            context is not None and context_shelving.may_leave(replay.ledger, context_id),
            f"{context_id} is needed in memory",
        )
        replay.shelf[Context, context_id] = digest(Context, plain.to_bytes(context))
    return [[record]]


def _context_recalled(replay: Replay, record: ContextRecalled) -> list[list[Record]]:
    stands = replay.shelf.get((Context, record.context_id))
    _allow(stands == digest(Context, record.body), f"context {record.context_id} as it was archived")
    return [[record]]


def digest(of: type[Task | Conflict | Context], body: bytes, beside: Sequence[bytes] = ()) -> bytes:
    """Return what stands for an archived task, conflict or context on the shelf of a replay."""
    if body:
        body = plain.to_bytes(plain.from_bytes(of, body, beside))  # whichever version wrote it
    return hashlib.blake2b(body, digest_size=12).digest()


RULES: dict[type[Record], Callable[[Replay, Any], list[list[Record]]]] = {
    CoordinatorStarted: _started,
    CoordinatorStopped: _stopped,
    PrincipalBound: _bound,
    AgentRegistered: _registered,
    StatusSet: _status,
    MailboxAcked: _acked,
    AgentForgotten: _forgotten,
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
    Classified: _classified,
    GroupDecided: _advanced,
    ConflictOpened: _opened,
    ConflictJoined: _joined,
    ConflictNoted: _noted,
    PositionTaken: _position,
    PatchesCompared: _patches_compared,
    StageOpened: _stage_opened,
    Merged: _merged,
    StageClosed: _stage_closed,
    ConflictAppealed: _appealed,
    ConflictResolved: _resolved,
    CancelRequested: _cancel,
    Settled: _settled,
    ContextWritten: _context_written,
    ClaimRequested: _about_claims,
    Claimed: _about_claims,
    ClaimRenewed: _about_claims,
    ClaimRecalled: _about_claims,
    ClaimEnded: _about_claims,
    Refused: _refused,
    Archived: _archived,
    ConflictsArchived: _conflicts_archived,
    Recalled: _recalled,
    ContextsArchived: _contexts_archived,
    ContextRecalled: _context_recalled,
}
"""Each record there is, and how it is run again."""
