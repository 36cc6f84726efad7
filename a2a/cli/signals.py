"""How a signal ends a command that still has something to say."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator

import click

__all__ = ["ended_by_sigterm", "interrupted_by_sigterm"]


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end this command in good order, as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "called in a task"
    was_told = False

    def told() -> None:
        nonlocal was_told
        was_told = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, told)
    try:
        yield
    except asyncio.CancelledError:
        if was_told:
            raise click.Abort from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end a command without an event loop as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals, and every command outside of tests runs there
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
