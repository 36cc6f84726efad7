"""The world's clock, its order of events and its randomness: everything that makes a run repeatable.

Time is integer milliseconds and moves only from one event to the next. Events of one millisecond happen in the order
they were planned. Randomness comes in named streams drawn from the seed, so that one part of the world that draws more
often does not change what another part draws.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from .timeline import Timeline

__all__ = ["Event", "World"]

Event = list[Any]
"""[time, order, call or None if it was called off, arguments]."""


class World:
    """One run: a heap of events, and a digest of everything that happened."""

    def __init__(self, seed: int, timeline: Timeline | None = None) -> None:
        self.seed = seed
        self.now = 0
        self.steps = 0
        self.timeline = timeline
        """Where the story is written; None for the thousands of runs that nobody reads."""
        self._heap: list[Event] = []
        self._order = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def chance(self, *names: object) -> random.Random:
        """Return the random stream of this name. Seeded by text, it does not depend on PYTHONHASHSEED."""
        return random.Random("/".join(map(str, (self.seed, *names))))

    def at(self, time: int, call: Callable[..., None], *arguments: Any) -> Event:
        """Plan a call, and return the event, which can be called off."""
        self._order += 1
        event: Event = [max(time, self.now), self._order, call, arguments]
        heappush(self._heap, event)
        return event

    def after(self, pause: int, call: Callable[..., None], *arguments: Any) -> Event:
        """Plan a call `pause` milliseconds from now."""
        return self.at(self.now + pause, call, *arguments)

    @staticmethod
    def call_off(event: Event | None) -> None:
        """Cancel an event; one that has happened is not undone."""
        if event is not None:
            event[2] = None

    def run(self, until: int) -> None:
        """Run all events planned up to a time."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, call, arguments = event = heappop(heap)
            if call is None:
                continue
            event[2] = None
            self.now = time
            self.steps += 1
            call(*arguments)
        self.now = max(self.now, until)

    def mark(self, kind: bytes, data: bytes) -> None:
        """Add an event to the digest."""
        self._digest.update(b"%d%s%d:" % (self.now, kind, len(data)))
        self._digest.update(data)

    def digest(self) -> str:
        """Return the digest of everything so far."""
        return self._digest.copy().hexdigest()

    def tell(self, who: str, what: str) -> None:
        """Write a line of the story. Callers check `timeline` first: most runs have none."""
        if self.timeline is not None:
            self.timeline.add(self.now, who, what)
