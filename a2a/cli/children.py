"""Child processes that stay: started again when they die, ended with whoever started them.

A child runs a command of `a2a` in a session of its own, so that a Ctrl-C is told to its starter only, which then
ends it in good order. Its standard input is a lifeline: started with `--while-stdin`, it ends when its starter is gone,
however that ended. Used by `a2a dev` and `a2a agent run --workers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

__all__ = ["A2A", "Child", "keep_running", "on_end_of_input"]

A2A = (sys.executable, "-m", "a2a")
"""How a command of this package is started: by the interpreter and the source of whoever starts it."""
PAUSES = (0.25, 15.0)
"""Seconds before a child that died is started again: the first, doubled each time up to the last."""
STEADY = 10.0
"""A child that ran as long as this has not died of how it was started: the pauses begin anew."""
GRACE = 15.0
"""Seconds from SIGTERM to SIGKILL: an agent takes ten to end what it holds."""


@dataclass(slots=True)
class Child:
    """A program that is kept running."""

    name: str
    command: Sequence[str]
    again: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it to have the process ended and started anew, at once where it waits for that."""
    pid: int | None = None
    """Of the process, while there is one."""


async def keep_running(child: Child, stop: anyio.Event, say: Callable[[str], None]) -> None:
    """Run a child until `stop` is set, or the caller cancels; it is gone when this returns."""
    loop = asyncio.get_running_loop()
    pause = PAUSES[0]
    while not stop.is_set():
        child.again.clear()
        started = loop.time()
        process = await asyncio.create_subprocess_exec(
            *child.command, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        child.pid = process.pid
        try:
            await _first(process.wait, stop.wait, child.again.wait)
        finally:
            code = process.returncode
            with anyio.CancelScope(shield=True):
                await _end(process)
            child.pid = None
        if stop.is_set():
            return
        if child.again.is_set():
            pause = PAUSES[0]
            continue
        if loop.time() - started >= STEADY:
            pause = PAUSES[0]
        say(f"{child.name} ended with {code}; it is started again in {pause:g} s")
        with anyio.move_on_after(pause):
            await _first(stop.wait, child.again.wait)
        pause = min(pause * 2, PAUSES[1])


async def on_end_of_input(call: Callable[[], object]) -> None:
    """Make a call when standard input has ended: whoever holds its other end is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, read)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(0)
    call()


async def _first(*waits: Callable[[], Awaitable[Any]]) -> None:
    """Wait for the first of several things, and forget the others."""
    async with anyio.create_task_group() as group:

        async def wait_for(wait: Callable[[], Awaitable[Any]]) -> None:
            await wait()
            group.cancel_scope.cancel()

        for wait in waits:
            group.start_soon(wait_for, wait)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process: in good order, or else by force."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with anyio.move_on_after(GRACE):
            await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()
