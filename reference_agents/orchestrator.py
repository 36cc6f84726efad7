"""An orchestrator: it splits a job into parts, delegates each, and combines their results.

Kill it at any await and start it again: the next attempt delegates the same parts under the same keys, gets back those
that exist, finished ones with their result, and pays for none twice. Its author writes only the key for that. Run
`python -m reference_agents.orchestrator`, and anywhere else an agent that can `count_words`.
"""

from __future__ import annotations

import asyncio

from a2a import Agent, TaskContext

agent = Agent("orchestrator", version="1.0")


@agent.skill(tags=["text"])
async def count_document(text: str, task: TaskContext, parts: int = 20) -> dict[str, int]:
    """Count the words of a long text, in parts."""
    words = text.split()

    async def count(number: int) -> int:
        part = " ".join(words[number::parts])
        async with task.delegate("count_words", {"text": part}, key=f"part-{number}") as child:
            counted: int = (await child.result())["words"]
        return counted

    async with asyncio.TaskGroup() as group:
        counting = [group.create_task(count(number)) for number in range(parts)]
    return {"words": sum(counted.result() for counted in counting)}


if __name__ == "__main__":
    agent.main()
