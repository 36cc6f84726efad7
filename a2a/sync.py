"""The client for scripts without an event loop: the same calls, blocking.

    with a2a.sync.connect() as client:
        with client.delegate("count_words", {"text": document}, key="doc-42") as task:
            result = task.result()

One background thread runs the event loop of one client; every call hands its work to that loop and waits. An interrupt,
such as Ctrl-C, cancels the work there.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, wait
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, suppress
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from anyio.from_thread import start_blocking_portal

from . import client as asynchronous
from . import delegator
from .claim import Claim, Name
from .client import Ground
from .errors import ConnectionLost, FencedOff, LocalProtocolError
from .reader import Kind
from .shared_context import SyncSharedContext, each

__all__ = ["Client", "TaskHandle", "connect"]

T = TypeVar("T")

_GIVES_UP_WITHIN = 5.0
"""Seconds that an interrupted caller waits until the client's loop has cancelled its work."""


class _Loop:
    """A client's event loop, for callers in other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread
        self._process = os.getpid()
        self._is_closed = False

    @property
    def is_elsewhere(self) -> bool:
        """Whether this process is a fork of the one that runs the loop, as multiprocessing makes them."""
        return os.getpid() != self._process

    def close(self) -> None:
        """Refuse further calls: the loop ends."""
        self._is_closed = True

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run a coroutine function in the loop, and return its result.

        Raises:
            ConnectionLost: the client was closed.
            RuntimeError: the caller runs in the loop itself, or in a fork of its process.
        """
        if self._is_closed:
            raise ConnectionLost("the client was closed")
        if self.is_elsewhere:
            raise RuntimeError("the client is connected in another process, and this is a copy of it: connect here too")
        if threading.get_ident() == self._thread:
            raise RuntimeError("the client was called in its own loop, which would wait for itself")
        under_way: list[asyncio.Task[Any]] = []

        async def work() -> T:
            under_way.extend(task for task in [asyncio.current_task()] if task is not None)
            return await function(*arguments)

        async def end() -> None:
            for task in under_way:
                task.cancel()
            if under_way:
                await asyncio.wait(under_way)
            made.close()  # in case it was not even handed over

        # Not through the portal, which waits for a task to begin: an interrupt there would not know which task that is.
        made, future = work(), None
        try:
            future = asyncio.run_coroutine_threadsafe(made, self._loop)
            return future.result()
        except CancelledError:
            if not self._is_closed:
                raise
            raise ConnectionLost("the client was closed") from None  # its loop cancels what is still under way
        except BaseException:
            # Left alone, the work would go on waiting, say for a claim, or take the next item from an iterator. A
            # caller interrupted during the hand-over has no future, but its work is under way anyway.
            if future is None or not future.done():
                wait([asyncio.run_coroutine_threadsafe(end(), self._loop)], _GIVES_UP_WITHIN)
            raise

    def enter(self, manager: AbstractAsyncContextManager[T]) -> AbstractContextManager[T]:
        """Return a context manager that enters and leaves this one in the loop."""
        return _Block(self, manager)


