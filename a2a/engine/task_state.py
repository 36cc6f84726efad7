"""What a task consists of: its attempts, results, questions and the rest, as the records build them.

Only data, and what can be derived from it; the functions that apply records and change it are in `task_folding`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..protocol.codec import pack
from ..protocol.states import TERMINAL, TaskState
from .conflicts.case import Group
from .policy import Bounds, Durations
from .records import CancelRequested, Settled
from .refusals import Refusal

__all__ = [
    "CHECKPOINTS_KEPT",
    "COUNTED",
    "Artifact",
    "Ask",
    "Attempt",
    "Authority",
    "Checkpoint",
    "Event",
    "Evidence",
    "Offer",
    "Result",
    "Task",
]

COUNTED = ("tokens", "costMicro", "steps")
"""The kinds of usage that budgets limit."""
CHECKPOINTS_KEPT = 4
"""Attempts whose newest checkpoint is kept: the next agent may be unable to use the newest, and take an older one."""


@dataclass(slots=True)
class Authority:
    """The right to change a task now (spec FENCE-2)."""

    fence: int
    holder: str
    is_open: bool
    """False: spent. A spent fence never changes the task again."""
    lapsed: bool = False
    """The lease expired. The holder may still come back until somebody else accepts."""
    evicted: str = ""
    """Why the holder was asked to yield, or empty. From then on only its last word counts (spec LEASE-10)."""
    grace_at: int = 0
    """When an evicted holder counts as lost."""


@dataclass(slots=True)
class Offer:
    """An attempt that is offered and not current yet."""

    fence: int
    agent: str
    at: int


@dataclass(slots=True)
class Attempt:
    """One attempt, from its offer to its end, with what the next attempt is told of it (spec OFFER-8)."""

    agent: str
    """The agent its fence was minted for: in other hands the fence is worth nothing."""
    at: int
    """When it was offered; once accepted, when it was accepted."""
    end: str = ""
    """How it ended; empty while it is under way. A lapsed attempt may come back."""
    lost: bool = False
    """Whether it counted as a loss."""
    ended_at: int = 0
    detail: str = ""
    usage: dict[str, Any] | None = None
    """Counted once, however often it is told."""
    progress_no: int = 0
    note: str = ""
    heard: int = 0
    """How many of the delegator's words its agent was sent."""
    payload: bytes | None = None
    """What it had to say to the next attempt when it handed the task off."""


@dataclass(slots=True)
class Checkpoint:
    """Where an attempt stood."""

    cp_no: int
    fence: int
    agent: str
    format: str
    portable: bool
    payload: bytes


@dataclass(slots=True)
class Steer:
    """A word of the delegator while the work was under way."""

    key: str
    by: str
    payload: bytes


@dataclass(slots=True)
class Result:
    """An admitted report with the outcome `completed`."""

    rev: int
    fence: int
    agent: str
    result_hash: str
    payload: bytes
    at: int
    reviewed: bool = False
    """Whether it went to the delegator for a word; False: no word was needed."""
    unseen_steer: bool = False
    """It was written before the delegator's newest word was seen."""
    basis: list[dict[str, Any]] = field(default_factory=list)
    """What it relies on in the task's context: `key`, `rev`."""
    stale_basis: list[dict[str, Any]] = field(default_factory=list)
    """Decisions in the basis that had changed: `key`, `seen`, `current`."""
    overruled: str = ""
    """The conflict decided against it, or empty."""
    patches: list[dict[str, Any]] = field(default_factory=list)
    """What it patches: `of`, `base`."""

    @property
    def is_doubtful(self) -> bool:
        """Whether somebody has to look at it, whatever was agreed: it missed a word, or is contradicted."""
        return self.unseen_steer or self.is_contradicted

    @property
    def is_contradicted(self) -> bool:
        """Whether silence does not accept it: a decision it relies on changed, or a conflict overruled it."""
        return bool(self.stale_basis) or bool(self.overruled)


@dataclass(slots=True)
class Evidence:
    """A report that came without authority."""

    fence: int
    agent: str
    verdict: str
    outcome: str
    result_hash: str
    payload: bytes
    lsn: int


@dataclass(slots=True)
class Ask:
    """A question of an attempt, and its answer."""

    ask_no: int
    fence: int
    payload: bytes
    default: bytes | None
    deadline_at: int
    auth: bool
    answer: bytes | None = None
    by: str | None = None
    rank: int = 0
    key: str = ""
    """The id of the A2A message that answered it, if one did."""
    told: bool = False
    """Whether the attempt that asked was there to get the answer."""
    offered: bool = False
    """Whether the answer went out with an offer."""
    withdrawn: bool = False
    """Whether the attempt reported without waiting: nobody wants the answer any more."""

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for the answer."""
        return self.answer is None and not self.withdrawn


@dataclass(slots=True)
class Artifact:
    """A provisional artifact of one attempt."""

    artifact: str
    name: str
    fence: int
    chunks: list[bytes] = field(default_factory=list)
    last_no: int = -1
    complete: bool = False
    is_named: bool = False
    """Whether its attempt's report names it as part of the result."""


@dataclass(slots=True)
class Event:
    """One step of a task, as watchers see it."""

    generation: int
    lsn: int
    at: int
    event: str
    state: str
    data: dict[str, Any]
    payload: bytes | None = None


