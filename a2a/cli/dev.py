"""`a2a dev`: a coordinator on this machine and the agents somebody is writing, started again when they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import click

from ..credentials import DEFAULT_URL
from ..loop import run as run_loop
from ..supervisor import Program, supervise
from .coordinator import announce, hosting, until_stopped
from .loading import no_module, source_files
from .options import ready_json_option
from .output import Output
from .processes import A2A, tell_restarts, until_killed

__all__ = ["dev"]

LOOK_EVERY = 0.5
"""Seconds between two looks at the files: soon enough for whoever just saved one, and nothing to the processor."""


@click.command()
@click.argument("specs", nargs=-1, metavar="[MODULE:AGENT]...")
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="Keep the ledger there.  [in memory]")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:7420", show_default=True, help="Port 0: a free one.")
@ready_json_option
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Nothing but errors, and what the agents say.")
def dev(specs: tuple[str, ...], db: Path | None, listen: str, ready_json: bool, is_quiet: bool) -> None:
    """Run a coordinator on this machine, and the agents named, until Ctrl-C.

    Each agent is a process of its own, started again when it dies or when the file of its module changes.
    """
    for spec in specs:
        # One that does not run yet may after its next change; one that is not there has no file to look at.
        if not source_files(spec):
            raise click.UsageError(no_module(spec, spec.partition(":")[0]))
    run_loop(lambda: _serve(specs, db, listen, Output(ready_json, is_quiet)))


async def _serve(specs: tuple[str, ...], db: Path | None, listen: str, out: Output) -> None:
    # The agents end first: they have a coordinator to give back to what they do not finish.
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
                supervisor.start(Program(spec, (*A2A, "agent", "run", spec, "--url", hosted.url, *quiet)))
                group.start_soon(_watch, spec, supervisor.restart, out)
            group.start_soon(tell_restarts, supervisor, out.note)

        await until_stopped(hosted, begin)
        group.cancel_scope.cancel()


async def _watch(spec: str, restart: Callable[[str], None], out: Output) -> None:
    """Have the agent started again whenever a file of its module has changed."""
    before = await anyio.to_thread.run_sync(_stamps, spec)
    while True:
        await anyio.sleep(LOOK_EVERY)
        now = await anyio.to_thread.run_sync(_stamps, spec)
        if now != before:
            before = now
            out.note(f"{spec} has changed")
            restart(spec)


def _stamps(spec: str) -> dict[Path, int]:
    """Return when each file of a module was changed; one that is just being replaced is missing."""
    stamps = {}
    for path in source_files(spec):
        try:
            stamps[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return stamps
