"""The benchmark `big`: tasks of 1 MiB that are answered with 1 MiB, eight in flight.

A payload is stored once and passed on unchanged; the relay has the same payloads and stores nothing. A full run keeps
some gigabytes until its end.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import coordinator, relay
from benchmarks.load import TEXT
from benchmarks.processes import running
from benchmarks.report import Options, Result
from benchmarks.rounds import Sample, beside, interleave

__all__ = ["results", "run"]

REPEATS = 1024 * 1024 // len(TEXT)
IN_FLIGHT = 8


async def run(options: Options) -> list[Result]:
    """Measure both sides in one run."""
    async with running(options.directory) as (processes, directory):
        relayed = await relay.start(processes, options.loop)
        delegated = await coordinator.start(processes, directory, options)
        sides = [
            relayed.side("relay.big", "relay", in_flight=IN_FLIGHT, repeats=REPEATS),
            delegated.side("big", "delegate", in_flight=IN_FLIGHT, repeats=REPEATS),
        ]
        return results(await interleave(sides, options))


def results(samples: Mapping[str, list[Sample]]) -> list[Result]:
    """Return the medians of the rounds, each with its ratio to the relay's."""
    return beside(samples, "relay.big", {"big": "big"})
