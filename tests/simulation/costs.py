"""What an attempt leaves and costs in the simulated world: checkpoints, hand-offs, steering, usage, budgets.

The script's steps, what clients add to their orders, and the properties of both. Drawn from separate random streams and
only in some worlds, so that other seeds stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from a2a.engine.delegation import Delegation
from a2a.engine.records import (
    Asked,
    Checkpointed,
    Declined,
    Delegated,
    Evicted,
    HandedOff,
    LeaseExpired,
    Offered,
    Reported,
    ReportKept,
    Settled,
    Yielded,
)
from a2a.engine.work import Attempt
from a2a.protocol.messages import (
    Error,
    TaskCheckpoint,
    TaskDelegate,
    TaskHandoff,
    TaskHeartbeat,
    TaskOffer,
    TaskReport,
    TaskSteer,
    TaskYield,
)

from .court import Cause, Checker, Court
from .model import COUNTED, TaskModel
from .profiles import Profile
from .world import World

if TYPE_CHECKING:
    from .agents import Agent
    from .clients import Client

__all__ = ["COSTS", "allow", "draw_costs", "hand_off", "leave", "speak", "spend"]

_SHARE_OF_WORLDS = 0.35
_Script = Generator["int | Callable[[], bool]", None, None]


def draw_costs(world: World, profile: Profile, wanted: bool | None) -> None:
    """Draw how much of this a world has, and how patient the namespace is with its agents."""
    chance = world.chance("costs")
    share = chance.random()
    if not (share < _SHARE_OF_WORLDS if wanted is None else wanted):
        return
    manners = profile.manners
    for name in ("checkpoint", "spend", "hand_off", "steer"):
        setattr(manners, name, chance.choice((0.0, 0.3, 0.8)))
    longest = profile.work_ms[1]
    durations = replace(
        profile.policy.durations,
        stall_ms=chance.choice((None, longest // 2, 2 * longest)),
        attempt_ms=chance.choice((None, None, longest, 4 * longest)),
    )
    profile.policy = replace(profile.policy, durations=durations)


def allow(request: TaskDelegate, chance: Random, spend: float) -> None:
    """Give a task a budget, or none."""
    if chance.random() < spend:
        budget = {"tokens": chance.choice((20, 100, 400)), "steps": chance.choice((2, 10))}
        request.budget = {kind: budget[kind] for kind in chance.sample(sorted(budget), chance.randint(1, 2))}  # type: ignore[assignment]


# What agents and clients do -------------------------------------------------------------------------------------------


def _stream(agent: Agent, attempt: Attempt, what: str) -> Random:
    return agent.world.chance(attempt.task, attempt.fence, agent.instance, what)


def leave(agent: Agent, attempt: Attempt) -> _Script:
    """Leave checkpoints: some not portable, some with a number that was used."""
    chance = _stream(agent, attempt, "leave")
    if chance.random() >= agent.manners.checkpoint:
        return
    for number in range(chance.randint(1, 3)):
        state = b'{"at":%d,"of":%d}' % (number, attempt.fence)
        request = agent.work.checkpoint(attempt, state, portable=chance.random() < 0.6)
        yield agent.await_reply(request)
        reply = agent.replies.pop(request)
        if isinstance(reply, Error) and reply.data is not None and "cpNo" in reply.data:
            attempt.cp_no = reply.data["cpNo"]  # the last checkpoint before the process died was stored, or was not
        yield chance.randint(0, 400)


def spend(agent: Agent, attempt: Attempt) -> _Script:
    """Use up some budget, and tell it with the heartbeats."""
    chance = _stream(agent, attempt, "spend")
    if chance.random() >= agent.manners.spend:
        return
    for _ in range(chance.randint(1, 4)):
        agent.work.use(attempt, {"tokens": chance.randint(1, 60), "steps": 1}, agent.world.now)
        yield chance.randint(0, 600)


def hand_off(agent: Agent, attempt: Attempt) -> _Script:
    """Hand the task on to an agent that may not be there; if refused, go on."""
    chance = _stream(agent, attempt, "hand off")
    if agent.town.is_calm or chance.random() >= agent.manners.hand_off / 2:
        return
    others = [host.name for host in agent.town.hosts if host.is_agent]
    wish = chance.randrange(3)
    request = agent.work.hand_off(
        attempt,
        chance.choice(others) if wish == 0 else None,
        {"labels": {"zone": chance.choice("ab")}} if wish == 1 else None,
        b'[{"text":"handed on"}]',
    )
    yield agent.await_reply(request)
    del agent.replies[request]


def speak(client: Client, delegation: Delegation) -> None:
    """Steer the work under way, sometimes with other words than before."""
    chance = client.world.chance(client.instance, delegation.request.key, "speak")
    if "redundancy" in delegation.request.spec or chance.random() >= client.town.manners.steer:
        return

    def say(key: str, words: bytes) -> None:
        if not client.town.is_calm and not delegation.has_ended:
            client.delegations.steer(delegation, key, words, chance.choice(("enqueue", "enqueue", "interrupt")))

    for number in range(chance.randint(1, 3)):
        words = b'[{"text":"word %d of %s"}]' % (number, client.instance.encode())
        client.later(chance.randint(0, 8_000), say, f"word-{number}", words)


# What must hold -------------------------------------------------------------------------------------------------------


class CheckpointsGrow(Checker):
    """Checkpoints come from the current attempt, each numbered above the one that it names as its base (I13)."""

    name = "I13"
    records = (Checkpointed,)

    def before(self, record: Checkpointed, lsn: int, cause: Cause) -> None:
        task, message = self.model.tasks[record.task], cause.message
        known = task.checkpoints.get(record.fence)
        newest = known.cp_no if known is not None else 0
        self.hold(record.cp_no > newest, f"{task.id}: checkpoint {record.cp_no} of {record.fence} after {newest}")
        assert isinstance(message, TaskCheckpoint), "nobody else leaves one"
        self.hold(message.base_cp == newest, f"{task.id}: checkpoint after {message.base_cp}, the newest is {newest}")
        is_current = task.runs and (task.fence, task.holder) == (record.fence, cause.agent)
        self.hold(is_current, f"{cause.agent} leaves a checkpoint of {task.id}, which is {task.holder}'s")


class CheckpointsGoOn(Checker):
    """An offer carries the newest checkpoint from which its agent may continue (I13, CHECK-3)."""

    name = "CHECK-3"
    mail = (TaskOffer,)

    def posted(self, agent: str, message: TaskOffer, connection: int) -> None:
        task = self.model.tasks[message.task]
        due = [left for left in task.checkpoints.values() if left.portable or task.minted[left.fence] == agent]
        newest = (due[-1].fence, due[-1].cp_no, due[-1].payload) if due else None
        got = message.checkpoint
        told = (got.fence, got.cp_no, got.payload) if got is not None else None
        self.hold(told == newest, f"{agent} is offered {task.id} with checkpoint {told}, it is {newest}")


class WordsHeard(Checker):
    """An offer carries every word of the delegator so far, in order (STEER-1)."""

    name = "STEER-1"
    mail = (TaskOffer,)

    def posted(self, agent: str, message: TaskOffer, connection: int) -> None:
        task = self.model.tasks[message.task]
        told = [word.steer_no for word in message.steers]
        self.hold(told == list(range(1, task.words + 1)), f"{task.id} heard {task.words} words, the offer has {told}")


class BudgetsHold(Checker):
    """Reservations for sub-tasks and usage fit into a budget, and nobody works on a task with none left (I17)."""

    name = "I17"
    records = (Delegated, Offered)

    def before(self, record: Delegated | Offered, lsn: int, cause: Cause) -> None:
        if isinstance(record, Offered):
            self._left(self.model.tasks[record.task])
            return
        parent = self.model.tasks.get(record.parent or "")
        for kind, wanted in (record.budget or {}).items():
            payer = self.model.payer(parent, kind) if kind in COUNTED else None
            if payer is not None:
                gone = payer.spent.get(kind, 0) + payer.reserved.get(kind, 0)
                fits = not wanted or gone + wanted <= payer.budget[kind]
                self.hold(fits, f"{record.task} may use {wanted} {kind}, of {payer.budget[kind]} {gone} are gone")

    def _left(self, task: TaskModel) -> None:
        for kind in COUNTED:
            payer = self.model.payer(task, kind)
            if payer is not None and payer.spent.get(kind, 0):
                spent, budget = payer.spent[kind], payer.budget[kind]
                self.hold(spent < budget, f"{task.id} is offered, {payer.id} has used {spent} {kind} of {budget}")


class _Listening(Checker):
    """Keeps what attempts told of their usage."""

    requests = (TaskHeartbeat, TaskReport, TaskYield, TaskHandoff)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._told: dict[tuple[str, int], dict[str, int]] = {}
        """Attempt to the most usage it has told of each kind, over all coordinator processes."""

    def asked(self, agent: str, message: Any) -> None:
        task = self.model.tasks.get(message.task)
        if task is not None and task.minted.get(message.fence) == agent:
            told = self._told.setdefault((message.task, message.fence), {})
            for kind in COUNTED:
                told[kind] = max(told.get(kind, 0), (message.usage or {}).get(kind, 0))


class CountedOnce(_Listening):
    """No attempt is counted for more than it told in all, or for less than its last message (I17, BUDGET-1)."""

    name = "BUDGET-1"
    records = (Asked, Declined, HandedOff, LeaseExpired, Reported, ReportKept, Settled, Yielded)

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        for fence, used in task.used.items():
            told = self._told.get((task.id, fence), {})
            more = {kind: amount for kind, amount in used.items() if amount > told.get(kind, 0)}
            self.hold(not more, f"attempt {fence} at {task.id} is counted for {more}, and told {told}")
        message = cause.message
        if isinstance(message, TaskReport | TaskYield | TaskHandoff) and message.task == task.id:
            counted = task.used.get(message.fence, {})
            less = {kind for kind in COUNTED if counted.get(kind, 0) < (message.usage or {}).get(kind, 0)}
            self.hold(not less, f"attempt {message.fence} at {task.id} told {message.usage}, counted is {counted}")


class TakenForAReason(_Listening):
    """An attempt is taken away only when its time, its budget or its delegator's patience is over (LEASE-10)."""

    name = "LEASE-10"
    records = (Evicted,)

    def before(self, record: Evicted, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        self.hold(
            task.runs and task.fence == record.fence, f"{task.id} is taken from {record.fence}, it is not at work"
        )
        worked = record.at - task.since
        match record.reason:
            case "stall" | "attempt":
                patience = task.durations[f"{record.reason}_ms"]
                is_due = patience is not None and worked >= patience
                self.hold(is_due, f"{task.id} is taken away after {worked} ms: {record.reason}, {patience} ms")
            case "steer":
                message = cause.message
                is_word = isinstance(message, TaskSteer) and message.mode == "interrupt"
                self.hold(is_word, f"{task.id} is taken away for a word, and {message} is none")
            case "budget":
                self.hold(self._is_used_up(task), f"{task.id} is taken away, and has something left")

    def _is_used_up(self, task: TaskModel) -> bool:
        for kind in COUNTED:
            payer = self.model.payer(task, kind)
            if payer is not None and payer.spent.get(kind, 0) + self._running(payer, kind) >= payer.budget[kind]:
                return True
        return False

    def _running(self, payer: TaskModel, kind: str) -> int:
        """Return what running attempts have told they use of a budget and no record counts yet."""
        more = 0
        for (name, fence), told in self._told.items():
            task = self.model.tasks.get(name)
            if task is not None and task.runs and task.fence == fence and self.model.payer(task, kind) is payer:
                more += max(0, told.get(kind, 0) - task.used.get(fence, {}).get(kind, 0))
        return more


COSTS: tuple[type[Checker], ...] = (
    CheckpointsGrow,
    CheckpointsGoOn,
    WordsHeard,
    BudgetsHold,
    CountedOnce,
    TakenForAReason,
)
