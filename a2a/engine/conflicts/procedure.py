"""The steps of a group and of a conflict: compare, count, open, climb the ladder, resolve (spec GROUP, CONFLICT).

The coordinator's pass calls `advance` after anything that touched a group or a task of one of its rungs, and so does
the clock; the same holds for `proceed` and conflicts that are not about a group. Each decides one step at a time from
the ledger alone, so a replay takes the same steps. Comparisons beyond equal bytes are jobs, answered by records.
"""

from __future__ import annotations

from typing import Any

from ...protocol.canonical import content_hash
from ...protocol.messages import Seen
from ...protocol.states import TERMINAL, TaskState
from ..context import stale_basis
from ..ledger import Ledger
from ..live import World
from ..policy import Policy
from ..records import (
    Classified,
    ConflictOpened,
    ConflictResolved,
    Delegated,
    GroupDecided,
    Record,
    Settled,
    StageClosed,
    StageOpened,
)
from ..task_state import Task
from ..tree import cancel, needs_no_word
from .asking import answer_of, ask, field_of, heard, is_held, is_over, order_of, question
from .case import Conflict, Group, Stage, Terms
from .comparators import Compare, check_comparator, skill_asked
from .costs import ladder_exceeded
from .effects import follows, to_merge
from .finding import stale_conflict
from .merging import Merge, Unmergeable
from .rungs import COUNTED, Ballot, Outcome, Rung, count, parse_ladder, weight_of
from .slate import Slate, of_conflict, of_group, outranks

__all__ = [
    "advance",
    "due_at",
    "hearing_at",
    "may_appeal",
    "members_of",
    "proceed",
    "resolve_by_person",
    "terms_for",
    "terms_of",
]

# Making a group -------------------------------------------------------------------------------------------------------


def terms_of(policy: Policy, spec: dict[str, Any]) -> Terms:
    """Return the terms of a group: its specification's, else those of the namespace at this time.

    Raises:
        ValueError: its comparator, its policy or its numbers are not valid.
    """
    redundancy = spec["redundancy"]
    is_irreversible = spec.get("effect") == "irreversible"
    comparator = redundancy.get("comparator", policy.comparator)
    ladder = [dict(rung) for rung in redundancy.get("policy") or policy.ladder]
    check_comparator(comparator)
    if any(rung.merges_itself for rung in parse_ladder(ladder, irreversible=is_irreversible)):
        raise ValueError("merge: expected the skill of who is asked; the answers of a group have no base")
    if redundancy.get("k", 1) > redundancy["n"]:
        raise ValueError(f"k is {redundancy['k']}, more than the {redundancy['n']} that are asked")
    appeal_ms = policy.appeal_irreversible_ms if is_irreversible else policy.appeal_ms
    ballot_ms = redundancy.get("ballotMs", policy.ballot_ms)
    cost_micro = redundancy.get("costMicro", policy.conflict_cost_micro)
    return Terms(comparator, ladder, ballot_ms, policy.judge_ms, policy.human_ms, appeal_ms, cost_micro)


def members_of(ledger: Ledger, group: Delegated) -> list[Delegated]:
    """Return the records that make the members of a group. They follow the group's own record in the ledger."""
    spec = {name: value for name, value in group.spec.items() if name != "redundancy"}
    spec["acceptance"] = {**spec.get("acceptance", {}), "evaluator": "auto"}
    spec_hash = content_hash(spec, group.payload)
    return [
        Delegated(
            at=group.at,
            task=ledger.task_id_at(ledger.lsn + 1 + number),
            scope=f"group:{group.task}",
            key=str(number),
            delegator=group.delegator,
            context_id=group.context_id,
            spec=spec,
            spec_hash=spec_hash,
            durations=group.durations,
            bounds=group.bounds,
            payload=group.payload,
            parent=group.task,
            depth=group.depth + 1,
            deadline_at=group.deadline_at,
            # The group itself is offered to nobody. Its members are canceled with it if its delegator is lost.
            on_delegator_loss="pause" if group.on_delegator_loss == "pause" else "continue",
        )
        for number in range(1, group.spec["redundancy"]["n"] + 1)
    ]


# What comes next ------------------------------------------------------------------------------------------------------


