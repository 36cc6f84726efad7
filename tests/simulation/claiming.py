"""What must hold of claims, one checker per property, named as in SEMANTICS 4.1 and the spec's paragraphs.

They rely on the model, which folds the records without the engine's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from a2a.engine.records import (
    Accepted,
    Claimed,
    ClaimEnded,
    ClaimRecalled,
    ClaimRequested,
    Offered,
)
from a2a.protocol.messages import ClaimDenied, ClaimGranted, ClaimRelease, Message
from a2a.protocol.types import principal_of

from .court import Cause, Checker, Court
from .holdings import ClaimModel, circle, circle_faults, conflict
from .model import TaskModel

__all__ = ["CLAIMING", "tasks_before"]

_LATE_MS = 20
"""As with tasks: a deadline missed by this much was never set."""


class _OfClaims(Checker):
    """A checker that knows what a record is about to grant."""

    def granted(self, record: Claimed | Offered, lsn: int) -> ClaimModel | None:
        """Return the claim that the record grants, or None if it grants none."""
        if isinstance(record, Claimed):
            return self.model.claims[record.claim]
        if not record.claims:
            return None
        task = self.model.tasks[record.task]
        return ClaimModel(task.lsn, task.at, record.agent, record.claims, task.id, lsn, priority=task.priority)

    def against(self, claim: ClaimModel) -> Iterator[ClaimModel]:
        """Yield the claims that cannot be current together with this one."""
        return (other for other in self.model.claims.values() if claim.is_against(other))


class HeldAlone(_OfClaims):
    """Two claims that conflict are never both held, and a task is offered only with all of its resources."""

    name = "I15"
    records = (Claimed, Offered)

    def before(self, record: Claimed | Offered, lsn: int, cause: Cause) -> None:
        if isinstance(record, Claimed):
            known = self.model.claims.get(record.claim)
            self.hold(known is not None and not known.fence, f"claim {record.claim} is granted, and does not wait")
        else:
            wanted = self.model.tasks[record.task].resources
            self.hold((record.claims or {}) == wanted, f"{record.task} needs {wanted} and is given {record.claims}")
        claim = self.granted(record, lsn)
        if claim is None:
            return
        for other in self.against(claim):
            self.hold(not other.fence, f"{claim.owner} gets {claim.names}, {other.owner} has {other.names}")


class FencesOfNames(_OfClaims):
    """Each new owner of names has a greater fence than all before, so that a guard that has seen those lets it pass."""

    name = "I14"
    records = (Claimed, Offered, Accepted)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._seen = 0
        """The greatest fence that was current before on a name that conflicts with those granted now."""

    def before(self, record: Claimed | Offered | Accepted, lsn: int, cause: Cause) -> None:
        if isinstance(record, Accepted):
            claim = self.model.claims_granted.get(record.fence)
        else:
            claim = self.granted(record, lsn)
        names = claim.names if claim is not None else {}
        seen = (fence for held, fence in self.model.fences_seen.items() if conflict(names, dict(held)))
        self._seen = max(seen, default=0)

    def after(self, record: Claimed | Offered | Accepted, lsn: int, cause: Cause) -> None:
        if isinstance(record, Offered) and not (record.granted and record.claims):
            return  # not current yet
        assert self.court.coordinator is not None, "it decided"
        book = self.court.coordinator.ledger.claims
        if isinstance(record, Accepted):
            claim = book.by_fence.get(record.fence)
        else:
            claim = book.claims.get(record.claim if isinstance(record, Claimed) else lsn)
        if claim is not None:
            what = f"{claim.owner} gets {claim.names} with {claim.fence}"
            self.hold(claim.fence > self._seen, f"{what}, after {self._seen}")


class ClaimedOnce(Checker):
    """One number is one claim, however often it is sent, and it is requested under a current fence."""

    name = "CLAIM-4"
    records = (ClaimRequested,)

    def before(self, record: ClaimRequested, lsn: int, cause: Cause) -> None:
        owner = f"agent:{record.agent}" if record.task is None else f"task:{record.task}"
        newest = self.model.claim_numbers.get((owner, record.under), 0)
        self.hold(record.claim_no > newest, f"{owner} makes claim {record.claim_no} again, the newest is {newest}")


class EndsWithAttempt(Checker):
    """A task claims only under its current fence, and its claims end with that fence."""

    name = "CLAIM-8"
    records = (ClaimRequested,)

    def before(self, record: ClaimRequested, lsn: int, cause: Cause) -> None:
        task = self.model.tasks.get(record.task or "")
        if task is None:
            return
        is_current = task.runs and (task.fence, task.holder) == (record.fence, record.agent)
        self.hold(is_current, f"{record.agent} claims for {task.id} under {record.fence}, current is {task.fence}")

    def look(self, now: int) -> None:
        for claim in self.model.claims.values():
            if claim.task is not None:
                self.hold(_is_alive(self.model.tasks[claim.task], claim), f"{claim} outlives its attempt")


def _is_alive(task: TaskModel, claim: ClaimModel) -> bool:
    return claim.task_fence in (task.offer, task.fence if task.is_open else 0)


class InTurn(_OfClaims):
    """Nobody is granted a name for which an earlier one in line waits."""

    name = "CLAIM-5"
    records = (Claimed, Offered)

    def before(self, record: Claimed | Offered, lsn: int, cause: Cause) -> None:
        claim = self.granted(record, lsn)
        if claim is None:
            return
        held: list[ClaimModel] = []
        if isinstance(record, Offered):  # a wait for what an attempt of the task has does not come before it
            held = [mine for mine in self.model.claims.values() if mine.fence and mine.task == record.task]
        for other in self.against(claim):
            waits = any(conflict(mine.names, other.names) and not mine.gives_way_to(other) for mine in held)
            overtakes = not other.fence and other.place < claim.place and not waits
            self.hold(not overtakes, f"{claim.owner} gets {claim.names}, {other.owner} was before it: {other.names}")


class OnlyItsOwnerReleases(Checker):
    """A claim is released only by its owner or an operator (CLAIM-6)."""

    name = "CLAIM-6"
    records = (ClaimEnded,)

    def before(self, record: ClaimEnded, lsn: int, cause: Cause) -> None:
        claim = self.model.claims.get(record.claim)
        self.hold(claim is not None, f"claim {record.claim} ends, and there is none")
        if record.reason != "released" or claim is None:
            return
        self.hold(isinstance(cause.message, ClaimRelease), f"{claim} is released because of {cause.message}")
        agent = cause.agent or ""
        is_own = claim.agent == agent or (claim.task is None and principal_of(claim.agent) == principal_of(agent))
        self.hold(is_own or principal_of(agent) == "operator", f"{agent} gives back {claim}")


class EndsForAReason(Checker):
    """A claim that the clock ends is due and not in the grace; a claim ends with its attempt only if that is over."""

    name = "CLAIM-7"
    records = (ClaimEnded,)

    def before(self, record: ClaimEnded, lsn: int, cause: Cause) -> None:
        claim = self.model.claims[record.claim]
        if record.reason in ("released", "deadlock"):
            return
        if record.reason == "ended":
            task = self.model.tasks.get(claim.task or "")
            self.hold(task is not None and not _is_alive(task, claim), f"{claim} ends, and its attempt has not")
            return
        due = {"timeout": claim.wait_until, "ttl": claim.until, "preempted": claim.grace_at}[record.reason]
        self.hold(cause.kind == "tick", f"{claim} ends by {record.reason} because {cause.agent} spoke")
        self.hold(due is not None and due <= record.at, f"{claim} ends at {record.at} by {record.reason}: too early")
        self.hold(record.at >= self.model.grace_until, f"{claim} ends by {record.reason} in the grace")
        self.hold((record.reason == "timeout") is not bool(claim.fence), f"{claim} ends by {record.reason}")


class CalledBackByRight(_OfClaims):
    """Only a preemptible claim is called back, for a claim of higher priority that nothing else keeps waiting."""

    name = "CLAIM-10"
    records = (ClaimRecalled,)

    def before(self, record: ClaimRecalled, lsn: int, cause: Cause) -> None:
        claim = next((held for held in self.model.claims.values() if held.fence == record.claim_fence), None)
        self.hold(claim is not None and claim.preemptible, f"{claim} is called back, and may not be")
        assert claim is not None, "just seen"
        served = [other for other in self.against(claim) if not other.fence and self._is_next(other)]
        self.hold(served, f"{claim} is called back for nobody")

    def _is_next(self, waiting: ClaimModel) -> bool:
        in_way = [other for other in self.against(waiting) if other.fence or other.place < waiting.place]
        return all(other.fence and other.gives_way_to(waiting) for other in in_way)


class CirclesAreBroken(_OfClaims):
    """A claim is given up only for a real circle, and only the least of the waits in it (WAIT-2, WAIT-3)."""

    name = "WAIT-2"
    records = (ClaimEnded,)

    def before(self, record: ClaimEnded, lsn: int, cause: Cause) -> None:
        if record.reason != "deadlock":
            return
        faults = circle_faults(record)
        self.hold(not faults, "; ".join(faults))
        claim = self.model.claims[record.claim]
        cycle = (record.data or {})["cycle"]
        owners = [f"task:{step['task']}" if "task" in step else f"agent:{step['agent']}" for step in cycle]
        self.hold(claim.owner in owners, f"{claim} is given up for a circle of others: {owners}")
        for owner, step in zip(owners, cycle, strict=True):
            alike = [other for other in self.model.claims.values() if self._is_step(other, owner, step)]
            is_least = any((claim.priority, -claim.id) <= (other.priority, -other.id) for other in alike)
            self.hold(is_least or not alike, f"{claim} is given up, and one of {alike} should have been")
            self.hold(self._may_wait(step), f"{claim} is given up for a circle with {step}, which cannot be")

    def _is_step(self, claim: ClaimModel, owner: str, step: dict[str, Any]) -> bool:
        """Whether a claim may be the wait that a step of its owner names; the newest is not noted yet."""
        if claim.owner != owner or claim.fence or list(claim.names) != step.get("wants"):
            return False
        waited_for = f"task:{step['waitsForTask']}" if "waitsForTask" in step else f"agent:{step['waitsForAgent']}"
        in_way = [other for other in self.against(claim) if other.fence or other.place < claim.place]
        return any(other.owner == waited_for for other in in_way)

    def _may_wait(self, step: dict[str, Any]) -> bool:
        """Whether the tasks of a step are in states in which one waits for the other in this way."""
        if step["for"] == "claim":
            return True
        one, other = self.model.tasks[step["task"]], self.model.tasks[step["waitsForTask"]]
        if step["for"] == "sub-task":
            return other.parent == one.id and one.runs
        if step["for"] == "ask":
            return one.parent == other.id and one.state == "parked" and one.runs and other.runs
        known = self.model.agents.get(other.holder)
        return one.state == "queued" and other.runs and known is not None and one.skill in known.skills


class WaitsEnd(_OfClaims):
    """Every waiting claim is granted, denied or over in time, and every circle is broken when it closes."""

    name = "L7"

    def look(self, now: int) -> None:
        assert self.court.coordinator is not None, "it is up"
        found = circle(self.court.coordinator)
        self.hold(found is None, f"nobody broke the circle {found}")
        for claim in self.model.claims.values():
            dues = [claim.until, claim.grace_at if claim.recalled else None] if claim.fence else [claim.wait_until]
            for due in dues:
                late = 0 if due is None else now - max(due, self.model.grace_until)
                self.hold(late <= _LATE_MS, f"{claim} should have ended {late} ms ago")
            if not claim.fence:
                self._is_kept_waiting(claim)

    def _is_kept_waiting(self, claim: ClaimModel) -> None:
        in_way = [other for other in self.against(claim) if other.fence or other.place < claim.place]
        tasks = [task for task in tasks_before(self, claim) if self._is_wanted(task)]
        is_kept = any(
            other.owner == claim.owner and other.task_fence > claim.task_fence and conflict(other.names, claim.names)
            for other in self.model.claims.values()
        )
        self.hold(in_way or tasks or is_kept, f"{claim} waits for nobody")
        if not tasks and all(other.fence and other.gives_way_to(claim) for other in in_way):
            self.hold(all(other.recalled for other in in_way), f"{claim} waits for {in_way}, and nobody asks for them")

    def _is_wanted(self, task: TaskModel) -> bool:
        """Whether an agent that might take the task is here: otherwise the task stands in nobody's way."""
        return any(
            known.status == "ready"
            and task.skill in known.skills
            and seat.credit
            and self.model.quarantine(agent) is None
            for agent, seat in self.model.seats.items()
            if (known := self.model.agents.get(agent)) is not None
        )

    def unfinished(self) -> str | None:
        return next((f"{claim} is there" for claim in self.model.claims.values()), None)


