from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import discover
from benchmarks.report import BenchmarkError, Options


async def test_ten_are_found_in_either_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover, "CARDS", (20, 100))
    results = await discover.run(Options.quick(tmp_path, "asyncio"))
    assert [(result.name, result.ratio_to) for result in results] == [
        ("discover.20.p50", None),
        ("discover.100.p50", "discover.20.p50"),
    ]
    assert all(result.value > 0 for result in results)


async def test_an_answer_with_others_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover, "CARDS", (20,))
    monkeypatch.setattr(discover, "_skill", lambda number, cards: "any")
    with pytest.raises(BenchmarkError, match="expected 10 agents to be found"):
        await discover.run(Options.quick(tmp_path, "asyncio"))
