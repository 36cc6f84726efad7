"""What is under way of an artifact: how much, in which order, who waits for it, and what a refusal costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest

from a2a import Agent, Policy, TaskContext, TaskFailed
from a2a.errors import QuotaExceeded, StaleFence
from a2a.streaming import UNCONFIRMED_BYTES_MAX, UNCONFIRMED_MAX, ChunkStream
from a2a.testing import squad
from a2a.testing.squad import QUICK
from tests.held_store import HeldStore

BOUND = 20


class Link:
    """Takes what is to be sent, in order; the test says what was answered."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.stream: ChunkStream

    def in_link(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.sent.append(arguments)

    def answer(self, name: str, size: int, error: BaseException | None = None) -> None:
        self.stream._answered(name, size, error)

    async def send(self, name: str, payload: bytes = b"1", *, append: bool = True, last: bool = False) -> None:
        await self.stream.send(name, payload, append=append, last=last)


@pytest.fixture
async def link() -> Link:
    made: Any = Link()
    made.stream = ChunkStream(made, made)
    return made


@pytest.fixture
async def begin() -> AsyncIterator[Callable[[Any], Any]]:
    """Give a function that begins something and returns it as a task, when it waits or is done."""
    tasks: list[asyncio.Task[Any]] = []

    def begun(coroutine: Any) -> Coroutine[Any, Any, asyncio.Task[Any]]:
        task = asyncio.create_task(coroutine)
        tasks.append(task)

        async def when_it_waits() -> asyncio.Task[Any]:
            await turns()
            return task

        return when_it_waits()

    yield begun
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def turns() -> None:
    """Let everything that can go on do so: nothing here waits for more than a few turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- the window


async def test_chunks_go_out_while_earlier_ones_are_not_confirmed_up_to_a_bound(link, begin):
    for _ in range(UNCONFIRMED_MAX):
        await link.send("log")
    waiting = await begin(link.send("log", b"one more"))
    assert (len(link.sent), waiting.done()) == (UNCONFIRMED_MAX, False)
    link.answer("log", 1)
    await turns()
    assert waiting.done() and link.sent[-1] == ("log", b"one more", True, False)


async def test_large_chunks_are_bounded_by_their_bytes(link, begin):
    size = UNCONFIRMED_BYTES_MAX // 2
    for _ in range(2):
        await link.send("log", bytes(size))
    waiting = await begin(link.send("log"))
    assert not waiting.done()
    link.answer("log", size)
    await turns()
    assert waiting.done()


async def test_one_who_waits_for_room_is_not_overtaken(link, begin):
    for _ in range(UNCONFIRMED_MAX):
        await link.send("log")
    await begin(link.send("log", b"1"))
    late = begin(link.send("log", b"2"))
    link.answer("log", 1)  # there is room, and the one that waits has not heard of it when the late one looks
    await late
    assert [payload for _, payload, *_ in link.sent[UNCONFIRMED_MAX:]] == [b"1"]
    link.answer("log", 1)
    await turns()
    assert [payload for _, payload, *_ in link.sent[UNCONFIRMED_MAX:]] == [b"1", b"2"]


async def test_one_who_gives_up_waiting_for_room_holds_nobody_up(link, begin):
    for _ in range(UNCONFIRMED_MAX):
        await link.send("log")
    first, second = await begin(link.send("log", b"1")), await begin(link.send("log", b"2"))
    first.cancel()
    link.answer("log", 1)
    await turns()
    assert second.done() and link.sent[-1][1] == b"2"


async def test_the_last_chunk_waits_for_its_artifact_and_for_no_other(link, begin):
    await link.send("other")
    await link.send("log")
    whole = await begin(link.send("log", last=True))
    link.answer("log", 1)
    await turns()
    assert not whole.done()
    link.answer("log", 1)
    await turns()
    assert whole.done()
    everything = await begin(link.stream.confirmed())
    assert not everything.done()
    link.answer("other", 1)
    await turns()
    assert everything.done()


# --- refusals


async def test_a_refusal_is_told_at_each_call_until_the_artifact_begins_anew(link, begin):
    await link.send("log")
    await link.send("log")
    link.answer("log", 1, QuotaExceeded("the first"))
    link.answer("log", 1, StaleFence("what came of it"))
    for _ in range(2):
        with pytest.raises(QuotaExceeded, match="the first"):
            await link.send("log")
    await link.send("other")
    link.answer("other", 1)
    assert [name for name, *_ in link.sent] == ["log", "log", "other"]
    await link.stream.confirmed()  # it was told already
    await link.send("log", append=False)
    assert link.sent[-1] == ("log", b"1", False, False)


async def test_an_artifact_begins_anew_when_nothing_of_it_is_under_way(link, begin):
    await link.send("log")
    await link.send("log")
    link.answer("log", 1, QuotaExceeded("the first"))
    anew = await begin(link.send("log", append=False))
    assert len(link.sent) == 2
    link.answer("log", 1, StaleFence("what came of it"))
    await turns()
    assert anew.done() and anew.exception() is None
    link.answer("log", 1)
    await link.stream.confirmed()


async def test_all_who_wait_for_an_artifact_hear_of_its_refusal(link, begin):
    waiting = [await begin(link.send("log", last=True)) for _ in range(2)]
    link.answer("log", 1, QuotaExceeded("full"))
    link.answer("log", 1)
    await turns()
    assert [type(one.exception()) for one in waiting] == [QuotaExceeded] * 2


async def test_a_refusal_that_nobody_was_told_of_is_raised_once_by_who_waits_for_all(link):
    await link.send("log")
    await link.send("other")
    link.answer("log", 1, QuotaExceeded("log"))
    link.answer("other", 1, QuotaExceeded("other"))
    for name in ("log", "other"):
        with pytest.raises(QuotaExceeded, match=name):
            await link.stream.confirmed()
    await link.stream.confirmed()


async def test_a_refusal_of_what_was_begun_anew_hides_no_other(link):
    await link.send("log")
    link.answer("log", 1, QuotaExceeded("log"))
    await link.send("log", append=False)
    link.answer("log", 1)
    await link.send("other")
    link.answer("other", 1, QuotaExceeded("other"))
    with pytest.raises(QuotaExceeded, match="other"):
        await link.stream.confirmed()


# --- with a coordinator


class LookedIntoStore(HeldStore):
    """Tells what it holds, and what its log has."""

    async def has_held(self, kind: str, count: int) -> None:
        while sum(entry.kind == kind for entries, *_ in self.held for entry in entries) < count:
            await anyio.lowlevel.checkpoint()

    def kept(self, kind: str) -> list[Any]:
        """What the log has of the records of a kind: the value of each payload."""
        return [json.loads(entry.payload or b"null") for entry in self.read() if entry.kind == kind]


def parts(*values: Any) -> list[Any]:
    return [[{"data": value}] for value in values]


async def test_chunks_of_a_handler_are_kept_in_order_before_any_is_confirmed() -> None:
    agent, store = Agent("streamer"), LookedIntoStore()

    @agent.skill
    async def stream(task: TaskContext) -> str:
        store.is_holding = True
        for number in range(10):
            await task.artifact("log", number, append=True, last=False)
        await store.has_held("ArtifactAppended", 10)
        store.let_go()
        await task.artifact("log", 10, append=True)
        assert store.kept("ArtifactAppended") == parts(*range(11))
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent, store=store) as running:
            assert await running.client.call("stream", acceptance="auto") == "done"


async def test_an_answer_that_comes_before_anybody_awaits_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent("streamer")
    begin = ChunkStream._wait_for

    async def late(stream: ChunkStream, *arguments: Any) -> None:
        assert await stream._runner.link.drained(BOUND)
        await begin(stream, *arguments)

    monkeypatch.setattr(ChunkStream, "_wait_for", late)

    @agent.skill
    async def stream(task: TaskContext) -> str:
        await task.artifact("log", 1, append=True)
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("stream", acceptance="auto") == "done"


async def test_what_was_not_confirmed_is_sent_again_in_order_and_kept_once() -> None:
    agent, store = Agent("streamer"), LookedIntoStore()
    streamed, seen = anyio.Event(), anyio.Event()

    @agent.skill
    async def stream(task: TaskContext) -> str:
        store.is_holding = True
        for number in range(10):
            await task.artifact("log", number, append=True, last=False)
        streamed.set()
        await seen.wait()
        for number in range(10, 20):
            await task.artifact("log", number, append=True, last=number == 19)
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent, store=store) as running:
            async with running.client.delegate("stream", acceptance="auto") as task:
                await streamed.wait()
                await store.has_held("ArtifactAppended", 10)
                for peer in list(running.server._peers.values()):
                    assert peer.transport is not None
                    peer.transport.abort()
                store.let_go()
                seen.set()
                assert await task.result() == "done"
            assert store.kept("ArtifactAppended") == parts(*range(20))
            (counters,) = [(await running.client.get(task.id))["metadata"]["counters"]]
            assert counters["losses"] == 0


@pytest.mark.parametrize("says", ["checkpoint", "ask", "hand_off", "result"])
async def test_what_rests_on_chunks_is_not_said_where_one_was_refused(says: str) -> None:
    agent, store = Agent("streamer"), LookedIntoStore()
    caught: list[str] = []

    @agent.skill
    async def stream(task: TaskContext) -> str:
        for number in range(4):
            await task.artifact("log", number, append=True, last=False)
        try:
            if says == "checkpoint":
                await task.checkpoint({"all": 4})
            elif says == "ask":
                await task.ask("are all four there?")
            elif says == "hand_off":
                await task.hand_off(message="four are there")
        except QuotaExceeded:
            caught.append(says)
        return "four"

    with anyio.fail_after(BOUND):
        async with squad(agent, store=store, policy=Policy(durations=QUICK, chunks_max=3)) as running:
            if says == "result":
                with pytest.raises(TaskFailed, match="QuotaExceeded: quota: a task has at most 3"):
                    await running.client.call("stream", attempts=1)
            else:
                assert await running.client.call("stream") == "four"
                assert caught == [says]
            assert store.kept("ArtifactAppended") == parts(0, 1, 2)
            assert not [kind for kind in ("Checkpointed", "Asked", "HandedOff") if store.kept(kind)]


async def test_a_chunk_larger_than_is_taken_is_told_of_and_nothing_behind_it_is_sent() -> None:
    agent, store = Agent("streamer"), LookedIntoStore()

    @agent.skill
    async def stream(task: TaskContext) -> str:
        await task.artifact("log", "x" * 3_000_000, append=True, last=False)
        await task.artifact("log", "end", append=True)
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent, store=store) as running:
            with pytest.raises(TaskFailed, match="TooLarge"):
                await running.client.call("stream", attempts=1)
            assert store.kept("ArtifactAppended") == []
