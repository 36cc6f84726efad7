"""A coordinator with a durable ledger, agents and a client, as processes: the measured side of most benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from benchmarks import disk
from benchmarks.agent import HOSTED, VOTERS
from benchmarks.processes import Process, Processes
from benchmarks.report import Options
from benchmarks.rounds import Routed, expect_event_loop

__all__ = ["start"]


async def start(
    processes: Processes, directory: Path, options: Options, *, hosts: Sequence[str] = ("worker",), connections: int = 1
) -> Routed:
    """Start a coordinator, the agents and a client that is connected to it.

    Args:
        processes: ends them.
        directory: the directory of the ledger and the tokens.
        options: the event loop they must run on, and the coordinator's disk.
        hosts: the agents, see `benchmarks.agent`; each entry is a process.
        connections: how many the client has; with more than one there are as many workers.
    """
    name = "coordinator" if connections == 1 else f"coordinator of {connections}"
    # Tokens and secrets go with the run, not into the user's own state directory.
    environment = {"A2A_STATE_DIR": str(directory / "state")}
    coordinator, ready = await processes.start_ready(
        name,
        *("-m", "a2a", "coordinator", "run", "--listen", "127.0.0.1:0"),
        *("--db", str(directory / f"{name.replace(' ', '-')}.db"), "--ready-json"),
        environment=environment | await disk.environment(directory, options),
    )
    reach = ("--url", ready["url"], "--token-file", ready["tokenFile"], "--loop", options.loop)
    agents: list[Process] = []
    expected: list[str] = []
    for host in hosts:
        role = ("-m", "benchmarks.agent", *reach, "--hosts", host, "--agents", str(connections))
        agents.append(await processes.start(f"{name}: {host}", *role, environment=environment, talks=False))
        number = {"worker": connections, "voters": VOTERS}.get(host, 1)
        expected += ("--expect", f"{HOSTED[host]}={number}")
    role = ("-m", "benchmarks.client", *reach, *expected, "--connections", str(connections))
    joining = asyncio.create_task(processes.start_ready(f"{name}: client", *role, environment=environment))
    ends = [asyncio.create_task(agent.wait()) for agent in agents]
    try:
        await asyncio.wait([joining, *ends], return_when=asyncio.FIRST_COMPLETED)
        for agent in agents:
            agent.check()  # the client would only know that nobody joins
        load, _ = await joining
    finally:
        for waiting in (joining, *ends):
            waiting.cancel()
    # The client is ready once it has found the agents, so their event loops are up by now.
    for agent in agents:
        expect_event_loop(agent, options.loop)
    return Routed(coordinator, load)
