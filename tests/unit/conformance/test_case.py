"""Cases: functions under the name of a requirement."""

from __future__ import annotations

from typing import Any

import pytest

from a2a.conformance import case as module
from a2a.conformance.case import Case, Need, Role, case
from a2a.conformance.requirements import Level


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    found: list[Case] = []
    monkeypatch.setattr(module, "CASES", found)
    return found


def test_a_function_becomes_a_case(registered: list[Case]) -> None:
    @case(Role.AGENT, "LEASE-8", also=("FENCE-1",), needs=(Need.RESTART,))
    async def comes_back(under: Any) -> None:
        """It comes back,
        and goes on."""

    [found] = registered
    assert found.id == "LEASE-8/comes_back"
    assert (found.role, found.level, found.says) == (Role.AGENT, Level.MUST, "It comes back, and goes on.")
    assert (found.also, found.needs, found.run) == (("FENCE-1",), {Need.RESTART}, comes_back)


def test_a_case_may_be_less_binding_than_its_paragraph(registered: list[Case]) -> None:
    @case(Role.CLIENT, "LEASE-8", level=Level.MAY)
    async def may(under: Any) -> None:
        """It may."""

    @case(Role.CLIENT, "LEASE-8")
    async def must(under: Any) -> None:
        """It must."""

    assert [found.level for found in registered] == [Level.MAY, Level.MUST]


def test_a_case_is_about_what_there_is_and_says_what_it_tries(registered: list[Case]) -> None:
    async def silent(under: Any) -> None:
        pass

    with pytest.raises(AssertionError, match="does not say"):
        case(Role.CLIENT, "LEASE-8")(silent)
    silent.__doc__ = "It tries."
    with pytest.raises(AssertionError, match="no requirement NOWHERE-1"):
        case(Role.CLIENT, "NOWHERE-1")(silent)
    with pytest.raises(AssertionError, match="no requirement NOWHERE-1"):
        case(Role.CLIENT, "LEASE-8", also=("NOWHERE-1",))(silent)
    assert registered == []
