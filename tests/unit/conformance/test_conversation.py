"""One connection of the suite: what is taken, what is waited for, and what must not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from a2a.conformance.case import Failed, Missed
from a2a.conformance.conversation import TRACE_FRAMES, Conversation, check, with_trouble
from a2a.conformance.socket import Closed, Socket
from a2a.conformance.wire import JSON, MSGPACK, SUBPROTOCOLS, Frame, encode

BOUND = 20
Other = Callable[[Conversation], Awaitable[None]]


@asynccontextmanager
async def talking(other: Other, encoding: str = JSON) -> AsyncIterator[Conversation]:
    """Have a conversation with a side of the suite that is played by a function."""
    done: asyncio.Queue[None] = asyncio.Queue()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket = await Socket.accept(reader, writer, (SUBPROTOCOLS[encoding],))
        async with Conversation(socket, "other", encoding) as conversation:
            try:
                await other(conversation)
            finally:
                await done.put(None)

    async with asyncio.timeout(BOUND), await asyncio.start_server(play, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        socket = await Socket.connect(f"ws://127.0.0.1:{port}", SUBPROTOCOLS[encoding])
        async with Conversation(socket, "one", encoding) as conversation:
            yield conversation
        await done.get()


async def answers(conversation: Conversation) -> None:
    """Answer pings until the connection ends."""
    try:
        while True:
            ping = await conversation.take("ping")
            await conversation.send("pong", re=ping.id, **ping.body)
    except Failed:
        pass  # the other side has left


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_a_request_gets_its_own_reply(encoding: str) -> None:
    async def in_wrong_order(conversation: Conversation) -> None:
        first, second = await conversation.take("ping"), await conversation.take("ping")
        await conversation.send("pong", re=second.id, nonce="second")
        await conversation.send("pong", re=first.id, nonce="first")
        await conversation.ended()

    async with talking(in_wrong_order, encoding) as conversation:
        one, two = await conversation.send("ping"), await conversation.send("ping")
        assert (await conversation.reply(one)).body == {"nonce": "first"}
        assert (await conversation.reply(two)).body == {"nonce": "second"}
        assert conversation.waiting == []
        assert one != two


async def test_a_frame_has_its_fields_where_they_belong() -> None:
    async with talking(answers) as conversation:
        frame = conversation.frame("task.report", id="7", task="t", fence=1, payload=b"[]", outcome="failed", note=None)
        body = {"outcome": "failed"}
        assert frame == {"id": "7", "kind": "task.report", "task": "t", "fence": 1, "payload": b"[]", "body": body}
        assert "body" not in conversation.frame("ping")


async def test_frames_wait_until_they_are_taken_by_kind_and_value() -> None:
    async def talks(conversation: Conversation) -> None:
        await conversation.send_frames(
            conversation.frame("task.offer", task="a", attempt=1), conversation.frame("task.offer", task="b", attempt=2)
        )
        await answers(conversation)

    async with talking(talks) as conversation:
        assert (await conversation.take("task.offer", attempt=2)).task == "b"
        assert [frame.task for frame in conversation.holds("task.offer")] == ["a"]
        with pytest.raises(Failed, match="expected no task.offer with task 'a'; came: "):
            await conversation.nothing("task.offer", task="a")
        await conversation.nothing("task.offer", task="b")
        assert (await conversation.take("task.offer", task="a")).body["attempt"] == 1


async def test_what_does_not_come_fails_in_bounded_time() -> None:
    async with talking(answers) as conversation:
        conversation.patience = 0.05
        with pytest.raises(Failed, match=r"expected task.offer with task 't'; none came within 0.05 s"):
            await conversation.take("task.offer", task="t")
        with pytest.raises(Failed, match="expected the end of the connection; it is open"):
            await conversation.ended()


async def test_what_came_in_place_of_what_was_wanted_is_told_by_what_differs() -> None:
    async with talking(answers) as conversation:
        conversation.patience = 0.05
        report = Frame({"id": "1", "kind": "task.report", "task": "t", "fence": 4, "body": {"outcome": "failed"}})
        conversation.waiting.append(report)
        with pytest.raises(Failed, match=r"fence 5; none came within 0.05 s; the newest task.report has fence 4$"):
            await conversation.take("task.report", task="t", fence=5)
        with pytest.raises(Failed, match=r"the newest task.report has outcome 'failed'$"):
            await conversation.take("task.report", task="t", outcome="completed")
        for kind, other in (("task.report", "u"), ("task.yield", "t")):
            with pytest.raises(Failed, match=r"none came within 0.05 s$"):
                await conversation.take(kind, task=other)


async def test_the_end_of_the_connection_ends_each_wait() -> None:
    async def closes(conversation: Conversation) -> None:
        await conversation.take("ping")
        await conversation.send("bye", reason="enough")
        await conversation.leave()

    async with talking(closes) as conversation:
        with pytest.raises(Failed, match=r"expected a reply to ping \S+; the connection is closed \(1000\)"):
            await conversation.request("ping")
        assert (await conversation.ended()).code == 1000
        assert (await conversation.take("bye")).body == {"reason": "enough"}, "what came before is there"
        assert conversation.trace[-1].startswith("< the connection is closed")
        with pytest.raises(Closed):
            await conversation.send("ping")


async def test_what_is_no_frame_is_shown_as_what_it_is() -> None:
    async def babbles(conversation: Conversation) -> None:
        await conversation.send_bytes(b"what?")
        conversation.cut()

    async with talking(babbles) as conversation:
        came = await conversation.take("not a frame")
        assert "what?" in str(came.body["detail"])
        assert (await conversation.ended()).code is None


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_what_is_no_frame_is_shown_without_what_opens_a_door(encoding: str) -> None:
    async def errs(conversation: Conversation) -> None:
        hello = conversation.frame("hello", agentId="worker", incarnation=2**60, secret="sesame", token="open")
        await conversation.send_bytes(encode([hello], encoding))
        await conversation.ended()

    async with talking(errs, encoding) as conversation:
        came = await conversation.take("not a frame")
        assert "worker" in str(came) and "2^53" in str(came), "what is wrong is told"
        told = f"{came} {conversation.trace}"
        assert "sesame" not in told and "open" not in told


@pytest.mark.parametrize(("encoding", "kinds"), [(JSON, ("text", "binary")), (MSGPACK, ("binary", "text"))])
async def test_a_message_of_the_other_kind_fails(encoding: str, kinds: tuple[str, str]) -> None:
    async def mixes(conversation: Conversation) -> None:
        ping = await conversation.take("ping")
        await conversation.send("pong", re=ping.id)
        pong = encode([conversation.frame("pong", re=(await conversation.take("ping")).id)], encoding)
        await conversation.send_bytes(pong, text=kinds[1] == "text")
        await conversation.ended()

    async with talking(mixes, encoding) as conversation:
        await conversation.settle()
        conversation.check_kind()
        await conversation.settle()
        with pytest.raises(Failed, match=f"expected {kinds[0]} messages, which carry {encoding}; came: {kinds[1]}$"):
            conversation.check_kind()


async def test_what_was_missed_is_told_with_the_newest_trouble() -> None:
    async def babbles(conversation: Conversation) -> None:
        await conversation.send("error", code="auth", detail="first")
        await conversation.send_bytes(b"what?")
        await answers(conversation)

    async def errs(conversation: Conversation) -> None:
        await conversation.send("error", code="auth", detail="later")
        await answers(conversation)

    missed = Missed("expected ok; none came within 5 s")
    assert with_trouble(missed, []) is missed
    async with talking(babbles) as first, talking(errs) as second:
        await first.settle()
        assert str(with_trouble(missed, [first])).startswith(f"{missed}; the newest message, to one: ")
        assert "what?" in str(with_trouble(missed, [first]))
        await second.settle()
        assert '"later"' in str(with_trouble(missed, [second, first]))
        await second.take("error")
        assert "what?" in str(with_trouble(missed, [second, first])), "one that was asked for is no trouble"


async def test_the_trace_keeps_the_last_frames_and_no_secret() -> None:
    async with talking(answers) as conversation:
        for _ in range(TRACE_FRAMES):
            await conversation.settle()
        await conversation.request("ping", nonce="x" * 1000, token="open sesame")
        assert len(conversation.trace) == TRACE_FRAMES
        assert all(line[:2] in ("> ", "< ") and len(line) < 650 for line in conversation.trace)
        assert "sesame" not in "".join(conversation.trace)


def test_a_check_tells_nobody_what_opens_a_door() -> None:
    said = {"agentId": "w", "token": "t0ken", "secret": "s3cret"}
    for came in (said, Frame({"id": "1", "kind": "hello", "body": said})):
        with pytest.raises(Failed, match="agentId.*hidden") as failed:
            check(False, "another", came)
        assert "t0ken" not in str(failed.value) and "s3cret" not in str(failed.value)


def test_a_check_tells_what_was_expected_and_what_came() -> None:
    check(True, "ok")
    with pytest.raises(Failed, match=r"^expected ok; came: 7$"):
        check(False, "ok", 7)
    with pytest.raises(Failed, match=r"^expected ok$"):
        check(False, "ok")
