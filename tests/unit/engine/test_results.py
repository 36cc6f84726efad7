"""The end of an attempt, and the word on its result."""

import hashlib

import pytest

from a2a.engine.decision import Decision
from a2a.engine.policy import Bounds
from a2a.engine.records import (
    Accepted,
    Reported,
    ReportKept,
    Reworked,
    Settled,
)
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ArtifactRef,
    AttemptError,
    Ok,
    TaskAnswer,
    TaskArtifact,
    TaskConfirm,
    TaskLimits,
    TaskReport,
    TaskReview,
    TaskRevoke,
    TaskSettled,
    TaskVerdict,
    TaskYield,
)
from tests.unit.engine.stages import ask, settled

SPEC = {"skill": "echo", "acceptance": {"evaluator": "delegator"}}


# Reports --------------------------------------------------------------------------------------------------------------


def test_a_result_waits_for_the_delegators_word(town, boss, task, worker, offer, hash_result):
    message = worker.reporting(offer, usage={"tokens": 5})
    digest = hash_result("completed", b'["done"]')
    report = Reported(
        town.now,
        task,
        offer.fence,
        "w1",
        "completed",
        digest,
        b'["done"]',
        usage={"tokens": 5},
        review=True,
    )
    assert worker.decide(message) == Decision([report], TaskVerdict(task, offer.fence, "admitted"))
    worker.say(message)
    assert town.task(task).state == "reported"
    assert boss.mail() == [TaskReview(task, 3, 0, digest, b'["done"]', "w1", 10_000)]
    assert town.ledger.holding["w1"] == {}


def test_a_task_that_accepts_by_itself_is_completed_with_the_report(town, boss, worker):
    task = boss.delegate(acceptance="auto")
    offer = worker.offer()
    message = worker.reporting(offer)
    decision = worker.decide(message)
    assert decision.records[1:] == [
        Settled(town.now, task, "completed", by="auto", result_hash=message.result_hash),
    ]
    assert decision.records[0].review is False
    worker.say(message)
    (end,) = boss.mail()
    assert (end.state, end.payload, end.confirmed_by, end.agent) == ("completed", b'["done"]', "auto", "w1")
    assert worker.mail() == [], "the verdict said it"


def test_a_hash_that_is_not_of_what_came_is_invalid(town, task, worker, offer, hash_result):
    before = len(town.records)
    wrong = hash_result("completed", b'["other"]')
    other_outcome = hash_result("failed", b'["done"]')
    for given in (wrong, other_outcome):
        answer = worker.say(TaskReport(task, offer.fence, "completed", given, b'["done"]'))
        assert answer.verdict == "invalid"
    assert len(town.records) == before
    assert town.task(task).state == "leased"


def test_a_repeated_report_is_a_duplicate(town, task, worker, offer):
    worker.report(offer)
    count = len(town.records)
    assert worker.report(offer) == "duplicate"
    assert len(town.records) == count


def test_another_report_under_a_spent_fence_is_late_and_kept(town, task, worker, offer, hash_result):
    worker.report(offer)
    assert worker.report(offer, payload=b'["other"]', usage={"tokens": 1}) == "late"
    assert town.said(ReportKept) == [
        ReportKept(
            town.now,
            task,
            offer.fence,
            "w1",
            "late",
            "completed",
            hash_result("completed", b'["other"]'),
            b'["other"]',
            {"tokens": 1},
        )
    ]
    assert worker.report(offer, "failed", payload=b'["done"]') == "late", "another outcome is another report"
    assert len(town.task(task).results) == 1


def test_a_report_with_a_superseded_fence_is_kept_as_evidence(town, task, worker, offer):
    other = town.worker("w2")
    town.pass_time(500)
    other.accept(other.offer())
    assert worker.report(offer) == "stale"
    (kept,) = town.task(task).evidence
    assert (kept.agent, kept.fence, kept.verdict, kept.payload) == ("w1", offer.fence, "stale", b'["done"]')
    assert town.task(task).holder == "w2"


def test_the_same_evidence_is_kept_once(town, task, worker, offer):
    boss_view = town.task(task)
    worker.report(offer)
    for _ in range(3):
        assert worker.report(offer, payload=b"[2]") == "late"
    assert len(boss_view.evidence) == 1


