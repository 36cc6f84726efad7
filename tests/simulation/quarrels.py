"""Conflicts that are not about a group, in a world: who raises them, who insists, and what must hold.

Drawn separately, and in some worlds only, as groups are. In these worlds peers sometimes say that results contradict
each other, workers contest the rejection of their results, and agents that count together in a context do not always
look before they try again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from a2a.engine.records import (
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    ContextWritten,
    Merged,
    Settled,
    StageClosed,
)
from a2a.protocol.canonical import canonical
from a2a.protocol.messages import (
    ConflictRaise,
    ConflictRaised,
    ContextOp,
    ContextWrite,
    Error,
    Message,
    RaisedSubject,
    TaskAnswer,
)
from a2a.protocol.messages import ContextWritten as Written
from a2a.protocol.types import principal_of

from .contexts import BOARD
from .court import Cause, Checker, Court
from .flapping import FLAPPING, draw_limits
from .model import Model, TaskModel
from .patching import draw_patching, is_merged
from .profiles import Profile
from .world import World

if TYPE_CHECKING:
    from .peers import Peer
    from .town import Town

__all__ = ["QUARRELS", "Quarrels", "draw_quarrels", "quarrel"]

_SHARE_OF_WORLDS = 0.3
_EVERY_MS = (500, 8_000)


@dataclass(frozen=True, slots=True)
class Quarrels:
    """What a world has for settling quarrels."""

    people: list[tuple[str, tuple[str, ...], int, int]]
    """(name, skills, credit for tasks, credit for frames)."""
    has_arbiter: bool


def draw_quarrels(world: World, profile: Profile, wanted: bool | None) -> Quarrels | None:
    """Draw them and the namespace's settings for them, or return None if nobody quarrels."""
    chance = world.chance("quarrels")
    share = chance.random()
    if not (share < _SHARE_OF_WORLDS if wanted is None else wanted):
        # Without conflicts, a write that loses is only refused.
        profile.policy = replace(profile.policy, ladders={})
        return None
    manners = profile.manners
    manners.quarrel = manners.quarrel or chance.choice((0.3, 0.9))
    manners.share = manners.share or chance.choice((0.3, 1.0))
    silence = profile.policy.on_confirm_timeout
    profile.policy = replace(
        profile.policy,
        # A confirm of a result that was disputed is refused, and may not be repeated: silence has to decide.
        on_confirm_timeout="accept" if silence == "hold" else silence,
        ladder=chance.choice([ladder for ladder in _LADDERS if ladder[-1]["strategy"] == "abort"]),
        ladders={
            kind: chance.choice(_LADDERS)
            for kind in ("context", "resource", "instruction", "identity")
            if kind == "context" or chance.random() < 0.8
        },
        judge_ms=chance.choice((2_000, 10_000)),
        human_ms=chance.choice((3_000, 20_000)),
        appeal_ms=chance.choice((0, 0, 1_000)),
        conflict_rest_ms=chance.choice((0, 2_000, 60_000)),
        conflicts_raised_max=chance.choice((1, 16)),
        conflicts_about_max=chance.choice((1, 8)),
        conflict_raises_max=chance.choice((2, 16)),
        contest_ms=chance.choice((2_000, 60_000)),
    )
    if _has_board(world) and world.chance("board", "ladder").random() < 0.7:
        merging = _rungs("merge itself", *world.chance("board", "rungs").choice((("human", "abort"), ("first_wins",))))
        profile.policy = replace(profile.policy, ladders={**profile.policy.ladders, "context": merging})
    draw_patching(world, profile, world.chance("patching", "ladder").choice(_PATCH_LADDERS))
    draw_limits(world, profile)
    people = [(f"referee{number}", ("judge", "check", "merge"), chance.choice((1, 4)), 8) for number in range(2)]
    return Quarrels(people[: chance.randint(0, 2)], chance.random() < 0.5)


def _rungs(*strategies: str) -> tuple[dict[str, Any], ...]:
    asks = {"verify": "check", "merge": "merge", "judge": "judge"}
    named = ((name, {"skill": asks[name]} if name in asks else {}) for name in strategies)
    return tuple({"strategy": name.removesuffix(" itself")} | skill for name, skill in named)


_LADDERS = (
    _rungs("authority", "human", "abort"),
    _rungs("merge itself", "authority", "first_wins"),
    _rungs("majority", "abort"),
    _rungs("plurality", "human", "first_wins"),
    _rungs("human", "abort"),
    _rungs("judge", "abort"),
    _rungs("verify", "merge", "abort"),
    _rungs("merge", "first_wins"),
    _rungs("weighted", "retry", "first_wins"),
    _rungs("first_wins"),
)


