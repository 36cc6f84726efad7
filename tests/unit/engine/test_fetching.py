"""Frames about tasks that have left memory are answered from the archive, in order, and change nothing needlessly."""

from __future__ import annotations

import json

import pytest

from a2a.engine import snapshot
from a2a.engine.decision import Need
from a2a.engine.fetching import AtHand, Fetched, Waiting
from a2a.engine.ledger import Ledger
from a2a.engine.records import Adopted, Archived, Delegated, Recalled, ReportKept
from a2a.protocol.codec import Frame
from a2a.protocol.messages import (
    A2ACall,
    ConflictRaise,
    ConflictRaised,
    ContextOp,
    ContextWrite,
    Error,
    Held,
    HeldStill,
    Ok,
    Ping,
    Pong,
    RaisedSubject,
    TaskAnswer,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskDelegate,
    TaskEventNotice,
    TaskFound,
    TaskGet,
    TaskHeartbeat,
    TaskList,
    TaskPage,
    TaskRevoke,
    TaskWatch,
    TaskYield,
    Welcome,
)

SPEC = {"skill": "echo", "acceptance": {"evaluator": "delegator"}}


@pytest.fixture
def town(make_town):
    return make_town(linger_ms=0)


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=8)


class Story:
    """A task that was done, confirmed and archived, and what was said about it."""

    def __init__(self, town, boss, worker, key="k"):
        self.task = boss.delegate(key)
        self.offer = worker.offer()
        worker.report(self.offer)
        self.review = boss.mail()[-1]
        boss.confirm(self.review)
        self.view = boss.say(TaskGet(self.task))
        boss.acknowledge()
        worker.acknowledge()
        town.pass_time(5_000)
        boss.mail(), worker.mail()
        assert self.task not in town.ledger.tasks
        self.count = len(town.records)


@pytest.fixture
def story(town, boss, worker):
    return Story(town, boss, worker)


def test_an_archived_task_is_read_as_it_was(town, boss, story):
    assert boss.say(TaskGet(story.task)) == story.view
    assert isinstance(story.view, TaskFound)
    assert len(town.records) == story.count, "reading changes nothing"


def test_its_history_is_watched_from_any_generation_and_then_nothing_follows(town, boss, story):
    generation = story.view.generation
    assert boss.say(TaskWatch(story.task)) == Ok(state="completed")
    events = [notice for notice in boss.notices if isinstance(notice, TaskEventNotice)]
    assert [event.generation for event in events] == list(range(1, generation + 1))
    assert [event.event for event in events] == ["created", "grant", "report", "complete"]
    assert boss.say(TaskWatch(story.task, from_gen=3)) == Ok(state="completed")
    assert [notice.generation for notice in boss.notices[len(events) :]] == [4]
    assert boss.say(TaskWatch(story.task, stop=True)) == Ok(state="completed")
    assert len(boss.notices) == len(events) + 1
    assert (boss.seat.watches, len(town.records)) == ({}, story.count)


def repeats(story):
    return {
        "confirm": (TaskConfirm(story.task, 0, story.review.result_hash), Ok(state="completed")),
        "cancel": (TaskCancel(story.task), "not_cancelable"),
        "answer": (TaskAnswer(story.task, 1, b"[]"), "not_found"),
        "delegate": (TaskDelegate("k", SPEC), None),
        "other work": (TaskDelegate("k", {"skill": "other"}), "idempotency_mismatch"),
    }


@pytest.mark.parametrize("name", ["confirm", "cancel", "answer", "delegate", "other work"])
def test_a_repeat_is_answered_as_before_and_recalls_nothing(town, boss, story, name):
    message, due = repeats(story)[name]
    answer = boss.say(message)
    if isinstance(answer, Error):
        assert answer.code == due
    elif isinstance(answer, TaskCreated):
        assert (answer.task, answer.created, answer.state) == (story.task, False, "completed")
    else:
        assert answer == due
    assert len(town.records) == story.count
    assert story.task not in town.ledger.tasks


def test_a_repeated_report_is_a_duplicate_and_a_repeated_yield_is_ok(town, worker, story):
    assert worker.report(story.offer) == "duplicate"
    assert worker.say(TaskYield(story.task, story.offer.fence, "busy")) == Ok(state="completed")
    assert len(town.records) == story.count


def test_a_late_report_brings_the_task_back_and_is_kept_once(town, worker, story):
    for _ in range(2):
        assert worker.report(story.offer, payload=b'["late"]') == "late"
    assert [type(record) for _, record in town.records[story.count :]] == [Recalled, ReportKept]
    assert len(town.task(story.task).evidence) == 1


