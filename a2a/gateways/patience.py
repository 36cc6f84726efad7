"""How long the gateway waits for a request: uvicorn waits for ever for one of which a part is there.

Whoever reaches the gateway, with a token or without, could otherwise hold all the connections it takes, with a byte
each. It knows connections, not requests: what is in one, and who may send it, is the application's.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BOUNDS", "PatientProtocol"]

HEAD_S = 10.0
"""Seconds from the connection, or from the first byte of a further request, until its head is whole."""
BODY_S = 60.0
"""Seconds from there until its body is whole. The application gives up before that, and answers; what comes of the body
after its answer, or a refusal, is read all the same."""
BOUNDS: Final[dict[Any, float]] = {h11.IDLE: HEAD_S, h11.SEND_BODY: BODY_S}
"""By h11's state of the peer, whose part of a request is awaited."""


class PatientProtocol(H11Protocol):
    """A connection of uvicorn that ends where a request does not become whole in time."""

    _coming: Any = None
    """What of a request is awaited: h11's state of the peer, or None where nothing is that has begun."""
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
