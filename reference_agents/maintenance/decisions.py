"""The decisions of a run, in the context that its tasks share: its plan, and the patch that may be deployed.

The lead writes both by compare-and-set; a person may write the plan as well. Agents that rely on them read them here,
so that their results say which revision they rely on: if it has moved, the result is not accepted without a look (spec
CTX-10). This module knows no steps; the lead decides what to do again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import TypedDict

from a2a import AttemptFailed, Conflict, ContextChange, ContextValue, TaskContext

from ..delegating import MOVED
from .shapes import Plan

__all__ = ["APPROVAL", "PLAN", "Decided", "Decisions", "heed", "heed_approval"]

PLAN: Final = "decisions/plan"
APPROVAL: Final = "decisions/approval"
REASON_CHARS_MAX: Final = 500
"""Characters of a reason in the history."""


class Decided(TypedDict):
    """A revision of the plan."""

    rev: int
    by: str
    reason: str


async def heed(task: TaskContext, plan: Plan) -> None:
    """Rely on the plan of a task, and check that it is the one in force, if its context has a plan.

    Raises:
        AttemptFailed: it is not.
    """
    there = await task.context.get(PLAN)
    if there.exists and there.value != plan:
        raise _moved(f"{PLAN} is at revision {there.rev}, by {there.author}, and this was to be done on another")


async def heed_approval(task: TaskContext, patch_digest: str) -> None:
    """Rely on a patch's approval, and check that it is for the plan in force, if the context has a plan.

    Raises:
        AttemptFailed: it is not.
    """
    there = await task.context.get_many([PLAN, APPROVAL])
    plan, approval = there[PLAN], there[APPROVAL]
    approved = approval.value if isinstance(approval.value, Mapping) else {}
    if plan.exists and (approved.get("patch"), approved.get("plan")) != (patch_digest, plan.rev):
        raise _moved(f"nobody has approved patch {patch_digest[:12]} on revision {plan.rev} of {PLAN}")


def _moved(detail: str) -> AttemptFailed:
    return AttemptFailed(detail, code=MOVED, retryable=False)


@dataclass(slots=True)
class Decisions:
    """The decisions of one run, as its lead keeps them."""

    task: TaskContext
    plan: Plan
    """The plan being worked on."""
    rev: int = 0
    """Its revision in the context."""
    first: int = 0
    """The first revision of this run."""
    wrong: str = ""
    """Why the value at the last look is not a plan for this run; empty if it is."""

    async def begin(self) -> None:
        """Write the plan, or find where an earlier attempt wrote it, and go through its revisions from there.

        Raises:
            AttemptFailed: another run that goes on has its plan in this context.
        """
        revisions = await self.task.context.history(PLAN)
        ours = next((it.rev for it in revisions if it.task == self.task.id), 0)
        if not ours:
            await self._make_sure_nobody_needs(revisions)
            reason = "as the request was understood"
            known = revisions[-1].rev if revisions else 0
            try:
                ours = await self._write(self.plan, known, reason)
            except Conflict as conflict:
                raise AttemptFailed(
                    f"somebody else has just written {PLAN} into this context", retryable=True
                ) from conflict
        self.rev = self.first = ours

    async def _make_sure_nobody_needs(self, revisions: list[ContextValue]) -> None:
        for writer in sorted({it.task for it in revisions if it.task}):
            state = (await self.task.outcome(writer))["state"]
            if state not in {"completed", "failed", "canceled", "rejected", "gone"}:
                detail = f"task {writer} has its plan in this context and goes on: delegate this in another one"
                raise AttemptFailed(detail, code="context_taken", retryable=False)

    async def _write(self, plan: Plan, rev: int, reason: str) -> int:
        """Replace a revision of the plan. If it has changed meanwhile, the lead looks again, and contests nothing."""
        change = ContextChange(PLAN, plan, if_rev=rev)
        return (await self.task.context.write([change], reason=reason[:REASON_CHARS_MAX], rebases=True))[PLAN]

    async def outdated(self) -> str:
        """Return in words what has moved since the plan being worked on, or an empty text."""
        there = await self.task.context.get(PLAN)
        return "" if there.rev == self.rev else f"{PLAN} is at revision {there.rev}, by {there.author}"

    async def look(self) -> ContextValue:
        """Adopt the plan in force as the one being worked on, and return what was there.

        A value that is not a plan for this run is replaced by the previous plan, and the history says why.
        """
        there = await self.task.context.get(PLAN)
        self.wrong = _wrong(there.value)
        if not self.wrong:
            self.plan, self.rev = there.value, there.rev
            return there
        reason = f"revision {there.rev} is no plan to go on with: {self.wrong}"
        with contextlib.suppress(Conflict):  # it has already changed again, which the next step will find
            self.rev = await self._write(self.plan, there.rev, reason)
        return there

    async def change(self, plan: Plan, reason: str) -> None:
        """Use another plan from now on, or the one that somebody has written since."""
        if plan == self.plan:
            return
        try:
            self.rev = await self._write(plan, self.rev, reason)
        except Conflict:
            await self.look()  # perhaps an earlier attempt of this run has written just that
        else:
            self.plan = plan

    async def approve(self, patch_digest: str, by: str) -> bool:
        """Record that a patch may be deployed; False if the plan it was made on has moved."""
        context = self.task.context
        known, value = await context.get(APPROVAL), {"patch": patch_digest, "plan": self.rev, "by": by}
        if known.value == value:
            return True
        try:
            await context.put(APPROVAL, value, if_rev=known.rev, depends={PLAN: self.rev}, reason=f"approved: {by}")
        except Conflict:
            return False
        return True

    async def told(self) -> list[Decided]:
        """Return the revisions of the plan since the first one of this run."""
        revisions = await self.task.context.history(PLAN)
        return [Decided(rev=it.rev, by=it.author, reason=it.reason) for it in revisions if it.rev >= self.first]


def _wrong(value: Any) -> str:
    """Return why a value is not a plan of a change, or an empty text."""
    from .intent import check_plan  # imported here because few runs need to read a schema

    try:
        plan = check_plan(value)
    except AttemptFailed as exc:
        return exc.detail
    return "it would change nothing" if plan["kind"] == "find" else ""