def test_evidence_that_was_archived_is_not_kept_again(town, worker, story):
    worker.report(story.offer, payload=b'["late"]')
    town.pass_time(5_000)
    count = len(town.records)
    assert worker.report(story.offer, payload=b'["late"]') == "late"
    assert len(town.records) == count


def test_a_key_from_another_process_adopts_the_archived_task(town, boss, story):
    other = town.join("boss#2")
    answer = other.say(TaskDelegate("k", SPEC))
    assert (answer.task, answer.created) == (story.task, False)
    assert [type(record) for _, record in town.records[-2:]] == [Recalled, Adopted]
    assert town.task(story.task).delegator == "boss#2"


def test_a_fresh_key_does_not_wait_for_the_archive(town, boss, story):
    town.is_slow = True
    assert boss.say(TaskDelegate("fresh", SPEC)).created
    assert town.needs == []


def test_a_key_that_only_seems_known_is_fresh(town, boss, story, monkeypatch):
    monkeypatch.setattr(type(town.ledger.archived), "may_have", lambda *_: True)
    assert boss.say(TaskDelegate("fresh", SPEC)).created


@pytest.mark.parametrize("task", ["main-999999", "other-3", "main-x"])
def test_what_cannot_have_been_is_not_found_without_asking(town, boss, story, task):
    town.is_slow = True
    assert boss.refused(TaskGet(task)) == "not_found"
    assert town.needs == []


def test_what_the_archive_does_not_have_is_not_found(town, boss, story):
    assert boss.refused(TaskGet("main-2")) == "not_found", "an offer has that position"


def test_a_holder_that_comes_back_late_is_told_to_stop(town, worker, story):
    answer = worker.say(TaskHeartbeat(story.task, story.offer.fence))
    assert answer == TaskRevoke(story.task, story.offer.fence, "settled", "skip")
    worker.drop()
    again = town.dial()
    welcome = again.say(town.hello("w1", held=[HeldStill(story.task, story.offer.fence), HeldStill("main-999999", 1)]))
    assert isinstance(welcome, Welcome)
    assert [held.verdict for held in welcome.held] == ["stale", "unknown"]


def test_a_zombie_of_an_archived_task_writes_no_context(town, worker, story):
    write = ContextWrite("plans", "k", [ContextOp("a", value=b"1")], attempt=Held(story.task, story.offer.fence))
    assert worker.refused(write) == "stale"
    assert town.ledger.contexts == {}


def test_an_ended_parent_is_no_place_for_a_sub_task(town, worker, story):
    message = TaskDelegate("child", SPEC, parent=Held(story.task, story.offer.fence))
    assert worker.refused(message) == "stale"


# Order ----------------------------------------------------------------------------------------------------------------


def test_frames_of_a_connection_wait_behind_one_that_waits(town, boss, worker, story):
    town.is_slow = True
    assert boss.say(TaskGet(story.task)) is None
    assert boss.say(Ping("a")) is None
    assert boss.say(TaskGet(story.task)) is None
    assert boss.say(Ping("b")) is None
    assert worker.say(Ping("c")) == Pong("c"), "nobody else waits"
    asked = len(boss.replies)
    town.is_slow = False
    town.look_up()
    assert [type(message) for message in list(boss.replies.values())[asked:]] == [TaskFound, Pong, TaskFound, Pong]


def test_what_waited_for_nobody_is_dropped(town, boss, story):
    town.is_slow = True
    boss.say(TaskDelegate("k", SPEC))
    boss.say(TaskDelegate("another", SPEC))
    boss.drop()
    town.is_slow = False
    town.look_up()
    assert len(town.records) == story.count
    assert town.coordinator._waiting.wanted == {}


def test_a_task_that_came_back_meanwhile_is_the_one_that_counts(town, boss, worker, story):
    town.is_slow = True
    boss.say(TaskGet(story.task))
    (need,) = town.needs
    old = town.stored(need)
    town.needs.clear()
    town.is_slow = False
    assert worker.report(story.offer, payload=b'["late"]') == "late"
    town.pass_time(5_000)
    assert story.task in town.ledger.tasks, "it is asked for, so it stays"
    town.coordinator.found(need, old, town.now)
    town.flush()
    assert len(list(boss.replies.values())[-1].view["metadata"]["evidence"]) == 1
    town.pass_time(5_000)
    assert story.task not in town.ledger.tasks


def test_what_a_frame_is_about_stays_while_the_rest_of_it_is_looked_up(make_town):
    town = make_town(linger_ms=5_000)
    boss, worker = town.join("boss"), town.worker("w1")
    story = Story(town, boss, worker)
    other = boss.delegate("other", acceptance="auto")
    worker.report(worker.offer(), payload=b'["else"]')
    town.is_slow = True
    boss.say(ConflictRaise("result", [RaisedSubject(task=story.task), RaisedSubject(task=other)]))
    town.pass_time(10_000)
    assert list(town.ledger.tasks) == [other]
    town.is_slow = False
    town.look_up()
    assert isinstance(list(boss.replies.values())[-1], ConflictRaised)
    town.pass_time(10_000)
    assert other not in town.ledger.tasks