def advance(world: World, task: Task, now: int) -> list[Record] | Compare | None:
    """Return the next step of a group, a comparison that has to be made first, or None while it waits."""
    group = task.group
    if group is None or group.decided is not None or task.state not in (TaskState.BLOCKED, TaskState.DISPUTED):
        return None
    ledger = world.ledger
    conflict = _open_conflict(ledger, task)
    if conflict is not None and conflict.frozen_lsn:
        return _climb(world, of_group(ledger, task, group, conflict), conflict, now)
    # If nobody could say whether an answer is the same, it may contradict the others.
    if conflict is None and (len(group.classes) > 1 or -1 in group.numbers.values()):
        # Earlier versions did not always refuse a raised conflict about a group: that one has to end first.
        about = ledger.conflicts_about.get(f"result task:{task.id}", ())
        is_raised = any(known in ledger.open_conflicts for known in about)
        return None if is_raised else [_opened(ledger, task, group, now)]
    waiting = next((member for member in _completed(ledger, group) if member not in group.numbers), None)
    if waiting is not None and not _needs_no_comparing(ledger, task, group, conflict):
        return _classify(world, task, group, waiting, conflict, now)
    return _tally(world, task, group, conflict, now)


def proceed(world: World, conflict: Conflict, now: int) -> list[Record] | Merge | None:
    """Return the next step of a conflict that is not about a group. Spec CONFLICT-11.

    The step may be a merge that has to be made first; None while the conflict waits.
    """
    if not conflict.is_open or not conflict.climbs:
        return None
    ledger = world.ledger
    blocked = [ledger.tasks[task] for task in conflict.blocks if task in ledger.open_tasks]
    if conflict.blocks and not blocked:
        why = f"{', '.join(conflict.blocks)} ended otherwise"
        over: list[Record] = [ConflictResolved(now, conflict.id, None, "moot", None, "", why)]
        return [*over, *(_dismissed(ledger, conflict, conflict.stage, now) if conflict.stage is not None else ())]
    slate = of_conflict(ledger, conflict)
    if not conflict.stages:
        return _open_stage(world, slate, conflict, now)
    step = _climb(world, slate, conflict, now)
    if step is None and conflict.stage is not None and conflict.ladder[conflict.stage.number].merges_itself:
        return to_merge(ledger, conflict, conflict.stage.number)
    return step


def _open_conflict(ledger: Ledger, task: Task) -> Conflict | None:
    return next((ledger.open_conflicts[known] for known in task.conflicts if known in ledger.open_conflicts), None)


def _completed(ledger: Ledger, group: Group) -> list[str]:
    """Return the members that have a result, in ledger order."""
    done = [
        (ledger.tasks[member].history[-1].lsn, member)
        for member in group.electorate
        if ledger.tasks[member].state is TaskState.COMPLETED
    ]
    return [member for _, member in sorted(done)]


def _needs_no_comparing(ledger: Ledger, task: Task, group: Group, conflict: Conflict | None) -> bool:
    """Tell whether no more agents are asked to compare: the outcome of the group can no longer change."""
    is_asked = skill_asked(group.terms.comparator) is not None
    return is_asked and conflict is None and _early(ledger, task, group) is not None


def _classify(
    world: World, task: Task, group: Group, member: str, conflict: Conflict | None, now: int
) -> list[Record] | Compare | None:
    """Put a result into its class: by its hash if that is enough, else by a job or by asking an agent."""
    ledger = world.ledger
    result = ledger.tasks[member].results[-1]
    firsts = [ledger.tasks[members[0]].results[-1] for members in group.classes]
    for number, first in enumerate(firsts):
        if first.result_hash == result.result_hash:
            return [Classified(now, task.id, member, number, "the same bytes")]
    comparator = group.terms.comparator
    if not firsts or comparator == "bytes":
        return [Classified(now, task.id, member, len(firsts), "other bytes" if firsts else "the first")]
    skill = skill_asked(comparator)
    if skill is not None:
        return _compared(world, task, group, member, skill, conflict, now)
    return Compare(task.id, member, comparator, tuple(first.payload for first in firsts), result.payload)


