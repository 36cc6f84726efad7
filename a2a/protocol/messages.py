"""Every message of the protocol, in the order a delegated task meets them.

A message is a slotted dataclass. Its field names are the wire's in Python form (`lease_ms` is `leaseMs`); the fields
`task`, `fence`, `generation` and `payload` travel in the frame's envelope, all others in its `body`. A field that is
None is absent. `payload` and every other field of type bytes is UTF-8 JSON that the coordinator stores, hashes and
relays, but never reads (spec WIRE-5).

`KINDS` maps the wire's kind to the class. This module does not know bytes; the codec does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from .types import (
    AgentCard,
    AgentId,
    Budget,
    Digest,
    Identifier,
    InCanonicalForm,
    JsonObject,
    Key,
    Labels,
    Milliseconds,
    Priority,
    Requirements,
    Resource,
    ResourceName,
    TaskSpec,
    Uint,
    Usage,
)

__all__ = [
    "KINDS",
    "REQUESTS",
    "A2ACall",
    "A2AEvent",
    "A2AFault",
    "A2AResult",
    "AgentEvent",
    "AgentFilter",
    "AgentFind",
    "AgentForget",
    "AgentForgotten",
    "AgentFound",
    "AgentInfo",
    "AgentUpdate",
    "Amount",
    "Answer",
    "ArtifactRef",
    "AttemptError",
    "Bye",
    "Checkpoint",
    "Child",
    "ClaimAcquire",
    "ClaimDenied",
    "ClaimGranted",
    "ClaimList",
    "ClaimPage",
    "ClaimPreempt",
    "ClaimQueued",
    "ClaimRelease",
    "ClaimRenew",
    "ConflictAppeal",
    "ConflictFound",
    "ConflictGet",
    "ConflictList",
    "ConflictOpened",
    "ConflictPage",
    "ConflictPosition",
    "ConflictRaise",
    "ConflictRaised",
    "ConflictResolved",
    "ConflictVote",
    "ContextEventNotice",
    "ContextOp",
    "ContextRead",
    "ContextValue",
    "ContextValues",
    "ContextWatch",
    "ContextWrite",
    "ContextWritten",
    "CoordinatorFound",
    "CoordinatorGet",
    "Credit",
    "Dossier",
    "Error",
    "Feedback",
    "GrantedName",
    "Held",
    "HeldStill",
    "HeldVerdict",
    "Hello",
    "Limits",
    "MailboxAck",
    "Message",
    "Ok",
    "PatchRef",
    "Ping",
    "Pong",
    "PriorAttempt",
    "RaisedSubject",
    "Resume",
    "Seen",
    "StaleBasis",
    "Steer",
    "Subject",
    "TaskAccept",
    "TaskAnswer",
    "TaskArtifact",
    "TaskAsk",
    "TaskCancel",
    "TaskCheckpoint",
    "TaskConfirm",
    "TaskCreated",
    "TaskDecline",
    "TaskDelegate",
    "TaskEventNotice",
    "TaskFound",
    "TaskGet",
    "TaskHandoff",
    "TaskHeartbeat",
    "TaskLease",
    "TaskLimits",
    "TaskList",
    "TaskOffer",
    "TaskPage",
    "TaskReport",
    "TaskReview",
    "TaskRevoke",
    "TaskSettled",
    "TaskSteer",
    "TaskVerdict",
    "TaskWatch",
    "TaskYield",
    "Timers",
    "Unknown",
    "Welcome",
]

_WIRE = ConfigDict(alias_generator=to_camel, populate_by_name=False, extra="ignore", allow_inf_nan=False)


class Message:
    """Base of all messages."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = _WIRE
    kind: ClassVar[str] = ""


class Struct:
    """Base of the structures that messages contain."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = _WIRE


# Session and registry -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Credit(Message):
    """How much an agent takes on: attempts under way at once, and unacknowledged mailbox entries on the wire."""

    kind = "credit"
    tasks: Annotated[int, Field(ge=0, le=100_000)] = 0
    frames: Annotated[int, Field(ge=1, le=65_536)] = 256


@dataclass(slots=True)
class Held(Struct):
    """An attempt the agent works on."""

    task: Identifier
    fence: Uint
    progress_no: Uint = 0


@dataclass(slots=True)
class HeldStill(Held):
    """An attempt the agent still works on, named when it comes back (spec HELLO-6)."""

    proof: Annotated[str, Field(max_length=512)] = ""
    """From its offer."""


@dataclass(slots=True)
class Resume(Struct):
    """The position of the agent's mailbox cursor."""

    last_mseq: Uint = 0


@dataclass(slots=True)
class Hello(Message):
    """The first message on every connection (spec HELLO-1)."""

    kind = "hello"
    versions: Annotated[list[str], Field(min_length=2, max_length=2)]
    """The oldest and the newest version that the agent speaks."""
    agent_id: AgentId
    instance_id: Identifier
    incarnation: Uint
    # No log shows the secrets below: people pass logs on.
    token: Annotated[str, Field(max_length=512)] = field(default="", repr=False)
    """Admits to the namespace."""
    secret: Annotated[str, Field(max_length=512)] | None = field(default=None, repr=False)
    """Shows that this is the same principal as at first; drawn by the peer, or issued in an earlier welcome."""
    operator_token: Annotated[str, Field(max_length=512)] | None = field(default=None, repr=False)
    """Carries the operator's role."""
    card: Annotated[AgentCard, InCanonicalForm] | None = None
    labels: Labels = field(default_factory=dict)
    credit: Credit = field(default_factory=Credit)
    held: Annotated[list[HeldStill], Field(max_length=100_000)] = field(default_factory=list)
    resume: Resume | None = None
    features: Annotated[list[str], Field(max_length=64)] = field(default_factory=list)


