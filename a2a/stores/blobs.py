"""Write-once blobs as files named by their SHA-256, in a directory beside the ledger.

Large byte strings are kept here because a database would write them twice, into its log and into its pages, and because
bytes that several entries share are kept only once. This module does not know what refers to a blob, and never deletes
one: a group of entries that failed may leave one behind. Its methods block. `put` is for one thread, `get` for any.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from ..errors import StoreCorrupt, StoreError
from .files import forget, make_private_directory, sync, sync_directory

__all__ = ["BlobDirectory"]

_DIGEST_BYTES = 32
"""Length of the SHA-256 that names a blob."""

_RECENT_BYTES = 256 * 1024 * 1024
"""Bytes of pieces that were put once and are expected again: a payload goes into the log first and into the archive
later, with its task, which keeps the same bytes in memory until then. With a third of this `big` was a tenth slower."""


class BlobDirectory:
    """The blobs under `path`, as `path/ab/abcd...`. Only the holder of the ledger's lock may add one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path / "tmp"
        self._known_directories: set[Path] = set()
        """Directories whose own name is known to be durable."""
        self._recent: dict[int, tuple[bytes, bytes]] = {}
        """Pieces put once with their digests, by object identity, oldest first: hashing a mebibyte takes 0.6 ms."""
        self._recent_bytes = 0

    @classmethod
    def beside(cls, ledger: Path) -> Self:
        """Return the directory that belongs to the ledger at this path."""
        return cls(Path(f"{ledger}.blobs"))

    def open(self) -> None:
        """Make the directory, and remove what a killed writer left unfinished."""
        make_private_directory(self._path)
        make_private_directory(self._unfinished)
        for leftover in self._unfinished.iterdir():
            leftover.unlink()

    def put(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Keep byte strings and return their digests; on return all are durable. Existing blobs are left alone.

        Raises:
            OSError: one could not be written; nothing unfinished is left behind.
        """
        digests = [self._digest_of(piece) for piece in pieces]
        self._keep(digests, pieces)
        return digests

    def copy(self, source: BlobDirectory, digests: Sequence[bytes]) -> int:
        """Keep blobs of another directory, durable as with `put`, and return their size in bytes.

        Raises:
            StoreCorrupt: one is missing there, or does not match its name.
            StoreError: one cannot be read.
            OSError: one could not be written; nothing unfinished is left behind.
        """
        pieces = [source.get(digest) for digest in digests]
        self._keep(digests, pieces)
        return sum(map(len, pieces))

    def digests_in(self, column: object) -> list[bytes]:
        """Return the digests in a column of a row, where they are concatenated.

        Raises:
            StoreCorrupt: the column has something else.
        """
        if type(column) is not bytes or len(column) % _DIGEST_BYTES:  # a row that was changed on the disk
            raise StoreCorrupt(
                f"{self._path}: expected digests of large payloads in a row of its ledger, got {column!r}"
            )
        return [column[start : start + _DIGEST_BYTES] for start in range(0, len(column), _DIGEST_BYTES)]

    def find(self, piece: bytes) -> bytes | None:
        """Return the digest of a byte string that is kept here, or None."""
        digest = hashlib.sha256(piece).digest()
        return digest if self._path_of(digest).exists() else None

    def get(self, digest: bytes) -> bytes:
        """Return a blob.

        Raises:
            StoreCorrupt: it is missing, or does not match its name.
            StoreError: it cannot be read.
        """
        path = self._path_of(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise StoreCorrupt(f"{path}: a large payload of this ledger is missing") from None
        except OSError as exc:
            raise StoreError(f"{path}: a large payload of this ledger cannot be read: {exc}") from exc
        if hashlib.sha256(data).digest() != digest:
            raise StoreCorrupt(f"{path}: a large payload of this ledger is damaged: its name is not its hash")
        return data

    def check(self, digests: Iterable[bytes]) -> None:
        """Check that all blobs exist. Their content is checked when they are read.

        Raises:
            StoreCorrupt: one is missing.
        """
        for digest in digests:
            path = self._path_of(digest)
            if not path.is_file():
                raise StoreCorrupt(
                    f"{path}: a large payload of this ledger is missing; the directory belongs to the ledger"
                )

    def _keep(self, digests: Sequence[bytes], pieces: Sequence[bytes]) -> None:
        missing: dict[Path, bytes] = {}
        folders: dict[Path, None] = {}
        for digest, piece in zip(digests, pieces, strict=True):
            path = self._path_of(digest)
            # Also for one that exists: its writer may not have reached the sync of the directory after the rename.
            folders[path.parent] = None
            if not path.exists():
                missing[path] = piece
        for folder in folders:
            if folder not in self._known_directories:
                make_private_directory(folder)
                self._known_directories.add(folder)
        self._write(missing)
        for folder in folders:
            sync_directory(folder)

    def _digest_of(self, piece: bytes) -> bytes:
        _, known = self._recent.pop(id(piece), (b"", b""))
        if known:
            self._recent_bytes -= len(piece)
            return known
        digest = hashlib.sha256(piece).digest()
        self._recent[id(piece)] = piece, digest
        self._recent_bytes += len(piece)
        while self._recent_bytes > _RECENT_BYTES:
            oldest, _ = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= len(oldest)
        return digest

    def _path_of(self, digest: bytes) -> Path:
        if type(digest) is not bytes or len(digest) != _DIGEST_BYTES:  # a row that was changed on the disk
            raise StoreCorrupt(f"{self._path}: expected the SHA-256 of a large payload in a row, got {digest!r}")
        name = digest.hex()
        return self._path / name[:2] / name

    def _write(self, missing: dict[Path, bytes]) -> None:
        """Write all files, then sync all, and only then rename them."""
        unfinished: dict[Path, int] = {}
        try:
            for number, piece in enumerate(missing.values()):
                name = self._unfinished / str(number)  # only the owner writes here, and `open` has cleared it
                unfinished[name] = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                _write_all(unfinished[name], piece)
            for fd in unfinished.values():
                sync(fd)
                forget(fd)
            for name, path in zip(list(unfinished), missing, strict=True):
                name.rename(path)
                os.close(unfinished.pop(name))
        finally:
            for name, fd in unfinished.items():
                os.close(fd)
                name.unlink()


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
