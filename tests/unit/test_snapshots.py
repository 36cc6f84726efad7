"""Snapshots: made by a copy of the server's process or by another one, kept at the end, and used at the start."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import MemoryStore, Policy, Server, SqliteStore
from a2a.engine import snapshot
from a2a.engine.coordinator import Coordinator
from a2a.engine.ledger import Ledger
from a2a.engine.records import AgentRegistered, CoordinatorStarted, Settled, from_bytes, to_bytes
from a2a.errors import StoreCorrupt
from a2a.forking import Copy, is_safe
from a2a.protocol.codec import Frame
from a2a.protocol.messages import TaskDelegate
from a2a.snapshots import Snapshots, fold
from a2a.stores.base import Entry, Snapshot
from a2a.stores.reader import LedgerReader
from a2a.stores.rows import LARGE_BYTES
from a2a.testing import squad
from tests.raw_peer import welcomed

BOUND = 60
ELSEWHERE = "an operating system where no process is copied"
on_linux = pytest.mark.skipif(not is_safe(), reason="only Linux lets a process with threads be copied")


async def filled(path: Path, starts: int) -> None:
    """Make a ledger of coordinators that started and ended."""
    for _ in range(starts):
        server = Server(SqliteStore(path))
        await server.open()
        await server.aclose()


def ledger_at(lsn: int, tasks: int = 0) -> Ledger:
    """Return a ledger that says it is at a position, with tasks of which nothing but their number counts."""
    ledger = Ledger()
    ledger.lsn = lsn
    ledger.tasks = dict.fromkeys(map(str, range(tasks)))  # type: ignore[arg-type]
    return ledger


def folded(path: Path, upto: int) -> bytes:
    """Return what the records up to a position add up to."""
    ledger = Ledger()
    with LedgerReader(path) as reader:
        for entry in reader.entries():
            if entry.lsn <= upto:
                ledger.apply(from_bytes(entry.body, entry.payload))
    return snapshot.to_bytes(ledger)


async def made(keeper: Snapshots) -> None:
    """Wait until the one that is being made is there, or is not going to be."""
    assert keeper._making is not None
    with anyio.fail_after(BOUND):
        await keeper._making


async def drop_snapshot(path: Path, instead: bytes | None = None) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.save_snapshot(Snapshot(1, instead or b"nothing"))
    await store.aclose()


async def test_an_orderly_stop_leaves_a_snapshot_of_all_records(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 2)
    with LedgerReader(path) as reader:
        kept = reader.snapshot()
        assert kept is not None
        assert kept.lsn == reader.end == 4, "each has started and stopped"
        folded = Ledger()
        for entry in reader.entries():
            folded.apply(from_bytes(entry.body, entry.payload))
        assert kept.body == snapshot.to_bytes(folded)


async def test_a_start_folds_only_what_is_behind_the_snapshot(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    store = SqliteStore(path)
    asked: list[int] = []
    read = store.read
    monkeypatch.setattr(store, "read", lambda after=0, **rest: asked.append(after) or read(after, **rest))
    server = Server(store)
    await server.open()
    assert asked == [6]
    assert server.coordinator.ledger.epoch == 4
    await server.aclose()


@pytest.mark.parametrize("body", [b"nothing", b"\x93\x01\xc4\x00\xc4\x00"])
async def test_a_snapshot_that_cannot_be_read_is_left_aside_with_a_warning(tmp_path, body, caplog):
    path = tmp_path / "ledger.db"
    await filled(path, 2)
    await drop_snapshot(path, body)
    server = Server(SqliteStore(path))
    await server.open()
    assert server.coordinator.ledger.epoch == 3
    assert "folding all records" in caplog.text
    await server.aclose()


async def test_another_process_makes_the_snapshot_the_server_would(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    await drop_snapshot(path)
    store = SqliteStore(path)
    await store.open()
    keeper = Snapshots(store, every=5, platform=ELSEWHERE)
    keeper.appended(ledger_at(4))
    assert keeper._making is None, "not yet"
    keeper.appended(ledger_at(8, tasks=1))
    assert keeper._making is None, "a task in memory is worth four records"
    keeper.appended(ledger_at(5))
    await made(keeper)
    with LedgerReader(path) as reader:
        kept = reader.snapshot()
        assert kept == Snapshot(6, snapshot.to_bytes(fold(reader)))
    keeper.appended(ledger_at(9))
    assert keeper._making is None, "the next one is due five records after it"
    await store.aclose()


@on_linux
async def test_a_copy_makes_the_snapshot_of_the_ledger_as_it_is_at_that_moment(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    store = SqliteStore(path)
    await store.open()
    keeper = Snapshots(store, every=5)
    with LedgerReader(path) as reader:
        ledger = fold(reader)
    body = snapshot.to_bytes(ledger)
    keeper.appended(ledger)
    assert keeper._copy is not None
    ledger.apply(CoordinatorStarted(9, 9))
    await made(keeper)
    assert await store.load_snapshot() == Snapshot(6, body)
    assert keeper._copy is None
    keeper.newest = 0
    keeper.appended(ledger)
    second = keeper._copy
    await keeper.aclose()
    await store.aclose()
    assert second is not None, "and so it goes on"


async def with_a_large_task(path: Path) -> bytes:
    """Make a ledger of a coordinator that ended while a task with a large input was queued, and return the input."""
    server = Server(SqliteStore(path))
    await server.open()
    large = b'["%s"]' % os.urandom(LARGE_BYTES).hex().encode()
    with anyio.fail_after(BOUND):
        peer = await welcomed(server)
        peer.send(Frame("2", TaskDelegate("k", {"skill": "nobody"}, large)))
        await peer.until("task.created")
    await server.aclose()
    return large


@pytest.mark.parametrize("way", ["stop", pytest.param("copy", marks=on_linux), "another process"])
async def test_a_large_input_is_in_no_snapshot_and_in_what_is_made_of_it(tmp_path, way, monkeypatch):
    path = tmp_path / "ledger.db"
    large = await with_a_large_task(path)
    store = SqliteStore(path)
    end = await store.open()
    if way != "stop":
        monkeypatch.setattr("a2a.snapshots._RECORDS_PER_TASK", 0)
        await store.save_snapshot(Snapshot(1, b"nothing"))
        keeper = Snapshots(store, every=1, platform=sys.platform if way == "copy" else ELSEWHERE)
        with LedgerReader(path) as reader:
            keeper.appended(fold(reader))
        await made(keeper)
    kept = await store.load_snapshot()
    await store.aclose()
    assert kept is not None
    assert kept.lsn == end
    assert len(kept.body) < LARGE_BYTES
    monkeypatch.setattr(Coordinator, "fold", lambda self, records: None)  # nothing but the snapshot
    server = Server(SqliteStore(path))
    await server.open()
    (task,) = server.coordinator.ledger.tasks.values()
    assert task.payload == large
    await server.aclose()


async def test_a_snapshot_whose_large_input_cannot_be_had_is_left_aside(tmp_path, caplog, monkeypatch):
    path = tmp_path / "ledger.db"
    large = await with_a_large_task(path)

    def missing(self: SqliteStore, name: bytes) -> bytes:
        raise StoreCorrupt(f"{name.hex()} is missing")

    monkeypatch.setattr(SqliteStore, "blob", missing)
    server = Server(SqliteStore(path))
    await server.open()
    assert "is missing" in caplog.text
    assert [task.payload for task in server.coordinator.ledger.tasks.values()] == [large], "from the records"
    await server.aclose()


@on_linux
async def test_what_copies_of_a_busy_server_make_is_what_the_records_add_up_to(tmp_path, helper, monkeypatch):
    path, kept = tmp_path / "ledger.db", []
    store = SqliteStore(path)
    save = store.save_snapshot

    async def keep(made: Snapshot) -> None:
        kept.append(made)
        await save(made)

    monkeypatch.setattr(store, "save_snapshot", keep)
    # It has to be copies all along: another process would come to the same.
    monkeypatch.setattr("a2a.snapshots._run_aside", None)
    monkeypatch.setattr("a2a.snapshots._RECORDS_PER_TASK", 0)
    with anyio.fail_after(BOUND):
        async with squad(helper, store=store) as running:
            running.server._snapshots._every = 1
            limiter = anyio.CapacityLimiter(20)

            async def call(number: int) -> None:
                async with limiter:
                    assert await running.client.call("count_words", {"text": "a " * number}) == {"words": number}

            # How many are made while so many calls are answered is for the machine to say.
            while len(kept) < 4 or not any(snapshot.load(made.body, "main").open_tasks for made in kept):
                async with anyio.create_task_group() as group:
                    for number in range(50):
                        group.start_soon(call, number)
    for made in kept:
        assert made.body == folded(path, made.lsn), made.lsn


async def test_a_snapshot_is_begun_only_where_the_store_has_got_every_record(monkeypatch):
    server = Server(MemoryStore())
    await server.open()
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(server._snapshots, "appended", lambda ledger: seen.append((ledger.lsn, server._end)))
    server.coordinator.stop(server.clock())
    server._flush()
    server.coordinator.stop(server.clock())  # decided while the one before is on its way, and handed over in a turn
    with anyio.fail_after(BOUND):
        await server._quiet.wait()
        server._flush()
        await server._quiet.wait()
    assert seen == [(2, 2), (3, 3)]
    await server.aclose()


@on_linux
async def test_after_a_copy_that_failed_another_process_makes_the_next(tmp_path, caplog):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    store = SqliteStore(path)
    await store.open()
    keeper = Snapshots(store, every=1)
    wrong = ledger_at(7, tasks=1)
    wrong.tasks["0"] = object()
    keeper.appended(wrong)
    await made(keeper)
    assert "no snapshot was made: the copy of this process ended with 1: TypeError" in caplog.text
    keeper.appended(ledger_at(9))
    assert keeper._copy is None
    await made(keeper)
    assert (await store.load_snapshot()).lsn == 6, "that of the file"
    with LedgerReader(path) as reader:
        ledger = fold(reader)
    keeper.newest = 0
    keeper.appended(ledger)
    assert keeper._copy is not None, "and then it is tried again"
    await made(keeper)
    await store.aclose()


@on_linux
async def test_a_copy_that_hangs_is_killed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("a2a.snapshots._COPY_DEADLINE", 0.01)
    store = SqliteStore(tmp_path / "ledger.db")
    await store.open()
    keeper = Snapshots(store, every=1)
    monkeypatch.setattr(keeper, "_copied", lambda ledger: Copy(lambda: time.sleep(1000)))
    keeper.appended(ledger_at(1))
    copy = keeper._copy
    await made(keeper)
    assert "no snapshot was made: the copy of this process did not end within 0.01 s" in caplog.text
    assert not Path(f"/proc/{copy.pid}").exists()
    await store.aclose()


@on_linux
async def test_where_no_copy_can_be_made_another_process_makes_the_snapshot(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    await drop_snapshot(path)
    store = SqliteStore(path)
    await store.open()

    def fail() -> int:
        raise BlockingIOError("too many processes")

    keeper = Snapshots(store, every=1)
    with monkeypatch.context() as patched:
        patched.setattr("os.fork", fail)
        keeper.appended(ledger_at(6))
    assert keeper._copy is None
    await made(keeper)
    assert await store.load_snapshot() == Snapshot(6, folded(path, 6))
    await store.aclose()


@on_linux
@pytest.mark.parametrize("turns", [0, 3])
async def test_the_copy_ends_with_the_server_that_waits_for_it(tmp_path, monkeypatch, turns):
    store = SqliteStore(tmp_path / "ledger.db")
    await store.open()
    keeper = Snapshots(store, every=1)
    monkeypatch.setattr(keeper, "_copied", lambda ledger: Copy(lambda: time.sleep(1000)))
    keeper.appended(ledger_at(1))
    copy = keeper._copy
    for _ in range(turns):
        await asyncio.sleep(0)
    await keeper.aclose()
    assert not Path(f"/proc/{copy.pid}").exists()
    await store.aclose()


async def test_none_is_begun_behind_the_end(tmp_path):
    store = SqliteStore(tmp_path / "ledger.db")
    keeper = Snapshots(store, every=1)
    await keeper.aclose()
    keeper.appended(ledger_at(1))
    assert keeper._making is None


async def test_a_server_has_one_made_while_it_goes_on(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 3)
    await drop_snapshot(path)
    server = Server(SqliteStore(path), snapshot_every=1)
    await server.open()
    with anyio.fail_after(BOUND):
        while (making := server._snapshots._making) is None:
            await anyio.lowlevel.checkpoint()
        await making
    kept = await server.store.load_snapshot()
    assert kept is not None
    assert kept.lsn == 7
    await server.aclose()


async def test_a_process_that_fails_is_told_to_the_log_and_to_nobody_else(tmp_path, caplog, monkeypatch):
    path = tmp_path / "ledger.db"
    await filled(path, 1)
    store = SqliteStore(path)
    await store.open()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    keeper = Snapshots(store, every=1, platform=ELSEWHERE)
    keeper.appended(ledger_at(9))
    await made(keeper)
    assert "no snapshot was made" in caplog.text
    await store.aclose()


async def test_a_failure_to_keep_one_at_the_end_is_harmless(caplog):
    store = MemoryStore()
    await store.open()
    ahead = Ledger()
    ahead.lsn = 5
    await Snapshots(store, every=1).keep(ahead)
    assert "no snapshot at record 5" in caplog.text
    await store.aclose()


async def test_the_process_ends_with_the_server_that_waits_for_it(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 1)
    store = SqliteStore(path)
    await store.open()
    keeper = Snapshots(store, every=1, platform=ELSEWHERE)
    keeper.appended(ledger_at(9))
    making = keeper._making
    for _ in range(3):
        await asyncio.sleep(0)
    await keeper.aclose()
    assert making is not None
    assert making.done()
    await store.aclose()


def test_the_process_does_nothing_for_a_parent_that_is_gone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "a2a.snapshots", str(tmp_path / "none.db"), str(os.getpid() + 100_000)],
        capture_output=True,
        check=False,
        timeout=BOUND,
    )
    assert (done.returncode, done.stdout) == (1, b"")


async def test_a_store_without_a_file_has_none_made_aside():
    store = MemoryStore()
    keeper = Snapshots(store, every=1)
    keeper.appended(ledger_at(9))
    assert keeper._making is None


async def test_a_fold_goes_on_from_the_snapshot_where_it_can_be_used(tmp_path, caplog):
    path = tmp_path / "ledger.db"
    await filled(path, 2)
    with LedgerReader(path) as reader, caplog.at_level(logging.WARNING):
        by_snapshot = snapshot.to_bytes(fold(reader))
        assert caplog.text == ""
    await drop_snapshot(path)
    with LedgerReader(path) as reader:
        assert snapshot.to_bytes(fold(reader)) == by_snapshot
    assert "cannot be used" in caplog.text


async def test_a_fold_says_which_record_does_not_fold(tmp_path):
    path = tmp_path / "ledger.db"
    await filled(path, 1)
    await drop_snapshot(path)
    store = SqliteStore(path)
    end = await store.open()
    done = anyio.Event()
    body, _ = to_bytes(AgentRegistered(1, "w", "i", 1, {"skills": 7}, {}))
    store.append([Entry(end + 1, "AgentRegistered", None, 1, body)], end, lambda error: done.set())
    await done.wait()
    await store.aclose()
    with LedgerReader(path) as reader, pytest.raises(ValueError, match=f"record {end + 1} does not fold"):
        fold(reader)


async def test_nothing_is_recorded_behind_the_stop():
    store = MemoryStore()
    server = Server(store, Policy())
    await server.open()
    await server.aclose()
    names = [entry.kind for entry in store.medium.log]
    assert names == ["CoordinatorStarted", "CoordinatorStopped"]


async def test_a_ledger_whose_last_start_failed_gets_no_stop(append_raw):
    store = await append_raw([CoordinatorStarted(1, 1), Settled(2, "main-9", "completed")])
    server = Server(store)
    with pytest.raises(Exception, match="cannot be folded"):
        await server.open()
    await server.aclose()
    assert len(store.medium.log) == 2


@pytest.fixture
def append_raw() -> Any:
    async def append(records: list[Any]) -> MemoryStore:
        store = MemoryStore()
        await store.open()
        entries = []
        for lsn, record in enumerate(records, 1):
            body, payload = to_bytes(record)
            entries.append(Entry(lsn, type(record).__name__, getattr(record, "task", None), record.at, body, payload))
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        store.append(entries, 0, done.set_result)
        await done
        await store.aclose()
        return store

    return append
