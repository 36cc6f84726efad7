"""Delegation: what is asked for, what is streamed, asked and said meanwhile, and its cancellation."""

from dataclasses import asdict, replace

import pytest

from a2a.engine.decision import Decision
from a2a.engine.policy import Admission, Bounds, Durations, digest
from a2a.engine.records import (
    Accepted,
    Adopted,
    Answered,
    ArtifactAppended,
    Asked,
    CancelRequested,
    Delegated,
    Evicted,
    Settled,
    Steered,
)
from a2a.engine.replay.run import Replay
from a2a.engine.timers import due
from a2a.errors import ErrorCode
from a2a.protocol.canonical import content_hash
from a2a.protocol.messages import (
    AttemptError,
    ContextOp,
    ContextWrite,
    Credit,
    Error,
    Held,
    HeldStill,
    Ok,
    Steer,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCreated,
    TaskDelegate,
    TaskHandoff,
    TaskHeartbeat,
    TaskLimits,
    TaskReview,
    TaskRevoke,
    TaskSteer,
    TaskYield,
    Timers,
)
from tests.unit.engine.stages import ask, bring, settled

SPEC = {"skill": "echo", "acceptance": {"evaluator": "delegator"}}


# Creation -------------------------------------------------------------------------------------------------------------


def test_a_delegation_is_one_record_and_one_answer(town, boss):
    message = TaskDelegate("k", SPEC, b'["in"]', limits=TaskLimits(deadline_ms=60_000, attempts=7))
    lsn = town.ledger.lsn + 1
    assert boss.decide(message) == Decision(
        [
            Delegated(
                at=town.now,
                task=f"main-{lsn}",
                scope="principal:boss",
                key="k",
                delegator="boss",
                context_id=f"main-c{lsn}",
                spec=SPEC,
                spec_hash=content_hash(SPEC, b'["in"]'),
                durations=asdict(town.policy.durations),
                bounds=asdict(Bounds(attempts=7)),
                payload=b'["in"]',
                deadline_at=town.now + 60_000,
            )
        ],
        TaskCreated(f"main-{lsn}", 1, True, "queued", f"main-c{lsn}"),
    )


@pytest.mark.parametrize("is_away", [False, True])
def test_the_context_of_a_task_that_names_none_is_one_that_nobody_has_written_to(make_town, is_away):
    """Spec TASK-8. In one that has left memory, DURABLE-12 would want it back before the task is made."""
    town = make_town(linger_contexts_ms=0)
    boss = town.join("boss")
    taken = f"main-c{town.ledger.lsn + 3}"
    boss.say(ContextWrite(taken, "k", [ContextOp("decisions/db", value=b"1", if_rev=0)]))
    if is_away:
        town.pass_time(1_000)
    else:
        boss.delegate("before", context_id="plans")
    assert list(town.ledger.contexts) == ([] if is_away else [taken])
    task = boss.delegate()
    own = town.task(task).context_id
    assert (task, own[: len(taken) + 1], len(own)) == (taken.replace("c", ""), f"{taken}-", len(taken) + 17)


def test_the_same_key_is_the_same_task(town, boss, task):
    count = len(town.records)
    assert boss.say(TaskDelegate("k", SPEC)) == TaskCreated(task, 2, False, "leased", town.task(task).context_id)
    assert len(town.records) == count
    assert len(town.ledger.tasks) == 1


def test_the_same_key_is_the_same_task_after_it_ended(town, boss, task):
    boss.cancel(task, "skip")
    again = boss.say(TaskDelegate("k", SPEC))
    assert (again.task, again.created, again.state) == (task, False, "canceled")


@pytest.mark.parametrize("spec, payload", [({"skill": "echo"}, b"[]"), (SPEC, b"[1]")])
def test_the_same_key_for_other_work_is_refused(boss, task, spec, payload):
    assert boss.refused(TaskDelegate("k", spec, payload)) == ErrorCode.IDEMPOTENCY_MISMATCH


def test_what_is_beside_the_specification_does_not_make_another_task(boss, task):
    again = boss.say(TaskDelegate("k", SPEC, limits=TaskLimits(deadline_ms=5), on_parent_end="abandon"))
    assert (again.task, again.created) == (task, False)


def test_another_principal_has_keys_of_its_own(town, task):
    other = town.join("chief").delegate()
    assert other != task


def test_another_process_of_the_principal_gets_the_task_and_its_notices(town, boss, task, worker, offer):
    again = town.join("boss#2")
    answer = again.say(TaskDelegate("k", SPEC))
    assert (answer.task, answer.created) == (task, False)
    assert town.said(Adopted) == [Adopted(town.now, task, "boss#2")]
    worker.report(offer)
    assert boss.mail() == []
    assert isinstance(again.mail()[0], TaskReview)


def test_who_comes_for_a_group_is_asked_what_its_members_ask(town, boss):
    worker, other = town.worker("w1"), town.worker("w2")
    group = boss.delegate(spec={"redundancy": {"n": 2}})
    done, under_way = worker.offer(), other.offer()
    worker.report(done)
    again = town.join("boss#2")
    assert again.delegate(spec={"redundancy": {"n": 2}}) == group
    assert town.said(Adopted) == [Adopted(town.now, task, "boss#2") for task in (group, under_way.task)]
    other.say(TaskAsk(under_way.task, 1, b"[]", under_way.fence))
    (question,) = again.mail()
    assert (question.kind, question.task) == ("task.ask", under_way.task)
    other.report(under_way)
    assert town.ledger.delegating == {"boss#2": 1}
    before = [record for _, record in town.records if record != Adopted(town.now, under_way.task, "boss#2")]
    assert Replay("main").run(before) is None, "as it was before it came with the group"


