"""The SQLite file of a ledger: how it comes to be, which damage is found, and how it is migrated."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from a2a.engine.archived import ArchivedTask
from a2a.errors import StoreCorrupt, StoreError, StoreTooNew
from a2a.stores import database
from a2a.stores.base import Entry
from a2a.stores.blobs import BlobDirectory
from a2a.stores.database import MIGRATIONS, QUERIES, check, connect_reader, connect_writer, create, run
from a2a.stores.rows import archived_from, entries_from, of_key
from tests.ledger_file import insert

PAGE_BYTES = 8_192


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def filled(path: Path, make_entries: Callable[..., list[Entry]]) -> Callable[[int], Path]:
    """Give a function that makes the ledger with so many entries and closes it."""

    def fill(count: int) -> Path:
        create(path)
        with closing(connect_writer(path)) as connection:
            append(connection, make_entries(1, count))
        return path

    return fill


def append(connection: sqlite3.Connection, entries: list[Entry]) -> None:
    run(connection, "begin")
    insert(connection, [[entry] for entry in entries], Path("unused"))
    run(connection, "commit")


def edit(path: Path, script: str) -> None:
    """Change a ledger that is closed behind our back."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def beside(path: Path, suffix: str) -> Path:
    return Path(f"{path}{suffix}")


