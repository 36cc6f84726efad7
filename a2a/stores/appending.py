"""What every store does alike about an append: check where it belongs, and tell its caller how it went.

It does not know the medium. Each store in this package uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ..errors import StoreConflict
from .base import Appended, Entry

__all__ = ["Outcome", "end_after", "tell"]

Outcome = tuple[Appended, BaseException | None]
"""A done callback and what it is to be called with."""


def end_after(end: int, entries: Sequence[Entry], expected: int) -> int:
    """Return the end of a log that ended at `end` once `entries` are behind it.

    Raises:
        StoreConflict: the append expected another end, or its entries are not the consecutive ones behind it.
    """
    if expected != end:
        raise StoreConflict(f"the append expected the log to end at {expected}, it ends at {end}")
    for entry in entries:
        end += 1
        if entry.lsn != end:
            raise StoreConflict(f"the append needs entry {end} next, got entry {entry.lsn}")
    return end


def tell(loop: asyncio.AbstractEventLoop, outcomes: Iterable[Outcome]) -> None:
    """Call every callback, in order, in the event loop. One that raises is reported to the loop, as asyncio does."""
    for done, error in outcomes:
        try:
            done(error)
        except Exception as exc:  # noqa: BLE001 - the batches behind this one have callers of their own
            loop.call_exception_handler({"message": "a done callback of the store raised", "exception": exc})
