"""The squad in one process that users test their agents with."""

from __future__ import annotations

import threading

import anyio

from a2a import Agent, MemoryStore
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
