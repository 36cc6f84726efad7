from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import idle


def test_a_quick_run_has_fewer_agents_and_the_same_figures(quick: Callable[[str], dict[str, float]]) -> None:
    found = quick("idle")
    assert list(found) == ["idle.agents", "idle.memory", "idle.memory.each", "idle.cpu", "idle.join.cpu"]
    assert found["idle.agents"] == idle.AGENTS_QUICK
    assert found["idle.memory"] > 10
    assert found["idle.join.cpu"] > 0


def test_fewer_agents_come_where_the_machine_allows_no_more(
    quick: Callable[[str], dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "raise_file_limit", lambda wanted: idle.OTHER_FILES + 21)
    assert quick("idle")["idle.agents"] == 21
