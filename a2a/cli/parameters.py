"""Types of options that several commands have, and that click has not."""

from __future__ import annotations

from typing import Any

import click

from ..protocol.canonical import NUMBER_MAX

__all__ = ["Number", "Seconds"]


class Number(click.IntRange):
    """A whole number that fits into a message."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number > NUMBER_MAX:
            self.fail(f"expected a number up to {NUMBER_MAX}, got {number}.", param, ctx)
        return number


class Seconds(click.FloatRange):
    """A duration that fits into a message, in milliseconds: click takes one that is endless, and one that is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not seconds * 1000 <= NUMBER_MAX:  # nan is not less than anything
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds
