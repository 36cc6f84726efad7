"""Every invariant has a checker, and every checker can fail: it is shown a world in which one thing is not as it was.

A spoiler stands between the court and one checker. It leaves what does not matter alone, and changes one thing about
the rest: a number in a record, a name in a reply, what the model knows. The checker has to say so under its name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from a2a.engine.records import (
    AgentForgotten,
    Answered,
    Claimed,
    Classified,
    ConflictAppealed,
    ConflictOpened,
    ContextsArchived,
    Delegated,
    GroupDecided,
    LeaseExpired,
    Offered,
    PatchesCompared,
    Settled,
    StageClosed,
    StageOpened,
)
from a2a.engine.records import ContextWritten as WrittenRecord
from a2a.protocol.messages import (
    ClaimGranted,
    ContextWritten,
    Ok,
    Pong,
    Seen,
    TaskAnswer,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskFound,
    TaskOffer,
    TaskVerdict,
    Welcome,
)

from . import checkers, claiming, contexts, costs, fees, flapping, liveness, patching, quarrels, refused, rulings, told
from .checkers import SAFETY
from .claiming import CLAIMING
from .contexts import CONTEXTS
from .costs import COSTS
from .court import Checker
from .fees import FEES
from .holdings import ClaimModel
from .invariants import BESIDE, INVARIANTS
from .liveness import LIVENESS
from .model import Ruling, Seat
from .patching import PATCHING
from .plan import Plan
from .quarrels import QUARRELS
from .refused import REFUSED
from .rulings import RULINGS
from .run import run_seed
from .told import TOLD

_TRIES = 60
"""Seeds until one has what a spoiler waits for."""
_FIRST: dict[type[Checker], int] = {
    rulings.CountedRight: 12,
    costs.TakenForAReason: 10,
    fees.SharedOut: 5,
    costs.WordsHeard: 7,
    patching.PatchesCollide: 3,
    costs.CheckpointsGoOn: 7,
    costs.CheckpointsGrow: 7,
    fees.Frugal: 115,
    contexts.WatchersMissNothing: 7,
    contexts.DecisionsSeen: 7,
    contexts.BasisStands: 5,
}
"""The first of them, where what it waits for is rare."""

_TIMERS = ("L3", "L4", "L6", "deadline", "queue", "offer", "ask")
"""The names under which one checker looks after all timers."""

Spoiler = Callable[..., "tuple[Any, ...] | None"]
"""Gets the checker and what it is about to hear; returns what it hears instead, or None to leave that alone."""
END = Settled(0, "", "failed", "error")


def _task(checker: Checker, record: Any) -> Any:
    return checker.model.tasks[record.task]


def _known(checker: Checker, record: Any, lsn: int, cause: Any, **facts: Any) -> tuple[Any, ...]:
    """Have the model know something else about the record's task."""
    for name, value in facts.items():
        setattr(_task(checker, record), name, value)
    return record, lsn, cause


def _has_left(checker: Checker, record: Any, lsn: int, cause: Any) -> None:
    for name in record.conflicts:
        checker.model.rulings[name].is_archived = True


def _idle_no_more(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, ContextsArchived):
        return None
    checker.model.contexts[record.contexts[0]].is_archived = True
    return record, lsn, cause


def _settled(checker: Checker, record: Any, lsn: int, cause: Any, state: str) -> tuple[Any, ...]:
    return _known(checker, record, lsn, cause, settled=replace(END, state=state))


