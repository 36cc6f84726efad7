"""Two ends of a connection within one event loop: for tests, and for a coordinator hosted in its agents' process.

It keeps the contract of the WebSocket transport - messages arrive in a later turn of the loop, in order, and are
bounded while they wait - without bytes, sockets or a handshake. Both ends live and die together, so it has no
keep-alive and no write deadline. If a receiver pauses for good, the outbox bound ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode

from ..errors import LocalProtocolError
from .base import Receiver, Transport

__all__ = ["pair"]

logger = logging.getLogger("a2a.transport")

MESSAGE_OVERHEAD_BYTES = 14
"""What a message costs in the outbox beyond its own bytes; as in a WebSocket frame, so that empty ones count too."""


def pair(
    a: Receiver,
    b: Receiver,
    *,
    subprotocol: str = "a2a.coord+msgpack",
    outbox_max_bytes: int = 16 * 1024 * 1024,
    closing_deadline: float = 1.0,
) -> tuple[Transport, Transport]:
    """Connect two receivers; call it in the event loop. `opened` follows in the loop's next turn, for both.

    Args:
        a: the receiver that holds the first transport; the other end knows it as the peer `memory:a`.
        b: the receiver that holds the second transport, `memory:b`.
        subprotocol: the encoding that both are told.
        outbox_max_bytes: what may wait for one end while it pauses reading; more ends the connection.
        closing_deadline: how long `close` waits, in seconds, for a paused end to take what was sent before.
    """
    first = _End(a, "memory:b", subprotocol, outbox_max_bytes, closing_deadline)
    second = _End(b, "memory:a", subprotocol, outbox_max_bytes, closing_deadline)
    first._other, second._other = second, first
    loop = asyncio.get_running_loop()
    loop.call_soon(first._open)
    loop.call_soon(second._open)
    return first, second


class _End:
    """One end. `_inbox` holds what the other end has sent, and so is the other end's outbox."""

    _other: _End

    def __init__(
        self, receiver: Receiver, peer: str, subprotocol: str, outbox_max_bytes: int, closing_deadline: float
    ) -> None:
        self.peer = peer
        self.subprotocol = subprotocol
        self._loop = asyncio.get_running_loop()
        self._receiver = receiver
        self._outbox_max_bytes = outbox_max_bytes
        self._closing_deadline = closing_deadline
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._is_delivery_due = False
        self._is_reading_paused = False
        self._is_open = True  # until this end closes or the connection is over
        self._is_over = False
        self._closing: Close | None = None  # set by `close` here; the other end's delivery completes it
        self._timer: asyncio.TimerHandle | None = None
        self._when_drained: Callable[[], None] | None = None

    # --- Transport ---------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        other = self._other
        if not self._is_open or not other._is_open:
            return
        other._inbox.append(data)
        other._inbox_bytes += len(data) + MESSAGE_OVERHEAD_BYTES
        if other._inbox_bytes > self._outbox_max_bytes:
            waiting = f"{other._inbox_bytes} bytes wait, at most {self._outbox_max_bytes} may"
            self._end(f"the outbox is full: {waiting}")
        else:
            other._deliver_soon()

    @property
    def waiting(self) -> int:
        return self._other._inbox_bytes

    @property
    def is_carrying(self) -> bool:
        return False  # a message is delivered at once, and whole

    def when_drained(self, call: Callable[[], None]) -> None:
        self._when_drained = call
        self._other._deliver_soon()

    def pause_reading(self) -> None:
        self._is_reading_paused = self._is_open

    def resume_reading(self) -> None:
        self._is_reading_paused = False
        self._deliver_soon()

    def keepalive(self, interval: float) -> None:
        """Nothing to do: the other end cannot die alone."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        closing = Close(code, reason)
        try:
            closing.check()
        except ProtocolError as exc:
            raise LocalProtocolError(f"{code} is not a code a WebSocket may be closed with") from exc
        if not self._is_open:
            return
        self._is_open = False
        self._inbox.clear()
        self._inbox_bytes = 0
        self._closing = closing
        self._timer = self._loop.call_later(self._closing_deadline, self._closing_expired)
        self._other._deliver_soon()

    def abort(self) -> None:
        self._end("aborted here")

    # --- delivery ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._receiver.opened(self)
        except Exception:
            logger.exception("%s: the receiver failed in opened()", self.peer)
            self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _deliver_soon(self) -> None:
        if not self._is_delivery_due:
            self._is_delivery_due = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Deliver what waits, then the other end's closing, unless the receiver pauses or closes meanwhile."""
        self._is_delivery_due = False
        for _ in range(len(self._inbox)):  # messages that arrive meanwhile wait for the next turn
            if self._is_reading_paused or not self._inbox:
                break
            data = self._inbox.popleft()
            self._inbox_bytes -= len(data) + MESSAGE_OVERHEAD_BYTES
            try:
                self._receiver.received(data)
            except Exception:  # a bug in the receiver; it costs this connection and no other
                logger.exception("%s: the receiver failed in received()", self.peer)
                self.close(CloseCode.INTERNAL_ERROR, "internal error")
        other = self._other
        if other._when_drained is not None and not self._inbox and other._is_open:
            call, other._when_drained = other._when_drained, None
            call()
        closing = other._closing
        if closing is not None and not self._inbox and not self._is_reading_paused:
            other._end(f"closed here: {closing}", f"closed by the peer: {closing}")

    # --- the end -----------------------------------------------------------------------------------------------------

    def _closing_expired(self) -> None:
        waited = f"the peer did not end it within {self._closing_deadline:g} s"
        self._end(f"closed here: {self._closing}; {waited}")

    def _end(self, here: str, there: str = "connection lost without a closing frame") -> None:
        """End the connection. Each receiver is told once, in the next turn, the reason as seen from its side."""
        for end, reason in ((self, here), (self._other, there)):
            if not end._is_over:
                end._is_over = True
                end._is_open = False
                end._inbox.clear()
                if end._timer is not None:
                    end._timer.cancel()
                self._loop.call_soon(end._closed, reason)

    def _closed(self, reason: str) -> None:
        try:
            self._receiver.closed(reason)
        except Exception:
            logger.exception("%s: the receiver failed in closed()", self.peer)
