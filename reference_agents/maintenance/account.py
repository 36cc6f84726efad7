"""The account of a judgement: what was refused, with which patch and why, and whose work was taken in which order.

It is kept while the judge decides, so that watchers are told of each refusal as it happens, and finally becomes the
judgement. It decides nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from . import git
from .evidence import no_evidence
from .hearing import Hearing
from .shapes import Accepted, Advice, Evidence, FindingCount, Judgement, Rejected, RunTally, Workspace
from .trials import Sight, Trial
from .workspace import patch_of

__all__ = ["Account", "Outcome", "Recorder"]

FULL_EXCERPTS_MAX: Final = 20
"""How many refusals quote output; a judgement has to fit into one message."""

Recorder = Callable[[Rejected], Awaitable[None]]
"""Told of each refusal as it happens."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the judge's work."""

    verdict: Literal["accepted", "nothing", "no_evidence"]
    tree: str
    findings: FindingCount
    best_single: int
    tests: RunTally
    runs: int


@dataclass(slots=True)
class _Share:
    """The part of one agent's work that was taken."""

    files: set[str] = field(default_factory=set)
    removed: int = 0


class Account:
    """The notes on one decision."""

    def __init__(self, workspace: Workspace, base: str, record: Recorder | None) -> None:
        self._workspace = workspace
        self._base = base
        self._record = record
        self._taken: dict[str, _Share] = {}
        self._rejected: list[Rejected] = []
        self._advice: list[Advice] = []

    @property
    def first(self) -> str | None:
        """The agent whose work was taken first, or None."""
        return next(iter(self._taken), None)

    def advise(self, advice: Advice) -> None:
        """Note what an adviser said when the tests could not tell."""
        self._advice.append(advice)

    async def take(self, name: str, before: Trial | Sight, after: Trial | Sight) -> None:
        """Note that an agent's work leads from one tree to another."""
        paths = await git.changed_paths(self._workspace["mirror"], before.tree, after.tree)
        self.accept(name, paths, before.total - after.total)

    def accept(self, name: str, paths: Sequence[str], removed: int) -> None:
        """Note what was taken of an agent's work."""
        share = self._taken.setdefault(name, _Share())
        share.files.update(paths)
        share.removed += removed

    async def refuse(
        self, name: str, files: Sequence[str], reason: Any, detail: str, evidence: Evidence | None = None, *,
        tree: str = "", onto: str = "",
    ) -> None:  # fmt: skip
        """Note a refusal, with the patch it is about."""
        shown = evidence or no_evidence()
        if len(self._rejected) >= FULL_EXCERPTS_MAX:
            shown = shown | {"excerpt": ""}
        path = digest = ""
        if tree:
            start = onto or self._base
            only = await git.replace_paths(self._workspace["mirror"], start, tree, files)
            kept = await patch_of(self._workspace, only, since=start, as_file=True)
            path, digest = kept["path"], kept["digest"]
        rejected = Rejected(
            agent=name,
            files=list(files),
            reason=reason,
            detail=detail,
            evidence=shown,
            patch_path=path,
            patch_digest=digest,
        )
        self._rejected.append(rejected)
        if self._record is not None:
            await self._record(rejected)

    async def refuse_gainless(self, name: str, before: Trial | Sight, after: Trial | Sight) -> None:
        """Note that an agent's work improves nothing."""
        files = await git.changed_paths(self._workspace["mirror"], before.tree, after.tree)
        detail = f"{after.total} findings would be left, {before.total} are without it"
        await self.refuse(name, files, "no_gain", detail, tree=after.tree, onto=before.tree)

    async def judgement(self, hearing: Hearing, outcome: Outcome, elapsed: float) -> Judgement:
        """Return the judgement."""
        made = Judgement(
            verdict=outcome.verdict,
            patch=await patch_of(self._workspace, outcome.tree),
            accepted=[
                Accepted(agent=name, files=sorted(share.files), removed=share.removed)
                for name, share in self._taken.items()
            ],
            rejected=self._rejected,
            agreements=hearing.agreements,
            advice=self._advice,
            findings_before=self._workspace["findings"],
            findings_after=outcome.findings,
            best_single=outcome.best_single,
            tests_before=_tally(self._workspace["tests"]),
            tests_after=_tally(outcome.tests),
            test_runs=outcome.runs,
            elapsed=round(elapsed, 2),
            digest="",
        )
        made["digest"] = _digest_of(made)
        return made


def _tally(run: RunTally) -> RunTally:
    return RunTally(
        total=run["total"], passed=run["passed"], failed=run["failed"], skipped=run["skipped"], seconds=run["seconds"]
    )


def _digest_of(judgement: Judgement) -> str:
    """Digest what a second judge would find as well; times and the number of runs are left out."""
    told: dict[str, Any] = {
        name: value for name, value in judgement.items() if name not in {"elapsed", "test_runs", "digest"}
    }
    for name in ("tests_before", "tests_after"):
        told[name] = {key: value for key, value in told[name].items() if key != "seconds"}
    return git.digest(json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
