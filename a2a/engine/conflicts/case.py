"""A conflict as the ledger keeps it: what contradicted what, what was tried, and how it ended (spec CONFLICT-9).

Data only. `folding` builds it from records, `procedure` decides what comes next, and `court` hears people and parties.
The subjects are the answers of a group, or the conflict's own candidates.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

from ...protocol.canonical import canonical
from ..refusals import Refusal
from .rungs import Rung

__all__ = [
    "FLAPPING",
    "PATCHED",
    "WORD",
    "Candidate",
    "Conflict",
    "Group",
    "Position",
    "Raise",
    "Stage",
    "Terms",
    "seal",
]

WORD = "c3"
"""The rule of conflicts that the delegator's verdict on a result decides (spec CONFLICT-16)."""
PATCHED = "a1"
"""The rule of conflicts about results that patch the same place of one base (spec PATCH-3)."""
FLAPPING = "d2"
"""The rule of conflicts that put an agent into quarantine (spec CONFLICT-18)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a group or a conflict is decided. Fixed at creation: later changes of settings have no effect."""

    comparator: str
    ladder: list[dict[str, Any]]
    ballot_ms: int
    """How long to wait for further answers and positions once answers contradict each other."""
    judge_ms: int
    """How long a rung that asks others may take if it names no time of its own."""
    human_ms: int
    appeal_ms: int
    """How long an outcome may be appealed before it takes effect."""
    cost_micro: int | None = None
    """What the tasks of all rungs may use together; None means no limit."""

    def to_plain(self) -> dict[str, Any]:
        """Return the terms by name, for a record, without the cost if it has no limit."""
        plain = asdict(self)
        if self.cost_micro is None:
            del plain["cost_micro"]
        return plain


@dataclass(slots=True)
class Group:
    """The answers to a task that several agents work on independently."""

    terms: Terms
    electorate: list[str] = field(default_factory=list)
    """The members' task ids."""
    classes: list[list[str]] = field(default_factory=list)
    """Members whose results are the same, in ledger order."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Member to its class; -1 if nobody could say."""
    decided: str | None = None
    """The member whose result is the group's result."""
    compared: list[str] = field(default_factory=list)
    """The tasks that asked an agent whether two answers are the same, in the order they were made."""


@dataclass(slots=True)
class Candidate:
    """One of the things that contradict each other, as it was when the conflict opened."""

    ref: str
    form: str
    """`result`, `rejection`, `revision`, `proposal`, `fence` or `value`."""
    agent: str
    digest: str
    payload: bytes
    number: int
    """Its class; candidates with the same bytes share a class."""
    lsn: int
    task: str | None = None
    """The task that has this result, or whose attempt wrote it."""
    fence: int | None = None
    context_id: str | None = None
    key: str | None = None
    rev: int | None = None
    resource: str | None = None
    is_operator: bool = False
    """Whether its author had the operator's role."""
    delegators: list[str] | None = None
    """The principals that delegated the task and those above it; None if only tasks in memory can tell."""


@dataclass(slots=True)
class Raise:
    """A statement by an agent that raised a conflict, or raised it again."""

    by: str
    claim: str
    payload: bytes
    lsn: int
    name: str
    """Identifies the principal, the topic and the candidates; a raise with the same name is a repeat."""


@dataclass(slots=True)
class Position:
    """What a party said."""

    stance: str
    payload: bytes
    lsn: int


@dataclass(slots=True)
class Stage:
    """One rung that was tried."""

    number: int
    """The number of the rung in the ladder, from 0."""
    strategy: str
    from_lsn: int
    until: int
    asked: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    to_lsn: int = 0
    """0 while it is open."""
    to_at: int = 0
    winner: int | None = None
    why: str = ""
    by: str = ""
    answered_lsn: int = 0
    """The position of the answer to a merge that asks nobody; 0 until it is answered."""
    merged: bytes | None = None
    """The merged value, if a merge was possible."""


