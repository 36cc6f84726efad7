"""What a handler that is a plain function gets: its task, with calls that block its thread.

The handler runs in a thread of its own, and each call runs in the agent's event loop while the handler waits: what ends
the attempt also ends the call, and each one after it. Other threads cannot make these calls, and are turned away.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

import anyio
import anyio.from_thread

from .claim import Name
from .context import ChildTask, TaskClaim, TaskContext
from .delegator import AgentInfo, TaskEvent
from .errors import FencedOff
from .reader import Kind
from .shared_context import SyncSharedContext, each

__all__ = ["SyncChildTask", "SyncTaskContext"]

T = TypeVar("T")

_copied = threading.local()
"""Whether this thread is the first of a forked process: its event loop stayed behind."""


def _note_copy() -> None:
    _copied.is_so = True


os.register_at_fork(after_in_child=_note_copy)


def _run(context: TaskContext, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    if getattr(_copied, "is_so", False):
        raise RuntimeError("a plain handler can use its task only in the process it was called in; this is a copy")
    try:
        return anyio.from_thread.run(_made, context, function, arguments)
    except anyio.NoEventLoopError as error:
        raise RuntimeError(
            "a plain handler can use its task only in the thread it was called in; this is another thread. To run"
            " sub-tasks side by side, delegate all of them before you read the first result"
        ) from error


async def _made(context: TaskContext, function: Callable[..., Coroutine[Any, Any, T]], arguments: tuple[Any, ...]) -> T:
    """In the agent's loop: make a call. Once the attempt has ended, nothing else would end a call that waits."""
    if not context._is_over:
        return await function(*arguments)
    with anyio.CancelScope() as scope, suppress(asyncio.CancelledError):
        scope.cancel()  # not left out: whatever the handler gives back is given back
        return await function(*arguments)
    raise context._over()


