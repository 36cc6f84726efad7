"""The rules of one task, from the specification: what each message and each timer makes of it.

Every change of state goes through `take`, which looks it up in the table of `a2a.protocol.states`: what the table
does not have is refused, and nothing changes. Each rule is a method of its own, so that a planted variant is a
subclass with one method written wrongly.
"""

from __future__ import annotations

from typing import Any

from a2a.protocol.states import TaskState

from .task import CURRENT, ENDED, HASHES, LAPSED, NEXT, OFFERED, Limits, Task, runs

__all__ = ["OUTCOMES", "Rules"]

OUTCOMES = (*HASHES, "retry", "broken", "rejected", "canceled")
"""How an attempt may end: with a result, or with a failure that may be retried, one that may not, a refusal, or
`canceled` though perhaps nobody had asked."""

_QUEUED, _OFFERED, _LEASED = TaskState.QUEUED.value, TaskState.OFFERED.value, TaskState.LEASED.value
_PARKED, _CANCELING, _REPORTED = TaskState.PARKED.value, TaskState.CANCELING.value, TaskState.REPORTED.value
_DISPUTED, _CANCELED = TaskState.DISPUTED.value, TaskState.CANCELED.value
_WAITS_FOR_A_WORD = frozenset({_REPORTED, _DISPUTED})

Answered = tuple[Task, str]
"""The task afterwards, and the word the sender gets."""


