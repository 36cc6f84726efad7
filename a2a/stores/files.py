"""Resolving files, making files and directories survive a power failure, and keeping them private to their owner.

This module does not know what the files hold. The modules that have a ledger's files use it.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from ..errors import StoreError

if sys.platform == "darwin":
    import fcntl

__all__ = ["forget", "make_private_directory", "resolved", "sync", "sync_directory"]


def sync(fd: int) -> None:
    """Return once everything written to `fd` is on stable storage."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there stops at the drive's cache
    else:
        os.fsync(fd)


def forget(fd: int) -> None:
    """Have the system drop from its cache what was written to `fd` and synced, where it can be told so.

    For files that are rarely read. Otherwise their pages fill memory, and each write needs new pages: after a gigabyte
    of other files a mebibyte took 3.5 ms to become durable, and 1.1 ms with this.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_directory(path: Path) -> None:
    """Return once the names in the directory at `path` are on stable storage."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def make_private_directory(path: Path) -> None:
    """Make a directory for its owner only, unless it exists, and make its name durable.

    The parent is synced in both cases: whoever made the directory may have been killed before the sync.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def resolved(path: Path) -> Path:
    """Return the real path of a file that may not exist yet, whatever links lead to it.

    Raises:
        StoreError: the links form a loop, and lead to no file.
    """
    try:
        path.stat()
    except OSError as exc:
        if exc.errno == errno.ELOOP:  # versions of Python report this in different ways, or not at all
            raise StoreError(f"{path}: {exc.strerror}") from exc
    return path.resolve()
