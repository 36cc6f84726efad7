"""Who gets a queued task."""

from itertools import permutations

import pytest

from a2a.engine.capacity import serves
from a2a.engine.ledger import Agent
from a2a.engine.routing import Queues, _Bucket, choose_agent, satisfies
from a2a.engine.schema_hashes import SchemaHashes
from a2a.engine.slots import FreeSlots
from a2a.protocol.canonical import content_hash
from a2a.protocol.messages import (
    AgentFilter,
    AgentUpdate,
    AttemptError,
    Credit,
    TaskAnswer,
    TaskAsk,
    TaskDecline,
    TaskHandoff,
    TaskYield,
)


def holders(town, *tasks):
    return [town.task(task).holder for task in tasks]


# What an agent must be ------------------------------------------------------------------------------------------------

SKILL = {"id": "s", "tags": ["fast", "good"], "inputModes": ["text/plain"]}


@pytest.fixture
def agent(make_card):
    card = make_card(SKILL) | {"defaultInputModes": ["image/png"]}
    return Agent("a", "a-1", 1, card, {"zone": "eu"}, 1, skills={"s": card["skills"][0]})


@pytest.mark.parametrize(
    "requires, fits",
    [
        ({}, True),
        ({"agent": "a"}, True),
        ({"agent": "b"}, False),
        ({"tags": ["fast"]}, True),
        ({"tags": ["good", "fast"]}, True),
        ({"tags": ["fast", "cheap"]}, False),
        ({"tags": []}, True),
        ({"labels": {"zone": "eu"}}, True),
        ({"labels": {"zone": "us"}}, False),
        ({"labels": {"zone": "eu", "gpu": "1"}}, False),
        ({"mediaType": "text/plain"}, True),
        ({"mediaType": "image/png"}, False),
        ({"exclude": ["b"]}, True),
        ({"exclude": ["a"]}, False),
        ({"agent": "a", "tags": ["fast"], "labels": {"zone": "eu"}, "mediaType": "text/plain"}, True),
    ],
)
def test_an_agent_serves_who_asks_for_what_it_is(agent, requires, fits):
    assert serves(agent.skills["s"], agent, requires) is fits


def test_a_skill_without_input_modes_has_those_of_its_card_and_a_card_without_them_takes_text_and_json(agent):
    assert serves({"id": "t"}, agent, {"mediaType": "image/png"})
    del agent.card["defaultInputModes"]
    assert serves({"id": "t"}, agent, {"mediaType": "text/plain"})
    assert serves({"id": "t"}, agent, {"mediaType": "application/json"})
    assert not serves({"id": "t"}, agent, {"mediaType": "image/png"})


@pytest.mark.parametrize(
    "wanted, fits",
    [
        (AgentFilter(), True),
        (AgentFilter(agent="a"), True),
        (AgentFilter(agent="b"), False),
        (AgentFilter(skill="s"), True),
        (AgentFilter(skill="t"), False),
        (AgentFilter(tags=["fast"]), True),
        (AgentFilter(tags=["slow"]), False),
        (AgentFilter(labels={"zone": "eu"}), True),
        (AgentFilter(labels={"zone": "us"}), False),
        (AgentFilter(media_type="text/plain"), True),
        (AgentFilter(media_type="image/png"), False),
        (AgentFilter(skill="s", tags=["fast"], labels={"zone": "eu"}), True),
        (AgentFilter(skill="s", tags=["fast"], labels={"zone": "us"}), False),
    ],
)
def test_a_filter_finds_who_has_all_it_names(agent, wanted, fits):
    assert satisfies(agent, wanted, SchemaHashes()) is fits


def test_a_filter_on_skills_is_met_by_one_skill_and_not_by_several_together(agent):
    agent.skills["t"] = {"id": "t", "tags": ["cheap"]}
    assert satisfies(agent, AgentFilter(tags=["cheap"]), SchemaHashes())
    assert not satisfies(agent, AgentFilter(tags=["cheap", "fast"]), SchemaHashes())
    assert not satisfies(agent, AgentFilter(skill="s", tags=["cheap"]), SchemaHashes())