def test_whoever_holds_the_task_above_a_group_has_a_say_about_its_members(town, boss, worker):
    first, second = town.worker("lead1", "lead"), town.worker("lead2", "lead", tasks=0)
    boss.delegate(skill="lead")
    offer = first.offer()
    group = TaskDelegate("k", {"skill": "echo", "redundancy": {"n": 2}}, parent=Held(offer.task, offer.fence))
    first.say(group)
    second.say(Credit(1))
    first.say(TaskHandoff(offer.task, offer.fence, "lead2"))
    given = second.offer()
    second.say(replace(group, parent=Held(given.task, given.fence)))
    asking = worker.offer()
    worker.say(TaskAsk(asking.task, 1, b"[]", asking.fence))
    (question,) = second.mail()
    assert question.task == asking.task
    assert town.worker("w2").refused(TaskAnswer(asking.task, 1, b"[]")) == ErrorCode.FORBIDDEN
    assert second.say(TaskAnswer(asking.task, 1, b"[]")) == Ok()
    second.report(given)
    assert second.refused(word(asking.task)) == ErrorCode.FORBIDDEN, "it holds nothing any more"


def test_a_specification_without_a_canonical_form_is_malformed(boss):
    decision = boss.decide(TaskDelegate("k", {"skill": "echo", "x": 2**60}))
    assert (decision.records, decision.reply.code) == ([], ErrorCode.MALFORMED)


def test_a_context_is_named_inherited_or_new(town, boss, worker):
    named = town.task(boss.delegate("1", context_id="mine"))
    held = Held(named.id, worker.offer().fence)
    assert named.context_id == "mine"
    assert town.task(worker.delegate("2", "other", parent=held)).context_id == "mine"
    assert town.task(worker.delegate("3", "other", parent=held, context_id="own")).context_id == "own"
    assert town.task(boss.delegate("4")).context_id.startswith("main-c")


def test_a_task_has_the_timers_and_limits_it_names_and_the_namespaces_for_the_rest(town, boss):
    task = town.task(boss.delegate(timers=Timers(lease_ms=900), limits=TaskLimits(reworks=0)))
    assert (task.durations.lease_ms, task.durations.heartbeat_ms, task.durations.offer_ms) == (900, 300, 500)
    assert (task.bounds.reworks, task.bounds.attempts) == (0, 3)


# Sub-tasks ------------------------------------------------------------------------------------------------------------


def test_the_holder_of_a_task_makes_sub_tasks(town, task, worker, offer):
    child = town.task(worker.delegate("part", "other", parent=Held(task, offer.fence)))
    assert (child.parent, child.depth, child.scope, child.delegator) == (task, 2, f"task:{task}", "w1")
    assert town.task(task).children == [child.id]


def test_a_sub_task_of_an_unknown_task_is_not_found(worker):
    assert worker.refused(TaskDelegate("part", SPEC, parent=Held("main-99", 1))) == ErrorCode.NOT_FOUND


def test_only_the_current_attempt_makes_sub_tasks(town, boss, task, worker, offer):
    message = TaskDelegate("part", SPEC, b"[1]", parent=Held(task, offer.fence))
    assert boss.refused(message) == ErrorCode.NOT_HOLDER
    worker.say(Credit(0))
    town.pass_time(500)
    assert isinstance(worker.say(message), TaskCreated), "a lapsed lease may come back, and the key keeps it one child"
    worker.report(offer)
    assert worker.refused(message) == ErrorCode.STALE


def test_an_offer_that_was_not_accepted_makes_no_sub_tasks(town, task, offer):
    other = town.worker("w2")
    town.pass_time(500)
    again = other.offer()
    assert other.refused(TaskDelegate("part", SPEC, parent=Held(task, again.fence))) == ErrorCode.STALE


def test_the_next_attempt_gets_the_same_child_under_the_same_key(town, task, worker, offer):
    child = worker.delegate("part", "other", parent=Held(task, offer.fence))
    worker.say(TaskYield(task, offer.fence))
    again = worker.offer()
    assert [(known.task, known.key, known.state) for known in again.children] == [(child, "part", "queued")]
    spec = SPEC | {"skill": "other"}
    answer = worker.say(TaskDelegate("part", spec, parent=Held(task, again.fence)))
    assert (answer.task, answer.created) == (child, False)


def test_a_sub_task_ends_no_later_than_its_parent(town, boss, worker):
    parent = boss.delegate(limits=TaskLimits(deadline_ms=10_000))
    held = Held(parent, worker.offer().fence)
    end = town.now + 10_000
    for key, own, expected in (("a", None, end), ("b", 60_000, end), ("c", 5_000, town.now + 5_000)):
        child = worker.delegate(key, "x", parent=held, limits=TaskLimits(deadline_ms=own))
        assert town.task(child).deadline_at == expected


# Artifacts ------------------------------------------------------------------------------------------------------------


def test_a_chunk_is_one_record(town, task, worker, offer):
    message = TaskArtifact(task, offer.fence, "a", 0, b"[1]", name="log", last_chunk=False)
    assert worker.decide(message) == Decision(
        [ArtifactAppended(town.now, task, offer.fence, "a", "log", 0, False, False, b"[1]")], Ok()
    )


def test_chunks_are_appended_in_order_and_once(town, task, worker, offer):
    def chunk(number, append=True, last=False):
        return TaskArtifact(task, offer.fence, "a", number, b"[%d]" % number, append=append, last_chunk=last)

    assert worker.say(chunk(0, append=False)) == Ok()
    assert worker.say(chunk(1)) == Ok()
    count = len(town.records)
    assert worker.say(chunk(1)) == Ok()
    assert worker.say(chunk(0, append=False)) == Ok()
    assert len(town.records) == count, "a repeat is answered and not kept"
    assert worker.refused(chunk(3)) == ErrorCode.CONFLICT
    worker.say(chunk(2, last=True))
    artifact = town.task(task).artifacts["a"]
    assert (artifact.chunks, artifact.last_no, artifact.complete) == ([b"[0]", b"[1]", b"[2]"], 2, True)


