"""Planted variants of the rules: each is one rule written wrongly, and has to be caught by a named invariant."""

from __future__ import annotations

from typing import Any, NamedTuple

from a2a.protocol.states import TaskState

from .profiles import SMALL, Sized, walk_one
from .rules import Rules
from .task import ENDED, LAPSED, Task
from .walk import Found
from .wire import Wire, WireRules

__all__ = ["VARIANTS", "Variant", "walk_variant"]

_DISPUTED = TaskState.DISPUTED.value
_WAITS = frozenset({TaskState.REPORTED.value, _DISPUTED})


class NoFenceCheck(Rules):
    """Whoever ever had an attempt at the task has the current one."""

    def is_current(self, task: Task, fence: int) -> bool:
        return task.cur > 0


class HolderInsteadOfFence(Rules):
    """A worker's older attempt counts as its newer one."""

    def is_current(self, task: Task, fence: int) -> bool:
        return task.cur > 0 and task.holders[task.cur - 1] == task.holders[fence - 1]


class OwnerNotChecked(Rules):
    """A fence in the wrong hands is as good as in the right ones."""

    def is_strangers(self, task: Task, worker: int, fence: int) -> bool:
        return False


class WithdrawnOfferAccepted(Rules):
    """An offer that was withdrawn can be accepted while another one is out."""

    def is_on_offer(self, task: Task, fence: int) -> bool:
        return task.offer > 0 and fence > task.cur


class GrantedBesideALapsedLease(Rules):
    """A task whose holder may still come back is granted at once to the next."""

    def is_granted_at_once(self, task: Task) -> bool:
        return True


class StaleHeartbeatRevives(Rules):
    """A sign of life under a superseded fence revives the task."""

    def may_revive(self, task: Task, case: str) -> bool:
        return task.lapsed and case in (LAPSED, "stale") and task.revivals < self.limits.revivals


class RevivalsUnbounded(Rules):
    """A lapsed lease comes back as often as it likes."""

    def may_revive(self, task: Task, case: str) -> bool:
        return case == LAPSED and not task.evicted


class LossesUnbounded(Rules):
    """A task whose agents keep dying is offered once more."""

    def lost_too_often(self, task: Task) -> Task:
        return task


class ReworkKeepsTheFenceOpen(Rules):
    """A result that is sent back leaves its fence open."""

    def rework(self, task: Task) -> Task:
        return super().rework(task)._replace(is_open=True)


class ConfirmNotBoundToItsHash(Rules):
    """A word on another result settles this one."""

    def is_meant(self, result: str, digest: str) -> bool:
        return True


class ReportAdmittedTwice(Rules):
    """A report that comes again is admitted again."""

    def known(self, task: Task, fence: int) -> str:
        return ""

    def is_spent(self, case: str) -> bool:
        return False


class KilledTaskTakesAResult(Rules):
    """A result that comes after a kill is admitted."""

    def is_killed(self, task: Task) -> bool:
        return False


class CancelOverwritesTheEnd(Rules):
    """A task that has ended can be canceled."""

    def wind_down(self, task: Task, mode: str) -> tuple[Task, str]:
        if task.state in ENDED:
            return task._replace(state=TaskState.CANCELED.value), "canceled"
        return super().wind_down(task, mode)


class NoIdempotencyCheck(Rules):
    """The same key makes another task."""

    def knows_key(self) -> bool:
        return False


class SecondAnswerCounts(Rules):
    """A second answer takes the place of the first."""

    def is_open_question(self, known: str) -> bool:
        return True


class DeadlineTakesTheResult(Rules):
    """A result that waits for a word is lost to the deadline."""

    def is_in_time(self, task: Task) -> bool:
        return False


class TimerInTheGrace(Rules):
    """After a restart the timers go on at once."""

    def timers_rest(self, in_grace: bool) -> bool:
        return False


class EvictedRevives(Rules):
    """An attempt that was taken away comes back by a sign of life."""

    def may_revive(self, task: Task, case: str) -> bool:
        return case == LAPSED and task.revivals < self.limits.revivals


class StallNotSeen(Rules):
    """A worker that hangs while its heartbeat goes on keeps its task for ever."""

    def stall_timer(self, task: Task) -> Task | None:
        return None


class LeaseNeverExpires(Rules):
    """A worker that is dead keeps its task for ever."""

    def lease_timer(self, task: Task) -> Task | None:
        return None


class OfferNeverWithdrawn(Rules):
    """An offer that nobody answers stays out."""

    def offer_timer(self, task: Task) -> Task | None:
        return None


class NobodyConfirms(Rules):
    """A result nobody says a word on waits for ever."""

    def confirm_timer(self, task: Task) -> Task | None:
        return None


class ChildOutlivesItsParent(Rules):
    """Nobody cancels the sub-task of a task that has ended."""

    def follow_parent(self, parent: Task, child: Task, mode: str) -> Task:
        return child


class OrphanNotSeen(Rules):
    """A result that is sent back after the parent's end makes the sub-task go on for nobody."""

    def is_orphan(self, parent: Task, child: Task) -> bool:
        return False


class WordWhileDisputed(Rules):
    """A word on a result counts while a conflict about it is open."""

    def waits_for_a_word(self, task: Task) -> bool:
        return task.state in _WAITS


class SilenceWhileDisputed(Rules):
    """Silence rejects a result while a conflict about it is open."""

    def confirm_timer(self, task: Task) -> Task | None:
        return self.end(task, "fail", "timer") if task.state == _DISPUTED else super().confirm_timer(task)


class DeadlineTakesTheDisputed(Rules):
    """A result that a conflict is open about is lost to the deadline."""

    def is_in_time(self, task: Task) -> bool:
        return task.state != _DISPUTED and super().is_in_time(task)


class CancelTakesTheDisputed(Rules):
    """A cancel that comes again after the result ends the task, where a conflict about that is open."""

    def came_too_late(self, task: Task) -> bool:
        return task.state != _DISPUTED and super().came_too_late(task)


class SecondConflictOpens(Rules):
    """A raise opens another conflict about a result while one is open."""

    def may_dispute(self, task: Task) -> bool:
        return task.state in _WAITS

    def dispute(self, task: Task) -> Task:
        return task._replace(conflicts=(*task.conflicts, "?")) if task.conflicts else super().dispute(task)


class RaisesUnbounded(Rules):
    """A result is disputed as often as somebody likes."""

    def may_open_another(self, task: Task) -> bool:
        return True


class DecidedTwice(Rules):
    """A person's word changes how a conflict was decided."""

    def vote(self, task: Task, stands: bool) -> tuple[Task, str]:
        if task.state != TaskState.REPORTED or not task.conflicts:
            return super().vote(task, stands)
        return task._replace(conflicts=(*task.conflicts[:-1], "stands" if stands else "overruled")), "ok"


class EffectAfterwards(Rules):
    """A conflict is closed, and what follows for its task is left to the clock."""

    def vote(self, task: Task, stands: bool) -> tuple[Task, str]:
        if not self.may_decide(task):
            return task, "conflict"
        return task._replace(conflicts=(*task.conflicts[:-1], "stands" if stands else "overruled")), "ok"

    def rung_timer(self, task: Task, stands: bool) -> Task | None:
        return self.resolve(task, stands) if task.state == _DISPUTED else None


class OverruledStands(Rules):
    """The end of a conflict does not mark the result that was not chosen."""

    def resolve(self, task: Task, stands: bool) -> Task:
        return super().resolve(task, stands)._replace(overruled=task.overruled)


class OverruledBySilenceAccepted(Rules):
    """Silence accepts a result that was overruled."""

    def accepts_silence(self, task: Task) -> bool:
        return True


class ConflictOutlivesItsTask(Rules):
    """A conflict about a task that was canceled stays open."""

    def end(self, task: Task, event: str, by: str, digest: str = "") -> Task:
        return super().end(task, event, by, digest)._replace(conflicts=task.conflicts)


class NobodyDecides(Rules):
    """A conflict on which nobody says a word stays open for ever."""

    def rung_timer(self, task: Task, stands: bool) -> Task | None:
        return None


class CreatedBeforeAppend(WireRules):
    """`task.created` leaves before the task is durable."""

    def leaves_at_once(self, wire: Wire, answer: tuple[Any, ...]) -> bool:
        return answer[1] == "created" or super().leaves_at_once(wire, answer)


