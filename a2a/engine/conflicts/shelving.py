"""Which closed conflicts leave memory (spec DURABLE-11), and how one that has left is shown.

A closed conflict is self-contained: its record is sealed and no longer changes. Readers do not know where a conflict
comes from; the coordinator lends them those in the archive.
"""

from __future__ import annotations

from typing import Any

from ...protocol.messages import ConflictList, ConflictPage
from .. import plain
from ..archived import ArchivedConflict
from ..decision import ConflictsWanted
from ..ledger import Ledger
from ..policy import Policy
from ..retention import Fate
from .case import Conflict
from .showing import view

__all__ = ["fate_of", "in_memory", "page_of", "page_wanted", "position_before", "shelved"]


def fate_of(ledger: Ledger, policy: Policy, name: str, now: int) -> Fate:
    """Return the fate of a conflict whose time to leave memory has come."""
    conflict = ledger.conflicts.get(name)
    if conflict is None:
        return Fate.GONE
    if name in ledger.conflict_mail:
        return Fate.UNREAD
    if conflict.is_open or any(task in ledger.tasks for task in conflict.about):
        return Fate.STAYS
    # Without tasks, a conflict stays while it keeps a rule from opening another. With tasks, these have left by now.
    is_settled = conflict.about or now - conflict.closed_at >= policy.conflict_rest_ms
    return Fate.LEAVES if is_settled else Fate.STAYS


def shelved(conflict: Conflict) -> ArchivedConflict:
    """Return a closed conflict as the archive keeps it."""
    body, beside = plain.to_archive(conflict, conflict.kept_bytes)
    return ArchivedConflict(
        conflict.id, conflict.opened_lsn, conflict.kind, conflict.object, tuple(conflict.concerns), body, beside
    )


# Listing --------------------------------------------------------------------------------------------------------------


def position_before(ledger: Ledger, message: ConflictList) -> int | None:
    """Return the position before which conflicts are listed; 0 if `before` names no conflict, None to list all."""
    if message.before is None:
        return None
    is_known = message.before in ledger.conflicts or ledger.may_have_archived_conflict(message.before)
    return ledger.opened_at(message.before) if is_known else 0


def page_wanted(ledger: Ledger, message: ConflictList) -> ConflictsWanted | None:
    """Return what to ask the archive for, or None if no archived conflict can be on the page."""
    before = position_before(ledger, message)
    if not ledger.conflicts_archived or message.is_open or before == 0:
        return None
    return ConflictsWanted(message.limit + 1, before, message.conflict_kind, message.object, message.task)


def in_memory(ledger: Ledger, message: ConflictList) -> list[Conflict]:
    """Return the matching conflicts in memory, newest first: one more than the page shows, if there is one."""
    before, found = position_before(ledger, message), []
    for conflict in reversed(ledger.conflicts.values()):
        if (
            (before is None or conflict.opened_lsn < before)
            and (message.task is None or message.task in conflict.concerns)
            and (message.conflict_kind is None or conflict.kind == message.conflict_kind)
            and (message.object is None or conflict.object == message.object)
            and (message.is_open is None or conflict.is_open == message.is_open)
        ):
            found.append(conflict)
            if len(found) > message.limit:
                break
    return found


def page_of(ledger: Ledger, message: ConflictList, found: list[Conflict]) -> ConflictPage:
    """Return the page that begins with the first of these conflicts."""
    shown: list[dict[str, Any]] = [view(ledger, conflict) for conflict in found[: message.limit]]
    return ConflictPage(shown, found[message.limit - 1].id if len(found) > message.limit else None)
