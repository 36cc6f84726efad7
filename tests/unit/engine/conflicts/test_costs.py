"""What the rungs of a ladder may cost, and what they have cost."""

import pytest

from a2a.engine.policy import Admission, digest
from a2a.engine.records import ConflictOpened, Delegated, StageClosed
from a2a.protocol.messages import (
    ConflictAppeal,
    ConflictGet,
    ConflictPosition,
    ConflictRaise,
    ConflictVote,
    Held,
    Ok,
    RaisedSubject,
    TaskDelegate,
    TaskYield,
)

JUDGE = {"strategy": "judge", "skill": "judge"}
PANEL = {"strategy": "panel", "skill": "judge"}
CHECK = {"strategy": "verify", "skill": "check"}


def answer(text):
    return b'[{"artifactId":"result","name":"result","parts":[{"data":%s}]}]' % text.encode()


class Case:
    """A group of two whose answers contradict each other, and those who are asked to decide."""

    def __init__(self, town, rungs, cost=None, budget=None, tasks=3, **spec):
        self.town = town
        self.boss = town.join("boss")
        self.workers = [town.worker(f"w{number}") for number in range(2)]
        self.judge = town.worker("judge", "judge", tasks=tasks)
        self.checker = town.worker("checker", "check", tasks=2)
        policy = [rung if isinstance(rung, dict) else {"strategy": rung} for rung in rungs]
        redundancy = {"n": 2, "policy": policy} | ({} if cost is None else {"costMicro": cost})
        self.group = self.boss.delegate("q", spec={"redundancy": redundancy} | spec, budget=budget)
        for worker, text in zip(self.workers, "12", strict=True):
            worker.report(worker.offer(), payload=answer(text))

    @property
    def conflict(self):
        (conflict,) = self.town.ledger.conflicts.values()
        return conflict

    @property
    def stages(self):
        """What each rung came to: its strategy, its cost, and in a word why it is undecided."""
        view = self.boss.say(ConflictGet(self.conflict.id)).view
        return [
            (stage["strategy"], stage["costMicro"], stage["winner"] if stage["toLsn"] else "open")
            + (("cost",) if stage["why"].startswith("cost") else ())
            for stage in view["stages"]
        ]

    def offers(self, worker=None):
        return [mail for mail in (worker or self.judge).mail() if mail.kind == "task.offer"]

    def give_up(self, offer, cost, worker=None):
        (worker or self.judge).say(TaskYield(offer.task, offer.fence, usage={"costMicro": cost}))

    def choose(self, offer, text, cost):
        """Have the judge choose the candidate that says this."""
        before = offer.payload[: offer.payload.index(b'"data":%s' % text.encode())]
        place = before.count(b'"artifactId"') - 1
        usage = {"costMicro": cost} if cost else None
        self.judge.report(offer, payload=answer(f'{{"choice":{place}}}'), usage=usage)


@pytest.fixture
def case(make_town):
    def make(*rungs, policy=None, **more):
        town = make_town(admission=Admission(operator_token=digest("op")), **(policy or {}))
        return Case(town, rungs, **more)

    return make


def given(case, worker=None):
    return [offer.budget.get("costMicro") if offer.budget else None for offer in case.offers(worker)]


# What each may use ----------------------------------------------------------------------------------------------------


def test_without_a_limit_nobody_has_a_budget(case):
    assert given(case(JUDGE, "abort")) == [None, None]


@pytest.mark.parametrize(
    ("rung", "ladder", "shares"),
    [
        (7, None, [4, 3]),
        (None, 7, [4, 3]),
        (10, 7, [4, 3]),
        (7, 10, [4, 3]),
        (1, None, [1, 0]),
        (0, None, [0, 0]),
        (None, 0, [0, 0]),
    ],
)
def test_what_is_left_is_shared_out_to_the_last_millionth(case, rung, ladder, shares):
    limit = {} if rung is None else {"costMicro": rung}
    assert given(case(JUDGE | limit, "abort", cost=ladder)) == shares


def test_a_later_rung_has_what_those_before_have_left(case):
    it = case(JUDGE, CHECK, "abort", cost=10)
    for offer in it.offers():
        it.give_up(offer, 2)
        it.judge.report(it.judge.offer(), payload=answer('{"choice":0}'))
    assert given(it, it.checker) == [3, 3]


def test_nobody_is_given_more_than_is_left_above(case):
    it = case(JUDGE | {"costMicro": 100}, "abort", budget={"costMicro": 9})
    assert given(it) == [5, 4]
    assert it.town.task(it.group).reserved == {"costMicro": 9}


def test_what_was_used_is_counted_above_once_and_when_it_has_ended(case):
    it = case(JUDGE | {"costMicro": 100}, "abort", budget={"costMicro": 90})
    first, second = it.offers()
    it.choose(first, "2", 7)
    assert it.town.task(it.group).spent == {"costMicro": 7}
    it.choose(second, "2", 8)
    group = it.town.task(it.group)
    assert (group.spent, group.reserved) == ({"costMicro": 15}, {"costMicro": 0})
    assert it.stages == [("judge", 15, 1)]


