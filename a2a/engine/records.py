"""The records: everything that can happen, in the words the ledger keeps for ever.

A record is what was decided, not what was asked: the records alone rebuild the whole state, so each holds its clock
reading (`at`, milliseconds since the epoch) and every choice made. `version` and `_UPGRADES` let newer code read older
ledgers; a record's name and the meaning of its fields never change once released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, ClassVar, cast
from zlib import crc32

from ..protocol.codec import pack, unpack
from .plain import LARGE_BYTES

__all__ = [
    "RECORDS",
    "Accepted",
    "Adopted",
    "AgentForgotten",
    "AgentRegistered",
    "Answered",
    "AnswersRepeated",
    "Archived",
    "ArtifactAppended",
    "Asked",
    "CancelRequested",
    "Checkpointed",
    "ClaimEnded",
    "ClaimRecalled",
    "ClaimRenewed",
    "ClaimRequested",
    "Claimed",
    "Classified",
    "ConflictAppealed",
    "ConflictJoined",
    "ConflictNoted",
    "ConflictOpened",
    "ConflictResolved",
    "ConflictsArchived",
    "ContextRecalled",
    "ContextWritten",
    "ContextsArchived",
    "CoordinatorStarted",
    "CoordinatorStopped",
    "Declined",
    "Delegated",
    "Evicted",
    "GroupDecided",
    "HandedOff",
    "HandoffLapsed",
    "LeaseExpired",
    "MailboxAcked",
    "Merged",
    "OfferWithdrawn",
    "Offered",
    "PatchesCompared",
    "PositionTaken",
    "PrincipalBound",
    "PrincipalUnbound",
    "Recalled",
    "Record",
    "Refused",
    "ReportKept",
    "Reported",
    "Revived",
    "Reworked",
    "Settled",
    "StageClosed",
    "StageOpened",
    "StatusSet",
    "Steered",
    "Yielded",
    "from_bytes",
    "to_bytes",
]


@dataclass(slots=True)
class Record:
    """Base of all records."""

    version: ClassVar[int] = 1
    at: int


@dataclass(slots=True)
class CoordinatorStarted(Record):
    """The coordinator opened this ledger."""

    epoch: int
    namespace: str = ""
    """The namespace of the ledger; empty if written by a version that did not record it."""
    proof_key: str = ""
    """The key that proofs of fences are made with from now on; empty if the ledger has one already."""
    scopes_effects: bool = False
    """Whether tasks made from now on have an effect scope, and earlier ones do not."""


@dataclass(slots=True)
class CoordinatorStopped(Record):
    """The coordinator ended in good order."""

    state_hash: str
    """The hash of the state in memory before this record: a fold of the records up to here has the same."""


@dataclass(slots=True)
class PrincipalBound(Record):
    """The first hello of a principal: from now on it must show its secret."""

    principal: str
    secret_digest: str


@dataclass(slots=True)
class PrincipalUnbound(Record):
    """An operator had the secret forgotten: the next hello of the principal binds it anew."""

    principal: str
    by: str


@dataclass(slots=True)
class AgentRegistered(Record):
    """An agent registered, or registered again."""

    agent: str
    instance: str
    incarnation: int
    card: dict[str, Any]
    labels: dict[str, str]


@dataclass(slots=True)
class StatusSet(Record):
    """An agent, or an operator for it, changed whether it takes offers."""

    agent: str
    status: str
    by: str


@dataclass(slots=True)
class MailboxAcked(Record):
    """The agent has received everything up to this entry."""

    agent: str
    upto: int


@dataclass(slots=True)
class AgentForgotten(Record):
    """An agent is not coming back: its card and its mailbox are dropped."""

    agent: str
    by: str = ""
    """The operator who said so; empty if the agent was away for too long."""


@dataclass(slots=True)
class Delegated(Record):
    """A task was made. Its id follows from the record's position."""

    task: str
    scope: str
    key: str
    delegator: str
    context_id: str
    spec: dict[str, Any]
    spec_hash: str
    durations: dict[str, int | None]
    bounds: dict[str, int]
    payload: bytes
    parent: str | None = None
    on_parent_end: str = "cancel"
    depth: int = 1
    deadline_at: int | None = None
    budget: dict[str, int] | None = None
    on_delegator_loss: str = "continue"
    loss_ms: int = 0
    redrive_of: str | None = None
    terms: dict[str, Any] | None = None
    """For a group: its terms, with the namespace's values at the time where its task names none."""


@dataclass(slots=True)
class Adopted(Record):
    """The same key came again, from another process: notices go there from now on."""

    task: str
    delegator: str


