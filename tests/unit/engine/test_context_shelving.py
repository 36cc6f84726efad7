"""Contexts leave memory when nothing goes on in them, and are back before something does."""

import dataclasses
import json

import pytest

from a2a.engine import plain, snapshot
from a2a.engine.context_shelving import Idle
from a2a.engine.context_state import Context
from a2a.engine.filter import KeyFilter
from a2a.engine.records import (
    ConflictOpened,
    ContextRecalled,
    ContextsArchived,
    ContextWritten,
    Delegated,
    Reported,
)
from a2a.engine.replay.run import Replay
from a2a.protocol.messages import (
    A2ACall,
    ConflictRaise,
    ContextEventNotice,
    ContextOp,
    ContextRead,
    ContextValues,
    ContextWatch,
    ContextWrite,
    Error,
    Ok,
    RaisedSubject,
    Seen,
    TaskDelegate,
    TaskReview,
)
from a2a.protocol.messages import ContextWritten as Written

LINGER = 10_000
C = "plans"


@pytest.fixture
def town(make_town):
    return make_town(linger_contexts_ms=LINGER, linger_ms=0)


@pytest.fixture
def ann(town):
    return town.join("ann")


def write(peer, name, *ops, context=C, **fields):
    return peer.say(ContextWrite(context, name, list(ops or [ContextOp("a", None, b"1")]), **fields))


def left(town):
    return [name for record in town.said(ContextsArchived) for name in record.contexts]


@pytest.fixture
def shelved(town, ann):
    """A context with two revisions of a key and a decision, that has left memory."""
    write(ann, "one", ContextOp("a", 0, b"1"), ContextOp("decisions/db", 0, b'"x"'))
    write(ann, "two", ContextOp("a", 1, b"2"), reason="better")
    was = town.ledger.contexts[C]
    town.pass_time(2 * LINGER)
    assert town.ledger.contexts == {}
    return was


# When -----------------------------------------------------------------------------------------------------------------


def test_a_context_leaves_when_nobody_has_written_it_for_a_while(town, shelved):
    assert left(town) == [C]
    assert (town.ledger.context_bytes, town.ledger.may_have_archived_context(C)) == (0, True)
    kept = town.contexts[C]
    assert plain.from_bytes(Context, kept.body, kept.beside) == shelved
    assert kept.lsn == shelved.lsn
    assert not town.ledger.may_have_archived_context("another")


def test_a_write_puts_it_off(town, ann):
    for number in range(4):
        write(ann, f"w{number}")
        town.pass_time(LINGER - 1_000)
    assert left(town) == []
    town.pass_time(LINGER)
    assert left(town) == [C]


def test_it_stays_while_a_task_that_has_not_ended_belongs_to_it(town, ann):
    ann.delegate("k", context_id=C, acceptance="auto")
    write(ann, "one")
    town.pass_time(3 * LINGER)
    assert left(town) == []
    worker = town.worker("w1")
    worker.report(worker.offer())
    town.pass_time(2 * LINGER)
    assert (left(town), town.ledger.contexts_in_use) == ([C], {})


def test_it_stays_while_a_conflict_about_one_of_its_keys_is_open(make_town):
    ladder = ({"strategy": "human"},)
    town = make_town(linger_contexts_ms=LINGER, ladders={"context": ladder}, human_ms=5 * LINGER)
    ann, bob = town.join("ann"), town.join("bob")
    write(ann, "one", ContextOp("decisions/db", 0, b'"x"'))
    write(bob, "one", ContextOp("decisions/db", 0, b'"y"'))
    assert town.said(ConflictOpened)
    town.pass_time(3 * LINGER)
    assert left(town) == []
    town.pass_time(5 * LINGER)
    assert (left(town), town.ledger.open_conflicts) == ([C], {})


