"""The worker of the `delegate` benchmark: an agent as anybody would write it, which answers at once."""

from __future__ import annotations

from a2a import Agent
from benchmarks.load import answer_to

__all__ = ["AGENT_ID", "agent"]

AGENT_ID = "benchmark-worker"

agent = Agent(AGENT_ID, version="1.0", description="Answers every text with the text reversed.", concurrency=64)


@agent.skill()
async def reverse(text: str) -> str:
    """Reverse a text."""
    return answer_to(text)


if __name__ == "__main__":
    agent.main()
