"""Who waits for whom: circles are found when they close, and one wait in each is given up."""

from dataclasses import replace

import pytest

from a2a.engine import names
from a2a.engine import waits as waits_module
from a2a.engine.names import Looks
from a2a.engine.records import ClaimEnded, ClaimRequested, Settled
from a2a.engine.waits import _Graph, has_to_wait, in_the_way, wait_of
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentUpdate,
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimQueued,
    ClaimRelease,
    Credit,
    Error,
    Held,
    HeldStill,
    TaskAsk,
    TaskHandoff,
    TaskSettled,
)

from .conftest import card


def wants(*names, no=1, offer=None, **fields):
    if offer is not None:
        fields |= {"task": offer.task, "fence": offer.fence}
    return ClaimAcquire(no, [{"name": name, "mode": fields.pop("mode", "x")} for name in names], **fields)


def waits(*names, no=2, offer=None, **fields):
    return wants(*names, no=no, offer=offer, wait_ms=60_000, **fields)


def holds(answer):
    assert isinstance(answer, ClaimGranted), answer
    return answer.claim_fence


def queued(answer):
    assert isinstance(answer, ClaimQueued), answer


def deadlock(answer):
    assert isinstance(answer, Error), answer
    assert answer.code == ErrorCode.DEADLOCK, answer
    return answer.data["cycle"]


@pytest.fixture
def start(town, boss):
    """Begin an attempt at a new task, with an agent of its own."""

    def begin(name, **fields):
        peer = town.worker(name, f"do-{name}")
        boss.delegate(name, f"do-{name}", **fields)
        offer = peer.offer()
        peer.beat(offer)
        return peer, offer

    return begin


def test_two_that_wait_for_each_other_are_a_circle_and_the_younger_wait_is_refused(town, start):
    (one, offer1), (two, offer2) = start("one"), start("two")
    holds(one.say(wants("a", offer=offer1)))
    fence = holds(two.say(wants("b", offer=offer2)))
    queued(one.say(waits("b", offer=offer1)))
    answer = two.say(waits("a", offer=offer2))
    assert deadlock(answer) == [
        {"task": offer2.task, "waitsForTask": offer1.task, "for": "claim", "name": "a", "wants": ["a"]},
        {"task": offer1.task, "waitsForTask": offer2.task, "for": "claim", "name": "b", "wants": ["b"]},
    ]
    assert answer.detail == (
        f"task {offer2.task} waits for a of task {offer1.task}; task {offer1.task} waits for b of task {offer2.task}"
    )
    assert [type(record) for _, record in town.records[-2:]] == [ClaimRequested, ClaimEnded]
    assert town.said(ClaimEnded)[-1].data == answer.data
    assert deadlock(two.say(waits("a", offer=offer2))) == answer.data["cycle"], "a repeat is answered the same"
    assert one.mail() == [], "and the other goes on waiting"
    two.say(ClaimRelease(fence))
    holds(one.mail()[-1])


def test_the_wait_of_the_lowest_priority_is_given_up_even_if_it_was_there_first(start):
    (one, offer1), (two, offer2) = start("one"), start("two")
    holds(one.say(wants("a", offer=offer1)))
    holds(two.say(wants("b", offer=offer2)))
    queued(one.say(waits("b", offer=offer1)))
    queued(two.say(waits("a", offer=offer2, priority=1)))
    (notice,) = one.mail()
    assert isinstance(notice, ClaimDenied)
    assert (notice.reason, notice.claim_no, len(notice.cycle)) == ("deadlock", 2, 2)
    one.report(offer1)
    holds(two.mail()[-1])


def test_a_circle_may_be_long_and_leads_through_waits_for_waits(town, start):
    people = [start(f"p{number}") for number in range(6)]
    for number, (peer, offer) in enumerate(people):
        holds(peer.say(wants(f"n{number}", offer=offer)))
    for number, (peer, offer) in enumerate(people[:-1]):
        queued(peer.say(waits(f"n{number + 1}", offer=offer)))
    peer, offer = people[-1]
    assert len(deadlock(peer.say(waits("n0", offer=offer)))) == 6


def test_whoever_comes_before_in_line_is_waited_for_too(start):
    """One waits behind Two for `a`, and Two waits for what One holds."""
    (one, offer1), (two, offer2), (three, offer3) = start("one"), start("two"), start("three")
    holds(three.say(wants("a", offer=offer3)))
    holds(one.say(wants("b", offer=offer1)))
    queued(two.say(waits("a", "b", offer=offer2)))
    cycle = deadlock(one.say(waits("a", offer=offer1)))
    assert [step.get("waitsForTask") for step in cycle] == [offer2.task, offer1.task]


