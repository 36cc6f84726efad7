"""What a run came to, in words."""

from __future__ import annotations

import pytest

from reference_agents.maintenance.evidence import no_evidence
from reference_agents.maintenance.shapes import Evidence, Rejected
from reference_agents.maintenance.summary import REJECTED_SHOWN, Step, Summary, Verdict, describe, new_summary


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


def test_an_answer_stands_by_itself(summary: Summary) -> None:
    summary["verdict"], summary["answer"] = "answered", "It is in one.py."
    assert describe(summary).splitlines()[:3] == ["project: answered", "", "It is in one.py."]
