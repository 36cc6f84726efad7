"""What one attempt leaves to the next: checkpoints, a handoff, and the dossier (spec CHECK, HAND).

The handlers take what an attempt leaves while it is current; `checkpoint_for` and `dossier` assemble what goes into an
offer when it is sent.
"""

from __future__ import annotations

from typing import Any

from ..errors import ErrorCode
from ..protocol.canonical import canonical
from ..protocol.messages import Checkpoint as CheckpointLeft
from ..protocol.messages import Dossier, Ok, PriorAttempt, TaskCheckpoint, TaskHandoff
from ..protocol.states import TaskState
from .budget import plain
from .capacity import serves
from .decision import Decision, no_task, refuse, reply
from .leases import Case, classify, moved, not_current, regain
from .ledger import Agent
from .live import Connection, World
from .records import Checkpointed, HandedOff, HandoffLapsed, Record
from .task_state import Checkpoint, Task

__all__ = ["checkpoint_for", "dossier", "hand_back", "on_task_checkpoint", "on_task_handoff"]


def on_task_checkpoint(world: World, sender: Connection, message: TaskCheckpoint, now: int) -> Decision:
    """Take a checkpoint of an attempt, for the next one to continue from. Spec CHECK-1, CHECK-2."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    known = next((kept for kept in task.checkpoints if kept.fence == message.fence), None)
    mine = task.minted_for(message.fence) == agent
    if known is not None and mine and (known.cp_no, known.payload) == (message.cp_no, message.payload):
        return reply(Ok(state=task.state.value))  # a repeat
    regained = regain(world, task, agent, message.fence, now)
    if regained is None:
        return not_current(world, task, agent, message.fence)
    if len(message.payload) > world.policy.checkpoint_max_bytes:
        return refuse(
            ErrorCode.TOO_LARGE,
            f"a checkpoint has at most {world.policy.checkpoint_max_bytes} bytes, this one of task {task.id} has "
            f"{len(message.payload)}: leave an artifact, and its name here",
        )
    newest = known.cp_no if known is not None else 0
    if message.cp_no <= newest or message.base_cp != newest:
        return refuse(
            ErrorCode.CONFLICT,
            f"the newest checkpoint of this attempt at task {task.id} is {newest}; {message.cp_no} after "
            f"{message.base_cp} does not follow it",
            data={"cpNo": newest},
        )
    moved(world, task, now)
    record = Checkpointed(now, task.id, message.fence, message.cp_no, message.format, message.portable, message.payload)
    return reply(Ok(state=task.state.value), *regained, record)


def on_task_handoff(world: World, sender: Connection, message: TaskHandoff, now: int) -> Decision:
    """Hand the task off to another agent. Spec HAND-1 to HAND-3."""
    agent, ledger = sender.agent or "", world.ledger
    task = ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    case = classify(ledger, task, agent, message.fence)
    if case in (Case.SPENT, Case.STALE) and task.attempts[message.fence].end == "handed_off":
        return reply(Ok(state=task.state.value))  # a repeat
    if case not in (Case.CURRENT, Case.LAPSED):
        return not_current(world, task, agent, message.fence)
    if task.state not in (TaskState.LEASED, TaskState.QUEUED, TaskState.OFFERED):
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is {task.state}: what is at work is handed on")
    if task.handoffs >= task.bounds.handoffs:
        return refuse(ErrorCode.QUOTA, f"a task is handed on at most {task.bounds.handoffs} times, {task.id} has been")
    requires = dict(message.requires or {})
    if message.to is not None:
        requires["agent"] = message.to
    wanted = (task.spec.get("requires") or {}, requires)
    never = {agent, *ledger.barred(task)}
    others = (other for other in ledger.by_skill.get(task.spec["skill"], {}).values() if other.id not in never)
    if not any(serves(other.skills[task.spec["skill"]], other, *wanted) for other in others):
        asked = " and ".join(canonical(part).decode() for part in wanted if part) or "nothing more"
        return refuse(
            ErrorCode.NO_CAPABLE_AGENT,
            f"no other agent known has skill {task.spec['skill']} and is what task {task.id} and its holder ask for:"
            f" {asked:.300}",
        )
    record = HandedOff(
        now,
        task.id,
        message.fence,
        message.to,
        _wish(message, agent),
        message.payload,
        plain(message.usage),
    )
    return reply(Ok(state=TaskState.QUEUED.value), record)


def _wish(message: TaskHandoff, agent: str) -> dict[str, Any] | None:
    """Return what the next agent must be; if no agent is named, it has to be another than the one that hands off."""
    wish: dict[str, Any] = {**(message.requires or {})}
    excluded = wish.get("exclude", [])
    if message.to is None and agent not in excluded:
        wish["exclude"] = [*excluded, agent]
    return wish or None


def hand_back(task: Task, now: int) -> list[Record]:
    """Return what follows if the agent that a task was handed to does not come for it. Spec HAND-3."""
    if task.state is TaskState.QUEUED and task.handed_to and task.since + task.durations.lease_ms <= now:
        return [HandoffLapsed(now, task.id)]
    return []


def checkpoint_for(task: Task, agent: Agent | None, agent_id: str) -> CheckpointLeft | None:
    """Return the newest checkpoint that the agent can continue from, or None. Spec CHECK-3."""
    formats = agent.skills.get(task.spec["skill"], {}).get("checkpointFormats") if agent is not None else None

    def serves_it(kept: Checkpoint) -> bool:
        return (kept.portable or kept.agent == agent_id) and (not formats or kept.format in formats)

    kept = next((kept for kept in reversed(task.checkpoints) if serves_it(kept)), None)
    return None if kept is None else CheckpointLeft(kept.cp_no, kept.fence, kept.agent, kept.payload, kept.format)


def dossier(task: Task, fence: int) -> Dossier | None:
    """Return what the attempt under this fence should know of earlier ones; None for the first. Spec OFFER-8."""
    prior = [
        PriorAttempt(
            attempt.agent,
            known,
            attempt.end,
            attempt.ended_at,
            max(0, attempt.ended_at - attempt.at),
            attempt.detail,
            attempt.usage,  # type: ignore[arg-type]
            attempt.progress_no,
            attempt.note or None,
            attempt.payload,
        )
        for known, attempt in task.attempts.items()
        if known < fence and attempt.end
    ]
    if not prior:
        return None
    evidence = [
        {"fence": kept.fence, "agent": kept.agent, "verdict": kept.verdict, "resultHash": kept.result_hash}
        for kept in task.evidence
    ]
    discarded = [artifact.artifact for artifact in task.artifacts.values() if artifact.fence != fence]
    return Dossier(prior, evidence, discarded)