class Rules:
    """What the coordinator makes of a task. A KeyError out of a method is the table's refusal."""

    def __init__(self, limits: Limits, *, auto: bool = False) -> None:
        self.limits = limits
        self.auto = auto
        """An admitted result completes the task: evaluator `auto`."""
        self.exercised: set[tuple[str, str]] = set()
        """Keys of the table that were taken."""

    # The table --------------------------------------------------------------------------------------------------------

    def take(self, task: Task, event: str, **changes: Any) -> Task:
        """Go one step of the table.

        Raises:
            KeyError: it has no such step: a refusal.
        """
        key = (task.state, event)
        state = NEXT[key]
        self.exercised.add(key)
        return task._replace(state=state, **changes)

    def end(self, task: Task, event: str, by: str, digest: str = "") -> Task:
        """Settle the task; what is current is spent, what is on offer taken back."""
        closed = tuple(["moot" if conflict == "?" else conflict for conflict in task.conflicts])
        return self.take(task, event, is_open=False, offer=0, by=by, digest=digest, conflicts=closed)

    # Authority --------------------------------------------------------------------------------------------------------

    def classify(self, task: Task, worker: int, fence: int) -> str:
        """Sort what a worker sends under a fence (FENCE-5)."""
        if fence > len(task.holders):
            return "impossible"
        if self.is_strangers(task, worker, fence):
            return "not_holder"
        if self.is_on_offer(task, fence):
            return OFFERED
        if not self.is_current(task, fence):
            return "stale"
        if not task.is_open:
            return "spent"
        return LAPSED if task.lapsed else CURRENT

    def is_strangers(self, task: Task, worker: int, fence: int) -> bool:
        return task.holders[fence - 1] != worker

    def is_on_offer(self, task: Task, fence: int) -> bool:
        return task.offer == fence

    def is_current(self, task: Task, fence: int) -> bool:
        return task.cur == fence

    def regain(self, task: Task, worker: int, fence: int) -> Task | None:
        """Return the task with this attempt current and running, or None: a sign of life (LEASE-1, LEASE-8)."""
        case = self.classify(task, worker, fence)
        if case == CURRENT:
            return task
        if case == OFFERED:
            return self.accept(task, fence)
        return self.revive(task) if self.may_revive(task, case) else None

    def may_revive(self, task: Task, case: str) -> bool:
        return case == LAPSED and task.revivals < self.limits.revivals and not task.evicted

    def accept(self, task: Task, fence: int) -> Task:
        return self.take(task, "accept", cur=fence, is_open=True, lapsed=False, offer=0, evicted="")

    def revive(self, task: Task) -> Task:
        back: dict[str, Any] = {"lapsed": False, "offer": 0, "revivals": task.revivals + 1}
        if task.state == _PARKED:  # it was parked while the lease had lapsed, and is so still
            return task._replace(**back)
        return self.take(task, "revive", **back)

    def knows_key(self) -> bool:
        """Whether a delegation with a known key finds the task it made (TASK-3)."""
        return True

    # Offers -----------------------------------------------------------------------------------------------------------

    def offer(self, task: Task, worker: int) -> Answered:
        """Offer it: at once current where nobody may come back (OFFER-2, OFFER-3)."""
        fence = len(task.holders) + 1
        minted: dict[str, Any] = {"holders": (*task.holders, worker), "outcomes": (*task.outcomes, "")}
        if self.is_granted_at_once(task):
            return self.take(task, "grant", cur=fence, is_open=True, lapsed=False, evicted="", **minted), "granted"
        return self.take(task, "offer", offer=fence, **minted), "offered"

    def is_granted_at_once(self, task: Task) -> bool:
        return not task.is_open

    def sign(self, task: Task, worker: int, fence: int) -> Answered:
        """A heartbeat, an accept or a chunk."""
        regained = self.regain(task, worker, fence)
        return (task, "revoke") if regained is None else (regained, "lease")

    def hello_held(self, task: Task, worker: int, fence: int) -> Answered:
        """The agent is back, and says that it still has the attempt: no offer is accepted by that (LEASE-8)."""
        if self.classify(task, worker, fence) == OFFERED:
            return task, "stale"
        regained = self.regain(task, worker, fence)
        return (task, "stale") if regained is None else (regained, "keep")

    def hello_new(self, task: Task, worker: int) -> Answered:
        """A new process of the agent has none of its attempts: they are lost at once (HELLO-7)."""
        if task.offer and task.holders[task.offer - 1] == worker:
            return self.withdraw(task), "welcome"
        if runs(task) and task.holders[task.cur - 1] == worker:
            return self.lapse(task), "welcome"
        return task, "welcome"

    def decline(self, task: Task, worker: int, fence: int) -> Answered:
        """The worker hands back what it has not begun (OFFER-5)."""
        case = self.classify(task, worker, fence)
        if case == OFFERED:
            declined = self.take(task, "withdraw", offer=0, declines=task.declines + 1)
        elif case == CURRENT and task.evicted and task.state == _LEASED:
            return self.give_back(task, worker, fence, True)
        elif case == CURRENT:
            declined = self.take(task, "withdraw", is_open=False, declines=task.declines + 1)
        else:
            return task, "ok" if case in (LAPSED, "stale", "spent") else case
        return self.declined_too_often(declined), "ok"

    def declined_too_often(self, task: Task) -> Task:
        return self.end(task, "fail", "declines") if task.declines >= self.limits.declines else task

    def give_back(self, task: Task, worker: int, fence: int, counted: bool) -> Answered:
        """`task.yield` (LEASE-7)."""
        case = self.classify(task, worker, fence)
        if case == OFFERED:
            return self.decline(task, worker, fence)
        if case not in (CURRENT, LAPSED):
            return task, "ok" if case in ("stale", "spent") else case
        if task.state == _CANCELING:
            return self.end(task, "cancel", "holder"), "ok"
        return self.given_back(task, counted, is_open=False, offer=0), "ok"

    def given_back(self, task: Task, counted: bool, **spent: Any) -> Task:
        """Count it as the reason for which the coordinator had asked, else as a decline (LEASE-7, LEASE-10)."""
        lost = task.evicted == "stall" and not task.lapsed
        declined = counted and not task.evicted
        spent |= {"declines": task.declines + declined, "losses": task.losses + lost}
        return self.lost_too_often(self.declined_too_often(self.take(task, "release", **spent)))

    def hand_off(self, task: Task, worker: int, fence: int) -> Answered:
        """The worker hands the task on, under the same id (HAND-1 to HAND-3)."""
        case = self.classify(task, worker, fence)
        if case not in (CURRENT, LAPSED):
            return task, case
        if case == CURRENT and task.state != _LEASED:
            return task, "conflict"
        if task.handoffs >= self.limits.handoffs:
            return task, "quota"
        return self.take(task, "release", is_open=False, offer=0, handoffs=task.handoffs + 1), "ok"

    # Questions --------------------------------------------------------------------------------------------------------

    def ask(self, task: Task, worker: int, fence: int, number: int, hold: str) -> Answered:
        """The worker asks; the same question again asks nothing new (ASK-1, ASK-2, ASK-5)."""
        regained = self.regain(task, worker, fence)
        if regained is None:
            return task, "stale"
        if task.asks and task.asks[number] not in ("", "-"):
            return regained, "ok"
        spent = {"is_open": False, "offer": 0} if hold == "cold" else {}
        return self.take(regained, "ask", asks=_set(_asks(task, self.limits), number, "?"), **spent), "ok"

    def answer(self, task: Task, number: int, words: str) -> Answered:
        """The first answer counts (ASK-3, ASK-4)."""
        known = task.asks[number] if task.asks else ""
        if not known:
            return task, "not_found"
        if task.state in ENDED or known == "-":
            return task, "conflict"
        if not self.is_open_question(known):
            return task, "ok" if known == words else "already_answered"
        return self.answered(task, number, words), "ok"

    def is_open_question(self, known: str) -> bool:
        return known == "?"

    def answered(self, task: Task, number: int, words: str) -> Task:
        asks = _set(task.asks, number, words)
        if "?" in asks or task.state != _PARKED:
            return task._replace(asks=asks)
        return self.take(task, "answer" if runs(task) else "answer_later", asks=asks)

    # The end of an attempt --------------------------------------------------------------------------------------------

    def report(self, task: Task, worker: int, fence: int, outcome: str) -> Answered:
        """How an attempt ended: the whole table of 2.6."""
        case = self.classify(task, worker, fence)
        if case in ("impossible", "not_holder"):
            return task, case
        known = self.known(task, fence)
        if known:
            return task, "duplicate" if known == outcome else "late"
        if case == "stale":
            return task, "stale"
        if self.is_spent(case):
            return task, "late"
        if outcome in HASHES and self.is_killed(task):
            return self.end(task, "cancel", "kill"), "late"
        if case == OFFERED:
            task = self.accept(task, fence)
        return self.admit(task, fence, outcome), "admitted"

    def known(self, task: Task, fence: int) -> str:
        return task.outcomes[fence - 1]

    def is_spent(self, case: str) -> bool:
        return case == "spent"

    def is_killed(self, task: Task) -> bool:
        """Whether no result counts any more (CANCEL-4)."""
        return task.state == _CANCELING and task.cancel == "kill"

    def admit(self, task: Task, fence: int, outcome: str) -> Task:
        """Take an outcome for what it means (REPORT-5). Its fence is spent either way."""
        spent: dict[str, Any] = {
            "is_open": False,
            "offer": 0,
            "outcomes": _set(task.outcomes, fence - 1, outcome),
        }
        final = spent | {"asks": tuple(["-" if ask == "?" else ask for ask in task.asks])}
        if outcome in HASHES:
            task = self.take(task, "report", results=(*task.results, (fence, outcome)), overruled=False, **final)
            return self.end(task, "complete", "auto", outcome) if self.auto else task
        if task.state == _CANCELING:
            return self.end(self.take(task, "report", **final), "cancel", "holder")
        if outcome == "canceled":
            return self.given_back(task, True, **spent)
        if outcome == "rejected":
            return self.end(self.take(task, "report", **final), "reject", "holder")
        failures = task.failures + 1
        if outcome == "broken" or failures >= self.limits.attempts:
            return self.end(self.take(task, "report", failures=failures, **final), "fail", "holder")
        return self.take(task, "release", failures=failures, **spent)

    # The delegator's word ---------------------------------------------------------------------------------------------

    def confirm(self, task: Task, rev: int, digest: str, verdict: str) -> Answered:
        """A word on exactly one result (ACCEPT-3 to ACCEPT-6)."""
        if task.state in ENDED or rev < task.rev:
            return task, "before"
        if rev != task.rev or not self.waits_for_a_word(task):
            return task, "conflict"
        result = task.results[rev][1]
        if not self.is_meant(result, digest):
            return task, "conflict"
        if verdict == "accept":
            return self.end(task, "complete", "delegator", result), "ok"
        if verdict == "reject" or task.rev >= self.limits.reworks:
            return self.end(task, "fail", "delegator"), "ok"
        return self.rework(task), "ok"

    def waits_for_a_word(self, task: Task) -> bool:
        """Whether a word counts: not while a conflict about the result is open (CONFLICT-15)."""
        return task.state == _REPORTED

    def is_meant(self, result: str, digest: str) -> bool:
        return result == digest

    def rework(self, task: Task) -> Task:
        return self.take(task, "rework", rev=task.rev + 1, cancel="")

    def cancel(self, task: Task, mode: str) -> Answered:
        """Somebody wants the task to end (CANCEL-1, CANCEL-5, CANCEL-8)."""
        if task.state == _CANCELED:
            return task, "canceled"
        if task.cancel == mode and self.came_too_late(task):
            return task, "too_late"
        return self.wind_down(task, mode)

    def came_too_late(self, task: Task) -> bool:
        """Whether the result was there before a cancel that comes again (CANCEL-8)."""
        return task.state in _WAITS_FOR_A_WORD

    def wind_down(self, task: Task, mode: str) -> Answered:
        """End the task, or have its agent end it (CANCEL-2, CANCEL-6)."""
        if mode == "skip" or not runs(task):
            return self.end(task, "cancel", "canceler"), "canceled"
        if task.state != _CANCELING:
            return self.take(task, "request_cancel", cancel=mode), "pending"
        if mode == "kill" and task.cancel == "coop":
            return task._replace(cancel=mode), "pending"
        return task, "pending"

    # Conflicts about a result -----------------------------------------------------------------------------------------

    def raise_conflict(self, task: Task) -> Answered:
        """Somebody says that the result contradicts something (CONFLICT-12, CONFLICT-15)."""
        if not self.may_dispute(task):
            return task, "joined" if task.state == _DISPUTED else "nothing follows"
        if not self.may_open_another(task):
            return task, "quota"
        return self.dispute(task), "opened"

    def may_dispute(self, task: Task) -> bool:
        """Whether a conflict about the result holds the task up: at most one at a time."""
        return task.state == _REPORTED

    def may_open_another(self, task: Task) -> bool:
        """Whether there were not as many about the same task before (LIMIT-11)."""
        return len(task.conflicts) < self.limits.disputes

    def dispute(self, task: Task) -> Task:
        return self.take(task, "dispute", conflicts=(*task.conflicts, "?"))

    def vote(self, task: Task, stands: bool) -> Answered:
        """A person decides (CONFLICT-6)."""
        if not self.may_decide(task):
            return task, "conflict"
        return self.resolve(task, stands), "ok"

    def may_decide(self, task: Task) -> bool:
        return "?" in task.conflicts

    def resolve(self, task: Task, stands: bool) -> Task:
        """Close the conflict, and let the result wait for its word as before: one step (CONFLICT-7, CONFLICT-15)."""
        closed = (*task.conflicts[:-1], "stands" if stands else "overruled")
        return self.take(task, "resolve", conflicts=closed, overruled=task.overruled or not stands)

    def rung_timer(self, task: Task, stands: bool) -> Task | None:
        """The last rung always decides, if only for none (RUNG-1)."""
        return self.resolve(task, stands) if self.may_decide(task) else None

    # Timers: each returns the task after it has fired, or None where it does not run ---------------------------------

    def timers_rest(self, in_grace: bool) -> bool:
        """Whether no timer fires: the coordinator has just started again (TIME-4)."""
        return in_grace

    def lapse(self, task: Task) -> Task:
        """The lease has run out (LEASE-4)."""
        if task.state == _CANCELING:
            return self.end(task, "cancel", "timer")
        return self.lost_too_often(
            self.take(task, "expire", lapsed=True, losses=task.losses + (task.evicted != "drain"))
        )

    def withdraw(self, task: Task) -> Task:
        """Nobody answered the offer (OFFER-6)."""
        return self.lost_too_often(self.take(task, "withdraw", offer=0, losses=task.losses + 1))

    def lost_too_often(self, task: Task) -> Task:
        over = task.losses > self.limits.losses and task.state not in ENDED
        return self.end(task, "fail", "losses") if over else task

    def lease_timer(self, task: Task) -> Task | None:
        return self.lapse(task) if runs(task) else None

    def offer_timer(self, task: Task) -> Task | None:
        return self.withdraw(task) if task.offer else None

    def stall_timer(self, task: Task) -> Task | None:
        """The attempt hangs while its heartbeat goes on: ask for it back (LEASE-10, TIME-7)."""
        return task._replace(evicted="stall") if self.may_evict(task) else None

    def drain(self, task: Task) -> Task | None:
        """An operator drains the holder, or another reason that is nobody's fault."""
        if task.drains >= self.limits.drains or not self.may_evict(task):
            return None
        return task._replace(evicted="drain", drains=task.drains + 1)

    def may_evict(self, task: Task) -> bool:
        return task.state == _LEASED and runs(task) and not task.evicted

    def patience_timer(self, task: Task) -> Task | None:
        """Who was asked to give the task back and did not has lost it, however alive it is."""
        return self.lapse(task) if task.state == _LEASED and runs(task) and task.evicted else None

    def confirm_timer(self, task: Task) -> Task | None:
        if task.state != _REPORTED:
            return None
        if not self.accepts_silence(task):
            return self.end(task, "fail", "timer")
        return self.end(task, "complete", "timer", task.results[-1][1])

    def accepts_silence(self, task: Task) -> bool:
        """Whether a result on which nobody says a word is good: not one that was overruled (ACCEPT-7)."""
        return not task.overruled

    def ask_timer(self, task: Task, default: bool) -> Task | None:
        if task.state != _PARKED or "?" not in task.asks:
            return None
        if default:
            return self.answered(task, task.asks.index("?"), "default")
        return self.end(task, "fail", "unanswered")

    def cancel_timer(self, task: Task) -> Task | None:
        return self.end(task, "cancel", "timer") if task.state == _CANCELING else None

    def deadline(self, task: Task) -> Task | None:
        """What was reported in time is not lost to the deadline (TIME-3)."""
        return None if self.is_in_time(task) else self.end(task, "fail", "deadline")

    def is_in_time(self, task: Task) -> bool:
        return task.state in _WAITS_FOR_A_WORD

    # A tree -----------------------------------------------------------------------------------------------------------

    def has_place(self, parent: Task, worker: int, fence: int) -> bool:
        """Whether a sub-task may be delegated for this attempt (TASK-6)."""
        return self.classify(parent, worker, fence) in (CURRENT, LAPSED)

    def follow_parent(self, parent: Task, child: Task, mode: str) -> Task:
        """Return the sub-task after its parent has ended, or was told to (TREE-4, CANCEL-2)."""
        return child if child.state in ENDED else self.wind_down(child, mode)[0]

    def is_orphan(self, parent: Task, child: Task) -> bool:
        """Whether a sub-task waits for nobody: its result came before its parent's end, and was sent back after."""
        return parent.state in ENDED and child.state == _QUEUED


def _set(items: tuple[str, ...], index: int, value: str) -> tuple[str, ...]:
    return (*items[:index], value, *items[index + 1 :])


def _asks(task: Task, limits: Limits) -> tuple[str, ...]:
    return task.asks or ("",) * limits.asks
