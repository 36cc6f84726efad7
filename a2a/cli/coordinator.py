"""`a2a coordinator`: the long-running process, and backups of its ledger."""

from __future__ import annotations

import gc
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import click

from ..certificates import ServedCertificate
from ..client import Client
from ..credentials import default_ledger
from ..errors import StoreError, StoreOutdated
from ..hosting import Hosted, UnsafeAddress, host, parse_address
from ..loop import run as run_loop
from ..loop import stop_on_signals
from ..stores.backup import backup as copy_ledger
from ..transports.websocket import WebSocketSettings
from .asking import can_ask
from .config import ConfigError, Settings, read_settings
from .exits import ExitCode, Failure
from .groups import Group
from .options import Common, common_options, read_token, ready_json_option
from .output import Output
from .signals import interrupted_by_sigterm
from .story import duration

__all__ = ["announce", "coordinator", "hosting", "served_certificate", "until_stopped"]

log = logging.getLogger("a2a.cli")

_OTHER_FILES = 100
"""Files that a coordinator has open beside its connections: the ledger, and those of its processes and threads."""
_FEW = 10
"""A coordinator that can hold fewer than one in this many of its connections says so when it starts."""
_WORDS = {"agents": "agents known", "peers": "peers connected"}
"""Amounts that would be misunderstood: an agent is known even while it is away, and a peer may not be an agent."""
_COLLECTED_AFTER = (20_000, 10, 5)
"""The collector's thresholds: net new objects before it looks through the youngest, rounds of that before the next
generation, and rounds of those before all. A task is sixty objects that stay for a while, none in a reference cycle:
the default thresholds took 38 us of a task's 190, and 160 ms at a time with ten thousand settled tasks; these take 2
us. Only 17 objects, two kilobytes, of each closed connection need the collector: a hundred megabytes at most."""


@click.group(cls=Group)
def coordinator() -> None:
    """Run the coordinator, show its status, and back up its ledger."""


_FILE = click.Path(dir_okay=False, path_type=Path)


@coordinator.command()
@click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.  [default: 127.0.0.1:7420]"
)
@click.option("--db", type=_FILE, help="The ledger's file.  [default: in the state directory]")
@click.option(
    "-c", "--config", type=_FILE, metavar="a2a.toml", help="Settings; options on the command line take precedence."
)
@click.option("--namespace", help="The prefix of task ids.  [default: main]")
@click.option("--token-file", type=_FILE, help="The token to ask for, instead of one drawn at the first start.")
@click.option(
    "--tls-cert", type=_FILE, help="Certificate chain (PEM), to listen beyond this machine; a renewed one is picked up."
)
@click.option("--tls-key", type=_FILE, help="Its private key; a pass phrase is asked for at a terminal.")
@click.option("--linger", type=float, metavar="SECONDS", help="How long a settled task stays in memory.  [default: 60]")
@click.option("--keep", type=float, metavar="DAYS", help="How long a settled task can be read.  [default: forever]")
@ready_json_option
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only errors.")
def run(
    listen: str | None,
    db: Path | None,
    config: Path | None,
    namespace: str | None,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    linger: float | None,
    keep: float | None,
    ready_json: bool,
    is_quiet: bool,
) -> None:
    """Run a coordinator until SIGTERM or Ctrl-C.

    Agents and commands of the same user on this machine find its tokens in the state directory (A2A_STATE_DIR). Exit
    code 70: the ledger could not be written, and after another start everybody continues where they were; or the ledger
    is an older copy, and an agent works on something that came after it.

    The file at --config has the sections [coordinator], [durations], [skills.NAME], [limits], [conflicts] and
    [retention], with durations in seconds. An unknown key is an error that lists the known ones.
    """
    if db is not None and not db.name:
        raise click.UsageError("--db: expected the name of a file, got none")
    try:
        settings = read_settings(config) if config else Settings()
        if namespace is not None:
            settings = settings.with_namespace(namespace)
        if linger is not None:
            settings = settings.with_linger(linger)
        if keep is not None:
            settings = settings.with_keep(keep)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    named = {"listen": listen, "db": db, "token_file": token_file, "tls_cert": tls_cert, "tls_key": tls_key}
    settings = replace(settings, **{key: value for key, value in named.items() if value is not None})  # type: ignore[arg-type]
    tls = served_certificate(settings)  # before there is a loop, which would get a Ctrl-C meant for the prompt
    run_loop(lambda: _serve(settings, tls, Output(ready_json, is_quiet)))


