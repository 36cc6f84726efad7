"""How much a coordinator has of what there is limited room for (spec READ-7)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..protocol.messages import Amount, CoordinatorFound, CoordinatorGet
from .conflicts.finding import count_open
from .decision import Decision, reply
from .ledger import Ledger
from .live import Connection, World

__all__ = ["Census", "on_coordinator_get"]

_AS_OLD_MS = 1_000
"""How long a census is used: to count half a million tasks one by one takes some hundredths of a second, and anybody
may ask."""


@dataclass(frozen=True, slots=True)
class Census:
    """What is counted one by one, and when."""

    at: int
    tasks: dict[str, int]
    """State to the number of open tasks in it."""
    mail: int
    conflicts: int
    """Open conflicts, apart from those of groups."""
    waiting: int
    """Claims in line."""

    @staticmethod
    def of(ledger: Ledger, now: int) -> Census:
        """Count now."""
        return Census(
            now,
            dict(sorted(Counter(task.state.value for task in ledger.open_tasks.values()).items())),
            sum(len(mailbox.entries) for mailbox in ledger.mailboxes.values()),
            count_open(ledger),
            sum(claim.is_waiting for claim in ledger.claims.claims.values()),
        )


def on_coordinator_get(world: World, sender: Connection, message: CoordinatorGet, now: int) -> Decision:
    """Show how the coordinator stands. Spec READ-7."""
    ledger, live, policy = world.ledger, world.live, world.policy
    census = live.census
    if census is None or not 0 <= now - census.at < _AS_OLD_MS:
        census = live.census = Census.of(ledger, now)
    amounts = [
        Amount("agents", len(ledger.agents)),
        Amount("peers", len(live.agents)),
        Amount("tasks", len(ledger.tasks), policy.tasks_max),
        Amount("taskBytes", ledger.wanted_bytes, policy.tasks_max_bytes),
        Amount("contexts", len(ledger.contexts), policy.contexts_max),
        Amount("contextBytes", ledger.context_bytes, policy.contexts_max_bytes),
        Amount("conflicts", census.conflicts, policy.conflicts_open_max),
        Amount("claims", len(ledger.claims.claims)),
        Amount("claimsWaiting", census.waiting),
        Amount("mail", census.mail),
    ]
    up_ms = max(0, now - live.started_at)
    return reply(CoordinatorFound(policy.namespace, ledger.epoch, ledger.lsn, up_ms, census.tasks, amounts))
