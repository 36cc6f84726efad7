"""What every input is held to: it ends as documented, at once, and in little room. What is not is a finding."""

from __future__ import annotations

import hashlib
import resource
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MEMORY_BYTES", "SECONDS", "Finding", "Target", "keep", "watch"]

Target = Callable[[bytes], Iterable[None] | None]
"""Takes an input; one that makes many turns of it, such as the frames of a session, yields after each."""

SECONDS = 0.1
"""Of this thread's time on a core for one turn: what takes longer holds everybody else up."""
MEMORY_BYTES = 64 * 1024 * 1024
"""By which one input may make the process grow."""
_TRIES = 3
"""A machine that is busy makes one run slow, and not each of several."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that was not taken as it has to be."""

    kind: str
    """What it is known by: the same place is the same finding."""
    says: str


def watch(target: Target, data: bytes, *, seconds: float = SECONDS, memory: int = MEMORY_BYTES) -> Finding | None:
    """Have a target take an input, and return what is wrong about that, or None."""
    room = _peak()
    for _ in range(_TRIES):
        try:
            took = _longest_turn(target, data)
        except Exception as error:  # noqa: BLE001 - an exception that is not documented is what is looked for
            return Finding(_place(error), "".join(traceback.format_exception(error)))
        if took < seconds:
            break
    else:
        return Finding("slow", f"it takes over {seconds * 1000:.0f} ms at a turn, each time")
    grown = _peak() - room
    return Finding("memory", f"the process grew by {grown} bytes") if grown > memory else None


def keep(finding: Finding, data: bytes, folder: Path) -> Path:
    """Write a finding and its input to files, and return that of the input."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.kind}-{hashlib.sha256(data).hexdigest()[:8]}"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(finding.says, encoding="utf-8")
    return path


def _longest_turn(target: Target, data: bytes) -> float:
    """Return the seconds of this thread's time that the longest turn took."""
    longest = 0.0
    started = time.thread_time()
    for _ in target(data) or ():
        longest = max(longest, time.thread_time() - started)
        started = time.thread_time()
    return max(longest, time.thread_time() - started)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "/a2a/" in frame.filename] or frames
    return f"{type(error).__name__}-{Path(inside[-1].filename).stem}-{inside[-1].name}".replace("<", "").replace(
        ">", ""
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
