"""Blobs as files: durable before they have their name, whole or not there, and never outside their directory."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from a2a.errors import StoreCorrupt
from a2a.stores import blobs as blobs_module
from a2a.stores import files
from a2a.stores.blobs import BlobDirectory

DATA = b"data"
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "ledgers").mkdir()
    return tmp_path / "ledgers" / "ledger.db.blobs"


@pytest.fixture
def blobs(path: Path) -> BlobDirectory:
    return reopened(path)


def reopened(path: Path) -> BlobDirectory:
    blobs = BlobDirectory(path)
    blobs.open()
    return blobs


def files_in(directory: Path) -> list[Path]:
    return [file for file in directory.rglob("*") if file.is_file()]


def full(*call: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_blob_is_a_file_under_the_start_of_its_digest(blobs, path):
    blobs.put(NAME, DATA)
    assert files_in(path) == [path / NAME[:2] / NAME]
    assert (path / NAME[:2] / NAME).read_bytes() == DATA
    assert reopened(path).get(NAME) == DATA


def test_blobs_and_their_directories_are_for_their_owner_only(blobs, path):
    blobs.put(NAME, DATA)
    for file in [path, *path.rglob("*")]:
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


def test_directories_are_durable_before_a_blob_is(path, monkeypatch):
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_directory", lambda directory: synced.append(directory.name))
    blobs = reopened(path)
    assert synced == [path.parent.name, path.name]
    blobs.put(NAME, DATA)
    blobs.put(NAME, DATA)
    assert synced[2:] == [path.name], "once for each directory"
    synced.clear()
    reopened(path).put(NAME, DATA)
    assert synced == [path.parent.name, path.name, path.name], "whoever made it may not have come to it"


def test_a_blob_is_synced_before_it_has_its_name_and_its_directory_after(blobs, path, monkeypatch):
    blob = path / NAME[:2] / NAME
    events: list[tuple[str, str, bool]] = []

    def note(call: str, real: Callable) -> Callable:
        def noted(target: int | Path) -> None:
            events.append((call, target.name if isinstance(target, Path) else "", blob.exists()))
            real(target)

        return noted

    monkeypatch.setattr(blobs_module, "sync", note("file", blobs_module.sync))
    monkeypatch.setattr(blobs_module, "sync_directory", note("directory", blobs_module.sync_directory))
    blobs.put(NAME, DATA)
    assert events == [("file", "", False), ("directory", NAME[:2], True)]
    events.clear()
    blobs.put(NAME, DATA)
    assert events == [("directory", NAME[:2], True)], "the first may have been killed before that"


def test_a_blob_is_complete_before_it_is_synced(blobs, path, monkeypatch):
    unfinished: list[bytes] = []
    monkeypatch.setattr(
        blobs_module, "sync", lambda fd: unfinished.extend(file.read_bytes() for file in files_in(path / "tmp"))
    )
    blobs.put(NAME, DATA)
    assert unfinished == [DATA]


@pytest.mark.parametrize("step", ["sync", "rename"])
def test_a_blob_the_disk_has_no_room_for_leaves_nothing(blobs, path, monkeypatch, step):
    with monkeypatch.context() as patch:
        patch.setattr(blobs_module if step == "sync" else Path, step, full)
        with pytest.raises(OSError, match="No space left"):
            blobs.put(NAME, DATA)
    assert files_in(path) == []
    assert blobs.get(NAME) is None
    blobs.put(NAME, DATA)
    assert blobs.get(NAME) == DATA


def test_a_blob_whose_name_did_not_become_durable_is_not_taken_for_kept(blobs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(blobs_module, "sync_directory", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                blobs.put(NAME, DATA)
    blobs.put(NAME, DATA)


def test_a_directory_whose_name_did_not_become_durable_is_tried_again(blobs, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_directory", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                blobs.put(NAME, DATA)
    assert files_in(path) == []


def test_what_is_announced_under_another_digest_is_refused_before_anything_is_made(blobs, path):
    for name in (hashlib.sha256(b"other").hexdigest(), NAME.upper(), "../" + NAME):
        with pytest.raises(ValueError, match=f"announced as '{name}', its SHA-256 is '{NAME}'"):
            blobs.put(name, DATA)
    assert [entry.name for entry in path.iterdir()] == ["tmp"]


def test_a_blob_a_killed_writer_left_unfinished_is_removed_and_the_others_stay(blobs, path):
    blobs.put(NAME, DATA)
    (path / "tmp" / "half").write_bytes(b"ha")
    assert reopened(path).get(NAME) == DATA
    assert files_in(path / "tmp") == []


@pytest.mark.parametrize("damaged", [b"date", b"", DATA + b"\x00"])
def test_a_damaged_blob_is_never_handed_out(blobs, path, damaged):
    blobs.put(NAME, DATA)
    (path / NAME[:2] / NAME).write_bytes(damaged)
    with pytest.raises(StoreCorrupt, match=f"{NAME}: the blob is damaged"):
        blobs.get(NAME)


def test_a_name_that_is_no_digest_leads_nowhere(blobs, path):
    (path.parent.parent / "secret").write_text("a file of somebody else")
    assert (path / ".." / "../secret").is_file()
    for name in ("../secret", "", "tmp", str(path.parent.parent / "secret"), NAME[:2]):
        assert blobs.get(name) is None


def test_one_blob_put_from_many_threads_at_once_is_kept_once(blobs, path):
    data = [b"same"] * 20 + [b"other %d" % number for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda each: blobs.put(hashlib.sha256(each).hexdigest(), each), data))
    assert len(files_in(path)) == 21
    assert {blobs.get(hashlib.sha256(each).hexdigest()) for each in data} == set(data)
