"""What has to happen in time, and that the records rebuild the present state: timers, queues, replay."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from a2a.engine.coordinator import Coordinator
from a2a.engine.ledger import Ledger
from a2a.engine.records import RECORDS, CoordinatorStarted, Record, from_bytes, to_bytes
from a2a.engine.task_state import Task
from a2a.protocol.codec import Frame

from .checkers import suits
from .claiming import tasks_before
from .court import Cause, Checker, Court, LifeChecker, Violation
from .holdings import ClaimModel
from .model import TaskModel

__all__ = ["LIVENESS", "ReplayIsLive", "compare", "fold"]

_LATE_MS = 20
"""A timer that is this late was not set: the simulated shell is exact to the millisecond."""


class EverythingEnds(Checker):
    """Every created task reaches a terminal state once the faults are over."""

    name = "L1"

    def unfinished(self) -> str | None:
        return next((f"{task.id} is {task.state}" for task in self.model.open.values()), None)


class MailArrives(Checker):
    """An agent that is here eventually has every entry of its mailbox."""

    name = "L9"

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._newest: dict[tuple[str, int], int] = {}
        """Agent, and how often its mailbox was forgotten, to the newest entry that one of its processes took."""

    def took(self, agent: str, frame: Frame) -> None:
        mailbox = (agent, self.model.forgotten.get(agent, 0))
        self._newest[mailbox] = max(self._newest.get(mailbox, 0), frame.mseq or 0)

    def unfinished(self) -> str | None:
        assert self.court.coordinator is not None, "it is up"
        mailboxes = self.court.coordinator.ledger.mailboxes
        for agent in self.model.seats:
            mailbox, newest = mailboxes.get(agent), self._newest.get((agent, self.model.forgotten.get(agent, 0)), 0)
            if mailbox is not None and mailbox.next_mseq - 1 > newest:
                return f"{agent} has mail up to {newest} of {mailbox.next_mseq - 1}"
        return None


class TimersFire(Checker):
    """No state without a timer: a lease (L3), a result (L4), a cancel (L6) and all others end in their time."""

    name = "L3"

    def look(self, now: int) -> None:
        grace = self.model.grace_until
        hold_results = self.court.policy.on_confirm_timeout == "hold"
        for task in self.model.open.values():
            for name, due in _dues(task, hold_results):
                late = now - max(due, grace)
                if late > _LATE_MS:
                    raise Violation(name, f"{task.id} is {task.state}, what should end that is {late} ms late")


def _dues(task: TaskModel, hold_results: bool) -> list[tuple[str, int]]:
    """Return the times by which something has to have happened to a task, and what that is."""
    durations = task.durations
    dues: list[tuple[str, int]] = []
    is_reported = task.state in ("reported", "disputed") and task.rev in task.results
    if task.deadline_at is not None and not is_reported:
        dues.append(("deadline", task.deadline_at))
    if task.state == "queued" and durations["queue_ms"] is not None:
        dues.append(("queue", task.since + durations["queue_ms"]))
    elif task.state == "offered":
        dues.append(("offer", task.offered_at + (durations["offer_ms"] or 0)))
    elif task.state == "reported" and not hold_results and task.evaluator != "human":
        dues.append(("L4", task.since + (durations["confirm_ms"] or 0)))
    elif task.state == "canceling":
        dues.append(("L6", task.grace_at))
    if task.state in ("leased", "parked", "canceling") and task.runs:
        dues.append(("L3", task.lease_until))
    if task.state == "leased" and task.runs and task.evicted:
        dues.append(("L3", task.evicted_until))
    elif task.state == "leased" and task.runs and durations["attempt_ms"] is not None:
        dues.append(("L3", task.since + durations["attempt_ms"]))
    if task.state == "parked":
        dues.extend(("ask", ask.deadline_at) for ask in task.asks.values() if ask.is_open)
    return dues


class QueuesMove(Checker):
    """A queued task with a capable agent that is here and has credit is offered at once."""

    name = "L2"

    def look(self, now: int) -> None:
        model = self.model
        for task in model.open.values():
            if task.state != "queued" or task.retry_at > now - _LATE_MS:
                continue
            if task.resources and self._has_to_wait(task):
                continue
            for agent, seat in model.seats.items():
                known = model.agents.get(agent)
                if known is None or known.status != "ready" or task.skill not in known.skills:
                    continue
                if model.quarantine(agent) is not None:
                    continue
                if agent in model.tried(task):
                    continue
                free = seat.credit - model.slots_filled(agent)
                if free > 0 and suits(task, agent, known.labels) and task.shunned.get(agent, 0) <= now - _LATE_MS:
                    raise Violation(self.name, f"{task.id} waits, and {agent} is here with credit for {free} more")

    def _has_to_wait(self, task: TaskModel) -> bool:
        claim = ClaimModel(task.lsn, task.at, "", task.resources, task.id, 0, priority=task.priority)
        others = (other for other in self.model.claims.values() if claim.is_against(other))
        return any(other.fence or other.place < claim.place for other in others) or bool(tasks_before(self, claim))


class TreesEnd(Checker):
    """A task that does not outlive its parent is asked to end when the parent has ended (TREE-4)."""

    name = "TREE-4"

    def look(self, now: int) -> None:
        for task in self.model.open.values():
            parent = self.model.tasks.get(task.parent or "")
            if parent is None or not parent.has_ended or task.on_parent_end != "cancel":
                continue
            self.hold(task.cancel is not None, f"{task.id} is {task.state}, its parent {parent.id} has ended")


class ModelIsLedger(Checker):
    """The checkers' fold and the engine's agree on every open task; a difference is a bug in one of them."""

    name = "M"

    def look(self, now: int) -> None:
        coordinator = self.court.coordinator
        assert coordinator is not None, "it is up"
        ledger = coordinator.ledger
        self.hold(list(ledger.open_tasks) == list(self.model.open), "the open tasks differ")
        claims = {claim.id: claim.fence for claim in ledger.claims.claims.values()}
        self.hold(claims == {claim.id: claim.fence for claim in self.model.claims.values()}, "the claims differ")
        for task in ledger.open_tasks.values():
            own, authority, offer = self.model.open[task.id], task.authority, task.offer
            same = (
                task.state == own.state
                and task.generation == len(own.events)
                and task.rev == own.rev
                and (authority.fence if authority else 0) == own.fence
                and (authority is not None and authority.is_open) == own.is_open
                and (authority is not None and authority.lapsed) == own.lapsed
                and (authority.evicted if authority else "") == own.evicted
                and (offer.fence if offer else 0) == own.offer
                and task.losses == own.losses
                and task.failures == own.failures
                and task.declines == own.declines
                and task.revivals == own.revivals
                and task.handoffs == own.handoffs
                and task.handed_to == own.handed_to
                and len(task.steers) == own.words
                and (not (task.checkpoints or own.checkpoints) or _checkpoints(task) == _left(own))
                and (not (task.losses or own.lost) or task.lost_by == _lost_by(own))
                and (not (task.spent or own.spent) or _something(task.spent) == _something(own.spent))
                and (not (task.reserved or own.reserved) or _something(task.reserved) == _something(own.reserved))
            )
            if not same:
                self.hold(False, f"{task.id}: the ledger has {task}, the records say {own}")


def _checkpoints(task: Task) -> dict[int, int]:
    return {kept.fence: kept.cp_no for kept in task.checkpoints}


def _left(own: TaskModel) -> dict[int, int]:
    return {fence: left.cp_no for fence, left in own.checkpoints.items()}


def _lost_by(own: TaskModel) -> list[str]:
    return list(dict.fromkeys(own.minted[fence] for fence in sorted(own.lost)))


def _something(counts: dict[str, int]) -> dict[str, int]:
    return {kind: count for kind, count in counts.items() if count}


class ReplayIsLive(LifeChecker):
    """Replay(ledger) = live state, to the last field of everything a ledger holds; and epochs count the starts.

    A second ledger follows: it begins with what the disk has and folds the stored form of each record that becomes
    true. When the process ends, it and the coordinator's own have to be the same.
    """

    name = "I28"
    records = tuple(RECORDS.values())

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._replica = Ledger()
        self._starts = 0

    def starting(self) -> None:
        assert self.court.coordinator is not None, "it is about to fold"
        self._replica = fold(self.court.log, self.court.coordinator.policy.namespace)
        self._starts = sum(isinstance(record, CoordinatorStarted) for record in self.court.log)

    def after(self, record: Record, lsn: int, cause: Cause) -> None:
        self._replica.apply(from_bytes(*to_bytes(record)))

    def started(self, coordinator: Coordinator) -> None:
        epoch, due = coordinator.ledger.epoch, self._starts + 1
        self.hold(epoch == due, f"this is start {due}, and epoch {epoch}")

    def crashed(self, coordinator: Coordinator, durable: int) -> None:
        compare(self.name, self._replica, coordinator.ledger)

    def ended(self, coordinator: Coordinator) -> None:
        compare(self.name, self._replica, coordinator.ledger)


def fold(records: Iterable[Record], namespace: str) -> Ledger:
    """Build a ledger from records."""
    ledger = Ledger(namespace)
    for record in records:
        ledger.apply(record)
    return ledger


def compare(name: str, replayed: Ledger, live: Ledger) -> None:
    """Compare two ledgers to the last field and the order of every map.

    Raises:
        Violation: they differ; the first place is named.
    """
    for field, theirs in vars(live).items():
        if field in _PASSING:
            continue
        ours = vars(replayed)[field]
        if ours != theirs or not (field in _LOOKED_UP or _same_order(ours, theirs)):
            raise Violation(name, f"replay and live differ at {_difference(ours, theirs, field)}")


_PASSING = ("touched", "posted", "freed", "stirred", "closed")
"""Marks that the passes clear."""
_LOOKED_UP = ("conflicts_about", "contexts_in_use")
"""Maps that nothing iterates: after a snapshot, a topic comes where the oldest of its conflicts in memory does, a
context where the oldest of its open tasks does."""
_SCALARS = frozenset({str, int, bytes, bool, type(None)})
_NAMES: dict[type, tuple[str, ...]] = {}
"""Class to the fields of its instances that may hold a map."""
_PLAIN = re.compile(r"(str|int|bytes|bool|None|TaskState|Durations|Bounds|[ |])*")
"""The type of a field that holds no map."""


def _same_order(ours: Any, theirs: Any) -> bool:
    """Compare the order of the maps in two equal values: what depends on it would differ after a restart."""
    kind = type(ours)
    if kind is dict:
        if len(ours) > 1 and list(ours) != list(theirs):
            return False
        pairs: Iterable[tuple[Any, Any]] = zip(ours.values(), theirs.values(), strict=True)
    elif kind is list or kind is tuple or kind is deque:
        pairs = zip(ours, theirs, strict=True)
    else:
        names = _NAMES.get(kind)
        if names is None:
            shown = fields(ours) if is_dataclass(ours) else ()
            names = _NAMES[kind] = tuple(item.name for item in shown if not _PLAIN.fullmatch(str(item.type)))
        for name in names:
            value = getattr(ours, name)
            if value and not _same_order(value, getattr(theirs, name)):
                return False
        return True
    return all(type(one) in _SCALARS or _same_order(one, other) for one, other in pairs)


def _difference(ours: Any, theirs: Any, where: str) -> str:
    """Name the first place where two values differ."""
    if type(ours) is type(theirs):
        if isinstance(ours, dict) and list(ours) == list(theirs):
            pairs: Iterable[tuple[str, Any, Any]] = ((f"[{key!r}]", item, theirs[key]) for key, item in ours.items())
        elif isinstance(ours, list | tuple | deque) and len(ours) == len(theirs):
            pairs = ((f"[{number}]", *both) for number, both in enumerate(zip(ours, theirs, strict=True)))
        elif is_dataclass(ours):
            pairs = ((f".{item.name}", *(getattr(one, item.name) for one in (ours, theirs))) for item in fields(ours))
        else:
            pairs = ()
        for place, one, other in pairs:
            if one != other or not _same_order(one, other):
                return _difference(one, other, where + place)
    return f"{where}: replayed {ours!r:.200}, live {theirs!r:.200}"


LIVENESS: tuple[type[Checker], ...] = (
    EverythingEnds,
    MailArrives,
    TimersFire,
    QueuesMove,
    TreesEnd,
    ModelIsLedger,
    ReplayIsLive,
)
