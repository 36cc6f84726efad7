"""When to look at something next: tasks, claims and conflicts have one agenda each.

It knows nothing of what it holds; the rules set the times. Volatile: made again after a start.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

__all__ = ["Agenda"]

_PRUNED_FROM = 1024
"""Entries from which outdated ones are removed, if they are most of them."""

K = TypeVar("K", int, str)


class Agenda(Generic[K]):
    """The next time of each thing, and the thing that is due first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        """(time, place, thing): of things due together, the one with the lowest place is first."""
        self._set: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, key: K) -> int | None:
        """Return the time of a thing, or None."""
        return self._set.get(key)

    def set(self, key: K, due: int | None, place: int) -> None:
        """Set, move or remove the time of a thing."""
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
        """Return when the next thing is due, or None."""
        while self._heap and self._set.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: int) -> K | None:
        """Return a thing that is due, and remove its time; None if nothing is due."""
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
            # Moved or removed entries would otherwise stay here until their time.
            self._heap = [entry for entry in self._heap if self._set.get(entry[2]) == entry[0]]
            heapify(self._heap)
