"""What a commit of the squad says about its origin: its title, its trailers, and the name of its branch.

Pure, and the same in every attempt: nothing in it depends on when something happened or how long it took.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ..errand import Step
from .shapes import Judgement, Plan, Review

__all__ = ["branch_names", "title_of", "trailers_of"]

BRANCHES_MAX: Final = 9
"""How many names to try if the branch is taken."""
LINE_CHARS_MAX: Final = 150
STEPS_MAX: Final = 20
"""The last rounds' steps; a deployer accepts only so many trailers."""
TITLES: Final = {
    "modernise": "Modernise to Python {version}",
    "fix-lint": "Fix lint findings",
    "remove-unused": "Remove unused code",
    "rename": "Rename {old} to {new}",
}
TOLD: Final = frozenset({"propose_patch", "merge_patches", "judge_patches", "review_patch"})
"""Skills whose steps a commit names: who proposed it, who decided, who reviewed it."""


def title_of(plan: Plan) -> str:
    """Return the first line of the commit message."""
    version = f"{plan['target'][2:3]}.{plan['target'][3:]}"
    named = TITLES.get(plan["kind"], "Maintenance")
    return _one_line(named.format(version=version, old=plan["old_name"], new=plan["new_name"]))


def branch_names(wanted: str) -> list[str]:
    """Return the names to try for our own branch, in order."""
    return [wanted, *(f"{wanted}-{number}" for number in range(2, BRANCHES_MAX + 1))]


def trailers_of(
    request: str,
    task: str,
    plan: Plan,
    judgement: Judgement,
    review: Review,
    steps: Sequence[Step],
    *,
    approved_by: str,
) -> list[str]:
    """Return the trailers, each `Key: value`."""
    return list(_trailers(request, task, plan, judgement, review, steps, approved_by))


def _trailers(
    request: str, task: str, plan: Plan, judgement: Judgement, review: Review, steps: Sequence[Step], approved_by: str
) -> Iterator[str]:
    yield f"Request: {_one_line(request)}"
    yield f"Plan: {plan['kind']} {plan['target']}"
    yield f"Task: {task}"
    for step in [step for step in steps if step["skill"] in TOLD and step["agent"]][-STEPS_MAX:]:
        yield f"Step: {step['skill']} {step['task']} {step['agent']}"
    for accepted in judgement["accepted"]:
        yield f"Change-By: {accepted['agent']} ({len(accepted['files'])} files, {accepted['removed']} findings)"
    yield f"Findings: {judgement['findings_before']['total']} -> {judgement['findings_after']['total']}"
    before, after = judgement["tests_before"], judgement["tests_after"]
    if judgement["verdict"] == "no_evidence":
        yield "Tests: no evidence"
    else:
        yield f"Tests: {before['passed']}/{before['total']} -> {after['passed']}/{after['total']} passed"
    yield f"Safety: {review['verdict']}"
    yield f"Evidence: sha256:{judgement['digest']}"
    yield f"Approved-By: {approved_by}"


def _one_line(text: str) -> str:
    """Make a text fit into one line of a commit message."""
    return re.sub(r"[\x00-\x1f\x7f\s]+", " ", text).strip()[:LINE_CHARS_MAX] or "-"
