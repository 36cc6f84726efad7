"""Stands between a coordinator and its peers and reports each message; it changes none of them.

For every connection of a peer it opens another one to the coordinator, with the same encoding. It decodes messages only
to report them, so malformed ones pass too. Used by `a2a tap`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any

from pydantic.alias_generators import to_camel

from .errors import ConnectError
from .protocol.codec import maps_of
from .protocol.messages import Hello, Welcome
from .transports.base import Transport
from .transports.sending import FROM_COORDINATOR_MAX
from .transports.websocket import Listener, WebSocketSettings, connect, serve

__all__ = ["Passed", "Tap"]

OPENS_DOORS = sorted({to_camel(item.name) for kind in (Hello, Welcome) for item in fields(kind) if not item.repr})
"""Fields of hello and welcome that are hidden, because people pass the output on, as in a bug report."""
_WAITING_MAX = 1024 * 1024
"""Bytes that wait for one end at which the other is no longer read."""
_SHOWN_BYTES = 100
"""How much is shown of a message that holds no frames."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A frame that passed, or a note about a connection."""

    connection: int
    """The number of the peer's connection, from 1."""
    agent: str
    """The agent id in its hello; empty before that."""
    is_from_peer: bool
    frame: dict[str, Any] | None
    """The frame as on the wire, without its secrets. Payloads of MessagePack are text, as they are in JSON."""
    note: str = ""
    """The note, if there is no frame."""


class Tap:
    """Relays between peers that connect here and one coordinator.

    Args:
        url: the coordinator's address.
        tell: gets each frame that passes, before it is forwarded.
    """

    def __init__(self, url: str, tell: Callable[[Passed], None]) -> None:
        self.url = url
        self.tell = tell
        self.settings = WebSocketSettings(
            message_max_bytes=FROM_COORDINATOR_MAX, outbox_max_bytes=2 * FROM_COORDINATOR_MAX
        )
        self._numbers = 0
        self._dialing: set[asyncio.Task[None]] = set()

    async def listen(self, port: int) -> Listener:
        """Accept connections on this machine; close the returned listener at the end.

        Raises:
            OSError: it cannot listen on the port.
        """
        return await serve("127.0.0.1", port, self._line, self.settings)

    def _line(self) -> _End:
        self._numbers += 1
        return _Line(self, self._numbers).peer

    def begin(self, dial: Coroutine[Any, Any, None]) -> None:
        """Open the other half of a line."""
        task = asyncio.create_task(dial)
        self._dialing.add(task)
        task.add_done_callback(self._dialing.discard)


class _Line:
    """A peer's connection, and the one opened for it."""

    def __init__(self, tap: Tap, number: int) -> None:
        self.peer, self.coordinator = _End(self, is_peer=True), _End(self, is_peer=False)
        self.peer.other, self.coordinator.other = self.coordinator, self.peer
        self._tap = tap
        self._number = number
        self._agent = ""

    def begin(self, peer: Transport) -> None:
        """Open the connection to the coordinator; the peer waits for it."""
        self.note("has connected")
        peer.pause_reading()
        self._tap.begin(self._dial(peer))

    async def _dial(self, peer: Transport) -> None:
        try:
            await connect(self._tap.url, self.coordinator, self._tap.settings, subprotocols=(peer.subprotocol,))
        except ConnectError as error:
            self.note(str(error))
            peer.close(1001, "no coordinator")
            return
        peer.resume_reading()  # a peer that has left meanwhile is noticed only now

    def note(self, text: str, *, is_from_peer: bool = True) -> None:
        self._tap.tell(Passed(self._number, self._agent, is_from_peer, None, text))

    def passes(self, data: bytes, transport: Transport, *, is_from_peer: bool) -> None:
        """Report the frames of a message."""
        try:
            maps = maps_of(data, transport.subprotocol)
        except ValueError as error:
            self.note(f"{len(data)} bytes that are no frames ({error}): {_beginning(data)}", is_from_peer=is_from_peer)
            return
        for frame in map(_as_text, maps):
            body = frame.get("body")
            if frame.get("kind") == "hello" and isinstance(body, dict):
                self._agent = str(body.get("agentId", ""))
            self._tap.tell(Passed(self._number, self._agent, is_from_peer, _without_secrets(frame)))


class _End:
    """One of the two connections of a line; it is a receiver."""

    other: _End

    def __init__(self, line: _Line, *, is_peer: bool) -> None:
        self.transport: Transport | None = None
        self._line = line
        self._is_peer = is_peer
        self._early: list[bytes] = []
        """Messages that came before the other connection was open."""

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        if self._is_peer:
            self._line.begin(transport)
        for data in self.other._early:
            transport.send(data)

    def received(self, data: bytes) -> None:
        assert self.transport is not None, "it is open"
        self._line.passes(data, self.transport, is_from_peer=self._is_peer)
        to = self.other.transport
        if to is None:
            self._early.append(data)
            return
        to.send(data)
        if to.waiting > _WAITING_MAX:
            self.transport.pause_reading()
            to.when_drained(self.transport.resume_reading)

    def closed(self, reason: str) -> None:
        self._line.note(f"connection closed: {reason}", is_from_peer=self._is_peer)
        if self.other.transport is not None:
            self.other.transport.close(1000, "the other end has closed")


def _as_text(value: Any) -> Any:
    """Return a value in which `bin` values, and others without a JSON form, are text."""
    if isinstance(value, dict):
        return {str(name): _as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str | int | float | None) else repr(value)


def _beginning(data: bytes) -> str:
    """Return the beginning of an unreadable message, up to the first field that may hold a secret."""
    ends = [place + len(name) for name in OPENS_DOORS if (place := data.find(name.encode())) >= 0]
    shown = data[: min([*ends, _SHOWN_BYTES])]
    return f"{shown!r}{'...' if len(data) > len(shown) else ''}"


def _without_secrets(frame: dict[str, Any]) -> dict[str, Any]:
    body = frame.get("body")
    if frame.get("kind") not in ("hello", "welcome") or not isinstance(body, dict):
        return frame
    return {**frame, "body": {name: "(hidden)" if name in OPENS_DOORS else value for name, value in body.items()}}
