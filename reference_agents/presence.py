"""Which of the absent agents may come back.

A coordinator knows every agent that was once connected, but not which ones are started again. A supervisor that keeps
an agent running does, and lists in its environment the other agents that it keeps running.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from a2a import AgentInfo

__all__ = ["SQUAD_VARIABLE", "awaited"]

SQUAD_VARIABLE: Final = "A2A_SQUAD"
"""In the environment of a squad's agent: the ids of all agents that are kept running with it, separated by commas."""


def awaited(agents: Iterable[AgentInfo]) -> list[str]:
    """Return the ids of the absent agents that may come back: those kept running, as far as that is known.

    An agent that was started by itself knows of no supervisor, so any agent may come back.
    """
    kept = os.environ.get(SQUAD_VARIABLE)
    return [
        info.agent_id for info in agents if info.status == "away" and (kept is None or info.agent_id in kept.split(","))
    ]
