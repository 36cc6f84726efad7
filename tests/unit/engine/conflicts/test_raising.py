"""Somebody says that things contradict each other."""

import json
from dataclasses import replace

import pytest

from a2a.engine.conflicts import raising
from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import ConflictJoined, ConflictOpened, ConflictResolved, Recalled
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ClaimAcquire,
    ConflictGet,
    ConflictList,
    ConflictRaise,
    ConflictRaised,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Held,
    Ok,
    RaisedSubject,
    TaskConfirm,
    TaskDelegate,
    TaskGet,
    TaskLimits,
    TaskSteer,
)
from tests.unit.engine.conflicts.court import ladder


def text(words):
    return b'[{"artifactId":"result","name":"result","parts":[{"text":"%s"}]}]' % words.encode()


def tasks(*names, kind="result", **fields):
    return ConflictRaise(kind, [RaisedSubject(task=name) for name in names], **fields)


class Dispute:
    """A boss, two workers with a result each that waits for the boss's word, and a reader that finds fault."""

    def __init__(self, town):
        self.town, self.boss = town, town.join("boss")
        self.workers = [town.worker(name) for name in ("w0", "w1")]
        self.reader = town.join("reader")
        self.tasks = [self.boss.delegate(key) for key in "ab"]
        self.offers = [worker.offer() for worker in self.workers]
        for worker, offer in zip(self.workers, self.offers, strict=True):
            worker.report(offer, payload=text(worker.name))
        self.tasks = [offer.task for offer in self.offers]
        self.reviews = {mail.task: mail for mail in self.boss.mail() if mail.kind == "task.review"}

    def raised(self, message=None, by=None):
        answer = (by or self.reader).say(message or tasks(*self.tasks))
        assert isinstance(answer, ConflictRaised), answer
        return answer

    def states(self):
        return [str(self.town.task(task).state) for task in self.tasks]

    @property
    def conflict(self):
        (conflict,) = self.town.ledger.conflicts.values()
        return conflict


@pytest.fixture
def dispute(make_town):
    def make(*rungs, **policy):
        ladder = [rung if isinstance(rung, dict) else {"strategy": rung} for rung in rungs or ("human", "abort")]
        given = {"admission": Admission(operator_token=digest("op")), "ladder": tuple(ladder), "ladders": LADDERS}
        return Dispute(make_town(**(given | policy)))

    return make


# What a raise does ----------------------------------------------------------------------------------------------------


def test_a_word_comes_too_late_for_what_was_reported_and_is_disputed(dispute):
    made = dispute()
    made.raised()
    assert made.states() == ["disputed", "disputed"]
    assert made.boss.refused(TaskSteer(made.tasks[0], "k", b"[]")) == ErrorCode.CONFLICT


def test_results_that_contradict_each_other_settle_nothing_until_that_is_decided(dispute):
    case = dispute()
    answer = case.raised()
    assert (answer.created, answer.is_open, answer.object) == (True, True, f"task:{case.tasks[0]}")
    assert case.states() == ["disputed", "disputed"]
    review = case.reviews[case.tasks[0]]
    word = TaskConfirm(review.task, review.rev, review.result_hash)
    assert case.boss.refused(word) == ErrorCode.CONFLICT
    case.town.pass_time(20_000)
    assert case.states() == ["disputed", "disputed"], "silence accepts nothing either"
    person = case.town.join("ann", operator_token="op")
    assert person.say(ConflictVote(answer.conflict, case.tasks[1], "read both")) == Ok(state="select")
    assert case.states() == ["reported", "reported"]
    one, other = (case.town.task(task).results[-1] for task in case.tasks)
    assert (one.overruled, other.overruled) == (answer.conflict, "")
    crossing = replace(word, if_gen=review.generation)
    assert case.boss.refused(crossing) == ErrorCode.GENERATION_MISMATCH, "it was said before that was decided"
    shown = [case.boss.say(TaskGet(task)).view["metadata"].get("overruled") for task in case.tasks]
    assert shown == [answer.conflict, None]
    case.town.pass_time(10_000)
    assert case.states() == ["failed", "completed"], "silence does not accept what was overruled"


