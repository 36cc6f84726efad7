"""The preparer: makes a repository ready to work on, and finds out what its tests say before anything is touched.

The result is a mirror, a virtual environment and a baseline; the repository itself is only read. If the tests cannot
tell good from bad, the workspace says so and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from a2a import Agent, TaskContext

from .environment import Environment, extend_environment, import_paths_of, make_environment
from .evidence import BAD, TELLING, Baseline, Run, RunSettings, count, run_tests, unstable_tests
from .findings import count_findings
from .needs import missing_modules, requirements_for, usual_error
from .processes import Report, silent
from .sandbox import FOREIGN_LIMITS, detect
from .shapes import EVIDENCE_IDS_MAX, Source, Workspace
from .shapes import Baseline as BaselineShape
from .source import find_source
from .workspace import Worktree, checkout, make_mirror, write_json

__all__ = ["agent", "prepare", "prepare_workspace"]

OTHERWISE: Final = {
    3: ("-W", "ignore::pytest.PytestWarning"),
    4: ("-o", "addopts="),
    5: ("-o", "python_files=test*.py *_test.py *_tests.py"),
}
"""Pytest's exit code to the options for another run if no test passes. 3: pytest itself failed, for example because the
repository turns warnings into errors and pytest has new ones. 4: it did not know an option, for example because the
repository's own options name a plugin that is missing here. 5: it found no tests, for example because another runner
finds them by other names."""
RUNS_MAX: Final = 6
"""How often tests are run while something can be mended."""
BROKE_OFF: Final = 2
"""Pytest's exit code if it ends early."""
BROKEN_PLUGIN: Final = re.compile(r"PluginValidationError: Plugin '([\w.-]+)' for hook")
"""Pytest's message about a plugin that was made for an older version, which makes pytest end."""
NO_TESTS = BaselineShape(
    total=0, passed=0, failed=0, skipped=0, seconds=0.0, path="", digest="", failing=[], unstable=[]
)  # fmt: skip

agent = Agent("preparer", version="1.0", description="Makes a Python repository ready to be worked on.", concurrency=1)


@agent.skill(tags=["maintenance"])
async def prepare(
    source: Source, run_dir: str, task: TaskContext, allow_unsandboxed: bool = False, with_tests: bool = True
) -> Workspace:
    """Make a repository, or a source distribution, ready to be worked on, and run its tests untouched.

    Without tests it is ready to be read.
    """
    return await prepare_workspace(
        source, run_dir, allow_unsandboxed=allow_unsandboxed, with_tests=with_tests, report=task.progress
    )


async def prepare_workspace(
    source: Source,
    run_dir: str,
    *,
    allow_unsandboxed: bool = False,
    with_tests: bool = True,
    report: Report = silent,
) -> Workspace:
    """Do the preparer's work; safe to do again in the same run directory.

    Raises:
        AttemptFailed: the source cannot be worked on; see `source.find_source` for the codes.
    """
    folder = _absolute(run_dir)
    await report(0.0, "looking at the source")
    origin = await find_source(source, folder, report)
    folder.mkdir(parents=True, exist_ok=True)
    await report(0.1, f"{len(origin.files)} Python files at {origin.base[:12]}")
    mirror = await make_mirror(origin.repository, folder)
    sandbox = await detect(folder, origin.repository)
    workspace = Workspace(
        name=origin.name, repository=str(origin.repository), base=origin.base, run_dir=str(folder), mirror=str(mirror),
        python="", pytest_options=[], import_paths=["."], files=list(origin.files),
        findings={"total": 0, "by_rule": {}}, tests=NO_TESTS, sandbox=sandbox.kind, allow_unsandboxed=allow_unsandboxed,
        evidence="none", evidence_reason="", notes=[],
    )  # fmt: skip
    may_run = sandbox.kind != "none" or allow_unsandboxed
    async with checkout(workspace, "preparer", origin.base) as work:
        workspace["findings"] = await count_findings(work.path, origin.files)
        workspace["import_paths"] = import_paths_of(work.path)
        await report(0.2, f"{workspace['findings']['total']} findings")
        if not with_tests:
            return workspace
        environment = await make_environment(work, folder, origin.base, sandbox if may_run else None, report)
        workspace["python"] = environment.python
        if not may_run:
            workspace["evidence_reason"] = (
                "no sandbox works on this machine, and running tests without one was not allowed"
            )
            return workspace
        settings = RunSettings(environment.python, sandbox, tuple(workspace["import_paths"]))
        await _take_baseline(workspace, work, settings, environment, report)
    await report(1.0, workspace["evidence_reason"] or f"{workspace['tests']['passed']} tests pass")
    return workspace


