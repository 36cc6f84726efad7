"""Every documented way a conflict may go, in fresh processes: the same each time, and the ledger proves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(500)

BOUND = 200.0
CASES = Path(__file__).with_name("conflict_cases.py")

EXPECTED: dict[str, dict[str, Any]] = {
    "two-one": {
        "value": 1,
        "sizes": [1, 2],
        "stages": [["majority", "decided"]],
        "outcome": ["select", "majority"],
    },
    "one-one-one": {
        "value": "unresolved",
        "sizes": [1, 1, 1],
        "stages": [["majority", "undecided"], ["abort", "undecided"]],
        "outcome": ["reject_all", "abort"],
    },
    "two-two": {
        "value": 2,
        "sizes": [2, 2],
        "stages": [["majority", "undecided"], ["judge", "decided"]],
        "outcome": ["select", "judge"],
    },
    "silent": {
        "value": 2,
        "sizes": [1, 1],
        "stages": [["majority", "undecided"], ["judge", "decided"]],
        "outcome": ["select", "judge"],
    },
    "flips": {
        "value": "unresolved",
        "sizes": [1, 1],
        "stages": [["judge", "undecided"], ["abort", "undecided"]],
        "outcome": ["reject_all", "abort"],
    },
    "dies": {
        "value": "unresolved",
        "sizes": [1, 1],
        "stages": [["judge", "undecided"], ["abort", "undecided"]],
        "outcome": ["reject_all", "abort"],
    },
    "nobody-comes": {
        "value": "unresolved",
        "sizes": [1, 1],
        "stages": [["human", "undecided"], ["abort", "undecided"]],
        "outcome": ["reject_all", "abort"],
    },
}


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_each_case_ends_as_documented_and_the_ledger_says_so_again(hash_seed: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    env = os.environ | {"PYTHONHASHSEED": hash_seed, "A2A_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, str(CASES), str(ledger)], env=env, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stderr
    told = {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert told == {name: {"case": name, **expected} for name, expected in EXPECTED.items()}
    verify = [sys.executable, "-m", "a2a", "replay", str(ledger), "--verify"]
    proof = subprocess.run(verify, env=env, capture_output=True, text=True, timeout=BOUND, check=False)
    assert proof.returncode == 0, proof.stdout + proof.stderr
