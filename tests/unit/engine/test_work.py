"""The agent's own machine: offers, heartbeats, revocations, the watchdog."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest

from a2a.engine.work import Answered, Attempt, AttemptState, Start, Steered, Stop, Work, effect_key
from a2a.errors import TooLarge
from a2a.protocol.canonical import NUMBER_MAX, content_hash
from a2a.protocol.codec import Frame
from a2a.protocol.messages import (
    Answer,
    ArtifactRef,
    AttemptError,
    Error,
    HeldStill,
    HeldVerdict,
    Limits,
    Message,
    Ok,
    PatchRef,
    Steer,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskDecline,
    TaskHandoff,
    TaskHeartbeat,
    TaskLease,
    TaskOffer,
    TaskReport,
    TaskRevoke,
    TaskSteer,
    TaskVerdict,
    TaskYield,
    Welcome,
)
from a2a.protocol.session import REPLY_SLACK_MS, Identity, Notice, PeerSession, Reply


def welcome(held: list[HeldVerdict] | None = None) -> Welcome:
    return Welcome("1.0", "main", 1, "fsync", Limits(1_000, 100, 1, 1, 1, 1, 1, 1), 1, held=held or [])


def offer(fence: int = 5, *, granted: bool = True, task: str = "t-1", **more: Any) -> TaskOffer:
    values: dict[str, Any] = {
        "task": task,
        "fence": fence,
        "attempt": 1,
        "granted": granted,
        "offer_ms": 4000,
        "lease_ms": 30_000,
        "heartbeat_ms": 10_000,
        "spec": {"skill": "x"},
        "payload": b"[]",
        "key": "k",
        "context_id": "c",
        "delegator": "d",
    }
    return TaskOffer(**(values | more))


class Bench:
    """A machine on a connection that was welcomed."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.session = PeerSession(Identity("w", "i", 1), lambda: f"f{next(numbers)}")
        self.work = Work(self.session)
        self.connect()

    def connect(self) -> None:
        self.session.connected()
        [hello] = self.session.outgoing()
        self.session.receive(Frame("w", welcome(), re=hello.id))

    def sent(self) -> list[Frame]:
        return self.session.outgoing()

    def messages(self) -> list[Message]:
        return [frame.message for frame in self.sent()]

    def start(self, now: int = 1000, **more: Any) -> Attempt:
        [event] = self.work.on_notice(offer(**more), None, now)
        assert isinstance(event, Start)
        return event.attempt

    def reply(self, frame: Frame, message: Message, now: int = 1000) -> list[Any]:
        [event] = self.session.receive(Frame("r", message, re=frame.id))
        assert isinstance(event, Reply)
        return self.work.on_reply(event, now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_granted_offer_starts_at_once_and_says_nothing_yet(bench: Bench) -> None:
    bench.start()
    bench.work.tick(1000)
    assert bench.messages() == [], "a quick attempt reports before its first heartbeat is due"


def test_the_first_sign_of_life_is_due_well_before_the_offer_ends(bench: Bench) -> None:
    bench.start(now=1000)
    assert bench.work.next_deadline() == 2000
    bench.work.tick(2000)
    assert bench.messages() == [TaskHeartbeat("t-1", 5)]
    assert bench.work.next_deadline() == 12_000


def test_an_offer_that_is_not_granted_starts_after_it_was_confirmed(bench: Bench) -> None:
    assert bench.work.on_notice(offer(granted=False), None, 1000) == []
    [accept] = bench.sent()
    assert accept.message == TaskAccept("t-1", 5)
    assert bench.work.held() == [], "it is not held before the coordinator says so"
    [event] = bench.reply(accept, TaskLease("t-1", 5, 30_000), now=3000)
    assert isinstance(event, Start)
    assert event.attempt.lease_until == 1000 + 27_000, "counted from when it asked, not from the answer"


def test_an_offer_that_no_longer_stands_is_never_started(bench: Bench) -> None:
    bench.work.on_notice(offer(granted=False), None, 1000)
    [accept] = bench.sent()
    assert bench.reply(accept, Error("stale", "too late")) == []
    assert bench.work.attempts == {}


def test_what_is_to_wind_down_before_it_began_is_given_back_and_does_not_begin(bench: Bench) -> None:
    bench.work.on_notice(offer(granted=False), None, 1000)
    [accept] = bench.sent()
    assert bench.work.on_notice(TaskRevoke("t-1", 5, "cancel", grace_ms=4_000), None, 1001) == []
    [last_word] = bench.sent()
    assert last_word.message == TaskYield("t-1", 5, "cancel")
    assert bench.reply(accept, TaskLease("t-1", 5, 30_000)) == []
    assert bench.reply(last_word, Ok()) == []
    assert bench.work.attempts == {}


def test_the_same_offer_twice_is_one_attempt(bench: Bench) -> None:
    bench.start()
    assert bench.work.on_notice(offer(), None, 1001) == []


def test_the_watchdog_counts_from_when_the_renewed_heartbeat_was_sent(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.tick(2000)
    [beat] = bench.sent()
    assert bench.work.on_notice(TaskLease("t-1", 5, 30_000), beat.id, 9000) == []
    assert attempt.lease_until == 2000 + 27_000
    assert not bench.work.is_lapsed(attempt, 28_999)
    assert bench.work.is_lapsed(attempt, 29_000)


def test_a_grant_is_trusted_only_as_long_as_the_coordinator_waits_for_its_first_sign_of_life(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    assert not bench.work.is_lapsed(attempt, 1000 + 3599)
    assert bench.work.is_lapsed(attempt, 1000 + 3600)


def test_who_has_given_an_attempt_back_has_its_lease_no_more_though_no_answer_has_come(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.yield_(attempt, "tired")
    assert bench.work.is_lapsed(attempt, 1000)


def test_a_hand_off_that_is_refused_gives_the_lease_back(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.hand_off(attempt, None, None, None)
    [handoff] = bench.sent()
    assert bench.work.is_lapsed(attempt, 1000)
    bench.reply(handoff, Error("no_capable_agent", "nobody else"), now=1001)
    assert not bench.work.is_lapsed(attempt, 1001)


def test_a_renewal_that_answers_no_heartbeat_extends_nothing(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    until = attempt.lease_until
    bench.work.on_notice(TaskLease("t-1", 5, 90_000), "elsewhere", 9000)
    assert attempt.lease_until == until


def test_progress_goes_out_soon_and_only_the_latest(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.progress(attempt, 1000, "a", 1010)
    bench.work.progress(attempt, 2000, "b", 1020)
    assert bench.work.next_deadline() == 1110
    bench.work.tick(1110)
    assert bench.messages() == [TaskHeartbeat("t-1", 5, 2, 2000, "b")]
    bench.work.tick(11_110)
    assert bench.messages() == [TaskHeartbeat("t-1", 5, 2)], "a beat without news repeats none"


def test_the_newest_progress_is_told_again_on_a_new_connection(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.progress(attempt, 2000, "b", 1010)
    bench.work.tick(1110)
    bench.messages()
    bench.work.on_welcome(welcome([HeldVerdict("t-1", 5, "keep", 30_000)]), 4_900, 5_000)
    bench.work.tick(5_000)
    assert bench.messages() == [TaskHeartbeat("t-1", 5, 1, 2000, "b")]
    bench.work.tick(15_000)
    assert bench.messages() == [TaskHeartbeat("t-1", 5, 1)], "once"


def test_nothing_is_beaten_without_a_connection(bench: Bench) -> None:
    bench.start(now=1000)
    bench.session.disconnected()
    assert bench.work.next_deadline() is None
    bench.work.tick(60_000)
    assert bench.messages() == []


def test_a_cancel_with_grace_stops_the_attempt_that_may_still_report(bench: Bench) -> None:
    attempt = bench.start()
    [event] = bench.work.on_notice(TaskRevoke("t-1", 5, "cancel", "coop", 900), None, 1500)
    assert event == Stop(attempt, "cancel", "coop", 900)
    bench.work.report(attempt, "canceled")
    assert isinstance(bench.messages()[-1], TaskReport)


def test_a_lost_attempt_stops_and_is_no_longer_held(bench: Bench) -> None:
    attempt = bench.start()
    [event] = bench.work.on_notice(TaskRevoke("t-1", 5, "superseded", "skip"), None, 1500)
    assert event == Stop(attempt, "superseded", "skip", 0)
    assert bench.work.held() == []
    assert bench.work.is_lapsed(attempt, 1500)


def test_a_revocation_of_another_fence_is_not_this_attempts(bench: Bench) -> None:
    bench.start(fence=5)
    assert bench.work.on_notice(TaskRevoke("t-1", 4, "superseded", "skip"), None, 1500) == []
    assert len(bench.work.attempts) == 1


def test_a_report_is_repeated_until_its_verdict_and_held_until_then(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.report(attempt, "completed", b'["x"]')
    bench.work.report(attempt, "failed")
    [report] = bench.sent()
    assert isinstance(report.message, TaskReport) and report.message.outcome == "completed", "the first word counts"
    bench.session.disconnected()
    bench.connect()
    [again] = bench.sent()
    assert again.id == report.id
    assert [held.fence for held in bench.work.held()] == [5]
    bench.reply(again, TaskVerdict("t-1", 5, "duplicate"))
    assert bench.work.held() == []


def test_a_result_that_is_larger_than_the_coordinator_takes_is_a_failure(bench: Bench) -> None:
    """Spec LIMIT-1."""
    bench.work.report(bench.start(), "completed", b"x" * 101)
    [frame] = bench.sent()
    report = frame.message
    assert isinstance(report, TaskReport) and report.error is not None
    assert (report.outcome, report.payload, report.error.code) == ("failed", b"[]", "too_large")
    assert report.result_hash == content_hash({"outcome": "failed"}, b"[]")


@pytest.mark.parametrize("code", ["malformed", "too_large"])
def test_a_last_word_that_could_not_be_taken_is_followed_by_a_plainer_one(bench: Bench, code: str) -> None:
    attempt = bench.start()
    bench.work.use(attempt, {"tokens": 7}, 0)
    bench.work.report(attempt, "completed", b'["paid"]')
    (said,) = bench.sent()
    bench.reply(said, Error(code, "usage.tokens: a whole number"))
    (again,) = bench.sent()
    report = again.message
    assert isinstance(report, TaskReport)
    assert (report.outcome, report.payload, report.usage) == ("failed", b"[]", {"tokens": 7})
    assert report.error == AttemptError("refused", "task.report was refused: usage.tokens: a whole number")
    assert bench.work.held() == [HeldStill("t-1", 5)], "it has not been heard yet"
    bench.reply(again, Error(code, "not this either"))
    assert (bench.sent(), bench.work.held()) == ([], [])


def test_what_is_held_is_named_with_the_proof_of_its_offer(bench: Bench) -> None:
    """Spec DURABLE-7."""
    bench.start(proof="shown")
    assert bench.work.held() == [HeldStill("t-1", 5, 0, "shown")]


@pytest.mark.parametrize("answer", [TaskVerdict("t-1", 5, "admitted"), Error("not_found", "there is no task t-1")])
def test_a_last_word_that_was_understood_is_the_last(bench: Bench, answer: Message) -> None:
    bench.work.report(bench.start(), "completed")
    bench.reply(bench.sent()[0], answer)
    assert (bench.sent(), bench.work.held()) == ([], [])


def test_a_refusal_to_take_a_task_that_could_not_be_read_ends_the_attempt_all_the_same(bench: Bench) -> None:
    bench.work.decline(bench.start(), "busy", 5)
    bench.reply(bench.sent()[0], Error("malformed", "reason"))
    (report,) = bench.messages()
    assert isinstance(report, TaskReport)
    assert report.error == AttemptError("refused", "task.decline was refused: reason")


def test_a_result_that_is_invalid_is_followed_by_the_failure_that_it_is(bench: Bench) -> None:
    """The attempt goes on in the coordinator's eyes, with nobody who would ever end it."""
    bench.work.report(bench.start(), "completed", b"[1]")
    bench.reply(bench.sent()[0], TaskVerdict("t-1", 5, "invalid", "artifact log has another digest"))
    [frame] = bench.sent()
    assert isinstance(frame.message, TaskReport) and (frame.message.outcome, frame.message.payload) == ("failed", b"[]")
    assert frame.message.error == AttemptError("invalid", "task.report is invalid: artifact log has another digest")
    bench.reply(frame, TaskVerdict("t-1", 5, "invalid", "again"))
    assert (bench.sent(), bench.work.held()) == ([], []), "it is said once"


def test_what_is_used_is_never_more_than_a_number_may_be(bench: Bench) -> None:
    attempt = bench.start()
    for _ in range(2):
        bench.work.use(attempt, {"tokens": NUMBER_MAX}, 0)
    bench.work.yield_(attempt, "tired")
    (word,) = bench.messages()
    assert isinstance(word, TaskYield) and word.usage == {"tokens": NUMBER_MAX}


def test_a_revocation_does_not_take_back_the_last_word(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.report(attempt, "completed")
    assert bench.work.on_notice(TaskRevoke("t-1", 5, "settled", "skip"), None, 1500) == []
    assert attempt.state is AttemptState.ENDING


def test_yield_and_decline_end_the_attempt(bench: Bench) -> None:
    bench.work.yield_(bench.start(task="t-1"), "draining")
    bench.work.decline(bench.start(task="t-2"), "busy", 500)
    first, second = bench.sent()
    assert first.message == TaskYield("t-1", 5, "draining")
    assert second.message == TaskDecline("t-2", 5, "busy", 500)
    bench.reply(first, Ok())
    bench.reply(second, Ok())
    assert bench.work.attempts == {}


def test_a_last_word_can_do_without_its_answer(bench: Bench) -> None:
    bench.work.report(bench.start(task="t-1"), "completed")
    bench.work.yield_(bench.start(task="t-2"), "busy")
    assert [frame.slack_ms for frame in bench.sent()] == [REPLY_SLACK_MS, REPLY_SLACK_MS]


@pytest.mark.parametrize(("granted", "kind"), [(True, "task.yield"), (False, "task.decline")])
def test_a_draining_agent_hands_back_what_it_is_offered(bench: Bench, granted: bool, kind: str) -> None:
    bench.work.is_draining = True
    assert bench.work.on_notice(offer(granted=granted), None, 1000) == []
    assert [message.kind for message in bench.messages()] == [kind]


def test_the_welcome_tells_what_became_of_each_attempt(bench: Bench) -> None:
    kept, lost = bench.start(task="t-1"), bench.start(task="t-2")
    verdicts = [HeldVerdict("t-1", 5, "keep", 10_000), HeldVerdict("t-2", 5, "stale")]
    assert bench.work.on_welcome(welcome(verdicts), 49_900, 50_000) == [Stop(lost, "stale", "skip", 0)]
    assert kept.lease_until == 49_900 + 9_000
    bench.work.tick(50_000)
    assert [message.kind for message in bench.messages()] == ["task.heartbeat"]


def test_an_answer_reaches_the_running_attempt(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.ask(attempt, 1, b'[{"text":"?"}]')
    [ask] = bench.sent()
    assert ask.message == TaskAsk("t-1", 1, b'[{"text":"?"}]', 5)
    assert bench.work.on_notice(TaskAnswer("t-1", 1, b"[]"), None, 2000) == [Answered(attempt, 1, b"[]")]


def test_what_is_told_before_the_answer_to_an_accept_is_there_when_it_begins(bench: Bench) -> None:
    """The answer was lost with its connection, and the mailbox comes before it on the next one."""
    bench.work.on_notice(offer(granted=False, steers=[Steer(1, b"[1]")]), None, 1000)
    bench.sent()
    bench.connect()
    for message in (TaskSteer("t-1", "k", b"[1]", steer_no=1), TaskSteer("t-1", "l", b"[2]", steer_no=2)):
        assert bench.work.on_notice(message, None, 1000) == []
    assert bench.work.on_notice(TaskAnswer("t-1", 1, b"[]"), None, 1000) == []
    [accept] = bench.sent()
    [start] = bench.reply(accept, TaskLease("t-1", 5, 30_000))
    assert start.attempt.offer.steers == [Steer(1, b"[1]"), Steer(2, b"[2]")]
    assert start.attempt.offer.answers == [Answer(1, b"[]")]


def test_chunks_of_an_artifact_are_numbered(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.artifact(attempt, "log", b"[1]", append=True, last=False)
    bench.work.artifact(attempt, "log", b"[2]", append=True, last=True)
    bench.work.artifact(attempt, "log", b"[3]", append=False, last=True)
    sent = [(m.chunk_no, m.append) for m in bench.messages()]  # type: ignore[attr-defined]
    assert sent == [(0, False), (1, True), (2, False)], "a new beginning is not a repeat"


def test_a_stale_artifact_or_question_stops_the_attempt(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.artifact(attempt, "log", b"[1]", append=False, last=True)
    [frame] = bench.sent()
    assert bench.reply(frame, Error("stale", "superseded")) == [Stop(attempt, "superseded", "skip", 0)]
    asking = bench.start(fence=6)
    bench.work.ask(asking, 1, b"[]")
    [frame] = bench.sent()
    assert bench.reply(frame, Error("stale", "superseded")) == [Stop(asking, "superseded", "skip", 0)]


def test_what_is_taken_away_before_it_was_granted_needs_no_end(bench: Bench) -> None:
    bench.work.on_notice(offer(granted=False), None, 1000)
    assert bench.work.on_notice(TaskRevoke("t-1", 5, "superseded", "skip", 0), None, 2000) == []
    assert not bench.work.attempts


def test_an_answer_that_comes_late_makes_no_lease_shorter(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    for now in (2_000, 12_000):
        bench.work.tick(now)
    first, second = bench.sent()
    for beat in (second, first):
        [event] = bench.session.receive(Frame("l", TaskLease("t-1", 5, 30_000), re=beat.id))
        assert isinstance(event, Notice)
        bench.work.on_notice(event.message, event.re, 13_000)
    assert attempt.lease_until == 12_000 + 27_000


def test_progress_without_a_fraction_leaves_the_one_that_was_told(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.progress(attempt, 5_000, "half", 1000)
    bench.work.progress(attempt, None, "on", 1000)
    bench.work.tick(1100)
    assert bench.messages() == [TaskHeartbeat("t-1", 5, 2, 5_000, "on")]


def test_an_attempt_that_failed_patches_nothing(bench: Bench) -> None:
    attempt = bench.start()
    attempt.patches = [PatchRef("repo", "r1")]
    bench.work.report(attempt, "failed")
    [report] = bench.messages()
    assert isinstance(report, TaskReport) and report.patches == []


def test_who_waits_for_a_second_hand_off_is_not_ended_for_the_first_it_gave_up(bench: Bench) -> None:
    attempt = bench.start()
    for answer, events in ((Error("no_capable_agent", "nobody"), []), (Ok(), [])):
        bench.work.hand_off(attempt, None, None, None)
        attempt.is_deserted = isinstance(answer, Error) or attempt.is_deserted
        [frame] = bench.sent()
        assert bench.reply(frame, answer) == events


# What it leaves, hears and uses ---------------------------------------------------------------------------------------


def test_checkpoints_are_numbered_and_each_names_the_one_before(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.checkpoint(attempt, b"[1]", format="rows")
    [frame] = bench.sent()
    assert frame.message == TaskCheckpoint("t-1", 5, 1, b"[1]", 0, "rows", True)
    assert bench.reply(frame, Ok()) == []
    bench.work.checkpoint(attempt, b"[2]", portable=False)
    assert bench.messages() == [TaskCheckpoint("t-1", 5, 2, b"[2]", 1, "", False)]


def test_a_checkpoint_that_was_refused_is_none_for_the_next(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.checkpoint(attempt, b"[1]")
    [large] = bench.sent()
    assert bench.reply(large, Error("too_large", "no")) == []
    bench.work.checkpoint(attempt, b"[2]")
    [behind] = bench.sent()
    assert behind.message == TaskCheckpoint("t-1", 5, 2, b"[2]", 0, "", True)
    assert bench.reply(behind, Error("conflict", "the newest is 7", data={"cpNo": 7})) == []
    bench.work.checkpoint(attempt, b"[3]")
    assert bench.messages() == [TaskCheckpoint("t-1", 5, 8, b"[3]", 7, "", True)]


def test_a_checkpoint_of_an_attempt_that_was_superseded_ends_it(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.checkpoint(attempt, b"[1]")
    [frame] = bench.sent()
    assert bench.reply(frame, Error("stale", "superseded")) == [Stop(attempt, "superseded", "skip", 0)]


def test_a_hand_off_that_is_refused_lets_the_attempt_go_on(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.hand_off(attempt, "other", None, b'["look"]')
    [frame] = bench.sent()
    assert frame.message == TaskHandoff("t-1", 5, "other", None, b'["look"]')
    assert bench.reply(frame, Error("no_capable_agent", "nobody")) == []
    assert attempt.state is AttemptState.RUNNING
    bench.work.hand_off(attempt, None, {"tags": ["x"]}, None)
    [frame] = bench.sent()
    assert bench.reply(frame, Ok("queued")) == []
    assert bench.work.attempts == {}


def test_a_hand_off_that_is_too_large_to_be_said_changes_nothing(bench: Bench) -> None:
    attempt = bench.start()
    with pytest.raises(TooLarge):
        bench.work.hand_off(attempt, None, None, b"1" * 1_001)
    bench.work.report(attempt, "completed")
    assert [message.kind for message in bench.messages()] == ["task.report"]


@pytest.mark.parametrize("code", ["no_capable_agent", "stale"])
def test_the_last_word_behind_a_hand_off_counts_where_that_is_refused(bench: Bench, code: str) -> None:
    attempt = bench.start()
    bench.work.hand_off(attempt, None, None, None)
    bench.work.hand_off(attempt, "other", None, None)
    [first, second] = bench.sent()
    bench.work.report(attempt, "completed")
    bench.reply(first, Error("no_capable_agent", "nobody"))
    assert bench.sent() == [], "another one has no answer yet"
    bench.reply(second, Error(code, "it is not to be"))
    assert [message.kind for message in bench.messages()] == (["task.report"] if code != "stale" else [])
    assert (attempt.task, attempt.fence) in bench.work.attempts or code == "stale"


def test_a_handler_that_did_not_wait_for_its_hand_off_is_stopped_by_it(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.hand_off(attempt, None, None, None)
    attempt.is_deserted = True
    bench.work.report(attempt, "completed")
    [frame] = bench.sent()
    assert bench.reply(frame, Ok("queued")) == [Stop(attempt, "handed_off", "skip", 0)]
    assert (bench.work.attempts, bench.sent()) == ({}, [])


def test_what_is_told_while_a_hand_off_has_no_answer_is_heard(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.hand_off(attempt, None, None, None)
    assert bench.work.on_notice(TaskSteer("t-1", "k", b"[]", steer_no=1), None, 1000) == [Steered(attempt, 1, b"[]")]
    assert bench.work.on_notice(TaskAnswer("t-1", 1, b"[]"), None, 1000) == [Answered(attempt, 1, b"[]")]
    [stop] = bench.work.on_notice(TaskRevoke("t-1", 5, "cancel", "coop", 1000), None, 1000)
    assert stop == Stop(attempt, "cancel", "coop", 1000)


def test_an_attempt_that_goes_on_after_a_hand_off_was_refused_has_its_heartbeats_again(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.hand_off(attempt, None, None, None)
    [frame] = bench.sent()
    bench.work.tick(2000)
    assert bench.messages() == []
    bench.reply(frame, Error("no_capable_agent", "nobody"), now=2500)
    assert bench.work.next_deadline() == 2000
    bench.work.tick(2500)
    assert bench.messages() == [TaskHeartbeat("t-1", 5)]


def test_an_attempt_whose_lease_was_asked_for_has_heartbeats_from_then_on(bench: Bench) -> None:
    bench.work.on_notice(offer(granted=False), None, 1000)
    [accept] = bench.sent()
    bench.work.tick(2000)
    assert bench.work.next_deadline() is None, "it waits for the answer"
    bench.reply(accept, TaskLease("t-1", 5, 30_000), now=3000)
    assert bench.work.next_deadline() == 13_000
    bench.work.tick(13_000)
    assert bench.messages() == [TaskHeartbeat("t-1", 5)]


def test_an_attempt_that_is_kept_over_a_new_connection_says_so_at_once(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.session.disconnected()
    bench.work.tick(2000)
    assert attempt.next_beat == 2000, "nobody was there to be told"
    bench.work.tick(2000)
    bench.connect()
    bench.work.on_welcome(welcome([HeldVerdict("t-1", 5, "keep", 30_000)]), 1_800, 1_900)
    assert bench.work.next_deadline() == 1_900
    bench.work.tick(1_900)
    assert bench.messages() == [TaskHeartbeat("t-1", 5)]


def test_each_attempt_has_its_heartbeat_when_it_is_due(bench: Bench) -> None:
    first, second = bench.start(fence=5, now=1000), bench.start(fence=6, task="t-2", now=1500)
    assert bench.work.next_deadline() == 2000
    bench.work.report(first, "completed")
    assert isinstance(bench.messages()[0], TaskReport)
    bench.work.tick(2000)
    assert bench.messages() == [], "the one that was due has ended"
    assert bench.work.next_deadline() == 2500
    bench.work.tick(2500)
    assert bench.messages() == [TaskHeartbeat("t-2", 6)]
    assert second.next_beat == bench.work.next_deadline() == 12_500


def test_a_hand_off_under_a_fence_that_is_gone_ends_the_attempt(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.hand_off(attempt, None, None, None)
    [frame] = bench.sent()
    assert bench.reply(frame, Error("stale", "superseded")) == [Stop(attempt, "superseded", "skip", 0)]


def test_a_report_names_what_was_seen_with_the_decisions_first(bench: Bench) -> None:
    attempt = bench.start()
    attempt.basis = {f"note {number}": (number, False) for number in range(1_500)} | {"decisions/db": (3, True)}
    bench.work.report(attempt, "completed")
    [report] = bench.messages()
    assert isinstance(report, TaskReport)
    assert [(seen.key, seen.rev) for seen in report.basis[:2]] == [("decisions/db", 3), ("note 0", 0)]
    assert len(report.basis) == 1_000


def test_a_word_of_the_delegator_is_passed_on_and_the_report_says_which_was_seen(bench: Bench) -> None:
    attempt = bench.start()
    assert bench.work.on_notice(TaskSteer("t-1", "k", b"[1]", steer_no=1), None, 1000) == [Steered(attempt, 1, b"[1]")]
    assert bench.work.on_notice(TaskSteer("t-9", "k", b"[1]", steer_no=1), None, 1000) == []
    attempt.steer_no = 1
    bench.work.report(attempt, "completed", b"[]")
    [report] = bench.messages()
    assert isinstance(report, TaskReport)
    assert report.steer_no == 1


def test_what_it_used_is_told_soon_and_with_the_last_word(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.use(attempt, {"tokens": 3}, 1000)
    bench.work.use(attempt, {"tokens": 4, "steps": 1}, 1050)
    assert bench.work.next_deadline() == 1100
    bench.work.tick(1100)
    [beat] = bench.messages()
    assert isinstance(beat, TaskHeartbeat)
    assert beat.usage == {"tokens": 7, "steps": 1}
    bench.work.yield_(attempt, "enough")
    assert bench.messages() == [TaskYield("t-1", 5, "enough", {"tokens": 7, "steps": 1})]


def test_its_slot_is_free_while_it_waits_for_sub_tasks(bench: Bench) -> None:
    attempt = bench.start(now=1000)
    bench.work.wait(attempt, 1, 1000)
    bench.work.wait(attempt, 1, 1000)
    bench.work.tick(1100)
    bench.work.wait(attempt, -1, 1200)
    assert bench.work.next_deadline() == 11_100, "it still waits for one"
    bench.work.wait(attempt, -1, 1300)
    bench.work.tick(1400)
    assert [beat.slot for beat in bench.messages() if isinstance(beat, TaskHeartbeat)] == ["released", "held"]


def test_artifacts_that_are_complete_go_with_the_result_and_their_hash(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.artifact(attempt, "log", b"[1]", append=True, last=False)
    bench.work.artifact(attempt, "log", b"[2]", append=True, last=True)
    bench.work.artifact(attempt, "draft", b"[3]", append=False, last=False)
    digest = f"sha256:{hashlib.sha256(b'[1][2]').hexdigest()}"
    frames = bench.sent()
    assert [frame.message.digest for frame in frames if isinstance(frame.message, TaskArtifact)] == [None, digest, None]
    assert attempt.digests == {}, "nobody has said yet that it is there"
    for frame in frames:
        bench.reply(frame, Ok())
    bench.work.report(attempt, "completed", b"[]")
    [report] = bench.messages()
    assert isinstance(report, TaskReport)
    assert report.artifacts == [ArtifactRef("log", digest)]


def test_an_artifact_that_begins_anew_has_a_new_hash(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.artifact(attempt, "log", b"[1]", append=False, last=True)
    bench.work.artifact(attempt, "log", b"[2]", append=False, last=True)
    for frame in bench.sent():
        bench.reply(frame, Ok())
    assert attempt.digests == {"log": f"sha256:{hashlib.sha256(b'[2]').hexdigest()}"}


def test_an_artifact_that_is_refused_is_no_part_of_the_result(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.artifact(attempt, "log", b"[1]", append=False, last=True)
    [frame] = bench.sent()
    bench.reply(frame, Error("quota", "too many"))
    bench.work.report(attempt, "completed", b"[]")
    [report] = bench.messages()
    assert isinstance(report, TaskReport)
    assert report.artifacts == []


def test_an_artifact_that_goes_on_before_it_was_confirmed_is_no_part_of_the_result(bench: Bench) -> None:
    attempt = bench.start()
    bench.work.artifact(attempt, "log", b"[1]", append=False, last=True)
    bench.work.artifact(attempt, "log", b"[2]", append=True, last=False)
    for frame in bench.sent():
        bench.reply(frame, Ok())
    bench.work.report(attempt, "completed")
    [report] = bench.messages()
    assert isinstance(report, TaskReport) and report.artifacts == []


def test_an_attempt_that_is_taken_away_has_a_grace(bench: Bench) -> None:
    attempt = bench.start()
    stop = bench.work.on_notice(TaskRevoke("t-1", 5, "stall", "coop", 2_000), None, 1000)
    assert stop == [Stop(attempt, "stall", "coop", 2_000)]
    assert attempt.state is AttemptState.RUNNING, "it may still report, or give back"


def test_an_effect_key_is_that_of_the_specification() -> None:
    assert effect_key("main-7", 0, "charge") == hashlib.sha256(b"main-7\n0\ncharge").hexdigest()
