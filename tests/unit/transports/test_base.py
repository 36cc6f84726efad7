"""The contract of a transport, for each of them. A test takes `link`, which connects two recorders."""

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest

from a2a.errors import LocalProtocolError
from a2a.transports.memory import pair
from a2a.transports.websocket import JSON, MSGPACK, WebSocketSettings, connect, serve


@asynccontextmanager
async def open_memory(a, b, subprotocol, **bounds):
    first, _ = pair(a, b, subprotocol=subprotocol, **bounds)
    try:
        await a.until_opened()
        await b.until_opened()
        yield
    finally:
        first.abort()
        await a.until_closed()
        await b.until_closed()


@asynccontextmanager
async def open_websocket(a, b, subprotocol, **bounds):
    settings = WebSocketSettings(**bounds)
    listener = await serve("127.0.0.1", 0, lambda: b, settings)
    try:
        transport = await connect(listener.url, a, settings, subprotocols=[subprotocol])
        try:
            await b.until_opened()
            yield
        finally:
            transport.abort()
            await a.until_closed()
    finally:
        await listener.aclose()


@pytest.fixture(
    params=[(open_memory, MSGPACK), (open_websocket, MSGPACK), (open_websocket, JSON)],
    ids=["memory", "websocket-msgpack", "websocket-json"],
)
def link(request):
    opener, subprotocol = request.param

    def open_link(a, b, **bounds):
        return opener(a, b, subprotocol, **bounds)

    open_link.subprotocol = subprotocol
    return open_link


@pytest.fixture
def a(make_recorder):
    return make_recorder()


@pytest.fixture
def b(make_recorder):
    return make_recorder()


async def test_both_ends_are_opened_once_and_first(link, a, b):
    async with link(a, b):
        a.transport.send(b"hello")
        await b.until_received(1)
        assert a.calls == ["opened"]
        assert b.calls == ["opened", "received"]


async def test_both_ends_know_the_encoding_and_each_other(link, a, b):
    async with link(a, b):
        assert a.transport.subprotocol == b.transport.subprotocol == link.subprotocol
        assert a.transport.peer and b.transport.peer


async def test_messages_sent_in_one_turn_arrive_one_by_one_in_order(link, a, b):
    messages = [b"message %d" % number for number in range(1000)]
    async with link(a, b):
        for message in messages:
            a.transport.send(message)
            b.transport.send(message)
        assert await b.until_received(1000) == messages
        assert await a.until_received(1000) == messages


async def test_a_message_may_be_sent_while_one_is_received(link, a, b):
    async with link(a, b):
        b.on_message = lambda data: b.transport.send(data.upper())
        a.transport.send(b"echo")
        assert await a.until_received(1) == [b"ECHO"]


async def test_a_message_may_be_sent_while_the_connection_opens(link, a, b):
    b.on_opened = lambda transport: transport.send(b"welcome")
    a.on_opened = lambda transport: transport.send(b"hello")
    async with link(a, b):
        assert await a.until_received(1) == [b"welcome"]
        assert await b.until_received(1) == [b"hello"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1_000_000])
async def test_a_message_of_any_size_arrives_whole(link, a, b, size):
    message = bytes(32 + number % 64 for number in range(size))
    async with link(a, b):
        a.transport.send(message)
        b.transport.send(message)
        assert await b.until_received(1) == [message]
        assert await a.until_received(1) == [message]
        assert type(a.messages[0]) is type(b.messages[0]) is bytes


async def test_a_paused_end_gets_nothing_until_it_resumes(link, a, b):
    async with link(a, b):
        b.transport.pause_reading()
        a.transport.send(b"1")
        a.transport.send(b"2")
        b.transport.send(b"the other way is open")
        await a.until_received(1)
        assert b.messages == []
        b.transport.resume_reading()
        assert await b.until_received(2) == [b"1", b"2"]


async def test_pausing_and_resuming_twice_is_harmless(link, a, b):
    async with link(a, b):
        b.transport.pause_reading()
        b.transport.pause_reading()
        b.transport.resume_reading()
        b.transport.resume_reading()
        a.transport.send(b"1")
        assert await b.until_received(1) == [b"1"]


async def test_close_sends_what_is_queued_and_then_tells_both_ends_once(link, a, b):
    async with link(a, b):
        a.transport.send(b"last words")
        a.transport.close(1001, "good night")
        assert await b.until_closed() == "closed by the peer: 1001 (going away) good night"
        assert await a.until_closed() == "closed here: 1001 (going away) good night"
        assert b.calls == ["opened", "received", "closed"]
        assert a.calls == ["opened", "closed"]


