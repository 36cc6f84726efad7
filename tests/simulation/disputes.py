"""Groups and conflicts in a world: who answers, who judges, and what several agents are asked.

Drawn separately, and only in some worlds, so that other seeds stay what they were. An agent's opinion on a question is
the same in each of its attempts; whether agents agree depends on the question.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from a2a.engine.work import Attempt
from a2a.protocol.messages import (
    ConflictList,
    ConflictPage,
    ConflictVote,
    Message,
    TaskDelegate,
    TaskLimits,
    Timers,
)

from .clients import Order, Person
from .profiles import Profile
from .world import World

if TYPE_CHECKING:
    from .town import Town

__all__ = ["TRADES", "Arbiter", "Disputes", "draw_disputes"]

_SHARE_OF_WORLDS = 0.3
_EXPERTS = 4
"""Agents that answer: as many as the largest group asks."""


@dataclass(frozen=True, slots=True)
class Disputes:
    """What a world has for groups and for settling them."""

    people: list[tuple[str, tuple[str, ...], int, int]]
    """(name, skills, credit for tasks, credit for frames)."""
    orders: list[Order]
    has_arbiter: bool
    """A person decides from time to time; in other worlds nobody comes."""


def draw_disputes(world: World, profile: Profile, wanted: bool | None) -> Disputes | None:
    """Draw them and the namespace's settings for them, or return None if this world has no groups."""
    chance = world.chance("disputes")
    share = chance.random()
    if not (share < _SHARE_OF_WORLDS if wanted is None else wanted):
        return None
    profile.policy = replace(
        profile.policy,
        ballot_ms=chance.choice((500, 3_000, 20_000)),
        judge_ms=chance.choice((2_000, 10_000, 40_000)),
        human_ms=chance.choice((3_000, 20_000)),
        appeal_ms=chance.choice((0, 0, 1_000, 5_000)),
        appeal_irreversible_ms=chance.choice((500, 4_000)),
    )
    people: list[tuple[str, tuple[str, ...], int, int]] = []
    for number in range(_EXPERTS):
        also = chance.choice(((), ("judge",), ("judge", "check", "merge")))
        people.append((f"expert{number}", ("answer", *also), chance.choice((1, 2, 4)), chance.choice((2, 8, 256))))
    for number in range(chance.choice((0, 1, 2))):
        people.append((f"judge{number}", ("judge", "check", "merge"), chance.choice((1, 4)), 8))
    orders = [_order(profile, chance, number) for number in range(chance.randint(2, 6))]
    _compare(world, people, orders)
    return Disputes(people, orders, chance.random() < 0.5)


def _compare(world: World, people: list[tuple[str, tuple[str, ...], int, int]], orders: list[Order]) -> None:
    """Have an agent compare some answers; drawn from a separate stream, as this came later."""
    for number, (name, skills, tasks, frames) in enumerate(people):
        if world.chance("comparers", name).random() < (0.3 if "answer" in skills else 0.7):
            people[number] = (name, (*skills, "same"), tasks, frames)
    for order in orders:
        spec: Any = order.request.spec
        if world.chance("comparing", order.request.key).random() < 0.3:
            spec["redundancy"]["comparator"] = "agent:same"


