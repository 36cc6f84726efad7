"""What is special about the store in an SQLite file: lock, durability, damage, schema versions, group commit, files."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from a2a.errors import StoreConflict, StoreCorrupt, StoreError, StoreLocked, StoreTooNew
from a2a.stores import blobs, database, files, sqlite
from a2a.stores.base import ArchivedTask, Snapshot
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


def edit(path: Path, script: str) -> None:
    """Change a ledger that is closed behind the back of the store."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


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


async def fill(path: Path, entries: list) -> None:
    store = SqliteStore(path)
    await store.open()
    store.append(entries, 0, lambda error: None)
    await store.aclose()


async def join_threads_of(path: Path) -> None:
    async with asyncio.timeout(20):
        for thread in threading.enumerate():
            if thread.name == f"ledger {path.name}":
                await asyncio.to_thread(thread.join)


def beside(path: Path, suffix: str) -> Path:
    return Path(f"{path}{suffix}")


def blob_file(path: Path, name: str) -> Path:
    return Path(f"{path}.blobs", name[:2], name)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def files_in(directory: Path) -> list[Path]:
    return [file for file in directory.rglob("*") if file.is_file()]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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


async def test_the_lock_file_is_never_deleted_and_names_nobody_after_the_end(path):
    store = SqliteStore(path)
    await store.open()
    lock = beside(path, ".lock")
    inode = lock.stat().st_ino
    assert lock.read_text() == f"{os.getpid()}\n"
    await store.aclose()
    assert lock.stat().st_ino == inode
    assert lock.read_text() == ""


async def test_a_link_to_a_ledger_has_the_same_lock(store, path, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(StoreLocked, match="this process"):
        await SqliteStore(link).open()


async def test_a_holder_that_did_not_write_its_number_is_not_guessed(store, path):
    beside(path, ".lock").write_text("")
    with pytest.raises(StoreLocked, match="another process has this ledger open"):
        await SqliteStore(path).open()


async def test_a_lock_file_that_is_a_link_is_not_written_through(path, tmp_path):
    other = tmp_path / "precious"
    other.write_text("mine")
    beside(path, ".lock").symlink_to(other)
    with pytest.raises(StoreError, match="cannot be opened"):
        await SqliteStore(path).open()
    assert other.read_text() == "mine"


async def test_an_open_that_failed_does_not_keep_the_lock(path):
    path.write_text("not a database")
    store = SqliteStore(path)
    with pytest.raises(StoreCorrupt):
        await store.open()
    path.unlink()
    assert await store.open() == 0
    await store.aclose()


async def test_an_open_that_is_refused_leaves_no_file_open(store, path):
    before = open_files()
    with pytest.raises(StoreLocked):
        await SqliteStore(path).open()
    assert open_files() == before


async def test_an_open_that_was_cancelled_does_not_keep_the_lock(path, reported):
    opening = asyncio.create_task(SqliteStore(path).open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await join_threads_of(path)
    store = SqliteStore(path)
    assert await store.open() == 0
    await store.aclose()
    assert reported == []


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


async def test_a_ledger_whose_event_loop_is_gone_is_written_and_released(path, make_entries):
    told: list[BaseException | None] = []

    async def leave_a_batch_behind() -> None:
        store = SqliteStore(path)
        await store.open()
        store.append(make_entries(1), 0, told.append)

    await fill(path, [])
    with closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")  # the writer waits for this one, and outlives the loop
        await asyncio.to_thread(lambda: asyncio.run(leave_a_batch_behind()))
        outsider.execute("ROLLBACK")
    await join_threads_of(path)
    assert told == []

    store = SqliteStore(path)
    assert await store.open() == 1
    await store.aclose()


# --- durability and groups


async def test_it_promises_stable_storage_and_asks_sqlite_for_it(path):
    assert SqliteStore(path).durability == "fsync"
    database.create(path)
    with closing(database.connect_writer(path)) as connection:
        settings = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "fullfsync")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1}


