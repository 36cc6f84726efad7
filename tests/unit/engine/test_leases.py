"""Leases: who has authority over a task, how it is renewed, lost, won back and given up."""

from dataclasses import replace

import pytest

from a2a.engine.decision import Decision
from a2a.engine.leases import HEARTBEAT, Case, classify, effect_scope, regain
from a2a.engine.policy import Bounds
from a2a.engine.records import (
    Accepted,
    CoordinatorStarted,
    Declined,
    Evicted,
    LeaseExpired,
    Offered,
    OfferWithdrawn,
    ReportKept,
    Revived,
    Settled,
    Yielded,
)
from a2a.engine.timers import due
from a2a.errors import ErrorCode
from a2a.protocol.canonical import content_hash
from a2a.protocol.messages import (
    AgentUpdate,
    Credit,
    Error,
    HeldStill,
    Ok,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskDecline,
    TaskHeartbeat,
    TaskLease,
    TaskOffer,
    TaskReport,
    TaskRevoke,
    TaskSteer,
    TaskVerdict,
    TaskYield,
    Timers,
)

from .conftest import KEY


@pytest.fixture
def second(town):
    """Makes another worker take over what lapses."""

    def join(name="w2"):
        return town.worker(name)

    return join


@pytest.fixture
def reoffered(town, worker, offer, second):
    """The first lease has lapsed, and the second worker has an offer it did not answer."""
    other = second()
    town.pass_time(500)
    return other, other.offer()


# Classification -------------------------------------------------------------------------------------------------------


def test_a_granted_fence_is_current_for_its_holder_only(town, boss, task, offer):
    assert classify(town.ledger, town.task(task), "w1", offer.fence) is Case.CURRENT
    assert classify(town.ledger, town.task(task), "w2", offer.fence) is Case.NOT_HOLDER


def test_a_number_that_was_minted_for_another_task_or_for_nothing_is_nobodys(town, boss, task, offer):
    other = boss.delegate("other")
    assert classify(town.ledger, town.task(other), "w1", offer.fence) is Case.NOT_HOLDER
    assert classify(town.ledger, town.task(task), "w1", 1) is Case.NOT_HOLDER


def test_a_number_beyond_the_newest_record_is_impossible_and_the_newest_is_not(town, task, offer):
    newest = town.ledger.lsn
    assert classify(town.ledger, town.task(task), "w1", newest) is not Case.IMPOSSIBLE
    assert classify(town.ledger, town.task(task), "w1", newest + 1) is Case.IMPOSSIBLE


def test_a_lapsed_fence_stays_current_until_another_accepts(town, task, offer, reoffered):
    other, again = reoffered
    assert classify(town.ledger, town.task(task), "w1", offer.fence) is Case.LAPSED
    assert classify(town.ledger, town.task(task), "w2", again.fence) is Case.OFFERED
    other.accept(again)
    assert classify(town.ledger, town.task(task), "w1", offer.fence) is Case.STALE
    assert classify(town.ledger, town.task(task), "w2", again.fence) is Case.CURRENT


def test_a_fence_whose_report_was_admitted_is_spent(town, task, worker, offer):
    worker.report(offer)
    assert classify(town.ledger, town.task(task), "w1", offer.fence) is Case.SPENT


def test_an_offer_that_was_withdrawn_is_stale(town, task, reoffered):
    _, again = reoffered
    town.pass_time(500)
    assert classify(town.ledger, town.task(task), "w2", again.fence) is Case.STALE


def test_every_case_has_an_answer_for_heartbeats():
    assert set(HEARTBEAT) == set(Case)


# The same guards for everything that needs a fence --------------------------------------------------------------------

SPEAKING = {
    "accept": lambda task, fence, digest: TaskAccept(task, fence),
    "decline": lambda task, fence, digest: TaskDecline(task, fence),
    "yield": lambda task, fence, digest: TaskYield(task, fence),
    "heartbeat": lambda task, fence, digest: TaskHeartbeat(task, fence, 7),
    "artifact": lambda task, fence, digest: TaskArtifact(task, fence, "a", 0, b"[]"),
    "ask": lambda task, fence, digest: TaskAsk(task, 1, b'["why?"]', fence=fence),
    "report": lambda task, fence, digest: TaskReport(task, fence, "completed", digest, b'["mine"]'),
}
kinds = pytest.mark.parametrize("kind", SPEAKING)


