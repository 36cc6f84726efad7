"""Types of options that several commands have, and that click has not."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["NUMBER_MAX", "Seconds"]

NUMBER_MAX = 2**53 - 1
"""The greatest number that a message carries (spec WIRE-8)."""


class Seconds(click.FloatRange):
    """A duration that fits into a message, in milliseconds: click takes one that is endless, and one that is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not seconds * 1000 <= NUMBER_MAX:  # nan is not less than anything
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds
