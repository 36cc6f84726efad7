"""What a handler returns, and what a machine hands to its shell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import CODES, ErrorCode
from ..protocol.codec import Frame
from ..protocol.messages import Error, Message
from .records import Record

__all__ = ["NOTHING", "Decision", "Ready", "refuse", "reply"]


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


NOTHING = Decision()
"""No record and no reply; shared, so nobody changes it."""


@dataclass(slots=True)
class Ready:
    """Append the records, then send the frames, then close the connections named."""

    records: list[tuple[int, Record]] = field(default_factory=list)
    """(lsn, record), consecutive."""
    frames: list[tuple[int, Frame]] = field(default_factory=list)
    """(connection, frame), in the order they must leave."""
    closes: list[tuple[int, str]] = field(default_factory=list)
    """(connection, reason)."""
    halt: str | None = None
    """Append nothing and send nothing any more: the coordinator has to stop, for this reason."""

    def __bool__(self) -> bool:
        return bool(self.records or self.frames or self.closes or self.halt)


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
