"""The work of a chaos run: trees three tasks deep, their values, and the terms on which they are delegated.

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
"""Seconds a context stays in memory after its trees are grown: it has left when the next tree begins."""
_FORESTS = 25
TERMS: dict[str, Any] = {
    "timers": {"heartbeat": HEARTBEAT, "lease": LEASE, "offer": 2.0},
    # A task lost this often was not just unlucky: the run tests that none is given up.
    "losses": 1000,
    "attempts": 1000,
}


def leaf_value(tree: int, branch: int, leaf: int) -> int:
    """Return the value that a leaf has to have."""
    return tree * 1_000 + branch * 10 + leaf


def forest_of(tree: int) -> str:
    """Return the context that a tree grows in."""
    return f"forest-{tree % _FORESTS}"


def place_of(tree: int) -> str:
    """Return the key in its context under which a tree's value is written."""
    return f"trees/{tree}"


def tree_value(tree: int) -> int:
    """Return the value that a whole tree has to have."""
    return sum(leaf_value(tree, branch, leaf) for branch in range(BRANCHES) for leaf in range(LEAVES))
