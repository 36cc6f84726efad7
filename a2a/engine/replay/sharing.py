"""Rules that decide again about claims and contexts."""

from __future__ import annotations

from ...protocol.messages import ContextOp, ContextWrite, Held, Seen
from ..claimcheck import expected_instead
from ..records import Claimed, ClaimEnded, ClaimRecalled, ClaimRenewed, ClaimRequested, ContextWritten, Record
from .past import Past, Rule, allow

__all__ = ["RULES", "allow_claims"]


def _context_written(past: Past, record: ContextWritten) -> list[list[Record]]:
    ops = []
    for change in record.changes:
        patch, value = change["patch"], change["value"]
        is_deleted = patch is None and value is None
        asked = (change["key"], change["if_rev"], None if patch is not None else value, patch, is_deleted)
        ops.append(ContextOp(*asked, decision=change["decision"], guarded=change["guarded"]))
    past.require_context(record.context_id)
    attempt = Held(record.task, record.fence or 0) if record.task is not None else None
    depends = [Seen(**seen) for seen in record.depends]
    message = ContextWrite(record.context_id, record.key, ops, depends, attempt, record.reason)
    return [past.say(record.by, message, record.at, role="operator" if record.is_operator else "member")]


def _about_claims(past: Past, record: Record) -> list[list[Record]]:
    allow_claims(past, record)
    return [[record]]


def allow_claims(past: Past, record: Record) -> None:
    """Check that the claims at the time allowed a record about a claim, or an offer that needs claims.

    Raises:
        NotAllowedError: they did not; says what was expected.
    """
    expected = expected_instead(past.ledger, record)
    allow(expected is None, expected or "")


RULES: dict[type[Record], Rule] = {
    ContextWritten: _context_written,
    ClaimRequested: _about_claims,
    Claimed: _about_claims,
    ClaimRenewed: _about_claims,
    ClaimRecalled: _about_claims,
    ClaimEnded: _about_claims,
}
