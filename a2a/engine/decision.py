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
    """What must now be true, and what is answered."""

    records: list[Record] = field(default_factory=list)
    reply: Message | None = None
    """Goes to the sender of the request, after the records are durable."""
    close: str | None = None
    """End the sender's connection after the reply, for this reason."""
    halt: str | None = None
    """The ledger is not the one it was: nothing is decided on it, and the shell stops, for this reason."""
    ping: int | None = None
    """Ask on this connection whether somebody is still there."""


NOTHING = Decision()
"""No record and no reply; shared, so nobody changes it."""


What = Literal["task", "conflict", "context"]
"""What the archive has."""


class Row(NamedTuple):
    """What is archived, as it is found."""

    name: str
    """Its id."""
    body: bytes
    """Empty of a task that is gone."""
    beside: Sequence[bytes] = ()
    what: What = "task"
    state: str = ""
    """How a task ended."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked of the archive for one page of tasks: the newest, behind a position, that pass."""

    limit: int
    before: int | None = None
    """Tasks created before this position only."""
    state: str | None = None
    skill: str | None = None
    parent: str | None = None
    context_id: str | None = None
    dead_letter: bool = False
    """Only dead letters."""


@dataclass(frozen=True, slots=True)
class EndedPage:
    """What is asked of the archive for one page of tasks: those that ended last, behind a position, that pass."""

    limit: int
    behind: tuple[int, int] | None = None
    """Tasks that ended before this time, or at it and were created before this position, only."""
    state: str | None = None
    context_id: str | None = None
    since: int = 0
    """Tasks that ended at this time or later only."""
    whole: bool = True
    """Whether what is shown of them needs their payloads; a `Page` never does."""


@dataclass(frozen=True, slots=True)
class ConflictsWanted:
    """What is asked of the archive for one page of conflicts: the newest, behind a position, that pass."""

    limit: int
    before: int | None = None
    """Conflicts that opened before this position only."""
    kind: str | None = None
    object: str | None = None
    task: str | None = None
    """Only those that are about this one."""


@dataclass(eq=False, slots=True)
class Need:
    """What a frame is about and memory has not. Its connection waits until the shell has looked into the archive.

    Or what mail is about, where `is_for_mail`: then nothing waits but that. Of its tasks those in front may be enough.
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
    is_for_mail: bool = False
    bytes_max: int = 0
    """Of mail: where the tasks that were found have so many bytes, no further one is looked up."""


@dataclass(slots=True)
class Called(Decision):
    """What comes of an `a2a.call`. What it shows of a task it shows once the records are true."""

    task: str | None = None
    """The task to answer with; None: the reply says all."""
    waits: bool = False
    """Answer when the task stands still."""
    streams: bool = False
    from_gen: int | None = None
    as_response: bool = False
    """The answer is a SendMessageResponse, which has the task in it; else the task itself."""
    said: Message | None = None
    """What the call was among this protocol's own messages, where that was refused, ..."""
    refusal: Error | None = None
    """... and what it was refused with: this is what is kept of it (spec ERR-5)."""


@dataclass(slots=True)
class Ready:
    """Append the records and what is archived as one, then send the frames, close, and look up what is needed."""

    records: list[tuple[int, Record]] = field(default_factory=list)
    """(lsn, record), consecutive."""
    frames: list[tuple[int, Frame]] = field(default_factory=list)
    """(connection, frame), in the order they must leave."""
    slack: dict[str, int] = field(default_factory=dict)
    """Replies, by the id of their frame, that may be kept back, and for how many milliseconds (spec RPC-7)."""
    closes: list[tuple[int, str]] = field(default_factory=list)
    """(connection, reason)."""
    jobs: list[Job] = field(default_factory=list)
    """What has to be compared or merged; the answer goes to `Coordinator.answered`."""
    archived: list[ArchiveEntry] = field(default_factory=list)
    """Becomes durable with the records, which say that this is to be found there."""
    needs: list[Need] = field(default_factory=list)
    """To be looked up once the records are durable, and answered with `found`."""
    halt: str | None = None
    """Append nothing and send nothing any more: the coordinator has to stop, for this reason."""

    def __bool__(self) -> bool:
        waits = self.needs or self.jobs
        return bool(self.records or self.frames or self.closes or waits or self.halt)


def may_wait(reply: Message) -> bool:
    """Tell whether a reply may be kept back: not where who asked has something to do about it. Spec RPC-7."""
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
    """Answer with an error. A refusal is data: `records` keep what is worth keeping about it."""
    error = Error(code.value, detail, CODES[code].retryable, retry_after_ms, data)
    return Decision(records or [], error)


def no_task(name: str) -> Decision:
    """Refuse a request about a task that is not there."""
    return refuse(ErrorCode.NOT_FOUND, f"there is no task {name}")
