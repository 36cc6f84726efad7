"""Who could do a queued task, and what keeps all of them busy."""

import pytest

from a2a.engine.capacity import Busy, all_busy, serves, traits_of, traits_wanted
from a2a.engine.ledger import Agent
from a2a.protocol.messages import AgentUpdate, Credit, TaskAsk, TaskHandoff


@pytest.fixture
def busy(town):
    """A boss, the only agent that can `echo` with the attempt it is busy with, and a second task, which is queued."""
    boss, w = town.join("boss"), town.worker("w")
    boss.delegate("first")
    offer = w.offer()
    w.beat(offer)
    queued = boss.delegate("second", spec={"requires": {"exclude": ["y"]}})
    return boss, w, offer, town.task(queued)


@pytest.mark.parametrize(
    "requires",
    [
        {"labels": {"zone": "eu", "gpu": "1"}},
        {"tags": ["fast", "good"]},
        {"mediaType": "text/plain"},
        {"labels": {"zone": "eu"}, "tags": ["good"], "mediaType": "image/png", "exclude": ["b"]},
        {"exclude": ["b"]},
    ],
)
def test_who_serves_has_every_trait_that_is_wanted(make_card, requires):
    skills = {"id": "s", "tags": ["fast", "good", "old"], "inputModes": ["text/plain", "image/png"]}
    card = make_card(skills)
    agent = Agent("a", "a-1", 1, card, {"zone": "eu", "gpu": "1"}, 1)
    assert serves(card["skills"][0], agent, requires)
    assert set(traits_wanted(requires)) <= set(traits_of(card["skills"][0], agent))
    other = Agent("a", "a-1", 1, make_card({"id": "s", "inputModes": ["audio/ogg"]}), {"zone": "us"}, 1)
    assert not set(traits_wanted(requires)) & set(traits_of(other.card["skills"][0], other))


def test_where_a_card_names_no_media_types_its_traits_are_those_it_has_without(make_card):
    card = make_card("s")
    traits = traits_of(card["skills"][0], Agent("a", "a-1", 1, card, {}, 1))
    assert traits == [("mediaType", "application/json", ""), ("mediaType", "text/plain", "")]


@pytest.fixture
def look(town):
    return lambda task: all_busy(town.ledger, town.coordinator.live, task)


def test_who_is_busy_is_told_with_its_slots_and_its_attempts(town, busy, look):
    boss, w, offer, task = busy
    assert look(task) == [Busy(1, [(offer.fence, offer.task)])]
    w.say(Credit(2))
    younger = w.offer()
    assert younger.task == task.id
    w.beat(younger)
    third = town.task(boss.delegate("third"))
    assert look(third) == [Busy(2, [(offer.fence, offer.task), (younger.fence, younger.task)])]
    w.say(TaskAsk(offer.task, 1, b"[1]", offer.fence))
    assert len(look(third)[0].attempts) == 2, "a parked attempt fills its slot"


def test_an_agent_that_would_not_do_is_not_counted(town, busy, look):
    boss, w, offer, task = busy
    town.worker("y", tasks=0)
    town.worker("z", "something-else", tasks=0)
    assert len(look(task)) == 1


def test_what_is_not_queued_waits_for_no_agent(town, busy, look):
    boss, w, offer, task = busy
    assert look(town.task(offer.task)) == []
    w.report(offer)
    assert (town.task(offer.task).state, town.task(task.id).holder) == ("reported", "w")
    assert look(town.task(offer.task)) == []


def test_where_nobody_can_do_it_nobody_is_busy(town, busy, look):
    boss, w, offer, task = busy
    elsewhere = town.task(boss.delegate("third", spec={"requires": {"labels": {"zone": "us"}}}))
    assert look(elsewhere) == []
    assert look(town.task(boss.delegate("fourth", "something-else"))) == []


@pytest.mark.parametrize("how", ["away", "draining", "quarantined", "no credit", "released", "evicted", "canceled"])
def test_an_agent_that_may_take_it_one_day_is_not_busy(town, busy, look, how):
    boss, w, offer, task = busy
    if how == "away":
        w.drop()
    elif how == "draining":
        w.say(AgentUpdate(status="draining"))
    elif how == "quarantined":
        town.ledger.quarantined["w"] = "main-k7"
        assert look(task) == []
        del town.ledger.quarantined["w"]
        assert look(task) != []
        return
    elif how == "no credit":
        w.say(Credit(0))
    elif how == "released":
        w.beat(offer, slot="released")
        assert w.offer().task == task.id
        task = town.task(boss.delegate("third"))
        assert [len(one.attempts) for one in look(task)] == [1], "its slot is filled by another one"
        return
    elif how == "evicted":
        w.say(AgentUpdate(status="draining", grace_ms=60_000))
        w.say(AgentUpdate(status="ready"))
    else:
        boss.cancel(offer.task)
    assert look(task) == []


def test_a_wish_of_a_hand_off_is_not_counted(town, busy, look):
    boss, w, offer, task = busy
    town.worker("x", tasks=0)
    w.say(TaskHandoff(offer.task, offer.fence, "x"))
    handed = town.task(offer.task)
    assert handed.handed_to
    w.beat(w.offer())
    assert look(handed) == [], "x may take tasks one day"


def test_whoever_serves_fits_all_that_is_wanted(town):
    town.worker("w", {"id": "echo", "tags": ["fast"]})
    agent = town.ledger.agents["w"]
    assert serves(agent.skills["echo"], agent, {"tags": ["fast"]}, {"agent": "w"})
    assert not serves(agent.skills["echo"], agent, {"tags": ["fast"]}, {"exclude": ["w"]})
