"""The task of a handler that is a plain function: everything blocks, and there is nothing it has less."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import anyio
import pytest
from anyio import to_thread

from a2a import (
    Agent,
    AttemptFailed,
    ChildTask,
    LeaseLapsed,
    SyncChildTask,
    SyncTaskContext,
    TaskCanceled,
    TaskContext,
    TaskHandle,
)
from a2a.forking import Copy, is_safe
from a2a.testing import squad

BOUND = 20


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def test_nothing_is_left_out() -> None:
    assert public(TaskContext) - {"context"} <= public(SyncTaskContext), "the context is an attribute of each"
    assert public(ChildTask) <= public(SyncChildTask)
    assert public(TaskHandle) - {"next_event", "waits_for_me"} <= public(ChildTask), "those two are what events() is of"


async def test_a_plain_function_follows_its_sub_task(helper: Agent) -> None:
    agent = Agent("lead")

    @agent.skill
    def lead(task: SyncTaskContext) -> list[Any]:
        with task.delegate("count_words", {"text": "a b"}) as child:
            kinds = [event.kind for event in child.events()]
            words = child.result()
            assert child.artifacts()[0]["parts"][0]["data"] == words
        assert (child.key, child.context_id, child.stale_basis) == ("#1", task.context_id, {})
        found = task.find("count_words")[0].agent_id
        seen = [event.kind for event in task.watch(child.id)]
        state = task.get(child.id)["metadata"]["state"]
        with task.delegate("sure") as asking:
            number, question = asking.question()
            asking.answer(number, "no")
            said = asking.result()
        return [kinds[-1], words, found, seen[-1], state, child.created, question, said, task.spec["skill"]]

    with anyio.fail_after(BOUND):
        async with squad(helper, agent) as running:
            kinds, words, found, seen, state, made, question, said, skill = await running.client.call("lead")
    assert (kinds, words, found, seen, state) == ("report", {"words": 2}, "helper", "complete", "completed")
    assert (made, bool(question), said, skill) == (True, True, False, "lead")


async def test_a_sub_task_whose_block_raises_is_not_confirmed(helper: Agent) -> None:
    agent, children = Agent("lead"), []

    @agent.skill
    def lead(task: SyncTaskContext) -> None:
        with task.delegate("count_words", {"text": "a"}, on_parent_end="detach") as child:
            children.append(child.id)
            child.result()
            raise AttemptFailed("not good enough")

    with anyio.fail_after(BOUND):
        async with squad(helper, agent) as running:
            with pytest.raises(Exception, match="not good enough"):
                await running.client.call("lead")
            assert (await running.client.get(children[0]))["metadata"]["state"] == "reported"


async def test_another_thread_than_the_handlers_is_told_so_and_sub_tasks_run_side_by_side(helper: Agent) -> None:
    agent = Agent("lead")

    @agent.skill
    def lead(task: SyncTaskContext) -> list[Any]:
        with ThreadPoolExecutor(1) as others:
            told = str(others.submit(task.use, tokens=1).exception())
            assert str(others.submit(task.call, "count_words", {"text": "a"}).exception()) == told
            assert str(others.submit(task.context.get, "plan").exception()) == told
        with ExitStack() as stack:
            children = [stack.enter_context(task.delegate("count_words", {"text": text})) for text in ("a", "b c")]
            return [told, *(child.result()["words"] for child in children)]

    with anyio.fail_after(BOUND):
        async with squad(helper, agent) as running:
            told, *words = await running.client.call("lead")
    assert "can use its task only in the thread it was called in; this is another thread" in told
    assert words == [1, 2]


@pytest.mark.parametrize("waits", ["steer", "watch"])
async def test_a_call_made_after_the_attempt_has_ended_ends_as_well(waits: str) -> None:
    agent = Agent("busy")
    began, goes_on, ended = Event(), Event(), Event()
    raised: list[BaseException] = []

    @agent.skill
    def compute(task: SyncTaskContext) -> None:
        try:
            with task.claim("a"):
                began.set()
                assert goes_on.wait(BOUND)
                for _ in task.context.watch("nobody writes it") if waits == "watch" else [task.steer()]:
                    pass
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("compute") as task:
                assert await to_thread.run_sync(began.wait, BOUND)
                await task.cancel()
                with pytest.raises(TaskCanceled):
                    await task.result()
            goes_on.set()
            assert await to_thread.run_sync(ended.wait, BOUND / 4)
    assert [type(error) for error in raised] == [LeaseLapsed]


@pytest.mark.skipif(not is_safe(), reason="this process may not be copied here")
async def test_in_a_copy_of_the_process_the_task_says_so() -> None:
    agent, copies = Agent("forks"), list[Copy]()

    @agent.skill
    def fork(task: SyncTaskContext) -> str:
        def use() -> bytes:
            with pytest.raises(RuntimeError, match="this is a copy"):
                task.progress(0.5)
            return b"told"

        copies.append(Copy(use))
        return task.key

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("fork", key="k") == "k"
            assert await copies[0].result(BOUND) == b"told"
