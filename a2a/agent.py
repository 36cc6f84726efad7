"""The agent: skills as functions, run for whoever delegates them.

The link to the coordinator lives in a thread and event loop of its own, so that heartbeats go out whatever a handler
does; handlers run in the loop of whoever called `run`, or in worker threads where they are plain functions. What
crosses between the two loops is gathered: one wake-up for all that came or ended in one turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, overload

import anyio
import anyio.from_thread
import anyio.to_thread

from .client import AgentInfo, Delegator, TaskEvent, TaskHandle
from .content import artifacts_payload, parts_payload, read_parts
from .credentials import DEFAULT_URL
from .engine.work import Answered, Attempt, Start, Stop
from .engine.work import Event as WorkEvent
from .errors import A2AError, AttemptFailed, Conflict, Declined, LeaseLapsed, StaleFence
from .ids import new_suffix
from .link import Link, LinkSettings
from .loop import new_loop, run
from .protocol.messages import AgentUpdate, AttemptError, Credit
from .protocol.session import Identity
from .skills import Skill

__all__ = ["Agent", "ChildTask", "SyncTaskContext", "TaskContext"]

log = logging.getLogger("a2a.agent")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DRAIN_GRACE = 10.0
"""Seconds that attempts under way have to end after SIGTERM or Ctrl-C, before they are given back."""


@dataclass(frozen=True, slots=True)
class _Prior:
    """What earlier attempts and the delegator left for this one."""

    feedback: list[Any]
    answers: dict[int, Any]


class TaskContext:
    """What a handler knows of its task, and what it may do with it. Made by the agent, one for each attempt."""

    def __init__(self, runner: _Runner, attempt: Attempt) -> None:
        offer = attempt.offer
        self._runner = runner
        self._attempt = attempt
        self._prior = _Prior(
            [read_parts(feedback.payload) for feedback in offer.feedback],
            {answer.ask_no: read_parts(answer.payload) for answer in offer.answers},
        )
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._deadline = None if offer.deadline_ms is None else time.monotonic() + offer.deadline_ms / 1000
        self.id = offer.task
        """The task's id."""
        self.skill: str = offer.spec["skill"]
        """The skill that was asked for."""
        self.key = offer.key
        """The key it was delegated with."""
        self.attempt = offer.attempt
        """Counts the attempts at the task, from 1."""
        self.fence = offer.fence
        """Grows with every attempt: for resources that can refuse an older one."""
        self.rev = offer.rev
        """Counts the revisions the delegator sent back, from 0."""
        self.context_id = offer.context_id
        """Tasks with the same context belong together."""
        self.delegator = offer.delegator
        """The agent id of whoever delegated it."""
        self.spec: dict[str, Any] = dict(offer.spec)
        """What was asked for, as it travelled."""
        self.is_canceled = False
        """Whether somebody wants the task to end; an `async` handler is cancelled as well."""

    @property
    def feedback(self) -> list[Any]:
        """What the delegator said about earlier revisions, oldest first."""
        return self._prior.feedback

    @property
    def deadline(self) -> float | None:
        """Seconds until the task must have ended, or None."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def check(self) -> None:
        """Call it before an outside effect.

        Raises:
            LeaseLapsed: the lease may have ended, so another agent may be at work on the task.
        """
        work = self._runner.link.work
        if work.is_lapsed(self._attempt, self._runner.link.now()):
            raise LeaseLapsed(f"the lease of task {self.id} (fence {self.fence}) may have ended")

    async def progress(self, fraction: float | None = None, note: str = "") -> None:
        """Tell how far the attempt is: 0 to 1, and a few words. The latest wins; it may be lost."""
        bp = None if fraction is None else round(min(1.0, max(0.0, fraction)) * 10_000)
        self._runner.in_link(self._progress, bp, note or None)

    def _progress(self, bp: int | None, note: str | None) -> None:
        link = self._runner.link
        link.work.progress(self._attempt, bp, note, link.now())
        link.wake()

    async def artifact(self, name: str, value: Any, *, append: bool = False, last: bool = True) -> None:
        """Stream a provisional artifact, or with `append` another chunk of it, to whoever watches.

        Raises:
            StaleFence: the attempt has no authority any more.
        """
        payload = parts_payload(value)

        async def send() -> None:
            link = self._runner.link
            await link.reply_to(link.work.artifact(self._attempt, name, payload, append=append, last=last))

        await self._runner.on_link(send())

    async def ask(
        self,
        question: str,
        *,
        options: Sequence[str] | None = None,
        schema: Mapping[str, Any] | None = None,
        default: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask the delegator, and return the answer. It is kept: the next attempt that asks the same gets it at once.

        Args:
            question: for a person to read.
            options: the answers to choose from.
            schema: the JSON Schema of the answer.
            default: the answer if none comes in time; without one the task fails then.
            timeout: seconds to wait; the coordinator's default is a day.
        """
        content: dict[str, Any] = {"question": question}
        if options is not None:
            content["options"] = list(options)
        if schema is not None:
            content["schema"] = dict(schema)
        payload = parts_payload(content)
        fallback = None if default is None else parts_payload(default)
        timeout_ms = None if timeout is None else round(timeout * 1000)

        while True:
            ask_no = self._asked = self._asked + 1

            async def send(number: int = ask_no) -> None:
                link = self._runner.link
                await link.reply_to(
                    link.work.ask(self._attempt, number, payload, timeout_ms=timeout_ms, default=fallback)
                )

            answer = self._waiting.setdefault(ask_no, asyncio.get_running_loop().create_future())
            try:
                await self._runner.on_link(send())
            except Conflict:
                continue  # an earlier attempt asked something else under this number: take the next
            if ask_no in self._prior.answers:
                return self._prior.answers[ask_no]
            return await answer

    def _answered(self, ask_no: int, payload: bytes) -> None:
        waiting = self._waiting.setdefault(ask_no, asyncio.get_running_loop().create_future())
        if not waiting.done():
            waiting.set_result(read_parts(payload))

    def delegate(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> ChildTask:
        """Have a part of this task done: as `Client.delegate`, for a sub-task of this one.

        The key is within this task: an attempt after a crash that delegates with the same key gets the same sub-task,
        with its result where it is done. Without a key the order of delegations is the key.

        Raises (when entered):
            LeaseLapsed: the lease may have ended.
        """
        self.check()
        if key is None:
            key = f"#{self._runner.next_child(self._attempt)}"
        return ChildTask(self._runner, skill, input, key, options | {"parent": (self.id, self.fence)})

    async def call(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> Any:
        """Delegate a sub-task, wait for its result, confirm it, return it."""
        async with self.delegate(skill, input, key, **options) as child:
            return await child.result()

    async def find(self, skill: str | None = None, **wanted: Any) -> list[AgentInfo]:
        """Return the agents that are known: as `Client.find`."""
        return await self._runner.on_link(self._runner.find(skill, **wanted))


class ChildTask:
    """A sub-task, in the hands of the handler that delegated it: a `TaskHandle` in the agent's own event loop."""

    def __init__(self, runner: _Runner, skill: str, input: Any, key: str, options: dict[str, Any]) -> None:
        self._runner = runner
        self._handle: TaskHandle = runner.delegate(skill, input, key, **options)

    async def __aenter__(self) -> Self:
        await self._runner.on_link(self._handle.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._runner.on_link(self._handle.__aexit__(kind, error, trace))

    @property
    def id(self) -> str:
        """The sub-task's id."""
        return self._handle.id

    @property
    def created(self) -> bool:
        """Whether this attempt made it; False: an earlier one did."""
        return self._handle.created

    async def events(self) -> AsyncIterator[TaskEvent]:
        """Yield what happens to it: as `TaskHandle.events`."""
        while (event := await self._runner.on_link(self._handle.next_event())) is not None:
            yield event
            if self._handle.waits_for_me(event):
                return

    async def result(self) -> Any:
        """Wait for its result and return the value: as `TaskHandle.result`."""
        return await self._runner.on_link(self._handle.result())

    async def question(self) -> tuple[int, Any]:
        """Wait until it asks something: as `TaskHandle.question`."""
        return await self._runner.on_link(self._handle.question())

    async def answer(self, ask_no: int, value: Any) -> None:
        """Answer what it asked."""
        await self._runner.on_link(self._handle.answer(ask_no, value))

    async def confirm(self) -> None:
        """Accept its result."""
        await self._runner.on_link(self._handle.confirm())

    async def reject(self, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """Reject its result; with `rework` another revision follows, which sees the feedback."""
        await self._runner.on_link(self._handle.reject(feedback, rework=rework, reason=reason))

    async def cancel(self, reason: str = "", *, mode: Literal["coop", "kill", "skip"] = "coop") -> str:
        """Ask for it to end."""
        return await self._runner.on_link(self._handle.cancel(reason, mode=mode))


class SyncTaskContext:
    """The context for handlers that are plain functions: the same, with calls that block the handler's own thread."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self.id, self.key, self.skill = context.id, context.key, context.skill
        self.attempt, self.fence, self.rev = context.attempt, context.fence, context.rev
        self.context_id, self.feedback = context.context_id, context.feedback

    @property
    def is_canceled(self) -> bool:
        """Whether somebody wants the task to end; a plain function has to look."""
        return self._context.is_canceled

    @property
    def deadline(self) -> float | None:
        """Seconds until the task must have ended, or None."""
        return self._context.deadline

    def check(self) -> None:
        """As `TaskContext.check`."""
        self._context.check()

    def progress(self, fraction: float | None = None, note: str = "") -> None:
        """As `TaskContext.progress`."""
        anyio.from_thread.run(self._context.progress, fraction, note)

    def artifact(self, name: str, value: Any, *, append: bool = False, last: bool = True) -> None:
        """As `TaskContext.artifact`."""
        anyio.from_thread.run(lambda: self._context.artifact(name, value, append=append, last=last))

    def ask(self, question: str, **options: Any) -> Any:
        """As `TaskContext.ask`."""
        return anyio.from_thread.run(lambda: self._context.ask(question, **options))

    def call(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> Any:
        """As `TaskContext.call`."""
        return anyio.from_thread.run(lambda: self._context.call(skill, input, key, **options))


class Agent:
    """An agent: a name, and skills.

    Args:
        name: its agent id, or where several run side by side (`workers`) the stem of their ids.
        version: of the agent, for its card.
        description: for its card.
        concurrency: attempts it takes at once.
        labels: what tells it apart, for whoever chooses agents by label.
    """

    def __init__(
        self,
        name: str,
        version: str = "1.0",
        description: str = "",
        *,
        concurrency: int = 8,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.description = description
        self.concurrency = concurrency
        self.labels = dict(labels or {})
        self.skills: dict[str, Skill] = {}

    @overload
    def skill(self, function: F, /) -> F: ...

    @overload
    def skill(
        self,
        function: None = None,
        /,
        *,
        id: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        takes_value: bool = False,
    ) -> Callable[[F], F]: ...

    def skill(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        id: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        takes_value: bool = False,
    ) -> Any:
        """Make a function a skill; its name, annotations and docstring become the card's entry.

        Args:
            function: `async def`, or `def`, which runs in a thread. A parameter annotated `TaskContext` (in a plain
                function `SyncTaskContext`) gets the context; the others come from the input's JSON object.
            id: the skill's id; the function's name by default.
            description: the docstring by default.
            tags: for discovery.
            takes_value: give the input to the one parameter `value` as it came, whatever JSON it is.

        Raises:
            ValueError: there is such a skill already.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            made = Skill.of(
                function,
                (TaskContext, SyncTaskContext),
                id=id,
                description=description,
                tags=tuple(tags),
                takes_value=takes_value,
            )
            if made.id in self.skills:
                raise ValueError(f"agent {self.name} has a skill {made.id} already")
            self.skills[made.id] = made
            return function

        return register if function is None else register(function)

    def card(self) -> dict[str, Any]:
        """Return the agent's card (A2A 4.4.1)."""
        return {
            "name": self.name,
            "description": self.description or f"{self.name} {self.version}",
            "version": self.version,
            "capabilities": {"streaming": True},
            "defaultInputModes": ["application/json", "text/plain"],
            "defaultOutputModes": ["application/json", "text/plain"],
            "skills": [skill.card() for skill in self.skills.values()],
        }

    async def run(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        name: str | None = None,
        settings: LinkSettings | None = None,
        stop: anyio.Event | None = None,
        ready: Callable[[], None] | None = None,
    ) -> None:
        """Serve until `stop` is set or the caller cancels; then drain: take nothing new, end or give back what is held.

        Args:
            url: the coordinator's; A2A_URL, else the default port on this machine. It may start later than the agent.
            token: the namespace's; A2A_TOKEN, else what this user's state directory has for the URL.
            name: another agent id than the agent's name.
            settings: everything else about the link.
            stop: set it to drain and return.
            ready: called when the coordinator has welcomed the agent.

        Raises:
            ConnectError: the coordinator would not let the agent in, or another instance took its place.
        """
        if settings is None:
            settings = LinkSettings(
                url=url or os.environ.get("A2A_URL") or DEFAULT_URL,
                token=token or os.environ.get("A2A_TOKEN") or None,
                patience=float("inf"),
            )
        await _Runner(self, settings, name or self.name).run(stop or anyio.Event(), ready)

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run as a program: parse the command line, serve until SIGTERM or Ctrl-C, exit."""
        parser = argparse.ArgumentParser(description=self.description or f"The agent {self.name}.")
        parser.add_argument("--url", help="the coordinator's address (A2A_URL)")
        parser.add_argument("--token-file", type=Path, help="where the namespace's token is (A2A_TOKEN)")
        parser.add_argument("--name", default=self.name, help=f"another agent id than {self.name}")
        options = parser.parse_args(arguments)
        token = options.token_file.read_text().strip() if options.token_file else None
        logging.basicConfig(
            level=os.environ.get("A2A_LOG", "WARNING").upper(), format="%(levelname)s %(name)s: %(message)s"
        )
        try:
            run(lambda: self._serve(options.url, token, options.name))
        except* A2AError as errors:
            for error in _leaves(errors):
                print(f"{options.name}: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(3)

    async def _serve(self, url: str | None, token: str | None, name: str) -> None:
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(stop_on_signals, stop)
            await self.run(url, token=token, name=name, stop=stop)
            group.cancel_scope.cancel()


async def stop_on_signals(stop: anyio.Event) -> None:
    """Set `stop` at the first SIGTERM or Ctrl-C; the second one ends the process at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            stop.set()


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


@dataclass(slots=True)
class _Running:
    """An attempt whose handler is at work."""

    context: TaskContext
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    is_lost: bool = False
    """Nothing it says counts any more."""
    children: int = 0


class _Runner(Delegator):
    """One run of an agent: the link in its thread, the handlers in the caller's loop, and what passes between."""

    def __init__(self, agent: Agent, settings: LinkSettings, agent_id: str) -> None:
        super().__init__()
        self._agent = agent
        self._settings = settings
        self._identity = Identity(
            agent_id,
            instance_id=new_suffix(),
            # Without storage of its own an agent counts its starts by the clock.
            incarnation=int(time.time() * 1000),
            card=agent.card(),
            labels=agent.labels,
        )
        self._link_loop: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[tuple[str, int], _Running] = {}
        self._to_link: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._is_waking_link = False
        self._group: Any = None
        self._idle: asyncio.Event | None = None
        self._threads: anyio.CapacityLimiter | None = None

    async def run(self, stop: anyio.Event, ready: Callable[[], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        self._threads = anyio.CapacityLimiter(max(1, self._agent.concurrency))
        started: Future[Link] = Future()
        thread = threading.Thread(
            target=self._link_thread, args=(started,), name=f"link of {self._identity.agent_id}", daemon=True
        )
        thread.start()
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                self.link = await asyncio.wrap_future(started)
                if not await self._open(stop):
                    return
                group.start_soon(self._watch_link)
                if ready is not None:
                    ready()
                try:
                    await stop.wait()
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._drain()
                    group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                if self._link_loop is not None:
                    self._link_loop.call_soon_threadsafe(self._link_loop.stop)
                await anyio.to_thread.run_sync(thread.join, 5.0)

    async def _open(self, stop: anyio.Event) -> bool:
        """Connect, and tell whether that was so before `stop` was set: a coordinator may be long in coming."""
        is_open = False
        async with anyio.create_task_group() as group:

            async def give_up() -> None:
                await stop.wait()
                group.cancel_scope.cancel()

            group.start_soon(give_up)
            await self.on_link(self.link.open())
            is_open = True
            group.cancel_scope.cancel()
        return is_open

    # The link's thread ------------------------------------------------------------------------------------------------

    def _link_thread(self, started: Future[Link]) -> None:
        loop = new_loop()
        self._link_loop = loop
        asyncio.set_event_loop(loop)

        async def make() -> Link:
            return Link(
                self._settings,
                self._identity,
                credit=Credit(self._agent.concurrency),
                on_work=self._came,
                on_change=self.changed,
                on_notice=self.noticed,
            )

        try:
            started.set_result(loop.run_until_complete(make()))
            loop.run_forever()
        finally:
            leftover = asyncio.all_tasks(loop)
            for task in leftover:
                task.cancel()
            if leftover:
                loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
            loop.close()

    def _came(self, events: list[WorkEvent]) -> None:
        """In the link's loop: pass on what has to be started and stopped, all of it with one wake-up."""
        assert self._loop is not None, "the link is made by run()"
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody is there to start anything
            self._loop.call_soon_threadsafe(self._take, events)

    async def on_link(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the link's loop and return its result here."""
        assert self._link_loop is not None, "the link is made by run()"
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._link_loop))

    def in_link(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have a call made in the link's loop soon, together with all others of this turn."""
        self._to_link.append((call, arguments))
        if not self._is_waking_link and self._loop is not None:
            self._is_waking_link = True
            self._loop.call_soon(self._wake_link)

    def _wake_link(self) -> None:
        self._is_waking_link = False
        calls, self._to_link = self._to_link, []
        assert self._link_loop is not None, "the link is made by run()"
        with contextlib.suppress(RuntimeError):  # the link has ended; the coordinator will hear so
            self._link_loop.call_soon_threadsafe(_call_all, calls)

    async def _watch_link(self) -> None:
        """End the run when the link ends for good."""
        await self.on_link(self.link.wait_closed())

    async def _drain(self) -> None:
        """Take nothing new, let what is under way end, give the rest back, say good-bye."""
        if self.link.has_ended:
            return
        idle = self._idle
        assert idle is not None, "made by run()"

        async def begin() -> None:
            self.link.work.is_draining = True
            if self.link.session.is_open:
                with contextlib.suppress(A2AError):  # the coordinator went away meanwhile: nothing to tell it
                    await asyncio.wait_for(self.link.call(AgentUpdate(status="draining")), 2.0)

        with contextlib.suppress(TimeoutError):
            await self.on_link(begin())
        with anyio.move_on_after(DRAIN_GRACE):
            await idle.wait()
        for running in list(self._running.values()):
            running.is_lost = True
            self.in_link(self._give_back, running.context._attempt)
            running.scope.cancel()
        with anyio.move_on_after(2.0):
            await idle.wait()
        self._wake_link()

        async def end() -> None:
            await self.link.drained(2.0 if self.link.session.is_open else 0.0)
            await self.link.aclose()

        await self.on_link(end())

    def _give_back(self, attempt: Attempt) -> None:
        self.link.work.yield_(attempt, "the agent is draining")
        self.link.wake()

    # Attempts ---------------------------------------------------------------------------------------------------------

    def _take(self, events: list[WorkEvent]) -> None:
        """In the caller's loop: start and stop handlers."""
        for event in events:
            key = (event.attempt.task, event.attempt.fence)
            if isinstance(event, Start):
                running = self._running[key] = _Running(TaskContext(self, event.attempt))
                if self._idle is not None:
                    self._idle.clear()
                self._group.start_soon(self._attempt, running)
            elif isinstance(event, Answered):
                known = self._running.get(key)
                if known is not None:
                    known.context._answered(event.ask_no, event.payload)
            elif isinstance(event, Stop):
                known = self._running.get(key)
                if known is not None:
                    known.is_lost = event.grace_ms == 0
                    known.context.is_canceled = True
                    known.scope.cancel()

    async def _attempt(self, running: _Running) -> None:
        context = running.context
        outcome: tuple[str, bytes, AttemptError | None] | Declined = ("canceled", b"[]", None)
        try:
            with running.scope:
                outcome = await self._handle(context)
        finally:
            self._running.pop((context.id, context.fence), None)
            if not self._running and self._idle is not None:
                self._idle.set()
            if not running.is_lost:
                self.in_link(self._last_word, context._attempt, outcome)

    async def _handle(self, context: TaskContext) -> tuple[str, bytes, AttemptError | None] | Declined:
        """Run the handler, and turn whatever comes of it into an outcome."""
        skill = self._agent.skills.get(context.skill)
        if skill is None:
            return Declined("unsupported")
        try:
            arguments = skill.arguments(read_parts(context._attempt.offer.payload))
            if skill.is_async:
                if skill.context is not None:
                    arguments[skill.context] = context
                value = await skill.function(**arguments)
            else:
                if skill.context is not None:
                    arguments[skill.context] = SyncTaskContext(context)
                value = await anyio.to_thread.run_sync(
                    lambda: skill.function(**arguments), abandon_on_cancel=True, limiter=self._threads
                )
            return "completed", artifacts_payload(skill.result(value)), None
        except Declined as declined:
            return declined
        except AttemptFailed as failed:
            return "failed", b"[]", AttemptError(failed.error_code[:64], failed.detail[:8000], failed.retryable)
        except (LeaseLapsed, StaleFence) as lapsed:
            return "failed", b"[]", AttemptError("lease_lapsed", str(lapsed)[:8000], retryable=True)
        except Exception as error:
            log.exception("skill %s failed on task %s", context.skill, context.id)
            detail = f"{type(error).__name__}: {error}"
            return "failed", b"[]", AttemptError("exception", detail[:8000], retryable=True)

    def _last_word(self, attempt: Attempt, outcome: tuple[str, bytes, AttemptError | None] | Declined) -> None:
        """In the link's loop: report how the attempt ended."""
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


def _call_all(calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    for call, arguments in calls:
        call(*arguments)
