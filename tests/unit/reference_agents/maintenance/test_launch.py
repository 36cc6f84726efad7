"""The launcher is run as what it is: a script beside a process that may die at any moment."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from reference_agents.maintenance.processes import LAUNCH

GUARD = [sys.executable, "-I", "-S", str(LAUNCH), "guard"]
NOISY = "import os, sys, time; os.write(int(sys.argv[1]), b'up'); time.sleep(600)"
"""Says that it is up, then stays: whoever reads its pipe sees the end only when it is gone."""


def read_all(pipe: int, seconds: float = 20.0) -> bytes:
    """Read until every process that holds the other end is gone."""
    said = b""
    while select.select([pipe], [], [], seconds)[0]:
        chunk = os.read(pipe, 4096)
        if not chunk:
            return said
        said += chunk
    raise AssertionError(f"somebody still holds the pipe after {seconds} s; it said {said!r}")


def run(*command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    with subprocess.Popen(
        [*GUARD, *options, "--", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
        code = process.wait(20)
    return subprocess.CompletedProcess(command, code, out, err)


def python(program: str, *, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    return run(sys.executable, "-I", "-S", "-c", program, options=options)


def test_the_exit_code_of_the_command_comes_through() -> None:
    assert python("import sys; print('hello'); sys.exit(7)").returncode == 7


def test_a_signal_that_ended_the_command_is_told_as_shells_do() -> None:
    assert python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)").returncode == 128 + signal.SIGTERM


def test_a_command_that_is_not_there_is_an_exit_code_and_a_sentence() -> None:
    done = run("/no/such/command")
    assert done.returncode == 127
    assert b"/no/such/command" in done.stderr


def test_a_separator_of_the_commands_own_is_left_to_it() -> None:
    done = run(sys.executable, "-I", "-S", "-c", "import sys; print(sys.argv)", "--", "--fix", "--")
    assert done.stdout == b"['-c', '--', '--fix', '--']\n"


def test_the_command_cannot_eat_the_lifeline() -> None:
    assert python("import sys; print(repr(sys.stdin.read()))").stdout == b"''\n"


def test_closing_the_lifeline_ends_the_command() -> None:
    ours, theirs = os.pipe()
    command = [*GUARD, "--", sys.executable, "-I", "-S", "-c", NOISY, str(theirs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs]) as guard:
        os.close(theirs)
        assert os.read(ours, 2) == b"up"
        assert guard.stdin is not None
        guard.stdin.close()
        assert read_all(ours) == b""
        assert guard.wait(20) == 130
    os.close(ours)


def test_what_the_command_left_in_the_background_ends_with_it_even_in_a_session_of_its_own() -> None:
    ours, theirs = os.pipe()
    leave = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-I', '-S', '-c', {NOISY!r}, sys.argv[1]], start_new_session=True,"
        " pass_fds=[int(sys.argv[1])])\n"
        "sys.stdin.read()\n"
    )
    command = [*GUARD, "--", sys.executable, "-I", "-S", "-c", leave, str(theirs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs]) as guard:
        os.close(theirs)
        assert guard.wait(20) == 0
        read_all(ours)
    os.close(ours)


def test_a_starter_that_is_killed_takes_the_command_with_it() -> None:
    ours, theirs = os.pipe()
    command = [*GUARD, "--", sys.executable, "-I", "-S", "-c", NOISY, str(theirs)]
    start = f"import subprocess; subprocess.Popen({command!r}, stdin=subprocess.PIPE, pass_fds=[{theirs}]).wait()"
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", start], pass_fds=[theirs]) as starter:
        os.close(theirs)
        assert os.read(ours, 2) == b"up"
        starter.kill()
        assert starter.wait(20) == -signal.SIGKILL
        assert read_all(ours) == b""
    os.close(ours)


def test_memory_has_a_limit() -> None:
    hungry = "try:\n    bytearray(2 * 1024**3)\nexcept MemoryError:\n    print('no more')"
    assert python(hungry, options=("--memory", str(1024**3))).stdout == b"no more\n"


def test_files_have_a_largest_size() -> None:
    greedy = (
        "import tempfile, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with tempfile.TemporaryFile() as file:\n"
        "    try:\n        file.write(b'x' * 100_000); file.flush()\n"
        "    except OSError as exc:\n        print(exc.errno); file.truncate(0)\n"
        "    file.raw.close()\n"
    )
    done = run(sys.executable, "-I", "-c", greedy, options=("--file-size", "4096"))
    assert done.stdout == b"27\n", done.stderr
