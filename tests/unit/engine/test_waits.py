"""Who waits for whom: circles are found when they close, and one wait in each is given up."""

import pytest

from a2a.engine.records import ClaimEnded, ClaimRequested, Settled
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimQueued,
    ClaimRelease,
    Error,
    Held,
    TaskAsk,
    TaskSettled,
)


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
def boss(town):
    return town.join("boss")


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


def test_a_queued_sub_task_may_wait_for_its_parent_to_begin_to_wait(town, family):
    parent, offer, child = family
    child("kid", spec={"resources": [{"name": "a"}]})
    assert town.said(Settled) == []
    parent.beat(offer, slot="released")
    assert town.said(Settled)[-1].reason == "deadlock"
