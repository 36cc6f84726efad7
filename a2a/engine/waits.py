"""Who waits for whom, in one graph for all waits, and which wait is given up when it closes a circle (spec WAIT).

The graph is not kept: when a wait begins, the waits of its owner are looked up in the book of claims, in the line of
queued tasks, in the tree of tasks and among busy agents. An owner is a task, or an agent with claims of its own. Used
by the claims' handlers, by heartbeats that say whether an attempt only waits, and by the coordinator when a task joins
the line, and for whatever else a step has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..protocol.states import TaskState
from .capacity import Busy, all_busy
from .claimbook import Claim, owner_of
from .ledger import Ledger
from .live import Live, Standing
from .names import Looks, NameIndex, canonical_names, names_meet
from .records import ClaimEnded, Record, Settled
from .task_state import Task
from .tree import above_group

__all__ = [
    "AGEING_MS",
    "LOOKS_MAX",
    "STEPS_MAX",
    "Deadlock",
    "Obstacle",
    "Wait",
    "anyone_waits",
    "circles_broken",
    "count_before",
    "deadlocks",
    "given_up",
    "gives_way",
    "has_to_wait",
    "in_the_way",
    "resources_of",
    "wait_of",
]

_FIRST = (-(2**62), 0)
"""The standing of held names: every wait comes after it."""
AGEING_MS = 30_000
"""A wait of this long counts as much as one step of priority (spec CLAIM-5)."""
STEPS_MAX = 50_000
"""Most steps from owner to owner that are looked at for one wait. If there are more, no circle is broken, and the waits
in one end with their time: longer looks would delay every other decision."""
LOOKS_MAX = 200_000
"""Likewise, most names of obstacles that are looked at: two waits for many names have many that conflict."""
_WANTS_TOLD = 16
"""Names told of each wait in a circle: all of it is recorded, and sent to the owner that gives up."""
_LOOKS = 1_024
"""Names looked at first, before all are, to find out whether any is in the way."""
_HELD_LOOKS, _HELD_NAMES = 32_768, 4_096
"""Most names looked at, and most names of one owner, to find out whether anybody waits for it: beyond these, to look
for whom it waits is no more work."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One owner's wait for names."""

    what: Claim | Task
    owner: str
    names: Mapping[str, str]
    priority: int
    lsn: int
    at: int

    def is_beside(self, owner: str) -> bool:
        """Tell whether the wait is not in the way of that owner's claims: those of one task are not. Spec CLAIM-8."""
        return self.owner == owner and owner.startswith("task:")

    @property
    def standing(self) -> Standing:
        """Its place in line. Both sides of a comparison age alike, so the order of two waits never changes."""
        return (self.at - self.priority * AGEING_MS, self.lsn)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands between a wait and its names."""

    what: Claim | Task
    owner: str
    name: str
    """The first of the obstacle's names that conflicts."""
    is_held: bool
    """Whether it is held; else it waits too, and comes first."""


@dataclass(slots=True)
class Deadlock:
    """A circle of waits, and the wait that is given up."""

    victim: Claim | Task
    cycle: list[dict[str, Any]]

    @property
    def detail(self) -> str:
        """The circle in words."""
        return "; ".join(_told(step) for step in self.cycle)


@dataclass(frozen=True, slots=True)
class _Step:
    """One owner that waits for another."""

    owner: str
    other: str
    wait: Wait | None = None
    """The wait for names; None: a wait for something else, which is never given up."""
    name: str = ""
    what: str = "claim"


class _Node:
    """What an owner waits for, without what goes on by itself."""

    def __init__(self, steps: list[_Step], busy: list[Busy], answers: list[str], owner: str) -> None:
        kept = sorted(attempt for agent in busy for attempt in agent.attempts)
        asked = [owner_of(task, "") for task in answers]
        self.steps = [*steps, *(_Step(owner, other, what="sub-task") for other in asked)]
        self.steps += [_Step(owner, owner_of(task, ""), what="capacity") for _, task in kept]
        self._all_of = {step.other for step in steps}
        self._one_of = [(agent.slots, {owner_of(task, "") for _, task in agent.attempts}) for agent in busy]
        if asked:
            self._one_of.append((len(asked), set(asked)))

    @property
    def others(self) -> Iterable[str]:
        """Everybody it waits for in any way, each once, in a deterministic order."""
        return dict.fromkeys(step.other for step in self.steps)

    def take_away(self, other: str) -> bool:
        """Remove an owner that does not wait for ever, and tell whether this one no longer does either."""
        self._all_of.discard(other)
        for _, attempts in self._one_of:
            attempts.discard(other)
        return not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for ever while the rest do: for all of some owners, and for one of each group of others."""
        busy = [len(attempts) >= slots for slots, attempts in self._one_of]
        return bool(self._all_of) or (bool(busy) and all(busy))


@dataclass(slots=True)
class _Graph:
    ledger: Ledger
    live: Live
    newcomer: Claim | None = None
    """A claim that is about to wait, and is not in the book yet."""
    looks: Looks = field(default_factory=lambda: Looks(LOOKS_MAX))
    """Shared by all circles that are looked for together."""
    steps_left: int = field(default_factory=lambda: STEPS_MAX)
    """Shared likewise."""
    _given_up: set[int] = field(default_factory=set)
    _newcomer: NameIndex = field(default_factory=NameIndex)
    """The names of the newcomer."""
    _obstacles: dict[int, list[Obstacle]] = field(default_factory=dict)
    """Obstacles of each wait looked at: nothing changes before all circles are known."""

    def __post_init__(self) -> None:
        if self.newcomer is not None:
            self._newcomer.add(self.newcomer.id, self.newcomer.names)

    def give_up(self, what: Claim | Task) -> None:
        """Treat a wait as ended."""
        self._given_up.add(id(what))

    def waits(self, owner: str) -> Iterator[Wait]:
        """Yield an owner's waits for names."""
        for claim in self.ledger.claims.waits_of(owner):
            if not self.is_given_up(claim):
                yield wait_of(claim)
        if self.newcomer is not None and self.newcomer.owner == owner and not self.is_given_up(self.newcomer):
            yield wait_of(self.newcomer)
        task = self.live.line.tasks.get(owner.removeprefix("task:")) if owner.startswith("task:") else None
        if task is not None and not self.is_given_up(task):
            yield wait_of(task, self.live.line.names[task.id])

    def is_given_up(self, what: Claim | Task) -> bool:
        return id(what) in self._given_up

    def obstacles(self, wait: Wait) -> list[Obstacle]:
        found = self._obstacles.get(id(wait.what))
        if found is None:
            found = self._obstacles[id(wait.what)] = self._look(wait)
        return [obstacle for obstacle in found if not self.is_given_up(obstacle.what)]

    def _look(self, wait: Wait) -> list[Obstacle]:
        found = in_the_way(self.ledger, self.live, wait, self.looks)
        newcomer = self.newcomer
        if newcomer is not None and newcomer is not wait.what:
            name = self._newcomer.meeting(wait.names).get(newcomer.id)
            if name is not None and _comes_before(self.ledger, wait_of(newcomer), wait):
                found.append(Obstacle(newcomer, newcomer.owner, name, is_held=False))
        return found

    def steps(self, owner: str) -> Iterator[_Step]:
        """Yield the owners that an owner waits for.

        A wait for what gives way by itself is not endless, nor is an agent's wait for itself: it may do several things
        at once.
        """
        for wait in self.waits(owner):
            if self.looks.are_over:
                return
            for obstacle in self.obstacles(wait):
                is_passing = isinstance(wait.what, Claim) and gives_way(obstacle, wait.priority)
                if not is_passing and obstacle.owner != owner:
                    yield _Step(owner, obstacle.owner, wait, obstacle.name)
        for child in _awaited(self.ledger, self.live, owner):
            yield _Step(owner, owner_of(child, ""), what="sub-task")
        asked = _asked(self.ledger, self.live, owner)
        if asked is not None:
            yield _Step(owner, owner_of(asked, ""), what="ask")

    def busy(self, owner: str) -> list[Busy]:
        """Return the agents of which one has to become free for an owner that is queued and not in line."""
        task = self.ledger.open_tasks.get(owner.removeprefix("task:")) if owner.startswith("task:") else None
        if task is None or task.id in self.live.line.tasks:
            return []
        return all_busy(self.ledger, self.live, task)

    def answers(self, owner: str) -> list[str]:
        """Return the members' tasks of a blocked group, of which at least one has to go on before the group can."""
        task = self.ledger.open_tasks.get(owner.removeprefix("task:")) if owner.startswith("task:") else None
        if task is None or task.state is not TaskState.BLOCKED:
            return []
        return [child.id for child in self.ledger.open_children(task)]

    def stuck(self, start: str) -> dict[str, _Node]:
        """Return those who can never go on, among an owner and everybody it waits for, and what each waits for.

        An owner that waits for nobody goes on; then do those that wait for such owners alone, or for one of them where
        one is enough. The rest wait for ever (spec WAIT-1).
        """
        nodes: dict[str, _Node] = {}
        waiting: dict[str, list[str]] = {}
        known = {start: None}
        ahead = [start]
        while ahead:
            owner = ahead.pop()
            steps = list(islice(self.steps(owner), self.steps_left + 1))
            node = nodes[owner] = _Node(steps, self.busy(owner), self.answers(owner), owner)
            self.steps_left -= len(node.steps)
            if self.steps_left < 0 or self.looks.are_over:
                return {}
            for other in node.others:
                waiting.setdefault(other, []).append(owner)
                if other not in known:
                    known[other] = None
                    ahead.append(other)
        free = [owner for owner, node in nodes.items() if not node.is_stuck]
        while free:
            owner = free.pop()
            del nodes[owner]
            for other in waiting.get(owner, ()):
                if other in nodes and nodes[other].is_stuck and nodes[other].take_away(owner):
                    free.append(other)
        return nodes

    def is_waited_for(self, owner: str) -> bool:
        """Tell whether anybody may wait for an owner: most waiters hold nothing, and close no circle."""
        mine = self.ledger.claims.by_owner.get(owner, {}).values()
        wanted: list[tuple[Mapping[str, str], Standing]] = [(claim.names, _FIRST) for claim in mine if claim.fence]
        wanted += [(wait.names, wait.standing) for wait in self.waits(owner)]
        if sum(len(names) for names, _ in wanted) > _HELD_NAMES:
            return True
        looks = Looks(_HELD_LOOKS)
        for names, standing in wanted:
            others = (wait for wait, _ in _waiting(self.ledger, self.live, names, after=standing, looks=looks))
            if any(other.owner != owner and other.standing > standing for other in others) or looks.are_over:
                return True
        task = self.ledger.tasks.get(owner.removeprefix("task:")) if owner.startswith("task:") else None
        if task is None:
            return False
        if task.holder is not None and self.live.released:
            return True  # a sub-task that somebody only waits for may need the slot
        if any(child.state is TaskState.PARKED for child in _open_below(self.ledger, task)):
            return True
        above = above_group(self.ledger, task)
        return above is not None and _only_waits(self.live, above)

    def cycle_from(self, start: str) -> list[_Step]:
        """Return the first path, depth first, from an owner that waits for ever back to itself, or nothing."""
        stuck = self.stuck(start)
        if start not in stuck:
            return []
        path: list[_Step] = []
        seen = {start}
        stack = [iter(stuck[start].steps)]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                if path:
                    path.pop()
                continue
            if step.other == start:
                return [*path, step]
            if step.other not in seen and step.other in stuck:
                seen.add(step.other)
                path.append(step)
                stack.append(iter(stuck[step.other].steps))
        return []


