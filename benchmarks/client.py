"""The client process: has agents do a benchmark's tasks, over as many connections as it is told to have.

It measures nothing before all expected agents have joined, and only if the ledger is durable.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import a2a
from benchmarks.load import CHILDREN, Call, run_role, serve_phases
from benchmarks.report import BenchmarkError

__all__ = ["AGENTS_WITHIN", "calls_of", "client"]

AGENTS_WITHIN = 20.0
"""Seconds the agents may take to join: many times an interpreter's start and a handshake, and less than the client
itself may take to be ready, so that it can still say what it waited for."""
CHUNK_KINDS = ("artifact", "progress")


async def client(url: str, token: str, expected: Mapping[str, int], connections: int) -> None:
    """Run the phases that the runner orders, once the agents have joined and the ledger is known to be durable.

    Args:
        url: the coordinator's.
        token: the namespace's.
        expected: for each skill, how many agents must have it.
        connections: how many to delegate over, in turn.
    """
    async with AsyncExitStack() as stack:
        sessions = []
        for number in range(1, connections + 1):
            session = a2a.connect(url=url, token=token, name=f"benchmark-client-{number}")
            sessions.append(await stack.enter_async_context(session))
        first = sessions[0]
        if first.durability != "fsync":
            raise BenchmarkError(f"expected a coordinator with durability fsync, it announces {first.durability}")
        for skill, agents in expected.items():
            await _joined(first, skill, agents)
        await serve_phases(calls_of(sessions))


async def _joined(session: a2a.Client, skill: str, agents: int) -> None:
    found = 0
    try:
        async with asyncio.timeout(AGENTS_WITHIN):
            # Polled: a watch may begin after the agent joined, and nothing is measured yet.
            while (found := len(await session.find(skill=skill))) < agents:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchmarkError(
            f"of {agents} agents with the skill {skill} {found} joined within {AGENTS_WITHIN:g} s"
        ) from None


def calls_of(sessions: Sequence[a2a.Client]) -> dict[str, Call]:
    """Return the calls the client can be ordered to make, over all its connections in turn."""
    turns = itertools.cycle(sessions)

    async def confirmed(text: str) -> str:
        async with next(turns).delegate("reverse", {"text": text}, acceptance="delegator") as task:
            answer = str(await task.result())
            await task.confirm()
            return answer

    def delegated(skill: str, **options: Any) -> Call:
        async def call(text: str) -> str:
            return str(await next(turns).call(skill, {"text": text}, acceptance="auto", **options))

        return call

    def followed(skill: str) -> Call:
        async def call(text: str) -> str:
            async with next(turns).delegate(skill, {"text": text}, acceptance="auto") as task:
                async for _ in task.events():
                    pass
                return str(await task.result())

        return call

    def spread(children: int) -> Call:
        async def call(text: str) -> str:
            given = {"text": text, "children": children}
            async with next(turns).delegate("spread", given, acceptance="auto") as task:
                return str(await task.result())

        return call

    return {
        "delegate": delegated("reverse"),
        "confirmed": confirmed,
        # All three have to agree, and one does not, so that the conflict opens each time.
        "conflict": delegated("vote", copies=3, agree=3, resolve=["majority", "abort"]),
        **{kind: followed(f"stream_{kind}") for kind in CHUNK_KINDS},
        **{f"fanout.{children}": spread(children) for children in CHILDREN},
    }


def main() -> None:
    """Run the client's role."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--expect", action="append", default=[], metavar="SKILL=AGENTS", help="wait for these first")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    expected = {skill: int(agents) for skill, _, agents in (each.partition("=") for each in arguments.expect)}
    token = arguments.token_file.read_text().strip()
    run_role(client(arguments.url, token, expected, arguments.connections), arguments.loop)


if __name__ == "__main__":
    main()
