"""Both directions: every MUST has a case or a reason why it has none, and only what has no case has a reason."""

from __future__ import annotations

from a2a.conformance.playing import cases
from a2a.conformance.requirements import Level, requirements
from a2a.conformance.support import uncovered
from a2a.conformance.uncovered import REASONS

LEFT = {requirement.name: requirement for requirement in uncovered(cases())}


def test_every_must_has_a_case_or_a_reason() -> None:
    musts = [name for name, requirement in LEFT.items() if requirement.level is Level.MUST]
    assert [name for name in musts if name not in REASONS] == []


def test_no_requirement_with_a_case_has_a_reason() -> None:
    assert [name for name in REASONS if name not in LEFT] == []


def test_every_reason_is_a_sentence_about_a_requirement() -> None:
    assert REASONS.keys() <= requirements().keys()
    assert all(len(reason.split()) > 2 for reason in REASONS.values())
