"""What was refused, and to whom: which refusals are kept, and how many (spec ERR-5 to ERR-7).

`refusal_of` says what of an answer is worth keeping; `Refusals` holds back the excess until it can be told as a number.
Both belong to the coordinator, which records what it takes from here after the answer has left; the fold keeps the
newest refusals with the task, conflict or principal they are about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import ErrorCode
from ..protocol.messages import (
    A2AFault,
    ContextWrite,
    Error,
    Hello,
    Message,
    TaskDelegate,
    TaskGet,
    TaskHeartbeat,
    TaskList,
    TaskReport,
    TaskRevoke,
    TaskVerdict,
    TaskWatch,
)
from ..protocol.types import principal_of
from .decision import Called
from .records import Refused

if TYPE_CHECKING:
    from .decision import Decision
    from .ledger import Ledger
    from .live import Connection, World

__all__ = ["CODES_KEPT", "MAY_REFUSE", "Refusal", "Refusals", "keep", "refusal_of", "shown", "stands"]

REFUSALS_KEPT = 16
"""Refusals kept with one task, conflict or principal: the newest show what goes on, and the ledger has them all."""
_MINUTE_MS = 60_000
_DETAIL_MAX = 300
"""Most characters: a detail quotes ids, and a peer chooses how long these are."""
_REPORTS_KNOWN = 64
"""Reports remembered of one connection, to recognise repeats on it."""
_EVERYBODY = ""
"""The agent under which all hellos are counted: their true senders are not known."""

_OF_AUTHORITY = frozenset({ErrorCode.FORBIDDEN.value, ErrorCode.STALE.value, ErrorCode.NOT_HOLDER.value})
_OF_STATE = frozenset(
    code.value
    for code in (
        ErrorCode.CONFLICT,
        ErrorCode.DENIED,
        ErrorCode.MALFORMED,
        ErrorCode.IDEMPOTENCY_MISMATCH,
        ErrorCode.ALREADY_ANSWERED,
        ErrorCode.NOT_CANCELABLE,
    )
)
"""Only for requests about tasks and conflicts: with contexts and claims, honest agents get these all the time."""
_OF_IDENTITY = frozenset({ErrorCode.AUTH.value, ErrorCode.DENIED.value})
_OF_REPORTS = frozenset({"duplicate", "invalid", "late", "stale", "not_holder"})
CODES_KEPT = _OF_AUTHORITY | _OF_STATE | _OF_IDENTITY | _OF_REPORTS
MAY_REFUSE: frozenset[type] = frozenset({Error, TaskVerdict, TaskRevoke, A2AFault})
"""Replies that may be refusals; checked for every frame, so that all other replies cost nothing more."""
_ONLY_READ = (TaskGet, TaskList, TaskWatch)


@dataclass(slots=True)
class Refusal:
    """A refused request, as it is kept with its object."""

    at: int
    lsn: int
    agent: str
    """The sender; for a hello, who the peer said it was."""
    kind: str
    code: str
    detail: str
    times: int
    """How many refusals it stands for: more than one if there were too many to keep each."""


def keep(kept: list[Refusal], record: Refused, lsn: int) -> None:
    """Add a refusal to those kept about one thing."""
    kept.append(Refusal(record.at, lsn, record.agent, record.kind, record.code, record.detail, record.times))
    del kept[:-REFUSALS_KEPT]


def shown(kept: list[Refusal]) -> list[dict[str, Any]]:
    """Return refusals as views show them."""
    return [
        {
            "agent": refusal.agent,
            "kind": refusal.kind,
            "code": refusal.code,
            "detail": refusal.detail,
            "at": refusal.at,
            "times": refusal.times,
        }
        for refusal in kept
    ]


def stands(ledger: Ledger, record: Refused) -> bool:
    """Tell whether the object of a refusal is in memory to keep it."""
    if record.task is not None:
        return record.task in ledger.tasks
    if record.conflict is not None:
        return record.conflict in ledger.conflicts
    return record.kind == Hello.kind and principal_of(record.agent) in ledger.principals


# Which answers are refusals that tell something -----------------------------------------------------------------------


def refusal_of(world: World, sender: Connection, message: Message, decision: Decision, now: int) -> Refused | None:
    """Return the refusal to keep of an answer, or None."""
    answer: Message | None = decision.reply
    if isinstance(decision, Called) and decision.said is not None:
        message, answer = decision.said, decision.refusal
    if isinstance(message, TaskReport) and isinstance(answer, TaskVerdict):
        code = _refused_report(world, sender, message, answer, has_records=bool(decision.records))
        return _refused(sender, message, code, answer.reason, now, task=message.task) if code is not None else None
    if isinstance(message, TaskHeartbeat) and isinstance(answer, TaskRevoke):
        task = world.ledger.tasks.get(message.task)
        if task is None or task.minted_for(message.fence) == sender.agent:
            return None  # its own attempt is over, and it is told to stop
        detail = f"fence {message.fence} of task {message.task} is not {sender.agent}'s"
        return _refused(sender, message, ErrorCode.NOT_HOLDER.value, detail, now, task=message.task)
    if not isinstance(answer, Error) or isinstance(message, _ONLY_READ):
        return None
    if isinstance(message, Hello):
        if answer.code not in _OF_IDENTITY or not world.policy.admission.admits(message.token):
            return None
        return Refused(now, message.agent_id, message.kind, answer.code, answer.detail[:_DETAIL_MAX])
    conflict = getattr(message, "conflict", None)
    about = None if conflict is not None else _task_of(message)
    is_kept = answer.code in _OF_AUTHORITY or (
        answer.code in _OF_STATE and message.kind.partition(".")[0] in ("task", "conflict")
    )
    if not is_kept or (conflict is None and about is None):
        return None
    return _refused(sender, message, answer.code, answer.detail, now, task=about, conflict=conflict)


def _refused(
    sender: Connection,
    message: Message,
    code: str,
    detail: str,
    now: int,
    *,
    task: str | None = None,
    conflict: str | None = None,
) -> Refused:
    return Refused(now, sender.agent or "", message.kind, code, detail[:_DETAIL_MAX], task, conflict)


def _task_of(message: Message) -> str | None:
    if isinstance(message, TaskDelegate):
        return message.parent.task if message.parent is not None else None
    if isinstance(message, ContextWrite):
        return message.attempt.task if message.attempt is not None else None
    task: str | None = getattr(message, "task", None)
    return task


def _refused_report(
    world: World, sender: Connection, message: TaskReport, answer: TaskVerdict, *, has_records: bool
) -> str | None:
    """Return the code under which a refused report is kept, or None if it is admitted, or kept as evidence already."""
    known = (message.task, message.fence, message.result_hash)
    is_said_again = known in sender.reported
    if not is_said_again:
        sender.reported[known] = None
        if len(sender.reported) > _REPORTS_KNOWN:
            del sender.reported[next(iter(sender.reported))]
    if has_records or answer.verdict == "admitted":
        return None
    if is_said_again:
        return "duplicate"
    task = world.ledger.tasks.get(message.task)
    is_evidence = task is not None and any(
        (kept.agent, kept.fence, kept.result_hash) == (sender.agent, message.fence, message.result_hash)
        for kept in task.evidence
    )
    return None if is_evidence or answer.verdict == "duplicate" else answer.verdict


# How much of it -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Window:
    """One agent's minute."""

    until: int
    kept: int
    alike: dict[tuple[str, str, str], int]
    """(kind, object, code) to the number of such refusals kept."""
    last: Refused | None = None
    """The newest refusal that is not kept, with the number of them."""