def test_what_different_agents_say_or_the_same_under_different_fences_is_different_evidence(town, task, offer):
    first, second = town.join("a"), town.join("b")
    for peer in (first, second):
        assert peer.report(offer) == "not_holder"
    offer.fence -= 1
    assert first.report(offer) == "not_holder"
    assert [(kept.agent, kept.fence) for kept in town.task(task).evidence] == [
        ("a", offer.fence + 1),
        ("b", offer.fence + 1),
        ("a", offer.fence),
    ]


def test_strangers_cannot_push_out_or_fill_up_evidence_without_bound(make_town):
    town = make_town(evidence_max=2)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    stranger = town.join("stranger")
    for number in range(5):
        assert stranger.report(offer, payload=b"[%d]" % number) == "not_holder"
    assert len(town.task(task).evidence) == 2


def test_strangers_cannot_keep_out_what_who_had_the_task_reports_late(town, task, worker, offer):
    strangers = [town.join(f"stranger{number}") for number in range(3)]
    for number in range(15):
        assert strangers[number % 3].report(offer, payload=b"[%d]" % number) == "not_holder"
    assert len(town.task(task).evidence) == 4
    worker.say(TaskYield(task, offer.fence))
    assert worker.report(offer, usage={"tokens": 5}) in ("late", "stale")
    assert (town.task(task).evidence[-1].agent, town.task(task).spent) == ("w1", {"tokens": 5})


def test_a_report_from_a_stranger_with_the_right_fence_and_hash_is_not_a_duplicate(town, task, worker, offer):
    worker.report(offer)
    assert town.join("stranger").report(offer) == "not_holder"


def test_the_report_of_a_lapsed_lease_is_admitted_and_takes_the_offer_back(town, boss, task, worker, offer):
    other = town.worker("w2")
    town.pass_time(500)
    again = other.offer()
    assert worker.report(offer) == "admitted"
    assert town.task(task).state == "reported"
    assert other.mail() == [TaskRevoke(task, again.fence, "superseded", "skip")]
    assert town.ledger.holding["w2"] == {}
    assert other.report(again) == "stale"


def test_a_report_takes_an_offer_on_its_way(town, task, worker, offer):
    other = town.worker("w2")
    town.pass_time(500)
    again = other.offer()
    message = other.reporting(again)
    assert [type(record) for record in other.decide(message).records] == [Accepted, Reported]
    assert other.report(again) == "admitted"
    assert worker.report(offer) == "stale"


def test_a_failure_for_good_ends_the_task(town, boss, task, worker, offer):
    error = AttemptError("broken", "no such file")
    decision = worker.decide(worker.reporting(offer, "failed", error=error))
    assert decision.records[0].error == {"code": "broken", "detail": "no such file", "retryable": False}
    assert decision.records[1:] == [Settled(town.now, task, "failed", "error", "no such file", "w1")]
    worker.report(offer, "failed", error=error)
    assert boss.mail() == [TaskSettled(task, 4, "failed", "error", "no such file", confirmed_by="w1", agent="w1")]
    assert (town.task(task).failures, town.task(task).last_error["code"]) == (1, "broken")


def test_a_task_that_accepts_by_itself_may_fail_as_any_other(town, boss, worker):
    task = boss.delegate(acceptance="auto")
    worker.report(worker.offer(), "failed")
    (end,) = boss.mail()
    assert (end.task, end.state, end.payload) == (task, "failed", None)


def test_a_failure_without_an_error_is_for_good(town, task, worker, offer):
    worker.report(offer, "failed")
    assert settled(town) == [(task, "failed", "error", "w1")]


def test_a_rejection_ends_the_task(town, task, worker, offer):
    worker.report(offer, "rejected", error=AttemptError(detail="not my kind of work"))
    assert settled(town) == [(task, "rejected", "rejected", "w1")]


def test_a_retryable_failure_is_tried_again_after_a_pause(town, task, worker, offer):
    message = worker.reporting(offer, "failed", error=AttemptError(retryable=True))
    (report,) = worker.decide(message).records
    assert town.now <= report.retry_at < town.now + 1_000
    worker.say(message)
    assert (town.task(task).state, town.task(task).failures) == ("queued", 1)
    assert worker.mail() == []
    town.pass_time(report.retry_at - town.now - 1)
    assert worker.mail() == []
    town.pass_time(1)
    assert worker.offer().granted, "the attempt before it is over"


