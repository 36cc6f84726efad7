"""What the checkers know of claims: names, places in line and circles, written from the specification.

It shares no code with the engine: names are compared segment by segment, and circles are found by brute force. Used by
the model, by the checkers of claims and by the contest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from a2a.engine.claimbook import Claim
from a2a.engine.coordinator import Coordinator
from a2a.engine.live import World
from a2a.engine.records import ClaimEnded
from a2a.engine.task_state import Task

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
    """What the records say about one claim."""

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
        """Whether the two cannot both be current: they conflict, and do not belong to one task."""
        is_family = self.task is not None and self.task == other.task
        return self is not other and not is_family and conflict(self.names, other.names)

    def gives_way_to(self, waiting: ClaimModel) -> bool:
        return bool(self.recalled) or (self.preemptible and waiting.priority > self.priority)


def circle_faults(record: ClaimEnded) -> list[str]:
    """Return what is wrong with the circle for which a claim was given up."""
    cycle: list[dict[str, Any]] = (record.data or {}).get("cycle", [])
    if len(cycle) < 2:
        return [f"claim {record.claim} was given up for the circle {cycle}"]
    faults = []
    for step, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        if step.get("for") not in ("claim", "sub-task", "ask", "capacity"):
            faults.append(f"the circle of claim {record.claim} has a step for nothing that is known: {step}")
        waits_for = step.get("waitsForTask") or step.get("waitsForAgent")
        if waits_for != (following.get("task") or following.get("agent")):
            faults.append(f"the circle of claim {record.claim} has a gap: {step} is followed by {following}")
        if not record.detail.count(str(waits_for)):
            faults.append(f"{waits_for} is not named in {record.detail!r}")
    return faults


def circle(coordinator: Coordinator | World, newcomer: Claim | None = None) -> list[str] | None:
    """Search the current waits for a circle, by brute force, with those of a claim that is about to come."""
    book, live = coordinator.ledger.claims, coordinator.live
    claims = [*book.claims.values(), *([newcomer] if newcomer is not None else [])]
    if not any(not claim.fence for claim in claims) and not live.line.tasks:
        return None
    tasks = coordinator.ledger.tasks
    waits: list[tuple[str, dict[str, str], tuple[int, int], int, bool]] = []
    for claim in claims:
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
    resting = set()
    """Tasks whose attempts only wait for their sub-tasks."""
    for agent, released in live.released.items():
        for parent, fence in released.items():
            authority = tasks[parent].authority
            if authority is None or not authority.is_open or (authority.holder, authority.fence) != (agent, fence):
                continue
            resting.add(parent)
            below = (coordinator.ledger.open_tasks.get(child) for child in tasks[parent].children)
            ends_with_it = (task for task in below if task is not None and task.on_parent_end == "cancel")
            edges.setdefault(f"task:{parent}", set()).update(f"task:{task.id}" for task in ends_with_it)
    either: dict[str, list[tuple[int, set[str]]]] = {}
    for task in coordinator.ledger.open_tasks.values():
        if task.state == "queued" and task.id not in live.line.tasks:
            either[f"task:{task.id}"] = _who_could(coordinator, task, resting)
        above = tasks.get(task.parent or "")
        if task.state == "parked" and task.holder and above is not None and above.holder and above.id not in resting:
            edges.setdefault(f"task:{task.id}", set()).add(f"task:{above.id}")
    return _circle_in(edges, either)


def _who_could(coordinator: Coordinator | World, task: Task, resting: set[str]) -> list[tuple[int, set[str]]]:
    """Return (slots, attempts) of each agent that could do a queued task, and (1, nobody) for one that may just come.

    An agent that is not here or takes no tasks may come, and a holder that let the task lapse may be back with it.
    """
    could: list[tuple[int, set[str]]] = []
    if task.authority is not None and task.authority.is_open:
        return could
    wish = task.spec.get("requires", {})
    for agent in coordinator.ledger.agents.values():
        skill = agent.skills.get(task.spec["skill"])
        if skill is None or wish.get("agent", agent.id) != agent.id or agent.id in wish.get("exclude", ()):
            continue
        fits = set(wish.get("tags", ())) <= set(skill.get("tags", ()))
        if not fits or not wish.get("labels", {}).items() <= agent.labels.items():
            continue
        seat = coordinator.live.agents.get(agent.id)
        at_work = {
            f"task:{other.id}"
            for other in coordinator.ledger.open_tasks.values()
            if other.holder == agent.id
            and other.state in ("leased", "parked")
            and other.id not in resting
            and other.authority is not None
            and not other.authority.evicted
        }
        takes_offers = agent.status == "ready" and agent.id not in coordinator.ledger.quarantined
        is_there = seat is not None and takes_offers and seat.credit_tasks > 0
        could.append((seat.credit_tasks, at_work) if seat is not None and is_there else (1, set()))
    return could


def _circle_in(edges: Mapping[str, set[str]], either: Mapping[str, list[tuple[int, set[str]]]]) -> list[str] | None:
    """Remove owners that wait for nobody that waits, until none is left, or only circles and owners waiting for them.

    An owner that several could serve goes as soon as one of them has a slot that no remaining owner fills.
    """
    left = set(edges) | {owner for owner, could in either.items() if could}
    while True:
        free = [owner for owner in left if not edges.get(owner, set()) & left and not _is_kept(either.get(owner), left)]
        if not free:
            return sorted(left) or None
        left.difference_update(free)


def _is_kept(could: list[tuple[int, set[str]]] | None, left: set[str]) -> bool:
    return bool(could) and all(len(at_work & left) >= slots for slots, at_work in could or ())
