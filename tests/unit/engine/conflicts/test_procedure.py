"""Groups and conflicts, step by step, as the coordinator takes them."""

import json

import pytest

from a2a.engine.conflicts.procedure import due_at
from a2a.engine.policy import Admission, digest
from a2a.engine.records import Classified, ConflictOpened, ConflictResolved, GroupDecided, Settled, StageClosed
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentUpdate,
    AttemptError,
    ConflictGet,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Ok,
    Seen,
    StaleBasis,
    TaskDelegate,
)
from tests.unit.engine.conflicts.court import Court, answer, judged, ladder

# Groups ---------------------------------------------------------------------------------------------------------------


def test_each_member_is_done_by_another_agent(court):
    case = court(4, n=3)
    assert case.task.state == "blocked"
    holders = [case.town.task(member).holder for member in case.task.group.electorate]
    assert len(set(holders)) == 3


def test_members_wait_where_there_are_too_few_agents(court, make_town):
    case = court(2, n=2)
    third = case.boss.delegate("r", spec={"redundancy": {"n": 3}})
    case.answers("1", "1")
    members = [case.town.task(member) for member in case.town.task(third).group.electorate]
    assert sorted(str(member.state) for member in members) == ["leased", "leased", "queued"]


def test_a_member_that_nobody_may_have_holds_up_nothing_behind_it(court):
    case = court(2, n=2)
    third = case.boss.delegate("r", spec={"redundancy": {"n": 3, "k": 3}})
    case.answers("1", "1")
    waiting = [member for member in case.town.task(third).group.electorate if case.town.task(member).state == "queued"]
    other = case.boss.delegate("s")
    for worker in case.workers:
        (offer,) = [mail for mail in worker.mail() if mail.kind == "task.offer"]
        worker.report(offer, payload=answer("1"))
    assert [str(case.town.task(member).state) for member in waiting] == ["queued"]
    assert case.town.task(other).holder


@pytest.mark.parametrize("third", ["1", "2"])
def test_who_has_failed_is_not_waited_for(court, third):
    case = court(6, redundancy={"k": 2} | ladder("plurality", "abort"))
    case.answers("1", None, None, None, third)
    for worker, offer in list(zip(case.workers, case.offers, strict=True))[1:3]:
        worker.report(offer, "failed", payload=b"[]", error=AttemptError("error"))
    case.answers(None, None, None, "1")
    is_decided = third == "1"
    assert case.task.state == ("reported" if is_decided else "disputed")
    if not is_decided:
        assert case.conflict.frozen_lsn == 0, "another answer would be as many"
        worker, offer = case.workers[5], case.offers[5]
        worker.report(offer, "failed", payload=b"[]", error=AttemptError("error"))
        assert case.task.state == "reported"


def test_equal_answers_are_one_result_and_no_conflict(court):
    case = court(3)
    case.answers("1", "1.0", "1")
    assert case.town.ledger.conflicts == {}
    assert case.task.state == "reported"
    (review,) = [mail for mail in case.boss.mail() if mail.kind == "task.review"]
    assert case.boss.confirm(review) == Ok(state="completed")


@pytest.mark.parametrize("when", ["before the report", "before the decision"])
def test_a_result_of_a_group_on_a_decision_that_moved_waits_for_a_word(court, when):
    case = court(3, acceptance={"evaluator": "auto"})
    write = ContextWrite(case.task.context_id, "k", [ContextOp("decisions/x", 0, b"1")])
    basis = [Seen("decisions/x", 0)]
    if when == "before the report":
        case.boss.say(write)
    for number, (worker, offer) in enumerate(zip(case.workers[:2], case.offers, strict=False)):
        worker.report(offer, payload=answer("1"), basis=basis)
        assert case.town.task(case.members[number]).state == "completed", "it counts in the group"
        if when == "before the decision":
            case.boss.say(write)
    assert case.task.state == "reported"
    (review,) = [mail for mail in case.boss.mail() if mail.kind == "task.review"]
    assert review.stale_basis == [StaleBasis("decisions/x", 0, 1)]
    case.town.pass_time(10_000)
    assert (case.task.state, case.task.settled.reason) == ("failed", "unconfirmed")


