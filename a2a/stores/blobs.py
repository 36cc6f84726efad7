"""Write-once blobs as files named by their SHA-256, in a directory beside the ledger.

Large payloads live here because a database writes them twice, into its log and into its pages. It does not know what
refers to a blob, and never deletes one. Its methods block and may be called from several threads at once; `sqlite`
calls them from its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from ..errors import StoreCorrupt
from .files import make_private_directory, sync, sync_directory

__all__ = ["BlobDirectory"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobDirectory:
    """The blobs under `path`, as `path/ab/abcd...`. Only the holder of the ledger's lock may have one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path / "tmp"
        self._known_directories: set[Path] = set()
        """Those whose own name is known to be durable."""

    def open(self) -> None:
        """Make the directory, and remove what a writer that was killed left unfinished."""
        make_private_directory(self._path)
        make_private_directory(self._unfinished)
        for leftover in self._unfinished.iterdir():
            leftover.unlink()

    def put(self, sha256: str, data: bytes) -> None:
        """Keep `data`; return when it is durable.

        Raises:
            ValueError: the digest is not that of the data.
            OSError: it could not be written; nothing is left behind.
        """
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise ValueError(f"the blob was announced as {sha256!r}, its SHA-256 is {actual!r}")
        path = self._path_of(sha256)
        if path.parent not in self._known_directories:
            make_private_directory(path.parent)
            self._known_directories.add(path.parent)
        if not path.exists():
            self._write(path, data)
        # For a blob that was there too: whoever renamed it may not have come to this line.
        sync_directory(path.parent)

    def get(self, sha256: str) -> bytes | None:
        """Return the blob, or None.

        Raises:
            StoreCorrupt: the file is there and is not what its name says.
        """
        if not _DIGEST.fullmatch(sha256):
            return None  # no blob has such a name, and a path made of it could lead out of the directory
        path = self._path_of(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise StoreCorrupt(f"{path}: the blob is damaged, its SHA-256 is {actual}")
        return data

    def _path_of(self, sha256: str) -> Path:
        return self._path / sha256[:2] / sha256

    def _write(self, path: Path, data: bytes) -> None:
        fd, name = tempfile.mkstemp(dir=self._unfinished)  # mode 0600
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                sync(file.fileno())
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
