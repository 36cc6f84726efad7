"""What an archive in memory answers about conflicts and contexts, for the tests' worlds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from a2a.engine.archived import ArchivedConflict, ArchivedContext
from a2a.engine.decision import Need, Row

__all__ = ["find_conflicts", "find_contexts", "in_front"]


def in_front(need: Need, rows: Iterable[Row]) -> list[Row]:
    """Return the rows that a shell fetches for mail: those of the first tasks, up to the bytes that are enough."""
    known = {row.name: row for row in rows}
    found: list[Row] = []
    for task in need.tasks:
        if task not in known or sum(len(row.body) + sum(map(len, row.beside)) for row in found) >= need.bytes_max > 0:
            break
        found.append(known[task])
    return found


def find_conflicts(shelved: Mapping[str, ArchivedConflict], need: Need) -> list[Row]:
    """Return the conflict, or the page of conflicts, that a need asks for, as the stores do."""
    page = need.conflicts
    if page is None:
        found = [shelved[need.conflict]] if need.conflict in shelved else []
    else:
        passing = [
            kept
            for kept in shelved.values()
            if (page.before is None or kept.lsn < page.before)
            and page.kind in (None, kept.kind)
            and page.object in (None, kept.object)
            and (page.task is None or page.task in kept.tasks)
        ]
        found = sorted(passing, key=lambda kept: -kept.lsn)[: page.limit]
    return [Row(kept.conflict, kept.body, kept.beside, "conflict") for kept in found]


def find_contexts(shelved: Mapping[str, ArchivedContext], need: Need) -> list[Row]:
    """Return the contexts that a need finds, as the stores do."""
    found = [shelved[name] for name in need.contexts if name in shelved]
    return [Row(kept.context_id, kept.body, kept.beside, "context") for kept in found]