async def _take_baseline(
    workspace: Workspace, work: Worktree, settings: RunSettings, environment: Environment, report: Report
) -> None:
    """Run the tests twice on the same tree: a test whose two outcomes differ says nothing."""
    await report(0.6, "running the tests as they are")
    tests = _Untouched(work, workspace["base"], settings, environment, report)
    first = await tests.run()
    if first.code in OTHERWISE and not _is_telling(first):
        tests.leave_to(OTHERWISE[first.code])
        first = await tests.run()
    workspace["pytest_options"] = [*tests.settings.options]
    workspace["notes"] = [*tests.environment.notes]
    reason = _why_none(first, tests.environment.notes)
    if reason:
        workspace["evidence_reason"] = reason
        return
    await report(0.8, f"running {len(first.outcomes)} tests a second time, to see which are unstable")
    await work.load(workspace["base"])
    second = await run_tests(work, tests.settings, report, expected=len(first.outcomes))
    baseline = Baseline(first.outcomes, frozenset(unstable_tests(first.outcomes, second.outcomes)))
    workspace["tests"] = _store(Path(workspace["run_dir"]), baseline, max(first.seconds, second.seconds))
    if workspace["tests"]["passed"] == 0:
        workspace["evidence_reason"] = "no test passes before anything is touched"
        return
    workspace["evidence"] = "ok"


@dataclass
class _Untouched:
    """The tests of an untouched tree, and the environment in which they run."""

    work: Worktree
    base: str
    settings: RunSettings
    environment: Environment
    report: Report
    tried: set[str] = field(default_factory=set)
    """What was fetched, or could not be; and plugins that were left out."""

    async def run(self) -> Run:
        """Run the tests, and again as long as a problem can be mended; another may be behind it.

        Tests may take minutes: none is run while a file has a problem that can be mended first.
        """
        for _ in range(RUNS_MAX):
            run = await self._run(collects_all=True)
            if not await self._mends(run):
                break
        if run.code != BROKE_OFF:
            return run
        for _ in range(RUNS_MAX):
            run = await self._run()
            if not await self._mends(run):
                break
        return run

    async def _run(self, *, collects_all: bool = False) -> Run:
        await self.work.load(self.base)
        return await run_tests(self.work, self.settings, self.report, collects_all=collects_all)

    def leave_to(self, options: tuple[str, ...]) -> None:
        """Run the tests with more options from now on."""
        self.settings = replace(self.settings, options=(*self.settings.options, *options))

    async def _mends(self, run: Run) -> bool:
        """Mend a problem of a run, and return whether there was one."""
        broken = BROKEN_PLUGIN.search(run.output)
        if broken and not run.outcomes and broken.group(1) not in self.tried:
            self.tried.add(broken.group(1))
            self.leave_to(("-p", f"no:{broken.group(1)}"))
            return True
        needed = requirements_for(missing_modules(run.output), self.work.path)
        wanted = [requirement for requirement in needed if requirement not in self.tried]
        if wanted:
            self.tried.update(wanted)
            await self.report(0.6, f"installing what the tests did not find: {', '.join(wanted)}")
            self.environment = await extend_environment(self.environment, wanted)
        return bool(wanted)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().resolve()


def _is_telling(run: Run) -> bool:
    return any(outcome in TELLING for outcome in run.outcomes.values())


def _why_none(run: Run, notes: tuple[str, ...]) -> str:
    """Return why a first run is not a baseline, or an empty text if it is."""
    hints = f" ({'; '.join(notes)})" if notes else ""
    if run.timed_out:
        return f"the tests did not end within {FOREIGN_LIMITS.seconds:.0f} seconds"
    error = usual_error(run.output)
    if not run.outcomes:
        said = error or run.output[-300:]
        return f"no tests were found{hints}" if run.code == 5 else f"the tests do not start{hints}: {said}"
    passed, failed = (sum(outcome in kind for outcome in run.outcomes.values()) for kind in (TELLING, BAD))
    if passed and passed >= failed:
        return ""
    # If nearly all fail and a few pass, those few say nothing about the others, which may not even import the code.
    how_many = f"only {passed} of {passed + failed} tests pass" if passed else "no test passes"
    return f"{how_many} before anything is touched{f': {error}' if error else ''}{hints}"


def _store(run_dir: Path, baseline: Baseline, seconds: float) -> BaselineShape:
    unstable = sorted(baseline.unstable)
    content = {"outcomes": dict(baseline.outcomes), "unstable": unstable}
    path = run_dir / "baseline.json"
    tally = count(baseline.outcomes, seconds)
    failing = sorted(test for test, outcome in baseline.outcomes.items() if outcome in {"failed", "error"})
    return BaselineShape(
        **tally, path=str(path), digest=write_json(path, content),
        failing=failing[:EVIDENCE_IDS_MAX], unstable=unstable[:EVIDENCE_IDS_MAX],
    )  # fmt: skip


if __name__ == "__main__":
    agent.main()
