from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import pytest

import a2a
from benchmarks import delegate
from benchmarks.__main__ import main
from benchmarks.machine import disk_directory
from benchmarks.report import BenchmarkError, Result
from benchmarks.rounds import Sample

NAMES = [
    "relay.throughput",
    "relay.sequential.p50",
    "relay.cpu",
    "delegate.throughput",
    "delegate.sequential.p50",
    "delegate.cpu",
    "delegate.confirmed.throughput",
    "delegate.confirmed.sequential.p50",
]


def test_every_figure_of_the_coordinator_stands_beside_the_relay() -> None:
    results = delegate.results(
        {
            "relay": [Sample(20000.0, 40.0, 0.2)],
            "delegate": [Sample(10000.0, 50.0, 0.5)],
            "confirmed": [Sample(5000.0, 80.0, 0.8)],
        }
    )
    assert [result.name for result in results] == NAMES
    assert results[3:] == [
        Result("delegate.throughput", 10000.0, "tasks/s", 0.5, "relay.throughput"),
        Result("delegate.sequential.p50", 0.5, "ms", 2.5, "relay.sequential.p50"),
        Result("delegate.cpu", 50.0, "us/task", 1.25, "relay.cpu"),
        Result("delegate.confirmed.throughput", 5000.0, "tasks/s", 0.25, "relay.throughput"),
        Result("delegate.confirmed.sequential.p50", 0.8, "ms", 4.0, "relay.sequential.p50"),
    ]
    assert all(result.ratio is None and result.ratio_to is None for result in results[:3])


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
        await delegate.client("ws://127.0.0.1:1", "token")


async def test_a_worker_that_does_not_join_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a, "connect", lambda **arguments: Session("fsync"))
    monkeypatch.setattr(delegate, "WORKER_WITHIN", 0.1)
    with pytest.raises(BenchmarkError, match=r"no agent with the skill reverse joined within 0\.1 s"):
        await delegate.client("ws://127.0.0.1:1", "token")


def test_a_quick_run_measures_every_side_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        disk_directory(tmp_path)
    except ValueError as exc:
        pytest.skip(str(exc))
    directory, own_state = tmp_path / "ledgers", tmp_path / "state"
    directory.mkdir()
    monkeypatch.setenv("A2A_STATE_DIR", str(own_state))

    code = main(["delegate", "--quick", "--json", "--dir", str(directory)])
    output, errors = capsys.readouterr()
    assert code == 0, errors
    machine, *results = [json.loads(line) for line in output.splitlines()]
    assert machine["name"] == "machine"
    assert [result["name"] for result in results] == NAMES
    assert all(result["value"] > 0 for result in results)
    assert not list(directory.iterdir())
    assert not own_state.exists()