def test_what_is_said_at_a_rung_counts_there_whatever_it_relies_on(court):
    case = court(2, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "abort"))
    judge = case.town.worker("solomon", "judge")
    case.boss.say(ContextWrite(case.task.context_id, "k", [ContextOp("decisions/x", 0, b"1")]))
    case.answers("1", "2")
    judged(case, judge, "2", "2", basis=[Seen("decisions/x", 0)])
    asked = [case.town.task(known) for known in case.conflict.stages[0].asked]
    assert [task.state for task in asked] == ["completed"] * 2
    assert case.conflict.by == "judge"


def test_a_result_of_a_group_on_decisions_that_stand_needs_no_word(court):
    case = court(3, acceptance={"evaluator": "auto"})
    for worker, offer in zip(case.workers[:2], case.offers, strict=False):
        worker.report(offer, payload=answer("1"), basis=[Seen("decisions/x", 0)])
    assert case.task.state == "completed"


def test_a_majority_decides_before_all_have_answered(court):
    case = court(3)
    case.answers("1", "1")
    assert case.task.state == "reported"
    assert case.town.said(GroupDecided)[0].why == "2 of 3 agree"
    assert case.town.task(case.task.group.electorate[2]).state == "canceling"


def test_k_equal_answers_decide_where_that_was_asked_for(court):
    case = court(3, redundancy={"k": 3})
    case.answers("1", "1")
    assert case.task.state == "blocked"
    case.answers(None, None, "1")
    assert case.task.state == "reported"


def test_where_the_first_wins_the_others_are_heard_nevertheless(court):
    case = court(3, redundancy=ladder("first_wins"))
    case.answers("1")
    assert case.task.state == "blocked"
    case.answers(None, "2", "2")
    assert (case.conflict.ref, case.task.state) == (case.members[0], "reported")


def test_one_answer_that_nobody_contradicts_is_the_result_when_the_others_have_none(court):
    case = court(3)
    case.answers("1")
    for worker, offer in list(zip(case.workers, case.offers, strict=True))[1:]:
        worker.report(offer, "rejected")
    assert case.task.state == "reported"


def test_a_group_without_an_answer_fails(court):
    case = court(2)
    for worker, offer in zip(case.workers, case.offers, strict=True):
        worker.report(offer, "rejected")
    assert (case.task.state, case.task.settled.reason) == ("failed", "unresolved")


def test_a_group_ends_with_those_who_work_for_it(court):
    case = court(3)
    case.boss.cancel(case.group)
    assert case.task.state == "canceled"
    assert {str(case.town.task(member).state) for member in case.task.group.electorate} == {"canceling"}


@pytest.mark.parametrize(
    "redundancy",
    [
        {"n": 2, "comparator": "guess"},
        {"n": 2, "k": 3},
        {"n": 2, **ladder("majority")},
        {"n": 2, **ladder("coin", "abort")},
        {"n": 2, **ladder("judge", "abort")},
        {"n": 2, **ladder("merge", "abort")},
    ],
)
def test_a_redundancy_that_cannot_be_is_refused(town, redundancy):
    boss = town.join("boss")
    assert boss.refused(TaskDelegate("k", {"skill": "echo", "redundancy": redundancy})) == ErrorCode.MALFORMED


def test_a_group_takes_two_levels_of_a_tree(make_town):
    boss = make_town(depth_max=1).join("boss")
    assert boss.refused(TaskDelegate("k", {"skill": "echo", "redundancy": {"n": 2}})) == ErrorCode.DEPTH


# Conflicts ------------------------------------------------------------------------------------------------------------


def test_answers_that_contradict_each_other_are_a_conflict_decided_by_the_majority(court):
    case = court(3)
    case.answers("1", "2")
    assert case.task.state == "disputed"
    opened = [mail for worker in case.workers for mail in worker.mail() if mail.kind == "conflict.opened"]
    assert [notice.your_role for notice in opened] == ["author", "author"]
    case.answers(None, None, "1")
    assert case.conflict.outcome == "select"
    assert (case.conflict.by, case.conflict.rationale) == ("majority", "2 of 3")
    assert case.task.state == "reported"
    assert case.task.results[-1].payload == answer("1")
    resolved = [mail for mail in case.workers[1].mail() if mail.kind == "conflict.resolved"]
    assert resolved[0].dissent == [case.task.group.electorate[1]]


def test_a_tie_goes_to_the_next_rung(court):
    case = court(2, redundancy=ladder("majority", "first_wins"))
    case.answers("1", "2")
    assert [record.winner for record in case.town.said(StageClosed)] == [None, 0]
    assert case.conflict.by == "first_wins"


