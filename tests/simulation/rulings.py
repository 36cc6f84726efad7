"""Safety of groups and conflicts, one checker per property, named as in SEMANTICS 4.1 and the spec.

The outcomes of counting rungs, judges and comparators are worked out here again, from the records alone and without the
engine's code.
"""

from __future__ import annotations

import hashlib
from typing import Any

from a2a.engine.records import (
    Classified,
    ConflictAppealed,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    Delegated,
    GroupDecided,
    Offered,
    PositionTaken,
    Reworked,
    Settled,
    StageClosed,
    StageOpened,
)
from a2a.protocol.messages import ConflictVote
from a2a.protocol.types import principal_of

from .court import Cause, Checker, Court
from .model import GroupModel, Model, Ruling, StageModel, TaskModel

__all__ = ["RULINGS"]

_PEOPLE = ("arbiter", "operator")
"""Agents with the operator's token."""
_LATE_MS = 100
_COMPARING_MS = 16_000
"""How long comparisons under way may hold up a ballot: one after the other, for as many answers as there are."""


class Apart(Checker):
    """An agent that works or has worked on one answer of a group is not offered another (GROUP-1)."""

    name = "GROUP-1"
    records = (Offered,)

    def before(self, record: Offered, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        group = self.model.groups.get(task.parent or "")
        if group is None or task.id not in group.electorate:
            return
        for other in group.electorate:
            member = self.model.tasks[other]
            works = (member.runs and member.holder == record.agent) or self.model.author(other) == record.agent
            self.hold(other == task.id or not works, f"{record.agent} works on {other}, and is offered {task.id}")


class Certain(Checker):
    """A group gets the first result of its class once no answer that may still come can change which (GROUP-2)."""

    name = "GROUP-2"
    records = (GroupDecided,)

    def before(self, record: GroupDecided, lsn: int, cause: Cause) -> None:
        group, needed = self.model.groups[record.task], self.model.needed(record.task)
        last = [ruling for ruling in self.model.rulings.values() if ruling.task == record.task]
        chosen = [members for members in group.classes if members[0] == record.member]
        is_merged = any(record.member in stage.asked for ruling in last[-1:] for stage in ruling.stages)
        self.hold(chosen or is_merged, f"{record.task} gets the result of {record.member}, the first of no class")
        if last:
            return
        unsure = [member for member, number in group.numbers.items() if number < 0]
        self.hold(not unsure, f"{record.task} is decided without a conflict, and nobody can say what {unsure} is")
        waits = [member for member in group.electorate if not self.model.tasks[member].has_ended]
        others = max((len(members) for members in group.classes if members is not chosen[0]), default=0)
        unread = sum(
            member not in group.numbers and (member in waits or self.model.has_answer(member))
            for member in group.electorate
        )
        certain = len(chosen[0]) >= needed > others + unread
        alone = len(group.classes) == 1 and not waits
        self.hold(certain or alone, f"{record.task} is decided by {len(chosen[0])} of {needed}, and {waits} may answer")


class InLedgerOrder(Checker):
    """Answers are classified in the order they came, each into the first class whose first member it equals."""

    name = "COMPARE-2"
    records = (Classified,)

    def before(self, record: Classified, lsn: int, cause: Cause) -> None:
        group = self.model.groups[record.task]
        came = {member: self.model.tasks[member].settled_lsn for member in group.electorate}
        done = [member for member in group.electorate if self.model.has_answer(member)]
        first = min((member for member in done if member not in group.numbers), key=lambda member: came[member])
        self.hold(record.member == first, f"{record.member} is compared before {first}, which came before it")
        if record.number < 0 and cause.kind == "job":
            return
        if group.comparator.startswith("agent:"):
            said = self._said(record, group)
            self.hold(
                record.number == said, f"{record.member} goes into class {record.number}, not {said}, as was said"
            )
            return
        same = (
            number
            for number, members in enumerate(group.classes)
            if self._equal(group.comparator, members[0], record.member)
        )
        expected = next(same, len(group.classes))
        value = self.model.answer(record.member)
        self.hold(
            record.number == expected, f"{record.member} ({value!r}) goes into class {record.number}, not {expected}"
        )

    def _said(self, record: Classified, group: GroupModel) -> int:
        """Return what the agents asked one after the other have said; equal bytes need no agent."""
        for number, members in enumerate(group.classes):
            if self.model.payload(members[0]) == self.model.payload(record.member):
                return number
        for number in range(len(group.classes)):
            same = compared(self.model, record.task, record.member, number)
            if same is not False:
                return -1 if same is None else number
        return len(group.classes)

    def _equal(self, comparator: str, one: str, other: str) -> bool:
        """Compare two answers of the simulated experts, which are numbers, not texts (COMPARE-3)."""
        if comparator in ("bytes", "text-nfc"):
            return self.model.payload(one) == self.model.payload(other)
        first, second = self.model.answer(one), self.model.answer(other)
        return bool(abs(first - second) <= 1 if comparator == "numeric(1)" else first == second)


class ComparedByAnother(Checker):
    """An agent that compares answers gives none; it is asked about differing ones only, class by class, and in time."""

    name = "COMPARE-4"
    records = (Delegated, Offered, Classified)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, Delegated):
            if record.scope.startswith("compare:"):
                self._asks(record)
        elif isinstance(record, Offered):
            self._offered(record)
        elif record.number < 0 and self.model.groups[record.task].comparator.startswith("agent:"):
            asked = [task for task in self._open(record.task) if task.key.startswith(f"{record.member}.")]
            for task in asked:
                left = self._until(task) - record.at
                self.hold(left <= 0, f"{record.member} is in no class {left} ms before {task.id} had to say")

    def _asks(self, record: Delegated) -> None:
        group_id = record.scope.partition(":")[2]
        group = self.model.groups[group_id]
        member, _, number = record.key.rpartition(".")
        payload = self.model.payload(member)
        known = [members[0] for members in group.classes if self.model.payload(members[0]) == payload]
        self.hold(not known, f"{record.task} asks about {member}, whose bytes are those of {known}")
        before = [compared(self.model, group_id, member, earlier) for earlier in range(int(number))]
        self.hold(not any(before) and None not in before, f"{record.task} asks about class {number}, after {before}")
        excluded = record.spec["requires"]["exclude"]
        parties = {self.model.addressee(self.model.tasks[group_id]), *map(self.model.author, group.numbers)}
        self.hold(parties <= set(excluded), f"{record.task} may be done by one of {parties - set(excluded)}")

    def _offered(self, record: Offered) -> None:
        task = self.model.tasks[record.task]
        group = self.model.groups.get(task.parent or "")
        if group is None:
            return
        asked = [other.id for other in self._asked(task.parent or "")]
        if task.id in group.electorate:
            others = asked
        elif task.id in asked:
            others = group.electorate
        else:
            return
        for other in map(self.model.tasks.__getitem__, others):
            works = (other.runs and other.holder == record.agent) or self.model.author(other.id) == record.agent
            self.hold(not works, f"{record.agent} has {other.id}, and is offered {task.id}")

    def _asked(self, group: str) -> list[TaskModel]:
        children = map(self.model.tasks.__getitem__, self.model.tasks[group].children)
        return [task for task in children if task.scope == f"compare:{group}"]

    def _open(self, group: str) -> list[TaskModel]:
        return [task for task in self._asked(group) if not task.has_ended]

    def _until(self, task: TaskModel) -> int:
        until = task.at + self.court.policy.judge_ms
        ruling = self.model.ruling(task.parent or "")
        return until if ruling is None else min(until, ruling.respond_at)

    def look(self, now: int) -> None:
        for group_id, group in self.model.groups.items():
            if not group.comparator.startswith("agent:") or self.model.tasks[group_id].has_ended or group.decided:
                continue
            for task in self._open(group_id):
                is_waited_for = task.key.rpartition(".")[0] not in group.numbers
                ruling = self.model.ruling(group_id)
                if is_waited_for and (ruling is None or not ruling.frozen_lsn):
                    late = now - max(self._until(task), self.model.grace_until)
                    self.hold(late <= _LATE_MS, f"{task.id} should not be waited for since {late} ms")


