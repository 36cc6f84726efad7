"""The checkers' own model of the namespace: a small second fold over the records, written from the specification.

It shares no code with the engine's ledger. What the coordinator learns from messages and does not record (how long each
lease runs, who is connected with which credit) it learns from the same messages. Checkers compare events with it; one
checker compares it with the ledger.
"""

from __future__ import annotations

import json
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
    Declined,
    Delegated,
    Evicted,
    GroupDecided,
    HandedOff,
    HandoffLapsed,
    LeaseExpired,
    Merged,
    Offered,
    OfferWithdrawn,
    PrincipalBound,
    PrincipalUnbound,
    Recalled,
    Record,
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

from .holdings import ClaimModel, place

__all__ = [
    "ENDED",
    "AgentModel",
    "ContextModel",
    "GroupModel",
    "Held",
    "Model",
    "Question",
    "Ruling",
    "Seat",
    "StageModel",
    "TaskModel",
]

ENDED = ("completed", "failed", "canceled", "rejected")
COUNTED = ("tokens", "costMicro", "steps")
"""The kinds of usage that budgets bound (BUDGET-1)."""


@dataclass(slots=True)
class Question:
    """A question and its answer."""

    payload: bytes
    lsn: int
    fence: int
    deadline_at: int
    answer: bytes | None = None
    answered_lsn: int = 0
    told: bool = False
    """An agent was at work to get the answer."""
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
    """What the records say about one task."""

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
    budget: dict[str, int] = field(default_factory=dict)
    context_id: str = ""
    state: str = "queued"
    events: list[tuple[int, str]] = field(default_factory=list)
    """(lsn, state after it) of each generation."""
    minted: dict[int, str] = field(default_factory=dict)
    """Fence to the agent it was minted for."""
    dead: set[int] = field(default_factory=set)
    """Fences that were spent, superseded, withdrawn or declined."""
    fence: int = 0
    holder: str = ""
    is_open: bool = False
    lapsed: bool = False
    evicted: str = ""
    """Why its holder was asked to give it back."""
    evicted_until: int = 0
    offer: int = 0
    offered_at: int = 0
    lease_until: int = 0
    newest_current: int = 0
    rev: int = 0
    results: dict[int, Held] = field(default_factory=dict)
    """Revision to its result."""
    overruled: set[int] = field(default_factory=set)
    """Revisions whose results a conflict went against."""
    rejected: set[int] = field(default_factory=set)
    """Fences of results that were sent back."""
    admitted: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    """Fence to (outcome, hash, lsn)."""
    asks: dict[int, Question] = field(default_factory=dict)
    chunks: dict[tuple[int, str], int] = field(default_factory=dict)
    """(fence, artifact) to the newest chunk."""
    streamed: dict[str, int] = field(default_factory=dict)
    """Artifact to the fence of the attempt that streams it."""
    children: list[str] = field(default_factory=list)
    retry_at: int = 0
    shunned: dict[str, int] = field(default_factory=dict)
    cancel: str | None = None
    cancels: dict[str, int] = field(default_factory=dict)
    """Mode to the first record that asked for it."""
    grace_at: int = 0
    settled: Settled | None = None
    settled_lsn: int = 0
    losses: int = 0
    failures: int = 0
    declines: int = 0
    revivals: int = 0
    reworks: int = 0
    handoffs: int = 0
    lost: list[int] = field(default_factory=list)
    """Fences of the attempts that were counted as lost."""
    handed_to: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[int, Checkpointed] = field(default_factory=dict)
    """Fence to its newest checkpoint, of the attempts that left the last four."""
    words: int = 0
    used: dict[int, dict[str, int]] = field(default_factory=dict)
    """Fence to the usage its attempt was counted for."""
    spent: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    kept: list[tuple[str, int, str]] = field(default_factory=list)
    """(agent, fence, hash) of each report kept as evidence."""
    is_archived: bool = False
    resources: dict[str, str] = field(default_factory=dict)
    """Name to mode of the resources it needs."""
    priority: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Its place in the line for its resources."""
        return place(self.at, self.priority, self.lsn)

    @property
    def has_ended(self) -> bool:
        return self.settled is not None

    @property
    def runs(self) -> bool:
        """Whether an agent has a lease that has not lapsed."""
        return self.is_open and not self.lapsed

    def open_question(self) -> bool:
        return any(ask.is_open for ask in self.asks.values())


@dataclass(slots=True)
class GroupModel:
    """A task that several agents do."""

    comparator: str
    ladder: list[dict[str, Any]]
    appeal_ms: int
    k: int | None
    cost_micro: int | None
    electorate: list[str] = field(default_factory=list)
    classes: list[list[str]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    decided: str = ""


@dataclass(slots=True)
class StageModel:
    """A rung that was tried."""

    number: int
    strategy: str
    until: int
    asked: list[str]
    to_lsn: int = 0
    to_at: int = 0
    winner: int | None = None
    is_answered: bool = False
    """For a merge that asks nobody: its job was answered."""
    merged: bytes | None = None


@dataclass(slots=True)
class Ruling:
    """A conflict."""

    id: str
    task: str
    opened_lsn: int
    respond_at: int
    ladder: list[dict[str, Any]]
    parties: set[str]
    frozen_lsn: int = 0
    appeal_lsn: int = 0
    stages: list[StageModel] = field(default_factory=list)
    is_open: bool = True
    kind: str = "result"
    rule: str = "r1"
    object: str = ""
    candidates: list[dict[str, Any]] = field(default_factory=list)
    """The contradicting subjects, if they are not the answers of a group."""
    blocks: list[str] = field(default_factory=list)
    raised: set[str] = field(default_factory=set)
    """What tells apart the raises that it keeps."""
    appeal_ms: int = 0
    opened_at: int = 0
    cost_micro: int | None = None
    closed_at: int = 0
    is_archived: bool = False

    def close(self, at: int) -> None:
        """Note that it is over."""
        self.is_open, self.closed_at = False, at

    @property
    def climbs(self) -> bool:
        """Whether it has its own ladder."""
        return bool(self.candidates) and self.rule != "c3"

    @property
    def contested(self) -> tuple[str, str] | None:
        """(context, key) that cannot be written while it is open, or None."""
        found = [(known["context_id"], known["key"]) for known in self.candidates]
        return found[0] if self.rule in ("c1", "c4") else None

    def classes(self) -> list[list[str]]:
        """Return the references of its own candidates, grouped by equal bytes."""
        found: dict[str, list[str]] = {}
        for known in self.candidates:
            found.setdefault(known["digest"], []).append(known["ref"])
        return list(found.values())


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
    """The newest mailbox entry acknowledged on this connection, or known from its beginning."""
    resting: dict[tuple[str, int], None] = field(default_factory=dict)
    """(task, fence) of the attempts that say they only wait for sub-tasks."""


@dataclass(slots=True)
class ContextModel:
    """What the records say about one context."""

    values: dict[str, list[bytes | None]] = field(default_factory=dict)
    """Key to its values, by their revisions."""
    writes: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    """(place, new revisions of the keys) of each write."""
    named: set[tuple[str, str]] = field(default_factory=set)
    """(principal, key) of the writes."""
    at: int = 0
    """When it was last written."""
    is_archived: bool = False

    def rev(self, key: str) -> int:
        """Return a key's revision."""
        return len(self.values.get(key, ()))


