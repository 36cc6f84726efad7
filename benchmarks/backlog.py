"""The benchmark `backlog`: what a long queue costs the agents that work it off.

Two hundred agents that take one task at a time, and one client. On the empty side the client keeps as many tasks open
as there are agents; on the other side a hundred thousand more are in the queue, for the same agents, and each task that
ends is followed by another. All agents are busy on both sides. The empty side is measured before and after the other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import crowd
from benchmarks.machine import cpu_seconds
from benchmarks.processes import Process, Processes
from benchmarks.report import Options, Result

__all__ = ["run"]

AGENTS, AGENTS_QUICK = 200, 20
QUEUED, QUEUED_QUICK = 100_000, 500
SECONDS, SECONDS_QUICK = 4.0, 0.5
PATIENCE = 300.0


class _Load:
    """The runner's orders, and what they cost the coordinator."""

    def __init__(self, coordinator: Process, peers: Process, seconds: float) -> None:
        self._coordinator, self._peers, self._seconds = coordinator, peers, seconds

    async def order(self, name: str, **fields: Any) -> dict[str, Any]:
        return await self._peers.ask({"order": name, **fields}, within=PATIENCE)

    async def measure(self, in_flight: int) -> tuple[float, float, float]:
        """Return (tasks, seconds, seconds of the coordinator's processor time)."""
        before = cpu_seconds(self._coordinator.pid)
        answer = await self.order("run", in_flight=in_flight, seconds=self._seconds)
        return answer["tasks"], answer["seconds"], cpu_seconds(self._coordinator.pid) - before


async def run(options: Options) -> list[Result]:
    """Measure without a queue, with it, and without it again."""
    agents, queued, seconds = AGENTS, QUEUED, SECONDS
    if options.is_quick:
        agents, queued, seconds = AGENTS_QUICK, QUEUED_QUICK, SECONDS_QUICK
    with tempfile.TemporaryDirectory(prefix="a2a-benchmark-", dir=options.directory) as name:
        directory = Path(name)
        async with Processes(directory) as processes:
            coordinator, ready = await crowd.start_coordinator(processes, directory)
            load = _Load(coordinator, await crowd.start(processes, ready, options.loop), seconds)
            await load.order("join", count=agents, credit=1)
            await load.order("run", in_flight=agents, seconds=options.warm_up_seconds)
            before = await load.measure(agents)
            await load.order("drain")
            await load.order("credit", tasks=0)
            await load.order("fill", tasks=queued + agents)
            await load.order("credit", tasks=1)
            await load.order("run", in_flight=queued + agents, seconds=options.warm_up_seconds)
            full = await load.measure(queued + agents)
            await load.order("drain")
            after = await load.measure(agents)
    return results(before, full, after)


Measured = tuple[float, float, float]


def results(before: Measured, full: Measured, after: Measured) -> list[Result]:
    """Return the figures of the long queue with their ratio to the empty one, which was measured twice."""
    tasks, seconds, cpu = (one + other for one, other in zip(before, after, strict=True))
    empty = Result("backlog.empty.throughput", round(tasks / seconds, 1), "tasks/s")
    empty_cpu = Result("backlog.empty.cpu", round(cpu / tasks * 1e6, 1), "us/task")
    throughput = Result("backlog.throughput", round(full[0] / full[1], 1), "tasks/s")
    cpu_of_full = Result("backlog.cpu", round(full[2] / full[0] * 1e6, 1), "us/task")
    return [empty, empty_cpu, throughput.against(empty), cpu_of_full.against(empty_cpu)]