async def test_batches_that_wait_for_a_commit_are_committed_together(store, path, make_entries, append):
    with closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        # Holds the write lock, as a slow sync would hold up the writer.
        outsider.execute("BEGIN IMMEDIATE")
        for lsn in range(1, 1000):
            store.append(make_entries(lsn), lsn - 1, lambda error: None)
        last = asyncio.create_task(append(store, make_entries(1000), 999))
        archived = asyncio.create_task(store.archive([ArchivedTask("t1", "a", "k", "completed", 1, b"")]))
        await asyncio.sleep(0)
        outsider.execute("ROLLBACK")
        await last
        await archived
    # One group for what the thread found when it woke, one for all that came while it waited.
    assert store.commits <= 2
    assert len(list(store.read())) == 1000


async def test_a_batch_with_nothing_in_it_costs_no_commit(store, append):
    await append(store, [], 0)
    await store.archive([])
    assert store.commits == 0


async def test_a_task_is_read_by_its_index(path):
    database.create(path)
    with closing(database.connect_reader(path)) as connection:
        for name, index in (
            ("read_task_entries", "log_by_task"),
            ("find_archived_by_key", "archive_by_key"),
            ("list_archived", "archive_by_time"),
            ("list_archived_before", "archive_by_time"),
        ):
            statement = f"EXPLAIN QUERY PLAN {database.QUERIES[name].split(chr(10), 1)[1]}"
            holes = (
                dict.fromkeys(("task", "after", "upto", "limit"), 1)
                if ":task" in statement
                else (1,) * statement.count("?")
            )
            plan = " ".join(row[3] for row in connection.execute(statement, holes))
            assert f"INDEX {index}" in plan, plan
            assert "TEMP B-TREE" not in plan, plan


# --- failures while it runs


async def test_a_full_disk_fails_the_group_and_everything_behind_it(path, monkeypatch, append, make_entries):
    limited = database.QUERIES["configure_writer"] + "PRAGMA max_page_count = 20;"
    monkeypatch.setitem(database.QUERIES, "configure_writer", limited)
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(1), 0)
    with pytest.raises(StoreError, match=r"could not write behind entry 1: .*full") as full:
        await append(store, make_entries(2, payload=b"x" * 200_000), 1)
    assert not isinstance(full.value, StoreConflict)
    with pytest.raises(StoreError) as later:
        await append(store, make_entries(2), 1)
    assert later.value is full.value
    with pytest.raises(StoreError, match="full"):
        await store.save_snapshot(Snapshot(1, b""))
    assert list(store.read()) == make_entries(1)
    await store.aclose()

    monkeypatch.undo()
    assert await store.open() == 1
    await append(store, make_entries(2), 1)
    await store.aclose()


async def test_a_write_whose_caller_gave_up_is_done_all_the_same(store, path, reported):
    with closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        archiving = asyncio.create_task(store.archive([ArchivedTask("t1", "a", "k", "completed", 1, b"")]))
        await asyncio.sleep(0)
        archiving.cancel()
        outsider.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await archiving
    await store.save_snapshot(Snapshot(0, b""))  # behind it in the queue
    assert await store.find_archived(task="t1") is not None
    assert reported == []


async def test_an_entry_that_cannot_be_stored_fails_its_batch_and_not_the_thread(store, path, append, make_entries):
    with pytest.raises(StoreError, match="could not write behind entry 0"):
        await append(store, make_entries(1, task="\ud800"), 0)
    with pytest.raises(StoreError, match="could not write behind entry 0"):
        await append(store, make_entries(1), 0)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")  # nothing half-written holds the file


async def test_an_entry_somebody_else_wrote_is_a_conflict(store, path, append, make_entries):
    await append(store, make_entries(1), 0)
    edit(path, "INSERT INTO log VALUES (2, 'Reported', 't1', 5, x'00', NULL)")
    with pytest.raises(StoreConflict, match="somebody else wrote behind entry 1"):
        await append(store, make_entries(2), 1)


async def test_a_read_that_outlives_the_ledger_says_so(path, append, make_entries):
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(1, 300), 0)
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


# --- damage


async def refuse(path: Path, error: type[StoreError], match: str) -> None:
    """Expect that opening the ledger is refused, with a message that names it, and changes nothing."""
    before = contents(path.parent)
    with pytest.raises(error, match=match) as refused:
        await SqliteStore(path).open()
    assert type(refused.value) is error
    assert str(path) in str(refused.value)
    assert contents(path.parent) == before


