"""A short run of `make chaos`: every kind of process is killed once, under load, and one is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import chaos
from tests.chaos.plan import Fault, draw
from tests.chaos.work import LEASE, TASKS_IN_TREE

PLAN = [
    Fault(2, "kill", "agent/1"),
    Fault(2, "stop", "agent/2", 1.2 * LEASE),
    Fault(2, "kill", "client"),
    Fault(2, "kill", "coordinator"),
]


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_whoever_is_killed_or_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    found, running = await chaos(tmp_path, PLAN, agents=2, rate=50)
    assert found.wrong() == []
    assert found.roots == len(running.book.values) >= 2 * len(PLAN)
    assert found.tasks == TASKS_IN_TREE * found.roots
    assert len(running.starts) == 2
    assert len(found.recoveries) == 1


def test_the_same_seed_is_the_same_plan() -> None:
    names = ["agent/1", "agent/2"]
    plan = draw(3, 60, names)
    assert plan == draw(3, 60, names) != draw(4, 60, names)
    assert {fault.target for fault in plan} == {"coordinator", "client", *names}
    assert {fault.kind for fault in plan} == {"kill", "stop"}
    assert all(fault.seconds > LEASE for fault in plan if fault.kind == "stop")
