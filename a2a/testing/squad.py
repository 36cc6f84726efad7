"""A coordinator, agents and a client in one process, over real connections on loopback, with nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import anyio

from ..agent import Agent
from ..client import Client, connect
from ..engine.policy import Admission, Durations, Policy, digest
from ..given import milliseconds, require_kind, whole
from ..ids import new_secret
from ..link import LinkSettings
from ..runner import Runner
from ..server import Server
from ..stores.base import Store
from ..stores.memory import MemoryStore
from .clock import Course, SquadClock, SquadServer
from .faults import Fault, Faults, Mischief

__all__ = ["QUICK", "Squad", "squad"]

QUICK = Durations(heartbeat_ms=100, lease_ms=10_000, offer_ms=5_000, confirm_ms=5_000, ask_ms=5_000, cancel_ms=500)
"""Durations that let a test see in seconds what takes minutes in production, with leases that outlast a stall of a busy
machine. No test has to wait for a lease: `Squad.crash` ends an attempt at once, and `Squad.advance` moves time ahead.
"""


@dataclass(frozen=True, slots=True)
class Squad:
    """A running squad, for a test to use."""

    server: Server
    client: Client
    url: str
    settings: LinkSettings
    """For further agents and clients; they are admitted with it, use the squad's time, and suffer no faults."""
    _mischief: Mischief
    _course: Course

    @property
    def suffered(self) -> list[Fault]:
        """The faults so far, as they were asked for."""
        return self._mischief.made

    def crash(self, agent_id: str) -> None:
        """Make an agent die now and start again, as with `Faults.crash`.

        Raises:
            ValueError: there is no such agent.
        """
        self._mischief.make("crash", agent_id)

    def drop(self, agent_id: str) -> None:
        """End the connection of an agent now; it connects again.

        Raises:
            ValueError: there is no such agent.
        """
        self._mischief.make("drop", agent_id)

    async def advance(self, seconds: float | timedelta) -> None:
        """Advance the squad's time; before and after, it follows real time.

        What falls due on the way happens in order, each event at its own time: deadlines, times to answer, to confirm,
        to wait in line or to give back in, pauses after failures, the rungs of a conflict, how long something is kept.
        Time stands still while the squad handles an event, and handlers go on until they wait for the squad again,
        plain functions for at most a fifth of a second. Anything else that a handler waits for takes real time, even
        `asyncio.sleep`, and none of the squad's time: if it has to be done by then, await its outcome before advancing.

        Connected peers stay alive: their leases do not lapse on the way, nor do claims that they renew. An agent that
        has crashed has lost its attempts, and is started again before time goes on; a dropped connection is made again.
        Peers that were not made with the squad's `settings` use real time, and keep their leases alive by themselves.

        On return, everything due is decided and durable, and the connected peers have been told. A handler or a caller
        that waits for the news may be a turn of the event loop behind, so await it as usual. From then on
        `TaskContext.deadline` tells what is left by the coordinator's time.

        Args:
            seconds: how far; 0 only waits for what is under way.

        Raises:
            ValueError: it is not a time, or is negative.
            LocalProtocolError: the block is over, or runs in another event loop.
            TimeoutError: an agent or client that was connected does not come back.
            StoreError: the coordinator cannot go on.
        """
        ms = milliseconds(seconds, "seconds")
        if ms < 0:
            raise ValueError(f"seconds: expected 0 or more seconds, got {seconds}")
        await self._course.advance(ms)

    def connect(self, name: str = "test", *, operator: bool = False) -> Client:
        """Return another client; enter it to connect."""
        return connect(name=name, settings=self._mischief.for_client(replace(self.settings, operator=operator)))


@asynccontextmanager
async def squad(
    *agents: Agent,
    n: int = 1,
    policy: Policy | None = None,
    store: Store | None = None,
    secrets: MutableMapping[str, str] | None = None,
    faults: Faults | None = None,
) -> AsyncIterator[Squad]:
    """Run a coordinator and agents for the duration of the block; the client is an operator.

    At the end of the block the agents may finish their work; if the block raises or is cancelled, they give it back.

    Args:
        agents: what to run; with `n` above 1 each of them `n` times, as `name/1`, `name/2`, ...
        n: instances of each agent.
        policy: the coordinator's settings; by default `QUICK` durations.
        store: its ledger, as `a2a.SqliteStore(path)`; by default one in memory.
        secrets: what the coordinator issued to each principal, to carry on with the same store.
        faults: what goes wrong, from the first message of the block to the last.

    Raises:
        ValueError: an argument is of the wrong kind.
        ConnectError: an agent was not admitted, or another instance took its place. Errors of the block pass through.
    """
    for agent in agents:
        require_kind(agent, Agent, "agents")
    whole(n, "n")
    if policy is not None:
        require_kind(policy, Policy, "policy")
    if secrets is not None and not isinstance(secrets, MutableMapping):
        raise ValueError(f"secrets: expected a map, got {type(secrets).__name__}")
    token, operator_token = new_secret(), new_secret()
    chosen = policy or Policy(durations=QUICK)
    chosen = replace(chosen, admission=Admission(digest(token), digest(operator_token)))
    clock = SquadClock()
    server = SquadServer(MemoryStore() if store is None else store, chosen, clock=clock.wall)
    raised: BaseException | None = None
    await server.open()
    mischief = Mischief(faults or Faults())
    serving = _Serving()
    try:
        try:
            listener = await server.listen()
            settings = LinkSettings(
                url=listener.url,
                token=token,
                operator_token=operator_token,
                secrets={} if secrets is None else secrets,
                patience=5.0,
                clock=clock,
            )
            course = Course(server, clock, mischief, serving.runners)
            for agent in agents:
                for number in range(1, n + 1):
                    name = agent.name if n == 1 else f"{agent.name}/{number}"
                    await serving.begin(_Post(agent, name, settings, mischief))
            async with connect(name="test", settings=mischief.for_client(replace(settings, operator=True))) as client:
                yield Squad(server, client, listener.url, mischief.for_others(settings), mischief, course)
        except BaseException as error:  # noqa: BLE001 - it is raised below, once all that has begun has ended
            raised = error
        raised = await serving.end(raised)
    finally:
        with anyio.CancelScope(shield=True):
            await server.aclose()
    if raised is not None:
        raise raised