@pytest.mark.parametrize("data", [b"", b"SQLite", b"just some text, longer than a header\n" * 99])
async def test_a_file_that_is_no_database_is_refused(path, data):
    path.write_bytes(data)
    await refuse(path, StoreCorrupt, "not an SQLite database")
    assert path.read_bytes() == data


async def test_a_file_that_only_starts_like_a_database_is_refused(path):
    path.write_bytes(b"SQLite format 3\x00" + b"and then something else\n" * 99)
    await refuse(path, StoreCorrupt, "damaged")


async def test_a_database_of_another_program_is_refused(path):
    edit(path, "CREATE TABLE cookies (name)")
    await refuse(path, StoreCorrupt, "another program's database")


async def test_a_damaged_page_is_found(path, make_entries):
    await fill(path, make_entries(1, 2000))
    with path.open("r+b") as file:
        file.seek(10 * 4096)
        file.write(b"\xff" * 4096)
    await refuse(path, StoreCorrupt, "damaged")


async def test_damage_that_no_statement_of_ours_would_meet_is_found(path, make_entries):
    await fill(path, make_entries(1))
    with path.open("r+b") as file:
        file.seek(36)  # the number of free pages
        file.write((5).to_bytes(4, "big"))
    await refuse(path, StoreCorrupt, r"damaged \(.*[Ff]reelist")


async def test_a_file_cut_short_is_found(path, make_entries):
    await fill(path, make_entries(1, 2000))
    os.truncate(path, path.stat().st_size // 2)
    await refuse(path, StoreCorrupt, "damaged")


async def test_damage_is_found_before_the_write_ahead_log_of_a_killed_process_is_touched(
    store, path, tmp_path, append, make_entries
):
    await append(store, make_entries(1, 100), 0)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    shutil.copy(f"{path}-wal", crashed / "ledger.db-wal")
    (crashed / "ledger.db").write_bytes(path.read_bytes().replace(b"a2aL", b"a2aX"))
    await refuse(crashed / "ledger.db", StoreCorrupt, "another program's database")
    assert (crashed / "ledger.db-wal").stat().st_size


async def test_an_entry_that_is_missing_is_found(path, make_entries):
    await fill(path, make_entries(1, 3))
    edit(path, "DELETE FROM log WHERE lsn = 2")
    await refuse(path, StoreCorrupt, "ends at entry 3 and has only 2 entries")


async def test_a_table_that_is_missing_is_found(path, make_entries):
    await fill(path, make_entries(1))
    edit(path, "DROP TABLE log")
    await refuse(path, StoreCorrupt, "no such table")


async def test_a_write_ahead_log_without_its_database_is_not_played_into_a_new_one(
    store, path, tmp_path, append, make_entries
):
    await append(store, make_entries(1), 0)
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    shutil.copy(f"{path}-wal", lonely / "ledger.db-wal")
    await refuse(lonely / "ledger.db", StoreCorrupt, "the ledger is missing")


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


async def test_a_creation_that_was_killed_is_begun_again(path):
    for suffix in (".new", ".new-journal", ".new-wal", ".new-shm"):
        beside(path, suffix).write_bytes(b"half a file")
    store = SqliteStore(path)
    assert await store.open() == 0
    await store.aclose()
    assert {file.name for file in path.parent.iterdir()} == {"ledger.db", "ledger.db.lock", "ledger.db.blobs"}


async def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"nowhere/ledger\.db: the ledger cannot be opened: .*No such file"):
        await SqliteStore(tmp_path / "nowhere" / "ledger.db").open()


# --- schema versions


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


async def test_an_older_ledger_is_migrated_and_a_newer_one_refused(path, monkeypatch, append, make_entries):
    today = list(database.MIGRATIONS)
    await fill(path, make_entries(1, 3))
    assert version_of(path) == len(today)

    newer = [*today, "ALTER TABLE log ADD COLUMN mood TEXT;", "CREATE TABLE extra (name TEXT); -- a comment at the end"]
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    store = SqliteStore(path)
    assert await store.open() == 3
    assert list(store.read()) == make_entries(1, 3)
    await append(store, make_entries(4), 3)
    await store.aclose()
    assert version_of(path) == len(today) + 2

    monkeypatch.setattr(database, "MIGRATIONS", today)
    await refuse(path, StoreTooNew, f"schema {len(today) + 2}; this version knows those up to {len(today)}")


