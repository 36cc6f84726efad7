"""Looking without changing: tasks in A2A's form, pages of them, and what happened to them (spec READ, WATCH)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..errors import ErrorCode
from ..protocol.messages import Ok, TaskEventNotice, TaskFound, TaskGet, TaskList, TaskPage, TaskWatch
from ..protocol.states import TaskState, outside
from .decision import Decision, refuse, reply
from .ledger import Event, Task
from .live import Connection, Progress, World

__all__ = ["event_notice", "on_task_get", "on_task_list", "on_task_watch", "progress_notice", "view"]


def _timestamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def view(world: World, task: Task) -> dict[str, Any]:
    """Return the task as an A2A Task, without artifacts; metadata has what A2A has no field for."""
    metadata: dict[str, Any] = {
        "skill": task.spec["skill"],
        "state": task.state.value,
        "generation": task.generation,
        "key": task.key,
        "delegator": task.delegator,
        "createdAt": _timestamp(task.at),
        "attempt": task.attempt,
        "rev": task.rev,
        "evaluator": task.evaluator,
        "counters": {
            "losses": task.losses,
            "failures": task.failures,
            "declines": task.declines,
            "revivals": task.revivals,
            "reworks": len(task.feedback),
            "handoffs": task.handoffs,
        },
    }
    if task.parent:
        metadata["parent"] = task.parent
    if task.children:
        metadata["children"] = list(task.children)
    if task.deadline_at is not None:
        metadata["deadlineAt"] = _timestamp(task.deadline_at)
    if task.authority is not None:
        metadata["fence"] = task.authority.fence
    if task.last_agent is not None:
        metadata["agent"] = task.last_agent
    if task.state is TaskState.REPORTED:
        metadata["pendingAcceptance"] = True
        if task.results and task.results[-1].unseen_steer:
            metadata["unseenSteer"] = True
    if task.results:
        metadata["resultHash"] = task.results[-1].result_hash
    if task.last_error is not None:
        metadata["error"] = task.last_error
    if task.spent:
        metadata["usage"] = dict(task.spent)
    if task.budget:
        metadata["budget"] = dict(task.budget)
    if task.redrive_of is not None:
        metadata["redriveOf"] = task.redrive_of
    if task.is_dead_letter:
        metadata["deadLetter"] = True
    if task.evidence:
        metadata["evidence"] = [
            {"fence": kept.fence, "agent": kept.agent, "verdict": kept.verdict, "resultHash": kept.result_hash}
            for kept in task.evidence
        ]
    if task.settled is not None:
        metadata["reason"] = task.settled.reason
        metadata["detail"] = task.settled.detail
        metadata["confirmedBy"] = task.settled.by
    progress = world.live.progress.get(task.id)
    if progress is not None and progress.at and not task.is_terminal:
        metadata["progress"] = _progress(progress)
    return {
        "id": task.id,
        "contextId": task.context_id,
        "status": {"state": outside(task.state, was_leased=task.was_leased), "timestamp": _timestamp(task.since)},
        "metadata": metadata,
    }


def _progress(progress: Progress) -> dict[str, Any]:
    shown: dict[str, Any] = {"note": progress.note}
    if progress.progress_bp is not None:
        shown["progressBp"] = progress.progress_bp
    return shown


def on_task_get(world: World, sender: Connection, message: TaskGet, now: int) -> Decision:
    """Show one task. Spec READ-1."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.task}")
    found = TaskFound(task.id, task.generation, view(world, task))
    if message.content:
        found.view["metadata"]["spec"] = task.spec
        found.input = task.payload
        found.payload = task.results[-1].payload if task.results else None
        current = task.authority.fence if task.authority else None
        accepted = task.results[-1].fence if task.results and task.state is TaskState.COMPLETED else None
        found.artifacts = [
            {
                "artifactId": artifact.artifact,
                "name": artifact.name,
                "fence": artifact.fence,
                "chunks": artifact.chunks,
                "complete": artifact.complete,
                "discarded": artifact.fence != current,
                "committed": artifact.is_named and artifact.fence == accepted,
            }
            for artifact in task.artifacts.values()
        ]
        found.asks = [
            {"askNo": ask.ask_no, "payload": ask.payload}
            | ({} if ask.answer is None else {"answer": ask.answer, "by": ask.by})
            for ask in task.asks
        ]
    return reply(found)


def on_task_list(world: World, sender: Connection, message: TaskList, now: int) -> Decision:
    """List tasks, newest first. Spec READ-2."""
    tasks = world.ledger.tasks
    before = None
    if message.before is not None:
        last = tasks.get(message.before)
        if last is None:
            return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.before} to continue behind")
        before = last.lsn
    found: list[Task] = []
    more = False
    for task in reversed(tasks.values()):
        if (before is not None and task.lsn >= before) or not _listed(task, message):
            continue
        if len(found) == message.limit:
            more = True
            break
        found.append(task)
    return reply(TaskPage([view(world, task) for task in found], found[-1].id if more else None))


def _listed(task: Task, wanted: TaskList) -> bool:
    return (
        (wanted.state is None or wanted.state in (task.state.value, outside(task.state, was_leased=task.was_leased)))
        and (wanted.skill is None or wanted.skill == task.spec["skill"])
        and (wanted.parent is None or wanted.parent == task.parent)
        and (wanted.context_id is None or wanted.context_id == task.context_id)
        and (not wanted.dead_letter or task.is_dead_letter)
    )


def on_task_watch(world: World, sender: Connection, message: TaskWatch, now: int) -> Decision:
    """Send what happened since a generation, then what happens. Spec WATCH-1 to WATCH-3."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.task}")
    if not message.stop and message.task not in sender.watches and len(sender.watches) >= world.policy.watches_max:
        return refuse(ErrorCode.QUOTA, f"a connection watches at most {world.policy.watches_max} tasks")
    return reply(Ok(state=task.state.value))


def event_notice(task: Task, event: Event) -> TaskEventNotice:
    """Return what watchers are told of one step."""
    return TaskEventNotice(task.id, event.generation, event.event, event.state, event.at, event.data, event.payload)


def progress_notice(task: Task, progress: Progress) -> TaskEventNotice:
    """Return what watchers are told of progress. It has the generation it was made in, and may be lost."""
    data = _progress(progress) | {"agent": task.last_agent}
    return TaskEventNotice(task.id, task.generation, "progress", task.state.value, progress.at, data)
