"""The clock by which a peer measures deadlines, graces and the time of claims.

Leases and heartbeats do not use it: they show that a process is there, and that happens in real time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .link import Link

__all__ = ["REAL_TIME", "PeerClock"]


class PeerClock:
    """The machine's own time. A test may use another clock that it can put ahead."""

    def now(self) -> int:
        """Return the time in milliseconds. It measures durations, and means nothing to other processes."""
        return int(time.monotonic() * 1000)

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Make a call in the running loop after this many seconds."""
        asyncio.get_running_loop().call_later(seconds, call, *arguments)

    async def pause(self, seconds: float) -> None:
        """Wait this long, or until the clock is put ahead: for requests that have to be repeated in time."""
        await asyncio.sleep(seconds)

    def joined(self, link: Link) -> None:
        """Note a new link that uses this clock."""


REAL_TIME = PeerClock()
