"""One open WebSocket: frames in and out of a byte stream, and the deadlines that end it.

It starts after the handshake (`websocket.py`) and knows no HTTP, no listener and nothing of what a message says.
websockets' sans-I/O protocol writes the frames, and reads those that are not whole messages (`cutting.py`); this class
owns the socket, bounds what waits, and decides when a peer is dead. Messages are written as soon as they are sent: the
sender has already batched frames into messages, and waiting for the end of the turn as well took a tenth of the time of
a lone task. The class runs on callbacks and at most two timers. It has no asyncio task, so an idle connection costs
nothing and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Event, State
from websockets.protocol import Protocol as WebSocketProtocol

from ..errors import LocalProtocolError
from .base import Receiver
from .cutting import Cutter

__all__ = ["JSON", "MSGPACK", "SUBPROTOCOLS", "WebSocketConnection", "WebSocketSettings", "write_out"]

logger = logging.getLogger("a2a.transport")

MSGPACK = "a2a.coord+msgpack"
JSON = "a2a.coord+json"
SUBPROTOCOLS: tuple[str, ...] = (MSGPACK, JSON)
"""The encodings, the preferred one first."""

LARGE_BYTES = 64 * 1024
"""From this size on a server's message is written uncopied, after its header. websockets would copy it twice to join
both, which was a thirtieth of the coordinator's work on a task of a mebibyte."""


def _pauses_after_lines(version: tuple[int, ...]) -> bool:
    """Tell whether this Python's asyncio checks the buffer size after `writelines` (CVE-2024-12254)."""
    return not ((3, 12) <= version < (3, 12, 9) or (3, 13) <= version < (3, 13, 2))


PAUSES_AFTER_LINES = _pauses_after_lines(sys.version_info[:3])
"""If not, everything sent to a slow peer would pile up in that buffer; then a large message is written in one piece."""

FRAME_OVERHEAD_BYTES = 14
"""The longest frame header with mask (RFC 6455, 5.2): what a message costs in the outbox beyond its own bytes."""

WRITE_BUFFER_MAX_BYTES = 64 * 1024
"""Above this asyncio calls `pause_writing`, and messages wait here instead; asyncio's own default."""

UNSENT_MAX_BYTES = 128 * 1024
"""Unsent bytes that the kernel takes (TCP_NOTSENT_LOWAT). By default it takes megabytes, and more only when a third of
them is gone: for 10 s, a peer that reads 100 kB/s would seem to read nothing."""

TICKS = 4
"""Checks per deadline that depends on the write buffer, which does not report progress. For the write deadline we count
ticks, not seconds: a process that was itself stopped sees only one late tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSettings:
    """Limits and deadlines of WebSocket connections, the same for every connection of a listener."""

    message_max_bytes: int = 4 * 1024 * 1024
    """The largest message accepted, all its fragments together; a larger one closes the connection with 1009."""
    outbox_max_bytes: int = 16 * 1024 * 1024
    """What may wait for one peer, here and in asyncio's write buffer; more ends the connection."""
    connections_max: int = 20_000
    """Connections a listener holds, including those in the handshake; a further one is answered with HTTP 503."""
    origins: frozenset[str] = frozenset()
    """Web origins that may connect (`https://console.example`). No `Origin` header means no browser, and is allowed."""
    hosts: frozenset[str] = frozenset()
    """Names, besides loopback and the address listened on, by which a client may call this listener in `Host`."""
    handshake_deadline: float = 5.0
    """Seconds from the TCP connection to the end of the opening handshake."""
    ping_interval: float = 5.0
    """Seconds of silence after which the peer is pinged. The owner may change it with `keepalive`."""
    ping_timeout: float = 5.0
    """Seconds of silence after a ping that mean the peer is gone."""
    write_deadline: float = 10.0
    """Seconds data may wait without the peer taking a single byte. Pings cannot tell: they wait in the same buffer."""
    closing_deadline: float = 1.0
    """Seconds from the first closing frame to the end of the connection."""