def test_the_pause_grows_up_to_a_limit_and_is_the_same_for_everybody_who_replays(make_town):
    town = make_town(backoff_ms=1_000, backoff_max_ms=3_000, bounds=Bounds(attempts=50))
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate()
    pauses = []
    for _ in range(40):
        start = town.now
        worker.report(worker.offer(), "failed", error=AttemptError(retryable=True))
        pauses.append(town.said(Reported)[-1].retry_at - start)
        town.pass_time(pauses[-1])
    assert all(0 <= pause < 3_000 for pause in pauses)
    assert pauses[0] < 1_000
    assert pauses[1] < 2_000
    assert max(pauses) > 2_000
    assert len(set(pauses)) > 30, "attempts are spread"


def test_a_task_fails_a_bounded_number_of_times(make_town):
    town = make_town(backoff_ms=0, bounds=Bounds(attempts=2))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.report(worker.offer(), "failed", error=AttemptError(retryable=True))
    assert settled(town) == []
    worker.report(worker.offer(), "failed", error=AttemptError(detail="again", retryable=True))
    assert settled(town) == [(task, "failed", "attempts", "w1")]
    assert town.said(Settled)[0].detail == "2 attempts failed, the last: again"


def test_an_attempt_that_ends_itself_is_given_back(town, task, worker, offer):
    worker.report(offer, "canceled")
    assert (town.task(task).state, town.task(task).failures) == ("leased", 0)
    assert worker.offer().fence > offer.fence


def test_a_retryable_failure_while_parked_keeps_the_question(town, boss, task, worker, offer):
    worker.say(ask(offer))
    worker.report(offer, "failed", error=AttemptError(retryable=True))
    assert town.task(task).state == "parked"
    boss.say(TaskAnswer(task, 1, b"[1]"))
    town.pass_time(1_000)
    assert [answer.payload for answer in worker.offer().answers] == [b"[1]"]


# Artifacts that are part of a result ----------------------------------------------------------------------------------


def sha(*chunks):
    return f"sha256:{hashlib.sha256(b''.join(chunks)).hexdigest()}"


def test_the_last_chunk_may_name_the_hash_of_the_whole(town, worker, given):
    def chunk(number, payload, **fields):
        return TaskArtifact(given.task, given.fence, "a", number, payload, append=number > 0, **fields)

    worker.say(chunk(0, b"[1]", last_chunk=False, digest=sha(b"anything")))
    refusal = worker.say(chunk(1, b"[2]", digest=sha(b"[2]")))
    assert (refusal.code, refusal.data) == (ErrorCode.CONFLICT, {"digest": sha(b"[1]", b"[2]")})
    assert worker.say(chunk(1, b"[2]", digest=sha(b"[1]", b"[2]"))) == Ok()
    begun_anew = TaskArtifact(given.task, given.fence, "a", 2, b"[3]", digest=sha(b"[3]"))
    assert worker.say(begun_anew) == Ok()


@pytest.mark.parametrize(
    ("streamed", "named", "verdict"),
    [
        ({}, ArtifactRef("a"), "admitted"),
        ({}, ArtifactRef("a", sha(b"[]")), "admitted"),
        ({}, ArtifactRef("a", sha(b"other")), "invalid"),
        ({}, ArtifactRef("b"), "invalid"),
        ({"last_chunk": False}, ArtifactRef("a"), "invalid"),
    ],
)
def test_a_report_names_what_was_streamed_to_its_end(town, worker, given, streamed, named, verdict):
    worker.say(TaskArtifact(given.task, given.fence, "a", 0, b"[]", **streamed))
    before = len(town.records)
    assert worker.report(given, artifacts=[named]) == verdict
    assert (len(town.records) > before) is (verdict == "admitted")
    if verdict == "invalid":
        assert town.task(given.task).holder == "w1", "the attempt goes on"
        assert worker.report(given) == "admitted"


def test_what_another_attempt_streamed_is_no_part_of_a_result(worker, given):
    worker.say(TaskArtifact(given.task, given.fence, "a", 0, b"[]"))
    worker.say(TaskYield(given.task, given.fence))
    again = worker.offer()
    assert worker.report(again, artifacts=[ArtifactRef("a")]) == "invalid"
    worker.say(TaskArtifact(given.task, again.fence, "a", 0, b"[]"))
    assert worker.report(again, artifacts=[ArtifactRef("a")]) == "admitted"


# Confirming -----------------------------------------------------------------------------------------------------------


def test_a_confirmed_result_completes_the_task(town, boss, task, worker, review):
    message = TaskConfirm(task, 0, review.result_hash)
    assert boss.decide(message) == Decision(
        [Settled(town.now, task, "completed", by="boss", result_hash=review.result_hash)], Ok(state="completed")
    )
    boss.say(message)
    (end,) = boss.mail()
    assert (end.state, end.result_hash, end.confirmed_by) == ("completed", review.result_hash, "boss")
    assert end.payload is None, "it came with the review"


