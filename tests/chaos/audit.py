"""The judge: reads the ledger's file after a run and passes every record to the simulator's checkers.

Checkers that need only records are used unchanged; what the client heard during the run, and when the coordinator was
started, is compared with the records here. The judge knows nothing of how the processes were run.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from a2a import SqliteStore
from a2a.content import result_value
from a2a.engine.coordinator import Coordinator
from a2a.engine.policy import Policy
from a2a.engine.records import (
    ContextRecalled,
    CoordinatorStarted,
    LeaseExpired,
    Offered,
    Record,
    Reported,
    Settled,
    from_bytes,
)
from tests.simulation.checkers import (
    Absorbing,
    Bounded,
    Chunks,
    DeadFences,
    EndsInOneStep,
    FencesGrow,
    MailPosted,
    OneAnswer,
    OneHolder,
    OneResult,
    OneTaskPerKey,
    OnlyTheHolder,
    TreeRules,
)
from tests.simulation.contexts import OnlyTheIdleLeave
from tests.simulation.court import Checker, Court, Violation
from tests.simulation.liveness import ModelIsLedger

from .work import HEARTBEAT, LEASE

__all__ = ["Findings", "Heard", "judge", "read_ledger"]

FROM_RECORDS: tuple[type[Checker], ...] = (
    OneTaskPerKey,
    FencesGrow,
    OneHolder,
    OneResult,
    DeadFences,
    Absorbing,
    OnlyTheHolder,
    TreeRules,
    Chunks,
    OneAnswer,
    Bounded,
    EndsInOneStep,
    MailPosted,
    ModelIsLedger,
    OnlyTheIdleLeave,
)
"""Checkers that need no message and no connection."""
_COMPARE_EVERY = 1_000
"""Records between two comparisons of the checkers' fold with the engine's."""
_SHOWN = 20


@dataclass(slots=True)
class Heard:
    """What is known outside the ledger, to be compared with it."""

    tasks: dict[str, str] = field(default_factory=dict)
    """Key to the task that was acknowledged."""
    values: dict[str, object] = field(default_factory=dict)
    """Key to the result that was confirmed."""
    starts: list[int] = field(default_factory=list)
    """When each process of the coordinator was started, in milliseconds since the epoch."""
    faults: list[int] = field(default_factory=list)
    """When each fault came."""
    shared: dict[tuple[str, str], object] = field(default_factory=dict)
    """(context, key) to the value that was written there, once."""


@dataclass(slots=True)
class Findings:
    """What the ledger says."""

    records: int = 0
    tasks: int = 0
    roots: int = 0
    lost: list[str] = field(default_factory=list)
    """What was acknowledged and is not true."""
    settled_twice: list[str] = field(default_factory=list)
    without_holder: list[str] = field(default_factory=list)
    """Results whose reporter did not hold the task."""
    unfinished: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """The other violations that the checkers found."""
    attempts: int = 0
    recoveries: list[tuple[float, int]] = field(default_factory=list)
    """After each restart: seconds from the start of the process to the first offer, and the tasks in its ledger."""
    running: int = 0
    """Attempts at work when a coordinator came back in time for their leases, and over before the next fault came."""
    kept: int = 0
    """Those of them that ended with a result under the same fence."""
    recalled: int = 0
    """How often a context that had left memory came back."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.settled_twice or self.without_holder or self.unfinished or self.violations)

    def wrong(self) -> list[str]:
        """Return what is wrong, the first few of each kind."""
        kinds = {
            "lost": self.lost,
            "settled twice": self.settled_twice,
            "without holder": self.without_holder,
            "unfinished": self.unfinished,
            "violation": self.violations,
        }
        return [f"{name}: {detail}" for name, details in kinds.items() for detail in details[:_SHOWN]]


async def read_ledger(path: Path) -> list[Record]:
    """Return every record of a ledger that nobody has open."""
    store = SqliteStore(path)
    await store.open()
    try:
        return [from_bytes(entry.body, entry.payload) for entry in store.read()]
    finally:
        await store.aclose()


def judge(records: Sequence[Record], heard: Heard | None = None) -> Findings:
    """Check every record as it became true, then the end, then what is known outside."""
    heard = heard or Heard()
    found = Findings(records=len(records))
    # How long contexts stay in memory is a setting of the coordinator that is judged.
    court = Court(Policy(linger_contexts_ms=0), FROM_RECORDS, lambda: len(records))
    court.coordinator = Coordinator(Policy())
    restarts = _Restarts(heard)
    for lsn, record in enumerate(records, 1):
        try:
            court.committing(record, lsn)
        except Violation as violation:
            _sort(found, record, lsn, violation)
        restarts.before(record, court)
        try:
            court.coordinator.ledger.apply(record)
            court.committed(record, lsn)
            if lsn % _COMPARE_EVERY == 0 or lsn == len(records):
                court.look(record.at)
        except Violation as violation:
            found.violations.append(f"record {lsn}: {violation}")
        except Exception as error:  # noqa: BLE001 - a record that does not fit can fail anywhere, and is the finding
            found.violations.append(f"record {lsn} {record} does not fit what comes before it: {error!r}")
            break
    found.recalled = sum(isinstance(record, ContextRecalled) for record in records)
    found.recoveries, found.running, found.kept = restarts.recoveries, restarts.running, restarts.kept
    _compare(found, court, heard)
    _epochs(found, records, heard)
    return found


