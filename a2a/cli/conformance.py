"""`a2a conformance`: run the suite against any implementation of the protocol, in any language."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from ..conformance import playing, reports
from ..conformance.case import Case, Failed, Need, Role
from ..conformance.clearing import GREETING, clear
from ..conformance.conversation import PATIENCE
from ..conformance.forms import Forms
from ..conformance.page import as_html
from ..conformance.peer import Coordinator, Settings
from ..conformance.requirements import LEVELS, Level, requirements
from ..conformance.restarting import restarting
from ..conformance.runner import JOBS, Outcome
from ..conformance.socket import Closed
from ..conformance.stand_in import PeerSettings
from ..conformance.uncovered import REASONS
from ..conformance.wire import JSON, MSGPACK
from ..credentials import load_tokens
from ..errors import ConnectError
from .exits import ExitCode, Failure
from .groups import Group
from .options import read_token
from .output import Output

__all__ = ["conformance"]

T = TypeVar("T")

ENCODINGS = {JSON: (JSON,), MSGPACK: (MSGPACK,), "both": (JSON, MSGPACK)}


@click.group(cls=Group)
def conformance() -> None:
    """Test an implementation of the protocol against the specification, case by case."""


def _directory_is_there(_: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse before the run a path that could not be written after it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {path.parent}", param=parameter)
    return path


def _words(_: click.Context, parameter: click.Parameter, command: str | None) -> str | None:
    try:
        if command is not None and not shlex.split(command):
            raise ValueError("it is empty")
    except ValueError as error:
        raise click.BadParameter(f"{command!r} is not a command line: {error}", param=parameter) from error
    return command


def _websocket(_: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    try:
        parts = urlsplit(url or "")
        is_good = url is None or (parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise click.BadParameter(f"{url!r}; expected ws://HOST:PORT or wss://HOST:PORT", param=parameter)
    return url


def _address(_: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        is_good = parts.netloc == text and parts.username is None and parts.hostname and parts.port is not None
    except ValueError:
        is_good = False
    if not is_good:
        raise click.BadParameter(f"{text!r}; expected HOST:PORT", param=parameter)
    return text


_ROLE = click.Choice([role.value for role in Role])
_REPORT = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Plan:
    """The cases to try, and the implementation to try them on."""

    role: Role
    cases: Sequence[Case]
    encodings: tuple[str, ...]
    jobs: int
    url: str | None
    command: str | None
    restart: str | None
    token_file: str
    operator_token_file: str
    listen: str
    out: Output
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def peer(self) -> str:
        """The implementation, for the report."""
        return self.command or self.url or f"who came to {self.listen}"


@conformance.command()
@click.argument("names", nargs=-1, metavar="[AREA|REQUIREMENT|CASE]...")
@click.option("--role", type=_ROLE, default=Role.COORDINATOR.value, show_default=True, help="What to test.")
@click.option("--url", metavar="URL", callback=_websocket, help="Where the coordinator to test listens.")
@click.option("--token-file", default="", metavar="FILE", help="The token; with --cmd it may name {state} and {port}.")
@click.option("--operator-token-file", default="", metavar="FILE", help="The operator's token, in the same way.")
@click.option(
    "--cmd",
    "command",
    callback=_words,
    help="The command that starts the peer to test; see above for the {names} it may contain.",
)
@click.option(
    "--restart", metavar="COMMAND", help="A shell command that kills the coordinator at --url and starts it again."
)
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where the suite waits for an agent or a client.",
)
@click.option(
    "--encoding", type=click.Choice(list(ENCODINGS)), default=JSON, show_default=True, help="The encoding of frames."
)
@click.option(
    "--strict", "is_strict", is_flag=True, help="A failed SHOULD or MAY counts too, and so does a skipped case."
)
@click.option("--jobs", type=click.IntRange(min=1), default=JOBS, show_default=True, help="Cases run at the same time.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object to stdout.")
@click.option("--json-file", type=_REPORT, callback=_directory_is_there, help="Write the JSON report to this file too.")
@click.option("--junit", type=_REPORT, callback=_directory_is_there, help="The report as JUnit XML.")
@click.option("--html", type=_REPORT, callback=_directory_is_there, help="The report as a self-contained HTML page.")
@click.option("--md", type=_REPORT, callback=_directory_is_there, help="The report as Markdown, for pasting.")
@click.option("--verbose", "-v", "is_verbose", is_flag=True, help="Print a line for each case as it finishes.")
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only the verdict and errors.")
def run(
    names: tuple[str, ...],
    role: str,
    command: str | None,
    encoding: str,
    is_strict: bool,
    as_json: bool,
    json_file: Path | None,
    junit: Path | None,
    html: Path | None,
    md: Path | None,
    is_verbose: bool,
    is_quiet: bool,
    **given: Any,
) -> None:
    """Run cases against a coordinator, an agent or a client: all cases of its role, unless some are named.

    Whichever cases run, the frames they receive are checked against the schemas of their kinds: the case
    WIRE-3/every_frame_fits_the_schema_of_its_kind is always among them.

    A coordinator is the one at --url, or one that --cmd starts; the latter is also killed and started again. With the
    operator's token, the run ends by cancelling the tasks that the cases left open at --url and forgetting their
    agents, as far as the coordinator allows within 5 seconds. Their tasks, contexts and conflicts still stay in its
    ledger: do not test a coordinator whose ledger you want to keep. For agents and clients, the suite listens and
    starts --cmd; without --cmd it says where it listens, and waits. Exit code 8: the implementation does not conform, a
    MUST failed.

    In --cmd, {state} is a directory of its own, also in A2A_STATE_DIR; {port} is where a coordinator has to listen. For
    an agent or a client, {url} and {token} are also in A2A_URL and A2A_TOKEN, and {encoding} is json or msgpack; for a
    client, {skill}, {key} and {input}, a text, say what to delegate.
    """
    out = Output(as_json, is_quiet)
    cases = _with_those_about_others(Role(role), _chosen(Role(role), names))
    plan = Plan(Role(role), cases, ENCODINGS[encoding], command=command, out=out, **given)
    _check(plan)
    began, started = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    say = out.note if as_json else out.line

    def told(outcome: Outcome) -> None:
        if is_verbose and not is_quiet:
            say(reports.line(outcome))

    out.note(f"{len(plan.cases)} cases on {plan.peer}, in {' and '.join(plan.encodings)}")
    outcomes, version = _run_to_the_end(_play(plan, told))
    facts = reports.Facts(plan.role, plan.peer, plan.encodings, began, time.monotonic() - started, version, is_strict)
    report = reports.Report.of(facts, outcomes, playing.cases())
    files = ((json_file, reports.as_json), (junit, reports.as_junit), (html, as_html), (md, reports.as_markdown))
    for path, made in files:
        if path is not None:
            path.write_text(made(report), encoding="utf-8")
    if as_json:
        click.echo(reports.as_json(report))
    else:
        out.line(reports.summary(report) if is_quiet else reports.as_text(report).rstrip("\n"))
    if not report.conforms:
        click.get_current_context().exit(ExitCode.NOT_CONFORMANT)


def _chosen(role: Role | None, names: Sequence[str]) -> list[Case]:
    try:
        found = playing.selected(playing.cases(role), names)
    except LookupError as error:
        raise click.UsageError(f"{error.args[0]}; `a2a conformance ls` lists them") from error
    if not found:
        raise click.UsageError(f"there is no case for the role {role}")
    return found


def _with_those_about_others(role: Role, chosen: Sequence[Case]) -> list[Case]:
    """Return cases together with those about other cases' frames, in the order of the suite."""
    return [case for case in playing.cases(role) if case in chosen or Need.OTHERS in case.needs]


