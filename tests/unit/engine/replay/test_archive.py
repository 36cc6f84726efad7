"""What left memory although it was needed is found, and what came back as something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a2a.engine import plain
from a2a.engine.records import (
    Archived,
    ConflictsArchived,
    Recalled,
)
from a2a.engine.replay.run import Replay
from a2a.engine.task_state import Task


def test_a_conflict_that_left_before_its_task_is_found(disputes):
    left = next(record for record in disputes if isinstance(record, ConflictsArchived))
    tasks_leave = next(number for number, record in enumerate(disputes) if isinstance(record, Archived))
    assert tasks_leave < disputes.index(left)
    difference = Replay("main").run([*disputes[:tasks_leave], left])
    assert difference is not None
    assert (difference.stands, difference.expected) == (left, f"{left.conflicts[0]} is needed in memory")


@pytest.mark.parametrize(("field", "is_known"), [("chunk_bytes", True), ("above", True), ("chunks", False)])
def test_a_task_that_was_archived_by_a_version_that_did_not_note_this_is_the_same(records, field, is_known):
    position = next(number for number, record in enumerate(records) if isinstance(record, Recalled))
    task = plain.from_bytes(Task, records[position].body)
    assert task.chunk_bytes > 0
    setattr(task, field, ("boss",) if field == "above" else 0)
    recalled = replace(records[position], body=plain.to_bytes(task))
    assert (Replay("main").run([*records[:position], recalled]) is None) is is_known
