"""What an entry of a mailbox says when it is sent."""

import pytest

from a2a.engine.leases import effect_scope, proof
from a2a.engine.ledger import MailboxEntry
from a2a.engine.mailbox import render
from a2a.engine.policy import Admission, digest
from a2a.protocol.messages import (
    Child,
    ConflictRaise,
    ConflictVote,
    Credit,
    Feedback,
    Held,
    Ok,
    RaisedSubject,
    Resume,
    TaskAnswer,
    TaskAsk,
    TaskLease,
    TaskLimits,
    TaskOffer,
    TaskReview,
    TaskRevoke,
    TaskSettled,
    TaskSteer,
    TaskYield,
    Timers,
)


def test_an_offer_has_all_an_attempt_needs(town, boss):
    worker = town.worker("w1")
    task = boss.delegate("job", payload=b'["in"]', context_id="c", limits=TaskLimits(deadline_ms=60_000))
    assert worker.mail() == [
        TaskOffer(
            task=task,
            fence=town.task(task).authority.fence,
            attempt=1,
            granted=True,
            offer_ms=500,
            lease_ms=3_000,
            heartbeat_ms=1_000,
            spec={"skill": "echo", "acceptance": {"evaluator": "delegator"}},
            payload=b'["in"]',
            key="job",
            context_id="c",
            delegator="boss",
            rev=0,
            deadline_ms=60_000,
            proof=proof(town.ledger, "w1", task, town.task(task).authority.fence),
            effect_scope=effect_scope(town.ledger, town.task(task)),
        )
    ]


def test_an_offer_of_a_sub_task_names_its_parent_and_one_of_a_parent_its_children(town, boss):
    worker, helper = town.worker("w1"), town.worker("h1", "help")
    task = boss.delegate()
    child = worker.delegate("part", "help", parent=Held(task, worker.offer().fence))
    assert helper.offer().parent == task
    other = town.worker("w2")
    town.pass_time(500)
    assert other.offer().children == [Child(child, "part", str(town.task(child).state))]


