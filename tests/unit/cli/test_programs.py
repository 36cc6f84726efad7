"""Any program as an agent."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from a2a import AttemptFailed, TaskContext
from a2a.cli import programs
from a2a.cli.programs import Program, program_agent
from a2a.testing import squad

BOUND = 30


class Task:
    """As much of a task as a program is told."""

    id, skill, key, context_id, attempt, fence, rev = "main-1", "try", "k", "c", 2, 7, 1


async def run(value: Any, *command: str, timeout: float | None = None) -> Any:
    with anyio.fail_after(BOUND):
        return await Program(command, timeout).run(value, cast(TaskContext, Task()))


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


@pytest.mark.parametrize(
    ("value", "printed"),
    [("some text", "some text"), ({"a": "ü"}, '{"a": "ü"}'), (None, "null"), (b"\xff", b"\xff"), ([1], "[1]")],
)
async def test_text_and_bytes_come_as_they_are_and_the_rest_as_json(value: Any, printed: Any) -> None:
    shown = await run(value, *python("import sys; d = sys.stdin.buffer.read(); print(d)"))
    assert shown == str(printed if isinstance(printed, bytes) else printed.encode())


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (b'{"a": [1, 2.5]}\n', {"a": [1, 2.5]}),
        (b"42", 42),
        (b"plain text\n", "plain text"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"", ""),
        (b"NaN", "NaN"),
        (b"9007199254740993", "9007199254740993"),
        (b"\xff\xfe", b"\xff\xfe"),
        pytest.param(b"[" * 100_000, "[" * 100_000, id="deep"),
    ],
)
async def test_output_is_json_where_it_parses_else_text_else_bytes(output: bytes, value: Any) -> None:
    assert await run(output, "cat") == value


def test_programs_are_run_also_while_this_package_is_replaced(tmp_path: Path) -> None:
    installed = shutil.copytree(Path(programs.__file__).parents[1], tmp_path / "a2a")
    code = f"""
import anyio, shutil
from a2a.cli import programs
assert programs.__file__.startswith({str(tmp_path)!r})
from tests.unit.cli.test_programs import Task
shutil.rmtree({str(installed)!r})
print(anyio.run(programs.Program(("tr", "a-z", "A-Z")).run, "hello", Task()))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(Path(__file__).parents[3])))}
    command = (sys.executable, "-c", code)
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=BOUND, check=False)
    assert (done.stdout, done.stderr) == ("HELLO\n", "")


async def test_a_program_knows_its_task() -> None:
    names = "A2A_TASK A2A_SKILL A2A_KEY A2A_CONTEXT A2A_ATTEMPT A2A_FENCE A2A_REV"
    shown = await run("", *python(f"import os; print(*(os.environ[n] for n in {names.split()!r}))"))
    assert shown == "main-1 try k c 2 7 1"


@pytest.mark.parametrize(("code", "retryable"), [(1, False), (75, True)])
async def test_an_exit_code_is_a_failure_with_the_end_of_stderr(code: int, retryable: bool) -> None:
    program = f"import sys; sys.stderr.write('x' * 10_000 + ' the end\\n'); sys.exit({code})"
    with pytest.raises(AttemptFailed, match=f"exit code {code}: x+ the end$") as failed:
        await run("", *python(program))
    assert failed.value.retryable == retryable
    assert len(failed.value.detail) < programs.ERRORS_KEPT + 100


async def test_a_signal_is_a_failure() -> None:
    with pytest.raises(AttemptFailed, match="signal 9"):
        await run("", *python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))


async def test_a_program_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(AttemptFailed, match="no-such-program cannot be started: there is no such program") as failed:
        await run("", "no-such-program")
    assert failed.value.error_code == "start"


async def test_more_output_than_a_result_holds_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "OUTPUT_MAX", 1000)
    with pytest.raises(AttemptFailed, match="wrote more than 1000 bytes") as failed:
        await run("", *python("while True: print('x' * 1000)"))
    assert failed.value.error_code == "output_too_large"


