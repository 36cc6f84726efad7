"""The steps of one attempt at a request: each is an errand with its own key, reported to anybody who watches.

A step's input is part of its key, so the same step after a crash is the same sub-task, and another round is another
one. This module does not know which steps exist, nor what follows from them: `lead` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from a2a import TaskContext

from .contest import Contest, Heard, Rules
from .delegating import TIMERS
from .errand import Ask, Course, Errand, Note, Outdated, Step, Story, never

__all__ = ["Steps", "digest"]


@dataclass(slots=True)
class Steps:
    """The steps delegated so far, and how they are reported."""

    task: TaskContext
    ask: Ask
    """Passes a step's question to somebody who can answer."""
    courses: list[Course] = field(default_factory=list)
    rounds: int = 0
    """How often a patch was asked for; later rounds are named in the story."""
    outdated: Outdated = never
    """Returns in words which decisions behind the steps have moved."""
    span: tuple[float, float] = (0.0, 0.0)
    """The current part of the whole, as fractions, for progress."""

    async def run(
        self,
        name: str,
        skill: str,
        key: str,
        *,
        to: str | None = None,
        queue: float | None = None,
        resources: Sequence[str] = (),
        **given: Any,
    ) -> Any:
        """Have an agent do a step, and return its result.

        Args:
            name: for people.
            key: the beginning of the sub-task's key.
            to: the one agent that may do it.
            queue: seconds it may wait for an agent.
            resources: names to claim for each attempt.
            given: the input.

        Raises:
            ErrandFailed: it ended without a result.
        """
        options: dict[str, Any] = {"resources": resources} if to is None else {"resources": resources, "to": to}
        if queue is not None:
            options["timers"] = TIMERS | {"queue": queue}
        unique = f"{key}-{digest(given)}"
        errand = Errand(
            *self._told(name, skill), ask=self.ask, given=given, key=unique, options=options, outdated=self.outdated
        )
        self.courses.append(errand)
        return await errand.run()

    def contest(self, name: str, skill: str, key: str, rules: Rules, heard: Heard, **given: Any) -> Contest:
        """Return a step that several agents do, ready to run; everybody who takes part is a step of the account.

        Args:
            rules: how many agents do it, and who decides if they contradict each other.
            heard: told the outcome of each.
        """
        unique = f"{key}-{digest(given)}"
        return Contest(
            *self._told(name, skill), ask=self.ask, given=given, key=unique, rules=rules, heard=heard,
            outdated=self.outdated, enter=self.courses.append,
        )  # fmt: skip

    def _told(self, name: str, skill: str) -> tuple[TaskContext, str, str, Story, Note]:
        shown = f"{name} (round {self.rounds})" if self.rounds > 1 else name
        return self.task, shown, skill, self.story, self.note

    async def story(self, kind: str, who: str, what: str) -> None:
        """Tell anybody who watches what happened; this is kept."""
        await self.task.artifact("story", {"kind": kind, "who": who, "what": what}, append=True, last=False)

    async def note(self, fraction: float | None, words: str) -> None:
        """Tell anybody who watches what is going on."""
        low, high = self.span
        await self.task.progress(None if fraction is None else low + (high - low) * fraction, words)

    @property
    def accounts(self) -> list[Step]:
        """The account of each step so far."""
        return [course.step for course in self.courses]

    @property
    def seconds(self) -> float:
        """How long the steps took in all, by the coordinator's clock."""
        began = min((course.began for course in self.courses if course.began), default=0.0)
        ended = max((course.ended for course in self.courses), default=0.0)
        return round(max(0.0, ended - began), 2)


def digest(value: Any) -> str:
    """Return a short name for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
