"""The contract of `a2a.stores.base`, kept by every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from a2a.engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask, ArchiveEntry
from a2a.errors import StoreConflict, StoreError, StoreLocked
from a2a.stores.base import Entry, Snapshot, Store
from a2a.stores.memory import Medium, MemoryStore
from a2a.stores.rows import LARGE_BYTES
from a2a.stores.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Give a function that makes stores, each on the same medium."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "ledger.db")
    medium = Medium()
    return lambda: MemoryStore(medium)


@pytest.fixture
async def store(make_store: Callable[[], Store]) -> AsyncIterator[Store]:
    store = make_store()
    assert await store.open() == 0
    yield store
    await store.aclose()


@pytest.fixture
def archive(store: Store, append: Any, make_entries: Any) -> Callable[..., Any]:
    """Give a function that archives tasks, each time with one more entry of the log."""
    end = 0

    async def archive_with_an_entry(*archived: ArchiveEntry) -> None:
        nonlocal end
        await append(store, make_entries(end + 1), end, archived)
        end += 1

    return archive_with_an_entry


def settled(task: str, at: int, *, key: str = "", state: str = "completed") -> ArchivedTask:
    return ArchivedTask(task, "alice", key or f"key of {task}", state, at, f"body of {task}".encode(), at)


class Told:
    """Done callbacks that note in which order they were called, and with what."""

    def __init__(self) -> None:
        self.names: list[Any] = []
        self.errors: list[BaseException | None] = []
        self._grew = asyncio.Event()

    def callback(self, name: Any) -> Callable[[BaseException | None], None]:
        def done(error: BaseException | None) -> None:
            self.names.append(name)
            self.errors.append(error)
            self._grew.set()

        return done

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.names) < count:
                self._grew.clear()
                await self._grew.wait()


# --- the log


async def test_an_appended_entry_is_read_as_it_was_written(store, append):
    entries = [
        Entry(1, "Delegated", "t1", 1_700_000_000_000, b"\x00body\xff", b"\x00payload\xff"),
        Entry(2, "EpochStarted", None, 2**53, b"", b""),
        Entry(3, "Réporté", "tâche \N{SNOWMAN}", 0, b"x", None),
    ]
    await append(store, entries, 0)
    assert list(store.read()) == entries


async def test_entries_are_read_in_order_from_behind_a_position(store, append, make_entries):
    entries = make_entries(1, 700)
    await append(store, entries, 0)
    assert list(store.read()) == entries
    assert list(store.read(699)) == entries[699:]
    assert list(store.read(after=256)) == entries[256:]
    assert list(store.read(700)) == []
    assert list(store.read(9000)) == []


async def test_a_read_sees_the_log_as_it_was_at_the_call(store, append, make_entries):
    await append(store, make_entries(1), 0)
    reading = store.read()
    await append(store, make_entries(2), 1)
    assert [entry.lsn for entry in reading] == [1]


async def test_a_read_may_run_in_another_thread(store, append, make_entries):
    await append(store, make_entries(1, 300), 0)
    assert len(await asyncio.to_thread(list, store.read())) == 300


async def test_a_read_that_is_given_up_does_no_harm(store, append, make_entries):
    await append(store, make_entries(1, 300), 0)
    assert next(store.read()).lsn == 1
    await append(store, make_entries(301), 300)


async def test_callbacks_run_in_the_order_of_the_calls(store, make_entries):
    told = Told()
    for lsn in range(1, 201):
        store.append(make_entries(lsn), lsn - 1, told.callback(lsn))
    await told.wait_for(200)
    assert told.names == list(range(1, 201))
    assert set(told.errors) == {None}


async def test_a_callback_runs_in_the_event_loop(store, make_entries):
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[object] = loop.create_future()
    store.append(make_entries(1), 0, lambda error: seen.set_result(asyncio.get_running_loop()))
    async with asyncio.timeout(20):
        assert await seen is loop


async def test_what_was_told_as_durable_is_read(store, make_entries):
    seen: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
    store.append(make_entries(1, 2), 0, lambda error: seen.set_result(list(store.read())))
    async with asyncio.timeout(20):
        assert await seen == make_entries(1, 2)


async def test_a_callback_may_append(store, make_entries):
    told = Told()

    def append_another(error: BaseException | None) -> None:
        told.callback("first")(error)
        store.append(make_entries(2), 1, told.callback("second"))

    store.append(make_entries(1), 0, append_another)
    await told.wait_for(2)
    assert told.names == ["first", "second"]
    assert told.errors == [None, None]


async def test_a_callback_that_raises_is_reported_and_the_others_run(store, make_entries):
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    told = Told()
    store.append(make_entries(1), 0, lambda error: 1 / 0)
    store.append(make_entries(2), 1, told.callback("behind"))
    await told.wait_for(1)
    assert told.errors == [None]
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_an_empty_batch_is_told_behind_the_ones_before_it(store, make_entries):
    told = Told()
    store.append(make_entries(1), 0, told.callback("entry"))
    store.append([], 1, told.callback("nothing"))
    await told.wait_for(2)
    assert told.names == ["entry", "nothing"]
    assert told.errors == [None, None]


async def test_a_batch_changed_after_the_call_is_stored_as_it_was(store, append, make_entries):
    batch = make_entries(1, 2)
    told = Told()
    store.append(batch, 0, told.callback("batch"))
    batch.clear()
    await told.wait_for(1)
    assert list(store.read()) == make_entries(1, 2)


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_an_append_that_expects_another_end_is_a_conflict(store, append, make_entries, expected):
    await append(store, make_entries(1, 2), 0)
    with pytest.raises(StoreConflict, match=f"expected the log to end at {expected}, but it ends at 2"):
        await append(store, make_entries(expected + 1), expected)
    assert list(store.read()) == make_entries(1, 2)


async def test_entries_with_a_gap_are_a_conflict_and_none_is_kept(store, append, make_entries):
    with pytest.raises(StoreConflict, match="needs entry 2 next, got entry 3"):
        await append(store, [*make_entries(1), *make_entries(3)], 0)
    assert list(store.read()) == []


async def test_after_a_failure_every_later_batch_fails_with_the_same_error(store, append, make_entries):
    told = Told()
    store.append(make_entries(1), 0, told.callback("good"))
    store.append(make_entries(7), 6, told.callback("bad"))
    store.append(make_entries(2), 1, told.callback("behind"))
    await told.wait_for(3)
    store.append(make_entries(2), 1, told.callback("later"))
    await told.wait_for(4)

    assert told.names == ["good", "bad", "behind", "later"]
    assert told.errors[0] is None
    assert isinstance(told.errors[1], StoreConflict)
    assert told.errors[2] is told.errors[1]
    assert told.errors[3] is told.errors[1]
    assert list(store.read()) == make_entries(1)


async def test_after_a_failure_nothing_beside_the_log_is_written_either(store, append, make_entries):
    with pytest.raises(StoreConflict):
        await append(store, make_entries(7), 6)
    with pytest.raises(StoreConflict):
        await store.save_snapshot(Snapshot(0, b"state"))
    with pytest.raises(StoreConflict):
        await store.prune(1, 1)
    assert await store.load_snapshot() is None
    assert await store.list_archived() == []


# --- the snapshot


async def test_a_snapshot_takes_the_place_of_the_one_before(store, append, make_entries):
    assert await store.load_snapshot() is None
    await append(store, make_entries(1, 2), 0)
    await store.save_snapshot(Snapshot(1, b"one"))
    await store.save_snapshot(Snapshot(2, b"\x00two\xff"))
    assert await store.load_snapshot() == Snapshot(2, b"\x00two\xff")


async def test_a_snapshot_may_reach_to_an_entry_that_is_still_queued(store, make_entries):
    store.append(make_entries(1), 0, lambda error: None)
    await store.save_snapshot(Snapshot(1, b"one"))
    assert await store.load_snapshot() == Snapshot(1, b"one")


async def test_a_snapshot_ahead_of_the_log_is_a_conflict(store, append, make_entries):
    await append(store, make_entries(1), 0)
    with pytest.raises(StoreConflict, match="reaches to entry 2, but the log ends at 1"):
        await store.save_snapshot(Snapshot(2, b"state"))
    assert await store.load_snapshot() is None
    with pytest.raises(StoreConflict):
        await append(store, make_entries(2), 1)


# --- the archive


async def test_an_archived_task_is_found_by_its_id_and_by_its_key(store, archive):
    task = settled("t1", 5, key="k1")
    await archive(task, settled("t2", 6))
    assert await store.find_archived(task="t1") == task
    assert await store.find_archived(key=("alice", "k1")) == task
    assert await store.find_archived(task="t3") is None
    assert await store.find_archived(key=("bob", "k1")) is None
    assert await store.find_archived(key=("alice", "k2")) is None


async def test_a_task_archived_again_is_replaced(store, archive):
    await archive(settled("t1", 5, key="k1"), settled("t2", 6))
    await archive(settled("t1", 5, key="k2", state="failed"))
    assert await store.find_archived(task="t1") == settled("t1", 5, key="k2", state="failed")
    assert await store.find_archived(key=("alice", "k1")) is None
    assert [task.task for task in await store.list_archived()] == ["t2", "t1"]


async def test_a_key_used_again_finds_the_task_created_last(store, archive):
    await archive(settled("t1", 5, key="k"), settled("t3", 9, key="k"), settled("t2", 7, key="k"))
    assert await store.find_archived(key=("alice", "k")) == settled("t3", 9, key="k")


@pytest.mark.parametrize("given", [{}, {"task": "t1", "key": ("alice", "k1")}])
async def test_a_search_needs_either_an_id_or_a_key(store, given):
    with pytest.raises(ValueError, match="either"):
        await store.find_archived(**given)


async def test_archived_tasks_are_durable_with_the_entries_that_say_so(store, make_entries):
    told = Told()
    store.append(make_entries(1), 0, told.callback("whole"), [settled("t1", 5)])
    store.append(make_entries(7), 6, told.callback("refused"), [settled("t2", 6)])
    await told.wait_for(2)
    assert await store.find_archived(task="t1") == settled("t1", 5)
    assert await store.find_archived(task="t2") is None


async def test_the_archive_is_listed_newest_first_page_by_page(store, archive):
    tasks = [settled(f"t{number:02}", number) for number in range(25)]
    await archive(*tasks)
    seen: list[ArchivedTask] = []
    before = None
    while page := await store.list_archived(before=before, limit=7):
        assert len(page) <= 7
        seen += page
        before = page[-1].lsn
    assert seen == tasks[::-1]


@pytest.mark.parametrize(
    "wanted",
    [
        {"state": "failed"},
        {"skill": "plan"},
        {"parent": "t0"},
        {"context_id": "c2"},
        {"skill": "plan", "parent": "t0"},
        {"dead_letter": True},
        {"dead_letter": True, "skill": "work"},
    ],
    ids="-".join,
)
async def test_the_archive_is_listed_by_what_is_wanted(store, archive, wanted):
    tasks = [
        settled(f"t{number}", number, state="failed" if number % 2 else "completed")._replace(
            skill="plan" if number % 3 else "work",
            parent="t0" if number % 5 else None,
            context_id=f"c{number % 4}",
            dead_letter=number % 2 == 0,
        )
        for number in range(60)
    ]
    await archive(*tasks)
    passing = [task for task in tasks[::-1] if all(getattr(task, name) == value for name, value in wanted.items())]
    assert len(passing) > 6
    assert await store.list_archived(**wanted) == passing
    assert await store.list_archived(before=passing[1].lsn, limit=3, **wanted) == passing[2:5]


async def test_the_archive_is_listed_by_when_tasks_ended_page_by_page(store, archive):
    # Those with an even number ended in pairs in the same millisecond; the others before all of them.
    ends = [100 + number // 4 if number % 2 == 0 else number for number in range(24)]
    tasks = [settled(f"t{number:02}", number)._replace(settled_at=end) for number, end in enumerate(ends)]
    await archive(*tasks)
    expected = sorted(tasks, key=lambda task: (task.settled_at, task.lsn), reverse=True)
    seen: list[ArchivedTask] = []
    behind = None
    while (page := await store.list_ended(behind=behind, limit=5))[0]:
        assert len(page[0]) <= 5
        assert page[1] == 24, "how many there are on all pages"
        seen += page[0]
        behind = page[0][-1].settled_at, page[0][-1].lsn
    assert seen == expected


@pytest.mark.parametrize(
    "wanted", [{"state": "failed"}, {"context_id": "c2"}, {"since": 7}, {"state": "failed", "since": 7}], ids="-".join
)
async def test_the_archive_is_listed_by_what_is_wanted_of_those_that_ended(store, archive, wanted):
    tasks = [
        settled(f"t{number}", number, state="failed" if number % 2 else "completed")._replace(
            settled_at=number,
            context_id=f"c{number % 4}",
        )
        for number in range(12)
    ]
    await archive(*tasks)
    passing = [
        task
        for task in tasks[::-1]
        if wanted.get("state") in (None, task.state)
        and wanted.get("context_id") in (None, task.context_id)
        and task.settled_at >= wanted.get("since", 0)
    ]
    assert 2 < len(passing) < 12
    assert await store.list_ended(**wanted) == (passing, len(passing))
    assert await store.list_ended(limit=2, **wanted) == (passing[:2], len(passing))


def over(lsn: int, kind: str = "result", about: str = "task:t1", tasks: tuple[str, ...] = ("t1",)) -> ArchivedConflict:
    return ArchivedConflict(f"main-k{lsn}", lsn, kind, about, tasks, f"body of {lsn}".encode())


async def test_an_archived_conflict_is_found_by_its_id(store, archive):
    large = over(8, tasks=())._replace(beside=(b"x" * LARGE_BYTES, b"y"))
    await archive(over(7, tasks=("t1", "t2")), settled("t1", 1), large)
    assert await store.find_conflict("main-k7") == over(7, tasks=("t1", "t2"))
    assert await store.find_conflict("main-k8") == large
    assert await store.find_conflict("main-k9") is None
    assert await store.find_archived(task="main-k7") is None, "it is no task"
    assert await store.list_archived() == [settled("t1", 1)]


async def test_a_conflict_archived_again_is_replaced(store, archive):
    await archive(over(7))
    await archive(over(7)._replace(body=b"another"))
    assert await store.list_conflicts() == [over(7)._replace(body=b"another")]
    assert len(await store.list_conflicts(task="t1")) == 1


@pytest.mark.parametrize(
    "wanted",
    [{}, {"kind": "context"}, {"object": "task:t3"}, {"task": "t2"}, {"task": "t2", "kind": "result"}],
    ids=lambda wanted: "-".join(wanted) or "all",
)
async def test_archived_conflicts_are_listed_newest_first_by_what_is_wanted(store, archive, wanted):
    conflicts = [
        over(
            number,
            "context" if number % 3 else "result",
            f"task:t{number % 4}",
            tuple(f"t{task}" for task in range(number % 5)),
        )
        for number in range(1, 61)
    ]
    await archive(*conflicts)

    def passes(conflict: ArchivedConflict) -> bool:
        named = {name: value for name, value in wanted.items() if name != "task"}
        is_about = "task" not in wanted or wanted["task"] in conflict.tasks
        return is_about and all(getattr(conflict, name) == value for name, value in named.items())

    passing = list(filter(passes, conflicts[::-1]))
    assert len(passing) > 6
    assert await store.list_conflicts(**wanted) == passing
    assert await store.list_conflicts(before=passing[1].lsn, limit=3, **wanted) == passing[2:5]


async def test_an_archived_context_is_found_by_its_id_as_it_was_last(store, archive):
    large = ArchivedContext("c2", 8, b"body of 8", (b"x" * LARGE_BYTES, b"y"))
    await archive(ArchivedContext("c1", 7, b"body of 7"), over(7), large)
    await archive(ArchivedContext("c1", 9, b"another"), settled("c1", 1))
    assert await store.find_context("c1") == ArchivedContext("c1", 9, b"another")
    assert await store.find_context("c2") == large
    assert await store.find_context("c3") is None
    assert await store.find_archived(task="c2") is None, "it is no task"


async def test_an_empty_archive_lists_nothing(store):
    assert await store.list_archived() == []
    assert await store.list_ended() == ([], 0)
    assert await store.list_conflicts() == await store.list_conflicts(task="t1") == []
    assert await store.prune(2**60, 10) == 0


async def test_what_is_pruned_is_gone_and_was_there(store, archive):
    await archive(*(settled(f"t{number}", number) for number in range(1, 8)))
    assert await store.prune(5, 3) == 3
    assert await store.prune(5, 3) == 1
    assert await store.prune(5, 3) == 0
    assert await store.find_archived(task="t4") == settled("t4", 4)._replace(body=b"")
    assert await store.find_archived(key=("alice", "key of t1")) == settled("t1", 1)._replace(body=b"")
    assert [task.task for task in await store.list_archived()] == ["t7", "t6", "t5"]
    assert [task.task for task in (await store.list_ended())[0]] == ["t7", "t6", "t5"]


async def test_a_task_archived_again_is_not_gone(store, archive):
    await archive(settled("t1", 1))
    await store.prune(5, 3)
    await archive(settled("t1", 1))
    assert await store.list_archived() == [settled("t1", 1)]
    assert await store.prune(5, 3) == 1


# --- what is large

LARGE = b"\x00\xff" * (LARGE_BYTES // 2)


async def test_a_large_payload_comes_back_as_it_was(store, append, make_entries):
    entries = [
        *make_entries(1),
        *make_entries(2, payload=LARGE),
        *make_entries(3, payload=b""),
        *make_entries(4, 2, payload=LARGE + b"x"),
        *make_entries(6, payload=LARGE[:-1]),
    ]
    await append(store, entries, 0)
    assert list(store.read()) == entries
    assert list(store.read(2)) == entries[2:]


async def test_a_task_comes_back_with_what_is_large_in_it(store, append, make_entries):
    task = settled("t1", 1)._replace(beside=(LARGE, b"small", LARGE + b"x"))
    await append(store, make_entries(1, payload=LARGE), 0, [task, settled("t2", 2)])
    for found in (await store.list_archived(), (await store.list_ended())[0]):
        assert found == [settled("t2", 2), task]
    for found in (await store.list_archived(whole=False), (await store.list_ended(whole=False))[0]):
        assert found == [settled("t2", 2), task._replace(beside=(b"", b"", b""))]
    assert await store.find_archived(task="t1") == await store.find_archived(key=(task.scope, task.key)) == task
    await store.prune(2, 3)
    assert await store.find_archived(task="t1") == task._replace(body=b"", beside=())
    assert list(store.read()) == make_entries(1, payload=LARGE), "the log keeps what it has"


# --- open and close


async def test_everything_is_there_after_the_ledger_is_opened_again(make_store, append, make_entries):
    store = make_store()
    assert await store.open() == 0
    await append(store, make_entries(1, 3), 0, [settled("t1", 5)])
    await store.save_snapshot(Snapshot(2, b"state"))
    await store.aclose()

    for again in (store, make_store()):
        assert await again.open() == 3
        assert list(again.read()) == make_entries(1, 3)
        assert await again.load_snapshot() == Snapshot(2, b"state")
        assert await again.find_archived(task="t1") == settled("t1", 5)
        await again.aclose()


async def test_the_log_goes_on_after_a_failure_once_it_is_opened_again(make_store, append, make_entries):
    store = make_store()
    await store.open()
    await append(store, make_entries(1), 0)
    with pytest.raises(StoreConflict):
        await append(store, make_entries(7), 6)
    await store.aclose()
    assert await store.open() == 1
    await append(store, make_entries(2), 1)
    await store.aclose()


async def test_aclose_writes_what_is_queued_and_no_callback_runs_after_it(make_store, make_entries):
    store = make_store()
    await store.open()
    told = Told()
    for lsn in range(1, 101):
        store.append(make_entries(lsn), lsn - 1, told.callback(lsn))
    await store.aclose()
    assert told.names == list(range(1, 101))
    assert set(told.errors) == {None}

    await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
    assert len(told.names) == 100
    assert await store.open() == 100
    await store.aclose()


async def test_aclose_is_safe_twice_at_once_and_without_open(make_store):
    store = make_store()
    await store.aclose()
    await store.open()
    await asyncio.gather(store.aclose(), store.aclose())
    await store.aclose()


async def test_a_ledger_that_is_not_open_says_so(make_store, make_entries):
    store = make_store()
    for _ in range(2):
        for call in (lambda: store.append(make_entries(1), 0, lambda error: None), store.read):
            with pytest.raises(StoreError, match="not open"):
                call()
        for request in (
            store.save_snapshot(Snapshot(0, b"")),
            store.load_snapshot(),
            store.prune(0, 1),
            store.find_archived(task="t1"),
            store.list_archived(),
            store.list_ended(),
            store.find_conflict("k1"),
            store.list_conflicts(),
            store.find_context("c1"),
        ):
            with pytest.raises(StoreError, match="not open"):
                await request
        await store.open()
        await store.aclose()


async def test_a_second_open_is_refused_and_leaves_the_first_alone(store, make_store, append, make_entries):
    for second in (make_store(), store):
        with pytest.raises(StoreLocked, match="this process"):
            await second.open()
    await append(store, make_entries(1), 0)
