"""A write to a context that says something else is found, and a claim that could not have been."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a2a.engine.records import (
    ContextWritten,
)
from a2a.engine.replay.run import Replay


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"value": b"2"}),
        (0, {"if_rev": None}),
        (0, {"if_rev": 1}),
        (0, {"rev": 2}),
        (0, {"guarded": False}),
        (0, {"decision": True}),
        (0, {"key": "other"}),
        (1, {"value": b'{"steps":[1,3]}'}),
        (1, {"patch": b'[{"op":"add","path":"/steps/-","value":3}]'}),
        (1, {"patch": None}),
    ],
)
def test_a_write_that_was_touched_is_found(records, number, change):
    position = [at for at, record in enumerate(records) if isinstance(record, ContextWritten)][number]
    first, *others = records[position].changes
    touched = replace(records[position], changes=[first | change, *others])
    difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn == position + 1


@pytest.mark.parametrize("depends", [[], [{"key": "note", "rev": 0}], [{"key": "plan", "rev": 1}]])
def test_a_write_that_was_made_in_view_of_something_else_is_found(records, depends):
    position = [at for at, record in enumerate(records) if isinstance(record, ContextWritten)][1]
    touched = replace(records[position], depends=depends)
    difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn == position + 1