def test_an_artifact_without_a_name_is_named_by_its_id(task, worker, offer):
    (record,) = worker.decide(TaskArtifact(task, offer.fence, "a", 0, b"[]")).records
    assert record.name == "a"


def test_a_chunk_that_does_not_append_replaces(town, task, worker, offer):
    worker.say(TaskArtifact(task, offer.fence, "a", 0, b"[0]"))
    worker.say(TaskArtifact(task, offer.fence, "a", 5, b"[5]"))
    assert town.task(task).artifacts["a"].chunks == [b"[5]"]


def test_the_next_attempt_starts_its_artifacts_anew(town, task, worker, offer):
    worker.say(TaskArtifact(task, offer.fence, "a", 0, b"[0]"))
    worker.say(TaskYield(task, offer.fence))
    again = worker.offer()
    message = TaskArtifact(task, again.fence, "a", 0, b"[1]", append=True)
    (record,) = worker.decide(message).records
    assert record.append is False, "there is nothing of its own to append to"
    worker.say(message)
    artifact = town.task(task).artifacts["a"]
    assert (artifact.chunks, artifact.fence) == ([b"[1]"], again.fence)


def test_a_task_has_a_bounded_number_of_chunks(make_town):
    town = make_town(chunks_max=2)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    for number in range(2):
        assert worker.say(TaskArtifact(task, offer.fence, "a", number, b"[]")) == Ok()
    assert worker.refused(TaskArtifact(task, offer.fence, "b", 0, b"[]")) == ErrorCode.QUOTA
    assert worker.say(TaskArtifact(task, offer.fence, "a", 1, b"[]")) == Ok(), "a repeat is no further chunk"


def test_a_tasks_chunks_have_a_bounded_number_of_bytes(make_town):
    town = make_town(chunks_max_bytes=8)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    assert worker.say(TaskArtifact(task, offer.fence, "a", 0, b"[123]")) == Ok()
    assert worker.refused(TaskArtifact(task, offer.fence, "a", 1, b"[12]", append=True)) == ErrorCode.QUOTA
    assert worker.say(TaskArtifact(task, offer.fence, "a", 1, b"[1]")) == Ok(), "what was begun anew counts as well"
    assert worker.refused(TaskArtifact(task, offer.fence, "b", 0, b"1")) == ErrorCode.QUOTA


# Questions ------------------------------------------------------------------------------------------------------------


def test_a_question_parks_the_task_and_goes_to_the_delegator(town, boss, task, worker, offer):
    message = ask(offer, timeout_ms=5_000, default=b'["so"]', auth=True)
    assert worker.decide(message) == Decision(
        [Asked(town.now, task, offer.fence, 1, "hot", True, town.now + 5_000, b'["why?"]', b'["so"]')], Ok()
    )
    worker.say(message)
    assert town.task(task).state == "parked"
    assert boss.mail() == [TaskAsk(task, 1, b'["why?"]', timeout_ms=5_000, default=b'["so"]', auth=True)]


def test_a_question_without_a_time_of_its_own_waits_as_long_as_the_task_says(town, task, worker, offer):
    worker.say(ask(offer))
    assert town.task(task).asks[0].deadline_at == town.now + 20_000


def test_a_question_needs_a_fence(task, worker, offer):
    assert worker.refused(TaskAsk(task, 1, b"[]")) == ErrorCode.MALFORMED


def test_the_holder_goes_on_with_the_answer(town, boss, task, worker, offer):
    worker.say(ask(offer))
    assert boss.decide(TaskAnswer(task, 1, b'["because"]')) == Decision(
        [Answered(town.now, task, 1, "boss", b'["because"]')], Ok()
    )
    boss.say(TaskAnswer(task, 1, b'["because"]'))
    assert (town.task(task).state, town.task(task).holder) == ("leased", "w1")
    assert worker.mail() == [TaskAnswer(task, 1, b'["because"]')]


def test_a_task_goes_on_when_its_last_question_is_answered(town, boss, task, worker, offer):
    worker.say(ask(offer, 1))
    worker.say(ask(offer, 2))
    boss.say(TaskAnswer(task, 2, b"[2]"))
    assert town.task(task).state == "parked"
    boss.say(TaskAnswer(task, 1, b"[1]"))
    assert town.task(task).state == "leased"


def test_a_cold_question_gives_the_attempt_up_and_the_next_one_has_the_answer(town, boss, task, worker, offer):
    worker.say(ask(offer, hold="cold"))
    assert town.ledger.holding["w1"] == {}
    assert worker.beat(offer) == TaskRevoke(task, offer.fence, "superseded", "skip")
    boss.say(TaskAnswer(task, 1, b'["because"]'))
    again = worker.offer()
    assert [(answer.ask_no, answer.payload) for answer in again.answers] == [(1, b'["because"]')]
    assert again.granted


@pytest.mark.parametrize("hold", ["hot", "cold"])
def test_a_repeated_question_is_agreed_to_and_not_asked_again(town, boss, task, worker, offer, hold):
    worker.say(ask(offer, hold=hold))
    count = len(town.records)
    assert worker.say(ask(offer, hold=hold)) == Ok()
    assert len(town.records) == count


def test_a_number_asks_one_question(task, worker, offer):
    worker.say(ask(offer))
    assert worker.refused(ask(offer, payload=b'["what?"]')) == ErrorCode.CONFLICT


