"""A conflict's record as data."""

from a2a.engine.conflicts.case import Conflict, Stage, seal
from a2a.engine.conflicts.rungs import Rung


def conflict(**fields):
    return Conflict("k1", "t1", "result", "r1", [Rung("majority"), Rung("abort")], {}, 1, 0, 0, **fields)


def test_the_next_rung_is_the_one_above_the_last_that_was_tried():
    case = conflict()
    assert (case.next_rung, case.stage, case.is_open) == (0, None, True)
    case.stages.append(Stage(0, "majority", 2, 0))
    assert case.stage is case.stages[0]
    case.stages[0].to_lsn = 3
    assert (case.stage, case.next_rung) == (None, 1)
    case.outcome = "select"
    assert not case.is_open


def test_a_seal_is_over_the_whole_record():
    assert seal({"a": 1}) != seal({"a": 2})
    assert seal({"b": 1, "a": 2}) == seal({"a": 2, "b": 1.0})
