"""Types of options that click has not."""

from __future__ import annotations

import click
import pytest

from a2a.cli.parameters import Seconds


@pytest.mark.parametrize("given", ["nan", "inf", "1e300", "-inf", "0", "soon"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds(min=0, min_open=True).convert(given, None, None)


@pytest.mark.parametrize("given", ["0.5", "3600", "9e12"])
def test_a_duration_is_taken_as_it_is(given: str) -> None:
    assert Seconds(min=0, min_open=True).convert(given, None, None) == float(given)
