"""The benchmark `long`: whether the millionth task costs what the thousandth did, and how much the memory grows.

A real coordinator, a client and eight agents on connections of raw frames, a million tasks with 64 of them open at a
time. Processor time is all that the coordinator used, including its writer and the processes that make snapshots, over
equally many tasks from the thousandth on and up to the last: as many as two snapshots cover. Settled tasks leave memory
after a second (`--linger 1`), so that the first tasks measured go into the archive as the last do.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import crowd
from benchmarks.machine import cpu_seconds, memory_mb
from benchmarks.processes import Processes
from benchmarks.report import Options, Result

__all__ = ["results", "run"]

TASKS, TASKS_QUICK = 1_000_000, 4_000
WINDOW, WINDOW_QUICK = 25_000, 1_000
"""Tasks over which the cost is taken; each is four records."""
FIRST = 1_000
PIECE = 100_000
AGENTS, CREDIT, IN_FLIGHT = 8, 16, 64
TASKS_PER_SECOND = 200
"""A machine that does fewer is stuck."""


async def run(options: Options, tasks: int | None = None) -> list[Result]:
    """Measure at the beginning and at the end of a run of this many tasks."""
    window = WINDOW_QUICK if options.is_quick else WINDOW
    tasks = tasks or (TASKS_QUICK if options.is_quick else TASKS)
    with tempfile.TemporaryDirectory(prefix="a2a-benchmark-", dir=options.directory) as name:
        directory = Path(name)
        async with Processes(directory) as processes:
            coordinator, ready = await crowd.start_coordinator(processes, directory, "--linger", "1")
            peers = await crowd.start(processes, ready, options.loop)
            await peers.ask({"order": "join", "count": AGENTS, "credit": CREDIT}, within=30.0)

            async def work(count: int) -> float:
                """Have this many tasks done, and return the processor time of each."""
                before = cpu_seconds(coordinator.pid)
                order = {"order": "run", "in_flight": IN_FLIGHT, "tasks": count}
                done = await peers.ask(order, within=30.0 + count / TASKS_PER_SECOND)
                return (cpu_seconds(coordinator.pid) - before) / float(done["tasks"])

            await work(FIRST)
            first = await work(window)
            memory, done = memory_mb(coordinator.pid), FIRST + window
            while done < tasks - window:
                count = min(PIECE, tasks - window - done)
                cost = await work(count)
                done += count
                grown = memory_mb(coordinator.pid) - memory
                print(f"{done:9,} tasks  {cost * 1e6:6.1f} us/task  {grown:+7.1f} MB", file=sys.stderr)
            last = await work(window)
            grown = memory_mb(coordinator.pid) - memory
    return results(tasks, first, last, grown)


def results(tasks: int, first: float, last: float, grown: float) -> list[Result]:
    """Return the cost of the last tasks with its ratio to that of the first."""
    early = Result("long.first.cpu", round(first * 1e6, 1), "us/task")
    late = Result("long.last.cpu", round(last * 1e6, 1), "us/task")
    return [
        Result("long.tasks", tasks, "tasks"),
        early,
        late.against(early),
        Result("long.memory", round(grown, 1), "MB"),
    ]
