"""Shared context in the simulated world: agents that count together, and properties of what they are told.

The script reads a key, waits, and writes one more than it saw, by compare-and-set and under its attempt. Some agents
try that under the fence of another agent's attempt, or without saying what they have seen. The revisions that the
script has seen go with the report as its basis. Some processes watch, through the client's own machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from a2a.engine.context_watching import Watched
from a2a.engine.records import ContextRecalled, ContextsArchived, Delegated, GroupDecided, Reported, Settled
from a2a.engine.records import ContextWritten as WrittenRecord
from a2a.engine.work import Attempt
from a2a.protocol.messages import (
    ContextOp,
    ContextRead,
    ContextValues,
    ContextWrite,
    ContextWritten,
    Error,
    Held,
    Message,
    Seen,
)
from a2a.protocol.types import principal_of

from .court import Cause, Checker, Court
from .model import ContextModel

if TYPE_CHECKING:
    from .agents import Agent
    from .peers import Peer

__all__ = ["BOARD", "CONTEXTS", "share"]

_COUNT, _DECISION = "count", "decisions/count"
BOARD = "board"
"""A guarded key with two numbers in it: a change of one need not contradict a change of the other."""


def share(agent: Agent, attempt: Attempt) -> Generator[int | Callable[[], bool], None, None]:
    """Count up in the context of the attempt's task."""
    chance = agent.world.chance(attempt.task, attempt.fence, agent.instance, "share")
    context = attempt.offer.context_id
    # Under `hold` a result that nobody has to confirm would wait for ever if its decision moved.
    keys = [_COUNT, _DECISION] if agent.town.may_leave_results else [_COUNT]
    key = chance.choice(keys)
    request = agent.session.request(ContextRead(context, keys))
    yield agent.await_reply(request)
    found = agent.replies.pop(request)
    assert isinstance(found, ContextValues), found
    seen = {value.key: (value.rev, int(value.payload or 0)) for value in found.values}
    if not agent.contexts.are_open and chance.random() < 0.5:
        agent.town.court.watches(agent, agent.contexts.watch(context, "", found.lsn))
    rev, value = seen[key]
    attempt.basis[key] = (rev, key == _DECISION)
    if chance.random() < 0.3:
        yield chance.randint(0, 5_000)  # work on what it saw, while others may move it
        return
    temper = agent.world.chance(attempt.task, attempt.fence, agent.instance, "temper")
    others = [Seen(name, seen[name][0]) for name in keys if name != key] if chance.random() < 0.3 else []
    for again in range(chance.randint(1, 8)):
        yield chance.randint(0, 500)
        task, fence = _somebody(agent) if chance.random() < agent.manners.meddle else (attempt.task, attempt.fence)
        name = f"{attempt.task}/{attempt.fence}/{agent.instance}/{again}"
        is_blind = key == _DECISION and chance.random() < 0.2
        op = ContextOp(key, None if is_blind else rev, b"%d" % (value + 1))
        rebases = temper.random() < 0.3
        request = agent.session.request(ContextWrite(context, name, [op], others, Held(task, fence), "", rebases))
        yield agent.await_reply(request)
        reply = agent.replies.pop(request)
        if agent.town.quarrels is not None and isinstance(reply, Error) and temper.random() < 0.5:
            continue  # it insists without looking
        if isinstance(reply, ContextWritten):
            rev, value = reply.revs[key], value + 1
            attempt.basis[key] = (rev, key == _DECISION)
            continue
        assert isinstance(reply, Error), reply
        if reply.code != "conflict" or reply.data is None:
            continue
        if reply.data["key"] == key:
            rev, value = reply.data["rev"], int(reply.data.get("value", 0))
        else:
            others = [Seen(reply.data["key"], reply.data["rev"])]


def _somebody(agent: Agent) -> tuple[str, int]:
    """Return an attempt under way, whoever holds it, of which somebody may have been told."""
    town = agent.town
    tasks = [task for task in town.court.model.open.values() if task.is_open and task.fence <= town.disk.durable]
    return (tasks[-1].id, tasks[-1].fence) if tasks else ("sim-0", 1)


# What must hold -------------------------------------------------------------------------------------------------------


class _ContextChecker(Checker):
    def context(self, context_id: str) -> ContextModel:
        """Return what the records say about a context."""
        return self.model.contexts.get(context_id) or ContextModel()


