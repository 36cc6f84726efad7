"""What the store in an SQLite file makes of its parts: lock, file, writer and blobs, opened and closed together."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from a2a.engine.archived import ArchivedTask
from a2a.errors import StoreCorrupt, StoreError, StoreLocked
from a2a.stores import blobs, database, rows, sqlite
from a2a.stores.base import Snapshot
from a2a.stores.reader import LedgerReader
from a2a.stores.rows import LARGE_BYTES
from a2a.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    yield store
    await store.aclose()


def contents(directory: Path) -> dict[str, bytes]:
    """Everything in a directory but the lock and SQLite's scratch memory."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.suffix not in (".lock", ".db-shm") and file.stat().st_size
    }


@pytest.fixture
async def reported() -> list[dict[str, object]]:
    """What was reported to the event loop because nobody else could be told."""
    contexts: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    return contexts


async def join_threads_of(path: Path) -> None:
    async with asyncio.timeout(20):
        for thread in threading.enumerate():
            if thread.name == f"ledger {path.name}":
                await asyncio.to_thread(thread.join, 10)


LARGE = b"large" * LARGE_BYTES


def blobs_in(path: Path) -> Iterator[Path]:
    return (file for file in Path(f"{path}.blobs").rglob("*") if file.is_file())


# --- the lock

