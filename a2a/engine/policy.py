"""Settings of a namespace: durations, limits, who is admitted. Frozen; a coordinator is made with one."""

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
    """How long a task waits for a capable agent before it fails; None: for ever."""
    confirm_ms: int = 600_000
    ask_ms: int = 86_400_000
    cancel_ms: int = 10_000
    stall_ms: int | None = None
    """How long an attempt may stand still although it beats; None: as long as it likes."""
    attempt_ms: int | None = None
    """How long one attempt may be at work; None: as long as it likes."""

    def with_timers(self, timers: Timers) -> Durations:
        """Return these durations, replaced by those that a task names."""
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
    """How often a task may go wrong before it fails. Each way is counted separately (spec LIMIT-4)."""

    attempts: int = 3
    losses: int = 3
    declines: int = 10
    reworks: int = 2
    revivals: int = 3
    handoffs: int = 10

    def with_limits(self, limits: TaskLimits) -> Bounds:
        """Return these bounds, replaced by those that a task names."""
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
    """Who is admitted. Tokens are kept as digests only."""

    token: str | None = None
    """Digest of the token that admits to the namespace; None admits everybody and is for tests in one process."""
    operator_token: str | None = None
    """Digest of the token that carries the operator's role; None gives it to nobody."""

    def admits(self, token: str) -> bool:
        """Tell whether `token` admits to the namespace."""
        return self.token is None or hmac.compare_digest(self.token, digest(token))

    def is_operator(self, token: str | None) -> bool:
        """Tell whether `token` carries the operator's role."""
        return (
            token is not None
            and self.operator_token is not None
            and hmac.compare_digest(self.operator_token, digest(token))
        )