def test_an_attempt_that_comes_back_with_a_claim_does_not_wait_as_its_task_did(town, start, boss):
    """Its task stood in line behind High, and High is now behind its claim."""
    needs = {"resources": [{"name": "a"}]}
    (one, offer), me = start("one", spec=needs), town.join("me")
    one.say(ClaimRelease(offer.fence))
    holds(me.say(wants("a")))
    town.worker("heir", "do-one", "do-high")
    high = boss.delegate("high", "do-high", spec=needs | {"priority": 1})
    town.pass_time(3_100)
    assert list(town.coordinator.live.line.tasks) == [high, offer.task]
    queued(one.say(waits("a", offer=offer, priority=5)))
    assert (town.task(offer.task).holder, list(town.coordinator.live.line.tasks)) == ("one", [high])


def test_a_newcomer_that_passes_others_may_close_a_circle(start):
    """High comes before Low in line by its priority, and Low holds what High waits for elsewhere."""
    (high, offer1), (low, offer2), (third, offer3) = start("high"), start("low"), start("third")
    holds(low.say(wants("x", offer=offer2)))
    holds(third.say(wants("y", offer=offer3)))
    queued(low.say(waits("y", offer=offer2)))
    queued(high.say(waits("x", no=1, offer=offer1)))
    queued(high.say(waits("y", no=2, offer=offer1, priority=5)))
    assert [message.reason for message in high.mail()] == ["deadlock"], "the youngest of the lowest priority"
    assert low.mail() == []


def test_a_grant_at_once_may_close_a_circle(start):
    (one, offer1), (two, offer2), (three, offer3) = start("one"), start("two"), start("three")
    holds(two.say(wants("x", offer=offer2)))
    holds(three.say(wants("a", offer=offer3, mode="s")))
    queued(two.say(waits("a", offer=offer2)))
    queued(one.say(waits("x", offer=offer1)))
    holds(one.say(wants("a", no=3, offer=offer1, mode="s", priority=5)))
    assert [message.reason for message in one.mail()] == ["deadlock"]


def test_many_circles_at_once_are_all_broken(town, start):
    """Each of three others waits for what One holds, and One asks for what all of them hold."""
    one, offer1 = start("one")
    others = [start(f"o{number}") for number in range(3)]
    holds(one.say(wants("a/**", offer=offer1)))
    for number, (peer, offer) in enumerate(others):
        holds(peer.say(wants(f"b/{number}", offer=offer)))
        queued(peer.say(waits(f"a/{number}", offer=offer)))
    queued(one.say(waits("b/**", offer=offer1, priority=1)))
    assert [[notice.reason for notice in peer.mail()] for peer, _ in others] == [["deadlock"]] * 3
    for peer, offer in others:
        peer.report(offer)
    holds(one.mail()[-1])


def test_no_circle_is_seen_where_none_is(town, start):
    (one, offer1), (two, offer2), (three, offer3) = start("one"), start("two"), start("three")
    holds(one.say(wants("a", offer=offer1)))
    holds(two.say(wants("b", offer=offer2)))
    queued(two.say(waits("a", offer=offer2)))
    queued(three.say(waits("a", "b", offer=offer3)))
    assert town.said(ClaimEnded) == []


def test_a_claim_that_gives_way_is_not_waited_for(town, start):
    (one, offer1), (two, offer2) = start("one"), start("two")
    holds(one.say(wants("a", offer=offer1, preemptible=True)))
    holds(two.say(wants("b", offer=offer2)))
    queued(two.say(waits("a", offer=offer2, priority=1)))
    one.mail()
    queued(one.say(waits("b", offer=offer1)))
    assert town.said(ClaimEnded) == []


def test_agents_without_tasks_close_circles_with_each_other_and_not_with_themselves(town):
    me, you = town.join("me"), town.join("you")
    holds(me.say(wants("a")))
    queued(me.say(waits("a")))
    holds(you.say(wants("b")))
    queued(you.say(waits("a")))
    assert deadlock(me.say(waits("b", no=3))) == [
        {"agent": "me", "waitsForAgent": "you", "for": "claim", "name": "b", "wants": ["b"]},
        {"agent": "you", "waitsForAgent": "me", "for": "claim", "name": "a", "wants": ["a"]},
    ]


