"""What each record about a group or a conflict does to the ledger. Only the ledger's table of records uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protocol.states import TaskEvent, TaskState
from ..records import (
    Classified,
    ConflictAppealed,
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    GroupDecided,
    Merged,
    PositionTaken,
    Reworked,
    Settled,
    StageClosed,
    StageOpened,
)
from .case import PATCHED, WORD, Candidate, Conflict, Position, Raise, Stage, Terms, seal
from .rungs import parse_ladder
from .showing import view

if TYPE_CHECKING:
    from ..ledger import Ledger
    from ..task_state import Task

__all__ = [
    "classified",
    "close",
    "conflict_appealed",
    "conflict_joined",
    "conflict_noted",
    "conflict_opened",
    "conflict_resolved",
    "ended",
    "group_decided",
    "index",
    "merged",
    "position_taken",
    "sent_back",
    "stage_closed",
    "stage_opened",
    "unindex",
    "used",
]


def classified(ledger: Ledger, record: Classified, lsn: int) -> None:
    task = ledger.tasks[record.task]
    group = task.group
    if group is None or record.member in group.numbers or record.number > len(group.classes):
        raise ValueError(f"record {lsn} puts {record.member} into class {record.number} of {record.task}")
    group.numbers[record.member] = record.number
    if record.number == len(group.classes):
        group.classes.append([])
    if record.number >= 0:
        group.classes[record.number].append(record.member)
    ledger.touched[task.id] = task
    author = ledger.tasks[record.member].results[-1].agent
    for conflict in _open_about(ledger, task):
        if author not in conflict.parties:
            conflict.parties[author] = "author"
            ledger.post_conflict(author, lsn, "conflict.opened", conflict)


def group_decided(ledger: Ledger, record: GroupDecided, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if task.group is None:
        raise ValueError(f"record {lsn} decides {record.task}, which is no group")
    result = ledger.tasks[record.member].results[-1]
    task.group.decided = record.member
    chosen = task.group.numbers.get(record.member)
    for member, number in task.group.numbers.items():
        ledger.count_result(ledger.tasks[member].results[-1].agent, was_good=number == chosen)
    ledger.adopt(task, result, record.review, record.at, record.stale_basis)
    ledger.note_patches(task, lsn)
    told: dict[str, Any] = {"outcome": "completed", "agent": result.agent, "member": record.member, "why": record.why}
    if record.stale_basis:
        told["staleBasis"] = record.stale_basis
    ledger.move(task, TaskEvent.REPORT, record, lsn, **told)
    if record.review:
        ledger.post(ledger.addressee(task), lsn, "task.review", task.id, task.rev)


# Opening --------------------------------------------------------------------------------------------------------------


def conflict_opened(ledger: Ledger, record: ConflictOpened, lsn: int) -> None:
    if record.conflict != ledger.conflict_id_at(lsn):
        raise ValueError(f"record {lsn} opens {record.conflict}, its position says {ledger.conflict_id_at(lsn)}")
    task = ledger.tasks[record.task] if record.task is not None else None
    of_group = record.candidates is None
    conflict = Conflict(
        record.conflict,
        record.task or "",
        record.kind,
        record.rule,
        parse_ladder(
            record.ladder,
            irreversible=of_group and task is not None and task.spec.get("effect") == "irreversible",
        ),
        dict(record.parties),
        lsn,
        record.at,
        record.respond_at,
        object=record.object or f"task:{record.task}",
        candidates=[Candidate(**candidate) for candidate in record.candidates or ()],
        terms=Terms(**record.terms) if record.terms is not None else None,
        blocks=list(record.blocks or ()),
        raiser=record.by,
        write=record.write or {},
    )
    if any(known in ledger.open_conflicts for known in ledger.conflicts_about.get(conflict.topic, ())):
        raise ValueError(f"record {lsn} opens a second conflict about {conflict.object}")
    if record.payload is not None:
        conflict.raises.append(Raise(record.by, record.claim, record.payload, lsn, record.name))
    ledger.conflicts[conflict.id] = conflict
    index(ledger, conflict)
    if record.rule == PATCHED:
        ledger.patches.opened(conflict.candidates[-1].ref)
    disputed = [ledger.tasks[blocked] for blocked in conflict.blocks]
    if task is not None:
        task.conflicts.append(conflict.id)
        if of_group:
            disputed.append(task)
    for other in disputed:
        if other is not task:
            other.conflicts.append(conflict.id)
        ledger.move(other, TaskEvent.DISPUTE, record, lsn, conflict=conflict.id, kind=record.kind, rule=record.rule)
    for party in record.parties:
        ledger.post_conflict(party, lsn, "conflict.opened", conflict)
    _stir(ledger, conflict)


def index(ledger: Ledger, conflict: Conflict) -> None:
    """Index a conflict by what it is about."""
    ledger.conflicts_about.setdefault(conflict.topic, []).append(conflict.id)
    if conflict.is_open:
        ledger.open_conflicts[conflict.id] = conflict
        if conflict.contested is not None:
            ledger.contested[conflict.contested] = conflict.id
            ledger.use_context(conflict.contested[0], 1)
        if conflict.quarantines is not None:
            ledger.quarantined[conflict.quarantines] = conflict.id


def unindex(ledger: Ledger, conflict: Conflict) -> None:
    """Remove a closed conflict from the index."""
    about = ledger.conflicts_about[conflict.topic]
    about.remove(conflict.id)
    if not about:
        del ledger.conflicts_about[conflict.topic]


def _stir(ledger: Ledger, conflict: Conflict) -> None:
    """Mark a conflict so that its next step is considered."""
    if conflict.climbs:
        ledger.stirred[conflict.id] = conflict
    elif conflict.task:
        ledger.touched[conflict.task] = ledger.tasks[conflict.task]


def used(ledger: Ledger, task: Task) -> None:
    """Stir the conflict that a task was asked in: the task has used more, and may have reached a limit. Spec RUNG-8."""
    kind, _, asked_by = task.scope.partition(":")
    if kind == "conflict" and asked_by in ledger.open_conflicts:
        _stir(ledger, ledger.open_conflicts[asked_by])


def conflict_joined(ledger: Ledger, record: ConflictJoined, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    conflict.raises.append(Raise(record.by, record.claim, record.payload, lsn, record.name))


def conflict_noted(ledger: Ledger, record: ConflictNoted, lsn: int) -> None:
    if record.conflict != ledger.conflict_id_at(lsn):
        raise ValueError(f"record {lsn} notes {record.conflict}, its position says {ledger.conflict_id_at(lsn)}")
    conflict = Conflict(
        record.conflict,
        "",
        record.kind,
        record.rule,
        [],
        dict(record.parties),
        lsn,
        record.at,
        record.at,
        frozen_lsn=lsn,
        object=record.object,
        candidates=[Candidate(**candidate) for candidate in record.candidates],
        raiser=record.raiser,
    )
    if record.payload is not None:
        conflict.raises.append(Raise(record.raiser, record.claim, record.payload, lsn, record.name))
    ledger.conflicts[conflict.id] = conflict
    index(ledger, conflict)
    for party in record.parties:
        ledger.post_conflict(party, lsn, "conflict.opened", conflict)
    close(ledger, conflict, "select", record.ref, record.by, record.rationale, record.at, lsn)


# Between --------------------------------------------------------------------------------------------------------------


def position_taken(ledger: Ledger, record: PositionTaken, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    conflict.positions[record.party] = Position(record.stance, record.payload, lsn)


def stage_opened(ledger: Ledger, record: StageOpened, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    # A person decides at any rung, and also above the last one, after it has decided and while it can be appealed.
    is_there = record.number < len(conflict.ladder) or record.strategy == "human"
    if conflict.stage is not None or record.number < conflict.next_rung or not is_there:
        raise ValueError(f"record {lsn} tries rung {record.number} of {conflict.id}, {conflict.next_rung} is next")
    if not conflict.frozen_lsn:
        conflict.frozen_lsn = lsn
    conflict.stages.append(Stage(record.number, record.strategy, lsn, record.until, record.asked, record.weights))
    _stir(ledger, conflict)


def merged(ledger: Ledger, record: Merged, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    stage = conflict.stage
    if stage is None or stage.number != record.number or stage.answered_lsn:
        raise ValueError(f"record {lsn} answers rung {record.number} of {conflict.id}, which has not asked")
    stage.answered_lsn, stage.merged, stage.why = lsn, record.payload, record.why
    _stir(ledger, conflict)


def stage_closed(ledger: Ledger, record: StageClosed, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    stage = conflict.stage
    if stage is None or stage.number != record.number:
        raise ValueError(f"record {lsn} closes rung {record.number} of {conflict.id}, which is not under way")
    stage.to_lsn, stage.to_at = lsn, record.at
    stage.winner, stage.why, stage.by = record.winner, record.why, record.by
    _stir(ledger, conflict)


def conflict_appealed(ledger: Ledger, record: ConflictAppealed, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    if conflict.appeal is not None:
        raise ValueError(f"record {lsn} appeals against {conflict.id} a second time")
    conflict.level = 2
    conflict.appeal = {"by": record.party, "ground": record.ground, "lsn": lsn, "payload": record.payload}
    _stir(ledger, conflict)
    for party in conflict.parties:
        ledger.post_conflict(party, lsn, "conflict.opened", conflict)


# The end --------------------------------------------------------------------------------------------------------------


def conflict_resolved(ledger: Ledger, record: ConflictResolved, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    close(ledger, conflict, record.outcome, record.ref, record.by, record.rationale, record.at, lsn)
    for task_id in conflict.blocks:
        task = ledger.tasks.get(task_id)
        if task is None or task.state is not TaskState.DISPUTED:
            continue  # it has ended in another way
        if record.outcome != "moot" and not _is_chosen(conflict, task_id):
            task.results[-1].overruled = conflict.id
            ledger.patches.drop(task_id)
        ledger.move(task, TaskEvent.RESOLVE, record, lsn, conflict=conflict.id, outcome=record.outcome, ref=record.ref)


def _is_chosen(conflict: Conflict, task: str) -> bool:
    """Tell whether a task's result is the one that stands, or the same as that one."""
    numbers = {candidate.ref: candidate.number for candidate in conflict.candidates}
    return conflict.outcome == "select" and numbers.get(task) == numbers[conflict.ref or ""]