def test_the_worker_whose_result_waited_is_told_how_the_task_ended(boss, worker, review):
    worker.mail()
    boss.confirm(review)
    (end,) = worker.mail()
    assert (end.state, end.result_hash) == ("completed", review.result_hash)


def test_the_worker_is_told_also_when_other_things_happened_between(town, boss, worker, review):
    worker.mail()
    town.join("somebody")
    boss.confirm(review)
    assert [type(message) for message in worker.mail()] == [TaskSettled]


def test_an_agent_that_works_for_itself_is_told_once(town):
    agent = town.worker("w1")
    agent.delegate()
    agent.report(agent.offer())
    (review,) = agent.mail()
    agent.confirm(review)
    assert [type(message) for message in agent.mail()] == [TaskSettled]


def test_the_word_is_on_exactly_one_result(boss, task, worker, review, hash_result):
    other = hash_result("completed", b'["other"]')
    for verdict in ("accept", "reject"):
        answer = boss.say(TaskConfirm(task, 0, other, verdict))
        assert (answer.code, answer.data) == (ErrorCode.CONFLICT, {"rev": 0, "resultHash": review.result_hash})
    assert boss.refused(TaskConfirm(task, 1, review.result_hash)) == ErrorCode.CONFLICT


def test_a_word_for_another_generation_does_not_count(town, boss, task, worker, review):
    for generation in (0, review.generation - 1, review.generation + 1):
        for verdict in ("accept", "reject"):
            word = TaskConfirm(task, 0, review.result_hash, verdict, if_gen=generation)
            answer = boss.say(word)
            told = {"generation": review.generation, "state": "reported"}
            assert (answer.code, answer.retryable, answer.data) == (ErrorCode.GENERATION_MISMATCH, True, told)
            assert f"generation {review.generation}, the word is for {generation}" in answer.detail
    word = TaskConfirm(task, 0, review.result_hash, if_gen=review.generation)
    assert boss.say(word) == Ok(state="completed")
    assert boss.say(word) == Ok(state="completed"), "a repeat is for the generation it counted in"


def test_there_is_nothing_to_confirm_before_a_report(boss, task, worker, offer, hash_result):
    digest = hash_result("completed", b"[]")
    assert boss.refused(TaskConfirm(task, 0, digest)) == ErrorCode.CONFLICT
    assert boss.refused(TaskConfirm("main-99", 0, digest)) == ErrorCode.NOT_FOUND


def test_where_a_human_evaluates_only_an_operator_confirms(guarded):
    town = guarded()
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate(acceptance="human")
    worker.report(worker.offer())
    (review,) = boss.mail()
    assert boss.refused(TaskConfirm(review.task, 0, review.result_hash)) == ErrorCode.FORBIDDEN
    assert town.join("human", operator_token="op").confirm(review) == Ok(state="completed")


def test_a_repeated_word_gets_the_same_answer(town, boss, review):
    boss.confirm(review)
    count = len(town.records)
    assert boss.confirm(review) == Ok(state="completed")
    assert len(town.records) == count


def test_a_repeated_rejection_gets_the_same_answer(town, boss, review):
    boss.confirm(review, verdict="reject")
    count = len(town.records)
    assert boss.confirm(review, verdict="reject") == Ok(state="failed")
    assert len(town.records) == count


@pytest.mark.parametrize("first, second", [("accept", "reject"), ("reject", "accept")])
def test_the_first_word_counts_and_another_is_told_which(boss, review, first, second):
    boss.confirm(review, verdict=first)
    answer = boss.confirm(review, verdict=second)
    state = "completed" if first == "accept" else "failed"
    assert (answer.code, answer.data["state"]) == (ErrorCode.CONFLICT, state)


def test_an_acceptance_of_another_result_is_not_the_same_word(boss, task, review, hash_result):
    boss.confirm(review)
    other = hash_result("completed", b"[9]")
    assert boss.refused(TaskConfirm(task, 0, other)) == ErrorCode.CONFLICT


def test_a_rejected_result_ends_the_task(town, boss, task, worker, review):
    worker.mail()
    assert boss.confirm(review, verdict="reject", reason_code="wrong") == Ok(state="failed")
    assert settled(town) == [(task, "failed", "rejected", "boss")]
    (end,) = worker.mail()
    assert (end.state, end.detail, end.result_hash, end.payload) == ("failed", "wrong", None, None)