async def test_close_from_both_ends_at_once_tells_each_once(link, a, b):
    async with link(a, b):
        a.transport.close()
        b.transport.close()
        await a.until_closed()
        await b.until_closed()
    assert a.calls == b.calls == ["opened", "closed"]


async def test_nothing_is_received_after_a_close_of_ones_own(link, a, b):
    async with link(a, b):
        b.transport.send(b"on its way")
        a.transport.close()
        b.transport.send(b"sent before it heard of the close")
        await a.until_closed()
        assert a.messages == []


async def test_a_receiver_that_closes_gets_nothing_more_of_what_came_with_it(link, a, b):
    async with link(a, b):
        b.on_message = lambda data: b.transport.close()
        for _ in range(3):
            a.transport.send(b"enough")
        await b.until_closed()
        assert b.messages == [b"enough"]


async def test_an_end_that_paused_can_still_close(link, a, b):
    async with link(a, b):
        a.transport.pause_reading()
        a.transport.close()
        assert await a.until_closed() == "closed here: 1000 (OK)"


@pytest.mark.parametrize("unread", [[], [b"unread"]])
async def test_a_peer_that_does_not_answer_a_close_is_left_after_the_closing_deadline(link, a, b, unread):
    async with link(a, b, closing_deadline=0.05):
        b.transport.pause_reading()
        for message in unread:
            a.transport.send(message)
        a.transport.close()
        assert (await a.until_closed()).endswith("the peer did not end it within 0.05 s")
        b.transport.resume_reading()
        await b.until_closed()


async def test_abort_ends_both_sides_without_a_closing_frame(link, a, b):
    async with link(a, b):
        a.transport.abort()
        assert a.calls == ["opened"], "closed follows, it does not come back from within the call"
        assert await a.until_closed() == "aborted here"
        assert (await b.until_closed()).startswith("connection lost")
    assert a.calls == b.calls == ["opened", "closed"]


async def test_everything_is_harmless_after_the_end(link, a, b):
    async with link(a, b):
        a.transport.close()
        await a.until_closed()
        await b.until_closed()
        for end in (a, b):
            end.transport.send(b"too late")
            end.transport.pause_reading()
            end.transport.resume_reading()
            end.transport.keepalive(1.0)
            end.transport.close()
            end.transport.abort()
        await asyncio.sleep(0)
    assert a.calls == b.calls == ["opened", "closed"]


async def test_a_code_no_websocket_may_be_closed_with_is_an_error_of_the_caller(link, a, b):
    async with link(a, b):
        with pytest.raises(LocalProtocolError, match="1006"):
            a.transport.close(1006)
        a.transport.send(b"still open")
        await b.until_received(1)


async def test_a_peer_that_leaves_too_much_unread_loses_the_connection(link, a, b):
    async with link(a, b, outbox_max_bytes=256 * 1024):
        b.transport.pause_reading()
        for _ in range(1000):
            a.transport.send(bytes(64 * 1024))
        assert (await a.until_closed()).startswith("the outbox is full: ")
        b.transport.resume_reading()
        assert (await b.until_closed()).startswith("connection lost")


async def test_what_was_read_makes_room_in_the_outbox(link, a, b):
    async with link(a, b, outbox_max_bytes=256 * 1024):
        for number in range(100):
            for _ in range(3):
                a.transport.send(bytes(64 * 1024))
            await b.until_received(3 * (number + 1))
        assert a.reasons == []


async def test_it_is_told_once_when_the_peer_has_taken_what_waited(link, a, b):
    async with link(a, b, outbox_max_bytes=64 * 1024 * 1024):
        drained = asyncio.Event()
        a.transport.when_drained(drained.set)  # nothing waits yet
        await asyncio.wait_for(drained.wait(), 10)
        drained.clear()
        b.transport.pause_reading()
        for _ in range(500):
            a.transport.send(bytes(64 * 1024))
        waited = a.transport.waiting
        assert waited > 8 * 1024 * 1024
        a.transport.when_drained(drained.set)
        await asyncio.sleep(0)
        assert not drained.is_set()
        b.transport.resume_reading()
        await asyncio.wait_for(drained.wait(), 10)
        assert a.transport.waiting <= 64 * 1024
        assert a.reasons == []


@pytest.mark.parametrize("method", ["on_opened", "on_message"])
async def test_a_failing_receiver_costs_its_connection(link, a, b, method, caplog):
    def fail(_):
        raise RuntimeError("a bug")

    setattr(b, method, fail)
    async with link(a, b):
        a.transport.send(b"1")
        a.transport.send(b"2")
        assert await a.until_closed() == "closed by the peer: 1011 (internal error) internal error"
        assert await b.until_closed() == "closed here: 1011 (internal error) internal error"
        assert len(b.messages) <= 1
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "a2a.transport" and "a bug" in record.exc_text
