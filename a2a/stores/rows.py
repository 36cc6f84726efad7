"""The rows of a ledger's file: a group of entries, or what is archived, with large byte strings in files of their own.

It converts both ways: entries and tasks to rows for the thread that writes, and rows back for readers. A group is a
MessagePack list with `[kind, task, at, body, payload]` of each entry. A large payload, or a large byte string of a
task, is replaced by its index among the digests in the row. This module knows the columns' order in `sql/queries.sql`
and nothing of transactions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry
from ..engine.filter import digest_of_key
from ..engine.plain import LARGE_BYTES
from ..errors import StoreCorrupt
from ..protocol.codec import aside, pack, unpack
from .base import Entry
from .blobs import BlobDirectory

__all__ = [
    "LARGE_BYTES",
    "Row",
    "Rows",
    "archived_from",
    "as_group",
    "conflicts_from",
    "conflicts_query",
    "entries_from",
    "entries_in",
    "hash_of_key",
    "of_key",
    "to_rows",
]

Row = tuple[Any, ...]
K = TypeVar("K", ArchivedTask, ArchivedContext)

PART_RECORDS = 65_536
"""Records whose tasks have their keys in one part: some 16,000 keys in 60 pages, which stay in SQLite's cache."""
_HASH_BITS = 47
"""Bits of a number that SQLite stores in six bytes."""

_FORMS = frozenset(
    (str, of_task, int, bytes, of_payload) for of_task in (str, type(None)) for of_payload in (bytes, type(None))
)
"""The types that the fields of an entry in a row may have."""
_BETWEEN = "\n"
"""Separates task ids in a column; no id contains it."""


class Rows(NamedTuple):
    """The rows that are committed together, by the statement that takes them."""

    groups: list[Row]
    """Of the log; at most one."""
    tasks: list[Row]
    keys: list[Row]
    """The keys of these tasks."""
    conflicts: list[Row]
    conflict_tasks: list[Row]
    contexts: list[Row]


