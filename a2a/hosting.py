"""A coordinator on an address of this machine, with a ledger and tokens, for the duration of a block.

    async with host("ledger.db", "127.0.0.1:7420") as hosted:
        print(hosted.url)

It combines the address, this user's tokens, the ledger and the server, which have a module each. It takes the address
first, because tokens are stored by address and nobody may come in before they are set. Peers that connect then wait
until the ledger is folded. Used by the commands that run a coordinator, and by tests.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

import anyio

from .credentials import Tokens, coordinator_dir, keep_secrets_with, provide_tokens
from .engine.policy import Admission, Policy, digest
from .link import LinkSettings
from .server import Server
from .stores.database import check_form
from .stores.files import resolved
from .stores.lock import check_free
from .stores.looking import LookingStore
from .stores.memory import MemoryStore
from .stores.reader import LedgerReader
from .stores.sqlite import SqliteStore
from .transports.base import Receiver
from .transports.memory import pair
from .transports.websocket import WebSocketSettings

__all__ = ["Hosted", "UnsafeAddress", "address_of", "bind", "host", "parse_address", "reading"]

_DOOR = 100
"""How many connections may wait to be accepted, as by asyncio's default; others are refused, and try again."""


_FOR_EVER_MS = 1_000 * 366 * 86_400_000
"""A coordinator that is only read keeps everything in memory."""


_CLOSES_WITHIN = 10.0
"""Seconds that a cancelled caller waits for a coordinator to close. Closing goes on after that: a disk may be slow."""


class UnsafeAddress(ValueError):
    """An address that other machines can reach, without TLS: others could listen in."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """A coordinator that listens."""

    url: str
    """The URL for clients on this machine."""
    server: Server
    tokens: Tokens
    db: Path | None
    """The ledger's file; None if it is in memory."""


@asynccontextmanager
async def host(
    db: str | os.PathLike[str] | None = None,
    listen: str = "127.0.0.1:0",
    *,
    policy: Policy | None = None,
    token: str | None = None,
    ssl: SSLContext | None = None,
    settings: WebSocketSettings | None = None,
) -> AsyncIterator[Hosted]:
    """Run a coordinator inside the block, and stop it cleanly at its end.

    Wait for `server.failed()` inside the block: a coordinator that can no longer write its ledger just stops.

    Args:
        db: the ledger's file, made if it does not exist; None keeps it in memory.
        listen: `HOST:PORT`; port 0 takes a free one.
        policy: the namespace's settings; `admission` is filled in.
        token: the namespace's; by default the one this user's state directory has for the address, drawn if need be.
        ssl: a server context; needed to listen beyond this machine.
        settings: limits of the connections, except those that the policy sets.

    Raises:
        ValueError: `db` is not a file name, or `listen` is not an address; UnsafeAddress: others can reach it, and
            `ssl` is missing.
        OSError: it cannot listen on the address.
        StoreError, such as StoreLocked, StoreCorrupt, StoreTooNew: the ledger cannot be used; it was not changed.
    """
    name, port = parse_address(listen)
    # A free port is given up at the end, with its tokens: nobody looks for this coordinator there again.
    is_passing = port == 0
    sock = bind(name, port, is_secure=ssl is not None)
    with sock:
        url = address_of(name, sock, "ws" if ssl is None else "wss")
        path = _ledger_path(db)
        tokens = provide_tokens(url, token)
        try:
            with keep_secrets_with(url, path):
                admission = Admission(digest(tokens.token), digest(tokens.operator_token))
                server = Server(
                    MemoryStore() if path is None else SqliteStore(path),
                    replace(policy or Policy(), admission=admission),
                )
                # After a crash everybody waits here. If refused, they would come back up to seconds after the fold.
                sock.listen(_DOOR)
                await server.open()
                try:
                    await server.listen(name, settings=settings, ssl=ssl, sock=sock)
                    yield Hosted(url, server, tokens, path)
                finally:
                    await _close(server)
        finally:
            if is_passing:
                shutil.rmtree(coordinator_dir(url), ignore_errors=True)


