"""The SQLite file of a ledger: its statements, and how it is created, checked and migrated.

A file is made under a temporary name and renamed into place, so a file in place is always complete. A file that is
damaged, foreign or from a newer version is examined through a read-only connection and left as it is. This module does
not know what entries mean, nor who may have the file open: `sqlite` holds the lock before it calls anything here.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import StoreCorrupt, StoreError, StoreTooNew
from .files import sync, sync_directory
from .rows import as_group, hash_of_key

__all__ = [
    "LEDGERS",
    "MIGRATIONS",
    "QUERIES",
    "Parameters",
    "adopt",
    "check",
    "check_form",
    "connect_reader",
    "connect_writer",
    "create",
    "mark_as_copy",
    "run",
    "too_new",
]

Parameters = Mapping[str, object] | tuple[object, ...]
"""A statement's parameters, by name or by position."""

_MAGIC = b"SQLite format 3\x00"

_LEDGER = b"a2aL"
"""Marks a file as ours, so that another program's database is not migrated; `set_application` writes it."""
_COPY = b"a2aC"
"""Marks a copy of a ledger that nobody has opened for writing: no write-ahead log is its own."""
LEDGERS = (int.from_bytes(_LEDGER, "big"), int.from_bytes(_COPY, "big"))
"""The values that `get_application` returns for a ledger."""
_MARK_AT = 68
"""The offset of the mark in the file (https://www.sqlite.org/fileformat.html#application_id)."""

_GROUPS_SINCE = 3
"""The first schema in which a row of the log has the entries of a group."""

_COLUMN_SINCE = {
    ("archive", "gone"): 2,
    ("log", "first"): _GROUPS_SINCE,
    ("conflicts", "lsn"): 4,
    ("contexts", "lsn"): 5,
    ("keys", "part"): 7,
}
"""A table and its column to the first schema that has it."""

_WAL_BYTES = 8_192_000
"""Bytes of the write-ahead log at which it is checkpointed."""

_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,  # a table of ours is missing
}
"""Primary result codes that blame the file; any other blames the machine."""


def _load_queries() -> dict[str, str]:
    text = (resources.files(__package__) / "sql" / "queries.sql").read_text("utf-8")
    _, *parts = re.split(r"^-- (\w+) --$", text, flags=re.MULTILINE)
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}


def _load_migrations() -> list[str]:
    files = (resources.files(__package__) / "sql" / "migrations").iterdir()
    numbered = sorted((int(file.name[:4]), file.read_text("utf-8")) for file in files if file.name.endswith(".sql"))
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1)), "migrations count from 1, no gaps"
    return [script for _, script in numbered]


QUERIES = _load_queries()
"""The statements of `sql/queries.sql` by name; each keeps its description in front as a comment."""

MIGRATIONS = _load_migrations()
"""The scripts of `sql/migrations/`; the n-th, from 1, leads to schema version n. A released one is never edited."""


def create(path: Path) -> int:
    """Make an empty ledger at `path`, where nothing exists yet; return the end of its log, 0.

    Raises:
        StoreCorrupt: the database is gone, but its write-ahead log is not.
    """
    if _has_log(path):
        # SQLite would replay this log into the new file.
        raise StoreCorrupt(
            f"{path}: the ledger is missing, but {path.name}-wal is there; put both back or move that one away"
        )
    new = Path(f"{path}.new")
    for leftover in (new, Path(f"{new}-journal"), Path(f"{new}-wal"), Path(f"{new}-shm")):
        leftover.unlink(missing_ok=True)
    # SQLite gives the files beside a database the mode of the database.
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_connect(new)) as connection:
        connection.executescript(QUERIES["set_page_size"])  # before anything is written
        connection.executescript(QUERIES["set_application"])
        connection.executescript(QUERIES["use_wal"])
        _migrate(connection, path)
    fd = os.open(new, os.O_RDWR)
    try:
        sync(fd)
    finally:
        os.close(fd)
    new.rename(path)
    sync_directory(path.parent)
    return 0


