"""The targets by name. Whoever fuzzes guided by coverage imports this late: what it imports is looked into."""

from __future__ import annotations

from .ledgers import store
from .targets import cards, decoder, handshake, offers, session
from .watch import Target

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {
    "decoder": decoder,
    "handshake": handshake,
    "session": session,
    "cards": cards,
    "offers": offers,
    "store": store,
}
"""What is fuzzed, by the name `make fuzz` knows it by."""
