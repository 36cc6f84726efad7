"""The benchmark `peers`: a delegation compared with other systems under the same load, in the same run.

Client, router and worker are separate processes everywhere; text, answer and load are those of `delegate`. None of the
peers does what a coordinator does: its figures say what is missing. A peer whose packages are not available, or that
does not start, is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import delegate
from benchmarks.peers import a2a_sdk, crossbar, nats
from benchmarks.peers.environments import provide, requirements
from benchmarks.processes import Processes, running
from benchmarks.report import BenchmarkError, Note, Options, Result
from benchmarks.rounds import Sample, Side, interleave, median

__all__ = ["PEERS", "Peer", "results", "run"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A system to compare with."""

    requirements: str
    """The name of its file of requirements."""
    lacks: str
    """What it does not do, for readers who compare."""
    start: Callable[[Processes, Path, Path, str], Awaitable[Side]]
    """Starts its processes: with a directory to write to, its environment, and the event loop of the run."""


PEERS = {
    "crossbar": Peer("crossbar", crossbar.LACKS, crossbar.start),
    "nats": Peer("nats", nats.LACKS, nats.start),
    "a2a-sdk": Peer("a2a_sdk", a2a_sdk.LACKS, a2a_sdk.start),
}


async def run(options: Options) -> list[Result | Note]:
    """Measure a delegation and all available peers, interleaved."""
    if options.slow_sync_us:
        return [Note("peers", "skipped: a slower disk would be the coordinator's alone")]
    notes: dict[str, str] = {}
    homes: dict[str, Path] = {}
    for name, peer in PEERS.items():
        try:
            homes[name] = await provide(peer.requirements)
        except BenchmarkError as exc:
            notes[name] = f"skipped, its packages cannot be had: {exc}"
    async with running(options.directory) as (processes, directory):
        sides = (await delegate.start(processes, directory, options))[:1]
        for name, home in homes.items():
            try:
                sides.append(await PEERS[name].start(processes, directory, home, options.loop))
            except BenchmarkError as exc:
                notes[name] = f"skipped, it did not start: {exc}"
        return results(await interleave(sides, options), notes)


def results(samples: Mapping[str, list[Sample]], skipped: Mapping[str, str]) -> list[Result | Note]:
    """Return the medians of the rounds: the delegation's with ratios to each peer's, and what the peer does not do."""
    ours = median(samples["delegate"]).results("delegate")
    found: list[Result | Note] = [*ours]
    for name, peer in PEERS.items():
        if name in skipped:
            found.append(Note(f"peers.{name}", skipped[name]))
            continue
        theirs = median(samples[name]).results(f"peers.{name}")
        found += theirs
        for mine, other in zip(ours, theirs, strict=True):
            figure = mine.name.removeprefix("delegate.")
            found.append(Result(f"delegate.to.{name}.{figure}", mine.value, mine.unit).against(other))
        found.append(
            Note(f"peers.{name}", f"{', '.join(requirements(peer.requirements))}; what it lacks: {peer.lacks}")
        )
    return found
