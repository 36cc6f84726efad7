"""What a task and all below it may use."""

import pytest

from a2a.engine.budget import most
from a2a.engine.records import Asked, Evicted, Offered, Settled
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AttemptError,
    Bye,
    Credit,
    Held,
    TaskAsk,
    TaskCancel,
    TaskDecline,
    TaskDelegate,
    TaskHandoff,
    TaskLimits,
    TaskYield,
)


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


# Usage is counted once for each attempt -------------------------------------------------------------------------------


@pytest.fixture
def pot(boss, worker):
    """A task with a hundred tokens, held by w1, that told of seven."""
    boss.delegate(budget={"tokens": 100})
    offer = worker.offer()
    worker.beat(offer, usage={"tokens": 7})
    return offer


def reports(worker, offer, usage):
    worker.report(offer, usage=usage)


def fails(worker, offer, usage):
    worker.report(offer, "failed", error=AttemptError("e", "", True), usage=usage)


def yields(worker, offer, usage):
    worker.say(TaskYield(offer.task, offer.fence, usage=usage))


def hands_on(worker, offer, usage):
    worker.town.worker("w2", tasks=0)
    worker.say(TaskHandoff(offer.task, offer.fence, "w2", usage=usage))


@pytest.mark.parametrize("ends", [reports, fails, yields, hands_on])
@pytest.mark.parametrize(
    ("last_word", "counted"),
    [({"tokens": 9}, 9), ({"tokens": 3}, 7), ({"steps": 2}, 7), (None, 7)],
)
def test_an_attempt_is_counted_with_the_most_it_told(town, worker, pot, ends, last_word, counted):
    ends(worker, pot, last_word)
    assert town.task(pot.task).spent["tokens"] == counted
    assert town.task(pot.task).attempts[pot.fence].usage["tokens"] == counted
    ends(worker, pot, last_word)
    assert town.task(pot.task).spent["tokens"] == counted, "a repeat is not counted again"


def leaves(town, boss, worker, offer):
    worker.say(Bye(drain=True))


def declines(town, boss, worker, offer):
    worker.say(TaskDecline(offer.task, offer.fence))


def asks_cold(town, boss, worker, offer):
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence, hold="cold"))


def lapses(town, boss, worker, offer):
    town.pass_time(3_000)


def is_canceled_at_once(town, boss, worker, offer):
    boss.cancel(offer.task, "skip")


def is_canceled_and_not_heard_again(town, boss, worker, offer):
    boss.cancel(offer.task, grace_ms=100)
    town.pass_time(100)


def is_killed_and_reports(town, boss, worker, offer):
    boss.cancel(offer.task, "kill")
    assert worker.report(offer) == "late"


@pytest.mark.parametrize(
    "ends",
    [leaves, declines, asks_cold, lapses, is_canceled_at_once, is_canceled_and_not_heard_again, is_killed_and_reports],
)
def test_what_was_heard_is_counted_however_an_attempt_ends(town, boss, worker, pot, ends):
    ends(town, boss, worker, pot)
    assert town.task(pot.task).spent == {"tokens": 7}


def test_a_deadline_charges_what_was_heard(town, boss, worker):
    task = boss.delegate(limits=TaskLimits(deadline_ms=500))
    worker.beat(worker.offer(), usage={"tokens": 2, "watts": 4})
    town.pass_time(500)
    assert (town.task(task).spent, town.task(task).attempts[town.task(task).authority.fence].usage) == (
        {"tokens": 2},
        {"tokens": 2, "watts": 4},
    )


def test_an_open_question_is_not_the_end_of_an_attempt(town, worker, pot):
    worker.say(TaskAsk(pot.task, 1, b"[]", pot.fence))
    assert (town.task(pot.task).spent, town.said(Asked)[0].usage) == ({}, None)
    worker.say(TaskYield(pot.task, pot.fence, usage={"tokens": 8}))
    assert town.task(pot.task).spent == {"tokens": 8}


def test_what_is_given_back_while_canceling_is_charged(town, boss, worker, pot):
    boss.cancel(pot.task)
    worker.say(TaskYield(pot.task, pot.fence, usage={"tokens": 8}))
    assert (str(town.task(pot.task).state), town.task(pot.task).spent) == ("canceled", {"tokens": 8})


