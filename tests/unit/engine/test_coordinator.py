"""The machine as a whole: frames and time in, records and frames out."""

from functools import partial

import pytest

from a2a.engine.coordinator import Coordinator
from a2a.engine.policy import Durations, Policy
from a2a.engine.records import CoordinatorStarted, Evicted, LeaseExpired, OfferWithdrawn, Settled
from a2a.errors import ErrorCode
from a2a.protocol.codec import BadFrame, Frame
from a2a.protocol.messages import (
    AgentFind,
    AttemptError,
    Bye,
    Error,
    HeldStill,
    Hello,
    MailboxAck,
    Ok,
    Ping,
    Pong,
    Resume,
    TaskAccept,
    TaskAsk,
    TaskCheckpoint,
    TaskCreated,
    TaskDelegate,
    TaskGet,
    TaskHeartbeat,
    TaskLease,
    TaskLimits,
    TaskOffer,
    TaskRevoke,
    TaskSteer,
    TaskVerdict,
    TaskWatch,
    TaskYield,
    Timers,
    Unknown,
    Welcome,
)

from .conftest import KEY

# Frames ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [Ping("n"), TaskDelegate("k", {"skill": "s"}), MailboxAck(0), Unknown("x.y", {})])
def test_the_first_frame_is_a_hello(town, message):
    peer = town.dial()
    assert peer.refused(message) == ErrorCode.AUTH
    assert peer.closed == "no hello"
    assert peer.say(town.hello("w1")) is None, "the connection is over"


def test_a_peer_is_welcomed_once(town, boss):
    assert boss.refused(town.hello("boss")) == ErrorCode.CONFLICT
    assert boss.refused(town.hello("other")) == ErrorCode.CONFLICT
    assert boss.closed is None
    assert boss.seat.agent == "boss"


@pytest.mark.parametrize("message", [Unknown("x.y", {}), TaskLease("main-1", 1, 1), Ok()])
def test_a_kind_a_coordinator_does_not_take_is_unsupported_and_fatal_only_where_it_must_be_understood(boss, message):
    answer = boss.say(message)
    name = "x.y" if isinstance(message, Unknown) else message.kind
    assert answer == Error("unsupported_kind", f"a coordinator does not take {name}")
    assert boss.closed is None
    assert boss.refused(message, must=True) == ErrorCode.UNSUPPORTED_KIND
    assert boss.closed == f"{name} is not supported"


@pytest.mark.parametrize("message", [Pong("n"), Error("malformed", "what?")])
def test_what_needs_no_answer_gets_none(boss, message):
    assert boss.say(message, must=True) is None
    assert boss.closed is None


@pytest.mark.parametrize("fatal", [False, True])
def test_what_was_not_a_frame_is_answered(town, boss, fatal):
    boss.garble(BadFrame(ErrorCode.TOO_LARGE, "too much", fatal, "r99"))
    assert boss.replies["r99"] == Error("too_large", "too much")
    assert boss.closed == ("too much" if fatal else None)
    assert ("boss" in town.coordinator.live.agents) is not fatal


def test_a_kind_that_is_not_taken_is_unsupported_whatever_is_wrong_with_its_fields(boss):
    boss.garble(BadFrame(ErrorCode.MALFORMED, "task.created: task: Field required", False, "r7", "task.created"))
    assert boss.replies["r7"] == Error("unsupported_kind", "a coordinator does not take task.created")
    boss.garble(BadFrame(ErrorCode.MALFORMED, "task.cancel: task: Field required", False, "r8", "task.cancel"))
    assert boss.replies["r8"] == Error("malformed", "task.cancel: task: Field required")
    boss.garble(BadFrame(ErrorCode.MALFORMED, "pong: nonce: Field required", False, "r9", "pong"))
    assert boss.replies["r9"] == Error("malformed", "pong: nonce: Field required")


def test_a_hello_that_cannot_be_read_ends_the_connection(town):
    """Spec HELLO-5: what is not welcomed has one try."""
    stranger = town.dial()
    stranger.garble(BadFrame(ErrorCode.MALFORMED, "agentId is not of that form", False, "r1"))
    assert stranger.closed == "agentId is not of that form"


