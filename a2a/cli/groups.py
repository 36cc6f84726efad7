"""Groups of commands, whose help page says of each command all of its first sentence.

click cuts that off at the width of the terminal, and what a command is for often stands behind.
"""

from __future__ import annotations

import click

__all__ = ["Group"]

_SENTENCE_MAX = 1_000
"""Characters of a first sentence, beyond any there is; it is wrapped."""


class Group(click.Group):
    """A group of commands."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, it.get_short_help_str(_SENTENCE_MAX)) for name, it in commands if it])
