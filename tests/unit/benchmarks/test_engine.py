from __future__ import annotations

import pytest

from a2a.engine.ledger import Ledger
from a2a.protocol.messages import AgentFilter, AgentFind, AgentFound
from benchmarks.engine import Engine
from benchmarks.report import BenchmarkError


def test_a_delegation_settles_and_is_paid_for() -> None:
    engine = Engine()
    worker, client = engine.join("worker", ["reverse"], tasks=64), engine.join("client#1")
    before = engine.spent.frames_in
    for number in range(100):
        engine.delegation(client, worker, number)
    assert [task.state for task in engine.coordinator.ledger.tasks.values()] == ["completed"] * 100
    spent = engine.spent
    assert spent.frames_in == before + 300
    assert spent.frames_out >= spent.frames_in
    assert min(spent.decoding, spent.stepping, spent.encoding) > 0


def test_the_records_are_all_there_are() -> None:
    engine = Engine()
    worker, client = engine.join("worker", ["reverse"], tasks=64), engine.join("client#1")
    engine.delegation(client, worker, 1)
    folded = Ledger(engine.coordinator.policy.namespace)
    for record in engine.records:
        folded.apply(record)
    assert folded.lsn == engine.coordinator.ledger.lsn


def test_a_task_that_is_not_offered_is_no_delegation() -> None:
    engine = Engine()
    worker, client = engine.join("worker", ["another"], tasks=64), engine.join("client#1")
    with pytest.raises(BenchmarkError, match="expected the task to be offered once, 0 offers came"):
        engine.delegation(client, worker, 1)


def test_who_is_not_welcomed_is_not_measured() -> None:
    engine = Engine()
    engine.join("worker", ["reverse"])
    with pytest.raises(BenchmarkError, match="did not welcome worker"):
        engine.join("worker", ["reverse"])


def test_the_cards_are_found_by_skill() -> None:
    engine = Engine()
    engine.join("one", ["a", "b"])
    engine.join("two", ["b"])
    client = engine.join("client#1")
    ((to, answer),) = engine.say(client, AgentFind(AgentFilter(skill="b")))
    assert isinstance(answer, AgentFound)
    assert (to, [agent.agent for agent in answer.agents]) == (client, ["one", "two"])
