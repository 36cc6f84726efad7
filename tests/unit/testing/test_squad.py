"""The squad in one process that users test their agents with."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import Agent, MemoryStore, TaskFailed
from a2a.errors import ConnectError
from a2a.runner import Runner
from a2a.testing import squad


async def test_instances_share_the_work_and_leave_nothing_behind(helper: Agent) -> None:
    before = set(threading.enumerate())
    with anyio.fail_after(20):
        async with squad(helper, n=3) as running:
            assert [agent.agent_id for agent in await running.client.find()] == ["helper/1", "helper/2", "helper/3"]
            assert await running.client.call("count_words", {"text": "a"}) == {"words": 1}
            assert running.client.durability == "memory"
            assert running.client.is_operator
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("link")]
    assert left == []


async def test_a_store_can_be_carried_into_the_next_squad(helper: Agent) -> None:
    store = MemoryStore()
    secrets: dict[str, str] = {}
    with anyio.fail_after(20):
        async with squad(helper, store=store, secrets=secrets) as running:
            async with running.client.delegate("draft", key="k") as task:
                await task.result()
        async with squad(store=store, secrets=secrets) as again:
            assert (await again.client.list())[0]["id"] == task.id


@pytest.mark.parametrize("store", ["ledger.db", "", Path("ledger.db"), []])
async def test_what_is_no_store_is_told_what_one_is(store: Any) -> None:
    with pytest.raises(ValueError, match=r"^store: expected a Store, as a2a\.SqliteStore\(path\), got "):
        async with squad(store=store):
            pytest.fail("there is nothing to keep a ledger in")


async def test_what_the_block_raises_comes_as_it_is(helper: Agent) -> None:
    with anyio.fail_after(20):
        with pytest.raises(TaskFailed, match="it went wrong") as failed:
            async with squad(helper) as running:
                await running.client.call("fail")
        assert not getattr(failed.value, "__notes__", [])
        with pytest.raises(ExceptionGroup, match="of the block"):
            async with squad(helper):
                raise ExceptionGroup("of the block", [ValueError()])


async def test_an_agent_that_is_not_let_in_is_told_as_it_is(helper: Agent) -> None:
    with anyio.fail_after(20):
        with pytest.raises(ConnectError, match="refused no name"):
            async with squad(helper, Agent("no name")):
                pytest.fail("there is no such agent")


async def test_an_agent_whose_place_is_taken_ends_the_block_with_that(helper: Agent) -> None:
    stop = anyio.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectError, match="another instance of helper took its place"):
                async with squad(helper) as running:
                    group.start_soon(lambda: helper.run(settings=running.settings, stop=stop))
                    await anyio.sleep_forever()
            stop.set()


async def test_an_agent_that_fails_beside_the_block_is_told_with_it(helper: Agent) -> None:
    stop = anyio.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            with pytest.raises(ValueError, match="of the block") as raised:
                async with squad(helper) as running:
                    group.start_soon(lambda: helper.run(settings=running.settings, stop=stop))
                    try:
                        await anyio.sleep_forever()
                    finally:
                        raise ValueError("of the block")
            stop.set()
    [note] = raised.value.__notes__
    assert "took its place" in note


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_leaving_early_does_not_wait_for_handlers(
    helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 1_000.0)
    with anyio.fail_after(20):
        with anyio.CancelScope() as scope, pytest.raises((ValueError, anyio.get_cancelled_exc_class())):
            async with squad(helper) as running:
                async with running.client.delegate("wait"):
                    await gate.begun.wait()
                    if not is_cancelled:
                        raise ValueError
                    scope.cancel()
                    await anyio.sleep_forever()
    assert len(gate.ended) == 1


async def test_a_block_may_be_left_in_another_task_than_it_was_entered_in(helper: Agent) -> None:
    """As those of fixtures are, whose setup and teardown run in a task each."""
    with anyio.fail_after(20):
        async with AsyncExitStack() as stack:
            running = await asyncio.create_task(stack.enter_async_context(squad(helper)))
            assert await running.client.call("count_words", {"text": "a b"}) == {"words": 2}
            await asyncio.create_task(stack.aclose())


async def test_a_block_that_an_agent_has_ended_leaves_no_cancellation_behind(helper: Agent) -> None:
    stop, task = anyio.Event(), asyncio.current_task()
    with anyio.fail_after(20):
        async with asyncio.TaskGroup() as group:
            with pytest.raises(ConnectError, match="took its place"):
                async with squad(helper) as running:
                    group.create_task(helper.run(settings=running.settings, stop=stop))
                    await asyncio.get_running_loop().create_future()
            assert task is not None
            assert not task.cancelling()
            stop.set()
            await anyio.lowlevel.checkpoint()


async def test_who_is_cancelled_while_the_agents_end_stays_so(
    helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 0.1)
    drain, drained = Runner._drain, 0

    async def cancelled_meanwhile(runner: Runner) -> None:
        nonlocal drained
        drained += 1
        task.cancel()
        await drain(runner)

    monkeypatch.setattr(Runner, "_drain", cancelled_meanwhile)

    async def test() -> None:
        async with squad(helper) as running, running.client.delegate("wait"):
            await gate.begun.wait()
        pytest.fail("it was cancelled")

    with anyio.fail_after(20):
        task = asyncio.create_task(test())
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (drained, len(gate.ended)) == (1, 1)
