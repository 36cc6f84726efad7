"""Processes that take an agent's id from each other again and again: how they are found and stopped (spec CONFLICT-18).

Only this process knows how often an id was taken over, as with everything about who is connected. Too many takeovers
are a conflict, and the agent is in quarantine while that conflict is open.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ...errors import ErrorCode
from ...protocol.canonical import canonical
from ..decision import Decision, refuse
from ..live import Connection, World
from ..records import ConflictOpened
from .case import FLAPPING, Candidate, Terms
from .finding import digest_of, has_room, terms_by

__all__ = ["left_of", "note_takeover", "opened", "refusal", "told_of"]

_KNOWN_MAX = 10_000
"""How many recently taken over agents are remembered. Beyond this, the one taken over longest ago is forgotten."""


def note_takeover(world: World, agent: str, now: int) -> None:
    """Count a process that took the place of another that was heard from just now."""
    known = world.live.takeovers
    times = [*_lately(world, agent, now), now]
    known.pop(agent, None)
    known[agent] = times[-world.policy.takeovers_max :]
    oldest = next(iter(known))
    if len(known) > _KNOWN_MAX or now - known[oldest][-1] >= world.policy.takeovers_ms:
        del known[oldest]


def refusal(world: World, there: Connection, instance: str, incarnation: int, now: int) -> Decision | None:
    """Return the refusal of a process whose agent was taken over too often, or None if it may come in.

    The connected process is first asked whether it is still there: an agent that keeps crashing and restarting leaves
    connections behind on which nobody answers.
    """
    policy, agent = world.policy, there.agent or ""
    times = _lately(world, agent, now)
    if not policy.ladder_for("identity"):
        return None
    if agent not in world.ledger.quarantined and len(times) < policy.takeovers_max - 1:
        return None
    is_asked = there.asked_at is not None and now - there.asked_at < policy.takeovers_ms
    if there.asked_at is not None and not there.has_answered and now - there.asked_at >= policy.answer_ms:
        return None
    if is_asked and there.has_answered:
        one = {"instance": there.instance, "incarnation": there.incarnation}
        decision = _too_often(world, agent, one, {"instance": instance, "incarnation": incarnation}, times, now)
    else:
        detail = f"{agent} was taken over often lately: {there.instance} is asked whether it is still here"
        decision = refuse(ErrorCode.DENIED, detail, retry_after_ms=policy.answer_ms)
    if there.has_answered:
        there.asked_at, there.has_answered = now, False
        decision.ping = there.id
    return decision


def _too_often(
    world: World, agent: str, one: dict[str, Any], other: dict[str, Any], times: list[int], now: int
) -> Decision:
    policy, known = world.policy, world.ledger.quarantined.get(agent)
    if known is not None:
        left, records = left_of(world, known, now), []
    else:
        record = opened(world, agent, one, other, now)
        records = [record] if record is not None else []
        left = policy.quarantine_ms if record is not None else times[0] + policy.takeovers_ms - now
        known = record.conflict if record is not None else None
    sooner = f"; a person may let it in sooner by a vote on conflict {known}" if known is not None else ""
    detail = (
        f"processes take {agent} from each other again and again: this one is not let in for another "
        f"{-(-left // 1000)} s, while {one['instance']} is here. Stop all of them but one, or give each an id of its "
        f"own{sooner}"
    )
    data = {"conflict": known} if known is not None else None
    return refuse(ErrorCode.DENIED, detail, retry_after_ms=left, data=data, records=[*records])


def opened(world: World, agent: str, one: dict[str, Any], other: dict[str, Any], now: int) -> ConflictOpened | None:
    """Return the conflict that puts an agent into quarantine, or None if there is no room for it or one is open.

    Args:
        world: where the agent is.
        agent: the agent.
        one: the process that is connected.
        other: the process that would take its place.
        now: the current time.
    """
    ledger, about = world.ledger, f"agent:{agent}"
    known = ledger.conflicts_about.get(f"identity {about}", ())
    if any(conflict in ledger.open_conflicts for conflict in known) or not has_room(world):
        return None
    candidates = []
    for number, said in enumerate((one, other)):
        payload = canonical(said)
        candidates.append(Candidate(f"instance-{number + 1}", "word", agent, digest_of(payload), payload, number, 0))
    terms = _terms(world)
    return ConflictOpened(
        now,
        ledger.conflict_id_at(ledger.lsn + 1),
        None,
        "identity",
        FLAPPING,
        terms.ladder,
        now,
        {agent: "author"},
        object=about,
        candidates=[asdict(candidate) for candidate in candidates],
        terms=terms.to_plain(),
    )


def _terms(world: World) -> Terms:
    """Return the terms: a person may end the quarantine, else it ends when its time is up."""
    ladder: list[dict[str, Any]] = [{"strategy": "human", "timeoutMs": world.policy.quarantine_ms}]
    return replace(terms_by(world.policy, "identity"), ladder=ladder)


def _lately(world: World, agent: str, now: int) -> list[int]:
    return [at for at in world.live.takeovers.get(agent, ()) if now - at < world.policy.takeovers_ms]


def left_of(world: World, conflict_id: str, now: int) -> int:
    """Return how much longer a quarantine lasts, in milliseconds."""
    conflict = world.ledger.conflicts[conflict_id]
    return max(0, conflict.opened_at + (conflict.ladder[0].timeout_ms or 0) - now)


def told_of(world: World, agent: str, now: int) -> dict[str, Any] | None:
    """Return what others see of an agent's quarantine, or None if it is not in quarantine."""
    known = world.ledger.quarantined.get(agent)
    return None if known is None else {"conflict": known, "leftMs": left_of(world, known, now)}
