"""How parties and people speak in a conflict, and how anybody reads one (spec CONFLICT-4 to CONFLICT-9)."""

from __future__ import annotations

from typing import Any

from ...errors import ErrorCode
from ...protocol.messages import (
    ConflictAppeal,
    ConflictFound,
    ConflictGet,
    ConflictList,
    ConflictOpened,
    ConflictPosition,
    ConflictVote,
    Ok,
    Subject,
)
from ...protocol.messages import ConflictResolved as ResolvedNotice
from ...protocol.types import principal_of
from .. import refusals
from ..decision import Decision, refuse, reply
from ..ledger import Ledger
from ..live import Connection, World
from ..records import ConflictAppealed, PositionTaken
from .case import WORD, Conflict
from .procedure import may_appeal, resolve_by_person, terms_for
from .shelving import in_memory, page_of, position_before
from .showing import dissent_of, payloads_of, subjects_of, view

__all__ = [
    "on_conflict_appeal",
    "on_conflict_get",
    "on_conflict_list",
    "on_conflict_position",
    "on_conflict_vote",
    "opened_notice",
    "resolved_notice",
]


def _missing(conflict: str) -> Decision:
    return refuse(ErrorCode.NOT_FOUND, f"there is no conflict {conflict}")


def _over(conflict: Conflict) -> Decision:
    return refuse(
        ErrorCode.CONFLICT,
        f"conflict {conflict.id} is over: {' '.join(filter(None, (conflict.outcome, conflict.ref)))}, by "
        f"{conflict.by or 'nobody'}",
        data={"outcome": conflict.outcome, "ref": conflict.ref},
    )


def _party_of(conflict: Conflict, sender: Connection) -> str | None:
    """Return the party that the sender speaks for: itself, else one of its principal, or None. Spec CONFLICT-2."""
    agent = sender.agent or ""
    principal = principal_of(agent)
    same = (party for party in conflict.parties if principal_of(party) == principal)
    return agent if agent in conflict.parties else next(same, None)


def _no_party(conflict: Conflict, sender: Connection) -> Decision:
    return refuse(ErrorCode.FORBIDDEN, f"{sender.agent} is no party to conflict {conflict.id}")


def on_conflict_position(world: World, sender: Connection, message: ConflictPosition, now: int) -> Decision:
    """Record a party's position; its last one before the ballot closes counts. Spec CONFLICT-4."""
    conflict = world.ledger.conflicts.get(message.conflict)
    if conflict is None:
        return _missing(message.conflict)
    party = _party_of(conflict, sender)
    if party is None:
        return _no_party(conflict, sender)
    known = conflict.positions.get(party)
    if known is not None and (known.stance, known.payload) == (message.stance, message.payload):
        return reply(Ok())
    if not conflict.is_open:
        return _over(conflict)
    return reply(Ok(), PositionTaken(now, conflict.id, conflict.task or None, party, message.stance, message.payload))


def on_conflict_vote(world: World, sender: Connection, message: ConflictVote, now: int) -> Decision:
    """Record a person's decision, at any rung. Spec CONFLICT-6."""
    conflict = world.ledger.conflicts.get(message.conflict)
    if conflict is None:
        return _missing(message.conflict)
    if sender.role != "operator":
        return refuse(ErrorCode.FORBIDDEN, f"a person decides conflict {conflict.id}: show the operator's token")
    if not conflict.is_open:
        is_same = principal_of(conflict.by) == principal_of(sender.agent or "")
        is_repeat = is_same and _is_chosen(world.ledger, conflict, message.choice)
        return reply(Ok(state=conflict.outcome)) if is_repeat else _over(conflict)
    if conflict.rule == WORD:
        detail = f"the word on task {conflict.task} decides conflict {conflict.id}: accept its result, or reject it"
        return refuse(ErrorCode.DENIED, detail)
    refs = [subject["ref"] for subject in subjects_of(world.ledger, conflict) if subject["group"] >= 0]
    if message.choice is not None and message.choice not in refs:
        return refuse(
            ErrorCode.NOT_FOUND,
            f"{message.choice} is no subject of conflict {conflict.id}; expected one of {', '.join(refs)}",
        )
    records = resolve_by_person(world, conflict, message.choice, message.reasons, sender.agent or "", now)
    return reply(Ok(state="reject_all" if message.choice is None else "select"), *records)


