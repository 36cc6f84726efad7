"""The log in a ledger's file, read and changed behind its owner's back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from a2a.engine.records import Record, from_bytes, to_bytes
from a2a.stores.base import Entry
from a2a.stores.blobs import BlobDirectory
from a2a.stores.database import QUERIES
from a2a.stores.reader import LedgerReader
from a2a.stores.rows import to_rows

__all__ = ["change_entry", "change_record", "entries_of", "insert", "write_entries"]


def entries_of(path: Path) -> list[Entry]:
    """Return all entries of a ledger."""
    with LedgerReader(path) as reader:
        return list(reader.entries())


def insert(connection: sqlite3.Connection, groups: Sequence[Sequence[Entry]], path: Path) -> None:
    """Put groups of entries into the log, a row for each group."""
    for entries in groups:
        rows = to_rows(entries, [], BlobDirectory.beside(path)).groups
        connection.executemany(QUERIES["append_group"], rows)


def write_entries(path: Path, groups: Sequence[Sequence[Entry]]) -> None:
    """Replace the log with these groups."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM log")
        insert(connection, groups, path)
        connection.commit()


def change_entry(path: Path, lsn: int, **fields: object) -> None:
    """Change some fields of an entry."""
    changed = [entry._replace(**fields) if entry.lsn == lsn else entry for entry in entries_of(path)]
    write_entries(path, [changed])


def change_record(path: Path, kind: type[Record], change: Callable[[Record], None]) -> int:
    """Change the first record of a kind, with a matching checksum, and return its position."""
    entry = next(entry for entry in entries_of(path) if entry.kind == kind.__name__)
    record = from_bytes(entry.body, entry.payload)
    assert isinstance(record, kind)
    change(record)
    body, payload = to_bytes(record)
    change_entry(path, entry.lsn, body=body, payload=payload)
    return entry.lsn
