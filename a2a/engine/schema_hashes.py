"""The hashes of the input schemas on agents' cards, by which finds name a schema (spec REG-1).

A schema may be as large as a message, and its hash is needed for each find and each agent that comes or goes. Derived
from the cards, and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..protocol.canonical import content_hash
from .ledger import Agent

__all__ = ["SchemaHashes"]


@dataclass(slots=True)
class SchemaHashes:
    """The hashes that were asked for."""

    _known: dict[str, tuple[dict[str, Any], dict[str, str | None]]] = field(default_factory=dict)
    """Agent to (the card looked at, skill to the hash of its schema; None: it has no schema)."""

    def of(self, agent: Agent, skill: str) -> str | None:
        """Return the hash of the input schema of a skill on the agent's card, or None if it has none."""
        card, hashes = self._known.get(agent.id, (None, {}))
        if card is not agent.card:
            hashes = {}
            self._known[agent.id] = (agent.card, hashes)
        if skill not in hashes:
            schema = agent.skills[skill].get("inputSchema")
            hashes[skill] = None if schema is None else content_hash(schema, b"")
        return hashes[skill]

    def forget(self, agent: str) -> None:
        """Forget the card of an agent that was forgotten."""
        self._known.pop(agent, None)
