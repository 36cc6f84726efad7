"""WebSocket connections between processes: `serve` accepts them, `connect` opens them.

This module covers the HTTP half of the protocol: it opens connections and decides who may connect. What happens on an
open connection is in `websocket_connection.py`. Neither knows messages or sessions, or when to reconnect.

A web page may open a WebSocket to any address, loopback included, so each upgrade is checked for where it comes from
(`Origin`) and for the name it was sent to (`Host`: a page's own name may be made to resolve to 127.0.0.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from ssl import SSLCertVerificationError, SSLContext, SSLError, create_default_context
from typing import Any, cast

import anyio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI, NegotiationError
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from ..errors import ConnectError
from .base import Receiver, Transport
from .websocket_connection import JSON, MSGPACK, SUBPROTOCOLS, WebSocketConnection, WebSocketSettings, write_out

__all__ = ["JSON", "MSGPACK", "SUBPROTOCOLS", "Listener", "WebSocketSettings", "connect", "serve"]

logger = logging.getLogger("a2a.transport")

HANDSHAKE_MAX_BYTES = 8 * 1024
"""Bytes of a whole upgrade request; HTTP servers usually bound one line at this. websockets alone would take 1 MiB."""

HEALTH_PATH = "/healthz"
"""A plain request here is answered with 200 while connections are accepted. Load balancers and supervisors ask for it;
they may call the listener by any name, and learn nothing else."""

_NOBODY_VOUCHES = frozenset({18, 19, 20, 21})
"""The OpenSSL verification codes of a certificate that does not lead to a trusted one."""
_OVER, _NOT_YET = 10, 9
"""The codes of a certificate that has expired, or is not valid yet."""
FOR_ANOTHER = frozenset({62, 64})
"""The codes of a certificate for another name, or another address."""
_ENCODINGS = re.compile(r"\ba2a\.coord\+[a-z0-9]+")
"""The names of encodings in a coordinator's answer."""
_LOST_UPGRADE = "a proxy on the way has to pass the headers Upgrade and Connection on"
_BLANK_LINE = b"\r\n\r\n"

BACKLOG = 1024
"""Connections that the kernel completes before we accept them: after a restart all agents come back at once."""

