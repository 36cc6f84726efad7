"""The coordinator's shell: append before answer, group commit, ledgers and archives, failing disks."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from websockets.asyncio.client import connect as ws_connect

from a2a import (
    Agent,
    ConnectionLost,
    MemoryStore,
    Policy,
    Server,
    SqliteStore,
    StoreError,
    TaskFailed,
    connect,
    slack,
)
from a2a import server as server_module
from a2a.engine import plain
from a2a.engine.archived import ArchivedTask
from a2a.engine.decision import Need, Row
from a2a.engine.leases import proof
from a2a.engine.policy import Admission, Durations, digest
from a2a.engine.records import AgentRegistered, CoordinatorStarted, Settled, to_bytes
from a2a.errors import ConnectError, StoreCorrupt, StoreOutdated, Unavailable
from a2a.link import LinkSettings
from a2a.protocol.canonical import result_hash
from a2a.protocol.codec import JSON, MSGPACK, Decoder, Frame, encode
from a2a.protocol.messages import (
    A2ACall,
    A2AResult,
    Credit,
    HeldStill,
    Hello,
    MailboxAck,
    Ping,
    TaskCancel,
    TaskDelegate,
    TaskGet,
    TaskList,
    TaskOffer,
    TaskReport,
    TaskSettled,
)
from a2a.stores.base import Entry, Store
from a2a.stores.reader import LedgerReader
from a2a.testing import squad
from a2a.transports import memory
from tests.held_store import HeldStore
from tests.ledger_file import change_entry
from tests.raw_peer import HELLO, Peer, join, welcomed

BOUND = 20
HOUR_MS = 3_600_000


CARD = Agent("worker", version="1.0").card() | {"skills": [{"id": "x", "name": "x", "description": "", "tags": []}]}
TASK = Frame("2", TaskDelegate("k", {"skill": "x", "acceptance": {"evaluator": "auto"}}))
WORKER = Hello(["1.0", "1.0"], "worker", "i2", 1, card=CARD, credit=Credit(1))  # type: ignore[arg-type]


def test_what_is_no_store_is_told_what_one_is() -> None:
    with pytest.raises(ValueError, match=r"^store: expected a Store, as a2a\.SqliteStore\(path\), got 'ledger\.db'$"):
        Server("ledger.db")  # type: ignore[arg-type]


async def test_nothing_is_answered_before_it_is_durable() -> None:
    store = HeldStore()
    server = Server(store)
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        store.is_holding = True
        peer.send(Frame("2", TaskDelegate("k", {"skill": "x"})))
        while not store.held:
            await anyio.lowlevel.checkpoint()
        peer.send(Frame("3", TaskGet("main-3")))  # a read rests on what is not durable yet, and waits as well
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert [frame.message.kind for frame in peer.frames] == ["welcome"]
        store.let_go()
        await peer.until("task.found")
        assert [frame.re for frame in peer.frames] == ["1", "2", "3"]
        await server.aclose()


async def test_who_is_told_of_something_comes_before_who_asked() -> None:
    heard: list[tuple[str, str]] = []
    async with staffed() as (boss, worker, _):
        for name, peer in (("boss", boss), ("worker", worker)):
            take_note(name, peer, heard)
        boss.send(TASK)
        await boss.until("task.created")
        worker.send(reported("2", await worker.until("task.offer")))
        await worker.until("task.verdict")
        await boss.until("task.settled")
    assert heard[:2] == [("worker", "task.offer"), ("boss", "task.created")]
    assert heard[2:4] == [("boss", "task.settled"), ("worker", "task.verdict")]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have replies kept for as long as who asked for them can do without."""
    monkeypatch.setattr(slack, "KEPT_AT_MOST_MS", HOUR_MS)


@pytest.mark.usefixtures("patient")
async def test_a_reply_that_may_wait_goes_in_front_of_what_goes_there_next() -> None:
    async with settled() as (worker, _):
        worker.messages.clear()
        worker.send(Frame("3", Ping()))
        await worker.reply("3")
        assert worker.messages == [["2", "3"]]


@pytest.mark.usefixtures("patient")
async def test_a_reply_that_may_wait_keeps_no_other_back() -> None:
    async with offered() as (_, worker, _):
        worker.send(reported("2", await worker.until("task.offer"), slack_ms=HOUR_MS), Frame("3", Ping()))
        await worker.reply("3")
        assert worker.messages[-1] == ["2", "3"]


async def test_a_reply_that_may_wait_does_so_for_its_time() -> None:
    async with offered() as (_, worker, _):
        worker.send(reported("2", await worker.until("task.offer"), slack_ms=5))
        assert (await worker.reply("2")).verdict == "admitted"


@pytest.mark.usefixtures("patient")
async def test_a_reply_that_may_wait_is_sent_before_its_connection_is_closed() -> None:
    async with settled() as (worker, server):
        await server.aclose()
        assert (await worker.reply("2")).verdict == "admitted"


@pytest.mark.usefixtures("patient")
async def test_what_is_kept_for_a_connection_that_is_gone_is_forgotten() -> None:
    async with settled() as (worker, server):
        assert server._kept._kept
        worker.transport.close()
        while worker.end is None:
            await anyio.lowlevel.checkpoint()
        assert not server._kept._kept


