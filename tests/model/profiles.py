"""What is walked: small worlds, each with the part of the rules it is about.

The bounds are as low as they can be while what they bound is still reached, and reached once more.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from . import invariants, wire, world
from .rules import OUTCOMES, Rules
from .task import ENDED, NEXT, Limits
from .walk import Found, Model, walk
from .wire import Wire, WireRules
from .world import DELEGATOR, FATE, LEASE, Profile, World

__all__ = ["LARGE", "SMALL", "UNMODELLED", "Sized", "missing", "walk_all", "walk_one"]

_GROUPS = "A group is no attempt: what its members' answers come to is tested with the conflicts."
UNMODELLED: dict[tuple[str, str], str] = {
    (state, event): why
    for state, events, why in (
        ("blocked", ("dispute", "report", "fail", "cancel"), _GROUPS),
        ("disputed", ("report", "fail"), _GROUPS),
    )
    for event in events
}
"""Keys of the transition table that the model does not exercise, each with a sentence that says why not."""

_EVERYTHING = frozenset(
    {"delegate", "hello new", "hello held", "decline", "yield", "confirm", "cancel", "crash", "deadline timer"}
)
_GONE = (
    ("", frozenset({FATE})),
    (" without worker 0", frozenset({FATE, 0})),
    (" without worker 1", frozenset({FATE, 1})),
    (" without the delegator", frozenset({FATE, DELEGATOR})),
)


_HUNG = (
    (" while worker 0 hangs and beats", frozenset({FATE, LEASE, 0})),
    (" while worker 1 hangs and beats", frozenset({FATE, LEASE, 1})),
)
"""Where the stall timer runs, it finds those."""


class Sized(NamedTuple):
    """A profile, and how it is walked."""

    profile: Profile
    capacity: int = 0
    """Messages in flight; 0: a world of `world`, in which everything may be in flight."""


_TAKEN = frozenset({"stall timer", "drain", "hand off"})
_QUIET = "crash, deadline timer, hello held, hello new"


def _free(
    name: str,
    limits: Limits,
    without: str = "",
    outcomes: tuple[str, ...] = OUTCOMES,
    and_also: frozenset[str] = frozenset(),
    **more: Any,
) -> Sized:
    inputs = (_EVERYTHING - set(filter(None, without.split(", ")))) | and_also
    return Sized(Profile(name, limits, inputs, outcomes, **more))


def _wired(name: str, capacity: int, limits: Limits, inputs: str, outcomes: tuple[str, ...]) -> Sized:
    return Sized(Profile(name, limits, frozenset(inputs.split(", ")), outcomes), capacity)


SMALL: tuple[Sized, ...] = (
    _free("every word", Limits(1, 1, 1, 1, 1)),
    _free("auto", Limits(1, 1, 2, 0, 1), "hello held, confirm", ("A", "B", "retry"), auto=True),
    _free("lapses", Limits(1, 2, 1, 0, 1), "deadline timer", ("A", "retry")),
    _free("taken away", Limits(1, 1, 1, 0, 1, 0, 1, 1), _QUIET, ("A",), and_also=_TAKEN),
    _free("failures", Limits(2, 1, 2, 0, 1), "crash, hello held", ("A", "retry", "canceled")),
    _free("questions", Limits(2, 0, 1, 1, 0, 1), "hello held, deadline timer", ("A", "retry")),
    _free("two questions", Limits(1, 1, 1, 0, 0, 2), "crash, hello held, decline, deadline timer", ("A",)),
    _free("tree", Limits(1, 0, 1, 1, 0), "crash, hello held, decline, deadline timer", ("A", "retry"), tree=True),
    _free("disputes", Limits(1, 1, 1, 1, 0, disputes=2), "delegate, decline, yield, hello held", ("A", "B")),
    _wired("wire", 1, Limits(1, 0, 1, 0, 0), "crash, cancel", ("A", "B")),
)
"""A few seconds in all: with every run of the tests."""

LARGE: tuple[Sized, ...] = (
    _free("every word", Limits(1, 1, 1, 1, 1)),
    _free("auto", Limits(1, 1, 2, 0, 1), "hello held, confirm", ("A", "B", "retry"), auto=True),
    _free("lapses", Limits(1, 2, 1, 0, 1), "deadline timer", ("A", "retry")),
    _free(
        "taken away",
        Limits(1, 1, 2, 0, 1, 0, 0, 1),
        _QUIET,
        ("A",),
        and_also=_TAKEN,
    ),
    _free("one task", Limits(2, 1, 2, 1, 1), "crash, deadline timer, hello held", ("A", "B", "retry")),
    _free("questions", Limits(1, 1, 1, 0, 1, 2), "crash", ("A", "retry")),
    _free("tree", Limits(1, 0, 1, 1, 0), "crash, hello held, decline, deadline timer", ("A", "retry"), tree=True),
    _free(
        "tree with losses",
        Limits(1, 1, 1, 0, 1),
        "crash, hello held, decline, yield, deadline timer",
        ("A",),
        tree=True,
    ),
    _free("disputes", Limits(1, 1, 1, 1, 1, disputes=2), "delegate, decline, yield", ("A", "B")),
    _free(
        "tree with disputes",
        Limits(1, 0, 1, 0, 0, disputes=1),
        "crash, hello held, decline, yield, deadline timer",
        ("A",),
        tree=True,
    ),
    _wired("wire, reworks", 1, Limits(1, 0, 1, 1, 0), "crash", ("A",)),
    _wired("wire, losses", 1, Limits(1, 1, 1, 0, 0), "crash", ("A",)),
    _wired("wire, lost memories", 1, Limits(1, 0, 1, 0, 0), "crash, hello new, delegator restarts", ("A",)),
    _wired("wire, two in flight", 2, Limits(1, 0, 1, 0, 0), "crash", ("A",)),
    _wired("wire, disputes", 1, Limits(1, 0, 1, 0, 0, disputes=1), "crash, cancel", ("A",)),
)
"""Less than a minute in all."""


def walk_one(sized: Sized, kind: type[Rules] | None = None) -> tuple[Found, set[tuple[str, str]]]:
    """Walk a profile, by the rules or a planted variant of them; return also which keys of the table were taken."""
    profile = sized.profile
    if sized.capacity:
        wired = (kind or WireRules)(profile.limits)
        assert isinstance(wired, WireRules), "a variant of the wire is walked on the wire"
        steps = partial(wire.steps, profile, wired, capacity=sized.capacity)
        check = partial(wire.check, profile)
        return walk(Model(profile.name, Wire(), steps, check, _wire_has_ended, _GONE)), wired.exercised
    rules = (kind or Rules)(profile.limits, auto=profile.auto)
    steps = partial(world.steps, profile, rules)
    check = partial(invariants.check, profile)
    gone = _GONE + (_HUNG if "stall timer" in profile.inputs else ())
    return walk(Model(profile.name, World(), steps, check, _world_has_ended, gone)), rules.exercised


def walk_all(profiles: tuple[Sized, ...]) -> tuple[list[Found], set[tuple[str, str]]]:
    """Walk profiles until one breaks a promise; return also which keys of the table were taken."""
    walked: list[Found] = []
    exercised: set[tuple[str, str]] = set()
    for sized in profiles:
        found, taken = walk_one(sized)
        walked.append(found)
        exercised |= taken
        if found.violation is not None:
            break
    return walked, exercised


def missing(exercised: set[tuple[str, str]]) -> list[str]:
    """Return a sentence for each key of the table that no walk took and nobody excused, and for each false excuse."""
    told = [
        f"the table has the event `{event}` in the state `{state}`, and no profile of the model comes to it: "
        "add a rule that takes it to tests/model/rules.py and an input to tests/model/world.py, "
        "or say in UNMODELLED why not"
        for state, event in sorted(set(NEXT) - exercised - set(UNMODELLED))
    ]
    told += [
        f"UNMODELLED excuses `{event}` in `{state}`, and the model comes to it: take the excuse out"
        for state, event in sorted(set(UNMODELLED) & exercised)
    ]
    return told


def _world_has_ended(state: World) -> bool:
    return all(task.state in ENDED for task in state.tasks)


def _wire_has_ended(state: Wire) -> bool:
    return state.task is None or (state.disk is not None and state.disk.state in ENDED)
