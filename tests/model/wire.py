"""The same rules between honest peers, with a network and a disk that can be looked into.

Messages in flight are a bounded set in each direction. One that is delivered stays in flight, so that it may come
again, until it is dropped, which may happen at any time: so messages are lost, repeated and reordered. The coordinator
appends late: what it has decided and not appended yet is gone with its process, and so are the answers that wait for
the append. Peers say only what they have reason to: a worker knows the fences it was offered, a delegator names the
result it saw; each may lose its memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .invariants import Violation, check_task
from .rules import Rules
from .task import ENDED, HASHES, NEW, Task
from .world import COORDINATOR, DELEGATOR, FATE, RULES, WORKERS, Profile, Step

__all__ = ["Wire", "WireRules", "check", "steps"]

Message = tuple[Any, ...]
"""(to, kind, ...), by the numbers of who is who; to the coordinator the sender comes before the kind."""

_ASKING, _RUNNING, _DONE = "asking", "running", "done"
"""Where a worker stands with an attempt; otherwise it is the last word it says until it is answered."""
_HELD_MAX = 2


class Wire(NamedTuple):
    """Everything there is."""

    task: Task | None = None
    """What the coordinator's process has decided."""
    disk: Task | None = None
    """What it would find after a crash."""
    held: tuple[Message, ...] = ()
    """Answers that wait for the append."""
    flying: tuple[Message, ...] = ()
    """In flight, in the order of their words: which was sent first does not matter."""
    workers: tuple[tuple[tuple[int, Any], ...], ...] = ((), ())
    """For each worker the attempts it knows of: (fence, where it stands)."""
    wants: str = "task"
    """What the delegator is about: the `task`, news, a word on the result it saw, or nothing more."""
    seen: tuple[int, str] | None = None
    """The result it saw last."""


class WireRules(Rules):
    """The rules, and when an answer may leave."""

    def leaves_at_once(self, wire: Wire, answer: Message) -> bool:
        """Whether an answer need not wait: nothing is under way that it may rest on (DURABLE-2)."""
        return wire.task is wire.disk

    def told_of(self, wire: Wire) -> Task | None:
        """Return the task that mail may tell of."""
        return wire.disk


def steps(profile: Profile, rules: WireRules, wire: Wire, *, capacity: int) -> Iterator[Step]:
    """Yield everything that can happen now."""
    yield from _network(rules, wire, capacity)
    yield from _peers(profile, wire, capacity)
    yield from _coordinator(profile, rules, wire, capacity)


# The network ----------------------------------------------------------------------------------------------------------


def _network(rules: WireRules, wire: Wire, capacity: int) -> Iterator[Step]:
    for message in wire.flying:
        left = tuple([other for other in wire.flying if other is not message])
        yield Step(("drop", *message), COORDINATOR, wire._replace(flying=left), "")
        if message[0] == COORDINATOR:
            if len(wire.held) < _HELD_MAX:
                after = _decided(rules, wire, message, capacity)
                yield Step(("deliver", *message), COORDINATOR, after, "")
        else:
            after = _taken(wire, message)
            yield Step(("deliver", *message), COORDINATOR, after, "")


def _sent(wire: Wire, message: Message, capacity: int) -> tuple[Message, ...]:
    """Return what is in flight with one more; beyond the capacity of its direction it is lost."""
    inward = message[0] == COORDINATOR
    same_way = [other for other in wire.flying if (other[0] == COORDINATOR) is inward]
    if message in same_way or len(same_way) >= capacity:
        return wire.flying
    return tuple(sorted((*wire.flying, message)))


# The coordinator ------------------------------------------------------------------------------------------------------


def _decided(rules: WireRules, wire: Wire, message: Message, capacity: int) -> Wire:
    """The coordinator takes a message, and answers."""
    _, sender, name, *given = message
    if name == "delegate":
        after, word = (NEW, "created") if wire.task is None else (wire.task, "created")
    elif wire.task is None:
        return wire
    else:
        try:
            after, word = RULES[name](rules, wire.task, *given)
        except KeyError:
            after, word = wire.task, "refused"
    decided = wire if after is wire.task else wire._replace(task=after)
    answer = _answer(sender, name, given, word)
    if answer is None:
        return decided
    if rules.leaves_at_once(decided, answer):
        flying = _sent(decided, answer, capacity)
        return decided if flying is decided.flying else decided._replace(flying=flying)
    return decided if answer in decided.held else decided._replace(held=(*decided.held, answer))