def test_only_the_attempt_itself_repeats_its_question(town, boss, task, worker, offer):
    worker.say(ask(offer))
    assert town.join("stranger").refused(ask(offer)) == ErrorCode.NOT_HOLDER
    other = town.worker("w2")
    boss.say(TaskAnswer(task, 1, b"[]"))
    worker.say(Credit(0))
    town.pass_time(3_000)
    other.accept(other.offer())
    assert worker.say(ask(offer)) == Ok(), "the repeat of a request gets its first answer, also when it comes late"
    assert worker.refused(ask(offer, 2)) == ErrorCode.STALE


def test_the_next_attempt_may_ask_what_was_asked_and_has_the_answer_already(town, boss, task, worker, offer):
    worker.say(ask(offer))
    boss.say(TaskAnswer(task, 1, b"[]"))
    worker.say(TaskYield(task, offer.fence))
    again = worker.offer()
    count = len(town.records)
    assert worker.say(ask(again)) == Ok()
    assert len(town.records) == count
    assert town.task(task).state == "leased"
    assert worker.refused(ask(again, payload=b'["else?"]')) == ErrorCode.CONFLICT


def test_to_ask_what_was_asked_before_is_a_sign_of_life(town, boss, task, worker, offer):
    worker.say(ask(offer))
    boss.say(TaskAnswer(task, 1, b"[]"))
    town.pass_time(3_000)
    again = worker.offer()
    assert not again.granted
    assert worker.decide(ask(again)) == Decision([Accepted(town.now, task, again.fence)], Ok())


def test_a_task_asks_a_bounded_number_of_questions(make_town):
    town = make_town(asks_max=1)
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate()
    offer = worker.offer()
    worker.say(ask(offer, 1))
    assert worker.refused(ask(offer, 2)) == ErrorCode.QUOTA


def test_a_task_that_is_canceled_asks_nothing_any_more(boss, task, worker, offer):
    boss.cancel(task)
    assert worker.refused(ask(offer)) == ErrorCode.CONFLICT


def test_a_question_takes_an_offer_and_revives_a_lease(town, task, worker, offer):
    other = town.worker("w2")
    town.pass_time(500)
    again = other.offer()
    assert [type(record) for record in other.decide(ask(again)).records] == [Accepted, Asked]
    worker.say(ask(offer))
    assert town.task(task).state == "parked"


def test_the_first_answer_counts(town, boss, task, worker, offer):
    worker.say(ask(offer))
    boss.say(TaskAnswer(task, 1, b"[1]"))
    count = len(town.records)
    assert boss.say(TaskAnswer(task, 1, b"[1]")) == Ok(state="leased")
    assert len(town.records) == count
    answer = boss.say(TaskAnswer(task, 1, b"[2]"))
    assert (answer.code, answer.data) == (ErrorCode.ALREADY_ANSWERED, {"askNo": 1, "by": "boss", "answer": b"[1]"})


def test_an_answer_to_what_was_not_asked_is_not_found(boss, task, worker, offer):
    assert boss.refused(TaskAnswer(task, 1, b"[]")) == ErrorCode.NOT_FOUND
    assert boss.refused(TaskAnswer("main-99", 1, b"[]")) == ErrorCode.NOT_FOUND


def test_nobody_waits_for_an_answer_when_the_task_has_ended(boss, task, worker, offer):
    worker.say(ask(offer))
    boss.cancel(task, "skip")
    assert boss.refused(TaskAnswer(task, 1, b"[]")) == ErrorCode.CONFLICT


def test_a_question_nobody_answers_takes_its_default(town, boss, task, worker, offer):
    worker.say(ask(offer, timeout_ms=1_000, default=b'["so"]'))
    worker.beat(offer)
    town.pass_time(999)
    assert town.said(Answered) == []
    town.pass_time(1)
    assert town.said(Answered) == [Answered(town.now, task, 1, "timer", b'["so"]')]
    assert worker.mail() == [TaskAnswer(task, 1, b'["so"]')]
    answer = boss.say(TaskAnswer(task, 1, b'["late"]'))
    assert answer.code == ErrorCode.ALREADY_ANSWERED


def test_a_question_without_a_default_ends_the_task(town, task, worker, offer):
    worker.say(ask(offer, timeout_ms=1_000))
    town.pass_time(1_000)
    assert settled(town) == [(task, "failed", "unanswered", "")]


def test_only_the_question_that_is_overdue_takes_its_default(town, boss, task, worker, offer):
    worker.say(ask(offer, 1, timeout_ms=5_000, default=b"[1]", hold="cold"))
    other = town.task(task).asks[0]
    town.pass_time(4_999)
    assert other.answer is None
    town.pass_time(1)
    assert (other.answer, town.task(task).state) == (b"[1]", "leased")


def test_all_overdue_questions_take_their_defaults_at_once(town, task, worker, offer):
    for number in (1, 2):
        worker.say(ask(offer, number, timeout_ms=1_000, default=b"[]"))
    town.pass_time(1_000)
    assert [record.ask_no for record in town.said(Answered)] == [1, 2]
    assert town.task(task).state == "leased"


def test_a_holder_lost_while_parked_leaves_the_question_open(town, boss, task, worker, offer):
    worker.say(ask(offer))
    town.pass_time(3_000)
    assert (town.task(task).state, town.task(task).losses) == ("parked", 1)
    boss.say(TaskAnswer(task, 1, b"[1]"))
    again = worker.offer()
    assert [answer.payload for answer in again.answers] == [b"[1]"]


