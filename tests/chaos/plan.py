"""The faults and their targets, drawn from the seed before anything runs: the same seed is the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .work import LEASE

__all__ = ["Fault", "draw"]

_KINDS = (("kill", 2), ("stop", 1))
"""Stopping takes longer than a lease each time, so it is drawn less often."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    results: int
    """It comes when this many trees have finished since the last fault was over."""
    kind: str
    """`kill`: SIGKILL and a new process at once. `stop`: SIGSTOP, and SIGCONT after `seconds`."""
    target: str
    seconds: float = 0.0


def draw(seed: int, cycles: int, agents: list[str]) -> list[Fault]:
    """Return a plan. Each kind of target comes equally often, whatever the number of agents."""
    chance = random.Random(seed)
    plan = []
    for _ in range(cycles):
        [kind] = chance.choices([kind for kind, _ in _KINDS], [weight for _, weight in _KINDS])
        target = chance.choice(["coordinator", "client", chance.choice(agents)])
        seconds = chance.uniform(1.1, 1.6) * LEASE if kind == "stop" else 0.0
        plan.append(Fault(chance.randint(1, 12), kind, target, seconds))
    return plan
