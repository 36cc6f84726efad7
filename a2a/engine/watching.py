"""Watches of tasks, and of agents that come and go, and what each is told (spec WATCH-1 to WATCH-4).

Watches belong to their connection, and are never stored: after a new handshake a watch is asked for again, from where
it stood. The coordinator looks here when a task has changed; `calls` has what open calls are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..protocol.messages import TaskWatch
from .calls import Told
from .live import Connection, Live, Progress, World
from .reading import event_notice, progress_notice
from .registry import change_notice
from .routing import satisfies
from .task_state import Task

__all__ = [
    "agent_told",
    "archived_told",
    "finds_passed",
    "leave_watches",
    "passes_no_more",
    "progress_told",
    "watch",
    "watchers_told",
]


def watch(world: World, sender: Connection, request: str, message: TaskWatch) -> Iterator[Told]:
    """Begin a watch of a task in memory, and yield what it has missed; or end the watch."""
    if message.stop:
        sender.watches.pop(message.task, None)
        _unwatch(world.live, message.task, sender.id)
        return
    task = world.ledger.tasks[message.task]
    sender.watches[task.id] = (request, message.from_gen)
    world.live.watchers.setdefault(task.id, {})[sender.id] = sender
    yield from watchers_told(world.live, task)
    progress = world.live.progress.get(task.id)
    if progress is not None and progress.at and not task.is_terminal:
        yield sender, request, progress_notice(task, progress)


def archived_told(sender: Connection, request: str, message: TaskWatch, task: Task) -> Iterator[Told]:
    """Yield what a watch of an archived task has missed: nothing more will come."""
    for event in task.history[message.from_gen :] if not message.stop else ():
        yield sender, request, event_notice(task, event)


def watchers_told(live: Live, task: Task) -> Iterator[Told]:
    """Yield what the watchers of a changed task are told; the task's end ends their watches."""
    for connection in live.watchers.get(task.id, {}).values():
        request, sent = connection.watches[task.id]
        for event in task.history[sent:]:
            yield connection, request, event_notice(task, event)
        connection.watches[task.id] = (request, task.generation)
    if task.is_terminal:
        for connection in live.watchers.pop(task.id, {}).values():
            del connection.watches[task.id]


def progress_told(live: Live, task: Task, progress: Progress) -> Iterator[Told]:
    """Yield what a task's watchers are told of progress."""
    for connection in live.watchers.get(task.id, {}).values():
        yield connection, connection.watches[task.id][0], progress_notice(task, progress)


def _unwatch(live: Live, task: str, connection: int) -> None:
    """Forget one connection's watch of a task."""
    watching = live.watchers.get(task)
    if watching is not None:
        watching.pop(connection, None)
        if not watching:
            del live.watchers[task]


def leave_watches(live: Live, gone: Connection) -> None:
    """Forget the watches, of tasks and of agents, of a connection that is over."""
    live.finders.pop(gone.id, None)
    for task in gone.watches:
        _unwatch(live, task, gone.id)


def finds_passed(world: World, agent_id: str) -> list[tuple[Connection, str]]:
    """Return the watches whose filter this agent passes: connection and find request."""
    agent = world.ledger.agents.get(agent_id)
    if agent is None:
        return []
    return [
        (connection, request)
        for connection in world.live.finders.values()
        for request, wanted in connection.finding.items()
        if satisfies(agent, wanted, world.live.schema_hashes)
    ]


def agent_told(world: World, agent_id: str, change: Literal["joined", "left", "changed"], now: int) -> Iterator[Told]:
    """Yield what watchers are told of an agent that came, left or changed."""
    for connection, request in finds_passed(world, agent_id):
        yield connection, request, change_notice(world, world.ledger.agents[agent_id], change, now)


def passes_no_more(world: World, agent_id: str, before: list[tuple[Connection, str]], now: int) -> Iterator[Told]:
    """Yield what watchers are told if an agent no longer passes their filter."""
    agent = world.ledger.agents[agent_id]
    for connection, request in before:
        if not satisfies(agent, connection.finding[request], world.live.schema_hashes):
            yield connection, request, change_notice(world, agent, "left", now)
