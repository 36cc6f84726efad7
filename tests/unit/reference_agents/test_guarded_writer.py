"""The writer whose file nobody ruins; tests/process has the one that was stopped in the middle."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from a2a import FileGuard, TaskFailed
from a2a.testing import squad
from reference_agents.guarded_writer import agent

BOUND = 20


async def test_it_writes_under_a_claim_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    with anyio.fail_after(BOUND):
        async with squad(agent) as running, anyio.create_task_group() as group:
            for number in range(3):
                order = {"path": str(path), "text": f"text {number}"}
                group.start_soon(running.client.call, "write_report", order)
    written = path.read_text()
    assert written in {f"text {number} (attempt 1)\n" for number in range(3)}
    assert FileGuard(path).fences.seen() > 0


async def test_it_is_turned_away_by_a_file_that_has_seen_a_newer_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.txt"
    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            FileGuard(path).write("mine", 1_000_000)
            order = {"path": str(path), "text": "theirs"}
            async with running.client.delegate("write_report", order, attempts=1) as task:
                with pytest.raises(TaskFailed):
                    await task.result()
            error = (await running.client.get(task.id))["metadata"]["error"]
            assert (error["code"], error["retryable"]) == ("claim_lost", True)
            assert "has seen fence 1000000" in error["detail"]
    assert path.read_text() == "mine"
