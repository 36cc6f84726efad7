"""What must hold of every state and every step; the names are those of SEMANTICS 4.1.

They compare what was with what is, and share nothing with the rules but the words of a task.
"""

from __future__ import annotations

from a2a.protocol.states import TaskState, outside

from .task import ENDED, HASHES, Limits, Task, dead
from .world import Profile, Step, World

__all__ = ["Violation", "check", "check_task"]

_WAITS_FOR_A_WORD = frozenset({TaskState.REPORTED.value, TaskState.DISPUTED.value})
"""Where a result is, that of an open conflict included."""
_MAY_OUTLIVE = frozenset({*ENDED, TaskState.CANCELING.value, *_WAITS_FOR_A_WORD})
"""Where a sub-task may be after its parent's end: it has ended, winds down, or its result had come first."""
_OF_FENCE = frozenset({"sign", "hello held", "decline", "yield", "hand off", "ask", "report"})
"""Inputs under a fence; the worker and the fence are the two things after the task."""


class Violation(AssertionError):
    """A property does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def check(profile: Profile, before: World, step: Step) -> None:
    """Look at one step.

    Raises:
        Violation: it breaks a promise.
    """
    after = step.world
    if after.twins:
        raise Violation("I1", "one key has made two tasks")
    number = step.what[1]
    is_known = number < len(before.tasks)
    if after is not before:
        _changes(profile, before, step, is_known)
    if is_known:
        _answer(step, before.tasks[number], after.tasks[number])


def _changes(profile: Profile, before: World, step: Step, is_known: bool) -> None:
    after, number = step.world, step.what[1]
    if before.grace and step.what[0].endswith("timer"):
        raise Violation("I19", f"the {step.what[0]} fires in the grace after a restart")
    if step.what[0] == "deadline timer" and before.tasks[number].state in _WAITS_FOR_A_WORD:
        raise Violation("TIME-3", "a result that was reported in time is lost to the deadline")
    for old, new in zip(before.tasks, after.tasks, strict=False):
        if new is not old:
            check_task(profile.limits, old, new)
    if is_known and step.what[0] in _OF_FENCE:
        _sender(step, before.tasks[number], after.tasks[number])
    if is_known and step.what[0] == "confirm":
        _confirmed(step, before.tasks[number], after.tasks[number])
    if len(after.tasks) == 2 and after.tasks[0].state in ENDED and after.tasks[1].state not in _MAY_OUTLIVE:
        raise Violation("TREE-4", f"the parent has ended as {after.tasks[0].state}, its child {after.tasks[1].state}")


_REFUSED_IN: dict[str, frozenset[str]] = {
    "offer": frozenset(state.value for state in TaskState if state is not TaskState.QUEUED),
    "decline": frozenset({"parked", "canceling"}),
    "ask": frozenset({"canceling"}),
    "cancel": ENDED,
    "deadline timer": ENDED,
}
"""Where the table may refuse an input that a rule lets through; any other has a step wherever a rule does."""


def _answer(step: Step, old: Task, new: Task) -> None:
    """The sender is told what is so (I3, I11, L8)."""
    name, word = step.what[0], step.word
    if word == "refused" and old.state not in _REFUSED_IN.get(name, ()):
        raise Violation("STATE-2", f"the table has no step for a {name} that counts while the task is {old.state}")
    if name == "report":
        fence, outcome = step.what[3], step.what[4]
        if word in ("admitted", "duplicate") and new.outcomes[fence - 1] != outcome:
            raise Violation(
                "I3", f"a report of {outcome} is {word}, admitted was {new.outcomes[fence - 1] or 'nothing'}"
            )
        if word == "admitted" and old.outcomes[fence - 1]:
            raise Violation("I6", f"under fence {fence} {old.outcomes[fence - 1]} was admitted, and now {outcome}")
    elif name == "cancel":
        said = {"canceled": {"canceled"}, "pending": {"canceling"}, "too_late": _WAITS_FOR_A_WORD}.get(word)
        if said is not None and new.state not in said:
            raise Violation("I11", f"the canceler is told {word}, and the task is {new.state}")
        if new is not old and old.state in _WAITS_FOR_A_WORD and old.cancel == step.what[2]:
            raise Violation("CANCEL-8", f"a cancel that comes again after the result makes the task {new.state}")
        if said is None and old.state not in ENDED:
            raise Violation("I11", f"a cancel of a task that is {old.state} is {word}")
    elif name == "sign" and word == "lease":
        running = new.cur == step.what[3] and new.is_open and not new.lapsed
        if not running:
            raise Violation("L8", f"fence {step.what[3]} is told that its lease runs, and {new.cur} is current")


def _sender(step: Step, old: Task, new: Task) -> None:
    """Nothing that comes without authority changes the task (I7, I8, I12)."""
    worker, fence = step.what[2], step.what[3]
    if new is old:
        return
    if fence > len(old.holders) or old.holders[fence - 1] != worker:
        raise Violation("I12", f"worker {worker} changes the task under fence {fence}, which is not its own")
    if dead(old) >> fence & 1:
        rejected = any(fence == result[0] for result in old.results[: old.rev])
        raise Violation("I8" if rejected else "I7", f"a {step.what[0]} under the dead fence {fence} changes the task")


def _confirmed(step: Step, old: Task, new: Task) -> None:
    """A word moves a task only on the result it names (I10)."""
    if new is old:
        return
    rev, digest = step.what[2], step.what[3]
    if not old.results or rev != old.rev or old.results[-1][1] != digest or len(old.results) != rev + 1:
        raise Violation("I10", f"a word on revision {rev} {digest} moves a task with the results {old.results}")


def check_task(limits: Limits, old: Task, new: Task) -> None:
    """What a step makes of one task."""
    if old.state in ENDED:
        pair = {old.state, new.state}
        name = "I11" if "canceled" in pair else "I9"
        raise Violation(name, f"it had ended as {old.state}, and changes to {new.state}")
    risen = dead(old) & ~dead(new)
    if risen:
        raise Violation("I7", f"fence {risen.bit_length() - 1} was dead, and has authority again")
    if new.cur < old.cur:
        raise Violation("I4", f"fence {new.cur} follows {old.cur}")
    if new.cur != old.cur and old.is_open and not (old.lapsed and old.offer == new.cur):
        raise Violation("I5", f"fence {new.cur} becomes current while {old.cur} is open, on offer was {old.offer}")
    if old.lapsed and not new.lapsed and new.cur == old.cur and old.evicted:
        raise Violation("LEASE-10", f"an attempt that was taken away for {old.evicted} revives")
    if new.offer and new.is_open and not new.lapsed:
        raise Violation("I5", f"fence {new.offer} is on offer while {new.cur} runs")
    if new.results != old.results:
        _result(old, new)
        if old.cancel == "kill" and old.state == TaskState.CANCELING:
            raise Violation("CANCEL-4", "a result is admitted after a kill")
    if new.state == "completed":
        good = bool(new.results) and len(new.results) == new.rev + 1 and new.results[-1][1] == new.digest in HASHES
        if not good or new.by not in ("timer", "auto", "delegator"):
            raise Violation("I10", f"it completes by {new.by} with {new.digest or 'nothing'}, results {new.results}")
    for was, now in zip(old.asks, new.asks, strict=False):
        if was not in ("", "?", "-") and now != was:
            raise Violation("I22", f"a question was answered {was}, and now {now}")
    if "?" in new.asks and new.state in ("queued", "offered", "leased", "reported"):
        raise Violation("I22", f"a question is open while the task is {new.state}")
    _disputed(old, new)
    _counts(limits, new)
    was_shown = outside(TaskState(old.state), was_leased=old.cur > 0)
    shown = outside(TaskState(new.state), was_leased=new.cur > 0)
    if shown == "TASK_STATE_SUBMITTED" and was_shown != shown:
        raise Violation("I30", f"seen from outside it goes from {was_shown} to {shown}")


def _result(old: Task, new: Task) -> None:
    """At most one result of a revision, under the fence that was current and open (I6, I8)."""
    if new.results[: len(old.results)] != old.results or len(new.results) != len(old.results) + 1:
        raise Violation("I6", f"the results {old.results} become {new.results}")
    fence = new.results[-1][0]
    if len(new.results) != old.rev + 1:
        raise Violation("I6", f"revision {old.rev} has the results {new.results}")
    if any(fence == result[0] for result in old.results):
        raise Violation("I8", f"a rejected result's fence {fence} has another one")
    if not (old.is_open and old.cur == fence) and old.offer != fence:
        raise Violation("I6", f"a result under fence {fence} is admitted, current is {old.cur}, on offer {old.offer}")


def _disputed(old: Task, new: Task) -> None:
    """Nothing settles while a conflict is open, which ends once, together with what follows (I23, I24, CONFLICT-7)."""
    if not new.conflicts:
        return
    for was, now in zip(old.conflicts, new.conflicts, strict=False):
        if was not in (now, "?"):
            raise Violation("I24", f"a conflict was decided as {was}, and now as {now}")
    if len(new.conflicts) < len(old.conflicts) or new.conflicts.count("?") > 1:
        raise Violation("I24", f"the conflicts {old.conflicts} become {new.conflicts}")
    if ("?" in new.conflicts) != (new.state == TaskState.DISPUTED):
        raise Violation("CONFLICT-7", f"the task is {new.state}, and its conflicts are {new.conflicts}")
    if old.state == TaskState.DISPUTED and new.state != TaskState.DISPUTED:
        (decided,) = [now for was, now in zip(old.conflicts, new.conflicts, strict=True) if was != now]
        if (new.state, decided) not in (("reported", "stands"), ("reported", "overruled"), ("canceled", "moot")):
            raise Violation("I23", f"a task with an open conflict becomes {new.state}, the conflict is {decided}")
        if (decided == "overruled") != new.overruled and not old.overruled:
            raise Violation("CONFLICT-7", f"the conflict is {decided}, and the result is not marked so")
    if new.state == "completed" and old.overruled and new.by != "delegator":
        raise Violation("CONFLICT-15", f"a result that was overruled completes the task by {new.by}")


def _counts(limits: Limits, task: Task) -> None:
    """No livelock: each way to go wrong is bounded (L10)."""
    for name, count, most in (
        ("losses", task.losses, limits.losses + 1),
        ("failures", task.failures, limits.attempts),
        ("declines", task.declines, limits.declines),
        ("revivals", task.revivals, limits.revivals),
        ("reworks", task.rev, limits.reworks),
        ("hand-offs", task.handoffs, limits.handoffs),
        ("conflicts", len(task.conflicts), limits.disputes),
    ):
        if count > most:
            raise Violation("L10", f"{count} {name}, at most {most} may be")
    over = task.losses > limits.losses or task.failures >= limits.attempts
    if over and task.state not in ENDED:
        raise Violation("L10", f"it goes on after {task.losses} losses and {task.failures} failures")
