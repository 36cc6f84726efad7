"""The agents of the benchmarks, written as a user would write them. `--hosts` says which of them a process is.

`worker` answers every text at once, `lead` has a task done in parts, `voters` are three agents, one of them wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

import anyio

from a2a import Agent, TaskContext
from benchmarks.load import CHUNKS, answer_to, run_role

__all__ = ["AGENT_ID", "HOSTED", "agent", "hosted", "lead"]

AGENT_ID = "benchmark-worker"
HOSTED = {"worker": "reverse", "lead": "spread", "voters": "vote"}
"""What a process may host, each with a skill that shows it has joined."""
VOTERS = 3

agent = Agent(AGENT_ID, version="1.0", description="Answers every text with the text reversed.", concurrency=64)
lead = Agent("benchmark-lead", version="1.0", description="Has a text reversed by many at once.", concurrency=64)


@agent.skill()
async def reverse(text: str) -> str:
    """Reverse a text."""
    return answer_to(text)


@agent.skill()
async def stream_artifact(text: str, task: TaskContext) -> str:
    """Reverse a text, after many chunks of an artifact."""
    for number in range(CHUNKS):
        await task.artifact("chunks", text, append=True, last=number == CHUNKS - 1)
    return answer_to(text)


@agent.skill()
async def stream_progress(text: str, task: TaskContext) -> str:
    """Reverse a text, after telling many times how far it is."""
    for number in range(CHUNKS):
        await task.progress(number / CHUNKS, text)
        await asyncio.sleep(0)  # the next call comes in another turn of the loop, as from a handler at work
    return answer_to(text)


@lead.skill()
async def spread(text: str, children: int, task: TaskContext) -> str:
    """Have a text reversed by so many sub-tasks at once, and wait for all of them."""
    calls = (task.call("reverse", {"text": text}, acceptance="auto") for _ in range(children))
    answers = await asyncio.gather(*calls)
    return str(answers[-1])


def voter(number: int) -> Agent:
    """Return one of the voters: the last one's answer is wrong."""
    made = Agent(f"benchmark-voter/{number}", version="1.0", description="Reverses a text, or not.", concurrency=64)

    @made.skill()
    async def vote(text: str) -> str:
        """Say what a text is when it is reversed."""
        return text if number == VOTERS else answer_to(text)

    return made


def hosted(name: str, agents: int) -> dict[str, Agent]:
    """Return the agents of one process by their ids: this many workers, or another thing it may host."""
    if name == "worker":
        return {AGENT_ID if agents == 1 else f"{AGENT_ID}/{number}": agent for number in range(1, agents + 1)}
    found = [lead] if name == "lead" else [voter(number) for number in range(1, VOTERS + 1)]
    return {each.name: each for each in found}


async def host(agents: Mapping[str, Agent], url: str, token: str) -> None:
    """Serve with all of them, each over its own connection, until SIGTERM."""
    stop = anyio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as tasks:
        for name, each in agents.items():
            tasks.create_task(each.run(url, token=token, name=name, stop=stop))


def main() -> None:
    """Run the agents named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--hosts", choices=list(HOSTED), default="worker")
    parser.add_argument("--agents", type=int, default=1, help="how many workers, each with a connection of its own")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    agents = hosted(arguments.hosts, arguments.agents)
    run_role(host(agents, arguments.url, arguments.token_file.read_text().strip()), arguments.loop)


if __name__ == "__main__":
    main()
