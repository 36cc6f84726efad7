"""The agent: handlers, attempts, draining, sub-tasks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, LeaseLapsed, LinkSettings, TaskContext, TaskFailed
from a2a.testing import squad

BOUND = 20


async def test_a_retryable_failure_is_tried_again_and_another_is_not(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            assert await running.client.call("fail", {"retryable": True, "times": 1}) == "attempt 2"
            with pytest.raises(TaskFailed):
                await running.client.call("fail", {"retryable": False, "times": 1})


async def test_an_unexpected_exception_is_retried_and_then_fails(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            with pytest.raises(TaskFailed, match="RuntimeError: a bug") as failed:
                await running.client.call("crash", attempts=2)
            assert failed.value.reason == "attempts"


async def test_a_blocking_handler_keeps_its_lease(helper: Agent) -> None:
    """Three leases long, in a plain function: the heartbeats come from the link's own thread."""
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("block", {"seconds": 1.8}) as task:
                assert await task.result() == "done"
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0


async def test_a_handler_that_blocks_its_own_loop_keeps_its_lease() -> None:
    import time

    agent = Agent("rude")

    @agent.skill
    async def hog() -> str:
        time.sleep(1.5)  # noqa: ASYNC251 - what a user's code must be allowed to do
        return "done"

    stops: list[Any] = []

    async def serve(settings: LinkSettings) -> None:
        stop, token = anyio.Event(), anyio.lowlevel.current_token()
        stops.append(lambda: anyio.from_thread.run_sync(stop.set, token=token))
        await agent.run(settings=settings, stop=stop)

    with anyio.fail_after(BOUND):
        async with squad() as running, anyio.create_task_group() as group:
            # In a thread of its own: the coordinator of this test lives in this loop.
            group.start_soon(anyio.to_thread.run_sync, lambda: anyio.run(serve, running.settings))
            async with running.client.delegate("hog") as task:
                assert await task.result() == "done"
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0
            await anyio.to_thread.run_sync(stops[0])


async def test_sub_tasks_are_done_and_confirmed(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("twice", {"text": "a b"}) as task:
                assert await task.result() == 5
            children = await running.client.list(parent=task.id)
            assert sorted(child["metadata"]["key"] for child in children) == ["first", "second"]
            assert {child["metadata"]["state"] for child in children} == {"completed"}


async def test_a_new_attempt_finds_its_sub_tasks_again() -> None:
    agent = Agent("parent")
    seen: list[tuple[int, bool]] = []

    @agent.skill
    async def leaf(n: int) -> int:
        return n

    @agent.skill
    async def root(task: TaskContext) -> int:
        async with task.delegate("leaf", {"n": 7}, key="only") as child:
            seen.append((task.attempt, child.created))
            value = await child.result()
        if task.attempt == 1:
            raise AttemptFailed("again", retryable=True)
        return int(value)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("root") as task:
                assert await task.result() == 7
            assert seen == [(1, True), (2, False)]
            assert len(await running.client.list(parent=task.id)) == 1


async def test_draining_gives_back_what_does_not_end(helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2a.agent.DRAIN_GRACE", 0.05)
    with anyio.fail_after(BOUND):
        async with squad() as running:
            stop, ready = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: helper.run(settings=running.settings, stop=stop, ready=ready.set))
                await ready.wait()
                async with running.client.delegate("wait") as task:
                    await gate.begun.wait()
                    stop.set()
                    async for event in running.client.watch(task.id):
                        if event.kind == "release":
                            break
                    metadata = (await running.client.get(task.id))["metadata"]
                    assert metadata["state"] == "queued"
                    assert not any(metadata["counters"].values()), "giving back counts against nobody"
                    await task.cancel()


async def test_check_raises_once_the_attempt_has_lost_its_authority(gate: Any) -> None:
    agent = Agent("careful")
    caught: list[str] = []

    @agent.skill
    async def act(task: TaskContext) -> None:
        task.check()
        gate.begun.set()
        try:
            await gate.open.wait()
        finally:
            try:
                task.check()
            except LeaseLapsed as lapsed:
                caught.append(str(lapsed))

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("act") as task:
            await gate.begun.wait()
            await task.cancel(mode="skip")
            with pytest.raises(Exception, match="canceled"):
                await task.result()
            while not caught:
                await anyio.lowlevel.checkpoint()
            assert task.id in caught[0]


def test_a_skill_has_a_name_of_its_own() -> None:
    agent = Agent("twin")
    agent.skill(id="x")(lambda: None)
    with pytest.raises(ValueError, match="has a skill x already"):
        agent.skill(id="x")(lambda: None)


def test_main_says_when_the_coordinator_turns_it_away() -> None:
    code = "from a2a import Agent; Agent('x').main(['--url', 'nonsense'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
