"""What a task and all below it may use."""

import pytest

from a2a.engine.records import Evicted, Settled
from a2a.errors import ErrorCode
from a2a.protocol.messages import Held, TaskDelegate, TaskYield


@pytest.fixture
def boss(town):
    return town.join("boss")


@pytest.fixture
def lead(town):
    return town.worker("lead", "lead")


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=3)


@pytest.fixture
def plan(boss, lead):
    """A task with ten tokens, held by the lead."""
    boss.delegate("plan", "lead", budget={"tokens": 10})
    return lead.offer()


def part(offer, key, **budget):
    return TaskDelegate(key, {"skill": "echo"}, budget=budget or None, parent=Held(offer.task, offer.fence))


def test_a_sub_tasks_budget_is_taken_out_of_its_parents(town, lead, plan):
    lead.say(part(plan, "1", tokens=6))
    assert town.task(plan.task).reserved == {"tokens": 6}
    answer = lead.say(part(plan, "2", tokens=5))
    assert (answer.code, answer.data) == (ErrorCode.BUDGET, {"task": plan.task, "kind": "tokens", "left": 4})
    assert lead.say(part(plan, "2", tokens=4)).created


def test_what_a_sub_task_did_not_use_is_there_again_when_it_has_ended(town, lead, worker, plan):
    lead.say(part(plan, "1", tokens=6))
    offer = worker.offer()
    worker.report(offer, usage={"tokens": 2})
    lead.confirm(lead.mail()[-1])
    task = town.task(plan.task)
    assert (task.reserved, task.spent) == ({"tokens": 0}, {"tokens": 2})


def test_a_sub_task_without_a_budget_shares_its_parents(town, lead, worker, plan):
    lead.say(part(plan, "1"))
    worker.beat(worker.offer(), usage={"tokens": 3})
    assert town.task(plan.task).spent == {}, "what a running attempt tells is no history"
    offer = town.task(plan.task).children[0]
    worker.say(TaskYield(offer, town.task(offer).authority.fence, usage={"tokens": 9}))
    assert town.task(plan.task).spent == {"tokens": 9}


def test_each_attempt_is_counted_once_with_the_most_it_told(town, boss):
    worker = town.worker("w1")
    task = boss.delegate(budget={"tokens": 100})
    offer = worker.offer()
    worker.beat(offer, usage={"tokens": 5})
    town.pass_time(3_000)
    assert town.task(task).spent == {"tokens": 5}, "a lease that lapsed is charged as far as it was heard"
    worker.report(offer, usage={"tokens": 8})
    assert town.task(task).spent == {"tokens": 8}
    worker.report(offer, payload=b'["other"]', usage={"tokens": 9})
    assert town.task(task).spent == {"tokens": 9}, "a late report is charged too"


def test_a_worker_is_warned_and_then_stopped(town, boss):
    worker = town.worker("w1")
    task = boss.delegate(budget={"steps": 10})
    offer = worker.offer()
    assert worker.beat(offer, usage={"steps": 7}).directives == []
    assert worker.beat(offer, usage={"steps": 8}).directives == ["budget_low"]
    worker.beat(offer, usage={"steps": 10})
    assert town.said(Evicted) == [Evicted(town.now, task, offer.fence, "budget", town.now + 2_000)]
    worker.say(TaskYield(task, offer.fence, usage={"steps": 10}))
    assert town.said(Settled)[-1].reason == "budget"


def test_the_number_and_the_depth_of_sub_tasks_are_bounded(town, boss, lead):
    boss.delegate("plan", "lead", budget={"children": 1})
    offer = lead.offer()
    assert lead.say(part(offer, "1")).created
    assert lead.refused(part(offer, "2")) == ErrorCode.BUDGET
    lead.report(offer)
    boss.delegate("flat", "lead", budget={"depth": 0})
    assert lead.refused(part(lead.offer(), "1")) == ErrorCode.BUDGET