async def test_a_migration_that_fails_leaves_the_ledger_as_it_was(path, monkeypatch, make_entries):
    today = list(database.MIGRATIONS)
    await fill(path, make_entries(1, 3))
    monkeypatch.setattr(database, "MIGRATIONS", [*today, "CREATE TABLE extra (name TEXT); DROP TABLE nonsense;"])
    store = SqliteStore(path)
    with pytest.raises(StoreError, match=f"migration {len(today) + 1} failed"):
        await store.open()
    monkeypatch.setattr(database, "MIGRATIONS", today)
    assert version_of(path) == len(today)
    assert await store.open() == 3
    await store.aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)


def test_every_statement_says_what_it_does():
    assert database.QUERIES
    for name, statement in database.QUERIES.items():
        description, _, sql = statement.partition("\n")
        assert description.startswith("-- "), name
        assert sqlite3.complete_statement(sql), name


# --- files


async def test_all_files_are_for_their_owner_only(store, path, append, make_entries):
    await append(store, make_entries(1), 0)
    await store.put_blob(digest(b"data"), b"data")
    assert (path.parent / "ledger.db-wal").exists()
    for file in path.parent.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


async def test_a_new_ledger_is_synced_before_it_has_its_name_and_its_directory_after(path, monkeypatch):
    events: list[tuple[str, bool]] = []
    for call in ("sync", "sync_directory"):
        monkeypatch.setattr(database, call, lambda target, call=call: events.append((call, path.exists())))
    database.create(path)
    assert events == [("sync", False), ("sync_directory", True)]


async def test_directories_are_durable_before_a_blob_is(path, monkeypatch):
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_directory", lambda directory: synced.append(directory.name))
    store = SqliteStore(path)
    await store.open()
    assert synced == [path.parent.name, "ledger.db.blobs"]
    name = digest(b"data")
    await store.put_blob(name, b"data")
    await store.put_blob(name, b"data")
    assert synced[2:] == ["ledger.db.blobs"]
    await store.aclose()


async def test_a_blob_is_a_file_under_the_start_of_its_digest(store, path):
    await store.put_blob(digest(b"data"), b"data")
    name = digest(b"data")
    assert blob_file(path, name).read_bytes() == b"data"


async def test_a_blob_is_synced_before_it_has_its_name_and_its_directory_after(store, path, monkeypatch):
    name = digest(b"data")
    blob = blob_file(path, name)
    events: list[tuple[str, str, bool]] = []

    def note(call: str, real: Callable) -> Callable:
        def noted(target: int | Path) -> None:
            events.append((call, target.name if isinstance(target, Path) else "", blob.exists()))
            real(target)

        return noted

    monkeypatch.setattr(blobs, "sync", note("file", blobs.sync))
    monkeypatch.setattr(blobs, "sync_directory", note("directory", blobs.sync_directory))
    await store.put_blob(name, b"data")
    assert events == [("file", "", False), ("directory", name[:2], True)]
    events.clear()
    await store.put_blob(name, b"data")
    assert events == [("directory", name[:2], True)]


async def test_a_blob_the_disk_has_no_room_for_is_an_error_and_leaves_nothing(
    store, path, monkeypatch, append, make_entries
):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(blobs, "sync", full)
    with pytest.raises(StoreError, match="No space left"):
        await store.put_blob(digest(b"data"), b"data")
    assert files_in(beside(path, ".blobs")) == []
    assert await store.get_blob(digest(b"data")) is None
    await append(store, make_entries(1), 0)


async def test_a_blob_a_killed_writer_left_unfinished_is_removed(path):
    await fill(path, [])
    leftover = beside(path, ".blobs") / "tmp" / "half"
    leftover.write_bytes(b"ha")
    await fill(path, [])
    assert not leftover.exists()


async def test_a_damaged_blob_is_never_handed_out(store, path):
    name = digest(b"data")
    await store.put_blob(name, b"data")
    blob_file(path, name).write_bytes(b"date")
    with pytest.raises(StoreCorrupt, match="the blob is damaged"):
        await store.get_blob(name)