class WebSocketConnection(asyncio.Protocol):
    """The `Transport` of one WebSocket whose handshake is done; a client's or a server's.

    A handshake makes it, then makes it the protocol of the asyncio transport and calls `open`. After `close` or `abort`
    the receiver gets no more messages, only `closed`. Messages that were read together with the one during which the
    receiver paused reading still reach it.
    """

    __slots__ = (
        "_arriving_since",
        "_cutter",
        "_drained",
        "_fragments",
        "_fragments_are_text",
        "_is_open",
        "_is_reading_paused",
        "_is_server",
        "_is_writing_paused",
        "_looks_at",
        "_loop",
        "_lost",
        "_ping_interval",
        "_pinged_at",
        "_protocol",
        "_queued",
        "_reason",
        "_received_at",
        "_receiver",
        "_send_frame",
        "_settings",
        "_stuck_ticks",
        "_timer",
        "_transport",
        "_when_drained",
        "_write_timer",
        "_written",
        "peer",
        "subprotocol",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: WebSocketProtocol,
        receiver: Receiver,
        settings: WebSocketSettings,
        lost: Callable[[WebSocketConnection], None] | None = None,
    ) -> None:
        assert protocol.subprotocol in SUBPROTOCOLS, "the handshake agreed on one of ours"
        self.subprotocol: str = protocol.subprotocol
        self.peer = _address(transport)
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._protocol = protocol
        self._receiver = receiver
        self._settings = settings
        self._lost = lost
        self._send_frame = protocol.send_text if self.subprotocol == JSON else protocol.send_binary

        self._is_open = True  # until either side begins to close; then nothing more is queued or delivered
        self._reason = ""  # why this side gave the connection up, if the closing frames do not say it
        self._is_server = protocol.side is SERVER
        self._cutter = Cutter(is_masked=self._is_server, message_max_bytes=settings.message_max_bytes)
        self._fragments: bytearray | None = None  # bytes, not a list: empty fragments must not add up
        self._fragments_are_text = False

        self._queued = 0  # bytes framed in the protocol and not yet written, counted with the largest header
        self._is_writing_paused = False
        self._when_drained: Callable[[], None] | None = None
        self._is_reading_paused = False

        self._written = 0  # all bytes ever handed to asyncio
        self._drained = 0  # bytes the kernel had taken at the last tick
        self._stuck_ticks = 0
        self._write_timer: asyncio.TimerHandle | None = None  # armed only while asyncio holds unsent bytes

        self._received_at = self._loop.time()
        self._arriving_since = 0.0  # when the partial message began, or when the peer was last told that we are here
        self._pinged_at = 0.0  # time of the unanswered ping; any byte received later answers it
        self._ping_interval = settings.ping_interval
        self._looks_at = self._received_at + self._ping_interval  # not the timer's: uvloop reports none for a due timer
        self._timer = self._loop.call_at(self._looks_at, self._check_life)  # later: the closing deadline
        transport.set_write_buffer_limits(high=min(WRITE_BUFFER_MAX_BYTES, settings.outbox_max_bytes // 3))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # TCP_NODELAY is asyncio's own default
            tcp: socket.socket = transport.get_extra_info("socket")
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX_BYTES)

    def open(self, data: bytes = b"") -> None:
        """Tell the receiver, then take what arrived after the handshake."""
        try:
            self._receiver.opened(self)
        except Exception:
            logger.exception("%s: the receiver failed in opened()", self.peer)
            self._close(CloseCode.INTERNAL_ERROR, "internal error")
        if data:
            self.data_received(data)

    # --- Transport ---------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if not self._is_open or self._protocol.state is not State.OPEN:
            return
        if self._is_server and len(data) >= LARGE_BYTES:
            opcode = Opcode.TEXT if self.subprotocol == JSON else Opcode.BINARY
            self._protocol.writes += (_header_of(opcode, len(data)), data)
        else:
            self._send_frame(data)
        self._queue(len(data))

    @property
    def waiting(self) -> int:
        return self._queued + self._transport.get_write_buffer_size()

    @property
    def is_carrying(self) -> bool:
        return self._is_amid or self.waiting > 0

    def when_drained(self, call: Callable[[], None]) -> None:
        self._when_drained = call
        if not self._is_writing_paused:
            self._loop.call_soon(self._tell_drained)

    def pause_reading(self) -> None:
        if self._is_open and not self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = False
            self._received_at = self._loop.time()  # the silence was ours
            self._transport.resume_reading()

    def keepalive(self, interval: float) -> None:
        self._ping_interval = interval
        due = self._received_at + interval
        # A longer interval needs no new timer: the old one fires early, and finds that its time has not come.
        if self._is_open and not self._is_ping_unanswered and self._looks_at > due:
            self._timer.cancel()
            self._looks_at = due
            self._timer = self._loop.call_at(due, self._check_life)

    def close(self, code: int = 1000, reason: str = "") -> None:
        try:
            Close(code, "").check()
        except ProtocolError as exc:
            raise LocalProtocolError(f"{code} is not a code a WebSocket may be closed with") from exc
        self._close(code, reason)

    def abort(self) -> None:
        self._abort("aborted here")

    # --- asyncio: bytes in -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._received_at = self._loop.time()
        protocol = self._protocol
        for frame in self._cutter.cut(data):
            if frame.is_message and self._fragments is None:
                self._deliver(frame.payload, frame.is_text)
            else:
                protocol.receive_data(frame.raw)
                self._take(protocol.events_received())
        if self._is_amid:
            self._tell_alive()
        else:
            self._arriving_since = 0.0

    @property
    def _is_amid(self) -> bool:
        return self._cutter.is_amid or self._fragments is not None

    def _tell_alive(self) -> None:
        """Tell a peer that sends a long message that we are here: its own ping waits behind that message."""
        if not self._arriving_since:
            self._arriving_since = self._received_at
        elif self._is_open and self._received_at - self._arriving_since >= self._settings.ping_timeout / 2:
            self._arriving_since = self._received_at
            self._protocol.send_pong(b"")
            self._queue(0)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._wind_down()  # asyncio closes its transport when this returns

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._timer.cancel()
        if self._write_timer is not None:
            self._write_timer.cancel()
        try:
            self._receiver.closed(self._why_closed(exc))
        except Exception:
            logger.exception("%s: the receiver failed in closed()", self.peer)
        if self._lost is not None:
            self._lost(self)

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            assert isinstance(event, Frame), "the handshake is over"
            if event.opcode in _DATA_OPCODES:
                self._take_data(event)
            elif event.opcode is Opcode.PING:
                self._queue(len(event.data))  # the protocol has framed the pong
        if self._protocol.close_expected():  # a closing frame was sent or received, or the peer broke a rule
            self._wind_down()

    def _take_data(self, frame: Frame) -> None:
        """Pass on a message that fits one frame, collect fragments; the protocol has seen to their order and size."""
        if self._fragments is None:
            is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._deliver(bytes(frame.data), is_text)
            else:
                self._fragments, self._fragments_are_text = bytearray(frame.data), is_text
            return
        self._fragments += frame.data
        if frame.fin:
            whole, self._fragments = bytes(self._fragments), None
            self._deliver(whole, self._fragments_are_text)

    def _deliver(self, data: bytes, is_text: bool) -> None:
        if not self._is_open:
            return
        if is_text:
            try:
                data.decode()
            except UnicodeDecodeError as exc:
                self._close(CloseCode.INVALID_DATA, f"not UTF-8: {exc.reason} at position {exc.start}")
                return
        try:
            self._receiver.received(data)
        except Exception:  # a bug in the receiver; it costs this connection and no other
            logger.exception("%s: the receiver failed in received()", self.peer)
            self._close(CloseCode.INTERNAL_ERROR, "internal error")

    # --- asyncio: bytes out ------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._flush()
        self._tell_drained()

    def _tell_drained(self) -> None:
        if self._when_drained is not None and self._is_open and not self._is_writing_paused:
            call, self._when_drained = self._when_drained, None
            call()

    def _queue(self, size: int) -> None:
        """Count a frame that the protocol now holds, and write it; end the connection if too much waits."""
        self._queued += size + FRAME_OVERHEAD_BYTES
        self._flush()
        waiting = self.waiting
        if waiting > self._settings.outbox_max_bytes:
            self._abort(f"the outbox is full: {waiting} bytes wait, at most {self._settings.outbox_max_bytes} may")

    def _flush(self) -> None:
        if self._is_writing_paused or self._transport.is_closing():
            return
        self._queued = 0
        self._written += write_out(self._transport, self._protocol)
        if self._write_timer is None:
            buffered = self._transport.get_write_buffer_size()
            if buffered:
                self._drained, self._stuck_ticks = self._written - buffered, 0
                self._watch_writes_later()

    def _watch_writes_later(self) -> None:
        tick = self._settings.write_deadline / TICKS
        self._write_timer = self._loop.call_later(tick, self._watch_writes)

    def _watch_writes(self) -> None:
        self._write_timer = None
        buffered = self._transport.get_write_buffer_size()
        if not buffered:
            return
        drained = self._written - buffered
        self._stuck_ticks = self._stuck_ticks + 1 if drained == self._drained else 0
        self._drained = drained
        if self._stuck_ticks < TICKS:
            self._watch_writes_later()
        else:
            self._abort(f"the peer read nothing for {self._settings.write_deadline:g} s while {buffered} bytes waited")

    # --- deadlines and the end ---------------------------------------------------------------------------------------

    @property
    def _is_ping_unanswered(self) -> bool:
        return self._pinged_at > self._received_at

    def _check_life(self) -> None:
        now = self._loop.time()
        timeout = self._settings.ping_timeout
        silence = now - self._received_at
        if self._is_reading_paused:
            delay = self._ping_interval  # nobody reads, so silence means nothing
        elif not self._is_ping_unanswered:
            delay = self._ping_interval - silence
            if delay <= 0:
                self._protocol.send_ping(b"")
                self._queue(0)
                self._pinged_at = now
                delay = min(timeout / TICKS, self._ping_interval)
        elif self._transport.get_write_buffer_size():
            # The ping may not have left, so its time has not begun; until then the write deadline judges this peer.
            self._pinged_at, delay = now, timeout / TICKS
        else:
            delay = self._pinged_at + timeout - now
            if delay <= 0:
                self._abort(f"the peer was silent for {silence:.1f} s and did not answer a ping")
        if self._is_open:
            self._looks_at = now + delay
            self._timer = self._loop.call_at(self._looks_at, self._check_life)

    def _close(self, code: int, reason: str) -> None:
        if not self._is_open:
            return
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, _cut(reason))
        self._wind_down()

    def _wind_down(self) -> None:
        """Closing has begun, on either side: deliver nothing more, and limit the time for the rest."""
        if self._is_open:
            self._is_open = False
            self._timer.cancel()
            self._timer = self._loop.call_later(self._settings.closing_deadline, self._closing_expired)
            self.resume_reading()  # the peer's closing frame has to come through
        self._flush()

    def _closing_expired(self) -> None:
        if self._protocol.close_rcvd is None:
            waited = f"the peer did not end it within {self._settings.closing_deadline:g} s"
            self._reason = f"{self._why_closed(None)}; {waited}"
        self._transport.abort()

    def _abort(self, reason: str) -> None:
        self._is_open = False
        self._reason = self._reason or reason
        self._transport.abort()

    def _why_closed(self, exc: Exception | None) -> str:
        protocol = self._protocol
        if self._reason:
            return self._reason
        if protocol.close_rcvd is not None and protocol.close_rcvd_then_sent is not False:
            return f"closed by the peer: {protocol.close_rcvd}"
        if protocol.close_sent is not None:
            return f"closed here: {protocol.close_sent}"
        return f"connection lost: {exc}" if exc is not None else "connection lost without a closing frame"


