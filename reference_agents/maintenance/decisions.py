"""What a run has decided, in the context that its tasks share: its plan, and the patch that may be deployed.

The lead writes both by compare-and-set, and a person may write the plan as well. Whoever works on them reads them here,
so that its result says on which revision it relies: where that has moved, nobody takes the result without a look (spec
CTX-10). It knows of no step; what is done again is the lead's business.
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
"""Of a reason, in the history."""


class Decided(TypedDict):
    """A revision of the plan."""

    rev: int
    by: str
    reason: str


async def heed(task: TaskContext, plan: Plan) -> None:
    """Rely on the plan that a task was given being the one in force, as far as its context has one.

    Raises:
        AttemptFailed: it is not.
    """
    there = await task.context.get(PLAN)
    if there.exists and there.value != plan:
        raise _moved(f"{PLAN} is at revision {there.rev}, by {there.author}, and this was to be done on another")


async def heed_approval(task: TaskContext, patch_digest: str) -> None:
    """Rely on a patch being the one that was approved, on the plan in force, as far as the context has a plan.

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
    """The decisions of one run, in the hands of its lead."""

    task: TaskContext
    plan: Plan
    """The one that is worked on."""
    rev: int = 0
    """Its revision in the context."""
    first: int = 0
    """The first revision of this run."""
    wrong: str = ""
    """Why what was looked at last is no plan for this run; empty where it is one."""

    async def begin(self) -> None:
        """Write the plan down, or find where an earlier attempt of this run did: from there it is gone through again.

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
        """Replace a revision of the plan. Where it is another by now the lead looks again, and contests nothing."""
        change = ContextChange(PLAN, plan, if_rev=rev)
        return (await self.task.context.write([change], reason=reason[:REASON_CHARS_MAX], rebases=True))[PLAN]

    async def outdated(self) -> str:
        """Return in words what has moved since the plan that is worked on, or nothing."""
        there = await self.task.context.get(PLAN)
        return "" if there.rev == self.rev else f"{PLAN} is at revision {there.rev}, by {there.author}"

    async def look(self) -> ContextValue:
        """Take the plan in force as the one that is worked on, and return what was there.

        What is no plan for this run is replaced by the one before, and the history says why.
        """
        there = await self.task.context.get(PLAN)
        self.wrong = _wrong(there.value)
        if not self.wrong:
            self.plan, self.rev = there.value, there.rev
            return there
        reason = f"revision {there.rev} is no plan to go on with: {self.wrong}"
        with contextlib.suppress(Conflict):  # it is another one already, which the next step will find
            self.rev = await self._write(self.plan, there.rev, reason)
        return there

    async def change(self, plan: Plan, reason: str) -> None:
        """Have another plan from now on; where somebody has written one since, that one."""
        if plan == self.plan:
            return
        try:
            self.rev = await self._write(plan, self.rev, reason)
        except Conflict:
            await self.look()  # perhaps an earlier attempt of this run has written just that
        else:
            self.plan = plan

    async def approve(self, patch_digest: str, by: str) -> bool:
        """Write down that a patch may be deployed; False where the plan it was made on has moved."""
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
        """Return the revisions of the plan since this run has one."""
        revisions = await self.task.context.history(PLAN)
        return [Decided(rev=it.rev, by=it.author, reason=it.reason) for it in revisions if it.rev >= self.first]


def _wrong(value: Any) -> str:
    """Return why a value is no plan of a change, or nothing."""
    from .intent import check_plan  # what it takes to read a schema is needed by few runs

    try:
        plan = check_plan(value)
    except AttemptFailed as exc:
        return exc.detail
    return "it would change nothing" if plan["kind"] == "find" else ""