# Parents and sub-tasks ------------------------------------------------------------------------------------------------


@pytest.fixture
def family(town, start):
    """A parent with an attempt under way that holds `a`, and how to begin sub-tasks of it."""
    parent, offer = start("parent")
    holds(parent.say(wants("a", offer=offer)))

    def child(name, **fields):
        peer = town.worker(name, f"do-{name}")
        parent.delegate(name, f"do-{name}", parent=Held(offer.task, offer.fence), **fields)
        return peer

    return parent, offer, child


def test_a_sub_task_that_wants_what_its_waiting_parent_holds_is_a_circle(family):
    parent, offer, child = family
    peer = child("kid")
    theirs = peer.offer()
    parent.beat(offer, slot="released")
    assert deadlock(peer.say(waits("a", offer=theirs))) == [
        {"task": theirs.task, "waitsForTask": offer.task, "for": "claim", "name": "a", "wants": ["a"]},
        {"task": offer.task, "waitsForTask": theirs.task, "for": "sub-task"},
    ]


def test_a_parent_that_begins_to_wait_closes_the_circle(family):
    parent, offer, child = family
    peer = child("kid")
    theirs = peer.offer()
    queued(peer.say(waits("a", offer=theirs)))
    parent.beat(offer, slot="held")
    assert peer.mail() == []
    parent.beat(offer, slot="released")
    (notice,) = peer.mail()
    assert (notice.reason, [step["for"] for step in notice.cycle]) == ("deadlock", ["sub-task", "claim"])


@pytest.mark.parametrize("how", ["at work", "parked", "detached", "ended"])
def test_a_parent_that_does_not_only_wait_is_no_circle(family, how):
    parent, offer, child = family
    peer = child("kid", on_parent_end="detach" if how == "detached" else "cancel")
    theirs = peer.offer()
    if how == "parked":
        parent.say(TaskAsk(offer.task, 1, b'["sure?"]', offer.fence))
    if how in ("detached", "ended"):
        parent.beat(offer, slot="released")
    if how == "ended":
        parent.report(offer)
        holds(peer.say(waits("a", offer=theirs)))
    else:
        queued(peer.say(waits("a", offer=theirs)))


def test_a_queued_sub_task_that_needs_what_its_waiting_parent_holds_fails(town, family):
    parent, offer, child = family
    parent.beat(offer, slot="released")
    peer = child("kid", spec={"resources": [{"name": "a/**"}]})
    assert peer.mail() == []
    settled = town.said(Settled)[-1]
    assert (settled.state, settled.reason) == ("failed", "deadlock")
    assert settled.detail.endswith(f"task {offer.task} waits for its sub-task task {settled.task}")
    notice = parent.mail()[-1]
    assert isinstance(notice, TaskSettled)
    assert (notice.state, notice.reason) == ("failed", "deadlock")
    assert town.coordinator.live.line.tasks == {}


def test_a_circle_may_lead_through_a_group_whose_members_all_wait(town, family):
    parent, offer, child = family
    parent.beat(offer, slot="released")
    peer = child("kid", spec={"redundancy": {"n": 2}})
    other = town.worker("kid2", "do-kid")
    first, second = peer.offer(), other.offer()
    group = town.task(first.task).parent
    queued(peer.say(waits("a", offer=first)))
    assert deadlock(other.say(waits("a", offer=second))) == [
        {"task": second.task, "waitsForTask": offer.task, "for": "claim", "name": "a", "wants": ["a"]},
        {"task": offer.task, "waitsForTask": group, "for": "sub-task"},
        {"task": group, "waitsForTask": second.task, "for": "sub-task"},
    ]
    assert peer.mail() == [], "the other can go on now, and the group with it"
    other.report(second)
    (notice,) = (mail for mail in peer.mail() if mail.kind == "claim.denied")
    assert notice.reason == "deadlock"


def test_a_member_that_asks_waits_for_the_attempt_above_its_group(town, family):
    parent, offer, child = family
    peer = child("kid", spec={"redundancy": {"n": 2}})
    theirs = peer.offer()
    holds(peer.say(wants("b", offer=theirs)))
    peer.say(TaskAsk(theirs.task, 1, b"[]", theirs.fence))
    assert [step["for"] for step in deadlock(parent.say(waits("b", offer=offer)))] == ["claim", "ask"]


