"""Contradictions that are decided as they are found, and recorded beside what happens anyway."""

from dataclasses import replace

import pytest

from a2a.engine.conflicts import raising
from a2a.engine.conflicts.noting import expected_instead
from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import Answered, ConflictNoted
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ClaimAcquire,
    ConflictGet,
    ConflictRaise,
    Error,
    RaisedSubject,
    TaskAnswer,
    TaskAsk,
    TaskCancel,
    TaskConfirm,
    TaskSteer,
)


@pytest.fixture
def noting(make_town):
    def make(**policy):
        given = {"ladders": LADDERS, "admission": Admission(operator_token=digest("op"))}
        return make_town(**(given | policy))

    return make


def noted(town):
    """Return the only conflict that was noted."""
    (record,) = town.said(ConflictNoted)
    return town.ledger.conflicts[record.conflict]


def kinds(peer):
    return [mail.kind for mail in peer.mail() if mail.kind.startswith("conflict.")]


# Resources ------------------------------------------------------------------------------------------------------------


def claim(peer, number, *names, wait_ms=60_000):
    return peer.say(ClaimAcquire(number, [{"name": name} for name in names], wait_ms=wait_ms))


def test_a_circle_of_waits_that_was_broken_is_noted(noting):
    town = noting()
    ann, bob = town.join("ann"), town.join("bob")
    claim(ann, 1, "a")
    claim(bob, 1, "b")
    claim(ann, 2, "b")
    answer = claim(bob, 2, "a")
    assert isinstance(answer, Error) and answer.code == ErrorCode.DEADLOCK
    conflict = noted(town)
    assert (conflict.kind, conflict.rule, conflict.object, conflict.by) == ("resource", "s2", "resource:a", "victim")
    assert set(conflict.parties) == {"ann", "bob"}
    assert not conflict.is_open
    assert kinds(ann) == ["conflict.opened", "conflict.resolved"]


def test_the_greatest_fence_that_was_shown_for_a_resource_stands(noting):
    town = noting()
    ann, guard = town.join("ann"), town.join("guard")
    granted = claim(ann, 1, "repo")
    shown = [RaisedSubject(resource="repo", fence=2), RaisedSubject(resource="repo", fence=granted.claim_fence)]
    message = ConflictRaise("resource", shown, claim="a late writer")
    answer = guard.say(message)
    assert (answer.created, answer.is_open) == (True, False)
    conflict = noted(town)
    assert (conflict.rule, conflict.ref, conflict.by) == ("s3", "fence-2", "fence")
    again = guard.say(message)
    assert (again.conflict, again.created) == (conflict.id, False)
    shown = guard.say(ConflictGet(conflict.id)).view
    assert shown["raises"][0]["claim"] == "a late writer"


def fences(*shown):
    return [RaisedSubject(resource=name, fence=fence) for name, fence in shown]


@pytest.mark.parametrize(
    ("kind", "shown", "about"),
    [
        ("resource", [("repo", 2), ("wiki", 3)], "resource:repo"),
        ("identity", [("repo", 2), ("repo", 3)], "agent:w"),
        ("context", [("repo", 2), ("repo", 3)], "context:c/k"),
    ],
)
def test_fences_of_several_resources_or_about_something_else_say_not_who_stands(noting, kind, shown, about):
    town = noting(ladders=dict.fromkeys(LADDERS, ({"strategy": "human"}, {"strategy": "abort"})))
    town.worker("w")
    for name in ("guard", "other"):
        answer = town.join(name).say(ConflictRaise(kind, fences(*shown), about))
        assert (answer.is_open, answer.object) == (True, about)
    assert town.said(ConflictNoted) == []
    assert town.ledger.conflicts[answer.conflict].kind == kind


def test_fences_about_something_else_that_were_noted_are_noted_again(noting, monkeypatch):
    town = noting()
    town.worker("w")
    monkeypatch.setattr(raising, "are_of_one", lambda resources: True)
    assert not town.join("guard").say(ConflictRaise("resource", fences(("a", 2), ("b", 3)), "resource:a")).is_open
    monkeypatch.undo()


# Words to a task ------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(noting):
    """A task that has asked, its delegator, and a person who may answer too."""

    def make(**policy):
        town = noting(**policy)
        boss, worker, person = town.join("boss"), town.worker("w"), town.join("ann", operator_token="op")
        task = boss.delegate()
        offer = worker.offer()
        worker.say(TaskAsk(task, 1, b"[]", offer.fence))
        return town, boss, worker, person, offer

    return make


def test_another_answer_of_somebody_else_is_noted(asked):
    town, boss, worker, person, offer = asked()
    assert boss.say(TaskAnswer(offer.task, 1, b'["yes"]')).kind == "ok"
    assert person.say(TaskAnswer(offer.task, 1, b'["no"]')).code == ErrorCode.ALREADY_ANSWERED
    conflict = noted(town)
    assert (conflict.rule, conflict.object, conflict.by) == ("i2", f"task:{offer.task}", "first_wins")
    assert [(one.agent, one.payload) for one in conflict.candidates] == [("boss", b'["yes"]'), ("ann", b'["no"]')]
    assert kinds(boss) == kinds(person) == ["conflict.opened", "conflict.resolved"]


def test_an_answer_that_takes_the_place_of_another_is_noted_with_it(asked):
    town, boss, worker, person, offer = asked()
    worker.drop()
    town.pass_time(4_000)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    person.say(TaskAnswer(offer.task, 1, b'["no"]'))
    assert (noted(town).by, noted(town).ref) == ("authority", "answer-2")
    assert [type(record) for _, record in town.records[-2:]] == [ConflictNoted, Answered]


