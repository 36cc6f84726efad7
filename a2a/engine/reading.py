"""Reading without change: tasks in A2A's form, pages of them, and what happened to them (spec READ, WATCH)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from ..errors import ErrorCode
from ..protocol.messages import Ok, TaskEventNotice, TaskFound, TaskGet, TaskList, TaskPage, TaskWatch
from ..protocol.states import TERMINAL, TaskState, outside
from . import refusals
from .decision import Decision, Page, no_task, refuse, reply
from .ledger import Ledger
from .live import Connection, Progress, World
from .task_state import Event, Task

__all__ = [
    "event_notice",
    "in_memory",
    "on_task_get",
    "on_task_list",
    "on_task_watch",
    "page_of",
    "page_wanted",
    "progress_notice",
    "timestamp",
    "view",
]

_MANY = 8
"""If more than one task in this many may pass, the newest tasks are walked for a page, not the candidates."""


def timestamp(ms: int) -> str:
    """Return a time, in milliseconds since the epoch, as A2A writes it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def view(world: World, task: Task) -> dict[str, Any]:
    """Return the task as an A2A Task, without artifacts; metadata has what A2A has no field for."""
    metadata: dict[str, Any] = {
        "skill": task.spec["skill"],
        "state": task.state.value,
        "generation": task.generation,
        "key": task.key,
        "delegator": task.delegator,
        "createdAt": timestamp(task.at),
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
        metadata["deadlineAt"] = timestamp(task.deadline_at)
    if task.authority is not None:
        metadata["fence"] = task.authority.fence
    if task.last_agent is not None:
        metadata["agent"] = task.last_agent
    if task.state is TaskState.REPORTED:
        metadata["pendingAcceptance"] = True
        if task.results and task.results[-1].unseen_steer:
            metadata["unseenSteer"] = True
        if task.results and task.results[-1].stale_basis:
            metadata["staleBasis"] = task.results[-1].stale_basis
        if task.results and task.results[-1].overruled:
            metadata["overruled"] = task.results[-1].overruled
    if task.results:
        metadata["resultHash"] = task.results[-1].result_hash
    if task.last_error is not None:
        metadata["error"] = task.last_error
    if task.spent:
        metadata["usage"] = dict(task.spent)
    if task.budget:
        metadata["budget"] = dict(task.budget)
    if task.group is not None:
        metadata["group"] = {"members": list(task.group.electorate), "classes": [list(c) for c in task.group.classes]}
    if task.conflicts:
        metadata["conflicts"] = list(task.conflicts)
    if task.redrive_of is not None:
        metadata["redriveOf"] = task.redrive_of
    if task.is_dead_letter:
        metadata["deadLetter"] = True
    if task.evidence:
        metadata["evidence"] = [
            {"fence": kept.fence, "agent": kept.agent, "verdict": kept.verdict, "resultHash": kept.result_hash}
            for kept in task.evidence
        ]
    if task.refusals:
        metadata["refused"] = refusals.shown(task.refusals)
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
        "status": {"state": outside(task.state, was_leased=task.was_leased), "timestamp": timestamp(task.since)},
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
        return no_task(message.task)
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
    if message.before is not None and _position(world.ledger, message.before) is None:
        return refuse(ErrorCode.NOT_FOUND, f"there is no task {message.before} to continue behind")
    return reply(page_of(message, in_memory(world, message)))


def _position(ledger: Ledger, before: str) -> int | None:
    """Return the position a page continues from. The task itself may be gone; its id says where it stood."""
    namespace, _, number = before.rpartition("-")
    is_id = namespace == ledger.namespace and number.isdecimal() and len(number) < 20
    return int(number) if is_id and 0 < int(number) <= ledger.lsn else None


def in_memory(world: World, message: TaskList) -> list[tuple[int, dict[str, Any]]]:
    """Return (lsn, view) of the tasks in memory that pass, newest first: one more than the page shows, if there is."""
    ledger = world.ledger
    before = None if message.before is None else _position(ledger, message.before)
    found: list[Task] = []
    for task in _candidates(ledger, message):
        if len(found) > message.limit:
            break
        if task.id not in ledger.recalled and (before is None or task.lsn < before) and _listed(task, message):
            found.append(task)
    back = [task for name in ledger.recalled if _listed(task := ledger.tasks[name], message)]
    if back:
        found.extend(task for task in back if before is None or task.lsn < before)
        found.sort(key=lambda task: -task.lsn)
    return [(task.lsn, view(world, task)) for task in found[: message.limit + 1]]


def _candidates(ledger: Ledger, message: TaskList) -> Iterable[Task]:
    """Return tasks that include all that pass, newest first, except recalled ones.

    Of half a million tasks few may pass, and nobody else is answered meanwhile. If many pass, a page is full soon.
    """
    index = ledger.index
    found: list[Collection[Task]] = []
    if message.context_id is not None:
        found.append(index.of_context(message.context_id))
    if message.parent is not None:
        found.append(index.of_parent(message.parent))
    if message.skill is not None:
        found.append(index.of_skill(message.skill))
    wanted = "TASK_STATE_FAILED" if message.dead_letter else message.state
    if wanted is not None and index.count(wanted) <= len(ledger.tasks) // _MANY:
        found.append(list(index.newest(wanted)))
    fewest = min(found, key=len, default=None)
    if fewest is None or len(fewest) > len(ledger.tasks) // _MANY:
        return reversed(ledger.tasks.values())
    return sorted(fewest, key=lambda task: -task.lsn)


def page_of(message: TaskList, shown: list[tuple[int, dict[str, Any]]]) -> TaskPage:
    """Return the page that begins with the first of these views."""
    tasks = [shown_task for _, shown_task in shown[: message.limit]]
    return TaskPage(tasks, tasks[-1]["id"] if len(shown) > message.limit else None)


def page_wanted(ledger: Ledger, message: TaskList) -> Page | None:
    """Return what to ask the archive for, or None if no archived task can be on the page."""
    before = None if message.before is None else _position(ledger, message.before)
    if message.before is not None and before is None:
        return None
    state = message.state
    if state is not None:
        ended = {name: kind.value for kind in TERMINAL for name in (kind.value, outside(kind, was_leased=True))}
        if state not in ended:
            return None
        state = ended[state]
    filters = (state, message.skill, message.parent, message.context_id, message.dead_letter)
    return Page(message.limit + 1, before, *filters)


def _listed(task: Task, wanted: TaskList) -> bool:
    return (
        (wanted.state is None or wanted.state in (task.state.value, outside(task.state, was_leased=task.was_leased)))
        and (wanted.skill is None or wanted.skill == task.spec["skill"])
        and (wanted.parent is None or wanted.parent == task.parent)
        and (wanted.context_id is None or wanted.context_id == task.context_id)
        and (not wanted.dead_letter or task.is_dead_letter)
    )


def on_task_watch(world: World, sender: Connection, message: TaskWatch, now: int) -> Decision:
    """Send the events since a generation, then each new event. Spec WATCH-1 to WATCH-3."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    if not message.stop and message.task not in sender.watches and len(sender.watches) >= world.policy.watches_max:
        return refuse(ErrorCode.QUOTA, f"a connection watches at most {world.policy.watches_max} tasks")
    return reply(Ok(state=task.state.value))


def event_notice(task: Task, event: Event) -> TaskEventNotice:
    """Return what watchers are told of one event."""
    return TaskEventNotice(task.id, event.generation, event.event, event.state, event.at, event.data, event.payload)


def progress_notice(task: Task, progress: Progress) -> TaskEventNotice:
    """Return what watchers are told of progress. It has the generation it was made in, and may be lost."""
    data = _progress(progress) | {"agent": task.last_agent}
    return TaskEventNotice(task.id, task.generation, "progress", task.state.value, progress.at, data)
