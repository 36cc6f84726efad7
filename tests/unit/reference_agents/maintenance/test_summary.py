"""What a run came to, in words."""

from __future__ import annotations

from typing import Any

import pytest

from reference_agents.contest import Conflict
from reference_agents.errand import Step
from reference_agents.maintenance.evidence import no_evidence
from reference_agents.maintenance.shapes import Advice, Evidence, Rejected, RunTally
from reference_agents.maintenance.summary import (
    REJECTED_SHOWN,
    Summary,
    Verdict,
    describe,
    enter,
    finish,
    in_short,
    new_summary,
    summary_of,
)


@pytest.fixture
def summary() -> Summary:
    made = new_summary("modernise", "/run")
    made["name"] = "project"
    made["findings_before"], made["findings_after"] = {"total": 9, "by_rule": {}}, {"total": 4, "by_rule": {}}
    made["tests_before"] = made["tests_after"] = {"total": 5, "passed": 4, "failed": 1, "skipped": 0, "seconds": 1.0}
    made["evidence"], made["best_single"], made["test_runs"] = "abc", 6, 3
    return made


def refused(files: list[str], evidence: Evidence | None = None, detail: str = "it breaks") -> Rejected:
    return Rejected(
        agent="coder-a", files=files, reason="tests", detail=detail, evidence=evidence or no_evidence(), patch_path="",
        patch_digest="",
    )  # fmt: skip


def test_why_tests_say_nothing_or_less_than_they_could_is_told(summary: Summary) -> None:
    summary["notes"] = ["the project could not be installed: no"]
    assert "\n  setup      the project could not be installed: no\n" in describe(summary)
    summary["evidence_reason"] = "no test passes (the project could not be installed: no)"
    assert "\n  no tests   no test passes (the project could not be installed: no)\n" in describe(summary)
    assert "setup" not in describe(summary)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("deployed", "project: commit cccccccccccc on branch a2a/it"),
        ("nothing", "project: nothing to deploy (why)"),
        ("answered", "project: answered (why)"),
        ("held", "not deployed because nobody was to approve it (why)"),
        ("rejected", "rejected by a person, nothing was changed (why)"),
        ("refused", "refused by safety, nothing was changed (why)"),
        ("no_evidence", "no evidence, nothing was changed (why)"),
        ("unanswered", "nobody answered in time, nothing was changed (why)"),
    ],
)
def test_the_first_line_says_how_it_ended(summary: Summary, verdict: Verdict, words: str) -> None:
    summary["verdict"], summary["reason"] = verdict, "why"
    summary["branch"], summary["commit"] = "a2a/it", "c" * 40
    assert words in describe(summary).splitlines()[0]


def test_figures_before_and_after_stand_side_by_side(summary: Summary) -> None:
    text = describe(summary)
    assert "findings   9 -> 4   (the best coder alone: 6)" in text
    assert "tests      4 passed, 1 failed -> 4 passed, 1 failed   (3 runs: no new failure, none vanished)" in text
    summary["test_runs"] = 1
    assert "(1 run: no new failure, none vanished)" in describe(summary)


def test_without_evidence_nothing_is_said_about_tests_that_never_ran(summary: Summary) -> None:
    summary["verdict"] = "no_evidence"
    text = describe(summary)
    assert "NO_EVIDENCE" in text
    assert "no new failure" not in text


def test_before_a_judgement_there_are_only_the_figures_of_what_was_there(summary: Summary) -> None:
    summary["evidence"] = ""
    text = describe(summary)
    assert "findings   9\n" in text
    assert "->" not in text


def test_what_was_refused_is_shown_with_its_evidence(summary: Summary) -> None:
    evidence = Evidence(failing=["t.py::a", "t.py::b", "t.py::c"], failing_total=57, vanished=["t.py::d"],
                        vanished_total=1, excerpt="...")  # fmt: skip
    summary["rejected"] = [refused(["one.py", "two.py", "three.py", "four.py"], evidence), refused([])]
    text = describe(summary)
    assert "rejected   coder-a: one.py, two.py, three.py and 1 more: it breaks" in text
    assert "failing: t.py::a, t.py::b, t.py::c and 54 more; vanished: t.py::d" in text
    assert "coder-a: all of it: it breaks" in text


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        (1, "coder-a: 1 finding in one.py\n"),
        (2, "coder-a: 2 findings in one.py\n"),
        (0, "coder-a: one.py\n"),
        (-1, "coder-a: one.py, with 1 finding more\n"),
    ],
)
def test_what_was_accepted_is_counted(summary: Summary, removed: int, words: str) -> None:
    summary["accepted"] = [{"agent": "coder-a", "files": ["one.py"], "removed": removed}]
    assert f"accepted   {words}" in describe(summary)