def test_an_agent_without_skills_is_found_by_what_is_no_matter_of_skills(agent):
    agent.skills = {}
    assert satisfies(agent, AgentFilter(), SchemaHashes())
    assert satisfies(agent, AgentFilter(labels={"zone": "eu"}), SchemaHashes())
    assert not satisfies(agent, AgentFilter(skill="s"), SchemaHashes())


def test_a_filter_names_an_input_schema_by_its_hash(agent):
    schema = {"type": "object"}
    wanted = AgentFilter(input_schema=content_hash(schema, b""))
    assert not satisfies(agent, wanted, SchemaHashes())
    agent.skills["s"]["inputSchema"] = schema
    assert satisfies(agent, wanted, SchemaHashes())
    assert not satisfies(agent, AgentFilter(input_schema=content_hash({}, b"")), SchemaHashes())


# Who is chosen --------------------------------------------------------------------------------------------------------


def test_only_agents_with_the_skill_are_asked(town, boss):
    town.worker("w1", "other")
    assert holders(town, boss.delegate()) == [None]
    town.worker("w2", "echo")
    assert holders(town, *town.ledger.tasks) == ["w2"]


def test_only_agents_that_meet_the_requirements_are_asked(town, boss):
    town.worker("w1", labels={"zone": "eu"})
    town.worker("w2", labels={"zone": "us"}, tasks=9)
    tasks = [
        boss.delegate("1", spec={"requires": {"labels": {"zone": "us"}}}),
        boss.delegate("2", spec={"requires": {"agent": "w2"}}),
        boss.delegate("3", spec={"requires": {"exclude": ["w1"]}}),
        boss.delegate("4", spec={"requires": {"labels": {"zone": "mars"}}}),
    ]
    assert holders(town, *tasks) == ["w2", "w2", "w2", None]


@pytest.mark.parametrize("credit", [0, 1, 2, 3])
def test_an_agent_never_gets_more_than_its_credit(town, boss, credit):
    worker = town.worker("w1", tasks=credit)
    for number in range(4):
        boss.delegate(str(number))
    assert len(worker.mail()) == credit
    assert len(town.ledger.holding.get("w1", {})) == credit


def test_offers_that_were_not_accepted_count_against_the_credit(town, boss):
    town.worker("w1")
    boss.delegate("1")
    other = town.worker("w2")
    town.pass_time(500)
    boss.delegate("2", spec={"requires": {"agent": "w2"}})
    assert [message.kind for message in other.mail()] == ["task.offer"]


def test_a_parked_attempt_that_is_kept_counts_against_the_credit(town, boss):
    worker = town.worker("w1")
    first = boss.delegate("1")
    offer = worker.offer()
    worker.say(TaskAsk(first, 1, b"[]", fence=offer.fence))
    second = boss.delegate("2")
    assert town.task(second).state == "queued"
    boss.say(TaskAnswer(first, 1, b"[]"))
    worker.report(offer)
    assert town.task(second).state == "leased"


def test_lower_credit_takes_no_lease_away_and_gives_no_further_one(town, boss):
    worker = town.worker("w1", tasks=2)
    first, second = boss.delegate("1"), boss.delegate("2")
    offers = worker.mail()
    worker.say(Credit(1))
    third = boss.delegate("3")
    assert holders(town, first, second, third) == ["w1", "w1", None]
    worker.report(offers[0])
    assert holders(town, third) == [None]
    worker.report(offers[1])
    assert holders(town, third) == ["w1"]


def test_more_credit_brings_what_waits(town, boss):
    worker = town.worker("w1", tasks=0)
    task = boss.delegate()
    assert town.task(task).state == "queued"
    worker.say(Credit(1))
    assert holders(town, task) == ["w1"]


def test_an_agent_that_is_away_gets_no_offers(town, boss):
    town.worker("w1", tasks=5).drop()
    assert holders(town, boss.delegate()) == [None]


