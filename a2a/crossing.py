"""The thread in which the links of a process's agents live, and what crosses between it and a loop with handlers.

A link beats whatever a handler does, because it shares no thread with one. Links share theirs with each other: fifty
threads that take turns in one interpreter cost more than all they do. What crosses is gathered, for all agents of a
loop: one wake-up for what came or ended in one turn. Used by `Runner`.
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

from .loop import new_loop

__all__ = ["Crossing"]

T = TypeVar("T")

_Call = tuple[Callable[..., Any], tuple[Any, ...]]

_ENDS_WITHIN = 5.0
"""Seconds that the thread may take to end: it has nothing left to do but to let closed connections tell so."""


class _LinkThread:
    """The one thread of the process, as long as somebody has a link in it."""

    def __init__(self) -> None:
        self.crossings: dict[asyncio.AbstractEventLoop, Crossing] = {}
        self.loop = new_loop()
        self.is_copy = False
        """Whether this process is a copy of the one with the thread: here nothing runs in that loop."""
        # A daemon: a program that ends without an end of its agents ends, and they are missed as after a crash.
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
    """The way between one loop with handlers and the thread of the links, for all who run in that loop."""

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

    @classmethod
    def enter(cls) -> Self:
        """Return the way between the running loop and the links; `leave` it once for each time."""
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
        """End one's part in it; with the last one of all the thread ends."""
        links = self._links
        with self._lock:
            self._users -= 1
            if self._users:
                return
            del links.crossings[self._handlers]
            if links.crossings:
                return
            type(self)._shared = None
        links.loop.call_soon_threadsafe(links.loop.stop)
        await anyio.to_thread.run_sync(links.thread.join, _ENDS_WITHIN)

    @classmethod
    def copied(cls) -> None:
        """In a process that was just forked: have whoever runs agents here begin anew."""
        cls._lock = threading.Lock()  # another thread may have held it, which is not here
        if cls._shared is not None:
            cls._shared.is_copy = True
            cls._shared = None

    async def on_link(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the links' loop and return its result here.

        Raises:
            RuntimeError: this process is a copy of the one that has the links.
        """
        if self._links.is_copy:
            work.close()
            raise RuntimeError("a task is used in the process that works on it, this is a copy of that one")
        if self._to_links:
            self.wake_links()  # what was said before comes before it
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._links.loop))

    def in_link(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have a call made in the links' loop soon, together with all others of this turn."""
        self._to_links.append((call, arguments))
        if not self._is_waking_links:
            self._is_waking_links = True
            self._handlers.call_soon(self.wake_links)

    def wake_links(self) -> None:
        """Have what waits for the links' loop made there now."""
        self._is_waking_links = False
        calls, self._to_links = self._to_links, []
        if not calls:
            return
        with contextlib.suppress(RuntimeError):  # the links have ended; the coordinator will hear so
            self._links.loop.call_soon_threadsafe(_call_all, self._links.loop, calls)

    def in_handlers(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """From the links' loop: have a call made in the handlers' loop, with all that came until it looks.

        Returns:
            Whether somebody is there to make it: a loop may be closed under its agents.
        """
        self._to_handlers.append((call, arguments))
        if not self._is_waking_handlers:
            self._is_waking_handlers = True
            with contextlib.suppress(RuntimeError):  # it is closed
                self._handlers.call_soon_threadsafe(self._take)
        return not self._handlers.is_closed()

    def _take(self) -> None:
        # In this order: what is put there from now on wakes this loop again.
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
    """Cancel what is left in this loop, and let connections that were closed tell so before the loop ends."""
    leftover = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftover:
        task.cancel()
    await asyncio.gather(*leftover, return_exceptions=True)
    await asyncio.sleep(0)
