"""What the tests of the suite share: outcomes that no implementation had a part in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from a2a.conformance.case import Case, Role
from a2a.conformance.reports import Facts, Report
from a2a.conformance.requirements import Level
from a2a.conformance.runner import Outcome, Status

Make = Callable[..., Outcome]

SENT = '{"kind": "bye", "body": {"reason": "<script>alert(1)</script> ``` |\x1b[2J\u202e\ud800\x00"}}'
"""What a peer may have sent: markup of every kind, and characters that act or cannot be written."""


async def nothing(_: Any) -> None:
    """A case that asks for nothing."""


@pytest.fixture
def outcome() -> Make:
    """Make an outcome: of a case about a requirement, with a status, and the outcome's other fields."""

    def make(
        requirement: str,
        name: str = "does_it",
        status: Status = Status.PASSED,
        *,
        level: Level = Level.MUST,
        also: tuple[str, ...] = (),
        **fields: Any,
    ) -> Outcome:
        case = Case(requirement, name, Role.COORDINATOR, level, "It does `it`.", nothing, also=also)
        return Outcome(case, status, fields.pop("seconds", 0.25), **fields)

    return make


@pytest.fixture
def report(outcome: Make) -> Report:
    """A run in which some of everything came."""
    trace = ("one: > {}", *(f"one: < {number}" for number in range(20)), f"two: < {SENT}")
    outcomes = (
        outcome("HELLO-1", encoding="json"),
        outcome("HELLO-9", status=Status.FAILED, detail=f"expected ok; came: {SENT}", trace=trace, encoding="json"),
        outcome("LEASE-8", status=Status.SKIPPED, detail="no operator's token was given", encoding="json"),
        outcome("LEASE-10", level=Level.SHOULD, encoding="json", also=("FENCE-1",)),
    )
    facts = Facts(Role.COORDINATOR, "ws://127.0.0.1:7420", ("json",), "2026-01-02T03:04:05+00:00", 1.5, "1.0")
    return Report.of(facts, outcomes, [found.case for found in outcomes])
