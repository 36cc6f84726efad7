"""A name that one task holds alone for a while, and that other tasks wait for.

A claim puts the waiting tasks in line. It ends with the attempt, and a task that waits for a person's answer may be
without an attempt for long. So the task that has its turn is also kept in a context of that name, until it is over. The
time spent waiting is kept in the context of the task. This module does not know what the name stands for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import anyio

# pydantic makes the schemas of the skills, and on Python 3.11 it takes only this TypedDict.
from typing_extensions import TypedDict

from a2a import AttemptFailed, Conflict, ContextChange, Refused, SharedContext, TaskContext

from .delegating import once_current

__all__ = ["Wait", "turn"]

HOLDER: Final = "turn"
"""The key under which a task writes that it has its turn."""
OVER: Final = frozenset({"reported", "completed", "failed", "canceled", "rejected", "gone"})
"""States of a task that no longer needs its turn; one that is sent back waits in line again."""

Told = Callable[[list[str]], Awaitable[None]]
"""Told what it waits for, the next holder first: tasks, or agents with claims of their own."""


class Wait(TypedDict):
    """How long a task has waited for a name, in all its attempts and between them."""

    name: str
    whom: list[str]
    seconds: float


class _Kept(Wait):
    since: float
    """When it began to wait, in seconds of the wall clock, for another process to go on; 0 while it does not wait."""


@contextlib.asynccontextmanager
async def turn(task: TaskContext, name: str, seconds: float, told: Told) -> AsyncIterator[Wait]:
    """Hold a name alone inside the block, and yield how long the wait took.

    A task that had its turn in an earlier attempt still has it, and waits for nobody.

    Args:
        name: at most 128 characters, because it also names a context.
        seconds: how long to wait for it at most.
        told: told before the wait, and whenever it waits for somebody else.

    Raises:
        AttemptFailed: it could not be had in that time.
    """
    async with contextlib.AsyncExitStack() as held:
        await once_current(task.check)
        line = _Line(task, name, told)
        if await line.take(has_claim=False) is None:
            await line.claim(held)  # another task may hold it by now, and wait for this task to be over
        else:
            await line.through(held, seconds)
        yield await line.waited()


class _Line:
    """The tasks that want a name, as one of them sees it."""

    def __init__(self, task: TaskContext, name: str, told: Told) -> None:
        self._whom: list[str] = []
        """What it has waited for in this attempt."""
        self._task = task
        self._name = name
        self._told = told
        self._key = f"{task.id}/waited/{name}"
        self._shared: SharedContext = task.other_context(name)

    async def take(self, *, has_claim: bool) -> str | None:
        """Take the turn, or resume it; otherwise return who has it, empty if nobody does."""
        while True:
            there = await self._shared.get(HOLDER)
            holder = str(there.value.get("task", "")) if isinstance(there.value, dict) else ""
            if holder != self._task.id and not (has_claim and (not holder or await self._is_over(holder))):
                return holder
            mine = ContextChange(HOLDER, {"task": self._task.id, "attempt": self._task.attempt}, if_rev=there.rev)
            with contextlib.suppress(Conflict):  # it has changed by now: look again
                await self._shared.write([mine], rebases=True)
                return None

    async def claim(self, held: contextlib.AsyncExitStack, wait: float = 0.0) -> Refused | None:
        """Claim the name, and return the refusal, if any."""
        try:
            await held.enter_async_context(self._task.claim(self._name, wait=wait))
        except Refused as busy:
            if busy.code != "denied":
                raise
            return busy
        return None

    async def through(self, held: contextlib.AsyncExitStack, seconds: float) -> None:
        """Stand in line, and take the turn."""
        deadline = time.monotonic() + seconds
        if busy := await self.claim(held):
            await self._waits(_whom(busy))
            if late := await self.claim(held, seconds):
                raise self._busy(seconds, late.detail)
        # With the claim it is first in line. The task that had its turn may be between two attempts, and still has it.
        while before := await self.take(has_claim=True):
            if before not in self._whom:
                await self._waits([before])
            with anyio.move_on_after(max(0.0, deadline - time.monotonic())) as bounded:
                await self._see_over(before)
            if bounded.cancelled_caught:
                raise self._busy(seconds, f"{before} is not over")

    async def waited(self) -> Wait:
        """Stop waiting, and return how long it took, including a wait that began in an earlier attempt."""
        kept = await self._kept()
        if kept["since"]:
            kept["seconds"] = round(kept["seconds"] + max(0.0, time.time() - kept["since"]), 1)
            kept["since"] = 0.0
            await self._task.context.put(self._key, kept)
        return Wait(name=kept["name"], whom=kept["whom"], seconds=kept["seconds"])

    async def _kept(self) -> _Kept:
        kept = await self._task.context.get(self._key)
        return {**_Kept(name=self._name, whom=[], seconds=0.0, since=0.0), **(kept.value or {})}

    async def _waits(self, whom: list[str]) -> None:
        self._whom += [it for it in whom if it not in self._whom]
        kept = await self._kept()
        kept["whom"] = list(dict.fromkeys([*kept["whom"], *whom]))
        kept["since"] = kept["since"] or time.time()
        await self._task.context.put(self._key, kept)
        await self._told(whom)

    async def _is_over(self, other: str) -> bool:
        return (await self._task.outcome(other))["state"] in OVER

    async def _see_over(self, other: str) -> None:
        """Wait until a task no longer needs its turn."""
        try:
            async for event in self._task.watch(other):
                # The first events may be long past.
                if event.state in OVER and await self._is_over(other):
                    return
        except Refused as exc:
            if exc.code not in {"gone", "not_found"}:
                raise

    def _busy(self, seconds: float, detail: str) -> AttemptFailed:
        detail = f"{self._name} was not to be had within {seconds:g} s: {detail}"
        return AttemptFailed(detail, code="busy", retryable=False)


def _whom(busy: Refused) -> list[str]:
    holders: list[dict[str, Any]] = busy.data.get("holders", [])
    holders = sorted(holders, key=lambda holder: not holder["isHeld"])
    return list(dict.fromkeys(str(holder.get("task") or holder["agent"]) for holder in holders))