@dataclass(slots=True)
class Limits(Struct):
    """What the coordinator allows and expects on this connection (spec LIMIT-1)."""

    message_max_bytes: Uint
    payload_max_bytes: Uint
    frames_per_message: Uint
    frames_per_second: Uint
    requests_in_flight: Uint
    outbox_max_bytes: Uint
    heartbeat_ms: Uint
    lease_ms: Uint


@dataclass(slots=True)
class HeldVerdict(Struct):
    """The verdict on an attempt that the agent said it holds."""

    task: Identifier
    fence: Uint
    verdict: Literal["keep", "stale", "unknown"]
    lease_ms: Milliseconds | None = None


@dataclass(slots=True)
class Welcome(Message):
    """The handshake succeeded (spec HELLO-4)."""

    kind = "welcome"
    version: str
    namespace: str
    epoch: Uint
    """Counts the coordinator's starts on this ledger."""
    durability: Literal["fsync", "os", "memory"]
    """How durable an answer is: see spec DURABLE-1."""
    limits: Limits
    next_mseq: Uint
    """The number of the next mailbox entry."""
    role: Literal["member", "operator"] = "member"
    resumed: bool = False
    secret: str | None = field(default=None, repr=False)
    """Issued once, to the first hello of a principal that shows none; the agent keeps it."""
    held: list[HeldVerdict] = field(default_factory=list)
    features: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Bye(Message):
    """The sender is about to close (spec HELLO-9)."""

    kind = "bye"
    reason: str = ""
    drain: bool = False
    """The agent will not be back soon: what it holds goes to others at once, and counts against nobody."""


@dataclass(slots=True)
class MailboxAck(Message):
    """Everything up to this mailbox entry has arrived (spec MAIL-3)."""

    kind = "mailbox.ack"
    upto: Uint


@dataclass(slots=True)
class Ping(Message):
    """Are you there?"""

    kind = "ping"
    nonce: Annotated[str, Field(max_length=64)] = ""


@dataclass(slots=True)
class Pong(Message):
    """Yes; the nonce is the ping's."""

    kind = "pong"
    nonce: str = ""


@dataclass(slots=True)
class AgentUpdate(Message):
    """An agent's status, labels or card changed; an operator may set the status of another (spec REG-4)."""

    kind = "agent.update"
    agent: AgentId | None = None
    status: Literal["ready", "draining"] | None = None
    labels: Labels | None = None
    card: Annotated[AgentCard, InCanonicalForm] | None = None
    grace_ms: Milliseconds | None = None
    """With `draining`: give back what is held within this time; if absent, it may be finished."""


@dataclass(slots=True)
class AgentForget(Message):
    """The operator has the coordinator forget an agent that will not come back, or its lost secret (spec REG-7)."""

    kind = "agent.forget"
    agent: AgentId
    secret_only: bool = False
    """Keep the agent: the next process that says hello for its principal takes over everything that is open."""


@dataclass(slots=True)
class AgentForgotten(Message):
    """What there was to forget; a repeat finds nothing."""

    kind = "agent.forgotten"
    known: bool = False
    """Whether the coordinator knew the agent: a card, or a mailbox."""
    bound: bool = False
    """Whether its principal was bound to a secret, and no longer is."""


@dataclass(slots=True)
class AgentFilter(Struct):
    """Selects agents; every field given must hold. An empty filter selects everybody."""

    agent: AgentId | None = None
    skill: Identifier | None = None
    tags: list[str] = field(default_factory=list)
    labels: Labels = field(default_factory=dict)
    media_type: str | None = None
    input_schema: Digest | None = None
    """The content hash of the input schema a skill must have."""


@dataclass(slots=True)
class AgentFind(Message):
    """Find agents. With `watch`, changes follow as `agent.event` for as long as the connection lasts."""

    kind = "agent.find"
    filter: AgentFilter = field(default_factory=AgentFilter)
    watch: bool = False


@dataclass(slots=True)
class AgentInfo(Struct):
    """An agent as others see it."""

    agent: AgentId
    card: AgentCard
    status: Literal["ready", "draining", "away"]
    labels: dict[str, str] = field(default_factory=dict)
    credit: Uint = 0
    holding: list[str] = field(default_factory=list)
    """The tasks it holds or was offered."""
    seen_ms: Uint | None = None
    """Milliseconds since its last frame; absent while it is away."""
    refused: list[JsonObject] = field(default_factory=list)
    """Hellos in its name that were refused, each with `agent`, `kind`, `code`, `detail`, `at`, `times`."""
    quarantine: JsonObject | None = None
    """Set while it gets no offers because processes take it from each other: `conflict`, `leftMs`."""


@dataclass(slots=True)
class AgentFound(Message):
    """The answer to `agent.find`."""

    kind = "agent.found"
    agents: list[AgentInfo]
    refused: list[JsonObject] = field(default_factory=list)
    """Refused hellos in the name of the agent asked for, if it has no card on file; as in `AgentInfo`."""


@dataclass(slots=True)
class AgentEvent(Message):
    """An agent that a watcher asked for joined, left or changed; volatile."""

    kind = "agent.event"
    change: Literal["joined", "left", "changed"]
    agent: AgentInfo


# Delegation -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TaskLimits(Struct):
    """How often a task may go wrong before it fails, and when it must have ended."""

    deadline_ms: Milliseconds | None = None
    attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Attempts that may fail retryably."""
    losses: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Leases that may lapse."""
    declines: Annotated[int, Field(ge=1, le=1000)] | None = None
    reworks: Annotated[int, Field(ge=0, le=1000)] | None = None


@dataclass(slots=True)
class Timers(Struct):
    """Durations of one task that differ from the namespace's (spec TIME-1)."""

    heartbeat_ms: Annotated[Milliseconds, Field(ge=20)] | None = None
    lease_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    offer_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    queue_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    confirm_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    ask_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    cancel_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    stall_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    attempt_ms: Annotated[Milliseconds, Field(ge=100)] | None = None


