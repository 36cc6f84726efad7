"""Shared context: what the tasks of one context tell each other, with compare-and-set and a history (spec CTX).

Handlers read, write and watch; `stale_basis` says which decisions that a result relies on have changed. All this module
knows of conflicts is that a key with an open one is not written; `finding` says whether a write that lost opens one.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import ErrorCode
from ..protocol.codec import pack
from ..protocol.messages import (
    ContextEventNotice,
    ContextOp,
    ContextRead,
    ContextValue,
    ContextValues,
    ContextWatch,
    ContextWrite,
    ContextWritten,
    Ok,
    Seen,
)
from ..protocol.types import principal_of
from .conflicts.finding import contest
from .context_state import Context, Entry, Origin, Revision, Write
from .decision import Decision, no_task, refuse, reply
from .jsonpatch import PatchFailed, PatchLimits, apply_patch
from .leases import Case, classify, not_current
from .ledger import Ledger
from .live import Connection, Live, World
from .policy import Policy
from .records import ContextWritten as WrittenRecord

__all__ = [
    "context_events",
    "leave_contexts",
    "on_context_read",
    "on_context_watch",
    "on_context_write",
    "stale_basis",
    "watch_context",
]

_OVERHEAD = 256
"""About how many bytes a value costs on the wire besides its payload."""


# Writing --------------------------------------------------------------------------------------------------------------


def on_context_write(world: World, sender: Connection, message: ContextWrite, now: int) -> Decision:
    """Write to a context: all operations of the write, or none. Spec CTX-2 to CTX-6."""
    ledger, agent = world.ledger, sender.agent or ""
    context = ledger.contexts.get(message.context_id)
    digest = _digest(message)
    known = context.written_as(principal_of(agent), message.key) if context is not None else None
    if known is not None:
        if known.digest == digest:
            return reply(ContextWritten(message.context_id, dict(known.revs)))
        return refuse(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            f"key {message.key!r} stands for another write of {principal_of(agent)} to context {message.context_id}",
        )
    refusal = (
        _check_form(world.policy, message)
        or _check_attempt(world, agent, message)
        or _check_seen(context, message.context_id, message.depends)
        or _check_patched(world.policy, context, message.ops)
    )
    if refusal is not None:
        return refusal
    changes: list[dict[str, Any]] = []
    for op in message.ops:
        conflict = ledger.contested.get((message.context_id, op.key))
        if conflict is not None:
            return _contested(context, message.context_id, op.key, conflict)
        change = _change(world.policy, context, message.context_id, op)
        if isinstance(change, Decision):
            has_lost = op.if_rev is not None and op.if_rev != _rev(_entry(context, op.key))
            return _lost(world, sender, context, message, digest, change, now) if has_lost else change
        changes.append(change)
    refusal = _check_room(world, context, message.context_id, changes)
    if refusal is not None:
        return refusal
    attempt = message.attempt
    record = WrittenRecord(
        now,
        message.context_id,
        message.key,
        digest,
        agent,
        changes,
        [asdict(seen) for seen in message.depends],
        attempt.task if attempt else None,
        attempt.fence if attempt else None,
        message.reason,
        ledger.delegators(attempt.task if attempt else None),
        sender.role == "operator",
    )
    for change in changes:
        world.live.tries.pop((message.context_id, change["key"], agent), None)
    revs = {change["key"]: change["rev"] for change in changes}
    return reply(ContextWritten(message.context_id, revs), record)


def _lost(
    world: World,
    sender: Connection,
    context: Context | None,
    message: ContextWrite,
    digest: str,
    refusal: Decision,
    now: int,
) -> Decision:
    """Refuse a write that lost, and open a conflict if it calls for one. Spec CTX-4, CONFLICT-14."""
    opened = contest(world, sender, context, message, digest, now) if context is not None else None
    if opened is None:
        return refusal
    refused = _contested(context, message.context_id, message.ops[0].key, opened.conflict)
    refused.records.append(opened)
    return refused


def _contested(context: Context | None, context_id: str, key: str, conflict: str) -> Decision:
    data = _facts(context, key) | {"conflict": conflict}
    return refuse(
        ErrorCode.CONFLICT,
        f"{key} of context {context_id} is not written while conflict {conflict} about it is open",
        data=data,
    )


def _digest(message: ContextWrite) -> str:
    """Return a hash that tells two writes under one key apart."""
    attempt = message.attempt
    asked = [
        [[op.key, op.if_rev, op.value, op.patch, op.delete, op.decision, op.guarded] for op in message.ops],
        [[seen.key, seen.rev] for seen in message.depends],
        [attempt.task, attempt.fence] if attempt else None,
        message.reason,
    ]
    return hashlib.sha256(pack(asked)).hexdigest()


def _check_form(policy: Policy, message: ContextWrite) -> Decision | None:
    names = [op.key for op in message.ops]
    if len(set(names)) != len(names):
        return refuse(ErrorCode.MALFORMED, "a write has one operation for each of its keys")
    for op in message.ops:
        if [op.value is not None, op.patch is not None, op.delete].count(True) != 1:
            return refuse(ErrorCode.MALFORMED, f"the operation on {op.key} has exactly one of value, patch and delete")
        size = len(op.value if op.value is not None else op.patch or b"")
        if size > policy.context_value_max_bytes:
            return refuse(
                ErrorCode.TOO_LARGE,
                f"a value, and a patch, has at most {policy.context_value_max_bytes} bytes; that of {op.key} has "
                f"{size}: leave an artifact, and its name here",
            )
    for count, most, what in (
        (len(names), policy.context_ops_max, "operations"),
        (sum(op.patch is not None for op in message.ops), policy.context_patches_max, "patches"),
        (len(message.depends), policy.context_depends_max, "keys it depends on"),
    ):
        if count > most:
            return refuse(ErrorCode.TOO_LARGE, f"a write has at most {most} {what}, not {count}")
    return None


def _check_attempt(world: World, agent: str, message: ContextWrite) -> Decision | None:
    """Refuse the write of an attempt that may no longer write: a zombie changes nothing. Spec CTX-6."""
    attempt = message.attempt
    if attempt is None:
        return None
    task = world.ledger.tasks.get(attempt.task)
    if task is None:
        return no_task(attempt.task)
    if classify(world.ledger, task, agent, attempt.fence) in (Case.CURRENT, Case.LAPSED):
        return None
    return not_current(world, task, agent, attempt.fence)


def _check_seen(context: Context | None, context_id: str, depends: Sequence[Seen]) -> Decision | None:
    for seen in depends:
        entry = _entry(context, seen.key)
        if _rev(entry) != seen.rev:
            return _moved(context, context_id, seen.key, f"the write depends on revision {seen.rev}")
    return None


def _check_patched(policy: Policy, context: Context | None, ops: Sequence[ContextOp]) -> Decision | None:
    """Refuse to patch more at once than others should wait for. Spec LIMIT-9."""
    patched = [entry for op in ops if op.patch is not None and (entry := _entry(context, op.key)) is not None]
    size, most = sum(len(entry.newest.payload or b"") for entry in patched), policy.context_patched_max_bytes
    if size <= most:
        return None
    return refuse(
        ErrorCode.TOO_LARGE,
        f"the values that a write patches have at most {most} bytes together, not {size}: patch fewer at once",
    )


def _change(policy: Policy, context: Context | None, context_id: str, op: ContextOp) -> dict[str, Any] | Decision:
    """Return the change that an operation makes to its key, or its refusal."""
    entry = _entry(context, op.key)
    is_guarded = op.guarded or (entry is not None and entry.guarded)
    is_decision = op.decision or (entry or Entry(op.key)).is_decision
    if op.if_rev is None and (is_guarded or is_decision):
        what = "guarded" if is_guarded else "a decision"
        return _moved(context, context_id, op.key, f"it is {what}: a write names the revision it replaces")
    if op.if_rev is not None and op.if_rev != _rev(entry):
        return _moved(context, context_id, op.key, f"the write is for revision {op.if_rev}")
    current = entry.newest.payload if entry is not None else None
    value = op.value
    if op.value is None:
        if current is None:
            return _moved(context, context_id, op.key, f"there is nothing to {'delete' if op.delete else 'patch'}")
        if op.patch is not None:
            limits = PatchLimits(
                policy.context_patch_operations_max, policy.context_value_max_bytes, policy.context_depth_max
            )
            try:
                value = apply_patch(current, op.patch, limits)
            except PatchFailed as failed:
                return _not_patched(context, context_id, op.key, failed)
    return {
        "key": op.key,
        "if_rev": op.if_rev,
        "rev": _rev(entry) + 1,
        "value": value,
        "patch": op.patch,
        "decision": op.decision,
        "guarded": op.guarded,
    }


def _check_room(
    world: World, context: Context | None, context_id: str, changes: list[dict[str, Any]]
) -> Decision | None:
    policy = world.policy
    if context is None and len(world.ledger.contexts) >= policy.contexts_max:
        detail = f"at most {policy.contexts_max} contexts with values are in memory, and so many are"
        return refuse(ErrorCode.QUOTA, f"{detail}: they leave it where no task is at work in them")
    if world.ledger.context_bytes >= policy.contexts_max_bytes:
        detail = f"all contexts in memory together take {policy.contexts_max_bytes} bytes, their limit"
        return refuse(ErrorCode.QUOTA, f"{detail}: they leave it where no task is at work in them")
    new = sum(_entry(context, change["key"]) is None for change in changes)
    if new and (len(context.entries) if context is not None else 0) + new > policy.context_keys_max:
        return refuse(ErrorCode.QUOTA, f"a context has at most {policy.context_keys_max} keys, {context_id} has them")
    size = before = context.size if context is not None else 0
    for change in changes:
        entry = _entry(context, change["key"])
        size += len(change["value"] or b"") - len((entry.newest.payload if entry is not None else None) or b"")
    if size > policy.context_max_bytes and size > before:
        return refuse(
            ErrorCode.QUOTA, f"the values of a context have at most {policy.context_max_bytes} bytes in all, not {size}"
        )
    return None


def _entry(context: Context | None, key: str) -> Entry | None:
    return context.entries.get(key) if context is not None else None


def _rev(entry: Entry | None) -> int:
    return entry.rev if entry is not None else 0


def _facts(context: Context | None, key: str) -> dict[str, Any]:
    """Return what a writer that lost needs to try again: who was first, and the key's current value. Spec CTX-4."""
    entry = _entry(context, key)
    facts: dict[str, Any] = {"key": key, "rev": _rev(entry)}
    if entry is not None:
        facts["author"] = entry.newest.origin.author
        if entry.newest.payload is not None:
            facts["value"] = entry.newest.payload
    return facts


