"""A ledger that is only looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from a2a.engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask
from a2a.stores.base import Snapshot
from a2a.stores.looking import LookingStore
from a2a.stores.reader import LedgerReader
from a2a.stores.sqlite import SqliteStore

TASK = ArchivedTask("main-1", "s", "k", "completed", 5, b"body", 1, "echo", None, "c")
CONFLICT = ArchivedConflict("main-k2", 2, "result", "task:main-1", ("main-1",), b"body")
CONTEXT = ArchivedContext("plans", 3, b"body")


@pytest.fixture
async def path(tmp_path: Path, append: Any, make_entries: Any) -> Path:
    path = tmp_path / "ledger.db"
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(1, 3), 0, [TASK, CONFLICT, CONTEXT])
    await store.save_snapshot(Snapshot(2, b"state"))
    await store.aclose()
    return path


async def test_it_reads_the_file_and_forgets_what_is_written(path, append, make_entries):
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        store = LookingStore(reader)
        assert await store.open() == 3
        assert (store.durability, store.path) == ("memory", None)
        await append(store, make_entries(4), 3, [ArchivedTask("main-2", "s", "k2", "failed", 6, b"x", 2)])
        await store.save_snapshot(Snapshot(4, b"other"))
        assert list(store.read(1)) == make_entries(2, 2)
        assert await store.load_snapshot() == Snapshot(2, b"state")
        assert await store.find_archived(task="main-1") == TASK
        assert await store.find_archived(key=("s", "k")) == TASK
        assert await store.find_archived(task="main-2") is None
        assert await store.list_archived(skill="echo") == [TASK]
        assert await store.list_archived(before=1) == []
        assert await store.list_ended() == ([TASK], 1)
        assert await store.list_ended(behind=(TASK.settled_at, TASK.lsn)) == ([], 1)
        assert await store.find_conflict("main-k2") == CONFLICT
        assert await store.list_conflicts(task="main-1") == await store.list_conflicts() == [CONFLICT]
        assert await store.list_conflicts(before=2) == []
        assert await store.find_context("plans") == CONTEXT
        assert await store.find_context("main-1") is None
        assert await store.prune(99, 9) == 0
        await store.aclose()
    assert path.read_bytes() == before