def test_a_cancel_that_comes_again_after_the_result_takes_nothing_that_is_disputed(make_town):
    town = make_town(ladders=LADDERS)
    boss, worker, reader = town.join("boss"), town.worker("w"), town.join("reader")
    task = boss.delegate()
    offer = worker.offer()
    assert boss.cancel(task).will == "pending"
    worker.report(offer)
    raised = reader.say(ConflictRaise("result", [RaisedSubject(task=task), RaisedSubject(value=b"7")]))
    assert boss.cancel(task) == Ok(state="disputed", will="too_late")
    assert town.task(task).conflicts == [raised.conflict]
    assert boss.cancel(task, "kill") == Ok(state="canceled", will="canceled"), "another one is no repeat"


def test_all_parties_hear_of_it_twice(dispute):
    case = dispute("first_wins")
    case.raised()
    for peer, role in ((case.workers[0], "author"), (case.boss, "delegator"), (case.reader, "raiser")):
        opened, resolved = [mail for mail in peer.mail() if mail.kind.startswith("conflict.")]
        assert (opened.kind, resolved.kind) == ("conflict.opened", "conflict.resolved")
        assert (opened.your_role, opened.rule, opened.object) == (role, "raise", f"task:{case.tasks[0]}")
        assert [subject.group for subject in opened.subjects] == [0, 1]
        assert (resolved.outcome, resolved.ref, resolved.dissent) == ("select", case.tasks[0], [case.tasks[1]])


def test_a_result_is_held_against_what_somebody_else_says(dispute):
    case = dispute("abort")
    subjects = [RaisedSubject(task=case.tasks[0]), RaisedSubject(value=b'"it is 7"')]
    case.raised(ConflictRaise("result", subjects, claim="it is 7, not w0", payload=b'[{"text":"see line 3"}]'))
    assert case.conflict.outcome == "reject_all"
    assert case.states() == ["reported", "reported"]
    assert case.town.task(case.tasks[0]).results[-1].overruled == case.conflict.id
    assert case.town.task(case.tasks[1]).results[-1].overruled == ""
    found = case.boss.say(ConflictGet(case.conflict.id))
    assert found.view["raises"][0]["claim"] == "it is 7, not w0"
    assert {"raiser": "reader", "payload": b'[{"text":"see line 3"}]'} in found.payloads
    assert {"ref": "value-2", "payload": b'"it is 7"'} in found.payloads


def test_equal_results_are_one_class_and_may_be_the_majority(dispute):
    case = dispute("majority", "abort")
    third = case.boss.delegate("c")
    worker = next(worker for worker in case.workers if worker.mailbox[-1][1].task == third)
    worker.report(worker.offer(), payload=text("w1"))
    case.raised(tasks(*case.tasks, third))
    assert [candidate.number for candidate in case.conflict.candidates] == [0, 1, 1]
    assert (case.conflict.ref, case.conflict.by) == (case.tasks[1], "majority")
    assert case.town.task(third).results[-1].overruled == "", "it is the same as the one that stands"


def test_results_of_settled_tasks_are_decided_about_and_blocked_by_nothing(dispute):
    case = dispute("first_wins")
    for review in case.reviews.values():
        case.boss.confirm(review)
    case.raised()
    assert (case.conflict.outcome, case.conflict.blocks) == ("select", [])
    assert case.states() == ["completed", "completed"]


def test_results_that_have_left_memory_can_be_told_apart_all_the_same(dispute):
    case = dispute("first_wins", linger_ms=0)
    for review in case.reviews.values():
        case.boss.confirm(review)
    for peer in (case.boss, *case.workers):
        peer.acknowledge()
    case.town.pass_time(5_000)
    assert not any(task in case.town.ledger.tasks for task in case.tasks)
    case.raised()
    assert case.conflict.ref == case.tasks[0]
    assert case.town.said(Recalled) == []
    assert not any(task in case.town.ledger.tasks for task in case.tasks)