@pytest.fixture
def speak(town, hash_result, ledger_facts):
    """Say one of the above, and return (answer, new records); nothing but evidence may have come of it."""

    def say(peer, kind, task, fence):
        message = SPEAKING[kind](task, fence, hash_result("completed", b'["mine"]'))
        before, until = town.ledger.tasks.get(task), dict(town.coordinator.live.lease_until)
        state = before and (before.state, before.generation, before.authority, before.offer, before.attempts)
        count = len(town.records)
        answer = peer.say(message)
        after = town.ledger.tasks.get(task)
        assert state == (after and (after.state, after.generation, after.authority, after.offer, after.attempts))
        assert until == town.coordinator.live.lease_until, "nobody without authority keeps a lease running"
        return answer, [record for _, record in town.records[count:]]

    return say


@kinds
def test_whoever_is_not_the_holder_changes_nothing_even_with_the_right_number(town, task, offer, second, kind, speak):
    stranger = town.join("stranger")
    answer, records = speak(stranger, kind, task, offer.fence)
    if kind == "heartbeat":
        assert answer == TaskRevoke(task, offer.fence, "not_holder", "skip")
    elif kind == "report":
        assert (answer.verdict, [type(record) for record in records]) == ("not_holder", [ReportKept])
        assert (records[0].agent, records[0].verdict) == ("stranger", "not_holder")
        return
    else:
        assert answer.code == ErrorCode.NOT_HOLDER
    assert records == []


@kinds
def test_a_fence_that_was_never_minted_is_malformed(town, task, worker, offer, kind, speak):
    answer, records = speak(worker, kind, task, town.ledger.lsn + 1)
    assert (answer.code, records) == (ErrorCode.MALFORMED, [])


@kinds
def test_a_task_that_does_not_exist_is_not_found(worker, offer, kind, speak):
    answer, records = speak(worker, kind, "main-999", offer.fence)
    assert records == []
    if kind == "heartbeat":
        assert answer == TaskRevoke("main-999", offer.fence, "unknown", "skip")
    else:
        assert answer.code == ErrorCode.NOT_FOUND


@kinds
def test_a_superseded_fence_is_told_to_stop(town, task, worker, offer, reoffered, kind, speak):
    other, again = reoffered
    other.accept(again)
    answer, records = speak(worker, kind, task, offer.fence)
    if kind == "heartbeat":
        assert answer == TaskRevoke(task, offer.fence, "superseded", "skip")
    elif kind == "report":
        assert (answer.verdict, [record.verdict for record in records]) == ("stale", ["stale"])
        return
    elif kind in ("decline", "yield"):
        assert isinstance(answer, Ok), "it has no authority, as it wished"
    else:
        assert answer.code == ErrorCode.STALE
    assert records == []


@kinds
def test_a_spent_fence_changes_nothing_any_more(town, task, worker, offer, kind, speak):
    worker.report(offer)
    answer, records = speak(worker, kind, task, offer.fence)
    if kind == "heartbeat":
        assert answer == TaskRevoke(task, offer.fence, "superseded", "skip")
    elif kind == "report":
        assert (answer.verdict, [record.verdict for record in records]) == ("late", ["late"])
        return
    elif kind in ("decline", "yield"):
        assert isinstance(answer, Ok)
    else:
        assert answer.code == ErrorCode.STALE
    assert records == []


@kinds
def test_nothing_changes_a_task_that_has_ended(town, boss, task, worker, offer, kind, speak):
    boss.cancel(task, "skip")
    answer, records = speak(worker, kind, task, offer.fence)
    assert town.task(task).state == "canceled"
    if kind == "heartbeat":
        assert answer == TaskRevoke(task, offer.fence, "settled", "skip")
    elif kind == "report":
        assert (answer.verdict, [record.verdict for record in records]) == ("late", ["late"])


@kinds
def test_an_offer_that_was_withdrawn_cannot_be_used(town, task, offer, reoffered, kind, speak):
    other, again = reoffered
    other.say(Credit(0))
    town.pass_time(500)
    answer, records = speak(other, kind, task, again.fence)
    if kind == "heartbeat":
        assert answer == TaskRevoke(task, again.fence, "superseded", "skip")
    elif kind == "report":
        assert answer.verdict == "stale"
    elif kind in ("decline", "yield"):
        assert (answer, records) == (Ok(state=None if kind == "decline" else "offered"), [])
    else:
        assert answer.code == ErrorCode.STALE


# Accepting ------------------------------------------------------------------------------------------------------------


def test_the_first_offer_is_a_grant_and_needs_no_accept(town, task, offer):
    assert offer.granted
    assert town.task(task).state == "leased"
    assert town.said(Offered) == [Offered(town.now, task, "w1", granted=True)]


def test_a_later_offer_is_current_when_it_was_accepted(town, task, worker, offer, reoffered):
    other, again = reoffered
    assert not again.granted
    assert town.task(task).state == "offered"
    assert other.decide(TaskAccept(task, again.fence)) == Decision(
        [Accepted(town.now, task, again.fence)], TaskLease(task, again.fence, 3_000)
    )
    other.accept(again)
    assert (town.task(task).holder, town.task(task).authority.fence) == ("w2", again.fence)