@asynccontextmanager
async def settled() -> AsyncIterator[tuple[Peer, Server]]:
    """Yield a worker whose task is settled by a report with the id "2", and that is patient; and the server."""
    async with offered() as (boss, worker, server):
        worker.send(reported("2", await worker.until("task.offer"), slack_ms=HOUR_MS))
        await boss.until("task.settled")
        yield worker, server


@asynccontextmanager
async def offered() -> AsyncIterator[tuple[Peer, Peer, Server]]:
    """Yield a delegator whose task is offered to a worker, that worker, and their server."""
    async with staffed() as (boss, worker, server):
        boss.send(TASK)
        yield boss, worker, server


@asynccontextmanager
async def staffed(policy: Policy | None = None) -> AsyncIterator[tuple[Peer, Peer, Server]]:
    """Yield a delegator and a worker that were welcomed, and their server."""
    server = Server(MemoryStore(), policy)
    await server.open()
    with anyio.fail_after(BOUND):
        boss, worker = await join(server), await join(server)
        for peer, hello in ((boss, HELLO), (worker, WORKER)):
            peer.send(Frame("1", hello))
            await peer.until("welcome")
        yield boss, worker, server
        await server.aclose()


def reported(request: str, offer: TaskOffer, *, slack_ms: int | None = None) -> Frame:
    """Return the report that ends an attempt well."""
    report = TaskReport(offer.task, offer.fence, "completed", result_hash("completed", b"[]"))
    return Frame(request, report, slack_ms=slack_ms)


def take_note(name: str, peer: Peer, heard: list[tuple[str, str]]) -> None:
    """Have what a peer gets from now on noted together with what others get."""
    received = peer.received

    def noting(data: bytes) -> None:
        heard.extend((name, cast(Frame, frame).message.kind) for frame in Decoder(peer.encoding).decode(data)[:1])
        received(data)

    peer.received = noting  # type: ignore[method-assign]


async def test_an_epoch_has_begun_when_its_record_is_durable() -> None:
    """Killed right after it said so, the next process must not count the same epoch again."""
    store = HeldStore()
    store.is_holding = True
    server = Server(store)
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            opened = anyio.Event()

            async def open_it() -> None:
                await server.open()
                opened.set()

            group.start_soon(open_it)
            while not store.held:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            assert not opened.is_set()
            store.let_go()
            await opened.wait()
    assert [entry.kind for entry in store.read()] == ["CoordinatorStarted"]
    await server.aclose()


async def test_leases_run_from_the_end_of_the_fold() -> None:
    """A fold that takes longer than a lease would otherwise end with everybody's lease over, and nobody heard."""
    now = [1_000]

    class LargeStore(MemoryStore):
        def read(self, after: int = 0) -> Iterator[Entry]:
            yield from super().read(after)
            now[0] += 60_000

    store = LargeStore()
    server = Server(store, clock=lambda: now[0])
    await server.open()
    [started] = store.read()
    assert (started.kind, started.at) == ("CoordinatorStarted", 61_000)
    await server.aclose()


async def test_an_epoch_that_cannot_begin_stops_the_server() -> None:
    store = HeldStore()
    store.failure = OSError("disk full")
    server = Server(store)
    with anyio.fail_after(BOUND):
        await server.open()
        with pytest.raises(StoreError, match="an append failed: disk full"):
            await server.failed()
        await server.aclose()


async def test_what_arrives_in_one_turn_is_one_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TURN_S", BOUND)
    store = SqliteStore(tmp_path / "ledger.db")
    server = Server(store)
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        before = store.commits
        peer.send(*[Frame(f"d{n}", TaskDelegate(f"k{n}", {"skill": "x"})) for n in range(100)])
        while len(peer.frames) < 101:
            peer.news = anyio.Event()
            await peer.news.wait()
        assert store.commits - before == 1
        await server.aclose()


async def welcomed_by(store: HeldStore) -> tuple[Server, Peer]:
    server = Server(store)
    await server.open()
    peer = await welcomed(server)
    store.is_holding = True
    return server, peer


def delegates(*numbers: int) -> list[Frame]:
    return [Frame(f"d{number}", TaskDelegate(f"k{number}", {"skill": "x"})) for number in numbers]


async def test_a_turn_decides_on_so_many_frames_and_leaves_the_rest_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "FRAMES_PER_TURN", 2)
    monkeypatch.setattr(server_module, "TURN_S", BOUND)
    store = HeldStore()
    with anyio.fail_after(BOUND):
        server, peer = await welcomed_by(store)
        for numbers in ((1, 2), (3, 4), (5, 6)):
            server._received(server._peers[1], encode(delegates(*numbers), MSGPACK))
        while len(store.held) < 3:
            await anyio.lowlevel.checkpoint()
        assert [len(entries) for entries, *_ in store.held] == [2, 2, 2]
        store.let_go()
        for number in range(1, 7):
            await peer.reply(f"d{number}")
        await server.aclose()


async def test_more_messages_than_may_wait_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FRAMES_PER_TURN", 1)
    monkeypatch.setattr(server_module, "INBOX_MAX", 1)
    monkeypatch.setattr(server_module, "TURN_S", BOUND)
    store = HeldStore()
    with anyio.fail_after(BOUND):
        server, _ = await welcomed_by(store)
        for number in (1, 2, 3):
            server._received(server._peers[1], encode(delegates(number), MSGPACK))
        while not store.held:
            await anyio.lowlevel.checkpoint()
        assert [len(entries) for entries, *_ in store.held] == [3]
        store.let_go()
        await server.aclose()