def test_a_conflict_whose_tasks_end_otherwise_is_moot(dispute):
    case = dispute()
    case.raised()
    case.boss.cancel(case.tasks[0])
    assert case.conflict.is_open
    case.boss.cancel(case.tasks[1])
    assert (case.conflict.outcome, case.states()) == ("moot", ["canceled", "canceled"])
    assert case.workers[0].mail()[-1].kind == "conflict.resolved"


def test_a_delegator_has_more_to_say_than_who_works_for_it(dispute):
    case = dispute("authority", "abort")
    case.raised(ConflictRaise("result", [RaisedSubject(task=case.tasks[0]), RaisedSubject(value=b"7")]), by=case.boss)
    assert (case.conflict.by, case.conflict.ref) == ("authority", "value-2")


def test_who_is_above_a_subtask_has_more_to_say_after_both_tasks_have_left_memory(make_town):
    town = make_town(linger_ms=0, ladder=({"strategy": "authority"}, {"strategy": "abort"}))
    boss, planner, worker = town.join("boss"), town.worker("planner", "plan"), town.worker("worker")
    boss.delegate("root", skill="plan", acceptance="auto")
    above = planner.offer()
    spec = {"skill": "echo", "acceptance": {"evaluator": "auto"}}
    leaf = planner.say(TaskDelegate("leaf", spec, b"[]", parent=Held(above.task, above.fence))).task
    worker.report(worker.offer())
    planner.report(above)
    town.pass_time(5_000)
    assert not {above.task, leaf} & {*town.ledger.tasks}
    boss.say(ConflictRaise("result", [RaisedSubject(task=leaf), RaisedSubject(value=b"7")]))
    (conflict,) = town.ledger.conflicts.values()
    assert (conflict.by, conflict.ref) == ("authority", "value-2")


def test_what_a_person_wrote_has_more_to_say_than_all_agents(make_town):
    ladders = {"context": ({"strategy": "authority"}, {"strategy": "abort"})}
    town = make_town(admission=Admission(operator_token=digest("op")), ladders=ladders)
    boss, person = town.join("boss"), town.join("carl", operator_token="op")
    person.say(ContextWrite("plans", "w", [ContextOp("a", value=b"1")]))
    boss.say(ConflictRaise("context", [RaisedSubject(context_id="plans", key="a"), RaisedSubject(value=b"2")]))
    (conflict,) = town.ledger.conflicts.values()
    assert (conflict.by, conflict.ref) == ("authority", "revision-1")


def test_who_is_above_the_holder_of_a_claim_has_more_to_say_once_the_task_has_left_memory(make_town):
    ladder = (
        {"strategy": "judge", "skill": "judge", "timeoutMs": 60_000},
        {"strategy": "authority"},
        {"strategy": "abort"},
    )
    town = make_town(linger_ms=0, ladders={"resource": ladder})
    boss, worker = town.join("boss"), town.worker("worker")
    task = boss.delegate(acceptance="auto", spec={"resources": [{"name": "main", "mode": "x"}]})
    offer = worker.offer()
    (claim,) = town.ledger.claims.claims.values()
    subjects = [RaisedSubject(resource="main", fence=claim.fence), RaisedSubject(resource="other", fence=1)]
    boss.say(ConflictRaise("resource", subjects, object="resource:main"))
    worker.report(offer)
    town.pass_time(59_000)
    assert task not in town.ledger.tasks
    (conflict,) = town.ledger.conflicts.values()
    assert conflict.is_open
    town.pass_time(2_000)
    assert (conflict.by, conflict.ref) == ("authority", "fence-2")


