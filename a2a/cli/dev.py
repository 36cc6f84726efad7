"""`a2a dev`: a coordinator on this machine, and agents under development that restart when they change."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import click

from ..credentials import DEFAULT_URL
from ..loop import run as run_loop
from ..supervisor import Program, supervise
from .coordinator import announce, hosting, until_stopped
from .exits import ExitCode
from .loading import no_module, source_files
from .options import ready_json_option
from .output import Output
from .processes import A2A, tell_restarts, until_killed

__all__ = ["dev"]

LOOK_EVERY = 0.5
"""Seconds between two looks at the files: soon after a save, and no load on the processor."""
LOOK_SHARE = 0.05
"""The share of a core that looking may take: with many thousands of files, the looks come less often."""


@click.command()
@click.argument("specs", nargs=-1, metavar="[MODULE:AGENT]...")
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="The ledger's file.  [default: in memory]")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:7420",
    show_default=True,
    help="Where to listen; port 0 takes a free one.",
)
@ready_json_option
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only errors, and what the agents say.")
def dev(specs: tuple[str, ...], db: Path | None, listen: str, ready_json: bool, is_quiet: bool) -> None:
    """Run a coordinator on this machine, and the named agents, until Ctrl-C.

    Each agent is a process of its own, started again when it dies or when a Python file of its project changes.
    """
    for number, spec in enumerate(specs):
        if spec in specs[:number]:
            raise click.UsageError(f"expected each agent once, got {spec} again")
        # An agent that does not run yet may run after a change; a module that does not exist has no file to watch.
        if not source_files(spec):
            raise click.UsageError(no_module(spec, spec.partition(":")[0]))
    run_loop(lambda: _serve(specs, db, listen, Output(ready_json, is_quiet)))


async def _serve(specs: tuple[str, ...], db: Path | None, listen: str, out: Output) -> None:
    # The agents end first, while the coordinator can still take back what they do not finish.
    async with (
        hosting(db, listen) as hosted,
        supervise(grace=until_killed()) as supervisor,
        anyio.create_task_group() as group,
    ):

        def begin() -> None:
            announce(hosted, out)
            if hosted.url != DEFAULT_URL:
                out.note(f"for other terminals: export A2A_URL={hosted.url}")
            for spec in specs:
                quiet = ["--quiet"] * out.is_quiet
                command = (*A2A, "agent", "run", spec, "--url", hosted.url, *quiet)
                # A module that does not load fails alike until somebody has changed it.
                supervisor.start(Program(spec, command, halts_on=frozenset({ExitCode.USAGE})))
                group.start_soon(_watch, spec, supervisor.restart, out)
            group.start_soon(tell_restarts, supervisor, out.note)

        await until_stopped(hosted, begin)
        group.cancel_scope.cancel()


async def _watch(spec: str, restart: Callable[[str], None], out: Output) -> None:
    """Restart the agent whenever one of its files changes."""
    before, took = await anyio.to_thread.run_sync(_timed_stamps, spec)
    while True:
        await anyio.sleep(max(LOOK_EVERY, took / LOOK_SHARE))
        now, took = await anyio.to_thread.run_sync(_timed_stamps, spec)
        if changed := sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path)):
            before = now
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            out.note(f"{changed[0].name}{more} changed: {spec} is started again")
            restart(spec)


def _timed_stamps(spec: str) -> tuple[dict[Path, int], float]:
    """Return the stamps of a module's files, and the processor time in seconds it took to look at them."""
    begun = time.thread_time()
    return _stamps(spec), time.thread_time() - begun


def _stamps(spec: str) -> dict[Path, int]:
    """Return when each source file of a module was last changed; without those that cannot be looked at.

    A file may be missing while it is replaced, and a symbolic link may lead nowhere.
    """
    stamps = {}
    for path in source_files(spec):
        with suppress(OSError):
            stamps[path] = path.stat().st_mtime_ns
    return stamps
