"""A peer's session with its coordinator, sans-I/O: handshake, outbox of requests, mailbox cursor.

The session outlives connections. A request stays in the outbox until its reply arrives, and is sent again after every
new handshake; a mailbox entry that arrives twice is seen once. The session knows neither transports nor tasks: it turns
frames into events for its owner, and its owner's messages into frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ErrorCode, LocalProtocolError, RemoteProtocolError, TooLarge
from .canonical import NUMBER_MAX
from .codec import BadFrame, Frame
from .messages import (
    REQUESTS,
    A2AEvent,
    A2AFault,
    AgentEvent,
    Bye,
    ContextEventNotice,
    ContextWrite,
    Credit,
    Error,
    HeldStill,
    Hello,
    MailboxAck,
    Message,
    Ping,
    Pong,
    Resume,
    TaskEventNotice,
    TaskLease,
    TaskRevoke,
    Unknown,
    Welcome,
)
from .states import SESSION, SessionState
from .version import FEATURES, OLDEST, SPOKEN, agree

__all__ = [
    "REPLY_SLACK_MS",
    "UNDER_WAY_MAX",
    "Event",
    "Identity",
    "Left",
    "Notice",
    "PeerSession",
    "Reply",
    "TurnedAway",
    "Welcomed",
]


@dataclass(slots=True)
class Identity:
    """The peer's ids, and the secrets it shows."""

    agent_id: str
    instance_id: str
    incarnation: int
    token: str = field(default="", repr=False)
    secret: str | None = field(default=None, repr=False)
    """Set by the session if a welcome issues one; the owner keeps it for the next start."""
    operator_token: str | None = field(default=None, repr=False)
    card: dict[str, Any] | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Welcomed:
    """The handshake succeeded; the outbox is being sent again."""

    welcome: Welcome


@dataclass(slots=True)
class TurnedAway:
    """The coordinator refused the handshake."""

    error: Error


@dataclass(slots=True)
class Reply:
    """The answer to a request."""

    re: str
    request: Message
    message: Message


@dataclass(slots=True)
class Notice:
    """A message that the coordinator sends unasked: a mailbox entry, or a volatile frame."""

    message: Message
    re: str | None = None
    """The id of the watch it belongs to, if any."""


@dataclass(slots=True)
class Left:
    """The coordinator is about to close the connection."""

    reason: str


Event = Welcomed | TurnedAway | Reply | Notice | Left

REPLY_SLACK_MS = 250
"""How long the reply may be kept back if the request's owner goes on without it. The next message mostly comes sooner,
and takes the reply along in front of it."""
UNDER_WAY_MAX = 8 * 1024 * 1024
"""Bytes of requests that may be without a reply on one connection, unless a single one is larger; further ones wait. A
transport keeps a bounded number of bytes, and would end each connection on which more is sent at once."""
_ACK_SHARE = 8
"""An acknowledgement is due once it covers this fraction of the frames that may be under way."""
_VOLATILE = (
    *(TaskEventNotice, ContextEventNotice, AgentEvent, A2AEvent, A2AFault),
    *(TaskLease, TaskRevoke, Error, Pong),
)


def _never(_id: str, _request: Message, _error: Error) -> bool:
    return False


