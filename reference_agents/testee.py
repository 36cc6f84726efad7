"""The agent that the conformance suite tests: `python -m reference_agents.testee`.

It has the skills that `spec/v1/conformance.md` describes, and does nothing else. Address and token come as for every
agent, from A2A_URL and A2A_TOKEN or the command line.
"""

from __future__ import annotations

import asyncio
from typing import Any

from a2a import Agent, AttemptFailed, TaskContext

__all__ = ["agent"]

agent = Agent("testee", version="1.0", description="Answers the conformance suite")


@agent.skill(id="conformance.echo", tags=["conformance"], takes_value=True)
async def echo(value: Any) -> Any:
    """Return the input."""
    return value


@agent.skill(id="conformance.work", tags=["conformance"])
async def work(ms: int) -> str:
    """Be at work for so many milliseconds."""
    await asyncio.sleep(ms / 1_000)
    return "done"


@agent.skill(id="conformance.fail", tags=["conformance"])
async def fail(retryable: bool) -> None:
    """Fail, in a way that may be retried or not."""
    raise AttemptFailed("the input says so", retryable=retryable)


@agent.skill(id="conformance.ask", tags=["conformance"])
async def ask(question: str, task: TaskContext) -> Any:
    """Ask, and return the answer."""
    return await task.ask(question)


if __name__ == "__main__":
    agent.main()