@pytest.mark.parametrize("limit", [{"linger_contexts_max": 2}, {"linger_contexts_bytes_max": 1_700}], ids=list)
def test_where_there_is_no_room_those_leave_that_were_written_longest_ago(make_town, limit):
    town = make_town(**limit)
    ann = town.join("ann")
    for name in ("one", "two"):
        write(ann, name, context=name)
    write(ann, "again", context="one")
    town.pass_time(1_000)
    assert left(town) == []
    write(ann, "three", context="three")
    town.pass_time(1_000)
    assert left(town) == ["two"]


@pytest.mark.parametrize("limit", [{"contexts_max": 4}, {"contexts_max_bytes": 2_400}], ids=list)
def test_they_leave_before_a_new_one_would_be_refused(make_town, limit):
    town = make_town(**limit)
    ann = town.join("ann")
    for number in range(10):
        assert isinstance(write(ann, "one", context=f"c{number}"), Written)
        town.pass_time(500)
    assert len(left(town)) == 8


def test_one_that_is_needed_is_passed_over_where_there_is_no_room(make_town):
    town = make_town(linger_contexts_max=1)
    ann = town.join("ann")
    ann.say(TaskDelegate("k", {"skill": "nobody"}, context_id="one"))
    for name in ("one", "two"):
        write(ann, name, context=name)
    town.pass_time(1_000)
    assert left(town) == ["two"]
    for name in ("three", "four"):
        write(ann, name, context=name)
        town.pass_time(1_000)
    assert left(town) == ["two", "three", "four"]


def test_one_that_somebody_waits_for_stays(town, ann, shelved):
    bob = town.join("bob")
    town.is_slow = True
    for peer, name in ((ann, "by ann"), (bob, "by bob")):
        assert write(peer, name, ContextOp("a", 2, b"3")) is None
    first, second = town.needs
    rows = town.stored(first)
    town.coordinator.found(second, rows, town.now)
    town.pass_time(3 * LINGER)
    assert left(town) == [C], "what was found for the other is what there was before"
    town.coordinator.found(first, rows, town.now)
    town.flush()
    assert [len(town.said(kind)) for kind in (ContextRecalled, ContextWritten)] == [1, 3]
    (answer,) = [message for message in ann.replies.values() if isinstance(message, Error)]
    assert (answer.data["rev"], answer.data["author"]) == (3, "bob")


def delegate(ann, key):
    ann.say(TaskDelegate(key, {"skill": "echo", "acceptance": {"evaluator": "auto"}}, context_id=C))


def send(ann, key):
    message = {"messageId": key, "role": "ROLE_USER", "parts": [{"text": "go"}], "contextId": C}
    ann.say(A2ACall("SendMessage", json.dumps({"message": message}).encode()))


@pytest.mark.parametrize("begin", [delegate, send])
def test_one_that_a_task_is_about_to_begin_in_stays_while_its_key_is_looked_up(town, ann, begin):
    """Spec DURABLE-12, TASK-6: the task that the key stood for is gone."""
    worker = town.worker("w1")
    ann.delegate("k", acceptance="auto")
    worker.report(worker.offer())
    town.pass_time(1_000)
    ((task, _),) = town.archive.values()
    town.archive[task.task] = (task, b"")
    write(ann, "one")
    town.is_slow = True
    begin(ann, "k")
    town.pass_time(2 * LINGER)
    assert (left(town), list(town.ledger.contexts)) == ([], [C])
    town.is_slow = False
    town.look_up()
    assert [record.context_id for record in town.said(Delegated)[1:]] == [C]
    assert town.coordinator._waiting.wanted == {}


# Reading --------------------------------------------------------------------------------------------------------------


def test_it_is_read_as_it_was(town, ann, shelved):
    count = len(town.records)
    found = ann.say(ContextRead(C))
    assert isinstance(found, ContextValues)
    assert [(value.key, value.rev, value.payload) for value in found.values] == [
        ("a", 2, b"2"),
        ("decisions/db", 1, b'"x"'),
    ]
    assert (found.lsn, found.values[0].reason) == (shelved.lsn, "better")
    old = ann.say(ContextRead(C, ["a"], at_rev=1))
    assert old.values[0].payload == b"1"
    assert (len(town.records), town.ledger.contexts) == (count, {}), "reading changes nothing"