def _dead(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    _task(checker, record).dead.add(record.fence)
    return record, lsn, cause


def _sent_back(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if isinstance(record, Settled):
        return None
    _task(checker, record).rejected.add(record.fence)
    return record, lsn, cause


def _by_another(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    return record, lsn, replace(cause, agent="stranger")


def _no_credit(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    checker.model.seats[record.agent].credit = 0
    return record, lsn, cause


def _in_grace(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    checker.model.grace_until = record.at + 1
    return record, lsn, cause


def _early(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    is_lapse = isinstance(record, LeaseExpired) and cause.kind == "tick"
    return (replace(record, at=record.at - 10_000), lsn, cause) if is_lapse else None


def _healthy(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if cause.kind != "tick":
        return None
    task, checker.model.grace_until = _task(checker, record), 0
    checker.court.calm_at = record.at - 200_000
    checker.model.seats[task.holder] = Seat(0, 1, 1, 0)
    return _known(checker, record, lsn, cause, durations=task.durations | {"lease_ms": 5_000}, offered_at=0)


def _answered(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Answered):
        return None
    _task(checker, record).asks[record.ask_no].answer = b"before"
    return record, lsn, cause


def _by_a_stranger(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    decides = isinstance(cause.message, TaskConfirm | TaskCancel | TaskAnswer)
    return _by_another(checker, record, lsn, cause) if decides else None


def _more_mail(checker: Any, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    checker._due.append(("nobody", "task.offer", 1))
    return record, lsn, cause


def _still_held(checker: Checker, agent: str, message: Any, reply: Any) -> tuple[Any, ...] | None:
    if not isinstance(reply, Welcome) or agent not in checker.model.agents:
        return None
    checker.court.cause.instance = "another"
    checker.model.holding[agent] = {"sim-1": 1}
    return agent, message, reply


def _created_before(checker: Checker, agent: str, message: Any, reply: Any) -> tuple[Any, ...] | None:
    checker.court.cause.records = 0
    return (agent, message, reply) if isinstance(reply, TaskCreated) else None


def _another_report(checker: Checker, agent: str, message: Any, request: Any) -> tuple[Any, ...]:
    return agent, message, replace(request, result_hash="sha256:0")


def _other_fence(checker: Checker, agent: str, message: Any, request: Any) -> tuple[Any, ...] | None:
    return (agent, replace(message, fence=10**6), request) if isinstance(message, TaskOffer) else None


def _other_end(checker: Checker, agent: str, message: Any, reply: Any) -> tuple[Any, ...] | None:
    if not isinstance(reply, Ok):
        return None
    return agent, message, replace(reply, will="pending" if reply.will == "canceled" else "canceled")


def _other_view(checker: Checker, agent: str, message: Any, request: Any) -> tuple[Any, ...] | None:
    if not isinstance(message, TaskFound):
        return None
    status = message.view["status"] | {"state": "TASK_STATE_UNKNOWN"}
    return agent, replace(message, view=message.view | {"status": status}), request


def _not_kept(checker: Checker, agent: str, message: Any, reply: Any) -> tuple[Any, ...] | None:
    is_news = isinstance(reply, TaskVerdict) and reply.verdict == "admitted"
    return (agent, message, replace(reply, verdict="late")) if is_news else None


def _written(checker: Checker, record: Any, lsn: int, cause: Any, **facts: Any) -> tuple[Any, ...]:
    """Have the write been asked for in another way."""
    return record, lsn, replace(cause, message=replace(cause.message, **facts))


def _blind(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    ops = [replace(op, if_rev=None) for op in cause.message.ops]
    return _written(checker, record, lsn, cause, ops=ops) if ops[0].key.startswith("decisions/") else None


def _lost(checker: Checker, agent: str, message: Any, reply: Any) -> tuple[Any, ...] | None:
    is_won = isinstance(reply, ContextWritten)
    return (agent, message, replace(reply, revs={key: rev + 1 for key, rev in reply.revs.items()})) if is_won else None


def _moved(checker: Any, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if isinstance(record, Settled):
        return (replace(record, by="auto"), lsn, cause) if record.state == "completed" else None
    if isinstance(record, GroupDecided):
        return None
    basis = [seen | {"rev": seen["rev"] + 1} for seen in record.basis or ()]
    return replace(record, basis=basis), lsn, cause


def _missed(checker: Any, watched: Any) -> None:
    watched.values.pop()


def _first_open(checker: Checker, now: int, **facts: Any) -> tuple[Any, ...]:
    for task in list(checker.model.open.values())[:1]:
        for name, value in facts.items():
            setattr(task, name, value)
    return (now,)


def _never_ends(checker: Checker) -> None:
    checker.model.open, checker.court._look = dict(list(checker.model.tasks.items())[:1]), []


def _waits(checker: Checker, now: int) -> tuple[Any, ...]:
    for seat in checker.model.seats.values():
        seat.credit = 99
    for task in checker.model.open.values():
        task.state, task.retry_at, task.requires, task.shunned = "queued", 0, {}, {}
    return (now,)


def _parent_ended(checker: Checker, now: int) -> tuple[Any, ...]:
    for task in checker.model.open.values():
        if task.parent is not None:
            checker.model.tasks[task.parent].settled, task.on_parent_end, task.cancel = END, "cancel", None
    return (now,)


def _held_by_another(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Claimed):
        return None
    names = checker.model.claims[record.claim].names
    checker.model.claims[0] = ClaimModel(0, record.at, "stranger", dict.fromkeys(names, "x"), None, 0, fence=1)
    return record, lsn, cause


def _fence_seen(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    checker.model.fences_seen[("deploy", "x"),] = 10**6
    return record, lsn, cause


def _waits_before(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Claimed):
        return None
    names = checker.model.claims[record.claim].names
    checker.model.claims[0] = ClaimModel(0, 0, "stranger", dict.fromkeys(names, "x"), None, 0)
    return record, lsn, cause


def _for_nobody(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    for claim in checker.model.claims.values():
        claim.priority = 0
    return record, lsn, cause


def _works_on_another(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    group = checker.model.groups.get(_task(checker, record).parent or "")
    for other in group.electorate if group is not None else ():
        member = checker.model.tasks[other]
        if other != record.task and group is not None and record.task in group.electorate and member.runs:
            return replace(record, agent=member.holder), lsn, cause
    return None


def _ruling(checker: Checker, record: Any) -> Any:
    return checker.model.rulings.get(getattr(record, "conflict", "")) or checker.model.ruling(record.task or "")


def _frozen(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    ruling = _ruling(checker, record)
    if not isinstance(record, Classified) or ruling is None:
        return None
    ruling.frozen_lsn = lsn
    return record, lsn, cause


def _still_disputed(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, GroupDecided):
        return None
    checker.model.rulings["sim-k0"] = Ruling("sim-k0", record.task, 0, 0, [], set())
    return record, lsn, cause


def _appealed_before(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if isinstance(record, StageOpened):
        return replace(record, number=-1), lsn, cause  # appeals are rare; to try a rung again is no better
    if not isinstance(record, ConflictAppealed):
        return None
    _ruling(checker, record).appeal_lsn = 1
    return record, lsn, cause


def _asked_a_party(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Offered) or not _task(checker, record).scope.startswith("conflict:"):
        return None
    checker.model.rulings[_task(checker, record).scope[9:]].parties.add(record.agent)
    return record, lsn, cause


def _another_party(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    ruling = _ruling(checker, record)
    if ruling is None or not isinstance(record, ConflictOpened):
        return None
    ruling.parties.add("nobody")
    return record, lsn, cause


def _another_winner(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    counted = record.winner == 0 and _ruling(checker, record).stages[-1].strategy == "majority"
    return (replace(record, winner=1), lsn, cause) if counted else None


def _before_its_time(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    is_silence = isinstance(record, StageClosed) and _ruling(checker, record).stages[-1].strategy == "human"
    return (replace(record, at=record.at - 10), lsn, cause) if is_silence and not record.by else None


def _another_writes(checker: Any, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    is_due = isinstance(record, WrittenRecord) and checker._due is not None
    return (replace(record, by="somebody else"), lsn, cause) if is_due else None


def _said_before(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not record.name:
        return None
    checker.model.rulings["sim-k0"] = Ruling("sim-k0", "", 0, 0, [], set(), is_open=False, raised={record.name})
    return record, lsn, cause


def _smaller_fence(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    shown = {known["fence"]: known["ref"] for known in record.candidates}
    return (replace(record, ref=shown[min(shown)]), lsn, cause) if record.rule == "s3" else None


def _the_other_way_round(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    is_said = isinstance(record, PatchesCompared) and record.number >= 0
    return (replace(record, number=1 - record.number), lsn, cause) if is_said else None


def _in_quarantine(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Offered):
        return None
    about = f"agent:{record.agent}"
    checker.model.rulings["sim-k0"] = Ruling("sim-k0", "", 0, 0, [], set(), rule="d2", object=about)
    return record, lsn, cause


def _over_already(checker: Checker, now: int) -> tuple[Any, ...]:
    for ruling in checker.model.rulings.values():
        ruling.is_open = False
    return (now,)


def _overdrawn(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Offered) or "tokens" not in _task(checker, record).budget:
        return None
    return _known(checker, record, lsn, cause, spent={"tokens": 10**6})


def _counted_twice(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    for used in _task(checker, record).used.values():
        used.update({kind: 2 * amount for kind, amount in used.items()})
    return record, lsn, cause


def _one_more(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    budgets = [checker.model.tasks[asked].budget for asked in record.asked]
    if not budgets or "costMicro" not in budgets[0]:
        return None
    budgets[0]["costMicro"] += 1
    return record, lsn, cause


def _cheap(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, StageClosed) or not record.why.startswith("cost"):
        return None
    for task in checker.model.tasks.values():
        task.spent.pop("costMicro", None)
    return record, lsn, cause


def _asks_the_author(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, Delegated) or not record.scope.startswith("compare:"):
        return None
    return replace(record, spec={**record.spec, "requires": {"exclude": []}}), lsn, cause


def _many_before(checker: Any, record: Any, lsn: int, cause: Any) -> tuple[Any, ...]:
    checker._kept[record.agent] = deque([record.at] * 100)
    return record, lsn, cause


def _still_here(checker: Checker, record: Any, lsn: int, cause: Any) -> tuple[Any, ...] | None:
    if not isinstance(record, AgentForgotten):
        return None
    checker.model.seats[record.agent] = Seat(cause.connection + 1, 1, 1, 0)
    return record, lsn, cause


_ALL = {
    *(*SAFETY, *RULINGS, *QUARRELS, *PATCHING, *CONTEXTS),
    *(*CLAIMING, *COSTS, *FEES, *TOLD, *REFUSED, *LIVENESS),
}
SPOILERS: dict[type[Checker], tuple[str, Spoiler]] = {
    checkers.OneTaskPerKey: ("before", lambda c, r, n, w: (replace(r, scope="principal:nobody"), n, w)),
    checkers.FencesGrow: ("before", lambda c, r, n, w: (r, 0, w) if isinstance(r, Offered) else None),
    checkers.OneHolder: ("before", lambda c, r, n, w: _known(c, r, n, w, is_open=True, lapsed=False)),
    checkers.OneResult: ("before", lambda c, r, n, w: (replace(r, fence=r.fence + 1), n, w)),
    checkers.RejectedStaysRejected: ("before", _sent_back),
    checkers.DeadFences: ("before", _dead),
    checkers.CancelIsFinal: ("before", lambda c, r, n, w: _settled(c, r, n, w, "canceled")),
    checkers.Absorbing: ("before", lambda c, r, n, w: _settled(c, r, n, w, "failed")),
    checkers.Generations: ("after", lambda c, r, n, w: _known(c, r, n, w, events=[])),
    checkers.Identified: ("answered", lambda c, a, m, r: (a, replace(m, secret="another"), r)),
    checkers.CompletedMeansConfirmed: (
        "before",
        lambda c, r, n, w: (replace(r, result_hash="x"), n, w) if getattr(r, "state", "") == "completed" else None,
    ),
    checkers.OnlyTheHolder: ("before", lambda c, r, n, w: _by_another(c, r, n, w) if w.kind == "step" else None),
    checkers.Credit: ("after", _no_credit),
    checkers.TreeRules: ("before", lambda c, r, n, w: (replace(r, depth=r.depth + 1), n, w)),
    checkers.GraceHolds: ("before", lambda c, r, n, w: _in_grace(c, r, n, w) if w.kind == "tick" else None),
    checkers.TimersNotEarly: ("before", _early),
    checkers.HealthyKeepsLease: ("before", _healthy),
    checkers.Chunks: ("before", lambda c, r, n, w: (replace(r, append=True, chunk_no=r.chunk_no + 5), n, w)),
    checkers.OneAnswer: ("before", _answered),
    checkers.Bounded: ("after", lambda c, r, n, w: _known(c, r, n, w, losses=999)),
    checkers.EndsInOneStep: ("before", lambda c, r, n, w: _known(c, r, n, w, losses=999)),
    checkers.Entitled: ("before", _by_a_stranger),
    checkers.MailPosted: ("after", _more_mail),
    checkers.OnlyTheGoneAreForgotten: ("before", _still_here),
    checkers.OnlyTheSettledLeave: ("before", lambda c, r, n, w: (replace(r, at=0), n, w)),
    checkers.OnlyClosedConflictsLeave: ("before", _has_left),
    checkers.OnlyTheRecalledChange: ("before", lambda c, r, n, w: _known(c, r, n, w, is_archived=True)),
    checkers.RestartLetsGo: ("answered", _still_held),
    rulings.Apart: ("before", _works_on_another),
    rulings.Certain: ("before", lambda c, r, n, w: (replace(r, member="sim-1"), n, w)),
    rulings.InLedgerOrder: ("before", lambda c, r, n, w: (replace(r, number=7), n, w)),
    rulings.ComparedByAnother: ("before", _asks_the_author),
    rulings.NothingEntersTheFrozen: ("before", _frozen),
    rulings.DisputedStays: ("before", _still_disputed),
    rulings.OneResolution: ("before", _appealed_before),
    rulings.Independent: ("before", _asked_a_party),
    rulings.PartiesTold: ("after", _another_party),
    rulings.CountedRight: ("before", _another_winner),
    rulings.StepsInTime: ("look", lambda c, now: (now + 10**9,)),
    rulings.NotEarly: ("before", _before_its_time),
    quarrels.ContestedRight: (
        "before",
        lambda c, r, n, w: (replace(r, rule="c1"), n, w) if getattr(r, "rule", "") == "c4" else None,
    ),
    quarrels.ResolvedIsWritten: ("before", _another_writes),
    quarrels.MergedRight: (
        "before",
        lambda c, r, n, w: (replace(r, payload=b'{"a":-1,"b":-1}'), n, w) if getattr(r, "payload", None) else None,
    ),
    quarrels.RaisedOnce: ("before", _said_before),
    quarrels.NotedRight: ("before", _smaller_fence),
    patching.PatchesCollide: ("before", _the_other_way_round),
    flapping.TakenTooOften: ("before", _in_quarantine),
    quarrels.ConflictsClose: ("look", _over_already),
    told.CreatedIsThere: ("told", lambda c, a, m, q: (a, replace(m, task="sim-0"), q)),
    told.CreatedOnce: ("answered", _created_before),
    told.AdmittedIsThere: ("told", _another_report),
    told.ToldIsTrue: ("told", _other_fence),
    told.RightWord: ("answered", lambda c, a, m, q: (a, m, Pong())),
    told.CancelAnswer: ("answered", _other_end),
    told.OffersCarryAll: ("posted", lambda c, a, m, n: (a, replace(m, rev=m.rev + 1), n)),
    told.MailInOrder: ("sent", lambda c, n, a, f: (n, a, replace(f, mseq=f.mseq + 1))),
    told.WatchedInOrder: ("happened", lambda c, n, e: (n, replace(e, generation=e.generation + 1))),
    told.Outside: ("told", _other_view),
    told.Kept: ("answered", _not_kept),
    refused.RefusalsKept: ("before", lambda c, r, n, w: (replace(r, code="auth"), n, w)),
    refused.RefusalsBounded: ("before", _many_before),
    contexts.Revisions: ("before", lambda c, r, n, w: _written(c, r, n, w, depends=[Seen("count", 10**6)])),
    contexts.DecisionsSeen: ("before", _blind),
    contexts.WrittenOnce: ("before", _by_another),
    contexts.WritersAreTold: ("answered", _lost),
    contexts.BasisStands: ("before", _moved),
    contexts.WatchersMissNothing: ("heard", _missed),
    contexts.OnlyTheIdleLeave: ("before", _idle_no_more),
    costs.CheckpointsGrow: ("before", lambda c, r, n, w: (replace(r, cp_no=0), n, w)),
    costs.CheckpointsGoOn: (
        "posted",
        lambda c, a, m, n: (a, replace(m, checkpoint=None), n) if m.checkpoint is not None else None,
    ),
    costs.WordsHeard: ("posted", lambda c, a, m, n: (a, replace(m, steers=m.steers[:-1]), n) if m.steers else None),
    costs.BudgetsHold: ("before", _overdrawn),
    costs.CountedOnce: ("after", _counted_twice),
    fees.SharedOut: ("before", _one_more),
    fees.Frugal: ("before", _cheap),
    costs.TakenForAReason: ("before", lambda c, r, n, w: (replace(r, at=0), n, w) if r.reason == "stall" else None),
    liveness.EverythingEnds: ("unfinished", _never_ends),
    liveness.MailArrives: ("took", lambda c, a, f: (a, replace(f, mseq=f.mseq - 1))),
    liveness.TimersFire: ("look", lambda c, now: (now + 10**9,)),
    liveness.QueuesMove: ("look", _waits),
    liveness.TreesEnd: ("look", _parent_ended),
    liveness.ModelIsLedger: ("look", lambda c, now: _first_open(c, now, rev=99)),
    liveness.ReplayIsLive: ("after", lambda c, r, n, w: (replace(r, at=r.at + 10**6), n, w)),
    claiming.HeldAlone: ("before", _held_by_another),
    claiming.FencesOfNames: ("before", _fence_seen),
    claiming.ClaimedOnce: ("before", lambda c, r, n, w: (replace(r, claim_no=0), n, w)),
    claiming.EndsWithAttempt: ("before", lambda c, r, n, w: (replace(r, fence=1), n, w) if r.task else None),
    claiming.InTurn: ("before", _waits_before),
    claiming.OnlyItsOwnerReleases: (
        "before",
        lambda c, r, n, w: _by_another(c, r, n, w) if r.reason == "released" else None,
    ),
    claiming.EndsForAReason: (
        "before",
        lambda c, r, n, w: (replace(r, at=r.at - 100_000), n, w) if r.reason == "timeout" else None,
    ),
    claiming.CalledBackByRight: ("before", _for_nobody),
    claiming.CirclesAreBroken: (
        "before",
        lambda c, r, n, w: (replace(r, data={"cycle": r.data["cycle"][1:]}), n, w) if r.reason == "deadlock" else None,
    ),
    claiming.WaitsEnd: ("look", lambda c, now: (now + 10**9,) if c.model.claims else None),
    claiming.GrantIsTrue: (
        "told",
        lambda c, a, m, q: (a, replace(m, claim_fence=m.claim_fence - 1), q) if isinstance(m, ClaimGranted) else None,
    ),
}


@pytest.mark.parametrize("checker", SPOILERS, ids=lambda checker: checker.__name__)
def test_a_checker_says_so_when_one_thing_is_not_as_it_was(
    checker: type[Checker], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, spoil = SPOILERS[checker]
    heard = getattr(checker, method)

    def spoiled(self: Checker, *what: Any) -> Any:
        return heard(self, *(spoil(self, *what) or what))

    monkeypatch.setattr(checker, method, spoiled)
    plan = Plan(disputes=checker in (*RULINGS, *FEES) or None, quarrels=checker in (*QUARRELS, *PATCHING) or None)
    first = _FIRST.get(checker, 0)
    failures = (run_seed(seed, plan).failure for seed in range(first, first + _TRIES))
    failure = next((failure for failure in failures if failure is not None), None)
    assert failure is not None, f"nothing is wrong in {_TRIES} worlds"
    names = _TIMERS if checker is liveness.TimersFire else (checker.name,)
    assert failure.partition(":")[0] in names, failure


@pytest.mark.parametrize("what", ["ask", "capacity"])
def test_a_circle_of_tasks_that_do_not_wait_so_is_noticed(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before = claiming.CirclesAreBroken.before

    def spoiled(self: Checker, record: Any, lsn: int, cause: Any) -> None:
        cycle = (record.data or {}).get("cycle", [])
        steps = [step | {"for": what} if step["for"] == "sub-task" else step for step in cycle]
        before(self, replace(record, data={"cycle": steps}) if cycle else record, lsn, cause)  # type: ignore[arg-type]

    monkeypatch.setattr(claiming.CirclesAreBroken, "before", spoiled)
    failures = (run_seed(seed).failure for seed in range(_TRIES))
    failure = next((failure for failure in failures if failure is not None), "")
    assert failure.startswith("WAIT-2:") and "cannot be" in failure, failure


def test_every_checker_is_shown_to_fail() -> None:
    assert set(SPOILERS) == _ALL


def test_every_invariant_has_a_checker() -> None:
    invariants = {f"I{number}" for number in range(1, 31)} | {f"L{number}" for number in range(1, 11)}
    assert set(INVARIANTS) == invariants


def test_every_checker_has_a_place() -> None:
    placed = {checker for table in (INVARIANTS, BESIDE) for found in table.values() for checker in found}
    assert placed == _ALL
