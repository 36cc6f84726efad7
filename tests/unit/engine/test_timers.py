"""What the clock decides about a task, and when."""

import pytest

from a2a.engine.policy import Durations
from a2a.engine.records import (
    Archived,
    CancelRequested,
    LeaseExpired,
    OfferWithdrawn,
    Settled,
)
from a2a.engine.timers import due, when_due
from a2a.protocol.messages import (
    Credit,
    HeldStill,
    TaskHeartbeat,
    TaskLimits,
    TaskRevoke,
    TaskYield,
)
from tests.unit.engine.stages import ask, bring, settled

SPEC = {"skill": "echo", "acceptance": {"evaluator": "delegator"}}


# Timers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "offered", "leased", "parked hot", "parked cold", "canceling"])
def test_a_deadline_ends_a_task_in_every_state(make_town, state):
    town = make_town()
    boss = town.join("chief")
    worker = None if state == "queued" else town.worker("w1")
    task = boss.delegate(limits=TaskLimits(deadline_ms=1_000))
    if worker is not None:
        offer = worker.offer()
        if state == "offered":
            town.worker("w2")
        else:
            worker.beat(offer)
        if state.startswith("parked"):
            worker.say(ask(offer, hold=state.partition(" ")[2]))
        elif state == "canceling":
            boss.cancel(task)
    town.pass_time(999)
    assert town.task(task).state == state.partition(" ")[0]
    town.pass_time(1)
    assert settled(town) == [(task, "failed", "deadline", "")]
    if state in ("leased", "parked hot"):
        assert worker.mail() == [TaskRevoke(task, offer.fence, "deadline", "skip")]


def test_work_that_is_done_is_not_lost_to_the_deadline(town, boss, worker):
    task = boss.delegate(limits=TaskLimits(deadline_ms=1_000))
    worker.report(worker.offer())
    town.pass_time(9_999)
    assert town.task(task).state == "reported"
    town.pass_time(1)
    assert settled(town) == [(task, "completed", "", "timer")]


def test_silence_decides_nothing_where_a_human_was_asked_for(town, boss, worker):
    task = boss.delegate(acceptance="human")
    worker.report(worker.offer())
    town.pass_time(10**6)
    assert town.task(task).state == "reported"
    assert due(town.coordinator.world, town.task(task), town.now) == []


def test_a_task_nobody_takes_fails_after_its_time_in_the_queue(make_town):
    town = make_town(durations=Durations(queue_ms=1_000))
    task = town.join("boss").delegate()
    town.pass_time(999)
    assert settled(town) == []
    town.pass_time(1)
    assert settled(town) == [(task, "failed", "no_capable_agent", "")]


def test_time_in_the_queue_counts_only_there(make_town):
    town = make_town(durations=Durations(queue_ms=1_000, offer_ms=60_000, lease_ms=60_000))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    town.pass_time(5_000)
    assert town.task(task).state == "leased"
    worker.say(Credit(0))
    worker.say(TaskYield(task, offer.fence))
    town.pass_time(999)
    assert town.task(task).state == "queued"
    town.pass_time(1)
    assert town.task(task).state == "failed"


def test_a_task_without_limits_waits_for_ever(town, boss):
    task = boss.delegate()
    assert town.coordinator.next_deadline() is None
    town.pass_time(10**9)
    assert town.task(task).state == "queued"


def test_a_task_that_has_ended_waits_for_nothing(town, boss, worker):
    boss.cancel(boss.delegate(limits=TaskLimits(deadline_ms=1_000)), "skip")
    town.pass_time(100_000)
    assert [type(record) for record in town.said()[-2:]] == [Settled, Archived]


@pytest.mark.parametrize(
    "state, wait_ms",
    [
        ("queued", 800),
        ("offered", 500),
        ("leased", 3_000),
        ("parked hot", 3_000),
        ("parked cold", 20_000),
        ("canceling", 2_000),
        ("reported", 10_000),
    ],
)
def test_the_clock_decides_when_it_is_time_and_not_before(make_town, state, wait_ms):
    town = make_town(
        durations=Durations(1_000, 3_000, 500, queue_ms=800, confirm_ms=10_000, ask_ms=20_000, cancel_ms=2_000)
    )
    task = town.task(bring(town, state)[0])
    world, start = town.coordinator.world, town.now
    assert when_due(world, task) == start + wait_ms
    assert due(world, task, start + wait_ms - 1) == []
    assert due(world, task, start + wait_ms) != []


