"""Wrong coordinators: what is counted where there may be only so much of a thing, and what follows.

One that takes more than a default is not wrong, as it may be set to another number (LIMIT-7, LIMIT-11).
"""

from __future__ import annotations

from .row import CLAIMS, CONTEXT, COORDINATOR, JSON_PATCH, POLICY, RAISING, REGISTRY, TASKS, Wrong, one

__all__ = ["ROWS"]

ROWS: tuple[Wrong, ...] = (
    Wrong(
        "counts-open-questions-alone",
        COORDINATOR,
        "A task may ask on when one of its questions was answered.",
        one(
            TASKS,
            "    if len(task.asks) >= world.policy.asks_max:\n",
            "    if sum(ask.answer is None for ask in task.asks) >= world.policy.asks_max:\n",
        ),
        broken=("LIMIT-7",),
        areas=("a_task_asks_so_many_questions_and_no_more",),
    ),
    Wrong(
        "refuses-a-repeat-where-there-is-no-room",
        COORDINATOR,
        "Where a task hears no more words, one that it has heard is refused as well.",
        one(
            TASKS,
            "    known = next((steer for steer in task.steers if steer.key == message.key), None)\n",
            "    if len(task.steers) >= world.policy.steers_max:\n"
            '        return refuse(ErrorCode.QUOTA, "no more words")\n'
            "    known = next((steer for steer in task.steers if steer.key == message.key), None)\n",
        ),
        broken=("LIMIT-7",),
        areas=("a_task_hears_so_many_words_and_no_more",),
    ),
    Wrong(
        "counts-claims-that-were-given-back",
        COORDINATOR,
        "An agent may make so many claims, and not have so many at a time.",
        one(
            CLAIMS,
            "    if len(ledger.claims.by_owner.get(claim.owner, ())) >= world.policy.claims_max:\n",
            "    if newest >= world.policy.claims_max:\n",
        ),
        broken=("LIMIT-7",),
        areas=("an_agent_has_so_many_claims_at_a_time",),
    ),
    Wrong(
        "counts-every-find",
        COORDINATOR,
        "Where a connection watches with as many finds as it may it finds nobody without a watch either.",
        one(
            REGISTRY,
            "    if message.watch and len(sender.finding) >= world.policy.finds_max:\n",
            "    if len(sender.finding) >= world.policy.finds_max:\n",
        ),
        broken=("LIMIT-7",),
        areas=("a_connection_watches_with_so_many_finds",),
    ),
    Wrong(
        "is-full-where-a-card-is-too-large",
        COORDINATOR,
        "A card that is too large is refused as one too many.",
        one(
            REGISTRY,
            '    return refuse(ErrorCode.TOO_LARGE, f"a card',
            '    return refuse(ErrorCode.QUOTA, f"a card',
        ),
        broken=("LIMIT-7",),
        areas=("a_card_is_so_large_and_no_larger",),
    ),
    Wrong(
        "watches-any-number-of-contexts",
        COORDINATOR,
        "A connection may have any number of watches of contexts.",
        one(
            CONTEXT,
            "    if is_new and len(sender.context_watches) >= world.policy.watches_max:\n",
            "    if False:\n",
        ),
        broken=("LIMIT-9",),
        areas=("a_connection_has_so_many_watches_of_contexts",),
    ),
    Wrong(
        "counts-a-watch-that-comes-again",
        COORDINATOR,
        "A watch of a context that is there is one more when it comes again.",
        one(
            CONTEXT,
            "    is_new = (message.context_id, message.prefix) not in sender.context_watches\n",
            "    is_new = True\n",
        ),
        broken=("LIMIT-9",),
        areas=("a_connection_has_so_many_watches_of_contexts",),
    ),
    Wrong(
        "counts-no-deleted-keys",
        COORDINATOR,
        "The place of a key that was deleted is free.",
        one(
            CONTEXT,
            "    if new and (len(context.entries) if context is not None else 0) + new > policy.context_keys_max:\n",
            "    there = context.entries.values() if context is not None else ()\n"
            "    if new and sum(not entry.newest.deleted for entry in there) + new > policy.context_keys_max:\n",
        ),
        broken=("LIMIT-9",),
        areas=("a_context_has_so_many_keys_and_no_more",),
    ),
    Wrong(
        "patches-as-much-as-it-is-asked-to",
        COORDINATOR,
        "A write may patch values of any size together.",
        one(POLICY, "    context_patched_max_bytes: int = 256 * 1024", "    context_patched_max_bytes: int = 2**40"),
        broken=("LIMIT-9",),
        areas=("a_write_is_so_large_and_no_larger",),
    ),
    Wrong(
        "patches-what-is-too-deep",
        COORDINATOR,
        "A value that is patched may be as deep as it is.",
        one(JSON_PATCH, "    for _ in range(limits.depth_max + 1):\n", "    for _ in range(900):\n"),
        broken=("LIMIT-9",),
        areas=("a_write_is_so_large_and_no_larger",),
    ),
    Wrong(
        "counts-no-operations-of-a-patch",
        COORDINATOR,
        "A patch may have any number of operations.",
        one(POLICY, "    context_patch_operations_max: int = 256", "    context_patch_operations_max: int = 2**40"),
        broken=("LIMIT-9",),
        areas=("a_write_is_so_large_and_no_larger",),
    ),
    Wrong(
        "counts-conflicts-of-each-process",
        COORDINATOR,
        "Each process of a principal may raise as many conflicts as all of them may.",
        one(
            RAISING,
            "        principal_of(conflict.raiser) == principal and bool(conflict.raises)\n",
            "        conflict.raiser == agent and bool(conflict.raises)\n",
        ),
        broken=("LIMIT-11",),
        areas=("a_principal_raises_so_many_conflicts_and_no_more",),
    ),
    Wrong(
        "counts-conflicts-that-are-over",
        COORDINATOR,
        "A principal may raise so many conflicts, and not have so many open.",
        one(
            RAISING,
            "        for conflict in world.ledger.open_conflicts.values()\n    )\n    if own",
            "        for conflict in world.ledger.conflicts.values()\n    )\n    if own",
        ),
        broken=("LIMIT-11",),
        areas=("a_principal_raises_so_many_conflicts_and_no_more",),
    ),
)
