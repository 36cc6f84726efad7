"""The coordinator's shell: receive, step, append, send.

It owns one pure `Coordinator`, one store and any number of connections. Whatever arrives in one turn of the event loop
is stepped at once and appended as one batch; frames leave when everything decided before them is durable. Appends
overlap: while one batch is being written the next is decided. If an append fails, memory is ahead of the ledger, so
the server stops; whoever supervises it starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import socket
from ssl import SSLContext

from .engine.coordinator import Coordinator
from .engine.decision import Ready
from .engine.policy import Policy
from .engine.records import from_bytes, to_bytes
from .errors import StoreError
from .ids import new_secret
from .protocol.codec import JSON, MSGPACK, Decoder, Encoding, Frame, encode
from .stores.base import Entry, Store
from .transports.base import Receiver, Transport
from .transports.websocket import Listener, WebSocketSettings, serve

__all__ = ["Clock", "Server", "send_frames"]

log = logging.getLogger("a2a.server")

FRAMES_PER_MESSAGE = 16
"""Frames gathered into one WebSocket message. More makes convoys: client, coordinator and worker then take turns."""
BYTES_PER_MESSAGE = 256 * 1024
HELLO_DEADLINE = 5.0
"""Seconds a connection may stay without a hello."""
BUSY_PING, IDLE_PING = 5.0, 30.0
"""Seconds of silence before a peer is pinged: one with work is missed soon, ten thousand idle ones cost little."""

Clock = Callable[[], int]


def wall_clock() -> Clock:
    """Return a clock in milliseconds since the epoch that a change of the wall clock does not move (spec TIME-2)."""
    offset = time.time() - time.monotonic()
    return lambda: int((time.monotonic() + offset) * 1000)


def send_frames(transport: Transport, frames: list[Frame], encoding: Encoding) -> None:
    """Send frames in as few messages as the bounds on one message allow."""
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        payload = getattr(frame.message, "payload", None)
        weight = len(payload) if payload else 0
        if batch and (len(batch) >= FRAMES_PER_MESSAGE or size + weight > BYTES_PER_MESSAGE):
            transport.send(encode(batch, encoding))
            batch, size = [], 0
        batch.append(frame)
        size += weight
    if batch:
        transport.send(encode(batch, encoding))


@dataclass(slots=True)
class _Batch:
    """What waits for one append: the frames and closes that may leave once it is durable."""

    ready: Ready
    taken: dict[int, int] = field(default_factory=dict)
    """Connection to the frames it sent that this batch answers."""


class Server:
    """A coordinator with a ledger and connections.

    Args:
        store: where the records go; the server opens and closes it.
        policy: the namespace's settings.
        clock: milliseconds since the epoch; never goes back.
    """

    def __init__(self, store: Store, policy: Policy | None = None, *, clock: Clock | None = None) -> None:
        self.store = store
        self.policy = policy or Policy()
        self.clock = clock or wall_clock()
        self.coordinator = Coordinator(self.policy, durability=store.durability)
        self._peers: dict[int, _Peer] = {}
        self._numbers = 0
        self._end = 0
        self._in_flight: deque[_Batch] = deque()
        self._taken: dict[int, int] = {}
        self._is_flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: asyncio.Future[None] | None = None
        self._quiet: asyncio.Event = asyncio.Event()
        self._quiet.set()

    async def open(self) -> None:
        """Open the ledger and fold it.

        Raises:
            StoreLocked, StoreCorrupt, StoreTooNew: the ledger cannot be used; it was not changed.
        """
        self._loop = asyncio.get_running_loop()
        self._failure = self._loop.create_future()
        self._end = await self.store.open()
        try:
            entries = self.store.read()
            self.coordinator.fold(from_bytes(entry.body, entry.payload) for entry in entries)
            self.coordinator.begin(self.clock())
        except (ValueError, KeyError) as error:
            await self.store.aclose()
            raise StoreError(f"the ledger cannot be folded: {error}") from error
        behind = self.coordinator.ledger.at - self.clock()
        if behind > 0:  # the wall clock was set back since: time goes on from the ledger, and timers with it
            clock = self.clock
            self.clock = lambda: clock() + behind
        log.info(
            "epoch %d, %d records, %d open tasks",
            self.coordinator.ledger.epoch,
            self._end,
            len(self.coordinator.ledger.open_tasks),
        )
        # Whoever hears that this epoch has begun must find another one after it, even if the process is killed at once.
        self._flush()
        await self._quiet.wait()

    async def listen(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: WebSocketSettings | None = None,
        *,
        ssl: SSLContext | None = None,
        sock: socket | None = None,
    ) -> Listener:
        """Accept WebSocket connections, on `sock` where it is given; return the listener with the real address."""
        chosen = settings or WebSocketSettings(
            message_max_bytes=self.policy.frame_limits.message_max_bytes, outbox_max_bytes=self.policy.outbox_max_bytes
        )
        listener = await serve(host, port, self.receiver, chosen, ssl=ssl, sock=sock)
        self._listeners.append(listener)
        return listener

    def receiver(self) -> Receiver:
        """Return the server's end of a new connection, whatever carries it."""
        self._numbers += 1
        return _Peer(self, self._numbers)

    async def failed(self) -> None:
        """Wait until the server cannot go on.

        Raises:
            StoreError: an append failed: nothing that was answered is lost, and what was not answered is not known.
                Or an agent has shown that the ledger is an older copy than the one it knows.
        """
        assert self._failure is not None, "open() comes first"
        await asyncio.shield(self._failure)

    async def aclose(self) -> None:
        """Stop listening, let what is decided become durable, close the ledger."""
        for listener in self._listeners:
            await listener.aclose()
        self._listeners.clear()
        for peer in list(self._peers.values()):
            if peer.transport is not None:
                peer.transport.close(1001, "the coordinator stops")
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._flush()
            if self._failure is not None and not self._failure.done():
                await self._quiet.wait()
            self._loop = None
        await self.store.aclose()
        if self._failure is not None and self._failure.done() and not self._failure.cancelled():
            self._failure.exception()  # seen by whoever waited in failed(); a second report helps nobody
        elif self._failure is not None:
            self._failure.cancel()

    # Steps ------------------------------------------------------------------------------------------------------------

    def _received(self, peer: _Peer, data: bytes) -> None:
        assert peer.decoder is not None, "a message comes after opened()"
        step, number, now = self.coordinator.step, peer.number, self.clock()
        frames = peer.decoder.decode(data)
        for frame in frames:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("< %d %s", number, frame)
            step(number, frame, now)
        self._taken[number] = self._taken.get(number, 0) + len(frames)
        peer.take(len(frames))
        self._wake()

    def _wake(self) -> None:
        """Flush at the end of this turn of the loop, so that all that arrived in it shares one append."""
        if not self._is_flushing and self._loop is not None:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        ready = self.coordinator.ready(self.clock())
        if ready.halt is not None:
            self._fail(StoreError(ready.halt))
            return
        taken, self._taken = self._taken, {}
        if ready.records:
            entries = []
            for lsn, record in ready.records:
                log.debug("= %d %s", lsn, record)
                body, payload = to_bytes(record)
                entries.append(
                    Entry(lsn, type(record).__name__, getattr(record, "task", None), record.at, body, payload)
                )
            expected, self._end = self._end, entries[-1].lsn
            batch = _Batch(ready, taken)
            self._in_flight.append(batch)
            self._quiet.clear()
            self.store.append(entries, expected, self._appended)
        elif self._in_flight:
            # Nothing new to keep, but what these frames say may rest on a batch that is not durable yet.
            last = self._in_flight[-1]
            last.ready.frames.extend(ready.frames)
            last.ready.closes.extend(ready.closes)
            for number, count in taken.items():
                last.taken[number] = last.taken.get(number, 0) + count
        else:
            self._send(_Batch(ready, taken))
        self._arm()

    def _appended(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error if isinstance(error, StoreError) else StoreError(f"an append failed: {error}"))
            return
        self._send(self._in_flight.popleft())
        if not self._in_flight:
            self._quiet.set()

    def _fail(self, error: StoreError) -> None:
        assert self._failure is not None, "open() comes first"
        self._quiet.set()
        if not self._failure.done():
            log.critical("the coordinator stops: %s", error)
            self._failure.set_exception(error)
            for peer in list(self._peers.values()):
                if peer.transport is not None:
                    peer.transport.abort()

    def _send(self, batch: _Batch) -> None:
        by_peer: dict[int, list[Frame]] = {}
        for number, frame in batch.ready.frames:
            by_peer.setdefault(number, []).append(frame)
        debug = log.isEnabledFor(logging.DEBUG)
        for number, frames in by_peer.items():
            peer = self._peers.get(number)
            if peer is None or peer.transport is None:
                continue  # gone; what mattered is in its mailbox, or will be asked for again
            if debug:
                for frame in frames:
                    log.debug("> %d %s", number, frame)
            send_frames(peer.transport, frames, peer.encoding)
            peer.watch_closely(self.coordinator.is_busy(number))
        for number, reason in batch.ready.closes:
            peer = self._peers.get(number)
            if peer is not None and peer.transport is not None:
                peer.transport.close(1000 if reason == "bye" else 1008, reason[:100])
        for number, count in batch.taken.items():
            peer = self._peers.get(number)
            if peer is not None:
                peer.give_back(count)

    def _arm(self) -> None:
        """Set the one timer to the coordinator's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.coordinator.next_deadline()
        if deadline is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0, deadline - self.clock()) / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.coordinator.tick(self.clock())
        self._wake()


class _Peer:
    """The server's end of one connection: decodes, and slows down a peer that sends more than it may."""

    __slots__ = (
        "_hello_timer",
        "_is_busy",
        "_refill_at",
        "_server",
        "_tokens",
        "decoder",
        "encoding",
        "in_flight",
        "is_paused",
        "number",
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
        self._tokens = float(server.policy.frames_per_second)
        self._refill_at = 0
        self._is_busy = False
        self._hello_timer: asyncio.TimerHandle | None = None

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        self.encoding = JSON if transport.subprotocol == JSON else MSGPACK
        self.decoder = Decoder(self.encoding, self._server.policy.frame_limits)
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

    def received(self, data: bytes) -> None:
        self._server._received(self, data)

    def closed(self, reason: str) -> None:
        log.debug("connection %d closed: %s", self.number, reason)
        self._server._peers.pop(self.number, None)
        self.transport = None
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._server.coordinator.closed(self.number, self._server.clock())
        self._server._wake()

    def take(self, count: int) -> None:
        """Count frames that came, and stop reading while there are too many unanswered or too many a second."""
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
        """Count frames that were answered."""
        self.in_flight -= count
        if self.is_paused and self._tokens >= 0 and self.in_flight <= self._server.policy.requests_in_flight // 2:
            self._resume()

    def _pause(self) -> None:
        if self.transport is not None:
            self.is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        self._tokens = max(self._tokens, 0.0)
        if self.is_paused and self.transport is not None:
            self.is_paused = False
            self.transport.resume_reading()