@dataclass(slots=True)
class Task:
    """A task, from its creation to its end."""

    id: str
    lsn: int
    at: int
    scope: str
    key: str
    delegator: str
    """The agent that delegated it, or the last one that came with the same key."""
    principal: str
    context_id: str
    spec: dict[str, Any]
    spec_hash: str
    payload: bytes
    durations: Durations
    bounds: Bounds
    parent: str | None
    on_parent_end: str
    depth: int
    deadline_at: int | None
    above: tuple[str, ...] = ()
    """The principals that delegated the tasks above it, its parent's first."""
    budget: dict[str, int] = field(default_factory=dict)
    on_delegator_loss: str = "continue"
    loss_ms: int = 0
    redrive_of: str | None = None
    state: TaskState = TaskState.QUEUED
    since: int = 0
    """When it entered this state."""
    generation: int = 0
    attempt: int = 0
    attempts: dict[int, Attempt] = field(default_factory=dict)
    """Fence to attempt."""
    rev: int = 0
    authority: Authority | None = None
    offer: Offer | None = None
    retry_at: int = 0
    was_leased: bool = False
    losses: int = 0
    failures: int = 0
    declines: int = 0
    revivals: int = 0
    handoffs: int = 0
    shunned: dict[str, int] = field(default_factory=dict)
    """Agents that lost or declined it, with the time until which they are not asked first."""
    last_agent: str | None = None
    last_error: dict[str, Any] | None = None
    results: list[Result] = field(default_factory=list)
    outcomes: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Fence to (outcome, hash) of each admitted report, to answer its repeats."""
    evidence: list[Evidence] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    """The newest refused requests about it."""
    feedback: list[tuple[int, str, bytes]] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    chunks: int = 0
    """Chunks of all its artifacts, including those begun anew."""
    chunk_bytes: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """The newest checkpoint of each of the last few attempts, oldest first (spec CHECK-4)."""
    steers: list[Steer] = field(default_factory=list)
    handed_to: dict[str, Any] = field(default_factory=dict)
    """What the next agent must be besides what the specification requires, if the task was handed off."""
    spent: dict[str, int] = field(default_factory=dict)
    """What it used, including tasks below it that share its budget or have ended."""
    reserved: dict[str, int] = field(default_factory=dict)
    """What sub-tasks with their own budgets may still use of its budget."""
    children: list[str] = field(default_factory=list)
    group: Group | None = None
    """If several agents do it: their answers."""
    conflicts: list[str] = field(default_factory=list)
    """The conflicts that its results are or were part of."""
    cancel: CancelRequested | None = None
    settled: Settled | None = None
    history: list[Event] = field(default_factory=list)

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.state in TERMINAL

    @property
    def is_reported(self) -> bool:
        """Whether its work is done and it waits for a word, or for the end of a conflict about it."""
        return self.state is TaskState.REPORTED or (self.state is TaskState.DISPUTED and bool(self.results))

    @property
    def evaluator(self) -> str:
        """Who says that a result is good: `auto`, `delegator` or `human`."""
        evaluator: str = self.spec.get("acceptance", {}).get("evaluator", "delegator")
        return evaluator

    @property
    def holder(self) -> str | None:
        """The agent whose lease is current and has not lapsed, or None."""
        authority = self.authority
        return authority.holder if authority and authority.is_open and not authority.lapsed else None

    def minted_for(self, fence: int) -> str | None:
        """Return the agent that a fence was minted for, or None if the fence is not of this task."""
        attempt = self.attempts.get(fence)
        return attempt.agent if attempt is not None else None

    @property
    def agents(self) -> list[str]:
        """The agents that ever had an attempt at it."""
        return [attempt.agent for attempt in self.attempts.values()]

    @property
    def lost_by(self) -> list[str]:
        """The agents that lost it, each once, in the order of their losses."""
        lost = (attempt.agent for attempt in self.attempts.values() if attempt.lost)
        return list(dict.fromkeys(lost))

    @property
    def is_dead_letter(self) -> bool:
        """Whether it was given up after several agents lost it (spec LIMIT-8)."""
        return self.settled is not None and self.settled.reason == "losses" and len(self.lost_by) > 1

    @property
    def said_bytes(self) -> int:
        """Bytes of what its delegator has said to it: words, answers and feedback."""
        answers = sum(len(ask.answer) for ask in self.asks if ask.answer is not None)
        feedback = sum(len(payload) for _, _, payload in self.feedback)
        return answers + feedback + sum(len(steer.payload) for steer in self.steers)

    @property
    def wanted_bytes(self) -> int:
        """About how many bytes its specification and input take; they never change."""
        return len(self.payload) + len(pack(self.spec))

    @property
    def kept_bytes(self) -> int:
        """About how many bytes its payloads take in memory."""
        chunks = sum(len(chunk) for artifact in self.artifacts.values() for chunk in artifact.chunks)
        kept = (self.results, self.evidence, self.checkpoints)
        left = sum(len(item.payload) for items in kept for item in items)
        return len(self.payload) + chunks + left + self.said_bytes

    def open_ask(self) -> Ask | None:
        """The oldest question without an answer."""
        return next((ask for ask in self.asks if ask.is_open), None)