class _Block(AbstractContextManager[T], Generic[T]):
    def __init__(self, loop: _Loop, manager: AbstractAsyncContextManager[T]) -> None:
        self._loop = loop
        self._manager = manager

    def __enter__(self) -> T:
        entered: list[T] = []

        async def enter() -> None:
            entered.append(await self._manager.__aenter__())

        try:
            self._loop.call(enter)
            return entered[0]
        except BaseException as error:
            if entered:  # interrupted just then, the caller does not know, and would never leave it
                self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop.is_elsewhere:
            return  # the process with the loop leaves it
        has_begun = False

        async def leave(*raised: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await self._manager.__aexit__(*raised)

        try:
            self._loop.call(leave, kind, error, trace)
        except BaseException as interrupt:
            if not has_begun:
                with suppress(ConnectionLost, RuntimeError):  # the loop has ended, and all in it was left
                    self._loop.call(leave, type(interrupt), interrupt, interrupt.__traceback__)
            raise


class TaskHandle:
    """A delegated task: as `a2a.TaskHandle`, blocking."""

    def __init__(self, loop: _Loop, handle: delegator.TaskHandle) -> None:
        self._loop = loop
        self._handle = handle
        self._block = loop.enter(handle)

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    @property
    def _entered(self) -> delegator.TaskHandle:
        if self._handle._delegation is None:
            raise LocalProtocolError("enter the handle to delegate the task: with client.delegate(...) as task")
        return self._handle

    @property
    def id(self) -> str:
        """The task's id."""
        return self._entered.id

    @property
    def created(self) -> bool:
        """Whether this delegation made the task."""
        return self._entered.created

    @property
    def key(self) -> str:
        """As `a2a.TaskHandle.key`."""
        return self._handle.key

    @property
    def context_id(self) -> str:
        """As `a2a.TaskHandle.context_id`."""
        return self._entered.context_id

    @property
    def stale_basis(self) -> dict[str, tuple[int, int]]:
        """As `a2a.TaskHandle.stale_basis`."""
        return self._entered.stale_basis

    def events(self) -> Iterator[delegator.TaskEvent]:
        """As `a2a.TaskHandle.events`."""
        return each(self._loop.call, self._entered.events())

    def result(self) -> Any:
        """As `a2a.TaskHandle.result`."""
        return self._loop.call(self._entered.result)

    def artifacts(self) -> list[dict[str, Any]]:
        """As `a2a.TaskHandle.artifacts`."""
        found: list[dict[str, Any]] = self._loop.call(self._entered.artifacts)
        return found

    def question(self) -> tuple[int, Any]:
        """As `a2a.TaskHandle.question`."""
        asked: tuple[int, Any] = self._loop.call(self._entered.question)
        return asked

    def answer(self, ask_no: int, value: Any) -> None:
        """As `a2a.TaskHandle.answer`."""
        self._loop.call(self._entered.answer, ask_no, value)

    def confirm(self) -> None:
        """As `a2a.TaskHandle.confirm`."""
        self._loop.call(self._entered.confirm)

    def reject(self, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """As `a2a.TaskHandle.reject`."""
        self._loop.call(lambda: self._entered.reject(feedback, rework=rework, reason=reason))

    def steer(self, value: Any, key: str | None = None, *, interrupt: bool = False) -> None:
        """As `a2a.TaskHandle.steer`."""
        self._loop.call(lambda: self._entered.steer(value, key, interrupt=interrupt))

    def cancel(self, reason: str = "", *, mode: Literal["coop", "kill", "skip"] = "coop") -> str:
        """As `a2a.TaskHandle.cancel`."""
        return self._loop.call(lambda: self._entered.cancel(reason, mode=mode))


class Client:
    """A client to enter: as `a2a.Client`, blocking."""

    def __init__(self, client: asynchronous.Client) -> None:
        self._client = client
        self._loop: _Loop | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            loop = _Loop(portal.call(asyncio.get_running_loop), portal.call(threading.get_ident))
            stack.callback(loop.close)
            stack.enter_context(loop.enter(self._client))
            # Only now: if a client is entered a second time, it goes on with its first loop.
            self._loop, self._stack = loop, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._there.is_elsewhere:
            self._stack.__exit__(kind, error, trace)

    @property
    def _there(self) -> _Loop:
        if self._loop is None:
            raise RuntimeError("enter the client first: with a2a.sync.connect() as client")
        return self._loop

    def _require_entered(self) -> None:
        _ = self._there  # the other client's error is for callers with an event loop

    @property
    def agent_id(self) -> str:
        """As `a2a.Client.agent_id`."""
        return self._client.agent_id

    @property
    def durability(self) -> str:
        """As `a2a.Client.durability`."""
        self._require_entered()
        return self._client.durability

    @property
    def is_operator(self) -> bool:
        """As `a2a.Client.is_operator`."""
        self._require_entered()
        return self._client.is_operator

    def delegate(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> TaskHandle:
        """As `a2a.Client.delegate`."""

        async def make() -> delegator.TaskHandle:
            return self._client.delegate(skill, input, key, **options)

        return TaskHandle(self._there, self._there.call(make))

    def redrive(self, task: dict[str, Any], key: str | None = None, **options: Any) -> TaskHandle:
        """As `a2a.Client.redrive`."""

        async def make() -> delegator.TaskHandle:
            return self._client.redrive(task, key, **options)

        return TaskHandle(self._there, self._there.call(make))

    def call(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> Any:
        """As `a2a.Client.call`."""
        return self._there.call(lambda: self._client.call(skill, input, key, **options))

    def claim(self, *names: Name, **options: Any) -> AbstractContextManager[Claim]:
        """As `a2a.Client.claim`."""
        return self._there.enter(self._client.claim(*names, **options))

    def claims(self, name: str | None = None, **wanted: Any) -> builtins.list[dict[str, Any]]:
        """As `a2a.Client.claims`."""
        return self._there.call(lambda: self._client.claims(name, **wanted))

    def release(self, claim_fence: int) -> None:
        """As `a2a.Client.release`."""
        self._there.call(self._client.release, claim_fence)

    def drain(self, agent: str, grace: float | None = None) -> None:
        """As `a2a.Client.drain`."""
        self._there.call(self._client.drain, agent, grace)

    def forget(self, agent: str, *, secret_only: bool = False) -> bool:
        """As `a2a.Client.forget`."""
        return self._there.call(lambda: self._client.forget(agent, secret_only=secret_only))

    def status(self) -> dict[str, Any]:
        """As `a2a.Client.status`."""
        return self._there.call(self._client.status)

    def watch_agents(self, skill: str | None = None) -> Iterator[delegator.AgentChange]:
        """As `a2a.Client.watch_agents`."""
        return each(self._there.call, self._client.watch_agents(skill))

    def find(self, skill: str | None = None, **wanted: Any) -> builtins.list[delegator.AgentInfo]:
        """As `a2a.Client.find`."""
        return self._there.call(lambda: self._client.find(skill, **wanted))

    def refused_hellos(self, agent: str) -> list[dict[str, Any]]:
        """As `a2a.Client.refused_hellos`."""
        return self._there.call(self._client.refused_hellos, agent)

    def get(self, task: str) -> dict[str, Any]:
        """As `a2a.Client.get`."""
        return self._there.call(self._client.get, task)

    def outcome(self, task: str) -> dict[str, Any]:
        """As `a2a.Client.outcome`."""
        return self._there.call(self._client.outcome, task)

    def watch(self, task: str, from_gen: int = 0) -> Iterator[delegator.TaskEvent]:
        """As `a2a.Client.watch`."""
        return each(self._there.call, self._client.watch(task, from_gen))

    def conflict(self, conflict: str) -> dict[str, Any]:
        """As `a2a.Client.conflict`."""
        return self._there.call(self._client.conflict, conflict)

    def conflicts(self, **wanted: Any) -> list[dict[str, Any]]:
        """As `a2a.Client.conflicts`."""
        return self._there.call(lambda: self._client.conflicts(**wanted))

    def raise_conflict(self, kind: Kind, *subjects: str | Mapping[str, Any], **said: Any) -> str:
        """As `a2a.Client.raise_conflict`."""
        return self._there.call(lambda: self._client.raise_conflict(kind, *subjects, **said))

    def raise_fenced_off(self, resource: str, refused: FencedOff) -> str:
        """As `a2a.Client.raise_fenced_off`."""
        return self._there.call(self._client.raise_fenced_off, resource, refused)

    def resolve(self, conflict: str, choice: str | None, reasons: str = "") -> None:
        """As `a2a.Client.resolve`."""
        self._there.call(self._client.resolve, conflict, choice, reasons)

    def take_position(self, conflict: str, stance: str, value: Any = "") -> None:
        """As `a2a.Client.take_position`."""
        self._there.call(self._client.take_position, conflict, stance, value)

    def appeal(self, conflict: str, ground: Ground, evidence: Any = "") -> None:
        """As `a2a.Client.appeal`."""
        self._there.call(self._client.appeal, conflict, ground, evidence)

    def list(self, **wanted: Any) -> list[dict[str, Any]]:
        """As `a2a.Client.list`."""
        return self._there.call(lambda: self._client.list(**wanted))

    def context(self, context_id: str) -> SyncSharedContext:
        """As `a2a.Client.context`."""
        return SyncSharedContext(self._client.context(context_id), self._there.call)

    def confirm(self, task: str, *, if_generation: int | None = None) -> None:
        """As `a2a.Client.confirm`."""
        self._there.call(lambda: self._client.confirm(task, if_generation=if_generation))

    def reject(self, task: str, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """As `a2a.Client.reject`."""
        self._there.call(lambda: self._client.reject(task, feedback, rework=rework, reason=reason))

    def cancel(self, task: str, reason: str = "", *, mode: Literal["coop", "kill", "skip"] = "coop") -> str:
        """As `a2a.Client.cancel`."""
        return self._there.call(lambda: self._client.cancel(task, reason, mode=mode))

    def steer(self, task: str, value: Any, key: str | None = None, *, interrupt: bool = False) -> None:
        """As `a2a.Client.steer`."""
        self._there.call(lambda: self._client.steer(task, value, key, interrupt=interrupt))

    def answer(self, task: str, ask_no: int, value: Any) -> None:
        """As `a2a.Client.answer`."""
        self._there.call(self._client.answer, task, ask_no, value)


def connect(url: str | None = None, **options: Any) -> Client:
    """Return a client to enter: `with a2a.sync.connect() as client`. Options and errors as for `a2a.connect`."""
    return Client(asynchronous.connect(url, **options))