class _Serving:
    """The agents of a squad, each in a task of its own; if one fails, the block is cancelled.

    Not a task group: as a fixture of pytest-asyncio, the block is left in another task than the one that entered it.
    """

    def __init__(self) -> None:
        self._block = asyncio.current_task()
        self._stop = anyio.Event()
        self._posts: list[_Post] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._is_left = False
        self._has_cancelled = False

    def runners(self) -> list[Runner]:
        """Return the runners of the agents that are alive now."""
        return [post.runner for post in self._posts if post.runner is not None]

    async def begin(self, post: _Post) -> None:
        """Run an agent, and return when it is connected."""
        ready = anyio.Event()
        self._posts.append(post)
        self._tasks.append(asyncio.create_task(post.serve(self._stop, ready)))
        self._tasks[-1].add_done_callback(self._ended)
        await ready.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        has_failed = not task.cancelled() and task.exception() is not None
        if has_failed and not self._is_left and not self._has_cancelled and self._block is not None:
            self._has_cancelled = self._block.cancel()

    async def end(self, raised: BaseException | None) -> BaseException | None:
        """End all agents, and return what to raise: what the block raised, or why it was cancelled."""
        self._is_left = True
        if raised is not None:
            for post in self._posts:
                post.hurry()  # nobody is left to see the handlers' results
        self._stop.set()
        cancelled = await self._all_ended()
        if self._has_cancelled and asyncio.current_task() is self._block and self._block is not None:
            cancelled = cancelled if self._block.uncancel() else None
        raised = cancelled if raised is None else raised
        failures = [task.exception() for task in self._tasks if not task.cancelled()]
        for failure in failures:
            if failure is None:
                continue
            if raised is None or isinstance(raised, asyncio.CancelledError):
                raised = failure
            else:
                raised.add_note(f"an agent failed as well: {failure!r}")
        return raised

    async def _all_ended(self) -> asyncio.CancelledError | None:
        """Wait for the agents even if this is cancelled, and return the last cancellation."""
        cancelled = None
        with anyio.CancelScope(shield=True):
            while not all(task.done() for task in self._tasks):
                try:
                    await asyncio.wait(self._tasks)
                except asyncio.CancelledError as error:
                    cancelled = error
        return cancelled


class _Post:
    """The place of an agent in a squad. If it dies by a fault, its next life begins here."""

    def __init__(self, agent: Agent, name: str, settings: LinkSettings, mischief: Mischief) -> None:
        self._agent = agent
        self._name = name
        self._settings = settings
        self._mischief = mischief
        self.runner: Runner | None = None
        """The runner of its newest life."""
        self._grace: float | None = None
        self._lives: list[asyncio.Task[None]] = []

    async def serve(self, stop: anyio.Event, ready: anyio.Event) -> None:
        # Shielded: a cancelled block sets `stop` when it ends; an agent that left earlier would wait for its handlers.
        with anyio.CancelScope(shield=True):
            while await self._dies(stop, ready) and not stop.is_set():
                pass
            # Plain functions of a life that died go on in their threads; nobody hears of its other remains.
            await asyncio.gather(*self._lives, return_exceptions=True)

    async def _dies(self, stop: anyio.Event, ready: anyio.Event) -> bool:
        """Run the agent until it ends or dies, and tell whether it died."""
        settings, life = self._mischief.for_life(self._settings, self._name)
        runner = self.runner = Runner(self._agent, settings, self._name, self._grace)
        running = asyncio.create_task(runner.run(stop, ready.set))
        self._lives.append(running)
        is_over = asyncio.Event()
        running.add_done_callback(lambda _: is_over.set())

        def die() -> None:
            runner.grace = 0.0
            running.cancel()
            is_over.set()

        life.at_the_end(die)
        await is_over.wait()
        if not life.is_over:
            running.result()
        return life.is_over

    def hurry(self) -> None:
        """Give work under way back at the end, rather than wait for it."""
        self._grace = 0.0
        if self.runner is not None:
            self.runner.grace = 0.0
