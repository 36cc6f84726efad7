from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.machine import installed_event_loop
from benchmarks.peers import runner
from benchmarks.report import BenchmarkError, Note, Options, Result
from benchmarks.rounds import Sample


def test_the_delegation_stands_beside_each_peer_with_what_it_lacks() -> None:
    samples = {"delegate": [Sample(4000.0, 200.0, 2.0)], "crossbar": [Sample(2000.0, 400.0, 1.0)]}
    results = runner.results(samples, {"nats": "skipped, no", "a2a-sdk": "skipped, neither"})
    assert results[:3] == Sample(4000.0, 200.0, 2.0).results("delegate")
    assert results[3:6] == Sample(2000.0, 400.0, 1.0).results("peers.crossbar")
    assert results[6] == Result("delegate.to.crossbar.throughput", 4000.0, "tasks/s", 2.0, "peers.crossbar.throughput")
    lacks, *skipped = results[9:]
    assert isinstance(lacks, Note)
    assert "crossbar==" in lacks.note
    assert lacks.note.endswith(runner.PEERS["crossbar"].lacks)
    assert skipped == [Note("peers.nats", "skipped, no"), Note("peers.a2a-sdk", "skipped, neither")]


async def test_peers_that_cannot_be_had_or_do_not_start_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)  # it starts, and has nothing installed

    async def provide(requirements: str) -> Path:
        if requirements == "crossbar":
            raise BenchmarkError("the index is not there")
        return home

    monkeypatch.setattr(runner, "provide", provide)
    monkeypatch.setattr(machine, "MEMORY_FILESYSTEMS", frozenset())
    results = await runner.run(Options.quick(tmp_path, installed_event_loop()))
    notes = {each.name: each.note for each in results if isinstance(each, Note)}
    assert notes["peers.crossbar"] == "skipped, its packages cannot be had: the index is not there"
    assert notes["peers.nats"].startswith("skipped, it did not start: the nats cannot be started: ")
    assert notes["peers.a2a-sdk"].startswith("skipped, it did not start: the a2a-sdk ended early")
    assert [each.name for each in results if isinstance(each, Result)] == [
        "delegate.throughput",
        "delegate.sequential.p50",
        "delegate.cpu",
    ]


async def test_a_slower_disk_for_one_of_them_is_no_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PEERS", {})
    monkeypatch.setattr(machine, "MEMORY_FILESYSTEMS", frozenset())
    assert await runner.run(Options.quick(tmp_path, "asyncio", slow_sync_us=1)) == [
        Note("peers", "skipped: a slower disk would be the coordinator's alone")
    ]
