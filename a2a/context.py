"""What a handler holds in its hands: its task, and what it may do with it.

Calls go to the link in its own thread and loop; nothing here knows how an attempt is started or ended. Made by the
runner, one for each attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import anyio
import anyio.from_thread

from .content import parts_payload, read_parts
from .delegator import AgentInfo, TaskEvent, TaskHandle
from .engine.work import Attempt
from .errors import Conflict, LeaseLapsed

if TYPE_CHECKING:
    from .runner import Runner

__all__ = ["ChildTask", "SyncTaskContext", "TaskContext"]


@dataclass(frozen=True, slots=True)
class _Prior:
    """What earlier attempts and the delegator left for this one."""

    feedback: list[Any]
    answers: dict[int, Any]


class TaskContext:
    """What a handler knows of its task, and what it may do with it. Made by the agent, one for each attempt."""

    def __init__(self, runner: Runner, attempt: Attempt) -> None:
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

    def __init__(self, runner: Runner, skill: str, input: Any, key: str, options: dict[str, Any]) -> None:
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