@dataclass(slots=True)
class Conflict:
    """One conflict, from its opening to its end."""

    id: str
    task: str
    """The task whose results contradict each other, or whose result relies on decisions that have moved; else empty."""
    kind: str
    rule: str
    ladder: list[Rung]
    parties: dict[str, str]
    opened_lsn: int
    opened_at: int
    respond_at: int
    level: int = 1
    frozen_lsn: int = 0
    """The position after which no further answer enters; 0 while answers still enter."""
    positions: dict[str, Position] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    appeal: dict[str, Any] | None = None
    outcome: str = ""
    """Empty while it is open."""
    ref: str | None = None
    by: str = ""
    rationale: str = ""
    closed_lsn: int = 0
    closed_at: int = 0
    prev: str = ""
    """The seal of the conflict that closed before this one: closed conflicts form a chain."""
    seal: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    """The whole conflict as it is shown, once it is closed: the tasks it was about leave memory before it does."""
    refusals: list[Refusal] = field(default_factory=list)
    """The newest refused requests about it. Kept apart from the record, which no longer changes."""
    object: str = ""
    """What it is about: `task:…`, `context:…`, `resource:…` or `agent:…`."""
    candidates: list[Candidate] = field(default_factory=list)
    """What contradicts each other, if it is not the answers of a group."""
    terms: Terms | None = None
    """How it is decided, if it is not about a group."""
    blocks: list[str] = field(default_factory=list)
    """Tasks that it disputes."""
    raiser: str = ""
    """The agent that raised it, or whose write was refused."""
    write: dict[str, Any] = field(default_factory=dict)
    """What the candidate of a refused write does not say: its `name`, `digest`, `decision`, `guarded`, `reason`."""
    raises: list[Raise] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether it is still open."""
        return not self.outcome

    @property
    def about(self) -> list[str]:
        """The tasks whose views name it."""
        return list(dict.fromkeys((self.task, *self.blocks) if self.task else self.blocks))

    @property
    def concerns(self) -> list[str]:
        """The tasks it is listed for: those of `about`, and ended tasks whose results are among its subjects."""
        results = [known.task for known in self.candidates if known.task and known.form in ("result", "rejection")]
        return list(dict.fromkeys([*self.about, *results]))

    @property
    def kept_bytes(self) -> int:
        """Roughly how much memory its payloads take."""
        said: list[bytes] = [candidate.payload for candidate in self.candidates]
        said += [raised.payload for raised in self.raises]
        said += [position.payload for position in self.positions.values()]
        said += [stage.merged for stage in self.stages if stage.merged is not None]
        return sum(map(len, said)) + (len(self.appeal["payload"]) if self.appeal is not None else 0)

    @property
    def climbs(self) -> bool:
        """Whether it has its own ladder. A group's conflict goes on with its task; rule `WORD` waits for a word."""
        return bool(self.candidates) and self.rule != WORD

    @property
    def topic(self) -> str:
        """Its kind and object: at most one conflict is open for each topic (spec CONFLICT-11)."""
        return f"{self.kind} {self.object}"

    @property
    def contested(self) -> tuple[str, str] | None:
        """The context and key that nobody may write while it is open, or None."""
        if self.kind != "context" or self.rule not in ("c1", "c4"):
            return None
        return self.candidates[0].context_id or "", self.candidates[0].key or ""

    @property
    def quarantines(self) -> str | None:
        """The agent that gets no offers while it is open, or None."""
        return self.object.removeprefix("agent:") if self.rule == FLAPPING else None

    @property
    def stage(self) -> Stage | None:
        """The rung under way, or None."""
        return self.stages[-1] if self.stages and not self.stages[-1].to_lsn else None

    @property
    def next_rung(self) -> int:
        """The number of the rung that comes next."""
        return self.stages[-1].number + 1 if self.stages else 0


def seal(view: dict[str, Any]) -> str:
    """Return the hash of a closed conflict's record. The record's view includes the seal of the conflict before it."""
    return f"sha256:{hashlib.sha256(canonical(view)).hexdigest()}"