def contents(directory: Path) -> dict[str, bytes]:
    """Everything in a directory but SQLite's scratch memory."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.suffix != ".db-shm" and file.stat().st_size
    }


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


# --- statements


def test_every_statement_says_what_it_does():
    assert QUERIES
    for name, statement in QUERIES.items():
        description, _, sql = statement.partition("\n")
        assert description.startswith("-- "), name
        assert sqlite3.complete_statement(sql), name


def test_a_task_is_read_by_its_index(path):
    create(path)
    with closing(connect_reader(path)) as connection:
        for name, index in (
            ("list_blobs", "log_by_blobs"),
            ("list_archived", "archive_by_lsn"),
            ("list_ended", "archive_by_time"),
            ("find_prunable", "archive_by_time"),
        ):
            statement = f"EXPLAIN QUERY PLAN {QUERIES[name].split(chr(10), 1)[1]}"
            holes = (
                dict.fromkeys(re.findall(r":(\w+)", statement), 1)
                if ":limit" in statement
                else (1,) * statement.count("?")
            )
            plan = " ".join(row[3] for row in connection.execute(statement, holes))
            assert f"INDEX {index}" in plan, plan
            # Those that settled in the same millisecond are put in order apart.
            assert "TEMP B-TREE" not in re.sub("TEMP B-TREE FOR (LAST TERM|RIGHT PART)", "", plan), plan


def test_a_task_is_found_by_the_hash_of_its_key_in_each_part(path):
    create(path)
    with closing(connect_reader(path)) as connection:
        statement = f"EXPLAIN QUERY PLAN {QUERIES['find_archived_by_key'].split(chr(10), 1)[1]}"
        plan = [row[3] for row in connection.execute(statement, of_key("desk", "k"))]
    looks = [step for step in plan if " keys" in step or " archive" in step]
    assert "keys USING PRIMARY KEY (part=? AND hash=?)" in " ".join(looks), plan
    assert all(look.startswith("SEARCH") for look in looks), plan


def test_a_page_of_the_log_begins_where_it_is_wanted(path):
    create(path)
    with closing(connect_reader(path)) as connection:
        statement = f"EXPLAIN QUERY PLAN {QUERIES['read_groups'].split(chr(10), 1)[1]}"
        plan = [row[3] for row in connection.execute(statement, {"after": 5, "upto": 9, "limit": 2})]
    looks = [step for step in plan if " log" in step]
    assert len(looks) == 2 and all("SEARCH" in look and "INTEGER PRIMARY KEY" in look for look in looks), plan


def test_a_statement_that_was_run_keeps_nothing_locked(filled):
    """Open, it would keep the write-ahead log from starting over."""
    path = filled(300)
    page = {"after": 0, "upto": 300, "limit": 300}
    with closing(connect_reader(path)) as reading, closing(connect_writer(path)) as writing:
        assert len(run(reading, "read_groups", page)) == 300
        [(is_busy, _, _)] = writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert not is_busy


# --- connections


def test_the_writer_asks_sqlite_for_stable_storage(path):
    create(path)
    with closing(connect_writer(path)) as connection:
        settings = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
        }
        assert settings == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1}
        assert not connection.in_transaction, "transactions begin where the code says so"
        connection.execute("INSERT INTO snapshot VALUES (1, 0, x'')")
        assert not connection.in_transaction


def wal_of(path: Path) -> tuple[int, int]:
    """Bytes of a page, and how many pages the write-ahead log has when it is checkpointed."""
    with closing(connect_writer(path)) as connection:
        [(page,)], [(pages,)] = (
            connection.execute(f"PRAGMA {name}").fetchall() for name in ("page_size", "wal_autocheckpoint")
        )
    return page, pages


def test_a_new_ledger_has_large_pages_and_one_that_is_there_keeps_its_own(path, monkeypatch):
    create(path)
    assert wal_of(path) == (PAGE_BYTES, 1000)
    older = path.with_name("older.db")
    monkeypatch.setitem(QUERIES, "set_page_size", "PRAGMA page_size = 4096;")
    create(older)
    assert wal_of(older) == (4096, 2000)


def test_a_reader_cannot_write(filled):
    with closing(connect_reader(filled(1))) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM log")
        assert connection.execute("PRAGMA query_only").fetchone() == (1,)


def test_a_reader_that_is_the_last_to_close_leaves_the_write_ahead_log_alone(filled, tmp_path, make_entries):
    path = filled(1)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(connect_writer(path)) as connection:
        append(connection, make_entries(2))
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{crashed / path.name}{suffix}")
    before = contents(crashed)
    with closing(connect_reader(crashed / path.name)) as reading:
        assert run(reading, "check_log") == [(2, 2)]
    assert contents(crashed) == before


def test_a_reader_may_be_used_from_any_thread(filled):
    found: list[object] = []
    with closing(connect_reader(filled(3))) as connection:
        thread = threading.Thread(target=lambda: found.extend(run(connection, "check_log")))
        thread.start()
        thread.join(20)
    assert found == [(3, 3)]


@pytest.mark.parametrize("name", ["led?ger#1.db", "100%41.db", "with space.db"])
def test_a_name_that_means_something_in_a_uri_is_only_a_name(tmp_path, name):
    path = tmp_path / name
    create(path)
    with closing(connect_writer(path)) as connection:
        append(connection, [Entry(1, "Reported", None, 1, b"")])
    assert check(path) == 1


# --- a new ledger


def test_a_new_ledger_is_empty_and_sound(path):
    assert create(path) == 0
    assert check(path) == 0
    assert version_of(path) == len(MIGRATIONS)


def test_a_new_ledger_is_one_file_for_its_owner_only(path):
    create(path)
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_ledger_is_synced_before_it_has_its_name_and_its_directory_after(path, monkeypatch):
    events: list[tuple[str, bool]] = []
    for call in ("sync", "sync_directory"):
        monkeypatch.setattr(database, call, lambda target, call=call: events.append((call, path.exists())))
    create(path)
    assert events == [("sync", False), ("sync_directory", True)]


def test_a_creation_that_was_killed_is_begun_again(path):
    for suffix in (".new", ".new-journal", ".new-wal", ".new-shm"):
        beside(path, suffix).write_bytes(b"half a file")
    assert create(path) == 0
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]
    assert check(path) == 0


def test_an_empty_write_ahead_log_without_its_database_is_no_loss(path):
    beside(path, "-wal").touch()
    assert create(path) == 0


def test_a_write_ahead_log_without_its_database_is_not_played_into_a_new_one(filled, tmp_path, make_entries):
    path, lonely = filled(1), tmp_path / "lonely"
    lonely.mkdir()
    with closing(connect_writer(path)) as connection:
        append(connection, make_entries(2))
        shutil.copy(f"{path}-wal", lonely / "ledger.db-wal")
    before = contents(lonely)
    with pytest.raises(StoreCorrupt, match=f"{lonely / 'ledger.db'}: the ledger is missing, but ledger.db-wal"):
        create(lonely / "ledger.db")
    assert contents(lonely) == before


# --- damage


def refused(path: Path, error: type[StoreError], match: str) -> None:
    """Expect that the file is refused with a message that names it, and that nothing is changed."""
    before = contents(path.parent)
    with pytest.raises(error, match=match) as caught:
        check(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert contents(path.parent) == before


@pytest.mark.parametrize("data", [b"", b"SQLite", b"just some text, longer than a header\n" * 99])
def test_a_file_that_is_no_database_is_refused(path, data):
    path.write_bytes(data)
    refused(path, StoreCorrupt, "not an SQLite database")


def test_what_is_no_file_is_refused_and_not_waited_for(path):
    os.mkfifo(path)
    other = os.open(path, os.O_RDWR)
    os.write(other, b"what is waited for, if anything is")
    with pytest.raises(StoreCorrupt, match="expected a ledger, this is not a file"):
        check(path)
    os.close(other)


def test_a_file_that_only_starts_like_a_database_is_refused(path):
    path.write_bytes(b"SQLite format 3\x00" + b"and then something else\n" * 99)
    refused(path, StoreCorrupt, "damaged")


def test_a_database_of_another_program_is_refused(path):
    edit(path, "CREATE TABLE cookies (name)")
    refused(path, StoreCorrupt, "another program's database")


def test_a_damaged_page_is_found(filled):
    path = filled(2000)
    with path.open("r+b") as file:
        file.seek(3 * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    refused(path, StoreCorrupt, "damaged")


def test_a_damaged_schema_whose_words_are_no_text_is_found(filled):
    path = filled(1)
    name, statement = b"archive_by_timearchive", b"CREATE INDEX archive_by_time"
    content = path.read_bytes()
    assert content.count(name) == content.count(statement) == 1
    # SQLite quotes the name where it says that the statement is none.
    path.write_bytes(content.replace(statement, b"X" + statement[1:]).replace(name, b"\xfc" + name[1:]))
    refused(path, StoreCorrupt, "damaged")


def test_damage_that_no_statement_of_ours_would_meet_is_found(filled):
    path = filled(1)
    with path.open("r+b") as file:
        file.seek(36)  # the number of free pages
        file.write((5).to_bytes(4, "big"))
    refused(path, StoreCorrupt, r"damaged \(.*[Ff]reelist")


def test_a_file_cut_short_is_found(filled):
    path = filled(2000)
    os.truncate(path, path.stat().st_size // 2)
    refused(path, StoreCorrupt, "damaged")


def test_damage_is_found_before_the_write_ahead_log_of_a_killed_process_is_touched(filled, tmp_path, make_entries):
    path, crashed = filled(1), tmp_path / "crashed"
    crashed.mkdir()
    with closing(connect_writer(path)) as connection:
        append(connection, make_entries(2, 100))
        shutil.copy(f"{path}-wal", crashed / "ledger.db-wal")
        (crashed / "ledger.db").write_bytes(path.read_bytes().replace(b"a2aL", b"a2aX"))
    refused(crashed / "ledger.db", StoreCorrupt, "another program's database")
    assert (crashed / "ledger.db-wal").stat().st_size


@pytest.mark.parametrize("lsn", [1, 2])
def test_an_entry_that_is_missing_is_found(filled, lsn):
    path = filled(3)
    edit(path, f"DELETE FROM log WHERE first = {lsn}")
    refused(path, StoreCorrupt, "ends at entry 3 and has only 2 entries")


def test_a_table_that_is_missing_is_found(filled):
    path = filled(1)
    edit(path, "DROP TABLE log")
    refused(path, StoreCorrupt, "has other tables")
    edit(path, "DROP TABLE snapshot; CREATE TABLE log (first INTEGER PRIMARY KEY)")
    refused(path, StoreCorrupt, "no such column")


def test_damage_that_sqlite_names_more_closely_is_damage(filled, monkeypatch):
    def fail(connection: sqlite3.Connection, path: Path) -> int:
        error = sqlite3.DatabaseError("row missing from index")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT_INDEX
        raise error

    monkeypatch.setattr(database, "_check", fail)
    refused(filled(1), StoreCorrupt, r"damaged \(row missing from index\)")


def test_trouble_with_the_machine_is_not_taken_for_damage(filled, monkeypatch):
    path = filled(1)
    monkeypatch.setitem(QUERIES, "configure_reader", "PRAGMA busy_timeout = 0;")
    with closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("PRAGMA locking_mode = EXCLUSIVE")
        outsider.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            check(path)
    assert check(path) == 1


def test_a_ledger_that_is_not_there_is_not_made_by_looking(path):
    with pytest.raises(FileNotFoundError):
        check(path)
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect_reader(path)
    assert list(path.parent.iterdir()) == []


# --- schema versions


def test_an_older_ledger_is_migrated_with_all_that_is_in_it_and_a_newer_one_refused(filled, monkeypatch, make_entries):
    path, today = filled(3), list(MIGRATIONS)
    newer = [*today, "ALTER TABLE log ADD COLUMN mood TEXT;", "CREATE TABLE extra (name TEXT); -- a comment at the end"]
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", newer)
        assert check(path) == 3, "an older one is sound"
        assert version_of(path) == len(today), "looking does not migrate"
        with closing(connect_writer(path)) as connection:
            append(connection, make_entries(4))
        assert version_of(path) == len(today) + 2
        assert check(path) == 4
    refused(path, StoreTooNew, f"with schema {len(today) + 2}; this version knows those up to {len(today)}: run that")


OF_ENTRIES = "INSERT INTO log (lsn, kind, task, at, body, payload) VALUES (?, ?, ?, ?, ?, ?)"


def test_a_ledger_with_a_row_for_each_entry_keeps_all_that_is_in_it(path, monkeypatch, make_entries):
    blobs = BlobDirectory.beside(path)
    entries = [*make_entries(1, 2, payload=b"x" * 100_000), *make_entries(3, task=None)]
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", MIGRATIONS[:2])
        create(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(OF_ENTRIES, entries)
        connection.execute(
            "INSERT INTO archive (task, scope, key, state, settled_at, body, lsn, skill, parent, context_id)"
            " VALUES ('t1', 's', 'k', 'failed', 5, x'01', 1, '', NULL, '')"
        )
        connection.commit()
    assert check(path) == len(entries)
    with closing(connect_writer(path)) as connection:
        rows = run(connection, "read_groups", {"after": 0, "upto": 9, "limit": 9})
        [task] = run(connection, "find_archived_by_task", ("t1",))
        assert run(connection, "list_blobs") == []
    assert list(entries_from(rows, 0, 9, blobs, path)) == entries
    assert archived_from(ArchivedTask, [task], blobs) == [
        ArchivedTask("t1", "s", "k", "failed", 5, b"\x01", 1, "", None, "")
    ]
    assert check(path) == len(entries)


KEPT = (
    "INSERT INTO archive (task, scope, key, state, settled_at, body, lsn, skill, parent, context_id, gone)"
    " VALUES (?, ?, ?, 'completed', 5, x'01', ?, '', NULL, '', ?)"
)


def test_a_ledger_with_one_index_of_all_keys_has_each_task_found_by_its_key(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", MIGRATIONS[:6])
        create(path)
    tasks = [(f"t{lsn}", "s" * (lsn % 3), f"k{lsn % 40}", lsn, lsn % 2) for lsn in range(1, 101)]
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(KEPT, tasks)
        connection.commit()
    with closing(connect_writer(path)) as connection:
        found = {run(connection, "find_archived_by_key", of_key(scope, key))[0][0] for _, scope, key, _, _ in tasks}
        parts = connection.execute("SELECT part, count(*) FROM keys GROUP BY part").fetchall()
        indexes = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'archive_by_key'").fetchone()
    newest = {(scope, key): task for task, scope, key, _, _ in tasks}
    assert found == set(newest.values())
    assert (parts, indexes) == ([(0, 100)], (0,))


def test_a_version_that_never_was_is_damage(filled):
    path = filled(1)
    edit(path, "PRAGMA user_version = -3")
    refused(path, StoreCorrupt, "schema -3, which never existed")


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 6])
def test_a_version_that_the_tables_are_not_of_is_damage_and_migrates_nothing(filled, version):
    path = filled(1)
    edit(path, f"PRAGMA user_version = {version}")
    refused(path, StoreCorrupt, f"it says schema {version} but has other tables")


def test_a_migration_runs_once(filled, monkeypatch):
    path, today = filled(1), list(MIGRATIONS)
    monkeypatch.setattr(database, "MIGRATIONS", [*today, "CREATE TABLE extra (name TEXT);"])
    for _ in range(2):
        connect_writer(path).close()
    assert version_of(path) == len(today) + 1


def test_a_migration_that_fails_leaves_the_ledger_as_it_was_and_nothing_open(filled, monkeypatch):
    path, today = filled(3), list(MIGRATIONS)
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", [*today, "CREATE TABLE extra (name TEXT); DROP TABLE nonsense;"])
        with pytest.raises(StoreError, match=f"{path}: migration {len(today) + 1} failed, the ledger stays"):
            connect_writer(path)
        with closing(sqlite3.connect(path, timeout=0)) as outsider:
            outsider.execute("BEGIN EXCLUSIVE")
    assert version_of(path) == len(today)
    assert check(path) == 3
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)


def test_migrations_that_went_before_a_failing_one_stay(filled, monkeypatch):
    path, today = filled(1), list(MIGRATIONS)
    newer = [*today, "CREATE TABLE extra (name TEXT);", "DROP TABLE nonsense;"]
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    with pytest.raises(StoreError, match=f"migration {len(today) + 2} failed"):
        connect_writer(path)
    assert version_of(path) == len(today) + 1
