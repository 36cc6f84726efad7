"""A copy of a ledger at one position, even while a coordinator has it open and goes on.

The database is copied inside one read transaction, so that concurrent writes neither change the copy nor restart it.
Then the blobs that the copied rows and the snapshot name are copied. Everything is made under a temporary name, synced
and checked before it is renamed: a backup under its own name is complete. This module does not know what entries mean.
It only reads the ledger, so it needs no lock. Its function blocks.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..engine.snapshot import blobs_of
from ..errors import StoreCorrupt, StoreError
from .blobs import BlobDirectory
from .database import LEDGERS, MIGRATIONS, QUERIES, check, connect_reader, mark_as_copy, run, too_new
from .files import resolved, sync, sync_directory

__all__ = ["Backup", "backup"]

_STEP_PAGES = 1024
"""Pages copied in one step; a step takes a few milliseconds."""
_TOGETHER = 16
"""Blobs that are copied and synced together."""
_BLOBS_IN = {
    "log": "list_blobs",
    "archive": "list_blobs_of_tasks",
    "conflicts": "list_blobs_of_conflicts",
    "contexts": "list_blobs_of_contexts",
}
"""The tables with rows that name blobs, and for each the statement that lists them."""
_OF_SQLITE = ("-journal", "-wal", "-shm")
"""Files that SQLite may keep beside a database."""
_OF_A_LEDGER = ("", *_OF_SQLITE, ".blobs", ".lock")


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied."""

    lsn: int
    """The position of the last entry in the copy."""
    blobs: int
    bytes: int
    """Size of the database and the blobs."""


def backup(ledger: Path, to: Path) -> Backup:
    """Copy the ledger at a path to another path, where nothing exists yet. A failure leaves nothing there.

    Everything that was durable at the call is in the copy. While the database is copied, the write-ahead log of a
    coordinator that writes can only grow.

    Raises:
        StoreError: something exists at `to`, or either path cannot be used; StoreTooNew: a newer version wrote the
            ledger; StoreCorrupt: the copy is not sound, or a large payload is missing.
    """
    # Resolved as the store does it: the blobs are beside the file, not beside a link to it.
    ledger, to = resolved(ledger), to.absolute()
    if not ledger.is_file():
        raise StoreError(f"{ledger}: there is no ledger")
    _refuse_what_is_there(to)
    new = Path(f"{to}.new")
    try:
        if os.path.lexists(f"{new}.blobs"):
            raise FileExistsError
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StoreError(
            f"{new} or {new.name}.blobs already exists: a backup is under way, or was killed; remove both if it was"
            " killed"
        ) from None
    except OSError as exc:
        raise StoreError(f"{to}: the backup cannot be made: {exc.strerror}") from exc
    made = [new, Path(f"{new}.blobs")]
    try:
        try:
            _copy_database(ledger, new)
            end = _check(ledger, new)
            blobs, size = _copy_blobs(ledger, new)
        finally:
            _remove_what_sqlite_made(new)
        size += new.stat().st_size
        _refuse_what_is_there(to)  # another process may have made it meanwhile
        for file, name in ((made[1], Path(f"{to}.blobs")), (new, to)):
            file.rename(name)
            made.append(name)
        sync_directory(to.parent)
    except BaseException as exc:
        for file in made:
            _remove(file)
        if isinstance(exc, OSError | sqlite3.Error):
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
            raise StoreError(f"{ledger}: cannot be copied to {to}: {reason}") from exc
        raise
    return Backup(end, blobs, size)


def _refuse_what_is_there(to: Path) -> None:
    for suffix in _OF_A_LEDGER:
        if os.path.lexists(f"{to}{suffix}"):
            raise StoreError(f"{to}{suffix} already exists; name a place where there are no files of a ledger")


def _copy_database(ledger: Path, new: Path) -> None:
    """Copy the database, including its write-ahead log, into an empty file, and sync the file."""
    with (
        _descriptor(new) as fd,
        closing(connect_reader(ledger)) as source,
        closing(sqlite3.connect(new, isolation_level=None)) as target,
    ):
        run(source, "begin_reading")
        try:
            [(application,)] = run(source, "get_application")
            [(version,)] = run(source, "get_version")
        except sqlite3.DatabaseError as exc:
            if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
                raise StoreError(f"{ledger}: expected a ledger, this is not one") from exc
            raise
        if application not in LEDGERS:
            raise StoreError(f"{ledger}: expected a ledger, this is not one")
        if version > len(MIGRATIONS):  # nobody knows what else belongs to it
            raise too_new(ledger, version)
        target.executescript(QUERIES["configure_copy"])

        def proceed(*_: int) -> None:
            # Sync in small steps: anyone who syncs another file on the disk, such as the coordinator, waits for all
            # pending writes. This is also where a signal is handled: its handler runs only in Python code, and the
            # copying has none.
            sync(fd)

        source.backup(target, pages=_STEP_PAGES, progress=proceed)
        mark_as_copy(fd)
        sync(fd)


@contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def _check(ledger: Path, new: Path) -> int:
    """Return the end of the copy's log."""
    try:
        return check(new)
    except StoreCorrupt as exc:
        reason = str(exc).removeprefix(f"{new}: ").removesuffix("; it was left unchanged")
        raise StoreCorrupt(
            f"{ledger}: its copy is not sound, and was removed: {reason}; `a2a doctor --db` says whether the ledger is"
        ) from exc


def _copy_blobs(ledger: Path, new: Path) -> tuple[int, int]:
    """Copy the blobs that the copy's rows name, and return how many there are and their bytes."""
    source, target = BlobDirectory.beside(ledger), BlobDirectory.beside(new)
    target.open()
    in_rows = _named_in(new, source)
    # Sorted, so that blobs copied together share directories, each of which is synced.
    named = sorted(in_rows | _named_by_snapshot(new, source, in_rows))
    size = sum(target.copy(source, named[at : at + _TOGETHER]) for at in range(0, len(named), _TOGETHER))
    return len(named), size


def _named_in(new: Path, blobs: BlobDirectory) -> set[bytes]:
    with closing(connect_reader(new)) as connection:
        return {
            digest
            for table, statement in _BLOBS_IN.items()
            # An older version had fewer of these tables, and the first ones had no blobs.
            if ("blobs",) in run(connection, "list_columns", (table,))
            for (digests,) in run(connection, statement)
            for digest in blobs.digests_in(digests)
        }


def _named_by_snapshot(new: Path, blobs: BlobDirectory, in_rows: set[bytes]) -> set[bytes]:
    """Return the blobs that only the snapshot names, such as a value of a context that was archived anew since.

    Without them a start on the copy would fold all records. If it cannot be used anyway, that is no reason to refuse.
    """
    with closing(connect_reader(new)) as connection:
        rows = run(connection, "load_snapshot")
    with suppress(StoreError, ValueError):
        named = {name for _, body in rows for name in blobs_of(body)} - in_rows
        for name in named:
            blobs.get(name)
        return named
    return set()


def _remove_what_sqlite_made(new: Path) -> None:
    """Remove the files that SQLite made beside the copy to read it; everything written is in the copy itself."""
    for suffix in _OF_SQLITE:
        Path(f"{new}{suffix}").unlink(missing_ok=True)


def _remove(made: Path) -> None:
    if made.is_dir():
        shutil.rmtree(made, ignore_errors=True)
    else:
        made.unlink(missing_ok=True)
