"""Rows of a ledger's file: what goes in inline, what by its digest, and what comes back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from a2a.errors import StoreCorrupt
from a2a.stores.base import ArchivedTask
from a2a.stores.blobs import BlobDirectory
from a2a.stores.rows import LARGE_BYTES, archived_from, entries_from, to_rows

LARGE = b"x" * LARGE_BYTES
DIGEST = hashlib.sha256(LARGE).digest()
TASK = ArchivedTask("t1", "s", "k", "failed", 5, b"body", 1, "", None, "c")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    blobs = BlobDirectory.beside(tmp_path / "ledger.db")
    blobs.open()
    return blobs


def test_what_is_small_stays_in_its_row_and_makes_no_file(blobs, make_entries, tmp_path):
    entries = [*make_entries(1), *make_entries(2, payload=b""), *make_entries(3, payload=LARGE[1:])]
    assert to_rows(entries, [TASK], blobs) == (entries, [], [(*TASK[:-1], b"")])
    assert not list((tmp_path / "ledger.db.blobs").glob("??"))


def test_what_is_large_is_named_and_comes_back(blobs, make_entries):
    entries = [*make_entries(1, payload=LARGE), *make_entries(2), *make_entries(3, payload=LARGE + b"y")]
    task = TASK._replace(beside=(LARGE + b"y", b"small", LARGE))
    small, large, archived = to_rows(entries, [TASK, task], blobs)
    assert small == entries[1:2]
    assert [row[-1] for row in large] == [DIGEST, hashlib.sha256(LARGE + b"y").digest()]
    rows = [(*row[:-1], None, row[-1]) for row in large] + [(*row, None) for row in small]
    assert sorted(entries_from(rows, blobs)) == entries
    assert archived_from(archived, blobs) == [TASK, task]


@pytest.mark.parametrize("named", [None, 5, "text", DIGEST[:-1], DIGEST + b"x"])
def test_a_row_that_was_changed_on_the_disk_says_so(blobs, named):
    blobs.put([LARGE])
    with pytest.raises(StoreCorrupt, match="in a row"):
        archived_from([(*TASK[:-1], named)], blobs)
