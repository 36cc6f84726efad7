"""When each conflict that is not about a group has to be looked at next. Volatile: made again after a start."""

from __future__ import annotations

from heapq import heappop, heappush

from .case import Conflict
from .procedure import hearing_at

__all__ = ["Calendar"]


class Calendar:
    """Times at which a rung is over, or an outcome can be appealed no longer."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        """(time, place of the opening in the ledger, conflict)."""
        self._set: dict[str, int] = {}

    def set(self, conflict: Conflict) -> None:
        """Set, move or take back the time of a conflict."""
        due = hearing_at(conflict)
        if due is None:
            self._set.pop(conflict.id, None)
        elif self._set.get(conflict.id) != due:
            self._set[conflict.id] = due
            heappush(self._heap, (due, conflict.opened_lsn, conflict.id))

    def next(self) -> int | None:
        """Return when the next one is due, or None."""
        while self._heap and self._set.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: int) -> str | None:
        """Return a conflict that is due, and take its time back; None where there is none."""
        due = self.next()
        if due is None or due > now:
            return None
        conflict = heappop(self._heap)[2]
        del self._set[conflict]
        return conflict