def test_what_was_not_a_frame_and_has_no_id_is_answered_too(boss):
    boss.garble(BadFrame(ErrorCode.MALFORMED, "what?", False))
    assert boss.notices == [Error("malformed", "what?")]


def test_an_unread_answer_to_a_closed_connection_is_nothing(town, boss):
    boss.drop()
    count = len(town.records)
    assert boss.say(Ping("n")) is None
    boss.garble(BadFrame(ErrorCode.MALFORMED, "what?", True))
    boss.drop()
    assert len(town.records) == count


def test_frames_are_numbered_addressed_and_answer_what_was_asked(town, boss):
    boss.say(Ping("n"))
    ids = [frame.id for frame in boss.frames]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("1.") for name in ids)
    assert {frame.to for frame in boss.frames} == {"boss"}
    again = town.restart().join("boss")
    assert again.frames[0].id.startswith("2.")


def test_the_answer_comes_before_the_mail_it_causes(town):
    worker = town.worker("w1")
    worker.delegate()
    assert [type(frame.message) for frame in worker.frames[1:]] == [TaskCreated, TaskOffer]


def test_a_coordinator_that_has_to_stop_says_so_for_good(town):
    worker = town.worker("w1")
    town.join("boss").delegate()
    offer = worker.offer()
    older = town.restart(lost=1)
    older.dial().say(older.hello("w1", held=[HeldStill(offer.task, offer.fence, 0, offer.proof)]))
    assert older.coordinator.ready(older.now).halt
    older.join("boss")
    assert older.coordinator.ready(older.now).halt


def test_records_are_handed_out_with_the_frames_they_allow(town):
    coordinator = town.coordinator
    boss, worker = town.join("boss"), town.worker("w1")
    assert not coordinator.ready(town.now)
    frame = Frame("r", TaskDelegate("k", {"skill": "echo"}))
    coordinator.step(boss.connection, frame, town.now)
    ready = coordinator.ready(town.now)
    town.records.extend(ready.records)
    assert [type(record).__name__ for _, record in ready.records] == ["Delegated", "Offered"]
    assert [(to, type(frame.message)) for to, frame in ready.frames] == [
        (boss.connection, TaskCreated),
        (worker.connection, TaskOffer),
    ]
    assert not coordinator.ready(town.now)


def test_a_reply_may_wait_as_long_as_who_asked_says(town):
    coordinator, boss = town.coordinator, town.join("boss")
    for number, (key, slack_ms) in enumerate([("k", 200), ("k", 300), ("l", None), ("m", 0)]):
        delegate = TaskDelegate(key, {"skill": "echo"})
        coordinator.step(boss.connection, Frame(f"{number}", delegate, slack_ms=slack_ms), town.now)
    coordinator.step(boss.connection, Frame("4", TaskGet("none"), slack_ms=400), town.now)
    ready = coordinator.ready(town.now)
    town.records.extend(ready.records)
    assert {frame.re: ready.slack.get(frame.id) for _, frame in ready.frames} == {
        "0": 200,
        "1": None,
        "2": None,
        "3": None,
        "4": None,
    }


# Time -----------------------------------------------------------------------------------------------------------------


def test_time_never_goes_back(town, boss):
    town.worker("w1")
    town.now -= 3_600_000
    boss.delegate()
    town.coordinator.tick(town.now)
    town.flush()
    times = [record.at for record in town.said()]
    assert times == sorted(times)


def test_the_next_deadline_is_the_earliest_of_all(town, boss):
    boss.delegate("1", limits=TaskLimits(deadline_ms=5_000))
    boss.delegate("2", limits=TaskLimits(deadline_ms=3_000))
    assert town.coordinator.next_deadline() == town.now + 3_000
    boss.delegate("3", limits=TaskLimits(deadline_ms=9_000))
    assert town.coordinator.next_deadline() == town.now + 3_000
    town.pass_time(5_000)
    assert [end.reason for end in town.said(Settled)] == ["deadline", "deadline"]
    assert town.coordinator.next_deadline() == town.now + 4_000