def test_a_repeated_accept_gets_the_same_answer_and_no_record(town, task, offer, reoffered):
    other, again = reoffered
    first = other.accept(again)
    count = len(town.records)
    assert other.accept(again) == first
    assert len(town.records) == count


def test_an_accept_keeps_the_lease_running(town, task, worker, offer):
    town.pass_time(400)
    worker.accept(offer)
    town.pass_time(2_999)
    assert town.task(task).holder == "w1"
    town.pass_time(1)
    assert town.said(LeaseExpired) == [LeaseExpired(town.now, task, offer.fence, "not heard in time")]


def test_an_accept_of_a_lapsed_lease_revives_it_and_names_its_own_fence(town, task, worker, offer, reoffered):
    assert worker.accept(offer) == TaskLease(task, offer.fence, 3_000)
    assert town.task(task).holder == "w1"


def test_whoever_accepts_second_is_stale(town, task, worker, offer, reoffered):
    other, again = reoffered
    worker.accept(offer)
    assert other.refused(TaskAccept(task, again.fence)) == ErrorCode.STALE


# Heartbeats -----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_renews_the_lease_without_a_record(town, task, worker, offer):
    for _ in range(5):
        count = len(town.records)
        assert worker.beat(offer) == TaskLease(task, offer.fence, 3_000)
        assert len(town.records) == count
        town.pass_time(2_999)
    assert town.task(task).holder == "w1"


def test_a_grant_without_a_sign_of_life_lapses_after_the_offer_time(town, task, worker, offer):
    town.pass_time(499)
    assert town.task(task).holder == "w1"
    town.pass_time(1)
    assert town.task(task).authority.lapsed
    assert town.task(task).losses == 1


def test_a_heartbeat_takes_an_offer(town, task, offer, reoffered):
    other, again = reoffered
    assert other.decide(TaskHeartbeat(task, again.fence)) == Decision(
        [Accepted(town.now, task, again.fence)], TaskLease(task, again.fence, 3_000)
    )


def test_a_heartbeat_revives_a_lapsed_lease_nobody_else_has(town, task, worker, offer):
    worker.say(Credit(0))
    town.pass_time(500)
    assert town.task(task).state == "queued"
    assert worker.decide(TaskHeartbeat(task, offer.fence)) == Decision(
        [Revived(town.now, task, offer.fence)], TaskLease(task, offer.fence, 3_000)
    )
    worker.beat(offer)
    assert (town.task(task).state, town.task(task).holder) == ("leased", "w1")
    town.pass_time(2_999)
    assert town.task(task).holder == "w1"


def test_a_revived_lease_takes_the_offer_back_from_whoever_has_it(town, task, worker, offer, reoffered):
    other, again = reoffered
    assert worker.beat(offer) == TaskLease(task, offer.fence, 3_000)
    assert town.task(task).offer is None
    assert other.mail() == [TaskRevoke(task, again.fence, "superseded", "skip")]
    assert town.ledger.holding["w2"] == {}


def test_a_lease_is_revived_a_bounded_number_of_times(make_town):
    town = make_town(bounds=Bounds(revivals=2, losses=100))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.say(Credit(0))
    for _ in range(2):
        town.pass_time(3_000)
        assert isinstance(worker.beat(offer), TaskLease)
    town.pass_time(3_000)
    assert worker.beat(offer) == TaskRevoke(task, offer.fence, "superseded", "skip")
    assert worker.refused(TaskAccept(task, offer.fence)) == ErrorCode.STALE
    assert worker.report(offer) == "admitted", "what it finished is not lost"


def test_a_task_is_lost_a_bounded_number_of_times(make_town):
    town = make_town(bounds=Bounds(losses=1))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    town.pass_time(500)
    assert town.task(task).losses == 1
    assert not town.task(task).is_terminal
    worker.accept(worker.offer())
    town.pass_time(3_000)
    assert town.said(Settled) == [Settled(town.now, task, "failed", "losses", "2 attempts were lost with their agents")]


def test_an_offer_nobody_answers_is_withdrawn_and_counts_as_a_loss(town, task, offer, reoffered):
    _, again = reoffered
    town.pass_time(499)
    assert town.task(task).offer.fence == again.fence
    town.pass_time(1)
    assert town.said(OfferWithdrawn) == [OfferWithdrawn(town.now, task, again.fence, "unanswered")]
    assert town.task(task).losses == 2
    assert again.fence not in town.ledger.holding["w2"].values()


