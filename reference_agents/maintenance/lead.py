"""The lead: has a maintenance request carried out by other agents, asks the human, and sums up.

It does none of the work. Every step is a sub-task with a key of its own, so an attempt that follows a `kill -9` finds
the steps of the one before, done or under way, and asks nobody twice. What it decides depends on nothing but their
results and the human's answers.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import anyio

from a2a import Agent, AgentInfo, AttemptFailed, TaskContext

from . import git
from .approval import HUMAN, Approval, Decision, question, read_answer, without_a_person
from .errand import Errand, ErrandFailed
from .evidence import no_evidence
from .provenance import branch_names, title_of, trailers_of
from .shapes import Deployment, Judgement, Listing, Patch, Plan, Proposal, Rejected, Review, Source, Workspace
from .summary import Step, Summary, Verdict, describe, new_summary

__all__ = ["agent", "maintain"]

ROUNDS_MAX: Final = 5
"""How often a person may send a patch back. By then it is quicker to write it by hand."""
NEEDED: Final = ("plan_request", "prepare", "find_files", "propose_patch", "judge_patches", "review_patch", "deploy")
ASSEMBLY: Final = 60.0
"""Seconds in which an agent for every skill has to be there; a squad comes up in a few."""
LOOK_AGAIN: Final = 0.25
QUEUE_HERE, QUEUE_AWAY = 1800.0, 20.0
"""Seconds a coder may keep its step waiting: one that is here may be busy, one that is away has to come back soon."""

agent = Agent("lead", version="1.0", description="Has a maintenance request carried out.", concurrency=8)


@agent.skill(tags=["maintenance"])
async def maintain(
    request: str,
    source: Source,
    run_dir: str,
    task: TaskContext,
    approve: Approval = "ask",
    branch: str = "",
    allow_unsandboxed: bool = False,
) -> Summary:
    """Carry out a maintenance request on a repository and commit the result on a branch of its own."""
    run = _Run(task, request, source, run_dir, approve, branch, allow_unsandboxed)
    try:
        return await run.through()
    except ErrandFailed as exc:
        await run.story("failed", exc.step["agent"] or exc.step["skill"], f"{exc.step['name']}: {exc.detail}")
        raise AttemptFailed(f"{exc.step['name']}: {exc.detail}", code=exc.code) from exc


@dataclass(slots=True)
class _Run:
    """One attempt at a request."""

    task: TaskContext
    request: str
    source: Source
    run_dir: str
    approve: Approval
    branch: str
    allow_unsandboxed: bool
    errands: list[Errand] = field(default_factory=list)
    unheard: list[Rejected] = field(default_factory=list)
    """Coders that failed, in this round."""
    rounds: int = 0
    span: tuple[float, float] = (0.0, 0.0)
    """The part of the whole that is going on, as fractions: for progress."""

    async def through(self) -> Summary:
        """Go through all of it."""
        await self._assemble()
        self.span = (0.0, 0.25)
        workspace, plan = await self._both(self._prepare(), self._plan(self.request))
        self.span = (0.25, 0.3)
        workspace = await self._allow_tests(workspace)
        await self._tell_workspace(workspace)
        repository = workspace["repository"]
        listing = cast(Listing, await self._step("find", "find_files", "find", repository=repository, plan=plan))
        summary = self._summary_of(workspace)
        if plan["kind"] == "find":
            summary["answer"] = listing["answer"]
            return self._finish(summary, "answered")
        await self._tell_listing(listing)
        return await self._rounds(workspace, plan, summary)

    async def _rounds(self, workspace: Workspace, plan: Plan, summary: Summary) -> Summary:
        """Propose, judge, review and ask, until there is a decision."""
        judgement, review = await self._propose_and_judge(workspace, plan)
        hint = ""
        while True:
            self._enter(summary, judgement, review)
            if judgement["verdict"] == "nothing" and not hint:
                return self._finish(summary, "nothing", "no change held" if judgement["rejected"] else "")
            settled = without_a_person(self.approve, judgement, review)
            if settled is not None:
                return self._finish(summary, *settled)
            decision = await self._decide(workspace, judgement, review, hint)
            hint = ""
            if decision.verdict == "approve" and judgement["verdict"] == "nothing":
                return self._finish(summary, "nothing", "no change held")
            if decision.verdict == "approve" and review["verdict"] != "refuse":
                summary["approved_by"] = HUMAN if self.approve == "ask" else self.approve
                return await self._deploy(workspace, plan, judgement, review, summary)
            if decision.verdict in {"approve", "reject"} or self.rounds >= ROUNDS_MAX:
                refused = review["verdict"] == "refuse"
                return self._finish(summary, "refused" if refused else "rejected", decision.text)
            if decision.verdict == "edit":
                edited = await self._judge_edit(workspace, plan, decision.text)
                if isinstance(edited, str):
                    hint = edited
                    continue
                judgement, review = edited
                continue
            await self.story("feedback", HUMAN, decision.text)
            wanted = await self._plan(f"{self.request}\n{decision.text}")
            before = judgement["patch"].get("digest")
            judgement, review = await self._propose_and_judge(workspace, wanted)
            plan = wanted
            if judgement["patch"].get("digest") == before:
                hint = "Nothing came out differently with that feedback."
            elif judgement["verdict"] == "nothing":
                hint = "With that feedback nothing is left to change."

    # The steps --------------------------------------------------------------------------------------------------------

    async def _assemble(self) -> None:
        """Wait until somebody is there for every skill."""
        missing: list[str] = []
        with anyio.move_on_after(ASSEMBLY):
            while True:
                missing = [skill for skill in NEEDED if not await self.task.find(skill)]
                if not missing:
                    return
                await self.task.progress(0.0, f"waiting for an agent for {', '.join(missing)}")
                await anyio.sleep(LOOK_AGAIN)
        raise AttemptFailed(f"nobody is there for {', '.join(missing)}", code="no_capable_agent")

    async def _prepare(self) -> Workspace:
        allowed, run_dir, source = self.allow_unsandboxed, self.run_dir, self.source
        return cast(
            Workspace,
            await self._step(
                "prepare", "prepare", "prepare", source=source, run_dir=run_dir, allow_unsandboxed=allowed
            ),
        )  # fmt: skip

    async def _allow_tests(self, workspace: Workspace) -> Workspace:
        """Where no sandbox is to be had, have the person say whether the tests may run without one."""
        if workspace["sandbox"] != "none" or workspace["allow_unsandboxed"] or self.approve != "ask":
            return workspace
        question = (
            "No sandbox works on this machine. May this repository's tests run without one, with all that you may do? "
            "Without them nothing tells good patches from bad."
        )
        if str(await self.ask(question, ["yes", "no"])).strip().lower() not in {"yes", "y"}:
            return workspace
        self.allow_unsandboxed = True
        return await self._prepare()

    async def _plan(self, words: str) -> Plan:
        repository = self.source.get("repository", "")
        plan = cast(Plan, await self._step("plan", "plan_request", "plan", request=words, repository=repository))
        where = f" in {', '.join(plan['paths'])}" if plan["paths"] else ""
        await self.story("plan", "intent", f"{plan['kind']} for {plan['target']}{where}")
        return plan

    async def _propose_and_judge(self, workspace: Workspace, plan: Plan) -> tuple[Judgement, Review]:
        self.rounds += 1
        self.span = (0.3, 0.4)
        proposals = await self._propose(workspace, plan)
        self.span = (0.4, 0.9)
        return await self._judge(workspace, plan, proposals)

    async def _propose(self, workspace: Workspace, plan: Plan) -> list[Proposal]:
        """Have every coder there is propose a patch. One that fails is written down, and missed by nobody."""
        coders = await self.task.find("propose_patch")
        self.unheard = []
        found: dict[str, Proposal] = {}

        async def ask(coder: AgentInfo) -> None:
            queue = QUEUE_AWAY if coder.status == "away" else QUEUE_HERE
            try:
                proposal = await self._step(
                    f"propose {coder.agent_id}", "propose_patch", f"propose-{coder.agent_id}",
                    to=coder.agent_id, queue=queue, workspace=workspace, plan=plan,
                )  # fmt: skip
            except ErrandFailed as exc:
                await self.story("failed", coder.agent_id, exc.detail)
                self.unheard.append(_failed(coder.agent_id, exc.detail))
                return
            found[coder.agent_id] = proposal
            before, left = proposal["findings_before"], proposal["findings_left"]
            changed = len(proposal["patch"].get("files", []))
            await self.story("found", coder.agent_id, f"proposes {changed} files: {before} -> {left} findings")

        async with anyio.create_task_group() as group:
            for coder in coders:
                group.start_soon(ask, coder)
        self.unheard.sort(key=lambda rejected: rejected["agent"])
        if not found:
            reasons = "; ".join(f"{rejected['agent']}: {rejected['detail']}" for rejected in self.unheard)
            raise AttemptFailed(f"no coder proposed anything: {reasons or 'none is there'}", code="no_proposals")
        return [found[name] for name in sorted(found)]

    async def _judge(self, workspace: Workspace, plan: Plan, proposals: list[Proposal]) -> tuple[Judgement, Review]:
        judgement = cast(
            Judgement,
            await self._step("judge", "judge_patches", "judge", workspace=workspace, plan=plan, proposals=proposals),
        )
        for conflict in judgement["conflicts"]:
            agents = " and ".join(conflict["agents"])
            await self.story("conflict", agents, f"{', '.join(conflict['files'][:3])}: {conflict['resolution']}")
        before, after = judgement["findings_before"]["total"], judgement["findings_after"]["total"]
        await self.story("judged", "judge", f"{judgement['verdict']}: {before} -> {after} findings")
        if judgement["verdict"] == "nothing":
            return judgement, {"verdict": "pass", "findings": []}
        self.span = (0.9, 0.95)
        review = cast(
            Review,
            await self._step(
                "review", "review_patch", "review", workspace=workspace, plan=plan, patch=judgement["patch"]
            ),
        )  # fmt: skip
        remarks = len([finding for finding in review["findings"] if finding["verdict"] != "pass"])
        await self.story("reviewed", "safety", f"{review['verdict']}, {remarks} remarks")
        return judgement, review

    async def _judge_edit(self, workspace: Workspace, plan: Plan, said: str) -> tuple[Judgement, Review] | str:
        """Judge what a person made of the patch like any other proposal; return what is wrong with it as words."""
        text = said if "\n" in said.strip() else _read(said.strip())
        if text is None:
            return f"There is no patch at {said.strip()}."
        self.rounds += 1
        proposal = Proposal(
            agent=HUMAN, patch=Patch(text=text), onto=workspace["base"],
            findings_before=workspace["findings"]["total"], findings_left=0, notes=[], elapsed=0.0,
        )  # fmt: skip
        await self.story("feedback", HUMAN, "edited the patch")
        self.span = (0.4, 0.9)
        judgement, review = await self._judge(workspace, plan, [proposal])
        if judgement["verdict"] == "nothing":
            reasons = "; ".join(rejected["detail"] or rejected["reason"] for rejected in judgement["rejected"])
            return f"The edited patch does not hold: {reasons or 'it mends nothing'}."
        return judgement, review

    async def _deploy(
        self, workspace: Workspace, plan: Plan, judgement: Judgement, review: Review, summary: Summary
    ) -> Summary:
        self.span = (0.95, 1.0)
        wanted = self.branch or f"a2a/{plan['kind']}-{_digest([self.task.id, self.run_dir])[:8]}"
        steps = [errand.step for errand in self.errands]
        trailers = trailers_of(
            self.request, self.task.id, plan, judgement, review, steps, approved_by=summary["approved_by"]
        )  # fmt: skip
        for name in [wanted] if self.branch else branch_names(wanted):
            try:
                deployed = cast(
                    Deployment,
                    await self._step(
                        "deploy", "deploy", "deploy", workspace=workspace, patch=judgement["patch"],
                        branch=name, title=title_of(plan), trailers=trailers,
                    ),
                )  # fmt: skip
            except ErrandFailed as exc:
                if exc.code == "branch_moved" and not self.branch:
                    continue  # the name is taken by somebody else's work: it stays as it is
                raise
            summary["branch"], summary["commit"] = deployed["branch"], deployed["commit"]
            await self.story("deployed", "deployer", f"{deployed['commit'][:12]} on {deployed['branch']}")
            return self._finish(summary, "deployed")
        raise AttemptFailed(f"every branch from {wanted} on is taken", code="branch_moved")

    # The human --------------------------------------------------------------------------------------------------------

    async def _decide(self, workspace: Workspace, judgement: Judgement, review: Review, hint: str) -> Decision:
        if self.approve == "auto":
            return Decision("approve")
        path = self._patch_file(judgement)
        if path:
            await self.story("patch", "judge", path)
        return read_answer(await self.ask(*question(workspace, judgement, review, path, hint)))

    async def ask(self, question: str, options: list[str] | None) -> Any:
        """Ask whoever delegated the run."""
        if self.approve != "ask":
            choices = f" ({' / '.join(options)})" if options else ""
            raise AttemptFailed(f"nobody is there to be asked: {question}{choices}", code="unclear")
        await self.task.progress(None, "waiting for an answer")
        return await self.task.ask(question, options=options)

    # The account ------------------------------------------------------------------------------------------------------

    async def story(self, kind: str, who: str, what: str) -> None:
        """Tell whoever watches what happened, for good."""
        await self.task.artifact("story", {"kind": kind, "who": who, "what": what}, append=True, last=False)

    async def note(self, fraction: float | None, words: str) -> None:
        """Tell whoever watches what is going on."""
        low, high = self.span
        await self.task.progress(None if fraction is None else low + (high - low) * fraction, words)

    async def _tell_workspace(self, workspace: Workspace) -> None:
        tests, findings = workspace["tests"], workspace["findings"]
        said = f"{len(workspace['files'])} files, {findings['total']} findings, {tests['total']} tests"
        if tests["failed"]:
            said += f" ({tests['failed']} fail before anything is touched)"
        await self.story("found", "preparer", said)
        if workspace["evidence"] == "none":
            await self.story("evidence", "preparer", f"NO EVIDENCE: {workspace['evidence_reason']}")
        if workspace["sandbox"] == "none" and workspace["allow_unsandboxed"]:
            await self.story("evidence", "preparer", "NO SANDBOX works here: the tests run with all that you may do")

    async def _tell_listing(self, listing: Listing) -> None:
        best = ", ".join(found["path"] for found in listing["files"][:3])
        if best:
            await self.story("found", "retriever", f"matters most: {best}")

    async def _step(
        self, name: str, skill: str, key: str, *, to: str | None = None, queue: float | None = None, **given: Any
    ) -> Any:
        """Run one step; what it is given is part of its key, so another round is another sub-task."""
        shown = f"{name} (round {self.rounds})" if self.rounds > 1 else name
        unique = f"{key}-{_digest(given)}"
        errand = Errand(self.task, shown, skill, given, unique, self.story, self.ask, self.note, to, queue)
        self.errands.append(errand)
        return await errand.run()

    async def _both(self, first: Awaitable[Workspace], second: Awaitable[Plan]) -> tuple[Workspace, Plan]:
        """Wait for two steps at once; where one fails, that is the failure."""
        results: dict[int, Any] = {}

        async def keep(number: int, step: Awaitable[Any]) -> None:
            results[number] = await step

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(keep, 0, first)
                group.start_soon(keep, 1, second)
        except BaseExceptionGroup as failures:
            raise _first_of(failures) from failures
        return results[0], results[1]

    def _summary_of(self, workspace: Workspace) -> Summary:
        summary = new_summary(self.request, workspace["run_dir"])
        summary["name"], summary["repository"], summary["base"] = (
            workspace["name"], workspace["repository"], workspace["base"]
        )  # fmt: skip
        tests = workspace["tests"]
        summary["findings_before"] = summary["findings_after"] = workspace["findings"]
        summary["tests_before"] = summary["tests_after"] = {
            "total": tests["total"], "passed": tests["passed"], "failed": tests["failed"],
            "skipped": tests["skipped"], "seconds": tests["seconds"],
        }  # fmt: skip
        return summary

    def _enter(self, summary: Summary, judgement: Judgement, review: Review) -> None:
        """Write a judgement into the summary."""
        summary["findings_before"] = judgement["findings_before"]
        summary["findings_after"] = judgement["findings_after"]
        summary["tests_before"], summary["tests_after"] = judgement["tests_before"], judgement["tests_after"]
        summary["best_single"], summary["test_runs"] = judgement["best_single"], judgement["test_runs"]
        summary["accepted"], summary["conflicts"] = judgement["accepted"], judgement["conflicts"]
        summary["rejected"] = [*self.unheard, *judgement["rejected"]]
        summary["agreements"], summary["evidence"] = judgement["agreements"], judgement["digest"]
        summary["review"], summary["rounds"] = review, self.rounds
        # The verdict of the judge, until the run has one of its own.
        summary["verdict"] = "no_evidence" if judgement["verdict"] == "no_evidence" else "held"
        summary["patch_path"] = self._patch_file(judgement)

    def _patch_file(self, judgement: Judgement) -> str:
        """Put the patch where a person can read it, and return where; a small one was in the judgement only."""
        if judgement["verdict"] == "nothing":
            return ""
        path = judgement["patch"].get("path", "")
        if path:
            return path
        folder = Path(self.run_dir) / "patches"
        target = folder / f"{judgement['patch'].get('digest') or judgement['digest']}.patch"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            target.write_text(judgement["patch"]["text"], encoding="utf-8")
        return str(target)

    def _finish(self, summary: Summary, verdict: Verdict, reason: str = "") -> Summary:
        summary["verdict"], summary["reason"] = verdict, reason
        steps: list[Step] = [errand.step for errand in self.errands]
        summary["steps"] = steps
        summary["losses"] = sum(step["losses"] for step in steps)
        summary["retries"] = sum(max(0, step["attempts"] - step["losses"] - 1) for step in steps)
        began = min((errand.began for errand in self.errands if errand.began), default=0.0)
        ended = max((errand.ended for errand in self.errands), default=0.0)
        summary["seconds"] = round(max(0.0, ended - began), 2)
        summary["text"] = describe(summary)
        return summary


def _failed(name: str, detail: str) -> Rejected:
    return Rejected(
        agent=name, files=[], reason="agent_failed", detail=detail, evidence=no_evidence(), patch_path="",
        patch_digest="",
    )  # fmt: skip


def _digest(value: Any) -> str:
    return git.digest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())[:16]


def _read(path: str) -> str | None:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    agent.main()
