"""An open WebSocket: the messages it carries, what a dead or hostile peer costs, and how it ends. A raw socket plays
the peers that no library would."""

import asyncio
import re
import socket
import struct
import time
from pathlib import Path

import pytest

from a2a.transports import websocket_connection
from a2a.transports.websocket import connect
from a2a.transports.websocket_connection import JSON, LARGE_BYTES, MSGPACK, _pauses_after_lines, write_out
from tests.unit.transports.conftest import WAIT

KNOWN_TO_EACH_VERSION = {
    *("close_expected", "close_rcvd", "close_rcvd_then_sent", "close_sent", "data_to_send", "events_received"),
    *(
        "receive_data",
        "receive_eof",
        "send_binary",
        "send_close",
        "send_ping",
        "send_pong",
        "send_text",
        "side",
        "state",
    ),
    *("subprotocol", "writes"),
}
"""What a protocol of websockets has from 15 on; other names for its state came and went."""
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN = 0x80


def test_a_protocol_is_asked_only_for_what_each_version_of_websockets_has():
    source = Path(websocket_connection.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"protocol\.(\w+)", source)) <= KNOWN_TO_EACH_VERSION


# --- messages --------------------------------------------------------------------------------------------------------


async def test_a_fragmented_message_is_put_together(listening, raw_websocket):
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
async def test_messages_leave_in_the_frames_of_their_encoding(listening, raw_websocket, subprotocol, opcode):
    async with listening() as listener, raw_websocket(listener, subprotocol) as (peer, recorder):
        recorder.transport.send("ü".encode())
        assert await peer.read_frame() == (FIN | opcode, "ü".encode())


@pytest.mark.parametrize(("subprotocol", "opcode"), [(MSGPACK, BINARY), (JSON, TEXT)])
async def test_a_large_message_keeps_its_place_and_its_form(listening, raw_websocket, subprotocol, opcode):
    sizes = [65_534, 65_535, 65_536, 65_537, 1_000_000, 3]
    async with listening() as listener, raw_websocket(listener, subprotocol) as (peer, recorder):
        for size in sizes:
            recorder.transport.send(size.to_bytes(3, "big").hex().encode()[:size].ljust(size, b"x"))
        for size in sizes:
            head, data = await peer.read_frame()
            assert (head, len(data)) == (FIN | opcode, size)
            assert data.startswith(size.to_bytes(3, "big").hex().encode()[:size])


@pytest.mark.parametrize(
    ("version", "looks"),
    [
        ((3, 11, 0), True),
        *(((3, 12, 0), False), ((3, 12, 8), False), ((3, 12, 9), True)),
        *(((3, 13, 0), False), ((3, 13, 1), False), ((3, 13, 2), True), ((3, 14, 0), True)),
    ],
)
def test_it_is_known_which_python_looks_at_its_buffer_after_writelines(version, looks):
    assert _pauses_after_lines(version) is looks


@pytest.mark.parametrize(("looks", "call"), [(True, "writelines"), (False, "write")])
async def test_a_large_message_is_copied_only_where_it_has_to_be(listening, raw_websocket, monkeypatch, looks, call):
    monkeypatch.setattr(websocket_connection, "PAUSES_AFTER_LINES", looks)
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        asked = Counted(recorder.transport)
        message = b"x" * LARGE_BYTES
        recorder.transport.send(message)
        assert asked.calls == [call] and any(part is message for part in asked.written) is looks
        assert await peer.read_frame() == (FIN | BINARY, message)


async def test_a_message_is_written_when_it_is_sent(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        asked = Counted(recorder.transport)
        recorder.transport.send(b"one")
        assert asked.calls == ["write"]
        recorder.transport.send(b"two")
        assert asked.calls == ["write", "write"]
        assert [await peer.read_frame(), await peer.read_frame()] == [(FIN | BINARY, b"one"), (FIN | BINARY, b"two")]


async def test_text_arrives_as_its_bytes(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener, JSON) as (peer, recorder):
        half, other_half = "ü".encode()[:1], "ü".encode()[1:]
        await peer.write_frame(FIN | TEXT, "grün".encode())
        await peer.write_frame(TEXT, half)
        await peer.write_frame(FIN | CONTINUATION, other_half)
        assert await recorder.until_received(2) == ["grün".encode(), "ü".encode()]


async def test_text_that_is_not_utf8_closes_with_1007(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener, JSON) as (peer, recorder):
        await peer.write_frame(FIN | TEXT, b"\xff")
        assert await peer.read_close() == 1007
        await peer.write_frame(FIN | CLOSE, struct.pack("!H", 1007))
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).startswith("closed here: 1007 ")
        assert recorder.messages == []