def test_a_timer_that_comes_early_is_looked_at_again(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    town.pass_time(499)
    worker.beat(offer)
    town.pass_time(1)
    assert town.task(task).holder == "w1"
    town.pass_time(2_999)
    assert town.task(task).state == "offered"


@pytest.mark.parametrize("message", [TaskAccept, TaskHeartbeat, partial(TaskCheckpoint, cp_no=1, payload=b"[]")])
def test_a_lease_shorter_than_the_offer_it_began_with_ends_in_time(make_town, message):
    town = make_town(durations=Durations(heartbeat_ms=1_000, lease_ms=3_000, offer_ms=60_000))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.say(message(task, worker.offer().fence))
    town.pass_time(2_999)
    assert town.task(task).holder == "w1"
    town.pass_time(1)
    assert town.task(task).holder is None


# Starting again -------------------------------------------------------------------------------------------------------


def test_a_start_is_a_record_and_counts(town):
    assert town.said() == [CoordinatorStarted(town.now, 1, "main", KEY, scopes_effects=True)]
    assert town.restart().restart().said()[-1] == CoordinatorStarted(town.now, 3, "main"), (
        "it has its key, and its scopes"
    )


def test_what_was_answered_is_there_after_a_restart(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    again = town.restart()
    assert again.join("boss").say(
        TaskDelegate("k", {"skill": "echo", "acceptance": {"evaluator": "delegator"}})
    ) == TaskCreated(task, 2, False, "leased", again.task(task).context_id)
    worker = again.worker("w1", held=[HeldStill(task, offer.fence)], resume=Resume(1))
    assert worker.report(offer) == "admitted"
    assert worker.report(offer) == "duplicate"
    assert again.restart().worker("w1").report(offer) == "duplicate"


def test_fences_go_on_rising_after_a_restart(town, boss):
    worker = town.worker("w1")
    first = boss.delegate("1")
    fence = worker.offer().fence
    again = town.restart()
    worker, boss = again.worker("w1", tasks=2), again.join("boss")
    second = boss.delegate("2")
    assert second != first
    assert worker.offer().fence > fence


def test_no_stored_deadline_fires_before_the_grace_is_over(make_town):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=3_000, queue_ms=800, confirm_ms=700))
    boss, worker = town.join("boss"), town.worker("w1", "a", tasks=3)
    boss.delegate("queued", "nobody")
    boss.delegate("deadline", "nobody", limits=TaskLimits(deadline_ms=600))
    asked, waits, holds = (boss.delegate(key, "a") for key in ("asked", "waits", "holds"))
    offers = {offer.task: offer for offer in worker.mail()}
    worker.beat(offers[asked])
    worker.say(TaskAsk(asked, 1, b"[]", fence=offers[asked].fence, timeout_ms=900))
    worker.report(offers[waits])
    worker.beat(offers[holds])
    again = town.restart(after=60_000)
    count = len(again.records)
    again.pass_time(2_999)
    assert len(again.records) == count
    assert again.coordinator.next_deadline() == again.now + 1
    again.pass_time(1)
    assert sorted(end.reason for end in again.said(Settled)) == ["", "deadline", "no_capable_agent", "unanswered"]
    assert [expired.task for expired in again.said(LeaseExpired)] == [holds]


def test_the_grace_is_as_long_as_the_longest_lease_that_may_come_back(make_town):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=3_000))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    other = town.worker("w2")
    town.pass_time(500)
    offer = other.offer()
    assert town.task(task).holder is None
    again = town.restart(after=60_000)
    again.pass_time(2_999)
    assert again.said(OfferWithdrawn) == [], "a restart of the coordinator is no loss of the agent"
    assert isinstance(again.worker("w2").beat(offer), TaskLease)
    assert worker.closed is None


