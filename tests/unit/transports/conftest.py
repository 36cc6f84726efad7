"""What the transport tests share: a receiver that writes down what it is told, listeners, a peer on a raw socket."""

import asyncio
import base64
import socket
import struct
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest

from a2a.transports.base import Transport
from a2a.transports.websocket import MSGPACK, WebSocketSettings, connect, serve

WAIT = 10.0
"""The bound of every wait; a test that passes never gets near it."""


class Recorder:
    """A receiver that keeps everything. `until` waits for what it is told next, it never polls."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.calls: list[str] = []
        self.messages: list[bytes] = []
        self.reasons: list[str] = []
        self.on_opened: Callable[[Transport], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self._changed = asyncio.Event()

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        self._note("opened")
        if self.on_opened:
            self.on_opened(transport)

    def received(self, data: bytes) -> None:
        self.messages.append(data)
        self._note("received")
        if self.on_message:
            self.on_message(data)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self._note("closed")

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    async def until_opened(self) -> Transport:
        await self.until(lambda: self.transport)
        assert self.transport is not None
        return self.transport

    async def until_received(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.messages) >= count)
        return self.messages

    async def until_closed(self) -> str:
        await self.until(lambda: self.reasons)
        return self.reasons[0]

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()


@pytest.fixture
def make_recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture(autouse=True)
def no_callback_failed(caplog):
    """An exception in a callback ends in the log of the event loop, and nowhere else."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"] == []


@pytest.fixture
def listening(make_recorder):
    """Opens a listener whose `recorders` are the receivers it made, in order."""

    @asynccontextmanager
    async def open_listener(*, host="127.0.0.1", prepare=lambda recorder: None, ssl=None, **settings):
        recorders = []

        def make():
            recorder = make_recorder()
            prepare(recorder)
            recorders.append(recorder)
            return recorder

        listener = await serve(host, 0, make, WebSocketSettings(**settings), ssl=ssl)
        listener.recorders = recorders
        try:
            yield listener
        finally:
            async with asyncio.timeout(WAIT):
                await listener.aclose()

    return open_listener


@pytest.fixture
def connected():
    """Connects a recorder to a listener."""

    @asynccontextmanager
    async def open_connection(listener, recorder, **options):
        transport = await connect(listener.url, recorder, **options)
        try:
            yield transport
        finally:
            transport.abort()
            await recorder.until_closed()

    return open_connection


class RawPeer:
    """A client on a bare socket: it sends what it is told to and reads only when asked."""

    def __init__(self, sock):
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.unread = b""

    async def write(self, data):
        async with asyncio.timeout(WAIT):
            await self.loop.sock_sendall(self.sock, data)

    async def write_frame(self, head, payload=b""):
        """`head` is FIN and opcode. The mask is zero, which leaves the payload as it is."""
        if len(payload) < 126:
            length = struct.pack("!B", 0x80 | len(payload))
        else:
            length = struct.pack("!BQ", 0x80 | 127, len(payload))
        await self.write(bytes([head]) + length + bytes(4) + payload)

    async def read_some(self, size=65536):
        async with asyncio.timeout(WAIT):
            return await self.loop.sock_recv(self.sock, size)

    async def read_exactly(self, size):
        while len(self.unread) < size:
            data = await self.read_some()
            if not data:
                raise EOFError(self.unread)
            self.unread += data
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    async def read_head(self):
        """The head of an HTTP answer."""
        while b"\r\n\r\n" not in self.unread:
            data = await self.read_some()
            if not data:
                raise EOFError(self.unread)
            self.unread += data
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        return head.decode()

    async def read_to_end(self):
        data, self.unread = self.unread, b""
        while more := await self.read_some():
            data += more
        return data.decode()

    async def read_frame(self):
        head, length = await self.read_exactly(2)
        if length == 126:
            [length] = struct.unpack("!H", await self.read_exactly(2))
        elif length == 127:
            [length] = struct.unpack("!Q", await self.read_exactly(8))
        return head, await self.read_exactly(length)

    async def read_close(self):
        """The code of the closing frame, once everything before it was read."""
        while True:
            head, payload = await self.read_frame()
            if head == FIN_CLOSE:
                return struct.unpack("!H", payload[:2])[0]


FIN_CLOSE = 0x88
"""The first byte of a closing frame."""


@pytest.fixture
def raw_peer():
    """Opens a bare socket to a listener."""

    @asynccontextmanager
    async def open_socket(listener, address="127.0.0.1", **options):
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            for option, value in options.items():
                sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
            await loop.sock_connect(sock, (address, listener.port))
            yield RawPeer(sock)

    return open_socket


@pytest.fixture
def raw_websocket(raw_peer, upgrade):
    """Gives a raw peer whose handshake is done, and the recorder at the other end."""

    @asynccontextmanager
    async def open_websocket(listener, subprotocol=MSGPACK, **options):
        async with raw_peer(listener, **options) as peer:
            await peer.write(upgrade(Sec_WebSocket_Protocol=subprotocol))
            assert (await peer.read_head()).startswith("HTTP/1.1 101 ")
            recorder = listener.recorders[-1]
            await recorder.until_opened()
            yield peer, recorder

    return open_websocket


@pytest.fixture
def upgrade():
    """Makes an upgrade request. A changed header replaces the usual one; None leaves it out, a list repeats it."""

    def make(**changes):
        headers = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Key": base64.b64encode(bytes(16)).decode(),
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Protocol": MSGPACK,
        } | changes
        lines = ["GET / HTTP/1.1"]
        for name, values in headers.items():
            for value in values if isinstance(values, list) else [values]:
                if value is not None:
                    lines.append(f"{name.replace('_', '-')}: {value}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    return make
