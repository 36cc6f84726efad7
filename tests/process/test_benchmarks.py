"""Every benchmark runs, in its short form. What it measures is another matter: here nothing is held against a clock."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, NOT_QUICK
from benchmarks.machine import disk_directory

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"backlog", "idle", "long", "restart"}
"""Those that `tests/unit/benchmarks` runs in the same form, for the figures they have."""
WITHIN = 100.0
"""Seconds: each takes less than ten of them on a machine that has nothing else to do."""


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in NOT_QUICK | ELSEWHERE])
def test_a_quick_run_has_figures_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    try:
        disk_directory(tmp_path)
    except ValueError as exc:
        pytest.skip(str(exc))
    directory, own_state = tmp_path / "ledgers", tmp_path / "state"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--json", "--dir", str(directory)],
        cwd=ROOT,
        env=os.environ | {"A2A_STATE_DIR": str(own_state)},
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    machine, *results = [json.loads(line) for line in done.stdout.splitlines()]
    assert machine["name"] == "machine"
    values = [result["value"] for result in results]
    assert any(value > 0 for value in values)
    # In so short a run an idle process may use no processor time that is counted, and a long one need not grow.
    assert all(math.isfinite(value) for value in values)
    names = [result["name"] for result in results]
    assert len(set(names)) == len(names)
    assert {result["ratio_to"] for result in results} <= {None, *names}
    assert not list(directory.iterdir())
    assert not own_state.exists()