def test_a_holder_that_comes_back_gets_the_answer_it_missed(town, boss, task, worker, offer):
    worker.say(ask(offer))
    worker.say(Credit(0))
    town.pass_time(3_000)
    boss.say(TaskAnswer(task, 1, b"[1]"))
    assert town.task(task).state == "queued"
    worker.beat(offer)
    assert worker.mail() == [TaskAnswer(task, 1, b"[1]")]
    town.pass_time(3_000)
    worker.beat(offer)
    assert worker.mail() == [], "once is enough"


def test_a_holder_that_comes_back_gets_no_answers_to_the_questions_of_others(town, boss, task, worker, offer):
    worker.say(ask(offer))
    worker.say(Credit(0))
    town.pass_time(3_000)
    boss.say(TaskAnswer(task, 1, b"[1]"))
    other = town.worker("w2")
    again = other.offer()
    other.accept(again)
    other.say(Credit(0))
    town.pass_time(3_000)
    other.beat(again)
    assert town.task(task).holder == "w2"
    assert other.mail() == [], "the answer came with the offer"


def test_an_answer_that_comes_while_the_task_is_canceled_changes_nothing_about_that(town, boss, task, worker, offer):
    worker.say(ask(offer))
    boss.cancel(task)
    assert boss.say(TaskAnswer(task, 1, b"[1]")) == Ok()
    assert town.task(task).state == "canceling"
    assert worker.mail()[-1] == TaskAnswer(task, 1, b"[1]")


def test_a_holder_that_comes_back_while_parked_waits_on(town, boss, task, worker, offer):
    worker.say(ask(offer))
    town.pass_time(3_000)
    worker.beat(offer)
    assert (town.task(task).state, town.task(task).holder) == ("parked", "w1")
    boss.say(TaskAnswer(task, 1, b"[1]"))
    assert worker.mail() == [TaskAnswer(task, 1, b"[1]")]
    assert town.task(task).state == "leased"


def test_a_report_withdraws_the_questions_that_are_open(town, boss, task, worker, offer):
    worker.say(ask(offer, timeout_ms=5_000))
    worker.report(offer)
    assert boss.refused(TaskAnswer(task, 1, b"[]")) == ErrorCode.CONFLICT
    (_, review) = boss.mail()
    boss.confirm(review, verdict="reject", rework=True)
    again = worker.offer()
    assert worker.say(ask(again, timeout_ms=9_000)) == Ok()
    assert isinstance(boss.mail()[-1], TaskAsk), "the next attempt asks in earnest"
    town.pass_time(2_000)
    worker.beat(again)
    town.pass_time(2_000)
    worker.beat(again)
    town.pass_time(1_000)
    assert town.task(task).state == "parked", "the question that was withdrawn has no time limit any more"
    boss.say(TaskAnswer(task, 1, b"[1]"))
    assert town.task(task).state == "leased"
    assert worker.mail() == [TaskAnswer(task, 1, b"[1]")]


# Answers that nobody has read -----------------------------------------------------------------------------------------


@pytest.fixture
def asked(make_town):
    """A town with a question that only waits for an answer, and who may say what."""
    town = make_town(admission=Admission(operator_token=digest("op")))
    boss, worker = town.join("boss"), town.worker("w1")
    operator = town.join("chief", operator_token="op")
    boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    return town, boss, worker, operator, offer


def test_an_operators_answer_takes_the_place_of_one_that_nobody_was_sent(asked):
    town, boss, worker, operator, offer = asked
    worker.say(Credit(0))
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence, hold="cold"))
    boss.say(TaskAnswer(offer.task, 1, b'["red"]'))
    assert operator.say(TaskAnswer(offer.task, 1, b'["blue"]')) == Ok()
    assert boss.refused(TaskAnswer(offer.task, 1, b'["red"]')) == ErrorCode.ALREADY_ANSWERED
    assert operator.refused(TaskAnswer(offer.task, 1, b'["green"]')) == ErrorCode.ALREADY_ANSWERED
    worker.say(Credit(1))
    assert [answer.payload for answer in worker.offer().answers] == [b'["blue"]']


@pytest.mark.parametrize("how", ["by mail", "with an offer", "to another"])
def test_an_answer_that_some_attempt_was_sent_stays(asked, how):
    town, boss, worker, operator, offer = asked
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence, hold="hot" if how == "by mail" else "cold"))
    other = town.worker("w2")
    if how == "to another":
        worker.say(Credit(0))
    boss.say(TaskAnswer(offer.task, 1, b'["red"]'))
    if how != "by mail":
        assert (other if how == "to another" else worker).offer().answers != []
    assert operator.refused(TaskAnswer(offer.task, 1, b'["blue"]')) == ErrorCode.ALREADY_ANSWERED


def test_an_answer_that_went_out_with_an_offer_still_goes_to_who_asked_when_it_comes_back(asked):
    town, boss, worker, operator, offer = asked
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    town.pass_time(3_000)
    other = town.worker("w2")
    worker.say(Credit(0))
    boss.say(TaskAnswer(offer.task, 1, b'["red"]'))
    assert [answer.payload for answer in other.offer().answers] == [b'["red"]']
    worker.beat(offer)
    assert worker.mail()[-1] == TaskAnswer(offer.task, 1, b'["red"]')


def test_an_operators_answer_takes_the_place_of_a_default(asked):
    town, boss, worker, operator, offer = asked
    worker.say(Credit(0))
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence, hold="cold", timeout_ms=100, default=b'["red"]'))
    town.pass_time(100)
    assert boss.refused(TaskAnswer(offer.task, 1, b'["blue"]')) == ErrorCode.ALREADY_ANSWERED
    assert operator.say(TaskAnswer(offer.task, 1, b'["blue"]')) == Ok()
    assert town.task(offer.task).state == "queued"