HOLDER = """
import asyncio, sys
from a2a.stores.base import Entry
from a2a.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    told = asyncio.get_running_loop().create_future()
    store.append([Entry(1, "Reported", "t1", 5, b"from the holder", None)], 0, told.set_result)
    assert await told is None
    print("durable", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_ledger_held_by_another_process_is_refused_until_that_is_killed(path):
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdout=asyncio.subprocess.PIPE
    )
    store = SqliteStore(path)
    try:
        async with asyncio.timeout(30):
            assert await holder.stdout.readline() == b"durable\n"
        with pytest.raises(StoreLocked) as refused:
            await store.open()
        assert str(path) in str(refused.value)
        assert f"another process (pid {holder.pid})" in str(refused.value)
    finally:
        holder.kill()
        await holder.communicate()

    # The lock went with the process, what it had been told as durable did not.
    assert await store.open() == 1
    assert [entry.body for entry in store.read()] == [b"from the holder"]
    await store.aclose()


async def test_a_link_to_a_ledger_has_the_same_lock(store, path, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(StoreLocked, match="this process"):
        await SqliteStore(link).open()


async def test_a_file_that_is_refused_is_left_as_it_is_and_is_not_locked(path):
    path.write_text("not a database")
    before = contents(path.parent)
    store = SqliteStore(path)
    with pytest.raises(StoreCorrupt, match=f"{path}: .* not an SQLite database"):
        await store.open()
    assert contents(path.parent) == before
    path.unlink()
    assert await store.open() == 0
    await store.aclose()


async def test_an_open_that_was_cancelled_does_not_keep_the_lock(path, reported):
    opening = asyncio.create_task(SqliteStore(path).open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    store = SqliteStore(path)
    assert await store.open() == 0
    await store.aclose()
    assert reported == []


async def test_why_an_open_that_was_cancelled_would_have_failed_is_reported_to_nobody(path, reported):
    path.write_text("not a database")
    opening = asyncio.create_task(SqliteStore(path).open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    del opening
    gc.collect()
    assert reported == []


async def test_an_open_that_was_cancelled_waits_for_a_slow_disk_only_so_long(path, monkeypatch):
    monkeypatch.setattr(sqlite, "_RELEASED_WITHIN", 0.01)
    is_there = threading.Event()
    waited: list[bool] = []
    monkeypatch.setattr(sqlite, "create", lambda path: waited.append(is_there.wait(4)))
    opening = asyncio.create_task(SqliteStore(path).open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    is_there.set()
    await join_threads_of(path)
    assert waited == [True]


async def test_an_aclose_that_was_cancelled_releases_the_ledger_all_the_same(path, make_entries):
    store = SqliteStore(path)
    await store.open()
    store.append(make_entries(1), 0, lambda error: None)
    closing_task = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    closing_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing_task
    await store.aclose()
    assert await store.open() == 1
    await store.aclose()


async def test_an_open_that_cannot_go_on_says_so_in_words_of_a_store(path, monkeypatch):
    def fail(path: Path) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite, "create", fail)
    with pytest.raises(StoreError, match=f"{path}: the ledger cannot be opened: disk I/O error"):
        await SqliteStore(path).open()


async def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"nowhere/ledger\.db: the ledger cannot be opened: .*No such file"):
        await SqliteStore(tmp_path / "nowhere" / "ledger.db").open()


# --- while it runs


async def test_it_promises_stable_storage(path):
    assert SqliteStore(path).durability == "fsync"


async def test_a_snapshot_that_is_too_large_for_the_file_is_refused_and_nothing_else(
    store, append, make_entries, monkeypatch
):
    monkeypatch.setattr("a2a.stores.sqlite._SNAPSHOT_MAX_BYTES", 4)
    await append(store, make_entries(1), 0)
    await store.save_snapshot(Snapshot(1, b"1234"))
    with pytest.raises(StoreError, match="the snapshot of record 1 has 5 bytes, but the file takes 4"):
        await store.save_snapshot(Snapshot(1, b"12345"))
    assert await store.load_snapshot() == Snapshot(1, b"1234")
    await append(store, make_entries(2), 1)


async def test_it_counts_the_groups_committed_since_it_was_opened(path, append, make_entries):
    store = SqliteStore(path)
    for lsn in (1, 2):
        await store.open()
        assert store.commits == 0
        await append(store, make_entries(lsn), lsn - 1)
        assert store.commits == 1
        await store.aclose()
    with pytest.raises(StoreError, match="not open"):
        store.commits  # noqa: B018


async def test_a_write_whose_caller_gave_up_is_done_all_the_same(store, path, reported, append, make_entries):
    await append(store, make_entries(1), 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(store.save_snapshot(Snapshot(1, b"state")))
        await asyncio.sleep(0)
        saving.cancel()
        outsider.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await saving
    await append(store, make_entries(2), 1)  # behind it in the queue
    assert await store.load_snapshot() == Snapshot(1, b"state")
    assert reported == []


async def test_a_read_that_outlives_the_ledger_says_so(path, append, make_entries):
    store = SqliteStore(path)
    await store.open()
    for lsn in range(1, 41):  # a row each, and so several pages
        await append(store, make_entries(lsn), lsn - 1)
    reading = store.read()
    next(reading)
    await store.aclose()
    with pytest.raises(StoreError, match="not open"):
        list(reading)


async def test_a_read_under_way_when_the_ledger_closes_leaves_no_connection_open(
    path, monkeypatch, append, make_entries
):
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(1), 0)
    reading, closed = threading.Event(), threading.Event()
    used: list[sqlite3.Connection] = []

    def slow(connection: sqlite3.Connection, name: str, parameters: database.Parameters) -> list:
        used.append(connection)
        reading.set()
        assert closed.wait(20)
        return database.run(connection, name, parameters)

    monkeypatch.setattr(sqlite, "run", slow)
    entries = asyncio.create_task(asyncio.to_thread(list, store.read()))
    assert await asyncio.to_thread(reading.wait, 20)
    await store.aclose()
    closed.set()
    assert await entries == make_entries(1)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used[0].execute("SELECT 1")


async def test_a_disk_that_fails_is_an_error_of_the_store_and_disturbs_nobody_else(
    store, monkeypatch, append, make_entries
):
    def fail(*call: object) -> list:
        raise sqlite3.OperationalError("disk I/O error")

    await append(store, make_entries(1), 0)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "run", fail)
        with pytest.raises(StoreError, match="could not read after entry 0: disk I/O error"):
            list(store.read())
        with pytest.raises(StoreError, match=f"{store.path}: disk I/O error"):
            await store.load_snapshot()
    await append(store, make_entries(2), 1)
    assert list(store.read()) == make_entries(1, 2)


async def test_a_payload_the_disk_has_no_room_for_fails_its_batch_and_is_named_by_none(
    store, path, monkeypatch, append, make_entries
):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await append(store, make_entries(1), 0)
    with monkeypatch.context() as patch:
        patch.setattr(blobs, "sync", full)
        with pytest.raises(StoreError, match=f"{store.path}: could not write after entry 1: .*No space left"):
            await append(store, make_entries(2, payload=LARGE), 1)
    assert list(store.read()) == make_entries(1)
    assert list(blobs_in(path)) == []


async def test_entries_and_what_is_archived_with_them_are_there_together_or_not_at_all(
    store, path, append, make_entries
):
    await append(store, make_entries(1), 0)
    unwritable = ArchivedTask("t1", "s", "k", "completed", 2**64, b"body", 1)  # beyond what a column holds
    with pytest.raises(StoreError, match=f"{path}: could not write after entry 1"):
        await append(store, make_entries(2), 1, [unwritable])
    assert list(store.read()) == make_entries(1)
    await store.aclose()
    assert await store.open() == 1


# --- large payloads


async def test_what_is_large_is_a_file_that_the_log_and_the_archive_share(store, path, append, make_entries):
    task = ArchivedTask("t1", "s", "k", "completed", 5, b"body", 1, beside=(LARGE,))
    await append(store, make_entries(1, 2, payload=LARGE), 0)
    await append(store, make_entries(3), 2, [task])
    assert [file.stat().st_size for file in blobs_in(path)] == [len(LARGE)]
    assert path.stat().st_size + Path(f"{path}-wal").stat().st_size < 2 * len(LARGE)
    assert await store.find_archived(task="t1") == task


async def test_what_is_large_is_known_by_a_name(store, path, append, make_entries):
    await append(store, make_entries(1, payload=LARGE), 0)
    name = store.blob_of(LARGE)
    assert store.blob(name) == LARGE
    assert store.blob_of(LARGE + b"x") is None
    with LedgerReader(path) as reader:
        assert reader.blob_of(LARGE) == name
        assert reader.blob(name) == LARGE
        assert reader.blob_of(LARGE + b"x") is None


async def test_what_is_large_is_durable_before_a_row_names_it(store, path, monkeypatch, append, make_entries):
    events: list[str] = []
    monkeypatch.setattr(blobs, "sync_directory", lambda folder: events.append("the blob"))
    connection = store._require_open().writer._connection
    connection.set_trace_callback(lambda statement: events.append("the row"))
    await append(store, make_entries(1, payload=LARGE), 0)
    assert events == ["the blob", "the row"]


async def test_a_ledger_without_one_of_its_payloads_is_refused(path, append, make_entries):
    store = SqliteStore(path)
    await store.open()
    await append(store, [*make_entries(1, payload=LARGE), *make_entries(2, payload=LARGE + b"x")], 0)
    await store.aclose()
    [kept, *_] = files = list(blobs_in(path))
    assert len(files) == 2
    away = kept.rename(path.parent / "away")
    before = contents(path.parent)
    with pytest.raises(StoreCorrupt, match=f"{kept}: a large payload of this ledger is missing"):
        await store.open()
    assert contents(path.parent) == before
    away.rename(kept)
    assert await store.open() == 2
    kept.write_bytes(b"something else")
    with pytest.raises(StoreCorrupt, match=f"{kept}: a large payload of this ledger is damaged"):
        list(store.read())
    await store.aclose()


async def test_a_payload_whose_row_was_lost_is_in_nobodys_way(path, append, make_entries, tmp_path):
    store = SqliteStore(path)
    await store.open()
    await store.aclose()
    older = shutil.copy(path, tmp_path / "older")
    await store.open()
    await append(store, make_entries(1, payload=LARGE), 0)
    await store.aclose()
    shutil.copy(older, path)
    assert await store.open() == 0
    await append(store, make_entries(1, payload=LARGE), 0)
    assert list(store.read()) == make_entries(1, payload=LARGE)
    assert len(list(blobs_in(path))) == 1
    await store.aclose()


# --- after a crash


async def test_a_torn_end_of_the_write_ahead_log_loses_the_torn_batch_only(store, path, tmp_path, append, make_entries):
    await append(store, make_entries(1, 2), 0)
    await append(store, make_entries(3, 2), 2)
    torn = tmp_path / "torn"
    torn.mkdir()
    shutil.copy(path, torn / "ledger.db")
    shutil.copy(f"{path}-wal", torn / "ledger.db-wal")
    os.truncate(torn / "ledger.db-wal", (torn / "ledger.db-wal").stat().st_size - 1)
    after = SqliteStore(torn / "ledger.db")
    assert await after.open() == 2
    assert list(after.read()) == make_entries(1, 2)
    await append(after, make_entries(3), 2)
    await after.aclose()


# --- files


async def test_all_files_are_for_their_owner_only(store, path, append, make_entries):
    await append(store, make_entries(1, payload=LARGE), 0)
    assert len(list(blobs_in(path))) == 1
    assert (path.parent / "ledger.db-wal").exists()
    for file in path.parent.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


# --- the keys of archived tasks


async def test_a_key_is_found_while_those_of_older_parts_are_put_in_order(path, append, monkeypatch):
    monkeypatch.setattr(rows, "PART_RECORDS", 100)
    chance = random.Random(7)
    # Created in this order, and archived more or less in it; every tenth lasts for long.
    tasks = [ArchivedTask(f"t{lsn}", "s", f"k{chance.random()}", "completed", 5, b"", lsn) for lsn in range(1, 1_001)]
    tasks.sort(key=lambda task: task.lsn + chance.randrange(40) + 500 * (task.lsn % 10 == 0))
    store = SqliteStore(path)
    await store.open()
    for first in range(0, len(tasks), 5):
        await append(store, [], 0, tasks[first : first + 5])
        known = chance.sample(tasks[: first + 5], 5)
        assert [await store.find_archived(key=(task.scope, task.key)) for task in known] == known
    await store.aclose()
    with closing(database.connect_reader(path)) as connection:
        parts = dict(connection.execute("SELECT part, count(*) FROM keys GROUP BY part"))
    assert sum(parts.values()) == len(tasks)
    assert sum(count for part, count in parts.items() if part) <= 250, "what is not in order yet does not grow"
    with LedgerReader(path) as reader:
        assert [reader.find_archived(key=(task.scope, task.key)) for task in tasks] == tasks


async def test_keys_of_the_newest_part_stay_in_it_and_those_of_older_ones_leave_in_their_order(path, append):
    def keep(*lsns: int) -> list[ArchivedTask]:
        return [ArchivedTask(f"t{lsn}", "s", f"k{lsn}", "completed", 5, b"", lsn) for lsn in lsns]

    def kept() -> list[tuple[int, int]]:
        with closing(database.connect_reader(path)) as connection:
            return connection.execute("SELECT part, hash FROM keys ORDER BY part, hash").fetchall()

    store = SqliteStore(path)
    await store.open()
    await append(store, [], 0, keep(1, 2, 3, 4, 5))
    early = sorted(rows.hash_of_key("s", f"k{lsn}") for lsn in (1, 2, 3, 4, 5))
    assert kept() == [(1, hashed) for hashed in early]
    late = [rows.hash_of_key("s", f"k{rows.PART_RECORDS * 2 + n}") for n in range(2)]
    await append(store, [], 0, keep(rows.PART_RECORDS * 2))
    assert kept() == [*((0, hashed) for hashed in early[:2]), *((1, hashed) for hashed in early[2:]), (3, late[0])]
    await append(store, [], 0, keep(rows.PART_RECORDS * 2 + 1))
    assert kept() == [
        *((0, hashed) for hashed in early[:4]), (1, early[4]), *((3, hashed) for hashed in sorted(late))
    ]  # fmt: skip
    await store.aclose()


async def test_keys_with_one_hash_are_told_apart(path, append, monkeypatch):
    monkeypatch.setattr(rows, "hash_of_key", lambda scope, key: 7)
    tasks = [ArchivedTask(f"t{lsn}", "s", f"k{lsn}", "completed", 5, b"", lsn) for lsn in (1, 2)]
    store = SqliteStore(path)
    await store.open()
    await append(store, [], 0, tasks)
    assert [await store.find_archived(key=("s", key)) for key in ("k1", "k2", "k3")] == [*tasks, None]
    assert await store.find_archived(key=("r", "k1")) is None
    await store.aclose()
