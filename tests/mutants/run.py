"""Applies planted bugs to copies of the tree, one at a time, and has each looked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from .table import Edit, Mutant

__all__ = ["ROOT", "Found", "apply", "look_for", "look_for_all", "planted"]

ROOT = Path(__file__).parents[2]
_COPIED = ("a2a", "tests/simulation", "tests/model", "tests/mutants")
_HANGS_AFTER = 10
"""How many times its seconds a run may last by the clock on the wall, on a busy machine, before it is ended: some bugs
make the engine go in circles."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one planted bug."""

    mutant: Mutant
    by: str | None
    """The checker that found it, or None: it survived."""
    seeds: int
    """Seeds that were needed, or tried in vain."""
    seconds: float
    detail: str
    others: dict[str, int]
    """Checkers that had not to find it and did first, and how often."""


def planted(text: str, edit: Edit) -> str:
    """Return a file's text with the change.

    Raises:
        LookupError: what the change is about is not there, or there more than once.
    """
    count = text.count(edit.before)
    if count != 1:
        raise LookupError(f"{edit.file} has {count} times what stands in the table, not once:\n{edit.before}")
    return text.replace(edit.before, edit.after)


def apply(edits: Iterable[Edit], root: Path) -> None:
    """Change the files below `root`."""
    for edit in edits:
        path = root / edit.file
        path.write_text(planted(path.read_text(encoding="utf-8"), edit), encoding="utf-8")


def look_for(mutant: Mutant, *, seeds: int = 400, seconds: float = 90.0) -> Found:
    """Plant one bug in a copy and look for it there, with so many seeds and so many seconds of a core at most."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="a2a-mutant-") as folder:
        copy = Path(folder)
        for part in _COPIED:
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        apply(mutant.edits, copy)
        module = "tests.model.probe" if mutant.model else "tests.mutants.probe"
        bounds = ["--seconds", str(seconds), *([] if mutant.model else ["--seeds", str(seeds)])]
        bounds += ["--disputes"] if mutant.disputes else []
        bounds += ["--quarrels"] if mutant.quarrels else []
        bounds += ["--manners", *mutant.manners] if mutant.manners else []
        command = [sys.executable, "-m", module, *bounds, "--expect", ",".join(mutant.caught_by)]
        try:
            done = subprocess.run(
                command,
                cwd=copy,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""},
                capture_output=True,
                text=True,
                timeout=seconds * _HANGS_AFTER,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Found(mutant, None, 0, time.monotonic() - started, "it does not come to an end", {})
    took = time.monotonic() - started
    if done.returncode != 0:
        return Found(mutant, None, 0, took, f"the copy does not run: {done.stderr.strip()[-600:]}", {})
    told = json.loads(done.stdout)
    return Found(mutant, told["by"], told["seeds"], took, told["detail"], told["others"])


def look_for_all(mutants: Iterable[Mutant], *, seeds: int, seconds: float, jobs: int = 2) -> Iterator[Found]:
    """Plant many, `jobs` at a time, and yield what came of each as it is known."""
    with ThreadPoolExecutor(jobs) as pool:
        looking = [pool.submit(look_for, mutant, seeds=seeds, seconds=seconds) for mutant in mutants]
        for future in as_completed(looking):
            yield future.result()