def keys(server: Server) -> list[str]:
    return [task.key for task in server.coordinator.ledger.tasks.values()]


async def test_what_takes_long_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        slow, other = await welcomed(server), await join(server)
        other.send(Frame("1", replace(HELLO, agent_id="other")))
        await other.until("welcome")
        monkeypatch.setattr(server_module, "TURN_S", 0)
        slow_end, other_end = server._peers[1], server._peers[2]
        server._received(slow_end, encode(delegates(1, 2, 3), MSGPACK))
        server._received(slow_end, encode(delegates(4), MSGPACK))
        server._received(other_end, encode(delegates(5), MSGPACK))
        while len(keys(server)) < 2:
            await anyio.lowlevel.checkpoint()
        assert slow_end.is_paused and not other_end.is_paused, "who takes long is not read meanwhile"
        for number in (1, 2, 3, 4):
            await slow.reply(f"d{number}")
        assert keys(server) == ["k1", "k5", "k2", "k3", "k4"]
        assert [frame.re for frame in slow.frames][1:] == ["d1", "d2", "d3", "d4"]
        assert not slow_end.is_paused
        await server.aclose()


async def test_peers_that_send_more_than_there_is_time_for_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "INBOX_MAX", 2)
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        monkeypatch.setattr(server_module, "TURN_S", 0)
        end = server._peers[1]
        for number in (1, 2, 3):
            assert not end.is_paused
            server._received(end, encode(delegates(number), MSGPACK))
        assert end.is_paused and keys(server) == []
        await peer.reply("d3")
        assert not end.is_paused
        await server.aclose()


async def test_what_takes_long_is_heard_though_its_peer_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        await welcomed(server)
        monkeypatch.setattr(server_module, "TURN_S", 0)
        leaving = server._peers[1]
        server._received(leaving, encode(delegates(1, 2), MSGPACK))
        server._received(leaving, encode(delegates(3), MSGPACK))
        leaving.closed("gone")
        while server.coordinator.live.agents:
            await anyio.lowlevel.checkpoint()
        assert keys(server) == ["k1", "k2", "k3"]
        assert not server.coordinator.live.connections
        await server.aclose()


async def test_what_a_peer_said_before_it_left_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FRAMES_PER_TURN", 1)
    monkeypatch.setattr(server_module, "TURN_S", BOUND)
    store = HeldStore()
    with anyio.fail_after(BOUND):
        server, _ = await welcomed_by(store)
        leaving = server._peers[1]
        for number in (1, 2, 3):
            server._received(leaving, encode(delegates(number), MSGPACK))
        leaving.closed("gone")
        assert keys(server) == ["k1", "k2", "k3"]
        store.let_go()
        await server.aclose()


