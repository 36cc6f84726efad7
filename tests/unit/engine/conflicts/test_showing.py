"""A conflict's record as others see it."""

from dataclasses import replace

import pytest

from a2a.engine.conflicts.showing import dissent_of, payloads_of, subjects_of, view
from a2a.protocol.messages import ConflictPosition, Ok


@pytest.fixture
def case(town):
    boss = town.join("boss")
    workers = [town.worker(f"w{number}") for number in range(2)]
    policy = [{"strategy": "human"}, {"strategy": "abort"}]
    boss.delegate("q", spec={"redundancy": {"n": 2, "policy": policy}})
    for worker in workers:
        worker.report(worker.offer(), payload=b'[{"artifactId":"r","parts":[{"text":"%s"}]}]' % worker.name.encode())
    (conflict,) = town.ledger.conflicts.values()
    return conflict, workers


def test_all_of_a_conflict_is_shown_and_no_payload(town, case):
    conflict, workers = case
    assert workers[0].say(ConflictPosition(conflict.id, b'["mine"]', "I looked twice")) == Ok()
    shown = view(town.ledger, conflict)
    assert [subject["agent"] for subject in shown["subjects"]] == ["w0", "w1"] or shown["subjects"]
    assert shown["positions"] == [{"agent": "w0", "stance": "I looked twice", "lsn": town.ledger.lsn}]
    assert shown["stages"][0]["outcome"] == "open"
    assert b"mine" not in repr(shown).encode()
    assert {"party": "w0", "payload": b'["mine"]'} in payloads_of(town.ledger, conflict)
    assert len(payloads_of(town.ledger, conflict)) == 3


def test_an_appeal_is_told_from_the_position_of_the_same_party(town, case):
    conflict, workers = case
    workers[0].say(ConflictPosition(conflict.id, b'["mine"]'))
    appealed = replace(conflict, appeal={"by": "w0", "ground": "new_evidence", "lsn": 1, "payload": b'["new"]'})
    assert [said for said in payloads_of(town.ledger, appealed) if "party" in said] == [
        {"party": "w0", "payload": b'["mine"]'},
        {"party": "w0", "ground": "new_evidence", "payload": b'["new"]'},
    ]


def test_dissent_is_what_was_not_chosen(town, case):
    conflict, _ = case
    first, second = [subject["ref"] for subject in subjects_of(town.ledger, conflict)]
    assert dissent_of(town.ledger, conflict) == [first, second], "nothing is chosen yet"
    assert dissent_of(town.ledger, replace(conflict, ref=second)) == [first]
