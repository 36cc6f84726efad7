from __future__ import annotations

from benchmarks import conflict
from benchmarks.report import Result
from benchmarks.rounds import Sample


def test_time_and_processor_stand_beside_a_plain_delegation() -> None:
    results = conflict.results({"delegate": [Sample(4000.0, 200.0, 2.0)], "conflict": [Sample(500.0, 1600.0, 5.0)]})
    assert results[3:] == [
        Result("conflict.throughput", 500.0, "tasks/s", 0.125, "delegate.throughput"),
        Result("conflict.sequential.p50", 5.0, "ms", 2.5, "delegate.sequential.p50"),
        Result("conflict.cpu", 1600.0, "us/task", 8.0, "delegate.cpu"),
    ]