async def test_a_record_that_cannot_be_written_stops_the_coordinator_as_a_lost_append_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was decided on, and the ledger has it not: whoever waits for an answer hears from the next coordinator."""
    server = Server(MemoryStore())
    await server.open()

    def stumble(record: Any) -> None:
        raise OverflowError("a bug")

    with anyio.fail_after(BOUND):
        peer = await join(server)
        monkeypatch.setattr(server_module, "to_bytes", stumble)
        peer.send(Frame("1", HELLO))
        with pytest.raises(StoreError, match="a record after 1 cannot be written: a bug"):
            await server.failed()
        await server.aclose()
    assert peer.frames == []
    assert "OverflowError: a bug" in caplog.text


async def test_a_message_that_runs_into_a_bug_costs_its_connection_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        unlucky, other = await join(server), await join(server)
        step = server.coordinator.step

        def stumble(connection: int, *taken: Any) -> None:
            if connection == 1:
                raise KeyError("a bug")
            step(connection, *taken)

        monkeypatch.setattr(server.coordinator, "step", stumble)
        unlucky.send(Frame("1", HELLO))
        other.send(Frame("1", replace(HELLO, agent_id="peer#2")))
        await other.until("welcome")
        while unlucky.end is None:
            await anyio.lowlevel.checkpoint()
        await server.aclose()
    assert unlucky.frames == []
    assert "connection 1: its message could not be handled" in caplog.text


async def test_a_failing_append_stops_the_server_and_answers_nothing() -> None:
    store = HeldStore()
    server = Server(store)
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        store.failure = OSError("disk full")
        peer.send(Frame("2", TaskDelegate("k", {"skill": "x"})))
        with pytest.raises(StoreError, match="an append failed: disk full"):
            await server.failed()
        while peer.end is None:
            peer.news = anyio.Event()
            await peer.news.wait()
        assert [frame.message.kind for frame in peer.frames] == ["welcome"]
        await server.aclose()


async def test_an_older_copy_of_the_ledger_stops_the_server_when_an_agent_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    hello = replace(HELLO, agent_id="w1", secret="kept")
    server = Server(SqliteStore(path))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await join(server)
        peer.send(Frame("1", hello))
        await peer.until("welcome")
        held = HeldStill("main-90", 91, 0, proof(server.coordinator.ledger, "w1", "main-90", 91))
        await server.aclose()
        older = Server(SqliteStore(path))
        await older.open()
        records = older.coordinator.ledger.lsn
        peer = await join(older)
        peer.send(Frame("1", replace(hello, held=[held])), Frame("2", TaskDelegate("k", {"skill": "x"})))
        with pytest.raises(StoreOutdated, match="older copy of the ledger.* w1 holds fence 91 of task main-90"):
            await older.failed()
        assert peer.frames == []
        await older.aclose()
    store = SqliteStore(path)
    assert await store.open() == records, "nothing was recorded on it"
    await store.aclose()


async def test_a_restart_goes_on_with_everything_that_was_answered(tmp_path: Path, helper: Agent, gate: Any) -> None:
    path = tmp_path / "ledger.db"
    secrets: dict[str, str] = {}
    with anyio.fail_after(BOUND):
        async with squad(store=SqliteStore(path), secrets=secrets) as running:
            async with running.client.delegate("count_words", {"text": "a b"}, key="k") as task:
                epoch = running.server.coordinator.ledger.epoch
        async with squad(helper, store=SqliteStore(path), secrets=secrets) as running:
            assert running.server.coordinator.ledger.epoch == epoch + 1
            async with running.client.delegate("count_words", {"text": "a b"}, key="k") as again:
                assert (again.id, again.created) == (task.id, False)
                assert await again.result() == {"words": 2}


async def test_timers_run_on_where_the_wall_clock_was_set_back(caplog: pytest.LogCaptureFixture) -> None:
    store, hour = MemoryStore(), 3_600_000
    first = Server(store, clock=lambda: hour)
    await first.open()
    await first.aclose()
    wall = [0]
    second = Server(store, clock=lambda: wall[0])
    await second.open()
    assert second.clock() == hour
    wall[0] += 5
    assert second.clock() == hour + 5
    assert "the ledger is 1.00 hours ahead of this machine's clock" in caplog.text
    await second.aclose()
    caplog.clear()
    third = Server(store, clock=lambda: hour - 1_000)
    await third.open()
    await third.aclose()
    assert caplog.text == "", "clocks that are kept right differ by as much"


async def test_a_coordinator_that_was_held_up_hears_who_is_alive_before_a_lease_lapses(
    helper: Agent, gate: Any
) -> None:
    store, lease = MemoryStore(), 250
    policy = Policy(durations=Durations(heartbeat_ms=lease // 5, lease_ms=lease, offer_ms=lease), recovery_grace_ms=0)
    server = Server(store, policy)
    await server.open()
    listener = await server.listen()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks, connect(url=listener.url, token="", name="asker") as client:
            stop = anyio.Event()
            tasks.start_soon(partial(helper.run, listener.url, token="", stop=stop))
            async with client.delegate("wait") as task:
                await gate.begun.wait()
                # The agent's heartbeats go out all the while, from a thread of their own, and nobody reads them.
                time.sleep((lease + 2 * server_module.HELD_UP_MS) / 1000)  # noqa: ASYNC251
                gate.open.set()
                await task.result()
            stop.set()
    kinds = [entry.kind for entry in store.read()]
    await server.aclose()
    assert "Settled" in kinds
    assert "LeaseExpired" not in kinds


async def test_no_lease_lapses_while_a_message_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    carries, looked = [True, True], anyio.Event()

    def looking(_: Any) -> bool:
        if len(carries) == 1:
            looked.set()
        return carries.pop() if carries else False

    monkeypatch.setattr(memory._End, "is_carrying", property(looking))
    short = Policy(durations=Durations(heartbeat_ms=100, lease_ms=200, offer_ms=100))
    async with staffed(short) as (boss, worker, server):
        boss.send(TASK)
        offer = await worker.until("task.offer")
        await looked.wait()
        assert "LeaseExpired" not in [entry.kind for entry in server.store.read()]
        while "LeaseExpired" not in [entry.kind for entry in server.store.read()]:
            await anyio.lowlevel.checkpoint()
        assert server.coordinator.ledger.tasks[offer.task].losses == 1


async def test_timers_run_out_though_the_loop_is_late_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HELD_UP_MS", 0)
    server = Server(MemoryStore(), Policy())
    await server.open()
    listener = await server.listen()
    with anyio.fail_after(BOUND):
        async with connect(url=listener.url, token="", name="asker") as client:
            with pytest.raises(TaskFailed, match="within 100 ms"):
                await client.call("nobody", timers={"queue": 0.1})
    await server.aclose()


async def test_what_is_overdue_at_the_start_is_not_taken_for_a_loop_that_was_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "HEAR_MS", 3_600_000)
    store, policy, wall = MemoryStore(), Policy(), [1_000]
    first = Server(store, policy, clock=lambda: wall[0])
    await first.open()
    peer = await join(first)
    peer.send(Frame("h", Hello(["1.0", "1.0"], "asker", "asker-1", 1)))
    peer.send(Frame("d", TaskDelegate("k", {"skill": "any"})))
    with anyio.fail_after(BOUND):
        task = (await peer.reply("d")).task
        peer.send(Frame("c", TaskCancel(task)))
        await peer.until("task.settled")
        peer.send(Frame("a", MailboxAck(1)), Frame("g", TaskGet(task)))
        await peer.reply("g")
        await first.aclose()
        wall[0] += policy.linger_ms + 2 * server_module.HELD_UP_MS
        second = Server(store, policy, clock=lambda: wall[0])
        await second.open()
        while task in second.coordinator.ledger.tasks:
            await anyio.lowlevel.checkpoint()
    await second.aclose()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "ledger.db")


async def finished(server: Server, peer: Peer, key: str) -> str:
    """Have a task canceled, read its mail, and wait until it has left memory; return its id."""
    peer.send(Frame(f"d-{key}", TaskDelegate(key, {"skill": "nobody"})))
    task: str = (await peer.reply(f"d-{key}")).task
    peer.send(Frame(f"c-{key}", TaskCancel(task)))
    await peer.reply(f"c-{key}")
    peer.send(Frame(f"a-{key}", MailboxAck(max(frame.mseq or 0 for frame in peer.frames))))
    while task in server.coordinator.ledger.tasks:  # noqa: ASYNC110 - that it leaves is told to nobody
        await anyio.sleep(0.01)
    return task


async def test_a_task_that_left_memory_is_there_for_readers_and_repeats(store: Store) -> None:
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        tasks = [await finished(server, peer, f"k{number}") for number in range(3)]
        assert server.coordinator.ledger.tasks == {}
        peer.send(
            Frame("get", TaskGet(tasks[0])),
            Frame("list", TaskList(limit=2)),
            Frame("again", TaskDelegate("k1", {"skill": "nobody"})),
            Frame("unknown", TaskGet("main-2")),
            Frame("late", TaskGet(tasks[2])),
        )
        assert (await peer.reply("late")).view["metadata"]["state"] == "canceled"
        assert [frame.re for frame in peer.frames[-5:]] == ["get", "list", "again", "unknown", "late"]
        assert (await peer.reply("get")).view["id"] == tasks[0]
        assert [shown["id"] for shown in (await peer.reply("list")).tasks] == [tasks[2], tasks[1]]
        again = await peer.reply("again")
        assert (again.task, again.created) == (tasks[1], False)
        assert (await peer.reply("unknown")).code == "not_found"
        await server.aclose()


async def test_what_the_archive_answers_after_the_stop_is_not_decided_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec DURABLE-10: else the last snapshot would be ahead of the log, and would not be kept."""
    store = HeldStore()
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        task = await finished(server, peer, "k")
        asked, release, find = anyio.Event(), anyio.Event(), store.find_archived

        async def slow(**wanted: Any) -> ArchivedTask | None:
            asked.set()
            await release.wait()
            return await find(**wanted)

        store.find_archived = slow  # type: ignore[method-assign]
        late = TaskReport(task, 1, "completed", result_hash("completed", b"[]"))
        peer.send(Frame("late", late))
        await asked.wait()
        server_end = next(iter(server._peers.values()))
        assert server_end.transport is not None
        monkeypatch.setattr(server_end.transport, "close", lambda *_: None)  # its peer takes its time
        store.is_holding = True
        async with anyio.create_task_group() as group:
            group.start_soon(server.aclose)
            while not store.held:
                await anyio.lowlevel.checkpoint()
            release.set()
            while server._lookups:
                await anyio.lowlevel.checkpoint()
            store.let_go()
    assert store.medium.snapshot is not None
    assert (store.medium.snapshot.lsn, store.medium.log[-1].kind) == (len(store.medium.log), "CoordinatorStopped")


