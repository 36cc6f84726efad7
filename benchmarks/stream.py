"""The benchmark `stream`: what a handler's updates cost, with eight tasks at a time that each send a hundred.

`stream.artifact` is chunks of an artifact: each is kept, answered when it is durable, and reaches every follower of the
task. `stream.progress` is a handler's progress: heartbeats carry it, so that of many updates at once only the latest is
sent; the figure is how many updates a handler may make. The relay forwards as many frames and keeps none.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import coordinator, relay
from benchmarks.load import CHUNKS
from benchmarks.processes import running
from benchmarks.report import Options, Result
from benchmarks.rounds import Sample, interleave, median

__all__ = ["results", "run"]

IN_FLIGHT = 8


async def run(options: Options) -> list[Result]:
    """Measure the three sides in one run."""
    async with running(options.directory) as (processes, directory):
        relayed = await relay.start(processes, options.loop)
        delegated = await coordinator.start(processes, directory, options)
        sides = [
            relayed.side("relay.stream", "stream", in_flight=IN_FLIGHT),
            delegated.side("stream.artifact", "artifact", in_flight=IN_FLIGHT),
            delegated.side("stream.progress", "progress", in_flight=IN_FLIGHT),
        ]
        return results(await interleave(sides, options))


def results(samples: Mapping[str, list[Sample]]) -> list[Result]:
    """Return the medians of the rounds, per chunk rather than per task, each with its ratio to the relay's."""
    found: list[Result] = []
    for name in ("relay.stream", "stream.artifact", "stream.progress"):
        sample = median(samples[name])
        throughput = Result(f"{name}.throughput", round(sample.throughput * CHUNKS, 1), "chunks/s")
        cpu = Result(f"{name}.cpu", round(sample.router_cpu / CHUNKS, 2), "us/chunk")
        found += [throughput, cpu] if not found else [throughput.against(found[0]), cpu.against(found[1])]
    return found
