"""What has to happen in time, and that the past builds the present: timers, queues, replay."""

from __future__ import annotations

from collections import deque
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from a2a.engine.coordinator import Coordinator
from a2a.engine.ledger import Ledger
from a2a.engine.records import Record, from_bytes, to_bytes

from .checkers import suits
from .court import Checker, LifeChecker, Violation
from .model import TaskModel

__all__ = ["LIVENESS", "ReplayIsLive", "compare", "fold", "state_of"]

_LATE_MS = 20
"""A timer that is this late was not set: the simulated shell is exact to the millisecond."""


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
    if task.deadline_at is not None and task.state != "reported":
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
            for agent, seat in model.seats.items():
                known = model.agents.get(agent)
                if known is None or known.status != "ready" or task.skill not in known.skills:
                    continue
                free = seat.credit - len(model.holding.get(agent, ()))
                if free > 0 and suits(task, agent, known.labels) and task.shunned.get(agent, 0) <= now - _LATE_MS:
                    raise Violation(self.name, f"{task.id} waits, and {agent} is here with credit for {free} more")


class TreesEnd(Checker):
    """What does not outlive its parent is asked to end when the parent has ended (TREE-4)."""

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
        for task in ledger.open_tasks.values():
            authority, offer = task.authority, task.offer
            engine = (
                task.state.value,
                task.generation,
                authority.fence if authority else 0,
                authority.is_open if authority else False,
                authority.lapsed if authority else False,
                offer.fence if offer else 0,
                task.rev,
                (task.losses, task.failures, task.declines, task.revivals),
            )
            own = self.model.open[task.id]
            ours = (
                own.state,
                len(own.events),
                own.fence,
                own.is_open,
                own.lapsed,
                own.offer,
                own.rev,
                (own.losses, own.failures, own.declines, own.revivals),
            )
            self.hold(engine == ours, f"{task.id}: the ledger has {engine}, the records say {ours}")


class ReplayIsLive(LifeChecker):
    """Replay(ledger) = live state, byte for byte of everything a ledger holds; and epochs count the starts."""

    name = "I28"

    def crashed(self, coordinator: Coordinator, durable: int) -> None:
        log = self.court.log
        again = fold(log, coordinator.policy.namespace)
        compare(self.name, again, coordinator.ledger)

    def started(self, coordinator: Coordinator) -> None:
        log = self.court.log  # what the disk had, and what the start has added
        compare(self.name, fold(log, coordinator.policy.namespace), coordinator.ledger)
        starts = sum(type(record).__name__ == "CoordinatorStarted" for record in log)
        self.hold(coordinator.ledger.epoch == starts, f"epoch {coordinator.ledger.epoch} after {starts} starts")


def fold(records: list[Record], namespace: str) -> Ledger:
    """Build a ledger from the stored form of records."""
    ledger = Ledger(namespace)
    for record in records:
        ledger.apply(from_bytes(*to_bytes(record)))
    return ledger


def compare(name: str, replayed: Ledger, live: Ledger) -> None:
    """Compare two ledgers to the last field and the order of every map.

    Raises:
        Violation: they differ; the first place is named.
    """
    ours, theirs = state_of(replayed), state_of(live)
    if ours != theirs:
        raise Violation(name, f"replay and live differ at {_difference(ours, theirs, 'ledger')}")


def state_of(ledger: Ledger) -> Any:
    """Return everything a ledger holds as nested tuples; without the marks that the passes clear."""
    return tuple((name, _plain(value)) for name, value in vars(ledger).items() if name not in ("touched", "posted"))


_SCALARS = frozenset({str, int, bytes, bool, type(None)})
_NAMES: dict[type, tuple[str, ...] | None] = {}
"""Class to the fields of its instances; None for one that is not a dataclass."""


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return tuple([(key, item if type(item) in _SCALARS else _plain(item)) for key, item in value.items()])
    if kind is list or kind is tuple or kind is deque:
        return tuple([item if type(item) in _SCALARS else _plain(item) for item in value])
    if kind is bytearray:
        return bytes(value)
    names = _NAMES.get(kind)
    if names is None:
        if isinstance(value, Enum):
            return value.value
        assert is_dataclass(value), f"a ledger holds no {kind.__name__}"
        names = _NAMES[kind] = tuple(item.name for item in fields(value))
    return tuple([(name, item if type(item := getattr(value, name)) in _SCALARS else _plain(item)) for name in names])


def _difference(ours: Any, theirs: Any, where: str) -> str:
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one != other:
                named = isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) and one[0] == other[0]
                if named:
                    return _difference(one[1], other[1], f"{where}.{one[0]}")
                return _difference(one, other, f"{where}[{number}]")
    return f"{where}: replayed {ours!r:.200}, live {theirs!r:.200}"


LIVENESS: tuple[type[Checker], ...] = (TimersFire, QueuesMove, TreesEnd, ModelIsLedger, ReplayIsLive)
