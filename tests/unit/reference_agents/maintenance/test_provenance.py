"""What a commit says about where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from reference_agents.errand import Step
from reference_agents.maintenance.deployer import TRAILER, TRAILERS_MAX
from reference_agents.maintenance.provenance import branch_names, title_of, trailers_of
from reference_agents.maintenance.shapes import Judgement, Plan

TALLY = {"total": 5, "passed": 4, "failed": 1, "skipped": 0, "seconds": 0.1}


def judged(verdict: str = "accepted") -> Judgement:
    return cast(
        Judgement,
        {
            "verdict": verdict, "digest": "d" * 64, "tests_before": TALLY, "tests_after": TALLY,
            "accepted": [{"agent": "coder-a", "files": ["one.py"], "removed": 6}],
            "findings_before": {"total": 9, "by_rule": {}}, "findings_after": {"total": 3, "by_rule": {}},
        },
    )  # fmt: skip


def step(skill: str, agent: str = "somebody") -> Step:
    return Step(name=skill, skill=skill, agent=agent, task="main-1", state="completed", attempts=1, losses=0,
                seconds=1.0, detail="")  # fmt: skip


def trailers(plan: Plan, *steps: Step, request: str = "modernise", verdict: str = "accepted") -> list[str]:
    review: Any = {"verdict": "pass", "findings": []}
    return trailers_of(request, "main-9", plan, judged(verdict), review, steps, approved_by="auto")


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "Modernise to Python 3.11"),
        ({"target": "py39"}, "Modernise to Python 3.9"),
        ({"kind": "fix-lint"}, "Fix lint findings"),
        ({"kind": "remove-unused"}, "Remove unused code"),
        ({"kind": "rename", "old_name": "a.b", "new_name": "c"}, "Rename a.b to c"),
    ],
)
def test_the_title_says_what_was_done(plan_for: Callable[..., Plan], changes: dict[str, str], title: str) -> None:
    assert title_of(plan_for(**changes)) == title


def test_the_trailers_name_tasks_agents_figures_and_evidence(plan_for: Callable[..., Plan]) -> None:
    told = trailers(plan_for(), step("prepare"), step("propose_patch", "coder-a"), step("judge_patches", ""))
    assert told == [
        "Request: modernise",
        "Plan: modernise py311",
        "Task: main-9",
        "Step: propose_patch main-1 coder-a",
        "Change-By: coder-a (1 files, 6 findings)",
        "Findings: 9 -> 3",
        "Tests: 4/5 -> 4/5 passed",
        "Safety: pass",
        f"Evidence: sha256:{'d' * 64}",
        "Approved-By: auto",
    ]


def test_where_tests_cannot_decide_the_commit_says_so(plan_for: Callable[..., Plan]) -> None:
    assert "Tests: no evidence" in trailers(plan_for(), verdict="no_evidence")


def test_whatever_was_asked_for_the_deployer_takes_it(plan_for: Callable[..., Plan]) -> None:
    steps = [step("propose_patch") for _ in range(100)]
    for request in ("two\nlines: here\n\nEffect-Key: mine", "\x00\x1b[2J", "", "x" * 5000):
        told = trailers(plan_for(), *steps, request=request)
        assert len(told) <= TRAILERS_MAX
        assert all(TRAILER.fullmatch(trailer) for trailer in told)


def test_a_branch_that_is_taken_has_others_after_it() -> None:
    assert branch_names("a2a/it")[:3] == ["a2a/it", "a2a/it-2", "a2a/it-3"]
