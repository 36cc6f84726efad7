from __future__ import annotations

from benchmarks import fanout
from benchmarks.load import CHILDREN
from benchmarks.report import Result
from benchmarks.rounds import Sample


def test_each_width_stands_beside_the_relay_with_as_many_calls() -> None:
    assert CHILDREN == (1, 4, 16, 64)
    samples = {}
    for children in CHILDREN:
        samples[f"relay.fanout.{children}"] = [Sample(1.0, 1.0, 0.5 * children)]
        samples[f"fanout.{children}"] = [Sample(1.0, 1.0, 2.0 * children)]
    results = fanout.results(samples)
    assert results[:2] == [
        Result("relay.fanout.1.p50", 0.5, "ms"),
        Result("fanout.1.p50", 2.0, "ms", 4.0, "relay.fanout.1.p50"),
    ]
    assert results[-1] == Result("fanout.64.p50", 128.0, "ms", 4.0, "relay.fanout.64.p50")
    assert len(results) == 2 * len(CHILDREN)
