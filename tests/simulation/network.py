"""Connections that behave like TCP: bytes arrive late, in order, once, or never, and after that nothing arrives.

A connection has two pipes. Each can be stalled alone; both break together, and bytes under way are lost with them,
except that either pipe may still deliver the front of its bytes. The two ends notice a break at different times: one
may have dialed again before the other knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from .world import Event, World

__all__ = ["Connection", "Host", "Network", "Pipe"]


class Host(Protocol):
    """The host that connections are dialed to."""

    is_up: bool

    def accept(self, connection: Connection) -> None:
        """Take an open connection; set its `to_server` and `server_closed`."""


class Pipe:
    """One direction of a connection."""

    __slots__ = (
        "_chance",
        "_event",
        "_last",
        "_queue",
        "_world",
        "deliver",
        "ended",
        "is_broken",
        "latency",
        "pace",
        "stalled",
    )

    def __init__(self, world: World, chance: Random, latency: tuple[int, int]) -> None:
        self._world = world
        self._chance = chance
        self._queue: deque[tuple[int, bytes | None]] = deque()
        self._last = 0
        self._event: Event | None = None
        self.latency = latency
        self.stalled = 0
        """Nothing is delivered before this time."""
        self.pace = 0
        """How long the reader takes for each message."""
        self.is_broken = False
        self.deliver: Callable[[bytes], None] = _nobody
        self.ended: Callable[[str], None] = _nobody_is_told

    def send(self, data: bytes | None) -> None:
        """Send bytes; None is the orderly end, which arrives after everything before it."""
        if self.is_broken:
            return
        low, high = self.latency
        ready = self._world.now + (low if low == high else low + int((high - low + 1) * self._chance.random()))
        self._last = ready = max(ready, self._last)
        self._queue.append((ready, data))
        if self._event is None:
            self._event = self._world.at(max(ready, self.stalled), self._arrive)

    @property
    def waiting(self) -> int:
        """How many messages are on their way."""
        return len(self._queue)

    @property
    def is_slow(self) -> bool:
        """Whether its reader does not keep up."""
        return self.pace > 0 or self.stalled > self._world.now

    def stall(self, until: int) -> None:
        """Deliver nothing until then."""
        self.stalled = max(self.stalled, until)

    def heal(self) -> None:
        """Resume delivery."""
        self.stalled = self.pace = 0
        if self._queue and self._event is not None:
            World.call_off(self._event)
            self._event = self._world.at(self._queue[0][0], self._arrive)

    def cut(self, keep: float) -> None:
        """Break; this share of the messages under way still arrives, now."""
        for _ in range(int(len(self._queue) * keep)):
            _, data = self._queue.popleft()
            if data is not None:
                self.deliver(data)
            if self.is_broken:
                return
        self.is_broken = True
        self._queue.clear()
        World.call_off(self._event)

    def _arrive(self) -> None:
        self._event = None
        now, queue = self._world.now, self._queue
        while queue and queue[0][0] <= now and self.stalled <= now:
            _, data = queue.popleft()
            if data is None:
                self.ended("closed by the other end")
                return
            self.deliver(data)
            if self.pace:
                self.stalled = max(self.stalled, now + self.pace)
        if queue:
            self._event = self._world.at(max(queue[0][0], self.stalled), self._arrive)


class Connection:
    """Two pipes, and the callbacks for their break."""

    def __init__(self, network: Network, number: int, latency: tuple[int, int], encoding: str) -> None:
        self.number = number
        self.encoding = encoding
        self.is_over = False
        self._network = network
        world, chance = network.world, network.chance
        self.up = Pipe(world, chance, latency)
        self.down = Pipe(world, chance, latency)
        self.peer_closed: Callable[[str], None] = _nobody_is_told
        self.server_closed: Callable[[str], None] = _nobody_is_told
        self.down.ended = self._ended_by_server
        self.up.ended = self._ended_by_peer

    def break_(self, reason: str, *, peer_knows: int = 0, server_knows: int = 0, keep: tuple[float, float]) -> None:
        """Lose the connection; each end knows after some milliseconds. `keep`: the share that arrives, up and down."""
        if self.is_over:
            return
        self.is_over = True
        self.up.cut(keep[0])
        self.down.cut(keep[1])
        world = self._network.world
        world.after(peer_knows, self.peer_closed, reason)
        world.after(server_knows, self.server_closed, reason)

    def close_from_server(self) -> None:
        """End it in order: everything already sent arrives first."""
        self.down.send(None)
        self.up.is_broken = True

    def close_from_peer(self) -> None:
        """End it in order, from the other side."""
        self.up.send(None)
        self.down.is_broken = True

    def _ended_by_server(self, reason: str) -> None:
        self.is_over = True
        self.down.is_broken = True
        self.peer_closed(reason)

    def _ended_by_peer(self, reason: str) -> None:
        self.is_over = True
        self.up.is_broken = True
        self.server_closed(reason)


class Network:
    """Makes connections to one host, while that is up."""

    def __init__(self, world: World, host: Host) -> None:
        self.world = world
        self.chance = world.chance("network")
        self.host = host
        self.connections: dict[int, Connection] = {}
        """The open connections, by number."""
        self._numbers = 0

    def dial(self, latency: tuple[int, int], encoding: str, opened: Callable[[Connection | None], None]) -> None:
        """Try to connect; `opened` gets the connection, or None if nobody answers."""
        self.world.after(self.chance.randint(*latency), self._answer, latency, encoding, opened)

    def _answer(self, latency: tuple[int, int], encoding: str, opened: Callable[[Connection | None], None]) -> None:
        if not self.host.is_up:
            opened(None)
            return
        self._numbers += 1
        connection = Connection(self, self._numbers, latency, encoding)
        for number in [number for number, known in self.connections.items() if known.is_over]:
            del self.connections[number]
        self.connections[connection.number] = connection
        self.host.accept(connection)
        opened(connection)


def _nobody(_: bytes) -> None:
    """Drop bytes for an end that is not there."""


def _nobody_is_told(_: str) -> None:
    """Ignore a break that nobody needs to hear of."""
