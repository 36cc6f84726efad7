"""The agenda: what has to be looked at next, and when."""

import pytest

from a2a.engine.agenda import Agenda
from a2a.protocol.messages import TaskLimits


@pytest.fixture
def agenda():
    return Agenda[str]()


def test_what_is_due_first_comes_first_and_once(agenda):
    agenda.set("a", 20, 1)
    agenda.set("b", 10, 2)
    assert agenda.next() == 10
    assert agenda.pop(9) is None
    assert (agenda.pop(30), agenda.pop(30), agenda.pop(30)) == ("b", "a", None)


def test_of_those_due_together_the_one_with_the_lowest_place_is_first(agenda):
    agenda.set("a", 10, 7)
    agenda.set("b", 10, 3)
    assert [agenda.pop(10), agenda.pop(10)] == ["b", "a"]


def test_a_time_is_moved_and_taken_back(agenda):
    agenda.set("a", 10, 1)
    agenda.set("a", 30, 1)
    assert (agenda.at("a"), agenda.next(), agenda.pop(29)) == (30, 30, None)
    agenda.set("a", None, 1)
    assert (agenda.at("a"), agenda.next()) == (None, None)


def test_a_time_can_only_be_brought_forward(agenda):
    for due in (30, 40, 20):
        agenda.bring_forward("a", due, 1)
    assert (agenda.at("a"), agenda.next()) == (20, 20)
    assert (agenda.pop(20), agenda.next()) == ("a", None), "it is looked at once"


def test_what_has_a_new_time_is_looked_at_then_and_not_at_an_older_one(agenda):
    agenda.bring_forward("a", 30, 1)
    agenda.bring_forward("a", 20, 1)
    assert agenda.pop(20) == "a"
    agenda.bring_forward("a", 40, 1)
    assert agenda.pop(30) is None
    assert agenda.pop(40) == "a"


def test_what_was_moved_does_not_pile_up(agenda):
    agenda.set("a", 1, 1)
    for due in range(10_000, 20_000):
        agenda.set("b", due, 2)
    assert len(agenda) < 2_000
    assert [agenda.pop(20_000), agenda.pop(20_000), agenda.pop(20_000)] == ["a", "b", None]


def test_times_of_tasks_that_have_ended_do_not_pile_up(town):
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