async def test_a2a_lists_and_gets_tasks_that_left_memory(store: Store) -> None:
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        tasks = [await finished(server, peer, f"k{number}") for number in range(3)]
        peer.send(
            Frame("list", A2ACall("ListTasks", b'{"pageSize":2,"status":"TASK_STATE_CANCELED"}')),
            Frame("get", A2ACall("GetTask", json.dumps({"id": tasks[0]}).encode())),
        )
        page = json.loads((await peer.reply("list")).payload)
        assert [task["id"] for task in page["tasks"]] == [tasks[2], tasks[1]]
        assert (page["totalSize"], bool(page["nextPageToken"])) == (3, True)
        assert json.loads((await peer.reply("get")).payload)["id"] == tasks[0]
        await server.aclose()


async def test_the_card_names_where_the_server_listens() -> None:
    server = Server(MemoryStore())
    await server.open()
    listener = await server.listen()
    with anyio.fail_after(BOUND):
        peer = await join(server)
        peer.send(Frame("1", HELLO), Frame("card", A2ACall("GetExtendedAgentCard")))
        card = json.loads((await peer.reply("card")).payload)
        assert [interface["url"] for interface in card["supportedInterfaces"]] == [listener.url]
        await server.aclose()


async def test_a_peer_that_waits_for_the_archive_is_not_read_and_others_are(store: Store) -> None:
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        task = await finished(server, peer, "k")
        release = anyio.Event()
        find = store.find_archived

        async def slow(**wanted: Any) -> ArchivedTask | None:
            await release.wait()
            return await find(**wanted)

        store.find_archived = slow  # type: ignore[method-assign]
        peer.send(Frame("get", TaskGet(task)))
        server_end = next(iter(server._peers.values()))
        while not server_end.is_waiting:
            await anyio.lowlevel.checkpoint()
        assert server_end.is_paused
        other = await join(server)
        other.send(Frame("1", Hello(["1.0", "1.0"], "other", "i1", 1)))
        await other.until("welcome")
        assert not any(frame.re == "get" for frame in peer.frames)
        release.set()
        assert (await peer.reply("get")).view["id"] == task
        assert not server_end.is_paused
        await server.aclose()


