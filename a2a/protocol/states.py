"""The tables of all legal transitions. A missing key is a refusal.

The engine asks `advance` before it records anything, and the ledger asks it again when it applies the record; the
diagrams of the specification are drawn from the tables. Rules that do not fit a table come after it.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "OPEN_ENDED",
    "OUTSIDE",
    "SESSION",
    "TASK",
    "TERMINAL",
    "SessionState",
    "TaskEvent",
    "TaskState",
    "advance",
    "can",
    "outside",
]


class TaskState(StrEnum):
    """The state of a task as the coordinator sees it (spec STATE-1)."""

    BLOCKED = "blocked"
    """Waits for the answers of several agents."""
    DISPUTED = "disputed"
    """Its outcome contradicts something."""
    QUEUED = "queued"
    OFFERED = "offered"
    LEASED = "leased"
    PARKED = "parked"
    CANCELING = "canceling"
    REPORTED = "reported"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


class TaskEvent(StrEnum):
    """Everything that may happen to a task. Each event raises its generation by one."""

    GRANT = "grant"
    """Offered and immediately current: nobody can hold an older lease."""
    OFFER = "offer"
    """Offered while an older, lapsed lease may still come back; current when accepted."""
    ACCEPT = "accept"
    WITHDRAW = "withdraw"
    """The offer was declined, timed out or overtaken."""
    REVIVE = "revive"
    """The holder of a lapsed lease came back before anybody else accepted."""
    EXPIRE = "expire"
    RELEASE = "release"
    """The attempt ended without an outcome, and another follows: yield, retryable failure."""
    DISPUTE = "dispute"
    """Results contradict each other, and nothing settles before that is decided."""
    RESOLVE = "resolve"
    """The dispute is decided, and the result waits for its delegator's word as before."""
    ASK = "ask"
    ANSWER = "answer"
    ANSWER_LATER = "answer_later"
    """Answered while nobody holds the task."""
    REPORT = "report"
    REWORK = "rework"
    REQUEST_CANCEL = "request_cancel"
    COMPLETE = "complete"
    FAIL = "fail"
    REJECT = "reject"
    CANCEL = "cancel"


_S, _E = TaskState, TaskEvent

TERMINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELED, _S.REJECTED})
OPEN_ENDED = frozenset({_S.LEASED, _S.PARKED, _S.CANCELING})
"""States in which an agent may be at work."""

