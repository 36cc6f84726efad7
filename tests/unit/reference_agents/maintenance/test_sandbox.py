from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reference_agents.maintenance import sandbox as module
from reference_agents.maintenance.launch import SCRATCH
from reference_agents.maintenance.processes import Finished, Limits
from reference_agents.maintenance.sandbox import NAMESPACES, Sandbox, detect, foreign_environment, run_foreign

PYTHON = [sys.executable, "-I", "-c"]
LIMITS = Limits(seconds=30.0, memory=1024**3, file_size=1024**2)


@pytest.fixture
def real(sandbox: Sandbox) -> Sandbox:
    if sandbox.kind == "none":
        pytest.skip("this machine has no sandbox")
    return sandbox


@pytest.fixture
def outside() -> Iterator[str]:
    """A folder that this test may write to, and that is not one of those every program may write to."""
    for folder in (Path(__file__).parent, Path.home(), Path("/var/lib")):
        if not any(folder.resolve().is_relative_to(scratch) for scratch in SCRATCH) and os.access(folder, os.W_OK):
            with tempfile.TemporaryDirectory(dir=folder) as made:
                yield made
            return
    pytest.skip("all that can be written to here is scratch space")


async def confined(sandbox: Sandbox, program: str, folder: Path, *arguments: str) -> Finished:
    env = foreign_environment(sys.executable, folder, [])
    command = [*PYTHON, program, *arguments]
    return await run_foreign(sandbox, command, cwd=folder, writable=[folder], env=env, limits=LIMITS)


def test_where_a_program_can_have_mounts_of_its_own_it_gets_them(sandbox: Sandbox) -> None:
    """Without this the next tests would be skipped, and nobody would see that the protection is gone."""
    if shutil.which("unshare") is None:
        pytest.skip("this machine has no unshare")
    command = ["unshare", *NAMESPACES[0], "--", "mount", "-t", "tmpfs", "none", "/tmp"]
    if subprocess.run(command, capture_output=True, timeout=LIMITS.seconds, check=False).returncode != 0:
        pytest.skip("this machine gives nobody mounts of his own")
    assert sandbox.options == NAMESPACES[0]


async def test_there_is_no_network_but_loopback(real: Sandbox, tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=5)\n"
        "except OSError as exc:\n    print(type(exc).__name__, exc.errno)\n"
        "here = socket.create_server(('127.0.0.1', 0)); socket.create_connection(here.getsockname()); print('local')\n"
    )
    done = await confined(real, program, tmp_path)
    assert done.out.decode().splitlines() == ["['lo']", "OSError 101", "local"], done.text


async def test_only_the_named_folders_can_be_written_to(real: Sandbox, tmp_path: Path, outside: str) -> None:
    if "--mount" not in real.options and real.kind == "namespaces":
        pytest.skip("this machine's sandbox cannot protect files")
    program = (
        "import pathlib, sys\n"
        "for folder in sys.argv[1:]:\n"
        "    try:\n        (pathlib.Path(folder) / 'written').write_text('x'); print('yes')\n"
        "    except OSError as exc:\n        print(exc.strerror)\n"
    )
    done = await confined(real, program, tmp_path, str(tmp_path), outside)
    assert done.out.decode().splitlines() == ["yes", "Read-only file system"], done.text
    assert not (Path(outside) / "written").exists()


@pytest.mark.parametrize("scratch", SCRATCH)
async def test_scratch_space_is_its_own_and_goes_with_it(real: Sandbox, tmp_path: Path, scratch: str) -> None:
    if "--mount" not in real.options and real.kind == "namespaces":
        pytest.skip("this machine's sandbox cannot protect files")
    if not os.access(scratch, os.W_OK):
        pytest.skip(f"there is no {scratch} here")
    with tempfile.NamedTemporaryFile(dir=scratch) as ours:
        program = (
            "import pathlib, sys\n"
            "ours = pathlib.Path(sys.argv[1])\n"
            "print(ours.exists())\n"
            "theirs = ours.with_suffix('.theirs'); theirs.write_text('x'); print(theirs.exists())\n"
        )
        done = await confined(real, program, tmp_path, ours.name)
        assert done.out.decode().splitlines() == ["False", "True"], done.text
        assert not Path(ours.name).with_suffix(".theirs").exists()


