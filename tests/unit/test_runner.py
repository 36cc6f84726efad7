"""One run of an agent: attempts, heartbeats beside blocking code, draining."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, ConnectError, Declined, LinkSettings, Patch, Policy, TaskContext, TaskFailed
from a2a.crossing import Crossing
from a2a.engine.work import Start, Stop, Work
from a2a.errors import ClaimLost, HandedOff
from a2a.hosting import host
from a2a.link import Link
from a2a.protocol.messages import TaskCreated, TaskDelegate
from a2a.runner import Runner
from a2a.testing import QUICK, Faults, squad
from a2a.testing.faults import Mischief

BOUND = 20
SHORT = Policy(durations=replace(QUICK, lease_ms=600, offer_ms=300))
"""With leases that end in the time of a test."""


class Clock:
    """The wall clock as a run reads it."""

    def __init__(self, at: float) -> None:
        self._at = at

    def time(self) -> float:
        return self._at


async def test_a_retryable_failure_is_tried_again_and_another_is_not(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            assert await running.client.call("fail", {"retryable": True, "times": 1}) == "attempt 2"
            with pytest.raises(TaskFailed):
                await running.client.call("fail", {"retryable": False, "times": 1})


async def test_an_agent_gets_in_after_its_machines_clock_was_set_back(
    helper: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("a2a.runner.time", Clock(now + 366 * 86_400))
    with anyio.fail_after(BOUND):
        async with host() as hosted:
            for _ in range(3):
                stop = anyio.Event()
                await helper.run(hosted.url, stop=stop, ready=stop.set)
                monkeypatch.setattr("a2a.runner.time", Clock(now))


async def test_an_input_that_is_no_json_fails_once(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            made = await client.link.call(TaskDelegate(key="odd", spec={"skill": "count_words"}, payload=b"no JSON"))
            assert isinstance(made, TaskCreated)
            async for _ in client.watch(made.task):
                pass
            metadata = (await client.get(made.task))["metadata"]
            assert (metadata["input"], metadata["attempt"], metadata["state"]) == ("no JSON", 1, "failed")
            assert metadata["error"]["code"] == "schema"
            assert "count_words does not take this input: expected a JSON array of Parts" in metadata["error"]["detail"]


async def test_an_unexpected_exception_is_retried_and_then_fails(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            with pytest.raises(TaskFailed, match="RuntimeError: a bug") as failed:
                await running.client.call("crash", attempts=2)
            assert failed.value.reason == "attempts"


async def of_its_own() -> None:
    task = asyncio.create_task(anyio.sleep_forever())
    task.cancel()
    await task


async def a_group(*errors: BaseException) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    async with anyio.create_task_group() as group:
        for error in errors:
            group.start_soon(fail, error)


async def raising(error: BaseException) -> None:
    raise error


async def leaving_a_group(error: BaseException) -> None:
    async with anyio.create_task_group():
        raise error


class WordlessError(Exception):
    def __str__(self) -> str:
        return self.text  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("ends", "reason", "detail", "attempts"),
    [
        (of_its_own, "attempts", "CancelledError: ", 2),
        (lambda: a_group(AttemptFailed("for good")), "error", "for good", 1),
        (lambda: a_group(ValueError("x"), AttemptFailed("for good")), "error", "for good", 1),
        (lambda: a_group(ValueError("alone")), "attempts", "ValueError: alone", 2),
        (lambda: a_group(ValueError("x"), KeyError("y")), "attempts", "ExceptionGroup: unhandled errors", 2),
        (lambda: a_group(Declined("policy", retry_after=0)), "declines", "", 10),
        (partial(sys.exit, 2), "attempts", "SystemExit: 2", 2),
        (lambda: a_group(ValueError("no text: \udcff")), "attempts", r"ValueError: no text: \udcff", 2),
        (lambda: a_group(AttemptFailed(ValueError("x"), code=7)), "error", "x", 1),  # type: ignore[arg-type]
        (lambda: raising(pytest.fail.Exception("not so")), "attempts", "Failed: not so", 2),
        (lambda: leaving_a_group(SystemExit(3)), "attempts", "SystemExit: 3", 2),
        (lambda: raising(WordlessError()), "attempts", "WordlessError: str() of this", 2),
    ],
    ids=[
        "cancelled",
        "failed",
        "failed beside",
        "raised",
        "two raised",
        "declined",
        "exit",
        "half",
        "no text",
        "no Exception",
        "exit in a group",
        "no words",
    ],
)
async def test_however_a_handler_ends_its_attempt_ends_once_and_says_how(
    ends: Any, reason: str, detail: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is logged of it cannot be passed on by the processes of a test run either.
    monkeypatch.setattr(logging.getLogger("a2a.agent"), "disabled", True)
    agent, ran = Agent("mortal"), 0

    @agent.skill
    async def end() -> None:
        nonlocal ran
        ran += 1
        await ends()

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            with pytest.raises(TaskFailed) as failed:
                await running.client.call("end", attempts=2)
    assert (failed.value.reason, ran) == (reason, attempts)
    assert detail in failed.value.detail


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_decline_says_in_milliseconds_when_to_ask_again(
    is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, said = Agent("busy"), list[tuple[str, int]]()

    async def refuse() -> None:
        raise Declined("policy", retry_after=1.5)

    def refuse_in_a_thread() -> None:
        raise Declined("policy", retry_after=1.5)

    agent.skill(id="work")(refuse if is_async else refuse_in_a_thread)
    decline = Work.decline

    def declining(work: Work, attempt: Any, reason: Any, retry_after_ms: int) -> None:
        said.append((reason, retry_after_ms))
        decline(work, attempt, reason, retry_after_ms)

    monkeypatch.setattr(Work, "decline", declining)
    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work") as task:
            while not said:
                await anyio.lowlevel.checkpoint()
            await task.cancel()
    assert said == [("policy", 1500)]
    assert not agent.blocking, "what has raised is not at work any more"


async def test_an_attempt_that_has_lost_its_claim_says_so() -> None:
    agent = Agent("late")

    @agent.skill
    async def work() -> None:
        raise ClaimLost("somebody else has it")

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            with pytest.raises(TaskFailed, match="somebody else has it"):
                async with running.client.delegate("work", attempts=1) as task:
                    await task.result()
            error = (await running.client.get(task.id))["metadata"]["error"]
            assert (error["code"], error["retryable"]) == ("claim_lost", True)


async def test_a_task_that_was_handed_on_stays_so_whatever_else_went_wrong() -> None:
    agent = Agent("junior")

    @agent.skill
    async def solve(task: TaskContext) -> list[str]:
        if task.prior:
            return [prior.end for prior in task.prior]
        try:
            await task.hand_off()
        except HandedOff as handed:
            raise ExceptionGroup("two at once", [AttemptFailed("beside it"), handed]) from None

    with anyio.fail_after(BOUND):
        async with squad(agent, n=2) as running:
            assert await running.client.call("solve") == ["handed_off"]


async def test_a_blocking_handler_keeps_its_lease(helper: Agent) -> None:
    """Three leases long, in a plain function: the heartbeats come from the link's own thread."""
    with anyio.fail_after(BOUND):
        async with squad(helper, policy=SHORT) as running:
            async with running.client.delegate("block", {"seconds": 1.8}) as task:
                assert await task.result() == "done"
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0