class Revisions(_ContextChecker):
    """A key's revision rises by one with each write; its writer saw the one before; other premises held (I21)."""

    name = "I21"
    records = (WrittenRecord,)

    def before(self, record: WrittenRecord, lsn: int, cause: Cause) -> None:
        context, message = self.context(record.context_id), cause.message
        if self.model.is_resolving(record, lsn):
            (change,) = record.changes
            rev = context.rev(change["key"])
            self.hold(change["rev"] == rev + 1, f"{change['key']} becomes revision {change['rev']} after {rev}")
            return
        self.hold(isinstance(message, ContextWrite), f"{record.key} is written, and nobody asked for it")
        assert isinstance(message, ContextWrite), "as was held"
        for change, op in zip(record.changes, message.ops, strict=True):
            known = context.values.get(op.key, [])
            rev = len(known)
            self.hold(change["rev"] == rev + 1, f"{op.key} becomes revision {change['rev']} after {rev}")
            self.hold(op.if_rev in (rev, None), f"{op.key} is written for revision {op.if_rev}, it is {rev}")
            if op.key == BOARD:
                continue
            before = int(known[-1] or 0) if known else 0
            self.hold(int(change["value"]) == before + 1, f"{op.key} is {before}, and becomes {change['value']!r}")
        for seen in message.depends:
            rev = context.rev(seen.key)
            self.hold(seen.rev == rev, f"{record.key} depends on revision {seen.rev} of {seen.key}, it is {rev}")


class DecisionsSeen(Checker):
    """Nobody writes a decision without naming the revision it replaces (CTX-5)."""

    name = "CTX-5"
    records = (WrittenRecord,)

    def before(self, record: WrittenRecord, lsn: int, cause: Cause) -> None:
        if self.model.is_resolving(record, lsn):
            return
        assert isinstance(cause.message, ContextWrite), "I21 looks first"
        for op in cause.message.ops:
            self.hold(op.key != _DECISION or op.if_rev is not None, f"{op.key} is written blindly")


class WrittenOnce(_ContextChecker):
    """A write is done once, for the agent that asked and while its attempt is current (CTX-6)."""

    name = "CTX-6"
    records = (WrittenRecord,)

    def before(self, record: WrittenRecord, lsn: int, cause: Cause) -> None:
        is_repeat = (principal_of(record.by), record.key) in self.context(record.context_id).named
        self.hold(not is_repeat, f"{record.key} of {record.by} is written twice")
        if self.model.is_resolving(record, lsn):
            return
        assert isinstance(cause.message, ContextWrite), "I21 looks first"
        self.hold(record.by == cause.agent, f"{cause.agent} writes as {record.by}")
        attempt = cause.message.attempt
        if attempt is None:
            return  # in a quarrel, an agent writes for itself
        task = self.model.tasks[attempt.task]
        current = task.is_open and task.fence == attempt.fence and task.holder == cause.agent
        self.hold(current, f"{cause.agent} writes under fence {attempt.fence} of {task.id}, current is {task.fence}")


class WritersAreTold(_ContextChecker):
    """The answer to a write is true: for the winner, also when it asks again, and for the loser (CTX-4)."""

    name = "CTX-4"
    requests = (ContextWrite,)

    def answered(self, agent: str, message: ContextWrite, reply: Message) -> None:
        context, op = self.context(message.context_id), message.ops[0]
        if isinstance(reply, ContextWritten):
            rev, known = reply.revs[op.key], context.values.get(op.key, [])
            told = known[rev - 1] if rev <= len(known) else None
            self.hold(told == op.value, f"{agent} was told that {op.value!r} is revision {rev} of {op.key}: {told!r}")
        elif isinstance(reply, Error) and reply.code == "conflict" and "conflict" in (reply.data or {}):
            ruling = self.model.rulings.get((reply.data or {})["conflict"])
            is_about = ruling is not None and ruling.contested == (message.context_id, (reply.data or {})["key"])
            self.hold(is_about, f"{agent} was told of {ruling}, which is not about {message.ops}")
        elif isinstance(reply, Error) and reply.code == "conflict":
            is_done = (principal_of(agent), message.key) in context.named
            self.hold(not is_done, f"{agent} is told that {message.key} lost, and it was written")
            data = reply.data or {}
            known = context.values.get(data.get("key", ""), [])
            is_so = data.get("rev") == len(known) and data.get("value") == (known[-1] if known else None)
            self.hold(is_so, f"{agent} was told {data}, which is revision {len(known)}")


