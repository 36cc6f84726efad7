"""How a command starts other commands of this package, and what it reports of those it keeps running.

`supervisor` does the work of keeping them running. Used by `a2a dev`, `a2a agent run --workers`, `a2a run` and `a2a
squad`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from ..runner import DRAIN_GRACE
from ..supervisor import Supervisor

__all__ = ["A2A", "tell_restarts", "until_killed"]

A2A = (sys.executable, "-m", "a2a")
"""The start of the command line of a command of this package, with this process's interpreter and source."""


def until_killed(grace: float = DRAIN_GRACE) -> float:
    """Return the seconds from SIGTERM to SIGKILL for an agent with this grace."""
    return grace + 5.0


async def tell_restarts(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """Report every program that ended and is started again, until cancelled."""
    told: dict[str, int] = {}
    halted: dict[str, float] = {}
    while True:
        news = supervisor.news
        for program in supervisor.programs.values():
            if program.restarts > told.get(program.name, 0):
                told[program.name] = program.restarts
                say(f"{program.name} ended ({_exit(program.exit_code)}) and is started again")
            if program.state == "halted" and halted.get(program.name) != program.since:
                halted[program.name] = program.since
                how = _exit(program.exit_code)
                say(f"{program.name} ended ({how}) and will be started again when one of its files changes")
        await news.wait()


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            pass
    return f"exit code {code}"