@dataclass(slots=True)
class TaskDelegate(Message):
    """Delegate a task (spec TASK-1). Key: (parent task or principal, `key`)."""

    kind = "task.delegate"
    key: Key
    spec: TaskSpec
    payload: bytes = b"[]"
    """The input, a JSON array of A2A Parts."""
    context_id: Identifier | None = None
    parent: Held | None = None
    """The attempt this is a sub-task of."""
    limits: TaskLimits = field(default_factory=TaskLimits)
    timers: Timers = field(default_factory=Timers)
    on_parent_end: Literal["cancel", "abandon", "detach"] = "cancel"
    budget: Budget | None = None
    """What the task and all tasks below it may use; taken out of the budget above it (spec BUDGET-2)."""
    on_delegator_loss: Literal["continue", "pause", "cancel"] = "continue"
    """What happens while no process of the delegator's principal is connected (spec TASK-12)."""
    loss_ms: Milliseconds = 60_000
    """With `cancel`: for how long none of them may be connected."""
    redrive_of: Identifier | None = None
    """The ended task that this one tries again."""


@dataclass(slots=True)
class TaskCreated(Message):
    """The task exists, created now or earlier with the same key."""

    kind = "task.created"
    task: Identifier
    generation: Uint
    created: bool
    state: str
    context_id: str


@dataclass(slots=True)
class Answer(Struct):
    """The answer to one of the task's questions."""

    ask_no: Uint
    payload: bytes


@dataclass(slots=True)
class Feedback(Struct):
    """Why an earlier revision was not good enough."""

    rev: Uint
    payload: bytes
    reason_code: str = ""


@dataclass(slots=True)
class Child(Struct):
    """A sub-task that an earlier attempt made, for this one to adopt under the same key."""

    task: Identifier
    key: str
    state: str


@dataclass(slots=True)
class PriorAttempt(Struct):
    """An attempt before this one, and how it ended."""

    agent: str
    fence: Uint
    end: str
    """`lapsed`, `declined`, `unanswered`, `yielded`, `handed_off`, `asked`, or the outcome it reported."""
    at: Uint
    """When it ended, in milliseconds since the epoch, by the coordinator's clock."""
    ran_ms: Milliseconds = 0
    detail: str = ""
    """The reason, in the words of whoever ended it."""
    usage: Usage | None = None
    progress_no: Uint = 0
    note: str | None = None
    """Its last progress note, if it sent one."""
    payload: bytes | None = None
    """Its message to the next attempt when it handed the task on: a JSON array of A2A Parts."""


@dataclass(slots=True)
class Dossier(Struct):
    """What the next attempt should know of the earlier ones (spec OFFER-8)."""

    attempts: list[PriorAttempt] = field(default_factory=list)
    evidence: list[JsonObject] = field(default_factory=list)
    """Reports that were not admitted: `fence`, `agent`, `verdict`, `resultHash`."""
    discarded: list[str] = field(default_factory=list)
    """Artifacts of attempts that have ended."""


@dataclass(slots=True)
class Checkpoint(Struct):
    """The state in which an earlier attempt stood (spec CHECK-3)."""

    cp_no: Uint
    fence: Uint
    agent: str
    payload: bytes
    format: str = ""


@dataclass(slots=True)
class Steer(Struct):
    """The delegator's word while the work was under way."""

    steer_no: Uint
    payload: bytes


@dataclass(slots=True)
class GrantedName(Struct):
    """A name that was granted with the lease, and the claim's fence for it (spec CLAIM-9)."""

    name: str
    mode: Literal["x", "s"]
    fence: Uint


@dataclass(slots=True)
class TaskOffer(Message):
    """An attempt at a task, for this agent (spec OFFER-1)."""

    kind = "task.offer"
    task: Identifier
    fence: Uint
    attempt: Uint
    granted: bool
    """Whether the lease is already current; if not, work begins once `task.accept` is answered."""
    offer_ms: Milliseconds
    """How long the coordinator waits for the first sign of life."""
    lease_ms: Milliseconds
    heartbeat_ms: Milliseconds
    spec: TaskSpec
    payload: bytes
    key: str
    context_id: str
    delegator: str
    rev: Uint = 0
    deadline_ms: Milliseconds | None = None
    parent: str | None = None
    feedback: list[Feedback] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    steers: list[Steer] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    dossier: Dossier | None = None
    """Absent on the first attempt."""
    budget: Budget | None = None
    """What is left of the task's budget."""
    claims: list[GrantedName] = field(default_factory=list)
    proof: str = ""
    """Shows that the fence belongs to this ledger (spec DURABLE-7)."""
    effect_scope: str = ""
    """Distinguishes the task's effect keys from those of other ledgers (spec FENCE-8)."""


@dataclass(slots=True)
class TaskAccept(Message):
    """The agent accepts the offer and asks whether it still stands (spec OFFER-4)."""

    kind = "task.accept"
    task: Identifier
    fence: Uint


@dataclass(slots=True)
class TaskDecline(Message):
    """The agent declines the offer (spec OFFER-5)."""

    kind = "task.decline"
    task: Identifier
    fence: Uint
    reason: Literal["busy", "unsupported", "policy", "budget", "conflict_of_interest"] = "busy"
    retry_after_ms: Milliseconds = 1000


@dataclass(slots=True)
class TaskLease(Message):
    """The lease is current, and has this much time left; the answer to an accept or a heartbeat."""

    kind = "task.lease"
    task: Identifier
    fence: Uint
    lease_ms: Milliseconds
    directives: list[str] = field(default_factory=list)


