"""The event loop of processes that stay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import a2a
from a2a.loop import new_loop, run


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
