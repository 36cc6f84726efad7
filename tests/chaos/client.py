"""The client of a chaos run: a number on stdin is a tree to delegate; what the coordinator says goes to stdout.

A line is written only when it is certain, so each line is something that must never be taken back:
`{"tree": 7, "task": "main-12"}` when the task was acknowledged, `{"tree": 7, "value": 28}` when its result was
confirmed. A negative number is a single leaf, to fill a ledger. A client that was killed and restarted is given the
numbers that had no value yet; the same number is the same key.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import a2a
from a2a import Client
from tests.chaos.work import TERMS, forest_of


def say(**facts: object) -> None:
    """Write a line in one piece: a pipe takes it whole or, if the process is killed first, not at all."""
    os.write(sys.stdout.fileno(), (json.dumps(facts) + "\n").encode())


async def grow(client: Client, tree: int) -> None:
    """Have a tree grown, and say what was heard of it."""
    if tree < 0:
        asked = client.delegate(
            "leaf", {"tree": -tree, "branch": 0, "leaf": 0}, f"tree-{tree}", acceptance="auto", **TERMS
        )
    else:
        asked = client.delegate("trunk", {"tree": tree}, f"tree-{tree}", context_id=forest_of(tree), **TERMS)
    async with asked as task:
        say(tree=tree, task=task.id)
        value = await task.result()
    say(tree=tree, value=value)


async def main() -> None:
    """Grow the trees that stdin asks for, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = a2a.LinkSettings(url=os.environ["A2A_URL"], patience=float("inf"))
    async with a2a.connect(name="chaos", settings=settings) as client, asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(grow(client, int(line)))


if __name__ == "__main__":
    asyncio.run(main())
