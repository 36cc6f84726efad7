"""Settled tasks leave memory when nobody needs them at hand, and not before."""

from __future__ import annotations

import pytest

from a2a.engine import leaving, plain, retention
from a2a.engine.records import Archived, MailboxAcked, Recalled
from a2a.engine.retention import Fate, Retention, may_leave
from a2a.engine.task_state import Task
from a2a.protocol.messages import Held, TaskDelegate, TaskWatch

LINGER = 2_000


@pytest.fixture
def town(make_town):
    return make_town(linger_ms=LINGER)


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=8)


def done(boss, worker, key="k", **fields):
    """Have a task done, and return its id."""
    task = boss.delegate(key, acceptance="auto", **fields)
    worker.report(worker.offer())
    return task


def read_all(*peers):
    for peer in peers:
        peer.acknowledge()


def test_a_settled_task_lingers_and_then_leaves(town, boss, worker):
    task = done(boss, worker)
    read_all(boss, worker)
    town.pass_time(LINGER - 1)
    assert task in town.ledger.tasks
    town.pass_time(2_500)  # mail that was read is recorded first
    assert task not in town.ledger.tasks
    assert ("principal:boss", "k") not in town.ledger.keys
    assert [record.tasks for record in town.said(Archived)] == [[task]]


def test_the_archive_has_the_whole_task_and_what_it_is_found_by(town, boss, worker):
    task = done(boss, worker, context_id="c7")
    was = town.task(task)
    read_all(boss, worker)
    town.pass_time(6_000)
    kept, body = town.archive[task]
    assert plain.from_bytes(Task, body) == was
    assert (kept.scope, kept.key, kept.state, kept.lsn) == ("principal:boss", "k", "completed", was.lsn)
    assert (kept.skill, kept.parent, kept.context_id, kept.settled_at) == ("echo", None, "c7", was.since)


def test_the_archive_has_what_is_large_in_a_task_beside_it_and_a_recall_has_it_whole(town, boss, worker):
    payload = b'["' + b"a" * plain.LARGE_BYTES + b'"]'
    task = boss.delegate("k", acceptance="auto", payload=payload)
    offer = worker.offer()
    worker.report(offer, payload=payload + b" ")
    was = town.task(task)
    read_all(boss, worker)
    town.pass_time(6_000)
    kept, body = town.archive[task]
    assert (kept.beside, len(body) < 4_096) == ((payload, payload + b" "), True)
    assert plain.from_bytes(Task, body, kept.beside) == was
    assert worker.report(offer, payload=b'["late"]') == "late"
    [recalled] = town.said(Recalled)
    assert plain.from_bytes(Task, recalled.body) == was
    again = town.restart()
    assert again.task(task).payload == payload


def test_tasks_due_together_leave_in_one_record(town, boss, worker):
    tasks = [done(boss, worker, f"k{number}") for number in range(5)]
    read_all(boss, worker)
    town.pass_time(6_000)
    assert [record.tasks for record in town.said(Archived)] == [tasks]


def test_a_record_has_a_bounded_number_of_tasks(town, boss, worker):
    for number in range(300):
        done(boss, worker, f"k{number}")
        read_all(boss, worker)
    read_all(boss, worker)
    town.pass_time(10_000)
    assert [len(record.tasks) for record in town.said(Archived)] == [256, 44]
    assert town.ledger.tasks == {}


def test_the_oldest_leave_sooner_where_more_have_settled_than_there_is_room_for(make_town):
    town = make_town(linger_ms=600_000, linger_tasks_max=3)
    boss, worker = town.join("boss"), town.worker("w1", tasks=8)
    tasks = [done(boss, worker, f"k{number}") for number in range(3)]
    read_all(boss, worker)
    town.pass_time(5_000)
    assert list(town.ledger.tasks) == tasks, "there is room for these"
    for number in range(300):
        tasks.append(done(boss, worker, f"m{number}"))
        read_all(boss, worker)
    town.pass_time(5_000)
    assert list(town.ledger.tasks) == tasks[-3:]
    assert [len(record.tasks) for record in town.said(Archived)] == [256, 44]


def test_the_oldest_leave_sooner_where_their_payloads_are_more_than_there_is_room_for(make_town):
    room = 3 * 1024 * 1024
    town = make_town(linger_ms=600_000, linger_bytes_max=room)
    boss, worker = town.join("boss"), town.worker("w1", tasks=8)
    payload = b'["%s"]' % (b"x" * 1024 * 1024)
    tasks = [done(boss, worker, f"k{number}", payload=payload) for number in range(12)]
    read_all(boss, worker)
    town.pass_time(5_000)
    assert list(town.ledger.tasks) == tasks[-2:], "three are a little more than that"
    assert [len(record.tasks) for record in town.said(Archived)] == [4, 4, 2], "each batch is written out at once"
    assert town.coordinator.next_deadline() > town.now + 1_000