def test_a_long_list_is_cut_and_says_so(summary: Summary) -> None:
    summary["rejected"] = [refused([f"{number}.py"]) for number in range(REJECTED_SHOWN + 2)]
    assert "and 2 more, in the JSON form of this summary" in describe(summary)


def test_who_did_what_and_what_was_lost_on_the_way(summary: Summary) -> None:
    step = Step(name="judge", skill="judge_patches", agent="judge", task="main-9", state="completed", attempts=4,
                losses=2, seconds=12.34, detail="")  # fmt: skip
    failed = step | {"name": "propose x", "state": "failed", "detail": "the tool is broken", "attempts": 1, "losses": 0}
    summary["steps"] = [step, failed]  # type: ignore[list-item]
    text = describe(summary)
    assert "12.3 s  main-9   2 lost and taken up again, 1 retried" in text
    assert "failed: the tool is broken" in text


def test_what_others_say_takes_one_line(summary: Summary) -> None:
    said = "it does not apply:\n  error: a.py:1"
    summary["rejected"] = [refused([]) | {"detail": said}]  # type: ignore[list-item]
    summary["steps"] = [
        Step(name="propose", skill="propose_patch", agent="coder-a", task="main-9", state="failed", attempts=1,
             losses=0, seconds=1.0, detail=said)
    ]  # fmt: skip
    assert describe(summary).count("it does not apply:   error: a.py:1\n") == 2


def test_an_answer_stands_by_itself(summary: Summary) -> None:
    summary["verdict"], summary["answer"] = "answered", "It is in one.py."
    assert describe(summary).splitlines()[:3] == ["project: answered", "", "It is in one.py."]


def test_a_workspace_begins_a_summary() -> None:
    tests: Any = {"total": 3, "passed": 2, "failed": 1, "skipped": 0, "seconds": 1.0, "path": "/x", "unstable": []}
    workspace: Any = {
        "run_dir": "/run", "name": "project", "repository": "/repo", "base": "0" * 40, "tests": tests,
        "findings": {"total": 5, "by_rule": {"F401": 5}}, "evidence_reason": "", "notes": ["could not install one"],
    }  # fmt: skip
    made = summary_of("tidy up", workspace)
    assert (made["evidence_reason"], made["notes"]) == ("", ["could not install one"])
    assert (made["request"], made["name"], made["repository"], made["run_dir"]) == (
        "tidy up",
        "project",
        "/repo",
        "/run",
    )
    assert made["findings_before"] == made["findings_after"] == workspace["findings"]
    del workspace["notes"]  # an older preparer made it
    assert summary_of("tidy up", workspace)["notes"] == []
    assert made["tests_before"] == made["tests_after"] == RunTally(total=3, passed=2, failed=1, skipped=0, seconds=1.0)


@pytest.mark.parametrize(("judged", "stands"), [("accepted", "held"), ("nothing", "held"), ("no_evidence",) * 2])
def test_a_judgement_is_entered_behind_those_who_failed(summary: Summary, judged: str, stands: str) -> None:
    judgement: Any = {
        "verdict": judged, "findings_before": {"total": 5, "by_rule": {}},
        "findings_after": {"total": 1, "by_rule": {}},
        "tests_before": summary["tests_before"], "tests_after": summary["tests_after"], "best_single": 3,
        "test_runs": 7, "accepted": [], "rejected": [refused(["two.py"])], "agreements": [],
        "advice": [{"by": "judge-model", "between": ["a", "b"], "chosen": "b", "reasons": ["shorter"]}],
        "digest": "d",
    }  # fmt: skip
    enter(summary, judgement, {"verdict": "warn", "findings": []}, [refused([])], "/patch")
    assert (summary["verdict"], summary["patch_path"], summary["evidence"]) == (stands, "/patch", "d")
    assert [it["files"] for it in summary["rejected"]] == [[], ["two.py"]]
    assert (summary["best_single"], summary["test_runs"], summary["review"]["verdict"]) == (3, 7, "warn")
    assert summary["findings_after"]["total"] == 1
    assert summary["advice"] == judgement["advice"]