def tasks_before(checker: Checker, claim: ClaimModel) -> list[TaskModel]:
    """Return the queued tasks that may stand in line before a claim, or before a task in the form of a claim."""
    return [
        task
        for task in checker.model.open.values()
        if task.resources
        and task.state == "queued"
        and task.id != claim.task
        and task.place < claim.place
        and conflict(task.resources, claim.names)
    ]


class GrantIsTrue(Checker):
    """A peer told of a claim has it, or had it: durably, with exactly these names, under this fence."""

    name = "CLAIM-11"
    notices = (ClaimGranted, ClaimDenied)

    def told(self, agent: str, message: Any, request: Message | None) -> None:
        if isinstance(message, ClaimDenied):
            return
        durable = self.court.durable()
        self.hold(message.claim_fence <= durable, f"{agent} was told of {message}, durable is {durable}")
        known = self.model.claims_granted.get(message.claim_fence)
        names = {resource["name"]: resource["mode"] for resource in message.claims}
        same = known is not None and (known.agent, known.names, known.task) == (agent, names, message.task)
        self.hold(same, f"{agent} was told of {message}, the ledger has {known}")


CLAIMING: tuple[type[Checker], ...] = (
    HeldAlone,
    FencesOfNames,
    ClaimedOnce,
    EndsWithAttempt,
    InTurn,
    OnlyItsOwnerReleases,
    EndsForAReason,
    CalledBackByRight,
    CirclesAreBroken,
    WaitsEnd,
    GrantIsTrue,
)
