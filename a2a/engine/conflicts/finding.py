"""How conflicts about shared context are found: lost writes, results on decisions that moved (spec CONFLICT-14, 16).

The handlers call this when they see it happen. Nothing here decides such a conflict; the caller has already decided to
refuse the write.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from ...protocol.messages import ContextOp, ContextWrite
from ...protocol.types import principal_of
from ..context_state import Context, Entry
from ..ledger import Ledger
from ..live import Connection, World
from ..policy import Policy
from ..records import ConflictOpened
from ..task_state import Result, Task
from .case import WORD, Candidate, Terms

__all__ = [
    "TRIES",
    "about_context",
    "contest",
    "count_open",
    "digest_of",
    "has_room",
    "is_settling",
    "stale_conflict",
    "terms_by",
    "written_at",
]

TRIES = 3
"""How many times in a row a writer may insist on a revision that has been replaced."""

_MOVED_MAX = 15
"""How many decisions are subjects of a conflict about a result that relies on them."""
_SHOWN_MAX = 4 * 1024
"""Bytes of such a decision that the conflict keeps a copy of; larger ones are read from the context."""


def digest_of(payload: bytes) -> str:
    """Return the hash that identifies a candidate's payload."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def about_context(context_id: str, key: str) -> str:
    """Return the object of a conflict about a key."""
    return f"context:{context_id}/{key}"


def written_at(context: Context, key: str, rev: int) -> int:
    """Return the position of the write that made a revision, or of the newest write if that one is not kept."""
    return next((write.lsn for write in reversed(context.writes) if write.revs.get(key) == rev), context.lsn)


def terms_by(policy: Policy, kind: str) -> Terms:
    """Return the terms of a conflict of this kind."""
    return Terms(
        "bytes",
        [dict(rung) for rung in policy.ladder_for(kind)],
        0,
        policy.judge_ms,
        policy.human_ms,
        policy.appeal_ms,
        policy.conflict_cost_micro,
    )


def has_room(world: World) -> bool:
    """Tell whether another conflict may be opened. Spec LIMIT-11."""
    return count_open(world.ledger) < world.policy.conflicts_open_max


def count_open(ledger: Ledger) -> int:
    """Return how many conflicts are open, without those of groups. Spec LIMIT-11."""
    return sum(bool(conflict.candidates) for conflict in ledger.open_conflicts.values())


def is_settling(world: World, kind: str, about: str, now: int) -> bool:
    """Tell whether a conflict about an object is open, or closed so recently that no rule opens another one yet."""
    ledger = world.ledger
    known = ledger.conflicts_about.get(f"{kind} {about}")
    if not known:
        return False
    last = ledger.conflicts[known[-1]]
    return last.is_open or now - last.closed_at < world.policy.conflict_rest_ms


# A write that lost ----------------------------------------------------------------------------------------------------


def contest(
    world: World, sender: Connection, context: Context, message: ContextWrite, digest: str, now: int
) -> ConflictOpened | None:
    """Return the conflict that a write to a replaced revision opens, or None. Spec CONFLICT-14."""
    policy, agent = world.policy, sender.agent or ""
    op, entry = message.ops[0], context.entries.get(message.ops[0].key)
    if len(message.ops) > 1 or op.if_rev is None:
        return None
    insists = _insists(world, context.id, op, agent, message.key)
    is_alone = not message.depends and not message.rebases
    if not is_alone or entry is None or op.value is None or not policy.ladder_for("context"):
        return None
    stands = entry.newest
    author = stands.origin.author
    if stands.payload in (None, op.value) or principal_of(author) == principal_of(agent):
        return None
    if not (insists or entry.is_decision or entry.guarded) or not has_room(world):
        return None
    if is_settling(world, "context", about_context(context.id, op.key), now):
        return None
    return _contested(world, sender, context, entry, message, digest, now)


