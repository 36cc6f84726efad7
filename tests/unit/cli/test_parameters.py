"""Types of options that click has not."""

from __future__ import annotations

import click
import pytest

from a2a.cli.parameters import Number, Seconds


@pytest.mark.parametrize("given", ["nan", "inf", "1e300", "-inf", "0", "soon"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds(min=0, min_open=True).convert(given, None, None)


@pytest.mark.parametrize("given", ["0.5", "3600", "9e12"])
def test_a_duration_is_taken_as_it_is(given: str) -> None:
    assert Seconds(min=0, min_open=True).convert(given, None, None) == float(given)


@pytest.mark.parametrize("given", ["-1", "1.5", "9007199254740992", "9" * 40, "many"])
def test_what_is_no_number_of_a_message_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="number|not in the range"):
        Number(min=0).convert(given, None, None)


def test_the_largest_number_of_a_message_is_taken() -> None:
    assert Number(min=0).convert("9007199254740991", None, None) == 2**53 - 1