def test_a_claim_of_the_attempt_above_comes_before_a_member_asks(town, family):
    parent, offer, child = family
    peer = child("kid", spec={"redundancy": {"n": 2}})
    theirs = peer.offer()
    holds(peer.say(wants("b", offer=theirs)))
    queued(parent.say(waits("b", offer=offer)))
    peer.say(TaskAsk(theirs.task, 1, b"[]", theirs.fence))
    assert [mail.reason for mail in parent.mail() if mail.kind == "claim.denied"] == ["deadlock"]


def test_a_queued_sub_task_may_wait_for_its_parent_to_begin_to_wait(town, family):
    parent, offer, child = family
    child("kid", spec={"resources": [{"name": "a"}]})
    assert town.said(Settled) == []
    parent.beat(offer, slot="released")
    assert town.said(Settled)[-1].reason == "deadlock"


# Agents that are busy -------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(town, start, family):
    """A parent that holds `a` and is to wait for a sub-task, the one agent for that, and how to fill its slot."""
    parent, offer, _ = family
    boss = next(peer for peer in town.peers.values() if peer.name == "boss")
    x = town.worker("x", "do-x")

    def fill(peer=x):
        boss.delegate(f"fill-{len(town.records)}", "do-x", spec={"requires": {"agent": peer.name}})
        theirs = peer.offer()
        peer.beat(theirs)
        return theirs

    def queue(**fields):
        return parent.delegate(f"part-{len(town.records)}", "do-x", parent=Held(offer.task, offer.fence), **fields)

    return parent, offer, x, fill, queue


def test_an_attempt_that_keeps_the_only_agent_busy_closes_a_circle_when_it_claims(town, busy):
    parent, offer, x, fill, queue = busy
    theirs = fill()
    child = queue()
    parent.beat(offer, slot="released")
    answer = x.say(waits("a", offer=theirs))
    assert deadlock(answer) == [
        {"task": theirs.task, "waitsForTask": offer.task, "for": "claim", "name": "a", "wants": ["a"]},
        {"task": offer.task, "waitsForTask": child, "for": "sub-task"},
        {"task": child, "waitsForTask": theirs.task, "for": "capacity"},
    ]
    assert answer.detail.endswith(f"task {child} waits for an agent, and one is busy with task {theirs.task}")
    x.report(theirs)
    assert x.offer().task == child


def test_a_sub_task_that_is_queued_closes_a_circle(town, busy):
    parent, offer, x, fill, queue = busy
    theirs = fill()
    queued(x.say(waits("a", offer=theirs)))
    parent.beat(offer, slot="released")
    assert town.said(ClaimEnded) == []
    child = queue()
    (notice,) = x.mail()
    assert [step["for"] for step in notice.cycle] == ["capacity", "claim", "sub-task"]
    assert town.task(child).state == "queued"


def test_a_parent_that_begins_to_wait_for_who_is_queued_closes_a_circle(town, busy):
    parent, offer, x, fill, queue = busy
    theirs = fill()
    queued(x.say(waits("a", offer=theirs)))
    queue()
    assert town.said(ClaimEnded) == []
    parent.beat(offer, slot="released")
    assert [notice.reason for notice in x.mail()] == ["deadlock"]


def test_one_of_several_agents_is_enough(town, busy):
    parent, offer, x, fill, queue = busy
    theirs = fill()
    y = town.worker("y", "do-x")
    others = fill(y)
    queue()
    parent.beat(offer, slot="released")
    queued(x.say(waits("a", offer=theirs)))
    assert town.said(ClaimEnded) == []
    cycle = deadlock(y.say(waits("a", offer=others)))
    assert [step["waitsForTask"] for step in cycle if step["for"] == "capacity"] == [others.task]


def test_of_several_that_keep_agents_busy_the_oldest_attempt_is_named(town, busy):
    parent, offer, x, fill, queue = busy
    y = town.worker("y", "do-x")
    older, younger = fill(y), fill()
    queued(x.say(waits("a", offer=younger)))
    queued(y.say(waits("a", offer=older)))
    queue()
    parent.beat(offer, slot="released")
    cycle = town.said(ClaimEnded)[-1].data["cycle"]
    assert [step["waitsForTask"] for step in cycle if step["for"] == "capacity"] == [older.task]


def test_an_agent_with_two_slots_is_busy_with_two(town, busy):
    parent, offer, x, fill, queue = busy
    first = fill()
    x.say(Credit(2))
    second = fill()
    queue()
    parent.beat(offer, slot="released")
    queued(x.say(waits("a", offer=first)))
    deadlock(x.say(waits("a", offer=second)))