@coordinator.command()
@common_options()
def status(common: Common) -> None:
    """Show a coordinator's status: its tasks by state, who is connected, and how close it is to its limits."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.status()

    shown, out = common.run(work), common.out
    if out.as_json:
        out.record(shown)
        return
    ledger = f"start {shown['epoch']} on its ledger, record {shown['lsn']}"
    out.line(f"{common.connection.url}: namespace {shown['namespace']}, up {duration(shown['up'])}, {ledger}")
    open_ones = ", ".join(f"{count} {state}" for state, count in shown["tasks"].items())
    out.line(f"open tasks: {open_ones or 'none'}")
    out.table(("", "COUNT", "ROOM FOR", "FULL"), [_amount(what, of) for what, of in shown["amounts"].items()])


def _amount(what: str, of: dict[str, Any]) -> tuple[str, str, str, str]:
    def shown(number: int) -> str:
        return f"{number / 1e6:,.1f} MB" if what.endswith("Bytes") else f"{number:,}"

    count, most = of["count"], of["most"]
    words = _WORDS.get(what) or re.sub(r"([A-Z])", lambda upper: f" {upper[1].lower()}", what)
    return words, shown(count), shown(most) if most else "-", f"{count / most:.0%}" if most else "-"


@coordinator.command()
@click.argument("ledger", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("to", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def backup(ledger: Path, to: Path, as_json: bool) -> None:
    """Copy LEDGER as it is now to the file TO, and its large payloads to TO.blobs, even while its coordinator runs.

    TO must not hold a ledger yet. The copy is a ledger itself: `a2a replay TO --verify` proves it. To restore it, stop
    the coordinator, move away LEDGER and every file whose name begins with its name, and put both in its place.
    """
    if not to.name:
        raise click.UsageError("TO: expected the name of a file, got none")
    started = time.perf_counter()
    with interrupted_by_sigterm():
        made = copy_ledger(ledger, to)
    seconds = time.perf_counter() - started
    out = Output(as_json, False)
    if as_json:
        copied = {"lsn": made.lsn, "blobs": made.blobs, "bytes": made.bytes}
        out.record({"db": str(to), **copied, "seconds": round(seconds, 3)})
    else:
        out.line(
            f"{to}: the ledger up to record {made.lsn}, {made.bytes} bytes with {made.blobs} large payloads, in"
            f" {seconds:.1f} s"
        )


async def _serve(settings: Settings, tls: ServedCertificate | None, out: Output) -> None:
    db = settings.db or default_ledger(settings.policy.namespace)
    files = _allow_files(settings.websocket.connections_max + _OTHER_FILES)
    settings = replace(settings, websocket=_held_by(files, settings.websocket))
    with _uncollected() as collect:
        async with (
            hosting(
                db,
                settings.listen,
                policy=settings.policy,
                token=read_token(settings.token_file),
                ssl=tls.context if tls is not None else None,
                settings=settings.websocket,
            ) as hosted,
            tls.renewed() if tls is not None else nullcontext(),
        ):
            collect()
            await until_stopped(hosted, lambda: announce(hosted, out))


def _allow_files(wanted: int) -> int:
    """Raise the process's limit on open files to this many, or as far as the system allows, and return the limit."""
    try:
        import resource
    except ImportError:  # there is no such limit here
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def _held_by(files: int, settings: WebSocketSettings) -> WebSocketSettings:
    """Return the settings with no more connections than this many open files allow.

    Beyond them, the system ends a connection silently and tells this process nothing; a listener that knows the limit
    says that it is full.
    """
    possible = max(files - _OTHER_FILES, files // 2)
    if possible >= settings.connections_max:
        return settings
    if possible * _FEW < settings.connections_max:
        log.warning(
            "the system lets this process have %d open files: it holds %d connections at most, not the %d it is set to",
            files,
            possible,
            settings.connections_max,
        )
    return replace(settings, connections_max=possible)


@contextmanager
def _uncollected() -> Iterator[Callable[[], None]]:
    """Keep the garbage collector off until the yielded function is called, which also exempts everything made by then.

    Folding a ledger makes many objects and drops none: looking through them again and again is a good part of a long
    start. The folded state stays as long as the process, so it need not be looked at later either.
    """
    before = gc.get_threshold()
    gc.disable()

    def collect() -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECTED_AFTER)
        gc.enable()

    try:
        yield collect
    finally:
        gc.set_threshold(*before)
        gc.enable()


