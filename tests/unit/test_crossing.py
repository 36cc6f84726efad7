"""The thread of the links: shared, gathered, and gone with the last who used it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from a2a.crossing import Crossing
from a2a.errors import ConnectionLost
from a2a.forking import Copy, is_safe

BOUND = 20


@pytest.fixture
async def crossing() -> AsyncIterator[Crossing]:
    crossing = Crossing.enter()
    yield crossing
    await crossing.leave()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "a2a links"]


async def thread_of(crossing: Crossing) -> threading.Thread:
    async def current() -> threading.Thread:
        return threading.current_thread()

    return await crossing.on_link(current())


async def test_all_who_run_in_one_loop_share_a_thread_that_ends_with_the_last() -> None:
    first, second = Crossing.enter(), Crossing.enter()
    assert first is second
    thread = await thread_of(first)
    assert threads() == [thread] != [threading.current_thread()]
    await first.leave()
    assert await thread_of(second) is thread, "one is left"
    await second.leave()
    assert threads() == []
    again = Crossing.enter()
    assert await thread_of(again) is not thread
    await again.leave()


async def test_another_loop_has_a_way_of_its_own_to_the_same_thread(crossing: Crossing) -> None:
    async def elsewhere() -> None:
        other = Crossing.enter()
        try:
            assert other is not crossing
            assert await thread_of(other) in threads()
            assert len(threads()) == 1
        finally:
            await other.leave()

    with anyio.fail_after(BOUND):
        await asyncio.to_thread(asyncio.run, elsewhere())
    assert (await thread_of(crossing)).is_alive(), "the others are not done"


async def test_what_is_for_the_links_in_one_turn_goes_with_one_wake_up(crossing: Crossing, monkeypatch: Any) -> None:
    wake_ups: list[object] = []
    links = crossing._links.loop
    done = asyncio.Event()
    handlers = asyncio.get_running_loop()
    seen: list[int] = []
    original = links.call_soon_threadsafe

    class Counting:
        def call_soon_threadsafe(self, *call: Any) -> None:
            wake_ups.append(call)
            original(*call)

    monkeypatch.setattr(crossing._links, "loop", Counting())
    for number in range(5):
        crossing.in_link(seen.append, number)
    crossing.in_link(lambda: handlers.call_soon_threadsafe(done.set))
    assert wake_ups == [], "the turn is not over"
    with anyio.fail_after(BOUND):
        await done.wait()
    monkeypatch.undo()
    assert seen == [0, 1, 2, 3, 4]
    assert len(wake_ups) == 1


async def test_what_was_said_to_the_links_comes_before_what_is_awaited_of_them(crossing: Crossing) -> None:
    said: list[str] = []

    async def asked() -> list[str]:
        return list(said)

    with anyio.fail_after(BOUND):
        for number in range(20):
            crossing.in_link(said.append, str(number))
            assert (await crossing.on_link(asked()))[-1:] == [str(number)]


async def test_what_came_until_the_handlers_look_is_taken_at_once_and_in_order(crossing: Crossing) -> None:
    seen: list[int] = []
    turns: list[int] = []

    async def tell() -> None:
        for number in range(100):
            crossing.in_handlers(seen.append, number)

    handlers = asyncio.get_running_loop()
    asking = asyncio.run_coroutine_threadsafe(tell(), crossing._links.loop)
    asking.result(BOUND)  # this loop stands still meanwhile
    assert seen == []
    handlers.call_soon(lambda: turns.append(len(seen)))
    await asyncio.sleep(0)
    assert (seen, turns) == (list(range(100)), [100])


@pytest.mark.parametrize("side", ["in_link", "in_handlers"])
async def test_a_call_that_raises_is_reported_and_costs_the_others_nothing(crossing: Crossing, side: str) -> None:
    reported: list[dict[str, Any]] = []
    handlers, done = asyncio.get_running_loop(), asyncio.Event()

    async def prepare() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def tell() -> None:
        getattr(crossing, side)(lambda: 1 / 0)
        getattr(crossing, side)(handlers.call_soon_threadsafe, done.set)

    await crossing.on_link(prepare())
    await prepare()
    try:
        await (tell() if side == "in_link" else crossing.on_link(tell()))
        with anyio.fail_after(BOUND):
            await done.wait()
    finally:
        handlers.set_exception_handler(None)
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_handlers_that_are_gone_are_told_nothing_and_links_that_are_gone_neither() -> None:
    left: list[Crossing] = []
    told = asyncio.Event()

    async def elsewhere() -> None:
        left.append(Crossing.enter())

    mine = Crossing.enter()
    with anyio.fail_after(BOUND):
        await asyncio.to_thread(asyncio.run, elsewhere())
    [orphan] = left

    async def tell() -> None:
        assert not orphan.in_handlers(left.clear)
        assert mine.in_handlers(told.set)

    await mine.on_link(tell())
    await told.wait()
    assert left == [orphan]
    await orphan.leave()
    await mine.leave()
    mine.in_link(left.clear)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert left == [orphan]


async def test_who_comes_after_the_last_has_left_is_told_so() -> None:
    crossing, work = Crossing.enter(), asyncio.sleep(0)
    await crossing.leave()
    with anyio.fail_after(BOUND), pytest.raises(ConnectionLost, match="the agent has ended"):
        await crossing.on_link(work)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED, "what will not run is closed"


@pytest.mark.skipif(not is_safe(), reason="this process may not be copied here")
async def test_in_a_copy_of_the_process_links_have_a_thread_of_their_own(crossing: Crossing) -> None:
    async def use() -> bytes:
        with pytest.raises(RuntimeError, match="this is a copy"):
            await thread_of(crossing)
        own = Crossing.enter()
        thread = await thread_of(own)
        await own.leave()
        return thread.name.encode()

    assert await Copy(lambda: asyncio.run(use())).result(BOUND) == b"a2a links"
    assert await thread_of(crossing) in threads()
