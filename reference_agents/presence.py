"""Who of those that are away may come back.

A coordinator knows whoever was there once, and does not know who is started again. Whoever keeps an agent running does,
and says in its environment who else it keeps running.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from a2a import AgentInfo

__all__ = ["SQUAD_VARIABLE", "awaited"]

SQUAD_VARIABLE: Final = "A2A_SQUAD"
"""In the environment of an agent of a squad: the ids of all that are kept running with it, between commas."""


def awaited(agents: Iterable[AgentInfo]) -> list[str]:
    """Return the ids of those that are away and may come back: somebody keeps them running, as far as that is known.

    An agent that was started by itself knows of nobody who keeps others running, so everybody may come back then.
    """
    kept = os.environ.get(SQUAD_VARIABLE)
    return [
        info.agent_id for info in agents if info.status == "away" and (kept is None or info.agent_id in kept.split(","))
    ]