def test_the_last_rung_refuses_all(court):
    case = court(3, redundancy=ladder("majority", "abort"))
    case.answers("1", "2", "3")
    assert case.conflict.outcome == "reject_all"
    assert (case.task.state, case.task.settled.reason) == ("failed", "unresolved")
    records = [type(record) for record in case.town.said()]
    assert records.index(Settled) == records.index(ConflictResolved) + 1 or Settled in records


def test_one_that_never_answers_counts_as_absent(court):
    case = court(3, policy={"ballot_ms": 2_000}, redundancy=ladder("majority", "first_wins"))
    case.answers("1", "2")
    for _ in range(3):
        case.town.pass_time(1_000)
        case.workers[2].beat(case.offers[2])
    assert case.conflict.by == "first_wins", "one of three is no majority"


def test_a_person_decides_at_whatever_rung_it_is(court):
    case = court(2, redundancy=ladder("human", "abort"))
    case.answers("1", "2")
    person = case.town.join("ann", operator_token="op")
    second = case.task.group.electorate[1]
    assert case.boss.refused(ConflictVote(case.conflict.id, second)) == ErrorCode.FORBIDDEN
    assert person.say(ConflictVote(case.conflict.id, second, "checked by hand")) == Ok(state="select")
    assert (case.conflict.by, case.task.results[-1].payload) == ("ann", answer("2"))
    assert person.say(ConflictVote(case.conflict.id, second)) == Ok(state="select")
    assert person.refused(ConflictVote(case.conflict.id, case.task.group.electorate[0])) == ErrorCode.CONFLICT


@pytest.mark.parametrize(("on_timeout", "state"), [("abort", "failed"), ("first_wins", "reported")])
def test_a_person_who_does_not_come_is_not_waited_for(court, on_timeout, state):
    rungs = ladder({"strategy": "human", "timeoutMs": 1_000, "onTimeout": on_timeout}, "abort")
    case = court(2, redundancy=rungs)
    case.answers("1", "2")
    case.town.pass_time(1_000)
    assert case.task.state == state


def test_after_a_person_who_does_not_come_the_next_rung_is_tried(court):
    case = court(2, redundancy=ladder({"strategy": "human", "timeoutMs": 1_000, "onTimeout": "abort"}, "first_wins"))
    case.answers("1", "2")
    case.town.pass_time(1_000)
    assert (case.conflict.by, case.task.state) == ("first_wins", "reported")


def test_a_person_is_waited_for_where_the_policy_holds(court):
    rungs = ladder({"strategy": "human", "timeoutMs": 1_000, "onTimeout": "hold"}, "abort")
    case = court(2, redundancy=rungs)
    case.answers("1", "2")
    case.town.pass_time(5_000)
    assert (case.task.state, case.conflict.stage.strategy) == ("disputed", "human")


def test_settings_that_change_later_change_nothing_about_a_group(court, make_town):
    case = court(2, policy={"human_ms": 1_000, "ladder": ({"strategy": "human"}, {"strategy": "abort"})})
    case.answers("1", "2")
    again = make_town(list(case.town.records), ladder=({"strategy": "first_wins"},), human_ms=5)
    again.pass_time(3_500)
    (conflict,) = again.ledger.conflicts.values()
    assert (conflict.by, conflict.closed_at - conflict.stages[0].to_at) == ("abort", 0)


def test_a_group_may_wait_longer_for_further_answers_than_others_do(court):
    case = court(3, policy={"ballot_ms": 1_000}, redundancy=ladder("majority", "first_wins") | {"ballotMs": 5_000})
    case.answers("1", "2")
    assert case.conflict.respond_at == case.town.now + 5_000


def test_a_ballot_waits_for_the_comparison_that_is_under_way(court):
    case = court(3)
    case.answers("1", "2")
    world = case.town.coordinator.world
    assert due_at(world, case.task) == case.conflict.respond_at
    world.live.comparing[case.group] = case.members[2]
    assert due_at(world, case.task) is None, "the clock would come back to it without an end"


def test_a_conflict_about_what_has_ended_is_moot(court):
    case = court(3)
    case.answers("1", "2")
    case.boss.cancel(case.group)
    assert (case.conflict.outcome, case.task.state) == ("moot", "canceled")


def test_a_closed_conflict_is_sealed_and_they_are_a_chain(court):
    case = court(2, redundancy=ladder("first_wins"))
    case.answers("1", "2")
    first = case.boss.say(ConflictGet(case.conflict.id)).view
    assert first["prev"] == ""
    assert first["seal"] == case.town.ledger.sealed
    assert [subject["group"] for subject in first["subjects"]] == [0, 1]


