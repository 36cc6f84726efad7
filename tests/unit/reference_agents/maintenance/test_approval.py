"""Who approves, what is asked, and what the answers mean."""

from __future__ import annotations

from typing import Any, cast

import pytest

from reference_agents.maintenance.approval import Approval, Decision, question, read_answer, without_a_person
from reference_agents.maintenance.shapes import Finding, Judgement, Review, Workspace

TALLY = {"total": 1, "passed": 1, "failed": 0, "skipped": 0, "seconds": 0.1}
WORKSPACE = cast(Workspace, {"evidence_reason": "they do not start"})


def judged(verdict: str) -> Judgement:
    counts = {"findings_before": {"total": 3, "by_rule": {}}, "findings_after": {"total": 1, "by_rule": {}}}
    lists: dict[str, Any] = {name: [] for name in ("accepted", "rejected", "agreements", "advice")}
    rest = {"verdict": verdict, "best_single": 2, "tests_before": TALLY, "tests_after": TALLY, "test_runs": 1}
    return cast(Judgement, {**counts, **lists, **rest})


def reviewed(verdict: Any, count: int = 1) -> Review:
    finding = Finding(check="secrets", verdict=verdict, path="one.py", line=3, detail="a key")
    return Review(verdict=verdict, findings=[finding] * count)


@pytest.mark.parametrize(
    ("approve", "judgement", "review", "ends"),
    [
        ("ask", "no_evidence", "refuse", None),
        ("auto", "accepted", "pass", None),
        ("auto", "accepted", "ask", None),
        ("auto", "accepted", "refuse", "refused"),
        ("auto", "no_evidence", "pass", "no_evidence"),
        ("never", "accepted", "pass", "held"),
        ("never", "accepted", "refuse", "refused"),
        ("never", "no_evidence", "pass", "no_evidence"),
    ],
)
def test_how_a_run_ends_where_nobody_is_asked(approve: Approval, judgement: str, review: str, ends: str | None) -> None:
    settled = without_a_person(approve, judged(judgement), reviewed(review))
    assert (settled and settled[0]) == ends


def test_why_safety_refused_is_told_and_cut() -> None:
    settled = without_a_person("auto", judged("accepted"), reviewed("refuse", 5))
    assert settled == ("refused", "; ".join(["secrets one.py: a key"] * 3) + " and 2 more")


def test_a_good_patch_can_be_approved() -> None:
    text, options = question(WORKSPACE, judged("accepted"), reviewed("pass"), "/run/it.patch", "")
    assert options == ["approve", "reject", "reject: FEEDBACK", "edit: PATH"]
    assert "findings   3 -> 1" in text and "/run/it.patch" in text and "Commit this on a branch?" in text


def test_without_evidence_that_comes_first() -> None:
    text, options = question(WORKSPACE, judged("no_evidence"), reviewed("pass"), "", "")
    assert text.startswith("NO EVIDENCE: they do not start.")
    assert "approve" in options


@pytest.mark.parametrize(("judgement", "review"), [("accepted", "refuse"), ("nothing", "pass")])
def test_what_cannot_be_deployed_cannot_be_approved(judgement: str, review: str) -> None:
    _, options = question(WORKSPACE, judged(judgement), reviewed(review), "", "")
    assert "approve" not in options


def test_what_became_of_the_last_answer_is_told() -> None:
    assert question(WORKSPACE, judged("accepted"), reviewed("pass"), "", "It does not hold.")[0].startswith("It does")


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("approve", Decision("approve")),
        (" Yes ", Decision("approve")),
        ("reject", Decision("reject")),
        ("no", Decision("reject")),
        ("reject:", Decision("reject")),
        ("reject: too much at once", Decision("rework", "too much at once")),
        ("do not touch setup.py: it is ours", Decision("rework", "do not touch setup.py: it is ours")),
        ("edit: a.patch", Decision("edit", " a.patch")),
        ("edit", Decision("reject")),
        ({"decision": "approve"}, Decision("approve")),
        ({"decision": "reject", "feedback": "why"}, Decision("rework", "why")),
        ({"decision": "edit", "patch": "diff\n"}, Decision("edit", "diff\n")),
        ({}, Decision("reject")),
    ],
)
def test_answers_are_understood(answer: Any, decision: Decision) -> None:
    assert read_answer(answer) == decision
