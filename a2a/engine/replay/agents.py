"""Rules that decide again about the coordinator, its agents and their mailboxes, and about refusals."""

from __future__ import annotations

from dataclasses import replace

from ...protocol.types import principal_of
from .. import snapshot
from ..forgetting import is_expected, may_forget
from ..records import (
    AgentForgotten,
    AgentRegistered,
    CoordinatorStarted,
    CoordinatorStopped,
    MailboxAcked,
    PrincipalBound,
    PrincipalUnbound,
    Record,
    Refused,
    StatusSet,
)
from ..refusals import CODES_KEPT, stands
from .past import Past, Rule, allow

__all__ = ["RULES"]


def _started(past: Past, record: CoordinatorStarted) -> list[list[Record]]:
    names = past.ledger.namespace if record.namespace else ""  # an older version does not name it
    key = "" if past.ledger.proof_key else record.proof_key  # drawn once, at the first start
    scopes = record.scopes_effects and not past.ledger.effects_scoped_from
    epoch = past.ledger.epoch + 1
    return [[replace(record, epoch=epoch, namespace=names, proof_key=key, scopes_effects=scopes)]]


def _stopped(past: Past, record: CoordinatorStopped) -> list[list[Record]]:
    found = snapshot.state_hash(past.ledger)
    if found.partition(":")[0] != record.state_hash.partition(":")[0]:
        return [[record]]  # written by a version that kept other fields
    past.stops += 1
    return [[replace(record, state_hash=found)]]


def _bound(past: Past, record: PrincipalBound) -> list[list[Record]]:
    allow(record.principal not in past.ledger.principals, f"{record.principal} is not bound yet")
    return [[record]]


def _unbound(past: Past, record: PrincipalUnbound) -> list[list[Record]]:
    allow(record.principal in past.ledger.principals, f"{record.principal} is bound")
    _said_by(past, record.by)
    return [[record]]  # who was connected then is not recorded


def _registered(past: Past, record: AgentRegistered) -> list[list[Record]]:
    known = past.ledger.agents.get(record.agent)
    allow(known is not None or record.card.get("skills"), f"{record.agent} has skills, or is known")
    return [[record]]


def _status(past: Past, record: StatusSet) -> list[list[Record]]:
    known = past.ledger.agents.get(record.agent)
    allow(known is not None and known.status != record.status, f"another status of {record.agent}")
    return [[record]]


def _acked(past: Past, record: MailboxAcked) -> list[list[Record]]:
    mailbox = past.ledger.mailboxes.get(record.agent)
    fits = mailbox is not None and mailbox.entries and mailbox.entries[0].mseq <= record.upto < mailbox.next_mseq
    allow(fits, f"an entry that waits in the mailbox of {record.agent}")
    return [[record]]


def _forgotten(past: Past, record: AgentForgotten) -> list[list[Record]]:
    if record.by:
        _said_by(past, record.by)
        ledger, agent = past.ledger, record.agent
        is_known = agent in ledger.agents or agent in ledger.mailboxes
        fits = is_known and not is_expected(ledger, agent) and agent not in ledger.at_work
    else:  # how long the agent was away is not recorded
        fits = may_forget(past.ledger, record.agent, with_mail=True)
    allow(fits, f"an agent {record.agent} that is known, and for which nothing more comes")
    return [[record]]


def _said_by(past: Past, operator: str) -> None:
    """Check that the speaker has bound a secret, as every welcomed agent has. The speaker's role is not recorded."""
    allow(principal_of(operator) in past.ledger.principals, f"a word of somebody who is bound, {operator!r} is not")


def _refused(past: Past, record: Refused) -> list[list[Record]]:
    allow(stands(past.ledger, record), "a refusal about something in memory")
    allow(record.code in CODES_KEPT, f"a code that is kept, {record.code} is not")
    allow(record.times > 0, "a refusal that stands for one, or for more")
    return [[record]]  # the connection and the role are not recorded


RULES: dict[type[Record], Rule] = {
    CoordinatorStarted: _started,
    CoordinatorStopped: _stopped,
    PrincipalBound: _bound,
    PrincipalUnbound: _unbound,
    AgentRegistered: _registered,
    StatusSet: _status,
    MailboxAcked: _acked,
    AgentForgotten: _forgotten,
    Refused: _refused,
}
