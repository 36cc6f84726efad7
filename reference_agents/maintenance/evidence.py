"""What the tests of a repository say about a tree, and how that differs from what they said before.

Runs the tests of a checked-out tree in the sandbox and compares outcomes, test by test. It decides nothing: `judge`
does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

import anyio

from . import outcomes as plugin
from .processes import Finished, Limits, Report, silent
from .sandbox import FOREIGN_LIMITS, Sandbox, foreign_environment, run_foreign
from .shapes import EVIDENCE_IDS_MAX, EXCERPT_CHARS_MAX, Evidence, Outcome, RunTally
from .workspace import Worktree

__all__ = [
    "BAD",
    "PYTEST_OPTIONS",
    "TELLING",
    "Baseline",
    "Run",
    "RunSettings",
    "compare",
    "count",
    "is_worse",
    "no_evidence",
    "run_tests",
    "those_against",
    "unstable_tests",
    "within",
]

PYTEST_OPTIONS: Final = ("-q", "--tb=short", "-p", "no:cacheprovider")
"""They leave nothing in the tree."""
ALL_THE_SAME: Final = "--continue-on-collection-errors"
"""A file that cannot be collected is a result like others."""
BAD: Final = frozenset({"failed", "error"})
TELLING: Final = frozenset({"passed", "xfailed", "xpassed"})
"""Outcomes of tests that ran and said something good."""
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at how many tests are done; only people read that."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to run the tests of a repository; the same for the baseline and for everything compared with it."""

    python: str
    sandbox: Sandbox
    import_paths: Sequence[str] = (".",)
    options: Sequence[str] = ()
    seconds: float = FOREIGN_LIMITS.seconds


