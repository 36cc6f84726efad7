"""How the answer to a job is recorded, if the answer is still wanted.

A job is done off the loop. Meanwhile a person may have decided, a deadline may have passed, or another result may have
arrived. The group or conflict then waits for another job, or for none, and the answer is dropped.
"""

from __future__ import annotations

from ..live import World
from ..records import Classified, Merged, PatchesCompared, Record
from .bench import Answer, Job
from .comparators import Compare
from .merging import Merge
from .overlapping import next_overlap
from .patches import Overlap
from .procedure import advance, proceed

__all__ = ["taken"]


def taken(world: World, job: Job, answer: Answer, now: int) -> Record | None:
    """Note that a job is done, and return the record of its answer, or None if the answer is no longer wanted."""
    if isinstance(job, Compare):
        return _compared(world, job, answer, now)
    if isinstance(job, Overlap):
        return _held_against(world, job, answer, now)
    return _merged(world, job, answer, now)


def _compared(world: World, job: Compare, answer: Answer, now: int) -> Record | None:
    if world.live.comparing.get(job.task) == job.member:
        del world.live.comparing[job.task]
    task = world.ledger.open_tasks.get(job.task)
    step = advance(world, task, now) if task is not None else None
    if not isinstance(step, Compare) or step.member != job.member:
        return None  # this answer was recorded before
    assert task is not None and task.group is not None, "it has something to compare"
    number, why = answer.number, answer.why
    if number > len(task.group.classes):
        number, why = -1, f"the comparison came to class {number}, and there are {len(task.group.classes)}"
    return Classified(now, job.task, job.member, number, why)


def _merged(world: World, job: Merge, answer: Answer, now: int) -> Record | None:
    if world.live.merging.get(job.conflict) == job.number:
        del world.live.merging[job.conflict]
    conflict = world.ledger.open_conflicts.get(job.conflict)
    if conflict is None or proceed(world, conflict, now) != job:
        return None
    return Merged(now, job.conflict, job.number, answer.why, answer.value)


def _held_against(world: World, job: Overlap, answer: Answer, now: int) -> Record | None:
    if world.live.overlapping.get(job.task) is not job:
        return None
    del world.live.overlapping[job.task]
    if next_overlap(world.ledger, job.task) != job:
        return None
    return PatchesCompared(now, job.task, job.other, answer.number, answer.why)
