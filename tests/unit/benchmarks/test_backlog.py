from __future__ import annotations

from collections.abc import Callable

from benchmarks import backlog
from benchmarks.report import Result


def test_the_long_queue_stands_beside_the_empty_one() -> None:
    assert backlog.results((100, 1.0, 0.02), (400, 1.0, 0.16), (300, 1.0, 0.06)) == [
        Result("backlog.empty.throughput", 200.0, "tasks/s"),
        Result("backlog.empty.cpu", 200.0, "us/task"),
        Result("backlog.throughput", 400.0, "tasks/s", 2.0, "backlog.empty.throughput"),
        Result("backlog.cpu", 400.0, "us/task", 2.0, "backlog.empty.cpu"),
    ]


def test_a_quick_run_has_a_shorter_queue_and_the_same_figures(quick: Callable[[str], dict[str, float]]) -> None:
    found = quick("backlog")
    assert list(found) == ["backlog.empty.throughput", "backlog.empty.cpu", "backlog.throughput", "backlog.cpu"]
    assert all(value > 0 for value in found.values())
