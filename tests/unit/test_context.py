"""What a handler may do with its task."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, LeaseLapsed, Policy, SyncTaskContext, TaskCanceled, TaskContext, TaskFailed
from a2a.content import read_word
from a2a.engine.work import Attempt, AttemptState
from a2a.errors import Conflict, ConnectionLost, NoCapableAgent, TooLarge
from a2a.protocol.messages import ContextValue, Steer, TaskAsk, TaskCheckpoint, TaskHandoff, TaskOffer
from a2a.runner import Runner
from a2a.testing import squad
from a2a.testing.squad import QUICK

BOUND = 20


async def test_what_a_handler_is_told_and_has_seen_is_noted_once_and_never_goes_back() -> None:
    said: list[Any] = []
    link = SimpleNamespace(clock=SimpleNamespace(now=lambda: 0))
    runner: Any = SimpleNamespace(link=link, in_link=lambda call, *given: said.append(given))
    words = [Steer(1, b'[{"text":"one"}]')]
    offer = TaskOffer("t-1", 1, 1, True, 1, 1, 1, {"skill": "x"}, b"[]", "k", "c", "d", steers=words)
    attempt = Attempt(offer, AttemptState.RUNNING, 0, 0)
    task = TaskContext(runner, attempt)
    for number, word in ((1, b'[{"text":"one"}]'), (2, b'[{"text":"two"}]'), (3, b'[{"text":"three"}]')):
        task._was_steered(number, word)
    with anyio.fail_after(BOUND):
        assert [(await task.steer(), attempt.steer_no) for _ in range(2)] == [("one", 1), ("two", 2)]
    assert (task.steers(), attempt.steer_no) == (["one", "two", "three"], 3)
    for fraction in (7, -1):
        await task.progress(fraction)
    assert [bp for bp, _ in said] == [10_000, 0]
    for rev, decision in ((2, True), (1, False)):
        task._has_seen(ContextValue("a", rev, decision=decision))
    assert attempt.basis == {"a": (2, True)}


async def test_what_a_handler_left_waiting_for_a_word_or_an_answer_is_told_when_it_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gc.collect()  # what other tests have left is not meant
    caplog.clear()
    agent = Agent("careless")
    left: list[asyncio.Task[Any]] = []
    ended: list[TaskContext] = []

    @agent.skill
    async def leave(task: TaskContext) -> None:
        left.extend((asyncio.create_task(task.steer()), asyncio.create_task(task.ask("May I?"))))
        async for event in task.watch(task.id):
            if event.kind == "ask":
                break
        with anyio.move_on_after(0):
            await task.ask("And I?")
        ended.append(task)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            await running.client.call("leave")
            for waiting in (*left, ended[0].steer()):
                with pytest.raises(LeaseLapsed, match="has ended"):
                    await waiting
            del waiting
    left.clear()
    ended.clear()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_what_a_handler_left_behind_begins_nothing_once_it_has_ended() -> None:
    agent = Agent("careless")
    left: list[asyncio.Task[Any]] = []

    async def effect(task: TaskContext) -> None:
        task.check()

    async def enter(task: TaskContext) -> None:
        async with task.claim("files/a"):
            pass

    @agent.skill
    async def leave(task: TaskContext) -> None:
        # They begin in the next turn, before the link hears that the handler has ended.
        left.extend(asyncio.create_task(late) for late in (task.call("leave"), effect(task), enter(task)))

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            await running.client.call("leave")
            for begun in left:
                with pytest.raises(LeaseLapsed, match="has ended"):
                    await begun


async def test_what_is_asked_of_a_task_whose_agent_has_ended_is_refused() -> None:
    agent = Agent("passing")
    ended: list[TaskContext] = []

    @agent.skill
    async def leave(task: TaskContext) -> None:
        ended.append(task)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            await running.client.call("leave")
        [task] = ended
        for late in (task.checkpoint(1), task.find(), anext(task.watch(task.id)), task.context.get("plan")):
            with pytest.raises(ConnectionLost, match="the agent has ended"):
                await late
        with pytest.raises(LeaseLapsed, match="has ended"):
            await task.artifact("log", "late")


async def test_what_is_left_of_a_deadline_is_never_less_than_nothing() -> None:
    now = [1_000]
    runner: Any = SimpleNamespace(link=SimpleNamespace(clock=SimpleNamespace(now=lambda: now[0])))
    offer = TaskOffer("t-1", 1, 1, True, 1, 1, 1, {"skill": "x"}, b"[]", "k", "c", "d", deadline_ms=2_000)
    task = TaskContext(runner, Attempt(offer, AttemptState.RUNNING, 0, 0))
    assert task.deadline == 2.0
    now[0] = 2_500
    assert task.deadline == 0.5
    now[0] = 9_000
    assert task.deadline == 0.0


async def test_what_a_handler_says_leaves_with_all_that_it_was_given() -> None:
    agent = Agent("speaker")
    said: dict[type[Any], Any] = {}

    @agent.skill
    async def speak(task: TaskContext) -> Any:
        session = task._runner.link.session
        request = session.request

        def noting(message: Any, **options: Any) -> str:
            said[type(message)] = message
            return request(message, **options)

        session.request = noting  # type: ignore[method-assign]
        await task.checkpoint({"n": 1}, format="mine/1", portable=False)
        with pytest.raises(NoCapableAgent):
            await task.hand_off("senior", tags=["text"], labels={"room": "blue"}, message="too hard")
        return await task.ask("sure?", options=["yes", "no"], schema={"type": "string"}, default="no", timeout=0.2)

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy()) as running:
            assert await running.client.call("speak") == "no"
    checkpoint, handed_on, ask = said[TaskCheckpoint], said[TaskHandoff], said[TaskAsk]
    assert (checkpoint.format, checkpoint.portable) == ("mine/1", False)
    assert (handed_on.to, handed_on.requires) == ("senior", {"tags": ["text"], "labels": {"room": "blue"}})
    assert read_word(handed_on.payload) == "too hard"
    assert ask.timeout_ms == 200
    assert read_word(ask.payload) == {"question": "sure?", "options": ["yes", "no"], "schema": {"type": "string"}}


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
        async with squad(agent, policy=Policy()) as running:  # a busy machine is no lost attempt
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


@pytest.mark.parametrize(("note", "told"), [("x" * 3_000, "x" * 2_000), (7, "7"), ("half \ud800", "half \\ud800")])
async def test_progress_is_told_whatever_is_said_of_it(gate: Any, note: Any, told: str) -> None:
    agent = Agent("teller")

    @agent.skill
    async def work(task: TaskContext) -> None:
        await task.progress(0.5, note)
        await gate.open.wait()

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work") as task:
            async for event in running.client.watch(task.id):
                if event.kind == "progress" and event.note:
                    assert (event.progress, event.note) == (0.5, told)
                    break
            gate.open.set()


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


async def test_a_question_that_comes_too_late_is_refused_and_not_asked_under_every_number(gate: Any) -> None:
    agent, refused = Agent("late"), asyncio.get_running_loop().create_future()

    @agent.skill
    async def act(task: TaskContext) -> None:
        gate.begun.set()
        try:
            await gate.open.wait()
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                try:
                    await task.ask("really?")
                except Conflict as conflict:
                    refused.set_result(conflict)
            raise

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("act") as task:
            await gate.begun.wait()
            await task.cancel()
            assert "is canceling: it asks nothing any more" in str(await refused)
            with pytest.raises(TaskCanceled):
                await task.result()
            [told] = (await running.client.get(task.id))["metadata"]["refused"]
            assert (told["kind"], told["times"]) == ("task.ask", 1)


async def test_a_question_whose_number_an_earlier_attempt_took_for_another_gets_the_next() -> None:
    agent = Agent("other")

    @agent.skill
    async def decide(task: TaskContext) -> Any:
        if task.attempt == 1:
            given_up = asyncio.ensure_future(task.ask("left open?"))
            await task.checkpoint("asked")  # behind the question
            given_up.cancel()
            raise AttemptFailed("again", retryable=True)
        return await task.ask("what now?")

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("decide") as task:
            while (asked := await task.question())[1] != {"question": "what now?"}:
                await task.answer(asked[0], "late")
            assert asked[0] == 2
            await task.answer(2, "go")
            assert await task.result() == "go"


async def test_a_question_that_was_given_up_is_asked_again_under_its_number() -> None:
    agent, was_asked = Agent("asker"), asyncio.Event()
    tries = 8

    @agent.skill
    async def ask(task: TaskContext) -> list[Any]:
        answers = []
        for number in range(tries):
            given_up = asyncio.ensure_future(task.ask(f"question {number}"))
            for _ in range(number):
                await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
            answers.append(await task.ask(f"question {number}"))
        given_up = asyncio.ensure_future(task.ask("the last"))
        await was_asked.wait()
        given_up.cancel()
        await asyncio.wait([given_up])
        return [*answers, await task.ask("the last"), await task.ask("the last")]

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy()) as running, running.client.delegate("ask") as task:
            for number in range(1, tries + 3):
                assert (await task.question())[0] == number
                if number == tries + 1:
                    was_asked.set()
                await task.answer(number, number)
            assert await task.result() == list(range(1, tries + 3))


async def test_the_next_attempt_goes_on_from_the_checkpoint_and_knows_what_was_before() -> None:
    agent = Agent("counter")
    seen: list[tuple[int, Any, list[tuple[str, str]]]] = []

    @agent.skill
    async def count(task: TaskContext) -> int:
        seen.append((task.attempt, task.restored, [(prior.end, prior.detail) for prior in task.prior]))
        reached = task.restored or 0
        await task.checkpoint(reached + 1)
        await task.checkpoint(reached + 2)
        task.use(tokens=5)
        if task.attempt < 3:
            raise AttemptFailed("not yet", retryable=True)
        return int(reached)

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy(durations=QUICK, backoff_ms=1)) as running:
            async with running.client.delegate("count", budget={"tokens": 100}) as task:
                assert await task.result() == 4
            metadata = (await running.client.get(task.id))["metadata"]
    failed = ("failed", "error: not yet")
    assert seen == [(1, None, []), (2, 2, [failed]), (3, 4, [failed, failed])]
    assert metadata["usage"] == {"tokens": 15}, "the attempts that failed are charged"


async def test_a_checkpoint_goes_on_from_the_newest_that_counts() -> None:
    """Behind one that was refused, several at once, and one that its caller has given up."""
    agent = Agent("counter")
    restored: list[Any] = []

    @agent.skill
    async def count(task: TaskContext) -> str:
        if task.attempt > 1:
            restored.append(task.restored)
            return "done"
        with pytest.raises(TooLarge):
            await task.checkpoint("x" * 300_000)
        await task.checkpoint("small")
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(task.checkpoint, number)
        for turns in range(6):
            given_up = asyncio.ensure_future(task.checkpoint(f"given up after {turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            given_up.cancel()
            await task.checkpoint(f"behind {turns}")
        raise AttemptFailed("again", retryable=True)

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy(durations=QUICK, backoff_ms=1)) as running:
            async with running.client.delegate("count") as task:
                assert await task.result() == "done"
    assert restored == ["behind 5"]


async def test_a_task_is_handed_on_under_its_id_with_a_message() -> None:
    first, second = Agent("junior"), Agent("senior", labels={"grade": "senior"})

    known = anyio.Event()

    @first.skill(id="solve")
    async def pass_on(task: TaskContext, patient: bool) -> str:
        await task.checkpoint({"tried": ["a"]})
        if patient:
            await known.wait()
        await task.hand_off("senior", message="too hard")
        raise AssertionError("a hand-off ends the handler")

    @second.skill(id="solve")
    async def solve(task: TaskContext, patient: bool) -> list[Any]:
        return [task.restored, task.prior[0].end, task.prior[0].agent, task.prior[0].message]

    with anyio.fail_after(BOUND):
        async with squad(first) as running, anyio.create_task_group() as group:
            stop, ready = anyio.Event(), anyio.Event()
            async with running.client.delegate("solve", {"patient": False}, attempts=1) as stuck:
                with pytest.raises(TaskFailed, match="no other agent known"):
                    await stuck.result()
            async with running.client.delegate("solve", {"patient": True}) as task:
                group.start_soon(partial(second.run, settings=running.settings, stop=stop, ready=ready.set))
                await ready.wait()
                known.set()
                assert await task.result() == [{"tried": ["a"]}, "handed_off", "junior", "too hard"]
            stop.set()


async def test_an_attempt_goes_on_whose_hand_off_was_refused_or_given_up() -> None:
    agent = Agent("alone")

    @agent.skill
    async def work(task: TaskContext, turns: int) -> str:
        if turns < 0:
            with pytest.raises(TooLarge):
                await task.hand_off(message="x" * 5_000_000)
            return "done"
        given_up = asyncio.ensure_future(task.hand_off())
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy()) as running:
            for turns in range(-1, 6):
                async with running.client.delegate("work", {"turns": turns}) as task:
                    assert await task.result() == "done", turns


async def test_what_was_used_is_told_before_a_hand_off() -> None:
    first, second = Agent("junior"), Agent("senior")

    @first.skill(id="solve")
    async def pass_on(task: TaskContext) -> None:
        task.use(tokens=1_000)
        await task.hand_off("senior")

    @second.skill(id="solve")
    async def solve(task: TaskContext) -> list[Any]:
        if not task.prior:
            await task.hand_off("junior")
        return [task.prior[-1].usage, task.budget]

    with anyio.fail_after(BOUND):
        async with squad(first) as running, anyio.create_task_group() as group:
            stop, ready = anyio.Event(), anyio.Event()
            group.start_soon(partial(second.run, settings=running.settings, stop=stop, ready=ready.set))
            await ready.wait()
            for number in range(10):  # they run in two threads, so once might have been luck
                async with running.client.delegate("solve", key=str(number), budget={"tokens": 1_500}) as task:
                    assert await task.result() == [{"tokens": 1_000}, {"tokens": 500}]
            stop.set()


@pytest.mark.parametrize("used", [{"tokens": -1}, {"cost_micro": 12.5}, {"steps": "2"}, {"tokens": 2**53}])
async def test_usage_that_no_coordinator_counts_is_refused_where_it_is_told(used: dict[str, Any]) -> None:
    agent = Agent("spender")

    @agent.skill
    async def spend(task: TaskContext) -> str:
        with pytest.raises(ValueError, match="expected usage as whole numbers from 0"):
            task.use(**used)
        return "went on"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("spend") == "went on"


async def test_a_word_of_the_delegator_reaches_the_handler(gate: Any) -> None:
    agent = Agent("listener")

    @agent.skill
    async def listen(task: TaskContext) -> list[Any]:
        gate.begun.set()
        return [await task.steer(), await task.steer(), task.steers()]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("listen", acceptance="auto") as task:
                await gate.begun.wait()
                await task.steer("left", key="1")
                await task.steer("left", key="1")
                await task.steer({"then": "right"})
                assert await task.result() == ["left", {"then": "right"}, ["left", {"then": "right"}]]


async def test_a_result_written_before_the_last_word_waits_to_be_confirmed(gate: Any) -> None:
    agent = Agent("deaf")

    @agent.skill
    async def work(task: TaskContext) -> str:
        gate.begun.set()
        await gate.open.wait()
        return "as told at first"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("work", acceptance="auto") as task:
                await gate.begun.wait()
                await task.steer("otherwise")
                gate.open.set()
                assert await task.result() == "as told at first"
                assert (await running.client.get(task.id))["metadata"]["state"] == "reported"
            shown = await running.client.get(task.id)
    assert (shown["metadata"]["state"], shown["metadata"]["confirmedBy"]) == ("completed", running.client.agent_id)


async def test_an_interrupted_attempt_gives_way_to_one_that_knows_the_word(gate: Any) -> None:
    agent = Agent("worker")

    @agent.skill
    async def work(task: TaskContext) -> Any:
        if not task.steers():
            gate.begun.set()
            await anyio.sleep_forever()
        return [task.attempt, task.steers(), task.prior[0].end]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("work") as task:
                await gate.begun.wait()
                await task.steer("stop that", interrupt=True)
                assert await task.result() == [2, ["stop that"], "yielded"]


async def test_an_attempt_that_stands_still_is_taken_away_though_it_beats(gate: Any) -> None:
    agent = Agent("sleeper")

    @agent.skill
    async def work(task: TaskContext) -> Any:
        if task.attempt == 1:
            await anyio.sleep_forever()
        return [task.prior[0].end, task.prior[0].detail]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("work", timers={"stall": 0.2}) as task:
                assert await task.result() == ["yielded", "stall"]
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 1


async def test_an_agent_that_waits_for_its_own_sub_task_has_a_slot_for_it() -> None:
    agent = Agent("recursive", concurrency=1)

    @agent.skill
    async def descend(levels: int, task: TaskContext) -> int:
        return 0 if levels == 0 else 1 + int(await task.call("descend", {"levels": levels - 1}, key="below"))

    @agent.skill
    def descend_blocking(levels: int, task: SyncTaskContext) -> int:
        return 0 if levels == 0 else 1 + int(task.call("descend_blocking", {"levels": levels - 1}, key="below"))

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("descend", {"levels": 3}) == 3
            assert await running.client.call("descend_blocking", {"levels": 3}) == 3


async def test_an_attempt_with_an_event_of_its_sub_task_is_at_work(helper: Agent) -> None:
    """Spec FLOW-5: an attempt that only waits frees its slot."""
    waits: list[int] = []

    @helper.skill
    async def follow(task: TaskContext) -> None:
        async with task.delegate("count_words", {"text": "a b"}) as child:
            async for _ in child.events():
                await task.find()  # the link has heard all that came before
                waits.append(task._attempt.waits)

    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await running.client.call("follow")
    assert set(waits) == {0}


async def test_an_effect_has_the_same_key_in_every_attempt_and_another_in_every_revision() -> None:
    agent = Agent("payer")
    keys: list[tuple[int, str, str]] = []

    @agent.skill
    async def pay(task: TaskContext) -> None:
        keys.append((task.rev, task.effect_key("charge"), task.effect_key("mail")))
        if len(keys) == 1:
            raise AttemptFailed("after the charge", retryable=True)

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy(durations=QUICK, backoff_ms=1)) as running:
            async with running.client.delegate("pay") as task:
                await task.result()
                await task.reject("again")
                await task.result()
    (first, second, third) = keys
    assert first == second
    assert third[0] == 1
    assert len({*first[1:], *third[1:]}) == 4


async def test_another_coordinator_has_other_effect_keys_for_a_task_of_the_same_id() -> None:
    agent = Agent("payer")

    @agent.skill
    async def pay(task: TaskContext) -> list[str]:
        return [task.id, task.effect_key("charge")]

    with anyio.fail_after(BOUND):
        found = []
        for _ in range(2):
            async with squad(agent) as running:
                found.append(await running.client.call("pay"))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


async def test_what_was_streamed_to_its_end_is_part_of_the_result(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("stream") as task:
                await task.result()
                (log,) = (await running.client.get(task.id))["metadata"]["provisional"]
                assert (log["chunks"], log["committed"]) == (["one", "two"], False)
            (log,) = (await running.client.get(task.id))["metadata"]["provisional"]
            assert (log["complete"], log["committed"]) == (True, True)


async def test_a_budget_that_is_used_up_ends_the_attempt_and_the_task() -> None:
    agent = Agent("spender")

    @agent.skill
    async def spend(task: TaskContext) -> None:
        task.use(tokens=10)
        await anyio.sleep_forever()

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("spend", budget={"tokens": 10}) as task:
                with pytest.raises(TaskFailed, match="budget"):
                    await task.result()


async def test_an_agent_that_is_drained_with_a_grace_may_end_or_leave_a_checkpoint(gate: Any) -> None:
    leaving, staying = Agent("leaving"), Agent("staying")

    @leaving.skill(id="work")
    async def leave(task: TaskContext) -> None:
        gate.begun.set()
        while not task.stopping:  # noqa: ASYNC110 - as a handler with work to do would look, between two pieces of it
            await anyio.sleep(0.01)
        await task.checkpoint(task.stopping)
        await anyio.sleep_forever()

    @staying.skill(id="work")
    async def stay(task: TaskContext) -> Any:
        return task.restored

    with anyio.fail_after(BOUND):
        async with squad(leaving) as running, anyio.create_task_group() as group:
            async with running.client.delegate("work") as task:
                await gate.begun.wait()
                stop, ready = anyio.Event(), anyio.Event()
                group.start_soon(partial(staying.run, settings=running.settings, stop=stop, ready=ready.set))
                await ready.wait()
                await running.client.drain("leaving", grace=0.5)
                assert await task.result() == "drain"
                stop.set()
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0


@pytest.mark.parametrize("what", ["sub-task", "claim"])
async def test_who_is_cancelled_before_it_hears_that_it_has_entered_leaves_nothing_behind(
    helper: Agent, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    agent = Agent("hasty")

    @agent.skill
    async def hurry(task: TaskContext) -> list[int]:
        runner = task._runner
        block = task.delegate("wait") if what == "sub-task" else task.claim("repo/a")

        async def cancelled_late(work: Coroutine[Any, Any, Any]) -> None:
            await Runner.on_link(runner, work)
            raise asyncio.CancelledError

        with monkeypatch.context() as late, pytest.raises(asyncio.CancelledError):
            late.setattr(runner, "on_link", cancelled_late)
            await block.__aenter__()
        await task.get(task.id)  # behind whatever was undone
        async with task.claim("repo/a"):
            return [len(runner._handles), len(runner._claims)]

    with anyio.fail_after(BOUND):
        async with squad(agent, helper) as running:
            assert await running.client.call("hurry") == [0, 1]


async def test_a_watch_that_is_cancelled_as_it_begins_ends_with_nothing_but_that() -> None:
    agent = Agent("hasty")

    @agent.skill
    async def look(task: TaskContext) -> int:
        goes_on = threading.Event()
        task._runner.in_link(goes_on.wait, BOUND)  # the links' loop has not begun with it when it is given up
        looking = asyncio.ensure_future(anext(task.watch(task.id)))
        await asyncio.sleep(0)
        looking.cancel()
        try:
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await looking
        await task.get(task.id)
        return len(task._runner._handles)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("look", attempts=1) == 0
