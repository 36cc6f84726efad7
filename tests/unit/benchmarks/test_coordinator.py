from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import coordinator
from benchmarks.machine import event_loop_of, installed_event_loop
from benchmarks.processes import Processes
from benchmarks.report import BenchmarkError, Options


async def test_agents_and_client_of_each_connection_are_there(tmp_path: Path) -> None:
    loop = installed_event_loop()
    options = Options(tmp_path, loop, throughput_seconds=0.2, sequential_seconds=0.1)
    async with Processes(tmp_path) as processes:
        routed = await coordinator.start(processes, tmp_path, options, connections=3)
        assert event_loop_of(routed.router.pid) == event_loop_of(routed.client.pid) == loop
        sample = await routed.side("delegate.many", "delegate").sample(options)
    assert sample.throughput > 0
    assert sample.router_cpu > 0
    assert (tmp_path / "coordinator-of-3.db").exists()


async def test_an_agent_that_ends_early_is_what_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(coordinator.HOSTED, "nobody", "nothing")  # the agents' own process does not know it
    async with Processes(tmp_path) as processes:
        with pytest.raises(BenchmarkError, match=r"(?s)the coordinator: nobody ended early.*invalid choice"):
            await coordinator.start(processes, tmp_path, Options(tmp_path, installed_event_loop()), hosts=["nobody"])
