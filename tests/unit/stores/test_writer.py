"""The thread that writes: what is committed together, who is told what, and what is released when."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from a2a.engine.archived import ArchivedTask
from a2a.errors import StoreConflict, StoreError
from a2a.stores import database, writer
from a2a.stores.base import Entry
from a2a.stores.blobs import BlobDirectory
from a2a.stores.rows import to_rows
from a2a.stores.writer import GroupWriter, Job

BOUND = 20

Outcome = asyncio.Future[BaseException | None]


class Ledger:
    """A ledger file, a writer on it, and what the writer's thread did with what it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = BlobDirectory.beside(path)
        self.released: list[str] = []
        self.threads: set[str] = set()
        self.failure: Exception | None = None
        """What to raise instead of opening."""
        self.writer: GroupWriter

    def start(self) -> GroupWriter:
        self.writer = GroupWriter(self.path, asyncio.get_running_loop(), self.blobs, self.prepare)
        return self.writer

    async def end(self) -> int:
        self.writer.stop()
        async with asyncio.timeout(BOUND):
            return await self.writer.closed

    def prepare(self, stack: ExitStack) -> tuple[sqlite3.Connection, int]:
        stack.callback(self.release, "the lock")
        if self.failure is not None:
            raise self.failure
        end = database.check(self.path) if self.path.exists() else database.create(self.path)
        connection = database.connect_writer(self.path)
        self.blobs.open()
        stack.callback(connection.close)
        stack.callback(self.release, "the readers")
        return connection, end

    def release(self, what: str) -> None:
        self.released.append(what)
        self.threads.add(threading.current_thread().name)

    def put(self, entries: Sequence[Entry] = (), expected: int | None = None, **beside: Any) -> Outcome:
        told: Outcome = asyncio.get_running_loop().create_future()
        self.writer.put(Job(told.set_result, entries, expected, **beside))
        return told

    def snapshot(self, lsn: int, body: bytes = b"state") -> Outcome:
        return self.put(statement="save_snapshot", rows=[(lsn, body)], reaches=lsn)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=0)) as outsider:
            return outsider.execute(sql).fetchall()

    def outsider(self) -> closing[sqlite3.Connection]:
        """Somebody else's connection."""
        return closing(sqlite3.connect(self.path, isolation_level=None))

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Hold the write lock, so that the thread waits as for a slow disk, and what is put behind it does."""
        with self.outsider() as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            self.put(statement="prune_tasks", rows=[("nobody",)])
            yield
            outsider.execute("ROLLBACK")

    @property
    def entries(self) -> list[int]:
        rows = self.query("SELECT first, last FROM log ORDER BY first")
        return [lsn for first, last in rows for lsn in range(first, last + 1)]


@pytest.fixture
def shut(tmp_path: Path) -> Ledger:
    """Give a ledger nobody has opened."""
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
async def ledger(shut: Ledger) -> AsyncIterator[Ledger]:
    shut.start()
    async with asyncio.timeout(BOUND):
        assert await shut.writer.opened == 0
    yield shut
    if not shut.writer.closed.done():
        await shut.end()


@pytest.fixture
async def reported() -> list[dict[str, Any]]:
    """What was reported to the event loop because nobody else could be told."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    return contexts


async def all_of(*outcomes: Outcome) -> list[BaseException | None]:
    async with asyncio.timeout(BOUND):
        return list(await asyncio.gather(*outcomes))


def thread_of(path: Path) -> threading.Thread:
    [thread] = [thread for thread in threading.enumerate() if thread.name == f"ledger {path.name}"]
    return thread


# --- groups


async def test_what_is_told_as_durable_is_committed_and_counted(ledger, make_entries):
    [error] = await all_of(ledger.put(make_entries(1, 3), 0))
    assert error is None
    assert (ledger.entries, ledger.writer.end, ledger.writer.commits) == ([1, 2, 3], 3, 1)


_ARCHIVED = ArchivedTask("t", "a", "k", "s", 1, b"", 1, "skill", None, "c")


async def test_batches_that_wait_for_a_commit_are_committed_together(ledger, make_entries):
    with ledger.stuck():
        outcomes = [ledger.put(make_entries(lsn), lsn - 1) for lsn in range(1, 1001)]
        outcomes += [ledger.snapshot(1000), ledger.put(archived=[_ARCHIVED])]
    assert await all_of(*outcomes) == [None] * 1002
    # One group for what the thread found when it woke, one for all that came while it waited.
    assert ledger.writer.commits <= 2
    assert ledger.entries == list(range(1, 1001))
    assert ledger.query("SELECT lsn FROM snapshot") == [(1000,)]
    assert ledger.query("SELECT task FROM archive") == [("t",)]


@pytest.fixture
def threads(ledger, monkeypatch) -> list[str]:
    """The threads that wrote, one for each group."""
    names: list[str] = []

    def noted(*call: Any) -> Any:
        names.append(threading.current_thread().name)
        return to_rows(*call)

    monkeypatch.setattr(writer, "to_rows", noted)
    return names


