"""Mail that goes out and is acknowledged, and whoever does not come back for it."""

import itertools

import pytest

from a2a.engine import delivery, plain
from a2a.engine.records import AgentForgotten, MailboxAcked
from a2a.engine.task_state import Task
from a2a.protocol.messages import (
    Bye,
    ClaimAcquire,
    ContextOp,
    ContextWrite,
    Credit,
    MailboxAck,
    Ok,
    Resume,
    TaskCheckpoint,
    TaskSettled,
    TaskSteer,
)


def test_the_mailbox_counts_without_gaps_across_connections_and_restarts(town, boss):
    worker = town.worker("w1", tasks=9)
    for number in range(3):
        boss.delegate(str(number))
    worker.acknowledge(2)
    worker.drop()
    boss.delegate("waits for nobody")
    again = town.restart()
    worker = again.worker("w1", tasks=9)
    boss = again.join("boss")
    boss.delegate("last")
    assert [mseq for mseq, _ in worker.mailbox] == [3, 4, 5]


def test_no_more_mail_is_on_the_wire_than_the_credit_for_frames(town, boss):
    worker = town.worker("w1", tasks=9, frames=2)
    for number in range(5):
        boss.delegate(str(number))
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2]
    worker.acknowledge(1)
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2, 3]
    worker.say(Credit(9, 4))
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2, 3, 4, 5]


def test_no_more_mail_is_on_the_wire_than_a_connection_holds(make_town):
    town = make_town(outbox_max_bytes=2_000)
    worker, boss = town.worker("w1", tasks=9), town.join("boss")
    for number in range(4):
        boss.delegate(str(number), payload=bytes(600))
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2]
    worker.acknowledge(1)
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2, 3]
    worker.acknowledge(3)
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2, 3, 4]


def test_what_earlier_attempts_left_counts_with_an_offer(make_town):
    town = make_town(outbox_max_bytes=2_000)
    boss, worker = town.join("boss"), town.worker("w1", tasks=9)
    for number in range(4):
        task = boss.delegate(str(number))
        offer = worker.offer()
        worker.beat(offer)
        assert boss.say(TaskSteer(task, "so", bytes(300))) == Ok(state="leased")
        assert worker.say(TaskCheckpoint(task, offer.fence, 1, bytes(300))) == Ok(state="leased")
        worker.acknowledge()
    worker.drop()
    heir = town.worker("w2", tasks=9)
    town.pass_time(3_100)
    assert [mseq for mseq, _ in heir.mailbox] == [1, 2]
    heir.acknowledge(1)
    assert [mseq for mseq, _ in heir.mailbox] == [1, 2, 3]


def test_mail_is_sent_once_on_a_connection(town, boss):
    worker = town.worker("w1", tasks=9)
    for number in range(3):
        boss.delegate(str(number))
        worker.say(MailboxAck(0))
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2, 3]


def test_acknowledgements_are_recorded_now_and_then_and_at_the_end(town, boss):
    worker = town.worker("w1", tasks=600, frames=600)
    for number in range(300):
        boss.delegate(str(number))
    for upto in (1, 100, 255):
        worker.acknowledge(upto)
    assert town.said(MailboxAcked) == []
    worker.acknowledge(256)
    assert town.said(MailboxAcked) == [MailboxAcked(town.now, "w1", 256)]
    worker.acknowledge(300)
    worker.drop()
    assert town.said(MailboxAcked)[-1] == MailboxAcked(town.now, "w1", 300)
    assert not town.ledger.mailboxes["w1"].entries


def test_acknowledgements_of_mail_about_tasks_that_leave_are_recorded_once_a_second(make_town):
    town = make_town(linger_ms=0)
    boss, worker = town.join("boss"), town.worker("w1", tasks=9)
    for number in range(40):
        boss.delegate(str(number), acceptance="auto")
        worker.report(worker.offer())
        worker.acknowledge()
        boss.acknowledge()
        town.pass_time(100)
    times = sorted({record.at for record in town.said(MailboxAcked)})
    assert len(times) >= 3
    assert all(later - at >= 1_000 for at, later in itertools.pairwise(times))
    assert len(town.ledger.tasks) < 20


