from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.machine import (
    FileSystem,
    cpu_seconds,
    disk_directory,
    event_loop_of,
    facts,
    filesystem_of,
    memory_mb,
)

BURN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"


def test_the_longest_mount_point_covers_a_path(tmp_path: Path) -> None:
    mounts = f"/dev/a / ext4 rw 0 0\nb {tmp_path} tmpfs rw 0 0\n"
    assert filesystem_of(tmp_path, mounts) == FileSystem("tmpfs", "b", str(tmp_path))
    assert filesystem_of(Path("/"), mounts) == FileSystem("ext4", "/dev/a", "/")


def test_a_later_mount_hides_an_earlier_one_on_the_same_point() -> None:
    assert filesystem_of(Path("/"), "a / ext4 rw 0 0\nb / tmpfs rw 0 0\n").type == "tmpfs"


def test_a_mount_point_with_a_blank_is_understood(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    escaped = str(place).replace(" ", "\\040")
    assert filesystem_of(place, f"a / ext4 rw 0 0\nb {escaped} tmpfs rw 0 0\n").mount == str(place)


def test_a_directory_whose_name_only_begins_like_a_mount_point_is_not_on_it(tmp_path: Path) -> None:
    (tmp_path / "data2").mkdir()
    assert filesystem_of(tmp_path / "data2", f"a / ext4 rw 0 0\nb {tmp_path}/data tmpfs rw 0 0\n").type == "ext4"


@pytest.mark.parametrize("kind", sorted(machine.MEMORY_FILESYSTEMS))
def test_a_directory_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(machine, "filesystem_of", lambda path: FileSystem(kind, "none", "/"))
    with pytest.raises(ValueError, match="expected a directory on a disk"):
        disk_directory(tmp_path)


def test_the_first_candidate_on_a_disk_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/")
    monkeypatch.setattr(
        machine, "filesystem_of", lambda path: FileSystem("tmpfs" if path == Path("/") else "ext4", "none", "/")
    )
    assert disk_directory(None) == tmp_path.resolve()


def test_what_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a directory"):
        disk_directory(tmp_path / "missing")


def test_processor_time_counts_children_that_live_and_that_have_ended() -> None:
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True, timeout=30)
    ended = cpu_seconds(os.getpid()) - before
    assert ended >= 0.15

    script = BURN + "print(flush=True)\nimport sys\nsys.stdin.read()"
    before = cpu_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = cpu_seconds(os.getpid()) - before
        child.communicate(timeout=30)
    assert living >= 0.15


def test_the_processor_time_of_a_process_that_is_gone_is_an_error() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(30)
    with pytest.raises(ProcessLookupError):
        cpu_seconds(child.pid)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_event_loop_of_a_process_is_seen_from_outside(loop: str) -> None:
    pytest.importorskip(loop)
    script = f"import {loop}, sys\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert event_loop_of(child.pid) == loop
        child.communicate(timeout=30)


def test_the_facts_name_machine_versions_loop_and_filesystem(tmp_path: Path) -> None:
    start = time.perf_counter()
    found = facts(tmp_path, "asyncio")
    assert found["event_loop"] == "asyncio"
    assert found["filesystem"]["type"] == filesystem_of(tmp_path).type
    assert found["cores"] >= 1
    assert {"websockets", "msgpack", "uvloop", "sqlite"} <= set(found["versions"])
    assert 0 <= found["fsync_p50_ms"] < (time.perf_counter() - start) * 1000
    assert not list(tmp_path.iterdir())
    json.dumps(found)


TAKES = """
print("ready", flush=True)
input()
taken = bytearray(64 * 1024 * 1024)
taken[::4096] = b"x" * len(taken[::4096])
print("taken", flush=True)
input()
"""


def test_what_a_process_has_in_memory_is_what_it_took() -> None:
    # One that has lived for a while, as this one, may take again what it had before.
    with subprocess.Popen(
        [sys.executable, "-c", TAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        before = memory_mb(running.pid)
        print(file=running.stdin, flush=True)
        assert running.stdout.readline() == "taken\n"
        grown = memory_mb(running.pid) - before
        print(file=running.stdin, flush=True)
    assert 55 < grown < 90
