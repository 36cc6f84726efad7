"""What a shell needs of a connection: whole messages in, whole messages out, and a notice when it is over.

Callbacks, not `await receive()`: this way a message reaches the session in the same turn of the event loop in which its
bytes arrived, without a queue, a lock or a task per message. A transport does not know what a message says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Receiver", "Transport"]


class Transport(Protocol):
    """One connection. All methods are called in the event loop that opened it, and call back there.

    After `close` or `abort` nothing more is received, and anything sent is dropped.
    """

    @property
    def subprotocol(self) -> str:
        """The encoding both ends agreed on: `a2a.coord+msgpack` or `a2a.coord+json`."""

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""

    def send(self, data: bytes) -> None:
        """Queue one message. Never blocks and never raises for a slow or gone peer.

        Messages sent within one turn of the event loop leave in one write. A peer loses the connection if it leaves
        more than the outbox bound unread, or reads nothing for the write deadline; its mailbox repeats what it missed.
        """

    @property
    def waiting(self) -> int:
        """How many sent bytes the peer has not taken yet, as the outbox bound counts them."""

    @property
    def is_carrying(self) -> bool:
        """Whether a message is in transit: a part of one has arrived, or some sent bytes are not taken yet."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call `call` once, as soon as almost nothing waits: callers that leave part of the outbox free may then send.

        Never called at the end of a connection. A newer call replaces the previous one.
        """

    def pause_reading(self) -> None:
        """Stop taking bytes from the peer until `resume_reading`; the peer's writes will wait.

        Messages that were read together with the one being handled may still be delivered. Keep pauses well below 10 s:
        the peer's pings wait as well, and it would consider this end dead.
        """

    def resume_reading(self) -> None:
        """Take bytes again."""

    def keepalive(self, interval: float) -> None:
        """Ask the peer for a sign of life after this many seconds of silence, from now on.

        The owner asks a peer that holds work more often than an idle one. A transport whose ends share one process has
        nobody to ask.
        """

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send what is queued, then close. `closed` follows, within the closing deadline.

        Raises:
            LocalProtocolError: no peer may close with this code.
        """

    def abort(self) -> None:
        """End the connection now; what is queued is lost. `closed` follows."""


class Receiver(Protocol):
    """The shell's side of a connection."""

    def opened(self, transport: Transport) -> None:
        """The connection is established; called once, first."""

    def received(self, data: bytes) -> None:
        """One whole message arrived (a text message as its UTF-8 bytes)."""

    def closed(self, reason: str) -> None:
        """The connection is over; called once, last. `reason` is for a person to read."""