def _check(plan: Plan) -> None:
    """Refuse options that exclude each other."""
    if plan.role is not Role.COORDINATOR:
        for name, value in (("--url", plan.url), ("--restart", plan.restart)):
            if value:
                raise click.UsageError(f"{name} is for a coordinator; the suite listens for this role (--listen)")
    elif (plan.url is None) == (plan.command is None):
        # No default: a run leaves its tasks in the coordinator's ledger.
        raise click.UsageError("expected one of --url, where a coordinator listens, and --cmd, which starts one")
    elif plan.command and plan.restart:
        raise click.UsageError("--cmd also restarts what it has started; --restart goes with --url")
    program = shlex.split(plan.command)[0] if plan.command else None
    if program is not None and "{" not in program and shutil.which(program) is None:
        # Every case would fail, and the report say that the peer does not conform.
        raise click.UsageError(f"--cmd: {program}: there is no such program")


def _run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run it; at Ctrl-C or SIGTERM, end what it started, and then this command."""

    async def stoppable() -> T:
        current = asyncio.current_task()
        assert current is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        raise click.Abort from None


async def _play(plan: Plan, told: Callable[[Outcome], None]) -> tuple[list[Outcome], str]:
    """Try the cases in each encoding, and return their outcomes and the version that was agreed on."""
    if plan.role is Role.COORDINATOR:
        async with _coordinator(plan) as settings:
            played = await _play_coordinator(plan, settings, told)
            if plan.url is not None:
                await _clear(plan, settings)
            return played
    # Peers that come by themselves need the address, even with --quiet.
    say = (lambda _: None) if plan.command else Output().note
    token = read_token(Path(plan.token_file) if plan.token_file else None) or ""
    outcomes: list[Outcome] = []
    for encoding in plan.encodings:
        comes = PeerSettings(
            command=plan.command,
            listen=plan.listen,
            token=token,
            run=f"{plan.run}{encoding[0]}",
            announce=lambda url: say(f"listening at {url}"),
        )
        found = await playing.play_peer(
            plan.cases, comes, encoding=encoding, jobs=plan.jobs, told=_marking(told, encoding)
        )
        outcomes += [replace(outcome, encoding=encoding) for outcome in found]
    return outcomes, ""


async def _play_coordinator(
    plan: Plan, settings: Settings, told: Callable[[Outcome], None]
) -> tuple[list[Outcome], str]:
    version = ""
    found: dict[str, list[Outcome]] = {encoding: [] for encoding in plan.encodings}
    forms = {encoding: Forms(Role.COORDINATOR) for encoding in plan.encodings}
    # After a restart no timer fires for a while (TIME-4): cases that wait for one, in any encoding, come first.
    for is_second in (False, True):
        part = [case for case in plan.cases if bool(case.needs & {Need.RESTART, Need.OTHERS}) is is_second]
        for encoding in plan.encodings if part else ():
            # Names of one encoding must not meet those of the other in one ledger.
            own = Settings(
                settings.url,
                token=settings.token,
                operator_token=settings.operator_token,
                run=f"{settings.run}{encoding[0]}",
                restart=settings.restart,
                trouble=settings.trouble,
                agents=settings.agents,
            )
            greeted, why = await _version(own, encoding, has_answered=bool(version))
            version = greeted or version
            if why and not any(found.values()):  # said at once: if nothing is answered, a run takes many minutes
                plan.out.note(f"{own.url} does not welcome the suite: {why}")
            found[encoding] += await playing.play_coordinator(
                part,
                own,
                encoding=encoding,
                jobs=plan.jobs,
                told=_marking(told, encoding),
                forms=forms[encoding],
            )
    order = {case.id: place for place, case in enumerate(plan.cases)}
    outcomes = [
        replace(outcome, encoding=encoding)
        for encoding in plan.encodings
        for outcome in sorted(found[encoding], key=lambda outcome: order[outcome.case.id])
    ]
    return outcomes, version


async def _clear(plan: Plan, settings: Settings) -> None:
    """Remove what can be removed of the run's tasks and agents, and report the outcome."""
    if not settings.operator_token:
        plan.out.note(
            f"{len(settings.agents)} agents of the run stay, and their tasks: only an operator can forget them"
        )
        return
    own = Settings(
        settings.url,
        token=settings.token,
        operator_token=settings.operator_token,
        run=f"{settings.run}{plan.encodings[0][0]}",
        agents=settings.agents,
    )
    cleared = await clear(own)
    done = f"{cleared.canceled} open tasks of the run canceled, {len(cleared.forgotten)} of its agents forgotten"
    # The agent that asked for it stays in any case.
    why = f": {cleared.why}" if len(cleared.stayed) > 1 and cleared.why else ""
    plan.out.note(f"{done}, {len(cleared.stayed)} stayed{why}")


