"""The plan and the approval in the context of a run, with a real coordinator between all who have a part in them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import a2a
from a2a import Agent, AttemptFailed, TaskContext
from a2a.testing import Squad, squad
from reference_agents.delegating import MOVED
from reference_agents.maintenance import (
    coder_libcst,
    coder_model,
    coder_pyupgrade,
    coder_ruff,
    judge,
    judge_model,
    safety,
)
from reference_agents.maintenance.decisions import APPROVAL, PLAN, Decisions, heed, heed_approval

BOUND = 30.0
MAKE = Callable[..., Any]
Body = Callable[[TaskContext], Awaitable[Any]]


@contextlib.asynccontextmanager
async def run_of(body: Body) -> AsyncIterator[tuple[Squad, a2a.TaskHandle, list[Any]]]:
    """Have a lead that does this; yield the squad, its task, and what came of it."""
    lead, came = Agent("lead"), []

    @lead.skill
    async def go(task: TaskContext) -> None:
        try:
            came.append(await body(task))
        except AttemptFailed as failed:
            came.append(failed)

    with anyio.fail_after(BOUND):
        async with squad(lead) as up, up.client.delegate("go", acceptance="auto") as task:
            yield up, task, came


async def ended(task: a2a.TaskHandle) -> None:
    async for _ in task.events():
        pass


@pytest.mark.parametrize(
    ("skill", "given"),
    [
        (coder_ruff.propose_patch, {}),
        (coder_pyupgrade.propose_patch, {}),
        (coder_libcst.propose_patch, {}),
        (coder_model.propose_patch, {}),
        (judge.judge_patches, {"proposals": []}),
        (judge_model.choose_patch, {"patches": []}),
        (safety.review_patch, {"patch": {"text": ""}}),
    ],
)
async def test_whoever_works_on_a_plan_relies_on_it_and_does_nothing_on_another(
    skill: Any, given: dict[str, Any], fake_task: MAKE, plan_for: MAKE
) -> None:
    task = fake_task()
    task.context.values[PLAN] = plan_for(paths=["a.py"])
    with pytest.raises(AttemptFailed, match="was to be done on another") as caught:
        await skill(workspace={}, plan=plan_for(), task=task, **given)
    assert (caught.value.error_code, caught.value.retryable) == (MOVED, False)
    assert task.context.read == [PLAN]


async def test_without_a_run_around_it_a_plan_is_as_it_was_given(fake_task: MAKE, plan_for: MAKE) -> None:
    task = fake_task()
    await heed(task, plan_for())
    await heed_approval(task, "d" * 64)
    task.context.values[PLAN] = plan_for()
    await heed(task, plan_for())


async def test_what_is_deployed_is_what_was_approved_on_the_plan_in_force(fake_task: MAKE, plan_for: MAKE) -> None:
    task = fake_task()
    task.context.values[PLAN] = plan_for()
    for approved in (None, {"patch": "other", "plan": 1}, {"patch": "patch", "plan": 2}, "rubbish"):
        task.context.values[APPROVAL] = approved
        with pytest.raises(AttemptFailed, match="nobody has approved patch patch on revision 1") as caught:
            await heed_approval(task, "patch")
        assert caught.value.error_code == MOVED
    task.context.values[APPROVAL] = {"patch": "patch", "plan": 1, "by": "human"}
    await heed_approval(task, "patch")


async def test_a_plan_is_written_once_and_found_by_the_attempts_after(plan_for: MAKE) -> None:
    async def body(task: TaskContext) -> Any:
        first, again = Decisions(task, plan_for()), Decisions(task, plan_for())
        await first.begin()
        await first.change(plan_for(paths=["a.py"]), "only this one")
        await again.begin()  # as another attempt would, which goes through it from the beginning
        assert (again.rev, again.plan["paths"], await again.outdated() != "") == (1, [], True)
        await again.change(plan_for(paths=["a.py"]), "only this one")
        return first.rev, again.rev, again.plan["paths"], await again.outdated(), await again.told()

    async with run_of(body) as (up, task, came):
        await ended(task)
        plan = await up.client.context(task.context_id).get(PLAN)
    assert (plan.rev, plan.decision, plan.task) == (2, True, task.id)
    told = [
        {"rev": 1, "by": "lead", "reason": "as the request was understood"},
        {"rev": 2, "by": "lead", "reason": "only this one"},
    ]
    assert came == [(2, 2, ["a.py"], "", told)]


async def test_what_a_person_makes_of_the_plan_is_gone_on_with(plan_for: MAKE) -> None:
    begun, edited = anyio.Event(), anyio.Event()

    async def body(task: TaskContext) -> Any:
        decisions = Decisions(task, plan_for())
        await decisions.begin()
        begun.set()
        await edited.wait()
        said = await decisions.outdated()
        assert not await decisions.approve("patch", "auto"), "it was made on a plan that has moved"
        await decisions.change(plan_for(paths=["mine.py"]), "too late")
        assert decisions.plan["paths"] == ["a.py"], "somebody was faster"
        return said, decisions.rev, await decisions.approve("patch", "auto"), await decisions.approve("patch", "auto")

    async with run_of(body) as (up, task, came):
        await begun.wait()
        context = up.client.context(task.context_id)
        await context.put(PLAN, plan_for(paths=["a.py"]), if_rev=1, reason="one thing at a time")
        edited.set()
        await ended(task)
        approval = await context.get(APPROVAL)
        person = up.client.agent_id
        assert await up.client.conflicts(kind="context") == [], "the lead looks again, and contests nothing"
    assert came == [(f"{PLAN} is at revision 2, by {person}", 2, True, True)]
    assert (approval.rev, approval.value) == (1, {"patch": "patch", "plan": 2, "by": "auto"})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("leave the tests alone", "the plan: 'leave the tests alone' is not of type 'object'"),
        ({"kind": "find"}, "is a required property"),
        (None, "None is not of type"),
        ("a question", "it would change nothing"),
    ],
)
async def test_what_is_no_plan_is_put_right_and_the_history_says_why(plan_for: MAKE, value: Any, why: str) -> None:
    begun, edited = anyio.Event(), anyio.Event()

    async def body(task: TaskContext) -> Any:
        decisions = Decisions(task, plan_for())
        await decisions.begin()
        begun.set()
        await edited.wait()
        await decisions.look()
        return decisions.plan == plan_for(), decisions.rev, await decisions.outdated(), await decisions.told()

    async with run_of(body) as (up, task, came):
        await begun.wait()
        context = up.client.context(task.context_id)
        if value is None:
            await context.delete(PLAN, if_rev=1)
        else:
            await context.put(PLAN, plan_for(kind="find") if value == "a question" else value, if_rev=1)
        edited.set()
        await ended(task)
        plan = await context.get(PLAN)
    [(is_as_it_was, rev, outdated, told)] = came
    assert (is_as_it_was, rev, outdated, plan.value) == (True, 3, "", plan_for())
    assert told[-1]["reason"].startswith("revision 2 is no plan to go on with: ") and why in told[-1]["reason"]


async def test_the_plan_of_another_run_is_nobody_elses(plan_for: MAKE) -> None:
    begun, go_on = anyio.Event(), anyio.Event()
    came: list[Any] = []
    lead = Agent("lead")

    @lead.skill
    async def go(path: str, task: TaskContext) -> None:
        decisions = Decisions(task, plan_for(paths=[path]))
        try:
            await decisions.begin()
        except AttemptFailed as failed:
            came.append(failed.error_code)
            return
        came.append((decisions.first, [it["rev"] for it in await decisions.told()]))
        begun.set()
        await go_on.wait()

    with anyio.fail_after(BOUND):
        async with squad(lead) as up:
            options: Any = {"context_id": "shared", "acceptance": "auto"}
            async with up.client.delegate("go", {"path": "a.py"}, **options) as first:
                await begun.wait()
                await up.client.call("go", {"path": "b.py"}, **options)
                assert (await up.client.context("shared").get(PLAN)).value == plan_for(paths=["a.py"])
                go_on.set()
                await ended(first)
            await up.client.call("go", {"path": "c.py"}, **options)
            assert (await up.client.context("shared").get(PLAN)).value == plan_for(paths=["c.py"])
    assert came == [(1, [1]), "context_taken", (2, [2])]


async def test_the_plan_of_a_run_of_which_nothing_is_kept_is_in_nobodys_way(
    plan_for: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = TaskContext.outcome

    async def go(task: TaskContext) -> Any:
        decisions = Decisions(task, plan_for(paths=["c.py"]))
        await decisions.begin()
        return decisions.first

    async with run_of(go) as (up, first, came):
        await ended(first)

        async def long_gone(task: TaskContext, other: str) -> dict[str, Any]:
            return await outcome(task, "no such task" if other == first.id else other)

        monkeypatch.setattr(TaskContext, "outcome", long_gone)
        async with up.client.delegate("go", context_id=first.context_id, acceptance="auto") as second:
            await ended(second)
    assert came == [1, 2]