def compared(model: Model, group: str, member: str, number: int) -> bool | None:
    """Return what was said about a member and the first of a class, or None if nothing was."""
    asked = model.keys.get((f"compare:{group}", f"{member}.{number}"))
    said = model.answer(asked) if asked is not None and model.has_answer(asked) else None
    if isinstance(said, dict):
        said = said.get("equal")
    return said if isinstance(said, bool) else None


class NothingEntersTheFrozen(Checker):
    """Subjects came before the ballot was closed, and what decides about them came after it was opened."""

    name = "I25"
    records = (Classified, ConflictOpened, StageOpened, ConflictResolved)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, ConflictOpened):
            late = [known["ref"] for known in record.candidates or () if known["lsn"] > lsn]
            self.hold(not late, f"{late} are subjects of {record.conflict}, which opens before they are there")
            return
        if isinstance(record, Classified):
            ruling = self.model.ruling(record.task)
            frozen = ruling is not None and ruling.frozen_lsn
            self.hold(not frozen, f"{record.member} enters a conflict of {record.task} that is frozen")
            return
        ruling = self.model.rulings[record.conflict]
        if isinstance(record, StageOpened):
            made = [self.model.tasks[asked] for asked in record.asked]
            own = all(task.scope == f"conflict:{ruling.id}" and task.lsn > ruling.opened_lsn for task in made)
            self.hold(own, f"rung {record.number} of {ruling.id} asks {record.asked}, which were not made for it")
        elif record.ref is not None:
            stage = ruling.stages[-1]
            if ruling.candidates:
                subjects = {candidate["ref"] for candidate in ruling.candidates}
            else:
                subjects = set(self.model.groups[record.task].numbers)
            known = record.ref in subjects or record.ref in stage.asked
            self.hold(known, f"{ruling.id} is resolved for {record.ref}, which is no subject")