@dataclass(slots=True)
class Offered(Record):
    """An attempt was minted; its fence is the record's position."""

    task: str
    agent: str
    granted: bool
    claims: dict[str, str] | None = None
    """Name to mode of the claims granted with it; their fence is the attempt's."""


@dataclass(slots=True)
class Accepted(Record):
    """An offer became the current lease; the one before it is superseded."""

    task: str
    fence: int


@dataclass(slots=True)
class Declined(Record):
    """The agent did not take the offer."""

    task: str
    fence: int
    reason: str
    retry_at: int
    counted: bool = True
    """Whether it counts against the task's limit of declines; not if the agent is leaving."""
    usage: dict[str, Any] | None = None


@dataclass(slots=True)
class OfferWithdrawn(Record):
    """An offer was not answered in time."""

    task: str
    fence: int
    reason: str


@dataclass(slots=True)
class LeaseExpired(Record):
    """The holder was not heard in time; its fence stays current until it is spent or superseded."""

    task: str
    fence: int
    reason: str
    counted: bool = True
    """Whether it counts against the task's limit of losses; not if the holder was evicted for no fault of its own."""
    progress_no: int = 0
    note: str = ""
    usage: dict[str, Any] | None = None
    """The usage last heard, for the next attempt and the budget."""


@dataclass(slots=True)
class Evicted(Record):
    """The holder is asked to yield the attempt; after `grace_at` it counts as lost."""

    task: str
    fence: int
    reason: str
    grace_at: int


@dataclass(slots=True)
class Revived(Record):
    """The holder of a lapsed lease came back first."""

    task: str
    fence: int


@dataclass(slots=True)
class Yielded(Record):
    """The holder yielded the attempt."""

    task: str
    fence: int
    reason: str
    counted: bool = False
    """Whether it counts against the task's limit of declines; not while the agent drains."""
    usage: dict[str, Any] | None = None
    lost: bool = False
    """Whether it counts against the task's limit of losses: evicted for standing still or taking too long."""


@dataclass(slots=True)
class HandedOff(Record):
    """The holder handed the task off to another agent."""

    task: str
    fence: int
    to: str | None
    requires: dict[str, Any] | None
    payload: bytes | None = None
    usage: dict[str, Any] | None = None


@dataclass(slots=True)
class HandoffLapsed(Record):
    """The agent the task was handed to did not come for it: any agent may have it again."""

    task: str


@dataclass(slots=True)
class Checkpointed(Record):
    """The attempt left a checkpoint."""

    task: str
    fence: int
    cp_no: int
    format: str
    portable: bool
    payload: bytes


@dataclass(slots=True)
class Steered(Record):
    """The delegator said a word while the work is under way."""

    task: str
    key: str
    by: str
    payload: bytes


@dataclass(slots=True)
class ArtifactAppended(Record):
    """A chunk of a provisional artifact."""

    task: str
    fence: int
    artifact: str
    name: str
    chunk_no: int
    append: bool
    last: bool
    payload: bytes


@dataclass(slots=True)
class Asked(Record):
    """The attempt asked a question."""

    task: str
    fence: int
    ask_no: int
    hold: str
    auth: bool
    deadline_at: int
    payload: bytes
    default: bytes | None = None
    usage: dict[str, Any] | None = None
    """What the attempt had used, if the question ends it."""


@dataclass(slots=True)
class Answered(Record):
    """A question was answered."""

    task: str
    ask_no: int
    by: str
    payload: bytes
    rank: int = 0
    """How much its author outranks others; a higher rank replaces an answer nobody has read yet."""
    key: str = ""
    """The id of the A2A message that answered, so that a repeat answers no other question (spec BIND-8)."""


@dataclass(slots=True)
class AnswersRepeated(Record):
    """An agent came back with the attempt as another process, which may not have the answers it was sent."""

    task: str
    fence: int


@dataclass(slots=True)
class Reported(Record):
    """The current attempt ended with this outcome, and its fence is spent."""

    task: str
    fence: int
    agent: str
    outcome: str
    result_hash: str
    payload: bytes
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    retry_at: int | None = None
    """Another attempt follows, not before this time; None: this report ends the attempts."""
    review: bool = False
    """The result waits for the delegator's word."""
    artifacts: list[str] | None = None
    """Streamed artifacts that are part of the result."""
    unseen_steer: bool = False
    """It was written before the delegator's newest word was seen."""
    counted: bool = True
    """If it gives the attempt back: whether it counts against the task's limit of declines, as with `Yielded`."""
    lost: bool = False
    basis: list[dict[str, Any]] | None = None
    """What the result relies on in the task's context: `key`, `rev`."""
    stale_basis: list[dict[str, Any]] | None = None
    """Decisions in the basis that had changed: `key`, `seen`, `current`."""
    patches: list[dict[str, Any]] | None = None
    """What the result patches: `of`, `base`."""