async def test_text_in_fragments_that_is_not_utf8_closes_with_1007_too(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener, JSON) as (peer, recorder):
        await peer.write_frame(TEXT, b"fine")
        await peer.write_frame(FIN | CONTINUATION, b"\xff")
        assert await peer.read_close() == 1007
        assert recorder.messages == []


async def test_a_message_of_the_largest_size_arrives(listening, connected, make_recorder):
    async with listening(message_max_bytes=1000) as listener, connected(listener, make_recorder()) as transport:
        transport.send(bytes(1000))
        assert await listener.recorders[0].until_received(1) == [bytes(1000)]


async def test_a_larger_message_closes_with_1009(listening, connected, make_recorder):
    recorder = make_recorder()
    async with listening(message_max_bytes=1000) as listener, connected(listener, recorder) as transport:
        transport.send(b"before")
        transport.send(bytes(1001))
        assert (await recorder.until_closed()).startswith("closed by the peer: 1009 (message too big)")
        assert await listener.recorders[0].until_received(1) == [b"before"]
        assert (await listener.recorders[0].until_closed()).startswith("closed here: 1009 (message too big)")


async def test_a_larger_message_in_small_fragments_closes_with_1009(listening, raw_websocket):
    async with listening(message_max_bytes=1000) as listener, raw_websocket(listener) as (peer, recorder):
        await peer.write_frame(BINARY, bytes(600))
        await peer.write_frame(CONTINUATION, bytes(600))
        assert await peer.read_close() == 1009
        assert recorder.messages == []


