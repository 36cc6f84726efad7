"""A WebSocket with every byte under the suite's control: it can be cut in the middle of a frame, or left unread."""

from __future__ import annotations

import asyncio
import ssl
from typing import Self

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

__all__ = ["Closed", "Socket"]

MESSAGE_MAX_BYTES = 64 * 1024 * 1024
"""The suite accepts more than it may send (LIMIT-1)."""


class Closed(Exception):
    """The other side has closed the connection, or it broke."""

    def __init__(self, code: int | None, why: str = "") -> None:
        told = f"the connection is closed ({code if code is not None else 'without a closing frame'})"
        super().__init__(f"{told}: {why}" if why else told)
        self.code = code
        """The WebSocket close code, if there was one."""


class Socket:
    """One open WebSocket, on either side."""

    def __init__(
        self, protocol: ClientProtocol | ServerProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._messages: list[bytes] = []
        self._fragments = bytearray()
        self.subprotocol = ""
        self.came_as: set[Opcode] = set()
        """The kinds of messages that have come, text or binary."""
        self.pongs: list[bytes] = []
        """The data of the other side's answers to WebSocket pings."""

    @classmethod
    async def connect(cls, url: str, subprotocol: str, *, tls: ssl.SSLContext | None = None) -> Self:
        """Open a connection to a coordinator.

        Raises:
            OSError: nobody listens there.
            ConnectionError: the handshake was refused, or did not agree on the subprotocol.
        """
        where = parse_uri(url)
        context = (tls or ssl.create_default_context()) if where.secure else None
        reader, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
        protocol = ClientProtocol(where, subprotocols=[Subprotocol(subprotocol)], max_size=MESSAGE_MAX_BYTES)
        socket = cls(protocol, reader, writer)
        try:
            protocol.send_request(protocol.connect())
            await socket._handshake(Response)
            if protocol.subprotocol != subprotocol:
                raise ConnectionError(f"asked for the subprotocol {subprotocol}, agreed on {protocol.subprotocol}")
        except BaseException:  # also where the wait was given up
            writer.close()
            raise
        socket.subprotocol = subprotocol
        return socket

    @classmethod
    async def accept(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, subprotocols: tuple[str, ...]
    ) -> Self:
        """Accept a connection to the suite.

        Raises:
            ConnectionError: it is no WebSocket, or offers none of the subprotocols.
        """
        protocol = ServerProtocol(subprotocols=[Subprotocol(name) for name in subprotocols], max_size=MESSAGE_MAX_BYTES)
        socket = cls(protocol, reader, writer)
        request = await socket._handshake(Request)
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        await socket._flush()
        if protocol.state is not OPEN or protocol.subprotocol is None:
            raise ConnectionError("the peer offered none of the subprotocols")
        socket.subprotocol = protocol.subprotocol
        return socket

    async def _handshake(self, wanted: type[Request] | type[Response]) -> Request | Response:
        await self._flush()
        while True:
            events = self._protocol.events_received()
            if events and isinstance(events[0], wanted):
                for event in events[1:]:  # frames that came right after it
                    self._take(event)
                await self._flush()  # a ping may have been among them
                return events[0]
            if self._protocol.handshake_exc is not None:
                raise ConnectionError(str(self._protocol.handshake_exc)) from self._protocol.handshake_exc
            data = await self._reader.read(65_536)
            try:
                self._protocol.receive_data(data) if data else self._protocol.receive_eof()
            except InvalidHandshake as exc:
                raise ConnectionError(str(exc)) from exc
            if not data and self._protocol.handshake_exc is None:
                raise ConnectionError("the connection ended in the handshake")

    def framed(self, message: bytes, *, text: bool | None = None) -> bytes:
        """Return the bytes that would be written for a message, without writing them."""
        is_text = self.subprotocol.endswith("json") if text is None else text
        (self._protocol.send_text if is_text else self._protocol.send_binary)(message)
        return b"".join(self._protocol.data_to_send())

    async def send(self, message: bytes, *, text: bool | None = None) -> None:
        """Send a message, as text where the encoding is JSON.

        Raises:
            Closed: the connection is gone.
        """
        await self.write(self.framed(message, text=text) if self._protocol.state is OPEN else b"")

    async def send_in_pieces(self, message: bytes, at: int, ping: bytes) -> None:
        """Send a message in two fragments, with a WebSocket ping between them, as RFC 6455 allows (5.4).

        Raises:
            Closed: the connection is gone.
        """
        protocol = self._protocol
        if protocol.state is OPEN:
            is_text = self.subprotocol.endswith("json")
            (protocol.send_text if is_text else protocol.send_binary)(message[:at], fin=False)
            protocol.send_ping(ping)
            protocol.send_continuation(message[at:], fin=True)
        await self.write(b"".join(protocol.data_to_send()))

    async def write(self, data: bytes) -> None:
        """Write bytes unchanged.

        Raises:
            Closed: the connection is gone.
        """
        if self._protocol.state is not OPEN or self._writer.is_closing():
            raise Closed(self._protocol.close_code, self._wrong())
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as exc:
            raise Closed(None) from exc

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            Closed: there is no further message.
        """
        while not self._messages:
            if wrong := self._wrong():
                raise Closed(None, wrong)  # nothing that follows could be read
            try:
                data = await self._reader.read(65_536)
            except OSError:
                data = b""
            if not data:
                self._protocol.receive_eof()
                raise Closed(self._protocol.close_rcvd.code if self._protocol.close_rcvd else None)
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                self._take(event)
            await self._flush()
        return self._messages.pop(0)

    def _wrong(self) -> str:
        """Return what is wrong with the WebSocket frames that came; empty if they only ended."""
        wrong = self._protocol.parser_exc
        if wrong is None or isinstance(wrong, EOFError):
            return ""
        return f"what came is no WebSocket frame (RFC 6455): {wrong}"

    def _take(self, event: object) -> None:
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if event.opcode is not Opcode.CONT:
                self.came_as.add(event.opcode)
            self._fragments += event.data
            if event.fin:
                self._messages.append(bytes(self._fragments))
                self._fragments.clear()
        elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
            self.pongs.append(bytes(event.data))

    async def close(self) -> None:
        """Close it in good order, without waiting for the other side."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(1000)
            await self._flush()
        self._writer.close()

    def cut(self) -> None:
        """Break it off as a lost network does, without a closing frame."""
        transport = self._writer.transport
        transport.abort()

    async def _flush(self) -> None:
        chunks = self._protocol.data_to_send()
        if not chunks or self._writer.is_closing():
            return
        data = b"".join(chunks)
        try:
            if data:
                self._writer.write(data)
                await self._writer.drain()
            if SEND_EOF in chunks and self._writer.can_write_eof():
                self._writer.write_eof()  # a peer that has closed waits for this (RFC 6455, 7.1.1)
        except OSError:
            pass  # the next receive says that it is closed