def _moved(context: Context | None, context_id: str, key: str, why: str) -> Decision:
    data = _facts(context, key)
    stands = f"is revision {data['rev']} by {data['author']}" if data["rev"] else "was never written"
    return refuse(ErrorCode.CONFLICT, f"{key} of context {context_id} {stands}; {why}", data=data)


def _not_patched(context: Context | None, context_id: str, key: str, failed: PatchFailed) -> Decision:
    data = _facts(context, key) | ({} if failed.operation is None else {"operation": failed.operation})
    return refuse(ErrorCode(failed.kind), f"{key} of context {context_id} is not patched: {failed}", data=data)


# Reading --------------------------------------------------------------------------------------------------------------


def on_context_read(world: World, sender: Connection, message: ContextRead, now: int) -> Decision:
    """Show what a context holds, or once held. Spec CTX-7."""
    if message.keys and message.prefix is not None:
        return refuse(ErrorCode.MALFORMED, "a read names keys or a prefix, not both")
    if message.at_rev is not None and (len(message.keys) != 1 or message.history):
        return refuse(ErrorCode.MALFORMED, "a read at a revision names one key, and no history")
    context = world.ledger.contexts.get(message.context_id) or Context(message.context_id)
    if message.at_rev is not None:
        return _read_at(context, message.keys[0], message.at_rev)
    prefix = message.prefix or ""
    named = dict.fromkeys(message.keys) or (key for key in context.entries if key.startswith(prefix))
    keys = sorted(key for key in named if message.after is None or key > message.after)
    found = ContextValues(context.id, context.lsn)
    room = world.policy.context_answer_max_bytes
    for number, key in enumerate(keys, 1):
        entry = context.entries.get(key)
        values = _kept(entry) if message.history and entry else [_current(key, entry)]
        found.values.extend(values)
        room -= sum(_OVERHEAD + len(value.payload or b"") + len(value.reason) for value in values)
        if room <= 0 and number < len(keys):
            found.next_after = key
            break
    return reply(found)