async def away(server: Server, name: str, tasks: int) -> list[str]:
    """Have an agent go that has not read its mail about tasks that have left memory; return these."""
    peer = await join(server)
    peer.send(Frame("1", Hello(["1.0", "1.0"], name, "i1", 1, secret=name)))
    await peer.until("welcome")
    names = []
    for number in range(tasks):
        peer.send(Frame(f"d{number}", TaskDelegate(f"k{number}", {"skill": "nobody"})))
        names.append((await peer.reply(f"d{number}")).task)
        peer.send(Frame(f"c{number}", TaskCancel(names[-1])))
    while server.coordinator.ledger.tasks:  # noqa: ASYNC110 - that they leave is told to nobody
        await anyio.sleep(0.01)
    peer.transport.close()
    while name in server.coordinator.live.agents:
        await anyio.lowlevel.checkpoint()
    return names


async def back(server: Server, name: str) -> Peer:
    """Have an agent come back for its mail."""
    peer = await join(server)
    peer.send(Frame("1", Hello(["1.0", "1.0"], name, "i2", 2, secret=name)))
    await peer.until("welcome")
    return peer


def told(peer: Peer) -> list[str]:
    """Return the tasks that mail has come about."""
    return [cast(TaskSettled, frame.message).task for frame in peer.frames if frame.mseq is not None]


async def test_no_more_is_looked_up_for_mail_at_once_than_has_so_many_bytes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a2a.engine.delivery._FETCHED_BYTES", 1)
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        tasks = await away(server, "boss", 3)
        counts, found = [], server.coordinator.found

        def counted(need: Need, rows: Sequence[Row] | None, *rest: Any) -> None:
            counts.append((len(need.tasks), len(rows or ())))
            found(need, rows, *rest)

        monkeypatch.setattr(server.coordinator, "found", counted)
        peer = await back(server, "boss")
        while len(told(peer)) < 3:
            await anyio.lowlevel.checkpoint()
        assert told(peer) == tasks
        assert counts == [(3, 1), (2, 1), (1, 1)]
        await server.aclose()


async def test_mail_is_looked_up_for_one_connection_after_the_other_and_holds_up_nobody_else(store: Store) -> None:
    """Nor is it looked up for a connection that has ended meanwhile."""
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        tasks = {name: await away(server, name, 2) for name in ("ann", "bob", "cy")}
        looked_up: list[str] = []
        begun, release, find = anyio.Event(), anyio.Event(), store.find_archived

        async def slow(*, task: str) -> ArchivedTask | None:
            looked_up.append(task)
            if task != tasks["cy"][1]:
                begun.set()
                await release.wait()
            return await find(task=task)

        store.find_archived = slow  # type: ignore[assignment, method-assign]
        ann, bob, cy = [await back(server, name) for name in tasks]
        await begun.wait()
        cy.send(Frame("get", TaskGet(tasks["cy"][1])))
        assert (await cy.reply("get")).view["id"] == tasks["cy"][1]
        assert looked_up == [tasks["ann"][0], tasks["cy"][1]]
        bob.transport.close()
        while "bob" in server.coordinator.live.agents:
            await anyio.lowlevel.checkpoint()
        release.set()
        while len(told(cy)) < 2:
            await anyio.lowlevel.checkpoint()
        assert (told(ann), told(bob), told(cy)) == (tasks["ann"], [], tasks["cy"])
        assert not set(tasks["bob"]) & set(looked_up)
        await server.aclose()


