from __future__ import annotations

from typing import Any

import pytest

from a2a import LeaseLapsed
from reference_agents import delegating
from reference_agents.delegating import LOSSES_MAX, TIMERS, delegated


async def test_an_outage_of_the_coordinator_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegating, "LOOK_AGAIN", 0.0)
    away = [LeaseLapsed("away"), LeaseLapsed("away")]

    class Task:
        def delegate(self, skill: str, given: Any, key: str, **options: Any) -> Any:
            if away:
                raise away.pop()
            return skill, given, key, options

    child: Any = await delegated(Task(), "work", {"plan": 1}, "key", losses=1, to="worker")  # type: ignore[arg-type]
    assert child == ("work", {"plan": 1}, "key", {"timers": TIMERS, "losses": 1, "to": "worker"})
    assert LOSSES_MAX > 3, "more often than the coordinator would by itself"
