"""What only the WebSocket transport promises: who is let in, what a hostile or dead peer costs, and that other
implementations of the protocol can be talked to. A raw socket plays the peers that no library would."""

import asyncio
import base64
import logging
import socket
import struct
import sys
import time
from contextlib import asynccontextmanager

import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed, InvalidStatus

from a2a.errors import ConnectError
from a2a.transports.websocket import JSON, MSGPACK, WebSocketSettings, connect, serve

WAIT = 10.0
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN = 0x80


@pytest.fixture
def listening(make_recorder):
    """Opens a listener whose `recorders` are the receivers it made, in order."""

    @asynccontextmanager
    async def open_listener(*, host="127.0.0.1", prepare=lambda recorder: None, **settings):
        recorders = []

        def make():
            recorder = make_recorder()
            prepare(recorder)
            recorders.append(recorder)
            return recorder

        listener = await serve(host, 0, make, WebSocketSettings(**settings))
        listener.recorders = recorders
        try:
            yield listener
        finally:
            async with asyncio.timeout(WAIT):
                await listener.aclose()

    return open_listener


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
            if head == FIN | CLOSE:
                return struct.unpack("!H", payload[:2])[0]


def upgrade(**changes):
    """An upgrade request. A changed header replaces the usual one; None leaves it out, a list repeats it."""
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


@asynccontextmanager
async def raw_peer(listener, address="127.0.0.1", **options):
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        for option, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        await loop.sock_connect(sock, (address, listener.port))
        yield RawPeer(sock)


@asynccontextmanager
async def raw_websocket(listener, subprotocol=MSGPACK, **options):
    """A raw peer whose handshake is done, and the recorder at the other end."""
    async with raw_peer(listener, **options) as peer:
        await peer.write(upgrade(Sec_WebSocket_Protocol=subprotocol))
        assert (await peer.read_head()).startswith("HTTP/1.1 101 ")
        recorder = listener.recorders[-1]
        await recorder.until_opened()
        yield peer, recorder


async def answer_to(listener, request):
    async with raw_peer(listener) as peer:
        await peer.write(request)
        return await peer.read_to_end()


@asynccontextmanager
async def connected(listener, recorder, **options):
    transport = await connect(listener.url, recorder, **options)
    try:
        yield transport
    finally:
        transport.abort()
        await recorder.until_closed()


# --- who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"Origin": "https://evil.example"}, 403, "https://evil.example"),
        ({"Origin": "null"}, 403, "null"),
        ({"Origin": ["https://console.example", "https://evil.example"]}, 403, "https://evil.example"),
        ({"Host": "evil.example"}, 403, "evil.example"),
        ({"Host": "evil.example:80"}, 403, "evil.example"),
        ({"Host": "localhost.evil.example"}, 403, "localhost.evil.example"),
        ({"Host": "0.0.0.0"}, 403, "0.0.0.0"),
        ({"Host": ["localhost", "evil.example"]}, 400, "one Host header"),
        ({"Host": None}, 400, "one Host header"),
        ({"Sec_WebSocket_Protocol": None}, 400, f"{MSGPACK}, {JSON}"),
        ({"Sec_WebSocket_Protocol": "chat, mqtt"}, 400, f"{MSGPACK}, {JSON}"),
        ({"Sec_WebSocket_Key": "short"}, 400, "Sec-WebSocket-Key"),
        ({"Upgrade": None, "Connection": None}, 426, "ws://127.0.0.1:"),
        ({"Cookie": ["x" * 1000] * 9}, 431, "8192 bytes"),
    ],
)
async def test_an_upgrade_that_is_not_allowed_is_answered_with_the_reason(listening, changes, status, says):
    async with listening(origins=frozenset({"https://console.example"})) as listener:
        answer = await answer_to(listener, upgrade(**changes))
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert says in answer.partition("\r\n\r\n")[2]
        assert listener.recorders == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Origin": "https://console.example"},
        {"Host": "LOCALHOST:8080"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:8080"},
        {"Host": "agents.example:443"},
    ],
)
async def test_an_upgrade_that_is_allowed_opens_a_connection(listening, changes):
    settings = {"origins": frozenset({"https://console.example"}), "hosts": frozenset({"Agents.example"})}
    async with listening(**settings) as listener, raw_peer(listener) as peer:
        await peer.write(upgrade(**changes))
        assert (await peer.read_head()).startswith("HTTP/1.1 101 ")


