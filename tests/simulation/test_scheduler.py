"""Worlds that Hypothesis schedules: each fault at its time, written down, so that a failure shrinks to a small world.

A world is a seed and a plan. Shrinking drops strikes, manners, agents, clients and tasks one by one as long as the
world still fails, and moves what is left to the front; what it prints is `run_seed(seed, Plan(...))`, which tells its
story with `trace=True`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from a2a.engine import registry

from .faults import FAULTS, Strike
from .plan import MANNERS, Plan
from .run import run_seed

EXAMPLES = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The same worlds in every run: new ones are what `python -m tests.simulation` is for."""


def strikes(size: int) -> st.SearchStrategy[tuple[Strike, ...]]:
    strike = st.builds(
        Strike, at=st.integers(0, 60_000), fault=st.sampled_from(tuple(FAULTS)), chance=st.integers(0, 1_000)
    )
    return st.lists(strike, max_size=size).map(lambda drawn: tuple(sorted(drawn, key=lambda strike: strike.at)))


def plans(size: int = 8) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        strikes=strikes(size),
        manners=st.frozensets(st.sampled_from(MANNERS), max_size=size),
        agents=st.integers(1, 4),
        clients=st.integers(1, 3),
        tasks=st.integers(1, size),
    )


@given(seed=st.integers(0, 1_000), plan=plans())
@EXAMPLES
def test_scheduled_worlds_keep_every_property(seed: int, plan: Plan) -> None:
    outcome = run_seed(seed, plan)
    assert outcome.failure is None, f"run_seed({seed}, {plan}, trace=True): {outcome.failure}"


@pytest.mark.timeout(600)  # hundreds of worlds: seconds of a core, and minutes on a busy machine
@pytest.mark.long
def test_a_failing_world_shrinks_to_a_fault_or_two_and_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted bug: an agent that comes back as another process goes on holding what it does not have any more.
    monkeypatch.setattr(registry, "_held", lambda world, message, now: ([], []))
    # Where people quarrel, agents are started once more by themselves, and it takes no fault.
    peaceful = plans(size=4).map(lambda plan: replace(plan, quarrels=False))
    worlds = st.tuples(st.integers(0, 9), peaceful)
    settled = settings(EXAMPLES, max_examples=1_000, phases=[Phase.generate, Phase.shrink])
    seed, plan = find(worlds, lambda world: run_seed(*world).failure is not None, settings=settled)
    assert "HELLO-7" in (run_seed(seed, plan).failure or "")
    assert plan.strikes is not None and len(plan.strikes) <= 2
    assert any(strike.fault.startswith("agent_") for strike in plan.strikes)
    assert (plan.clients, plan.tasks, plan.manners) == (1, 1, frozenset())
