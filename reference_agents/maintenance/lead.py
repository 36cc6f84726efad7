"""The lead: has a maintenance request carried out by other agents, asks the human, and sums up.

It does none of the work. Every step is a sub-task with its own key, so an attempt after a `kill -9` finds the steps of
the previous one, done or under way, and asks nobody twice. Its decisions depend only on their results and the human's
answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import anyio

from a2a import Agent, AgentInfo, AttemptFailed, TaskContext

from ..contest import Rules, settled
from ..delegating import LOOK_AGAIN, MOVED
from ..errand import ErrandFailed
from ..presence import awaited
from ..steps import Steps, digest
from ..turns import turn
from . import git
from .approval import HUMAN, Approval, Decision, question, read_answer, without_a_person
from .decisions import APPROVAL, PLAN, Decisions
from .evidence import no_evidence
from .holding import branch_of, repository_name, turn_at
from .provenance import branch_names, title_of, trailers_of
from .shapes import Deployment, Judgement, Listing, Patch, Plan, Proposal, Rejected, Review, Source, Workspace
from .summary import Summary, Verdict, enter, finish, in_short, new_summary, number_of, summary_of

__all__ = ["agent", "maintain"]

ROUNDS_MAX: Final = 5
"""How often a person may send a patch back. By then it is quicker to write it by hand."""
TURN_MAX: Final = 24 * 3600.0
"""Seconds a run waits for earlier runs; a person may take that long to answer one."""
WAIT_TOLD: Final = 1.0
"""The shortest wait, in seconds, that a summary mentions."""
NOTE_CHARS_MAX: Final = 300
"""Characters of a coder's reason for proposing nothing."""
MOVES_MAX: Final = 8
"""How often a plan may move while it is worked on. A person who moves it more often does not want it done yet."""
NEEDED: Final = (
    "plan_request", "prepare", "find_files", "propose_patch", "merge_patches", "judge_patches", "review_patch",
    "deploy",
)  # fmt: skip
ASSEMBLY: Final = 60.0
"""Seconds in which an agent for every skill has to appear; a squad comes up in a few."""
QUEUE_HERE, QUEUE_AWAY = 1800.0, 20.0
"""Seconds a coder may keep its step waiting: one that is here may be busy, one that is away has to come back soon."""
BALLOT: Final = 180.0
"""Seconds that a coder may need beyond those that contradict each other: the slowest tool needs 66 s at worst."""
RUNG_MS: Final = 3_600_000
"""How long a merger may take: it runs a repository's tests many times."""
SAME_PATCH: Final = "pointers[/patch/tree]"
NOBODY: Final = {"answered": False}
"""The answer to a question that nobody answers in time. No person gives this answer."""
LADDER: Final = (
    {"strategy": "merge", "skill": "merge_patches", "timeoutMs": RUNG_MS},
    {"strategy": "verify", "skill": "verify_patch", "timeoutMs": RUNG_MS},
    {"strategy": "judge", "skill": "choose_proposal", "timeoutMs": RUNG_MS},
)
"""Who decides between coders. A person comes last, if one is to be asked; else nobody's patch is taken."""

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
    answer_within: float | None = None,
) -> Summary:
    """Carry out a maintenance request on a repository and commit the result on a branch of its own."""
    run = _Run(task, request, source, run_dir, approve, branch, allow_unsandboxed, answer_within)
    try:
        return await run.through()
    except _Undecided as exc:
        return run.finish("undecided", str(exc))
    except _Unanswered as exc:
        return run.finish("unanswered", str(exc))
    except ErrandFailed as exc:
        await run.steps.story("failed", exc.step["agent"] or exc.step["skill"], f"{exc.step['name']}: {exc.detail}")
        raise AttemptFailed(f"{exc.step['name']}: {exc.detail}", code=exc.code) from exc


class _Undecided(Exception):
    """Agents contradict each other, and no rung of the ladder has decided."""


