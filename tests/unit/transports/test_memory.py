"""What only the memory transport promises."""

import asyncio
import time

import pytest

from a2a.transports.memory import pair


@pytest.fixture
def a(make_recorder):
    return make_recorder()


@pytest.fixture
def b(make_recorder):
    return make_recorder()


async def test_nothing_is_called_before_the_next_turn_of_the_loop(a, b):
    first, second = pair(a, b)
    first.send(b"1")
    assert a.calls == b.calls == []
    await b.until_received(1)
    second.send(b"2")
    assert a.calls == ["opened"]
    await a.until_received(1)


async def test_each_end_holds_its_own_transport_and_the_name_of_the_other(a, b):
    first, second = pair(a, b)
    await b.until_opened()
    assert (a.transport, b.transport) == (first, second)
    assert (first.peer, second.peer) == ("memory:b", "memory:a")


async def test_an_end_aborted_before_it_opened_is_opened_first_and_then_closed(a, b):
    first, _ = pair(a, b)
    first.abort()
    await a.until_closed()
    await b.until_closed()
    assert a.calls == b.calls == ["opened", "closed"]


async def test_two_ends_that_keep_answering_leave_others_their_turn(a, b):
    first, second = pair(a, b)
    a.on_message = first.send
    b.on_message = second.send
    first.send(b"ball")
    for _ in range(10):
        await asyncio.sleep(0)
    assert 2 <= len(a.messages) + len(b.messages) <= 10
    first.abort()


async def test_a_message_that_begets_the_next_leaves_others_their_turn(a, b):
    first, _ = pair(a, b)
    b.on_message = first.send
    first.send(b"1")
    await b.until_received(3)
    assert len(b.messages) < 10
    first.abort()


async def test_what_was_sent_during_a_delivery_arrives_before_the_close_that_followed_it(a, b):
    first, _ = pair(a, b)

    def say_more(_):
        first.send(b"2")
        first.close()

    b.on_message = say_more
    first.send(b"1")
    await b.until_closed()
    assert b.messages == [b"1", b"2"]


async def test_a_paused_end_is_bounded_to_the_byte(a, b):
    first, second = pair(a, b, outbox_max_bytes=100)
    second.pause_reading()
    first.send(bytes(100 - 14))
    await b.until_opened()
    assert a.reasons == []
    first.send(b"")
    assert await a.until_closed() == "the outbox is full: 114 bytes wait, at most 100 may"
    assert await b.until_closed() == "connection lost without a closing frame"
    assert b.messages == []


async def test_a_closing_end_is_not_kept_by_a_deadline_when_the_peer_reads(a, b):
    started = time.monotonic()
    first, _ = pair(a, b, closing_deadline=60.0)
    first.close()
    await a.until_closed()
    assert time.monotonic() - started < 30.0