@dataclass(slots=True)
class ReportKept(Record):
    """A report without authority was answered, and kept as evidence."""

    task: str
    fence: int
    agent: str
    verdict: str
    outcome: str
    result_hash: str
    payload: bytes
    usage: dict[str, Any] | None = None


@dataclass(slots=True)
class Reworked(Record):
    """The result was rejected and another revision asked for."""

    task: str
    rev: int
    by: str
    reason_code: str
    payload: bytes


@dataclass(slots=True)
class Classified(Record):
    """A member's result was compared with those before it."""

    task: str
    """The group."""
    member: str
    number: int
    """The class it belongs to; -1: unknown."""
    why: str = ""


@dataclass(slots=True)
class GroupDecided(Record):
    """The group has a result, which one of its members reported."""

    task: str
    member: str
    review: bool
    """Whether it waits for the delegator's word."""
    why: str = ""
    stale_basis: list[dict[str, Any]] | None = None
    """Decisions it relies on that have changed: `key`, `seen`, `current`."""


@dataclass(slots=True)
class ConflictOpened(Record):
    """Things contradict each other. The conflict's id follows from the record's position."""

    conflict: str
    task: str | None
    """The group whose answers differ, or the task whose result relies on a changed decision; else none."""
    kind: str
    rule: str
    ladder: list[dict[str, Any]]
    respond_at: int
    parties: dict[str, str]
    """Agent to its role: `author`, `delegator` or `raiser`."""
    object: str = ""
    """What the conflict is about; for a group, the task."""
    candidates: list[dict[str, Any]] | None = None
    """The contradicting subjects, as they are now; for a group they are its members' answers."""
    terms: dict[str, Any] | None = None
    """The terms by which it is decided: the namespace's current values; a group has its own."""
    blocks: list[str] | None = None
    """Tasks it makes disputed."""
    by: str = ""
    """The agent that raised it, or whose write was refused."""
    claim: str = ""
    name: str = ""
    """Derived from who raised it and its object: the same name is a repeat."""
    write: dict[str, Any] | None = None
    """The parts of a refused write that its candidate does not hold: `name`, `decision`, `guarded`, `reason`."""
    payload: bytes | None = None
    """The raiser's evidence."""


@dataclass(slots=True)
class ConflictJoined(Record):
    """The same conflict was raised again: it is kept with the open one."""

    conflict: str
    by: str
    name: str
    kind: str
    object: str
    claim: str
    subjects: list[dict[str, Any]]
    """What contradicts each other, as this raiser put it."""
    payload: bytes


@dataclass(slots=True)
class ConflictNoted(Record):
    """A contradiction was decided as it was found. The conflict's id follows from the record's position."""

    conflict: str
    kind: str
    rule: str
    object: str
    parties: dict[str, str]
    candidates: list[dict[str, Any]]
    ref: str
    """The candidate that stands."""
    by: str
    rationale: str
    raiser: str = ""
    name: str = ""
    """Derived from who raised it and its object: the same name is a repeat."""
    claim: str = ""
    payload: bytes | None = None


@dataclass(slots=True)
class PositionTaken(Record):
    """A party took a position."""

    conflict: str
    task: str | None
    party: str
    stance: str
    payload: bytes


@dataclass(slots=True)
class PatchesCompared(Record):
    """A result that patches something was compared with another that patches the same."""

    task: str
    other: str
    number: int
    """1: they collide; 0: they do not; -1: unknown."""
    why: str = ""


@dataclass(slots=True)
class StageOpened(Record):
    """The next rung is tried; from the first rung on, no further answer enters."""

    conflict: str
    task: str | None
    number: int
    strategy: str
    until: int
    """When it becomes undecided for lack of time; 0: it needs none."""
    asked: list[str]
    """Tasks made for it, in the order of what they were asked."""
    weights: dict[str, int]


@dataclass(slots=True)
class Merged(Record):
    """The outcome of a job that merges without asking anybody."""

    conflict: str
    number: int
    """The number of the rung."""
    why: str
    payload: bytes | None = None
    """The merge with the changes of both; None: there is none, or it is unknown."""


