"""The orchestrator, killed at every single await: its parts are all there afterwards, each paid for once."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import anyio
import pytest

from a2a import Agent, ConnectError, LinkSettings, MemoryStore, Policy, TaskContext
from a2a.engine.records import Delegated, Offered, Record, Reported, Settled, from_bytes
from a2a.testing import squad
from a2a.transports.base import Receiver, Transport
from a2a.transports.websocket import connect
from reference_agents.orchestrator import count_document

PARTS = 20
TEXT = "to be or not to be that is the question " * 12
BOUND = 90


class Life:
    """One process of the orchestrator, as far as it can be one inside another: it ends at an await, without a word."""

    def __init__(self, ends_at: int | None = None) -> None:
        self.ends_at = ends_at
        self.awaits = 0
        """How often the handler, or a task it made, has waited."""
        self.is_over = False
        self._connection: tuple[Transport, asyncio.AbstractEventLoop] | None = None

    def waited(self) -> None:
        """The handler waits."""
        self.awaits += 1
        if self.awaits == self.ends_at:
            self.is_over = True
            assert self._connection is not None, "it was offered the task over it"
            transport, loop = self._connection
            loop.call_soon_threadsafe(transport.abort)

    def settings(self, url: str, settings: LinkSettings) -> LinkSettings:
        """Return settings whose connections end with this life."""

        async def dial(receiver: Receiver) -> None:
            if self.is_over:
                raise ConnectError("the process has ended", is_final=True)
            transport = await connect(url, receiver)
            self._connection = transport, asyncio.get_running_loop()

        return replace(settings, dial=dial)


class Stepping:
    """A coroutine that says each time it waits, and waits for ever once its process has ended."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], life: Life) -> None:
        self._coroutine = coroutine
        self._life = life

    def __await__(self) -> Generator[Any, Any, Any]:
        send: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                waits_for = send(value)
            except StopIteration as ended:
                return ended.value
            self._life.waited()
            try:
                send, value = self._coroutine.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - passed on to whoever waits
                send, value = self._coroutine.throw, error


LIFE: ContextVar[Life] = ContextVar("LIFE")


def stepping_tasks(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task that steps where a handler under watch makes it."""
    life = LIFE.get(None)
    if life is None:
        return asyncio.Task(coroutine, loop=loop, **options)

    async def stepped() -> Any:
        return await Stepping(coroutine, life)

    return asyncio.Task(stepped(), loop=loop, **options)


def orchestrator(life: Life) -> Agent:
    """Return the reference agent, under watch."""
    agent = Agent("orchestrator")

    @agent.skill
    @functools.wraps(count_document)
    async def watched(**arguments: Any) -> Any:
        LIFE.set(life)
        return await Stepping(count_document(**arguments), life)

    return agent


@pytest.fixture
def worked() -> Counter[str]:
    """How often each part was worked on."""
    return Counter()


@pytest.fixture
def counter(worked: Counter[str]) -> Agent:
    agent = Agent("counter", concurrency=PARTS)

    @agent.skill
    async def count_words(text: str, task: TaskContext) -> dict[str, int]:
        worked[task.id] += 1
        return {"words": len(text.split())}

    return agent


def check_paid_once(records: list[Record], jobs: int) -> None:
    """See that each part of each job was executed to an accepted result exactly once, and never begun after it."""
    made = Counter((record.scope, record.key) for record in records if isinstance(record, Delegated) and record.parent)
    assert len(made) == PARTS * jobs
    assert set(made.values()) == {1}
    children = {record.task for record in records if isinstance(record, Delegated) and record.parent}
    results: Counter[str] = Counter()
    for record in records:
        if isinstance(record, Offered) and record.task in children:
            assert not results[record.task], f"{record.task} is begun again after its result"
        elif isinstance(record, Reported) and record.task in children:
            assert record.outcome == "completed"
            results[record.task] += 1
    assert results == dict.fromkeys(children, 1)
    ends = [record.state for record in records if isinstance(record, Settled)]
    assert ends == ["completed"] * (len(children) + jobs)


async def test_a_text_is_counted_in_parts(counter: Agent, worked: Counter[str]) -> None:
    life = Life()
    with anyio.fail_after(BOUND):
        async with squad(counter, orchestrator(life)) as running:
            assert await running.client.call("count_document", {"text": TEXT}) == {"words": len(TEXT.split())}
            assert await running.client.call("count_document", {"text": "one two", "parts": 3}) == {"words": 2}
    assert len(worked) == PARTS + 3


async def test_killed_at_each_await_it_finds_its_parts_and_pays_for_none_twice(
    counter: Agent, worked: Counter[str]
) -> None:
    asyncio.get_running_loop().set_task_factory(stepping_tasks)
    store = MemoryStore()
    killed = 0
    with anyio.fail_after(BOUND):
        # Leases of half a minute: on a machine that stalls, a short one lapses under a process that nobody killed.
        async with squad(counter, store=store, policy=Policy()) as running:
            is_through = False
            while not is_through:
                job = {"text": f"{TEXT} {killed}"}
                async with running.client.delegate("count_document", job, f"job-{killed}") as task:
                    first = Life(ends_at=killed + 1)
                    is_through = not await live(first, running, task)
                    if not is_through:
                        assert not await live(Life(), running, task), "the next process lives to the end"
                    assert await task.result() == {"words": len(TEXT.split()) + 1}
                killed += not is_through
    await store.open()
    records = [from_bytes(entry.body, entry.payload) for entry in store.read()]
    check_paid_once(records, jobs=killed + 1)
    assert set(worked.values()) == {1}
    assert killed >= 3 * PARTS, "to delegate a part, to wait for it and to confirm it are three awaits at least"


async def live(life: Life, running: Any, task: Any) -> bool:
    """Run a process of the orchestrator until it is killed or the task has its result; return whether it was killed."""
    stop = anyio.Event()

    async def stop_at_the_end() -> None:
        await task.result()
        stop.set()

    async with anyio.create_task_group() as group:
        group.start_soon(stop_at_the_end)
        try:
            await orchestrator(life).run(settings=life.settings(running.url, running.settings), stop=stop)
        except ConnectError:
            assert life.is_over
        group.cancel_scope.cancel()
    return life.is_over
