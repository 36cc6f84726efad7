from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from a2a.given import milliseconds, milliseconds_if_any, several, text


@pytest.mark.parametrize("given, expected", [(1, 1_000), (0.0015, 2), (timedelta(minutes=1), 60_000), (-1, -1_000)])
def test_times_travel_in_milliseconds(given: float | timedelta, expected: int) -> None:
    assert milliseconds(given, "deadline") == expected


@pytest.mark.parametrize("given", ["soon", None, float("inf"), float("nan")])
def test_what_is_no_time_is_named(given: Any) -> None:
    with pytest.raises(ValueError, match="^deadline: expected a number of seconds, got"):
        milliseconds(given, "deadline")


def test_a_time_that_was_left_out_stays_so() -> None:
    assert milliseconds_if_any(None, "deadline") is None
    assert milliseconds_if_any(1.5, "deadline") == 1_500
    with pytest.raises(ValueError, match="^deadline: expected a number of seconds, got"):
        milliseconds_if_any(float("nan"), "deadline")


def test_several_are_a_list_and_no_text() -> None:
    assert several(("a", "b"), "tags") == ["a", "b"]
    with pytest.raises(ValueError, match="^tags: expected a list, got the text 'ab'$"):
        several("ab", "tags")
    with pytest.raises(ValueError, match="^resolve: expected a list, got the map {'strategy': 'human'}$"):
        several({"strategy": "human"}, "resolve")  # type: ignore[arg-type]


def test_what_is_said_can_be_sent_whatever_it_was_and_however_long() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise KeyError("no")

    assert text("half \ud800", 100) == "half \\ud800"
    assert text("long", 3) == "lon"
    assert text(7, 100) == "7"
    assert text(Broken(), 100) == "str() of this Broken raised KeyError"
