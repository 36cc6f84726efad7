"""A squad's time is put ahead: what falls due happens in its order, and who is alive stays so."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from a2a import Agent, AttemptFailed, ClaimLost, Denied, SyncTaskContext, TaskContext, TaskFailed, connect
from a2a.clock import REAL_TIME
from a2a.engine.policy import Policy
from a2a.engine.records import Evicted, GroupDecided, Offered, Record, Reported, Settled, Yielded, from_bytes
from a2a.errors import Gone, LocalProtocolError, StoreError
from a2a.testing import QUICK, Faults, Squad, squad
from a2a.testing import clock as module
from a2a.testing.clock import Course, SquadClock

BOUND = 30
HOUR = 3600
DAY = 24 * HOUR


def recorded(running: Squad, *kinds: type[Record]) -> list[Any]:
    records = (from_bytes(entry.body, entry.payload) for entry in running.server.store.read(0))
    return [record for record in records if isinstance(record, kinds)]


async def state_of(running: Squad, task: str) -> str:
    return str((await running.client.get(task))["metadata"]["state"])


async def test_a_deadline_comes_when_it_is_due_and_the_lease_runs_on_until_then() -> None:
    agent, left, ended, news = Agent("slow"), [0.0], [], anyio.Event()

    @agent.skill
    async def work(task: TaskContext) -> None:
        try:
            while True:
                task.check()
                left[0] = task.deadline or 0.0
                news.set()
                await anyio.sleep(0.001)
        finally:
            ended.append(task.attempt)

    async def looked() -> float:
        nonlocal news
        for _ in range(2):  # the first look may have been before
            news = anyio.Event()
            await news.wait()
        return left[0]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work", deadline=HOUR) as task:
            assert HOUR - 5 < await looked() <= HOUR
            await running.advance(timedelta(minutes=30))
            before = await looked()
            assert HOUR / 2 - 5 < before <= HOUR / 2
            await running.advance(before - 1)
            assert 0 < await looked() <= 1.1
            assert await state_of(running, task.id) == "leased"
            await running.advance(2)
            assert ended == [1], "its handler was told"
            with pytest.raises(TaskFailed, match="deadline"):
                await task.result()
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == 0


async def test_what_is_left_of_a_time_passes_in_real_time() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.client.delegate("nobody", timers={"queue": HOUR}) as task:
            await running.advance(HOUR - 0.1)
            assert await state_of(running, task.id) == "queued"
            with pytest.raises(TaskFailed, match="no agent took nobody"):
                await task.result()


@pytest.mark.parametrize("is_plain", [False, True])
async def test_a_question_takes_its_default_after_a_day_and_silence_then_accepts(is_plain: bool) -> None:
    agent = Agent("asker")
    if is_plain:

        @agent.skill
        def ask(task: SyncTaskContext) -> str:
            answer = str(task.ask("sure?", default="no", timeout=DAY))
            time.sleep(0.05)  # it computes, which takes none of the squad's time
            return answer
    else:

        @agent.skill(id="ask")
        async def ask_and_wait(task: TaskContext) -> str:
            return str(await task.ask("sure?", default="no", timeout=DAY))

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("ask") as task:
            await task.question()
            await running.advance(DAY - 1)
            assert await state_of(running, task.id) == "parked"
            await running.advance(1 + QUICK.confirm_ms / 1000)
            assert await state_of(running, task.id) == "completed"
            (reported,), (settled,) = recorded(running, Reported), recorded(running, Settled)
            assert settled.at - reported.at == QUICK.confirm_ms
            assert await task.result() == "no"


@pytest.mark.parametrize("is_plain", [False, True])
async def test_what_follows_from_what_fell_due_happens_then_and_not_at_the_end(is_plain: bool) -> None:
    lead, hand = Agent("lead"), Agent("hand")
    if is_plain:

        @lead.skill
        def whole(task: SyncTaskContext) -> str:
            with task.delegate("part") as child:
                for _ in task.watch(child.id):
                    pass
            return "whole"

        @hand.skill
        def part() -> str:
            return "part"
    else:

        @lead.skill(id="whole")
        async def wait_for_whole(task: TaskContext) -> str:
            async with task.delegate("part") as child:
                async for _ in task.watch(child.id):
                    pass
            return "whole"

        @hand.skill(id="part")
        async def make_part() -> str:
            return "part"

    policy = Policy(durations=replace(QUICK, confirm_ms=600_000))
    with anyio.fail_after(BOUND):
        async with squad(lead, hand, policy=policy) as running, running.client.delegate("whole") as task:
            await running.advance(20 * 60)
            assert await state_of(running, task.id) == "completed"
            (part_reported, whole_reported), (part_ended, whole_ended) = (
                recorded(running, kind) for kind in (Reported, Settled)
            )
    assert part_ended.at - part_reported.at == 600_000
    assert whole_reported.at == part_ended.at, "the time stands while the handler goes on"
    assert whole_ended.at - whole_reported.at == 600_000


async def test_pauses_after_failures_are_over_each_at_its_time() -> None:
    agent = Agent("trying")

    @agent.skill
    async def work(task: TaskContext) -> int:
        if task.attempt < 4:
            raise AttemptFailed("not yet", retryable=True)
        return task.attempt

    policy = Policy(durations=QUICK, backoff_ms=600_000, backoff_max_ms=600_000)
    with anyio.fail_after(BOUND):
        async with squad(agent, policy=policy) as running:
            async with running.client.delegate("work", attempts=5) as task:
                await running.advance(HOUR)
                assert await task.result() == 4
            times = [offered.at for offered in recorded(running, Offered)]
    assert len(times) == 4
    assert sorted(times) == times != [times[0]] * 4


async def test_work_under_faults_comes_to_its_end() -> None:
    agent = Agent("trying")

    @agent.skill
    async def work(task: TaskContext) -> str:
        await task.checkpoint((task.restored or 0) + 1)
        if (task.restored or 0) < 3:
            raise AttemptFailed("not yet", retryable=True)
        return "done"

    faults = Faults(seed=7, drop=0.04, crash=0.04, delay=0.001)
    policy = Policy(durations=QUICK, backoff_ms=60_000)
    with anyio.fail_after(BOUND):
        async with squad(agent, n=2, faults=faults, policy=policy) as running:
            async with running.client.delegate("work", key="k", attempts=50, losses=50) as task:
                await running.advance(DAY)
                assert await task.result() == "done"


async def test_a_claim_is_kept_and_a_wait_for_it_is_over_in_time() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other, running.client.claim("repo/a") as claim:

            async def wait() -> None:
                async with other.claim("repo/a", wait=600):
                    pass

            waiting = asyncio.create_task(wait())
            await running.advance(599)
            assert not waiting.done()
            await running.advance(1)
            with pytest.raises(Denied, match="time to wait is over"):
                await waiting
            await running.advance(30 * DAY)
            claim.check()
            assert [held["agent"] for held in await other.claims("repo/a")] == [running.client.agent_id]


async def test_a_claim_has_to_be_given_back_when_its_grace_is_over() -> None:
    policy = Policy(durations=QUICK, claim_grace_ms=60_000)
    with anyio.fail_after(BOUND):
        async with (
            squad(policy=policy) as running,
            running.connect("other") as other,
            running.client.claim("a", preemptible=True) as low,
        ):
            high = other.claim("a", wait=HOUR, priority=1)
            entering = asyncio.create_task(high.__aenter__())
            await running.advance(59)
            low.check()
            assert (low.stopping != "", entering.done()) == (True, False)
            await running.advance(2)  # when it is over it is to be renewed once more, which tells another reason
            with pytest.raises(ClaimLost, match="priority 1"):
                low.check()
            await entering
            await high.__aexit__(None, None, None)


async def test_a_handler_has_half_of_its_grace_before_it_is_ended() -> None:
    agent, stopping = Agent("long"), []

    @agent.skill
    async def work(task: TaskContext) -> str:
        if task.attempt == 1:
            try:
                await anyio.sleep_forever()
            finally:
                stopping.append(task.stopping)
        return "the second"

    timers = {"attempt": 60, "cancel": 20}
    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work", timers=timers) as task:
            await running.advance(60 + 20)
            assert await task.result() == "the second"
            (evicted,), (yielded,) = recorded(running, Evicted), recorded(running, Yielded)
            assert (stopping, yielded.at - evicted.at) == (["attempt"], 10_000)


async def test_what_an_attempt_got_on_before_counts_before() -> None:
    agent, steps = Agent("moving"), asyncio.Queue[float]()

    @agent.skill
    async def work(task: TaskContext) -> str:
        while (step := await steps.get()) < 1:
            await task.progress(step)
        return f"attempt {task.attempt}"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work", timers={"stall": 60}) as task:
            for step in (0.2, 0.5, 0.9):
                await running.advance(50)
                steps.put_nowait(step)
            await running.advance(50)
            steps.put_nowait(1)
            assert await task.result() == "attempt 1"


async def test_a_conflict_goes_on_when_the_time_of_a_rung_is_over() -> None:
    policy = Policy(
        durations=QUICK, ladders={"context": ({"strategy": "human", "timeoutMs": 60_000}, {"strategy": "abort"})}
    )
    with anyio.fail_after(BOUND):
        async with squad(policy=policy) as running:
            await running.client.context("plans").put("db", "postgres")
            about = {"context": "plans", "key": "db"}
            conflict = await running.client.raise_conflict("context", about, {"value": "sqlite"})
            await running.advance(59)
            assert "resolution" not in await running.client.conflict(conflict)
            await running.advance(120)
            assert (await running.client.conflict(conflict))["resolution"]["by"] == "abort"


async def test_answers_are_compared_before_the_time_goes_on() -> None:
    one, two = Agent("one"), Agent("two")

    @one.skill(id="say")
    async def say_one() -> float:
        return 1.0

    @two.skill(id="say")
    async def say_two() -> float:
        return 1.001

    with anyio.fail_after(BOUND):
        async with squad(one, two) as running:
            async with running.client.delegate("say", copies=2, comparator="numeric(0.01)") as task:
                await running.advance(HOUR)
                assert await task.result() in (1.0, 1.001)
            *_, last = recorded(running, Reported)
            (decided,) = recorded(running, GroupDecided)
    assert decided.at == last.at, "a comparison takes none of the squad's time"


async def test_what_was_kept_long_enough_is_gone(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper, policy=Policy(durations=QUICK, keep_ms=DAY * 1000)) as running:
            async with running.client.delegate("draft") as task:
                await task.result()
            await running.advance(DAY - 1)
            assert await state_of(running, task.id) == "completed"
            await running.advance(timedelta(minutes=11))
            with pytest.raises(Gone):
                await running.client.get(task.id)


@pytest.mark.parametrize("kind", ["crash", "drop"])
async def test_who_was_just_lost_is_waited_for(kind: str) -> None:
    agent, at_work, go_on = Agent("worker"), anyio.Event(), anyio.Event()

    @agent.skill
    async def work(task: TaskContext) -> int:
        at_work.set()
        await go_on.wait()
        task.check()
        return task.attempt

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work") as task:
            await at_work.wait()
            getattr(running, kind)("worker")
            await running.advance(HOUR)
            go_on.set()
            assert await task.result() == (2 if kind == "crash" else 1)
            assert (await running.client.get(task.id))["metadata"]["counters"]["losses"] == (kind == "crash")


async def test_who_is_lost_on_the_way_is_back_before_more_time_has_gone_by(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, tries = Agent("trying"), []

    @agent.skill
    async def work(task: TaskContext) -> int:
        tries.append(task.attempt)
        if task.attempt == 1:
            raise AttemptFailed("not yet", retryable=True)
        return task.attempt

    settle, has_crashed = Course._settle, False

    async def crash_then(course: Course) -> None:
        nonlocal has_crashed
        await settle(course)
        if tries and not has_crashed:
            has_crashed = True
            running.crash("trying")
            while "trying" in running.server.coordinator.live.agents:
                await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(Course, "_settle", crash_then)
    policy = Policy(durations=QUICK, backoff_ms=600_000)
    with anyio.fail_after(BOUND):
        async with squad(agent, policy=policy) as running:
            async with running.client.delegate("work") as task:
                await running.advance(HOUR)
                assert await task.result() == 2
            first, second = recorded(running, Offered)
    assert has_crashed
    assert second.at - first.at < 601_000


async def test_a_plain_function_that_waits_for_something_else_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[tuple[str, int], Future[Any] | None] = {}
    monkeypatch.setattr(module, "waits", lambda _: dict(found))
    moves = []
    with anyio.fail_after(BOUND):
        async with squad() as running:
            course = running._course
            for wait in (first := Future[Any](), first, Future[Any](), None, None):
                found["main-1", 2] = wait
                assert course._is_at_work() is (wait is None)
                moves.append(course._moves)
    assert moves == [1, 1, 2, 3, 3]


async def test_further_agents_go_by_the_same_time() -> None:
    agent, stop, ready, deadlines = Agent("further"), anyio.Event(), anyio.Event(), []

    @agent.skill
    async def work(task: TaskContext) -> str:
        answer = await task.ask("sure?", default="no", timeout=HOUR)
        deadlines.append(task.deadline)
        return str(answer)

    with anyio.fail_after(BOUND):
        async with squad() as running, anyio.create_task_group() as group:
            group.start_soon(partial(agent.run, settings=running.settings, stop=stop, ready=ready.set))
            await ready.wait()
            async with running.client.delegate("work", deadline=2 * HOUR) as task:
                await task.question()
                assert "further" in {line.who for line in running._course._mischief.lines}, "it is waited for"
                await running.advance(HOUR)
                assert await task.result() == "no"
            stop.set()
    assert HOUR - 5 < deadlines[0] <= HOUR


async def test_the_lease_of_an_agent_that_is_gone_for_good_lapses_in_its_time(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.client.delegate("wait", timers={"offer": HOUR, "lease": HOUR}) as task:
            serving = asyncio.create_task(helper.run(settings=running.settings))
            await gate.begun.wait()
            clock = running.settings.clock
            assert isinstance(clock, SquadClock)
            (link,) = (link for link in clock.links if link.identity.agent_id == "helper")
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(link.aclose(), link._loop))
            serving.cancel()
            await asyncio.wait([serving])
            assert (await running.client.get(task.id))["metadata"]["state"] == "leased"
            await running.advance(HOUR - 5)
            assert (await running.client.get(task.id))["metadata"]["state"] == "leased"
            await running.advance(5)
            assert (await running.client.get(task.id))["metadata"]["state"] == "queued"


async def test_a_plain_function_that_waits_for_the_test_holds_up_the_time_but_shortly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TALK_MAX", 2.0 * BOUND)
    agent, began, go_on = Agent("blocked"), threading.Event(), threading.Event()

    @agent.skill
    def work(task: SyncTaskContext) -> float:
        began.set()
        go_on.wait(BOUND)
        return task.deadline or 0.0

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work", deadline=2 * HOUR) as task:
            await anyio.to_thread.run_sync(began.wait)
            await running.advance(HOUR)
            go_on.set()
            assert HOUR - 5 < await task.result() <= HOUR


async def test_an_advance_that_is_given_up_leaves_leases_and_claims_as_long_as_they_are(
    helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_ahead, steps = SquadClock.put_ahead, []

    def give_up(clock: SquadClock, to: int) -> bool:
        steps.append(to)
        if len(steps) > 1:  # on the first step the lease was looked at, and is looked at next at its new end
            raise asyncio.CancelledError
        return put_ahead(clock, to)

    with anyio.fail_after(BOUND):
        async with (
            squad(helper) as running,
            running.client.claim("repo/a"),
            running.client.delegate("wait") as task,
        ):
            await gate.begun.wait()
            coordinator = running.server.coordinator
            monkeypatch.setattr(SquadClock, "put_ahead", give_up)
            with pytest.raises(asyncio.CancelledError):
                await running.advance(HOUR)
            left = coordinator.live.lease_until[task.id] - running.server.clock()
            planned = coordinator._agenda.at(task.id)
            assert left <= QUICK.lease_ms
            assert planned is not None
            assert planned <= coordinator.live.lease_until[task.id]
            (held,) = coordinator.ledger.claims.by_fence.values()
            assert coordinator._alarms.at(held.id) == held.until is not None
            gate.open.set()
            assert await task.result() == "attempt 1"


async def test_one_advance_comes_after_the_other_and_the_time_goes_on_after_one_that_was_given_up() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            began = running.server.clock()
            async with anyio.create_task_group() as group:
                group.start_soon(running.advance, HOUR)
                group.start_soon(running.advance, HOUR)
            assert 0 <= running.server.clock() - began - 2 * HOUR * 1000 < 5_000
            given_up = asyncio.create_task(running.advance(HOUR))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
            stood = running.server.clock()
            while running.server.clock() == stood:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (-1, "seconds: expected 0 or more seconds, got -1"),
        (timedelta(seconds=-1), "seconds: expected 0 or more seconds, got -1 day"),
        (float("nan"), "seconds: expected a number of seconds, got nan"),
        (float("inf"), "seconds: expected a number of seconds, got inf"),
        ("60", "seconds: expected a number of seconds, got '60'"),
        (None, "seconds: expected a number of seconds, got None"),
        (1e15, "seconds: expected a time that ends before"),
    ],
)
async def test_what_is_no_time_is_refused(given: Any, told: str) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with pytest.raises(ValueError, match=told):
                await running.advance(given)
            await running.advance(0)


async def test_no_time_goes_on_after_the_block_or_in_another_loop() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with pytest.raises(LocalProtocolError, match="an event loop other than this one"):
                await anyio.to_thread.run_sync(asyncio.run, running.advance(1))
        with pytest.raises(LocalProtocolError, match="the squad's block has ended"):
            await running.advance(1)


@pytest.mark.parametrize("how", ["dying", "broken"])
async def test_who_does_not_come_back_is_told(helper: Agent, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AWAY_MAX", 0.1)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            monkeypatch.setattr(running._course._mischief, how, lambda: ["helper"])
            with pytest.raises(TimeoutError, match="expected helper to connect within 0.1 s"):
                await running.advance(1)


async def test_a_coordinator_that_cannot_go_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            running.server._fail(StoreError("the disk is gone"))
            with pytest.raises(StoreError, match="the disk is gone"):
                await running.advance(1)


async def test_who_waits_for_a_claim_gets_it_when_its_holder_that_goes_by_real_time_has_lost_it() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            settings = replace(running.settings, clock=REAL_TIME)
            async with connect(name="elsewhere", settings=settings) as elsewhere:
                await elsewhere.claim("repo/a", ttl=HOUR).__aenter__()
                waiting = asyncio.create_task(running.client.claim("repo/a", wait=1.5 * HOUR).__aenter__())
                while len(await running.client.claims("repo/a")) < 2:
                    pass
                await running.advance(2 * HOUR)
                claim = await waiting
                await claim.__aexit__(None, None, None)


async def test_a_claim_whose_holder_goes_by_real_time_ends_in_its_time() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            settings = replace(running.settings, clock=REAL_TIME)
            async with connect(name="elsewhere", settings=settings) as elsewhere, elsewhere.claim("repo/a", ttl=HOUR):
                await running.advance(HOUR - 5)
                assert len(await running.client.claims("repo/a")) == 1
                await running.advance(5)
                assert await running.client.claims("repo/a") == []


def stopped(at: int = 1_000) -> SquadClock:
    clock = SquadClock()
    clock.stop()
    clock.put_ahead(at)
    return clock


async def test_a_clock_that_stands_shows_what_it_was_put_to_and_goes_on_from_there() -> None:
    clock = stopped(5)
    assert clock.now() == clock.now() == 5
    clock.go_on()
    assert 5 <= clock.now() < 5_000


async def test_a_call_comes_when_the_clock_says_so_and_once() -> None:
    clock, called = stopped(), []
    clock.call_later(60, called.append, "late")
    clock.call_later(0.01, called.append, "early")
    assert clock.next_due() == 1_010
    with anyio.fail_after(BOUND):
        await asyncio.sleep(0.05)
        assert called == [], "the time stands"
        assert clock.put_ahead(1_010)
        await asyncio.sleep(0)
        assert called == ["early"]
        assert not clock.put_ahead(2_000)
        clock.put_ahead(60_990)
        clock.go_on()
        while len(called) < 2:
            await anyio.lowlevel.checkpoint()
    assert (called, clock.next_due()) == (["early", "late"], None)


async def test_a_pause_ends_as_the_clock_is_put_ahead_or_by_itself() -> None:
    clock = stopped()
    with anyio.fail_after(BOUND):
        pausing = asyncio.create_task(clock.pause(HOUR))
        await asyncio.sleep(0)
        assert clock.put_ahead(1_001)
        await pausing
        await clock.pause(0.01)
        assert not clock.put_ahead(1_002)


async def test_nobody_hears_in_a_loop_that_is_closed() -> None:
    clock = stopped()
    loop = asyncio.new_event_loop()

    async def left_behind() -> None:
        clock.call_later(1, print)

    await anyio.to_thread.run_sync(loop.run_until_complete, left_behind())
    loop.close()
    assert clock.put_ahead(HOUR)
    clock.go_on()
