"""Which agents could do a queued task, and what keeps all of them busy (spec ROUTE-1, WAIT-1).

It knows cards, credit and attempts, but neither claims nor the order of the queue. Used by routing, and by the graph of
waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..protocol.states import TaskState
from .ledger import Agent, Ledger
from .live import Live
from .task_state import Task

__all__ = ["Busy", "Trait", "all_busy", "serves", "traits_of", "traits_wanted"]

Trait = tuple[str, str, str]
"""Something a task may want an agent to have: its kind, its name, and for a label its value."""


@dataclass(frozen=True, slots=True)
class Busy:
    """An agent that takes nothing more until some of its attempts end."""

    slots: int
    attempts: list[tuple[int, str]]
    """(fence, task) of the attempts that fill a slot each; at least as many as there are slots."""


def serves(skill: dict[str, Any], agent: Agent, *wanted: dict[str, Any]) -> bool:
    """Tell whether the agent, with this skill of its card, meets all of `wanted`."""
    return all(_fits(skill, agent, requires) for requires in wanted)


def _fits(skill: dict[str, Any], agent: Agent, requires: dict[str, Any]) -> bool:
    if "agent" in requires and requires["agent"] != agent.id:
        return False
    tags = requires.get("tags")
    if tags and not set(tags) <= set(skill.get("tags", ())):
        return False
    labels = requires.get("labels")
    if labels and any(agent.labels.get(name) != value for name, value in labels.items()):
        return False
    media_type = requires.get("mediaType")
    if media_type is not None and media_type not in _modes(skill, agent):
        return False
    return agent.id not in requires.get("exclude", ())


def _modes(skill: dict[str, Any], agent: Agent) -> list[str]:
    return skill.get("inputModes") or agent.card.get("defaultInputModes") or ["application/json", "text/plain"]


def traits_wanted(*wanted: dict[str, Any]) -> list[Trait]:
    """Return the traits an agent must have to meet `wanted`; having them all is not enough to meet it."""
    traits: list[Trait] = []
    for requires in wanted:
        traits += (("label", name, value) for name, value in requires.get("labels", {}).items())
        traits += (("tag", tag, "") for tag in requires.get("tags", ()))
        if requires.get("mediaType") is not None:
            traits.append(("mediaType", requires["mediaType"], ""))
    return traits


def traits_of(skill: dict[str, Any], agent: Agent) -> list[Trait]:
    """Return the traits of an agent, with this skill of its card, that tasks may want."""
    traits: list[Trait] = [("label", name, value) for name, value in agent.labels.items()]
    traits += (("tag", tag, "") for tag in skill.get("tags", ()))
    traits += (("mediaType", mode, "") for mode in _modes(skill, agent))
    return traits


def all_busy(ledger: Ledger, live: Live, task: Task) -> list[Busy]:
    """Return the agents that could do a queued task if attempts keep every one of them busy, else nothing.

    An agent that is away, drains, is in quarantine or takes nothing at all may become free at any time, and so may an
    agent whose lease of the task has lapsed. What a handoff requires holds only for a while, and is ignored here.
    """
    found: list[Busy] = []
    if task.state is not TaskState.QUEUED or (task.authority is not None and task.authority.is_open):
        return found
    skill = task.spec["skill"]
    for agent in ledger.by_skill.get(skill, {}).values():
        if not serves(agent.skills[skill], agent, task.spec.get("requires") or {}):
            continue
        connection = live.agents.get(agent.id)
        takes_offers = agent.status == "ready" and agent.id not in ledger.quarantined
        if connection is None or not takes_offers or connection.credit_tasks < 1:
            return []
        held = ledger.holding.get(agent.id, {})
        attempts = [(fence, other) for other, fence in held.items() if _lasts(ledger.tasks[other], fence, live)]
        if len(attempts) < connection.credit_tasks:
            return []
        found.append(Busy(connection.credit_tasks, attempts))
    return found


def _lasts(task: Task, fence: int, live: Live) -> bool:
    """Tell whether an attempt fills its slot, and no clock is about to end it."""
    authority = task.authority
    if authority is None or authority.fence != fence or task.state not in (TaskState.LEASED, TaskState.PARKED):
        return False
    return not authority.evicted and live.released.get(authority.holder, {}).get(task.id) != fence