@dataclass(slots=True)
class TaskHeartbeat(Message):
    """The attempt is alive, with its progress; volatile (spec LEASE-2)."""

    kind = "task.heartbeat"
    task: Identifier
    fence: Uint
    progress_no: Uint = 0
    """Grows with every sign of progress: being alive and making progress are two signals."""
    progress_bp: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Basis points: 10,000 is done."""
    note: Annotated[str, Field(max_length=2_000)] | None = None
    usage: Annotated[Usage, InCanonicalForm] | None = None
    """What the attempt has used so far."""
    slot: Literal["held", "released"] = "held"
    """`released`: it only waits for its sub-tasks, and its credit is free meanwhile (spec FLOW-5)."""


@dataclass(slots=True)
class TaskCheckpoint(Message):
    """Where the attempt stands, for the next one to go on from (spec CHECK-1). Key: (task, fence, `cpNo`)."""

    kind = "task.checkpoint"
    task: Identifier
    fence: Uint
    cp_no: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Grows with every checkpoint of the attempt."""
    payload: bytes
    """A JSON array of A2A Parts."""
    base_cp: Uint = 0
    """The newest earlier checkpoint that the attempt knows of; 0 if none."""
    format: Annotated[str, Field(max_length=128)] = ""
    portable: bool = True
    """Whether another agent can go on from it."""


@dataclass(slots=True)
class TaskArtifact(Message):
    """A piece of a provisional artifact, streamed while the attempt goes on (spec ART-1)."""

    kind = "task.artifact"
    task: Identifier
    fence: Uint
    artifact_id: Identifier
    chunk_no: Uint
    payload: bytes
    """A JSON array of A2A Parts."""
    name: Annotated[str, Field(max_length=256)] = ""
    append: bool = False
    last_chunk: bool = True
    digest: Digest | None = None
    """With the last chunk: the hash of all chunks concatenated, for the coordinator to compare."""


@dataclass(slots=True)
class TaskAsk(Message):
    """The attempt needs an answer; sent to the coordinator, and from there to the delegator (spec ASK-1)."""

    kind = "task.ask"
    task: Identifier
    ask_no: Uint
    payload: bytes
    """The question: a JSON array of A2A Parts."""
    fence: Uint | None = None
    """The asking attempt; absent on the way to the delegator."""
    hold: Literal["hot", "cold"] = "hot"
    timeout_ms: Milliseconds | None = None
    default: bytes | None = None
    """The answer if none comes in time; without it the task fails."""
    auth: bool = False
    """Whether the question is for credentials: A2A's AUTH_REQUIRED."""


@dataclass(slots=True)
class TaskAnswer(Message):
    """The answer; sent by the delegator to the coordinator, and from there to the attempt (spec ASK-3)."""

    kind = "task.answer"
    task: Identifier
    ask_no: Uint
    payload: bytes
    if_gen: Uint | None = None
    """Accept it only if this is still the task's generation."""


@dataclass(slots=True)
class TaskSteer(Message):
    """A word while the work is under way; sent to the coordinator, and from there to the attempt (spec STEER-1)."""

    kind = "task.steer"
    task: Identifier
    key: Key
    """Names the word within the task."""
    payload: bytes
    """A JSON array of A2A Parts."""
    if_gen: Uint | None = None
    """Accept it only if this is still the task's generation."""
    mode: Literal["enqueue", "interrupt"] = "enqueue"
    """With `interrupt` the attempt has to give the task back; the next one begins with the word."""
    steer_no: Uint = 0
    """Counts the words of a task; set by the coordinator."""


@dataclass(slots=True)
class TaskHandoff(Message):
    """The attempt hands the task on to another agent (spec HAND-1). Key: (task, fence)."""

    kind = "task.handoff"
    task: Identifier
    fence: Uint
    to: AgentId | None = None
    """The id of the next agent."""
    requires: Requirements | None = None
    """Requirements for the next agent, in addition to the task's own."""
    payload: bytes | None = None
    """A message for it: a JSON array of A2A Parts."""
    usage: Annotated[Usage, InCanonicalForm] | None = None


@dataclass(slots=True)
class AttemptError(Struct):
    """Why an attempt failed or was rejected."""

    code: Annotated[str, Field(max_length=64)] = "error"
    detail: Annotated[str, Field(max_length=8_000)] = ""
    retryable: bool = False


@dataclass(slots=True)
class ArtifactRef(Struct):
    """A streamed artifact that belongs to the result."""

    artifact_id: Identifier
    digest: Digest | None = None


@dataclass(slots=True)
class PatchRef(Struct):
    """A thing that a result patches, and the revision that the patch is for (spec PATCH-1)."""

    of: Key
    base: Key


@dataclass(slots=True)
class Seen(Struct):
    """A key of a context, and the revision that was seen; 0 if there was none."""

    key: Key
    rev: Uint


@dataclass(slots=True)
class StaleBasis(Struct):
    """A decision that a result relies on and that has moved since (spec CTX-10)."""

    key: str
    seen: Uint
    current: Uint


@dataclass(slots=True)
class TaskReport(Message):
    """How the attempt ended (spec REPORT-1). Always answered by one verdict."""

    kind = "task.report"
    task: Identifier
    fence: Uint
    outcome: Literal["completed", "failed", "rejected", "canceled"]
    result_hash: Digest
    payload: bytes = b"[]"
    """The result: a JSON array of A2A Artifacts."""
    error: AttemptError | None = None
    usage: Annotated[Usage, InCanonicalForm] | None = None
    artifacts: Annotated[list[ArtifactRef], Field(max_length=1_000)] = field(default_factory=list)
    """Streamed artifacts that are part of the result (spec ART-4)."""
    steer_no: Uint = 0
    """The delegator's newest word that the attempt has seen."""
    basis: Annotated[list[Seen], Field(max_length=1_000)] = field(default_factory=list)
    """The keys of the task's context that the result relies on (spec CTX-10)."""
    patches: Annotated[list[PatchRef], Field(max_length=16)] = field(default_factory=list)
    """The patches of the result (spec PATCH-1)."""


@dataclass(slots=True)
class TaskVerdict(Message):
    """The coordinator's verdict on a report."""

    kind = "task.verdict"
    task: Identifier
    fence: Uint
    verdict: Literal["admitted", "duplicate", "late", "stale", "not_holder", "invalid"]
    reason: str = ""