def close(
    ledger: Ledger, conflict: Conflict, outcome: str, ref: str | None, by: str, rationale: str, at: int, lsn: int
) -> None:
    """Close a conflict: seal its record, and tell every party."""
    conflict.outcome, conflict.ref, conflict.by, conflict.rationale = outcome, ref, by, rationale
    conflict.closed_lsn, conflict.closed_at = lsn, at
    conflict.prev, conflict.seal = ledger.sealed, ""
    record = view(ledger, conflict)
    conflict.seal = ledger.sealed = seal(record)
    conflict.record = record | {"seal": conflict.seal}
    del ledger.open_conflicts[conflict.id]
    ledger.closed[conflict.id] = conflict
    if conflict.contested is not None:
        del ledger.contested[conflict.contested]
        ledger.use_context(conflict.contested[0], -1)
    if conflict.quarantines is not None:
        del ledger.quarantined[conflict.quarantines]
    about = ledger.open_tasks.get(conflict.object.removeprefix("task:"))
    if about is not None and about.group is not None:
        ledger.touched[about.id] = about  # the outcome of the group may have waited for this
    for party in conflict.parties:
        ledger.post_conflict(party, lsn, "conflict.resolved", conflict)


def ended(ledger: Ledger, task: Task, record: Settled, lsn: int) -> None:
    """Apply the end of a task to the open conflicts about it, and to the conflict it was asked in."""
    for conflict in _open_about(ledger, task):
        if conflict.rule == WORD:
            _word(ledger, conflict, task, record, lsn)
        elif conflict.climbs:
            ledger.stirred[conflict.id] = conflict
        else:
            why = f"the task has ended as {task.state}"
            close(ledger, conflict, "moot", None, "", why, record.at, lsn)
    kind, _, asked_by = task.scope.partition(":")
    if kind == "conflict" and asked_by in ledger.open_conflicts and ledger.open_conflicts[asked_by].climbs:
        ledger.stirred[asked_by] = ledger.open_conflicts[asked_by]