def _compared(
    world: World, task: Task, group: Group, member: str, skill: str, conflict: Conflict | None, now: int
) -> list[Record] | None:
    """Put a result into the class that an agent says it belongs to, asking about each class in turn. Spec COMPARE-4."""
    ledger = world.ledger
    for number in range(len(group.classes)):
        known = ledger.keys.get((f"compare:{task.id}", f"{member}.{number}"))
        if known is None:
            if conflict is not None and now >= conflict.respond_at:
                return [Classified(now, task.id, member, -1, "the ballot's time was over before somebody was asked")]
            return [_comparing(ledger, task, group, member, number, skill, now)]
        asked = ledger.tasks[known]
        if not asked.is_terminal:
            if not is_over(world, _silent_at(group, asked, conflict), now):
                return None
            ended = cancel(ledger, asked, "coop", f"{member} is not waited for any more", "coordinator", now)
            return [Classified(now, task.id, member, -1, f"{known} did not say in time"), *ended]
        answer = answer_of(asked)
        is_same = answer if isinstance(answer, bool) else field_of(answer, "equal")
        if not isinstance(is_same, bool):
            return [Classified(now, task.id, member, -1, f"{known} ended as {asked.state}, and does not say")]
        if is_same:
            return [Classified(now, task.id, member, number, f"the same, says {asked.results[-1].agent} in {known}")]
    return [Classified(now, task.id, member, len(group.classes), f"another, say those with {skill}")]


def _waited_for(ledger: Ledger, group: Group) -> Task | None:
    """Return the task of an agent that is comparing now, or None."""
    asked = ledger.tasks[group.compared[-1]] if group.compared else None
    if asked is None or asked.is_terminal or asked.key.rpartition(".")[0] in group.numbers:
        return None
    return asked


def _silent_at(group: Group, asked: Task, conflict: Conflict | None) -> int:
    """Return the time from which an agent that was asked to compare has not answered in time."""
    silent_at = asked.at + group.terms.judge_ms
    return silent_at if conflict is None else min(silent_at, conflict.respond_at)


def _comparing(ledger: Ledger, task: Task, group: Group, member: str, number: int, skill: str, now: int) -> Delegated:
    """Return the task that asks an agent whether a result is the same as the first of a class."""
    pair = [ledger.tasks[one].results[-1].payload for one in (group.classes[number][0], member)]
    payload = question(task, [pair[at] for at in order_of(f"{member}.{number}", 2)])
    involved = {ledger.addressee(task), *ledger.workers_of(group)}
    spec: dict[str, Any] = {
        "skill": skill,
        "requires": {"exclude": sorted(involved)},
        "acceptance": {"evaluator": "auto"},
    }
    return Delegated(
        at=now,
        task=ledger.task_id_at(ledger.lsn + 1),
        scope=f"compare:{task.id}",
        key=f"{member}.{number}",
        delegator=task.delegator,
        context_id=task.context_id,
        spec=spec,
        spec_hash=content_hash(spec, payload),
        durations=task.durations.to_plain(),
        bounds=task.bounds.to_plain() | {"attempts": 2, "losses": 1},
        payload=payload,
        parent=task.id,
        depth=task.depth + 1,
        deadline_at=task.deadline_at,
    )


def _tally(world: World, task: Task, group: Group, conflict: Conflict | None, now: int) -> list[Record] | None:
    """Decide as soon as the outcome cannot change; wait while it can."""
    ledger = world.ledger
    has_ended = all(ledger.tasks[member].is_terminal for member in group.electorate)
    early = _early(ledger, task, group)
    if early is not None and conflict is None:
        return _decide(ledger, task, group, early, now)
    if early is None and not has_ended and (conflict is None or not is_over(world, conflict.respond_at, now)):
        return None
    if conflict is not None:
        return _open_stage(world, of_group(ledger, task, group, conflict), conflict, now)
    if group.classes:  # one class, although fewer answered than were asked: nothing contradicts it
        return _decide(ledger, task, group, Outcome(0, "no answer contradicts it"), now)
    return [Settled(now, task.id, "failed", "unresolved", "none of those asked came to a result")]


