"""`python -m tests.fuzz [TARGET ...]`: fuzz with atheris, guided by coverage, and tell what was found.

Each target runs in a process of its own, two at a time. What is found is written to `fuzz-findings/`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TARGETS = ("decoder", "handshake", "session", "cards", "offers", "store")
FINDINGS = Path("fuzz-findings")
_GRACE = 60
"""Seconds a process may take over its time to begin and to end."""
_ROOM_MB = 1024
_HANGS_AFTER = 10
_PROGRESS = re.compile(r"^#\d+\s.*?\bcov: (\d+)", re.MULTILINE)
_UNITS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of fuzzing one target."""

    name: str
    executions: int
    edges: int
    findings: list[Path]
    seconds: float
    failure: str = ""


def main() -> int:
    """Fuzz, print what came of it, and return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"only these: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for all of them together")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=FINDINGS)
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    jobs = min(options.jobs, len(names))
    each = max(1, options.seconds * jobs // len(names))
    print(f"{'target':10}  {'executions':>10}  {'edges':>6}  {'findings':>8}  {'seconds':>7}", flush=True)
    failed = False
    with ThreadPoolExecutor(jobs) as pool:
        for run in pool.map(lambda name: fuzz(name, each, options.seed, options.findings), names):
            failed = failed or bool(run.findings or run.failure)
            print(
                f"{run.name:10}  {run.executions:10}  {run.edges:6}  {len(run.findings):8}  {run.seconds:7.0f}",
                flush=True,
            )
            for path in run.findings:
                print(f"  {path}")
            if run.failure:
                print(f"  {run.failure}")
    return 1 if failed else 0


def fuzz(name: str, seconds: int, seed: int, findings: Path) -> Run:
    """Fuzz one target in a process of its own."""
    started = time.monotonic()
    folder = findings / name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    with tempfile.TemporaryDirectory(prefix="a2a-fuzz-") as corpus:
        command = (
            *(sys.executable, "-m", "tests.fuzz.guided", name, str(folder), corpus),
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-rss_limit_mb={_ROOM_MB}", f"-timeout={_HANGS_AFTER}"),
            *("-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={folder}/"),
        )
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=seconds + _GRACE, check=False
            )
            said, code = done.stderr, done.returncode
        except subprocess.TimeoutExpired as late:
            said, code = (late.stderr or b"").decode(errors="replace"), -1
    units, edges = _UNITS.search(said), _PROGRESS.findall(said)
    found = sorted(path for path in set(folder.iterdir()) - before if path.suffix != ".txt")
    failure = "" if code == 0 or found else f"it ended with {code}: {said.strip()[-600:]}"
    return Run(
        name, int(units[1]) if units else 0, int(edges[-1]) if edges else 0, found, time.monotonic() - started, failure
    )


if __name__ == "__main__":
    sys.exit(main())