def _is_chosen(ledger: Ledger, conflict: Conflict, choice: str | None) -> bool:
    """Tell whether a choice is the outcome. Of equal subjects the first stands, whichever was named."""
    if choice is None or conflict.ref is None:
        return choice == conflict.ref
    groups = {subject["ref"]: subject["group"] for subject in subjects_of(ledger, conflict)}
    return choice in groups and groups[choice] == groups.get(conflict.ref)


def on_conflict_appeal(world: World, sender: Connection, message: ConflictAppeal, now: int) -> Decision:
    """Record that a party appeals an outcome that has not taken effect yet. Spec CONFLICT-8."""
    conflict = world.ledger.conflicts.get(message.conflict)
    if conflict is None:
        return _missing(message.conflict)
    party = _party_of(conflict, sender)
    if party is None:
        return _no_party(conflict, sender)
    if conflict.appeal is not None:
        if (conflict.appeal["by"], conflict.appeal["ground"]) == (party, message.ground):
            return reply(Ok())
        return refuse(ErrorCode.DENIED, f"conflict {conflict.id} was appealed once, by {conflict.appeal['by']}")
    if not conflict.is_open:
        return _over(conflict)
    has_outcome = bool(conflict.stages) and conflict.stages[-1].winner is not None and conflict.stage is None
    if not has_outcome or not may_appeal(world, terms_for(world.ledger, conflict), conflict, now):
        return refuse(ErrorCode.DENIED, f"conflict {conflict.id} has no outcome that can be appealed")
    return reply(
        Ok(), ConflictAppealed(now, conflict.id, conflict.task or None, party, message.ground, message.payload)
    )


def on_conflict_get(world: World, sender: Connection, message: ConflictGet, now: int) -> Decision:
    """Show a conflict. Spec CONFLICT-9."""
    conflict = world.ledger.conflicts.get(message.conflict)
    if conflict is None:
        return _missing(message.conflict)
    payloads = payloads_of(world.ledger, conflict) if message.content else []
    refused = refusals.shown(conflict.refusals)
    return reply(ConflictFound(conflict.id, view(world.ledger, conflict), payloads, refused))


def on_conflict_list(world: World, sender: Connection, message: ConflictList, now: int) -> Decision:
    """List conflicts, newest first. Spec CONFLICT-9."""
    if message.before is not None and position_before(world.ledger, message) == 0:
        return _missing(message.before)
    return reply(page_of(world.ledger, message, in_memory(world.ledger, message)))


def opened_notice(ledger: Ledger, conflict: Conflict, agent: str, now: int) -> ConflictOpened:
    """Return the notice to a party that a conflict has opened."""
    role: Any = conflict.parties.get(agent, "delegator")
    subjects = [
        Subject(subject["ref"], subject["agent"], subject["resultHash"], max(0, subject["group"]))
        for subject in subjects_of(ledger, conflict)
    ]
    return ConflictOpened(
        conflict.id,
        conflict.kind,
        conflict.rule,
        conflict.level,
        subjects,
        role,
        conflict.task or None,
        conflict.object,
        max(0, conflict.respond_at - now) if conflict.is_open else 0,
    )


def resolved_notice(ledger: Ledger, conflict: Conflict) -> ResolvedNotice:
    """Return the notice to a party that a conflict is over."""
    outcome: Any = conflict.outcome
    return ResolvedNotice(
        conflict.id,
        outcome,
        conflict.rationale,
        conflict.by,
        conflict.task or None,
        conflict.object,
        conflict.ref,
        dissent_of(ledger, conflict),
    )
