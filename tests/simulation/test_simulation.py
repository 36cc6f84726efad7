"""A few seeds of the simulator with every run of the tests; `make simulate` runs as many as one likes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .faults import FAULTS, Strike
from .plan import Plan
from .regressions import WORLDS
from .run import every_append, run_seed

SHARES = 6
SEEDS_PER_SHARE = 16
EVERY_APPEND = (19, 215)
"""Worlds small enough to die at every append: one with conflicts, one with claims, checkpoints and lost attempts."""
ONE_DEATH_IN = 7
"""No multiple of three, so that deaths before, during and after an append take turns. `make deaths` dies them all."""


@pytest.mark.parametrize("share", range(SHARES))
def test_seeds_keep_every_property(share: int) -> None:
    for seed in range(share * SEEDS_PER_SHARE, (share + 1) * SEEDS_PER_SHARE):
        outcome = run_seed(seed)
        assert outcome.failure is None, f"python -m tests.simulation --seed {seed} --trace: {outcome.failure}"


@pytest.mark.parametrize(("seed", "plan", "what"), WORLDS)
def test_worlds_that_found_a_bug_stay_well(seed: int, plan: Plan, what: str) -> None:
    outcome = run_seed(seed, plan)
    assert outcome.failure is None, f"{what} is back: {outcome.failure}"


@pytest.mark.parametrize("seed", EVERY_APPEND)
def test_a_coordinator_may_die_at_any_append(seed: int) -> None:
    deaths = list(every_append(seed))
    assert 200 < len(deaths) < 400, "there is something to die at, and not too much"
    for plan in deaths[::ONE_DEATH_IN]:
        outcome = run_seed(seed, plan)
        assert outcome.failure is None, f"run_seed({seed}, {plan}, trace=True): {outcome.failure}"
        assert outcome.crashes == 1


@cache
def quiet(seed: int) -> str:
    return run_seed(seed, Plan(strikes=())).digest


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_makes_a_difference(fault: str) -> None:
    worlds = ((seed, at) for seed in range(10) for at in (3_000, 9_000, 15_000))
    assert any(run_seed(seed, Plan(strikes=(Strike(at, fault),))).digest != quiet(seed) for seed, at in worlds)


def test_the_same_seed_is_the_same_run_under_any_hash_seed() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seeds", "6", "--digests"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4711")
    ]
    assert runs[0] == runs[1]
    assert len({line.split()[1] for line in runs[0].splitlines()}) == 6, "different seeds are different runs"
