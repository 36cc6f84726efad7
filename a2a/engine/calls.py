"""Calls of A2A's operations that are not over: those that wait for their task, and streams (spec BIND).

They belong to their connection, like watches, and are never stored: a caller that comes back calls again with the same
message, and gets the same task. The coordinator looks here when a task with open calls has changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..protocol.messages import A2AEvent, A2AResult, Message
from ..protocol.operations import Fault, encode
from ..protocol.states import TaskState
from .decision import Called
from .live import Connection, Live, OpenCall, Progress, World
from .showing import progress_update, shown, updates
from .task_state import Task

__all__ = ["answers", "begin", "leave_calls", "progress_answers"]

Told = tuple[Connection, str, Message]
"""(connection, request it answers, message)."""


def begin(world: World, sender: Connection, request: str, called: Called, task: Task) -> Iterator[Message]:
    """Yield what a call is answered at once, and keep the call if more is to come."""
    call = OpenCall(sender, request, called.streams)
    if called.streams:
        yield from _opening(world, call, called, task)
    elif not called.waits or _stands_still(task):
        yield _result(world, task, as_response=called.as_response)
        return
    if task.is_terminal:
        return
    if request in sender.calls:  # a caller that uses an id twice could not tell the answers apart
        _forget(world.live, sender, request)
    sender.calls[request] = task.id
    world.live.calls.setdefault(task.id, {})[sender.id, request] = call


def _opening(world: World, call: OpenCall, called: Called, task: Task) -> Iterator[Message]:
    """Yield the beginning of a stream: the task as it is, then the events that the caller has missed."""
    try:
        first = encode({"task": shown(world, task)})
    except Fault as fault:
        yield fault.told
        return
    call.told = task.generation
    yield A2AEvent(task.id, task.generation, first, last=task.is_terminal)
    if called.from_gen is not None:
        for event in task.history[called.from_gen :]:
            for update in updates(task, event):
                yield A2AEvent(task.id, event.generation, encode(update))


def answers(world: World, task: Task) -> Iterator[Told]:
    """Yield the answers to open calls about a task that has changed, and drop the calls that are over."""
    calls = world.live.calls[task.id]
    for key, call in list(calls.items()):
        if call.is_stream:
            for message in _goes_on(task, call):
                yield call.connection, call.request, message
        elif _stands_still(task):
            yield call.connection, call.request, _result(world, task, as_response=True)
        if task.is_terminal or (_stands_still(task) and not call.is_stream):
            del calls[key]
            del call.connection.calls[call.request]
    if not calls:
        del world.live.calls[task.id]


def _goes_on(task: Task, call: OpenCall) -> Iterator[Message]:
    missed, call.told = task.history[call.told :], task.generation
    try:
        pieces = [(event.generation, encode(update)) for event in missed for update in updates(task, event)]
    except Fault as fault:
        yield fault.told
        return
    for place, (generation, payload) in enumerate(pieces, 1):
        yield A2AEvent(task.id, generation, payload, last=task.is_terminal and place == len(pieces))


def progress_answers(world: World, task: Task, progress: Progress) -> Iterator[Told]:
    """Yield what streams about a task are told of progress."""
    for call in world.live.calls.get(task.id, {}).values():
        if call.is_stream:
            update = encode(progress_update(task, progress))
            yield call.connection, call.request, A2AEvent(task.id, task.generation, update)


def leave_calls(live: Live, gone: Connection) -> None:
    """Forget the calls of a connection that is over."""
    for request in list(gone.calls):
        _forget(live, gone, request)


def _forget(live: Live, caller: Connection, request: str) -> None:
    """Forget one call."""
    task = caller.calls.pop(request)
    calls = live.calls[task]
    del calls[caller.id, request]
    if not calls:
        del live.calls[task]


def _stands_still(task: Task) -> bool:
    """Tell whether a task has ended, or waits for its caller: A2A's terminal and interrupted states."""
    return task.is_terminal or task.state is TaskState.PARKED


def _result(world: World, task: Task, *, as_response: bool) -> Message:
    try:
        found = shown(world, task)
        return A2AResult(encode({"task": found} if as_response else found))
    except Fault as fault:
        return fault.told
