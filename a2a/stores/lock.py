"""The lock that lets one process at a time have a ledger open.

A kernel lock on a side file, so that it is gone the moment its process is, kill -9 included; a file that merely says
who is there would outlive its writer. The side file is never deleted: a process could otherwise lock the deleted one
while another locks its successor. It does not know what the ledger is. `sqlite` uses it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import StoreLocked

__all__ = ["LedgerLock"]


class LedgerLock:
    """Hold the lock of the ledger at `path` from construction to `release`.

    The lock belongs to the open file, not to the process: a second open in one process is refused as well. A child
    forked without exec shares it until it closes the file or ends.

    Raises:
        StoreLocked: another holder has it; the message names its process where that is known.
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
            holder = _holder(self._fd)
            os.close(self._fd)
            raise StoreLocked(f"{path}: {holder} has this ledger open; close it first or name another file") from exc
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let the next one in. Call it once."""
        # No number is better than one that has become another process's.
        try:
            os.ftruncate(self._fd, 0)
        finally:
            os.close(self._fd)


def _holder(fd: int) -> str:
    # Only a word in a message: the holder may not have written its number yet.
    written = os.pread(fd, 32, 0).strip()
    if not written.isdigit():
        return "another process"
    if int(written) == os.getpid():
        return f"this process (pid {int(written)})"
    return f"another process (pid {int(written)})"
