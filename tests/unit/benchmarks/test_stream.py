from __future__ import annotations

from benchmarks import stream
from benchmarks.load import CHUNKS
from benchmarks.report import Result
from benchmarks.rounds import Sample


def test_the_figures_are_of_a_chunk_and_stand_beside_the_relay() -> None:
    assert CHUNKS == 100
    results = stream.results(
        {
            "relay.stream": [Sample(200.0, 1000.0, 5.0)],
            "stream.artifact": [Sample(20.0, 8000.0, 50.0)],
            "stream.progress": [Sample(100.0, 500.0, 10.0)],
        }
    )
    assert results == [
        Result("relay.stream.throughput", 20000.0, "chunks/s"),
        Result("relay.stream.cpu", 10.0, "us/chunk"),
        Result("stream.artifact.throughput", 2000.0, "chunks/s", 0.1, "relay.stream.throughput"),
        Result("stream.artifact.cpu", 80.0, "us/chunk", 8.0, "relay.stream.cpu"),
        Result("stream.progress.throughput", 10000.0, "chunks/s", 0.5, "relay.stream.throughput"),
        Result("stream.progress.cpu", 5.0, "us/chunk", 0.5, "relay.stream.cpu"),
    ]
