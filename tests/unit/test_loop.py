"""The event loop of processes that stay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

import a2a
from a2a.loop import new_loop, run, until_told


def test_uvloop_is_taken_where_it_is_installed() -> None:
    uvloop = pytest.importorskip("uvloop", reason="the uvloop extra is not installed")
    loop = new_loop()
    try:
        assert isinstance(loop, uvloop.Loop)
    finally:
        loop.close()


def test_without_it_asyncio_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_loop()
    try:
        assert isinstance(loop, asyncio.SelectorEventLoop)
    finally:
        loop.close()


@pytest.mark.parametrize(
    "begin",
    [
        lambda: a2a.connect().__aenter__(),
        lambda: a2a.Agent("lost").run(),
        lambda: a2a.Server(a2a.MemoryStore()).open(),
        lambda: a2a.testing.squad().__aenter__(),
    ],
    ids=["client", "agent", "server", "squad"],
)
def test_another_kind_of_loop_hears_what_is_needed(begin: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    begun = begin()
    with pytest.raises(RuntimeError, match=r"a2a runs in asyncio.*trio"):
        begun.send(None)  # as a loop of any kind does


def test_a_coroutine_is_run_to_its_end() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert run(answer) == 42


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_nothing_takes_the_place_of_a_stream_that_was_closed_before(closed: tuple[int, ...]) -> None:
    code = f"""
import os
for descriptor in {closed}:
    os.close(descriptor)
from a2a.loop import run
async def look():
    return [os.path.samestat(os.fstat(descriptor), os.stat(os.devnull)) for descriptor in {closed}]
os._exit(0 if all(run(look)) else 1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


STOPPED = """
import anyio
from a2a.loop import run, stop_on_signals
async def work():
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        await group.start(stop_on_signals, stop)
        print("ready", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        await anyio.to_thread.run_sync(input)
        group.cancel_scope.cancel()
run(work)
"""


@pytest.fixture
def stopped() -> Iterator[subprocess.Popen[str]]:
    """A process that listens for signals, and once it is told to stop ends at a line of input."""
    code = [sys.executable, "-c", STOPPED]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_two_signals_at_once_are_one_wish_to_end(stopped: subprocess.Popen[str]) -> None:
    # Two of a kind may be one for the system, so that these are of both.
    os.kill(stopped.pid, signal.SIGTERM)
    os.kill(stopped.pid, signal.SIGINT)
    out, _ = stopped.communicate("\n", timeout=30)
    assert (out, stopped.returncode) == ("stopping\n", 0)


def test_a_second_signal_later_ends_the_process_at_once(stopped: subprocess.Popen[str]) -> None:
    os.kill(stopped.pid, signal.SIGINT)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "stopping\n"
    deadline = time.monotonic() + 30
    while stopped.poll() is None and time.monotonic() < deadline:
        os.kill(stopped.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            stopped.wait(0.3)
    assert stopped.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_block_ends_when_the_process_is_told_to_or_by_itself(is_told: bool) -> None:
    went_on = False
    with anyio.fail_after(30):
        async with until_told():
            if is_told:
                os.kill(os.getpid(), signal.SIGTERM)
                await anyio.sleep_forever()
            went_on = True
    assert went_on is not is_told