def test_a_cursor_at_the_hello_acknowledges_what_lies_before_it(town, boss):
    worker = town.worker("w1", tasks=5)
    for number in range(3):
        boss.delegate(str(number))
    worker.drop()
    town.worker("w1", tasks=5, resume=Resume(2))
    assert town.said(MailboxAcked) == [MailboxAcked(town.now, "w1", 2)]
    assert [entry.mseq for entry in town.ledger.mailboxes["w1"].entries] == [3]


# What is about tasks that have left memory ----------------------------------------------------------------------------


@pytest.fixture
def away(make_town):
    """A town from which a boss went that has mail about settled tasks, all of which have left memory."""

    def make(tasks=1, **policy):
        town = make_town(**({"linger_ms": 0} | policy))
        boss, worker = town.join("boss"), town.worker("w1", tasks=99)
        town.names = [boss.delegate(str(number), acceptance="auto") for number in range(tasks)]
        boss.drop()
        for number, offer in enumerate(worker.mail()):
            worker.report(offer, payload=b'["%d"]' % number)
        town.pass_time(2_000)
        assert town.ledger.tasks == {}
        return town

    return make


def test_mail_about_a_task_that_left_is_written_from_the_archive(away):
    town = away()
    told = town.join("boss").mail()
    assert [(mail.task, mail.state, mail.payload) for mail in told] == [(town.names[0], "completed", b'["0"]')]
    assert town.ledger.tasks == {}, "it is lent, and does not come back"
    assert town.coordinator._waiting.wanted == {}


def test_mail_goes_on_in_order_however_much_is_fetched(away):
    town = away(40)
    boss = town.join("boss")
    assert [mseq for mseq, _ in boss.mailbox] == list(range(1, 41))
    assert [mail.task for mail in boss.mail()] == town.names


def test_what_comes_while_mail_is_fetched_waits_behind_it(away):
    town = away(2)
    town.is_slow = True
    boss = town.join("boss")
    worker = town.worker("w2", "other")
    task = boss.delegate("next", "other", acceptance="auto")
    worker.report(worker.offer())
    assert boss.mail() == []
    (need,) = town.needs
    assert need.tasks == tuple(town.names)
    town.is_slow = False
    town.look_up()
    assert [mail.task for mail in boss.mail()] == [*town.names, task]


def test_no_more_is_fetched_than_may_be_sent(away):
    town = away(5)
    boss = town.join("boss", credit=Credit(0, 2))
    assert [mseq for mseq, _ in boss.mailbox] == [1, 2]
    boss.acknowledge(1)
    boss.acknowledge(2)
    assert [mseq for mseq, _ in boss.mailbox] == [1, 2, 3, 4]


def test_what_is_fetched_has_no_more_entries_and_bytes_than_may_be_sent(away):
    town = away(5, outbox_max_bytes=2_000)
    town.is_slow = True
    town.join("boss", credit=Credit(0, 2))
    (need,) = town.needs
    assert (need.tasks, need.bytes_max) == (tuple(town.names[:2]), 1_000)


def test_what_was_too_much_for_once_is_fetched_the_next_time(away):
    town = away(3)
    town.is_slow = True
    boss = town.join("boss")
    rests = []
    while town.needs:
        need = town.needs.pop()
        rests.append(need.tasks)
        town.coordinator.found(need, town.stored(need)[:1], town.now)
        town.flush()
    assert rests == [tuple(town.names), tuple(town.names[1:]), tuple(town.names[2:])]
    assert [mail.task for mail in boss.mail()] == town.names
    assert town.coordinator._waiting.wanted == {}


def test_however_much_mail_waits_only_what_is_fetched_next_is_looked_at(away, monkeypatch):
    town = away(99)
    looks = []
    has_left = delivery._has_left
    monkeypatch.setattr(delivery, "_has_left", lambda ledger, entry: looks.append(entry) or has_left(ledger, entry))
    town.is_slow = True
    town.join("boss")
    assert len(looks) <= 1 + delivery._FETCHED_TOGETHER


