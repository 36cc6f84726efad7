"""Runs seeds and returns their outcomes."""

from __future__ import annotations

import gc
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .court import Violation
from .plan import Plan
from .server import FATAL
from .timeline import Timeline
from .town import Town
from .world import World

__all__ = ["SMALL", "Outcome", "every_append", "run_seed", "write_timeline"]

SMALL = Plan(strikes=(), tasks=3, agents=2)
"""A world small enough to run once for each of its appends, three times over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one seed."""

    seed: int
    steps: int
    simulated_ms: int
    digest: str
    failure: str | None
    """`None`, or the property that does not hold and how."""
    summary: str
    seconds: float
    timeline: Timeline | None
    appends: int
    """How many batches the coordinator wrote."""
    crashes: int


def run_seed(seed: int, plan: Plan | None = None, *, trace: bool = False) -> Outcome:
    """Run one world to its end, as its seed draws it and a plan changes it."""
    timeline = Timeline() if trace else None
    world = World(seed, timeline)
    started = time.perf_counter()
    town = Town(world, plan)
    failure = None
    try:
        with _one_collection():
            town.run()
    except Violation as violation:
        failure = str(violation)
    except Exception as error:  # noqa: BLE001 - the engine never raises: whatever comes is a finding
        where = traceback.format_exc() if trace else ""
        failure = f"X: {type(error).__name__}: {error}"
        if timeline is not None:
            timeline.add(world.now, "exception", where)
    if timeline is not None:
        timeline.add(world.now, "end", failure or "all well")
    seconds = time.perf_counter() - started
    return Outcome(
        seed=seed,
        steps=world.steps,
        simulated_ms=world.now,
        digest=world.digest(),
        failure=failure,
        summary=str(town.summary()),
        seconds=seconds,
        timeline=timeline,
        appends=town.server.appends,
        crashes=town.server.crashes,
    )


def every_append(seed: int) -> Iterator[Plan]:
    """Yield the plans of a small world in which the coordinator dies before, during and after each of its appends."""
    for number in range(1, run_seed(seed, SMALL).appends + 1):
        for when in FATAL:
            yield replace(SMALL, dies_at=(number, when))


@contextmanager
def _one_collection() -> Iterator[None]:
    """Collect garbage once, after a world: nearly all that a world makes lives until its end, and is scanned in vain.

    That took an eighth of the simulator's time; memory stays what one world needs.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)


def write_timeline(outcome: Outcome) -> Path:
    """Write the story of a traced run into a temporary file, and return its path."""
    assert outcome.timeline is not None, "only a traced run has a story"
    path = Path(tempfile.mkdtemp(prefix="a2a-simulation-")) / f"seed-{outcome.seed}.txt"
    outcome.timeline.write(path, f"seed {outcome.seed}: {outcome.failure or 'all well'}\n{outcome.summary}")
    return path
