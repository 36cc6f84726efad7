from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from a2a import LeaseLapsed, TaskFailed
from reference_agents.maintenance import consulting as module
from reference_agents.maintenance.consulting import consult

MAKE = Callable[..., Any]


async def test_an_outage_of_the_coordinator_is_waited_out(fake_task: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    task, away = fake_task(), [LeaseLapsed("away"), LeaseLapsed("away")]

    async def answer(*_: Any) -> Any:
        if away:
            raise away.pop()
        return "there"

    task.on_call = answer
    assert await consult(task, "propose_patch", {"plan": 1}, "key", "coder") == "there"
    assert {key for _, _, key, _ in task.calls} == {"key"}
    assert len(task.calls) == 3
    skill, question, _, options = task.calls[0]
    assert (skill, question, options["to"]) == ("propose_patch", {"plan": 1}, "coder")


async def test_a_failure_is_the_callers_business(fake_task: MAKE) -> None:
    task = fake_task()

    async def fail(*_: Any) -> Any:
        raise TaskFailed("t1", "deadline")

    task.on_call = fail
    with pytest.raises(TaskFailed):
        await consult(task, "propose_patch", {}, "key", "coder")
