"""What the outcomes of a run say about the requirements: which are met, which broken, which not tried and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .case import Case
from .requirements import LEVELS, Level, Requirement, requirements
from .runner import Outcome, Status
from .uncovered import REASONS

__all__ = ["Area", "Count", "Finding", "Uncovered", "Verdict", "areas", "counted", "uncovered", "why_not"]


class Verdict(StrEnum):
    """What a run shows about a requirement."""

    MET = "met"
    """A case showed it, and no case about it failed."""
    BROKEN = "broken"
    """A case about it failed."""
    UNTRIED = "not tried"
    """Every case about it was skipped."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many cases passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def all(self) -> int:
        return self.passed + self.failed + self.skipped


@dataclass(frozen=True, slots=True)
class Finding:
    """A requirement, how binding the cases about it are, and what they showed."""

    requirement: Requirement
    level: Level
    verdict: Verdict
    reason: str = ""
    """Why it was not tried."""


@dataclass(frozen=True, slots=True)
class Area:
    """The requirements whose names begin alike, and the outcomes of the cases about them."""

    name: str
    """Such as `LEASE`."""
    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    """In the order of the specification; a requirement that has cases of two levels has two findings."""

    @property
    def count(self) -> Count:
        return counted(self.outcomes)

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding.level is level]

    @property
    def untried(self) -> dict[str, list[str]]:
        """Return the requirements that were not tried, by the reason."""
        found: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.verdict is Verdict.UNTRIED:
                found.setdefault(finding.reason, []).append(finding.requirement.name)
        return found


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A requirement that no case names, and why."""

    requirement: Requirement
    reason: str
    """Empty if nobody has written one down."""


def counted(outcomes: Iterable[Outcome]) -> Count:
    """Count outcomes."""
    found = [outcome.status for outcome in outcomes]
    return Count(found.count(Status.PASSED), found.count(Status.FAILED), found.count(Status.SKIPPED))


def areas(outcomes: Sequence[Outcome]) -> list[Area]:
    """Return the areas that were tried, in the order of the specification."""
    known = requirements()
    names = dict.fromkeys(requirement.area for requirement in known.values())
    found = []
    for name in names:
        own = tuple(outcome for outcome in outcomes if known[outcome.case.requirement].area == name)
        findings = tuple(_findings(name, outcomes))
        if own or findings:
            found.append(Area(name, own, findings))
    return found


def _findings(area: str, outcomes: Sequence[Outcome]) -> Iterable[Finding]:
    for requirement in requirements().values():
        if requirement.area != area:
            continue
        about = [outcome for outcome in outcomes if outcome.case.requirement == requirement.name]
        levels = [level for level in LEVELS if any(outcome.case.level is level for outcome in about)]
        for level in levels:
            yield _finding(requirement, level, [outcome for outcome in about if outcome.case.level is level])
        if not levels:
            # A case about another requirement that passed has shown it; one that failed says nothing about it.
            shown = [outcome for outcome in outcomes if requirement.name in outcome.case.also]
            if any(outcome.status is not Status.FAILED for outcome in shown):
                yield _finding(requirement, requirement.level, shown)


def _finding(requirement: Requirement, level: Level, about: Sequence[Outcome]) -> Finding:
    ended = {outcome.status for outcome in about}
    if Status.FAILED in ended and any(outcome.case.requirement == requirement.name for outcome in about):
        return Finding(requirement, level, Verdict.BROKEN)
    if Status.PASSED in ended:
        return Finding(requirement, level, Verdict.MET)
    reasons = dict.fromkeys(outcome.detail for outcome in about if outcome.status is Status.SKIPPED)
    return Finding(requirement, level, Verdict.UNTRIED, "; ".join(reasons))


def uncovered(cases: Iterable[Case]) -> list[Requirement]:
    """Return the requirements that none of these cases names, in the order of the specification."""
    named = {name for case in cases for name in (case.requirement, *case.also)}
    return [requirement for requirement in requirements().values() if requirement.name not in named]


def why_not(cases: Iterable[Case]) -> list[Uncovered]:
    """Return the requirements that none of these cases names, each with the reason."""
    return [Uncovered(requirement, REASONS.get(requirement.name, "")) for requirement in uncovered(cases)]