class DisputedStays(Checker):
    """No group gets its result, and no task settles, while a conflict about it is open (C5)."""

    name = "I23"
    records = (GroupDecided, Settled)

    def before(self, record: GroupDecided | Settled, lsn: int, cause: Cause) -> None:
        ruling = self.model.ruling(record.task) or self.model.disputing(record.task)
        if ruling is None:
            return
        ends_otherwise = isinstance(record, Settled) and (
            record.state == "canceled" or (not ruling.blocks and record.reason not in ("", "unresolved"))
        )
        self.hold(ends_otherwise, f"{record.task} gets {record} while {ruling.id} is open")


class OneResolution(Checker):
    """At most one conflict is open about an object; it is resolved once, appealed once and by a party, and goes up."""

    name = "I24"
    records = (ConflictOpened, ConflictAppealed, ConflictResolved, StageOpened, PositionTaken)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, ConflictOpened):
            self._opens(record)
            return
        ruling = self.model.rulings[record.conflict]
        self.hold(ruling.is_open, f"{record.conflict} is over, then {record}")
        if isinstance(record, ConflictAppealed):
            self.hold(ruling.appeal_lsn == 0, f"{ruling.id} is appealed twice")
            decided = bool(ruling.stages) and ruling.stages[-1].winner is not None
            self.hold(decided, f"{ruling.id} has no outcome, and is appealed")
        elif isinstance(record, StageOpened):
            tried = [stage.number for stage in ruling.stages]
            self.hold(record.number > max(tried, default=-1), f"rung {record.number} of {ruling.id} after {tried}")
        if isinstance(record, ConflictAppealed | PositionTaken):
            self.hold(record.party in ruling.parties, f"{record.party} is no party to {ruling.id}")
            # An agent that is no party itself may speak for another process of its principal (spec CONFLICT-2).
            is_its_own = cause.agent not in ruling.parties and principal_of(record.party) == principal_of(cause.agent)
            self.hold(record.party == cause.agent or is_its_own, f"{cause.agent} spoke for {record.party}")

    def _opens(self, record: ConflictOpened) -> None:
        if record.candidates is None:
            assert record.task is not None, "it is about a group"
            self.hold(
                self.model.ruling(record.task) is None, f"{record.task} is disputed already, and another conflict opens"
            )
            group = self.model.groups[record.task]
            is_unsure = -1 in group.numbers.values()
            self.hold(
                len(group.classes) > 1 or is_unsure, f"{record.conflict} opens, and nobody contradicts {group.classes}"
            )
            return
        about = (record.kind, record.object)
        known = [one.id for one in self.model.rulings.values() if one.is_open and (one.kind, one.object) == about]
        self.hold(not known, f"{record.conflict} opens about {about}, and {known} is open")
        for task in record.blocks or ():
            other = self.model.disputing(task)
            self.hold(other is None, f"{task} is disputed by {other}, and by {record.conflict}")
        says = {candidate["digest"] for candidate in record.candidates}
        self.hold(len(says) > 1 or record.rule == "c3", f"{record.conflict} opens, and nobody contradicts {says}")


