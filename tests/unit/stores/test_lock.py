"""The lock of a ledger: one holder, told apart by name, and a file that stays."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a.errors import StoreLocked
from a2a.stores import lock as lock_module
from a2a.stores.lock import LedgerLock, check_free


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def side_file(path: Path) -> Path:
    return Path(f"{path}.lock")


@pytest.fixture
def held(path: Path) -> Iterator[LedgerLock]:
    lock = LedgerLock(path)
    yield lock
    lock.release()


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_the_lock_file_is_never_deleted_and_names_nobody_after_the_end(path, side_file):
    lock = LedgerLock(path)
    inode = side_file.stat().st_ino
    assert side_file.read_text() == f"{os.getpid()}\n"
    lock.release()
    assert side_file.stat().st_ino == inode
    assert side_file.read_text() == ""
    LedgerLock(path).release()
    assert side_file.stat().st_ino == inode


def test_a_second_holder_in_one_process_is_refused_until_the_first_lets_go(path):
    first = LedgerLock(path)
    with pytest.raises(StoreLocked, match=rf"{path}: this process \(pid {os.getpid()}\) has this ledger open"):
        LedgerLock(path)
    first.release()
    LedgerLock(path).release()


def test_a_refusal_leaves_the_name_of_the_holder_and_no_file_open(held, path, side_file):
    before = open_files()
    with pytest.raises(StoreLocked):
        LedgerLock(path)
    assert open_files() == before
    assert side_file.read_text() == f"{os.getpid()}\n"


def test_the_process_that_holds_it_is_named(held, path, side_file):
    side_file.write_text("4194305\n")  # above what a process may be called
    with pytest.raises(StoreLocked, match=r"another process \(pid 4194305\) has this ledger open; close it first"):
        LedgerLock(path)


@pytest.mark.parametrize("written", ["", "\n", "half a num", "-5"])
def test_a_holder_that_did_not_write_its_number_is_not_guessed(held, path, side_file, written):
    side_file.write_text(written)
    with pytest.raises(StoreLocked, match="another process has this ledger open"):
        LedgerLock(path)


def test_the_number_of_a_holder_that_was_killed_is_written_over(path, side_file):
    side_file.write_text("1234567890123\n")
    lock = LedgerLock(path)
    assert side_file.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_lock_file_that_is_a_link_is_not_written_through(path, side_file, tmp_path):
    other = tmp_path / "precious"
    other.write_text("mine")
    side_file.symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        LedgerLock(path)
    assert other.read_text() == "mine"


def test_the_lock_file_is_for_its_owner_only(held, side_file):
    assert stat.S_IMODE(side_file.stat().st_mode) == 0o600


def test_two_ledgers_have_two_locks(held, path):
    LedgerLock(path.with_name("other.db")).release()


def test_the_ledger_itself_is_not_touched(held, path):
    assert not path.exists()


def test_a_lock_that_could_not_name_its_holder_is_let_go(path, monkeypatch):
    def full(*call: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(lock_module.os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            LedgerLock(path)
    assert open_files() == before
    LedgerLock(path).release()


def test_a_lock_whose_file_cannot_be_emptied_is_released_all_the_same(path, monkeypatch):
    def fail(*call: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    lock = LedgerLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(lock_module.os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            lock.release()
    LedgerLock(path).release()


def test_a_look_finds_the_holder_and_leaves_everything_as_it_is(path, side_file):
    check_free(path)
    assert not side_file.exists(), "nobody ever had it"
    side_file.write_text("4711\n")  # of a holder that was killed
    before = open_files()
    check_free(path)
    assert (side_file.read_text(), open_files()) == ("4711\n", before)
    lock = LedgerLock(path)
    with pytest.raises(StoreLocked, match=rf"{path}: this process \(pid {os.getpid()}\) has this ledger open"):
        check_free(path)
    lock.release()
    check_free(path)


def test_a_look_is_in_the_way_of_no_other_and_needs_no_leave_to_write(path, side_file):
    LedgerLock(path).release()
    with side_file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        check_free(path)
