"""Rules that decide again about groups and conflicts: jobs are done again, and each word is its speaker's own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ...protocol.messages import (
    ConflictAppeal,
    ConflictPosition,
    ConflictRaise,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Held,
    Message,
    RaisedSubject,
)
from ...protocol.types import principal_of
from ..conflicts.case import FLAPPING, PATCHED, Terms
from ..conflicts.comparators import Compare, run
from ..conflicts.finding import TRIES
from ..conflicts.flapping import opened
from ..conflicts.merging import Merge
from ..conflicts.merging import run as merged_by
from ..conflicts.noting import are_of_one
from ..conflicts.noting import expected_instead as unnoted
from ..conflicts.overlapping import collision, next_overlap
from ..conflicts.patches import run as overlapped_by
from ..conflicts.procedure import advance, proceed, resolve_by_person
from ..conflicts.renoting import noted_again
from ..conflicts.showing import subjects_of
from ..records import (
    Classified,
    ConflictAppealed,
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    GroupDecided,
    Merged,
    PatchesCompared,
    PositionTaken,
    Record,
    StageClosed,
    StageOpened,
)
from ..task_state import Task
from .past import NO_LIMITS, Past, Rule, allow

__all__ = ["RULES"]


def _classified(past: Past, record: Classified) -> list[list[Record]]:
    step = advance(past.world, past.task(record), record.at)
    if not isinstance(step, Compare):
        return [step or []]
    allow(step.member == record.member, f"the class of {step.member}, which came before")
    if record.number < 0:
        return [[record]]  # how long a comparison takes is not recorded, and one that takes too long decides nothing
    number, why = run(step)
    return [[replace(record, number=number, why=why)]]


def _advanced(past: Past, record: GroupDecided) -> list[list[Record]]:
    decided = past.advanced(past.task(record), record.at)
    # Earlier versions waited for all members: they did not see that one that ended without a result answers no more.
    waited = [
        [replace(each, why="no answer contradicts it") if isinstance(each, GroupDecided) else each for each in step]
        for step in decided
    ]
    return [*decided, *waited]


def _opened(past: Past, record: ConflictOpened) -> list[list[Record]]:
    if record.candidates is None:
        return past.advanced(past.task(record), record.at)
    terms = Terms(**record.terms or {})
    past.world.policy = replace(
        NO_LIMITS,
        ladder=tuple(terms.ladder),
        ladders={record.kind: tuple(terms.ladder)},
        judge_ms=terms.judge_ms,
        human_ms=terms.human_ms,
        appeal_ms=terms.appeal_ms,
        conflict_cost_micro=terms.cost_micro,
    )
    if record.rule == PATCHED:
        found = collision(past.world, record.object.removeprefix("task:"), record.at)
        return [[found]] if found is not None else []
    if record.write is not None:
        return [_refused_write(past, record, record.write)]
    if record.rule == FLAPPING:
        return [_quarantined(past, record)]
    subjects = [subject for candidate in record.candidates if (subject := _subject(candidate)) is not None]
    for candidate in record.candidates:
        if candidate["form"] == "result" and candidate["ref"] not in past.ledger.tasks:
            allow((Task, candidate["ref"]) in past.shelf, f"results that there are, {candidate['ref']} has none")
            return [[record]]  # the archive had the result, and a replay has no archive
    topic, _, about_task = record.object.partition(":")
    if topic == "task" and about_task not in past.ledger.tasks:
        allow((Task, about_task) in past.shelf, f"a task that there is, {about_task} is none")
        return [[record]]  # likewise
    own = [candidate for candidate in record.candidates if candidate["form"] == "value"]
    role = "operator" if any(candidate["is_operator"] for candidate in own) else "member"
    kind: Any = record.kind
    message = ConflictRaise(kind, subjects, record.object, record.claim, record.payload or b"")
    # Earlier versions did not always refuse one about the answers of an undecided group.
    about = past.ledger.open_tasks.get(record.object.removeprefix("task:")) if record.kind == "result" else None
    is_undecided = about is not None and about.group is not None and about.group.decided is None
    before: list[list[Record]] = [[record]] if is_undecided else []
    return [*before, past.say(record.by, message, record.at, role=role)]


def _refused_write(past: Past, record: ConflictOpened, write: dict[str, Any]) -> list[Record]:
    """Return what follows the write that lost. How often it was tried is not recorded."""
    _, wanted = record.candidates or ({}, {})
    key, context_id, rev = wanted["key"], wanted["context_id"], wanted["rev"]
    past.world.live.tries[context_id, key, record.by] = (rev, TRIES - 1, "")
    op = ContextOp(key, rev, wanted["payload"], decision=write["decision"], guarded=write["guarded"])
    attempt = Held(wanted["task"], wanted["fence"]) if wanted["task"] is not None else None
    message = ContextWrite(context_id, write["name"], [op], [], attempt, write["reason"])
    role = "operator" if wanted["is_operator"] else "member"
    return past.say(record.by, message, record.at, role=role)


def _quarantined(past: Past, record: ConflictOpened) -> list[Record]:
    """Return what follows one takeover too many. How many there were, and who was connected, is not recorded."""
    agent = record.object.removeprefix("agent:")
    allow(principal_of(agent) in past.ledger.principals, f"an agent that has said hello, {agent} has not")
    one, other = (json.loads(candidate["payload"]) for candidate in record.candidates or ())
    past.world.policy = replace(past.world.policy, quarantine_ms=record.ladder[0]["timeoutMs"])
    found = opened(past.world, agent, one, other, record.at)
    return [found] if found is not None else []


def _subject(candidate: dict[str, Any]) -> RaisedSubject | None:
    """Return the subject that named a candidate, or None if no subject did."""
    match candidate["form"]:
        case "result":
            return RaisedSubject(task=candidate["ref"])
        case "revision":
            return RaisedSubject(context_id=candidate["context_id"], key=candidate["key"], rev=candidate["rev"])
        case "fence":
            return RaisedSubject(resource=candidate["resource"], fence=candidate["fence"])
        case "value":
            return RaisedSubject(value=candidate["payload"])
    return None


def _noted(past: Past, record: ConflictNoted) -> list[list[Record]]:
    expected = unnoted(past.ledger, record)
    allow(expected is None, expected or "")
    past.world.policy = replace(NO_LIMITS, ladders={record.kind: ({"strategy": "abort"},)})
    resources = [candidate["resource"] for candidate in record.candidates]
    if record.rule == "s3" and not (record.object.startswith("resource:") and are_of_one(resources)):
        return [[record]]  # earlier versions also noted fences of several resources, or about another object

    def say(agent: str, message: Message, role: str) -> list[Record]:
        return past.say(agent, message, record.at, role=role)

    found = noted_again(past.world, record, past.broken, say)
    if found is None:  # the archive had the task, and a replay has no archive
        is_there = (Task, record.object.removeprefix("task:")) in past.shelf
        allow(is_there, f"a task that there is, {record.object} is none")
        return [[record]]
    return found


def _joined(past: Past, record: ConflictJoined) -> list[list[Record]]:
    subjects = [RaisedSubject(**subject) for subject in record.subjects]
    kind: Any = record.kind
    message = ConflictRaise(kind, subjects, record.object, record.claim, record.payload)
    found = past.say(record.by, message, record.at)
    if not found:
        conflict = past.ledger.conflicts[record.conflict]
        allow(conflict.is_open and conflict.climbs, f"a conflict that is open, {conflict.id} is not")
        return [[record]]  # about a result that the archive had
    return [found]


def _resolved(past: Past, record: ConflictResolved) -> list[list[Record]]:
    found = past.steps(record)
    stages = past.ledger.conflicts[record.conflict].stages
    if found or not stages or stages[-1].strategy != "human":
        return found
    # In earlier versions what followed from a person's silence had effect at once, as if a person had said it.
    stages[-1].by = stages[-1].strategy
    try:
        return past.steps(record)
    finally:
        stages[-1].by = ""


def _position(past: Past, record: PositionTaken) -> list[list[Record]]:
    message = ConflictPosition(record.conflict, record.payload, record.stance)
    return [past.say(record.party, message, record.at)]


def _patches_compared(past: Past, record: PatchesCompared) -> list[list[Record]]:
    job = next_overlap(past.ledger, record.task)
    allow(job is not None, f"a result to be held against another, that of {record.task} is not")
    assert job is not None, "as was allowed"
    if record.number < 0:
        return [[replace(record, other=job.other)]]  # how long it takes is not recorded, as in `_classified`
    found = [overlapped_by(job)]
    if found[0] != (record.number, record.why):  # earlier versions read line ends as part of the names
        found.append(overlapped_by(job, loosely=True))
    return [[replace(record, other=job.other, number=number, why=why)] for number, why in found]


def _stage_opened(past: Past, record: StageOpened) -> list[list[Record]]:
    conflict = past.ledger.conflicts[record.conflict]
    found = past.steps(record)
    if conflict.stage is None:  # a person did not wait for the next rung; the next record says who
        found.append(resolve_by_person(past.world, conflict, None, "", "", record.at)[:1])
    return found


def _merged(past: Past, record: Merged) -> list[list[Record]]:
    past.world.live.grace_until = record.at + 1  # whether a recent start gave more time is not recorded
    step = proceed(past.world, past.ledger.conflicts[record.conflict], record.at)
    if not isinstance(step, Merge):
        return []
    if record.payload is None:
        return [[replace(record, number=step.number)]]  # how long a merge takes is not recorded, as in `_classified`
    found = [merged_by(step)]
    if found[0][0] != record.payload:  # earlier versions skipped extra lines after a hunk
        found.append(merged_by(step, loosely=True))
    return [[replace(record, number=step.number, payload=value, why=why)] for value, why in found]


def _stage_closed(past: Past, record: StageClosed) -> list[list[Record]]:
    if not record.by:
        return past.steps(record)
    conflict = past.ledger.conflicts[record.conflict]
    numbers = [(subject["group"], subject["ref"]) for subject in subjects_of(past.ledger, conflict)]
    choice = None if record.winner is None else dict(reversed(numbers)).get(record.winner)
    return [past.say(record.by, ConflictVote(record.conflict, choice, record.why), record.at, role="operator")]


def _appealed(past: Past, record: ConflictAppealed) -> list[list[Record]]:
    ground: Any = record.ground
    past.world.live.grace_until = record.at + 1  # whether a recent start gave more time is not recorded
    return [past.say(record.party, ConflictAppeal(record.conflict, ground, record.payload), record.at)]


RULES: dict[type[Record], Rule] = {
    Classified: _classified,
    GroupDecided: _advanced,
    ConflictOpened: _opened,
    ConflictJoined: _joined,
    ConflictNoted: _noted,
    PositionTaken: _position,
    PatchesCompared: _patches_compared,
    StageOpened: _stage_opened,
    Merged: _merged,
    StageClosed: _stage_closed,
    ConflictAppealed: _appealed,
    ConflictResolved: _resolved,
}
