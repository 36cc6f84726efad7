"""A name that several attempts want at the same time."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, TaskContext, TaskFailed
from a2a.testing import Squad, squad
from reference_agents.turns import turn

BOUND = 30.0


class Writer:
    """An agent that has a name alone for as long as it is let, and what it saw of the others."""

    def __init__(self, seconds: float = 20.0, crashes: bool = False) -> None:
        self.agent = Agent("writer")
        self.let_go: dict[str, anyio.Event] = {}
        self.inside: list[str] = []
        self.told: dict[str, list[list[str]]] = {}
        self.waits: dict[str, Any] = {}
        self.waiting = anyio.Event()
        self.entered = anyio.Event()

        @self.agent.skill
        async def write(one: str, task: TaskContext) -> None:
            async def told(whom: list[str]) -> None:
                self.told.setdefault(one, []).append(whom)
                self.waiting.set()

            async with turn(task, "repo/r/turn", seconds, told) as waited:
                self.inside.append(one)
                assert self.inside == [one], "it is alone"
                self.waits[one] = waited
                self.entered.set()
                await self.let_go.setdefault(one, anyio.Event()).wait()
                self.inside.remove(one)
                if crashes and one == "second" and task.attempt == 1:
                    raise AttemptFailed("a crash", retryable=True)

    def let(self, one: str) -> None:
        self.let_go.setdefault(one, anyio.Event()).set()


async def in_line(up: Squad) -> list[dict[str, Any]]:
    """Return the claims that wait, as soon as there are any."""
    while True:
        found = [it for it in await up.client.claims("repo/r/turn") if it["state"] == "waiting"]
        if found:
            return found
        await anyio.sleep(0.01)  # nobody is told of it


@pytest.mark.parametrize("crashes", [False, True])
async def test_the_second_waits_for_the_first_and_is_told_whom_it_waits_for(crashes: bool) -> None:
    writer = Writer(crashes=crashes)
    writer.let("second")
    with anyio.fail_after(BOUND):
        async with squad(writer.agent) as up:
            async with up.client.delegate("write", {"one": "first"}) as first:
                await writer.entered.wait()
                async with up.client.delegate("write", {"one": "second"}) as second:
                    await writer.waiting.wait()
                    [waiting] = await in_line(up)
                    await anyio.sleep(0.3)  # what is to be measured
                    writer.let("first")
                    await first.result()
                    await second.result()
    assert (waiting["task"], [it["task"] for it in waiting["waitsFor"]]) == (second.id, [first.id])
    assert writer.told == {"second": [[first.id]]}
    assert writer.waits["first"] == {"name": "repo/r/turn", "whom": [], "seconds": 0.0}
    waited = writer.waits["second"]
    assert waited["whom"] == [first.id], "an attempt after that knows of it as well"
    assert 0.2 < waited["seconds"] < BOUND


async def test_it_waits_for_so_long_and_no_longer() -> None:
    writer = Writer(seconds=0.2)
    with anyio.fail_after(BOUND):
        async with squad(writer.agent) as up, up.client.delegate("write", {"one": "first"}) as first:
            await writer.entered.wait()
            with pytest.raises(TaskFailed, match=r"repo/r/turn was not to be had within 0\.2 s") as failed:
                await up.client.call("write", {"one": "second"})
            assert (await up.client.get(failed.value.task))["metadata"]["error"]["code"] == "busy"
            writer.let("first")
            await first.result()


async def test_all_that_come_before_are_named_the_one_that_has_it_first() -> None:
    writer = Writer()
    for one in ("second", "third"):
        writer.let(one)
    with anyio.fail_after(BOUND):
        async with squad(writer.agent) as up, anyio.create_task_group() as group:

            async def write(one: str) -> None:
                async with up.client.delegate("write", {"one": one}) as task:
                    tasks[one] = task.id
                    await task.result()

            tasks: dict[str, str] = {}
            group.start_soon(write, "first")
            await writer.entered.wait()
            group.start_soon(write, "second")
            await writer.waiting.wait()
            await in_line(up)
            writer.waiting = anyio.Event()
            group.start_soon(write, "third")
            await writer.waiting.wait()
            writer.let("first")
    assert writer.told["third"] == [[tasks["first"], tasks["second"]]]


class Asker:
    """An agent that asks a person while it has a name alone, and what happened in which order."""

    def __init__(self, seconds: float = 20.0) -> None:
        self.agent = Agent("asker")
        self.happened: list[tuple[str, str | list[str]]] = []
        self.waits: dict[str, Any] = {}
        self.waiting = anyio.Event()

        @self.agent.skill
        async def ask(one: str, task: TaskContext) -> None:
            async def told(whom: list[str]) -> None:
                self.happened.append((f"{one} waits", whom))
                self.waiting.set()

            async with turn(task, "repo/r/turn", seconds, told) as waited:
                self.waits[one] = waited
                self.happened.append((one, "begins"))
                self.happened.append((one, await task.ask("Go on?")))


@pytest.mark.parametrize("is_in_line", [True, False])
async def test_who_waits_for_an_answer_without_an_attempt_has_its_turn_all_the_same(
    monkeypatch: pytest.MonkeyPatch, is_in_line: bool
) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 0.0)
    asker = Asker()
    with anyio.fail_after(BOUND):
        async with squad() as up, anyio.create_task_group() as group:
            stop = anyio.Event()
            group.start_soon(partial(asker.agent.run, name="asker/1", settings=up.settings, stop=stop))
            async with up.client.delegate("ask", {"one": "first"}) as first:
                number, _ = await first.question()
                async with up.client.delegate("ask", {"one": "second"}) as second:
                    if is_in_line:
                        await asker.waiting.wait()
                        asker.waiting = anyio.Event()
                        await anyio.sleep(0.3)  # what is to be measured
                    stop.set()
                    async for event in up.client.watch(first.id):
                        if event.kind in ("release", "expire"):
                            break  # nobody is at work on it any more, and its claim has gone with the attempt
                    stop = anyio.Event()
                    group.start_soon(partial(asker.agent.run, name="asker/2", settings=up.settings, stop=stop))
                    await asker.waiting.wait()
                    [claimed] = await up.client.claims("repo/r/turn")
                    assert claimed["task"] == second.id, "it has the claim, and waits all the same"
                    await first.answer(number, "yes")
                    await first.result()
                    number, _ = await second.question()
                    await second.answer(number, "yes too")
                    await second.result()
                    stop.set()
    waits = [("second waits", [first.id])]
    assert asker.happened == [
        ("first", "begins"), *(waits if is_in_line else []), *waits,
        ("first", "begins"), ("first", "yes"), ("second", "begins"), ("second", "yes too"),
    ]  # fmt: skip
    assert asker.waits["first"] == {"name": "repo/r/turn", "whom": [], "seconds": 0.0}
    waited = asker.waits["second"]
    assert waited["whom"] == [first.id]
    assert 0.3 * is_in_line <= waited["seconds"] < BOUND, "an attempt that is lost has waited all the same"


async def test_one_that_never_ends_is_waited_for_no_longer_than_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 0.0)
    asker = Asker(seconds=0.2)
    with anyio.fail_after(BOUND):
        async with squad() as up, anyio.create_task_group() as group:
            stop = anyio.Event()
            group.start_soon(partial(asker.agent.run, name="asker/1", settings=up.settings, stop=stop))
            async with up.client.delegate("ask", {"one": "first"}) as first:
                await first.question()
                stop.set()
                async for event in up.client.watch(first.id):
                    if event.kind in ("release", "expire"):
                        break
                stop = anyio.Event()
                group.start_soon(partial(asker.agent.run, name="asker/2", settings=up.settings, stop=stop))
                with pytest.raises(TaskFailed, match=rf"not to be had within 0\.2 s: {first.id} is not over"):
                    await up.client.call("ask", {"one": "second"})
                await first.cancel()
                async with up.client.delegate("ask", {"one": "third"}) as third:  # what was given up is in nobody's way
                    number, _ = await third.question()
                    await third.answer(number, "yes")
                    await third.result()
                stop.set()
    assert asker.happened == [
        ("first", "begins"), ("second waits", [first.id]), ("third", "begins"), ("third", "yes"),
    ]  # fmt: skip
