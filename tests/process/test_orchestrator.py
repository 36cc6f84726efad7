"""An orchestrator with 20 sub-tasks whose process is killed ten times: each is executed to an accepted result once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import a2a
from a2a import Agent, TaskContext
from a2a.conformance.program import free_port
from a2a.engine.records import Delegated, Offered, Reported
from tests.chaos.audit import Heard, judge, read_ledger
from tests.chaos.processes import Post

PARTS = 20
TEXT = "whether tis nobler in the mind to suffer " * 10
BOUND = 100.0
KILLS = 10


class Counting:
    """The agent that counts: it lets a part go when it is told to, and says which it has begun and ended."""

    def __init__(self) -> None:
        self.agent = Agent("counter", concurrency=PARTS)
        self.begun: Counter[str] = Counter()
        self.ended = 0
        self.may_end = asyncio.Semaphore(0)
        self._news = asyncio.Condition()
        self.agent.skill(self.count_words)

    async def count_words(self, text: str, task: TaskContext) -> dict[str, int]:
        """Count the words of a text."""
        self.begun[task.id] += 1
        await self._tell()
        await self.may_end.acquire()
        self.ended += 1
        await self._tell()
        return {"words": len(text.split())}

    async def until(self, *, begun: int = 0, ended: int = 0) -> None:
        """Wait until so many parts were begun, and so many ended."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.begun) >= begun and self.ended >= ended)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def running(agent: Agent, url: str) -> AsyncIterator[None]:
    serving = asyncio.create_task(agent.run(url))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


@pytest.mark.timeout(2 * BOUND)
async def test_killed_ten_times_it_pays_for_each_part_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    url, ledger = f"ws://{address}", tmp_path / "ledger.db"
    environment = {"A2A_STATE_DIR": str(tmp_path / "state"), "A2A_URL": url}
    monkeypatch.setenv("A2A_STATE_DIR", environment["A2A_STATE_DIR"])
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    command = ("-m", "a2a", "coordinator", "run", "--listen", address, "--db", str(ledger), "--ready-json")
    coordinator = Post("coordinator", command, tmp_path, environment)
    orchestrator = Post("orchestrator", ("-m", "reference_agents.orchestrator"), tmp_path, environment)
    counting = Counting()
    try:
        await coordinator.start()
        assert await coordinator.line()
        async with asyncio.timeout(BOUND), running(counting.agent, url), a2a.connect(url) as client:
            # Each kill is a loss of its agent, and one more than the limit would end the task.
            asked = client.delegate("count_document", {"text": TEXT}, "document", losses=KILLS)
            async with asked as task:
                await orchestrator.start()
                events = client.watch(task.id)
                for kill in range(KILLS):
                    while (await anext(events)).kind not in ("grant", "accept"):
                        pass  # until the process that was just started is at work
                    if kill == 0:
                        await counting.until(begun=1)  # the others are being delegated
                    elif kill == 1:
                        await counting.until(begun=PARTS)  # it waits for all of them
                    else:
                        counting.may_end.release()
                        counting.may_end.release()
                        await counting.until(
                            ended=2 * (kill - 1)
                        )  # reports, reviews and confirmations are on their way
                    await orchestrator.kill()
                    await orchestrator.start()
                for _ in range(PARTS):
                    counting.may_end.release()
                assert await task.result() == {"words": len(TEXT.split())}
            await events.aclose()
            heard = Heard({"document": task.id}, {"document": {"words": len(TEXT.split())}})
        await orchestrator.end()
        await coordinator.end()
    finally:
        await orchestrator.clear_away()
        await coordinator.clear_away()

    records = await read_ledger(ledger)
    assert judge(records, heard).wrong() == []
    children = {record.task: record.key for record in records if isinstance(record, Delegated) and record.parent}
    assert Counter(children.values()) == Counter(f"part-{number}" for number in range(PARTS))
    story = [
        (record.task, type(record))
        for record in records
        if isinstance(record, Offered | Reported) and record.task in children
    ]
    assert Counter(story) == Counter((child, kind) for child in children for kind in (Offered, Reported))
    assert counting.begun == Counter(list(children))
    attempts = [record for record in records if isinstance(record, Offered) and record.task == task.id]
    assert len(attempts) == KILLS + 1
