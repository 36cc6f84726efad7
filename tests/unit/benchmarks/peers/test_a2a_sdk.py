from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import a2a_sdk
from benchmarks.processes import PROJECT


async def test_the_agent_keeps_its_tasks_on_the_disk_of_the_run(tmp_path: Path, started: Any) -> None:
    side = await a2a_sdk.start(started, tmp_path, Path("/venv"), "uvloop")
    agent, client = started.calls
    assert str(tmp_path / "a2a-sdk.db") in agent[1]
    assert agent[2]["program"] == client[2]["program"] == ("/venv/bin/python", "-I")
    assert (side.name, side.router, side.client) == ("a2a-sdk", "a2a-sdk", "a2a-sdk client")
    assert side.is_on_loop


def test_agent_and_client_do_without_this_project_s_package() -> None:
    """In their environment `a2a` is the SDK."""
    there = "import sys, types; sys.modules['a2a'] = types.ModuleType('a2a'); import benchmarks.peers.a2a_sdk"
    subprocess.run([sys.executable, "-c", there], check=True, cwd=PROJECT, timeout=60)