def test_no_answer_is_replaced_in_a_task_that_has_ended(asked):
    town, boss, worker, operator, offer = asked
    worker.say(Credit(0))
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence, hold="cold"))
    boss.say(TaskAnswer(offer.task, 1, b'["red"]'))
    boss.cancel(offer.task)
    assert operator.refused(TaskAnswer(offer.task, 1, b'["blue"]')) == ErrorCode.ALREADY_ANSWERED


# Words on the way -----------------------------------------------------------------------------------------------------


def word(task, key="k", payload=b'["mind"]', **fields):
    return TaskSteer(task, key, payload, **fields)


def words(peer):
    return [message for message in peer.mail() if isinstance(message, TaskSteer)]


def test_a_word_goes_to_the_holder_and_into_every_later_offer(town, boss, worker, given):
    assert boss.say(word(given.task)) == Ok(state="leased")
    assert town.said(Steered) == [Steered(town.now, given.task, "k", "boss", b'["mind"]')]
    assert words(worker) == [TaskSteer(given.task, "k", b'["mind"]', steer_no=1)]
    boss.say(word(given.task, "k2", b'["more"]'))
    worker.say(TaskYield(given.task, given.fence))
    assert worker.offer().steers == [Steer(1, b'["mind"]'), Steer(2, b'["more"]')]


def test_the_same_word_again_is_agreed_to_and_another_under_its_key_is_not(town, boss, worker, given):
    boss.say(word(given.task))
    before = len(town.records)
    assert boss.say(word(given.task)) == Ok(state="leased")
    assert boss.say(word(given.task, if_gen=1, mode="interrupt")) == Ok(state="leased")
    assert len(town.records) == before
    assert boss.refused(word(given.task, payload=b'["other"]')) == ErrorCode.IDEMPOTENCY_MISMATCH
    worker.report(given)
    assert boss.say(word(given.task)) == Ok(state="reported")


def test_only_who_controls_the_task_steers_it(town, boss, given):
    assert town.worker("w2").refused(word(given.task)) == ErrorCode.FORBIDDEN
    assert boss.refused(word("main-99")) == ErrorCode.NOT_FOUND


@pytest.mark.parametrize("kind", ["word", "answer"])
def test_what_is_said_for_another_generation_is_refused(town, boss, worker, given, kind):
    worker.say(TaskAsk(given.task, 1, b"[]", given.fence))
    generation = town.task(given.task).generation

    def say(if_gen):
        return word(given.task, if_gen=if_gen) if kind == "word" else TaskAnswer(given.task, 1, b"[]", if_gen=if_gen)

    refusal = boss.say(say(generation - 1))
    assert (refusal.code, refusal.data) == (
        ErrorCode.GENERATION_MISMATCH,
        {"generation": generation, "state": "parked"},
    )
    assert boss.refused(say(0)) == ErrorCode.GENERATION_MISMATCH
    assert isinstance(boss.say(say(generation)), Ok)
    assert isinstance(boss.say(say(generation)), Ok), "a repeat is known by its key"


@pytest.mark.parametrize("state", ["reported", "canceling", "completed"])
def test_a_word_comes_too_late_for_what_nobody_works_on_any_more(boss, worker, given, state):
    if state == "canceling":
        boss.cancel(given.task)
    else:
        worker.report(given)
    if state == "completed":
        boss.confirm(boss.mail()[-1])
    assert boss.refused(word(given.task)) == ErrorCode.CONFLICT


def test_a_word_is_for_the_members_of_a_group_and_not_for_the_group(town, boss, worker):
    group = boss.delegate(acceptance="auto", spec={"redundancy": {"n": 2}})
    assert boss.refused(word(group)) == ErrorCode.CONFLICT
    offer = worker.offer()
    assert boss.say(word(offer.task)) == Ok(state="leased")
    assert words(worker) == [TaskSteer(offer.task, "k", b'["mind"]', steer_no=1)]


def test_a_task_hears_a_bounded_number_of_words(make_town):
    town = make_town(steers_max=2)
    boss = town.join("boss")
    task = boss.delegate()
    for key in ("1", "2"):
        assert isinstance(boss.say(word(task, key)), Ok)
    assert boss.refused(word(task, "3")) == ErrorCode.QUOTA
    assert isinstance(boss.say(word(task, "1")), Ok)


def test_what_is_said_to_a_task_has_a_bounded_number_of_bytes_together(make_town):
    """Words, answers and feedback: all of it goes with each offer, which ends a connection that cannot hold it."""
    town = make_town(said_max_bytes=19)
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate()
    (offer,) = worker.mail()
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    assert isinstance(boss.say(word(offer.task, "1", b'"8 bytes"')), Ok)
    assert isinstance(boss.say(TaskAnswer(offer.task, 1, b'"answer"')), Ok)
    assert boss.refused(word(offer.task, "2", b'"x"')) == ErrorCode.QUOTA
    assert isinstance(boss.say(word(offer.task, "2", b"[]")), Ok)
    worker.say(TaskAsk(offer.task, 2, b"[]", offer.fence))
    assert boss.refused(TaskAnswer(offer.task, 2, b"[]")) == ErrorCode.QUOTA
    assert isinstance(boss.say(word(offer.task, "1", b'"8 bytes"')), Ok)


def test_a_result_is_sent_back_with_no_more_than_a_task_may_be_told(make_town):
    town = make_town(said_max_bytes=8)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    (offer,) = worker.mail()
    worker.report(offer)
    (review,) = boss.mail()
    refused = boss.confirm(review, verdict="reject", rework=True, payload=b'["again"]')
    assert isinstance(refused, Error) and refused.code == ErrorCode.QUOTA
    assert boss.confirm(review, verdict="reject", rework=True, payload=b'["no"]') == Ok(state="queued")
    (again,) = worker.mail()
    assert (again.task, [given.payload for given in again.feedback]) == (task, [b'["no"]'])