class Independent(Checker):
    """No author, party or stranger decides (C7): agents that are asked are neither, and a person is an operator."""

    name = "I26"
    records = (Offered, StageClosed)

    def before(self, record: Offered | StageClosed, lsn: int, cause: Cause) -> None:
        if isinstance(record, StageClosed):
            if record.by:
                is_person = isinstance(cause.message, ConflictVote) and cause.agent == record.by
                self.hold(is_person and record.by in _PEOPLE, f"{cause.agent} decides {record.conflict} as a person")
            return
        task = self.model.tasks[record.task]
        if task.scope.startswith("conflict:"):
            ruling = self.model.rulings[task.scope.removeprefix("conflict:")]
            self.hold(record.agent not in ruling.parties, f"{record.agent}, a party, is asked about {ruling.id}")


class PartiesTold(Checker):
    """Each party has the opening and the outcome of its conflict in its mailbox, in the same record (C2)."""

    name = "I27"
    records = (ConflictOpened, ConflictNoted, ConflictAppealed, ConflictResolved, Classified, Settled, Reworked)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._open: dict[str, set[str]] = {}
        """Conflicts that were open before the record, with their parties at that time."""

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        self._open = {known.id: set(known.parties) for known in self.model.rulings.values() if known.is_open}

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, ConflictNoted):
            for party in record.parties:
                self._look_twice(party, self.model.rulings[record.conflict], lsn)
            return
        for ruling in self.model.rulings.values():
            before = self._open.get(ruling.id)
            if before is not None and not ruling.is_open:
                told, kind = ruling.parties, "conflict.resolved"
            elif isinstance(record, ConflictAppealed) and record.conflict == ruling.id:
                told, kind = ruling.parties, "conflict.opened"
            else:
                told, kind = (ruling.parties - (before or set())) if ruling.is_open else set(), "conflict.opened"
            for party in sorted(told):
                self._look(party, kind, ruling, lsn)

    def _look_twice(self, party: str, ruling: Ruling, lsn: int) -> None:
        assert self.court.coordinator is not None, "it decided"
        mailbox = self.court.coordinator.ledger.mailboxes.get(party)
        told = [entry.kind for entry in mailbox.entries if entry.lsn == lsn] if mailbox is not None else []
        self.hold(told == ["conflict.opened", "conflict.resolved"], f"{party} has {told} of {ruling.id}")

    def _look(self, party: str, kind: str, ruling: Ruling, lsn: int) -> None:
        assert self.court.coordinator is not None, "it decided"
        mailboxes = self.court.coordinator.ledger.mailboxes
        entries = mailboxes[party].entries if party in mailboxes else ()
        mine = any((entry.lsn, entry.kind, entry.number) == (lsn, kind, ruling.opened_lsn) for entry in entries)
        self.hold(mine, f"{party} has no {kind} of {ruling.id} in its mailbox")


