from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from a2a import TaskFailed
from reference_agents.maintenance.consulting import consult

MAKE = Callable[..., Any]


async def test_one_agent_is_asked_under_the_key_of_the_question(fake_task: MAKE) -> None:
    task = fake_task()

    async def answer(*_: Any) -> Any:
        return "there"

    task.on_call = answer
    assert await consult(task, "propose_patch", {"plan": 1}, "key", "coder") == "there"
    [(skill, question, key, options)] = task.calls
    assert (skill, question, key, options["to"]) == ("propose_patch", {"plan": 1}, "key", "coder")


async def test_a_failure_is_the_callers_business(fake_task: MAKE) -> None:
    task = fake_task()

    async def fail(*_: Any) -> Any:
        raise TaskFailed("t1", "deadline")

    task.on_call = fail
    with pytest.raises(TaskFailed):
        await consult(task, "propose_patch", {}, "key", "coder")
