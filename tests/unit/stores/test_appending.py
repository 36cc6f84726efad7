"""What every store does alike about an append: where it belongs, and how its caller is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from a2a.errors import StoreConflict
from a2a.stores.appending import end_after, tell


@pytest.mark.parametrize(("end", "count"), [(0, 0), (0, 1), (0, 3), (7, 0), (7, 2)])
def test_entries_behind_the_end_move_it_by_their_number(make_entries, end, count):
    assert end_after(end, make_entries(end + 1, count), end) == end + count


@pytest.mark.parametrize("expected", [0, 2, 4])
def test_another_end_than_the_expected_one_is_a_conflict_even_for_no_entries(make_entries, expected):
    for entries in ([], make_entries(expected + 1), make_entries(4)):
        with pytest.raises(StoreConflict, match=f"expected the log to end at {expected}, but it ends at 3"):
            end_after(3, entries, expected)


@pytest.mark.parametrize(
    ("first", "then", "needed", "got"),
    [(3, 4, 4, 3), (5, 6, 4, 5), (4, 4, 5, 4), (4, 6, 5, 6), (4, 3, 5, 3)],
    ids=["one there already", "a gap before", "one twice", "a gap between", "backwards"],
)
def test_entries_that_are_not_the_next_ones_are_a_conflict(make_entries, first, then, needed, got):
    with pytest.raises(StoreConflict, match=f"needs entry {needed} next, got entry {got}"):
        end_after(3, make_entries(first) + make_entries(then), 3)


async def test_callbacks_are_called_in_order_each_with_its_own_outcome():
    told: list[tuple[str, BaseException | None]] = []
    failure = OSError("disk full")
    tell(
        asyncio.get_running_loop(),
        [(lambda error: told.append(("first", error)), None), (lambda error: told.append(("second", error)), failure)],
    )
    assert told == [("first", None), ("second", failure)]


async def test_a_callback_that_raises_is_reported_and_those_behind_it_are_called():
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    bug, told = RuntimeError("a bug"), []

    def fail(error: BaseException | None) -> None:
        raise bug

    tell(loop, [(fail, None), (told.append, None)])
    assert told == [None]
    assert [context["exception"] for context in reported] == [bug]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
async def test_a_callback_that_ends_the_program_is_not_held_up(ending):
    def end(error: BaseException | None) -> None:
        raise ending

    with pytest.raises(ending):
        tell(asyncio.get_running_loop(), [(end, None)])
