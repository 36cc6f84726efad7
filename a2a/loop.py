"""How long-running processes run: on uvloop if installed (a third less time per message), until a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.abc

__all__ = ["new_loop", "run", "running_loop", "stop_on_signals", "until_told"]

T = TypeVar("T")

_ONE_WISH = 0.2
"""Seconds within which signals count as one: `timeout` and others signal both the process and its group. Nobody types
Ctrl-C twice as fast as this and means it."""


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop, the fastest available."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        RuntimeError: there is no running loop of asyncio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "a2a runs in asyncio, and no asyncio loop runs here: beside another loop, such as trio's, use a2a.sync in "
            "a thread, or asyncio.run there"
        ) from None


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end in a new event loop."""
    _fill_streams()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


def _fill_streams() -> None:
    """Open the null device in place of standard streams that were closed before we began.

    The next file to be opened would take their place: for example a ledger's lock, to which everything written to that
    stream would go. And uvloop ends the process if it closes one of its own there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free one, which is this


async def stop_on_signals(
    stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Set `stop` at the first SIGTERM or Ctrl-C; a second one, unless it comes with the first, ends the process.

    Started with `TaskGroup.start`, it is listening when that returns: only then report that the process is ready.
    """
    told_at: float | None = None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            now = anyio.current_time()
            if stop.is_set() and (told_at is None or now - told_at >= _ONE_WISH):
                os._exit(128 + number)
            told_at = told_at or now
            stop.set()


@asynccontextmanager
async def until_told() -> AsyncIterator[None]:
    """Cancel the block at the first SIGTERM or Ctrl-C, and go on after it; see `stop_on_signals`."""
    stop = anyio.Event()

    async def end() -> None:
        await stop.wait()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        await group.start(stop_on_signals, stop)
        group.start_soon(end)
        yield
        group.cancel_scope.cancel()
