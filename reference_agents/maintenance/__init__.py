"""The maintenance squad: agents that change a Python repository together, and a judge that believes only tests.

Every agent is a module with a variable `agent` and can be run: `python -m reference_agents.maintenance.judge`. `shapes`
has what they pass to each other. The work itself is in plain functions, so that it can be used and tested without a
coordinator.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SQUAD"]

AGENTS: Final = (
    "lead", "intent", "retriever", "preparer", "coder-ruff", "coder-pyupgrade", "coder-libcst", "judge", "safety",
    "deployer",
)  # fmt: skip
ON_DEMAND: Final = ("coder-model", "judge-model", "intent-model", "gremlin")
"""Agents that `--with` adds: some need to be told which model to use, one misbehaves."""


def _modules(names: tuple[str, ...]) -> dict[str, str]:
    return {name: f"{__name__}.{name.replace('-', '_')}" for name in names}


SQUAD: Final[dict[str, Any]] = {
    "name": "maintenance",
    "skill": "maintain",
    "agents": _modules(AGENTS),
    "optional": _modules(ON_DEMAND),
    "needs": ("ruff", "pyupgrade", "libcst", "bandit"),
}
"""What `a2a squad up maintenance` keeps running: agent id to the module that is the agent."""