def test_an_agent_that_takes_fewer_tasks_closes_a_circle(town, busy):
    parent, offer, x, fill, queue = busy
    x.say(Credit(2))
    first, second = fill(), fill()
    queue()
    parent.beat(offer, slot="released")
    queued(x.say(waits("a", offer=first)))
    assert second.fence and town.said(ClaimEnded) == []
    x.say(Credit(1))
    assert [notice.reason for notice in x.mail()] == ["deadlock"]


def test_an_attempt_that_takes_its_slot_back_closes_a_circle(town, busy):
    parent, offer, x, fill, queue = busy
    theirs = fill()
    x.beat(theirs, slot="released")
    second = fill()
    queued(x.say(waits("a", offer=theirs)))
    queue()
    parent.beat(offer, slot="released")
    assert second.fence and town.said(ClaimEnded) == []
    x.beat(theirs, slot="held")
    assert [notice.reason for notice in x.mail()] == ["deadlock"]


@pytest.fixture
def free(town, busy):
    """As `busy`, and there is another agent that may do it; tells whether X may wait for what the parent holds."""
    parent, offer, x, fill, queue = busy
    theirs = fill()
    y = town.worker("y", "do-x")
    others = fill(y)
    queue()
    parent.beat(offer, slot="released")
    queued(y.say(waits("a", offer=others)))

    def is_free():
        queued(x.say(waits("a", offer=theirs)))
        assert town.said(ClaimEnded) == []

    return y, is_free


def test_an_agent_that_is_away_may_come_back_for_a_task(town, free):
    y, is_free = free
    y.drop()
    is_free()
    town.worker("y", "do-x")
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"], "it is back, and as busy as before"


def test_an_agent_that_drains_may_take_tasks_again(town, free):
    y, is_free = free
    y.say(AgentUpdate(status="draining"))
    is_free()
    y.say(AgentUpdate(status="ready"))
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"]


def test_an_agent_that_takes_nothing_may_take_tasks_again(town, free):
    y, is_free = free
    y.say(Credit(0))
    is_free()
    y.say(Credit(1))
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"]


def test_an_attempt_that_the_coordinator_wants_back_keeps_nobody_busy(free):
    y, is_free = free
    y.say(AgentUpdate(status="draining", grace_ms=60_000))
    y.say(AgentUpdate(status="ready"))
    is_free()


def test_an_agent_whose_skill_is_gone_is_counted_no_more(town, free):
    y, is_free = free
    y.say(AgentUpdate(status="draining"))
    is_free()
    y.say(AgentUpdate(card=card("something-else")))
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"]


def test_circles_of_others_are_looked_for_where_an_agent_cannot_do_it_any_more(town, busy):
    """What the agent itself does goes on: the circle leads through others."""
    parent, offer, x, fill, queue = busy
    theirs = fill()
    y = town.worker("y", "do-x")
    fill(y)
    queue()
    parent.beat(offer, slot="released")
    queued(x.say(waits("a", offer=theirs)))
    assert town.said(ClaimEnded) == []
    y.say(AgentUpdate(card=card("something-else")))
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"]


def test_what_begins_to_wait_at_once_is_looked_at_the_oldest_first(town, start, busy, monkeypatch):
    parent, offer, x, fill, queue = busy
    other, younger = start("other")
    queued(x.say(waits("a", offer=fill())))
    other.beat(younger, slot="released")
    parent.beat(offer, slot="released")
    looked = []
    monkeypatch.setattr("a2a.engine.coordinator.circles_broken", lambda *given: looked.append(given[2]) or [])
    town.worker("y", "anything")
    assert looked == [f"task:{offer.task}", f"task:{younger.task}"]


def test_a_task_that_leaves_the_line_waits_for_an_agent(town, busy):
    """While it stands in line it waits for names, and an agent was free when it took its place."""
    parent, offer, x, fill, queue = busy
    third = town.join("third")
    fence = holds(third.say(wants("r")))
    child = queue(spec={"resources": [{"name": "r"}]})
    assert list(town.coordinator.live.line.tasks) == [child]
    theirs = fill()
    parent.beat(offer, slot="released")
    queued(x.say(waits("a", offer=theirs)))
    assert town.said(ClaimEnded) == []
    third.say(ClaimRelease(fence))
    assert town.coordinator.live.line.tasks == {}
    assert [record.reason for record in town.said(ClaimEnded)] == ["released", "deadlock"]


