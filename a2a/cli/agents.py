"""`a2a agent ...`: run agents, make any program an agent, and look at the known agents."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from .. import supervisor
from ..agent import Agent
from ..client import Client
from ..credentials import check_state_dir
from ..delegator import AgentInfo
from ..loop import run as run_loop
from ..loop import stop_on_signals
from ..runner import DRAIN_GRACE
from .exits import ExitCode, Failure
from .groups import Group
from .identifiers import AGENT
from .loading import load_agent
from .options import Common, Connection, common_options, connection_options, read_token, require_extra
from .output import Output, escape
from .parameters import Seconds
from .processes import A2A, tell_restarts, until_killed
from .programs import Program, program_agent
from .story import duration, how_far, refused_lines, seconds_between

if TYPE_CHECKING:
    from ..gateways.calling import Caller

__all__ = ["agent"]


@click.group(cls=Group)
def agent() -> None:
    """Run agents, turn any program into one, and list them."""


_JSON = click.option("--json", "as_json", is_flag=True, help="When ready, write one JSON object to stdout.")
_QUIET = click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only errors.")
_FILE = click.Path(dir_okay=False, path_type=Path)
_NAME = click.option("--name", metavar="AGENT", help="The agent id to appear under.")
_GRACE = click.option(
    "--grace",
    type=Seconds(min=0),
    metavar="SECONDS",
    default=DRAIN_GRACE,
    show_default=True,
    help="Time to finish its tasks at its end.",
)


@agent.command("run")
@click.argument("spec", metavar="MODULE:VARIABLE")
@click.option("--workers", type=click.IntRange(1, 1000), default=1, help="Processes; several are named AGENT/1, ...")
@_NAME
@_GRACE
@connection_options
@_JSON
@_QUIET
def run_agent(
    connection: Connection,
    spec: str,
    workers: int,
    name: str | None,
    grace: float,
    as_json: bool,
    is_quiet: bool,
) -> None:
    """Run an agent from a Python module, until SIGTERM or Ctrl-C.

    When told to stop, it takes no new tasks, has --grace to finish those it holds, and gives the rest back. Workers
    that die are started again.
    """
    loaded = load_agent(spec)
    out = Output(as_json, is_quiet)
    if workers == 1:
        run_loop(lambda: _serve(loaded, connection, name or loaded.name, grace, out))
        return
    stem = name or loaded.name
    options = ["--grace", str(grace), *["--json"] * as_json, *["--quiet"] * is_quiet]
    programs = [
        supervisor.Program(worker, (*A2A, "agent", "run", spec, "--name", worker, *options))
        for worker in (f"{stem}/{number}" for number in range(1, workers + 1))
    ]
    # Through the environment: every user of the machine can read a command line.
    os.environ["A2A_URL"] = connection.url
    if connection.token is not None:
        os.environ["A2A_TOKEN"] = connection.token
    run_loop(lambda: _supervise(programs, grace, out))


@agent.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--skill", required=True, help="What the program does, as delegators ask for it.")
@_NAME
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Most runs at the same time."
)
@click.option("--timeout", type=Seconds(min=0, min_open=True), metavar="SECONDS", help="The limit for one run.")
@_GRACE
@connection_options
@_JSON
@_QUIET
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def exec_agent(
    connection: Connection,
    skill: str,
    name: str | None,
    concurrency: int,
    timeout: float | None,
    grace: float,
    as_json: bool,
    is_quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Turn any program into an agent, as in: a2a agent exec --skill upper -- tr a-z A-Z

    The program reads the input from stdin: text as it is, anything else as JSON. What it writes to stdout is the
    result: JSON if it parses, else text. An exit code other than 0 is a failure, with the end of stderr as its reason;
    after exit code 75 another attempt is made.
    """
    if not skill.strip():
        raise click.UsageError("--skill: expected the name of a skill, got none")
    if shutil.which(command[0]) is None:
        raise click.UsageError(f"{command[0]}: there is no such program")
    made = program_agent(Program(command, timeout), skill, name=name, concurrency=concurrency)
    run_loop(lambda: _serve(made, connection, made.name, grace, Output(as_json, is_quiet)))


