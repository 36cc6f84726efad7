"""The benchmark `delegate`: what discovery, leases and a durable ledger cost on top of forwarding bytes.

A client process delegates a text of 256 bytes, and a worker process answers at once with as many, through a coordinator
whose ledger is SQLite on a disk with fsync. The sides of one run, interleaved, are: `relay` (see `benchmarks.relay`),
`delegate` (automatic acceptance), `confirmed` (the client reviews the result and confirms it), and the same load spread
over many connections, 50 of clients and 50 of workers: `relay.many` and `delegate.many`. There too, worker and client
are one process each, with a connection for every agent and for every client.

`sync.p50` is what one sync costs on the disk of the run: each sequential delegation contains several.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import coordinator, disk, relay
from benchmarks.processes import Processes, running
from benchmarks.report import Options, Result
from benchmarks.rounds import Sample, Side, beside, interleave

__all__ = ["results", "run", "start"]

CONNECTIONS = 50
"""Connections of `many` on either side: more than have a task open at once, so that batches stay small."""


async def start(processes: Processes, directory: Path, options: Options) -> list[Side]:
    """Start coordinator, worker and client; the two sides share them."""
    routed = await coordinator.start(processes, directory, options)
    return [routed.side("delegate", "delegate"), routed.side("confirmed", "confirmed")]


async def run(options: Options) -> list[Result]:
    """Measure all sides in one run."""
    async with running(options.directory) as (processes, directory):
        sides = [
            (await relay.start(processes, options.loop)).side("relay", "relay"),
            *await start(processes, directory, options),
        ]
        relayed = await relay.start(processes, options.loop, CONNECTIONS)
        delegated = await coordinator.start(processes, directory, options, connections=CONNECTIONS)
        sides += [relayed.side("relay.many", "relay"), delegated.side("delegate.many", "delegate")]
        before = await disk.sync_p50_ms(processes, directory, options)
        samples = await interleave(sides, options)
        after = await disk.sync_p50_ms(processes, directory, options)
        return [Result("sync.p50", round((before + after) / 2, 4), "ms"), *results(samples)]


def results(samples: Mapping[str, list[Sample]]) -> list[Result]:
    """Return the medians of the rounds, each with its ratio to the relay's on as many connections."""
    one = beside(samples, "relay", {"delegate": "delegate", "confirmed": "delegate.confirmed"})
    return one + beside(samples, "relay.many", {"delegate.many": "delegate.many"})