def _order(profile: Profile, chance: Random, number: int) -> Order:
    redundancy: dict[str, Any] = {"n": chance.choice((2, 3, 3, 4))}
    if chance.random() < 0.3:
        redundancy["k"] = chance.randint(1, redundancy["n"])
    comparator = chance.choice((None, "json-c14n", "bytes", "numeric(1)", "numeric(1)", "text-nfc"))
    if comparator is not None:
        redundancy["comparator"] = comparator
    spec: dict[str, Any] = {"skill": "answer", "redundancy": redundancy}
    spec["acceptance"] = {"evaluator": chance.choice(("auto", "delegator"))}
    if chance.random() < 0.2:
        spec["effect"] = "irreversible"
    ladders = [ladder for ladder in _LADDERS if ladder[-1]["strategy"] == "abort" or "effect" not in spec]
    ladder = chance.choice((None, *ladders))
    if ladder is not None:
        redundancy["policy"] = [dict(rung) for rung in ladder]
    deadline = chance.choice((5_000, 30_000)) if chance.random() < profile.manners.deadline else None
    request = TaskDelegate(
        f"question-{number}",
        spec,  # type: ignore[arg-type]
        b'[{"text":"question %d"}]' % number,
        limits=TaskLimits(deadline_ms=deadline),
        timers=Timers(queue_ms=chance.choice((5_000, 60_000))),  # all that could do it may have another answer
    )
    return Order(
        request,
        chance.randint(0, max(1, profile.weather_ms // 2)),
        chance.random() < profile.manners.watch,
        chance.randint(0, 20_000) if chance.random() < profile.manners.cancel / 2 else None,
        chance.choice(("coop", "kill", "skip")),
    )


def _rungs(*strategies: str) -> tuple[dict[str, Any], ...]:
    asks = ("verify", "judge", "panel", "merge")
    skills = {"verify": "check", "merge": "merge"}
    more: dict[str, dict[str, Any]] = {"quorum": {"k": 2}, "human": {"timeoutMs": 4_000, "onTimeout": "first_wins"}}
    return tuple(
        {"strategy": strategy, **({"skill": skills.get(strategy, "judge")} if strategy in asks else {})}
        | more.get(strategy, {})
        for strategy in strategies
    )


_LADDERS = (
    _rungs("majority", "judge", "abort"),
    _rungs("majority", "judge", "human"),
    _rungs("majority", "human", "abort"),
    _rungs("plurality", "verify", "first_wins"),
    _rungs("plurality", "judge", "abort"),
    _rungs("judge", "human", "abort"),
    _rungs("judge", "first_wins"),
    _rungs("panel", "first_wins"),
    _rungs("merge", "abort"),
    _rungs("weighted", "retry", "first_wins"),
    _rungs("quorum", "judge", "abort"),
    _rungs("majority", "retry", "abort"),
    _rungs("first_wins"),
    _rungs("human", "abort"),
)


# What agents make of it -----------------------------------------------------------------------------------------------


def _result(data: bytes) -> bytes:
    return b'[{"artifactId":"result","name":"result","parts":[{"data":%s}]}]' % data


def _answer(town: Town, name: str, attempt: Attempt) -> bytes:
    question = attempt.offer.payload.decode()
    mood = town.world.chance("mood", question).choice(("agree", "split", "split", "any"))
    own = town.world.chance("opinion", question, name)
    writings = {"agree": (b"1", b"1.0", b" 1"), "split": (b"1", b"2", b"2.0"), "any": (b"0", b"1", b"2", b"3")}
    return _result(own.choice(writings[mood]))


def _judge(town: Town, name: str, attempt: Attempt) -> bytes:
    way = town.world.chance("way of judging", name).choice(("by content", "by content", "by order", "nonsense"))
    if way == "nonsense":
        return _result(b'{"choice":"the best one"}')
    values = [_said(candidate) for candidate in json.loads(attempt.offer.payload)[0]["data"]["candidates"]]
    if not all(isinstance(value, int | float) for value in values):
        values = [json.dumps(value) for value in values]
    return _result(b'{"choice":%d}' % (0 if way == "by order" else values.index(max(values))))


def _said(candidate: Any) -> Any:
    """Return the value of a candidate: a result's data, if it has any, or the value itself."""
    is_result = isinstance(candidate, list) and candidate and "data" in candidate[0].get("parts", [{}])[0]
    return candidate[0]["parts"][0]["data"] if is_result else candidate


def _check(town: Town, name: str, attempt: Attempt) -> bytes:
    candidate = json.loads(attempt.offer.payload)[0]["data"]["candidates"][0]
    return _result(b"true" if _said(candidate) == 2 else b'{"passed":false}')


def _same(town: Town, name: str, attempt: Attempt) -> bytes:
    way = town.world.chance("way of comparing", name).choice(("by value", "nearly", "field", "nonsense"))
    one, other = (found[0]["parts"][0]["data"] for found in json.loads(attempt.offer.payload)[0]["data"]["candidates"])
    is_same = abs(one - other) <= (way == "nearly")
    said = b"true" if is_same else b"false"
    return _result({"nonsense": b'{"equal":"perhaps"}', "field": b'{"equal":%s}' % said}.get(way, said))


def _merge(town: Town, name: str, attempt: Attempt) -> bytes:
    return _result(b"99")


TRADES: dict[str, Callable[[Town, str, Attempt], bytes]] = {
    "answer": _answer,
    "judge": _judge,
    "check": _check,
    "merge": _merge,
    "same": _same,
}
"""Skill to a function that returns the result of an agent with this name."""


# Who decides ----------------------------------------------------------------------------------------------------------


class Arbiter(Person):
    """Decides some conflicts, at any rung, and sometimes twice."""

    EVERY = (500, 4_000)
    LIST = ConflictList(is_open=True, limit=1_000)

    def look(self, page: Message) -> None:
        assert isinstance(page, ConflictPage), "a list is answered by a page"
        for view in page.conflicts:
            if self.chance.random() < 0.3:
                refs = [subject["ref"] for subject in view["subjects"] if subject["group"] >= 0]
                for _ in range(self.chance.choice((1, 1, 2))):
                    choice = self.chance.choice((None, *refs))
                    self.session.request(ConflictVote(view["conflict"], choice, "looked at it"))