def test_whoever_went_before_the_archive_answered_gets_its_mail_the_next_time(away):
    town = away()
    town.is_slow = True
    boss = town.join("boss")
    boss.drop()
    again = town.join("boss")
    town.is_slow = False
    town.look_up()
    assert (boss.mail(), [mail.task for mail in again.mail()]) == ([], town.names)
    assert town.coordinator._waiting.wanted == {}


def test_where_the_archive_cannot_be_read_the_connection_ends_and_nothing_is_passed_over(away):
    town = away()
    town.is_slow = True
    for rows, reason in ((None, "the archive cannot be read"), ([], "the archive has no task main-5")):
        boss = town.join("boss")
        town.coordinator.found(town.needs.pop(), rows, town.now)
        town.flush()
        assert boss.closed.startswith(reason)
        assert boss.mail() == []
    town.is_slow = False
    assert len(town.join("boss").mail()) == 1


def test_of_a_task_that_is_gone_mail_says_how_it_ended(away):
    town = away()
    (name,) = town.names
    town.archive[name] = (town.archive[name][0], b"")
    (told,) = town.join("boss").mail()
    assert told == TaskSettled(name, 0, "completed", "gone")


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_task_that_came_back_while_it_was_fetched_is_the_one_that_counts(away, is_gone):
    town = away()
    (name,) = town.names
    town.is_slow = True
    boss = town.join("boss")
    (need,) = town.needs
    rows = town.stored(need)
    town.coordinator.ledger.tasks[name] = back = plain.from_bytes(Task, rows[0].body, rows[0].beside)
    back.settled.detail = "newer"
    town.coordinator.found(need, [rows[0]._replace(body=b"")] if is_gone else [], town.now)
    town.flush()
    del town.coordinator.ledger.tasks[name]
    assert [mail.detail for mail in boss.mail()] == ["newer"]


# Who does not come back -----------------------------------------------------------------------------------------------


def test_a_process_of_its_own_that_goes_is_forgotten(town, boss):
    process = town.join("boss#1")
    process.delegate()
    worker = town.worker("w1")
    worker.report(worker.offer(), "rejected")
    process.acknowledge()
    boss.delegate("of others")
    worker.report(worker.offer())
    boss.delegate("of others too")
    process.say(Bye())
    assert town.said(AgentForgotten) == [AgentForgotten(town.now, "boss#1")]
    assert "boss#1" not in town.ledger.mailboxes


def test_a_process_with_mail_left_is_not_forgotten(town):
    process, worker = town.join("boss#1"), town.worker("w1")
    process.delegate()
    worker.report(worker.offer(), "rejected")
    process.drop()
    assert town.said(AgentForgotten) == []
    assert isinstance(town.join("boss#1").mail()[0], TaskSettled)


def test_a_process_that_is_away_for_too_long_is_forgotten_with_its_mail(town):
    process, worker = town.join("boss#1"), town.worker("w1")
    process.delegate(acceptance="auto")
    process.drop()
    worker.report(worker.offer())
    worker.acknowledge()
    town.pass_time(town.policy.passing_ms - 1)
    assert town.said(AgentForgotten) == []
    town.pass_time(1)
    assert [record.agent for record in town.said(AgentForgotten)] == ["boss#1"]
    assert "boss#1" not in town.ledger.mailboxes


def test_a_process_that_came_back_in_time_is_not_forgotten(town):
    process, worker = town.join("boss#1"), town.worker("w1")
    process.delegate(acceptance="auto")
    process.drop()
    worker.report(worker.offer())
    town.pass_time(town.policy.passing_ms - 1)
    again = town.join("boss#1")
    town.pass_time(town.policy.passing_ms)
    assert town.said(AgentForgotten) == []
    assert isinstance(again.mail()[0], TaskSettled)