@dataclass(slots=True)
class StageClosed(Record):
    """A rung came to an outcome: a class, or undecided."""

    conflict: str
    task: str | None
    number: int
    winner: int | None
    why: str
    by: str = ""
    """The person who decided, if one did."""


@dataclass(slots=True)
class ConflictAppealed(Record):
    """A party did not accept the outcome; the ladder goes on above the rung that decided."""

    conflict: str
    task: str | None
    party: str
    ground: str
    payload: bytes


@dataclass(slots=True)
class ConflictResolved(Record):
    """A conflict is over. The records that follow from it are in the same append."""

    conflict: str
    task: str | None
    outcome: str
    ref: str | None
    by: str
    rationale: str


@dataclass(slots=True)
class CancelRequested(Record):
    """Somebody wants the task to end, and an agent is at work on it."""

    task: str
    mode: str
    reason: str
    by: str
    grace_at: int


@dataclass(slots=True)
class Settled(Record):
    """The task has ended."""

    task: str
    state: str
    reason: str = ""
    detail: str = ""
    by: str = ""
    result_hash: str | None = None
    usage: dict[str, Any] | None = None
    """What the holder said it had used, if this answers its last word."""


@dataclass(slots=True)
class ContextWritten(Record):
    """A context was written to; the same key is a repeat from now on."""

    context_id: str
    key: str
    digest: str
    """The hash of the request, to tell a repeat from another write under the same key."""
    by: str
    changes: list[dict[str, Any]]
    """For each key what was asked and what it became: `key`, `if_rev`, `rev`, `value` (None: deleted), the `patch` that
    made it, `decision`, `guarded`."""
    depends: list[dict[str, Any]]
    """The revisions the write depends on: `key`, `rev`."""
    task: str | None = None
    fence: int | None = None
    reason: str = ""
    delegators: list[str] | None = None
    """The principals that delegated the attempt's task and those above it; None if an older version wrote it."""
    is_operator: bool = False
    """Whether its author had the operator's role."""


@dataclass(slots=True)
class ClaimRequested(Record):
    """Somebody may have some names, now or when their turn comes. The record's position identifies the claim."""

    agent: str
    under: str
    """The attempt's fence, or without a task the agent's instance: `claim_no` is unique within it."""
    claim_no: int
    names: dict[str, str]
    task: str | None
    fence: int
    """The fence of the task's attempt; 0 without a task."""
    ttl_ms: int | None
    wait_until: int
    priority: int
    preemptible: bool


@dataclass(slots=True)
class Claimed(Record):
    """A claim was granted; its fence is the record's position."""

    claim: int
    waited: bool
    """Whether its owner was told to wait, and is now told that it was granted."""


@dataclass(slots=True)
class ClaimRenewed(Record):
    """A claim was renewed: it ends `ttl_ms` after this record."""

    claim_fence: int
    ttl_ms: int


@dataclass(slots=True)
class ClaimRecalled(Record):
    """The holder is asked to give a claim back for one of higher priority; at `grace_at` the claim ends."""

    claim_fence: int
    reason: str
    grace_at: int


@dataclass(slots=True)
class ClaimEnded(Record):
    """A claim is no longer held, or no longer waited for."""

    claim: int
    reason: str
    """For a held claim `released`, `ttl`, `preempted` or `ended`; for a waiting one `timeout`, `deadlock`, `ended` or
    `released`."""
    detail: str = ""
    data: dict[str, Any] | None = None
    """With `deadlock`: the `cycle` it was part of."""
    is_told: bool = False
    """Whether its owner waits to hear of it."""


@dataclass(slots=True)
class Refused(Record):
    """A request was refused. For a hello, `agent` is who the peer said it was."""

    agent: str
    kind: str
    code: str
    """The code of the error, or the verdict on a report."""
    detail: str
    task: str | None = None
    """The task it was about, if any."""
    conflict: str | None = None
    times: int = 1
    """How many refusals it stands for: more than one if there were too many to keep each."""


@dataclass(slots=True)
class Archived(Record):
    """Settled tasks left memory. The archive has them, from before this record or together with it."""

    tasks: list[str]


@dataclass(slots=True)
class ConflictsArchived(Record):
    """Closed conflicts left memory. The archive has them, from before this record or together with it."""

    conflicts: list[str]


@dataclass(slots=True)
class Recalled(Record):
    """An archived task is needed again: something is about to be added to it."""

    task: str
    body: bytes
    """Its stored form, as the archive had it: the fold cannot get it from anywhere else."""


@dataclass(slots=True)
class ContextsArchived(Record):
    """Contexts left memory, as nothing goes on in them. The archive has them, from before this record or with it."""

    contexts: list[str]


