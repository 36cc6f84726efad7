"""The folders of runs: where each keeps its files, and how a command finds a run whose earlier command died.

A run is identified by its folder. The key of its task comes from there, so the same folder is the same task: already
done, or still under way. A run that ended without a result begins anew under another key. This module knows neither
coordinators nor repositories.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..credentials import state_dir
from ..statefile import write_whole
from .exits import ExitCode, Failure

__all__ = ["Run", "begin", "runs_dir"]

FILE = "run.json"
LOCK = "run.lock"


@dataclass(slots=True)
class Run:
    """One run, as recorded in its folder."""

    folder: Path
    name: str
    """Drawn when the run begins: the stem of its keys."""
    wanted: dict[str, Any]
    """Everything that was asked for; a different request is another task."""
    number: int = 1
    """Counts the tasks of this folder: a new one if the last ended without a result, or was another request."""
    task: str = ""
    url: str = ""
    db: str = ""
    ended: str = ""
    """How its task ended; empty while it is under way."""
    is_resumed: bool = False
    """Whether it began before this command."""

    @property
    def key(self) -> str:
        """The key of its task."""
        return f"{self.name}/{self.number}"

    def begin_anew(self) -> None:
        """Use another task from now on: the current one will have no result."""
        self.number, self.task, self.ended, self.is_resumed = self.number + 1, "", "", False
        self.save()

    def save(self) -> None:
        """Write the run's state, whole or not at all."""
        told = {name: value for name, value in asdict(self).items() if name not in ("folder", "is_resumed")}
        write_whole(self.folder / FILE, json.dumps(told, indent=2) + "\n")


def runs_dir() -> Path:
    """Return the folder of runs that do not name their own."""
    return state_dir() / "runs"


@contextlib.contextmanager
def begin(out: Path | None, wanted: dict[str, Any], label: str) -> Iterator[Run]:
    """Begin a run, or take up an unfinished one; the run belongs to this command inside the block.

    Args:
        out: its folder. None: that of an unfinished run of the same request, else a new one.
        wanted: the request: a difference in it makes another task.
        label: for the name of a new folder.

    Raises:
        Failure: another command is working there.
    """
    if out is None:
        for folder in _unfinished(wanted):
            with _locked(folder) as is_ours:
                if is_ours:
                    yield _taken_up(folder, wanted)
                    return
        stamp = time.strftime("%Y%m%d-%H%M%S")
        out = runs_dir() / f"{stamp}-{re.sub(r'[^A-Za-z0-9.]+', '-', label)[:40]}-{secrets.token_hex(2)}"
    folder = out.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise Failure(f"{folder} is not a folder", ExitCode.USAGE)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder) as is_ours:
        if not is_ours:
            raise Failure(f"another command is at work in {folder}")
        yield _taken_up(folder, wanted)


def _taken_up(folder: Path, wanted: dict[str, Any]) -> Run:
    known = _read(folder)
    if known is None:
        run = Run(folder, f"run-{secrets.token_hex(8)}", wanted)
    else:
        run = known
        run.is_resumed = run.wanted == wanted and run.ended in ("", "completed")
        if not run.is_resumed:
            run.wanted = wanted
            run.begin_anew()
    run.save()
    return run


def _unfinished(wanted: dict[str, Any]) -> list[Path]:
    """Return the folders of unfinished runs of this request, the newest first."""
    found = []
    for file in sorted(runs_dir().glob(f"*/{FILE}"), reverse=True):
        run = _read(file.parent)
        if run is not None and not run.ended and run.wanted == wanted:
            found.append(file.parent)
    return found


def _read(folder: Path) -> Run | None:
    try:
        return Run(folder, **json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)
