"""Files and directories that survive a power failure and are kept to their owner."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from a2a.errors import StoreError
from a2a.stores import files
from a2a.stores.files import make_private_directory, resolved, sync, sync_directory


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes that were synced, in order."""
    inodes: list[int] = []
    monkeypatch.setattr(files, "sync", lambda fd: inodes.append(os.fstat(fd).st_ino))
    return inodes


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(sys.platform == "darwin", reason="fsync stops at the cache of the drive there")
def test_a_sync_is_an_fsync_of_that_file(tmp_path, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(files.os, "fsync", asked.append)
    with (tmp_path / "file").open("wb") as file:
        sync(file.fileno())
        assert asked == [file.fileno()]


@pytest.mark.skipif(sys.platform != "darwin", reason="elsewhere fsync reaches the medium")
def test_a_sync_passes_the_cache_of_the_drive(tmp_path, monkeypatch):
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(files.fcntl, "fcntl", lambda *call: asked.append(call))
    with (tmp_path / "file").open("wb") as file:
        sync(file.fileno())
        assert asked == [(file.fileno(), files.fcntl.F_FULLFSYNC)]


def test_a_sync_that_fails_is_not_kept_quiet(tmp_path):
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            sync(writing)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_directory_is_synced_itself(tmp_path, synced):
    sync_directory(tmp_path)
    assert synced == [tmp_path.stat().st_ino]


def test_what_is_no_directory_is_not_synced_as_one(tmp_path, synced):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")
    assert synced == []


def test_a_directory_is_closed_again_though_its_sync_failed(tmp_path, monkeypatch):
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = open_files()
    sync_directory(tmp_path)
    assert open_files() == before
    monkeypatch.setattr(files, "sync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        sync_directory(tmp_path)
    assert open_files() == before


def test_a_new_directory_is_for_its_owner_only_and_its_name_is_durable(tmp_path, synced):
    make_private_directory(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert synced == [tmp_path.stat().st_ino]


def test_the_name_of_a_directory_that_is_there_is_made_durable_all_the_same(tmp_path, synced):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("kept")
    make_private_directory(tmp_path / "there")
    assert synced == [tmp_path.stat().st_ino]
    assert (tmp_path / "there" / "file").read_text() == "kept"


def test_a_directory_is_not_made_where_a_file_or_nothing_is(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private_directory(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        make_private_directory(tmp_path / "nowhere" / "new")


def test_links_are_followed_to_what_may_not_be_there_yet(tmp_path):
    (tmp_path / "one").symlink_to("two")
    assert resolved(tmp_path / "one") == (tmp_path / "two").resolve()
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(StoreError, match=f"^{tmp_path / 'one'}: Too many levels of symbolic links$"):
        resolved(tmp_path / "one")
