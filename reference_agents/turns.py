"""A name that one attempt has alone for a while, and whom it waits for until then.

The claim ends with the attempt, so one after a crash stands in line again; how long was waited is kept in the context
of the task. It knows nothing of what is behind the name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

# pydantic makes the schemas of the skills, and on Python 3.11 it takes only this TypedDict.
from typing_extensions import TypedDict

from a2a import AttemptFailed, Refused, TaskContext

from .delegating import once_current

__all__ = ["Wait", "turn"]

Told = Callable[[list[str]], Awaitable[None]]
"""Told whom it waits for, the one that has it first: tasks, or agents with claims of their own."""


class Wait(TypedDict):
    """How long a task has waited for a name, in all its attempts."""

    name: str
    whom: list[str]
    seconds: float


@contextlib.asynccontextmanager
async def turn(task: TaskContext, name: str, seconds: float, told: Told) -> AsyncIterator[Wait]:
    """Have a name alone inside the block, and yield how long that took.

    Args:
        seconds: to wait for it at most.
        told: told before it is waited for.

    Raises:
        AttemptFailed: it is not to be had in that time.
    """
    key = f"{task.id}/waited/{name}"
    known = await task.context.get(key)
    waited = known.value if known.exists else Wait(name=name, whom=[], seconds=0.0)
    async with contextlib.AsyncExitStack() as held:
        await once_current(task.check)
        try:
            await held.enter_async_context(task.claim(name))
        except Refused as busy:
            if busy.code != "denied":
                raise
            waited = await _waited(task, held, waited, seconds, told, _whom(busy))
            await task.context.put(key, waited)
        yield waited


async def _waited(
    task: TaskContext, held: contextlib.AsyncExitStack, before: Wait, seconds: float, told: Told, whom: list[str]
) -> Wait:
    await told(whom)
    began = time.monotonic()
    try:
        await held.enter_async_context(task.claim(before["name"], wait=seconds))
    except Refused as over:
        if over.code != "denied":
            raise
        detail = f"{before['name']} was not to be had within {seconds:g} s: {over.detail}"
        raise AttemptFailed(detail, code="busy", retryable=False) from over
    took = round(before["seconds"] + time.monotonic() - began, 1)
    return Wait(name=before["name"], whom=list(dict.fromkeys([*before["whom"], *whom])), seconds=took)


def _whom(busy: Refused) -> list[str]:
    holders: list[dict[str, Any]] = busy.data.get("holders", [])
    holders = sorted(holders, key=lambda holder: not holder["isHeld"])
    return list(dict.fromkeys(str(holder.get("task") or holder["agent"]) for holder in holders))