def check_form(path: Path) -> None:
    """Check that there is an SQLite database at `path`, without opening it.

    Raises:
        StoreCorrupt: there is something else.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait for its writer
        raise StoreCorrupt(f"{path}: expected a ledger, this is not a file; it was left unchanged")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StoreCorrupt(f"{path}: expected a ledger, this is not an SQLite database; it was left unchanged")


def check(path: Path) -> int:
    """Check that the file at `path` is a sound ledger that this version can read; return the end of its log.

    Changes nothing.

    Raises:
        StoreCorrupt: it is damaged, or is not a ledger.
        StoreTooNew: a newer version wrote it.
    """
    check_form(path)
    try:
        with closing(connect_reader(path)) as connection:
            return _check(connection, path)
    except UnicodeDecodeError as exc:  # from a name in the damaged schema, which SQLite quotes in its findings
        raise StoreCorrupt(f"{path}: the ledger is damaged ({exc}); it was left unchanged") from exc
    except sqlite3.Error as exc:
        if exc.sqlite_errorcode & 0xFF in _DAMAGED:
            raise StoreCorrupt(f"{path}: the ledger is damaged ({exc}); it was left unchanged") from exc
        raise


def mark_as_copy(fd: int) -> None:
    """Mark the database as a copy of a ledger. Nobody may have it open."""
    os.pwrite(fd, _COPY, _MARK_AT)


def adopt(path: Path) -> None:
    """Turn a copy, which `check` has passed, into an ordinary ledger, which may have a write-ahead log from now on.

    This writes to the file directly, because a write through SQLite would go into that log.
    """
    if _mark(path) == _COPY:
        fd = os.open(path, os.O_RDWR)
        try:
            os.pwrite(fd, _LEDGER, _MARK_AT)
            sync(fd)
        finally:
            os.close(fd)


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the ledger at `path`, which `check` has passed, for writing, and bring it to the newest schema.

    The owner of the connection makes sure that only one thread uses it at a time.
    """
    connection = _connect(path, check_same_thread=False)
    try:
        connection.executescript(QUERIES["configure_writer"])
        [(page_bytes,)] = run(connection, "get_page_size")
        connection.execute(QUERIES["limit_wal"].format(pages=_WAL_BYTES // page_bytes))
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the ledger at `path` for reading, from whichever thread uses it next.

    Raises:
        StoreCorrupt: it is a copy, and the write-ahead log beside it belongs to another ledger.
    """
    if _mark(path) == _COPY and _has_log(path):
        # SQLite would replay this log into the copy, and bring back the old ledger, all of it or a part.
        raise StoreCorrupt(
            f"{path}: this is a backup, and {path.name}-wal beside it is of the ledger that was here before and would"
            f" undo it; it was left unchanged: move it and {path.name}-shm away, with the ledger they belong to"
        )
    # Read-only for SQLite too: otherwise the last connection to close would write the log into the database.
    how = "mode=ro&immutable=1" if _is_put_away(path) else "mode=ro"
    connection = _connect(f"{path.as_uri()}?{how}", uri=True, check_same_thread=False)
    connection.executescript(QUERIES["configure_reader"])
    return connection


def _mark(path: Path) -> bytes:
    """Return the mark in the file itself, whatever a log beside it says; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(_MARK_AT + len(_LEDGER))[_MARK_AT:]
    except OSError:  # SQLite reports the reason
        return b""


def _has_log(path: Path) -> bool:
    wal = Path(f"{path}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _is_put_away(path: Path) -> bool:
    """Tell whether a ledger is closed, and in a folder where SQLite cannot make the files it needs for reading.

    This is a copy on a read-only medium, or another user's: complete as it is, or its log would be beside it.
    """
    beside = (Path(f"{path}-wal"), Path(f"{path}-shm"))
    return not os.access(path.parent, os.W_OK) and not any(file.exists() for file in beside)


def run(connection: sqlite3.Connection, name: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
    """Run the statement with this name and return all its rows, leaving no statement open."""
    return connection.execute(QUERIES[name], parameters).fetchall()


def too_new(path: Path, version: int) -> StoreTooNew:
    """Return the error for a ledger whose schema only a newer version of this software knows."""
    return StoreTooNew(
        f"{path}: a newer version wrote it, with schema {version}; this version knows those up to {len(MIGRATIONS)}:"
        " run that one again, or go back to a backup that this one made"
    )


def _connect(path: Path | str, *, uri: bool = False, check_same_thread: bool = True) -> sqlite3.Connection:
    # With isolation_level None, transactions begin and end where the code says so.
    return sqlite3.connect(path, isolation_level=None, uri=uri, check_same_thread=check_same_thread)


def _check(connection: sqlite3.Connection, path: Path) -> int:
    [(application,)] = run(connection, "get_application")
    if application not in LEDGERS:
        raise StoreCorrupt(f"{path}: expected a ledger, this is another program's database; it was left unchanged")
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise too_new(path, version)
    if version < 0:
        raise StoreCorrupt(f"{path}: schema {version}, which never existed; it was left unchanged")
    for (table, column), since in _COLUMN_SINCE.items():
        # A version changed on the disk would rerun a migration, and one of them drops the archive.
        if ((column,) in run(connection, "list_columns", (table,))) is not (version >= since):
            raise StoreCorrupt(f"{path}: it says schema {version} but has other tables; it was left unchanged")
    findings = [" ".join(row[0].split()) for row in run(connection, "check_pages")]
    if findings != ["ok"]:
        raise StoreCorrupt(f"{path}: the ledger is damaged ({'; '.join(findings)}); it was left unchanged")
    [(count, end)] = run(connection, "check_log" if version >= _GROUPS_SINCE else "check_log_of_entries")
    if count != end:
        raise StoreCorrupt(f"{path}: the log ends at entry {end} and has only {count} entries; it was left unchanged")
    return int(end)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the migrations that the file has not had, each completely or not at all."""
    connection.create_function("as_group", 5, as_group, deterministic=True)
    connection.create_function("hash_of_key", 2, hash_of_key, deterministic=True)
    for version in range(_version(connection) + 1, len(MIGRATIONS) + 1):
        script = f"BEGIN IMMEDIATE;\n{MIGRATIONS[version - 1]}\nPRAGMA user_version = {version};\nCOMMIT;"
        try:
            connection.executescript(script)
        except sqlite3.Error as exc:
            # The connection is closed next, which rolls back.
            raise StoreError(f"{path}: migration {version} failed, the ledger stays as it was: {exc}") from exc


def _version(connection: sqlite3.Connection) -> int:
    [(version,)] = run(connection, "get_version")
    return int(version)