@dataclass(slots=True)
class TaskReview(Message):
    """A result waits for the delegator to confirm it (spec ACCEPT-2)."""

    kind = "task.review"
    task: Identifier
    generation: Uint
    rev: Uint
    result_hash: Digest
    payload: bytes
    agent: str
    confirm_ms: Milliseconds
    unseen_steer: bool = False
    """Whether the worker reported before it saw the delegator's newest word."""
    stale_basis: list[StaleBasis] = field(default_factory=list)
    """Decisions that the result relies on and that have moved since."""


@dataclass(slots=True)
class TaskConfirm(Message):
    """The delegator's verdict on exactly this result (spec ACCEPT-3). Key: (task, rev)."""

    kind = "task.confirm"
    task: Identifier
    rev: Uint
    result_hash: Digest
    verdict: Literal["accept", "reject"] = "accept"
    rework: bool = False
    reason_code: Annotated[str, Field(max_length=64)] = ""
    payload: bytes | None = None
    """Feedback for the next revision: a JSON array of A2A Parts."""
    if_gen: Uint | None = None
    """Accept it only if this is still the task's generation."""


@dataclass(slots=True)
class TaskSettled(Message):
    """The task has ended; sent to its delegator with the result, and to the worker of the result without it."""

    kind = "task.settled"
    task: Identifier
    generation: Uint
    state: Literal["completed", "failed", "canceled", "rejected"]
    reason: str = ""
    detail: str = ""
    rev: Uint = 0
    result_hash: Digest | None = None
    confirmed_by: str | None = None
    agent: str | None = None
    payload: bytes | None = None


@dataclass(slots=True)
class TaskCancel(Message):
    """End the task (spec CANCEL-1)."""

    kind = "task.cancel"
    task: Identifier
    mode: Literal["coop", "kill", "skip"] = "coop"
    reason: Annotated[str, Field(max_length=2_000)] = ""
    grace_ms: Milliseconds | None = None


@dataclass(slots=True)
class TaskRevoke(Message):
    """Stop: this attempt has no authority, or is about to lose it (spec LEASE-6)."""

    kind = "task.revoke"
    task: Identifier
    fence: Uint
    reason: Literal[
        "cancel",
        "superseded",
        "deadline",
        "drain",
        "stall",
        "attempt",
        "budget",
        "steer",
        "unknown",
        "not_holder",
        "settled",
    ]
    mode: Literal["coop", "kill", "skip"] = "coop"
    grace_ms: Milliseconds = 0


@dataclass(slots=True)
class TaskYield(Message):
    """The agent gives the attempt back; another may go on (spec LEASE-7)."""

    kind = "task.yield"
    task: Identifier
    fence: Uint
    reason: Annotated[str, Field(max_length=256)] = ""
    usage: Annotated[Usage, InCanonicalForm] | None = None


# Claims ---------------------------------------------------------------------------------------------------------------

Resources = Annotated[list[Resource], Field(min_length=1, max_length=64)]


@dataclass(slots=True)
class ClaimAcquire(Message):
    """Claim names, all of them or none (spec CLAIM-3). Key: (task and fence or agent's instance, `claimNo`)."""

    kind = "claim.acquire"
    claim_no: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Grows with every new claim under the same key."""
    claims: Resources
    task: Identifier | None = None
    """The task the names are for; if absent, they are the agent's own."""
    fence: Uint | None = None
    """The attempt the names are for."""
    ttl_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    """When the claim ends unless it is renewed."""
    wait_ms: Milliseconds = 0
    """How long to wait in line; 0: not at all."""
    priority: Priority = 0
    preemptible: bool = False
    """Whether a claim of higher priority may take it back."""


@dataclass(slots=True)
class ClaimGranted(Message):
    """The claim is granted: the answer to an acquire or a renewal, or the end of a wait (spec CLAIM-3)."""

    kind = "claim.granted"
    claim_no: Uint
    claim_fence: Uint
    """Greater than the fence of every earlier claim on these names; for whatever guards the resources."""
    claims: Resources
    task: Identifier | None = None
    fence: Uint | None = None
    ttl_ms: Milliseconds | None = None
    """The claim's remaining time; if absent, it lasts as long as the attempt."""


@dataclass(slots=True)
class ClaimQueued(Message):
    """The claim stands in line; the answer comes by mailbox (spec CLAIM-5)."""

    kind = "claim.queued"
    claim_no: Uint
    position: Uint
    """Its place among the claims that wait for any of its names; 1 is the next."""
    task: Identifier | None = None
    fence: Uint | None = None


@dataclass(slots=True)
class ClaimDenied(Message):
    """A claim that stood in line will not be granted (spec CLAIM-5)."""

    kind = "claim.denied"
    claim_no: Uint
    reason: Literal["timeout", "deadlock", "ended"]
    detail: str = ""
    task: Identifier | None = None
    fence: Uint | None = None
    cycle: list[JsonObject] = field(default_factory=list)
    """With `deadlock`: who waits for whom (spec WAIT-3)."""


@dataclass(slots=True)
class ClaimRenew(Message):
    """Keep a claim for longer (spec CLAIM-7). Key: (`claimFence`)."""

    kind = "claim.renew"
    claim_fence: Uint
    ttl_ms: Annotated[Milliseconds, Field(ge=100)] | None = None
    """The time from now on; if absent, the time it was asked for."""


@dataclass(slots=True)
class ClaimRelease(Message):
    """Give a claim back, or stop waiting for it (spec CLAIM-6). Key: the claim."""

    kind = "claim.release"
    claim_fence: Uint | None = None
    claim_no: Uint | None = None
    """Instead of its fence, which a waiting claim does not have."""
    task: Identifier | None = None
    fence: Uint | None = None


@dataclass(slots=True)
class ClaimPreempt(Message):
    """Give a claim back within the grace: one of higher priority waits for it (spec CLAIM-10)."""

    kind = "claim.preempt"
    claim_no: Uint
    claim_fence: Uint
    reason: str
    grace_ms: Milliseconds
    task: Identifier | None = None
    fence: Uint | None = None


