"""The time of a squad: it follows real time, and a test may advance it.

During an advance, events happen in the order in which they fall due. Time stands still while the squad handles each of
them: it notifies peers, and handlers that waited for the event go on. Used by `squad`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from ..clock import PeerClock
from ..engine.claims import when_claim_due
from ..errors import LocalProtocolError
from ..link import Link
from ..peer import Peer
from ..protocol.canonical import NUMBER_MAX
from ..pruning import PRUNE_EVERY
from ..runner import Runner
from ..server import Server
from .faults import MARK, Mischief
from .plain import waits

__all__ = ["Course", "SquadClock", "SquadServer"]

AWAY_MAX = 10.0
"""Real seconds that a peer may be away during an advance if it is expected back at once."""
TALK_MAX = 5.0
"""Real seconds for everything that follows from one due event: a handler may never stop talking."""
PLAIN_MAX = 0.2
"""Real seconds for a plain function to wait for the squad again: it may be waiting for the test."""
QUIET_ROUNDS = 6
"""Rounds in which nobody says anything, before we conclude that nobody will: a handler may take several turns of its
loop between two messages."""
TURNS = 10
"""Turns of the handlers' loop in each round."""


class _Alarm:
    """A call to make in its own loop when it is due."""

    __slots__ = ("call", "due", "handle", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, due: int, call: Callable[[], object]) -> None:
        self.loop, self.due, self.call = loop, due, call
        self.handle: asyncio.TimerHandle | None = None


class SquadClock(PeerClock):
    """A clock that can be stopped and advanced. Peers in several threads read it; one thread moves it."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        """The links that use this clock and have not ended."""
        self._since_epoch = int((time.time() - time.monotonic()) * 1000)
        self._ahead = 0
        self._stands_at: int | None = None
        self._lock = threading.Lock()
        self._alarms: set[_Alarm] = set()
        self._pauses: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def now(self) -> int:
        stands_at = self._stands_at
        return super().now() + self._ahead if stands_at is None else stands_at

    def wall(self) -> int:
        """Return the coordinator's time, in milliseconds since the epoch."""
        return self.now() + self._since_epoch

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        due = self.now() + math.ceil(seconds * 1000)
        alarm = _Alarm(asyncio.get_running_loop(), due, partial(call, *arguments))
        with self._lock:
            self._alarms.add(alarm)
        alarm.handle = alarm.loop.call_later(seconds, self._look, alarm)

    def _look(self, alarm: _Alarm) -> None:
        """In the loop of an alarm: make its call, or wait until it is due."""
        if alarm.handle is not None:
            alarm.handle.cancel()
        with self._lock:
            if alarm not in self._alarms:
                return
            left = alarm.due - self.now()
            if left > 0:
                alarm.handle = alarm.loop.call_later(left / 1000, self._look, alarm)
                return
            self._alarms.remove(alarm)
        alarm.call()

    async def pause(self, seconds: float) -> None:
        pause = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._pauses.add(pause)
        try:
            async with asyncio.timeout(seconds):
                await pause[1].wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._pauses.discard(pause)

    def joined(self, link: Link) -> None:
        with self._lock:
            self.links = [*(known for known in self.links if not known.has_ended), link]

    def next_due(self) -> int | None:
        """Return when the next call is due, or None."""
        with self._lock:
            return min((alarm.due for alarm in self._alarms), default=None)

    def stop(self) -> None:
        """Make the time stand still."""
        self._stands_at = self.now()

    def put_ahead(self, to: int) -> bool:
        """Set a stopped clock to a later time, and tell whether anybody is notified."""
        self._stands_at = to
        with self._lock:
            due = sorted((alarm for alarm in self._alarms if alarm.due <= to), key=lambda alarm: alarm.due)
            self._alarms.difference_update(due)  # removed here, because a loop may be closed and never make its calls
            pauses = list(self._pauses)
        for alarm in due:
            _soon(alarm.loop, alarm.call)
        for loop, is_over in pauses:
            _soon(loop, is_over.set)
        return bool(due or pauses)

    def go_on(self) -> None:
        """Let the time follow real time again, from where it stands."""
        if self._stands_at is not None:
            self._ahead, self._stands_at = self._stands_at - super().now(), None
        with self._lock:
            alarms = list(self._alarms)
        for alarm in alarms:
            _soon(alarm.loop, self._look, alarm)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody is there
        loop.call_soon_threadsafe(call, *arguments)


def _say_all(link: Link) -> None:
    """In a link's loop: say now what would otherwise wait some tenths of a second of real time."""
    if link.has_ended:
        return
    for attempt in link.work.attempts.values():
        if attempt.progress_no > attempt.told_no or (attempt.waits > 0) is not (attempt.slot == "released"):
            link.work._beat_at(attempt, link.now())
    link._acknowledge()


