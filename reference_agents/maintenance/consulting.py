"""One agent asks another, by name, for something it can also do without.

The answer is a sub-task with a key, so an attempt after a crash finds it. The caller decides what to ask, and what to
do without an answer: the judge asks coders again, and judge and intent ask the agents with a model.
"""

from __future__ import annotations

from typing import Any, Final

from a2a import TaskContext

from ..delegating import TIMERS, delegated, result_of

__all__ = ["consult"]

SECONDS: Final = 1200.0
"""An agent that has not answered by then is considered gone."""
QUEUE: Final = 60.0
"""The agent is idle while the asker works; if it does not take the question within a minute, it is away."""


async def consult(task: TaskContext, skill: str, question: dict[str, Any], key: str, name: str) -> Any:
    """Return an agent's answer.

    Args:
        key: names the question; the same key is the same question, in every attempt.
        name: the agent.

    Raises:
        TaskError: it failed, or did not answer in time.
        Refused: it cannot be asked.
    """
    options = {"to": name, "deadline": SECONDS, "timers": TIMERS | {"queue": QUEUE}}
    async with await delegated(task, skill, question, key, **options) as child:
        return await result_of(child)