def test_advice_is_told_with_its_first_reason(summary: Summary) -> None:
    told = Advice(by="judge-model", between=["coder-a", "coder-b"], chosen="coder-b", reasons=["shorter", "older"])
    summary["advice"] = [told, Advice(by="judge-model", between=["coder-a", "coder-c"], chosen="", reasons=[])]
    text = describe(summary)
    assert "judge-model prefers coder-b of coder-a / coder-b, equally good by tests: shorter\n" in text
    assert "judge-model is undecided between coder-a / coder-c, equally good by tests\n" in text


def conflict(**changes: Any) -> Conflict:
    told = Conflict(
        conflict="main-k9", agents=["coder-a", "coder-b"], tried=["merge: undecided, no evidence"], outcome="select",
        by="judge", chosen="coder-b", evidence=["main-7 by judge: findings left: 4", "main-8 by judge"],
        dissent=["coder-a"], seal="sha256:0123456789abcdef",
    )  # fmt: skip
    return Conflict(**(told | changes))  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "that of coder-b was chosen by judge"),
        ({"outcome": "merge", "chosen": ""}, "merged"),
        ({"outcome": "reject_all", "chosen": ""}, "nothing and nobody decided"),
        ({"outcome": "moot", "chosen": ""}, "given up"),
    ],
)
def test_a_conflict_is_told_with_its_end_its_evidence_and_its_seal(
    summary: Summary, changes: dict[str, Any], words: str
) -> None:
    summary["conflicts"] = [conflict(**changes)]
    lines = [line.strip() for line in describe(summary).splitlines()]
    at = lines.index(f"conflict   coder-a / coder-b: {words}")
    assert lines[at + 1 : at + 5] == [
        "merge: undecided, no evidence",
        "evidence: main-7 by judge: findings left: 4",
        "evidence: main-8 by judge",
        "sealed sha256:0123456789ab: a2a conflict show main-k9",
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {
                "findings_before": {"total": 9},
                "findings_after": {"total": 4},
                "tests_after": {"passed": 5, "failed": 1},
            },
            "9 -> 4 findings, 5 passed, 1 failed",
        ),
        ({"passed": True, "left": 3, "detail": ""}, "it holds, 3 findings left"),
        ({"passed": False, "left": 3, "detail": "2 tests fail with it"}, "2 tests fail with it"),
        ({"choice": 1, "left": [-1, 4]}, "findings left: it does not hold, 4"),
        ({"choice": 1}, ""),
        ({"tests_after": "all of them"}, ""),
        ("the second", ""),
        ({"something": "else"}, ""),
    ],
)
def test_what_was_answered_at_a_rung_is_put_in_short(answer: Any, words: str) -> None:
    assert in_short(answer) == words


def test_moved_plans_and_waits_are_told(summary: Summary) -> None:
    summary["decisions"] = [
        {"rev": 1, "by": "lead", "reason": "as the request was understood"},
        {"rev": 2, "by": "anna", "reason": ""},
    ]
    summary["waits"] = [{"name": "repo/r/turn", "whom": ["main-1", "main-2"], "seconds": 12.34}]
    text = describe(summary)
    assert "  plan       revision 1 by lead: as the request was understood\n             revision 2 by anna\n" in text
    assert "  waited     12.3 s for main-1, main-2 to be done with the repository\n" in text


def test_the_end_of_a_run_is_counted_and_put_into_words(summary: Summary) -> None:
    def step(attempts: int, losses: int) -> Step:
        return Step(name="judge", skill="judge_patches", agent="judge", task="main-9", state="completed",
                    attempts=attempts, losses=losses, seconds=1.0, detail="")  # fmt: skip

    steps = [step(4, 2), step(1, 0), step(0, 0)]
    made = finish(summary, "rejected", "not like this", steps, 2, 9.5)
    assert (made["losses"], made["retries"], made["rounds"], made["seconds"]) == (2, 1, 2, 9.5)
    assert made["text"] == describe(made)
    assert made["text"].startswith("project: rejected by a person, nothing was changed (not like this)")