@pytest.mark.skipif(sys.platform != "linux", reason="the only address surely ours is 127.0.0.1")
async def test_a_listener_on_all_addresses_is_called_by_the_one_that_was_reached(listening):
    async with listening(host="0.0.0.0") as listener:
        for other in ("10.1.2.3", "0.0.0.0"):
            assert (await answer_to(listener, upgrade(Host=other))).startswith("HTTP/1.1 403 ")
        async with raw_peer(listener, "127.0.0.2") as peer:
            await peer.write(upgrade(Host=f"127.0.0.2:{listener.port}"))
            assert (await peer.read_head()).startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([MSGPACK], MSGPACK), ([JSON], JSON), ([JSON, MSGPACK], JSON), (["chat", MSGPACK, JSON], MSGPACK)],
)
async def test_the_first_offered_subprotocol_that_is_known_is_chosen(listening, make_recorder, offered, chosen):
    async with (
        listening() as listener,
        connected(listener, make_recorder(), subprotocols=offered) as transport,
    ):
        assert transport.subprotocol == chosen
        assert (await listener.recorders[0].until_opened()).subprotocol == chosen


async def test_a_connection_more_than_the_listener_holds_is_refused_until_one_ends(listening, make_recorder):
    async with listening(connections_max=1, closing_deadline=0.05) as listener:
        async with connected(listener, make_recorder()):
            with pytest.raises(ConnectError, match="HTTP 503"):
                await connect(listener.url, make_recorder())
        await listener.recorders[0].until_closed()
        async with asyncio.timeout(WAIT):
            while True:
                try:
                    async with connected(listener, make_recorder()):
                        break
                except ConnectError:  # the refused one takes its closing deadline to go
                    await asyncio.sleep(0.01)


async def test_a_handshake_that_takes_too_long_is_ended(listening):
    async with listening(handshake_deadline=0.05) as listener, raw_peer(listener) as peer:
        await peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert (await peer.read_to_end()).startswith("HTTP/1.1 408 ")


async def test_a_peer_that_is_still_writing_can_read_why_it_was_refused(listening):
    async with listening() as listener, raw_peer(listener) as peer:
        await peer.write(upgrade(Host="evil.example"))
        for _ in range(64):
            await peer.write(bytes(65536))
        assert (await peer.read_to_end()).startswith("HTTP/1.1 403 ")


async def test_a_peer_that_stays_after_it_was_refused_is_dropped(listening):
    async with listening(closing_deadline=0.05) as listener, raw_peer(listener) as peer:
        await peer.write(upgrade(Host="evil.example"))
        await peer.read_to_end()
        with pytest.raises(ConnectionError):
            while True:
                await peer.write(bytes(65536))
                await asyncio.sleep(0)


async def test_a_request_may_come_byte_by_byte_with_messages_right_behind_it(listening):
    async with listening() as listener, raw_peer(listener) as peer:
        for byte in upgrade():
            await peer.write(bytes([byte]))
            await asyncio.sleep(0)
        await peer.read_head()
        await peer.write_frame(FIN | BINARY, b"1")
        assert await listener.recorders[0].until_received(1) == [b"1"]


async def test_frames_sent_together_with_the_request_are_answered_after_it(listening):
    async with listening() as listener, raw_peer(listener) as peer:
        await peer.write(
            upgrade() + bytes([FIN | PING, 0x80]) + bytes(4) + bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1"
        )
        assert (await peer.read_head()).startswith("HTTP/1.1 101 ")
        assert await peer.read_frame() == (FIN | PONG, b"")
        assert await listener.recorders[0].until_received(1) == [b"1"]


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", bytes(range(256)), bytes(100_000)],
    ids=["text", "tls", "bytes", "zeros"],
)
async def test_garbage_instead_of_http_disturbs_nobody_else(listening, make_recorder, garbage):
    recorder = make_recorder()
    async with listening() as listener, connected(listener, recorder) as transport:
        async with raw_peer(listener) as peer:
            await peer.write(garbage)
            await peer.read_to_end()
        transport.send(b"undisturbed")
        assert await listener.recorders[0].until_received(1) == [b"undisturbed"]
        assert len(listener.recorders) == 1