def test_a_late_answer_enters_no_frozen_ballot(court):
    case = court(3, policy={"ballot_ms": 1_000}, redundancy=ladder("majority", "human", "abort"))
    case.answers("1", "2")
    case.workers[2].beat(case.offers[2])
    case.town.pass_time(1_500)
    assert case.conflict.frozen_lsn
    case.answers(None, None, "1")
    view = case.boss.say(ConflictGet(case.conflict.id)).view
    assert len(view["subjects"]) == 2
    assert case.town.said(ConflictOpened)[0].rule == "r1"


# Asking an agent whether two answers are the same ---------------------------------------------------------------------


class Same(Court):
    """A group whose answers an agent compares."""

    def __init__(self, town, workers, **spec):
        redundancy = {"comparator": "agent:same"} | spec.pop("redundancy", {})
        super().__init__(town, workers, redundancy=redundancy, **spec)
        self.comparer = town.worker("comparer", "same", tasks=4)

    def asked(self):
        """Return the offers the comparer has got since it was looked last."""
        return [mail for mail in self.comparer.mail() if mail.kind == "task.offer"]

    def says(self, *verdicts):
        """Have what the comparer is asked answered in turn, and return what was asked."""
        questions = []
        for verdict in verdicts:
            (offer,) = self.asked()
            questions.append(json.loads(offer.payload)[0]["data"])
            self.comparer.report(offer, payload=answer(verdict))
        return questions

    @property
    def compared(self):
        return [self.town.task(task) for task in self.task.group.compared]


@pytest.fixture
def same(make_town):
    def make(workers=3, policy=None, **spec):
        town = make_town(admission=Admission(operator_token=digest("op")), **(policy or {}))
        return Same(town, workers, **spec)

    return make


def classes(case):
    return [[case.members.index(member) for member in members] for members in case.task.group.classes]


def test_equal_bytes_ask_nobody(same):
    case = same(3)
    case.answers("1", "1", "1")
    assert case.compared == [] and case.task.state == "reported"


@pytest.mark.parametrize("yes", ["true", '{"equal":true}'])
def test_an_agent_says_that_two_answers_are_the_same(same, yes):
    case = same(2)
    case.answers("1", "2")
    (question,) = case.says(yes)
    assert classes(case) == [[0, 1]] and case.town.ledger.conflicts == {}
    assert case.task.state == "reported"
    assert sorted(part["parts"][0]["data"] for (part,) in question["candidates"]) == [1, 2]
    assert question["task"] == {"skill": "echo"} and not any(worker.name in str(question) for worker in case.workers)
    (record,) = [record for record in case.town.said(Classified) if record.member == case.members[1]]
    assert record.why == f"the same, says comparer in {case.compared[0].id}"


def test_classes_are_asked_about_in_ledger_order_until_one_is_the_same(same):
    case = same(4, redundancy=ladder("majority", "abort") | {"ballotMs": 60_000})
    case.answers("1", "2", "3", None)
    case.says("false", "false", "true")
    assert classes(case) == [[0], [1, 2]]
    assert [task.key for task in case.compared] == [
        f"{case.members[1]}.0",
        f"{case.members[2]}.0",
        f"{case.members[2]}.1",
    ]
    assert case.asked() == []


def test_a_conflict_opens_as_soon_as_there_are_two_classes_though_others_wait(same):
    case = same(3, redundancy=ladder("majority", "abort"))
    case.answers("1", "2", "3")
    case.says("false")
    assert case.conflict.is_open and classes(case) == [[0], [1]]


@pytest.mark.parametrize("word", ["1", '"yes"', '{"same":true}', '{"equal":"yes"}', "null"])
def test_a_comparer_that_says_neither_leaves_the_answer_in_no_class(same, word):
    case = same(2)
    case.answers("1", "2")
    case.says(word)
    assert case.task.group.numbers == {case.members[0]: 0, case.members[1]: -1}
    assert case.conflict.is_open, "nobody knows that it does not contradict the first (spec CONFLICT-1)"
    assert case.task.state == "disputed"


def test_a_comparer_that_fails_leaves_the_answer_in_no_class(same):
    case = same(2)
    case.answers("1", "2")
    (offer,) = case.asked()
    case.comparer.report(offer, "failed", error=AttemptError("broken", "no idea"))
    assert case.task.group.numbers[case.members[1]] == -1


