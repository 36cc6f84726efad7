"""Programs that are kept running."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from a2a import supervisor as module
from a2a.supervisor import Program, Running, Supervisor, supervise

BOUND = 30.0
ROOT = Path(__file__).parents[2]
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


def once_there(flag: Path, exit_code: int) -> str:
    """A program that ends with this code until a file is there, and runs from then on."""
    return f"import os, sys\nif not os.path.exists({str(flag)!r}): sys.exit({exit_code})\n{SAY_AND_WAIT}"


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


async def test_a_folder_of_logs_that_was_removed_is_made_again(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with anyio.fail_after(BOUND):
        async with supervise(logs=logs) as supervisor:
            supervisor.start(program("one"))
            first = (await supervisor.running("one")).pid
            shutil.rmtree(logs)
            supervisor.restart("one")
            await until(supervisor, "one", lambda it: it.state == "running" and it.pid != first)
            assert (logs / "one.log").exists()


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


async def test_being_cancelled_ends_the_programs_in_good_order(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND), anyio.CancelScope() as scope:
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one"))
            running = await supervisor.running("one")
            scope.cancel()
            await anyio.sleep_forever()
    assert (running.state, running.exit_code, running.pid) == ("stopped", -signal.SIGTERM, None)


@pytest.mark.parametrize("is_cancelled_before", [False, True])
async def test_being_cancelled_while_the_programs_end_leaves_none_behind(
    tmp_path: Path, is_cancelled_before: bool
) -> None:
    began, done = asyncio.Event(), asyncio.Event()
    supervisors: list[Supervisor] = []

    async def block() -> None:
        async with supervise(logs=tmp_path, grace=0.2) as supervisor:
            supervisors.append(supervisor)
            supervisor.start(program("base"))
            supervisor.start(replace(program("upon it", STUBBORN), rank=1))
            for name in ("base", "upon it"):
                await supervisor.running(name)
            began.set()
            await done.wait()

    with anyio.fail_after(BOUND):
        running = asyncio.create_task(block())
        await began.wait()
        if is_cancelled_before:
            running.cancel()
        else:
            done.set()
        (supervisor,) = supervisors
        await supervisor._kept["upon it"].end.wait()
        running.cancel()  # as Ctrl-C does, which no scope shields from
        await asyncio.wait([running])
    assert running.cancelled()
    ended = {name: (each.state, each.exit_code) for name, each in supervisor.programs.items()}
    assert ended == {"base": ("stopped", -signal.SIGTERM), "upon it": ("stopped", -signal.SIGKILL)}


async def test_where_a_change_cannot_be_told_all_programs_end_and_the_block(tmp_path: Path) -> None:
    is_full, pids, made = anyio.Event(), [], []

    def tell(supervisor: Supervisor) -> None:
        if is_full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def keep() -> None:
        async with supervise(logs=tmp_path, on_change=tell) as supervisor:
            made.append(supervisor)
            for name in ("one", "two"):
                supervisor.start(program(name))
                pids.append((await supervisor.running(name)).pid)
            is_full.set()
            supervisor.restart("one")
            await anyio.sleep_forever()

    keeping = asyncio.create_task(keep())  # its end is shielded: no deadline would get through to it
    done, _ = await asyncio.wait([keeping], timeout=BOUND)
    for kept in made[0]._kept.values():
        kept.gone.set()  # else one that waits for ever would wait here as well
    with pytest.raises(ExceptionGroup) as raised:
        await keeping
    assert done and raised.group_contains(OSError, match="No space left")
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize(("steady", "expected"), [(100.0, [0.01, 0.02, 0.03, 0.03]), (0.0, [0.01] * 4)])
async def test_the_pause_doubles_up_to_the_longest_and_begins_anew_for_one_that_ran_for_long(
    steady: float, expected: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    move_on_after = anyio.move_on_after

    def moving_on(seconds: float) -> anyio.CancelScope:
        pauses.append(seconds)
        return move_on_after(seconds)

    monkeypatch.setattr(module, "BACKOFF", (0.01, 0.03))
    monkeypatch.setattr(module, "STEADY", steady)
    monkeypatch.setattr(anyio, "move_on_after", moving_on)
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one", "raise SystemExit(7)"))
            await until(supervisor, "one", lambda it: it.restarts == 4)
    assert pauses[:4] == expected


async def test_one_that_is_ended_has_the_grace_to_do_so(tmp_path: Path) -> None:
    code = "import signal, sys, time\ndef end(*_):\n    time.sleep(0.3)\n    sys.exit(0)\n"
    code += "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(100)"
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one", code))
            running = await supervisor.running("one")
    assert running.exit_code == 0


async def test_what_a_program_says_once_it_is_ready_is_in_nobodys_way(tmp_path: Path) -> None:
    code = "import sys\nprint('ready', flush=True)\nsys.stdout.write('x' * 1_000_000)\nsys.stdout.flush()\nsys.exit(7)"
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one", code))
            await until(supervisor, "one", lambda it: it.exit_code == 7)


@pytest.mark.parametrize("is_told", [False, True])
async def test_what_a_program_left_behind_does_not_count_as_the_program(tmp_path: Path, is_told: bool) -> None:
    code = "import os, time; left = os.fork(); print(left, flush=True) if left else None; time.sleep(100)"
    said: list[str] = []
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path, grace=0.2) as supervisor:
            supervisor.start(program("one", code, said=said.append))
            first = (await supervisor.running("one")).pid
            assert first is not None
            try:
                if is_told:
                    supervisor.restart("one")
                else:
                    os.kill(first, signal.SIGKILL)
                await until(supervisor, "one", lambda it: it.state == "running" and it.pid != first)
                assert is_alive(int(said[0]))
            finally:
                for left in said:
                    os.kill(int(left), signal.SIGKILL)


async def test_a_program_has_the_environment_it_was_given_and_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A2A_OF_THE_SUPERVISOR", "1")
    code = "import json, os, time; print(json.dumps([dict(os.environ), os.getsid(0)]), flush=True); time.sleep(100)"
    said: list[str] = []
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path, env={"ALL": "1", "ITS": "1"}) as supervisor:
            supervisor.start(replace(program("one", code, said=said.append), env={"ITS": "2"}))
            pid = (await supervisor.running("one")).pid
    environment, session = json.loads(said[0])
    assert (environment["ALL"], environment["ITS"], session) == ("1", "2", pid)
    assert "A2A_OF_THE_SUPERVISOR" not in environment


async def test_two_programs_of_one_name_are_refused(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND), pytest.raises(ValueError, match="there is already a program one"):
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


async def test_a_program_is_started_anew_when_that_is_wanted_and_that_is_no_death(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path) as supervisor:
            supervisor.start(program("one"))
            first = (await supervisor.running("one")).pid
            supervisor.restart("one")
            running = await until(supervisor, "one", lambda it: it.state == "running" and it.pid != first)
            assert (running.restarts, running.exit_code) == (0, -signal.SIGTERM)
            assert first is not None and not is_alive(first)
            second = running.pid
            supervisor.restart("one")
            await until(supervisor, "one", lambda it: it.state == "running" and it.pid not in (first, second))


async def test_one_that_waits_is_started_at_once_when_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF", (1000.0, 1000.0))
    flag = tmp_path / "ready"
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path / "logs") as supervisor:
            supervisor.start(program("one", once_there(flag, 1)))
            await until(supervisor, "one", lambda it: it.state == "waiting")
            flag.touch()
            supervisor.restart("one")
            assert (await until(supervisor, "one", lambda it: it.state == "running")).restarts == 0


async def test_one_that_would_fail_alike_is_started_again_only_when_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF", (0.01, 0.01))
    flag = tmp_path / "ready"
    states: list[str] = []

    def told(changed: Supervisor) -> None:
        states.append(changed.programs["one"].state)

    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path / "logs", on_change=told) as supervisor:
            supervisor.start(replace(program("one", once_there(flag, 2)), halts_on=frozenset({2})))
            supervisor.start(program("other", "import sys; sys.exit(2)"))
            with pytest.raises(ChildProcessError, match="one ended with 2"):
                await supervisor.running("one")
            # Any other program is tried again meanwhile, more often than the pause would have this one tried.
            await until(supervisor, "other", lambda it: it.restarts == 3)
            assert supervisor.programs["one"].state == "halted"
            flag.touch()
            supervisor.restart("one")
            assert (await until(supervisor, "one", lambda it: it.state == "running")).restarts == 0
            assert states.index("halted") < states.index("running") and "waiting" not in states


async def test_one_that_does_not_listen_is_killed_before_it_is_started_anew(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with supervise(logs=tmp_path, grace=0.2) as supervisor:
            supervisor.start(program("one", STUBBORN))
            first = (await supervisor.running("one")).pid
            supervisor.restart("one")
            running = await until(supervisor, "one", lambda it: it.state == "running" and it.pid != first)
            assert running.exit_code == -signal.SIGKILL


def test_without_logs_a_program_writes_where_its_supervisor_does(tmp_path: Path) -> None:
    """In a process of its own: the output of this one belongs to the test runner."""
    code = """\
import anyio, sys
from a2a.supervisor import Program, supervise
async def main():
    async with supervise() as supervisor:
        write = "import os; os.write(1, os.getcwd().encode()); os.write(2, b'no')"
        supervisor.start(Program("one", [sys.executable, "-c", write]))
        while supervisor.programs["one"].state != "waiting":
            await supervisor.news.wait()
        assert supervisor.log_of("one") is None
        try:
            await supervisor.running("one")
        except ChildProcessError as error:
            assert str(error) == "one ended with 0"
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, str(tmp_path), "no")