def resources_of(task: Task) -> dict[str, str]:
    """Return the resources that a task is to be granted with its lease: name to mode."""
    resources = task.spec.get("resources")
    return canonical_names(resources) if resources else {}


def wait_of(what: Claim | Task, names: Mapping[str, str] | None = None) -> Wait:
    """Return the wait of a claim, or of a queued task for its resources; known `names` save looking them up."""
    if isinstance(what, Claim):
        return Wait(what, what.owner, what.names, what.priority, what.id, what.at)
    names = resources_of(what) if names is None else names
    return Wait(what, owner_of(what.id, ""), names, what.spec.get("priority", 0), what.lsn, what.at)


def in_the_way(ledger: Ledger, live: Live, wait: Wait, looks: Looks | None = None) -> list[Obstacle]:
    """Return what is in a wait's way: first held claims, oldest first, then waits that come before it (spec CLAIM-5).

    Args:
        ledger: which names are held and waited for.
        live: which tasks stand in line.
        wait: the wait.
        looks: how much may be looked at; once they are over, there may be more obstacles than are returned. Nothing is
            in the way only if nothing is returned.
    """
    held = _holding(ledger, wait, looks)
    before: list[tuple[Standing, Obstacle]] = []
    for other, name in _waiting(ledger, live, wait.names, before=wait.standing, looks=looks):
        if _comes_before(ledger, other, wait):
            before.append((other.standing, Obstacle(other.what, other.owner, name, is_held=False)))
    if looks is not None and looks.are_over and not held and not before:
        return in_the_way(ledger, live, wait)  # what was seen is the owner's own, or comes later
    before.sort(key=lambda item: item[0])
    return [*held, *(obstacle for _, obstacle in before)]