def test_a_task_that_no_agent_here_can_do_waits_for_nobody(town, busy):
    parent, offer, x, fill, queue = busy
    theirs = fill()
    queue(spec={"requires": {"agent": "z"}})
    parent.beat(offer, slot="released")
    queued(x.say(waits("a", offer=theirs)))
    assert town.said(ClaimEnded) == []


def test_what_a_hand_off_asks_for_is_asked_for_a_while_only(town, busy):
    """X is busy with what waits for ever; Y is free, and gets the task when the wish for X is over."""
    parent, offer, x, fill, queue = busy
    y = town.worker("y", "do-x")
    theirs = fill()
    queue()
    child = y.offer()
    y.beat(child)
    parent.beat(offer, slot="released")
    y.say(TaskHandoff(child.task, child.fence, "x"))
    assert town.task(child.task).state == "queued"
    queued(x.say(waits("a", offer=theirs)))
    assert town.said(ClaimEnded) == []


def test_a_task_whose_lapsed_lease_may_revive_waits_for_nobody(town, busy):
    """Its holder comes back for it beyond its credit."""
    parent, offer, x, fill, queue = busy
    child = queue()
    lost = x.offer()
    x.beat(lost)
    parent.beat(offer, slot="released")
    x.say(Credit(0))
    for _ in range(4):
        town.pass_time(1_000)
        parent.beat(offer, slot="released")
    assert town.task(child).state == "queued"
    other = town.worker("boss-2")
    other.delegate("fill", "do-x", spec={"priority": 1})
    x.say(Credit(1))
    theirs = x.offer()
    queued(x.say(waits("a", offer=theirs)))
    x.beat(lost)
    assert (town.task(child).state, town.task(child).holder) == ("leased", "x")
    assert town.said(ClaimEnded) == []


# Questions ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asker(town, family):
    """A parent that works beside its sub-task, and that sub-task's attempt, which holds `c` and has a question."""
    parent, offer, child = family
    kid = child("kid")
    theirs = kid.offer()
    holds(kid.say(wants("c", offer=theirs)))
    return parent, offer, kid, theirs, lambda: kid.say(TaskAsk(theirs.task, 1, b'["which?"]', theirs.fence))


def test_a_parent_that_waits_for_what_its_asking_sub_task_holds_is_a_circle(town, asker):
    parent, offer, kid, theirs, ask = asker
    ask()
    answer = parent.say(waits("c", offer=offer))
    assert deadlock(answer) == [
        {"task": offer.task, "waitsForTask": theirs.task, "for": "claim", "name": "c", "wants": ["c"]},
        {"task": theirs.task, "waitsForTask": offer.task, "for": "ask"},
    ]
    assert answer.detail.endswith(f"task {theirs.task} waits for an answer of task {offer.task}")


def test_a_question_to_a_parent_that_waits_closes_a_circle(town, asker):
    parent, offer, kid, theirs, ask = asker
    queued(town.join("third").say(waits("a")))
    queued(parent.say(waits("c", offer=offer)))
    assert town.said(ClaimEnded) == [], "who has not asked does not wait for the one above"
    ask()
    notices = [notice for notice in parent.mail() if isinstance(notice, ClaimDenied)]
    assert [[step["for"] for step in notice.cycle] for notice in notices] == [["ask", "claim"]]
    assert town.task(theirs.task).state == "parked", "a question is never given up"


def test_a_parent_that_only_waits_for_its_sub_tasks_is_there_to_answer(town, asker):
    """Until it does not say so any more: then what else it stands in line for keeps it from answering."""
    parent, offer, kid, theirs, ask = asker
    third = town.join("third")
    holds(third.say(wants("d")))
    parent.beat(offer, slot="released")
    ask()
    queued(third.say(waits("c")))
    queued(parent.say(waits("d", offer=offer)))
    assert town.said(ClaimEnded) == []
    parent.beat(offer, slot="held")
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"]


def test_a_parent_that_is_connected_anew_has_not_said_that_it_only_waits(town, asker):
    parent, offer, kid, theirs, ask = asker
    third = town.join("third")
    holds(third.say(wants("d")))
    parent.beat(offer, slot="released")
    ask()
    queued(third.say(waits("c")))
    queued(parent.say(waits("d", offer=offer)))
    town.worker("parent", "do-parent", held=[HeldStill(offer.task, offer.fence)])
    assert [record.reason for record in town.said(ClaimEnded)] == ["deadlock"]


