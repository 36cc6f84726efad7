"""What has ended waits in the queue it belongs to."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import astuple, replace

import pytest

from a2a.engine.conflicts.case import Conflict, Raise
from a2a.engine.context_state import Context
from a2a.engine.leaving import Leaving
from a2a.engine.ledger import Ledger
from a2a.engine.policy import Policy
from a2a.engine.records import ConflictsArchived, ContextsArchived, Record

DAY = 24 * 3600 * 1000
POLICY = Policy(linger_ms=1_000, conflict_rest_ms=0)


def closed(number: int, *, is_raised: bool = False) -> Conflict:
    raises = [Raise("ann", "look", b"[]", number, "name")] if is_raised else []
    return Conflict(
        f"main-k{number}", "", "context", "c4", [], {}, number, 0, 0, outcome="select", closed_at=5_000, raises=raises
    )


def leaves(leaving: Leaving, ledger: Ledger, now: int, wanted: Container[object] = ()) -> list[Record]:
    """Return the records of what leaves now, and look whether the archive gets it."""
    found = list(leaving.due(ledger, wanted, now))
    for record, shelved in found:
        assert [kept[0] for kept in shelved] == astuple(record)[1]
    return [record for record, _ in found]


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.conflicts = {conflict.id: conflict for conflict in (closed(1), closed(2, is_raised=True))}
    for conflict in ledger.conflicts.values():
        ledger.conflicts_about.setdefault(conflict.topic, []).append(conflict.id)
    return ledger


@pytest.fixture
def leaving(ledger: Ledger) -> Leaving:
    leaving = Leaving(POLICY)
    leaving.add_conflicts(ledger.conflicts.values())
    return leaving


def test_nothing_is_due_where_nothing_has_ended():
    leaving = Leaving(POLICY)
    assert (leaving.next_deadline(), leaving.is_due(2**60)) == (None, False)
    assert leaves(leaving, Ledger(), 2**60) == []


@pytest.mark.parametrize("room", [{"raised_keep_max": 2}, {"raised_keep_bytes_max": 50}])
def test_what_was_raised_leaves_sooner_where_there_is_no_room(ledger, room):
    raised = [closed(number, is_raised=True) for number in (3, 4, 5)]
    for conflict in raised:
        conflict.raises[0].payload = b"x" * 20
        ledger.conflicts[conflict.id] = conflict
        ledger.conflicts_about.setdefault(conflict.topic, []).append(conflict.id)
    leaving = Leaving(replace(POLICY, **room))
    leaving.add_conflicts(raised)
    assert leaves(leaving, ledger, 5_000) == [ConflictsArchived(5_000, ["main-k3"])]
    assert leaves(leaving, ledger, 6_000) == [], "a repeat of the others is known for a day"


def test_what_was_raised_is_due_a_day_later(leaving, ledger):
    assert (leaving.next_deadline(), leaving.is_due(5_999), leaving.is_due(6_000)) == (6_000, False, True)
    assert leaves(leaving, ledger, 6_000) == [ConflictsArchived(6_000, ["main-k1"])]
    assert leaving.next_deadline() == 5_000 + DAY
    assert leaves(leaving, ledger, 5_000 + DAY) == [ConflictsArchived(5_000 + DAY, ["main-k2"])]
    assert leaving.next_deadline() is None


def test_a_context_leaves_by_a_clock_of_its_own():
    leaving, ledger = Leaving(Policy(linger_contexts_ms=60_000)), Ledger()
    leaving.add_context(Context("plans"), 5_000)
    ledger.contexts["plans"] = Context("plans")
    assert (leaving.next_deadline(), leaves(leaving, ledger, 64_999)) == (65_000, [])
    assert leaves(leaving, ledger, 65_000, {"plans"}) == [], "somebody waits for it"
    assert leaves(leaving, ledger, 125_000) == [ContextsArchived(125_000, ["plans"])]
    assert leaving.next_deadline() is None


def test_mail_alone_keeps_one_back(leaving, ledger):
    ledger.conflict_mail["main-k1"] = 1
    assert (leaving.wants_receipts, leaves(leaving, ledger, 6_000)) == (False, [])
    assert leaving.wants_receipts, "and not that of the queue looked at last"
    del ledger.conflict_mail["main-k1"]
    assert leaves(leaving, ledger, 7_000) == [ConflictsArchived(7_000, ["main-k1"])]
    assert not leaving.wants_receipts


def test_one_that_has_left_already_is_passed_over(leaving, ledger):
    del ledger.conflicts["main-k1"]
    assert leaves(leaving, ledger, 6_000) == []
    assert leaving.next_deadline() == 5_000 + DAY
