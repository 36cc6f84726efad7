"""Limits how long the gateway waits for a request: uvicorn waits forever for the rest of a partial one.

Without this, anybody who reaches the gateway, even without a token, could hold all its connections with a byte each.
This module knows connections, not requests: the application decides what a request means and who may send it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BOUNDS", "PatientProtocol"]

HEAD_S = 10.0
"""Seconds from the connection, or from the first byte of a later request, until the head is complete."""
BODY_S = 60.0
"""Seconds from there until the body is complete. The application gives up earlier, and answers; the rest of the body
after its answer, or after a refusal, is read all the same."""
BOUNDS: Final[dict[Any, float]] = {h11.IDLE: HEAD_S, h11.SEND_BODY: BODY_S}
"""By h11's state of the peer: the part of a request that is awaited."""


class PatientProtocol(H11Protocol):
    """A uvicorn connection that ends if a request is not complete in time."""

    _coming: Any = None
    """The awaited part of a request: h11's state of the peer, or None if nothing is awaited."""
    _given_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _look(self) -> None:
        coming = self.conn.their_state if self.conn.their_state in BOUNDS else None
        if coming is not self._coming:
            self._stop()
            if coming is not None:
                self._coming = coming
                self._given_up = self.loop.call_later(BOUNDS[coming], self.transport.close)

    def _stop(self) -> None:
        self._coming = None
        if self._given_up is not None:
            self._given_up.cancel()
            self._given_up = None