def test_a_comparer_that_says_nothing_in_time_is_not_waited_for(same):
    case = same(2, policy={"judge_ms": 2_000})
    case.answers("1", "2")
    (offer,) = case.asked()
    assert due_at(case.town.coordinator.world, case.task) == case.compared[0].at + 2_000
    case.comparer.beat(offer)
    case.town.pass_time(1_999)
    assert case.members[1] not in case.task.group.numbers
    case.comparer.beat(offer)
    case.town.pass_time(1)
    assert case.task.group.numbers[case.members[1]] == -1
    assert case.compared[0].state == "canceling"
    assert case.conflict.is_open
    assert case.comparer.report(offer, payload=answer("true")) == "admitted"
    assert case.task.group.numbers[case.members[1]] == -1, "too late"


def test_where_nobody_can_compare_the_answer_is_not_waited_for_for_ever(same):
    case = same(2, redundancy={"comparator": "agent:nobody_has_this"}, policy={"judge_ms": 2_000})
    case.answers("1", "2")
    case.town.pass_time(2_000)
    assert case.task.group.numbers[case.members[1]] == -1
    assert case.task.state == "disputed"


def test_the_ballots_time_ends_the_comparing_and_nobody_is_asked_after_it(same):
    case = same(4, redundancy=ladder("plurality", "abort") | {"ballotMs": 1_000})
    case.answers("1", "2", None, None)
    case.says("false")
    case.workers[2].report(case.offers[2], payload=answer("3"))
    case.workers[3].report(case.offers[3], payload=answer("4"))
    (offer,) = case.asked()
    case.town.pass_time(999)
    assert not case.conflict.frozen_lsn
    case.comparer.beat(offer)
    case.town.pass_time(1)
    assert [case.task.group.numbers[member] for member in case.members] == [0, 1, -1, -1]
    assert len(case.compared) == 2, "about the last one nobody was asked"
    assert case.conflict.frozen_lsn


def test_who_compares_gives_no_answer_and_who_answers_compares_nothing(make_town):
    town = make_town()
    boss = town.worker("boss", "same", tasks=4)
    both = [town.worker(f"b{number}", "echo", "same", tasks=4) for number in range(3)]
    redundancy = {"n": 4, "k": 4, "comparator": "agent:same"}
    group = town.task(boss.delegate("q", spec={"redundancy": redundancy})).group
    for number, worker in enumerate(both):
        for offer in [mail for mail in worker.mail() if mail.kind == "task.offer"]:
            worker.report(offer, payload=answer(str(number)))
    (compared,) = [town.task(task) for task in group.compared]
    assert compared.state == "queued", "all that could have answered, and the delegator is a party"
    answering = town.task(group.electorate[3])
    comparer = town.worker("c", "same", tasks=4)
    assert compared.holder == "c"
    comparer.say(AgentUpdate(card=town.ledger.agents["b0"].card))
    assert answering.state == "queued", "it has seen two of the answers"
    town.worker("d", "echo")
    assert answering.holder == "d"


def test_nobody_is_asked_where_the_group_is_decided_whatever_comes_of_it(same):
    case = same(3, redundancy={"k": 2})
    case.answers("1", "2", None)
    (offer,) = case.asked()
    case.workers[2].report(case.offers[2], payload=answer("3"))
    case.comparer.report(offer, payload=answer("true"))
    assert case.task.state == "reported" and classes(case) == [[0, 1]]
    assert len(case.compared) == 1, "whatever the third is, two agree"


def test_what_is_compared_ends_with_a_persons_word(same):
    case = same(4, redundancy=ladder("plurality", "abort") | {"ballotMs": 60_000})
    case.answers("1", "2", "3", None)
    case.says("false")
    person = case.town.join("ann", operator_token="op")
    assert case.compared[-1].state == "leased"
    person.say(ConflictVote(case.conflict.id, case.members[0], "it is right"))
    assert case.compared[-1].state == "canceling"
    assert case.task.state == "reported"


@pytest.mark.parametrize("name", ["agent:", "agent", f"agent:{'s' * 129}"])
def test_a_comparer_needs_a_skill(court, name):
    case = court(2)
    spec = {"skill": "echo", "redundancy": {"n": 2, "comparator": name}}
    assert case.boss.refused(TaskDelegate("x", spec)) == ErrorCode.MALFORMED