class OnlyTheIdleLeave(_ContextChecker):
    """A context leaves memory only when it is idle, and is back unchanged before it changes (DURABLE-12)."""

    name = "DURABLE-12"
    records = (ContextsArchived, ContextRecalled, WrittenRecord, Delegated)

    def before(
        self, record: ContextsArchived | ContextRecalled | WrittenRecord | Delegated, lsn: int, cause: Cause
    ) -> None:
        if isinstance(record, ContextsArchived):
            self._leave(record)
        elif isinstance(record, ContextRecalled):
            self.hold(self.context(record.context_id).is_archived, f"{record.context_id} is recalled and had not left")
        else:
            has_left = self.context(record.context_id).is_archived
            self.hold(not has_left, f"{type(record).__name__} in {record.context_id}, which has left")

    def after(
        self, record: ContextsArchived | ContextRecalled | WrittenRecord | Delegated, lsn: int, cause: Cause
    ) -> None:
        if isinstance(record, ContextRecalled):
            assert self.court.coordinator is not None, "it decided"
            known = self.court.coordinator.ledger.contexts[record.context_id]
            revs = {key: entry.rev for key, entry in known.entries.items()}
            told = {key: len(values) for key, values in self.context(record.context_id).values.items()}
            self.hold(revs == told, f"{record.context_id} comes back with {revs}, it was left with {told}")

    def _leave(self, record: ContextsArchived) -> None:
        policy = self.court.policy
        for context_id in record.contexts:
            context = self.context(context_id)
            self.hold(not context.is_archived, f"{context_id} leaves, and has left before")
            at_work = [task.id for task in self.model.open.values() if task.context_id == context_id]
            self.hold(not at_work, f"{context_id} leaves, and {at_work} belong to it")
            argued = [key for key in context.values if self.model.contesting(context_id, key) is not None]
            self.hold(not argued, f"{context_id} leaves, and a conflict is open about {argued}")
        early = [name for name in record.contexts if record.at - self.context(name).at < policy.linger_contexts_ms]
        there = sum(not known.is_archived for known in self.model.contexts.values())
        fits = len(early) <= max(0, there - policy.linger_contexts_max)
        self.hold(fits, f"{early} leave soon after they were written, with room for {policy.linger_contexts_max}")


class BasisStands(_ContextChecker):
    """A result whose basis has moved says so, and is accepted neither by auto nor by silence (CTX-10)."""

    name = "CTX-10"
    records = (Settled, Reported, GroupDecided)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._basis: dict[str, list[dict[str, Any]]] = {}
        """Task to the basis of its newest result."""
        self._stale: dict[str, str] = {}
        """Task to why somebody has to look at its newest result."""

    def before(self, record: Settled | Reported | GroupDecided, lsn: int, cause: Cause) -> None:
        if isinstance(record, Reported):
            self._basis[record.task] = record.basis or []
            self._look_at(record, self._basis[record.task])
        elif isinstance(record, GroupDecided):
            self._look_at(record, self._basis[record.member])
        elif record.state == "completed" and record.by in ("auto", "timer"):
            task = self.model.tasks[record.task]
            is_held = task.id in self._stale and not task.scope.startswith(("group:", "conflict:", "compare:"))
            self.hold(not is_held, f"{task.id} is completed by {record.by} {self._stale.get(task.id)}")

    def _look_at(self, record: Reported | GroupDecided, basis: list[dict[str, Any]]) -> None:
        self._stale.pop(record.task, None)
        context = self.context(self.model.tasks[record.task].context_id)
        stale = []
        for seen in basis:
            rev = context.rev(seen["key"])
            if seen["key"] == _DECISION and seen["rev"] != rev:
                stale.append({"key": _DECISION, "seen": seen["rev"], "current": rev})
                self._stale[record.task] = f"on revision {seen['rev']} of {_DECISION}, which was {rev}"
        self.hold((record.stale_basis or []) == stale, f"{record.task} has {record.stale_basis} moved, it is {stale}")


class WatchersMissNothing(_ContextChecker):
    """A watcher gets every write once, in the order of the ledger, over all its connections (CTX-9)."""

    name = "CTX-9"

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._watched: dict[Watched, tuple[Peer, int]] = {}
        """Watch to its peer, and the newest write that was checked."""

    def watches(self, peer: Peer, watched: Watched) -> None:
        self._watched[watched] = (peer, watched.lsn)

    def heard(self, watched: Watched) -> None:
        peer, before = self._watched[watched]
        writes = self.context(watched.context_id).writes
        new = writes[bisect_right(writes, before, key=_place) : bisect_right(writes, watched.lsn, key=_place)]
        due = [(key, rev) for _, revs in new for key, rev in revs.items()]
        got = [(value.key, value.rev) for value in watched.values]
        self.hold(got == due, f"{peer.name} hears {got} behind {before}, it was {due}")
        watched.values.clear()
        self._watched[watched] = (peer, watched.lsn)

    def unfinished(self) -> str | None:
        for watched, (peer, _) in self._watched.items():
            newest = max((lsn for lsn, _ in self.context(watched.context_id).writes[-1:]), default=0)
            if peer.is_alive and watched.lsn < newest:
                return f"{peer.name} has not heard of {newest} of {watched.context_id}"
        return None


def _place(write: tuple[int, Any]) -> int:
    return write[0]


CONTEXTS: tuple[type[Checker], ...] = (
    Revisions,
    DecisionsSeen,
    WrittenOnce,
    WritersAreTold,
    BasisStands,
    WatchersMissNothing,
    OnlyTheIdleLeave,
)
