"""What a task is made of: its attempts, results, questions and the rest, as the records build them.

Only data, and what follows from it; the records' own functions, which change it, are in `task_folding`.
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
"""The kinds of usage that budgets bound."""
CHECKPOINTS_KEPT = 4
"""Attempts whose newest checkpoint is kept: an older one serves where the newest is of no use to who is next."""


@dataclass(slots=True)
class Authority:
    """Who may change a task now (spec FENCE-2)."""

    fence: int
    holder: str
    is_open: bool
    """False: spent. A spent fence never changes the task again."""
    lapsed: bool = False
    """The lease expired. The holder may still come back until somebody else accepts."""
    evicted: str = ""
    """Why the holder was asked to give it back, or empty. From then on only its last word counts (spec LEASE-10)."""
    grace_at: int = 0
    """When an evicted holder is taken for lost."""


@dataclass(slots=True)
class Offer:
    """An attempt that was offered and is not current yet."""

    fence: int
    agent: str
    at: int


@dataclass(slots=True)
class Attempt:
    """One attempt, from its offer to its end; what the next one is told of it (spec OFFER-8)."""

    agent: str
    """Whom its fence was minted for: a number in the wrong hands is nobody's."""
    at: int
    """When it was offered, and from its acceptance on, when that was."""
    end: str = ""
    """How it ended; empty while it is under way. A lapsed one may come back."""
    lost: bool = False
    """It was counted as a loss."""
    ended_at: int = 0
    detail: str = ""
    usage: dict[str, Any] | None = None
    """Counted once, however often it is told."""
    progress_no: int = 0
    note: str = ""
    heard: int = 0
    """Words of the delegator that its agent was sent."""
    payload: bytes | None = None
    """What it had to say to the next one, where it handed the task on."""


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
    """A completed outcome that was admitted."""

    rev: int
    fence: int
    agent: str
    result_hash: str
    payload: bytes
    at: int
    reviewed: bool = False
    """It went to the delegator for a word; else nobody had to say one."""
    unseen_steer: bool = False
    """It was written before the delegator's newest word was seen."""
    basis: list[dict[str, Any]] = field(default_factory=list)
    """What it relies on in the task's context: `key`, `rev`."""
    stale_basis: list[dict[str, Any]] = field(default_factory=list)
    """Decisions among these that had moved: `key`, `seen`, `current`."""
    overruled: str = ""
    """The conflict that was decided against it, or empty."""
    patches: list[dict[str, Any]] = field(default_factory=list)
    """What it patches: `of`, `base`."""

    @property
    def is_doubtful(self) -> bool:
        """Whether somebody has to look at it, whatever was agreed: it could not be told something, or was overruled."""
        return self.unseen_steer or self.is_contradicted

    @property
    def is_contradicted(self) -> bool:
        """Whether silence does not accept it: a decision it rests on has moved, or a conflict went against it."""
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
    """The id of the A2A message that answered it, where one did."""
    told: bool = False
    """Whether the attempt that asked was there to get the answer."""
    offered: bool = False
    """Whether the answer went out with an offer."""
    withdrawn: bool = False
    """The attempt reported without waiting: nobody wants the answer any more."""

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
    """Its attempt's report says that it is part of the result."""


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
    """The agent that delegated it, or the one that came with the same key last."""
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
    budget: dict[str, int] = field(default_factory=dict)
    on_delegator_loss: str = "continue"
    loss_ms: int = 0
    redrive_of: str | None = None
    state: TaskState = TaskState.QUEUED
    since: int = 0
    """When it came into this state."""
    generation: int = 0
    attempt: int = 0
    attempts: dict[int, Attempt] = field(default_factory=dict)
    """By their fences."""
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
    """Agents that lost or declined it, and until when they are not asked first."""
    last_agent: str | None = None
    last_error: dict[str, Any] | None = None
    results: list[Result] = field(default_factory=list)
    outcomes: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Fence to (outcome, hash) of every report that was admitted, to answer its repeats."""
    evidence: list[Evidence] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    """The newest requests about it that were refused."""
    feedback: list[tuple[int, str, bytes]] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    chunks: int = 0
    """Of all its artifacts, those that were begun anew among them."""
    chunk_bytes: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """The newest of each attempt, oldest first; a few (spec CHECK-4)."""
    steers: list[Steer] = field(default_factory=list)
    handed_to: dict[str, Any] = field(default_factory=dict)
    """What the next agent must be beside what the specification asks for, where the task was handed on."""
    spent: dict[str, int] = field(default_factory=dict)
    """What it used, with all below it that shares its budget or has ended."""
    reserved: dict[str, int] = field(default_factory=dict)
    """What sub-tasks with a budget of their own may still use of its budget."""
    children: list[str] = field(default_factory=list)
    group: Group | None = None
    """Where several agents do it: their answers."""
    conflicts: list[str] = field(default_factory=list)
    """What its results contradict each other about, or did."""
    cancel: CancelRequested | None = None
    settled: Settled | None = None
    history: list[Event] = field(default_factory=list)

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.state in TERMINAL

    @property
    def is_reported(self) -> bool:
        """Whether its work is done and waits for a word, or for the end of a conflict about it."""
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
        """Return the agent that a fence of this task was minted for, or None where it is none of this task's."""
        attempt = self.attempts.get(fence)
        return attempt.agent if attempt is not None else None

    @property
    def agents(self) -> list[str]:
        """The agents that ever had an attempt at it."""
        return [attempt.agent for attempt in self.attempts.values()]

    @property
    def lost_by(self) -> list[str]:
        """The agents that lost it, each once, in the order they did."""
        lost = (attempt.agent for attempt in self.attempts.values() if attempt.lost)
        return list(dict.fromkeys(lost))

    @property
    def is_dead_letter(self) -> bool:
        """Whether it was given up after several agents had lost it (spec LIMIT-8)."""
        return self.settled is not None and self.settled.reason == "losses" and len(self.lost_by) > 1

    @property
    def said_bytes(self) -> int:
        """Bytes of what its delegator has said to it: words, answers, and what is to be done again."""
        answers = sum(len(ask.answer) for ask in self.asks if ask.answer is not None)
        feedback = sum(len(payload) for _, _, payload in self.feedback)
        return answers + feedback + sum(len(steer.payload) for steer in self.steers)

    @property
    def wanted_bytes(self) -> int:
        """What its specification and its input take, about: they stay as they are."""
        return len(self.payload) + len(pack(self.spec))

    @property
    def kept_bytes(self) -> int:
        """About what its payloads take in memory."""
        chunks = sum(len(chunk) for artifact in self.artifacts.values() for chunk in artifact.chunks)
        kept = (self.results, self.evidence, self.checkpoints)
        left = sum(len(item.payload) for items in kept for item in items)
        return len(self.payload) + chunks + left + self.said_bytes

    def open_ask(self) -> Ask | None:
        """The oldest question without an answer."""
        return next((ask for ask in self.asks if ask.is_open), None)
