"""What a handler may do with its task."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, LeaseLapsed, SyncTaskContext, TaskContext
from a2a.testing import squad

BOUND = 20


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


async def test_a_plain_function_has_the_same_calls_and_they_block(helper: Agent) -> None:
    agent = Agent("plain")

    @agent.skill
    def work(task: SyncTaskContext) -> list[Any]:
        task.progress(0.5, "half")
        task.artifact("log", "one", append=True)
        task.check()
        counted = task.call("count_words", {"text": "a b"}, key="count")
        return [task.attempt, task.ask("sure?"), counted, task.is_canceled, task.deadline is None]

    with anyio.fail_after(BOUND):
        async with squad(agent, helper) as running, running.client.delegate("work", deadline=60) as task:
            number, _ = await task.question()
            await task.answer(number, "yes")
            assert await task.result() == [1, "yes", {"words": 2}, False, False]


async def test_an_answer_outlives_the_attempt_that_asked() -> None:
    agent = Agent("forgetful")
    asked: list[int] = []

    @agent.skill
    async def decide(task: TaskContext) -> list[Any]:
        first = await task.ask("first?")
        asked.append(task.attempt)
        if task.attempt == 1:
            raise AttemptFailed("again", retryable=True)
        return [first, await task.ask("second?", default="none", timeout=0.1)]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("decide") as task:
            number, _ = await task.question()
            await task.answer(number, "yes")
            assert await task.result() == ["yes", "none"], "asked once, answered in both attempts; then the default"
            assert asked == [1, 2]
