from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self, cast

import anyio
import pytest

import a2a
from a2a.hosting import host
from benchmarks import agent, client
from benchmarks.load import ANSWER, CHUNKS, TEXT
from benchmarks.report import BenchmarkError


class Session:
    """A client's session with a coordinator where nobody is."""

    def __init__(self, durability: str) -> None:
        self.durability = durability

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def find(self, skill: str) -> list[object]:
        return []


@pytest.mark.parametrize("durability", ["os", "memory"])
async def test_a_coordinator_without_fsync_is_not_measured(monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    monkeypatch.setattr(a2a, "connect", lambda **arguments: Session(durability))
    with pytest.raises(BenchmarkError, match=f"expected a coordinator with durability fsync, .* {durability}"):
        await client.client("ws://127.0.0.1:1", "token", {}, connections=1)


async def test_agents_that_do_not_join_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a, "connect", lambda **arguments: Session("fsync"))
    monkeypatch.setattr(client, "AGENTS_WITHIN", 0.1)
    with pytest.raises(BenchmarkError, match=r"of 2 agents with the skill reverse 0 joined within 0\.1 s"):
        await client.client("ws://127.0.0.1:1", "token", {"reverse": 2}, connections=1)


def squad(monkeypatch: pytest.MonkeyPatch, state: str, *hosts: str) -> AbstractAsyncContextManager[list[a2a.Client]]:
    """Have the agents of these hosts join; see `joined`."""
    return joined(monkeypatch, state, {name: each for one in hosts for name, each in agent.hosted(one, 1).items()})


@asynccontextmanager
async def joined(
    monkeypatch: pytest.MonkeyPatch, state: str, agents: Mapping[str, a2a.Agent]
) -> AsyncIterator[list[a2a.Client]]:
    """Yield two clients of a coordinator that these agents have joined."""
    monkeypatch.setenv("A2A_STATE_DIR", state)
    stop = anyio.Event()
    waiting = set(agents)
    joined = asyncio.Event()

    def ready(name: str) -> None:
        waiting.discard(name)
        if not waiting:
            joined.set()

    async with host() as coordinator, asyncio.TaskGroup() as tasks:
        for name, each in agents.items():
            tasks.create_task(each.run(coordinator.url, name=name, stop=stop, ready=lambda name=name: ready(name)))  # type: ignore[misc]
        await joined.wait()
        async with a2a.connect(coordinator.url, name="one") as one, a2a.connect(coordinator.url, name="two") as two:
            yield [one, two]
        stop.set()


@pytest.mark.parametrize("call", ["delegate", "confirmed", "conflict", "artifact", "progress", "fanout.1", "fanout.4"])
async def test_each_call_brings_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: str, call: str) -> None:
    async with asyncio.timeout(60), squad(monkeypatch, str(tmp_path), *agent.HOSTED) as sessions:
        assert await client.calls_of(sessions)[call](TEXT) == ANSWER


async def test_the_connections_take_turns() -> None:
    asked: list[str] = []

    class Named(Session):
        async def call(self, skill: str, *given: object, **options: object) -> str:
            asked.append(self.durability)
            return ANSWER

    call = client.calls_of(cast(list[a2a.Client], [Named("one"), Named("two")]))["delegate"]
    for _ in range(4):
        await call(TEXT)
    assert asked == ["one", "two", "one", "two"]


async def test_the_votes_contradict_each_other_even_where_the_wrong_one_comes_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: str
) -> None:
    others_are_done = asyncio.Event()
    late = a2a.Agent("late")

    @late.skill
    async def vote(text: str) -> str:
        await others_are_done.wait()
        return text

    voters = {"one": agent.voter(1), "two": agent.voter(2), "late": late}
    async with asyncio.timeout(60), joined(monkeypatch, str(tmp_path), voters) as (session, _):
        answer = asyncio.create_task(client.calls_of([session])["conflict"](TEXT))
        while [task["metadata"]["state"] for task in await session.list()].count("completed") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        others_are_done.set()
        assert await answer == ANSWER
        assert len(await session.conflicts()) == 1


async def test_a_stream_is_followed_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch, tmp_path: str) -> None:
    async with asyncio.timeout(60), squad(monkeypatch, str(tmp_path), "worker") as (session, _):
        async with session.delegate("stream_artifact", {"text": TEXT}, acceptance="auto") as task:
            chunks = [event.value async for event in task.events() if event.kind == "artifact"]
        assert chunks == [TEXT] * CHUNKS
