"""Blobs as files: durable before they have their name, whole or not there, and never outside their directory."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from a2a.errors import StoreCorrupt, StoreError
from a2a.stores import blobs as blobs_module
from a2a.stores import files
from a2a.stores.blobs import BlobDirectory

DATA = b"data"
DIGEST = hashlib.sha256(DATA).digest()
NAME = DIGEST.hex()


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
    blobs.put([DATA])
    assert files_in(path) == [path / NAME[:2] / NAME]
    assert (path / NAME[:2] / NAME).read_bytes() == DATA
    assert reopened(path).get(DIGEST) == DATA


def test_blobs_and_their_directories_are_for_their_owner_only(blobs, path):
    blobs.put([DATA])
    for file in [path, *path.rglob("*")]:
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


def test_directories_are_durable_before_a_blob_is(path, monkeypatch):
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_directory", lambda directory: synced.append(directory.name))
    blobs = reopened(path)
    assert synced == [path.parent.name, path.name]
    blobs.put([DATA])
    blobs.put([DATA])
    assert synced[2:] == [path.name], "once for each directory"
    synced.clear()
    reopened(path).put([DATA])
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
    blobs.put([DATA])
    assert events == [("file", "", False), ("directory", NAME[:2], True)]
    events.clear()
    blobs.put([DATA])
    assert events == [("directory", NAME[:2], True)], "the first may have been killed before that"


def test_a_blob_is_complete_before_it_is_synced(blobs, path, monkeypatch):
    unfinished: list[bytes] = []
    monkeypatch.setattr(
        blobs_module, "sync", lambda fd: unfinished.extend(file.read_bytes() for file in files_in(path / "tmp"))
    )
    blobs.put([DATA])
    assert unfinished == [DATA]


def test_blobs_are_copied_as_they_are_put(blobs, path, tmp_path, monkeypatch):
    blobs.put([DATA, b"other"])
    copy = reopened(tmp_path / "copy.blobs")
    assert copy.copy(blobs, [DIGEST]) == len(DATA)
    assert [file.relative_to(copy._path) for file in files_in(copy._path)] == [Path(NAME[:2], NAME)]
    assert copy.get(DIGEST) == DATA
    (path / NAME[:2] / NAME).write_bytes(b"damaged")
    with pytest.raises(StoreCorrupt, match="its name is not its hash"):
        reopened(tmp_path / "another.blobs").copy(blobs, [DIGEST])
    assert files_in(tmp_path / "another.blobs") == []


@pytest.mark.parametrize("step", ["sync", "rename"])
def test_a_blob_the_disk_has_no_room_for_leaves_nothing(blobs, path, monkeypatch, step):
    with monkeypatch.context() as patch:
        patch.setattr(blobs_module if step == "sync" else Path, step, full)
        with pytest.raises(OSError, match="No space left"):
            blobs.put([DATA])
    assert files_in(path) == []
    blobs.put([DATA])
    assert blobs.get(DIGEST) == DATA


def test_a_blob_whose_name_did_not_become_durable_is_not_taken_for_kept(blobs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(blobs_module, "sync_directory", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                blobs.put([DATA])
    blobs.put([DATA])


def test_a_directory_whose_name_did_not_become_durable_is_tried_again(blobs, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_directory", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                blobs.put([DATA])
    assert files_in(path) == []


def test_a_blob_a_killed_writer_left_unfinished_is_removed_and_the_others_stay(blobs, path):
    blobs.put([DATA])
    (path / "tmp" / "half").write_bytes(b"ha")
    assert reopened(path).get(DIGEST) == DATA
    assert files_in(path / "tmp") == []


@pytest.mark.parametrize("damaged", [b"date", b"", DATA + b"\x00"])
def test_a_damaged_blob_is_never_handed_out(blobs, path, damaged):
    blobs.put([DATA])
    (path / NAME[:2] / NAME).write_bytes(damaged)
    with pytest.raises(StoreCorrupt, match=f"{NAME}: a large payload of this ledger is damaged"):
        blobs.get(DIGEST)


def test_a_blob_that_is_missing_is_named(blobs, path):
    with pytest.raises(StoreCorrupt, match=f"{NAME}: a large payload of this ledger is missing"):
        blobs.get(DIGEST)
    blobs.put([DATA])
    blobs.check([DIGEST])
    with pytest.raises(StoreCorrupt, match="is missing; the directory belongs to the ledger"):
        blobs.check([DIGEST, hashlib.sha256(b"other").digest()])


@pytest.mark.parametrize("named", [5, "text", b"", DIGEST[:-1], DIGEST + b"x"])
def test_what_is_no_digest_in_a_row_says_so(blobs, named):
    for look in (blobs.get, lambda digest: blobs.check([digest])):
        with pytest.raises(StoreCorrupt, match="expected the SHA-256 of a large payload in a row"):
            look(named)


def test_a_blob_that_cannot_be_read_is_no_damage(blobs, path, monkeypatch):
    def refuse(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    blobs.put([DATA])
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError, match=f"{NAME}: .* cannot be read: .*Permission denied") as refused:
        blobs.get(DIGEST)
    assert type(refused.value) is StoreError


def test_many_are_synced_together_and_what_is_twice_is_kept_once(blobs, path, monkeypatch):
    events: list[str] = []
    monkeypatch.setattr(blobs_module, "sync", lambda fd: events.append("file"))
    monkeypatch.setattr(blobs_module, "sync_directory", lambda folder: events.append("directory"))
    pieces = [b"one", b"two", b"one", b"", b"two"]
    assert blobs.put(pieces) == [hashlib.sha256(piece).digest() for piece in pieces]
    assert events == ["file"] * 3 + ["directory"] * 3
    assert len(files_in(path)) == 3
    assert [blobs.get(hashlib.sha256(piece).digest()) for piece in pieces] == pieces


def test_a_blob_is_written_whole_however_little_the_system_takes_at_once(blobs, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    [digest] = blobs.put([b"x" * 10])
    assert blobs.get(digest) == b"x" * 10


def test_a_piece_put_again_is_not_hashed_again_and_is_then_let_go(blobs, monkeypatch):
    pieces = [b"a" * 40, b"b" * 40, b"c" * 40]
    monkeypatch.setattr(blobs_module, "_RECENT_BYTES", 90)
    digests = blobs.put(pieces)
    hashed: list[bytes] = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda piece: hashed.append(piece) or sha256(piece))
    assert blobs.put(pieces[2:] + pieces[:1]) == digests[2:] + digests[:1]
    assert hashed == pieces[:1], "there was room for the newest two only"
    assert [kept for kept, _ in blobs._recent.values()] == [pieces[1], pieces[0]]
    equal = bytes(bytearray(pieces[1]))
    assert blobs.put([equal]) == digests[1:2]
    assert hashed == [pieces[0], equal], "what is equal only may be anything tomorrow"
