"""The benchmark `fanout`: a task that an agent has done by 1, 4, 16 or 64 sub-tasks at once; the time to all results.

The sub-tasks are tasks like any other: durable, leased, each with its own verdict. The relay knows no parent tasks:
there the client itself sends as many at once and waits for all answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import coordinator, relay
from benchmarks.load import CHILDREN
from benchmarks.processes import running
from benchmarks.report import Options, Result
from benchmarks.rounds import Sample, interleave, median

__all__ = ["results", "run"]


async def run(options: Options) -> list[Result]:
    """Measure every width on both sides, one task at a time."""
    async with running(options.directory) as (processes, directory):
        relayed = await relay.start(processes, options.loop)
        delegated = await coordinator.start(processes, directory, options, hosts=("worker", "lead"))
        sides = [
            routed.side(f"{prefix}fanout.{children}", f"fanout.{children}", in_flight=1)
            for children in CHILDREN
            for prefix, routed in (("relay.", relayed), ("", delegated))
        ]
        return results(await interleave(sides, options))


def results(samples: Mapping[str, list[Sample]]) -> list[Result]:
    """Return the medians of the rounds, each with its ratio to the relay's."""
    found = []
    for children in CHILDREN:
        relayed, delegated = (
            Result(f"{name}.p50", round(median(samples[name]).sequential_p50, 4), "ms")
            for name in (f"relay.fanout.{children}", f"fanout.{children}")
        )
        found += [relayed, delegated.against(relayed)]
    return found
