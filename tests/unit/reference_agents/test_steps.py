"""The steps of one attempt at a request."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

from a2a import Agent, TaskContext
from a2a.testing import squad
from reference_agents.steps import Steps, digest

BOUND = 30.0


class Told:
    """The context of a task, as far as it is told anything."""

    def __init__(self) -> None:
        self.notes: list[tuple[float | None, str]] = []
        self.artifacts: list[Any] = []

    async def progress(self, fraction: float | None, words: str) -> None:
        self.notes.append((fraction, words))

    async def artifact(self, name: str, value: Any, **_: Any) -> None:
        self.artifacts.append((name, value))


async def nobody(question: str, options: list[str] | None) -> Any:
    raise AssertionError(f"nobody is to be asked: {question}")


async def test_each_step_is_a_sub_task_under_a_key_of_what_it_is_given() -> None:
    made: list[Steps] = []
    keys: list[str] = []
    lead, worker = Agent("lead"), Agent("worker")

    @lead.skill
    async def through(task: TaskContext) -> list[int]:
        steps = Steps(task, nobody)
        made.append(steps)
        first = [await steps.run("double", "double", "double", number=number) for number in (1, 2, 1)]
        steps.rounds = 2
        return [*first, await steps.run("double", "double", "double", number=3)]

    @worker.skill
    async def double(number: int, task: TaskContext) -> int:
        keys.append(task.key)
        return 2 * number

    with anyio.fail_after(BOUND):
        async with squad(lead, worker) as up:
            assert await up.client.call("through") == [2, 4, 2, 6]
    assert keys == [f"double-{digest({'number': number})}" for number in (1, 2, 3)], "the same step is done once"
    steps = made[0]
    assert [account["name"] for account in steps.accounts] == ["double", "double", "double", "double (round 2)"]
    assert {account["state"] for account in steps.accounts} == {"completed"}
    assert steps.accounts[0]["task"] == steps.accounts[2]["task"]
    assert steps.seconds >= 0.0


async def test_the_time_is_from_the_first_beginning_to_the_last_end() -> None:
    steps = Steps(Told(), nobody)  # type: ignore[arg-type]
    assert (steps.seconds, steps.accounts) == (0.0, [])

    class Done:
        def __init__(self, began: float, ended: float) -> None:
            self.began, self.ended = began, ended

    steps.courses = [Done(100.0, 101.0), Done(100.5, 107.25), Done(0.0, 0.0)]  # type: ignore[list-item]
    assert steps.seconds == 7.25, "one that nobody took has no time"


async def test_progress_is_that_of_the_part_that_goes_on() -> None:
    task = Told()
    steps = Steps(task, nobody, span=(0.5, 0.75))  # type: ignore[arg-type]
    await steps.note(0.5, "half")
    await steps.note(None, "somewhere")
    assert task.notes == [(0.625, "half"), (None, "somewhere")]


async def test_what_happened_is_told_for_good() -> None:
    task = Told()
    await Steps(task, nobody).story(  # type: ignore[arg-type]
        "found", "coder", "a file"
    )
    assert task.artifacts == [("story", {"kind": "found", "who": "coder", "what": "a file"})]
