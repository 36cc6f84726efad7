from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import crowd
from benchmarks.crowd import Crowd, start_coordinator
from benchmarks.processes import Processes
from benchmarks.report import BenchmarkError

from .test_wire import BOUND, coordinator


async def test_a_crowd_joins_fills_runs_and_drains() -> None:
    async with coordinator() as (server, url), asyncio.timeout(BOUND):
        peers = Crowd(url, "open", "them")
        assert await peers.obey({"order": "join", "count": 3, "credit": 0}) == {"agents": 3}
        assert await peers.obey({"order": "join", "count": 2, "credit": 0}) == {"agents": 5}
        assert await peers.obey({"order": "fill", "tasks": 40}) == {"open": 40}
        ledger = server.coordinator.ledger
        assert len(ledger.open_tasks) == 40
        await peers.obey({"order": "credit", "tasks": 1})
        assert (await peers.obey({"order": "run", "in_flight": 40, "tasks": 100}))["tasks"] == 100
        assert (await peers.obey({"order": "run", "in_flight": 40, "seconds": 0.05}))["seconds"] >= 0.05
        drained = await peers.obey({"order": "drain"})
        assert drained["tasks"] > 0
        assert not ledger.open_tasks
        assert {task.state.value for task in ledger.tasks.values()} == {"completed"}
        assert sorted(server.coordinator.live.agents) == [
            "them-00000",
            *(f"them-0000{n}" for n in range(1, 5)),
            "them-client",
        ]


async def test_a_crowd_that_lost_somebody_says_so() -> None:
    async with coordinator() as (server, url), asyncio.timeout(BOUND):
        peers = Crowd(url, "open", "them")
        await peers.obey({"order": "join", "count": 1, "credit": 1})
        (there,) = server._peers.values()
        assert there.transport is not None
        there.transport.abort()
        while peers._agents[0].ended is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        with pytest.raises(BenchmarkError, match="1 connections are lost, them-00000"):
            await peers.obey({"order": "credit", "tasks": 1})


async def test_a_coordinator_without_fsync_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def started(self: Processes, *arguments: str, **options: object) -> tuple[None, dict[str, str]]:
        return None, {"durability": "os"}

    monkeypatch.setattr(Processes, "start_ready", started)
    with pytest.raises(BenchmarkError, match="expected a coordinator with durability fsync, it announces os"):
        await start_coordinator(Processes(tmp_path), tmp_path)


def test_what_is_asked_and_answered_is_as_long_as_in_the_other_benchmarks() -> None:
    assert crowd.TEXT.encode() in crowd.PAYLOAD
    assert crowd.ANSWER.encode() in crowd.RESULT