def _marking(told: Callable[[Outcome], None], encoding: str) -> Callable[[Outcome], None]:
    return lambda outcome: told(replace(outcome, encoding=encoding))


@asynccontextmanager
async def _coordinator(plan: Plan) -> AsyncIterator[Settings]:
    """Find or start the coordinator to try."""
    if plan.command is None:
        assert plan.url is not None
        restart = restarting(plan.restart, plan.url) if plan.restart else None
        token, operator_token = _tokens(plan, plan.url)
        yield Settings(plan.url, token=token, operator_token=operator_token, run=plan.run, restart=restart)
        return
    starting = playing.coordinator_from(
        plan.command, token_file=plan.token_file, operator_token_file=plan.operator_token_file, run=plan.run
    )
    async with AsyncExitStack() as stack:
        try:
            settings = await stack.enter_async_context(starting)
        except Failed as error:
            raise Failure(str(error)) from error
        yield settings


def _tokens(plan: Plan, url: str) -> tuple[str, str]:
    """Return the tokens for the coordinator at a URL, found as other commands find them."""
    kept = load_tokens(url)
    token, operator_token = os.environ.get("A2A_TOKEN", ""), ""
    if kept is not None:
        token, operator_token = token or kept.token, kept.operator_token
    if plan.token_file:
        token = read_token(Path(plan.token_file)) or ""
    if plan.operator_token_file:
        operator_token = read_token(Path(plan.operator_token_file)) or ""
    return token, operator_token