_PATCH_LADDERS = (
    _rungs("merge itself", "authority", "first_wins"),
    _rungs("merge itself", "human", "abort"),
    _rungs("authority", "judge", "abort"),
    _rungs("merge", "first_wins"),
    _rungs("verify", "human", "first_wins"),
    _rungs("first_wins"),
)


def quarrel(peer: Peer) -> None:
    """Have a process say from time to time that two things contradict each other."""
    chance = peer.world.chance(peer.name, peer.instance, "quarrel")

    def say() -> None:
        town = peer.town
        peer.later(chance.randint(*_EVERY_MS), say)
        if town.is_calm or not peer.session.is_open or chance.random() >= town.manners.quarrel:
            return
        draw = chance.random()
        if draw < 0.3:
            for write in _insisting(town, peer.instance, chance):
                peer.session.request(write)
            return
        if draw < 0.8:
            message = _about_results(town, peer.name, chance)
        else:
            message = _about_others(peer.name, chance) if draw < 0.9 else _about_fences(town, chance)
        for _ in range(chance.choice((1, 1, 2)) if message is not None else 0):
            peer.session.request(message)

    peer.later(chance.randint(*_EVERY_MS), say)
    if _has_board(peer.world):
        _post(peer)


def _has_board(world: World) -> bool:
    """Whether this world has a key with two numbers that different peers change."""
    return world.chance("board").random() < 0.4


def _post(peer: Peer) -> None:
    """Have a process change a number on the board from time to time, for a revision that may be old."""
    chance = peer.world.chance(peer.name, peer.instance, "board")

    def post() -> None:
        town = peer.town
        peer.later(chance.randint(*_EVERY_MS), post)
        if town.is_calm or not peer.session.is_open:
            return
        known = town.court.model.contexts.get("plans")
        values = known.values.get(BOARD, []) if known is not None else []
        rev = max(0, len(values) - chance.choice((0, 0, 1, 1, 2)))
        board = json.loads(values[rev - 1] or b"") if rev else None
        if not isinstance(board, dict):
            board = {"a": 0, "b": 0}  # unwritten, or written by a referee that merges
        board[chance.choice(("a", "b"))] += chance.choice((1, 1, 2))
        op = ContextOp(BOARD, rev, canonical(board), guarded=True)
        peer.session.request(ContextWrite("plans", f"{peer.instance}/{chance.getrandbits(32)}", [op]))

    peer.later(chance.randint(*_EVERY_MS), post)


def _about_results(town: Town, name: str, chance: Any) -> ConflictRaise | None:
    model = town.court.model
    known = [task for task in model.tasks.values() if task.results and _newest(task).lsn <= town.disk.durable]
    if not known:
        return None
    rejected = [task for task in known if _is_rejected(task)]
    if chance.random() < 0.7:
        rejected = [task for task in rejected if _author(model, task) == name]
    if rejected and chance.random() < 0.5:
        return ConflictRaise("result", [RaisedSubject(task=rejected[-1].id)], claim="mine was good")
    waits = [task for task in known if task.state == "reported"] or known
    tasks = chance.sample(waits, min(len(waits), chance.randint(1, 3)))
    subjects = [RaisedSubject(task=task.id) for task in tasks]
    if len(subjects) == 1 or chance.random() < 0.3:
        subjects.append(RaisedSubject(value=b"%d" % chance.randint(0, 3)))
    chance.shuffle(subjects)
    return ConflictRaise("result", subjects, claim=f"{name} has read them")


def _insisting(town: Town, instance: str, chance: Any) -> list[ContextWrite]:
    """Return writes to a counter for a revision that was current a while ago: one write, or several alike."""
    key, known = chance.choice(("count", "decisions/count")), town.court.model.contexts.get("plans")
    values = known.values.get(key, []) if known is not None else []
    rev = len(values) - chance.choice((2, 2, 3))
    if rev < 1:
        return []
    op = ContextOp(key, rev, b"%d" % (int(values[rev - 1] or 0) + 1))
    names = [f"{instance}/{chance.getrandbits(32)}" for _ in range(chance.choice((1, 3, 4)))]
    return [ContextWrite("plans", name, [op], rebases=chance.random() < 0.1) for name in names]