@dataclass(slots=True)
class ContextRecalled(Record):
    """An archived context is needed again: it may be about to be written."""

    context_id: str
    body: bytes
    """Its stored form, as with `Recalled`."""


RECORDS: dict[str, type[Record]] = {
    record.__name__: record
    for record in (
        CoordinatorStarted,
        CoordinatorStopped,
        PrincipalBound,
        PrincipalUnbound,
        AgentRegistered,
        StatusSet,
        MailboxAcked,
        AgentForgotten,
        Delegated,
        Adopted,
        Offered,
        Accepted,
        Declined,
        OfferWithdrawn,
        LeaseExpired,
        Revived,
        Evicted,
        Yielded,
        HandedOff,
        HandoffLapsed,
        Checkpointed,
        ArtifactAppended,
        Asked,
        Answered,
        AnswersRepeated,
        Steered,
        Reported,
        ReportKept,
        Reworked,
        Classified,
        GroupDecided,
        ConflictOpened,
        ConflictJoined,
        ConflictNoted,
        PositionTaken,
        PatchesCompared,
        StageOpened,
        Merged,
        StageClosed,
        ConflictAppealed,
        ConflictResolved,
        CancelRequested,
        Settled,
        ContextWritten,
        ClaimRequested,
        Claimed,
        ClaimRenewed,
        ClaimRecalled,
        ClaimEnded,
        Refused,
        Archived,
        ConflictsArchived,
        Recalled,
        ContextsArchived,
        ContextRecalled,
    )
}
"""Stored name to class."""

_UPGRADES: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(name, version) to a function that turns the stored fields into those of the next version."""


_NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(item.name for item in fields(kind) if item.name != "payload") for name, kind in RECORDS.items()
}
"""Stored name to the stored fields, in order: a new field goes to the end, with a default."""


_STORED: dict[type[Record], tuple[str, int, Callable[[Record], tuple[Any, ...]]]] = {
    kind: (name, kind.version, attrgetter(*_NAMES[name])) for name, kind in RECORDS.items()
}
"""Class to its stored name, its version, and the getter of the stored values, of which each class has at least two."""

_CHECKED = b"\x00"
"""Marks a stored form with a checksum. A form without one, of an older version, begins with a MessagePack array."""
_LARGE = b"\x01"
"""Marks a stored form whose payload is large, and kept under the hash of its content: the checksum has its length."""
_SUM = 4
"""Bytes of the checksum: CRC-32 of the form and the payload."""


def to_bytes(record: Record) -> tuple[bytes, bytes | None]:
    """Return the record's stored form with its checksum, and its payload, which is stored beside it unchanged."""
    name, version, values_of = _STORED[type(record)]
    form, payload = pack((name, version, values_of(record))), getattr(record, "payload", None)
    mark = _LARGE if payload is not None and len(payload) >= LARGE_BYTES else _CHECKED
    return mark + _checksum(mark, form, payload) + form, payload


def _checksum(mark: bytes, form: bytes, payload: bytes | None) -> bytes:
    checked = payload or b""
    if mark == _LARGE:  # 1 MiB would take 0.4 ms of the loop, and its content is checked again when it is read
        checked = len(checked).to_bytes(8, "big")
    return crc32(checked, crc32(form)).to_bytes(_SUM, "big")


def _checked(body: bytes, payload: bytes | None) -> bytes:
    """Return a stored form without its checksum.

    Raises:
        ValueError: it was changed since it was written. The types of what is read are not checked, so otherwise the
            first code to use it would run into the damage.
    """
    mark, form = body[:1], body[1 + _SUM :]
    if mark not in (_CHECKED, _LARGE):
        return body
    if _checksum(mark, form, payload) != body[1 : 1 + _SUM]:
        raise ValueError("it is not what was written")
    return form


def from_bytes(body: bytes, payload: bytes | None) -> Record:
    """Read a stored record, of this version or an older one.

    Raises:
        ValueError: the bytes are not a record this version knows.
    """
    try:
        name, version, values = unpack(_checked(body, payload))
        kind: type[Any] = RECORDS[name]
        if version > kind.version:
            raise ValueError(f"record {name} has version {version}, this software reads up to {kind.version}")
        named: dict[str, Any] = dict(zip(_NAMES[name], values, strict=False))
        while version < kind.version:
            named = _UPGRADES[name, version](named)
            version += 1
        if payload is not None:
            named["payload"] = payload
        return cast(Record, kind(**named))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a record this version knows: {error}") from error