async def test_what_is_small_is_written_where_it_is_put_while_the_thread_has_nothing_to_do(
    ledger, threads, make_entries
):
    here, thread = threading.current_thread().name, f"ledger {ledger.path.name}"
    outcome = ledger.put(make_entries(1), 0)
    assert (ledger.entries, outcome.done()) == ([1], True)
    assert threads == [here]
    await all_of(ledger.put(make_entries(2, payload=b"x" * (writer.SMALL_BYTES + 1)), 1))
    await all_of(ledger.put(archived=[_ARCHIVED._replace(body=b"x" * (writer.SMALL_BYTES + 1))]))
    await all_of(ledger.put(archived=[_ARCHIVED._replace(beside=(b"x" * (writer.SMALL_BYTES + 1),))]))
    assert threads == [here, thread, thread, thread]
    snapshot, behind = ledger.snapshot(2), ledger.put(make_entries(3), 2)
    assert ledger.writer.end == 2
    await all_of(snapshot, behind)
    await all_of(ledger.put(make_entries(4), 3))
    assert (ledger.entries, threads[-1]) == ([1, 2, 3, 4], here)


async def test_a_disk_that_is_slow_again_and_again_is_left_to_the_thread_for_a_while(
    ledger, threads, monkeypatch, make_entries
):
    here, thread = threading.current_thread().name, f"ledger {ledger.path.name}"
    monkeypatch.setattr(writer, "GROUPS_BY_THREAD", 3)
    lsns = itertools.count(1)

    async def append(count: int, *, slow: bool) -> list[str]:
        """Have so many groups written, each by itself, and return in which threads."""
        del threads[:]
        monkeypatch.setattr(writer, "SLOW_COMMIT", 0.0 if slow else BOUND)
        for _ in range(count):
            lsn = next(lsns)
            await all_of(ledger.put(make_entries(lsn), lsn - 1))
        return list(threads)

    slow = writer.SLOW_COMMITS
    assert await append(slow - 1, slow=True) == [here] * (slow - 1)
    assert await append(1, slow=False) == [here]
    assert await append(2, slow=True) == [here] * 2
    assert await append(3, slow=True) == [thread] * 3
    assert await append(1, slow=True) == [here]
    assert await append(3, slow=False) == [thread] * 3
    assert await append(slow, slow=False) == [here] * slow
    assert await append(slow, slow=True) == [here] * slow
    assert ledger.entries == list(range(1, next(lsns)))


async def test_a_job_with_nothing_in_it_costs_no_commit(ledger):
    assert await all_of(ledger.put([], 0), ledger.put(statement="prune_tasks", rows=[])) == [None, None]
    assert ledger.writer.commits == 0


async def test_the_end_of_the_log_moves_when_it_is_durable_and_not_before(ledger, make_entries):
    with ledger.stuck():
        outcome = ledger.put(make_entries(1), 0)
        assert (ledger.writer.end, ledger.writer.commits) == (0, 0)
    await all_of(outcome)
    assert ledger.writer.end == 1


async def test_a_log_that_is_there_goes_on_at_its_end(ledger, make_entries):
    await all_of(ledger.put(make_entries(1, 2), 0))
    assert await ledger.end() == 2
    again = Ledger(ledger.path)
    again.start()
    async with asyncio.timeout(BOUND):
        assert await again.writer.opened == again.writer.end == 2
    assert await all_of(again.put(make_entries(3), 2)) == [None]
    assert await again.end() == 3


async def test_a_callback_that_raises_is_reported_and_the_writer_goes_on(ledger, reported, make_entries):
    bug = RuntimeError("a bug")

    def fail(error: BaseException | None) -> None:
        raise bug

    ledger.writer.put(Job(fail, make_entries(1), 0))
    assert await all_of(ledger.put(make_entries(2), 1)) == [None]
    assert [context["exception"] for context in reported] == [bug]


# --- failures


async def test_what_fits_before_a_conflict_is_kept_and_nothing_behind_it(ledger, make_entries):
    with ledger.stuck():  # so that all of them share a group, or two
        good, snapshot = ledger.put(make_entries(1, 2), 0), ledger.snapshot(2)
        bad, behind = ledger.put(make_entries(7), 6), ledger.put(make_entries(3), 2)
    first, second, conflict, same = await all_of(good, snapshot, bad, behind)
    assert (first, second) == (None, None)
    assert isinstance(conflict, StoreConflict)
    assert same is conflict
    assert (ledger.entries, ledger.writer.end) == ([1, 2], 2)
    assert await all_of(ledger.put(make_entries(3), 2), ledger.snapshot(1)) == [conflict, conflict]
    assert (ledger.entries, ledger.query("SELECT lsn FROM snapshot")) == ([1, 2], [(2,)])


async def test_a_snapshot_ahead_of_the_log_stops_it(ledger, make_entries):
    with ledger.stuck():
        outcomes = [ledger.snapshot(1), ledger.put(make_entries(1), 0)]
    early, late = await all_of(*outcomes)
    assert isinstance(early, StoreConflict)
    assert "reaches to entry 1, but the log ends at 0" in str(early)
    assert late is early
    assert ledger.query("SELECT lsn FROM snapshot") == []


