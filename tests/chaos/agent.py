"""The agent of a chaos run: `python -m tests.chaos.agent --name agent/1`. It grows trees, and parts of trees."""

from __future__ import annotations

import asyncio

from a2a import Agent, Conflict, TaskContext
from tests.chaos.work import BRANCHES, LEAVES, TERMS, leaf_value, place_of

# A handler that waits for sub-tasks keeps its slot: there are enough that a tree never waits for its own trunk.
agent = Agent("agent", concurrency=4_000)


@agent.skill
async def trunk(tree: int, task: TaskContext) -> int:
    """Grow a tree, and say in its context what it came to: once, whichever attempt comes so far."""
    grown = [
        task.call("branch", {"tree": tree, "branch": branch}, f"branch-{branch}", **TERMS) for branch in range(BRANCHES)
    ]
    value = sum(await asyncio.gather(*grown))
    try:
        await task.context.put(place_of(tree), value, if_rev=0)
    except Conflict:
        pass  # an earlier attempt has written it
    return value


@agent.skill
async def branch(tree: int, branch: int, task: TaskContext) -> int:
    """Grow a branch of a tree."""
    grown = [
        task.call("leaf", {"tree": tree, "branch": branch, "leaf": leaf}, f"leaf-{leaf}", acceptance="auto", **TERMS)
        for leaf in range(LEAVES)
    ]
    return sum(await asyncio.gather(*grown))


@agent.skill
async def leaf(tree: int, branch: int, leaf: int) -> int:
    """Grow a leaf; some take their time, so that there is always somebody at work."""
    await asyncio.sleep(1.0 if (tree + branch + leaf) % 8 == 0 else 0.02)
    return leaf_value(tree, branch, leaf)


if __name__ == "__main__":
    agent.main()
