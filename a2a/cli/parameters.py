"""Types of options that several commands have, and that click lacks."""

from __future__ import annotations

from typing import Any

import click

from ..protocol.canonical import NUMBER_MAX

__all__ = ["Number", "Seconds"]


class Number(click.IntRange):
    """A whole number that fits in a message."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number > NUMBER_MAX:
            self.fail(f"expected a number up to {NUMBER_MAX}, got {number}.", param, ctx)
        return number


class Seconds(click.FloatRange):
    """A duration that fits in a message, in milliseconds: click accepts infinity and nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not seconds * 1000 <= NUMBER_MAX:  # a comparison with nan is false
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds
