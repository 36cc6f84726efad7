"""What may happen to one task, or to a parent and its child: everything any peer can say, every timer, a restart.

The channels are the worst there can be. Whatever was ever sent may arrive at any time from then on, any number of
times, in any order or never, and peers are not honest: each may say anything at any time about any attempt, its own or
another's, as a zombie would or one that guesses. So what is on its way needs no place in the state, and what holds
here holds for every network and every agent. `wire` has honest peers and channels one can look into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from .rules import OUTCOMES, Rules
from .task import ENDED, HASHES, NEW, Limits, Task

__all__ = [
    "COORDINATOR",
    "DELEGATOR",
    "FATE",
    "LEASE",
    "RULES",
    "WORKERS",
    "Input",
    "Profile",
    "Step",
    "World",
    "steps",
]

Input = tuple[Any, ...]
"""What happens: its name, the task it is about, and what the name's rule is given besides the task."""

WORKERS = (0, 1)
DELEGATOR, COORDINATOR, FATE, LEASE = 2, 3, 4, 5
"""Who makes something happen, after the two workers. Fate has what nobody may count on: cancels, deadlines, crashes.
The end of a lease is apart: a worker that hangs while its heartbeat goes on never comes to it."""


class Profile(NamedTuple):
    """What is in the world, and what may happen there. Names that are not in `inputs` do not."""

    name: str
    limits: Limits
    inputs: frozenset[str]
    outcomes: tuple[str, ...] = OUTCOMES
    auto: bool = False
    tree: bool = False


class World(NamedTuple):
    """The coordinator, and its tasks."""

    tasks: tuple[Task, ...] = ()
    """None, one, or a parent and its child."""
    grace: bool = False
    """It has started again, and no timer fires yet."""
    twins: bool = False
    """One key has made two tasks."""


class Step(NamedTuple):
    """Something that can happen, and what comes of it."""

    what: Input
    actor: int
    world: Any
    """A `World` here, a `Wire` there."""
    word: str
    """What its sender is told."""


def steps(profile: Profile, rules: Rules, world: World) -> Iterator[Step]:
    """Yield everything that can happen now."""
    tasks, inputs = world.tasks, profile.inputs
    if not tasks:
        yield Step(("delegate", 0), DELEGATOR, world._replace(tasks=(NEW,)), "created")
        return
    if "delegate" in inputs:
        yield Step(("delegate", 0), DELEGATOR, repeated(world, rules), "known")
    for number, task in enumerate(tasks):
        for what, actor in _inputs(profile, task.holders, task.cur, task.offer):
            try:
                after, word = RULES[what[0]](rules, task, *what[1:])
            except KeyError:
                after, word = task, "refused"
            moved = world if after is task else _follow(rules, world, number, after)
            yield Step((what[0], number, *what[1:]), actor, moved, word)
        if not rules.timers_rest(world.grace):
            yield from _timers(profile, rules, world, number, task)
    if profile.tree:
        yield from _child(rules, world)
    if "crash" in inputs and not world.grace:
        yield Step(("crash", 0), FATE, world._replace(grace=True), "")
    if world.grace:
        yield Step(("grace ends", 0), COORDINATOR, world._replace(grace=False), "")


def repeated(world: World, rules: Rules) -> World:
    """The same key again is the same task (TASK-3)."""
    return world if rules.knows_key() else world._replace(twins=True)


RULES: dict[str, Callable[..., tuple[Task, str]]] = {
    "offer": lambda rules, task, worker: rules.offer(task, worker),
    "sign": lambda rules, task, worker, fence: rules.sign(task, worker, fence),
    "hello held": lambda rules, task, worker, fence: rules.hello_held(task, worker, fence),
    "hello new": lambda rules, task, worker: rules.hello_new(task, worker),
    "decline": lambda rules, task, worker, fence: rules.decline(task, worker, fence),
    "yield": lambda rules, task, worker, fence, counted: rules.give_back(task, worker, fence, counted),
    "hand off": lambda rules, task, worker, fence: rules.hand_off(task, worker, fence),
    "ask": lambda rules, task, worker, fence, number, hold: rules.ask(task, worker, fence, number, hold),
    "report": lambda rules, task, worker, fence, outcome: rules.report(task, worker, fence, outcome),
    "answer": lambda rules, task, number, words: rules.answer(task, number, words),
    "confirm": lambda rules, task, rev, digest, verdict: rules.confirm(task, rev, digest, verdict),
    "cancel": lambda rules, task, mode: rules.cancel(task, mode),
    "raise": lambda rules, task: rules.raise_conflict(task),
    "vote": lambda rules, task, stands: rules.vote(task, stands),
}
"""Input to the rule that decides on it."""

