"""What outcomes say about requirements."""

from __future__ import annotations

from typing import Any

from a2a.conformance import support
from a2a.conformance.reports import Report
from a2a.conformance.requirements import Level, requirements
from a2a.conformance.runner import Status
from a2a.conformance.support import Count, Verdict, areas, counted, uncovered, why_not

PASSED, FAILED, SKIPPED = Status


def verdicts(*outcomes: Any) -> dict[tuple[str, Level], Verdict]:
    found = areas(outcomes)
    return {(finding.requirement.name, finding.level): finding.verdict for area in found for finding in area.findings}


def test_outcomes_are_counted(report: Report) -> None:
    assert counted(report.outcomes) == Count(passed=2, failed=1, skipped=1)
    assert counted(report.outcomes).all == 4
    assert counted([]).all == 0


def test_areas_come_in_the_order_of_the_specification(report: Report) -> None:
    assert [area.name for area in areas(report.outcomes)] == ["HELLO", "FENCE", "LEASE"]
    assert [area.name for area in areas(report.outcomes[::-1])] == ["HELLO", "FENCE", "LEASE"]


def test_a_requirement_is_broken_by_one_case_and_met_by_all(outcome: Any) -> None:
    met = outcome("LEASE-8", "one")
    assert verdicts(met) == {("LEASE-8", Level.MUST): Verdict.MET}
    assert verdicts(met, outcome("LEASE-8", "two", SKIPPED)) == {("LEASE-8", Level.MUST): Verdict.MET}
    assert verdicts(met, outcome("LEASE-8", "two", FAILED)) == {("LEASE-8", Level.MUST): Verdict.BROKEN}


def test_each_level_of_a_requirement_has_its_own_verdict(outcome: Any) -> None:
    found = verdicts(outcome("LEASE-8"), outcome("LEASE-8", "better", FAILED, level=Level.SHOULD))
    assert found == {("LEASE-8", Level.MUST): Verdict.MET, ("LEASE-8", Level.SHOULD): Verdict.BROKEN}


def test_what_was_not_tried_says_why_once(outcome: Any) -> None:
    left = [outcome(name, "x", SKIPPED, detail="no way to restart it") for name in ("LEASE-1", "LEASE-2", "LEASE-1")]
    [area] = areas([*left, outcome("LEASE-3")])
    assert area.untried == {"no way to restart it": ["LEASE-1", "LEASE-2"]}
    assert [finding.requirement.name for finding in area.of(Level.MUST)] == ["LEASE-1", "LEASE-2", "LEASE-3"]
    assert area.of(Level.MAY) == []


def test_a_case_shows_what_it_also_names_only_where_it_passed(outcome: Any) -> None:
    assert verdicts(outcome("LEASE-8", also=("FENCE-1",)))["FENCE-1", Level.MUST] is Verdict.MET
    assert ("FENCE-1", Level.MUST) not in verdicts(outcome("LEASE-8", "x", FAILED, also=("FENCE-1",)))
    both = verdicts(outcome("LEASE-8", also=("FENCE-1",)), outcome("LEASE-8", "x", FAILED, also=("FENCE-1",)))
    assert both["FENCE-1", Level.MUST] is Verdict.MET, "what failed may be the other thing"
    assert verdicts(outcome("LEASE-8", "x", SKIPPED, also=("FENCE-1",)))["FENCE-1", Level.MUST] is Verdict.UNTRIED


def test_what_no_case_names_is_uncovered(outcome: Any, monkeypatch: Any) -> None:
    cases = [outcome("LEASE-8", also=("FENCE-1",)).case]
    left = {requirement.name for requirement in uncovered(cases)}
    assert left == requirements().keys() - {"LEASE-8", "FENCE-1"}
    monkeypatch.setitem(support.REASONS, "LEASE-9", "nobody sees it")
    reasons = {found.requirement.name: found.reason for found in why_not(cases)}
    assert reasons["LEASE-9"] == "nobody sees it"
    assert reasons["HELLO-1"] == ""
