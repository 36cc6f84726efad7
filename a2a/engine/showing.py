"""Tasks, their events, and the agents on file, in A2A's own JSON (spec BIND).

The task is that of `reading.view`, plus what only A2A has: artifacts, the message with its status, the pieces of a
stream. Elsewhere an agent's result is opaque bytes; here it is read, as it becomes part of A2A's JSON, and a result
that is no list of artifacts is a fault of that agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..protocol.operations import BINDING, VERSION, Fault, are_artifacts, are_parts, decode
from ..protocol.states import TERMINAL, TaskState, outside
from .ledger import Ledger
from .live import Progress, World
from .reading import timestamp, view
from .task_state import Event, Task

__all__ = ["card", "progress_update", "shown", "updates"]

_MODES = ["application/json", "text/plain"]
"""The modes of a card that names none (spec ROUTE-1)."""


def shown(world: World, task: Task, *, with_artifacts: bool = True) -> dict[str, Any]:
    """Return a task as A2A's Task. Its history is left out, as A2A allows.

    Raises:
        Fault: its result is no list of artifacts.
    """
    found = view(world, task)
    words = _words(task, task.state.value)
    if words is not None:
        found["status"]["message"] = words
    if with_artifacts:
        found["artifacts"] = _artifacts(task)
    return found


def _artifacts(task: Task) -> list[Any]:
    if task.state is not TaskState.COMPLETED or not task.results:
        return []
    try:
        artifacts = decode(task.results[-1].payload)
    except ValueError as error:
        raise Fault(-32006, f"the result of task {task.id} is no JSON: {error}", facts={"taskId": task.id}) from None
    if not are_artifacts(artifacts):
        raise Fault(-32006, f"the result of task {task.id} is no list of artifacts", facts={"taskId": task.id})
    return list(artifacts)


def _words(task: Task, state: str) -> dict[str, Any] | None:
    """Return what an agent or the coordinator says with a state: the question, or why the task ended so."""
    if state == TaskState.PARKED:
        ask = task.open_ask()
        return None if ask is None else _message(task, f"ask-{ask.ask_no}", _parts_of(ask.payload))
    end = task.settled
    if state in TERMINAL and end is not None and end.state != "completed":
        told = ": ".join(text for text in (end.reason, end.detail) if text)
        return _message(task, "end", [{"text": told}]) if told else None
    return None


def _parts_of(payload: bytes) -> list[Any]:
    """Return the parts an agent wrote; anything else is shown as text."""
    try:
        parts = decode(payload)
    except ValueError:
        parts = None
    return parts if are_parts(parts) else [{"text": payload.decode()}]


def _message(task: Task, name: str, parts: list[Any]) -> dict[str, Any]:
    return {
        "messageId": f"{task.id}-{name}",
        "contextId": task.context_id,
        "taskId": task.id,
        "role": "ROLE_AGENT",
        "parts": parts,
    }


# Streams --------------------------------------------------------------------------------------------------------------


def updates(task: Task, event: Event) -> Iterator[dict[str, Any]]:
    """Yield what a stream tells of one event: at least one StreamResponse, the status last.

    Raises:
        Fault: the task has ended with a result that is no list of artifacts.
    """
    if event.event == "artifact" and event.payload is not None:
        artifact = {"artifactId": event.data["artifactId"], "name": event.data["name"]}
        artifact["parts"] = _parts_of(event.payload)
        provisional = {"provisional": True, "fence": event.data["fence"]}
        yield _artifact_update(task, artifact, event.data["append"], event.data["lastChunk"], provisional)
        return
    if event.state == TaskState.COMPLETED:
        for artifact in _artifacts(task):
            yield _artifact_update(task, artifact, append=False, last=True)
    status: dict[str, Any] = {"state": _state_at(task, event), "timestamp": timestamp(event.at)}
    words = _words(task, event.state) if event.generation == task.generation else None
    if event.event == "ask" and event.payload is not None:
        words = _message(task, f"ask-{event.data['askNo']}", _parts_of(event.payload))
    if words is not None:
        status["message"] = words
    yield _status_update(task, status, {"event": event.event, "generation": event.generation, "state": event.state})


def _state_at(task: Task, event: Event) -> str:
    state = TaskState(event.state)
    if outside(state, was_leased=False) != "TASK_STATE_SUBMITTED":
        return outside(state, was_leased=True)
    before = task.history[: event.generation]
    return outside(state, was_leased=any(earlier.state == TaskState.LEASED for earlier in before))


def progress_update(task: Task, progress: Progress) -> dict[str, Any]:
    """Return what a stream tells of progress."""
    status: dict[str, Any] = {"state": outside(task.state, was_leased=True), "timestamp": timestamp(progress.at)}
    if progress.note:
        status["message"] = _message(task, f"progress-{progress.progress_no}", [{"text": progress.note}])
    told: dict[str, Any] = {"event": "progress", "generation": task.generation, "state": task.state.value}
    if progress.progress_bp is not None:
        told["progressBp"] = progress.progress_bp
    return _status_update(task, status, told)


def _status_update(task: Task, status: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "statusUpdate": {"taskId": task.id, "contextId": task.context_id, "status": status, "metadata": metadata},
    }


def _artifact_update(
    task: Task, artifact: Any, append: bool, last: bool, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    update = {"taskId": task.id, "contextId": task.context_id, "artifact": artifact, "append": append}
    update["lastChunk"] = last
    return {"artifactUpdate": update | ({"metadata": metadata} if metadata else {})}


# The card -------------------------------------------------------------------------------------------------------------


def card(ledger: Ledger, addresses: list[str]) -> dict[str, Any]:
    """Return a card for the whole namespace: every skill on file once, as the agent with the smallest id has it."""
    skills: dict[str, dict[str, Any]] = {}
    for name in sorted(ledger.agents):
        agent = ledger.agents[name]
        for skill_id, skill in agent.skills.items():
            if skill_id not in skills:
                modes = {
                    mode: agent.card[default]
                    for mode, default in (("inputModes", "defaultInputModes"), ("outputModes", "defaultOutputModes"))
                    if default in agent.card
                }
                skills[skill_id] = modes | skill
    return {
        "name": ledger.namespace,
        "description": f"All agents of the namespace {ledger.namespace}, through their coordinator.",
        "version": VERSION,
        "supportedInterfaces": [
            {"url": address, "protocolBinding": BINDING, "protocolVersion": VERSION} for address in addresses
        ],
        "capabilities": {"streaming": True, "pushNotifications": False, "extendedAgentCard": True},
        "securitySchemes": {
            "token": {
                "httpAuthSecurityScheme": {
                    "scheme": "Bearer",
                    "description": "The namespace's token; with this binding it is the field `token` of the hello.",
                }
            }
        },
        "securityRequirements": [{"schemes": {"token": {"list": []}}}],
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "skills": [skills[name] for name in sorted(skills)],
    }
