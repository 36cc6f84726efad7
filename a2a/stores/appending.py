"""What every store does for an append: check that it fits the log, and tell its caller the outcome.

Independent of the medium. Each store in this package uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ..errors import StoreConflict
from .base import Appended, Entry

__all__ = ["Outcome", "end_after", "tell"]

Outcome = tuple[Appended, BaseException | None]
"""A done callback and the argument to call it with."""


def end_after(end: int, entries: Sequence[Entry], expected: int) -> int:
    """Return the end of a log that ended at `end`, after `entries` are appended.

    Raises:
        StoreConflict: the append expected another end, or its entries do not follow this end without a gap.
    """
    if expected != end:
        raise StoreConflict(f"the append expected the log to end at {expected}, but it ends at {end}")
    for entry in entries:
        end += 1
        if entry.lsn != end:
            raise StoreConflict(f"the append needs entry {end} next, got entry {entry.lsn}")
    return end


def tell(loop: asyncio.AbstractEventLoop, outcomes: Iterable[Outcome]) -> None:
    """Call every callback, in order, in the event loop. If one raises, report it to the loop, as asyncio does."""
    for done, error in outcomes:
        try:
            done(error)
        except Exception as exc:  # noqa: BLE001 - the batches after this one have callers of their own
            loop.call_exception_handler({"message": "a done callback of the store raised", "exception": exc})