class SquadServer(Server):
    """A coordinator that can hold its timers, for a course that advances its clock."""

    heard = 0
    """Messages received from peers."""
    _is_held = False

    def hold(self) -> None:
        """Let no timer run out until `release`."""
        self._is_held = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def release(self) -> None:
        """Let timers run out by themselves again."""
        self._is_held = False
        self._arm()

    def let_due(self) -> None:
        """Let everything happen that is due by now."""
        self.coordinator.tick(self.clock())
        self._wake()

    def _received(self, peer: Peer, data: bytes) -> None:
        if MARK not in data:
            self.heard += 1
        super()._received(peer, data)

    @property
    def is_at_rest(self) -> bool:
        """Whether everything received is decided and durable."""
        is_deciding = bool(self._is_awake or self._inbox or self._in_flight or self._lookups)
        return not is_deciding and not self._bench.is_busy

    @property
    def is_comparing(self) -> bool:
        """Whether a job is under way, in a process of its own."""
        return self._bench.is_busy

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self._loop is not None

    async def prune(self) -> None:
        """Drop what the namespace has kept long enough."""
        if self._pruning is not None:
            await self._pruning.prune()

    def _arm(self) -> None:
        if not self._is_held:
            super()._arm()


class Course:
    """Advances the time of one squad.

    Args:
        server: its coordinator.
        clock: the clock of its peers.
        mischief: knows its connections.
        runners: returns the runners of its agents.
    """

    def __init__(
        self,
        server: SquadServer,
        clock: SquadClock,
        mischief: Mischief,
        runners: Callable[[], list[Runner]],
    ) -> None:
        self._server = server
        self._clock = clock
        self._mischief = mischief
        self._runners = runners
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._carried: dict[str, tuple[int, int]] = {}
        """Task to the lease end that it was given for the advance, and how much of the lease was left."""
        self._carried_claims: list[int] = []
        self._pruned_at = server.clock()
        self._waits: dict[tuple[str, int], Future[Any] | None] = {}
        """Attempt with a plain function to what the function waited for at the last look."""
        self._moves = 0
        """How often a function was seen to wait for something new."""
        self._at_work: dict[tuple[str, int], float] = {}
        """Attempt whose plain function did not wait for the squad at the last look, to when that began."""

    async def advance(self, ms: int) -> None:
        """Advance the time by this many milliseconds."""
        self._require_open()
        if asyncio.get_running_loop() is not self._loop:
            raise LocalProtocolError("advance: the squad is in an event loop other than this one")
        async with self._turn:
            if self._server.clock() + ms > NUMBER_MAX:
                raise ValueError(f"seconds: expected a time that ends before {NUMBER_MAX} ms, {ms} ms go beyond it")
            self._at_work.clear()
            self._server.hold()
            self._clock.stop()
            try:
                await self._go(self._clock.now() + ms)
            finally:
                self._put_down()
                self._clock.go_on()
                self._server.release()

    def _require_open(self) -> None:
        if not self._server.is_open:
            raise LocalProtocolError("advance: the squad's block has ended, and its time with it")

    async def _go(self, end: int) -> None:
        await self._settle()
        while True:
            self._carry(end)
            self._carry_claims()
            due = self._next_due()
            to = end if due is None else max(self._clock.now(), min(due, end))
            if self._clock.put_ahead(to):
                await self._settle()  # before anything falls due: a claim is kept only if its owner gets to say so
            lsn = self._server.coordinator.ledger.lsn
            self._server.let_due()
            if self._server.coordinator.ledger.lsn != lsn:
                await self._settle()
            else:
                await asyncio.sleep(0)  # nothing new, but others still get their turn
            if self._server.clock() - self._pruned_at >= PRUNE_EVERY * 1000:
                self._pruned_at = self._server.clock()
                await self._server.prune()
            while self._away():
                await self._settle()  # a peer lost during the quiet rounds comes back before more time passes
            due = self._next_due()
            if to == end and (due is None or due > end):
                return

    def _next_due(self) -> int | None:
        """Return when the next event falls due, by the peers' clock, or None."""
        deadline = self._server.coordinator.next_deadline()
        if deadline is not None:
            deadline += self._clock.now() - self._server.clock()
        times = (deadline, self._clock.next_due())
        return min((due for due in times if due is not None), default=None)

    def _carry(self, end: int) -> None:
        """Keep leases from lapsing on the way while their holder is connected: it would have sent heartbeats all along.

        Actually sending these would take a step for every heartbeat, which means hundreds of thousands for a day.
        """
        coordinator, now = self._server.coordinator, self._server.clock()
        live, until = coordinator.live, now + end - self._clock.now()
        for task in list(live.lease_until):
            known = coordinator.ledger.open_tasks.get(task)
            if known is None or known.holder is None or known.holder not in live.agents:
                self._put_down_one(task, now)
            elif self._carried.get(task, (0, 0))[0] != live.lease_until[task]:
                left = live.lease_until[task] - now
                live.lease_until[task] = until + left
                self._carried[task] = (until + left, left)

    def _carry_claims(self) -> None:
        """Keep claims from lapsing on the way while their owner is connected: it renews them at every step."""
        coordinator = self._server.coordinator
        there = {link.identity.agent_id for link in self._clock.links if link.session.is_open}
        for claim in coordinator.ledger.claims.by_fence.values():
            if claim.until is not None and claim.agent in there:
                coordinator._alarms.set(claim.id, claim.grace_at if claim.recalled else None, claim.id)
                self._carried_claims.append(claim.id)

    def _put_down(self) -> None:
        """Let leases and claims end as usual."""
        coordinator = self._server.coordinator
        for task in list(self._carried):
            self._put_down_one(task, self._server.clock())
        for number in self._carried_claims:
            claim = coordinator.ledger.claims.claims.get(number)
            if claim is not None:
                coordinator._alarms.set(number, when_claim_due(claim), number)
        self._carried_claims.clear()

    def _put_down_one(self, task: str, now: int) -> None:
        coordinator = self._server.coordinator
        until, left = self._carried.pop(task, (0, 0))
        if coordinator.live.lease_until.get(task) == until:  # otherwise it was heard since
            coordinator.live.lease_until[task] = now + left
            coordinator._lease_changed(task, now)

    # What follows -----------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until everything has followed from what has happened so far.

        Raises:
            TimeoutError: a peer that is expected back at once stays away.
        """
        server, loop = self._server, asyncio.get_running_loop()
        away_until, talk_until = loop.time() + AWAY_MAX, loop.time() + TALK_MAX
        quiet, said = 0, (-1, -1, -1)
        while quiet < QUIET_ROUNDS and loop.time() < talk_until:
            self._require_open()
            if server.has_failed:
                await server.failed()
            away = self._away()
            if away:
                if loop.time() >= away_until:
                    raise TimeoutError(f"advance: expected {', '.join(away)} to connect within {AWAY_MAX:g} s")
                talk_until = loop.time() + TALK_MAX
            if server.is_comparing:
                talk_until = loop.time() + TALK_MAX
            is_back = await self._round()
            is_waiting = bool(away) or not is_back or not server.is_at_rest
            is_waiting = self._is_at_work() or is_waiting
            before, said = said, (server.heard, server.coordinator.ledger.lsn, self._moves)
            quiet = quiet + 1 if said == before and not is_waiting else 0
            if is_waiting:
                await asyncio.sleep(0.001)  # there is no event to wait for
        for link in self._clock.links:
            _soon(link._loop, _say_all, link)
        await self._round()

    def _is_at_work(self) -> bool:
        """Tell whether a plain function is at work, and will soon wait for the squad or end."""
        now = asyncio.get_running_loop().time()
        before, self._waits = self._waits, waits(self._runners())
        self._moves += any(before.get(attempt) is not wait for attempt, wait in self._waits.items())
        busy = [attempt for attempt, wait in self._waits.items() if wait is None]
        self._at_work = {attempt: self._at_work.get(attempt, now) for attempt in busy}
        return any(now - since < PLAIN_MAX for since in self._at_work.values())

    async def _round(self) -> bool:
        """Give everybody a few turns, and tell whether all peers were there.

        On return each peer's connection has delivered what was under way on it, in both directions.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)
        asked = {line.bounce(): line.who for line in self._mischief.lines.copy()}
        if not asked:
            return True
        _, missing = await asyncio.wait(asked, timeout=AWAY_MAX)
        if missing:
            names = ", ".join(sorted({asked[answer] for answer in missing}))
            raise TimeoutError(f"advance: expected something from the connection of {names} within {AWAY_MAX:g} s")
        return all(answer.result() for answer in asked)

    def _away(self) -> list[str]:
        """Return the peers that are not connected but will be."""
        links = [link for link in self._clock.links if not link.has_ended]
        there = {link.identity.agent_id for link in links if link.session.is_open}
        away = [link.identity.agent_id for link in links if not link.session.is_open]
        return sorted({*away, *self._mischief.dying(), *self._mischief.broken(), *(self._mischief.agents - there)})
