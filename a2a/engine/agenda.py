"""When something has to be looked at next: tasks, claims and conflicts have one each.

It knows nothing of what it holds, and the rules say the times. Volatile: made again after a start.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

__all__ = ["Agenda"]

_PRUNED_FROM = 1024
"""Entries from which those that count no more are looked for, where they are most of them."""

K = TypeVar("K", int, str)


class Agenda(Generic[K]):
    """The next time of each of some things, and the one that is due first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        """(time, place, thing): of those due together the one with the lowest place is first."""
        self._set: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, key: K) -> int | None:
        """Return the time of a thing, or None."""
        return self._set.get(key)

    def set(self, key: K, due: int | None, place: int) -> None:
        """Set, move or take back the time of a thing."""
        if due is None:
            self._set.pop(key, None)
        elif self._set.get(key) != due:
            self._put(key, due, place)

    def bring_forward(self, key: K, due: int, place: int) -> None:
        """Set the time of a thing, unless it has an earlier one."""
        known = self._set.get(key)
        if known is None or due < known:
            self._put(key, due, place)

    def next(self) -> int | None:
        """Return when the next one is due, or None."""
        while self._heap and self._set.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: int) -> K | None:
        """Return what is due, and take its time back; None where there is none."""
        due = self.next()
        if due is None or due > now:
            return None
        key = heappop(self._heap)[2]
        del self._set[key]
        return key

    def _put(self, key: K, due: int, place: int) -> None:
        self._set[key] = due
        heappush(self._heap, (due, place, key))
        if len(self._heap) > _PRUNED_FROM and len(self._heap) > 4 * len(self._set):
            # What was moved or taken back would lie here until its time.
            self._heap = [entry for entry in self._heap if self._set.get(entry[2]) == entry[0]]
            heapify(self._heap)