def test_of_several_leases_the_longest_is_waited_for(town, boss):
    worker = town.worker("w1", tasks=3)
    for lease_ms in (600, 5_000, 900):
        boss.delegate(f"{lease_ms}", timers=Timers(lease_ms=lease_ms, heartbeat_ms=100))
        worker.beat(worker.offer())
    boss.delegate("late", "nobody", limits=TaskLimits(deadline_ms=700))
    again = town.restart(after=1_000)
    again.pass_time(4_999)
    assert again.said(Settled, LeaseExpired) == []
    again.pass_time(1)
    assert [end.reason for end in again.said(Settled)] == ["deadline"]


def test_without_leases_there_is_no_grace(town, boss):
    boss.delegate(limits=TaskLimits(deadline_ms=600))
    again = town.restart(after=1_000)
    again.pass_time(0)
    assert [end.reason for end in again.said(Settled)] == ["deadline"]


def test_a_lease_that_is_spent_needs_no_grace(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    worker.report(worker.offer())
    again = town.restart(after=60_000)
    again.pass_time(0)
    assert [end.by for end in again.said(Settled)] == ["timer"]


def test_a_holder_that_keeps_beating_over_a_restart_loses_nothing(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    again = town.restart(after=60_000)
    again.pass_time(2_000)
    worker = again.worker("w1", held=[HeldStill(task, offer.fence)])
    again.pass_time(2_999)
    assert again.task(task).holder == "w1"
    assert again.task(task).losses == 0


def test_a_pause_after_a_failure_goes_on_after_a_restart(make_town):
    town = make_town(backoff_ms=60_000)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.report(worker.offer(), "failed", error=AttemptError(retryable=True))
    again = town.restart()
    worker = again.worker("w1")
    assert worker.mail() == [TaskRevoke(task, min(again.task(task).attempts), "superseded", "skip")]
    again.pass_time(again.task(task).retry_at - again.now)
    assert isinstance(worker.offer(), TaskOffer)


def test_queued_tasks_are_offered_after_a_restart(town, boss):
    task = boss.delegate()
    again = town.restart()
    assert again.worker("w1").offer().task == task


def test_a_ledger_whose_clock_ran_ahead_is_not_overtaken(town):
    again = town.restart(after=-3_600_000)
    assert again.said()[-1].at == town.now


# Coming and going -----------------------------------------------------------------------------------------------------


def test_what_an_agent_holds_outlives_its_connection(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.drop()
    town.pass_time(400)
    assert town.task(task).holder == "w1"
    again = town.worker("w1")
    assert again.beat(offer) == TaskLease(task, offer.fence, 3_000)


def test_a_connection_that_was_taken_over_cannot_end_the_new_one(town):
    old = town.worker("w1")
    new = town.worker("w1")
    town.coordinator.closed(old.connection, town.now)
    assert town.coordinator.live.agents["w1"] is new.seat
    assert old.say(Ping("n")) is None


def test_a_connection_that_was_taken_over_watches_nothing(town, boss):
    task = boss.delegate()
    boss.say(TaskWatch(task))
    boss.say(AgentFind(watch=True))
    new = town.join("boss")
    assert boss.notices[-1] == Bye("connected again")
    count = len(boss.notices)
    town.worker("w1")
    assert len(boss.notices) == count
    assert new.closed is None


def test_the_shell_learns_who_was_welcomed_and_who_holds_work(town, boss):
    coordinator = town.coordinator
    worker, silent = town.worker("w1"), town.dial()
    assert [coordinator.is_welcomed(peer.connection) for peer in (worker, silent)] == [True, False]
    assert not coordinator.is_welcomed(99)
    boss.delegate()
    assert [coordinator.is_busy(peer.connection) for peer in (worker, boss, silent)] == [True, False, False]
    assert not coordinator.is_busy(99)
    worker.report(worker.offer())
    assert not coordinator.is_busy(worker.connection)


def test_an_agent_that_is_free_again_gets_what_waits_for_it_also_after_a_detour(town, boss):
    worker = town.worker("w1", "echo", "other")
    boss.delegate()
    offer = worker.offer()
    town.worker("w2")
    town.pass_time(500)
    worker.beat(offer)
    waiting = boss.delegate("next", "other")
    assert town.task(waiting).state == "queued"
    worker.report(offer)
    assert town.task(waiting).holder == "w1"


def test_nothing_volatile_is_left_of_what_has_ended(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    worker.beat(worker.offer(), progress_no=1)
    boss.cancel(task, "skip")
    assert (town.coordinator.live.lease_until, town.coordinator.live.progress) == ({}, {})


# The whole way --------------------------------------------------------------------------------------------------------


def test_a_task_goes_from_hand_to_hand_until_it_is_done(town, boss):
    first = town.worker("w1")
    task = boss.delegate()
    second = town.worker("w2")
    first.say(TaskYield(task, first.offer().fence))
    offer = (first.mail() + second.mail())[0]
    worker = first if town.task(task).holder == "w1" else second
    worker.say(TaskAsk(task, 1, b"[]", fence=offer.fence, timeout_ms=1_000, default=b"[]"))
    town.pass_time(1_000)
    verdict = worker.say(worker.reporting(offer))
    assert verdict == TaskVerdict(task, offer.fence, "admitted")
    assert boss.confirm(boss.mail()[-1]) == Ok(state="completed")
    assert [event.event for event in town.task(task).history] == [
        "created",
        "grant",
        "release",
        "grant",
        "ask",
        "answer",
        "report",
        "complete",
    ]
    generations = [event.generation for event in town.task(task).history]
    assert generations == list(range(1, 9))


@pytest.mark.parametrize("at", range(1, 24))
def test_every_prefix_of_the_records_is_a_state_to_start_from(town, at):
    boss, worker = town.join("boss"), town.worker("w1", tasks=2)
    boss.delegate("1")
    offer = worker.offer()
    worker.say(TaskAsk(offer.task, 1, b"[]", fence=offer.fence, default=b"[]", timeout_ms=300))
    town.pass_time(3_000)
    boss.delegate("2", acceptance="auto")
    for offer in worker.mail():
        if isinstance(offer, TaskOffer):
            worker.report(offer)
    boss.cancel(boss.delegate("3", "nobody"))
    boss.confirm(next(message for message in boss.mail() if message.kind == "task.review"))
    records = [record for _, record in town.records[:at]]
    again = Coordinator(Policy(durations=town.policy.durations))
    again.restore(records, "another key", town.now)
    assert again.ledger.lsn == len(records) + 1
    again.opened(1, "s", town.now)
    again.step(1, Frame("r", Hello(["1.0", "1.0"], "new", "new-1", 1)), town.now)
    assert isinstance(again.ready(town.now).frames[0][1].message, Welcome)


def test_the_namespace_may_say_how_long_the_grace_is(make_town):
    town = make_town(durations=Durations(offer_ms=500, lease_ms=3_000), recovery_grace_ms=1_000)
    boss, worker = town.join("boss"), town.worker("w1")
    holds, waits = boss.delegate("1"), boss.delegate("2", "nobody", limits=TaskLimits(deadline_ms=100))
    worker.beat(worker.offer())
    again = town.restart(after=500)
    again.pass_time(999)
    assert again.said(Settled) == []
    again.pass_time(1)
    assert [end.task for end in again.said(Settled)] == [waits]
    again.pass_time(1_999)
    assert again.task(holds).holder == "w1", "its lease runs anew from the start all the same"
    again.pass_time(1)
    assert again.task(holds).holder is None


def test_a_grace_of_nothing_is_none(make_town):
    town = make_town(recovery_grace_ms=0)
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate(timers=Timers(attempt_ms=200))
    worker.beat(worker.offer())
    again = town.restart(after=300)
    again.pass_time(0)
    assert [record.reason for record in again.said(Evicted)] == ["attempt"]


def test_fences_that_were_taken_away_stay_dead_after_a_restart(make_town):
    town = make_town(recovery_grace_ms=0)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    boss.say(TaskSteer(task, "k", b"[]", mode="interrupt"))
    again = town.restart(after=2_000)
    again.pass_time(0)
    assert [record.counted for record in again.said(LeaseExpired)] == [False]
    worker = again.worker("w1")
    assert worker.beat(offer) == TaskRevoke(task, offer.fence, "superseded", "skip")
    assert again.task(task).losses == 0
