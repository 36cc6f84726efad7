"""A gateway on an address of this machine, with its callers and their tokens, for the duration of a block."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

import anyio
import uvicorn

from ..client import Client
from ..credentials import gateway_dir, provide_gateway_token
from ..hosting import address_of, bind, parse_address
from . import DEFAULT_PORT
from .app import application
from .carrier import OPEN_MAX, Carrier
from .patience import PatientProtocol

__all__ = ["Gateway", "gateway"]

_CONNECTIONS_MAX = OPEN_MAX + 256
"""Connections at a time, including idle ones; further ones get 503. Systems allow 1,024 files."""
_ENDS_WITHIN = 2
"""Seconds after the grace in which answers are written."""
_CALLER = re.compile("[a-z0-9][a-z0-9.-]{0,63}")
"""The valid names of callers. A name is also a file name, on systems where `A` and `a` are the same."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens."""

    url: str
    """Where clients on this machine reach it."""
    token_files: Mapping[str, Path]
    """The token's file by caller name; the name is empty if all callers are one."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the command it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def gateway(
    clients: Client | Mapping[str, Client],
    listen: str = f"127.0.0.1:{DEFAULT_PORT}",
    *,
    public_url: str | None = None,
    token: str | None = None,
    ssl: SSLContext | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Gateway]:
    """Let A2A over HTTP reach the agents of a coordinator inside the block, and stop in good order at its end.

    Args:
        clients: the owners of the tasks: one client for all callers, or one for each of several by the caller's name,
            so that no caller answers or cancels the tasks of another. They are entered here, once the address is taken.
        listen: `HOST:PORT`; port 0 takes a free one.
        public_url: where clients reach it, for example behind a proxy; by default where it listens.
        token: what the one caller shows; by default the one that this user's state directory has for the address, made
            if need be. With several callers, each has one there.
        ssl: a server context; needed to listen beyond this machine.
        grace: seconds at the end in which waiting calls may be answered. Streams end at once, and can be resumed.

    Raises:
        ValueError: `listen` or `public_url` is not an address, or a caller has no valid name, or another caller's
            token, or one that is not one line of printable ASCII; UnsafeAddress: others reach it, and `ssl` is missing.
        OSError: cannot listen on the address.
        ConnectError: no coordinator was reached, or it refused the client.
        StateDirectoryError: the token cannot be kept.
    """
    by_caller = clients if isinstance(clients, Mapping) else {"": clients}
    if isinstance(clients, Mapping):
        _check_callers(clients)
    if token is not None:
        _check_fit(token.strip(), "token")
    name, port = parse_address(listen, DEFAULT_PORT)
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http://HOST[:PORT] or https://HOST[:PORT], got {public_url!r}")
    with bind(name, port, is_secure=ssl is not None) as sock:
        url = address_of(name, sock, "http" if ssl is None else "https")
        try:
            tokens = {caller: provide_gateway_token(url, caller=caller, token=token) for caller in by_caller}
            _check_tokens(tokens)
            carriers = {caller: Carrier(client) for caller, client in by_caller.items()}
            shown = (public_url or url).rstrip("/")
            app = application([(tokens[caller][0], carrier) for caller, carrier in carriers.items()], url=shown)
            config = uvicorn.Config(
                app,
                http=PatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_graceful_shutdown=math.ceil(grace + _ENDS_WITHIN),
            )
            config.load()
            config.ssl = ssl
            server = _Server(config)
            async with _entered(by_caller.values()):
                serving = asyncio.create_task(server.serve([sock]), name="gateway")
                try:
                    while not server.started and not serving.done():  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.01)
                    yield Gateway(url, {caller: path for caller, (_, path) in tokens.items()})
                finally:
                    server.should_exit = True
                    with anyio.CancelScope(shield=True):
                        async with anyio.create_task_group() as ending:
                            for carrier in carriers.values():
                                ending.start_soon(carrier.end, grace)
                        await serving
        finally:
            if port == 0:  # nobody looks for this gateway there again
                shutil.rmtree(gateway_dir(url), ignore_errors=True)


@asynccontextmanager
async def _entered(clients: Iterable[Client]) -> AsyncIterator[None]:
    """Enter clients inside a block. They leave concurrently: one may take seconds if its coordinator hangs."""
    entered = list[Client]()
    try:
        for client in clients:
            await client.__aenter__()
            entered.append(client)
        yield
    finally:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as leaving:
                for client in entered:
                    leaving.start_soon(client.aclose)


def _check_callers(clients: Mapping[str, Client]) -> None:
    if not clients:
        raise ValueError("expected a caller, got none")
    for caller in clients:
        if _CALLER.fullmatch(caller) is None:
            raise ValueError(f"expected a caller named by lower-case letters, digits, . and -, got {caller!r}")


def _check_fit(token: str, what: str) -> None:
    if not token.isascii() or not token.isprintable():  # what came would show it
        raise ValueError(f"{what}: expected one line of printable ASCII: no caller could show another token")


def _check_tokens(tokens: Mapping[str, tuple[str, Path]]) -> None:
    """Refuse a token that nobody can show, or that two callers have: its bearer could be either of them."""
    had = dict[str, Path]()
    for token, path in tokens.values():
        _check_fit(token, str(path))
        if token in had:
            raise ValueError(f"expected a token of its own for each caller: {had[token]} and {path} have the same")
        had[token] = path