def test_a_draining_agent_gets_no_offers_until_it_is_ready_again(town, boss):
    worker = town.worker("w1", tasks=5)
    worker.say(AgentUpdate(status="draining"))
    task = boss.delegate()
    assert holders(town, task) == [None]
    worker.say(AgentUpdate(status="ready"))
    assert holders(town, task) == ["w1"]


def test_the_least_loaded_agent_is_asked(town, boss):
    town.worker("small", tasks=2)
    town.worker("large", tasks=10)
    tasks = [boss.delegate(str(number)) for number in range(12)]
    given = holders(town, *tasks)
    assert (given.count("small"), given.count("large")) == (2, 10)
    assert given[:7].count("large") >= 5, "in proportion to what they take"


def test_who_lost_a_task_is_asked_last(town, boss):
    lost = town.worker("w1")
    task = boss.delegate()
    other = town.worker("w2")
    town.pass_time(500)
    assert town.task(task).offer.agent == "w2"
    other.say(TaskDecline(task, other.offer().fence, retry_after_ms=60_000))
    assert town.task(task).offer.agent == "w1"
    assert lost.mail()


def test_who_knows_a_task_does_its_rework_though_others_are_idle(town, boss):
    first = town.worker("w1", tasks=9)
    tasks = [boss.delegate(str(number)) for number in range(6)]
    for name in ("w0", "w2", "w3"):
        town.worker(name, tasks=9)
    for offer in first.mail():
        first.report(offer)
    for review in boss.mail():
        boss.confirm(review, verdict="reject", rework=True)
    assert holders(town, *tasks) == ["w1"] * 6


def test_who_asked_gets_the_answer_though_others_are_idle(town, boss):
    first = town.worker("w1", tasks=9)
    tasks = [boss.delegate(str(number)) for number in range(6)]
    for name in ("w0", "w2", "w3"):
        town.worker(name, tasks=9)
    for offer in first.mail():
        first.say(TaskAsk(offer.task, 1, b"[]", fence=offer.fence, hold="cold"))
    for task in tasks:
        boss.say(TaskAnswer(task, 1, b"[]"))
    assert holders(town, *tasks) == ["w1"] * 6


def test_a_first_attempt_knows_nobody(town, boss):
    first = town.worker("w1", tasks=9)
    task = boss.delegate("k", payload=b"[1]")
    boss.delegate("busy")
    other = town.worker("w2", tasks=9)
    first.say(TaskYield(task, first.mail()[0].fence))
    assert holders(town, task) == ["w2"]
    assert other.mail()


def test_ties_do_not_depend_on_who_came_first(make_town):
    chosen = set()
    for order in permutations(["w1", "w2", "w3"]):
        town = make_town()
        boss = town.join("boss")
        for name in order:
            town.worker(name, tasks=50)
        tasks = [boss.delegate(str(number)) for number in range(12)]
        chosen.add(tuple(holders(town, *tasks)))
    assert len(chosen) == 1
    assert set(chosen.pop()) == {"w1", "w2", "w3"}, "and they do not all go to one agent"


def test_a_choice_may_be_made_again_with_the_same_outcome(town, boss):
    for name in ("w1", "w2", "w3"):
        town.worker(name, "other")
    task = town.task(boss.delegate("k", "other", spec={"requires": {"labels": {"no": "body"}}}))
    live, ledger = town.coordinator.live, town.ledger
    bucket = _Bucket.of(b"", ())
    choices = {choose_agent(task, bucket, town.coordinator.queues.slots, ledger, live, town.now) for _ in range(3)}
    assert len(choices) == 1
    backwards = dict(reversed(ledger.by_skill["other"].items()))
    ledger.by_skill["other"], forwards = backwards, ledger.by_skill["other"]
    choices.add(choose_agent(task, bucket, FreeSlots(), ledger, live, town.now))
    ledger.by_skill["other"] = forwards
    assert len(choices) == 1


def test_a_slot_that_is_taken_back_is_free_no_more(town, boss):
    worker = town.worker("w1", tasks=1)
    boss.delegate("1")
    offer = worker.offer()
    worker.beat(offer, slot="released")
    worker.beat(offer, slot="held")
    assert holders(town, boss.delegate("2")) == [None]