@dataclass(slots=True)
class ClaimList(Message):
    """Who holds claims, and who waits for them."""

    kind = "claim.list"
    name: ResourceName | None = None
    """Only claims that conflict with this name if it is claimed alone."""
    task: Identifier | None = None
    """Only the claims of this task."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@dataclass(slots=True)
class ClaimPage(Message):
    """Claims: first those that are held, by fence, then those that wait, the next first."""

    kind = "claim.page"
    claims: list[JsonObject]
    more: bool = False
    """Whether there are claims that are not listed."""


# Conflicts ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Subject(Struct):
    """One of the things that contradict each other."""

    ref: str
    """The task whose result it is, or its name within the conflict."""
    agent: str
    result_hash: Digest
    group: Uint
    """Subjects with the same number are equal for the comparator."""


ConflictKind = Literal["result", "context", "resource", "artifact", "instruction", "identity"]
Topic = Annotated[str, Field(max_length=1_024)]
"""The object of a conflict: `task:`, `context:`, `resource:` or `agent:` and a name."""


@dataclass(slots=True)
class RaisedSubject(Struct):
    """One of the things that contradict each other: a task, a key's revision, a fence or a value (spec CONFLICT-11)."""

    task: Identifier | None = None
    """The task whose newest result it is."""
    context_id: Identifier | None = None
    key: Key | None = None
    rev: Uint | None = None
    """The revision of the key in that context."""
    resource: ResourceName | None = None
    fence: Uint | None = None
    """The fence shown for the resource."""
    value: bytes | None = None
    """A value of the raiser's own: JSON."""


@dataclass(slots=True)
class ConflictRaise(Message):
    """A report that things contradict each other (spec CONFLICT-11). Key: (principal, kind, object, subjects)."""

    kind = "conflict.raise"
    conflict_kind: ConflictKind
    subjects: Annotated[list[RaisedSubject], Field(min_length=1, max_length=1_000)]
    object: Topic = ""
    """The object, if the subjects do not imply it."""
    claim: Annotated[str, Field(max_length=2_000)] = ""
    """How they contradict each other, in a few words."""
    payload: bytes = b"[]"
    """The evidence: a JSON array of A2A Parts."""


@dataclass(slots=True)
class ConflictRaised(Message):
    """The conflict that was raised, now or earlier (spec CONFLICT-12)."""

    kind = "conflict.raised"
    conflict: Identifier
    created: bool
    """False if the conflict already existed."""
    is_open: bool
    object: Topic


@dataclass(slots=True)
class ConflictOpened(Message):
    """Things contradict each other; sent to every party (spec CONFLICT-2)."""

    kind = "conflict.opened"
    conflict: Identifier
    conflict_kind: str
    rule: str
    level: Uint
    subjects: list[Subject]
    your_role: Literal["author", "delegator", "raiser"]
    task: Identifier | None = None
    """The task whose results they are, if there is one."""
    object: str = ""
    """The conflict's object."""
    respond_by_ms: Milliseconds = 0
    """Time left to take a position."""


@dataclass(slots=True)
class ConflictPosition(Message):
    """A party's position; kept with the conflict, and shown to those who decide (spec CONFLICT-4)."""

    kind = "conflict.position"
    conflict: Identifier
    payload: bytes
    """A JSON array of A2A Parts."""
    stance: Annotated[str, Field(max_length=2_000)] = ""


@dataclass(slots=True)
class ConflictVote(Message):
    """A person decides (spec CONFLICT-6)."""

    kind = "conflict.vote"
    conflict: Identifier
    choice: Identifier | None = None
    """The `ref` of the subject that stands; if absent, none of them."""
    reasons: Annotated[str, Field(max_length=8_000)] = ""


@dataclass(slots=True)
class ConflictAppeal(Message):
    """A party appeals against the outcome of a conflict; once, and to a higher rung (spec CONFLICT-8)."""

    kind = "conflict.appeal"
    conflict: Identifier
    ground: Literal["new_evidence", "misapplied_policy", "judge_not_independent", "wrong_subject"]
    payload: bytes = b"[]"
    """The evidence: a JSON array of A2A Parts."""


@dataclass(slots=True)
class ConflictResolved(Message):
    """The outcome of a conflict; sent to every party (spec CONFLICT-7)."""

    kind = "conflict.resolved"
    conflict: Identifier
    outcome: Literal["select", "merge", "reject_all", "moot"]
    rationale: str
    by: str
    """The rung or the person that decided."""
    task: Identifier | None = None
    object: str = ""
    """The conflict's object."""
    ref: str | None = None
    """The subject that stands; after a merge, the task that made it."""
    dissent: list[str] = field(default_factory=list)
    """The subjects that do not stand."""
    appeal_by_ms: Milliseconds = 0
    """Time left to appeal."""


@dataclass(slots=True)
class ConflictGet(Message):
    """Show a conflict with its evidence, and with the results themselves if `content` is true."""

    kind = "conflict.get"
    conflict: Identifier
    content: bool = True


@dataclass(slots=True)
class ConflictFound(Message):
    """A conflict's record (spec CONFLICT-9); payloads travel beside it, unread."""

    kind = "conflict.found"
    conflict: Identifier
    view: JsonObject
    payloads: list[JsonObject] = field(default_factory=list)
    """The payloads of subjects, parties and raisers, each with `ref`, `party` or `raiser`, and `payload`; an appeal has
    its `ground` beside its `party`."""
    refused: list[JsonObject] = field(default_factory=list)
    """Requests about it that were refused, each with `agent`, `kind`, `code`, `detail`, `at`, `times`."""


@dataclass(slots=True)
class ConflictList(Message):
    """List conflicts, newest first."""

    kind = "conflict.list"
    task: Identifier | None = None
    is_open: bool | None = None
    before: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    conflict_kind: ConflictKind | None = None
    object: Topic | None = None


