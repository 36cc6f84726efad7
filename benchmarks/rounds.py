"""Rounds: all sides are measured in turn, many times, so that disturbances of the machine affect all of them alike.

The runner's half of `load`: it orders phases from client processes and keeps what they measured. It does not know what
a side is made of.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.load import Figures, Phase
from benchmarks.machine import event_loop_of
from benchmarks.processes import Process
from benchmarks.report import BenchmarkError, Options, Result

__all__ = ["IN_FLIGHT", "Routed", "Sample", "Side", "beside", "expect_event_loop", "interleave", "median"]

IN_FLIGHT = 64
PHASE_GRACE = 60.0
"""Seconds a phase may take beyond its length before the run is given up."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round measured on one side."""

    throughput: float
    """Tasks per second with as many open as the side has in flight."""
    router_cpu: float
    """Microseconds of the router's processor time per task, in the same phase."""
    sequential_p50: float
    """Milliseconds of one task at a time, the median."""

    def results(self, name: str) -> list[Result]:
        """Return the three figures as results of the side with this name."""
        return [
            Result(f"{name}.throughput", round(self.throughput, 1), "tasks/s"),
            Result(f"{name}.sequential.p50", round(self.sequential_p50, 4), "ms"),
            Result(f"{name}.cpu", round(self.router_cpu, 1), "us/task"),
        ]


@dataclass(frozen=True, slots=True)
class Routed:
    """A running router, and a client that can put load on it."""

    router: Process
    client: Process

    def side(self, name: str, call: str, *, in_flight: int = IN_FLIGHT, repeats: int = 1) -> Side:
        """Name one way of putting load on it."""
        return Side(name, self.router, self.client, call, in_flight, repeats)


@dataclass(frozen=True, slots=True)
class Side:
    """Something to measure: a router, and one kind of call its client can make."""

    name: str
    router: Process
    client: Process
    call: str
    """The client's call for this side; two sides may share their processes."""
    in_flight: int = IN_FLIGHT
    repeats: int = 1
    """How often the text of 256 bytes is in the text of a task."""
    is_on_loop: bool = True
    """Whether the router runs on the event loop of the run; another system's router may have none."""

    async def warm_up(self, seconds: float) -> None:
        """Put load on the side and forget the figures."""
        await self._run(self.in_flight, seconds)

    async def sample(self, options: Options) -> Sample:
        """Measure one round."""
        load = await self._run(self.in_flight, options.throughput_seconds)
        alone = load if self.in_flight == 1 else await self._run(1, options.sequential_seconds)
        return Sample(
            throughput=load.tasks / load.seconds,
            router_cpu=load.router_cpu_seconds / load.tasks * 1e6,
            sequential_p50=alone.p50_seconds * 1e3,
        )

    async def _run(self, in_flight: int, seconds: float) -> Figures:
        phase = Phase(self.call, in_flight, seconds, self.router.pid, self.repeats)
        return Figures(**await self.client.ask(asdict(phase), within=seconds + PHASE_GRACE))


def expect_event_loop(process: Process, loop: str) -> None:
    """Refuse a process on another event loop: half of what a router costs is its loop."""
    if (found := event_loop_of(process.pid)) != loop:
        raise BenchmarkError(f"expected every process on {loop}, but the {process.name} is on {found}")


async def interleave(sides: Sequence[Side], options: Options) -> dict[str, list[Sample]]:
    """Measure all sides in turn for every round; report progress on stderr.

    Returns:
        The samples of each side by its name, one for each round.
    """
    for side in sides:
        for process in (side.router, side.client) if side.is_on_loop else (side.client,):
            expect_event_loop(process, options.loop)
        await side.warm_up(options.warm_up_seconds)
    width = max(len(side.name) for side in sides)
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for number in range(1, options.rounds + 1):
        for side in sides:
            sample = await side.sample(options)
            samples[side.name].append(sample)
            print(
                f"round {number} of {options.rounds}: {side.name:<{width}} {sample.throughput:9,.0f} tasks/s"
                f"  {sample.router_cpu:6.1f} us/task  {sample.sequential_p50:7.3f} ms",
                file=sys.stderr,
            )
    return samples


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each figure over the rounds."""
    return Sample(
        throughput=statistics.median(sample.throughput for sample in samples),
        router_cpu=statistics.median(sample.router_cpu for sample in samples),
        sequential_p50=statistics.median(sample.sequential_p50 for sample in samples),
    )


def beside(samples: Mapping[str, Sequence[Sample]], base: str, others: Mapping[str, str]) -> list[Result]:
    """Return the medians of the side `base`, then those of others with their ratio to it.

    Args:
        samples: of each side, by its name.
        base: the side that the ratios refer to.
        others: the names of the other sides, each with the name of its results.
    """
    first = median(samples[base]).results(base)
    found = list(first)
    for side, name in others.items():
        found += [each.against(to) for each, to in zip(median(samples[side]).results(name), first, strict=True)]
    return found