class CountedRight(Checker):
    """A rung's outcome follows from its ballot, counted again here, and no tie is decided (C1, C8)."""

    name = "RUNG-4"
    records = (StageClosed,)

    def before(self, record: StageClosed, lsn: int, cause: Cause) -> None:
        ruling = self.model.rulings[record.conflict]
        if record.by:
            return
        stage = ruling.stages[-1]
        group = self.model.groups.get(record.task or "")
        classes = ruling.classes() if group is None or ruling.candidates else group.classes
        electorate = len(ruling.candidates) if group is None or ruling.candidates else len(group.electorate)
        is_skipped = self.model.is_skipped(ruling, stage)
        known, expected = (True, None) if is_skipped else self._expected(ruling, stage, classes, electorate)
        what = f"rung {stage.number} ({stage.strategy}) of {ruling.id}"
        self.hold(not known or record.winner == expected, f"{what} comes to {record.winner}, by its ballot {expected}")

    def _expected(
        self, ruling: Ruling, stage: StageModel, classes: list[list[str]], electorate: int
    ) -> tuple[bool, int | None]:
        sizes = [len(members) for members in classes]
        rung = ruling.ladder[stage.number]
        match stage.strategy:
            case "first_wins":
                return True, 0
            case "authority":
                return True, self._highest(ruling, classes)
            case "majority":
                return True, _only(sizes, electorate // 2 + 1)
            case "quorum":
                return True, _only(sizes, rung["k"])
            case "plurality":
                leads = [*sorted(sizes, reverse=True), 0]
                return True, sizes.index(leads[0]) if leads[0] - leads[1] >= rung.get("margin", 1) else None
            case "merge" if "skill" not in rung:
                return True, len(sizes) if stage.merged is not None else None
            case "judge":
                order = _shown(ruling.id, len(sizes))
                chosen = [
                    self._choice(asked, turned) for asked, turned in zip(stage.asked, (order, order[::-1]), strict=True)
                ]
                return True, chosen[0] if chosen[0] == chosen[1] else None
            case "panel":
                drawn = _shown(ruling.id, len(sizes))
                turned = [drawn[at % len(drawn) :] + drawn[: at % len(drawn)] for at in range(len(stage.asked))]
                votes = [self._choice(asked, order) for asked, order in zip(stage.asked, turned, strict=True)]
                return True, next((vote for vote in votes if vote is not None and 2 * votes.count(vote) > 3), None)
            case "verify":
                passed = [number for number, asked in enumerate(stage.asked) if self._said(asked) is True]
                return True, passed[0] if len(passed) == 1 else None
        return False, None

    def _highest(self, ruling: Ruling, classes: list[list[str]]) -> int | None:
        """Return the class with an author that delegated, at any level, the work of each other class's author."""
        by_ref = {known["ref"]: known for known in ruling.candidates} or {
            ref: {"agent": self.model.author(ref), "task": ref, "is_operator": False}
            for members in classes
            for ref in members
        }
        for number, members in enumerate(classes):
            others = [by_ref[ref] for ref in by_ref if ref not in members]
            if any(all(self._outranks(by_ref[one], other) for other in others) for one in members):
                return number
        return None

    def _outranks(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        if one["is_operator"] or other["is_operator"]:
            return bool(one["is_operator"] and not other["is_operator"])
        return self._is_above(one, other) and not self._is_above(other, one)

    def _is_above(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        principal, task = principal_of(one["agent"]), self.model.tasks.get(other["task"] or "")
        above = []
        while task is not None:
            above.append(task.principal)
            task = self.model.tasks.get(task.parent or "")
        return principal in above and principal != principal_of(other["agent"])

    def _said(self, asked: str) -> Any:
        return self.model.answer(asked) if self.model.has_answer(asked) else None

    def _choice(self, asked: str, order: list[int]) -> int | None:
        said = self._said(asked)
        place = said["choice"] if isinstance(said, dict) else None
        return order[place] if isinstance(place, int) and place < len(order) else None


class StepsInTime(Checker):
    """Every conflict closes within the sum of its rungs' limits: the ballot and each rung end when their time is up."""

    name = "L5"

    def look(self, now: int) -> None:
        for ruling in self.model.rulings.values():
            due = self._due(ruling) if ruling.is_open else None
            if due is not None:
                late = now - max(due, self.model.grace_until)
                allowed = _LATE_MS if ruling.frozen_lsn else _COMPARING_MS
                self.hold(late <= allowed, f"{ruling.id} should have gone on {late} ms ago")

    def _due(self, ruling: Ruling) -> int | None:
        if ruling.rule == "c3":
            return None  # a confirm of the task decides it, which has its own time limit
        if not ruling.frozen_lsn:
            return ruling.respond_at
        stage = ruling.stages[-1]
        if not stage.to_lsn:
            return stage.until
        appeal_ms = ruling.appeal_ms if ruling.candidates else self.model.groups[ruling.task].appeal_ms
        return stage.to_at + (0 if ruling.appeal_lsn else appeal_ms)


class NotEarly(Checker):
    """Nobody loses time to answer, to decide or to appeal."""

    name = "T2"
    records = (StageOpened, StageClosed, ConflictResolved)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        ruling = self.model.rulings[record.conflict]
        if isinstance(cause.message, ConflictVote) or (isinstance(record, ConflictResolved) and not ruling.stages):
            return
        group = None if ruling.candidates else self.model.groups[record.task]
        if isinstance(record, StageOpened):
            if group is None:
                return  # all subjects were there from the beginning
            waits = [member for member in group.electorate if not self.model.tasks[member].has_ended]
            early = record.at < ruling.respond_at and waits and not self._is_certain(record.task, group)
            self.hold(ruling.frozen_lsn or not early, f"{ruling.id} is frozen at {record.at}, and {waits} may answer")
            return
        stage = ruling.stages[-1]
        if isinstance(record, StageClosed):
            waits = [asked for asked in stage.asked if not self.model.tasks[asked].has_ended]
            is_human, is_used_up = stage.strategy == "human", self.model.is_used_up(ruling, stage)
            early = record.at < stage.until and (is_human or (waits and not is_used_up))
            self.hold(not early, f"rung {stage.number} of {ruling.id} ends {stage.until - record.at} ms early")
        elif record.outcome in ("select", "merge") and not ruling.appeal_lsn:
            left = stage.to_at + (ruling.appeal_ms if group is None else group.appeal_ms) - record.at
            self.hold(left <= 0, f"{ruling.id} takes effect {left} ms before nobody can appeal any more")

    def _is_certain(self, task: str, group: GroupModel) -> bool:
        """Whether no answer that may still come can change which class reaches the number needed."""
        needed, unread = self.model.needed(task), len(group.electorate) - len(group.numbers)
        sizes = [*sorted((len(members) for members in group.classes), reverse=True), 0]
        return sizes[0] >= needed > sizes[1] + unread


def _only(sizes: list[int], needed: int) -> int | None:
    reached = [number for number, size in enumerate(sizes) if size >= needed]
    return reached[0] if len(reached) == 1 else None


def _shown(conflict: str, count: int) -> list[int]:
    """Return the order in which a judge is shown the candidates: drawn from the conflict's id (RUNG-3)."""
    drawn = [hashlib.blake2b(f"{conflict}\n{at}".encode(), digest_size=8).hexdigest() for at in range(count)]
    return sorted(range(count), key=lambda at: drawn[at])


RULINGS: tuple[type[Checker], ...] = (
    Apart,
    Certain,
    InLedgerOrder,
    ComparedByAnother,
    NothingEntersTheFrozen,
    DisputedStays,
    OneResolution,
    Independent,
    PartiesTold,
    CountedRight,
    StepsInTime,
    NotEarly,
)