def test_who_is_above_the_author_of_a_revision_has_more_to_say_after_the_task_has_left_memory(make_town):
    ladders = {"context": ({"strategy": "authority"}, {"strategy": "abort"})}
    town = make_town(linger_ms=0, ladders=ladders)
    boss, worker = town.join("boss"), town.worker("worker")
    task = boss.delegate(acceptance="auto", context_id="plans")
    offer = worker.offer()
    worker.say(ContextWrite("plans", "w", [ContextOp("a", value=b"1")], attempt=Held(task, offer.fence)))
    worker.report(offer)
    town.pass_time(5_000)
    assert task not in town.ledger.tasks
    boss.say(ConflictRaise("context", [RaisedSubject(context_id="plans", key="a"), RaisedSubject(value=b"2")]))
    (conflict,) = town.ledger.conflicts.values()
    assert (conflict.by, conflict.ref) == ("authority", "value-2")


def test_among_equals_nobody_has_more_to_say(dispute):
    case = dispute("authority", "abort")
    case.raised()
    assert [stage.strategy for stage in case.conflict.stages] == ["authority", "abort"]


def test_a_judge_is_nobody_who_is_involved_and_is_told_what_it_is_about(dispute):
    case = dispute({"strategy": "judge", "skill": "judge"}, "abort")
    case.workers[0].drop()
    case.town.worker("w0", "echo", "judge", instance_id="w0-1")
    judges = [case.town.worker(f"j{number}", "judge") for number in range(2)]
    case.raised(tasks(*case.tasks, claim="one of them is wrong"))
    for judge in judges:
        offer = judge.offer()
        asked = json.loads(offer.payload)[0]["data"]
        assert asked["task"] == {"kind": "result", "object": case.conflict.object, "claim": "one of them is wrong"}
        place = asked["candidates"].index(json.loads(text("w1")))
        judge.report(offer, payload=b'[{"artifactId":"result","parts":[{"data":{"choice":%d}}]}]' % place)
    assert (case.conflict.by, case.conflict.ref) == ("judge", case.tasks[1])


def test_what_was_asked_stays_until_all_have_answered(dispute):
    case = dispute({"strategy": "judge", "skill": "judge"}, "abort", linger_ms=0)
    judges = [case.town.worker(f"j{number}", "judge") for number in range(2)]
    case.raised()
    judges[0].report(judges[0].offer(), payload=b'[{"parts":[{"data":{"choice":0}}]}]')
    for peer in (case.boss, case.reader, judges[0]):
        peer.acknowledge()
    judges[1].beat(judges[1].offer())
    case.town.pass_time(2_500)
    assert case.conflict.is_open
    assert all(asked in case.town.ledger.tasks for asked in case.conflict.stages[0].asked)


def test_the_time_of_a_rung_is_kept_over_a_restart(dispute):
    case = dispute({"strategy": "human", "timeoutMs": 30_000}, "abort")
    case.raised()
    again = case.town.restart(after=1_000)
    (conflict,) = again.ledger.conflicts.values()
    again.pass_time(28_000)
    assert conflict.is_open
    again.pass_time(2_000)
    assert conflict.outcome == "reject_all"


def test_an_outcome_is_appealed_where_the_namespace_gives_time_for_it(dispute):
    case = dispute("first_wins", appeal_ms=1_000)
    case.raised()
    assert case.states() == ["disputed", "disputed"]
    case.town.pass_time(1_000)
    assert case.states() == ["reported", "reported"]


def test_what_nobody_has_changed_is_merged_by_somebody_or_not_at_all(dispute):
    case = dispute("merge", "abort")
    case.raised()
    assert [stage.winner for stage in case.conflict.stages] == [None, None]


# Other things ---------------------------------------------------------------------------------------------------------


