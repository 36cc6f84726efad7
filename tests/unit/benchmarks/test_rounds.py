from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import rounds
from benchmarks.processes import Process
from benchmarks.report import BenchmarkError, Options, Result
from benchmarks.rounds import IN_FLIGHT, Routed, Sample, Side, beside, expect_event_loop, interleave, median


@dataclass
class FakeProcess:
    """Answers every phase alike and keeps what was asked."""

    name: str = "fake"
    pid: int = 1
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    async def ask(self, question: Mapping[str, Any], *, within: float) -> dict[str, Any]:
        assert within > question["seconds"]
        self.asked.append(question)
        return {"tasks": 200, "seconds": 2.0, "p50_seconds": 0.004, "router_cpu_seconds": 0.01}


def side(name: str, process: FakeProcess) -> Side:
    return Side(name, cast(Process, process), cast(Process, process), call=name)


def test_another_event_loop_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "event_loop_of", lambda pid: "asyncio")
    expect_event_loop(cast(Process, FakeProcess()), "asyncio")
    with pytest.raises(BenchmarkError, match="expected every process on uvloop, but the fake is on asyncio"):
        expect_event_loop(cast(Process, FakeProcess()), "uvloop")


async def test_a_side_on_another_event_loop_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "event_loop_of", lambda pid: "asyncio")
    process = FakeProcess()
    with pytest.raises(BenchmarkError):
        await interleave([side("one", process)], Options(tmp_path, "uvloop"))
    assert process.asked == []


async def test_a_router_without_an_event_loop_of_the_run_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "event_loop_of", lambda pid: "uvloop" if pid == 2 else "asyncio")
    router, client = cast(Process, FakeProcess(pid=1)), cast(Process, FakeProcess(pid=2))
    other = Side("other", router, client, "any", is_on_loop=False)
    assert await interleave([other], Options(tmp_path, "uvloop", rounds=1))
    with pytest.raises(BenchmarkError):
        await interleave([replace(other, is_on_loop=True)], Options(tmp_path, "uvloop", rounds=1))
    with pytest.raises(BenchmarkError):
        await interleave([replace(other, client=router)], Options(tmp_path, "uvloop", rounds=1))


async def test_sides_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "event_loop_of", lambda pid: "asyncio")
    process = FakeProcess()
    samples = await interleave([side("one", process), side("two", process)], Options(tmp_path, "asyncio", rounds=3))

    assert samples == {"one": [Sample(100.0, 50.0, 4.0)] * 3, "two": [Sample(100.0, 50.0, 4.0)] * 3}
    warm_up = [("one", IN_FLIGHT), ("two", IN_FLIGHT)]
    turn = [("one", IN_FLIGHT), ("one", 1), ("two", IN_FLIGHT), ("two", 1)]
    assert [(asked["call"], asked["in_flight"]) for asked in process.asked] == warm_up + 3 * turn


async def test_one_in_flight_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "event_loop_of", lambda pid: "asyncio")
    process = FakeProcess()
    routed = Routed(cast(Process, process), cast(Process, process))
    large = routed.side("large", "any", in_flight=1, repeats=4096)
    samples = await interleave([large], Options(tmp_path, "asyncio", rounds=1))

    assert samples == {"large": [Sample(100.0, 50.0, 4.0)]}
    assert [(asked["in_flight"], asked["repeats"]) for asked in process.asked] == 2 * [(1, 4096)]


def test_the_median_is_taken_of_each_figure() -> None:
    samples = [Sample(1.0, 30.0, 5.0), Sample(3.0, 10.0, 4.0), Sample(2.0, 20.0, 9.0)]
    assert median(samples) == Sample(2.0, 20.0, 5.0)


def test_the_figures_of_a_side_stand_beside_those_of_another() -> None:
    samples = {"one": [Sample(100.0, 10.0, 4.0)] * 3, "other.side": [Sample(50.0, 30.0, 2.0)] * 3}
    assert beside(samples, "one", {"other.side": "other"}) == [
        Result("one.throughput", 100.0, "tasks/s"),
        Result("one.sequential.p50", 4.0, "ms"),
        Result("one.cpu", 10.0, "us/task"),
        Result("other.throughput", 50.0, "tasks/s", 0.5, "one.throughput"),
        Result("other.sequential.p50", 2.0, "ms", 0.5, "one.sequential.p50"),
        Result("other.cpu", 30.0, "us/task", 3.0, "one.cpu"),
    ]
