"""A few seeds of the simulator with every run of the tests; `python -m tests.simulation` runs as many as one likes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .plan import Plan
from .regressions import SEEDS
from .run import run_seed
from .server import Fatal

SHARES = 25
SEEDS_PER_SHARE = 20
EVERY_APPEND = 24
"""A world with much in it that is small enough to die at every append."""


@pytest.mark.parametrize("share", range(SHARES))
def test_seeds_keep_every_property(share: int) -> None:
    for seed in range(share * SEEDS_PER_SHARE, (share + 1) * SEEDS_PER_SHARE):
        outcome = run_seed(seed)
        assert outcome.failure is None, f"python -m tests.simulation --seed {seed} --trace: {outcome.failure}"


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_that_found_a_bug_stay_well(seed: int) -> None:
    outcome = run_seed(seed)
    assert outcome.failure is None, f"{SEEDS[seed]} is back: {outcome.failure}"


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_coordinator_may_die_at_every_append(when: Fatal) -> None:
    quiet = Plan(strikes=(), tasks=3, agents=2)
    appends = run_seed(EVERY_APPEND, quiet).appends
    assert appends > 30, "there is something to die at"
    for number in range(1, appends + 1):
        outcome = run_seed(EVERY_APPEND, replace(quiet, dies_at=(number, when)))
        assert outcome.failure is None, f"{when} append {number}: {outcome.failure}"
        assert outcome.crashes == 1


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