def _about_others(name: str, chance: Any) -> ConflictRaise:
    subjects = [RaisedSubject(value=b"%d" % number) for number in chance.sample(range(4), 2)]
    about = chance.choice((f"agent:{name}", "agent:a0", "conflict:sim-k9"))
    return ConflictRaise("identity", subjects, about)


def _about_fences(town: Town, chance: Any) -> ConflictRaise | None:
    """Return the raise of a guard that has refused a late writer, or None."""
    known = [claim for claim in town.court.model.claims_granted.values() if claim.fence <= town.disk.durable]
    if not known:
        return None
    name = chance.choice(sorted(chance.choice(known).names))
    shown = [claim.fence for claim in known if name in claim.names]
    fences = dict.fromkeys([*chance.sample(shown, min(2, len(shown))), chance.randint(1, 99)])
    return ConflictRaise("resource", [RaisedSubject(resource=name, fence=fence) for fence in fences])


def _newest(task: TaskModel) -> Any:
    return task.results[max(task.results)]


def _author(model: Model, task: TaskModel) -> str:
    group = model.groups.get(task.id)
    return task.minted.get(_newest(task).fence, "") if group is None else model.author(group.decided)


def _is_rejected(task: TaskModel) -> bool:
    """Whether the newest result of a task was rejected."""
    end = task.settled
    return (max(task.results) < task.rev) if end is None else end.reason in ("rejected", "reworks")


# What must hold -------------------------------------------------------------------------------------------------------


class ContestedRight(Checker):
    """A write opens a conflict only if it lost to another's value, on a key where that counts as one (CONFLICT-14)."""

    name = "CONFLICT-14"
    records = (ConflictOpened, ContextWritten)
    requests = (ContextWrite,)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._tries: dict[tuple[str, str, str], tuple[int, int, str]] = {}
        """(context, key, agent) to the revision of its last write, how many writes in a row were for no newer one,
        and the name of that write."""

    def before(self, record: ConflictOpened | ContextWritten, lsn: int, cause: Cause) -> None:
        if isinstance(record, ContextWritten):
            for change in record.changes:
                open_about = self.model.contesting(record.context_id, change["key"])
                what = f"{change['key']} of {record.context_id}"
                self.hold(open_about is None, f"{what} is written while {open_about} is open")
            return
        if record.rule not in ("c1", "c4"):
            return
        message = cause.message
        assert isinstance(message, ContextWrite), "a write opens it"
        (op,), (stands, wanted) = message.ops, record.candidates or ({}, {})
        known = self.model.contexts[message.context_id]
        values = known.values[op.key]
        self.hold(not message.rebases and not message.depends, f"{record.conflict} opens, and its write would rebase")
        self.hold((stands["payload"], stands["rev"]) == (values[-1], len(values)), f"{stands} does not stand")
        self.hold((wanted["payload"], wanted["agent"]) == (op.value, cause.agent), f"{wanted} was not asked for")
        self.hold(stands["payload"] != wanted["payload"], f"{record.conflict} is about equal values")
        others = principal_of(stands["agent"]) != principal_of(wanted["agent"])
        self.hold(others, f"{stands['agent']} quarrels with itself")
        _, count, last = self._tries.get((message.context_id, op.key, cause.agent or ""), (0, 0, ""))
        is_decision = op.key.startswith("decisions/")
        insists = count >= 2 and message.key != last
        self.hold(is_decision or insists or op.key == BOARD, f"{record.conflict} opens at try {count + 1}")
        self.hold((record.rule == "c4") == is_decision, f"{record.conflict} about {op.key} is found by {record.rule}")

    def answered(self, agent: str, message: ContextWrite, reply: Message) -> None:
        for op in message.ops:
            name = (message.context_id, op.key, agent)
            if isinstance(reply, Written):
                self._tries.pop(name, None)
            elif isinstance(reply, Error) and reply.code == "conflict" and len(message.ops) == 1:
                if op.if_rev is None or "conflict" in (reply.data or {}):
                    continue  # it named no revision it had seen, or the key is blocked whatever it names
                rev, count, last = self._tries.get(name, (-1, 0, ""))
                if message.key != last:
                    count = count + 1 if op.if_rev <= rev else 1
                self._tries[name] = (op.if_rev, count, message.key)


