"""A supervisor's state for other processes: a JSON file that counts while a kernel lock shows that it lives.

A kernel lock ends with its process, even after `kill -9`; a file that says who is there outlives its writer. This
module does not know the contents of the state. Used by `squads` and the commands about squads; a run's file is written
as these are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["StateFile", "write_whole"]


def write_whole(path: Path, text: str, *, mode: int | None = None) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file.
        text: what it holds from then on.
        mode: its permissions; by default those that this process gives to new files.

    Raises:
        OSError: it cannot be written; the error names the file, which that of a full disk does not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


class StateFile:
    """One supervisor's state for other processes: a JSON file, and a lock that is free once the supervisor is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def acquire(self) -> bool:
        """Become the supervisor of this file; return False if there already is one."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(5):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)  # perhaps somebody only looks (see is_held), which is brief
            else:
                self._lock = lock
                return True
        os.close(lock)
        return False

    def release(self) -> None:
        """Release the lock, and leave no state behind."""
        if self._lock is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def write(self, state: Mapping[str, Any]) -> None:
        """Write the state, whole or not at all; errors are those of `write_whole`."""
        write_whole(self.path, json.dumps(state), mode=0o600)

    def read(self) -> dict[str, Any] | None:
        """Return the state; None if no supervisor lives, whatever the last one left."""
        if not self.is_held():
            return None
        try:
            state: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # the supervisor has only just begun
        return state

    def is_held(self) -> bool:
        """Tell whether a supervisor lives."""
        try:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def wait_released(self) -> None:
        """Block until no supervisor lives."""
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
            finally:
                os.close(lock)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_suffix(".lock")