async def test_a_frame_against_the_rules_closes_with_1002_after_what_came_before_it(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        await peer.write(bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1" + bytes([FIN | BINARY, 0x01]) + b"2")
        assert await peer.read_close() == 1002
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).startswith("closed here: 1002 (protocol error)")
        assert recorder.messages == [b"1"]


async def test_small_messages_are_not_held_back_by_the_kernel(listening, connected, make_recorder):
    async with listening() as listener, connected(listener, make_recorder()) as transport:
        for end in (transport, listener.recorders[0].transport):
            sock = end._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- dead and hostile peers ------------------------------------------------------------------------------------------


async def test_a_half_open_peer_is_found_dead(listening, raw_websocket):
    async with (
        listening(ping_interval=0.05, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        assert "did not answer a ping" in await recorder.until_closed()
        assert await peer.read_frame() == (FIN | PING, b"")


async def test_a_peer_that_answers_pings_and_says_nothing_else_stays(listening, raw_websocket):
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


async def test_the_owner_can_ask_for_signs_of_life_sooner(listening, raw_websocket):
    async with (
        listening(ping_interval=60.0, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        recorder.transport.keepalive(0.05)
        assert await peer.read_frame() == (FIN | PING, b"")
        assert "did not answer a ping" in await recorder.until_closed()


async def test_the_owner_can_ask_for_signs_of_life_later(listening, raw_websocket):
    async with (
        listening(ping_interval=0.05, ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        started = time.monotonic()
        recorder.transport.keepalive(0.5)
        assert await peer.read_frame() == (FIN | PING, b"")
        assert time.monotonic() - started > 0.4


async def test_a_peer_is_not_thought_dead_while_nobody_listens_to_it(listening, raw_websocket):
    async with (
        listening(ping_interval=0.05, ping_timeout=0.5) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        assert await peer.read_frame() == (FIN | PING, b"")
        recorder.transport.pause_reading()
        await asyncio.sleep(1.2)  # twice what kills a silent peer
        recorder.transport.resume_reading()
        assert await peer.read_frame() == (FIN | PING, b"")
        assert recorder.reasons == []


@pytest.mark.parametrize("is_fragment", [False, True])
async def test_who_sends_a_long_message_is_told_meanwhile_that_somebody_is_here(listening, raw_websocket, is_fragment):
    async with (
        listening(ping_timeout=0.05) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        if is_fragment:
            await peer.write_frame(BINARY, b"x")
        else:
            await peer.write(bytes([FIN | BINARY, 0x80 | 127]) + struct.pack("!Q", 10_000) + bytes(4))
        told = asyncio.ensure_future(peer.read_frame())
        while not told.done():
            await (peer.write_frame(CONTINUATION, b"x") if is_fragment else peer.write(b"x"))
            await asyncio.sleep(0.005)  # the pace at which the message comes
        assert told.result() == (FIN | PONG, b"")
        assert recorder.transport.is_carrying


async def test_nobody_is_told_while_a_message_has_just_begun(listening, raw_websocket):
    async with (
        listening(ping_interval=0.6, ping_timeout=1.0) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        for count in (1, 2):
            await peer.write_frame(BINARY, b"a")
            for said in (b"one", b"two", b"three"):
                await peer.write_frame(FIN | PING, said)
                assert await peer.read_frame() == (FIN | PONG, said)
            assert recorder.transport.is_carrying
            await peer.write_frame(FIN | CONTINUATION, b"b")
            await recorder.until_received(count)
            assert not recorder.transport.is_carrying
            if count == 1:
                assert await peer.read_frame() == (FIN | PING, b""), "longer than a message may take was silence"


async def test_nobody_is_told_whose_connection_closes_in_the_middle_of_a_message(listening, raw_websocket):
    async with (
        listening(ping_timeout=0.02) as listener,
        raw_websocket(listener) as (peer, recorder),
    ):
        await peer.write_frame(BINARY, b"a")
        recorder.transport.close()
        for _ in range(10):
            await peer.write_frame(CONTINUATION, b"b")
            await asyncio.sleep(0.005)  # the pace at which the message comes
        assert await peer.read_close() == 1000
        await peer.write_frame(FIN | CLOSE, struct.pack("!H", 1000))
        assert (await recorder.until_closed()).startswith("closed here: 1000")


async def test_a_connection_carries_what_its_peer_has_yet_to_take(listening, raw_websocket):
    async with (
        listening() as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        assert not recorder.transport.is_carrying
        drained = asyncio.Event()
        recorder.transport.send(bytes(4 * 1024 * 1024))
        recorder.transport.when_drained(drained.set)
        assert recorder.transport.is_carrying
        await peer.read_exactly(10 + 4 * 1024 * 1024)
        async with asyncio.timeout(WAIT):
            await drained.wait()
        assert not recorder.transport.is_carrying


async def test_a_peer_that_reads_nothing_is_dropped_by_the_write_deadline(listening, raw_websocket):
    async with (
        listening(write_deadline=0.2, outbox_max_bytes=64 * 1024 * 1024) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (_, recorder),
    ):
        for _ in range(256):
            recorder.transport.send(bytes(64 * 1024))
        assert (await recorder.until_closed()).startswith("the peer read nothing for 0.2 s while ")


async def test_a_peer_that_answers_pings_and_reads_nothing_is_dropped_too(listening, raw_websocket):
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


async def test_a_peer_that_reads_slowly_is_not_dropped(listening, raw_websocket):
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


async def test_a_peer_that_has_read_everything_may_rest_longer_than_the_write_deadline(listening, raw_websocket):
    async with (
        listening(write_deadline=0.05, ping_interval=0.1, ping_timeout=5.0) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        for _ in range(16):
            recorder.transport.send(bytes(64 * 1024))
        for _ in range(16):
            await peer.read_frame()
        for _ in range(3):
            assert await peer.read_frame() == (FIN | PING, b"")
            await peer.write_frame(FIN | PONG)
        assert recorder.reasons == []


async def test_the_time_for_an_answer_begins_when_the_ping_leaves(listening, raw_websocket):
    async with (
        listening(ping_interval=0.05, ping_timeout=1.0) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        for _ in range(64):
            recorder.transport.send(bytes(64 * 1024))
        await asyncio.sleep(1.5)  # longer than a ping may go unanswered, but it waits behind the messages
        while await peer.read_frame() != (FIN | PING, b""):
            pass
        await asyncio.sleep(0.15)
        await peer.write_frame(FIN | PONG)
        assert await peer.read_frame() == (FIN | PING, b"")
        assert recorder.reasons == []


async def test_what_a_peer_does_not_read_waits_here_and_not_in_the_buffer_of_asyncio(listening, raw_websocket):
    """From Python 3.12 on that buffer is a list which is walked to tell its size."""
    async with listening() as listener, raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder):
        for _ in range(120):
            recorder.transport.send(bytes(64 * 1024))
            await asyncio.sleep(0)
        assert 0 < recorder.transport._transport.get_write_buffer_size() < 256 * 1024
        for _ in range(120):
            assert await peer.read_frame() == (FIN | BINARY, bytes(64 * 1024))


async def test_a_burst_above_the_bound_of_the_outbox_passes_when_the_kernel_takes_it(
    listening, connected, make_recorder
):
    async with listening(outbox_max_bytes=300 * 1024) as listener, connected(listener, make_recorder()):
        server_side = listener.recorders[0]
        for _ in range(5):
            server_side.transport.send(bytes(64 * 1024))
        await asyncio.sleep(0)
        assert server_side.reasons == []


async def test_what_is_sent_to_a_dead_connection_is_not_kept(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener) as (_, recorder):
        recorder.transport.abort()
        recorder.transport.send(b"1")
        await recorder.until_closed()
        recorder.transport.send(b"2")
        assert recorder.transport._protocol.data_to_send() == []


async def test_a_message_that_came_with_a_closing_frame_is_answered_before_that(listening, raw_websocket, caplog):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        recorder.on_message = recorder.transport.send
        await peer.write(bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1" + bytes([FIN | CLOSE, 0x80]) + bytes(4))
        assert await peer.read_frame() == (FIN | BINARY, b"1")
        assert await peer.read_frame() == (FIN | CLOSE, b"")
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).startswith("closed by the peer: 1005 ")
    assert caplog.text == ""


async def test_pongs_a_peer_does_not_read_are_bounded_as_messages_are(listening, raw_websocket):
    async with (
        listening(outbox_max_bytes=16 * 1024) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        pings = (bytes([FIN | PING, 0x80 | 125]) + bytes(4) + bytes(125)) * 100
        with pytest.raises(ConnectionError):
            while True:
                await peer.write(pings)
        assert (await recorder.until_closed()).startswith("the outbox is full: ")


async def test_a_peer_that_vanishes_is_noticed_at_once(listening, raw_websocket):
    async with listening() as listener:
        async with raw_websocket(listener) as (_, recorder):
            pass
        assert await recorder.until_closed() == "connection lost without a closing frame"


async def test_a_failing_receiver_disturbs_no_other_connection(listening, connected, make_recorder, caplog):
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


async def test_a_closing_handshake_begun_by_the_peer_is_answered_with_its_code(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        recorder.transport.send(b"queued")
        await peer.write_frame(FIN | CLOSE, struct.pack("!H", 4000) + b"bye")
        assert await peer.read_frame() == (FIN | BINARY, b"queued")
        assert await peer.read_frame() == (FIN | CLOSE, struct.pack("!H", 4000) + b"bye")
        assert await peer.read_to_end() == ""
        peer.sock.shutdown(socket.SHUT_WR)
        assert await recorder.until_closed() == "closed by the peer: 4000 (private use) bye"


async def test_a_peer_that_ends_its_half_and_reads_nothing_is_left_after_the_closing_deadline(listening, raw_websocket):
    async with (
        listening(closing_deadline=0.05, write_deadline=60.0, ping_interval=60.0) as listener,
        raw_websocket(listener, SO_RCVBUF=4096) as (peer, recorder),
    ):
        for _ in range(128):
            recorder.transport.send(bytes(64 * 1024))
        peer.sock.shutdown(socket.SHUT_WR)
        assert (await recorder.until_closed()).endswith("the peer did not end it within 0.05 s")


async def test_a_receiver_that_fails_at_the_end_keeps_no_place(listening, raw_websocket, caplog):
    def fail(reason):
        raise RuntimeError(f"a bug: {reason}")

    async with listening(connections_max=1) as listener:
        async with raw_websocket(listener) as (peer, recorder):
            recorder.closed = fail
            await peer.write_frame(FIN | CLOSE)
            assert await peer.read_frame() == (FIN | CLOSE, b"")
            assert await peer.read_to_end() == ""
        async with raw_websocket(listener):
            assert len(listener.recorders) == 2
    assert "a bug: closed by the peer: 1005" in caplog.text


async def test_a_reason_too_long_for_a_closing_frame_is_cut(listening, connected, make_recorder):
    recorder = make_recorder()
    async with listening() as listener, connected(listener, recorder) as transport:
        transport.close(4000, "ü" * 100)
        assert await listener.recorders[0].until_closed() == f"closed by the peer: 4000 (private use) {'ü' * 61}"


async def test_no_task_and_no_timer_is_left_behind(listening, connected, make_recorder):
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


def test_uvloop_will_do_as_well(listening, raw_websocket, make_recorder):
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

            async with raw_websocket(listener) as (peer, recorder):
                peer.sock.shutdown(socket.SHUT_WR)
                await recorder.until_closed()

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


def test_uvloop_has_no_timer_for_what_is_due_at_once(listening, raw_websocket):
    uvloop = pytest.importorskip("uvloop")

    async def run():
        async with listening(ping_interval=60.0) as listener, raw_websocket(listener) as (peer, recorder):
            for _ in range(2):  # in one turn of the loop: what is due has not run between them
                recorder.transport.keepalive(0.0)
            assert await peer.read_frame() == (FIN | PING, b"")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


# --- the border to asyncio -------------------------------------------------------------------------------------------


class Writing:
    """The half of an asyncio transport that takes bytes."""

    def __init__(self, *, can_write_eof=True, eof_error=None):
        self.calls = []
        self.can_write_eof = lambda: can_write_eof
        self.eof_error = eof_error

    def write(self, data):
        self.calls.append(data)

    def write_eof(self):
        self.calls.append("write_eof")
        if self.eof_error is not None:
            raise self.eof_error

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")


class Framed:
    """The half of a WebSocket protocol that gives bytes."""

    def __init__(self, *chunks):
        self.data_to_send = lambda: list(chunks)


@pytest.mark.parametrize(
    ("chunks", "transport", "calls", "size"),
    [
        ([], Writing(), [], 0),
        ([b"one", b"two"], Writing(), [b"onetwo"], 6),
        ([b"last", b""], Writing(), [b"last", "write_eof"], 4),
        ([b""], Writing(), ["write_eof"], 0),
        ([b"last", b""], Writing(can_write_eof=False), [b"last", "close"], 4),
        ([b"last", b""], Writing(eof_error=OSError(107, "not connected")), [b"last", "write_eof", "abort"], 4),
    ],
    ids=["nothing", "in one write", "our half ends", "only the end", "TLS has no halves", "the peer was quicker"],
)
def test_what_is_framed_is_written_at_once_and_the_end_closes_our_half_only(chunks, transport, calls, size):
    assert write_out(transport, Framed(*chunks)) == size
    assert transport.calls == calls


class Counted:
    """What a connection asks of its asyncio transport."""

    def __init__(self, connection):
        self._real, connection._transport = connection._transport, self
        self.calls = []
        self.written = []

    def __getattr__(self, name):
        if name not in ("pause_reading", "resume_reading", "write", "writelines"):
            return getattr(self._real, name)

        def call(*arguments):
            self.calls.append(name)
            self.written += [part for argument in arguments for part in ([argument], argument)[name == "writelines"]]
            return getattr(self._real, name)(*arguments)

        return call


async def test_asyncio_is_told_once_of_a_pause_and_of_its_end(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        asked = Counted(recorder.transport)
        for _ in range(2):
            recorder.transport.resume_reading()
        for _ in range(2):
            recorder.transport.pause_reading()
        for _ in range(2):
            recorder.transport.resume_reading()
        assert asked.calls == ["pause_reading", "resume_reading"]


async def test_asyncio_is_asked_for_nothing_at_an_end(listening, raw_websocket):
    """uvloop would raise where asyncio keeps silent."""
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        asked = Counted(recorder.transport)
        recorder.transport.abort()
        recorder.transport.send(b"never leaves")
        recorder.transport.pause_reading()
        recorder.transport.resume_reading()
        await recorder.until_closed()
        assert asked.calls == []


async def test_a_peer_is_called_by_its_address_and_port(listening, raw_websocket):
    async with listening() as listener, raw_websocket(listener) as (peer, recorder):
        host, port = peer.sock.getsockname()
        assert recorder.transport.peer == f"{host}:{port}"


async def test_a_peer_on_ipv6_is_called_by_its_address_in_brackets(listening, connected, make_recorder):
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    async with listening(host="::1") as listener, connected(listener, make_recorder()) as transport:
        assert transport.peer == f"[::1]:{listener.port}"
        assert listener.recorders[0].transport.peer.startswith("[::1]:")


def test_a_peer_that_has_gone_before_it_was_asked_for_its_address_has_none():
    class Gone:
        def get_extra_info(self, name):
            return None

    assert websocket_connection._address(Gone()) == "unknown"
