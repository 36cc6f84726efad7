"""The book of claims: who holds which names, who waits for them, and what the records of claims do to it (spec CLAIM).

Part of the ledger, and changed by records only. `claims` decides what is granted, `waits` who waits for whom; the book
answers both from indexes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .agenda import Agenda
from .names import NameIndex
from .records import Claimed, ClaimEnded, ClaimRecalled, ClaimRenewed, ClaimRequested, Offered, Record

if TYPE_CHECKING:
    from .ledger import Ledger

__all__ = ["APPLY", "Claim", "ClaimBook", "Numbers", "granted_with", "owner_of"]

_ENDED_KEPT = 16
"""Ended claims remembered of each owner, to answer their repeats."""
_OWNERS_KEPT = 4_096
"""Owners whose numbers are remembered: those that claimed last, and all that have a claim."""


def owner_of(task: str | None, agent: str) -> str:
    """Return the owner of a claim: its task, or without one the agent that made it."""
    return f"agent:{agent}" if task is None else f"task:{task}"


@dataclass(slots=True)
class Claim:
    """One claim on some names, from its request to its end."""

    id: int
    """The position of the record that requested it."""
    at: int
    agent: str
    under: str
    """What its number is unique within: the attempt's fence, or without a task the agent's instance."""
    claim_no: int
    """Counts the claims made under `under`; 0 if it was granted with a lease."""
    names: dict[str, str]
    """Name to mode, in canonical order."""
    task: str | None = None
    task_fence: int = 0
    ttl_ms: int | None = None
    wait_until: int = 0
    priority: int = 0
    preemptible: bool = False
    fence: int = 0
    """The fence of the claim itself; 0 while it waits."""
    until: int | None = None
    """When it ends unless it is renewed; None: it lasts as long as the attempt."""
    recalled: str = ""
    """Why the holder was asked to give it back, or empty."""
    grace_at: int = 0
    """When a recalled claim ends."""
    ended: str = ""
    """Why it has ended; empty while it waits or is held."""
    detail: str = ""
    cycle: list[dict[str, Any]] = field(default_factory=list)
    """With `deadlock`: the circle that its wait would have closed."""

    @property
    def owner(self) -> str:
        """The task or agent it belongs to, as `owner_of` has it."""
        return owner_of(self.task, self.agent)

    @property
    def is_waiting(self) -> bool:
        """Whether it has not been granted yet."""
        return not self.fence and not self.ended

    def facts(self) -> dict[str, Any]:
        """Return what a notice needs to know once the claim is gone."""
        told = {
            "claimNo": self.claim_no,
            "claimFence": self.fence,
            "task": self.task,
            "fence": self.task_fence or None,
            "reason": self.ended or self.recalled,
            "detail": self.detail,
            "graceAt": self.grace_at,
            "cycle": self.cycle,
        }
        return {name: fact for name, fact in told.items() if fact}


@dataclass(slots=True)
class Numbers:
    """The claim numbers an owner has used."""

    under: str
    newest: int = 0
    ended: dict[int, Claim] = field(default_factory=dict)


class _Idle:
    """The owners of numbers that have no claim, the least recent first, without a look at those that have one.

    Derived from the book, and never stored.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        """Owner to its place in the order of last claims."""
        self._idle = Agenda[str]()

    def claimed(self, owner: str, place: int) -> None:
        """Note that an owner, which has a claim, is the last to have used a number."""
        self._places[owner] = place

    def begins(self, owner: str) -> None:
        """Note that an owner no longer has a claim."""
        self._idle.set(owner, self._places.get(owner), 0)

    def ends(self, owner: str) -> None:
        """Note that an owner has a claim."""
        self._idle.set(owner, None, 0)

    def forget(self, owner: str) -> None:
        """Note that an owner no longer has numbers."""
        self._places.pop(owner, None)
        self.ends(owner)

    def take(self, place: int) -> str | None:
        """Remove and return the owner that claimed longest ago, before a place; None if there is none."""
        return self._idle.pop(place)