def test_an_agent_that_uses_its_share_is_stopped_and_the_others_go_on(case):
    it = case(PANEL | {"costMicro": 30}, "abort")
    first, second, third = it.offers()
    it.judge.beat(first, usage={"costMicro": 10})
    (told,) = it.judge.mail()
    assert (told.kind, told.reason) == ("task.revoke", "budget")
    it.give_up(first, 10)
    assert it.town.task(first.task).settled.reason == "budget"
    for offer in (second, third):
        it.choose(offer, "2", 5)
    assert it.stages == [("panel", 20, 1)]


# A rung ---------------------------------------------------------------------------------------------------------------


def test_a_rung_that_has_used_its_limit_is_undecided_and_those_at_work_are_dismissed(case):
    it = case(JUDGE | {"costMicro": 10}, "human", "abort")
    first, second = it.offers()
    it.give_up(first, 10)
    assert it.stages == [("judge", 10, None, "cost"), ("human", 0, "open")]
    assert it.town.task(first.task).is_terminal
    assert it.town.task(second.task).state == "canceling"
    assert it.town.said(StageClosed)[0].why == "cost: the rung has used 10 of 10"


def test_what_was_answered_by_then_counts(case):
    it = case(PANEL | {"costMicro": 30}, "abort")
    first, second, third = it.offers()
    it.choose(first, "2", 5)
    it.choose(second, "2", 25)
    assert it.stages == [("panel", 30, 1)]
    assert it.town.task(third.task).state != "completed"


def test_answers_that_decide_nothing_are_undecided_for_what_they_cost(case):
    it = case(JUDGE | {"costMicro": 10}, "first_wins")
    for offer in it.offers():
        it.judge.report(offer, payload=answer('{"choice":0}'), usage={"costMicro": 5})
    assert it.stages == [("judge", 10, None, "cost"), ("first_wins", 0, 0)]


def test_answers_that_decide_nothing_for_less_are_undecided_for_that(case):
    it = case(JUDGE | {"costMicro": 11}, "first_wins")
    for offer in it.offers():
        it.judge.report(offer, payload=answer('{"choice":0}'), usage={"costMicro": 5})
    assert it.stages == [("judge", 10, None), ("first_wins", 0, 0)]


def test_what_an_attempt_used_that_was_lost_counts_when_it_is_heard(case):
    it = case(JUDGE | {"costMicro": 10}, "human", "abort")
    first, second = it.offers()
    it.judge.beat(first)
    it.judge.beat(second)
    it.town.pass_time(2_000)
    it.judge.beat(second)
    it.town.pass_time(1_000)
    assert (it.stages, it.town.task(first.task).losses) == ([("judge", 0, "open")], 1)
    it.judge.report(first, payload=answer("1"), usage={"costMicro": 10})
    assert it.stages[0] == ("judge", 10, None, "cost")


def test_what_is_used_below_a_rungs_task_is_its_cost(case):
    it = case(JUDGE | {"costMicro": 20}, "human", "abort")
    helper = it.town.worker("helper", "help")
    first, _ = it.offers()
    it.judge.say(TaskDelegate("part", {"skill": "help"}, parent=Held(first.task, first.fence)))
    it.give_up(helper.offer(), 20, helper)
    assert it.stages[0] == ("judge", 20, None, "cost")


# The ladder -----------------------------------------------------------------------------------------------------------


def test_where_the_ladder_has_used_its_limit_the_last_rung_decides(case):
    it = case(JUDGE, "plurality", "human", CHECK, "first_wins", cost=10)
    it.give_up(it.offers()[0], 10)
    skipped = [(name, 0, None, "cost") for name in ("plurality", "human", "verify")]
    assert it.stages == [("judge", 10, None, "cost"), *skipped, ("first_wins", 0, 0)]
    assert it.checker.mail() == []
    assert it.conflict.by == "first_wins"
    assert it.town.said(StageClosed)[1].why == "cost: the ladder has used 10 of 10"


def test_a_last_rung_that_waits_for_a_person_does_so(case):
    it = case(JUDGE, CHECK, {"strategy": "human", "timeoutMs": 1_000, "onTimeout": "first_wins"}, cost=10)
    it.give_up(it.offers()[0], 10)
    assert it.stages[-1] == ("human", 0, "open")
    it.town.pass_time(1_000)
    assert it.conflict.outcome == "select"


def test_what_those_tell_who_were_dismissed_counts(case):
    it = case(JUDGE, CHECK, "human", "abort", cost=10, policy={"judge_ms": 1_000})
    first, second = it.offers()
    for offer in (first, second):
        it.judge.beat(offer)
    it.town.pass_time(1_000)
    assert it.stages == [("judge", 0, None), ("verify", 0, "open")]
    it.judge.say(TaskYield(first.task, first.fence, usage={"costMicro": 10}))
    skipped = [("verify", 0, None, "cost"), ("human", 0, None, "cost"), ("abort", 0, None)]
    assert it.stages == [("judge", 10, None), *skipped]