def test_those_for_whom_there_is_no_room_leave_together_and_not_one_by_one(make_town, monkeypatch):
    monkeypatch.setattr(retention, "_CROWD_SHARE", 2)
    town = make_town(linger_ms=600_000, linger_tasks_max=8)
    boss, worker = town.join("boss"), town.worker("w1", tasks=8)
    tasks = []
    for number in range(12):
        tasks.append(done(boss, worker, f"k{number}"))
        read_all(boss, worker)
    town.pass_time(5_000)
    assert list(town.ledger.tasks) == tasks, "half as many again as there is room for"
    tasks.append(done(boss, worker, "one more"))
    read_all(boss, worker)
    town.pass_time(5_000)
    assert len(town.ledger.tasks) == 8
    assert [len(record.tasks) for record in town.said(Archived)] == [5]


def test_those_for_whom_there_is_no_room_and_who_cannot_leave_are_not_looked_at_all_the_time(make_town):
    town = make_town(linger_ms=600_000, linger_tasks_max=1)
    boss, worker = town.join("boss"), town.worker("w1", tasks=8)
    above = boss.delegate("above")
    offer = worker.offer()
    worker.beat(offer)
    for number in range(4):
        worker.say(TaskDelegate(f"k{number}", {"skill": "echo"}, parent=Held(above, offer.fence)))
        worker.report(worker.offer(), "rejected")
    town.pass_time(500)
    looks = []
    for _ in range(6):
        worker.beat(offer)
        due = town.coordinator.next_deadline()
        looks.append(due - town.now)
        town.pass_time(due - town.now)
    assert len(town.ledger.tasks) == 5, "the task above them is open"
    assert min(looks) >= 250
    boss.cancel(above, "kill")
    town.pass_time(5_000)
    assert len(town.ledger.tasks) == 1


def test_of_those_for_whom_there_is_no_room_a_bounded_number_is_looked_at_at_once(make_town, monkeypatch):
    town = make_town(linger_ms=600_000, linger_tasks_max=1)
    boss, worker = town.join("boss"), town.worker("w1", tasks=8)
    looks = []
    monkeypatch.setattr(retention, "may_leave", lambda ledger, task, leaving: looks.append(task.id))
    for number in range(300):
        done(boss, worker, f"k{number}")
        read_all(boss, worker)
    looks.clear()
    town.coordinator.tick(town.now + 1_000)
    assert len(looks) == 256


def test_what_is_due_and_stays_is_looked_at_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(retention, "_LOOKS_MAX", 4)
    queue = retention.Retention(1_000, 100, 10**6)
    names = [f"main-{number}" for number in range(10)]
    for lsn, name in enumerate(names):
        queue.add(name, lsn, 1, 0)
    looks, each = [], []
    while queue.next_deadline() <= 1_000:
        before = len(looks)
        assert queue.take(lambda name, leaving: looks.append(name) or retention.Fate.STAYS, 1_000) == ([], False)
        each.append(len(looks) - before)
    assert (looks, each, queue.next_deadline()) == (names, [4, 4, 2], 2_000)


def test_a_task_leaves_also_where_somebody_has_not_read_its_mail(town, boss, worker):
    task = done(boss, worker)
    boss.drop()
    town.pass_time(LINGER + 500)
    assert task not in town.ledger.tasks


def test_what_was_read_is_recorded_where_a_task_leaves(town, boss, worker):
    done(boss, worker)
    read_all(boss, worker)
    assert town.said(MailboxAcked) == []
    town.pass_time(6_000)
    assert {record.agent for record in town.said(MailboxAcked)} == {"boss", "w1"}


def test_a_task_that_waits_is_not_looked_at_all_the_time(town, boss, worker, monkeypatch):
    looks = []
    monkeypatch.setattr(leaving, "fate_of", lambda *given: looks.append(town.now) or retention.fate_of(*given))
    above = boss.delegate("above")
    offer = worker.offer()
    worker.beat(offer)
    worker.say(TaskDelegate("below", {"skill": "echo"}, parent=Held(above, offer.fence)))
    worker.report(worker.offer(), "rejected")
    for _ in range(10):
        worker.beat(offer)
        town.pass_time(1_000)
    assert len(town.ledger.tasks) == 2
    assert 3 < len(looks) < 12


def test_an_open_task_stays(town, boss, worker):
    task = boss.delegate("k")
    offer = worker.offer()
    for _ in range(4):
        worker.beat(offer)
        town.pass_time(2_500)
    assert task in town.ledger.tasks
    assert town.said(Archived) == []


@pytest.fixture
def family(town, boss, worker):
    """A parent at work, and its child that has ended."""
    parent = boss.delegate("parent", acceptance="auto")
    offer = worker.offer()
    child = worker.say(
        TaskDelegate(
            "child", {"skill": "echo", "acceptance": {"evaluator": "auto"}}, b"[1]", parent=Held(parent, offer.fence)
        )
    ).task
    worker.report(worker.offer())
    worker.acknowledge()
    return parent, child, offer


