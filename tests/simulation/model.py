"""The checkers' own idea of the namespace: a small second fold over the records, written from the specification.

It shares no code with the engine's ledger. What the coordinator learns from messages and does not record (whose lease
runs until when, who is connected with which credit) it learns from the same messages. Checkers compare what happens
with it; one of them compares it with the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from a2a.engine.records import (
    Accepted,
    Adopted,
    AgentForgotten,
    AgentRegistered,
    Answered,
    Archived,
    ArtifactAppended,
    Asked,
    CancelRequested,
    CoordinatorStarted,
    Declined,
    Delegated,
    LeaseExpired,
    Offered,
    OfferWithdrawn,
    Recalled,
    Record,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    StatusSet,
    Yielded,
)

__all__ = ["ENDED", "AgentModel", "Held", "Model", "Question", "Seat", "TaskModel"]

ENDED = ("completed", "failed", "canceled", "rejected")


@dataclass(slots=True)
class Question:
    """A question and what was answered."""

    payload: bytes
    lsn: int
    fence: int
    deadline_at: int
    answer: bytes | None = None
    answered_lsn: int = 0
    told: bool = False
    """Somebody was at work to get the answer."""
    withdrawn: bool = False
    """The attempt reported without waiting for it."""

    @property
    def is_open(self) -> bool:
        return self.answer is None and not self.withdrawn


@dataclass(slots=True)
class Held:
    """A result that was admitted."""

    fence: int
    digest: str
    payload: bytes
    lsn: int


@dataclass(slots=True)
class TaskModel:
    """What the records said about one task."""

    id: str
    lsn: int
    at: int
    scope: str
    key: str
    delegator: str
    principal: str
    parent: str | None
    depth: int
    deadline_at: int | None
    on_parent_end: str
    skill: str
    requires: dict[str, Any]
    spec_hash: str
    evaluator: str
    durations: dict[str, int | None]
    bounds: dict[str, int]
    since: int
    state: str = "queued"
    events: list[tuple[int, str]] = field(default_factory=list)
    """(lsn, state after it) of each generation."""
    minted: dict[int, str] = field(default_factory=dict)
    """Fence to whom it was given."""
    dead: set[int] = field(default_factory=set)
    """Fences that were spent, superseded, withdrawn or declined."""
    fence: int = 0
    holder: str = ""
    is_open: bool = False
    lapsed: bool = False
    offer: int = 0
    offered_at: int = 0
    lease_until: int = 0
    newest_current: int = 0
    rev: int = 0
    results: dict[int, Held] = field(default_factory=dict)
    """Revision to its result."""
    rejected: set[int] = field(default_factory=set)
    """Fences of results that were sent back."""
    admitted: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    """Fence to (outcome, hash, lsn)."""
    asks: dict[int, Question] = field(default_factory=dict)
    chunks: dict[tuple[int, str], int] = field(default_factory=dict)
    """(fence, artifact) to the newest chunk."""
    streamed: dict[str, int] = field(default_factory=dict)
    """Artifact to the fence of who streams it."""
    children: list[str] = field(default_factory=list)
    retry_at: int = 0
    shunned: dict[str, int] = field(default_factory=dict)
    cancel: str | None = None
    cancel_lsn: int = 0
    grace_at: int = 0
    settled: Settled | None = None
    settled_lsn: int = 0
    losses: int = 0
    failures: int = 0
    declines: int = 0
    revivals: int = 0
    reworks: int = 0
    kept: list[tuple[int, str]] = field(default_factory=list)
    """(fence, hash) of each report kept as evidence."""
    is_archived: bool = False

    @property
    def has_ended(self) -> bool:
        return self.settled is not None

    @property
    def runs(self) -> bool:
        """Whether somebody has a lease that has not lapsed."""
        return self.is_open and not self.lapsed

    def open_question(self) -> bool:
        return any(ask.is_open for ask in self.asks.values())


@dataclass(slots=True)
class AgentModel:
    """What is on file of an agent."""

    skills: dict[str, Any]
    labels: dict[str, str]
    instance: str
    status: str = "ready"


@dataclass(slots=True)
class Seat:
    """An agent that is connected, as the coordinator knows it."""

    connection: int
    credit: int
    frames: int
    acked: int
    """The newest mailbox entry acknowledged on this connection, or known to be there from its beginning."""


class Model:
    """What the records said about everything."""

    def __init__(self) -> None:
        self.lsn = 0
        self.at = 0
        self.epoch = 0
        self.grace_until = 0
        self.tasks: dict[str, TaskModel] = {}
        self.open: dict[str, TaskModel] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.agents: dict[str, AgentModel] = {}
        self.seats: dict[str, Seat] = {}
        self.holding: dict[str, dict[str, int]] = {}
        """Agent to its attempts that count against its credit: task to fence."""
        self.forgotten: dict[str, int] = {}
        """Agent to how often its mailbox was forgotten."""
        self._fold: dict[type[Record], Callable[[Any, int], None]] = {
            CoordinatorStarted: self._started,
            AgentRegistered: self._registered,
            AgentForgotten: self._forgotten,
            StatusSet: self._status,
            Delegated: self._delegated,
            Adopted: self._adopted,
            Offered: self._offered,
            Accepted: self._accepted,
            Declined: self._declined,
            OfferWithdrawn: self._withdrawn,
            LeaseExpired: self._expired,
            Revived: self._revived,
            Yielded: self._yielded,
            ArtifactAppended: self._artifact,
            Asked: self._asked,
            Answered: self._answered,
            Reported: self._reported,
            ReportKept: self._kept,
            Reworked: self._reworked,
            CancelRequested: self._cancel,
            Settled: self._settled,
            Archived: self._archived,
            Recalled: self._recalled,
        }

    def apply(self, record: Record, lsn: int) -> None:
        """Fold one record."""
        fold = self._fold.get(type(record))
        if fold is not None:
            fold(record, lsn)
        self.lsn = lsn
        self.at = max(self.at, record.at)

    # Helpers ----------------------------------------------------------------------------------------------------------

    def spend(self, task: TaskModel) -> None:
        """End the authority over a task, and take back the offer that is out."""
        if task.is_open:
            task.is_open = False
            task.dead.add(task.fence)
            self._free(task.holder, task, task.fence)
        self.drop_offer(task)

    def drop_offer(self, task: TaskModel) -> None:
        """Take back the offer that is out."""
        if task.offer:
            task.dead.add(task.offer)
            self._free(task.minted[task.offer], task, task.offer)
            task.offer = 0

    def _free(self, agent: str, task: TaskModel, fence: int) -> None:
        held = self.holding.get(agent)
        if held is not None and held.get(task.id) == fence:
            del held[task.id]

    def _step(self, task: TaskModel, state: str, record: Record, lsn: int, *, moved: bool = True) -> None:
        if moved:
            task.since = record.at
        task.state = state
        task.events.append((lsn, state))

    # Records ----------------------------------------------------------------------------------------------------------

    def _started(self, record: CoordinatorStarted, lsn: int) -> None:
        self.epoch = record.epoch
        self.seats.clear()
        held = [task for task in self.open.values() if task.is_open]
        self.grace_until = record.at + max((task.durations["lease_ms"] or 0 for task in held), default=0)
        for task in held:
            task.lease_until = record.at + (task.durations["lease_ms"] or 0)

    def _registered(self, record: AgentRegistered, lsn: int) -> None:
        known = self.agents.get(record.agent)
        status = known.status if known is not None and known.instance == record.instance else "ready"
        skills = {skill["id"]: skill for skill in record.card.get("skills", ())}
        self.agents[record.agent] = AgentModel(skills, record.labels, record.instance, status)

    def _forgotten(self, record: AgentForgotten, lsn: int) -> None:
        self.forgotten[record.agent] = self.forgotten.get(record.agent, 0) + 1

    def _status(self, record: StatusSet, lsn: int) -> None:
        self.agents[record.agent].status = record.status

    def _delegated(self, record: Delegated, lsn: int) -> None:
        task = self.tasks[record.task] = self.open[record.task] = TaskModel(
            record.task,
            lsn,
            record.at,
            record.scope,
            record.key,
            record.delegator,
            record.delegator.partition("#")[0],
            record.parent,
            record.depth,
            record.deadline_at,
            record.on_parent_end,
            record.spec["skill"],
            record.spec.get("requires") or {},
            record.spec_hash,
            record.spec.get("acceptance", {}).get("evaluator", "delegator"),
            record.durations,
            record.bounds,
            record.at,
        )
        self.keys[record.scope, record.key] = record.task
        if record.parent is not None:
            self.tasks[record.parent].children.append(record.task)
        task.events.append((lsn, "queued"))

    def _adopted(self, record: Adopted, lsn: int) -> None:
        self.tasks[record.task].delegator = record.delegator

    def _offered(self, record: Offered, lsn: int) -> None:
        task = self.tasks[record.task]
        task.minted[lsn] = record.agent
        task.offered_at = record.at
        self.holding.setdefault(record.agent, {})[task.id] = lsn
        if record.granted:
            task.fence, task.holder, task.is_open, task.lapsed = lsn, record.agent, True, False
            task.newest_current = lsn
            task.lease_until = record.at + (task.durations["offer_ms"] or 0)
            self._step(task, "leased", record, lsn)
        else:
            task.offer = lsn
            self._step(task, "offered", record, lsn)

    def _accepted(self, record: Accepted, lsn: int) -> None:
        task = self.tasks[record.task]
        if task.is_open:
            task.dead.add(task.fence)
        task.fence, task.holder, task.is_open, task.lapsed = record.fence, task.minted[record.fence], True, False
        task.newest_current = record.fence
        task.offer = 0
        task.lease_until = record.at + (task.durations["lease_ms"] or 0)
        self._step(task, "leased", record, lsn)

    def _declined(self, record: Declined, lsn: int) -> None:
        task = self.tasks[record.task]
        task.declines += 1
        task.shunned[task.minted[record.fence]] = record.retry_at
        self._attempt_over(task, record.fence)
        self._step(task, "queued", record, lsn)

    def _withdrawn(self, record: OfferWithdrawn, lsn: int) -> None:
        task = self.tasks[record.task]
        task.losses += 1
        task.shunned[task.minted[record.fence]] = record.at
        self._attempt_over(task, record.fence)
        self._step(task, "queued", record, lsn)

    def _attempt_over(self, task: TaskModel, fence: int) -> None:
        if task.offer == fence:
            self.drop_offer(task)
        else:
            self.spend(task)

    def _expired(self, record: LeaseExpired, lsn: int) -> None:
        task = self.tasks[record.task]
        task.lapsed = True
        task.losses += 1
        task.shunned[task.holder] = record.at
        self._free(task.holder, task, task.fence)
        self._step(task, "parked" if task.state == "parked" else "queued", record, lsn)

    def _revived(self, record: Revived, lsn: int) -> None:
        task = self.tasks[record.task]
        task.lapsed = False
        task.revivals += 1
        self.drop_offer(task)
        self.holding.setdefault(task.holder, {})[task.id] = task.fence
        task.lease_until = record.at + (task.durations["lease_ms"] or 0)
        for ask in task.asks.values():
            ask.told = ask.told or (ask.fence == record.fence and ask.answer is not None)
        if task.state != "parked":
            self._step(task, "leased", record, lsn)

    def _yielded(self, record: Yielded, lsn: int) -> None:
        task = self.tasks[record.task]
        self.spend(task)
        if record.counted:
            task.declines += 1
            task.shunned[task.holder] = record.at
        self._step(task, "parked" if task.state == "parked" else "queued", record, lsn)

    def _artifact(self, record: ArtifactAppended, lsn: int) -> None:
        task = self.tasks[record.task]
        task.chunks[record.fence, record.artifact] = record.chunk_no
        task.streamed[record.artifact] = record.fence
        task.events.append((lsn, task.state))

    def _asked(self, record: Asked, lsn: int) -> None:
        task = self.tasks[record.task]
        task.asks[record.ask_no] = Question(record.payload, lsn, record.fence, record.deadline_at)
        if record.hold == "cold":
            self.spend(task)
        self._step(task, "parked", record, lsn)

    def _answered(self, record: Answered, lsn: int) -> None:
        task = self.tasks[record.task]
        ask = task.asks[record.ask_no]
        ask.answer, ask.answered_lsn, ask.told = record.payload, lsn, task.runs
        moves = task.state == "parked" and not task.open_question()
        state = ("leased" if task.runs else "queued") if moves else task.state
        self._step(task, state, record, lsn, moved=moves)

    def _reported(self, record: Reported, lsn: int) -> None:
        task = self.tasks[record.task]
        self.spend(task)
        task.admitted[record.fence] = (record.outcome, record.result_hash, lsn)
        if record.outcome == "failed":
            task.failures += 1
        if record.retry_at is not None:
            task.declines += record.outcome == "canceled"
            task.retry_at = record.retry_at
            self._step(task, "parked" if task.state == "parked" else "queued", record, lsn)
            return
        if record.outcome == "completed":
            task.results[task.rev] = Held(record.fence, record.result_hash, record.payload, lsn)
        for ask in task.asks.values():
            ask.withdrawn = ask.answer is None
        self._step(task, "reported", record, lsn)

    def _kept(self, record: ReportKept, lsn: int) -> None:
        """A report without authority changes nothing else."""
        self.tasks[record.task].kept.append((record.fence, record.result_hash))

    def _reworked(self, record: Reworked, lsn: int) -> None:
        task = self.tasks[record.task]
        task.rejected.add(task.results[record.rev].fence)
        task.rev += 1
        task.reworks += 1
        task.cancel = None
        self._step(task, "queued", record, lsn)

    def _cancel(self, record: CancelRequested, lsn: int) -> None:
        task = self.tasks[record.task]
        task.cancel, task.cancel_lsn, task.grace_at = record.mode, lsn, record.grace_at
        self._step(task, "canceling", record, lsn)

    def _settled(self, record: Settled, lsn: int) -> None:
        task = self.tasks[record.task]
        self.spend(task)
        task.settled, task.settled_lsn = record, lsn
        self.open.pop(task.id, None)
        self._step(task, record.state, record, lsn)

    def _archived(self, record: Archived, lsn: int) -> None:
        for task in record.tasks:
            self.tasks[task].is_archived = True

    def _recalled(self, record: Recalled, lsn: int) -> None:
        self.tasks[record.task].is_archived = False
