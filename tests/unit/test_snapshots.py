"""Snapshots: made by another process while the server goes on, kept at the end, and used at the start."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import MemoryStore, Policy, Server, SqliteStore
from a2a.engine import snapshot
from a2a.engine.ledger import Ledger
from a2a.engine.records import AgentRegistered, CoordinatorStarted, Settled, from_bytes, to_bytes
from a2a.snapshots import Snapshots, fold
from a2a.stores.base import Entry, Snapshot
from a2a.stores.reader import LedgerReader

BOUND = 60


async def filled(path: Path, starts: int) -> None:
    """Make a ledger of coordinators that started and ended."""
    for _ in range(starts):
        server = Server(SqliteStore(path))
        await server.open()
        await server.aclose()


async def drop_snapshot(path: Path, instead: bytes | None = None) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.save_snapshot(Snapshot(1, instead or b"nothing"))
    await store.aclose()


async def test_an_orderly_stop_leaves_a_snapshot_of_all_records(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 2)
    with LedgerReader(path) as reader:
        kept = reader.snapshot()
        assert kept is not None
        assert kept.lsn == reader.end == 4, "each has started and stopped"
        folded = Ledger()
        for entry in reader.entries():
            folded.apply(from_bytes(entry.body, entry.payload))
        assert kept.body == snapshot.to_bytes(folded)


async def test_a_start_folds_only_what_is_behind_the_snapshot(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    store = SqliteStore(path)
    asked: list[int] = []
    read = store.read
    monkeypatch.setattr(store, "read", lambda after=0, **rest: asked.append(after) or read(after, **rest))
    server = Server(store)
    await server.open()
    assert asked == [6]
    assert server.coordinator.ledger.epoch == 4
    await server.aclose()


@pytest.mark.parametrize("body", [b"nothing", b"\x93\x01\xc4\x00\xc4\x00"])
async def test_a_snapshot_that_cannot_be_read_is_left_aside_with_a_warning(tmp_path, body, caplog):
    path = tmp_path / "ledger.db"
    await filled(path, 2)
    await drop_snapshot(path, body)
    server = Server(SqliteStore(path))
    await server.open()
    assert server.coordinator.ledger.epoch == 3
    assert "all records are folded" in caplog.text
    await server.aclose()


async def test_another_process_makes_the_snapshot_the_server_would(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    await drop_snapshot(path)
    store = SqliteStore(path)
    await store.open()
    keeper = Snapshots(store, every=5)
    keeper.appended(4, 0)
    assert keeper._making is None, "not yet"
    keeper.appended(8, 1)
    assert keeper._making is None, "a task in memory is worth four records"
    keeper.appended(5, 0)
    with anyio.fail_after(BOUND):
        await keeper._making
    with LedgerReader(path) as reader:
        kept = reader.snapshot()
        assert kept == Snapshot(6, snapshot.to_bytes(fold(reader)))
    keeper.appended(9, 0)
    assert keeper._making is None, "the next one is due five records after it"
    await store.aclose()


async def test_a_server_has_one_made_while_it_goes_on(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    await drop_snapshot(path)
    server = Server(SqliteStore(path), snapshot_every=1)
    await server.open()
    with anyio.fail_after(BOUND):
        while (making := server._snapshots._making) is None:
            await anyio.lowlevel.checkpoint()
        await making
    kept = await server.store.load_snapshot()
    assert kept is not None
    assert kept.lsn == 7
    await server.aclose()


async def test_a_process_that_fails_is_told_to_the_log_and_to_nobody_else(tmp_path, caplog, monkeypatch):
    path = tmp_path / "ledger.db"
    await filled(path, 1)
    store = SqliteStore(path)
    await store.open()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    keeper = Snapshots(store, every=1)
    keeper.appended(9, 0)
    with anyio.fail_after(BOUND):
        await keeper._making
    assert "no snapshot was made" in caplog.text
    await store.aclose()


async def test_a_failure_to_keep_one_at_the_end_is_harmless(caplog):
    store = MemoryStore()
    await store.open()
    ahead = Ledger()
    ahead.lsn = 5
    await Snapshots(store, every=1).keep(ahead)
    assert "no snapshot at record 5" in caplog.text
    await store.aclose()


async def test_the_process_ends_with_the_server_that_waits_for_it(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 1)
    store = SqliteStore(path)
    await store.open()
    keeper = Snapshots(store, every=1)
    keeper.appended(9, 0)
    making = keeper._making
    for _ in range(3):
        await asyncio.sleep(0)
    await keeper.aclose()
    assert making is not None
    assert making.done()
    await store.aclose()


def test_the_process_does_nothing_for_a_parent_that_is_gone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "a2a.snapshots", str(tmp_path / "none.db"), str(os.getpid() + 100_000)],
        capture_output=True,
        check=False,
        timeout=BOUND,
    )
    assert (done.returncode, done.stdout) == (1, b"")


async def test_a_store_without_a_file_has_none_made_aside():
    store = MemoryStore()
    keeper = Snapshots(store, every=1)
    keeper.appended(9, 0)
    assert keeper._making is None


async def test_a_fold_goes_on_from_the_snapshot_where_it_can_be_used(tmp_path, caplog):
    path = tmp_path / "ledger.db"
    await filled(path, 2)
    with LedgerReader(path) as reader, caplog.at_level(logging.WARNING):
        by_snapshot = snapshot.to_bytes(fold(reader))
        assert caplog.text == ""
    await drop_snapshot(path)
    with LedgerReader(path) as reader:
        assert snapshot.to_bytes(fold(reader)) == by_snapshot
    assert "cannot be used" in caplog.text


async def test_a_fold_says_which_record_does_not_fold(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 1)
    await drop_snapshot(path)
    store = SqliteStore(path)
    end = await store.open()
    done = anyio.Event()
    body, _ = to_bytes(AgentRegistered(1, "w", "i", 1, {"skills": 7}, {}))
    store.append([Entry(end + 1, "AgentRegistered", None, 1, body)], end, lambda error: done.set())
    await done.wait()
    await store.aclose()
    with LedgerReader(path) as reader, pytest.raises(ValueError, match=f"record {end + 1} does not fold"):
        fold(reader)


async def test_nothing_is_recorded_behind_the_stop():
    store = MemoryStore()
    server = Server(store, Policy())
    await server.open()
    await server.aclose()
    names = [entry.kind for entry in store.medium.log]
    assert names == ["CoordinatorStarted", "CoordinatorStopped"]


async def test_a_ledger_whose_last_start_failed_gets_no_stop(append_raw):
    store = await append_raw([CoordinatorStarted(1, 1), Settled(2, "main-9", "completed")])
    server = Server(store)
    with pytest.raises(Exception, match="cannot be folded"):
        await server.open()
    await server.aclose()
    assert len(store.medium.log) == 2


@pytest.fixture
def append_raw() -> Any:
    async def append(records: list[Any]) -> MemoryStore:
        store = MemoryStore()
        await store.open()
        entries = []
        for lsn, record in enumerate(records, 1):
            body, payload = to_bytes(record)
            entries.append(Entry(lsn, type(record).__name__, getattr(record, "task", None), record.at, body, payload))
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        store.append(entries, 0, done.set_result)
        await done
        await store.aclose()
        return store

    return append
