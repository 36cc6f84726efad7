"""A record of the coordinator, of an agent or of its mailbox that could not have been written is found."""

from __future__ import annotations

import pytest

from a2a.engine.records import (
    AgentForgotten,
    AgentRegistered,
    CoordinatorStarted,
    CoordinatorStopped,
    MailboxAcked,
    PrincipalBound,
    PrincipalUnbound,
    Refused,
    StatusSet,
)
from a2a.engine.replay.run import Replay


@pytest.mark.parametrize(
    ("forged", "expected"),
    [
        (lambda at: PrincipalBound(at, "boss", "00"), "boss is not bound yet"),
        (lambda at: AgentRegistered(at, "new", "i", 1, {"skills": []}, {}), "new has skills, or is known"),
        (lambda at: StatusSet(at, "w2", "draining", "w2"), "another status of w2"),
        (lambda at: StatusSet(at, "nobody", "draining", "nobody"), "another status of nobody"),
        (lambda at: MailboxAcked(at, "w1", 10_000), "an entry that waits in the mailbox of w1"),
        (lambda at: MailboxAcked(at, "nobody", 1), "an entry that waits in the mailbox of nobody"),
        (lambda at: AgentForgotten(at, "boss"), "an agent boss that is known, and for which nothing more comes"),
        (lambda at: AgentForgotten(at, "x", "boss"), "an agent x that is known, and for which nothing more comes"),
        (lambda at: AgentForgotten(at, "boss", "op"), "a word of somebody who is bound, 'op' is not"),
        (lambda at: PrincipalUnbound(at, "nobody", "op"), "nobody is bound"),
        (lambda at: PrincipalUnbound(at, "boss", "op"), "a word of somebody who is bound, 'op' is not"),
        (lambda at: PrincipalUnbound(at, "boss", ""), "a word of somebody who is bound, '' is not"),
        (lambda at: Refused(at, "w1", "task.get", "not_found", "", "main-99"), "a refusal about something in memory"),
    ],
)
def test_what_could_not_have_been_written_is_found(records, forged, expected):
    record = forged(records[-1].at)
    difference = Replay("main").run([*records, record])
    assert (difference.lsn, difference.stands, difference.expected) == (len(records) + 1, record, expected)


def test_epochs_are_counted(records):
    at, epochs = records[-1].at, sum(isinstance(record, CoordinatorStarted) for record in records)
    assert Replay("main").run([*records, CoordinatorStarted(at, epochs + 1)]) is None
    difference = Replay("main").run([*records, CoordinatorStarted(at, epochs + 2)])
    assert difference.expected == repr(CoordinatorStarted(at, epochs + 1))


def test_a_start_names_the_namespace_or_none(records):
    at, epochs = records[-1].at, sum(isinstance(record, CoordinatorStarted) for record in records)
    assert Replay("main").run([*records, CoordinatorStarted(at, epochs + 1, "main")]) is None
    difference = Replay("main").run([*records, CoordinatorStarted(at, epochs + 1, "other")])
    assert difference.expected == repr(CoordinatorStarted(at, epochs + 1, "main"))


def test_only_the_first_start_brings_a_key(records):
    at, epochs = records[-1].at, sum(isinstance(record, CoordinatorStarted) for record in records)
    difference = Replay("main").run([*records, CoordinatorStarted(at, epochs + 1, "main", "another key")])
    assert difference.expected == repr(CoordinatorStarted(at, epochs + 1, "main"))


def test_effects_are_scoped_from_one_start_on(records):
    at, epochs = records[-1].at, sum(isinstance(record, CoordinatorStarted) for record in records)
    difference = Replay("main").run([*records, CoordinatorStarted(at, epochs + 1, "main", scopes_effects=True)])
    assert difference.expected == repr(CoordinatorStarted(at, epochs + 1, "main"))


def test_a_hash_that_another_version_made_is_not_compared(records):
    *before, last = records
    assert isinstance(last, CoordinatorStopped)
    made = last.state_hash.partition(":")
    again = Replay("main")
    assert again.run([*before, CoordinatorStopped(last.at, f"other:{made[2]}")]) is None
    assert again.stops == 0
    assert Replay("main").run([*before, CoordinatorStopped(last.at, f"{made[0]}:00")]) is not None
