"""The judge: merges patches that contradict each other, or decides between them, and believes tests, not agents.

If coders contradict each other, the coordinator asks it at three rungs: to merge their proposals, to verify each
proposal by itself, to choose one. Asked by the lead, it judges a single patch, which is a merge of one.

A change holds if no test fails that did not fail before, no test falls silent that said something before, and no file
imports from another what that no longer has. Proposals are tried alone, those with the fewest findings first, until
none is left that could be better than what holds. If one breaks something, the judge looks for the files at fault; a
new name is taken only as a whole. The best proposal then becomes the ground on which the other coders are asked again:
a tool that starts from the winner's tree has no conflict with it. That goes on while findings fall. What they add is
tried together, and apart only if it does not hold: a run of the tests may take minutes. If the best are equally good by
all of that, an agent with the skill to choose may say which.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Literal, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from a2a import Agent, AttemptFailed, Refused, TaskContext, TaskError

from . import git
from .account import Account, Outcome, Recorder
from .consulting import consult
from .decisions import heed
from .evidence import Baseline, RunSettings, count, no_evidence
from .findings import count_findings
from .hearing import Candidate, hear
from .processes import Report, silent
from .sandbox import detect
from .shapes import (
    Advice,
    Choice,
    Evidence,
    Judgement,
    Patch,
    Plan,
    Preference,
    Proposal,
    Rejected,
    RunTally,
    Verification,
    Workspace,
)  # fmt: skip
from .trials import Sight, Trial, Trials
from .workspace import Worktree, checkout, patch_of, read_json, tree_of

__all__ = [
    "Again",
    "AgentUnavailable",
    "Prefer",
    "agent",
    "choose_proposal",
    "judge_patches",
    "judge_proposals",
    "merge_patches",
    "verify_patch",
    "verify_proposals",
]

ROUNDS_MAX: Final = 4
"""How often every coder is asked again. Three rounds were enough wherever this was tried."""

ORDER: Final = ("I001", "RUF022", "RUF023")
"""Rules for the order of imports, of `__all__` and of `__slots__`."""
PROPOSAL: Final = TypeAdapter(Proposal)
PREFERENCE: Final = TypeAdapter(Preference)
"""Validated because any agent with the skill may give advice."""

Again = Callable[[str, str, list[str]], Awaitable[Proposal]]
"""Asks an agent for its proposal on another tree: agent, tree, files."""

Prefer = Callable[[list[str], list[Patch]], Awaitable[Advice | None]]
"""Asks which of some patches is better, given their authors and the patches. None if there is nobody to ask."""


class AgentUnavailable(Exception):
    """An agent could not be asked again; its first proposal is all there is."""


agent = Agent(
    "judge", version="1.0", description="Decides between patches by what the tests say.", concurrency=1,
)  # fmt: skip


@agent.skill(tags=["maintenance"])
async def judge_patches(workspace: Workspace, plan: Plan, proposals: list[Proposal], task: TaskContext) -> Judgement:
    """Decide which parts of the proposals become the patch."""
    await heed(task, plan)
    return await _judge(workspace, plan, proposals, task)


async def _judge(workspace: Workspace, plan: Plan, proposals: list[Proposal], task: TaskContext) -> Judgement:
    known = {info.agent_id: info for info in await task.find("propose_patch")}
    advisers = [info for info in await task.find("choose_patch") if info.status != "away"]

    async def again(name: str, tree: str, files: list[str]) -> Proposal:
        if name not in known:
            raise AgentUnavailable("no such agent")  # a person's patch, or a coder that never came back
        # The key names the question, so an attempt after a crash finds the answers of the previous one.
        key = f"again-{name}-{tree}-{git.digest(json.dumps(files).encode())[:16]}"
        question = {"workspace": workspace, "plan": plan, "onto": tree, "files": files}
        try:
            return cast(Proposal, await consult(task, "propose_patch", question, key, name))
        except (TaskError, Refused) as exc:
            raise AgentUnavailable(str(exc)) from exc

    async def prefer(names: list[str], patches: list[Patch]) -> Advice | None:
        # A model tends to prefer its own work.
        authors = {known[name].labels.get("model") for name in names if name in known} - {None}
        independent = [info.agent_id for info in advisers if info.labels.get("model") not in authors]
        if not independent:
            return None
        name, question = min(independent), {"workspace": workspace, "plan": plan, "patches": patches}
        key = f"choose-{name}-{git.digest(json.dumps(patches, sort_keys=True).encode())[:16]}"
        try:
            said = PREFERENCE.validate_python(await consult(task, "choose_patch", question, key, name))
        except (TaskError, Refused, ValidationError) as exc:
            return Advice(by=name, between=names, chosen="", reasons=[f"it failed: {exc}"])
        chosen = names[said["choice"]] if 0 <= said["choice"] < len(names) else ""
        return Advice(by=name, between=names, chosen=chosen, reasons=said["reasons"])

    async def record(rejected: Rejected) -> None:
        await task.artifact("rejected", rejected, append=True, last=False)

    return await judge_proposals(
        workspace, plan, proposals, again=again, prefer=prefer, report=task.progress, record=record
    )


@agent.skill(tags=["maintenance"])
async def merge_patches(task: dict[str, Any], input: Any, candidates: list[Any], context: TaskContext) -> Judgement:
    """Make one patch of several that contradict each other: of each what the tests can live with, asked again.

    Whom to ask again is taken from the conflict's record: what proposals say of their authors nobody has checked. The
    plan is the one they were asked to follow: whether it still is, is looked at where the step has come to its result.
    """
    workspace, plan = _asked(input)
    if workspace["evidence"] == "none":
        raise AttemptFailed(f"no evidence: {workspace['evidence_reason']}", code="no_evidence", retryable=False)
    group = (await context.get(context.id))["metadata"]["parent"]
    *_, conflict = (await context.get(group))["metadata"]["conflicts"]
    subjects = (await context.conflict(conflict))["subjects"]
    proposals = [_read(subject["value"], subject["agent"]) for subject in subjects]
    proposals.sort(key=lambda proposal: proposal["agent"])
    return await _judge(workspace, plan, proposals, context)


@agent.skill(tags=["maintenance"])
async def verify_patch(task: dict[str, Any], input: Any, candidates: list[Any], context: TaskContext) -> Verification:
    """Say whether a proposal holds by itself, and makes the code better."""
    workspace, plan = _asked(input)
    [verified] = await verify_proposals(workspace, plan, _shown(candidates), report=context.progress)
    return verified


@agent.skill(tags=["maintenance"])
async def choose_proposal(task: dict[str, Any], input: Any, candidates: list[Any], context: TaskContext) -> Choice:
    """Choose the proposal that leaves the fewest findings of those that hold, or of all where nothing can be tried."""
    workspace, plan = _asked(input)
    verified = await verify_proposals(workspace, plan, _shown(candidates), report=context.progress)
    is_blind = workspace["evidence"] == "none"
    left = [one["left"] if one["passed"] or is_blind else -1 for one in verified]
    fewest = min((findings for findings in left if findings >= 0), default=-1)
    return Choice(choice=left.index(fewest) if left.count(fewest) == 1 and fewest >= 0 else -1, left=left)


def _asked(input: Any) -> tuple[Workspace, Plan]:
    """Read what the coders were asked."""
    given = input[0]["data"]
    return given["workspace"], given["plan"]


def _shown(candidates: list[Any]) -> list[Proposal]:
    """Read the results that contradict each other."""
    return [_read(candidate[0]["parts"][0].get("data"), f"candidate {at}") for at, candidate in enumerate(candidates)]


def _read(value: Any, author: str) -> Proposal:
    """Read a result as a proposal of its author; an invalid one becomes a patch that does not apply."""
    try:
        return PROPOSAL.validate_python(value) | {"agent": author}
    except ValidationError:
        return Proposal(
            agent=author, patch=Patch(text="no proposal\n"), onto="", findings_before=0, findings_left=0, notes=[],
            elapsed=0.0,
        )  # fmt: skip


async def judge_proposals(
    workspace: Workspace,
    plan: Plan,
    proposals: Sequence[Proposal],
    *,
    again: Again,
    prefer: Prefer | None = None,
    report: Report = silent,
    record: Recorder | None = None,
) -> Judgement:
    """Do the judge's work.

    Args:
        again: asks a coder again on another tree.
        prefer: asks which patch is better if the evidence says that they are equally good.
        record: told of each refusal as it happens.

    Raises:
        AttemptFailed: the baseline is not the one that was taken (`evidence_lost`), or no sandbox works (`no_sandbox`).
    """
    started = monotonic()
    base = await git.tree_id(workspace["mirror"], workspace["base"])
    account = Account(workspace, base, record)

    async def refuse(name: str, files: Sequence[str], reason: str, detail: str, tree: str) -> None:
        await account.refuse(name, files, reason, detail, tree=tree)

    hearing = await hear(workspace, plan, proposals, base, refuse)
    case = _Case(workspace, plan, base, hearing.candidates, account, again, prefer, report)
    outcome = await (case.without_evidence() if workspace["evidence"] == "none" else case.decide())
    return await account.judgement(hearing, outcome, monotonic() - started)


async def verify_proposals(
    workspace: Workspace, plan: Plan, proposals: Sequence[Proposal], *, report: Report = silent
) -> list[Verification]:
    """Try each proposal by itself. If tests cannot decide, none passes, and only findings are counted."""
    base = await git.tree_id(workspace["mirror"], workspace["base"])
    verified = []
    refused: list[str] = []

    async def refuse(name: str, files: Sequence[str], reason: str, detail: str, tree: str) -> None:
        refused.append(f"{name}: {detail}")

    async with checkout(workspace, "judge", base) as work:
        trials = None if workspace["evidence"] == "none" else await _trials(workspace, work, report)
        for proposal in proposals:
            passed, left, evidence, detail = False, -1, no_evidence(), workspace["evidence_reason"]
            heard = (await hear(workspace, plan, [proposal], base, refuse)).candidates
            if not heard:
                detail = refused[-1] if refused else "it changes nothing"
            elif trials is None:
                await work.load(heard[0].tree)
                left = (await count_findings(work.path, workspace["files"]))["total"]
            else:
                trial = await trials.attempt(heard[0].tree)
                passed = trial.holds and _is_better(plan, trial, _untouched(workspace, base))
                left, evidence, detail = trial.total, trial.evidence, _in_words(trial.evidence)
            verified.append(Verification(passed=passed, left=left, detail=detail, evidence=evidence))
    return verified


async def _trials(workspace: Workspace, work: Worktree, report: Report) -> Trials:
    stored = read_json(workspace["tests"]["path"], workspace["tests"]["digest"])
    baseline = Baseline(stored["outcomes"], frozenset(stored["unstable"]))
    sandbox = await detect(workspace["run_dir"], workspace["repository"])
    if sandbox.kind == "none" and not workspace["allow_unsandboxed"]:
        raise AttemptFailed("no sandbox works any more", code="no_sandbox", retryable=False)
    settings = RunSettings(workspace["python"], sandbox, workspace["import_paths"], workspace["pytest_options"])
    return Trials(workspace, work, settings, baseline, report)


def _untouched(workspace: Workspace, base: str) -> Trial:
    return Trial(base, True, no_evidence(), workspace["findings"], cast(RunTally, workspace["tests"]))


def _is_better(plan: Plan, trial: Trial | Sight, than: Trial | Sight) -> bool:
    if plan["kind"] == "rename":  # a rename is about something that the linter does not count
        return trial.tree != than.tree and _but_for_order(trial) <= _but_for_order(than)
    return trial.total < than.total


def _but_for_order(trial: Trial | Sight) -> int:
    """Return the findings left, without those about the order of names: a new name may belong elsewhere."""
    return trial.total - sum(trial.findings["by_rule"].get(rule, 0) for rule in ORDER)


class _Step(NamedTuple):
    """An agent's work on top of a tree."""

    candidate: Candidate
    before: Trial | Sight
    after: Trial | Sight