async def test_what_it_sees_in_scratch_space_it_can_only_read(real: Sandbox, tmp_path: Path) -> None:
    if "--mount" not in real.options and real.kind == "namespaces":
        pytest.skip("this machine's sandbox cannot protect files")
    with tempfile.TemporaryDirectory(dir="/tmp") as seen, tempfile.TemporaryDirectory(dir=seen) as inner:
        (Path(seen) / "file").write_text("read me")
        program = (
            "import pathlib, sys\n"
            "print((pathlib.Path(sys.argv[1]) / 'file').read_text())\n"
            "for folder in sys.argv[1:]:\n"
            "    try:\n        (pathlib.Path(folder) / 'written').write_text('x'); print('yes')\n"
            "    except OSError as exc:\n        print(exc.strerror)\n"
        )
        command = [*PYTHON, program, seen, inner]
        env = foreign_environment(sys.executable, inner, [])
        sandbox = replace(real, sees=(seen,))
        done = await run_foreign(sandbox, command, cwd=seen, writable=[inner], env=env, limits=LIMITS)
        assert done.out.decode().splitlines() == ["read me", "Read-only file system", "yes"], done.text
        assert (Path(inner) / "written").exists()


async def test_the_protection_cannot_be_taken_off_from_inside(real: Sandbox, tmp_path: Path, outside: str) -> None:
    if "--mount" not in real.options:
        pytest.skip("this machine's sandbox cannot protect files")
    program = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.mount(b'none', b'/', None, 0x20 | 0x1000, None) != 0)\n"  # remount, bind, without read-only
        "try:\n    open(sys.argv[1] + '/written', 'w')\nexcept OSError:\n    print('still')\n"
    )
    done = await confined(real, program, tmp_path, outside)
    assert done.out.decode().splitlines() == ["True", "still"], done.text


async def test_memory_is_limited(real: Sandbox, tmp_path: Path) -> None:
    done = await confined(real, "try:\n    bytearray(2**31)\nexcept MemoryError:\n    print('no more')", tmp_path)
    assert done.out == b"no more\n"


async def test_nothing_is_left_running(real: Sandbox, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ours = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    stay = (
        f"import time; held = open({str(pipe)!r}, 'w'); held.write('up'); held.flush()\n"
        "print(flush=True); time.sleep(600)"
    )
    program = (
        "import subprocess, sys\n"
        f"left = subprocess.Popen([sys.executable, '-c', {stay!r}], start_new_session=True, stdout=subprocess.PIPE)\n"
        "left.stdout.readline()\n"
    )
    done = await confined(real, program, tmp_path)
    assert done.code == 0, done.text
    assert os.read(ours, 2) == b"up"
    assert os.read(ours, 1) == b"", "nobody holds the other end any more"
    os.close(ours)


async def test_a_machine_without_a_sandbox_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert (await detect(tmp_path)).kind == "none"


async def test_a_sandbox_that_lets_the_network_through_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaky = Finished(3, b"", b"", timed_out=False, seconds=0.1)

    async def run(*_: object, **__: object) -> Finished:
        return leaky

    monkeypatch.setattr(module, "run_foreign", run)
    assert (await detect(tmp_path)).kind == "none"


def test_bubblewrap_is_told_to_share_nothing_and_to_die_with_us(tmp_path: Path) -> None:
    line = Sandbox("bubblewrap").command(["pytest"], [tmp_path], LIMITS)
    assert line[0] == "bwrap"
    assert {"--unshare-all", "--die-with-parent"} <= set(line)
    tmp = line.index("--tmpfs")
    assert [line[tmp + 2 * number + 1] for number in range(len(SCRATCH))] == list(SCRATCH)
    assert tmp < line.index("--ro-bind-try") < line.index("--bind"), "what is to be seen lies on top of it"
    at = line.index("--bind")
    assert line[at + 1 : at + 3] == [str(tmp_path), str(tmp_path)]
    assert line[-1] == "pytest"


def test_without_a_sandbox_the_limits_still_hold() -> None:
    line = Sandbox("none").command(["pytest"], [], LIMITS)
    assert f"--memory={LIMITS.memory}" in line


def test_foreign_code_sees_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_python: list[str]
) -> None:
    monkeypatch.setenv("A2A_TOKEN", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "somewhere")
    environment = foreign_environment(isolated_python[0], tmp_path, [tmp_path / "src", tmp_path])
    assert "secret" not in environment.values()
    assert "HTTPS_PROXY" not in environment
    assert environment["HOME"] == str(tmp_path)
    assert environment["PYTHONPATH"] == f"{tmp_path / 'src'}{os.pathsep}{tmp_path}"


def test_every_kind_of_sandbox_keeps_the_commands_words_apart() -> None:
    words = ["python", "-c", "print('; rm -rf $HOME')"]
    makers: list[Callable[[], Sandbox]] = [
        lambda: Sandbox("none"), lambda: Sandbox("bubblewrap"), lambda: Sandbox("namespaces", ("--net",))
    ]  # fmt: skip
    for make in makers:
        assert make().command(words, [], LIMITS)[-3:] == words
