"""Rules about what left memory and came back: nothing left that was needed, and it came back unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .. import context_shelving, plain
from ..conflicts import shelving
from ..conflicts.case import Conflict
from ..context_state import Context
from ..records import Archived, ConflictsArchived, ContextRecalled, ContextsArchived, Recalled, Record
from ..retention import Fate, may_leave
from ..task_state import Task
from .past import Past, Rule, allow

__all__ = ["RULES", "digest"]


def _archived(past: Past, record: Archived) -> list[list[Record]]:
    for task_id in record.tasks:
        task = past.ledger.tasks.get(task_id)
        allow(task is not None and may_leave(past.ledger, task, record.tasks), f"{task_id} is needed in memory")
        past.shelf[Task, task_id] = digest(Task, plain.to_bytes(task))
    return [[record]]


def _conflicts_archived(past: Past, record: ConflictsArchived) -> list[list[Record]]:
    for name in record.conflicts:
        leaves = shelving.fate_of(past.ledger, past.world.policy, name, record.at) is Fate.LEAVES
        allow(leaves, f"{name} is needed in memory")
        past.shelf[Conflict, name] = digest(Conflict, plain.to_bytes(past.ledger.conflicts[name]))
    return [[record]]


def _recalled(past: Past, record: Recalled) -> list[list[Record]]:
    stands = past.shelf.get((Task, record.task))
    allow(stands == digest(Task, record.body), f"{record.task} as it was archived")
    return [[record]]


def _contexts_archived(past: Past, record: ContextsArchived) -> list[list[Record]]:
    for context_id in record.contexts:
        context = past.ledger.contexts.get(context_id)
        allow(
            context is not None and context_shelving.may_leave(past.ledger, context_id),
            f"{context_id} is needed in memory",
        )
        past.shelf[Context, context_id] = digest(Context, plain.to_bytes(context))
    return [[record]]


def _context_recalled(past: Past, record: ContextRecalled) -> list[list[Record]]:
    stands = past.shelf.get((Context, record.context_id))
    allow(stands == digest(Context, record.body), f"context {record.context_id} as it was archived")
    return [[record]]


def digest(of: type[Task | Conflict | Context], body: bytes, beside: Sequence[bytes] = ()) -> bytes:
    """Return the digest that a replay keeps on its shelf for an archived task, conflict or context."""
    if body:
        kept = plain.from_bytes(of, body, beside)  # whichever version wrote it
        if isinstance(kept, Task):
            kept.chunk_bytes, kept.above = 0, ()  # earlier versions did not always count, or note, them
        body = plain.to_bytes(kept)
    return hashlib.blake2b(body, digest_size=12).digest()


RULES: dict[type[Record], Rule] = {
    Archived: _archived,
    ConflictsArchived: _conflicts_archived,
    Recalled: _recalled,
    ContextsArchived: _contexts_archived,
    ContextRecalled: _context_recalled,
}