def test_a_report_after_a_kill_is_charged(town, boss, worker, pot):
    boss.cancel(pot.task, "kill")
    assert worker.report(pot, usage={"tokens": 12}) == "late"
    assert town.task(pot.task).spent == {"tokens": 12}


def test_the_next_attempt_is_counted_beside_the_one_before(town, boss, worker, pot):
    town.pass_time(3_000)
    again = worker.offer()
    worker.accept(again)
    worker.report(again, usage={"tokens": 5})
    assert town.task(pot.task).spent == {"tokens": 12}
    worker.report(pot, usage={"tokens": 10})
    assert town.task(pot.task).spent == {"tokens": 15}, "a stale report is charged with what it tells more"


def test_a_report_of_somebody_elses_attempt_charges_nobody(town, worker, pot):
    other = town.worker("w2", tasks=0)
    assert other.report(pot, usage={"tokens": 50}) == "not_holder"
    assert town.task(pot.task).spent == {}


def test_an_older_heartbeat_that_comes_late_takes_nothing_back(town, worker, pot):
    worker.beat(pot, usage={"tokens": 3})
    worker.beat(pot, usage={"steps": 1})
    town.pass_time(3_000)
    assert town.task(pot.task).spent == {"tokens": 7, "steps": 1}


# Trees ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def line(town, boss):
    """Make a line of three tasks with these budgets, each held by an agent of its own; return peers and offers."""

    def make(*budgets, **fields):
        peers, offers, parent, owner = [], [], None, boss
        for level, budget in enumerate(budgets):
            peer = town.worker(f"l{level}", f"s{level}")
            answer = owner.say(
                TaskDelegate("k", {"skill": f"s{level}"}, budget=budget, parent=parent, **(fields if parent else {}))
            )
            assert answer.created
            offers.append(peer.offer())
            peer.beat(offers[-1])
            parent, owner = Held(offers[-1].task, offers[-1].fence), peer
            peers.append(peer)
        return peers, offers

    return make


def spent(town, offers):
    return [town.task(offer.task).spent.get("tokens", 0) for offer in offers]


def reserved(town, offers):
    return [town.task(offer.task).reserved.get("tokens", 0) for offer in offers]


def test_what_is_used_below_is_counted_above_at_its_end(town, boss, line):
    peers, offers = line({"tokens": 100}, {"tokens": 50}, {"tokens": 20})
    assert (reserved(town, offers), spent(town, offers)) == ([50, 20, 0], [0, 0, 0])
    peers[2].report(offers[2], usage={"tokens": 9})
    assert (reserved(town, offers), spent(town, offers)) == ([50, 20, 0], [0, 0, 9])
    peers[1].confirm(peers[1].mail()[-1])
    assert (reserved(town, offers), spent(town, offers)) == ([50, 0, 0], [0, 9, 9])
    peers[1].report(offers[1], usage={"tokens": 4})
    peers[0].confirm(peers[0].mail()[-1])
    assert (reserved(town, offers), spent(town, offers)) == ([0, 0, 0], [13, 13, 9])
    peers[0].report(offers[0], usage={"tokens": 2})
    boss.confirm(boss.mail()[-1])
    assert spent(town, offers) == [15, 13, 9]


def test_a_parent_that_ends_before_its_sub_task_is_charged_for_it_later_and_once(town, line):
    peers, offers = line({"tokens": 100}, {"tokens": 50}, {"tokens": 20}, on_parent_end="detach")
    peers[1].report(offers[1], usage={"tokens": 4})
    peers[0].confirm(peers[0].mail()[-1])
    assert (reserved(town, offers), spent(town, offers)) == ([0, 20, 0], [4, 4, 0])
    peers[2].report(offers[2], usage={"tokens": 9})
    peers[1].confirm(peers[1].mail()[-1])
    assert (reserved(town, offers), spent(town, offers)) == ([0, 0, 0], [13, 13, 9])


