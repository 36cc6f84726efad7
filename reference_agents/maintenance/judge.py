"""The judge: decides between patches that contradict each other, and believes tests, not agents.

A change holds if no test fails that did not fail before, and none is silent that said something before. Each proposal
is tried alone and, where it breaks something, file by file. Then the best of them is the ground on which the others
are asked again: a tool that starts from the winner's tree has no conflict with it. That goes on while findings fall
and the tests hold.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Literal, NamedTuple, cast

import anyio

from a2a import Agent, AttemptFailed, LeaseLapsed, Refused, TaskContext, TaskError

from . import git
from .evidence import Baseline, RunSettings, count, no_evidence
from .findings import count_findings
from .processes import Report, silent
from .sandbox import detect
from .scope import in_scope
from .shapes import (
    Accepted,
    AgreedFile,
    Conflict,
    Evidence,
    FindingCount,
    Judgement,
    Plan,
    Proposal,
    Rejected,
    RunTally,
    Workspace,
)  # fmt: skip
from .trials import Trial, Trials
from .workspace import checkout, patch_of, read_json, tree_of

__all__ = ["Again", "AgentUnavailable", "agent", "judge_patches", "judge_proposals"]

ROUNDS_MAX: Final = 4
"""How often every coder is asked again. Three rounds were enough wherever this was tried."""
FULL_EXCERPTS_MAX: Final = 20
"""Refusals that quote output; a judgement has to fit into one message."""

AGAIN_SECONDS: Final = 1200.0
"""Whoever has not answered by then is taken to be gone, and what it proposed first is merged."""
TIMERS: Final = {"heartbeat": 2.0, "lease": 10.0, "queue": 60.0}
"""A coder is idle while the judge works; one that does not take the question in a minute is away."""
LOSSES_MAX: Final = 10
"""Agents may be killed under a run, more often than the coordinator's default allows for."""
LOOK_AGAIN: Final = 0.25

Again = Callable[[str, str, list[str]], Awaitable[Proposal]]
"""Asks an agent for its proposal on another tree: agent, tree, files."""
Recorder = Callable[[Rejected], Awaitable[None]]


class AgentUnavailable(Exception):
    """An agent could not be asked again; its first proposal is all there is."""


agent = Agent(
    "judge", version="1.0", description="Decides between patches by what the tests say.", concurrency=1,
)  # fmt: skip


@agent.skill(tags=["maintenance"])
async def judge_patches(workspace: Workspace, plan: Plan, proposals: list[Proposal], task: TaskContext) -> Judgement:
    """Decide which parts of the proposals become the patch."""

    known = {info.agent_id for info in await task.find("propose_patch")}

    async def again(name: str, tree: str, files: list[str]) -> Proposal:
        if name not in known:
            raise AgentUnavailable("no such agent")  # a person's patch, or a coder that never came back
        # The key names the question, so an attempt after a crash finds the answers of the one before.
        key = f"again-{name}-{tree}-{git.digest(json.dumps(files).encode())[:16]}"
        question = {"workspace": workspace, "plan": plan, "onto": tree, "files": files}
        try:
            return cast(Proposal, await _call(task, question, key, name))
        except (TaskError, Refused) as exc:
            raise AgentUnavailable(str(exc)) from exc

    async def record(rejected: Rejected) -> None:
        await task.artifact("rejected", rejected, append=True, last=False)

    return await judge_proposals(workspace, plan, proposals, again=again, report=task.progress, record=record)


async def _call(task: TaskContext, question: dict[str, Any], key: str, name: str) -> Any:
    while True:
        try:
            return await task.call(
                "propose_patch", question, key, to=name, deadline=AGAIN_SECONDS, timers=TIMERS, losses=LOSSES_MAX
            )
        except LeaseLapsed:
            # The coordinator is away. When it is back, the lease goes on, or this attempt is told to stop.
            await anyio.sleep(LOOK_AGAIN)