_A_MINUTE = {"strategy": "human", "timeoutMs": 60_000}
"""Nobody writes the contested key meanwhile, so people are waited for less long than elsewhere."""
LADDERS: dict[str, tuple[dict[str, Any], ...]] = {
    "context": ({"strategy": "merge"}, {"strategy": "authority"}, _A_MINUTE, {"strategy": "abort"}),
    "resource": ({"strategy": "authority"}, {"strategy": "human"}, {"strategy": "abort"}),
    "artifact": ({"strategy": "merge"}, {"strategy": "authority"}, {"strategy": "human"}, {"strategy": "abort"}),
    "instruction": ({"strategy": "authority"}, {"strategy": "first_wins"}),
    "identity": ({"strategy": "human"}, {"strategy": "abort"}),
}
"""Kind of conflict to the ladder that decides it, in a namespace that sets nothing else (spec CONFLICT-13)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a coordinator is told once."""

    namespace: str = "main"
    durations: Durations = field(default_factory=Durations)
    skills: Mapping[str, Durations] = field(default_factory=dict)
    """Skill to the durations of its tasks, if they differ from the namespace's."""
    bounds: Bounds = field(default_factory=Bounds)
    admission: Admission = field(default_factory=Admission)
    frame_limits: FrameLimits = field(default_factory=FrameLimits)
    comparator: str = "json-c14n"
    """How the answers of a group are compared, if its task names no comparator."""
    ladder: tuple[dict[str, Any], ...] = ({"strategy": "majority"}, {"strategy": "human"}, {"strategy": "abort"})
    """How contradicting answers are decided, if their task names no ladder."""
    ladders: Mapping[str, tuple[dict[str, Any], ...]] = field(default_factory=lambda: LADDERS)
    """Kind of conflict to its ladder. Without one for `context`, writes that lose are only refused."""
    conflicts_open_max: int = 1_000
    """Most open conflicts, apart from those of groups."""
    conflicts_raised_max: int = 16
    """Most open conflicts raised by agents of one principal."""
    conflicts_about_max: int = 8
    """Most conflicts raised about one object, over or not."""
    conflict_raises_max: int = 16
    """Most raises kept with one conflict; further ones are answered and not kept."""
    conflict_subjects_max: int = 16
    conflict_max_bytes: int = 1024 * 1024
    """Most bytes of the subjects of one conflict, with what was said when it was raised."""
    conflict_rest_ms: int = 60_000
    """How long after a conflict about a key a lost write to that key opens no other."""
    takeovers_max: int = 3
    """Takeovers, within `takeovers_ms`, of an agent from a process that is still there: the last of them is refused,
    and the agent is quarantined (spec CONFLICT-18)."""
    takeovers_ms: int = 60_000
    answer_ms: int = 2_000
    """How long a process has to answer that it is still there, before another may take its place again."""
    quarantine_ms: int = 300_000
    contest_ms: int = 60_000
    """How long a worker may contest the rejection of its result."""
    ballot_ms: int = 60_000
    """How long further answers and positions are awaited, once answers contradict each other."""
    judge_ms: int = 300_000
    human_ms: int = 86_400_000
    conflict_cost_micro: int | None = None
    """Most that the tasks of all rungs of one conflict may use together, if its task sets nothing; None: any amount."""
    appeal_ms: int = 0
    """How long an outcome may be appealed before it takes effect."""
    appeal_irreversible_ms: int = 600_000
    """The same for a task whose effect is irreversible."""
    on_confirm_timeout: str = "accept"
    """What an unanswered review becomes: `accept`, `reject` or `hold`."""
    recovery_grace_ms: int | None = None
    """How long no timer of a task fires after a start; None: as long as the longest lease held (spec TIME-4)."""
    backoff_ms: int = 1_000
    """First pause after a retryable failure; it doubles each time, with full jitter."""
    backoff_max_ms: int = 60_000
    depth_max: int = 8
    """Most tasks from root to leaf. Deeper trees were runaway delegation each time we looked."""
    children_max: int = 10_000
    evidence_max: int = 16
    """Most late and stale reports kept for one task; further ones are answered and not kept."""
    evidence_foreign_max: int = 4
    """Most of these under others' fences: agents that never had the task keep out no report of those that had it."""
    refusals_per_minute: int = 16
    """Refusals of one agent recorded one by one each minute; further ones are counted (spec ERR-6)."""
    refusals_alike_max: int = 2
    """Most of these with the same kind, object and code: a second one shows that the first was no accident."""
    tasks_max: int = 500_000
    """Most tasks in memory; a small one takes three kilobytes. Sub-tasks are taken up to twice as many, as tasks
    already there could not end without them."""
    tasks_max_bytes: int = 1024 * 1024 * 1024
    """About the most bytes of their specifications and inputs; twice as many for sub-tasks likewise."""
    chunks_max: int = 10_000
    """Most provisional artifact chunks of one task."""
    chunks_max_bytes: int = 64 * 1024 * 1024
    """Most bytes in them: a task is whole in memory until it has ended, and one piece in the archive."""
    asks_max: int = 100
    steers_max: int = 100
    """Most words of the delegator to one task."""
    said_max_bytes: int = 16 * 1024 * 1024
    """Most bytes that its delegator says to one task: each offer has all of them, and has to fit an outbox."""
    checkpoint_max_bytes: int = 256 * 1024
    contexts_max: int = 100_000
    """Most contexts in memory that were written to."""
    context_keys_max: int = 10_000
    """Most keys of one context, including deleted ones: their revisions go on."""
    context_max_bytes: int = 16 * 1024 * 1024
    """Most bytes of a context's current values. Up to 16 times as many are kept of earlier ones."""
    contexts_max_bytes: int = 1024 * 1024 * 1024
    """About the most bytes of all contexts in memory, including what is kept of their past."""
    context_value_max_bytes: int = 64 * 1024
    """Most bytes of one value, and of one patch."""
    context_ops_max: int = 256
    """Most operations in one write."""
    context_patches_max: int = 16
    """Most patches in one write: each is applied while everybody waits."""
    context_patched_max_bytes: int = 256 * 1024
    """Most bytes of all values that one write patches: each is read and rewritten while everybody waits."""
    context_patch_operations_max: int = 256
    """Most operations in one patch."""
    context_depth_max: int = 64
    """Deepest nesting of a patched value."""
    context_depends_max: int = 1_024
    """Most keys that one write depends on."""
    context_missed_max: int = 65_536
    """Most values written before a watch began that it is still told. Beyond this its watcher has to read them."""
    context_answer_max_bytes: int = 1024 * 1024
    """Beyond this the answer to a read ends at the next key, and says where to continue."""
    claims_max: int = 1_000
    """Most claims of one task, or of one agent without a task."""
    line_max: int = 256
    """Most waits in line before one claim."""
    claim_ttl_ms: int = 60_000
    """How long a claim without a task lasts unless it is renewed."""
    claim_grace_ms: int = 10_000
    """How long the holder of a recalled claim has to give it back."""
    frames_per_second: int = 200_000
    """Beyond this the coordinator reads a connection more slowly; nothing is refused."""
    requests_in_flight: int = 16_384
    outbox_max_bytes: int = 64 * 1024 * 1024
    tries_max: int = 10_000
    """Writers remembered that lost on a key and may insist: beyond this the oldest is forgotten."""
    watches_max: int = 4_096
    """Most watched tasks on one connection."""
    finds_max: int = 256
    """Most finds with `watch` on one connection. Each costs a look at every agent that comes or goes."""
    calls_max: int = 1_024
    """Most calls of A2A's operations on one connection that wait, or whose streams go on."""
    call_page_max_bytes: int = 1024 * 1024
    """Beyond this a page of A2A's tasks ends, and says where to continue."""
    linger_ms: int = 60_000
    """How long a settled task stays in memory; most late reports and repeated keys come soon. Later ones find it in the
    archive."""
    linger_tasks_max: int = 10_000
    """Settled tasks in memory. Beyond this the oldest leave sooner; a small one takes five kilobytes."""
    linger_bytes_max: int = 64 * 1024 * 1024
    """Bytes of their payloads; likewise. A snapshot has those that are not files of their own."""
    linger_conflicts_max: int = 4_000
    """Closed conflicts in memory; likewise. A small one takes ten kilobytes."""
    raised_keep_ms: int = 24 * 3600 * 1000
    """How long a closed conflict that somebody raised stays in memory: until it leaves, the same raise is a repeat."""
    raised_keep_max: int = 4_000
    """Closed conflicts in memory that somebody raised. Beyond this the oldest leave sooner."""
    raised_keep_bytes_max: int = 64 * 1024 * 1024
    """Bytes of their subjects, and of what was said about them; likewise."""
    linger_contexts_ms: int = 600_000
    """How long a context in which nothing goes on stays in memory after its last write."""
    linger_contexts_max: int = 10_000
    """Contexts in memory. Beyond this the least recently written leave sooner."""
    linger_contexts_bytes_max: int = 128 * 1024 * 1024
    """About the bytes they take, including what is kept of their past; likewise. A snapshot has them all."""
    passing_ms: int = 3_600_000
    """How long the mailbox of a process with an id of its own waits for it to come back. Until then its entries are
    kept, and the tasks they are about stay in memory."""
    keep_agents_ms: int | None = 30 * 24 * 3600 * 1000
    """How long an absent agent with a card on file is known, if nothing more can come for it; None keeps it for ever.
    The time counts from when it left, or from a later start of the coordinator."""
    keep_ms: int | None = None
    """How long a settled task can be read, and its key stands for it; None keeps it for ever."""
    card_max_bytes: int = 1024 * 1024
    """Most bytes of a card and its labels: everybody who watches for such agents is sent both."""
    found_max: int = 10_000
    """Most agents in one answer to `agent.find`."""

    def ladder_for(self, kind: str) -> tuple[dict[str, Any], ...]:
        """Return the ladder for conflicts of a kind; empty if none is set."""
        return self.ladder if kind == "result" else self.ladders.get(kind, ())