def _read_at(context: Context, key: str, rev: int) -> Decision:
    entry = context.entries.get(key)
    if entry is None or rev > entry.rev:
        return refuse(
            ErrorCode.NOT_FOUND, f"{key} of context {context.id} has no revision {rev}", data=_facts(context, key)
        )
    revision = entry.revision(rev)
    if revision is None or (revision.payload is None and not revision.deleted):
        data: dict[str, Any] = {"key": key, "rev": entry.rev}
        if revision is not None:
            data["author"] = revision.origin.author
        detail = f"the value of revision {rev} of {key} in context {context.id} is not kept any more"
        return refuse(ErrorCode.GONE, detail, data=data)
    return reply(ContextValues(context.id, context.lsn, [_value(entry, rev, revision, revision.origin)]))


def _kept(entry: Entry) -> list[ContextValue]:
    """Return the revisions that are kept, oldest first."""
    revisions = enumerate(entry.revisions, entry.oldest_kept)
    return [_value(entry, rev, revision, revision.origin) for rev, revision in revisions]


def _current(key: str, entry: Entry | None) -> ContextValue:
    if entry is None:
        return ContextValue(key, 0, decision=Entry(key).is_decision)
    return _value(entry, entry.rev, entry.newest, entry.newest.origin)


def _value(entry: Entry, rev: int, revision: Revision | None, origin: Origin) -> ContextValue:
    return ContextValue(
        entry.key,
        rev,
        revision.payload if revision is not None else None,
        revision is not None and revision.deleted,
        origin.author,
        origin.task,
        origin.fence,
        origin.at,
        origin.reason,
        entry.is_decision,
        entry.guarded,
    )


