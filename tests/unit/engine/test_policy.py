"""Settings of a namespace."""

import dataclasses
import hashlib

import pytest

from a2a.engine.policy import Admission, Bounds, Durations, Policy, digest
from a2a.protocol.messages import TaskLimits, Timers


def test_a_secret_is_kept_as_its_sha256():
    assert digest("s") == hashlib.sha256(b"s").hexdigest()


def test_a_namespace_without_a_token_admits_everybody():
    assert Admission().admits("")
    assert Admission().admits("anything")


def test_a_namespace_with_a_token_admits_who_shows_it():
    admission = Admission(token=digest("door"))
    assert admission.admits("door")
    assert not admission.admits("")
    assert not admission.admits("Door")
    assert not admission.admits(digest("door"))


def test_nobody_is_an_operator_where_there_is_no_operators_token():
    assert not Admission().is_operator(None)
    assert not Admission().is_operator("")
    assert not Admission(token=digest("door")).is_operator("door")


def test_an_operator_shows_the_operators_token():
    admission = Admission(operator_token=digest("op"))
    assert admission.is_operator("op")
    assert not admission.is_operator(None)
    assert not admission.is_operator("")
    assert not admission.is_operator("o")


def test_a_task_without_timers_has_those_of_the_namespace():
    durations = Durations(lease_ms=900)
    assert durations.with_timers(Timers()) is durations


def test_a_task_has_the_timers_it_names():
    durations = Durations().with_timers(Timers(offer_ms=100, queue_ms=200, confirm_ms=300, ask_ms=400, cancel_ms=500))
    assert durations == dataclasses.replace(
        Durations(), offer_ms=100, queue_ms=200, confirm_ms=300, ask_ms=400, cancel_ms=500
    )


@pytest.mark.parametrize(
    "timers, heartbeat",
    [
        (Timers(lease_ms=30_000), 10_000),
        (Timers(lease_ms=3_000), 1_000),
        (Timers(lease_ms=3_000, heartbeat_ms=500), 500),
        (Timers(lease_ms=3_000, heartbeat_ms=2_000), 1_000),
        (Timers(lease_ms=100), 33),
        (Timers(heartbeat_ms=20), 20),
    ],
)
def test_a_lease_is_never_shorter_than_three_heartbeats(timers, heartbeat):
    assert Durations().with_timers(timers).heartbeat_ms == heartbeat


def test_a_task_has_the_limits_it_names():
    assert Bounds().with_limits(TaskLimits()) == Bounds()
    limits = TaskLimits(deadline_ms=1, attempts=9, losses=8, declines=7, reworks=0)
    assert Bounds().with_limits(limits) == Bounds(attempts=9, losses=8, declines=7, reworks=0)


@pytest.mark.parametrize("settings", [Policy(), Durations(), Bounds(), Admission()])
def test_settings_do_not_change(settings):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, dataclasses.fields(settings)[0].name, None)