def test_revisions_of_a_context_may_contradict_each_other(dispute):
    case = dispute()
    for key, value in (("db", b'"postgres"'), ("orm", b'"for sqlite"')):
        case.boss.say(ContextWrite("plans", key, [ContextOp(key, 0, value)]))
    subjects = [RaisedSubject(context_id="plans", key="db", rev=1), RaisedSubject(context_id="plans", key="orm", rev=1)]
    answer = case.raised(ConflictRaise("context", subjects))
    assert answer.object == "context:plans/db"
    written = case.boss.say(ContextWrite("plans", "w", [ContextOp("db", 1, b'"sqlite"')]))
    assert written.revs == {"db": 2}, "it holds up nobody"
    missing = [RaisedSubject(context_id="plans", key="db", rev=9), subjects[1]]
    assert case.reader.refused(ConflictRaise("context", missing)) == ErrorCode.NOT_FOUND


def test_fences_of_a_resource_may_contradict_each_other(dispute):
    case = dispute()
    granted = case.boss.say(ClaimAcquire(1, [{"name": "repo/main"}]))
    shown = [
        RaisedSubject(resource="repo/main", fence=granted.claim_fence),
        RaisedSubject(resource="repo/main", fence=2),
    ]
    assert case.raised(ConflictRaise("resource", shown)).object == "resource:repo/main"
    assert [candidate.agent for candidate in case.conflict.candidates] == ["boss", "reader"]


def test_what_the_subjects_do_not_say_the_raiser_does(dispute):
    case = dispute()
    says = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    assert case.reader.refused(ConflictRaise("identity", says)) == ErrorCode.MALFORMED
    assert case.reader.refused(ConflictRaise("identity", says, "task:main-1")) == ErrorCode.MALFORMED
    assert case.reader.refused(ConflictRaise("identity", says, "agent:nobody")) == ErrorCode.NOT_FOUND
    assert case.reader.refused(ConflictRaise("instruction", says, "task:main-99")) == ErrorCode.NOT_FOUND
    assert case.raised(ConflictRaise("identity", says, "agent:w0")).object == "agent:w0"


# A rejection ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rework", [True, False])
def test_the_worker_contests_that_its_result_was_rejected(dispute, rework):
    case = dispute()
    first, second = case.tasks
    case.boss.confirm(case.reviews[first], verdict="reject", rework=rework, reason_code="no")
    assert case.workers[1].refused(tasks(first)) == ErrorCode.FORBIDDEN
    assert case.workers[1].refused(tasks(second)) == ErrorCode.MALFORMED, "nobody has rejected it"
    case.raised(tasks(first), by=case.workers[0])
    assert (case.conflict.rule, case.conflict.blocks) == ("r4", [])
    assert [(known.form, known.agent) for known in case.conflict.candidates] == [
        ("result", "w0"),
        ("rejection", "boss"),
    ]


def test_a_rejection_is_contested_soon(dispute):
    case = dispute()
    case.boss.confirm(case.reviews[case.tasks[0]], verdict="reject")
    case.town.pass_time(60_001)
    assert case.workers[0].refused(tasks(case.tasks[0])) == ErrorCode.DENIED


# Repeats and limits ---------------------------------------------------------------------------------------------------


def test_the_same_raise_is_a_repeat_also_when_it_is_decided(dispute):
    case = dispute()
    first = case.raised()
    records = len(case.town.records)
    again = case.raised(tasks(*reversed(case.tasks), claim="said again"))
    assert (again.conflict, again.created, again.is_open) == (first.conflict, False, True)
    person = case.town.join("ann", operator_token="op")
    person.say(ConflictVote(first.conflict, None))
    assert case.raised().is_open is False
    assert len(case.town.said(ConflictOpened)) == 1
    assert len(case.town.said(ConflictJoined)) == 0
    assert len(case.town.said(ConflictResolved)) == 1
    assert records < len(case.town.records)


def test_what_others_say_about_the_same_joins_it(dispute):
    case = dispute(conflict_raises_max=2)
    first = case.raised()
    more = ConflictRaise(
        "result", [RaisedSubject(task=case.tasks[1]), RaisedSubject(value=b"8")], claim="it is 8", payload=b'["see"]'
    )
    for _ in range(2):
        joined = case.raised(more, by=case.boss)
        assert (joined.conflict, joined.created) == (first.conflict, False)
    assert [said.by for said in case.conflict.raises] == ["reader", "boss"]
    assert [candidate.ref for candidate in case.conflict.candidates] == case.tasks, "what it is about is fixed"
    case.raised(more, by=case.workers[0])
    assert len(case.conflict.raises) == 2, "no more than that are kept"