async def test_a_handler_that_blocks_its_own_loop_keeps_its_lease() -> None:

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
        async with squad(policy=SHORT) as running, anyio.create_task_group() as group:
            # In a thread of its own: the coordinator of this test lives in this loop.
            group.start_soon(anyio.to_thread.run_sync, lambda: anyio.run(serve, running.settings))
            async with running.client.delegate("hog") as task:
                assert await task.result() == "done"
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0
            await anyio.to_thread.run_sync(stops[0])


async def test_draining_gives_back_what_does_not_end(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            stop, ready = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: helper.run(settings=running.settings, stop=stop, ready=ready.set, grace=0.05))
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


async def test_an_agent_has_left_for_others_before_its_connection_closes(
    helper: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            closes, loop, seen = Link.aclose, asyncio.get_running_loop(), list[str]()

            async def aclose(link: Link) -> None:
                if link.identity.agent_id == helper.name:
                    finding = asyncio.run_coroutine_threadsafe(running.client.find(agent=helper.name), loop)
                    seen.extend(agent.status for agent in await asyncio.wrap_future(finding))
                await closes(link)

            monkeypatch.setattr(Link, "aclose", aclose)
            stop = anyio.Event()
            await helper.run(settings=running.settings, stop=stop, ready=stop.set)
            assert seen[0] == "away"


async def test_all_attempts_that_end_within_the_grace_are_reported() -> None:
    agent, begun, first = Agent("leaving"), list[str](), anyio.Event()

    @agent.skill
    async def work(is_last: bool, task: TaskContext) -> list[Any]:
        begun.append(task.id)
        while not task.stopping:  # noqa: ASYNC110 - as a handler with work to do would look, between two pieces of it
            await anyio.sleep(0.01)
        if is_last:
            await first.wait()
            await anyio.sleep(0.1)  # its work, which goes on when the other has ended
        first.set()
        return [task.stopping, task._runner.link.work.is_draining]

    with anyio.fail_after(BOUND):
        async with squad() as running, anyio.create_task_group() as group:
            stop = anyio.Event()
            group.start_soon(partial(agent.run, settings=running.settings, stop=stop))
            delegate = running.client.delegate
            async with delegate("work", {"is_last": False}) as one, delegate("work", {"is_last": True}) as other:
                while len(begun) < 2:
                    await anyio.lowlevel.checkpoint()
                stop.set()
                for task in (one, other):
                    assert await task.result() == ["drain", True]


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_an_agent_that_is_told_to_stop_as_soon_as_it_has_work_ends_in_order(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its first handler may begin before the caller's loop hears that the link is open."""
    agent, stop, scope, is_told = Agent("leaving"), anyio.Event(), anyio.CancelScope(), threading.Event()
    open_link = Link.open

    async def open_late(self: Link) -> None:
        await open_link(self)
        await asyncio.to_thread(is_told.wait, BOUND)

    async def run(settings: LinkSettings) -> None:
        with scope:
            await agent.run(settings=settings, stop=stop)

    @agent.skill
    async def work(task: TaskContext) -> str:
        stop.set() if how == "stop" else scope.cancel()
        asyncio.get_running_loop().call_later(0.05, is_told.set)
        while not task.stopping:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
        return task.stopping

    with anyio.fail_after(BOUND):
        async with squad() as running, running.client.delegate("work") as task, anyio.create_task_group() as group:
            monkeypatch.setattr(Link, "open", open_late)
            group.start_soon(run, running.settings)
            assert await task.result() == "drain"
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0


async def test_a_handler_that_ends_when_it_is_to_give_its_task_back_has_done_it(gate: Any) -> None:
    agent = Agent("diligent")

    @agent.skill
    async def work(task: TaskContext) -> int:
        gate.begun.set()
        while not task.stopping:  # noqa: ASYNC110 - as a handler with work to do would look, between two pieces of it
            await anyio.sleep(0.01)
        return task.attempt

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work") as task:
            await gate.begun.wait()
            await running.client.drain("diligent", grace=5.0)
            assert await task.result() == 1


async def test_what_a_handler_says_whose_attempt_was_taken_away_is_not_reported(gate: Any) -> None:
    agent, told = Agent("late"), list[TaskContext]()

    @agent.skill
    async def work(task: TaskContext) -> str:
        gate.begun.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            told.append(task)
        return "all the same"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work") as task:
            await gate.begun.wait()
            await task.cancel(mode="skip")
            while not told or told[0]._runner._running:
                await anyio.lowlevel.checkpoint()
            runner = told[0]._runner
            await runner.on_link(asyncio.sleep(0))  # behind all that was said before
            assert not runner.link.work.attempts


async def test_an_agent_that_is_stopped_while_no_coordinator_is_there_ends(helper: Agent) -> None:
    settings, stop = LinkSettings(url="ws://127.0.0.1:1", token="t"), anyio.Event()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(partial(helper.run, settings=settings, stop=stop))
            await anyio.lowlevel.checkpoint()
            stop.set()


async def test_a_run_that_ends_ends_its_handlers(helper: Agent, gate: Any) -> None:
    ended: list[list[str]] = []

    async def first() -> None:
        with pytest.raises(ConnectError, match="another instance"):
            await helper.run(settings=running.settings)
        ended.append(list(gate.ended))

    with anyio.fail_after(BOUND):
        async with squad() as running, anyio.create_task_group() as group:
            group.start_soon(first)
            async with running.client.delegate("wait") as task:
                await gate.begun.wait()
                stop = anyio.Event()
                group.start_soon(lambda: helper.run(settings=running.settings, stop=stop))
                while not ended:
                    await anyio.lowlevel.checkpoint()
                assert ended == [[task.id]], "its handler had ended before the run did"
                await task.cancel(mode="kill")
            stop.set()


async def test_a_run_that_is_over_begins_nothing(helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Runner] = []
    events: list[Any] = []
    take = Runner._take

    def kept(runner: Runner, came: list[Any]) -> None:
        runs.append(runner)
        events.extend(came)
        take(runner, came)

    monkeypatch.setattr(Runner, "_take", kept)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("wait") as task:
                await gate.begun.wait()
                gate.open.set()
                await task.result()
        take(runs[0], [event for event in events if isinstance(event, Start)])
        assert not runs[0]._running
        assert gate.ended == [task.id], "once"


async def test_an_agent_whose_loop_was_closed_under_it_leaves_its_work_to_others(
    helper: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    ways: list[Crossing] = []

    async def elsewhere() -> None:
        ways.append(Crossing.enter())

    with anyio.fail_after(BOUND):
        async with squad(policy=SHORT) as running:
            mine = Crossing.enter()
            await asyncio.to_thread(asyncio.run, elsewhere())
            runner = Runner(helper, running.settings, "lost")
            runner._crossing = ways[0]
            link = await mine.on_link(runner._make_link())
            await mine.on_link(link.open())
            async with running.client.delegate("count_words", {"text": "a b"}) as task:
                while [agent.status for agent in await running.client.find("count_words")] != ["away"]:
                    await anyio.lowlevel.checkpoint()
                assert "lost leaves: its event loop was closed while it ran" in caplog.messages
                stop = anyio.Event()
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: helper.run(settings=running.settings, stop=stop))
                    assert await task.result() == {"words": 2}
                    stop.set()
            await ways[0].leave()
            await mine.leave()


@pytest.mark.parametrize(("reason", "grace_ms"), [("superseded", 0), ("cancel", 1_000)])
async def test_what_is_taken_away_before_it_began_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, reason: str, grace_ms: int
) -> None:
    began: list[str] = []
    taken: list[Runner] = []
    agent = Agent("late")

    @agent.skill
    async def pay(task: TaskContext) -> str:
        began.append(task.id)
        return "paid"

    take = Runner._take

    def take_with_the_word_to_stop(runner: Runner, came: list[Any]) -> None:
        stops = [Stop(event.attempt, reason, "skip", grace_ms) for event in came if isinstance(event, Start)]
        take(runner, [*came, *stops])
        taken.extend(runner for _ in stops)

    monkeypatch.setattr(Runner, "_take", take_with_the_word_to_stop)
    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("pay", attempts=1) as task:
            while not taken or taken[0]._running:
                await anyio.lowlevel.checkpoint()
            assert not began, "the handler was not called"
            await task.cancel(mode="skip")


async def test_attempts_begin_where_anyio_knows_its_loop_by_the_task_that_runs(
    helper: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it does where sniffio is installed: with trio, and with many clients of language models."""
    make = anyio.CancelScope.__new__

    def make_in_a_task(kind: type[anyio.CancelScope], **options: Any) -> anyio.CancelScope:
        if asyncio.current_task() is None:
            raise RuntimeError("no scope is made outside of a task")
        return make(kind, **options)

    monkeypatch.setattr(anyio.CancelScope, "__new__", make_in_a_task)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            assert await running.client.call("fail", {"retryable": True, "times": 1}) == "attempt 2"


async def test_being_turned_away_is_one_error_not_a_group(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            wrong = LinkSettings(url=running.url, token="wrong", secrets={})
            with pytest.raises(ConnectError, match="the token does not open"):
                await helper.run(settings=wrong)


async def test_an_agent_stopped_while_it_arrives_is_gone_at_once(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            changes = running.client.watch_agents()
            stop = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: helper.run(settings=running.settings, stop=stop))
                assert (await anext(changes)).change == "joined"
                stop.set()  # it was welcomed, and may not know yet
            while (await anext(changes)).change != "left":
                pass
            await changes.aclose()


async def test_results_that_patch_the_same_line_are_a_conflict_that_nobody_raised(helper: Agent) -> None:
    @helper.skill
    def fix(text: str) -> Patch:
        return Patch("repo", "r1", f"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+{text}\n")

    @helper.skill
    def fix_too_much() -> list[Patch]:
        return [Patch("repo", "r1", "the same"), Patch("repo", "r1", "once more")]

    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("fix", {"text": "x"}, context_id="c", acceptance="auto") as task:
                assert str(await task.result()).startswith("--- a/f")
            async with running.client.delegate("fix", {"text": "y"}, context_id="c") as task:
                event = await task.next_event()
                while event is not None and event.kind != "dispute":
                    event = await task.next_event()
                assert event is not None, "it is disputed before it ends"
                known = await running.client.conflict(event.data["conflict"])
            assert (known["kind"], known["rule"]) == ("artifact", "a1")
            with pytest.raises(TaskFailed, match="at most 16 patches"):
                await running.client.call("fix_too_much")


async def test_an_agent_that_ends_where_no_coordinator_is_calls_no_handler_failed(
    helper: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    agent, lives = Agent("lead"), []

    @agent.skill
    async def lead(task: TaskContext) -> int:
        async with task.delegate("count_words", {"text": "a b"}, key="part") as child:
            said = await child.result()
            lives.append(said)
            if len(lives) == 1:
                running.crash("lead")  # and leaving the block waits for an answer that nobody gives any more
        return len(lives)

    with anyio.fail_after(BOUND):
        async with squad(agent, helper) as running:
            assert await running.client.call("lead") == 2
    assert [record.getMessage() for record in caplog.records if "failed" in record.getMessage()] == []


async def test_an_agent_that_is_cancelled_twice_does_not_wait_for_a_coordinator_that_is_away(helper: Agent) -> None:
    agent, leaving = Agent("lead"), anyio.Event()

    @agent.skill
    async def lead(task: TaskContext) -> None:
        async with task.delegate("count_words", {"text": "a b"}, key="part") as child:
            await child.result()
            life.suffer("crash")  # leaving the block waits for an answer, and nobody connects again
            leaving.set()

    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            settings, life = Mischief(Faults()).for_life(running.settings, "lead")
            serving = asyncio.create_task(agent.run(settings=settings))
            async with running.client.delegate("lead") as task:
                await leaving.wait()
                for _ in range(2):  # the first has it wait for its handlers
                    serving.cancel()
                    await anyio.wait_all_tasks_blocked()
                await asyncio.wait([serving])
                await task.cancel(mode="skip")