@asynccontextmanager
async def hosting(db: Path | None, listen: str, *, token: str | None = None, **options: Any) -> AsyncIterator[Hosted]:
    """As `host`, with the token of A2A_TOKEN by default, and a wrong address as a usage error."""
    token = token or os.environ.get("A2A_TOKEN", "").strip() or None
    async with AsyncExitStack() as stack:
        try:
            hosted = await stack.enter_async_context(host(db, listen, token=token, **options))
        except UnsafeAddress as error:
            raise click.UsageError(f"{error} (--tls-cert, --tls-key)") from error
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        yield hosted


def announce(hosted: Hosted, out: Output) -> None:
    """Report that a coordinator is ready: as a JSON object for programs, else as a sentence."""
    durability = hosted.server.store.durability
    if out.as_json:
        out.record(
            {
                "url": hosted.url,
                "tokenFile": str(hosted.tokens.token_file),
                "operatorTokenFile": str(hosted.tokens.token_file.with_name("operator-token")),
                "db": None if hosted.db is None else str(hosted.db),
                "pid": os.getpid(),
                "epoch": hosted.server.coordinator.ledger.epoch,
                "durability": durability,
            }
        )
    else:
        kept = "in memory only" if hosted.db is None else f"in {hosted.db} ({durability})"
        out.note(f"coordinator at {hosted.url}, ledger {kept}")


async def until_stopped(hosted: Hosted, ready: Callable[[], None]) -> None:
    """Call `ready`, and wait for SIGTERM or Ctrl-C; whoever is told may send one at once.

    Raises:
        Failure: the ledger can no longer be written; if that was so from the start, `ready` was not called.
    """
    stop = anyio.Event()
    lost: list[StoreError] = []

    async def watch_ledger() -> None:
        try:
            await hosted.server.failed()
        except StoreError as error:
            lost.append(error)
            stop.set()

    async with anyio.create_task_group() as group:
        await group.start(stop_on_signals, stop)
        group.start_soon(watch_ledger)
        if not hosted.server.has_failed:
            ready()
        await stop.wait()
        group.cancel_scope.cancel()
    if lost:
        raise Failure(f"{lost[0]}; {_what_now(lost[0])}", ExitCode.LEDGER_LOST) from lost[0]


def _what_now(error: StoreError) -> str:
    if isinstance(error, StoreOutdated):
        return (
            "put the newest copy in its place, or if there is none, restart that agent before the coordinator:"
            " this ledger does not know what the agent was given since then"
        )
    return "start the coordinator again"


def _pass_phrase(option: str, path: Path) -> str:
    """Ask for the pass phrase of an encrypted key.

    Raises:
        UsageError: nobody is there to answer, for example because a supervisor started this.
    """
    if not can_ask():
        raise click.UsageError(f"{option} {path} is encrypted, and there is no terminal to ask for its pass phrase")
    return str(click.prompt(f"pass phrase of {path}", hide_input=True, err=True))


def served_certificate(settings: Settings) -> ServedCertificate | None:
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None:
        raise click.UsageError("--tls-key needs --tls-cert")
    files = {"--tls-cert": settings.tls_cert, "--tls-key": settings.tls_key}
    named = {option: path for option, path in files.items() if path is not None}
    for option, path in named.items():
        try:
            path.open("rb").close()
        except OSError as error:  # the error of loading them does not say which one it is
            raise click.UsageError(f"{option} {path}: {error.strerror}") from error
    cert, key = settings.tls_cert, settings.tls_key
    try:
        return ServedCertificate(cert, key, lambda: _pass_phrase(*list(named.items())[-1]), _names(settings))
    except OSError as error:
        if key is None and b"PRIVATE KEY-----" not in cert.read_bytes():
            raise click.UsageError(f"--tls-cert {cert} contains no key: expected --tls-key") from error
        together = ", ".join(f"{option} {path}" for option, path in named.items())
        raise click.UsageError(f"{together}: {error}") from error


def _names(settings: Settings) -> list[str]:
    """Return the known names that clients connect to; when listening on every address, there may be others."""
    try:
        name, _ = parse_address(settings.listen)
    except ValueError:  # reported when the address is taken
        return []
    return [*([] if name in ("0.0.0.0", "::") else [name]), *sorted(settings.websocket.hosts)]