def _needed(task: Task, group: Group) -> int:
    """Return how many equal answers decide without a conflict: the number asked for, else what the first rung needs."""
    redundancy, first = task.spec["redundancy"], group.terms.ladder[0]
    by_rung = {"majority": len(group.electorate) // 2 + 1, "quorum": first.get("k"), "first_wins": 1}
    return int(redundancy.get("k") or by_rung.get(first["strategy"]) or len(group.electorate))


def _early(ledger: Ledger, task: Task, group: Group) -> Outcome | None:
    """Return an outcome that no further answer can change, or None. Members that ended without a result have no say."""
    needed = _needed(task, group)
    reached = [number for number, members in enumerate(group.classes) if len(members) >= needed]
    unheard = (ledger.tasks[member].state for member in group.electorate if member not in group.numbers)
    pending = sum(state is TaskState.COMPLETED or state not in TERMINAL for state in unheard)
    rest = max((len(members) for number, members in enumerate(group.classes) if number not in reached), default=0)
    if len(reached) == 1 and rest + pending < needed:
        return Outcome(reached[0], f"{len(group.classes[reached[0]])} of {len(group.electorate)} agree")
    return None


def _decide(ledger: Ledger, task: Task, group: Group, outcome: Outcome, now: int) -> list[Record]:
    assert outcome.winner is not None, "a class was chosen"
    return _give(ledger, task, group, group.classes[outcome.winner][0], outcome.why, now)


def _give(ledger: Ledger, task: Task, group: Group, member: str, why: str, now: int, ahead: int = 0) -> list[Record]:
    """Return the records that make a member's result the group's, and end what is still at work for the group.

    In the same append, `ahead` records come before these.
    """
    records: list[Record] = []
    for other in (*group.electorate, *group.compared):
        if other != member:
            records.extend(cancel(ledger, ledger.tasks[other], "coop", f"{task.id} is decided", "coordinator", now))
    result = ledger.tasks[member].results[-1]
    stale = stale_basis(ledger, task.context_id, [Seen(**seen) for seen in result.basis])
    settles = needs_no_word(ledger, task) and not stale
    records.append(GroupDecided(now, task.id, member, review=not settles, why=why, stale_basis=stale or None))
    if stale:
        lsn = ledger.lsn + ahead + len(records) + 1
        records.append(stale_conflict(ledger, task, result, stale, lsn, now))
    if settles:
        records.append(Settled(now, task.id, "completed", by="auto", result_hash=result.result_hash))
    return records


# A conflict -----------------------------------------------------------------------------------------------------------


def _opened(ledger: Ledger, task: Task, group: Group, now: int) -> ConflictOpened:
    parties = {ledger.tasks[member].results[-1].agent: "author" for member in group.numbers}
    parties.setdefault(ledger.addressee(task), "delegator")
    conflict = ledger.conflict_id_at(ledger.lsn + 1)
    terms = group.terms
    return ConflictOpened(now, conflict, task.id, "result", "r1", terms.ladder, now + terms.ballot_ms, parties)


def _climb(world: World, slate: Slate, conflict: Conflict, now: int) -> list[Record] | None:
    ledger, stage = world.ledger, conflict.stage
    if stage is not None:
        outcome = heard(world, slate, conflict, stage, now)
        if outcome is None:
            return None
        closed = StageClosed(now, conflict.id, _task_of(slate), stage.number, outcome.winner, outcome.why)
        return [closed, *_dismissed(ledger, conflict, stage, now)]
    last = conflict.stages[-1]
    is_appealed = conflict.appeal is not None and conflict.appeal["lsn"] > last.to_lsn
    if last.winner is not None and not is_appealed:
        if may_appeal(world, slate.terms, conflict, now):
            return None
        return _resolve(world, slate, conflict, now)
    if conflict.ladder[last.number].strategy == "abort" and not is_appealed:
        return _abort(slate, conflict, last.why, now)
    return _open_stage(world, slate, conflict, now)


def _task_of(slate: Slate) -> str | None:
    return slate.task.id if slate.task is not None else None


def _dismissed(ledger: Ledger, conflict: Conflict, stage: Stage, now: int) -> list[Record]:
    """Return the records that cancel the tasks of a closed rung: their answers no longer decide anything."""
    records: list[Record] = []
    for asked in stage.asked:
        reason = f"rung {stage.number} of {conflict.id} is over"
        records.extend(cancel(ledger, ledger.tasks[asked], "coop", reason, "coordinator", now))
    return records


def _open_stage(world: World, slate: Slate, conflict: Conflict, now: int) -> list[Record]:
    """Try the next rung. Rungs that only count close at once."""
    ledger, task = world.ledger, _task_of(slate)
    number = conflict.next_rung
    if number >= len(conflict.ladder):
        return _abort(slate, conflict, "no rung has decided", now)
    rung = conflict.ladder[number]
    outcome, weights = None, {}
    is_last = number == len(conflict.ladder) - 1
    if not is_last and (why := ladder_exceeded(ledger, conflict, slate.terms)):
        outcome = Outcome(None, why)
    elif rung.strategy == "abort":
        outcome = Outcome(None, "the last rung refuses all")
    elif rung.strategy == "authority":
        outcome = _authority(ledger, slate)
    elif rung.merges_itself:
        outcome = _unmergeable(ledger, conflict, number)
    elif rung.strategy == "retry" and slate.task is None:
        outcome = Outcome(None, "there is nothing to be done again")
    elif rung.strategy in COUNTED:
        weights = _weights(ledger, slate) if rung.strategy == "weighted" else {}
        votes = {number: list(members) for number, members in enumerate(slate.classes)}
        outcome = count(rung, Ballot(slate.electorate, votes, weights))
    until = now + _rung_ms(slate.terms, rung) if outcome is None else 0
    opened = StageOpened(now, conflict.id, task, number, rung.strategy, until, [], weights)
    if outcome is not None:
        return [opened, StageClosed(now, conflict.id, task, number, outcome.winner, outcome.why)]
    asked = ask(world, slate, conflict, number, rung, now)
    opened.asked = [record.task for record in asked]
    return [*asked, opened]


def _unmergeable(ledger: Ledger, conflict: Conflict, number: int) -> Outcome | None:
    """Return an undecided outcome if no job can merge the candidates, or None if a job has to try. Spec RUNG-6."""
    try:
        to_merge(ledger, conflict, number)
    except Unmergeable as reason:
        return Outcome(None, str(reason))
    return None


def _authority(ledger: Ledger, slate: Slate) -> Outcome:
    """Decide for the class that has an author who outranks all authors of other classes. Spec RUNG-5."""
    for number in range(len(slate.classes)):
        others = [other for other in slate.candidates if other.number != number]
        for one in slate.candidates:
            if one.number == number and all(outranks(ledger, one, other) for other in others):
                return Outcome(number, f"{one.agent} has more to say than all others")
    return Outcome(None, "nobody has more to say than all others")


def _rung_ms(terms: Terms, rung: Rung) -> int:
    if rung.timeout_ms is not None:
        return rung.timeout_ms
    return terms.human_ms if rung.strategy == "human" else terms.judge_ms


def _weights(ledger: Ledger, slate: Slate) -> dict[str, int]:
    """Return the weight of each answer: its author's track record when the rung is tried (spec RUNG-2)."""
    return {ref: weight_of(*ledger.records_of.get(author, (0, 0))) for ref, author in slate.authors.items()}


# The end --------------------------------------------------------------------------------------------------------------


def terms_for(ledger: Ledger, conflict: Conflict) -> Terms:
    """Return the terms of a conflict."""
    group = ledger.tasks[conflict.task].group if not conflict.candidates else None
    terms = group.terms if group is not None else conflict.terms
    assert terms is not None, "a conflict is about a group, or has terms of its own"
    return terms


def may_appeal(world: World, terms: Terms, conflict: Conflict, now: int) -> bool:
    """Tell whether an outcome may still be appealed, and so has no effect yet."""
    until = _appeal_until(terms, conflict)
    return bool(until) and not is_over(world, until, now)


def _appeal_until(terms: Terms, conflict: Conflict) -> int:
    """Return until when the outcome may be appealed, or 0: an outcome after an appeal, or by a person, is final.

    Silence is no person's word, although it decides at the rung that waits for one.
    """
    last = conflict.stages[-1]
    if conflict.appeal is not None or last.by:
        return 0
    return last.to_at + terms.appeal_ms if terms.appeal_ms else 0


def _resolve(world: World, slate: Slate, conflict: Conflict, now: int) -> list[Record]:
    """Return the resolution and what follows from it, for one append. Spec CONFLICT-7."""
    last = conflict.stages[-1]
    assert last.winner is not None, "a class was chosen"
    merged = last.winner == len(slate.classes)
    chosen: str | None = None  # remains None for a merge that asked nobody
    if not merged:
        chosen = slate.classes[last.winner][0]
    elif last.asked:
        chosen = last.asked[0]
    by = last.by or conflict.ladder[last.number].strategy
    return _for(world, slate, conflict, "merge" if merged else "select", chosen, by, last.why, now)


def _for(
    world: World,
    slate: Slate,
    conflict: Conflict,
    outcome: str,
    ref: str | None,
    by: str,
    why: str,
    now: int,
    ahead: int = 0,
) -> list[Record]:
    ledger, task = world.ledger, slate.task
    records: list[Record] = [ConflictResolved(now, conflict.id, _task_of(slate), outcome, ref, by, why)]
    if task is None:
        return [*records, *follows(ledger, conflict, outcome, ref, why, now)]
    assert task.group is not None and ref is not None, "it has the answers"
    return [*records, *_give(ledger, task, task.group, ref, f"{by}: {why}", now, ahead + 1)]


def _abort(slate: Slate, conflict: Conflict, why: str, now: int, by: str = "abort") -> list[Record]:
    records: list[Record] = [ConflictResolved(now, conflict.id, _task_of(slate), "reject_all", None, by, why)]
    if slate.task is not None:
        records.append(Settled(now, slate.task.id, "failed", "unresolved", f"conflict {conflict.id}: {why}"))
    return records


def resolve_by_person(
    world: World, conflict: Conflict, choice: str | None, reasons: str, by: str, now: int
) -> list[Record]:
    """Return the records of a person's decision on a conflict, at any rung. Spec CONFLICT-6."""
    ledger, stage = world.ledger, conflict.stage
    slate = _slate(ledger, conflict)
    if stage is None:
        number = conflict.next_rung
        records: list[Record] = [StageOpened(now, conflict.id, _task_of(slate), number, "human", 0, [], {})]
    else:
        number, records = stage.number, []
    winner = None if choice is None else next(n for n, refs in enumerate(slate.classes) if choice in refs)
    records.append(StageClosed(now, conflict.id, _task_of(slate), number, winner, reasons, by))
    if stage is not None:
        records.extend(_dismissed(ledger, conflict, stage, now))
    if winner is None:
        return [*records, *_abort(slate, conflict, reasons or f"{by} refuses all", now, by)]
    chosen, ahead = slate.classes[winner][0], len(records)
    return [*records, *_for(world, slate, conflict, "select", chosen, by, reasons, now, ahead)]


def _slate(ledger: Ledger, conflict: Conflict) -> Slate:
    if conflict.candidates:
        return of_conflict(ledger, conflict)
    task = ledger.tasks[conflict.task]
    assert task.group is not None, "only groups are disputed for their members' answers"
    return of_group(ledger, task, task.group, conflict)


# Time -----------------------------------------------------------------------------------------------------------------


def due_at(world: World, task: Task) -> int | None:
    """Return when the clock may have to act on a group, or None."""
    group = task.group
    if group is None or group.decided is not None or task.id in world.live.comparing:
        return None  # the comparison under way comes first, and its answer moves the group
    conflict = _open_conflict(world.ledger, task)
    if conflict is None or not conflict.frozen_lsn:
        asked = _waited_for(world.ledger, group)
        if asked is not None:
            return _silent_at(group, asked, conflict)
        return None if conflict is None else conflict.respond_at
    return _next_at(group.terms, conflict)


def hearing_at(conflict: Conflict) -> int | None:
    """Return when the clock may have to act on a conflict that is not about a group, or None."""
    if not conflict.is_open or not conflict.climbs or not conflict.stages:
        return None
    assert conflict.terms is not None, "it was opened with them"
    return _next_at(conflict.terms, conflict)


def _next_at(terms: Terms, conflict: Conflict) -> int | None:
    if not conflict.frozen_lsn:
        return conflict.respond_at
    stage = conflict.stage
    if stage is not None:
        return None if is_held(conflict.ladder[stage.number]) else stage.until
    return _appeal_until(terms, conflict) or None
