"""One run of an agent: its link in the links' thread, its handlers in the caller's loop.

Everything between the two goes through `crossing`, so the link sends heartbeats whatever a handler does. Used by
`Agent.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from .content import UNREADABLE, read_parts
from .context import TaskContext
from .crossing import Crossing
from .engine.work import DETAIL_MAX, Answered, Attempt, Start, Steered, Stop
from .engine.work import Event as WorkEvent
from .errors import (
    A2AError,
    AttemptFailed,
    ClaimLost,
    ConnectionLost,
    Deadlock,
    Declined,
    Denied,
    HandedOff,
    LeaseLapsed,
    StaleFence,
    leaves,
)
from .given import text, words
from .ids import new_suffix
from .link import Link, LinkSettings
from .loop import running_loop
from .protocol.messages import AgentUpdate, AttemptError, Credit, PatchRef
from .protocol.session import Identity
from .reader import Reader
from .sync_context import SyncTaskContext

if TYPE_CHECKING:
    from .agent import Agent

__all__ = ["DRAIN_GRACE", "Runner"]

log = logging.getLogger("a2a.agent")

T = TypeVar("T")

_Outcome = tuple[str, bytes, AttemptError | None] | Declined
"""How a handler ended: (outcome, result, error), or that it declined the task."""
_PATIENT = frozenset({"drain", "attempt"})
"""Reasons to give an attempt back that let its handler end by itself for half the grace."""
_LAST_WORDS = (Declined, HandedOff, AttemptFailed, LeaseLapsed, StaleFence, Denied, Deadlock, ClaimLost)
"""Exceptions, raised by a handler or inside it, that say how its attempt ended."""
DRAIN_GRACE = 10.0
"""Default seconds for attempts under way to end after SIGTERM or Ctrl-C, before they are given back."""


@dataclass(slots=True)
class _Running:
    """An attempt whose handler is running."""

    context: TaskContext
    scope: anyio.CancelScope | None = None
    """Made when its task begins: with sniffio installed, as with many libraries, anyio makes none in a callback."""
    is_cancelled: bool = False
    task: asyncio.Task[None] | None = None
    is_lost: bool = False
    """Whether nothing the handler says counts any longer."""
    given_back: str = ""
    """Why the attempt is given back instead of reported, if the handler was cancelled for that."""
    children: int = 0

    def cancel(self) -> None:
        """End the handler, even if it has not begun."""
        self.is_cancelled = True
        if self.scope is not None:
            self.scope.cancel()


class Runner(Reader):
    """One run of an agent: its link in the links' thread, its handlers in the caller's loop."""

    def __init__(self, agent: Agent, settings: LinkSettings, agent_id: str, grace: float | None = None) -> None:
        super().__init__()
        self.grace = DRAIN_GRACE if grace is None else grace
        """Seconds for attempts under way to end when this run ends; may be changed until then."""
        self._agent = agent
        self._settings = settings
        self._identity = Identity(
            agent_id,
            instance_id=new_suffix(),
            # The clock counts the starts. If the link keeps the secret, it also goes beyond all earlier numbers.
            incarnation=int(time.time() * 1000),
            card=agent.card(),
            labels=agent.labels,
        )
        self._crossing: Crossing | None = None
        self._made: Link | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[tuple[str, int], _Running] = {}
        self._idle: asyncio.Event | None = None
        self._is_over = False
        self._threads: anyio.CapacityLimiter | None = None
        self._leaving: asyncio.Task[None] | None = None
        """In the links' loop: the task that ends the link after the caller's loop was closed."""

    async def run(self, stop: anyio.Event, ready: Callable[[], None] | None) -> None:
        self._loop = running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        # Unlimited: credit bounds how many run, and a handler whose slot is free while it waits keeps its thread.
        self._threads = anyio.CapacityLimiter(math.inf)
        self._crossing = crossing = Crossing.enter()
        refused: list[BaseException] = []
        try:
            self._link = await self.on_link(self._make_link())
            self._agent.runs.add(self)
            await self._serve(stop, ready)
        except* A2AError as errors:
            refused = leaves(errors)
        finally:
            self._agent.runs.discard(self)
            with anyio.CancelScope(shield=True):
                if self._made is not None:
                    # Nothing to do after a drain; else the connection just made would stay until somebody misses it.
                    await self.on_link(self._made.aclose())
                await crossing.leave()
        if refused:
            raise refused[0]  # the only one of this package

    async def update(self) -> None:
        """Send the coordinator the agent's card and labels as they are now; see `Agent.update`."""
        card, labels = self._agent.card(), dict(self._agent.labels)

        async def tell() -> None:
            await self.link.call(AgentUpdate(labels=labels, card=card))  # type: ignore[arg-type]
            # The next hello sends them too; with a card that is refused the agent would not be let in again.
            self._identity.card, self._identity.labels = card, labels

        await self.on_link(tell())

    async def _serve(self, stop: anyio.Event, ready: Callable[[], None] | None) -> None:
        try:
            async with anyio.create_task_group() as group:
                try:
                    if await self._open(stop):
                        group.start_soon(self._watch_link)
                        if ready is not None:
                            ready()
                        await stop.wait()
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._drain()
                    group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end_handlers()

    async def _end_handlers(self) -> None:
        """End the handlers that are still running, and begin no others: nobody hears them any longer."""
        self._is_over = True
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for running in self._running.values():
            running.cancel()
        if tasks:
            # After a drain there is nothing to do. Else a handler that waits for an answer and cannot be cancelled
            # there would wait for as long as the coordinator is away.
            await self.on_link(self.link.aclose())
            await asyncio.wait(tasks)

    async def _open(self, stop: anyio.Event) -> bool:
        """Connect, and tell whether that happened before `stop` was set: a coordinator may take long to appear.

        A welcomed agent may have work before this loop hears that the link is open, so it is given up only in the
        links' loop, and only if it is not welcomed. Else it has to be drained.
        """
        opening = asyncio.ensure_future(self.on_link(self.link.open()))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((opening, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not opening.done():
                with anyio.CancelScope(shield=True):
                    await self.on_link(self._give_up())
                    await asyncio.wait((opening,))
            if not opening.cancelled():
                opening.exception()  # if this run is cancelled, nobody else retrieves it
        if opening.cancelled():
            return False
        opening.result()
        return True

    async def _give_up(self) -> None:
        """In the links' loop: close the link if it is not open yet."""
        if self.link.is_opening:
            await self.link.aclose()

    # Both loops -------------------------------------------------------------------------------------------------------

    async def _make_link(self) -> Link:
        """In the links' loop: make the link."""
        self._made = Link(
            self._settings,
            self._identity,
            credit=Credit(self._agent.concurrency),
            on_work=self._came,
            on_change=self.changed,
            on_written=self.written,
            on_notice=self.noticed,
        )
        return self._made

    def _came(self, events: list[WorkEvent]) -> None:
        """In the links' loop: pass on the attempts to start and stop."""
        assert self._crossing is not None, "the link is made by run()"
        made = self._made
        assert made is not None, "it has news"
        if not self._crossing.in_handlers(self._take, events) and not made.has_ended:
            # Else it would send heartbeats for work that nobody does.
            log.error("%s leaves: its event loop was closed while it ran", self._identity.agent_id)
            self._leaving = asyncio.get_running_loop().create_task(made.aclose())

    async def on_link(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the links' loop and return its result here."""
        assert self._crossing is not None, "the link is made by run()"
        return await self._crossing.on_link(work)

    async def entered(self, entering: Coroutine[Any, Any, Any], undo: Callable[[], None]) -> None:
        """Enter a block in the links' loop. A cancelled caller may not know that it was entered, so undo it then."""
        try:
            await self.on_link(entering)
        except asyncio.CancelledError:
            self.in_link(undo)
            raise

    def in_link(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Make a call in the links' loop soon, together with all others of this turn."""
        assert self._crossing is not None, "the link is made by run()"
        self._crossing.in_link(call, *arguments)

    async def _watch_link(self) -> None:
        """End the run when the link ends for good."""
        await self.on_link(self.link.wait_closed())

    async def _drain(self) -> None:
        """Take nothing new, let attempts under way end, give the rest back, and say good-bye."""
        if self.link.has_ended:
            return
        idle = self._idle
        assert idle is not None, "made by run()"

        async def begin() -> None:
            self.link.work.is_draining = True
            if self.link.session.is_open:
                with contextlib.suppress(A2AError):  # the coordinator went away: nobody to tell
                    await asyncio.wait_for(self.link.call(AgentUpdate(status="draining")), 2.0)

        with contextlib.suppress(TimeoutError):
            await self.on_link(begin())
        for running in self._running.values():
            running.context.stopping = "drain"
        with anyio.move_on_after(self.grace):
            await idle.wait()
        for running in list(self._running.values()):
            running.is_lost = True
            self.in_link(self._give_back, running.context._attempt, "the agent is draining")
            running.cancel()
        with anyio.move_on_after(2.0):
            await idle.wait()
        if self._crossing is not None:
            self._crossing.wake_links()

        async def end() -> None:
            if await self.link.drained(2.0 if self.link.session.is_open else 0.0):
                await self.link.leave(2.0)
            await self.link.aclose()

        await self.on_link(end())

    def _give_back(self, attempt: Attempt, reason: str) -> None:
        self.link.work.yield_(attempt, reason)
        self.link.wake()

    # Attempts ---------------------------------------------------------------------------------------------------------

    def _take(self, events: list[WorkEvent]) -> None:
        """In the caller's loop: start and stop handlers."""
        assert self._loop is not None, "made by run()"
        if self._is_over:
            return  # it came while the link was closing; the task goes to another agent
        for event in events:
            key = (event.attempt.task, event.attempt.fence)
            if isinstance(event, Start):
                running = self._running[key] = _Running(TaskContext(self, event.attempt))
                if self._idle is not None:
                    self._idle.clear()
                # A task group takes 12 us where this takes 2; the end of the run ends what is left.
                running.task = self._loop.create_task(self._attempt(running))
            elif isinstance(event, Answered):
                known = self._running.get(key)
                if known is not None:
                    known.context._answered(event.ask_no, event.payload)
            elif isinstance(event, Steered):
                known = self._running.get(key)
                if known is not None:
                    known.context._was_steered(event.steer_no, event.payload)
            elif isinstance(event, Stop):
                known = self._running.get(key)
                if known is not None:
                    self._stop(known, event)

    def _stop(self, running: _Running, stop: Stop) -> None:
        """End a handler: at once, or after a while if it may still leave a checkpoint by itself."""
        if stop.grace_ms == 0 or stop.reason == "cancel":
            running.is_lost = stop.grace_ms == 0
            running.context.is_canceled = True
            running.cancel()
            return
        running.context.stopping = stop.reason
        running.given_back = stop.reason
        wait = stop.grace_ms / 2000 if stop.reason in _PATIENT else 0.0
        self.link.clock.call_later(wait, running.cancel)

    async def _attempt(self, running: _Running) -> None:
        context = running.context
        outcome: _Outcome | None = ("canceled", b"[]", None)
        running.scope = scope = anyio.CancelScope()
        try:
            with scope:
                if running.is_cancelled:
                    # Stopped before it began: nothing else would end the handler before its first await.
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                outcome = await self._handle(context)
        finally:
            context._end()
            self._running.pop((context.id, context.fence), None)
            if not self._running and self._idle is not None:
                self._idle.set()
            if running.given_back and scope.cancelled_caught:
                self.in_link(self._give_back, context._attempt, running.given_back)
            elif not running.is_lost and outcome is not None:
                self.in_link(self._last_word, context._attempt, outcome)

    async def _handle(self, context: TaskContext) -> _Outcome | None:
        """Run the handler and turn its result or exception into an outcome; None if the last word is already said."""
        skill = self._agent.skills.get(context.skill)
        if skill is None:
            return Declined("unsupported")
        try:
            arguments = skill.arguments(_input(context))
            if skill.is_async:
                if skill.context is not None:
                    arguments[skill.context] = context
                value = await skill.function(**arguments)
            else:
                if skill.context is not None:
                    arguments[skill.context] = SyncTaskContext(context)
                value = await anyio.to_thread.run_sync(
                    self._blocking,
                    context,
                    partial(skill.function, **arguments),
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
            await context._streamed()
            payload, patches = skill.result(value)
            context._attempt.patches = [PatchRef(*patch) for patch in patches]
            return "completed", payload, None
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            return _ended_by(context, error)  # something the handler awaited was cancelled, not the handler itself
        except KeyboardInterrupt:
            raise  # it is meant for the program
        except BaseException as error:  # noqa: BLE001 - whatever it is, the attempt has ended
            if self.link.has_ended and isinstance(_unwrapped(error), ConnectionLost):
                return None  # no coordinator is there to be told as the agent ends, and nothing is wrong here
            # A handler that exits the program over one input would end every agent that gets the task next.
            return _ended_by(context, error)

    def _blocking(self, context: TaskContext, function: Callable[[], T]) -> T:
        """In a thread of its own: run a plain function, which nothing can stop."""
        name = f"skill {context.skill} on task {context.id}, fence {context.fence},"
        self._agent.blocking.add(name)
        try:
            return function()
        finally:
            self._agent.blocking.discard(name)

    def _last_word(self, attempt: Attempt, outcome: _Outcome) -> None:
        """In the links' loop: report how the attempt ended."""
        work = self.link.work
        if isinstance(outcome, Declined):
            work.decline(attempt, cast(Any, outcome.reason), round(outcome.retry_after * 1000))
        else:
            work.report(attempt, cast(Any, outcome[0]), outcome[1], outcome[2])
        self.link.wake()

    def next_child(self, attempt: Attempt) -> int:
        """Number the sub-tasks that an attempt delegates without a key of their own."""
        running = self._running[attempt.task, attempt.fence]
        running.children += 1
        return running.children


def _input(context: TaskContext) -> Any:
    """Return the task's input.

    Raises:
        AttemptFailed: the input cannot be read; another attempt would not change that.
    """
    try:
        return read_parts(context._attempt.offer.payload)
    except UNREADABLE as error:
        detail = f"{context.skill} does not take this input: expected a JSON array of Parts ({words(error)})"
        raise AttemptFailed(detail, code="schema", retryable=False) from error


def _ended_by(context: TaskContext, raised: BaseException) -> _Outcome | None:
    """Return the outcome that a handler's exception stands for, or None if the last word is already said."""
    error = _unwrapped(raised)
    match error:
        case Declined():
            return error
        case HandedOff():
            return None
        case AttemptFailed():
            return _failed(error.error_code, error.detail, retryable=error.retryable)
        case LeaseLapsed() | StaleFence():
            return _failed("lease_lapsed", error)
        case Denied() | Deadlock():
            return _failed(error.code.value, error.detail)
        case ClaimLost():
            return _failed("claim_lost", error)
    log.error("skill %s failed on task %s", context.skill, context.id, exc_info=raised)
    return _failed("exception", f"{type(error).__name__}: {words(error)}")


def _failed(code: object, detail: object, *, retryable: bool = True) -> _Outcome:
    """Return a failure whose texts can be sent, whatever they were made from."""
    return "failed", b"[]", AttemptError(text(code, 64), text(detail, DETAIL_MAX), retryable)


def _unwrapped(error: BaseException) -> BaseException:
    """Return the exception in a task group's wrapper that says how the attempt ended, else the only one in it."""
    raised = leaves(error)
    said = next((leaf for leaf in raised if isinstance(leaf, _LAST_WORDS)), None)
    if said is not None:
        return said
    return raised[0] if len(raised) == 1 else error


def _is_cancelled() -> bool:
    """Tell whether this task itself was cancelled, by its scope or from outside."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