class PeerSession:
    """One peer's side of its session.

    Args:
        identity: who the peer is.
        new_id: returns a fresh frame id; the session itself draws no random bits.
        credit: how much the peer takes on.
        held: returns the attempts still under way, for the hello.
        puts_off: gets a request's id, the request and the error that answers it, and tells whether the owner will send
            it again with `say_again`; then the session still waits for a reply, and returns no `Reply`.
    """

    def __init__(
        self,
        identity: Identity,
        new_id: Callable[[], str],
        *,
        credit: Credit | None = None,
        held: Callable[[], list[HeldStill]] = list,
        puts_off: Callable[[str, Message, Error], bool] = _never,
    ) -> None:
        self.identity = identity
        self.state = SessionState.CLOSED
        self.welcome: Welcome | None = None
        self.credit = credit or Credit()
        self._new_id = new_id
        self._held = held
        self._puts_off = puts_off
        self._outbox: dict[str, Frame] = {}
        self._forgotten: dict[str, int] = {}
        """Requests sent on this connection whose reply nobody waits for any longer, with their bytes."""
        self._later: dict[str, Frame] = {}
        """Requests that wait for room, in order."""
        self._put_off: set[str] = set()
        """Requests that were refused on this connection and wait until their owner sends them again."""
        self._under_way = 0
        """Bytes of the requests sent on this connection that have no reply yet."""
        self._sent_before: frozenset[str] = frozenset()
        """Requests sent on an earlier connection that had no reply when it ended."""
        self._out: list[Frame] = []
        self._hello_id = ""
        self._hello_credit = self.credit
        self._cursor = 0
        self._acked = 0

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done and the connection still stands, as far as is known."""
        return self.state is SessionState.OPEN

    @property
    def waiting(self) -> int:
        """How many requests have no reply yet."""
        return len(self._outbox)

    def awaits(self, request: str) -> bool:
        """Tell whether a request has no reply yet, and somebody waits for it."""
        return request in self._outbox

    # What the owner says ----------------------------------------------------------------------------------------------

    def request(self, message: Message, *, ttl_ms: int | None = None, slack_ms: int | None = None) -> str:
        """Put a request into the outbox and return its id; its `Reply` has the same id.

        Args:
            message: the request.
            ttl_ms: the request's time left.
            slack_ms: how long its owner can do without the reply (spec RPC-7).

        Raises:
            LocalProtocolError: this kind of message gets no reply.
            TooLarge: its payload is larger than the coordinator accepts (spec LIMIT-1).
        """
        if type(message) not in REQUESTS:
            raise LocalProtocolError(f"{message.kind} gets no reply; say it with tell()")
        if excess := self.excess(message):
            raise TooLarge(excess)
        frame = Frame(self._new_id(), message, ttl_ms=ttl_ms, slack_ms=slack_ms)
        self._outbox[frame.id] = frame
        if self.is_open:
            self._send([frame])
        return frame.id

    def _send(self, requests: Iterable[Frame]) -> None:
        """Send requests, after those that wait for room."""
        for request in requests:
            size = _size(request.message)
            if self._later or not self._has_room(size):
                self._later[request.id] = request
            else:
                self._under_way += size
                self._out.append(request)

    def _has_room(self, size: int) -> bool:
        return not self._under_way or self._under_way + size <= UNDER_WAY_MAX

    def _answered(self, size: int) -> None:
        """Note that a request of this many bytes has its reply, which makes room for others."""
        self._under_way -= size
        while self._later:
            request = next(iter(self._later.values()))
            size = _size(request.message)
            if not self._has_room(size):
                return
            del self._later[request.id]
            self._under_way += size
            self._out.append(request)

    def excess(self, message: Message) -> str:
        """Return in words how far a payload exceeds the coordinator's limit, or an empty text (spec LIMIT-1)."""
        size, most = len(getattr(message, "payload", None) or b""), self.payload_max
        if size <= most:
            return ""
        return f"{message.kind}: expected a payload of at most {most} bytes, this has {size}"

    @property
    def payload_max(self) -> int:
        """The most bytes a payload may have; not limited before the first welcome tells."""
        return NUMBER_MAX if self.welcome is None else self.welcome.limits.payload_max_bytes

    def unsendable(self, frame: Frame, code: ErrorCode, reason: str) -> list[Event]:
        """Note that a frame cannot be sent. A request is answered here, because it would be tried again forever."""
        if frame.id == self._hello_id:
            return [TurnedAway(Error(code, f"the hello cannot be sent: {reason}"))]
        if frame.id in self._forgotten:
            self._answered(self._forgotten.pop(frame.id))
            return []
        request = self._outbox.pop(frame.id, None)
        if request is None:
            return []
        self._answered(_size(request.message))
        detail = f"{request.message.kind} cannot be sent: {reason}"
        return [Reply(frame.id, request.message, Error(code, detail))]

    @property
    def message_max(self) -> int | None:
        """The most bytes a message may have, or None while that is not known."""
        return None if self.welcome is None else self.welcome.limits.message_max_bytes

    @property
    def frames_max(self) -> int:
        """The most frames a message may have; before the first welcome there is only a hello, alone."""
        return 1 if self.welcome is None else self.welcome.limits.frames_per_message

    def was_sent(self, request: str) -> bool:
        """Tell whether the coordinator may receive a request that has no reply yet, even if it is forgotten now."""
        is_out = self.is_open and request not in self._later
        return request in self._outbox and (is_out or request in self._sent_before)

    def _note_sent(self) -> None:
        """Record which requests were sent, for the next connection: nothing more is sent on this one."""
        unsent = self._later.keys() | {frame.id for frame in self._out}
        self._sent_before = frozenset(
            request for request in self._outbox if request not in unsent or request in self._sent_before
        )

    def forget(self, request: str) -> None:
        """Stop waiting for a reply; the request is not sent again."""
        frame = self._outbox.pop(request, None)
        if request in self._put_off:
            self._put_off.discard(request)  # no reply is under way
        elif frame is not None and self._later.pop(request, None) is None and self.is_open:
            self._forgotten[request] = _size(frame.message)

    def say_again(self, request: str) -> None:
        """Send a request that was put off, unless it was forgotten, or sent again by a new handshake."""
        if self.is_open and request in self._put_off:
            self._put_off.discard(request)
            self._send([self._outbox[request]])

    def tell(self, message: Message) -> str | None:
        """Send a message that may be lost (a heartbeat, a ping), and return its id; None without a connection."""
        if not self.is_open:
            return None
        frame = Frame(self._new_id(), message)
        self._out.append(frame)
        return frame.id

    def hurry(self) -> None:
        """Fetch replies that may be kept back: they are sent in front of the answer to this ping (spec RPC-7)."""
        if any(frame.slack_ms for frame in self._outbox.values()):
            self.tell(Ping())

    def set_credit(self, credit: Credit) -> None:
        """Take on more attempts, or fewer."""
        self.credit = credit
        self.tell(credit)

    @property
    def owes_ack(self) -> bool:
        """Whether mailbox entries have arrived that were not acknowledged on this connection."""
        return self.is_open and self._cursor > self._acked

    def outgoing(self, *, is_ack_due: bool = True) -> list[Frame]:
        """Return the frames to send now, in order. One acknowledgement covers all mailbox entries since the last.

        Args:
            is_ack_due: False lets it wait until it covers a good part of the credit. Sent along with other frames it
                would add a frame to each task: one task at a time took 3 % longer that way.
        """
        owed = self._cursor - self._acked
        is_due = is_ack_due or owed * _ACK_SHARE >= self.credit.frames
        if self.owes_ack and is_due:
            self._out.append(Frame(self._new_id(), MailboxAck(self._cursor)))
            self._acked = self._cursor
        frames, self._out = self._out, []
        return frames

    # What the transport says ------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Greet the coordinator on a new connection."""
        self.state = SessionState.GREETING
        self._out.clear()
        self._forgotten.clear()
        self._later.clear()
        self._put_off.clear()
        self._under_way = 0
        identity = self.identity
        hello = Hello(
            versions=[OLDEST, SPOKEN],
            agent_id=identity.agent_id,
            instance_id=identity.instance_id,
            incarnation=identity.incarnation,
            token=identity.token,
            secret=identity.secret,
            operator_token=identity.operator_token,
            card=identity.card,  # type: ignore[arg-type]
            labels=identity.labels,
            credit=self.credit,
            held=self._held(),
            resume=Resume(self._cursor) if self.welcome is not None else None,
            features=list(FEATURES),
        )
        self._hello_id = self._new_id()
        self._hello_credit = self.credit
        self._out.append(Frame(self._hello_id, hello))

    def disconnected(self) -> None:
        """Note that the connection is gone; requests keep waiting for their replies."""
        if self.is_open:
            self._note_sent()
        self.state = SessionState.CLOSED
        self._out.clear()

    def receive(self, frame: Frame | BadFrame) -> list[Event]:
        """Handle one frame that arrived.

        Raises:
            RemoteProtocolError: the coordinator broke a rule; the connection has to be closed.
        """
        if isinstance(frame, BadFrame):
            raise RemoteProtocolError(f"the coordinator sent what cannot be read: {frame.detail}")
        message = frame.message
        if self.state is SessionState.GREETING:
            return self._greeted(frame)
        if not self.is_open:
            return []
        if isinstance(message, Unknown) and frame.must:
            raise RemoteProtocolError(f"the coordinator insists on {message.name}, which is not spoken here")
        if frame.mseq is not None:
            return self._mail(frame.mseq, message)
        if frame.re is not None and frame.re in self._outbox:
            request = self._outbox[frame.re]
            if self._later.pop(frame.re, None) is None:
                self._answered(_size(request.message))
            if isinstance(message, Error) and self._puts_off(frame.re, request.message, message):
                self._put_off.add(frame.re)  # it keeps its place among the others (spec RPC-3)
                return []
            del self._outbox[frame.re]
            return [Reply(frame.re, request.message, message)]
        if frame.re is not None and frame.re in self._forgotten:
            self._answered(self._forgotten.pop(frame.re))  # if it was a watch, its events follow
            return []
        if isinstance(message, Ping):
            self._out.append(Frame(self._new_id(), Pong(message.nonce), re=frame.id))
            return []
        if isinstance(message, Bye):
            self._note_sent()  # later requests wait for the next connection
            self.state = SESSION[self.state, "bye"]
            return [Left(message.reason)]
        if isinstance(message, _VOLATILE):
            return [Notice(message, frame.re)]
        return []  # a kind that is unknown here

    def _greeted(self, frame: Frame) -> list[Event]:
        message = frame.message
        # An error that names no frame is about one whose id could not be read (spec ERR-3): only the hello was sent.
        if frame.re != self._hello_id and not (frame.re is None and isinstance(message, Error)):
            raise RemoteProtocolError(f"the first frame answers the hello, this is {message.kind}")
        if isinstance(message, Error):
            self.state = SESSION[self.state, "error"]
            return [TurnedAway(message)]
        if not isinstance(message, Welcome):
            raise RemoteProtocolError(f"a hello is answered by welcome or error, not {message.kind}")
        if agree(message.version, message.version) is None:
            spoken = f"{OLDEST} to {SPOKEN}"
            raise RemoteProtocolError(f"the coordinator answers with version {message.version}, not one of {spoken}")
        self.state = SESSION[self.state, "welcome"]
        self.welcome = message
        if message.secret is not None:
            self.identity.secret = message.secret
        self._cursor = self._acked = message.next_mseq - 1
        if self.credit != self._hello_credit:
            self.tell(self.credit)  # it changed while the hello was under way
        # Requests made before the limit was known are answered here: sent, they would end the connection.
        replies = [
            Reply(request, frame.message, Error(ErrorCode.TOO_LARGE, excess))
            for request, frame in self._outbox.items()
            if (excess := self.excess(frame.message))
        ]
        for reply in replies:
            del self._outbox[reply.re]
        self._send(self._outbox.values())
        return [Welcomed(message), *replies]

    def _mail(self, mseq: int, message: Message) -> list[Event]:
        if mseq <= self._cursor:
            return []
        if mseq != self._cursor + 1:
            raise RemoteProtocolError(f"mailbox entry {self._cursor + 1} comes next, the coordinator sent {mseq}")
        self._cursor = mseq
        return [Notice(message)]


def _size(message: Message) -> int:
    """Return the bytes of a request's payloads; the rest of it is negligible."""
    if isinstance(message, ContextWrite):
        return sum(len(op.value or b"") + len(op.patch or b"") for op in message.ops)
    return len(getattr(message, "payload", None) or b"")
