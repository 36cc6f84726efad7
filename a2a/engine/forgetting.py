"""Agents that do not come back: which may be forgotten, by an operator or over time (spec REG-7, REG-8, MAIL-8)."""

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

__all__ = ["is_alone", "is_expected", "may_forget", "on_agent_forget"]


def on_agent_forget(world: World, sender: Connection, message: AgentForget, now: int) -> Decision:
    """Forget an agent that does not come back, or the secret it has lost, for an operator. Spec REG-7."""
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
    # The fence of a lapsed attempt is still worth something, and the name may be somebody else's next.
    kept_by = _why_kept(ledger, agent)
    if kept_by:
        return refuse(ErrorCode.DENIED, f"{agent} {kept_by}: it can be forgotten when that is over")
    is_known = agent in ledger.agents or agent in ledger.mailboxes
    records: list[Record] = [AgentForgotten(now, agent, by)] if is_known else []
    is_unbound = is_bound and is_alone(world, agent)
    if is_unbound:
        records.append(PrincipalUnbound(now, principal, by))
    return reply(Forgotten(known=is_known, bound=is_unbound), *records)


def _why_kept(ledger: Ledger, agent: str) -> str:
    """Return why an agent must not be forgotten, for a person to read; an empty text if it may be."""
    if agent in ledger.at_work:
        task = next(task.id for task in ledger.open_tasks.values() if agent in task.agents)
        return f"works on task {task}, or did, or was offered it, and it is open"
    if agent in ledger.delegating:
        delegated = next(task.id for task in ledger.open_tasks.values() if task.delegator == agent)
        return f"has delegated task {delegated}, which is open"
    claim = next(iter(ledger.claims.by_owner.get(owner_of(None, agent), ())), None)
    if claim is not None:
        return f"has claim {claim}, or waits for it"
    conflict = next((known.id for known in ledger.open_conflicts.values() if agent in known.parties), None)
    return f"is party to conflict {conflict}, which is open" if conflict is not None else ""


def is_expected(ledger: Ledger, agent: str) -> bool:
    """Tell whether something may still come for an agent, besides the tasks it works on.

    A new mailbox counts from 1 again, and an older cursor would skip its entries.
    """
    if agent in ledger.delegating or owner_of(None, agent) in ledger.claims.by_owner:
        return True
    return any(agent in conflict.parties for conflict in ledger.open_conflicts.values())


def is_alone(world: World, agent: str) -> bool:
    """Tell whether this agent is the only one known of its principal."""
    ledger, principal = world.ledger, principal_of(agent)
    claimants = (claim.agent for claim in ledger.claims.claims.values() if claim.task is None)
    known = (*ledger.agents, *ledger.mailboxes, *ledger.delegating, *claimants, *world.live.agents)
    return not any(principal_of(name) == principal for name in known if name != agent)


def may_forget(ledger: Ledger, agent: str, *, with_mail: bool = False) -> bool:
    """Tell whether an absent agent may be forgotten without an operator's word.

    An agent without a card but with an id of its own is forgotten once its mailbox is empty and nothing more is
    expected for it. An agent with a card has to be away for longer; any other keeps its mailbox.

    Args:
        ledger: the ledger.
        agent: the agent's id.
        with_mail: whether it was away for so long that its unread mail is forgotten as well.
    """
    if agent in ledger.agents:
        return with_mail and agent not in ledger.at_work and not is_expected(ledger, agent)
    mailbox = ledger.mailboxes.get(agent)
    if "#" not in agent or mailbox is None or (mailbox.entries and not with_mail):
        return False
    return not is_expected(ledger, agent)