@dataclass(frozen=True, slots=True)
class Run:
    """One test run."""

    outcomes: dict[str, Outcome]
    output: str
    code: int
    """Pytest's exit code: 2 if it broke off, 4 if it did not understand its options, 5 if there was nothing to run."""
    timed_out: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the tests said before anything was touched."""

    outcomes: Mapping[str, Outcome]
    unstable: frozenset[str] = field(default_factory=frozenset)


async def run_tests(
    work: Worktree,
    settings: RunSettings,
    report: Report = silent,
    expected: int = 0,
    only: Collection[str] = (),
    *,
    collects_all: bool = False,
) -> Run:
    """Run the tests of the tree in a worktree.

    Args:
        expected: how many tests the baseline has, for reporting progress.
        only: the tests to run; if empty, all.
        collects_all: run no test if a file cannot be collected; the run then ends with code 2.
    """
    home = work.scratch / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    plugins = work.scratch / "plugins"
    plugins.mkdir(exist_ok=True)
    shutil.copyfile(plugin.__file__, plugins / "squad_outcomes.py")
    written = home / "outcomes.jsonl"
    import_paths = [*(work.path / path for path in settings.import_paths), plugins]
    env = foreign_environment(settings.python, home, import_paths) | {plugin.ENVIRONMENT_VARIABLE: str(written)}
    if only:
        listed = home / "only.json"
        listed.write_text(json.dumps(sorted(only)))
        env[plugin.ONLY_VARIABLE] = str(listed)
    command = [settings.python, "-m", "pytest", *PYTEST_OPTIONS, "-p", "squad_outcomes", *settings.options]
    if not collects_all:
        command.append(ALL_THE_SAME)
    limits = Limits(settings.seconds, FOREIGN_LIMITS.memory, FOREIGN_LIMITS.file_size)
    async with _telling(written, expected, report):
        done = await run_foreign(
            settings.sandbox, command, cwd=work.path, writable=[work.path, home], env=env, limits=limits
        )
    # The path of the worktree differs between attempts, and does not belong in the output.
    output = _output(done, settings).replace(f"{work.path}/", "")
    return Run(_read(written), output, done.code, done.timed_out, done.seconds)


def unstable_tests(first: Mapping[str, Outcome], second: Mapping[str, Outcome]) -> list[str]:
    """Return the tests on which two runs of the same tree disagree."""
    return sorted(test for test in first.keys() | second.keys() if first.get(test) != second.get(test))


def compare(baseline: Baseline, run: Run) -> Evidence:
    """Return what a run shows beyond the baseline: new failures, and tests that no longer say anything."""
    failing, vanished = _against(baseline, run)
    return Evidence(
        failing=failing[:EVIDENCE_IDS_MAX],
        failing_total=len(failing),
        vanished=vanished[:EVIDENCE_IDS_MAX],
        vanished_total=len(vanished),
        excerpt=_excerpt(run.output, failing) if failing or vanished else "",
    )


def those_against(baseline: Baseline, run: Run) -> list[str]:
    """Return all tests that speak against a change."""
    return [*itertools.chain(*_against(baseline, run))]


def within(tests: Collection[str], baseline: Baseline, run: Run) -> tuple[Baseline, Run]:
    """Restrict a baseline and a run to some tests; the run may have nothing on others."""

    def those(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        return {test: outcome for test, outcome in outcomes.items() if test in tests}

    return replace(baseline, outcomes=those(baseline.outcomes)), replace(run, outcomes=those(run.outcomes))


def is_worse(evidence: Evidence) -> bool:
    """Return whether evidence speaks against a change."""
    return evidence["failing_total"] + evidence["vanished_total"] > 0


def no_evidence(excerpt: str = "") -> Evidence:
    """Return evidence that names no test."""
    return Evidence(failing=[], failing_total=0, vanished=[], vanished_total=0, excerpt=excerpt[-EXCERPT_CHARS_MAX:])


def count(outcomes: Mapping[str, Outcome], seconds: float) -> RunTally:
    """Count the outcomes of a run."""
    values = list(outcomes.values())
    failed = sum(value in BAD for value in values)
    skipped = values.count("skipped")
    return RunTally(
        total=len(values),
        passed=len(values) - failed - skipped,
        failed=failed,
        skipped=skipped,
        seconds=round(seconds, 2),
    )


def _against(baseline: Baseline, run: Run) -> tuple[list[str], list[str]]:
    """Return the tests that newly fail, and those that no longer say anything."""
    failing, vanished = [], []
    for test, now in run.outcomes.items():
        if now in BAD and baseline.outcomes.get(test) not in BAD and test not in baseline.unstable:
            failing.append(test)
    for test, before in baseline.outcomes.items():
        if test in baseline.unstable:
            continue
        later = run.outcomes.get(test)
        if later is None or (before in TELLING and later == "skipped"):
            vanished.append(test)
    return sorted(failing), sorted(vanished)


def _read(written: Path) -> dict[str, Outcome]:
    """Read the plugin's lines. A later line of the same test wins, unless the earlier one was a failure."""
    outcomes: dict[str, Outcome] = {}
    if not written.is_file():
        return outcomes
    for line in written.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            test, outcome = str(entry["test"]), cast(Outcome, str(entry["outcome"]))
        except (ValueError, KeyError, TypeError):
            continue  # the process was killed while it wrote, or a test wrote into our file
        if outcomes.get(test) not in BAD:
            outcomes[test] = outcome
    return outcomes


def _output(done: Finished, settings: RunSettings) -> str:
    """Join the output, with a last line about the limits if one of them ended the run."""
    text = done.text[-64 * 1024 :]
    if done.timed_out:
        text += f"\nthe tests were stopped after {settings.seconds:.0f} seconds\n"
    elif done.code > 128:
        text += f"\nthe tests were ended by signal {done.code - 128}\n"
    return text


def _excerpt(output: str, failing: Sequence[str]) -> str:
    """Cut out the part of pytest's output that shows the first new failure, or else its end."""
    for test in failing:
        for title in {test, test.rpartition("::")[2].partition("[")[0]}:
            for line in (f"_ {title} _", f"ERROR collecting {title}", f"_ {title}["):
                at = output.find(line)
                if at >= 0:
                    start = output.rfind("\n", 0, at) + 1
                    return output[start : start + EXCERPT_CHARS_MAX].strip()
    return output[-EXCERPT_CHARS_MAX:].strip()


def _lines_in(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0  # the first test has not ended yet


@contextlib.asynccontextmanager
async def _telling(written: Path, expected: int, report: Report) -> AsyncIterator[None]:
    """Report how many tests are done while the block runs."""

    async def look() -> None:
        while True:
            await anyio.sleep(LOOK_AGAIN)
            through = _lines_in(written)
            await report(None, f"{through} of {expected} tests" if expected else f"{through} tests")

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        yield
        group.cancel_scope.cancel()
