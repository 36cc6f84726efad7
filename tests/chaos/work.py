"""The work of a chaos run: trees three tasks deep, what comes of them, and the terms on which they are delegated.

The agent, the client and the judge share it; it knows nothing of processes.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BRANCHES",
    "HEARTBEAT",
    "LEASE",
    "LEAVES",
    "LINGER_CONTEXTS",
    "TASKS_IN_TREE",
    "TERMS",
    "forest_of",
    "leaf_value",
    "place_of",
    "tree_value",
]

BRANCHES, LEAVES = 2, 2
TASKS_IN_TREE = 1 + BRANCHES + BRANCHES * LEAVES
LEASE = 4.0
"""Long enough for a coordinator to come back before the lease is over, short enough to be stopped for longer."""
HEARTBEAT = 1.0
LINGER_CONTEXTS = 0.5
"""Seconds a context stays in memory when its trees are grown: it is away when the next one is begun."""
_FORESTS = 25
TERMS: dict[str, Any] = {
    "timers": {"heartbeat": HEARTBEAT, "lease": LEASE, "offer": 2.0},
    # A task that is lost this often was not unlucky: what is tried here is that none is given up.
    "losses": 1000,
    "attempts": 1000,
}


def leaf_value(tree: int, branch: int, leaf: int) -> int:
    """Return what a leaf has to come to."""
    return tree * 1_000 + branch * 10 + leaf


def forest_of(tree: int) -> str:
    """Return the context that a tree grows in."""
    return f"forest-{tree % _FORESTS}"


def place_of(tree: int) -> str:
    """Return the key in its context under which a tree says what it came to."""
    return f"trees/{tree}"


def tree_value(tree: int) -> int:
    """Return what a whole tree has to come to."""
    return sum(leaf_value(tree, branch, leaf) for branch in range(BRANCHES) for leaf in range(LEAVES))
