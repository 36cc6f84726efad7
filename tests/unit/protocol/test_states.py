"""Legal transitions, as tables."""

from itertools import product

import pytest

from a2a.protocol.states import (
    OPEN_ENDED,
    OUTSIDE,
    SESSION,
    TASK,
    TERMINAL,
    SessionState,
    TaskEvent,
    TaskState,
    advance,
    can,
    outside,
)


def reachable(start):
    seen, ahead = {start}, [start]
    while ahead:
        state = ahead.pop()
        for (source, _), target in TASK.items():
            if source is state and target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


def test_what_has_ended_stays_as_it_is():
    assert not [source for source, _ in TASK if source in TERMINAL]


def test_every_state_is_reached_and_every_event_used():
    assert reachable(TaskState.QUEUED) | reachable(TaskState.BLOCKED) == set(TaskState)
    assert {event for _, event in TASK} == set(TaskEvent)


@pytest.mark.parametrize("state", [state for state in TaskState if state not in TERMINAL])
def test_every_open_task_can_fail_and_can_be_canceled(state):
    assert advance(state, TaskEvent.FAIL) is TaskState.FAILED
    assert advance(state, TaskEvent.CANCEL) is TaskState.CANCELED


def test_only_a_reported_result_completes_a_task():
    assert [source for (source, _), target in TASK.items() if target is TaskState.COMPLETED] == [TaskState.REPORTED]
    assert [source for (source, _), target in TASK.items() if target is TaskState.REJECTED] == [TaskState.REPORTED]


@pytest.mark.parametrize("state, event", list(product(TaskState, TaskEvent)))
def test_what_is_not_in_the_table_is_refused(state, event):
    if (state, event) in TASK:
        assert can(state, event)
        assert advance(state, event) is TASK[state, event]
    else:
        assert not can(state, event)
        with pytest.raises(KeyError):
            advance(state, event)


def test_only_a_task_somebody_is_at_work_on_is_asked_to_cancel():
    asked = {source for source, event in TASK if event is TaskEvent.REQUEST_CANCEL}
    assert asked | {TaskState.CANCELING} == OPEN_ENDED


def test_a_task_that_is_canceled_is_given_to_nobody_else():
    onward = {target for (source, _), target in TASK.items() if source is TaskState.CANCELING}
    assert onward == {TaskState.REPORTED, TaskState.FAILED, TaskState.CANCELED}


def test_every_state_is_shown_outside_by_a_name_a2a_has():
    assert set(OUTSIDE) == set(TaskState)
    assert set(OUTSIDE.values()) == {
        f"TASK_STATE_{word}"
        for word in ("SUBMITTED", "WORKING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "CANCELED", "REJECTED")
    }
    assert all(OUTSIDE[state] == f"TASK_STATE_{state.name}" for state in TERMINAL)


@pytest.mark.parametrize("state", TaskState)
def test_outside_a_task_never_goes_back_to_submitted(state):
    assert outside(state, was_leased=True) != "TASK_STATE_SUBMITTED"
    assert outside(state, was_leased=False) == OUTSIDE[state]
    if OUTSIDE[state] != "TASK_STATE_SUBMITTED":
        assert outside(state, was_leased=True) == OUTSIDE[state]


def test_a_closed_connection_stays_closed():
    assert not [source for source, _ in SESSION if source is SessionState.CLOSED]
    assert set(SESSION.values()) | {SessionState.GREETING} == set(SessionState)
