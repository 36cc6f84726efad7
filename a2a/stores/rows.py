"""What a row of a ledger's file is: an entry or an archived task, with what is large in it in a file of its own.

Both ways: entries and tasks to rows, for the thread that writes, and back, for whoever reads. It knows the columns'
order in `sql/queries.sql` and nothing of transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..engine.plain import LARGE_BYTES
from ..errors import StoreCorrupt
from .base import ArchivedTask, Entry
from .blobs import DIGEST_BYTES, BlobDirectory

__all__ = ["LARGE_BYTES", "Row", "archived_from", "entries_from", "to_rows"]

Row = tuple[Any, ...]


def to_rows(
    entries: Sequence[Entry], archived: Sequence[ArchivedTask], blobs: BlobDirectory
) -> tuple[list[Entry], list[Row], list[Row]]:
    """Return the rows of entries, of entries with a large payload, and of archived tasks; what is large is durable.

    Raises:
        OSError: a blob could not be written.
    """
    large = [entry for entry in entries if entry.payload is not None and len(entry.payload) >= LARGE_BYTES]
    pieces = [piece for task in archived for piece in task.beside]
    if not large and not pieces:
        return list(entries), [], [(*task[:-1], b"") for task in archived]
    digests = iter(blobs.put([*(entry.payload for entry in large if entry.payload is not None), *pieces]))
    named: list[Row] = [(*entry[:-1], next(digests)) for entry in large]
    aside = {entry.lsn for entry in large}
    small = [entry for entry in entries if entry.lsn not in aside]
    return small, named, [(*task[:-1], b"".join(next(digests) for _ in task.beside)) for task in archived]


def entries_from(rows: Iterable[Row], blobs: BlobDirectory) -> Iterator[Entry]:
    """Yield the entries that rows of the log stand for.

    Raises:
        StoreCorrupt: a large payload is missing or damaged.
    """
    for row in rows:
        yield Entry._make(row[:-1] if row[-1] is None else (*row[:-2], blobs.get(row[-1])))


def archived_from(rows: Iterable[Row], blobs: BlobDirectory) -> list[ArchivedTask]:
    """Return the tasks that rows of the archive stand for.

    Raises:
        StoreCorrupt: a large byte string is missing or damaged.
    """
    return [ArchivedTask._make((*row[:-1], _pieces(row[-1], blobs))) for row in rows]


def _pieces(digests: bytes, blobs: BlobDirectory) -> tuple[bytes, ...]:
    if type(digests) is not bytes:  # a row that was changed on the disk
        raise StoreCorrupt(f"expected digests in a row of the archive, got {digests!r}")
    starts = range(0, len(digests), DIGEST_BYTES)
    return tuple(blobs.get(digests[start : start + DIGEST_BYTES]) for start in starts)