def count_before(ledger: Ledger, live: Live, wait: Wait) -> int:
    """Return how many other waits come before a wait."""
    return sum(_comes_before(ledger, other, wait) for other, _ in _waiting(ledger, live, wait.names, wait.standing))


def _holding(ledger: Ledger, wait: Wait, looks: Looks | None) -> list[Obstacle]:
    """Return the held claims that are in a wait's way, oldest first."""
    book = ledger.claims
    held = [
        Obstacle(claim, claim.owner, name, is_held=True)
        for claim, name in ((book.claims[key], name) for key, name in book.held.meeting(wait.names, looks).items())
        if not wait.is_beside(claim.owner)
    ]
    held.sort(key=lambda obstacle: obstacle.what.id)
    return held


def has_to_wait(ledger: Ledger, live: Live, wait: Wait) -> bool:
    """Tell whether anything is in the way: as `in_the_way`, without saying what."""
    looks = Looks(_LOOKS)
    held = (ledger.claims.claims[key] for key in ledger.claims.held.meeting(wait.names, looks))
    if any(not wait.is_beside(claim.owner) for claim in held):
        return True
    others = (other for other, _ in _waiting(ledger, live, wait.names, wait.standing, looks=looks))
    return any(_comes_before(ledger, other, wait) for other in others) or (
        looks.are_over and bool(in_the_way(ledger, live, wait))
    )


def _comes_before(ledger: Ledger, other: Wait, wait: Wait) -> bool:
    """Tell whether `other` is in the way of `wait`, with which it conflicts. Spec CLAIM-5.

    Not if `wait` is of a task in line that already has the names: a lapsed attempt keeps its claims, and the task would
    wait for those who wait for its next attempt.
    """
    if wait.is_beside(other.owner) or other.standing >= wait.standing:
        return False
    mine = ledger.claims.by_owner.get(wait.owner) if isinstance(wait.what, Task) else None
    if not mine:
        return True
    held = (claim for claim in mine.values() if claim.fence and names_meet(other.names, claim.names) is not None)
    priority = other.priority if isinstance(other.what, Claim) else None
    return all(_yields(claim, priority) for claim in held)


def _waiting(
    ledger: Ledger,
    live: Live,
    names: Mapping[str, str],
    before: Standing | None = None,
    *,
    after: Standing | None = None,
    looks: Looks | None = None,
) -> Iterator[tuple[Wait, str]]:
    """Yield the waits that conflict with these names, with one conflicting name of each.

    Only tasks that stand before one place, or behind another, are asked for, while other claims may be yielded too:
    many tasks may be in line, but only a few claims (spec LIMIT-7).
    """
    book, line = ledger.claims, live.line
    for key, name in book.waiting.meeting(names, looks).items():
        yield wait_of(book.claims[key]), name
    for alike, name in line.meeting(names):
        first = 0 if after is None else alike.behind(after)
        end = len(alike.tasks) if before is None else alike.behind(before)
        for place in range(first, end):
            if looks is not None:
                if looks.are_over:
                    return
                looks.left -= 1
            yield wait_of(alike.tasks[place], alike.names), name


def gives_way(obstacle: Obstacle, priority: int) -> bool:
    """Tell whether an obstacle gives way to a claim of this priority: recalled, or to be recalled. Spec CLAIM-10."""
    claim = obstacle.what
    if not isinstance(claim, Claim) or not obstacle.is_held:
        return False
    return _yields(claim, priority)


def _yields(claim: Claim, priority: int | None) -> bool:
    """Tell whether a held claim gives way; a priority of None calls nothing back."""
    return bool(claim.recalled) or (priority is not None and claim.preemptible and priority > claim.priority)


def _awaited(ledger: Ledger, live: Live, owner: str) -> list[str]:
    """Return the sub-tasks that a task's attempt says it only waits for, oldest first. Spec WAIT-1."""
    task = ledger.tasks.get(owner.removeprefix("task:")) if owner.startswith("task:") else None
    if task is None or not _only_waits(live, task):
        return []
    return [child.id for child in ledger.open_children(task) if child.on_parent_end == "cancel"]