@dataclass(slots=True)
class ConflictPage(Message):
    """One page of conflicts."""

    kind = "conflict.page"
    conflicts: list[JsonObject]
    next_before: str | None = None


# Reading --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class CoordinatorGet(Message):
    """Show the state of the coordinator (spec READ-7)."""

    kind = "coordinator.get"


@dataclass(slots=True)
class Amount(Struct):
    """An amount of something."""

    what: str
    count: Uint
    most: Uint | None = None
    """The limit, if there is one."""


@dataclass(slots=True)
class CoordinatorFound(Message):
    """The state of the coordinator, at most a second old."""

    kind = "coordinator.found"
    namespace: str
    epoch: Uint
    lsn: Uint
    """The position of the newest record."""
    up_ms: Uint
    """Time since its start."""
    tasks: dict[str, Uint] = field(default_factory=dict)
    """State to the number of open tasks in it."""
    amounts: list[Amount] = field(default_factory=list)


@dataclass(slots=True)
class TaskGet(Message):
    """Show a task, with its input, artifacts and result if `content` is true."""

    kind = "task.get"
    task: Identifier
    content: bool = True


@dataclass(slots=True)
class TaskFound(Message):
    """A task as A2A shows it; payloads travel beside it, unread."""

    kind = "task.found"
    task: Identifier
    generation: Uint
    view: JsonObject
    """An A2A Task without artifacts; `metadata` has the fields that A2A does not define."""
    payload: bytes | None = None
    """The result: a JSON array of A2A Artifacts."""
    input: bytes | None = None
    artifacts: list[JsonObject] = field(default_factory=list)
    """Provisional artifacts: `artifactId`, `name`, `fence`, `chunks` (each a JSON array of Parts)."""
    asks: list[JsonObject] = field(default_factory=list)
    """Questions, each with `askNo`, `payload`, and `answer` if there is one."""


@dataclass(slots=True)
class TaskList(Message):
    """List tasks, newest first."""

    kind = "task.list"
    state: str | None = None
    skill: str | None = None
    parent: str | None = None
    context_id: str | None = None
    before: str | None = None
    """The last task of the previous page."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    dead_letter: bool = False
    """Only tasks that were given up after several agents had lost them."""


@dataclass(slots=True)
class TaskPage(Message):
    """One page of tasks."""

    kind = "task.page"
    tasks: list[JsonObject]
    next_before: str | None = None


@dataclass(slots=True)
class TaskWatch(Message):
    """Send the events of a task since `from_gen`, then new ones as they happen (spec WATCH-1)."""

    kind = "task.watch"
    task: Identifier
    from_gen: Uint = 0
    stop: bool = False


@dataclass(slots=True)
class TaskEventNotice(Message):
    """An event of a watched task. Progress has no generation of its own and may be lost."""

    kind = "task.event"
    task: Identifier
    generation: Uint
    event: str
    state: str
    at: Uint
    """Milliseconds since the epoch, by the coordinator's clock."""
    data: JsonObject = field(default_factory=dict)
    payload: bytes | None = None


# Shared context -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ContextValue(Struct):
    """One revision of a key: its value, its time and its author."""

    key: str
    rev: Uint
    """Counts the writes of the key, from 1; 0 if nobody has written it."""
    payload: bytes | None = None
    """Any JSON value; absent if the key was deleted, or the value of an old revision is no longer kept."""
    deleted: bool = False
    author: str = ""
    task: str | None = None
    fence: Uint | None = None
    """The attempt that wrote it, if one did."""
    at: Uint = 0
    """Milliseconds since the epoch, by the coordinator's clock."""
    reason: str = ""
    decision: bool = False
    """Whether a result that relies on another revision has to be looked at first (spec CTX-10)."""
    guarded: bool = False
    """Whether every write has to name the revision it replaces."""


@dataclass(slots=True)
class ContextRead(Message):
    """Show what a context holds (spec CTX-7)."""

    kind = "context.read"
    context_id: Identifier
    keys: Annotated[list[Key], Field(max_length=10_000)] = field(default_factory=list)
    prefix: Annotated[str, Field(max_length=256)] | None = None
    """Every key with this prefix, if `keys` is empty."""
    at_rev: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    """Only this revision, of the one key named."""
    history: bool = False
    """Every revision, the oldest first."""
    after: Key | None = None
    """Continue after this key."""


@dataclass(slots=True)
class ContextValues(Message):
    """The answer to `context.read`, in the order of the keys."""

    kind = "context.values"
    context_id: Identifier
    lsn: Uint
    """The context's newest write at that time, for a watch to start from."""
    values: list[ContextValue] = field(default_factory=list)
    next_after: str | None = None
    """There are more keys after this one."""


@dataclass(slots=True)
class ContextOp(Struct):
    """The change of one key: exactly one of `value`, `patch` and `delete`."""

    key: Key
    if_rev: Uint | None = None
    """Write only if this is the key's revision; 0: only if nobody has written it."""
    value: bytes | None = None
    """Any JSON value."""
    patch: bytes | None = None
    """A JSON Patch (RFC 6902) of the current value."""
    delete: bool = False
    decision: bool = False
    guarded: bool = False


@dataclass(slots=True)
class ContextWrite(Message):
    """Change a context, completely or not at all (spec CTX-3). Key: (context, principal, `key`)."""

    kind = "context.write"
    context_id: Identifier
    key: Key
    """Names the write."""
    ops: Annotated[list[ContextOp], Field(min_length=1, max_length=10_000)]
    depends: Annotated[list[Seen], Field(max_length=10_000)] = field(default_factory=list)
    """Write only if these revisions are still current."""
    attempt: Held | None = None
    """The attempt that writes; its fence has to be current."""
    reason: Annotated[str, Field(max_length=2_000)] = ""
    rebases: bool = False
    """Whether a losing writer reads the current values and tries again: then no conflict opens (CONFLICT-14)."""


