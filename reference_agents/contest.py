"""A step that several agents do without knowing of each other, and what becomes of it where they contradict each other.

One task stands for all of it: the coordinator finds the contradiction, tries the rungs and keeps the record. Here its
members, and whoever is asked at a rung, are followed like any other step. It knows nothing of what the step is about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

# pydantic makes the schemas of the skills, and on Python 3.11 it takes only this TypedDict.
from typing_extensions import TypedDict

from a2a import ChildTask

from .delegating import LOOK_AGAIN, MOVED, TIMERS
from .errand import Course, Errand

__all__ = ["Conflict", "Contest", "Heard", "Rules", "settled"]

LAST_WORDS: Final = 5.0
"""Seconds in which whoever is not needed any more may end; after that nobody listens."""

Heard = Callable[[dict[str, Any]], Awaitable[None]]
"""Told what a member came to: its agent, its state, and its value or why there is none."""


class Conflict(TypedDict):
    """A contradiction between agents and how it was settled, in short; `a2a conflict show` has all of it."""

    conflict: str
    agents: list[str]
    """Who contradicted whom."""
    tried: list[str]
    """Each rung of the ladder, what it came to and why."""
    outcome: str
    by: str
    """The rung that decided, or the person."""
    chosen: str
    """Whose answer was taken; empty where it was made of several, or none was."""
    evidence: list[str]
    """The tasks by which the last rung was decided, who did them, and what they say."""
    dissent: list[str]
    """Whose answers were not taken as they were; the record keeps them."""
    seal: str
    """The digest of the record."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How many do a step, and who decides."""

    copies: int
    comparator: str
    ladder: Sequence[str | dict[str, Any]]
    ballot: float
    """Seconds others are waited for once two contradict each other."""
    queue: float
    """Seconds a member may wait for its agent."""


@dataclass(slots=True)
class Contest(Errand):
    """A step of several agents, run once by `run`."""

    rules: Rules = field(kw_only=True)
    heard: Heard = field(kw_only=True)
    enter: Callable[[Course], None] = field(kw_only=True)
    """Given the course of whoever has a part in it."""
    record: dict[str, Any] | None = None
    """The conflict, where there was one; sealed once `run` is over."""
    author: str = ""
    """Whose answer the result is; empty where it was made of several."""
    _parts: dict[str, Course] = field(default_factory=dict)
    _conflict: str = ""
    _waits: bool = False

    def __post_init__(self) -> None:
        Errand.__post_init__(self)
        self.options = {"timers": TIMERS | {"queue": self.rules.queue}}
        if self.rules.copies > 1:
            self.options |= {
                "copies": self.rules.copies, "comparator": self.rules.comparator, "resolve": self.rules.ladder,
                "ballot": self.rules.ballot,
            }  # fmt: skip

    async def _through(self, child: ChildTask) -> None:
        if self.rules.copies == 1:
            self.enter(self)
            await Errand._through(self, child)
            outcome = await self.context.outcome(child.id)
            has_value = outcome["state"] == "reported"  # it is completed once the lead has read it
            await self.heard(outcome | ({"state": "completed"} if has_value else {}))
            self.author = self.step["agent"]
            return
        is_over = anyio.Event()
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._look, child, is_over)
            await Errand._through(self, child)
            is_over.set()
        if self._conflict:
            self.record = await self.context.conflict(self._conflict)
            chosen = self.record["resolution"]["ref"]
            self.author = next((it["agent"] for it in self.record["subjects"] if it["ref"] == chosen), "")
        else:
            classes = (await self.context.get(child.id))["metadata"]["group"]["classes"]
            self.author = self._parts[classes[0][0]].step["agent"] if classes else ""

    async def _look(self, child: ChildTask, is_over: anyio.Event) -> None:
        """Follow everybody who comes to have a part in it."""
        group = child.id
        async with anyio.create_task_group() as followers:
            is_last = False
            while not is_last:
                is_last = is_over.is_set()
                shown = (await self.context.get(group))["metadata"]
                for part in shown.get("children", ()):
                    if part not in self._parts:
                        skill = (await self.context.get(part))["metadata"]["skill"]
                        name = self.name if skill == self.skill else skill.partition("_")[0]
                        self._parts[part] = Course(self.context, name, skill, self.story, self.note)
                        self.enter(self._parts[part])
                        followers.start_soon(self._follow_part, part)
                await self._tell(shown)
                if self._waits and not is_last and await self.outdated():
                    await child.cancel(MOVED)  # what it is about is another by now: a person need not decide it
                with anyio.move_on_after(LOOK_AGAIN):
                    await is_over.wait()
            followers.cancel_scope.deadline = anyio.current_time() + LAST_WORDS

    async def _follow_part(self, part: str) -> None:
        course = self._parts[part]
        await course.watch(part)
        if course.skill == self.skill:
            await self.heard(await self.context.outcome(part))

    async def _tell(self, shown: dict[str, Any]) -> None:
        """Tell of a contradiction, and of its waiting for a person, when it comes to that."""
        for conflict in shown.get("conflicts", ()):
            # Others are about what the result relies on, and are the errand's business.
            if not self._conflict and (await self.context.conflict(conflict))["kind"] == "result":
                self._conflict = conflict
                await self.story("conflict", self.name, f"a2a conflict show {conflict}")
        is_idle = all(course.step["state"] != "working" for course in self._parts.values())
        if shown["state"] != "disputed" or self._waits or not is_idle:
            return
        *_, last = (await self.context.conflict(self._conflict))["stages"] or [None]
        if last is not None and last["strategy"] == "human" and last["outcome"] == "open":
            self._waits = True
            how = f"a2a conflict resolve {self._conflict} TASK"
            await self.story("person", self.name, f"it waits for a person: {how}")


def settled(record: dict[str, Any], in_short: Callable[[Any], str]) -> Conflict:
    """Say in short how a conflict was settled, and by what evidence.

    Args:
        in_short: what an answer says, in words.
    """
    tried = []
    for stage in record["stages"]:
        failed = [answer["detail"] for answer in stage["answers"] if answer["detail"]][:1]
        tried.append(f"{stage['strategy']}: {stage['outcome']}, {'; '.join([stage['why'], *failed])}")
    asked = record["stages"][-1]["answers"] if record["stages"] else []
    resolution = record["resolution"]
    evidence = []
    for answer in asked:
        words = in_short(answer["value"]) if answer["state"] == "completed" else answer["detail"]
        evidence.append(f"{answer['ref']} by {answer['agent'] or 'nobody'}" + (f": {words}" if words else ""))
    author = {subject["ref"]: subject["agent"] for subject in record["subjects"]}
    return Conflict(
        conflict=record["conflict"], agents=[subject["agent"] for subject in record["subjects"]], tried=tried,
        outcome=resolution["outcome"], by=resolution["by"], chosen=author.get(resolution["ref"], ""),
        evidence=evidence, dissent=[author[ref] for ref in record["dissent"] if ref in author], seal=record["seal"],
    )  # fmt: skip
