"""One step of the lead: a sub-task that is followed from its first event to its result, or only to its end.

Everything that happens to a sub-task is in the ledger, so an attempt after a crash sees the same events again and comes
to the same account. This module does not know what the steps are about.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

# pydantic makes the schemas of the skills, and on Python 3.11 it takes only this TypedDict.
from typing_extensions import TypedDict

from a2a import ChildTask, Refused, TaskCanceled, TaskContext, TaskEvent, TaskFailed, TaskRejected

from .delegating import MOVED, delegated, result_of

__all__ = ["Ask", "Course", "Errand", "ErrandFailed", "Note", "Outdated", "Step", "Story", "never"]

WAIT_TOLD: Final = 5.0
"""Seconds after which to report that a sub-task is waiting because nobody has begun it."""
Story = Callable[[str, str, str], Awaitable[None]]
"""Told of what a person should see: kind, who, what."""
Note = Callable[[float | None, str], Awaitable[None]]
"""Told of the progress."""
Ask = Callable[[str, list[str] | None], Awaitable[Any]]
Outdated = Callable[[], Awaitable[str]]
"""Returns in words which decisions behind a step have moved, or an empty text."""


async def never() -> str:
    """Nothing has moved."""
    return ""


class Step(TypedDict):
    """One sub-task, as the lead saw it."""

    name: str
    skill: str
    agent: str
    """Who did it, the last one if several tried; empty if nobody took it."""
    task: str
    state: Literal["working", "completed", "failed"]
    attempts: int
    losses: int
    """Attempts that were lost with their agent and taken up again."""
    seconds: float
    detail: str
    """Why it failed."""


class ErrandFailed(Exception):
    """A step ended without a result."""

    def __init__(self, step: Step, code: str, detail: str) -> None:
        super().__init__(f"{step['name']}: {detail}")
        self.step = step
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class Course:
    """A sub-task that somebody else made, and how it is reported; `step` is its account at any time."""

    context: TaskContext
    name: str
    skill: str
    story: Story
    note: Note
    step: Step = field(init=False)
    began: float = 0.0
    """By the coordinator's clock."""
    ended: float = 0.0
    _code: str = ""
    _moved: str = ""
    """Decisions that its result relies on and that have moved, as far as the coordinator has told."""

    def __post_init__(self) -> None:
        self.step = Step(
            name=self.name, skill=self.skill, agent="", task="", state="working", attempts=0, losses=0, seconds=0.0,
            detail="",
        )  # fmt: skip

    async def watch(self, task: str) -> None:
        """Follow it to its end."""
        self.step["task"] = task
        async with self._telling_a_wait():
            async for event in self.context.watch(task):
                await self._follow(event)
        outcome = await self.context.outcome(task)
        self.step["state"] = "completed" if outcome["state"] == "completed" else "failed"
        self.step["detail"] = "" if self.step["state"] == "completed" else outcome["detail"]

    async def _follow(self, event: TaskEvent) -> None:
        self._keep_time(event)
        who = event.agent or self.step["agent"] or self.skill
        if event.kind == "progress":
            if event.note:
                await self.note(event.progress, f"{who}: {event.note}")
        elif event.kind in {"grant", "accept"}:
            self.step["agent"] = who
            self.step["attempts"] += 1
            again = f", attempt {self.step['attempts']}" if self.step["attempts"] > 1 else ""
            await self.story("work", who, f"{self.name}{again}")
        elif event.kind in {"expire", "withdraw"}:
            await self._lost(event, who)
        elif event.kind == "release":
            error = event.data.get("error") or {}
            why = error.get("detail") or event.data.get("reason") or "no reason given"
            await self.story("retry", who, f"{self.name} was not finished ({why}); it is handed on")
        elif event.kind == "report":
            self._code = (event.data.get("error") or {}).get("code", "")
            self._moved = ", ".join(
                f"{it['key']} has moved from revision {it['seen']} to {it['current']}"
                for it in event.data.get("staleBasis", ())
            )
        elif event.kind == "artifact" and event.data.get("name") == "rejected":
            await self._contradicted(event.value)

    @contextlib.asynccontextmanager
    async def _telling_a_wait(self) -> AsyncIterator[None]:
        """Inside the block, report if nobody begins it for a while: the agents may be at work for others."""

        async def tell() -> None:
            await asyncio.sleep(WAIT_TOLD)
            if not self.step["agent"]:
                there = ", ".join(
                    info.agent_id for info in await self.context.find(self.skill) if info.status != "away"
                )
                await self.note(None, f"{self.name} waits for {there or f'somebody with the skill {self.skill}'}")

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait([telling])
            if not telling.cancelled():
                telling.result()

    async def _lost(self, event: TaskEvent, who: str) -> None:
        if event.kind == "expire":
            self.step["losses"] += 1
        why = event.data.get("reason") or "not heard in time"
        await self.story("lost", who, f"lost during {self.name} ({why}); it is handed on")

    async def _contradicted(self, rejected: Any) -> None:
        """Report a proposal that evidence contradicts, as soon as the judge knows."""
        if isinstance(rejected, dict):
            files = ", ".join(rejected.get("files", [])[:3]) or "all of it"
            why = rejected.get("detail") or rejected.get("reason", "")
            kind = "refused" if rejected.get("reason") in {"tests", "syntax"} else "unused"
            await self.story(kind, str(rejected.get("agent", "")), f"{files}: {why}")

    def _keep_time(self, event: TaskEvent) -> None:
        self.began = self.began or event.at
        self.ended = max(self.ended, event.at)
        self.step["seconds"] = round(self.ended - self.began, 2)