async def judge_proposals(
    workspace: Workspace,
    plan: Plan,
    proposals: Sequence[Proposal],
    *,
    again: Again,
    report: Report = silent,
    record: Recorder | None = None,
) -> Judgement:
    """Do the judge's work.

    Args:
        again: how to ask a coder again on another tree.
        record: told of each refusal as it happens.

    Raises:
        AttemptFailed: the baseline is not the one that was taken (`evidence_lost`), or no sandbox works (`no_sandbox`).
    """
    started = monotonic()
    case = _Case(workspace, plan, again, report, record)
    await case.hear(proposals)
    await case.compare_texts()
    if workspace["evidence"] == "none":
        outcome = await case.without_evidence()
    else:
        outcome = await case.decide()
    return await case.write(outcome, monotonic() - started)


@dataclass(slots=True)
class _Candidate:
    """What one agent proposed, and what is left of it."""

    agent: str
    tree: str
    """Its proposal, without the files it should not have touched."""
    files: frozenset[str]
    alone: int = 0
    """Findings left by what holds of it alone."""
    refused: set[str] = field(default_factory=set)
    """Files of its work that the tests cannot live with."""
    accepted: set[str] = field(default_factory=set)
    removed: int = 0


class _Step(NamedTuple):
    """An agent's work on top of a tree that holds, which holds as well."""

    candidate: _Candidate
    before: Trial
    after: Trial


@dataclass(frozen=True, slots=True)
class _Outcome:
    verdict: Literal["accepted", "nothing", "no_evidence"]
    tree: str
    findings: FindingCount
    best_single: int
    tests: RunTally
    runs: int