def test_a_report_after_the_end_is_counted_all_the_way_up(town, line):
    peers, offers = line({"tokens": 100}, {"tokens": 50}, {"tokens": 20})
    peers[0].cancel(offers[1].task, "skip")
    peers[2].say(TaskYield(offers[2].task, offers[2].fence, usage={"tokens": 6}))
    assert (reserved(town, offers), spent(town, offers)) == ([0, 0, 0], [6, 6, 6])
    assert peers[2].report(offers[2], usage={"tokens": 8}) == "late"
    assert peers[1].report(offers[1], usage={"tokens": 3}) == "late"
    assert spent(town, offers) == [11, 11, 8]


def test_a_kind_that_is_not_named_is_shared_up_to_the_first_that_names_it(town, line):
    peers, offers = line({"tokens": 100, "steps": 5}, {"steps": 3}, None)
    peers[2].report(offers[2], usage={"tokens": 9, "steps": 1, "costMicro": 4})
    tasks = [town.task(offer.task) for offer in offers]
    assert [task.spent for task in tasks] == [
        {"tokens": 9, "costMicro": 4},
        {"tokens": 9, "steps": 1, "costMicro": 4},
        {"tokens": 9, "steps": 1, "costMicro": 4},
    ]
    assert tasks[0].reserved == {"steps": 3}


def test_a_budget_is_taken_out_of_the_first_above_that_names_the_kind(town, line):
    peers, offers = line({"tokens": 10}, None, {"tokens": 8})
    assert reserved(town, offers) == [8, 0, 0]
    answer = peers[1].say(part(offers[1], "more", tokens=3))
    assert (answer.code, answer.data) == (ErrorCode.BUDGET, {"task": offers[0].task, "kind": "tokens", "left": 2})
    peers[2].report(offers[2], usage={"tokens": 1})
    peers[1].confirm(peers[1].mail()[-1])
    assert (reserved(town, offers), spent(town, offers)) == ([0, 0, 0], [1, 1, 1])


def test_without_any_budget_above_nothing_is_bounded(town, line):
    peers, offers = line(None, None, {"tokens": 8})
    assert reserved(town, offers) == [0, 0, 0]
    peers[2].report(offers[2], usage={"tokens": 1})
    peers[1].confirm(peers[1].mail()[-1])
    assert spent(town, offers) == [1, 1, 1]
    assert peers[0].beat(offers[0], usage={"tokens": 1_000_000}).directives == []


def test_a_sub_task_that_would_share_what_is_all_given_out_is_refused(town, lead, plan):
    assert lead.say(part(plan, "1", tokens=10)).created
    answer = lead.say(part(plan, "2"))
    assert (answer.code, answer.data) == (ErrorCode.BUDGET, {"task": plan.task, "kind": "tokens", "left": 0})
    assert lead.say(part(plan, "3", tokens=0)).created, "one that uses none needs none"


def test_a_known_key_is_answered_though_nothing_is_left(town, lead, plan):
    made = lead.say(part(plan, "1", tokens=10))
    again = lead.say(part(plan, "1", tokens=10))
    assert (again.task, again.created) == (made.task, False)


def test_the_levels_below_every_task_above_are_bounded(town, line):
    peers, offers = line({"depth": 1}, {"depth": 5})
    answer = peers[1].say(part(offers[1], "1"))
    assert (answer.code, answer.data) == (ErrorCode.BUDGET, {"task": offers[0].task, "kind": "depth", "left": 0})


# Warned and stopped ---------------------------------------------------------------------------------------------------


def test_a_worker_is_stopped_for_a_budget_above_its_task(town, lead, worker, plan):
    lead.say(part(plan, "1"))
    offer = worker.offer()
    assert worker.beat(offer, usage={"tokens": 8}).directives == ["budget_low"]
    assert town.said(Evicted) == []
    worker.beat(offer, usage={"tokens": 10})
    assert [(record.task, record.reason) for record in town.said(Evicted)] == [(offer.task, "budget")]


@pytest.fixture
def shared(boss, lead, worker):
    """The offer of a task with a hundred tokens, held by the lead, and of its two sub-tasks, held by w1."""
    boss.delegate("plan", "lead", budget={"tokens": 100})
    plan = lead.offer()
    lead.say(part(plan, "1"))
    first = worker.offer()
    lead.say(part(plan, "2"))
    return plan, first, worker.offer()