def test_it_is_watched_from_any_place_and_goes_on_when_it_is_written(town, ann, shelved):
    assert ann.say(ContextWatch(C)) == Ok()
    told = [notice for notice in ann.notices if isinstance(notice, ContextEventNotice)]
    assert [[value.rev for value in notice.values] for notice in told] == [[1, 1], [2]]
    assert town.ledger.contexts == {}
    write(town.join("bob"), "three", ContextOp("a", 2, b"3"))
    assert [value.payload for value in ann.notices[-1].values] == [b"3"]
    assert len([notice for notice in ann.notices if isinstance(notice, ContextEventNotice)]) == 3
    assert ann.say(ContextWatch(C, stop=True)) == Ok()


def test_a_watch_from_the_newest_place_is_told_nothing_it_has(town, ann, shelved):
    assert ann.say(ContextWatch(C, "", shelved.lsn)) == Ok()
    assert [notice for notice in ann.notices if isinstance(notice, ContextEventNotice)] == []


def test_one_that_only_seems_to_have_left_is_as_it_ever_was(town, ann, shelved, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(KeyFilter, "may_have", lambda *_: True)
        assert ann.say(ContextRead("other", ["a"])).values[0].rev == 0
        answer = write(ann, "one", context="other")
    assert (answer.revs, len(town.said(ContextRecalled))) == ({"a": 1}, 0)


def test_watchers_hear_what_a_conflict_comes_to_before_it_may_leave(make_town):
    town = make_town(linger_contexts_max=0)
    ann, bob, cat = (town.join(name) for name in ("ann", "bob", "cat"))
    ann.say(ContextWatch(C))
    write(bob, "one", ContextOp("decisions/db", 0, b'{"a":1}'))
    write(cat, "one", ContextOp("decisions/db", 0, b'{"b":2}'))
    assert len(town.said(ContextWritten)) == 2, "they are merged"
    assert ann.notices[-1].values[0].payload == b'{"a":1,"b":2}'
    town.pass_time(1_000)
    assert left(town) == [C]


# Going on -------------------------------------------------------------------------------------------------------------


def test_it_is_back_before_it_is_written(town, ann, shelved):
    answer = write(ann, "three", ContextOp("a", 2, b"3"))
    assert answer.revs == {"a": 3}
    assert [type(record) for record in town.said(ContextRecalled, ContextWritten)][-2:] == [
        ContextRecalled,
        ContextWritten,
    ]
    assert town.ledger.contexts[C].written_as("ann", "one") is not None
    town.pass_time(2 * LINGER)
    assert left(town) == [C, C]
    assert ann.say(ContextRead(C, ["a"])).values[0].rev == 3, "the archive has the newer one"


def test_a_write_from_before_it_left_is_a_repeat(town, ann, shelved):
    answer = write(ann, "two", ContextOp("a", 1, b"2"), reason="better")
    assert isinstance(answer, Written)
    assert (answer.revs, len(town.said(ContextWritten))) == ({"a": 2}, 2)


def test_a_write_that_has_lost_is_told_what_stands(town, ann, shelved):
    answer = write(town.join("bob"), "one", ContextOp("a", 1, b"3"), rebases=True)
    assert isinstance(answer, Error)
    assert (answer.code, answer.data["rev"], answer.data["value"]) == ("conflict", 2, b"2")


def test_a_task_is_delegated_into_it_when_it_is_back(town, ann, shelved):
    worker = town.worker("w1")
    task = ann.delegate("k", acceptance="auto", context_id=C)
    assert [type(record) for record in town.said(ContextRecalled, Delegated)] == [ContextRecalled, Delegated]
    worker.report(worker.offer(), basis=[Seen("decisions/db", 0)])
    (reported,) = town.said(Reported)
    assert (reported.task, reported.stale_basis) == (task, [{"key": "decisions/db", "seen": 0, "current": 1}])
    ann.confirm(next(message for message in ann.mail() if isinstance(message, TaskReview)))
    town.pass_time(3 * LINGER)
    assert left(town) == [C, C], "it leaves again, though nobody has written it"
    assert town.ledger.contexts_archived.count == 1


def test_a_repeat_of_a_delegation_leaves_it_where_it_is(make_town):
    town = make_town(linger_contexts_ms=LINGER, linger_ms=10 * LINGER)
    ann, worker = town.join("ann"), town.worker("w1")
    write(ann, "one")
    task = ann.delegate("k", acceptance="auto", context_id=C)
    worker.report(worker.offer())
    town.pass_time(3 * LINGER)
    assert (left(town), task in town.ledger.tasks) == ([C], True)
    assert ann.delegate("k", acceptance="auto", context_id=C) == task
    assert town.said(ContextRecalled) == []


def test_a_message_of_a2a_begins_a_task_in_it_when_it_is_back(town, ann, shelved):
    town.worker("w1")
    message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "go"}], "contextId": C}
    sent = {"message": message, "configuration": {"returnImmediately": True}}
    ann.say(A2ACall("SendMessage", json.dumps(sent).encode()))
    assert [type(record) for record in town.said(ContextRecalled, Delegated)] == [ContextRecalled, Delegated]


