"""The lead, with agents beside it that say what a test wants them to say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import a2a
from a2a import Agent, AttemptFailed, TaskContext, TaskFailed
from a2a.testing import Squad, squad
from reference_agents.delegating import MOVED
from reference_agents.maintenance import lead
from reference_agents.maintenance.decisions import APPROVAL, PLAN, heed
from reference_agents.maintenance.evidence import no_evidence
from reference_agents.maintenance.holding import branch_of, repository_name
from reference_agents.presence import SQUAD_VARIABLE

BOUND = 30.0
TALLY = {"total": 5, "passed": 5, "failed": 0, "skipped": 0, "seconds": 0.1}
BASE = "b" * 40


class Crew:
    """Agents for every skill of a run, and what they were given."""

    def __init__(self, tmp_path: Path) -> None:
        self.run_dir = str(tmp_path / "run")
        self.given: dict[str, list[Any]] = {}
        self.says: dict[str, Callable[[Any, TaskContext], Any]] = {
            "plan_request": self.plan,
            "prepare": self.workspace,
            "find_files": lambda given, task: {"files": [], "symbols": [], "answer": "in one.py", "searched": 1},
            "propose_patch": self.proposal,
            "merge_patches": self.merged,
            "verify_patch": lambda given, task: {"passed": False, "detail": "it was not tried"},
            "choose_proposal": self.choice,
            "judge_patches": self.judgement,
            "review_patch": lambda given, task: {"verdict": "pass", "findings": []},
            "deploy": self.deployment,
        }
        self.kind = "modernise"
        self.evidence = "ok"
        self.sandbox = "namespaces"
        self.verdict = "accepted"
        self.best = "coder-b"
        """Whose proposal is chosen where nothing can be merged."""
        self.asked: list[str] = []
        self.claimed: list[str] = []
        self.person: a2a.Client | None = None
        """Who has a hand in what is decided."""
        self.kept: dict[str, a2a.ContextValue] = {}

    def agents(self) -> list[Agent]:
        names = {skill: skill.replace("_", "-") for skill in self.says if skill != "propose_patch"}
        made = [self._agent(name, skill) for skill, name in names.items()]
        return [*made, *(self._agent(name, "propose_patch") for name in ("coder-a", "coder-b"))]

    def _agent(self, name: str, skill: str) -> Agent:
        agent = Agent(name)

        @agent.skill(id=skill, takes_value=True)
        async def say(value: Any, task: TaskContext) -> Any:
            self.given.setdefault(skill, []).append(value)
            said = self.says[skill](value if skill != "propose_patch" else value | {"agent": name}, task)
            return await said if hasattr(said, "__await__") else said

        return agent

    def deployment(self, given: Any, task: TaskContext) -> Any:
        self.claimed += task.claims
        return {"branch": given["branch"], "commit": "c" * 40, "created": True}

    def plan(self, given: Any, task: TaskContext) -> Any:
        return {
            "kind": self.kind, "request": given["request"], "target": "py311", "old_name": "", "new_name": "",
            "query": "", "paths": [], "may_touch": [],
        }  # fmt: skip

    def workspace(self, given: Any, task: TaskContext) -> Any:
        has_evidence = self.evidence == "ok" and (self.sandbox != "none" or given["allow_unsandboxed"])
        return {
            "name": "project", "repository": "/project", "base": BASE, "run_dir": given["run_dir"], "mirror": "/mirror",
            "python": "/python", "pytest_options": [], "import_paths": ["."], "files": ["one.py"],
            "findings": {"total": 10, "by_rule": {}},
            "tests": TALLY | {"path": "", "digest": "", "failing": [], "unstable": []},
            "sandbox": self.sandbox, "allow_unsandboxed": given["allow_unsandboxed"],
            "evidence": "ok" if has_evidence else "none",
            "evidence_reason": "" if has_evidence else "they do not start", "notes": [],
        }  # fmt: skip

    def proposal(self, given: Any, task: TaskContext) -> Any:
        return {
            "agent": given["agent"], "patch": {"text": "a patch\n", "tree": given["agent"], "files": []},
            "onto": BASE, "findings_before": 10, "findings_left": 4, "notes": [], "elapsed": 0.1,
        }  # fmt: skip

    def choice(self, given: Any, task: TaskContext) -> Any:
        agents = [candidate[0]["parts"][0]["data"]["agent"] for candidate in given["candidates"]]
        return {"choice": agents.index(self.best) if self.best in agents else -1}

    def merged(self, given: Any, task: TaskContext) -> Any:
        if self.evidence == "none":
            raise AttemptFailed("no evidence: they do not start", code="no_evidence", retryable=False)
        proposals = [candidate[0]["parts"][0]["data"] for candidate in given["candidates"]]
        proposals.sort(key=lambda proposal: str(proposal["agent"]))
        return self.judgement(given["input"][0]["data"] | {"proposals": proposals}, task)

    def judgement(self, given: Any, task: TaskContext) -> Any:
        verdict = "no_evidence" if given["workspace"]["evidence"] == "none" else self.verdict
        names = [proposal["agent"] for proposal in given["proposals"]]
        refused = {
            "agent": "coder-b", "files": ["one.py"], "reason": "tests", "detail": "1 tests fail with it",
            "evidence": no_evidence() | {"failing": ["test_one.py::test_it"], "failing_total": 1}, "patch_path": "",
            "patch_digest": "",
        }  # fmt: skip
        return {
            "verdict": verdict, "patch": {"text": "the patch\n", "digest": "d" * 64},
            "accepted": [{"agent": names[0], "files": ["one.py"], "removed": 6}],
            "rejected": [] if len(names) == 1 else [refused],
            "agreements": [], "advice": [], "findings_before": {"total": 10, "by_rule": {}},
            "findings_after": {"total": 4, "by_rule": {}}, "best_single": 5, "tests_before": TALLY,
            "tests_after": TALLY, "test_runs": 2, "elapsed": 0.2, "digest": f"{len(names):064}",
        }  # fmt: skip


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    return Crew(tmp_path)


async def maintain(up: Squad, crew: Crew, *answers: Any, **wanted: Any) -> tuple[Any, list[tuple[str, str, str]]]:
    """Have a request carried out and its questions answered; return the summary, and the story that was told."""
    given = {"request": "modernise", "source": {"repository": "/project"}, "run_dir": crew.run_dir, "approve": "auto"}
    left, story = list(answers), []
    async with up.client.delegate("maintain", given | wanted) as task:
        async for event in task.events():
            if event.kind == "artifact":
                story.append((event.value["kind"], event.value["who"], event.value["what"]))
            elif event.kind == "ask":
                crew.asked.append(event.value["question"])
                await task.answer(event.data["askNo"], left.pop(0))
        summary = await task.result()
    assert not left, "it asked for all that was to be answered"
    return summary, story


async def carried_out(crew: Crew, *answers: Any, **wanted: Any) -> Any:
    """Have a request carried out by a squad of its own, and return the summary, or raise why there is none."""
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            try:
                return (await maintain(up, crew, *answers, **wanted))[0]
            except TaskFailed as error:
                failed = error
    raise failed


async def test_a_request_becomes_a_commit_that_says_where_it_comes_from(crew: Crew) -> None:
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            summary, story = await maintain(up, crew)
    assert (summary["verdict"], summary["approved_by"], summary["commit"]) == ("deployed", "auto", "c" * 40)
    assert (summary["findings_before"]["total"], summary["findings_after"]["total"]) == (10, 4)
    assert [rejected["agent"] for rejected in summary["rejected"]] == ["coder-b"]
    assert [(step["name"], step["agent"], step["attempts"]) for step in summary["steps"][-3:]] == [
        ("merge", "merge-patches", 1),
        ("review", "review-patch", 1),
        ("deploy", "deploy", 1),
    ]
    assert Path(summary["patch_path"]).read_text() == "the patch\n"
    deployed = crew.given["deploy"][0]
    assert deployed["title"] == "Modernise to Python 3.11"
    assert deployed["branch"].startswith("a2a/modernise-")
    assert crew.claimed == [branch_of(await repository_name("/project"), deployed["branch"])]
    trailers = deployed["trailers"]
    assert f"Evidence: sha256:{2:064}" in trailers
    assert (
        "Findings: 10 -> 4" in trailers and "Tests: 5/5 -> 5/5 passed" in trailers and "Approved-By: auto" in trailers
    )
    assert any(trailer.startswith("Step: merge_patches ") for trailer in trailers)
    [conflict] = summary["conflicts"]
    assert sorted(conflict["agents"]) == ["coder-a", "coder-b"]
    assert (conflict["outcome"], conflict["tried"]) == ("merge", ["merge: decided, merged"])
    assert conflict["evidence"] == [
        f"{summary['steps'][-3]['task']} by merge-patches: 10 -> 4 findings, 5 passed, 0 failed"
    ]
    assert sorted(conflict["dissent"]) == ["coder-a", "coder-b"] and conflict["seal"].startswith("sha256:")
    assert f"evidence: {conflict['evidence'][0]}" in summary["text"]
    assert f"a2a conflict show {conflict['conflict']}" in summary["text"]
    assert ("conflict", "propose", f"a2a conflict show {conflict['conflict']}") in story
    assert ("settled", "lead", f"conflict {conflict['conflict']} is over: merge: decided, merged") in story
    assert ("found", "coder-a", "proposes 0 files: 10 -> 4 findings") in story


async def test_a_workspace_that_an_older_preparer_made_without_notes_will_do(crew: Crew) -> None:
    def prepare(given: Any, task: TaskContext) -> Any:
        made = crew.workspace(given, task)
        del made["notes"]
        return made

    crew.says["prepare"] = prepare
    summary = await carried_out(crew)
    assert (summary["verdict"], summary["notes"]) == ("deployed", [])


async def test_one_file_is_told_as_one(crew: Crew) -> None:
    def propose(given: Any, task: TaskContext) -> Any:
        proposal = crew.proposal(given, task)
        return {**proposal, "patch": {**proposal["patch"], "files": [{"path": "one.py", "added": 1, "removed": 1}]}}

    crew.says["propose_patch"] = propose
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            _, story = await maintain(up, crew)
    assert ("found", "preparer", "1 file, 10 findings, 5 tests") in story
    assert ("found", "coder-a", "proposes 1 file: 10 -> 4 findings") in story


async def test_a_coder_that_fails_is_written_down_and_missed_by_nobody(crew: Crew) -> None:
    def propose(given: Any, task: TaskContext) -> Any:
        if given["agent"] == "coder-a":
            raise AttemptFailed("the tool is broken", code="tool_failed")
        return crew.proposal(given, task)

    crew.says["propose_patch"] = propose
    summary = await carried_out(crew)
    assert summary["verdict"] == "deployed"
    assert [(it["agent"], it["reason"], it["detail"]) for it in summary["rejected"]] == [
        ("coder-a", "agent_failed", "the tool is broken")
    ]
    assert [proposal["agent"] for proposal in crew.given["judge_patches"][0]["proposals"]] == ["coder-b"]


@contextlib.asynccontextmanager
async def squad_without(crew: Crew, missing: str) -> AsyncIterator[Squad]:
    """The crew, and a coder that was there before and is not any more."""
    async with squad(lead.agent, *crew.agents()) as up, anyio.create_task_group() as group:
        stop, ready = anyio.Event(), anyio.Event()
        gone = crew._agent(missing, "propose_patch")
        group.start_soon(partial(gone.run, settings=up.settings, stop=stop, ready=ready.set))
        await ready.wait()
        stop.set()
        while not any(one.status == "away" for one in await up.client.find("propose_patch")):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        yield up


async def test_a_coder_that_is_to_be_there_is_waited_for_and_missed(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "QUEUE_AWAY", 0.2)
    monkeypatch.setenv(SQUAD_VARIABLE, "lead,coder-a,coder-b,coder-gone")
    with anyio.fail_after(BOUND):
        async with squad_without(crew, "coder-gone") as up:
            summary, story = await maintain(up, crew)
    assert summary["verdict"] == "deployed"
    assert [what for kind, _, what in story if kind == "waits"] == [
        "waits up to 0.2 s for coder-gone to come back", "goes on without coder-gone",
    ]  # fmt: skip
    assert (summary["rejected"][0]["agent"], summary["rejected"][0]["detail"]) == (
        "coder-gone", "it was not back in 0.2 s",
    )  # fmt: skip


async def test_a_coder_that_was_there_once_and_that_nobody_starts_is_not_waited_for(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "QUEUE_AWAY", 2 * BOUND)
    monkeypatch.setenv(SQUAD_VARIABLE, "lead,coder-a,coder-b")
    with anyio.fail_after(BOUND):
        async with squad_without(crew, "coder-gone") as up:
            summary, story = await maintain(up, crew)
    assert summary["verdict"] == "deployed"
    assert not [what for kind, _, what in story if kind == "waits"]
    assert "coder-gone" not in {rejected["agent"] for rejected in summary["rejected"]}


async def test_without_any_proposal_it_fails_and_says_why(crew: Crew) -> None:
    def propose(given: Any, task: TaskContext) -> Any:
        raise AttemptFailed(f"no {given['agent']}", code="tool_failed")

    crew.says["propose_patch"] = propose
    with pytest.raises(TaskFailed, match="coder-a: no coder-a; coder-b: no coder-b"):
        await carried_out(crew)


async def test_an_attempt_that_fails_for_now_is_made_again(crew: Crew) -> None:
    def review(given: Any, task: TaskContext) -> Any:
        if task.attempt == 1:
            raise AttemptFailed("the disk is full", retryable=True)
        return {"verdict": "pass", "findings": []}

    crew.says["review_patch"] = review
    summary = await carried_out(crew)
    assert summary["verdict"] == "deployed"
    assert (summary["retries"], summary["losses"]) == (1, 0)


async def test_what_safety_refuses_is_not_deployed_though_nobody_is_asked(crew: Crew) -> None:
    finding = {"check": "secrets", "verdict": "refuse", "path": "one.py", "line": 3, "detail": "a private key"}
    crew.says["review_patch"] = lambda given, task: {"verdict": "refuse", "findings": [finding]}
    summary = await carried_out(crew)
    assert (summary["verdict"], summary["reason"]) == ("refused", "secrets one.py: a private key")
    assert "deploy" not in crew.given
    assert "refuse: secrets one.py:3: a private key" in summary["text"]


async def test_without_evidence_nobody_approves_for_a_person(crew: Crew) -> None:
    crew.evidence = "none"
    summary = await carried_out(crew)
    assert summary["verdict"] == "no_evidence"
    assert "deploy" not in crew.given


async def test_where_nothing_can_be_merged_the_ladder_goes_on_and_its_choice_is_judged(crew: Crew) -> None:
    crew.evidence = "none"
    summary = await carried_out(crew, "approve", approve="ask")
    [conflict] = summary["conflicts"]
    assert (conflict["outcome"], conflict["by"]) == ("select", "judge")
    assert conflict["tried"] == [
        "merge: undecided, the merger ended as failed; no evidence: they do not start",
        "verify: undecided, 0 of 2 passed",
        "judge: decided, chosen in both orders",
    ]
    assert [proposal["agent"] for proposal in crew.given["judge_patches"][0]["proposals"]] == ["coder-b"]


async def test_what_nothing_and_nobody_decides_changes_nothing_and_is_said(crew: Crew) -> None:
    crew.evidence, crew.best = "none", "nobody"
    summary = await carried_out(crew)
    assert (summary["verdict"], summary["conflicts"][0]["outcome"]) == ("undecided", "reject_all")
    assert "nobody decided, nothing was changed" in summary["text"]
    assert not {"judge_patches", "deploy"} & crew.given.keys()


async def test_what_no_agent_decides_waits_for_a_person_who_is_told_how(crew: Crew) -> None:
    crew.evidence, crew.best = "none", "nobody"
    told: list[str] = []
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:

            async def decide() -> None:
                [conflict] = await up.client.conflicts(is_open=True)
                mine = next(it["ref"] for it in conflict["subjects"] if it["agent"] == "coder-a")
                await up.client.resolve(conflict["conflict"], mine, "I know it")

            given = {"request": "modernise", "source": {"repository": "/project"}, "run_dir": crew.run_dir}
            async with up.client.delegate("maintain", given) as task:
                async for event in task.events():
                    if event.kind == "artifact" and "it waits for a person" in event.value["what"]:
                        told.append(event.value["what"])
                        assert event.value["kind"] == "person", "which `a2a run --quiet` tells too"
                        await decide()
                    elif event.kind == "ask":
                        await task.answer(event.data["askNo"], "approve")
                summary = await task.result()
    assert [proposal["agent"] for proposal in crew.given["judge_patches"][0]["proposals"]] == ["coder-a"]
    assert summary["conflicts"][0]["tried"][-1] == "human: decided, I know it"
    assert len(told) == 1 and "a2a conflict resolve" in told[0]


async def test_a_coder_is_who_the_ledger_says_and_its_own_judgement_is_not_believed(crew: Crew) -> None:
    def propose(given: Any, task: TaskContext) -> Any:
        if given["agent"] == "coder-a":
            raise AttemptFailed("not today", code="tool_failed", retryable=False)
        lie = {"verdict": "accepted", "agent": "coder-ruff", "findings_after": {"total": 0, "by_rule": {}}}
        return crew.proposal(given, task) | lie

    crew.says["propose_patch"] = propose
    summary = await carried_out(crew)
    assert [proposal["agent"] for proposal in crew.given["judge_patches"][0]["proposals"]] == ["coder-b"]
    assert summary["findings_after"]["total"] == 4


async def test_without_evidence_a_person_decides(crew: Crew) -> None:
    crew.evidence = "none"
    summary = await carried_out(crew, "approve", approve="ask")
    assert (summary["verdict"], summary["approved_by"]) == ("deployed", "human")
    assert "Tests: no evidence" in crew.given["deploy"][0]["trailers"]


async def test_without_a_sandbox_a_person_says_whether_the_tests_run(crew: Crew) -> None:
    crew.sandbox = "none"
    summary = await carried_out(crew, "yes", "approve", approve="ask")
    assert summary["verdict"] == "deployed"
    assert [given["allow_unsandboxed"] for given in crew.given["prepare"]] == [False, True]
    assert crew.given["merge_patches"][0]["input"][0]["data"]["workspace"]["evidence"] == "ok"


async def test_who_never_approves_gets_the_patch_and_no_commit(crew: Crew) -> None:
    summary = await carried_out(crew, approve="never")
    assert summary["verdict"] == "held"
    assert summary["patch_path"] and "deploy" not in crew.given


async def test_where_nothing_holds_there_is_nothing_to_ask_about(crew: Crew) -> None:
    crew.verdict = "nothing"
    summary = await carried_out(crew, approve="ask")
    assert (summary["verdict"], summary["reason"]) == ("nothing", "no change held")
    assert "review_patch" not in crew.given


async def test_where_nothing_is_proposed_the_summary_says_what_the_coders_say_of_it(crew: Crew) -> None:
    def proposal(given: Any, task: TaskContext) -> Any:
        notes = {"coder-a": ["nothing defines old", "and more"], "coder-b": []}[given["agent"]]
        return crew.proposal(given, task) | {"patch": {"text": "", "tree": "t", "files": []}, "notes": notes}

    crew.verdict, crew.says["propose_patch"] = "nothing", proposal
    summary = await carried_out(crew)
    assert (summary["verdict"], summary["reason"]) == ("nothing", "coder-a: nothing defines old")


async def test_a_person_rejects(crew: Crew) -> None:
    summary = await carried_out(crew, "reject", approve="ask")
    assert summary["verdict"] == "rejected"
    assert "deploy" not in crew.given


async def test_feedback_is_another_round_with_a_plan_of_its_own(crew: Crew) -> None:
    summary = await carried_out(crew, "reject: leave the tests alone", "approve", approve="ask")
    assert (summary["verdict"], summary["rounds"]) == ("deployed", 2)
    assert [given["request"] for given in crew.given["plan_request"]] == [
        "modernise",
        "modernise\nleave the tests alone",
    ]
    assert len(crew.given["prepare"]) == 1
    assert crew.given["propose_patch"][-1]["plan"]["request"].endswith("leave the tests alone")
    assert crew.asked[1].startswith("Nothing came out differently with that feedback.")


async def test_a_patch_that_a_person_edited_is_judged_like_any_other(crew: Crew, tmp_path: Path) -> None:
    edited = tmp_path / "edited.patch"
    edited.write_bytes(b"my patch\r\n")
    summary = await carried_out(crew, "edit: /no/such/file", f"edit: {edited}", "approve", approve="ask")
    assert summary["verdict"] == "deployed"
    last = crew.given["judge_patches"][-1]["proposals"]
    assert [(proposal["agent"], proposal["patch"]["text"]) for proposal in last] == [("human", "my patch\r\n")]


async def test_a_question_about_the_request_goes_up_and_the_answer_down(crew: Crew) -> None:
    async def plan(given: Any, task: TaskContext) -> Any:
        answer = await task.ask("Which one?", options=["this", "that"])
        return crew.plan(given, task) | {"query": answer}

    crew.says["plan_request"] = plan
    summary = await carried_out(crew, "that", "approve", approve="ask")
    assert summary["verdict"] == "deployed"
    assert crew.given["find_files"][0]["plan"]["query"] == "that"


async def test_a_question_that_nobody_is_there_to_answer_ends_the_run(crew: Crew) -> None:
    async def plan(given: Any, task: TaskContext) -> Any:
        return await task.ask("Which one?", options=["this", "that"])

    crew.says["plan_request"] = plan
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            with pytest.raises(TaskFailed, match=r"nobody is there to be asked: Which one\? \(this / that\)") as failed:
                await maintain(up, crew)
            assert (await up.client.get(failed.value.task))["metadata"]["error"]["code"] == "unclear"


async def test_a_run_that_nobody_answers_in_time_ends_and_says_so(crew: Crew) -> None:
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            given = {"source": {"repository": "/project"}, "run_dir": crew.run_dir, "approve": "ask"}
            summary = await up.client.call("maintain", given | {"request": "modernise", "answer_within": 0.2})
    assert (summary["verdict"], summary["commit"]) == ("unanswered", "")
    assert summary["reason"] == "a question waited 0.2 s for a person"
    assert "nobody answered in time, nothing was changed (" in summary["text"]
    assert summary["patch_path"] in summary["text"] and summary["patch_path"], "the patch is there to be read"
    assert "deploy" not in crew.given


async def test_a_conflict_that_no_person_decides_in_time_ends_the_run(crew: Crew) -> None:
    crew.evidence, crew.best = "none", "nobody"
    summary = await carried_out(crew, approve="ask", answer_within=0.2)
    [conflict] = summary["conflicts"]
    assert (summary["verdict"], summary["reason"]) == (
        "unanswered",
        f"conflict {conflict['conflict']} waited 0.2 s for a person",
    )


async def test_a_request_that_only_asks_is_answered(crew: Crew) -> None:
    crew.kind = "find"
    summary = await carried_out(crew)
    assert (summary["verdict"], summary["answer"]) == ("answered", "in one.py")
    assert "propose_patch" not in crew.given
    [prepared] = crew.given["prepare"]
    assert prepared["with_tests"] is False, "an answer needs no tests"
    assert "tests " not in summary["text"]


async def test_what_is_wrong_with_the_source_keeps_its_code(crew: Crew) -> None:
    def prepare(given: Any, task: TaskContext) -> Any:
        raise AttemptFailed("it has uncommitted changes", code="dirty_worktree")

    crew.says["prepare"] = prepare
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            with pytest.raises(TaskFailed, match="uncommitted changes") as failed:
                await maintain(up, crew)
            assert (await up.client.get(failed.value.task))["metadata"]["error"]["code"] == "dirty_worktree"


async def test_a_branch_that_is_taken_gets_out_of_the_way_only_where_the_name_is_ours(crew: Crew) -> None:
    def deploy(given: Any, task: TaskContext) -> Any:
        if not given["branch"].endswith("-2"):
            raise AttemptFailed("somebody is there", code="branch_moved")
        return {"branch": given["branch"], "commit": "c" * 40, "created": True}

    crew.says["deploy"] = deploy
    assert (await carried_out(crew))["branch"].endswith("-2")
    with pytest.raises(TaskFailed, match="somebody is there"):
        await carried_out(crew, branch="mine")


async def test_a_branch_that_there_can_never_be_is_told_before_anything_is_done(
    crew: Crew, repository: Callable[..., Any]
) -> None:
    repo = repository({"a.py": "x = 1\n"})
    repo.git("branch", "a2a")
    source = {"repository": str(repo.path)}
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            words = rf"{repo.path} has a branch a2a, beside which there can be no a2a/modernise-\w+: name another one"
            with pytest.raises(TaskFailed, match=words) as failed:
                await maintain(up, crew, source=source)
            assert (await up.client.get(failed.value.task))["metadata"]["error"]["code"] == "bad_branch"
            assert list(crew.given) == ["plan_request"]
            summary, _ = await maintain(up, crew, source=source, branch="mine/x")
            assert summary["branch"] == "mine/x"
            assert (await maintain(up, crew, source=source, approve="never"))[0]["verdict"] == "held"
            crew.kind = "find"
            assert (await maintain(up, crew, source=source))[0]["verdict"] == "answered"


async def test_another_attempt_finds_the_steps_of_the_one_before(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 0.0)
    judging, go_on = anyio.Event(), anyio.Event()

    async def judge(given: Any, task: TaskContext) -> Any:
        judging.set()
        await go_on.wait()
        return crew.merged(given, task)

    crew.says["merge_patches"] = judge
    with anyio.fail_after(BOUND):
        async with squad(*crew.agents()) as up, anyio.create_task_group() as group:
            results: list[Any] = []

            async def delegate() -> None:
                results.append(await maintain(up, crew))
                done.set()

            first, second, done = anyio.Event(), anyio.Event(), anyio.Event()
            group.start_soon(partial(lead.agent.run, name="lead/1", settings=up.settings, stop=first))
            group.start_soon(delegate)
            await judging.wait()
            first.set()  # it gives its attempt back
            group.start_soon(partial(lead.agent.run, name="lead/2", settings=up.settings, stop=second))
            await _taken_over(up.client)
            go_on.set()
            await done.wait()
            second.set()
    summary, _ = results[0]
    assert summary["verdict"] == "deployed"
    assert "attempts lost with their agents: 0, retried: 0, attempts of the lead itself: 2" in summary["text"]
    assert {skill: len(given) for skill, given in crew.given.items()} == {
        **dict.fromkeys(crew.says.keys() - {"verify_patch", "choose_proposal", "judge_patches"}, 1),
        "propose_patch": 2,
    }


def narrowed(crew: Crew, *paths: str) -> dict[str, Any]:
    plan: dict[str, Any] = crew.plan({"request": "modernise"}, None)  # type: ignore[arg-type]
    return plan | {"paths": list(paths)}


def moves_during(crew: Crew, skill: str, *plans: Any) -> None:
    """Have a person write a plan each time an agent is at work on it, as long as there are any."""
    left, says = list(plans), crew.says[skill]

    async def work(given: Any, task: TaskContext) -> Any:
        await heed(task, given["plan"])
        if left:
            assert crew.person is not None
            wanted, context = left.pop(0), crew.person.context(task.context_id)
            rev = (await context.get(PLAN)).rev
            await context.put(PLAN, wanted, if_rev=rev, reason="one thing at a time")
        return says(given, task)

    crew.says[skill] = work


async def moved(crew: Crew) -> tuple[Any, list[tuple[str, str, str]]]:
    """Have a request carried out while a person has a hand in the plan; see in `kept` what was decided at last."""
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            crew.person = up.client
            told = await maintain(up, crew)
            context = up.client.context((await up.client.list(skill="maintain"))[0]["contextId"])
            crew.kept = await context.get_many([PLAN, APPROVAL])
    return told


@pytest.mark.parametrize("skill", ["propose_patch", "review_patch"])
async def test_what_was_done_on_a_plan_that_has_moved_is_done_again_on_the_one_in_force(crew: Crew, skill: str) -> None:
    moves_during(crew, skill, narrowed(crew, "a.py"))
    summary, story = await moved(crew)
    assert (summary["verdict"], summary["rounds"]) == ("deployed", 2)
    assert [given["plan"]["paths"] for given in crew.given["propose_patch"]] == [[], [], ["a.py"], ["a.py"]]
    assert crew.given["review_patch"][-1]["plan"]["paths"] == ["a.py"]
    assert len(crew.given["deploy"]) == 1, "nothing of it was taken silently"
    stale = f"{PLAN} has moved from revision 1 to 2"
    if skill == "review_patch":
        assert ("moved", "review-patch", f"review counts no more: {stale}") in story
        assert [step["detail"] for step in summary["steps"] if step["state"] == "failed"] == [stale]
    assert (crew.kept[PLAN].rev, crew.kept[APPROVAL].value["plan"]) == (2, 2)
    [understood, edited] = summary["decisions"]
    assert (understood["by"], edited["rev"], edited["reason"]) == ("lead", 2, "one thing at a time")
    assert f"plan       revision 1 by lead: {understood['reason']}" in summary["text"]
    assert f"revision 2 by {edited['by']}: one thing at a time" in summary["text"]
    assert ("decided", edited["by"], "wants modernise for py311 in a.py") in story
    assert any(kind == "decided" and what.endswith(PLAN) for kind, _, what in story), "who reads it can look it up"


async def test_one_coder_alone_is_looked_at_like_several(crew: Crew) -> None:
    moves_during(crew, "propose_patch", narrowed(crew, "a.py"))
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()[:-1]) as up:
            crew.person = up.client
            summary, story = await maintain(up, crew)
    assert [given["plan"]["paths"] for given in crew.given["propose_patch"]] == [[], ["a.py"]]
    assert ("moved", "coder-a", f"propose counts no more: {PLAN} has moved from revision 1 to 2") in story
    assert summary["verdict"] == "deployed"


async def test_coders_that_all_find_another_plan_are_asked_again_on_that(crew: Crew) -> None:
    has_moved = anyio.Event()

    async def propose(given: Any, task: TaskContext) -> Any:
        if len(crew.given["propose_patch"]) == 1:
            assert crew.person is not None
            await crew.person.context(task.context_id).put(PLAN, narrowed(crew, "a.py"), if_rev=1)
            has_moved.set()
        await has_moved.wait()
        await heed(task, given["plan"])
        return crew.proposal(given, task)

    crew.says["propose_patch"] = propose
    summary, _ = await moved(crew)
    assert summary["verdict"] == "deployed"
    assert [given["plan"]["paths"] for given in crew.given["propose_patch"]] == [[], [], ["a.py"], ["a.py"]]


async def test_a_merger_that_relies_on_nothing_is_looked_at_all_the_same(crew: Crew) -> None:
    merged = crew.says["merge_patches"]

    async def merge(given: Any, task: TaskContext) -> Any:
        if len(crew.given["merge_patches"]) == 1:
            assert crew.person is not None
            await crew.person.context(task.context_id).put(PLAN, narrowed(crew, "a.py"), if_rev=1)
        return merged(given, task)

    crew.says["merge_patches"] = merge
    summary, story = await moved(crew)
    assert [given["plan"]["paths"] for given in crew.given["review_patch"]] == [["a.py"]]
    assert summary["verdict"] == "deployed"
    assert [conflict["outcome"] for conflict in summary["conflicts"]] == ["merge", "merge"]


async def test_an_approval_of_what_was_made_on_another_plan_does_not_count(crew: Crew) -> None:
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            given = {"request": "modernise", "source": {"repository": "/project"}, "run_dir": crew.run_dir}
            stories: list[Any] = []
            async with up.client.delegate("maintain", given) as task:
                async for event in task.events():
                    if event.kind == "artifact":
                        stories.append((event.value["kind"], event.value["what"]))
                    elif event.kind == "ask":
                        context = up.client.context(task.context_id)
                        if (await context.get(PLAN)).rev == 1:
                            await context.put(PLAN, narrowed(crew, "a.py"), if_rev=1)
                        await task.answer(event.data["askNo"], "approve")
                summary = await task.result()
            person = up.client.agent_id
    assert ("moved", f"the approval counts no more: {PLAN} is at revision 2, by {person}") in stories
    assert [given["plan"]["paths"] for given in crew.given["review_patch"]] == [[], ["a.py"]]
    assert (len(crew.given["deploy"]), summary["verdict"], summary["approved_by"]) == (1, "deployed", "human")


async def test_what_is_no_plan_is_put_right_and_the_work_goes_on(crew: Crew) -> None:
    moves_during(crew, "review_patch", "leave the tests alone")
    summary, story = await moved(crew)
    assert summary["verdict"] == "deployed"
    assert [decided["rev"] for decided in summary["decisions"]] == [1, 2, 3]
    assert crew.kept[PLAN].value == narrowed(crew)
    [said] = [what for kind, _, what in story if kind == "decided" and "no plan to go on with" in what]
    why = summary["decisions"][2]["reason"].removeprefix("revision 2 is no plan to go on with: ")
    assert said == (f"revision 2, by {summary['decisions'][1]['by']}, is no plan to go on with: {why}; it is as it was")
    assert "leave the tests alone" in why
    assert len(crew.given["review_patch"]) == 2, "what was done meanwhile is done again"


async def test_a_plan_that_never_stays_ends_the_run(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "MOVES_MAX", 2)
    moves_during(crew, "review_patch", *(narrowed(crew, f"{number}.py") for number in range(9)))
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up:
            crew.person = up.client
            with pytest.raises(TaskFailed, match="the plan has moved 3 times") as failed:
                await maintain(up, crew)
            assert (await up.client.get(failed.value.task))["metadata"]["error"]["code"] == MOVED
    assert len(crew.given["review_patch"]) == 3 and "deploy" not in crew.given


async def test_another_decision_that_has_moved_has_the_step_done_again_on_the_same_plan(crew: Crew) -> None:
    async def review(given: Any, task: TaskContext) -> Any:
        assert crew.person is not None
        style = await task.context.get("decisions/style")
        if not style.exists:
            await crew.person.context(task.context_id).put("decisions/style", "short", if_rev=0)
        return {"verdict": "pass", "findings": []}

    crew.says["review_patch"] = review
    summary, story = await moved(crew)
    assert summary["verdict"] == "deployed"
    assert ("moved", "review-patch", "review counts no more: decisions/style has moved from revision 0 to 1") in story
    assert len(crew.given["review_patch"]) == 2


async def test_another_attempt_goes_through_the_revisions_of_the_plan_and_asks_nobody_twice(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 0.0)
    plan = crew.says["plan_request"]
    crew.says["plan_request"] = lambda given, task: (
        plan(given, task) | {"paths": ["a.py"] if "only a" in given["request"] else []}
    )
    deploying, go_on = anyio.Event(), anyio.Event()

    async def deploy(given: Any, task: TaskContext) -> Any:
        deploying.set()
        await go_on.wait()
        return crew.deployment(given, task)

    crew.says["deploy"] = deploy
    with anyio.fail_after(BOUND):
        async with squad(*crew.agents()) as up, anyio.create_task_group() as group:
            results: list[Any] = []

            async def delegate() -> None:
                results.append(await maintain(up, crew, "reject: only a", "approve", approve="ask"))
                done.set()

            first, second, done = anyio.Event(), anyio.Event(), anyio.Event()
            group.start_soon(partial(lead.agent.run, name="lead/1", settings=up.settings, stop=first))
            group.start_soon(delegate)
            await deploying.wait()
            first.set()
            group.start_soon(partial(lead.agent.run, name="lead/2", settings=up.settings, stop=second))
            await _taken_over(up.client)
            go_on.set()
            await done.wait()
            second.set()
    summary, _ = results[0]
    assert summary["verdict"] == "deployed"
    assert {skill: len(given) for skill, given in crew.given.items() if skill != "propose_patch"} == {
        "plan_request": 2, "prepare": 1, "find_files": 1, "merge_patches": 2, "review_patch": 2, "deploy": 1,
    }  # fmt: skip
    assert len(crew.asked) == 2
    assert [(decided["rev"], decided["reason"]) for decided in summary["decisions"]] == [
        (1, "as the request was understood"), (2, "only a"),
    ]  # fmt: skip


@pytest.mark.parametrize("is_there", [True, False])
async def test_an_approval_of_an_edited_patch_counts_though_the_file_is_another_by_then(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr("a2a.runner.DRAIN_GRACE", 0.0)
    file = tmp_path / "mine.patch"
    if is_there:
        file.write_text("my patch\n")
    asked: list[str] = []
    with anyio.fail_after(BOUND):
        async with squad(*crew.agents()) as up, anyio.create_task_group() as group:
            first, second = anyio.Event(), anyio.Event()
            group.start_soon(partial(lead.agent.run, name="lead/1", settings=up.settings, stop=first))
            given = {"request": "modernise", "source": {"repository": "/project"}, "run_dir": crew.run_dir}
            async with up.client.delegate("maintain", given) as task:
                async for event in task.events():
                    if event.kind == "ask" and not asked:
                        asked.append(event.value["question"])
                        await task.answer(event.data["askNo"], f"edit: {file}")
                    elif event.kind == "ask":
                        asked.append(event.value["question"])
                        first.set()
                    elif event.kind in ("release", "expire"):
                        if is_there:
                            file.unlink()
                        else:
                            file.write_text("my patch\n")
                        group.start_soon(partial(lead.agent.run, name="lead/2", settings=up.settings, stop=second))
                        await task.answer(2, "approve")
                summary = await task.result()
            second.set()
    assert (summary["verdict"], len(asked), len(crew.given["deploy"])) == ("deployed", 2, 1)
    [judged] = crew.given.get("judge_patches", [None])
    assert (judged["proposals"][0]["patch"]["text"] if judged else None) == ("my patch\n" if is_there else None)


async def test_two_runs_on_one_repository_come_one_after_the_other(crew: Crew, tmp_path: Path) -> None:
    working, go_on, waits = anyio.Event(), anyio.Event(), anyio.Event()

    async def merge(given: Any, task: TaskContext) -> Any:
        if len(crew.given["merge_patches"]) == 1:
            working.set()
            await go_on.wait()
        return crew.merged(given, task)

    crew.says["merge_patches"] = merge
    repository = str(tmp_path)
    told: list[Any] = []
    with anyio.fail_after(BOUND):
        async with squad(lead.agent, *crew.agents()) as up, anyio.create_task_group() as group:

            async def first() -> None:
                told.append(await maintain(up, crew, source={"repository": repository}))

            async def second() -> None:
                given = {"request": "modernise again", "source": {"repository": repository}, "run_dir": f"{tmp_path}/2"}
                async with up.client.delegate("maintain", given | {"approve": "auto"}) as task:
                    async for event in task.events():
                        if event.kind == "artifact" and event.value["kind"] == "waits":
                            told.append(event.value["what"])
                            waits.set()
                    told.append(await task.result())

            group.start_soon(first)
            await working.wait()
            [root] = [task["id"] for task in await up.client.list(skill="maintain")]
            group.start_soon(second)
            await waits.wait()
            assert [len(crew.given[skill]) for skill in ("plan_request", "prepare")] == [2, 1], (
                "it has prepared nothing"
            )
            crew.kind = "find"  # who only asks waits for nobody, and what is unpacked for a run is its own
            summary, _ = await maintain(up, crew, request="where?", source={"repository": repository})
            assert (summary["verdict"], summary["waits"]) == ("answered", [])
            crew.kind = "modernise"
            summary, _ = await maintain(up, crew, request="another", source={"sdist": "project==1"})
            assert (summary["verdict"], summary["waits"]) == ("deployed", [])
            await anyio.sleep(lead.WAIT_TOLD)
            go_on.set()
    said, (one, _), other = told
    assert said.startswith(f"waits for run {root}, which works on {repository} (") and f"task cancel {root}" in said
    assert (one["verdict"], other["verdict"], one["waits"]) == ("deployed", "deployed", [])
    assert one["branch"] != other["branch"]
    [wait] = other["waits"]
    assert wait["whom"] == [root] and wait["seconds"] >= lead.WAIT_TOLD
    assert f"waited     {wait['seconds']:.1f} s for {root} to be done with the repository" in other["text"]


async def _taken_over(client: a2a.Client) -> None:
    """Wait until the second lead has the task."""
    root = (await client.list(skill="maintain"))[0]["id"]
    async for event in client.watch(root):
        if event.kind in ("grant", "accept") and event.agent == "lead/2":
            return


@pytest.mark.parametrize("seconds", [0.1, 0.0])
async def test_it_waits_for_an_agent_for_every_skill(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(lead, "ASSEMBLY", seconds)
    with anyio.fail_after(BOUND):
        async with squad(lead.agent) as up:
            with pytest.raises(TaskFailed, match="nobody is there for plan_request, prepare, .*, deploy"):
                await maintain(up, crew)