def test_there_is_no_conflict_about_a_conflict(dispute):
    case = dispute({"strategy": "judge", "skill": "judge"}, "abort")
    judges = [case.town.worker(f"j{number}", "judge") for number in range(2)]
    case.raised()
    says = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    about = ConflictRaise("result", says, f"conflict:{case.conflict.id}")
    assert case.reader.refused(about) == ErrorCode.DENIED
    offer = judges[0].offer()
    judges[0].report(offer, payload=text("0"))
    assert case.reader.refused(tasks(offer.task, case.tasks[0])) == ErrorCode.DENIED


VALUES = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]


def test_what_the_answers_of_a_group_come_to_it_finds_itself(court):
    case = court(2, redundancy=ladder("human", "abort"))
    message = ConflictRaise("result", VALUES, f"task:{case.group}")
    reader = case.town.join("reader")
    assert reader.refused(message) == ErrorCode.DENIED
    case.answers("1", "2")
    assert (case.task.state, case.conflict.rule) == ("disputed", "r1")
    joined = reader.say(message)
    assert (joined.created, joined.conflict) == (False, case.conflict.id)
    case.town.join("ann", operator_token="op").say(ConflictVote(case.conflict.id, case.members[0]))
    assert case.task.state == "reported"
    assert reader.say(tasks(case.group, case.members[1])).created


def test_a_group_waits_for_the_end_of_what_was_raised_about_it_and_not_refused(court, monkeypatch):
    case = court(2, redundancy=ladder("human", "abort"))
    monkeypatch.setattr(raising, "_check_group", lambda *_: None)
    raised = case.town.join("reader").say(ConflictRaise("result", VALUES, f"task:{case.group}"))
    monkeypatch.undo()
    case.answers("1", "2")
    assert case.task.state == "blocked"
    again = case.town.restart()
    assert again.task(case.group).state == "blocked"
    again.join("ann", operator_token="op").say(ConflictVote(raised.conflict))
    assert again.task(case.group).state == "disputed"
    assert [again.ledger.conflicts[known].rule for known in again.ledger.open_conflicts] == ["r1"]


def test_what_nothing_says_how_to_decide_is_not_raised(dispute):
    case = dispute(ladders={})
    says = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    assert case.reader.refused(ConflictRaise("identity", says, "agent:w0")) == ErrorCode.DENIED
    assert case.raised().created, "results are decided as the answers of groups are"


@pytest.mark.parametrize(
    "subjects",
    [
        [RaisedSubject(), RaisedSubject(value=b"1")],
        [RaisedSubject(value=b"1"), RaisedSubject(value=b"1")],
        [RaisedSubject(value=b"1")],
        [RaisedSubject(task="main-2", value=b"1"), RaisedSubject(value=b"2")],
    ],
)
def test_what_contradicts_nothing_is_no_conflict(dispute, subjects):
    case = dispute()
    message = ConflictRaise("result", subjects, f"task:{case.tasks[0]}")
    assert case.reader.refused(message) == ErrorCode.MALFORMED


def test_a_task_without_a_result_contradicts_nothing(dispute):
    case = dispute()
    waiting = case.boss.delegate("c", skill="nobody can")
    assert case.reader.refused(tasks(waiting, case.tasks[0])) == ErrorCode.NOT_FOUND
    assert case.reader.refused(tasks("main-99", case.tasks[0])) == ErrorCode.NOT_FOUND
    assert case.reader.refused(tasks(case.tasks[0], case.tasks[0])) == ErrorCode.MALFORMED


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"conflicts_open_max": 0}, ErrorCode.QUOTA),
        ({"conflicts_raised_max": 0}, ErrorCode.QUOTA),
        ({"conflicts_about_max": 0}, ErrorCode.QUOTA),
        ({"conflict_subjects_max": 1}, ErrorCode.TOO_LARGE),
        ({"conflict_max_bytes": 10}, ErrorCode.TOO_LARGE),
    ],
)
def test_raises_are_bounded(dispute, limit, code):
    case = dispute(**limit)
    assert case.reader.refused(tasks(*case.tasks)) == code


