"""A step that several agents do independently, and what happens if they contradict each other.

One task stands for all of it: the coordinator finds the contradiction, tries the rungs and keeps the record. This
module follows the members of the group, and the agents asked at a rung, like any other step. It does not know what the
step is about.
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
"""Seconds in which a task that is no longer needed may end; after that nobody listens."""

Heard = Callable[[dict[str, Any]], Awaitable[None]]
"""Told the outcome of a member: its agent, its state, and its value or why there is none."""


class Conflict(TypedDict):
    """A contradiction between agents and how it was settled, in short; `a2a conflict show` has all of it."""

    conflict: str
    agents: list[str]
    """The agents that contradicted each other."""
    tried: list[str]
    """Each rung of the ladder, its outcome and why."""
    outcome: str
    by: str
    """The rung that decided, or the person."""
    chosen: str
    """The agent whose answer was taken; empty if it was made of several, or none was taken."""
    evidence: list[str]
    """The tasks by which the last rung was decided, who did them, and what they say."""
    dissent: list[str]
    """The agents whose answers were not taken unchanged; the record keeps the answers."""
    seal: str
    """The digest of the record."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How many agents do a step, and who decides."""

    copies: int
    comparator: str
    ladder: Sequence[str | dict[str, Any]]
    ballot: float
    """Seconds to wait for other members once two contradict each other."""
    queue: float
    """Seconds a member may wait for its agent."""


@dataclass(slots=True)
class Contest(Errand):
    """A step of several agents, run once by `run`."""

    rules: Rules = field(kw_only=True)
    heard: Heard = field(kw_only=True)
    enter: Callable[[Course], None] = field(kw_only=True)
    """Called with the course of each agent that takes part."""
    record: dict[str, Any] | None = None
    """The conflict, if there was one; sealed once `run` is over."""
    author: str = ""
    """The agent whose answer is the result; empty if it was made of several."""
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
        """Follow every agent that takes part."""
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
                    await child.cancel(MOVED)  # its subject has changed, so a person need not decide it
                with anyio.move_on_after(LOOK_AGAIN):
                    await is_over.wait()
            followers.cancel_scope.deadline = anyio.current_time() + LAST_WORDS

    async def _follow_part(self, part: str) -> None:
        course = self._parts[part]
        await course.watch(part)
        if course.skill == self.skill:
            await self.heard(await self.context.outcome(part))

    async def _tell(self, shown: dict[str, Any]) -> None:
        """Report a contradiction when it arises, and when it waits for a person."""
        for conflict in shown.get("conflicts", ()):
            # Other conflicts are about what the result relies on; the errand handles those.
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
    """Summarise how a conflict was settled, and by what evidence.

    Args:
        in_short: puts an answer into words.
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
