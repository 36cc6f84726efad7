"""Which contexts leave memory, and when (spec DURABLE-12).

`Idle` has the contexts in memory in the order of their last writes, so that nothing here ever walks all of them. It
decides nothing itself; the coordinator records what it takes from here, and brings back contexts needed again.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from . import plain
from .archived import ArchivedContext
from .context_state import Context
from .ledger import Ledger
from .retention import BATCH_BYTES, LOOK_AGAIN_MS, TOGETHER_MS

__all__ = ["Idle", "may_leave", "shelved"]

_BATCH = 64
"""Most contexts looked at in one go: each is written out, and the loop has other things to do."""


def may_leave(ledger: Ledger, context_id: str, wanted: Container[object] = ()) -> bool:
    """Tell whether nothing goes on in a context.

    Args:
        ledger: the ledger.
        context_id: the context's id.
        wanted: ids that are being looked up for somebody: these stay.
    """
    return context_id not in ledger.contexts_in_use and context_id not in wanted


def shelved(context: Context) -> ArchivedContext:
    """Return a context as the archive keeps it."""
    body, beside = plain.to_archive(context, context.kept_bytes)
    return ArchivedContext(context.id, context.lsn, body, beside)


class Idle:
    """The contexts in memory, least recently written first.

    Args:
        linger_ms: how long a context stays at least, while there is room.
        count_max: the number beyond which the first leave sooner.
        bytes_max: the bytes of memory beyond which the first leave sooner.
    """

    def __init__(self, linger_ms: int, count_max: int, bytes_max: int) -> None:
        self._linger_ms = linger_ms
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._crowded_at = 0
        """When to look again while it is crowded: those looked at last could not leave."""
        self._known: dict[str, tuple[int, int]] = {}
        """Context to (when it is due, bytes it takes); the first due comes first."""

    def note(self, context: Context, now: int) -> None:
        """Note that a context was written, or recalled."""
        self._put(context.id, now, context.kept_bytes)

    def next_deadline(self) -> int | None:
        """Return when `take` may have something next, or None."""
        if not self._known:
            return None
        due, _ = next(iter(self._known.values()))
        return min(due, self._crowded_at) if self._is_crowded else due

    def take(self, leaves: Callable[[str], bool], now: int) -> list[str]:
        """Return the contexts that leave now, at most a batch.

        Args:
            leaves: tells whether a context may leave.
            now: the current time.
        """
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return []
        leaving: list[str] = []
        left = 0
        for _ in range(min(_BATCH, len(self._known))):
            context_id, (due, size) = next(iter(self._known.items()))
            if left >= BATCH_BYTES or (due > now and not self._is_crowded):
                break
            self._drop(context_id)
            if leaves(context_id):
                leaving.append(context_id)
                left += size
            else:
                self._put(context_id, now + max(0, LOOK_AGAIN_MS - self._linger_ms), size)
        self._crowded_at = now if leaving else now + TOGETHER_MS
        return leaving

    @property
    def _is_crowded(self) -> bool:
        return len(self._known) > self._count_max or self._bytes > self._bytes_max

    def _put(self, context_id: str, since: int, size: int) -> None:
        self._drop(context_id)
        due = since + self._linger_ms
        self._known[context_id] = (due + -due % TOGETHER_MS, size)
        self._bytes += size

    def _drop(self, context_id: str) -> None:
        _, size = self._known.pop(context_id, (0, 0))
        self._bytes -= size
