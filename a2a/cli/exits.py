"""The exit codes of commands. Separate from the options, so that `a2a --help` loads this and not those."""

from __future__ import annotations

from enum import IntEnum

import click

__all__ = ["ExitCode", "Failure"]


class ExitCode(IntEnum):
    """The exit code of a command; scripts and supervisors rely on these numbers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_CONNECTED = 3
    TIMEOUT = 4
    TASK_FAILED = 5
    CONFLICT_OPEN = 6
    REJECTED = 7
    NOT_CONFORMANT = 8
    LEDGER_LOST = 70
    """The ledger can no longer be written (EX_SOFTWARE of sysexits.h): start the coordinator again. Or it is an older
    copy than one an agent knows."""
    INTERRUPTED = 130


class Failure(click.ClickException):
    """The command cannot do its work, for a reason that no other exception covers."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click means a default for a subclass