def to_rows(entries: Sequence[Entry], archived: Sequence[ArchiveEntry], blobs: BlobDirectory) -> Rows:
    """Return the rows of consecutive entries and of what is archived with them; large byte strings are durable.

    Raises:
        OSError: a blob could not be written.
        ValueError: an entry has what no row can hold.
    """
    pieces = [payload for entry in entries if (payload := entry.payload) is not None and len(payload) >= LARGE_BYTES]
    besides = [piece for kept in archived for piece in kept.beside]
    digests = blobs.put([*pieces, *besides]) if pieces or besides else []
    rows = Rows([_group(entries, b"".join(digests[: len(pieces)]))] if entries else [], [], [], [], [], [])
    rest = iter(digests[len(pieces) :])
    for kept in archived:
        named = b"".join(next(rest) for _ in kept.beside)
        if isinstance(kept, ArchivedTask):
            rows.tasks.append((*kept[:-1], named))
            rows.keys.append((kept.lsn // PART_RECORDS + 1, hash_of_key(kept.scope, kept.key), kept.task))
        elif isinstance(kept, ArchivedContext):
            rows.contexts.append((*kept[:-1], named))
        else:
            conflict, lsn, kind, about, tasks, body, _ = kept
            rows.conflicts.append((conflict, lsn, kind, about, _BETWEEN.join(tasks), body, named))
            rows.conflict_tasks.extend((task, lsn) for task in tasks)
    return rows


def hash_of_key(scope: str, key: str) -> int:
    """Return the number that finds a task by its key; two keys may have the same number."""
    return int.from_bytes(digest_of_key(scope, key)[:8], "big") >> (64 - _HASH_BITS)


def of_key(scope: str, key: str) -> dict[str, object]:
    """Return the parameters of the statement that finds a task by its key."""
    return {"hash": hash_of_key(scope, key), "scope": scope, "key": key}


def entries_from(rows: Iterable[Row], after: int, upto: int, blobs: BlobDirectory, ledger: Path) -> Iterator[Entry]:
    """Yield the entries after one position up to another from rows of the log; the first row has the next entry.

    Args:
        rows: rows of the log.
        after: the position before the first entry.
        upto: the position of the last entry.
        blobs: where large payloads are.
        ledger: the file, for messages.

    Raises:
        StoreCorrupt: a row does not have what it says, or a large payload is missing or damaged.
    """
    for first, last, body, digests in rows:
        try:
            values = unpack(body, _pieces(digests, blobs))
            if not _FORMS.issuperset(tuple(map(type, value)) for value in values):
                raise ValueError("a field of an entry has a type that it cannot have")
            entries = [Entry(lsn, *value) for lsn, value in enumerate(values, first)]
            is_whole = first <= after + 1 and len(entries) == last - first + 1
        except (TypeError, ValueError) as error:
            raise StoreCorrupt(f"{ledger}: entry {after + 1} cannot be read: {error}") from error
        if not is_whole:
            found = f"a row has {len(entries)}, from {first} to {last}"
            raise StoreCorrupt(f"{ledger}: entry {after + 1} is missing: {found}")
        yield from entries[after + 1 - first : upto + 1 - first]
        after = max(after, last)


def entries_in(
    page: Callable[[int], Sequence[Row]], after: int, upto: int, blobs: BlobDirectory, ledger: Path
) -> Iterator[Entry]:
    """Yield the entries after one position up to another, reading one page of rows after the other.

    Args:
        page: returns rows of the log, starting with the one that has the entry after a position.
        after: the position before the first entry.
        upto: the position of the last entry.
        blobs: where large payloads are.
        ledger: the file, for messages.

    Raises:
        StoreCorrupt: an entry is missing or damaged.
    """
    while after < upto:
        rows = page(after)
        yield from entries_from(rows, after, upto, blobs, ledger)
        # A row whose position was changed on the disk may sort after the others; then `after` never reaches the end.
        if not rows or rows[-1][1] <= after:
            raise StoreCorrupt(f"{ledger}: entry {after + 1} is missing, and so are all entries after it")
        after = rows[-1][1]


def archived_from(of: type[K], rows: Iterable[Row], blobs: BlobDirectory, *, whole: bool = True) -> list[K]:
    """Return the tasks or contexts in rows of the archive. Without `whole`, large byte strings are empty.

    Raises:
        StoreCorrupt: a large byte string is missing or damaged.
    """
    return [of._make(_whole(row, blobs) if whole else _without_large(row, blobs)) for row in rows]


def conflicts_query(task: str | None) -> str:
    """Return the name of the statement that lists conflicts, or only those about a task if one is given."""
    return "list_conflicts" if task is None else "list_conflicts_of_task"


def conflicts_from(rows: Iterable[Row], blobs: BlobDirectory) -> list[ArchivedConflict]:
    """Return the conflicts in rows of the archive.

    Raises:
        StoreCorrupt: a large byte string is missing or damaged.
    """
    return [
        ArchivedConflict._make(
            (*row[:4], tuple(filter(None, str(row[4]).split(_BETWEEN))), row[5], _pieces(row[6], blobs))
        )
        for row in rows
    ]


def as_group(kind: str, task: str | None, at: int, body: bytes, payload: bytes | None) -> bytes:
    """Return the body of a row with one entry, for the migration of rows that had one entry each."""
    return pack([[kind, task, at, body, payload]])


def _group(entries: Sequence[Entry], digests: bytes) -> Row:
    values: list[Any] = [entry[1:] for entry in entries]
    if digests:
        places = itertools.count()
        values = [
            (*value[:-1], aside(next(places))) if value[-1] and len(value[-1]) >= LARGE_BYTES else value
            for value in values
        ]
    return entries[0].lsn, entries[-1].lsn, pack(values), digests


def _whole(row: Row, blobs: BlobDirectory) -> Row:
    return *row[:-1], _pieces(row[-1], blobs)


def _without_large(row: Row, blobs: BlobDirectory) -> Row:
    return *row[:-1], (b"",) * len(blobs.digests_in(row[-1]))


def _pieces(digests: object, blobs: BlobDirectory) -> tuple[bytes, ...]:
    return tuple(map(blobs.get, blobs.digests_in(digests)))