def test_a_question_of_who_has_not_been_heard_in_time_waits_for_nobody(town, asker):
    parent, offer, kid, theirs, ask = asker
    ask()
    for _ in range(4):
        town.pass_time(1_000)
        parent.beat(offer)
    assert (town.task(theirs.task).state, town.task(theirs.task).holder) == ("parked", None)
    queued(parent.say(waits("c", offer=offer)))


def test_a_question_to_who_has_not_been_heard_in_time_waits_for_nobody(town, asker):
    parent, offer, kid, theirs, ask = asker
    queued(parent.say(waits("c", offer=offer)))
    parent.drop()
    for _ in range(4):
        town.pass_time(1_000)
        kid.beat(theirs)
    assert town.task(offer.task).holder is None
    ask()
    assert town.said(ClaimEnded) == []


def test_a_question_that_lets_go_waits_for_nobody(town, asker):
    parent, offer, kid, theirs, ask = asker
    kid.say(TaskAsk(theirs.task, 1, b'["which?"]', theirs.fence, "cold"))
    holds(parent.say(waits("c", offer=offer)))


def test_a_question_to_a_client_waits_for_nobody(town, start):
    one, offer = start("one")
    holds(one.say(wants("a", offer=offer)))
    one.say(TaskAsk(offer.task, 1, b'["which?"]', offer.fence))
    two, other = start("two")
    queued(two.say(waits("a", offer=other)))
    assert town.said(ClaimEnded) == []


# In the way -----------------------------------------------------------------------------------------------------------


def test_with_few_looks_some_of_what_is_in_the_way_is_found_and_nothing_only_where_nothing_is(town, start, boss):
    (one, offer1), (two, offer2), (three, offer3) = start("one"), start("two"), start("three")
    holds(one.say(wants("repo/**", "b", offer=offer1)))
    queued(two.say(waits("repo/a", "b", offer=offer2)))
    queued(two.say(waits("repo/a/**", no=3, offer=offer2)))
    queued(three.say(waits("b", offer=offer3, priority=9)))
    town.worker("free", "free")
    for name, priority in (("repo/a", 0), ("b", 5)):
        resources = [{"name": name, "mode": "x"}]
        boss.delegate(name, spec={"skill": "free", "priority": priority, "resources": resources})
    ledger, live = town.ledger, town.coordinator.live
    line = [wait_of(claim) for claim in ledger.claims.claims.values() if claim.is_waiting]
    line += [wait_of(task) for task in live.line.tasks.values()]
    line.sort(key=lambda wait: wait.standing)
    assert len(line) == 5
    for wait in line:
        every = in_the_way(ledger, live, wait)
        assert in_the_way(ledger, live, wait, Looks(100)) == every
        for looks in range(6):
            found = in_the_way(ledger, live, wait, Looks(looks))
            assert bool(found) is bool(every) is has_to_wait(ledger, live, wait)
            assert all(one in every for one in found)


def test_what_is_in_the_way_is_found_behind_any_number_of_ones_own(town, start, monkeypatch):
    monkeypatch.setattr("a2a.engine.waits._LOOKS", 3)
    (one, offer1), (two, offer2) = start("one"), start("two")
    for number in range(8):
        holds(one.say(wants(f"repo/{number}", no=number + 1, offer=offer1)))
    (mine,) = {wait_of(claim).owner for claim in town.ledger.claims.claims.values()}
    holds(two.say(wants("repo/x", offer=offer2)))
    wait = wait_of(next(iter(town.ledger.claims.claims.values())))
    wait = replace(wait, owner=mine, names={"repo/**": "x"})
    assert [one.name for one in in_the_way(town.ledger, town.coordinator.live, wait, Looks(3))] == ["repo/x"]
    assert has_to_wait(town.ledger, town.coordinator.live, wait)
    two.say(ClaimRelease(claim_no=1, task=offer2.task, fence=offer2.fence))
    assert not has_to_wait(town.ledger, town.coordinator.live, wait)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_beyond_a_limit_no_circle_is_looked_for(start, monkeypatch):
    (one, offer1), (two, offer2) = start("one"), start("two")
    holds(one.say(wants("a", offer=offer1)))
    holds(two.say(wants("b", offer=offer2)))
    queued(one.say(waits("b", offer=offer1)))
    monkeypatch.setattr("a2a.engine.waits.STEPS_MAX", 1)
    queued(two.say(waits("a", offer=offer2)))


