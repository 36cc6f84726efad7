"""Try trees: count their findings, run their tests, and find out which files of a change the tests can live with.

A tree is tried once; what came of it is kept in the run directory under the tree's id and the baseline's digest, so
an attempt that follows a crash does not pay again. It weighs nothing: `judge` does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import anyio.to_thread

from . import git
from .evidence import Baseline, Run, RunSettings, compare, count, is_worse, no_evidence, run_tests
from .findings import SYNTAX, count_findings
from .imports import Imports, Missing
from .processes import Report
from .sandbox import FOREIGN_LIMITS
from .shapes import Evidence, FindingCount, RunTally, Workspace
from .workspace import Worktree, write_json

__all__ = ["Refusal", "Trial", "Trials"]

CONFIRM_MAX: Final = 3
"""So few bad tests may be chance, so they get a second run; more are not worth the time."""
NO_PYTHON: Final = "a file is no longer valid Python"
MISSING_SHOWN: Final = 3
SECONDS_MIN: Final = 60.0
SECONDS_FACTOR: Final = 5.0
"""A change may slow the tests down this much before that counts as a failure."""

Refusal = Callable[[str, str, Evidence, str], Awaitable[None]]
"""Told of each file that the tests cannot live with: path, reason, evidence, and the tree that was tried."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known about a tree."""

    tree: str
    holds: bool
    """No test fails or is silent that did not or was not before, and no file takes from another what is not there."""
    evidence: Evidence
    findings: FindingCount
    tests: RunTally

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
        """How often the tests ran."""
        self._workspace = workspace
        self._work = work
        seconds = min(FOREIGN_LIMITS.seconds, max(SECONDS_MIN, workspace["tests"]["seconds"] * SECONDS_FACTOR))
        self._settings = RunSettings(
            settings.python, settings.sandbox, settings.import_paths, settings.options, seconds
        )
        self._baseline = baseline
        self._report = report
        self._known: dict[str, Trial] = {}
        self._imports = Imports(workspace["files"], workspace["import_paths"])
        self._missing_before: set[Missing] | None = None

    async def attempt(self, tree: str) -> Trial:
        """Try a tree, or remember what came of it."""
        if tree not in self._known:
            self._known[tree] = self._recall(tree) or await self._try(tree)
        return self._known[tree]

    async def narrow(self, kept: Trial, target: str, paths: Sequence[str], refused: Refusal) -> Trial:
        """Take over from a target tree as many files as the tests can live with.

        Every step is tried on top of what was kept before, so what is returned was tried as a whole.

        Args:
            kept: a trial that holds; the start.
            paths: the files to choose from.
        """
        return await self._narrow(kept, target, sorted(paths, key=_suspicion), refused)

    async def _narrow(self, kept: Trial, target: str, paths: Sequence[str], refused: Refusal) -> Trial:
        if not paths:
            return kept
        tree = await git.replace_paths(self._workspace["mirror"], kept.tree, target, paths)
        trial = await self.attempt(tree)
        if trial.holds:
            return trial
        if len(paths) == 1:
            reason = "tests"
            if not is_worse(trial.evidence):
                reason = "syntax" if trial.evidence["excerpt"] == NO_PYTHON else "imports"
            await refused(paths[0], reason, trial.evidence, tree)
            return kept
        middle = len(paths) // 2
        for half in (paths[:middle], paths[middle:]):
            kept = await self._narrow(kept, target, half, refused)
        return kept

    async def _try(self, tree: str) -> Trial:
        await self._work.load(tree)
        findings = await count_findings(self._work.path, self._workspace["files"])
        broken = findings["by_rule"].get(SYNTAX, 0) > self._workspace["findings"]["by_rule"].get(SYNTAX, 0)
        if broken:
            trial = Trial(tree, False, no_evidence(NO_PYTHON), findings, count({}, 0.0))
        else:
            run = await self._run()
            evidence = compare(self._baseline, run)
            if 0 < evidence["failing_total"] + evidence["vanished_total"] <= CONFIRM_MAX:
                await self._work.load(tree)
                run = _kinder(run, await self._run())
                evidence = compare(self._baseline, run)
            missing = [] if is_worse(evidence) else await self._missing(tree)
            if missing:
                evidence = no_evidence(_told(missing))
            holds = not (is_worse(evidence) or missing)
            trial = Trial(tree, holds, evidence, findings, count(run.outcomes, run.seconds))
        write_json(self._file(tree), asdict(trial))
        return trial

    async def _missing(self, tree: str) -> list[Missing]:
        """Return what files of a tree take from others that had it before: the tests may not import them."""
        await self._work.load(tree)
        missing = await anyio.to_thread.run_sync(self._imports.missing, self._work.path)
        if missing and self._missing_before is None:
            await self._work.load(self._workspace["base"])
            self._missing_before = await anyio.to_thread.run_sync(self._imports.missing, self._work.path)
        return sorted(missing - (self._missing_before or set()))

    async def _run(self) -> Run:
        self.runs += 1
        return await run_tests(self._work, self._settings, self._report, expected=self._workspace["tests"]["total"])

    def _recall(self, tree: str) -> Trial | None:
        try:
            stored: dict[str, Any] = json.loads(self._file(tree).read_bytes())
        except (OSError, ValueError):
            return None
        return Trial(**stored)

    def _file(self, tree: str) -> Path:
        return Path(self._workspace["run_dir"]) / "trials" / self._workspace["tests"]["digest"][:16] / f"{tree}.json"


def _told(missing: Sequence[Missing]) -> str:
    more = f" and {len(missing) - MISSING_SHOWN} more" if len(missing) > MISSING_SHOWN else ""
    return "; ".join(map(str, missing[:MISSING_SHOWN])) + more


def _suspicion(path: str) -> tuple[bool, str]:
    """Put the files that hold re-exports next to each other: halves with no suspect in them are then more likely."""
    return PurePosixPath(path).name == "__init__.py", path


def _kinder(first: Run, second: Run) -> Run:
    """Keep of two runs on the same tree what each test did at its best: chance alone is no evidence."""
    outcomes = dict(second.outcomes)
    for test, outcome in first.outcomes.items():
        if outcomes.get(test, "error") in {"failed", "error", "skipped"}:
            outcomes[test] = outcome
    return Run(outcomes, first.output, second.code, first.timed_out and second.timed_out, second.seconds)
