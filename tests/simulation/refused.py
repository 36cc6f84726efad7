"""Refusals are in the ledger soon after, unchanged, and never more of them than the limits allow (ERR-5, ERR-6)."""

from __future__ import annotations

from collections import deque

from a2a.engine.coordinator import Coordinator
from a2a.engine.records import Refused
from a2a.protocol.messages import (
    ClaimAcquire,
    ConflictAppeal,
    ConflictPosition,
    ConflictVote,
    ContextWrite,
    Error,
    Hello,
    Message,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCheckpoint,
    TaskConfirm,
    TaskDecline,
    TaskDelegate,
    TaskHandoff,
    TaskHeartbeat,
    TaskReport,
    TaskRevoke,
    TaskSteer,
    TaskVerdict,
    TaskYield,
)
from a2a.protocol.types import principal_of

from .court import Cause, Court, LifeChecker

__all__ = ["REFUSED"]

_LATE_MS = 20
_MINUTE_MS = 60_000
_WHO = ("forbidden", "stale", "not_holder")
_WHAT = ("conflict", "denied", "malformed", "idempotency_mismatch", "already_answered", "not_cancelable")
_AsWas = tuple[str, str, str, str]
"""(agent, kind, object, code)."""


def _is(record: Refused) -> _AsWas:
    return record.agent, record.kind, record.task or record.conflict or record.agent, record.code


class RefusalsKept(LifeChecker):
    """A refusal worth telling is in the ledger soon, unless its agent already had its share of the minute."""

    name = "ERR-5"
    records = (Refused,)
    requests = (
        *(TaskAccept, TaskDecline, TaskHeartbeat, TaskCheckpoint, TaskArtifact, TaskAsk, TaskAnswer, TaskSteer),
        *(TaskHandoff, TaskReport, TaskConfirm, TaskCancel, TaskYield, TaskDelegate, ContextWrite, ClaimAcquire),
        *(ConflictPosition, ConflictVote, ConflictAppeal, Hello),
    )

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._owed: dict[_AsWas, int] = {}
        """Refusals that are not in the ledger yet, and since when."""
        self._refused: set[_AsWas] = set()
        """Refusals by this process."""
        self._reports: dict[int, set[tuple[str, int, str]]] = {}
        """Connection to the reports that were answered there."""
        self._kept: dict[str, deque[tuple[int, _AsWas]]] = {}
        """Agent, or an empty string for hellos, to its refusals of the last minute in the ledger."""

    def starting(self) -> None:
        self._owed.clear()
        self._refused.clear()
        self._reports.clear()
        self._kept.clear()

    def started(self, coordinator: Coordinator) -> None:
        self.starting()

    def answered(self, agent: str, message: Message, reply: Message) -> None:
        said = self._said(agent, message, reply)
        if said is not None:
            self._refused.add(said)
            if not self._is_gone(said):
                self._owed.setdefault(said, self.court.cause.now)

    def _is_gone(self, said: _AsWas) -> bool:
        """Whether it is about a task or a conflict that has left memory and does not come back for a refusal."""
        about = self.model.tasks.get(said[2]) or self.model.rulings.get(said[2])
        return about is not None and about.is_archived

    def _said(self, agent: str, message: Message, reply: Message) -> _AsWas | None:
        if isinstance(message, Hello):
            is_claimed = isinstance(reply, Error) and reply.code in ("auth", "denied")
            known = principal_of(agent) in self.model.secrets
            return (agent, "hello", agent, reply.code) if is_claimed and known else None  # type: ignore[attr-defined]
        about = self._about(message)
        code = self._code(agent, message, reply)
        return None if about is None or code is None else (agent, message.kind, about, code)

    def _about(self, message: Message) -> str | None:
        if isinstance(message, ConflictPosition | ConflictVote | ConflictAppeal):
            return message.conflict
        if isinstance(message, TaskDelegate):
            return message.parent.task if message.parent is not None else None
        if isinstance(message, ContextWrite):
            return message.attempt.task if message.attempt is not None else None
        task: str | None = message.task  # type: ignore[attr-defined]
        return task

    def _code(self, agent: str, message: Message, reply: Message) -> str | None:
        if isinstance(message, TaskReport) and isinstance(reply, TaskVerdict):
            return self._verdict(agent, message, reply)
        if isinstance(message, TaskHeartbeat) and isinstance(reply, TaskRevoke):
            known = self.model.tasks.get(message.task)
            return "not_holder" if known is not None and known.minted.get(message.fence) != agent else None
        is_own = message.kind.partition(".")[0] in ("task", "conflict")
        is_kept = isinstance(reply, Error) and (reply.code in _WHO or (is_own and reply.code in _WHAT))
        return reply.code if isinstance(reply, Error) and is_kept else None

    def _verdict(self, agent: str, message: TaskReport, reply: TaskVerdict) -> str | None:
        reports = self._reports.setdefault(self.court.cause.connection, set())
        report = (message.task, message.fence, message.result_hash)
        again = report in reports
        reports.add(report)
        if self.court.cause.records:
            return None  # it is admitted, or evidence
        if again:
            return "duplicate"
        is_evidence = (agent, message.fence, message.result_hash) in self.model.tasks[message.task].kept
        return None if is_evidence or reply.verdict == "duplicate" else reply.verdict

    def before(self, record: Refused, lsn: int, cause: Cause) -> None:
        said = _is(record)
        self.hold(said in self._refused, f"{said} is kept, and nobody was refused it")
        self._owed.pop(said, None)
        kept = self._kept.setdefault("" if record.kind == "hello" else record.agent, deque())
        kept.append((record.at, said))

    def look(self, now: int) -> None:
        for said, since in list(self._owed.items()):
            if now - since <= _LATE_MS:
                continue
            kept = self._kept.get("" if said[1] == "hello" else said[0], deque())
            while kept and kept[0][0] <= since - _MINUTE_MS - _LATE_MS:
                kept.popleft()
            alike = sum(other == said for _, other in kept)
            policy = self.court.policy
            has_share = len(kept) >= policy.refusals_per_minute or alike >= policy.refusals_alike_max
            self.hold(
                self._is_gone(said) or has_share, f"{said} was refused {now - since} ms ago, and is not in the ledger"
            )
            del self._owed[said]


class RefusalsBounded(LifeChecker):
    """Refusals do not fill the ledger: each agent has a few a minute, and so has each kind of equal refusals."""

    name = "ERR-6"
    records = (Refused,)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._kept: dict[object, deque[int]] = {}

    def starting(self) -> None:
        self._kept.clear()

    def before(self, record: Refused, lsn: int, cause: Cause) -> None:
        policy = self.court.policy
        agent = "" if record.kind == "hello" else record.agent
        for what, most in ((agent, policy.refusals_per_minute), (_is(record), policy.refusals_alike_max)):
            kept = self._kept.setdefault(what, deque())
            while kept and kept[0] <= record.at - _MINUTE_MS:
                kept.popleft()
            kept.append(record.at)
            # Any minute by the clock touches two of the coordinator's, and the ends of both.
            self.hold(len(kept) <= 2 * (most + 1), f"{what} has {len(kept)} refusals in a minute, {most} may be")


REFUSED: tuple[type[LifeChecker], ...] = (RefusalsKept, RefusalsBounded)