async def test_a_factory_that_fails_costs_the_connection_it_failed_for(make_recorder, caplog):
    def fail():
        raise RuntimeError("a bug")

    listener = await serve("127.0.0.1", 0, fail)
    with pytest.raises(ConnectError, match="HTTP 500"):
        await connect(listener.url, make_recorder())
    await listener.aclose()
    assert "a bug" in caplog.text


# --- messages --------------------------------------------------------------------------------------------------------


async def test_a_fragmented_message_is_put_together(listening):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        await peer.write_frame(BINARY, b"one ")
        await peer.write_frame(CONTINUATION, b"")
        await peer.write_frame(FIN | PING, b"meanwhile")
        await peer.write_frame(CONTINUATION, b"two ")
        await peer.write_frame(FIN | CONTINUATION, b"three")
        await peer.write_frame(FIN | BINARY, b"next")
        assert await recorder.until_received(2) == [b"one two three", b"next"]
        assert await peer.read_frame() == (FIN | PONG, b"meanwhile")


@pytest.mark.parametrize(("subprotocol", "opcode"), [(MSGPACK, BINARY), (JSON, TEXT)])
async def test_messages_leave_in_the_frames_of_their_encoding(listening, subprotocol, opcode):
    async with listening() as listener, raw_websocket(listener, subprotocol) as (peer, recorder):
        recorder.transport.send("ü".encode())
        assert await peer.read_frame() == (FIN | opcode, "ü".encode())


async def test_messages_of_one_turn_leave_in_one_write(listening):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        for number in range(100):
            recorder.transport.send(b"%02d" % number)
        data = await peer.read_some()
        assert data == b"".join(bytes([FIN | BINARY, 2]) + b"%02d" % number for number in range(100))


async def test_text_arrives_as_its_bytes(listening):
    async with listening() as listener, raw_websocket(listener, JSON) as (peer, recorder):
        half, other_half = "ü".encode()[:1], "ü".encode()[1:]
        await peer.write_frame(FIN | TEXT, "grün".encode())
        await peer.write_frame(TEXT, half)
        await peer.write_frame(FIN | CONTINUATION, other_half)
        assert await recorder.until_received(2) == ["grün".encode(), "ü".encode()]


async def test_text_that_is_not_utf8_closes_with_1007(listening):
    async with listening() as listener, raw_websocket(listener, JSON) as (peer, recorder):
        await peer.write_frame(FIN | TEXT, b"\xff")
        assert await peer.read_close() == 1007
        await peer.write_frame(FIN | CLOSE, struct.pack("!H", 1007))
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).startswith("closed here: 1007 ")
        assert recorder.messages == []


async def test_a_message_of_the_largest_size_arrives(listening, make_recorder):
    async with listening(message_max_bytes=1000) as listener, connected(listener, make_recorder()) as transport:
        transport.send(bytes(1000))
        assert await listener.recorders[0].until_received(1) == [bytes(1000)]


async def test_a_larger_message_closes_with_1009(listening, make_recorder):
    recorder = make_recorder()
    async with listening(message_max_bytes=1000) as listener, connected(listener, recorder) as transport:
        transport.send(b"before")
        transport.send(bytes(1001))
        assert (await recorder.until_closed()).startswith("closed by the peer: 1009 (message too big)")
        assert await listener.recorders[0].until_received(1) == [b"before"]
        assert (await listener.recorders[0].until_closed()).startswith("closed here: 1009 (message too big)")


async def test_a_larger_message_in_small_fragments_closes_with_1009(listening):
    async with listening(message_max_bytes=1000) as listener, raw_websocket(listener) as (peer, recorder):
        await peer.write_frame(BINARY, bytes(600))
        await peer.write_frame(CONTINUATION, bytes(600))
        assert await peer.read_close() == 1009
        assert recorder.messages == []


async def test_a_frame_against_the_rules_closes_with_1002_after_what_came_before_it(listening):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        await peer.write(bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1" + bytes([FIN | BINARY, 0x01]) + b"2")
        assert await peer.read_close() == 1002
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).startswith("closed here: 1002 (protocol error)")
        assert recorder.messages == [b"1"]