_DATA_OPCODES = (Opcode.BINARY, Opcode.TEXT, Opcode.CONT)


def write_out(transport: asyncio.Transport, protocol: WebSocketProtocol) -> int:
    """Hand the protocol's output to asyncio in one write; return how many bytes that was.

    The protocol ends its output with an empty chunk when our half of the connection is over. Only that half is closed:
    a `close()` with the peer's bytes unread makes the kernel send a reset, which may overtake what was just written.
    """
    chunks = protocol.data_to_send()
    if not chunks:
        return 0
    is_over = not chunks[-1]
    if is_over:
        del chunks[-1]
    size = sum(map(len, chunks))
    if size > LARGE_BYTES and PAUSES_AFTER_LINES:
        transport.writelines(chunks)
    elif size:
        transport.write(b"".join(chunks))
    if is_over:
        if not transport.can_write_eof():  # TLS
            transport.close()
            return size
        try:
            transport.write_eof()
        except OSError:  # asyncio lets it through when the peer was faster and has reset the connection
            transport.abort()
    return size


def _header_of(opcode: Opcode, size: int) -> bytes:
    """Return the header of an unmasked whole message of 64 KiB or more (RFC 6455, 5.2)."""
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")


def _address(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    if not name:
        return "unknown"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _cut(reason: str) -> str:
    """Return the part of it that fits a closing frame: its payload has 125 bytes, two for the code (RFC 6455, 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")
