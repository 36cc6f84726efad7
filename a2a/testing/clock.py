"""The time of a squad: it goes on with real time, and a test may put it ahead.

On the way what falls due happens in its order, and the time stands while the squad does what follows from it: tells
peers, and has handlers go on that waited for it. Used by `squad`.
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
"""Real seconds that somebody may be away, in the middle of an advance, who is to be back at once."""
TALK_MAX = 5.0
"""Real seconds for what follows from one thing that fell due: a handler may never cease to say something."""
PLAIN_MAX = 0.2
"""Real seconds for a plain function to wait for the squad again: it may wait for the test."""
QUIET_ROUNDS = 6
"""Rounds in which nobody says anything, after which nobody will: between two words of a handler there may be several
turns of its loop."""
TURNS = 10
"""Of the loop with the handlers, in each round."""


class _Alarm:
    """A call that is to be made, in its own loop."""

    __slots__ = ("call", "due", "handle", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, due: int, call: Callable[[], object]) -> None:
        self.loop, self.due, self.call = loop, due, call
        self.handle: asyncio.TimerHandle | None = None


class SquadClock(PeerClock):
    """A clock that can be stopped and put ahead. Peers in several threads go by it; one of them moves it."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        """Those that go by it, as long as they have not ended."""
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
        """Return the time in milliseconds since the epoch: the coordinator's."""
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
        """Return when the next call is to be made, or None."""
        with self._lock:
            return min((alarm.due for alarm in self._alarms), default=None)

    def stop(self) -> None:
        """Have the time stand."""
        self._stands_at = self.now()

    def put_ahead(self, to: int) -> bool:
        """Have a clock that stands show a later time, and tell whether somebody hears of it."""
        self._stands_at = to
        with self._lock:
            due = sorted((alarm for alarm in self._alarms if alarm.due <= to), key=lambda alarm: alarm.due)
            self._alarms.difference_update(due)  # here: a loop may be closed, and none of its calls be made any more
            pauses = list(self._pauses)
        for alarm in due:
            _soon(alarm.loop, alarm.call)
        for loop, is_over in pauses:
            _soon(loop, is_over.set)
        return bool(due or pauses)

    def go_on(self) -> None:
        """Have the time go on with real time, from where it stands."""
        if self._stands_at is not None:
            self._ahead, self._stands_at = self._stands_at - super().now(), None
        with self._lock:
            alarms = list(self._alarms)
        for alarm in alarms:
            _soon(alarm.loop, self._look, alarm)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # it is closed: nobody is there any more
        loop.call_soon_threadsafe(call, *arguments)


def _say_all(link: Link) -> None:
    """In a link's loop: have it say what else would wait some tenths of a second, in real time."""
    if link.has_ended:
        return
    for attempt in link.work.attempts.values():
        if attempt.progress_no > attempt.told_no or (attempt.waits > 0) is not (attempt.slot == "released"):
            link.work._beat_at(attempt, link.now())
    link._acknowledge()


class SquadServer(Server):
    """A coordinator whose timers are let run out by whoever puts its clock ahead."""

    heard = 0
    """Messages that peers had to say."""
    _is_held = False

    def hold(self) -> None:
        """Have no timer run out until `release`."""
        self._is_held = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def release(self) -> None:
        """Have timers run out by themselves again."""
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
        """Whether everything is decided that came, and durable."""
        is_deciding = bool(self._is_awake or self._inbox or self._in_flight or self._lookups)
        return not is_deciding and not self._bench.is_busy

    @property
    def is_comparing(self) -> bool:
        """Whether a job is being done, in a process of its own."""
        return self._bench.is_busy

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self._loop is not None

    async def prune(self) -> None:
        """Let go of what was kept for as long as the namespace wants."""
        if self._pruning is not None:
            await self._pruning.prune()

    def _arm(self) -> None:
        if not self._is_held:
            super()._arm()


