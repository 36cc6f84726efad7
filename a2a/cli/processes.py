"""How a command starts others of this package, and what it says of those it keeps running.

What is kept running, and how, is `supervisor`'s. Used by `a2a dev`, `a2a agent run --workers`, `a2a run` and
`a2a squad`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from ..runner import DRAIN_GRACE
from ..supervisor import Supervisor

__all__ = ["A2A", "tell_restarts", "until_killed"]

A2A = (sys.executable, "-m", "a2a")
"""How a command of this package is started: by the interpreter and the source of whoever starts it."""


def until_killed(grace: float = DRAIN_GRACE) -> float:
    """Return the seconds from SIGTERM to SIGKILL of an agent that takes so many to end what it holds."""
    return grace + 5.0


async def tell_restarts(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    """Tell of every program that ended and is started again, for as long as the caller wants."""
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
                say(f"{program.name} ended ({how}) and is started again when one of its files changes")
        await news.wait()


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            pass
    return f"exit code {code}"