async def test_a_full_disk_fails_the_group_and_everything_behind_it(shut, monkeypatch, make_entries):
    limited = database.QUERIES["configure_writer"] + "PRAGMA max_page_count = 20;"
    monkeypatch.setitem(database.QUERIES, "configure_writer", limited)
    shut.start()
    assert await all_of(shut.put(make_entries(1), 0)) == [None]
    [full] = await all_of(shut.put(make_entries(2, 40, payload=b"x" * 20_000), 1))
    assert type(full) is StoreError
    assert str(full).startswith(f"{shut.path}: could not write after entry 1: ") and "full" in str(full)
    assert isinstance(full.__cause__, sqlite3.OperationalError)
    assert await all_of(shut.put(make_entries(2), 1), shut.snapshot(1)) == [full, full]
    assert (shut.entries, shut.writer.commits) == ([1], 1)
    assert await shut.end() == 1


async def test_an_entry_that_cannot_be_stored_fails_its_batch_and_not_the_thread(ledger, make_entries):
    [error] = await all_of(ledger.put([*make_entries(1), *make_entries(2, task="\ud800")], 0))
    assert str(error).startswith(f"{ledger.path}: could not write after entry 0: ")
    assert await all_of(ledger.put(make_entries(1), 0)) == [error]
    assert ledger.entries == []
    with ledger.outsider() as outsider:
        outsider.execute("PRAGMA busy_timeout = 0")
        outsider.execute("BEGIN IMMEDIATE")  # nothing half-written holds the file


async def test_an_entry_somebody_else_wrote_is_a_conflict(ledger, make_entries):
    assert await all_of(ledger.put(make_entries(1), 0)) == [None]
    with ledger.outsider() as outsider:
        outsider.execute("INSERT INTO log VALUES (2, 2, x'90', x'')")
    [error] = await all_of(ledger.put(make_entries(2), 1))
    assert type(error) is StoreConflict
    assert f"{ledger.path}: somebody else wrote after entry 1" in str(error)


# --- beginning and end


async def test_what_could_not_be_opened_says_why_and_is_released(shut):
    shut.failure = StoreError("no such thing")
    shut.start()
    with pytest.raises(StoreError, match="no such thing"):
        async with asyncio.timeout(BOUND):
            await shut.writer.opened
    assert shut.released == ["the lock"]
    assert not shut.writer.closed.done()


async def test_what_was_queued_is_written_before_the_end_and_the_lock_goes_last(ledger, make_entries):
    outcomes = [ledger.put(make_entries(lsn), lsn - 1) for lsn in range(1, 101)]
    assert await ledger.end() == 100
    assert [outcome.result() for outcome in outcomes] == [None] * 100, "each was told before"
    assert ledger.released == ["the readers", "the lock"]
    assert ledger.threads == {f"ledger {ledger.path.name}"}


async def test_a_release_that_fails_is_raised_at_the_end_and_the_others_go_on(shut):
    def prepare(stack: ExitStack) -> tuple[sqlite3.Connection, int]:
        prepared = shut.prepare(stack)
        stack.callback(lambda: 1 / 0)
        return prepared

    writer = GroupWriter(shut.path, asyncio.get_running_loop(), shut.blobs, prepare)
    writer.stop()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(BOUND):
            await writer.closed
    assert writer.opened.result() == 0
    assert shut.released == ["the readers", "the lock"]


async def test_nobody_who_waits_for_the_opening_any_more_is_no_trouble(shut, reported):
    shut.start()
    shut.writer.opened.cancel()
    assert await shut.end() == 0
    assert shut.released == ["the readers", "the lock"]
    assert reported == []


async def test_a_ledger_whose_event_loop_is_gone_is_written_and_released(ledger, make_entries):
    await ledger.end()
    told: list[BaseException | None] = []
    orphan = Ledger(ledger.path)

    async def leave_a_batch_behind() -> None:
        await orphan.start().opened
        orphan.put(statement="prune_tasks", rows=[("nobody",)])  # for the thread, so that what follows waits behind it
        orphan.writer.put(Job(told.append, make_entries(1), 0))

    with ledger.outsider() as outsider:
        outsider.execute("BEGIN IMMEDIATE")  # the writer waits for this one, and outlives the loop
        await asyncio.to_thread(lambda: asyncio.run(leave_a_batch_behind()))
        thread = thread_of(ledger.path)
        assert orphan.released == []
        outsider.execute("ROLLBACK")
    await asyncio.to_thread(thread.join, BOUND)
    assert not thread.is_alive()
    assert told == []
    assert (orphan.entries, orphan.released) == ([1], ["the readers", "the lock"])


async def test_a_program_that_ends_without_closing_is_not_held_up(ledger):
    assert thread_of(ledger.path).daemon


async def test_a_job_that_names_no_end_is_taken_wherever_the_log_is(ledger):
    assert await all_of(ledger.snapshot(0, b"one"), ledger.snapshot(0, b"two")) == [None, None]
    assert ledger.query("SELECT body FROM snapshot") == [(b"two",)]
