"""The maintenance squad: agents that change a Python repository together, and a judge that believes tests only.

Every agent is a module with a variable `agent` and can be run: `python -m reference_agents.maintenance.judge`. What
they hand to each other is in `shapes`; the work itself is in plain functions, so that it can be used and tested
without a coordinator.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SQUAD"]

AGENTS: Final = (
    "lead", "intent", "retriever", "preparer", "coder-ruff", "coder-pyupgrade", "coder-libcst", "judge", "safety",
    "deployer",
)  # fmt: skip

SQUAD: Final[dict[str, Any]] = {
    "name": "maintenance",
    "skill": "maintain",
    "agents": {name: f"{__name__}.{name.replace('-', '_')}" for name in AGENTS},
}
"""What `a2a squad up maintenance` keeps running: agent id to the module that is the agent."""
