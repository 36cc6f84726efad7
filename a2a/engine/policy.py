"""Settings of a namespace: durations, limits, who may enter. Frozen; a coordinator is made with one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

from ..protocol.codec import FrameLimits
from ..protocol.messages import TaskLimits, Timers

__all__ = ["LADDERS", "Admission", "Bounds", "Durations", "Policy", "digest"]


def digest(secret: str) -> str:
    """Return the form in which secrets are kept and compared: SHA-256 of a random string needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Durations:
    """How long each state of a task may last, in milliseconds (spec TIME-1)."""

    heartbeat_ms: int = 10_000
    lease_ms: int = 30_000
    offer_ms: int = 5_000
    queue_ms: int | None = None
    """How long a task waits for a capable agent before it fails; None waits for ever."""
    confirm_ms: int = 600_000
    ask_ms: int = 86_400_000
    cancel_ms: int = 10_000
    stall_ms: int | None = None
    """How long an attempt may stand still, for all that it beats; None: as long as it likes."""
    attempt_ms: int | None = None
    """How long one attempt may be at work; None: as long as it likes."""

    def with_timers(self, timers: Timers) -> Durations:
        """Return these durations with those a task names in their place."""
        if timers == _NO_TIMERS:  # as nearly always
            return self
        named = {item.name: value for item in fields(timers) if (value := getattr(timers, item.name)) is not None}
        merged = replace(self, **named)
        # A lease shorter than three heartbeats would lapse under a healthy agent.
        return replace(merged, heartbeat_ms=min(merged.heartbeat_ms, max(20, merged.lease_ms // 3)))

    def to_plain(self) -> dict[str, int | None]:
        """Return the durations by name, for a record. Nearly all tasks share one such dict: do not change it."""
        return _plain(self)

    @staticmethod
    def from_plain(plain: dict[str, int | None]) -> Durations:
        """Return the durations a record holds."""
        return _durations(tuple(plain.items()))


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often a task may go wrong before it has failed. Each way is counted apart (spec LIMIT-4)."""

    attempts: int = 3
    losses: int = 3
    declines: int = 10
    reworks: int = 2
    revivals: int = 3
    handoffs: int = 10

    def with_limits(self, limits: TaskLimits) -> Bounds:
        """Return these bounds with those a task names in their place."""
        if limits == _NO_LIMITS:  # as nearly always
            return self
        named = {
            name: value
            for name in ("attempts", "losses", "declines", "reworks")
            if (value := getattr(limits, name)) is not None
        }
        return replace(self, **named) if named else self

    def to_plain(self) -> dict[str, int]:
        """Return the bounds by name, for a record. Nearly all tasks share one such dict: do not change it."""
        return _plain(self)

    @staticmethod
    def from_plain(plain: dict[str, int]) -> Bounds:
        """Return the bounds a record holds."""
        return _bounds(tuple(plain.items()))


_NO_TIMERS, _NO_LIMITS = Timers(), TaskLimits()


@lru_cache(maxsize=1024)
def _plain(settings: Durations | Bounds) -> dict[str, Any]:
    return asdict(settings)


@lru_cache(maxsize=1024)
def _durations(items: tuple[tuple[str, Any], ...]) -> Durations:
    return Durations(**dict(items))


@lru_cache(maxsize=1024)
def _bounds(items: tuple[tuple[str, Any], ...]) -> Bounds:
    return Bounds(**dict(items))


@dataclass(frozen=True, slots=True)
class Admission:
    """Who gets in. Tokens are kept as digests only."""

    token: str | None = None
    """Digest of the token that admits to the namespace; None admits everybody and is for tests in one process."""
    operator_token: str | None = None
    """Digest of the token that carries the operator's role; None gives it to nobody."""

    def admits(self, token: str) -> bool:
        """Tell whether `token` opens the door."""
        return self.token is None or hmac.compare_digest(self.token, digest(token))

    def is_operator(self, token: str | None) -> bool:
        """Tell whether `token` carries the operator's role."""
        return (
            token is not None
            and self.operator_token is not None
            and hmac.compare_digest(self.operator_token, digest(token))
        )


_A_MINUTE = {"strategy": "human", "timeoutMs": 60_000}
"""Meanwhile nobody writes what the conflict is about, so nobody is waited for as long as elsewhere."""
LADDERS: dict[str, tuple[dict[str, Any], ...]] = {
    "context": ({"strategy": "merge"}, {"strategy": "authority"}, _A_MINUTE, {"strategy": "abort"}),
    "resource": ({"strategy": "authority"}, {"strategy": "human"}, {"strategy": "abort"}),
    "artifact": ({"strategy": "merge"}, {"strategy": "authority"}, {"strategy": "human"}, {"strategy": "abort"}),
    "instruction": ({"strategy": "authority"}, {"strategy": "first_wins"}),
    "identity": ({"strategy": "human"}, {"strategy": "abort"}),
}
"""Kind of conflict to how it is decided, in a namespace that sets nothing else (spec CONFLICT-13)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a coordinator is told once."""

    namespace: str = "main"
    durations: Durations = field(default_factory=Durations)
    skills: Mapping[str, Durations] = field(default_factory=dict)
    """Durations of the tasks for one skill, where they differ from the namespace's."""
    bounds: Bounds = field(default_factory=Bounds)
    admission: Admission = field(default_factory=Admission)
    frame_limits: FrameLimits = field(default_factory=FrameLimits)
    comparator: str = "json-c14n"
    """By which the answers of a group are the same, where its task names none."""
    ladder: tuple[dict[str, Any], ...] = ({"strategy": "majority"}, {"strategy": "human"}, {"strategy": "abort"})
    """By which answers that contradict each other are decided, where their task names none."""
    ladders: Mapping[str, tuple[dict[str, Any], ...]] = field(default_factory=lambda: LADDERS)
    """Kind to how conflicts of it are decided. Without one for `context` writes that lose are refused, and no more."""
    conflicts_open_max: int = 1_000
    """Conflicts that are open, apart from those of groups."""
    conflicts_raised_max: int = 16
    """Open ones that agents of one principal have raised."""
    conflicts_about_max: int = 8
    """Conflicts raised about one thing, over or not."""
    conflict_raises_max: int = 16
    """Raises that are kept with one conflict; further ones are answered and not kept."""
    conflict_subjects_max: int = 16
    conflict_max_bytes: int = 1024 * 1024
    """What contradicts each other in one conflict, and what was said to it when it was raised."""
    conflict_rest_ms: int = 60_000
    """How long after a conflict about a key a lost write to it opens no other."""
    takeovers_max: int = 3
    """Takeovers, within `takeovers_ms`, of an agent from a process that is still there: the last of them is refused,
    and the agent is in quarantine (spec CONFLICT-18)."""
    takeovers_ms: int = 60_000
    answer_ms: int = 2_000
    """How long a process has to answer that it is still there, before another takes its place once more."""
    quarantine_ms: int = 300_000
    contest_ms: int = 60_000
    """How long a worker may contest that its result was rejected."""
    ballot_ms: int = 60_000
    """How long further answers and positions are waited for, once answers contradict each other."""
    judge_ms: int = 300_000
    human_ms: int = 86_400_000
    conflict_cost_micro: int | None = None
    """What the tasks of all rungs of one conflict may use together, where its task says nothing; None: any amount."""
    appeal_ms: int = 0
    """How long an outcome may be appealed before it takes effect."""
    appeal_irreversible_ms: int = 600_000
    """The same, where the task's effect is irreversible."""
    on_confirm_timeout: str = "accept"
    """`accept`, `reject`, or `hold`: what an unanswered review becomes."""
    recovery_grace_ms: int | None = None
    """How long no timer of a task fires after a start; None: the longest lease that somebody held (spec TIME-4)."""
    backoff_ms: int = 1_000
    """First pause after a retryable failure; doubles each time, with full jitter."""
    backoff_max_ms: int = 60_000
    depth_max: int = 8
    """Tasks from root to leaf. Deeper trees have been runaway delegation each time we looked."""
    children_max: int = 10_000
    evidence_max: int = 16
    """Late and stale reports kept for one task; further ones are answered and not kept."""
    evidence_foreign_max: int = 4
    """Of these under fences of others: who never had the task keeps out nothing of those who had."""
    refusals_per_minute: int = 16
    """Refusals of one agent that are recorded one by one; further ones are counted (spec ERR-6)."""
    refusals_alike_max: int = 2
    """Of these with the same kind, object and code: a second one says that the first was no accident."""
    tasks_max: int = 500_000
    """Tasks in memory; a small one takes three kilobytes. Sub-tasks are taken up to twice as many: what is there could
    not end without them."""
    tasks_max_bytes: int = 1024 * 1024 * 1024
    """What their specifications and inputs take, about; likewise."""
    chunks_max: int = 10_000
    """Provisional artifact chunks of one task."""
    chunks_max_bytes: int = 64 * 1024 * 1024
    """Bytes in them: a task is in memory whole until it has ended, and in one piece in the archive."""
    asks_max: int = 100
    steers_max: int = 100
    """Words of the delegator to one task."""
    said_max_bytes: int = 16 * 1024 * 1024
    """Bytes of what its delegator says to one task: all of it is in each offer, which has to fit an outbox."""
    checkpoint_max_bytes: int = 256 * 1024
    contexts_max: int = 100_000
    """Contexts in memory that were written to."""
    context_keys_max: int = 10_000
    """Keys of one context, those deleted included: their revisions go on."""
    context_max_bytes: int = 16 * 1024 * 1024
    """All current values of a context. Up to 16 times as much is kept of earlier ones."""
    contexts_max_bytes: int = 1024 * 1024 * 1024
    """About what these take, with what is kept of their past."""
    context_value_max_bytes: int = 64 * 1024
    """One value, and one patch."""
    context_ops_max: int = 256
    """Operations in one write."""
    context_patches_max: int = 16
    """Patches in one write: each is worked out while everybody waits."""
    context_patched_max_bytes: int = 256 * 1024
    """Values that one write patches, together: each is read and written anew meanwhile."""
    context_patch_operations_max: int = 256
    """Operations in one patch."""
    context_depth_max: int = 64
    """Nesting of what is patched."""
    context_depends_max: int = 1_024
    """Keys that one write depends on."""
    context_missed_max: int = 65_536
    """Values that a watch is told which were written before it began. Beyond this it reads what they are now."""
    context_answer_max_bytes: int = 1024 * 1024
    """Beyond this an answer to a read ends, at the next key, and says where to go on."""
    claims_max: int = 1_000
    """Claims of one task, or of one agent without a task."""
    line_max: int = 256
    """Waits in line before one claim."""
    claim_ttl_ms: int = 60_000
    """How long a claim without a task lasts unless it is renewed."""
    claim_grace_ms: int = 10_000
    """How long the holder of a claim has to give it back to one of higher priority."""
    frames_per_second: int = 200_000
    """Beyond this the coordinator reads a connection more slowly; nothing is refused."""
    requests_in_flight: int = 16_384
    outbox_max_bytes: int = 64 * 1024 * 1024
    tries_max: int = 10_000
    """Writers that lost on a key and may be about to insist: beyond this the oldest is forgotten."""
    watches_max: int = 4_096
    """Watched tasks on one connection."""
    finds_max: int = 256
    """Finds with `watch` on one connection. Each costs a look at every agent that comes or goes."""
    calls_max: int = 1_024
    """Calls of A2A's operations that wait, or whose streams go on, on one connection."""
    call_page_max_bytes: int = 1024 * 1024
    """Beyond this a page of A2A's tasks ends, and says where to go on."""
    linger_ms: int = 60_000
    """How long a settled task stays in memory; late reports and repeated keys mostly come soon. Later ones find it in
    the archive."""
    linger_tasks_max: int = 10_000
    """Settled tasks in memory. Beyond this the oldest leave sooner; a small one takes five kilobytes."""
    linger_bytes_max: int = 64 * 1024 * 1024
    """Bytes of their payloads; likewise. A snapshot has those that are not files of their own."""
    linger_conflicts_max: int = 4_000
    """The same of closed conflicts; a small one takes ten kilobytes."""
    raised_keep_ms: int = 24 * 3600 * 1000
    """How long a closed conflict stays that somebody raised: so long the same raise is a repeat."""
    raised_keep_max: int = 4_000
    """Closed conflicts in memory that somebody raised. Beyond this the oldest leave sooner."""
    raised_keep_bytes_max: int = 64 * 1024 * 1024
    """Bytes of what contradicts each other in them, and of what was said to it; likewise."""
    linger_contexts_ms: int = 600_000
    """How long a context stays in memory that nobody writes, where nothing goes on in it."""
    linger_contexts_max: int = 10_000
    """Contexts in memory. Beyond this those leave sooner that were written longest ago."""
    linger_contexts_bytes_max: int = 128 * 1024 * 1024
    """About what they take, with what is kept of their past; likewise. A snapshot has them all."""
    passing_ms: int = 3_600_000
    """How long the mailbox of a process with an id of its own waits for it to come back. Until then what is in it is
    kept, and the tasks this is about are in memory."""
    keep_agents_ms: int | None = 30 * 24 * 3600 * 1000
    """How long an agent with a card on file that is away is known, where nothing more can come for it; None keeps it
    for ever. It counts from a start of the coordinator, or from when the agent left behind that."""
    keep_ms: int | None = None
    """How long a settled task can be read, and its key stands for it; None keeps it for ever."""
    card_max_bytes: int = 1024 * 1024
    """Of a card and its labels: all who watch for such agents are sent both."""
    found_max: int = 10_000
    """Agents in one answer to `agent.find`."""

    def ladder_for(self, kind: str) -> tuple[dict[str, Any], ...]:
        """Return how conflicts of a kind are decided; empty where none is set."""
        return self.ladder if kind == "result" else self.ladders.get(kind, ())
