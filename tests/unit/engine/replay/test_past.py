"""What rules ask of the state before a record."""

from __future__ import annotations

import pytest

from a2a.engine.context_state import Context
from a2a.engine.live import Connection
from a2a.engine.policy import Policy
from a2a.engine.records import Accepted, Offered
from a2a.engine.replay.past import NO_LIMITS, NotAllowedError, Past, allow


@pytest.fixture
def past(records):
    """The state when the second task had been offered."""
    found, offered = Past("main"), 0
    for record in records:
        found.apply(record)
        offered += isinstance(record, Offered)
        if offered == 2:
            break
    return found


def test_what_is_allowed_is_a_fact():
    allow(True, "nothing")
    allow([0], "nothing")
    with pytest.raises(NotAllowedError, match="something"):
        allow([], "something")


def test_a_record_is_about_a_task_in_memory(past):
    first = next(iter(past.ledger.tasks))
    assert past.task(Accepted(0, first, 1)).id == first
    with pytest.raises(NotAllowedError, match="a record about a task in memory, main-99 is not"):
        past.task(Accepted(0, "main-99", 1))


def test_who_was_there_and_what_was_set_then_is_forgotten_before_the_next_record(past):
    past.world.live.connections[1] = Connection(1, "")
    past.world.policy = Policy()
    past.forget_volatile()
    assert (past.world.live.connections, past.world.policy) == ({}, NO_LIMITS)


def test_something_goes_on_in_a_context_that_is_in_memory(past):
    past.require_context("never-heard-of")
    past.shelf[Context, "plans"] = b"digest"
    with pytest.raises(NotAllowedError, match="context plans in memory, it has left"):
        past.require_context("plans")


def test_a_fence_was_minted_for_somebody(past):
    task = next(task for task in past.ledger.tasks.values() if task.authority is not None)
    assert past.attempt(task, task.authority.fence) == "w1"
    with pytest.raises(NotAllowedError, match=f"a fence of task {task.id}, 99 is none"):
        past.attempt(task, 99)
