"""A coordinator killed at chosen system calls loses nothing it had acknowledged. `make steps` walks through all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.steps import CALLS, Rehearsal, why_not

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize(("calls", "numbers"), [("send", (6,)), ("page", (12, 20)), ("sync", (4,))])
async def test_nothing_acknowledged_is_lost_wherever_it_dies(
    tmp_path: Path, calls: str, numbers: tuple[int, ...]
) -> None:
    rehearsal = Rehearsal(tmp_path)
    await rehearsal.prepare()
    for number in numbers:
        dies, found = await rehearsal.play(CALLS[calls], number)
        assert (dies, found.wrong(), found.tasks) == (True, [], 1), f"killed at {calls} {number}"


@pytest.mark.parametrize(("calls", "number"), [("page", 12), ("sync", 4)])
async def test_a_ledger_that_was_being_made_is_made_by_the_next(tmp_path: Path, calls: str, number: int) -> None:
    dies, found = await Rehearsal(tmp_path).begin(CALLS[calls], number)
    assert (dies, found.wrong()) == (True, [])
