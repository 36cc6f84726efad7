"""What it costs to decide a conflict in the simulated world: limits of rungs and ladders, who charges, what must hold.

Drawn from separate streams and in some worlds only, so that other seeds stay what they were. An agent that is asked at
a rung sometimes uses up some budget there; the model adds up the usage of each rung's tasks, without the engine's code.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from a2a.engine.records import ConflictResolved, StageClosed, StageOpened
from a2a.engine.work import Attempt

from .clients import Order
from .court import Cause, Checker
from .disputes import TRADES
from .profiles import Profile
from .world import World

if TYPE_CHECKING:
    from .agents import Agent

__all__ = ["FEES", "charge", "draw_fees", "limit"]

_SHARE_OF_WORLDS = 0.4
_Script = Generator["int | Callable[[], bool]", None, None]


def draw_fees(world: World, profile: Profile, wanted: bool | None) -> None:
    """Draw whether, and how often, agents that are asked in a conflict charge for it."""
    chance = world.chance("fees")
    if chance.random() < _SHARE_OF_WORLDS if wanted is None else wanted:
        profile.manners.charge = chance.choice((0.3, 0.8, 1.0))


def limit(world: World, profile: Profile, orders: Iterable[Order]) -> None:
    """Set limits on the cost of deciding the conflicts of a namespace, and those of some groups."""
    chance = world.chance("limits of cost")
    if not profile.manners.charge:
        return
    profile.policy = replace(
        profile.policy,
        conflict_cost_micro=chance.choice((None, None, 0, 60, 200)),
        ladders={
            kind: tuple(_limited(rung, chance) for rung in ladder) for kind, ladder in profile.policy.ladders.items()
        },
    )
    for order in orders:
        own = world.chance("limits of cost", order.request.key)
        redundancy: Any = order.request.spec["redundancy"]
        if own.random() < 0.6:
            redundancy["costMicro"] = own.choice((0, 40, 100, 400))
        if "policy" in redundancy:
            redundancy["policy"] = [_limited(rung, own) for rung in redundancy["policy"]]
        if own.random() < 0.3:
            order.request.budget = {"costMicro": own.choice((40, 200, 1_000))}


def _limited(rung: dict[str, Any], chance: Random) -> dict[str, Any]:
    return {**rung, "costMicro": chance.choice((0, 20, 60, 200))} if chance.random() < 0.4 else rung


def charge(agent: Agent, attempt: Attempt) -> _Script:
    """Use up budget for an answer in a group or a conflict, and tell it with the heartbeats."""
    chance = agent.world.chance(attempt.task, attempt.fence, agent.instance, "charge")
    if attempt.offer.spec["skill"] not in TRADES or chance.random() >= agent.manners.charge:
        return
    for _ in range(chance.randint(1, 3)):
        agent.work.use(attempt, {"costMicro": chance.randint(1, 40)}, agent.world.now)
        yield chance.randint(0, 600)


# What must hold -------------------------------------------------------------------------------------------------------


class SharedOut(Checker):
    """A rung's tasks may use what is left of its limit, its ladder's and a budget above, and no more (RUNG-7)."""

    name = "RUNG-7"
    records = (StageOpened,)

    def before(self, record: StageOpened, lsn: int, cause: Cause) -> None:
        ruling = self.model.rulings[record.conflict]
        if not record.asked:
            return
        tasks = [self.model.tasks[asked] for asked in record.asked]
        shares = [task.budget.get("costMicro") for task in tasks]
        what = f"rung {record.number} of {ruling.id}"
        ladder = self.model.cost_limit(ruling)
        limits = [ruling.ladder[record.number].get("costMicro"), ladder and ladder - self.model.cost(ruling)]
        left = [amount for amount in limits if amount is not None]
        if not left:
            self.hold(not any(share is not None for share in shares), f"{what} has no limit, and {shares} are given")
            return
        given = [share for share in shares if share is not None]
        self.hold(len(given) == len(shares), f"{what} may use {left}, and {shares} are given")
        payer = self.model.payer(self.model.tasks.get(tasks[0].parent or ""), "costMicro")
        if payer is not None:
            gone = payer.spent.get("costMicro", 0) + payer.reserved["costMicro"] - sum(given)
            left.append(max(0, payer.budget["costMicro"] - gone))
        self.hold(sum(given) == min(left), f"{what} may use {left}, and {shares} are given")
        self.hold(given == sorted(given, reverse=True) and given[0] - given[-1] <= 1, f"{what} gives {shares}")


class Frugal(Checker):
    """A rung or ladder at its limit asks nobody else, and says so; no other does (RUNG-8). The record has each cost."""

    name = "RUNG-8"
    records = (StageOpened, StageClosed, ConflictResolved)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        ruling = self.model.rulings[record.conflict]
        if isinstance(record, StageOpened):
            is_last = record.number >= len(ruling.ladder) - 1
            waits = record.asked or record.until
            spent = self.model.is_spent(ruling)
            self.hold(is_last or not spent or not waits, f"{ruling.id} has used its limit, and tries {record}")
        elif isinstance(record, StageClosed) and not record.by:
            stage = ruling.stages[-1]
            is_over = self.model.is_skipped(ruling, stage) or self.model.is_used_up(ruling, stage)
            says = record.why.startswith("cost")
            self.hold(says == (is_over and record.winner is None), f"{record} when it has used {self._used(ruling)}")

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, ConflictResolved):
            assert self.court.coordinator is not None, "it decided"
            shown = self.court.coordinator.ledger.conflicts[record.conflict].record
            told = [stage["costMicro"] for stage in shown["stages"]]
            used = self._used(self.model.rulings[record.conflict])
            self.hold(told == used, f"the record of {record.conflict} has {told}, used was {used}")

    def _used(self, ruling: Any) -> list[int]:
        return [self.model.cost_of(stage) for stage in ruling.stages]

    def look(self, now: int) -> None:
        for ruling in self.model.rulings.values():
            stage = ruling.stages[-1] if ruling.is_open and ruling.stages else None
            if stage is not None and not stage.to_lsn:
                spent = self.model.is_used_up(ruling, stage)
                self.hold(not spent, f"rung {stage.number} of {ruling.id} goes on, having used {self._used(ruling)}")


FEES: tuple[type[Checker], ...] = (SharedOut, Frugal)