class Course:
    """Puts the time of one squad ahead.

    Args:
        server: its coordinator.
        clock: that of all of them.
        mischief: what knows its connections.
        runners: returns the runs of its agents.
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
        """Task to the end that its lease was given for the way, and how much was left of it."""
        self._carried_claims: list[int] = []
        self._pruned_at = server.clock()
        self._waits: dict[tuple[str, int], Future[Any] | None] = {}
        """Attempt with a plain function to what that waited for when it was last looked."""
        self._moves = 0
        """How often one of them was seen to wait for something else than before."""
        self._at_work: dict[tuple[str, int], float] = {}
        """Attempt whose plain function did not wait for the squad when it was last looked, to since when that is so."""

    async def advance(self, ms: int) -> None:
        """Put the time ahead by so many milliseconds."""
        self._require_open()
        if asyncio.get_running_loop() is not self._loop:
            raise LocalProtocolError("advance: the squad is in another event loop than the one that runs here")
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
            raise LocalProtocolError("advance: the squad's block is over, no time goes on in it")

    async def _go(self, end: int) -> None:
        await self._settle()
        while True:
            self._carry(end)
            self._carry_claims()
            due = self._next_due()
            to = end if due is None else max(self._clock.now(), min(due, end))
            if self._clock.put_ahead(to):
                await self._settle()  # before anything falls due: a claim is kept by who is there to say so
            lsn = self._server.coordinator.ledger.lsn
            self._server.let_due()
            if self._server.coordinator.ledger.lsn != lsn:
                await self._settle()
            else:
                await asyncio.sleep(0)  # only something to look at again: others have their turn all the same
            if self._server.clock() - self._pruned_at >= PRUNE_EVERY * 1000:
                self._pruned_at = self._server.clock()
                await self._server.prune()
            while self._away():
                await self._settle()  # lost since it was quiet: it is back before more time has gone by
            due = self._next_due()
            if to == end and (due is None or due > end):
                return

    def _next_due(self) -> int | None:
        """Return when something falls due next, by the peers' clock, or None."""
        deadline = self._server.coordinator.next_deadline()
        if deadline is not None:
            deadline += self._clock.now() - self._server.clock()
        times = (deadline, self._clock.next_due())
        return min((due for due in times if due is not None), default=None)

    def _carry(self, end: int) -> None:
        """Have no lease end on the way whose holder is there: it would have been heard all the time.

        To have it heard is a way of as many steps as there are heartbeats, which are hundred thousands in a day.
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
        """Have no claim end on the way whose holder is there: it renews it with each step, however long that is."""
        coordinator = self._server.coordinator
        there = {link.identity.agent_id for link in self._clock.links if link.session.is_open}
        for claim in coordinator.ledger.claims.by_fence.values():
            if claim.until is not None and claim.agent in there:
                coordinator._alarms.set(claim.id, claim.grace_at if claim.recalled else None, claim.id)
                self._carried_claims.append(claim.id)

    def _put_down(self) -> None:
        """Have leases and claims end as ever."""
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
        if coordinator.live.lease_until.get(task) == until:  # else it was heard since
            coordinator.live.lease_until[task] = now + left
            coordinator._lease_changed(task, now)

    # What follows -----------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until everything has followed from what has happened so far.

        Raises:
            TimeoutError: somebody is away who is to be back at once.
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
                    raise TimeoutError(f"advance: expected {', '.join(away)} to be there within {AWAY_MAX:g} s")
                talk_until = loop.time() + TALK_MAX
            if server.is_comparing:
                talk_until = loop.time() + TALK_MAX
            is_back = await self._round()
            is_waiting = bool(away) or not is_back or not server.is_at_rest
            is_waiting = self._is_at_work() or is_waiting
            before, said = said, (server.heard, server.coordinator.ledger.lsn, self._moves)
            quiet = quiet + 1 if said == before and not is_waiting else 0
            if is_waiting:
                await asyncio.sleep(0.001)  # nothing tells when
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
        """Have everybody take a few turns, and tell whether all peers were there.

        Each peer's connection has brought by then what was under way on it, to the coordinator and from it.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)
        asked = {line.bounce(): line.who for line in self._mischief.lines.copy()}
        if not asked:
            return True
        _, missing = await asyncio.wait(asked, timeout=AWAY_MAX)
        if missing:
            names = ", ".join(sorted({asked[answer] for answer in missing}))
            raise TimeoutError(f"advance: expected the connection of {names} to bring something within {AWAY_MAX:g} s")
        return all(answer.result() for answer in asked)

    def _away(self) -> list[str]:
        """Return who is not connected and will be."""
        links = [link for link in self._clock.links if not link.has_ended]
        there = {link.identity.agent_id for link in links if link.session.is_open}
        away = [link.identity.agent_id for link in links if not link.session.is_open]
        return sorted({*away, *self._mischief.dying(), *self._mischief.broken(), *(self._mischief.agents - there)})