def test_a_child_stays_while_its_parent_is_at_work(town, worker, family):
    parent, child, offer = family
    for _ in range(5):
        worker.beat(offer)
        town.pass_time(2_000)
    assert child in town.ledger.tasks


def test_a_parent_leaves_with_the_last_of_its_children(town, boss, worker, family):
    parent, child, offer = family
    worker.report(offer)
    read_all(boss, worker)
    town.pass_time(10_000)
    assert town.ledger.tasks == {}
    left = [task for record in town.said(Archived) for task in record.tasks]
    assert sorted(left) == sorted([parent, child])


def test_a_parent_does_not_leave_before_a_child_that_outlives_it(town, boss, worker):
    parent = boss.delegate("parent", acceptance="auto")
    offer = worker.offer()
    child = worker.say(
        TaskDelegate("child", {"skill": "other"}, parent=Held(parent, offer.fence), on_parent_end="abandon")
    ).task
    worker.report(offer)
    read_all(boss, worker)
    town.pass_time(20_000)
    assert set(town.ledger.tasks) == {parent, child}
    assert not may_leave(town.ledger, town.task(parent))
    assert may_leave(town.ledger, town.task(parent), leaving=[child])


def test_the_end_of_a_task_ends_its_watches(town, boss, worker):
    task = done(boss, worker)
    boss.say(TaskWatch(task))
    read_all(boss, worker)
    town.pass_time(6_000)
    assert (boss.seat.watches, town.coordinator.live.watchers) == ({}, {})


def test_tasks_that_had_settled_before_a_start_leave_after_it(town, boss, worker):
    task = done(boss, worker)
    read_all(boss, worker)
    for peer in (boss, worker):
        peer.drop()
    again = town.restart(after=10_000)
    assert task in again.ledger.tasks
    again.pass_time(250)
    assert task not in again.ledger.tasks


def test_a_task_that_was_recalled_leaves_again_with_all_that_was_added(town, boss, worker):
    task = boss.delegate("k", acceptance="auto")
    offer = worker.offer()
    worker.report(offer)
    read_all(boss, worker)
    town.pass_time(6_000)
    assert worker.report(offer, payload=b'["other"]') == "late"
    assert [type(record) for record in town.said(Recalled)] == [Recalled]
    assert list(town.ledger.recalled) == [task]
    town.pass_time(6_000)
    assert task not in town.ledger.tasks
    _, body = town.archive[task]
    assert [kept.payload for kept in plain.from_bytes(Task, body).evidence] == [b'["other"]']


def test_a_look_that_comes_too_soon_puts_nothing_off():
    looked = []

    def stays(name, _):
        looked.append(name)
        return Fate.STAYS

    queue = Retention(10_000, 0, 2**40)
    queue.add("one", 1, 0, 0)
    assert queue.take(stays, 0) == ([], False)
    again = queue.next_deadline()
    assert queue.take(stays, again - 1) == ([], False)
    assert (looked, queue.next_deadline()) == (["one"], again), "there are too many, and it could not leave"
    queue.take(stays, again)
    assert looked == ["one", "one"]


# Room -----------------------------------------------------------------------------------------------------------------


def test_no_more_tasks_are_taken_than_there_is_room_for_until_some_have_left(make_town):
    """Spec LIMIT-12: of sub-tasks twice as many, as what is there could not end without them."""
    town = make_town(tasks_max=2, linger_ms=LINGER)
    boss, worker = town.join("boss"), town.worker("w1", tasks=9)
    first, second = (boss.delegate(key, acceptance="auto") for key in "12")
    assert boss.refused(TaskDelegate("3", {"skill": "echo"})) == "quota"
    assert boss.delegate("1", acceptance="auto") == first, "a repeat is answered"
    offers = {offer.task: offer for offer in worker.mail()}
    at = Held(first, offers[first].fence)
    for number in range(2):
        worker.delegate(f"part {number}", "nobody", parent=at)
    assert worker.refused(TaskDelegate("part 2", {"skill": "nobody"}, parent=at)) == "quota"
    for task in (first, second):
        worker.report(offers[task])
    read_all(boss, worker)
    town.pass_time(3 * LINGER)
    assert town.ledger.tasks == {}
    boss.delegate("3")


@pytest.mark.parametrize(
    "large", [{"payload": b'["%s"]' % (b"x" * 500)}, {"spec": {"x-note": "x" * 500}}], ids=["input", "specification"]
)
def test_what_all_tasks_want_has_a_bound_together(make_town, large):
    """Spec LIMIT-12."""
    town = make_town(tasks_max_bytes=400, linger_ms=LINGER)
    boss, worker = town.join("boss"), town.worker("w1", tasks=2)
    boss.delegate("1", acceptance="auto")
    boss.delegate("2", acceptance="auto", **large)
    assert boss.refused(TaskDelegate("3", {"skill": "echo"})) == "quota"
    for offer in worker.mail():
        worker.report(offer)
    read_all(boss, worker)
    town.pass_time(3 * LINGER)
    assert town.ledger.wanted_bytes == 0
    boss.delegate("3")
