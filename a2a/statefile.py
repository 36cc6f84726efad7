"""A supervisor's state for other processes: a JSON file that counts while a kernel lock shows that it lives.

A kernel lock ends with its process, even after `kill -9`; a file that says who is there outlives its writer. This
module does not know the contents of the state. Used by `squads` and the commands about squads.
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

__all__ = ["StateFile"]


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
        """Write the state, whole or not at all."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(self.path)

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
