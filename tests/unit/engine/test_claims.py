"""Claims: granted, queued, denied, called back, renewed, released, and ended with their attempt."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis.strategies import data, dictionaries, permutations, sampled_from

from a2a.engine import claims, routing, waits
from a2a.engine.live import Line
from a2a.engine.names import NameIndex, names_meet
from a2a.engine.records import Accepted, Claimed, ClaimEnded, ClaimRecalled, ClaimRequested, Offered, Revived, Settled
from a2a.engine.task_state import Task
from a2a.engine.waits import Obstacle
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentUpdate,
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimList,
    ClaimPage,
    ClaimPreempt,
    ClaimQueued,
    ClaimRelease,
    ClaimRenew,
    Credit,
    Error,
    GrantedName,
    Ok,
    TaskHandoff,
    TaskYield,
    Timers,
)


def wants(*names, no=1, offer=None, mode="x", **fields):
    """Return a request for names, as `name` or as (name, mode)."""
    claims = [
        {"name": name, "mode": mode} if isinstance(name, str) else {"name": name[0], "mode": name[1]} for name in names
    ]
    if offer is not None:
        fields |= {"task": offer.task, "fence": offer.fence}
    return ClaimAcquire(no, claims, **fields)


def granted(answer):
    assert isinstance(answer, ClaimGranted), answer
    return answer.claim_fence


def queued(answer):
    assert isinstance(answer, ClaimQueued), answer
    return answer.position


def refusal(answer):
    assert isinstance(answer, Error), answer
    return answer.code


@pytest.fixture
def workers(town, boss):
    """Three agents, each with an attempt under way: (peer, offer)."""
    made = []
    for number in range(3):
        peer = town.worker(f"w{number}", f"skill{number}")
        boss.delegate(f"k{number}", f"skill{number}")
        offer = peer.offer()
        peer.beat(offer)
        made.append((peer, offer))
    return made


def ends(town):
    return [(record.claim, record.reason) for record in town.said(ClaimEnded)]


# At once --------------------------------------------------------------------------------------------------------------


def test_a_claim_is_granted_at_once_with_a_fence_that_is_its_records_position(town, workers):
    (worker, offer), *_ = workers
    answer = worker.say(wants("repo/b", "repo/a", offer=offer))
    names = [{"name": "repo/a", "mode": "x"}, {"name": "repo/b", "mode": "x"}]
    assert answer == ClaimGranted(1, town.ledger.lsn, names, offer.task, offer.fence)
    assert [type(record) for _, record in town.records[-2:]] == [ClaimRequested, Claimed]


def test_a_claim_in_the_way_is_denied_and_the_holder_named(town, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("repo/**", offer=offer1)))
    before = len(town.records)
    answer = two.say(wants("other", "repo/a", offer=offer2))
    assert refusal(answer) == ErrorCode.DENIED
    holder = {"name": "repo/**", "agent": "w0", "isHeld": True, "task": offer1.task, "claimFence": fence}
    assert answer.data == {"holders": [holder]}
    assert len(town.records) == before, "it is not known, and holds nothing"
    granted(two.say(wants("other", offer=offer2)))


def test_of_many_in_the_way_the_first_are_named_and_the_others_counted(town, monkeypatch):
    holder, late = town.join("holder"), town.join("late")
    fences = [granted(holder.say(wants(f"repo/{number}", no=number + 1))) for number in range(20)]
    data = late.say(wants("repo/**")).data
    assert ([told["claimFence"] for told in data["holders"]], data["holdersMore"]) == (fences[:16], 4)
    monkeypatch.setattr(claims, "_LOOKS_MAX", 18)
    data = late.say(wants("repo/**")).data
    assert (len(data["holders"]), data["holdersMore"]) == (16, 2), "at least"
    data = late.say(wants("repo/7")).data
    assert (len(data["holders"]), "holdersMore" in data) == (1, False)


def test_what_is_in_the_way_is_looked_for_so_long_only(town, monkeypatch):
    holder, late = town.join("holder"), town.join("late")
    for number in range(60):
        granted(holder.say(wants(f"repo/{number}", no=number + 1)))
    made = []
    monkeypatch.setattr(waits, "Obstacle", lambda *given, **named: made.append(given) or Obstacle(*given, **named))
    monkeypatch.setattr(claims, "_LOOKS_MAX", 10)
    for wait_ms in (0, 60_000):
        late.say(wants("repo/**", wait_ms=wait_ms))
        assert 0 < len(made) <= 10
        made.clear()
    holder.say(ClaimRelease(claim_no=60))
    assert 0 < len(made) <= 10
    made.clear()
    monkeypatch.setattr(claims, "_LOOKS_OF_LIST", 20)
    queued(town.join("later").say(wants("repo/**", wait_ms=60_000)))
    made.clear()
    waiting = [one for one in holder.say(ClaimList(limit=1_000)).claims if one["state"] == "waiting"]
    assert [len(one["waitsFor"]) for one in waiting] == [10, 10]
    assert len(made) == 20, "in equal parts"


def test_shared_claims_live_side_by_side(workers):
    (one, offer1), (two, offer2), (three, offer3) = workers
    granted(one.say(wants("repo/**", mode="s", offer=offer1)))
    granted(two.say(wants("repo/a", mode="s", offer=offer2)))
    assert refusal(three.say(wants("repo/a", offer=offer3))) == ErrorCode.DENIED


def test_claims_of_one_task_are_not_in_each_others_way(workers):
    (one, offer), *_ = workers
    first = granted(one.say(wants("repo/**", offer=offer)))
    assert granted(one.say(wants("repo/a", no=2, offer=offer))) > first


def test_claims_of_one_principal_are_in_each_others_way(town):
    one, two = town.join("me#1"), town.join("me#2")
    granted(one.say(wants("deploy")))
    assert refusal(two.say(wants("deploy"))) == ErrorCode.DENIED
    assert refusal(one.say(wants("deploy", no=2))) == ErrorCode.DENIED
    assert queued(one.say(wants("deploy", no=2, wait_ms=1_000))) == 1, "it may do several things at once"


@pytest.mark.parametrize("half", [{"task": "main-1"}, {"fence": 1}])
def test_a_task_comes_with_its_fence(workers, half):
    worker = workers[0][0]
    assert worker.refused(ClaimAcquire(1, [{"name": "a"}], **half)) == ErrorCode.MALFORMED


def test_a_claim_needs_the_current_fence(town, workers):
    (one, offer), (two, _), _ = workers
    assert two.refused(wants("a", offer=offer)) == ErrorCode.NOT_HOLDER
    assert one.refused(ClaimAcquire(1, [{"name": "a"}], "main-999", 1)) == ErrorCode.NOT_FOUND
    one.report(offer)
    assert one.refused(wants("a", offer=offer)) == ErrorCode.STALE


def test_a_task_that_is_to_end_claims_nothing_more(boss, workers):
    (one, offer), *_ = workers
    boss.cancel(offer.task)
    assert one.refused(wants("a", offer=offer)) == ErrorCode.CONFLICT


def test_asking_is_a_sign_of_life(town, workers):
    (one, offer), *_ = workers
    town.pass_time(2_000)
    granted(one.say(wants("a", offer=offer)))
    town.pass_time(2_000)
    assert town.task(offer.task).holder == "w0"
    town.pass_time(2_000)
    assert town.task(offer.task).holder is None
    granted(one.say(wants("b", no=2, offer=offer)))
    assert town.said(Revived)[-1].fence == offer.fence


def test_a_claim_that_was_given_back_is_not_looked_at_when_it_would_have_ended(town):
    peer = town.join("client")
    held = granted(peer.say(wants("db/x", ttl_ms=86_400_000)))
    assert town.coordinator.next_deadline() == town.now + 86_400_000
    assert isinstance(peer.say(ClaimRelease(held)), Ok)
    assert town.coordinator.next_deadline() is None


def test_there_are_only_so_many_claims(make_town):
    peer = make_town(claims_max=2).join("me")
    granted(peer.say(wants("a", no=1)))
    granted(peer.say(wants("b", no=2)))
    assert peer.refused(wants("c", no=3)) == ErrorCode.QUOTA


def test_a_line_has_an_end(make_town):
    town = make_town(line_max=1)
    granted(town.join("holder").say(wants("repo/a")))
    assert queued(town.join("one").say(wants("repo/**", wait_ms=60_000))) == 1
    assert queued(town.join("two").say(wants("repo/b", wait_ms=60_000))) == 2
    assert town.join("three").refused(wants("repo/**", wait_ms=60_000)) == ErrorCode.QUOTA
    assert queued(town.join("four").say(wants("repo/a", wait_ms=60_000))) == 2


def test_the_end_of_a_claim_is_looked_at_once_by_each_that_waits(town, monkeypatch):
    holder = town.join("holder")
    fence = granted(holder.say(wants("repo/a")))
    waiting = [town.join(f"agent{number}") for number in range(12)]
    for number, peer in enumerate(waiting):
        queued(peer.say(wants("repo/a", wait_ms=60_000)))
        granted(peer.say(wants(f"own/{number}", no=2)))
    looks, in_the_way = [], waits.in_the_way
    monkeypatch.setattr(claims, "in_the_way", lambda *given: looks.append(given) or in_the_way(*given))
    monkeypatch.setattr(waits, "in_the_way", lambda *given: looks.append(given) or in_the_way(*given))
    holder.say(ClaimRelease(fence))
    assert len(looks) == 2, "the next, and the first behind it, behind which all others are"
    looks.clear()
    queued(holder.say(wants("repo/a", no=2, wait_ms=60_000)))
    assert len(looks) == 1, "who has nothing that others wait for closes no circle"


# Repeats --------------------------------------------------------------------------------------------------------------


def test_a_repeat_is_answered_with_how_the_claim_stands(town, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("a", offer=offer1)))
    assert queued(two.say(wants("a", offer=offer2, wait_ms=5_000))) == 1
    before = len(town.records)
    assert granted(one.say(wants("a", offer=offer1))) == fence
    assert queued(two.say(wants("a", offer=offer2, wait_ms=5_000))) == 1
    assert len(town.records) == before
    one.say(ClaimRelease(fence))
    assert granted(two.say(wants("a", offer=offer2, wait_ms=5_000))) > fence
    assert one.refused(wants("a", offer=offer1)) == ErrorCode.STALE


def test_a_number_stands_for_one_claim(workers):
    (one, offer), *_ = workers
    granted(one.say(wants("a", no=3, offer=offer)))
    assert one.refused(wants("b", no=3, offer=offer)) == ErrorCode.IDEMPOTENCY_MISMATCH
    assert one.refused(wants("b", no=2, offer=offer)) == ErrorCode.STALE
    assert one.refused(wants("a", mode="s", no=3, offer=offer)) == ErrorCode.IDEMPOTENCY_MISMATCH


def test_an_old_number_stays_used_when_its_claim_is_forgotten(town):
    me = town.join("me")
    for number in range(1, 41):
        me.say(ClaimRelease(granted(me.say(wants("a", no=number)))))
    assert me.refused(wants("a", no=1)) == ErrorCode.STALE
    assert len(town.ledger.claims.numbers["agent:me"].ended) == 16


def test_numbers_begin_anew_with_another_instance(town):
    granted(town.join("me").say(wants("a")))
    again = town.join("me", instance_id="me-2", incarnation=2)
    granted(again.say(wants("b")))


def test_a_number_stands_for_its_claim_though_another_process_of_the_agent_has_claimed_since(town):
    first, second = (town.hello("me", instance_id=name, incarnation=no) for no, name in enumerate("ab", 1))
    me = town.dial()
    me.say(first)
    fence = granted(me.say(wants("a")))
    other = town.dial()
    other.say(replace(second, secret=me.welcome.secret))
    granted(other.say(wants("b")))
    back = town.dial()
    back.say(replace(first, secret=me.welcome.secret, incarnation=3))
    assert granted(back.say(wants("a"))) == fence
    assert refusal(back.say(wants("c"))) == ErrorCode.IDEMPOTENCY_MISMATCH
    assert back.say(ClaimRelease(claim_no=1)) == Ok()
    assert [claim.names for claim in town.ledger.claims.claims.values()] == [{"b": "x"}]


def test_what_was_denied_at_once_may_be_tried_again_under_its_number(town):
    one, two = town.join("one"), town.join("two")
    fence = granted(one.say(wants("a")))
    assert two.refused(wants("a")) == ErrorCode.DENIED
    one.say(ClaimRelease(fence))
    granted(two.say(wants("a")))


# In line --------------------------------------------------------------------------------------------------------------


def test_a_claim_that_waits_is_granted_by_mailbox_when_its_turn_comes(town, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("repo/**", offer=offer1)))
    assert two.say(wants("repo/a", offer=offer2, wait_ms=5_000)) == ClaimQueued(1, 1, offer2.task, offer2.fence)
    assert one.say(ClaimRelease(fence)) == Ok()
    (notice,) = two.mail()
    assert notice == ClaimGranted(1, town.ledger.lsn, [{"name": "repo/a", "mode": "x"}], offer2.task, offer2.fence)


def test_nobody_overtakes_a_claim_that_waits(town):
    """A stream of shared claims does not starve one that wants the name alone."""
    readers, writer = [town.join(f"reader{number}") for number in range(3)], town.join("writer")
    fences = [granted(readers[0].say(wants("a/b", mode="s"))), granted(readers[1].say(wants("a/b", mode="s")))]
    assert queued(writer.say(wants("a/**", wait_ms=60_000))) == 1
    assert queued(readers[2].say(wants("a/b", mode="s", wait_ms=60_000))) == 2
    assert refusal(readers[1].say(wants("a/c", no=2, mode="s"))) == ErrorCode.DENIED
    readers[0].say(ClaimRelease(fences[0]))
    assert writer.mail() == []
    readers[1].say(ClaimRelease(fences[1]))
    writing = granted(writer.mail()[-1])
    assert readers[2].mail() == []
    writer.say(ClaimRelease(writing))
    granted(readers[2].mail()[-1])


def test_what_waits_holds_nothing(town):
    one, two, three = town.join("one"), town.join("two"), town.join("three")
    granted(one.say(wants("a")))
    assert queued(two.say(wants("a", "b", wait_ms=60_000))) == 1
    assert queued(three.say(wants("b", wait_ms=60_000))) == 2, "but it comes first"
    two.say(ClaimRelease(claim_no=1))
    granted(three.mail()[-1])


def test_priority_comes_first_and_waiting_counts(town):
    holder = town.join("holder")
    fence = granted(holder.say(wants("a")))
    low, high, later = (town.join(name) for name in ("low", "high", "later"))
    assert queued(low.say(wants("a", wait_ms=600_000))) == 1
    town.pass_time(29_000)
    assert queued(high.say(wants("a", wait_ms=600_000, priority=1))) == 1
    town.pass_time(2_000)
    assert queued(later.say(wants("a", wait_ms=600_000, priority=1))) == 3, "31 s of waiting are more than one step"
    holder.say(ClaimRelease(fence))
    for peer in (high, low, later):
        peer.say(ClaimRelease(granted(peer.mail()[-1])))


def test_equals_are_served_in_the_order_they_came(town):
    holder = town.join("holder")
    fence = granted(holder.say(wants("a")))
    peers = [town.join(f"p{number}") for number in range(4)]
    assert [queued(peer.say(wants("a", wait_ms=60_000, priority=2))) for peer in peers] == [1, 2, 3, 4]
    holder.say(ClaimRelease(fence))
    for peer in peers:
        assert all(other.mail() == [] for other in peers[peers.index(peer) + 1 :])
        peer.say(ClaimRelease(granted(peer.mail()[-1])))


def test_a_wait_is_over_in_time(town, workers):
    (one, offer1), (two, offer2), _ = workers
    granted(one.say(wants("a", offer=offer1)))
    queued(two.say(wants("a", offer=offer2, wait_ms=1_500)))
    for _ in range(4):
        town.pass_time(499)
        one.beat(offer1)
        two.beat(offer2)
    assert two.mail() == [
        ClaimDenied(1, "timeout", "its time to wait is over", offer2.task, offer2.fence),
    ]
    assert two.refused(wants("a", offer=offer2, wait_ms=1_500)) == ErrorCode.STALE
    granted(two.say(wants("b", no=2, offer=offer2)))


def test_the_end_of_a_wait_lets_those_behind_it_go_on(town):
    one, two, three = town.join("one"), town.join("two"), town.join("three")
    granted(one.say(wants("a", mode="s")))
    queued(two.say(wants("a", wait_ms=1_000)))
    queued(three.say(wants("a", mode="s", wait_ms=60_000)))
    town.pass_time(1_000)
    assert isinstance(two.mail()[-1], ClaimDenied)
    granted(three.mail()[-1])


def test_the_waits_of_an_ended_attempt_are_denied(town, workers):
    (one, offer1), (two, offer2), _ = workers
    granted(one.say(wants("a", offer=offer1)))
    queued(two.say(wants("a", offer=offer2, wait_ms=60_000)))
    two.report(offer2)
    assert ClaimDenied(1, "ended", "ended", offer2.task, offer2.fence) in two.mail()


def test_a_grant_that_is_over_when_it_is_sent_is_told_as_its_end(town, boss, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("a", offer=offer1)))
    queued(two.say(wants("a", offer=offer2, wait_ms=60_000)))
    two.drop()
    one.say(ClaimRelease(fence))
    boss.cancel(offer2.task, "skip")
    again = town.worker("w1", "skill1", instance_id="other", incarnation=2)
    told = [message for message in again.mail() if isinstance(message, ClaimGranted | ClaimDenied)]
    assert told == [ClaimDenied(1, "ended", "ended", offer2.task, offer2.fence)]


# Given back, renewed --------------------------------------------------------------------------------------------------


def test_a_claim_is_given_back_once_and_the_repeat_is_fine(town, workers):
    (one, offer), (two, _), _ = workers
    fence = granted(one.say(wants("a", offer=offer)))
    assert two.refused(ClaimRelease(fence)) == ErrorCode.NOT_HOLDER
    assert one.say(ClaimRelease(fence)) == Ok()
    before = len(town.records)
    assert one.say(ClaimRelease(fence)) == Ok()
    assert one.say(ClaimRelease(claim_no=9)) == Ok()
    assert len(town.records) == before


@pytest.mark.parametrize("bad", [ClaimRelease(), ClaimRelease(1, 1), ClaimRelease(99_999)])
def test_a_release_names_one_claim(workers, bad):
    assert workers[0][0].refused(bad) == ErrorCode.MALFORMED


def test_another_process_of_the_principal_and_an_operator_may_give_it_back(make_town):
    from a2a.engine.policy import Admission, digest

    town = make_town(admission=Admission(None, digest("op")))
    mine, other, operator = town.join("me#1"), town.join("me#2"), town.join("boss", operator_token="op")
    assert other.say(ClaimRelease(granted(mine.say(wants("a"))))) == Ok()
    fence = granted(mine.say(wants("a", no=2)))
    assert town.join("stranger").refused(ClaimRelease(fence)) == ErrorCode.NOT_HOLDER
    assert operator.say(ClaimRelease(fence)) == Ok()


def test_a_claim_without_a_task_ends_with_its_time_and_lasts_when_renewed(town):
    me, other = town.join("me"), town.join("other")
    answer = me.say(wants("a"))
    assert answer.ttl_ms == 60_000
    town.pass_time(59_999)
    assert me.say(ClaimRenew(answer.claim_fence)).ttl_ms == 60_000
    town.pass_time(59_999)
    assert other.refused(wants("a")) == ErrorCode.DENIED
    town.pass_time(1)
    assert ends(town) == [(answer.claim_fence - 1, "ttl")]
    granted(other.say(wants("a")))
    assert me.refused(ClaimRenew(answer.claim_fence)) == ErrorCode.STALE
    assert me.refused(ClaimRenew(99_999)) == ErrorCode.MALFORMED


def test_only_its_owner_renews_a_claim(town):
    fence = granted(town.join("me#1").say(wants("a", ttl_ms=1_000)))
    assert town.join("other").refused(ClaimRenew(fence)) == ErrorCode.NOT_HOLDER
    assert town.join("me#2").say(ClaimRenew(fence, 5_000)).ttl_ms == 5_000
    town.pass_time(4_999)
    assert ends(town) == []
    town.pass_time(1)
    assert [reason for _, reason in ends(town)] == ["ttl"]


def test_a_claim_of_an_attempt_has_no_time_of_its_own_unless_it_names_one(town, workers):
    (one, offer), *_ = workers
    fence = granted(one.say(wants("a", offer=offer)))
    assert one.say(ClaimRenew(fence)).ttl_ms is None
    timed = one.say(wants("b", no=2, offer=offer, ttl_ms=500))
    assert timed.ttl_ms == 500
    town.pass_time(500)
    assert [reason for _, reason in ends(town)] == ["ttl"]
    assert list(town.ledger.claims.by_fence) == [fence]


# The end of an attempt ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["report", "fail", "yield", "cancel", "handoff"])
def test_claims_end_in_the_append_that_ends_their_attempt(town, boss, workers, end):
    (one, offer), (two, offer2), _ = workers
    granted(one.say(wants("a", offer=offer)))
    queued(two.say(wants("a", offer=offer2, wait_ms=60_000)))
    town.worker("w9", "skill0", tasks=0)
    if end == "report":
        one.report(offer)
    elif end == "fail":
        one.report(offer, "failed")
    elif end == "yield":
        one.say(TaskYield(offer.task, offer.fence))
    elif end == "cancel":
        boss.cancel(offer.task, "skip")
    else:
        assert one.say(TaskHandoff(offer.task, offer.fence, "w9")) is not None
    granted(two.mail()[-1])


def test_claims_outlast_a_lapsed_lease_and_end_when_another_accepts(town, workers):
    (one, offer), (two, offer2), _ = workers
    old = granted(one.say(wants("a", offer=offer)))
    one.drop()
    town.pass_time(2_000)
    two.beat(offer2)
    town.pass_time(1_500)
    assert town.task(offer.task).holder is None
    assert two.refused(wants("a", offer=offer2)) == ErrorCode.DENIED
    heir = town.worker("heir", "skill0")
    again = heir.offer()
    assert not again.granted
    assert two.refused(wants("a", offer=offer2)) == ErrorCode.DENIED
    heir.accept(again)
    assert [type(record) for _, record in town.records[-2:]] == [Accepted, ClaimEnded]
    assert granted(two.say(wants("a", offer=offer2))) > old


def test_a_holder_that_comes_back_has_its_claims_still(town, workers):
    (one, offer), (two, _), _ = workers
    fence = granted(one.say(wants("a", offer=offer)))
    heir = town.worker("heir", "skill0")
    town.pass_time(3_100)
    assert not heir.offer().granted
    one.beat(offer)
    assert one.say(ClaimRenew(fence)).claim_fence == fence
    assert ends(town) == []


@pytest.mark.parametrize("comes_back", [False, True])
def test_what_is_offered_to_the_next_attempt_is_not_granted_to_the_one_before_it(town, boss, comes_back):
    one, other = town.worker("one"), town.join("other")
    boss.delegate(spec={"resources": [{"name": "a", "mode": "s"}]})
    offer = one.offer()
    one.beat(offer)
    held = granted(other.say(wants("a", mode="s")))
    queued(one.say(wants("a", offer=offer, wait_ms=60_000)))
    heir = town.worker("heir")
    town.pass_time(3_100)
    again = heir.offer()
    other.say(ClaimRelease(held))
    assert town.said(Claimed)[-1].at < town.now, "its fence would be above the one in the offer"
    if comes_back:
        one.beat(offer)
        granted(one.mail()[-1])
    else:
        heir.accept(again)
        assert [reason for _, reason in ends(town)] == ["released", "ended", "ended"]


def test_claims_are_the_same_after_a_restart(town, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("a", offer=offer1)))
    queued(two.say(wants("a", offer=offer2, wait_ms=1_000)))
    free = town.join("me")
    granted(free.say(wants("mine", ttl_ms=1_000)))
    again = town.restart()
    assert list(again.ledger.claims.by_fence) == list(town.ledger.claims.by_fence)
    held = [{"task": offer1.task, "fence": offer1.fence}]
    back = again.worker("w0", "skill0", instance_id="w0-1", held=[_held(item) for item in held])
    assert granted(back.say(wants("a", offer=offer1))) == fence
    again.pass_time(2_999)
    assert ends(again) == [], "no stored time fires while everybody comes back"
    again.pass_time(2)
    assert [reason for _, reason in ends(again)] == ["timeout", "ttl"]


@pytest.mark.parametrize("mode", ["x", "s"])
def test_a_task_that_stood_in_line_is_in_nobodys_way_after_a_restart(town, boss, mode):
    me, other = town.join("me"), town.join("other")
    town.worker("w")
    granted(me.say(wants("repo/a")))
    task = boss.delegate(spec={"resources": [{"name": "repo/**"}]})
    assert queued(other.say(wants("repo/b", mode=mode, wait_ms=60_000))) == 2
    again = town.restart()
    held = [claim.agent for claim in again.ledger.claims.by_fence.values()]
    assert held == ["me", "other"], "no agent is there that would take the task, and one might never be"
    assert again.task(task).state == "queued"
    boss.cancel(task, "skip")  # where nothing was restarted, that is what the claim waits for
    assert isinstance(other.mail()[-1], ClaimGranted)


def _held(item):
    from a2a.protocol.messages import Held

    return Held(**item)


# Called back ----------------------------------------------------------------------------------------------------------


def test_a_claim_of_higher_priority_calls_back_one_that_allows_it(town, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("a/**", offer=offer1, preemptible=True)))
    assert queued(two.say(wants("a/b", offer=offer2, wait_ms=60_000, priority=1))) == 1
    reason = "claim 1 of w1 has priority 1"
    assert one.mail() == [ClaimPreempt(1, fence, reason, 10_000, offer1.task, offer1.fence)]
    for _ in range(10):
        town.pass_time(999)
        one.beat(offer1)
        two.beat(offer2)
    assert two.mail() == []
    town.pass_time(10)
    assert ends(town) == [(fence - 1, "preempted")]
    granted(two.mail()[-1])


def test_a_claim_is_called_back_by_one_that_was_behind_it_in_line(town):
    me, old, new = town.join("me"), town.join("old"), town.join("new")
    fence = granted(me.say(wants("a")))
    queued(old.say(wants("a", "b", wait_ms=600_000, preemptible=True)))
    town.pass_time(50_000)
    queued(new.say(wants("b", wait_ms=600_000, priority=1)))
    me.say(ClaimRelease(fence))
    assert isinstance(old.mail()[-1], ClaimPreempt), "it had waited longer, and is of lower priority"
    town.pass_time(10_000)
    assert isinstance(new.mail()[-1], ClaimGranted)


def test_a_claim_that_was_called_back_may_be_given_back_before(town):
    one, two = town.join("one"), town.join("two")
    fence = granted(one.say(wants("a", preemptible=True)))
    queued(two.say(wants("a", wait_ms=60_000, priority=1)))
    one.say(ClaimRelease(fence))
    granted(two.mail()[-1])
    assert [reason for _, reason in ends(town)] == ["released"]


@pytest.mark.parametrize(
    ("holder", "waiter"),
    [
        ({"preemptible": False, "priority": 0}, {"priority": 9}),
        ({"preemptible": True, "priority": 3}, {"priority": 3}),
        ({"preemptible": True, "priority": 4}, {"priority": 3}),
    ],
)
def test_nobody_is_called_back_without_leave_or_for_an_equal(town, holder, waiter):
    granted(town.join("one").say(wants("a", **holder)))
    queued(town.join("two").say(wants("a", wait_ms=60_000, **waiter)))
    assert town.said(ClaimRecalled) == []


def test_nobody_is_called_back_while_another_would_stay_in_the_way(town):
    one, two, three = town.join("one"), town.join("two"), town.join("three")
    granted(one.say(wants("a", preemptible=True)))
    stays = granted(two.say(wants("b")))
    queued(three.say(wants("a", "b", wait_ms=60_000, priority=1)))
    assert town.said(ClaimRecalled) == []
    two.say(ClaimRelease(stays))
    assert isinstance(one.mail()[-1], ClaimPreempt)


def test_the_others_are_called_back_once_the_one_that_would_have_stayed_is(town):
    one, two = town.join("one"), town.join("two")
    granted(one.say(wants("a", "c", preemptible=True, priority=1)))
    granted(two.say(wants("b", preemptible=True)))
    queued(town.join("three").say(wants("a", "b", wait_ms=60_000, priority=1)))
    assert town.said(ClaimRecalled) == []
    queued(town.join("four").say(wants("c", wait_ms=60_000, priority=2)))
    assert isinstance(one.mail()[-1], ClaimPreempt)
    assert isinstance(two.mail()[-1], ClaimPreempt), "nothing that stays is in the way of the third any more"


def test_nobody_is_called_back_by_one_that_is_behind_too_many(town, monkeypatch):
    monkeypatch.setattr(claims, "_LOOKS_MAX", 3)
    holder, late = town.join("holder"), town.join("late")
    for number in range(3):
        granted(holder.say(wants(f"repo/{number}", no=number + 1, preemptible=True)))
    queued(late.say(wants("repo/**", wait_ms=60_000, priority=9)))
    assert town.said(ClaimRecalled) == []
    holder.say(ClaimRelease(claim_no=1))
    assert town.said(ClaimRecalled) == [], "it is looked at itself, too"
    holder.say(ClaimRelease(claim_no=2))
    assert len(town.said(ClaimRecalled)) == 1, "they are few enough now"


def test_a_claim_that_does_not_wait_calls_nobody_back(town):
    granted(town.join("one").say(wants("a", preemptible=True)))
    assert refusal(town.join("two").say(wants("a", priority=9))) == ErrorCode.DENIED
    assert town.said(ClaimRecalled) == []


# Granted with the lease -----------------------------------------------------------------------------------------------


def needs(*names, mode="x", **spec):
    return {"resources": [{"name": name, "mode": mode} for name in names], **spec}


def test_what_a_task_needs_is_granted_with_its_lease_under_the_attempts_fence(town, boss):
    worker = town.worker("w", tasks=2)
    task = boss.delegate(spec=needs("repo/b", "repo/a"))
    offer = worker.offer()
    assert offer.claims == [GrantedName("repo/a", "x", offer.fence), GrantedName("repo/b", "x", offer.fence)]
    assert town.said(Offered)[-1].claims == {"repo/a": "x", "repo/b": "x"}
    assert town.join("me").refused(wants("repo/**")) == ErrorCode.DENIED
    worker.report(offer)
    granted(town.join("me2").say(wants("repo/**")))
    assert town.task(task).state == "reported"


def test_what_was_granted_with_a_lease_is_given_back_by_its_number(town, boss):
    worker = town.worker("w")
    boss.delegate(spec=needs("a"))
    offer = worker.offer()
    assert worker.say(ClaimRelease(claim_no=0, task=offer.task, fence=offer.fence)) == Ok()
    assert ends(town) == [(offer.fence, "released")]
    granted(worker.say(wants("b", offer=offer)))
    assert worker.say(ClaimRelease(claim_no=0, task=offer.task, fence=offer.fence)) == Ok()


def test_a_task_without_needs_is_offered_as_ever(town, boss):
    worker = town.worker("w")
    boss.delegate(spec={"resources": []})
    assert worker.offer().claims == []
    assert town.said(Offered)[-1].claims is None


def test_a_task_waits_for_its_resources_in_the_queue_and_lets_others_pass(town, boss):
    me, worker = town.join("me"), town.worker("w", tasks=3)
    fence = granted(me.say(wants("repo/a")))
    first = boss.delegate("first", spec=needs("repo/**"))
    second = boss.delegate("second", spec=needs("other"))
    third = boss.delegate("third")
    assert [offer.task for offer in worker.mail()] == [second, third]
    assert town.task(first).state == "queued"
    me.say(ClaimRelease(fence))
    assert worker.offer().task == first


def test_a_task_in_line_is_not_overtaken(town, boss):
    me, other, worker = town.join("me"), town.join("other"), town.worker("w")
    fence = granted(me.say(wants("repo/a")))
    task = boss.delegate(spec=needs("repo/**"))
    assert queued(other.say(wants("repo/b", wait_ms=60_000))) == 2
    answer = other.say(wants("repo/c", no=2))
    assert refusal(answer) == ErrorCode.DENIED
    assert answer.data == {"holders": [{"name": "repo/**", "task": task, "isHeld": False}]}
    me.say(ClaimRelease(fence))
    assert worker.offer().task == task
    assert other.mail() == []


def test_a_task_that_no_agent_would_take_is_in_nobodys_way(town, boss):
    me, other, worker = town.join("me"), town.join("other"), town.worker("w")
    held = granted(me.say(wants("repo/a")))
    busy = boss.delegate("busy")
    task = boss.delegate("needs", spec=needs("repo/**"))
    granted(other.say(wants("repo/b")))
    assert town.coordinator.live.line.tasks == {}
    worker.report(worker.offer())
    assert list(town.coordinator.live.line.tasks) == [task], "now one would"
    third = town.join("third")
    assert queued(third.say(wants("repo/c", wait_ms=60_000))) == 2
    worker.drop()
    me.say(ClaimRelease(held))
    assert town.coordinator.live.line.tasks == {}, "and now none again"
    granted(third.mail()[-1])
    assert (town.task(busy).state, town.task(task).state) == ("reported", "queued")


@pytest.mark.parametrize("how", ["leaves", "takes less", "drains"])
def test_a_task_whose_last_agent_goes_is_in_nobodys_way_any_more(town, boss, how):
    me, other, worker = town.join("me"), town.join("other"), town.worker("w")
    granted(me.say(wants("repo/a")))
    task = boss.delegate(spec=needs("repo/**"))
    queued(other.say(wants("repo/b", wait_ms=60_000)))
    if how == "leaves":
        worker.drop()
    else:
        worker.say(Credit(0, 256) if how == "takes less" else AgentUpdate(status="draining"))
    assert isinstance(other.mail()[-1], ClaimGranted)
    assert town.task(task).state == "queued"


def test_of_a_backlog_for_one_name_few_are_looked_at_however_long_it_is(town, boss, monkeypatch):
    worker = town.worker("w1")
    tasks = [boss.delegate(f"task{number}", spec=needs("repo"), acceptance="auto") for number in range(200)]
    looks, wait_of = [], waits.wait_of
    for module in (claims, routing, waits):
        monkeypatch.setattr(module, "wait_of", lambda *given: looks.append(given) or wait_of(*given))
    for task in tasks[:10]:
        offer = worker.offer()
        assert offer.task == task
        worker.report(offer)
    assert len(looks) < 10 * 8


@given(data())
def test_who_is_next_in_line_is_whoever_is_behind_none_that_is(drawn):
    names = sampled_from(["a", "a/b", "a/**", "a/b/**", "c"])
    wanted = dictionaries(names, sampled_from("xs"), min_size=1, max_size=2)
    line = Line()
    waiting = []
    for number in drawn.draw(permutations(range(8))):
        task = Task.__new__(Task)
        task.id, task.spec, task.lsn, task.at = f"t-{number}", {"skill": "s"}, number, 0
        resources = dict(sorted(drawn.draw(wanted).items()))
        line.join(task, resources, (0, number))
        waiting.append((number, task.id, resources))
    freed = drawn.draw(wanted)
    queues, book = SimpleNamespace(add=lambda task: None), SimpleNamespace(waiting=NameIndex(), claims={})
    ledger, live = SimpleNamespace(freed=[freed], claims=book), SimpleNamespace(line=line)
    assert list(claims.next_in_line(SimpleNamespace(ledger=ledger, live=live, queues=queues), 0)) == []
    called = []
    for _, task, resources in sorted(waiting):
        if names_meet(freed, resources) and not any(names_meet(before, resources) for _, before in called):
            called.append((task, resources))
    assert list(line.called) == [task for task, _ in called]


def test_a_backlog_for_one_name_is_served_in_order_with_few_looks(town, boss, monkeypatch):
    worker = town.worker("w", tasks=2)
    looks, has_to_wait = [], waits.has_to_wait
    monkeypatch.setattr(routing, "has_to_wait", lambda *given: looks.append(given) or has_to_wait(*given))
    tasks = [boss.delegate(f"k{number}", spec=needs("merge"), acceptance="auto") for number in range(20)]
    assert len(looks) == 20
    done = []
    for _ in tasks:
        offer = worker.offer()
        done.append(offer.task)
        worker.report(offer)
    assert done == tasks
    assert len(looks) < 60


def test_a_task_behind_another_for_the_same_agents_is_in_nobodys_way_either(town, boss):
    """The task at the head of the queue finds no agent, so nobody looked at the one behind it."""
    me, other, worker = town.join("me"), town.join("other"), town.worker("w", tasks=2)
    held = granted(me.say(wants("repo/a")))
    task = boss.delegate("needs", spec=needs("repo/**"))
    assert list(town.coordinator.live.line.tasks) == [task]
    boss.delegate("b1", spec={"priority": 1})
    boss.delegate("b2", spec={"priority": 1})
    boss.delegate("b3", spec={"priority": 1})
    assert len(worker.mail()) == 2
    me.say(ClaimRelease(held))
    assert town.coordinator.live.line.tasks == {}
    granted(other.say(wants("repo/**")))


def test_a_task_that_ends_in_line_lets_those_behind_it_go_on(town, boss):
    me, other = town.join("me"), town.join("other")
    town.worker("w")
    granted(me.say(wants("repo/a")))
    task = boss.delegate(spec=needs("repo/**"))
    queued(other.say(wants("repo/b", wait_ms=60_000)))
    boss.cancel(task)
    granted(other.mail()[-1])
    assert town.coordinator.live.line.tasks == {}


def test_a_task_takes_its_turn_by_priority_among_claims(town, boss):
    me, other, worker = town.join("me"), town.join("other"), town.worker("w")
    fence = granted(me.say(wants("a")))
    queued(other.say(wants("a", wait_ms=60_000, priority=1)))
    task = boss.delegate(spec=needs("a", priority=2))
    me.say(ClaimRelease(fence))
    assert worker.offer().task == task
    assert other.mail() == []


def test_a_later_attempt_is_granted_its_resources_anew(town, boss):
    worker = town.worker("w")
    boss.delegate(spec=needs("a"))
    first = worker.offer()
    worker.beat(first)
    worker.say(TaskYield(first.task, first.fence))
    second = worker.offer()
    assert second.claims == [GrantedName("a", "x", second.fence)]
    assert [reason for _, reason in ends(town)] == ["ended"]
    assert list(town.ledger.claims.by_fence) == [second.fence]


def test_what_was_given_back_meanwhile_is_waited_for_again(town, boss):
    me, worker = town.join("me"), town.worker("w")
    boss.delegate(spec=needs("a"))
    first = worker.offer()
    worker.beat(first)
    assert worker.say(ClaimRelease(first.fence)) == Ok()
    fence = granted(me.say(wants("a")))
    worker.say(TaskYield(first.task, first.fence))
    assert worker.mail() == []
    me.say(ClaimRelease(fence))
    assert worker.offer().claims == [GrantedName("a", "x", worker.mailbox[-1][1].fence)]


def test_resources_of_an_offer_that_is_not_current_are_kept_for_it(town, boss):
    one = town.worker("one")
    boss.delegate(spec=needs("a"))
    first = one.offer()
    one.beat(first)
    one.drop()
    town.pass_time(3_500)
    heir, me = town.worker("heir"), town.join("me")
    again = heir.offer()
    assert (again.granted, again.claims) == (False, [GrantedName("a", "x", again.fence)])
    assert me.refused(wants("a")) == ErrorCode.DENIED
    heir.accept(again)
    assert list(town.ledger.claims.by_fence) == [again.fence]
    assert me.refused(wants("a")) == ErrorCode.DENIED


def test_a_task_whose_lapsed_attempt_has_its_resources_is_not_behind_who_waits_for_them(town, boss):
    one = town.worker("one")
    task = boss.delegate("first", spec=needs("a"))
    one.beat(one.offer())
    heir = town.worker("heir")
    other = boss.delegate("urgent", spec=needs("a", priority=5))
    assert list(town.coordinator.live.line.tasks) == [other]
    one.drop()
    town.pass_time(3_100)
    again = heir.offer()
    assert (again.task, town.said(Settled)) == (task, []), "each would wait for the other"
    heir.accept(again)
    heir.report(again)
    assert heir.offer().task == other


def test_a_task_whose_lapsed_attempt_has_a_part_of_its_resources_goes_on_with_the_rest(town, boss):
    me, one, heir = town.join("me"), town.worker("one"), town.worker("heir", tasks=0)
    task = boss.delegate("first", spec=needs("a", "b"))
    first = one.offer()
    one.beat(first)
    granted(one.say(wants("a", offer=first)))
    one.say(ClaimRelease(first.fence))
    fence = granted(me.say(wants("b")))
    heir.say(Credit(1))
    other = boss.delegate("urgent", spec=needs("a", "b", priority=5))
    one.drop()
    town.pass_time(3_100)
    assert list(town.coordinator.live.line.tasks) == [other, task]
    me.say(ClaimRelease(fence))
    assert heir.offer().task == task


def test_resources_of_an_offer_that_was_not_taken_are_free_again(town, boss):
    town.worker("one")
    task = boss.delegate(spec=needs("a"), timers=Timers(offer_ms=100))
    boss.say(boss_cancel := _cancel(task))
    assert boss_cancel.task == task
    assert town.ledger.claims.claims == {}
    assert isinstance(town.said(Settled)[-1], Settled)


def _cancel(task):
    from a2a.protocol.messages import TaskCancel

    return TaskCancel(task, "skip")


# Reading --------------------------------------------------------------------------------------------------------------


def test_the_list_names_who_holds_and_who_waits_in_order(town, boss, workers):
    (one, offer1), (two, offer2), _ = workers
    fence = granted(one.say(wants("repo/**", offer=offer1, preemptible=True)))
    queued(two.say(wants("repo/a", offer=offer2, wait_ms=5_000)))
    town.pass_time(500)
    me = town.join("me")
    granted(me.say(wants("else", mode="s", ttl_ms=1_000)))
    page = me.say(ClaimList())
    assert isinstance(page, ClaimPage)
    first, second, third = page.claims
    assert first == {
        "state": "held",
        "claims": [{"name": "repo/**", "mode": "x"}],
        "agent": "w0",
        "task": offer1.task,
        "fence": offer1.fence,
        "claimFence": fence,
        "priority": 0,
        "preemptible": True,
        "sinceMs": 500,
    }
    assert (second["agent"], second["ttlMs"]) == ("me", 1_000)
    assert (third["state"], third["position"], third["task"]) == ("waiting", 1, offer2.task)
    assert third["waitsFor"] == [
        {"name": "repo/**", "agent": "w0", "task": offer1.task, "isHeld": True, "claimFence": fence}
    ]
    assert me.say(ClaimList("repo/b")).claims == [first]
    assert me.say(ClaimList(task=offer2.task)).claims == [third]
    assert me.say(ClaimList("repo/a")).claims == [first, third]
    assert me.say(ClaimList("repo/a", offer2.task)).claims == [third]
    assert me.say(ClaimList(limit=2)) == ClaimPage([first, second], True)


def test_the_list_names_tasks_that_wait_for_their_resources(town, boss):
    town.worker("w")
    me = town.join("me")
    granted(me.say(wants("a")))
    task = boss.delegate(spec=needs("a"))
    waiting = me.say(ClaimList("a")).claims[-1]
    assert (waiting["task"], waiting["claims"]) == (task, [{"name": "a", "mode": "x"}])
    assert waiting["waitsFor"][0]["agent"] == "me"


def test_a_page_of_a_long_line_looks_at_none_that_is_behind_it(town, boss, monkeypatch):
    town.worker("w")
    me = town.join("me")
    granted(me.say(wants("a")))
    tasks = [boss.delegate(f"task{number}", spec=needs("a")) for number in range(60)]
    looks, wait_of = [], waits.wait_of
    monkeypatch.setattr(waits, "wait_of", lambda *named: looks.append(named) or wait_of(*named))
    page = me.say(ClaimList(limit=4))
    assert [shown["task"] for shown in page.claims[1:]] == tasks[:3] and page.more
    assert [one.get("task") or one["agent"] for one in page.claims[3]["waitsFor"]] == ["me", *tasks[:2]]
    assert len(looks) == 1 + 2 + 3, "each, and those before it"


def test_of_a_long_line_a_page_names_the_first(town, boss):
    town.worker("w")
    me = town.join("me")
    granted(me.say(wants("a")))
    tasks = [boss.delegate(f"task{number}", spec=needs("a")) for number in range(18)]
    *_, full, long = me.say(ClaimList()).claims[:18]
    assert ([one.get("task") for one in full["waitsFor"]], "waitsForMore" in full) == ([None, *tasks[:15]], False)
    assert (long["waitsFor"], long["waitsForMore"]) == (full["waitsFor"], 1)


# Mailboxes ------------------------------------------------------------------------------------------------------------


def test_the_mailbox_of_a_process_stays_while_it_has_claims(town):
    me = town.join("me#1")
    granted(me.say(wants("a", ttl_ms=1_000)))
    other = town.join("other")
    granted_fence = granted(other.say(wants("b")))
    queued(me.say(wants("b", no=2, wait_ms=60_000)))
    other.say(ClaimRelease(granted_fence))
    me.acknowledge()
    me.drop()
    assert "me#1" in town.ledger.mailboxes
    town.pass_time(60_000)
    assert "me#1" not in town.ledger.mailboxes
    assert town.ledger.claims.numbers.keys() == {"agent:other"}