def test_unanswered_offers_end_the_task_like_lost_leases(make_town):
    town = make_town(bounds=Bounds(losses=1))
    boss, *_ = town.join("boss"), town.worker("w1"), town.worker("w2")
    task = boss.delegate()
    town.pass_time(1_000)
    assert [(end.state, end.reason) for end in town.said(Settled)] == [("failed", "losses")]
    assert isinstance(town.said()[-2], OfferWithdrawn)
    assert town.task(task).is_terminal


def test_a_lapsed_lease_gives_the_agents_credit_back(town, task, worker, offer):
    assert town.ledger.holding["w1"] == {task: offer.fence}
    worker.say(Credit(0))
    town.pass_time(500)
    assert town.ledger.holding["w1"] == {}
    worker.beat(offer)
    assert town.ledger.holding["w1"] == {task: offer.fence}


def test_a_heartbeat_while_canceling_is_told_so(town, boss, task, worker, offer):
    boss.cancel(task, "kill")
    assert worker.beat(offer) == TaskLease(task, offer.fence, 3_000, ["cancel:kill"])


def test_the_holder_of_a_lapsed_lease_that_is_canceled_ends_the_task(town, boss, task, worker, offer):
    boss.cancel(task, grace_ms=60_000)
    town.pass_time(500)
    assert town.said(LeaseExpired) == []
    assert [end.state for end in town.said(Settled)] == ["canceled"]


def test_the_newest_progress_wins(town, task, worker, offer):
    progress = town.coordinator.live.progress
    worker.beat(offer, progress_no=2, progress_bp=5_000, note="half")
    worker.beat(offer, progress_no=1, progress_bp=100, note="late")
    assert (progress[task].progress_bp, progress[task].note) == (5_000, "half")
    worker.beat(offer, progress_no=3, note="more")
    assert (progress[task].progress_no, progress[task].progress_bp, progress[task].note) == (3, 5_000, "more")


def test_the_first_progress_counts_whatever_its_number_and_what_it_leaves_out_stays(town, task, worker, offer):
    progress = town.coordinator.live.progress
    worker.beat(offer, progress_no=0, note="begun")
    assert progress[task].note == "begun"
    worker.beat(offer, progress_no=1, progress_bp=100)
    assert (progress[task].note, progress[task].progress_bp) == ("begun", 100)
    worker.beat(offer, progress_no=1, note="again")
    assert progress[task].note == "begun", "the same number is no progress"


def test_progress_starts_again_with_the_next_attempt(town, task, worker, offer, second):
    worker.beat(offer, progress_no=9, note="far")
    second()
    town.pass_time(3_000)
    assert task not in town.coordinator.live.progress


# Declining ------------------------------------------------------------------------------------------------------------


def test_a_declined_offer_goes_to_somebody_else_at_once(town, task, worker, offer, second):
    other = second()
    assert worker.decide(TaskDecline(task, offer.fence, "policy", 1_000)) == Decision(
        [Declined(town.now, task, offer.fence, "policy", town.now + 1_000)], Ok()
    )
    worker.say(TaskDecline(task, offer.fence, "policy", 1_000))
    again = other.offer()
    assert (again.task, again.granted) == (task, True), "a declined grant protects nobody"
    assert town.task(task).declines == 1


def test_an_agent_is_not_asked_again_before_the_time_it_named(town, task, worker, offer):
    worker.say(TaskDecline(task, offer.fence, retry_after_ms=1_000))
    town.pass_time(999)
    assert worker.mail() == []
    town.pass_time(1)
    assert isinstance(worker.offer(), TaskOffer)


def test_a_declined_offer_leaves_the_lapsed_lease_as_it_was(town, task, worker, offer, reoffered):
    other, again = reoffered
    other.say(Credit(0))
    worker.say(Credit(0))
    other.say(TaskDecline(task, again.fence))
    assert (town.task(task).state, town.task(task).offer) == ("queued", None)
    assert isinstance(worker.beat(offer), TaskLease)


def test_a_task_is_declined_a_bounded_number_of_times(make_town):
    town = make_town(bounds=Bounds(declines=2))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.say(TaskDecline(task, worker.offer().fence, retry_after_ms=0))
    assert not town.task(task).is_terminal
    again = worker.offer()
    assert worker.decide(TaskDecline(task, again.fence, "budget")) == Decision(
        [
            Declined(town.now, task, again.fence, "budget", town.now + 1_000),
            Settled(town.now, task, "failed", "declines", "declined 2 times, last: budget"),
        ],
        Ok(),
    )


def test_an_attempt_that_asks_is_under_way_and_is_not_declined(task, worker, offer):
    worker.say(TaskAsk(task, 1, b"[]", fence=offer.fence))
    assert worker.refused(TaskDecline(task, offer.fence)) == ErrorCode.CONFLICT


