"""The newest results that patch something, by context, thing and base, for others to be compared with (spec PATCH-2).

State of the ledger, built by its records alone. A report says what it patches; nothing here reads a payload. Results
stay here beyond their tasks' time in memory, but only so many: an older one is forgotten, and compared with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

__all__ = ["BYTES_KEPT", "PATCHES_KEPT", "PATCH_BYTES_MAX", "PatchBook", "Patched"]

PATCHES_KEPT = 16
"""Results that patch one base of one thing in a context. A conflict has at most this many subjects."""
PATCH_BYTES_MAX = 64 * 1024
"""Most bytes of a result: a larger one is compared with nothing."""
BYTES_KEPT = 64 * 1024 * 1024
"""About the most bytes of all of them, including what is noted beside each."""
_ENTRY_BYTES = 1_024
"""About how many bytes an entry takes besides its payload and names."""

Name = tuple[str, str, str]
"""(context, thing, base)."""


@dataclass(slots=True)
class Patched:
    """A result that says what it patches."""

    task: str
    context_id: str
    patches: list[list[str]]
    """(thing, base) of each patch."""
    agent: str
    fence: int
    digest: str
    payload: bytes
    lsn: int
    above: list[str]
    """The tasks above its own: their results are made from it, and do not contradict it."""
    others: list[str] = field(default_factory=list)
    """Tasks whose results patch the same, and with which it is still to be compared."""
    collides: list[str] = field(default_factory=list)
    """Tasks whose results it collides with, until a conflict says so."""
    delegators: list[str] | None = None
    """The principals that delegated its task and those above it; None if an older version noted it."""

    @property
    def names(self) -> list[Name]:
        """The names it is found by."""
        return [(self.context_id, of, base) for of, base in self.patches]

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return _ENTRY_BYTES + len(self.payload) + sum(len(of) + len(base) for of, base in self.patches)


class PatchBook:
    """Results that patch something, in the order of the ledger."""

    def __init__(self) -> None:
        self.known: dict[str, Patched] = {}
        """Task to its newest result."""
        self.by_name: dict[Name, dict[str, None]] = {}
        self.due: dict[str, None] = {}
        """Tasks whose results have to be compared with others, or collide with some."""
        self.size = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatchBook) and list(self.known.values()) == list(other.known.values())

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, entries: list[Patched]) -> PatchBook:
        """Return the book with these entries."""
        book = cls()
        for entry in entries:
            book._keep(entry)
        return book

    def add(self, entry: Patched) -> None:
        """Add a new result, and note which others it has to be compared with."""
        self.drop(entry.task)
        if not entry.patches or len(entry.payload) > PATCH_BYTES_MAX:
            return
        for name in entry.names:
            known = self.by_name.get(name, {})
            for task in list(islice(known, max(0, len(known) - PATCHES_KEPT + 1))):
                self.drop(task)
        before = dict.fromkeys(task for name in entry.names for task in self.by_name.get(name, ()))
        entry.others = [task for task in before if task not in entry.above and entry.task not in self.known[task].above]
        self._keep(entry)
        while self.size > BYTES_KEPT:
            self.drop(next(iter(self.known)))

    def _keep(self, entry: Patched) -> None:
        self.known[entry.task] = entry
        self.size += entry.size
        for name in entry.names:
            self.by_name.setdefault(name, {})[entry.task] = None
        self._look(entry)

    def _look(self, entry: Patched) -> None:
        if entry.others or entry.collides:
            self.due[entry.task] = None
        else:
            self.due.pop(entry.task, None)

    def drop(self, task: str) -> None:
        """Forget a result: it no longer stands, or there are too many."""
        entry = self.known.pop(task, None)
        if entry is None:
            return
        self.size -= entry.size
        self.due.pop(task, None)
        for name in entry.names:
            beside = self.by_name[name]
            beside.pop(task, None)
            if not beside:
                self.by_name.pop(name)
            for other in map(self.known.__getitem__, beside):
                other.others = [known for known in other.others if known != task]
                other.collides = [known for known in other.collides if known != task]
                self._look(other)

    def compared(self, task: str, other: str, collides: bool) -> None:
        """Note the outcome of comparing a result with the next of its others.

        Raises:
            ValueError: `other` is not the next.
        """
        entry = self.known[task]
        if entry.others[:1] != [other]:
            raise ValueError(f"{task} is to be held against {entry.others[:1]}, not {other}")
        del entry.others[0]
        if collides:
            entry.collides.append(other)
        self._look(entry)

    def opened(self, task: str) -> None:
        """Note that a conflict says what a result collides with."""
        entry = self.known[task]
        entry.collides = []
        self._look(entry)