def test_attempts_that_share_a_budget_are_held_against_it_together(town, shared, lead, worker):
    plan, first, second = shared
    assert worker.beat(first, usage={"tokens": 50}).directives == []
    assert worker.beat(second, usage={"tokens": 29}).directives == []
    assert worker.beat(second, usage={"tokens": 30}).directives == ["budget_low"]
    assert lead.beat(plan, usage={"tokens": 19}).directives == ["budget_low"]
    worker.beat(first, usage={"tokens": 51})
    assert [(record.task, record.reason) for record in town.said(Evicted)] == [(first.task, "budget")]


def test_what_an_attempt_told_is_held_against_a_shared_budget_once_when_it_has_ended(town, shared, lead, worker):
    plan, first, second = shared
    worker.beat(first, usage={"tokens": 50})
    worker.report(first, usage={"tokens": 50})
    assert worker.beat(second, usage={"tokens": 29}).directives == []
    assert worker.beat(second, usage={"tokens": 30}).directives == ["budget_low"]
    worker.say(TaskYield(second.task, second.fence))
    assert town.task(plan.task).spent == {"tokens": 80}


def test_a_question_that_is_held_warm_keeps_what_its_attempt_told(shared, worker):
    _, first, second = shared
    worker.beat(first, usage={"tokens": 50})
    worker.say(TaskAsk(first.task, 1, b"[]", first.fence))
    assert worker.beat(second, usage={"tokens": 30}).directives == ["budget_low"]


def test_what_was_counted_of_a_running_attempt_is_not_counted_twice(town, boss, worker):
    boss.delegate(budget={"tokens": 10})
    offer = worker.offer()
    worker.beat(offer, usage={"tokens": 5})
    town.pass_time(3_000)
    worker.say(TaskCancel(offer.task))
    worker.beat(offer, usage={"tokens": 7})
    assert worker.beat(offer, usage={"tokens": 7}).directives == []
    assert town.said(Evicted) == []


def test_a_budget_of_nothing_stops_the_first_use(town, boss, worker):
    task = boss.delegate(budget={"tokens": 0})
    offer = worker.offer()
    assert worker.beat(offer, usage={"steps": 4, "tokens": 0}).directives == []
    worker.beat(offer, usage={"tokens": 1})
    worker.say(TaskYield(task, offer.fence))
    assert [record.reason for record in town.said(Evicted)] == ["budget"]
    assert town.said(Settled)[-1].reason == "budget"


@pytest.mark.parametrize("state", ["parked", "canceling"])
def test_an_attempt_that_is_not_at_work_is_not_stopped_for_its_budget(town, boss, worker, pot, state):
    if state == "parked":
        worker.say(TaskAsk(pot.task, 1, b"[]", pot.fence))
    else:
        boss.cancel(pot.task)
    worker.beat(pot, usage={"tokens": 100})
    assert town.said(Evicted) == []


def test_what_waits_while_its_pool_is_used_up_ends(town, lead, worker, plan):
    lead.say(part(plan, "1"))
    other = town.worker("rare", "rare", tasks=0)
    waiting = lead.say(TaskDelegate("2", {"skill": "rare"}, parent=Held(plan.task, plan.fence))).task
    first = worker.offer()
    worker.beat(first, usage={"tokens": 9})
    assert town.task(waiting).state == "queued"
    worker.report(first, usage={"tokens": 10})
    assert [(record.task, record.reason) for record in town.said(Settled)] == [(waiting, "budget")]
    assert other.mail() == []


def test_what_waits_for_a_share_of_nothing_ends_with_the_first_use(town, boss):
    group = boss.delegate("one of two", spec={"redundancy": {"n": 2}}, budget={"tokens": 0})
    only = town.worker("only")
    only.report(only.offer(), "rejected", usage={"tokens": 1})
    assert [task.settled.reason for task in town.ledger.tasks.values()] == ["unresolved", "rejected", "budget"]
    assert town.task(group).state == "failed"


