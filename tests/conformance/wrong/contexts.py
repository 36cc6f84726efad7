"""Wrong coordinators: shared contexts."""

from __future__ import annotations

from tests.mutants.table import Edit

from .row import CONTEXT, CONTEXT_STATE, COORDINATOR, Wrong, one

__all__ = ["ROWS"]

ROWS: tuple[Wrong, ...] = (
    Wrong(
        "takes-anothers-write-for-a-repeat",
        COORDINATOR,
        "The key of a write is one for all principals.",
        (
            Edit(
                CONTEXT_STATE,
                "context.named.setdefault(principal_of(write.origin.author), {})[write.key]",
                'context.named.setdefault("", {})[write.key]',
            ),
            Edit(CONTEXT_STATE, "self.named.get(principal, {}).get(key)", 'self.named.get("", {}).get(key)'),
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "does-not-know-a-write-of-the-same-principal",
        COORDINATOR,
        "The key of a write is its process's alone.",
        (
            Edit(
                CONTEXT_STATE,
                "context.named.setdefault(principal_of(write.origin.author), {})[write.key]",
                "context.named.setdefault(write.origin.author, {})[write.key]",
            ),
            Edit(
                CONTEXT,
                "known = context.written_as(principal_of(agent), message.key)",
                "known = context.written_as(agent, message.key)",
            ),
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "passes-over-another-reason",
        COORDINATOR,
        "A write with another reason is taken for the one before.",
        one(CONTEXT, "        message.reason,\n    ]\n    return hashlib", "    ]\n    return hashlib"),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "passes-over-another-revision",
        COORDINATOR,
        "A write for another revision is taken for the one before.",
        one(CONTEXT, "[[op.key, op.if_rev, op.value", "[[op.key, op.value"),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "passes-over-another-attempt",
        COORDINATOR,
        "A write under another attempt is taken for the one before.",
        one(
            CONTEXT,
            ("        [attempt.task, attempt.fence] if attempt else None,\n        message.reason,\n    ]"),
            "        message.reason,\n    ]",
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "passes-over-other-premises",
        COORDINATOR,
        "A write that depends on something else is taken for the one before.",
        one(
            CONTEXT, "        [[seen.key, seen.rev] for seen in message.depends],\n        [attempt", "        [attempt"
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "checks-a-repeat-anew",
        COORDINATOR,
        "A write that is repeated is refused where what it depends on has moved since.",
        one(
            CONTEXT,
            "    if known is not None:\n        if known.digest",
            (
                "    if known is not None and not (_check_attempt(world, agent, message) or "
                "_check_seen(context, message.context_id, message.depends)):\n"
                "        if known.digest"
            ),
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "answers-a-repeat-with-what-is-there",
        COORDINATOR,
        "A write that is repeated is answered with the newest revisions.",
        one(
            CONTEXT,
            "return reply(ContextWritten(message.context_id, dict(known.revs)))",
            ("return reply(ContextWritten(message.context_id, {k: context.entries[k].rev for k in known.revs}))"),
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "answers-with-one-revision",
        COORDINATOR,
        "Of several keys written at once the first one's revision is answered.",
        one(
            CONTEXT,
            "    return reply(ContextWritten(message.context_id, revs), record)",
            ("    return reply(ContextWritten(message.context_id, dict(list(revs.items())[:1])), record)"),
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "lets-no-lapsed-attempt-write",
        COORDINATOR,
        "A write under a lapsed fence is refused.",
        one(CONTEXT, "in (Case.CURRENT, Case.LAPSED)", "in (Case.CURRENT,)"),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "writes-for-no-task",
        COORDINATOR,
        "A write under an attempt at no task is taken.",
        one(
            CONTEXT,
            "    if task is None:\n        return no_task(attempt.task)\n    if classify",
            "    if task is None:\n        return None\n    if classify",
        ),
        broken=("CTX-6",),
        areas=("CTX-6",),
    ),
    Wrong(
        "takes-two-operations-on-a-key",
        COORDINATOR,
        "A write has two operations on one key, of which the last one counts.",
        one(CONTEXT, "    if len(set(names)) != len(names):", "    if False:"),
        broken=("CTX-3",),
        areas=("CTX-3",),
    ),
    Wrong(
        "takes-an-operation-that-says-two-things",
        COORDINATOR,
        "An operation may have a value and a patch.",
        one(
            CONTEXT,
            "        if [op.value is not None, op.patch is not None, op.delete].count(True) != 1:",
            "        if [op.value is not None, op.patch is not None, op.delete].count(True) == 0:",
        ),
        broken=("CTX-3",),
        areas=("CTX-3",),
    ),
    Wrong(
        "takes-an-operation-that-says-nothing",
        COORDINATOR,
        "An operation without value, patch and delete is no error.",
        one(
            CONTEXT,
            "        if [op.value is not None, op.patch is not None, op.delete].count(True) != 1:",
            "        if [op.value is not None, op.patch is not None, op.delete].count(True) > 1:",
        ),
        broken=("CTX-3",),
        areas=("CTX-3",),
    ),
    Wrong(
        "deletes-what-is-deleted",
        COORDINATOR,
        "A key without a value is deleted once more.",
        one(
            CONTEXT,
            (
                "        if current is None:\n"
                '            return _moved(context, context_id, op.key, f"there is nothing to'
            ),
            (
                "        if current is None and (entry is None or not op.delete):\n"
                '            return _moved(context, context_id, op.key, f"there is nothing to'
            ),
        ),
        broken=("CTX-3",),
        areas=("CTX-3",),
    ),
    Wrong(
        "tells-less-of-a-patch-that-failed",
        COORDINATOR,
        "A patch that does not apply is not told revision and author.",
        one(CONTEXT, "data = _facts(context, key) | ({} if failed", 'data = {"key": key} | ({} if failed'),
        broken=("CTX-3",),
        areas=("CTX-3",),
    ),
    Wrong(
        "tells-an-empty-value-of-what-is-deleted",
        COORDINATOR,
        "The refusal about a deleted key has a value.",
        one(
            CONTEXT,
            '        if entry.newest.payload is not None:\n            facts["value"]',
            ('        facts["value"] = entry.newest.payload or b""\n        if False:\n            facts["value"]'),
        ),
        broken=("CTX-3",),
        areas=("CTX-3",),
    ),
    Wrong(
        "looks-at-the-first-premise",
        COORDINATOR,
        "Of what a write depends on only the first one is looked at.",
        one(CONTEXT, "for seen in depends:", "for seen in depends[:1]:"),
        broken=("CTX-4",),
        areas=("CTX-4",),
    ),
    Wrong(
        "names-the-last-that-moved",
        COORDINATOR,
        "Of several revisions that moved the last one is named.",
        one(CONTEXT, "for seen in depends:", "for seen in reversed(depends):"),
        broken=("CTX-4",),
        areas=("CTX-4",),
    ),
    Wrong(
        "takes-no-revision-for-any",
        COORDINATOR,
        "A write that depends on a key nobody has written passes where it was.",
        one(
            CONTEXT,
            "        if _rev(entry) != seen.rev:\n            return",
            "        if seen.rev and _rev(entry) != seen.rev:\n            return",
        ),
        broken=("CTX-4",),
        areas=("CTX-4",),
    ),
    Wrong(
        "forgets-what-is-a-decision",
        COORDINATOR,
        "A write that does not say so makes a decision none.",
        one(
            CONTEXT_STATE,
            'entry.decision = entry.decision or change["decision"]',
            'entry.decision = change["decision"]',
        ),
        broken=("CTX-5",),
        areas=("CTX-5",),
    ),
    Wrong(
        "guards-from-the-next-write-on",
        COORDINATOR,
        "A write that guards a key needs no revision itself.",
        one(CONTEXT, "is_guarded = op.guarded or (entry", "is_guarded = (entry"),
        broken=("CTX-5",),
        areas=("CTX-5",),
    ),
    Wrong(
        "decides-from-the-next-write-on",
        COORDINATOR,
        "A write that makes a key a decision needs no revision itself.",
        one(CONTEXT, "is_decision = op.decision or (entry", "is_decision = (entry"),
        broken=("CTX-5",),
        areas=("CTX-5",),
    ),
    Wrong(
        "makes-decisions-unseen",
        COORDINATOR,
        "The first write of a decision needs no revision.",
        one(
            CONTEXT,
            "    if op.if_rev is None and (is_guarded or is_decision):",
            "    if op.if_rev is None and entry is not None and (is_guarded or is_decision):",
        ),
        broken=("CTX-5",),
        areas=("CTX-5",),
    ),
    Wrong(
        "does-not-show-what-is-a-decision",
        COORDINATOR,
        "A key is shown as a decision only where a write said so.",
        one(
            CONTEXT,
            "        entry.is_decision,\n        entry.guarded,\n",
            "        entry.decision,\n        entry.guarded,\n",
        ),
        broken=("CTX-5",),
        areas=("CTX-5",),
    ),
    Wrong(
        "does-not-show-what-is-guarded",
        COORDINATOR,
        "A guarded key is not shown as one.",
        one(
            CONTEXT,
            "        entry.is_decision,\n        entry.guarded,\n",
            "        entry.is_decision,\n        False,\n",
        ),
        broken=("CTX-5",),
        areas=("CTX-5",),
    ),
    Wrong(
        "names-a-principal-as-author",
        COORDINATOR,
        "The author of a revision is the principal.",
        one(CONTEXT_STATE, "Origin(\n        record.by,", "Origin(\n        principal_of(record.by),"),
        broken=("CTX-1",),
        areas=("CTX-1",),
    ),
    Wrong(
        "tells-no-time-of-a-revision",
        COORDINATOR,
        "The time of a revision is 0.",
        one(CONTEXT, "        origin.at,\n        origin.reason", "        0,\n        origin.reason"),
        broken=("CTX-1",),
        areas=("CTX-1",),
    ),
    Wrong(
        "hides-what-was-deleted",
        COORDINATOR,
        "A read of all keys leaves out deleted ones.",
        one(
            CONTEXT,
            "(key for key in context.entries if key.startswith(prefix))",
            ("(key for key in context.entries if key.startswith(prefix) and not context.entries[key].newest.deleted)"),
        ),
        broken=("CTX-7",),
        areas=("CTX-7",),
    ),
    Wrong(
        "has-a-history-of-named-keys-alone",
        COORDINATOR,
        "A read of a prefix shows no history.",
        one(CONTEXT, "if message.history and entry else", "if message.history and entry and message.keys else"),
        broken=("CTX-7",),
        areas=("CTX-7",),
    ),
    Wrong(
        "takes-a-delete-for-gone",
        COORDINATOR,
        "A read at the revision of a delete is refused.",
        one(
            CONTEXT,
            "if revision is None or (revision.payload is None and not revision.deleted):",
            "if revision is None or (revision.payload is None):",
        ),
        broken=("CTX-7",),
        areas=("CTX-7",),
    ),
    Wrong(
        "reads-one-of-two-keys",
        COORDINATOR,
        "A read at a revision of two keys shows the first.",
        one(CONTEXT, "(len(message.keys) != 1 or message.history)", "(not message.keys)"),
        broken=("CTX-7",),
        areas=("CTX-7",),
    ),
    Wrong(
        "passes-over-a-prefix",
        COORDINATOR,
        "A read may name keys and a prefix.",
        one(CONTEXT, "if message.keys and message.prefix is not None:", "if False:"),
        broken=("CTX-7",),
        areas=("CTX-7",),
    ),
    Wrong(
        "ends-early-unsaid",
        COORDINATOR,
        "An answer that ends early does not say so.",
        one(CONTEXT, "            found.next_after = key\n", ""),
        broken=("CTX-7",),
        areas=("CTX-7",),
    ),
    Wrong(
        "sends-values-that-were-replaced",
        COORDINATOR,
        "An event has a value that another write has replaced.",
        one(CONTEXT, "    if rev != entry.rev:\n        value.payload = None\n", ""),
        broken=("CTX-8",),
        areas=("CTX-8",),
    ),
    Wrong(
        "sends-no-values",
        COORDINATOR,
        "No event has a value.",
        one(CONTEXT, "    if rev != entry.rev:\n        value.payload = None\n", "    value.payload = None\n"),
        broken=("CTX-8",),
        areas=("CTX-8",),
    ),
    Wrong(
        "tells-one-watcher",
        COORDINATOR,
        "Whoever watches a context last is told alone.",
        one(
            CONTEXT,
            "        live.context_watchers.setdefault(message.context_id, {})[sender.id] = sender\n",
            (
                "        live.context_watchers.setdefault(message.context_id, {}).clear()\n"
                "        live.context_watchers[message.context_id][sender.id] = sender\n"
            ),
        ),
        broken=("CTX-8",),
        areas=("CTX-8",),
    ),
    Wrong(
        "tells-no-author",
        COORDINATOR,
        "Events do not name an author.",
        one(
            CONTEXT,
            "value = _value(entry, rev, entry.revision(rev), origin)",
            'value = _value(entry, rev, entry.revision(rev), Origin("", origin.at, None, None, ""))',
        ),
        broken=("CTX-8",),
        areas=("CTX-8",),
    ),
    Wrong(
        "tells-one-key-of-a-write",
        COORDINATOR,
        "Of several keys written at once a watcher is told one.",
        one(
            CONTEXT,
            ("values = [_event_value(context.entries[key], write.revs[key], write.origin) for key in keys]"),
            ("values = [_event_value(context.entries[key], write.revs[key], write.origin) for key in keys[:1]]"),
        ),
        broken=("CTX-8",),
        areas=("CTX-8",),
    ),
    Wrong(
        "keeps-the-watch-before",
        COORDINATOR,
        "A second watch of a prefix changes nothing.",
        one(
            CONTEXT,
            "        sender.context_watches[watch] = (request, message.from_lsn)\n",
            "        sender.context_watches.setdefault(watch, (request, message.from_lsn))\n",
        ),
        broken=("CTX-9",),
        areas=("CTX-9",),
    ),
    Wrong(
        "ends-all-watches-of-a-context",
        COORDINATOR,
        "The end of one watch is that of all of its context.",
        one(
            CONTEXT,
            "    sender.context_watches.pop(watch, None)\n",
            (
                "    for w in [w for w in sender.context_watches if w[0] == message.context_id]:\n"
                "        del sender.context_watches[w]\n"
            ),
        ),
        broken=("CTX-9",),
        areas=("CTX-9",),
    ),
    Wrong(
        "knows-decisions-by-name",
        COORDINATOR,
        "A result waits for decisions under `decisions/` only.",
        one(
            CONTEXT,
            "if _rev(entry) != seen.rev and (entry or Entry(seen.key)).is_decision:",
            'if _rev(entry) != seen.rev and seen.key.startswith("decisions/"):',
        ),
        broken=("CTX-10",),
        areas=("CTX-10",),
    ),
    Wrong(
        "waits-for-any-key",
        COORDINATOR,
        "A result that relies on a key which is no decision waits too.",
        one(
            CONTEXT,
            "if _rev(entry) != seen.rev and (entry or Entry(seen.key)).is_decision:",
            "if _rev(entry) != seen.rev:",
        ),
        broken=("CTX-10",),
        areas=("CTX-10",),
    ),
    Wrong(
        "looks-at-the-first-of-a-basis",
        COORDINATOR,
        "Of a basis only the first key is looked at.",
        one(CONTEXT, "    for seen in basis:\n", "    for seen in list(basis)[:1]:\n"),
        broken=("CTX-10",),
        areas=("CTX-10",),
    ),
)
