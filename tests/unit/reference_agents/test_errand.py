"""One step of the lead, followed to its end."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, ConnectError, TaskContext, TaskFailed
from a2a.testing import squad
from reference_agents import errand
from reference_agents.delegating import MOVED
from reference_agents.errand import Errand, ErrandFailed, Outdated, Step, never

BOUND = 30.0


class Lead:
    """An agent whose one skill is one errand, and what became of it."""

    def __init__(self, outdated: Outdated = never, **options: Any) -> None:
        self.agent = Agent("lead")
        self.steps: list[Step] = []
        self.stories: list[tuple[str, str, str]] = []
        self.notes: list[str] = []
        self.failed: list[ErrandFailed] = []

        async def story(kind: str, who: str, what: str) -> None:
            self.stories.append((kind, who, what))

        async def note(fraction: float | None, words: str) -> None:
            self.notes.append(words)

        async def ask(question: str, choices: list[str] | None) -> Any:
            return f"{question} {choices}"

        @self.agent.skill
        async def lead(task: TaskContext) -> Any:
            one = Errand(
                task, "the step", "work", story, note, ask=ask, given={}, key="key", options=options, outdated=outdated
            )
            self.steps.append(one.step)
            try:
                return await one.run()
            except ErrandFailed as failed:
                self.failed.append(failed)
                raise AttemptFailed(failed.detail, code=failed.code) from failed


async def test_a_step_is_followed_to_its_result() -> None:
    lead, worker = Lead(), Agent("worker")

    @worker.skill
    async def work(task: TaskContext) -> str:
        await task.artifact("rejected", {"agent": "coder", "files": ["a"], "reason": "tests", "detail": "it breaks"})
        await task.artifact("rejected", {"agent": "coder", "files": [], "reason": "no_gain", "detail": ""})
        await task.artifact("other", "not told")
        return str(await task.ask("Which?", options=["a", "b"]))

    with anyio.fail_after(BOUND):
        async with squad(lead.agent, worker) as up:
            assert await up.client.call("lead") == "Which? ['a', 'b']"
    step = lead.steps[0]
    assert (step["state"], step["agent"], step["attempts"], step["losses"]) == ("completed", "worker", 1, 0)
    assert step["task"]
    assert lead.stories == [
        ("work", "worker", "the step"),
        ("refused", "coder", "a: it breaks"),
        ("unused", "coder", "all of it: no_gain"),
    ]


async def test_a_failure_keeps_its_code_and_words() -> None:
    lead, worker = Lead(), Agent("worker")

    @worker.skill
    async def work(task: TaskContext) -> str:
        raise AttemptFailed("no disk is left", code="disk", retryable=task.attempt == 1)

    with anyio.fail_after(BOUND):
        async with squad(lead.agent, worker) as up:
            with pytest.raises(TaskFailed, match="no disk is left"):
                await up.client.call("lead")
    assert (lead.failed[0].code, lead.failed[0].detail) == ("disk", "no disk is left")
    assert lead.steps[0]["attempts"] == 2
    assert ("retry", "worker", "the step was not finished (no disk is left); it is handed on") in lead.stories


@pytest.mark.parametrize("is_there", [True, False])
async def test_who_a_step_waits_for_is_told(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errand, "WAIT_TOLD", 0.1)
    lead, worker, free = Lead(), Agent("worker", concurrency=1), anyio.Event()

    @worker.skill
    async def work(task: TaskContext) -> None:
        pass

    @worker.skill
    async def other(task: TaskContext) -> None:
        await free.wait()

    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *[worker] * is_there) as up, contextlib.AsyncExitStack() as stack:
            if is_there:
                busy = await stack.enter_async_context(up.client.delegate("other"))
                async for event in busy.events():
                    if event.kind in ("grant", "accept"):
                        break
            async with up.client.delegate("lead") as step:
                while not lead.notes:  # noqa: ASYNC110 - notes are told to nobody else
                    await anyio.sleep(0.01)
                free.set()
                if is_there:
                    await step.result()
                else:
                    await step.cancel(mode="kill")
    assert lead.notes == [f"the step waits for {'worker' if is_there else 'somebody with the skill work'}"]


async def test_a_step_that_is_begun_at_once_is_told_to_wait_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errand, "WAIT_TOLD", 0.05)
    lead, worker = Lead(), Agent("worker")

    @worker.skill
    async def work(task: TaskContext) -> None:
        await anyio.sleep(0.2)  # longer than that

    with anyio.fail_after(BOUND):
        async with squad(lead.agent, worker) as up:
            await up.client.call("lead")
    assert lead.notes == []


async def test_a_step_that_nobody_takes_ends() -> None:
    lead = Lead(to="nobody", timers={"queue": 0.1})
    with anyio.fail_after(BOUND):
        async with squad(lead.agent) as up:
            with pytest.raises(TaskFailed):
                await up.client.call("lead")
    assert lead.failed[0].code == "no_capable_agent"


async def test_an_attempt_that_is_lost_with_its_agent_is_counted_and_told() -> None:
    lead, worker, begun = Lead(), Agent("worker"), anyio.Event()

    @worker.skill
    async def work(task: TaskContext) -> str:
        if task.attempt == 1:
            begun.set()
            await anyio.sleep_forever()
        return "done"

    async def first(settings: Any) -> None:
        with contextlib.suppress(ConnectError, BaseExceptionGroup):  # the second takes its place
            await worker.run(name="worker", settings=settings)

    with anyio.fail_after(BOUND):
        async with squad(lead.agent) as up, anyio.create_task_group() as group:
            group.start_soon(first, up.settings)
            async with up.client.delegate("lead") as task:
                await begun.wait()
                stop = anyio.Event()
                group.start_soon(partial(worker.run, name="worker", settings=up.settings, stop=stop))
                assert await task.result() == "done"
                stop.set()
    assert (lead.steps[0]["losses"], lead.steps[0]["attempts"]) == (1, 2)
    assert ("lost", "worker", "lost during the step (the agent restarted); it is handed on") in lead.stories
    assert ("work", "worker", "the step, attempt 2") in lead.stories


def relying(begun: anyio.Event, moved: anyio.Event) -> Agent:
    """A worker that reads a decision, and is still at work when it moves."""
    worker = Agent("worker")

    @worker.skill
    async def work(task: TaskContext) -> str:
        decision = await task.context.get("decisions/way")
        begun.set()
        await moved.wait()
        return f"went {decision.value}"

    return worker


async def test_a_result_that_relies_on_a_decision_which_has_moved_counts_no_more() -> None:
    lead, begun, moved = Lead(), anyio.Event(), anyio.Event()
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, relying(begun, moved)) as up:
            context = up.client.context("run")
            await context.put("decisions/way", "left", if_rev=0)
            async with up.client.delegate("lead", context_id="run") as task:
                await begun.wait()
                await context.put("decisions/way", "right", if_rev=1)
                moved.set()
                with pytest.raises(TaskFailed):
                    await task.result()
            step = lead.steps[0]["task"]
            kept = (await up.client.get(step))["metadata"]
            held = [event.data["staleBasis"] async for event in up.client.watch(step) if "staleBasis" in event.data]
    why = "decisions/way has moved from revision 1 to 2"
    assert (lead.failed[0].code, lead.failed[0].detail) == (MOVED, why)
    assert lead.stories[-1] == ("moved", "worker", f"the step counts no more: {why}")
    assert (kept["state"], kept["reason"]) == ("failed", "rejected")
    assert held == [[{"key": "decisions/way", "seen": 1, "current": 2}]]


async def test_a_result_of_a_step_that_is_outdated_counts_no_more_whatever_it_relies_on() -> None:
    async def outdated() -> str:
        return "the plan is another"

    lead, worker = Lead(outdated), Agent("worker")

    @worker.skill
    async def work() -> str:
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(lead.agent, worker) as up:
            with pytest.raises(TaskFailed):
                await up.client.call("lead")
            assert (await up.client.get(lead.steps[0]["task"]))["metadata"]["state"] == "failed"
    assert (lead.failed[0].code, lead.failed[0].detail) == (MOVED, "the plan is another")


async def test_what_an_earlier_attempt_has_decided_about_a_result_stays() -> None:
    """It has taken one, and gone on from there: only what was done after that is outdated. Another it has rejected."""
    says = ["", "moved", "", ""]

    async def outdated() -> str:
        return says.pop(0)

    lead, worker, came = Agent("lead"), Agent("worker"), []

    async def tell(*_: Any) -> None:
        return

    async def ask(*_: Any) -> None:
        return

    @lead.skill
    async def go(task: TaskContext) -> None:
        for key in ("one", "other"):
            errand = Errand(task, key, "work", tell, tell, ask=ask, given={}, key=key, outdated=outdated)
            try:
                came.append((task.attempt, key, await errand.run()))
            except ErrandFailed as failed:
                came.append((task.attempt, key, failed.code))
        says[0] = "moved"
        if task.attempt == 1:
            raise AttemptFailed("a crash", retryable=True)

    @worker.skill
    async def work() -> str:
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(lead, worker) as up:
            await up.client.call("go")
    assert came == [(1, "one", "done"), (1, "other", MOVED), (2, "one", "done"), (2, "other", MOVED)]
