"""When conflicts have to be looked at."""

from types import SimpleNamespace

import pytest

from a2a.engine.conflicts import calendar
from a2a.engine.conflicts.calendar import Calendar


@pytest.fixture
def due(monkeypatch):
    """The times at which conflicts are due, by their names."""
    times = {}
    monkeypatch.setattr(calendar, "hearing_at", lambda conflict: times.get(conflict.id))
    return times


def conflict(name, lsn=1):
    return SimpleNamespace(id=name, opened_lsn=lsn)


def test_what_is_due_first_comes_first_and_once(due):
    due.update(a=20, b=10)
    calendar = Calendar()
    calendar.set(conflict("a"))
    calendar.set(conflict("b"))
    assert calendar.next() == 10
    assert calendar.pop(9) is None
    assert (calendar.pop(30), calendar.pop(30), calendar.pop(30)) == ("b", "a", None)


def test_at_the_same_time_the_older_comes_first(due):
    due.update(a=10, b=10)
    calendar = Calendar()
    calendar.set(conflict("a", 7))
    calendar.set(conflict("b", 3))
    assert calendar.pop(10) == "b"


def test_a_time_is_moved_and_taken_back(due):
    due.update(a=10)
    calendar = Calendar()
    calendar.set(conflict("a"))
    due.update(a=30)
    calendar.set(conflict("a"))
    assert calendar.next() == 30
    del due["a"]
    calendar.set(conflict("a"))
    assert calendar.next() is None
