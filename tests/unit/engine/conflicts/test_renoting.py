"""What was noted as it was found is decided again, and is found where it was touched."""

from dataclasses import replace

import pytest

from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import ClaimEnded, ConflictNoted
from a2a.engine.replay.run import Replay
from a2a.protocol.messages import (
    ClaimAcquire,
    ConflictRaise,
    RaisedSubject,
    TaskAnswer,
    TaskAsk,
    TaskCancel,
    TaskConfirm,
    TaskSteer,
)


def circle(town):
    ann, bob = town.join("ann"), town.join("bob")
    for peer, number, name in ((ann, 1, "a"), (bob, 1, "b"), (ann, 2, "b"), (bob, 2, "a")):
        peer.say(ClaimAcquire(number, [{"name": name}], wait_ms=60_000))


def fence(town):
    granted = town.join("ann").say(ClaimAcquire(1, [{"name": "repo"}]))
    shown = [RaisedSubject(resource="repo", fence=number) for number in (2, granted.claim_fence)]
    town.join("guard").say(ConflictRaise("resource", shown, claim="a late writer", payload=b"[1]"))


def asked(town):
    boss, worker, person = town.join("boss"), town.worker("w"), town.join("ann", operator_token="op")
    task = boss.delegate()
    offer = worker.offer()
    worker.say(TaskAsk(task, 1, b"[]", offer.fence))
    return boss, worker, person, offer


def second_answer(town):
    boss, _, person, offer = asked(town)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    person.say(TaskAnswer(offer.task, 1, b'["no"]'))


def answer_in_place_of_another(town):
    boss, worker, person, offer = asked(town)
    worker.drop()
    town.pass_time(4_000)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    person.say(TaskAnswer(offer.task, 1, b'["no"]'))


def cancel_of_what_completed(town):
    boss, worker, person, offer = asked(town)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    worker.report(offer)
    boss.confirm(next(mail for mail in boss.mail() if mail.kind == "task.review"))
    person.say(TaskCancel(offer.task))


def word_on_what_was_canceled(town):
    boss, worker, person, offer = asked(town)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    worker.report(offer)
    review = next(mail for mail in boss.mail() if mail.kind == "task.review")
    boss.cancel(offer.task)
    person.say(TaskConfirm(offer.task, 0, review.result_hash))


def word_on_what_moved_on(town):
    boss, _, person, offer = asked(town)
    generation = town.task(offer.task).generation
    boss.say(TaskSteer(offer.task, "s1", b'["left"]'))
    person.say(TaskSteer(offer.task, "s2", b'["right"]', if_gen=generation))


def older_process(town):
    town.worker("w")
    town.dial().say(town.hello("w", instance_id="w-2", incarnation=0))


def same_start(town):
    town.worker("w")
    town.dial().say(town.hello("w", instance_id="w-2", incarnation=1))


def newer_process(town):
    town.worker("w")
    town.worker("w", instance_id="w-2", incarnation=2)


def other_card(town):
    town.worker("w").drop()
    town.worker("w", "echo", "plan", instance_id="w-2", incarnation=2)


RULES = {
    circle: "s2",
    fence: "s3",
    second_answer: "i2",
    answer_in_place_of_another: "i2",
    cancel_of_what_completed: "i2",
    word_on_what_was_canceled: "i2",
    word_on_what_moved_on: "i1",
    older_process: "d1",
    same_start: "d1",
    newer_process: "d1",
    other_card: "d3",
}


@pytest.fixture(params=RULES, ids=lambda happens: happens.__name__)
def noted(request, make_town):
    """The records of a town in which something was noted, and the one that says so."""
    town = make_town(ladders=LADDERS, admission=Admission(operator_token=digest("op")))
    request.param(town)
    (record,) = town.said(ConflictNoted)
    assert record.rule == RULES[request.param]
    return town.said(), record


def lsn_of_difference(records, record, **changes):
    at = records.index(record)
    touched = [*records[:at], replace(record, **changes), *records[at + 1 :]]
    difference = Replay("main").run(touched)
    return None if difference is None else difference.lsn - 1 - at


def test_what_was_noted_is_decided_again(noted):
    records, record = noted
    assert Replay("main").run(records) is None
    other = next((one["ref"] for one in record.candidates if one["ref"] != record.ref), "none")
    first = record.candidates[0]
    for changes in (
        {"rationale": record.rationale + "!"},
        {"ref": other},
        {"by": "somebody"},
        {"parties": record.parties | {"nobody": "author"}},
        {"candidates": [first | {"payload": first["payload"] + b" "}, *record.candidates[1:]]},
        {"candidates": [first | {"lsn": 7}, *record.candidates[1:]]},
    ):
        assert lsn_of_difference(records, record, **changes) == 0, changes


def test_nothing_is_noted_of_a_circle_that_was_not_broken(make_town):
    town = make_town(ladders=LADDERS)
    circle(town)
    (record,) = town.said(ConflictNoted)
    records = [one for one in town.said() if not isinstance(one, ClaimEnded)]
    assert lsn_of_difference(records, record) is not None
    later = [replace(one, at=one.at + 1) if isinstance(one, ConflictNoted) else one for one in town.said()]
    assert Replay("main").run(later) is not None, "a circle of another time"


def test_what_was_said_of_a_task_that_was_archived_is_taken_as_it_stands(make_town):
    town = make_town(ladders=LADDERS, admission=Admission(operator_token=digest("op")), linger_ms=0)
    boss, worker, person, offer = asked(town)
    boss.say(TaskAnswer(offer.task, 1, b'["yes"]'))
    boss.cancel(offer.task, "skip")
    for peer in (boss, worker):
        peer.acknowledge()
    town.pass_time(5_000)
    assert offer.task not in town.ledger.tasks
    person.say(TaskConfirm(offer.task, 0, f"sha256:{0:064}"))
    (record,) = town.said(ConflictNoted)
    assert lsn_of_difference(town.said(), record) is None
    assert lsn_of_difference(town.said(), record, object="task:main-999") == 0
