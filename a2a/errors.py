"""The error tree, and the one table that ties wire codes to classes.

    A2AError
    ├── ProtocolError
    │   ├── LocalProtocolError      this side broke a rule of the protocol: a bug here
    │   └── RemoteProtocolError     the other side did
    ├── ConnectError                no coordinator reached, or it did not let us in
    ├── ConnectionLost              the link ended for good while something waited on it
    ├── Refused                     the coordinator answered `error`; `code` says why, one subclass for each code
    ├── TaskError                   a delegated task ended without a result
    │   ├── TaskFailed
    │   ├── TaskRejected
    │   └── TaskCanceled
    ├── StaleBasis                  a result relies on decisions that have moved since
    ├── Overruled                   a conflict went against a result
    ├── ClaimLost                   a claim is no longer held: no further outside effects
    │   └── FencedOff               the resource itself has seen a higher fence, and refused
    ├── BranchMoved                 a guarded git branch is not where it was expected
    ├── AttemptError                raised inside a handler, or by it
    │   ├── AttemptFailed           a handler gives up on this attempt
    │   ├── Declined                a handler hands the attempt back untouched
    │   ├── HandedOff               a handler has handed its task on to another agent
    │   └── LeaseLapsed             the lease may have ended: no further outside effects
    └── StoreError
        ├── StoreLocked
        ├── StoreCorrupt
        ├── StoreTooNew
        ├── StoreOutdated           an older copy was restored, and an agent works on what came after it
        ├── StoreTooOld             too old to read; a start brings it up to date
        └── StoreConflict           an append expected another end of the log

Only `Refused` travels: its code is from the closed list of spec section ERR.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "CODES",
    "FAULTS",
    "A2AError",
    "AlreadyAnswered",
    "AttemptError",
    "AttemptFailed",
    "BranchMoved",
    "BudgetExceeded",
    "ClaimLost",
    "CodeFacts",
    "Conflict",
    "ConnectError",
    "ConnectionLost",
    "Cycle",
    "DeadlinePassed",
    "Deadlock",
    "Declined",
    "Denied",
    "ErrorCode",
    "FencedOff",
    "Forbidden",
    "Frozen",
    "GenerationMismatch",
    "Gone",
    "HandedOff",
    "IdempotencyMismatch",
    "LeaseLapsed",
    "LocalProtocolError",
    "Malformed",
    "NoCapableAgent",
    "NotCancelable",
    "NotFound",
    "NotHolder",
    "Overruled",
    "ProtocolError",
    "QuotaExceeded",
    "Refused",
    "RemoteProtocolError",
    "SchemaMismatch",
    "StaleBasis",
    "StaleFence",
    "StoreConflict",
    "StoreCorrupt",
    "StoreError",
    "StoreLocked",
    "StoreOutdated",
    "StoreTooNew",
    "StoreTooOld",
    "TaskCanceled",
    "TaskError",
    "TaskFailed",
    "TaskRejected",
    "TooDeep",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedKind",
    "VersionRefused",
    "leaves",
    "raised_at",
]


class ErrorCode(StrEnum):
    """The closed list of codes an `error` message may carry (spec ERR-1)."""

    VERSION = "version"
    UNSUPPORTED_KIND = "unsupported_kind"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    MALFORMED = "malformed"
    SCHEMA = "schema"
    NOT_FOUND = "not_found"
    GONE = "gone"
    STALE = "stale"
    NOT_HOLDER = "not_holder"
    GENERATION_MISMATCH = "generation_mismatch"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    CONFLICT = "conflict"
    DENIED = "denied"
    DEADLOCK = "deadlock"
    CYCLE = "cycle"
    DEPTH = "depth"
    BUDGET = "budget"
    QUOTA = "quota"
    NO_CAPABLE_AGENT = "no_capable_agent"
    DEADLINE = "deadline"
    TOO_LARGE = "too_large"
    ALREADY_ANSWERED = "already_answered"
    NOT_CANCELABLE = "not_cancelable"
    FROZEN = "frozen"
    UNAVAILABLE = "unavailable"


class A2AError(Exception):
    """Everything this package raises on purpose."""


class ProtocolError(A2AError):
    """A rule of the protocol was broken."""


class LocalProtocolError(ProtocolError):
    """This side tried something the protocol does not allow here."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something the protocol does not allow here."""


