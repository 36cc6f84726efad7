"""Worlds that found a bug, and what the bug was. They stay, and run with the tests.

A seed names a world only as long as the draws stay the same: a change of the draws needs a new run with the planted
bug, and the world that finds it is noted here. A unit test next to the code also covers each bug.
"""

from __future__ import annotations

from .plan import Plan

__all__ = ["WORLDS"]

_THEN = Plan(without=frozenset({"share", "claim"}), disputes=False, costs=False)
"""Peers do what they could do when a world found its bug."""

WORLDS: tuple[tuple[int, Plan, str], ...] = (
    (6, _THEN, "an agent with skills was forgotten with its mailbox, and with what it held"),
    (13, _THEN, "a cold question, or a lease that revived, freed credit and nobody looked at the queue"),
    (
        36,
        _THEN,
        "a mailbox was forgotten while a task could still write to it, and the cursor skipped what came next",
    ),
    (192, _THEN, "a lease shorter than the offer's patience was looked at only when that patience ended"),
    (401, _THEN, "an answer given while the lease had lapsed never reached the attempt that revived"),
    (
        426,
        Plan(manners=frozenset({"watch"}), disputes=False, costs=False),
        "a client that was told of the end by mail did not watch on, and the last event never came",
    ),
    (297, Plan(costs=False), "a task that was just offered stood in line still, and was to be given up for a circle"),
    (459, Plan(costs=False), "what an offer had was granted to the attempt before it as well, with a higher fence"),
    (
        61,
        Plan(tasks=4, disputes=True, costs=True),
        "what was reported while it was cancelled with its parent waited for a word that nobody was left to say",
    ),
    (700231, Plan(), "what an agent knew of a mailbox that was forgotten passed over what came into its next one"),
)
"""(seed, plan, what it found)."""
