"""What goes wrong in a squad is what was asked for, and nothing that was asked for in it is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest

from a2a import Agent, TaskContext
from a2a.testing import Fault, Faults, squad
from a2a.testing import faults as module
from a2a.testing.faults import MARK, Life, Mischief

BOUND = 60


def worker(starts: list[int]) -> Agent:
    agent = Agent("worker")

    @agent.skill
    async def double(number: int, task: TaskContext) -> int:
        starts.append(number)
        for step in range(task.restored or 0, 3):
            await task.checkpoint(step + 1)
        return 2 * number

    return agent


@pytest.mark.parametrize("seed", range(3))
async def test_work_is_done_though_connections_end_messages_are_late_and_agents_die(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []
    lives: list[Life] = []

    class Counted(Life):
        def __init__(self) -> None:
            super().__init__()
            lives.append(self)

    monkeypatch.setattr(module, "Life", Counted)
    done: dict[int, Any] = {}
    faults = Faults(seed=seed, drop=0.05, crash=0.05, delay=0.005)
    with anyio.fail_after(BOUND):
        async with squad(worker(starts), n=2, faults=faults) as running:

            async def one(number: int) -> None:
                done[number] = await running.client.call("double", {"number": number}, key=str(number), losses=99)

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(one, number)
            async with running.connect("another") as another:  # whose connections may end as well
                assert await another.call("double", {"number": 0}, key="other", losses=99) == 0
    suffered = running.suffered
    assert done == {number: 2 * number for number in range(20)}
    assert {fault.who for fault in suffered} <= {"worker/1", "worker/2", "client"}
    assert {"drop", "crash"} >= {fault.kind for fault in suffered} != set()
    assert len(starts) >= 20
    deaths = sum(fault.kind == "crash" for fault in suffered)
    assert deaths <= len(lives) <= 2 + deaths, "who dies at the very end is not started again"


async def test_who_dies_says_nothing_more_and_goes_on_where_its_checkpoint_is() -> None:
    agent, lives, said, at_work = Agent("worker"), [0], [], anyio.Event()

    @agent.skill
    async def work(task: TaskContext) -> str:
        lives[0] += 1
        if lives[0] == 1:
            await task.checkpoint("half")
            at_work.set()
            try:
                await anyio.sleep_forever()
            finally:
                said.append("cancelled")
        return f"life {lives[0]}, from {task.restored}"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("work") as task:
                await at_work.wait()
                running.crash("worker")
                assert await task.result() == "life 2, from half"
            assert said == ["cancelled"]
            assert running.suffered == [Fault("crash", "worker")]
            (left,) = await running.client.find()
            assert (left.agent_id, left.status) == ("worker", "ready")
            losses = (await running.client.get(task.id))["metadata"]["counters"]["losses"]
            assert losses == 1


async def test_a_connection_that_is_dropped_costs_no_attempt() -> None:
    agent, starts, go_on, at_work = Agent("worker"), [], anyio.Event(), anyio.Event()

    @agent.skill
    async def work() -> int:
        starts.append(1)
        at_work.set()
        await go_on.wait()
        return len(starts)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("work") as task:
                await at_work.wait()
                async with aclosing(running.client.watch_agents("work")) as seen:
                    assert (await anext(seen)).change == "joined"
                    running.drop("worker")
                    assert [(await anext(seen)).change for _ in range(2)] == ["left", "joined"]
                go_on.set()
                assert await task.result() == 1
            assert running.suffered == [Fault("drop", "worker")]
            with pytest.raises(ValueError, match="expected one of worker, got 'nobody'"):
                running.crash("nobody")


async def test_a_plain_function_of_one_that_died_is_waited_for_at_the_end_and_holds_up_nobody() -> None:
    agent, began, go_on, ended = Agent("worker"), threading.Event(), threading.Event(), []

    @agent.skill
    def work() -> str:
        if not began.is_set():
            began.set()
            go_on.wait(BOUND)
            ended.append("the first")
            return "the first"
        return "the second"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("work") as task:
                await asyncio.to_thread(began.wait)
                running.crash("worker")
                assert await task.result() == "the second"
            assert ended == []
            go_on.set()
    assert ended == ["the first"]


class End:
    """Both ends of a connection, for a look at what passes."""

    subprotocol, peer, waiting = "a2a.coord+json", "there", 0

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._news = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        def see(*given: Any) -> None:
            self.seen.append((name, *given))
            self._news.set()

        return see

    async def until(self, count: int) -> list[Any]:
        """Return what came, once there is so much of it."""
        with anyio.fail_after(BOUND):
            while len(self.seen) < count:
                self._news.clear()
                await self._news.wait()
        return self.seen


@asynccontextmanager
async def connected(faults: Faults, monkeypatch: pytest.MonkeyPatch, who: str = "a") -> AsyncIterator[Any]:
    """Yield a connection as its link has it, what each end saw, the mischief, and how it connects."""
    link, wire, mischief = End(), End(), Mischief(faults)

    async def connect(url: str, receiver: Any, *_: Any, **__: Any) -> None:
        receiver.opened(wire)
        wire.receiver = receiver

    monkeypatch.setattr(module, "connect", connect)
    settings, _ = mischief.for_life(running_settings(), who)
    assert settings.dial is not None
    await settings.dial(link)  # type: ignore[arg-type]
    (_, line) = link.seen.pop(0)
    yield line, link, wire, mischief, settings.dial


def running_settings() -> Any:
    from a2a.link import LinkSettings

    return LinkSettings(url="ws://127.0.0.1:1", token="t", secrets={})


async def test_the_same_seed_and_messages_have_the_same_faults_at_the_same_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = []
    for seed in (1, 1, 2):
        async with connected(Faults(seed=seed, drop=0.01), monkeypatch) as (line, _, wire, mischief, _):
            sent = 0
            while not mischief.made:
                line.send(b"m")
                sent += 1
            assert mischief.made == [Fault("drop", "a")]
            assert [name for name, *_ in wire.seen] == ["send"] * (sent - 1) + ["abort"], "the last one is lost"
            places.append(sent)
    assert places[0] == places[1] != places[2]


async def test_late_messages_stay_in_order_and_come_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(Faults(delay=0.01), monkeypatch) as (line, link, wire, _, _):
        for number in range(50):
            line.send(b"%d" % number)
            line.received(b"%d" % number)
        line.close(1000, "bye")
        line.closed("it is over")
        assert (link.seen, wire.seen) == ([], [])
        assert await wire.until(51) == [*(("send", b"%d" % number) for number in range(50)), ("close", 1000, "bye")]
        assert await link.until(51) == [
            *(("received", b"%d" % number) for number in range(50)),
            ("closed", "it is over"),
        ]


async def test_what_was_on_its_way_is_lost_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(Faults(delay=0.01), monkeypatch) as (line, link, wire, _, _):
        line.send(b"1")
        line.received(b"2")
        line.abort()
        line.send(b"3")
        line.received(b"4")
        line.closed("it is over")
        assert await link.until(1) == [("closed", "it is over")]
        assert wire.seen == [("abort",)]


async def test_the_dead_do_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(Faults(crash=0.5), monkeypatch) as (line, link, _, mischief, dial):
        while not mischief.made:
            line.send(b"m")
        assert mischief.made == [Fault("crash", "a")]
        again = asyncio.create_task(dial(link))
        for _ in range(10):
            await asyncio.sleep(0)
        assert (again.done(), link.seen) == (False, [])
        again.cancel()


async def test_all_else_goes_to_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(Faults(delay=0.01), monkeypatch) as (line, _, wire, _, _):
        assert (line.subprotocol, line.peer, line.waiting) == ("a2a.coord+json", "there", 0)
        line.keepalive(5.0)
        line.pause_reading()
        line.resume_reading()
        line.when_drained(print)
        assert wire.seen == [("keepalive", 5.0), ("pause_reading",), ("resume_reading",), ("when_drained", print)]


async def test_one_that_dies_while_it_connects_is_cut_off_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    link, wire, mischief = End(), End(), Mischief(Faults())

    async def connect(url: str, receiver: Any, *_: Any, **__: Any) -> None:
        mischief.make("crash", "a")
        await asyncio.sleep(0)
        receiver.opened(wire)

    monkeypatch.setattr(module, "connect", connect)
    settings, life = mischief.for_life(running_settings(), "a")
    assert settings.dial is not None
    await settings.dial(link)  # type: ignore[arg-type]
    assert (life.is_over, wire.seen) == (True, [("abort",)])


async def within(answer: Awaitable[bool]) -> bool:
    with anyio.fail_after(BOUND):
        return await answer


async def test_what_goes_there_and_back_is_behind_all_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(Faults(delay=0.01), monkeypatch) as (line, link, wire, _, _):
        assert not await within(line.bounce()), "nobody was welcomed yet"
        line.received(b"welcome")
        await link.until(1)
        line.send(b"1")
        back = line.bounce()
        (_, (_, ping)) = await wire.until(2)
        assert MARK in ping
        line.received(b"2")
        line.received(b"answer to " + MARK)
        assert not back.done()
        assert await within(back)
        assert link.seen[1:] == [("received", b"2"), ("received", b"answer to " + MARK)]


async def test_nothing_is_drawn_for_what_goes_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    for bounces in (0, 5):
        async with connected(Faults(seed=1, drop=0.01), monkeypatch) as (line, _, _, mischief, _):
            line.received(b"welcome")
            for _ in range(bounces):
                back = line.bounce()
                await asyncio.sleep(0)
                line.received(MARK)
                assert await within(back)
            sent = 0
            while not mischief.made:
                line.send(b"m")
                sent += 1
            places.append(sent)
    assert places[0] == places[1]


@pytest.mark.parametrize("how", ["abort", "closed"])
async def test_nothing_comes_back_on_a_connection_that_ends(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    async with connected(Faults(), monkeypatch) as (line, _, wire, mischief, _):
        line.received(b"welcome")
        back = line.bounce()
        await wire.until(1)
        assert mischief.lines == {line}
        line.abort() if how == "abort" else line.closed("it is over")
        assert not await within(back)
        assert not await within(line.bounce())
        assert mischief.broken() == (["a"] if how == "abort" else [])
        line.closed("it is over")
        assert (mischief.lines, mischief.broken()) == (set(), [])


@pytest.mark.parametrize(
    "wrong",
    [{"drop": 1.0}, {"crash": -0.1}, {"drop": float("nan")}, {"delay": float("inf")}, {"drop": 0.5, "crash": 0.5}],
)
def test_a_share_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    name = " and ".join(wrong)
    with pytest.raises(ValueError, match=f"{name}: expected"):
        Faults(**wrong)
