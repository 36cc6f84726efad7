"""The lock that lets only one process at a time open a ledger.

It is a kernel lock on a side file, so it is gone the moment its process is, kill -9 included; a file that merely names
its holder would outlive it. The side file is never deleted: otherwise one process could lock the deleted file while
another locks its successor. This module does not know what a ledger is. `sqlite` uses it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import StoreLocked

__all__ = ["LedgerLock", "check_free"]


class LedgerLock:
    """Hold the lock of the ledger at `path` from construction to `release`.

    The lock belongs to the open file, not to the process: a second open in one process is refused as well. A child
    forked without exec shares it until it closes the file or ends.

    Raises:
        StoreLocked: another holder has it; the message names its process if that is known.
        OSError: the side file cannot be opened or locked.
    """

    def __init__(self, path: Path) -> None:
        # O_NOFOLLOW: the holder's number is written into this file, and a link could make that any file.
        self._fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as exc:
            held = _held(path, self._fd)
            os.close(self._fd)
            raise held from exc
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Release the lock. Call it once."""
        # No number is better than one that later belongs to another process.
        try:
            os.ftruncate(self._fd, 0)
        finally:
            os.close(self._fd)


def check_free(path: Path) -> None:
    """Check that nobody has the ledger at `path` open. Makes and writes nothing, and does not block others who check.

    Raises:
        StoreLocked: somebody has it open; the message names the process if that is known.
        OSError: the side file cannot be opened or locked.
    """
    try:
        fd = os.open(f"{path}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return  # nobody has ever opened it at this path
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise _held(path, fd) from exc
    finally:
        os.close(fd)


def _held(path: Path, fd: int) -> StoreLocked:
    return StoreLocked(f"{path}: {_holder(fd)} has this ledger open; close it first or name another file")


def _holder(fd: int) -> str:
    # Only for a message: the holder may not have written its number yet.
    written = os.pread(fd, 32, 0).strip()
    if not written.isdigit():
        return "another process"
    if int(written) == os.getpid():
        return f"this process (pid {int(written)})"
    return f"another process (pid {int(written)})"
