"""How a signal ends a command that has last words to say."""

from __future__ import annotations

import asyncio
import os
import signal

import click
import pytest

from a2a.cli.signals import ended_by_sigterm

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