async def _version(settings: Settings, encoding: str, *, has_answered: bool = False) -> tuple[str, str]:
    """Say hello, and return the version agreed on, or why no welcome came, which the cases will report as well.

    Args:
        settings: where the coordinator is.
        encoding: the encoding of the hello.
        has_answered: whether it was welcomed earlier in this run: then there are outcomes of cases to report.

    Raises:
        ConnectError: nobody listens there.
        Failure: the token is wrong.
    """
    under = Coordinator(settings, GREETING, encoding)  # as the same peer before each part: that is a reconnect
    name = under.name()
    try:
        async with asyncio.timeout(PATIENCE):
            peer = await under.connect(name=name)
            answer = await peer.request("hello", **under.hello(name))
    except TimeoutError:
        return "", f"nothing came within {PATIENCE:g} s"
    except (Failed, Closed) as error:
        # A refused handshake is a plain ConnectionError.
        nobody_listens = isinstance(error.__cause__, OSError) and type(error.__cause__) is not ConnectionError
        if nobody_listens and not has_answered:
            raise ConnectError(f"nothing listens at {settings.url}: {error.__cause__}") from error
        return "", str(error)
    finally:
        await under.aclose()
    if answer.code == "auth":
        detail = answer.body.get("detail", "auth")
        raise Failure(f"{settings.url} refuses the suite: {detail} (--token-file)", ExitCode.NOT_CONNECTED)
    if answer.kind != "welcome":
        return "", f"expected a welcome, got {answer.kind}: {answer.body.get('detail', '')}"
    return str(answer.body.get("version", "")), ""


@conformance.command()
@click.argument("names", nargs=-1, metavar="[AREA|REQUIREMENT|CASE]...")
@click.option("--role", type=_ROLE, help="Only cases for this role.")
@click.option("--level", type=click.Choice([level.value for level in LEVELS]), help="Only cases of this level.")
@click.option(
    "--requirements", "by_requirement", is_flag=True, help="Each requirement, with its cases or why it has none."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def ls(names: tuple[str, ...], role: str | None, level: str | None, by_requirement: bool, as_json: bool) -> None:
    """List the cases, or the requirements they are about."""
    out = Output(as_json)
    if by_requirement:
        _list_requirements(out, names, Role(role) if role else None, Level(level) if level else None)
        return
    found = [case for case in _chosen(Role(role) if role else None, names) if level in (None, case.level)]
    if not as_json:
        out.table(("CASE", "ROLE", "LEVEL", "TRIES"), [(case.id, case.role, case.level, case.says) for case in found])
        return
    for case in found:
        named = {"id": case.id, "requirement": case.requirement, "also": list(case.also), "role": case.role}
        out.record({**named, "level": case.level, "needs": sorted(case.needs), "says": case.says})


def _list_requirements(out: Output, names: Sequence[str], role: Role | None, level: Level | None) -> None:
    rows = []
    for requirement in requirements().values():
        about = [case for case in playing.cases() if requirement.name in (case.requirement, *case.also)]
        # A requirement of several roles has a case for each, under one name.
        own = list(dict.fromkeys(case.id for case in about if role in (None, case.role)))
        is_named = not names or requirement.name in names or requirement.area in names
        if not is_named or level not in (None, requirement.level) or (about and not own):
            continue
        reason = "" if about else REASONS.get(requirement.name, "")
        if out.as_json:
            named = {"requirement": requirement.name, "level": requirement.level, "section": requirement.section}
            out.record({**named, "text": requirement.text, "cases": own, "reason": reason})
        else:
            rows.append((requirement.name, requirement.level, ", ".join(own) or reason or "no case"))
    if not out.as_json:
        out.table(("REQUIREMENT", "LEVEL", "CASES, OR WHY THERE IS NONE"), rows)
