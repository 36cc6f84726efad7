"""The benchmark `idle`: what agents cost that are connected and have nothing to do.

Ten thousand agents with a card each, on connections of raw frames from two processes. They answer the coordinator's
pings and send none, since one ping shows both ends that the other is there. Memory is what the coordinator has resident
once all have joined; processor time is taken over the time in which each of them is pinged once.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks import crowd
from benchmarks.machine import cpu_seconds, memory_mb
from benchmarks.processes import Processes
from benchmarks.report import BenchmarkError, Options, Result
from benchmarks.wire import raise_file_limit

__all__ = ["run"]

AGENTS, AGENTS_QUICK = 10_000, 200
CROWDS = 2
SECONDS, SECONDS_QUICK = 35.0, 1.0
"""A silent peer is pinged after 30 seconds, and the first ones again within these."""
OTHER_FILES = 100
"""Files a process has open besides its connections, and some to spare."""
JOIN_WITHIN = 300.0


async def run(options: Options) -> list[Result]:
    """Measure with all agents connected."""
    wanted, seconds = (AGENTS_QUICK, SECONDS_QUICK) if options.is_quick else (AGENTS, SECONDS)
    agents = min(wanted, raise_file_limit(wanted + OTHER_FILES) - OTHER_FILES)
    if agents < wanted:
        print(f"the machine allows no more than {agents} connections of {wanted}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="a2a-benchmark-", dir=options.directory) as name:
        directory = Path(name)
        async with Processes(directory) as processes:
            coordinator, ready = await crowd.start_coordinator(processes, directory)
            empty = memory_mb(coordinator.pid)
            begin, before = asyncio.get_running_loop().time(), cpu_seconds(coordinator.pid)
            for number in range(CROWDS):
                process = await crowd.start(processes, ready, options.loop, f"crowd-{number}")
                share = agents // CROWDS + (number < agents % CROWDS)
                answer = await process.ask({"order": "join", "count": share, "credit": 4}, within=JOIN_WITHIN)
                if answer["agents"] != share:
                    raise BenchmarkError(f"{answer['agents']} agents came of {share}")
            joined = cpu_seconds(coordinator.pid) - before
            print(f"{agents} agents, {asyncio.get_running_loop().time() - begin:.1f} s to join", file=sys.stderr)
            full = memory_mb(coordinator.pid)
            before = cpu_seconds(coordinator.pid)
            await asyncio.sleep(seconds)
            share_of_core = (cpu_seconds(coordinator.pid) - before) / seconds
            full = max(full, memory_mb(coordinator.pid))
    return [
        Result("idle.agents", agents, "agents"),
        Result("idle.memory", round(full, 1), "MB"),
        Result("idle.memory.each", round((full - empty) / agents * 1000, 2), "kB"),
        Result("idle.cpu", round(share_of_core * 100, 2), "% of a core"),
        Result("idle.join.cpu", round(joined / agents * 1e6, 1), "us/agent"),
    ]