class Refusals:
    """The refusals to record, in order.

    Args:
        per_minute: how many refusals of one agent are kept within a minute.
        alike_max: how many of these with the same kind, object and code.
    """

    def __init__(self, per_minute: int, alike_max: int) -> None:
        self._per_minute, self._alike_max = per_minute, alike_max
        self._ready: list[Refused] = []
        self._windows: dict[str, _Window] = {}
        """By agent, in the order in which they end."""

    def add(self, record: Refused) -> None:
        """Take a refusal, to be recorded or counted."""
        self._end(record.at)
        agent = _EVERYBODY if record.kind == Hello.kind else record.agent
        window = self._windows.get(agent)
        if window is None:
            window = self._windows[agent] = _Window(record.at + _MINUTE_MS, 0, {})
        same = (record.kind, record.task or record.conflict or record.agent, record.code)
        if window.kept < self._per_minute and window.alike.get(same, 0) < self._alike_max:
            window.kept += 1
            window.alike[same] = window.alike.get(same, 0) + 1
            self._ready.append(record)
        else:
            window.last = replace(record, times=window.last.times + 1 if window.last is not None else 1)

    def take(self, now: int) -> list[Refused]:
        """Return the refusals to record now."""
        self._end(now)
        ready, self._ready = self._ready, []
        return [replace(record, at=now) for record in ready]

    def take_all(self, now: int) -> list[Refused]:
        """Return the refusals to record when the coordinator stops, without waiting for a minute to end."""
        for window in self._windows.values():
            window.until = now
        return self.take(now)

    def forget(self, principal: str) -> None:
        """Drop the hellos in the name of a principal whose secret was forgotten: the next would get them."""

        def is_one(record: Refused | None) -> bool:
            return record is not None and record.kind == Hello.kind and principal_of(record.agent) == principal

        self._ready = [record for record in self._ready if not is_one(record)]
        hellos = self._windows.get(_EVERYBODY)
        if hellos is not None and is_one(hellos.last):
            hellos.last = None

    def next_deadline(self) -> int | None:
        """Return when `take` next has something, or None."""
        if self._ready:
            return self._ready[0].at
        return next((window.until for window in self._windows.values()), None)

    def _end(self, now: int) -> None:
        while self._windows:
            agent, window = next(iter(self._windows.items()))
            if window.until > now:
                return
            del self._windows[agent]
            if window.last is not None:
                self._ready.append(window.last)
