from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import delegate
from benchmarks.__main__ import main
from benchmarks.machine import disk_directory
from benchmarks.report import Result
from benchmarks.rounds import Sample

SIDES = ["relay", "delegate", "delegate.confirmed", "relay.many", "delegate.many"]
NAMES = [f"{side}.{figure}" for side in SIDES for figure in ("throughput", "sequential.p50", "cpu")]


def test_every_figure_of_the_coordinator_stands_beside_the_relay_with_as_many_connections() -> None:
    results = delegate.results(
        {
            "relay": [Sample(20000.0, 40.0, 0.2)],
            "delegate": [Sample(10000.0, 50.0, 0.5)],
            "confirmed": [Sample(5000.0, 80.0, 0.8)],
            "relay.many": [Sample(10000.0, 50.0, 0.3)],
            "delegate.many": [Sample(4000.0, 100.0, 0.6)],
        }
    )
    assert [result.name for result in results] == NAMES
    assert results[3:7] == [
        Result("delegate.throughput", 10000.0, "tasks/s", 0.5, "relay.throughput"),
        Result("delegate.sequential.p50", 0.5, "ms", 2.5, "relay.sequential.p50"),
        Result("delegate.cpu", 50.0, "us/task", 1.25, "relay.cpu"),
        Result("delegate.confirmed.throughput", 5000.0, "tasks/s", 0.25, "relay.throughput"),
    ]
    assert results[-3:] == [
        Result("delegate.many.throughput", 4000.0, "tasks/s", 0.4, "relay.many.throughput"),
        Result("delegate.many.sequential.p50", 0.6, "ms", 2.0, "relay.many.sequential.p50"),
        Result("delegate.many.cpu", 100.0, "us/task", 2.0, "relay.many.cpu"),
    ]
    assert all(result.ratio is None and result.ratio_to is None for result in results[:3])


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