class _Unanswered(Exception):
    """A person was asked, and has not answered in time."""


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
    answer_within: float | None
    """Seconds a person has for each question; None: as long as the coordinator waits."""
    steps: Steps = field(init=False)
    decisions: Decisions = field(init=False)
    """Set once there is a plan."""
    moves: int = 0
    """How often something was done again because a decision had moved."""
    again: int = 0
    """How many of the last of these left the plan unchanged."""
    edits: int = 0
    """How often a person has handed in a patch of their own."""
    summary: Summary = field(init=False)
    unheard: list[Rejected] = field(default_factory=list)
    """Coders that failed, in this round."""
    notes: dict[str, str] = field(default_factory=dict)
    """What coders that propose nothing say, in this round."""

    def __post_init__(self) -> None:
        self.steps = Steps(self.task, self.ask)
        self.summary = new_summary(self.request, self.run_dir)

    async def through(self) -> Summary:
        """Carry out the whole request."""
        await self._assemble()
        plan = await self._plan(self.request)
        await self._see_room(plan)
        async with self._turn(plan):
            return await self._on(plan)

    async def _on(self, plan: Plan) -> Summary:
        """Carry out the request once there is a plan, and it is this run's turn."""
        self.steps.span = (0.0, 0.25)
        is_question = plan["kind"] == "find"
        workspace = await self._prepare(with_tests=not is_question)
        self.steps.span = (0.25, 0.3)
        if not is_question:
            workspace = await self._allow_tests(workspace)
            await self._tell_workspace(workspace)
        repository = workspace["repository"]
        listing = cast(Listing, await self.steps.run("find", "find_files", "find", repository=repository, plan=plan))
        summary = self.summary = summary_of(self.request, workspace) | {"waits": self.summary["waits"]}
        if is_question:
            summary["answer"] = listing["answer"]
            return self.finish("answered")
        await self._tell_listing(listing)
        self.decisions = Decisions(self.task, plan)
        await self.decisions.begin()
        look = f"a2a context get {self.task.context_id} {PLAN}"
        await self.steps.story("decided", agent.name, f"keeps the plan where it may be changed: {look}")
        self.steps.outdated = self.decisions.outdated
        while True:
            try:
                return await self._rounds(workspace, summary)
            except ErrandFailed as exc:
                if exc.code != MOVED:
                    raise
                await self._look_again()

    async def _look_again(self) -> None:
        """Go on with the plan in force; everything that was done on another plan is done again."""
        self.moves += 1
        if self.moves > MOVES_MAX:
            raise AttemptFailed(f"the plan has moved {self.moves} times while it was worked on", code=MOVED)
        before = self.decisions.rev
        there = await self.decisions.look()
        self.again = self.again + 1 if self.decisions.rev == before else 0
        self.summary["decisions"] = await self.decisions.told()
        if there.value == self.decisions.plan:
            await self.steps.story("decided", there.author, f"wants {_described(self.decisions.plan)}")
        else:
            said = f"revision {there.rev}, by {there.author}, is no plan to go on with: {self.decisions.wrong}"
            await self.steps.story("decided", agent.name, f"{said}; it is as it was")

    async def _rounds(self, workspace: Workspace, summary: Summary) -> Summary:
        """Propose, judge, review and ask, until there is a decision."""
        plan = self.decisions.plan
        judgement, review = await self._propose_and_judge(workspace, plan)
        hint = ""
        while True:
            enter(summary, judgement, review, self.unheard, self._patch_file(judgement))
            if judgement["verdict"] == "nothing" and not hint:
                return self.finish("nothing", "no change held" if judgement["rejected"] else self._why_nothing())
            settled = without_a_person(self.approve, judgement, review)
            if settled is not None:
                return self.finish(*settled)
            decision = await self._decide(workspace, judgement, review, hint)
            hint = ""
            if decision.verdict == "approve" and judgement["verdict"] == "nothing":
                return self.finish("nothing", "no change held")
            if decision.verdict == "approve" and review["verdict"] != "refuse":
                await self._approve(judgement, HUMAN if self.approve == "ask" else self.approve)
                return await self._deploy(workspace, plan, judgement, review, summary)
            if decision.verdict in {"approve", "reject"} or self.steps.rounds - self.moves >= ROUNDS_MAX:
                refused = review["verdict"] == "refuse"
                return self.finish("refused" if refused else "rejected", decision.text)
            if decision.verdict == "edit":
                edited = await self._judge_edit(workspace, plan, decision.text)
                if isinstance(edited, str):
                    hint = edited
                    continue
                judgement, review = edited
                continue
            await self.steps.story("feedback", HUMAN, decision.text)
            wanted = await self._plan(f"{self.request}\n{decision.text}")
            before = judgement["patch"].get("digest")
            await self.decisions.change(wanted, decision.text)
            summary["decisions"] = await self.decisions.told()
            plan = self.decisions.plan
            judgement, review = await self._propose_and_judge(workspace, plan)
            if judgement["patch"].get("digest") == before:
                hint = "Nothing came out differently with that feedback."
            elif judgement["verdict"] == "nothing":
                hint = "With that feedback nothing is left to change."

    # The steps --------------------------------------------------------------------------------------------------------

    async def _assemble(self) -> None:
        """Wait until every skill has an agent."""
        missing = [*NEEDED]  # as far as is known: there may be no time for a first look
        with anyio.move_on_after(ASSEMBLY):
            while True:
                missing = [skill for skill in NEEDED if not await self.task.find(skill)]
                if not missing:
                    return
                await self.task.progress(0.0, f"waiting for an agent for {', '.join(missing)}")
                await anyio.sleep(LOOK_AGAIN)
        raise AttemptFailed(f"nobody is there for {', '.join(missing)}", code="no_capable_agent")

    @contextlib.asynccontextmanager
    async def _turn(self, plan: Plan) -> AsyncIterator[None]:
        """Wait until no other run works on the repository, and keep others waiting inside the block.

        A run that only asks changes nothing and waits for nobody; a source unpacked for a run belongs to it alone.
        """
        path = self.source.get("repository", "")
        if not path or plan["kind"] == "find":
            yield
            return

        async def waits(whom: list[str]) -> None:
            more = f", and for {len(whom) - 1} more" if len(whom) > 1 else ""
            said = f"waits for run {whom[0]}, which works on {path}{more}"
            # It may be an abandoned run that waits for an answer.
            ways = f"(a2a task show {whom[0]} tells how far that is, a2a task cancel {whom[0]} ends it)"
            await self.steps.story("waits", agent.name, f"{said} {ways}")
            await self.task.progress(0.0, said)

        async with turn(self.task, turn_at(await repository_name(path)), TURN_MAX, waits) as waited:
            if waited["seconds"] >= WAIT_TOLD:
                self.summary["waits"] = [waited]
            yield

    async def _see_room(self, plan: Plan) -> None:
        """Make sure that a branch of the wanted name can exist, before anything is done.

        Raises:
            AttemptFailed: it cannot.
        """
        path = self.source.get("repository", "")
        if not path or plan["kind"] == "find" or self.approve == "never":
            return
        wanted = self._branch(plan)
        try:
            taken = await git.branch_beside(_expanded(path), wanted)
        except git.GitError:
            return  # the preparer says what is wrong with it
        if taken:
            detail = f"{path} has a branch {taken}, beside which there can be no {wanted}: name another one (--branch)"
            raise AttemptFailed(detail, code="bad_branch", retryable=False)

    def _branch(self, plan: Plan) -> str:
        return self.branch or f"a2a/{plan['kind']}-{digest([self.task.id, self.run_dir])[:8]}"

    async def _prepare(self, *, with_tests: bool = True) -> Workspace:
        given: dict[str, Any] = {"source": self.source, "run_dir": self.run_dir}
        if not with_tests:
            given["with_tests"] = False
        return cast(
            Workspace,
            await self.steps.run("prepare", "prepare", "prepare", allow_unsandboxed=self.allow_unsandboxed, **given),
        )  # fmt: skip

    async def _allow_tests(self, workspace: Workspace) -> Workspace:
        """If no sandbox works, ask the person whether the tests may run without one."""
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
        plan = cast(Plan, await self.steps.run("plan", "plan_request", "plan", request=words, repository=repository))
        await self.steps.story("plan", "intent", _described(plan))
        return plan

    def _key(self, name: str) -> str:
        """Return the beginning of a step's key: on another revision of the plan it is another step."""
        decisions = self.decisions
        if decisions.rev == decisions.first and not self.again:
            return name
        return f"{name}-r{decisions.rev}.{self.again}"

    async def _propose_and_judge(self, workspace: Workspace, plan: Plan) -> tuple[Judgement, Review]:
        self.steps.rounds += 1
        self.steps.span = (0.3, 0.9)
        return await self._review(workspace, plan, await self._propose(workspace, plan))

    async def _propose(self, workspace: Workspace, plan: Plan) -> Judgement:
        """Have every available coder propose a patch, and return the merged patch, or the judged one."""
        last: str | dict[str, Any] = "human" if self.approve == "ask" else "abort"
        if last == "human" and self.answer_within is not None:
            last = {"strategy": "human", "timeoutMs": round(self.answer_within * 1000)}
        there, missing = await self._coders()
        rules = Rules(len(there), SAME_PATCH, [*LADDER, last], BALLOT, QUEUE_HERE)
        self.unheard, self.notes = [_failed(coder, f"it was not back in {QUEUE_AWAY:g} s") for coder in missing], {}
        contest = self.steps.contest(
            "propose", "propose_patch", self._key("propose"), rules, self._heard, workspace=workspace, plan=plan
        )
        try:
            value = await contest.run()
        except ErrandFailed as exc:
            if exc.code == MOVED:
                raise
            if moved := await self.decisions.outdated():
                raise ErrandFailed(exc.step, MOVED, moved) from exc  # a coder that has seen that would not do it
            if contest.record is not None:
                if self.answer_within is not None and _was_left_to_a_person(contest.record):
                    raise _Unanswered(self._in_vain(f"conflict {contest.record['conflict']}")) from exc
                raise _Undecided(exc.detail) from exc
            reasons = "; ".join(sorted(f"{rejected['agent']}: {rejected['detail']}" for rejected in self.unheard))
            raise AttemptFailed(f"no coder proposed anything: {reasons or exc.detail}", code="no_proposals") from exc
        finally:
            self.unheard.sort(key=lambda rejected: rejected["agent"])
            await self._tell_conflict(contest.record)
        if not contest.author:
            return cast(Judgement, value)  # merged from several, and tried while merging
        return await self._judge(workspace, plan, value | {"agent": contest.author})

    async def _tell_conflict(self, record: dict[str, Any] | None) -> None:
        if record is None:
            return
        conflict = settled(record, in_short)
        self.summary["conflicts"].append(conflict)
        said = f"conflict {conflict['conflict']} is over: {'; '.join(conflict['tried'])}"
        await self.steps.story("settled", agent.name, said)

    async def _coders(self) -> tuple[list[str], list[str]]:
        """Return the coders to ask, and those that should be there and are not.

        The findings of the first attempt hold for all.
        """
        key = f"{self.task.id}/{self._key('asked')}/{digest(self.decisions.plan)}"
        known = await self.task.context.get(key)
        if known.exists:
            return known.value["there"], known.value["missing"]
        coders: list[AgentInfo] = []
        missing: list[str] = []
        with anyio.move_on_after(QUEUE_AWAY):
            while not coders or missing:
                await anyio.sleep(LOOK_AGAIN if coders else 0)
                coders = await self.task.find("propose_patch")
                before, missing = missing, awaited(coders)
                if missing and missing != before:
                    said = f"waits up to {QUEUE_AWAY:g} s for {' and '.join(missing)} to come back"
                    await self.steps.story("waits", agent.name, said)
        there = [coder.agent_id for coder in coders if coder.status != "away"]
        if not there:
            raise AttemptFailed("no coder proposed anything: none is there", code="no_proposals")
        if missing:
            await self.steps.story("waits", agent.name, f"goes on without {' and '.join(missing)}")
        await self.task.context.put(key, {"there": there, "missing": missing}, if_rev=0)
        return there, missing

    async def _heard(self, outcome: dict[str, Any]) -> None:
        """Report a coder's outcome. A failure is noted, and the others go on."""
        coder, proposal = outcome["agent"], outcome["value"]
        if outcome["state"] != "completed":
            await self.steps.story("failed", coder, outcome["detail"])
            self.unheard.append(_failed(coder, outcome["detail"]))
        elif isinstance(proposal, dict) and {"patch", "findings_before", "findings_left"} <= proposal.keys():
            before, left = proposal["findings_before"], proposal["findings_left"]
            changed = len(proposal["patch"].get("files", []))
            await self.steps.story(
                "found", coder, f"proposes {number_of(changed, 'file')}: {before} -> {left} findings"
            )
            if not changed and proposal.get("notes"):
                self.notes[coder] = str(proposal["notes"][0])[:NOTE_CHARS_MAX]

    def _why_nothing(self) -> str:
        """Return why the coders have nothing to propose, in their words."""
        return "; ".join(f"{coder}: {note}" for coder, note in sorted(self.notes.items()))

    async def _judge(self, workspace: Workspace, plan: Plan, proposal: Proposal) -> Judgement:
        """Have one patch judged."""
        judged = await self.steps.run(
            "judge", "judge_patches", self._key("judge"), workspace=workspace, plan=plan, proposals=[proposal]
        )
        return cast(Judgement, judged)

    async def _review(self, workspace: Workspace, plan: Plan, judgement: Judgement) -> tuple[Judgement, Review]:
        before, after = judgement["findings_before"]["total"], judgement["findings_after"]["total"]
        await self.steps.story("judged", "judge", f"{judgement['verdict']}: {before} -> {after} findings")
        if judgement["verdict"] == "nothing":
            return judgement, {"verdict": "pass", "findings": []}
        self.steps.span = (0.9, 0.95)
        review = cast(
            Review,
            await self.steps.run(
                "review", "review_patch", self._key("review"), workspace=workspace, plan=plan, patch=judgement["patch"]
            ),
        )  # fmt: skip
        remarks = len([finding for finding in review["findings"] if finding["verdict"] != "pass"])
        await self.steps.story("reviewed", "safety", f"{review['verdict']}, {remarks} remarks")
        return judgement, review

    async def _judge_edit(self, workspace: Workspace, plan: Plan, said: str) -> tuple[Judgement, Review] | str:
        """Judge a person's edited patch like any other proposal; return what is wrong with it in words."""
        text = said if "\n" in said.strip() else await self._edited(said.strip())
        if text is None:
            return f"There is no patch at {said.strip()}."
        self.steps.rounds += 1
        proposal = Proposal(
            agent=HUMAN, patch=Patch(text=text), onto=workspace["base"],
            findings_before=workspace["findings"]["total"], findings_left=0, notes=[], elapsed=0.0,
        )  # fmt: skip
        await self.steps.story("feedback", HUMAN, "edited the patch")
        self.steps.span = (0.4, 0.9)
        judgement, review = await self._review(workspace, plan, await self._judge(workspace, plan, proposal))
        if judgement["verdict"] == "nothing":
            reasons = "; ".join(rejected["detail"] or rejected["reason"] for rejected in judgement["rejected"])
            return f"The edited patch does not hold: {reasons or 'it mends nothing'}."
        return judgement, review

    async def _edited(self, path: str) -> str | None:
        """Return the patch a person hands in, as it was at the first look; None if there was none.

        An attempt after a crash comes by here again, when the file may have changed or be gone; the questions and
        answers about it would then no longer count.
        """
        self.edits += 1
        key = f"{self.task.id}/edited/{self.edits}"
        known = await self.task.context.get(key)
        if known.exists:
            return _read(known.value) if known.value else None
        text = _read(path)
        kept = "" if text is None else self._keep(git.digest(text.encode()), text)
        await self.task.context.put(key, kept, if_rev=0)
        return text

    async def _approve(self, judgement: Judgement, by: str) -> None:
        """Approve the patch for deployment, if it was made on the plan in force."""
        patch = judgement["patch"]
        if not await self.decisions.approve(patch.get("digest") or git.digest(patch["text"].encode()), by):
            moved = await self.decisions.outdated() or f"somebody else has written {APPROVAL}"
            await self.steps.story("moved", by, f"the approval counts no more: {moved}")
            raise ErrandFailed(self.steps.accounts[-1], MOVED, moved)
        self.summary["approved_by"] = by

    async def _deploy(
        self, workspace: Workspace, plan: Plan, judgement: Judgement, review: Review, summary: Summary
    ) -> Summary:
        self.steps.span = (0.95, 1.0)
        wanted = self._branch(plan)
        trailers = trailers_of(
            self.request, self.task.id, plan, judgement, review, self.steps.accounts, approved_by=summary["approved_by"]
        )  # fmt: skip
        repository = await repository_name(workspace["repository"])
        for name in [wanted] if self.branch else branch_names(wanted):
            try:
                deployed = cast(
                    Deployment,
                    await self.steps.run(
                        "deploy", "deploy", self._key("deploy"), resources=[branch_of(repository, name)],
                        workspace=workspace, patch=judgement["patch"], branch=name, title=title_of(plan),
                        trailers=trailers,
                    ),
                )  # fmt: skip
            except ErrandFailed as exc:
                if exc.code == "branch_moved" and not self.branch:
                    continue  # somebody else's work has the name, and keeps it
                raise
            summary["branch"], summary["commit"] = deployed["branch"], deployed["commit"]
            await self.steps.story("deployed", "deployer", f"{deployed['commit'][:12]} on {deployed['branch']}")
            return self.finish("deployed")
        raise AttemptFailed(f"every branch from {wanted} on is taken", code="branch_moved")

    # The human --------------------------------------------------------------------------------------------------------

    async def _decide(self, workspace: Workspace, judgement: Judgement, review: Review, hint: str) -> Decision:
        if self.approve == "auto":
            return Decision("approve")
        path = self._patch_file(judgement)
        if path:
            await self.steps.story("patch", "judge", path)
        return read_answer(await self.ask(*question(workspace, judgement, review, path, hint)))

    async def ask(self, question: str, options: list[str] | None) -> Any:
        """Ask the run's delegator."""
        if self.approve != "ask":
            choices = f" ({' / '.join(options)})" if options else ""
            raise AttemptFailed(f"nobody is there to be asked: {question}{choices}", code="unclear")
        await self.task.progress(None, "waiting for an answer")
        if self.answer_within is None:
            return await self.task.ask(question, options=options)
        answer = await self.task.ask(question, options=options, default=NOBODY, timeout=self.answer_within)
        if answer == NOBODY:
            raise _Unanswered(self._in_vain("a question"))
        return answer

    def _in_vain(self, what: str) -> str:
        return f"{what} waited {self.answer_within:g} s for a person"

    # What is told -----------------------------------------------------------------------------------------------------

    async def _tell_workspace(self, workspace: Workspace) -> None:
        tests, findings = workspace["tests"], workspace["findings"]
        amounts = {"file": len(workspace["files"]), "finding": findings["total"], "test": tests["total"]}
        said = ", ".join(number_of(number, word) for word, number in amounts.items())
        if tests["failed"]:
            said += f" ({tests['failed']} fail before anything is touched)"
        await self.steps.story("found", "preparer", said)
        if workspace["evidence"] == "none":
            await self.steps.story("evidence", "preparer", f"NO EVIDENCE: {workspace['evidence_reason']}")
        else:
            for note in workspace.get("notes", ()):
                await self.steps.story("evidence", "preparer", note)
        if workspace["sandbox"] == "none" and workspace["allow_unsandboxed"]:
            await self.steps.story(
                "evidence", "preparer", "NO SANDBOX works here: the tests run with all that you may do"
            )

    async def _tell_listing(self, listing: Listing) -> None:
        best = ", ".join(found["path"] for found in listing["files"][:3])
        if best:
            await self.steps.story("found", "retriever", f"matters most: {best}")

    def _patch_file(self, judgement: Judgement) -> str:
        """Put the patch where a person can read it, and return where; a small one was only in the judgement."""
        if judgement["verdict"] == "nothing":
            return ""
        path = judgement["patch"].get("path", "")
        if path:
            return path
        return self._keep(judgement["patch"].get("digest") or judgement["digest"], judgement["patch"]["text"])

    def _keep(self, name: str, text: str) -> str:
        """Put a patch among those of the run, and return where."""
        folder = Path(self.run_dir) / "patches"
        target = folder / f"{name}.patch"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            fresh = target.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(target)
        return str(target)

    def finish(self, verdict: Verdict, reason: str = "") -> Summary:
        """Sum up."""
        steps = self.steps
        return finish(
            self.summary, verdict, reason, steps.accounts, steps.rounds, steps.seconds, self.task.attempt
        )  # fmt: skip


def _described(plan: Plan) -> str:
    where = f" in {', '.join(plan['paths'])}" if plan["paths"] else ""
    but = f", but not {', '.join(plan['spared'])}" if plan.get("spared") else ""
    return f"{plan['kind']} for {plan['target']}{where}{but}"


def _was_left_to_a_person(record: dict[str, Any]) -> bool:
    """Tell whether the last rung was a person's, who has said nothing."""
    last = record["stages"][-1]
    return bool(last["strategy"] == "human" and not last["by"])


def _failed(name: str, detail: str) -> Rejected:
    return Rejected(
        agent=name, files=[], reason="agent_failed", detail=detail, evidence=no_evidence(), patch_path="",
        patch_digest="",
    )  # fmt: skip


def _expanded(path: str) -> Path:
    return Path(path).expanduser()


def _read(path: str) -> str | None:
    try:
        return _expanded(path).read_bytes().decode()  # unchanged: in some patches lines end in CR LF
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    agent.main()
