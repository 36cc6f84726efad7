from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import a2a_sdk


async def test_the_agent_keeps_its_tasks_on_the_disk_of_the_run(tmp_path: Path, started: Any) -> None:
    side = await a2a_sdk.start(started, tmp_path, Path("/venv"), "uvloop")
    agent, client = started.calls
    assert str(tmp_path / "a2a-sdk.db") in agent[1]
    assert agent[2]["program"] == client[2]["program"] == ("/venv/bin/python", "-I")
    assert (side.name, side.router, side.client) == ("a2a-sdk", "a2a-sdk", "a2a-sdk client")
    assert side.is_on_loop
