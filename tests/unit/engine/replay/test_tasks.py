"""A record of a task that is missing, or says something else, is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a2a.engine.records import (
    Delegated,
    LeaseExpired,
    Offered,
    Reported,
    Settled,
    Steered,
)
from a2a.engine.replay.run import Replay


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
