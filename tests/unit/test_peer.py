"""The server's end of a connection: what is too much for a peer, or from one, and peers that break rules."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from a2a import Agent, MemoryStore, Policy, Server
from a2a import peer as peer_module
from a2a import server as server_module
from a2a.peer import Peer as PeerEnd
from a2a.protocol.codec import JSON, MSGPACK, Frame
from a2a.protocol.messages import (
    AgentFilter,
    AgentFind,
    Credit,
    Hello,
    Ping,
    TaskDelegate,
    TaskEventNotice,
    TaskGet,
    TaskWatch,
    TaskYield,
)
from a2a.transports.memory import pair
from a2a.transports.sending import BUSY_PING, IDLE_PING
from tests.held_store import HeldStore
from tests.raw_peer import HELLO, Peer, join, welcomed

BOUND = 20
CARD = Agent("worker", version="1.0").card() | {"skills": [{"id": "x", "name": "x", "description": "", "tags": []}]}


@pytest.mark.parametrize("encoding", [MSGPACK, JSON])
async def test_an_answer_that_no_connection_holds_is_refused_and_ends_none(encoding: Any) -> None:
    server = Server(MemoryStore(), Policy(outbox_max_bytes=100_000))
    await server.open()
    with anyio.fail_after(BOUND):
        for number in range(4):
            worker = await join(server)
            card = CARD | {"iconUrl": "x" * 20_000}
            hello = Hello(["1.0", "1.0"], f"worker-{number}", "i", 1, card=card)  # type: ignore[arg-type]
            worker.send(Frame("1", hello))
            await worker.until("welcome")
        peer = Peer(encoding)
        pair(peer, server.receiver(), subprotocol=encoding, outbox_max_bytes=100_000)
        while peer.transport is None:
            await anyio.lowlevel.checkpoint()
        peer.send(Frame("1", HELLO))
        await peer.until("welcome")
        peer.send(Frame("2", AgentFind(watch=True)), Frame("3", AgentFind(AgentFilter(agent="worker-2"))))
        refused, found = await peer.reply("2"), await peer.reply("3")
        assert refused.code == "too_large" and "expected at most" in refused.detail
        assert [info.agent for info in found.agents] == ["worker-2"]
        assert not server.coordinator.live.finders
        assert peer.end is None
        await server.aclose()


async def asks_for_much(server: Server) -> Peer:
    """Return a peer that reads nothing now, and has asked ten times for what fills a third of its outbox."""
    peer = Peer()
    pair(peer, server.receiver(), outbox_max_bytes=server.policy.outbox_max_bytes)
    while peer.transport is None:
        await anyio.lowlevel.checkpoint()
    peer.send(Frame("1", HELLO))
    await peer.until("welcome")
    peer.send(Frame("2", TaskDelegate("k", {"skill": "x"}, b'"' + b"x" * 100_000 + b'"')))
    task = (await peer.reply("2")).task
    peer.transport.pause_reading()
    for number in range(0, 10, 2):
        peer.send(*(Frame(f"get {one}", TaskGet(task)) for one in (number, number + 1)))
    peer.send(Frame("watch", TaskWatch(task)))
    return peer


async def held(server: Server) -> PeerEnd:
    """Wait for the one peer for which answers are held."""
    while True:
        for peer in server._peers.values():
            if peer._held:
                return peer
        await anyio.lowlevel.checkpoint()


async def test_what_a_peer_asked_for_waits_until_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FRAMES_PER_TURN", 4)
    server = Server(MemoryStore(), Policy(outbox_max_bytes=300_000))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await asks_for_much(server)
        end = await held(server)
        while not end._put_off:
            await anyio.lowlevel.checkpoint()
        assert end.is_paused and peer.end is None
        peer.transport.resume_reading()
        assert len((await peer.reply("get 9")).input) == 100_002
        await peer.reply("watch")
        await peer.until("task.event")
        answered = [frame.re for frame in peer.frames if frame.message.kind != "task.event"]
        assert answered[2:] == [*(f"get {number}" for number in range(10)), "watch"]
        assert not end._held and not end._put_off and not end.is_paused
        peer.send(Frame("3", Ping()))
        await peer.reply("3")
        await server.aclose()


async def test_a_peer_that_left_before_it_read_is_heard_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FRAMES_PER_TURN", 4)
    server = Server(MemoryStore(), Policy(outbox_max_bytes=300_000))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await asks_for_much(server)
        peer.send(Frame("3", TaskDelegate("last", {"skill": "y"})))
        end = await held(server)
        while len(end._put_off) < 2:
            await anyio.lowlevel.checkpoint()
        assert len(server.coordinator.ledger.tasks) == 1
        peer.transport.abort()
        while len(server.coordinator.ledger.tasks) < 2:
            await anyio.lowlevel.checkpoint()
        assert not server._peers
        await server.aclose()


async def test_what_comes_on_top_of_what_a_peer_asked_for_and_does_not_read_ends_its_connection() -> None:
    server = Server(MemoryStore(), Policy(outbox_max_bytes=300_000))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await asks_for_much(server)
        end = await held(server)
        end.send([Frame("e", TaskEventNotice("t", 1, "progress", "leased", 1), re="w")])
        await anyio.lowlevel.checkpoint()
        assert peer.end is None, "a little more is held as well"
        while peer.end is None:
            end.send([Frame("e", TaskEventNotice("t", 1, "artifact", "leased", 1, payload=b"x" * 100_000), re="w")])
            await anyio.lowlevel.checkpoint()
        await server.aclose()


async def test_garbage_ends_its_own_connection_only() -> None:
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        good, bad = await join(server), await join(server)
        good.send(Frame("1", HELLO))
        await good.until("welcome")
        await anyio.lowlevel.checkpoint()
        bad.transport.send(b"\xc1\xff")
        error = await bad.until("error")
        assert error.code == "malformed"
        while bad.end is None:
            bad.news = anyio.Event()
            await bad.news.wait()
        good.send(Frame("2", TaskGet("x")))
        assert (await good.until("error")).code == "not_found"
        await server.aclose()


async def test_a_connection_without_a_hello_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "HELLO_DEADLINE", 0.05)
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await join(server)
        while peer.end is None:
            peer.news = anyio.Event()
            await peer.news.wait()
        assert "no hello" in peer.end
        await server.aclose()


async def test_a_connection_with_a_hello_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "HELLO_DEADLINE", 0.05)
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        peer, silent = await join(server), await join(server)
        peer.send(Frame("1", HELLO))
        await peer.until("welcome")
        while silent.end is None:
            silent.news = anyio.Event()
            await silent.news.wait()
        peer.send(Frame("2", Ping()))  # its own time is over as well, for it came before
        await peer.reply("2")
        await server.aclose()


async def test_who_holds_work_is_pinged_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    intervals: list[float] = []
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        worker, client = await join(server), await join(server)
        [end, _] = server._peers.values()
        monkeypatch.setattr(type(end.transport), "keepalive", lambda _, interval: intervals.append(interval))
        worker.send(Frame("1", Hello(["1.0", "1.0"], "worker", "i2", 1, card=CARD, credit=Credit(1))))  # type: ignore[arg-type]
        await worker.until("welcome")
        client.send(Frame("1", HELLO))
        await client.until("welcome")
        assert intervals == []
        client.send(Frame("2", TaskDelegate("k", {"skill": "x"})))
        offer = await worker.until("task.offer")
        assert intervals == [BUSY_PING]
        worker.send(Frame("2", Credit(0)), Frame("3", TaskYield(offer.task, offer.fence, "no")), Frame("4", Ping()))
        await worker.reply("4")
        assert intervals == [BUSY_PING, IDLE_PING]
        await server.aclose()


async def test_a_peer_beyond_its_rate_is_read_more_slowly_and_loses_nothing() -> None:
    server = Server(MemoryStore(), Policy(frames_per_second=200))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        for number in range(300):
            peer.send(Frame(f"g{number}", TaskGet("x")))
        while len(peer.frames) < 301:
            peer.news = anyio.Event()
            await peer.news.wait()
        await server.aclose()


async def test_a_peer_whose_frames_take_long_is_read_again_though_it_sent_more_than_its_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(MemoryStore(), Policy(frames_per_second=200))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        monkeypatch.setattr(server_module, "TURN_S", 0)
        peer.send(*(Frame(f"g{number}", TaskGet("x")) for number in range(250)))
        await peer.reply("g249")
        peer.send(Frame("last", Ping()))
        await peer.reply("last")
        await server.aclose()


async def test_a_peer_with_too_many_frames_unanswered_is_read_when_half_of_them_are_answered() -> None:
    store = HeldStore()
    server = Server(store, Policy(requests_in_flight=4))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        [end] = server._peers.values()
        store.is_holding = True
        for number in range(5):
            peer.send(Frame(f"d{number}", TaskDelegate(f"k{number}", {"skill": "x"})))
        while not end.is_paused:
            await anyio.lowlevel.checkpoint()
        assert end.in_flight == 5
        peer.send(Frame("d5", TaskDelegate("k5", {"skill": "x"})))
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert len(server.coordinator.ledger.tasks) == 5
        store.let_go()
        await peer.reply("d5")
        assert not end.is_paused
        await server.aclose()