def test_beyond_a_number_of_names_no_circle_is_looked_for_either(town, monkeypatch):
    peers = [town.join(f"agent{number}") for number in range(8)]
    me = town.join("me")
    holds(me.say(wants("a")))
    holds(peers[-1].say(wants("b")))
    for number, peer in enumerate(peers):
        queued(peer.say(waits("a", f"own/{number}")))
    looks, look = [], waits_module.in_the_way
    monkeypatch.setattr(waits_module, "in_the_way", lambda *given: looks.append(given) or look(*given))
    monkeypatch.setattr(waits_module, "LOOKS_MAX", 5)
    queued(me.say(waits("b")))
    assert len(looks) == 2, "of the newcomer, and of the first it waits for"
    monkeypatch.setattr(waits_module, "LOOKS_MAX", 1_000)
    looks.clear()
    deadlock(me.say(waits("b", no=3)))
    assert len(looks) == len({id(wait.what) for _, _, wait, _ in looks}), "of each once, however many circles"


def test_an_owner_with_more_waits_than_are_looked_at_closes_no_circle(town, monkeypatch):
    one, two, me = (town.join(name) for name in ("one", "two", "me"))
    for number in range(4):
        holds(one.say(wants(f"repo/{number}", no=number + 1)))
    holds(me.say(wants("z")))
    queued(two.say(waits("z")))
    looks, look = [], waits_module.in_the_way
    monkeypatch.setattr(waits_module, "STEPS_MAX", 6)
    monkeypatch.setattr(waits_module, "in_the_way", lambda *given: looks.append(given) or look(*given))
    for number in range(4):
        looks.clear()
        queued(me.say(ClaimAcquire(number + 2, [{"name": "repo/**", "mode": "s"}], wait_ms=60_000)))
    assert len(looks) == 2, "each waits for four"
    monkeypatch.setattr(waits_module, "STEPS_MAX", 1_000)
    monkeypatch.setattr(waits_module, "LOOKS_MAX", 6)
    looks.clear()
    queued(me.say(ClaimAcquire(6, [{"name": "repo/**", "mode": "s"}], wait_ms=60_000)))
    assert len(looks) == 2, "and four names are in the way of each"


def test_a_newcomer_is_held_against_those_that_wait_by_its_names(town, monkeypatch):
    me, other = town.join("me"), town.join("other")
    holds(me.say(wants("a")))
    holds(other.say(wants("b")))
    queued(other.say(waits("a", *(f"other/{number}" for number in range(63)))))
    pairs, overlap = [], names._overlap
    monkeypatch.setattr(names, "_overlap", lambda *given: pairs.append(given) or overlap(*given))
    deadlock(me.say(waits("b", *(f"mine/{number}" for number in range(63)))))
    assert pairs == []


def test_a_circle_names_the_first_that_each_wants(town):
    me, other = town.join("me"), town.join("other")
    holds(me.say(wants("a")))
    holds(other.say(wants("b")))
    queued(other.say(waits("a", *(f"more/{number}" for number in range(63)))))
    cycle = deadlock(me.say(waits("b", "c")))
    assert sorted(len(step["wants"]) for step in cycle) == [2, 16]
    assert {step["name"] for step in cycle} == {"a", "b"}


def test_whether_anybody_waits_for_who_holds_much_is_not_found_out(town, monkeypatch):
    me, other = town.join("me"), town.join("other")
    looks, waiting = [], waits_module._waiting
    holds(other.say(wants("b")))
    monkeypatch.setattr(waits_module, "_HELD_NAMES", 3)
    monkeypatch.setattr(
        waits_module, "_waiting", lambda *given, **named: looks.append(given[2]) or waiting(*given, **named)
    )
    much = {"c": "x", "d": "x", "e": "x"}
    holds(me.say(wants(*much)))
    looks.clear()
    queued(me.say(waits("b")))
    assert much not in looks


def test_where_nobody_waits_for_names_the_graph_is_not_looked_at(town, busy, monkeypatch):
    parent, offer, x, fill, queue = busy
    looked = []
    is_waited_for = _Graph.is_waited_for
    monkeypatch.setattr(_Graph, "is_waited_for", lambda self, owner: looked.append(owner) or is_waited_for(self, owner))
    monkeypatch.setattr("a2a.engine.coordinator.circles_broken", lambda *given: looked.append(given[2]) or [])
    fill()
    queue()
    parent.beat(offer, slot="released")
    assert looked == []
