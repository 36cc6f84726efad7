"""What a handler returns, and what a machine hands to its shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..errors import CODES, ErrorCode
from ..protocol.codec import Frame
from ..protocol.messages import Error, Message, TaskCreated
from .archived import ArchiveEntry
from .conflicts.bench import Job
from .records import Record

__all__ = [
    "NOTHING",
    "Called",
    "ConflictsWanted",
    "Decision",
    "EndedPage",
    "Need",
    "Page",
    "Ready",
    "Row",
    "What",
    "no_task",
    "refuse",
    "reply",
]


@dataclass(slots=True)
class Decision:
    """What is to become true, and what is answered."""

    records: list[Record] = field(default_factory=list)
    reply: Message | None = None
    """Sent to the sender of the request, after the records are durable."""
    close: str | None = None
    """End the sender's connection after the reply, for this reason."""
    halt: str | None = None
    """Why the ledger is not the one it was: nothing is decided on it, and the shell stops."""
    ping: int | None = None
    """The connection on which to ask whether somebody is still there."""


NOTHING = Decision()
"""No record and no reply; shared, so nobody may change it."""


What = Literal["task", "conflict", "context"]
"""What the archive keeps."""


class Row(NamedTuple):
    """One archived object, as it was found."""

    name: str
    """Its id."""
    body: bytes
    """Empty for a task that is gone."""
    beside: Sequence[bytes] = ()
    what: What = "task"
    state: str = ""
    """How a task ended."""


@dataclass(frozen=True, slots=True)
class Page:
    """A request to the archive for one page of tasks: the newest before a position that pass."""

    limit: int
    before: int | None = None
    """Only tasks created before this position."""
    state: str | None = None
    skill: str | None = None
    parent: str | None = None
    context_id: str | None = None
    dead_letter: bool = False
    """Only dead letters."""


@dataclass(frozen=True, slots=True)
class EndedPage:
    """A request to the archive for one page of tasks: those that ended last, before a position, that pass."""

    limit: int
    behind: tuple[int, int] | None = None
    """Only tasks that ended before this time, or ended at it and were created before this position."""
    state: str | None = None
    context_id: str | None = None
    since: int = 0
    """Only tasks that ended at this time or later."""
    whole: bool = True
    """Whether the view of the tasks needs their payloads; a `Page` never does."""


@dataclass(frozen=True, slots=True)
class ConflictsWanted:
    """A request to the archive for one page of conflicts: the newest before a position that pass."""

    limit: int
    before: int | None = None
    """Only conflicts that opened before this position."""
    kind: str | None = None
    object: str | None = None
    task: str | None = None
    """Only conflicts about this task."""


@dataclass(eq=False, slots=True)
class Need:
    """What a frame is about and memory does not have. Its connection waits until the shell has looked in the archive.

    With `is_for_mail`, what mail is about: then only the mail waits. The first few of its tasks may be enough.
    """

    connection: int
    tasks: tuple[str, ...] = ()
    key: tuple[str, str] | None = None
    """(scope, key) that a task may have had."""
    page: Page | None = None
    ended: EndedPage | None = None
    conflict: str | None = None
    conflicts: ConflictsWanted | None = None
    contexts: tuple[str, ...] = ()
    staying: tuple[str, ...] = ()
    """Tasks and contexts that the frame is about as well, and that memory has: they do not leave it meanwhile."""
    is_for_mail: bool = False
    bytes_max: int = 0
    """For mail: once the tasks found have this many bytes, no further one is looked up."""


@dataclass(slots=True)
class Called(Decision):
    """The outcome of an `a2a.call`. What it shows of a task is shown after the records are applied."""

    task: str | None = None
    """The task to answer with; None: the reply says everything."""
    waits: bool = False
    """Whether to answer only when the task stands still."""
    streams: bool = False
    from_gen: int | None = None
    as_response: bool = False
    """Whether the answer is a SendMessageResponse with the task in it; else it is the task itself."""
    said: Message | None = None
    """The call as one of this protocol's own messages, if that was refused."""
    refusal: Error | None = None
    """What it was refused with: this is what is kept of the call (spec ERR-5)."""


@dataclass(slots=True)
class Ready:
    """Append the records and the archived objects as one, then send the frames, close, and look up what is needed."""

    records: list[tuple[int, Record]] = field(default_factory=list)
    """(lsn, record), consecutive."""
    frames: list[tuple[int, Frame]] = field(default_factory=list)
    """(connection, frame), in the order they must leave."""
    slack: dict[str, int] = field(default_factory=dict)
    """Ids of reply frames that may be kept back, with the time in milliseconds (spec RPC-7)."""
    closes: list[tuple[int, str]] = field(default_factory=list)
    """(connection, reason)."""
    jobs: list[Job] = field(default_factory=list)
    """Comparisons and merges to do; each answer goes to `Coordinator.answered`."""
    archived: list[ArchiveEntry] = field(default_factory=list)
    """Becomes durable with the records that say that it is in the archive."""
    needs: list[Need] = field(default_factory=list)
    """Look-ups to do once the records are durable; each is answered with `found`."""
    halt: str | None = None
    """Why the coordinator has to stop: append nothing and send nothing any more."""

    def __bool__(self) -> bool:
        waits = self.needs or self.jobs
        return bool(self.records or self.frames or self.closes or waits or self.halt)


def may_wait(reply: Message) -> bool:
    """Tell whether a reply may be kept back: not if the sender has to act on it. Spec RPC-7."""
    return not isinstance(reply, Error) and (not isinstance(reply, TaskCreated) or reply.created)


def reply(message: Message, *records: Record) -> Decision:
    """Decide `records` and answer with `message`."""
    return Decision(list(records), message)


def refuse(
    code: ErrorCode,
    detail: str,
    *,
    retry_after_ms: int | None = None,
    data: dict[str, Any] | None = None,
    records: list[Record] | None = None,
) -> Decision:
    """Answer with an error. A refusal is data: `records` hold what is worth keeping of it."""
    error = Error(code.value, detail, CODES[code].retryable, retry_after_ms, data)
    return Decision(records or [], error)


def no_task(name: str) -> Decision:
    """Refuse a request about a task that does not exist."""
    return refuse(ErrorCode.NOT_FOUND, f"there is no task {name}")
