"""What follows from the resolution of a conflict that is not about a group (spec CONFLICT-15).

In `folding`, the record of the resolution itself lets the disputed tasks go on. A write to a context is a record of its
own, made here for the same append.
"""

from __future__ import annotations

import hashlib

from ...protocol.canonical import canonical
from ...protocol.types import principal_of
from ..context_state import Origin
from ..ledger import Ledger
from ..records import ContextWritten, Record
from ..task_state import Task
from .case import Conflict
from .comparators import Incomparable, value_of
from .merging import MERGED_MAX, Merge, Unmergeable

__all__ = ["follows", "merged_value", "to_merge"]


def merged_value(task: Task) -> bytes | None:
    """Return a merger's result as a value for a context, or None if it is not one."""
    result = task.results[-1] if task.results else None
    if result is None or len(result.payload) > MERGED_MAX:
        return None
    try:
        return canonical(value_of(result.payload))
    except (Incomparable, ValueError):
        return None


def to_merge(ledger: Ledger, conflict: Conflict, number: int) -> Merge:
    """Return the merge job of a rung that asks nobody.

    It merges what both have changed since the revision that the later one knew, or what both patch.

    Raises:
        Unmergeable: no job can merge these candidates.
    """
    if conflict.kind == "artifact":
        said = {one.number: one.payload for one in conflict.candidates}
        if len(said) != 2:
            raise Unmergeable("two are merged by themselves, and no more")
        return Merge(conflict.id, number, None, said[0], said[1], are_patches=True)
    if conflict.contested is None:
        raise Unmergeable("nothing says what both have changed")
    stands, wanted = conflict.candidates
    context_id, key = conflict.contested
    entry = ledger.contexts[context_id].entries[key]
    base = entry.revision(wanted.rev or 0)
    if wanted.rev and (base is None or base.payload is None):
        raise Unmergeable(f"revision {wanted.rev}, which both have changed, is not kept")
    return Merge(conflict.id, number, base.payload if base is not None else None, stands.payload, wanted.payload)


def follows(ledger: Ledger, conflict: Conflict, outcome: str, ref: str | None, why: str, now: int) -> list[Record]:
    """Return the write of the key's new revision, unless the chosen value is already there."""
    if conflict.contested is None:
        return []
    context_id, key = conflict.contested
    stands = conflict.candidates[0]
    reason = f"conflict {conflict.id}: {why}"
    if outcome == "merge" and ref is not None:
        result = ledger.tasks[ref].results[-1]
        value = merged_value(ledger.tasks[ref]) or b"null"
        origin = Origin(result.agent, now, ref, result.fence, reason, ledger.delegators(ref))
    else:
        if outcome == "merge":
            chosen, value = conflict.candidates[1], conflict.stages[-1].merged or b"null"
        else:
            chosen = next(candidate for candidate in conflict.candidates if candidate.ref == ref)
            value = chosen.payload
        origin = Origin(chosen.agent, now, chosen.task, chosen.fence, reason, chosen.delegators, chosen.is_operator)
    if value == stands.payload:
        return []
    context = ledger.contexts[context_id]
    name = conflict.write["name"] if outcome == "select" else conflict.id
    if context.written_as(principal_of(origin.author), name) is not None:
        name = conflict.id  # the author has used that name for another write meanwhile
    change = {
        "key": key,
        "if_rev": stands.rev,
        "rev": context.entries[key].rev + 1,
        "value": value,
        "patch": None,
        "decision": outcome == "select" and conflict.write["decision"],
        "guarded": outcome == "select" and conflict.write["guarded"],
    }
    digest = conflict.write["digest"] if name == conflict.write["name"] else hashlib.sha256(value).hexdigest()
    return [
        ContextWritten(
            now,
            context_id,
            name,
            digest,
            origin.author,
            [change],
            [],
            origin.task,
            origin.fence,
            reason,
            origin.delegators,
            origin.is_operator,
        )
    ]