def _answer(sender: int, name: str, given: list[Any], word: str) -> Message | None:
    if name == "sign":
        return (sender, "lease" if word == "lease" else "revoke", given[1])
    if name in ("report", "yield"):
        return (sender, "verdict", given[1], word, given[2])
    if name == "delegate":
        return (DELEGATOR, "created")
    if name in ("confirm", "cancel"):
        return (DELEGATOR, "word", name, given[-1], word)
    return None  # a hello


def _coordinator(profile: Profile, rules: WireRules, wire: Wire, capacity: int) -> Iterator[Step]:
    task = wire.task
    if task is not wire.disk:
        flushed = wire._replace(disk=task, held=())
        for answer in wire.held:
            flushed = flushed._replace(flying=_sent(flushed, answer, capacity))
        yield Step(("append",), COORDINATOR, flushed, "")
        if "crash" in profile.inputs:
            yield Step(("crash",), FATE, wire._replace(task=wire.disk, held=()), "")
    if task is None:
        return
    for worker in WORKERS[: 2 if task.holders else 1]:
        try:
            offered = rules.offer(task, worker)[0]
        except KeyError:
            break
        yield Step(("offer", worker), COORDINATOR, wire._replace(task=offered), "")
    for name, timer in (
        ("lease timer", rules.lease_timer),
        ("offer timer", rules.offer_timer),
        ("confirm timer", rules.confirm_timer),
        ("cancel timer", rules.cancel_timer),
        ("rung timer", lambda task: rules.rung_timer(task, True)),
        ("last rung timer", lambda task: rules.rung_timer(task, False)),
    ):
        fired = timer(task)
        if fired is not None:
            yield Step((name,), COORDINATOR, wire._replace(task=fired), "")
    disputed = rules.raise_conflict(task)[0]
    if disputed is not task:
        yield Step(("raise",), FATE, wire._replace(task=disputed), "")
    for mail in _mail(rules.told_of(wire)):
        flying = _sent(wire, mail, capacity)
        if flying is not wire.flying:
            yield Step(("mail", *mail), COORDINATOR, wire._replace(flying=flying), "")


def _mail(task: Task | None) -> Iterator[Message]:
    """Yield what a task's state has to say, as the mailboxes do whenever their owner comes back."""
    if task is None:
        return
    if task.offer:
        yield (task.holders[task.offer - 1], "offer", task.offer, False)
    if task.is_open:
        yield (task.holders[task.cur - 1], "offer", task.cur, True)
    if task.results and len(task.results) > task.rev:
        yield (DELEGATOR, "review", task.rev, task.results[-1][1])
    if task.state in ENDED:
        yield (DELEGATOR, "settled", task.state, task.digest)


# Peers ----------------------------------------------------------------------------------------------------------------


def _taken(wire: Wire, message: Message) -> Wire:
    """A peer takes what the coordinator said."""
    to, kind, *given = message
    if to == DELEGATOR:
        if kind == "created" and wire.wants == "task":
            return wire._replace(wants="news")
        if kind == "review" and wire.wants in ("task", "news") and wire.seen != (given[0], given[1]):
            return wire._replace(seen=(given[0], given[1]))
        if kind == "settled" and wire.wants != "nothing":
            return wire._replace(wants="nothing", seen=None)
        return wire
    known = dict(wire.workers[to])
    fence = given[0]
    stands = known.get(fence)
    if kind == "offer" and stands is None:
        known[fence] = _RUNNING if given[1] else _ASKING
    elif kind == "lease" and stands == _ASKING:
        known[fence] = _RUNNING
    elif (kind == "revoke" and stands is not None) or (kind == "verdict" and isinstance(stands, tuple)):
        known[fence] = _DONE
    if known.get(fence) == stands:
        return wire
    return _with_worker(wire, to, tuple(sorted(known.items())))


def _with_worker(wire: Wire, worker: int, knows: tuple[tuple[int, Any], ...]) -> Wire:
    workers = list(wire.workers)
    workers[worker] = knows
    return wire._replace(workers=tuple(workers))


