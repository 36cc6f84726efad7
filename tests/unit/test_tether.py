"""A program that ends with its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from a2a.supervisor import TETHER
from a2a.tether import watch

BETWEEN = """\
import os, subprocess, sys
left = int(sys.argv[1])
child = subprocess.Popen(
    [sys.executable, "-I", "-S", sys.argv[2], str(os.getpid()), *sys.argv[3:]],
    stdout=subprocess.PIPE, text=True, pass_fds=[left],
)
os.close(left)
print(child.pid, child.stdout.readline(), flush=True)
sys.stdin.read()
"""
SAY_AND_WAIT = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"


def test_the_process_becomes_the_program_and_ends_with_its_parent() -> None:
    ending, open_while_it_lives = os.pipe()
    command = [sys.executable, "-c", BETWEEN, str(open_while_it_lives), str(TETHER), sys.executable, "-c", SAY_AND_WAIT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[open_while_it_lives]
    ) as parent:
        os.close(open_while_it_lives)
        assert parent.stdout is not None
        tethered, program = map(int, parent.stdout.readline().split())
        assert tethered == program, "it keeps the id it was started with"
        parent.kill()
    with os.fdopen(ending, "rb") as pipe:
        assert pipe.read() == b"", "nobody holds the other end any more"


@pytest.mark.parametrize("has_handles", [True, False])
def test_what_a_program_has_started_ends_with_it(has_handles: bool) -> None:
    """Also where the system has no handle for a process, and the end is looked for."""
    script = "import os, runpy, sys; {}sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    run_tether = script.format("" if has_handles else "del os.pidfd_open; ")
    leaves = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])"
    with subprocess.Popen(
        [sys.executable, "-c", run_tether, str(TETHER), str(os.getpid()), "--group", sys.executable, "-c", leaves],
        stdout=subprocess.PIPE, start_new_session=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.wait() == 0
        assert program.stdout.read() == b"", "nobody holds the other end any more"


def test_a_program_that_does_not_exist_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), "/no/such/program"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 127
    assert done.stderr == "/no/such/program: No such file or directory\n"


def test_a_supervisor_that_is_gone_already_starts_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(TETHER), "1", sys.executable, "-c", "print('started')"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stdout == ""


def test_without_help_from_the_kernel_a_watcher_kills_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    rounds: list[float] = []

    def kill(pid: int, number: int) -> None:
        if number == 0 and len(rounds) < 2:
            return
        if number == 0:
            raise ProcessLookupError
        killed.append((pid, number))

    monkeypatch.setattr("os.getppid", lambda: 41)
    monkeypatch.setattr("os.kill", kill)
    watch(41, 40, pause=rounds.append)
    assert killed == [(41, signal.SIGKILL)]


def test_the_watcher_ends_with_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([41, 41, 1])
    monkeypatch.setattr("os.getppid", lambda: next(parents))
    monkeypatch.setattr("os.kill", lambda pid, number: None)
    rounds: list[float] = []
    watch(41, 40, pause=rounds.append)
    assert len(rounds) == 2
