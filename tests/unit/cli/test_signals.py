"""How a signal ends a command that has last words to say."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import click
import pytest

from a2a.cli.signals import ended_by_sigterm, interrupted_by_sigterm

BOUND = 20


def test_sigterm_ends_in_order() -> None:
    steps: list[str] = []

    async def work() -> None:
        with ended_by_sigterm():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(BOUND)
            finally:
                steps.append("cleaned up")

    with pytest.raises(click.Abort):
        asyncio.run(work())
    assert steps == ["cleaned up"]


def test_sigterm_interrupts_a_command_without_a_loop() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_sigterm_is_as_it_was() -> None:
    def look() -> object:
        with interrupted_by_sigterm():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(look).result(BOUND) == signal.getsignal(signal.SIGTERM)