def _peers(profile: Profile, wire: Wire, capacity: int) -> Iterator[Step]:
    for worker, knows in enumerate(wire.workers):
        for fence, stands in knows:
            if stands == _DONE:
                continue
            words = _words(profile, worker, fence, stands)
            for word in words:
                after = wire._replace(flying=_sent(wire, word, capacity))
                if stands == _RUNNING and word[2] != "sign":
                    changed = tuple((known, word[2:] if known == fence else where) for known, where in knows)
                    after = _with_worker(after, worker, changed)
                if after != wire:
                    yield Step(("send", *word), worker, after, "")
        if knows and "hello new" in profile.inputs:
            hello = (COORDINATOR, worker, "hello new", worker)
            after = _with_worker(wire._replace(flying=_sent(wire, hello, capacity)), worker, ())
            yield Step(("worker restarts", worker), FATE, after, "")
    yield from _delegator(profile, wire, capacity)


def _words(profile: Profile, worker: int, fence: int, stands: Any) -> list[Message]:
    if isinstance(stands, tuple):
        return [(COORDINATOR, worker, *stands)]  # again, until it is answered
    words: list[Message] = [(COORDINATOR, worker, "sign", worker, fence)]
    if stands == _RUNNING:
        words += [(COORDINATOR, worker, "report", worker, fence, outcome) for outcome in profile.outcomes]
        if "yield" in profile.inputs:
            words.append((COORDINATOR, worker, "yield", worker, fence, True))
    return words


def _delegator(profile: Profile, wire: Wire, capacity: int) -> Iterator[Step]:
    says: list[tuple[Message, int]] = []
    if wire.wants == "task":
        says.append(((COORDINATOR, DELEGATOR, "delegate"), DELEGATOR))
    if wire.seen is not None:
        says += [
            ((COORDINATOR, DELEGATOR, "confirm", *wire.seen, verdict), DELEGATOR) for verdict in ("accept", "rework")
        ]
    if wire.wants == "news" and "cancel" in profile.inputs:
        says.append(((COORDINATOR, DELEGATOR, "cancel", "coop"), FATE))
    for message, actor in says:
        flying = _sent(wire, message, capacity)
        if flying is not wire.flying:
            yield Step(("send", *message), actor, wire._replace(flying=flying), "")
    if wire.wants != "task" and "delegator restarts" in profile.inputs:
        yield Step(("delegator restarts",), FATE, wire._replace(wants="task", seen=None), "")


# What must hold -------------------------------------------------------------------------------------------------------


def check(profile: Profile, before: Wire, step: Step) -> None:
    """Look at one step: nothing a peer is told is ever lost, and the task keeps its promises.

    Raises:
        Violation: it breaks one.
    """
    after: Any = step.world
    if before.task is not None and after.task is not before.task and step.what[0] != "crash":
        if after.task is None:
            raise Violation("R2", "the task is gone")
        check_task(profile.limits, before.task, after.task)
    if step.what[0] == "deliver" and step.what[1] != COORDINATOR:
        _told(before.disk, step.what[1:])


def _told(disk: Task | None, message: Message) -> None:
    """What a peer is told survives a crash (I2, I3, R2)."""
    to, kind, *given = message
    if kind == "created":
        if disk is None:
            raise Violation("I2", "the delegator is told of a task that is not durable")
        return
    if disk is None:
        raise Violation("R2", f"{message} tells of a task that is not durable")
    if kind == "verdict" and given[1] in ("admitted", "duplicate") and disk.outcomes[given[0] - 1] != given[2]:
        raise Violation("I3", f"worker {to} is told {given[1]}, durable is {disk.outcomes[given[0] - 1] or 'nothing'}")
    if kind in ("offer", "lease") and (given[0] > len(disk.holders) or disk.holders[given[0] - 1] != to):
        raise Violation("R2", f"worker {to} is told of fence {given[0]}, which is not durable")
    if kind == "review" and (given[0] >= len(disk.results) or disk.results[given[0]][1] != given[1]):
        raise Violation("R2", f"the delegator reviews {given}, durable are {disk.results}")
    if kind == "settled" and (disk.state, disk.digest) != tuple(given):
        raise Violation("R2", f"the delegator is told of the end {given}, durable is {disk.state}")
    if kind == "word":
        _word(disk, *given)


def _word(disk: Task, name: str, said: str, word: str) -> None:
    if name == "cancel" and word == "canceled" and disk.state != "canceled":
        raise Violation("R2", f"the canceler is told that it is canceled, durable is {disk.state}")
    if (
        name == "confirm"
        and word == "ok"
        and said == "accept"
        and (disk.state, disk.digest in HASHES) != ("completed", True)
    ):
        raise Violation("R2", f"the delegator is told that its word counts, durable is {disk.state}")
