"""The clock by which a peer reckons what it is told of times: deadlines, graces, how long a claim lasts.

Leases and heartbeats do not go by it: they say whether a process is there, and it is there in real time.
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
    """The machine's own time. A test may have another that is put ahead."""

    def now(self) -> int:
        """Return the time in milliseconds: for durations, it means nothing to others."""
        return int(time.monotonic() * 1000)

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Have a call made in the running loop when so much time has passed."""
        asyncio.get_running_loop().call_later(seconds, call, *arguments)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the clock is put ahead: for what has to be said again in time."""
        await asyncio.sleep(seconds)

    def joined(self, link: Link) -> None:
        """Hear of a link that begins, and goes by this clock."""


REAL_TIME = PeerClock()
