"""The program under test, where the suite starts it."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
from pathlib import Path

import pytest

from a2a.conformance import program as module
from a2a.conformance.case import Failed
from a2a.conformance.program import PORTS, Program, free_port

BOUND = 30
PYTHON = shlex.quote(sys.executable)

LISTENS = """
import os, pathlib, socket, sys, time
state, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with (state / "starts").open("a") as starts:
    print(os.getpid(), os.environ["A2A_STATE_DIR"], os.environ["A2A_URL"], file=starts)
listening = socket.create_server(("127.0.0.1", port))
time.sleep(600)
"""
DEAF = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(pathlib.Path(sys.argv[1]) / "deaf").touch()
time.sleep(600)
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def listens(tmp_path: Path) -> str:
    (tmp_path / "listens.py").write_text(LISTENS)
    return f"{PYTHON} '{tmp_path / 'listens.py'}' {{state}} {{port}}"


async def test_a_program_is_killed_and_started_again_on_its_state(listens: str) -> None:
    port, url = free_port(), "ws://127.0.0.1:1"
    async with asyncio.timeout(BOUND), Program(listens, port=port, url=url) as program:
        state = program.state
        assert not program.is_running
        await program.start()
        await program.listening(port)
        assert program.is_running
        await program.kill()
        assert not program.is_running
        assert await program.exited() == -9
        await program.start()
        await program.listening(port)
        starts = [line.split() for line in (state / "starts").read_text().splitlines()]
    assert [start[1:] for start in starts] == [[str(state), url]] * 2
    assert not any(is_there(int(start[0])) for start in starts)
    assert not state.exists(), "nothing is left behind"


def test_a_free_port_is_none_that_a_system_hands_out_to_whoever_asks_for_any() -> None:
    port = free_port()
    assert port in PORTS
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", port))
        other.bind(("127.0.0.1", 0))
        assert other.getsockname()[1] not in PORTS


def test_ports_that_are_taken_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        mine = taken.getsockname()[1]
        monkeypatch.setattr(module, "PORTS", [mine] * 100)
        with pytest.raises(OSError, match="expected a free port"):
            free_port()


def test_placeholders_are_filled_in_and_nothing_else() -> None:
    program = Program("x", port=7, url="ws://127.0.0.1:7")
    assert program.filled("{port} {url} {other} {") == "7 ws://127.0.0.1:7 {other} {"
    assert program.filled("{state}/token") == f"{program.state}/token"


async def test_a_program_that_ends_tells_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys; print('no port for me'); sys.exit(3)")
    async with asyncio.timeout(BOUND), Program(f"{PYTHON} '{tmp_path / 'ends.py'}'") as program:
        await program.start()
        with pytest.raises(Failed, match="it ended with exit code 3: no port for me"):
            await program.listening(free_port())
        assert await program.exited() == 3
        assert program.output() == "no port for me\n"


async def test_what_does_not_come_fails_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    async with asyncio.timeout(BOUND), Program("sleep 600") as program:
        await program.start()
        with pytest.raises(Failed, match=r"port \d+ within 0.1 s; it runs: it has written nothing$"):
            await program.listening(free_port())
        with pytest.raises(Failed, match="to end within 0.1 s"):
            await program.exited(within=0.1)


async def test_a_program_that_is_not_there_fails() -> None:
    async with Program("/no/such/program --port {port}") as program:
        with pytest.raises(Failed, match="/no/such/program: No such file or directory"):
            await program.start()


async def test_a_program_is_asked_to_end_and_not_waited_for(listens: str) -> None:
    port = free_port()
    async with asyncio.timeout(BOUND), Program(listens, port=port) as program:
        await program.start()
        await program.listening(port)
        program.ask_to_end()
        assert program.is_running
        assert await program.exited() == -15
        program.ask_to_end()


async def test_a_program_that_does_not_listen_to_signals_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    (tmp_path / "deaf.py").write_text(DEAF)
    async with asyncio.timeout(BOUND), Program(f"{PYTHON} '{tmp_path / 'deaf.py'}' {{state}}") as program:
        await program.start()
        while not (program.state / "deaf").exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.01)
        await program.stop()
        assert not program.is_running
        assert await program.exited() == -9


async def test_the_end_of_a_program_is_told_with_its_last_line_alone() -> None:
    async with Program(f"{PYTHON} -c 'print(1); print(2 * 200 * chr(120)); exit(3)'") as program:
        assert await program.trouble() == "", "it has not been started"
        await program.start()
        await program.exited(within=BOUND)
        assert await program.trouble() == f"ended with exit code 3: {200 * 'x'}"
    async with Program(f"{PYTHON} -c 'import time; time.sleep(600)'") as program:
        await program.start()
        assert await program.trouble() == "", "it runs"
        await program.kill()
        assert await program.trouble() == "died of signal 9: it has written nothing"
