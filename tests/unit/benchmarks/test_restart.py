from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from a2a.engine.records import from_bytes
from a2a.engine.replay.run import Replay
from a2a.stores.reader import LedgerReader
from benchmarks import restart


async def test_the_ledger_is_one_that_a_coordinator_would_have_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await restart.write_ledger(path, 3_000, 1_000)
    with LedgerReader(path) as reader:
        records = [from_bytes(entry.body, entry.payload) for entry in reader.entries()]
        kept = reader.snapshot()
        assert kept is not None
        assert 2_000 <= kept.lsn < 2_500
    assert 3_000 <= len(records) < 3_500
    assert Replay("main").run(records) is None
    names = [type(record).__name__ for record in records]
    assert names.count("Delegated") - names.count("Settled") == 30
    assert "Archived" in names


def test_a_quick_run_has_fewer_records_and_the_same_figures(quick: Callable[[str], dict[str, float]]) -> None:
    found = quick("restart")
    assert list(found) == ["restart.records", "restart.stopped", "restart.killed", "restart.killed.memory"]
    assert all(value > 0 for value in found.values())
