"""Groups of commands whose help page shows the whole first sentence of each command.

click cuts the sentence off at the width of the terminal, and its end often says what the command is for.
"""

from __future__ import annotations

import click

__all__ = ["Group"]

_SENTENCE_MAX = 1_000
"""More characters than any first sentence has; longer lines are wrapped."""


class Group(click.Group):
    """A group of commands."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, it.get_short_help_str(_SENTENCE_MAX)) for name, it in commands if it])