def test_an_attempt_that_is_canceled_is_under_way_and_is_not_declined(boss, task, worker, offer):
    boss.cancel(task)
    assert worker.refused(TaskDecline(task, offer.fence)) == ErrorCode.CONFLICT


def test_a_decline_that_comes_after_the_lease_lapsed_is_agreed_to_without_a_record(town, task, worker, offer):
    worker.say(Credit(0))
    town.pass_time(500)
    count = len(town.records)
    assert worker.say(TaskDecline(task, offer.fence)) == Ok()
    assert len(town.records) == count


def test_a_repeated_decline_is_agreed_to_without_a_record(town, task, worker, offer):
    worker.say(TaskDecline(task, offer.fence))
    count = len(town.records)
    assert worker.say(TaskDecline(task, offer.fence)) == Ok()
    assert len(town.records) == count


# Yielding -------------------------------------------------------------------------------------------------------------


def test_a_yield_of_a_draining_agent_gives_the_task_back_and_counts_against_nobody(town, task, worker, offer):
    worker.say(AgentUpdate(status="draining"))
    assert worker.decide(TaskYield(task, offer.fence, "shutting down")) == Decision(
        [Yielded(town.now, task, offer.fence, "shutting down")], Ok()
    )
    worker.say(TaskYield(task, offer.fence))
    now = town.task(task)
    assert (now.state, now.losses, now.failures, now.declines, now.shunned) == ("queued", 0, 0, 0, {})
    assert now.authority.is_open is False
    assert town.ledger.holding["w1"] == {}


def test_a_draining_agent_ends_no_task_by_giving_it_back(make_town):
    town = make_town(bounds=Bounds(declines=1))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.say(AgentUpdate(status="draining"))
    worker.say(TaskYield(task, worker.offer().fence))
    assert town.task(task).state == "queued"


def test_any_other_yield_counts_as_a_decline_and_is_bounded(make_town):
    town = make_town(bounds=Bounds(declines=2))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    for _ in range(2):
        worker.say(TaskYield(task, town.task(task).authority.fence, "no"))
    assert (town.task(task).state, town.task(task).settled.reason) == ("failed", "declines")


def test_an_attempt_canceled_unasked_counts_as_a_decline_and_is_bounded(make_town):
    town = make_town(bounds=Bounds(declines=2))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    for _ in range(2):
        digest = content_hash({"outcome": "canceled"}, b"[]")
        worker.say(TaskReport(task, town.task(task).authority.fence, "canceled", digest))
    assert (town.task(task).state, town.task(task).settled.reason) == ("failed", "declines")


def test_a_yielded_offer_is_a_decline(town, task, offer, reoffered):
    other, again = reoffered
    assert other.decide(TaskYield(task, again.fence)) == Decision(
        [Declined(town.now, task, again.fence, "busy", town.now)], Ok()
    )


def test_yielded_offers_are_bounded_like_declines(make_town):
    town = make_town(bounds=Bounds(declines=1))
    boss, *_ = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    other = town.worker("w2")
    town.pass_time(500)
    other.say(TaskYield(task, other.offer().fence))
    assert [(end.state, end.reason) for end in town.said(Settled)] == [("failed", "declines")]


def test_a_yield_while_canceling_ends_the_task(town, boss, task, worker, offer):
    boss.cancel(task, reason="enough")
    assert worker.decide(TaskYield(task, offer.fence)) == Decision(
        [Settled(town.now, task, "canceled", "canceled", "enough", "boss")], Ok(state="canceled")
    )


def test_a_lapsed_attempt_may_still_be_given_back(town, task, worker, offer):
    worker.say(Credit(0))
    town.pass_time(500)
    assert worker.say(TaskYield(task, offer.fence)) == Ok()
    assert classify(town.ledger, town.task(task), "w1", offer.fence) is Case.SPENT


def test_after_a_yield_the_next_offer_is_a_grant_again(town, task, worker, offer):
    worker.say(TaskYield(task, offer.fence))
    assert worker.offer().granted


# Regaining ------------------------------------------------------------------------------------------------------------


def test_only_a_fence_that_may_be_current_is_regained(town, task, worker, offer, reoffered):
    _, again = reoffered
    world, now = town.coordinator.world, town.now
    assert regain(world, town.task(task), "w2", again.fence, now) == [Accepted(now, task, again.fence)]
    assert regain(world, town.task(task), "w1", offer.fence, now) == [Revived(now, task, offer.fence)]
    assert regain(world, town.task(task), "w2", offer.fence, now) is None
    worker.beat(offer)
    assert regain(world, town.task(task), "w1", offer.fence, now) == []
    assert regain(world, town.task(task), "w2", again.fence, now) is None


