"""What left memory although it was needed is found, and what came back as something else."""

from __future__ import annotations

from a2a.engine.records import (
    Archived,
    ConflictsArchived,
)
from a2a.engine.replay.run import Replay


def test_a_conflict_that_left_before_its_task_is_found(disputes):
    left = next(record for record in disputes if isinstance(record, ConflictsArchived))
    tasks_leave = next(number for number, record in enumerate(disputes) if isinstance(record, Archived))
    assert tasks_leave < disputes.index(left)
    difference = Replay("main").run([*disputes[:tasks_leave], left])
    assert difference is not None
    assert (difference.stands, difference.expected) == (left, f"{left.conflicts[0]} is needed in memory")