def test_a_person_who_is_waited_for_goes_on_being_waited_for(case):
    it = case(JUDGE, "human", CHECK, "abort", cost=10, policy={"judge_ms": 1_000, "human_ms": 5_000})
    first, second = it.offers()
    for offer in (first, second):
        it.judge.beat(offer)
    it.town.pass_time(1_000)
    it.give_up(first, 10)
    assert it.stages == [("judge", 10, None), ("human", 0, "open")]
    it.town.pass_time(5_000)
    assert it.stages[1:] == [("human", 0, None), ("verify", 0, None, "cost"), ("abort", 0, None)]


def test_an_appeal_goes_on_to_the_last_rung(case):
    it = case(JUDGE, CHECK, "abort", cost=10, policy={"appeal_ms": 5_000})
    for offer in it.offers():
        it.choose(offer, "2", 5)
    assert it.stages == [("judge", 10, 1)]
    it.workers[0].say(ConflictAppeal(it.conflict.id, "new_evidence"))
    assert it.stages[1:] == [("verify", 0, None, "cost"), ("abort", 0, None)]


def test_a_limit_of_nothing_lets_those_decide_who_use_nothing(case):
    it = case(JUDGE, "first_wins", cost=0)
    for offer in it.offers():
        it.choose(offer, "2", 0)
    assert it.stages == [("judge", 0, 1)]


def test_a_limit_of_nothing_is_used_by_whoever_uses_something(case):
    it = case("majority", JUDGE, "human", "first_wins", cost=0)
    it.judge.beat(it.offers()[0], usage={"costMicro": 1})
    assert [mail.kind for mail in it.judge.mail()] == ["task.revoke"]
    it.town.pass_time(20_000)
    costs = [("majority", 0, None), ("judge", 1, None, "cost"), ("human", 0, None, "cost"), ("first_wins", 0, 0)]
    assert it.stages == costs


def test_a_person_decides_though_the_limit_is_reached(case):
    it = case(JUDGE, {"strategy": "human", "onTimeout": "abort"}, cost=10)
    it.give_up(it.offers()[0], 10)
    it.town.join("ann", operator_token="op").say(ConflictVote(it.conflict.id, None, "neither"))
    assert it.conflict.by == "ann"


# By whom it is set, and how long it stands ----------------------------------------------------------------------------


def test_the_namespace_limits_what_a_task_does_not(case):
    assert given(case(JUDGE, "abort", policy={"conflict_cost_micro": 6})) == [3, 3]
    assert given(case(JUDGE, "abort", cost=8, policy={"conflict_cost_micro": 6})) == [4, 4]


def test_a_limit_is_kept_with_the_group_and_none_is_not(case):
    it = case(JUDGE, "abort", cost=6)
    assert it.town.said(Delegated)[0].terms["cost_micro"] == 6
    other = case(JUDGE, "abort")
    assert "cost_micro" not in other.town.said(Delegated)[0].terms


def raised(case):
    """Raise a conflict between two values, and return it."""
    subjects = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    case.boss.say(ConflictRaise("instruction", subjects, f"task:{case.group}", "which?"))
    (record,) = [record for record in case.town.said(ConflictOpened) if record.kind == "instruction"]
    return record.conflict


def test_a_conflict_that_somebody_raised_has_the_limit_of_its_namespace(case):
    ladders = {"instruction": (JUDGE, {"strategy": "verify", "skill": "check"}, {"strategy": "first_wins"})}
    it = case("human", "abort", policy={"ladders": ladders, "conflict_cost_micro": 10}, tasks=3)
    conflict = it.town.ledger.conflicts[raised(it)]
    first, second = it.offers()
    assert [offer.budget for offer in (first, second)] == [{"costMicro": 5}, {"costMicro": 5}]
    assert it.town.task(first.task).parent is None
    it.give_up(first, 12)
    view = it.boss.say(ConflictGet(conflict.id)).view
    assert [(stage["strategy"], stage["costMicro"]) for stage in view["stages"]] == [
        ("judge", 12),
        ("verify", 0),
        ("first_wins", 0),
    ]
    assert (conflict.outcome, conflict.by) == ("select", "first_wins")
    assert it.town.task(it.group).spent == {}


def test_what_a_closed_conflict_cost_does_not_change_any_more(case):
    it = case(JUDGE | {"costMicro": 10}, "first_wins")
    first, second = it.offers()
    it.judge.beat(second)
    it.give_up(first, 10)
    before = it.boss.say(ConflictGet(it.conflict.id)).view
    it.judge.say(TaskYield(second.task, second.fence, usage={"costMicro": 4}))
    after = it.boss.say(ConflictGet(it.conflict.id)).view
    assert after == before
    assert it.workers[0].say(ConflictPosition(it.conflict.id, b"[]", "no")) != Ok()
