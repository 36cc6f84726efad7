"""`a2a squad`: keep the agents of a squad running, show them, end them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from ..loop import stop_on_signals
from ..squads import Definition, Place, SquadError, bring_up, find_place, home_of, is_up, known, load, state_of
from .exits import ExitCode, Failure
from .groups import Group
from .loading import look_here
from .options import Connection, connection_options
from .output import Output
from .parameters import Seconds
from .processes import tell_restarts
from .signals import ended_by_sigterm
from .story import duration

__all__ = ["chosen_url", "described", "detach", "squad"]

DETACHED_LOG = "supervisor.log"


@click.group(cls=Group)
def squad() -> None:
    """Keep the agents of a squad running, each a process of its own, with a coordinator if none is running.

    NAME is `maintenance` or `desk`, or a module with a description of a squad (`SQUAD`), in this directory or where
    Python looks.
    """


_NAME = click.argument("name", default="maintenance")
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
_QUIET = click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only errors.")


def described(name: str) -> Definition:
    """Return the squad of that name, also if it is described in this directory; errors are those of `load`."""
    look_here()
    return load(name)


def chosen_url(connection: Connection) -> str | None:
    """Return the URL that somebody chose; None if it is the default."""
    source = click.get_current_context().get_parameter_source("url")
    return None if source in (None, click.core.ParameterSource.DEFAULT) else connection.url


@squad.command()
@_NAME
@click.option(
    "--db", type=click.Path(dir_okay=False, path_type=Path), help="The ledger of the coordinator, if one is started."
)
@click.option(
    "--with", "added", multiple=True, metavar="AGENT", help="Add an agent of the squad that is not started by default."
)
@click.option(
    "--detach", "-d", "is_detached", is_flag=True, help="Return when all agents are ready, and leave them running."
)
@click.option(
    "--ready-json",
    "--json",
    "ready_json",
    is_flag=True,
    help="When all agents are ready, write one JSON object about the squad to stdout.",
)
@_QUIET
@connection_options
def up(
    connection: Connection,
    name: str,
    db: Path | None,
    added: tuple[str, ...],
    is_detached: bool,
    ready_json: bool,
    is_quiet: bool,
) -> None:
    """Start a squad and keep it running until Ctrl-C, SIGTERM or `a2a squad down`.

    Agents that die are started again, and so is the coordinator, with the same ledger and port.
    """
    out = Output(ready_json, is_quiet)
    definition, url = described(name).including(added), chosen_url(connection)

    async def begin() -> None:
        place = await find_place(definition, url, token=connection.token, db=db)
        if await is_up(definition, place):
            raise SquadError(f"the squad {definition.name} is already up at {place.url}")
        if is_detached:
            with ended_by_sigterm():
                state = await detach(name, place, added)
            _announce(out, state)
        else:
            await _stay_up(definition, place, out)

    asyncio.run(begin())


async def _stay_up(definition: Definition, place: Place, out: Output) -> None:
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(stop_on_signals, stop)
        # A signal during the start has to end what already runs.
        with anyio.CancelScope() as scope:
            group.start_soon(_cancel_on, stop, scope)
            async with bring_up(definition, place, say=out.note) as running:
                _announce(out, state_of(definition.name, place.url).read() or {})
                group.start_soon(tell_restarts, running.supervisor, out.note)
                await stop.wait()
        group.cancel_scope.cancel()


async def _cancel_on(stop: anyio.Event, scope: anyio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def _announce(out: Output, state: dict[str, Any]) -> None:
    if out.as_json:
        out.record({key: state.get(key) for key in ("name", "url", "db", "supervisor", "logs")})
    else:
        out.note(f"the squad {state.get('name')} is up at {state.get('url')}; logs in {state.get('logs')}")


async def detach(name: str, place: Place, added: Sequence[str] = ()) -> dict[str, Any]:
    """Start a supervisor that outlives this command, and return its state once all agents are there.

    Cancelled before that, it ends the supervisor: nobody would know that the squad is up.

    Args:
        added: optional agents of the squad to start.

    Raises:
        SquadError: the squad did not come up.
    """
    definition = described(name)
    home = home_of(definition.name, place.url)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "a2a", "squad", "up", name, "--url", place.url, "--ready-json", "--quiet"]
    for agent in added:
        command += ["--with", agent]
    if place.db is not None:
        command += ["--db", str(place.db.absolute())]
    env = {**os.environ, **({"A2A_TOKEN": place.token} if place.token else {})}
    log = home / DETACHED_LOG
    process = _start(command, env, log)
    assert process.stdout is not None, "opened as a pipe"
    reading = asyncio.get_running_loop().run_in_executor(None, process.stdout.readline)
    try:
        line = await asyncio.shield(reading)
    except asyncio.CancelledError:
        process.terminate()
        await reading  # until the supervisor has ended its programs, and itself
        process.wait()
        raise
    finally:
        if reading.done():  # else the thread holds it
            process.stdout.close()
    state = state_of(definition.name, place.url).read() if line else None
    if state is None:
        process.wait()
        said = log.read_text(errors="replace").strip().removeprefix("a2a: ")
        raise SquadError(f"the squad {definition.name} did not come up: {said or 'it printed nothing'}")
    process.returncode = 0  # it is on its own now; nobody here waits for it
    return state


def _start(command: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env, start_new_session=True
        )


@squad.command()
@click.argument("name", required=False)
@_JSON
def ls(name: str | None, as_json: bool) -> None:
    """List the processes of the squads that are up."""
    out = Output(as_json)
    states = known(name)
    rows = []
    for state in states:
        for program in state["programs"]:
            if as_json:
                told = {"exitCode" if name == "exit_code" else name: value for name, value in program.items()}
                out.record({"squad": state["name"], "url": state["url"], **told})
            since = duration(max(0.0, time.time() - program["since"]))
            pid = "-" if program["pid"] is None else str(program["pid"])
            rows.append([state["name"], program["name"], pid, program["state"], str(program["restarts"]), since])
    if as_json:
        return
    if not states:
        others = sorted({state["name"] for state in known()})
        what = "no squad" if name is None else f"no squad {name}"
        hint = f"{', '.join(others)} is" if len(others) == 1 else f"{', '.join(others)} are"
        out.note(f"{what} is up; {hint if others else 'a2a squad up starts one'}")
        return
    for state in states:
        ledger = f", ledger in {state['db']}" if state["db"] else ""
        out.line(f"{state['name']} at {state['url']}{ledger}, supervisor {state['supervisor']}")
    out.table(["SQUAD", "AGENT", "PID", "STATE", "RESTARTS", "SINCE"], rows)


@squad.command()
@_NAME
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for it to end.",
)
@_JSON
@_QUIET
@connection_options
def down(connection: Connection, name: str, timeout: float, as_json: bool, is_quiet: bool) -> None:
    """Stop a squad and the coordinator it started. Work under way continues when the squad is up again."""
    out, url = Output(as_json, is_quiet), chosen_url(connection)
    definition = described(name)
    states = [state for state in known(definition.name) if url is None or state["url"] == url]
    if not states:
        raise Failure(f"no squad {definition.name} is up" + (f" at {url}" if url else ""))
    for state in states:
        file = state_of(definition.name, state["url"])
        try:
            os.kill(state["supervisor"], signal.SIGTERM)
        except ProcessLookupError:
            continue  # it ended at this very moment
        # A thread, because waiting for the lock has no time limit; the thread does not keep this command alive.
        waiting = threading.Thread(target=file.wait_released, daemon=True)
        waiting.start()
        waiting.join(timeout)
        if waiting.is_alive():
            text = f"the supervisor of {state['url']} (pid {state['supervisor']}) did not end in {timeout:g} s"
            raise Failure(text, ExitCode.TIMEOUT)
        if as_json:
            out.record({"name": definition.name, "url": state["url"], "supervisor": state["supervisor"]})
        else:
            out.note(f"{definition.name} at {state['url']} has ended")
