"""A peer's machine for its calls of A2A's operations: answers and streams, over all its connections (spec BIND).

Pure, like its siblings: replies and notices in, changed calls out. The session repeats calls without an answer. A
stream that has begun resumes after a new handshake, from the newest generation that has arrived whole (spec BIND-17);
if its task has ended meanwhile, the task as it is then is its last event. Used by clients.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from ..errors import ErrorCode
from ..protocol.messages import A2ACall, A2AEvent, A2AFault, A2AResult, Error, Message
from ..protocol.session import PeerSession, Reply

__all__ = ["UNSUPPORTED_OPERATION", "Answer", "FollowedCall", "FollowedCalls"]

_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of events kept for a stream's follower: if it falls further behind, the stream ends, and may be resumed."""
UNSUPPORTED_OPERATION = -32004
"""The code that refuses a stream about a task that has ended."""

Answer = A2AResult | A2AFault | A2AEvent


@dataclass(slots=True, eq=False)
class FollowedCall:
    """A called operation, as its caller knows it."""

    call: A2ACall
    newest_only: bool = False
    """Whether only the newest of the answers not taken yet is kept."""
    generation: int = 0
    """The newest generation of the task that has arrived whole: a stream resumes here."""
    task: str = ""
    """The task a stream is about; empty before its first event."""
    values: list[Answer] = field(default_factory=list)
    """Answers not taken yet. An event's generation is the newest that is whole once it has arrived."""
    size: int = 0
    """Bytes of the events among them."""
    refused: Error | None = None
    """Why the call ended early: the coordinator refused it, or cannot be reached."""
    is_over: bool = False
    """Whether the last answer has arrived."""

    def take(self) -> list[Answer]:
        """Return what has arrived since this was last called."""
        values, self.values, self.size = self.values, [], 0
        return values


class FollowedCalls:
    """The operations that one peer called and still cares about."""

    def __init__(self, session: PeerSession) -> None:
        self.session = session
        self.left = 0
        """Calls of this connection that nobody follows: nothing ends a stream before its task ends (spec BIND-18)."""
        self._open: dict[str, FollowedCall] = {}
        """By the request that was answered last or is awaited, on this connection or for the next one."""
        self._refusal: Error | None = None
        """What every call is refused with, until there is a connection again."""

    @property
    def are_open(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._open)

    def make(self, call: A2ACall, *, newest_only: bool = False) -> FollowedCall:
        """Call an operation; the returned record changes as answers arrive. forget() it when nobody cares any more.

        Args:
            call: the operation.
            newest_only: keep only the newest answer of those that nobody has taken yet.

        Raises:
            TooLarge: its payload is larger than the coordinator takes.
        """
        followed = FollowedCall(call, newest_only, generation=call.from_gen or 0)
        if self._refusal is not None:
            followed.refused = self._refusal
        else:
            self._open[self.session.request(call)] = followed
        return followed

    def forget(self, followed: FollowedCall) -> None:
        """Stop following a call. What it was about goes on."""
        for request in [request for request, known in self._open.items() if known is followed]:
            del self._open[request]
            self.left += self.session.is_open
            self.session.forget(request)

    def refuse(self, error: Error, only: Collection[FollowedCall] | None = None) -> list[FollowedCall]:
        """End calls without a last answer, and return them.

        Args:
            error: what their followers are told.
            only: these calls; by default all, and those made before the next connection.
        """
        if only is None:
            self._refusal = error
        ended = [followed for followed in self._open.values() if only is None or followed in only]
        for followed in ended:
            followed.refused = error
            self.forget(followed)
        return ended

    def on_welcome(self) -> None:
        """Resume the streams that had begun; the session itself repeats calls without an answer."""
        self._refusal = None
        self.left = 0
        for request, followed in list(self._open.items()):
            if not self.session.awaits(request):
                del self._open[request]
                call = A2ACall("SubscribeToTask", _named(followed.task), from_gen=followed.generation)
                self._open[self.session.request(call)] = followed

    def on_reply(self, reply: Reply) -> list[FollowedCall]:
        """Take a reply, and return the calls that it has news for."""
        followed, message = self._open.get(reply.re), reply.message
        if followed is None:
            return []
        if isinstance(message, Error):
            del self._open[reply.re]
            followed.refused = message
            return [followed]
        if not followed.task:
            return self._take(reply.re, followed, message)
        if isinstance(message, A2AFault) and message.code == UNSUPPORTED_OPERATION:
            del self._open[reply.re]
            self._open[self.session.request(A2ACall("GetTask", _named(followed.task)))] = followed
            return []
        if isinstance(message, A2AResult):
            generation = json.loads(message.payload).get("metadata", {}).get("generation", followed.generation)
            last = A2AEvent(followed.task, generation, b'{"task":%b}' % message.payload, last=True)
            return self._take(reply.re, followed, last)
        if isinstance(message, A2AEvent) and not message.last:
            return []  # the task as it is: the events that led to it follow
        return self._take(reply.re, followed, message)

    def on_notice(self, message: Message, re: str | None) -> list[FollowedCall]:
        """Take a notice, and return the calls that it has news for."""
        followed = None if re is None else self._open.get(re)
        return [] if re is None or followed is None else self._take(re, followed, message)

    def _take(self, request: str, followed: FollowedCall, message: Message) -> list[FollowedCall]:
        if isinstance(message, A2AEvent):
            followed.task = message.task
            followed.generation = max(followed.generation, _whole_with(message, followed.call.from_gen))
            message = replace(message, generation=followed.generation)
            followed.is_over = message.last
        elif isinstance(message, A2AResult | A2AFault):
            followed.is_over = True
        else:
            return []
        if followed.newest_only:
            followed.take()
        followed.values.append(message)
        followed.size += len(message.payload) if isinstance(message, A2AEvent) else 0
        if followed.is_over:
            del self._open[request]
        elif followed.size > _BYTES_MAX and len(followed.values) > 1:
            detail = f"{followed.size} bytes about task {followed.task} were not read, at most {_BYTES_MAX} are kept"
            followed.refused = Error(ErrorCode.QUOTA, f"{detail}: go on with SubscribeToTask", retryable=True)
            self.forget(followed)
        return [followed]


def _whole_with(event: A2AEvent, from_gen: int | None) -> int:
    """Return the newest generation that is whole once an event has arrived (spec BIND-15, BIND-16)."""
    told = json.loads(event.payload)
    if "task" in told and from_gen is not None:
        return from_gen  # the events that led to it follow
    piece = told.get("artifactUpdate")
    # The status follows the artifacts of a result; a provisional chunk has a generation of its own.
    is_part = piece is not None and not (piece.get("metadata") or {}).get("provisional")
    return event.generation - 1 if is_part else event.generation


def _named(task: str) -> bytes:
    return json.dumps({"id": task}).encode()
