"""The benchmark `stream`: what a handler tells while it works, eight tasks at a time that each tell a hundred times.

`stream.artifact` is chunks of an artifact: each is kept, answered when it is durable, and reaches whoever follows the
task. `stream.progress` is how far a handler says it is: told with heartbeats, so that of many said at once only the
latest travels; the figure is how many may be said. The relay forwards as many frames and keeps none.
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
    """Medians of the rounds, for a chunk rather than a task, each beside the relay's."""
    found: list[Result] = []
    for name in ("relay.stream", "stream.artifact", "stream.progress"):
        sample = median(samples[name])
        throughput = Result(f"{name}.throughput", round(sample.throughput * CHUNKS, 1), "chunks/s")
        cpu = Result(f"{name}.cpu", round(sample.router_cpu / CHUNKS, 2), "us/chunk")
        found += [throughput, cpu] if not found else [throughput.against(found[0]), cpu.against(found[1])]
    return found