def test_an_artifact_and_a_question_are_signs_of_life(town, task, worker, offer, reoffered):
    other, again = reoffered
    records = other.decide(TaskArtifact(task, again.fence, "a", 0, b"[]")).records
    assert records[0] == Accepted(town.now, task, again.fence)
    records = worker.decide(TaskAsk(task, 1, b"[]", fence=offer.fence)).records
    assert records[0] == Revived(town.now, task, offer.fence)


def test_a_refusal_says_which_fence_is_current(task, worker, offer, reoffered):
    other, again = reoffered
    other.accept(again)
    answer = worker.say(TaskAccept(task, offer.fence))
    assert answer == Error(
        "stale", f"fence {offer.fence} of task {task} is stale, the current one is {again.fence}", retryable=False
    )


def test_a_verdict_on_a_stranger_names_it(town, task, offer, hash_result):
    stranger = town.join("stranger")
    answer = stranger.say(TaskReport(task, offer.fence, "completed", hash_result("completed", b"[]")))
    assert answer == TaskVerdict(
        task, offer.fence, "not_holder", f"fence {offer.fence} of task {task} is not stranger's"
    )


# Attempts taken away --------------------------------------------------------------------------------------------------


def notices(peer, kind):
    return [message for message in peer.mail() if isinstance(message, kind)]


@pytest.fixture
def busy(make_town):
    """A task whose attempts may stand still for 4 s and take 9 s, held by w1, in a town with a second agent."""
    town = make_town()
    boss = town.join("boss")
    worker = town.worker("w1")
    boss.delegate(timers=Timers(stall_ms=4_000, attempt_ms=9_000))
    offer = worker.offer()
    worker.beat(offer)
    return town, worker, offer


