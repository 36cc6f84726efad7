"""The agenda: when each open task is looked at next."""

import pytest

from a2a.engine.agenda import Agenda
from a2a.protocol.messages import TaskLimits
from tests.unit.engine.recorded import delegated


@pytest.fixture
def tasks(keep, ledger):
    keep(*(delegated(f"main-{number}") for number in (1, 2)))
    return ledger.open_tasks


@pytest.fixture
def agenda():
    return Agenda()


def test_a_time_is_only_brought_forward(agenda, tasks):
    for due in (30, 40, 20):
        agenda.bring_forward(tasks["main-1"], due, tasks)
    assert (agenda.at("main-1"), agenda.next()) == (20, 20)
    assert agenda.pop(19) is None
    assert agenda.pop(20) == "main-1"
    assert (agenda.at("main-1"), agenda.next(), agenda.pop(100)) == (None, None, None)


def test_whoever_has_a_new_time_is_looked_at_then_and_not_at_an_older_one(agenda, tasks):
    agenda.bring_forward(tasks["main-1"], 30, tasks)
    agenda.bring_forward(tasks["main-1"], 20, tasks)
    assert agenda.pop(20) == "main-1"
    agenda.bring_forward(tasks["main-1"], 40, tasks)
    assert agenda.pop(30) is None
    assert agenda.pop(40) == "main-1"


def test_of_those_due_together_the_one_that_came_first_is_first(agenda, tasks):
    for task in reversed(tasks.values()):
        agenda.bring_forward(task, 20, tasks)
    assert [agenda.pop(20), agenda.pop(20)] == ["main-1", "main-2"]


def test_timers_of_what_has_ended_do_not_pile_up(town):
    boss = town.join("boss")
    town.worker("w1", tasks=2_000, frames=4_000)
    for number in range(1_200):
        boss.delegate(str(number), limits=TaskLimits(deadline_ms=10**9))
    for task in list(town.ledger.open_tasks)[:1_100]:
        boss.cancel(task, "skip")
    boss.delegate("last", limits=TaskLimits(deadline_ms=10**8))
    assert len(town.coordinator._agenda) < 2 * len(town.ledger.open_tasks)
    town.pass_time(10**9)
    assert not town.ledger.open_tasks
