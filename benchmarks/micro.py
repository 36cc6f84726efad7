"""The benchmark `micro`: what the parts of a delegation cost on one core, and how long a2a takes to start.

`decode`, `encode`, `step`, `record`, `apply` and `append` are what a coordinator does with its frames and records, one
part at a time: a delegation with automatic acceptance, one frame in a message, records appended 64 at a time to a
ledger with fsync. `start` is whole interpreters, one after the other. `simulate` is the seeded simulator, if the tests
are there.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from a2a import SqliteStore
from a2a.engine.ledger import Ledger
from a2a.engine.records import to_bytes
from a2a.stores.base import Entry
from benchmarks.engine import Engine
from benchmarks.processes import PROJECT, output, running
from benchmarks.report import BenchmarkError, Options, Result

__all__ = ["delegations", "run", "starts"]

TASKS = 500
"""Delegations in a round."""
GROUP = 64
"""Records in an append."""
STARTS: dict[str, tuple[str, ...]] = {
    "start.pass": ("-c", "pass"),
    "start.help": ("-m", "a2a", "--help"),
    "start.libraries": ("-c", "import pydantic, websockets, msgpack"),
    "start.import": ("-c", "import a2a"),
    "start.names": ("-c", "from a2a import Agent, connect"),
}
"""The arguments of each interpreter started, by the name of the figure."""
BESIDE = {
    "start.help": "start.pass",
    "start.import": "start.libraries",
    "start.names": "start.libraries",
}
START_WITHIN = 30.0
SEEDS = 100
SEEDS_QUICK = 5
SIMULATION_WITHIN = 300.0


async def run(options: Options) -> list[Result]:
    """Measure the parts of a delegation, then starts, then the simulator."""
    rounds: list[dict[str, float]] = []
    async with running(options.directory) as (_, directory):
        for number in range(options.rounds + 1):
            rounds.append(await delegations(directory / f"ledger-{number}.db"))
    # The first round is the warm-up.
    parts = {part: statistics.median(each[part] for each in rounds[1:]) for part in rounds[0]}
    found = [Result(f"micro.{part}", round(seconds * 1e6, 2), "us") for part, seconds in parts.items()]
    found += await starts(options.rounds)
    return found + await _simulate(SEEDS_QUICK if options.is_quick else SEEDS)


async def delegations(ledger: Path) -> dict[str, float]:
    """Have tasks delegated, and return the seconds of each part."""
    engine = Engine()
    worker, client = engine.join("worker", ["reverse"], tasks=64), engine.join("client#1")
    known, engine.spent = len(engine.records), type(engine.spent)()
    for number in range(TASKS):
        engine.delegation(client, worker, number)
    spent, records = engine.spent, engine.records
    parts = {
        "decode": spent.decoding / spent.frames_in,
        "encode": spent.encoding / spent.frames_out,
        "step": spent.stepping / spent.frames_in,
    }
    folded = Ledger(engine.coordinator.policy.namespace)
    for record in records[:known]:
        folded.apply(record)
    begin = time.perf_counter()
    for record in records[known:]:
        folded.apply(record)
    parts["apply"] = (time.perf_counter() - begin) / (len(records) - known)
    begin = time.perf_counter()
    forms = [to_bytes(record) for record in records]
    parts["record"] = (time.perf_counter() - begin) / len(records)
    entries = [
        Entry(lsn, type(record).__name__, getattr(record, "task", None), record.at, *form)
        for lsn, (record, form) in enumerate(zip(records, forms, strict=True), 1)
    ]
    parts["append"] = await _append(ledger, entries) / len(entries)
    return parts


async def _append(ledger: Path, entries: Sequence[Entry]) -> float:
    """Return the seconds until all is durable, if each group is appended from its own turn of the loop."""
    store = SqliteStore(ledger)
    await store.open()
    durable = asyncio.get_running_loop().create_future()
    groups = [entries[at : at + GROUP] for at in range(0, len(entries), GROUP)]
    waiting = len(groups)

    def done(error: BaseException | None) -> None:
        nonlocal waiting
        waiting -= 1
        if durable.done():
            return
        if error is not None:
            durable.set_exception(error)
        elif waiting == 0:
            durable.set_result(None)

    try:
        begin = time.perf_counter()
        for group in groups:
            store.append(group, group[0].lsn - 1, done)
            await asyncio.sleep(0)
        await durable
        return time.perf_counter() - begin
    finally:
        await store.aclose()


async def starts(rounds: int) -> list[Result]:
    """Return how long whole interpreters take, started in turn, with modules compiled as in an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(rounds + 1):
        for name, arguments in STARTS.items():
            begin = time.perf_counter()
            await output(sys.executable, *arguments, within=START_WITHIN, environment=environment)
            if number:  # the first round writes compiled modules and fills the disk's cache
                times[name].append(time.perf_counter() - begin)
    found = {name: Result(f"micro.{name}", round(statistics.median(times[name]) * 1e3, 2), "ms") for name in STARTS}
    return [each.against(found[BESIDE[name]]) if name in BESIDE else each for name, each in found.items()]


async def _simulate(seeds: int) -> list[Result]:
    if not (PROJECT / "tests" / "simulation").is_dir():
        return []
    role = ("-m", "tests.simulation", "--seeds", str(seeds))
    said = await output(sys.executable, *role, within=SIMULATION_WITHIN)
    told = re.search(r"(\d+) steps/s", said)
    if told is None:
        raise BenchmarkError(f"expected the simulator to tell its steps/s, got {said[-500:]!r}")
    return [Result("micro.simulate", float(told[1]), "steps/s")]
