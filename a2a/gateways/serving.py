"""A gateway on an address of this machine, with its token and its client, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
from collections.abc import AsyncIterator, Iterator
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

__all__ = ["Gateway", "gateway"]

_CONNECTIONS_MAX = OPEN_MAX + 256
"""Connections at a time, those between two requests among them; further ones get 503. Systems allow 1,024 files."""
_ENDS_WITHIN = 2
"""Seconds behind the grace in which answers are written."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens."""

    url: str
    """Where clients on this machine reach it."""
    token_file: Path


class _Server(uvicorn.Server):
    """A server that leaves signals to the command it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def gateway(
    client: Client,
    listen: str = f"127.0.0.1:{DEFAULT_PORT}",
    *,
    public_url: str | None = None,
    token: str | None = None,
    ssl: SSLContext | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Gateway]:
    """Have the agents of a coordinator reached by A2A over HTTP inside the block, and stop in good order at its end.

    Args:
        client: whose tasks they are. It is entered here, once the address is taken.
        listen: `HOST:PORT`; port 0 takes a free one.
        public_url: where clients reach it, as behind a proxy; by default where it listens.
        token: what callers show; by default the one this user's state directory has for the address, drawn if need be.
        ssl: a server context; needed to listen beyond this machine.
        grace: seconds at the end in which calls that wait may be answered. Streams end at once, and can be taken up.

    Raises:
        ValueError: `listen` or `public_url` is no address; UnsafeAddress: others reach it, and `ssl` is missing.
        OSError: the address cannot be listened on.
        ConnectError: no coordinator was reached, or it would not let the client in.
        StateDirectoryError: the token cannot be kept.
    """
    name, port = parse_address(listen, DEFAULT_PORT)
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http://HOST[:PORT] or https://HOST[:PORT], got {public_url!r}")
    with bind(name, port, is_secure=ssl is not None) as sock:
        url = address_of(name, sock, "http" if ssl is None else "https")
        token, token_file = provide_gateway_token(url, token)
        carrier = Carrier(client)
        shown = (public_url or url).rstrip("/")
        app = application(carrier, url=shown, token=token)
        config = uvicorn.Config(
            app,
            http="h11",
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
        try:
            async with client:
                serving = asyncio.create_task(server.serve([sock]), name="gateway")
                try:
                    while not server.started and not serving.done():  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.01)
                    yield Gateway(url, token_file)
                finally:
                    server.should_exit = True
                    with anyio.CancelScope(shield=True):
                        await carrier.end(grace)
                        await serving
        finally:
            if port == 0:  # nobody looks for this gateway there again
                shutil.rmtree(gateway_dir(url), ignore_errors=True)
