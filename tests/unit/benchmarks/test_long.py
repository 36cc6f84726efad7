from __future__ import annotations

from collections.abc import Callable

from benchmarks import long
from benchmarks.report import Result


def test_the_last_tasks_stand_beside_the_first() -> None:
    assert long.results(9, 0.0002, 0.00025, 12.34) == [
        Result("long.tasks", 9, "tasks"),
        Result("long.first.cpu", 200.0, "us/task"),
        Result("long.last.cpu", 250.0, "us/task", 1.25, "long.first.cpu"),
        Result("long.memory", 12.3, "MB"),
    ]


def test_a_quick_run_has_fewer_tasks_and_the_same_figures(quick: Callable[[str], dict[str, float]]) -> None:
    found = quick("long")
    assert list(found) == ["long.tasks", "long.first.cpu", "long.last.cpu", "long.memory"]
    assert found["long.tasks"] == long.TASKS_QUICK