class VerdictBeforeAppend(WireRules):
    """`task.verdict` leaves before the report is durable."""

    def leaves_at_once(self, wire: Wire, answer: tuple[Any, ...]) -> bool:
        return answer[1] == "verdict" or super().leaves_at_once(wire, answer)


class MailBeforeAppend(WireRules):
    """Mail leaves before what it tells of is durable."""

    def told_of(self, wire: Wire) -> Task | None:
        return wire.task


class Variant(NamedTuple):
    """A variant, where it is walked, and which invariants may find it first."""

    rules: type[Rules]
    profile: str
    caught_by: tuple[str, ...]

    @property
    def says(self) -> str:
        return (self.rules.__doc__ or "").strip()


VARIANTS: tuple[Variant, ...] = (
    Variant(NoFenceCheck, "every word", ("I6", "I7", "L8")),
    Variant(HolderInsteadOfFence, "every word", ("I6", "I7", "L8")),
    Variant(OwnerNotChecked, "every word", ("I12",)),
    Variant(WithdrawnOfferAccepted, "auto", ("I5", "I7")),
    Variant(GrantedBesideALapsedLease, "every word", ("I5",)),
    Variant(StaleHeartbeatRevives, "auto", ("I7",)),
    Variant(RevivalsUnbounded, "lapses", ("L10",)),
    Variant(LossesUnbounded, "every word", ("L10",)),
    Variant(ReworkKeepsTheFenceOpen, "every word", ("I7", "I8")),
    Variant(ConfirmNotBoundToItsHash, "every word", ("I10",)),
    Variant(ReportAdmittedTwice, "every word", ("I6", "I8", "STATE-2")),
    Variant(KilledTaskTakesAResult, "every word", ("CANCEL-4",)),
    Variant(CancelOverwritesTheEnd, "every word", ("I9", "I11")),
    Variant(NoIdempotencyCheck, "every word", ("I1",)),
    Variant(SecondAnswerCounts, "questions", ("I22",)),
    Variant(DeadlineTakesTheResult, "every word", ("TIME-3",)),
    Variant(TimerInTheGrace, "every word", ("I19",)),
    Variant(EvictedRevives, "taken away", ("LEASE-10",)),
    Variant(StallNotSeen, "taken away", ("L1",)),
    Variant(LeaseNeverExpires, "every word", ("L1",)),
    Variant(OfferNeverWithdrawn, "every word", ("L1",)),
    Variant(NobodyConfirms, "every word", ("L1",)),
    Variant(ChildOutlivesItsParent, "tree", ("TREE-4",)),
    Variant(OrphanNotSeen, "tree", ("TREE-4",)),
    Variant(WordWhileDisputed, "disputes", ("I23", "STATE-2")),
    Variant(SilenceWhileDisputed, "disputes", ("I23",)),
    Variant(DeadlineTakesTheDisputed, "disputes", ("TIME-3",)),
    Variant(CancelTakesTheDisputed, "disputes", ("CANCEL-8",)),
    Variant(SecondConflictOpens, "disputes", ("I24",)),
    Variant(RaisesUnbounded, "disputes", ("L10",)),
    Variant(DecidedTwice, "disputes", ("I24",)),
    Variant(EffectAfterwards, "disputes", ("CONFLICT-7",)),
    Variant(OverruledStands, "disputes", ("CONFLICT-7",)),
    Variant(OverruledBySilenceAccepted, "disputes", ("CONFLICT-15",)),
    Variant(ConflictOutlivesItsTask, "disputes", ("CONFLICT-7",)),
    Variant(NobodyDecides, "disputes", ("L1",)),
    Variant(CreatedBeforeAppend, "wire", ("I2",)),
    Variant(VerdictBeforeAppend, "wire", ("I3",)),
    Variant(MailBeforeAppend, "wire", ("R2",)),
)


def walk_variant(variant: Variant) -> Found:
    """Walk one variant on its profile."""
    sized: Sized = next(sized for sized in SMALL if sized.profile.name == variant.profile)
    return walk_one(sized, variant.rules)[0]