def test_the_clock_decides_nothing_about_what_has_ended(town, boss, worker):
    task = town.task(boss.delegate(limits=TaskLimits(deadline_ms=1_000)))
    boss.cancel(task.id, "skip")
    assert when_due(town.coordinator.world, task) is None
    assert due(town.coordinator.world, task, town.now + 10**6) == []


def test_the_questions_of_a_canceled_task_decide_nothing(town, boss, task, worker, offer):
    worker.say(ask(offer, timeout_ms=1_000))
    boss.cancel(task, grace_ms=2_500)
    town.pass_time(2_499)
    assert town.task(task).state == "canceling"
    town.pass_time(1)
    assert settled(town) == [(task, "canceled", "canceled", "boss")]


# Without its delegator ------------------------------------------------------------------------------------------------


@pytest.fixture
def errand(town, worker):
    """Delegate a task that goes on `on_loss`, from a process of its own; return the process and the offer."""

    def make(on_loss, **fields):
        asker = town.join("asker#1")
        asker.delegate(on_delegator_loss=on_loss, **fields)
        return asker, worker.offer()

    return make


def test_a_task_whose_delegator_is_gone_too_long_is_cancelled(town, worker, errand):
    asker, offer = errand("cancel", loss_ms=1_000)
    worker.beat(offer)
    asker.drop()
    town.pass_time(999)
    assert town.said(CancelRequested) == []
    town.pass_time(1)
    (wanted,) = town.said(CancelRequested)
    assert (wanted.mode, wanted.by, wanted.grace_at) == ("coop", "timer", town.now + 2_000)
    town.pass_time(2_000)
    assert town.task(offer.task).state == "canceled"


def test_a_task_nobody_works_on_ends_at_once_when_its_delegator_is_gone_too_long(town, boss):
    asker = town.join("asker")
    task = asker.delegate(skill="rare", on_delegator_loss="cancel", loss_ms=1_000)
    asker.drop()
    town.pass_time(1_000)
    assert town.task(task).state == "canceled"


def test_any_process_of_the_principal_keeps_the_task_going(town, worker, errand):
    asker, offer = errand("cancel", loss_ms=1_000)
    other = town.join("asker#2")
    asker.drop()
    town.pass_time(900)
    worker.beat(offer)
    town.pass_time(900)
    other.drop()
    worker.beat(offer)
    town.pass_time(900)
    town.join("asker#3")
    worker.beat(offer)
    town.pass_time(2_000)
    assert town.said(CancelRequested, Settled) == []


def test_the_time_without_a_delegator_counts_anew_each_time(town, worker, errand):
    asker, offer = errand("cancel", loss_ms=1_000)
    worker.beat(offer)
    asker.drop()
    town.pass_time(900)
    town.join("asker#2").drop()
    town.pass_time(900)
    assert town.said(CancelRequested) == []
    town.pass_time(100)
    assert len(town.said(CancelRequested)) == 1


def test_a_result_is_not_lost_with_the_delegator(town, worker, errand):
    asker, offer = errand("cancel", loss_ms=1_000)
    worker.report(offer)
    asker.drop()
    town.pass_time(2_000)
    assert town.task(offer.task).state == "reported"
    town.join("asker#1").confirm(asker.mail()[-1])
    assert town.ledger.attached == {}, "a task that has ended waits for nobody"


def test_a_task_goes_on_without_its_delegator_unless_it_says_otherwise(town, worker, boss):
    boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    boss.drop()
    town.pass_time(1_000)
    worker.say(TaskYield(offer.task, offer.fence))
    assert town.task(offer.task).holder == "w1"
    assert town.coordinator.live.away_since == {}


def test_a_principal_that_is_away_is_noted_for_as_long_as_tasks_depend_on_it(town):
    asker = town.join("asker")
    for key, loss_ms in (("1", 1_000), ("2", 2_000)):
        asker.delegate(key, skill="rare", on_delegator_loss="cancel", loss_ms=loss_ms)
    asker.drop()
    left = town.now
    town.pass_time(1_500)
    assert (town.coordinator.live.away_since, len(town.ledger.open_tasks)) == ({"asker": left}, 1)
    town.pass_time(500)
    assert (town.coordinator.live.away_since, len(town.ledger.open_tasks)) == ({}, 0)


def test_a_paused_task_is_offered_to_nobody_until_its_delegator_is_back(town, worker, errand):
    asker, offer = errand("pause")
    asker.drop()
    worker.beat(offer)
    assert town.task(offer.task).holder == "w1", "an attempt under way goes on"
    worker.say(TaskYield(offer.task, offer.fence))
    assert town.task(offer.task).state == "queued"
    town.pass_time(60_000)
    assert town.task(offer.task).state == "queued"
    town.join("asker#2")
    assert town.task(offer.task).holder == "w1"