_TIMERS: tuple[tuple[str, int, Callable[[Rules, Task], Task | None]], ...] = (
    ("lease timer", LEASE, lambda rules, task: rules.lease_timer(task)),
    ("offer timer", COORDINATOR, lambda rules, task: rules.offer_timer(task)),
    ("stall timer", COORDINATOR, lambda rules, task: rules.stall_timer(task)),
    ("drain", FATE, lambda rules, task: rules.drain(task)),
    ("patience timer", COORDINATOR, lambda rules, task: rules.patience_timer(task)),
    ("confirm timer", COORDINATOR, lambda rules, task: rules.confirm_timer(task)),
    ("default answer timer", COORDINATOR, lambda rules, task: rules.ask_timer(task, True)),
    ("ask timer", COORDINATOR, lambda rules, task: rules.ask_timer(task, False)),
    ("cancel timer", COORDINATOR, lambda rules, task: rules.cancel_timer(task)),
    ("deadline timer", FATE, lambda rules, task: rules.deadline(task)),
    ("rung timer", COORDINATOR, lambda rules, task: rules.rung_timer(task, True)),
    ("last rung timer", COORDINATOR, lambda rules, task: rules.rung_timer(task, False)),
)
_ONLY_WHERE_NAMED = frozenset({"stall timer", "drain", "deadline timer"})


@cache
def _inputs(profile: Profile, holders: tuple[int, ...], current: int, offer: int) -> list[tuple[Input, int]]:
    """Return what peers may say about a task with these fences, and who says it."""
    return list(_all_inputs(profile, holders, current, offer))


def _all_inputs(profile: Profile, holders: tuple[int, ...], current: int, offer: int) -> Iterator[tuple[Input, int]]:
    inputs, count = profile.inputs, len(holders)
    for worker in WORKERS[: 2 if count else 1]:  # the two are alike until one has the task
        yield ("offer", worker), COORDINATOR
    for fence, holder in enumerate(holders, 1):
        for what in _words(profile, holder, fence):
            yield what, holder
    for fence in sorted({current, offer} - {0}):
        other = 1 - holders[fence - 1]
        yield ("sign", other, fence), other
        yield ("report", other, fence, profile.outcomes[0]), other
    yield ("report", 0, count + 1, profile.outcomes[0]), 0
    if "hello new" in inputs:
        for worker in sorted(set(holders)):
            yield ("hello new", worker), worker
    for number in range(profile.limits.asks):
        for words in ("x", "y"):
            yield ("answer", number, words), DELEGATOR
    if "confirm" in inputs:
        for rev in range(profile.limits.reworks + 1):
            for digest in (outcome for outcome in profile.outcomes if outcome in HASHES):
                for verdict in ("accept", "reject", "rework"):
                    yield ("confirm", rev, digest, verdict), DELEGATOR
    if "cancel" in inputs:
        for mode in ("coop", "kill", "skip"):
            yield ("cancel", mode), FATE
    if profile.limits.disputes:
        yield ("raise",), FATE
        for stands in (True, False):
            yield ("vote", stands), FATE


def _words(profile: Profile, worker: int, fence: int) -> Iterator[Input]:
    """Yield what a worker may say about an attempt."""
    inputs = profile.inputs
    yield ("sign", worker, fence)
    for outcome in profile.outcomes:
        yield ("report", worker, fence, outcome)
    if "hello held" in inputs:
        yield ("hello held", worker, fence)
    if "decline" in inputs:
        yield ("decline", worker, fence)
    if "yield" in inputs:
        yield ("yield", worker, fence, True)
    if "hand off" in inputs:
        yield ("hand off", worker, fence)
    for number in range(profile.limits.asks):
        for hold in ("hot", "cold"):
            yield ("ask", worker, fence, number, hold)


def _timers(profile: Profile, rules: Rules, world: World, number: int, task: Task) -> Iterator[Step]:
    for name, actor, fires in _TIMERS:
        if name in _ONLY_WHERE_NAMED and name not in profile.inputs:
            continue
        try:
            after = fires(rules, task)
        except KeyError:
            yield Step((name, number), actor, world, "refused")
            continue
        if after is not None:
            yield Step((name, number), actor, _follow(rules, world, number, after), "")


def _child(rules: Rules, world: World) -> Iterator[Step]:
    """An attempt of the parent delegates its sub-task; the same key again is the same one (TASK-5)."""
    parent = world.tasks[0]
    for fence, worker in enumerate(parent.holders, 1):
        allowed = rules.has_place(parent, worker, fence)
        fresh = allowed and len(world.tasks) == 1
        after = world._replace(tasks=(parent, NEW)) if fresh else world
        yield Step(("delegate child", 0, worker, fence), worker, after, "created" if allowed else "stale")


def _follow(rules: Rules, world: World, number: int, after: Task) -> World:
    """Return the world with one task changed, and what follows for the child."""
    if len(world.tasks) == 1:
        return World((after,), world.grace, world.twins)
    parent, child = (after, world.tasks[1]) if number == 0 else (world.tasks[0], after)
    if number == 0:
        was = world.tasks[0]
        if after.state in ENDED and was.state not in ENDED:
            child = rules.follow_parent(after, child, "coop")
        elif after.cancel != was.cancel and after.cancel:
            child = rules.follow_parent(after, child, after.cancel)
    if rules.is_orphan(parent, child):
        child = rules.follow_parent(parent, child, "coop")
    return World((parent, child), world.grace, world.twins)
