"""Restarting a coordinator by somebody else's command."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

import pytest

from a2a.conformance.case import Failed
from a2a.conformance.program import free_port
from a2a.conformance.restarting import restarting

SERVER = """
import pathlib, socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listening.settimeout(20)
listening.accept()
pathlib.Path(sys.argv[2]).touch()
"""
"""Takes one connection, and is gone."""


async def test_somebody_listens_when_it_comes_back(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    os.mkfifo(tmp_path / "end")
    port = free_port()
    program = f"{shlex.quote(sys.executable)} '{tmp_path / 'server.py'}' {port} '{tmp_path / 'taken'}'"
    restart = restarting(f"echo lost; ({program}; echo > '{tmp_path / 'end'}') &", f"ws://127.0.0.1:{port}/path")
    async with asyncio.timeout(30):
        await restart()
        await asyncio.to_thread((tmp_path / "end").read_text)  # it has ended
    assert (tmp_path / "taken").exists(), "it came back before anybody listened"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("exit 3", "it ended with 3"),
        ("exec sleep 600", "to end within 0.2 s"),
        ("true", "expected a coordinator to listen at ws://127.0.0.1:"),
    ],
)
async def test_what_does_not_restart_fails_in_bounded_time(command: str, says: str) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(Failed, match=says):
            await restarting(command, f"ws://127.0.0.1:{free_port()}", within=0.2)()
