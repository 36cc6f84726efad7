"""Decisions run again: what was decided is decided anew, and a record that was touched is found."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from a2a.engine.records import (
    RECORDS,
    Record,
    Settled,
)
from a2a.engine.replay.run import RULES, Replay


def test_every_record_has_a_rule():
    assert set(RULES) == set(RECORDS.values())


def test_a_ledger_as_it_was_written_is_decided_again(records):
    again = Replay("main")
    assert again.run(records) is None
    assert again.ledger.lsn == len(records)
    assert again.stops == 1
    assert len(records) // 2 < again.decisions <= len(records)


def touched(record: Record) -> list[Record]:
    """Return the record with each of its fields changed a little."""
    found = []
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, bool):
            found.append(replace(record, **{item.name: not value}))
        elif isinstance(value, int) and item.name != "at":
            found.append(replace(record, **{item.name: value + 1}))
        elif isinstance(value, bytes):
            found.append(replace(record, **{item.name: value + b" "}))
        elif isinstance(value, str) and value:
            found.append(replace(record, **{item.name: value + "x"}))
    return found


def _differs(one: Record, other: Record, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


NOTES = {("StatusSet", "by")}
"""What is written down for people and is no part of the state."""
FREE = {
    "CoordinatorStarted": {"proof_key", "scopes_effects"},
    "Delegated": {"context_id", "key", "on_parent_end", "deadline_at", "delegator"},
    "PrincipalBound": {"principal", "secret_digest"},
    "AgentRegistered": {"agent", "instance", "incarnation"},
    "StatusSet": {"by", "status"},
    "Adopted": {"delegator"},
    "Yielded": {"reason"},
    "Declined": {"reason", "retry_at"},
    "ArtifactAppended": {"artifact", "name", "payload", "last", "chunk_no"},
    "Asked": {"payload", "deadline_at", "auth", "ask_no"},
    "Answered": {"payload", "by", "rank"},
    "Reworked": {"payload", "reason_code", "by"},
    "CancelRequested": {"reason", "grace_at", "mode", "by"},
    "Settled": {"detail", "by"},
    "Reported": {"retry_at"},
    "PositionTaken": {"stance", "payload"},
    "Merged": {"why"},
    "StageClosed": {"why", "by"},
    "ConflictAppealed": {"ground", "payload"},
    "ContextWritten": {"context_id", "key", "by", "is_operator"},
}
"""Fields that hold what somebody said: another word would have been as good, and only a hash can tell."""


@pytest.mark.parametrize("world", ["records", "disputes"])
def test_a_record_that_was_touched_is_found_by_the_decision_or_by_the_hash(world, request):
    records = request.getfixturevalue(world)
    unseen: set[tuple[str, str]] = set()
    whole = Replay("main")
    whole.run(records)
    kinds: dict[str, int] = {}
    for position, record in enumerate(records):
        name = type(record).__name__
        if kinds.get(name, 0) >= 2:
            continue
        kinds[name] = kinds.get(name, 0) + 1
        for changed in touched(record):
            again = Replay("main")
            difference = again.run([*records[:position], changed, *records[position + 1 :]])
            if difference is None and again.shelf == whole.shelf:
                unseen |= {(name, item.name) for item in fields(record) if _differs(record, changed, item.name)}
            is_free = any(_differs(record, changed, item) for item in FREE.get(name, ()))
            if difference is not None and not is_free:
                assert difference.lsn == position + 1, f"{record} became {changed}: {difference}"
    assert unseen - NOTES == set()


def test_what_was_expected_is_told(records):
    position = next(number for number, record in enumerate(records) if isinstance(record, Settled))
    changed = replace(records[position], state="failed")
    difference = Replay("main").run([*records[:position], changed, *records[position + 1 :]])
    assert difference is not None
    assert difference.stands == changed
    assert difference.expected.startswith("Settled(")
