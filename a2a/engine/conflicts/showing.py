"""The complete record of a conflict, for people and programs to read (spec CONFLICT-9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .case import Candidate, Conflict, Stage

if TYPE_CHECKING:
    from ..ledger import Ledger

__all__ = ["cost_of", "dissent_of", "payloads_of", "subjects_of", "view"]


def subjects_of(ledger: Ledger, conflict: Conflict) -> list[dict[str, Any]]:
    """Return the subjects of a conflict; the answers of a group are in ledger order."""
    if conflict.record:
        known: list[dict[str, Any]] = conflict.record["subjects"]
        return known
    if conflict.candidates:
        return [_shown(candidate) for candidate in conflict.candidates]
    group = ledger.tasks[conflict.task].group
    if group is None:
        return []
    found = []
    for member_id, number in group.numbers.items():
        member = ledger.tasks[member_id]
        result = member.results[-1]
        settled_lsn = member.history[-1].lsn
        if not conflict.frozen_lsn or settled_lsn <= conflict.frozen_lsn:
            found.append(
                {
                    "ref": member_id,
                    "agent": result.agent,
                    "fence": result.fence,
                    "resultHash": result.result_hash,
                    "group": number,
                    "lsn": settled_lsn,
                }
            )
    return found


def _shown(candidate: Candidate) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ref": candidate.ref,
        "form": candidate.form,
        "agent": candidate.agent,
        "resultHash": candidate.digest,
        "group": candidate.number,
        "lsn": candidate.lsn,
    }
    named = {
        "task": candidate.task,
        "fence": candidate.fence,
        "contextId": candidate.context_id,
        "key": candidate.key,
        "rev": candidate.rev,
        "resource": candidate.resource,
    }
    return shown | {name: value for name, value in named.items() if value is not None}


def dissent_of(ledger: Ledger, conflict: Conflict) -> list[str]:
    """Return the subjects that were not chosen: they are kept and reported."""
    if conflict.record:
        told: list[str] = conflict.record["dissent"]
        return told
    if conflict.candidates:
        numbers = {candidate.ref: candidate.number for candidate in conflict.candidates}
        stands = numbers.get(conflict.ref or "")
        return [ref for ref, number in numbers.items() if stands is None or number != stands]
    group = ledger.tasks[conflict.task].group
    if group is None:
        return []
    chosen = group.numbers.get(conflict.ref or "", None)
    return [member for member, number in group.numbers.items() if chosen is None or number != chosen]


def view(ledger: Ledger, conflict: Conflict) -> dict[str, Any]:
    """Return a conflict's record, without payloads. Once the conflict is closed, the record never changes."""
    if conflict.record:
        return conflict.record
    shown: dict[str, Any] = {
        "conflict": conflict.id,
        "kind": conflict.kind,
        "rule": conflict.rule,
        "level": conflict.level,
        "object": conflict.object,
        "blocks": conflict.blocks,
        "openedLsn": conflict.opened_lsn,
        "openedAt": conflict.opened_at,
        "frozenLsn": conflict.frozen_lsn,
        "parties": [{"agent": agent, "role": role} for agent, role in conflict.parties.items()],
        "subjects": subjects_of(ledger, conflict),
        "policy": [rung.strategy for rung in conflict.ladder],
        "positions": [
            {"agent": party, "stance": position.stance, "lsn": position.lsn}
            for party, position in conflict.positions.items()
        ],
        "stages": [
            {
                "strategy": stage.strategy,
                "fromLsn": stage.from_lsn,
                "toLsn": stage.to_lsn,
                "asked": stage.asked,
                "weights": stage.weights,
                "outcome": _outcome(conflict, stage),
                "winner": stage.winner,
                "why": stage.why,
                "by": stage.by,
                "costMicro": cost_of(ledger, stage),
            }
            for stage in conflict.stages
        ],
        "isOpen": conflict.is_open,
    }
    if conflict.task:
        shown["task"] = conflict.task
    if conflict.raises:
        shown["raises"] = [{"agent": raised.by, "claim": raised.claim, "lsn": raised.lsn} for raised in conflict.raises]
    if conflict.appeal is not None:
        shown["appeal"] = {name: value for name, value in conflict.appeal.items() if name != "payload"}
    if not conflict.is_open:
        shown["resolution"] = {
            "outcome": conflict.outcome,
            "ref": conflict.ref,
            "by": conflict.by,
            "rationale": conflict.rationale,
        }
        shown["dissent"] = dissent_of(ledger, conflict)
        shown["closedLsn"], shown["closedAt"] = conflict.closed_lsn, conflict.closed_at
        shown["prev"] = conflict.prev
    return shown


def cost_of(ledger: Ledger, stage: Stage) -> int:
    """Return what the tasks of a rung have used, as far as the ledger shows it (spec RUNG-8)."""
    return sum(ledger.tasks[asked].spent.get("costMicro", 0) for asked in stage.asked)


def _outcome(conflict: Conflict, stage: Stage) -> str:
    if not stage.to_lsn:
        return "open"
    has_refused_all = conflict.outcome == "reject_all" and stage is conflict.stages[-1]
    return "decided" if stage.winner is not None or has_refused_all else "undecided"


def payloads_of(ledger: Ledger, conflict: Conflict) -> list[dict[str, Any]]:
    """Return the subjects and statements in full. Answers that have left memory are missing; `task.get` has them."""
    results: list[dict[str, Any]]
    if conflict.candidates:
        results = [
            {"ref": known.ref, "payload": payload}
            for known in conflict.candidates
            if (payload := known.payload or _said_by_task(ledger, known))
        ]
        results += [{"raiser": raised.by, "payload": raised.payload} for raised in conflict.raises]
        merged = conflict.stages[-1].merged if conflict.stages and conflict.outcome == "merge" else None
        results += [{"ref": "merged", "payload": merged}] if merged is not None else []
    else:
        results = _answers(ledger, conflict)
    said = [{"party": party, "payload": position.payload} for party, position in conflict.positions.items()]
    appeal = conflict.appeal
    if appeal is not None:  # `ground` distinguishes it from the position of the same party
        said.append({"party": appeal["by"], "ground": appeal["ground"], "payload": appeal["payload"]})
    return results + said


def _said_by_task(ledger: Ledger, candidate: Candidate) -> bytes:
    """Return the result that a conflict does not keep itself. Its task may have a newer result by now."""
    task = ledger.tasks.get(candidate.ref) if candidate.form == "result" else None
    results = task.results if task is not None else ()
    return next((result.payload for result in results if result.fence == candidate.fence), b"")


def _answers(ledger: Ledger, conflict: Conflict) -> list[dict[str, Any]]:
    return [
        {"ref": subject["ref"], "payload": ledger.tasks[subject["ref"]].results[-1].payload}
        for subject in subjects_of(ledger, conflict)
        if subject["ref"] in ledger.tasks
    ]
