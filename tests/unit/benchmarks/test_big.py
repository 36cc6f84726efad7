from __future__ import annotations

from benchmarks import big
from benchmarks.load import TEXT
from benchmarks.report import Result
from benchmarks.rounds import Sample


def test_the_text_is_a_mebibyte() -> None:
    assert len(TEXT) * big.REPEATS == 1024 * 1024


def test_every_figure_stands_beside_the_relay_with_the_same_payloads() -> None:
    results = big.results({"relay.big": [Sample(400.0, 2000.0, 4.0)], "big": [Sample(100.0, 8000.0, 12.0)]})
    assert results[:3] == Sample(400.0, 2000.0, 4.0).results("relay.big")
    assert results[3:] == [
        Result("big.throughput", 100.0, "tasks/s", 0.25, "relay.big.throughput"),
        Result("big.sequential.p50", 12.0, "ms", 3.0, "relay.big.sequential.p50"),
        Result("big.cpu", 8000.0, "us/task", 4.0, "relay.big.cpu"),
    ]