@dataclass(slots=True)
class Errand(Course):
    """A step that `run` runs once."""

    ask: Ask = field(kw_only=True)
    given: dict[str, Any] = field(kw_only=True)
    key: str = field(kw_only=True)
    options: dict[str, Any] = field(kw_only=True, default_factory=dict)
    """Options of its delegation, beyond those that every step has."""
    outdated: Outdated = field(kw_only=True, default=never)

    async def run(self) -> Any:
        """Delegate, follow, and return the result.

        A result is rejected for good if it relies on decisions that have moved since, or if its step is outdated.

        Raises:
            ErrandFailed: the sub-task ended without a result; the code is `MOVED` if it was rejected as above.
        """
        try:
            async with await delegated(self.context, self.skill, self.given, self.key, **self.options) as child:
                self.step["task"] = child.id
                await self._through(child)
                value = await self._taken(child)
        except (TaskFailed, TaskRejected, TaskCanceled) as exc:
            self.step["state"], self.step["detail"] = "failed", exc.detail or exc.reason
            code = self._code if exc.reason in {"error", "attempts"} and self._code else exc.reason
            if exc.reason in {"rejected", "canceled"} and exc.detail == MOVED:
                code, self.step["detail"] = MOVED, self._moved or "it relied on a decision that has moved"
                await self.story(
                    "moved", self.step["agent"] or self.skill, f"{self.name} counts no more: {self.step['detail']}"
                )
            raise ErrandFailed(self.step, code, self.step["detail"]) from exc
        self.step["state"] = "completed"
        return value

    async def _taken(self, child: ChildTask) -> Any:
        """Return the result, unless a decision behind it has moved by now."""
        value = await result_of(child)
        moved = await self.outdated()
        if not moved:
            return value
        try:
            await child.reject(rework=False, reason=MOVED)
        except Refused as exc:
            if exc.code != "conflict":
                raise
            return value  # an earlier attempt has taken it, and gone on from there
        self._moved = self._moved or moved
        return await child.result()

    async def _through(self, child: ChildTask) -> None:
        """Follow it until there is a result, and have its questions answered."""
        async with self._telling_a_wait():
            async for event in child.events():
                await self._follow(event)
                if event.kind == "ask":
                    await self._relay(event, child)

    async def _relay(self, event: TaskEvent, child: ChildTask) -> None:
        """Pass a question up and the answer down. Both are kept, so a repeat after a crash asks nobody again."""
        content = event.value if isinstance(event.value, dict) else {"question": str(event.value)}
        options: list[str] | None = content.get("options")  # type: ignore[assignment]
        answer = await self.ask(str(content.get("question", "")), options)
        try:
            await child.answer(event.data["askNo"], answer)
        except Refused as exc:
            if exc.code not in {"already_answered", "conflict"}:
                raise
            # Somebody answered it directly, or an earlier attempt of ours did: that answer counts.
