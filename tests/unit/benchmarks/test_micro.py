from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import micro
from benchmarks.report import BenchmarkError, Options, Result


async def test_each_part_of_a_delegation_has_its_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "TASKS", 20)
    parts = await micro.delegations(tmp_path / "ledger.db")
    assert set(parts) == {"decode", "encode", "step", "record", "apply", "append"}
    assert all(seconds > 0 for seconds in parts.values())


async def test_starts_stand_beside_what_they_are_measured_by() -> None:
    results = {result.name: result for result in await micro.starts(1)}
    assert {name: result.ratio_to for name, result in results.items()} == {
        "micro.start.pass": None,
        "micro.start.help": "micro.start.pass",
        "micro.start.libraries": None,
        "micro.start.import": "micro.start.libraries",
        "micro.start.names": "micro.start.libraries",
    }


async def test_a_start_may_keep_its_compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(micro, "STARTS", {"start.kept": ("-c", "import sys; assert not sys.dont_write_bytecode")})
    (result,) = await micro.starts(1)
    assert result.name == "micro.start.kept"


async def test_a_start_that_fails_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "STARTS", {"start.broken": ("-c", "raise ValueError('what went wrong')")})
    with pytest.raises(BenchmarkError, match="what went wrong"):
        await micro.starts(1)


async def test_a_start_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "STARTS", {"start.stuck": ("-c", "import time; time.sleep(60)")})
    monkeypatch.setattr(micro, "START_WITHIN", 0.2)
    with pytest.raises(BenchmarkError, match=r"did not end within 0\.2 s"):
        await micro.starts(1)


async def test_the_simulator_tells_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = await micro._simulate(1)
    assert result == Result("micro.simulate", result.value, "steps/s")
    assert result.value > 0


async def test_where_no_tests_are_the_simulator_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "PROJECT", tmp_path)
    assert await micro._simulate(1) == []


async def test_a_round_for_warming_up_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([100.0, 3e-6, 1e-6, 2e-6, 5e-6, 4e-6])

    async def delegations(ledger: Path) -> dict[str, float]:
        return {"step": next(costs)}

    async def nothing(number: int) -> list[Result]:
        return []

    monkeypatch.setattr(micro, "delegations", delegations)
    monkeypatch.setattr(micro, "starts", nothing)
    monkeypatch.setattr(micro, "_simulate", nothing)
    assert await micro.run(Options(tmp_path, "asyncio")) == [Result("micro.step", 3.0, "us")]
