"""What the checkers know of claims: names, places in line and circles, written from the specification.

It shares no code with the engine: names are compared segment by segment, and circles are looked for by brute force.
Used by the model, by the checkers of claims and by the contest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from a2a.engine.coordinator import Coordinator
from a2a.engine.records import ClaimEnded

__all__ = ["ClaimModel", "circle", "circle_faults", "conflict", "overlap", "place"]


@cache
def overlap(one: str, other: str) -> bool:
    """Tell whether two names conflict, segment by segment."""
    ours, theirs = one.split("/"), other.split("/")
    for mine, its in zip(ours, theirs, strict=False):
        if "**" in (mine, its):
            return True
        if mine != its:
            return False
    longer = ours if len(ours) > len(theirs) else theirs
    rest = longer[min(len(ours), len(theirs)) :]
    return rest in ([], ["**"])


def conflict(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Tell whether two claims conflict."""
    return any(
        "x" in (mine, its) and overlap(name, another) for name, mine in one.items() for another, its in other.items()
    )


def place(at: int, priority: int, lsn: int) -> tuple[int, int]:
    """Return a place in line: waiting for 30 s counts as much as one step of priority."""
    return (at - priority * 30_000, lsn)


@dataclass(slots=True)
class ClaimModel:
    """What the records said about one claim."""

    id: int
    at: int
    agent: str
    names: dict[str, str]
    task: str | None
    task_fence: int
    wait_until: int = 0
    priority: int = 0
    preemptible: bool = False
    ttl_ms: int | None = None
    fence: int = 0
    until: int | None = None
    recalled: str = ""
    grace_at: int = 0

    @property
    def owner(self) -> str:
        return f"agent:{self.agent}" if self.task is None else f"task:{self.task}"

    @property
    def place(self) -> tuple[int, int]:
        return place(self.at, self.priority, self.id)

    def is_against(self, other: ClaimModel) -> bool:
        """Whether the two cannot both be current: they conflict, and are not of one task."""
        is_family = self.task is not None and self.task == other.task
        return self is not other and not is_family and conflict(self.names, other.names)

    def gives_way_to(self, waiting: ClaimModel) -> bool:
        return bool(self.recalled) or (self.preemptible and waiting.priority > self.priority)


def circle_faults(record: ClaimEnded) -> list[str]:
    """Return what is wrong with the circle that a claim was given up for."""
    cycle: list[dict[str, Any]] = (record.data or {}).get("cycle", [])
    if len(cycle) < 2:
        return [f"claim {record.claim} was given up for the circle {cycle}"]
    faults = []
    for step, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        waits_for = step.get("waitsForTask") or step.get("waitsForAgent")
        if waits_for != (following.get("task") or following.get("agent")):
            faults.append(f"the circle of claim {record.claim} has a gap: {step} is followed by {following}")
        if not record.detail.count(str(waits_for)):
            faults.append(f"{waits_for} is not named in {record.detail!r}")
    return faults


def circle(coordinator: Coordinator) -> list[str] | None:
    """Look for a circle in the waits as they are now, by brute force."""
    book, live = coordinator.ledger.claims, coordinator.live
    if not any(not claim.fence for claim in book.claims.values()) and not live.line.tasks:
        return None
    tasks = coordinator.ledger.tasks
    waits: list[tuple[str, dict[str, str], tuple[int, int], int, bool]] = []
    for claim in book.claims.values():
        if not claim.fence:
            where = place(claim.at, claim.priority, claim.id)
            waits.append((claim.owner, claim.names, where, claim.priority, True))
    for task in live.line.tasks.values():
        names = {resource["name"]: resource.get("mode", "x") for resource in task.spec["resources"]}
        priority = task.spec.get("priority", 0)
        waits.append((f"task:{task.id}", names, place(task.at, priority, task.lsn), priority, False))
    edges: dict[str, set[str]] = {}
    for owner, names, where, priority, is_claim in waits:
        for claim in book.claims.values():
            gives_way = is_claim and (claim.recalled or (claim.preemptible and claim.priority < priority))
            if claim.fence and claim.owner != owner and not gives_way and conflict(names, claim.names):
                edges.setdefault(owner, set()).add(claim.owner)
        for other, its_names, its_place, _, _ in waits:
            if other != owner and its_place < where and conflict(names, its_names):
                edges.setdefault(owner, set()).add(other)
    for agent, released in live.released.items():
        for parent, fence in released.items():
            authority = tasks[parent].authority
            if authority is None or not authority.is_open or (authority.holder, authority.fence) != (agent, fence):
                continue
            open_children = (child for child in tasks[parent].children if child in coordinator.ledger.open_tasks)
            edges.setdefault(f"task:{parent}", set()).update(f"task:{child}" for child in open_children)
    return _circle_in(edges)


def _circle_in(edges: Mapping[str, set[str]]) -> list[str] | None:
    """Take away who waits for nobody that waits, until nobody is left or only circles and who waits for them."""
    left = {owner: set(others) for owner, others in edges.items()}
    while True:
        free = [owner for owner, others in left.items() if not others & left.keys()]
        if not free:
            return sorted(left) or None
        for owner in free:
            del left[owner]
