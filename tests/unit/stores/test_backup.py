"""A backup is the ledger as it was at one position, sound and whole, or there is none."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from a2a.engine import snapshot
from a2a.engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask
from a2a.engine.ledger import Ledger
from a2a.engine.records import ContextWritten
from a2a.errors import StoreCorrupt, StoreError, StoreTooNew
from a2a.stores import backup as backup_module
from a2a.stores.backup import Backup, backup
from a2a.stores.base import Snapshot
from a2a.stores.blobs import BlobDirectory
from a2a.stores.database import LEDGERS, MIGRATIONS
from a2a.stores.reader import LedgerReader
from a2a.stores.rows import LARGE_BYTES
from a2a.stores.sqlite import SqliteStore

TASK = ArchivedTask("main-1", "s", "k", "completed", 5, b"body", 1, "echo", None, "c", beside=(b"t" * LARGE_BYTES,))
CONFLICT = ArchivedConflict("main-k2", 2, "result", "task:main-1", ("main-1",), b"body", (b"k" * LARGE_BYTES,))
CONTEXT = ArchivedContext("plans", 3, b"body", (b"c" * LARGE_BYTES,))
LARGE = b"p" * LARGE_BYTES


@pytest.fixture
async def path(tmp_path: Path, append: Any, make_entries: Any) -> Path:
    """A closed ledger of four entries, of which the last is large, with an archive and a snapshot."""
    path = tmp_path / "ledger.db"
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(1, 3), 0, [TASK, CONFLICT, CONTEXT])
    await append(store, make_entries(4, payload=LARGE), 3)
    await store.save_snapshot(Snapshot(2, b"state"))
    await store.aclose()
    return path


@pytest.fixture
def to(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "copy.db"


async def read(path: Path) -> tuple[Any, ...]:
    """Return all that a ledger has; it passes the checks of a start."""
    store = SqliteStore(path)
    await store.open()
    try:
        archived = await store.list_archived(), await store.list_conflicts(), await store.find_context("plans")
        return list(store.read()), *archived, await store.load_snapshot()
    finally:
        await store.aclose()


async def test_a_backup_has_all_that_the_ledger_has(path, to):
    made = backup(path, to)
    size = to.stat().st_size + 4 * LARGE_BYTES
    assert made == Backup(lsn=4, blobs=4, bytes=size)
    assert sorted(file.name for file in to.parent.iterdir()) == ["copy.db", "copy.db.blobs"]
    assert await read(to) == await read(path)


@pytest.mark.parametrize("damage", [None, b"", b"changed"])
async def test_its_snapshot_can_be_used_as_far_as_that_of_the_ledger_can(path, to, append, make_entries, damage):
    """What a context was when it left memory is named by a snapshot of before and by no row any more."""
    ledger = Ledger("main")
    change = {"key": "a", "rev": 1, "value": CONTEXT.beside[0], "decision": False, "guarded": False}
    ledger.apply(ContextWritten(5, "plans", "w", "", "ann", [change], []))
    store = SqliteStore(path)
    await store.open()
    await store.save_snapshot(Snapshot(4, snapshot.to_bytes(ledger, store.blob_of)))
    await append(store, make_entries(5), 4, [ArchivedContext("plans", 5, b"newer")])
    name = store.blob_of(CONTEXT.beside[0])
    await store.aclose()
    file = next(Path(f"{path}.blobs").glob(f"*/{name.hex()}"))
    if damage is not None:
        file.write_bytes(damage)
    assert backup(path, to).blobs == (4 if damage is None else 3)
    with LedgerReader(to) as copy:
        if damage is None:
            again = snapshot.load(copy.snapshot().body, "main", copy.blob)
            assert snapshot.state_hash(again) == snapshot.state_hash(ledger)
        else:
            with pytest.raises(StoreCorrupt, match="is missing"):
                copy.blob(name)


async def test_it_is_a_ledger_with_a_write_ahead_log_and_the_same_pages(path, to):
    with closing(sqlite3.connect(path)) as connection:  # as an older version made it
        connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
    backup(path, to)
    with closing(sqlite3.connect(to)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA page_size").fetchone() == (4096,)
    assert await read(to) == await read(path)


def test_it_is_for_its_owner_only(path, to):
    backup(path, to)
    for file in (to, Path(f"{to}.blobs"), *Path(f"{to}.blobs").rglob("*")):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


async def test_it_is_the_ledger_at_one_position_whatever_is_written_meanwhile(
    path, to, append, make_entries, monkeypatch
):
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(5), 4)  # in the write-ahead log alone
    loop, steps = asyncio.get_running_loop(), 0

    def write_meanwhile(*_: int) -> None:
        nonlocal steps
        steps += 1
        assert steps < 99, "it began again"
        written = append(store, make_entries(5 + steps, payload=LARGE), 4 + steps)
        asyncio.run_coroutine_threadsafe(written, loop).result(20)

    monkeypatch.setattr(backup_module, "_STEP_PAGES", 1)
    monkeypatch.setattr(backup_module, "sync", write_meanwhile)
    made = await asyncio.to_thread(backup, path, to)
    await store.aclose()
    assert made.lsn == 5
    with closing(sqlite3.connect(to)) as connection:
        assert connection.execute("PRAGMA page_count").fetchone() == (steps - 1,), "it never began again"
    entries, *_ = await read(to)
    assert entries == make_entries(1, 3) + make_entries(4, payload=LARGE) + make_entries(5)


async def test_what_a_killed_coordinator_left_in_its_log_is_in_it(path, to, append, make_entries, tmp_path):
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(5), 4)
    killed = tmp_path / "killed.db"
    for suffix in ("", "-wal"):
        Path(f"{killed}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    Path(f"{killed}.blobs").symlink_to(f"{path}.blobs")
    await store.aclose()
    assert backup(killed, to).lsn == 5


async def test_a_backup_is_not_played_the_log_of_the_ledger_that_it_takes_the_place_of(
    path, to, append, make_entries, tmp_path
):
    backup(path, to)
    was = await read(to)
    again = to.with_name("again.db")
    backup(path, again)
    store = SqliteStore(path)
    await store.open()
    await append(store, make_entries(5), 4)
    log = Path(f"{path}-wal").read_bytes()  # as it lies there when its coordinator is killed
    await store.aclose()
    wal = Path(f"{again}-wal")
    wal.write_bytes(log)
    before = again.read_bytes()
    with pytest.raises(StoreCorrupt, match=f"{again}: this is a backup, and {wal.name} beside it is of the ledger"):
        await SqliteStore(again).open()
    with pytest.raises(StoreCorrupt, match="would undo it"):
        backup(again, tmp_path / "third.db")
    with pytest.raises(StoreCorrupt, match="would undo it"):
        LedgerReader(again)
    assert (again.read_bytes(), wal.read_bytes()) == (before, log)
    wal.unlink()
    Path(f"{again}-shm").unlink(missing_ok=True)
    assert await read(again) == was


async def test_a_backup_that_was_opened_has_a_log_of_its_own(path, to, append, make_entries, tmp_path):
    backup(path, to)
    store = SqliteStore(to)
    await store.open()
    await append(store, make_entries(5), 4)
    killed = tmp_path / "killed.db"
    for suffix in ("", "-wal"):
        Path(f"{killed}{suffix}").write_bytes(Path(f"{to}{suffix}").read_bytes())
    await store.aclose()
    Path(f"{to}.blobs").rename(f"{killed}.blobs")
    entries, *_ = await read(killed)
    assert entries[-1:] == make_entries(5)


async def test_a_backup_of_a_backup_is_one(path, to):
    backup(path, to)
    with LedgerReader(to) as reader:
        assert reader.end == 4
    assert backup(to, to.with_name("third.db")).lsn == 4
    assert await read(to.with_name("third.db")) == await read(path)


async def test_a_link_to_a_ledger_is_that_ledger(path, to, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(path)
    assert backup(link, to).blobs == 4
    assert await read(to) == await read(path)


async def test_a_ledger_on_a_medium_that_cannot_be_written_is_left_alone(path, to, monkeypatch):
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    files = sorted(path.parent.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda place, mode: place != path.parent)
        backup(path, to)
    assert sorted(path.parent.iterdir()) == files
    assert await read(to) == await read(path)


def of_version(path: Path, version: int) -> Path:
    """Make an empty ledger as an older version left it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("as_group", 5, lambda *_: b"")
        connection.create_function("hash_of_key", 2, lambda *_: 0)
        for script in MIGRATIONS[:version]:
            connection.executescript(script)
        connection.execute(f"PRAGMA application_id = {LEDGERS[0]}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("PRAGMA journal_mode = WAL")
    return path


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_ledger_of_an_older_version_is_copied_as_it_is(tmp_path, to, version):
    assert backup(of_version(tmp_path / "old.db", version), to).lsn == 0
    with closing(sqlite3.connect(to)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    entries, *_ = await read(to)
    assert entries == []


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


def set_application(path: Path, application: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {application}")


def lose_an_entry(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM log WHERE first = 1")
        connection.commit()


def lose_a_blob(path: Path) -> None:
    next(file for file in Path(f"{path}.blobs").rglob("*") if file.is_file()).unlink()


def damage_a_blob(path: Path) -> None:
    next(file for file in Path(f"{path}.blobs").rglob("*") if file.is_file()).write_bytes(b"other")


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (lambda path: set_version(path, 99), StoreTooNew, "with schema 99.*run that one again"),
        (lambda path: set_application(path, 7), StoreError, "expected a ledger, this is not one"),
        (lambda path: path.write_text("no ledger, but quite a long text" * 99), StoreError, "this is not one"),
        (lambda path: path.unlink(), StoreError, "there is no ledger"),
        (lose_an_entry, StoreCorrupt, "its copy is not sound, and was removed: the log ends at entry 4"),
        (lose_a_blob, StoreCorrupt, "a large payload of this ledger is missing"),
        (damage_a_blob, StoreCorrupt, "its name is not its hash"),
    ],
)
def test_what_cannot_be_copied_is_named_and_leaves_nothing(path, to, change, kind, reason):
    change(path)
    with pytest.raises(kind, match=reason) as raised:
        backup(path, to)
    assert str(path) in str(raised.value)
    assert list(to.parent.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", "-wal", ".blobs", ".lock"])
def test_what_is_there_already_stays(path, to, suffix):
    there = Path(f"{to}{suffix}")
    there.symlink_to("nowhere")
    with pytest.raises(StoreError, match=f"{there} already exists"):
        backup(path, to)
    assert list(to.parent.iterdir()) == [there]


@pytest.mark.parametrize("suffix", [".new", ".new.blobs"])
def test_a_backup_under_way_is_not_disturbed(path, to, suffix):
    new = Path(f"{to}{suffix}")
    new.write_bytes(b"half of it")
    with pytest.raises(StoreError, match="a backup is under way, or was killed"):
        backup(path, to)
    assert list(to.parent.iterdir()) == [new]
    assert new.read_bytes() == b"half of it"


def test_who_comes_meanwhile_keeps_the_place(path, to, monkeypatch):
    monkeypatch.setattr(backup_module, "sync", lambda *_: to.write_text("of somebody else"))
    with pytest.raises(StoreError, match=f"{to} already exists"):
        backup(path, to)
    assert list(to.parent.iterdir()) == [to]
    assert to.read_text() == "of somebody else"


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["sync", "sync_directory", "rename", "blob"])
def test_a_disk_that_is_full_is_told_and_has_nothing_of_it(path, to, monkeypatch, step):
    with monkeypatch.context() as patch:
        if step == "rename":
            rename = Path.rename
            patch.setattr(Path, "rename", lambda file, name: fail() if file.suffix == ".new" else rename(file, name))
        elif step == "blob":
            patch.setattr(BlobDirectory, "copy", fail)
        else:
            patch.setattr(backup_module, step, fail)
        with pytest.raises(StoreError, match=f"{path}: cannot be copied to {to}: No space left on device"):
            backup(path, to)
    assert list(to.parent.iterdir()) == []


def test_a_directory_that_is_not_there_is_told(path, tmp_path):
    with pytest.raises(StoreError, match=r"the backup cannot be made: No such file or directory"):
        backup(path, tmp_path / "none" / "copy.db")


def test_an_interrupt_in_the_middle_leaves_nothing(path, to, monkeypatch):
    steps = 0

    def interrupt(*_: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(backup_module, "_STEP_PAGES", 1)
    monkeypatch.setattr(backup_module, "sync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        backup(path, to)
    assert list(to.parent.iterdir()) == []


def test_it_has_its_name_when_all_of_it_is_durable(path, to, monkeypatch):
    events: list[tuple[str, bool]] = []

    def note(call: str) -> Any:
        real = getattr(backup_module, call)

        def noted(target: Any) -> Any:
            events.append((call, to.exists()))
            return real(target)

        return noted

    for call in ("sync", "check", "sync_directory"):
        monkeypatch.setattr(backup_module, call, note(call))
    backup(path, to)
    assert events == [("sync", False), ("sync", False), ("check", False), ("sync_directory", True)]
