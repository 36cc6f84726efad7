"""The command `a2a`: its commands, and how their errors are reported.

A command's module is loaded when the command is used; `a2a --help` takes everything from the table. Only this module
turns exceptions into a sentence on stderr and an exit code. Imports that only commands need happen when there is one,
so that the help page appears at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from .exits import ExitCode

__all__ = ["COMMANDS", "cli", "exit_code", "main", "run"]

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: dict[str, tuple[str, str, str]] = {
    "dev": (".dev", "dev", "A coordinator and the agents you are writing, started again when they change."),
    "coordinator": (".coordinator", "coordinator", "Run the coordinator, and back up its ledger."),
    "agent": (".agents", "agent", "Run agents, turn any program into one, and list them."),
    "delegate": (".delegate", "delegate", "Have a task done, and print its result."),
    "task": (".tasks", "task", "Look at tasks; confirm, reject or cancel them."),
    "answer": (".tasks", "answer", "Answer a task's question."),
    "claim": (".claims", "claim", "See who holds which resources, and who waits for them."),
    "conflict": (".conflicts", "conflict", "Look at answers that contradict each other, and decide."),
    "context": (".context", "context", "Read, write and watch what the tasks of a context share."),
    "gateway": (".gateway", "gateway", "Let any client of A2A use the agents here, over HTTP."),
    "mcp": (".mcp", "mcp", "Let an MCP host, such as an editor, use the agents here as tools."),
    "tap": (".tap", "tap", "See every frame between a coordinator and its peers."),
    "replay": (".replay", "replay", "Read a ledger record by record, or prove that it adds up."),
    "run": (".run", "run", "Have the maintenance squad work on a repository."),
    "ask": (".ask", "ask", "Have a squad answer a question from a folder of documents."),
    "squad": (".squad", "squad", "Start and stop the agents of a squad."),
    "schema": (".schema", "schema", "Write the protocol's JSON Schemas."),
    "conformance": (".conformance", "conformance", "Test an implementation of the protocol against its specification."),
    "bench": (".bench", "bench", "Measure how many tasks a coordinator carries, and how long one takes."),
    "doctor": (".doctor", "doctor", "Find out what is wrong with this installation."),
    "completion": (".completion", "completion", "Write the script for shell completion."),
}
"""Name to module, attribute and short help, in the order of the help page."""


class LazyGroup(click.Group):
    """A group that loads a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        _log_to_stderr()
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module, __package__), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, _, text) in COMMANDS.items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [item for item in found if item.value.startswith(incomplete)] + options

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        from .. import __version__

        click.echo(f"a2a {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Agents as separate processes: they discover each other, delegate tasks and acknowledge results.

    `a2a dev` starts a coordinator to play with; `a2a COMMAND --help` says more. A2A_LOG=DEBUG shows every frame of one
    command, `a2a tap` shows those of all peers.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    code = run(arguments)
    _let_go_of_streams()
    sys.exit(code)


def _let_go_of_streams() -> None:
    """Leave nothing for Python to write at exit, where it would fail with 120 if nobody reads the streams."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return int(cli.main(arguments, prog_name="a2a", standalone_mode=False, terminal_width=_width()) or 0)
    except Exception as error:
        import logging

        logging.getLogger("a2a.cli").debug("the command failed", exc_info=True)
        from ..errors import leaves

        return _explain(leaves(error)[0])


def _width() -> int:
    """Return the width of help pages: click's own rule, without the module it uses, whose import takes 2 ms."""
    named = os.environ.get("COLUMNS", "")
    columns = int(named) if named.isdecimal() else 0
    if not columns:
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
        except (AttributeError, ValueError, OSError):  # there is no such stream, or it is not a terminal
            columns = 80
    return max(min(columns, 80) - 2, 50)


def _log_to_stderr() -> None:
    """Write the log to stderr, from the level that A2A_LOG names.

    Raises:
        UsageError: it names no level.
    """
    import logging

    named = os.environ.get("A2A_LOG") or "WARNING"
    if named.upper() not in logging.getLevelNamesMapping():
        raise click.UsageError(f"A2A_LOG: expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got {named!r}")
    logging.basicConfig(level=named.upper(), format="%(levelname)s %(name)s: %(message)s")


def _explain(cause: BaseException) -> int:
    """Report an error, and return its exit code."""
    code = exit_code(cause)
    if code != ExitCode.INTERRUPTED:
        with suppress(OSError):  # nobody reads stderr any longer; the exit code still tells
            _tell(cause)
    return code


def _tell(cause: BaseException) -> None:
    from ..errors import A2AError
    from .output import escape

    if isinstance(cause, click.UsageError):
        cause.show()
        return
    if isinstance(cause, click.ClickException):
        text = cause.format_message()
    elif isinstance(cause, FileNotFoundError) and cause.filename is None and _is_nowhere():
        text = "the working directory no longer exists: go to one that does"
    elif isinstance(cause, OSError) and cause.strerror:
        text = f"{cause.filename}: {cause.strerror}" if cause.filename else cause.strerror
    elif isinstance(cause, A2AError | OSError):
        text = str(cause) or type(cause).__name__
    elif isinstance(cause, ImportError) and cause.name:
        text = f"{cause.name} cannot be imported: {cause}"
    else:
        text = f"{type(cause).__name__}: {cause} (a bug; A2A_LOG=DEBUG shows where)"
    if text.startswith("nothing listens"):
        text += "\n     `a2a coordinator run` starts one, `a2a dev` one to play with, `a2a doctor` says what is wrong"
    click.echo(f"a2a: {escape(text, lines=True)}", err=True)


def _is_nowhere() -> bool:
    """Tell whether somebody has removed the working directory; the error that this causes names no file."""
    from pathlib import Path

    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def exit_code(error: BaseException) -> int:
    """Return the exit code for an exception."""
    from .. import errors

    if isinstance(error, click.ClickException):
        return error.exit_code
    codes: tuple[tuple[type[BaseException], ExitCode], ...] = (
        (click.Abort, ExitCode.INTERRUPTED),
        (errors.ConnectError, ExitCode.NOT_CONNECTED),
        (errors.ConnectionLost, ExitCode.NOT_CONNECTED),
        (errors.Unauthenticated, ExitCode.NOT_CONNECTED),
        (TimeoutError, ExitCode.TIMEOUT),
        (errors.TaskRejected, ExitCode.REJECTED),
        (errors.TaskError, ExitCode.TASK_FAILED),
    )
    if isinstance(error, errors.TaskFailed) and error.reason == "rejected":
        return ExitCode.REJECTED  # a result that was finally rejected: the task's state is `failed` (spec ACCEPT-5)
    # The first match counts; everything else is a failure.
    return next((code for kind, code in codes if isinstance(error, kind)), ExitCode.FAILED)