async def test_mail_behind_a_damaged_task_gets_through(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Of the task itself only how it ended is told; to a request that names it the archive is unavailable."""
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        changed, unsummed, missing, sound = tasks = await away(server, "boss", 4)
        find = store.find_archived

        async def damaged(*, task: str, whole: bool = True) -> ArchivedTask | None:
            kept = await find(task=task, whole=whole)
            if task == missing and whole:
                raise StoreCorrupt("a large payload is missing")
            if kept is not None and task == changed:
                return kept._replace(body=kept.body[:-1] + b"?")
            # As an older version wrote it, without a checksum.
            return kept._replace(body=plain.checked(kept.body)[:-1]) if kept is not None and task == unsummed else kept

        store.find_archived = damaged  # type: ignore[assignment, method-assign]
        peer = await back(server, "boss")
        while len(told(peer)) < 4:
            await anyio.lowlevel.checkpoint()
        assert told(peer) == tasks
        mail = [cast(TaskSettled, frame.message) for frame in peer.frames if frame.mseq is not None]
        assert [(notice.state, notice.reason) for notice in mail[:3]] == [("canceled", "gone")] * 3
        assert (mail[3].task, mail[3].reason) == (sound, "canceled")
        assert [record.args[0] for record in caplog.records if "is damaged" in record.msg] == tasks[:3]
        for task in tasks[:3]:
            peer.send(Frame(f"get-{task}", TaskGet(task)))
            assert (await peer.reply(f"get-{task}")).code == "unavailable"
        await server.aclose()


async def test_mail_about_a_task_that_is_gone_is_not_told_to_be_damaged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        tasks = await away(server, "boss", 1)
        assert await store.prune(server.clock() + HOUR_MS, 10) == 1
        peer = await back(server, "boss")
        notice = await peer.until("task.settled")
        assert (notice.task, notice.reason) == (tasks[0], "gone")
        assert not caplog.records
        await server.aclose()


async def test_what_the_archive_has_and_nobody_can_take_costs_one_connection(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else its peer would wait for ever: it is not read meanwhile."""
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        peer, other = await welcomed(server), await join(server)
        other.send(Frame("1", Hello(["1.0", "1.0"], "other", "i1", 1)))
        await other.until("welcome")
        task = await finished(server, peer, "k")

        def fail(*_: object) -> None:
            raise TypeError("the name of a skill is no number")

        with monkeypatch.context() as patched:
            patched.setattr(server.coordinator, "found", fail)
            peer.send(Frame("get", TaskGet(task)))
            while peer.end is None:
                await anyio.lowlevel.checkpoint()
        assert "1011" in peer.end
        assert [record.message for record in caplog.records if record.exc_info] == [
            "connection 1: what the archive has could not be taken"
        ]
        other.send(Frame("get", TaskGet(task)))
        assert (await other.reply("get")).view["id"] == task
        await server.aclose()


async def test_an_archive_that_cannot_be_read_is_unavailable_and_the_server_goes_on(store: Store) -> None:
    server = Server(store, Policy(linger_ms=0))
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        task = await finished(server, peer, "k")

        async def broken(**wanted: Any) -> ArchivedTask | None:
            raise StoreError("the disk makes noises")

        store.find_archived = broken  # type: ignore[method-assign]
        store.list_ended = broken  # type: ignore[method-assign, assignment]
        peer.send(Frame("get", TaskGet(task)), Frame("list", A2ACall("ListTasks")), Frame("ping", Ping("n")))
        assert (await peer.reply("get")).code == "unavailable"
        assert (await peer.reply("list")).code == "unavailable"
        await peer.reply("ping")
        await server.aclose()


async def test_a_page_of_archived_tasks_is_shown_without_their_large_payloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them would not have room in memory."""
    monkeypatch.setattr("a2a.link.SAID_AGAIN_FOR", 0.0)
    agent, store = Agent("echo"), SqliteStore(tmp_path / "l.db")

    @agent.skill(takes_value=True)
    async def echo(value: str) -> str:
        return value

    with anyio.fail_after(BOUND):
        async with squad(agent, store=store, policy=Policy(linger_ms=0, linger_tasks_max=1)) as running:
            client = running.client
            async with client.delegate("echo", "x" * 100_000) as task:
                await task.result()
            while await store.find_archived(task=task.id) is None:
                await client.call("echo", "another, with which it leaves memory")
            for blob in (tmp_path / "l.db.blobs").glob("??/*"):
                blob.unlink()
            assert [shown["id"] for shown in await client.list(context_id=task.context_id)] == [task.id]
            wanted: dict[str, Any] = {"contextId": task.context_id}
            listed = await client.link.call(A2ACall("ListTasks", json.dumps(wanted).encode()))
            assert isinstance(listed, A2AResult)
            assert [shown["id"] for shown in json.loads(listed.payload)["tasks"]] == [task.id]
            with pytest.raises(Unavailable):
                await client.get(task.id)
            wanted["includeArtifacts"] = True
            with pytest.raises(Unavailable):
                await client.link.call(A2ACall("ListTasks", json.dumps(wanted).encode()))


async def test_a_second_coordinator_on_the_same_ledger_is_refused(tmp_path: Path) -> None:
    first, second = Server(SqliteStore(tmp_path / "l.db")), Server(SqliteStore(tmp_path / "l.db"))
    await first.open()
    with pytest.raises(StoreError, match=r"l\.db"):
        await second.open()
    await first.aclose()
    await second.open()
    await second.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b"\x91\x01",  # no record
        to_bytes(Settled(1, "main-1", "failed", "error"))[0],  # of a task that is not there
        to_bytes(AgentRegistered(1, "w", "i", 1, {"skills": 7}, {}))[0],  # what a card cannot be
    ],
)
async def test_a_ledger_that_does_not_fold_is_left_alone(body: bytes) -> None:
    store = MemoryStore()
    await store.open()
    done = anyio.Event()
    store.append([Entry(1, "Nonsense", None, 1, body)], 0, lambda error: done.set())
    await done.wait()
    await store.aclose()
    with pytest.raises(StoreError, match="the ledger cannot be folded at record 1: .+; it was left unchanged"):
        await Server(store).open()
    await store.open()  # it was closed
    await store.aclose()


async def test_a_ledger_that_does_not_fold_is_named_with_the_record(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    async with squad(store=SqliteStore(path)) as running:
        async with running.client.delegate("nobody", key="k") as task:
            created = int(task.id.removeprefix("main-"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM snapshot")
        connection.commit()
    change_entry(path, created, body=b"\x91")
    with pytest.raises(StoreError, match=rf"l\.db cannot be folded at record {created}: not a record"):
        await Server(SqliteStore(path)).open()


@pytest.mark.parametrize("names_a_task", [True, False])
@pytest.mark.parametrize("has_snapshot", [True, False])
@pytest.mark.parametrize("start_names_it", [True, False])
async def test_a_ledger_of_another_namespace_is_left_alone(
    tmp_path: Path, names_a_task: bool, has_snapshot: bool, start_names_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.db"
    with monkeypatch.context() as older:
        if not start_names_it:
            older.setattr(
                "a2a.engine.coordinator.CoordinatorStarted", lambda at, epoch, *_: CoordinatorStarted(at, epoch)
            )
        async with squad(store=SqliteStore(path), policy=Policy(namespace="one")) as running:
            if names_a_task:
                async with running.client.delegate("nobody", key="k"):
                    pass
    is_told = names_a_task or has_snapshot or start_names_it
    with closing(sqlite3.connect(path)) as connection:
        if not has_snapshot:
            connection.execute("DELETE FROM snapshot")
            connection.commit()
        before = connection.execute("SELECT * FROM log").fetchall()
    if is_told:
        with pytest.raises(StoreError, match=f"{path} has the namespace one, but two was asked for") as refused:
            await Server(SqliteStore(path), Policy(namespace="two")).open()
        assert "start it with the namespace one, or name another file for two" in str(refused.value)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT * FROM log").fetchall() == before
    with LedgerReader(path) as reader:
        assert reader.namespace() == ("one" if is_told else "main")
    server = Server(SqliteStore(path), Policy(namespace="one"))
    await server.open()
    await server.aclose()


async def test_a_ledger_that_cannot_be_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "l.db")

    async def broken() -> None:
        raise StoreError("the disk makes noises")

    with monkeypatch.context() as patched:
        patched.setattr(store, "load_snapshot", broken)
        with pytest.raises(StoreError, match="^the disk makes noises$"):
            await Server(store).open()
    other = Server(SqliteStore(tmp_path / "l.db"))
    await other.open()  # nobody holds its lock
    await other.aclose()


async def test_a_json_peer_and_a_msgpack_peer_work_on_one_task(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with ws_connect(running.url, subprotocols=[JSON], compression=None) as socket:  # type: ignore[list-item]
                hello = {
                    "versions": ["1.0", "1.0"],
                    "agentId": "js",
                    "instanceId": "1",
                    "incarnation": 1,
                    "token": running.settings.token,
                }
                await socket.send(json.dumps({"id": "1", "kind": "hello", "body": hello}))
                assert json.loads(await socket.recv())["kind"] == "welcome"
                body = {"key": "k", "spec": {"skill": "count_words", "acceptance": {"evaluator": "auto"}}}
                delegate = {"id": "2", "kind": "task.delegate", "body": body, "payload": '[{"data":{"text":"a b"}}]'}
                await socket.send(json.dumps(delegate))
                while True:
                    for frame in map(json.loads, str(await socket.recv()).splitlines()):
                        if frame["kind"] == "task.settled":
                            assert json.loads(frame["payload"])[0]["parts"] == [{"data": {"words": 2}}]
                            return


async def test_a_peer_that_offers_no_version_of_ours_is_told_what_is_spoken() -> None:
    server = Server(MemoryStore())
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await join(server)
        peer.send(Frame("1", Hello(["2.0", "3.0"], "peer", "i", 1)))
        error = await peer.until("error")
        assert error.code == "version"
        assert error.data == {"versions": ["1.0", "1.0"]}
        while peer.end is None:
            peer.news = anyio.Event()
            await peer.news.wait()
        await server.aclose()


async def test_the_sender_is_who_was_welcomed_not_what_a_frame_says(helper: Agent) -> None:
    policy = Policy(admission=Admission(digest("t")))
    server = Server(MemoryStore(), policy)
    await server.open()
    with anyio.fail_after(BOUND):
        peer = await join(server)
        peer.send(Frame("1", Hello(["1.0", "1.0"], "liar", "i", 1, token="t")))
        await peer.until("welcome")
        peer.send(Frame("2", TaskDelegate("k", {"skill": "x"}), sender="somebody-else"))
        created = await peer.until("task.created")
        assert server.coordinator.ledger.tasks[created.task].delegator == "liar"
        await server.aclose()


async def test_clients_come_back_after_a_restart_on_the_same_address(tmp_path: Path, helper: Agent, gate: Any) -> None:
    admission = Admission(digest("t"))
    with anyio.fail_after(BOUND):
        first = Server(SqliteStore(tmp_path / "l.db"), Policy(admission=admission))
        await first.open()
        listener = await first.listen()
        settings = LinkSettings(url=listener.url, token="t", secrets={})
        stop, ready = anyio.Event(), anyio.Event()
        from a2a import connect

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: helper.run(settings=settings, stop=stop, ready=ready.set))
            await ready.wait()
            async with connect(settings=settings, name="c") as client:
                async with client.delegate("wait") as task:
                    await gate.begun.wait()
                    await first.aclose()
                    second = Server(SqliteStore(tmp_path / "l.db"), Policy(admission=admission))
                    await second.open()
                    await second.listen(port=listener.port)
                    gate.open.set()
                    assert await task.result() == "attempt 1", "the attempt went on through the restart"
                assert (await client.get(task.id))["metadata"]["counters"]["losses"] == 0
            stop.set()
        await second.aclose()


async def test_a_closed_link_says_so() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            client = running.connect("late")
            async with client:
                pass
            with pytest.raises((ConnectionLost, ConnectError)):
                await client.list()