def test_a_word_to_a_task_that_waits_is_in_its_offer_and_not_sent_beside_it(town, boss):
    task = boss.delegate()
    boss.say(word(task))
    worker = town.worker("w1")
    (offer,) = worker.mail()
    assert offer.steers == [Steer(1, b'["mind"]')]
    boss.say(word(task, "2"))
    assert [message.steer_no for message in words(worker)] == [2]


def test_a_word_said_while_the_lease_had_lapsed_is_heard_by_who_comes_back(town, boss, worker, given):
    boss.say(word(given.task, "1"))
    town.worker("w2", tasks=0)
    worker.say(Credit(0))
    town.pass_time(3_000)
    boss.say(word(given.task, "2", b'["again"]'))
    assert [message.steer_no for message in words(worker)] == [1]
    worker.beat(given)
    assert [message.steer_no for message in words(worker)] == [2]


def test_a_word_said_while_an_offer_was_out_is_heard_by_who_takes_it(town, boss, worker, given):
    other = town.worker("w2")
    town.pass_time(3_000)
    offer = other.offer()
    boss.say(word(given.task))
    assert words(other) == []
    other.accept(offer)
    assert [message.steer_no for message in words(other)] == [1]
    assert words(worker) == []


def test_an_interrupt_takes_the_attempt_away_and_the_next_one_begins_with_the_word(town, boss, worker, given):
    boss.say(word(given.task, mode="interrupt"))
    assert town.said(Evicted) == [Evicted(town.now, given.task, given.fence, "steer", town.now + 2_000)]
    assert [type(message) for message in worker.mail()] == [TaskSteer, TaskRevoke]
    worker.say(TaskYield(given.task, given.fence))
    again = worker.offer()
    assert again.steers == [Steer(1, b'["mind"]')]
    assert worker.report(again, steer_no=1) == "admitted"
    assert not boss.mail()[-1].unseen_steer


@pytest.mark.parametrize("state", ["queued", "parked"])
def test_an_interrupt_takes_nothing_from_who_is_not_at_work(town, boss, worker, given, state):
    if state == "parked":
        worker.say(TaskAsk(given.task, 1, b"[]", given.fence))
    else:
        worker.say(Credit(0))
        town.pass_time(3_000)
    assert boss.say(word(given.task, mode="interrupt")) == Ok(state=state)
    assert town.said(Evicted) == []


@pytest.mark.parametrize("evaluator", ["auto", "delegator"])
def test_a_result_written_before_the_newest_word_was_seen_waits_for_the_delegator(town, boss, worker, evaluator):
    task = boss.delegate(acceptance=evaluator)
    offer = worker.offer()
    boss.say(word(task, "1"))
    boss.say(word(task, "2"))
    assert worker.report(offer, steer_no=1) == "admitted"
    assert town.task(task).state == "reported"
    review = boss.mail()[-1]
    assert review.unseen_steer
    assert boss.confirm(review) == Ok(state="completed")


def test_a_result_that_saw_the_newest_word_is_taken_as_any_other(town, boss, worker):
    task = boss.delegate(acceptance="auto")
    offer = worker.offer()
    boss.say(word(task))
    worker.report(offer, steer_no=1)
    assert town.task(task).state == "completed"


# Canceling ------------------------------------------------------------------------------------------------------------

MODES = ("coop", "kill", "skip")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", ["queued", "offered", "parked cold", "parked lapsed", "reported"])
def test_a_task_nobody_is_at_work_on_is_canceled_at_once(town, state, mode):
    task, boss, worker, offer = bring(town, state)
    assert boss.decide(TaskCancel(task, mode, "enough")) == Decision(
        [Settled(town.now, task, "canceled", "canceled", "enough", "boss")], Ok("canceled", "canceled")
    )
    boss.cancel(task, mode)
    if state == "offered":
        assert worker.mail() == [TaskRevoke(task, offer.fence, "superseded", "skip")]


@pytest.mark.parametrize("mode", ["coop", "kill"])
@pytest.mark.parametrize("state", ["leased", "parked hot"])
def test_an_agent_at_work_is_asked_to_end(town, state, mode):
    task, boss, worker, offer = bring(town, state)
    assert boss.decide(TaskCancel(task, mode, "enough", 700)) == Decision(
        [CancelRequested(town.now, task, mode, "enough", "boss", town.now + 700)], Ok("canceling", "pending")
    )
    boss.cancel(task, mode, reason="enough", grace_ms=700)
    assert town.task(task).state == "canceling"
    assert worker.mail() == [TaskRevoke(task, offer.fence, "cancel", mode, 700)]
    town.pass_time(699)
    assert settled(town) == []
    town.pass_time(1)
    assert settled(town) == [(task, "canceled", "canceled", "boss")]
    assert town.said(Settled)[0].detail == "enough"
    assert worker.report(offer) == "late"


def test_a_cancel_without_a_grace_of_its_own_has_the_tasks(town):
    task, boss, *_ = bring(town, "leased")
    boss.cancel(task)
    assert town.task(task).cancel.grace_at == town.now + 2_000


@pytest.mark.parametrize("state", ["leased", "parked hot", "canceling"])
def test_skipped_work_ends_at_once(town, state):
    task, boss, worker, offer = bring(town, state)
    assert boss.cancel(task, "skip") == Ok("canceled", "canceled")
    assert worker.mail() == [TaskRevoke(task, offer.fence, "cancel", "skip")]
    assert worker.report(offer) == "late"
    assert town.ledger.holding["w1"] == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", ["completed", "failed", "rejected"])