class ResolvedIsWritten(Checker):
    """What a conflict about a key chooses becomes its next revision, in the same append, or is the current one."""

    name = "CONFLICT-15"
    records = (ConflictResolved, ContextWritten, Settled)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._due: tuple[int, bytes | None, str] | None = None
        """Place, value (None: any result of a merger) and author of what has to be written next."""

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        due, self._due = self._due, None
        if isinstance(record, ContextWritten):
            if due is None or due[0] != lsn:
                return
            (change,) = record.changes
            self.hold(due[1] in (None, change["value"]), f"{due[1]!r} was chosen, written is {change['value']!r}")
            self.hold(record.by == due[2], f"{due[2]} was chosen, {record.by} writes")
            return
        self.hold(due is None, f"{due} was chosen, and not written")
        if isinstance(record, Settled):
            task = self.model.tasks[record.task]
            by_silence = record.state == "completed" and record.by in ("auto", "timer")
            self.hold(not by_silence or task.rev not in task.overruled, f"{task.id} was overruled, and {record.by}")
            return
        ruling = self.model.rulings[record.conflict]
        if ruling.contested is None or record.outcome not in ("select", "merge"):
            return
        stands = ruling.candidates[0]
        if record.outcome == "merge" and record.ref is not None:
            if json_of(self.model, record.ref) != stands["payload"]:
                self._due = (lsn + 1, None, self.model.author(record.ref))
            return
        if record.ref is None:
            if ruling.stages[-1].merged != stands["payload"]:
                self._due = (lsn + 1, ruling.stages[-1].merged, ruling.candidates[1]["agent"])
            return
        chosen = next(known for known in ruling.candidates if known["ref"] == record.ref)
        if chosen["payload"] != stands["payload"]:
            self._due = (lsn + 1, chosen["payload"], chosen["agent"])


def json_of(model: Any, task: str) -> bytes:
    """Return a merger's result as a context would hold it; mergers of this world return numbers."""
    return b"%d" % model.answer(task)


class MergedRight(Checker):
    """A merge that asks nobody has exactly what both have changed, or is nothing; a job says so, or the rung's time
    is over (RUNG-6).
    """

    name = "RUNG-6"
    records = (Merged, StageClosed)

    def before(self, record: Merged | StageClosed, lsn: int, cause: Cause) -> None:
        ruling = self.model.rulings[record.conflict]
        stage = ruling.stages[-1]
        if isinstance(record, StageClosed):
            is_due = stage.strategy == "merge" and not stage.asked and not record.by and stage.until > record.at
            self.hold(not is_due or stage.is_answered, f"{ruling.id} goes on, and a job may still merge")
            return
        fits = stage.number == record.number and stage.strategy == "merge" and not stage.asked
        self.hold(fits and not stage.is_answered and not stage.to_lsn, f"{record} answers {stage}")
        self.hold(cause.kind == "job", f"{record} is the answer to no job")
        if record.payload is None:
            return  # both changed the same, or a job took too long
        if ruling.kind == "artifact":
            self.hold(is_merged(record.payload, ruling.candidates), f"{record.payload!r} is not of {ruling.candidates}")
            return
        stands, wanted = ruling.candidates
        values = self.model.contexts[stands["context_id"]].values[stands["key"]]
        base = json.loads(values[wanted["rev"] - 1] or b"{}") if wanted["rev"] else {}
        both = [json.loads(known["payload"]) for known in (stands, wanted)]
        if not all(isinstance(value, dict) for value in both):
            self.hold(base in both, f"{both} are both something else than {base}")
            return
        base = base if isinstance(base, dict) else {}
        expected = dict(both[0])
        for name, value in both[1].items():
            if value != base.get(name):
                self.hold(both[0].get(name) in (base.get(name), value), f"{both} changed {name} of {base}")
                expected[name] = value
        self.hold(json.loads(record.payload) == expected, f"{record.payload!r} is merged from {both}, not {expected}")


