"""Every kind of message that a coordinator takes has its handler."""

from __future__ import annotations

from a2a.engine.handlers import HANDLERS
from a2a.protocol.messages import KINDS, REQUESTS


def test_every_request_has_a_handler():
    assert set(HANDLERS) >= REQUESTS
    assert set(HANDLERS) <= set(KINDS.values())