# What a pass looks at -------------------------------------------------------------------------------------------------


def test_tasks_for_one_agent_are_looked_at_when_it_may_take_more(town, boss, monkeypatch):
    workers = [town.worker(f"w{number}", tasks=1) for number in range(4)]
    for number in range(8):
        boss.delegate(str(number), spec={"requires": {"agent": f"w{number % 4}"}})
    looked_at = []
    head = Queues._head

    def noted(self, place, *rest):
        looked_at.append(place)
        return head(self, place, *rest)

    monkeypatch.setattr(Queues, "_head", noted)
    first = workers[2].offer()
    workers[2].report(first)
    assert workers[2].offer().task != first.task
    assert len(set(looked_at)) == 1, "tasks for others do not wait for this one"


@pytest.fixture
def looks(monkeypatch):
    """What was looked at in the queues, in order."""
    looked_at = []
    head = Queues._head

    def noted(self, place, *rest):
        looked_at.append(place)
        return head(self, place, *rest)

    monkeypatch.setattr(Queues, "_head", noted)
    return looked_at


def test_tasks_that_an_agent_could_not_do_are_not_looked_at_when_it_may_take_more(town, boss, looks):
    worker = town.worker("w1", tasks=0)
    for number in range(20):
        boss.delegate(str(number), spec={"requires": {"labels": {"zone": str(number)}}})
    for number in range(5):
        boss.delegate(f"other {number}", spec={"requires": {"tags": ["none"], "exclude": [f"a{number}"]}})
    looks.clear()
    worker.say(Credit(1))
    assert looks == [], "nobody that asks for what no agent is costs one anything"


def test_a_pass_looks_at_each_kind_of_task_a_few_times_however_many_there_are(town, boss, looks):
    worker = town.worker("w1", tasks=0)
    for number in range(50):
        boss.delegate(str(number), spec={"requires": {"exclude": [f"a{number}"]}})
    looks.clear()
    worker.say(Credit(1))
    assert len(worker.mail()) == 1
    assert 50 <= len(looks) <= 150


def test_a_task_that_ends_in_the_queue_leaves_nothing_behind(town, boss):
    plain, named = boss.delegate("1"), boss.delegate("2", spec={"requires": {"agent": "w1"}})
    queues = town.coordinator.queues
    assert queues.has(plain) and queues.has(named) and list(queues._skills) == ["echo"]
    boss.cancel(plain)
    boss.cancel(named)
    assert not queues._waiting and not queues._skills


# In which order -------------------------------------------------------------------------------------------------------


def test_the_oldest_task_goes_first_inside_a_priority(town, boss):
    ids = [
        boss.delegate("1"),
        boss.delegate("2", spec={"priority": 5}),
        boss.delegate("3", spec={"priority": 5, "requires": {"labels": {}}}),
        boss.delegate("4", spec={"priority": 9}),
        boss.delegate("5"),
    ]
    worker = town.worker("w1", tasks=9)
    assert [offer.task for offer in worker.mail()] == [ids[3], ids[1], ids[2], ids[0], ids[4]]


def test_a_task_nobody_can_do_holds_up_no_other(town, boss):
    boss.delegate("1", spec={"priority": 9, "requires": {"agent": "nobody"}})
    easy = boss.delegate("2")
    town.worker("w1")
    assert holders(town, easy) == ["w1"]


def test_a_task_an_agent_does_not_want_now_holds_up_no_other(town, boss):
    worker = town.worker("w1")
    first = boss.delegate("1")
    second = boss.delegate("2")
    worker.say(TaskDecline(first, worker.offer().fence, retry_after_ms=60_000))
    assert holders(town, first, second) == [None, "w1"]
    worker.report(worker.offer())
    town.pass_time(60_000)
    assert worker.offer().task == first, "it kept its place"


