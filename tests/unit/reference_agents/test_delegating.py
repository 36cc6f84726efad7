from __future__ import annotations

from typing import Any

import anyio
import pytest

from a2a import Agent, LeaseLapsed, TaskContext, TaskFailed
from a2a.testing import squad
from reference_agents import delegating
from reference_agents.delegating import LOSSES_MAX, MOVED, TIMERS, delegated, result_of


async def test_an_outage_of_the_coordinator_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegating, "LOOK_AGAIN", 0.0)
    away = [LeaseLapsed("away"), LeaseLapsed("away")]

    class Task:
        def delegate(self, skill: str, given: Any, key: str, **options: Any) -> Any:
            if away:
                raise away.pop()
            return skill, given, key, options

    child: Any = await delegated(Task(), "work", {"plan": 1}, "key", losses=1, to="worker")  # type: ignore[arg-type]
    assert child == ("work", {"plan": 1}, "key", {"timers": TIMERS, "losses": 1, "to": "worker"})
    assert LOSSES_MAX > 3, "more often than the coordinator would by itself"


async def test_what_relies_on_a_moved_decision_is_rejected_in_every_attempt() -> None:
    ends: list[tuple[str, str]] = []
    lead, worker = Agent("lead"), Agent("worker")

    @lead.skill
    async def go(task: TaskContext) -> Any:
        async with await delegated(task, "work", {}, "held") as child:
            assert await result_of(child) == 0, "what nothing has moved for is taken"
        for _ in range(2):  # the second time as an attempt after a crash would
            async with await delegated(task, "work", {"moves": 1}, "moved") as child:
                with pytest.raises(TaskFailed) as caught:
                    await result_of(child)
                ends.append((caught.value.reason, caught.value.detail))

    @worker.skill
    async def work(task: TaskContext, moves: int = 0) -> int:
        rev = (await task.context.get("decisions/it")).rev
        for _ in range(moves):
            await up.client.context(task.context_id).put("decisions/it", 1, if_rev=rev)
        return rev

    with anyio.fail_after(30):
        async with squad(lead, worker) as up:
            await up.client.call("go")
    assert ends == [("rejected", MOVED)] * 2


async def test_what_was_overruled_is_rejected_in_every_attempt() -> None:
    ends: list[str] = []
    lead, worker = Agent("lead"), Agent("worker")

    @lead.skill
    async def go(task: TaskContext) -> str:
        async with await delegated(task, "work", {}, "key") as child:
            async for event in child.events():  # until there is one, which nobody has read yet
                assert event.state != "completed"
            conflict = await task.raise_conflict("result", child.id, {"value": 2})
            await up.client.resolve(conflict, "value-2")
        for _ in range(2):  # the second time as an attempt after a crash would
            async with await delegated(task, "work", {}, "key") as child:
                with pytest.raises(TaskFailed) as caught:
                    await result_of(child)
                ends.append(caught.value.detail)
        return conflict

    @worker.skill
    async def work() -> int:
        return 1

    with anyio.fail_after(30):
        async with squad(lead, worker) as up:
            conflict = await up.client.call("go")
    assert ends == [f"overruled by conflict {conflict}"] * 2
