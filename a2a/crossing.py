"""The thread that runs the links of a process's agents, and the way between it and a loop with handlers.

A link sends heartbeats whatever a handler does, because no handler shares its thread. Links share one thread: fifty
threads that take turns in one interpreter cost more than the work they do. Calls that cross are gathered for all agents
of a loop: one wake-up for all calls of a turn. Used by `Runner`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self, TypeVar

import anyio.to_thread

from .errors import ConnectionLost
from .loop import new_loop

__all__ = ["Crossing"]

T = TypeVar("T")

_Call = tuple[Callable[..., Any], tuple[Any, ...]]

_ENDS_WITHIN = 5.0
"""Seconds that the thread may take to end: all it has left to do is let closed connections report that."""


class _LinkThread:
    """The process's one thread of links, for as long as somebody has a link in it."""

    def __init__(self) -> None:
        self.crossings: dict[asyncio.AbstractEventLoop, Crossing] = {}
        self.loop = new_loop()
        self.is_copy = False
        """Whether this process is a fork of the one with the thread: nothing runs in that loop here."""
        # A daemon: a program may exit without ending its agents, which are then missed as after a crash.
        self.thread = threading.Thread(target=self._run, name="a2a links", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(_wind_up())
            self.loop.close()


class Crossing:
    """The way between one loop with handlers and the links' thread, for all agents in that loop."""

    _lock = threading.Lock()
    _shared: _LinkThread | None = None

    def __init__(self, links: _LinkThread, handlers: asyncio.AbstractEventLoop) -> None:
        self._links = links
        self._handlers = handlers
        self._users = 0
        self._to_links: list[_Call] = []
        self._is_waking_links = False
        self._to_handlers: deque[_Call] = deque()
        self._is_waking_handlers = False
        self._is_left = False
        """Whether nobody uses it any longer; the links' loop is closed then, or closes."""

    @classmethod
    def enter(cls) -> Self:
        """Return the way between the running loop and the links; call `leave` once for each `enter`."""
        handlers = asyncio.get_running_loop()
        with cls._lock:
            if cls._shared is None:
                cls._shared = _LinkThread()
            crossing = cls._shared.crossings.get(handlers)
            if crossing is None:
                crossing = cls._shared.crossings[handlers] = cls(cls._shared, handlers)
            assert isinstance(crossing, cls)
            crossing._users += 1
            return crossing

    async def leave(self) -> None:
        """End one use of it; the thread ends with the last use of all."""
        links = self._links
        with self._lock:
            self._users -= 1
            if self._users:
                return
            self._is_left = True
            del links.crossings[self._handlers]
            if links.crossings:
                return
            type(self)._shared = None
        links.loop.call_soon_threadsafe(links.loop.stop)
        await anyio.to_thread.run_sync(links.thread.join, _ENDS_WITHIN)

    @classmethod
    def copied(cls) -> None:
        """In a forked process: let agents that run here start afresh."""
        cls._lock = threading.Lock()  # another thread, which does not exist here, may have held it
        if cls._shared is not None:
            cls._shared.is_copy = True
            cls._shared = None

    async def on_link(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the links' loop and return its result here.

        Raises:
            RuntimeError: this process is a copy of the one that has the links.
            ConnectionLost: the agents of this loop have ended.
        """
        if self._links.is_copy:
            work.close()
            raise RuntimeError("a task can be used only in the process that works on it; this is a copy of it")
        if self._is_left:
            work.close()
            raise ConnectionLost("the agent has ended")
        if self._to_links:
            self.wake_links()  # earlier calls come first
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._links.loop))

    def in_link(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Make a call in the links' loop soon, together with all others of this turn."""
        self._to_links.append((call, arguments))
        if not self._is_waking_links:
            self._is_waking_links = True
            self._handlers.call_soon(self.wake_links)

    def wake_links(self) -> None:
        """Make the calls that wait for the links' loop now."""
        self._is_waking_links = False
        calls, self._to_links = self._to_links, []
        if not calls:
            return
        with contextlib.suppress(RuntimeError):  # the links have ended; the coordinator will hear so
            self._links.loop.call_soon_threadsafe(_call_all, self._links.loop, calls)

    def in_handlers(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """From the links' loop: make a call in the handlers' loop, together with all that come until that loop looks.

        Returns:
            Whether that loop can make it: a loop may be closed under its agents.
        """
        self._to_handlers.append((call, arguments))
        if not self._is_waking_handlers:
            self._is_waking_handlers = True
            with contextlib.suppress(RuntimeError):  # it is closed
                self._handlers.call_soon_threadsafe(self._take)
        return not self._handlers.is_closed()

    def _take(self) -> None:
        # In this order: a call added from now on wakes this loop again.
        self._is_waking_handlers = False
        calls = [self._to_handlers.popleft() for _ in range(len(self._to_handlers))]
        _call_all(self._handlers, calls)


os.register_at_fork(after_in_child=Crossing.copied)


def _call_all(loop: asyncio.AbstractEventLoop, calls: Iterable[_Call]) -> None:
    for call, arguments in calls:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - those behind it may be of other agents
            loop.call_exception_handler({"message": f"{call!r} raised", "exception": error})


async def _wind_up() -> None:
    """Cancel the tasks left in this loop, and let closed connections report that before the loop ends."""
    leftover = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftover:
        task.cancel()
    await asyncio.gather(*leftover, return_exceptions=True)
    await asyncio.sleep(0)