def test_tasks_that_step_aside_keep_their_order(town, boss):
    worker = town.worker("w1", tasks=3)
    ids = [boss.delegate(str(number)) for number in range(3)]
    for offer in worker.mail():
        worker.say(TaskDecline(offer.task, offer.fence, retry_after_ms=1_000))
    worker.say(Credit(1))
    for task in ids:
        town.pass_time(1_000)
        offer = worker.offer()
        assert offer.task == task
        worker.report(offer)


def test_a_task_that_waits_after_a_failure_holds_up_no_other(make_town):
    town = make_town(backoff_ms=60_000)
    boss, worker = town.join("boss"), town.worker("w1")
    first = boss.delegate("1")
    second = boss.delegate("2", acceptance="auto")
    worker.report(worker.offer(), "failed", error=AttemptError(retryable=True))
    assert holders(town, first, second) == [None, "w1"]
    worker.report(worker.offer())
    town.pass_time(60_000)
    assert worker.offer().task == first


def test_a_task_that_ended_in_the_queue_is_offered_to_nobody(town, boss):
    first, second = boss.delegate("1"), boss.delegate("2")
    boss.cancel(first)
    worker = town.worker("w1", tasks=5)
    assert [offer.task for offer in worker.mail()] == [second]


def test_a_task_whose_late_report_failed_waits_as_any_other(make_town):
    town = make_town(backoff_ms=60_000)
    boss, worker = town.join("boss"), town.worker("w1")
    task = town.task(boss.delegate())
    offer = worker.offer()
    worker.say(Credit(0))
    town.pass_time(500)
    assert worker.report(offer, "failed", error=AttemptError(retryable=True)) == "admitted"
    worker.say(Credit(1))
    assert worker.mail() == []
    town.pass_time(task.retry_at - town.now)
    assert worker.offer().task == task.id


def test_a_task_that_left_the_queue_and_came_back_is_offered_once(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.say(Credit(0))
    for _ in range(2):
        town.pass_time(3_000)
        worker.beat(offer)
    worker.say(TaskYield(task, offer.fence))
    assert town.task(task).attempt == 1
    worker.say(Credit(5))
    assert len(worker.mail()) == 1


def test_an_agent_is_found_by_the_skills_of_its_newest_card(town, boss, make_card):
    worker = town.worker("w1", "old", tasks=5)
    worker.say(AgentUpdate(card=make_card("new")))
    first, second = boss.delegate("1", "old"), boss.delegate("2", "new")
    assert holders(town, first, second) == [None, "w1"]
    worker.say(AgentUpdate(card=make_card("new", "old")))
    assert holders(town, first) == ["w1"]


def test_a_task_that_was_handed_on_waits_for_its_own_kind_of_agent_and_holds_up_nobody(town):
    boss, worker = town.join("boss"), town.worker("w1")
    handed = boss.delegate("1")
    offer = worker.offer()
    town.worker("w2", tasks=0)
    worker.say(TaskHandoff(handed, offer.fence, "w2"))
    other = boss.delegate("2")
    assert (town.task(other).holder, str(town.task(handed).state)) == ("w1", "queued")
    second = worker.offer()
    for _ in range(3):
        worker.beat(second)
        town.pass_time(1_000)
    assert (town.task(handed).handed_to, str(town.task(handed).state)) == ({}, "queued")
    worker.report(second)
    assert town.task(handed).holder == "w1"


@pytest.mark.parametrize("wanted", [({"labels": {"zone": "a"}}, {"labels": {"gpu": "yes"}}), ({}, {"exclude": ["x"]})])
def test_everything_that_is_wanted_has_to_hold(town, wanted):
    town.worker("w1", labels={"zone": "a", "gpu": "yes"})
    town.worker("w2", labels={"gpu": "no"})
    ledger = town.ledger
    agents = [ledger.agents[name] for name in ("w1", "w2")]
    assert serves(agents[0].skills["echo"], agents[0], *wanted)
    assert serves(agents[1].skills["echo"], agents[1], *wanted) is (wanted[0] == {})
    assert not serves(agents[0].skills["echo"], agents[0], *wanted, {"agent": "w2"})
    assert serves(agents[0].skills["echo"], agents[0])
