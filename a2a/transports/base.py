"""What a shell needs of a connection: whole messages in, whole messages out, and to be told when it is over.

Callbacks, not `await receive()`: a message then reaches the session in the same turn of the event loop in which its
bytes arrived, without a queue, a lock or a task per message. A transport does not know what a message says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Receiver", "Transport"]


class Transport(Protocol):
    """One connection. All methods are called from, and call back in, the event loop that opened it.

    After `close` or `abort` nothing more is received, and what is sent is dropped.
    """

    @property
    def subprotocol(self) -> str:
        """The encoding both ends agreed on: `a2a.coord+msgpack` or `a2a.coord+json`."""

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""

    def send(self, data: bytes) -> None:
        """Queue one message. Never blocks and never raises for a slow or gone peer.

        Messages sent within one turn of the event loop leave in one write. A peer that leaves more than the bound of
        the outbox unread, or reads nothing for the write deadline, loses the connection; what it missed reaches it
        again through its mailbox.
        """

    @property
    def waiting(self) -> int:
        """How many bytes of what was sent the peer has yet to take, as the bound of the outbox counts them."""

    @property
    def is_carrying(self) -> bool:
        """Whether a message is on its way: a part of one came, or not all that was sent has been taken."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Have `call` called once, when next to nothing waits: little enough for what leaves a rest of the outbox free.

        Not at the end of a connection. The newest wish counts.
        """

    def pause_reading(self) -> None:
        """Stop taking bytes from the peer until `resume_reading`; its own writes will wait.

        Messages that were read together with the one being handled may still be delivered. Pauses stay well below
        10 s: the peer's pings wait as well, and it would take this end for dead.
        """

    def resume_reading(self) -> None:
        """Take bytes again."""

    def keepalive(self, interval: float) -> None:
        """Ask the peer for a sign of life after this many seconds of silence from now on.

        The owner asks a peer that holds work more often than an idle one; a transport whose ends share one process
        has nobody to ask.
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
        """The connection stands; called once, first."""

    def received(self, data: bytes) -> None:
        """One whole message arrived (a text message as its UTF-8 bytes)."""

    def closed(self, reason: str) -> None:
        """The connection is over; called once, last. `reason` is for a person to read."""