class RaisedOnce(Checker):
    """The same raise is the same conflict, and what its answer says is true (CONFLICT-12)."""

    name = "CONFLICT-12"
    records = (ConflictOpened, ConflictJoined)
    requests = (ConflictRaise,)
    notices = (ConflictRaised,)

    def before(self, record: ConflictOpened | ConflictJoined, lsn: int, cause: Cause) -> None:
        known = [
            ruling.id
            for ruling in self.model.rulings.values()
            if record.name in ruling.raised and not ruling.is_archived
        ]
        self.hold(not known, f"{record.by} has said so in {known}, and says it in {record.conflict}")
        if isinstance(record, ConflictOpened) and record.rule == "raise":
            results = [known["ref"] for known in record.candidates or () if known["form"] == "result"]
            waits = [task for task in results if self.model.tasks[task].state == "reported"]
            self.hold(set(waits) <= set(record.blocks or ()), f"{waits} may settle, {record.conflict} is about them")
        if isinstance(record, ConflictOpened) and record.rule == "r4":
            task = self.model.tasks[(record.candidates or [{}])[0]["ref"]]
            is_its = _is_rejected(task) and _author(self.model, task) == record.by == cause.agent
            self.hold(is_its, f"{record.by} contests {task.id}, which is not its to contest")
            is_late = record.at - task.since > self.court.policy.contest_ms and task.has_ended
            self.hold(not is_late, f"{record.by} contests {task.id} {record.at - task.since} ms later")

    def answered(self, agent: str, message: ConflictRaise, reply: Message) -> None:
        if not isinstance(reply, ConflictRaised):
            return
        ruling = self.model.rulings.get(reply.conflict)
        self.hold(ruling is not None, f"{agent} was told of {reply.conflict}, which is not there")
        assert ruling is not None, "just seen"
        waits = [
            task.id
            for subject in message.subjects
            if subject.task is not None and (task := self.model.tasks[subject.task]).state == "reported"
        ]
        settles = [task for task in waits if ruling.is_open and task in ruling.blocks]
        self.hold(not settles, f"{settles} may settle while {ruling.id} is open")

    def told(self, agent: str, message: ConflictRaised, request: Message | None) -> None:
        opened = self.model.rulings[message.conflict].opened_lsn
        self.hold(opened <= self.court.durable(), f"{agent} was told of {message.conflict}, which is not durable")


class NotedRight(Checker):
    """A noted conflict is true, stands as its rule says, and is noted only once in a while (CONFLICT-17)."""

    name = "CONFLICT-17"
    records = (ConflictNoted,)

    def before(self, record: ConflictNoted, lsn: int, cause: Cause) -> None:
        about = [one for one in self.model.rulings.values() if (one.kind, one.object) == (record.kind, record.object)]
        rest_ms = self.court.policy.conflict_rest_ms
        self.hold(not any(one.is_open for one in about), f"{record.conflict} is noted, and {about} is open")
        recent = [one.id for one in about if one.rule == record.rule and record.at - one.opened_at < rest_ms]
        self.hold(not recent, f"{record.conflict} is noted so soon after {recent}")
        said = {known["ref"]: known for known in record.candidates}
        stands = said[record.ref]
        if record.rule == "s3":
            greatest = max(known["fence"] for known in said.values())
            self.hold(stands["fence"] == greatest, f"fence {stands['fence']} stands, {greatest} was shown")
        elif record.rule in ("i1", "i2"):
            first, second = said.values()
            both = {principal_of(first["agent"]), principal_of(second["agent"])}
            self.hold(len(both) == 2 and first["digest"] != second["digest"], f"{first} and {second} are one word")
            self.hold(second["agent"] == cause.agent, f"{cause.agent} speaks, and {second['agent']} is noted")
            self._is_in_force(record, first, cause.message)
        elif record.rule == "d1":
            one, other = (json.loads(known["payload"]) for known in said.values())
            newer = other["incarnation"] > one["incarnation"]
            self.hold(
                (stands["payload"] == record.candidates[1]["payload"]) == newer, f"{record} is the wrong way round"
            )

    def _is_in_force(self, record: ConflictNoted, first: dict[str, Any], message: Message | None) -> None:
        task = self.model.tasks[record.object.removeprefix("task:")]
        if record.rule == "i2" and isinstance(message, TaskAnswer):
            answer = task.asks[message.ask_no].answer
            self.hold(answer == first["payload"], f"{first} was answered, in force is {answer!r}")
        elif record.rule == "i2":
            end = task.settled
            self.hold(end is not None and end.by == first["agent"], f"{first} has ended {task.id}, it was {end}")


class ConflictsClose(Checker):
    """Every conflict that is not about a group closes, and the ledger agrees with the records about them."""

    name = "L5o"

    def look(self, now: int) -> None:
        coordinator = self.court.coordinator
        assert coordinator is not None, "it is up"
        ours = [known.id for known in self.model.rulings.values() if known.is_open]
        theirs = list(coordinator.ledger.open_conflicts)
        self.hold(ours == theirs, f"open are {theirs}, the records say {ours}")

    def unfinished(self) -> str | None:
        return next((f"{one.id} is open" for one in self.model.rulings.values() if one.is_open and one.climbs), None)


QUARRELS: tuple[type[Checker], ...] = (
    ContestedRight,
    ResolvedIsWritten,
    MergedRight,
    RaisedOnce,
    NotedRight,
    *FLAPPING,
    ConflictsClose,
)