TASK: dict[tuple[TaskState, TaskEvent], TaskState] = {
    (_S.QUEUED, _E.GRANT): _S.LEASED,
    (_S.QUEUED, _E.OFFER): _S.OFFERED,
    (_S.QUEUED, _E.REVIVE): _S.LEASED,
    (_S.QUEUED, _E.RELEASE): _S.QUEUED,
    (_S.QUEUED, _E.REPORT): _S.REPORTED,
    (_S.QUEUED, _E.FAIL): _S.FAILED,
    (_S.QUEUED, _E.CANCEL): _S.CANCELED,
    (_S.BLOCKED, _E.DISPUTE): _S.DISPUTED,
    (_S.BLOCKED, _E.REPORT): _S.REPORTED,
    (_S.BLOCKED, _E.FAIL): _S.FAILED,
    (_S.BLOCKED, _E.CANCEL): _S.CANCELED,
    (_S.DISPUTED, _E.REPORT): _S.REPORTED,
    (_S.DISPUTED, _E.RESOLVE): _S.REPORTED,
    (_S.DISPUTED, _E.FAIL): _S.FAILED,
    (_S.DISPUTED, _E.CANCEL): _S.CANCELED,
    (_S.OFFERED, _E.ACCEPT): _S.LEASED,
    (_S.OFFERED, _E.WITHDRAW): _S.QUEUED,
    (_S.OFFERED, _E.REVIVE): _S.LEASED,
    (_S.OFFERED, _E.RELEASE): _S.QUEUED,
    (_S.OFFERED, _E.REPORT): _S.REPORTED,
    (_S.OFFERED, _E.FAIL): _S.FAILED,
    (_S.OFFERED, _E.CANCEL): _S.CANCELED,
    (_S.LEASED, _E.EXPIRE): _S.QUEUED,
    (_S.LEASED, _E.WITHDRAW): _S.QUEUED,
    (_S.LEASED, _E.RELEASE): _S.QUEUED,
    (_S.LEASED, _E.ASK): _S.PARKED,
    (_S.LEASED, _E.REPORT): _S.REPORTED,
    (_S.LEASED, _E.REQUEST_CANCEL): _S.CANCELING,
    (_S.LEASED, _E.FAIL): _S.FAILED,
    (_S.LEASED, _E.CANCEL): _S.CANCELED,
    (_S.PARKED, _E.EXPIRE): _S.PARKED,
    (_S.PARKED, _E.RELEASE): _S.PARKED,
    (_S.PARKED, _E.ASK): _S.PARKED,
    (_S.PARKED, _E.ANSWER): _S.LEASED,
    (_S.PARKED, _E.ANSWER_LATER): _S.QUEUED,
    (_S.PARKED, _E.REPORT): _S.REPORTED,
    (_S.PARKED, _E.REQUEST_CANCEL): _S.CANCELING,
    (_S.PARKED, _E.FAIL): _S.FAILED,
    (_S.PARKED, _E.CANCEL): _S.CANCELED,
    (_S.CANCELING, _E.REPORT): _S.REPORTED,
    (_S.CANCELING, _E.FAIL): _S.FAILED,
    (_S.CANCELING, _E.CANCEL): _S.CANCELED,
    (_S.REPORTED, _E.DISPUTE): _S.DISPUTED,
    (_S.REPORTED, _E.COMPLETE): _S.COMPLETED,
    (_S.REPORTED, _E.REWORK): _S.QUEUED,
    (_S.REPORTED, _E.FAIL): _S.FAILED,
    (_S.REPORTED, _E.REJECT): _S.REJECTED,
    (_S.REPORTED, _E.CANCEL): _S.CANCELED,
}


def advance(state: TaskState, event: TaskEvent) -> TaskState:
    """Return the state after `event`.

    Raises:
        KeyError: the table has no such transition. The engine refuses before that.
    """
    return TASK[state, event]


def can(state: TaskState, event: TaskEvent) -> bool:
    """Tell whether `event` is legal in `state`."""
    return (state, event) in TASK


OUTSIDE: dict[TaskState, str] = {
    _S.BLOCKED: "TASK_STATE_WORKING",
    _S.DISPUTED: "TASK_STATE_WORKING",
    _S.QUEUED: "TASK_STATE_SUBMITTED",
    _S.OFFERED: "TASK_STATE_SUBMITTED",
    _S.LEASED: "TASK_STATE_WORKING",
    _S.PARKED: "TASK_STATE_INPUT_REQUIRED",
    _S.CANCELING: "TASK_STATE_WORKING",
    _S.REPORTED: "TASK_STATE_WORKING",
    _S.COMPLETED: "TASK_STATE_COMPLETED",
    _S.FAILED: "TASK_STATE_FAILED",
    _S.CANCELED: "TASK_STATE_CANCELED",
    _S.REJECTED: "TASK_STATE_REJECTED",
}
"""The state A2A shows for each, if nobody has worked on the task yet."""


def outside(state: TaskState, *, was_leased: bool) -> str:
    """Return the A2A state. It never goes back from WORKING to SUBMITTED, so history decides (spec STATE-3)."""
    shown = OUTSIDE[state]
    return "TASK_STATE_WORKING" if was_leased and shown == "TASK_STATE_SUBMITTED" else shown


class SessionState(StrEnum):
    """The state of one connection."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


SESSION: dict[tuple[SessionState, str], SessionState] = {
    (SessionState.GREETING, "hello"): SessionState.GREETING,
    (SessionState.GREETING, "welcome"): SessionState.OPEN,
    (SessionState.GREETING, "error"): SessionState.CLOSED,
    (SessionState.OPEN, "bye"): SessionState.CLOSED,
}
"""The messages that change a connection's state; before the welcome, every other kind is refused."""