def test_an_offer_carries_the_feedback_on_every_earlier_revision(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    for number in range(2):
        worker.report(worker.offer(), payload=b"[%d]" % number)
        boss.confirm(boss.mail()[-1], verdict="reject", rework=True, reason_code=f"r{number}", payload=b'["no"]')
    again = worker.offer()
    assert (again.rev, again.attempt) == (2, 3)
    assert again.feedback == [Feedback(0, b'["no"]', "r0"), Feedback(1, b'["no"]', "r1")]


def test_an_offer_that_is_gone_is_told_as_a_revocation(town, boss):
    worker = town.worker("w1", frames=1, tasks=2)
    first, second = boss.delegate("1"), boss.delegate("2")
    fence = town.task(second).authority.fence
    boss.cancel(second, "skip")
    worker.acknowledge(1)
    worker.acknowledge(2)
    assert [message.task for message in worker.mail()] == [first, second, second]
    assert worker.mailbox[1] == (2, TaskRevoke(second, fence, "settled", "skip"))


def test_another_process_does_not_begin_anew_under_a_fence_that_the_one_before_it_had(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    fence = worker.offer().fence
    worker.beat(town.peers[worker.connection].mailbox[0][1])
    again = town.worker("w1", instance_id="w1-2", incarnation=2)
    first, second = again.mail()
    assert first == TaskRevoke(task, fence, "superseded", "skip"), "it was given to a process that is gone"
    assert (second.task, second.granted) == (task, False)
    assert second.fence > fence


def test_a_withdrawn_offer_is_told_as_superseded(town, boss):
    town.worker("w1")
    task = boss.delegate("1")
    other = town.worker("w2", frames=1, tasks=2)
    boss.delegate("2", spec={"requires": {"agent": "w2"}})
    town.pass_time(500)
    fence = town.task(task).offer.fence
    town.pass_time(500)
    assert len(other.mail()) == 1, "the second entry waits for credit"
    other.acknowledge(1)
    assert other.mail() == [TaskRevoke(task, fence, "superseded", "skip")]


def test_what_is_left_of_a_time_limit_is_told_when_the_mail_is_sent(town, boss):
    worker = town.worker("w1")
    task = boss.delegate(limits=TaskLimits(deadline_ms=10_000))
    offer = worker.offer()
    worker.beat(offer)
    boss.drop()
    worker.say(TaskAsk(task, 1, b"[]", fence=offer.fence, timeout_ms=2_000))
    town.pass_time(1_500)
    again = town.join("boss")
    assert again.mail() == [TaskAsk(task, 1, b"[]", timeout_ms=500)]
    town.worker("w1", resume=Resume(0))
    assert town.peers[max(town.peers)].offer().deadline_ms == 8_500


def test_an_offer_that_waited_says_how_long_it_is_still_waited_for(town, boss):
    town.worker("w1")
    task = boss.delegate(timers=Timers(lease_ms=3_000, offer_ms=500))
    town.pass_time(450)
    worker = town.worker("w1")
    offer = worker.offer()
    assert (offer.granted, offer.offer_ms) == (True, 50)
    town.pass_time(49)
    assert worker.beat(offer) == TaskLease(task, offer.fence, 3_000)
    assert town.worker("w1").offer().offer_ms == 500, "it is never more than of a new one"
    town.peers[max(town.peers)].drop()
    town.pass_time(3_000)
    town.worker("w2")
    town.pass_time(200)
    again = town.worker("w2").offer()
    assert (again.granted, again.offer_ms) == (False, 300)


def test_a_review_says_how_much_time_is_left_when_a_dispute_is_over(make_town):
    ladder = ({"strategy": "human", "timeoutMs": 60_000}, {"strategy": "abort"})
    town = make_town(admission=Admission(operator_token=digest("op")), ladders={"artifact": ladder}, ballot_ms=0)
    boss, worker, human = town.join("boss"), town.worker("w1"), town.join("human", operator_token="op")
    tasks = []
    for number in range(2):
        tasks.append(boss.delegate(f"k{number}"))
        worker.report(worker.offer(), payload=b"[%d]" % number)
    raised = boss.say(ConflictRaise("artifact", [RaisedSubject(task=task) for task in tasks]))
    town.pass_time(30_000)

    def left():
        return [mail.confirm_ms for mail in town.join("boss").mail() if isinstance(mail, TaskReview)]

    assert left() == [10_000, 10_000], "none of it passes meanwhile"
    chosen = town.ledger.conflicts[raised.conflict].candidates[0].ref
    assert human.say(ConflictVote(raised.conflict, chosen)) == Ok(state="select")
    town.pass_time(4_000)
    assert left() == [6_000, 6_000]


def test_an_offer_says_that_it_is_waited_for_longer_after_a_restart(town, boss):
    town.worker("w1")
    boss.delegate()
    town.pass_time(450)
    assert town.restart().worker("w1").offer().offer_ms == 500


@pytest.mark.parametrize("kind", ["task.ask", "task.review"])
def test_a_time_limit_that_has_passed_is_told_as_none_left(town, boss, kind):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    if kind == "task.ask":
        worker.say(TaskAsk(task, 1, b"[]", fence=offer.fence, timeout_ms=100, default=b"[]"))
    else:
        worker.report(offer)
    entry = MailboxEntry(1, 1, kind, task, 1 if kind == "task.ask" else 0)
    message = render(town.coordinator.world, "boss", entry, town.now + 10**6)
    assert (message.timeout_ms if kind == "task.ask" else message.confirm_ms) == 0


def test_each_question_and_each_answer_is_told_as_itself(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    for number in (1, 2):
        worker.say(TaskAsk(task, number, b"[%d]" % number, fence=offer.fence))
    assert [(message.ask_no, message.payload) for message in boss.mail()] == [(1, b"[1]"), (2, b"[2]")]
    for number in (2, 1):
        boss.say(TaskAnswer(task, number, b"[%d0]" % number))
    assert [(message.ask_no, message.payload) for message in worker.mail()] == [(2, b"[20]"), (1, b"[10]")]


def test_an_unknown_kind_of_entry_is_a_bug_and_says_so(town, boss):
    task = boss.delegate()
    with pytest.raises(ValueError, match=r"task\.song"):
        render(town.coordinator.world, "boss", MailboxEntry(1, 1, "task.song", task), town.now)


def test_a_result_that_was_not_reviewed_comes_with_the_end(town, boss):
    worker = town.worker("w1")
    boss.delegate(acceptance="auto")
    worker.report(worker.offer(), payload=b'["out"]')
    (end,) = boss.mail()
    assert isinstance(end, TaskSettled)
    assert end.payload == b'["out"]'


def test_a_revocation_says_what_is_left_of_its_grace(town, boss):
    worker = town.worker("w1", frames=1)
    task = boss.delegate(timers=Timers(stall_ms=1_000))
    offer = worker.offer()
    worker.beat(offer)
    town.pass_time(1_500)
    worker.acknowledge()
    assert worker.mail() == [TaskRevoke(task, offer.fence, "stall", "coop", 1_500)]


@pytest.mark.parametrize(
    ("then", "revoked"),
    [
        ("lapses", ("stall", "skip", 0)),
        ("is canceled", ("cancel", "coop", 2_000)),
        ("yields", ("superseded", "skip", 0)),
    ],
)
def test_a_revocation_that_waited_is_as_true_as_it_can_be(town, boss, then, revoked):
    worker = town.worker("w1", frames=1)
    task = boss.delegate(timers=Timers(stall_ms=1_000))
    offer = worker.offer()
    worker.beat(offer)
    town.pass_time(1_000)
    if then == "lapses":
        town.pass_time(2_000)
    elif then == "is canceled":
        boss.cancel(task)
    else:
        worker.say(Credit(0, 1))
        worker.say(TaskYield(task, offer.fence))
    worker.acknowledge()
    assert worker.mail()[0] == TaskRevoke(task, offer.fence, *revoked)


def test_a_review_says_whether_the_newest_word_was_seen(town, boss):
    worker = town.worker("w1")
    for key, seen in (("1", 1), ("2", 0)):
        task = boss.delegate(key)
        boss.say(TaskSteer(task, "k", b"[]"))
        offer = next(mail for mail in reversed(worker.mail()) if mail.kind == "task.offer")
        worker.report(offer, steer_no=seen)
        assert boss.mail()[-1].unseen_steer is not bool(seen)


def test_an_offer_without_a_budget_names_none(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    assert worker.offer().budget is None
