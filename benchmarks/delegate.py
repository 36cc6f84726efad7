"""The benchmark `delegate`: what discovery, leases and a durable ledger cost on top of forwarding bytes.

A client process delegates a text of 256 bytes, a worker process answers at once with as many, through a coordinator
whose ledger is SQLite on a disk with fsync. Three sides in one run, interleaved: `relay` (see `benchmarks.relay`),
`delegate` (automatic acceptance) and `confirmed` (the client reviews the result and confirms it).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

import a2a
from benchmarks import relay
from benchmarks.load import run_role, serve_phases
from benchmarks.processes import Processes
from benchmarks.report import BenchmarkError, Options, Result
from benchmarks.rounds import Sample, Side, expect_event_loop, interleave, median

__all__ = ["client", "results", "run", "start"]

SKILL = "reverse"
WORKER_WITHIN = 20.0
"""Seconds the worker may take to join: an interpreter's start and a handshake, many times over, and less than the
client itself may take to be ready, so that it can still say what it waited for."""


async def client(url: str, token: str) -> None:
    """Run the phases the runner orders, once the worker is there and the ledger is known to be durable."""
    async with a2a.connect(url=url, token=token, name="benchmark-client") as session:
        if session.durability != "fsync":
            raise BenchmarkError(f"expected a coordinator with durability fsync, it announces {session.durability}")
        try:
            async with asyncio.timeout(WORKER_WITHIN):
                # Asked again and again: a watch may begin after the worker joined, and nothing is measured yet.
                while not await session.find(skill=SKILL):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BenchmarkError(f"no agent with the skill {SKILL} joined within {WORKER_WITHIN:g} s") from None

        async def delegate(text: str) -> str:
            async with session.delegate(SKILL, {"text": text}, acceptance="auto") as task:
                return str(await task.result())

        async def confirmed(text: str) -> str:
            async with session.delegate(SKILL, {"text": text}, acceptance="delegator") as task:
                answer = str(await task.result())
                await task.confirm()
                return answer

        await serve_phases({"delegate": delegate, "confirmed": confirmed})


async def start(processes: Processes, directory: Path, loop: str) -> list[Side]:
    """Start coordinator, worker and client; the two sides share them."""
    # Tokens and secrets go with the run, not into the user's own state directory.
    environment = {"A2A_STATE_DIR": str(directory / "state")}
    coordinator, ready = await processes.start_ready(
        "coordinator",
        *("-m", "a2a", "coordinator", "run", "--listen", "127.0.0.1:0"),
        *("--db", str(directory / "ledger.db"), "--ready-json"),
        environment=environment,
    )
    reach = ("--url", ready["url"], "--token-file", ready["tokenFile"])
    worker = await processes.start("worker", "-m", "benchmarks.agent", *reach, environment=environment, talks=False)
    try:
        load, _ = await processes.start_ready(
            "client", "-m", "benchmarks.delegate", *reach, "--loop", loop, environment=environment
        )
    except BenchmarkError:
        worker.check()  # the client only knows that nobody came
        raise
    # The client is ready when it has found the worker, so the worker's event loop is up by now.
    expect_event_loop(worker, loop)
    return [Side("delegate", coordinator, load, "delegate"), Side("confirmed", coordinator, load, "confirmed")]


async def run(options: Options) -> list[Result]:
    """Measure the three sides in one run."""
    with tempfile.TemporaryDirectory(prefix="a2a-benchmark-", dir=options.directory) as name:
        directory = Path(name)
        async with Processes(directory) as processes:
            sides = [await relay.start(processes, options.loop), *await start(processes, directory, options.loop)]
            return results(await interleave(sides, options))


def results(samples: Mapping[str, list[Sample]]) -> list[Result]:
    """Medians of the rounds, each beside the relay's."""
    relayed, delegated, confirmed = (median(samples[name]) for name in ("relay", "delegate", "confirmed"))
    throughput = Result("relay.throughput", round(relayed.throughput, 1), "tasks/s")
    sequential = Result("relay.sequential.p50", round(relayed.sequential_p50, 4), "ms")
    cpu = Result("relay.cpu", round(relayed.router_cpu, 1), "us/task")
    return [
        throughput,
        sequential,
        cpu,
        Result("delegate.throughput", round(delegated.throughput, 1), "tasks/s").against(throughput),
        Result("delegate.sequential.p50", round(delegated.sequential_p50, 4), "ms").against(sequential),
        Result("delegate.cpu", round(delegated.router_cpu, 1), "us/task").against(cpu),
        Result("delegate.confirmed.throughput", round(confirmed.throughput, 1), "tasks/s").against(throughput),
        Result("delegate.confirmed.sequential.p50", round(confirmed.sequential_p50, 4), "ms").against(sequential),
    ]


def main() -> None:
    """Run the client's role."""
    parser = argparse.ArgumentParser(description="The client process of the benchmark `delegate`.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    run_role(client(arguments.url, arguments.token_file.read_text().strip()), arguments.loop)


if __name__ == "__main__":
    main()
