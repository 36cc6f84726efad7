"""A ledger's file, looked at by somebody else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from a2a.engine.archived import ArchivedTask
from a2a.errors import StoreCorrupt, StoreError, StoreTooNew, StoreTooOld
from a2a.stores.base import Snapshot
from a2a.stores.reader import LedgerReader
from a2a.stores.rows import LARGE_BYTES
from a2a.stores.sqlite import SqliteStore

TASK = ArchivedTask("main-1", "s", "k", "completed", 5, b"body", 1, "echo", None, "c")
ANY = {"before": 99, "limit": 9, "state": None, "skill": None, "parent": None, "context_id": None, "dead_letter": False}


@pytest.fixture
async def path(tmp_path: Path, append: Any, make_entries: Any) -> Path:
    path = tmp_path / "ledger.db"
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(1, 2_500, task="main-1"), 0, [TASK])
    await store.save_snapshot(Snapshot(2, b"state"))
    await store.aclose()
    return path


async def test_it_reads_all_there_is(path, make_entries):
    with LedgerReader(path) as reader:
        assert reader.end == 2_500
        assert list(reader.entries()) == make_entries(1, 2_500, task="main-1")
        assert [entry.lsn for entry in reader.entries(2_498)] == [2_499, 2_500]
        assert reader.namespace() == "main"
        assert reader.snapshot() == Snapshot(2, b"state")
        assert reader.find_archived(task="main-1") == reader.find_archived(key=("s", "k")) == TASK
        assert reader.list_archived(ANY) == [TASK]


async def test_it_reads_while_a_coordinator_writes_and_stays_where_it_was(path, append, make_entries):
    store = SqliteStore(path)
    await store.open()
    with LedgerReader(path) as reader:
        await append(store, make_entries(2_501), 2_500)
        assert sum(1 for _ in reader.entries()) == 2_500
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("DELETE FROM log")
    await store.aclose()


async def test_inside_of_still_everything_stays_as_it_was(path, append, make_entries):
    store = SqliteStore(path)
    await store.open()
    later = TASK._replace(task="main-2", key="k2", lsn=2)
    with LedgerReader(path) as reader:
        await append(store, make_entries(2_501), 2_500)
        with reader.still():
            assert reader.end == 2_501
            await append(store, make_entries(2_502), 2_501, [later])
            await store.save_snapshot(Snapshot(3, b"later"))
            assert [entry.lsn for entry in reader.entries(2_499)] == [2_500, 2_501]
            assert reader.list_archived(ANY) == [TASK]
            assert reader.snapshot() == Snapshot(2, b"state")
        assert reader.list_archived(ANY) == [later, TASK]
        with reader.still():
            assert reader.end == 2_502
    await store.aclose()


async def test_it_makes_no_file_beside_a_ledger_where_it_can_make_none(path, make_entries, monkeypatch):
    files = sorted(path.parent.iterdir())
    monkeypatch.setattr("os.access", lambda place, mode: False)  # a medium that cannot be written
    with LedgerReader(path) as reader:
        assert list(reader.entries()) == make_entries(1, 2_500, task="main-1")
        assert sorted(path.parent.iterdir()) == files


async def test_what_is_not_put_away_yet_is_read_with_its_log(path, append, make_entries, monkeypatch):
    monkeypatch.setattr("os.access", lambda place, mode: False)  # somebody else's, who has it open
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(2_501), 2_500)
    with LedgerReader(path) as reader:
        assert [entry.lsn for entry in reader.entries(2_499)] == [2_500, 2_501]
    await store.aclose()


async def test_it_reads_what_is_large_and_says_where_that_is_missing(path, append, make_entries):
    store = SqliteStore(path)
    await store.open()
    large = b"x" * LARGE_BYTES
    task = TASK._replace(beside=(large,))
    await append(store, make_entries(2_501, payload=large), 2_500, [task])
    await store.aclose()
    with LedgerReader(path) as reader:
        assert list(reader.entries(2_500)) == make_entries(2_501, payload=large)
        assert reader.find_archived(task="main-1") == task
        assert reader.list_archived(ANY) == [task]
    [blob] = (file for file in Path(f"{path}.blobs").rglob("*") if file.is_file())
    blob.unlink()
    with LedgerReader(path) as reader:
        with pytest.raises(StoreCorrupt, match=f"{blob}: a large payload of this ledger is missing"):
            list(reader.entries(2_500))
        with pytest.raises(StoreCorrupt, match="is missing"):
            reader.list_archived(ANY)


async def test_an_empty_ledger_has_nothing(tmp_path):
    store = SqliteStore(tmp_path / "new.db")
    await store.open()
    await store.aclose()
    with LedgerReader(tmp_path / "new.db") as reader:
        assert (reader.end, list(reader.entries()), reader.snapshot(), reader.namespace()) == (0, [], None, "main")
        assert reader.find_archived(task="main-1") is None


def test_no_file_is_no_ledger(tmp_path):
    with pytest.raises(StoreError, match="there is no ledger"):
        LedgerReader(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


async def test_links_in_a_circle_are_no_ledger(tmp_path):
    path = tmp_path / "loop.db"
    path.symlink_to(path)
    with pytest.raises(StoreError, match=f"^{path}: Too many levels of symbolic links"):
        LedgerReader(path)
    with pytest.raises(StoreError, match=f"^{path}: Too many levels of symbolic links"):
        await SqliteStore(path).open()


@pytest.mark.parametrize(
    ("version", "kind", "reason"), [(99, StoreTooNew, "run that one again"), (1, StoreTooOld, "older version")]
)
async def test_a_file_of_another_version_says_so(path, version, kind, reason):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(kind, match=reason):
        LedgerReader(path)


async def test_a_log_whose_end_was_changed_on_the_disk_says_so(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE log SET last = x'ff'")
        connection.commit()
    with pytest.raises(StoreCorrupt, match=r"the log ends at b'\\xff', which is not a position"):
        LedgerReader(path)


def test_a_file_of_something_else_is_not_read(tmp_path):
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(StoreError, match="cannot be read"):
        LedgerReader(tmp_path / "text.db")


def test_an_empty_file_is_no_ledger(tmp_path):
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="expected a ledger, this is not one"):
        LedgerReader(tmp_path / "empty.db")
