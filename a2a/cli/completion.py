"""`a2a completion`: the script with which a shell completes commands, options and the coordinator's ids and names.

The script asks `a2a` itself at each tab, through an environment variable that click reads. The answer comes from the
table in `main`, so that a tab loads only the command that is being typed; the coordinator is asked only for its ids and
names (`identifiers`).
"""

from __future__ import annotations

import os
from pathlib import PurePath

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

__all__ = ["VARIABLE", "completion"]

VARIABLE = "_A2A_COMPLETE"
"""The variable through which a script asks; click derives the same name from the command's."""
SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Write the completion script for SHELL, by default for this user's shell.

    Tab completes commands and options. If a coordinator answers within a second, Tab also completes its tasks,
    conflicts, contexts, claims, agents and skills, the newest hundred of each.

    \b
    bash, in ~/.bashrc:                     eval "$(a2a completion bash)"
    zsh, in ~/.zshrc:                       eval "$(a2a completion zsh)"
    fish, in ~/.config/fish/config.fish:    a2a completion fish | source
    """
    named = shell or PurePath(os.environ.get("SHELL", "")).name
    if named not in SHELLS:
        raise click.UsageError(f"expected one of {', '.join(SHELLS)}; $SHELL names {named or 'nothing'}")
    root = ctx.find_root()
    # The template itself, not `source()`: that one starts a bash to ask for its version.
    made = SHELLS[named](root.command, {}, "a2a", VARIABLE)
    click.echo(made.source_template % made.source_vars())
