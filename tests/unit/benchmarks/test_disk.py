from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import coordinator, disk
from benchmarks.machine import installed_event_loop
from benchmarks.processes import Processes
from benchmarks.report import BenchmarkError, Options

HAS_COMPILER = any(map(shutil.which, disk.COMPILERS))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="a slower disk needs a C compiler")


def options(directory: Path, slow_sync_us: int) -> Options:
    return Options.quick(directory, installed_event_loop(), slow_sync_us)


async def test_the_real_disk_needs_nothing(tmp_path: Path) -> None:
    assert await disk.environment(tmp_path, options(tmp_path, 0)) == {}
    assert not list(tmp_path.iterdir())


async def test_the_syncs_of_the_real_disk_are_measured(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        assert await disk.sync_p50_ms(processes, tmp_path, options(tmp_path, 0)) > 0


@needs_compiler
async def test_a_slower_disk_takes_longer_by_what_was_said(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        assert await disk.sync_p50_ms(processes, tmp_path, options(tmp_path, 20_000)) >= 20


@needs_compiler
async def test_the_coordinator_has_the_slower_disk(tmp_path: Path) -> None:
    slow = options(tmp_path, 20_000)
    async with Processes(tmp_path) as processes:
        routed = await coordinator.start(processes, tmp_path, slow)
        sample = await routed.side("delegate", "delegate").sample(slow)
    assert sample.sequential_p50 >= 20


async def test_a_disk_that_is_not_slower_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(directory: Path, options: Options) -> dict[str, str]:
        return {}

    monkeypatch.setattr(disk, "environment", nothing)
    async with Processes(tmp_path) as processes:
        with pytest.raises(BenchmarkError, match="expected a sync of at least 100000 us"):
            await disk.sync_p50_ms(processes, tmp_path, options(tmp_path, 100_000))


async def test_without_a_compiler_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(BenchmarkError, match="needs a C compiler, and none of no-such-compiler is here"):
        await disk.environment(tmp_path, options(tmp_path, 1))


@needs_compiler
async def test_what_the_compiler_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("this is no C")
    monkeypatch.setattr(disk, "SOURCE", broken)
    with pytest.raises(BenchmarkError, match="failed: .*error"):
        await disk.environment(tmp_path, options(tmp_path, 1))
