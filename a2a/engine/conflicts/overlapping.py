"""How results that patch the same place of one base are found (spec PATCH-2, PATCH-3): rule `a1`.

Jobs compare each result with the others, one after the other, and their answers are on the ledger. From these answers
alone this module decides whether a conflict opens.
"""

from __future__ import annotations

from dataclasses import asdict

from ...protocol.states import TaskState
from ..ledger import Ledger
from ..live import World
from ..patchbook import Patched
from ..records import ConflictOpened
from .case import PATCHED, Candidate
from .finding import has_room, is_settling, terms_by
from .patches import Overlap

__all__ = ["collision", "next_overlap"]


def next_overlap(ledger: Ledger, task: str) -> Overlap | None:
    """Return the next comparison that a task's result needs, or None."""
    entry = ledger.patches.known.get(task)
    if entry is None or not entry.others:
        return None
    other = ledger.patches.known[entry.others[0]]
    return Overlap(task, other.task, entry.payload, other.payload)


def collision(world: World, task_id: str, now: int) -> ConflictOpened | None:
    """Return the conflict of a result with those it collides with, once it was compared with all, or None."""
    ledger = world.ledger
    entry = ledger.patches.known.get(task_id)
    if entry is None or entry.others or not entry.collides:
        return None
    about = f"task:{task_id}"
    terms = terms_by(world.policy, "artifact")
    if not terms.ladder or not has_room(world) or is_settling(world, "artifact", about, now):
        return None
    found = [ledger.patches.known[task] for task in (*entry.collides, task_id)]
    tasks = [ledger.tasks.get(one.task) for one in found]
    if any(task is not None and task.state is TaskState.DISPUTED for task in tasks):
        return None  # a conflict about these is open already
    digests = list(dict.fromkeys(one.digest for one in found))
    candidates = [_candidate(one, digests.index(one.digest)) for one in found]
    parties = {one.agent: "author" for one in found}
    for task in tasks:
        if task is not None and not task.is_terminal:
            parties.setdefault(ledger.addressee(task), "delegator")
    return ConflictOpened(
        now,
        ledger.conflict_id_at(ledger.lsn + 1),
        None,
        "artifact",
        PATCHED,
        terms.ladder,
        now,
        parties,
        object=about,
        candidates=[asdict(candidate) for candidate in candidates],
        terms=terms.to_plain(),
        blocks=[task.id for task in tasks if task is not None and task.state is TaskState.REPORTED],
        by=entry.agent,
    )


def _candidate(one: Patched, number: int) -> Candidate:
    return Candidate(
        one.task,
        "result",
        one.agent,
        one.digest,
        one.payload,
        number,
        one.lsn,
        one.task,
        one.fence,
        one.context_id,
        delegators=one.delegators,
    )
