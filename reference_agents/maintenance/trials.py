"""Try trees: count their findings, run their tests, and find out which files of a change break the tests.

A tree is tried once; the result is kept in the run directory under the tree's id and the baseline's digest, so an
attempt after a crash does not pay again. A run of all tests may take minutes: faults are searched for without one as
far as possible, but no tree is said to hold, and no file is refused, without one. This module weighs nothing: `judge`
does.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import anyio.to_thread

from . import git
from .evidence import (
    Baseline,
    Run,
    RunSettings,
    compare,
    count,
    is_worse,
    no_evidence,
    run_tests,
    those_against,
    within,
)
from .findings import SYNTAX, count_findings
from .imports import Imports, Missing
from .processes import Report
from .sandbox import FOREIGN_LIMITS
from .shapes import Evidence, FindingCount, RunTally, Workspace
from .workspace import Worktree, write_json

__all__ = ["Refusal", "Sight", "Trial", "Trials"]

CONFIRM_MAX: Final = 3
"""Up to this many bad tests may be chance, so they get a second run; more are not worth the time."""
WATCHED_MAX: Final = 30
"""How many of the tests that speak against a tree are rerun to find the files at fault."""
NO_PYTHON: Final = "a file is no longer valid Python"
MISSING_SHOWN: Final = 3
SECONDS_MIN: Final = 60.0
SECONDS_FACTOR: Final = 5.0
"""How much a change may slow the tests down before that counts as a failure."""

Refusal = Callable[[str, str, Evidence, str], Awaitable[None]]
"""Told of each file that breaks the tests: path, reason, evidence, and the tree that was tried."""


IsAtFault = Callable[[str], Awaitable[bool]]
"""Tells whether something speaks against a tree."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What can be seen of a tree without running a test."""

    tree: str
    findings: FindingCount
    fault: str
    """Why it does not hold, whatever the tests say; empty if nothing is known against it."""

    @property
    def total(self) -> int:
        """Return how many findings are left."""
        return self.findings["total"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known about a tree."""

    tree: str
    holds: bool
    """No test newly fails or falls silent, and no file imports from another what does not exist."""
    evidence: Evidence
    findings: FindingCount
    tests: RunTally
    against: list[str] = field(default_factory=list)
    """Tests that speak against it: a few, from as many test files as possible."""

    @property
    def total(self) -> int:
        """Return how many findings are left."""
        return self.findings["total"]


class Trials:
    """Tries trees of one workspace, one after another in one worktree."""

    def __init__(
        self, workspace: Workspace, work: Worktree, settings: RunSettings, baseline: Baseline, report: Report
    ) -> None:
        self.runs = 0
        """How often all tests ran."""
        self._workspace = workspace
        self._work = work
        seconds = min(FOREIGN_LIMITS.seconds, max(SECONDS_MIN, workspace["tests"]["seconds"] * SECONDS_FACTOR))
        self._settings = RunSettings(
            settings.python, settings.sandbox, settings.import_paths, settings.options, seconds
        )
        self._baseline = baseline
        self._report = report
        self._known: dict[str, Trial] = {}
        self._sights: dict[str, Sight] = {}
        self._parts: dict[tuple[frozenset[str], str], Baseline] = {}
        self._imports = Imports(workspace["files"], workspace["import_paths"])
        self._missing_before: set[Missing] | None = None

    async def look(self, tree: str) -> Sight:
        """Look at a tree without running a test, or return what was seen before."""
        if tree not in self._sights:
            await self._work.load(tree)
            findings = await count_findings(self._work.path, self._workspace["files"])
            broken = findings["by_rule"].get(SYNTAX, 0) > self._workspace["findings"]["by_rule"].get(SYNTAX, 0)
            fault = NO_PYTHON if broken else _told(await self._missing())
            self._sights[tree] = Sight(tree, findings, fault)
        return self._sights[tree]

    async def attempt(self, tree: str) -> Trial:
        """Try a tree, or return the earlier result."""
        if tree not in self._known:
            self._known[tree] = self._recall(tree) or await self._try(tree)
        return self._known[tree]

    async def narrow(self, kept: Trial, target: str, paths: Sequence[str], refused: Refusal) -> Trial:
        """Take from a target tree as many files as possible without breaking the tests.

        The files at fault are searched for with a few of the tests that speak against them. The rest is tried as a
        whole with all tests, and each file at fault on top of that: what is returned was tried, and so was what is
        refused.

        Args:
            kept: a trial that holds; the start.
            paths: the files to choose from.
        """
        left = sorted(paths, key=_suspicion)
        faulty: list[str] = []
        watched = frozenset[str]()
        while len(left) > 1:
            tree = await self._with(kept.tree, target, left)
            if not (await self.look(tree)).fault:
                trial = await self.attempt(tree)
                if trial.holds:
                    kept, left = trial, []
                    break
                watched = frozenset(trial.against)
            is_at_fault = self._seen_by(watched, kept.tree)
            if not await is_at_fault(tree):
                is_at_fault = self._fails  # only the other tests show the fault
            _, found = await self._faulty(kept.tree, target, left, is_at_fault)
            faulty += found
            left = [path for path in left if path not in found]
        for path in [*left, *faulty]:
            trial = await self.attempt(await self._with(kept.tree, target, [path]))
            if trial.holds:
                kept = trial
                continue
            reason = "tests"
            if not is_worse(trial.evidence):
                reason = "syntax" if trial.evidence["excerpt"] == NO_PYTHON else "imports"
            await refused(path, reason, trial.evidence, trial.tree)
        return kept

    async def _faulty(
        self, start: str, target: str, paths: Sequence[str], is_at_fault: IsAtFault
    ) -> tuple[str, list[str]]:  # fmt: skip
        """Find files at fault by halving; also return the tree without them."""
        tree = await self._with(start, target, paths)
        if not await is_at_fault(tree):
            return tree, []
        if len(paths) == 1:
            return start, [*paths]
        middle = len(paths) // 2
        found: list[str] = []
        for half in (paths[:middle], paths[middle:]):
            start, more = await self._faulty(start, target, half, is_at_fault)
            found += more
        return start, found

    async def _with(self, tree: str, target: str, paths: Sequence[str]) -> str:
        return await git.replace_paths(self._workspace["mirror"], tree, target, paths)

    def _seen_by(self, tests: frozenset[str], kept: str) -> IsAtFault:
        """Return a function that tells whether a look, or these tests, find a tree worse than the kept one."""
        known: dict[str, bool] = {}

        async def is_at_fault(tree: str) -> bool:
            if tree not in known:
                known[tree] = bool((await self.look(tree)).fault) or (
                    bool(tests) and await self._speak(tests, tree, kept)
                )
            return known[tree]

        return is_at_fault

    async def _speak(self, tests: frozenset[str], tree: str, kept: str) -> bool:
        before = await self._part(tests, kept)
        run = await self._run(tree, tests)
        evidence = compare(*within(tests, before, run))
        if _may_be_chance(evidence):
            run = _kinder(run, await self._run(tree, tests))
            evidence = compare(*within(tests, before, run))
        return is_worse(evidence)

    async def _part(self, tests: frozenset[str], tree: str) -> Baseline:
        """Return what some tests say about a tree that holds, run without the others: some need tests before them."""
        if (tests, tree) not in self._parts:
            run = await self._run(tree, tests)
            self._parts[tests, tree] = Baseline(run.outcomes, self._baseline.unstable)
        return self._parts[tests, tree]

    async def _fails(self, tree: str) -> bool:
        return bool((await self.look(tree)).fault) or not (await self.attempt(tree)).holds

    async def _try(self, tree: str) -> Trial:
        sight = await self.look(tree)
        if sight.fault == NO_PYTHON:
            trial = Trial(tree, False, no_evidence(NO_PYTHON), sight.findings, count({}, 0.0))
        else:
            run = await self._run(tree)
            if _may_be_chance(compare(self._baseline, run)):
                run = await self._confirmed(tree, run)
            evidence = compare(self._baseline, run)
            holds = not (is_worse(evidence) or sight.fault)
            if sight.fault and not is_worse(evidence):
                evidence = no_evidence(sight.fault)
            against = _spread(those_against(self._baseline, run))
            trial = Trial(tree, holds, evidence, sight.findings, count(run.outcomes, run.seconds), against)
        write_json(self._file(tree), asdict(trial))
        return trial

    async def _confirmed(self, tree: str, run: Run) -> Run:
        """Confirm a run with few bad tests by a second one, and return what remains.

        If the bad tests are bad again when run alone, although they pass alone on the base, they are confirmed. If they
        are not, it need not be chance: they may need the other tests to fail.
        """
        tests = frozenset(those_against(self._baseline, run))
        again = _kinder(run, await self._run(tree, tests))
        if is_worse(compare(*within(tests, await self._part(tests, self._workspace["base"]), again))):
            return again
        return _kinder(run, await self._run(tree))

    async def _missing(self) -> list[Missing]:
        """Return the loaded tree's imports that are newly broken: the tests may not import those files."""
        missing = await anyio.to_thread.run_sync(self._imports.missing, self._work.path)
        if missing and self._missing_before is None:
            await self._work.load(self._workspace["base"])
            self._missing_before = await anyio.to_thread.run_sync(self._imports.missing, self._work.path)
        return sorted(missing - (self._missing_before or set()))

    async def _run(self, tree: str, only: Collection[str] = ()) -> Run:
        """Run the tests on a tree, all of them or the named ones."""
        await self._work.load(tree)
        expected = 0 if only else self._workspace["tests"]["total"]
        self.runs += not only
        return await run_tests(self._work, self._settings, self._report, expected=expected, only=only)

    def _recall(self, tree: str) -> Trial | None:
        try:
            stored: dict[str, Any] = json.loads(self._file(tree).read_bytes())
        except (OSError, ValueError):
            return None
        return Trial(**stored)

    def _file(self, tree: str) -> Path:
        return Path(self._workspace["run_dir"]) / "trials" / self._workspace["tests"]["digest"][:16] / f"{tree}.json"


def _spread(tests: Sequence[str]) -> list[str]:
    """Return a few tests from as many test files as possible."""
    by_file: dict[str, list[str]] = {}
    for test in tests:
        by_file.setdefault(test.partition("::")[0], []).append(test)
    in_turn = itertools.chain(*itertools.zip_longest(*by_file.values()))
    return sorted(itertools.islice((test for test in in_turn if test is not None), WATCHED_MAX))


def _may_be_chance(evidence: Evidence) -> bool:
    return 0 < evidence["failing_total"] + evidence["vanished_total"] <= CONFIRM_MAX


def _told(missing: Sequence[Missing]) -> str:
    more = f" and {len(missing) - MISSING_SHOWN} more" if len(missing) > MISSING_SHOWN else ""
    return "; ".join(map(str, missing[:MISSING_SHOWN])) + more


def _suspicion(path: str) -> tuple[bool, str]:
    """Put files that hold re-exports next to each other: then halves without a suspect are more likely."""
    return PurePosixPath(path).name == "__init__.py", path


def _kinder(first: Run, second: Run) -> Run:
    """Keep each test's better outcome of two runs on the same tree: chance alone is no evidence."""
    outcomes = dict(second.outcomes)
    for test, outcome in first.outcomes.items():
        if outcomes.get(test, "error") in {"failed", "error", "skipped"}:
            outcomes[test] = outcome
    return Run(outcomes, first.output, second.code, first.timed_out and second.timed_out, second.seconds)