class ConnectError(A2AError):
    """No session was established: nobody listens, the name is wrong, or the coordinator refused the handshake.

    Attributes:
        is_final: trying again will not help, as with an invalid address.
        is_absent: there is no coordinator: nothing listens, or something else does.
    """

    def __init__(self, detail: str, *, is_final: bool = False, is_absent: bool = False) -> None:
        super().__init__(detail)
        self.is_final = is_final
        self.is_absent = is_absent


class ConnectionLost(A2AError):
    """The link was closed for good before an answer came."""


class Refused(A2AError):
    """The coordinator answered a request with `error`.

    Attributes:
        code: one of the closed list.
        detail: a sentence for a person: what was expected, what came, and which id.
        retryable: whether the same request may succeed later.
        retry_after: seconds to wait before trying again, if the coordinator named them.
        data: further fields of the error body, such as the answer that already counts.
    """

    code: ClassVar[ErrorCode]

    def __init__(
        self,
        detail: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retryable = retryable
        self.retry_after = retry_after
        self.data = data or {}

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class VersionRefused(Refused):
    """There is no version of the protocol that both ends speak."""

    code = ErrorCode.VERSION


class UnsupportedKind(Refused):
    """The receiver does not accept this kind of message."""

    code = ErrorCode.UNSUPPORTED_KIND


class Unauthenticated(Refused):
    """The token or the secret is missing or wrong."""

    code = ErrorCode.AUTH


class Forbidden(Refused):
    """This principal may not do that."""

    code = ErrorCode.FORBIDDEN


class Malformed(Refused):
    """The message does not have the form that the protocol requires."""

    code = ErrorCode.MALFORMED


class SchemaMismatch(Refused):
    """The content does not match its schema."""

    code = ErrorCode.SCHEMA


class NotFound(Refused):
    """There is no such task, agent or question."""

    code = ErrorCode.NOT_FOUND


class Gone(Refused):
    """It was there and has been pruned."""

    code = ErrorCode.GONE


class StaleFence(Refused):
    """The fence is no longer current."""

    code = ErrorCode.STALE


class NotHolder(Refused):
    """The fence is somebody else's."""

    code = ErrorCode.NOT_HOLDER


class GenerationMismatch(Refused):
    """The task has moved on since."""

    code = ErrorCode.GENERATION_MISMATCH


class IdempotencyMismatch(Refused):
    """The key stands for another specification or input."""

    code = ErrorCode.IDEMPOTENCY_MISMATCH


class Conflict(Refused):
    """The request does not fit the current state."""

    code = ErrorCode.CONFLICT


class Denied(Refused):
    """The request was denied for now."""

    code = ErrorCode.DENIED


class Deadlock(Refused):
    """The wait would never end."""

    code = ErrorCode.DEADLOCK


class Cycle(Refused):
    """The same work is already on the path from the root."""

    code = ErrorCode.CYCLE


class TooDeep(Refused):
    """The tree would be too deep."""

    code = ErrorCode.DEPTH


class BudgetExceeded(Refused):
    """The budget does not allow the request."""

    code = ErrorCode.BUDGET


class QuotaExceeded(Refused):
    """There are too many of these already."""

    code = ErrorCode.QUOTA


class NoCapableAgent(Refused):
    """No agent can do it."""

    code = ErrorCode.NO_CAPABLE_AGENT


class DeadlinePassed(Refused):
    """The deadline has passed."""

    code = ErrorCode.DEADLINE


class TooLarge(Refused):
    """The message or payload is larger than the receiver accepts."""

    code = ErrorCode.TOO_LARGE


class AlreadyAnswered(Refused):
    """Another answer already counts."""

    code = ErrorCode.ALREADY_ANSWERED


class NotCancelable(Refused):
    """The task has already ended in another way."""

    code = ErrorCode.NOT_CANCELABLE


class Frozen(Refused):
    """It accepts no more changes."""

    code = ErrorCode.FROZEN


class Unavailable(Refused):
    """The coordinator cannot do it now. If `retryable`, it was already asked for ten seconds, with pauses."""

    code = ErrorCode.UNAVAILABLE


class TaskError(A2AError):
    """A delegated task ended without a usable result.

    Attributes:
        task: the id of the task.
        reason: why it ended, in the coordinator's word (`error`, `losses`, `deadline`, ...).
        detail: what the agent or the delegator said about it.
    """

    def __init__(self, task: str, reason: str, detail: str = "") -> None:
        super().__init__(f"task {task}: {reason}" + (f": {detail}" if detail else ""))
        self.task = task
        self.reason = reason
        self.detail = detail


class TaskFailed(TaskError):
    """The task ended in the state `failed`."""


class TaskRejected(TaskError):
    """The task ended in the state `rejected`: an agent refused to do it."""


class TaskCanceled(TaskError):
    """The task ended in the state `canceled`."""


class StaleBasis(A2AError):
    """The result relies on decisions of its context that had moved when it was reported: confirm or reject it.

    Say it with `confirm` or `reject` of the task, which has not ended.

    Attributes:
        task: the id of the task.
        value: the result.
        moved: the decisions: key to (revision that was seen, revision at the report).
    """

    def __init__(self, task: str, value: Any, moved: dict[str, tuple[int, int]]) -> None:
        shown = ", ".join(
            f"{key} (revision {seen} was seen, {current} is current)" for key, (seen, current) in moved.items()
        )
        super().__init__(f"the result of task {task} relies on keys that have moved: {shown}; confirm or reject it")
        self.task = task
        self.value = value
        self.moved = moved


class Overruled(A2AError):
    """A conflict went against the result: confirm or reject it, because silence does not accept it.

    Say it with `confirm` or `reject` of the task, which has not ended.

    Attributes:
        task: the id of the task.
        value: the result.
        conflict: the id of the conflict, which `client.conflict` shows.
    """

    def __init__(self, task: str, value: Any, conflict: str) -> None:
        super().__init__(f"the result of task {task} was overruled by conflict {conflict}; confirm or reject it")
        self.task = task
        self.value = value
        self.conflict = conflict


class ClaimLost(A2AError):
    """A claim is, or may be, no longer held: change nothing outside that it was for."""


class FencedOff(ClaimLost):
    """A guarded resource has seen a higher fence: somebody else holds the claim now, and nothing was written.

    Attributes:
        resource: the resource that refused.
        fence: the fence that was shown.
        seen: the greatest fence it had seen before.
    """

    def __init__(self, resource: str, fence: int, seen: int) -> None:
        super().__init__(f"{resource} has seen fence {seen} and refuses {fence}")
        self.resource = resource
        self.fence = fence
        self.seen = seen


class BranchMoved(A2AError):
    """A guarded git branch is not where it was expected: somebody moved it under the same or an older claim."""


class AttemptError(A2AError):
    """An error about the attempt a handler is working on."""


class AttemptFailed(AttemptError):
    """Raise it in a handler to report that this attempt failed.

    Args:
        detail: what went wrong, for the delegator to read.
        code: a short machine-readable word of your own.
        retryable: whether another attempt may do better; if not, the task fails at once.
    """

    def __init__(self, detail: str, *, code: str = "error", retryable: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.error_code = code
        self.retryable = retryable


_REASONS_TO_DECLINE = ("busy", "unsupported", "policy", "budget", "conflict_of_interest")
_RETRY_AFTER_MAX = 10 * 366 * 86_400


class Declined(AttemptError):
    """Raise it at the start of a handler to hand the task back before any work was done.

    Args:
        reason: `busy`, `unsupported`, `policy`, `budget` or `conflict_of_interest`.
        retry_after: seconds in which this agent does not want to see the task again.

    Raises:
        ValueError: the reason is not one of these, or the time is not valid.
    """

    def __init__(self, reason: str = "unsupported", *, retry_after: float = 1.0) -> None:
        if reason not in _REASONS_TO_DECLINE:
            raise ValueError(f"reason: expected {', '.join(_REASONS_TO_DECLINE)}, got {reason!r}")
        given: object = retry_after
        if not isinstance(given, int | float) or not 0 <= given <= _RETRY_AFTER_MAX:
            raise ValueError(f"retry_after: expected 0 to {_RETRY_AFTER_MAX} seconds, got {given!r}")
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class HandedOff(AttemptError):
    """Ends a handler that has handed its task on; raised by `TaskContext.hand_off`, and must not be caught."""


class LeaseLapsed(AttemptError):
    """The lease may have ended, so another agent may hold the task: change nothing outside any longer."""


class StoreError(A2AError):
    """The ledger could not be kept."""


class StoreLocked(StoreError):
    """Another process has this ledger open."""


class StoreCorrupt(StoreError):
    """The ledger is damaged; it was left unchanged."""


class StoreTooNew(StoreError):
    """The ledger was written by a newer version of this software."""


class StoreOutdated(StoreError):
    """The ledger is an older copy: an agent works on something that came after it (spec DURABLE-7)."""


class StoreTooOld(StoreError):
    """An older version of this software wrote the ledger: no reader can use it until a start brings it up to date."""


class StoreConflict(StoreError):
    """The log does not end where the append expected: somebody else wrote, or an entry is missing."""


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """What an error code means at every border."""

    error: type[Refused]
    retryable: bool
    """Whether the same request may succeed later, unless the message says otherwise."""
    http: int
    jsonrpc: int
    """A2A's own code (-320xx) if it has one for the case, else JSON-RPC's."""


CODES: dict[ErrorCode, CodeFacts] = {
    facts.error.code: facts
    for facts in (
        CodeFacts(VersionRefused, False, 426, -32009),
        CodeFacts(UnsupportedKind, False, 501, -32004),
        CodeFacts(Unauthenticated, False, 401, -32600),
        CodeFacts(Forbidden, False, 403, -32600),
        CodeFacts(Malformed, False, 400, -32600),
        CodeFacts(SchemaMismatch, False, 422, -32602),
        CodeFacts(NotFound, False, 404, -32001),
        CodeFacts(Gone, False, 410, -32001),
        CodeFacts(StaleFence, False, 409, -32600),
        CodeFacts(NotHolder, False, 403, -32600),
        CodeFacts(GenerationMismatch, True, 409, -32600),
        CodeFacts(IdempotencyMismatch, False, 409, -32600),
        CodeFacts(Conflict, True, 409, -32600),
        CodeFacts(Denied, True, 409, -32600),
        CodeFacts(Deadlock, True, 409, -32600),
        CodeFacts(Cycle, False, 409, -32600),
        CodeFacts(TooDeep, False, 409, -32600),
        CodeFacts(BudgetExceeded, False, 409, -32600),
        CodeFacts(QuotaExceeded, True, 429, -32603),
        CodeFacts(NoCapableAgent, True, 503, -32603),
        CodeFacts(DeadlinePassed, False, 504, -32603),
        CodeFacts(TooLarge, False, 413, -32600),
        CodeFacts(AlreadyAnswered, False, 409, -32600),
        CodeFacts(NotCancelable, False, 409, -32002),
        CodeFacts(Frozen, False, 409, -32600),
        CodeFacts(Unavailable, True, 503, -32603),
    )
}
"""Every code, the class a client raises for it, and what it becomes at an HTTP or JSON-RPC border."""

FAULTS: dict[int, str] = {
    -32700: "JSONParseError",
    -32600: "InvalidRequestError",
    -32601: "MethodNotFoundError",
    -32602: "InvalidParamsError",
    -32603: "InternalError",
    -32001: "TaskNotFoundError",
    -32002: "TaskNotCancelableError",
    -32003: "PushNotificationNotSupportedError",
    -32004: "UnsupportedOperationError",
    -32005: "ContentTypeNotSupportedError",
    -32006: "InvalidAgentResponseError",
    -32007: "ExtendedAgentCardNotConfiguredError",
    -32008: "ExtensionSupportRequiredError",
    -32009: "VersionNotSupportedError",
}
"""JSON-RPC's and A2A's codes, with their names in A2A 1.0.1 (spec BIND-13)."""


def leaves(error: BaseException) -> list[BaseException]:
    """Return what was raised, without the groups that task groups wrap around it, however deep."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


def raised_at(error: BaseException, importer: str) -> str:
    """Return `FILE:LINE: ` of an error of an imported module; empty for one that says its place, or has none.

    Args:
        error: the error.
        importer: the file that imported the module.
    """
    if isinstance(error, SyntaxError):
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    inside = [frame for frame in frames if frame.filename != importer]
    return f"{inside[-1].filename}:{inside[-1].lineno}: " if inside else ""