def test_the_conflicts_of_groups_take_no_room_from_those_that_are_raised(court):
    case = court(2, policy={"conflicts_open_max": 1, "ladders": LADDERS}, redundancy=ladder("human", "abort"))
    case.answers("1", "2")
    assert case.conflict.is_open
    reader = case.town.join("reader")
    assert reader.say(ConflictRaise("identity", VALUES, "agent:w0")).created
    assert reader.refused(ConflictRaise("identity", VALUES, "agent:w1")) == ErrorCode.QUOTA


def test_conflicts_are_listed_by_kind_and_object(dispute):
    case = dispute()
    case.raised()
    says = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    case.raised(ConflictRaise("identity", says, "agent:w0"))
    shown = case.boss.say(ConflictList(conflict_kind="identity")).conflicts
    assert [view["object"] for view in shown] == ["agent:w0"]
    assert len(case.boss.say(ConflictList(object=f"task:{case.tasks[0]}")).conflicts) == 1
    assert len(case.boss.say(ConflictList(task=case.tasks[1])).conflicts) == 1


# What goes on meanwhile -----------------------------------------------------------------------------------------------


def test_work_that_is_disputed_is_not_lost_to_a_deadline_or_an_absent_delegator(dispute):
    case = dispute()
    late = case.boss.delegate("late", limits=TaskLimits(deadline_ms=5_000), on_delegator_loss="cancel", loss_ms=1_000)
    worker = next(worker for worker in case.workers if worker.mailbox[-1][1].task == late)
    worker.report(worker.offer(), payload=text("late"))
    case.raised(tasks(case.tasks[0], late))
    case.boss.drop()
    case.town.pass_time(6_000)
    assert case.town.task(late).state == "disputed"


def test_a_review_that_is_sent_again_tells_the_time_that_a_conflict_leaves_for_a_word(dispute):
    case = dispute()
    confirm_ms, left = case.town.policy.durations.confirm_ms, []
    raised = case.raised()
    case.town.pass_time(3 * confirm_ms)
    left.append(case.town.join("boss").mail()[0].confirm_ms)
    case.town.join("ann", operator_token="op").say(ConflictVote(raised.conflict))
    case.town.pass_time(1_000)
    left.append(case.town.join("boss").mail()[0].confirm_ms)
    assert left == [confirm_ms, confirm_ms - 1_000]
    case.town.pass_time(confirm_ms - 1_001)
    assert case.states() == ["reported", "reported"]
    case.town.pass_time(1)
    assert case.states() == ["failed", "failed"]
    assert case.town.join("boss").mail()[0].confirm_ms == 0


def test_the_worker_hears_that_a_disputed_task_was_cancelled(dispute):
    case = dispute()
    case.raised()
    case.boss.cancel(case.tasks[0])
    assert [mail.state for mail in case.workers[0].mail() if mail.kind == "task.settled"] == ["canceled"]


def test_a_passing_party_keeps_its_mailbox_until_it_is_over(dispute):
    case = dispute()
    passing = case.town.join("ann#1")
    case.raised(by=passing)
    passing.acknowledge()
    passing.drop()
    assert "ann#1" in case.town.ledger.mailboxes
    again = case.town.join("ann#1", resume=None, instance_id="ann#1-2", incarnation=2)
    case.town.join("carl", operator_token="op").say(ConflictVote(case.conflict.id, None))
    assert again.mail()[-1].kind == "conflict.resolved"
