"""Replies that can wait for a while: kept until something else goes to the same connection (spec RPC-7).

All of them share one timer. It runs out for the first reply that has to go and sends the others too: no reply is late,
and few are left to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .protocol.codec import Frame

__all__ = ["KEPT_AT_MOST_MS", "KeptReplies"]

KEPT_AT_MOST_MS = 1_000
"""How long a reply is kept at most, however long it may wait: it takes memory here, and the request does there."""


class KeptReplies:
    """The replies that are kept back, by connection and in order.

    Args:
        send: sends frames on a connection.
    """

    def __init__(self, send: Callable[[int, list[Frame]], None]) -> None:
        self._send = send
        self._kept: dict[int, list[Frame]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, connection: int, replies: list[Frame], slack_ms: int) -> None:
        """Keep replies back for at most this many milliseconds."""
        self._kept.setdefault(connection, []).extend(replies)
        loop = asyncio.get_running_loop()
        due = loop.time() + min(slack_ms, KEPT_AT_MOST_MS) / 1000
        if self._timer is None or due < self._timer.when():
            self.cancel()
            self._timer = loop.call_at(due, self.send_all)

    def take(self, connection: int) -> list[Frame]:
        """Return and forget the replies kept for a connection."""
        return self._kept.pop(connection, [])

    def send_all(self) -> None:
        """Send all replies that are kept."""
        self.cancel()
        kept, self._kept = self._kept, {}
        for connection, replies in kept.items():
            self._send(connection, replies)

    def cancel(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