def test_a_conflict_is_raised_about_it_when_it_is_back(town, ann, shelved):
    subjects = [RaisedSubject(context_id=C, key="a", rev=rev) for rev in (1, 2)]
    answer = ann.say(ConflictRaise("context", subjects, claim="which is it?"))
    assert answer.object == f"context:{C}/a"
    kinds = [type(record) for record in town.said(ContextRecalled, ConflictOpened)]
    assert kinds == [ContextRecalled, ConflictOpened]


# Starting again -------------------------------------------------------------------------------------------------------


def test_it_is_away_after_a_restart_and_in_a_snapshot_too(town, ann, shelved):
    write(ann, "other", context="other")
    loaded = snapshot.load(snapshot.to_bytes(town.ledger), "main")
    assert (list(loaded.contexts), loaded.may_have_archived_context(C)) == (["other"], True)
    again = town.restart()
    cat = again.join("cat")
    assert cat.say(ContextRead(C, ["a"])).values[0].rev == 2
    again.pass_time(2 * LINGER)
    assert left(again) == [C, "other"], "what a start found in memory leaves as well"


def test_after_a_restart_those_leave_first_that_were_written_longest_ago(make_town):
    town = make_town(linger_contexts_ms=LINGER)
    ann = town.join("ann")
    for name, context in (("one", "a"), ("one", "b"), ("two", "a")):
        write(ann, name, context=context)
        town.pass_time(LINGER // 4)
    again = town.restart()
    again.pass_time(LINGER // 2)
    assert left(again) == ["b"]
    again.pass_time(LINGER)
    assert left(again) == ["b", "a"]


def test_an_open_task_keeps_its_context_after_a_restart(town, ann):
    write(ann, "one")
    ann.say(TaskDelegate("k", {"skill": "nobody"}, context_id=C))
    again = town.restart()
    loaded = snapshot.load(snapshot.to_bytes(town.ledger), "main")
    assert loaded.contexts_in_use == again.ledger.contexts_in_use == {C: 1}
    again.pass_time(3 * LINGER)
    assert left(again) == []


def test_what_cannot_be_read_is_said_and_nothing_is_changed(town, ann, shelved):
    town.contexts[C] = town.contexts[C]._replace(body=b"\xc1")
    answer = ann.say(ContextRead(C))
    assert (answer.code, "context plans cannot be read" in answer.detail) == ("unavailable", True)
    assert write(ann, "three").code == "unavailable"
    assert town.said(ContextRecalled) == []


# What a ledger cannot say ---------------------------------------------------------------------------------------------


def test_the_fold_takes_no_context_that_something_goes_on_in_or_that_is_there(town, ann):
    write(ann, "one")
    ann.say(TaskDelegate("k", {"skill": "nobody"}, context_id=C))
    with pytest.raises(ValueError, match="archives context plans, in which something goes on"):
        town.ledger.apply(ContextsArchived(town.now, [C]))
    body = plain.to_bytes(town.ledger.contexts[C])
    for name in (C, "another"):
        with pytest.raises(ValueError, match="which is not what was archived"):
            town.ledger.apply(ContextRecalled(town.now, name, body))


@pytest.fixture
def told(town, ann, shelved):
    """Records in which a context leaves, comes back, and is written and delegated into."""
    write(ann, "three", ContextOp("a", 2, b"3"))
    ann.say(TaskDelegate("k", {"skill": "nobody"}, context_id=C))
    return [record for _, record in town.records]


def test_a_replay_wants_what_leaves_to_be_idle_and_what_comes_back_to_be_as_it_left(told):
    assert Replay("main").run(told) is None
    place = next(number for number, record in enumerate(told) if isinstance(record, ContextRecalled))
    context = plain.from_bytes(Context, told[place].body)
    context.entries["a"].revisions[-1].payload = b"9"
    changed = dataclasses.replace(told[place], body=plain.to_bytes(context))
    difference = Replay("main").run([*told[:place], changed, *told[place + 1 :]])
    assert (difference.lsn, difference.expected) == (place + 1, "context plans as it was archived")
    again = [*told, ContextsArchived(told[-1].at, [C])]
    assert Replay("main").run(again).expected == "plans is needed in memory"
    assert (
        Replay("main").run([*told[:place], ContextsArchived(told[place].at, [C])]).expected
        == "plans is needed in memory"
    )


@pytest.mark.parametrize("kind", [ContextWritten, Delegated])
def test_a_replay_wants_a_context_back_before_something_goes_on_in_it(told, kind):
    place = next(number for number, record in enumerate(told) if isinstance(record, ContextRecalled))
    later = next(record for record in told[place:] if isinstance(record, kind))
    difference = Replay("main").run([*told[:place], later])
    assert difference.expected == "context plans in memory, it has left"


# The queue ------------------------------------------------------------------------------------------------------------


def context(number, size=10):
    return Context(f"c{number}", kept_bytes=size)


def test_the_queue_gives_out_a_batch_at_a_time():
    idle = Idle(1_000, 10_000, 10**9)
    assert (idle.next_deadline(), idle.take(lambda name: True, 10**9)) == (None, [])
    for number in range(100):
        idle.note(context(number), number)
    assert (idle.next_deadline(), idle.take(lambda name: True, 999)) == (1_000, [])
    assert idle.take(lambda name: True, 2_000) == [f"c{number}" for number in range(64)]
    assert len(idle.take(lambda name: True, 2_000)) == 36
    assert idle.next_deadline() is None


def test_a_batch_has_no_more_than_four_megabytes():
    idle = Idle(0, 10_000, 10**9)
    for number in range(4):
        idle.note(context(number, 2 * 1024 * 1024), 0)
    assert [idle.take(lambda name: True, 5_000) for _ in range(3)] == [["c0", "c1"], ["c2", "c3"], []]


def test_one_that_may_not_leave_is_looked_at_again_later():
    idle = Idle(0, 10_000, 10**9)
    idle.note(context(1), 0)
    assert idle.take(lambda name: False, 1_000) == []
    assert idle.next_deadline() == 2_000
    crowded = Idle(60_000, 1, 10**9)
    for number in range(2):
        crowded.note(context(number), 0)
    assert (crowded.next_deadline(), crowded.take(lambda name: False, 10)) == (0, [])
    assert crowded.next_deadline() == 260, "nothing leaves: it is not looked at with every frame"
