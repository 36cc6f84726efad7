from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.machine import FileSystem
from benchmarks.report import BenchmarkError, Options, Result

THROUGHPUT = Result("relay.throughput", 100.0, "tasks/s")


@pytest.fixture(autouse=True)
def only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one benchmark, which each test replaces: without a name all there are would run."""
    for name in set(BENCHMARKS) - {"delegate"}:
        monkeypatch.delitem(BENCHMARKS, name)


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "filesystem_of", lambda path: FileSystem("ext4", "/dev/disk", "/"))


async def measured(options: Options) -> list[Result]:
    return [THROUGHPUT, Result("delegate.throughput", 50.0, "tasks/s").against(THROUGHPUT)]


def test_in_json_the_machine_comes_first_and_then_one_object_per_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "delegate", measured)
    assert main(["delegate", "--quick", "--json"]) == 0
    facts, *results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert facts["name"] == "machine"
    assert facts["event_loop"] in {"uvloop", "asyncio"}
    assert facts["filesystem"]["type"] == "ext4"
    assert results == [
        {"name": "relay.throughput", "value": 100.0, "unit": "tasks/s", "ratio": None, "ratio_to": None},
        {
            "name": "delegate.throughput",
            "value": 50.0,
            "unit": "tasks/s",
            "ratio": 0.5,
            "ratio_to": "relay.throughput",
        },
    ]


def test_for_a_person_facts_come_before_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "delegate", measured)
    assert main([]) == 0
    facts, table = capsys.readouterr().out.split("\n\n")
    assert "event_loop: " in facts
    assert "filesystem: type ext4" in facts
    assert len(table.splitlines()) == 2


def test_quick_and_directory_reach_the_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Options] = []

    async def noted(options: Options) -> list[Result]:
        seen.append(options)
        return [THROUGHPUT]

    monkeypatch.setitem(BENCHMARKS, "delegate", noted)
    assert main(["--quick", "--dir", str(tmp_path)]) == 0
    assert main(["--dir", str(tmp_path)]) == 0
    loop = machine.installed_event_loop()
    assert main(["--slow-sync", "1000", "--dir", str(tmp_path)]) == 0
    assert seen == [Options.quick(tmp_path, loop), Options(tmp_path, loop), Options(tmp_path, loop, slow_sync_us=1000)]


def test_a_quick_run_leaves_out_what_takes_long_to_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    async def peers(options: Options) -> list[Result]:
        seen.append("peers")
        return [THROUGHPUT]

    monkeypatch.setitem(BENCHMARKS, "delegate", measured)
    monkeypatch.setitem(BENCHMARKS, "peers", peers)
    assert main(["--quick"]) == 0
    assert seen == []
    assert main(["--quick", "peers"]) == main([]) == 0
    assert seen == ["peers", "peers"]


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--dir", "/nowhere/at/all"], ["--slow-sync", "-1"], ["--slow-sync", "100001"]]
)
def test_what_cannot_be_measured_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2


def test_a_failed_benchmark_exits_with_1_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing(options: Options) -> list[Result]:
        raise BenchmarkError("the coordinator ended early")

    monkeypatch.setitem(BENCHMARKS, "delegate", failing)
    assert main([]) == 1
    assert "the coordinator ended early" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_benchmark_clean_up(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    cleaned = []

    async def interrupted(options: Options) -> list[Result]:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            cleaned.append(number)
        return []

    monkeypatch.setitem(BENCHMARKS, "delegate", interrupted)
    assert main([]) == 128 + number
    assert cleaned == [number]
