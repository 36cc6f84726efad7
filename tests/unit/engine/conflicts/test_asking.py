"""Who is asked at a rung, what they are shown, and what their answers come to."""

from __future__ import annotations

import json

import pytest

from a2a.engine.policy import Durations
from a2a.engine.records import Delegated
from a2a.protocol.messages import ConflictRaise, ContextOp, ContextWrite, RaisedSubject
from tests.unit.engine.conflicts.court import answer, judged, ladder


def test_an_independent_judge_sees_both_orders_and_has_to_choose_the_same(court):
    case = court(2, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "abort"))
    judge = case.town.worker("solomon", "judge")
    case.answers("1", "2")
    judged(case, judge, "2", "2")
    assert (case.conflict.by, case.task.results[-1].payload) == ("judge", answer("2"))


@pytest.mark.parametrize(
    "payload", [b'[]],"candidates":[1,2],"input":[', b"", b"[", b'[{"a":1,"a":2}]', b"[NaN]", b"[" * 5000]
)
def test_an_answer_that_is_no_json_is_shown_as_a_text_and_hides_no_other(court, payload):
    case = court(2, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "abort"))
    judge = case.town.worker("solomon", "judge", tasks=2)
    case.answers("1")
    case.workers[1].report(case.offers[1], payload=payload)
    shown = []
    for offer in judge.mail():
        (part,) = json.loads(offer.payload)
        assert part["data"]["input"] == json.loads(case.task.payload)
        shown.append(part["data"]["candidates"])
    assert shown[0] == shown[1][::-1]
    assert sorted(shown[0], key=repr) == sorted([payload.decode(), json.loads(answer("1"))], key=repr)


def test_a_judge_who_goes_by_the_order_decides_nothing(court):
    case = court(2, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "abort"))
    judge = case.town.worker("flip", "judge")
    case.answers("1", "2")
    for _ in range(2):
        judge.report(judge.offer(), payload=answer('{"choice":0}'))
    assert case.conflict.outcome == "reject_all"


@pytest.mark.parametrize("is_away", [False, True])
def test_those_asked_outside_of_a_group_have_a_context_that_nobody_has_written_to(make_town, is_away):
    """Spec TASK-8: else a stranger would show a judge decisions of its own."""
    ladders = {"instruction": ({"strategy": "judge", "skill": "judge"}, {"strategy": "abort"})}
    town = make_town(ladders=ladders, linger_contexts_ms=0)
    boss = town.join("boss")
    task = boss.delegate(context_id="plans")
    taken = f"main-c{town.ledger.lsn + 3 + is_away}"
    boss.say(ContextWrite(taken, "k", [ContextOp("decisions/it", 0, b'"me"')]))
    if is_away:
        town.pass_time(1_000)
    subjects = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    boss.say(ConflictRaise("instruction", subjects, f"task:{task}"))
    first, second = town.said(Delegated)[-2:]
    assert first.task == taken.replace("c", "")
    assert (first.context_id[: len(taken) + 1], first.context_id == second.context_id) == (f"{taken}-", False)


def test_who_was_shown_the_answers_to_compare_them_is_not_asked_for_one_more(court):
    """Spec COMPARE-4."""
    case = court(2, redundancy=ladder("retry", "abort") | {"comparator": "agent:same"})
    shown = case.town.worker("x", "same", "echo")
    case.answers("1", "2")
    shown.report(shown.offer(), payload=answer("false"))
    assert [case.town.task(asked).state for asked in case.conflict.stage.asked] == ["queued"]


def test_who_was_shown_the_answers_at_an_earlier_rung_is_not_asked_for_one_more(court):
    case = court(2, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "retry", "abort"))
    shown = case.town.worker("x", "judge", "echo")
    case.answers("1", "2")
    for _ in range(2):
        shown.report(shown.offer(), payload=answer('{"choice":0}'))
    assert [case.town.task(asked).state for asked in case.conflict.stage.asked] == ["queued"]


def test_those_asked_outside_of_a_group_have_the_times_of_their_skill(make_town):
    """Spec TIME-1."""
    times = Durations(lease_ms=90_000)
    ladders = {"instruction": ({"strategy": "judge", "skill": "judge"}, {"strategy": "abort"})}
    town = make_town(ladders=ladders, skills={"judge": times})
    boss = town.join("boss")
    task = boss.delegate()
    subjects = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    boss.say(ConflictRaise("instruction", subjects, f"task:{task}"))
    assert [town.task(record.task).durations == times for record in town.said(Delegated)] == [False, True, True]


def test_a_party_is_no_judge(court):
    case = court(2, redundancy=ladder({"strategy": "judge", "skill": "echo"}, "abort"))
    case.answers("1", "2")
    assert [str(case.town.task(asked).state) for asked in case.conflict.stage.asked] == ["queued", "queued"]


def test_one_who_works_on_a_member_is_no_judge_either(court):
    rungs = ladder("majority", {"strategy": "judge", "skill": "echo"}, "abort")
    case = court(3, tasks=2, policy={"ballot_ms": 1_000}, redundancy=rungs)
    case.answers("1", "2")
    for _ in range(4):
        case.town.pass_time(500)
        case.workers[2].beat(case.offers[2])
    assert case.conflict.stage.strategy == "judge"
    assert {case.town.task(asked).state for asked in case.conflict.stage.asked} == {"queued"}


def test_a_judge_who_does_not_come_is_not_waited_for(court):
    case = court(2, policy={"judge_ms": 1_000}, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "abort"))
    case.answers("1", "2")
    case.town.pass_time(1_000)
    assert case.conflict.outcome == "reject_all"


def test_a_judge_whose_rung_is_over_is_dismissed_and_decides_nothing(court):
    rungs = ladder({"strategy": "judge", "skill": "judge"}, "human", "abort")
    case = court(2, policy={"judge_ms": 1_000}, redundancy=rungs)
    judge = case.town.worker("late", "judge", tasks=2)
    case.answers("1", "2")
    first, second = judge.mail()
    judge.beat(first)
    judge.beat(second)
    case.town.pass_time(1_000)
    assert {mail.kind for mail in judge.mail()} == {"task.revoke"}
    for offer in (first, second):
        judge.report(offer, payload=answer('{"choice":0}'))
    assert (case.task.state, case.conflict.stage.strategy) == ("disputed", "human")


def test_a_verifier_passes_exactly_one(court):
    case = court(2, redundancy=ladder({"strategy": "verify", "skill": "check"}, "abort"))
    checker = case.town.worker("checker", "check", tasks=2)
    case.answers("1", "2")
    for offer in checker.mail():
        checker.report(offer, payload=answer("true" if b'"data":2' in offer.payload else "false"))
    assert case.task.results[-1].payload == answer("2")


def test_one_more_answer_may_settle_it(court):
    case = court(3, n=2, redundancy=ladder("majority", "retry", "abort"))
    case.answers("1", "2")
    (third,) = case.others
    third.report(third.offer(), payload=answer("2"))
    assert (case.conflict.by, case.task.results[-1].payload) == ("retry", answer("2"))


def test_a_merger_makes_one_of_them(court):
    case = court(2, redundancy=ladder({"strategy": "merge", "skill": "merge"}, "abort"))
    merger = case.town.worker("merger", "merge")
    case.answers("1", "2")
    merger.report(merger.offer(), payload=answer("12"))
    assert (case.conflict.outcome, case.task.results[-1].payload) == ("merge", answer("12"))
