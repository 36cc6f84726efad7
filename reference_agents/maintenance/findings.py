"""Count what the linter finds, always in the same way.

The rules, the target and the set of files are fixed, whatever the repository's own settings say: a count is only useful
in comparison with another. This module changes nothing and knows no tests.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from .processes import Limits, run
from .shapes import FindingCount, Kind

__all__ = ["RULES", "RULES_OF", "SYNTAX", "UNTOUCHED", "batches", "count_findings", "list_findings", "ruff"]

RULES: Final = "UP,F,I,C4,SIM,B,PIE,RUF"
"""Rules for outdated, dead and clumsy code, which the squad's tools can mend."""
RULES_OF: Final[dict[Kind, str]] = {
    "modernise": RULES,
    "fix-lint": ",".join(rule for rule in RULES.split(",") if rule != "UP"),
    "remove-unused": "F401,F811,F841",
}
"""The rules to mend for each kind of plan; other kinds have nothing to mend."""
UNTOUCHED: Final = "RUF10"
"""Not mended: without the repository's settings, a comment that silences a linter looks unused or wrong."""
COUNT_TARGET: Final = "py311"
SYNTAX: Final = "invalid-syntax"
ARGUMENTS_CHARS_MAX: Final = 100_000
"""Characters of file names on one command line; the smallest usual limit for all arguments is 128 KiB."""


def ruff(*arguments: str) -> list[str]:
    """Return a command line for this installation's linter, isolated so that no `ruff.py` of the folder runs."""
    # The program starts in a third of the time of the module that looks for it.
    program = Path(sys.executable).with_name("ruff")
    start = [str(program)] if program.exists() else [sys.executable, "-I", "-m", "ruff"]
    return [*start, *arguments]


def batches(paths: Sequence[str]) -> Iterator[list[str]]:
    """Split file names into portions that fit on a command line."""
    batch: list[str] = []
    size = 0
    for path in paths:
        if batch and size + len(path) > ARGUMENTS_CHARS_MAX:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += len(path) + 1
    if batch:
        yield batch


async def count_findings(folder: Path, paths: Sequence[str]) -> FindingCount:
    """Count the findings in some files of a folder; a file that is gone has none."""
    rules: Counter[str] = Counter()
    await _each_finding(folder, paths, RULES, lambda finding: rules.update([finding["code"] or SYNTAX]))
    return FindingCount(total=rules.total(), by_rule=dict(sorted(rules.items())))


async def list_findings(folder: Path, paths: Sequence[str], rules: str = RULES) -> list[dict[str, Any]]:
    """Return the findings in some files of a folder, as in the linter's JSON."""
    found: list[dict[str, Any]] = []
    await _each_finding(folder, paths, rules, found.append)
    return found


async def _each_finding(
    folder: Path, paths: Sequence[str], rules: str, take: Callable[[dict[str, Any]], object]
) -> None:
    """Pass on findings one by one: those of a large repository exceed the output that is kept of a program."""

    async def hear(line: str) -> None:
        take(json.loads(line))

    options = ("--isolated", "--no-cache", "--exit-zero", "--target-version", COUNT_TARGET, "--select", rules)
    for batch in batches([path for path in paths if (folder / path).is_file()]):
        command = ruff("check", *options, "--output-format", "json-lines", "--", *batch)
        done = await run(command, cwd=folder, limits=Limits(seconds=120.0), on_line=hear)
        if done.code != 0:
            raise RuntimeError(f"ruff ended with {done.code}: {done.err.decode(errors='replace')[-500:]}")