@agent.command("remote")
@click.argument("remote", metavar="URL")
@click.option("--bearer-file", type=_FILE, help="A file with the bearer token for the remote agent.")
@click.option(
    "--header-file",
    "header_files",
    multiple=True,
    metavar="NAME=FILE",
    help="A header to send, with its value in a file; may be given several times.",
)
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="HOST",
    help="Another host, besides the card's, that requests may go to; may be given several times.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Most tasks at the same time."
)
@click.option(
    "--away",
    type=Seconds(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the remote agent may be away, or take to answer a message, before an attempt fails.",
)
@click.option(
    "--name",
    metavar="AGENT",
    help="The agent id to appear under; by default remote-NAME@HOST:PORT/PATH, with the name on the card and URL.",
)
@_GRACE
@connection_options
@_JSON
@_QUIET
def remote_agent(
    connection: Connection,
    remote: str,
    bearer_file: Path | None,
    header_files: tuple[str, ...],
    allowed: tuple[str, ...],
    name: str | None,
    grace: float,
    as_json: bool,
    is_quiet: bool,
    **how: Any,
) -> None:
    """Turn a remote agent that speaks A2A 1.0 into an agent here, as in: a2a agent remote https://agents.example.com

    URL is the address of the agent, with its card at /.well-known/agent-card.json below it, or the address of the card.
    The agent's skills are those of the card, which is fetched again every five minutes. The command speaks JSON-RPC and
    HTTP+JSON, with and without streams.

    Every attempt at a task sends the same messageId, so that the task continues after any crash. Tokens are in files,
    which are read for each request.
    """
    require_extra("agent remote", "remote", "httpx2")
    from ..gateways.calling import Caller, card_url

    files = {"Authorization": ("--bearer-file", bearer_file)} if bearer_file is not None else {}
    for given in header_files:
        header, is_there, path = given.partition("=")
        if not is_there or not path or not re.fullmatch(r"[A-Za-z0-9-]+", header):
            raise click.BadParameter(f"expected NAME=FILE, got {given!r}", param_hint="--header-file")
        if header.lower() in map(str.lower, files):  # a server that gets two refuses both, or takes the wrong one
            raise click.BadParameter(f"expected each header once, got {header} again", param_hint="--header-file")
        files[header] = ("--header-file", Path(path))

    said: dict[str, str] = {}

    def headers() -> dict[str, str]:
        with nullcontext() if not said else suppress(click.BadParameter):  # a file may be missing while it is replaced
            said.update({header: _header(header, *files[header]) for header in files})
        return said

    headers()
    try:
        caller = Caller(card_url(remote), headers=headers, allowed=[host.lower() for host in allowed])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from error
    run_loop(lambda: _serve_remote(caller, connection, name, grace, Output(as_json, is_quiet), **how))


def _header(header: str, option: str, path: Path) -> str:
    value = read_token(path, option) or ""
    if not value.isascii() or not value.isprintable():  # an error about it would show it
        raise click.BadParameter(f"{path}: expected one line of printable ASCII", param_hint=option)
    return f"Bearer {value}" if option == "--bearer-file" else value


async def _serve_remote(
    caller: Caller, connection: Connection, name: str | None, grace: float, out: Output, **how: Any
) -> None:
    from ..gateways.calling import Unanswered, wanted
    from ..gateways.carrier import Faulted
    from ..gateways.remote import RemoteAgent

    stop = anyio.Event()

    async def give_up() -> None:
        await stop.wait()
        reaching.cancel()

    async def end_circle(made: RemoteAgent) -> None:
        await made.came_back.wait()
        stop.set()

    async with caller, anyio.create_task_group() as group:
        await group.start(stop_on_signals, stop)  # the remote may take half a minute to show its card
        with anyio.CancelScope() as reaching:
            group.start_soon(give_up)
            try:
                card = await caller.card()
                made = RemoteAgent(caller, card, name=name, **how)
            except Unanswered as error:
                raise Failure(str(error), ExitCode.NOT_CONNECTED) from error
            except (ValueError, Faulted) as error:
                raise Failure(f"{caller.asked}: {error}") from error
        if not reaching.cancelled_caught:
            if missing := wanted(card, caller.headers()):
                out.note(f"{caller.asked}: the agent asks for {missing}")
                out.note("without it, tasks will fail, unless the card asks for more than the agent needs")
            group.start_soon(made.keep_card)
            group.start_soon(end_circle, made)
            await _serve(made, connection, made.name, grace, out, stop)
            if made.came_back.is_set():
                raise Failure(f"{caller.asked} leads to the same coordinator, {connection.url}: a task came back")
        group.cancel_scope.cancel()


async def _serve(
    served: Agent, connection: Connection, name: str, grace: float, out: Output, stop: anyio.Event | None = None
) -> None:
    check_state_dir()

    def say_ready() -> None:
        skills = list(served.skills)
        if out.as_json:
            out.record({"agent": name, "url": connection.url, "skills": skills, "pid": os.getpid()})
        else:
            out.note(f"{name} is ready at {connection.url}: {', '.join(skills)}")

    async with anyio.create_task_group() as group:
        if stop is None:
            stop = anyio.Event()
            group.start_soon(stop_on_signals, stop)
        await served.run(connection.url, token=connection.token, name=name, stop=stop, ready=say_ready, grace=grace)
        group.cancel_scope.cancel()
    served.leave(0)


async def _supervise(programs: Sequence[supervisor.Program], grace: float, out: Output) -> None:
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(stop_on_signals, stop)
        async with supervisor.supervise(grace=until_killed(grace)) as kept:
            for program in programs:
                kept.start(program)
            group.start_soon(tell_restarts, kept, out.note)
            await stop.wait()
        group.cancel_scope.cancel()


# Looking --------------------------------------------------------------------------------------------------------------


@agent.command("ls")
@click.option("--skill", help="Only agents with this skill.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(["ready", "draining", "away"]),
    multiple=True,
    help="Only agents with this status; may be given several times.",
)
@common_options()
def list_agents(common: Common, skill: str | None, statuses: tuple[str, ...]) -> None:
    """Show all known agents, including those that are away, with skills, load and when they were last heard from."""
    known = common.read(lambda client: client.find(skill))
    found = [info for info in known if not statuses or info.status in statuses]
    if common.out.as_json:
        for info in found:
            common.out.record(_shown(info))
        return
    if not found:
        common.out.note(_nobody(skill, statuses if known else ()))
        return
    common.out.table(
        ("AGENT", "STATUS", "LOAD", "HEARD", "SKILLS"),
        [
            (
                info.agent_id,
                info.status,
                f"{len(info.holding)}/{info.credit}",
                "-" if info.seen is None else f"{info.seen:.1f} s ago",
                ", ".join(info.skills),
            )
            for info in found
        ],
    )


def _nobody(skill: str | None, statuses: Sequence[str]) -> str:
    """Return the message for when no agent matches both filters."""
    status = f"is {' or '.join(statuses)}" if statuses else ""
    if skill is None:
        return f"no agent {status or 'is known'}"
    return f"no agent {status and f'{status} and '}has the skill {skill}"


@agent.command("show")
@click.argument("agent_id", metavar="AGENT", type=AGENT)
@common_options()
def show_agent(common: Common, agent_id: str) -> None:
    """Show one agent: its card, the tasks it holds and how far they are, and who was refused under its name.

    Refusals are shown even for a name without a card.
    """

    async def work(client: Client) -> None:
        found = await client.find(agent=agent_id)
        if not found:
            _show_refused(common.out, agent_id, await client.refused_hellos(agent_id))
            return
        (info,) = found
        tasks = [await client.get(task) for task in info.holding]
        if common.out.as_json:
            common.out.record({**_shown(info), "tasks": tasks})
            return
        out = common.out
        card = info.card
        out.line(f"{info.agent_id}  {info.status}  version {card.get('version', '-')}")
        out.line(f"  {card.get('description', '')}")
        for label, value in sorted(info.labels.items()):
            out.line(f"  {label}={value}")
        heard = "away" if info.seen is None else f"heard from {info.seen:.1f} s ago"
        out.line(f"  {heard}, holds {len(info.holding)} of {info.credit} tasks")
        if info.quarantine is not None:
            left = f"{info.quarantine['left']:.0f} s"
            out.line(f"  gets no offers for another {left}: processes take its id from each other")
            ended = common.connection.typed(f"conflict resolve {info.quarantine['conflict']} none")
            out.line(f"  stop all but one of them, then: {ended}")
        for skill in card.get("skills", ()):
            tags = f"  [{', '.join(skill['tags'])}]" if skill.get("tags") else ""
            out.line(f"  skill {skill['id']}: {skill.get('description', '')}{tags}")
        now = datetime.now(UTC).isoformat()
        for task in tasks:
            metadata = task["metadata"]
            parts = [metadata["skill"], metadata["state"], f"attempt {metadata['attempt']}"]
            parts.append(f"for {duration(seconds_between(task['status']['timestamp'], now))}")
            out.line(escape(f"  task {task['id']}: {', '.join(part for part in (*parts, how_far(metadata)) if part)}"))
        for line in refused_lines(info.refused):
            out.line(escape(line))

    common.read(work)


@agent.command("drain")
@click.argument("agent_id", metavar="AGENT", type=AGENT)
@click.option("--grace", type=Seconds(min=0), metavar="SECONDS", help="Give back what it still holds after this long.")
@common_options()
def drain_agent(common: Common, agent_id: str, grace: float | None) -> None:
    """Have an agent take no new tasks; it finishes those it holds, or gives them back. Needs the operator's token."""

    async def work(client: Client) -> AgentInfo:
        await _find(client, agent_id)
        await client.drain(agent_id, grace)
        return await _find(client, agent_id)

    info = common.run(work)
    if common.out.as_json:
        common.out.record(_shown(info))
    else:
        common.out.note(f"{agent_id} takes no new tasks; it holds {len(info.holding)} tasks")


@agent.command("forget")
@click.argument("agent_id", metavar="AGENT", type=AGENT)
@click.option("--secret", "secret_only", is_flag=True, help="Forget only its secret, because the agent has lost it.")
@common_options()
def forget_agent(common: Common, agent_id: str, secret_only: bool) -> None:
    """Forget an agent that will not come back: its card, its mail and its secret. Needs the operator's token.

    The agent must not hold, have delegated, have claimed or be a party to anything that is still open. With --secret,
    all of that stays as it is. The next peer that connects under its name is taken for it and gets a new secret: start
    the agent right away, before somebody else connects.
    """

    async def work(client: Client) -> bool:
        return await client.forget(agent_id, secret_only=secret_only)

    if not common.run(work):
        raise Failure(f"nothing is known about {agent_id}")
    if common.out.as_json:
        common.out.record({"agent": agent_id, "forgotten": "secret" if secret_only else "agent"})
    elif secret_only:
        common.out.note(f"the secret of {agent_id} is forgotten: start it now; its next connection gets a new one")
    else:
        common.out.note(f"{agent_id} is forgotten")


def _show_refused(out: Output, agent_id: str, refused: list[dict[str, Any]]) -> None:
    """Show the refused hellos of an agent without a card on file."""
    if not refused:
        raise Failure(f"there is no agent {agent_id}")
    if out.as_json:
        out.record({"agent": agent_id, "card": None, "refused": refused})
        return
    out.line(f"{escape(agent_id)}  has no card on file")
    for line in refused_lines(refused):
        out.line(escape(line))


async def _find(client: Client, agent_id: str) -> AgentInfo:
    found = await client.find(agent=agent_id)
    if not found:
        raise Failure(f"there is no agent {agent_id}")
    return found[0]


def _shown(info: AgentInfo) -> dict[str, object]:
    return {
        "agent": info.agent_id,
        "status": info.status,
        "skills": info.skills,
        "labels": info.labels,
        "credit": info.credit,
        "holding": list(info.holding),
        "seenMs": None if info.seen is None else round(info.seen * 1000),
        "refused": list(info.refused),
        "quarantine": info.quarantine,
        "card": info.card,
    }
