from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from reference_agents.maintenance import processes
from reference_agents.maintenance.processes import Limits, guarded, inherited_environment, run, silent

PYTHON = [sys.executable, "-I", "-S", "-c"]
QUICK = Limits(seconds=20.0)


async def test_both_channels_and_the_exit_code_come_back(tmp_path: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = await run([*PYTHON, program], cwd=tmp_path, limits=QUICK)
    assert (done.code, done.out, done.err, done.timed_out) == (3, b"out\n", b"err\n", False)
    assert done.text == "out\nerr\n"


async def test_a_short_command_reads_what_it_is_given(tmp_path: Path) -> None:
    done = await run([*PYTHON, "import sys; print(sys.stdin.read().upper())"], cwd=tmp_path, stdin=b"given")
    assert done.out == b"GIVEN\n"


async def test_a_command_that_ignores_what_it_is_given_is_no_failure(tmp_path: Path) -> None:
    done = await run([*PYTHON, "pass"], cwd=tmp_path, stdin=b"x" * 1_000_000)
    assert done.code == 0


@pytest.mark.parametrize("raised", [anyio.BrokenResourceError, ConnectionResetError, RuntimeError])
async def test_a_command_that_has_ended_before_it_is_given_anything_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[Exception]
) -> None:
    """As anyio says it, and as asyncio and uvloop do, of which anyio 4.11 let it come as it was."""
    begin = processes._process

    async def refuse(*_: object) -> None:
        raise raised

    @asynccontextmanager
    async def ended(*arguments: Any) -> AsyncIterator[anyio.abc.Process]:
        async with begin(*arguments) as process:
            await process.wait()
            monkeypatch.setattr(type(process.stdin), "send", refuse)
            yield process

    monkeypatch.setattr(processes, "_process", ended)
    done = await run([*PYTHON, "pass"], cwd=tmp_path)
    assert done.code == 0


async def test_lines_are_told_as_they_come(tmp_path: Path) -> None:
    lines: list[str] = []

    async def hear(line: str) -> None:
        lines.append(line)

    await run([*PYTHON, "print('one'); print('two')"], cwd=tmp_path, limits=QUICK, on_line=hear)
    assert lines == ["one", "two"]


async def test_a_command_is_ended_at_its_limit(tmp_path: Path) -> None:
    done = await run([*PYTHON, "import time; time.sleep(600)"], cwd=tmp_path, limits=Limits(seconds=0.3))
    assert done.timed_out
    assert done.seconds < 10


async def test_a_command_is_ended_with_the_scope_around_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = f"import time; held = open({str(pipe)!r}, 'w'); held.write('up'); held.flush(); time.sleep(600)"
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run([*PYTHON, program], cwd=tmp_path, limits=QUICK))
            ours = await anyio.to_thread.run_sync(
                os.open, pipe, os.O_RDONLY
            )  # opens when the command has come that far
            assert await anyio.to_thread.run_sync(os.read, ours, 2) == b"up"
            group.cancel_scope.cancel()
        # Where the guard was too slow and was killed itself, the kernel ends the command a moment later.
        assert await anyio.to_thread.run_sync(os.read, ours, 1) == b"", "nobody holds the other end any more"
    os.close(ours)


def test_our_tools_do_not_see_tokens_and_gits_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_TOKEN", "secret")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("KEPT", "yes")
    environment = inherited_environment()
    assert "A2A_TOKEN" not in environment
    assert "GIT_DIR" not in environment
    assert environment["KEPT"] == "yes"


def test_the_guard_gets_the_limits_and_the_command_behind_a_separator() -> None:
    line = guarded(["rm", "-x"], Limits(10.0, memory=5, file_size=6))
    assert line[-3:] == ["--", "rm", "-x"]
    assert {"--memory=5", "--file-size=6"} <= set(line)


async def test_reporting_to_nobody_is_allowed() -> None:
    await silent(0.5, "half")