def test_a_task_that_waits_again_while_its_sub_task_uses_it_up_ends(town, lead, worker, plan):
    lead.say(part(plan, "1"))
    lead.say(Credit(0))
    lead.say(TaskYield(plan.task, plan.fence))
    assert town.task(plan.task).state == "queued"
    worker.report(worker.offer(), usage={"tokens": 10})
    assert town.said(Settled)[0].task == plan.task
    assert town.task(plan.task).settled.reason == "budget"


def test_nobody_is_offered_what_its_pool_has_nothing_left_for(town, lead, plan):
    worker = town.worker("w1")
    lead.say(part(plan, "1"))
    waiting = lead.say(part(plan, "2")).task
    worker.report(worker.offer(), usage={"tokens": 10})
    assert worker.mail() == []
    assert [(record.task, record.reason) for record in town.said(Settled)] == [(waiting, "budget")]


def test_an_offer_says_what_is_left(town, boss, lead, worker):
    boss.delegate("plan", "lead", budget={"tokens": 10, "children": 3, "depth": 2})
    plan = lead.offer()
    assert plan.budget == {"tokens": 10, "children": 3, "depth": 2}
    lead.say(part(plan, "1", tokens=4, steps=2))
    assert worker.offer().budget == {"tokens": 4, "steps": 2}
    lead.say(part(plan, "2"))
    assert worker.offer().budget == {"tokens": 6}
    lead.say(TaskYield(plan.task, plan.fence, usage={"tokens": 1}))
    assert lead.offer().budget == {"tokens": 5, "children": 1, "depth": 2}


def test_budgets_are_the_same_when_the_ledger_is_read_again(town, line):
    peers, offers = line({"tokens": 100}, {"tokens": 50}, {"tokens": 20})
    peers[2].report(offers[2], usage={"tokens": 9})
    again = town.restart()
    assert (reserved(again, offers), spent(again, offers)) == ([50, 20, 0], [0, 0, 9])


@pytest.mark.parametrize(
    ("before", "now", "most_of_both"),
    [
        (None, None, None),
        (None, {"tokens": 1}, {"tokens": 1}),
        ({"tokens": 1}, None, {"tokens": 1}),
        ({"tokens": 2, "watts": 9}, {"tokens": 1, "steps": 1, "watts": 3}, {"tokens": 2, "steps": 1, "watts": 3}),
    ],
)
def test_the_most_of_two_words_is_each_kinds(before, now, most_of_both):
    assert most(before, now) == most_of_both


def test_less_than_was_told_before_takes_nothing_back(town, worker, pot):
    worker.say(TaskYield(pot.task, pot.fence))
    worker.report(pot, usage={"tokens": 3})
    worker.report(pot, payload=b'["other"]', usage={"tokens": 5})
    assert town.task(pot.task).spent == {"tokens": 7}


def test_what_has_to_end_is_not_offered_on_the_way(town, lead, plan):
    middle, second, rare = town.worker("m", "middle"), town.worker("w2", "rare"), town.worker("rare", "rare", tasks=0)
    parent = Held(plan.task, plan.fence)
    lead.say(TaskDelegate("m", {"skill": "middle"}, parent=parent))
    waiting = lead.say(TaskDelegate("w", {"skill": "rare", "requires": {"agent": "rare"}}, parent=parent)).task
    branch = middle.offer()
    parent = Held(branch.task, branch.fence)
    dropped = middle.say(TaskDelegate("d", {"skill": "rare", "priority": 9}, parent=parent)).task
    second.beat(second.offer())
    second.say(Credit(0))
    middle.say(TaskDelegate("p", {"skill": "echo"}, budget={"tokens": 10}, on_parent_end="abandon", parent=parent))
    worker = town.worker("w1")
    worker.report(worker.offer(), usage={"tokens": 10})
    for _ in range(3):
        lead.beat(plan)
        middle.beat(branch)
        town.pass_time(1_000)
    rare.say(Credit(1))
    assert town.task(dropped).offer.agent == "rare"
    # With its parent the dropped task ends, which frees the agent, and the result left behind, which takes all tokens.
    middle.report(branch)
    lead.confirm(lead.mail()[-1])
    assert (str(town.task(dropped).state), town.task(plan.task).spent) == ("canceled", {"tokens": 10})
    assert town.task(waiting).settled.reason == "budget"
    assert waiting not in [record.task for record in town.said(Offered)]
