"""`a2a gateway`: the agents of one coordinator, for any client of A2A over HTTP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import click

from ..certificates import ServedCertificate
from ..gateways import DEFAULT_PORT
from ..hosting import UnsafeAddress
from ..loop import run as run_loop
from ..loop import until_told
from .config import Settings
from .coordinator import served_certificate
from .options import Connection, connection_options, read_token, ready_json_option, require_extra
from .output import Output
from .parameters import Seconds

__all__ = ["gateway"]

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@connection_options
@click.option(
    "--listen",
    default=f"127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one.",
)
@click.option("--public-url", metavar="URL", help="Where clients reach it, for the card.  [default: where it listens]")
@click.option(
    "--bearer-file",
    type=_FILE,
    help="A file with the token that callers show, instead of one drawn at the first start.",
)
@click.option("--name", default="gateway", show_default=True, help="The principal of all callers at the coordinator.")
@click.option(
    "--caller",
    "callers",
    multiple=True,
    metavar="NAME",
    help="A caller with a token and tasks of its own, known as GATEWAY/NAME; may be given several times.",
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain (PEM); needed to listen beyond this machine.")
@click.option("--tls-key", type=_FILE, help="Its private key; a pass phrase is asked for at a terminal.")
@click.option(
    "--grace",
    type=Seconds(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for waiting calls when it is told to stop.",
)
@ready_json_option
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only errors.")
def gateway(
    connection: Connection,
    listen: str,
    bearer_file: Path | None,
    callers: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    ready_json: bool,
    is_quiet: bool,
    **how: Any,
) -> None:
    """Let any client of A2A 1.0 use the agents here, over HTTP, until SIGTERM or Ctrl-C.

    It speaks A2A's JSON-RPC and HTTP+JSON. Anybody who can reach it may read its card, at /.well-known/agent-card.json;
    everything else needs the token, as `Authorization: Bearer TOKEN`. The token is kept in the state directory.

    To the coordinator, all callers are one: each may answer and cancel everybody's tasks. Callers that --caller
    names have a token and a name of their own, and may answer and cancel only their own tasks; every caller may look at
    all tasks. The same `messageId` means the same task, even through another gateway with the same --name.

    The coordinator may start later, and may restart: requests are retried for ten seconds.
    """
    require_extra("gateway", "gateway", "starlette", "uvicorn")
    if callers and bearer_file is not None:
        raise click.UsageError("--bearer-file is the token of all callers; with --caller, each caller has its own")
    how |= {"callers": callers, "listen": listen, "token": read_token(bearer_file, "--bearer-file")}
    tls = served_certificate(Settings(listen=listen, tls_cert=tls_cert, tls_key=tls_key))
    run_loop(lambda: _serve(connection, Output(ready_json, is_quiet), tls, **how))


async def _serve(
    connection: Connection,
    out: Output,
    tls: ServedCertificate | None,
    *,
    name: str,
    callers: Sequence[str],
    **how: Any,
) -> None:
    from ..gateways.serving import gateway as serving

    clients = {caller: connection.lasting_client(f"{name}/{caller}") for caller in callers}
    common = None if clients else connection.lasting_client(name)
    try:
        async with until_told():
            context, renewed = (None, nullcontext()) if tls is None else (tls.context, tls.renewed())
            async with serving(common or clients, ssl=context, **how) as here, renewed:
                _announce(here, connection, out)
                async with anyio.create_task_group() as watching:
                    for client in (common,) if common is not None else clients.values():
                        watching.start_soon(client.link.wait_closed)
    except* UnsafeAddress as errors:
        raise click.UsageError(f"{errors.exceptions[0]} (--tls-cert, --tls-key)") from errors
    except* ValueError as errors:
        raise click.UsageError(str(errors.exceptions[0])) from errors


def _announce(here: Any, connection: Connection, out: Output) -> None:
    """Report that the gateway is ready: as a JSON object for programs, else as a sentence."""
    if out.as_json:
        files = {caller: str(path) for caller, path in here.token_files.items()}
        tokens = {"tokenFile": files[""]} if "" in files else {"tokenFiles": files}
        out.record({"url": here.url, **tokens, "coordinator": connection.url, "pid": os.getpid()})
        return
    out.note(f"gateway at {here.url} for the coordinator at {connection.url}")
    for caller, path in here.token_files.items():
        out.note(f"{caller or 'callers'} show{'s' if caller else ''} the token in {path}")