def sent_back(ledger: Ledger, task: Task, record: Reworked, lsn: int) -> None:
    """Close the conflict that the delegator's word decides: the delegator asked for another revision."""
    for conflict in _open_about(ledger, task):
        if conflict.rule == WORD:
            close(ledger, conflict, "reject_all", None, record.by, "the result was sent back", record.at, lsn)


def _open_about(ledger: Ledger, task: Task) -> list[Conflict]:
    return [ledger.open_conflicts[known] for known in task.conflicts if known in ledger.open_conflicts]


def _word(ledger: Ledger, conflict: Conflict, task: Task, record: Settled, lsn: int) -> None:
    """Close a conflict with the verdict on the result it is about. Spec CONFLICT-16."""
    if record.state == "completed":
        outcome, why = "select", "the result is accepted as it stands"
    elif record.state == "failed" and record.reason in ("rejected", "reworks", "unconfirmed"):
        outcome, why = "reject_all", record.detail or "the result is rejected"
    else:
        outcome, why = "moot", f"the task has ended as {record.state}"
    close(ledger, conflict, outcome, task.id if outcome == "select" else None, record.by, why, record.at, lsn)


def _open(ledger: Ledger, conflict_id: str, lsn: int) -> Conflict:
    conflict = ledger.conflicts[conflict_id]
    is_disputed = conflict.candidates or ledger.tasks[conflict.task].state is TaskState.DISPUTED
    if not conflict.is_open or not is_disputed:
        raise ValueError(f"record {lsn} is about {conflict_id}, which is over")
    return conflict