class Model:
    """What the records say about everything."""

    def __init__(self) -> None:
        self._resolved_last: tuple[int, tuple[str, str] | None] = (0, None)
        self.lsn = 0
        self.at = 0
        self.epoch = 0
        self.grace_until = 0
        self.tasks: dict[str, TaskModel] = {}
        self.open: dict[str, TaskModel] = {}
        self.groups: dict[str, GroupModel] = {}
        self.rulings: dict[str, Ruling] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.secrets: dict[str, str] = {}
        """Principal to the digest of its secret."""
        self.agents: dict[str, AgentModel] = {}
        self.seats: dict[str, Seat] = {}
        self.holding: dict[str, dict[str, int]] = {}
        """Agent to its attempts that count against its credit: task to fence."""
        self.contexts: dict[str, ContextModel] = {}
        self.forgotten: dict[str, int] = {}
        """Agent to how often its mailbox was forgotten."""
        self.claims: dict[int, ClaimModel] = {}
        self.claims_granted: dict[int, ClaimModel] = {}
        """Fence to its claim, even after the claim has ended."""
        self.claim_numbers: dict[tuple[str, str], int] = {}
        """(owner, what it claims under) to the newest number."""
        self.fences_seen: dict[tuple[tuple[str, str], ...], int] = {}
        """Names and modes to the greatest fence under which they were current."""
        self._fold: dict[type[Record], Callable[[Any, int], None]] = {
            CoordinatorStarted: self._started,
            PrincipalBound: self._bound,
            PrincipalUnbound: self._unbound,
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
            Evicted: self._evicted,
            Yielded: self._yielded,
            HandedOff: self._handed_off,
            HandoffLapsed: self._handoff_lapsed,
            Checkpointed: self._checkpointed,
            Steered: self._steered,
            ArtifactAppended: self._artifact,
            Asked: self._asked,
            Answered: self._answered,
            Reported: self._reported,
            ReportKept: self._kept,
            Reworked: self._reworked,
            Classified: self._classified,
            GroupDecided: self._group_decided,
            ConflictOpened: self._conflict_opened,
            ConflictJoined: self._conflict_joined,
            ConflictNoted: self._conflict_noted,
            StageOpened: self._stage_opened,
            Merged: self._merged,
            StageClosed: self._stage_closed,
            ConflictAppealed: self._appealed,
            ConflictResolved: self._resolved,
            CancelRequested: self._cancel,
            Settled: self._settled,
            ContextWritten: self._context_written,
            Archived: self._archived,
            ConflictsArchived: self._conflicts_archived,
            ContextsArchived: self._contexts_archived,
            ContextRecalled: self._context_recalled,
            Recalled: self._recalled,
            ClaimRequested: self._claim_requested,
            Claimed: self._claimed,
            ClaimRenewed: self._claim_renewed,
            ClaimRecalled: self._claim_recalled,
            ClaimEnded: self._claim_ended,
        }

    def apply(self, record: Record, lsn: int) -> None:
        """Fold one record."""
        fold = self._fold.get(type(record))
        if fold is not None:
            fold(record, lsn)
        self.lsn = lsn
        self.at = max(self.at, record.at)

    # Helpers ----------------------------------------------------------------------------------------------------------

    def quarantine(self, agent: str) -> str | None:
        """Return the conflict for which an agent gets no offers, or None."""
        about = f"agent:{agent}"
        open_about = (
            one.id for one in self.rulings.values() if one.is_open and (one.rule, one.object) == ("d2", about)
        )
        return next(open_about, None)

    def addressee(self, task: TaskModel) -> str:
        """Return the agent that its notices go to."""
        parent = self.tasks.get(task.parent or "")
        return parent.holder if parent is not None and parent.is_open else task.delegator

    def is_abandoned(self, task: TaskModel) -> bool:
        """Whether nobody is left to confirm its result."""
        parent = self.tasks.get(task.parent or "")
        is_left = parent is not None and parent.has_ended and task.on_parent_end != "detach"
        return is_left and task.evaluator == "delegator"

    def ruling(self, task: str) -> Ruling | None:
        """Return the open conflict about the answers of a group, or None."""
        return next((known for known in self._about(task) if not known.candidates), None)

    def disputing(self, task: str) -> Ruling | None:
        """Return the open conflict that somebody raised about the result of a task, or None."""
        return next((known for known in self.rulings.values() if task in known.blocks and known.is_open), None)

    def contesting(self, context: str, key: str) -> Ruling | None:
        """Return the open conflict about a key, or None."""
        return next(
            (known for known in self.rulings.values() if known.is_open and known.contested == (context, key)), None
        )

    def is_resolving(self, record: ContextWritten, lsn: int) -> bool:
        """Whether a write directly follows the resolution of a conflict about its key."""
        place, contested = self._resolved_last
        return place == lsn - 1 and contested == (record.context_id, record.changes[0]["key"])

    def _about(self, task: str) -> list[Ruling]:
        return [known for known in self.rulings.values() if known.task == task and known.is_open]

    def cost_of(self, stage: StageModel) -> int:
        """Return what the tasks of a rung have used."""
        return sum(self.tasks[asked].spent.get("costMicro", 0) for asked in stage.asked)

    def cost(self, ruling: Ruling) -> int:
        """Return what the tasks of all its rungs have used."""
        return sum(map(self.cost_of, ruling.stages))

    def cost_limit(self, ruling: Ruling) -> int | None:
        """Return the limit for that, or None."""
        return ruling.cost_micro if ruling.candidates else self.groups[ruling.task].cost_micro

    def is_spent(self, ruling: Ruling) -> bool:
        """Whether the ladder has used its limit (RUNG-8)."""
        limit, used = self.cost_limit(ruling), self.cost(ruling)
        return limit is not None and used > 0 and used >= limit

    def is_used_up(self, ruling: Ruling, stage: StageModel) -> bool:
        """Whether a rung that has asked an agent is over because of what that cost (RUNG-8)."""
        limit, used = ruling.ladder[stage.number].get("costMicro"), self.cost_of(stage)
        own = limit is not None and used > 0 and used >= limit
        return bool(stage.asked) and (own or self.is_spent(ruling))

    def is_skipped(self, ruling: Ruling, stage: StageModel) -> bool:
        """Whether a rung was not tried because the ladder had already used its limit (RUNG-8)."""
        waited = stage.asked or stage.until
        return not waited and stage.number < len(ruling.ladder) - 1 and self.is_spent(ruling)

    def has_answer(self, task: str) -> bool:
        """Whether a task has completed, so that its result counts."""
        end = self.tasks[task].settled
        return end is not None and end.state == "completed"

    def payload(self, task: str) -> bytes:
        """Return the result of a task."""
        known = self.tasks[task]
        return known.results[known.rev].payload

    def answer(self, task: str) -> Any:
        """Return the value of a task's result."""
        return json.loads(self.payload(task))[0]["parts"][0]["data"]

    def author(self, task: str) -> str:
        """Return the agent that reported a task's result, or an empty string."""
        known = self.tasks[task]
        return known.minted[known.results[known.rev].fence] if known.rev in known.results else ""

    def needed(self, group: str) -> int:
        """Return how many equal answers decide a group if nothing contradicts them (GROUP-2)."""
        known = self.groups[group]
        first, asked = known.ladder[0], len(known.electorate)
        by_rung = {"majority": asked // 2 + 1, "quorum": first.get("k", asked), "first_wins": 1}
        return known.k or by_rung.get(first["strategy"], asked)

    def tried(self, task: TaskModel) -> set[str]:
        """Return the agents that had another answer of the group, or compared some: they need not be offered this."""
        group = self.groups.get(task.parent or "")
        compares = f"compare:{task.parent}"
        if group is None or (task.id not in group.electorate and task.scope != compares):
            return set()
        others = [other for other in group.electorate if other != task.id]
        if task.scope != compares:
            others += [child for child in self.tasks[task.parent or ""].children if self.tasks[child].scope == compares]
        return {agent for other in others for agent in self.tasks[other].minted.values()}

    def spend(self, task: TaskModel) -> None:
        """End the authority over a task, and take back an open offer."""
        if task.is_open:
            task.is_open = False
            task.dead.add(task.fence)
            self._free(task.holder, task, task.fence)
        self.drop_offer(task)

    def drop_offer(self, task: TaskModel) -> None:
        """Take back an open offer."""
        if task.offer:
            task.dead.add(task.offer)
            self._free(task.minted[task.offer], task, task.offer)
            task.offer = 0

    def _free(self, agent: str, task: TaskModel, fence: int) -> None:
        held = self.holding.get(agent)
        if held is not None and held.get(task.id) == fence:
            del held[task.id]
            if agent in self.seats:
                self.seats[agent].resting.pop((task.id, fence), None)

    def slots_filled(self, agent: str) -> int:
        """Return how many attempts count against an agent's credit; those that only wait do not (FLOW-5)."""
        resting = self.seats[agent].resting if agent in self.seats else {}
        return sum(item not in resting for item in self.holding.get(agent, {}).items())

    def _step(self, task: TaskModel, state: str, record: Record, lsn: int, *, moved: bool = True) -> None:
        if moved:
            task.since = record.at
        task.state = state
        task.events.append((lsn, state))

    def payer(self, task: TaskModel | None, kind: str) -> TaskModel | None:
        """Return the task whose budget bounds usage of a kind at this task or below it."""
        while task is not None and kind not in task.budget:
            task = self.tasks.get(task.parent or "")
        return task

    def _lost(self, task: TaskModel, fence: int) -> None:
        task.losses += 1
        task.lost.append(fence)

    def _charge(self, task: TaskModel, fence: int, usage: dict[str, Any] | None) -> None:
        """Count what an attempt used beyond what was already counted."""
        counted = task.used.setdefault(fence, {})
        for kind in COUNTED:
            more = (usage or {}).get(kind, 0) - counted.get(kind, 0)
            if more > 0:
                counted[kind] = counted.get(kind, 0) + more
                self._count(task, kind, more)

    def _count(self, task: TaskModel | None, kind: str, amount: int) -> None:
        """Count usage here and above, up to a budget that is still reserved there."""
        while task is not None:
            task.spent[kind] = task.spent.get(kind, 0) + amount
            if kind in task.budget and not task.has_ended:
                return
            task = self.tasks.get(task.parent or "")

    # Records ----------------------------------------------------------------------------------------------------------

    def _started(self, record: CoordinatorStarted, lsn: int) -> None:
        self.epoch = record.epoch
        self.seats.clear()
        held = [task for task in self.open.values() if task.is_open]
        self.grace_until = record.at + max((task.durations["lease_ms"] or 0 for task in held), default=0)
        for task in held:
            task.lease_until = record.at + (task.durations["lease_ms"] or 0)

    def _bound(self, record: PrincipalBound, lsn: int) -> None:
        self.secrets[record.principal] = record.secret_digest

    def _unbound(self, record: PrincipalUnbound, lsn: int) -> None:
        del self.secrets[record.principal]

    def _registered(self, record: AgentRegistered, lsn: int) -> None:
        known = self.agents.get(record.agent)
        status = known.status if known is not None and known.instance == record.instance else "ready"
        skills = {skill["id"]: skill for skill in record.card.get("skills", ())}
        self.agents[record.agent] = AgentModel(skills, record.labels, record.instance, status)

    def _forgotten(self, record: AgentForgotten, lsn: int) -> None:
        self.agents.pop(record.agent, None)
        self.forgotten[record.agent] = self.forgotten.get(record.agent, 0) + 1
        for owner, under in list(self.claim_numbers):
            if owner == f"agent:{record.agent}":
                del self.claim_numbers[owner, under]

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
            record.budget or {},
            record.context_id,
        )
        for kind in set(COUNTED) & set(task.budget):
            payer = self.payer(self.tasks.get(record.parent or ""), kind)
            if payer is not None:
                payer.reserved[kind] = payer.reserved.get(kind, 0) + task.budget[kind]
        self.keys[record.scope, record.key] = record.task
        needs = record.spec.get("resources", [])
        task.resources = {need["name"]: need.get("mode", "x") for need in needs}
        task.priority = record.spec.get("priority", 0)
        if record.parent is not None:
            self.tasks[record.parent].children.append(record.task)
            if record.scope == f"group:{record.parent}":
                self.groups[record.parent].electorate.append(record.task)
        if record.terms is not None:
            terms, k = record.terms, record.spec["redundancy"].get("k")
            self.groups[record.task] = GroupModel(
                terms["comparator"], terms["ladder"], terms["appeal_ms"], k, terms.get("cost_micro")
            )
            task.state = "blocked"
        task.events.append((lsn, task.state))

    def _adopted(self, record: Adopted, lsn: int) -> None:
        self.tasks[record.task].delegator = record.delegator

    def _offered(self, record: Offered, lsn: int) -> None:
        task = self.tasks[record.task]
        task.minted[lsn] = record.agent
        task.offered_at = record.at
        self.holding.setdefault(record.agent, {})[task.id] = lsn
        if record.claims:
            claim = ClaimModel(lsn, record.at, record.agent, record.claims, task.id, lsn, priority=task.priority)
            claim.fence = lsn
            self.claims[lsn] = self.claims_granted[lsn] = claim
            if record.granted:
                self._is_current(claim)
        if record.granted:
            task.fence, task.holder, task.is_open, task.lapsed, task.evicted = lsn, record.agent, True, False, ""
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
        if record.fence in self.claims_granted:
            self._is_current(self.claims_granted[record.fence])
        task.offer, task.evicted = 0, ""
        task.lease_until = record.at + (task.durations["lease_ms"] or 0)
        self._step(task, "leased", record, lsn)

    def _declined(self, record: Declined, lsn: int) -> None:
        task = self.tasks[record.task]
        task.declines += record.counted
        task.handed_to = {}
        task.shunned[task.minted[record.fence]] = record.retry_at
        self._charge(task, record.fence, record.usage)
        self._attempt_over(task, record.fence)
        self._step(task, "queued", record, lsn)

    def _withdrawn(self, record: OfferWithdrawn, lsn: int) -> None:
        task = self.tasks[record.task]
        self._lost(task, record.fence)
        task.handed_to = {}
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
        task.lapsed, task.handed_to = True, {}
        if record.counted:
            self._lost(task, record.fence)
        self._charge(task, record.fence, record.usage)
        task.shunned[task.holder] = record.at
        self._free(task.holder, task, task.fence)
        self._step(task, "parked" if task.state == "parked" else "queued", record, lsn)

    def _revived(self, record: Revived, lsn: int) -> None:
        task = self.tasks[record.task]
        task.lapsed, task.handed_to = False, {}
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
        task.handed_to = {}
        self._charge(task, record.fence, record.usage)
        task.declines += record.counted
        if record.lost:
            self._lost(task, record.fence)
        if record.counted or record.lost:
            task.shunned[task.holder] = record.at
        self._step(task, "parked" if task.state == "parked" else "queued", record, lsn)

    def _evicted(self, record: Evicted, lsn: int) -> None:
        task = self.tasks[record.task]
        task.evicted, task.evicted_until = record.reason, record.grace_at
        task.events.append((lsn, task.state))

    def _handed_off(self, record: HandedOff, lsn: int) -> None:
        task = self.tasks[record.task]
        self.spend(task)
        self._charge(task, record.fence, record.usage)
        task.handoffs += 1
        task.shunned[task.holder] = record.at
        task.handed_to = dict(record.requires or {}) | ({} if record.to is None else {"agent": record.to})
        self._step(task, "queued", record, lsn)

    def _handoff_lapsed(self, record: HandoffLapsed, lsn: int) -> None:
        self.tasks[record.task].handed_to = {}

    def _checkpointed(self, record: Checkpointed, lsn: int) -> None:
        kept = self.tasks[record.task].checkpoints
        kept.pop(record.fence, None)
        kept[record.fence] = record
        for fence in list(kept)[:-4]:
            del kept[fence]

    def _steered(self, record: Steered, lsn: int) -> None:
        task = self.tasks[record.task]
        task.words += 1
        task.events.append((lsn, task.state))

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
            task.handed_to = {}
            self._charge(task, record.fence, record.usage)
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
        task.handed_to = {}
        self._charge(task, record.fence, record.usage)
        if record.lost:
            self._lost(task, record.fence)
        task.admitted[record.fence] = (record.outcome, record.result_hash, lsn)
        if record.outcome == "failed":
            task.failures += 1
        if record.retry_at is not None:
            task.declines += record.outcome == "canceled" and record.counted
            task.retry_at = record.retry_at
            self._step(task, "parked" if task.state == "parked" else "queued", record, lsn)
            return
        if record.outcome == "completed":
            task.results[task.rev] = Held(record.fence, record.result_hash, record.payload, lsn)
        for ask in task.asks.values():
            ask.withdrawn = ask.answer is None
        self._step(task, "reported", record, lsn)

    def _kept(self, record: ReportKept, lsn: int) -> None:
        """A report without authority changes nothing, but its attempt's usage is counted."""
        task = self.tasks[record.task]
        if task.minted.get(record.fence) == record.agent:
            self._charge(task, record.fence, record.usage)
        task.kept.append((record.agent, record.fence, record.result_hash))

    def _reworked(self, record: Reworked, lsn: int) -> None:
        task = self.tasks[record.task]
        task.rejected.add(task.results[record.rev].fence)
        task.rev += 1
        task.reworks += 1
        task.cancel = None
        for ruling in self._about(task.id):
            ruling.close(record.at)
        self._step(task, "queued", record, lsn)

    def _classified(self, record: Classified, lsn: int) -> None:
        group = self.groups[record.task]
        group.numbers[record.member] = record.number
        if record.number == len(group.classes):
            group.classes.append([])
        if record.number >= 0:
            group.classes[record.number].append(record.member)
        ruling = self.ruling(record.task)
        if ruling is not None:
            ruling.parties.add(self.author(record.member))

    def _group_decided(self, record: GroupDecided, lsn: int) -> None:
        task, member = self.tasks[record.task], self.tasks[record.member]
        self.groups[record.task].decided = record.member
        result = member.results[member.rev]
        task.results[task.rev] = Held(result.fence, result.digest, result.payload, lsn)
        self._step(task, "reported", record, lsn)

    def _conflict_opened(self, record: ConflictOpened, lsn: int) -> None:
        self.rulings[record.conflict] = Ruling(
            record.conflict,
            record.task or "",
            lsn,
            record.respond_at,
            record.ladder,
            set(record.parties),
            kind=record.kind,
            rule=record.rule,
            object=record.object,
            candidates=record.candidates or [],
            blocks=record.blocks or [],
            raised={record.name} if record.name else set(),
            appeal_ms=(record.terms or {}).get("appeal_ms", 0),
            opened_at=record.at,
            cost_micro=(record.terms or {}).get("cost_micro"),
        )
        disputed = list(record.blocks or ())
        if record.task is not None and not record.candidates:
            disputed.append(record.task)
        for task in disputed:
            self._step(self.tasks[task], "disputed", record, lsn)

    def _conflict_noted(self, record: ConflictNoted, lsn: int) -> None:
        self.rulings[record.conflict] = Ruling(
            record.conflict,
            "",
            lsn,
            record.at,
            [],
            set(record.parties),
            is_open=False,
            closed_at=record.at,
            kind=record.kind,
            rule=record.rule,
            object=record.object,
            candidates=record.candidates,
            raised={record.name} if record.name else set(),
            opened_at=record.at,
        )

    def _conflict_joined(self, record: ConflictJoined, lsn: int) -> None:
        self.rulings[record.conflict].raised.add(record.name)

    def _stage_opened(self, record: StageOpened, lsn: int) -> None:
        ruling = self.rulings[record.conflict]
        ruling.frozen_lsn = ruling.frozen_lsn or lsn
        ruling.stages.append(StageModel(record.number, record.strategy, record.until, record.asked))

    def _merged(self, record: Merged, lsn: int) -> None:
        stage = self.rulings[record.conflict].stages[-1]
        stage.is_answered, stage.merged = True, record.payload

    def _stage_closed(self, record: StageClosed, lsn: int) -> None:
        stage = self.rulings[record.conflict].stages[-1]
        stage.to_lsn, stage.to_at, stage.winner = lsn, record.at, record.winner

    def _appealed(self, record: ConflictAppealed, lsn: int) -> None:
        self.rulings[record.conflict].appeal_lsn = lsn

    def _resolved(self, record: ConflictResolved, lsn: int) -> None:
        ruling = self.rulings[record.conflict]
        ruling.close(record.at)
        self._resolved_last = (lsn, ruling.contested)
        digests = {known["ref"]: known["digest"] for known in ruling.candidates}
        for blocked in ruling.blocks:
            task = self.tasks[blocked]
            if task.has_ended:
                continue
            stands = record.outcome == "select" and digests[blocked] == digests[record.ref or ""]
            if record.outcome != "moot" and not stands:
                task.overruled.add(task.rev)
            self._step(task, "reported", record, lsn)

    def _cancel(self, record: CancelRequested, lsn: int) -> None:
        task = self.tasks[record.task]
        task.cancel, task.grace_at = record.mode, record.grace_at
        task.cancels.setdefault(record.mode, lsn)
        self._step(task, "canceling", record, lsn)

    def _settled(self, record: Settled, lsn: int) -> None:
        task = self.tasks[record.task]
        if task.runs:
            task.handed_to = {}
            self._charge(task, task.fence, record.usage)
        self.spend(task)
        task.settled, task.settled_lsn = record, lsn
        parent = self.tasks.get(task.parent or "")
        for kind in set(COUNTED) & set(task.budget):
            payer = self.payer(parent, kind)
            if payer is not None:
                payer.reserved[kind] -= task.budget[kind]
            self._count(parent, kind, task.spent.get(kind, 0))
        self.open.pop(task.id, None)
        for ruling in self._about(task.id):
            ruling.close(record.at)
        self._step(task, record.state, record, lsn)

    def _context_written(self, record: ContextWritten, lsn: int) -> None:
        context = self.contexts.setdefault(record.context_id, ContextModel())
        context.named.add((record.by.partition("#")[0], record.key))
        context.writes.append((lsn, {change["key"]: change["rev"] for change in record.changes}))
        for change in record.changes:
            context.values.setdefault(change["key"], []).append(change["value"])
        context.at = record.at

    def _archived(self, record: Archived, lsn: int) -> None:
        for task in record.tasks:
            self.tasks[task].is_archived = True

    def _conflicts_archived(self, record: ConflictsArchived, lsn: int) -> None:
        for name in record.conflicts:
            self.rulings[name].is_archived = True

    def _recalled(self, record: Recalled, lsn: int) -> None:
        self.tasks[record.task].is_archived = False

    def _contexts_archived(self, record: ContextsArchived, lsn: int) -> None:
        for context_id in record.contexts:
            self.contexts[context_id].is_archived = True

    def _context_recalled(self, record: ContextRecalled, lsn: int) -> None:
        self.contexts[record.context_id].is_archived = False

    # Claims -----------------------------------------------------------------------------------------------------------

    def _is_current(self, claim: ClaimModel) -> None:
        names = tuple(claim.names.items())
        self.fences_seen[names] = max(self.fences_seen.get(names, 0), claim.fence)

    def _claim_requested(self, record: ClaimRequested, lsn: int) -> None:
        claim = self.claims[lsn] = ClaimModel(
            lsn,
            record.at,
            record.agent,
            record.names,
            record.task,
            record.fence,
            record.wait_until,
            record.priority,
            record.preemptible,
            record.ttl_ms,
        )
        self.claim_numbers[claim.owner, record.under] = record.claim_no

    def _claimed(self, record: Claimed, lsn: int) -> None:
        claim = self.claims[record.claim]
        claim.fence = lsn
        claim.until = None if claim.ttl_ms is None else record.at + claim.ttl_ms
        self.claims_granted[lsn] = claim
        self._is_current(claim)

    def _claim_renewed(self, record: ClaimRenewed, lsn: int) -> None:
        claim = self.claims_granted[record.claim_fence]
        claim.until = record.at + record.ttl_ms

    def _claim_recalled(self, record: ClaimRecalled, lsn: int) -> None:
        claim = self.claims_granted[record.claim_fence]
        claim.recalled, claim.grace_at = record.reason, record.grace_at

    def _claim_ended(self, record: ClaimEnded, lsn: int) -> None:
        del self.claims[record.claim]