@dataclass(slots=True)
class _Path:
    """The steps from a tree that holds to the tree built on it."""

    ground: Trial
    steps: list[_Step] = field(default_factory=list)
    firm: int = 0
    """How many steps lead to a tree that holds."""
    aside: list[_Step] = field(default_factory=list)
    """Steps that would make it worse."""
    seen: dict[str, str] = field(default_factory=dict)
    """The tree that each agent has last left, even if that was taken back: it is asked about the differences."""

    @property
    def end(self) -> Trial | Sight:
        return self.steps[-1].after if self.steps else self.ground

    def visited(self) -> set[str]:
        return {self.ground.tree, *(step.after.tree for step in self.steps)}

    def go(self, step: _Step) -> None:
        self.steps.append(step)
        self.seen[step.candidate.agent] = step.after.tree

    def length(self, plan: Plan) -> int:
        """Return how many steps lead to the best tree."""
        best, length = cast(Trial | Sight, self.ground), 0
        for number, step in enumerate(self.steps, start=1):
            if _is_better(plan, step.after, best):
                best, length = step.after, number
        return length


@dataclass(slots=True)
class _Case:
    """One decision."""

    _workspace: Workspace
    _plan: Plan
    _base: str
    _candidates: list[Candidate]
    _account: Account
    _again: Again
    _prefer: Prefer | None
    _report: Report

    async def without_evidence(self) -> Outcome:
        """Offer the proposal that leaves the fewest findings, untried: a person decides."""
        best, found = self._base, self._workspace["findings"]
        async with checkout(self._workspace, "judge", self._base) as work:
            chosen = None
            for candidate in self._candidates:
                await work.load(candidate.tree)
                findings = await count_findings(work.path, self._workspace["files"])
                if findings["total"] < found["total"] or (self._plan["kind"] == "rename" and chosen is None):
                    best, found, chosen = candidate.tree, findings, candidate
        if chosen is not None:
            self._account.accept(
                chosen.agent, sorted(chosen.files), self._workspace["findings"]["total"] - found["total"]
            )
        return Outcome("no_evidence", best, found, found["total"], count({}, 0.0), 0)

    async def decide(self) -> Outcome:
        """Try, narrow and combine, as the module's docstring says."""
        untouched = _untouched(self._workspace, self._base)
        async with checkout(self._workspace, "judge", self._base) as work:
            trials = await _trials(self._workspace, work, self._report)
            ground, best_single = await self._best_alone(trials, untouched)
            result = await self._build_on(trials, ground)
        verdict: Literal["accepted", "nothing"] = "nothing" if result.tree == self._base else "accepted"
        return Outcome(verdict, result.tree, result.findings, best_single, result.tests, trials.runs)

    async def _best_alone(self, trials: Trials, untouched: Trial) -> tuple[Trial, int]:
        """Try proposals alone; return the best part that holds, and the best result that held as a whole."""
        best, winner, best_single = untouched, None, untouched.total
        held: list[tuple[Candidate, Trial]] = []
        is_rename = self._plan["kind"] == "rename"
        for candidate in self._candidates:
            candidate.alone = (await trials.look(candidate.tree)).total
        order = self._candidates if is_rename else sorted(self._candidates, key=lambda one: one.alone)
        for number, candidate in enumerate(order):
            # A proposal that cannot be better is tried only for the figure: all coders are asked again later.
            is_late = candidate.alone > best.total and not is_rename
            if is_late and candidate.alone >= best_single:
                break
            share = 0.05 + 0.45 * number / len(order)
            await self._report(share, f"trying {candidate.agent}: {len(candidate.files)} files")
            fault = (await trials.look(candidate.tree)).fault
            trial = await trials.attempt(candidate.tree) if is_rename or not fault else None
            if trial is not None and trial.holds:
                best_single = min(best_single, trial.total)
            elif is_late:
                continue
            else:
                said = fault if trial is None else _in_words(trial.evidence)
                looking = ": looking for the files" * (not is_rename)
                await self._report(share, f"{candidate.agent} does not hold, {said}{looking}")
                trial = await self._narrow(trials, untouched, candidate, candidate.tree, sorted(candidate.files))
            candidate.alone = trial.total
            held.append((candidate, trial))
            if _is_better(self._plan, trial, best):
                best, winner = trial, candidate
        # For each tree its first proposer; sorted by tree, which does not reveal who was first.
        equals = {trial.tree: (candidate, trial) for candidate, trial in reversed(held) if trial.total == best.total}
        equals.pop(untouched.tree, None)
        if winner is not None and len(equals) > 1:
            advised = await self._advised([equals[tree] for tree in sorted(equals)])
            best, winner = advised or (best, winner)
        # From here on the coder that did best alone is asked first, whatever the order of the proposals.
        self._candidates.sort(key=lambda one: (one.alone, one is not winner, one.agent))
        if winner is not None:
            await self._account.take(winner.agent, untouched, best)
        return best, best_single

    async def _advised(self, equals: Sequence[tuple[Candidate, Trial]]) -> tuple[Trial, Candidate] | None:
        """Ask which of several equally good results that hold is better; None if nobody says."""
        if self._prefer is None:
            return None
        patches = [await patch_of(self._workspace, trial.tree) for _, trial in equals]
        advice = await self._prefer([candidate.agent for candidate, _ in equals], patches)
        if advice is None:
            return None
        self._account.advise(advice)
        chosen = [(trial, candidate) for candidate, trial in equals if candidate.agent == advice["chosen"]]
        return chosen[0] if chosen else None

    async def _build_on(self, trials: Trials, ground: Trial) -> Trial:
        """Ask the coders again on top of what holds, as long as that makes it better; return the best result.

        A step that leaves as many findings as before is also built on, because it may be what another coder needs: one
        tool turns `%` into `format`, the next one `format` into an f-string. If nothing comes of it, it is dropped.
        """
        first = self._account.first
        path = _Path(ground, seen={} if first is None else {first: ground.tree})
        while True:
            await self._ask_all(trials, path)
            length = path.length(self._plan)
            # A known fault is in the last step, which has to be examined even if it improves nothing.
            whole = len(path.steps) if _fault(path.end) else length
            if whole <= path.firm or (not _fault(path.end) and await self._holds(trials, path, whole)):
                break
            await self._mend(trials, path, whole)
        for step in path.steps[:length]:
            await self._account.take(step.candidate.agent, step.before, step.after)
        for step in (*path.aside, *path.steps[length:]):
            await self._account.refuse_gainless(step.candidate.agent, step.before, step.after)
        return await trials.attempt(path.steps[length - 1].after.tree) if length else ground

    async def _ask_all(self, trials: Trials, path: _Path) -> None:
        """Ask the coders again, each on top of the previous one's result, without running a test."""
        for number in range(ROUNDS_MAX):
            before = path.end.tree
            for candidate in self._candidates:
                files = await self._worth_asking(candidate, path.end, path.seen.get(candidate.agent))
                if not files:
                    continue
                share = 0.5 + 0.45 * number / ROUNDS_MAX
                await self._report(share, f"asking {candidate.agent} again: {path.end.total} left")
                onto = path.end
                after = await self._one_more(trials, onto, candidate, files)
                path.seen[candidate.agent] = onto.tree
                if after.tree in path.visited():
                    continue
                step = _Step(candidate, onto, after)
                if after.total > onto.total and not _fault(after):
                    path.aside.append(step)
                    continue
                path.go(step)
                if _fault(after):
                    return
            if path.end.tree == before:
                return

    async def _holds(self, trials: Trials, path: _Path, length: int) -> bool:
        """Return whether the tree after this many steps passes the tests."""
        if length <= path.firm:
            return True
        after = path.steps[length - 1].after
        await self._report(None, f"trying what came of asking again: {after.total} left")
        if (await trials.attempt(after.tree)).holds:
            path.firm = length
            return True
        return False

    async def _mend(self, trials: Trials, path: _Path, broken: int) -> None:
        """Find the first step that breaks the tests, keep the part of it that does not, and take back later steps.

        Args:
            broken: a number of steps that does not hold.
        """
        if _fault(path.end) and not await self._holds(trials, path, broken - 1):
            broken -= 1
        while broken - path.firm > 1:
            middle = (path.firm + broken) // 2
            if not await self._holds(trials, path, middle):
                broken = middle
        candidate, _, broken_by = path.steps[path.firm]
        del path.steps[path.firm :]
        onto = await trials.attempt(path.end.tree) if path.steps else path.ground
        changed = await git.changed_paths(self._workspace["mirror"], onto.tree, broken_by.tree)
        after = await self._narrow(trials, onto, candidate, broken_by.tree, changed)
        path.seen[candidate.agent] = onto.tree
        if after.tree in path.visited():
            return
        if after.total > onto.total:
            path.aside.append(_Step(candidate, onto, after))
            return
        path.go(_Step(candidate, onto, after))
        path.firm += 1

    async def _worth_asking(self, candidate: Candidate, ground: Trial | Sight, seen: str | None) -> list[str]:
        """Return the files an agent may have something to say about: those that differ from how it last left them."""
        touched = set(await git.changed_paths(self._workspace["mirror"], seen or self._base, ground.tree))
        return sorted((touched if seen else touched | candidate.files) - candidate.refused)

    async def _one_more(
        self, trials: Trials, ground: Trial | Sight, candidate: Candidate, files: list[str]
    ) -> Trial | Sight:
        """Return an agent's result on the ground, whether that is better or not."""
        target = await self._ask(candidate, ground, files)
        wanted = [
            path for path in await git.changed_paths(self._workspace["mirror"], ground.tree, target) if path in files
        ]
        if not wanted:
            return ground
        return await trials.look(await git.replace_paths(self._workspace["mirror"], ground.tree, target, wanted))

    async def _ask(self, candidate: Candidate, ground: Trial | Sight, files: list[str]) -> str:
        """Return an agent's result on the ground; if it cannot be asked, what git can merge of its first proposal."""
        try:
            proposal = await self._again(candidate.agent, ground.tree, files)
            return await tree_of(self._workspace, proposal["patch"])
        except (AgentUnavailable, AttemptFailed) as exc:
            await self._report(None, f"{candidate.agent} cannot be asked again ({exc}): merging what it proposed first")
        usable = sorted(candidate.files - candidate.refused)
        first = await git.replace_paths(self._workspace["mirror"], self._base, candidate.tree, usable)
        merged = await git.merge(self._workspace["mirror"], self._base, ground.tree, first)
        if not merged.conflicts:
            return merged.tree
        new = [path for path in merged.conflicts if path not in candidate.refused]
        if new:
            candidate.refused.update(new)
            await self._account.refuse(
                candidate.agent, new, "conflict", "git cannot merge it with what was accepted", tree=first
            )
        return await git.replace_paths(self._workspace["mirror"], merged.tree, ground.tree, merged.conflicts)

    async def _narrow(
        self, trials: Trials, ground: Trial, candidate: Candidate, target: str, paths: Sequence[str]
    ) -> Trial:
        """Return the part of a change that holds, if the whole does not; of a new name nothing is kept."""
        if self._plan["kind"] == "rename":
            # A file that no test reads holds alone as well, and would use the new name of what still has the old one.
            evidence = (await trials.attempt(target)).evidence
            candidate.refused.update(paths)
            detail = f"{_in_words(evidence)}; a new name is taken in all files or in none"
            await self._account.refuse(candidate.agent, paths, "tests", detail, evidence, tree=target, onto=ground.tree)
            return ground

        async def refused(path: str, reason: str, evidence: Evidence, tree: str) -> None:
            candidate.refused.add(path)
            await self._account.refuse(candidate.agent, [path], reason, _in_words(evidence), evidence, tree=tree)

        return await trials.narrow(ground, target, paths, refused)


def _fault(step: Trial | Sight) -> str:
    """Return why something untested does not hold, or an empty text if that is not known."""
    return step.fault if isinstance(step, Sight) else ""


def _in_words(evidence: Evidence) -> str:
    parts = []
    if evidence["failing_total"]:
        parts.append(f"{_tests(evidence['failing_total'], 'fail')} with it")
    if evidence["vanished_total"]:
        parts.append(_tests(evidence["vanished_total"], "no longer run"))
    return ", ".join(parts) or evidence["excerpt"]


def _tests(count: int, do: str) -> str:
    return f"1 test {do}s" if count == 1 else f"{count} tests {do}"


if __name__ == "__main__":
    agent.main()