NEXT_ADDRESS_AFTER = 0.25
"""Seconds without an answer after which the next address of a name is tried as well (RFC 8305, 5)."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

ReceiverFactory = Callable[[], Receiver]


class Listener:
    """A listening socket and every connection it accepted. Made by `serve`; `aclose` it.

    Attributes:
        port: the port it listens on, also if `serve` was given 0.
        url: the URL for a client on this machine.
    """

    def __init__(self, host: str, receiver_factory: ReceiverFactory, settings: WebSocketSettings) -> None:
        self.port = 0
        self.url = ""
        self._settings = settings
        self._receiver_factory = receiver_factory
        self._hosts = LOOPBACK_NAMES | {host.lower()} | {name.lower() for name in settings.hosts}
        self._hosts -= {"", "0.0.0.0", "::"}  # a wildcard address is not a name
        self._server: asyncio.Server | None = None
        self._connections: set[_ServerHandshake | WebSocketConnection] = set()
        self._is_closing = False
        self._all_gone = asyncio.Event()

    async def aclose(self) -> None:
        """Stop listening and close all connections with 1001; return when they are over, by the closing deadline."""
        self._is_closing = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.close(1001, "the coordinator is shutting down")
        if not self._connections:
            return
        try:
            await self._all_gone.wait()  # each connection has a closing deadline of its own
        except asyncio.CancelledError:
            for connection in tuple(self._connections):
                connection.abort()
            raise

    def _listening(self, server: asyncio.Server, host: str, is_secure: bool) -> None:
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"{'wss' if is_secure else 'ws'}://{_bracketed(host)}:{self.port}"

    # --- called by the handshakes ------------------------------------------------------------------------------------

    def _lost(self, connection: _ServerHandshake | WebSocketConnection) -> None:
        self._connections.discard(connection)
        if self._is_closing and not self._connections:
            self._all_gone.set()

    def _upgraded(
        self, handshake: _ServerHandshake, transport: asyncio.Transport, protocol: ServerProtocol, receiver: Receiver
    ) -> WebSocketConnection:
        connection = WebSocketConnection(transport, protocol, receiver, self._settings, self._lost)
        self._connections.discard(handshake)
        self._connections.add(connection)
        return connection

    def _refusal(self, request: Request, address: str) -> tuple[HTTPStatus, str] | None:
        """Return the HTTP answer that refuses this request, or None if it may connect."""
        headers = request.headers
        hosts = headers.get_all("Host")
        if len(hosts) != 1:
            return HTTPStatus.BAD_REQUEST, f"Expected one Host header, found {len(hosts)}."
        host = _host_name(hosts[0])
        if host not in self._hosts and host != address:
            return HTTPStatus.FORBIDDEN, f"Host {host} is not a name of this coordinator; its settings may add it."
        for origin in headers.get_all("Origin"):
            if origin not in self._settings.origins:
                return HTTPStatus.FORBIDDEN, f"Origin {origin} may not connect; the settings name the origins that may."
        if not headers.get_all("Upgrade"):
            return HTTPStatus.UPGRADE_REQUIRED, f"This is an a2a coordinator. It speaks WebSocket: {self.url}"
        return None


async def serve(
    host: str,
    port: int,
    receiver_factory: ReceiverFactory,
    settings: WebSocketSettings | None = None,
    *,
    ssl: SSLContext | None = None,
    sock: socket.socket | None = None,
) -> Listener:
    """Listen for WebSocket connections; `aclose` the listener at the end.

    Args:
        host: a name or address to listen on.
        port: 0 takes a free one, on the first address of `host` only.
        receiver_factory: makes the receiver of each connection, once its handshake is accepted.
        settings: limits and deadlines.
        ssl: a server context; connections are then `wss`.
        sock: a bound socket to listen on instead of `port`; `host` is then only its name.

    Raises:
        OSError: cannot listen on the address.
    """
    loop = asyncio.get_running_loop()
    settings = settings or WebSocketSettings()
    listener = Listener(host, receiver_factory, settings)
    where: dict[str, Any] = {"host": host, "port": port} if sock is None else {"sock": sock}
    if sock is None and port == 0:
        # A free port is found per address; `localhost` would listen on two different ones.
        found = await loop.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        where["host"] = str(min(found, key=lambda info: info[0] != socket.AF_INET)[4][0])
    server = await loop.create_server(
        lambda: _ServerHandshake(listener, settings),
        **where,
        backlog=BACKLOG,
        ssl=ssl,
        ssl_handshake_timeout=settings.handshake_deadline if ssl else None,
        ssl_shutdown_timeout=settings.closing_deadline if ssl else None,
    )
    listener._listening(server, host, ssl is not None)
    return listener


async def connect(
    url: str,
    receiver: Receiver,
    settings: WebSocketSettings | None = None,
    *,
    subprotocols: Sequence[str] = SUBPROTOCOLS,
    ssl: SSLContext | None = None,
) -> Transport:
    """Open a connection to a coordinator. `receiver.opened` has been called when this returns; `close` it at the end.

    Args:
        url: `ws://host:port`, or `wss://`.
        receiver: gets the messages. It is not told of an attempt that fails.
        settings: limits and deadlines; `handshake_deadline` bounds this call.
        subprotocols: the encodings to offer, the preferred one first.
        ssl: how to verify a `wss` server; by default with the system's certificates.

    Raises:
        ConnectError: nothing listens there, it refused the connection, or it is not a coordinator.
    """
    settings = settings or WebSocketSettings()
    loop = asyncio.get_running_loop()
    try:
        uri = parse_uri(url)
    except (InvalidURI, ValueError) as exc:
        raise ConnectError(
            f"{url} is not the address of a coordinator; expected ws://host:port", is_final=True
        ) from exc
    where = f"{_bracketed(uri.host)}:{uri.port}"
    context = (ssl or create_default_context()) if uri.secure else None
    handshake = _ClientHandshake(url, uri, receiver, settings, subprotocols)
    is_done = False
    try:
        async with asyncio.timeout(settings.handshake_deadline):
            sock = await _reach(uri.host, uri.port)
            name = uri.host if context is not None else None
            await loop.create_connection(lambda: handshake, sock=sock, ssl=context, server_hostname=name)
            connection = await handshake.opened
            is_done = True
            return connection
    except TimeoutError as exc:
        stage = "no TCP connection" if context is None else "no TCP connection, or no answer in TLS"
        if handshake.is_connected:
            stage = "no answer to the handshake"
        raise ConnectError(f"{url} timed out after {settings.handshake_deadline:g} s: {stage}") from exc
    except socket.gaierror as exc:
        raise ConnectError(f"the name {uri.host} is not known: {exc.strerror}") from exc
    except UnicodeError as exc:  # a part of the name is empty, or too long for any name
        raise ConnectError(f"the name {uri.host} is not valid: {exc}", is_final=True) from exc
    except SSLError as exc:
        hint = _what_to_do(exc, uri.host) if isinstance(exc, SSLCertVerificationError) else ""
        raise ConnectError(f"{url} could not be connected to securely: {exc}{hint}") from exc
    except ConnectionRefusedError as exc:
        raise ConnectError(f"nothing listens at {where}", is_absent=True) from exc
    except OSError as exc:
        what = f"{where} cannot be reached: {_words(exc)}"
        if context is not None and isinstance(exc, ConnectionResetError) and not handshake.is_connected:
            # A coordinator without TLS resets a connection that does not begin with a request; the error has no text.
            what = f"{where} did not answer in TLS: a coordinator without it is at ws://{where}"
        raise ConnectError(what) from exc
    finally:
        if not is_done:
            handshake.abort()


async def _reach(host: str, port: int) -> socket.socket:
    """Return a socket connected to the first address of a host that answers.

    A network may drop what is sent to one of them, mostly of IPv6: waiting for that one would take all the time.

    Raises:
        OSError: none can be reached. If something refused the connection, it is that error.
    """
    loop = asyncio.get_running_loop()
    addresses = await _addresses(host, port)
    reached: list[socket.socket] = []
    errors: list[OSError] = []

    async def attempt(family: int, kind: int, number: int, address: Any, is_over: anyio.Event) -> None:
        try:
            sock = socket.socket(family, kind, number)
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
            except BaseException:
                sock.close()
                raise
        except OSError as exc:
            errors.append(exc)
        else:
            reached.append(sock)
            group.cancel_scope.cancel()
        finally:
            is_over.set()

    try:
        async with anyio.create_task_group() as group:
            for family, kind, number, address in addresses:
                is_over = anyio.Event()
                group.start_soon(attempt, family, kind, number, address, is_over)
                with anyio.move_on_after(NEXT_ADDRESS_AFTER):
                    await is_over.wait()
    except BaseException:
        for sock in reached:
            sock.close()
        raise
    if not reached:
        raise next((exc for exc in errors if isinstance(exc, ConnectionRefusedError)), errors[0])
    for sock in reached[1:]:
        sock.close()
    return reached[0]


async def _addresses(host: str, port: int) -> list[tuple[int, int, int, Any]]:
    """Return (family, type, protocol, address) for each address of a host, the preferred one first."""
    kind = socket.SOCK_STREAM
    with contextlib.suppress(ValueError):  # it is a name; only that is worth a thread, which the event loop would start
        is_old = ipaddress.ip_address(host).version == 4
        if "%" not in host:  # the number of an interface has to be looked up as well
            return [(socket.AF_INET if is_old else socket.AF_INET6, kind, socket.IPPROTO_TCP, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    return [(family, kind, number, address) for family, kind, number, _, address in found]


def _what_to_do(error: SSLCertVerificationError, host: str) -> str:
    """Return advice about a certificate that is not accepted."""
    if error.verify_code in _NOBODY_VOUCHES:
        return _whom_to_trust()
    if error.verify_code in (_OVER, _NOT_YET):
        now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        return f"; the clock here says {now}: if that is right, have the coordinator's --tls-cert renewed"
    if error.verify_code in FOR_ANOTHER:
        return f"; connect to a name that it has, or have the coordinator's --tls-cert issued for {host} as well"
    return ""


def _whom_to_trust() -> str:
    """Return how to trust other issuers, or what is wrong with the file that names them: OpenSSL ignores a bad one."""
    named = os.environ.get("SSL_CERT_FILE")
    if not named:
        return "; SSL_CERT_FILE can name other issuers to trust"
    try:
        with open(named, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - what ends it may be no path
            has_one = any("-----BEGIN " in line and "CERTIFICATE-----" in line for line in file)
    except (OSError, ValueError) as exc:
        return f"; SSL_CERT_FILE names {named}, which cannot be read: {getattr(exc, 'strerror', None) or exc}"
    lacks = "which does not have its issuer" if has_one else "which holds no certificate"
    return f"; SSL_CERT_FILE names {named}, {lacks}"


class _ServerHandshake(asyncio.Protocol):
    """A connection that is not admitted yet. It becomes a `WebSocketConnection`, or gets an answer and ends."""

    __slots__ = ("_head", "_is_answered", "_listener", "_loop", "_protocol", "_settings", "_timer", "_transport")

    def __init__(self, listener: Listener, settings: WebSocketSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._settings = settings
        self._head = bytearray()  # at most HANDSHAKE_MAX_BYTES, gone with this object
        self._is_answered = False
        self._protocol = ServerProtocol(
            subprotocols=cast(Sequence[Subprotocol], SUBPROTOCOLS),
            select_subprotocol=_select_subprotocol,
            max_size=settings.message_max_bytes,
            logger=logger,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(self._settings.handshake_deadline, self._expired)
        if self._listener._is_closing:
            self._transport.abort()
            return
        is_full = len(self._listener._connections) >= self._settings.connections_max
        self._listener._connections.add(self)
        if is_full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "This coordinator holds as many connections as it may.")

    def data_received(self, data: bytes) -> None:
        if self._is_answered:
            return
        # The protocol gets the request and not a byte more: it would treat frames after the request as if the
        # connection were already open, and answer them before the upgrade.
        size = _size_in_head(self._head, data)
        self._head += data[:size]
        if len(self._head) > HANDSHAKE_MAX_BYTES:
            text = f"A request may have {HANDSHAKE_MAX_BYTES} bytes."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
            return
        self._protocol.receive_data(data[:size])
        events = self._protocol.events_received()
        if events:
            self._answer(cast(Request, events[0]), data[size:])
        elif self._protocol.handshake_exc is not None:
            logger.info("refused a connection: %s", self._protocol.handshake_exc)
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._listener._lost(self)

    def close(self, code: int, reason: str) -> None:
        self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason} ({code})".capitalize())

    def abort(self) -> None:
        self._transport.abort()

    def _answer(self, request: Request, rest: bytes) -> None:
        listener, protocol = self._listener, self._protocol
        if request.path == HEALTH_PATH and not request.headers.get_all("Upgrade"):
            self._respond(HTTPStatus.OK, "ok")
            return
        local = self._transport.get_extra_info("sockname")
        refusal = listener._refusal(request, local[0] if local else "")
        if refusal is not None:
            self._refuse(*refusal)
            return
        response = protocol.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            logger.info("refused a connection: HTTP %d: %s", response.status_code, protocol.handshake_exc)
            protocol.send_response(response)
            self._end()
            return
        try:
            receiver = listener._receiver_factory()
        except Exception:
            logger.exception("no receiver could be made for a connection")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "The coordinator failed.")
            return
        self._is_answered = True
        self._timer.cancel()
        protocol.send_response(response)
        connection = listener._upgraded(self, self._transport, protocol, receiver)
        write_out(self._transport, protocol)
        self._transport.set_protocol(connection)
        connection.open(rest)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        if self._is_answered:
            return
        logger.info("refused a connection: HTTP %d: %s", status, text)
        self._respond(status, text)

    def _respond(self, status: HTTPStatus, text: str) -> None:
        response = self._protocol.reject(status, f"{text}\n")
        if status is HTTPStatus.UPGRADE_REQUIRED:
            response.headers["Upgrade"] = "websocket"
        self._protocol.send_response(response)
        self._end()

    def _end(self) -> None:
        """Write the answer and close our half; the peer has the closing deadline to read it and close its own half."""
        self._is_answered = True
        self._timer.cancel()
        self._timer = self._loop.call_later(self._settings.closing_deadline, self._transport.abort)
        if not self._transport.is_closing():
            write_out(self._transport, self._protocol)

    def _expired(self) -> None:
        text = f"No whole request within {self._settings.handshake_deadline:g} s."
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, text)


class _ClientHandshake(asyncio.Protocol):
    """A connection that has asked to be admitted. `opened` is its outcome, set when nothing is left to clean up."""

    def __init__(
        self, url: str, uri: WebSocketURI, receiver: Receiver, settings: WebSocketSettings, subprotocols: Sequence[str]
    ) -> None:
        self.opened: asyncio.Future[WebSocketConnection] = asyncio.get_running_loop().create_future()
        self._url = url
        self._is_secure = uri.secure
        self._receiver = receiver
        self._settings = settings
        self._transport: asyncio.Transport | None = None
        self._failure = ""
        self._offered = subprotocols
        self._is_stranger = False
        """Whether the answer came from something that is not a coordinator."""
        self._is_final = False
        """Whether it will give the same answer every time."""
        self._head = bytearray()  # gone with this object
        self._protocol = ClientProtocol(
            uri,
            subprotocols=cast(Sequence[Subprotocol], subprotocols),
            max_size=settings.message_max_bytes,
            logger=logger,
        )

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        write_out(self._transport, self._protocol)

    def data_received(self, data: bytes) -> None:
        # The protocol gets the answer up to the end of its head: what follows is frames, or a refusal's body.
        size = _size_in_head(self._head, data)
        self._head += data[:size]
        self._protocol.receive_data(data[:size])
        events, rest = self._protocol.events_received(), data[size:]
        if rest and not events:
            self._protocol.receive_data(rest)
            events, rest = self._protocol.events_received(), b""
        self._take(events, rest)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take(self._protocol.events_received(), b"")  # an answer without a length ends here

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            failure = self._failure or f"closed the connection during the handshake{f': {exc}' if exc else ''}"
            error = ConnectError(f"{self._url} {failure}", is_final=self._is_final, is_absent=self._is_stranger)
            self.opened.set_exception(error)

    def abort(self) -> None:
        """Give up, even if the connection opened while its owner was being cancelled."""
        if self.opened.done() and not self.opened.cancelled() and self.opened.exception() is None:
            self.opened.result().abort()
        elif self._transport is not None:
            self._transport.abort()
        self.opened.cancel()

    def _take(self, events: Sequence[Event], rest: bytes) -> None:
        assert self._transport is not None
        if self._failure or self._transport.is_closing() or self.opened.done():
            return  # the caller was cancelled in this turn of the loop, and aborts the connection in the next one
        if self._protocol.handshake_exc is not None and (spoken := self._spoken(self._protocol.handshake_exc)):
            self._is_final = True
            self._fail(f"speaks {', '.join(spoken)}, but was asked for {', '.join(self._offered)}")
        elif self._protocol.handshake_exc is not None:
            self._is_stranger = not _is_refusal(self._protocol.handshake_exc)
            self._fail(_explain(self._protocol.handshake_exc) if self._head else self._silence())
        elif not events:
            return
        elif self._protocol.subprotocol is None:
            self._is_stranger = True
            self._fail("answered without naming a subprotocol: it is not an a2a coordinator")
        else:
            connection = WebSocketConnection(self._transport, self._protocol, self._receiver, self._settings)
            self._transport.set_protocol(connection)
            self.opened.set_result(connection)
            connection.open(rest)

    def _spoken(self, exc: Exception) -> list[str]:
        """Return the encodings that a coordinator names if it speaks none of those offered, else an empty list."""
        if not isinstance(exc, InvalidStatus) or exc.response.status_code != HTTPStatus.BAD_REQUEST:
            return []
        named = list(dict.fromkeys(_ENCODINGS.findall(_body(exc))))
        return [] if set(named) & set(self._offered) else named

    def _silence(self) -> str:
        """Return what a connection that ended without a byte may mean, to follow the URL in a sentence."""
        silence = "did not answer as a coordinator does: it ended the connection without an answer"
        # A coordinator with TLS ends a connection that does not begin with it.
        return silence if self._is_secure else f"{silence}; one with TLS would be at wss{self._url[len('ws') :]}"

    def _fail(self, failure: str) -> None:
        assert self._transport is not None
        self._failure = failure
        self._transport.abort()


def _size_in_head(head: bytearray, data: bytes) -> int:
    """Return how many of these bytes belong to an HTTP head of which `head` has arrived: those up to its blank line."""
    if head.endswith(_BLANK_LINE):
        return 0
    seam = head[-3:]
    found = (seam + data).find(_BLANK_LINE)
    return len(data) if found < 0 else found + len(_BLANK_LINE) - len(seam)


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol:
    """Select the client's first encoding that we know: the client, not we, pays for the encoding."""
    for subprotocol in offered:
        if subprotocol in SUBPROTOCOLS:
            return subprotocol
    raise NegotiationError(f"offer one of the subprotocols {', '.join(SUBPROTOCOLS)}")


def _is_refusal(exc: Exception) -> bool:
    """Tell whether a coordinator may have answered this: it is full, or refuses this name or page."""
    return isinstance(exc, InvalidStatus) and exc.response.status_code in (
        HTTPStatus.FORBIDDEN,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )


def _explain(exc: Exception) -> str:
    """Return why a handshake failed, as the end of a sentence that starts with the URL."""
    if isinstance(exc, InvalidStatus):
        status = exc.response.status_code
        # An upgrade was asked for: if it did not arrive, it was lost on the way.
        hint = f"; {_LOST_UPGRADE}" if status == HTTPStatus.UPGRADE_REQUIRED else ""
        return f"refused the connection with HTTP {status}: {_body(exc) or exc.response.reason_phrase}{hint}"
    cause = f" ({exc.__cause__})" if exc.__cause__ else ""
    return f"did not answer as a coordinator does: {exc}{cause}"


def _body(exc: InvalidStatus) -> str:
    return bytes(exc.response.body or b"")[:500].decode(errors="replace").strip()


def _words(exc: OSError) -> str:
    return str(exc) or type(exc).__name__


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host_name(host: str) -> str:
    """Return the name in a `Host` header, without the port."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]