@dataclass(slots=True)
class ContextWritten(Message):
    """The write is done, now or earlier with the same key."""

    kind = "context.written"
    context_id: Identifier
    revs: dict[str, Uint]
    """Each written key, with its new revision."""


@dataclass(slots=True)
class ContextWatch(Message):
    """Send the writes to a context since `from_lsn`, then new ones as they happen (spec CTX-8)."""

    kind = "context.watch"
    context_id: Identifier
    prefix: Annotated[str, Field(max_length=256)] = ""
    from_lsn: Uint = 0
    stop: bool = False


@dataclass(slots=True)
class ContextEventNotice(Message):
    """A watched context was written to."""

    kind = "context.event"
    context_id: Identifier
    lsn: Uint
    """The write's place in the ledger: after a reconnect, a watch goes on from here."""
    values: list[ContextValue] = field(default_factory=list)
    """The values it wrote, as far as they are watched; without the payloads that were overwritten since."""


# A2A's own operations -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class A2ACall(Message):
    """One of A2A's operations (spec BIND-2). Its request is the payload, and the coordinator reads it."""

    kind = "a2a.call"
    operation: Annotated[str, Field(min_length=1, max_length=64)]
    """By A2A's name: `SendMessage`."""
    payload: bytes = b"{}"
    """The operation's request, in A2A's JSON form."""
    version: Annotated[str, Field(max_length=32)] = "1.0"
    """A2A's version, from its service parameter `A2A-Version`."""
    extensions: Annotated[list[str], Field(max_length=64)] = field(default_factory=list)
    """The URIs in its service parameter `A2A-Extensions`."""
    from_gen: Uint | None = None
    """With `SubscribeToTask`: the newest generation that the caller has (spec BIND-17)."""


@dataclass(slots=True)
class A2AResult(Message):
    """The operation's response."""

    kind = "a2a.result"
    payload: bytes
    """In A2A's JSON form."""


@dataclass(slots=True)
class A2AFault(Message):
    """One of A2A's errors (spec BIND-13)."""

    kind = "a2a.fault"
    code: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
    """JSON-RPC's code or A2A's."""
    name: str
    """Its name in A2A: `TaskNotFoundError`."""
    message: str
    data: list[JsonObject] = field(default_factory=list)
    """Details, each with its `@type`."""


@dataclass(slots=True)
class A2AEvent(Message):
    """A piece of a stream (spec BIND-15)."""

    kind = "a2a.event"
    task: Identifier
    generation: Uint
    payload: bytes
    """A StreamResponse, in A2A's JSON form."""
    last: bool = False
    """Whether this is the last one."""


# Answers that many requests share -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ok(Message):
    """Done, or done before."""

    kind = "ok"
    state: str | None = None
    will: Literal["canceled", "too_late", "pending"] | None = None


@dataclass(slots=True)
class Error(Message):
    """Refused (spec ERR-1)."""

    kind = "error"
    code: str
    detail: str
    retryable: bool = False
    retry_after_ms: Milliseconds | None = None
    data: JsonObject | None = None


@dataclass(slots=True)
class Unknown(Message):
    """A kind this version does not know; answered, and fatal only if the sender set `must` (spec WIRE-7)."""

    kind = "unknown"
    name: str
    body: dict[str, Any]


KINDS: dict[str, type[Message]] = {
    message.kind: message
    for message in (
        Hello,
        Welcome,
        Bye,
        MailboxAck,
        Credit,
        Ping,
        Pong,
        AgentUpdate,
        AgentForget,
        AgentForgotten,
        AgentFind,
        AgentFound,
        AgentEvent,
        TaskDelegate,
        TaskCreated,
        TaskOffer,
        TaskAccept,
        TaskDecline,
        TaskLease,
        TaskHeartbeat,
        TaskCheckpoint,
        TaskArtifact,
        TaskAsk,
        TaskAnswer,
        TaskSteer,
        TaskHandoff,
        TaskReport,
        TaskVerdict,
        TaskReview,
        TaskConfirm,
        TaskSettled,
        TaskCancel,
        TaskRevoke,
        TaskYield,
        ClaimAcquire,
        ClaimGranted,
        ClaimQueued,
        ClaimDenied,
        ClaimRenew,
        ClaimRelease,
        ClaimPreempt,
        ClaimList,
        ClaimPage,
        ConflictRaise,
        ConflictRaised,
        ConflictOpened,
        ConflictPosition,
        ConflictVote,
        ConflictAppeal,
        ConflictResolved,
        ConflictGet,
        ConflictFound,
        ConflictList,
        ConflictPage,
        CoordinatorGet,
        CoordinatorFound,
        TaskGet,
        TaskFound,
        TaskList,
        TaskPage,
        TaskWatch,
        TaskEventNotice,
        ContextRead,
        ContextValues,
        ContextWrite,
        ContextWritten,
        ContextWatch,
        ContextEventNotice,
        A2ACall,
        A2AResult,
        A2AFault,
        A2AEvent,
        Ok,
        Error,
    )
}
"""Wire kind to class."""

REQUESTS: frozenset[type[Message]] = frozenset(
    {
        AgentUpdate,
        AgentForget,
        AgentFind,
        TaskDelegate,
        TaskAccept,
        TaskDecline,
        TaskCheckpoint,
        TaskArtifact,
        TaskAsk,
        TaskAnswer,
        TaskSteer,
        TaskHandoff,
        TaskReport,
        TaskConfirm,
        TaskCancel,
        TaskYield,
        ClaimAcquire,
        ClaimRenew,
        ClaimRelease,
        ClaimList,
        ConflictRaise,
        ConflictPosition,
        ConflictVote,
        ConflictAppeal,
        ConflictGet,
        ConflictList,
        CoordinatorGet,
        TaskGet,
        TaskList,
        TaskWatch,
        ContextRead,
        ContextWrite,
        ContextWatch,
        A2ACall,
    }
)
"""The kinds with exactly one reply, again on every repeat; they stay in the sender's outbox until then (spec RPC-1)."""