def _sort(found: Findings, record: Record, lsn: int, violation: Violation) -> None:
    detail = f"record {lsn}: {violation}"
    if isinstance(record, Settled) and violation.name in (Absorbing.name, "I11"):
        found.settled_twice.append(detail)
    elif isinstance(record, Reported):
        found.without_holder.append(detail)
    else:
        found.violations.append(detail)


def _compare(found: Findings, court: Court, heard: Heard) -> None:
    model = court.model
    found.tasks, found.attempts = len(model.tasks), sum(len(task.minted) for task in model.tasks.values())
    found.roots = sum(task.parent is None for task in model.tasks.values())
    found.unfinished = [f"{task.id} is {task.state}" for task in model.open.values()]
    by_key = {task.key: task for task in model.tasks.values() if task.parent is None}
    for key, task_id in heard.tasks.items():
        if key not in by_key or by_key[key].id != task_id:
            found.lost.append(f"{key} was acknowledged as {task_id}, the ledger has {by_key.get(key)}")
    for key, value in heard.values.items():
        task = by_key.get(key)
        if task is None or task.settled is None or task.settled.state != "completed":
            found.lost.append(f"the result of {key} was confirmed, the ledger has {task and task.settled}")
            continue
        result = task.results.get(task.rev)
        if result is None or result_value(result.payload) != value:
            found.lost.append(f"{key} came to {value}, the ledger has {result}")
    for (context, key), value in heard.shared.items():
        known = model.contexts.get(context)
        written = [json.loads(payload or b"null") for payload in known.values.get(key, ())] if known else []
        if written != [value]:
            found.lost.append(f"{key} of context {context} is {value}, and was written so: {written}")
    for task in model.tasks.values():
        if task.settled is None:
            continue
        result = task.results.get(task.rev)
        if task.settled.state != "completed":
            found.lost.append(f"{task.id} is {task.settled.state} ({task.settled.reason}), nobody wanted that")
        elif result is None or result.digest != task.settled.result_hash:
            found.without_holder.append(f"{task.id} completed with {task.settled.result_hash}, its result is {result}")


def _epochs(found: Findings, records: Sequence[Record], heard: Heard) -> None:
    epochs = [record.epoch for record in records if isinstance(record, CoordinatorStarted)]
    if epochs != list(range(1, len(epochs) + 1)):
        found.violations.append(f"the epochs are {epochs}")
    if heard.starts and len(epochs) != len(heard.starts):
        found.violations.append(f"{len(epochs)} epochs, the coordinator was started {len(heard.starts)} times")


class _Restarts:
    """Follows which attempts each start of the coordinator found at work, and how long it took until the next offer."""

    def __init__(self, heard: Heard) -> None:
        self.recoveries: list[tuple[float, int]] = []
        self.running = 0
        self.kept = 0
        self._heard = heard
        self._started_at = 0
        """When the process that has not offered anything yet was started; 0 after its first offer."""
        self._is_in_time = False
        self._until = 0
        """When the next fault comes: from then on, that fault may have been the cause."""
        self._at_work: set[tuple[str, int]] = set()
        """Attempts that were at work at the newest start, and still are."""

    def before(self, record: Record, court: Court) -> None:
        """Note a record that is about to become true."""
        if isinstance(record, CoordinatorStarted):
            self._begin(record, court)
        elif isinstance(record, Offered) and self._started_at:
            self.recoveries.append(((record.at - self._started_at) / 1000, len(court.model.tasks)))
            self._started_at = 0
        elif isinstance(record, Reported | LeaseExpired) and (record.task, record.fence) in self._at_work:
            self._at_work.remove((record.task, record.fence))
            if self._is_in_time and record.at < self._until:
                self.running += 1
                self.kept += isinstance(record, Reported) and record.outcome == "completed"

    def _begin(self, record: CoordinatorStarted, court: Court) -> None:
        starts, faults = self._heard.starts, self._heard.faults
        self._started_at = starts[record.epoch - 1] if 1 < record.epoch <= len(starts) else 0
        later = bisect_right(faults, record.at)
        self._until = faults[later] if later < len(faults) else record.at + 3_600_000
        # The time to come back is what a worker's watchdog leaves of its lease after its last heartbeat was confirmed,
        # and a little less, to let the hello arrive.
        self._is_in_time = record.at - self._started_at < (LEASE * 0.9 - HEARTBEAT - 0.3) * 1000
        self._at_work = {(task.id, task.fence) for task in court.model.open.values() if task.runs}
