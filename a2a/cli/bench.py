"""`a2a bench`: how many tasks a running coordinator carries, and how long one takes, with its own agent or yours.

The figures depend on this machine, this agent and everything else that runs; the client and its own agent share a
process. The project's benchmarks answer another question: the coordinator's cost compared with a bare relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import click

from ..agent import Agent
from ..client import Client
from ..errors import Denied
from ..loop import run as run_loop
from ..protocol.types import principal_of
from .delegate import read_input
from .exits import Failure
from .options import Common, Connection, common_options
from .parameters import Seconds

__all__ = ["Measured", "bench", "percentile"]

WARM_UP = 0.5
"""Seconds that are not counted: the first tasks run with cold caches."""
LEFT = 5.0
"""Seconds after which tasks left by an interrupted run are no longer wanted."""
OWN_SKILL = "bench.echo"
TEXT = "x" * 256
IN_FLIGHT_MAX = 10_000
"""Below what the coordinator accepts from one connection at once."""
PERCENTS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Measured:
    """The outcome of one phase: how long each task took, from delegating it until its result was settled."""

    in_flight: int
    seconds: float
    durations: Sequence[float]
    """In seconds."""

    @property
    def throughput(self) -> float:
        """Tasks per second."""
        return len(self.durations) / self.seconds

    def to_plain(self) -> dict[str, Any]:
        """Return the figures for --json."""
        return {
            "inFlight": self.in_flight,
            "tasks": len(self.durations),
            "seconds": round(self.seconds, 3),
            "tasksPerSecond": round(self.throughput, 1),
            **{f"p{percent}Ms": round(percentile(self.durations, percent) * 1000, 3) for percent in PERCENTS},
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that this percentage of all values does not exceed (nearest rank)."""
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


@click.command()
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--skill", help="Let your own agents with this skill do the tasks, instead of one that the command starts."
)
@click.option("--input", "file", type=click.File("rb"), metavar="FILE", help="The input, as for a2a delegate.")
@click.option("--text", help="The input, as text.  [own agent: 256 bytes]")
@click.option(
    "--in-flight",
    type=click.IntRange(1, IN_FLIGHT_MAX),
    default=64,
    show_default=True,
    help="Tasks open at the same time.",
)
@click.option(
    "--seconds",
    type=Seconds(0.1, 3600),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="The length of each of the two phases.",
)
@click.option(
    "--acceptance",
    type=click.Choice(["auto", "delegator"]),
    default="auto",
    show_default=True,
    help="Whether each result is accepted as reported, or confirmed.",
)
@common_options(timeout=None)
def bench(
    common: Common,
    pairs: tuple[str, ...],
    skill: str | None,
    file: Any,
    text: str | None,
    in_flight: int,
    seconds: float,
    acceptance: str,
) -> None:
    """Measure a running coordinator: tasks per second, and how long one takes.

    First it has many tasks open at once, then one after the other. They are real tasks: their records stay in the
    ledger.
    """
    value = read_input(pairs, file, text)
    if skill is None and value is not None and text is None:
        raise click.UsageError("the command's own agent takes --text; KEY=VALUE and --input need --skill")

    async def whole() -> None:
        try:
            async with (
                asyncio.timeout(common.timeout) as bound,
                common.connection.client() as client,
                _to_work(client, common.connection, skill) as options,
            ):
                options |= {"input": TEXT if skill is None and value is None else value, "acceptance": acceptance}
                await _measure(client, common, options, in_flight, seconds)
        except TimeoutError as exc:
            if not bound.expired():
                raise
            raise TimeoutError(f"not done within {common.timeout:g} s") from exc

    run_loop(whole)


@asynccontextmanager
async def _to_work(client: Client, connection: Connection, skill: str | None) -> AsyncIterator[dict[str, Any]]:
    """Provide an agent for the tasks inside the block; yield the options to delegate them with."""
    if skill is not None:
        if not any(agent.status == "ready" for agent in await client.find(skill)):
            raise Failure(f"no agent with the skill {skill} is ready: the tasks would wait for one")
        yield {"skill": skill}
        return
    # One name per user: else every run would leave another name among the agents that are away.
    name = f"{principal_of(client.agent_id)}#bench"
    if any(agent.status != "away" for agent in await client.find(agent=name)):
        raise Failure(f"{name} is connected already: another a2a bench is at work, and each would disturb the other")
    own = Agent(name, description="Answers every text with itself.", concurrency=IN_FLIGHT_MAX)

    @own.skill(id=OWN_SKILL, takes_value=True)
    async def echo(value: Any) -> Any:
        """Answer with what was given."""
        return value

    stop, ready = anyio.Event(), anyio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(own.run(connection.url, token=connection.token, stop=stop, ready=ready.set))
        try:
            await ready.wait()
            yield {"skill": OWN_SKILL, "to": name}
        finally:
            stop.set()
        await running
    if client.is_operator:  # else it stays among the agents that are away
        with contextlib.suppress(Denied):  # a task of an earlier, interrupted run is open
            await client.forget(name)


async def _measure(client: Client, common: Common, options: dict[str, Any], in_flight: int, seconds: float) -> None:
    await _phase(client, options, in_flight, WARM_UP)
    phases = {
        "throughput": await _phase(client, options, in_flight, seconds),
        "sequential": await _phase(client, options, 1, seconds),
    }
    if common.out.as_json:
        for name, measured in phases.items():
            common.out.record({"name": name, "durability": client.durability, **measured.to_plain()})
        return
    rows = []
    for name, measured in phases.items():
        plain = measured.to_plain()
        times = [f"{plain[f'p{percent}Ms']:,.2f}" for percent in PERCENTS]
        rows.append([name, str(measured.in_flight), f"{measured.throughput:,.0f}", *times, str(plain["tasks"])])
    common.out.table(["", "in flight", "tasks/s", *(f"p{percent} ms" for percent in PERCENTS), "tasks"], rows)
    common.out.note(f"durability: {client.durability}")


async def _phase(client: Client, options: dict[str, Any], in_flight: int, seconds: float) -> Measured:
    """Keep this many tasks open for this long, then wait for the last of them."""
    durations: list[float] = []
    begin = time.perf_counter()
    end = begin + seconds

    async def lane() -> None:
        while (start := time.perf_counter()) < end:
            async with client.delegate(**options, on_delegator_loss="cancel", loss=LEFT) as task:
                await task.result()
            durations.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(in_flight):
            lanes.create_task(lane())
    return Measured(in_flight, time.perf_counter() - begin, durations)
