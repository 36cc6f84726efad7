from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.processes import Process, Processes, output, running
from benchmarks.report import BenchmarkError

ECHO = "import sys\nprint('{}', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
SILENT = "import sys\nprint('{}', flush=True)\nsys.stdin.read()"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SILENT


def is_gone(process: Process) -> bool:
    return not Path(f"/proc/{process.pid}").exists()


async def test_a_process_answers_in_json_lines(tmp_path: Path) -> None:
    async with Processes(tmp_path) as started:
        process, ready = await started.start_ready("echo", "-c", ECHO)
        assert ready == {}
        assert await process.ask({"a": 1}, within=30) == {"a": 1}
    assert is_gone(process)


async def test_an_error_inside_the_block_ends_what_was_started(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        async with Processes(tmp_path) as started:
            first, _ = await started.start_ready("first", "-c", SILENT)
            second = await started.start("second", "-c", SILENT, talks=False)
            raise RuntimeError("stop")
    assert is_gone(first)
    assert is_gone(second)


async def test_a_process_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_WITHIN", 0.2)
    async with asyncio.timeout(30):
        async with Processes(tmp_path) as started:
            process, _ = await started.start_ready("stubborn", "-c", STUBBORN)
    assert is_gone(process)


async def test_being_cancelled_while_processes_end_still_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()
    wait = Process.wait

    async def noted_wait(self: Process) -> None:
        waiting.set()
        await wait(self)

    monkeypatch.setattr(Process, "wait", noted_wait)
    children: list[Process] = []

    async def run() -> None:
        async with Processes(tmp_path) as started:
            children.append((await started.start_ready("stubborn", "-c", STUBBORN))[0])

    task = asyncio.create_task(run())
    async with asyncio.timeout(30):
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert is_gone(children[0])


async def test_a_process_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with Processes(tmp_path) as started:
        process, _ = await started.start_ready("silent one", "-c", SILENT)
        with pytest.raises(BenchmarkError, match=r"the silent one said nothing for 0\.1 s"):
            await process.ask({}, within=0.1)


async def test_a_process_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with Processes(tmp_path) as started:
        with pytest.raises(BenchmarkError, match=r"(?s)the broken ended early.*ValueError: what went wrong"):
            await started.start_ready("broken", "-c", "raise ValueError('what went wrong')")


async def test_a_silent_process_that_ended_is_missed_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with Processes(tmp_path) as started:
        process = await started.start("broken", "-c", "raise ValueError('what went wrong')", talks=False)
        await process.wait()
        with pytest.raises(BenchmarkError, match=r"(?s)the broken ended early.*ValueError: what went wrong"):
            process.check()
        running = await started.start("running", "-c", "import time; time.sleep(60)", talks=False)
        running.check()


@pytest.mark.parametrize("line", ["hello", "[]"])
async def test_a_line_that_is_no_json_object_is_reported(tmp_path: Path, line: str) -> None:
    async with Processes(tmp_path) as started:
        with pytest.raises(BenchmarkError, match="expected a JSON"):
            await started.start_ready("chatty", "-c", f"print({line!r})")


async def test_children_are_out_of_reach_of_the_terminal(tmp_path: Path) -> None:
    async with Processes(tmp_path) as started:
        process, _ = await started.start_ready("any", "-c", SILENT)
        assert os.getsid(process.pid) == process.pid != os.getsid(0)


async def test_a_run_leaves_neither_process_nor_directory(tmp_path: Path) -> None:
    async with running(tmp_path) as (started, directory):
        process, _ = await started.start_ready("any", "-c", SILENT)
        assert list(tmp_path.iterdir()) == [directory]
    assert is_gone(process)
    assert not list(tmp_path.iterdir())


async def test_another_program_is_started_where_it_is_there(tmp_path: Path) -> None:
    async with Processes(tmp_path) as started:
        process, _ = await started.start_ready("shell", "-c", "echo '{}'; read line; echo $line", program=["/bin/sh"])
        assert await process.ask({"a": 1}, within=30) == {"a": 1}
        with pytest.raises(BenchmarkError, match="the other cannot be started: .*/no/such/program"):
            await started.start("other", program=["/no/such/program"])


async def test_what_a_program_prints_is_returned() -> None:
    assert await output(sys.executable, "-c", "print('hello')", within=30) == "hello\n"


@pytest.mark.parametrize(
    ("code", "within", "said"),
    [
        ("raise ValueError('what went wrong')", 30, r"(?s)failed: .*what went wrong"),
        ("import time; time.sleep(60)", 0.2, r"did not end within 0\.2 s"),
    ],
)
async def test_a_program_that_fails_or_does_not_end_is_told(code: str, within: float, said: str) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(BenchmarkError, match=said):
            await output(sys.executable, "-c", code, within=within)


async def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(BenchmarkError, match="/no/such/program cannot be started"):
        await output("/no/such/program", within=30)
