"""The server's end of one connection: it passes a peer's messages to the server, and sends what the peer is told.

It bounds what one peer may ask for: frames per second, unanswered frames, and unread bytes. A peer that exceeds a bound
is read later, and loses nothing by it. The coordinator decides; the server makes that durable. Made by `Server`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import ErrorCode, LocalProtocolError
from .ids import new_secret
from .loglines import brief
from .protocol.codec import JSON, MSGPACK, BadFrame, Decoder, Encoding, Frame, encode
from .protocol.messages import Error
from .transports.base import Transport
from .transports.sending import BUSY_PING, IDLE_PING, send_frames

if TYPE_CHECKING:
    from .server import Server

__all__ = ["HELLO_DEADLINE", "Frames", "Peer", "Said"]

log = logging.getLogger("a2a.server")

HELD_BYTES = 512
"""What a held frame takes beside its payload, which the ledger mostly has as well."""
HELLO_DEADLINE = 5.0
"""Seconds a connection may go without a hello."""


Frames = Sequence[Frame | BadFrame]
Said = bytes | Frames | None
"""A message, the frames of a message that are still to be decided on, or None for the end of the connection."""


class Peer:
    """The server's end of one connection: it decodes, and slows down a peer that sends more than it may."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "_hello_timer",
        "_is_busy",
        "_put_off",
        "_refill_at",
        "_server",
        "_tokens",
        "decoder",
        "encoding",
        "in_flight",
        "is_held_up",
        "is_paused",
        "is_waiting",
        "number",
        "queued",
        "transport",
    )

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self.number = number
        self.transport: Transport | None = None
        self.decoder: Decoder | None = None
        self.encoding: Encoding = MSGPACK
        self.in_flight = 0
        self.is_paused = False
        self.is_waiting = False
        """Whether a frame needs the archive; frames read meanwhile would only pile up."""
        self.queued = 0
        """How many of its messages wait for their turn."""
        self.is_held_up = False
        """Whether reading waits until its messages are taken: they take long, or all peers together sent too many."""
        self._tokens = float(server.policy.frames_per_second)
        self._refill_at = 0
        self._is_busy = False
        self._hello_timer: asyncio.TimerHandle | None = None
        self._held: list[Frame] = []
        """Frames that found no room in the outbox. While there are any, the peer is not read, and its messages wait."""
        self._held_bytes = 0
        """About how many bytes were added for it since."""
        self._put_off: list[Said] = []
        """Its messages that had already been read by then."""

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        self.encoding = JSON if transport.subprotocol == JSON else MSGPACK
        self.decoder = self._server._decoders[self.encoding]
        self._server._peers[self.number] = self
        log.debug("connection %d from %s, %s", self.number, transport.peer, self.encoding)
        transport.keepalive(IDLE_PING)
        self._hello_timer = asyncio.get_running_loop().call_later(HELLO_DEADLINE, self._still_silent)
        self._server.coordinator.opened(self.number, new_secret(), self._server.clock())

    def _still_silent(self) -> None:
        if self.transport is not None and not self._server.coordinator.is_welcomed(self.number):
            self.transport.close(1008, f"no hello within {HELLO_DEADLINE:g} s")

    def watch_closely(self, is_busy: bool) -> None:
        """Ping a peer that holds work more often than an idle one."""
        if is_busy is not self._is_busy and self.transport is not None:
            self._is_busy = is_busy
            self.transport.keepalive(BUSY_PING if is_busy else IDLE_PING)

    def send(self, frames: list[Frame]) -> None:
        if self.transport is None:
            return  # gone; what mattered is in its mailbox, or will be requested again
        if log.isEnabledFor(logging.DEBUG):
            for frame in frames:
                log.debug("> %d %s", self.number, brief(frame))
        if not self._held:
            self._send(frames)
            return
        self._held += frames
        self._held_bytes += sum(len(getattr(frame.message, "payload", None) or b"") + HELD_BYTES for frame in frames)
        if self._held_bytes > self._server.policy.outbox_max_bytes:
            self.transport.abort()  # it reads too slowly what it did not ask for (spec LIMIT-5)

    def _send(self, frames: list[Frame]) -> None:
        """Send frames while there is room, and the rest once the peer has read enough."""
        assert self.transport is not None, "there is a connection to send on"
        most = self._server.answer_max_bytes
        sent = send_frames(
            self.transport,
            frames,
            self.encoding,
            message_max=most,
            unsendable=self._send_less,
            has_room=self._has_room,
        )
        self._held = frames[sent:]
        if self._held:
            self._pause()
            self.transport.when_drained(self._drained)

    def _has_room(self, size: int) -> bool:
        assert self.transport is not None, "there is a connection to send on"
        waiting = self.transport.waiting
        return waiting <= self._server.rest_bytes or waiting + size < self._server.policy.outbox_max_bytes

    def _drained(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        self._send(held)
        if not self._held:
            self._end_hold()
            self._read_on()

    def _end_hold(self) -> None:
        messages, self._put_off = self._put_off, []
        if messages:
            self._server._take_up(self, messages)

    def puts_off(self, said: Said) -> bool:
        """Put a message off if earlier answers still wait for the peer to read, and tell whether it was."""
        if self._held:
            self._put_off.append(said)
        return bool(self._held)

    def _send_less(self, frame: Frame, code: ErrorCode, reason: str) -> None:
        """Refuse a request whose answer would end the connection: the peer would send it again on every new one."""
        if code is not ErrorCode.TOO_LARGE:
            raise LocalProtocolError(f"{frame.message.kind} has no form: {reason}")
        assert self.transport is not None, "there is a connection to send on"
        if frame.re is not None and frame.mseq is None:
            refusal = Error(code, f"the answer is too large for a connection: {reason}; ask for less at once")
            self._server.coordinator.unanswered(self.number, frame.re)
            frame = Frame(frame.id, refusal, re=frame.re, to=frame.to)
        self.transport.send(encode([frame], self.encoding))

    def received(self, data: bytes) -> None:
        self._server._received(self, data)

    def closed(self, reason: str) -> None:
        log.debug("connection %d closed: %s", self.number, reason)
        self._server._peers.pop(self.number, None)
        self._server._kept.take(self.number)
        self.transport = None
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._held = []
        self._end_hold()
        self._server._closed(self)

    def take(self, count: int) -> None:
        """Count incoming frames, and stop reading while too many are unanswered or too many come per second."""
        policy, now = self._server.policy, self._server.clock()
        rate = policy.frames_per_second
        self._tokens = min(float(rate), self._tokens + (now - self._refill_at) * rate / 1000) - count
        self._refill_at = now
        self.in_flight += count
        if self.is_paused or self.transport is None:
            return
        if self._tokens < 0 and self._server._loop is not None:
            self._pause()
            self._server._loop.call_later(-self._tokens / rate, self._resume)
        elif self.in_flight > policy.requests_in_flight:
            self._pause()

    def give_back(self, count: int) -> None:
        """Count answered frames."""
        self.in_flight -= count
        if self.is_paused and self._tokens >= 0 and self.in_flight <= self._server.policy.requests_in_flight // 2:
            self._resume()

    def wait(self) -> None:
        """Stop reading until the archive has answered."""
        self.is_waiting = True
        if not self.is_paused:
            self._pause()

    def go_on(self) -> None:
        """Note that the archive has answered, and read again unless there is another reason not to."""
        self.is_waiting = False
        self._read_on()

    def hold_up(self) -> None:
        """Stop reading until the peer's messages are decided on."""
        if not self.is_held_up:
            self.is_held_up = True
            self._pause()

    def let_go(self) -> None:
        """Note that they are, and read again unless there is another reason not to."""
        if self.is_held_up:
            self.is_held_up = False
            self._read_on()

    def _read_on(self) -> None:
        rate, loop = self._server.policy.frames_per_second, self._server._loop
        if self._tokens < 0 and loop is not None:
            loop.call_later(-self._tokens / rate, self._resume)
        elif self.in_flight <= self._server.policy.requests_in_flight:
            self._resume()

    def _pause(self) -> None:
        if self.transport is not None:
            self.is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        self._tokens = max(self._tokens, 0.0)
        is_wanted = not (self.is_waiting or self.is_held_up or self._held)
        if self.is_paused and is_wanted and self.transport is not None:
            self.is_paused = False
            self.transport.resume_reading()
