"""Fresh identifiers."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from a2a.ids import new_id, new_number, new_secret, new_suffix, numbering


def test_ids_are_uuids_of_version_7_with_the_current_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_differ() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000
    assert len({new_suffix() for _ in range(1000)}) == 1000
    assert len(new_secret()) >= 43


def test_numbers_begin_anywhere_with_as_many_behind_them() -> None:
    begun = [new_number() for _ in range(1000)]
    assert len(set(begun)) == 1000
    assert 0 <= min(begun) <= max(begun) < 2**52


def test_each_numbering_has_ids_of_its_own() -> None:
    mine, theirs = numbering(), numbering()
    ids = [number() for _ in range(100) for number in (mine, theirs)]
    assert len(set(ids)) == 200
    assert all(len(name) <= 64 for name in ids)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # it may: the child takes no lock
def test_a_forked_process_draws_other_ids() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_suffix().encode())
        os._exit(0)
    mine = new_suffix()
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs != mine