class SyncTaskContext:
    """The context for handlers that are plain functions: the same, with calls that block the handler's own thread."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._run = partial(_run, context)
        self.id, self.key, self.skill = context.id, context.key, context.skill
        self.attempt, self.fence, self.rev = context.attempt, context.fence, context.rev
        self.context_id, self.feedback = context.context_id, context.feedback
        self.delegator, self.spec = context.delegator, context.spec
        self.context = SyncSharedContext(context.context, self._run)
        self.restored, self.prior, self.budget = context.restored, context.prior, context.budget
        self.claims = context.claims

    @property
    def is_canceled(self) -> bool:
        """Whether somebody wants the task to end; a plain function has to check it."""
        return self._context.is_canceled

    @property
    def stopping(self) -> str:
        """As `TaskContext.stopping`."""
        return self._context.stopping

    def other_context(self, context_id: str) -> SyncSharedContext:
        """As `TaskContext.other_context`."""
        return SyncSharedContext(self._context.other_context(context_id), self._run)

    @property
    def deadline(self) -> float | None:
        """Seconds until the task must have ended, or None."""
        return self._context.deadline

    def check(self) -> None:
        """As `TaskContext.check`."""
        self._context.check()

    def progress(self, fraction: float | None = None, note: str = "") -> None:
        """As `TaskContext.progress`."""
        self._run(self._context.progress, fraction, note)

    def artifact(self, name: str, value: Any, *, append: bool = False, last: bool = True) -> None:
        """As `TaskContext.artifact`."""
        self._run(lambda: self._context.artifact(name, value, append=append, last=last))

    def checkpoint(self, state: Any, **options: Any) -> None:
        """As `TaskContext.checkpoint`."""
        self._run(lambda: self._context.checkpoint(state, **options))

    def hand_off(self, to: str | None = None, **options: Any) -> NoReturn:
        """As `TaskContext.hand_off`."""
        self._run(lambda: self._context.hand_off(to, **options))
        raise AssertionError("hand_off ends the handler")

    def use(self, *, tokens: int = 0, cost_micro: int = 0, steps: int = 0) -> None:
        """As `TaskContext.use`."""

        async def use() -> None:
            self._context.use(tokens=tokens, cost_micro=cost_micro, steps=steps)

        self._run(use)

    def effect_key(self, step: str) -> str:
        """As `TaskContext.effect_key`."""
        return self._context.effect_key(step)

    def steers(self) -> list[Any]:
        """As `TaskContext.steers`."""
        return self._context.steers()

    def steer(self) -> Any:
        """As `TaskContext.steer`."""
        return self._run(self._context.steer)

    def ask(self, question: str, **options: Any) -> Any:
        """As `TaskContext.ask`."""
        return self._run(lambda: self._context.ask(question, **options))

    @contextmanager
    def claim(self, *names: Name, **options: Any) -> Iterator[TaskClaim]:
        """As `TaskContext.claim`: `with task.claim("repo/a/**", wait=10) as claim`."""
        claim = self._context.claim(*names, **options)
        self._run(claim.__aenter__)
        try:
            yield claim
        finally:
            self._run(claim.__aexit__, None, None, None)

    def raise_conflict(self, kind: Kind, *subjects: str | Mapping[str, Any], **said: Any) -> str:
        """As `TaskContext.raise_conflict`."""
        return self._run(lambda: self._context.raise_conflict(kind, *subjects, **said))

    def raise_fenced_off(self, resource: str, refused: FencedOff) -> str:
        """As `TaskContext.raise_fenced_off`."""
        return self._run(self._context.raise_fenced_off, resource, refused)

    def find(self, skill: str | None = None, **wanted: Any) -> list[AgentInfo]:
        """As `TaskContext.find`."""
        return self._run(lambda: self._context.find(skill, **wanted))

    def get(self, task: str) -> dict[str, Any]:
        """As `TaskContext.get`."""
        return self._run(self._context.get, task)

    def outcome(self, task: str) -> dict[str, Any]:
        """As `TaskContext.outcome`."""
        return self._run(self._context.outcome, task)

    def conflict(self, conflict: str) -> dict[str, Any]:
        """As `TaskContext.conflict`."""
        return self._run(self._context.conflict, conflict)

    def watch(self, task: str) -> Iterator[TaskEvent]:
        """As `TaskContext.watch`."""
        return each(self._run, self._context.watch(task))

    def call(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> Any:
        """As `TaskContext.call`."""
        return self._run(lambda: self._context.call(skill, input, key, **options))

    @contextmanager
    def delegate(
        self, skill: str, input: Any = None, key: str | None = None, **options: Any
    ) -> Iterator[SyncChildTask]:
        """As `TaskContext.delegate`: `with task.delegate("check", {"text": text}) as child`."""
        child = self._context.delegate(skill, input, key, **options)
        self._run(child.__aenter__)
        try:
            yield SyncChildTask(child)
        except BaseException as error:
            self._run(child.__aexit__, type(error), error, error.__traceback__)
            raise
        self._run(child.__aexit__, None, None, None)


class SyncChildTask:
    """A sub-task: as `ChildTask`, blocking."""

    def __init__(self, child: ChildTask) -> None:
        self._child = child
        self._run = partial(_run, child._parent)

    @property
    def id(self) -> str:
        """As `ChildTask.id`."""
        return self._child.id

    @property
    def created(self) -> bool:
        """As `ChildTask.created`."""
        return self._child.created

    @property
    def key(self) -> str:
        """As `ChildTask.key`."""
        return self._child.key

    @property
    def context_id(self) -> str:
        """As `ChildTask.context_id`."""
        return self._child.context_id

    @property
    def stale_basis(self) -> dict[str, tuple[int, int]]:
        """As `ChildTask.stale_basis`."""
        return self._child.stale_basis

    def events(self) -> Iterator[TaskEvent]:
        """As `ChildTask.events`."""
        return each(self._run, self._child.events())

    def result(self) -> Any:
        """As `ChildTask.result`."""
        return self._run(self._child.result)

    def artifacts(self) -> list[dict[str, Any]]:
        """As `ChildTask.artifacts`."""
        return self._run(self._child.artifacts)

    def question(self) -> tuple[int, Any]:
        """As `ChildTask.question`."""
        return self._run(self._child.question)

    def steer(self, value: Any, key: str | None = None, *, interrupt: bool = False) -> None:
        """As `ChildTask.steer`."""
        self._run(lambda: self._child.steer(value, key, interrupt=interrupt))

    def answer(self, ask_no: int, value: Any) -> None:
        """As `ChildTask.answer`."""
        self._run(self._child.answer, ask_no, value)

    def confirm(self) -> None:
        """As `ChildTask.confirm`."""
        self._run(self._child.confirm)

    def reject(self, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """As `ChildTask.reject`."""
        self._run(lambda: self._child.reject(feedback, rework=rework, reason=reason))

    def cancel(self, reason: str = "", *, mode: Literal["coop", "kill", "skip"] = "coop") -> str:
        """As `ChildTask.cancel`."""
        return self._run(lambda: self._child.cancel(reason, mode=mode))
