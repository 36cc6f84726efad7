"""What each record about a group or a conflict does to the ledger. Used by the ledger's table of records only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protocol.states import TaskEvent, TaskState
from ..records import (
    Classified,
    ConflictAppealed,
    ConflictOpened,
    ConflictResolved,
    GroupDecided,
    PositionTaken,
    StageClosed,
    StageOpened,
)
from .case import Conflict, Position, Stage, seal
from .rungs import parse_ladder
from .showing import view

if TYPE_CHECKING:
    from ..ledger import Ledger, Task

__all__ = [
    "classified",
    "close",
    "conflict_appealed",
    "conflict_opened",
    "conflict_resolved",
    "group_decided",
    "moot",
    "position_taken",
    "stage_closed",
    "stage_opened",
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
    for conflict_id in task.conflicts:
        conflict = ledger.conflicts[conflict_id]
        if conflict.is_open and author not in conflict.parties:
            conflict.parties[author] = "author"
            ledger.post(author, lsn, "conflict.opened", task.id, conflict.opened_lsn)


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
    told: dict[str, Any] = {"outcome": "completed", "agent": result.agent, "member": record.member, "why": record.why}
    if record.stale_basis:
        told["staleBasis"] = record.stale_basis
    ledger.move(task, TaskEvent.REPORT, record, lsn, **told)
    if record.review:
        ledger.post(ledger.addressee(task), lsn, "task.review", task.id, task.rev)


def conflict_opened(ledger: Ledger, record: ConflictOpened, lsn: int) -> None:
    if record.conflict != ledger.conflict_id_at(lsn):
        raise ValueError(f"record {lsn} opens {record.conflict}, its position says {ledger.conflict_id_at(lsn)}")
    task = ledger.tasks[record.task]
    conflict = Conflict(
        record.conflict,
        task.id,
        record.kind,
        record.rule,
        parse_ladder(record.ladder, irreversible=task.spec.get("effect") == "irreversible"),
        dict(record.parties),
        lsn,
        record.at,
        record.respond_at,
    )
    ledger.conflicts[conflict.id] = conflict
    task.conflicts.append(conflict.id)
    ledger.move(task, TaskEvent.DISPUTE, record, lsn, conflict=conflict.id, kind=record.kind, rule=record.rule)
    for party in record.parties:
        ledger.post(party, lsn, "conflict.opened", task.id, lsn)


def position_taken(ledger: Ledger, record: PositionTaken, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    conflict.positions[record.party] = Position(record.stance, record.payload, lsn)


def stage_opened(ledger: Ledger, record: StageOpened, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    # A person decides at any rung, and above the last one too, where it has decided and can still be appealed.
    is_there = record.number < len(conflict.ladder) or record.strategy == "human"
    if conflict.stage is not None or record.number < conflict.next_rung or not is_there:
        raise ValueError(f"record {lsn} tries rung {record.number} of {conflict.id}, {conflict.next_rung} is next")
    if not conflict.frozen_lsn:
        conflict.frozen_lsn = lsn
    conflict.stages.append(Stage(record.number, record.strategy, lsn, record.until, record.asked, record.weights))
    ledger.touched[conflict.task] = ledger.tasks[conflict.task]


def stage_closed(ledger: Ledger, record: StageClosed, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    stage = conflict.stage
    if stage is None or stage.number != record.number:
        raise ValueError(f"record {lsn} closes rung {record.number} of {conflict.id}, which is not under way")
    stage.to_lsn, stage.to_at = lsn, record.at
    stage.winner, stage.why, stage.by = record.winner, record.why, record.by
    ledger.touched[conflict.task] = ledger.tasks[conflict.task]


def conflict_appealed(ledger: Ledger, record: ConflictAppealed, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    if conflict.appeal is not None:
        raise ValueError(f"record {lsn} appeals against {conflict.id} a second time")
    conflict.level = 2
    conflict.appeal = {"by": record.party, "ground": record.ground, "lsn": lsn, "payload": record.payload}
    ledger.touched[conflict.task] = ledger.tasks[conflict.task]
    for party in conflict.parties:
        ledger.post(party, lsn, "conflict.opened", conflict.task, conflict.opened_lsn)


def conflict_resolved(ledger: Ledger, record: ConflictResolved, lsn: int) -> None:
    conflict = _open(ledger, record.conflict, lsn)
    close(ledger, conflict, record.outcome, record.ref, record.by, record.rationale, record.at, lsn)


def close(
    ledger: Ledger, conflict: Conflict, outcome: str, ref: str | None, by: str, rationale: str, at: int, lsn: int
) -> None:
    """End a conflict: seal its record, and tell every party."""
    conflict.outcome, conflict.ref, conflict.by, conflict.rationale = outcome, ref, by, rationale
    conflict.closed_lsn, conflict.closed_at = lsn, at
    conflict.prev, conflict.seal = ledger.sealed, ""
    record = view(ledger, conflict)
    conflict.seal = ledger.sealed = seal(record)
    conflict.record = record | {"seal": conflict.seal}
    for party in conflict.parties:
        ledger.post(party, lsn, "conflict.resolved", conflict.task, conflict.opened_lsn)


def moot(ledger: Ledger, task: Task, at: int, lsn: int) -> None:
    """Close what is open about a task that has ended for another reason."""
    for conflict_id in task.conflicts:
        conflict = ledger.conflicts[conflict_id]
        if conflict.is_open:
            close(ledger, conflict, "moot", None, "", f"the task has ended as {task.state}", at, lsn)


def _open(ledger: Ledger, conflict_id: str, lsn: int) -> Conflict:
    conflict = ledger.conflicts[conflict_id]
    if not conflict.is_open or ledger.tasks[conflict.task].state is not TaskState.DISPUTED:
        raise ValueError(f"record {lsn} is about {conflict_id}, which is over")
    return conflict