def beating(town, worker, offer, ms, **fields):
    """Let time pass while the agent beats every second, and return the last answer."""
    answer = None
    for _ in range(ms // 1_000):
        town.pass_time(1_000)
        answer = worker.beat(offer, **fields)
    return answer


def test_an_attempt_that_stands_still_is_taken_away_though_it_beats(busy):
    town, worker, offer = busy
    beating(town, worker, offer, 3_000, progress_no=0)
    assert town.said(Evicted) == []
    town.pass_time(1_000)
    assert town.said(Evicted) == [Evicted(town.now, offer.task, offer.fence, "stall", town.now + 2_000)]
    assert notices(worker, TaskRevoke) == [TaskRevoke(offer.task, offer.fence, "stall", "coop", 2_000)]
    assert isinstance(worker.beat(offer), TaskLease), "within the grace it is still the holder"


@pytest.mark.parametrize("how", ["progress", "checkpoint", "artifact"])
def test_progress_a_checkpoint_and_an_artifact_are_movement(busy, how):
    town, worker, offer = busy
    beating(town, worker, offer, 3_000)
    if how == "progress":
        worker.beat(offer, progress_no=1)
    elif how == "checkpoint":
        worker.say(TaskCheckpoint(offer.task, offer.fence, 1, b"[]"))
    else:
        worker.say(TaskArtifact(offer.task, offer.fence, "a", 0, b"[]"))
    beating(town, worker, offer, 3_000, progress_no=1 if how == "progress" else 0)
    assert town.said(Evicted) == []
    town.pass_time(1_000)
    assert [record.reason for record in town.said(Evicted)] == ["stall"]


def test_a_repeat_is_no_movement(busy):
    town, worker, offer = busy
    left = [TaskCheckpoint(offer.task, offer.fence, 1, b"[]"), TaskArtifact(offer.task, offer.fence, "a", 0, b"[]")]
    for message in left:
        worker.say(message)
    beating(town, worker, offer, 3_000)
    for message in left:
        worker.say(message)
    town.pass_time(1_000)
    assert [record.reason for record in town.said(Evicted)] == ["stall"]


def test_waiting_for_an_answer_is_no_standing_still(town, boss, worker):
    boss.delegate(timers=Timers(stall_ms=2_000, attempt_ms=3_000))
    offer = worker.offer()
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    beating(town, worker, offer, 6_000)
    assert town.said(Evicted) == []
    boss.say(TaskAnswer(offer.task, 1, b"[]"))
    beating(town, worker, offer, 1_000)
    assert town.said(Evicted) == []
    town.pass_time(1_000)
    assert [record.reason for record in town.said(Evicted)] == ["stall"]


def test_an_attempt_that_takes_too_long_is_taken_away_though_it_gets_on(busy):
    town, worker, offer = busy
    for number in range(1, 9):
        beating(town, worker, offer, 1_000, progress_no=number)
    assert town.said(Evicted) == []
    town.pass_time(1_000)
    assert town.said(Evicted) == [Evicted(town.now, offer.task, offer.fence, "attempt", town.now + 2_000)]


@pytest.mark.parametrize("reason", ["stall", "attempt"])
def test_after_the_grace_the_lease_lapses_and_is_one_loss_and_a_second_agent_has_the_task(town, boss, worker, reason):
    task = boss.delegate(timers=Timers(**{f"{reason}_ms": 4_000}))
    offer = worker.offer()
    worker.beat(offer)
    beating(town, worker, offer, 5_000)
    other = town.worker("w2")
    town.pass_time(999)
    assert town.said(LeaseExpired) == []
    worker.beat(offer)
    town.pass_time(1)
    assert town.said(LeaseExpired) == [LeaseExpired(town.now, task, offer.fence, reason)]
    assert town.task(task).losses == 1
    assert worker.beat(offer) == TaskRevoke(task, offer.fence, "superseded", "skip"), "no sign of life revives it"
    assert worker.refused(TaskCheckpoint(task, offer.fence, 1, b"[]")) == ErrorCode.STALE
    assert town.said(Revived) == []
    other.accept(other.offer())
    assert town.task(task).holder == "w2"
    assert worker.report(offer) == "stale"


def test_a_report_after_the_grace_counts_until_somebody_else_has_accepted(busy):
    town, worker, offer = busy
    beating(town, worker, offer, 5_000)
    other = town.worker("w2")
    town.pass_time(1_000)
    given = other.offer()
    assert not given.granted
    assert worker.report(offer) == "admitted"
    assert notices(other, TaskRevoke) == [TaskRevoke(offer.task, given.fence, "superseded", "skip")]
    assert town.task(offer.task).losses == 1


@pytest.mark.parametrize("when", ["in the grace", "after it"])
def test_an_attempt_that_is_given_back_when_it_was_taken_away_is_lost_once(busy, when):
    town, worker, offer = busy
    beating(town, worker, offer, 4_000)
    if when == "after it":
        beating(town, worker, offer, 2_000)
    worker.say(TaskYield(offer.task, offer.fence))
    task = town.task(offer.task)
    assert (task.losses, task.declines) == (1, 0)
    assert town.said(Yielded)[0].lost is (when == "in the grace")
    assert task.lost_by == ["w1"]


@pytest.mark.parametrize("how", ["yield", "decline", "report", "lapse"])
def test_an_attempt_taken_away_for_its_holders_fault_ends_the_task_when_it_was_lost_too_often(make_town, how):
    town = make_town(bounds=Bounds(losses=0))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate(timers=Timers(stall_ms=1_000))
    offer = worker.offer()
    worker.beat(offer)
    beating(town, worker, offer, 1_000)
    end_taken_away(town, worker, offer, how)
    (ended,) = town.said(Settled)
    assert (ended.reason, ended.detail) == ("losses", "1 attempts were lost with their agents")
    assert (town.task(task).losses, town.task(task).declines) == (1, 0)


def end_taken_away(town, worker, offer, how):
    if how == "yield":
        worker.say(TaskYield(offer.task, offer.fence))
    elif how == "decline":
        worker.say(TaskDecline(offer.task, offer.fence))
    elif how == "report":
        worker.report(offer, "canceled")
    else:
        beating(town, worker, offer, 2_000)


def take_away(town, boss, worker, offer, why):
    """Take the attempt away for nobody's fault."""
    if why == "drain":
        worker.say(AgentUpdate(status="draining", grace_ms=2_000))
    elif why == "steer":
        boss.say(TaskSteer(offer.task, "k", b"[]", mode="interrupt"))
    else:
        worker.beat(offer, usage={"tokens": 10})


@pytest.mark.parametrize("how", ["yield", "decline", "report", "lapse"])
@pytest.mark.parametrize("why", ["drain", "steer", "budget"])
def test_what_is_taken_away_for_nobodys_fault_counts_as_nothing(make_town, why, how):
    town = make_town(bounds=Bounds(losses=0, declines=1))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate(budget={"tokens": 10})
    offer = worker.offer()
    worker.beat(offer)
    take_away(town, boss, worker, offer, why)
    (evicted,) = town.said(Evicted)
    assert (evicted.reason, evicted.grace_at) == (why, town.now + 2_000)
    end_taken_away(town, worker, offer, how)
    held = town.task(task)
    assert (held.losses, held.declines, held.lost_by) == (0, 0, [])
    assert [record.reason for record in town.said(Settled)] == (["budget"] if why == "budget" else [])
    assert [record.counted for record in town.said(LeaseExpired)] == ([False] if how == "lapse" else [])


def test_an_attempt_is_taken_away_once(town, boss, worker):
    boss.delegate(timers=Timers(stall_ms=1_000), budget={"tokens": 5})
    offer = worker.offer()
    worker.beat(offer)
    beating(town, worker, offer, 1_000)
    worker.beat(offer, usage={"tokens": 9})
    boss.say(TaskSteer(offer.task, "k", b"[]", mode="interrupt"))
    worker.say(AgentUpdate(status="draining", grace_ms=0))
    assert [record.reason for record in town.said(Evicted)] == ["stall"]


def test_a_question_does_not_keep_what_was_taken_away(busy):
    town, worker, offer = busy
    beating(town, worker, offer, 4_000)
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    beating(town, worker, offer, 2_000)
    assert [record.reason for record in town.said(LeaseExpired)] == ["stall"]
    assert due(town.coordinator.world, town.task(offer.task), town.now) == [], "it lapses once"
    assert (str(town.task(offer.task).state), town.task(offer.task).holder) == ("parked", None)


def test_what_was_taken_away_and_is_canceled_has_the_time_of_the_cancel(busy):
    town, worker, offer = busy
    beating(town, worker, offer, 4_000)
    town.join("boss#2", secret=town.secrets["boss"]).cancel(offer.task, grace_ms=5_000)
    beating(town, worker, offer, 4_000)
    assert town.task(offer.task).state == "canceling"
    assert worker.report(offer) == "admitted"


def test_what_was_taken_away_stays_so_over_a_restart_and_a_reconnection(busy):
    town, worker, offer = busy
    beating(town, worker, offer, 4_000)
    again = town.restart()
    back = again.worker("w1", held=[HeldStill(offer.task, offer.fence)])
    assert back.welcome.held[0].verdict == "keep"
    beating(again, back, offer, 3_000)
    assert [record.reason for record in again.said(LeaseExpired)] == ["stall"]
    back.drop()
    back = again.worker("w1", held=[HeldStill(offer.task, offer.fence)])
    assert back.welcome.held[0].verdict == "stale"
    assert again.said(Revived) == []


def test_nobody_was_seen_to_stand_still_before_the_start(busy):
    town, worker, offer = busy
    beating(town, worker, offer, 3_000)
    again = town.restart(after=1_000)
    back = again.worker("w1", held=[HeldStill(offer.task, offer.fence)])
    beating(again, back, offer, 3_000)
    assert again.said(Evicted) == []
    again.pass_time(1_000)
    assert [record.reason for record in again.said(Evicted)] == ["stall"]


def test_a_new_process_that_lost_what_was_taken_away_is_judged_by_the_reason(town, boss, worker, offer, task):
    worker.beat(offer)
    take_away(town, boss, worker, offer, "steer")
    town.worker("w1", instance_id="again", incarnation=2)
    assert [record.counted for record in town.said(LeaseExpired)] == [False]


def test_an_older_attempt_that_was_taken_away_excuses_nobody_after_it(town, boss, worker, offer, task):
    worker.beat(offer)
    take_away(town, boss, worker, offer, "steer")
    beating(town, worker, offer, 1_000)
    other = town.worker("w2")
    town.pass_time(1_000)
    given = other.offer()
    other.report(given, "canceled")
    assert town.task(task).declines == 1


# The scope of effects -------------------------------------------------------------------------------------------------


def test_all_offers_of_a_task_have_one_effect_scope_also_after_a_start(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.say(TaskDecline(offer.task, offer.fence, "busy", 0))
    again = worker.offer()
    assert (again.task, again.attempt, len(again.effect_scope)) == (task, 2, 32)
    assert again.effect_scope == offer.effect_scope
    restarted = town.restart()
    assert effect_scope(restarted.ledger, restarted.task(task)) == offer.effect_scope


def test_another_ledger_has_another_effect_scope(town, boss):
    boss.delegate("k", "none")
    (task,) = town.ledger.tasks.values()
    before = effect_scope(town.ledger, task)
    town.ledger.proof_key = "another key"
    assert effect_scope(town.ledger, task) not in ("", before)
    town.ledger.proof_key = KEY


def test_a_task_from_before_there_were_effect_scopes_goes_on_without_one(make_town):
    town = make_town()
    boss = town.join("boss")
    older = boss.delegate("older", "none")
    records = [
        (lsn, replace(record, scopes_effects=False) if isinstance(record, CoordinatorStarted) else record)
        for lsn, record in town.records
    ]
    again = make_town(records)
    again.secrets = dict(town.secrets)
    newer = again.join("boss", incarnation=2).delegate("newer", "none")
    assert effect_scope(again.ledger, again.task(older)) == ""
    assert effect_scope(again.ledger, again.task(newer)) != ""
