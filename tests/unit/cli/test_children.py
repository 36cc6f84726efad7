"""Child processes that stay."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from a2a.cli import children
from a2a.cli.children import Child, keep_running

BOUND = 30


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


class Said:
    """Collects what is said, and lets a test wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = anyio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._news.set()

    async def until(self, count: int) -> None:
        while len(self.lines) < count:
            self._news = anyio.Event()
            await self._news.wait()


class Starts:
    """A named pipe into which each start of a child writes a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Open for both, so that it does not end between two children.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    async def next(self) -> str:
        await anyio.wait_readable(self._fd)
        return os.read(self._fd, 100).decode()

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    made = Starts(tmp_path / "starts")
    yield made
    made.close()


def told(starts: Starts, then: str) -> tuple[str, ...]:
    return python(f"import os, sys\nopen({str(starts.path)!r}, 'w').write(str(os.getpid()))\n{then}")


async def test_a_child_that_dies_is_started_again_after_a_pause_that_grows(
    monkeypatch: pytest.MonkeyPatch, starts: Starts
) -> None:
    monkeypatch.setattr(children, "PAUSES", (0.01, 0.02))
    stop, said = anyio.Event(), Said()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_running, Child("it", told(starts, "sys.exit(3)")), stop, said)
            for _ in range(3):
                await starts.next()
            await said.until(3)
            stop.set()
    assert said.lines[:3] == [f"it ended with 3; it is started again in {pause} s" for pause in (0.01, 0.02, 0.02)]


async def test_a_child_is_started_again_when_that_is_wanted(starts: Starts) -> None:
    stop, said = anyio.Event(), Said()
    child = Child("it", told(starts, "sys.stdin.read()"))
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_running, child, stop, said)
            first = await starts.next()
            assert child.pid == int(first)
            child.again.set()
            second = await starts.next()
            stop.set()
    assert first != second
    assert said.lines == [], "it did not die"
    assert child.pid is None
    for pid in (first, second):
        assert not Path(f"/proc/{pid}").exists()


async def test_a_child_that_is_waited_for_is_started_at_once_when_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, starts: Starts
) -> None:
    monkeypatch.setattr(children, "PAUSES", (1000.0, 1000.0))
    stop, said = anyio.Event(), Said()
    child = Child("it", told(starts, "sys.exit(1)"))
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_running, child, stop, said)
            await starts.next()
            await said.until(1)
            child.again.set()
            await starts.next()
            await said.until(2)
            stop.set()


async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, starts: Starts) -> None:
    monkeypatch.setattr(children, "GRACE", 0.2)
    stop = anyio.Event()
    stubborn = python(
        "import os, signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(starts.path)!r}, 'w').write(str(os.getpid()))\nsignal.pause()"
    )
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_running, Child("it", stubborn), stop, Said())
            pid = await starts.next()
            stop.set()
    assert not Path(f"/proc/{pid}").exists()


async def test_cancelling_ends_the_child(starts: Starts) -> None:
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_running, Child("it", told(starts, "sys.stdin.read()")), anyio.Event(), Said())
            pid = await starts.next()
            group.cancel_scope.cancel()
    assert not Path(f"/proc/{pid}").exists()


def test_the_end_of_standard_input_is_noticed() -> None:
    """In a process of its own: standard input belongs to the test runner here."""
    program = (
        "import asyncio\nfrom a2a.cli.children import on_end_of_input\n"
        "asyncio.run(on_end_of_input(lambda: print('ended')))"
    )
    done = subprocess.run(python(program), input="more", capture_output=True, text=True, timeout=BOUND, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")