def _insists(world: World, context_id: str, op: ContextOp, agent: str, write: str) -> bool:
    """Count a failed try, and tell whether the writer insists: it tries again without having looked. Spec CONFLICT-14.

    A repeat of the same write is not another try: its answer was lost.
    """
    tries, name = world.live.tries, (context_id, op.key, agent)
    rev, count, last = tries.pop(name, (-1, 0, ""))
    if write != last:
        count = count + 1 if (op.if_rev or 0) <= rev else 1
    if count >= TRIES:
        return True
    tries[name] = (op.if_rev or 0, count, write)
    while len(tries) > world.policy.tries_max:
        del tries[next(iter(tries))]
    return False


def _contested(
    world: World, sender: Connection, context: Context, entry: Entry, message: ContextWrite, digest: str, now: int
) -> ConflictOpened:
    ledger, agent, op, stands = world.ledger, sender.agent or "", message.ops[0], entry.newest
    assert stands.payload is not None and op.value is not None, "else nothing contradicts it"
    origin, attempt = stands.origin, message.attempt
    candidates = [
        Candidate(
            "revision-1",
            "revision",
            origin.author,
            digest_of(stands.payload),
            stands.payload,
            0,
            written_at(context, op.key, entry.rev),
            origin.task,
            origin.fence,
            context.id,
            op.key,
            entry.rev,
            is_operator=origin.is_operator,
            delegators=origin.delegators,
        ),
        Candidate(
            "proposal-2",
            "proposal",
            agent,
            digest_of(op.value),
            op.value,
            1,
            ledger.lsn + 1,
            attempt.task if attempt is not None else None,
            attempt.fence if attempt is not None else None,
            context.id,
            op.key,
            op.if_rev,
            is_operator=sender.role == "operator",
            delegators=ledger.delegators(attempt.task if attempt is not None else None),
        ),
    ]
    terms = terms_by(world.policy, "context")
    return ConflictOpened(
        now,
        ledger.conflict_id_at(ledger.lsn + 1),
        None,
        "context",
        "c4" if entry.is_decision else "c1",
        terms.ladder,
        now,
        {origin.author: "author", agent: "author"},
        object=about_context(context.id, op.key),
        candidates=[asdict(candidate) for candidate in candidates],
        terms=terms.to_plain(),
        by=agent,
        write={
            "name": message.key,
            "digest": digest,
            "decision": op.decision,
            "guarded": op.guarded,
            "reason": message.reason,
        },
    )


# A result on what has moved -------------------------------------------------------------------------------------------


def stale_conflict(
    ledger: Ledger, task: Task, result: Result, stale: list[dict[str, Any]], lsn: int, now: int
) -> ConflictOpened:
    """Return the conflict of a result that relies on decisions that have moved. Spec CONFLICT-16.

    Args:
        ledger: where the decisions are.
        task: the task that has, or is about to have, the result.
        result: the result.
        stale: which decisions have moved.
        lsn: the position of the record.
        now: the current time.
    """
    context = ledger.contexts.get(task.context_id)
    candidates = [
        Candidate(
            task.id,
            "result",
            result.agent,
            result.result_hash,
            b"",  # the task keeps it
            0,
            lsn,
            task.id,
            result.fence,
        )
    ]
    parties = {result.agent: "author"}
    for number, moved in enumerate(stale[:_MOVED_MAX], 2):
        entry = context.entries.get(moved["key"]) if context is not None else None
        if entry is None:
            continue  # the result relied on a key that never existed
        payload, author = entry.newest.payload or b"null", entry.newest.origin.author
        parties.setdefault(author, "author")
        candidates.append(
            Candidate(
                f"revision-{number}",
                "revision",
                author,
                digest_of(payload),
                payload if len(payload) <= _SHOWN_MAX else b"",
                len(candidates),
                lsn,
                context_id=task.context_id,
                key=moved["key"],
                rev=entry.rev,
            )
        )
    parties.setdefault(ledger.addressee(task), "delegator")
    return ConflictOpened(
        now,
        ledger.conflict_id_at(lsn),
        task.id,
        "context",
        WORD,
        [{"strategy": "abort"}],
        now,
        parties,
        object=f"task:{task.id}",
        candidates=[asdict(candidate) for candidate in candidates],
        by=result.agent,
    )