@asynccontextmanager
async def reading(db: str | os.PathLike[str]) -> AsyncIterator[LinkSettings]:
    """Answer from a ledger that no coordinator has open, inside the block; connect with the settings it yields.

    A copy of its state in memory answers, with its clock stopped at the newest record: nothing is written and no timer
    fires, so the answers are as the coordinator left them. It admits everybody under every name: whoever can read the
    file needs no secret.

    Raises:
        StoreLocked: a coordinator has it open; ask that one.
        StoreError, StoreTooNew: it cannot be read.
    """
    with LedgerReader(db) as reader:
        check_free(reader.path)  # a coordinator that takes it later does not mind
        newest = max((entry.at for entry in reader.entries(reader.end - 1)), default=0)
        policy = Policy(
            namespace=reader.namespace(),
            linger_ms=_FOR_EVER_MS,
            linger_tasks_max=sys.maxsize,
            linger_bytes_max=sys.maxsize,
            linger_conflicts_max=sys.maxsize,
            raised_keep_ms=_FOR_EVER_MS,
            raised_keep_max=sys.maxsize,
            raised_keep_bytes_max=sys.maxsize,
            linger_contexts_ms=_FOR_EVER_MS,
            linger_contexts_max=sys.maxsize,
            linger_contexts_bytes_max=sys.maxsize,
        )
        server = Server(LookingStore(reader), policy, clock=lambda: newest)
        await server.open()
        # The secrets are at the coordinator's own address, or another user's, and protect nothing in the file.
        server.coordinator.ledger.principals.clear()

        async def dial(receiver: Receiver) -> None:
            pair(receiver, server.receiver(), outbox_max_bytes=policy.outbox_max_bytes)

        try:
            yield LinkSettings(token="", secrets={}, dial=dial)
        finally:
            await _close(server)


async def _close(server: Server) -> None:
    """Close a server even if the caller is cancelled: half closed, it would keep its ledger locked."""
    closing = asyncio.create_task(server.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([closing], timeout=_CLOSES_WITHIN)
        if closing.done():
            closing.result()  # its own error matters more
        raise


def parse_address(text: str, default_port: int = 7420) -> tuple[str, int]:
    """Return (host, port) of `HOST:PORT`, `[IPV6]:PORT`, `HOST` or `:PORT`; missing parts get the default.

    Raises:
        ValueError: the text has none of these forms.
    """
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError as exc:
        raise ValueError(f"expected HOST:PORT, got {text!r}: {exc}") from exc
    # A number alone would be a host, 0.0.28.252 for 7420, and means a port to whoever writes it.
    if not text or parts.netloc != text or parts.username is not None or text.isdecimal():
        raise ValueError(f"expected HOST:PORT, got {text!r}")
    return parts.hostname or "127.0.0.1", default_port if port is None else port


def _ledger_path(db: str | os.PathLike[str] | None) -> Path | None:
    if db is None:
        return None
    if not isinstance(db, str | os.PathLike):
        raise ValueError(f"db: expected the name of a file, got {db!r}")
    path = Path(db).absolute()
    if resolved(path).exists():  # looked at before anything is made for it
        check_form(path)
    return path


def bind(name: str, port: int, *, is_secure: bool) -> socket.socket:
    """Bind to an address without listening yet: peers that connect before there are tokens are refused, and try again.

    Raises:
        UnsafeAddress: other machines can reach it, and it is not secure.
        OSError: it cannot be bound.
    """
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as exc:
        raise OSError(f"cannot listen on {name}:{port}: {exc.strerror}") from exc
    # `localhost` stands for two addresses, and a free port is free on one of them; clients try IPv4 too.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    if not is_secure and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UnsafeAddress(f"{name} can be reached from other machines: that needs a certificate and its key")
    sock = socket.socket(family, kind, protocol)
    try:
        # A killed coordinator starts again on its port at once, while old connections linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise OSError(exc.errno, f"cannot listen on {name}:{port}: {os.strerror(exc.errno or 0)}") from exc
    return sock


def address_of(name: str, sock: socket.socket, scheme: str) -> str:
    """Return the URL for clients on this machine: a wildcard address includes loopback."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    bracketed = f"[{reached}]" if ":" in reached else reached
    return f"{scheme}://{bracketed}:{sock.getsockname()[1]}"
