"""Programs that are kept running."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from a2a.supervisor import Program, Running, StateFile, Supervisor, supervise, to_state

BOUND = 30.0
SAY_AND_WAIT = "import os, time; print('ready', os.getpid(), flush=True); time.sleep(100)"
STUBBORN = """\
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(1)
"""


def program(name: str, code: str = SAY_AND_WAIT, *, said: Callable[[str], None] = lambda line: None) -> Program:
    return Program(name, [sys.executable, "-I", "-S", "-c", code], on_ready=said)


async def until(supervisor: Supervisor, name: str, state: Callable[[Running], bool]) -> Running:
    while True:
        news, running = supervisor.news, supervisor.programs[name]
        if state(running):
            return running
        await news.wait()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_program_runs_when_it_says_so_and_is_gone_after_the_block(tmp_path: Path) -> None:
    said: list[str] = []
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path / "logs") as supervisor:
            supervisor.start(program("one", said=said.append))
            running = await supervisor.running("one")
            pid = running.pid
            assert said == [f"ready {pid}"]
    assert pid is not None and not is_alive(pid)
    assert (running.state, running.exit_code, running.pid) == ("stopped", -signal.SIGTERM, None)


async def test_a_program_that_says_nothing_runs_as_soon_as_it_is_started(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(Program("one", [sys.executable, "-I", "-S", "-c", SAY_AND_WAIT]))
            assert (await supervisor.running("one")).state == "running"


async def test_a_killed_program_is_started_again(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one"))
            first = (await supervisor.running("one")).pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            running = await until(supervisor, "one", lambda it: it.state == "running" and it.restarts == 1)
            assert running.pid not in (first, None)
            assert running.exit_code == -signal.SIGKILL


async def test_one_that_cannot_start_is_told_and_tried_again(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one", "import sys; sys.exit('no port is left')"))
            with pytest.raises(ChildProcessError, match="one ended with 1"):
                await supervisor.running("one")
            await until(supervisor, "one", lambda it: it.restarts >= 2)
            assert supervisor.log_of("one").read_text().count("no port is left\n") >= 2


async def test_what_others_need_is_ended_after_them(tmp_path: Path) -> None:
    ended: list[str] = []

    def changed(supervisor: Supervisor) -> None:
        ended.extend(
            name for name, it in supervisor.programs.items() if it.state == "stopped" and name not in ended
        )  # fmt: skip

    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path, on_change=changed) as supervisor:
            for name, rank in (("base", 0), ("upon it", 1)):
                plain = program(name)
                supervisor.start(Program(name, plain.command, on_ready=plain.on_ready, rank=rank))
                await supervisor.running(name)
    assert ended == ["upon it", "base"]


async def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path, grace=0.2) as supervisor:
            supervisor.start(program("one", STUBBORN))
            running = await supervisor.running("one")
    assert running.exit_code == -signal.SIGKILL


async def test_an_error_in_the_block_ends_the_programs_as_well(tmp_path: Path) -> None:
    pids: list[int | None] = []
    with anyio.fail_after(BOUND), pytest.raises(RuntimeError, match="something else"):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one"))
            pids.append((await supervisor.running("one")).pid)
            raise RuntimeError("something else went wrong")
    assert pids[0] is not None and not is_alive(pids[0])


async def test_two_programs_of_one_name_are_refused(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND), pytest.raises(ValueError, match="there is a program one already"):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one"))
            supervisor.start(program("one"))


def test_a_log_begins_anew_with_its_supervisor_and_the_old_one_is_kept(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda: None, None)
    supervisor.programs["one"] = Running("one")
    (tmp_path / "one.log").write_text("of the last time\n")
    with supervisor._open_log("one") as log:
        log.write(b"now\n")
    supervisor.programs["one"].restarts = 1
    with supervisor._open_log("one") as log:
        log.write(b"again\n")
    assert (tmp_path / "one.log").read_text() == "now\nagain\n"
    assert (tmp_path / "one.log.old").read_text() == "of the last time\n"


def test_a_state_is_read_while_its_supervisor_lives(tmp_path: Path) -> None:
    file, other = StateFile(tmp_path / "here" / "state.json"), StateFile(tmp_path / "here" / "state.json")
    assert other.read() is None and not other.is_held()
    assert file.acquire()
    assert other.is_held() and other.read() is None, "it has only begun"
    file.write({"programs": to_state({"one": Running("one", 41, "running")})})
    state = other.read()
    assert state is not None and state["programs"][0]["pid"] == 41
    assert not other.acquire(), "there is one"
    file.release()
    assert other.read() is None
    other.wait_released()
    assert other.acquire()
    other.release()


def test_a_state_that_a_killed_supervisor_left_says_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.acquire()
    file.release()
    file.write({"programs": []})
    assert file.read() is None