def test_mail_that_may_still_come_is_waited_for(town):
    process = town.join("boss#1")
    process.delegate()
    process.drop()
    for _ in range(3):
        town.pass_time(town.policy.passing_ms)
    worker = town.worker("w1")
    worker.report(worker.offer(), "rejected")
    worker.acknowledge()
    assert town.said(AgentForgotten) == []
    assert len(town.ledger.mailboxes["boss#1"].entries) == 1
    town.pass_time(town.policy.passing_ms)
    assert [record.agent for record in town.said(AgentForgotten)] == ["boss#1"]


def test_mail_that_first_comes_when_a_process_has_gone_is_forgotten_with_it(town, boss):
    author, claimant, other = town.join("ann#1"), town.join("ann#2"), town.join("other")
    author.say(ContextWrite("c", "k", [ContextOp("decisions/db", 0, b'"a"')]))
    boss.say(ClaimAcquire(1, [{"name": "deploy"}]))
    claimant.say(ClaimAcquire(1, [{"name": "deploy"}], wait_ms=1_000))
    for process in (author, claimant):
        assert process.name not in town.ledger.mailboxes
        process.drop()
    other.say(ContextWrite("c", "k", [ContextOp("decisions/db", 0, b'"b"')]))
    town.pass_time(60_000)
    other.acknowledge()
    assert [len(town.ledger.mailboxes[process].entries) for process in ("ann#1", "ann#2")] == [2, 1]
    town.pass_time(town.policy.passing_ms)
    assert {record.agent for record in town.said(AgentForgotten)} == {"ann#1", "ann#2"}
    assert not town.ledger.conflicts, "nobody has to be told of it any more"


def test_where_nobody_is_waited_for_an_open_task_does_not_keep_the_coordinator_busy(make_town):
    town = make_town(passing_ms=0)
    process = town.join("boss#1")
    process.delegate()
    process.drop()
    town.coordinator.tick(town.now + 1)
    assert town.coordinator.next_deadline() == town.now + 2


def test_who_was_away_already_has_the_time_anew_after_a_restart(town):
    process, worker = town.join("boss#1"), town.worker("w1")
    process.delegate(acceptance="auto")
    process.drop()
    worker.report(worker.offer())
    town.pass_time(town.policy.passing_ms // 2)
    again = town.restart()
    again.pass_time(again.policy.passing_ms - 1)
    assert again.said(AgentForgotten) == []
    again.pass_time(1)
    assert [record.agent for record in again.said(AgentForgotten)] == ["boss#1"]


def test_a_process_that_holds_something_is_not_forgotten(town, boss):
    worker = town.worker("w#1")
    boss.delegate()
    worker.acknowledge()
    worker.drop()
    assert town.said(AgentForgotten) == []


def test_a_process_whose_tasks_go_on_is_not_forgotten_and_misses_nothing_when_it_comes_back(town):
    process, worker = town.join("boss#1"), town.worker("w1", tasks=9)
    first = process.delegate("first", acceptance="auto")
    worker.report(worker.offer())
    assert [message.task for message in process.mail()] == [first]
    process.acknowledge()
    tasks = [process.delegate(str(number), acceptance="auto") for number in range(3)]
    process.drop()
    for offer in worker.mail():
        worker.report(offer)
    again = town.join("boss#1", resume=Resume(1))
    assert [message.task for message in again.mail()] == tasks


def test_a_process_whose_result_waits_is_not_forgotten(town, boss):
    worker = town.worker("w#1")
    boss.delegate()
    worker.report(worker.offer())
    worker.acknowledge()
    worker.drop()
    assert town.said(AgentForgotten) == []
    boss.confirm(boss.mail()[-1])
    assert isinstance(town.worker("w#1", resume=Resume(1)).mail()[0], TaskSettled)


def test_a_process_that_never_had_mail_leaves_nothing_to_forget(town):
    town.join("boss#1").drop()
    assert town.said(AgentForgotten) == []


def test_an_agent_with_a_name_of_its_own_is_never_forgotten(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    worker.report(worker.offer(), "rejected")
    worker.acknowledge()
    worker.drop()
    assert town.said(AgentForgotten) == []
    assert town.ledger.mailboxes["w1"].next_mseq == 2
