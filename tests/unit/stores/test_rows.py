"""Rows of a ledger's file: what goes in inline, what by its digest, and what comes back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from a2a.engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask
from a2a.errors import StoreCorrupt
from a2a.protocol.codec import aside, pack
from a2a.stores.blobs import BlobDirectory
from a2a.stores.rows import LARGE_BYTES, archived_from, conflicts_from, entries_from, entries_in, to_rows

LARGE = b"x" * LARGE_BYTES
DIGEST = hashlib.sha256(LARGE).digest()
LEDGER = Path("ledger.db")
TASK = ArchivedTask("t1", "s", "k", "failed", 5, b"body", 1, "", None, "c")
CONFLICT = ArchivedConflict("k7", 7, "result", "task:t1", ("t1", "t2"), b"body")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    blobs = BlobDirectory.beside(tmp_path / "ledger.db")
    blobs.open()
    return blobs


def test_what_is_committed_together_is_one_row(blobs, make_entries, tmp_path):
    entries = [*make_entries(7), *make_entries(8, payload=b""), *make_entries(9, task=None, payload=LARGE[1:])]
    [(first, last, body, digests)], archived, *_ = to_rows(entries, [TASK], blobs)
    assert (first, last, digests, archived) == (7, 9, b"", [(*TASK[:-1], b"")])
    assert not list((tmp_path / "ledger.db.blobs").glob("??")), "what is small makes no file"
    rows = [(first, last, body, digests)]
    assert list(entries_from(rows, 6, 9, blobs, LEDGER)) == entries
    assert list(entries_from(rows, 7, 8, blobs, LEDGER)) == entries[1:2], "from the middle to the middle"
    assert to_rows([], [], blobs) == ([], [], [], [], [], [])


def test_what_is_large_is_named_and_comes_back(blobs, make_entries):
    entries = [*make_entries(1, payload=LARGE), *make_entries(2), *make_entries(3, payload=LARGE + b"y")]
    task = TASK._replace(beside=(LARGE + b"y", b"small", LARGE))
    groups, archived, *_ = to_rows(entries, [TASK, task], blobs)
    [(_, _, body, digests)] = groups
    assert (len(body) < 1_000, digests) == (True, DIGEST + hashlib.sha256(LARGE + b"y").digest())
    assert list(entries_from(groups, 0, 3, blobs, LEDGER)) == entries
    assert archived_from(ArchivedTask, archived, blobs) == [TASK, task]


def test_what_is_large_in_a_conflict_or_a_context_is_named_and_comes_back_too(blobs):
    task = TASK._replace(beside=(LARGE,))
    large = CONFLICT._replace(conflict="k8", lsn=8, tasks=(), beside=(LARGE + b"y", LARGE))
    context = ArchivedContext("plans", 9, b"body", (LARGE, LARGE + b"z"))
    _, tasks, _, conflicts, conflict_tasks, contexts = to_rows([], [CONFLICT, context, task, large], blobs)
    assert archived_from(ArchivedContext, contexts, blobs) == [context]
    assert (archived_from(ArchivedTask, tasks, blobs), conflicts_from(conflicts, blobs)) == ([task], [CONFLICT, large])
    assert conflict_tasks == [("t1", 7), ("t2", 7)]


def test_rows_follow_each_other(blobs, make_entries):
    groups = [to_rows(make_entries(first, 3), [], blobs)[0][0] for first in (1, 4, 7)]
    assert list(entries_from(groups, 0, 8, blobs, LEDGER)) == make_entries(1, 8)
    with pytest.raises(StoreCorrupt, match="ledger.db: entry 4 is missing"):
        list(entries_from([groups[0], groups[2]], 0, 9, blobs, LEDGER))


def test_a_row_that_was_moved_behind_the_others_is_missed_once(blobs, make_entries):
    [group] = to_rows(make_entries(1, 3), [], blobs)[0]
    pages = iter([[group]] * 3)
    with pytest.raises(StoreCorrupt, match="entry 4 is missing, and so are all entries after it"):
        list(entries_in(lambda after: next(pages), 0, 6, blobs, LEDGER))
    assert len(list(pages)) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((1, 3, pack([["K", None, 5, b"", None]]), b""), "entry 1 is missing: a row has 1, from 1 to 3"),
        ((1, 1, b"\xc1", b""), "entry 1 cannot be read"),
        ((1, 1, pack(5), b""), "entry 1 cannot be read"),
        ((1, 1, pack([["K"]]), b""), "entry 1 cannot be read"),
        ((1, 1, pack([["K", 7, 5, b"", None]]), b""), "has a type that it cannot have"),
        ((1, 1, pack([["K", None, 5, "text", None]]), b""), "has a type that it cannot have"),
        ((1, 1, pack([["K", None, 5, b"", aside(0)]]), b""), "a part is missing"),
        (("x", 1, pack([["K", None, 5, b"", None]]), b""), "entry 1 cannot be read"),
        ((1, "x", pack([["K", None, 5, b"", None]]), b""), "entry 1 cannot be read"),
        ((1, 1, pack([["K", None, 5, b"", None]]), b"short"), "blobs: expected digests"),
    ],
)
def test_a_row_of_the_log_that_was_changed_on_the_disk_says_so(blobs, row, reason):
    with pytest.raises(StoreCorrupt, match=reason):
        list(entries_from([row], 0, 9, blobs, LEDGER))


@pytest.mark.parametrize("named", [None, 5, "text", DIGEST[:-1], DIGEST + b"x"])
def test_a_row_that_was_changed_on_the_disk_says_so(blobs, named):
    blobs.put([LARGE])
    with pytest.raises(StoreCorrupt, match="in a row"):
        archived_from(ArchivedTask, [(*TASK[:-1], named)], blobs)
