"""The faults of a squad, drawn from a seed: connections end, messages are late, agents die in the middle of work.

It stands between the link of an agent or client and its connection, and does not look at what is said. `squad` uses it.
To a coordinator the faults look the same as a bad network and killed processes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from ..ids import new_suffix
from ..link import Dial, Link, LinkSettings
from ..protocol.codec import JSON, MSGPACK, Frame, encode
from ..protocol.messages import Ping
from ..transports.base import Receiver, Transport
from ..transports.websocket import connect

__all__ = ["MARK", "Fault", "Faults", "Mischief"]

MARK = f"bounce-{new_suffix()}".encode()
"""Marks what goes to the coordinator and back, among the messages of peers: no text contains it by chance."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, and how often.

    A share is a fraction of the messages that go to or from an agent or client, from 0 to below 1; both shares together
    are below 1. All faults follow from the seed: the same seed and the same messages have the same faults at the same
    places.

    Raises:
        ValueError: a share or a delay is not valid.
    """

    seed: int = 0
    drop: float = 0.0
    """The share of messages that are lost, and their connection with them; the peer connects again."""
    crash: float = 0.0
    """The share of an agent's messages at which it dies: its handlers are cancelled, nothing more of theirs is sent,
    and it is started again under its name. Plain functions go on in their threads, like those of a process that was
    wrongly presumed dead. Each lost attempt counts as one of a task's `losses`."""
    delay: float = 0.0
    """The most seconds by which a message is late; messages of one connection stay in order."""

    def __post_init__(self) -> None:
        for what, share in (("drop", self.drop), ("crash", self.crash)):
            if not 0 <= share < 1:
                raise ValueError(f"{what}: expected a share of at least 0 and below 1, got {share!r}")
        if self.drop + self.crash >= 1:  # nobody would ever connect
            raise ValueError(f"drop and crash: expected less than 1 together, got {self.drop!r} and {self.crash!r}")
        if not 0 <= self.delay < float("inf"):
            raise ValueError(f"delay: expected seconds, got {self.delay!r}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that happened."""

    kind: str
    """`drop` or `crash`."""
    who: str
    """The agent, or `client`."""


class Mischief:
    """Makes the faults of one squad, and keeps a list of them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.made: list[Fault] = []
        """In the order they happened."""
        self.lines: set[_Line] = set()
        """The open connections, including those of other threads: only for a look."""
        self._lives: dict[str, Life] = {}
        self._connections: dict[str, int] = {}

    @property
    def agents(self) -> set[str]:
        """The agents that were started."""
        return set(self._lives)

    def dying(self) -> list[str]:
        """Return the agents that are over and not started again yet."""
        return [agent for agent, life in self._lives.items() if life.is_over]

    def broken(self) -> list[str]:
        """Return the peers whose connections have ended here, but not yet for the peer."""
        return [line.who for line in self.lines.copy() if line.is_broken]

    def for_others(self, settings: LinkSettings) -> LinkSettings:
        """Return settings for agents and clients that suffer no faults."""
        unhurt = Mischief(Faults())
        unhurt.lines = self.lines

        async def dial(receiver: Receiver) -> None:
            link: Link = receiver._link  # type: ignore[attr-defined]  # settings replaced by the caller count
            await unhurt._dial(link.settings, link.identity.agent_id, None)(receiver)

        return replace(settings, dial=dial)

    def for_client(self, settings: LinkSettings) -> LinkSettings:
        """Return settings for a client whose connections may end."""
        return replace(settings, dial=self._dial(settings, "client", None))

    def for_life(self, settings: LinkSettings, agent: str) -> tuple[LinkSettings, Life]:
        """Return settings for the next life of an agent, and that life."""
        life = self._lives[agent] = Life()
        return replace(settings, dial=self._dial(settings, agent, life)), life

    def make(self, kind: str, agent: str) -> None:
        """Make one fault now; any thread may call it.

        Raises:
            ValueError: there is no such agent.
        """
        if agent not in self._lives:
            raise ValueError(f"expected one of {', '.join(self._lives) or 'no agents'}, got {agent!r}")
        self.happened(kind, agent, self._lives[agent])

    def _dial(self, settings: LinkSettings, who: str, life: Life | None) -> Dial:
        async def dial(receiver: Receiver) -> None:
            if life is not None and life.is_over:
                await asyncio.Event().wait()  # the dead do not come back: wait until the link is closed
            number = self._connections[who] = self._connections.get(who, 0) + 1
            drawn = Random(f"{self.faults.seed} {who} {number}")
            line = _Line(receiver, self, who, drawn, life)
            if life is not None:
                life.line = line
            await connect(settings.url, line, settings.websocket, subprotocols=settings.encodings, ssl=settings.ssl)

        return dial

    def happened(self, kind: str, who: str, life: Life | None) -> None:
        self.made.append(Fault(kind, who))
        if life is not None:
            life.suffer(kind)


class Life:
    """The life of an agent, from start to death. Made in its handlers' loop; its connection is in the links' loop."""

    def __init__(self) -> None:
        self.is_over = self._has_ended = False
        self.line: _Line | None = None
        """Its newest connection."""
        self._loop = asyncio.get_running_loop()
        self._at_the_end: Callable[[], object] = lambda: None

    def at_the_end(self, call: Callable[[], object]) -> None:
        """Set what is called, in the loop of the handlers, when the life is over."""
        self._at_the_end = call

    def suffer(self, kind: str) -> None:
        """Lose the connection, and with the fault `crash` die as well. Any thread may call it."""
        if kind == "crash":
            self.is_over = True
        if self.line is None:
            self.cut_off()
        else:
            self.line.cut_soon()

    def cut_off(self) -> None:
        """Note that the connection is gone. A life that is over ends only now: before, it could still say something."""
        if self.is_over and not self._has_ended:
            self._has_ended = True
            self._loop.call_soon_threadsafe(self._at_the_end)


class _Way:
    """One direction of a connection: what is on its way, in order."""

    def __init__(self, delay: float, drawn: Random) -> None:
        self._delay = delay
        self._drawn = drawn
        self._coming: deque[Callable[[], None]] = deque()

    def pass_on(self, arrive: Callable[[], None]) -> None:
        """Let a message arrive, after everything that is on its way."""
        if not self._delay:
            arrive()
            return
        self._coming.append(arrive)
        # Whichever delay ends first delivers the oldest message.
        asyncio.get_running_loop().call_later(self._drawn.uniform(0.0, self._delay), self._next)

    def _next(self) -> None:
        if self._coming:
            self._coming.popleft()()

    def cut(self) -> None:
        """Lose what is on its way."""
        self._coming.clear()


class _Line:
    """One connection of a peer. The peer's link sees it as its transport, and the real transport as its receiver."""

    def __init__(self, receiver: Receiver, mischief: Mischief, who: str, drawn: Random, life: Life | None) -> None:
        self.who = who
        self._receiver = receiver
        self._mischief = mischief
        self._faults = faults = mischief.faults
        self._drawn = drawn
        self._life = life
        self._crash = 0.0 if life is None else faults.crash
        self._is_cut = self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._connection: Transport | None = None
        self._to, self._from = (_Way(faults.delay, drawn) for _ in range(2))
        self._is_welcomed = False
        """Whether the coordinator has answered: before, it accepts nothing but a hello."""
        self._bounces: deque[concurrent.futures.Future[bool]] = deque()

    @property
    def _transport(self) -> Transport:
        assert self._connection is not None, "the link has a transport once this one is opened"
        return self._connection

    def cut_soon(self) -> None:
        """End the connection; any thread may call it."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        if self._is_over and self._life is not None:
            self._life.cut_off()
        self.abort()

    def _is_lost(self) -> bool:
        """Tell whether a message is lost: the connection has ended, or ends with this message."""
        if self._is_cut:
            return True
        roll = self._drawn.random()
        if roll < self._crash + self._faults.drop:
            self.abort()
            self._mischief.happened("crash" if roll < self._crash else "drop", self.who, self._life)
        return self._is_cut

    def bounce(self) -> asyncio.Future[bool]:
        """Send something to the coordinator and back, after everything that is under way. Any thread may call it.

        It suffers no fault, and none is drawn for it.

        Returns:
            Whether it came back; otherwise the connection is over, or is not established yet.
        """
        back: concurrent.futures.Future[bool] = concurrent.futures.Future()
        try:
            self._loop.call_soon_threadsafe(self._bounce, back)
        except RuntimeError:  # closed meanwhile
            back.set_result(False)
        return asyncio.wrap_future(back)

    def _bounce(self, back: concurrent.futures.Future[bool]) -> None:
        if self._is_cut or self._is_over or not self._is_welcomed:
            _answer(back, False)
            return
        self._bounces.append(back)
        ping = encode([Frame(MARK.decode(), Ping())], JSON if self.subprotocol == JSON else MSGPACK)
        self._to.pass_on(lambda: self._transport.send(ping))

    def _arrive(self, data: bytes, bounced: int) -> None:
        self._receiver.received(data)
        self._is_welcomed = True
        for _ in range(min(bounced, len(self._bounces))):
            _answer(self._bounces.popleft(), True)

    @property
    def is_broken(self) -> bool:
        """Whether it has ended here, but not yet for the peer."""
        return self._is_cut and not self._is_over

    def _let_go(self) -> None:
        while self._bounces:
            _answer(self._bounces.popleft(), False)

    # Receiver ---------------------------------------------------------------------------------------------------------

    def opened(self, transport: Transport) -> None:
        self._connection = transport
        self._mischief.lines.add(self)
        self._receiver.opened(self)
        if self._is_cut:
            transport.abort()

    def received(self, data: bytes) -> None:
        bounced = data.count(MARK) if self._bounces else 0
        if self._is_cut if bounced else self._is_lost():
            return
        self._from.pass_on(lambda: self._arrive(data, bounced))

    def closed(self, reason: str) -> None:
        if self._is_cut:
            self._end(reason)
        else:
            self._from.pass_on(lambda: self._end(reason))

    def _end(self, reason: str) -> None:
        self._is_over = True
        self._mischief.lines.discard(self)
        self._let_go()
        self._receiver.closed(reason)
        if self._life is not None:
            self._life.cut_off()

    # Transport --------------------------------------------------------------------------------------------------------

    @property
    def subprotocol(self) -> str:
        return self._transport.subprotocol

    @property
    def peer(self) -> str:
        return self._transport.peer

    @property
    def waiting(self) -> int:
        return self._transport.waiting

    @property
    def is_carrying(self) -> bool:
        return self._transport.is_carrying

    def send(self, data: bytes) -> None:
        if not self._is_lost():
            self._to.pass_on(lambda: self._transport.send(data))

    def when_drained(self, call: Callable[[], None]) -> None:
        self._transport.when_drained(call)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def keepalive(self, interval: float) -> None:
        self._transport.keepalive(interval)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._to.pass_on(lambda: self._transport.close(code, reason))

    def abort(self) -> None:
        if self._is_cut:
            return  # the news of its end is on its way
        self._is_cut = True
        self._let_go()
        self._to.cut()
        self._from.cut()
        if self._connection is not None:
            self._connection.abort()


def _answer(future: concurrent.futures.Future[bool], is_back: bool) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits for it any more
        future.set_result(is_back)
