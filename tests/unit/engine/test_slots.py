"""Which agents have a slot free, and who of them is chosen."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from a2a.engine.ledger import Ledger
from a2a.engine.live import Connection, Live
from a2a.engine.records import AgentForgotten, AgentRegistered
from a2a.engine.slots import _POOLS_MAX, FreeSlots, Pool, _point, choose_tied, share_in_use


def entries(*names: str) -> list[tuple[int, str]]:
    return sorted((_point(name), name) for name in names)


@pytest.fixture
def world() -> tuple[Ledger, Live]:
    return Ledger(), Live()


def come(world: tuple[Ledger, Live], name: str, *skills: str, credit: int = 4, **labels: str) -> None:
    ledger, live = world
    card = {"name": name, "version": "1", "skills": [{"id": skill} for skill in skills]}
    ledger.apply(AgentRegistered(1, name, f"{name}-1", 1, card, labels))
    live.agents[name] = Connection(len(live.agents), "", name, credit_tasks=credit)


def shares(world: tuple[Ledger, Live], slots: FreeSlots, skill: str, **labels: str) -> dict[str, int] | None:
    wanted: tuple[dict[str, Any], ...] = ({"labels": labels},) if labels else ()
    pool = slots.pool(skill, repr(labels).encode(), wanted, *world)
    return None if pool is None else pool.share_of


def test_agents_stand_by_the_share_of_their_credit_that_is_in_use(world: tuple[Ledger, Live]) -> None:
    slots = FreeSlots()
    for name, credit, held in (("idle", 4, 0), ("half", 4, 2), ("full", 2, 2), ("none", 0, 0)):
        come(world, name, "s", credit=credit)
        world[0].holding[name] = {f"main-{number}": number for number in range(held)}
    come(world, "other", "t")
    come(world, "away", "s")
    del world[1].agents["away"]
    assert shares(world, slots, "s") == {"idle": 0, "half": 500}
    assert shares(world, slots, "u") is None


def test_what_is_noted_is_seen_in_every_pool_of_the_agent(world: tuple[Ledger, Live]) -> None:
    slots = FreeSlots()
    come(world, "a", "s", "t", credit=4, zone="eu")
    assert shares(world, slots, "s") == shares(world, slots, "s", zone="eu") == shares(world, slots, "t") == {"a": 0}
    assert shares(world, slots, "s", zone="us") == {}
    world[0].holding["a"] = {"main-1": 2}
    assert shares(world, slots, "s") == {"a": 0}, "nobody has said so"
    slots.moved("a")
    assert shares(world, slots, "s") == shares(world, slots, "s", zone="eu") == shares(world, slots, "t") == {"a": 250}
    come(world, "a", "t", zone="us")
    slots.moved("a")
    assert shares(world, slots, "s") is None, "nobody has the skill any more"
    assert shares(world, slots, "t") == {"a": 250}
    come(world, "b", "s")
    come(world, "a", "s", zone="us")
    slots.moved("b")
    slots.moved("a")
    assert shares(world, slots, "s") == {"a": 250, "b": 0}
    assert shares(world, slots, "s", zone="eu") == {}


def test_an_agent_that_lost_a_skill_others_have_leaves_its_pool(world: tuple[Ledger, Live]) -> None:
    slots = FreeSlots()
    come(world, "a", "s")
    come(world, "b", "s")
    assert shares(world, slots, "s") == {"a": 0, "b": 0}
    come(world, "a", "t")
    slots.moved("a")
    assert shares(world, slots, "s") == {"b": 0}


def test_nothing_is_kept_of_an_agent_that_was_forgotten_though_nobody_asks(world: tuple[Ledger, Live]) -> None:
    slots = FreeSlots()
    for name in ("a", "b"):
        come(world, name, "s")
    assert shares(world, slots, "s") == {"a": 0, "b": 0}
    slots.moved("a")
    world[0].apply(AgentForgotten(1, "a"))
    slots.forget("a", world[0])
    assert (list(slots._known), slots._moved, slots._pools["s"][repr({}).encode()].share_of) == (["b"], {}, {"b": 0})
    world[0].apply(AgentForgotten(1, "b"))
    slots.forget("b", world[0])
    slots.forget("never", world[0])
    slots.moved("never")
    assert shares(world, slots, "s") is None
    assert (slots._known, slots._pools) == ({}, {}), "nobody has the skill any more"


def test_no_pool_is_kept_for_a_skill_whose_last_agent_was_never_looked_at(town) -> None:
    worker = town.worker("w1")
    town.join("boss").delegate(acceptance="auto")
    worker.report(worker.offer())
    assert list(town.coordinator.queues.slots._pools) == ["echo"]
    town.pass_time(1)
    worker.drop()
    town.pass_time(1)
    town.worker("w2").drop()
    town.pass_time(town.policy.keep_agents_ms)
    slots = town.coordinator.queues.slots
    assert (town.ledger.agents, slots._known, slots._pools) == ({}, {}, {})


def test_clients_that_come_and_go_are_not_noted(town) -> None:
    worker = town.worker("w1")
    for number in range(3):
        town.join(f"client#{number}").drop()
    worker.drop()
    assert list(town.coordinator.queues.slots._moved) == ["w1"]


@pytest.mark.parametrize("status, quarantined", [("draining", False), ("ready", True)])
def test_who_takes_no_offers_has_no_share(world: tuple[Ledger, Live], status: str, quarantined: bool) -> None:
    come(world, "a", "s")
    agent = world[0].agents["a"]
    assert share_in_use(agent, "s", (), *world) == 0
    agent.status = status
    if quarantined:
        world[0].quarantined["a"] = "main-k1"
    assert share_in_use(agent, "s", (), *world) is None


def test_a_skill_has_so_many_pools_and_no_more(world: tuple[Ledger, Live]) -> None:
    slots = FreeSlots()
    come(world, "a", "s", zone="3")
    for number in range(3 * _POOLS_MAX):
        assert shares(world, slots, "s", zone=str(number)) == ({"a": 0} if number == 3 else {})
    assert len(slots._pools["s"]) == _POOLS_MAX
    assert shares(world, slots, "s", zone="3") == {"a": 0}, "it is made again"


def test_the_least_used_is_chosen_of_those_that_are_not_left_out() -> None:
    pool = Pool("s", ())
    for name, share in (("a", 0), ("b", 0), ("c", 500), ("d", 250)):
        pool.place((_point(name), name), share)
    assert pool.least_used("main-1") in ("a", "b")
    assert {pool.least_used("main-1", [one]) for one in ("a", "b")} == {"a", "b"}
    assert pool.least_used("main-1", ["a", "b", "nobody"]) == "d"
    assert pool.least_used("main-1", ["d", "b", "a"]) == "c"
    assert pool.least_used("main-1", ["a", "b", "c", "d"]) is None
    assert pool.least_used("main-1") in ("a", "b"), "leaving out changes nothing"


def test_a_pool_is_what_was_placed_last() -> None:
    random, pool, expected = Random(1), Pool("s", ()), {}
    names = [f"agent-{number}" for number in range(40)]
    for _ in range(3_000):
        name, share = random.choice(names), random.choice((None, 0, 250, 500))
        pool.place((_point(name), name), share)
        expected.pop(name, None)
        if share is not None:
            expected[name] = share
        assert pool.share_of == expected
        out = random.sample(names, 5)
        left = {name: share for name, share in expected.items() if name not in out}
        chosen = pool.least_used("main-7", out)
        assert (chosen is None) == (not left)
        if chosen is not None:
            tied = [name for name, share in left.items() if share == min(left.values())]
            assert chosen == choose_tied("main-7", entries(*tied))


@pytest.mark.parametrize("number", [1, 2, 8, 9, 100, 5_000])
def test_ties_are_shared_by_all(number: int) -> None:
    tied = entries(*(f"agent-{one}" for one in range(number)))
    chosen = [choose_tied(f"main-{task}", tied) for task in range(4_000)]
    each = 4_000 / number
    assert len(set(chosen)) > min(number, 4_000) * 0.4
    assert max(chosen.count(name) for name in set(chosen)) < 6 * each + 6


def test_who_goes_takes_only_its_own_tasks_with_it() -> None:
    tied = entries(*(f"agent-{one}" for one in range(200)))
    before = {task: choose_tied(f"main-{task}", tied) for task in range(2_000)}
    gone = tied.pop(77)[1]
    moved = [task for task, agent in before.items() if agent != gone and choose_tied(f"main-{task}", tied) != agent]
    assert len(moved) < 60, "a few whose neighbours are fewer now"
