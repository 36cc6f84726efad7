"""Who of those that are away may come back."""

from __future__ import annotations

import pytest

from a2a import AgentInfo, squads
from reference_agents.presence import SQUAD_VARIABLE, awaited


def info(name: str, status: str = "away") -> AgentInfo:
    return AgentInfo(name, {}, status, {}, 1, (), None)


def test_who_is_away_may_come_back_where_somebody_keeps_it_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SQUAD_VARIABLE, "lead,coder-ruff,coder-libcst")
    there = [info("coder-libcst"), info("coder-ruff", "ready"), info("coder-lib"), info("coder-model")]
    assert awaited(there) == ["coder-libcst"]


def test_where_nobody_says_who_is_kept_running_everybody_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SQUAD_VARIABLE, raising=False)
    assert awaited([info("one"), info("other", "draining"), info("third")]) == ["one", "third"]


def test_it_reads_what_a_squad_says() -> None:
    assert SQUAD_VARIABLE == squads.SQUAD_VARIABLE
