"""Agents that do not come back: who may be forgotten, by an operator or as time passes (spec REG-7, REG-8, MAIL-8)."""

from __future__ import annotations

from ..errors import ErrorCode
from ..protocol.messages import AgentForget
from ..protocol.messages import AgentForgotten as Forgotten
from ..protocol.types import principal_of
from .claimbook import owner_of
from .decision import Decision, refuse, reply
from .ledger import Ledger
from .live import Connection, World
from .records import AgentForgotten, PrincipalUnbound, Record

__all__ = ["in_the_way", "is_alone", "may_forget", "on_agent_forget", "works_on"]


def on_agent_forget(world: World, sender: Connection, message: AgentForget, now: int) -> Decision:
    """An operator says that an agent does not come back, or comes back without its secret. Spec REG-7."""
    ledger, live, agent, principal = world.ledger, world.live, message.agent, principal_of(message.agent)
    if sender.role != "operator":
        return refuse(ErrorCode.FORBIDDEN, f"only an operator may have {agent} forgotten, not {sender.agent}")
    by = sender.agent or ""
    is_bound = principal in ledger.principals
    if message.secret_only:
        here = next((name for name in live.agents if principal_of(name) == principal), None)
        if here is not None:
            return refuse(ErrorCode.DENIED, f"{here} is here, and has the secret of {principal}: stop it first")
        return reply(Forgotten(bound=is_bound), *([PrincipalUnbound(now, principal, by)] if is_bound else ()))
    if agent in live.agents:
        return refuse(ErrorCode.DENIED, f"{agent} is here: stop it first")
    # A fence of an attempt that has lapsed is worth something still, and the name may be somebody else's next.
    kept_by = in_the_way(ledger, agent) or works_on(ledger, agent)
    if kept_by:
        return refuse(ErrorCode.DENIED, f"{agent} {kept_by}: it can be forgotten when that is over")
    is_known = agent in ledger.agents or agent in ledger.mailboxes
    records: list[Record] = [AgentForgotten(now, agent, by)] if is_known else []
    is_unbound = is_bound and is_alone(world, agent)
    if is_unbound:
        records.append(PrincipalUnbound(now, principal, by))
    return reply(Forgotten(known=is_known, bound=is_unbound), *records)


def in_the_way(ledger: Ledger, agent: str) -> str:
    """Return why something may still come for an agent, for a person to read; nothing where nothing will.

    A new mailbox counts from one again, and an older cursor would pass over what is in it.
    """
    if agent in ledger.delegating:
        delegated = next(task.id for task in ledger.open_tasks.values() if task.delegator == agent)
        return f"has delegated task {delegated}, which is open"
    claim = next(iter(ledger.claims.by_owner.get(owner_of(None, agent), ())), None)
    if claim is not None:
        return f"has claim {claim}, or waits for it"
    conflict = next((known.id for known in ledger.open_conflicts.values() if agent in known.parties), None)
    return f"is party to conflict {conflict}, which is open" if conflict is not None else ""


def works_on(ledger: Ledger, agent: str) -> str:
    """Return which open task has or had an attempt of this agent, for a person to read; nothing where none has."""
    tasks = (
        task.id
        for task in ledger.open_tasks.values()
        if any(attempt.agent == agent for attempt in task.attempts.values())
    )
    worked_on = next(tasks, None)
    return f"works on task {worked_on}, or did, or was offered it, and it is open" if worked_on is not None else ""


def is_alone(world: World, agent: str) -> bool:
    """Tell whether nothing is known of the agent's principal but what is known of this agent."""
    ledger, principal = world.ledger, principal_of(agent)
    known = (*ledger.agents, *ledger.mailboxes, *ledger.delegating, *world.live.agents)
    return not any(principal_of(name) == principal for name in known if name != agent)


def may_forget(ledger: Ledger, agent: str, *, with_mail: bool = False) -> bool:
    """Tell whether an agent that went may be forgotten without a word of an operator's.

    One with an id of its own that has no card took its mail with it. Of one with a card it takes longer until nobody
    expects it; any other keeps its mailbox.

    Args:
        ledger: where it is known.
        agent: its id.
        with_mail: whether it was away for so long that what it did not take is forgotten as well.
    """
    mailbox = ledger.mailboxes.get(agent)
    if agent in ledger.agents:
        return with_mail and not (in_the_way(ledger, agent) or works_on(ledger, agent))
    if "#" not in agent or mailbox is None or (mailbox.entries and not with_mail):
        return False
    return not in_the_way(ledger, agent)
