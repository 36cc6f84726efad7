"""A store whose appends take as long as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from a2a import MemoryStore
from a2a.engine.archived import ArchivedTask
from a2a.stores.base import Appended, Entry

__all__ = ["HeldStore"]


class HeldStore(MemoryStore):
    """Acknowledges nothing until it is let go, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[Sequence[Entry], int, Appended, Sequence[ArchivedTask]]] = []
        self.is_holding = False
        self.failure: Exception | None = None

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchivedTask] = ()
    ) -> None:
        if self.failure is not None:
            done(self.failure)
        elif self.is_holding:
            self.held.append((entries, expected, done, archived))
        else:
            super().append(entries, expected, done, archived)

    def let_go(self) -> None:
        self.is_holding = False
        held, self.held = self.held, []
        for held_call in held:
            super().append(*held_call)