def test_a_task_that_has_ended_is_not_cancelable(town, state, mode):
    task, boss, *_ = bring(town, state)
    assert boss.refused(TaskCancel(task, mode)) == ErrorCode.NOT_CANCELABLE


@pytest.mark.parametrize("mode", MODES)
def test_a_canceled_task_stays_canceled(town, mode):
    task, boss, *_ = bring(town, "canceled")
    count = len(town.records)
    assert boss.cancel(task, mode) == Ok("canceled", "canceled")
    assert len(town.records) == count


def test_a_repeated_cancel_changes_nothing(town):
    task, boss, *_ = bring(town, "canceling")
    count = len(town.records)
    assert boss.cancel(task) == Ok("canceling", "pending")
    assert len(town.records) == count


def test_a_cancel_may_become_a_kill_and_not_the_other_way(town):
    task, boss, worker, offer = bring(town, "canceling")
    boss.cancel(task, "kill", grace_ms=100)
    assert worker.mail() == [TaskRevoke(task, offer.fence, "cancel", "kill", 100)]
    count = len(town.records)
    boss.cancel(task, "coop")
    boss.cancel(task, "kill")
    assert len(town.records) == count
    town.pass_time(100)
    assert town.task(task).state == "canceled"


def test_a_result_wins_over_a_request_to_cancel(town):
    task, boss, worker, offer = bring(town, "canceling")
    assert worker.report(offer) == "admitted"
    assert town.task(task).state == "reported"
    assert boss.confirm(boss.mail()[-1]) == Ok(state="completed")


def test_a_repeated_cancel_that_comes_after_the_result_is_too_late(town):
    task, boss, worker, offer = bring(town, "canceling")
    worker.report(offer)
    count = len(town.records)
    assert boss.cancel(task) == Ok("reported", "too_late")
    assert len(town.records) == count


@pytest.mark.parametrize("who, mode", [("boss", "kill"), ("boss", "skip"), ("boss#2", "coop")])
def test_another_cancel_after_the_result_ends_the_task(town, who, mode):
    task, boss, worker, offer = bring(town, "canceling")
    worker.report(offer)
    canceler = boss if who == "boss" else town.join(who)
    assert canceler.cancel(task, mode) == Ok("canceled", "canceled")


def test_a_cancel_of_a_later_revision_is_no_repeat_of_an_earlier_one(town):
    task, boss, worker, offer = bring(town, "canceling")
    worker.report(offer)
    boss.confirm(boss.mail()[-1], verdict="reject", rework=True)
    worker.report(worker.offer(), payload=b"[2]")
    assert boss.cancel(task) == Ok("canceled", "canceled")


def test_a_result_that_won_is_not_canceled_when_the_grace_ends(town):
    task, _, worker, offer = bring(town, "canceling")
    worker.report(offer)
    town.pass_time(5_000)
    assert town.task(task).state == "reported"
    assert due(town.coordinator.world, town.task(task), town.now) == []


def test_a_result_does_not_win_over_a_kill(town):
    task, boss, worker, offer = bring(town, "leased")
    boss.cancel(task, "kill", reason="now")
    assert worker.report(offer) == "late"
    assert settled(town) == [(task, "canceled", "canceled", "boss")]
    assert [kept.verdict for kept in town.task(task).evidence] == ["late"]
    assert town.task(task).results == []


@pytest.mark.parametrize("mode", ["coop", "kill"])
@pytest.mark.parametrize("outcome", ["failed", "canceled", "rejected"])
def test_any_other_outcome_of_a_canceled_attempt_ends_the_task_as_canceled(town, mode, outcome):
    task, boss, worker, offer = bring(town, "leased")
    boss.cancel(task, mode)
    error = AttemptError(retryable=True) if outcome == "failed" else None
    assert worker.report(offer, outcome, error=error) == "admitted"
    assert settled(town) == [(task, "canceled", "canceled", "boss")]


def test_a_task_that_was_saved_from_cancel_can_be_canceled_again(town):
    task, boss, worker, offer = bring(town, "canceling")
    worker.report(offer)
    boss.confirm(boss.mail()[-1], verdict="reject", rework=True)
    again = worker.offer()
    worker.beat(again)
    assert boss.cancel(task) == Ok("canceling", "pending")
    assert town.task(task).state == "canceling"
    assert worker.mail() == [TaskRevoke(task, again.fence, "cancel", "coop", 2_000)]
    town.pass_time(2_000)
    assert town.task(task).state == "canceled"


def test_a_worker_that_hears_nothing_is_told_at_its_next_word(town, boss, task, worker, offer):
    town.pass_time(400)
    worker.drop()
    boss.cancel(task, "skip")
    again = town.worker("w1", held=[HeldStill(task, offer.fence)])
    assert again.say(TaskHeartbeat(task, offer.fence)) == TaskRevoke(task, offer.fence, "settled", "skip")


def test_errors_of_requests_are_data_and_no_exceptions(boss):
    assert isinstance(boss.say(TaskCancel("main-1")), Error)


# Settings for a skill -------------------------------------------------------------------------------------------------


def test_a_skill_has_durations_of_its_own(make_town):
    slow = Durations(heartbeat_ms=5_000, lease_ms=60_000, stall_ms=7_000)
    town = make_town(skills={"slow": slow})
    boss = town.join("boss")
    assert town.task(boss.delegate("1", "slow")).durations == slow
    assert town.task(boss.delegate("2", "echo")).durations == town.policy.durations
    named = town.task(boss.delegate("3", "slow", timers=Timers(lease_ms=9_000))).durations
    assert named == Durations(heartbeat_ms=3_000, lease_ms=9_000, stall_ms=7_000)
