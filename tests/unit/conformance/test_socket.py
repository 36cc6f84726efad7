"""The suite's own WebSocket, against one that is not its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.typing import Subprotocol

from a2a.conformance.socket import Closed, Socket

BOUND = 20
JSON = "a2a.coord+json"
MSGPACK = "a2a.coord+msgpack"


@asynccontextmanager
async def server(handler: Callable[[ServerConnection], Awaitable[None]], *protocols: str) -> AsyncIterator[str]:
    """Serve on loopback, for as long as the block."""
    spoken = [Subprotocol(name) for name in protocols or (JSON, MSGPACK)]
    async with asyncio.timeout(BOUND), serve(handler, "127.0.0.1", 0, subprotocols=spoken) as listening:
        yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/path"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_messages_go_out_and_come_in_as_they_are() -> None:
    seen = []

    async def see(connection: ServerConnection) -> None:
        async for message in connection:
            seen.append(message)
            await connection.send(message)

    async with server(see) as url:
        for protocol in (JSON, MSGPACK):
            socket = await Socket.connect(url, protocol)
            assert socket.subprotocol == protocol
            await socket.send("größe".encode())
            assert await socket.receive() == "größe".encode()
            assert socket.came_as == {Opcode.TEXT if protocol == JSON else Opcode.BINARY}
            await socket.close()
        socket = await Socket.connect(url, MSGPACK)
        await socket.send(b"[1]", text=True)
        assert await socket.receive() == b"[1]"
        await socket.close()
    assert seen == ["größe", "größe".encode(), "[1]"], "text where the encoding is JSON, or where it is asked for"


async def test_fragments_are_put_together_with_a_ping_between_them() -> None:
    ponged = asyncio.Event()

    async def in_fragments(connection: ServerConnection) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield "one "
            await (await connection.ping())
            ponged.set()
            yield "two "
            yield "three"

        await connection.send(fragments())
        await connection.send("next")
        await connection.wait_closed()

    async with server(in_fragments) as url:
        socket = await Socket.connect(url, JSON)
        assert await socket.receive() == b"one two three"
        assert ponged.is_set(), "a ping is answered as it comes"
        assert await socket.receive() == b"next"
        assert socket.came_as == {Opcode.TEXT}, "what is put together came as its first piece did"
        await socket.close()


async def test_a_message_goes_out_in_pieces_with_a_ping_between_them() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with server(echo) as url:
        for protocol in (JSON, MSGPACK):
            socket = await Socket.connect(url, protocol)
            await socket.send_in_pieces("größe".encode(), 3, b"alive?")
            assert await socket.receive() == "größe".encode()
            assert socket.pongs == [b"alive?"]
            await socket.close()
            with pytest.raises(Closed):
                await socket.send_in_pieces(b"{}", 1, b"")


async def test_how_the_other_side_closed_is_told() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(4001, "enough")

    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    for handler, code, says in ((close, 4001, r"\(4001\)"), (abort, None, "without a closing frame")):
        async with server(handler) as url:
            socket = await Socket.connect(url, JSON)
            with pytest.raises(Closed, match=says) as closed:
                await socket.receive()
            assert closed.value.code == code
            with pytest.raises(Closed):
                await socket.send(b"{}")
            await socket.close()


async def test_what_is_no_websocket_frame_is_told_at_once() -> None:
    ended = asyncio.Event()

    async def babble(connection: ServerConnection) -> None:
        connection.transport.write(b"\x81\x02ok" + b"\xf1\x00")  # a message, then one with bits that are reserved
        await ended.wait()

    async with server(babble) as url:
        socket = await Socket.connect(url, JSON)
        assert await socket.receive() == b"ok", "what came before is there"
        for _ in range(2):
            with pytest.raises(Closed, match=r"without a closing frame\): what came is no WebSocket frame .*reserved"):
                await socket.receive()
        with pytest.raises(Closed, match="no WebSocket frame"):
            await socket.send(b"{}")
        ended.set()
        await socket.close()


async def test_a_cut_and_half_a_message_end_without_a_word() -> None:
    ended: asyncio.Queue[int | None] = asyncio.Queue()

    async def watch(connection: ServerConnection) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as exc:
            await ended.put(exc.rcvd.code if exc.rcvd else None)

    async with server(watch) as url:
        socket = await Socket.connect(url, JSON)
        await socket.close()
        assert await ended.get() == 1000
        socket = await Socket.connect(url, JSON)
        await socket.write(socket.framed(b'{"kind": "ping"}')[:7])
        socket.cut()
        assert await ended.get() is None


async def test_a_handshake_that_agrees_on_nothing_is_refused() -> None:
    async with server(echo, MSGPACK) as url:
        with pytest.raises(ConnectionError):
            await Socket.connect(url, JSON)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n\r\n", b""])
async def test_what_is_no_websocket_is_refused(said: bytes) -> None:
    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with asyncio.timeout(BOUND), await asyncio.start_server(mumble, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await Socket.connect(f"ws://127.0.0.1:{port}", JSON)


@asynccontextmanager
async def accepting(taken: asyncio.Queue[Socket | Exception]) -> AsyncIterator[str]:
    """Take connections as the suite does that listens for a peer."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await taken.put(await Socket.accept(reader, writer, (JSON, MSGPACK)))
        except ConnectionError as exc:
            await taken.put(exc)
            writer.close()

    async with asyncio.timeout(BOUND), await asyncio.start_server(take, "127.0.0.1", 0) as listening:
        yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_a_peer_that_comes_is_taken() -> None:
    taken: asyncio.Queue[Socket | Exception] = asyncio.Queue()
    async with accepting(taken) as url:
        async with connect(url, subprotocols=[Subprotocol(MSGPACK)], compression=None) as peer:
            socket = await taken.get()
            assert isinstance(socket, Socket)
            assert socket.subprotocol == peer.subprotocol == MSGPACK
            await peer.send(b"\x80")
            assert await socket.receive() == b"\x80"
            await socket.send(b"\x81")
            assert await peer.recv() == b"\x81"
            await socket.close()
            await peer.wait_closed()
            assert peer.close_code == 1000


async def test_a_peer_that_speaks_none_of_the_subprotocols_is_turned_away() -> None:
    taken: asyncio.Queue[Socket | Exception] = asyncio.Queue()
    async with accepting(taken) as url:
        with pytest.raises(Exception):  # noqa: B017  # whatever its library calls it
            async with connect(url, subprotocols=[Subprotocol("chat")], open_timeout=BOUND):
                pass
        assert isinstance(await taken.get(), ConnectionError)


async def test_a_peer_that_closes_need_not_wait_for_the_end() -> None:
    taken: asyncio.Queue[Socket | Exception] = asyncio.Queue()
    async with accepting(taken) as url:
        peer = await connect(url, subprotocols=[Subprotocol(JSON)], close_timeout=None)
        socket = await taken.get()
        assert isinstance(socket, Socket)
        closing = asyncio.create_task(peer.close(1011))
        with pytest.raises(Closed, match=r"\(1011\)"):
            await socket.receive()
        await closing
        await socket.close()
