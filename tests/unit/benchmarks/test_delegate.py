from __future__ import annotations

from benchmarks import delegate
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
