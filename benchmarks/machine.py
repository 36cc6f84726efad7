"""Facts about the machine and its processes, from `/proc`. Starts nothing; used by runner and clients."""

from __future__ import annotations

import importlib.util
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = [
    "FileSystem",
    "cpu_seconds",
    "disk_directory",
    "event_loop_of",
    "facts",
    "filesystem_of",
    "installed_event_loop",
    "memory_mb",
    "sync_seconds",
]

MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
"""On these, fsync costs nothing, so a durable figure would be too good."""
DISTRIBUTIONS = ("a2a-coordinator", "anyio", "msgpack", "pydantic", "uvloop", "websockets")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
FSYNC_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class FileSystem:
    """The line of `/proc/mounts` a path belongs to."""

    type: str
    device: str
    mount: str


def filesystem_of(path: Path, mounts: str | None = None) -> FileSystem:
    """Return the file system of `path`.

    Args:
        path: an existing file or directory.
        mounts: the text to search, for tests; otherwise `/proc/mounts`.
    """
    found = None
    for line in (Path("/proc/mounts").read_text() if mounts is None else mounts).splitlines():
        device, mount, kind = (_unescaped(field) for field in line.split()[:3])
        if not path.resolve().is_relative_to(mount):
            continue
        # Of two mounts on the same point the later one hides the earlier.
        if found is None or len(mount) >= len(found.mount):
            found = FileSystem(kind, device, mount)
    if found is None:
        raise ValueError(f"no line of /proc/mounts covers {path}")
    return found


def _unescaped(field: str) -> str:
    """Undo the octal escapes of `/proc/mounts` for blanks, tabs, newlines and backslashes."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field


def disk_directory(wanted: Path | None) -> Path:
    """Choose the directory for ledgers: `wanted`, or the first of temporary, current and home directory on a disk.

    Raises:
        ValueError: `wanted` is not a directory, or it (or every candidate) is in memory.
    """
    candidates = [Path(tempfile.gettempdir()), Path.cwd(), Path.home()] if wanted is None else [wanted]
    for candidate in candidates:
        if not candidate.is_dir():
            raise ValueError(f"{candidate} is not a directory")
        if filesystem_of(candidate).type not in MEMORY_FILESYSTEMS:
            return candidate.resolve()
    raise ValueError(f"expected a directory on a disk, but in memory are: {', '.join(map(str, candidates))}")


def installed_event_loop() -> str:
    """Return the faster event loop if it is installed: every process of the run has this interpreter's packages."""
    return "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"


def event_loop_of(pid: int) -> str:
    """Return the event loop that a process has loaded, whatever it says about itself."""
    return "uvloop" if "/uvloop/" in Path(f"/proc/{pid}/maps").read_text() else "asyncio"


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its descendants, also of ended ones that their parent waited for."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for each, fields in _processes():
        children.setdefault(int(fields[1]), []).append(each)
        ticks[each] = sum(int(field) for field in fields[11:15])
    if pid not in ticks:
        raise ProcessLookupError(f"process {pid} is gone")
    total = 0
    family = [pid]
    while family:
        member = family.pop()
        total += ticks[member]
        family += children.get(member, [])
    return total / TICKS_PER_SECOND


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Yield pid and fields of `/proc/PID/stat` after the command name, which may hold blanks and parentheses."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # it ended between the listing and the reading
            yield int(entry.name), text[text.rindex(")") + 2 :].split()


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process, without its children, in 10**6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"process {pid} has ended")


def facts(directory: Path, loop: str) -> dict[str, Any]:
    """Return what a reader has to know to compare figures of two runs."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": _versions(),
        "event_loop": loop,
        "filesystem": asdict(filesystem_of(directory)),
        "fsync_p50_ms": round(sync_seconds(directory) * 1000, 3),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found | {"sqlite": sqlite3.sqlite_version}


def sync_seconds(directory: Path) -> float:
    """Return the median of appending a page and syncing it: the least that a durable answer costs."""
    durations = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(FSYNC_SAMPLES):
            start = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            durations.append(time.perf_counter() - start)
    return statistics.median(durations)