async def test_a_program_need_not_read_its_input() -> None:
    assert await run("x" * 1_000_000, *python("print('done')")) == "done"


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("code", [0, 3, 75])
def test_a_program_may_end_before_its_input_is_written(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    loops = pytest.importorskip(name, reason="the uvloop extra is not installed")
    talk = programs._talk

    async def talk_late(process: asyncio.subprocess.Process, given: bytes) -> tuple[bytes, bytes]:
        assert process.stdin is not None
        await process.stdin.wait_closed()
        return await talk(process, given)

    monkeypatch.setattr(programs, "_talk", talk_late)
    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        ended = run("x" * 2_000, "sh", "-c", f"exit {code}")
        if code == 0:
            assert runner.run(ended) == ""
            return
        with pytest.raises(AttemptFailed, match=f"^sh: exit code {code}$") as failed:
            runner.run(ended)
    assert (failed.value.error_code, failed.value.retryable) == ("exit", code == 75)


async def test_a_program_may_answer_while_it_reads() -> None:
    assert await run("x" * 500_000, "cat") == "x" * 500_000


WITH_CHILD = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open({fifo!r}, "w") as fifo: fifo.write(f"{{os.getpid()}} {{child.pid}}")
{then}
"""


@pytest.fixture
def pids(tmp_path: Path) -> Callable[[], Any]:
    """A named pipe into which a program writes its own number and its child's."""
    os.mkfifo(tmp_path / "pids")

    async def read() -> list[int]:
        text = await anyio.to_thread.run_sync((tmp_path / "pids").read_text)
        return [int(pid) for pid in text.split()]

    return read


async def have_ended(pids: list[int]) -> None:
    """Wait until processes have ended: the last ones of a group do so a moment after they are killed."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            with anyio.fail_after(BOUND):
                await anyio.wait_readable(handle)
        finally:
            os.close(handle)


async def test_a_program_that_takes_too_long_ends_with_its_whole_group(tmp_path: Path, pids: Any) -> None:
    program = WITH_CHILD.format(fifo=str(tmp_path / "pids"), then="child.wait()")
    found: list[int] = []
    async with anyio.create_task_group() as group:

        async def note() -> None:
            found.extend(await pids())

        group.start_soon(note)
        with pytest.raises(AttemptFailed, match="took longer than 2 s") as failed:
            await run("", *python(program), timeout=2)
    assert failed.value.error_code == "timeout"
    assert len(found) == 2
    await have_ended(found)


async def test_a_cancelled_attempt_ends_its_whole_group(tmp_path: Path, pids: Any) -> None:
    program = WITH_CHILD.format(fifo=str(tmp_path / "pids"), then="child.wait()")
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(run, "", *python(program))
            found = await pids()
            assert len(found) == 2
            group.cancel_scope.cancel()
    await have_ended(found)


RUNS_ONE = """
import asyncio, sys
from types import SimpleNamespace
from a2a.cli.programs import Program
task = SimpleNamespace(id="main-1", skill="try", key="k", context_id="c", attempt=2, fence=7, rev=1)
asyncio.run(Program(sys.argv[1:]).run("", task))
"""


async def test_a_killed_agent_takes_the_whole_group_along(tmp_path: Path, pids: Any) -> None:
    program = WITH_CHILD.format(fifo=str(tmp_path / "pids"), then="child.wait()")
    with anyio.fail_after(BOUND):
        agent = await asyncio.create_subprocess_exec(*python(RUNS_ONE), *python(program))
        found = await pids()
        agent.kill()
        await agent.wait()
    assert len(found) == 2
    await have_ended(found)


async def test_what_a_program_leaves_running_does_not_hold_its_result_up(tmp_path: Path, pids: Any) -> None:
    program = WITH_CHILD.format(fifo=str(tmp_path / "pids"), then="print('done')")
    results: list[Any] = []
    async with anyio.create_task_group() as group:

        async def note() -> None:
            results.append(await run("", *python(program)))

        group.start_soon(note)
        found = await pids()
    assert results == ["done"]
    await have_ended(found)


async def test_a_program_is_an_agent_with_one_skill() -> None:
    agent = program_agent(Program(("tr", "a-z", "A-Z")), "upper", concurrency=3)
    assert (agent.name, agent.concurrency, list(agent.skills)) == ("exec-upper", 3, ["upper"])
    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("upper", "hello") == "HELLO"
            assert await running.client.call("upper", {"a": "b"}) == {"A": "B"}