# What a result relies on ----------------------------------------------------------------------------------------------


def stale_basis(ledger: Ledger, context_id: str, basis: Iterable[Seen]) -> list[dict[str, Any]]:
    """Return the decisions of a basis whose revision is no longer the one that was seen. Spec CTX-10."""
    context = ledger.contexts.get(context_id)
    stale: list[dict[str, Any]] = []
    for seen in basis:
        entry = _entry(context, seen.key)
        if _rev(entry) != seen.rev and (entry or Entry(seen.key)).is_decision:
            stale.append({"key": seen.key, "seen": seen.rev, "current": _rev(entry)})
    return stale


# Watching -------------------------------------------------------------------------------------------------------------


def on_context_watch(world: World, sender: Connection, message: ContextWatch, now: int) -> Decision:
    """Send the writes since a position in the ledger, then each new write. Spec CTX-8, CTX-9."""
    if message.stop:
        return reply(Ok())
    is_new = (message.context_id, message.prefix) not in sender.context_watches
    if is_new and len(sender.context_watches) >= world.policy.watches_max:
        return refuse(ErrorCode.QUOTA, f"a connection has at most {world.policy.watches_max} watches of contexts")
    context = world.ledger.contexts.get(message.context_id)
    if context is not None and message.from_lsn < context.dropped_lsn:
        return refuse(
            ErrorCode.GONE,
            f"of context {context.id} the writes behind {context.dropped_lsn} are kept, a watch cannot begin at "
            f"{message.from_lsn}: read it, and watch from there",
        )
    missed = sum(len(write.revs) for write in _writes_since(context, message.from_lsn)) if context is not None else 0
    if missed > world.policy.context_missed_max:
        return refuse(
            ErrorCode.GONE,
            f"of context {message.context_id} at most {world.policy.context_missed_max} values are told again, and "
            f"{missed} were written behind {message.from_lsn}: read it, and watch from there",
        )
    return reply(Ok())


def watch_context(live: Live, sender: Connection, request: str, message: ContextWatch) -> None:
    """Begin, move or end a watch that was granted."""
    watch = (message.context_id, message.prefix)
    if not message.stop:
        sender.context_watches[watch] = (request, message.from_lsn)
        live.context_watchers.setdefault(message.context_id, {})[sender.id] = sender
        return
    sender.context_watches.pop(watch, None)
    if all(context_id != message.context_id for context_id, _ in sender.context_watches):
        _leave(live, message.context_id, sender)


def leave_contexts(live: Live, gone: Connection) -> None:
    """End all watches of a connection that is over."""
    for context_id, _ in gone.context_watches:
        _leave(live, context_id, gone)


def _leave(live: Live, context_id: str, connection: Connection) -> None:
    watchers = live.context_watchers.get(context_id, {})
    watchers.pop(connection.id, None)
    if not watchers:
        live.context_watchers.pop(context_id, None)


def context_events(live: Live, context: Context) -> Iterator[tuple[Connection, str, ContextEventNotice]]:
    """Yield (connection, watch request, event) for everything a context's watchers were not told, and count it told."""
    names: dict[int, list[str]] = {}
    """Position of a write to its keys in order: one look tells whether any has the prefix of a watch."""
    for connection in live.context_watchers.get(context.id, {}).values():
        for (context_id, prefix), (request, sent) in connection.context_watches.items():
            if context_id != context.id or sent >= context.lsn:
                continue
            connection.context_watches[context_id, prefix] = (request, context.lsn)
            for write in _writes_since(context, sent):
                if write.lsn not in names:
                    names[write.lsn] = sorted(write.revs)
                place = bisect_left(names[write.lsn], prefix)
                if names[write.lsn][place : place + 1] and names[write.lsn][place].startswith(prefix):
                    keys = [key for key in write.revs if key.startswith(prefix)]
                    values = [_event_value(context.entries[key], write.revs[key], write.origin) for key in keys]
                    yield connection, request, ContextEventNotice(context.id, write.lsn, values)


def _event_value(entry: Entry, rev: int, origin: Origin) -> ContextValue:
    """Return a written value as an event tells it: without its payload if another write has replaced it.

    So everything that a watch may have to send at once is bounded by what the context holds.
    """
    value = _value(entry, rev, entry.revision(rev), origin)
    if rev != entry.rev:
        value.payload = None
    return value


def _writes_since(context: Context, lsn: int) -> list[Write]:
    return context.writes[bisect_right(context.writes, lsn, key=lambda write: write.lsn) :]
