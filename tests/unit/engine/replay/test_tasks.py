"""A record of a task that is missing, or says something else, is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a2a.engine.records import (
    Delegated,
    HandedOff,
    LeaseExpired,
    Offered,
    Reported,
    Settled,
    Steered,
)
from a2a.engine.replay.run import Replay
from a2a.protocol.messages import Held, TaskDelegate


@pytest.mark.parametrize("field", ["basis", "stale_basis"])
def test_a_basis_that_was_touched_is_found(records, field):
    position = next(at for at, record in enumerate(records) if isinstance(record, Reported) and record.basis)
    touched = replace(records[position], **{field: getattr(records[position], field)[1:] or None})
    difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn == position + 1


@pytest.mark.parametrize("kind", [Offered, LeaseExpired, Settled, Delegated, Reported])
def test_a_record_that_is_missing_is_found(records, kind):
    position = next(number for number, record in enumerate(records) if type(record) is kind)
    difference = Replay("main").run([*records[:position], *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn <= position + 10


def test_a_group_whose_members_did_not_wait_for_its_delegator_is_made_again(town):
    town.join("boss").delegate(on_delegator_loss="pause", spec={"redundancy": {"n": 2}})
    records = [record for _, record in town.records]
    before = [
        replace(record, on_delegator_loss="continue") if isinstance(record, Delegated) and record.parent else record
        for record in records
    ]
    assert before != records
    assert Replay("main").run(before) is None


def test_a_word_to_a_group_that_was_not_refused_is_said_again(town):
    group = town.join("boss").delegate(spec={"redundancy": {"n": 2}})
    before = [record for _, record in town.records]
    assert Replay("main").run([*before, Steered(town.now, group, "word", "boss", b"[]")]) is None


@pytest.mark.parametrize(("redundancy", "is_known"), [({"redundancy": {"n": 2}}, True), ({}, False)])
def test_a_member_of_a_group_that_was_handed_on_to_who_works_on_another_is_handed_on_again(town, redundancy, is_known):
    town.join("boss").delegate(spec=redundancy)
    first = town.worker("w1")
    town.worker("w2" if is_known else "other", "echo" if is_known else "plan")
    offer = first.offer()
    before = [record for _, record in town.records]
    handed = HandedOff(town.now, offer.task, offer.fence, "w2", None, b"[]", None)
    assert (Replay("main").run([*before, handed]) is None) is is_known


@pytest.mark.parametrize(("ends", "is_known"), [(True, True), (False, False)])
def test_a_result_that_waited_for_a_word_after_the_end_of_the_parent_waits_again(town, ends, is_known):
    boss, worker = town.join("boss"), town.worker("w1", tasks=4)
    boss.delegate("parent")
    above = worker.offer()
    spec = {"skill": "echo", "acceptance": {"evaluator": "delegator" if ends else "auto"}}
    worker.say(TaskDelegate("child", spec, b"[7]", parent=Held(above.task, above.fence)))
    child = worker.offer()
    if ends:
        worker.report(above)
        boss.confirm(boss.mail()[-1])
    worker.report(child)
    records = [record for _, record in town.records]
    position = next(
        at for at, record in enumerate(records) if isinstance(record, Reported) and record.task == child.task
    )
    assert isinstance(records[position + 1], Settled)
    waits = [*records[:position], replace(records[position], review=True)]
    assert (Replay("main").run(waits) is None) is is_known