def test_rework_is_another_revision_with_feedback(town, boss, task, worker, review):
    message = TaskConfirm(task, 0, review.result_hash, "reject", True, "style", b'["shorter"]')
    assert boss.decide(message) == Decision(
        [Reworked(town.now, task, 0, "boss", "style", b'["shorter"]')], Ok(state="queued")
    )
    boss.say(message)
    again = worker.offer()
    assert (again.rev, again.granted) == (1, True)
    assert [(item.rev, item.reason_code, item.payload) for item in again.feedback] == [(0, "style", b'["shorter"]')]


def test_a_word_on_an_earlier_revision_is_refused_and_its_repeat_is_not(town, boss, task, worker, review):
    boss.confirm(review, verdict="reject", rework=True)
    count = len(town.records)
    assert boss.confirm(review, verdict="reject", rework=True) == Ok(state="leased")
    answer = boss.confirm(review)
    assert answer.code == ErrorCode.CONFLICT
    worker.report(worker.offer(), payload=b"[2]")
    assert boss.confirm(review).code == ErrorCode.CONFLICT
    assert len(town.records) == count + 1
    assert boss.say(TaskConfirm(task, 1, review.result_hash)).code == ErrorCode.CONFLICT
    second = boss.mail()[-1]
    assert boss.confirm(second) == Ok(state="completed")


@pytest.mark.parametrize("end", ["accept", "reject"])
def test_a_repeated_wish_for_rework_gets_the_same_answer_when_the_task_has_ended(town, boss, worker, review, end):
    boss.confirm(review, verdict="reject", rework=True)
    worker.report(worker.offer(), payload=b"[2]")
    boss.confirm(boss.mail()[-1], verdict=end)
    count = len(town.records)
    assert boss.confirm(review, verdict="reject", rework=True) == Ok(state=settled(town)[0][1])
    assert boss.confirm(review).code == ErrorCode.CONFLICT
    assert len(town.records) == count


def test_a_result_is_reworked_a_bounded_number_of_times(make_town):
    town = make_town(bounds=Bounds(reworks=1))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    for number in range(2):
        worker.report(worker.offer(), payload=b"[%d]" % number)
        boss.confirm(boss.mail()[-1], verdict="reject", rework=True)
    assert settled(town) == [(task, "failed", "reworks", "boss")]
    assert town.said(Settled)[0].detail == "rejected 2 times"


@pytest.mark.parametrize(
    "choice, outcome",
    [("accept", ("completed", "", "timer")), ("reject", ("failed", "unconfirmed", "timer")), ("hold", None)],
)
def test_a_review_nobody_answers_is_decided_by_the_policy(make_town, choice, outcome):
    town = make_town(on_confirm_timeout=choice)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.report(worker.offer())
    (review,) = boss.mail()
    town.pass_time(9_999)
    assert settled(town) == []
    town.pass_time(1)
    assert settled(town) == ([] if outcome is None else [(task, *outcome)])
    if choice == "accept":
        assert town.said(Settled)[0].result_hash == review.result_hash
        assert boss.confirm(review) == Ok(state="completed")


def test_silence_does_not_decide_where_a_human_was_asked_for(make_town):
    town = make_town(on_confirm_timeout="accept")
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate(acceptance="human")
    worker.report(worker.offer())
    town.pass_time(1_000_000)
    assert settled(town) == []


def test_a_result_reported_in_time_is_not_lost_to_the_deadline(make_town):
    town = make_town(on_confirm_timeout="hold")
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate(limits=TaskLimits(deadline_ms=1_000))
    worker.report(worker.offer())
    town.pass_time(2_000)
    assert town.task(task).state == "reported"
    assert boss.confirm(boss.mail()[-1]) == Ok(state="completed")


def test_a_cancel_that_comes_again_does_not_take_back_what_was_reported_in_between(make_town):
    town = make_town()
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    assert boss.cancel(task).will == "pending"
    worker.report(offer)
    assert boss.cancel(task) == Ok(state="reported", will="too_late")
    assert town.task(task).state == "reported"


def test_a_review_says_how_much_time_is_left(town, boss, task, worker, offer):
    boss.drop()
    worker.report(offer)
    town.pass_time(4_000)
    (review,) = town.join("boss").mail()
    assert review.confirm_ms == 6_000