# --- dead and hostile peers ------------------------------------------------------------------------------------------


async def test_a_half_open_peer_is_found_dead(listening):
    async with (
        listening(ping_interval=0.05, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        assert "did not answer a ping" in await recorder.until_closed()
        assert await peer.read_frame() == (FIN | PING, b"")


async def test_a_peer_that_answers_pings_and_says_nothing_else_stays(listening):
    async with (
        listening(ping_interval=0.02, ping_timeout=5.0) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        for _ in range(5):
            assert await peer.read_frame() == (FIN | PING, b"")
            await peer.write_frame(FIN | PONG)
        await peer.write_frame(FIN | BINARY, b"here")
        await recorder.until_received(1)
        assert recorder.reasons == []


async def test_the_owner_can_ask_for_signs_of_life_sooner(listening):
    async with (
        listening(ping_interval=60.0, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        recorder.transport.keepalive(0.05)
        assert await peer.read_frame() == (FIN | PING, b"")
        assert "did not answer a ping" in await recorder.until_closed()


async def test_the_owner_can_ask_for_signs_of_life_later(listening):
    async with (
        listening(ping_interval=0.05, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        started = time.monotonic()
        recorder.transport.keepalive(0.5)
        assert await peer.read_frame() == (FIN | PING, b"")
        assert time.monotonic() - started > 0.4


async def test_a_peer_is_not_thought_dead_while_nobody_listens_to_it(listening):
    async with (
        listening(ping_interval=0.05, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        assert await peer.read_frame() == (FIN | PING, b"")
        recorder.transport.pause_reading()
        await asyncio.sleep(0.3)  # several times what kills a silent peer
        recorder.transport.resume_reading()
        assert await peer.read_frame() == (FIN | PING, b"")
        assert recorder.reasons == []


async def test_a_peer_that_reads_nothing_is_dropped_by_the_write_deadline(listening):
    async with (
        listening(write_deadline=0.2, outbox_max_bytes=64 * 1024 * 1024) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (_, recorder),
    ):
        for _ in range(256):
            recorder.transport.send(bytes(64 * 1024))
        assert (await recorder.until_closed()).startswith("the peer read nothing for 0.2 s while ")


async def test_a_peer_that_answers_pings_and_reads_nothing_is_dropped_too(listening):
    async with (
        listening(write_deadline=0.2, ping_interval=0.02, ping_timeout=5.0) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        for _ in range(128):
            recorder.transport.send(bytes(64 * 1024))
        with pytest.raises(ConnectionError):
            while True:
                await peer.write_frame(FIN | PONG)
                await asyncio.sleep(0.01)
        assert (await recorder.until_closed()).startswith("the peer read nothing for 0.2 s while ")


async def test_a_peer_that_reads_slowly_is_not_dropped(listening):
    async with (
        listening(write_deadline=0.4, ping_interval=0.1, ping_timeout=0.1) as listener,
        raw_websocket(listener, SO_RCVBUF=65536) as (peer, recorder),
    ):
        for _ in range(128):
            recorder.transport.send(bytes(64 * 1024))
        for _ in range(30):
            await peer.read_exactly(64 * 1024)
            await asyncio.sleep(0.03)  # the pace of this peer: for twice the deadline it has not read everything
        assert recorder.reasons == []


async def test_what_a_peer_does_not_read_waits_here_and_not_in_the_buffer_of_asyncio(listening):
    """From Python 3.12 on that buffer is a list which is walked to tell its size."""
    async with listening() as listener, raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder):
        for _ in range(120):
            recorder.transport.send(bytes(64 * 1024))
            await asyncio.sleep(0)
        assert 0 < recorder.transport._transport.get_write_buffer_size() < 256 * 1024
        for _ in range(120):
            assert await peer.read_frame() == (FIN | BINARY, bytes(64 * 1024))


async def test_a_burst_above_the_bound_of_the_outbox_passes_when_the_kernel_takes_it(listening, make_recorder):
    async with listening(outbox_max_bytes=300 * 1024) as listener, connected(listener, make_recorder()):
        server_side = listener.recorders[0]
        for _ in range(5):
            server_side.transport.send(bytes(64 * 1024))
        await asyncio.sleep(0)
        assert server_side.reasons == []


async def test_what_is_sent_to_a_dead_connection_is_not_kept(listening):
    async with listening() as listener, raw_websocket(listener) as (_, recorder):
        recorder.transport.abort()
        recorder.transport.send(b"1")
        await recorder.until_closed()
        recorder.transport.send(b"2")
        assert recorder.transport._protocol.data_to_send() == []


async def test_an_answer_to_a_message_that_came_with_a_closing_frame_is_dropped(listening, caplog):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        recorder.on_message = recorder.transport.send
        await peer.write(bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1" + bytes([FIN | CLOSE, 0x80]) + bytes(4))
        assert await peer.read_frame() == (FIN | CLOSE, b"")
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).startswith("closed by the peer: 1005 ")
    assert caplog.text == ""


async def test_pongs_a_peer_does_not_read_are_bounded_as_messages_are(listening):
    async with (
        listening(outbox_max_bytes=16 * 1024) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        pings = (bytes([FIN | PING, 0x80 | 125]) + bytes(4) + bytes(125)) * 100
        with pytest.raises(ConnectionError):
            while True:
                await peer.write(pings)
        assert (await recorder.until_closed()).startswith("the outbox is full: ")


async def test_a_peer_that_vanishes_is_noticed_at_once(listening):
    async with listening() as listener:
        async with raw_websocket(listener) as (_, recorder):
            pass
        assert await recorder.until_closed() == "connection lost without a closing frame"


async def test_a_failing_receiver_disturbs_no_other_connection(listening, make_recorder, caplog):
    def prepare(recorder):
        recorder.on_message = {b"bad": None}.__getitem__

    good, bad = make_recorder(), make_recorder()
    async with (
        listening(prepare=prepare) as listener,
        connected(listener, good) as good_transport,
        connected(listener, bad) as bad_transport,
    ):
        bad_transport.send(b"worse")
        assert (await bad.until_closed()).startswith("closed by the peer: 1011 ")
        good_transport.send(b"bad")
        assert await listener.recorders[0].until_received(1) == [b"bad"]
        assert good.reasons == []
    assert "KeyError" in caplog.text


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_closing_the_listener_closes_all_connections_with_1001(listening, make_recorder):
    recorders = [make_recorder() for _ in range(3)]
    async with listening() as listener:
        for recorder in recorders:
            await connect(listener.url, recorder)
        await listener.aclose()
        for recorder in recorders:
            assert (await recorder.until_closed()).startswith("closed by the peer: 1001 (going away)")
        assert [len(recorder.reasons) for recorder in listener.recorders] == [1, 1, 1]
        with pytest.raises(ConnectError, match=f"nothing listens at 127.0.0.1:{listener.port}"):
            await connect(listener.url, make_recorder())
        await listener.aclose()


async def test_closing_the_listener_waits_for_a_deaf_peer_no_longer_than_the_deadline(listening):
    async with (
        listening(closing_deadline=0.05) as listener,
        raw_websocket(listener) as (_, recorder),
        raw_peer(listener) as half_way,
    ):
        await half_way.write(b"GET / ")
        async with asyncio.timeout(WAIT):
            await listener.aclose()
        assert recorder.reasons[0].endswith("the peer did not end it within 0.05 s")


async def test_everything_ends_with_the_listener_though_its_closing_is_cancelled(listening):
    async with listening(closing_deadline=60.0) as listener, raw_websocket(listener) as (_, recorder):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await listener.aclose()
        await recorder.until_closed()


async def test_a_closing_handshake_begun_by_the_peer_is_answered_with_its_code(listening):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        recorder.transport.send(b"queued")
        await peer.write_frame(FIN | CLOSE, struct.pack("!H", 4000) + b"bye")
        assert await peer.read_frame() == (FIN | BINARY, b"queued")
        assert await peer.read_frame() == (FIN | CLOSE, struct.pack("!H", 4000) + b"bye")
        assert await peer.read_to_end() == ""
        peer.sock.shutdown(socket.SHUT_WR)
        assert await recorder.until_closed() == "closed by the peer: 4000 (private use) bye"


async def test_a_reason_too_long_for_a_closing_frame_is_cut(listening, make_recorder):
    recorder = make_recorder()
    async with listening() as listener, connected(listener, recorder) as transport:
        transport.close(4000, "ü" * 100)
        assert await listener.recorders[0].until_closed() == f"closed by the peer: 4000 (private use) {'ü' * 61}"


async def test_no_task_and_no_timer_is_left_behind(listening, make_recorder):
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    recorder = make_recorder()
    async with listening() as listener:
        async with connected(listener, recorder) as transport:
            transport.send(b"1")
            await listener.recorders[0].until_received(1)
            transport.keepalive(1.0)
            assert len(timers(loop)) == 2, "one for each end"
            listener.recorders[0].transport.pause_reading()
            transport.send(bytes(12 * 1024 * 1024))
            await asyncio.sleep(0)
            assert len(timers(loop)) == 3, "one more while something waits to be written"
            assert asyncio.all_tasks() == before
        listener.recorders[0].transport.resume_reading()
        await listener.recorders[0].until_closed()
    assert timers(loop) == []


def timers(loop):
    """What of ours the loop will still call."""
    callbacks = [handle._callback for handle in loop._scheduled if not handle.cancelled()]
    return [callback for callback in callbacks if callback.__module__.startswith("a2a.")]


def test_uvloop_will_do_as_well(listening, make_recorder):
    """It orders timers and reads otherwise, and raises where a transport of asyncio keeps silent."""
    uvloop = pytest.importorskip("uvloop")
    complaints = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with (
            listening(ping_interval=0.05, ping_timeout=0.05) as listener,
            raw_websocket(listener) as (peer, recorder),
        ):
            for _ in range(3):
                assert await peer.read_frame() == (FIN | PING, b"")
                await peer.write_frame(FIN | PONG)
                time.sleep(0.2)  # this process is stalled, the peer is not  # noqa: ASYNC251
            await peer.write(bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1" + bytes([FIN | CLOSE, 0x80]) + bytes(4))
            peer.sock.shutdown(socket.SHUT_WR)
            while (frame := await peer.read_frame()) == (FIN | PING, b""):
                pass
            assert frame == (FIN | CLOSE, b"")
            assert await recorder.until_received(1) == [b"1"]
            assert (await recorder.until_closed()).startswith("closed by the peer: 1005 ")

            client = make_recorder()
            transport = await connect(listener.url, client)
            transport.send(b"never leaves")
            transport.abort()
            transport.pause_reading()
            transport.resume_reading()
            await client.until_closed()
            transport.send(b"too late")
            transport.close()
            transport.abort()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    assert complaints == []


# --- connecting ------------------------------------------------------------------------------------------------------


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize("url", ["http://localhost:1", "localhost", "ws://", "ws://localhost:port", "ws://h/#fragment"])
async def test_a_url_that_is_none_is_named(make_recorder, url):
    with pytest.raises(ConnectError, match="expected ws://host:port"):
        await connect(url, make_recorder())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_nobody_listens_at_is_named(make_recorder, host):
    port = unused_port()
    with pytest.raises(ConnectError, match=f"^nothing listens at {host}:{port}$"):
        await connect(f"ws://{host}:{port}", make_recorder())


async def test_a_refusal_is_quoted(listening, make_recorder):
    recorder = make_recorder()
    async with listening() as listener:
        with pytest.raises(
            ConnectError, match="refused the connection with HTTP 400: .*" + MSGPACK.replace("+", r"\+")
        ):
            await connect(listener.url, recorder, subprotocols=["chat"])
    assert recorder.calls == []


@asynccontextmanager
async def plain_server(answer):
    """Answers any request with these bytes, or never. Yields its URL and a queue of the connections it saw end."""
    ended = asyncio.Queue()

    async def talk(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            if answer is not None:
                writer.write(answer)
                writer.write_eof()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()
            ended.put_nowait(True)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", ended
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nno a2a", "refused the connection with HTTP 404: no a2a"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno length", "refused the connection with HTTP 404: no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "refused the connection with HTTP 200: OK"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer as a coordinator does"),
        (b"", "did not answer as a coordinator does"),
    ],
)
async def test_a_server_that_is_no_coordinator_is_told_apart(make_recorder, answer, says):
    recorder = make_recorder()
    async with plain_server(answer) as (url, ended):
        with pytest.raises(ConnectError) as caught:
            await connect(url, recorder)
        assert str(caught.value).startswith(f"{url} {says}")
        async with asyncio.timeout(WAIT):
            await ended.get()
    assert recorder.calls == []


async def test_a_server_that_does_not_answer_is_given_up_and_left(make_recorder):
    async with plain_server(None) as (url, ended):
        with pytest.raises(ConnectError, match=r"timed out after 0\.05 s: no answer to the handshake"):
            await connect(url, make_recorder(), WebSocketSettings(handshake_deadline=0.05))
        async with asyncio.timeout(WAIT):
            await ended.get()


async def test_a_cancelled_connect_leaves_no_connection(make_recorder):
    recorder = make_recorder()
    async with plain_server(None) as (url, ended):
        task = asyncio.create_task(connect(url, recorder))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(WAIT):
            await ended.get()
    assert recorder.calls == []


async def test_a_connect_cancelled_as_it_opens_closes_what_it_opened(listening, make_recorder):
    recorder = make_recorder()
    async with listening() as listener:
        task = asyncio.create_task(connect(listener.url, recorder))
        recorder.on_opened = lambda transport: task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await recorder.until_closed() == "aborted here"
        await listener.recorders[0].until_closed()


# --- other implementations -------------------------------------------------------------------------------------------


async def test_small_messages_are_not_held_back_by_the_kernel(listening, make_recorder):
    async with listening() as listener, connected(listener, make_recorder()) as transport:
        for end in (transport, listener.recorders[0].transport):
            sock = end._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("subprotocol", "kind"), [(MSGPACK, bytes), (JSON, str)])
async def test_a_client_of_websockets_talks_to_our_server(listening, subprotocol, kind):
    def prepare(recorder):
        recorder.on_opened = lambda transport: setattr(recorder, "on_message", transport.send)

    async with listening(prepare=prepare, ping_interval=0.02) as listener:
        async with websockets.asyncio.client.connect(listener.url, subprotocols=[subprotocol]) as client:
            assert client.subprotocol == subprotocol
            assert client.protocol.extensions == [], "no compression, though it was offered"
            message = "grün" if kind is str else b"\x00\xff"
            await client.send(message)
            assert await client.recv() == message
            await client.send([message[:1], message[1:]])
            assert await client.recv() == message
            await (await client.ping())
        assert await listener.recorders[0].until_closed() == "closed by the peer: 1000 (OK)"


async def test_a_client_of_websockets_is_told_the_code_of_our_close(listening):
    async with listening() as listener:
        async with websockets.asyncio.client.connect(listener.url, subprotocols=[MSGPACK]) as client:
            listener.recorders[0].transport.close(4001, "taken over")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "taken over")
        assert await listener.recorders[0].until_closed() == "closed here: 4001 (private use) taken over"


async def test_a_client_of_websockets_reads_why_it_was_refused(listening):
    async with listening() as listener:
        with pytest.raises(InvalidStatus) as caught:
            await websockets.asyncio.client.connect(listener.url, origin="https://evil.example", subprotocols=[MSGPACK])
        assert caught.value.response.status_code == 403
        assert b"https://evil.example" in caught.value.response.body


@pytest.mark.parametrize("subprotocol", [MSGPACK, JSON])
async def test_our_client_talks_to_a_server_of_websockets(make_recorder, subprotocol):
    async def echo(connection):
        async for message in connection:
            await connection.send(message)
            await connection.send([message[:2], message[2:]])

    recorder = make_recorder()
    async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0, subprotocols=[JSON, MSGPACK]) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = await connect(url, recorder, WebSocketSettings(ping_interval=0.02), subprotocols=[subprotocol])
        assert transport.subprotocol == subprotocol
        transport.send(b"hello")
        assert await recorder.until_received(2) == [b"hello", b"hello"]
        transport.close()
        assert await recorder.until_closed() == "closed here: 1000 (OK)"


async def test_a_server_of_websockets_that_names_no_subprotocol_is_not_ours(make_recorder, caplog):
    caplog.set_level(logging.CRITICAL, "websockets.server")

    async def wait(connection):
        await connection.wait_closed()

    recorder = make_recorder()
    async with websockets.asyncio.server.serve(wait, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectError, match="no a2a coordinator"):
            await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", recorder)
    assert recorder.calls == []