def test_a_paused_task_that_waits_for_an_agent_is_passed_over(town, worker):
    asker = town.join("asker")
    first = asker.delegate("1", on_delegator_loss="pause")
    paused = asker.delegate("2", on_delegator_loss="pause")
    asker.drop()
    worker.report(worker.offer())
    assert (str(town.task(first).state), str(town.task(paused).state)) == ("reported", "queued")


def test_the_members_of_a_paused_group_are_offered_to_nobody(town):
    asker = town.join("asker")
    group = asker.delegate(on_delegator_loss="pause", spec={"redundancy": {"n": 2}})
    asker.drop()
    workers = [town.worker(name) for name in ("w1", "w2")]
    assert [worker.mail() for worker in workers] == [[], []]
    town.join("asker")
    for worker in workers:
        worker.report(worker.offer())
    assert town.task(group).state == "reported"


@pytest.mark.parametrize("on_loss", ["pause", "cancel"])
def test_after_a_restart_nobody_counts_as_away_before_all_had_the_time_to_come_back(town, worker, errand, on_loss):
    asker, offer = errand(on_loss, loss_ms=1_000)
    worker.beat(offer)
    again = town.restart()
    back = again.worker("w1", held=[HeldStill(offer.task, offer.fence)])
    again.pass_time(2_000)
    back.say(TaskYield(offer.task, offer.fence))
    assert again.task(offer.task).holder == "w1", "the time of the lease is not over"
    fence = again.task(offer.task).authority.fence
    back.say(TaskYield(offer.task, fence))
    fence = again.task(offer.task).authority.fence
    back.say(TaskHeartbeat(offer.task, fence))
    again.pass_time(1_000)
    back.say(TaskHeartbeat(offer.task, fence))
    again.pass_time(999)
    assert again.task(offer.task).state == "leased"
    if on_loss == "cancel":
        again.pass_time(1)
        assert again.task(offer.task).state == "canceling"
    else:
        back.say(TaskYield(offer.task, fence))
        assert again.task(offer.task).state == "queued"


def test_a_task_that_waits_over_a_restart_is_paused_when_the_time_to_come_back_is_over(town, boss, worker):
    asker = town.join("asker")
    asker.delegate("held", on_delegator_loss="pause")
    worker.beat(worker.offer())
    waiting = asker.delegate("waiting", on_delegator_loss="pause")
    again = town.restart()
    again.pass_time(3_000)
    again.worker("w2", tasks=2)
    assert again.task(waiting).state == "queued"
    again.join("asker")
    assert again.task(waiting).holder == "w2"


# Messages on their way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_begun", [False, True])
def test_no_lease_runs_out_while_a_message_to_or_from_its_holder_is_on_its_way(make_town, has_begun):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=3_000))
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate("first")
    offer = worker.offer()
    if has_begun:
        worker.beat(offer)
    town.carrying = {worker.connection}
    town.pass_time(60_000)
    assert town.said(LeaseExpired) == []
    town.carrying = set()
    town.pass_time(500)
    assert [record.reason for record in town.said(LeaseExpired)] == ["not heard in time"]


def test_no_offer_is_withdrawn_while_a_message_to_or_from_its_agent_is_on_its_way(make_town):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=3_000))
    _, _, other, offer = bring(town, "offered")
    assert not offer.granted
    town.carrying = {other.connection}
    town.pass_time(60_000)
    assert town.said(OfferWithdrawn) == []
    town.carrying = set()
    town.pass_time(500)
    assert [record.reason for record in town.said(OfferWithdrawn)] == ["unanswered"]


def test_what_is_on_its_way_elsewhere_keeps_no_lease(make_town):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=3_000))
    boss, worker, other = town.join("boss"), town.worker("w1"), town.worker("w2", "hum")
    boss.delegate("first")
    offer = worker.offer()
    town.carrying = {boss.connection, other.connection}
    town.pass_time(500)
    assert [record.fence for record in town.said(LeaseExpired)] == [offer.fence]


def test_an_offer_is_waited_for_no_longer_than_its_time_where_the_lease_before_ran_longer(make_town):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=60_000, attempt_ms=1_000, cancel_ms=100))
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate("first")
    worker.beat(worker.offer())
    town.worker("w2")
    town.pass_time(1_100)
    [expired] = town.said(LeaseExpired)
    assert expired.reason == "attempt"
    town.pass_time(500)
    assert [record.reason for record in town.said(OfferWithdrawn)] == ["unanswered"]