class _Case:
    """One decision: the proposals, what was tried and what was refused."""

    def __init__(self, workspace: Workspace, plan: Plan, again: Again, report: Report, record: Recorder | None) -> None:
        self._workspace = workspace
        self._plan = plan
        self._again = again
        self._report = report
        self._record = record
        self._mirror = workspace["mirror"]
        self._candidates: list[_Candidate] = []
        self._order: list[str] = []
        self._rejected: list[Rejected] = []
        self._overlaps: list[tuple[_Candidate, _Candidate, list[str]]] = []
        self._agreements: list[AgreedFile] = []
        self._base = ""

    # --- what was proposed ------------------------------------------------------------------------------------------

    async def hear(self, proposals: Sequence[Proposal]) -> None:
        """Look each proposal up, and cut off what lies outside the plan."""
        self._base = await git.tree_id(self._mirror, self._workspace["base"])
        for proposal in proposals:
            name = proposal["agent"]
            try:
                tree = await tree_of(self._workspace, proposal["patch"])
            except AttemptFailed as exc:
                if exc.error_code not in {"does_not_apply", "patch_mismatch"}:
                    raise
                await self._refuse(name, [], "does_not_apply", exc.detail)
                continue
            changed = await git.changed_paths(self._mirror, self._base, tree)
            outside = [path for path in changed if not in_scope(self._plan, path)]
            if outside:
                await self._refuse(
                    name, outside, "out_of_scope", "the plan does not let anybody touch these", tree=tree
                )
                tree = await git.replace_paths(self._mirror, tree, self._base, outside)
            inside = frozenset(changed) - frozenset(outside)
            if inside:
                self._candidates.append(_Candidate(name, tree, inside))

    async def compare_texts(self) -> None:
        """Find out where proposals agree to the letter, and where git cannot merge them."""
        blobs = {
            candidate.agent: {entry.path: entry.blob for entry in await git.files(self._mirror, candidate.tree)}
            for candidate in self._candidates
        }
        versions: dict[tuple[str, str | None], list[str]] = {}
        for candidate in self._candidates:
            for path in candidate.files:
                versions.setdefault((path, blobs[candidate.agent].get(path)), []).append(candidate.agent)
        self._agreements = [
            AgreedFile(path=path, agents=agents)
            for (path, _), agents in sorted(versions.items(), key=str)
            if len(agents) > 1
        ]
        for index, one in enumerate(self._candidates):
            for other in self._candidates[index + 1 :]:
                merged = await git.merge(self._mirror, self._base, one.tree, other.tree)
                if merged.conflicts:
                    self._overlaps.append((one, other, list(merged.conflicts)))

    # --- the decision -----------------------------------------------------------------------------------------------

    async def without_evidence(self) -> _Outcome:
        """Offer the proposal that leaves the fewest findings, untried: a person decides."""
        best, found = self._base, self._workspace["findings"]
        async with checkout(self._workspace, "judge", self._base) as work:
            chosen = None
            for candidate in self._candidates:
                await work.load(candidate.tree)
                findings = await count_findings(work.path, self._workspace["files"])
                if findings["total"] < found["total"] or (self._changes_are_the_point and chosen is None):
                    best, found, chosen = candidate.tree, findings, candidate
        if chosen is not None:
            self._accept(chosen, sorted(chosen.files), self._workspace["findings"]["total"] - found["total"])
        return _Outcome("no_evidence", best, found, found["total"], count({}, 0.0), 0)

    async def decide(self) -> _Outcome:
        """Try, narrow and combine, as the module's first paragraph says."""
        stored = read_json(self._workspace["tests"]["path"], self._workspace["tests"]["digest"])
        baseline = Baseline(stored["outcomes"], frozenset(stored["unstable"]))
        sandbox = await detect(self._workspace["run_dir"], self._workspace["repository"])
        if sandbox.kind == "none" and not self._workspace["allow_unsandboxed"]:
            raise AttemptFailed("no sandbox works any more", code="no_sandbox", retryable=False)
        settings = RunSettings(
            self._workspace["python"], sandbox, self._workspace["import_paths"], self._workspace["pytest_options"]
        )
        untouched = Trial(
            self._base, True, no_evidence(), self._workspace["findings"], cast(RunTally, self._workspace["tests"])
        )
        async with checkout(self._workspace, "judge", self._base) as work:
            trials = Trials(self._workspace, work, settings, baseline, self._report)
            ground, best_single = await self._best_alone(trials, untouched)
            result = await self._build_on(trials, ground)
        verdict: Literal["accepted", "nothing"] = "nothing" if result.tree == self._base else "accepted"
        return _Outcome(verdict, result.tree, result.findings, best_single, result.tests, trials.runs)

    async def _best_alone(self, trials: Trials, untouched: Trial) -> tuple[Trial, int]:
        """Try each proposal on its own; return the best of what holds, and the best that held as a whole."""
        best, winner, best_single = untouched, None, untouched.total
        for number, candidate in enumerate(self._candidates):
            share = 0.05 + 0.45 * number / len(self._candidates)
            await self._report(share, f"trying {candidate.agent}: {len(candidate.files)} files")
            trial = await trials.attempt(candidate.tree)
            if trial.holds:
                best_single = min(best_single, trial.total)
            else:
                bad = trial.evidence["failing_total"], trial.evidence["vanished_total"]
                await self._report(
                    share, f"{candidate.agent} breaks {bad[0]} tests, {bad[1]} vanish: looking for the files"
                )
                trial = await self._narrow(trials, untouched, candidate, candidate.tree, sorted(candidate.files))
            candidate.alone = trial.total
            if self._is_better(trial, best):
                best, winner = trial, candidate
        # Whoever did best alone is asked first from here on, in whichever order the proposals came.
        self._candidates.sort(key=lambda candidate: (candidate.alone, candidate.agent))
        if winner is not None:
            await self._take(winner, untouched, best)
        return best, best_single

    async def _build_on(self, trials: Trials, ground: Trial) -> Trial:
        """Ask the coders again on top of what holds, for as long as that makes it better; return the best there was.

        A step that leaves as many findings as before is built on as well, because it may be what another coder needs:
        one tool turns `%` into `format`, the next one `format` into an f-string. If nothing comes of it, it is dropped.
        """
        best, visited, pending = ground, {ground.tree}, list[_Step]()
        seen: dict[str, str] = {self._order[0]: ground.tree} if self._order else {}
        for number in range(ROUNDS_MAX):
            before = ground.tree
            for candidate in self._candidates:
                files = await self._worth_asking(candidate, ground, seen.get(candidate.agent))
                if not files:
                    continue
                share = 0.5 + 0.45 * number / ROUNDS_MAX
                await self._report(share, f"asking {candidate.agent} again: {best.total} left")
                trial = await self._one_more(trials, ground, candidate, files)
                seen[candidate.agent] = ground.tree
                if trial.tree in visited:
                    continue
                if trial.total > ground.total:
                    await self._refuse_step(_Step(candidate, ground, trial))
                    continue
                seen[candidate.agent] = trial.tree
                visited.add(trial.tree)
                pending.append(_Step(candidate, ground, trial))
                ground = trial
                if self._is_better(ground, best):
                    best = ground
                    for step in pending:
                        await self._take(*step)
                    pending.clear()
            if ground.tree == before:
                break
        for step in pending:
            await self._refuse_step(step)
        return best

    async def _worth_asking(self, candidate: _Candidate, ground: Trial, seen: str | None) -> list[str]:
        """Return the files an agent may have something to say about: those that are not as it last left them."""
        touched = set(await git.changed_paths(self._mirror, seen or self._base, ground.tree))
        return sorted((touched if seen else touched | candidate.files) - candidate.refused)

    async def _one_more(self, trials: Trials, ground: Trial, candidate: _Candidate, files: list[str]) -> Trial:
        """Return what holds of an agent's work on top of the ground, whether that is better or not."""
        target = await self._ask(candidate, ground, files)
        wanted = [path for path in await git.changed_paths(self._mirror, ground.tree, target) if path in files]
        if not wanted:
            return ground
        target = await git.replace_paths(self._mirror, ground.tree, target, wanted)
        trial = await trials.attempt(target)
        return trial if trial.holds else await self._narrow(trials, ground, candidate, target, wanted)

    async def _refuse_step(self, step: _Step) -> None:
        files = await git.changed_paths(self._mirror, step.before.tree, step.after.tree)
        detail = f"{step.after.total} findings would be left, {step.before.total} are without it"
        await self._refuse(step.candidate.agent, files, "no_gain", detail, tree=step.after.tree, onto=step.before.tree)

    async def _ask(self, candidate: _Candidate, ground: Trial, files: list[str]) -> str:
        """Return what the agent makes of the ground; or, if it cannot be asked, what git can merge of its first."""
        try:
            proposal = await self._again(candidate.agent, ground.tree, files)
            return await tree_of(self._workspace, proposal["patch"])
        except (AgentUnavailable, AttemptFailed) as exc:
            await self._report(None, f"{candidate.agent} cannot be asked again ({exc}): merging what it proposed first")
        usable = sorted(candidate.files - candidate.refused)
        first = await git.replace_paths(self._mirror, self._base, candidate.tree, usable)
        merged = await git.merge(self._mirror, self._base, ground.tree, first)
        if not merged.conflicts:
            return merged.tree
        new = [path for path in merged.conflicts if path not in candidate.refused]
        if new:
            candidate.refused.update(new)
            await self._refuse(
                candidate.agent, new, "conflict", "git cannot merge it with what was accepted", tree=first
            )
        return await git.replace_paths(self._mirror, merged.tree, ground.tree, merged.conflicts)

    async def _narrow(
        self, trials: Trials, ground: Trial, candidate: _Candidate, target: str, paths: Sequence[str]
    ) -> Trial:
        async def refused(path: str, reason: str, evidence: Evidence, tree: str) -> None:
            candidate.refused.add(path)
            why = "syntax" if reason == "syntax" else "tests"
            await self._refuse(candidate.agent, [path], why, _in_words(evidence), evidence, tree=tree)

        return await trials.narrow(ground, target, paths, refused)

    @property
    def _changes_are_the_point(self) -> bool:
        """Whether the plan is after something the linter does not count."""
        return self._plan["kind"] == "rename"

    def _is_better(self, trial: Trial, than: Trial) -> bool:
        if self._changes_are_the_point:
            return trial.tree != than.tree and trial.total <= than.total
        return trial.total < than.total

    # --- the record -------------------------------------------------------------------------------------------------

    async def _take(self, candidate: _Candidate, before: Trial, after: Trial) -> None:
        paths = await git.changed_paths(self._mirror, before.tree, after.tree)
        self._accept(candidate, paths, before.total - after.total)

    def _accept(self, candidate: _Candidate, paths: Sequence[str], removed: int) -> None:
        candidate.accepted.update(paths)
        candidate.removed += removed
        if candidate.agent not in self._order:
            self._order.append(candidate.agent)

    async def _refuse(
        self, name: str, files: Sequence[str], reason: Any, detail: str, evidence: Evidence | None = None, *,
        tree: str = "", onto: str = "",
    ) -> None:  # fmt: skip
        """Write a refusal down, with the patch it is about."""
        shown = evidence or no_evidence()
        if len(self._rejected) >= FULL_EXCERPTS_MAX:
            shown = shown | {"excerpt": ""}
        path = digest = ""
        if tree:
            start = onto or self._base
            only = await git.replace_paths(self._mirror, start, tree, files)
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

    async def write(self, outcome: _Outcome, elapsed: float) -> Judgement:
        """Write the judgement."""
        named = {candidate.agent: candidate for candidate in self._candidates}
        judgement = Judgement(
            verdict=outcome.verdict,
            patch=await patch_of(self._workspace, outcome.tree),
            accepted=[
                Accepted(agent=name, files=sorted(named[name].accepted), removed=named[name].removed)
                for name in self._order
            ],
            rejected=self._rejected,
            conflicts=[self._settled(*overlap) for overlap in self._overlaps],
            agreements=self._agreements,
            findings_before=self._workspace["findings"],
            findings_after=outcome.findings,
            best_single=outcome.best_single,
            tests_before=_tally(self._workspace["tests"]),
            tests_after=_tally(outcome.tests),
            test_runs=outcome.runs,
            elapsed=round(elapsed, 2),
            digest="",
        )
        judgement["digest"] = _digest_of(judgement)
        return judgement

    def _settled(self, one: _Candidate, other: _Candidate, paths: list[str]) -> Conflict:
        """Say what became of two proposals that git cannot merge."""
        first, second = sorted(
            (one, other), key=lambda it: self._order.index(it.agent) if it.agent in self._order else 99
        )
        if first.agent not in self._order:
            resolution = "neither was taken"
        elif second.accepted.intersection(paths):
            resolution = f"{first.agent} first; {second.agent} was asked again on top of it and added to these files"
        elif second.agent in self._order:
            resolution = (
                f"{first.agent} first; {second.agent}, asked again on top of it, had nothing to add to these files"
            )
        else:
            resolution = f"{first.agent} only"
        return Conflict(agents=[one.agent, other.agent], files=paths, resolution=resolution)


def _tally(run: RunTally) -> RunTally:
    return RunTally(
        total=run["total"], passed=run["passed"], failed=run["failed"], skipped=run["skipped"], seconds=run["seconds"]
    )


def _in_words(evidence: Evidence) -> str:
    parts = []
    if evidence["failing_total"]:
        parts.append(f"{evidence['failing_total']} tests fail with it")
    if evidence["vanished_total"]:
        parts.append(f"{evidence['vanished_total']} tests no longer run")
    return ", ".join(parts) or evidence["excerpt"]


def _digest_of(judgement: Judgement) -> str:
    """Digest what a second judge would have to find as well: times and the number of runs are not part of it."""
    told: dict[str, Any] = {
        name: value for name, value in judgement.items() if name not in {"elapsed", "test_runs", "digest"}
    }
    for name in ("tests_before", "tests_after"):
        told[name] = {key: value for key, value in told[name].items() if key != "seconds"}
    return git.digest(json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


if __name__ == "__main__":
    agent.main()
