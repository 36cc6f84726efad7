"""Walks every state that can be reached, breadth first, so that what it finds it finds by the shortest way.

Then it goes back: from every state the tasks have to be able to end, without anybody cancelling them and without a
deadline, also where one of the peers is never heard again.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .invariants import Violation
from .world import Step

__all__ = ["Found", "Model", "walk"]


@dataclass(frozen=True, slots=True)
class Model:
    """What is walked."""

    name: str
    start: Any
    steps: Callable[[Any], Iterable[Step]]
    """Everything that can happen in a state."""
    check: Callable[[Any, Step], None]
    """Raises `Violation` where a step from a state breaks a promise."""
    has_ended: Callable[[Any], bool]
    gone: tuple[tuple[str, frozenset[int]], ...]
    """Who may never be heard again, and whose steps nobody counts on then."""


@dataclass(slots=True)
class Found:
    """What a walk came to."""

    name: str
    states: int = 0
    transitions: int = 0
    """Steps looked at, also those that change nothing."""
    depth: int = 0
    seconds: float = 0.0
    """Of one core."""
    violation: Violation | None = None
    trace: list[str] = field(default_factory=list)
    """The shortest way to the violation, a line a step."""


def walk(model: Model, *, states_max: int = 2_000_000) -> Found:
    """Walk a model until a promise is broken, or to its end."""
    found = Found(model.name)
    started = time.process_time()
    known: dict[Any, int] = {model.start: 0}
    worlds: list[Any] = [model.start]
    came: list[tuple[int, Any]] = [(-1, None)]
    """Each state's first predecessor, and the step from there."""
    targets, actors = array("L"), array("B")
    """The steps that change something, one state's after the other's."""
    ends = array("L")
    steps, check = model.steps, model.check
    level_ends_at, at = 1, 0
    try:
        while at < len(worlds):
            if at == level_ends_at:
                found.depth, level_ends_at = found.depth + 1, len(worlds)
            world = worlds[at]
            for step in steps(world):
                found.transitions += 1
                try:
                    check(world, step)
                except Violation as violation:
                    found.violation = violation
                    found.trace = _trace(worlds, came, at, step)
                    return found
                after = step.world
                if after is world:
                    continue
                index = known.get(after)
                if index is None:
                    index = known[after] = len(worlds)
                    worlds.append(after)
                    came.append((at, step.what))
                targets.append(index)
                actors.append(step.actor)
            ends.append(len(targets))
            at += 1
            if len(worlds) > states_max:
                detail = f"there are more than {states_max} states: the bounds of the profile are too wide"
                found.violation = Violation("SIZE", detail)
                return found
        stuck = _stuck(model, worlds, targets, actors, ends)
        if stuck is not None:
            who, index = stuck
            found.violation = Violation("L1", f"the end cannot be reached any more{who}")
            found.trace = _trace(worlds, came, index, None)
        return found
    finally:
        found.states = len(worlds)
        found.seconds = time.process_time() - started


def _stuck(model: Model, worlds: list[Any], targets: Any, actors: Any, ends: Any) -> tuple[str, int] | None:
    """Return a state from which no end can be reached, and without whom; None where there is no such state."""
    for who, silent in model.gone:
        can = bytearray(model.has_ended(world) for world in worlds)
        changed = True
        while changed:
            # Backwards: a state was found after most of those that lead to it, so that few rounds are needed.
            changed = False
            for index in range(len(worlds) - 1, -1, -1):
                if can[index]:
                    continue
                for edge in range(ends[index - 1] if index else 0, ends[index]):
                    if can[targets[edge]] and actors[edge] not in silent:
                        can[index] = changed = True
                        break
        stuck = can.find(0)
        if stuck >= 0:
            return who, stuck
    return None


def _trace(worlds: list[Any], came: list[tuple[int, Any]], index: int, last: Any) -> list[str]:
    """Tell the way to a state, and the step after it."""
    path = [] if last is None else [f"{told(last.what)}\n      {_shown(last.world)}"]
    while index > 0:
        before, what = came[index]
        path.append(f"{told(what)}\n      {_shown(worlds[index])}")
        index = before
    return [f"{number:3}. {line}" for number, line in enumerate(reversed(path), 1)]


def told(what: tuple[Any, ...]) -> str:
    """Return a step in words."""
    return " ".join(str(item) for item in what)


def _shown(value: Any) -> str:
    """Return a state in words; fields that have their first value are left out."""
    if hasattr(value, "_fields"):
        first = type(value)._field_defaults
        shown = [
            f"{name}={_shown(item)}"
            for name, item in zip(value._fields, value, strict=True)
            if name not in first or item != first[name] or name == "state"
        ]
        return f"({', '.join(shown)})"
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return str(value)