def test_an_archive_that_cannot_be_read_says_so(town, boss, story):
    town.is_slow = True
    boss.say(TaskGet(story.task))
    town.coordinator.found(town.needs.pop(), None, town.now)
    town.flush()
    answer = list(boss.replies.values())[-1]
    assert isinstance(answer, Error)
    assert (answer.code, answer.retryable) == ("unavailable", True)


def test_a_damaged_body_says_whose_it_is(town, boss, story):
    town.archive[story.task] = (town.archive[story.task][0], b"damaged")
    answer = boss.say(TaskGet(story.task))
    assert answer.code == "unavailable"
    assert story.task in answer.detail


# Pages ----------------------------------------------------------------------------------------------------------------


def test_pages_go_over_memory_and_archive_newest_first(town, boss, worker):
    done = [Story(town, boss, worker, f"k{number}").task for number in range(5)]
    still = boss.delegate("open", skill="nobody")
    done.append(Story(town, boss, worker, "k5").task)
    worker.report(Story(town, boss, worker, "k6").offer, payload=b'["late"]')
    back = list(town.ledger.recalled)
    everything = sorted([*done, still, *back], key=lambda task: -int(task.rpartition("-")[2]))
    for limit in (1, 2, 3, 100):
        seen, before = [], None
        while True:
            page = boss.say(TaskList(limit=limit, before=before))
            assert isinstance(page, TaskPage)
            assert len(page.tasks) <= limit
            seen += [shown["id"] for shown in page.tasks]
            before = page.next_before
            if before is None:
                break
        assert seen == everything
    assert [shown["id"] for shown in boss.say(TaskList(state="queued")).tasks] == [still]
    ended = boss.say(TaskList(state="TASK_STATE_COMPLETED", skill="echo")).tasks
    assert [shown["id"] for shown in ended] == [task for task in everything if task != still]
    assert boss.say(TaskList(state="failed")).tasks == []


def test_a_page_misses_nothing_that_leaves_while_it_is_looked_up(town, boss, worker, story):
    second = boss.delegate("second")
    offer = worker.offer()
    worker.report(offer)
    boss.confirm(boss.mail()[-1])
    boss.acknowledge()
    worker.acknowledge()
    town.is_slow = True
    boss.say(TaskList())
    (need,) = town.needs
    rows = town.stored(need)
    town.needs.clear()
    town.pass_time(5_000)
    assert second not in town.ledger.tasks
    town.coordinator.found(need, rows, town.now)
    town.flush()
    page = list(boss.replies.values())[-1]
    assert [shown["id"] for shown in page.tasks] == [second, story.task]


def test_a_page_goes_on_behind_a_task_that_is_gone(town, boss, story):
    assert boss.say(TaskList(before=story.task)) == TaskPage([])
    assert boss.refused(TaskList(before="other-1")) == "not_found"
    assert boss.refused(TaskList(before="main-999999")) == "not_found"


def test_a_page_shows_a_task_that_is_back_as_it_is_now(town, boss, worker):
    for number in range(2):
        boss.delegate(f"open{number}", skill="nobody")
    story = Story(town, boss, worker)
    worker.report(story.offer, payload=b'["late"]')
    (shown,) = boss.say(TaskList(limit=1)).tasks
    assert (shown["id"], len(shown["metadata"]["evidence"])) == (story.task, 1)


# Families -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def family(town, boss, worker):
    """A parent and its child, both done and archived, and the offer of the parent."""
    parent = boss.delegate("parent", acceptance="auto")
    offer = worker.offer()
    child = worker.say(TaskDelegate("child", SPEC, b"[1]", parent=Held(parent, offer.fence))).task
    worker.report(worker.offer())
    worker.confirm(worker.mail()[-1])
    worker.report(offer)
    boss.acknowledge()
    worker.acknowledge()
    town.pass_time(6_000)
    assert town.ledger.tasks == {}
    return parent, child, offer


def test_a_parent_comes_back_without_its_children(town, worker, family):
    parent, _, offer = family
    assert worker.report(offer, payload=b'["late"]') == "late"
    other = town.join("boss#2")  # adopting the parent has its children looked at
    assert other.say(TaskDelegate("parent", {"skill": "echo", "acceptance": {"evaluator": "auto"}})).task == parent
    assert set(town.ledger.tasks) == {parent}
    town.pass_time(6_000)
    assert town.ledger.tasks == {}