def test_who_contradicts_itself_or_repeats_contradicts_nobody(asked):
    town, boss, _, person, offer = asked()
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    boss.say(TaskAnswer(offer.task, 1, b'["no"]'))
    person.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    assert town.said(ConflictNoted) == []


def test_a_word_that_came_too_late_for_another_is_noted(asked):
    town, boss, _, person, offer = asked()
    seen = town.task(offer.task).generation
    boss.say(TaskSteer(offer.task, "a", b'["left"]'))
    answer = person.say(TaskSteer(offer.task, "b", b'["right"]', seen))
    assert answer.code == ErrorCode.GENERATION_MISMATCH
    assert (noted(town).rule, noted(town).ref) == ("i1", "word-1")


def test_a_task_that_went_on_by_itself_contradicts_nobody(asked):
    town, boss, _, _, offer = asked()
    assert boss.say(TaskSteer(offer.task, "b", b"[]", 1)).code == ErrorCode.GENERATION_MISMATCH
    assert town.said(ConflictNoted) == []


@pytest.mark.parametrize("first", ["accept", "reject", "cancel"])
def test_a_word_against_how_a_task_has_ended_is_noted(asked, first):
    town, boss, worker, person, offer = asked()
    worker.report(offer)
    (review,) = [mail for mail in boss.mail() if mail.kind == "task.review"]
    if first == "cancel":
        boss.cancel(offer.task)
    else:
        boss.confirm(review, verdict=first)
    word = TaskConfirm(review.task, review.rev, review.result_hash, "reject" if first == "accept" else "accept")
    assert person.say(word).code == ErrorCode.CONFLICT
    assert noted(town).rule == "i2"


def test_a_cancel_of_what_somebody_has_accepted_is_noted(asked):
    town, boss, worker, person, offer = asked()
    worker.report(offer)
    boss.confirm(next(mail for mail in boss.mail() if mail.kind == "task.review"))
    assert person.say(TaskCancel(offer.task)).code == ErrorCode.NOT_CANCELABLE
    assert [one.payload for one in noted(town).candidates] == [b'"completed"', b'"cancel"']


def test_what_no_controller_has_said_contradicts_nobody(asked):
    town, _, worker, person, offer = asked()
    worker.report(offer, "rejected")
    assert person.say(TaskCancel(offer.task)).code == ErrorCode.NOT_CANCELABLE
    assert town.said(ConflictNoted) == []


# Who is who -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("incarnation", "stands"), [(1, "instance-1"), (2, "instance-2")])
def test_an_agent_that_is_here_twice_is_noted(noting, incarnation, stands):
    town = noting()
    town.worker("w")
    peer = town.dial()
    peer.say(town.hello("w", instance_id="w-2", incarnation=incarnation))
    conflict = noted(town)
    assert (conflict.rule, conflict.object, conflict.ref) == ("d1", "agent:w", stands)


def test_a_process_that_was_not_heard_of_lately_is_just_replaced(noting):
    town = noting()
    town.worker("w")
    town.pass_time(1_001)
    town.worker("w", instance_id="w-2", incarnation=2)
    assert town.said(ConflictNoted) == []


def test_another_card_of_the_same_version_is_noted(noting, make_card):
    town = noting()
    town.worker("w").drop()
    town.worker("w", "echo", "plan", instance_id="w-2", incarnation=2).drop()
    assert (noted(town).rule, noted(town).ref) == ("d3", "instance-2")
    newer = make_card("echo") | {"version": "2"}
    town.pass_time(60_000)
    town.join("w", card=newer, instance_id="w-3", incarnation=3)
    assert len(town.said(ConflictNoted)) == 1


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_it_is_noted_once_for_a_thing_in_a_while(asked):
    town, boss, _, person, offer = asked(conflict_rest_ms=1_000)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    for words in (b'["no"]', b'["never"]'):
        person.say(TaskAnswer(offer.task, 1, words))
    assert len(town.said(ConflictNoted)) == 1
    town.pass_time(1_000)
    person.say(TaskAnswer(offer.task, 1, b'["no"]'))
    assert len(town.said(ConflictNoted)) == 2


def test_where_nobody_looks_for_it_nothing_is_noted(asked):
    town, boss, _, person, offer = asked(ladders={})
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    assert person.refused(TaskAnswer(offer.task, 1, b'["no"]')) == ErrorCode.ALREADY_ANSWERED
    shown = [RaisedSubject(resource="repo", fence=2), RaisedSubject(resource="repo", fence=3)]
    assert boss.refused(ConflictRaise("resource", shown)) == ErrorCode.DENIED


def test_a_record_that_does_not_fit_says_what_would(asked):
    town, boss, _, person, offer = asked()
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    person.say(TaskAnswer(offer.task, 1, b'["no"]'))
    (record,) = town.said(ConflictNoted)
    assert expected_instead(town.ledger, record) is None
    one, other = record.candidates
    for wrong in (
        replace(record, kind="resource"),
        replace(record, ref="answer-9"),
        replace(record, candidates=[one, other | {"agent": "boss#2"}]),
        replace(record, kind="resource", rule="s3", candidates=[one | {"fence": 1}, other | {"fence": 2}]),
    ):
        assert expected_instead(town.ledger, wrong) is not None
    values = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    boss.say(ConflictRaise("identity", values, "agent:w"))
    assert expected_instead(town.ledger, replace(record, rule="d1", kind="identity", object="agent:w")) is not None
