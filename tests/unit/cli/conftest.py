"""What the tests of the command line share: a way to run commands, and somebody for them to talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import a2a.runner
from a2a import Agent
from a2a.cli.main import run
from a2a.hosting import Hosted, host


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command as `a2a` would, and return what it wrote."""

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(list(arguments))
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return call


@dataclass(frozen=True)
class World:
    """A coordinator and an agent that are there for as long as the test."""

    url: str
    hosted: Hosted
    portal: BlockingPortal

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something in the thread of the coordinator and the agent."""
        return self.portal.call(function, *arguments)


@asynccontextmanager
async def _hosted_with(agent: Agent) -> AsyncIterator[Hosted]:
    stop, ready = anyio.Event(), anyio.Event()
    async with host() as hosted, anyio.create_task_group() as group:
        group.start_soon(partial(agent.run, hosted.url, stop=stop, ready=ready.set))
        await ready.wait()
        try:
            yield hosted
        finally:
            stop.set()


@pytest.fixture
def world(helper: Agent, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A coordinator that the commands find, with the agent `helper`."""
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    monkeypatch.setattr(a2a.runner, "DRAIN_GRACE", 0.1)  # some tests leave a task at work
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_hosted_with(helper)) as hosted:
        monkeypatch.setenv("A2A_URL", hosted.url)
        yield World(hosted.url, hosted, portal)
