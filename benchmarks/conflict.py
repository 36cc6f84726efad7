"""The benchmark `conflict`: three agents do the same task, one of them wrongly, and the majority decides.

Every task has three attempts, opens a conflict and resolves it by the first rung of its ladder. It is compared with a
plain delegation through the same coordinator in the same run.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import coordinator
from benchmarks.processes import running
from benchmarks.report import Options, Result
from benchmarks.rounds import Sample, beside, interleave

__all__ = ["results", "run"]


async def run(options: Options) -> list[Result]:
    """Measure both sides in one run."""
    async with running(options.directory) as (processes, directory):
        routed = await coordinator.start(processes, directory, options, hosts=("worker", "voters"))
        sides = [routed.side("delegate", "delegate"), routed.side("conflict", "conflict")]
        return results(await interleave(sides, options))


def results(samples: Mapping[str, list[Sample]]) -> list[Result]:
    """Return the medians of the rounds, each with its ratio to the plain delegation's."""
    return beside(samples, "delegate", {"conflict": "conflict"})