def _open_below(ledger: Ledger, task: Task) -> Iterator[Task]:
    """Yield the open sub-tasks of a task, and the members of those that are groups."""
    for child in ledger.open_children(task):
        yield child
        if child.group is not None:
            yield from _open_below(ledger, child)


def _asked(ledger: Ledger, live: Live, owner: str) -> str | None:
    """Return the task whose attempt has to answer the question that a parked attempt waits for. Spec WAIT-1.

    None if that attempt only waits for its sub-tasks: then it is free to answer them.
    """
    task = ledger.tasks.get(owner.removeprefix("task:")) if owner.startswith("task:") else None
    if task is None or task.state is not TaskState.PARKED or task.holder is None:
        return None
    above = above_group(ledger, task)
    is_kept = above is not None and above.holder is not None and not _only_waits(live, above)
    return above.id if above is not None and is_kept else None


def _only_waits(live: Live, task: Task) -> bool:
    authority = task.authority
    if authority is None or not authority.is_open:
        return False
    return live.released.get(authority.holder, {}).get(task.id) == authority.fence


def anyone_waits(ledger: Ledger, live: Live) -> bool:
    """Tell whether anybody waits for names: every circle has such a wait.

    Parents wait down the tree for sub-tasks, questions wait up the tree; an attempt that only waits for sub-tasks keeps
    no slot, and no question waits for it.
    """
    return bool(ledger.claims.waiting) or bool(live.line.tasks)


def deadlocks(
    ledger: Ledger, live: Live, owner: str, newcomer: Claim | None = None, *, is_back: bool = False
) -> list[Deadlock]:
    """Return the circles that an owner's waits close, with the wait to give up in each. Spec WAIT-2.

    Args:
        ledger: what is held and waited for.
        ledger: which names are held and waited for.
        live: which tasks stand in line, which attempts only wait for sub-tasks, and which agents are busy.
        owner: the owner whose wait begins.
        newcomer: the claim that is about to wait, if the wait is a new claim.
        is_back: whether the claim's attempt comes back with it: then its task leaves the line.
    """
    graph = _Graph(ledger, live, newcomer)
    task = live.line.tasks.get(newcomer.task or "") if newcomer is not None and is_back else None
    if task is not None:
        graph.give_up(task)
    found: list[Deadlock] = []
    if (newcomer is None and not anyone_waits(ledger, live)) or not graph.is_waited_for(owner):
        return found
    while cycle := graph.cycle_from(owner):
        waits = [step.wait for step in cycle if step.wait is not None]
        assert waits, "sub-tasks, questions and slots alone make no circle"
        victim = min(waits, key=lambda wait: (wait.priority, -wait.lsn)).what
        found.append(Deadlock(victim, [_spelled(step) for step in cycle]))
        graph.give_up(victim)
    return found


def circles_broken(ledger: Ledger, live: Live, owner: str, now: int) -> list[Record]:
    """Return the records that break the circles closed by this owner's waits, except by a new claim. Spec WAIT-2."""
    return [given_up(deadlock, now) for deadlock in deadlocks(ledger, live, owner)]


def _spelled(step: _Step) -> dict[str, Any]:
    spelled: dict[str, Any] = {}
    for key, owner in (("", step.owner), ("waitsFor", step.other)):
        kind, _, name = owner.partition(":")
        spelled[f"{key}{kind.capitalize()}" if key else kind] = name
    if step.wait is None:
        return spelled | {"for": step.what}
    return spelled | {"for": "claim", "name": step.name, "wants": list(step.wait.names)[:_WANTS_TOLD]}


def _told(step: dict[str, Any]) -> str:
    who = f"task {step['task']}" if "task" in step else step["agent"]
    whom = f"task {step['waitsForTask']}" if "waitsForTask" in step else step["waitsForAgent"]
    what = _WORDS.get(step["for"]) or f"{step['name']} of"
    return f"{who} waits for {what} {whom}"


_WORDS = {"sub-task": "its sub-task", "ask": "an answer of", "capacity": "an agent, and one is busy with"}


def given_up(deadlock: Deadlock, now: int) -> Record:
    """Return the record that breaks a circle: the claim is denied, or the queued task fails. Spec WAIT-2."""
    victim, detail = deadlock.victim, deadlock.detail
    if isinstance(victim, Claim):
        return ClaimEnded(now, victim.id, "deadlock", detail, {"cycle": deadlock.cycle}, is_told=True)
    assert victim.state is TaskState.QUEUED, "only what is queued stands in line"
    return Settled(now, victim.id, "failed", "deadlock", detail)
