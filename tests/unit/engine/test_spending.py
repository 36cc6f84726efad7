"""What running attempts tell they have used so far."""

import pytest

from a2a.engine.spending import Spending


@pytest.fixture
def spending(town, offer):
    return town.coordinator.live.spending


@pytest.fixture
def offer(boss, worker):
    """Of a task with ten tokens and five steps."""
    boss.delegate(budget={"tokens": 10, "steps": 5})
    return worker.offer()


def test_the_newest_word_of_an_attempt_takes_the_place_of_its_last(town, worker, offer, spending):
    worker.beat(offer, usage={"tokens": 3, "steps": 1})
    worker.beat(offer, usage={"tokens": 5})
    task = town.task(offer.task)
    assert (spending.of(task, "tokens"), spending.of(task, "steps")) == (5, 1)


def test_kinds_without_a_budget_are_not_kept(worker, offer, spending):
    worker.beat(offer, usage={"costMicro": 7, "pages": 2})
    assert spending == Spending()


@pytest.mark.parametrize("end", ["report", "lapse", "cancel"])
def test_nothing_is_kept_of_an_attempt_that_has_ended(town, boss, worker, offer, spending, end):
    worker.beat(offer, usage={"tokens": 3})
    assert spending != Spending()
    if end == "report":
        worker.report(offer)
    elif end == "lapse":
        town.pass_time(3_000)
    else:
        boss.cancel(offer.task, "kill")
        town.pass_time(60_000)
    assert spending == Spending()


def test_a_heartbeat_that_brings_a_lapsed_attempt_back_counts(town, worker, offer, spending):
    worker.beat(offer, usage={"tokens": 3})
    town.pass_time(3_000)
    worker.beat(offer, usage={"tokens": 5})
    task = town.task(offer.task)
    assert task.holder == "w1"
    assert task.spent["tokens"] + spending.of(task, "tokens") == 5


def test_a_heartbeat_that_takes_up_an_offer_counts_whole(town, worker, offer, spending):
    worker.beat(offer, usage={"tokens": 3})
    worker.drop()
    town.pass_time(3_000)
    heir = town.worker("w2")
    heir.beat(heir.offer(), usage={"tokens": 4})
    task = town.task(offer.task)
    assert (task.holder, task.spent["tokens"], spending.of(task, "tokens")) == ("w2", 3, 4)