@dataclass(slots=True)
class ClaimBook:
    """The claims that wait or are held."""

    claims: dict[int, Claim] = field(default_factory=dict)
    by_fence: dict[int, Claim] = field(default_factory=dict)
    """The held claims."""
    by_owner: dict[str, dict[int, Claim]] = field(default_factory=dict)
    held: NameIndex = field(default_factory=NameIndex)
    waiting: NameIndex = field(default_factory=NameIndex)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    """Owner to the claim numbers it has used, the latest to claim last."""
    _idle: _Idle = field(default_factory=_Idle, compare=False)

    def find(self, owner: str, under: str, claim_no: int) -> Claim | None:
        """Return the claim with this number, even if it ended a short time ago."""
        # What was granted with a lease has used no number, and of two processes of an agent only one has the newest.
        for claim in self.by_owner.get(owner, {}).values():
            if claim.claim_no == claim_no and claim.under == under:
                return claim
        numbers = self.numbers.get(owner)
        return numbers.ended.get(claim_no) if numbers is not None and numbers.under == under else None

    def newest_no(self, owner: str, under: str) -> int:
        """Return the greatest number used so far."""
        numbers = self.numbers.get(owner)
        return numbers.newest if numbers is not None and numbers.under == under else 0

    def forget(self, owner: str) -> None:
        """Drop the numbers of an owner that is gone for good."""
        self.numbers.pop(owner, None)
        self._idle.forget(owner)

    @classmethod
    def of(cls, claims: list[Claim], owners: dict[str, list[int]], numbers: dict[str, Numbers]) -> ClaimBook:
        """Build the book of these claims."""
        book = cls({claim.id: claim for claim in claims}, numbers=numbers)
        book.by_owner = {owner: {key: book.claims[key] for key in keys} for owner, keys in owners.items()}
        held = sorted((claim for claim in claims if claim.fence), key=lambda claim: claim.fence)
        book.by_fence = {claim.fence: claim for claim in held}
        for claim in claims:
            (book.held if claim.fence else book.waiting).add(claim.id, claim.names)
        for place, owner in enumerate(numbers, -len(numbers)):
            book._idle.claimed(owner, place)
            if owner not in owners:
                book._idle.begins(owner)
        return book

    def waits_of(self, owner: str) -> list[Claim]:
        """Return the claims an owner waits for, oldest first."""
        return [claim for claim in self.by_owner.get(owner, {}).values() if claim.is_waiting]

    def _enter(self, claim: Claim) -> None:
        self.claims[claim.id] = claim
        self.by_owner.setdefault(claim.owner, {})[claim.id] = claim
        self._idle.ends(claim.owner)

    def _number(self, claim: Claim) -> None:
        numbers = self.numbers.pop(claim.owner, None)
        if numbers is None or numbers.under != claim.under:
            numbers = Numbers(claim.under)
        numbers.newest = claim.claim_no
        self.numbers[claim.owner] = numbers
        self._idle.claimed(claim.owner, claim.id)
        if len(self.numbers) > _OWNERS_KEPT:
            idle = self._idle.take(claim.id)
            if idle is not None:
                self.forget(idle)

    def _leave(self, claim: Claim) -> None:
        del self.claims[claim.id]
        mine = self.by_owner[claim.owner]
        del mine[claim.id]
        if not mine:
            del self.by_owner[claim.owner]
            self._idle.begins(claim.owner)
        if claim.fence:
            del self.by_fence[claim.fence]
            self.held.remove(claim.id, claim.names)
        else:
            self.waiting.remove(claim.id, claim.names)
        numbers = self.numbers.get(claim.owner)
        if claim.claim_no and numbers is not None and numbers.under == claim.under:
            numbers.ended[claim.claim_no] = claim
            if len(numbers.ended) > _ENDED_KEPT:
                del numbers.ended[next(iter(numbers.ended))]


# What each record does ------------------------------------------------------------------------------------------------


def _claim_requested(ledger: Ledger, record: ClaimRequested, lsn: int) -> None:
    book = ledger.claims
    claim = Claim(
        id=lsn,
        at=record.at,
        agent=record.agent,
        under=record.under,
        claim_no=record.claim_no,
        names=record.names,
        task=record.task,
        task_fence=record.fence,
        ttl_ms=record.ttl_ms,
        wait_until=record.wait_until,
        priority=record.priority,
        preemptible=record.preemptible,
    )
    book._enter(claim)
    book._number(claim)
    book.waiting.add(claim.id, claim.names)


def _claimed(ledger: Ledger, record: Claimed, lsn: int) -> None:
    book = ledger.claims
    claim = book.claims[record.claim]
    if not claim.is_waiting:
        raise ValueError(f"record {lsn} grants claim {claim.id}, which has fence {claim.fence}")
    book.waiting.remove(claim.id, claim.names)
    claim.fence = lsn
    claim.until = None if claim.ttl_ms is None else record.at + claim.ttl_ms
    book.by_fence[lsn] = claim
    book.held.add(claim.id, claim.names)
    if record.waited:
        ledger.post_claim(claim, lsn, "claim.granted")


def granted_with(ledger: Ledger, record: Offered, lsn: int) -> None:
    """Enter the claim granted with an offer: its fence is the attempt's. Spec CLAIM-9."""
    assert record.claims, "only a task that names resources is granted some"
    book = ledger.claims
    priority = ledger.tasks[record.task].spec.get("priority", 0)
    claim = Claim(lsn, record.at, record.agent, str(lsn), 0, record.claims, record.task, lsn, priority=priority)
    claim.fence = lsn
    book._enter(claim)
    book.by_fence[lsn] = claim
    book.held.add(claim.id, claim.names)


def _claim_renewed(ledger: Ledger, record: ClaimRenewed, lsn: int) -> None:
    claim = ledger.claims.by_fence[record.claim_fence]
    claim.ttl_ms, claim.until = record.ttl_ms, record.at + record.ttl_ms


def _claim_recalled(ledger: Ledger, record: ClaimRecalled, lsn: int) -> None:
    claim = ledger.claims.by_fence[record.claim_fence]
    claim.recalled, claim.grace_at = record.reason, record.grace_at
    ledger.freed.append(claim.names)  # a claim that waits for this one and others may call those back now
    ledger.post_claim(claim, lsn, "claim.preempt")


def _claim_ended(ledger: Ledger, record: ClaimEnded, lsn: int) -> None:
    claim = ledger.claims.claims[record.claim]
    ledger.claims._leave(claim)
    ledger.freed.append(claim.names)
    claim.ended, claim.detail = record.reason, record.detail
    claim.cycle = (record.data or {}).get("cycle", [])
    if record.is_told:
        ledger.post_claim(claim, lsn, "claim.denied")


APPLY: dict[type[Record], Callable[[Ledger, Any, int], None]] = {
    ClaimRequested: _claim_requested,
    Claimed: _claimed,
    ClaimRenewed: _claim_renewed,
    ClaimRecalled: _claim_recalled,
    ClaimEnded: _claim_ended,
}
"""What the ledger does with the records of claims."""