def test_the_holder_of_an_archived_parent_has_no_word_on_its_children(town, worker, family):
    _, child, _ = family
    assert town.join("stranger").refused(TaskCancel(child)) == "forbidden"
    assert worker.refused(TaskCancel(child)) == "not_cancelable", "it delegated the child itself"


# Gone -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gone(town, story):
    town.archive[story.task] = (town.archive[story.task][0], b"")
    return story


def test_a_pruned_task_is_gone_and_not_unknown(town, boss, worker, gone):
    for message in (TaskGet(gone.task), TaskWatch(gone.task), TaskCancel(gone.task)):
        assert boss.refused(message) == "gone"
    assert worker.refused(worker.reporting(gone.offer)) == "gone"
    assert worker.refused(TaskDelegate("child", SPEC, parent=Held(gone.task, gone.offer.fence))) == "gone"
    write = ContextWrite("plans", "k", [ContextOp("a", value=b"1")], attempt=Held(gone.task, gone.offer.fence))
    assert worker.refused(write) == "gone"
    values = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    for subjects, about in (([RaisedSubject(task=gone.task), *values], ""), (values, f"task:{gone.task}")):
        assert worker.refused(ConflictRaise("result", subjects, about)) == "gone"
    assert worker.say(TaskHeartbeat(gone.task, gone.offer.fence)).reason == "unknown"


def test_a_pruned_task_that_is_held_is_not_taken_for_one_that_the_ledger_has_lost(town, worker, gone):
    """Spec DURABLE-7."""
    worker.drop()
    welcome = town.dial().say(town.hello("w1", held=[HeldStill(gone.task, gone.offer.fence)]))
    assert [held.verdict for held in welcome.held] == ["unknown"]


def test_the_key_of_a_pruned_task_may_be_used_again(town, boss, gone):
    answer = boss.say(TaskDelegate("k", {"skill": "other"}))
    assert isinstance(answer, TaskCreated)
    assert answer.created
    assert town.said(Delegated)[-1].task == answer.task != gone.task


def test_a_task_that_comes_back_when_it_is_gone_leaves_its_key_to_the_task_that_has_it_now(town, boss, worker, story):
    """It was read from the archive just before it was pruned, and its key was looked up just after."""
    town.is_slow = True
    worker.say(worker.reporting(story.offer, payload=b'["late"]'))
    (late,) = town.needs
    rows = town.stored(late)
    town.archive[story.task] = (town.archive[story.task][0], b"")
    town.needs.clear()
    town.is_slow = False
    again = boss.delegate("k", acceptance="auto")
    town.coordinator.found(late, rows, town.now)
    town.flush()
    assert set(town.ledger.tasks) == {story.task, again}
    loaded = snapshot.load(snapshot.to_bytes(town.ledger), "main")
    for ledger in (town.ledger, loaded):
        assert ledger.keys == {("principal:boss", "k"): again}
    offer = worker.offer()
    worker.beat(offer)
    town.pass_time(2_000)
    assert set(town.ledger.tasks) == {again}
    assert boss.delegate("k", acceptance="auto") == again
    worker.report(offer)
    town.pass_time(2_000)
    assert (town.ledger.tasks, town.ledger.keys) == ({}, {})
    listed = json.loads(boss.say(A2ACall("ListTasks")).payload)["tasks"]
    assert [task["id"] for task in listed] == [again, story.task], "both are lent for it"
    assert town.ledger.keys == {}


# The parts ------------------------------------------------------------------------------------------------------------


def test_what_is_wanted_is_counted():
    waiting = Waiting()
    first, second = Need(1, ("main-1",)), Need(2, ("main-1",), ("s", "k"))
    waiting.begin(first, Frame("a", Ping("a")), AtHand())
    waiting.begin(second, Frame("b", Ping("b")), AtHand(tasks=[]))
    waiting.add(2, Frame("c", Ping("c")))
    assert 1 in waiting
    assert 3 not in waiting
    frames, at_hand = waiting.end(second)
    assert ([frame.id for frame in frames], at_hand) == (["b", "c"], AtHand(tasks=[]))
    assert waiting.wanted == {"main-1": 1}
    assert [frame.id for frame in waiting.end(first)[0]] == ["a"]
    assert (waiting.wanted, 1 in waiting) == ({}, False)


def test_nothing_read_is_nothing_found():
    assert Fetched.read([]) == Fetched()
    assert Fetched.read(None).failure == "the archive cannot be read"


def test_nothing_is_asked_of_an_archive_that_has_nothing(town, boss):
    town.is_slow = True
    assert boss.refused(TaskGet("main-1")) == "not_found"
    assert boss.say(TaskList()) == TaskPage([])
    assert isinstance(town.ledger, Ledger)
    assert town.said(Archived) == []
